use std::sync::Arc;
use std::time::Duration;

use cardless_contract::{
    BodySeal, Capabilities, CaptureRequest, Clock, CommitRequest, Delivery, ErrorKind, Found,
    IdempotencyKey, Initiator, LookupRequest, Money, Notification, NotificationError, ObjectId,
    Operation, OperationKind, OperationLookup, Outcome, Payment, PaymentPhase, PaymentProvider,
    PaymentRequest, ProviderCall, ProviderError, ProviderName, ProviderPlace, ProviderToken,
    Purpose, RawNotification, RedirectUrl, Reference, RefundRequest, Repeat, ReservationId, Result,
    SetupCompletion, SetupProgress, SetupReference, SetupRequest, SetupStarted, TokenFault,
    VoidRequest, async_trait,
};
use cardless_transport::{Budget, HttpClient, Transport};
use url::Url;

use crate::client::{CALLS, Client};
use crate::config::{Config, ConfigError, Settings};
use crate::error::{Failure, unreadable};
use crate::mapping::{
    self, Expected, ExpectedOperation, Inexpressible, Misfit, SetupStep, TokenFate, Voidable,
};
use crate::notification::{self, Keys, Signature, SigningKey};
use crate::wire;

/// Who runs everything that is reached.
const OPERATOR: &str = "PostFinance";

/// What the provider is called everywhere.
const NAME: &str = "postfinance";

/// The longest time that a request of ours can be on its way and still be carried out. PostFinance
/// gives no number; its SDKs wait 25 s (`providers/postfinance.md` §5.4), and clocks may differ.
const LONGEST_DELAY: Duration = Duration::from_secs(120);

/// How long a customer is expected to take at the payment page. It is no end of the page:
/// PostFinance gives each transaction a time of its own (`authorizationTimeoutOn`), which "may change
/// over time", and has no call that ends one before it is authorized. So only its state ends a payment.
const CUSTOMER_WINDOW: Duration = Duration::from_secs(60 * 60);

/// A reference that no payment has: ours are longer.
const PROBE_REFERENCE: &str = "PROBE";

/// PostFinance Checkout: one space, through Web Service API 2.0.
#[derive(Debug)]
pub struct PostFinance {
    name: ProviderName,
    capabilities: Capabilities,
    settings: Settings,
    merchant: String,
    client: Client,
    clock: Arc<dyn Clock>,
    keys: Keys,
    reads: Budget,
}

impl PostFinance {
    /// PostFinance by its settings. `client` sends; `clock` dates the JWT of each request.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], which names the setting.
    pub fn new(
        config: Config,
        client: Arc<dyn HttpClient>,
        clock: Arc<dyn Clock>,
    ) -> std::result::Result<Self, ConfigError> {
        let name = ProviderName::new(NAME).map_err(|_| ConfigError::new(NAME, "is no name"))?;
        let settings = config.settings()?;
        let transport = Transport::new(name.clone(), client, config.hosts()?);
        let client = Client::new(
            name.clone(),
            transport,
            config.signers()?,
            Arc::clone(&clock),
            settings.space,
        );
        let keys = Keys::default();
        Ok(Self {
            name,
            capabilities: capabilities(),
            merchant: settings.space.to_string(),
            settings,
            client,
            clock,
            keys,
            reads: notification::reads(),
        })
    }

    /// Tells the log if a listener of the space signs nothing. It is no error: the listener may be
    /// somebody else's, ours is refused delivery by delivery, and the credentials need not be
    /// allowed to look.
    async fn warn_of_unsigned_webhooks(&self) {
        let page = self.client.listeners().await;
        if page.is_ok_and(|page| mapping::sends_unsigned(&page)) {
            tracing::warn!(
                provider = NAME,
                "a webhook listener of the space sends unsigned webhooks, which are refused; \
                 switch payload signature and state on in the back office"
            );
        }
    }

    /// One authoritative read of a payment.
    async fn read_payment(&self, expected: &Expected<'_>, id: i64) -> Result<Outcome<Payment>> {
        let answer = self.client.transaction(id).await?;
        let completions = if mapping::needs_completions(&answer) {
            Some(self.client.completions_of(id).await?)
        } else {
            None
        };
        let outcome = self.fits(mapping::payment(&answer, completions.as_ref(), expected))?;
        if mapping::is_released(&answer) {
            return Ok(self.voided_or_lapsed(outcome, id).await);
        }
        Ok(outcome)
    }

    /// A hold that nobody voided has lapsed. If the question fails, it just counts as voided:
    /// either way nothing is held and nothing was taken.
    async fn voided_or_lapsed(&self, outcome: Outcome<Payment>, id: i64) -> Outcome<Payment> {
        let Ok(page) = self.client.voids_of(id).await else {
            return outcome;
        };
        if mapping::has_void(&page.data) {
            return outcome;
        }
        outcome.map(|payment| match payment.phase {
            PaymentPhase::Voided => Payment {
                phase: PaymentPhase::Expired,
                ..payment
            },
            PaymentPhase::Reserved
            | PaymentPhase::Authorized
            | PaymentPhase::Captured
            | PaymentPhase::Expired => payment,
        })
    }

    /// The address of a transaction's payment page, if a customer may be sent there.
    async fn payment_page(&self, id: i64) -> Result<RedirectUrl> {
        let text = self
            .client
            .payment_page_url(id)
            .await
            .map_err(Failure::after_a_send)?;
        let allowed = Url::parse(text.trim())
            .ok()
            .filter(|url| self.client.hosts().allow(url));
        // What was checked is what is handed out: another reader of the raw text may see another
        // host in it.
        allowed
            .and_then(RedirectUrl::new)
            .ok_or_else(|| self.misfit(Misfit("the payment page's address")))
    }

    /// Charges the token of a transaction, and reads what became of it.
    async fn process(
        &self,
        expected: &Expected<'_>,
        id: i64,
        token: i64,
    ) -> Result<Outcome<Payment>> {
        match self.client.process_with_token(id).await {
            Ok(charge) => {
                self.fits(mapping::check_charge(&charge, &self.settings, id))?;
                let outcome = self.read_payment(expected, id).await;
                outcome
                    .map(mapping::after_commit)
                    .map_err(ProviderError::after_a_send)
            }
            Err(failure) if failure.is_unprocessable() || failure.is_conflict() => {
                self.refused_commit(failure, expected, id, token).await
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// A commit was refused with 409 or 422: what does the transaction say?
    async fn refused_commit(
        &self,
        failure: Failure,
        expected: &Expected<'_>,
        id: i64,
        token: i64,
    ) -> Result<Outcome<Payment>> {
        let outcome = self
            .read_payment(expected, id)
            .await
            .map_err(ProviderError::after_a_send)?;
        if !mapping::is_untouched(&outcome) {
            return Ok(outcome);
        }
        if failure.is_unprocessable() {
            return self.refused_token(failure, token).await;
        }
        Err(failure.into())
    }

    /// A charge was refused with 422: a decline if its token can't be charged any more.
    async fn refused_token<T>(&self, failure: Failure, token: i64) -> Result<Outcome<T>> {
        let fate = match self.client.token(token).await {
            Ok(answer) => mapping::token_fate(&answer, token, &self.settings),
            Err(failure) if failure.is(ErrorKind::NotFound) => Ok(TokenFate::Gone),
            // The refusal stands, whatever becomes of this question.
            Err(_) => Ok(TokenFate::Usable),
        };
        match self.fits(fate).map(mapping::dead_token) {
            Ok(Some(decline)) => Ok(Outcome::Declined(decline)),
            Ok(None) | Err(_) => Err(failure.into()),
        }
    }

    /// The token of a setup whose customer is done. A hold is released once nothing more can
    /// come of the setup.
    async fn finish_setup(&self, id: i64, token: Option<i64>, hold: bool) -> Result<SetupProgress> {
        let progress = match token {
            Some(token) => self.link(token).await?,
            None => SetupProgress::NoToken,
        };
        let still_open = matches!(
            progress,
            SetupProgress::Pending | SetupProgress::Unmapped(_)
        );
        if hold && !still_open {
            self.release(id).await?;
        }
        Ok(progress)
    }

    /// Whether a token has credentials that can be charged.
    async fn link(&self, token: i64) -> Result<SetupProgress> {
        match self.client.active_version(token).await {
            Ok(version) => self.fits(mapping::linked(&version, token, &self.settings)),
            Err(failure) if failure.is(ErrorKind::NotFound) => Ok(SetupProgress::NoToken),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Voids a registration's hold. A void that the provider gave up is told to the log: the hold
    /// lapses, and the customer's link does not depend on it.
    async fn release(&self, id: i64) -> Result<()> {
        let outcome = match self.client.void(id).await {
            Ok(answer) => self.fits(mapping::void(&answer, &self.settings, id))?,
            Err(failure) if failure.is_unprocessable() || failure.is_conflict() => {
                // Whoever asks about the same setup at the same time may have been first.
                return match self.client.transaction(id).await {
                    Ok(answer) if mapping::is_released(&answer) => Ok(()),
                    Ok(_) | Err(_) => Err(failure.after_a_send()),
                };
            }
            Err(failure) => return Err(failure.after_a_send()),
        };
        if matches!(outcome, Outcome::Declined(_) | Outcome::Unmapped(_)) {
            tracing::warn!(
                provider = NAME,
                "the hold of a registration was not released"
            );
        }
        Ok(())
    }

    /// A void was refused with 409 or 422: somebody may have done it already.
    async fn refused_void(
        &self,
        failure: Failure,
        expected: &Expected<'_>,
        id: i64,
    ) -> Result<Outcome<Operation>> {
        let answer = self
            .client
            .transaction(id)
            .await
            .map_err(Failure::after_a_send)?;
        match self.fits(mapping::voidable(&answer, expected))? {
            Voidable::Released => Ok(Outcome::Done(Operation {
                id: None,
                amount: None,
            })),
            Voidable::Held | Voidable::No => Err(failure.with_kind(ErrorKind::Conflict)),
        }
    }

    /// A capture or refund was refused with 422: is it because of the amount?
    async fn refused_amount(
        &self,
        failure: Failure,
        id: i64,
        amount: Money,
        exceeds: fn(&wire::Transaction, Money) -> bool,
    ) -> ProviderError {
        let read = self.client.transaction(id).await;
        let kind = match read {
            Ok(answer) if exceeds(&answer, amount) => ErrorKind::AmountRefused,
            Ok(_) | Err(_) => ErrorKind::Conflict,
        };
        failure.with_kind(kind)
    }

    async fn find_capture(
        &self,
        key: &IdempotencyKey,
        request: &OperationLookup,
    ) -> Result<Found<Outcome<Operation>>> {
        let expected = self.expected_operation(key, &request.reservation, request.amount)?;
        let answer = match &request.id {
            Some(id) => {
                let id = self.expressible(mapping::object_id(id))?;
                Some(self.client.completion(id).await?)
            }
            None => self.only(self.client.completions_by_key(key.as_str()).await?)?,
        };
        let outcome = answer
            .map(|answer| mapping::completion(&answer, &expected))
            .transpose();
        Ok(found(self.fits(outcome)?))
    }

    async fn find_refund(
        &self,
        key: &IdempotencyKey,
        request: &OperationLookup,
    ) -> Result<Found<Outcome<Operation>>> {
        let expected = self.expected_operation(key, &request.reservation, request.amount)?;
        let answer = match &request.id {
            Some(id) => {
                let id = self.expressible(mapping::object_id(id))?;
                Some(self.client.refund(id).await?)
            }
            None => self.only(self.client.refunds_by_key(key.as_str()).await?)?,
        };
        let outcome = answer
            .map(|answer| mapping::refund_outcome(&answer, &expected))
            .transpose();
        Ok(found(self.fits(outcome)?))
    }

    async fn find_void(&self, request: &OperationLookup) -> Result<Found<Outcome<Operation>>> {
        let id = self.expressible(mapping::transaction_id(&request.reservation))?;
        let page = self.client.voids_of(id).await?;
        let Some(known) = &request.id else {
            let outcome = mapping::foremost_void(&page.data, &self.settings, id);
            return Ok(found(self.fits(outcome)?));
        };
        let known = self.expressible(mapping::object_id(known))?;
        let ours = page.data.iter().find(|answer| answer.id == known);
        let outcome = ours.map(|answer| mapping::void(answer, &self.settings, id));
        let outcome = self.fits(outcome.transpose())?;
        // One that was there is there, whatever a page of all shows.
        Ok(outcome.map_or(Found::CannotTell, Found::Yes))
    }

    /// The signing key behind an id: remembered, or fetched once.
    async fn signing_key(&self, id: &str) -> std::result::Result<SigningKey, NotificationError> {
        if let Some(key) = self.keys.known(id) {
            return Ok(key);
        }
        if !self.keys.may_fetch(self.clock.now()) {
            return Err(NotificationError::UnknownKey);
        }
        let text = self.client.encryption_key(id).await.map_err(|failure| {
            if failure.is(ErrorKind::NotFound) {
                NotificationError::UnknownKey
            } else {
                NotificationError::KeyUnavailable(failure.into())
            }
        })?;
        let key = SigningKey::from_base64(&text)
            .ok_or(NotificationError::Certificate("not a key of P-256"))?;
        self.keys.remember(id, &key);
        Ok(key)
    }

    const fn expected<'a>(
        &'a self,
        id: Option<i64>,
        reference: &'a Reference,
        amount: Money,
    ) -> Expected<'a> {
        Expected {
            settings: &self.settings,
            id,
            reference,
            amount,
        }
    }

    fn expected_operation<'a>(
        &'a self,
        key: &'a IdempotencyKey,
        reservation: &ReservationId,
        amount: Money,
    ) -> Result<ExpectedOperation<'a>> {
        let transaction = self.expressible(mapping::transaction_id(reservation))?;
        Ok(ExpectedOperation {
            settings: &self.settings,
            transaction,
            key,
            amount,
        })
    }

    /// The only one of a page; more than one is a conflict, never a guess.
    fn only<T>(&self, page: wire::Page<T>) -> Result<Option<T>> {
        let mut all = page.data.into_iter();
        match (all.next(), all.next()) {
            (None, None) if page.has_more == Some(true) => Err(self.misfit(Misfit("hasMore"))),
            (one, None) => Ok(one),
            (_, Some(_)) => Err(self.error(ErrorKind::Conflict, Delivery::Unknown)),
        }
    }

    fn fits<T>(&self, answer: std::result::Result<T, Misfit>) -> Result<T> {
        answer.map_err(|misfit| self.misfit(misfit))
    }

    fn misfit(&self, misfit: Misfit) -> ProviderError {
        unreadable(&self.name).with_source(misfit)
    }

    /// A request that can't be written was not sent.
    fn expressible<T>(&self, request: std::result::Result<T, Inexpressible>) -> Result<T> {
        request.map_err(|what| {
            self.error(ErrorKind::InvalidRequest, Delivery::NotSent)
                .with_source(what)
        })
    }

    fn error(&self, kind: ErrorKind, delivery: Delivery) -> ProviderError {
        ProviderError::new(self.name.clone(), kind, delivery)
    }
}

#[async_trait]
impl PaymentProvider for PostFinance {
    fn name(&self) -> &ProviderName {
        &self.name
    }

    fn merchant(&self) -> &str {
        &self.merchant
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
        hosts.places(OPERATOR, |_| {
            &[Purpose::Api, Purpose::WebhookKeys, Purpose::CustomerPage]
        })
    }

    async fn probe(&self) -> Result<()> {
        self.client
            .transactions_by_reference(PROBE_REFERENCE)
            .await?;
        self.warn_of_unsigned_webhooks().await;
        Ok(())
    }

    async fn begin_setup(
        &self,
        _key: &IdempotencyKey,
        request: &SetupRequest,
    ) -> Result<Outcome<SetupStarted>> {
        let body = self.expressible(mapping::setup(&self.settings, request))?;
        let answer = self.client.create_transaction(&body).await?;
        let amount = request
            .payment
            .map_or(self.settings.registration, |payment| payment.amount);
        let expected = self.expected(None, &request.reference, amount);
        let id = match self.fits(mapping::created(&answer, &expected))? {
            Outcome::Done(id) => id,
            Outcome::Declined(decline) => return Ok(Outcome::Declined(decline)),
            Outcome::Unmapped(word) => return Ok(Outcome::Unmapped(word)),
            Outcome::Pending(_) | Outcome::ActionRequired(..) | Outcome::Review(_) => {
                return Err(self.misfit(Misfit("transaction.state")));
            }
        };
        let started = SetupStarted {
            setup: SetupReference::new(id.to_string())
                .map_err(|_| self.misfit(Misfit("transaction.id")))?,
            redirect: self.payment_page(id).await?,
            expires_at: request.at.plus(CUSTOMER_WINDOW),
        };
        Ok(Outcome::Done(started))
    }

    async fn complete_setup(
        &self,
        _key: &IdempotencyKey,
        request: &SetupCompletion,
    ) -> Result<SetupProgress> {
        let id = self.expressible(mapping::setup_id(&request.setup))?;
        let answer = self.client.transaction(id).await?;
        match self.fits(mapping::setup_step(&answer, id, request, &self.settings))? {
            SetupStep::Progress(progress) => Ok(progress),
            SetupStep::Concluded { token, hold } => self.finish_setup(id, token, hold).await,
        }
    }

    async fn reserve(
        &self,
        _key: &IdempotencyKey,
        token: &ProviderToken,
        request: &PaymentRequest,
        _seal: &dyn BodySeal,
    ) -> Result<Outcome<ReservationId>> {
        let body = self.expressible(mapping::charge(&self.settings, token, request))?;
        let answer = match self.client.create_transaction(&body).await {
            Ok(answer) => answer,
            Err(failure) if failure.is_unprocessable() => {
                let token = self.expressible(mapping::token_id(token))?;
                return self.refused_token(failure, token).await;
            }
            Err(failure) => return Err(failure.into()),
        };
        let expected = self.expected(None, &request.reference, request.amount);
        let outcome = self.fits(mapping::created(&answer, &expected))?;
        let id = ReservationId::new(answer.id.to_string())
            .map_err(|_| self.misfit(Misfit("transaction.id")))?;
        match (request.initiator, outcome) {
            (Initiator::Customer, Outcome::Done(number)) => Ok(Outcome::ActionRequired(
                id,
                self.payment_page(number).await?,
            )),
            (Initiator::Customer | Initiator::Merchant, outcome) => Ok(outcome.map(|_| id)),
        }
    }

    async fn commit(
        &self,
        _key: &IdempotencyKey,
        token: &ProviderToken,
        request: &CommitRequest,
    ) -> Result<Outcome<Payment>> {
        let id = self.expressible(mapping::transaction_id(&request.reservation))?;
        let token = self.expressible(mapping::token_id(token))?;
        let payment = &request.payment;
        let expected = self.expected(Some(id), &payment.reference, payment.amount);
        if payment.initiator == Initiator::Customer {
            // The customer commits at the payment page; all that is left to do is to look.
            let outcome = self.look_at_customers(&expected, id).await?;
            return self.fits(mapping::taken_whole(outcome, payment));
        }
        let outcome = self.process(&expected, id, token).await?;
        self.fits(mapping::taken_whole(outcome, payment))
    }

    async fn capture(
        &self,
        key: &IdempotencyKey,
        request: &CaptureRequest,
    ) -> Result<Outcome<Operation>> {
        let expected = self.expected_operation(key, &request.reservation, request.amount)?;
        let body = self.expressible(mapping::capture(key, request))?;
        let id = expected.transaction;
        match self.client.complete(id, &body).await {
            Ok(answer) => self.fits(mapping::completion(&answer, &expected)),
            Err(failure) if failure.is_unprocessable() => {
                let exceeds = mapping::exceeds_authorization;
                Err(self
                    .refused_amount(failure, id, request.amount, exceeds)
                    .await)
            }
            Err(failure) => Err(failure.into()),
        }
    }

    async fn void(
        &self,
        _key: &IdempotencyKey,
        request: &VoidRequest,
    ) -> Result<Outcome<Operation>> {
        let id = self.expressible(mapping::transaction_id(&request.reservation))?;
        let expected = self.expected(Some(id), &request.payment_reference, request.authorized);
        // There is no key for a void, so the transaction is read first (§3.5).
        let answer = self
            .client
            .transaction(id)
            .await
            .map_err(Failure::before_a_send)?;
        match self.fits(mapping::voidable(&answer, &expected))? {
            Voidable::Held => {}
            Voidable::Released => {
                return Ok(Outcome::Done(Operation {
                    id: None,
                    amount: None,
                }));
            }
            Voidable::No => return Err(self.error(ErrorKind::Conflict, Delivery::Refused)),
        }
        match self.client.void(id).await {
            Ok(answer) => self.fits(mapping::void(&answer, &self.settings, id)),
            Err(failure) if failure.is_unprocessable() || failure.is_conflict() => {
                self.refused_void(failure, &expected, id).await
            }
            Err(failure) => Err(failure.into()),
        }
    }

    async fn refund(
        &self,
        key: &IdempotencyKey,
        request: &RefundRequest,
    ) -> Result<Outcome<Operation>> {
        let expected = self.expected_operation(key, &request.reservation, request.amount)?;
        let body = self.expressible(mapping::refund(key, request))?;
        match self.client.create_refund(&body).await {
            Ok(answer) => self.fits(mapping::refund_outcome(&answer, &expected)),
            Err(failure) if failure.is_unprocessable() => {
                let (id, exceeds) = (expected.transaction, mapping::exceeds_capture);
                Err(self
                    .refused_amount(failure, id, request.amount, exceeds)
                    .await)
            }
            Err(failure) => Err(failure.into()),
        }
    }

    async fn lookup(&self, request: &LookupRequest) -> Result<Outcome<Payment>> {
        let id = self.expressible(mapping::transaction_id(&request.reservation))?;
        let expected = self.expected(Some(id), &request.reference, request.amount);
        self.read_payment(&expected, id).await
    }

    async fn find(&self, reference: &Reference) -> Result<Found<ReservationId>> {
        let page = self
            .client
            .transactions_by_reference(reference.as_str())
            .await?;
        match mapping::found(&page, reference, &self.settings) {
            Ok(id) => Ok(found(id)),
            Err(Some(misfit)) => Err(self.misfit(misfit)),
            Err(None) => Err(self.error(ErrorKind::Conflict, Delivery::Unknown)),
        }
    }

    async fn find_operation(
        &self,
        key: &IdempotencyKey,
        request: &OperationLookup,
    ) -> Result<Found<Outcome<Operation>>> {
        match request.kind {
            OperationKind::Capture => self.find_capture(key, request).await,
            OperationKind::Void => self.find_void(request).await,
            OperationKind::Refund => self.find_refund(key, request).await,
        }
    }

    async fn payment_of(
        &self,
        kind: OperationKind,
        object: &ObjectId,
    ) -> Result<Option<ReservationId>> {
        let id = self.expressible(mapping::object_id(object))?;
        if !self.reads.take(self.clock.now()) {
            return Err(self.error(ErrorKind::RateLimited, Delivery::NotSent));
        }
        let settings = &self.settings;
        let read = match kind {
            OperationKind::Capture => {
                let read = self.client.completion(id).await;
                read.map(|answer| mapping::transaction_of_completion(&answer, id, settings))
            }
            OperationKind::Void => {
                let read = self.client.one_void(id).await;
                read.map(|answer| mapping::transaction_of_void(&answer, id, settings))
            }
            OperationKind::Refund => {
                let read = self.client.refund(id).await;
                read.map(|answer| mapping::transaction_of_refund(&answer, id, settings))
            }
        };
        match read {
            Ok(transaction) => self.fits(transaction).map(Some),
            Err(failure) if failure.is(ErrorKind::NotFound) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn revoke(&self, token: &ProviderToken) -> Result<()> {
        let id = self.expressible(mapping::token_id(token))?;
        match self.client.delete_token(id).await {
            Ok(()) => Ok(()),
            Err(failure) if failure.is(ErrorKind::NotFound) => Ok(()),
            Err(failure) if failure.is_unprocessable() || failure.is_conflict() => {
                let answer = self.client.token(id).await.map_err(Failure::after_a_send)?;
                match self.fits(mapping::token_fate(&answer, id, &self.settings))? {
                    TokenFate::Gone => Ok(()),
                    TokenFate::Usable | TokenFate::Suspended => Err(failure.into()),
                }
            }
            Err(failure) => Err(failure.into()),
        }
    }

    fn token_kind(&self) -> &'static str {
        "token"
    }

    fn check_token(&self, token: &ProviderToken) -> std::result::Result<(), TokenFault> {
        mapping::check_token(token)
    }

    async fn verify_notification(
        &self,
        delivery: &RawNotification<'_>,
    ) -> std::result::Result<Notification, NotificationError> {
        let signature = Signature::from_headers(delivery.headers)?;
        let key = self.signing_key(&signature.key_id).await?;
        signature.verify(&key, delivery.body)?;
        notification::decode(delivery.body, self.settings.space)
    }
}

impl PostFinance {
    /// A payment that its customer concludes: as it stands, with the page's address as long as
    /// the customer has not been there.
    async fn look_at_customers(
        &self,
        expected: &Expected<'_>,
        id: i64,
    ) -> Result<Outcome<Payment>> {
        let outcome = self
            .read_payment(expected, id)
            .await
            .map_err(ProviderError::after_a_send)?;
        if let Outcome::Done(payment) = &outcome
            && payment.phase == PaymentPhase::Reserved
        {
            let page = self.payment_page(id).await?;
            return Ok(Outcome::ActionRequired(payment.clone(), page));
        }
        Ok(outcome)
    }
}

fn capabilities() -> Capabilities {
    Capabilities {
        // The merchant's contract decides (`supportedCurrencies` of each connector).
        currencies: None,
        partial_capture: true,
        several_captures: true,
        partial_refund: true,
        refund_per_capture: false,
        finds_by_sum: false,
        setup_takes_payment: true,
        reserve_holds: false,
        find_by_reference: true,
        repeat_setup: Repeat::AfterQuestion,
        repeat_reserve: Repeat::AfterQuestion,
        repeat_capture: Repeat::KeyedForever,
        repeat_void: Repeat::AfterQuestion,
        repeat_refund: Repeat::KeyedForever,
        longest_delay: LONGEST_DELAY,
        customer_window: CUSTOMER_WINDOW,
        page_moves_money: true,
    }
}

fn found<T>(answer: Option<T>) -> Found<T> {
    answer.map_or(Found::No, Found::Yes)
}
