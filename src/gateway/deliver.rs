//! Events on their way to the billing service, by Standard Webhooks ([`crate::webhook`]).
//!
//! They leave one at a time, in order for each object, beside the resolver and never in its way: a
//! receiver that hangs holds up events, and no payment.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cardless_contract::{Secrets, Timestamp};
use cardless_transport::HttpClient;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::audit::{AuditAction, AuditDraft, AuditObject};
use super::{Gateway, GatewayBuilder, Inner, stored};
use crate::error::{Causes, Error};
use crate::journal::outbox::{Fate, Turn};
use crate::message::Event;
use crate::store::{EventRow, StoreError};
use crate::webhook::{Endpoint, EndpointError};

/// How long an attempt may take, from the connection to the answer's last byte.
const ATTEMPT_DEADLINE: Duration = Duration::from_secs(15);

/// How often it is looked for new events.
const INTERVAL: Duration = Duration::from_secs(1);

/// How many dead events are listed at once.
const MAX_DEAD_EVENTS: u32 = 100;

/// Where events go, and the way there.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    endpoint: Endpoint,
    client: Arc<dyn HttpClient>,
}

/// An event that was given up: no attempt to deliver it was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadEvent {
    /// The event.
    pub event: Event,
    /// How often it was sent.
    pub attempts: u32,
    /// When it was given up.
    pub dead_at: Timestamp,
}

/// The task that delivers while [`Gateway::run`] runs. Dropping it ends the task where it stands.
#[derive(Debug)]
pub(super) struct Courier {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl GatewayBuilder {
    /// Delivers events to `url` (https, or http on loopback) through `client`, signed with each of
    /// `secrets` (`whsec_…`). [`Gateway::run`] does it, from the oldest event that is kept on. An answer of 2xx acknowledges; anything else, a redirect too, is tried again.
    ///
    /// # Errors
    ///
    /// [`EndpointError`].
    pub fn deliver_events(
        mut self,
        url: &str,
        secrets: &Secrets,
        client: Arc<dyn HttpClient>,
    ) -> Result<Self, EndpointError> {
        self.delivery = Some(Delivery::new(url, secrets, client)?);
        Ok(self)
    }
}

impl Delivery {
    pub(super) fn new(
        url: &str,
        secrets: &Secrets,
        client: Arc<dyn HttpClient>,
    ) -> Result<Self, EndpointError> {
        let endpoint = Endpoint::new(url, secrets)?;
        Ok(Self { endpoint, client })
    }
}

impl Gateway {
    /// Events that were given up, the latest first, at most 100. They stand in
    /// [`Gateway::events`] too, like every other.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::StoreUnavailable`].
    pub async fn dead_events(&self) -> Result<Vec<DeadEvent>, Error> {
        let store = self.inner.journal.store();
        let rows = store.dead_events(MAX_DEAD_EVENTS).await.map_err(stored)?;
        let mut dead = Vec::with_capacity(rows.len());
        for (row, event) in rows {
            dead.push(DeadEvent {
                event: self.inner.event_view(event).await?,
                attempts: row.attempts,
                dead_at: row.dead_at,
            });
        }
        Ok(dead)
    }

    /// Sends an event that was given up again, from its first attempt on, when events are next
    /// delivered.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::NotFound`] if no dead event has this id; [`crate::error::Code::StoreUnavailable`].
    pub async fn retry_event(&self, id: &str) -> Result<(), Error> {
        let line = || self.audit(AuditAction::EventRetry, AuditObject::event(id));
        match self.send_again(id, line()).await {
            Ok(()) => Ok(()),
            Err(error) => Err(line().refused(error).await),
        }
    }

    async fn send_again(&self, id: &str, line: AuditDraft<'_>) -> Result<(), Error> {
        let (sequence, event) = self.inner.kept_event(id).await?;
        let told = line.detail("type", &event.kind).change();
        let journal = &self.inner.journal;
        dead_or_not(journal.send_again(sequence, &event, told).await)
    }

    /// Takes an event off the list of those that were given up: a person has dealt with it. It
    /// still stands in [`Gateway::events`].
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::NotFound`] if no dead event has this id; [`crate::error::Code::StoreUnavailable`].
    pub async fn dismiss_event(&self, id: &str) -> Result<(), Error> {
        let line = || self.audit(AuditAction::EventDismiss, AuditObject::event(id));
        match self.take_off_the_list(id, line()).await {
            Ok(()) => Ok(()),
            Err(error) => Err(line().refused(error).await),
        }
    }

    async fn take_off_the_list(&self, id: &str, line: AuditDraft<'_>) -> Result<(), Error> {
        let (sequence, event) = self.inner.kept_event(id).await?;
        let told = line.detail("type", &event.kind).change();
        dead_or_not(self.inner.journal.dismiss(sequence, told).await)
    }
}

fn dead_or_not(found: Result<bool, StoreError>) -> Result<(), Error> {
    if found.map_err(stored)? {
        return Ok(());
    }
    Err(Error::not_found(DEAD_EVENT))
}

/// What a person asks for who names an event.
const DEAD_EVENT: &str = "dead event (`cardless event list --dead` shows them)";

impl Courier {
    /// Starts to deliver, as long as there is anywhere to deliver to.
    pub(super) fn start(inner: &Arc<Inner>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(deliver_always(Arc::clone(inner), stopped));
        Self { stop, tasks }
    }

    /// Lets the attempt that runs come to its end, and stops.
    pub(super) async fn finish(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Delivers until it is stopped; a panic is logged, and it goes on.
async fn deliver_always(inner: Arc<Inner>, mut stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        let mut worker = JoinSet::new();
        worker.spawn(deliver_until(Arc::clone(&inner), stopped.clone()));
        if let Some(Err(error)) = worker.join_next().await {
            tracing::error!(%error, "the delivery of events broke off and begins again");
            wait(&mut stopped).await;
        }
    }
}

async fn deliver_until(inner: Arc<Inner>, mut stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        match inner.deliver_next().await {
            Ok(true) => {}
            Ok(false) => wait(&mut stopped).await,
            Err(error) => {
                tracing::error!(error = %Causes(&error), "events can't be delivered");
                wait(&mut stopped).await;
            }
        }
    }
}

/// A pause that ends early at the stop.
async fn wait(stopped: &mut watch::Receiver<bool>) {
    // Passing the pause is the ordinary end, and a sender that is gone is a stop as well.
    drop(tokio::time::timeout(INTERVAL, stopped.wait_for(|stopped| *stopped)).await);
}

impl Inner {
    /// Sends the next event, once. False if there is none to send now.
    async fn deliver_next(&self) -> Result<bool, StoreError> {
        let parts = self.live.parts();
        let Some(delivery) = &parts.delivery else {
            return Ok(false);
        };
        let Some(turn) = self.journal.take_turn().await? else {
            return Ok(false);
        };
        match self.attempt(delivery, &turn).await {
            Ok(()) => self.journal.acknowledged(&turn).await,
            Err(why) => self.not_acknowledged(&turn, &why).await,
        }
    }

    /// One attempt; why it failed, in words for the log.
    async fn attempt(&self, delivery: &Delivery, turn: &Turn) -> Result<(), String> {
        let event = self.event_view(turn.event.clone()).await;
        let event = event.map_err(|error| Causes(&error).to_string())?;
        let body = serde_json::to_vec(&event).map_err(|error| error.to_string())?;
        let request = delivery
            .endpoint
            .request(&event.id, self.journal.now(), Bytes::from(body))
            .ok_or("the request can't be built")?;
        match tokio::time::timeout(ATTEMPT_DEADLINE, delivery.client.send(request)).await {
            Ok(Ok(answer)) if answer.status().is_success() => Ok(()),
            Ok(Ok(answer)) => Err(format!("the answer was {}", answer.status().as_u16())),
            Ok(Err(error)) => Err(Causes(&error).to_string()),
            Err(_) => Err("there was no answer in time".to_owned()),
        }
    }

    /// How many events wait, and how many were given up, as Prometheus text.
    pub(super) async fn event_metrics(&self) -> Result<String, Error> {
        let counts = self.journal.store().count_undelivered().await;
        let (waiting, dead) = counts.map_err(stored)?;
        Ok(format!(
            "# HELP cardless_events_waiting Events that wait to be delivered.\n\
             # TYPE cardless_events_waiting gauge\n\
             cardless_events_waiting {waiting}\n\
             # HELP cardless_events_dead Events whose delivery was given up.\n\
             # TYPE cardless_events_dead gauge\n\
             cardless_events_dead {dead}\n"
        ))
    }

    async fn kept_event(&self, id: &str) -> Result<(i64, EventRow), Error> {
        let found = self.journal.store().event(id).await.map_err(stored)?;
        found.ok_or_else(|| Error::not_found(DEAD_EVENT))
    }

    /// True if another event's turn comes at once.
    async fn not_acknowledged(&self, turn: &Turn, why: &str) -> Result<bool, StoreError> {
        let fate = self.journal.not_acknowledged(turn).await?;
        let (event, attempt) = (turn.event.id.as_str(), turn.attempt());
        match fate {
            Fate::Again(at) => {
                tracing::warn!(event, attempt, why, again_at = %at, "an event was not delivered");
            }
            Fate::Dead => {
                tracing::error!(
                    event,
                    attempt,
                    why,
                    "an event is dead: it was not delivered"
                );
            }
            Fate::Lost => {}
        }
        Ok(fate != Fate::Lost)
    }
}
