//! Canaries appear nowhere: not in a log line, not in an error, not in the database's bytes.
//!
//! A whole life at each of the three providers runs in this process, through the service's router
//! and with faults: link, charge, refund, lost replies, forged webhooks, wrong keys, a card number.
//! Every log line is kept at `TRACE`, every error is printed in every way there is, the store is a
//! file. Then the secrets are looked for: those of the settings and the key file, what the caller
//! must not find again (API key, account id, idempotency keys), and what the wire really carried
//! (provider tokens, access tokens, `Authorization` headers, hosted pages).
//!
//! The judge is judged first: it must find a canary that was planted in each of the three places.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeSet;
use std::error::Error as StdError;
use std::fmt::{self, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cardless::client::Client;
use cardless::config::{Environment, Settings};
use cardless::error::Causes;
use cardless::gateway::{Gateway, RequestKey, Role};
use cardless::message::{
    Amount, Capture, CaptureRequest, Initiator, LinkRequest, PayRequest, RefundRequest,
    SetupStatus, VoidRequest,
};
use cardless::serve::router;
use cardless::store::{SqliteStore, Threads};
use cardless::vault::KeyRing;
use cardless_aduno::Aduno;
use cardless_contract::{Clock, PaymentProvider, SystemClock, SystemEntropy, async_trait};
use cardless_paypal::PayPal;
use cardless_postfinance::PostFinance;
use cardless_sandbox::{
    Addresses, Deliver, Fault, FaultKind, Provider, Sandbox, WebhookRoute, print_settings,
};
use cardless_transport::{HttpClient, InProcessClient, SendError};
use http::{Request, Response};
use serde_json::Value;
use tower::ServiceExt as _;
use tracing::field::{Field, Visit};
use tracing::span;

/// Published test numbers of a card, as a caller might write them into a text.
const CARDS: [&str; 2] = ["4242424242424242", "4242 4242 4242 4242"];

/// What the caller's account ids, keys and pages begin with.
const CANARY: &str = "canary";

/// What a caller must know to be stored in plain; it shows that the database is really read.
const REFERENCE: &str = "plain-reference";

/// How long a call to the sandbox may take, in tokio's paused time.
const DEADLINE: Duration = Duration::from_secs(30);

/// A secret shorter than this is too likely to appear by chance.
const SHORTEST: usize = 6;

/// Where the sandbox's ids begin, since PostFinance's tokens are ids: long enough to be told apart.
const FIRST_ID: u64 = 7_351_406_000;

/// Members of a provider's answer that hold a secret.
const SECRET_MEMBERS: [&str; 5] = [
    "access_token",
    "alias",
    "vault_id",
    "securityToken",
    "secret",
];

/// Paths whose answers name a token by `id`: PayPal's payment tokens, PostFinance's tokens.
const TOKEN_PATHS: [&str; 2] = ["/v3/vault/payment-tokens", "/payment/tokens"];

/// Where the service is reached; nothing listens there.
const PUBLIC_URL: &str = "http://127.0.0.1:8080";

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

    for (place, text) in stage.places() {
        assert!(
            found(&text, planted),
            "the finder misses what is in {place}"
        );
        assert!(
            !found(&text, "never-planted"),
            "the finder sees ghosts in {place}"
        );
    }
    assert!(found(&stage.lines.text(), "planted-in-a-span"));
    assert!(found("70 6c 61 706c616e746564", "planted"));
    assert!(found("[112, 108, 97, 110, 116, 101, 100]", "planted"));
}

#[tokio::test(start_paused = true)]
async fn canaries_appear_nowhere() {
    let stage = Stage::set().await;
    for provider in Provider::ALL {
        stage.live(provider).await;
    }
    stage.use_wrong_secrets().await;

    let secrets = stage.secrets();
    for what in [
        "a provider token",
        "alias",
        "access_token",
        "a hosted page's address",
    ] {
        assert!(
            secrets.iter().any(|(kind, _)| kind == what),
            "{what} was never seen"
        );
    }
    let places = stage.places();
    for (sign, place) in [
        ("request leaves", 0),
        ("path=\"/v3/vault/payment-tokens/…\"", 0),
        ("delivery=Unknown", 0),
        ("delivery=NotSent", 0),
        ("Interrupted", 1),
        ("Authentication", 1),
        ("card_number", 1),
        (REFERENCE, 2),
    ] {
        let (name, text) = &places[place];
        assert!(found(text, sign), "{sign} is not in {name}: did it happen?");
    }
    let mut told = Vec::new();
    for (place, text) in &places {
        let inside = secrets.iter().filter(|(_, secret)| found(text, secret));
        told.extend(inside.map(|(what, secret)| format!("{what} is in {place}: {secret}")));
    }
    assert_eq!(told, Vec::<String>::new());
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
        let settings = print_settings(&Addresses::default());
        let keys = KeyRing::generate(&SystemEntropy).unwrap().to_string();
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("store.db").display());
        let mut builder = Gateway::builder()
            .public_url(PUBLIC_URL)
            .clock(clock.clone())
            .keys(KeyRing::parse(&keys).unwrap())
            .store(Arc::new(SqliteStore::open(&url, Threads::Caller).unwrap()));
        for provider in adapters(&settings, &sandbox, &wire, &clock) {
            builder = builder.provider(provider);
        }
        let gateway = builder.build().unwrap();
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
        for adapter in adapters(&settings, &self.sandbox, &self.wire, &clock) {
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

    /// Everywhere where no secret may be.
    fn places(&self) -> [(&'static str, String); 3] {
        let errors = self.noted.lock().unwrap().clone();
        [
            ("the log", self.lines.text()),
            ("an error", errors),
            ("the database", self.database()),
        ]
    }

    /// The bytes of the database and of its write-ahead log.
    fn database(&self) -> String {
        let mut text = String::new();
        for file in std::fs::read_dir(self.folder.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
        text
    }

    /// What must be nowhere: what it is, and how it reads.
    fn secrets(&self) -> BTreeSet<(String, String)> {
        let mut secrets = self.wire.0.lock().unwrap().clone();
        let mut add = |what: &str, secret: &str| {
            secrets.insert((what.to_owned(), secret.to_owned()));
        };
        add("what a caller's account or key begins with", CANARY);
        add("an API key", &self.api_key);
        for card in CARDS {
            add("a card number", card);
        }
        for (what, text) in [
            ("the settings", &self.settings),
            ("the key file", &self.keys),
        ] {
            for value in secret_settings(text) {
                add(what, &value);
                if let Ok(decoded) = STANDARD.decode(&value)
                    && let Ok(text) = String::from_utf8(decoded)
                {
                    add(what, &text);
                }
            }
        }
        secrets
    }
}

/// The adapters of the settings, each through a tap into the sandbox.
fn adapters(
    settings: &str,
    sandbox: &Sandbox,
    wire: &Wire,
    clock: &Arc<dyn Clock>,
) -> [Arc<dyn PaymentProvider>; 3] {
    let settings = Settings::parse(Path::new("test"), settings, &Environment::default()).unwrap();
    let tap = |provider: Provider| {
        let inner = sandbox.provider(provider).client(DEADLINE);
        Arc::new(Tap {
            inner,
            wire: wire.clone(),
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
    let names = [
        "client_secret",
        "authentication_key",
        "password",
        "webhook_key",
        "key",
        "root",
    ];
    let lines = text.lines().filter_map(|line| line.split_once(" = "));
    let secret: Vec<String> = lines
        .filter(|(name, _)| names.contains(name))
        .map(|(_, value)| value.trim_matches('"').to_owned())
        .collect();
    assert!(!secret.is_empty());
    secret
}

/// Whether a secret stands in a text, as it is, in hexadecimal, or as a list of its bytes.
fn found(text: &str, secret: &str) -> bool {
    let hex = secret
        .bytes()
        .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    let list = format!("{:?}", secret.as_bytes());
    [secret, &hex, list.trim_matches(['[', ']'])]
        .iter()
        .any(|way| text.contains(way))
}

/// What the wire carried that nobody else may see: what it is, and how it reads.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<BTreeSet<(String, String)>>>);

impl Wire {
    fn keep(&self, what: &str, secret: &str) {
        assert!(
            secret.len() >= SHORTEST,
            "{what} is too short to be looked for: {secret}"
        );
        self.0
            .lock()
            .unwrap()
            .insert((what.to_owned(), secret.to_owned()));
    }

    /// Keeps the secrets of an answer.
    fn keep_answer(&self, path: &str, body: &[u8]) {
        let Ok(answer) = serde_json::from_slice::<Value>(body) else {
            return;
        };
        if TOKEN_PATHS.iter().any(|start| path.contains(start)) {
            self.keep_id("a provider token", &answer);
        }
        self.keep_members(&answer);
    }

    fn keep_members(&self, value: &Value) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    if SECRET_MEMBERS.contains(&name.as_str())
                        && let Some(text) = member.as_str()
                    {
                        self.keep(name, text);
                    }
                    if name == "token" {
                        self.keep_id("a provider token", member);
                    }
                    self.keep_members(member);
                }
            }
            Value::Array(members) => members.iter().for_each(|member| self.keep_members(member)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn keep_id(&self, what: &str, value: &Value) {
        match value.get("id") {
            Some(Value::String(id)) => self.keep(what, id),
            Some(Value::Number(id)) => self.keep(what, &id.to_string()),
            _ => {}
        }
    }
}

/// A provider's client that keeps the secrets that pass.
struct Tap {
    inner: InProcessClient,
    wire: Wire,
}

/// An adapter's `Debug` shows its client, and this one holds the whole sandbox.
impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tap")
    }
}

#[async_trait]
impl HttpClient for Tap {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, SendError> {
        let path = request.uri().path().to_owned();
        if let Some(value) = request.headers().get("authorization") {
            let value = value.to_str().unwrap();
            let (_, credentials) = value.split_once(' ').unwrap();
            self.wire.keep("an Authorization header", credentials);
        }
        let answer = self.inner.send(request).await?;
        self.wire.keep_answer(&path, answer.body());
        Ok(answer)
    }
}

/// The service's router as the other side of a client.
#[derive(Debug)]
struct Door(Router);

#[async_trait]
impl HttpClient for Door {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, SendError> {
        let answer = self
            .0
            .clone()
            .oneshot(request.map(Body::from))
            .await
            .unwrap();
        let (parts, body) = answer.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Ok(Response::from_parts(parts, body))
    }
}

/// Keeps every span and event, at every level, as text.
#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<String>>);

impl Lines {
    fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

impl tracing::Subscriber for Lines {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        span.record(&mut self.clone());
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        values.record(&mut self.clone());
    }
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
        self.0.lock().unwrap().push('\n');
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

impl Visit for Lines {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0.lock().unwrap(), "{field}={value:?} ").unwrap();
    }
}
