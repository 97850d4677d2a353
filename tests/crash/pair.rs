//! Two processes of the service on one store.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use cardless_sandbox::{Deliver, EntryKind};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::judge::judge;
use crate::operation::{AMOUNT, Operation, PROVIDERS, charge_as, payments};
use crate::recover::{evidence, reconcile_fully, recover};
use crate::strace::{self, Class, Point, Strace};
use crate::world::{ACCOUNT, Answer, Call, Service, Template, World};

/// How many clients race, half of them at each process.
const CLIENTS: usize = 24;

/// The ids of events, in the order in which they came.
type Received = Arc<Mutex<Vec<String>>>;

/// A receiver of events that takes each at once; gives its address.
async fn receiver(received: Received) -> String {
    async fn take(State(received): State<Received>, headers: HeaderMap) {
        let id = headers["webhook-id"].to_str().unwrap().to_owned();
        received.lock().unwrap().push(id);
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/", axum::routing::post(take))
        .with_state(received);
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}/")
}

/// Makes all these calls at once, in turn at either process.
async fn race(world: &Arc<World>, pair: &[Service; 2], calls: Vec<Call>) -> Vec<Answer> {
    let mut running = JoinSet::new();
    for (at, call) in calls.into_iter().enumerate() {
        let (world, base) = (Arc::clone(world), pair[at % 2].base.clone());
        running.spawn(async move { world.must(&base, &call).await });
    }
    running.join_all().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_on_one_store_are_one_service() {
    let template = Template::new().await;
    for provider in PROVIDERS {
        let received = Received::default();
        let events = format!(
            "[events]\nurl = \"{}\"\nsecret = \"whsec_Y2FyZGxlc3MtdGVzdC1zZWNyZXQtb2YtdGhlLXBhaXI=\"\n",
            receiver(Arc::clone(&received)).await
        );
        let folder = TempDir::new().unwrap();
        let store = folder.path().to_owned();
        let world = World::with_store(&template, folder, store, &events).await;
        let world = Arc::new(world);
        let pair = [world.serve().await, world.serve().await];
        // What the one does, the other hears from the provider, twice.
        world.deliver(Deliver::Twice, &pair[1].base);

        let charge = Operation::Charge.prepare(&world, &pair[0], provider).await;
        one_key_is_one_payment(&world, &pair, &charge).await;
        racing_refunds_stay_within(&world, &pair).await;
        racing_captures_take_once(&world, &pair).await;

        let [one, two] = pair;
        one.stop().await;
        let seen = evidence(&world, &two, Operation::Charge, Vec::new()).await;
        assert_eq!(seen.verify, None, "{provider}");
        let all = all_events(&world, &two).await;
        arrived(&received, all.len()).await;
        two.stop().await;
        assert_eq!(
            *received.lock().unwrap(),
            all,
            "{provider}: once each, in order"
        );
    }
}

async fn one_key_is_one_payment(world: &Arc<World>, pair: &[Service; 2], charge: &Call) {
    let answers = race(world, pair, vec![charge.clone(); CLIENTS]).await;
    let mut settled = HashSet::new();
    for answer in answers {
        match answer.status {
            201 => drop(settled.insert(answer.text)),
            409 => assert_eq!(answer.json()["code"], "in_progress"),
            _ => panic!("{answer:?}"),
        }
    }
    for service in pair {
        settled.insert(world.must(&service.base, charge).await.text);
    }
    assert_eq!(settled.len(), 1, "one body: {settled:?}");
    assert_eq!(moved(world, EntryKind::Capture), [AMOUNT]);
    let mut changed = charge.clone();
    changed.body = changed.body.replace("4990", "4991");
    let refused = world.must(&pair[1].base, &changed).await;
    assert_eq!(refused.status, 422, "{refused:?}");
}

/// Ten of 1000 out of 4990: four fit.
async fn racing_refunds_stay_within(world: &Arc<World>, pair: &[Service; 2]) {
    let id = last_payment(world, &pair[0]).await;
    let refund = |at: usize| {
        let body = json!({ "account": ACCOUNT, "amount": { "currency": "CHF", "minor": 1000 } });
        Call::post(
            format!("/v1/payments/{id}/refunds"),
            &format!("refund-{at}"),
            &body,
        )
    };
    let answers = race(world, pair, (0..10).map(refund).collect()).await;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    let accepted = statuses.iter().filter(|&&status| status < 300).count();
    assert_eq!(accepted, 4, "{answers:?}");
    assert!(
        statuses
            .iter()
            .all(|status| [201, 202, 422].contains(status)),
        "{answers:?}"
    );
    reconcile_fully(world).await;
    assert_eq!(moved(world, EntryKind::Refund), [1000; 4]);
}

async fn racing_captures_take_once(world: &Arc<World>, pair: &[Service; 2]) {
    let held = world
        .must(&pair[0].base, &charge_as("manual", "hold", "invoice-18"))
        .await;
    assert_eq!(held.json()["status"], "authorized", "{held:?}");
    let id = held.json()["id"].as_str().unwrap().to_owned();
    let capture = |at: usize| {
        let body = json!({ "account": ACCOUNT, "amount": { "currency": "CHF", "minor": 3000 } });
        Call::post(
            format!("/v1/payments/{id}/captures"),
            &format!("capture-{at}"),
            &body,
        )
    };
    let answers = race(world, pair, (0..8).map(capture).collect()).await;
    let accepted = answers.iter().filter(|answer| answer.status < 300).count();
    assert_eq!(accepted, 1, "{answers:?}");
    assert!(
        answers.iter().all(|answer| answer.status < 500),
        "{answers:?}"
    );
    reconcile_fully(world).await;
    assert_eq!(moved(world, EntryKind::Capture), [AMOUNT, 3000]);
}

/// One is killed while its request is at the provider; the other goes on where it was, once the
/// lease of the dead one is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_process_takes_over_from_one_that_was_killed() {
    if !strace::is_there("the_other_process_takes_over_from_one_that_was_killed") {
        return;
    }
    let template = Template::new().await;
    for provider in PROVIDERS {
        for nth in 1..=3 {
            let world = World::new(&template).await;
            let (one, two) = (world.serve().await, world.serve().await);
            let call = Operation::Charge.prepare(&world, &one, provider).await;
            let point = Point {
                class: Class::Receive,
                call: "recvfrom",
                nth: nth + 1,
            };
            let tracer = Strace::signal_at(one.pid(), &point, "KILL").await;
            let first = world.ask(&one.base, &call).await;
            one.kill().await;
            tracer.detach().await;
            // The lease of the dead one still holds: nobody acts on a guess.
            let meanwhile = world.must(&two.base, &call).await;
            let busy = meanwhile.status == 409 && meanwhile.json()["code"] == "in_progress";
            // Or it died with the outcome written and its answer not sent: then that is repeated.
            let written = meanwhile.status == 201
                && meanwhile.json()["status"] == "captured"
                && moved(&world, EntryKind::Capture) == [AMOUNT];
            assert!(
                busy || written || first.is_some(),
                "{provider} {nth}: {meanwhile:?}"
            );
            world.advance(Duration::from_secs(5 * 60));
            let evidence = recover(&world, &two, Operation::Charge, &call, first).await;
            assert_eq!(judge(&evidence), Vec::<String>::new(), "{provider} {nth}");
            assert_eq!(
                evidence.payments[0]["status"], "captured",
                "{provider} {nth}"
            );
            two.stop().await;
            world.close().await;
        }
    }
}

fn moved(world: &World, kind: EntryKind) -> Vec<i64> {
    let entries = world.ledger();
    let of_kind = entries.iter().filter(|entry| entry.kind == kind);
    of_kind.map(|entry| entry.amount.minor()).collect()
}

async fn last_payment(world: &World, service: &Service) -> String {
    let payments: Vec<Value> = payments(world, &service.base).await;
    payments[0]["id"].as_str().unwrap().to_owned()
}

/// Every event that was written, oldest first.
async fn all_events(world: &World, service: &Service) -> Vec<String> {
    let events = world.must(&service.base, &Call::get("/v1/events")).await;
    let events = events.json()["data"].as_array().unwrap().clone();
    let id = |event: &Value| event["id"].as_str().unwrap().to_owned();
    events.iter().map(id).collect()
}

/// Waits until so many have come, or for as long as a busy machine may need.
async fn arrived(received: &Received, count: usize) {
    for _ in 0..600 {
        if received.lock().unwrap().len() >= count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
