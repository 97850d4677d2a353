//! SIGHUP to the program itself, while payments go on at the three providers of the sandbox.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use bytes::Bytes;
use cardless::client::Client;
use cardless::config::{Environment, Settings};
use cardless::message::{
    Amount, Capture, Initiator, LinkRequest, PayRequest, PaymentStatus, SetupStatus,
};
use cardless::registry;
use cardless::webhook::{SIGNATURE_HEADER, SigningSecrets};
use cardless_contract::{Clock as _, Secrets, SystemClock};
use cardless_sandbox::aduno::WEBHOOK_KEY;
use cardless_sandbox::{Addresses, Running, Sandbox, Servers};
use cardless_testkit::overheard::Canaries;
use cardless_transport::HttpClient;
use http::{HeaderMap, header};
use ring::hmac;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::people::run;
use crate::world::{ACCOUNT, ALL, FIRST_ID};

/// What the sandbox accepts, by setting, and another value that it does not.
const SECRETS: [(&str, &str, &str); 3] = [
    ("client_secret", "sandbox-secret", "canary-secret"),
    (
        "authentication_key",
        "Y2FyZGxlc3Mtc2FuZGJveC1wb3N0ZmluYW5jZS1rZXk=",
        "Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5LWNhbmE=",
    ),
    ("password", "sandbox-password", "canary-password"),
];

/// The service as a process of its own, and what it logs.
pub(crate) struct Service {
    pub(crate) folder: TempDir,
    /// Where it listens.
    pub(crate) base: String,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    client: Client,
    http: Arc<dyn HttpClient>,
    settings: String,
    sandbox: Sandbox,
    canaries: Canaries,
    _servers: Running,
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if thread::panicking() {
            return;
        }
        for request in self.sandbox.requests(None) {
            self.canaries.sent(&request.path, &request.body);
        }
        let keys = std::fs::read_to_string(self.folder.path().join("cardless.keys"));
        self.canaries.settings(&keys.unwrap_or_default());
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        self.canaries.judge("the process's log", &log.join("\n"));
    }
}

impl Service {
    pub(crate) async fn start() -> Self {
        let sandbox = Sandbox::new(Arc::new(SystemClock::default())).with_first_id(FIRST_ID);
        let servers = Servers::start(sandbox.clone(), Addresses::free());
        let servers = servers.await.unwrap();
        let folder = TempDir::new().unwrap();
        assert_eq!(run(&folder, &["init"]).0, 0);
        let settings = format!(
            "[service]\nlisten = \"127.0.0.1:0\"\n{}",
            cardless_sandbox::print_settings(servers.addresses())
        );
        std::fs::write(folder.path().join("cardless.toml"), &settings).unwrap();
        let add = ["client", "add", "shop", "--role", "billing", "--json"];
        let added: Value = serde_json::from_str(&run(&folder, &add).1).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_cardless"))
            .current_dir(folder.path())
            .arg("serve")
            .env_clear()
            .env("RUST_LOG", "trace")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let base = first.rsplit(' ').next().unwrap().to_owned();
        let log = Arc::new(Mutex::new(Vec::new()));
        let errors = BufReader::new(child.stderr.take().unwrap());
        let kept = Arc::clone(&log);
        thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        let parsed = Settings::parse("c.toml".as_ref(), &settings, &Environment::default());
        let http = registry::client(&parsed.unwrap()).unwrap();
        let key = added["api_key"].as_str().unwrap().to_owned();
        let canaries = Canaries::default();
        canaries.settings(&settings);
        canaries.plant("an API key", &key);
        Self {
            client: Client::new(&base, key, Arc::clone(&http)).unwrap(),
            folder,
            base,
            child,
            log,
            http,
            settings,
            sandbox,
            canaries,
            _servers: servers,
        }
    }

    /// Links a method at each provider.
    pub(crate) async fn link(&self) -> Vec<String> {
        let mut methods = Vec::new();
        for provider in ALL {
            let request = LinkRequest {
                account: ACCOUNT.to_owned(),
                provider: provider.to_owned(),
                return_url: "https://shop.example/back".to_owned(),
                language: None,
                amount: None,
                reference: None,
                capture: None,
            };
            let key = format!("link-{provider}");
            let setup = self.client.link(&key, &request).await.unwrap().body;
            let form = http::Request::post(setup.redirect_url.unwrap())
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(Bytes::from_static(b"decision=approve"));
            let back = self.http.send(form.unwrap()).await.unwrap();
            let back = back.headers()[header::LOCATION].to_str().unwrap();
            let back = http::Request::get(back).body(Bytes::new()).unwrap();
            assert_eq!(self.http.send(back).await.unwrap().status(), 303);
            let setup = self.client.setup(&setup.id).await.unwrap();
            assert_eq!(setup.status, SetupStatus::Completed);
            methods.push(setup.payment_method.unwrap());
        }
        methods
    }

    /// Pays, and answers the payment's handle.
    async fn pay(&self, method: &str, number: usize) -> String {
        let request = PayRequest {
            account: ACCOUNT.to_owned(),
            payment_method: Some(method.to_owned()),
            amount: Amount::new("CHF", 100),
            reference: format!("invoice {number}"),
            capture: Capture::Automatic,
            initiator: Initiator::Merchant,
            return_url: None,
            description: None,
        };
        let key = format!("pay-{number}");
        let payment = self.client.pay(&key, &request).await.unwrap().body;
        assert_eq!(payment.status, PaymentStatus::Captured, "{payment:?}");
        payment.id
    }

    /// Brings a webhook of Aduno that is signed by this key to its door; answers the status.
    async fn webhook(&self, key: &[u8], number: usize) -> u16 {
        let now = SystemClock::default().now().millis();
        let body =
            format!("{{\"transactionId\":\"26112812000000000{number}\",\"status\":\"settled\"}}");
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let mac = hmac::sign(&key, format!("{now}{body}").as_bytes());
        let mac: String = mac
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let request = http::Request::post(format!("{}/webhooks/aduno", self.base))
            .header(header::CONTENT_TYPE, "application/json")
            .header("datatrans-signature", format!("t={now},s0={mac}"))
            .body(Bytes::from(body));
        let answer = self.http.send(request.unwrap()).await.unwrap();
        answer.status().as_u16()
    }

    /// Writes settings, and tells the service to read them.
    async fn reload(&self, settings: &str, outcome: &str) {
        self.canaries.settings(settings);
        std::fs::write(self.folder.path().join("cardless.toml"), settings).unwrap();
        let before = self.said(outcome);
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-HUP", &id]).status().unwrap();
        assert!(sent.success());
        while self.said(outcome) == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// How many lines of the log hold this.
    fn said(&self, what: &str) -> usize {
        let log = self.log.lock().unwrap();
        log.iter().filter(|line| line.contains(what)).count()
    }

    /// The settings with each secret replaced by what `value` makes of the right and the wrong one.
    fn with_secrets(&self, value: impl Fn(&str, &str) -> String) -> String {
        let mut settings = self.settings.clone();
        for (setting, right, wrong) in SECRETS {
            let present = format!("{setting} = \"{right}\"");
            assert!(settings.contains(&present), "{setting}");
            settings = settings.replace(&present, &format!("{setting} = {}", value(right, wrong)));
        }
        settings
    }
}

const IN_FORCE: &str = "the settings were read again and are in force";
const STAY: &str = "the settings were not reloaded, and those before stay in force";

/// The passphrase of the key file changes, then the key, and the service that runs opens what is
/// sealed under it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passphrase_is_taken_over_while_the_service_runs() {
    let service = Service::start().await;
    let methods = service.link().await;
    let mut paid = 0;
    let mut before = String::new();
    for now in ["\"canary one\"", "[\"canary two\", \"canary one\"]"] {
        let settings = format!("{}\n[keys]\npassphrase = {now}\n", service.settings);
        service.reload(&settings, IN_FORCE).await;
        for arguments in [
            ["rotate", "keys", "--rewrite-file"].as_slice(),
            &["rotate", "keys"],
        ] {
            let (code, _, err) = tokio::task::block_in_place(|| run(&service.folder, arguments));
            assert_eq!(code, 0, "{err}");
        }
        for method in &methods {
            drop(service.pay(method, paid).await);
            paid += 1;
        }
        let file = std::fs::read_to_string(service.folder.path().join("cardless.keys")).unwrap();
        assert!(file != before && !file.contains("root"));
        before = file;
    }
    assert_eq!(service.said("the keys can't be read"), 0);
    // One that does not open the file changes nothing.
    let wrong = format!(
        "{}\n[keys]\npassphrase = \"canary three\"\n",
        service.settings
    );
    service.reload(&wrong, STAY).await;
    drop(service.pay(&methods[0], paid).await);
    let log = service.log.lock().unwrap().join("\n");
    assert!(!log.contains("canary"), "{log}");
}

/// The same the other way round: the keys are rotated under the new passphrase, or where they were moved
/// to, before the service has read the settings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_were_rotated_before_the_settings_are_read_are_taken_over() {
    let service = Service::start().await;
    let methods = service.link().await;
    let path = |name: &str| service.folder.path().join(name);
    let under = "passphrase = \"canary one\"";
    for (paid, keys) in [under.to_owned(), format!("file = \"moved.keys\"\n{under}")]
        .iter()
        .enumerate()
    {
        let settings = format!("{}\n[keys]\n{keys}\n", service.settings);
        std::fs::write(path("cardless.toml"), &settings).unwrap();
        if keys.contains("moved") {
            std::fs::rename(path("cardless.keys"), path("moved.keys")).unwrap();
        }
        let rotate = || run(&service.folder, &["rotate", "keys"]);
        let (code, _, err) = tokio::task::block_in_place(rotate);
        assert_eq!(code, 0, "{err}");
        service.reload(&settings, IN_FORCE).await;
        drop(service.pay(&methods[paid], paid).await);
    }
    assert_eq!(service.said(STAY), 0);
}

/// Two credentials are live at once, the new ones are switched on by a reload, wrong ones and a
/// wrong file change nothing, and no payment sees any of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_are_reloaded_while_payments_go_on() {
    let service = Service::start().await;
    let methods = service.link().await;
    let stop = AtomicBool::new(false);
    let charge = async {
        let mut paid = 0;
        while !stop.load(Ordering::Relaxed) {
            drop(service.pay(&methods[paid % methods.len()], paid).await);
            paid += 1;
        }
        paid
    };
    let operate = async {
        // The new one comes first, before the provider knows it; the old one is accepted still.
        let both = service.with_secrets(|right, wrong| format!("[\"{wrong}\", \"{right}\"]"));
        service.reload(&both, IN_FORCE).await;
        // The old one is taken out too early: the provider refuses what is left.
        let wrong = service.with_secrets(|_, wrong| format!("\"{wrong}\""));
        service.reload(&wrong, STAY).await;
        service.reload("[providers.paypal\ncanary = 1", STAY).await;
        service
            .reload(&service.settings.replace("client_id", "canary_id"), STAY)
            .await;
        // The switch is over.
        let listen = service.settings.replace("127.0.0.1:0", "127.0.0.1:1");
        service.reload(&listen, IN_FORCE).await;
        stop.store(true, Ordering::Relaxed);
    };
    let (paid, ()) = tokio::join!(charge, operate);
    assert!(paid > 0);
    for (number, method) in methods.iter().enumerate() {
        drop(service.pay(method, paid + number).await);
    }
    assert_eq!(
        service.said("refuses the new credentials in [providers."),
        1
    );
    assert_eq!(service.said("service.listen"), 1);
    let log = service.log.lock().unwrap().join("\n");
    assert!(
        !log.contains("canary-") && !log.contains("Y2FuYXJ5"),
        "{log}"
    );
    let (code, out, _) = run(&service.folder, &["audit", "list", "--json"]);
    assert_eq!(code, 0, "{out}");
    let lines: Value = serde_json::from_str(&out).unwrap();
    let reloads = lines["data"].as_array().unwrap().iter();
    let reloads = reloads.filter(|line| line["action"] == "settings.reload");
    let outcomes: Vec<&str> = reloads
        .map(|line| line["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(outcomes.len(), 5);
    assert_eq!(
        outcomes
            .iter()
            .filter(|outcome| **outcome == "done")
            .count(),
        2
    );
}

/// A receiver of events on loopback.
struct Receiver {
    url: String,
    came: mpsc::UnboundedReceiver<(HeaderMap, Bytes)>,
    task: tokio::task::JoinHandle<()>,
}

impl Receiver {
    async fn start() -> Self {
        let (send, came) = mpsc::unbounded_channel();
        let hook = post(move |headers: HeaderMap, body: Bytes| async move {
            send.send((headers, body)).unwrap();
            http::StatusCode::NO_CONTENT
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let router = Router::new().route("/hook", hook);
        let served = cardless::serve::serve(listener, router, std::future::pending());
        let task = tokio::spawn(async move { served.await.unwrap() });
        Self { url, came, task }
    }

    /// The delivery that tells of a payment.
    async fn of(&mut self, payment: &str) -> (HeaderMap, Bytes) {
        loop {
            let (headers, body) = self.came.recv().await.unwrap();
            let event: Value = serde_json::from_slice(&body).unwrap();
            if event["data"]["payment"] == payment {
                return (headers, body);
            }
        }
    }
}

/// The secret of events after the switch, and the one before it.
const NEW_EVENTS: &str = "whsec_bmV3LXNlY3JldC1vZi0zMi1ieXRlcy0tLS0tLS0tLS0=";
const OLD_EVENTS: &str = "whsec_b2xkLXNlY3JldC1vZi0zMi1ieXRlcy0tLS0tLS0tLS0=";

/// Two keys of a provider's webhooks and two secrets of our events are live while they are switched;
/// what is taken out counts no more, without a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhook_keys_and_the_secret_of_events_are_switched_with_an_overlap() {
    let service = Service::start().await;
    let mut receiver = Receiver::start().await;
    let method = &service.link().await[0];
    let old_key: Vec<u8> = WEBHOOK_KEY
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    let new_key = vec![0x5a; 32];
    let new_text = "5a".repeat(32);
    let present = format!("webhook_key = \"{WEBHOOK_KEY}\"");
    assert!(service.settings.contains(&present));
    let secrets = |text: &str| SigningSecrets::new(&Secrets::new(vec![text.to_owned()]).unwrap());
    let (old_events, new_events) = (secrets(OLD_EVENTS).unwrap(), secrets(NEW_EVENTS).unwrap());

    for (stage, (keys, events, takes_old, takes_new)) in [
        (
            format!("\"{WEBHOOK_KEY}\""),
            format!("\"{OLD_EVENTS}\""),
            true,
            false,
        ),
        (
            format!("[\"{new_text}\", \"{WEBHOOK_KEY}\"]"),
            format!("[\"{NEW_EVENTS}\", \"{OLD_EVENTS}\"]"),
            true,
            true,
        ),
        (
            format!("\"{new_text}\""),
            format!("\"{NEW_EVENTS}\""),
            false,
            true,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let settings = service
            .settings
            .replace(&present, &format!("webhook_key = {keys}"));
        let settings = format!(
            "{settings}\n[events]\nurl = \"{}\"\nsecret = {events}\n",
            receiver.url
        );
        service.reload(&settings, IN_FORCE).await;

        let by_old = service.webhook(&old_key, stage).await;
        let by_new = service.webhook(&new_key, stage + 5).await;
        let expected = |taken| if taken { 200 } else { 401 };
        assert_eq!(
            (by_old, by_new),
            (expected(takes_old), expected(takes_new)),
            "{stage}"
        );

        let payment = service.pay(method, stage).await;
        let (headers, body) = receiver.of(&payment).await;
        let now = SystemClock::default().now();
        let fits = |secrets: &SigningSecrets| secrets.verify(&headers, &body, now).is_ok();
        assert_eq!(
            (fits(&old_events), fits(&new_events)),
            (takes_old, takes_new),
            "{stage}"
        );
        let signatures = headers[SIGNATURE_HEADER]
            .to_str()
            .unwrap()
            .split(' ')
            .count();
        assert_eq!(signatures, usize::from(takes_old) + usize::from(takes_new));
    }
    receiver.task.abort();
}
