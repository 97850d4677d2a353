//! A service that has lived: four accounts at three providers, two of them with the same tokens,
//! payments of every kind, a rotation, an erasure; and copies of its database file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use cardless::account::AccountId;
use cardless::exchange::{SecretKey, Usage};
use cardless::gateway::{Gateway, RequestKey, Role};
use cardless::message::{
    Amount, Capture, CaptureRequest, ErasureStatus, Initiator, LinkRequest, PayRequest,
    RefundRequest, VoidRequest,
};
use cardless::serve::router;
use cardless::store::{Change, MethodRow, MethodState, RecordRow, SqliteStore, Store, Threads};
use cardless::vault::{Context, KeyRing, Purpose, Vault};
use cardless_contract::{Clock, SystemEntropy, Timestamp};
use cardless_sandbox::{Addresses, Fault, FaultKind, Provider, Sandbox, print_settings};
use cardless_transport::HttpClient as _;
use serde_json::json;
use tempfile::TempDir;
use tower::ServiceExt as _;

use crate::canary::Canaries;
use crate::wire::Wire;
use crate::within::adapters;

/// The account whose tokens another one has too, that one, and one with tokens of its own. Their ids
/// are customer numbers, which anybody can guess.
pub(crate) const FIRST: &str = "20171001";
pub(crate) const SAME: &str = "20171002";
pub(crate) const OTHER: &str = "20171003";

/// The account that is erased.
pub(crate) const ERASED: &str = "20171004";

pub(crate) const ACCOUNTS: [&str; 3] = [FIRST, SAME, OTHER];

pub(crate) const PUBLIC_URL: &str = "https://pay.example";

const DEADLINE: Duration = Duration::from_secs(30);

/// Where the sandbox's ids begin, since PostFinance's tokens are ids.
const FIRST_ID: u64 = 7_351_406_000;

/// A clock that stands still.
#[derive(Debug)]
struct Morning;

impl Clock for Morning {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_795_000_000)
    }
}

pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    pub(crate) gateway: Gateway,
    store: Arc<dyn Store>,
    pub(crate) folder: TempDir,
    /// The key file lies elsewhere.
    elsewhere: TempDir,
    pub(crate) api_keys: Vec<String>,
    pub(crate) idempotency_keys: Vec<String>,
    pub(crate) secrets: Canaries,
    /// The sealed client's own.
    pub(crate) partner_key: String,
}

impl World {
    pub(crate) async fn new() -> Self {
        let (folder, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let text = KeyRing::generate(&SystemEntropy).unwrap();
        write_private(&elsewhere.path().join("cardless.keys"), &text);
        let sandbox = Sandbox::new(Arc::new(Morning)).with_first_id(FIRST_ID);
        let store: Arc<dyn Store> = Arc::new(open(&folder.path().join("cardless.db")));
        let keys = KeyRing::load(&elsewhere.path().join("cardless.keys")).unwrap();
        let gateway = gateway_on(&sandbox, Arc::clone(&store), keys);
        gateway.open_keys().await.unwrap();
        gateway.keep_merchants().await.unwrap();
        Self {
            sandbox,
            gateway,
            store,
            folder,
            elsewhere,
            api_keys: Vec::new(),
            idempotency_keys: Vec::new(),
            secrets: Canaries::default(),
            partner_key: String::new(),
        }
    }

    /// Another gateway with the same keys, on a copy of the file.
    pub(crate) fn on_copy(&self, path: &Path) -> Gateway {
        gateway_on(&self.sandbox, Arc::new(open(path)), self.keys())
    }

    pub(crate) fn keys(&self) -> KeyRing {
        KeyRing::load(&self.elsewhere.path().join("cardless.keys")).unwrap()
    }

    pub(crate) fn vault(&self) -> Vault {
        Vault::new(self.keys(), Arc::new(SystemEntropy))
    }

    pub(crate) fn pseudonym(&self, account: &str) -> String {
        let id = AccountId::new(account).unwrap();
        id.pseudonym(&self.vault()).to_string()
    }

    /// What somebody takes who copies the database file and the log beside it.
    pub(crate) fn copy(&self, name: &str) -> PathBuf {
        let to = self.folder.path().join(name);
        std::fs::create_dir(&to).unwrap();
        for file in ["cardless.db", "cardless.db-wal"] {
            let from = self.folder.path().join(file);
            if from.exists() {
                std::fs::copy(from, to.join(file)).unwrap();
            }
        }
        to.join("cardless.db")
    }

    fn key(&mut self, step: &str) -> RequestKey {
        let key = format!("idempotency.{step}.{}", self.idempotency_keys.len());
        self.secrets.plant("an idempotency key", &key);
        self.idempotency_keys.push(key.clone());
        RequestKey::new("shop", key).unwrap()
    }

    /// Clients of every kind.
    pub(crate) async fn add_clients(&mut self) {
        for (name, role) in [
            ("shop", Role::Billing),
            ("desk", Role::Operator),
            ("audit", Role::Auditor),
            ("gone", Role::Billing),
        ] {
            let added = self.gateway.add_client(name, role).await.unwrap();
            self.api_keys.push(added);
        }
        self.gateway.revoke_client("gone").await.unwrap();
        let week = Duration::from_secs(7 * 24 * 3600);
        let renewed = self.gateway.renew_client("shop", week).await.unwrap();
        self.api_keys.push(renewed.api_key);
        for key in &self.api_keys {
            self.secrets.plant("an API key", key);
        }
        let key = SecretKey::generate(Usage::Both, &SystemEntropy).unwrap();
        let keys = json!({"keys": [key.public().to_jwk()]}).to_string();
        let added = self
            .gateway
            .add_sealed_client("partner", Role::Billing, &keys);
        added.await.unwrap();
        self.partner_key = key.to_private_jwk().to_string();
        self.gateway.exchange_keys().await.unwrap();
    }

    /// One account at one provider: linked, charged, refunded, held, captured, released, declined.
    pub(crate) async fn live(&mut self, account: &str, provider: Provider) {
        self.link(account, provider).await;
        let charged = self
            .pay(account, provider, "charge", Capture::Automatic)
            .await;
        let refund = RefundRequest {
            account: account.to_owned(),
            amount: Some(Amount::new("CHF", 500)),
        };
        let key = self.key("refund");
        self.gateway.refund(&key, &charged, &refund).await.unwrap();
        let held = self.pay(account, provider, "hold", Capture::Manual).await;
        let capture = CaptureRequest {
            account: account.to_owned(),
            amount: None,
            last: None,
        };
        let key = self.key("capture");
        self.gateway.capture(&key, &held, &capture).await.unwrap();
        let held = self
            .pay(account, provider, "release", Capture::Manual)
            .await;
        let void = VoidRequest {
            account: account.to_owned(),
        };
        let key = self.key("void");
        self.gateway.void(&key, &held, &void).await.unwrap();
        let decline = Fault {
            provider,
            operation: None,
            times: 1,
            fault: FaultKind::Decline,
        };
        self.sandbox.inject(decline).unwrap();
        self.pay(account, provider, "declined", Capture::Automatic)
            .await;
        self.sandbox.clear_faults();
    }

    pub(crate) async fn link(&mut self, account: &str, provider: Provider) {
        let (id, page) = self.begin(account, provider).await;
        let form = http::Request::post(&page).body(Bytes::from_static(b"decision=approve"));
        let browser = self.sandbox.provider(provider).client(DEADLINE);
        browser.send(form.unwrap()).await.unwrap();
        let setup = self.gateway.complete_link(&id).await.unwrap();
        assert!(setup.payment_method.is_some(), "{setup:?}");
        self.deliver_webhooks().await;
    }

    /// Begins a setup, and gives its id and its page.
    pub(crate) async fn begin(&mut self, account: &str, provider: Provider) -> (String, String) {
        let request = LinkRequest {
            account: account.to_owned(),
            provider: provider.name().to_owned(),
            return_url: "https://shop.example/thanks".to_owned(),
            language: Some("de-CH".to_owned()),
            amount: None,
            reference: None,
            capture: None,
        };
        let key = self.key("link");
        let setup = self.gateway.link(&key, &request).await.unwrap().body;
        let page = setup.redirect_url.unwrap();
        self.secrets.plant("a hosted page's address", &page);
        (setup.id, page)
    }

    async fn pay(
        &mut self,
        account: &str,
        provider: Provider,
        step: &str,
        capture: Capture,
    ) -> String {
        let methods = self.gateway.payment_methods(account).await.unwrap().data;
        let method = methods
            .into_iter()
            .find(|method| method.provider.as_str() == provider.name());
        let request = PayRequest {
            account: account.to_owned(),
            payment_method: method.map(|method| method.id),
            amount: Amount::new("CHF", 4990),
            reference: format!("invoice {account} {} {step}", provider.name())
                .replace(account, "of a customer"),
            capture,
            initiator: Initiator::Merchant,
            return_url: None,
            description: Some("Subscription".to_owned()),
        };
        let key = self.key("pay");
        self.gateway.pay(&key, &request).await.unwrap().body.id
    }

    async fn deliver_webhooks(&self) {
        let router = router(self.gateway.clone());
        for webhook in self.sandbox.take_webhooks() {
            let mut request = http::Request::post(&webhook.url);
            for (name, value) in &webhook.headers {
                request = request.header(name, value);
            }
            let request = request.body(Body::from(webhook.body)).unwrap();
            router.clone().oneshot(request).await.unwrap();
        }
    }

    /// A record of an account that holds this token, with a method that points to it.
    pub(crate) async fn put_token(
        &self,
        account: &str,
        like: &RecordRow,
        token: &[u8],
        number: u8,
    ) {
        let letters = format!("{}{}", "aaaabbbbccccddddeee", char::from(b'a' + number));
        let account = self.pseudonym(account);
        let record = format!("rec_{letters}");
        let context = Context {
            account: &account,
            provider: &like.provider,
            merchant: &like.merchant,
            record: &record,
            purpose: Purpose::Token,
        };
        let sealed = self.vault().seal(&context, token).unwrap();
        let handle = format!("pm_{letters}");
        let row = RecordRow {
            id: record.clone(),
            account: account.clone(),
            generation: sealed.generation,
            sealed: sealed.bytes,
            ..like.clone()
        };
        let method = MethodRow {
            id: handle.clone(),
            handle,
            account,
            provider: like.provider.clone(),
            record: Some(record),
            state: MethodState::Active,
            default: false,
            created_at: like.created_at,
            next_at: None,
            attempts: 0,
            version: 0,
        };
        let batch = vec![Change::InsertRecord(row), Change::InsertMethod(method)];
        self.store.apply(batch).await.unwrap();
    }

    /// The record of an account's own method at a provider, and the token in it.
    pub(crate) async fn token(&self, account: &str, provider: Provider) -> (RecordRow, Vec<u8>) {
        let methods = self.store.methods(&self.pseudonym(account)).await.unwrap();
        let method = methods
            .into_iter()
            .find(|method| method.provider == provider.name());
        let record = method.unwrap().record.unwrap();
        let row = self.store.record(&record).await.unwrap().unwrap();
        let context = Context {
            account: &row.account,
            provider: &row.provider,
            merchant: &row.merchant,
            record: &row.id,
            purpose: Purpose::Token,
        };
        let token = self.vault().open(&context, &row.sealed).unwrap().to_vec();
        (row, token)
    }

    /// Plants what is sealed now: tokens, account ids, pages; and the keys.
    pub(crate) async fn plant_secrets(&mut self) {
        for account in [FIRST, SAME, OTHER, ERASED] {
            self.secrets.plant("an account's id", account);
        }
        for account in ACCOUNTS {
            for provider in Provider::ALL {
                let (_, token) = self.token(account, provider).await;
                self.secrets.plant("a provider's token", token);
            }
        }
        let (_, token) = self.token(ERASED, Provider::PayPal).await;
        self.secrets.plant("a provider's token", token);
        self.plant_keys();
    }

    pub(crate) fn plant_keys(&mut self) {
        let text = std::fs::read_to_string(self.elsewhere.path().join("cardless.keys")).unwrap();
        for line in text.lines() {
            if let Some((_, value)) = line.split_once(" = ")
                && line.starts_with(['k', 'r'])
            {
                self.secrets
                    .plant_base64("a key of the key file", value.trim_matches('"'));
            }
        }
    }

    pub(crate) async fn rotate(&self) {
        let mut rotation = self.gateway.rotate_keys().await.unwrap();
        while rotation.step(100).await.unwrap() {}
        rotation.finish().await.unwrap();
        self.gateway.destroy_retired().await.unwrap();
        let mut rotation = self.gateway.rotate_handles(None).await.unwrap();
        while rotation.step(100).await.unwrap() > 0 {}
    }

    pub(crate) async fn erase(&mut self, account: &str) {
        let key = self.key("erase");
        let mut answer = self.gateway.erase(&key, account).await.unwrap();
        while answer.open {
            self.sandbox.advance(Duration::from_secs(60));
            self.gateway.reconcile().await.unwrap();
            answer = self.gateway.continue_erasure(account).await.unwrap();
        }
        assert_eq!(answer.body.status, ErasureStatus::Erased);
    }
}

/// The gateway over the sandbox, on a store.
fn gateway_on(sandbox: &Sandbox, store: Arc<dyn Store>, keys: KeyRing) -> Gateway {
    let clock: Arc<dyn Clock> = Arc::new(sandbox.clock());
    let settings = print_settings(&Addresses::default());
    let tap = (&Wire::default(), &Arc::new(AtomicBool::new(false)));
    let mut builder = Gateway::builder()
        .public_url(PUBLIC_URL)
        .clock(Arc::clone(&clock))
        .keys(keys)
        .store(store);
    for provider in adapters(&settings, sandbox, tap, &clock) {
        builder = builder.provider(provider);
    }
    builder.build().unwrap()
}

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(&format!("sqlite:{}", path.display()), Threads::Caller).unwrap()
}

fn write_private(path: &Path, text: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file.unwrap().write_all(text.as_bytes()).unwrap();
}

/// The service's router on a gateway.
pub(crate) fn door(gateway: &Gateway) -> Router {
    router(gateway.clone())
}
