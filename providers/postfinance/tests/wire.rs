//! Documented payloads in, outcomes out: through a client that plays a script.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::panic, reason = "helpers of tests")]
#![expect(clippy::indexing_slicing, reason = "helpers of tests")]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "what is not expected fails the test"
)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use cardless_contract::{
    CaptureMode, CaptureRequest, Clock, CommitRequest, Currency, CustomerReference,
    DeclineCategory, Delivery, ErrorKind, Found, IdempotencyKey, Initiator, LookupRequest, Money,
    MovementState, NoSeal, NotificationError, ObjectId, OperationKind, OperationLookup, Outcome,
    Payment, PaymentPhase, PaymentProvider, PaymentRequest, ProviderError, ProviderToken,
    RawNotification, Reference, RefundRequest, ReservationId, RetryAdvice, SetupCompletion,
    SetupPayment, SetupProgress, SetupReference, SetupRequest, Subject, Timestamp, VoidRequest,
};
use cardless_postfinance::{Config, PostFinance};
use cardless_testkit::shared;
use cardless_transport::{HttpClient, Request, Response, SendError};
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};

const BASE: &str = "https://checkout.postfinance.ch/api/v2.0";
const CANARY: &str = "canary";

// ---------------------------------------------------------------------------------------------
// The script.

#[derive(Debug)]
struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_700_000_000)
    }
}

#[derive(Debug)]
enum Step {
    Answer(u16, String),
    Broken(Delivery),
}

#[derive(Debug, Default)]
struct Script {
    steps: Mutex<VecDeque<Step>>,
    sent: Mutex<Vec<Request>>,
}

#[async_trait]
impl HttpClient for Script {
    async fn send(&self, request: Request) -> Result<Response, SendError> {
        self.sent.lock().unwrap().push(request);
        match self.steps.lock().unwrap().pop_front() {
            Some(Step::Answer(status, body)) => Ok(http::Response::builder()
                .status(status)
                .body(Bytes::from(body))
                .unwrap()),
            Some(Step::Broken(delivery)) => Err(SendError::new(delivery, ErrorKind::Interrupted)),
            None => panic!("a request that the script does not hold"),
        }
    }
}

impl Script {
    /// Method, path with query, and body of each request, in order.
    fn calls(&self) -> Vec<String> {
        let sent = self.sent.lock().unwrap();
        sent.iter()
            .map(|request| {
                let path = request.uri().path_and_query().unwrap().as_str();
                let body = String::from_utf8(request.body().to_vec()).unwrap();
                format!(
                    "{} {} {body}",
                    request.method(),
                    path.replace("/api/v2.0", "")
                )
                .trim_end()
                .to_owned()
            })
            .collect()
    }
}

fn provider_with(settings: Value, steps: Vec<Step>) -> (PostFinance, Arc<Script>) {
    let script = Arc::new(Script {
        steps: Mutex::new(steps.into()),
        ..Script::default()
    });
    let mut all = json!({
        "base_url": BASE,
        "space_id": 405,
        "user_id": "512",
        "authentication_key": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    });
    for (name, value) in settings.as_object().unwrap() {
        all[name] = value.clone();
    }
    let config: Config = serde_json::from_value(all).unwrap();
    let client: Arc<dyn HttpClient> = script.clone();
    (
        PostFinance::new(config, client, Arc::new(FixedClock)).unwrap(),
        script,
    )
}

fn provider(steps: Vec<Step>) -> (PostFinance, Arc<Script>) {
    provider_with(json!({}), steps)
}

fn ok(body: impl Into<String>) -> Step {
    Step::Answer(200, body.into())
}

// ---------------------------------------------------------------------------------------------
// What is asked.

fn money(code: &str, minor: i64) -> Money {
    Money::new(Currency::from_code(code).unwrap(), minor).unwrap()
}

fn key() -> IdempotencyKey {
    IdempotencyKey::new("abc-step").unwrap()
}

fn token() -> ProviderToken {
    ProviderToken::new("77").unwrap()
}

fn reference() -> Reference {
    Reference::new("acct-42-0001").unwrap()
}

fn reservation() -> ReservationId {
    ReservationId::new("123").unwrap()
}

fn payment_request(amount: Money, capture: CaptureMode, initiator: Initiator) -> PaymentRequest {
    PaymentRequest {
        reference: reference(),
        customer: CustomerReference::new("pseudonym").unwrap(),
        amount,
        capture,
        initiator,
        return_url: Some("https://pay.example/return/1".to_owned()),
        webhook_url: "https://pay.example/webhooks/postfinance".to_owned(),
        description: Some("Monthly plan".to_owned()),
    }
}

fn merchant(amount: Money) -> PaymentRequest {
    payment_request(amount, CaptureMode::Automatic, Initiator::Merchant)
}

fn commit_request(payment: PaymentRequest) -> CommitRequest {
    CommitRequest {
        reservation: reservation(),
        payment,
    }
}

fn capture_request(amount: i64, last: bool) -> CaptureRequest {
    CaptureRequest {
        reservation: reservation(),
        authorization: None,
        payment_reference: reference(),
        reference: Reference::new("capture-1").unwrap(),
        amount: money("CHF", amount),
        authorized: money("CHF", 2995),
        last,
    }
}

fn void_request() -> VoidRequest {
    VoidRequest {
        reservation: reservation(),
        authorization: None,
        payment_reference: reference(),
        authorized: money("CHF", 2995),
    }
}

fn refund_request(amount: i64) -> RefundRequest {
    RefundRequest {
        reservation: reservation(),
        capture: None,
        payment_reference: reference(),
        reference: Reference::new("refund-1").unwrap(),
        amount: money("CHF", amount),
    }
}

fn lookup_request() -> LookupRequest {
    LookupRequest {
        reservation: reservation(),
        reference: reference(),
        amount: money("CHF", 2995),
    }
}

fn operation_lookup(kind: OperationKind) -> OperationLookup {
    OperationLookup {
        kind,
        reservation: reservation(),
        authorization: None,
        id: None,
        payment_reference: reference(),
        reference: Reference::new("op-1").unwrap(),
        amount: money("CHF", 1000),
        settled_before: money("CHF", 0),
    }
}

fn setup_request(payment: Option<SetupPayment>) -> SetupRequest {
    SetupRequest {
        reference: reference(),
        customer: CustomerReference::new("pseudonym").unwrap(),
        return_url: "https://pay.example/return/1".to_owned(),
        webhook_url: "https://pay.example/webhooks/postfinance".to_owned(),
        language: Some("de-CH".to_owned()),
        payment,
        at: Timestamp::from_seconds(1_700_000_000),
    }
}

fn completion_request(payment: Option<SetupPayment>) -> SetupCompletion {
    SetupCompletion {
        setup: SetupReference::new("123").unwrap(),
        reference: reference(),
        payment,
    }
}

// ---------------------------------------------------------------------------------------------
// What is answered: composed by hand from the API's schemas, canaries in every member that must
// not be read (`providers/postfinance.md` §2.1).

fn transaction(state: &str, more: &str) -> String {
    format!(
        r#"{{"id":123,"version":4,"state":"{state}","linkedSpaceId":405,
        "merchantReference":"acct-42-0001","currency":"CHF","authorizationAmount":29.9500,
        "customerEmailAddress":"{CANARY}@x.example","customerId":"{CANARY}",
        "billingAddress":{{"givenName":"{CANARY}","street":"{CANARY}"}},
        "shippingAddress":{{"familyName":"{CANARY}"}},"internetProtocolAddress":"{CANARY}",
        "userFailureMessage":"{CANARY}","metaData":{{"a":"{CANARY}"}}{more}}}"#
    )
}

fn token_version(state: &str, environment: &str) -> String {
    format!(
        r#"{{"id":9,"state":"{state}","environment":"{environment}","linkedSpaceId":405,
        "name":"{CANARY}","processorToken":"{CANARY}","expiresOn":"2030-01-31T00:00:00Z",
        "billingAddress":{{"givenName":"{CANARY}"}},"shippingAddress":{{"city":"{CANARY}"}},
        "paymentInformationHashes":[{{"value":"{CANARY}"}}],
        "labels":[{{"contentAsString":"{CANARY}"}}],
        "token":{{"id":77,"customerEmailAddress":"{CANARY}"}}}}"#
    )
}

fn completion(state: &str, amount: &str) -> String {
    format!(
        r#"{{"id":55,"state":"{state}","linkedSpaceId":405,"linkedTransaction":123,
        "externalId":"abc-step","amount":{amount},"labels":[{{"contentAsString":"{CANARY}"}}]}}"#
    )
}

fn void_answer(state: &str) -> String {
    format!(r#"{{"id":66,"state":"{state}","linkedSpaceId":405,"linkedTransaction":123}}"#)
}

fn refund(state: &str, amount: &str) -> String {
    format!(
        r#"{{"id":88,"state":"{state}","linkedSpaceId":405,"externalId":"abc-step",
        "amount":{amount},"transaction":{{"id":123,"currency":"CHF"}},
        "processorReference":"{CANARY}"}}"#
    )
}

const CHARGE: &str = r#"{"id":5,"state":"SUCCESSFUL","type":"TOKEN","transaction":{"id":123}}"#;
const CAPTURED: &str = r#","completedAmount":29.95,"refundedAmount":0"#;
const PAGE: &str =
    "https://checkout.postfinance.ch/s/405/payment/transaction/pay/123?securityToken=canary";

fn done<T: std::fmt::Debug>(outcome: Outcome<T>) -> T {
    match outcome {
        Outcome::Done(value) => value,
        other => panic!("{other:?}"),
    }
}

async fn looked_up(body: String) -> Result<Outcome<Payment>, ProviderError> {
    provider(vec![ok(body)]).0.lookup(&lookup_request()).await
}

/// The phase of a voided transaction whose voids are these.
async fn voided_phase(voids: Step) -> PaymentPhase {
    let (provider, _) = provider(vec![ok(transaction("VOIDED", "")), voids]);
    done(provider.lookup(&lookup_request()).await.unwrap()).phase
}

// ---------------------------------------------------------------------------------------------
// Requests, byte for byte.

#[tokio::test]
async fn a_charge_is_a_transaction_with_the_token_and_exact_digits() {
    let (provider, script) = provider(vec![Step::Answer(201, transaction("PENDING", ""))]);
    let outcome = provider
        .reserve(&key(), &token(), &merchant(money("CHF", 2995)), &NoSeal)
        .await
        .unwrap();
    assert_eq!(done(outcome), reservation());
    assert_eq!(
        script.calls(),
        [concat!(
            "POST /payment/transactions ",
            r#"{"currency":"CHF","merchantReference":"acct-42-0001","customerId":"pseudonym","#,
            r#""token":77,"completionBehavior":"COMPLETE_IMMEDIATELY","chargeRetryEnabled":false,"#,
            r#""lineItems":[{"uniqueId":"payment","type":"PRODUCT","name":"Monthly plan","#,
            r#""quantity":1,"amountIncludingTax":29.95}]}"#
        )]
    );
}

#[tokio::test]
async fn a_currency_without_decimals_has_none() {
    let answer = r#"{"id":123,"state":"PENDING","currency":"JPY","authorizationAmount":500}"#;
    let (provider, script) = provider(vec![ok(answer)]);
    let mut request = merchant(money("JPY", 500));
    request.capture = CaptureMode::Manual;
    done(
        provider
            .reserve(&key(), &token(), &request, &NoSeal)
            .await
            .unwrap(),
    );
    let call = script.calls().remove(0);
    assert!(call.contains(r#""amountIncludingTax":500}"#), "{call}");
    assert!(
        call.contains(r#""completionBehavior":"COMPLETE_DEFERRED""#),
        "{call}"
    );
}

#[tokio::test]
async fn a_present_customer_is_sent_to_the_payment_page() {
    let (provider, script) = provider(vec![ok(transaction("PENDING", "")), ok(PAGE)]);
    let amount = money("CHF", 2995);
    let request = payment_request(amount, CaptureMode::Automatic, Initiator::Customer);
    let outcome = provider
        .reserve(&key(), &token(), &request, &NoSeal)
        .await
        .unwrap();
    let Outcome::ActionRequired(id, url) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!((id, url.expose()), (reservation(), PAGE));
    let calls = script.calls();
    let urls =
        r#""successUrl":"https://pay.example/return/1","failedUrl":"https://pay.example/return/1""#;
    assert!(calls[0].contains(urls), "{calls:?}");
    assert_eq!(calls[1], "GET /payment/transactions/123/payment-page-url");
    let sent = script.sent.lock().unwrap();
    assert_eq!(sent[1].headers()["accept"], "text/plain,application/json");
}

#[tokio::test]
async fn headers_are_those_of_the_fact_sheet() {
    let (provider, script) = provider(vec![ok(transaction("FULFILL", CAPTURED))]);
    done(provider.lookup(&lookup_request()).await.unwrap());
    let sent = script.sent.lock().unwrap();
    let headers = sent[0].headers();
    assert_eq!(headers["space"], "405");
    assert_eq!(headers["accept"], "application/json");
    assert!(!headers.contains_key("content-type"));
    let names: Vec<_> = headers.keys().map(http::HeaderName::as_str).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert_eq!(
        sent[0].uri().to_string(),
        format!("{BASE}/payment/transactions/123?expand=token")
    );
}

#[tokio::test]
async fn jwt_vectors_byte_for_byte() {
    let Some(vectors) = shared::json("specs/postfinance/test-vectors.json") else {
        return;
    };
    let token_of = |script: &Script| {
        let sent = script.sent.lock().unwrap();
        sent[0].headers()["authorization"]
            .to_str()
            .unwrap()
            .to_owned()
    };
    let vector = |number: usize| {
        format!(
            "Bearer {}",
            vectors["jwt_v2"]["cases"][number]["token"]
                .as_str()
                .unwrap()
        )
    };

    let (reader, script) = provider(vec![ok(transaction("FULFILL", CAPTURED))]);
    reader.lookup(&lookup_request()).await.unwrap();
    assert_eq!(token_of(&script), vector(0));

    let (committer, script) = provider(vec![Step::Answer(500, String::new())]);
    let request = commit_request(merchant(money("CHF", 2995)));
    committer
        .commit(&key(), &token(), &request)
        .await
        .unwrap_err();
    assert_eq!(token_of(&script), vector(1));

    let (finder, script) = provider(vec![ok(r#"{"data":[]}"#)]);
    assert_eq!(finder.find(&reference()).await.unwrap(), Found::No);
    assert_eq!(token_of(&script), vector(2));
}

#[tokio::test]
async fn a_probe_asks_about_listeners_and_needs_no_answer() {
    let empty = || ok(r#"{"data":[]}"#);
    let unsigned = r#"{"data":[{"enablePayloadSignatureAndState":false}]}"#;
    for second in [
        empty(),
        ok(unsigned),
        ok("<html>"),
        Step::Answer(403, String::new()),
        Step::Broken(Delivery::NotSent),
    ] {
        let (provider, script) = provider(vec![empty(), second]);
        provider.probe().await.unwrap();
        let calls = script.calls();
        assert_eq!(
            calls[1],
            "GET /webhooks/listeners/search?query=state%3AACTIVE&limit=100"
        );
    }
    let (provider, script) = provider(vec![Step::Answer(401, String::new())]);
    let error = provider.probe().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication);
    assert_eq!(script.calls().len(), 1);
}

/// "Not found" lets a second transaction be made, so only an empty page says it.
#[tokio::test]
async fn an_object_without_results_is_not_an_empty_page() {
    for body in [
        "{}",
        r#"{"data":null}"#,
        r#"{"hasMore":false}"#,
        r#"{"data":[],"hasMore":true}"#,
        "[]",
        "[[],false]x",
    ] {
        let (finder, _) = provider(vec![ok(body)]);
        let error = finder.find(&reference()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnreadableAnswer, "{body}");

        let (finder, _) = provider(vec![ok(body)]);
        let lookup = operation_lookup(OperationKind::Refund);
        let error = finder.find_operation(&key(), &lookup).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnreadableAnswer, "{body}");
    }
}

#[tokio::test]
async fn captures_and_refunds_carry_their_key() {
    let (capturer, script) = provider(vec![
        ok(completion("SUCCESSFUL", "29.95")),
        ok(completion("SUCCESSFUL", "10.0")),
        Step::Answer(201, refund("SUCCESSFUL", "10")),
    ]);
    let whole = capturer
        .capture(&key(), &capture_request(2995, true))
        .await
        .unwrap();
    assert_eq!(done(whole).amount, Some(money("CHF", 2995)));
    done(
        capturer
            .capture(&key(), &capture_request(1000, false))
            .await
            .unwrap(),
    );
    done(
        capturer
            .refund(&key(), &refund_request(1000))
            .await
            .unwrap(),
    );
    assert_eq!(
        script.calls(),
        [
            concat!(
                "POST /payment/transactions/123/complete-partially-online ",
                r#"{"externalId":"abc-step","lastCompletion":true}"#
            ),
            concat!(
                "POST /payment/transactions/123/complete-partially-online ",
                r#"{"externalId":"abc-step","lastCompletion":false,"#,
                r#""lineItems":[{"uniqueId":"payment","quantity":1,"amount":10.00}]}"#
            ),
            concat!(
                "POST /payment/refunds ",
                r#"{"externalId":"abc-step","type":"MERCHANT_INITIATED_ONLINE","transaction":123,"#,
                r#""amount":10.00,"merchantReference":"refund-1"}"#
            ),
        ]
    );
}

// ---------------------------------------------------------------------------------------------
// Setups.

#[tokio::test]
async fn a_setup_without_payment_registers_for_nothing() {
    let answer = transaction("PENDING", "")
        .replace("29.9500", "0E0")
        .replace("0E0", "0.00");
    let (provider, script) = provider(vec![Step::Answer(201, answer), ok(PAGE)]);
    let started = done(
        provider
            .begin_setup(&key(), &setup_request(None))
            .await
            .unwrap(),
    );
    assert_eq!(started.setup.as_str(), "123");
    assert_eq!(started.redirect.expose(), PAGE);
    assert!(!format!("{started:?}").contains(CANARY));
    assert_eq!(
        script.calls()[0],
        concat!(
            "POST /payment/transactions ",
            r#"{"currency":"CHF","merchantReference":"acct-42-0001","customerId":"pseudonym","#,
            r#""tokenizationMode":"FORCE_CREATION","completionBehavior":"COMPLETE_IMMEDIATELY","#,
            r#""chargeRetryEnabled":false,"language":"de-CH","#,
            r#""successUrl":"https://pay.example/return/1","#,
            r#""failedUrl":"https://pay.example/return/1","#,
            r#""lineItems":[{"uniqueId":"payment","type":"PRODUCT","name":"Payment","#,
            r#""quantity":1,"amountIncludingTax":0.00}]}"#
        )
    );
}

#[tokio::test]
async fn a_page_elsewhere_is_not_passed_on() {
    for page in [
        "https://evil.example/pay?securityToken=canary",
        "http://checkout.postfinance.ch/pay?securityToken=canary",
        "https://checkout.postfinance.ch.evil.example/?canary",
        "canary",
        "",
    ] {
        let answer = transaction("PENDING", "").replace("29.9500", "0");
        let (provider, _) = provider(vec![ok(answer), ok(page)]);
        let error = provider
            .begin_setup(&key(), &setup_request(None))
            .await
            .unwrap_err();
        assert_eq!(error.delivery(), Delivery::Unknown);
        assert_eq!(error.kind(), ErrorKind::UnreadableAnswer);
        assert_silent(&error);
    }
}

#[tokio::test]
async fn the_address_that_was_checked_is_the_one_handed_out() {
    for (page, shown) in [
        (
            "https://checkout.postfinance.ch\\@evil.example/pay",
            "https://checkout.postfinance.ch/@evil.example/pay",
        ),
        (
            "https://checkout.post\nfinance.ch/p\tay?securityToken=a%2Fb",
            "https://checkout.postfinance.ch/pay?securityToken=a%2Fb",
        ),
    ] {
        let answer = transaction("PENDING", "").replace("29.9500", "0");
        let (provider, _) = provider(vec![ok(answer), ok(page)]);
        let setup = setup_request(None);
        let started = done(provider.begin_setup(&key(), &setup).await.unwrap());
        assert_eq!(started.redirect.expose(), shown);
    }
}

#[tokio::test]
async fn a_registration_that_needs_money_is_held_and_released() {
    let settings = json!({"registration_amount": 100, "registration_currency": "CHF"});
    let held = |state: &str, more: &str| transaction(state, more).replace("29.9500", "1.00");
    let made = r#","token":{"id":77}"#;
    let (provider, script) = provider_with(
        settings,
        vec![
            ok(held("PENDING", "")),
            ok(PAGE),
            ok(held("AUTHORIZED", made)),
            ok(token_version("ACTIVE", "PRODUCTION")),
            ok(void_answer("SUCCESSFUL")),
            ok(held("VOIDED", made)),
            ok(token_version("ACTIVE", "PRODUCTION")),
        ],
    );
    done(
        provider
            .begin_setup(&key(), &setup_request(None))
            .await
            .unwrap(),
    );
    for _ in 0..2 {
        let progress = provider
            .complete_setup(&key(), &completion_request(None))
            .await
            .unwrap();
        let SetupProgress::Linked(token) = progress else {
            panic!("{progress:?}")
        };
        assert_eq!(token.expose(), "77");
    }
    let calls = script.calls();
    assert!(
        calls[0].contains(r#""completionBehavior":"COMPLETE_DEFERRED""#),
        "{calls:?}"
    );
    assert!(
        calls[0].contains(r#""amountIncludingTax":1.00"#),
        "{calls:?}"
    );
    assert_eq!(calls[4], "POST /payment/transactions/123/void-online");
    assert_eq!(calls.len(), 7);
}

#[tokio::test]
async fn a_registration_without_a_token_is_released_too() {
    let (provider, script) = provider(vec![
        ok(transaction("AUTHORIZED", "")),
        ok(void_answer("PENDING")),
    ]);
    let progress = provider
        .complete_setup(&key(), &completion_request(None))
        .await
        .unwrap();
    assert!(matches!(progress, SetupProgress::NoToken), "{progress:?}");
    assert_eq!(
        script.calls()[1],
        "POST /payment/transactions/123/void-online"
    );
}

#[tokio::test]
async fn what_was_captured_before_a_void_stays_captured() {
    let body = transaction("VOIDED", r#","completedAmount":10"#);
    let (provider, _) = provider(vec![ok(body), ok(r#"{"data":[]}"#)]);
    let payment = done(provider.lookup(&lookup_request()).await.unwrap());
    assert_eq!(
        (payment.phase, payment.captured),
        (PaymentPhase::Captured, money("CHF", 1000))
    );
    for state in ["PENDING", "PROCESSING", "FAILED"] {
        let error = looked_up(transaction(state, CAPTURED)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnreadableAnswer, "{state}");
    }
}

#[tokio::test]
async fn a_registration_is_never_taken_as_captured() {
    let answer = transaction("FULFILL", r#","token":{"id":77},"completedAmount":29.95"#);
    let (provider, _) = provider(vec![ok(answer)]);
    let error = provider
        .complete_setup(&key(), &completion_request(None))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnreadableAnswer);
}

#[tokio::test]
async fn a_setup_with_payment_links_and_holds_nothing_back() {
    let payment = SetupPayment {
        amount: money("CHF", 2995),
        capture: CaptureMode::Automatic,
    };
    for state in ["AUTHORIZED", "COMPLETED", "FULFILL", "DECLINE"] {
        let (provider, script) = provider(vec![
            ok(transaction(
                state,
                r#","token":{"id":77,"linkedSpaceId":405}"#,
            )),
            ok(token_version("ACTIVE", "TEST")),
        ]);
        let request = completion_request(Some(payment));
        let progress = provider.complete_setup(&key(), &request).await.unwrap();
        assert!(
            matches!(progress, SetupProgress::Linked(_)),
            "{state}: {progress:?}"
        );
        assert_eq!(script.calls()[1], "GET /payment/tokens/77/active-version");
    }
}

#[tokio::test]
async fn how_far_a_setup_is() {
    let zero = |state: &str, more: &str| transaction(state, more).replace("29.9500", "0");
    let made = r#","token":{"id":77}"#;
    let progress_of = async |steps: Vec<Step>| {
        provider(steps)
            .0
            .complete_setup(&key(), &completion_request(None))
            .await
            .unwrap()
    };
    for state in ["CREATE", "PENDING", "CONFIRMED"] {
        let progress = progress_of(vec![ok(zero(state, ""))]).await;
        assert!(
            matches!(progress, SetupProgress::AwaitingCustomer),
            "{state}"
        );
    }
    let progress = progress_of(vec![ok(zero("PROCESSING", ""))]).await;
    assert!(matches!(progress, SetupProgress::Pending));
    let progress = progress_of(vec![ok(zero("FAILED", ""))]).await;
    assert!(matches!(progress, SetupProgress::Declined(_)));
    let progress = progress_of(vec![ok(zero("FULFILL", ""))]).await;
    assert!(matches!(progress, SetupProgress::NoToken));
    let progress = progress_of(vec![ok(zero("SHIPPED", ""))]).await;
    assert!(matches!(progress, SetupProgress::Unmapped(_)));
    for (state, expected) in [("UNINITIALIZED", "Pending"), ("OBSOLETE", "NoToken")] {
        let version = ok(token_version(state, "PRODUCTION"));
        let progress = progress_of(vec![ok(zero("FULFILL", made)), version]).await;
        assert_eq!(format!("{progress:?}"), expected);
    }
    let gone = Step::Answer(404, String::new());
    let progress = progress_of(vec![ok(zero("FULFILL", made)), gone]).await;
    assert!(matches!(progress, SetupProgress::NoToken));
}

#[tokio::test]
async fn a_test_token_is_refused_where_money_is_real() {
    let zero = transaction("FULFILL", r#","token":{"id":77}"#).replace("29.9500", "0");
    let steps = vec![ok(zero), ok(token_version("ACTIVE", "TEST"))];
    let (provider, _) = provider_with(json!({"environment": "live"}), steps);
    let progress = provider
        .complete_setup(&key(), &completion_request(None))
        .await
        .unwrap();
    assert!(
        matches!(progress, SetupProgress::Declined(_)),
        "{progress:?}"
    );
}

// ---------------------------------------------------------------------------------------------
// Payments.

#[tokio::test]
async fn what_each_state_means() {
    for (state, expected, phase) in [
        ("CREATE", "Done", PaymentPhase::Reserved),
        ("PENDING", "Done", PaymentPhase::Reserved),
        ("CONFIRMED", "Done", PaymentPhase::Reserved),
        ("PROCESSING", "Pending", PaymentPhase::Reserved),
        ("AUTHORIZED", "Done", PaymentPhase::Authorized),
        ("COMPLETED", "Pending", PaymentPhase::Authorized),
        ("FULFILL", "Done", PaymentPhase::Captured),
        ("DECLINE", "Review", PaymentPhase::Captured),
    ] {
        let more = if ["COMPLETED", "FULFILL", "DECLINE"].contains(&state) {
            CAPTURED
        } else {
            r#","completedAmount":0"#
        };
        let outcome = looked_up(transaction(state, more)).await.unwrap();
        let (word, payment) = match outcome {
            Outcome::Done(payment) => ("Done", payment),
            Outcome::Pending(payment) => ("Pending", payment),
            Outcome::Review(payment) => ("Review", payment),
            other => panic!("{state}: {other:?}"),
        };
        assert_eq!((word, payment.phase), (expected, phase), "{state}");
    }
    let outcome = looked_up(transaction("SETTLED", "")).await.unwrap();
    assert!(matches!(outcome, Outcome::Unmapped(word) if word.field == "transaction.state"));
}

#[tokio::test]
async fn a_hold_that_nobody_voided_has_lapsed() {
    let voids = |state| ok(format!(r#"{{"data":[{}]}}"#, void_answer(state)));
    assert_eq!(
        voided_phase(voids("SUCCESSFUL")).await,
        PaymentPhase::Voided
    );
    assert_eq!(voided_phase(voids("FAILED")).await, PaymentPhase::Expired);
    assert_eq!(
        voided_phase(ok(r#"{"data":[]}"#)).await,
        PaymentPhase::Expired
    );
    let unknown = Step::Answer(503, String::new());
    assert_eq!(voided_phase(unknown).await, PaymentPhase::Voided);
}

#[tokio::test]
async fn a_decline_is_an_answer_of_200() {
    for (category, meaning, retry) in [
        (
            "END_USER",
            DeclineCategory::ProviderRefused,
            RetryAdvice::NewMethod,
        ),
        (
            "TEMPORARY_ISSUE",
            DeclineCategory::Other,
            RetryAdvice::Later,
        ),
        ("INTERNAL", DeclineCategory::Other, RetryAdvice::Later),
        ("CONFIGURATION", DeclineCategory::Other, RetryAdvice::Never),
        ("DEVELOPER", DeclineCategory::Other, RetryAdvice::Never),
        ("SOMETHING_NEW", DeclineCategory::Other, RetryAdvice::Never),
    ] {
        let reason = format!(
            r#","failureReason":{{"id":17,"category":"{category}","name":{{"en":"{CANARY}"}}}}"#
        );
        let (provider, script) = provider(vec![
            ok(r#"{"id":5,"state":"FAILED","userFailureMessage":"canary"}"#),
            ok(transaction("FAILED", &reason)),
        ]);
        let request = commit_request(merchant(money("CHF", 2995)));
        let outcome = provider.commit(&key(), &token(), &request).await.unwrap();
        assert!(!format!("{outcome:?}").contains(CANARY));
        let Outcome::Declined(decline) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(
            (decline.category, decline.retry),
            (meaning, retry),
            "{category}"
        );
        assert_eq!(decline.provider_code.as_str(), "17");
        assert_eq!(
            script.calls(),
            [
                "POST /payment/transactions/123/process-with-token",
                "GET /payment/transactions/123?expand=token"
            ]
        );
    }
}

#[tokio::test]
async fn only_fulfill_is_paid() {
    let (provider, _) = provider(vec![ok(CHARGE), ok(transaction("FULFILL", CAPTURED))]);
    let request = commit_request(merchant(money("CHF", 2995)));
    let payment = done(provider.commit(&key(), &token(), &request).await.unwrap());
    assert_eq!(payment.captured, money("CHF", 2995));
    assert_eq!(payment.refunded, Some(money("CHF", 0)));
}

#[tokio::test]
async fn a_commit_that_takes_at_once_takes_all() {
    let charge = || ok(r#"{"id":5,"state":"SUCCESSFUL"}"#);
    let part = || ok(transaction("FULFILL", r#","completedAmount":10"#));
    let (provider, _) = provider(vec![charge(), part(), part(), charge(), part()]);
    let customer = payment_request(
        money("CHF", 2995),
        CaptureMode::Automatic,
        Initiator::Customer,
    );
    for payment in [merchant(money("CHF", 2995)), customer] {
        let request = commit_request(payment);
        let error = provider.commit(&key(), &token(), &request).await;
        let error = error.unwrap_err();
        assert_eq!(
            (error.kind(), error.delivery()),
            (ErrorKind::UnreadableAnswer, Delivery::Unknown)
        );
    }
    let mut manual = merchant(money("CHF", 2995));
    manual.capture = CaptureMode::Manual;
    let request = commit_request(manual);
    let outcome = provider.commit(&key(), &token(), &request).await;
    assert_eq!(done(outcome.unwrap()).captured, money("CHF", 1000));
}

#[tokio::test]
async fn a_read_that_lags_behind_the_commit_is_pending() {
    let (provider, _) = provider(vec![ok(CHARGE), ok(transaction("CONFIRMED", ""))]);
    let request = commit_request(merchant(money("CHF", 2995)));
    let outcome = provider.commit(&key(), &token(), &request).await.unwrap();
    assert!(matches!(outcome, Outcome::Pending(_)), "{outcome:?}");
}

#[tokio::test]
async fn a_second_commit_is_refused_and_reads_what_the_first_did() {
    for status in [409, 422] {
        let (provider, _) = provider(vec![
            Step::Answer(status, String::new()),
            ok(transaction("FULFILL", CAPTURED)),
        ]);
        let request = commit_request(merchant(money("CHF", 2995)));
        let payment = done(provider.commit(&key(), &token(), &request).await.unwrap());
        assert_eq!(payment.phase, PaymentPhase::Captured);
    }
}

#[tokio::test]
async fn a_refused_commit_moved_nothing() {
    let refused = |fate: Step| {
        provider(vec![
            Step::Answer(422, r#"{"code":"c"}"#.to_owned()),
            ok(transaction("PENDING", "")),
            fate,
        ])
    };
    let request = commit_request(merchant(money("CHF", 2995)));
    let (usable, _) = refused(ok(r#"{"id":77,"state":"ACTIVE"}"#));
    let error = usable.commit(&key(), &token(), &request).await.unwrap_err();
    assert_eq!(error.delivery(), Delivery::Refused);
    for fate in [
        ok(r#"{"id":77,"state":"DELETED"}"#),
        Step::Answer(404, String::new()),
    ] {
        let (gone, _) = refused(fate);
        let outcome = gone.commit(&key(), &token(), &request).await.unwrap();
        assert!(matches!(outcome, Outcome::Declined(decline) if decline.method_gone));
    }
    let (conflict, _) = provider(vec![
        Step::Answer(409, String::new()),
        ok(transaction("PENDING", "")),
    ]);
    let error = conflict
        .commit(&key(), &token(), &request)
        .await
        .unwrap_err();
    assert_eq!(error.delivery(), Delivery::Unknown);
}

#[tokio::test]
async fn after_a_commit_has_left_nothing_reads_as_not_sent() {
    for step in [
        Step::Answer(401, String::new()),
        Step::Answer(404, String::new()),
        Step::Broken(Delivery::NotSent),
    ] {
        let (provider, _) = provider(vec![ok(CHARGE), step]);
        let request = commit_request(merchant(money("CHF", 2995)));
        let error = provider
            .commit(&key(), &token(), &request)
            .await
            .unwrap_err();
        assert_eq!(error.delivery(), Delivery::Unknown);
    }
}

#[tokio::test]
async fn a_present_customer_commits_at_the_page() {
    let amount = money("CHF", 2995);
    let request = commit_request(payment_request(
        amount,
        CaptureMode::Automatic,
        Initiator::Customer,
    ));
    let (waiting, script) = provider(vec![ok(transaction("CONFIRMED", "")), ok(PAGE)]);
    let outcome = waiting.commit(&key(), &token(), &request).await.unwrap();
    assert!(
        matches!(outcome, Outcome::ActionRequired(..)),
        "{outcome:?}"
    );
    assert!(script.calls().iter().all(|call| call.starts_with("GET")));
    let (paid, _) = provider(vec![ok(transaction("FULFILL", CAPTURED))]);
    let outcome = paid.commit(&key(), &token(), &request).await.unwrap();
    assert_eq!(done(outcome).phase, PaymentPhase::Captured);
}

#[tokio::test]
async fn an_answer_about_something_else_is_no_answer() {
    let good = transaction("FULFILL", CAPTURED);
    for (from, to) in [
        ("29.9500", "29.96"),
        ("29.9500", "29.9501"),
        ("29.9500", "2.995e1"),
        ("29.9500", "-29.95"),
        ("29.9500", "\"29.95\""),
        ("29.9500", "null"),
        ("\"CHF\"", "\"EUR\""),
        ("\"CHF\"", "\"chf\""),
        ("\"CHF\"", "null"),
        ("\"linkedSpaceId\":405", "\"linkedSpaceId\":406"),
        ("acct-42-0001", "acct-42-0002"),
        ("\"id\":123", "\"id\":124"),
        ("\"id\":123", "\"id\":12.3"),
        ("\"completedAmount\":29.95", "\"completedAmount\":29.96"),
        ("\"completedAmount\":29.95", "\"completedAmount\":0"),
        ("\"completedAmount\":29.95", "\"completedAmount\":2995e-2"),
        ("\"refundedAmount\":0", "\"refundedAmount\":0.001"),
        ("\"FULFILL\"", "7"),
    ] {
        assert!(good.contains(from));
        let error = looked_up(good.replace(from, to)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnreadableAnswer, "{from} {to}");
        assert_eq!(error.delivery(), Delivery::Unknown);
        assert_silent(&error);
    }
    for body in ["", "{", "<html>canary</html>", "[]", "\"canary\""] {
        let error = looked_up(body.to_owned()).await.unwrap_err();
        assert_eq!(error.delivery(), Delivery::Unknown);
        assert_silent(&error);
    }
}

#[tokio::test]
async fn a_missing_sum_is_added_up_from_the_completions() {
    let completions = format!(
        r#"{{"data":[{},{},{}],"hasMore":false}}"#,
        completion("SUCCESSFUL", "10.00"),
        completion("SUCCESSFUL", "5"),
        completion("FAILED", "14.95")
    );
    let (provider, script) = provider(vec![ok(transaction("AUTHORIZED", "")), ok(completions)]);
    let payment = done(provider.lookup(&lookup_request()).await.unwrap());
    assert_eq!(payment.phase, PaymentPhase::Authorized);
    assert_eq!(payment.captured, money("CHF", 1500));
    assert_eq!(payment.captures.len(), 3);
    assert_eq!(payment.captures[2].state, MovementState::Failed);
    assert_eq!(
        script.calls()[1],
        "GET /payment/transactions/completions/search?query=linkedTransaction%3A123&limit=100"
    );
}

#[tokio::test]
async fn a_payment_is_found_by_its_reference_or_not_guessed() {
    let one = transaction("PENDING", "");
    let (provider, script) = provider(vec![
        ok(format!(r#"{{"data":[{one}]}}"#)),
        ok(r#"{"data":[],"limit":2,"offset":0,"hasMore":false}"#),
        ok(format!(r#"{{"data":[{one},{one}]}}"#)),
        ok(format!(
            r#"{{"data":[{}]}}"#,
            one.replace("acct-42-0001", "acct-42-00011")
        )),
    ]);
    assert_eq!(
        provider.find(&reference()).await.unwrap(),
        Found::Yes(reservation())
    );
    assert_eq!(provider.find(&reference()).await.unwrap(), Found::No);
    assert_eq!(
        provider.find(&reference()).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    let error = provider.find(&reference()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnreadableAnswer);
    assert_eq!(
        script.calls()[0],
        "GET /payment/transactions/search?query=merchantReference%3A%22acct-42-0001%22&limit=2"
    );
}

// ---------------------------------------------------------------------------------------------
// Captures, voids, refunds.

#[tokio::test]
async fn what_the_states_of_operations_mean() {
    for (state, expected) in [
        ("CREATE", "Pending"),
        ("SCHEDULED", "Pending"),
        ("PENDING", "Pending"),
        ("SUCCESSFUL", "Done"),
        ("FAILED", "Declined"),
        ("LOST", "Unmapped"),
    ] {
        let (provider, _) = provider(vec![
            ok(completion(state, "10")),
            ok(refund(state, "10")),
            ok(transaction("AUTHORIZED", "")),
            ok(void_answer(state)),
        ]);
        let captured = provider
            .capture(&key(), &capture_request(1000, true))
            .await
            .unwrap();
        let refunded = provider
            .refund(&key(), &refund_request(1000))
            .await
            .unwrap();
        let voided = provider.void(&key(), &void_request()).await.unwrap();
        assert!(
            format!("{captured:?}").starts_with(expected),
            "{state}: {captured:?}"
        );
        assert!(
            format!("{refunded:?}").starts_with(expected),
            "{state}: {refunded:?}"
        );
        // A void is never scheduled, so that word is not known there.
        let expected = if state == "SCHEDULED" {
            "Unmapped"
        } else {
            expected
        };
        assert!(
            format!("{voided:?}").starts_with(expected),
            "{state}: {voided:?}"
        );
    }
    let (provider, _) = provider(vec![ok(refund("MANUAL_CHECK", "10"))]);
    let outcome = provider
        .refund(&key(), &refund_request(1000))
        .await
        .unwrap();
    assert!(matches!(outcome, Outcome::Review(_)));
}

#[tokio::test]
async fn another_amount_is_no_success() {
    let (provider, _) = provider(vec![
        ok(completion("SUCCESSFUL", "10.01")),
        ok(refund("SUCCESSFUL", "1e1")),
        ok(refund("SUCCESSFUL", "10").replace("\"CHF\"", "\"EUR\"")),
        ok(refund("SUCCESSFUL", "10").replace("abc-step", "other")),
        ok(refund("SUCCESSFUL", "10").replace(":123", ":124")),
    ]);
    let error = provider
        .capture(&key(), &capture_request(1000, true))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnreadableAnswer);
    for _ in 0..4 {
        let error = provider
            .refund(&key(), &refund_request(1000))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnreadableAnswer);
        assert_eq!(error.delivery(), Delivery::Unknown);
    }
}

#[tokio::test]
async fn a_void_is_read_before_and_after() {
    for (state, expected) in [("VOIDED", true), ("FAILED", true), ("FULFILL", false)] {
        let (provider, script) = provider(vec![ok(transaction(state, CAPTURED))]);
        let result = provider.void(&key(), &void_request()).await;
        assert_eq!(result.is_ok(), expected, "{state}");
        assert_eq!(script.calls().len(), 1);
    }
    let (lost, _) = provider(vec![Step::Broken(Delivery::Unknown)]);
    let error = lost.void(&key(), &void_request()).await.unwrap_err();
    assert_eq!(error.delivery(), Delivery::NotSent);
    let (raced, _) = provider(vec![
        ok(transaction("AUTHORIZED", "")),
        Step::Answer(409, String::new()),
        ok(transaction("VOIDED", "")),
    ]);
    done(raced.void(&key(), &void_request()).await.unwrap());
}

#[tokio::test]
async fn more_than_is_left_is_told_apart() {
    let refused = || Step::Answer(422, r#"{"id":"e-1"}"#.to_owned());
    let (provider, _) = provider(vec![
        refused(),
        ok(transaction(
            "FULFILL",
            r#","completedAmount":29.95,"refundedAmount":20"#,
        )),
        refused(),
        ok(transaction("VOIDED", r#","completedAmount":0"#)),
        refused(),
        Step::Answer(503, String::new()),
    ]);
    let error = provider
        .refund(&key(), &refund_request(1000))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AmountRefused);
    assert_eq!(error.delivery(), Delivery::Refused);
    for _ in 0..2 {
        let error = provider
            .capture(&key(), &capture_request(1000, true))
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.delivery()),
            (ErrorKind::Conflict, Delivery::Refused)
        );
    }
}

#[tokio::test]
async fn operations_are_found_by_key_or_by_transaction() {
    let (provider, script) = provider(vec![
        ok(format!(
            r#"{{"data":[{}]}}"#,
            completion("SUCCESSFUL", "10")
        )),
        ok(format!(r#"{{"data":[{}]}}"#, refund("PENDING", "10"))),
        ok(format!(
            r#"{{"data":[{},{}]}}"#,
            void_answer("FAILED"),
            void_answer("SUCCESSFUL")
        )),
        ok(r#"{"data":[]}"#),
    ]);
    let find = async |kind| {
        provider
            .find_operation(&key(), &operation_lookup(kind))
            .await
            .unwrap()
    };
    assert!(matches!(
        find(OperationKind::Capture).await,
        Found::Yes(Outcome::Done(_))
    ));
    assert!(matches!(
        find(OperationKind::Refund).await,
        Found::Yes(Outcome::Pending(_))
    ));
    assert!(matches!(
        find(OperationKind::Void).await,
        Found::Yes(Outcome::Done(_))
    ));
    assert!(matches!(find(OperationKind::Capture).await, Found::No));
    assert_eq!(
        script.calls()[..3],
        [
            "GET /payment/transactions/completions/search?query=externalId%3A%22abc-step%22&limit=2",
            "GET /payment/refunds/search?query=externalId%3A%22abc-step%22&limit=2",
            "GET /payment/transactions/voids/search?query=transaction.id%3A123&limit=100",
        ]
    );
}

/// What the provider has given an id is there: that it answers 404 for it proves nothing.
#[tokio::test]
async fn what_has_an_id_is_never_taken_for_absent() {
    let gone = || Step::Answer(404, r#"{"code":"gone"}"#.to_owned());
    let other = void_answer("FAILED").replace("66", "65");
    let (provider, _) = provider(vec![
        gone(),
        gone(),
        ok(format!(r#"{{"data":[{other}]}}"#)),
        ok(format!(r#"{{"data":[{other},{}]}}"#, void_answer("FAILED"))),
    ]);
    let find = async |kind, id: &str| {
        let lookup = OperationLookup {
            id: Some(ObjectId::new(id).unwrap()),
            ..operation_lookup(kind)
        };
        provider.find_operation(&key(), &lookup).await
    };
    for (kind, id) in [
        (OperationKind::Capture, "55"),
        (OperationKind::Refund, "88"),
    ] {
        let error = find(kind, id).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{kind:?}");
    }
    let absent = find(OperationKind::Void, "66").await.unwrap();
    assert!(matches!(absent, Found::CannotTell), "{absent:?}");
    let failed = find(OperationKind::Void, "66").await.unwrap();
    assert!(
        matches!(failed, Found::Yes(Outcome::Declined(_))),
        "{failed:?}"
    );
}

/// A void carries no key: one that failed may be an earlier one.
#[tokio::test]
async fn a_void_that_failed_before_says_nothing_of_the_next() {
    let page = |states: &[&str]| {
        let voids: Vec<_> = states.iter().map(|state| void_answer(state)).collect();
        ok(format!(r#"{{"data":[{}]}}"#, voids.join(",")))
    };
    let (provider, _) = provider(vec![
        page(&["FAILED"]),
        page(&["FAILED", "FAILED"]),
        page(&["FAILED", "PENDING"]),
        page(&["FAILED", "NEW_WORD"]),
    ]);
    let find = async || {
        let lookup = operation_lookup(OperationKind::Void);
        provider.find_operation(&key(), &lookup).await.unwrap()
    };
    assert!(matches!(find().await, Found::No));
    assert!(matches!(find().await, Found::No));
    let pending = find().await;
    assert!(
        matches!(pending, Found::Yes(Outcome::Pending(_))),
        "{pending:?}"
    );
    let unmapped = find().await;
    assert!(
        matches!(unmapped, Found::Yes(Outcome::Unmapped(_))),
        "{unmapped:?}"
    );
}

/// Of what a notification names only the payment is taken, and it is read only so often.
#[tokio::test]
async fn what_somebody_else_has_made_leads_to_its_payment() {
    let foreign = refund("SUCCESSFUL", "10").replace("405", "406");
    let steps = vec![
        ok(completion("SUCCESSFUL", "10")),
        ok(void_answer("SUCCESSFUL")),
        ok(refund("SUCCESSFUL", "10")),
        Step::Answer(404, r#"{"code":"gone"}"#.to_owned()),
        ok(refund("SUCCESSFUL", "10").replace("88", "89")),
        ok(foreign),
    ];
    let many = (0..600).map(|_| ok(refund("SUCCESSFUL", "10")));
    let (provider, script) = provider(steps.into_iter().chain(many).collect());
    let of = async |kind, id: &str| {
        let object = ObjectId::new(id).unwrap();
        provider.payment_of(kind, &object).await
    };
    for (kind, id) in [
        (OperationKind::Capture, "55"),
        (OperationKind::Void, "66"),
        (OperationKind::Refund, "88"),
    ] {
        assert_eq!(of(kind, id).await.unwrap(), Some(reservation()), "{kind:?}");
    }
    assert_eq!(of(OperationKind::Refund, "88").await.unwrap(), None);
    for what in ["another refund", "another space"] {
        let error = of(OperationKind::Refund, "88").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnreadableAnswer, "{what}");
    }
    let mut read = 6;
    while of(OperationKind::Refund, "88").await.is_ok() {
        read += 1;
    }
    assert_eq!((read, script.calls().len()), (600, 600));
    assert_eq!(
        script.calls()[..3],
        [
            "GET /payment/transactions/completions/55",
            "GET /payment/transactions/voids/66",
            "GET /payment/refunds/88",
        ]
    );
}

#[tokio::test]
async fn revoking_twice_is_done() {
    let (provider, script) = provider(vec![
        Step::Answer(204, String::new()),
        Step::Answer(404, r#"{"code":"gone"}"#.to_owned()),
        Step::Answer(404, "<html></html>".to_owned()),
    ]);
    provider.revoke(&token()).await.unwrap();
    provider.revoke(&token()).await.unwrap();
    provider.revoke(&token()).await.unwrap_err();
    assert_eq!(script.calls()[0], "DELETE /payment/tokens/77");
}

// ---------------------------------------------------------------------------------------------
// Webhooks.

#[tokio::test]
async fn the_vendors_webhook_vector_and_one_flipped_byte() {
    let Some(vectors) = shared::json("specs/postfinance/test-vectors.json") else {
        return;
    };
    let vector = &vectors["webhook_signature"];
    let text = |name: &str| vector[name].as_str().unwrap().to_owned();
    let (provider, script) = provider_with(
        json!({"space_id": 1}),
        vec![ok(text("publicKeyBase64SpkiDer"))],
    );
    let mut headers = HeaderMap::new();
    headers.insert(
        "x-signature",
        HeaderValue::from_str(&text("header")).unwrap(),
    );
    let body = Bytes::from(text("rawBody"));

    let delivery = RawNotification {
        headers: &headers,
        body: &body,
    };
    let notification = provider.verify_notification(&delivery).await.unwrap();
    let Subject::Payment {
        reservation: Some(id),
        ..
    } = notification.subject
    else {
        panic!("{notification:?}")
    };
    assert_eq!(id.as_str(), "11");

    for place in 0..body.len() {
        let mut flipped = body.to_vec();
        flipped[place] ^= 1;
        let flipped = Bytes::from(flipped);
        let delivery = RawNotification {
            headers: &headers,
            body: &flipped,
        };
        let error = provider.verify_notification(&delivery).await.unwrap_err();
        assert!(
            matches!(error, NotificationError::Signature),
            "{place}: {error:?}"
        );
    }
    assert_eq!(
        script.calls(),
        ["GET /webhooks/encryption-keys/ab3b774e-770e-4644-9b51-885d71f973e5"]
    );
    assert!(
        !script.sent.lock().unwrap()[0]
            .headers()
            .contains_key("space")
    );
}

#[tokio::test]
async fn a_webhook_of_another_space_or_without_a_key_is_refused() {
    let Some(vectors) = shared::json("specs/postfinance/test-vectors.json") else {
        return;
    };
    let vector = &vectors["webhook_signature"];
    let text = |name: &str| vector[name].as_str().unwrap().to_owned();
    let (provider, _) = provider(vec![
        Step::Answer(503, String::new()),
        Step::Answer(404, String::new()),
        ok("AAAA"),
        ok(text("publicKeyBase64SpkiDer")),
    ]);
    let body = Bytes::from(text("rawBody"));
    let mut headers = HeaderMap::new();
    let unsigned = RawNotification {
        headers: &headers,
        body: &body,
    };
    let error = provider.verify_notification(&unsigned).await.unwrap_err();
    assert!(matches!(error, NotificationError::Header(_)));

    headers.insert(
        "x-signature",
        HeaderValue::from_str(&text("header")).unwrap(),
    );
    let delivery = RawNotification {
        headers: &headers,
        body: &body,
    };
    let error = provider.verify_notification(&delivery).await.unwrap_err();
    assert!(error.is_temporary(), "{error:?}");
    let error = provider.verify_notification(&delivery).await.unwrap_err();
    assert!(matches!(error, NotificationError::UnknownKey), "{error:?}");
    let error = provider.verify_notification(&delivery).await.unwrap_err();
    assert!(
        matches!(error, NotificationError::Certificate(_)),
        "{error:?}"
    );
    let error = provider.verify_notification(&delivery).await.unwrap_err();
    assert!(
        matches!(error, NotificationError::OtherAccount),
        "{error:?}"
    );
}

// ---------------------------------------------------------------------------------------------
// Secrecy and exactness.

#[tokio::test]
async fn canaries_stay_inside() {
    let made = r#","token":{"id":77,"customerEmailAddress":"canary","state":"ACTIVE"}"#;
    let zero = transaction("FULFILL", made).replace("29.9500", "0");
    let (provider, _) = provider(vec![
        ok(zero),
        ok(token_version("ACTIVE", "PRODUCTION")),
        ok(transaction("FULFILL", CAPTURED)),
        ok(completion("SUCCESSFUL", "10")),
        ok(refund("SUCCESSFUL", "10")),
        Step::Answer(
            422,
            r#"{"message":"canary","code":"canary@x","id":"canary 1"}"#.to_owned(),
        ),
        ok(r#"{"id":"canary"}"#),
    ]);
    let setup = provider
        .complete_setup(&key(), &completion_request(None))
        .await
        .unwrap();
    let payment = provider.lookup(&lookup_request()).await.unwrap();
    let capture = provider
        .capture(&key(), &capture_request(1000, true))
        .await
        .unwrap();
    let refund = provider
        .refund(&key(), &refund_request(1000))
        .await
        .unwrap();
    let request = merchant(money("CHF", 2995));
    let error = provider
        .reserve(&key(), &token(), &request, &NoSeal)
        .await
        .unwrap_err();
    for text in [
        format!("{setup:?}"),
        format!("{payment:?}"),
        format!("{capture:?}"),
        format!("{refund:?}"),
        format!("{provider:?}"),
    ] {
        assert!(!text.contains(CANARY), "{text}");
    }
    assert_silent(&error);
}

proptest! {
    #[test]
    fn amounts_round_trip_exactly(minor in 1..=Money::MAX_MINOR, code in "CHF|JPY|KWD|EUR") {
        let amount = money(&code, minor);
        let digits = amount.to_decimal(amount.currency().exponent()).unwrap();
        let answer = format!(
            r#"{{"id":123,"state":"PENDING","currency":"{code}","authorizationAmount":{digits}}}"#
        );
        let (provider, script) = provider(vec![ok(answer)]);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let request = merchant(amount);
        let reserved = runtime.block_on(provider.reserve(&key(), &token(), &request, &NoSeal));
        prop_assert!(matches!(reserved, Ok(Outcome::Done(_))));
        let sent = format!("\"amountIncludingTax\":{digits}}}]}}");
        prop_assert!(script.calls()[0].ends_with(&sent));
    }
}

fn assert_silent(error: &ProviderError) {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        let text = format!("{error} {error:?}");
        assert!(!text.contains(CANARY), "{text}");
        source = error.source();
    }
}

#[tokio::test]
async fn the_second_key_signs_once_the_first_is_refused() {
    let two =
        json!({"authentication_key": ["AAECAwQFBgcICQoLDA0ODw==", "Dw4NDAsKCQgHBgUEAwIBAA=="]});
    let wrong = || Step::Answer(401, r#"{"code":"unauthorized"}"#.to_owned());
    let empty = || ok(r#"{"data":[]}"#);
    let (provider, script) = provider_with(two.clone(), vec![wrong(), empty(), empty()]);
    for _ in 0..2 {
        provider.find(&reference()).await.unwrap();
    }
    let calls = script.calls();
    assert!(calls.iter().all(|call| *call == calls[0]), "{calls:?}");
    let sent = std::mem::take(&mut *script.sent.lock().unwrap());
    let signed: Vec<_> = sent
        .iter()
        .map(|call| &call.headers()["authorization"])
        .collect();
    // The clock stands still, so that the same key signs the same.
    assert_ne!(signed[0], signed[1]);
    assert_eq!((signed.len(), signed[2]), (3, signed[1]));

    let (provider, _) = provider_with(two.clone(), vec![wrong(), wrong()]);
    let error = provider.find(&reference()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.delivery()),
        (ErrorKind::Authentication, Delivery::Refused)
    );
    for step in [
        Step::Answer(401, "<html>".to_owned()),
        Step::Answer(403, String::new()),
        Step::Answer(500, String::new()),
        Step::Broken(Delivery::Unknown),
    ] {
        let (provider, script) = provider_with(two.clone(), vec![step]);
        assert!(provider.find(&reference()).await.is_err());
        assert_eq!(script.calls().len(), 1);
    }
    // A second request that never left follows one that did.
    let (provider, _) = provider_with(two, vec![wrong(), Step::Broken(Delivery::NotSent)]);
    let error = provider.find(&reference()).await.unwrap_err();
    assert_eq!(error.delivery(), Delivery::Unknown);
}
