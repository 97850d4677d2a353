//! Documented payloads in, outcomes out; and what leaves, byte for byte. The provider's side is a
//! script in this process.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its expectation does not hold"
)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use cardless_aduno::{Aduno, Config};
use cardless_contract::{
    BodySeal, CaptureMode, CaptureRequest, Clock, CommitRequest, Currency, CustomerReference,
    DeclineCategory, Delivery, ErrorKind, Found, IdempotencyKey, Initiator, LookupRequest, Money,
    NoSeal, ObjectId, OperationKind, OperationLookup, Outcome, PaymentPhase, PaymentProvider,
    PaymentRequest, ProviderError, ProviderName, ProviderToken, Reference, RefundRequest,
    ReservationId, Result, SetupCompletion, SetupPayment, SetupProgress, SetupReference,
    SetupRequest, Timestamp, VoidRequest,
};
use cardless_transport::{HttpClient, Request, Response, SendError};
use serde_json::{Value, json};

const ID: &str = "260101120000000001";
const ALIAS: &str = "7LHXscqwAAEAAAGQnJCjw96fy0pzAPTN";
const LOCATION: &str = "https://pay.sandbox.datatrans.com/v1/start/260101120000000001";

/// The other side: answers in order, and remembers what came.
#[derive(Debug, Default)]
struct Script {
    answers: Mutex<VecDeque<(u16, String)>>,
    location: Option<&'static str>,
    date: Mutex<Option<&'static str>>,
    seen: Mutex<Vec<Request>>,
}

#[async_trait]
impl HttpClient for Script {
    async fn send(&self, request: Request) -> std::result::Result<Response, SendError> {
        self.seen.lock().unwrap().push(request);
        let Some((status, body)) = self.answers.lock().unwrap().pop_front() else {
            return Err(SendError::new(Delivery::Unknown, ErrorKind::Interrupted));
        };
        let mut answer = http::Response::builder().status(status);
        if let Some(location) = self.location {
            answer = answer.header("Location", location);
        }
        if let Some(date) = *self.date.lock().unwrap() {
            answer = answer.header("Date", date);
        }
        Ok(answer.body(Bytes::from(body)).unwrap())
    }
}

#[derive(Debug)]
struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_767_225_600_000)
    }
}

fn on(location: Option<&'static str>, answers: &[(u16, Value)]) -> (Aduno, Arc<Script>) {
    let text = |body: &Value| match body {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            other.to_string()
        }
    };
    let script = Arc::new(Script {
        answers: Mutex::new(
            answers
                .iter()
                .map(|(status, body)| (*status, text(body)))
                .collect(),
        ),
        location,
        date: Mutex::default(),
        seen: Mutex::default(),
    });
    let config: Config = serde_json::from_value(json!({
        "environment": "sandbox",
        "merchant_id": "1100000000",
        "password": "canary-password",
        "webhook_key": "000102030405060708090a0b0c0d0e0f",
    }))
    .unwrap();
    (
        Aduno::new(config, script.clone(), Arc::new(Noon)).unwrap(),
        script,
    )
}

impl Script {
    fn lines(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .map(|request| format!("{} {}", request.method(), request.uri().path()))
            .collect()
    }

    fn body(&self, index: usize) -> Value {
        serde_json::from_slice(self.seen.lock().unwrap().get(index).unwrap().body()).unwrap()
    }

    fn key(&self, index: usize) -> Option<String> {
        let seen = self.seen.lock().unwrap();
        let value = seen
            .get(index)
            .unwrap()
            .headers()
            .get("Idempotency-Key")
            .cloned();
        value.map(|value| value.to_str().unwrap().to_owned())
    }
}

fn money(minor: i64) -> Money {
    Money::new(Currency::from_code("CHF").unwrap(), minor).unwrap()
}

fn key() -> IdempotencyKey {
    IdempotencyKey::new("intent-1-reserve").unwrap()
}

fn token() -> ProviderToken {
    ProviderToken::new(ALIAS).unwrap()
}

fn reservation() -> ReservationId {
    ReservationId::new(ID).unwrap()
}

fn reference(text: &str) -> Reference {
    Reference::new(text).unwrap()
}

fn request(initiator: Initiator, capture: CaptureMode) -> PaymentRequest {
    PaymentRequest {
        reference: reference("pay-1"),
        customer: CustomerReference::new("customer").unwrap(),
        amount: money(1990),
        capture,
        initiator,
        return_url: Some("https://shop.example/return?s=1".to_owned()),
        webhook_url: "https://pay.example/webhooks/aduno".to_owned(),
        description: Some("never sent".to_owned()),
    }
}

fn alias_info() -> Value {
    json!({"alias": ALIAS, "fingerprint": "F-canary", "type": "CARD", "masked": "canary",
           "card": {"expiryMonth": "12", "expiryYear": "28", "last4": "cana",
                    "networkToken": {"token": "canary", "expiryMonth": "01", "expiryYear": "30"}}})
}

fn started() -> Value {
    json!({"transactionId": ID, "acquirerAuthorizationCode": "120500", "card": {"masked": "canary"}})
}

fn status(word: &str, detail: Value) -> Value {
    json!({"transactionId": ID, "merchantId": "1100000000", "type": "payment", "status": word,
           "currency": "CHF", "refno": "pay-1", "paymentMethod": "VIS", "detail": detail})
}

fn refused(code: &str) -> Value {
    json!({"error": {"code": code, "message": "canary"}, "transactionId": ID})
}

fn told<T>(result: &Result<Outcome<T>>) -> (ErrorKind, Delivery) {
    let error = result.as_ref().err().unwrap();
    (error.kind(), error.delivery())
}

#[tokio::test]
async fn a_registration_names_no_amount_and_keeps_no_customer() {
    let (aduno, script) = on(Some(LOCATION), &[(201, json!({"transactionId": ID}))]);
    let request = SetupRequest {
        reference: reference("reg-1"),
        customer: CustomerReference::new("customer").unwrap(),
        return_url: "https://shop.example/return".to_owned(),
        webhook_url: "https://pay.example/webhooks/aduno".to_owned(),
        language: Some("de-CH".to_owned()),
        payment: None,
        at: Noon.now(),
    };
    let Outcome::Done(begun) = aduno.begin_setup(&key(), &request).await.unwrap() else {
        panic!()
    };
    assert_eq!(begun.setup.as_str(), ID);
    assert_eq!(begun.redirect.expose(), LOCATION);
    assert_eq!(
        begun.expires_at.millis(),
        Noon.now().millis() + 30 * 60 * 1000
    );
    assert_eq!(script.key(0).as_deref(), Some("intent-1-reserve"));
    assert_eq!(
        script.body(0),
        json!({"currency": "CHF", "refno": "reg-1", "autoSettle": true,
               "paymentMethods": ["VIS", "ECA"], "language": "de",
               "option": {"createAlias": true, "storeCustomerData": false},
               "redirect": {"successUrl": "https://shop.example/return",
                            "cancelUrl": "https://shop.example/return",
                            "errorUrl": "https://shop.example/return", "method": "GET"},
               "webhook": {"url": "https://pay.example/webhooks/aduno"}})
    );
    let (aduno, script) = on(Some(LOCATION), &[(201, json!({"transactionId": ID}))]);
    let payment = SetupPayment {
        amount: money(1990),
        capture: CaptureMode::Manual,
    };
    let paid = SetupRequest {
        payment: Some(payment),
        ..request.clone()
    };
    assert!(matches!(
        aduno.begin_setup(&key(), &paid).await,
        Ok(Outcome::Done(_))
    ));
    assert_eq!(script.body(0)["amount"], json!(1990));
    assert_eq!(script.body(0)["autoSettle"], json!(false));
    for location in [
        None,
        Some("https://canary.example/v1/start/1"),
        Some("http://pay.sandbox.datatrans.com/"),
    ] {
        let (aduno, _) = on(location, &[(201, json!({"transactionId": ID}))]);
        let result = aduno.begin_setup(&key(), &request).await;
        assert_eq!(
            told(&result),
            (ErrorKind::UnreadableAnswer, Delivery::Unknown)
        );
    }
}

fn completion() -> SetupCompletion {
    SetupCompletion {
        setup: SetupReference::new(ID).unwrap(),
        reference: reference("reg-1"),
        payment: None,
    }
}

fn registered() -> Value {
    json!({"transactionId": ID, "merchantId": "1100000000", "type": "card_check",
           "status": "authorized", "currency": "CHF", "refno": "reg-1", "paymentMethod": "VIS",
           "detail": {"authorize": {"amount": 0, "acquirerAuthorizationCode": "120000"}},
           "card": {"alias": ALIAS, "fingerprint": "F-canary", "masked": "canary",
                    "expiryMonth": "06", "expiryYear": "28"}})
}

#[tokio::test]
async fn a_link_writes_the_expiry_onto_the_alias_first() {
    let (aduno, script) = on(None, &[(200, registered()), (200, alias_info())]);
    let progress = aduno.complete_setup(&key(), &completion()).await.unwrap();
    let SetupProgress::Linked(token) = progress else {
        panic!()
    };
    assert_eq!(token.expose(), ALIAS);
    assert_eq!(
        script.lines(),
        [
            format!("GET /v1/transactions/{ID}"),
            format!("PATCH /v1/aliases/{ALIAS}")
        ]
    );
    assert_eq!(
        script.body(1),
        json!({"expiryMonth": "06", "expiryYear": "28"})
    );
    assert_eq!(script.key(1), None);
    // A PATCH that failed links nothing yet.
    let (aduno, _) = on(None, &[(200, registered()), (502, json!("<html>"))]);
    assert!(aduno.complete_setup(&key(), &completion()).await.is_err());
    let (aduno, _) = on(
        None,
        &[(200, registered()), (400, refused("ALIAS_NOT_FOUND"))],
    );
    let progress = aduno.complete_setup(&key(), &completion()).await.unwrap();
    assert!(matches!(progress, SetupProgress::NoToken));
}

/// Keeps the bytes that were admitted.
#[derive(Default)]
struct Seen(Mutex<Vec<Vec<u8>>>, bool);

#[async_trait]
impl BodySeal for Seen {
    async fn admit(&self, bytes: &[u8]) -> Result<()> {
        self.0.lock().unwrap().push(bytes.to_vec());
        if self.1 {
            let name = ProviderName::new("aduno").unwrap();
            return Err(ProviderError::new(
                name,
                ErrorKind::RepeatRefused,
                Delivery::NotSent,
            ));
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_charge_is_a_hold_whose_bytes_are_sealed_and_repeat() {
    let answers = [
        (200, alias_info()),
        (200, started()),
        (200, alias_info()),
        (200, started()),
    ];
    let (aduno, script) = on(None, &answers);
    let seal = Seen::default();
    for capture in [CaptureMode::Automatic, CaptureMode::Manual] {
        let request = request(Initiator::Merchant, capture);
        let outcome = aduno
            .reserve(&key(), &token(), &request, &seal)
            .await
            .unwrap();
        let Outcome::Done(id) = outcome else { panic!() };
        assert_eq!(id, reservation());
    }
    let sealed = seal.0.into_inner().unwrap();
    let expected = format!(
        r#"{{"currency":"CHF","refno":"pay-1","amount":1990,"autoSettle":false,"card":{{"type":"ALIAS","alias":"{ALIAS}","expiryMonth":"12","expiryYear":"28"}}}}"#
    );
    for (index, bytes) in [(1, sealed.first()), (3, sealed.get(1))] {
        assert_eq!(bytes.unwrap(), expected.as_bytes());
        assert_eq!(
            script.seen.lock().unwrap().get(index).unwrap().body(),
            expected.as_bytes()
        );
        assert_eq!(script.key(index).as_deref(), Some("intent-1-reserve"));
    }
    assert_eq!(
        script.lines().first().unwrap(),
        &format!("GET /v1/aliases/{ALIAS}")
    );
    assert_eq!(script.key(0), None);
}

#[tokio::test]
async fn nothing_is_sent_past_a_seal_a_bad_alias_or_an_undated_one() {
    let merchant = request(Initiator::Merchant, CaptureMode::Automatic);
    let (aduno, script) = on(None, &[(200, alias_info())]);
    let shut = Seen(Mutex::default(), true);
    let result = aduno.reserve(&key(), &token(), &merchant, &shut).await;
    assert_eq!(told(&result), (ErrorKind::RepeatRefused, Delivery::NotSent));
    assert_eq!(script.lines().len(), 1);

    let (aduno, script) = on(None, &[]);
    for bad in ["424242SKMPRI4242", "70119122433810042000", "x"] {
        let token = ProviderToken::new(bad).unwrap();
        let result = aduno.reserve(&key(), &token, &merchant, &NoSeal).await;
        assert_eq!(
            told(&result),
            (ErrorKind::InvalidRequest, Delivery::NotSent)
        );
        assert!(aduno.revoke(&token).await.is_err());
    }
    let alone = PaymentRequest {
        return_url: None,
        ..request(Initiator::Customer, CaptureMode::Manual)
    };
    let result = aduno.reserve(&key(), &token(), &alone, &NoSeal).await;
    assert_eq!(
        told(&result),
        (ErrorKind::InvalidRequest, Delivery::NotSent)
    );
    assert!(script.lines().is_empty());

    let (aduno, script) = on(None, &[(200, json!({"card": {"last4": "4242"}}))]);
    let outcome = aduno
        .reserve(&key(), &token(), &merchant, &NoSeal)
        .await
        .unwrap();
    assert!(matches!(outcome, Outcome::Declined(_)));
    assert_eq!(script.lines().len(), 1);

    // A question that fails, even by a clear refusal, says nothing of a charge sent before.
    for (answer, kind) in [
        (
            (502, json!("<html>canary</html>")),
            ErrorKind::ProviderFailed,
        ),
        ((401, refused("UNAUTHORIZED")), ErrorKind::Authentication),
        ((403, refused("SERVICE_NOT_ALLOWED")), ErrorKind::Permission),
        ((422, Value::Null), ErrorKind::UnreadableAnswer),
    ] {
        let (aduno, script) = on(None, std::slice::from_ref(&answer));
        let result = aduno.reserve(&key(), &token(), &merchant, &NoSeal).await;
        assert_eq!(told(&result), (kind, Delivery::NotSent));
        assert_eq!(script.lines().len(), 1);
    }
}

#[tokio::test]
async fn an_answer_to_a_charge_says_how_far_it_got() {
    use Delivery::{Refused, Unknown};
    let merchant = request(Initiator::Merchant, CaptureMode::Automatic);
    for (status, body, kind, delivery) in [
        (409, Value::Null, ErrorKind::Conflict, Unknown),
        (422, Value::Null, ErrorKind::RepeatRefused, Unknown),
        (429, Value::Null, ErrorKind::RateLimited, Unknown),
        (
            502,
            json!("<html>canary</html>"),
            ErrorKind::ProviderFailed,
            Unknown,
        ),
        (
            400,
            refused("THIRD_PARTY_ERROR"),
            ErrorKind::ProviderFailed,
            Unknown,
        ),
        (
            400,
            refused("DUPLICATE_REFNO"),
            ErrorKind::Conflict,
            Unknown,
        ),
        (
            400,
            refused("NEVER_SEEN"),
            ErrorKind::UnreadableAnswer,
            Unknown,
        ),
        (
            400,
            refused("UNRECOGNIZED_PROPERTY"),
            ErrorKind::InvalidRequest,
            Refused,
        ),
        (
            401,
            refused("UNAUTHORIZED"),
            ErrorKind::Authentication,
            Refused,
        ),
        (
            200,
            json!("half a bo"),
            ErrorKind::UnreadableAnswer,
            Unknown,
        ),
        (200, Value::Null, ErrorKind::UnreadableAnswer, Unknown),
        (
            200,
            json!({"transactionId": "1"}),
            ErrorKind::UnreadableAnswer,
            Unknown,
        ),
    ] {
        let (aduno, _) = on(None, &[(200, alias_info()), (status, body.clone())]);
        let result = aduno.reserve(&key(), &token(), &merchant, &NoSeal).await;
        assert_eq!(told(&result), (kind, delivery), "{status} {body}");
        assert!(!format!("{result:?}").contains("canary"));
    }
    let (aduno, _) = on(None, &[(200, alias_info()), (400, refused("DECLINED"))]);
    let result = aduno
        .reserve(&key(), &token(), &merchant, &NoSeal)
        .await
        .unwrap();
    let Outcome::Declined(decline) = result else {
        panic!()
    };
    assert_eq!(decline.category, DeclineCategory::ProviderRefused);
}

#[tokio::test]
async fn a_hold_without_the_acquirers_code_is_one_only_if_a_read_says_so() {
    let merchant = request(Initiator::Merchant, CaptureMode::Manual);
    let unclear = Some((ErrorKind::UnreadableAnswer, Delivery::Unknown));
    let held = |minor: i64| status("authorized", json!({"authorize": {"amount": minor}}));
    for (read, error) in [
        ((200, held(1990)), None),
        ((200, held(1991)), unclear),
        ((200, status("authenticated", json!({}))), unclear),
        ((200, status("canceled", json!({}))), unclear),
        (
            (400, refused("TRANSACTION_NOT_FOUND")),
            Some((ErrorKind::NotFound, Delivery::Unknown)),
        ),
    ] {
        let charged = (200, json!({"transactionId": ID}));
        let (aduno, script) = on(None, &[(200, alias_info()), charged, read]);
        let result = aduno.reserve(&key(), &token(), &merchant, &NoSeal).await;
        match error {
            Some(error) => assert_eq!(told(&result), error),
            None => assert!(matches!(result, Ok(Outcome::Done(_)))),
        }
        assert_eq!(script.lines().len(), 3);
    }
    let charged = (200, json!({"transactionId": ID}));
    let failed = status("failed", json!({"fail": {"reason": "declined"}}));
    let (aduno, _) = on(None, &[(200, alias_info()), charged, (200, failed)]);
    let result = aduno.reserve(&key(), &token(), &merchant, &NoSeal).await;
    assert!(matches!(result, Ok(Outcome::Declined(_))));
}

#[tokio::test]
async fn a_customer_is_sent_to_the_page() {
    for (capture, settles) in [(CaptureMode::Automatic, true), (CaptureMode::Manual, false)] {
        let answer = json!({"transactionId": ID, "3D": {"enrolled": true}});
        let (aduno, script) = on(Some(LOCATION), &[(200, alias_info()), (201, answer)]);
        let request = request(Initiator::Customer, capture);
        let outcome = aduno
            .reserve(&key(), &token(), &request, &NoSeal)
            .await
            .unwrap();
        let Outcome::ActionRequired(id, url) = outcome else {
            panic!()
        };
        assert_eq!((id, url.expose()), (reservation(), LOCATION));
        let body = script.body(1);
        assert_eq!(body["autoSettle"], json!(settles));
        assert_eq!(body["card"]["alias"], json!(ALIAS));
        assert_eq!(
            body["redirect"]["successUrl"],
            json!("https://shop.example/return?s=1")
        );
        assert!(!body.to_string().contains("never sent"));
    }
}

fn commit(initiator: Initiator, capture: CaptureMode) -> CommitRequest {
    CommitRequest {
        reservation: reservation(),
        payment: request(initiator, capture),
    }
}

#[tokio::test]
async fn a_commit_settles_or_the_hold_is_the_result() {
    // 204 without a body by the schema, 200 with one as seen in the field.
    for (status, body) in [
        (204, Value::Null),
        (200, Value::Null),
        (202, json!({})),
        (200, json!({"x": 1})),
    ] {
        let (aduno, script) = on(None, &[(status, body)]);
        let request = commit(Initiator::Merchant, CaptureMode::Automatic);
        let Outcome::Done(payment) = aduno.commit(&key(), &token(), &request).await.unwrap() else {
            panic!()
        };
        assert_eq!(
            (payment.phase, payment.captured),
            (PaymentPhase::Captured, money(1990))
        );
        assert_eq!(
            script.lines(),
            [format!("POST /v1/transactions/{ID}/settle")]
        );
        assert_eq!(
            script.body(0),
            json!({"amount": 1990, "currency": "CHF", "refno": "pay-1"})
        );
    }
    let (aduno, script) = on(None, &[]);
    let request = commit(Initiator::Merchant, CaptureMode::Manual);
    let Outcome::Done(payment) = aduno.commit(&key(), &token(), &request).await.unwrap() else {
        panic!()
    };
    assert_eq!(
        (payment.phase, payment.captured),
        (PaymentPhase::Authorized, money(0))
    );
    assert!(script.lines().is_empty());
    let (aduno, script) = on(None, &[(200, status("challenge_required", json!({})))]);
    let request = commit(Initiator::Customer, CaptureMode::Automatic);
    let outcome = aduno.commit(&key(), &token(), &request).await.unwrap();
    assert!(matches!(outcome, Outcome::ActionRequired(..)));
    assert_eq!(script.lines(), [format!("GET /v1/transactions/{ID}")]);
}

#[tokio::test]
async fn a_payment_that_takes_at_once_takes_all() {
    let taken = |minor| (200, status("settled", json!({"settle": {"amount": minor}})));
    let request = commit(Initiator::Customer, CaptureMode::Automatic);
    let (aduno, _) = on(None, &[taken(1990), taken(990)]);
    let outcome = aduno.commit(&key(), &token(), &request).await;
    assert!(matches!(outcome, Ok(Outcome::Done(_))));
    assert_eq!(
        told(&aduno.commit(&key(), &token(), &request).await),
        (ErrorKind::UnreadableAnswer, Delivery::Unknown)
    );
    // A part of a hold may be captured by then.
    let request = commit(Initiator::Customer, CaptureMode::Manual);
    let (aduno, _) = on(None, &[taken(990)]);
    let outcome = aduno.commit(&key(), &token(), &request).await;
    assert!(matches!(outcome, Ok(Outcome::Done(payment)) if payment.captured == money(990)));
}

#[tokio::test]
async fn a_page_or_an_error_under_200_is_no_success() {
    for body in [
        json!("<html>"),
        json!("[]"),
        json!("ok"),
        refused("DECLINED"),
    ] {
        let unclear = (ErrorKind::UnreadableAnswer, Delivery::Unknown);
        let (aduno, _) = on(None, &[(200, body.clone())]);
        let request = commit(Initiator::Merchant, CaptureMode::Automatic);
        assert_eq!(
            told(&aduno.commit(&key(), &token(), &request).await),
            unclear
        );
        let (aduno, _) = on(None, &[(200, body.clone())]);
        let error = aduno.revoke(&token()).await.unwrap_err();
        assert_eq!((error.kind(), error.delivery()), unclear);
        let held = status("authorized", json!({"authorize": {"amount": 1990}}));
        let (aduno, _) = on(None, &[(200, held), (200, body)]);
        let void = VoidRequest {
            reservation: reservation(),
            authorization: None,
            payment_reference: reference("pay-1"),
            authorized: money(1990),
        };
        assert_eq!(told(&aduno.void(&key(), &void).await), unclear);
    }
}

#[tokio::test]
async fn after_a_wrong_status_a_read_decides() {
    let wrong = || (400, refused("INVALID_TRANSACTION_STATUS"));
    let request = commit(Initiator::Merchant, CaptureMode::Automatic);
    let taken = |minor| status("transmitted", json!({"settle": {"amount": minor}}));
    let (aduno, _) = on(None, &[wrong(), (200, taken(1990))]);
    let outcome = aduno.commit(&key(), &token(), &request).await.unwrap();
    assert!(matches!(outcome, Outcome::Done(payment) if payment.captured == money(1990)));
    for (second, kind, delivery) in [
        (
            (200, taken(1000)),
            ErrorKind::UnreadableAnswer,
            Delivery::Unknown,
        ),
        (
            (200, status("authorized", json!({}))),
            ErrorKind::Conflict,
            Delivery::Refused,
        ),
        (
            (400, refused("INVALID_PROPERTY")),
            ErrorKind::InvalidRequest,
            Delivery::Unknown,
        ),
        (
            (502, Value::Null),
            ErrorKind::ProviderFailed,
            Delivery::Unknown,
        ),
    ] {
        let (aduno, _) = on(None, &[wrong(), second]);
        let result = aduno.commit(&key(), &token(), &request).await;
        assert_eq!(told(&result), (kind, delivery));
    }
    let capture = CaptureRequest {
        reservation: reservation(),
        authorization: None,
        payment_reference: reference("pay-1"),
        reference: reference("cap-1"),
        amount: money(1000),
        authorized: money(1990),
        last: true,
    };
    let (aduno, _) = on(None, &[wrong(), (200, taken(1000))]);
    assert!(matches!(
        aduno.capture(&key(), &capture).await,
        Ok(Outcome::Done(_))
    ));
    let (aduno, _) = on(None, &[wrong(), (200, status("canceled", json!({})))]);
    let result = aduno.capture(&key(), &capture).await;
    assert_eq!(told(&result), (ErrorKind::Conflict, Delivery::Refused));
    let (aduno, script) = on(None, &[]);
    let several = CaptureRequest {
        last: false,
        ..capture
    };
    let result = aduno.capture(&key(), &several).await;
    assert_eq!(told(&result), (ErrorKind::Unsupported, Delivery::NotSent));
    assert!(script.lines().is_empty());
}

#[tokio::test]
async fn a_void_releases_holds_only() {
    let request = VoidRequest {
        reservation: reservation(),
        authorization: None,
        payment_reference: reference("pay-1"),
        authorized: money(1990),
    };
    let held = || {
        (
            200,
            status("authorized", json!({"authorize": {"amount": 1990}})),
        )
    };
    let gone = || {
        (
            200,
            status("canceled", json!({"authorize": {"amount": 1990}})),
        )
    };
    let taken = || (200, status("settled", json!({"settle": {"amount": 1990}})));
    let wrong = || (400, refused("INVALID_TRANSACTION_STATUS"));
    let (aduno, script) = on(None, &[held(), (204, Value::Null)]);
    assert!(matches!(
        aduno.void(&key(), &request).await,
        Ok(Outcome::Done(_))
    ));
    assert_eq!(script.body(1), json!({}));
    let (aduno, script) = on(None, &[taken()]);
    assert_eq!(
        told(&aduno.void(&key(), &request).await),
        (ErrorKind::Conflict, Delivery::Refused)
    );
    assert_eq!(script.lines().len(), 1);
    let (aduno, _) = on(None, &[gone()]);
    assert!(matches!(
        aduno.void(&key(), &request).await,
        Ok(Outcome::Done(_))
    ));
    let (aduno, _) = on(None, &[held(), wrong(), gone()]);
    assert!(matches!(
        aduno.void(&key(), &request).await,
        Ok(Outcome::Done(_))
    ));
    let (aduno, _) = on(None, &[held(), wrong(), taken()]);
    assert_eq!(
        told(&aduno.void(&key(), &request).await),
        (ErrorKind::Conflict, Delivery::Refused)
    );
    let (aduno, _) = on(None, &[(502, Value::Null)]);
    let result = aduno.void(&key(), &request).await;
    assert_eq!(
        told(&result),
        (ErrorKind::ProviderFailed, Delivery::NotSent)
    );
    let (aduno, _) = on(None, &[held()]);
    let result = aduno.void(&key(), &request).await;
    assert_eq!(told(&result), (ErrorKind::Interrupted, Delivery::Unknown));
}

#[tokio::test]
async fn a_refund_names_its_amount_and_is_found_again() {
    let request = RefundRequest {
        reservation: reservation(),
        capture: None,
        payment_reference: reference("pay-1"),
        reference: reference("ref-1"),
        amount: money(500),
    };
    let credit = "260101120000000009";
    let (aduno, script) = on(
        None,
        &[(
            200,
            json!({"transactionId": credit, "acquirerAuthorizationCode": "1"}),
        )],
    );
    let Outcome::Done(done) = aduno.refund(&key(), &request).await.unwrap() else {
        panic!()
    };
    assert_eq!(done.id, Some(ObjectId::new(credit).unwrap()));
    assert_eq!(
        script.body(0),
        json!({"amount": 500, "currency": "CHF", "refno": "ref-1"})
    );
    for status in [200, 201, 204] {
        let (aduno, _) = on(None, &[(status, Value::Null)]);
        let outcome = aduno.refund(&key(), &request).await;
        assert!(matches!(outcome, Ok(Outcome::Done(done)) if done.id.is_none()));
    }
    let (aduno, _) = on(None, &[(200, json!({"transactionId": credit}))]);
    let outcome = aduno.refund(&key(), &request).await.unwrap();
    assert!(matches!(outcome, Outcome::Pending(open) if open.id.is_some()));
    let (aduno, _) = on(None, &[(200, json!({}))]);
    let result = aduno.refund(&key(), &request).await;
    assert_eq!(
        told(&result),
        (ErrorKind::UnreadableAnswer, Delivery::Unknown)
    );
    let exceeded = json!({"error": {"code": "INVALID_PROPERTY", "message": "credit.amount"}});
    let (aduno, _) = on(None, &[(400, exceeded)]);
    let result = aduno.refund(&key(), &request).await;
    assert_eq!(told(&result), (ErrorKind::AmountRefused, Delivery::Refused));

    let lookup = OperationLookup {
        kind: OperationKind::Refund,
        reservation: reservation(),
        authorization: None,
        id: Some(ObjectId::new(credit).unwrap()),
        payment_reference: reference("pay-1"),
        reference: reference("ref-1"),
        amount: money(500),
        settled_before: money(0),
    };
    let shown = |word: &str, minor: i64| {
        json!({"transactionId": credit, "type": "credit", "status": word, "currency": "CHF",
               "refno": "ref-1", "detail": {"credit": {"amount": minor}}})
    };
    let (aduno, _) = on(
        None,
        &[(200, shown("settled", 500)), (200, shown("failed", 500))],
    );
    let found = aduno.find_operation(&key(), &lookup).await.unwrap();
    assert!(matches!(found, Found::Yes(Outcome::Done(_))));
    let found = aduno.find_operation(&key(), &lookup).await.unwrap();
    assert!(matches!(found, Found::Yes(Outcome::Declined(_))));
    let (aduno, _) = on(None, &[(200, shown("settled", 501))]);
    assert!(aduno.find_operation(&key(), &lookup).await.is_err());
    let nameless = OperationLookup { id: None, ..lookup };
    let taken = status("settled", json!({"settle": {"amount": 1990}}));
    let (aduno, _) = on(None, &[(200, taken)]);
    let found = aduno.find_operation(&key(), &nameless).await.unwrap();
    assert!(matches!(found, Found::CannotTell));
    assert!(matches!(
        aduno.find(&reference("pay-1")).await,
        Ok(Found::CannotTell)
    ));
}

#[tokio::test]
async fn a_token_that_is_gone_is_revoked() {
    for answer in [
        (204, Value::Null),
        (400, json!({"error": {"code": "ALIAS_NOT_FOUND"}})),
    ] {
        let (aduno, script) = on(None, &[answer]);
        aduno.revoke(&token()).await.unwrap();
        assert_eq!(script.lines(), [format!("DELETE /v1/aliases/{ALIAS}")]);
        assert_eq!(script.key(0), None);
    }
    // Such an alias is still there.
    for code in ["EXPIRED_CARD", "INVALID_CARD", "BLOCKED_CARD"] {
        let (aduno, _) = on(None, &[(400, refused(code))]);
        let error = aduno.revoke(&token()).await.unwrap_err();
        assert_eq!(error.delivery(), Delivery::Unknown, "{code}");
    }
    let (aduno, _) = on(None, &[(400, refused("DELETE_NOT_ALLOWED"))]);
    let error = aduno.revoke(&token()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.delivery()),
        (ErrorKind::Permission, Delivery::Refused)
    );
}

#[tokio::test]
async fn a_probe_tells_good_credentials_from_bad_ones() {
    for status in [400, 404] {
        let (aduno, script) = on(None, &[(status, refused("TRANSACTION_NOT_FOUND"))]);
        aduno.probe().await.unwrap();
        assert_eq!(script.lines(), ["GET /v1/transactions/000000000000000000"]);
        let seen = script.seen.lock().unwrap();
        let header = seen
            .first()
            .unwrap()
            .headers()
            .get("Authorization")
            .unwrap();
        assert_eq!(header, "Basic MTEwMDAwMDAwMDpjYW5hcnktcGFzc3dvcmQ=");
        assert!(!format!("{seen:?}{aduno:?}").contains("canary"));
    }
    for status in [401, 403] {
        let (aduno, _) = on(None, &[(status, Value::Null)]);
        assert_eq!(
            aduno.probe().await.unwrap_err().kind(),
            ErrorKind::Authentication
        );
    }
    let (aduno, _) = on(None, &[(404, json!("<html>"))]);
    assert_eq!(aduno.probe().await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn nothing_that_must_be_dropped_comes_through() {
    let canary = |part: &str| format!("canary-{part}");
    let mut payload = status(
        "settled",
        json!({"init": {"expires": canary("init")},
               "authorize": {"amount": 1990, "acquirerAuthorizationCode": canary("code")},
               "settle": {"amount": 1990}, "cancel": {"reversal": true},
               "fail": {"reason": "declined", "message": canary("fail")}}),
    );
    for (member, value) in [
        (
            "card",
            json!({"alias": canary("alias"), "masked": canary("masked"), "bin": canary("bin"),
            "last4": canary("last4"), "expiryMonth": canary("month"), "expiryYear": canary("year"),
            "fingerprint": canary("fingerprint"), "aliasCVV": canary("cvv"), "3D": {"cavv": canary("3d")},
            "networkToken": {"token": canary("nt"), "paymentAccountReference": canary("par")},
            "altId": {"token": canary("alt")}, "info": {"brand": canary("brand")}}),
        ),
        (
            "PFC",
            json!({"masked": canary("pfc"), "expiryMonth": canary("pfc")}),
        ),
        ("REK", json!({"masked": canary("rek")})),
        ("TWI", json!({"fingerprint": canary("twi")})),
        (
            "ep2",
            json!({"pan": canary("pan"), "appPanEnc": canary("panenc")}),
        ),
        (
            "customer",
            json!({"name": canary("name"), "email": canary("mail")}),
        ),
        ("PAP", json!({"payerId": canary("payer")})),
        ("ELV", json!({"iban": canary("iban")})),
        ("MPX", json!({"paycardNumber": canary("paycard")})),
        ("refno2", json!(canary("refno2"))),
        (
            "history",
            json!([{"action": "credit", "amount": 90, "success": true,
            "source": canary("source"), "date": canary("date"), "ip": canary("ip")}]),
        ),
    ] {
        payload[member] = value;
    }
    let lookup = LookupRequest {
        reservation: reservation(),
        reference: reference("pay-1"),
        amount: money(1990),
    };
    let (aduno, _) = on(None, &[(200, payload.clone())]);
    let outcome = aduno.lookup(&lookup).await.unwrap();
    assert!(!format!("{outcome:?}").contains("canary"));
    let Outcome::Done(payment) = outcome else {
        panic!()
    };
    assert_eq!(
        (payment.captured, payment.refunded),
        (money(1990), Some(money(90)))
    );
    // The same with a word that is unknown, a failure, and a difference.
    for (member, value) in [
        ("status", json!("canary word 4242424242424242")),
        ("status", json!("failed")),
        ("refno", json!("canary")),
        ("transactionId", json!(["canary"])),
    ] {
        let mut other = payload.clone();
        other[member] = value;
        let (aduno, _) = on(None, &[(200, other)]);
        let result = aduno.lookup(&lookup).await;
        assert!(!format!("{result:?}").contains("canary"), "{result:?}");
        if let Err(error) = result {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            assert!(!format!("{error}{source:?}").contains("canary"));
        }
    }
}

/// Our own clock can be wrong, and then the customer can still pay.
#[tokio::test]
async fn a_page_is_over_when_the_provider_says_so_and_not_by_our_clock() {
    let open = json!({
        "transactionId": ID, "merchantId": "1100000000", "type": "payment", "status": "initialized",
        "currency": "CHF", "refno": "pay-1", "detail": {"init": {"expires": "2025-12-31T23:00:00Z"}},
    });
    let lookup = LookupRequest {
        reservation: reservation(),
        reference: reference("pay-1"),
        amount: money(1990),
    };
    for (date, is_over) in [
        (None, false),
        (Some("yesterday"), false),
        (Some("Wed, 31 Dec 2025 22:30:00 GMT"), false),
        (Some("Wed, 31 Dec 2025 23:05:00 GMT"), false),
        (Some("Wed, 31 Dec 2025 23:05:01 GMT"), true),
    ] {
        let (aduno, script) = on(None, &[(200, open.clone())]);
        *script.date.lock().unwrap() = date;
        match aduno.lookup(&lookup).await.unwrap() {
            Outcome::ActionRequired(..) => assert!(!is_over, "{date:?}"),
            Outcome::Done(payment) => {
                assert_eq!(payment.phase, PaymentPhase::Expired);
                assert!(is_over, "{date:?}");
            }
            other @ (Outcome::Pending(_)
            | Outcome::Declined(_)
            | Outcome::Review(_)
            | Outcome::Unmapped(_)) => panic!("{date:?}: {other:?}"),
        }
    }
}

#[test]
fn no_operation_takes_or_gives_a_card_number() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap().to_lowercase();
        for word in [
            "tokenize",
            "\"plain\"",
            "securefields",
            "\"cvv\"",
            "\"number\"",
        ] {
            assert!(!text.contains(word), "{word} in {}", path.display());
        }
    }
}

/// An adapter with two passwords, whose answers come in this order.
fn with_two_passwords(answers: &[(u16, Value)]) -> (Aduno, Arc<Script>) {
    let (_, script) = on(None, answers);
    let config: Config = serde_json::from_value(json!({
        "environment": "sandbox",
        "merchant_id": "1100000000",
        "password": ["canary-first", "canary-second"],
        "webhook_key": "000102030405060708090a0b0c0d0e0f",
    }))
    .unwrap();
    let aduno = Aduno::new(config, script.clone(), Arc::new(Noon)).unwrap();
    (aduno, script)
}

#[tokio::test]
async fn the_second_password_is_sent_once_the_first_is_refused() {
    let request = RefundRequest {
        reservation: reservation(),
        capture: None,
        payment_reference: reference("pay-1"),
        reference: reference("ref-1"),
        amount: money(500),
    };
    let done = (200, json!({"transactionId": "260101120000000009"}));
    let (aduno, script) = with_two_passwords(&[(401, refused("UNAUTHORIZED")), done.clone(), done]);
    for _ in 0..2 {
        aduno.refund(&key(), &request).await.unwrap();
    }
    let seen = script.seen.lock().unwrap().clone();
    let basic = |index: usize| seen[index].headers()["Authorization"].clone();
    // The same bytes under the same key, with the other password; which is then the one in use.
    assert_eq!(seen[0].body(), seen[1].body());
    assert_eq!(script.key(0), script.key(1));
    assert_ne!(basic(0), basic(1));
    assert_eq!((seen.len(), basic(2)), (3, basic(1)));

    // Both refused is a refusal; and what may have been done is not sent again.
    let wrong = (401, refused("UNAUTHORIZED"));
    let (aduno, _) = with_two_passwords(&[wrong.clone(), wrong]);
    let result = aduno.refund(&key(), &request).await;
    assert_eq!(
        told(&result),
        (ErrorKind::Authentication, Delivery::Refused)
    );
    for answer in [
        (401, Value::Null),
        (401, json!("<html>")),
        (403, refused("FORBIDDEN")),
        (500, refused("UNAUTHORIZED")),
    ] {
        let (aduno, script) = with_two_passwords(&[answer]);
        assert!(aduno.refund(&key(), &request).await.is_err());
        assert_eq!(script.lines().len(), 1);
    }
}
