//! What adapters declare of their calls is what they do: every case of the suite on the sandbox,
//! with all of the settings that add a field.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cardless_contract::{
    BodySeal, Capabilities, CaptureMode, CaptureRequest, CommitRequest, Found, IdempotencyKey,
    Initiator, LookupRequest, NoSeal, Notification, NotificationError, ObjectId, Operation,
    OperationKind, OperationLookup, Outcome, Payment, PaymentProvider, PaymentRequest,
    ProviderCall, ProviderName, ProviderPlace, ProviderToken, RawNotification, Reference,
    RefundRequest, ReservationId, Result, SetupCompletion, SetupProgress, SetupRequest,
    SetupStarted, Stage, TokenFault, VoidRequest, async_trait,
};
use cardless_testkit::call;
use cardless_testkit::call::Call;
use cardless_testkit::cases::sandbox::{self, Decision, Fixture};
use cardless_testkit::cases::stub::StubFixture as _;
use cardless_testkit::declared::{Declared, Left, Spoiler};
use cardless_testkit::stub::{Answer, Misbehavior, Stub};
use cardless_transport::{HttpClient, Request, Response, SendError};
use toml::Table;

use crate::adapters::Adapter;
use crate::around::fixture_around;
use crate::sandboxed::Sandboxed;
use crate::stubbed::Stubbed;

#[tokio::test(start_paused = true)]
async fn what_postfinance_declares_is_what_leaves() {
    let mut declared = Judged::default();
    let all = "customers_presence = \"NOT_PRESENT\"\nallowed_payment_method_configurations = [1]";
    declared.walk(Adapter::PostFinance, all).await;
    // A registration that holds an amount moves one, which the cases don't expect.
    let walked = declared.record(Adapter::PostFinance, "registration_amount = 100");
    sandbox::a_method_is_linked(&walked).await;
    // A transaction that does not say how much of it was captured, and a token that is in use.
    tokio::time::resume();
    let silent = vec![("completedAmount".to_owned(), "other".to_owned())];
    let silent = Misbehavior::Replace(silent);
    let stub = crate::stubbed::postfinance;
    declared.on_stub(stub(), Call::Commit, silent).await;
    let busy = Misbehavior::Answer(Answer::json(409, "{}"));
    declared.on_stub(stub(), Call::Revoke, busy).await;
    let good = Misbehavior::None;
    declared.on_stub(stub(), Call::FindCapture, good).await;
    declared.hold();
}

#[tokio::test(start_paused = true)]
async fn what_paypal_declares_is_what_leaves() {
    let all = "usage_pattern = \"IMMEDIATE\"\nbrand = \"Example\"\ndescription = \"Example\"";
    let mut declared = Judged::default();
    declared.walk(Adapter::PayPalVault, all).await;
    declared.walk(Adapter::PayPalAgreement, all).await;
    declared.walk(Adapter::PayPalOneCall, all).await;
    let one_call = "order_flow = \"one_call\"".parse().unwrap();
    let agreement = Adapter::PayPalAgreement;
    declared.walk_oddly(agreement, &one_call).await;
    declared.hold();
}

#[tokio::test(start_paused = true)]
async fn what_aduno_declares_is_what_leaves() {
    let mut declared = Judged::default();
    declared.walk(Adapter::Aduno, "").await;
    declared.hold();
}

#[tokio::test(start_paused = true)]
async fn what_is_not_declared_is_not_read() {
    for adapter in [
        Adapter::PostFinance,
        Adapter::PayPalVault,
        Adapter::PayPalAgreement,
        Adapter::PayPalOneCall,
        Adapter::Aduno,
    ] {
        let spoiled = Arc::new(Mutex::new(BTreeSet::new()));
        every_case(|| Walked::spoiling(adapter, &spoiled)).await;
        let spoiled = spoiled.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(!spoiled.is_empty(), "{adapter:?}: nothing was spoiled");
    }
}

/// The proof of the proof: with one field missing from the table, an answer can't be read.
#[tokio::test(start_paused = true)]
#[should_panic(expected = "UnreadableAnswer")]
async fn a_read_that_is_kept_quiet_is_found() {
    let spoiled = Arc::new(Mutex::new(BTreeSet::new()));
    let walked = Walked::new(Adapter::Aduno, &Table::new(), |client, calls| {
        let mut quiet = calls.to_vec();
        for call in &mut quiet {
            call.reads = || vec!["transactionId".to_owned()];
        }
        spoil(client, quiet.leak(), &spoiled)
    });
    sandbox::an_automatic_charge_takes_once(&walked).await;
}

/// Every address that an answer or a setting may name is a place, or refused.
#[test]
fn places_are_those_of_the_settings() {
    for (adapter, base, path) in [
        (Adapter::PostFinance, "http://127.0.0.1:9102", "/api/v2.0"),
        (Adapter::PayPalVault, "http://127.0.0.1:9101", ""),
        (Adapter::Aduno, "http://localhost:9103", ""),
    ] {
        let client = Arc::new(Nowhere);
        let provider = adapter.build(
            base,
            client,
            Arc::new(cardless_contract::SystemClock::default()),
        );
        let places = provider.places();
        let [place] = places.as_slice() else {
            panic!("{places:?}")
        };
        assert!(place.loopback);
        assert_eq!(place.to_string(), format!("{base}{path}"));
    }
}

/// What left over some walks of one provider, beside its table.
#[derive(Default)]
struct Judged {
    table: Option<Declared>,
    left: Arc<Mutex<Vec<Left>>>,
}

impl Judged {
    async fn walk(&mut self, adapter: Adapter, settings: &str) {
        self.record(adapter, settings);
        let settings: Table = settings.parse().unwrap();
        every_case(|| Walked::recording(adapter, &settings, &self.left)).await;
        self.walk_oddly(adapter, &settings).await;
    }

    async fn walk_oddly(&mut self, adapter: Adapter, settings: &Table) {
        for capture in [CaptureMode::Automatic, CaptureMode::Manual] {
            let walked = Walked::recording(adapter, settings, &self.left);
            Odd::new(&walked, capture, "odd").await.walk(&walked).await;
        }
    }

    fn record(&mut self, adapter: Adapter, settings: &str) -> Walked {
        let walked = Walked::recording(adapter, &settings.parse().unwrap(), &self.left);
        let provider = &walked.provider;
        self.table
            .get_or_insert_with(|| Declared::new(provider.calls(), &provider.places()));
        walked
    }

    /// What the sandbox never answers, a stub does.
    async fn on_stub(&self, stubbed: Stubbed, call: Call, misbehavior: Misbehavior) {
        let dialect = stubbed.dialect();
        let stub = Stub::start(Arc::clone(&dialect), call, misbehavior).await;
        let stage = Arc::default();
        let client = Recorder {
            inner: stubbed.client(Duration::from_secs(20)),
            stage: Arc::clone(&stage),
            left: Arc::clone(&self.left),
        };
        let truth = stubbed.provider(stub.base(), Arc::new(client));
        let provider = Staged { truth, stage };
        call::perform(&provider, &dialect.sample(), call).await;
    }

    fn hold(self) {
        let mut table = self.table.unwrap();
        let left = self.left.lock().unwrap();
        left.iter().for_each(|left| table.see(left));
        let faults = table.faults();
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}

/// Each case before a sandbox of its own.
async fn every_case(walked: impl Fn() -> Walked) {
    macro_rules! cases {
        ($($case:ident)*) => { $(sandbox::$case(&walked()).await;)* };
    }
    cases! {
        the_probe_answers
        wrong_credentials_are_told
        a_method_is_linked
        linking_twice_gives_the_same_token
        a_customer_who_declines_links_nothing
        a_customer_who_stays_away_links_nothing
        a_setup_with_an_amount_pays_and_links
        an_automatic_charge_takes_once
        reserve_holds_what_it_claims
        a_manual_charge_is_captured_whole
        a_manual_charge_is_captured_in_part
        a_manual_charge_is_captured_in_parts
        a_hold_that_lapses_after_a_part_is_told
        a_void_releases
        a_capture_is_refunded_whole
        a_capture_is_refunded_in_parts
        more_than_was_captured_is_not_refunded
        repeats_move_nothing_twice
        the_seal_sees_what_is_sent
        a_lost_reply_moves_once
        a_server_error_after_the_act_moves_once
        a_decline_moves_nothing
        a_pending_charge_concludes_with_time
        a_pending_refund_concludes_with_time
        a_present_customer_pays_once
        a_present_customer_who_declines_pays_nothing
        a_revoked_method_is_gone
        revoking_twice_is_done
        a_payment_is_found_by_reference_where_claimed
        an_unknown_payment_is_not_found
        notifications_verify
        tampered_notifications_are_refused
    }
}

/// A charge whose steps come in an odd order, and by requests that have lost what the answers
/// named. How each ends is the suite's business; here it matters what is sent.
struct Odd {
    name: &'static str,
    token: ProviderToken,
    request: PaymentRequest,
    reservation: ReservationId,
}

impl Odd {
    async fn new(walked: &Walked, capture: CaptureMode, name: &'static str) -> Self {
        let token = Self::link(walked, name).await;
        let key = |step: &str| key(name, step);
        let mut request = call::charge(&format!("{name}payment"), call::amount(), capture);
        request.initiator = Initiator::Customer;
        request.return_url = Some(call::RETURN_URL.to_owned());
        request.description = Some("Odd".to_owned());
        let provider = &walked.provider;
        let begun = provider.reserve(&key("r"), &token, &request, &NoSeal).await;
        let begun = begun.unwrap();
        let reservation = if let Outcome::ActionRequired(reservation, page) = begun {
            walked.decide(&page, Decision::Approve).await;
            reservation
        } else {
            done(begun).unwrap()
        };
        Self {
            name,
            token,
            request,
            reservation,
        }
    }

    /// Links, and asks again when the provider has forgotten its key.
    async fn link(walked: &Walked, name: &'static str) -> ProviderToken {
        let key = |step: &str| key(name, step);
        let request = call::setup(&format!("{name}link"));
        let provider = &walked.provider;
        let started = provider.begin_setup(&key("s"), &request).await;
        let started = done(started.unwrap()).unwrap();
        walked.decide(&started.redirect, Decision::Approve).await;
        let request = SetupCompletion {
            setup: started.setup,
            reference: request.reference,
            payment: None,
        };
        let first = provider.complete_setup(&key("s"), &request).await;
        walked.advance(Duration::from_secs(4 * 3600));
        provider.complete_setup(&key("s"), &request).await.ok();
        let SetupProgress::Linked(token) = first.unwrap() else {
            unreachable!("the customer has agreed")
        };
        token
    }

    async fn walk(&self, walked: &Walked) {
        let provider = &walked.provider;
        if let Ok(Outcome::ActionRequired(_, page)) = self.commit(walked, "c").await {
            walked.decide(&page, Decision::Approve).await;
        }
        self.commit(walked, "d").await.ok();
        self.capture(walked, "much", 9990).await;
        self.capture(walked, "part", 1990).await;
        self.commit(walked, "e").await.ok();
        self.capture(walked, "rest", 3000).await;
        self.capture(walked, "none", 3000).await;
        self.refund(walked).await;
        let request = LookupRequest {
            reservation: self.reservation.clone(),
            reference: self.request.reference.clone(),
            amount: self.request.amount,
        };
        let capture = match provider.lookup(&request).await {
            Ok(Outcome::Done(payment)) => payment.captures.first().cloned(),
            _ => None,
        };
        let capture = capture.and_then(|capture| capture.id);
        self.find(walked, OperationKind::Capture, capture).await;
        for kind in [
            OperationKind::Capture,
            OperationKind::Void,
            OperationKind::Refund,
        ] {
            self.find(walked, kind, None).await;
            let object = ObjectId::new("1").unwrap();
            provider.payment_of(kind, &object).await.ok();
        }
        let other = Self::new(walked, self.request.capture, "even").await;
        other.commit(walked, "f").await.ok();
        other.void(walked).await;
        other.commit(walked, "g").await.ok();
        other.void(walked).await;
    }

    async fn commit(&self, walked: &Walked, step: &str) -> Result<Outcome<Payment>> {
        let request = CommitRequest {
            reservation: self.reservation.clone(),
            payment: self.request.clone(),
        };
        let provider = &walked.provider;
        provider
            .commit(&key(self.name, step), &self.token, &request)
            .await
    }

    async fn capture(&self, walked: &Walked, step: &str, minor: i64) {
        let request = CaptureRequest {
            reservation: self.reservation.clone(),
            authorization: None,
            payment_reference: self.request.reference.clone(),
            reference: Reference::new(format!("{}{step}", self.name)).unwrap(),
            amount: call::money("CHF", minor),
            authorized: self.request.amount,
            last: !walked.provider.capabilities().several_captures,
        };
        walked
            .provider
            .capture(&key(self.name, step), &request)
            .await
            .ok();
    }

    async fn void(&self, walked: &Walked) {
        let request = VoidRequest {
            reservation: self.reservation.clone(),
            authorization: None,
            payment_reference: self.request.reference.clone(),
            authorized: self.request.amount,
        };
        walked
            .provider
            .void(&key(self.name, "v"), &request)
            .await
            .ok();
    }

    async fn refund(&self, walked: &Walked) {
        let request = RefundRequest {
            reservation: self.reservation.clone(),
            capture: None,
            payment_reference: self.request.reference.clone(),
            reference: Reference::new("oddrefund").unwrap(),
            amount: call::money("CHF", 100),
        };
        walked
            .provider
            .refund(&key(self.name, "b"), &request)
            .await
            .ok();
    }

    async fn find(&self, walked: &Walked, kind: OperationKind, id: Option<ObjectId>) {
        let request = OperationLookup {
            kind,
            reservation: self.reservation.clone(),
            authorization: None,
            id,
            payment_reference: self.request.reference.clone(),
            reference: Reference::new("oddrefund").unwrap(),
            amount: self.request.amount,
            settled_before: call::money("CHF", 0),
        };
        let provider = &walked.provider;
        provider
            .find_operation(&key(self.name, "b"), &request)
            .await
            .ok();
    }
}

fn done<T>(outcome: Outcome<T>) -> Option<T> {
    if let Outcome::Done(value) = outcome {
        Some(value)
    } else {
        None
    }
}

fn key(name: &str, step: &str) -> IdempotencyKey {
    IdempotencyKey::new(format!("{name}key-{step}")).unwrap()
}

/// An adapter before the sandbox whose requests are kept with what they were made for.
struct Walked {
    truth: Sandboxed,
    provider: Staged,
}

impl Walked {
    fn new(
        adapter: Adapter,
        settings: &Table,
        outside: impl FnOnce(Arc<dyn HttpClient>, &'static [ProviderCall]) -> Arc<dyn HttpClient>,
    ) -> Self {
        let truth = Sandboxed::new(adapter);
        let calls = truth.another().calls();
        let stage = Arc::default();
        let provider = truth.another_through(settings, |client| outside(client, calls));
        Self {
            truth,
            provider: Staged {
                truth: provider,
                stage,
            },
        }
    }

    fn recording(adapter: Adapter, settings: &Table, left: &Arc<Mutex<Vec<Left>>>) -> Self {
        let stage = Arc::new(Mutex::new(None));
        let mut walked = Self::new(adapter, settings, |client, _| {
            Arc::new(Recorder {
                inner: client,
                stage: Arc::clone(&stage),
                left: Arc::clone(left),
            })
        });
        walked.provider.stage = stage;
        walked
    }

    fn spoiling(adapter: Adapter, spoiled: &Arc<Mutex<BTreeSet<String>>>) -> Self {
        Self::new(adapter, &Table::new(), |client, calls| {
            spoil(client, calls, spoiled)
        })
    }
}

fn spoil(
    client: Arc<dyn HttpClient>,
    calls: &'static [ProviderCall],
    spoiled: &Arc<Mutex<BTreeSet<String>>>,
) -> Arc<dyn HttpClient> {
    let base = if calls.iter().any(|call| call.path.starts_with("/payment/")) {
        "/api/v2.0"
    } else {
        ""
    };
    Arc::new(Spoiler::new(client, calls, base, Arc::clone(spoiled)))
}

/// Keeps each request with the method of the trait that is under way.
#[derive(Debug)]
struct Recorder {
    inner: Arc<dyn HttpClient>,
    stage: Arc<Mutex<Option<Stage>>>,
    left: Arc<Mutex<Vec<Left>>>,
}

#[async_trait]
impl HttpClient for Recorder {
    async fn send(&self, request: Request) -> std::result::Result<Response, SendError> {
        let stage = self.stage.lock().unwrap().unwrap();
        self.left.lock().unwrap().push(Left {
            stage,
            request: request.clone(),
        });
        self.inner.send(request).await
    }
}

/// Reaches nobody.
#[derive(Debug)]
struct Nowhere;

#[async_trait]
impl HttpClient for Nowhere {
    async fn send(&self, _: Request) -> std::result::Result<Response, SendError> {
        Err(SendError::new(
            cardless_contract::Delivery::NotSent,
            cardless_contract::ErrorKind::Unreachable,
        ))
    }
}

fixture_around!(Walked);

/// An adapter that says which of its methods is under way.
#[derive(Debug)]
struct Staged {
    truth: Box<dyn PaymentProvider>,
    stage: Arc<Mutex<Option<Stage>>>,
}

impl Staged {
    fn at(&self, stage: Stage) -> &dyn PaymentProvider {
        *self.stage.lock().unwrap() = Some(stage);
        self.truth.as_ref()
    }
}

#[async_trait]
impl PaymentProvider for Staged {
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
        self.truth.capabilities()
    }

    fn calls(&self) -> &'static [ProviderCall] {
        self.truth.calls()
    }

    fn places(&self) -> Vec<ProviderPlace> {
        self.truth.places()
    }

    async fn probe(&self) -> Result<()> {
        self.at(Stage::Check).probe().await
    }

    async fn begin_setup(
        &self,
        key: &IdempotencyKey,
        request: &SetupRequest,
    ) -> Result<Outcome<SetupStarted>> {
        self.at(Stage::Link).begin_setup(key, request).await
    }

    async fn complete_setup(
        &self,
        key: &IdempotencyKey,
        request: &SetupCompletion,
    ) -> Result<SetupProgress> {
        self.at(Stage::Link).complete_setup(key, request).await
    }

    async fn reserve(
        &self,
        key: &IdempotencyKey,
        token: &ProviderToken,
        request: &PaymentRequest,
        seal: &dyn BodySeal,
    ) -> Result<Outcome<ReservationId>> {
        let provider = self.at(Stage::Authorize);
        provider.reserve(key, token, request, seal).await
    }

    async fn commit(
        &self,
        key: &IdempotencyKey,
        token: &ProviderToken,
        request: &CommitRequest,
    ) -> Result<Outcome<Payment>> {
        self.at(Stage::Authorize).commit(key, token, request).await
    }

    async fn capture(
        &self,
        key: &IdempotencyKey,
        request: &CaptureRequest,
    ) -> Result<Outcome<Operation>> {
        self.at(Stage::Capture).capture(key, request).await
    }

    async fn void(
        &self,
        key: &IdempotencyKey,
        request: &VoidRequest,
    ) -> Result<Outcome<Operation>> {
        self.at(Stage::Void).void(key, request).await
    }

    async fn refund(
        &self,
        key: &IdempotencyKey,
        request: &RefundRequest,
    ) -> Result<Outcome<Operation>> {
        self.at(Stage::Refund).refund(key, request).await
    }

    async fn lookup(&self, request: &LookupRequest) -> Result<Outcome<Payment>> {
        self.at(Stage::Read).lookup(request).await
    }

    async fn find(&self, reference: &Reference) -> Result<Found<ReservationId>> {
        self.at(Stage::Read).find(reference).await
    }

    async fn find_operation(
        &self,
        key: &IdempotencyKey,
        request: &OperationLookup,
    ) -> Result<Found<Outcome<Operation>>> {
        self.at(Stage::Read).find_operation(key, request).await
    }

    async fn payment_of(
        &self,
        kind: OperationKind,
        object: &ObjectId,
    ) -> Result<Option<ReservationId>> {
        self.at(Stage::Read).payment_of(kind, object).await
    }

    async fn revoke(&self, token: &ProviderToken) -> Result<()> {
        self.at(Stage::Revoke).revoke(token).await
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
        let provider = self.at(Stage::Notification);
        provider.verify_notification(delivery).await
    }
}
