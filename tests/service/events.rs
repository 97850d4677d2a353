//! `GET /v1/events` from outside.

use std::collections::BTreeSet;

use http::Method;
use serde_json::Value;

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
        ("?after=evt_abcdefghijklmnopabcd", "invalid_field"),
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
