//! Rotations: what keys and handles have in common. One goes on where it was if it is interrupted
//! anywhere, and two are never driven at once.
//!
//! A rotation is a row. Whoever drives it renews its lease with each batch, in the batch's own
//! transaction; the row's version is the fence, so that of two drivers one can write nothing. Who
//! finds a lease that runs waits for a sign of life: another batch, or the lease's end.

use std::time::Duration;

use cardless_contract::Timestamp;
use serde::Serialize;

use super::{Gateway, Inner, stored};
use crate::error::{Code, Error};
use crate::store::{Change, RotationKind, RotationRow, StoreError, Subject};

/// How long a rotation counts as driven without a sign of life. A batch takes much less.
const LEASE: Duration = Duration::from_secs(5);

/// How often it is looked for a sign of life.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How many rotations are listed at most.
const MAX_ROTATIONS: u32 = 20;

/// How many random bytes a rotation's id is made from.
const ID_BYTES: usize = 10;

/// A rotation, as `rotate status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RotationInfo {
    /// `rot_…`.
    pub id: String,
    /// `keys` or `handles`.
    pub kind: &'static str,
    /// How many are done.
    pub done: u64,
    /// How many there were to do when it began.
    pub total: u64,
    /// When it began.
    pub started_at: Timestamp,
    /// When it last got on.
    pub updated_at: Timestamp,
    /// When all of it was done. Without this it is unfinished: the same verb goes on with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Whether a process drives it now.
    pub running: bool,
    /// Until when it counts as driven without another sign of life. A process that died leaves this
    /// behind, and whoever goes on waits for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_until: Option<Timestamp>,
}

impl Gateway {
    /// The rotations: those that are unfinished, then the latest.
    ///
    /// # Errors
    ///
    /// [`Code::StoreUnavailable`].
    pub async fn rotations(&self) -> Result<Vec<RotationInfo>, Error> {
        let now = self.inner.journal.now();
        let rows = self.inner.journal.store().rotations(MAX_ROTATIONS).await;
        let rows = rows.map_err(stored)?;
        Ok(rows.iter().map(|row| info(row, now)).collect())
    }
}

impl Inner {
    /// The unfinished rotation of a kind, leased; `None` if there is none, and one can begin.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidState`] if another process drives a rotation, of whatever kind.
    pub(super) async fn unfinished_rotation(
        &self,
        kind: RotationKind,
    ) -> Result<Option<RotationRow>, Error> {
        let mut found = None;
        for row in self.open_rotations().await? {
            let row = self.unless_driven(row).await?;
            found = row.filter(|row| row.kind == kind).or(found);
        }
        match found {
            None => Ok(None),
            Some(row) => {
                let leased = self.advance_rotation(row.clone(), Vec::new()).await?;
                leased.ok_or_else(|| driven(&row)).map(Some)
            }
        }
    }

    /// Begins a rotation, in one transaction with what is to be true from its beginning.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidState`] if one of its kind is open: another process was faster.
    pub(super) async fn begin_rotation(
        &self,
        kind: RotationKind,
        parameter: String,
        total: u64,
        mut batch: Vec<Change>,
    ) -> Result<RotationRow, Error> {
        let mut bytes = [0; ID_BYTES];
        self.entropy.fill(&mut bytes).map_err(|error| {
            Error::new(Code::Internal, "The source of randomness failed.").with_source(error)
        })?;
        let now = self.journal.now();
        let row = RotationRow {
            id: format!("rot_{}", crate::letters::letters(&bytes)),
            kind,
            parameter,
            place: String::new(),
            done: 0,
            total,
            lease_until: now.plus(LEASE),
            started_at: now,
            updated_at: now,
            ended_at: None,
            version: 0,
        };
        batch.insert(0, Change::InsertRotation(row.clone()));
        match self.journal.write(batch).await {
            Ok(()) => Ok(row),
            Err(StoreError::Conflict(Subject::Rotation)) => Err(driven(&row)),
            Err(error) => Err(stored(error)),
        }
    }

    /// Writes how far a rotation is, in one transaction with what was done, and renews its lease;
    /// with `ended_at` it is over. Answers the row as it stands then; `None` if something in the
    /// batch has changed meanwhile, and it must be decided again.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidState`] if another process has taken it over: nothing of the batch is kept.
    pub(super) async fn advance_rotation(
        &self,
        mut row: RotationRow,
        mut batch: Vec<Change>,
    ) -> Result<Option<RotationRow>, Error> {
        let now = self.journal.now();
        row.updated_at = now;
        row.lease_until = match row.ended_at {
            Some(_) => Timestamp::from_millis(0),
            None => now.plus(LEASE),
        };
        batch.insert(0, Change::UpdateRotation(row.clone()));
        match self.journal.write(batch).await {
            Ok(()) => {
                row.version += 1;
                Ok(Some(row))
            }
            Err(StoreError::Conflict(Subject::Rotation)) => Err(driven(&row)),
            Err(StoreError::Conflict(_)) => Ok(None),
            Err(error) => Err(stored(error)),
        }
    }

    async fn open_rotations(&self) -> Result<Vec<RotationRow>, Error> {
        let rows = self.journal.store().rotations(MAX_ROTATIONS).await;
        let mut rows = rows.map_err(stored)?;
        rows.retain(|row| row.ended_at.is_none());
        Ok(rows)
    }

    /// The row, once its lease is over or nothing was heard of it for as long as a lease lasts;
    /// `None` if it ended meanwhile.
    async fn unless_driven(&self, row: RotationRow) -> Result<Option<RotationRow>, Error> {
        let mut silent = Duration::ZERO;
        while row.lease_until > self.journal.now() && silent <= LEASE {
            tokio::time::sleep(LOOK_EVERY).await;
            silent += LOOK_EVERY;
            let present = self.open_rotations().await?;
            match present.into_iter().find(|present| present.id == row.id) {
                None => return Ok(None),
                Some(present) if present.version != row.version => return Err(driven(&row)),
                Some(_) => {}
            }
        }
        Ok(Some(row))
    }
}

/// How a rotation stands at a time.
pub(super) fn info(row: &RotationRow, now: Timestamp) -> RotationInfo {
    let running = row.ended_at.is_none() && row.lease_until > now;
    RotationInfo {
        id: row.id.clone(),
        kind: row.kind.as_str(),
        done: row.done,
        total: row.total,
        started_at: row.started_at,
        updated_at: row.updated_at,
        ended_at: row.ended_at,
        running,
        lease_until: running.then_some(row.lease_until),
    }
}

fn driven(row: &RotationRow) -> Error {
    Error::new(
        Code::InvalidState,
        format!(
            "Another process drives a rotation of the {} now; `cardless rotate status` shows how \
             far it is. Begin when it has ended.",
            row.kind.as_str()
        ),
    )
}
