//! One driver for a payment, for the caller's first call and for the resolver alike: reserve,
//! remember, commit; and where an outcome is unknown, look.
//!
//! What each step does with what comes back is the table of `journal::state`; what may be sent
//! again, and until when, is decided here.

use std::sync::Arc;
use std::time::Duration;

use cardless_contract::{
    Capabilities, CaptureMode, Clock, CommitRequest, Delivery, ErrorKind, Found, IdempotencyKey,
    Initiator, LookupRequest, Outcome, Payment as Seen, PaymentPhase, PaymentProvider,
    PaymentRequest, ProviderError, ProviderToken, RedirectUrl, Reference, Repeat, ReservationId,
    Timestamp, VoidRequest,
};

use super::clock::Steps;
use super::heard::Said;
use super::pay::{key_of, not_sent_code, object, reference_of, refused_code, reservation_of};
use super::seal::Seal;
use super::view::decline_words;
use super::{COMMIT_WITHIN, Inner, MAX_SKEW, is_older, is_within, quiet_at, send, stored};
use crate::account::AccountId;
use crate::error::{Causes, Code, Error};
use crate::journal::state::{self, Next, pause};
use crate::journal::{Written, release_row};
use crate::store::{
    CaptureText, Change, InitiatorText, MethodRow, PaymentRow, PaymentState, SetupRow, Step,
    StoreError, Subject,
};

/// How long an outcome may stay unknown, with questions unanswered, before a person must look.
pub(super) const PARK_UNKNOWN_AFTER: Duration = Duration::from_secs(24 * 3600);

/// How many questions must stay unanswered before that: a service that was down for long asks
/// first.
pub(super) const MIN_QUESTIONS: u32 = 8;

/// How long a provider may say that it is working, or leave a page open that moves money, before a
/// person must look.
pub(super) const PARK_PENDING_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);

/// How often a word that we do not know is asked about before a person must look.
pub(super) const MAX_UNMAPPED: u32 = 5;

/// Why nothing is taken from an account that was restricted meanwhile.
pub(super) const RESTRICTED: &str = "account_restricted";

/// How many steps one drive takes at most.
const MAX_STEPS: u32 = 12;

/// When an outcome that is unknown is asked about first.
const FIRST_QUESTION: Duration = Duration::from_secs(1);

/// Whether a drive goes on with the next step or leaves the rest for later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Continue,
    Stop,
}

/// One worker driving one payment, under its lease.
pub(super) struct Drive {
    inner: Arc<Inner>,
    provider: Arc<dyn PaymentProvider>,
    row: PaymentRow,
    /// The present step is already marked as sent, and was not sent before.
    fresh: bool,
    /// Somebody else drives the payment now.
    lease_gone: bool,
    /// The jumps of the clock that its times are reckoned with.
    steps: Steps,
}

impl Drive {
    /// Drives a leased payment on a task of its own, so that a caller who goes away does not cut a
    /// request short. `fresh` says that the first step is marked as sent but was not sent yet.
    pub(super) async fn spawn(
        inner: &Arc<Inner>,
        row: PaymentRow,
        fresh: bool,
    ) -> Result<PaymentRow, Error> {
        let provider = inner.provider(&row.provider)?;
        let drive = Self {
            inner: Arc::clone(inner),
            provider,
            row,
            fresh,
            lease_gone: false,
            steps: inner.clock.steps(),
        };
        let task = tokio::spawn(drive.run());
        task.await.map_err(|error| {
            Error::new(
                Code::Internal,
                "The payment's task ended early; its outcome is asked for.",
            )
            .with_source(error)
        })?
    }

    async fn run(mut self) -> Result<PaymentRow, Error> {
        if !self.fresh {
            self.read_anew().await?;
        }
        if !self.lost() {
            self.adopt_method().await?;
        }
        if self.lost() {
            return Ok(self.row);
        }
        for _ in 0..MAX_STEPS {
            // What is marked as sent now is not judged by its age.
            if !self.fresh && self.inner.has_stepped(self.steps).await? {
                self.read_anew().await?;
                if self.lost() {
                    break;
                }
            }
            let flow = match self.row.step {
                Step::Linking => self.linking().await?,
                Step::Reserving => self.reserve().await?,
                Step::Reserved => self.commit().await?,
                Step::Committing | Step::Waiting => self.look().await?,
                Step::Closing => self.close().await?,
                Step::Settled => self.follow().await?,
            };
            if flow == Flow::Stop || self.row.step == Step::Settled {
                break;
            }
        }
        Ok(self.row)
    }

    /// What was read of times before a jump of the clock is nothing to go by.
    async fn read_anew(&mut self) -> Result<(), Error> {
        match self.inner.reckoned(&self.row).await? {
            Some((row, steps)) => (self.row, self.steps) = (row, steps),
            None => self.lease_gone = true,
        }
        Ok(())
    }

    // Step: linking.

    /// A first payment learns its method from its setup: whoever has linked it may have died
    /// before it could say so here.
    async fn adopt_method(&mut self) -> Result<(), Error> {
        if self.row.method.is_some() {
            return Ok(());
        }
        let Some(method) = self.setup().await?.and_then(|setup| setup.method) else {
            return Ok(());
        };
        let handle = self.inner.handle_of(&method).await?;
        self.change(move |row, _| {
            row.method = Some(method.clone());
            row.handle = Some(handle.clone());
        })
        .await
        .map(drop)
    }

    /// Once the method is linked an ordinary charge begins, with the customer present.
    async fn linking(&mut self) -> Result<Flow, Error> {
        let Some(method) = self.row.method.clone() else {
            // The setup wakes the payment when it ends, or ends it.
            return self.save(|row, _| release_row(row, None)).await;
        };
        if self.inner.is_restricted(&self.row.account).await? {
            return self.failed(RESTRICTED).await;
        }
        self.fresh = true;
        let begun = self.try_write(move |row, now| {
            row.step = Step::Reserving;
            row.state = PaymentState::Unknown;
            row.accepted_at = now;
            row.first_sent_at = Some(now);
            row.last_sent_at = Some(now);
            let account = row.account.clone();
            let method = method.clone();
            vec![
                Change::RequireUnrestricted { account },
                Change::RequireActive { method },
            ]
        });
        match begun.await {
            Ok(()) => Ok(self.goes_on()),
            Err(StoreError::Conflict(Subject::Account)) => {
                self.fresh = false;
                self.failed(RESTRICTED).await
            }
            // It was revoked, or its provider has called it dead, since it was linked.
            Err(StoreError::Conflict(Subject::Method)) => {
                self.fresh = false;
                self.failed("payment_method_gone").await
            }
            Err(error) => Err(stored(error)),
        }
    }

    async fn setup(&self) -> Result<Option<SetupRow>, Error> {
        match &self.row.setup {
            None => Ok(None),
            Some(id) => self.inner.journal.store().setup(id).await.map_err(stored),
        }
    }

    // Step: reserve.

    async fn reserve(&mut self) -> Result<Flow, Error> {
        let fresh = std::mem::take(&mut self.fresh);
        if !fresh && self.row.state == PaymentState::Parked {
            return self.parked_without_id().await;
        }
        if !fresh {
            match self.may_reserve_again().await? {
                // Where a repeat would hold nothing yet, none is begun: without a commit of ours nothing
                // moves. What may be held already is found by the repeat, and released.
                Again::Send if !self.holds() && self.is_restricted().await? => {
                    return self.failed(RESTRICTED).await;
                }
                Again::Send => drop(self.mark_sent().await?),
                Again::Found(id) => return self.reserved(&id).await,
                Again::Wait(at) => return self.ask_again(PaymentState::Unknown, at).await,
                Again::Never => return self.give_up_reserve().await,
            }
            if self.lost() {
                return Ok(Flow::Stop);
            }
        }
        let token = match self.token().await {
            Ok(token) => token,
            Err(error) => return self.not_begun(error, fresh).await,
        };
        let request = self.request().await?;
        let key = self.key("r")?;
        let seal = Seal::new(&self.inner, self.provider.name(), &self.row);
        let provider = Arc::clone(&self.provider);
        let (clock, marked) = self.marked();
        let outcome = send(clock, marked, || {
            provider.reserve(&key, &token, &request, &seal)
        })
        .await;
        self.row = seal.into_row();
        match outcome {
            Ok(Outcome::Done(id) | Outcome::Pending(id)) => self.reserved(&id).await,
            Ok(Outcome::ActionRequired(id, url)) => {
                self.customer_must_act(Some(&id), &url, true).await
            }
            Ok(Outcome::Declined(_)) if !fresh && self.provider.capabilities().reserve_holds => {
                // This refusal says nothing of the first send, which may have left a hold.
                self.failed(state::HOLD_MAY_REMAIN).await
            }
            Ok(Outcome::Declined(decline)) => self.declined(&decline).await,
            Ok(Outcome::Review(id)) => {
                let id = id.as_str().to_owned();
                self.change(move |row, _| row.reservation = Some(id.clone()))
                    .await?;
                self.review().await
            }
            Ok(Outcome::Unmapped(word)) => self.unmapped(&word).await,
            Err(error) => self.reserve_failed(&error, fresh).await,
        }
    }

    /// What waits for a person, and has no id that could be asked for, is ended by that person, or
    /// found by its reference.
    async fn parked_without_id(&mut self) -> Result<Flow, Error> {
        if self.provider.capabilities().repeat_reserve == Repeat::AfterQuestion {
            match self.provider.find(&self.reference()?).await {
                Ok(Found::Yes(id)) => return self.reserved(&id).await,
                Ok(Found::No | Found::CannotTell) => {}
                Err(error) => self.heard(&error).await,
            }
        }
        self.save(|row, _| release_row(row, None)).await
    }

    /// Whether a reserve whose outcome is unknown may be sent again (`DESIGN`, rules 5, 6 and 8).
    async fn may_reserve_again(&self) -> Result<Again, Error> {
        let now = self.inner.journal.now();
        let capabilities = self.provider.capabilities();
        let first = self.row.first_sent_at.unwrap_or(self.row.created_at);
        let last = self.row.last_sent_at.unwrap_or(first);
        if self.too_late(now) {
            return Ok(Again::Never);
        }
        match capabilities.repeat_reserve {
            Repeat::KeyedForever => Ok(Again::Send),
            Repeat::Keyed(window) => {
                let fits = is_within(window, first, now, capabilities);
                Ok(if fits { Again::Send } else { Again::Never })
            }
            Repeat::AfterQuestion => {
                let earliest = quiet_at(last, capabilities);
                let certain = self.inner.clock.certain(now);
                match self.provider.find(&self.reference()?).await {
                    Ok(Found::Yes(id)) => Ok(Again::Found(id)),
                    Ok(Found::No) if certain >= earliest => Ok(Again::Send),
                    // "Not found" proves nothing before the longest delay is over.
                    Ok(Found::No) => Ok(Again::Wait(earliest)),
                    Ok(Found::CannotTell) => Ok(Again::Never),
                    Err(error) => {
                        tracing::warn!(payment = %self.row.id, %error, "a reservation could not be looked for");
                        self.heard(&error).await;
                        Ok(Again::Wait(now.plus(pause(self.row.attempts))))
                    }
                }
            }
        }
    }

    /// The provider's id is durable, and the commit is marked as sent, in one write.
    async fn reserved(&mut self, id: &ReservationId) -> Result<Flow, Error> {
        let id = id.as_str().to_owned();
        if let Some(code) = self.takes_no_more().await? {
            return self.close_failed(Some(id), code).await;
        }
        let reservation = id.clone();
        let marked = self.mark_taken(move |row, now| {
            row.reservation = Some(reservation.clone());
            row.attempts = 0;
            row.first_sent_at = Some(now);
        });
        match marked.await? {
            Some(Flow::Stop) => Ok(Flow::Stop),
            Some(Flow::Continue) => self.send_commit(true).await,
            None => self.close_restricted(Some(id)).await,
        }
    }

    async fn reserve_failed(&mut self, error: &ProviderError, fresh: bool) -> Result<Flow, Error> {
        tracing::warn!(payment = %self.row.id, %error, delivery = ?error.delivery(), "reserve");
        self.heard(error).await;
        let holds = self.provider.capabilities().reserve_holds;
        match (error.delivery(), error.kind()) {
            (Delivery::NotSent, ErrorKind::RepeatRefused) => self.park().await,
            (Delivery::NotSent, kind) if fresh => self.failed(not_sent_code(kind)).await,
            (Delivery::Refused, kind) if fresh => self.failed(refused_code(kind)).await,
            (Delivery::Refused, _) if holds => self.failed(state::HOLD_MAY_REMAIN).await,
            (Delivery::Refused, kind) => self.failed(refused_code(kind)).await,
            (Delivery::Unknown | Delivery::NotSent, _) => {
                self.ask_soon(PaymentState::Unknown).await
            }
        }
    }

    async fn give_up_reserve(&mut self) -> Result<Flow, Error> {
        let holds = self.provider.capabilities().reserve_holds;
        self.failed(if holds {
            state::HOLD_MAY_REMAIN
        } else {
            "gave_up"
        })
        .await
    }

    /// Nothing could be sent, for a reason of our own.
    async fn not_begun(&mut self, error: Error, fresh: bool) -> Result<Flow, Error> {
        tracing::error!(payment = %self.row.id, error = %Causes(&error), "not begun");
        if fresh {
            self.failed("not_begun").await
        } else {
            self.ask_soon(PaymentState::Unknown).await
        }
    }

    // Step: commit.

    async fn commit(&mut self) -> Result<Flow, Error> {
        if let Some(code) = self.takes_no_more().await? {
            return self.close_failed(None, code).await;
        }
        let fresh = self.row.first_sent_at.is_none();
        let marked = self.mark_taken(|row, now| {
            row.first_sent_at.get_or_insert(now);
        });
        match marked.await? {
            Some(Flow::Stop) => Ok(Flow::Stop),
            Some(Flow::Continue) => self.send_commit(fresh).await,
            None => self.close_restricted(None).await,
        }
    }

    /// Why no commit is sent any more: the payment is closed instead, which shows first what an
    /// earlier one did.
    async fn takes_no_more(&self) -> Result<Option<&'static str>, Error> {
        if self.too_late(self.inner.journal.now()) {
            return Ok(Some("gave_up"));
        }
        Ok(self.is_restricted().await?.then_some(RESTRICTED))
    }

    async fn is_restricted(&self) -> Result<bool, Error> {
        self.inner.is_restricted(&self.row.account).await
    }

    async fn close_restricted(&mut self, id: Option<String>) -> Result<Flow, Error> {
        self.close_failed(id, RESTRICTED).await
    }

    /// Closes the payment, with the provider's id if it was not known yet.
    async fn close_failed(
        &mut self,
        id: Option<String>,
        code: &'static str,
    ) -> Result<Flow, Error> {
        self.change(move |row, _| {
            if let Some(id) = &id {
                row.reservation = Some(id.clone());
            }
            state::close(row, PaymentState::Failed, Some(code));
        })
        .await
    }

    /// Marks the commit as sent, in a transaction that fails if the account was restricted by then:
    /// `None`, and nothing is changed.
    async fn mark_taken(
        &mut self,
        mut change: impl FnMut(&mut PaymentRow, Timestamp) + Send,
    ) -> Result<Option<Flow>, Error> {
        let marked = self.try_write(move |row, now| {
            change(row, now);
            row.step = Step::Committing;
            row.last_sent_at = row.last_sent_at.max(Some(now));
            vec![Change::RequireUnrestricted {
                account: row.account.clone(),
            }]
        });
        match marked.await {
            Ok(()) => Ok(Some(self.goes_on())),
            Err(StoreError::Conflict(Subject::Account)) => Ok(None),
            Err(error) => Err(stored(error)),
        }
    }

    async fn send_commit(&mut self, fresh: bool) -> Result<Flow, Error> {
        let token = match self.token().await {
            Ok(token) => token,
            Err(error) => {
                tracing::error!(payment = %self.row.id, error = %Causes(&error), "commit not sent");
                return if fresh {
                    self.commit_never_left().await
                } else {
                    self.ask_soon(PaymentState::Unknown).await
                };
            }
        };
        let request = CommitRequest {
            reservation: self.reservation()?,
            payment: self.request().await?,
        };
        let key = self.key(&format!("c{}", self.row.commit_round))?;
        let provider = Arc::clone(&self.provider);
        let (clock, marked) = self.marked();
        let outcome = send(clock, marked, || provider.commit(&key, &token, &request)).await;
        match outcome {
            Ok(Outcome::Done(seen)) => self.seen(seen).await,
            Ok(Outcome::Pending(seen)) => self.pending(&seen).await,
            Ok(Outcome::ActionRequired(_, url)) => self.customer_must_act(None, &url, fresh).await,
            Ok(Outcome::Declined(decline)) if fresh => self.declined(&decline).await,
            // What an earlier send did, only the object tells, once it can't be on its way.
            Ok(Outcome::Declined(decline)) => self.close_declined(&decline).await,
            Ok(Outcome::Review(_)) => self.review().await,
            Ok(Outcome::Unmapped(word)) => self.unmapped(&word).await,
            Err(error) => self.commit_failed(&error, fresh).await,
        }
    }

    async fn commit_failed(&mut self, error: &ProviderError, fresh: bool) -> Result<Flow, Error> {
        tracing::warn!(payment = %self.row.id, %error, delivery = ?error.delivery(), "commit");
        self.heard(error).await;
        match (error.delivery(), error.kind()) {
            (Delivery::NotSent, ErrorKind::RepeatRefused | ErrorKind::Unsupported) => {
                self.park().await
            }
            (Delivery::NotSent, _) if fresh => self.commit_never_left().await,
            (Delivery::NotSent, _) => self.ask_soon(PaymentState::Pending).await,
            (Delivery::Refused, kind) if fresh => self.commit_refused(refused_code(kind)).await,
            // What an earlier send did, only the object tells.
            (Delivery::Refused | Delivery::Unknown, _) => {
                self.ask_soon(PaymentState::Unknown).await
            }
        }
    }

    /// The commit is known not to have left: the reservation stands as it was.
    async fn commit_never_left(&mut self) -> Result<Flow, Error> {
        self.save(|row, now| {
            row.step = Step::Reserved;
            row.first_sent_at = None;
            let at = now.plus(pause(row.attempts));
            state::ask_again(row, PaymentState::Pending, at, now);
        })
        .await
    }

    async fn commit_refused(&mut self, code: &'static str) -> Result<Flow, Error> {
        if self.provider.capabilities().reserve_holds {
            return self
                .change(move |row, _| state::close(row, PaymentState::Failed, Some(code)))
                .await;
        }
        self.failed(code).await
    }

    // Step: look.

    async fn look(&mut self) -> Result<Flow, Error> {
        let request = self.lookup_request()?;
        match self.provider.lookup(&request).await {
            Ok(Outcome::Done(seen)) => self.seen(seen).await,
            Ok(Outcome::Pending(seen)) => self.pending(&seen).await,
            Ok(Outcome::ActionRequired(_, url)) => self.still_customer(&url).await,
            Ok(Outcome::Declined(decline)) => self.declined(&decline).await,
            Ok(Outcome::Review(_)) => self.review().await,
            Ok(Outcome::Unmapped(word)) => self.unmapped(&word).await,
            Err(error) => {
                tracing::warn!(payment = %self.row.id, %error, "look-up");
                self.heard(&error).await;
                self.unanswered().await
            }
        }
    }

    async fn seen(&mut self, seen: Seen) -> Result<Flow, Error> {
        let holds = self.provider.capabilities().reserve_holds;
        let now = self.inner.journal.now();
        let mut trial = self.row.clone();
        match state::conclude(&mut trial, &seen, holds, now) {
            Next::Settled => {
                let inner = Arc::clone(&self.inner);
                self.write(move |row, now| {
                    state::conclude(row, &seen, holds, now);
                    inner.payment_concluded(row)
                })
                .await?;
                Ok(Flow::Stop)
            }
            Next::NotCommitted => self.not_committed(seen.phase).await,
            Next::Release => self.release().await,
            Next::AskAgain if is_older(self.row.created_at, now, PARK_PENDING_AFTER) => {
                self.park().await
            }
            Next::AskAgain => self.ask_soon(PaymentState::Pending).await,
        }
    }

    /// The provider's object stands and nothing has moved.
    async fn not_committed(&mut self, phase: PaymentPhase) -> Result<Flow, Error> {
        if self.row.step == Step::Closing {
            return self.end_closed().await;
        }
        if self.waits_for_customer_page() {
            return self.wait_for_customer(phase).await;
        }
        if self.row.step == Step::Waiting {
            // The customer has approved: the round that this opens has its own time. Otherwise it
            // is the round before, which was sent.
            return self
                .change(|row, now| {
                    if row.first_sent_at.is_none() {
                        row.accepted_at = now;
                    }
                    row.step = Step::Reserved;
                    row.updated_at = now;
                })
                .await;
        }
        if let Some(code) = self.takes_no_more().await? {
            return self.close_failed(None, code).await;
        }
        // The provider's guard on the object makes a repeat harmless.
        self.change(|row, _| row.step = Step::Reserved).await
    }

    /// The customer's page itself will take the money: no commit of ours follows.
    fn waits_for_customer_page(&self) -> bool {
        self.row.step == Step::Waiting && self.page_moves_money()
    }

    fn holds(&self) -> bool {
        self.provider.capabilities().reserve_holds
    }

    fn page_moves_money(&self) -> bool {
        page_moves_money(&self.row, self.provider.capabilities())
    }

    fn too_late(&self, now: Timestamp) -> bool {
        is_older(self.row.accepted_at, now, COMMIT_WITHIN)
    }

    /// The customer has not finished. A page that moves money is not over because the customer's time
    /// is: only its provider ends it.
    async fn wait_for_customer(&mut self, phase: PaymentPhase) -> Result<Flow, Error> {
        let now = self.inner.journal.now();
        let until = self.customer_until(now);
        let only_shown = self.page_moves_money() && phase == PaymentPhase::Reserved;
        if now >= until && !only_shown {
            return self
                .change(|row, _| {
                    state::close(row, PaymentState::Failed, Some("customer_did_not_come"));
                })
                .await;
        }
        if self.page_is_open_for_too_long(now) {
            return self.park().await;
        }
        let state = self.row.state;
        let later = now.plus(pause(self.row.attempts.saturating_add(4)));
        let at = if now < until { until.min(later) } else { later };
        self.ask_again(state, at).await
    }

    fn page_is_open_for_too_long(&self, now: Timestamp) -> bool {
        self.page_moves_money() && is_older(self.row.accepted_at, now, PARK_PENDING_AFTER)
    }

    /// Until when the customer is expected. The time of one who was sent to a page by a clock that was
    /// ahead is over: nobody knows when that was.
    fn customer_until(&self, now: Timestamp) -> Timestamp {
        let capabilities = self.provider.capabilities();
        let accepted_at = self.row.accepted_at;
        if accepted_at.since(now) > MAX_SKEW {
            return now;
        }
        accepted_at
            .plus(capabilities.customer_window)
            .plus(capabilities.longest_delay)
    }

    async fn still_customer(&mut self, url: &RedirectUrl) -> Result<Flow, Error> {
        let now = self.inner.journal.now();
        if self.row.step == Step::Closing {
            return self.not_committed(PaymentPhase::Reserved).await;
        }
        if self.row.state == PaymentState::ActionRequired || now >= self.customer_until(now) {
            return self.wait_for_customer(PaymentPhase::Reserved).await;
        }
        self.customer_must_act(None, url, false).await
    }

    // Step: close.

    async fn close(&mut self) -> Result<Flow, Error> {
        let now = self.inner.journal.now();
        if self.row.reservation.is_none() {
            return self.end_closed().await;
        }
        // A commit may still be on its way: what is read before it can't be is no proof.
        let quiet = self
            .row
            .last_sent_at
            .map(|at| quiet_at(at, self.provider.capabilities()));
        let certain = self.inner.clock.certain(now);
        if let Some(at) = quiet.filter(|&at| at > certain) {
            // What is parked is looked at then, too: this look was not the one that it was woken for.
            return self
                .save(move |row, now| {
                    let present = row.state;
                    state::ask_again(row, present, at.max(now), now);
                })
                .await;
        }
        self.look().await
    }

    async fn release(&mut self) -> Result<Flow, Error> {
        let request = VoidRequest {
            reservation: self.reservation()?,
            authorization: object(self.row.authorization.as_deref())?,
            payment_reference: self.reference()?,
            authorized: self.row.amount,
        };
        let key = self.key("v")?;
        let outcome = self.provider.void(&key, &request).await;
        match outcome {
            Ok(Outcome::Done(_)) => self.end_closed().await,
            Ok(other) => {
                tracing::warn!(payment = %self.row.id, ?other, "the release is not confirmed");
                self.unanswered().await
            }
            Err(error) => {
                tracing::warn!(payment = %self.row.id, %error, "release");
                self.heard(&error).await;
                self.unanswered().await
            }
        }
    }

    /// Ends a closed payment that moved nothing, unless the customer's page can still move something.
    async fn end_closed(&mut self) -> Result<Flow, Error> {
        let now = self.inner.journal.now();
        if !self.page_moves_money() {
            return self.end_closed_now().await;
        }
        if self.page_is_open_for_too_long(now) {
            return self.park().await;
        }
        let at = now.plus(pause(self.row.attempts.saturating_add(4)));
        self.ask_again(PaymentState::Pending, at).await
    }

    async fn end_closed_now(&mut self) -> Result<Flow, Error> {
        self.settle_with(|row, now| {
            state::end_without_money(row, PaymentPhase::Voided, now);
        })
        .await
    }

    // Step: settled.

    /// Reads a settled payment: what happened elsewhere.
    async fn follow(&mut self) -> Result<Flow, Error> {
        if self.row.reservation.is_none() {
            return self.save(|row, _| release_row(row, None)).await;
        }
        let request = self.lookup_request()?;
        let seen = match self.provider.lookup(&request).await {
            Ok(Outcome::Done(seen) | Outcome::Pending(seen) | Outcome::Review(seen)) => seen,
            // It says nothing of money that moved; a hold is looked at until its end is known.
            Ok(Outcome::ActionRequired(..) | Outcome::Declined(_)) => {
                return self
                    .save(|row, now| release_row(row, state::look_at_hold(row, now)))
                    .await;
            }
            Ok(Outcome::Unmapped(word)) => {
                tracing::warn!(payment = %self.row.id, field = word.field, value = %word.value, "unmapped word");
                return self.follow_later().await;
            }
            Err(error) => {
                tracing::warn!(payment = %self.row.id, %error, "look-up of a settled payment");
                return self.follow_later().await;
            }
        };
        let inner = Arc::clone(&self.inner);
        let several = self.provider.capabilities().several_captures;
        self.write(move |row, now| {
            let changed = state::follow(row, &seen, several, now);
            row.attempts = 0;
            let lapses_at = state::look_at_hold(row, now);
            release_row(row, lapses_at);
            let contradicted = state::is_contradicted(row);
            let mut news = if changed && !contradicted {
                inner.payment_concluded(row)
            } else {
                Vec::new()
            };
            let short = state::tell_short(row, &seen);
            if short {
                tracing::error!(payment = %row.id, provider = %row.provider,
                    "money went back at the provider that the books do not hold: a person must look");
            }
            if changed && contradicted {
                tracing::error!(payment = %row.id, state = row.state.as_str(),
                    "money moved at the provider after the payment had ended without: a person must look");
            }
            if short || (changed && contradicted) {
                let kind = "payment.contradicted".to_owned();
                news.push(inner.journal.event(&row.account, kind, &row.id));
            }
            news
        })
        .await?;
        Ok(Flow::Stop)
    }

    /// Reads a settled payment again soon, a few times; a hold until its end is known.
    async fn follow_later(&mut self) -> Result<Flow, Error> {
        self.save(|row, now| {
            row.attempts = row.attempts.saturating_add(1);
            let again = (row.attempts < 10).then(|| now.plus(pause(row.attempts)));
            release_row(row, again.or_else(|| state::look_at_hold(row, now)));
        })
        .await
    }

    // Conclusions that several steps share.

    async fn pending(&mut self, seen: &Seen) -> Result<Flow, Error> {
        let authorization = seen.authorization.clone();
        let now = self.inner.journal.now();
        self.heard("pending").await;
        if is_older(self.row.created_at, now, PARK_PENDING_AFTER) {
            return self.park().await;
        }
        self.save(move |row, now| {
            if let Some(id) = &authorization {
                row.authorization = Some(id.as_str().to_owned());
            }
            if row.step != Step::Closing {
                row.step = Step::Waiting;
            }
            let at = now.plus(pause(row.attempts));
            state::ask_again(row, PaymentState::Pending, at, now);
        })
        .await
    }

    /// With `alone`, no other send of this can be on its way.
    async fn customer_must_act(
        &mut self,
        id: Option<&ReservationId>,
        url: &RedirectUrl,
        alone: bool,
    ) -> Result<Flow, Error> {
        if self.row.initiator == InitiatorText::Merchant {
            // Nobody is there to act: the same as a decline, with the API's word for it.
            let decline = cardless_contract::Decline {
                category: cardless_contract::DeclineCategory::AuthenticationRequired,
                retry: cardless_contract::RetryAdvice::NewMethod,
                provider_code: cardless_contract::ProviderCode::new("customer_action_required"),
                method_gone: false,
            };
            // What an earlier send does yet, only the object tells, once it can't be on its way.
            return if alone {
                self.declined(&decline).await
            } else {
                self.close_declined(&decline).await
            };
        }
        if self.is_restricted().await? {
            // Nobody is led to a page of a charge that is not to be taken.
            let id = id.map(|id| id.as_str().to_owned());
            return self.close_restricted(id).await;
        }
        let mut turns = 0;
        loop {
            let saved = self.send_to_page(id, url).await;
            if !self.inner.came_too_late(&saved, &mut turns).await? {
                return saved;
            }
        }
    }

    /// Remembers the page where the customer must act.
    async fn send_to_page(
        &mut self,
        id: Option<&ReservationId>,
        url: &RedirectUrl,
    ) -> Result<Flow, Error> {
        let (account, provider) = (&self.row.account, &self.row.provider);
        let sealed = self
            .inner
            .seal_redirect(account, provider, &self.row.id, url);
        let sealed = sealed.await?;
        let id = id.map(|id| id.as_str().to_owned());
        let (by_commit, reservation) = (id.is_none(), id.clone());
        let saved = self.try_write(move |row, now| {
            if let Some(id) = &id {
                row.reservation = Some(id.clone());
            }
            if by_commit && row.step == Step::Committing {
                row.commit_round += 1;
            }
            if matches!(row.step, Step::Reserving | Step::Committing) {
                // The round that the customer's approval opens is not sent yet.
                if row.first_sent_at == row.last_sent_at {
                    // It was sent once and answered: nothing of it is on its way any more.
                    row.last_sent_at = None;
                }
                row.first_sent_at = None;
            }
            // The page was made by now, however often that was tried: the customer's time ends no
            // earlier than the page's.
            row.accepted_at = now;
            row.step = Step::Waiting;
            row.redirect = Some(sealed.clone());
            row.attempts = 0;
            let at = now.plus(Duration::from_secs(30));
            state::ask_again(row, PaymentState::ActionRequired, at, now);
            vec![Change::RequireUnrestricted {
                account: row.account.clone(),
            }]
        });
        match saved.await {
            Ok(()) => Ok(Flow::Stop),
            Err(StoreError::Conflict(Subject::Account)) => self.close_restricted(reservation).await,
            Err(error) => Err(stored(error)),
        }
    }

    async fn declined(&mut self, decline: &cardless_contract::Decline) -> Result<Flow, Error> {
        if decline.method_gone {
            self.inner.suspend_method(self.row.method.as_deref()).await;
        }
        if self.row.step == Step::Closing {
            // The provider has concluded: its page takes nothing any more.
            return self.end_closed_now().await;
        }
        if self.provider.capabilities().reserve_holds && self.row.step == Step::Committing {
            // The provider refused to take what it holds: the hold goes first.
            return self.close_declined(decline).await;
        }
        let decline = decline.clone();
        self.settle_with(move |row, now| state::decline(row, &decline, now))
            .await
    }

    async fn close_declined(
        &mut self,
        decline: &cardless_contract::Decline,
    ) -> Result<Flow, Error> {
        if decline.method_gone {
            self.inner.suspend_method(self.row.method.as_deref()).await;
        }
        let words = decline_words(decline);
        self.change(move |row, _| {
            row.decline = Some(words.clone());
            state::close(row, PaymentState::Declined, None);
        })
        .await
    }

    async fn unmapped(&mut self, word: &cardless_contract::Unmapped) -> Result<Flow, Error> {
        tracing::warn!(payment = %self.row.id, field = word.field, value = %word.value, "unmapped word");
        self.heard("unmapped").await;
        // Words that were understood until now do not count.
        if self.row.state == PaymentState::Unknown && self.row.attempts >= MAX_UNMAPPED {
            return self.park().await;
        }
        self.ask_soon(PaymentState::Unknown).await
    }

    /// A question without an answer: ask again, and in the end leave it to a person.
    async fn unanswered(&mut self) -> Result<Flow, Error> {
        let now = self.inner.journal.now();
        let open_page = self.row.state == PaymentState::ActionRequired && self.page_moves_money();
        let patience = patience(self.row.state == PaymentState::Pending || open_page);
        let long = is_older(self.row.updated_at, now, patience);
        if long && self.row.attempts >= MIN_QUESTIONS {
            return self.park().await;
        }
        let state = if self.row.is_open() {
            self.row.state
        } else {
            PaymentState::Unknown
        };
        self.ask_soon(state).await
    }

    async fn failed(&mut self, code: &'static str) -> Result<Flow, Error> {
        self.settle_with(move |row, now| state::fail(row, code, now))
            .await
    }

    /// The provider itself leaves it to a person.
    async fn review(&mut self) -> Result<Flow, Error> {
        self.heard("review").await;
        self.park().await
    }

    async fn heard(&self, said: impl Into<Said>) {
        let (account, id) = (&self.row.account, &self.row.id);
        self.inner.heard(account, id, said).await;
    }

    async fn park(&mut self) -> Result<Flow, Error> {
        let inner = Arc::clone(&self.inner);
        let last_answer = inner.last_heard(&self.row.id).await;
        tracing::error!(payment = %self.row.id, provider = %self.row.provider, last_answer, "parked: a person must look");
        self.write(move |row, now| {
            let news = row.state != PaymentState::Parked;
            state::park(row, now);
            if news {
                inner.payment_concluded(row)
            } else {
                Vec::new()
            }
        })
        .await?;
        Ok(Flow::Stop)
    }

    async fn ask_soon(&mut self, state: PaymentState) -> Result<Flow, Error> {
        let pause = pause(self.row.attempts).max(FIRST_QUESTION);
        let at = self.inner.journal.now().plus(pause);
        self.ask_again(state, at).await
    }

    async fn ask_again(&mut self, state: PaymentState, at: Timestamp) -> Result<Flow, Error> {
        self.save(move |row, now| {
            // A parked payment stays with the person until an answer moves it.
            let parked = row.state == PaymentState::Parked;
            let state = if parked { PaymentState::Parked } else { state };
            state::ask_again(row, state, at, now);
            if parked {
                release_row(row, None);
            }
        })
        .await
    }

    // Writing.

    const fn lost(&self) -> bool {
        self.lease_gone
    }

    const fn goes_on(&self) -> Flow {
        if self.lost() {
            Flow::Stop
        } else {
            Flow::Continue
        }
    }

    /// The clock, and when the present step was marked as sent.
    fn marked(&self) -> (Arc<dyn Clock>, Timestamp) {
        let clock = self.inner.journal.clock();
        let marked = self.row.last_sent_at.unwrap_or_else(|| clock.now());
        (clock, marked)
    }

    async fn mark_sent(&mut self) -> Result<Flow, Error> {
        self.change(|row, now| {
            row.first_sent_at.get_or_insert(now);
            // A jump of the clock may have been reckoned with since `now`: no send is older for it.
            row.last_sent_at = row.last_sent_at.max(Some(now));
        })
        .await
    }

    async fn settle_with(
        &mut self,
        mut settle: impl FnMut(&mut PaymentRow, Timestamp) + Send,
    ) -> Result<Flow, Error> {
        let inner = Arc::clone(&self.inner);
        self.write(move |row, now| {
            settle(row, now);
            inner.payment_concluded(row)
        })
        .await?;
        Ok(Flow::Stop)
    }

    /// Writes and leaves the rest for later.
    async fn save(
        &mut self,
        mut change: impl FnMut(&mut PaymentRow, Timestamp) + Send,
    ) -> Result<Flow, Error> {
        self.write(move |row, now| {
            change(row, now);
            Vec::new()
        })
        .await?;
        Ok(Flow::Stop)
    }

    /// Writes and goes on, unless somebody else drives the payment now.
    async fn change(
        &mut self,
        mut change: impl FnMut(&mut PaymentRow, Timestamp) + Send,
    ) -> Result<Flow, Error> {
        self.write(move |row, now| {
            change(row, now);
            Vec::new()
        })
        .await?;
        Ok(self.goes_on())
    }

    async fn write(
        &mut self,
        change: impl FnMut(&mut PaymentRow, Timestamp) -> Vec<Change> + Send,
    ) -> Result<(), Error> {
        self.try_write(change).await.map_err(stored)
    }

    async fn try_write(
        &mut self,
        mut change: impl FnMut(&mut PaymentRow, Timestamp) -> Vec<Change> + Send,
    ) -> Result<(), StoreError> {
        if self.lease_gone {
            // The row is the other worker's, and so is the lease in it.
            return Ok(());
        }
        let now = self.inner.journal.now();
        let written = self
            .inner
            .journal
            .change(&self.row, |row| change(row, now))
            .await;
        match written? {
            Written::Yes(row) => self.row = row,
            Written::Lost(row) => {
                tracing::warn!(payment = %row.id, "another worker drives this payment now");
                self.row = row;
                self.lease_gone = true;
            }
        }
        Ok(())
    }

    // What requests are made of.

    async fn token(&self) -> Result<ProviderToken, Error> {
        let id = self.row.method.as_deref().unwrap_or_default();
        let method = self
            .inner
            .journal
            .store()
            .method(id)
            .await
            .map_err(stored)?;
        // Ours alone: a row that was pointed at another account's method charges nobody.
        let ours = |method: &MethodRow| {
            method.account == self.row.account && method.provider == self.row.provider
        };
        let method = method
            .filter(ours)
            .ok_or_else(|| Error::not_found("payment method"))?;
        self.inner.open_token(&method).await
    }

    async fn request(&self) -> Result<PaymentRequest, Error> {
        let provider = self.provider.name();
        let account =
            AccountId::new(self.inner.account_id(&self.row.account).await?).map_err(|error| {
                Error::new(Code::Internal, "A stored account id can't be read.").with_source(error)
            })?;
        let customer_is_there = self.row.initiator == InitiatorText::Customer;
        Ok(PaymentRequest {
            reference: self.reference()?,
            customer: account.customer_reference(&self.inner.vault, provider),
            amount: self.row.amount,
            capture: match self.row.capture {
                CaptureText::Automatic => CaptureMode::Automatic,
                CaptureText::Manual => CaptureMode::Manual,
            },
            initiator: match self.row.initiator {
                InitiatorText::Merchant => Initiator::Merchant,
                InitiatorText::Customer => Initiator::Customer,
            },
            return_url: customer_is_there.then(|| self.inner.return_url(&self.row.id)),
            webhook_url: self.inner.webhook_url(&self.row.provider),
            description: self.row.description.clone(),
        })
    }

    fn lookup_request(&self) -> Result<LookupRequest, Error> {
        Ok(LookupRequest {
            reservation: self.reservation()?,
            reference: self.reference()?,
            amount: self.row.amount,
        })
    }

    fn reference(&self) -> Result<Reference, Error> {
        reference_of(&self.row.id)
    }

    fn reservation(&self) -> Result<ReservationId, Error> {
        reservation_of(&self.row)
    }

    fn key(&self, step: &str) -> Result<IdempotencyKey, Error> {
        key_of(&self.row.id, step)
    }
}

/// How long there may be no answer before a person must look. What is known to be under way, at the
/// provider or at a page that moves money, may take its time.
pub(super) const fn patience(is_under_way: bool) -> Duration {
    if is_under_way {
        PARK_PENDING_AFTER
    } else {
        PARK_UNKNOWN_AFTER
    }
}

/// Whether the customer was sent to a page that itself takes or holds the amount.
pub(super) fn page_moves_money(row: &PaymentRow, capabilities: &Capabilities) -> bool {
    capabilities.page_moves_money
        && row.initiator == InitiatorText::Customer
        && row.redirect.is_some()
}

/// Whether a reserve may be sent again.
enum Again {
    Send,
    Found(ReservationId),
    Wait(Timestamp),
    Never,
}
