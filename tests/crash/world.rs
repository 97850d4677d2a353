use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cardless_contract::SystemClock;
use cardless_sandbox::{Addresses, Deliver, Entry, Provider, Running, Sandbox, Servers};
use cardless_sandbox::{RecordedRequest, WebhookRoute};
use cardless_testkit::overheard::Canaries;
use cardless_transport::{ClientConfig, HttpClient, ReqwestClient};
use http::header;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::operation::ONE_CALL;

/// The account that pays.
pub(crate) const ACCOUNT: &str = "acct-7";

/// What providers and browsers are told; the service itself listens on whatever port is free.
const PUBLIC_URL: &str = "http://127.0.0.1:8080";

/// Long enough that a token which is a number is not found by chance.
const FIRST_ID: u64 = 7_351_406_000;

/// How long a call, a start or an end may take on a machine that is busy. What takes longer has
/// failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// The file that moves the clock of every process of a world.
const CLOCK_FILE: &str = "clock";

/// Files that every world begins with: keys, and a database that knows one client.
pub(crate) struct Template {
    folder: TempDir,
    api_key: String,
}

/// One installation: a folder, the three providers in this process, and as many processes of the
/// service as a test starts.
pub(crate) struct World {
    folder: TempDir,
    sandbox: Sandbox,
    servers: Option<Running>,
    ahead_seconds: AtomicU64,
    starts: AtomicU32,
    api_key: String,
    database: PathBuf,
}

/// No log of a process may hold a secret, however that process ended.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let canaries = Canaries::default();
        canaries.plant("an API key", &self.api_key);
        for file in ["cardless.toml", "cardless.keys"] {
            if let Ok(text) = std::fs::read_to_string(self.folder.path().join(file)) {
                canaries.settings(&text);
            }
        }
        for request in self.sandbox.requests(None) {
            canaries.sent(&request.path, &request.body);
        }
        canaries.judge("a process's log", &self.logs());
    }
}

/// One process of the service.
pub(crate) struct Service {
    child: Child,
    /// Where it listens.
    pub(crate) base: String,
    log: PathBuf,
}

/// A call of the billing service or of a browser, as it can be made again.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: http::Method,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) key: String,
    pub(crate) body: String,
}

/// What was answered to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The body, or where a browser is sent.
    pub(crate) text: String,
}

impl Call {
    pub(crate) fn post(path: impl Into<String>, key: &str, body: &Value) -> Self {
        Self {
            method: http::Method::POST,
            path: path.into(),
            key: key.to_owned(),
            body: body.to_string(),
        }
    }

    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self {
            method: http::Method::GET,
            path: path.into(),
            key: "-".to_owned(),
            body: String::new(),
        }
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// Whether it says how the thing ended, so that it must stand for ever.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self.status, 200 | 201)
    }
}

impl Template {
    pub(crate) async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let init = cardless(folder.path(), &["init"]).output().await.unwrap();
        assert!(init.status.success(), "{init:?}");
        let add = ["client", "add", "shop", "--role", "billing", "--json"];
        let added = cardless(folder.path(), &add).output().await.unwrap();
        assert!(added.status.success(), "{added:?}");
        let added: Value = serde_json::from_slice(&added.stdout).unwrap();
        let api_key = added["api_key"].as_str().unwrap().to_owned();
        Self { folder, api_key }
    }

    /// The files of a world in which nothing runs, as they are now.
    pub(crate) fn of(world: &World) -> Self {
        let folder = TempDir::new().unwrap();
        for name in ["cardless.keys", "cardless.db", "cardless.db-wal"] {
            let from = world.folder.path().join(name);
            if from.exists() {
                std::fs::copy(from, folder.path().join(name)).unwrap();
            }
        }
        Self {
            folder,
            api_key: world.api_key.clone(),
        }
    }
}

impl World {
    /// No webhook is delivered unless [`World::deliver`] says so.
    pub(crate) async fn new(template: &Template) -> Self {
        Self::at(template, "paypal").await
    }

    /// The same with the settings of one of [`PLACES`](crate::operation::PLACES).
    pub(crate) async fn at(template: &Template, place: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let store = folder.path().to_owned();
        Self::build(template, folder, store, place, "").await
    }

    /// The same with the database in another folder, and with more settings.
    pub(crate) async fn with_store(
        template: &Template,
        folder: TempDir,
        store: PathBuf,
        more: &str,
    ) -> Self {
        Self::build(template, folder, store, "paypal", more).await
    }

    async fn build(
        template: &Template,
        folder: TempDir,
        store: PathBuf,
        place: &str,
        more: &str,
    ) -> Self {
        let sandbox = Sandbox::new(Arc::new(SystemClock::default())).with_first_id(FIRST_ID);
        let servers = Servers::start(sandbox.clone(), Addresses::free());
        let servers = servers.await.unwrap();
        let settings = format!(
            "[service]\nlisten = \"127.0.0.1:0\"\npublic_url = \"{PUBLIC_URL}\"\n\
             [store]\nurl = \"sqlite:{}\"\n[keys]\nfile = \"cardless.keys\"\n{}{more}",
            store.join("cardless.db").display(),
            providers(place, servers.addresses()),
        );
        std::fs::write(folder.path().join("cardless.toml"), settings).unwrap();
        let copy = |name: &str, to: &Path| {
            std::fs::copy(template.folder.path().join(name), to.join(name)).unwrap();
        };
        copy("cardless.keys", folder.path());
        copy("cardless.db", &store);
        if template.folder.path().join("cardless.db-wal").exists() {
            copy("cardless.db-wal", &store);
        }
        std::fs::write(folder.path().join(CLOCK_FILE), "0").unwrap();
        let world = Self {
            folder,
            sandbox,
            servers: Some(servers),
            ahead_seconds: AtomicU64::new(0),
            starts: AtomicU32::new(0),
            api_key: template.api_key.clone(),
            database: store.join("cardless.db"),
        };
        world.deliver(Deliver::Never, PUBLIC_URL);
        world
    }

    /// How webhooks are delivered, and to whom.
    pub(crate) fn deliver(&self, deliver: Deliver, base: &str) {
        for provider in Provider::ALL {
            self.sandbox.route_webhooks(&WebhookRoute {
                provider,
                url: Some(format!("{base}/webhooks/{}", provider.name())),
                deliver,
            });
        }
    }

    /// Whether a process stands in the midst of a write, so that nobody else can write.
    pub(crate) fn is_locked(&self) -> bool {
        let database = rusqlite::Connection::open(&self.database).unwrap();
        database.busy_timeout(Duration::ZERO).unwrap();
        database.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_err()
    }

    /// Starts a process of the service and waits until it listens.
    pub(crate) async fn serve(&self) -> Service {
        let start = self.starts.fetch_add(1, Ordering::SeqCst);
        let log = self.log(start);
        let mut child = cardless(self.folder.path(), &["serve"])
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = tokio::time::timeout(PATIENCE, lines.next_line()).await;
        let first = first.unwrap().unwrap().unwrap_or_default();
        let base = first.strip_prefix("cardless listens on ");
        let log_text = || std::fs::read_to_string(&log).unwrap_or_default();
        let base = base.unwrap_or_else(|| panic!("no start: {first:?}\n{}", log_text()));
        Service {
            child,
            base: base.to_owned(),
            log,
        }
    }

    /// Runs a verb to its end, beside whatever else runs.
    pub(crate) async fn verb(&self, arguments: &[&str]) -> Output {
        let ended = cardless(self.folder.path(), arguments).output();
        let ended = tokio::time::timeout(PATIENCE, ended).await;
        ended
            .unwrap_or_else(|_| panic!("no end: {arguments:?}"))
            .unwrap()
    }

    /// Where the process that was started as this one writes its log.
    fn log(&self, start: u32) -> PathBuf {
        self.folder.path().join(format!("serve-{start}.log"))
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a verb to its end under strace, which writes into `traced` what it sees by this rule.
    pub(crate) async fn traced(&self, traced: &Path, rule: &str, arguments: &[&str]) -> Output {
        let verb = cardless(self.folder.path(), arguments);
        let mut command = Command::new("strace");
        command
            .current_dir(self.folder.path())
            .args(["-f", "-qq", "-o"])
            .arg(traced)
            .args(["-e", rule])
            .arg(verb.as_std().get_program())
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .kill_on_drop(true);
        for (name, value) in verb.as_std().get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let ended = tokio::time::timeout(PATIENCE, command.output()).await;
        ended
            .unwrap_or_else(|_| panic!("no end: {arguments:?}"))
            .unwrap()
    }

    /// Moves the clocks of everybody: of the providers, and of each process that runs or stands.
    pub(crate) fn advance(&self, by: Duration) {
        let seconds = by.as_secs();
        let ahead = self.ahead_seconds.fetch_add(seconds, Ordering::SeqCst) + seconds;
        // Renamed into place, so that nobody reads half of it.
        let fresh = self.folder.path().join("clock.new");
        std::fs::write(&fresh, ahead.to_string()).unwrap();
        std::fs::rename(&fresh, self.folder.path().join(CLOCK_FILE)).unwrap();
        self.sandbox.advance(by);
    }

    /// Makes a call over a connection of its own. Nothing if the connection broke without an answer.
    pub(crate) async fn ask(&self, base: &str, call: &Call) -> Option<Answer> {
        let mut request = http::Request::builder()
            .method(call.method.clone())
            .uri(format!("{base}{}", call.path));
        if call.path.starts_with("/v1/") {
            request = request
                .header(header::AUTHORIZATION, format!("Bearer {}", self.api_key))
                .header(header::CONTENT_TYPE, "application/json")
                .header("idempotency-key", &call.key);
        }
        let request = request.body(Bytes::from(call.body.clone())).unwrap();
        let config = ClientConfig {
            total_timeout: PATIENCE,
            ..ClientConfig::default()
        };
        let client = ReqwestClient::new(&config).unwrap();
        let response = client.send(request).await.ok()?;
        let location = response.headers().get(header::LOCATION);
        let text = match location {
            Some(location) => location.to_str().unwrap().to_owned(),
            None => String::from_utf8(response.body().to_vec()).unwrap(),
        };
        Some(Answer {
            status: response.status().as_u16(),
            text,
        })
    }

    /// A call that must be answered.
    pub(crate) async fn must(&self, base: &str, call: &Call) -> Answer {
        let answer = self.ask(base, call).await;
        answer.unwrap_or_else(|| panic!("no answer to {call:?}"))
    }

    /// Presses a button of a hosted page; gives the path by which the browser comes back to us.
    pub(crate) async fn press(&self, page: &str, button: &str) -> String {
        let request = http::Request::post(page)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Bytes::from(format!("decision={button}")))
            .unwrap();
        let client = ReqwestClient::new(&ClientConfig::default()).unwrap();
        let response = client.send(request).await.unwrap();
        assert_eq!(response.status(), 303, "{page}: {:?}", response.body());
        let back = response.headers()[header::LOCATION].to_str().unwrap();
        back.strip_prefix(PUBLIC_URL).unwrap().to_owned()
    }

    pub(crate) fn ledger(&self) -> Vec<Entry> {
        self.sandbox.ledger()
    }

    /// Every request that reached a provider, oldest first.
    pub(crate) fn requests(&self) -> Vec<RecordedRequest> {
        self.sandbox.requests(None)
    }

    /// What the processes of the service have logged.
    pub(crate) fn logs(&self) -> String {
        let starts = self.starts.load(Ordering::SeqCst);
        let read = |start: u32| {
            let log = std::fs::read(self.log(start)).unwrap_or_default();
            String::from_utf8_lossy(&log).into_owned()
        };
        (0..starts).map(read).collect::<Vec<_>>().join("--\n")
    }

    /// Closes the providers' ports.
    pub(crate) async fn close(mut self) {
        if let Some(servers) = self.servers.take() {
            servers.shutdown().await;
        }
    }
}

impl Service {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits for a process that something else kills; answers whether it did so within this time.
    pub(crate) async fn ends_within(&mut self, time: Duration) -> bool {
        let ended = tokio::time::timeout(time, self.child.wait()).await;
        ended.is_ok_and(|status| status.is_ok())
    }

    /// SIGKILL, if it still lives.
    pub(crate) async fn kill(mut self) {
        if self.child.try_wait().unwrap().is_none() {
            self.child.kill().await.unwrap();
        }
    }

    /// SIGTERM, and waits for the end, which must be an orderly one.
    pub(crate) async fn stop(mut self) {
        signal(self.pid(), "TERM").await;
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status = ended.expect("the service does not end").unwrap();
        assert!(status.success(), "{status}: {}", self.log());
    }
}

/// The settings of all providers, with those that a place is about.
fn providers(place: &str, addresses: &Addresses) -> String {
    let settings = cardless_sandbox::print_settings(addresses);
    if place != ONE_CALL {
        return settings;
    }
    let table = "[providers.paypal]\n";
    assert!(settings.contains(table), "{settings}");
    settings.replace(table, &format!("{table}order_flow = \"one_call\"\n"))
}

/// Sends a signal to a process that we have started.
pub(crate) async fn signal(pid: u32, name: &str) {
    let command = format!("kill -s {name} {pid}");
    let sent = Command::new("sh").args(["-c", &command]).status().await;
    assert!(sent.unwrap().success(), "{command}");
}

/// The program in a folder, with nothing in its environment but what moves its clock, and one
/// worker thread, so that all of a class of system calls come from one thread and can be counted.
fn cardless(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cardless"));
    command
        .current_dir(folder)
        .args(arguments)
        .env_clear()
        .env("TOKIO_WORKER_THREADS", "1")
        .env("CARDLESS_CLOCK_OFFSET_FILE", CLOCK_FILE)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}
