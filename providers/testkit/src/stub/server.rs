use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use super::{Answer, Dialect, Seen};
use crate::call::Call;

/// A stub at work: answers by its dialect, and misbehaves on the request that carries the call
/// out.
#[derive(Debug)]
pub struct Stub {
    state: Arc<State>,
    _server: MockServer,
}

/// What becomes of the request that carries the call out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Misbehavior {
    /// Nothing: every answer is good.
    None,
    /// This answer instead; what is asked after it gets a bare 503.
    Answer(Answer),
    /// It is answered well; what is asked after it gets a bare 503.
    Afterwards,
    /// The connection is closed without a byte.
    Reset,
    /// The good answer's body breaks off in the middle.
    HalfBody,
    /// No answer comes.
    Stall,
    /// Every answer of the call has these texts replaced.
    Replace(Vec<(String, String)>),
    /// Every JSON object of every answer has these members added, where it lacks them.
    Insert(Vec<(String, String)>),
    /// The request for an access token gets this answer.
    Login(Answer),
}

#[derive(Debug)]
struct State {
    dialect: Arc<dyn Dialect>,
    call: Call,
    misbehavior: Misbehavior,
    base: String,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    seen: Vec<Seen>,
    hits: Vec<Seen>,
    replaced: bool,
}

/// How long a stalled answer takes: beyond every deadline that a client is given here.
const STALL: Duration = Duration::from_secs(3600);

/// An address on loopback where nobody listens.
pub async fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

impl Stub {
    /// Starts a stub for one call.
    pub async fn start(dialect: Arc<dyn Dialect>, call: Call, misbehavior: Misbehavior) -> Self {
        let server = MockServer::start().await;
        let base = server.uri();
        let log = Mutex::default();
        let state = Arc::new(State {
            dialect,
            call,
            misbehavior,
            base,
            log,
        });
        let broken = Arc::clone(&state);
        Mock::given(move |request: &Request| broken.breaks(request))
            .respond_with_err(|_: &Request| std::io::Error::other("the connection breaks"))
            .mount(&server)
            .await;
        Mock::given(wiremock::matchers::any())
            .respond_with(Script(Arc::clone(&state)))
            .mount(&server)
            .await;
        Self {
            state,
            _server: server,
        }
    }

    /// Its address, without a slash at the end.
    pub fn base(&self) -> &str {
        &self.state.base
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.log().seen.clone()
    }

    /// The requests that carried the call out. More than one is a repeat.
    pub fn hits(&self) -> Vec<Seen> {
        self.state.log().hits.clone()
    }

    /// Whether an answer was really changed.
    pub fn replaced(&self) -> bool {
        self.state.log().replaced
    }
}

impl State {
    fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request that carries the call out: the first that writes; of a call that only reads,
    /// the first. A renewal of the alias's expiry date is on the way and not the call itself.
    fn carries_out(&self, seen: &Seen) -> bool {
        let login = self.dialect.login() == Some(seen.path.as_str());
        let reads = !self.call.mutates();
        !login && (reads || (seen.method != "GET" && seen.method != "PATCH"))
    }

    /// Whether the connection breaks without a whole head of an answer; then the request is noted
    /// here, since nothing else sees it.
    fn breaks(&self, request: &Request) -> bool {
        let seen = seen(request);
        if !self.carries_out(&seen) {
            return false;
        }
        let breaks = match &self.misbehavior {
            Misbehavior::Reset => true,
            // An empty answer has no half: its connection breaks at once.
            Misbehavior::HalfBody => self.dialect.answer(self.call, &seen).body.is_empty(),
            _ => false,
        };
        if breaks {
            self.decide(seen);
        }
        breaks
    }

    /// Notes a request and decides what becomes of it.
    fn decide(&self, mut seen: Seen) -> Fate {
        let mut log = self.log();
        seen.carried_out = !log.hits.is_empty();
        seen.base.clone_from(&self.base);
        let carries_out = self.carries_out(&seen);
        log.seen.push(seen.clone());
        if carries_out {
            log.hits.push(seen.clone());
        }
        let good = self.dialect.answer(self.call, &seen);
        let after = seen.carried_out;
        let changed = match &self.misbehavior {
            Misbehavior::None => good,
            Misbehavior::Login(answer) if self.dialect.login() == Some(seen.path.as_str()) => {
                answer.clone()
            }
            Misbehavior::Login(_) => good,
            Misbehavior::Replace(texts) => {
                let changed = replace(&good, texts);
                log.replaced |= changed != good;
                changed
            }
            Misbehavior::Insert(members) => {
                let changed = insert(&good, members);
                log.replaced |= changed != good;
                changed
            }
            Misbehavior::Answer(answer) if carries_out => answer.clone(),
            Misbehavior::Reset if carries_out => return Fate::Close,
            Misbehavior::Stall if carries_out => return Fate::Stall,
            Misbehavior::HalfBody if carries_out => return Fate::Half(good),
            _ if after && self.dialect.login() != Some(seen.path.as_str()) => Answer::empty(503),
            _ => good,
        };
        Fate::Whole(changed)
    }
}

enum Fate {
    Whole(Answer),
    Half(Answer),
    Close,
    Stall,
}

/// Answers by the state's decisions.
struct Script(Arc<State>);

impl Respond for Script {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        match self.0.decide(seen(request)) {
            Fate::Whole(answer) => written(&answer),
            Fate::Half(answer) => half(&answer),
            // A broken connection is another mock's; an answer is not what the test expects.
            Fate::Close => ResponseTemplate::new(599),
            Fate::Stall => ResponseTemplate::new(200).set_delay(STALL),
        }
    }
}

fn seen(request: &Request) -> Seen {
    let headers = request.headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.as_str().to_owned(), value)
    });
    Seen {
        method: request.method.to_string(),
        path: request.url.path().to_owned(),
        query: request.url.query_pairs().into_owned().collect(),
        headers: headers.collect(),
        body: String::from_utf8_lossy(&request.body).into_owned(),
        ..Seen::default()
    }
}

fn written(answer: &Answer) -> ResponseTemplate {
    let mut template = ResponseTemplate::new(answer.status);
    if !answer.kind.is_empty() {
        template = template.set_body_raw(answer.body.clone(), answer.kind);
    }
    if let Some(location) = &answer.location {
        template = template.insert_header("location", location.as_str());
    }
    template
}

/// The whole length is announced, and half of it comes.
fn half(answer: &Answer) -> ResponseTemplate {
    let bytes = answer.body.as_bytes();
    let (kept, _) = bytes
        .split_at_checked(bytes.len() / 2)
        .unwrap_or((bytes, &[]));
    ResponseTemplate::new(answer.status)
        .insert_header("content-length", bytes.len().to_string())
        .set_body_raw(kept, answer.kind)
}

fn replace(answer: &Answer, texts: &[(String, String)]) -> Answer {
    let mut changed = answer.clone();
    for (from, to) in texts {
        changed.body = changed.body.replace(from, to);
        changed.location = changed.location.map(|location| location.replace(from, to));
    }
    changed
}

/// Adds members textually after every `{`, so that amounts keep their digits.
fn insert(answer: &Answer, members: &[(String, String)]) -> Answer {
    let mut changed = answer.clone();
    if answer.kind == "application/json" {
        let missing = members
            .iter()
            .filter(|(name, _)| !answer.body.contains(&format!("\"{name}\":")));
        let added: String = missing
            .map(|(name, value)| format!("\"{name}\":{value},"))
            .collect();
        changed.body = answer
            .body
            .replace("{}", "{ }")
            .replace('{', &format!("{{{added}"))
            .replace(", }", "}");
    }
    changed
}
