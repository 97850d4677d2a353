use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cardless_contract::{
    BodySeal, Capabilities, CaptureMode, CaptureRequest, Clock, CommitRequest, Decline, Delivery,
    ErrorKind, Found, IdempotencyKey, Initiator, LookupRequest, Money, Notification,
    NotificationError, ObjectId, Operation, OperationKind, OperationLookup, Outcome, Payment,
    PaymentPhase, PaymentProvider, PaymentRequest, ProviderCall, ProviderError, ProviderName,
    ProviderPlace, ProviderToken, Purpose, RawNotification, RedirectUrl, Reference, RefundRequest,
    Repeat, ReservationId, Result, SetupCompletion, SetupProgress, SetupReference, SetupRequest,
    SetupStarted, TokenFault, VoidRequest, async_trait,
};
use cardless_transport::{Credentials, HttpClient, Transport};
use url::Url;

use crate::client::{CALLS, Client};
use crate::config::{Config, ConfigError, Settings};
use crate::error::Failure;
use crate::mapping::{self, Expected, Mismatch, Registered};
use crate::notification;
use crate::wire::{Alias, Expiry, TransactionId};

/// Aduno, through Datatrans.
#[derive(Debug)]
pub struct Aduno {
    name: ProviderName,
    capabilities: Capabilities,
    settings: Settings,
    client: Client,
    clock: Arc<dyn Clock>,
}

/// Who runs everything that is reached (`providers/aduno.md` §1.3).
const OPERATOR: &str = "Datatrans (Planet)";

/// The provider's name.
const NAME: &str = "aduno";

/// How long the provider keeps an idempotency key (`providers/aduno.md` §8).
const KEY_WINDOW: Duration = Duration::from_secs(60 * 60);

/// How long a request can be on its way, clock skew included: a repeat is sent for 55 minutes of
/// the 60 (`providers/aduno.md` §8).
const LONGEST_DELAY: Duration = Duration::from_secs(5 * 60);

/// How long a customer has to begin at the page (`providers/aduno.md` §4). Whoever is in the middle
/// of a challenge by then may still finish, so the transaction's status alone ends a payment.
const CUSTOMER_WINDOW: Duration = Duration::from_secs(30 * 60);

/// The id that [`PaymentProvider::probe`] asks for: well formed, of a day that never was.
const NOBODYS_TRANSACTION: &str = "000000000000000000";

impl Aduno {
    /// An adapter with `config`, which sends through `client` and reads `clock`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the setting that can't be used.
    pub fn new(
        config: Config,
        client: Arc<dyn HttpClient>,
        clock: Arc<dyn Clock>,
    ) -> std::result::Result<Self, ConfigError> {
        let settings = config.check()?;
        let name = ProviderName::new(NAME).map_err(|_| ConfigError {
            setting: "environment",
            problem: "has no provider",
        })?;
        let transport = Transport::new(name.clone(), client, settings.hosts.clone());
        let credentials = Credentials::new(settings.authorizations.clone());
        let client = Client::new(name.clone(), transport, credentials);
        Ok(Self {
            name,
            capabilities: capabilities(),
            settings,
            client,
            clock,
        })
    }
}

fn capabilities() -> Capabilities {
    let keyed = Repeat::Keyed(KEY_WINDOW);
    Capabilities {
        currencies: None,
        partial_capture: true,
        // Possible with `partialCapture`, if the acquirer supports it; nobody was seen doing it
        // (`providers/aduno.md` §5.5).
        several_captures: false,
        partial_refund: true,
        refund_per_capture: false,
        // `providers/aduno.md` §5.6: the history shows sums.
        finds_by_sum: true,
        setup_takes_payment: true,
        reserve_holds: true,
        find_by_reference: false,
        repeat_setup: keyed,
        repeat_reserve: keyed,
        repeat_capture: keyed,
        repeat_void: keyed,
        repeat_refund: keyed,
        longest_delay: LONGEST_DELAY,
        customer_window: CUSTOMER_WINDOW,
        page_moves_money: true,
    }
}

#[async_trait]
impl PaymentProvider for Aduno {
    fn name(&self) -> &ProviderName {
        &self.name
    }

    fn merchant(&self) -> &str {
        &self.settings.merchant_id
    }

    /// There is one way to work here.
    fn mode(&self) -> &str {
        ""
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn calls(&self) -> &'static [ProviderCall] {
        CALLS
    }

    fn places(&self) -> Vec<ProviderPlace> {
        let hosts = self.client.hosts();
        let base = hosts.base().host_str();
        let both = &[Purpose::Api, Purpose::CustomerPage];
        hosts.places(OPERATOR, |host| match base == Some(host) {
            true if hosts.is_loopback() => both,
            true => &[Purpose::Api],
            false => &[Purpose::CustomerPage],
        })
    }

    async fn probe(&self) -> Result<()> {
        let id = self.transaction(NOBODYS_TRANSACTION)?;
        let error = match self.client.status(id).await {
            Ok(_) => return Ok(()),
            Err(Failure::Refused(refusal)) if refusal.is_about_credentials() => {
                return Err(self.error(ErrorKind::Authentication, Delivery::Refused));
            }
            Err(failure) => self.failed(failure),
        };
        match (error.kind(), error.delivery()) {
            (ErrorKind::NotFound, Delivery::Refused) => Ok(()),
            _ => Err(error),
        }
    }

    async fn begin_setup(
        &self,
        key: &IdempotencyKey,
        request: &SetupRequest,
    ) -> Result<Outcome<SetupStarted>> {
        let methods = &self.settings.payment_methods;
        let body = mapping::registration(request, methods, self.settings.registration_currency);
        let body = self
            .client
            .encode(&body)
            .map_err(|failure| self.failed(failure))?;
        let (setup, redirect) = match self.initialize(key, body).await? {
            Ok((id, redirect)) => (id, redirect),
            Err(decline) => return Ok(Outcome::Declined(decline)),
        };
        Ok(Outcome::Done(SetupStarted {
            setup: SetupReference::new(setup.as_str())
                .map_err(|_| self.unreadable("transactionId"))?,
            redirect,
            expires_at: request.at.plus(CUSTOMER_WINDOW),
        }))
    }

    async fn complete_setup(
        &self,
        _key: &IdempotencyKey,
        request: &SetupCompletion,
    ) -> Result<SetupProgress> {
        let id = self.transaction(request.setup.as_str())?;
        let status = self
            .client
            .status(id)
            .await
            .map_err(|failure| self.failed(failure))?;
        let amount = request.payment.map(|payment| payment.amount);
        let expected = Expected {
            id,
            merchant_id: &self.settings.merchant_id,
            reference: &request.reference,
            currency: amount.map(|amount| amount.currency()),
            amount,
        };
        let registered = mapping::setup(&status, &expected, request.payment)
            .map_err(|mismatch| self.mismatched(mismatch))?;
        match registered {
            Registered::Without(progress) => Ok(progress),
            Registered::Card(alias, expiry) => self.link(alias, &expiry).await,
        }
    }

    async fn reserve(
        &self,
        key: &IdempotencyKey,
        token: &ProviderToken,
        request: &PaymentRequest,
        seal: &dyn BodySeal,
    ) -> Result<Outcome<ReservationId>> {
        let alias = self.alias(token)?;
        let return_url = self.return_url(request)?;
        let expiry = match self.expiry(alias).await? {
            Ok(expiry) => expiry,
            Err(decline) => return Ok(Outcome::Declined(decline)),
        };
        let body = match return_url {
            None => self.client.encode(&mapping::hold(request, alias, &expiry)),
            Some(url) => {
                let body = mapping::customer_charge(request, url, alias, &expiry);
                self.client.encode(&body)
            }
        };
        let body = body.map_err(|failure| self.failed(failure))?;
        seal.admit(&body).await?;
        match request.initiator {
            Initiator::Merchant => self.hold(key, body, request).await,
            Initiator::Customer => Ok(match self.initialize(key, body).await? {
                Ok((id, redirect)) => Outcome::ActionRequired(id, redirect),
                Err(decline) => Outcome::Declined(decline),
            }),
        }
    }

    async fn commit(
        &self,
        key: &IdempotencyKey,
        _token: &ProviderToken,
        request: &CommitRequest,
    ) -> Result<Outcome<Payment>> {
        let id = self.transaction(request.reservation.as_str())?;
        let payment = &request.payment;
        let known = |phase| {
            mapping::payment_of(id, phase, payment.amount)
                .map(Outcome::Done)
                .map_err(|mismatch| self.mismatched(mismatch))
        };
        match (payment.initiator, payment.capture) {
            // The customer's visit has held or taken the amount, or not: a read decides.
            (Initiator::Customer, _) => {
                let read = self.read(id, &payment.reference, payment.amount).await?;
                mapping::taken_whole(read, payment).map_err(|mismatch| self.mismatched(mismatch))
            }
            (Initiator::Merchant, CaptureMode::Manual) => known(PaymentPhase::Authorized),
            (Initiator::Merchant, CaptureMode::Automatic) => {
                let body = mapping::movement(payment.amount, &payment.reference);
                match self.client.settle(key, id, &body).await {
                    Ok(()) => known(PaymentPhase::Captured),
                    Err(Failure::Refused(refusal)) if refusal.is_wrong_status() => {
                        self.committed_before(id, payment).await
                    }
                    Err(failure) => self.declined(failure),
                }
            }
        }
    }

    async fn capture(
        &self,
        key: &IdempotencyKey,
        request: &CaptureRequest,
    ) -> Result<Outcome<Operation>> {
        if !request.last {
            return Err(self.error(ErrorKind::Unsupported, Delivery::NotSent));
        }
        let id = self.transaction(request.reservation.as_str())?;
        let body = mapping::movement(request.amount, &request.payment_reference);
        match self.client.settle(key, id, &body).await {
            Ok(()) => Ok(Outcome::Done(NAMELESS)),
            Err(Failure::Refused(refusal)) if refusal.is_wrong_status() => {
                let nothing = Money::zero(request.amount.currency());
                let read = self
                    .read(id, &request.payment_reference, request.authorized)
                    .await;
                let read = read.map_err(ProviderError::after_a_send)?;
                self.after_a_refusal(mapping::find_capture(read, request.amount, nothing))
            }
            Err(failure) => self.declined(failure),
        }
    }

    async fn void(
        &self,
        key: &IdempotencyKey,
        request: &VoidRequest,
    ) -> Result<Outcome<Operation>> {
        let id = self.transaction(request.reservation.as_str())?;
        let read = || self.read(id, &request.payment_reference, request.authorized);
        // A cancel takes back a capture that is not yet handed to the acquirer, and a void must
        // not: so only a hold is canceled.
        let before = read().await.map_err(|error| self.nothing_sent(error))?;
        if !mapping::is_held(&before) {
            return self.after_a_refusal(mapping::find_void(before));
        }
        match self.client.cancel(key, id).await {
            Ok(()) => Ok(Outcome::Done(NAMELESS)),
            Err(Failure::Refused(refusal)) if refusal.is_wrong_status() => {
                let read = read().await.map_err(ProviderError::after_a_send)?;
                self.after_a_refusal(mapping::find_void(read))
            }
            Err(failure) => self.declined(failure),
        }
    }

    async fn refund(
        &self,
        key: &IdempotencyKey,
        request: &RefundRequest,
    ) -> Result<Outcome<Operation>> {
        let id = self.transaction(request.reservation.as_str())?;
        let body = mapping::movement(request.amount, &request.reference);
        match self.client.credit(key, id, &body).await {
            Ok(None) => Ok(Outcome::Done(NAMELESS)),
            Ok(Some(credit)) => {
                let id = TransactionId::new(&credit.transaction_id)
                    .and_then(|id| ObjectId::new(id.as_str()).ok())
                    .ok_or_else(|| self.unreadable("transactionId"))?;
                let operation = Operation {
                    id: Some(id),
                    amount: None,
                };
                // Without the acquirer's code it is accepted and no more: its own transaction
                // shows how it ends.
                Ok(match credit.acquirer_authorization_code {
                    Some(_) => Outcome::Done(operation),
                    None => Outcome::Pending(operation),
                })
            }
            Err(failure) => self.declined(failure),
        }
    }

    async fn lookup(&self, request: &LookupRequest) -> Result<Outcome<Payment>> {
        let id = self.transaction(request.reservation.as_str())?;
        self.read(id, &request.reference, request.amount).await
    }

    /// There is no search by `refno` (`providers/aduno.md` §8).
    async fn find(&self, _reference: &Reference) -> Result<Found<ReservationId>> {
        Ok(Found::CannotTell)
    }

    async fn find_operation(
        &self,
        _key: &IdempotencyKey,
        request: &OperationLookup,
    ) -> Result<Found<Outcome<Operation>>> {
        if let (OperationKind::Refund, Some(id)) = (request.kind, &request.id) {
            return self.credit(id, request).await.map(Found::Yes);
        }
        let id = self.transaction(request.reservation.as_str())?;
        let expected = Expected {
            id,
            merchant_id: &self.settings.merchant_id,
            reference: &request.payment_reference,
            currency: Some(request.amount.currency()),
            amount: None,
        };
        let read = self.ask(&expected).await?;
        Ok(match request.kind {
            OperationKind::Capture => {
                mapping::find_capture(read, request.amount, request.settled_before)
            }
            OperationKind::Void => mapping::find_void(read),
            OperationKind::Refund => {
                mapping::find_refund(read, request.amount, request.settled_before)
            }
        })
    }

    /// Notifications name the payment.
    async fn payment_of(&self, _: OperationKind, _: &ObjectId) -> Result<Option<ReservationId>> {
        Ok(None)
    }

    async fn revoke(&self, token: &ProviderToken) -> Result<()> {
        match self.client.delete_alias(self.alias(token)?).await {
            Ok(()) => Ok(()),
            Err(Failure::Refused(refusal)) if mapping::is_unknown_alias(&refusal) => Ok(()),
            Err(failure) => Err(self.failed(failure)),
        }
    }

    fn token_kind(&self) -> &'static str {
        "alias"
    }

    fn check_token(&self, token: &ProviderToken) -> std::result::Result<(), TokenFault> {
        mapping::check_alias(token)
    }

    async fn verify_notification(
        &self,
        delivery: &RawNotification<'_>,
    ) -> std::result::Result<Notification, NotificationError> {
        let settings = &self.settings;
        let now = self.clock.now();
        notification::verify(delivery, &settings.webhook_keys, &settings.merchant_id, now)
    }
}

/// A request within a step: what it gave, or a refusal that ends the step.
type Step<T> = std::result::Result<T, Decline>;

/// A capture or void: the answer says nothing but that it is done.
const NAMELESS: Operation = Operation {
    id: None,
    amount: None,
};

impl Aduno {
    /// Sends an init and takes the id and the address of the page.
    async fn initialize(
        &self,
        key: &IdempotencyKey,
        body: Bytes,
    ) -> Result<Step<(ReservationId, RedirectUrl)>> {
        let initialized = match self.client.init(key, body).await {
            Ok(initialized) => initialized,
            Err(failure) => return self.decline(failure).map(Err),
        };
        let id = self.reservation(&initialized.started.transaction_id)?;
        let redirect = self.redirect(initialized.location)?;
        Ok(Ok((id, redirect)))
    }

    /// Sends the charge of an alias. An answer without the acquirer's code leaves open whether
    /// the amount is held (`providers/aduno.md` §5.3): a read shows it.
    async fn hold(
        &self,
        key: &IdempotencyKey,
        body: Bytes,
        request: &PaymentRequest,
    ) -> Result<Outcome<ReservationId>> {
        let held = match self.client.authorize(key, body).await {
            Ok(held) => held,
            Err(failure) => return self.declined(failure),
        };
        let id = self.reservation(&held.transaction_id)?;
        match held.acquirer_authorization_code {
            Some(_) => Ok(Outcome::Done(id)),
            None => self.hold_without_code(id, request).await,
        }
    }

    /// A hold is the result of a manual charge, and nobody looks at it again: so it is one only if
    /// a read says so. Until then a repeat under the same key asks again.
    async fn hold_without_code(
        &self,
        id: ReservationId,
        request: &PaymentRequest,
    ) -> Result<Outcome<ReservationId>> {
        let transaction = self.transaction(id.as_str());
        let transaction = transaction.map_err(ProviderError::after_a_send)?;
        let read = self.read(transaction, &request.reference, request.amount);
        let read = read.await.map_err(ProviderError::after_a_send)?;
        if mapping::is_held(&read) {
            return Ok(Outcome::Done(id));
        }
        match read {
            Outcome::Declined(decline) => Ok(Outcome::Declined(decline)),
            Outcome::Unmapped(word) => Ok(Outcome::Unmapped(word)),
            Outcome::Done(_)
            | Outcome::Pending(_)
            | Outcome::ActionRequired(..)
            | Outcome::Review(_) => Err(self.unreadable("acquirerAuthorizationCode")),
        }
    }

    /// The alias' expiry date, in memory, for one request.
    async fn expiry(&self, alias: Alias<'_>) -> Result<Step<Expiry>> {
        let info = match self.client.alias(alias).await {
            Ok(info) => info,
            Err(failure) => {
                let decline = self.decline(failure);
                return decline.map(Err).map_err(|error| self.nothing_sent(error));
            }
        };
        let expiry = info
            .card
            .and_then(|card| Expiry::new(card.expiry_month, card.expiry_year));
        Ok(expiry.ok_or_else(mapping::undated_alias))
    }

    /// Writes the expiry date onto the alias, so that it need not be kept here, and gives the
    /// token.
    async fn link(&self, alias: Alias<'_>, expiry: &Expiry) -> Result<SetupProgress> {
        match self.client.date_alias(alias, expiry).await {
            Ok(()) => {}
            // Deleted since: there is nothing to link.
            Err(Failure::Refused(refusal)) if mapping::is_unknown_alias(&refusal) => {
                return Ok(SetupProgress::NoToken);
            }
            Err(failure) => return Err(self.failed(failure)),
        }
        Ok(
            ProviderToken::new(alias.expose())
                .map_or(SetupProgress::NoToken, SetupProgress::Linked),
        )
    }

    /// What a settle that was refused for the transaction's status has found.
    async fn committed_before(
        &self,
        id: TransactionId<'_>,
        payment: &PaymentRequest,
    ) -> Result<Outcome<Payment>> {
        let read = self.read(id, &payment.reference, payment.amount).await;
        let read = read.map_err(ProviderError::after_a_send)?;
        if let Outcome::Done(found) = &read {
            match found.phase {
                PaymentPhase::Reserved | PaymentPhase::Authorized => {
                    return Err(self.error(ErrorKind::Conflict, Delivery::Refused));
                }
                PaymentPhase::Captured | PaymentPhase::Voided | PaymentPhase::Expired => {}
            }
        }
        mapping::taken_whole(read, payment).map_err(|mismatch| self.mismatched(mismatch))
    }

    async fn credit(&self, id: &ObjectId, request: &OperationLookup) -> Result<Outcome<Operation>> {
        let id = self.transaction(id.as_str())?;
        let status = self
            .client
            .status(id)
            .await
            .map_err(|failure| self.failed(failure))?;
        let expected = Expected {
            id,
            merchant_id: &self.settings.merchant_id,
            reference: &request.reference,
            currency: Some(request.amount.currency()),
            amount: None,
        };
        mapping::credit(&status, &expected, request.amount)
            .map_err(|mismatch| self.mismatched(mismatch))
    }

    async fn read(
        &self,
        id: TransactionId<'_>,
        reference: &Reference,
        amount: Money,
    ) -> Result<Outcome<Payment>> {
        self.ask(&Expected {
            id,
            merchant_id: &self.settings.merchant_id,
            reference,
            currency: Some(amount.currency()),
            amount: Some(amount),
        })
        .await
    }

    async fn ask(&self, expected: &Expected<'_>) -> Result<Outcome<Payment>> {
        let status = self.client.status(expected.id).await;
        let status = status.map_err(|failure| self.failed(failure))?;
        mapping::payment(&status, expected, &self.settings.page, LONGEST_DELAY)
            .map_err(|mismatch| self.mismatched(mismatch))
    }

    /// The return address: there for a customer who is present, and for nobody else.
    fn return_url<'a>(&self, request: &'a PaymentRequest) -> Result<Option<&'a str>> {
        match (request.initiator, request.return_url.as_deref()) {
            (Initiator::Merchant, _) => Ok(None),
            (Initiator::Customer, Some(url)) => Ok(Some(url)),
            (Initiator::Customer, None) => {
                Err(self.error(ErrorKind::InvalidRequest, Delivery::NotSent))
            }
        }
    }

    /// A token of another shape is refused before anything is sent: twenty unknown ones block our
    /// address (`providers/aduno.md` §10.3), and the old shapes hold digits of a card's number.
    fn alias<'a>(&self, token: &'a ProviderToken) -> Result<Alias<'a>> {
        mapping::alias(token)
            .ok_or_else(|| self.error(ErrorKind::InvalidRequest, Delivery::NotSent))
    }

    /// An id of another shape is none of the provider's, so that nothing is asked.
    fn transaction<'a>(&self, id: &'a str) -> Result<TransactionId<'a>> {
        TransactionId::new(id).ok_or_else(|| self.error(ErrorKind::NotFound, Delivery::NotSent))
    }

    fn reservation(&self, id: &str) -> Result<ReservationId> {
        TransactionId::new(id)
            .and_then(|id| ReservationId::new(id.as_str()).ok())
            .ok_or_else(|| self.unreadable("transactionId"))
    }

    fn redirect(&self, location: Url) -> Result<RedirectUrl> {
        RedirectUrl::new(location).ok_or_else(|| self.unreadable("Location"))
    }

    /// A refused call that is explained by what a read found.
    fn after_a_refusal(&self, found: Found<Outcome<Operation>>) -> Result<Outcome<Operation>> {
        match found {
            Found::Yes(outcome) => Ok(outcome),
            Found::No => Err(self.error(ErrorKind::Conflict, Delivery::Refused)),
            Found::CannotTell => Err(self.error(ErrorKind::Conflict, Delivery::Unknown)),
        }
    }

    /// A decline as an outcome, everything else as an error.
    fn declined<T>(&self, failure: Failure) -> Result<Outcome<T>> {
        self.decline(failure).map(Outcome::Declined)
    }

    fn decline(&self, failure: Failure) -> Result<Decline> {
        if let Failure::Refused(refusal) = &failure
            && let Some(decline) = mapping::decline(refusal)
        {
            return Ok(decline);
        }
        Err(self.failed(failure))
    }

    /// An error of a question that was asked before the mutating request: that one never left,
    /// however clearly the question was refused.
    fn nothing_sent(&self, error: ProviderError) -> ProviderError {
        if error.delivery() == Delivery::NotSent {
            return error;
        }
        // A question has no key that could have been used before.
        let kind = if error.kind() == ErrorKind::RepeatRefused {
            ErrorKind::UnreadableAnswer
        } else {
            error.kind()
        };
        let told = self.error(kind, Delivery::NotSent);
        match error.code().cloned() {
            Some(code) => told.with_code(code).with_source(error),
            None => told.with_source(error),
        }
    }

    fn failed(&self, failure: Failure) -> ProviderError {
        failure.into_error(&self.name)
    }

    fn mismatched(&self, mismatch: Mismatch) -> ProviderError {
        self.unreadable(mismatch.0)
    }

    fn unreadable(&self, place: &'static str) -> ProviderError {
        self.error(ErrorKind::UnreadableAnswer, Delivery::Unknown)
            .with_source(place)
    }

    fn error(&self, kind: ErrorKind, delivery: Delivery) -> ProviderError {
        ProviderError::new(self.name.clone(), kind, delivery)
    }
}
