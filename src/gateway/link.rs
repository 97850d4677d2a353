//! Link: begin and complete a setup; the provider's token goes into the vault.

use std::sync::Arc;

use cardless_contract::{
    CaptureMode, Delivery, ErrorKind, Outcome, PaymentProvider, ProviderError, ProviderToken,
    SetupCompletion, SetupPayment, SetupProgress, SetupReference, SetupRequest, SetupStarted,
    Timestamp,
};
use cardless_transport::leaving_by;
use url::Url;

use super::drive::{Drive, PARK_UNKNOWN_AFTER, RESTRICTED};
use super::keys::is_conflict;
use super::pay::{capture_text, in_progress, key_of, outcome_unknown, reference_of};
use super::{Gateway, Inner, RequestKey, check, send, stored, view};
use crate::account::{AccountId, Handle, HandleKind};
use crate::error::{Code, Error};
use crate::journal::state::{self, pause};
use crate::journal::{Leased as _, Written, lease_row, release_row};
use crate::message::{Answer, Capture, LinkRequest, Setup, SetupStatus};
use crate::store::{
    AccountRow, CaptureText, Change, InitiatorText, KeyRow, MethodRow, MethodState, PaymentRow,
    PaymentState, RecordRow, SetupRow, SetupState, Step, StoreError, Subject,
};

/// How often a setup's change is made again because its first payment has changed meanwhile.
const MAX_RACES: u32 = 16;

/// What a provider's way back for a customer who says no carries in its query.
const CANCELLED: &str = "cancelled=1";

/// Where a browser goes on after the provider has sent it back to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnTo {
    /// The caller's `return_url` with what became of it.
    pub location: String,
}

impl Gateway {
    /// Begins to link a payment method: `POST /v1/setups`.
    ///
    /// # Errors
    ///
    /// [`Error`] if it is refused before anything is stored, or the provider could not be asked
    /// ([`Code::ProviderUnavailable`], [`Code::ProviderRefused`]): then nothing is kept, and the
    /// same key can be used again.
    pub async fn link(
        &self,
        key: &RequestKey,
        request: &LinkRequest,
    ) -> Result<Answer<Setup>, Error> {
        let account = check::account("account", &request.account)?;
        check_texts(request)?;
        let provider = self.inner.known_provider(&request.provider)?;
        let digest = self.inner.digest("link", "", request)?;
        if let Some(row) = self.inner.seen_key(key, &digest).await? {
            return self.inner.replay_setup(&row, &request.account).await;
        }
        let (setup, payment) = self.inner.new_setup(&account, request, provider.as_ref())?;
        if self.inner.is_restricted(&setup.account).await? {
            return Err(Inner::restricted());
        }
        let mut batch = vec![
            Change::InsertKey(self.inner.key_row(key, digest.clone(), &setup.id)),
            Change::RequireUnrestricted {
                account: setup.account.clone(),
            },
            Change::InsertSetup(setup.clone()),
        ];
        batch.extend(payment.map(Change::InsertPayment));
        let written = self.inner.begin_for(&account, provider.as_ref(), batch);
        match written.await? {
            Ok(()) => {}
            Err(StoreError::Conflict(Subject::Key)) => {
                let row = self
                    .inner
                    .seen_key(key, &digest)
                    .await?
                    .ok_or_else(in_progress)?;
                return self.inner.replay_setup(&row, &request.account).await;
            }
            Err(StoreError::Conflict(Subject::OpenReference)) => return Err(outcome_unknown()),
            Err(StoreError::Conflict(Subject::Account)) => return Err(Inner::restricted()),
            Err(error) => return Err(stored(error)),
        }
        let row = on_a_task(self.inner.clone().begin_setup(setup, true)).await?;
        let body = self.inner.setup_view(&row, request.account.clone()).await?;
        Ok(Answer {
            open: body.status == SetupStatus::Unknown,
            body,
        })
    }

    /// Asks the provider how far a setup is, and takes the token if the customer has agreed.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`], [`Code::StoreUnavailable`].
    pub async fn complete_link(&self, setup: &str) -> Result<Setup, Error> {
        let row = self.inner.setup_row(setup).await?;
        let row = self.inner.complete(row).await?;
        let account = self.inner.account_id(&row.account).await?;
        self.inner.setup_view(&row, account).await
    }

    /// A setup by id, as it stands: `GET /v1/setups/{id}`.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`], [`Code::StoreUnavailable`].
    pub async fn setup(&self, id: &str) -> Result<Setup, Error> {
        let row = self.inner.setup_row(id).await?;
        let account = self.inner.account_id(&row.account).await?;
        self.inner.setup_view(&row, account).await
    }

    /// The customer comes back: `GET /return/{…}`. It proves nothing; the provider is asked, and
    /// the browser goes on to the caller's `return_url` with what is known then, or to the
    /// provider's next page. `address` is what follows `/return/`, with the query if there is one.
    ///
    /// A query of `cancelled=1` (PayPal's way back for a customer who says no, whom its API shows
    /// as undecided) is believed so far that the setup or payment is closed. At worst that makes
    /// nothing happen. Where the provider's page itself moves money it is not believed: the page can
    /// still be paid, and the provider tells when it can't.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`] if we did not make the address.
    pub async fn returned(&self, address: &str) -> Result<ReturnTo, Error> {
        let gone = || Error::not_found("return address");
        let (state, query) = address.split_once('?').unwrap_or((address, ""));
        let cancelled = query.split('&').any(|part| part == CANCELLED);
        let object = self.inner.returned_object(state).ok_or_else(gone)?;
        match Handle::parse(object).ok_or_else(gone)?.kind() {
            HandleKind::Setup => self.setup_returned(object, cancelled).await,
            HandleKind::Payment => self.payment_returned(object, cancelled).await,
            HandleKind::PaymentMethod
            | HandleKind::Capture
            | HandleKind::Void
            | HandleKind::Refund => Err(gone()),
        }
    }

    async fn setup_returned(&self, id: &str, cancelled: bool) -> Result<ReturnTo, Error> {
        let mut row = self.inner.setup_row(id).await?;
        let open = matches!(
            row.state,
            SetupState::Beginning | SetupState::AwaitingCustomer
        );
        if self.inner.asks_for_browser(id, open) {
            row.attempts = before_this_look(row.attempts);
            self.inner.complete(row).await?;
        }
        let mut setup = self.setup(id).await?;
        let row = self.inner.setup_row(id).await?;
        let believed = cancelled && !self.inner.may_be_paid_after_a_no(&row.provider)?;
        if believed && row.state == SetupState::AwaitingCustomer {
            if let Some(leased) = self.inner.lease(&row).await.map_err(stored)? {
                let decline = Some(cancelled_decline());
                self.inner
                    .end_setup(leased, SetupState::Declined, decline)
                    .await?;
            }
            setup = self.setup(id).await?;
        }
        if let Some(page) = self.inner.next_page(setup.payment.as_deref()).await? {
            return Ok(ReturnTo { location: page });
        }
        let status = word(&setup.status)?;
        return_to(&row.return_url, &[("setup", id), ("status", &status)])
    }

    async fn payment_returned(&self, id: &str, cancelled: bool) -> Result<ReturnTo, Error> {
        let mut row = self.inner.payment_row(id).await?;
        if self.inner.asks_for_browser(id, row.step != Step::Settled) {
            row.attempts = before_this_look(row.attempts);
            row = self.inner.look_now(row).await?;
        }
        let believed = cancelled && !self.inner.may_be_paid_after_a_no(&row.provider)?;
        if believed && row.state == PaymentState::ActionRequired {
            row = self.inner.close_cancelled(row).await?;
        }
        if let Some(setup) = &row.setup {
            // The second page of a visit that began with a setup: the caller hears of the setup.
            let found = self.inner.setup_row(setup).await?;
            let setup_status = word(&self.setup(setup).await?.status)?;
            let what = [("setup", setup.as_str()), ("status", setup_status.as_str())];
            return return_to(&found.return_url, &what);
        }
        let url = row
            .return_url
            .clone()
            .ok_or_else(|| Error::not_found("return address"))?;
        return_to(&url, &[("payment", id), ("status", row.state.as_str())])
    }
}

/// How the payment that is taken at a setup's own page bears on the setup's end.
enum AtItsPage {
    /// There is none, or it has moved nothing and never will.
    Nothing,
    /// It can still be paid.
    Open,
    /// A person must look at it.
    Parked,
    /// It was paid, or the amount is held.
    Paid,
}

impl Inner {
    /// Whether a browser that came back makes us ask: about what is open, and now and then only. What
    /// is settled is looked at by the resolver and by webhooks.
    fn asks_for_browser(&self, id: &str, open: bool) -> bool {
        open && self.returns.may_look(id, self.journal.now())
    }

    /// Asks how far a setup is, unless somebody else does.
    async fn complete(self: &Arc<Self>, row: SetupRow) -> Result<SetupRow, Error> {
        match self.lease_in_a_moment(row).await? {
            Ok(leased) => on_a_task(self.clone().drive_setup(leased)).await,
            Err(row) => Ok(row),
        }
    }

    /// Whether a page of this provider can be paid although its customer has said no there.
    fn may_be_paid_after_a_no(&self, provider: &str) -> Result<bool, Error> {
        Ok(self.provider(provider)?.capabilities().page_moves_money)
    }

    fn known_provider(&self, name: &str) -> Result<Arc<dyn PaymentProvider>, Error> {
        let parts = self.live.parts();
        parts.providers.get(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = parts.providers.keys().map(String::as_str).collect();
            Error::field(
                Code::InvalidField,
                "provider",
                format!("provider is one of: {}.", known.join(", ")),
            )
        })
    }

    pub(super) async fn setup_row(&self, id: &str) -> Result<SetupRow, Error> {
        let row = match Handle::parse_as(HandleKind::Setup, id) {
            Some(_) => self.journal.store().setup(id).await.map_err(stored)?,
            None => None,
        };
        row.ok_or_else(|| Error::not_found("setup"))
    }

    /// Begins something at a provider, together with the account that it belongs to.
    async fn begin_for(
        &self,
        account: &AccountId,
        provider: &dyn PaymentProvider,
        batch: Vec<Change>,
    ) -> Result<Result<(), StoreError>, Error> {
        let mut turns = 0;
        loop {
            let mut whole = batch.clone();
            whole.insert(0, Change::EnsureAccount(self.account_row(account).await?));
            let written = match self.begin(provider, whole).await {
                Err(error @ StoreError::Conflict(Subject::Generation)) => Err(stored(error)),
                other => Ok(other),
            };
            if !self.came_too_late(&written, &mut turns).await? {
                return written;
            }
        }
    }

    pub(super) async fn account_row(&self, account: &AccountId) -> Result<AccountRow, Error> {
        let pseudonym = self.pseudonym(account);
        let context = view::account_context(&pseudonym);
        let sealed = self.seal(&context, account.as_str().as_bytes()).await?;
        Ok(AccountRow {
            account: pseudonym,
            sealed_id: sealed.bytes,
            generation: sealed.generation,
            restricted: false,
            created_at: self.journal.now(),
        })
    }

    fn new_setup(
        &self,
        account: &AccountId,
        request: &LinkRequest,
        provider: &dyn PaymentProvider,
    ) -> Result<(SetupRow, Option<PaymentRow>), Error> {
        let now = self.journal.now();
        let pseudonym = self.pseudonym(account);
        let id = self.new_handle(HandleKind::Setup)?.to_string();
        let payment = match &request.amount {
            None => None,
            Some(amount) => {
                let amount = check::amount(amount, provider.capabilities())?;
                let mut row = self.new_payment(&pseudonym, &request.provider, amount)?;
                row.reference = request.reference.clone().unwrap_or_default();
                row.capture = capture_text(request.capture.unwrap_or(Capture::Automatic));
                row.initiator = InitiatorText::Customer;
                row.state = PaymentState::ActionRequired;
                row.step = Step::Linking;
                row.setup = Some(id.clone());
                row.return_url = Some(request.return_url.clone());
                Some(row)
            }
        };
        let mut setup = SetupRow {
            id,
            account: pseudonym,
            provider: request.provider.clone(),
            state: SetupState::Beginning,
            return_url: request.return_url.clone(),
            language: request.language.clone(),
            reference: None,
            redirect: None,
            payment: payment.as_ref().map(|payment| payment.id.clone()),
            method: None,
            decline: None,
            expires_at: now.plus(provider.capabilities().customer_window),
            next_at: None,
            attempts: 0,
            lease_until: Timestamp::from_millis(0),
            created_at: now,
            version: 0,
        };
        lease_row(&mut setup, now);
        Ok((setup, payment))
    }

    async fn replay_setup(&self, key: &KeyRow, account: &str) -> Result<Answer<Setup>, Error> {
        let row = self
            .journal
            .store()
            .setup(&key.object)
            .await
            .map_err(stored)?;
        let row = row.ok_or_else(in_progress)?;
        if row.state == SetupState::Beginning && row.lease_until() > self.journal.now() {
            return Err(in_progress());
        }
        let body = self.setup_view(&row, account.to_owned()).await?;
        Ok(Answer {
            open: body.status == SetupStatus::Unknown,
            body,
        })
    }

    /// Closes a payment whose customer said no, and drives it to its end.
    async fn close_cancelled(self: &Arc<Self>, row: PaymentRow) -> Result<PaymentRow, Error> {
        let Some(leased) = self.lease(&row).await.map_err(stored)? else {
            return Ok(row);
        };
        let written = self
            .journal
            .change(&leased, |row| {
                row.decline = Some(cancelled_decline());
                state::close(row, PaymentState::Declined, None);
                Vec::new()
            })
            .await
            .map_err(stored)?;
        match written {
            Written::Yes(row) => Drive::spawn(self, row, false).await,
            Written::Lost(row) => Ok(row),
        }
    }

    /// The page where the customer must confirm the first payment, now that the method is linked:
    /// the same visit goes on there.
    async fn next_page(&self, payment: Option<&str>) -> Result<Option<String>, Error> {
        let Some(id) = payment else { return Ok(None) };
        let row = self.payment_row(id).await?;
        match &row.redirect {
            Some(sealed) if row.method.is_some() && row.state == PaymentState::ActionRequired => {
                let opened = self.open_redirect(&row.account, &row.provider, &row.id, sealed);
                opened.await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Makes the provider's page. A repeat makes at most another page that nobody is sent to, so
    /// it is free.
    async fn begin_setup(self: Arc<Self>, row: SetupRow, first: bool) -> Result<SetupRow, Error> {
        let provider = self.provider(&row.provider)?;
        let request = self.setup_request(&row, provider.as_ref()).await?;
        let key = key_of(&row.id, "s")?;
        let (clock, now) = (self.journal.clock(), self.journal.now());
        match send(clock, now, || provider.begin_setup(&key, &request)).await {
            Ok(
                Outcome::Done(started)
                | Outcome::Pending(started)
                | Outcome::ActionRequired(started, _)
                | Outcome::Review(started),
            ) => {
                self.setup_started(row, &started, request.payment.is_some())
                    .await
            }
            Ok(Outcome::Declined(decline)) => {
                let decline = view::decline_words(&decline);
                self.end_setup(row, SetupState::Declined, Some(decline))
                    .await
            }
            Ok(Outcome::Unmapped(word)) => {
                tracing::warn!(setup = %row.id, field = word.field, value = %word.value, "unmapped word");
                self.heard(&row.account, &row.id, "unmapped").await;
                self.setup_later(row).await
            }
            Err(error) => self.begin_failed(row, error, first).await,
        }
    }

    async fn begin_failed(
        self: Arc<Self>,
        row: SetupRow,
        error: ProviderError,
        first: bool,
    ) -> Result<SetupRow, Error> {
        tracing::warn!(setup = %row.id, %error, delivery = ?error.delivery(), "begin a setup");
        self.heard(&row.account, &row.id, &error).await;
        let code = match error.delivery() {
            Delivery::Unknown => return self.setup_later(row).await,
            Delivery::NotSent if error.kind() == ErrorKind::Unreachable => {
                Code::ProviderUnavailable
            }
            Delivery::NotSent | Delivery::Refused => Code::ProviderRefused,
        };
        if !first {
            return self.setup_later(row).await;
        }
        // Taken back only by whoever still has the lease: a process that stood still for long finds
        // that another has begun the link, and that the customer may have paid.
        let payment = row.payment.clone();
        let taken_back = self.journal.change(&row, |row| {
            let mut batch = vec![Change::DeleteSetup(row.id.clone())];
            batch.extend(payment.clone().map(Change::DeletePayment));
            batch
        });
        if let Written::Lost(row) = taken_back.await.map_err(stored)? {
            return Ok(row);
        }
        let message = if code == Code::ProviderUnavailable {
            "The provider could not be reached. Nothing was stored; try again.".to_owned()
        } else {
            format!("The provider {}. Nothing was stored.", error.kind())
        };
        Err(Error::new(code, message).with_source(error))
    }

    async fn setup_started(
        self: Arc<Self>,
        row: SetupRow,
        started: &SetupStarted,
        takes_payment: bool,
    ) -> Result<SetupRow, Error> {
        if self.is_restricted(&row.account).await? {
            return self.end_restricted(row).await;
        }
        let mut turns = 0;
        loop {
            let written = self.show_page(&row, started, takes_payment).await;
            let restricted = |error| is_conflict(error, Subject::Account);
            if written.as_ref().is_err_and(restricted) {
                return self.end_restricted(row).await;
            }
            if !self.came_too_late(&written, &mut turns).await? {
                return written;
            }
        }
    }

    /// Remembers the page that the customer is sent to.
    async fn show_page(
        &self,
        row: &SetupRow,
        started: &SetupStarted,
        takes_payment: bool,
    ) -> Result<SetupRow, Error> {
        let seal =
            |object| self.seal_redirect(&row.account, &row.provider, object, &started.redirect);
        let redirect = seal(&row.id).await?;
        let payment_redirect = match (&row.payment, takes_payment) {
            (Some(id), true) => Some(seal(id).await?),
            _ => None,
        };
        let now = self.journal.now();
        self.change_with_payment(row, |row, payment| {
            row.state = SetupState::AwaitingCustomer;
            row.reference = Some(started.setup.as_str().to_owned());
            row.redirect = Some(redirect.clone());
            row.expires_at = started.expires_at;
            row.attempts = 0;
            release_row(row, Some(now.plus(pause(5))));
            let payment = payment.filter(|_| takes_payment).map(|mut payment| {
                payment.step = Step::Waiting;
                payment.reservation = Some(started.setup.as_str().to_owned());
                payment.redirect.clone_from(&payment_redirect);
                // The page was made by now, however long that took: the customer's time ends no
                // earlier than the page's.
                payment.accepted_at = now;
                payment.next_at = Some(now.plus(pause(5)));
                Change::UpdatePayment(payment)
            });
            let unrestricted = Change::RequireUnrestricted {
                account: row.account.clone(),
            };
            payment.into_iter().chain([unrestricted]).collect()
        })
        .await
    }

    /// Asks again later; in the end it has expired, unless a payment at its page lives on.
    async fn setup_later(&self, row: SetupRow) -> Result<SetupRow, Error> {
        let now = self.journal.now();
        let over = now >= row.expires_at.plus(PARK_UNKNOWN_AFTER);
        let asks = match self.at_its_page(&row).await? {
            AtItsPage::Nothing if over => {
                return self.end_setup(row, SetupState::Expired, None).await;
            }
            AtItsPage::Paid if over => {
                return self.end_setup(row, SetupState::PaidNotLinked, None).await;
            }
            AtItsPage::Nothing | AtItsPage::Paid | AtItsPage::Open => true,
            // The payment's end wakes it.
            AtItsPage::Parked => false,
        };
        self.change_setup(&row, |row| {
            row.attempts = row.attempts.saturating_add(1);
            release_row(row, asks.then(|| now.plus(pause(row.attempts))));
            Vec::new()
        })
        .await
    }

    /// The customer's time is over, and the provider still waits. A setup whose page takes a payment
    /// ends with that payment and not before.
    async fn nobody_came(&self, row: SetupRow) -> Result<SetupRow, Error> {
        match self.at_its_page(&row).await? {
            AtItsPage::Nothing => self.end_setup(row, SetupState::Expired, None).await,
            AtItsPage::Open | AtItsPage::Parked | AtItsPage::Paid => self.setup_later(row).await,
        }
    }

    async fn at_its_page(&self, row: &SetupRow) -> Result<AtItsPage, Error> {
        let provider = self.provider(&row.provider)?;
        let shown = row.state == SetupState::AwaitingCustomer;
        let Some(id) = row
            .payment
            .as_ref()
            .filter(|_| shown && provider.capabilities().setup_takes_payment)
        else {
            return Ok(AtItsPage::Nothing);
        };
        Ok(match self.payment_row(id).await?.state {
            PaymentState::ActionRequired | PaymentState::Pending | PaymentState::Unknown => {
                AtItsPage::Open
            }
            PaymentState::Parked => AtItsPage::Parked,
            PaymentState::Authorized | PaymentState::Captured => AtItsPage::Paid,
            PaymentState::Declined | PaymentState::Failed | PaymentState::Voided => {
                AtItsPage::Nothing
            }
        })
    }

    /// Moves a leased setup on: begins it again, or asks how far it is.
    pub(super) async fn drive_setup(self: Arc<Self>, row: SetupRow) -> Result<SetupRow, Error> {
        let now = self.journal.now();
        match row.state {
            SetupState::Beginning if now >= row.expires_at => {
                self.end_setup(row, SetupState::Expired, None).await
            }
            // Nobody is led to a page that was not made before the restriction.
            SetupState::Beginning if self.is_restricted(&row.account).await? => {
                self.end_restricted(row).await
            }
            SetupState::Beginning => Box::pin(self.begin_setup(row, false)).await,
            SetupState::AwaitingCustomer => self.ask_setup(row).await,
            SetupState::Completed
            | SetupState::Declined
            | SetupState::Expired
            | SetupState::PaidNotLinked => {
                self.change_setup(&row, |row| {
                    release_row(row, None);
                    Vec::new()
                })
                .await
            }
        }
    }

    async fn ask_setup(self: Arc<Self>, row: SetupRow) -> Result<SetupRow, Error> {
        let provider = self.provider(&row.provider)?;
        let request = self.setup_completion(&row, provider.as_ref()).await?;
        let key = key_of(&row.id, "t")?;
        // It asks, and then fetches the token. Once the lease is over another may have done that.
        let (clock, by) = (self.journal.clock(), row.lease_until());
        match leaving_by(clock, by, provider.complete_setup(&key, &request)).await {
            Ok(SetupProgress::AwaitingCustomer) if self.journal.now() >= row.expires_at => {
                self.nobody_came(row).await
            }
            Ok(SetupProgress::AwaitingCustomer | SetupProgress::Pending) => {
                self.setup_later(row).await
            }
            Ok(SetupProgress::Linked(token)) => self.linked(row, &token).await,
            Ok(SetupProgress::Declined(decline)) => {
                let decline = view::decline_words(&decline);
                self.end_setup(row, SetupState::Declined, Some(decline))
                    .await
            }
            Ok(SetupProgress::Expired) => self.end_setup(row, SetupState::Expired, None).await,
            Ok(SetupProgress::NoToken) => self.no_token(row).await,
            Ok(SetupProgress::Unmapped(word)) => {
                tracing::warn!(setup = %row.id, field = word.field, value = %word.value, "unmapped word");
                self.heard(&row.account, &row.id, "unmapped").await;
                self.setup_later(row).await
            }
            Err(error) => {
                tracing::warn!(setup = %row.id, %error, "ask about a setup");
                self.heard(&row.account, &row.id, &error).await;
                self.setup_later(row).await
            }
        }
    }

    /// The token is sealed and the handle made, in one write; then the first payment goes on.
    async fn linked(
        self: Arc<Self>,
        row: SetupRow,
        token: &ProviderToken,
    ) -> Result<SetupRow, Error> {
        let mut turns = 0;
        let written = loop {
            let written = self.keep_method(&row, token).await;
            if !self.came_too_late(&written, &mut turns).await? {
                break written?;
            }
        };
        if let (Some(payment), Some(_)) = (&written.payment, &written.method) {
            self.pay_first(payment).await?;
        }
        Ok(written)
    }

    async fn keep_method(&self, row: &SetupRow, token: &ProviderToken) -> Result<SetupRow, Error> {
        let (record, method) = self.new_method(row, token).await?;
        let now = self.journal.now();
        let event = self
            .journal
            .event(&row.account, "setup.completed".to_owned(), &row.id);
        self.change_with_payment(row, |row, payment| {
            row.state = SetupState::Completed;
            row.method = Some(method.id.clone());
            row.redirect = None;
            row.reference = None;
            row.attempts = 0;
            release_row(row, None);
            let mut batch = vec![
                Change::InsertRecord(record.clone()),
                Change::InsertMethod(method.clone()),
                Change::DefaultIfNone {
                    account: row.account.clone(),
                    method: method.id.clone(),
                },
            ];
            // What the visit has paid may have ended before: nobody drives it any more.
            let without = |payment: &PaymentRow| payment.method.is_none();
            if let Some(mut payment) = payment.filter(without) {
                payment.method = Some(method.id.clone());
                payment.handle = Some(method.handle.clone());
                batch.push(Change::UpdatePayment(payment));
            }
            batch.extend(
                row.payment
                    .clone()
                    .map(|id| Change::WakePayment { id, at: now }),
            );
            batch.push(event.clone());
            batch
        })
        .await
    }

    async fn new_method(
        &self,
        row: &SetupRow,
        token: &ProviderToken,
    ) -> Result<(RecordRow, MethodRow), Error> {
        let id = self.new_handle(HandleKind::PaymentMethod)?.to_string();
        let now = self.journal.now();
        let record_id = format!(
            "rec_{}",
            self.new_handle(HandleKind::PaymentMethod)?.reference()
        );
        let mut record = RecordRow {
            id: record_id.clone(),
            account: row.account.clone(),
            provider: row.provider.clone(),
            merchant: self.provider(&row.provider)?.merchant().to_owned(),
            generation: String::new(),
            sealed: Vec::new(),
            created_at: now,
        };
        let context = view::context_of(&record);
        let sealed = self.seal(&context, token.expose().as_bytes()).await?;
        record.generation = sealed.generation;
        record.sealed = sealed.bytes;
        let method = MethodRow {
            handle: id.clone(),
            id,
            account: row.account.clone(),
            provider: row.provider.clone(),
            record: Some(record_id),
            state: MethodState::Active,
            default: false,
            created_at: now,
            next_at: None,
            attempts: 0,
            version: 0,
        };
        Ok((record, method))
    }

    /// The provider has concluded without a token: what the first payment did decides.
    async fn no_token(self: Arc<Self>, row: SetupRow) -> Result<SetupRow, Error> {
        let takes_payment = self
            .provider(&row.provider)?
            .capabilities()
            .setup_takes_payment;
        let paid = match &row.payment {
            Some(payment) if takes_payment => Some(self.pay_first(payment).await?),
            Some(_) | None => None,
        };
        let state = match paid {
            Some(PaymentState::Captured | PaymentState::Authorized | PaymentState::Parked) => {
                SetupState::PaidNotLinked
            }
            Some(PaymentState::ActionRequired | PaymentState::Pending | PaymentState::Unknown) => {
                return self.setup_later(row).await;
            }
            Some(PaymentState::Declined | PaymentState::Failed | PaymentState::Voided) | None => {
                SetupState::Declined
            }
        };
        let decline = (state == SetupState::Declined).then(|| {
            (
                "other".to_owned(),
                "new_method".to_owned(),
                "no_token".to_owned(),
            )
        });
        self.end_setup(row, state, decline).await
    }

    /// The account was restricted before the customer had a page.
    async fn end_restricted(&self, row: SetupRow) -> Result<SetupRow, Error> {
        self.end_setup_as(row, SetupState::Expired, None, RESTRICTED)
            .await
    }

    /// Ends a setup without a method, and its first payment unless money moved.
    async fn end_setup(
        &self,
        row: SetupRow,
        state: SetupState,
        decline: Option<(String, String, String)>,
    ) -> Result<SetupRow, Error> {
        self.end_setup_as(row, state, decline, "setup_ended").await
    }

    /// Ends a setup; its first payment, if it has not begun, as declined, or as failed by this code.
    async fn end_setup_as(
        &self,
        row: SetupRow,
        state: SetupState,
        decline: Option<(String, String, String)>,
        code: &'static str,
    ) -> Result<SetupRow, Error> {
        let kind = format!("setup.{}", state.as_str());
        let event = self.journal.event(&row.account, kind, &row.id);
        let now = self.journal.now();
        self.change_with_payment(&row, |row, payment| {
            row.state = state;
            row.decline.clone_from(&decline);
            row.redirect = None;
            row.reference = None;
            release_row(row, None);
            let mut batch = vec![event.clone()];
            let ends =
                |payment: &PaymentRow| state != SetupState::PaidNotLinked && payment.is_open();
            if let Some(mut payment) = payment.filter(ends) {
                let ends_as = decline.as_ref().ok_or(code);
                self.end_first_payment(&mut payment, ends_as, now, &mut batch);
            }
            batch
        })
        .await
    }

    /// A first payment whose page was never at the provider ends here; one that was is asked about.
    fn end_first_payment(
        &self,
        payment: &mut PaymentRow,
        ends_as: Result<&(String, String, String), &'static str>,
        now: Timestamp,
        batch: &mut Vec<Change>,
    ) {
        if payment.step != Step::Linking {
            batch.push(Change::WakePayment {
                id: payment.id.clone(),
                at: now,
            });
            return;
        }
        state::fail(payment, ends_as.err().unwrap_or("setup_ended"), now);
        if let Ok(decline) = ends_as {
            payment.state = PaymentState::Declined;
            payment.failure = None;
            payment.decline = Some(decline.clone());
        }
        batch.push(Change::UpdatePayment(payment.clone()));
        batch.extend(self.payment_concluded(payment));
    }

    /// Moves a first payment on, now that its method is linked or will never be. Whoever drives it
    /// already, or later, learns the method from the setup.
    async fn pay_first(self: &Arc<Self>, id: &str) -> Result<PaymentState, Error> {
        let row = self.journal.store().payment(id).await.map_err(stored)?;
        let row = row.ok_or_else(|| Error::not_found("payment"))?;
        Ok(Box::pin(self.look_now(row)).await?.state)
    }

    async fn setup_request(
        &self,
        row: &SetupRow,
        provider: &dyn PaymentProvider,
    ) -> Result<SetupRequest, Error> {
        let account = AccountId::new(self.account_id(&row.account).await?).map_err(|error| {
            Error::new(Code::Internal, "A stored account id can't be read.").with_source(error)
        })?;
        let (reference, payment) = self.setup_payment(row, provider).await?;
        Ok(SetupRequest {
            reference: reference_of(&reference)?,
            customer: account.customer_reference(&self.vault, provider.name()),
            return_url: self.return_url(&row.id),
            webhook_url: self.webhook_url(&row.provider),
            language: row.language.clone(),
            payment,
            at: self.journal.now(),
        })
    }

    async fn setup_completion(
        &self,
        row: &SetupRow,
        provider: &dyn PaymentProvider,
    ) -> Result<SetupCompletion, Error> {
        let (reference, payment) = self.setup_payment(row, provider).await?;
        let setup = SetupReference::new(row.reference.clone().unwrap_or_default());
        Ok(SetupCompletion {
            setup: setup.map_err(|error| {
                Error::new(Code::Internal, "A stored setup reference is missing.")
                    .with_source(error)
            })?,
            reference: reference_of(&reference)?,
            payment,
        })
    }

    /// The payment that the provider takes in the same visit, if it does that, and whose id our
    /// reference there is made from.
    async fn setup_payment(
        &self,
        row: &SetupRow,
        provider: &dyn PaymentProvider,
    ) -> Result<(String, Option<SetupPayment>), Error> {
        let Some(id) = row
            .payment
            .as_ref()
            .filter(|_| provider.capabilities().setup_takes_payment)
        else {
            return Ok((row.id.clone(), None));
        };
        let payment = self.payment_row(id).await?;
        let capture = match payment.capture {
            CaptureText::Automatic => CaptureMode::Automatic,
            CaptureText::Manual => CaptureMode::Manual,
        };
        Ok((
            id.clone(),
            Some(SetupPayment {
                amount: payment.amount,
                capture,
            }),
        ))
    }

    /// Changes a leased setup together with its first payment, read anew if it has changed
    /// meanwhile.
    async fn change_with_payment(
        &self,
        row: &SetupRow,
        mut change: impl FnMut(&mut SetupRow, Option<PaymentRow>) -> Vec<Change> + Send,
    ) -> Result<SetupRow, Error> {
        for _ in 0..MAX_RACES {
            let payment = match &row.payment {
                Some(id) => self.journal.store().payment(id).await.map_err(stored)?,
                None => None,
            };
            let written = self
                .journal
                .change(row, |row| change(row, payment.clone()))
                .await;
            match written {
                Ok(Written::Yes(row) | Written::Lost(row)) => return Ok(row),
                Err(StoreError::Conflict(Subject::Payment)) => {}
                Err(error) => return Err(stored(error)),
            }
        }
        Err(stored(StoreError::Conflict(Subject::Payment)))
    }

    async fn change_setup(
        &self,
        row: &SetupRow,
        change: impl FnMut(&mut SetupRow) -> Vec<Change> + Send,
    ) -> Result<SetupRow, Error> {
        match self.journal.change(row, change).await.map_err(stored)? {
            Written::Yes(row) | Written::Lost(row) => Ok(row),
        }
    }
}

/// How many questions there were, for a look that is not one of the resolver's: these become rarer
/// with each, and after some of them a person must look. A look counts itself afterwards.
const fn before_this_look(attempts: u32) -> u32 {
    attempts.saturating_sub(1)
}

/// Runs work on a task of its own, so that a caller who goes away does not cut it short.
pub(super) async fn on_a_task<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    tokio::spawn(work).await.map_err(|error| {
        Error::new(
            Code::Internal,
            "The request's task ended early; its outcome is asked for.",
        )
        .with_source(error)
    })?
}

fn check_texts(request: &LinkRequest) -> Result<(), Error> {
    check::return_url(&request.return_url)?;
    request
        .language
        .as_deref()
        .map_or(Ok(()), check::language)?;
    match (&request.amount, &request.reference) {
        (Some(_), None) => Err(Error::field(
            Code::InvalidField,
            "reference",
            "reference is required with an amount.",
        )),
        (None, Some(_)) => Err(Error::field(
            Code::InvalidField,
            "reference",
            "reference belongs to a first payment; give an amount with it, or leave it out.",
        )),
        (None, None) if request.capture.is_some() => Err(Error::field(
            Code::InvalidField,
            "capture",
            "capture belongs to a first payment; give an amount with it, or leave it out.",
        )),
        (Some(_), Some(reference)) => check::reference(reference),
        (None, None) => Ok(()),
    }
}

fn return_to(url: &str, what: &[(&str, &str)]) -> Result<ReturnTo, Error> {
    let mut url = Url::parse(url).map_err(|error| {
        Error::new(Code::Internal, "A stored return address can't be read.").with_source(error)
    })?;
    url.query_pairs_mut().extend_pairs(what);
    Ok(ReturnTo {
        location: url.into(),
    })
}

fn word(status: &SetupStatus) -> Result<String, Error> {
    match serde_json::to_value(status) {
        Ok(serde_json::Value::String(word)) => Ok(word),
        _ => Err(Error::new(Code::Internal, "A status can't be written.")),
    }
}

fn cancelled_decline() -> (String, String, String) {
    (
        "other".to_owned(),
        "later".to_owned(),
        "customer_cancelled".to_owned(),
    )
}
