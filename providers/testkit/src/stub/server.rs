use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{Answer, Dialect, Seen};
use crate::call::Call;

/// A stub at work: answers by its dialect, and misbehaves on the request that carries the call
/// out. It speaks HTTP/1.1 by hand, because half of what it does no HTTP library lets one do.
#[derive(Debug)]
pub struct Stub {
    state: Arc<State>,
    task: JoinHandle<()>,
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

/// The largest request that a stub reads, in bytes.
const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// An address on loopback where nobody listens.
pub async fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

impl Stub {
    /// Starts a stub for one call.
    pub async fn start(dialect: Arc<dyn Dialect>, call: Call, misbehavior: Misbehavior) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let log = Mutex::default();
        let state = Arc::new(State {
            dialect,
            call,
            misbehavior,
            base,
            log,
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { state, task }
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

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
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

    /// Notes a request and decides what becomes of it. `None` is a broken connection.
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

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(converse(stream, Arc::clone(&state)));
    }
}

async fn converse(mut stream: TcpStream, state: Arc<State>) {
    let Some(seen) = read_request(&mut stream).await else {
        return;
    };
    let (answer, half) = match state.decide(seen) {
        Fate::Whole(answer) => (answer, false),
        Fate::Half(answer) => (answer, true),
        Fate::Close => return,
        Fate::Stall => return std::future::pending().await,
    };
    let bytes = written(&answer, half);
    if stream.write_all(&bytes).await.is_ok() {
        drop(stream.shutdown().await);
    }
}

/// Reads one request with a body of announced length.
async fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if bytes.len() > MAX_REQUEST_BYTES || stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let (head, rest) = bytes.split_at_checked(head_end + 4)?;
    let mut seen = parse_head(std::str::from_utf8(head).ok()?)?;
    let length = seen
        .header("content-length")
        .map_or(Some(0), |text| text.parse().ok())?;
    let mut body = rest.to_vec();
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    seen.body = String::from_utf8(body).ok()?;
    Some(seen)
}

fn parse_head(head: &str) -> Option<Seen> {
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_lowercase(), value.trim().to_owned()))
    });
    Some(Seen {
        method: method.to_owned(),
        path: path.to_owned(),
        query: url::form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect(),
        headers: headers.collect(),
        ..Seen::default()
    })
}

fn written(answer: &Answer, half: bool) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", answer.status);
    if answer.status != 204 {
        // Half of an empty body still breaks off: one byte is announced and none comes.
        let length = if half {
            answer.body.len().max(1)
        } else {
            answer.body.len()
        };
        head.push_str(&format!("Content-Length: {length}\r\n"));
    } else if half {
        return b"HTTP/1.1 20".to_vec();
    }
    if !answer.kind.is_empty() {
        head.push_str(&format!("Content-Type: {}\r\n", answer.kind));
    }
    if let Some(location) = &answer.location {
        head.push_str(&format!("Location: {location}\r\n"));
    }
    let mut bytes = format!("{head}\r\n").into_bytes();
    let kept = if half {
        answer.body.len() / 2
    } else {
        answer.body.len()
    };
    bytes.extend(answer.body.bytes().take(kept));
    bytes
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
