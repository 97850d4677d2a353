use std::sync::Arc;
use std::time::Duration;

use cardless_contract::{
    BodySeal, Capabilities, CaptureMode, CaptureRequest, Clock, CommitRequest, Delivery, ErrorKind,
    Found, IdempotencyKey, Initiator, LookupRequest, Notification, NotificationError, ObjectId,
    Operation, OperationKind, OperationLookup, Outcome, Payment, PaymentPhase, PaymentProvider,
    PaymentRequest, ProviderCall, ProviderError, ProviderName, ProviderPlace, ProviderToken,
    Purpose, RawNotification, Reference, RefundRequest, Repeat, ReservationId, Result,
    SetupCompletion, SetupProgress, SetupReference, SetupRequest, SetupStarted, TokenFault,
    Unmapped, VoidRequest, async_trait,
};
use cardless_transport::{HttpClient, Transport};

use crate::auth::AccessTokens;
use crate::client::{Answer, CALLS, Client};
use crate::config::{Config, ConfigError, Environment, OrderFlow, TokenKind};
use crate::error::{Failure, Verdict};
use crate::mapping::{self, Expected, Habits, PathId, Unfit};
use crate::notification::Verifier;
use crate::wire;

/// How long PayPal keeps a request id of orders (`providers/paypal.md` §3).
const ORDERS_WINDOW: Duration = Duration::from_secs(6 * 3600);
/// The same for captures, voids and refunds.
const PAYMENTS_WINDOW: Duration = Duration::from_secs(45 * 24 * 3600);
/// The same for the vault.
const VAULT_WINDOW: Duration = Duration::from_secs(3 * 3600);
/// How long a customer has to approve: the shorter one of what the sources say (§6.4, §12).
const CUSTOMER_WINDOW: Duration = Duration::from_secs(3 * 3600);
/// How long a request can be on its way and still be carried out, clock skew included.
const LONGEST_DELAY: Duration = Duration::from_secs(120);

/// Who runs everything that is reached.
const OPERATOR: &str = "PayPal";
/// What one address is for that imitates all of PayPal.
const EVERY_PURPOSE: &[Purpose] = &[
    Purpose::Api,
    Purpose::AccessTokens,
    Purpose::WebhookKeys,
    Purpose::CustomerPage,
];

/// PayPal.
#[derive(Debug)]
pub struct PayPal {
    name: ProviderName,
    capabilities: Capabilities,
    client: Client,
    verifier: Verifier,
    habits: Habits,
    order_flow: OrderFlow,
    merchant: &'static str,
    clock: Arc<dyn Clock>,
}

impl PayPal {
    /// A way to PayPal by these settings, through `client`, with the time of `clock`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], which names the setting. Nothing is sent.
    pub fn new(
        config: Config,
        client: Arc<dyn HttpClient>,
        clock: Arc<dyn Clock>,
    ) -> std::result::Result<Self, ConfigError> {
        let hosts = config.hosts()?;
        let name = ProviderName::new("paypal").map_err(|_| ConfigError::Text("name"))?;
        let verifier = Verifier::new(
            name.clone(),
            config.environment,
            config.webhook_id.clone(),
            Arc::clone(&clock),
            config.intermediates()?,
            &config.roots()?,
        )
        .ok_or(ConfigError::Certificates("webhook_roots"))?;
        let tokens = AccessTokens::new(
            name.clone(),
            config.client_id,
            config.client_secret,
            Arc::clone(&clock),
        );
        let transport = Transport::new(name.clone(), client, hosts);
        Ok(Self {
            capabilities: capabilities(config.order_flow),
            client: Client::new(name.clone(), transport, tokens),
            verifier,
            habits: Habits {
                token_kind: config.token_kind,
                usage_pattern: config.usage_pattern,
                brand: config.brand,
                description: config.description,
            },
            order_flow: config.order_flow,
            merchant: match config.environment {
                Environment::Sandbox => "sandbox",
                Environment::Live => "live",
            },
            clock,
            name,
        })
    }
}

#[async_trait]
impl PaymentProvider for PayPal {
    fn name(&self) -> &ProviderName {
        &self.name
    }

    fn merchant(&self) -> &str {
        self.merchant
    }

    /// A setup is completed by the calls of the kind that it was begun with, and an order by those
    /// of its flow. Tokens tell their kind themselves.
    fn mode(&self) -> &str {
        match (self.habits.token_kind, self.order_flow) {
            (TokenKind::VaultV3, OrderFlow::TwoCalls) => "vault_v3 two_calls",
            (TokenKind::VaultV3, OrderFlow::OneCall) => "vault_v3 one_call",
            (TokenKind::BillingAgreement, OrderFlow::TwoCalls) => "billing_agreement two_calls",
            (TokenKind::BillingAgreement, OrderFlow::OneCall) => "billing_agreement one_call",
        }
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn calls(&self) -> &'static [ProviderCall] {
        CALLS
    }

    fn places(&self) -> Vec<ProviderPlace> {
        let hosts = self.client.hosts();
        if hosts.is_loopback() {
            return hosts.places(OPERATOR, |_| EVERY_PURPOSE);
        }
        let base = hosts.base().host_str();
        let keys = self.verifier.certificate_hosts();
        hosts.places(OPERATOR, |host| {
            match (base == Some(host), keys.contains(&host)) {
                (true, true) => &[Purpose::Api, Purpose::AccessTokens, Purpose::WebhookKeys],
                (true, false) => &[Purpose::Api, Purpose::AccessTokens],
                (false, true) => &[Purpose::WebhookKeys],
                (false, false) => &[Purpose::CustomerPage],
            }
        })
    }

    async fn probe(&self) -> Result<()> {
        self.client.probe().await
    }

    async fn begin_setup(
        &self,
        key: &IdempotencyKey,
        request: &SetupRequest,
    ) -> Result<Outcome<SetupStarted>> {
        if request.payment.is_some() {
            return Err(self.not_sent(ErrorKind::Unsupported));
        }
        match self.habits.token_kind {
            TokenKind::VaultV3 => self.begin_setup_token(key, request).await,
            TokenKind::BillingAgreement => self.begin_agreement(key, request).await,
        }
    }

    async fn complete_setup(
        &self,
        key: &IdempotencyKey,
        request: &SetupCompletion,
    ) -> Result<SetupProgress> {
        let id = PathId::vault(request.setup.as_str())
            .ok_or_else(|| self.not_sent(ErrorKind::InvalidRequest))?;
        match self.habits.token_kind {
            TokenKind::VaultV3 => self.complete_setup_token(key, request, id).await,
            TokenKind::BillingAgreement => self.complete_agreement(key, request).await,
        }
    }

    async fn reserve(
        &self,
        key: &IdempotencyKey,
        token: &ProviderToken,
        request: &PaymentRequest,
        _seal: &dyn BodySeal,
    ) -> Result<Outcome<ReservationId>> {
        // PayPal repeats by request id, not by bytes, so nothing is sealed.
        match self.order_flow {
            OrderFlow::TwoCalls => self.reserve_without_token(key, request).await,
            OrderFlow::OneCall => self.reserve_with_token(key, token, request).await,
        }
    }

    async fn commit(
        &self,
        key: &IdempotencyKey,
        token: &ProviderToken,
        request: &CommitRequest,
    ) -> Result<Outcome<Payment>> {
        match (self.order_flow, request.payment.initiator) {
            (OrderFlow::TwoCalls, Initiator::Merchant) => self.pay(key, Some(token), request).await,
            (OrderFlow::TwoCalls, Initiator::Customer) => {
                self.pay_with_customer(key, token, request).await
            }
            (OrderFlow::OneCall, _) => self.take_hold(key, request).await,
        }
    }

    async fn capture(
        &self,
        key: &IdempotencyKey,
        request: &CaptureRequest,
    ) -> Result<Outcome<Operation>> {
        let amount = self.amount(request.amount)?;
        let held = self
            .hold_of(&request.reservation, request.authorization.as_ref())
            .await?;
        let held = held.ok_or_else(|| self.not_sent(ErrorKind::Conflict))?;
        let body = wire::CaptureRequest {
            amount,
            invoice_id: Some(request.reference.as_str()),
            final_capture: request.last,
        };
        let sent = self
            .client
            .capture_authorization(&key.with("c"), &held, &body)
            .await?;
        let reference = request.payment_reference.as_str();
        self.operation(sent, |capture: wire::Capture| {
            if mapping::waits_for_merchant(&capture) {
                warn_of_waiting();
            }
            mapping::capture(&capture, reference, request.amount)
        })
    }

    async fn void(
        &self,
        key: &IdempotencyKey,
        request: &VoidRequest,
    ) -> Result<Outcome<Operation>> {
        let held = self
            .hold_of(&request.reservation, request.authorization.as_ref())
            .await?;
        let Some(held) = held else {
            return self.nothing_to_void(request).await;
        };
        let done = Operation {
            id: Some(held.clone()),
            amount: None,
        };
        let reference = request.payment_reference.as_str();
        match self
            .client
            .void_authorization(&key.with("v"), &held)
            .await?
        {
            Answer::Given(None) => Ok(Outcome::Done(done)),
            Answer::Given(Some(answer)) => self.voided(&answer, &held, reference, request),
            Answer::Refused(failure) if has_ended(&failure) => {
                // Done by an earlier send of ours, or lapsed or captured meanwhile: its state says
                // which.
                let read = self.client.authorization(&held).await;
                let answer = self.given(read.map_err(ProviderError::after_a_send)?);
                self.voided(
                    &answer.map_err(ProviderError::after_a_send)?,
                    &held,
                    reference,
                    request,
                )
            }
            Answer::Refused(failure) => self.refused(failure),
        }
    }

    async fn refund(
        &self,
        key: &IdempotencyKey,
        request: &RefundRequest,
    ) -> Result<Outcome<Operation>> {
        let amount = self.amount(request.amount)?;
        let capture = match &request.capture {
            Some(id) => id.clone(),
            None => self.only_capture(&request.reservation).await?,
        };
        let body = wire::RefundRequest {
            amount,
            custom_id: request.reference.as_str(),
        };
        let sent = self
            .client
            .refund_capture(&key.with("r"), &capture, &body)
            .await?;
        let reference = request.reference.as_str();
        self.operation(sent, |refund| {
            mapping::refund(&refund, reference, request.amount)
        })
    }

    async fn lookup(&self, request: &LookupRequest) -> Result<Outcome<Payment>> {
        let expected = Expected {
            reservation: &request.reservation,
            reference: request.reference.as_str(),
            amount: request.amount,
        };
        self.look(expected).await
    }

    async fn find(&self, _reference: &Reference) -> Result<Found<ReservationId>> {
        // PayPal has no search by our reference (`providers/paypal.md` §7).
        Ok(Found::CannotTell)
    }

    async fn find_operation(
        &self,
        _key: &IdempotencyKey,
        request: &OperationLookup,
    ) -> Result<Found<Outcome<Operation>>> {
        match request.kind {
            OperationKind::Void => self.find_void(request).await,
            OperationKind::Capture => self.find_capture(request).await,
            OperationKind::Refund => self.find_refund(request).await,
        }
    }

    /// Notifications name the payment.
    async fn payment_of(&self, _: OperationKind, _: &ObjectId) -> Result<Option<ReservationId>> {
        Ok(None)
    }

    async fn revoke(&self, token: &ProviderToken) -> Result<()> {
        let id = PathId::vault(token.expose())
            .ok_or_else(|| self.not_sent(ErrorKind::InvalidRequest))?;
        let kind = mapping::kind_of(token.expose());
        let answer = match kind.unwrap_or(self.habits.token_kind) {
            TokenKind::VaultV3 => self.client.delete_payment_token(id).await?,
            TokenKind::BillingAgreement => self.client.cancel_agreement(id).await?,
        };
        match answer {
            Answer::Given(()) => Ok(()),
            Answer::Refused(failure) => self.unless_gone(failure, kind.is_some()),
        }
    }

    fn token_kind(&self) -> &'static str {
        self.habits.token_kind.as_str()
    }

    fn kind_of(&self, token: &ProviderToken) -> &'static str {
        let kind = mapping::kind_of(token.expose());
        kind.unwrap_or(self.habits.token_kind).as_str()
    }

    fn check_token(&self, token: &ProviderToken) -> std::result::Result<(), TokenFault> {
        mapping::check_token(&self.habits, token)
    }

    async fn verify_notification(
        &self,
        delivery: &RawNotification<'_>,
    ) -> std::result::Result<Notification, NotificationError> {
        self.verifier
            .verify(self.client.transport(), delivery)
            .await
    }
}

/// Reserve and commit.
impl PayPal {
    /// An order without a payment source: no money can move.
    async fn reserve_without_token(
        &self,
        key: &IdempotencyKey,
        request: &PaymentRequest,
    ) -> Result<Outcome<ReservationId>> {
        let amount = self.amount(request.amount)?;
        let body = mapping::order(request, mapping::intent(request.capture), amount, None);
        match self.client.create_order(&key.with("o"), &body).await? {
            Answer::Given(order) => self.created(&order, request),
            Answer::Refused(failure) => self.refused(failure),
        }
    }

    /// An order that holds the amount at once, and never takes it.
    async fn reserve_with_token(
        &self,
        key: &IdempotencyKey,
        token: &ProviderToken,
        request: &PaymentRequest,
    ) -> Result<Outcome<ReservationId>> {
        let amount = self.amount(request.amount)?;
        let source = Some(self.source(token, request)?);
        let body = mapping::order(request, "AUTHORIZE", amount, source);
        let order = match self.client.create_order(&key.with("o"), &body).await? {
            Answer::Given(order) => order,
            Answer::Refused(failure) => return self.refused(failure),
        };
        let created = self.created(&order, request)?;
        let Outcome::Done(id) = &created else {
            return Ok(created);
        };
        // The order has left with its token, so whatever fails from here on is unknown.
        let outcome = self.hold(key, &order, expected(id, request)).await;
        let outcome = outcome.map_err(ProviderError::after_a_send)?;
        Ok(outcome.map(|payment| payment.reservation))
    }

    /// Takes what `reserve` holds; for a manual capture the hold is the result.
    async fn take_hold(
        &self,
        key: &IdempotencyKey,
        request: &CommitRequest,
    ) -> Result<Outcome<Payment>> {
        let expected = expected(&request.reservation, &request.payment);
        let order = self.read_first(expected).await?;
        let outcome = self.hold(key, &order, expected).await?;
        match (outcome, request.payment.capture) {
            (Outcome::Done(held), CaptureMode::Automatic)
                if held.phase == PaymentPhase::Authorized =>
            {
                self.take_all(key, held, expected).await
            }
            (outcome, _) => Ok(outcome),
        }
    }

    /// The one-call flow may leave an order without its authorize call: then it is made up for.
    async fn hold(
        &self,
        key: &IdempotencyKey,
        order: &wire::Order,
        expected: Expected<'_>,
    ) -> Result<Outcome<Payment>> {
        let outcome = self.payment(order, expected)?;
        if is_done_at(&outcome, PaymentPhase::Reserved) {
            self.authorize(key, expected).await
        } else {
            Ok(outcome)
        }
    }

    async fn take_all(
        &self,
        key: &IdempotencyKey,
        held: Payment,
        expected: Expected<'_>,
    ) -> Result<Outcome<Payment>> {
        let Some(authorization) = held.authorization.clone() else {
            return Err(self.unfit(Unfit("authorization.id")));
        };
        let body = wire::CaptureRequest {
            amount: self.amount(expected.amount)?,
            invoice_id: None,
            final_capture: true,
        };
        let sent = self
            .client
            .capture_authorization(&key.with("c"), &authorization, &body)
            .await?;
        let outcome = self.operation(sent, |capture| {
            mapping::capture(&capture, expected.reference, expected.amount)
        })?;
        if matches!(outcome, Outcome::Done(_) | Outcome::Pending(_)) {
            // The order shows sums and dates; the answer shows only its own capture.
            return self
                .look(expected)
                .await
                .map_err(ProviderError::after_a_send);
        }
        Ok(outcome.map(|_| held))
    }

    /// Authorizes an order that has its payment source already.
    async fn authorize(
        &self,
        key: &IdempotencyKey,
        expected: Expected<'_>,
    ) -> Result<Outcome<Payment>> {
        let body = wire::PayOrderRequest {
            payment_source: None,
        };
        let sent = self
            .client
            .authorize_order(&key.with("a"), expected.reservation, &body)
            .await?;
        self.conclude(sent, expected).await
    }

    /// A customer who is present may have approved since the last call, so the order is read
    /// first; an approved one is paid with the source that it has, under a key of its own.
    async fn pay_with_customer(
        &self,
        key: &IdempotencyKey,
        token: &ProviderToken,
        request: &CommitRequest,
    ) -> Result<Outcome<Payment>> {
        let expected = expected(&request.reservation, &request.payment);
        let order = self.read_first(expected).await?;
        match order.status.as_str() {
            "CREATED" | "SAVED" => self.pay(key, Some(token), request).await,
            "APPROVED" => self.pay(&key.with("p"), None, request).await,
            _ => self.payment(&order, expected),
        }
    }

    /// Captures or authorizes the order. The order itself guards against a second time.
    async fn pay(
        &self,
        key: &IdempotencyKey,
        token: Option<&ProviderToken>,
        request: &CommitRequest,
    ) -> Result<Outcome<Payment>> {
        let id = &request.reservation;
        let payment_source = token
            .map(|token| self.source(token, &request.payment))
            .transpose()?;
        let body = wire::PayOrderRequest { payment_source };
        let sent = match request.payment.capture {
            CaptureMode::Automatic => self.client.capture_order(&key.with("c"), id, &body).await?,
            CaptureMode::Manual => {
                self.client
                    .authorize_order(&key.with("a"), id, &body)
                    .await?
            }
        };
        self.conclude(sent, expected(id, &request.payment)).await
    }

    /// What capture order or authorize order answered.
    async fn conclude(
        &self,
        sent: Answer<wire::Order>,
        expected: Expected<'_>,
    ) -> Result<Outcome<Payment>> {
        let failure = match sent {
            Answer::Given(order) => return self.payment(&order, expected).map(still_working),
            Answer::Refused(failure) => failure,
        };
        match failure.verdict {
            Verdict::AlreadyDone => {
                let outcome = self
                    .look(expected)
                    .await
                    .map_err(ProviderError::after_a_send)?;
                if is_done_at(&outcome, PaymentPhase::Reserved) {
                    // PayPal says "already done", and the order shows nothing done.
                    return Err(failure.into_error(&self.name));
                }
                Ok(outcome)
            }
            Verdict::CustomerAction => self.customer_action(failure, expected).await,
            Verdict::Declined(..) | Verdict::Error(..) => self.refused(failure),
        }
    }

    /// Where to send the customer: by the answer's link, or by the order's.
    async fn customer_action(
        &self,
        failure: Failure,
        expected: Expected<'_>,
    ) -> Result<Outcome<Payment>> {
        let link = mapping::link(self.client.hosts(), &failure.links, mapping::CUSTOMER_RELS);
        if let Some(url) = link.map_err(|unfit| self.unfit(unfit))? {
            let payment = mapping::nothing_moved(expected, PaymentPhase::Reserved);
            return Ok(Outcome::ActionRequired(payment, url));
        }
        let outcome = self
            .look(expected)
            .await
            .map_err(ProviderError::after_a_send)?;
        let is_open = matches!(&outcome, Outcome::Done(payment) | Outcome::Pending(payment)
            if payment.phase == PaymentPhase::Reserved);
        Ok(if is_open {
            Outcome::Declined(failure.customer_needed())
        } else {
            outcome
        })
    }

    fn created(
        &self,
        order: &wire::Order,
        request: &PaymentRequest,
    ) -> Result<Outcome<ReservationId>> {
        let reference = request.reference.as_str();
        mapping::created(order, reference, request.amount).map_err(|unfit| self.unfit(unfit))
    }

    fn payment(&self, order: &wire::Order, expected: Expected<'_>) -> Result<Outcome<Payment>> {
        let captures = |unit: &wire::PurchaseUnit| {
            let mut all = unit.payments.captures.iter();
            all.any(mapping::waits_for_merchant)
        };
        if order.purchase_units.iter().any(captures) {
            warn_of_waiting();
        }
        mapping::payment(order, expected, self.client.hosts(), self.clock.now())
            .map_err(|unfit| self.unfit(unfit))
    }

    async fn look(&self, expected: Expected<'_>) -> Result<Outcome<Payment>> {
        let order = self.order(expected.reservation).await?;
        self.payment(&order, expected)
    }

    /// Reads an order, and no other one.
    async fn order(&self, id: &ReservationId) -> Result<wire::Order> {
        let order = self.given(self.client.order(id).await?)?;
        self.is(&order.id, id.as_str(), "order.id")?;
        Ok(order)
    }

    /// Reads the order before anything is sent in this call. An earlier call may have been sent,
    /// so only a read that never left is `NotSent`.
    async fn read_first(&self, expected: Expected<'_>) -> Result<wire::Order> {
        let read = self.order(expected.reservation).await;
        read.map_err(|error| match error.delivery() {
            Delivery::NotSent => error,
            Delivery::Unknown | Delivery::Refused => error.after_a_send(),
        })
    }
}

/// Captures, voids, refunds.
impl PayPal {
    /// The authorization to act on. Nothing has been sent by then.
    async fn hold_of(
        &self,
        order: &ReservationId,
        known: Option<&ObjectId>,
    ) -> Result<Option<ObjectId>> {
        if let Some(known) = known {
            return Ok(Some(known.clone()));
        }
        let order = self.read_before_send(order).await?;
        mapping::authorization_of(&order).map_err(|_| self.not_sent(ErrorKind::UnreadableAnswer))
    }

    async fn only_capture(&self, order: &ReservationId) -> Result<ObjectId> {
        let order = self.read_before_send(order).await?;
        let only = mapping::capture_of(&order);
        let only = only.map_err(|_| self.not_sent(ErrorKind::UnreadableAnswer))?;
        only.ok_or_else(|| self.not_sent(ErrorKind::Conflict))
    }

    /// A read that a mutating call needs first: when it fails, that call has not left.
    async fn read_before_send(&self, order: &ReservationId) -> Result<wire::Order> {
        let read = self.order(order).await;
        read.map_err(|error| self.not_sent(error.kind()))
    }

    /// An order that holds nothing has nothing to release, unless money was taken already.
    async fn nothing_to_void(&self, request: &VoidRequest) -> Result<Outcome<Operation>> {
        let expected = Expected {
            reservation: &request.reservation,
            reference: request.payment_reference.as_str(),
            amount: request.authorized,
        };
        let nothing = Operation {
            id: None,
            amount: None,
        };
        let outcome = self.look(expected).await;
        let outcome = outcome.map_err(|error| self.not_sent(error.kind()))?;
        if is_done_at(&outcome, PaymentPhase::Captured) {
            return Err(self.error(ErrorKind::Conflict, Delivery::Refused));
        }
        if is_done_at(&outcome, PaymentPhase::Authorized) {
            // It came between the two reads, so there is something to release after all.
            return Err(self.not_sent(ErrorKind::Conflict));
        }
        let is_nothing = matches!(
            outcome,
            Outcome::Done(_) | Outcome::ActionRequired(..) | Outcome::Declined(_)
        );
        Ok(if is_nothing {
            Outcome::Done(nothing)
        } else {
            outcome.map(|_| nothing)
        })
    }

    fn voided(
        &self,
        answer: &wire::Authorization,
        held: &ObjectId,
        reference: &str,
        request: &VoidRequest,
    ) -> Result<Outcome<Operation>> {
        self.is(&answer.id, held.as_str(), "authorization.id")?;
        let state = mapping::voided(answer, reference, request.authorized);
        let state = state.map_err(|unfit| self.unfit(unfit))?;
        state.ok_or_else(|| self.error(ErrorKind::Conflict, Delivery::Unknown))
    }

    async fn find_void(&self, request: &OperationLookup) -> Result<Found<Outcome<Operation>>> {
        let known = request.authorization.as_ref().or(request.id.as_ref());
        let Some(held) = self.hold_of(&request.reservation, known).await? else {
            return Ok(Found::No);
        };
        let answer = self.given(self.client.authorization(&held).await?)?;
        self.is(&answer.id, held.as_str(), "authorization.id")?;
        let reference = request.payment_reference.as_str();
        let state = mapping::voided(&answer, reference, request.amount);
        let state = state.map_err(|unfit| self.unfit(unfit))?;
        Ok(state.map_or(Found::No, Found::Yes))
    }

    async fn find_capture(&self, request: &OperationLookup) -> Result<Found<Outcome<Operation>>> {
        let payment = request.payment_reference.as_str();
        if let Some(id) = &request.id {
            let capture = self.given(self.client.capture(id).await?)?;
            self.is(&capture.id, id.as_str(), "capture.id")?;
            let outcome = mapping::capture(&capture, payment, request.amount);
            return outcome.map(Found::Yes).map_err(|unfit| self.unfit(unfit));
        }
        let order = self.order(&request.reservation).await?;
        let reference = request.reference.as_str();
        mapping::find_capture(&order, payment, reference, request.amount)
            .map_err(|unfit| self.unfit(unfit))
    }

    async fn find_refund(&self, request: &OperationLookup) -> Result<Found<Outcome<Operation>>> {
        let reference = request.reference.as_str();
        if let Some(id) = &request.id {
            let refund = self.given(self.client.refund(id).await?)?;
            self.is(&refund.id, id.as_str(), "refund.id")?;
            let outcome = mapping::refund(&refund, reference, request.amount);
            return outcome.map(Found::Yes).map_err(|unfit| self.unfit(unfit));
        }
        let order = self.order(&request.reservation).await?;
        mapping::find_refund(&order, reference, request.amount).map_err(|unfit| self.unfit(unfit))
    }

    fn operation<T>(
        &self,
        answer: Answer<T>,
        read: impl FnOnce(T) -> std::result::Result<Outcome<Operation>, Unfit>,
    ) -> Result<Outcome<Operation>> {
        match answer {
            Answer::Given(object) => read(object).map_err(|unfit| self.unfit(unfit)),
            Answer::Refused(failure) => self.refused(failure),
        }
    }
}

/// Setups.
impl PayPal {
    async fn begin_setup_token(
        &self,
        key: &IdempotencyKey,
        request: &SetupRequest,
    ) -> Result<Outcome<SetupStarted>> {
        let body = mapping::setup_token(&self.habits, request);
        match self
            .client
            .create_setup_token(&key.with("s"), &body)
            .await?
        {
            Answer::Given(token) => self.started(request, &token.id, &token.links, "approve"),
            Answer::Refused(failure) => self.refused(failure),
        }
    }

    async fn begin_agreement(
        &self,
        key: &IdempotencyKey,
        request: &SetupRequest,
    ) -> Result<Outcome<SetupStarted>> {
        let body = mapping::agreement_token(&self.habits, request);
        match self
            .client
            .create_agreement_token(&key.with("s"), &body)
            .await?
        {
            Answer::Given(token) => {
                self.started(request, &token.token_id, &token.links, "approval_url")
            }
            Answer::Refused(failure) => self.refused(failure),
        }
    }

    fn started(
        &self,
        request: &SetupRequest,
        id: &str,
        links: &[wire::Link],
        rel: &'static str,
    ) -> Result<Outcome<SetupStarted>> {
        let redirect = mapping::link(self.client.hosts(), links, &[rel])
            .and_then(|link| link.ok_or(Unfit("links")))
            .map_err(|unfit| self.unfit(unfit))?;
        let setup = PathId::vault(id).and_then(|id| SetupReference::new(id.to_string()).ok());
        Ok(Outcome::Done(SetupStarted {
            setup: setup.ok_or_else(|| self.unfit(Unfit("setup_token.id")))?,
            redirect,
            expires_at: request.at.plus(CUSTOMER_WINDOW),
        }))
    }

    async fn complete_setup_token(
        &self,
        key: &IdempotencyKey,
        request: &SetupCompletion,
        id: PathId<'_>,
    ) -> Result<SetupProgress> {
        let setup = self.given(self.client.setup_token(id).await?)?;
        if setup.id != request.setup.as_str() {
            return Err(self.unfit(Unfit("setup_token.id")));
        }
        match setup.status.as_str() {
            "CREATED" | "PAYER_ACTION_REQUIRED" => Ok(SetupProgress::AwaitingCustomer),
            "APPROVED" | "VAULTED" | "TOKENIZED" => self.convert(key, request, &setup).await,
            word => Ok(SetupProgress::Unmapped(Unmapped::new(
                "setup_token.status",
                word,
            ))),
        }
    }

    /// Makes the payment token. Under the same key PayPal answers with the first one; later it
    /// says that it was made already, and the customer's list shows it.
    async fn convert(
        &self,
        key: &IdempotencyKey,
        request: &SetupCompletion,
        setup: &wire::SetupToken,
    ) -> Result<SetupProgress> {
        let body = wire::PaymentTokenRequest {
            payment_source: wire::PaymentTokenSource {
                token: wire::TokenId {
                    id: request.setup.as_str(),
                    kind: "SETUP_TOKEN",
                },
            },
        };
        match self
            .client
            .create_payment_token(&key.with("t"), &body)
            .await?
        {
            Answer::Given(token) => self.linked(&token.id, TokenKind::VaultV3),
            Answer::Refused(failure) if failure.is("SETUP_TOKEN_ALREADY_TOKENIZED") => {
                let listed = self.token_of_customer(setup, failure).await;
                listed.map_err(ProviderError::after_a_send)
            }
            Answer::Refused(failure) => self.unless_awaiting(failure),
        }
    }

    /// The token that was made and whose answer we lost. Each of our setups has a customer of its
    /// own at PayPal, so there is one; among several none is taken by guess.
    async fn token_of_customer(
        &self,
        setup: &wire::SetupToken,
        failure: Failure,
    ) -> Result<SetupProgress> {
        let customer = setup
            .customer
            .as_ref()
            .and_then(|customer| customer.id.as_deref());
        let Some(customer) = customer.and_then(PathId::vault) else {
            return Err(failure.into_error(&self.name));
        };
        let listed = self.given(self.client.payment_tokens(customer).await?)?;
        match listed.payment_tokens.as_slice() {
            [only] => self.linked(&only.id, TokenKind::VaultV3),
            [] => Ok(SetupProgress::NoToken),
            _ => Err(self.error(ErrorKind::Conflict, Delivery::Unknown)),
        }
    }

    async fn complete_agreement(
        &self,
        key: &IdempotencyKey,
        request: &SetupCompletion,
    ) -> Result<SetupProgress> {
        let body = wire::AgreementRequest {
            token_id: request.setup.as_str(),
        };
        match self.client.create_agreement(&key.with("t"), &body).await? {
            Answer::Given(agreement) => match agreement.state.to_ascii_uppercase().as_str() {
                "ACTIVE" => self.linked(&agreement.id, TokenKind::BillingAgreement),
                "PENDING" => Ok(SetupProgress::Pending),
                word => Ok(SetupProgress::Unmapped(Unmapped::new(
                    "agreement.state",
                    word,
                ))),
            },
            Answer::Refused(failure) => self.unless_awaiting(failure),
        }
    }

    /// A token whose shape does not tell its kind could be neither charged nor revoked for sure.
    fn linked(&self, id: &str, kind: TokenKind) -> Result<SetupProgress> {
        let told = PathId::vault(id).filter(|_| mapping::kind_of(id) == Some(kind));
        let token = told.and_then(|id| ProviderToken::new(id.to_string()));
        let token = token.ok_or_else(|| self.unfit(Unfit("payment_token.id")))?;
        Ok(SetupProgress::Linked(token))
    }

    /// The customer has not agreed yet; or else an error.
    fn unless_awaiting(&self, failure: Failure) -> Result<SetupProgress> {
        match failure.verdict {
            Verdict::CustomerAction => Ok(SetupProgress::AwaitingCustomer),
            Verdict::Declined(..) | Verdict::AlreadyDone | Verdict::Error(..) => {
                Err(failure.into_error(&self.name))
            }
        }
    }

    /// A token that PayPal does not know, or has cancelled, is revoked: if it was asked for where
    /// tokens of its kind are. Elsewhere nothing knows it either, and it may still be charged.
    fn unless_gone(&self, failure: Failure, kind_is_certain: bool) -> Result<()> {
        let is_unknown = matches!(failure.verdict, Verdict::Error(ErrorKind::NotFound, _));
        match (is_unknown || failure.is_unknown_token(), kind_is_certain) {
            (true, true) => Ok(()),
            (true, false) => Err(self.error(ErrorKind::Conflict, Delivery::Refused)),
            (false, _) => Err(failure.into_error(&self.name)),
        }
    }
}

/// Small steps.
impl PayPal {
    fn amount(&self, money: cardless_contract::Money) -> Result<wire::Amount> {
        let amount = mapping::amount(&self.capabilities, money);
        amount.ok_or_else(|| self.not_sent(ErrorKind::Unsupported))
    }

    fn source<'a>(
        &'a self,
        token: &'a ProviderToken,
        request: &'a PaymentRequest,
    ) -> Result<wire::PaymentSource<'a>> {
        let source = mapping::source(&self.habits, token, request);
        source.ok_or_else(|| self.not_sent(ErrorKind::InvalidRequest))
    }

    fn given<T>(&self, answer: Answer<T>) -> Result<T> {
        match answer {
            Answer::Given(object) => Ok(object),
            Answer::Refused(failure) => Err(failure.into_error(&self.name)),
        }
    }

    /// A refusal by code: a decline is an outcome, all else an error.
    fn refused<T>(&self, failure: Failure) -> Result<Outcome<T>> {
        match (failure.decline(), failure.verdict) {
            (Some(decline), _) => Ok(Outcome::Declined(decline)),
            (None, Verdict::CustomerAction) => Ok(Outcome::Declined(failure.customer_needed())),
            (None, _) => Err(failure.into_error(&self.name)),
        }
    }

    /// An answer about another object than the one asked for is none.
    fn is(&self, answered: &str, asked: &str, field: &'static str) -> Result<()> {
        if answered == asked {
            Ok(())
        } else {
            Err(self.unfit(Unfit(field)))
        }
    }

    fn unfit(&self, unfit: Unfit) -> ProviderError {
        self.error(ErrorKind::UnreadableAnswer, Delivery::Unknown)
            .with_source(unfit.0)
    }

    fn not_sent(&self, kind: ErrorKind) -> ProviderError {
        self.error(kind, Delivery::NotSent)
    }

    fn error(&self, kind: ErrorKind, delivery: Delivery) -> ProviderError {
        ProviderError::new(self.name.clone(), kind, delivery)
    }
}

fn expected<'a>(reservation: &'a ReservationId, request: &'a PaymentRequest) -> Expected<'a> {
    Expected {
        reservation,
        reference: request.reference.as_str(),
        amount: request.amount,
    }
}

/// A set-up fault that is nobody's error and that nobody else tells.
fn warn_of_waiting() {
    tracing::warn!(
        provider = "paypal",
        "a capture waits until the merchant accepts its currency in the PayPal account"
    );
}

/// A void's refusal that says that the authorization has ended already.
fn has_ended(failure: &Failure) -> bool {
    failure.verdict == Verdict::AlreadyDone
        || ["AUTHORIZATION_VOIDED", "AUTHORIZATION_EXPIRED"]
            .into_iter()
            .any(|issue| failure.is(issue))
}

fn is_done_at(outcome: &Outcome<Payment>, phase: PaymentPhase) -> bool {
    matches!(outcome, Outcome::Done(payment) if payment.phase == phase)
}

/// An accepted call that has left the order open is not concluded.
fn still_working(outcome: Outcome<Payment>) -> Outcome<Payment> {
    if let Outcome::Done(payment) = &outcome
        && payment.phase == PaymentPhase::Reserved
    {
        return Outcome::Pending(payment.clone());
    }
    outcome
}

const fn capabilities(order_flow: OrderFlow) -> Capabilities {
    Capabilities {
        currencies: Some(mapping::CURRENCIES),
        partial_capture: true,
        several_captures: true,
        partial_refund: true,
        refund_per_capture: true,
        finds_by_sum: false,
        setup_takes_payment: false,
        reserve_holds: matches!(order_flow, OrderFlow::OneCall),
        find_by_reference: false,
        repeat_setup: Repeat::Keyed(VAULT_WINDOW),
        repeat_reserve: Repeat::Keyed(ORDERS_WINDOW),
        repeat_capture: Repeat::Keyed(PAYMENTS_WINDOW),
        repeat_void: Repeat::Keyed(PAYMENTS_WINDOW),
        repeat_refund: Repeat::Keyed(PAYMENTS_WINDOW),
        longest_delay: LONGEST_DELAY,
        customer_window: CUSTOMER_WINDOW,
        // An approval moves nothing: the capture or authorize call that follows does (§6.4).
        page_moves_money: false,
    }
}
