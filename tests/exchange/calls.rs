//! Whole calls by the library's own client, from the sealed request to the sealed answer.

use std::time::Duration;

use cardless::exchange::{Call, Client, ExchangeError};
use cardless::gateway::RequestKey;
use cardless::message::{
    Amount, Capture, CaptureRequest, Event, Initiator, Page, PayRequest, Payment, PaymentStatus,
};
use http::StatusCode;
use serde_json::{Value, json};

use crate::hostile::Draft;
use crate::world::{ACCOUNT, NAME, World, public};

fn charge(reference: &str, capture: Capture) -> PayRequest {
    PayRequest {
        account: ACCOUNT.to_owned(),
        payment_method: None,
        amount: Amount::new("CHF", 4990),
        reference: reference.to_owned(),
        capture,
        initiator: Initiator::Merchant,
        return_url: None,
        description: None,
    }
}

fn about<'a>(op: &'a str, key: Option<&'a str>) -> Call<'a> {
    Call {
        op,
        account: Some(ACCOUNT),
        idempotency_key: key,
    }
}

/// The code and field of the problem that a call ends with.
fn problem<T: std::fmt::Debug>(result: Result<T, ExchangeError>) -> (u16, String, String) {
    let error = result.unwrap_err();
    assert!(matches!(error, ExchangeError::Problem(_)), "{error:?}");
    let ExchangeError::Problem(problem) = error else {
        return (0, String::new(), String::new());
    };
    let field = problem.field.unwrap_or_default();
    (problem.status, problem.code, field)
}

#[tokio::test]
async fn a_sealed_client_charges_captures_and_reads() {
    let world = World::new().await;
    world.link().await;
    let client = world.client();
    let request = charge("invoice-a", Capture::Manual);
    let payment = client.pay("key-a", &request).await.unwrap().body;
    assert_eq!(payment.status, PaymentStatus::Authorized);

    // The same again is the same: a lost answer can always be asked for.
    let again = client.pay("key-a", &request).await.unwrap().body;
    assert_eq!(again, payment);
    assert_eq!(world.count_payments().await, 1);

    let op = format!("POST /v1/payments/{}/captures", payment.id);
    let body = CaptureRequest {
        account: ACCOUNT.to_owned(),
        amount: None,
        last: None,
    };
    let call = about(&op, Some("key-b"));
    let captured = client.call::<_, Payment>(&call, Some(&body)).await;
    let captured = captured.unwrap().body;
    assert_eq!(captured.status, PaymentStatus::Captured);

    let op = format!("GET /v1/payments/{}", payment.id);
    let read: Payment = get(&client, &about(&op, None)).await.unwrap();
    assert_eq!(read, captured);
    let op = format!("GET /v1/payments?account={ACCOUNT}&reference=invoice-a");
    let list: Page<Payment> = get(&client, &about(&op, None)).await.unwrap();
    assert_eq!(list.data, [read]);

    // What is about no account says none.
    let call = Call {
        op: "GET /v1/events",
        account: None,
        idempotency_key: None,
    };
    let events: Page<Event> = get(&client, &call).await.unwrap();
    assert!(!events.data.is_empty());
}

/// An answer that no sealed message can carry is a problem that says so, not a riddle.
#[tokio::test]
async fn an_answer_that_is_too_large_is_a_problem_of_its_own() {
    let world = World::new().await;
    world.link().await;
    let export = format!("GET /v1/accounts/{ACCOUNT}/export");
    let client = world.client();
    get::<Value>(&client, &about(&export, None)).await.unwrap();
    for number in 0..700 {
        let mut request = charge(&format!("invoice-{number}"), Capture::Automatic);
        request.description = Some("a".repeat(100));
        let key = RequestKey::new("shop", format!("key-{number}")).unwrap();
        world.gateway.pay(&key, &request).await.unwrap();
    }
    let refused = get::<Value>(&client, &about(&export, None)).await;
    assert_eq!(
        problem(refused),
        (422, "not_supported".to_owned(), String::new())
    );
}

async fn get<T: serde::de::DeserializeOwned>(
    client: &Client,
    call: &Call<'_>,
) -> Result<T, ExchangeError> {
    Ok(client.call::<Value, T>(call, None).await?.body)
}

#[tokio::test]
async fn refusals_come_sealed_too() {
    let world = World::new().await;
    let client = world.client();
    let pay = |call: Call<'static>, body: Value| {
        let client = &client;
        async move { problem(client.call::<_, Value>(&call, Some(&body)).await) }
    };
    let good = serde_json::to_value(charge("invoice-a", Capture::Automatic)).unwrap();
    let with = |member: &str, value: Value| {
        let mut body = good.clone();
        body[member] = value;
        body
    };
    let call = about("POST /v1/payments", Some("key-a"));
    for (call, body, status, code, field) in [
        // Nothing is linked.
        (call, good.clone(), 404, "not_found", ""),
        (
            call,
            with("account", json!("customer-b")),
            422,
            "invalid_field",
            "acct",
        ),
        (
            call,
            with("account", json!(7)),
            422,
            "invalid_field",
            "acct",
        ),
        (
            call,
            with("reference", json!("4242424242424242")),
            422,
            "card_number",
            "reference",
        ),
        (
            call,
            with("colour", json!("red")),
            422,
            "invalid_field",
            "colour",
        ),
        (
            about("POST /v1/payments", None),
            good.clone(),
            422,
            "idempotency_key",
            "Idempotency-Key",
        ),
        (
            about("POST /v1/payments", Some("a b")),
            good.clone(),
            422,
            "idempotency_key",
            "Idempotency-Key",
        ),
        (
            Call {
                account: None,
                ..call
            },
            good.clone(),
            422,
            "invalid_field",
            "acct",
        ),
        (
            Call {
                account: Some("customer-b"),
                ..call
            },
            good.clone(),
            422,
            "invalid_field",
            "acct",
        ),
        (
            about("PUT /v1/payments", Some("k")),
            good.clone(),
            405,
            "method_not_allowed",
            "",
        ),
        (
            about("POST /v1/nothing", Some("k")),
            good.clone(),
            404,
            "not_found",
            "",
        ),
        (
            about("POST /v1/exchange", Some("k")),
            good.clone(),
            404,
            "not_found",
            "",
        ),
        (
            about("POST /webhooks/aduno", Some("k")),
            good.clone(),
            422,
            "invalid_field",
            "op",
        ),
        (
            about("4242424242424242 /v1/payments", None),
            json!({}),
            422,
            "card_number",
            "method",
        ),
        (
            about("4242424242424242", None),
            json!({}),
            422,
            "card_number",
            "op",
        ),
        (
            about("GET /v1/payments?account=4242424242424242", None),
            json!({}),
            422,
            "card_number",
            "account",
        ),
    ] {
        let found = pay(call, body).await;
        assert_eq!(
            found,
            (status, code.to_owned(), field.to_owned()),
            "{}",
            call.op
        );
    }
    assert_eq!(world.count_payments().await, 0);
}

/// An object of another account is the same as none.
#[tokio::test]
async fn an_object_is_shown_to_its_account_only() {
    let world = World::new().await;
    world.link().await;
    let client = world.client();
    let payment = client
        .pay("key-a", &charge("invoice-a", Capture::Automatic))
        .await;
    let op = format!("GET /v1/payments/{}", payment.unwrap().body.id);
    let other = Call {
        account: Some("customer-b"),
        ..about(&op, None)
    };
    let never = about("GET /v1/payments/pay_pppppppppppppppppppp", None);
    for call in [other, never] {
        let found = problem(get::<Payment>(&client, &call).await);
        assert_eq!(found, (404, "not_found".to_owned(), String::new()));
    }
    let nobody = Call {
        account: None,
        ..other
    };
    assert_eq!(problem(get::<Payment>(&client, &nobody).await).2, "acct");
}

/// A sealed client has no other door, and a role no other rights.
#[tokio::test]
async fn a_role_holds_inside_as_it_does_outside() {
    let world = World::new().await;
    let keys = json!({"keys": [public("sign-b"), public("receive-b")]}).to_string();
    let role = cardless::gateway::Role::Operator;
    world
        .gateway
        .add_sealed_client("desk", role, &keys)
        .await
        .unwrap();
    for (op, status) in [
        (
            format!("GET /v1/payments?account={ACCOUNT}"),
            StatusCode::OK,
        ),
        ("POST /v1/payments".to_owned(), StatusCode::FORBIDDEN),
    ] {
        let mut draft = Draft::new(&world).await;
        draft.claims["iss"] = "desk".into();
        draft.claims["op"] = op.into();
        draft.claims["req"] = json!({"account": ACCOUNT});
        draft.inner["kid"] = "sign-b".into();
        draft.signer = crate::forge::pair("sign-b");
        let (outer, _, answer) = world.post(draft.message()).await;
        assert_eq!(outer, StatusCode::OK);
        let received = cardless::exchange::Received::parse(&answer).unwrap();
        let opened = received.open(&crate::world::secret("receive-b")).unwrap();
        let keys = world.gateway.exchange_keys().await.unwrap().to_string();
        let keys = cardless::exchange::PublicKey::read_all(&keys).unwrap();
        let key = keys.iter().find(|key| key.kid() == opened.kid()).unwrap();
        let claims = opened.verify(key).unwrap();
        let answer = cardless::exchange::Answer::parse(&claims).unwrap();
        assert_eq!(answer.status, status.as_u16());
        assert_eq!(answer.client, "desk");
    }
}

/// The client takes no answer but the one to its request.
#[tokio::test]
async fn an_answer_to_another_request_is_refused() {
    let world = World::new().await;
    let first = Draft::new(&world).await.message();
    let (_, _, answer) = world.post(first).await;
    let client = world.client();
    let keys = world.gateway.exchange_keys().await.unwrap().to_string();
    let replaying = cardless::exchange::Client::new(cardless::exchange::ClientParts {
        name: NAME.to_owned(),
        base_url: crate::world::SERVICE.to_owned(),
        service: crate::world::SERVICE.to_owned(),
        keys: vec![
            crate::world::secret("sign"),
            crate::world::secret("receive"),
        ],
        http: std::sync::Arc::new(Always(answer)),
        clock: std::sync::Arc::new(world.clock.clone()),
        entropy: std::sync::Arc::new(cardless_contract::SystemEntropy),
    });
    let replaying = replaying.unwrap().with_service_keys(&keys).unwrap();
    let op = format!("GET /v1/payments?account={ACCOUNT}");
    assert!(get::<Value>(&client, &about(&op, None)).await.is_ok());
    let result = get::<Value>(&replaying, &about(&op, None)).await;
    assert!(matches!(result, Err(ExchangeError::Refused)), "{result:?}");
}

/// Answers everything alike.
#[derive(Debug)]
struct Always(String);

#[async_trait::async_trait]
impl cardless_transport::HttpClient for Always {
    async fn send(
        &self,
        _: cardless_transport::Request,
    ) -> Result<cardless_transport::Response, cardless_transport::SendError> {
        Ok(http::Response::new(self.0.clone().into()))
    }
}

/// The service's keys change by themselves; no call fails on the way, with a client that fetched
/// them once.
#[tokio::test]
async fn calls_go_on_while_the_service_changes_its_keys() {
    let world = World::new().await;
    let client = world.client();
    let op = format!("GET /v1/payments?account={ACCOUNT}");
    let mut kids = std::collections::BTreeSet::new();
    let day = Duration::from_secs(86_400);
    for _ in 0..400 {
        get::<Value>(&client, &about(&op, None)).await.unwrap();
        kids.insert(world.service_key().await.0);
        world.clock.forward(day);
    }
    assert_eq!(kids.len(), 5, "one each 90 days");
    let keys = world.gateway.exchange_keys().await.unwrap();
    assert!(keys["keys"].as_array().unwrap().len() <= 4);
}

/// A client with new keys beside its old ones, then without the old ones.
#[tokio::test]
async fn a_client_changes_its_keys_without_a_pause() {
    let world = World::new().await;
    let op = format!("GET /v1/payments?account={ACCOUNT}");
    let call = about(&op, None);
    let old = world.client();
    let new = world.client_with(&["sign-new", "receive-new"]);
    get::<Value>(&old, &call).await.unwrap();
    assert!(get::<Value>(&new, &call).await.is_err());

    let keys = json!({"keys": [public("sign-new"), public("receive-new")]});
    let added = world.gateway.add_client_keys(NAME, &keys.to_string()).await;
    assert_eq!(added.unwrap().len(), 2);
    get::<Value>(&new, &call).await.unwrap();
    // Answers go to the newest key, so whoever registers it must hold it by then.
    let both = world.client_with(&["sign", "receive", "receive-new"]);
    get::<Value>(&both, &call).await.unwrap();

    for kid in ["sign", "receive"] {
        world.gateway.revoke_client_key(NAME, kid).await.unwrap();
    }
    get::<Value>(&new, &call).await.unwrap();
    assert!(get::<Value>(&both, &call).await.is_err());
}

/// A method answers to the handle that it has now, and to no other once its overlap is over.
#[tokio::test]
async fn a_method_is_reached_by_its_present_handle() {
    let world = World::new().await;
    world.link().await;
    let client = world.client();
    let listing = format!("GET /v1/accounts/{ACCOUNT}/payment-methods");
    let handle = async || {
        let page: Value = get(&client, &about(&listing, None)).await.unwrap();
        page["data"][0]["id"].as_str().unwrap().to_owned()
    };
    let before = handle().await;
    let mut rotation = world.gateway.rotate_handles(Some(Duration::ZERO)).await;
    let rotation = rotation.as_mut().unwrap();
    while !rotation.is_done() {
        rotation.step(10).await.unwrap();
    }
    let after = handle().await;
    assert_ne!(before, after);
    let body = json!({ "account": ACCOUNT, "default": true });
    let patch = async |handle: &str| {
        let op = format!("PATCH /v1/payment-methods/{handle}");
        client
            .call::<_, Value>(&about(&op, None), Some(&body))
            .await
    };
    assert_eq!(patch(&after).await.unwrap().body["id"], after);
    assert_eq!(problem(patch(&before).await).0, 404);
}

/// Whoever gave the service's keys is not talked into others.
#[tokio::test]
async fn given_keys_are_kept_to() {
    let world = World::new().await;
    let keys = world.gateway.exchange_keys().await.unwrap().to_string();
    let client = world.client().with_service_keys(&keys).unwrap();
    let op = format!("GET /v1/payments?account={ACCOUNT}");
    get::<Value>(&client, &about(&op, None)).await.unwrap();
    world.clock.forward(Duration::from_secs(100 * 86_400));
    // The old key still opens at the service, which answers by one that was not given.
    drop(world.service_key().await);
    world.clock.forward(Duration::from_secs(2 * 86_400));
    let refused = get::<Value>(&client, &about(&op, None)).await.unwrap_err();
    assert!(matches!(refused, ExchangeError::Refused), "{refused:?}");
    let fetching = world.client();
    get::<Value>(&fetching, &about(&op, None)).await.unwrap();
}

/// Nor does the service sign by a generation that its clock made while it was behind: nobody has fetched
/// that.
#[tokio::test]
async fn keys_of_a_clock_that_was_behind_sign_nothing_at_once() {
    let day = Duration::from_secs(86_400);
    for age in [0, 45] {
        let world = World::new().await;
        let keys = world.gateway.exchange_keys().await.unwrap().to_string();
        let client = world.client().with_service_keys(&keys).unwrap();
        let op = format!("GET /v1/payments?account={ACCOUNT}");
        world.clock.forward(age * day);
        get::<Value>(&client, &about(&op, None)).await.unwrap();
        world.clock.back(60 * day);
        assert_ne!(
            world.gateway.exchange_keys().await.unwrap().to_string(),
            keys
        );
        world.clock.forward(60 * day);
        for _ in 0..3 {
            get::<Value>(&client, &about(&op, None)).await.unwrap();
            world.clock.forward(day);
        }
    }
}
