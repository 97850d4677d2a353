//! Each judge first refuses what is known to be wrong, then lets the documented request pass.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::*;

const SPACE: (&str, &str) = ("Space", "405");
const KEY: (&str, &str) = ("Idempotency-Key", "0b1e0f0e-6a1f-4d52-9d0e-2f5b1c7f9a11");
const REQUEST_ID: (&str, &str) = ("PayPal-Request-Id", "abc-o");

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: Option<Value>) -> Request {
    let bytes = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
    let mut builder = http::Request::builder()
        .method(method)
        .uri(format!("http://127.0.0.1:9{path}"));
    if !bytes.is_empty() {
        builder = builder.header("Content-Type", "application/json; charset=UTF-8");
    }
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(bytes).unwrap()
}

fn answer(status: u16, kind: &str, body: &str) -> Response {
    http::Response::builder()
        .status(status)
        .header("Content-Type", kind)
        .body(Bytes::copy_from_slice(body.as_bytes()))
        .unwrap()
}

fn aduno(method: &str, path: &str, body: Option<Value>) -> Request {
    let mut headers = vec![("Authorization", "Basic eDp5")];
    if method == "POST" {
        headers.push(KEY);
    }
    request(method, path, &headers, body)
}

fn paypal(method: &str, path: &str, body: Option<Value>) -> Request {
    let headers = [("Authorization", "Bearer A21AA"), REQUEST_ID];
    request(method, path, &headers, body)
}

fn postfinance(method: &str, path: &str, body: Option<Value>) -> Request {
    let path = format!("/api/v2.0{path}");
    let claims =
        json!({"sub": "512", "iat": 1_764_000_000, "requestPath": path, "requestMethod": method});
    let token = format!("x.{}.y", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let bearer = format!("Bearer {token}");
    request(method, &path, &[("Authorization", &bearer), SPACE], body)
}

/// The one fault must speak of `about`.
fn refused(judge: &Judge, request: &Request, about: &str) {
    let faults = judge.request(request);
    assert!(
        faults.iter().any(|fault| fault.what.contains(about)),
        "expected a fault about `{about}`, found {faults:?}"
    );
}

fn passes(judge: &Judge, request: &Request) {
    assert_eq!(judge.request(request), []);
}

fn with(mut body: Value, pointer: &str, value: Value) -> Value {
    *body.pointer_mut(pointer).unwrap() = value;
    body
}

fn without(mut body: Value, parent: &str, member: &str) -> Value {
    let parent = body.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    assert!(parent.remove(member).is_some());
    body
}

fn plus(mut body: Value, parent: &str, member: &str) -> Value {
    let parent = body.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    parent.insert(member.to_owned(), json!("x"));
    body
}

fn authorize() -> Value {
    json!({
        "currency": "CHF", "refno": "abcdef", "amount": 1990, "autoSettle": false,
        "card": { "type": "ALIAS", "alias": "7LHXscqwAAEAAAGQnJCjw96fy0pzAPTN", "expiryMonth": "12", "expiryYear": "28" }
    })
}

#[test]
fn aduno_refuses_what_is_wrong() {
    let Some(judge) = Judge::for_provider("aduno") else {
        return;
    };
    let path = "/v1/transactions/authorize";
    let wrong = |body: Value, about: &str| refused(&judge, &aduno("POST", path, Some(body)), about);
    wrong(plus(authorize(), "", "autoSetle"), "`autoSetle`");
    wrong(plus(authorize(), "/card", "expiry"), "`card.expiry`");
    wrong(plus(authorize(), "/card", "number"), "`card.number`");
    wrong(with(authorize(), "/amount", json!("1990")), "/amount");
    wrong(with(authorize(), "/amount", json!(19.9)), "/amount");
    wrong(
        with(authorize(), "/card/expiryMonth", json!("Dez")),
        "/card",
    );
    wrong(with(authorize(), "/card/type", json!("ALIAZ")), "/card");
    wrong(without(authorize(), "", "refno"), "refno");
    wrong(without(authorize(), "/card", "expiryYear"), "/card");
    wrong(with(authorize(), "/refno", json!("x".repeat(41))), "/refno");
    refused(
        &judge,
        &aduno("POST", "/v1/transaction", Some(authorize())),
        "no such operation",
    );
    refused(
        &judge,
        &aduno("PUT", path, Some(authorize())),
        "no such operation",
    );
    refused(&judge, &aduno("POST", path, None), "the body is missing");
    let cancel = "/v1/transactions/260101120000000001/cancel";
    refused(
        &judge,
        &aduno("POST", cancel, Some(json!({"refno": "x"}))),
        "`refno`",
    );
    let unkeyed = request(
        "POST",
        path,
        &[("Authorization", "Basic eDp5")],
        Some(authorize()),
    );
    refused(&judge, &unkeyed, "Idempotency-Key");
}

#[test]
fn aduno_passes_what_is_documented() {
    let Some(judge) = Judge::for_provider("aduno") else {
        return;
    };
    passes(
        &judge,
        &aduno("POST", "/v1/transactions/authorize", Some(authorize())),
    );
    passes(
        &judge,
        &aduno(
            "POST",
            "/v1/transactions/260101120000000001/cancel",
            Some(json!({})),
        ),
    );
    passes(
        &judge,
        &aduno("GET", "/v1/transactions/260101120000000001", None),
    );
    passes(
        &judge,
        &aduno(
            "DELETE",
            "/v1/aliases/7LHXscqwAAEAAAGQnJCjw96fy0pzAPTN",
            None,
        ),
    );
    let init = json!({
        "currency": "CHF", "refno": "reg", "paymentMethods": ["VIS", "ECA"], "language": "de",
        "option": { "createAlias": true, "storeCustomerData": false },
        "redirect": { "successUrl": "https://a.example/", "cancelUrl": "https://a.example/",
                      "errorUrl": "https://a.example/", "method": "GET" },
        "webhook": { "url": "https://a.example/w" }
    });
    passes(&judge, &aduno("POST", "/v1/transactions", Some(init)));
}

#[test]
fn aduno_answers_are_judged() {
    let Some(judge) = Judge::for_provider("aduno") else {
        return;
    };
    let asked = aduno("GET", "/v1/transactions/260101120000000001", None);
    let good = r#"{"transactionId":"260101120000000001","type":"payment","status":"authorized","currency":"CHF","refno":"a"}"#;
    assert_eq!(
        judge.response(&asked, &answer(200, "application/json", good)),
        []
    );
    let cases = [
        (200, "application/json", r#"{"status":"paid"}"#),
        (200, "application/json", r#"{"status":1}"#),
        (200, "application/json", "{"),
        (200, "text/html", good),
        (201, "application/json", good),
    ];
    for (status, kind, body) in cases {
        assert_ne!(
            judge.response(&asked, &answer(status, kind, body)),
            [],
            "{status} {kind} {body}"
        );
    }
}

fn transaction() -> Value {
    json!({
        "currency": "CHF", "merchantReference": "abc", "customerId": "c-1",
        "completionBehavior": "COMPLETE_IMMEDIATELY", "chargeRetryEnabled": false, "token": 7,
        "lineItems": [{ "uniqueId": "1", "type": "PRODUCT", "name": "x", "quantity": 1, "amountIncludingTax": 29.95 }]
    })
}

#[test]
fn postfinance_refuses_what_is_wrong() {
    let Some(judge) = Judge::for_provider("postfinance") else {
        return;
    };
    let path = "/payment/transactions";
    let wrong =
        |body: Value, about: &str| refused(&judge, &postfinance("POST", path, Some(body)), about);
    wrong(
        plus(transaction(), "", "merchantReferense"),
        "`merchantReferense`",
    );
    wrong(plus(transaction(), "", "externalId"), "`externalId`");
    wrong(
        plus(transaction(), "/lineItems/0", "price"),
        "`lineItems[0].price`",
    );
    wrong(with(transaction(), "/token", json!("7")), "/token");
    wrong(
        with(
            transaction(),
            "/lineItems/0/amountIncludingTax",
            json!("29.95"),
        ),
        "amountIncludingTax",
    );
    wrong(
        with(transaction(), "/completionBehavior", json!("NOW")),
        "/completionBehavior",
    );
    wrong(
        with(transaction(), "/merchantReference", json!("ü")),
        "/merchantReference",
    );
    wrong(
        without(transaction(), "/lineItems/0", "uniqueId"),
        "uniqueId",
    );
    refused(
        &judge,
        &postfinance("POST", "/payment/transaction", Some(transaction())),
        "no such operation",
    );
    refused(
        &judge,
        &postfinance("GET", "/payment/transactions/abc", None),
        "`id`",
    );
    refused(
        &judge,
        &postfinance("GET", "/payment/transactions/search?q=1", None),
        "`q`",
    );
    refused(
        &judge,
        &postfinance("GET", "/payment/transactions/search?limit=0", None),
        "`limit`",
    );
    let refund = json!({"type": "MERCHANT_INITIATED_ONLINE", "transaction": 1, "amount": 1});
    refused(
        &judge,
        &postfinance("POST", "/payment/refunds", Some(refund)),
        "externalId",
    );
    let unprefixed = request(
        "POST",
        path,
        &[("Authorization", "Bearer a.b.c"), SPACE],
        Some(transaction()),
    );
    refused(&judge, &unprefixed, "no such operation");
    let mut spaceless = postfinance("POST", path, Some(transaction()));
    spaceless.headers_mut().remove("Space");
    refused(&judge, &spaceless, "`Space` is missing");
    let mut other = postfinance("POST", path, Some(transaction()));
    *other.uri_mut() = "http://127.0.0.1:9/api/v2.0/payment/transactions?expand=token"
        .parse()
        .unwrap();
    refused(&judge, &other, "requestPath");
}

#[test]
fn postfinance_passes_what_is_documented() {
    let Some(judge) = Judge::for_provider("postfinance") else {
        return;
    };
    passes(
        &judge,
        &postfinance("POST", "/payment/transactions", Some(transaction())),
    );
    passes(
        &judge,
        &postfinance("POST", "/payment/transactions/7/process-with-token", None),
    );
    passes(
        &judge,
        &postfinance(
            "GET",
            "/payment/transactions/7?expand=token&expand=group",
            None,
        ),
    );
    passes(
        &judge,
        &postfinance(
            "GET",
            "/payment/transactions/search?query=id%3A7&limit=2",
            None,
        ),
    );
    passes(&judge, &postfinance("DELETE", "/payment/tokens/7", None));
}

#[test]
fn postfinance_answers_are_judged() {
    let Some(judge) = Judge::for_provider("postfinance") else {
        return;
    };
    let asked = postfinance("GET", "/payment/transactions/7/payment-page-url", None);
    assert_eq!(
        judge.response(&asked, &answer(200, "text/plain", "https://a.example/")),
        []
    );
    assert_ne!(
        judge.response(&asked, &answer(200, "text/html", "<html>")),
        []
    );
    let asked = postfinance("GET", "/payment/transactions/7", None);
    let json = "application/json";
    assert_eq!(
        judge.response(&asked, &answer(200, json, r#"{"id":7,"state":"FULFILL"}"#)),
        []
    );
    assert_ne!(
        judge.response(&asked, &answer(200, json, r#"{"id":7,"state":"PAID"}"#)),
        []
    );
    assert_ne!(
        judge.response(&asked, &answer(200, json, r#"{"id":"7"}"#)),
        []
    );
    assert_ne!(
        judge.response(&asked, &answer(404, json, r#"{"code":7}"#)),
        []
    );
}

fn order() -> Value {
    json!({
        "intent": "CAPTURE",
        "purchase_units": [{ "custom_id": "abc", "invoice_id": "abc",
                             "amount": { "currency_code": "CHF", "value": "49.90" } }]
    })
}

#[test]
fn paypal_refuses_what_is_wrong() {
    let Some(judge) = Judge::for_provider("paypal") else {
        return;
    };
    let path = "/v2/checkout/orders";
    let amount = "/purchase_units/0/amount";
    let wrong =
        |body: Value, about: &str| refused(&judge, &paypal("POST", path, Some(body)), about);
    wrong(plus(order(), "", "intend"), "`intend`");
    wrong(
        plus(order(), "/purchase_units/0", "invoice"),
        "`purchase_units[0].invoice`",
    );
    wrong(
        with(order(), &format!("{amount}/value"), json!(49.9)),
        amount,
    );
    wrong(
        with(order(), &format!("{amount}/value"), json!("49,90")),
        amount,
    );
    wrong(with(order(), "/intent", json!("TAKE")), "/intent");
    wrong(without(order(), amount, "value"), amount);
    wrong(without(order(), "", "intent"), "intent");
    refused(
        &judge,
        &paypal("POST", "/v2/checkout/order", Some(order())),
        "no such operation",
    );
    refused(
        &judge,
        &paypal("GET", "/v2/checkout/orders/5o19", None),
        "`id`",
    );
    refused(
        &judge,
        &paypal(
            "POST",
            "/v2/payments/authorizations/A1/void",
            Some(json!({})),
        ),
        "none is documented",
    );
    let unkeyed = request(
        "POST",
        path,
        &[("Authorization", "Bearer x")],
        Some(order()),
    );
    refused(&judge, &unkeyed, "PayPal-Request-Id");
    let card = json!({"payment_source": {"token": {"id": "x", "type": "SETUP_TOKENS"}}});
    refused(
        &judge,
        &paypal("POST", "/v3/vault/payment-tokens", Some(card)),
        "type",
    );
    let agreements = "/v1/billing-agreements/agreement-tokens";
    refused(
        &judge,
        &paypal("POST", agreements, Some(json!({"payer": {}}))),
        "plan",
    );
    refused(
        &judge,
        &paypal("GET", "/v1/billing-agreements/agreements/BA-1", None),
        "`id`",
    );
}

#[test]
fn paypal_passes_what_is_documented() {
    let Some(judge) = Judge::for_provider("paypal") else {
        return;
    };
    passes(
        &judge,
        &paypal("POST", "/v2/checkout/orders", Some(order())),
    );
    passes(
        &judge,
        &paypal("POST", "/v2/payments/authorizations/A1/void", None),
    );
    let source = json!({"payment_source": { "paypal": { "vault_id": "8kk8451t",
        "stored_credential": { "payment_initiator": "MERCHANT", "usage": "SUBSEQUENT",
                               "usage_pattern": "UNSCHEDULED_POSTPAID" } } }});
    passes(
        &judge,
        &paypal(
            "POST",
            "/v2/checkout/orders/5O190127TN/capture",
            Some(source),
        ),
    );
    let agreement =
        json!({"payment_source": {"token": {"id": "B-1AB", "type": "BILLING_AGREEMENT"}}});
    passes(
        &judge,
        &paypal(
            "POST",
            "/v2/checkout/orders/5O190127TN/authorize",
            Some(agreement),
        ),
    );
    let setup = json!({ "customer": { "merchant_customer_id": "acct-7f3c" },
      "payment_source": { "paypal": { "usage_type": "MERCHANT", "usage_pattern": "UNSCHEDULED_POSTPAID",
      "permit_multiple_payment_tokens": false, "experience_context": {
        "return_url": "https://merchant.example/return", "cancel_url": "https://merchant.example/cancel",
        "shipping_preference": "NO_SHIPPING", "user_action": "CONTINUE", "vault_instruction": "ON_CREATE_PAYMENT_TOKENS" } } } });
    passes(
        &judge,
        &paypal("POST", "/v3/vault/setup-tokens", Some(setup)),
    );
    passes(
        &judge,
        &paypal(
            "POST",
            "/v1/billing-agreements/agreements",
            Some(json!({"token_id": "BA-1A"})),
        ),
    );
    let mut oauth = request(
        "POST",
        "/v1/oauth2/token",
        &[("Authorization", "Basic eDp5")],
        None,
    );
    oauth.headers_mut().insert(
        "content-type",
        "application/x-www-form-urlencoded".parse().unwrap(),
    );
    *oauth.body_mut() = Bytes::from_static(b"grant_type=client_credentials");
    passes(&judge, &oauth);
    *oauth.body_mut() = Bytes::from_static(b"grant_type=password");
    refused(&judge, &oauth, "grant_type");
}

#[test]
fn paypal_answers_are_judged() {
    let Some(judge) = Judge::for_provider("paypal") else {
        return;
    };
    let asked = paypal("POST", "/v2/checkout/orders", Some(order()));
    let json = "application/json";
    let good = r#"{"id":"5O190127TN","status":"CREATED","intent":"CAPTURE"}"#;
    for status in [200, 201] {
        assert_eq!(judge.response(&asked, &answer(status, json, good)), []);
    }
    assert_ne!(judge.response(&asked, &answer(202, json, good)), []);
    assert_ne!(
        judge.response(&asked, &answer(201, json, r#"{"id":"X","status":"DONE"}"#)),
        []
    );
    assert_ne!(
        judge.response(&asked, &answer(201, json, r#"{"id":7}"#)),
        []
    );
    assert_ne!(
        judge.response(&asked, &answer(422, json, r#"{"name":7}"#)),
        []
    );
    let refused = |issue: &str| {
        let details = format!(r#"[{{"issue":"{issue}","description":"in other words"}}]"#);
        let body = format!(
            r#"{{"name":"UNPROCESSABLE_ENTITY","message":"no","debug_id":"x","details":{details}}}"#
        );
        judge.response(&asked, &answer(422, json, &body))
    };
    assert_eq!(refused("DUPLICATE_INVOICE_ID"), []);
    assert_ne!(refused("DUPLICATE_INVOICES"), []);
}

#[test]
fn no_judge_for_another_name() {
    assert!(Judge::for_provider("other").is_none());
}
