//! The outbox as callers see it. An event is written in the transaction that makes it true, and
//! names its account by pseudonym only; the account's id is put in when the event is read.

use std::time::Duration;

use super::rights::ERASED;
use super::{Gateway, Inner, check, stored};
use crate::account::{Handle, HandleKind};
use crate::error::{Code, Error};
use crate::journal::is_event_id;
use crate::message::{Event, EventData, Page};
use crate::store::EventRow;

/// How many events a page has at most.
pub const MAX_EVENTS: u32 = 100;

/// How long an event is kept, counted from its writing. One that was given up stays until a person
/// has dealt with it, and one that is still to be delivered until then.
pub const KEEP_EVENTS: Duration = Duration::from_hours(400 * 24);

impl Gateway {
    /// Events, oldest first: `GET /v1/events`. At most `limit` of them, 1 to [`MAX_EVENTS`].
    ///
    /// `after` is the id of an event; what was written after it comes, and without it everything
    /// that is kept ([`KEEP_EVENTS`]). Whoever keeps the id of the last event that it has dealt with, and
    /// gives that as `after` the next time, misses none and sees none twice. `next` is there if
    /// more are waiting already.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidField`] for an `after` that is no event's id, [`Code::EventGone`] for one of
    /// which no event is kept; [`Code::StoreUnavailable`].
    pub async fn events(&self, after: Option<&str>, limit: u32) -> Result<Page<Event>, Error> {
        let store = self.inner.journal.store();
        let after = match after {
            None => 0,
            Some(id) => self.inner.event_number(id).await?,
        };
        let limit = limit.clamp(1, MAX_EVENTS);
        let mut rows = store
            .events(after, limit.saturating_add(1))
            .await
            .map_err(stored)?;
        let page = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = rows.len() > page;
        rows.truncate(page);
        let mut data = Vec::with_capacity(rows.len());
        for (_, row) in rows {
            data.push(self.inner.event_view(row).await?);
        }
        let next = data.last().filter(|_| more).map(|event| event.id.clone());
        Ok(Page { data, next })
    }
}

impl Inner {
    async fn event_number(&self, id: &str) -> Result<i64, Error> {
        check::no_card_number("after", id)?;
        if !is_event_id(id) {
            return Err(Error::field(
                Code::InvalidField,
                "after",
                "after is the id of an event, the last that was dealt with.",
            ));
        }
        let found = self.journal.store().event(id).await.map_err(stored)?;
        found.map(|(number, _)| number).ok_or_else(|| {
            Error::field(
                Code::EventGone,
                "after",
                "No event with this id is kept; events are kept for 400 days. Leave `after` out to \
                 read all that are kept, and read the objects that matter for how they stand now.",
            )
        })
    }

    /// An event with its account's id, and for a capture, void or refund its payment. The same
    /// event reads the same each time: nothing in it is of the present.
    pub(super) async fn event_view(&self, row: EventRow) -> Result<Event, Error> {
        let account = match self.account_id(&row.account).await {
            Ok(account) => Some(account).filter(|account| account != ERASED),
            Err(error) if error.code() == Code::NotFound => None,
            Err(error) => return Err(error),
        };
        let status = row.kind.rsplit('.').next().unwrap_or_default();
        let mut data = EventData {
            account,
            status: status.to_owned(),
            replaces: row.replaces,
            ..EventData::default()
        };
        let handle = Handle::parse(&row.object).ok_or_else(|| {
            Error::new(
                Code::Internal,
                "The object of a stored event can't be read.",
            )
        })?;
        let object = Some(row.object);
        match handle.kind() {
            HandleKind::Payment => data.payment = object,
            HandleKind::Setup => data.setup = object,
            HandleKind::PaymentMethod => data.payment_method = object,
            HandleKind::Capture => data.capture = object,
            HandleKind::Void => data.void = object,
            HandleKind::Refund => data.refund = object,
        }
        if data.payment.is_none() && Handle::parse_as(HandleKind::Payment, &row.topic).is_some() {
            data.payment = Some(row.topic);
        }
        Ok(Event {
            id: row.id,
            kind: row.kind,
            timestamp: row.at,
            data,
        })
    }
}
