//! Documented payloads in, outcomes out: the adapter over a client that plays a script.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]
#![expect(clippy::expect_used, reason = "a test may fail loudly")]
#![expect(clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cardless_contract::*;
use cardless_paypal::{Config, PayPal};
use cardless_transport::{HttpClient, Request, Response, SendError};
use serde_json::{Value, json};

#[derive(Debug)]
struct TestClock(Mutex<Timestamp>);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// What becomes of a request.
#[derive(Debug)]
enum Play {
    Answer(u16, String),
    Fail(Delivery, ErrorKind),
}

/// Answers token requests by itself, everything else by the script, and remembers all of it.
#[derive(Debug, Default)]
struct Script {
    plays: Mutex<VecDeque<Play>>,
    tokens: Mutex<VecDeque<Play>>,
    seen: Mutex<Vec<Request>>,
    token_requests: Mutex<Vec<String>>,
}

#[async_trait]
impl HttpClient for Script {
    async fn send(&self, request: Request) -> std::result::Result<Response, SendError> {
        let play = if request.uri().path() == "/v1/oauth2/token" {
            let mut asked = self.token_requests.lock().unwrap();
            asked.push(
                request.headers()["authorization"]
                    .to_str()
                    .unwrap()
                    .to_owned(),
            );
            let body = json!({"access_token": format!("canary-access-{}", asked.len()),
                "token_type": "Bearer", "expires_in": 1000});
            self.tokens
                .lock()
                .unwrap()
                .pop_front()
                .unwrap_or(Play::Answer(200, body.to_string()))
        } else {
            self.seen.lock().unwrap().push(request);
            self.plays
                .lock()
                .unwrap()
                .pop_front()
                .expect("an answer for every request")
        };
        match play {
            Play::Answer(status, body) => {
                let mut response = Response::new(Bytes::from(body));
                *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
                Ok(response)
            }
            Play::Fail(delivery, kind) => Err(SendError::new(delivery, kind)),
        }
    }
}

struct Setting {
    paypal: PayPal,
    script: Arc<Script>,
    clock: Arc<TestClock>,
}

impl Setting {
    fn new(change: &[(&str, Value)]) -> Self {
        let mut config = json!({"environment": "sandbox", "client_id": "id",
            "client_secret": ["canary-secret-a", "canary-secret-b"], "webhook_id": "WH1",
            "token_kind": "vault_v3", "usage_pattern": "UNSCHEDULED_POSTPAID"});
        for (name, value) in change {
            config[name] = value.clone();
        }
        let config: Config = serde_json::from_value(config).unwrap();
        let script = Arc::new(Script::default());
        let clock = Arc::new(TestClock(Mutex::new(Timestamp::from_seconds(
            1_800_000_000,
        ))));
        let paypal = PayPal::new(config, script.clone(), clock.clone());
        Self {
            paypal: paypal.unwrap(),
            script,
            clock,
        }
    }

    fn plays(self, answers: &[(u16, Value)]) -> Self {
        for (status, body) in answers {
            self.play(Play::Answer(*status, body.to_string()));
        }
        self
    }

    fn play(&self, play: Play) {
        self.script.plays.lock().unwrap().push_back(play);
    }

    fn pass(&self, seconds: u64) {
        let mut now = self.clock.0.lock().unwrap();
        *now = now.plus(Duration::from_secs(seconds));
    }

    fn token_requests(&self) -> usize {
        self.script.token_requests.lock().unwrap().len()
    }

    /// The last request: method, path with query, request id, body.
    fn last(&self) -> (String, String, String, Value) {
        let seen = self.script.seen.lock().unwrap();
        let request = seen.last().unwrap();
        let id = request.headers().get("paypal-request-id");
        (
            request.method().to_string(),
            request.uri().path_and_query().unwrap().to_string(),
            id.map(|id| id.to_str().unwrap().to_owned())
                .unwrap_or_default(),
            serde_json::from_slice(request.body()).unwrap_or_default(),
        )
    }

    async fn commit(&self, request: &CommitRequest) -> Result<Outcome<Payment>> {
        self.paypal.commit(&key("commit"), &token(), request).await
    }

    async fn reserve(&self, request: &PaymentRequest) -> Result<Outcome<ReservationId>> {
        self.paypal
            .reserve(&key("reserve"), &token(), request, &NoSeal)
            .await
    }
}

fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey::new(text).unwrap()
}

/// A billing agreement.
const AGREEMENT: &str = "B-50V812176H0783741";

fn token() -> ProviderToken {
    ProviderToken::new("8kk8451t").unwrap()
}

fn money(code: &str, minor: i64) -> Money {
    Money::new(Currency::from_code(code).unwrap(), minor).unwrap()
}

fn payment(capture: CaptureMode, initiator: Initiator) -> PaymentRequest {
    PaymentRequest {
        reference: Reference::new("pay-1").unwrap(),
        customer: CustomerReference::new("acct-1").unwrap(),
        amount: money("CHF", 4990),
        capture,
        initiator,
        return_url: Some("https://merchant.example/return/x".to_owned()),
        webhook_url: String::new(),
        description: None,
    }
}

fn commit(capture: CaptureMode, initiator: Initiator) -> CommitRequest {
    CommitRequest {
        reservation: ReservationId::new("ORDER1").unwrap(),
        payment: payment(capture, initiator),
    }
}

fn merchant() -> CommitRequest {
    commit(CaptureMode::Automatic, Initiator::Merchant)
}

fn order(status: &str, payments: Value) -> Value {
    json!({"id": "ORDER1", "status": status, "intent": "CAPTURE", "purchase_units": [{
        "reference_id": "default", "custom_id": "pay-1", "invoice_id": "pay-1",
        "amount": {"currency_code": "CHF", "value": "49.90"}, "payments": payments}]})
}

fn captured(status: &str) -> Value {
    let mut body: Value =
        serde_json::from_str(include_str!("../fixtures/captured_order.json")).unwrap();
    body["purchase_units"][0]["payments"]["captures"][0]["status"] = status.into();
    body
}

fn issue(issue: &str) -> Value {
    json!({"name": "UNPROCESSABLE_ENTITY", "debug_id": "90957fca61718", "message": "canary",
        "details": [{"issue": issue, "value": "canary", "description": "canary"}]})
}

#[tokio::test]
async fn a_reserve_sends_no_payment_source() {
    let setting = Setting::new(&[]).plays(&[(201, order("CREATED", json!({})))]);
    let outcome = setting
        .reserve(&payment(CaptureMode::Manual, Initiator::Merchant))
        .await;
    assert!(matches!(outcome.unwrap(), Outcome::Done(id) if id.as_str() == "ORDER1"));
    let (method, path, id, body) = setting.last();
    assert_eq!(
        (method.as_str(), path.as_str(), id.as_str()),
        ("POST", "/v2/checkout/orders", "reserve-o")
    );
    let expected = json!({"intent": "AUTHORIZE", "purchase_units": [{"custom_id": "pay-1",
        "invoice_id": "pay-1", "amount": {"currency_code": "CHF", "value": "49.90"}}]});
    assert_eq!(body, expected);
    assert!(!setting.paypal.capabilities().reserve_holds);
}

#[tokio::test]
async fn a_commit_sends_the_token_in_the_shape_of_its_kind() {
    let wallet = json!({"payment_source": {"paypal": {"vault_id": "8kk8451t", "stored_credential": {
        "payment_initiator": "MERCHANT", "usage": "SUBSEQUENT", "usage_pattern": "UNSCHEDULED_POSTPAID"}}}});
    let agreement =
        json!({"payment_source": {"token": {"id": AGREEMENT, "type": "BILLING_AGREEMENT"}}});
    // Each by its own kind, whatever kind is linked by now.
    for (set, token, expected) in [
        ("vault_v3", "8kk8451t", &wallet),
        ("billing_agreement", "8kk8451t", &wallet),
        ("vault_v3", AGREEMENT, &agreement),
        ("billing_agreement", AGREEMENT, &agreement),
    ] {
        let setting =
            Setting::new(&[("token_kind", set.into())]).plays(&[(201, captured("COMPLETED"))]);
        let token = ProviderToken::new(token).unwrap();
        let commit = setting
            .paypal
            .commit(&key("commit"), &token, &merchant())
            .await;
        let outcome = commit.unwrap();
        let Outcome::Done(done) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(
            (done.phase, done.captured),
            (PaymentPhase::Captured, money("CHF", 4990))
        );
        let (_, path, id, body) = setting.last();
        assert_eq!(
            (path.as_str(), id.as_str()),
            ("/v2/checkout/orders/ORDER1/capture", "commit-c")
        );
        assert_eq!(&body, expected);
    }
}

#[tokio::test]
async fn the_inner_status_decides_and_200_is_201() {
    let word_of = |outcome: &Outcome<Payment>| match outcome {
        Outcome::Done(_) => "done",
        Outcome::Pending(_) => "pending",
        Outcome::ActionRequired(..) => "action required",
        Outcome::Declined(_) => "declined",
        Outcome::Review(_) => "review",
        Outcome::Unmapped(_) => "unmapped",
    };
    for (status, word, expected) in [
        (200, "COMPLETED", "done"),
        (201, "PENDING", "pending"),
        (201, "DECLINED", "declined"),
        (201, "SOMETHING_NEW", "unmapped"),
    ] {
        let setting = Setting::new(&[]).plays(&[(status, captured(word))]);
        let outcome = setting.commit(&merchant()).await.unwrap();
        assert_eq!(word_of(&outcome), expected, "{word}");
    }
}

#[tokio::test]
async fn unclear_answers_are_unknown() {
    for (status, body) in [
        (409, issue("PREVIOUS_REQUEST_IN_PROGRESS").to_string()),
        (429, String::new()),
        (500, "<html>".to_owned()),
        (503, "{}".to_owned()),
        (201, "<html>".to_owned()),
        (201, "{\"id\":".to_owned()),
        (422, issue("NEVER_SEEN").to_string()),
        (422, issue("DUPLICATE_INVOICE_ID").to_string()),
        (418, "{}".to_owned()),
        (302, String::new()),
    ] {
        let setting = Setting::new(&[]);
        setting.play(Play::Answer(status, body.clone()));
        let error = setting.commit(&merchant()).await.unwrap_err();
        assert_eq!(error.delivery(), Delivery::Unknown, "{status} {body}");
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
    let setting = Setting::new(&[]);
    setting.play(Play::Fail(Delivery::Unknown, ErrorKind::Interrupted));
    assert_eq!(
        setting.commit(&merchant()).await.unwrap_err().delivery(),
        Delivery::Unknown
    );
}

#[tokio::test]
async fn another_amount_is_never_a_success() {
    let mut body = captured("COMPLETED");
    body["purchase_units"][0]["payments"]["captures"][0]["amount"]["value"] = "4.99".into();
    let setting = Setting::new(&[]).plays(&[(201, body)]);
    let error = setting.commit(&merchant()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.delivery()),
        (ErrorKind::UnreadableAnswer, Delivery::Unknown)
    );
}

#[tokio::test]
async fn a_decline_by_issue_is_an_outcome() {
    let setting = Setting::new(&[]).plays(&[(422, issue("TOKEN_ID_NOT_FOUND"))]);
    let outcome = setting.commit(&merchant()).await.unwrap();
    let Outcome::Declined(decline) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(decline.method_gone);
    assert_eq!(decline.provider_code.as_str(), "TOKEN_ID_NOT_FOUND");
}

#[tokio::test]
async fn already_done_is_looked_up() {
    let answers = [
        (422, issue("ORDER_ALREADY_CAPTURED")),
        (200, captured("COMPLETED")),
    ];
    let setting = Setting::new(&[]).plays(&answers);
    assert!(matches!(
        setting.commit(&merchant()).await.unwrap(),
        Outcome::Done(_)
    ));
    let setting = Setting::new(&[]).plays(&[
        (422, issue("ORDER_ALREADY_CAPTURED")),
        (404, json!({"name": "RESOURCE_NOT_FOUND"})),
    ]);
    assert_eq!(
        setting.commit(&merchant()).await.unwrap_err().delivery(),
        Delivery::Unknown
    );
}

#[tokio::test]
async fn a_present_customer_is_sent_to_paypal_and_comes_back() {
    let link = "https://www.sandbox.paypal.com/checkoutnow?token=ORDER1";
    let mut refusal = issue("PAYER_ACTION_REQUIRED");
    refusal["links"] = json!([{"rel": "payer-action", "href": link}]);
    let setting = Setting::new(&[]).plays(&[(200, order("CREATED", json!({}))), (422, refusal)]);
    let request = commit(CaptureMode::Automatic, Initiator::Customer);
    let outcome = setting.commit(&request).await.unwrap();
    assert!(matches!(outcome, Outcome::ActionRequired(_, url) if url.expose() == link));
    let (_, _, _, body) = setting.last();
    let context = &body["payment_source"]["paypal"]["experience_context"];
    assert_eq!(context["return_url"], "https://merchant.example/return/x");

    let setting = setting.plays(&[
        (200, order("APPROVED", json!({}))),
        (201, captured("COMPLETED")),
    ]);
    assert!(matches!(
        setting.commit(&request).await.unwrap(),
        Outcome::Done(_)
    ));
    let (_, path, id, body) = setting.last();
    assert_eq!(
        (path.as_str(), id.as_str(), body),
        (
            "/v2/checkout/orders/ORDER1/capture",
            "commit-p-c",
            json!({})
        )
    );
}

#[tokio::test]
async fn a_refused_access_token_is_replaced_once_under_the_same_request_id() {
    let refused = json!({"error": "invalid_token"});
    let setting = Setting::new(&[]).plays(&[(401, refused.clone()), (201, captured("COMPLETED"))]);
    assert!(matches!(
        setting.commit(&merchant()).await.unwrap(),
        Outcome::Done(_)
    ));
    let ids: Vec<_> = setting
        .script
        .seen
        .lock()
        .unwrap()
        .iter()
        .map(|request| request.headers()["paypal-request-id"].clone())
        .collect();
    assert_eq!((ids.len(), &ids[0]), (2, &ids[1]));
    assert_eq!(setting.token_requests(), 2);

    let setting = Setting::new(&[]).plays(&[(401, refused.clone()), (401, refused)]);
    let error = setting.commit(&merchant()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.delivery()),
        (ErrorKind::Authentication, Delivery::Refused)
    );

    let mut account = issue("INVALID_ACCOUNT_STATUS");
    account["name"] = "AUTHENTICATION_FAILURE".into();
    let setting = Setting::new(&[]).plays(&[(401, account)]);
    assert_eq!(
        setting.commit(&merchant()).await.unwrap_err().kind(),
        ErrorKind::MerchantAccount
    );
    assert_eq!(setting.token_requests(), 1);
}

#[tokio::test]
async fn access_tokens_are_kept_renewed_and_asked_for_once_at_a_time() {
    let answers: Vec<_> = (0..4).map(|_| (200, captured("COMPLETED"))).collect();
    let setting = Setting::new(&[]).plays(&answers);
    let lookup = LookupRequest {
        reservation: ReservationId::new("ORDER1").unwrap(),
        reference: Reference::new("pay-1").unwrap(),
        amount: money("CHF", 4990),
    };
    let (a, b) = tokio::join!(
        setting.paypal.lookup(&lookup),
        setting.paypal.lookup(&lookup)
    );
    assert!(a.is_ok() && b.is_ok());
    assert_eq!(setting.token_requests(), 1);
    setting.pass(899);
    drop(setting.paypal.lookup(&lookup).await.unwrap());
    assert_eq!(setting.token_requests(), 1);
    setting.pass(1);
    drop(setting.paypal.lookup(&lookup).await.unwrap());
    assert_eq!(setting.token_requests(), 2);
}

/// A provider that can't be reached, which takes the whole connect deadline to show.
#[derive(Debug, Default)]
struct BlackHole(Mutex<usize>);

#[async_trait]
impl HttpClient for BlackHole {
    async fn send(&self, _request: Request) -> std::result::Result<Response, SendError> {
        *self.0.lock().unwrap() += 1;
        tokio::time::sleep(Duration::from_secs(10)).await;
        Err(SendError::new(Delivery::NotSent, ErrorKind::Unreachable))
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_renewal_shares_its_failure() {
    let client = Arc::new(BlackHole::default());
    let clock = Arc::new(TestClock(Mutex::new(Timestamp::from_seconds(
        1_800_000_000,
    ))));
    let config = json!({"environment": "sandbox", "client_id": "id", "client_secret": "s",
        "webhook_id": "WH1", "token_kind": "vault_v3"});
    let config: Config = serde_json::from_value(config).unwrap();
    let paypal = PayPal::new(config, client.clone(), clock).unwrap();
    let lookup = LookupRequest {
        reservation: ReservationId::new("ORDER1").unwrap(),
        reference: Reference::new("pay-1").unwrap(),
        amount: money("CHF", 4990),
    };
    let start = tokio::time::Instant::now();
    let (a, b, c) = tokio::join!(
        paypal.lookup(&lookup),
        paypal.lookup(&lookup),
        paypal.lookup(&lookup)
    );
    for result in [a, b, c] {
        let error = result.unwrap_err();
        assert_eq!(
            (error.kind(), error.delivery()),
            (ErrorKind::Unreachable, Delivery::NotSent)
        );
    }
    assert_eq!(start.elapsed(), Duration::from_secs(10));
    assert_eq!(*client.0.lock().unwrap(), 1);
    // The next one asks anew, and so does one whose predecessor went away in the middle.
    let gone = tokio::time::timeout(Duration::from_secs(1), paypal.lookup(&lookup)).await;
    assert!(gone.is_err());
    assert!(paypal.lookup(&lookup).await.is_err());
    assert_eq!(*client.0.lock().unwrap(), 3);
}

#[tokio::test]
async fn secrets_are_tried_in_order_and_a_failure_makes_a_pause() {
    let setting = Setting::new(&[]).plays(&[(201, captured("COMPLETED"))]);
    let wrong = || Play::Answer(401, json!({"error": "invalid_client"}).to_string());
    setting.script.tokens.lock().unwrap().push_back(wrong());
    assert!(setting.commit(&merchant()).await.is_ok());
    let asked = setting.script.token_requests.lock().unwrap().clone();
    assert_eq!(asked.len(), 2);
    assert_ne!(asked[0], asked[1]);

    let setting = Setting::new(&[]);
    setting
        .script
        .tokens
        .lock()
        .unwrap()
        .extend([wrong(), wrong()]);
    for _ in 0..2 {
        let error = setting.commit(&merchant()).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.delivery()),
            (ErrorKind::Authentication, Delivery::NotSent)
        );
    }
    assert_eq!(setting.token_requests(), 2);
    setting.pass(6);
    setting.paypal.probe().await.unwrap();
}

#[tokio::test]
async fn amounts_that_paypal_cannot_express_are_not_sent() {
    let setting = Setting::new(&[]);
    for amount in [
        money("HUF", 1050),
        money("TWD", 1),
        money("KWD", 1000),
        // PayPal takes 15 digits before the point, and nothing of zero (§4).
        money("JPY", 1_000_000_000_000_000),
        money("CHF", 0),
    ] {
        let request = PaymentRequest {
            amount,
            ..payment(CaptureMode::Automatic, Initiator::Merchant)
        };
        let error = setting.reserve(&request).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.delivery()),
            (ErrorKind::Unsupported, Delivery::NotSent)
        );
    }
    let mut created = order("CREATED", json!({}));
    created["purchase_units"][0]["amount"] = json!({"currency_code": "HUF", "value": "10"});
    let setting = setting.plays(&[(201, created)]);
    let amount = money("HUF", 1000);
    let request = PaymentRequest {
        amount,
        ..payment(CaptureMode::Automatic, Initiator::Merchant)
    };
    assert!(setting.reserve(&request).await.is_ok());
    assert_eq!(
        setting.last().3["purchase_units"][0]["amount"]["value"],
        "10"
    );
    for (amount, value) in [
        (money("CHF", Money::MAX_MINOR), "999999999999999.99"),
        (money("JPY", 999_999_999_999_999), "999999999999999"),
    ] {
        let mut created = order("CREATED", json!({}));
        let code = amount.currency().code();
        created["purchase_units"][0]["amount"] = json!({"currency_code": code, "value": value});
        setting.play(Play::Answer(201, created.to_string()));
        let request = PaymentRequest {
            amount,
            ..payment(CaptureMode::Automatic, Initiator::Merchant)
        };
        assert!(setting.reserve(&request).await.is_ok());
        let sent = setting.last().3;
        assert_eq!(sent["purchase_units"][0]["amount"]["value"], value);
    }
}

#[tokio::test]
async fn a_refund_sends_its_amount_and_no_invoice_id() {
    let answer = json!({"id": "REFUND1", "status": "COMPLETED", "custom_id": "ref-1",
        "amount": {"currency_code": "CHF", "value": "10.0"}});
    let setting = Setting::new(&[]).plays(&[(201, answer)]);
    let request = RefundRequest {
        reservation: ReservationId::new("ORDER1").unwrap(),
        capture: Some(ObjectId::new("CAPTURE1").unwrap()),
        payment_reference: Reference::new("pay-1").unwrap(),
        reference: Reference::new("ref-1").unwrap(),
        amount: money("CHF", 1000),
    };
    assert!(matches!(
        setting
            .paypal
            .refund(&key("refund"), &request)
            .await
            .unwrap(),
        Outcome::Done(_)
    ));
    let (_, path, id, body) = setting.last();
    assert_eq!(
        (path.as_str(), id.as_str()),
        ("/v2/payments/captures/CAPTURE1/refund", "refund-r")
    );
    assert_eq!(
        body,
        json!({"amount": {"currency_code": "CHF", "value": "10.00"}, "custom_id": "ref-1"})
    );
}

#[tokio::test]
async fn a_void_has_no_body_and_already_voided_is_done() {
    let request = VoidRequest {
        reservation: ReservationId::new("ORDER1").unwrap(),
        authorization: Some(ObjectId::new("AUTH1").unwrap()),
        payment_reference: Reference::new("pay-1").unwrap(),
        authorized: money("CHF", 4990),
    };
    let setting = Setting::new(&[]);
    setting.play(Play::Answer(204, String::new()));
    assert!(matches!(
        setting.paypal.void(&key("void"), &request).await.unwrap(),
        Outcome::Done(_)
    ));
    let voided = json!({"id": "AUTH1", "status": "VOIDED", "amount": {"currency_code": "CHF", "value": "49.90"}});
    let mut setting = setting;
    for ended in [
        "PREVIOUSLY_VOIDED",
        "AUTHORIZATION_VOIDED",
        "AUTHORIZATION_EXPIRED",
    ] {
        setting = setting.plays(&[(422, issue(ended)), (200, voided.clone())]);
        assert!(matches!(
            setting.paypal.void(&key("void"), &request).await.unwrap(),
            Outcome::Done(_)
        ));
    }
    {
        let seen = setting.script.seen.lock().unwrap();
        assert!(seen.iter().all(|request| request.body().is_empty()));
        assert!(!seen[0].headers().contains_key("content-type"));
    }
    let mut other = voided;
    other["id"] = "AUTH2".into();
    let setting = setting.plays(&[(422, issue("PREVIOUSLY_VOIDED")), (200, other)]);
    let error = setting
        .paypal
        .void(&key("void"), &request)
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.delivery()),
        (ErrorKind::UnreadableAnswer, Delivery::Unknown)
    );
}

#[tokio::test]
async fn a_hold_that_comes_between_two_reads_is_not_called_released() {
    let request = VoidRequest {
        reservation: ReservationId::new("ORDER1").unwrap(),
        authorization: None,
        payment_reference: Reference::new("pay-1").unwrap(),
        authorized: money("CHF", 4990),
    };
    let held = json!({"authorizations": [{"id": "AUTH1", "status": "CREATED", "custom_id": "pay-1",
        "amount": {"currency_code": "CHF", "value": "49.90"}}]});
    let setting = Setting::new(&[]).plays(&[
        (200, order("CREATED", json!({}))),
        (200, order("COMPLETED", held)),
    ]);
    let error = setting
        .paypal
        .void(&key("void"), &request)
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.delivery()),
        (ErrorKind::Conflict, Delivery::NotSent)
    );
}

#[tokio::test]
async fn another_order_than_the_asked_one_is_not_acted_on() {
    let held = json!({"authorizations": [{"id": "AUTH1", "status": "CREATED"}]});
    let mut foreign = order("COMPLETED", held);
    foreign["id"] = "ORDER2".into();
    let request = CaptureRequest {
        reservation: ReservationId::new("ORDER1").unwrap(),
        authorization: None,
        payment_reference: Reference::new("pay-1").unwrap(),
        reference: Reference::new("cap-1").unwrap(),
        amount: money("CHF", 4990),
        authorized: money("CHF", 4990),
        last: true,
    };
    let setting = Setting::new(&[]).plays(&[(200, foreign.clone())]);
    let error = setting
        .paypal
        .capture(&key("capture"), &request)
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.delivery()),
        (ErrorKind::UnreadableAnswer, Delivery::NotSent)
    );
    let mut lookup = OperationLookup {
        kind: OperationKind::Refund,
        reservation: ReservationId::new("ORDER1").unwrap(),
        authorization: None,
        id: None,
        payment_reference: Reference::new("pay-1").unwrap(),
        reference: Reference::new("ref-1").unwrap(),
        amount: money("CHF", 4990),
        settled_before: money("CHF", 0),
    };
    let other = json!({"id": "REFUND2", "status": "COMPLETED", "custom_id": "ref-1",
        "amount": {"currency_code": "CHF", "value": "49.90"}});
    let setting = setting.plays(&[(200, foreign), (200, other)]);
    for id in [None, ObjectId::new("REFUND1").ok()] {
        lookup.id = id;
        let found = setting.paypal.find_operation(&key("refund"), &lookup).await;
        assert_eq!(found.unwrap_err().kind(), ErrorKind::UnreadableAnswer);
    }
}

#[tokio::test]
async fn of_two_with_our_reference_the_one_that_moved_money_counts() {
    let shown = |id: &str, status: &str| {
        json!({"id": id, "status": status, "custom_id": "ref-1",
            "amount": {"currency_code": "CHF", "value": "49.90"}})
    };
    let mut paid = captured("COMPLETED");
    paid["purchase_units"][0]["payments"]["refunds"] =
        json!([shown("REFUND1", "FAILED"), shown("REFUND2", "COMPLETED")]);
    let setting = Setting::new(&[]).plays(&[(200, paid)]);
    let lookup = OperationLookup {
        kind: OperationKind::Refund,
        reservation: ReservationId::new("ORDER1").unwrap(),
        authorization: None,
        id: None,
        payment_reference: Reference::new("pay-1").unwrap(),
        reference: Reference::new("ref-1").unwrap(),
        amount: money("CHF", 4990),
        settled_before: money("CHF", 0),
    };
    let found = setting.paypal.find_operation(&key("refund"), &lookup).await;
    assert!(
        matches!(found.unwrap(), Found::Yes(Outcome::Done(done)) if done.id.as_ref().unwrap().as_str() == "REFUND2")
    );
}

#[tokio::test]
async fn a_setup_gives_a_checked_link_and_later_a_token() {
    let request = SetupRequest {
        reference: Reference::new("set-1").unwrap(),
        customer: CustomerReference::new("acct-1").unwrap(),
        return_url: "https://merchant.example/return/x".to_owned(),
        webhook_url: String::new(),
        language: Some("de-CH".to_owned()),
        payment: None,
        at: Timestamp::from_seconds(1_800_000_000),
    };
    let begun = |href: &str| {
        json!({"id": "SETUP1", "status": "PAYER_ACTION_REQUIRED",
        "customer": {"id": "cu1"}, "links": [{"rel": "approve", "href": href}]})
    };
    let good = "https://sandbox.paypal.com/agreements/approve?approval_session_id=SETUP1";
    let setting =
        Setting::new(&[]).plays(&[(201, begun(good)), (201, begun("https://evil.example/"))]);
    let outcome = setting
        .paypal
        .begin_setup(&key("setup"), &request)
        .await
        .unwrap();
    assert!(matches!(outcome, Outcome::Done(started) if started.setup.as_str() == "SETUP1"));
    assert!(
        setting
            .last()
            .3
            .pointer("/payment_source/paypal/attributes")
            .is_none()
    );
    let error = setting
        .paypal
        .begin_setup(&key("setup"), &request)
        .await
        .unwrap_err();
    assert_eq!(error.delivery(), Delivery::Unknown);

    let completion = SetupCompletion {
        setup: SetupReference::new("SETUP1").unwrap(),
        reference: request.reference.clone(),
        payment: None,
    };
    let at = |status: &str| json!({"id": "SETUP1", "status": status, "customer": {"id": "cu1"}});
    let setting = setting.plays(&[(200, at("PAYER_ACTION_REQUIRED"))]);
    let progress = setting
        .paypal
        .complete_setup(&key("setup"), &completion)
        .await
        .unwrap();
    assert!(matches!(progress, SetupProgress::AwaitingCustomer));

    let setting = setting.plays(&[(200, at("APPROVED")), (201, json!({"id": "canary-token"}))]);
    let progress = setting
        .paypal
        .complete_setup(&key("setup"), &completion)
        .await
        .unwrap();
    assert!(!format!("{progress:?}").contains("canary"));
    assert!(matches!(progress, SetupProgress::Linked(token) if token.expose() == "canary-token"));
    assert_eq!(
        setting.last().3,
        json!({"payment_source": {"token": {"id": "SETUP1", "type": "SETUP_TOKEN"}}})
    );

    let list = json!({"payment_tokens": [{"id": "canary-token"}]});
    let setting = setting.plays(&[
        (200, at("VAULTED")),
        (422, issue("SETUP_TOKEN_ALREADY_TOKENIZED")),
        (200, list),
    ]);
    let progress = setting
        .paypal
        .complete_setup(&key("setup"), &completion)
        .await
        .unwrap();
    assert!(matches!(progress, SetupProgress::Linked(_)));
    assert_eq!(setting.last().1, "/v3/vault/payment-tokens?customer_id=cu1");
}

#[tokio::test]
async fn one_call_holds_and_the_commit_takes() {
    let held = json!({"authorizations": [{"id": "AUTH1", "status": "CREATED", "custom_id": "pay-1",
        "amount": {"currency_code": "CHF", "value": "49.90"}}]});
    let setting = Setting::new(&[("order_flow", "one_call".into())])
        .plays(&[(201, order("COMPLETED", held.clone()))]);
    assert!(setting.paypal.capabilities().reserve_holds);
    let request = payment(CaptureMode::Automatic, Initiator::Merchant);
    assert!(matches!(
        setting.reserve(&request).await.unwrap(),
        Outcome::Done(_)
    ));
    let (_, _, _, body) = setting.last();
    assert_eq!(body["intent"], "AUTHORIZE");
    assert_eq!(body["payment_source"]["paypal"]["vault_id"], "8kk8451t");

    let capture = json!({"id": "CAPTURE1", "status": "COMPLETED", "custom_id": "pay-1",
        "amount": {"currency_code": "CHF", "value": "49.90"}});
    let setting = setting.plays(&[
        (200, order("COMPLETED", held)),
        (201, capture),
        (200, captured("COMPLETED")),
    ]);
    let outcome = setting.commit(&merchant()).await.unwrap();
    assert!(matches!(outcome, Outcome::Done(payment) if payment.phase == PaymentPhase::Captured));
    let captures = setting
        .script
        .seen
        .lock()
        .unwrap()
        .iter()
        .filter(|request| request.uri().path() == "/v2/payments/authorizations/AUTH1/capture")
        .count();
    assert_eq!(captures, 1);
}

#[tokio::test]
async fn a_refused_authorize_after_a_one_call_order_is_unknown_at_reserve_only() {
    let forbidden = || (403, json!({"name": "NOT_AUTHORIZED"}));
    let setting = Setting::new(&[("order_flow", "one_call".into())]).plays(&[
        (201, order("CREATED", json!({}))),
        forbidden(),
        (200, order("CREATED", json!({}))),
        forbidden(),
    ]);
    let request = payment(CaptureMode::Manual, Initiator::Merchant);
    let error = setting.reserve(&request).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.delivery()),
        (ErrorKind::Permission, Delivery::Unknown)
    );
    let error = setting.commit(&merchant()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.delivery()),
        (ErrorKind::Permission, Delivery::Refused)
    );
}

#[tokio::test]
async fn revoking_a_token_that_is_gone_is_done() {
    let setting = Setting::new(&[]).plays(&[(404, json!({"name": "RESOURCE_NOT_FOUND"}))]);
    setting.paypal.revoke(&token()).await.unwrap();
    let setting = Setting::new(&[("token_kind", "billing_agreement".into())])
        .plays(&[(422, issue("AGREEMENT_ALREADY_CANCELLED"))]);
    let agreement = ProviderToken::new(AGREEMENT).unwrap();
    setting.paypal.revoke(&agreement).await.unwrap();
}

/// The other kind's API does not know a token either, and that says nothing of it.
#[tokio::test]
async fn a_token_is_revoked_where_its_own_kind_is_whatever_the_settings_say() {
    let agreement = format!("/v1/billing-agreements/agreements/{AGREEMENT}/cancel");
    for set in ["vault_v3", "billing_agreement"] {
        for (token, path) in [
            ("8kk8451t", "/v3/vault/payment-tokens/8kk8451t"),
            (AGREEMENT, agreement.as_str()),
        ] {
            let setting = Setting::new(&[("token_kind", set.into())]);
            setting.play(Play::Answer(204, String::new()));
            let token = ProviderToken::new(token).unwrap();
            setting.paypal.revoke(&token).await.unwrap();
            assert_eq!(setting.last().1, path, "{set}");
        }
        let paypal = Setting::new(&[("token_kind", set.into())]).paypal;
        let kind_of = |token: &str| paypal.kind_of(&ProviderToken::new(token).unwrap());
        assert_eq!(kind_of("8kk8451t"), "vault_v3", "{set}");
        assert_eq!(kind_of(AGREEMENT), "billing_agreement", "{set}");
        assert_eq!(
            (kind_of("BA-8A802366G0648845Y"), paypal.token_kind()),
            (set, set)
        );
        // What is neither for sure is not called revoked because it was not found.
        for token in ["BA-8A802366G0648845Y", "B-50v812176h"] {
            for (status, answer) in [
                (404, json!({"name": "RESOURCE_NOT_FOUND"})),
                (422, issue("AGREEMENT_ALREADY_CANCELLED")),
            ] {
                let setting =
                    Setting::new(&[("token_kind", set.into())]).plays(&[(status, answer)]);
                let token = ProviderToken::new(token).unwrap();
                let error = setting.paypal.revoke(&token).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Conflict, "{set}");
                assert_eq!(error.delivery(), Delivery::Refused, "{set}");
            }
        }
    }
}

#[tokio::test]
async fn a_token_that_cannot_be_charged_just_now_is_not_revoked_by_that() {
    for refusal in ["PAYER_ACCOUNT_RESTRICTED", "CARD_EXPIRED"] {
        let setting = Setting::new(&[]).plays(&[(422, issue(refusal))]);
        assert!(setting.paypal.revoke(&token()).await.is_err(), "{refusal}");
    }
    let setting = Setting::new(&[]);
    setting.play(Play::Answer(200, "<html>".to_owned()));
    let error = setting.paypal.revoke(&token()).await.unwrap_err();
    assert_eq!(error.delivery(), Delivery::Unknown);
}

#[tokio::test]
async fn nothing_of_a_customer_leaves_an_answer() {
    let body: Value = serde_json::from_str(include_str!("../fixtures/canaries.json")).unwrap();
    let setting = Setting::new(&[]).plays(&[(201, body.clone())]);
    let outcome = setting.commit(&merchant()).await.unwrap();
    assert!(matches!(outcome, Outcome::Done(_)));
    assert!(!format!("{outcome:?}").to_lowercase().contains("canary"));
    let mut wrong = body;
    wrong["purchase_units"][0]["custom_id"] = "canary".into();
    let setting = setting.plays(&[(201, wrong)]);
    let error = setting.commit(&merchant()).await.unwrap_err();
    assert!(
        !format!("{error} {error:?} {:?}", setting.paypal)
            .to_lowercase()
            .contains("canary")
    );
}
