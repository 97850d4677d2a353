use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::{Method, Request};
use hyper::body::Frame;
use serde_json::{Value, json};

use crate::support::{CARD, Desk, payment};

#[tokio::test]
async fn no_key_a_wrong_one_and_a_revoked_one_get_the_same_answer() {
    let desk = Desk::new().await;
    desk.gateway.revoke_client("desk").await.unwrap();
    let mut answers = Vec::new();
    for authorization in [
        "",
        "Bearer ck_unknown",
        "Basic abc",
        "Bearer ",
        &format!("Bearer {}", desk.operator),
    ] {
        let request = Request::get("/v1/payments/pay_a").header("authorization", authorization);
        let answer = desk.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.problem(401).0, "unauthenticated", "{authorization}");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        answers.push(answer.text);
    }
    answers.dedup();
    assert_eq!(answers.len(), 1);
}

#[tokio::test]
async fn a_role_does_what_it_may_and_no_more() {
    let desk = Desk::new().await;
    let read = |key: &str| {
        let request = Request::get("/v1/payments/pay_a");
        request
            .header("authorization", format!("Bearer {key}"))
            .body(Body::empty())
            .unwrap()
    };
    let charge = |key: &str| {
        let request = Request::post("/v1/payments").header("content-type", "application/json");
        let request = request.header("idempotency-key", "key-a");
        let body = payment().to_string();
        request
            .header("authorization", format!("Bearer {key}"))
            .body(body.into())
            .unwrap()
    };
    assert_eq!(
        desk.send(read(&desk.billing)).await.problem(404).0,
        "not_found"
    );
    assert_eq!(
        desk.send(read(&desk.operator)).await.problem(404).0,
        "not_found"
    );
    assert_eq!(
        desk.send(read(&desk.auditor)).await.problem(403).0,
        "forbidden"
    );
    assert_eq!(
        desk.send(charge(&desk.operator)).await.problem(403).0,
        "forbidden"
    );
    assert_eq!(
        desk.send(charge(&desk.auditor)).await.problem(403).0,
        "forbidden"
    );
}

#[tokio::test]
async fn unknown_addresses_and_methods_are_problems() {
    let desk = Desk::new().await;
    assert_eq!(desk.get("/nowhere").await.problem(404).0, "not_found");
    assert_eq!(
        desk.get("/v1/payments/%ff").await.problem(404).0,
        "not_found"
    );
    let answer = desk.send(
        desk.request(Method::PUT, "/v1/payments")
            .body(Body::empty())
            .unwrap(),
    );
    let answer = answer.await;
    assert_eq!(answer.problem(405).0, "method_not_allowed");
    assert!(
        answer.header("allow").contains("POST"),
        "{}",
        answer.header("allow")
    );
}

#[tokio::test]
async fn bodies_that_are_no_json_are_refused_and_not_repeated() {
    let desk = Desk::new().await;
    let answer = desk.post("/v1/payments", "{\"canary\": ").await;
    assert_eq!(answer.problem(422).0, "malformed_body");
    assert!(!answer.text.contains("canary"));
    for content_type in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let request = Request::post("/v1/payments")
            .header("authorization", format!("Bearer {}", desk.billing))
            .header("idempotency-key", "key-a")
            .header("content-type", content_type);
        let answer = desk
            .send(request.body(payment().to_string().into()).unwrap())
            .await;
        assert_eq!(answer.problem(415).0, "unsupported_media_type");
    }
}

#[tokio::test]
async fn a_body_over_64_kib_is_refused() {
    let desk = Desk::new().await;
    let mut body = payment();
    body["description"] = Value::String("x".repeat(65_536));
    assert_eq!(
        desk.post("/v1/payments", body.to_string())
            .await
            .problem(413)
            .0,
        "body_too_large"
    );
    let unsized_body = Body::new(OfUnknownLength(70));
    assert_eq!(
        desk.post("/v1/payments", unsized_body).await.problem(413).0,
        "body_too_large"
    );
}

/// A body of so many KiB that does not say how long it is.
struct OfUnknownLength(usize);

impl axum::body::HttpBody for OfUnknownLength {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0 = match self.0.checked_sub(1) {
            None => return Poll::Ready(None),
            Some(left) => left,
        };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b' '; 1024])))))
    }
}

#[tokio::test]
async fn a_field_that_is_wrong_is_named() {
    let desk = Desk::new().await;
    let changed = |pointer: &str, value: Value| {
        let mut body = payment();
        *body.pointer_mut(pointer).unwrap() = value;
        body
    };
    let without = |name: &str| {
        let mut body = payment();
        body.as_object_mut().unwrap().remove(name);
        body
    };
    let mut unknown = payment();
    unknown["amount"]["major"] = json!(49);
    for (body, field) in [
        (without("account"), "account"),
        (without("capture"), "capture"),
        (
            changed("/amount", json!({ "currency": "CHF" })),
            "amount.minor",
        ),
        (changed("/amount", json!(["CHF", 4990])), "amount"),
        (changed("/amount/minor", json!("4990")), "amount.minor"),
        (changed("/amount/minor", json!(49.9)), "amount.minor"),
        (changed("/amount/minor", json!(4990.0)), "amount.minor"),
        (changed("/capture", json!("canary")), "capture"),
        (unknown, "amount.major"),
        (json!("canary"), ""),
        (json!([]), ""),
    ] {
        let answer = desk.post("/v1/payments", body.to_string()).await;
        let expected = ("invalid_field".to_owned(), field.to_owned());
        assert_eq!(answer.problem(422), expected, "{body}");
        assert!(!answer.text.contains("canary"), "{}", answer.text);
    }
    let twice = payment()
        .to_string()
        .replacen('{', "{\"account\":\"b\",", 1);
    assert_eq!(
        desk.post("/v1/payments", twice).await.problem(422).1,
        "account"
    );
}

#[tokio::test]
async fn a_query_is_read_as_strictly() {
    let desk = Desk::new().await;
    for (path, field) in [
        ("/v1/payments", "account"),
        ("/v1/payments?account=a&accounts=b", "accounts"),
        ("/v1/payments?account=a&account=b", "account"),
    ] {
        let expected = ("invalid_field".to_owned(), field.to_owned());
        assert_eq!(desk.get(path).await.problem(422), expected, "{path}");
    }
}

#[tokio::test]
async fn every_post_under_v1_needs_one_idempotency_key() {
    let desk = Desk::new().await;
    for path in [
        "/v1/setups",
        "/v1/payments",
        "/v1/payments/pay_a/captures",
        "/v1/payments/pay_a/void",
        "/v1/payments/pay_a/refunds",
    ] {
        let none = Request::post(path)
            .header("authorization", format!("Bearer {}", desk.billing))
            .header("content-type", "application/json");
        let answer = desk.send(none.body("{}".into()).unwrap()).await;
        assert_eq!(answer.problem(422).0, "idempotency_key", "{path}");
        let two = desk
            .request(Method::POST, path)
            .header("idempotency-key", "key-b");
        let answer = desk.send(two.body("{}".into()).unwrap()).await;
        assert_eq!(answer.problem(422).0, "idempotency_key", "{path}");
    }
}

#[tokio::test]
async fn a_card_number_is_refused_wherever_it_stands() {
    let desk = Desk::new().await;
    let spaced = "4242 4242 4242 4242";
    let mut bodies = Vec::new();
    for (pointer, field) in [("/account", "account"), ("/reference", "reference")] {
        let mut body = payment();
        *body.pointer_mut(pointer).unwrap() = json!(spaced);
        bodies.push((body, field));
    }
    let mut number = payment();
    number["amount"]["minor"] = json!(4_242_424_242_424_242_u64);
    bodies.push((number, "amount.minor"));
    let mut unknown = payment();
    unknown["amount"]["note"] = json!([CARD]);
    bodies.push((unknown, "amount.note[0]"));
    let mut name = payment();
    name[CARD] = json!(1);
    bodies.push((name, ""));
    for (body, field) in bodies {
        let answer = desk.post("/v1/payments", body.to_string()).await;
        let expected = ("card_number".to_owned(), field.to_owned());
        assert_eq!(answer.problem(422), expected, "{body}");
        assert!(!answer.text.contains("4242"), "{}", answer.text);
    }
    // The first of two members is forgotten before the net; its name is not repeated either.
    let twice = format!(r#"{{"amount":{{"{CARD}":1}},"amount":{{"currency":"CHF","minor":1}}}}"#);
    let answer = desk.post("/v1/payments", twice).await;
    assert_eq!(
        answer.problem(422),
        ("card_number".to_owned(), String::new())
    );
    assert!(!answer.text.contains("4242"), "{}", answer.text);
    for (path, field) in [
        (format!("/v1/payments/{CARD}"), "path"),
        ("/v1/payments/4242%204242%204242%204242".to_owned(), "path"),
        (format!("/v1/payments?account={CARD}"), "account"),
        (format!("/v1/payments?{CARD}=a"), "query"),
        (format!("/return/{CARD}"), "path"),
        (format!("/{CARD}"), "path"),
    ] {
        let answer = desk.get(&path).await;
        assert_eq!(
            answer.problem(422),
            ("card_number".to_owned(), field.to_owned()),
            "{path}"
        );
        assert!(!answer.text.contains("4242"), "{}", answer.text);
    }
    let keyed = Request::post("/v1/payments").header("idempotency-key", CARD);
    let answer = desk.send(keyed.body(Body::empty()).unwrap()).await;
    assert_eq!(
        answer.problem(422),
        ("card_number".to_owned(), "Idempotency-Key".to_owned())
    );
}

#[tokio::test]
async fn probes_are_open_and_nothing_is_cached() {
    let desk = Desk::new().await;
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json"] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = desk.send(request).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("server"), "");
    }
}
