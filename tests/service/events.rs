//! Events from outside: `GET /v1/events`, and what `[events]` has delivered.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use cardless::config::{Environment, Settings};
use cardless::gateway::Gateway;
use cardless::registry;
use cardless::webhook::SigningSecrets;
use cardless_contract::{Clock as _, Secrets};
use http::{HeaderMap, Method};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::support::{CARD, Desk};
use crate::world::{ACCOUNT, World};

async fn all(world: &World) -> Vec<Value> {
    let page = world.get("/v1/events").await;
    assert_eq!(page["next"], Value::Null);
    page["data"].as_array().unwrap().clone()
}

#[tokio::test]
async fn events_name_their_objects_and_their_account() {
    let world = World::new().await;
    let method = world.link("paypal").await;
    let (_, payment) = world.pay(4990, "automatic").await;
    let id = payment["id"].as_str().unwrap();
    let refund = serde_json::json!({ "account": ACCOUNT });
    let (status, refund) = world
        .post(&format!("/v1/payments/{id}/refunds"), &refund)
        .await;
    assert_eq!(status, 201);

    let events = all(&world).await;
    let kinds: Vec<&str> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        ["setup.completed", "payment.captured", "refund.succeeded"]
    );
    for event in &events {
        assert_eq!(event["data"]["account"], ACCOUNT);
        assert!(event["timestamp"].as_str().unwrap().ends_with('Z'));
    }
    assert!(
        events[0]["data"]["setup"]
            .as_str()
            .unwrap()
            .starts_with("set_")
    );
    let data = &events[1]["data"];
    assert_eq!(
        (&data["payment"], &data["status"]),
        (&payment["id"], &"captured".into())
    );
    let data = &events[2]["data"];
    assert_eq!(
        (&data["refund"], &data["payment"]),
        (&refund["id"], &payment["id"])
    );
    assert_eq!(data["status"], "succeeded");

    world
        .call(
            Method::DELETE,
            &format!("/v1/payment-methods/{method}?account={ACCOUNT}"),
            "-",
            "",
        )
        .await;
    let last = events.last().unwrap()["id"].as_str().unwrap();
    let news = world.get(&format!("/v1/events?after={last}")).await;
    let news = news["data"].as_array().unwrap();
    assert_eq!(news.len(), 1, "{news:?}");
    assert_eq!(news[0]["type"], "payment_method.revoked");
    assert_eq!(news[0]["data"]["payment_method"], method);
    assert_eq!(events, all(&world).await[..3]);
}

#[tokio::test]
async fn a_reader_that_keeps_the_last_id_misses_nothing() {
    let world = World::new().await;
    world.link("paypal").await;
    for _ in 0..4 {
        world.pay(100, "automatic").await;
    }
    let mut seen = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = world.gateway.events(after.as_deref(), 2).await.unwrap();
        assert!(page.data.len() <= 2);
        seen.extend(page.data.into_iter().map(|event| event.id));
        if page.next.is_none() {
            break;
        }
        assert_eq!(page.next.as_ref(), seen.last());
        after = page.next;
    }
    let ids: Vec<String> = all(&world)
        .await
        .iter()
        .map(|event| event["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(seen, ids);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 5);
    let nothing = world
        .gateway
        .events(seen.last().map(String::as_str), 2)
        .await
        .unwrap();
    assert_eq!((nothing.data.len(), nothing.next), (0, None));
}

#[tokio::test]
async fn who_may_read_events_and_what_is_no_cursor() {
    let desk = Desk::new().await;
    let read = |key: &str, query: &str| {
        axum::http::Request::get(format!("/v1/events{query}"))
            .header("authorization", format!("Bearer {key}"))
            .body(axum::body::Body::empty())
            .unwrap()
    };
    for key in [&desk.billing, &desk.operator] {
        let answer = desk.send(read(key, "")).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text.as_str()),
            (200, "{\"data\":[]}")
        );
    }
    let answer = desk.send(read(&desk.auditor, "")).await;
    assert_eq!(answer.problem(403).0, "forbidden");
    for (query, code) in [
        ("?after=evt_abcdefghijklmnopabc", "invalid_field"),
        ("?after=", "invalid_field"),
        ("?before=evt_a", "invalid_field"),
    ] {
        let answer = desk.send(read(&desk.billing, query)).await;
        assert_eq!(answer.problem(422).0, code, "{query}");
    }
    let answer = desk
        .send(read(&desk.billing, &format!("?after={CARD}")))
        .await;
    assert_eq!(answer.problem(422).0, "card_number");
}

#[tokio::test]
async fn the_client_reads_the_same_events() {
    let world = World::new().await;
    world.link("aduno").await;
    world.pay(100, "automatic").await;
    let client = world.client();
    let page = client.events(None).await.unwrap();
    assert_eq!(page, world.gateway.events(None, 100).await.unwrap());
    assert_eq!(page.data.len(), 2);
    let rest = client.events(Some(&page.data[0].id)).await.unwrap();
    assert_eq!(rest.data, page.data[1..]);
}

const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn events_are_delivered_over_a_socket_to_where_the_settings_say() {
    let (came, mut comes) = mpsc::unbounded_channel();
    let receiver = post(move |headers: HeaderMap, body: Bytes| async move {
        came.send((headers, body)).unwrap();
        http::StatusCode::NO_CONTENT
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook?a=b", listener.local_addr().unwrap());
    let receiver = cardless::serve::serve(
        listener,
        Router::new().route("/hook", receiver),
        std::future::pending(),
    );
    let receiver = tokio::spawn(receiver);
    let settings = format!("\n[events]\nurl = \"{url}\"\nsecret = \"{SECRET}\"\n");
    let world = World::with(None, &settings).await;
    world.link("postfinance").await;
    world.pay(100, "automatic").await;

    let mut events: Vec<cardless::message::Event> = Vec::new();
    let secrets = Secrets::new(vec![SECRET.to_owned()]).unwrap();
    let secrets = SigningSecrets::new(&secrets).unwrap();
    let both_came = async {
        while events.len() < 2 {
            let (headers, body): (HeaderMap, Bytes) = comes.recv().await.unwrap();
            let now = world.sandbox.clock().now();
            secrets.verify(&headers, &body, now).unwrap();
            events.push(serde_json::from_slice(&body).unwrap());
        }
    };
    let run = world.gateway.run(both_came);
    tokio::time::timeout(PATIENCE, run).await.unwrap();
    assert_eq!(events, world.gateway.events(None, 9).await.unwrap().data);
    let metrics = world.gateway.metrics().await.unwrap();
    assert!(metrics.contains("cardless_events_waiting 0\n"), "{metrics}");
    receiver.abort();
}

#[test]
fn settings_that_deliver_nowhere_are_named() {
    for (url, secret, setting) in [
        ("http://billing.example/canary", SECRET, "events.url"),
        ("https://billing.example/", "canary", "events.secret"),
    ] {
        let text = format!("[events]\nurl = \"{url}\"\nsecret = \"{secret}\"");
        let path = "cardless.toml".as_ref();
        let settings = Settings::parse(path, &text, &Environment::default()).unwrap();
        let error = registry::events(&settings, Gateway::builder()).unwrap_err();
        assert_eq!(error.setting(), Some(setting));
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}
