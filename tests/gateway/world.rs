//! A gateway over one fake provider, a store, a clock that follows tokio's paused time, and
//! randomness that repeats.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cardless::error::{Code, Error};
use cardless::gateway::{Gateway, GatewayBuilder, ReconcileReport, RequestKey};
use cardless::message::*;
use cardless::store::{SqliteStore, Store, Threads};
use cardless::vault::{Custody, KeyFileError, KeyRing};
use cardless_contract::{Capabilities, Clock, Entropy, EntropyError, SystemEntropy, Timestamp};
use cardless_testkit::overheard::Overheard;
use http::HeaderMap;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::fake::{Fake, Shape};

/// Tokio's time, from a fixed moment, moved by what a test adds.
#[derive(Debug)]
pub(crate) struct TestClock {
    start: Instant,
    moved: Mutex<Duration>,
    back: Mutex<Duration>,
    interrupt: Mutex<Option<Interrupt>>,
}

/// What happens when the clock was read so often.
struct Interrupt {
    reads: usize,
    what: Box<dyn FnOnce() + Send>,
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interrupt({} reads)", self.reads)
    }
}

impl TestClock {
    /// Lets something happen just when the clock is read for the `reads`th time from now on, from 0.
    pub(crate) fn interrupt(&self, reads: usize, what: impl FnOnce() + Send + 'static) {
        let what = Box::new(what);
        *self.interrupt.lock().unwrap() = Some(Interrupt { reads, what });
    }

    /// Whether it has not happened yet; now it does not any more.
    pub(crate) fn calm(&self) -> bool {
        self.interrupt.lock().unwrap().take().is_some()
    }

    fn count(&self) -> Option<Interrupt> {
        let mut interrupt = self.interrupt.lock().unwrap();
        let waiting = interrupt.as_mut()?;
        if waiting.reads == 0 {
            return interrupt.take();
        }
        waiting.reads -= 1;
        None
    }

    pub(crate) fn forward(&self, by: Duration) {
        *self.moved.lock().unwrap() += by;
    }

    /// Sets it back, as a time service does with one that was wrong.
    pub(crate) fn back(&self, by: Duration) {
        *self.back.lock().unwrap() += by;
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        if let Some(interrupt) = self.count() {
            (interrupt.what)();
        }
        Timestamp::from_seconds(1_795_000_000)
            .plus(self.start.elapsed())
            .plus(*self.moved.lock().unwrap())
            .minus(*self.back.lock().unwrap())
    }
}

/// Bytes that differ each time and repeat in each run.
#[derive(Debug)]
pub(crate) struct Counting(AtomicU64);

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        for chunk in bytes.chunks_mut(8) {
            let number = self.0.fetch_add(1, Ordering::Relaxed);
            let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
            let length = chunk.len();
            chunk.copy_from_slice(
                &mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9).to_be_bytes()[..length],
            );
        }
        Ok(())
    }
}

/// Keys that all workers of a test share, as they would a key file.
#[derive(Debug)]
pub(crate) struct Pocket {
    text: Mutex<String>,
    /// It can be read only, like a mounted secret.
    pub(crate) mounted: AtomicBool,
    /// How often it was looked whether they have changed.
    pub(crate) looks: AtomicU64,
}

impl Pocket {
    pub(crate) fn new() -> Arc<Self> {
        let text = KeyRing::generate(&SystemEntropy).unwrap().to_string();
        Arc::new(Self {
            text: Mutex::new(text),
            mounted: AtomicBool::new(false),
            looks: AtomicU64::new(0),
        })
    }

    /// Another place with the same keys.
    pub(crate) fn copy(&self) -> Arc<Self> {
        let copy = Self::new();
        copy.put(&self.text());
        copy
    }

    pub(crate) fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    /// What a person does with a mounted secret.
    pub(crate) fn put(&self, text: &str) {
        text.clone_into(&mut self.text.lock().unwrap());
    }
}

impl Custody for Pocket {
    fn name(&self) -> String {
        "the pocket".to_owned()
    }

    fn fingerprint(&self) -> Result<[u8; 32], KeyFileError> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let hash = ring::digest::digest(&ring::digest::SHA256, self.text().as_bytes());
        Ok(hash.as_ref().try_into().unwrap())
    }

    fn read(&self) -> Result<Zeroizing<String>, KeyFileError> {
        Ok(Zeroizing::new(self.text()))
    }

    fn replace(&self, present: &str, text: &str) -> Result<(), KeyFileError> {
        let mut held = self.text.lock().unwrap();
        if self.mounted.load(Ordering::Relaxed) || *held != present {
            return Err(KeyFileError("the pocket can't be written".to_owned()));
        }
        text.clone_into(&mut held);
        Ok(())
    }

    fn as_kept(&self, text: &str) -> Result<Zeroizing<String>, KeyFileError> {
        Ok(Zeroizing::new(text.to_owned()))
    }

    fn remark(&self) -> Option<String> {
        None
    }
}

pub(crate) struct World {
    pub(crate) gateway: Gateway,
    pub(crate) fake: Arc<Fake>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) keys: Arc<Pocket>,
    entropy: Arc<Counting>,
    next: AtomicU64,
    heard: Overheard,
}

impl Drop for World {
    fn drop(&mut self) {
        self.heard.settings(&self.keys.text());
        for token in self.fake.tokens() {
            self.heard.plant("a provider's token", &token);
        }
    }
}

impl World {
    pub(crate) fn new(shape: Shape) -> Self {
        Self::with(shape.capabilities(), |_| {})
    }

    pub(crate) fn with(capabilities: Capabilities, change: impl FnOnce(&mut Fake)) -> Self {
        let store = SqliteStore::open("sqlite::memory:", Threads::Caller).unwrap();
        Self::of(capabilities, change, Arc::new(store))
    }

    /// On a store of the test's own.
    pub(crate) fn on(store: Arc<dyn Store>) -> Self {
        Self::shaped_on(Shape::TwoCalls, store)
    }

    pub(crate) fn shaped_on(shape: Shape, store: Arc<dyn Store>) -> Self {
        Self::of(shape.capabilities(), |_| {}, store)
    }

    fn of(
        capabilities: Capabilities,
        change: impl FnOnce(&mut Fake),
        store: Arc<dyn Store>,
    ) -> Self {
        let clock = Arc::new(TestClock {
            start: Instant::now(),
            moved: Mutex::default(),
            back: Mutex::default(),
            interrupt: Mutex::default(),
        });
        let mut fake = Fake::new(capabilities, clock.clone());
        change(&mut fake);
        let keys = Pocket::new();
        let fake = Arc::new(fake);
        let entropy = Arc::new(Counting(AtomicU64::new(1)));
        let gateway = builder(&fake, &clock, &store, &keys, &entropy);
        let gateway = gateway.build().unwrap();
        Self {
            gateway,
            fake,
            clock,
            store,
            keys,
            entropy,
            next: AtomicU64::new(0),
            heard: Overheard::default(),
        }
    }

    /// Another worker on the same store.
    pub(crate) fn another_worker(&self) -> Gateway {
        self.builder().build().unwrap()
    }

    /// Another process on the same store, with settings of its own.
    pub(crate) fn another_with(&self, fake: &Arc<Fake>) -> Gateway {
        builder(fake, &self.clock, &self.store, &self.keys, &self.entropy)
            .build()
            .unwrap()
    }

    /// Another worker on the same store, not yet whole.
    pub(crate) fn builder(&self) -> GatewayBuilder {
        builder(
            &self.fake,
            &self.clock,
            &self.store,
            &self.keys,
            &self.entropy,
        )
    }

    pub(crate) fn key(&self) -> RequestKey {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        RequestKey::new("shop", format!("key-{number}")).unwrap()
    }

    /// Links a method for the account `a-1` in a visit without payment; answers its handle.
    pub(crate) async fn linked(&self) -> String {
        let setup = self
            .gateway
            .link(&self.key(), &link_request())
            .await
            .unwrap();
        self.fake.end_setup("linked");
        let setup = self.gateway.complete_link(&setup.body.id).await.unwrap();
        self.fake.end_setup("done");
        assert_eq!(setup.status, SetupStatus::Completed);
        setup.payment_method.unwrap()
    }

    pub(crate) async fn pay(&self, request: &PayRequest) -> Payment {
        self.gateway.pay(&self.key(), request).await.unwrap().body
    }

    pub(crate) async fn payment(&self, id: &str) -> Payment {
        self.gateway.payment(id).await.unwrap()
    }

    /// Lets the resolver work for a while.
    pub(crate) async fn run_for(&self, time: Duration) {
        self.gateway.run(tokio::time::sleep(time)).await;
    }

    /// Lets the resolver work now and then, which is faster than always.
    pub(crate) async fn run_minutes(&self, minutes: u64) {
        for _ in 0..minutes * 2 {
            self.run_for(Duration::from_secs(1)).await;
            tokio::time::advance(Duration::from_secs(29)).await;
        }
    }

    pub(crate) async fn run_hours(&self, hours: u64) {
        self.run_minutes(hours * 60).await;
    }

    pub(crate) async fn reconcile(&self) -> ReconcileReport {
        self.gateway.reconcile().await.unwrap()
    }

    pub(crate) async fn webhook(&self, event: &str, payment: &str) {
        let (id, _) = self.fake.object(payment);
        self.told(event, &id).await.unwrap();
    }

    /// A webhook about a reservation, or about `refund/` and the provider's id of one.
    pub(crate) async fn told(&self, event: &str, about: &str) -> Result<(), Error> {
        let body = Bytes::from(format!("{event} {about}"));
        let headers = HeaderMap::new();
        self.gateway.notification("fake", &headers, &body).await
    }

    pub(crate) async fn events(&self) -> Vec<(String, String)> {
        let events = self.store.events(0, 10_000).await.unwrap();
        events
            .into_iter()
            .map(|(_, event)| (event.kind, event.object))
            .collect()
    }

    /// Captured and refunded by our books and by the provider's ledger are the same.
    pub(crate) async fn books_fit(&self, id: &str) {
        use crate::fake::Kind;
        let payment = self.payment(id).await;
        assert_eq!(
            payment.captured.minor(),
            self.fake.moved(Kind::Capture, id).1,
            "{payment:?}"
        );
        assert_eq!(
            payment.refunded.minor(),
            self.fake.moved(Kind::Refund, id).1,
            "{payment:?}"
        );
    }
}

fn builder(
    fake: &Arc<Fake>,
    clock: &Arc<TestClock>,
    store: &Arc<dyn Store>,
    keys: &Arc<Pocket>,
    entropy: &Arc<Counting>,
) -> GatewayBuilder {
    Gateway::builder()
        .provider(fake.clone())
        .clock(clock.clone())
        .store(store.clone())
        .entropy(entropy.clone())
        .keys(KeyRing::from_custody(keys.clone()).unwrap())
}

pub(crate) fn link_request() -> LinkRequest {
    LinkRequest {
        account: "a-1".to_owned(),
        provider: "fake".to_owned(),
        return_url: "https://shop.example/back".to_owned(),
        language: None,
        amount: None,
        reference: None,
        capture: None,
    }
}

pub(crate) fn link_and_pay(reference: &str) -> LinkRequest {
    LinkRequest {
        amount: Some(Amount::new("CHF", 4990)),
        reference: Some(reference.to_owned()),
        ..link_request()
    }
}

pub(crate) fn charge(reference: &str) -> PayRequest {
    PayRequest {
        account: "a-1".to_owned(),
        payment_method: None,
        amount: Amount::new("CHF", 4990),
        reference: reference.to_owned(),
        capture: Capture::Automatic,
        initiator: Initiator::Merchant,
        return_url: None,
        description: None,
    }
}

pub(crate) fn hold(reference: &str) -> PayRequest {
    PayRequest {
        capture: Capture::Manual,
        ..charge(reference)
    }
}

pub(crate) fn present(reference: &str) -> PayRequest {
    PayRequest {
        initiator: Initiator::Customer,
        return_url: Some("https://shop.example/back".to_owned()),
        ..charge(reference)
    }
}

pub(crate) fn take(minor: Option<i64>, last: Option<bool>) -> CaptureRequest {
    CaptureRequest {
        account: "a-1".to_owned(),
        amount: minor.map(|minor| Amount::new("CHF", minor)),
        last,
    }
}

pub(crate) fn give(minor: Option<i64>) -> RefundRequest {
    RefundRequest {
        account: "a-1".to_owned(),
        amount: minor.map(|minor| Amount::new("CHF", minor)),
    }
}

pub(crate) fn release() -> VoidRequest {
    VoidRequest {
        account: "a-1".to_owned(),
    }
}

pub(crate) fn bytes<T: serde::Serialize>(answer: &Answer<T>) -> String {
    serde_json::to_string(&answer.body).unwrap()
}

pub(crate) fn code<T>(result: Result<T, Error>) -> Code {
    result.err().unwrap().code()
}
