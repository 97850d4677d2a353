//! The suite's own proof: an adapter that claims too much, or says more than it knows, fails.

use cardless_contract::{
    BodySeal, Capabilities, CaptureRequest, CommitRequest, Delivery, Found, IdempotencyKey,
    LookupRequest, Notification, NotificationError, ObjectId, Operation, OperationKind,
    OperationLookup, Outcome, Payment, PaymentProvider, PaymentRequest, ProviderCall, ProviderName,
    ProviderPlace, ProviderToken, RawNotification, Reference, RefundRequest, ReservationId, Result,
    SetupCompletion, SetupProgress, SetupRequest, SetupStarted, TokenFault, VoidRequest,
    async_trait,
};
use cardless_testkit::cases::sandbox::{
    a_lost_reply_moves_once, a_manual_charge_is_captured_in_parts,
    a_payment_is_found_by_reference_where_claimed, reserve_holds_what_it_claims,
    revoking_twice_is_done, tampered_notifications_are_refused,
};

use crate::around::fixture_around;
use crate::sandboxed::{self, Sandboxed};

#[tokio::test(start_paused = true)]
#[should_panic(expected = "CannotTell")]
async fn a_search_that_is_only_claimed_fails() {
    let claim = |claims: &mut Capabilities| claims.find_by_reference = true;
    let liar = Liar::new(sandboxed::aduno(), claim);
    a_payment_is_found_by_reference_where_claimed(&liar).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "Unsupported")]
async fn several_captures_that_are_only_claimed_fail() {
    let claim = |claims: &mut Capabilities| claims.several_captures = true;
    let liar = Liar::new(sandboxed::aduno(), claim);
    a_manual_charge_is_captured_in_parts(&liar).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "assertion `left == right` failed")]
async fn a_hold_that_is_kept_quiet_fails() {
    let claim = |claims: &mut Capabilities| claims.reserve_holds = false;
    let liar = Liar::new(sandboxed::aduno(), claim);
    reserve_holds_what_it_claims(&liar).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "begin_setup")]
async fn an_unknown_that_is_called_refused_fails() {
    a_lost_reply_moves_once(&Liar::new(sandboxed::aduno(), |_| {})).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "a changed body")]
async fn a_signature_that_is_not_checked_fails() {
    tampered_notifications_are_refused(&Liar::new(sandboxed::aduno(), |_| {})).await;
}

#[tokio::test(start_paused = true)]
async fn what_it_does_not_lie_about_passes() {
    revoking_twice_is_done(&Liar::new(sandboxed::aduno(), |_| {})).await;
}

/// An honest adapter behind false claims: what is unknown it calls refused, and every webhook it
/// calls genuine.
struct Liar {
    truth: Sandboxed,
    provider: LyingProvider,
}

#[derive(Debug)]
struct LyingProvider {
    truth: Box<dyn PaymentProvider>,
    claims: Capabilities,
}

impl Liar {
    fn new(truth: Sandboxed, claim: impl FnOnce(&mut Capabilities)) -> Self {
        let honest = truth.another();
        let mut claims = honest.capabilities().clone();
        claim(&mut claims);
        Self {
            truth,
            provider: LyingProvider {
                truth: honest,
                claims,
            },
        }
    }
}

fixture_around!(Liar);

/// The lie: nobody knows, and it says that nothing happened.
fn refused<T>(result: Result<T>) -> Result<T> {
    result.map_err(|error| {
        cardless_contract::ProviderError::new(
            error.provider().clone(),
            error.kind(),
            Delivery::Refused,
        )
    })
}

#[async_trait]
impl PaymentProvider for LyingProvider {
    fn name(&self) -> &ProviderName {
        self.truth.name()
    }

    fn merchant(&self) -> &str {
        self.truth.merchant()
    }

    fn mode(&self) -> &str {
        self.truth.mode()
    }

    fn capabilities(&self) -> &Capabilities {
        &self.claims
    }

    fn calls(&self) -> &'static [ProviderCall] {
        self.truth.calls()
    }

    fn places(&self) -> Vec<ProviderPlace> {
        self.truth.places()
    }

    async fn probe(&self) -> Result<()> {
        self.truth.probe().await
    }

    async fn begin_setup(
        &self,
        key: &IdempotencyKey,
        request: &SetupRequest,
    ) -> Result<Outcome<SetupStarted>> {
        refused(self.truth.begin_setup(key, request).await)
    }

    async fn complete_setup(
        &self,
        key: &IdempotencyKey,
        request: &SetupCompletion,
    ) -> Result<SetupProgress> {
        self.truth.complete_setup(key, request).await
    }

    async fn reserve(
        &self,
        key: &IdempotencyKey,
        token: &ProviderToken,
        request: &PaymentRequest,
        seal: &dyn BodySeal,
    ) -> Result<Outcome<ReservationId>> {
        self.truth.reserve(key, token, request, seal).await
    }

    async fn commit(
        &self,
        key: &IdempotencyKey,
        token: &ProviderToken,
        request: &CommitRequest,
    ) -> Result<Outcome<Payment>> {
        self.truth.commit(key, token, request).await
    }

    async fn capture(
        &self,
        key: &IdempotencyKey,
        request: &CaptureRequest,
    ) -> Result<Outcome<Operation>> {
        self.truth.capture(key, request).await
    }

    async fn void(
        &self,
        key: &IdempotencyKey,
        request: &VoidRequest,
    ) -> Result<Outcome<Operation>> {
        self.truth.void(key, request).await
    }

    async fn refund(
        &self,
        key: &IdempotencyKey,
        request: &RefundRequest,
    ) -> Result<Outcome<Operation>> {
        self.truth.refund(key, request).await
    }

    async fn lookup(&self, request: &LookupRequest) -> Result<Outcome<Payment>> {
        self.truth.lookup(request).await
    }

    async fn find(&self, reference: &Reference) -> Result<Found<ReservationId>> {
        self.truth.find(reference).await
    }

    async fn find_operation(
        &self,
        key: &IdempotencyKey,
        request: &OperationLookup,
    ) -> Result<Found<Outcome<Operation>>> {
        self.truth.find_operation(key, request).await
    }

    async fn payment_of(
        &self,
        kind: OperationKind,
        object: &ObjectId,
    ) -> Result<Option<ReservationId>> {
        self.truth.payment_of(kind, object).await
    }

    async fn revoke(&self, token: &ProviderToken) -> Result<()> {
        self.truth.revoke(token).await
    }

    fn token_kind(&self) -> &'static str {
        self.truth.token_kind()
    }

    fn kind_of(&self, token: &ProviderToken) -> &'static str {
        self.truth.kind_of(token)
    }

    fn check_token(&self, token: &ProviderToken) -> std::result::Result<(), TokenFault> {
        self.truth.check_token(token)
    }

    async fn verify_notification(
        &self,
        delivery: &RawNotification<'_>,
    ) -> std::result::Result<Notification, NotificationError> {
        match self.truth.verify_notification(delivery).await {
            Err(NotificationError::Signature) => Ok(Notification {
                event_id: "believed".to_owned(),
                subject: cardless_contract::Subject::Other,
            }),
            honest => honest,
        }
    }
}
