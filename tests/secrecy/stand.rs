//! The program itself in a folder of its own, the three providers, a billing service, and all that
//! comes out of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use cardless::config::{Environment, Settings};
use cardless::registry;
use cardless_contract::SystemClock;
use cardless_sandbox::{Addresses, Deliver, Provider, Running, Sandbox, Servers, WebhookRoute};
use cardless_transport::{HttpClient, Response};
use http::{Method, header};
use ring::digest::{SHA256, digest};
use serde_json::Value;
use tempfile::TempDir;

use crate::canary::{Canaries, Place, contains};
use crate::program::{ANSWERED, NAMED, TOLD_BACK};

/// Given by environment, so it stands in the program's for as long as that runs.
pub(crate) const BY_ENVIRONMENT: &str = "Aduno's password, the new one";
pub(crate) const ENVIRONMENT_NAME: &str = "ADUNO_PASSWORD";

/// How long an event may take to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything of one run.
pub(crate) struct Stand {
    pub(crate) folder: TempDir,
    pub(crate) sandbox: Sandbox,
    pub(crate) http: Arc<dyn HttpClient>,
    canaries: Mutex<Canaries>,
    places: Mutex<BTreeMap<String, Place>>,
    received: Arc<Mutex<Vec<u8>>>,
    _servers: Running,
}

/// A running `cardless serve`.
pub(crate) struct Service {
    child: Child,
    pub(crate) base: String,
    log: PathBuf,
    out: BufReader<std::process::ChildStdout>,
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What a kind of secret reads: the same in every run, no account id that is refused, no word.
pub(crate) fn word(kind: &str) -> String {
    let letters = digest(&SHA256, kind.as_bytes());
    let letters = letters.as_ref().iter().take(20);
    let letters = letters.map(|byte| char::from(b'a' + byte % 26));
    format!("cy.{}", letters.collect::<String>())
}

/// A number that passes for a card's, one for each kind of door.
pub(crate) fn card(door: &str) -> String {
    let digits = digest(&SHA256, door.as_bytes());
    let digits = digits.as_ref().iter().take(14);
    let number: String = digits.map(|byte| char::from(b'0' + byte % 10)).collect();
    let number = format!("4{number}");
    let doubled = |digit: u32| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let sum: u32 = number
        .chars()
        .filter_map(|digit| digit.to_digit(10))
        .enumerate()
        .map(|(place, digit)| {
            if place % 2 == 0 {
                doubled(digit)
            } else {
                digit
            }
        })
        .sum();
    format!("{number}{}", (10 - sum % 10) % 10)
}

impl Stand {
    pub(crate) async fn new() -> Self {
        let sandbox = Sandbox::new(Arc::new(SystemClock::default())).with_first_id(7_351_406_000);
        let servers = Servers::start(sandbox.clone(), Addresses::free()).await;
        let servers = servers.unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let billing = listen(Arc::clone(&received)).await;
        let settings = cardless_sandbox::print_settings(servers.addresses());
        let parsed = Settings::parse("test".as_ref(), &settings, &Environment::default()).unwrap();
        let stand = Self {
            folder: TempDir::new().unwrap(),
            sandbox,
            http: registry::client(&parsed).unwrap(),
            canaries: Mutex::default(),
            places: Mutex::default(),
            received,
            _servers: servers,
        };
        stand.settle(&settings, &billing);
        stand
    }

    /// The first files: two live secrets of each kind, each given in another way.
    fn settle(&self, providers: &str, billing: &str) {
        self.verb(&["init"], "wrote", &[]);
        let right = |setting: &str| {
            let start = format!("{setting} = \"");
            let (_, rest) = providers.split_once(&start).unwrap();
            rest.split_once('"').unwrap().0.to_owned()
        };
        self.plant("PayPal's secret", right("client_secret"));
        self.plant_base64("PostFinance's key", &right("authentication_key"));
        self.plant("Aduno's password", right("password"));
        self.plant("Aduno's webhook key", right("webhook_key"));
        let new_key = digest(&SHA256, b"PostFinance's key, the new one");
        let new_key = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, new_key);
        self.plant_base64("PostFinance's key, the new one", &new_key);
        std::fs::write(self.path("postfinance.key"), new_key).unwrap();
        let webhook_key: String = digest(&SHA256, b"Aduno's webhook key, the new one")
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        self.plant("Aduno's webhook key, the new one", &webhook_key);
        self.plant(BY_ENVIRONMENT, word(BY_ENVIRONMENT));
        let mut signing = [String::new(), String::new()];
        for (text, kind) in signing
            .iter_mut()
            .zip(["events' secret", "events' secret, older"])
        {
            let key = digest(&SHA256, kind.as_bytes());
            *text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, key);
            self.plant_base64(kind, text);
        }
        let mut text = "[service]\nlisten = \"127.0.0.1:0\"\n".to_owned() + providers;
        for (setting, with) in [
            (
                "client_secret",
                format!("\"{}\"", self.canary("PayPal's secret, the new one")),
            ),
            (
                "authentication_key",
                "{ file = \"postfinance.key\" }".to_owned(),
            ),
            ("password", format!("{{ env = \"{ENVIRONMENT_NAME}\" }}")),
            ("webhook_key", format!("\"{webhook_key}\"")),
        ] {
            let right = right(setting);
            let (before, both) = (
                format!("{setting} = \"{right}\""),
                format!("{setting} = [{with}, \"{right}\"]"),
            );
            text = text.replace(&before, &both);
        }
        let place = self.canary("a parameter of the billing service's address");
        let [first, second] = signing;
        text += &format!(
            "[events]\nurl = \"{billing}/events?key={place}\"\n\
             secret = [\"whsec_{first}\", \"whsec_{second}\"]\n"
        );
        std::fs::write(self.path("cardless.toml"), text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A secret of this kind, planted from now on.
    pub(crate) fn canary(&self, kind: &str) -> String {
        let word = word(kind);
        self.plant(kind, &word);
        word
    }

    /// A card number that is typed at this door.
    pub(crate) fn card(&self, door: &str) -> String {
        let card = card(door);
        self.plant(&format!("a card number typed at {door}"), &card);
        card
    }

    pub(crate) fn plant(&self, kind: &str, value: impl AsRef<[u8]>) {
        self.canaries.lock().unwrap().plant(kind, value);
    }

    pub(crate) fn plant_base64(&self, kind: &str, text: &str) {
        self.canaries.lock().unwrap().plant_base64(kind, text);
    }

    pub(crate) fn canaries(&self) -> Canaries {
        self.canaries.lock().unwrap().clone()
    }

    /// Adds to a place, with more that belongs there.
    pub(crate) fn keep(&self, name: &str, bytes: &[u8], marker: &str, belongs: &[&'static str]) {
        let mut places = self.places.lock().unwrap();
        let place = places
            .entry(name.to_owned())
            .or_insert_with(|| Place::new(name, Vec::new(), marker));
        place.bytes.extend(bytes);
        place.bytes.push(b'\n');
        assert_eq!(place.marker, marker, "{name}");
        for kind in belongs {
            if !place.belongs.contains(kind) {
                place.belongs.push(kind);
            }
        }
    }

    pub(crate) fn places(&self) -> Vec<Place> {
        let received = self.received.lock().unwrap().clone();
        self.keep(
            "what the billing service received",
            &received,
            "payment.captured",
            &NAMED,
        );
        std::mem::take(&mut *self.places.lock().unwrap())
            .into_values()
            .collect()
    }

    /// Waits until the billing service was told of every account.
    pub(crate) async fn until_told(&self) {
        let told = || {
            let received = self.received.lock().unwrap();
            NAMED
                .iter()
                .all(|kind| contains(&received, word(kind).as_bytes()))
        };
        let wait = async {
            while !told() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, wait).await;
        assert!(in_time.is_ok(), "no event of some account has arrived");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cardless"));
        command
            .current_dir(self.folder.path())
            .args(arguments)
            .env_clear()
            .env("RUST_LOG", "trace")
            .env("RUST_BACKTRACE", "full")
            .env("USER", "plain-login")
            .env(ENVIRONMENT_NAME, word(BY_ENVIRONMENT));
        command
    }

    /// Runs a verb that is refused, or finds something wrong, or nothing.
    pub(crate) fn refused(&self, name: &str, arguments: &[&str], marker: &str) {
        let output = self.command(arguments).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        self.keep(name, &said, marker, &[]);
    }

    /// A verb that must succeed, whose output has a marker, and in which some kinds belong.
    pub(crate) fn verb(
        &self,
        arguments: &[&str],
        marker: &str,
        belongs: &[&'static str],
    ) -> String {
        let is_word = |word: &&&str| word.bytes().all(|byte| byte.is_ascii_lowercase());
        let words: Vec<&str> = arguments.iter().take_while(is_word).copied().collect();
        let json = if arguments.contains(&"--json") {
            " --json"
        } else {
            ""
        };
        let name = format!("cardless {}{json}", words.join(" "));
        let output = self.run_with(&name, &mut self.command(arguments), marker, belongs);
        assert!(
            output.status.success(),
            "{arguments:?} {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn run_with(
        &self,
        name: &str,
        command: &mut Command,
        marker: &str,
        belongs: &[&'static str],
    ) -> Output {
        let output = command.output().unwrap();
        self.keep(name, &output.stdout, marker, belongs);
        self.keep("the log of the verbs", &output.stderr, "TRACE", &[]);
        output
    }

    /// Another folder's verb, with a passphrase.
    pub(crate) fn under(&self, folder: &Path, passphrase: &str, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        command
            .current_dir(folder)
            .env("CARDLESS__KEYS__PASSPHRASE", passphrase);
        self.run_with("verbs under a passphrase", &mut command, "wrote", &[])
    }

    /// Starts the service, logging at trace.
    pub(crate) fn serve(&self, log: &str) -> Service {
        let log = self.path(log);
        let mut child = self
            .command(&["serve"])
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        out.read_line(&mut first).unwrap();
        let base = first.trim().strip_prefix("cardless listens on ");
        let base =
            base.unwrap_or_else(|| panic!("{first} {}", std::fs::read_to_string(&log).unwrap()));
        for provider in Provider::ALL {
            self.sandbox.route_webhooks(&WebhookRoute {
                provider,
                url: Some(format!("{base}/webhooks/{}", provider.name())),
                deliver: Deliver::Now,
            });
        }
        self.keep(
            "the output of `serve`",
            first.as_bytes(),
            "cardless listens",
            &[],
        );
        Service {
            base: base.to_owned(),
            child,
            log,
            out,
        }
    }

    /// Ends the service by a signal, and keeps its log.
    pub(crate) fn end(&self, mut service: Service, signal: &str) {
        service.signal(signal);
        service.child.wait().unwrap();
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut service.out, &mut rest).unwrap();
        self.keep(
            "the output of `serve`",
            rest.as_bytes(),
            "cardless listens",
            &[],
        );
        let log = std::fs::read(&service.log).unwrap();
        self.keep("the log of `serve`", &log, "gate: request", &[]);
    }

    /// Keeps the database's files as they are.
    pub(crate) fn keep_database(&self, stage: &str) {
        let mut all = Vec::new();
        for name in ["cardless.db", "cardless.db-wal", "cardless.db-shm"] {
            all.extend(std::fs::read(self.path(name)).unwrap_or_default());
        }
        self.keep(
            &format!("the database, {stage}"),
            &all,
            "payment_methods",
            &[],
        );
    }

    /// A request to the service, whose answer is kept.
    pub(crate) async fn call(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: impl Into<Bytes>,
    ) -> Response {
        let mut request = http::Request::builder().method(method).uri(url);
        *request.headers_mut().unwrap() = headers;
        let answer = self
            .http
            .send(request.body(body.into()).unwrap())
            .await
            .unwrap();
        let mut text = format!("{} {:?}\n", answer.status(), answer.headers()).into_bytes();
        text.extend(answer.body().as_ref());
        if answer.status().is_success() {
            self.keep("answers of the service", &text, "captured", &ANSWERED);
        } else if answer.status() != StatusCode::SEE_OTHER {
            self.keep("refusals of the service", &text, "card_number", &TOLD_BACK);
        }
        answer
    }

    /// Presses the button of a hosted page, and follows back to the service. Gives the address there.
    pub(crate) async fn approve(&self, page: &str) -> String {
        let form = http::Request::post(page)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Bytes::from_static(b"decision=approve"));
        let answer = self.http.send(form.unwrap()).await.unwrap();
        let back = answer.headers()[header::LOCATION].to_str().unwrap();
        let to = self.call(Method::GET, back, HeaderMap::new(), "").await;
        assert_eq!(to.status(), 303, "{back}");
        back.to_owned()
    }
}

impl Service {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &id])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Waits until the log says this so many times.
    pub(crate) async fn until_said_times(&self, what: &str, times: usize) {
        let said = || {
            std::fs::read_to_string(&self.log)
                .unwrap()
                .matches(what)
                .count()
        };
        while said() < times {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub(crate) fn json_of(answer: &Response) -> Value {
    serde_json::from_slice(answer.body()).unwrap_or_default()
}

/// A billing service that takes every event, and keeps what it was sent.
async fn listen(received: Arc<Mutex<Vec<u8>>>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(take).with_state(received);
    tokio::spawn(async move { axum::serve(listener, router).await });
    base
}

async fn take(
    State(received): State<Arc<Mutex<Vec<u8>>>>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let mut received = received.lock().unwrap();
    received.extend(format!("{headers:?}\n").into_bytes());
    received.extend(body);
    StatusCode::NO_CONTENT
}
