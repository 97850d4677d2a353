use super::*;
use crate::dialect::OutgoingWebhook;
use crate::ledger::{EntryKind, Ledger};

const ALIAS: &str = "AAABcH0BrFms3kgAESIAAfHfAmyjACIJ";
const LIMITED: &str = "AAABcH0Bq92s3kgAESIAAbGj5NIsAHWC";

/// The dialect and what it touches.
struct Stage {
    aduno: Aduno,
    now: Timestamp,
    ledger: Ledger,
    webhooks: Vec<OutgoingWebhook>,
    ids: u64,
    mode: Mode,
    key: Option<&'static str>,
}

impl Stage {
    fn new() -> Self {
        Self {
            aduno: Aduno::default(),
            now: Timestamp::from_seconds(1_767_225_600),
            ledger: Ledger::default(),
            webhooks: Vec::new(),
            ids: 0,
            mode: Mode::Normal,
            key: None,
        }
    }

    fn send(&mut self, method: &str, path: &str, body: &str) -> Response {
        let mut headers = http::HeaderMap::new();
        let pair = STANDARD.encode(format!("{MERCHANT_ID}:{PASSWORD}"));
        headers.insert(AUTHORIZATION, format!("Basic {pair}").parse().unwrap());
        if let Some(key) = self.key {
            headers.insert("idempotency-key", key.parse().unwrap());
        }
        self.send_with(method, path, body, headers)
    }

    fn send_with(
        &mut self,
        method: &str,
        path: &str,
        body: &str,
        headers: http::HeaderMap,
    ) -> Response {
        let call = Call {
            method: method.parse().unwrap(),
            path: path.to_owned(),
            query: String::new(),
            headers,
            body: Bytes::copy_from_slice(body.as_bytes()),
            mode: self.mode,
        };
        let mut world = World {
            provider: "aduno",
            now: self.now,
            base: "http://127.0.0.1:9103",
            webhook_url: Some("http://127.0.0.1:1/hooks"),
            ledger: &mut self.ledger,
            webhooks: &mut self.webhooks,
            ids: &mut self.ids,
        };
        self.aduno.answer(&call, &mut world)
    }

    fn post(&mut self, path: &str, body: &Value) -> (u16, Value) {
        read(&self.send("POST", path, &body.to_string()))
    }

    fn get(&mut self, path: &str) -> (u16, Value) {
        read(&self.send("GET", path, ""))
    }

    fn word(&mut self, id: &str) -> String {
        let (_, status) = self.get(&format!("/v1/transactions/{id}"));
        status["status"].as_str().unwrap().to_owned()
    }

    fn authorize(&mut self, settle: bool) -> String {
        let (status, body) = self.post("/v1/transactions/authorize", &charge(ALIAS, 1000, settle));
        assert_eq!(status, 200, "{body}");
        body["transactionId"].as_str().unwrap().to_owned()
    }

    fn start(&mut self, change: impl FnOnce(&mut Value)) -> String {
        let mut body = json!({
            "currency": "CHF", "refno": "r", "option": {"createAlias": true},
            "redirect": {"successUrl": "https://s.example/?a=1", "cancelUrl": "https://c.example/",
                         "errorUrl": "https://e.example/"},
        });
        change(&mut body);
        let (status, body) = self.post("/v1/transactions", &body);
        assert_eq!(status, 201, "{body}");
        body["transactionId"].as_str().unwrap().to_owned()
    }

    fn decide(&mut self, id: &str, decision: &str) -> String {
        let body = format!("decision={decision}");
        let path = format!("/v1/start/{id}");
        let answer = self.send_with("POST", &path, &body, http::HeaderMap::new());
        assert_eq!(answer.status(), 303);
        answer.headers()["location"].to_str().unwrap().to_owned()
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now.plus(Duration::from_secs(seconds));
    }

    fn moved(&self) -> Vec<(EntryKind, i64)> {
        let entries = self.ledger.entries().iter();
        entries
            .map(|entry| (entry.kind, entry.amount.minor()))
            .collect()
    }
}

fn read(response: &Response) -> (u16, Value) {
    let body = serde_json::from_slice(response.body()).unwrap_or(Value::Null);
    (response.status().as_u16(), body)
}

fn charge(alias: &str, amount: i64, settle: bool) -> Value {
    json!({
        "currency": "CHF", "refno": "r", "amount": amount, "autoSettle": settle,
        "card": {"type": "ALIAS", "alias": alias, "expiryMonth": "12", "expiryYear": "99"},
    })
}

fn settle(amount: i64) -> Value {
    json!({"amount": amount, "currency": "CHF", "refno": "r"})
}

#[test]
fn credentials_are_checked() {
    let mut stage = Stage::new();
    for header in [None, Some("Basic d3Jvbmc6d3Jvbmc="), Some("Bearer x")] {
        let mut headers = http::HeaderMap::new();
        if let Some(header) = header {
            headers.insert(AUTHORIZATION, header.parse().unwrap());
        }
        let answer = stage.send_with("GET", "/v1/transactions/000000000000000000", "", headers);
        let (status, body) = read(&answer);
        assert_eq!(
            (status, &body["error"]["code"]),
            (401, &json!("UNAUTHORIZED"))
        );
    }
    assert_eq!(stage.get("/upp/check").0, 200);
}

#[test]
fn a_hold_is_settled_once_and_credited_up_to_what_was_settled() {
    let mut stage = Stage::new();
    let id = stage.authorize(false);
    assert_eq!(stage.word(&id), "authorized");
    let path = |what: &str| format!("/v1/transactions/{id}/{what}");
    let code = |answer: (u16, Value)| answer.1["error"]["code"].as_str().unwrap_or("").to_owned();
    assert_eq!(
        code(stage.post(&path("credit"), &settle(1))),
        "INVALID_TRANSACTION_STATUS"
    );
    let above = stage.post(&path("settle"), &settle(1001));
    assert_eq!(above.1["error"]["message"], "exceeded authorization amount");
    let answer = stage.send("POST", &path("settle"), &settle(600).to_string());
    assert_eq!((answer.status().as_u16(), answer.body().len()), (204, 0));
    assert_eq!(
        stage.post(&path("settle"), &settle(400)).1["error"]["message"],
        "already settled"
    );
    assert_eq!(stage.post(&path("credit"), &settle(400)).0, 200);
    let above = stage.post(&path("credit"), &settle(201));
    assert_eq!(above.1["error"]["message"], "credit.amount");
    assert_eq!(
        code(stage.post(&path("cancel"), &json!({}))),
        "INVALID_TRANSACTION_STATUS"
    );
    stage.pass(20 * 60);
    assert_eq!(stage.word(&id), "transmitted");
    let (_, credit) = stage.post(&path("credit"), &settle(200));
    let credit = credit["transactionId"].as_str().unwrap().to_owned();
    let (_, shown) = stage.get(&format!("/v1/transactions/{credit}"));
    assert_eq!(
        (&shown["type"], &shown["status"]),
        (&json!("credit"), &json!("settled"))
    );
    assert_eq!(
        stage.moved(),
        [
            (EntryKind::Authorize, 1000),
            (EntryKind::Capture, 600),
            (EntryKind::Refund, 400),
            (EntryKind::Refund, 200)
        ]
    );
    assert!(
        stage
            .ledger
            .entries()
            .iter()
            .all(|entry| entry.object == id)
    );
    assert!(stage.webhooks.is_empty());
}

#[test]
fn a_cancel_takes_an_empty_object_and_lasts() {
    let mut stage = Stage::new();
    let id = stage.authorize(false);
    let path = format!("/v1/transactions/{id}/cancel");
    let unknown = stage.post(&path, &json!({"refno": "r"}));
    assert_eq!(unknown.1["error"]["code"], "UNRECOGNIZED_PROPERTY");
    assert_eq!(stage.post(&path, &json!({})).0, 204);
    assert_eq!(stage.word(&id), "canceled");
    assert_eq!(stage.post(&path, &json!({})).0, 400);
    assert_eq!(
        stage.moved(),
        [(EntryKind::Authorize, 1000), (EntryKind::Void, 1000)]
    );
    // Settled, and not yet transmitted.
    let id = stage.authorize(true);
    let path = format!("/v1/transactions/{id}/cancel");
    assert_eq!(stage.post(&path, &json!({})).0, 204);
}

#[test]
fn a_key_holds_an_hour_and_its_exact_bytes() {
    let mut stage = Stage::new();
    stage.key = Some("k1");
    let first = stage.post("/v1/transactions/authorize", &charge(ALIAS, 1000, false));
    let again = stage.post("/v1/transactions/authorize", &charge(ALIAS, 1000, false));
    assert_eq!(first, again);
    assert_eq!(
        stage
            .post("/v1/transactions/authorize", &charge(ALIAS, 1001, false))
            .0,
        422
    );
    stage.pass(3599);
    assert_eq!(
        first,
        stage.post("/v1/transactions/authorize", &charge(ALIAS, 1000, false))
    );
    assert_eq!(stage.moved().len(), 1);
    stage.pass(1);
    let anew = stage.post("/v1/transactions/authorize", &charge(ALIAS, 1000, false));
    assert_eq!(anew.0, 200);
    assert_ne!(first.1["transactionId"], anew.1["transactionId"]);
    assert_eq!(stage.moved().len(), 2);
}

#[test]
fn a_pending_call_is_in_flight_until_the_clock_moves() {
    let mut stage = Stage::new();
    stage.key = Some("k1");
    stage.mode = Mode::Pending;
    let body = charge(ALIAS, 1000, false);
    assert_eq!(stage.post("/v1/transactions/authorize", &body).0, 409);
    stage.mode = Mode::Normal;
    stage.pass(59);
    assert_eq!(stage.post("/v1/transactions/authorize", &body).0, 409);
    assert!(stage.moved().is_empty());
    stage.pass(1);
    let (status, answer) = stage.post("/v1/transactions/authorize", &body);
    assert_eq!(
        (status, &answer["acquirerAuthorizationCode"]),
        (200, &json!("120000"))
    );
    assert_eq!(stage.moved().len(), 1);
    let path = format!(
        "/v1/transactions/{}/settle",
        answer["transactionId"].as_str().unwrap()
    );
    stage.key = Some("k2");
    stage.mode = Mode::Pending;
    assert_eq!(stage.post(&path, &settle(1000)).0, 409);
    assert_eq!(stage.moved().len(), 1);
    stage.pass(60);
    assert_eq!(stage.post(&path, &settle(1000)).0, 204);
    assert_eq!(stage.moved().len(), 2);
}

#[test]
fn a_pending_credit_shows_it_by_its_status() {
    let mut stage = Stage::new();
    let id = stage.authorize(true);
    stage.mode = Mode::Pending;
    let path = format!("/v1/transactions/{id}/credit");
    let (status, answer) = stage.post(&path, &settle(1000));
    assert_eq!(
        (status, &answer["acquirerAuthorizationCode"]),
        (200, &Value::Null)
    );
    stage.mode = Mode::Normal;
    assert_eq!(stage.post(&path, &settle(1)).0, 400);
    let credit = answer["transactionId"].as_str().unwrap();
    assert_eq!(stage.word(credit), "authorized");
    assert_eq!(stage.moved().len(), 2);
    stage.pass(60);
    assert_eq!(stage.word(credit), "settled");
    assert_eq!(stage.moved().last(), Some(&(EntryKind::Refund, 1000)));
}

#[test]
fn an_authorization_needs_a_known_alias_with_its_date() {
    let mut stage = Stage::new();
    for (pointer, value, code, message) in [
        (
            "/card/alias",
            json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
            "INVALID_ALIAS",
            "authorize.card.alias",
        ),
        (
            "/card/expiryMonth",
            json!(null),
            "INVALID_PROPERTY",
            "authorize.card.expiryMonth",
        ),
        (
            "/card/expiryYear",
            json!("2030"),
            "INVALID_PROPERTY",
            "authorize.expiryYear",
        ),
        (
            "/card/expiryYear",
            json!("25"),
            "EXPIRED_CARD",
            "expired card",
        ),
        (
            "/card/type",
            json!("PLAIN"),
            "FORBIDDEN",
            "no card numbers here",
        ),
        (
            "/currency",
            json!("DKK"),
            "INVALID_PROPERTY",
            "authorize.currency",
        ),
        ("/amount", json!(0), "INVALID_PROPERTY", "authorize.amount"),
        (
            "/amount",
            json!(1.5),
            "INVALID_PROPERTY",
            "authorize.amount",
        ),
        (
            "/refno",
            json!(null),
            "INVALID_PROPERTY",
            "authorize.refno must not be null",
        ),
    ] {
        let mut body = charge(ALIAS, 1000, false);
        *body.pointer_mut(pointer).unwrap() = value;
        let (status, answer) = stage.post("/v1/transactions/authorize", &body);
        let error = &answer["error"];
        assert_eq!(
            (status, &error["code"], &error["message"]),
            (400, &json!(code), &json!(message))
        );
    }
    for (amount, code) in [
        (9000, ""),
        (9001, "DECLINED"),
        (10_500, ""),
        (11_001, "BLOCKED_CARD"),
    ] {
        let answer = stage
            .post(
                "/v1/transactions/authorize",
                &charge(LIMITED, amount, false),
            )
            .1;
        assert_eq!(
            answer["error"]["code"].as_str().unwrap_or(""),
            code,
            "{amount}"
        );
    }
    for path in ["/v1/aliases/tokenize", "/v1/aliases/detokenize"] {
        assert_eq!(stage.post(path, &json!({})).0, 403);
    }
}

#[test]
fn a_registration_leaves_an_alias_that_lives_until_it_is_deleted() {
    let mut stage = Stage::new();
    let id = stage.start(|_| {});
    assert_eq!(stage.word(&id), "initialized");
    let page = stage.send_with(
        "GET",
        &format!("/v1/start/{id}"),
        "",
        http::HeaderMap::new(),
    );
    assert_eq!(page.status(), 200);
    assert_eq!(
        stage.decide(&id, "approve"),
        format!("https://s.example/?a=1&datatransTrxId={id}")
    );
    let (_, status) = stage.get(&format!("/v1/transactions/{id}"));
    assert_eq!(
        (&status["type"], &status["status"]),
        (&json!("card_check"), &json!("authorized"))
    );
    let alias = status["card"]["alias"].as_str().unwrap().to_owned();
    assert_eq!(alias.len(), 32);
    let path = format!("/v1/aliases/{alias}");
    assert_eq!(stage.get(&path).1["card"]["expiryMonth"], Value::Null);
    let patched = read(&stage.send("PATCH", &path, r#"{"expiryMonth":"12","expiryYear":"99"}"#));
    assert_eq!(
        (patched.0, &patched.1["card"]["expiryYear"]),
        (200, &json!("99"))
    );
    assert_eq!(stage.get(&path).1["card"]["expiryMonth"], "12");
    assert_eq!(
        stage
            .post("/v1/transactions/authorize", &charge(&alias, 1, true))
            .0,
        200
    );
    assert_eq!(stage.send("DELETE", &path, "").status(), 204);
    assert_eq!(stage.get(&path).1["error"]["code"], "ALIAS_NOT_FOUND");
    let (_, refused) = stage.post("/v1/transactions/authorize", &charge(&alias, 1, true));
    assert_eq!(refused["error"]["code"], "INVALID_ALIAS");
    assert_eq!(
        stage.moved(),
        [(EntryKind::Authorize, 1), (EntryKind::Capture, 1)]
    );
    assert_eq!(stage.webhooks.len(), 1);
}

#[test]
fn a_visit_ends_as_the_customer_decides_or_lapses() {
    let mut stage = Stage::new();
    let pays = |body: &mut Value| {
        body["amount"] = json!(1000);
        body["autoSettle"] = json!(true);
    };
    for (decision, word, host) in [
        ("approve", "settled", "https://s.example/"),
        ("decline", "failed", "https://e.example/"),
        ("abandon", "canceled", "https://c.example/"),
    ] {
        let id = stage.start(pays);
        assert!(stage.decide(&id, decision).starts_with(host));
        assert_eq!(stage.word(&id), word);
        // What is decided stays.
        assert!(stage.decide(&id, "approve").starts_with(host));
    }
    assert_eq!(
        stage.moved(),
        [(EntryKind::Authorize, 1000), (EntryKind::Capture, 1000)]
    );
    let id = stage.start(pays);
    stage.pass(30 * 60);
    let (_, lapsed) = stage.get(&format!("/v1/transactions/{id}"));
    assert_eq!(lapsed["detail"]["fail"]["reason"], "timeout");
    stage.mode = Mode::Pending;
    let id = stage.start(pays);
    stage.mode = Mode::Normal;
    stage.decide(&id, "approve");
    assert_eq!(stage.word(&id), "challenge_ongoing");
    stage.pass(60);
    assert_eq!(stage.word(&id), "settled");
    stage.mode = Mode::Decline;
    let id = stage.start(pays);
    stage.mode = Mode::Normal;
    assert!(
        stage
            .decide(&id, "approve")
            .starts_with("https://e.example/")
    );
    let id = stage.start(|body| {
        pays(body);
        body["card"] = charge(ALIAS, 1, true)["card"].clone();
    });
    assert_eq!(stage.word(&id), "challenge_required");
}

#[test]
fn a_hold_lapses_after_thirty_days() {
    let mut stage = Stage::new();
    let id = stage.authorize(false);
    stage.pass(30 * 24 * 60 * 60 - 1);
    assert_eq!(stage.word(&id), "authorized");
    stage.pass(1);
    assert_eq!(stage.word(&id), "canceled");
    assert_eq!(
        stage
            .post(&format!("/v1/transactions/{id}/settle"), &settle(1000))
            .0,
        400
    );
}

#[test]
fn a_webhook_is_signed_over_time_and_body() {
    let mut stage = Stage::new();
    let id = stage.start(|body| body["webhook"] = json!({"url": "https://h.example/"}));
    stage.decide(&id, "approve");
    let webhook = stage.webhooks.pop().unwrap();
    assert_eq!(webhook.url, "https://h.example/");
    let (_, signature) = webhook.headers.last().unwrap();
    let (time, mac) = signature.split_once(",s0=").unwrap();
    // The text that the hexadecimal key stands for.
    let key = b"cardless-sandbox-aduno-webhook-1";
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
    let mut message = time.trim_start_matches("t=").as_bytes().to_vec();
    message.extend_from_slice(&webhook.body);
    let expected: String = ring::hmac::sign(&key, &message)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(mac, expected);
}

#[test]
fn parts_are_numbered_and_ids_have_18_digits() {
    let mut stage = Stage::new();
    let id = stage.authorize(false);
    assert!(id.len() == 18 && id.starts_with("260101000000"), "{id}");
    let part = |amount: i64, number: i64| {
        let mut body = settle(amount);
        body["partialCapture"] = json!({"sequenceNumber": number, "totalNumber": 2});
        body
    };
    let path = format!("/v1/transactions/{id}/settle");
    assert_eq!(stage.post(&path, &part(400, 2)).0, 400);
    assert_eq!(stage.post(&path, &part(400, 1)).0, 204);
    assert_eq!(stage.post(&path, &part(601, 2)).0, 400);
    assert_eq!(stage.post(&path, &part(600, 2)).0, 204);
    assert_eq!(stage.post(&path, &part(1, 3)).0, 400);
    assert_eq!(
        stage.get("/v1/transactions/1").1["error"]["code"],
        "INVALID_PROPERTY"
    );
}
