//! Many callers at once, through the router, on several threads and a store with threads of its
//! own: never more than there is, all that fits, and one execution for one key.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use cardless::gateway::Role;
use cardless::message::{Capture, OperationStatus, Payment};
use cardless::store::Threads;
use cardless_sandbox::{EntryKind, Provider};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::world::{ACCOUNT, World};

/// How many race.
const RACERS: [usize; 7] = [2, 3, 4, 8, 16, 32, 64];

/// How many callers use one key.
const CALLERS: usize = 64;

/// What is there to be given back or taken.
const TOTAL: i64 = 4000;

/// Two clients, and what they race for.
struct Arena {
    world: World,
    shop: String,
    other: String,
    method: String,
}

/// A call of a racer.
#[derive(Clone)]
struct Call {
    path: String,
    client: String,
    key: String,
    body: String,
}

/// What a racer was told.
struct Told {
    status: u16,
    body: String,
}

impl Arena {
    async fn at(provider: Provider) -> Self {
        let world = World::on(Threads::Own);
        let method = world.link(provider).await;
        Self {
            shop: world
                .gateway
                .add_client("shop", Role::Billing)
                .await
                .unwrap(),
            other: world
                .gateway
                .add_client("other", Role::Billing)
                .await
                .unwrap(),
            world,
            method,
        }
    }

    fn call(&self, path: &str, key: &str, body: &Value) -> Call {
        Call {
            path: path.to_owned(),
            client: self.shop.clone(),
            key: key.to_owned(),
            body: body.to_string(),
        }
    }

    fn payment(&self, minor: i64, reference: &str) -> Value {
        json!({
            "account": ACCOUNT, "payment_method": self.method, "reference": reference,
            "amount": {"currency": "CHF", "minor": minor},
            "capture": "automatic", "initiator": "merchant",
        })
    }

    /// All at once.
    async fn race(&self, calls: Vec<Call>) -> Vec<Told> {
        let racers: Vec<_> = calls
            .into_iter()
            .map(|call| tokio::spawn(send(self.world.router.clone(), call)))
            .collect();
        let mut told = Vec::new();
        for racer in racers {
            told.push(racer.await.unwrap());
        }
        told
    }

    /// Time passes until nothing is open.
    async fn settle(&self, payment: &str) -> Payment {
        for _ in 0..60 {
            let report = self.world.gateway.reconcile().await.unwrap();
            if report.still_open + report.leased == 0 {
                return self.world.gateway.payment(payment).await.unwrap();
            }
            self.world.sandbox.advance(Duration::from_secs(20));
        }
        panic!("still open");
    }

    fn moved(&self, kind: EntryKind) -> Vec<i64> {
        let ledger = self.world.sandbox.ledger().into_iter();
        ledger
            .filter(|entry| entry.kind == kind)
            .map(|entry| entry.amount.minor())
            .collect()
    }
}

async fn send(router: Router, call: Call) -> Told {
    let request = http::Request::post(&call.path)
        .header("authorization", format!("Bearer {}", call.client))
        .header("content-type", "application/json")
        .header("idempotency-key", &call.key)
        .body(Body::from(call.body));
    let answer = router.oneshot(request.unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await;
    Told {
        status,
        body: String::from_utf8(body.unwrap().to_vec()).unwrap(),
    }
}

impl Told {
    fn code(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap();
        body["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// What each of so many asks for: all the same, or each something else (xorshift64*).
fn parts(racers: usize, seed: Option<u64>) -> Vec<i64> {
    let Some(seed) = seed else {
        return vec![300; racers];
    };
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        i64::try_from((state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % 1500).unwrap()
    };
    (0..racers).map(|_| 1 + draw()).collect()
}

/// What must hold whatever the order was. Nothing is given up here, so what is left only shrinks:
/// what was refused did not fit at its time if and only if it does not fit at the end.
fn judge(name: &str, parts: &[i64], told: &[Told], payment: &Payment, moved: &[i64], sum: i64) {
    let mut accepted = Vec::new();
    let mut refused = Vec::new();
    for (part, told) in parts.iter().zip(told) {
        match told.status {
            200..300 => accepted.push(*part),
            409 | 422 => {
                let code = told.code();
                let known = ["amount_exceeds_remaining", "invalid_state"].contains(&code.as_str());
                assert!(known, "{name}: {}", told.body);
                refused.push(*part);
            }
            status => panic!("{name}: {status} {}", told.body),
        }
    }
    let taken: i64 = accepted.iter().sum();
    let left = TOTAL - taken;
    assert!(left >= 0, "{name}: {accepted:?} is more than there is");
    assert!(
        refused.iter().all(|part| *part > left),
        "{name}: {left} is left and {refused:?} was refused"
    );
    let mut moved = moved.to_vec();
    moved.sort_unstable();
    accepted.sort_unstable();
    assert_eq!(moved, accepted, "{name}: the ledger");
    assert_eq!(sum, taken, "{name}: our sum");
    let open = payment
        .operations
        .iter()
        .filter(|one| one.status != OperationStatus::Succeeded);
    assert_eq!(open.count(), 0, "{name}: {:?}", payment.operations);
    if parts.iter().all(|part| *part == 300) && taken < TOTAL {
        let fit = parts.len().min(usize::try_from(TOTAL / 300).unwrap());
        assert_eq!(accepted.len(), fit, "{name}: all that fit");
    }
}

/// The judge is judged: it must see one too many, one too few, and money that nobody was told of.
#[test]
fn a_wrong_race_is_seen() {
    let told = |status: u16| Told {
        status,
        body: json!({"code": "amount_exceeds_remaining"}).to_string(),
    };
    let payment: Payment = serde_json::from_value(json!({
        "id": "pay_a", "account": "a", "payment_method": "pm_a", "provider": "paypal",
        "reference": "a", "amount": {"currency": "CHF", "minor": 4000},
        "captured": {"currency": "CHF", "minor": 4000}, "refunded": {"currency": "CHF", "minor": 0},
        "reversed": {"currency": "CHF", "minor": 0}, "status": "captured", "operations": [],
        "created_at": "2026-11-18T00:00:00Z", "updated_at": "2026-11-18T00:00:00Z",
    }))
    .unwrap();
    let seen = |parts: &[i64], statuses: &[u16], moved: &[i64], sum: i64| {
        let told: Vec<Told> = statuses.iter().map(|status| told(*status)).collect();
        std::panic::catch_unwind(|| judge("wrong", parts, &told, &payment, moved, sum)).is_err()
    };
    assert!(!seen(&[3000, 1500], &[201, 422], &[3000], 3000));
    assert!(
        seen(&[3000, 1500], &[201, 201], &[3000, 1500], 4500),
        "too many"
    );
    assert!(seen(&[3000, 900], &[201, 422], &[3000], 3000), "too few");
    assert!(
        seen(&[3000, 1500], &[201, 422], &[3000, 1500], 3000),
        "untold"
    );
    assert!(
        seen(&[3000, 1500], &[201, 422], &[3000], 4500),
        "another sum"
    );
    assert!(seen(&[3000], &[500], &[], 0), "a failure");
}

async fn refunds(provider: Provider) {
    let mut arena = Arena::at(provider).await;
    for racers in RACERS {
        for seed in [None, Some(1), Some(2)] {
            let name = format!("{} {racers} refunds, seed {seed:?}", provider.name());
            let paid = arena.world.pay(&arena.method, TOTAL).await;
            let before = arena.moved(EntryKind::Refund).len();
            let parts = parts(racers, seed);
            let told = arena
                .race(arena.calls(&paid.id, "refunds", &parts, None))
                .await;
            let payment = arena.settle(&paid.id).await;
            let moved = arena.moved(EntryKind::Refund).split_off(before);
            judge(
                &name,
                &parts,
                &told,
                &payment,
                &moved,
                payment.refunded.minor(),
            );
        }
        arena.renew(provider).await;
    }
}

async fn captures(provider: Provider) {
    // Where one capture is all there is, each of the racers wants to be the last one.
    let last = provider == Provider::Aduno;
    let mut arena = Arena::at(provider).await;
    for racers in RACERS {
        for seed in [None, Some(3), Some(4)] {
            let name = format!("{} {racers} captures, seed {seed:?}", provider.name());
            let held = arena
                .world
                .charge(&arena.method, TOTAL, Capture::Manual)
                .await;
            let before = arena.moved(EntryKind::Capture).len();
            let parts = parts(racers, seed);
            let told = arena
                .race(arena.calls(&held.id, "captures", &parts, Some(last)))
                .await;
            let payment = arena.settle(&held.id).await;
            let moved = arena.moved(EntryKind::Capture).split_off(before);
            if last {
                let taken: Vec<i64> = told
                    .iter()
                    .zip(&parts)
                    .filter(|(told, _)| told.status < 300)
                    .map(|(_, part)| *part)
                    .collect();
                for told in told.iter().filter(|told| told.status >= 300) {
                    assert!([409, 422].contains(&told.status), "{name}: {}", told.body);
                }
                assert_eq!((taken.len(), &moved), (1, &taken), "{name}");
                assert_eq!(payment.captured.minor(), taken[0], "{name}");
            } else {
                judge(
                    &name,
                    &parts,
                    &told,
                    &payment,
                    &moved,
                    payment.captured.minor(),
                );
            }
        }
        arena.renew(provider).await;
    }
}

impl Arena {
    /// One call for each part, each under a key of its own.
    fn calls(&self, id: &str, what: &str, parts: &[i64], last: Option<bool>) -> Vec<Call> {
        let path = format!("/v1/payments/{id}/{what}");
        let call = |(number, part): (usize, &i64)| {
            let mut body = json!({
                "account": ACCOUNT, "amount": {"currency": "CHF", "minor": part},
            });
            if let Some(last) = last {
                body["final"] = json!(last);
            }
            self.call(&path, &format!("{id}-{number}"), &body)
        };
        parts.iter().enumerate().map(call).collect()
    }

    /// A store and a sandbox in which nothing has happened yet.
    async fn renew(&mut self, provider: Provider) {
        *self = Self::at(provider).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_refunds_give_back_what_fits_and_never_more_at_paypal() {
    refunds(Provider::PayPal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_refunds_give_back_what_fits_and_never_more_at_postfinance() {
    refunds(Provider::PostFinance).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_refunds_give_back_what_fits_and_never_more_at_aduno() {
    refunds(Provider::Aduno).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_captures_take_what_fits_and_never_more_at_paypal() {
    captures(Provider::PayPal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_captures_take_what_fits_and_never_more_at_postfinance() {
    captures(Provider::PostFinance).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_racing_captures_takes_at_aduno() {
    captures(Provider::Aduno).await;
}

/// Sixty-four callers, one key: one charge, one answer. The same members in another order are the
/// same body, another amount is another, and another client's key is another key.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_callers_on_one_key_are_one_charge() {
    for provider in Provider::ALL {
        let arena = Arena::at(provider).await;
        let name = provider.name();
        let body = arena.payment(TOTAL, "invoice-a");
        let mut call = arena.call("/v1/payments", "one-key", &body);
        let mut calls = vec![call.clone(); CALLERS];
        for turned in calls.iter_mut().step_by(2) {
            turned.body = serde_json::to_string_pretty(&body).unwrap();
        }
        let told = arena.race(calls.clone()).await;
        for told in &told {
            let waits = told.status == 409 && told.code() == "in_progress";
            assert!(
                waits || [201, 202].contains(&told.status),
                "{name}: {}",
                told.body
            );
        }
        let id: Value = {
            let first = told.iter().find(|told| told.status < 300).unwrap();
            serde_json::from_str(&first.body).unwrap()
        };
        arena.settle(id["id"].as_str().unwrap()).await;
        let again = arena.race(calls).await;
        let bodies: BTreeSet<&String> = again.iter().map(|told| &told.body).collect();
        let early = told
            .iter()
            .filter(|told| told.status == 201)
            .map(|told| &told.body);
        let all: BTreeSet<&String> = bodies.iter().copied().chain(early).collect();
        assert!(again.iter().all(|told| told.status == 201), "{name}");
        assert_eq!(all.len(), 1, "{name}: {all:?}");
        assert_eq!(arena.moved(EntryKind::Capture), [TOTAL], "{name}");

        // Another body, and the same key at another address: 422 for everybody.
        call.body = arena.payment(TOTAL - 1, "invoice-a").to_string();
        let mut changed = vec![call.clone(); CALLERS];
        let refund = json!({"account": ACCOUNT, "amount": {"currency": "CHF", "minor": 1}});
        let path = format!("/v1/payments/{}/refunds", id["id"].as_str().unwrap());
        changed.extend(vec![arena.call(&path, "one-key", &refund); CALLERS]);
        for told in arena.race(changed).await {
            let found = (told.status, told.code());
            assert_eq!(found, (422, "idempotency_mismatch".to_owned()), "{name}");
        }
        assert_eq!(arena.moved(EntryKind::Capture), [TOTAL], "{name}");
        assert!(arena.moved(EntryKind::Refund).is_empty(), "{name}");

        call.client.clone_from(&arena.other);
        call.body = arena.payment(TOTAL - 2, "invoice-b").to_string();
        arena.race(vec![call.clone(); CALLERS]).await;
        let told = arena.race(vec![call]).await;
        assert_eq!(told[0].status, 201, "{name}: {}", told[0].body);
        assert_eq!(
            arena.moved(EntryKind::Capture),
            [TOTAL, TOTAL - 2],
            "{name}"
        );
    }
}

/// Two bodies race for one key: one of them wins it, and the other's callers all hear so.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_bodies_that_race_for_one_key_one_is_carried_out() {
    for provider in Provider::ALL {
        let arena = Arena::at(provider).await;
        let name = provider.name();
        for round in 0..4 {
            let before = arena.moved(EntryKind::Capture).len();
            let key = format!("race-{round}");
            let of = |minor: i64| {
                let body = arena.payment(minor, &format!("invoice-{round}"));
                arena.call("/v1/payments", &key, &body)
            };
            let calls = (0..CALLERS).map(|number| of(if number % 2 == 0 { 1000 } else { 2000 }));
            let calls: Vec<Call> = calls.collect();
            arena.race(calls.clone()).await;
            arena.world.gateway.reconcile().await.unwrap();
            let told = arena.race(calls).await;
            let moved = arena.moved(EntryKind::Capture).split_off(before);
            let bodies: BTreeSet<(u16, &str)> = told
                .iter()
                .map(|told| (told.status, told.body.as_str()))
                .collect();
            assert_eq!(moved.len(), 1, "{name} {round}: {moved:?} {bodies:?}");
            let won = usize::from(moved[0] == 2000);
            for (number, told) in told.iter().enumerate() {
                let wanted = if number % 2 == won { 201 } else { 422 };
                assert_eq!(told.status, wanted, "{name}: {}", told.body);
            }
        }
    }
}

/// One refund and one capture under a key of their own, asked for by sixty-four.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_callers_on_one_key_are_one_capture_and_one_refund() {
    for provider in Provider::ALL {
        let arena = Arena::at(provider).await;
        let name = provider.name();
        let held = arena
            .world
            .charge(&arena.method, TOTAL, Capture::Manual)
            .await;
        for (what, minor, settled) in [("captures", 3000, 200), ("refunds", 1000, 201)] {
            let path = format!("/v1/payments/{}/{what}", held.id);
            let body = json!({"account": ACCOUNT, "amount": {"currency": "CHF", "minor": minor}});
            let calls = vec![arena.call(&path, what, &body); CALLERS];
            arena.race(calls.clone()).await;
            arena.settle(&held.id).await;
            let told = arena.race(calls).await;
            let bodies: BTreeSet<&String> = told.iter().map(|told| &told.body).collect();
            assert_eq!(bodies.len(), 1, "{name}: {bodies:?}");
            assert!(
                told.iter().all(|told| told.status == settled),
                "{name}: {bodies:?}"
            );
        }
        assert_eq!(arena.moved(EntryKind::Capture), [3000], "{name}");
        assert_eq!(arena.moved(EntryKind::Refund), [1000], "{name}");
    }
}
