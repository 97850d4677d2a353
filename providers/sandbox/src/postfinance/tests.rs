use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cardless_contract::Timestamp;
use http::HeaderMap;
use ring::hmac;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use serde_json::{Value, json};

use super::model::OPEN;
use super::*;
use crate::dialect::{Mode, OutgoingWebhook, PENDING_SECONDS};
use crate::ledger::Ledger;

const BASE: &str = "http://127.0.0.1:9102";
const START: i64 = 1_700_000_000;

/// The dialect and all that it touches.
struct Bench {
    dialect: PostFinance,
    ledger: Ledger,
    webhooks: Vec<OutgoingWebhook>,
    ids: u64,
    now: Timestamp,
}

fn bench() -> Bench {
    Bench {
        dialect: PostFinance::default(),
        ledger: Ledger::default(),
        webhooks: Vec::new(),
        ids: 0,
        now: Timestamp::from_seconds(START),
    }
}

fn token(claims: &Value) -> String {
    token_under(r#"{"alg":"HS256","typ":"JWT","ver":1}"#, claims)
}

fn token_under(header: &str, claims: &Value) -> String {
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let key = hmac::Key::new(
        hmac::HMAC_SHA256,
        &STANDARD.decode(AUTHENTICATION_KEY).unwrap(),
    );
    format!(
        "{signed}.{}",
        URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()))
    )
}

fn claims(method: &str, path: &str) -> Value {
    json!({"sub": "512", "iat": START, "requestPath": path, "requestMethod": method})
}

fn call(method: &str, path: &str, body: &str, mode: Mode) -> Call {
    let (only_path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut headers = HeaderMap::new();
    let bearer = format!("Bearer {}", token(&claims(method, path)));
    headers.insert("authorization", bearer.parse().unwrap());
    headers.insert("space", "405".parse().unwrap());
    headers.insert("accept", "text/plain,application/json".parse().unwrap());
    if !body.is_empty() {
        headers.insert("content-type", "application/json".parse().unwrap());
    }
    Call {
        method: method.parse().unwrap(),
        path: only_path.to_owned(),
        query: query.to_owned(),
        headers,
        body: Bytes::from(body.to_owned()),
        mode,
    }
}

impl Bench {
    fn with<T>(&mut self, act: impl FnOnce(&mut PostFinance, &mut World<'_>) -> T) -> T {
        let mut world = World {
            provider: "postfinance",
            now: self.now,
            base: BASE,
            webhook_url: Some("http://127.0.0.1:1/hook"),
            ledger: &mut self.ledger,
            webhooks: &mut self.webhooks,
            ids: &mut self.ids,
        };
        act(&mut self.dialect, &mut world)
    }

    fn send(&mut self, call: &Call) -> Response {
        self.with(|dialect, world| dialect.answer(call, world))
    }

    fn mode(&mut self, mode: Mode, method: &str, path: &str, body: &str) -> (u16, Value) {
        let call = call(method, &format!("{BASE_PATH}{path}"), body, mode);
        let response = self.send(&call);
        let value = serde_json::from_slice(response.body()).unwrap_or(Value::Null);
        (response.status().as_u16(), value)
    }

    fn ask(&mut self, method: &str, path: &str, body: &str) -> (u16, Value) {
        self.mode(Mode::Normal, method, path, body)
    }

    fn raw(&mut self, method: &str, path: &str) -> String {
        let call = call(method, &format!("{BASE_PATH}{path}"), "", Mode::Normal);
        String::from_utf8(self.send(&call).into_body().to_vec()).unwrap()
    }

    /// Lets the time pass for the dialect alone, so that the requests' JWTs stay fresh.
    fn advance(&mut self, seconds: u64) {
        self.now = self.now.plus(std::time::Duration::from_secs(seconds));
        self.with(|dialect, world| dialect.tick(world));
        self.now = Timestamp::from_seconds(START);
    }

    /// Decides at the page of a transaction; where the browser goes.
    fn decide(&mut self, id: &str, decision: &str) -> String {
        let url = self.raw(
            "GET",
            &format!("/payment/transactions/{id}/payment-page-url"),
        );
        let path = url.strip_prefix(BASE).unwrap();
        let page = self.send(&call("GET", path, "", Mode::Normal));
        assert_eq!(page.status(), 200);
        let form = format!("decision={decision}");
        let answer = self.send(&call("POST", path, &form, Mode::Normal));
        assert_eq!(answer.status(), 303);
        answer.headers()["location"].to_str().unwrap().to_owned()
    }

    fn create(&mut self, more: &str, amount: &str) -> String {
        let body = format!(
            r#"{{"currency":"CHF","merchantReference":"ref-1","successUrl":"https://a.example/ok",
            "failedUrl":"https://a.example/nok"{more},"lineItems":[{{"uniqueId":"1","type":"PRODUCT",
            "name":"Plan","quantity":1,"amountIncludingTax":{amount}}}]}}"#
        );
        let (status, answer) = self.ask("POST", "/payment/transactions", &body);
        assert_eq!(
            (status, &answer["state"]),
            (201, &json!("PENDING")),
            "{answer}"
        );
        answer["id"].to_string()
    }

    /// A token, by a registration that costs nothing.
    fn register(&mut self) -> String {
        let id = self.create(r#","tokenizationMode":"FORCE_CREATION""#, "0");
        assert_eq!(self.decide(&id, "approve"), "https://a.example/ok");
        let path = format!("/payment/transactions/{id}?expand=token");
        let (_, transaction) = self.ask("GET", &path, "");
        assert_eq!(transaction["state"], "FULFILL");
        transaction["token"]["id"].to_string()
    }

    /// A processed charge of a fresh token.
    fn charge(&mut self, behavior: &str, amount: &str) -> String {
        let token = self.register();
        let more = format!(r#","token":{token},"completionBehavior":"{behavior}""#);
        let id = self.create(&more, amount);
        let path = format!("/payment/transactions/{id}/process-with-token");
        let (status, charge) = self.ask("POST", &path, "");
        assert_eq!(
            (status, &charge["state"]),
            (200, &json!("SUCCESSFUL")),
            "{charge}"
        );
        id
    }

    fn state(&mut self, id: &str) -> Value {
        self.ask("GET", &format!("/payment/transactions/{id}"), "")
            .1["state"]
            .clone()
    }

    fn movements(&self) -> Vec<String> {
        let entries = self.ledger.entries().iter();
        entries
            .map(|entry| format!("{:?} {}", entry.kind, entry.amount))
            .collect()
    }
}

#[test]
fn a_jwt_is_checked_in_every_part() {
    let path = format!("{BASE_PATH}/payment/transactions/search?limit=1");
    let good = claims("GET", &path);
    let mut bench = bench();
    let mut status = |claims: &Value, change: &dyn Fn(String) -> String| {
        let mut call = call("GET", &path, "", Mode::Normal);
        let bearer = format!("Bearer {}", change(token(claims)));
        call.headers
            .insert("authorization", bearer.parse().unwrap());
        bench.send(&call).status().as_u16()
    };
    assert_eq!(status(&good, &|token| token), 200);
    for (name, value) in [
        ("sub", json!("513")),
        ("sub", json!(512)),
        ("requestMethod", json!("POST")),
        (
            "requestPath",
            json!(format!("{BASE_PATH}/payment/transactions/search")),
        ),
        ("iat", json!(START - 601)),
        ("iat", json!(START + 601)),
    ] {
        let mut bad = good.clone();
        bad[name] = value;
        assert_eq!(status(&bad, &|token| token), 401, "{name}");
    }
    // One SDK of the provider's says `type` for `typ`; everybody says `ver`.
    for (header, wanted) in [
        (r#"{"alg":"HS256","type":"JWT","ver":1}"#, 200),
        (r#"{"alg":"HS256","typ":"JWT"}"#, 401),
        (r#"{"alg":"HS256","typ":"JWT","ver":"1"}"#, 401),
        (r#"{"alg":"HS256","typ":"JWT","ver":2}"#, 401),
        (r#"{"alg":"none","typ":"JWT","ver":1}"#, 401),
    ] {
        let found = status(&good, &|_| token_under(header, &good));
        assert_eq!(found, wanted, "{header}");
    }
    assert_eq!(status(&good, &|token| format!("{token}AA")), 401);
    assert_eq!(status(&good, &|token| token.replacen('.', "", 1)), 401);
    assert_eq!(status(&good, &|_| String::new()), 401);
}

#[test]
fn the_space_header_is_required_where_it_is_documented() {
    let mut bench = bench();
    let mut call = call(
        "GET",
        &format!("{BASE_PATH}/payment/tokens"),
        "",
        Mode::Normal,
    );
    call.headers.insert("space", "406".parse().unwrap());
    assert_eq!(bench.send(&call).status(), 403);
    call.headers.remove("space");
    assert_eq!(bench.send(&call).status(), 400);
    let path = format!("{BASE_PATH}/spaces/405");
    let mut call = self::call("GET", &path, "", Mode::Normal);
    call.headers.remove("space");
    assert_eq!(bench.send(&call).status(), 200);
    call.headers.insert("accept", "text/html".parse().unwrap());
    assert_eq!(bench.send(&call).status(), 406);
}

#[test]
fn a_registration_makes_a_token_and_moves_nothing() {
    let mut bench = bench();
    let token = bench.register();
    let (status, version) = bench.ask(
        "GET",
        &format!("/payment/tokens/{token}/active-version"),
        "",
    );
    assert_eq!((status, &version["state"]), (200, &json!("ACTIVE")));
    assert!(bench.movements().is_empty());

    let declined = bench.create(r#","tokenizationMode":"FORCE_CREATION""#, "0");
    assert_eq!(bench.decide(&declined, "decline"), "https://a.example/nok");
    assert_eq!(bench.state(&declined), "FAILED");
    let abandoned = bench.create("", "0");
    assert_eq!(bench.decide(&abandoned, "abandon"), "https://a.example/nok");
    assert_eq!(bench.state(&abandoned), "PENDING");
    bench.advance(OPEN.as_secs() - 1);
    assert_eq!(bench.state(&abandoned), "PENDING");
    bench.advance(OPEN.as_secs());
    assert_eq!(bench.state(&abandoned), "FAILED");
}

#[test]
fn a_page_needs_its_security_token() {
    let mut bench = bench();
    let id = bench.create("", "5");
    let path = format!("{PAGE_PATH}{id}");
    for query in ["", "?securityToken=", "?securityToken=00"] {
        let call = call("GET", &format!("{path}{query}"), "", Mode::Normal);
        assert_eq!(bench.send(&call).status(), 403, "{query}");
    }
}

#[test]
fn a_charge_is_taken_once() {
    let mut bench = bench();
    let id = bench.charge("COMPLETE_IMMEDIATELY", "29.95");
    assert_eq!(bench.state(&id), "FULFILL");
    let path = format!("/payment/transactions/{id}/process-with-token");
    assert_eq!(bench.ask("POST", &path, "").0, 422);
    assert_eq!(bench.movements(), ["Capture CHF 29.95"]);
    let text = bench.raw("GET", &format!("/payment/transactions/{id}"));
    assert!(text.contains(r#""completedAmount":29.95"#), "{text}");
    assert!(text.contains(r#""amountIncludingTax":29.95"#), "{text}");
}

#[test]
fn captures_and_refunds_are_keyed_and_have_ceilings() {
    let mut bench = bench();
    let id = bench.charge("COMPLETE_DEFERRED", "30");
    assert_eq!(bench.state(&id), "AUTHORIZED");
    let complete = format!("/payment/transactions/{id}/complete-partially-online");
    let part = |key: &str, amount: &str| {
        format!(
            r#"{{"externalId":"{key}","lastCompletion":false,
            "lineItems":[{{"uniqueId":"1","quantity":1,"amount":{amount}}}]}}"#
        )
    };
    let (_, first) = bench.ask("POST", &complete, &part("c-1", "10"));
    assert_eq!(first["state"], "SUCCESSFUL");
    let (_, again) = bench.ask("POST", &complete, &part("c-1", "10"));
    assert_eq!(again["id"], first["id"]);
    assert_eq!(bench.ask("POST", &complete, &part("c-2", "20.01")).0, 422);
    assert_eq!(bench.ask("POST", &complete, &part("c-2", "0.001")).0, 422);
    assert_eq!(bench.state(&id), "AUTHORIZED");
    let void = format!("/payment/transactions/{id}/void-online");
    assert_eq!(bench.ask("POST", &void, "").0, 422);
    let (status, _) = bench.ask("POST", &complete, r#"{"externalId":"c-3"}"#);
    assert_eq!((status, bench.state(&id)), (200, json!("FULFILL")));

    let refund = |key: &str, amount: &str| {
        format!(
            r#"{{"externalId":"{key}","type":"MERCHANT_INITIATED_ONLINE","transaction":{id},
            "amount":{amount}}}"#
        )
    };
    let (status, first) = bench.ask("POST", "/payment/refunds", &refund("r-1", "12.50"));
    assert_eq!((status, &first["state"]), (201, &json!("SUCCESSFUL")));
    let (_, again) = bench.ask("POST", "/payment/refunds", &refund("r-1", "12.50"));
    assert_eq!(again["id"], first["id"]);
    assert_eq!(
        bench
            .ask("POST", "/payment/refunds", &refund("r-2", "17.51"))
            .0,
        422
    );
    assert_eq!(
        bench
            .ask("POST", "/payment/refunds", &refund("r-2", "17.5"))
            .0,
        201
    );
    let all = [
        "Authorize CHF 30.00",
        "Capture CHF 10.00",
        "Capture CHF 20.00",
    ];
    let back = ["Refund CHF 12.50", "Refund CHF 17.50"];
    assert_eq!(bench.movements(), [&all[..], &back[..]].concat());
}

#[test]
fn a_refund_by_reductions_follows_the_formula() {
    let mut bench = bench();
    let id = bench.charge("COMPLETE_IMMEDIATELY", "30");
    let body = format!(
        r#"{{"externalId":"r","type":"MERCHANT_INITIATED_ONLINE","transaction":{id},
        "reductions":[{{"lineItemUniqueId":"1","quantityReduction":0.5,"unitPriceReduction":2}}]}}"#
    );
    let (status, refund) = bench.ask("POST", "/payment/refunds", &body);
    assert_eq!(
        (status, refund["amount"].to_string()),
        (201, "16.0".to_owned())
    );
}

#[test]
fn a_hold_is_voided_or_lapses() {
    let mut bench = bench();
    let voided = bench.charge("COMPLETE_DEFERRED", "5");
    let path = format!("/payment/transactions/{voided}/void-online");
    assert_eq!(bench.ask("POST", &path, "").1["state"], "SUCCESSFUL");
    assert_eq!(bench.state(&voided), "VOIDED");
    assert_eq!(bench.ask("POST", &path, "").0, 422);
    let lapsed = bench.charge("COMPLETE_DEFERRED", "6");
    bench.advance(model::HOLD.as_secs());
    assert_eq!(bench.state(&lapsed), "VOIDED");
    let voids = bench.movements();
    assert_eq!(
        voids
            .iter()
            .filter(|entry| entry.starts_with("Void"))
            .count(),
        2
    );
}

#[test]
fn faults_decline_or_delay() {
    let mut bench = bench();
    let token = bench.register();
    let process = |id: &str| format!("/payment/transactions/{id}/process-with-token");
    let more = format!(r#","token":{token},"completionBehavior":"COMPLETE_DEFERRED""#);
    let declined = bench.create(&more, "5");
    let (status, charge) = bench.mode(Mode::Decline, "POST", &process(&declined), "");
    assert_eq!(
        (status, &charge["failureReason"]["category"]),
        (200, &json!("END_USER"))
    );
    assert_eq!(bench.state(&declined), "FAILED");
    assert!(bench.movements().is_empty());

    let pending = bench.create(&more, "5");
    bench.mode(Mode::Pending, "POST", &process(&pending), "");
    assert_eq!(bench.state(&pending), "PROCESSING");
    bench.advance(PENDING_SECONDS);
    assert_eq!(bench.state(&pending), "AUTHORIZED");

    let complete = format!("/payment/transactions/{pending}/complete-partially-online");
    let body = r#"{"externalId":"c","lastCompletion":true}"#;
    let (_, completion) = bench.mode(Mode::Pending, "POST", &complete, body);
    assert_eq!(completion["state"], "PENDING");
    assert_eq!(bench.movements(), ["Authorize CHF 5.00"]);
    bench.advance(PENDING_SECONDS);
    assert_eq!(bench.state(&pending), "FULFILL");
    assert_eq!(
        bench.movements(),
        ["Authorize CHF 5.00", "Capture CHF 5.00"]
    );
}

#[test]
fn a_fault_at_the_making_meets_the_payment() {
    let mut bench = bench();
    let token = bench.register();
    let body = format!(
        r#"{{"token":{token},"lineItems":[{{"uniqueId":"1","type":"PRODUCT","name":"x",
        "quantity":1,"amountIncludingTax":5}}]}}"#
    );
    let (status, made) = bench.mode(Mode::Decline, "POST", "/payment/transactions", &body);
    assert_eq!((status, &made["state"]), (201, &json!("PENDING")));
    let id = made["id"].to_string();
    let process = format!("/payment/transactions/{id}/process-with-token");
    assert_eq!(bench.ask("POST", &process, "").1["state"], "FAILED");
}

#[test]
fn a_change_needs_the_present_version() {
    let mut bench = bench();
    let id = bench.create("", "5");
    let path = format!("/payment/transactions/{id}");
    assert_eq!(bench.ask("PATCH", &path, r#"{"version":1}"#).0, 409);
    let (status, patched) = bench.ask("PATCH", &path, r#"{"version":2,"language":"de-CH"}"#);
    assert_eq!((status, &patched["version"]), (200, &json!(3)));
    let (_, confirmed) = bench.ask("POST", &format!("{path}/confirm"), r#"{"version":3}"#);
    assert_eq!(confirmed["state"], "CONFIRMED");
    assert_eq!(bench.ask("PATCH", &path, r#"{"version":5}"#).0, 422);
}

#[test]
fn a_deleted_token_can_not_be_charged() {
    let mut bench = bench();
    let token = bench.register();
    let path = format!("/payment/tokens/{token}");
    let more = format!(r#","token":{token}"#);
    let id = bench.create(&more, "5");
    assert_eq!(bench.ask("DELETE", &path, "").0, 204);
    assert_eq!(bench.ask("DELETE", &path, "").0, 404);
    assert_eq!(
        bench.ask("GET", &format!("{path}/active-version"), "").0,
        404
    );
    let process = format!("/payment/transactions/{id}/process-with-token");
    assert_eq!(bench.ask("POST", &process, "").0, 422);
}

#[test]
fn a_token_is_renewed_behind_its_id() {
    let mut bench = bench();
    let token = bench.register();
    let path = format!("/payment/tokens/{token}/create-transaction-for-token-update");
    let (_, transaction) = bench.ask("POST", &path, "");
    let id = transaction["id"].to_string();
    let patch = r#"{"version":2,"currency":"CHF","successUrl":"https://a.example/ok","lineItems":
        [{"uniqueId":"1","type":"PRODUCT","name":"x","quantity":1,"amountIncludingTax":0}]}"#;
    assert_eq!(
        bench
            .ask("PATCH", &format!("/payment/transactions/{id}"), patch)
            .0,
        200
    );
    bench.decide(&id, "approve");
    let (_, versions) = bench.ask("GET", "/payment/token-versions", "");
    let states: Vec<_> = versions["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["state"].clone())
        .collect();
    assert_eq!(states, ["OBSOLETE", "ACTIVE"]);
}

#[test]
fn objects_are_found_by_query() {
    let mut bench = bench();
    let id = bench.charge("COMPLETE_IMMEDIATELY", "5");
    let found = |bench: &mut Bench, path: &str| {
        bench.ask("GET", path, "").1["data"]
            .as_array()
            .map_or(0, Vec::len)
    };
    for (path, count) in [
        (
            "/payment/transactions/search?query=merchantReference%3A%22ref-1%22&limit=2",
            2,
        ),
        (
            "/payment/transactions/search?query=merchantReference%3A%22ref%22&limit=2",
            0,
        ),
        (
            "/payment/transactions/search?query=state%3AFULFILL&order=id%3ADESC",
            2,
        ),
        ("/payment/tokens/search?query=state%3AACTIVE", 1),
        (
            "/payment/charge-attempts/search?query=state%3ASUCCESSFUL",
            2,
        ),
        ("/payment/refunds/search", 0),
    ] {
        assert_eq!(found(&mut bench, path), count, "{path}");
    }
    let path = format!("/payment/transactions/completions/search?query=linkedTransaction%3A{id}");
    assert_eq!(found(&mut bench, &path), 1);
    let bad = "/payment/transactions/search?query=%28";
    assert_eq!(bench.ask("GET", bad, "").0, 400);
    assert_eq!(
        bench
            .ask("GET", "/payment/refunds/search?offset=99999", "")
            .0,
        416
    );
    assert_eq!(
        bench.ask("GET", "/payment/refunds/search?limit=101", "").0,
        400
    );
}

#[test]
fn webhooks_are_signed_over_their_bytes() {
    let mut bench = bench();
    let url = r#"{"name":"u","url":"http://127.0.0.1:2/own","state":"ACTIVE"}"#;
    let (_, url) = bench.ask("POST", "/webhooks/urls", url);
    let listener = format!(
        r#"{{"url":{},"entity":1472041829003,"entityStates":["FULFILL"],"name":"l"}}"#,
        url["id"]
    );
    let (_, listener) = bench.ask("POST", "/webhooks/listeners", &listener);
    assert_eq!(listener["enablePayloadSignatureAndState"], true);
    bench.charge("COMPLETE_IMMEDIATELY", "5");
    let own = bench
        .webhooks
        .iter()
        .filter(|webhook| webhook.url.ends_with("/own"))
        .count();
    assert_eq!(own, 2);

    let key = bench.raw(
        "GET",
        &format!("/webhooks/encryption-keys/{WEBHOOK_KEY_ID}"),
    );
    let der = STANDARD.decode(key).unwrap();
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &der[26..]);
    for webhook in &bench.webhooks {
        let header = &webhook
            .headers
            .iter()
            .find(|(name, _)| name == "x-signature")
            .unwrap()
            .1;
        let head = format!("algorithm=SHA256withECDSA, keyId={WEBHOOK_KEY_ID}, signature=");
        let signature = STANDARD
            .decode(header.strip_prefix(&head).unwrap())
            .unwrap();
        key.verify(&webhook.body, &signature).unwrap();
        let body: Value = serde_json::from_slice(&webhook.body).unwrap();
        assert_eq!(body["spaceId"], 405);
        assert_eq!(body["timestamp"], "2023-11-14T22:13:20+0000");
    }
}

#[test]
fn malformed_bodies_are_refused() {
    let mut bench = bench();
    let item = |amount: &str| {
        format!(
            r#"{{"lineItems":[{{"uniqueId":"1","type":"PRODUCT","name":"x","quantity":1,
            "amountIncludingTax":{amount}}}]}}"#
        )
    };
    for (body, status) in [
        ("{".to_owned(), 400),
        ("{}".to_owned(), 400),
        (r#"{"lineItems":[]}"#.to_owned(), 422),
        (item("\"5\""), 422),
        (item("-5"), 422),
        (item("5.001"), 422),
        (item("5e0"), 422),
        (item("5").replace("PRODUCT", "GIFT"), 400),
        (item("5").replacen('{', r#"{"token":1,"#, 1), 422),
        (item("5").replacen('{', r#"{"currency":"XXX","#, 1), 422),
        (
            item("5").replacen('{', r#"{"completionBehavior":"LATER","#, 1),
            400,
        ),
    ] {
        let (got, answer) = bench.ask("POST", "/payment/transactions", &body);
        assert_eq!(got, status, "{body}: {answer}");
        assert!(answer["code"].is_string() && answer["id"].is_string());
    }
}
