//! Events on their way to the billing service: order, repeats, what is given up, and who sends.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cardless::gateway::Gateway;
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
    otherwise: Mutex<Says>,
    came: Mutex<Vec<(Timestamp, Request)>>,
}

impl Billing {
    fn new(world: &World) -> Arc<Self> {
        Arc::new(Self {
            clock: world.clock.clone(),
            answers: Mutex::default(),
            otherwise: Mutex::new(Says::Status(204)),
            came: Mutex::default(),
        })
    }

    fn next(&self, answers: &[Says]) {
        self.answers.lock().unwrap().extend(answers);
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
        self.came.lock().unwrap().push((now, request));
        let scripted = self.answers.lock().unwrap().pop_front();
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
async fn whatever_is_no_2xx_is_sent_again_later_and_holds_up_what_follows() {
    let (world, billing) = three_events().await;
    billing.next(&[
        Says::Status(500),
        Says::Status(302),
        Says::Broken(Delivery::NotSent),
        Says::Broken(Delivery::Unknown),
        Says::Nothing,
        Says::Status(404),
        Says::Status(200),
    ]);
    let gateway = worker(&world, &billing);
    run_for(&gateway, Duration::from_secs(2 * 3600)).await;

    let came = billing.came();
    let written = written_ids(&world).await;
    let sent: Vec<&str> = came.iter().map(|(_, event)| event.id.as_str()).collect();
    assert_eq!(sent[..7], [written[0].as_str(); 7]);
    assert_eq!(sent[7..], [written[1].as_str(), written[2].as_str()]);
    assert!(came[..7].iter().all(|(_, event)| *event == came[0].1));
    // The pauses, each found within a second; the attempt without an answer took 15 s itself.
    let gaps = came
        .windows(2)
        .map(|pair| pair[1].0.since(pair[0].0).as_secs());
    let pauses = [5, 30, 120, 600, 1800 + 15, 3600, 0, 0];
    for (gap, pause) in gaps.zip(pauses) {
        assert!((pause..=pause + 2).contains(&gap), "{gap} for {pause}");
    }
    assert!(gateway.dead_events().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_event_that_nobody_takes_is_dead_kept_and_passed_by() {
    let (world, billing) = three_events().await;
    billing.next(&[Says::Status(400); 11]);
    let gateway = worker(&world, &billing);
    run_hours(&gateway, 15).await;
    let metrics = gateway.metrics().await.unwrap();
    assert!(
        metrics.contains("\ncardless_events_waiting 3\n"),
        "{metrics}"
    );
    assert!(metrics.contains("\ncardless_events_dead 0\n"), "{metrics}");
    run_hours(&gateway, 2).await;

    let written = written_ids(&world).await;
    let sent = billing.ids();
    assert_eq!(sent.len(), 13);
    assert!(sent[..11].iter().all(|id| *id == written[0]));
    assert_eq!(sent[11..], written[1..]);
    let dead = gateway.dead_events().await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(
        (dead[0].event.id.as_str(), dead[0].attempts),
        (written[0].as_str(), 11)
    );
    assert_eq!(dead[0].dead_at, billing.came()[10].0);
    let metrics = gateway.metrics().await.unwrap();
    assert!(
        metrics.contains("\ncardless_events_waiting 0\n"),
        "{metrics}"
    );
    assert!(metrics.contains("\ncardless_events_dead 1\n"), "{metrics}");
    let read = gateway.events(None, 100).await.unwrap().data;
    assert_eq!(read[0], dead[0].event, "it is still there to be read");
    run_hours(&gateway, 1).await;
    assert_eq!(billing.came().len(), 13);
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
    let first = &written_ids(&world).await[0];
    assert!(billing.ids().iter().all(|id| id == first));
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
    assert_eq!((row.delivered, row.attempts), (0, 1));
    coming_back.await.unwrap();
    assert_eq!(world.store.delivery().await.unwrap(), row);
    run_for(&worker(&world, &billing), 10 * SECOND).await;
    let written = written_ids(&world).await;
    assert_eq!(
        billing.ids(),
        [&written[..1], &written[..1], &written].concat()
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
