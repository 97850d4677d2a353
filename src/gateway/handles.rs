//! The rotation of handles: every payment method that is not revoked gets another handle, and both
//! name it until the overlap ends. The record, which is bound to its own id, is not touched.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cardless_contract::Timestamp;
use serde::Serialize;

use super::audit::{AuditAction, AuditObject};
use super::rotate::{RotationInfo, info};
use super::{Gateway, Inner, stored};
use crate::account::HandleKind;
use crate::error::{Code, Error};
use crate::store::{Change, MethodRow, RotationKind, RotationRow};

/// How long the old handles work if nothing is said.
pub const DEFAULT_OVERLAP: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long an overlap may be, of handles and of API keys.
pub const MAX_OVERLAP: Duration = Duration::from_secs(366 * 24 * 3600);

/// How many handles a step replaces at most: the store's writer must be free again soon.
pub const MAX_REISSUED_AT_ONCE: u32 = 250;

/// How often a step is decided again because a method was revoked meanwhile.
const MAX_RACES: u32 = 16;

/// A rotation of the handles that this process drives. Whoever drops it leaves it unfinished:
/// [`Gateway::rotate_handles`] goes on with it.
pub struct HandleRotation {
    gateway: Gateway,
    row: RotationRow,
    overlap: Duration,
}

/// Old handles that still work, as `rotate status` shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct OldHandles {
    /// How many.
    pub live: u64,
    /// When the last of them ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Gateway {
    /// Begins to give every payment method another handle, or goes on with what was begun. The one
    /// before it works for `overlap` from then on ([`DEFAULT_OVERLAP`] if nothing is said), and an
    /// event `payment_method.reissued` tells both. Nothing happens before
    /// [`HandleRotation::step`].
    ///
    /// # Errors
    ///
    /// [`Code::InvalidField`] for an overlap beyond [`MAX_OVERLAP`], or another one than that of the
    /// rotation to go on with; [`Code::InvalidState`] while another process drives a rotation;
    /// [`Code::StoreUnavailable`].
    pub async fn rotate_handles(&self, overlap: Option<Duration>) -> Result<HandleRotation, Error> {
        let inner = &self.inner;
        if let Some(overlap) = overlap {
            check_overlap(overlap)?;
        }
        if let Some(row) = inner.unfinished_rotation(RotationKind::Handles).await? {
            let begun_with = overlap_of(&row)?;
            if overlap.is_some_and(|overlap| overlap != begun_with) {
                return Err(other_overlap(begun_with));
            }
            return Ok(HandleRotation::new(self, row, begun_with));
        }
        let overlap = overlap.unwrap_or(DEFAULT_OVERLAP);
        let total = inner.journal.store().count_methods().await;
        let total = total.map_err(stored)?;
        let now = inner.journal.now();
        let parameter = parameter(overlap, now, inner.linked_so_far(now).await?);
        let line = self
            .audit(AuditAction::RotateHandlesBegin, AuditObject::none())
            .detail("methods", total)
            .detail("overlap_seconds", overlap.as_secs());
        let row = inner
            .begin_rotation(RotationKind::Handles, parameter, total, vec![line.change()])
            .await?;
        Ok(HandleRotation::new(self, row, overlap))
    }

    /// The old handles that still work.
    ///
    /// # Errors
    ///
    /// [`Code::StoreUnavailable`].
    pub async fn old_handles(&self) -> Result<OldHandles, Error> {
        let now = self.inner.journal.now();
        let found = self.inner.journal.store().old_handles(now).await;
        let found = found.map_err(stored)?;
        Ok(OldHandles {
            live: found.live,
            until: found.until,
        })
    }
}

impl HandleRotation {
    fn new(gateway: &Gateway, row: RotationRow, overlap: Duration) -> Self {
        Self {
            gateway: gateway.clone(),
            row,
            overlap,
        }
    }

    /// How far it is.
    pub fn info(&self) -> RotationInfo {
        info(&self.row, self.gateway.inner.journal.now())
    }

    /// How long the handles that it replaces go on working.
    pub const fn overlap(&self) -> Duration {
        self.overlap
    }

    /// Whether every method has its new handle.
    pub const fn is_done(&self) -> bool {
        self.row.ended_at.is_some()
    }

    /// Replaces the next handles, at most `limit` and [`MAX_REISSUED_AT_ONCE`] of them, in one
    /// transaction with their events. Answers how many.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidState`] if another process has taken the rotation over;
    /// [`Code::StoreUnavailable`].
    pub async fn step(&mut self, limit: u32) -> Result<u32, Error> {
        if self.is_done() {
            return Ok(0);
        }
        let limit = limit.clamp(1, MAX_REISSUED_AT_ONCE);
        let inner = Arc::clone(&self.gateway.inner);
        for _ in 0..MAX_RACES {
            let store = inner.journal.store();
            let found = store
                .methods_linked_by(linked_by(&self.row), &self.row.place, limit)
                .await
                .map_err(stored)?;
            let reissued = u32::try_from(found.len()).unwrap_or(u32::MAX);
            let mut row = self.row.clone();
            row.done += u64::from(reissued);
            if let Some(last) = found.last() {
                row.place.clone_from(&last.id);
            }
            let mut batch = inner.reissue(&found, self.overlap)?;
            if reissued < limit {
                row.ended_at = Some(inner.journal.now());
                let line = self
                    .gateway
                    .audit(AuditAction::RotateHandlesEnd, AuditObject::none());
                batch.push(line.detail("methods", row.done).change());
            }
            if let Some(row) = inner.advance_rotation(row, batch).await? {
                self.row = row;
                return Ok(reissued);
            }
        }
        Err(Error::new(
            Code::InvalidState,
            "The methods change faster than their handles can be replaced. Go on later.",
        ))
    }
}

impl fmt::Debug for HandleRotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandleRotation")
            .field("id", &self.row.id)
            .field("done", &self.row.done)
            .field("total", &self.row.total)
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// By when everything was linked that is here now: later than `now` if a clock was ahead.
    pub(super) async fn linked_so_far(&self, now: Timestamp) -> Result<Timestamp, Error> {
        let latest = self.journal.store().latest_linked().await.map_err(stored)?;
        Ok(latest.map_or(now, |latest| latest.max(now)))
    }

    fn reissue(&self, methods: &[MethodRow], overlap: Duration) -> Result<Vec<Change>, Error> {
        let ends_at = self.journal.now().plus(overlap);
        let mut batch = Vec::with_capacity(2 * methods.len());
        for method in methods {
            let new = self.new_handle(HandleKind::PaymentMethod)?.to_string();
            let kind = "payment_method.reissued".to_owned();
            let replaces = Some(method.handle.clone());
            let event = self
                .journal
                .event_replacing(&method.account, kind, &new, replaces);
            batch.push(Change::ReissueHandle {
                method: method.id.clone(),
                old: method.handle.clone(),
                new,
                ends_at,
            });
            batch.push(event);
        }
        Ok(batch)
    }
}

/// Refuses an overlap that is longer than [`MAX_OVERLAP`].
pub(super) fn check_overlap(overlap: Duration) -> Result<(), Error> {
    if overlap <= MAX_OVERLAP {
        return Ok(());
    }
    Err(Error::field(
        Code::InvalidField,
        "overlap",
        "An overlap is 366 days at most.",
    ))
}

/// What is kept of a rotation beside how far it is: its overlap in seconds, and after an `s` the second
/// by which everything was linked that it is about, if that was still to come.
fn parameter(overlap: Duration, now: Timestamp, linked_by: Timestamp) -> String {
    let seconds = overlap.as_secs();
    if linked_by <= now {
        return seconds.to_string();
    }
    format!("{seconds}s{}", linked_by.seconds().saturating_add(1))
}

/// By when everything was linked that the rotation is about.
fn linked_by(row: &RotationRow) -> Timestamp {
    let later = row.parameter.split_once('s');
    let later = later.and_then(|(_, seconds)| seconds.parse().ok());
    later.map_or(row.started_at, Timestamp::from_seconds)
}

fn overlap_of(row: &RotationRow) -> Result<Duration, Error> {
    let seconds = row.parameter.split('s').next().unwrap_or_default();
    let seconds = seconds.parse().map_err(|error| {
        Error::new(Code::Internal, "A stored rotation can't be read.").with_source(error)
    });
    seconds.map(Duration::from_secs)
}

fn other_overlap(begun_with: Duration) -> Error {
    Error::field(
        Code::InvalidField,
        "overlap",
        format!(
            "The rotation to go on with was begun with an overlap of {} s. Finish it first, \
             without saying an overlap.",
            begun_with.as_secs()
        ),
    )
}
