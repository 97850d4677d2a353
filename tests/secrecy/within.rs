//! A whole life at each of the three providers, in this process, through the service's router and
//! with faults: link, charge, refund, lost replies, forged webhooks, wrong keys, a card number, a
//! panic in the midst of a call.
//!
//! Every log line is kept at `TRACE`, every error and every type that holds a secret is printed in
//! every way there is, the store is a file. Then the secrets are looked for: those of the settings
//! and the key file, what the caller must not find again (API key, account id, idempotency keys),
//! and what the wire really carried (provider tokens, access tokens, `Authorization` headers, hosted
//! pages).

use std::backtrace::Backtrace;
use std::error::Error as StdError;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cardless::account::AccountId;
use cardless::client::Client;
use cardless::config::{Environment, Settings};
use cardless::error::Causes;
use cardless::exchange::{SecretKey, Usage};
use cardless::gateway::{Gateway, RequestKey, Role};
use cardless::message::{
    Amount, Capture, CaptureRequest, Initiator, LinkRequest, PayRequest, RefundRequest,
    SetupStatus, VoidRequest,
};
use cardless::serve::router;
use cardless::store::{SqliteStore, Threads};
use cardless::vault::{KeyFile, KeyRing, Vault};
use cardless::webhook::{Endpoint, SigningSecrets};
use cardless_aduno::Aduno;
use cardless_contract::{
    Clock, PaymentProvider, ProviderToken, Secrets, SystemClock, SystemEntropy,
};
use cardless_paypal::PayPal;
use cardless_postfinance::PostFinance;
use cardless_sandbox::{
    Addresses, Deliver, Fault, FaultKind, Provider, Sandbox, WebhookRoute, print_settings,
};
use cardless_testkit::lines::Lines;
use cardless_testkit::overheard::SECRET_SETTINGS;
use cardless_transport::{HttpClient as _, InProcessClient, InProcessServer, Reply};
use http::{Request, Response};
use tower::ServiceExt as _;

use crate::canary::{Canaries, Place, found, judge};
use crate::wire::{Door, PLANTED_PANIC, Tap, Wire};

/// Published test numbers of a card, as a caller might write them into a text.
const CARDS: [&str; 2] = ["4242424242424242", "4242 4242 4242 4242"];

/// What the caller's account ids, keys and pages begin with.
const CANARY: &str = "canary-bird";

/// What a caller must know to be stored in plain; it shows that the database is really read.
const REFERENCE: &str = "plain-reference";

/// How long a call to the sandbox may take, in tokio's paused time.
const DEADLINE: Duration = Duration::from_secs(30);

/// Where the sandbox's ids begin, since PostFinance's tokens are ids: long enough to be told apart.
const FIRST_ID: u64 = 7_351_406_000;

/// Where the service is reached; nothing listens there.
const PUBLIC_URL: &str = "http://127.0.0.1:8080";

/// Where events go, and what they are signed with.
const EVENTS_URL: &str = "https://billing.example/canary-bird?key=canary-bird";
const EVENTS_SECRET: &str = "whsec_Y2FuYXJ5LXNpZ25pbmctc2VjcmV0LWNhbmFyeQ==";

/// How many calls of a round go wrong: enough to reach beyond the first request of a charge.
const FAULTY_CALLS: u32 = 3;

/// What goes wrong, one after the other.
const FAULTS: [FaultKind; 8] = [
    FaultKind::Refuse,
    FaultKind::DropBefore,
    FaultKind::Stall,
    FaultKind::ExecuteThenDrop,
    FaultKind::ExecuteThen500,
    FaultKind::HalfBody,
    FaultKind::Decline,
    FaultKind::Pending,
];

#[tokio::test(start_paused = true)]
async fn the_finder_finds_what_was_planted() {
    let stage = Stage::set().await;
    let planted = "planted-value";
    tracing::trace!(value = planted, "an event");
    drop(tracing::trace_span!("a span", value = "planted-in-a-span"));
    stage.note(&std::io::Error::other(planted));
    stage
        .link(Provider::Aduno, &account(Provider::Aduno), None)
        .await;
    let request = pay_request(Provider::Aduno, planted, Capture::Automatic);
    stage.client.pay("a-key", &request).await.unwrap();

    for place in stage.places().await {
        if ["metrics", "a panic"].contains(&place.name.as_str()) {
            continue;
        }
        assert!(
            found(&place.bytes, planted),
            "the finder misses what is in {}",
            place.name
        );
        assert!(
            !found(&place.bytes, "never-planted"),
            "the finder sees ghosts in {}",
            place.name
        );
    }
    assert!(found(stage.lines.text().as_bytes(), "planted-in-a-span"));
}

#[tokio::test(start_paused = true)]
async fn canaries_appear_nowhere() {
    let stage = Stage::set().await;
    for provider in Provider::ALL {
        stage.live(provider).await;
    }
    stage.use_wrong_secrets().await;
    stage.deliver_events().await;
    stage.show_what_holds_secrets();
    for provider in Provider::ALL {
        stage.panic_at(provider).await;
    }

    let secrets = stage.secrets();
    for what in [
        "a provider token",
        "alias",
        "access_token",
        "a hosted page's address",
    ] {
        assert!(secrets.kinds().contains(what), "{what} was never seen");
    }
    let places = stage.places().await;
    for (sign, place) in [
        ("request leaves", 0),
        ("path=\"/v3/vault/payment-tokens/…\"", 0),
        ("delivery=Unknown", 0),
        ("delivery=NotSent", 0),
        ("an event was not delivered", 0),
        ("Interrupted", 1),
        ("Authentication", 1),
        ("card_number", 1),
        ("ProviderToken", 1),
        (REFERENCE, 2),
        ("cardless_kek_uses", 3),
        ("within.rs", 4),
    ] {
        let Place { name, bytes, .. } = &places[place];
        assert!(
            found(bytes, sign),
            "{sign} is not in {name}: did it happen?"
        );
    }
    assert_eq!(judge(&secrets, &places), Vec::<String>::new());
}

/// The sandbox, the gateway over it, the service before it, and everything that is kept.
struct Stage {
    sandbox: Sandbox,
    gateway: Gateway,
    client: Client,
    router: Router,
    keys: String,
    settings: String,
    api_key: String,
    folder: tempfile::TempDir,
    wire: Wire,
    panics: Arc<AtomicBool>,
    panicked: Arc<Mutex<String>>,
    lines: Lines,
    noted: Mutex<String>,
    _guard: tracing::subscriber::DefaultGuard,
}

impl Stage {
    async fn set() -> Self {
        let lines = Lines::default();
        let guard = tracing::subscriber::set_default(lines.clone());
        let sandbox = Sandbox::new(Arc::new(SystemClock::default())).with_first_id(FIRST_ID);
        let clock: Arc<dyn Clock> = Arc::new(sandbox.clock());
        let wire = Wire::default();
        let panics = Arc::new(AtomicBool::new(false));
        let settings = print_settings(&Addresses::default());
        let keys = KeyRing::generate(&SystemEntropy).unwrap().to_string();
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("store.db").display());
        let mut builder = Gateway::builder()
            .public_url(PUBLIC_URL)
            .clock(clock.clone())
            .keys(KeyRing::parse(&keys).unwrap())
            .store(Arc::new(SqliteStore::open(&url, Threads::Caller).unwrap()));
        for provider in adapters(&settings, &sandbox, (&wire, &panics), &clock) {
            builder = builder.provider(provider);
        }
        let secrets = Secrets::new(vec![EVENTS_SECRET.to_owned()]).unwrap();
        let billing = InProcessClient::new(Arc::new(Billing::default()), DEADLINE);
        let builder = builder.deliver_events(EVENTS_URL, &secrets, Arc::new(billing));
        let gateway = builder.unwrap().build().unwrap();
        let router = router(gateway.clone());
        let api_key = gateway.add_client("shop", Role::Billing).await.unwrap();
        let door = Arc::new(Door(router.clone()));
        let client = Client::new(PUBLIC_URL, api_key.clone(), door).unwrap();
        for provider in Provider::ALL {
            sandbox.route_webhooks(&WebhookRoute {
                provider,
                url: Some(format!("{PUBLIC_URL}/webhooks/{}", provider.name())),
                deliver: Deliver::Now,
            });
        }
        Self {
            sandbox,
            gateway,
            client,
            router,
            keys,
            settings,
            api_key,
            folder,
            wire,
            panics,
            panicked: keep_panics(),
            lines,
            noted: Mutex::default(),
            _guard: guard,
        }
    }

    /// One account at one provider, from its link to its end, in good and in bad weather.
    async fn live(&self, provider: Provider) {
        let account = account(provider);
        let method = self.link(provider, &account, None).await;
        let first = format!("{account}-first");
        self.link(provider, &first, Some(Amount::new("CHF", 4990)))
            .await;
        self.move_money(provider, "calm").await;
        for (index, fault) in FAULTS.into_iter().enumerate() {
            self.inject(provider, fault, 1);
            self.note_probes().await;
            self.inject(provider, fault, FAULTY_CALLS);
            self.move_money(provider, &format!("fault-{index}")).await;
            self.sandbox.advance(Duration::from_secs(90));
            self.gateway.reconcile().await.unwrap();
            self.deliver_webhooks().await;
        }
        self.write_card_numbers(provider).await;
        self.inject(provider, FaultKind::ExecuteThen500, 1);
        self.note_result(&self.client.revoke(&method, &account).await);
    }

    /// Links a method: the customer approves, comes back, and the webhooks come too.
    async fn link(&self, provider: Provider, account: &str, amount: Option<Amount>) -> String {
        let request = LinkRequest {
            account: account.to_owned(),
            provider: provider.name().to_owned(),
            return_url: "https://shop.example/thanks".to_owned(),
            language: Some("de-CH".to_owned()),
            reference: amount.as_ref().map(|_| format!("{REFERENCE}-first")),
            capture: amount.as_ref().map(|_| Capture::Manual),
            amount,
        };
        let setup = self
            .client
            .link(&format!("{CANARY}-link-{account}"), &request)
            .await
            .unwrap()
            .body;
        let page = setup.redirect_url.unwrap();
        self.wire.keep("a hosted page's address", &page);
        let form = http::Request::post(&page).body(Bytes::from_static(b"decision=approve"));
        let browser = self.sandbox.provider(provider).client(DEADLINE);
        let answer = browser.send(form.unwrap()).await.unwrap();
        let back = answer.headers()["location"].to_str().unwrap().to_owned();
        let (_, state) = back.split_once("/return/").unwrap();
        let proof = state.split(['?', '.']).nth(1).unwrap();
        self.wire.keep("a return address's proof", proof);
        let back = Request::get(&back).body(Body::empty()).unwrap();
        self.router.clone().oneshot(back).await.unwrap();
        self.deliver_webhooks().await;
        let setup = self.client.setup(&setup.id).await.unwrap();
        assert_eq!(setup.status, SetupStatus::Completed, "{}", provider.name());
        setup.payment_method.unwrap()
    }

    /// A charge with a refund, a hold that is captured, and one that is released.
    async fn move_money(&self, provider: Provider, round: &str) {
        let account = account(provider);
        let step = |step: &str| key(provider, &format!("{round}-{step}"));
        let pay = |step: &'static str, capture| {
            let request = pay_request(provider, &format!("{REFERENCE}-{round}-{step}"), capture);
            async move {
                self.client
                    .pay(&key(provider, &format!("{round}-{step}")), &request)
                    .await
            }
        };
        if let Some(taken) = self.note_result(&pay("charge", Capture::Automatic).await) {
            let amount = Some(Amount::new("CHF", 500));
            let request = RefundRequest {
                account: account.clone(),
                amount,
            };
            self.note_result(
                &self
                    .client
                    .refund(&step("refund"), &taken.body.id, &request)
                    .await,
            );
        }
        if let Some(held) = self.note_result(&pay("hold", Capture::Manual).await) {
            let request = CaptureRequest {
                account: account.clone(),
                amount: None,
                last: None,
            };
            self.note_result(
                &self
                    .client
                    .capture(&step("capture"), &held.body.id, &request)
                    .await,
            );
        }
        if let Some(held) = self.note_result(&pay("release", Capture::Manual).await) {
            let request = VoidRequest { account };
            self.note_result(
                &self
                    .client
                    .void(&step("void"), &held.body.id, &request)
                    .await,
            );
        }
    }

    /// Hands over what the sandbox sends: each with a changed byte first, then as it is.
    async fn deliver_webhooks(&self) {
        for webhook in self.sandbox.take_webhooks() {
            let mut changed = webhook.body.to_vec();
            changed.insert(0, b' ');
            for body in [Bytes::from(changed), webhook.body.clone()] {
                let mut request = Request::post(&webhook.url);
                for (name, value) in &webhook.headers {
                    request = request.header(name, value);
                }
                let request = request.body(Body::from(body)).unwrap();
                self.router.clone().oneshot(request).await.unwrap();
            }
        }
        self.gateway.reconcile().await.unwrap();
    }

    /// Card numbers in every text that a caller can write; each is refused at both doors.
    async fn write_card_numbers(&self, provider: Provider) {
        for card in CARDS {
            let changes: [fn(&mut PayRequest, &str); 4] = [
                |request, card| card.clone_into(&mut request.reference),
                |request, card| request.description = Some(card.to_owned()),
                |request, card| card.clone_into(&mut request.account),
                |request, card| {
                    request.return_url = Some(format!("https://shop.example/?c={card}"))
                },
            ];
            for change in changes {
                let mut request = pay_request(provider, REFERENCE, Capture::Automatic);
                change(&mut request, card);
                let through_http = self.client.pay(&key(provider, "card"), &request).await;
                assert!(self.note_result(&through_http).is_none());
                let request_key = RequestKey::new("shop", key(provider, "card")).unwrap();
                let direct = self.gateway.pay(&request_key, &request).await;
                assert!(self.note_result(&direct).is_none());
            }
        }
        assert!(
            self.note_result(&RequestKey::new("shop", CARDS[0]))
                .is_none()
        );
    }

    /// Keys and secrets that are wrong: they are secrets of somebody else, or nearly ours.
    async fn use_wrong_secrets(&self) {
        let wrong = format!("{}{CANARY}", self.api_key);
        let client = Client::new(PUBLIC_URL, wrong, Arc::new(Door(self.router.clone()))).unwrap();
        assert!(self.note_result(&client.setup("set_a").await).is_none());

        let mut settings = self.settings.clone();
        for secret in ["sandbox-secret", "sandbox-password"] {
            settings = settings.replace(secret, &format!("{CANARY}-secret"));
        }
        let clock: Arc<dyn Clock> = Arc::new(self.sandbox.clock());
        for adapter in adapters(&settings, &self.sandbox, (&self.wire, &self.panics), &clock) {
            self.note_result(&adapter.probe().await);
            self.note_text(&format!("{adapter:?}"));
        }
        let broken = settings.replace("password = ", "password = = ");
        let path = Path::new("cardless.toml");
        self.note_result(&Settings::parse(path, &broken, &Environment::default()));
        let misspelt = self.keys.replace("state = ", "sate = ");
        self.note_result(&KeyRing::parse(&misspelt));
        let cut = self.keys.get(..self.keys.len() - 4).unwrap();
        self.note_result(&KeyRing::parse(cut));
    }

    /// Every event goes to the billing service; the first answer is lost, the second a refusal.
    async fn deliver_events(&self) {
        for _ in 0..3 {
            self.gateway.run(tokio::time::sleep(DEADLINE)).await;
            self.sandbox.advance(Duration::from_secs(60));
        }
        let metrics = self.gateway.metrics().await.unwrap();
        assert!(metrics.contains("cardless_events_waiting 0\n"), "{metrics}");
        for (url, secret) in [
            (EVENTS_URL, format!("{CANARY}-secret")),
            ("http://canary-bird.example/", EVENTS_SECRET.to_owned()),
        ] {
            let secrets = Secrets::new(vec![secret]).unwrap();
            self.note_result(&Endpoint::new(url, &secrets));
        }
        self.note_text(&format!("{:?}", self.gateway));
    }

    fn inject(&self, provider: Provider, fault: FaultKind, times: u32) {
        let fault = Fault {
            provider,
            operation: None,
            times,
            fault,
        };
        self.sandbox.inject(fault).unwrap();
    }

    async fn note_probes(&self) {
        for probe in self.gateway.check().await {
            self.note_result(&probe.result);
        }
    }

    /// Keeps an error, and gives what is no error.
    fn note_result<'a, T, E: StdError + 'static>(&self, result: &'a Result<T, E>) -> Option<&'a T> {
        result.as_ref().inspect_err(|error| self.note(*error)).ok()
    }

    /// Keeps an error in every way in which it can be printed.
    fn note(&self, error: &(dyn StdError + 'static)) {
        self.note_text(&format!("{error} {error:?} {error:#?} {}", Causes(error)));
    }

    fn note_text(&self, text: &str) {
        writeln!(self.noted.lock().unwrap(), "{text}").unwrap();
    }

    /// Prints everything that holds a secret as `Debug` does, in both ways.
    fn show_what_holds_secrets(&self) {
        let path = Path::new("cardless.toml");
        let settings = Settings::parse(path, &self.settings, &Environment::default()).unwrap();
        let environment: Environment = [("CARDLESS__KEYS__PASSPHRASE", EVENTS_SECRET)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
            .collect();
        let secrets = Secrets::new(vec![EVENTS_SECRET.to_owned(), self.api_key.clone()]).unwrap();
        let keys = KeyRing::parse(&self.keys).unwrap();
        let endpoint = Secrets::new(vec![EVENTS_SECRET.to_owned()]).unwrap();
        let private = SecretKey::generate(Usage::Both, &SystemEntropy).unwrap();
        self.wire
            .keep("a client's private key", &private_half(&private));
        let token = "canary-bird-token";
        self.wire.keep("a provider token", token);
        self.note_debug(&settings);
        self.note_debug(&environment);
        self.note_debug(&secrets);
        self.note_debug(&keys);
        self.note_debug(&Vault::new(keys, Arc::new(SystemEntropy)));
        self.note_debug(&KeyFile::new(path).under(secrets));
        self.note_debug(&Endpoint::new(EVENTS_URL, &endpoint).unwrap());
        self.note_debug(&SigningSecrets::new(&endpoint).unwrap());
        self.note_debug(&private);
        self.note_debug(&ProviderToken::new(token).unwrap());
        self.note_debug(&AccountId::new(account(Provider::Aduno)).unwrap());
        self.note_debug(&RequestKey::new("shop", key(Provider::Aduno, "debug")).unwrap());
        self.note_debug(&self.client);
        self.note_debug(&self.gateway);
    }

    fn note_debug(&self, value: &dyn std::fmt::Debug) {
        self.note_text(&format!("{value:?} {value:#?}"));
    }

    /// Lets a charge panic where its token, its credentials and its account are in scope.
    async fn panic_at(&self, provider: Provider) {
        let mut request = pay_request(provider, "panic", Capture::Automatic);
        // The account's own method is revoked by now; that of its first payment is not.
        request.account.push_str("-first");
        let gateway = &self.gateway;
        let key = RequestKey::new("shop", key(provider, "panic")).unwrap();
        self.panics.store(true, Ordering::Relaxed);
        // The gateway runs a call as a task of its own, so that the caller gets an answer.
        let error = gateway.pay(&key, &request).await.unwrap_err();
        assert!(found(Causes(&error).to_string().as_bytes(), PLANTED_PANIC));
        self.note(&error);
    }

    /// Everywhere where no secret may be.
    async fn places(&self) -> [Place; 5] {
        let errors = self.noted.lock().unwrap().clone();
        let panics = self.panicked.lock().unwrap().clone();
        [
            Place::new(
                "the log, in this process",
                self.lines.text(),
                "request leaves",
            ),
            Place::new("errors and what Debug shows", errors, "KeyRing"),
            Place::new("the database, in this process", self.database(), REFERENCE),
            Place::new(
                "metrics",
                self.gateway.metrics().await.unwrap(),
                "cardless_kek_uses",
            ),
            Place::new("a panic", panics, PLANTED_PANIC),
        ]
    }

    /// The bytes of the database and of its write-ahead log.
    fn database(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for file in std::fs::read_dir(self.folder.path()).unwrap() {
            all.extend(std::fs::read(file.unwrap().path()).unwrap());
        }
        all
    }

    /// What must be nowhere: what it is, and how it reads.
    fn secrets(&self) -> Canaries {
        let mut secrets = self.wire.canaries();
        secrets.plant("what a caller's account or key begins with", CANARY);
        secrets.plant("an API key", &self.api_key);
        secrets.plant("a signing secret", EVENTS_SECRET);
        let signing = EVENTS_SECRET.trim_start_matches("whsec_");
        secrets.plant_base64("a signing secret", signing);
        for card in CARDS {
            secrets.plant("a card number", card);
        }
        for (what, text) in [
            ("the settings", &self.settings),
            ("the key file", &self.keys),
        ] {
            for value in secret_settings(text) {
                secrets.plant(what, &value);
                if let Ok(decoded) = STANDARD.decode(&value) {
                    secrets.plant(what, decoded);
                }
            }
        }
        secrets
    }
}

/// The private number of a key.
fn private_half(key: &SecretKey) -> String {
    let jwk: serde_json::Value = serde_json::from_str(&key.to_private_jwk()).unwrap();
    jwk["d"].as_str().unwrap().to_owned()
}

/// Keeps what every panic of this process says from now on, with its backtrace.
fn keep_panics() -> Arc<Mutex<String>> {
    static PANICS: Mutex<Option<Arc<Mutex<String>>>> = Mutex::new(None);
    let mut kept = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = kept.get_or_insert_with(|| {
        let kept = Arc::new(Mutex::new(String::new()));
        let (to, before) = (Arc::clone(&kept), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |panic| {
            let text = format!("{panic}\n{panic:?}\n{}\n", Backtrace::force_capture());
            to.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push_str(&text);
            if panic.payload_as_str() != Some(PLANTED_PANIC) {
                before(panic);
            }
        }));
        kept
    });
    Arc::clone(kept)
}

/// The adapters of the settings, each through a tap into the sandbox.
pub(crate) fn adapters(
    settings: &str,
    sandbox: &Sandbox,
    (wire, panics): (&Wire, &Arc<AtomicBool>),
    clock: &Arc<dyn Clock>,
) -> [Arc<dyn PaymentProvider>; 3] {
    let settings = Settings::parse(Path::new("test"), settings, &Environment::default()).unwrap();
    let tap = |provider: Provider| {
        let inner = sandbox.provider(provider).client(DEADLINE);
        Arc::new(Tap {
            inner,
            wire: wire.clone(),
            panics: Arc::clone(panics),
        })
    };
    let config = settings.provider("paypal").unwrap().unwrap();
    let paypal = PayPal::new(config, tap(Provider::PayPal), clock.clone()).unwrap();
    let config = settings.provider("postfinance").unwrap().unwrap();
    let postfinance = PostFinance::new(config, tap(Provider::PostFinance), clock.clone()).unwrap();
    let config = settings.provider("aduno").unwrap().unwrap();
    let aduno = Aduno::new(config, tap(Provider::Aduno), clock.clone()).unwrap();
    [Arc::new(paypal), Arc::new(postfinance), Arc::new(aduno)]
}

fn pay_request(provider: Provider, reference: &str, capture: Capture) -> PayRequest {
    PayRequest {
        account: account(provider),
        payment_method: None,
        amount: Amount::new("CHF", 4990),
        reference: reference.to_owned(),
        capture,
        initiator: Initiator::Merchant,
        return_url: None,
        description: Some("Subscription".to_owned()),
    }
}

fn account(provider: Provider) -> String {
    format!("{CANARY}-account-{}", provider.name())
}

fn key(provider: Provider, step: &str) -> String {
    format!("{CANARY}-key-{}-{step}", provider.name())
}

/// The values of the settings that are secret, by their names.
fn secret_settings(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.split_once(" = "));
    let secret: Vec<String> = lines
        .filter(|(name, _)| SECRET_SETTINGS.contains(name))
        .map(|(_, value)| value.trim_matches('"').to_owned())
        .collect();
    assert!(!secret.is_empty());
    secret
}

/// A billing service that takes every event but the first two that come.
#[derive(Debug, Default)]
struct Billing(AtomicU32);

impl InProcessServer for Billing {
    fn serve(&self, request: http::Request<Bytes>) -> Reply {
        let account = String::from_utf8_lossy(request.body()).contains(CANARY);
        assert!(account, "an event says whose it is");
        let mut answer = Response::new(Bytes::from_static(b"canary"));
        match self.0.fetch_add(1, Ordering::Relaxed) {
            0 => return Reply::Drop,
            1 => *answer.status_mut() = http::StatusCode::BAD_REQUEST,
            _ => {}
        }
        Reply::Answer(answer)
    }
}
