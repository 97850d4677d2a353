//! Events on their way to the billing service: order, repeats, what is given up, and who sends.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cardless::error::Code;
use cardless::gateway::{AuditLine, AuditQuery, Gateway, KEEP_EVENTS};
use cardless::message::{Event, PaymentStatus};
use cardless::store::{EventRow, SqliteStore, Threads};
use cardless::webhook::{EndpointError, SigningSecrets};
use cardless_contract::{Clock as _, Delivery, ErrorKind, Secrets, Timestamp};
use cardless_transport::{HttpClient, Request, Response, SendError};

use crate::fake::{Fault, Shape};
use crate::world::*;

const URL: &str = "https://billing.example/events";
const NEW: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
const OLD: &str = "whsec_YW5vdGhlci1rZXktb2YtMzItYnl0ZXMtZm9yLXRlc3Q=";

const SECOND: Duration = Duration::from_secs(1);

/// How a billing service answers one event.
#[derive(Debug, Clone, Copy)]
enum Says {
    Status(u16),
    Slow(Duration),
    Nothing,
    Broken(Delivery),
}

/// A billing service: keeps what comes, and answers as a test has it.
#[derive(Debug)]
struct Billing {
    clock: Arc<TestClock>,
    answers: Mutex<VecDeque<Says>>,
    /// Answers to what is about one object, before all others.
    about: Mutex<Option<(String, VecDeque<Says>)>>,
    otherwise: Mutex<Says>,
    came: Mutex<Vec<(Timestamp, Request)>>,
}

impl Billing {
    fn new(world: &World) -> Arc<Self> {
        Arc::new(Self {
            clock: world.clock.clone(),
            answers: Mutex::default(),
            about: Mutex::default(),
            otherwise: Mutex::new(Says::Status(204)),
            came: Mutex::default(),
        })
    }

    fn next(&self, answers: &[Says]) {
        self.answers.lock().unwrap().extend(answers);
    }

    fn refuse(&self, object: &str, answers: &[Says]) {
        let answers = answers.iter().copied().collect();
        *self.about.lock().unwrap() = Some((object.to_owned(), answers));
    }

    fn scripted(&self, body: &[u8]) -> Option<Says> {
        if let Some((object, answers)) = self.about.lock().unwrap().as_mut()
            && body
                .windows(object.len())
                .any(|part| part == object.as_bytes())
        {
            return answers.pop_front();
        }
        self.answers.lock().unwrap().pop_front()
    }

    fn always(&self, answer: Says) {
        *self.otherwise.lock().unwrap() = answer;
    }

    /// What came, each request verified as a receiver does.
    fn came(&self) -> Vec<(Timestamp, Event)> {
        let secrets = signing(&[NEW]);
        let verified = |(at, request): &(Timestamp, Request)| {
            let event: Event = serde_json::from_slice(request.body()).unwrap();
            let id = secrets.verify(request.headers(), request.body(), *at);
            assert_eq!(id.unwrap(), event.id);
            assert_eq!(
                (request.method().as_str(), request.uri()),
                ("POST", &URL.parse().unwrap())
            );
            (*at, event)
        };
        self.came.lock().unwrap().iter().map(verified).collect()
    }

    fn ids(&self) -> Vec<String> {
        self.came().into_iter().map(|(_, event)| event.id).collect()
    }
}

#[async_trait]
impl HttpClient for Billing {
    async fn send(&self, request: Request) -> Result<Response, SendError> {
        let now = self.clock.now();
        let scripted = self.scripted(request.body());
        self.came.lock().unwrap().push((now, request));
        let says = scripted.unwrap_or(*self.otherwise.lock().unwrap());
        let status = match says {
            Says::Status(status) => status,
            Says::Slow(pause) => {
                tokio::time::sleep(pause).await;
                200
            }
            Says::Nothing => std::future::pending().await,
            Says::Broken(delivery) => return Err(SendError::new(delivery, ErrorKind::Interrupted)),
        };
        let answer = http::Response::builder().status(status);
        Ok(answer.body(Bytes::new()).unwrap())
    }
}

fn secrets(texts: &[&str]) -> Secrets {
    Secrets::new(texts.iter().map(|&text| text.to_owned()).collect()).unwrap()
}

fn signing(texts: &[&str]) -> SigningSecrets {
    SigningSecrets::new(&secrets(texts)).unwrap()
}

/// A worker that delivers to `billing`.
fn worker(world: &World, billing: &Arc<Billing>) -> Gateway {
    let builder = world.builder();
    let builder = builder.deliver_events(URL, &secrets(&[NEW, OLD]), billing.clone());
    builder.unwrap().build().unwrap()
}

async fn run_for(gateway: &Gateway, time: Duration) {
    gateway.run(tokio::time::sleep(time)).await;
}

/// Lets it work now and then, which is faster than always.
async fn run_hours(gateway: &Gateway, hours: u64) {
    for _ in 0..hours * 60 {
        run_for(gateway, 2 * SECOND).await;
        tokio::time::advance(58 * SECOND).await;
    }
}

/// A world with a linked method and two captured payments: three events.
async fn three_events() -> (World, Arc<Billing>) {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    world.pay(&charge("r-1")).await;
    world.pay(&charge("r-2")).await;
    let billing = Billing::new(&world);
    (world, billing)
}

async fn written(world: &World) -> Vec<EventRow> {
    let events = world.store.events(0, 1000).await.unwrap();
    events.into_iter().map(|(_, event)| event).collect()
}

async fn written_ids(world: &World) -> Vec<String> {
    written(world)
        .await
        .into_iter()
        .map(|event| event.id)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn events_arrive_once_each_in_the_order_of_their_writing() {
    let (world, billing) = three_events().await;
    let gateway = worker(&world, &billing);
    run_for(&gateway, 3 * SECOND).await;
    let payment = world.pay(&charge("r-3")).await;
    let refund = world
        .gateway
        .refund(&world.key(), &payment.id, &give(None))
        .await;
    let refund = refund.unwrap().body;
    run_for(&gateway, 3 * SECOND).await;
    run_for(&gateway, 100 * SECOND).await;

    assert_eq!(billing.ids(), written_ids(&world).await);
    let came = billing.came();
    let kinds: Vec<&str> = came.iter().map(|(_, event)| event.kind.as_str()).collect();
    let captured = "payment.captured";
    assert_eq!(
        kinds,
        [
            "setup.completed",
            captured,
            captured,
            captured,
            "refund.succeeded"
        ]
    );
    let last = &came[4].1.data;
    assert_eq!(last.account.as_deref(), Some("a-1"));
    assert_eq!(last.refund, Some(refund.id));
    assert_eq!(last.payment, Some(payment.id));
    assert_eq!(last.status, "succeeded");
    let read = gateway.events(None, 100).await.unwrap().data;
    let came: Vec<Event> = came.into_iter().map(|(_, event)| event).collect();
    assert_eq!(came, read);
}

#[tokio::test(start_paused = true)]
async fn both_live_secrets_sign() {
    let (world, billing) = three_events().await;
    run_for(&worker(&world, &billing), 3 * SECOND).await;
    let came = billing.came.lock().unwrap();
    assert_eq!(came.len(), 3);
    for (at, request) in came.iter() {
        for known in [NEW, OLD] {
            let verified = signing(&[known]).verify(request.headers(), request.body(), *at);
            assert!(verified.is_ok(), "{known}");
        }
        assert_eq!(request.headers()["content-type"], "application/json");
        let stamp = request.headers()["webhook-timestamp"].to_str().unwrap();
        assert_eq!(stamp, at.seconds().to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_is_no_2xx_is_sent_again_later_and_holds_up_its_own_object_only() {
    let (world, billing) = three_events().await;
    let payment = written(&world).await[1].object.clone();
    // The payment's own first event is refused; its refund waits for it, the other payment not.
    world
        .gateway
        .refund(&world.key(), &payment, &give(Some(100)))
        .await
        .unwrap();
    billing.refuse(
        &payment,
        &[
            Says::Status(500),
            Says::Status(302),
            Says::Broken(Delivery::NotSent),
            Says::Broken(Delivery::Unknown),
            Says::Nothing,
            Says::Status(404),
        ],
    );
    let gateway = worker(&world, &billing);
    run_for(&gateway, Duration::from_secs(2 * 3600)).await;

    let came = billing.came();
    let written = written_ids(&world).await;
    let sent: Vec<&str> = came.iter().map(|(_, event)| event.id.as_str()).collect();
    let refused: Vec<Timestamp> = came
        .iter()
        .filter(|(_, event)| event.id == written[1])
        .map(|(at, _)| *at)
        .collect();
    assert_eq!(sent[..3], [&written[0], &written[1], &written[2]]);
    assert_eq!(sent.last(), Some(&written[3].as_str()));
    assert_eq!((refused.len(), sent.len()), (7, 10));
    let first = &came[1].1;
    assert!(
        came.iter()
            .all(|(_, event)| event.id != first.id || event == first)
    );
    // The pauses, each found within a second; the attempt without an answer took 15 s itself.
    let gaps = refused
        .windows(2)
        .map(|pair| pair[1].since(pair[0]).as_secs());
    let pauses = [5, 30, 120, 600, 1800 + 15, 3600];
    for (gap, pause) in gaps.zip(pauses) {
        assert!((pause..=pause + 2).contains(&gap), "{gap} for {pause}");
    }
    let refund_at = came.last().unwrap().0;
    assert!(refund_at.since(*refused.last().unwrap()) < SECOND);
    assert!(gateway.dead_events().await.unwrap().is_empty());
}

/// The setup's event was refused until it was dead; all others have come.
async fn one_dead() -> (World, Arc<Billing>, Gateway) {
    let (world, billing) = three_events().await;
    let setup = written(&world).await[0].object.clone();
    billing.refuse(&setup, &[Says::Status(400); 11]);
    let gateway = worker(&world, &billing);
    run_hours(&gateway, 17).await;
    (world, billing, gateway)
}

fn metric(metrics: &str, name: &str) -> String {
    let line = metrics.lines().find(|line| line.starts_with(name));
    line.unwrap().rsplit(' ').next().unwrap().to_owned()
}

async fn waiting_and_dead(gateway: &Gateway) -> (String, String) {
    let metrics = gateway.metrics().await.unwrap();
    let of = |name| metric(&metrics, name);
    (of("cardless_events_waiting"), of("cardless_events_dead"))
}

fn counts(waiting: u64, dead: u64) -> (String, String) {
    (waiting.to_string(), dead.to_string())
}

#[tokio::test(start_paused = true)]
async fn an_event_that_nobody_takes_is_dead_kept_and_passed_by() {
    let (world, billing) = three_events().await;
    let payment = written(&world).await[1].object.clone();
    world
        .gateway
        .refund(&world.key(), &payment, &give(Some(100)))
        .await
        .unwrap();
    billing.refuse(&payment, &[Says::Status(400); 11]);
    let gateway = worker(&world, &billing);
    run_hours(&gateway, 15).await;
    assert_eq!(waiting_and_dead(&gateway).await, counts(2, 0));
    run_hours(&gateway, 2).await;

    let written = written_ids(&world).await;
    let came = billing.came();
    let refused: Vec<_> = came
        .iter()
        .filter(|(_, event)| event.id == written[1])
        .collect();
    assert_eq!((refused.len(), came.len()), (11, 14));
    assert_eq!(
        came[13].1.id, written[3],
        "what waits behind a dead one is sent"
    );
    let dead = gateway.dead_events().await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(
        (dead[0].event.id.as_str(), dead[0].attempts),
        (written[1].as_str(), 11)
    );
    assert_eq!(dead[0].dead_at, refused[10].0);
    assert_eq!(waiting_and_dead(&gateway).await, counts(0, 1));
    let read = gateway.events(None, 100).await.unwrap().data;
    assert_eq!(read[1], dead[0].event, "it is still there to be read");
    run_hours(&gateway, 1).await;
    assert_eq!(billing.came().len(), 14);
}

#[tokio::test(start_paused = true)]
async fn a_person_sends_a_dead_event_again() {
    let (world, billing, gateway) = one_dead().await;
    let dead = written_ids(&world).await[0].clone();
    let before = billing.came().len();
    gateway.retry_event(&dead).await.unwrap();
    assert_eq!(waiting_and_dead(&gateway).await, counts(1, 0));
    billing.always(Says::Status(500));
    run_for(&gateway, 3 * SECOND).await;
    world.pay(&charge("r-3")).await;
    billing.always(Says::Status(200));
    run_for(&gateway, 60 * SECOND).await;
    let came = billing.ids();
    assert_eq!(came[before], dead);
    assert_eq!(came[before..].iter().filter(|id| **id == dead).count(), 2);
    assert_eq!(came[before..].len(), 3, "{came:?}");
    assert_eq!(waiting_and_dead(&gateway).await, counts(0, 0));
    assert_eq!(code(gateway.retry_event(&dead).await), Code::NotFound);
    assert_eq!(code(gateway.retry_event("evt_x").await), Code::NotFound);
    let lines = audited(&gateway, &dead).await;
    assert_eq!(
        lines,
        ["event.retry refused ", "event.retry done setup.completed"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_person_takes_a_dead_event_off_the_list() {
    let (world, billing, gateway) = one_dead().await;
    let dead = written_ids(&world).await[0].clone();
    gateway.dismiss_event(&dead).await.unwrap();
    assert_eq!(waiting_and_dead(&gateway).await, counts(0, 0));
    let before = billing.came().len();
    run_hours(&gateway, 1).await;
    assert_eq!(billing.came().len(), before);
    assert_eq!(code(gateway.dismiss_event(&dead).await), Code::NotFound);
    assert_eq!(gateway.events(None, 1).await.unwrap().data[0].id, dead);
    let lines = audited(&gateway, &dead).await;
    assert_eq!(
        lines,
        [
            "event.dismiss refused ",
            "event.dismiss done setup.completed"
        ]
    );
}

/// What the audit log says of an event, the latest first: what was done, how it came out, and of what
/// kind the event is.
async fn audited(gateway: &Gateway, event: &str) -> Vec<String> {
    let query = AuditQuery {
        object: Some(event.to_owned()),
        limit: 10,
        ..AuditQuery::default()
    };
    let lines = gateway.audit_lines(&query).await.unwrap().data;
    let told =
        |line: &AuditLine| format!("{} {} {}", line.action, line.outcome, line.detail("type"));
    lines.iter().map(told).collect()
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_away_uses_up_the_attempts_of_few_events() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    for number in 0..40 {
        world.pay(&charge(&format!("r-{number}"))).await;
    }
    let billing = Billing::new(&world);
    billing.always(Says::Broken(Delivery::NotSent));
    let gateway = worker(&world, &billing);
    run_hours(&gateway, 3).await;
    let tried: std::collections::BTreeSet<_> = billing.ids().into_iter().collect();
    assert_eq!(tried.len(), 16, "the bound of `journal::outbox`");
    assert_eq!(waiting_and_dead(&gateway).await, counts(41, 0));
    billing.always(Says::Status(200));
    run_hours(&gateway, 5).await;
    assert_eq!(waiting_and_dead(&gateway).await, counts(0, 0));
    let written = written_ids(&world).await;
    let came: std::collections::BTreeSet<_> = billing.ids().into_iter().collect();
    assert_eq!(came, written.into_iter().collect());
}

#[tokio::test(start_paused = true)]
async fn old_events_are_forgotten_but_none_that_is_dead_or_still_to_be_delivered() {
    let (world, billing, gateway) = one_dead().await;
    let written = written_ids(&world).await;
    billing.always(Says::Status(500));
    let waits = world.pay(&charge("r-3")).await.id;
    run_for(&gateway, 3 * SECOND).await;
    world.clock.forward(KEEP_EVENTS);
    billing.always(Says::Nothing);
    let pulling = world.another_worker();
    run_for(&gateway, 2 * SECOND).await;
    // Nothing was written for long: the clock may be wrong, and somebody may put it right.
    let kept = gateway.events(None, 100).await.unwrap().data.len();
    assert!(kept > written.len(), "{kept}");
    world.clock.forward(Duration::from_secs(7 * 24 * 3600));
    // Delivery is on: neither the dead one nor the one that is held goes.
    run_for(&gateway, 2 * SECOND).await;
    let kept = gateway.events(None, 100).await.unwrap().data;
    let objects: Vec<_> = kept
        .iter()
        .map(|event| event.data.payment.clone())
        .collect();
    assert_eq!(objects, [None, Some(waits)]);
    let gone = gateway.events(Some(&written[1]), 100).await;
    assert_eq!(code(gone), Code::EventGone);
    assert_eq!(
        code(gateway.events(Some("evt_x"), 100).await),
        Code::InvalidField
    );
    gateway.dismiss_event(&written[0]).await.unwrap();
    run_for(&pulling, 2 * SECOND).await;
    // Nobody is to get it but who reads: age alone decides, and the last id still leads on.
    let kept = pulling.events(None, 100).await.unwrap().data;
    assert_eq!(kept.len(), 1, "it is held");
    let news = world.pay(&charge("r-4")).await.id;
    let after = pulling.events(Some(&kept[0].id), 100).await.unwrap().data;
    assert_eq!(after[0].data.payment, Some(news));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_before_it_marks_leaves_the_event_to_another() {
    let (world, billing) = three_events().await;
    billing.next(&[Says::Nothing]);
    let dead = worker(&world, &billing);
    let dying = tokio::spawn(async move { dead.run(std::future::pending()).await });
    tokio::time::sleep(2 * SECOND).await;
    dying.abort();
    assert!(dying.await.unwrap_err().is_cancelled());
    assert_eq!(billing.came().len(), 1);

    let gateway = worker(&world, &billing);
    run_for(&gateway, 50 * SECOND).await;
    assert_eq!(billing.came().len(), 1, "the lease still holds");
    run_for(&gateway, 20 * SECOND).await;
    let written = written_ids(&world).await;
    assert_eq!(billing.ids(), [&written[..1], &written].concat());
    assert_eq!(billing.came()[0].1, billing.came()[1].1);
}

#[tokio::test(start_paused = true)]
async fn two_processes_do_not_both_deliver() {
    let (world, billing) = three_events().await;
    billing.always(Says::Slow(3 * SECOND));
    let (first, second) = (worker(&world, &billing), worker(&world, &billing));
    tokio::join!(run_for(&first, 60 * SECOND), run_for(&second, 60 * SECOND));
    assert_eq!(billing.ids(), written_ids(&world).await);
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_the_attempt_that_runs_end() {
    let (world, billing) = three_events().await;
    billing.always(Says::Slow(4 * SECOND));
    let gateway = worker(&world, &billing);
    run_for(&gateway, 2 * SECOND).await;
    run_for(&gateway, 60 * SECOND).await;
    assert_eq!(billing.ids(), written_ids(&world).await);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_hangs_holds_up_no_payment() {
    let (world, billing) = three_events().await;
    billing.always(Says::Nothing);
    world.fake.fault("commit", Fault::LostAfter);
    let payment = world.pay(&charge("r-3")).await;
    assert_eq!(payment.status, PaymentStatus::Unknown);
    let gateway = worker(&world, &billing);
    run_for(&gateway, Duration::from_secs(600)).await;
    assert_eq!(
        world.payment(&payment.id).await.status,
        PaymentStatus::Captured
    );
    assert!(!billing.ids().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_comes_back_late_moves_nothing() {
    let (world, billing) = three_events().await;
    billing.next(&[Says::Slow(10 * SECOND)]);
    let late = worker(&world, &billing);
    let coming_back = tokio::spawn(async move { run_for(&late, 2 * SECOND).await });
    tokio::time::sleep(SECOND).await;
    // Its lease has passed while it waits for the answer.
    world.clock.forward(Duration::from_secs(120));
    billing.next(&[Says::Status(503)]);
    run_for(&worker(&world, &billing), 3 * SECOND).await;
    let row = world.store.delivery().await.unwrap();
    let held = world.store.held_topics().await.unwrap();
    let held: Vec<_> = held
        .iter()
        .map(|held| (held.sequence, held.attempts))
        .collect();
    assert_eq!(held, [(1, 1)]);
    coming_back.await.unwrap();
    assert_eq!(world.store.delivery().await.unwrap(), row);
    assert_eq!(world.store.held_topics().await.unwrap().len(), 1);
    run_for(&worker(&world, &billing), 10 * SECOND).await;
    let written = written_ids(&world).await;
    assert_eq!(
        billing.ids(),
        [&written[..1], &written, &written[..1]].concat()
    );
}

#[tokio::test(start_paused = true)]
async fn the_account_is_in_the_event_and_not_in_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("x.db").display());
    let store = Arc::new(SqliteStore::open(&url, Threads::Caller).unwrap());
    let world = World::on(store);
    let account = "canary-account";
    let mut link = link_request();
    account.clone_into(&mut link.account);
    let setup = world.gateway.link(&world.key(), &link).await.unwrap().body;
    world.fake.end_setup("linked");
    world.gateway.complete_link(&setup.id).await.unwrap();
    let billing = Billing::new(&world);
    billing.next(&[Says::Status(500)]);
    run_for(&worker(&world, &billing), 60 * SECOND).await;

    let came = billing.came();
    assert_eq!(came.len(), 2);
    assert_eq!(came[1].1.data.account.as_deref(), Some(account));
    let mut kept = 0;
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        kept += bytes.len();
        for secret in [account, NEW, OLD] {
            let found = bytes
                .windows(secret.len())
                .any(|part| part == secret.as_bytes());
            assert!(!found, "{secret}");
        }
    }
    assert!(kept > 10_000, "the database is not where it is looked for");
}

#[tokio::test(start_paused = true)]
async fn a_wrong_address_or_secret_is_refused_at_once() {
    let world = World::new(Shape::TwoCalls);
    let billing = Billing::new(&world);
    let refused = |url: &str, secret: &str| {
        let builder = world.builder();
        builder
            .deliver_events(url, &secrets(&[secret]), billing.clone())
            .err()
    };
    assert_eq!(
        refused("http://billing.example/", NEW),
        Some(EndpointError::Url)
    );
    assert_eq!(refused(URL, "canary"), Some(EndpointError::Secret));
    assert_eq!(refused(URL, NEW), None);
}
