use http::{HeaderMap, HeaderName};

use super::*;
use crate::dialect::{OutgoingWebhook, PENDING_SECONDS};
use crate::ledger::{EntryKind, Ledger};

/// PayPal with a clock, a ledger and an access token.
struct Room {
    paypal: PayPal,
    ledger: Ledger,
    sent: Vec<OutgoingWebhook>,
    ids: u64,
    now: Timestamp,
    mode: Mode,
    access_token: String,
}

impl Room {
    fn new() -> Self {
        let mut room = Self {
            paypal: PayPal::default(),
            ledger: Ledger::default(),
            sent: Vec::new(),
            ids: 0,
            now: Timestamp::from_seconds(1_800_000_000),
            mode: Mode::Normal,
            access_token: String::new(),
        };
        room.sign_in();
        room
    }

    fn with<T>(&mut self, run: impl FnOnce(&mut PayPal, &mut World<'_>) -> T) -> T {
        let mut world = World {
            provider: "paypal",
            now: self.now,
            base: "http://127.0.0.1:9101",
            webhook_url: Some("http://127.0.0.1:9/hook"),
            ledger: &mut self.ledger,
            webhooks: &mut self.sent,
            ids: &mut self.ids,
        };
        run(&mut self.paypal, &mut world)
    }

    fn raw(
        &mut self,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (u16, Value) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pairs = headers.iter().map(|(name, value)| {
            (
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            )
        });
        let call = Call {
            method,
            path: path.to_owned(),
            query: query.to_owned(),
            headers: pairs.collect::<HeaderMap>(),
            body: Bytes::from(body.to_owned()),
            mode: std::mem::replace(&mut self.mode, Mode::Normal),
        };
        let response = self.with(|paypal, world| paypal.answer(&call, world));
        let body = serde_json::from_slice(response.body()).unwrap_or_default();
        (response.status().as_u16(), body)
    }

    fn sign_in(&mut self) {
        let basic = format!("Basic {}", STANDARD.encode("sandbox-client:sandbox-secret"));
        let headers = [("authorization", basic.as_str())];
        let (status, body) = self.raw(
            Method::POST,
            "/v1/oauth2/token",
            &headers,
            "grant_type=client_credentials",
        );
        assert_eq!(status, 200);
        self.access_token = body["access_token"].as_str().unwrap().to_owned();
    }

    fn get(&mut self, path: &str) -> (u16, Value) {
        let bearer = format!("Bearer {}", self.access_token);
        self.raw(Method::GET, path, &[("authorization", bearer.as_str())], "")
    }

    fn post(&mut self, path: &str, id: &str, body: &Value) -> (u16, Value) {
        let bearer = format!("Bearer {}", self.access_token);
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
            ("paypal-request-id", id),
            ("prefer", "return=representation"),
        ];
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.raw(Method::POST, path, &headers, &body)
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now.plus(Duration::from_secs(seconds));
        self.with(|paypal, world| paypal.tick(world));
    }

    /// A saved wallet, through the page.
    fn wallet(&mut self) -> String {
        let setup = json!({"payment_source": {"paypal": {"usage_type": "MERCHANT",
            "experience_context": {"return_url": "https://m.example/r", "cancel_url": "https://m.example/c"}}}});
        let (_, setup) = self.post("/v3/vault/setup-tokens", "s", &setup);
        let id = setup["id"].as_str().unwrap().to_owned();
        let convert = json!({"payment_source": {"token": {"id": id, "type": "SETUP_TOKEN"}}});
        assert_eq!(self.post("/v3/vault/payment-tokens", "t0", &convert).0, 422);
        let page = format!("/agreements/approve?approval_session_id={id}");
        assert_eq!(self.raw(Method::GET, &page, &[], "").0, 200);
        assert_eq!(
            self.raw(Method::POST, &page, &[], "decision=approve").0,
            303
        );
        let (status, token) = self.post("/v3/vault/payment-tokens", "t", &convert);
        assert_eq!(status, 201);
        token["id"].as_str().unwrap().to_owned()
    }

    fn order(&mut self, id: &str, intent: &str) -> String {
        let body = json!({"intent": intent, "purchase_units": [{"custom_id": id, "invoice_id": id,
            "amount": {"currency_code": "CHF", "value": "49.90"}}]});
        let (status, order) = self.post("/v2/checkout/orders", id, &body);
        assert_eq!((status, order["status"].as_str()), (201, Some("CREATED")));
        order["id"].as_str().unwrap().to_owned()
    }

    fn kinds(&self) -> Vec<EntryKind> {
        self.ledger
            .entries()
            .iter()
            .map(|entry| entry.kind)
            .collect()
    }
}

fn source(token: &str, initiator: &str) -> Value {
    json!({"payment_source": {"paypal": {"vault_id": token,
        "stored_credential": {"payment_initiator": initiator},
        "experience_context": {"return_url": "https://m.example/r", "cancel_url": "https://m.example/c"}}}})
}

fn chf(value: &str) -> Value {
    json!({"amount": {"currency_code": "CHF", "value": value}})
}

fn issue(body: &Value) -> &str {
    body["details"][0]["issue"].as_str().unwrap()
}

#[test]
fn credentials_and_access_tokens_are_checked() {
    let mut room = Room::new();
    let wrong = format!("Basic {}", STANDARD.encode("sandbox-client:other"));
    let (status, body) = room.raw(
        Method::POST,
        "/v1/oauth2/token",
        &[("authorization", &wrong)],
        "grant_type=client_credentials",
    );
    assert_eq!(
        (status, body["error"].as_str()),
        (401, Some("invalid_client"))
    );
    assert_eq!(
        room.raw(Method::GET, "/v2/checkout/orders/X", &[], "").0,
        401
    );
    assert_eq!(room.get("/v2/checkout/orders/X").0, 404);
    room.pass(ACCESS_TOKEN_SECONDS);
    assert_eq!(room.get("/v2/checkout/orders/X").0, 401);
}

#[test]
fn a_request_id_replays_the_latest_state_within_its_window() {
    let mut room = Room::new();
    let token = room.wallet();
    let order = room.order("a", "CAPTURE");
    assert_eq!(room.paypal.orders.len(), 1);
    let path = format!("/v2/checkout/orders/{order}/capture");
    let body = source(&token, "MERCHANT");
    assert_eq!(room.post(&path, "c", &body).0, 201);
    assert_eq!(room.post(&path, "c", &body).0, 200);
    let (status, refused) = room.post(&path, "c", &source(&token, "CUSTOMER"));
    assert_eq!(
        (status, issue(&refused)),
        (422, "PAYPAL_REQUEST_ID_PREVIOUSLY_USED")
    );
    let (_, refused) = room.post(&path, "c2", &body);
    assert_eq!(issue(&refused), "ORDER_ALREADY_CAPTURED");
    room.pass(6 * 3600);
    let (_, refused) = room.post(&path, "c", &body);
    assert_eq!(issue(&refused), "ORDER_ALREADY_CAPTURED");
    assert_eq!(room.kinds(), [EntryKind::Capture]);
}

#[test]
fn captures_and_refunds_stay_below_their_ceilings() {
    let mut room = Room::new();
    let token = room.wallet();
    let order = room.order("a", "AUTHORIZE");
    let path = format!("/v2/checkout/orders/{order}/authorize");
    let (_, body) = room.post(&path, "a1", &source(&token, "MERCHANT"));
    let held = body["purchase_units"][0]["payments"]["authorizations"][0]["id"]
        .as_str()
        .unwrap();
    let hold = format!("/v2/payments/authorizations/{held}");
    let (_, first) = room.post(&format!("{hold}/capture"), "c1", &chf("30.00"));
    assert_eq!(first["status"], "COMPLETED");
    let (_, refused) = room.post(&format!("{hold}/capture"), "c2", &chf("19.91"));
    assert_eq!(issue(&refused), "MAX_CAPTURE_AMOUNT_EXCEEDED");
    let refund = format!(
        "/v2/payments/captures/{}/refund",
        first["id"].as_str().unwrap()
    );
    assert_eq!(room.post(&refund, "r1", &chf("20.00")).0, 201);
    let (_, refused) = room.post(&refund, "r2", &chf("10.01"));
    assert_eq!(issue(&refused), "REFUND_AMOUNT_EXCEEDED");
    assert_eq!(room.post(&format!("{hold}/void"), "v", &Value::Null).0, 200);
    let (_, refused) = room.post(&format!("{hold}/void"), "v2", &Value::Null);
    assert_eq!(issue(&refused), "PREVIOUSLY_VOIDED");
    use EntryKind::{Authorize, Capture, Refund, Void};
    assert_eq!(room.kinds(), [Authorize, Capture, Refund, Void]);
}

#[test]
fn a_present_customer_approves_on_the_page() {
    let mut room = Room::new();
    let token = room.wallet();
    let order = room.order("a", "CAPTURE");
    let path = format!("/v2/checkout/orders/{order}/capture");
    let (status, refused) = room.post(&path, "c", &source(&token, "CUSTOMER"));
    assert_eq!((status, issue(&refused)), (422, "PAYER_ACTION_REQUIRED"));
    let page = format!("/checkoutnow?token={order}");
    assert_eq!(
        room.raw(Method::POST, &page, &[], "decision=decline").0,
        303
    );
    assert_eq!(
        issue(&room.post(&path, "p", &json!({})).1),
        "ORDER_NOT_APPROVED"
    );
    assert_eq!(
        room.raw(Method::POST, &page, &[], "decision=approve").0,
        303
    );
    assert_eq!(room.post(&path, "p", &json!({})).0, 201);
    assert_eq!(room.kinds(), [EntryKind::Capture]);
}

#[test]
fn faults_decline_and_delay() {
    let mut room = Room::new();
    let token = room.wallet();
    room.mode = Mode::Decline;
    let order = room.order("a", "CAPTURE");
    let path = format!("/v2/checkout/orders/{order}/capture");
    let (_, refused) = room.post(&path, "c", &source(&token, "MERCHANT"));
    assert_eq!(issue(&refused), "INSTRUMENT_DECLINED");
    room.mode = Mode::Pending;
    let (_, body) = room.post(&path, "c", &source(&token, "MERCHANT"));
    assert_eq!(
        body["purchase_units"][0]["payments"]["captures"][0]["status"],
        "PENDING"
    );
    assert_eq!(room.kinds(), []);
    room.pass(PENDING_SECONDS);
    let (_, body) = room.get(&format!("/v2/checkout/orders/{order}"));
    assert_eq!(
        body["purchase_units"][0]["payments"]["captures"][0]["status"],
        "COMPLETED"
    );
    assert_eq!(room.kinds(), [EntryKind::Capture]);
}

#[test]
fn webhooks_are_signed_and_paypals_own_check_agrees() {
    let mut room = Room::new();
    drop(room.wallet());
    let sent = room.sent.pop().unwrap();
    let header = |wanted: &str| {
        let found = sent.headers.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.clone()).unwrap()
    };
    let event = std::str::from_utf8(&sent.body).unwrap();
    let ask = |webhook_id: &str| {
        format!(
            r#"{{"auth_algo":"SHA256withRSA","cert_url":"{}","transmission_id":"{}","transmission_sig":"{}","transmission_time":"{}","webhook_id":"{webhook_id}","webhook_event":{event}}}"#,
            header("Paypal-Cert-Url"),
            header("Paypal-Transmission-Id"),
            header("Paypal-Transmission-Sig"),
            header("Paypal-Transmission-Time"),
        )
    };
    let bearer = format!("Bearer {}", room.access_token);
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    for (id, expected) in [(WEBHOOK_ID, "SUCCESS"), ("OTHER", "FAILURE")] {
        let path = "/v1/notifications/verify-webhook-signature";
        let (_, body) = room.raw(Method::POST, path, &headers, &ask(id));
        assert_eq!(body["verification_status"], expected);
    }
    let certificate = format!("/v1/notifications/certs/{CERTIFICATE_ID}");
    assert_eq!(room.raw(Method::GET, &certificate, &[], "").0, 200);
}

#[test]
fn amounts_are_read_as_strictly_as_paypal_does() {
    let read = |code: &str, value: &str| {
        let money = json!({"currency_code": code, "value": value});
        reply::read_money(Some(&money)).is_ok()
    };
    assert!(read("CHF", "49.90") && read("CHF", "49") && read("JPY", "500"));
    for (code, value) in [
        ("HUF", "1.00"),
        ("CHF", "1.001"),
        ("CHF", "0"),
        ("CHF", "-1"),
        ("KWD", "1.00"),
        ("CHF", "x"),
    ] {
        assert!(!read(code, value), "{code} {value}");
    }
}

#[test]
fn agreements_are_made_charged_and_cancelled() {
    let mut room = Room::new();
    let begin = json!({"description": "x", "payer": {"payment_method": "PAYPAL"}, "plan": {
        "type": "MERCHANT_INITIATED_BILLING",
        "merchant_preferences": {"return_url": "https://m.example/r", "cancel_url": "https://m.example/c"}}});
    let (_, begun) = room.post("/v1/billing-agreements/agreement-tokens", "b", &begin);
    let id = begun["token_id"].as_str().unwrap();
    let complete = json!({"token_id": id});
    assert_eq!(
        room.post("/v1/billing-agreements/agreements", "x", &complete)
            .0,
        422
    );
    let page = format!("/agreements/approve?ba_token={id}");
    assert_eq!(
        room.raw(Method::POST, &page, &[], "decision=approve").0,
        303
    );
    let (_, agreement) = room.post("/v1/billing-agreements/agreements", "y", &complete);
    let id = agreement["id"].as_str().unwrap();
    let source = json!({"payment_source": {"token": {"id": id, "type": "BILLING_AGREEMENT"}}});
    let order = room.order("a", "CAPTURE");
    assert_eq!(
        room.post(
            &format!("/v2/checkout/orders/{order}/capture"),
            "c",
            &source
        )
        .0,
        201
    );
    let cancel = format!("/v1/billing-agreements/agreements/{id}/cancel");
    assert_eq!(room.post(&cancel, "z", &Value::Null).0, 204);
    let order = room.order("b", "CAPTURE");
    let (_, refused) = room.post(
        &format!("/v2/checkout/orders/{order}/capture"),
        "d",
        &source,
    );
    assert_eq!(issue(&refused), "AGREEMENT_ALREADY_CANCELLED");
}
