//! Other implementations understand our messages, and we theirs: `joserfc` for Python and `jose`
//! for Node, each once as the client of our service and once as the service of our client. They run
//! where they are found (`CARDLESS_PYTHON`, else `python3`; `node`, with `jose` in the folder that
//! `CARDLESS_NODE_MODULES` names), over `CARDLESS_INTEROP_MESSAGES` requests and as many answers
//! each. With `CARDLESS_REQUIRE_INTEROP=1` a missing library is a failure.
//!
//! No judge is believed before it has refused what is known to be wrong.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cardless::exchange::replay::Window;
use cardless::exchange::{
    Answer, Call, Client, ClientParts, ExchangeError, PublicKey, SecretKey, Usage, request_hash,
    seal,
};
use cardless::gateway::Role;
use cardless_contract::{Clock as _, SystemEntropy};
use cardless_transport::{HttpClient, Request, Response, SendError};
use http::StatusCode;
use serde_json::{Value, json};

use crate::dice::Dice;
use crate::foreign::{Foreign, JOSE, JOSERFC, Library, message_count};
use crate::forge::{b64, unb64};
use crate::world::{ACCOUNT, Hands, SERVICE, World, unique};

/// How many messages are sent under the same keys.
const ROUND: usize = 50;

/// The client that speaks by the other library.
const OTHER: &str = "other-shop";

/// A text that makes a request nearly as long as the service reads (64 KiB), and one that makes an
/// answer nearly as long as a message may be (1 MiB).
const LONG_REQUEST: usize = 35_500;
const LONG_ANSWER: usize = 575_000;
const MAX_REQUEST_BYTES: usize = 64 * 1024;

#[tokio::test]
async fn joserfc_asks_and_our_service_answers() {
    ask_our_service(&JOSERFC).await;
}

#[tokio::test]
async fn jose_asks_and_our_service_answers() {
    ask_our_service(&JOSE).await;
}

#[tokio::test]
async fn our_client_asks_and_joserfc_answers() {
    ask_their_service(&JOSERFC).await;
}

#[tokio::test]
async fn our_client_asks_and_jose_answers() {
    ask_their_service(&JOSE).await;
}

async fn ask_our_service(library: &Library) {
    let Some(mut foreign) = Foreign::start(library) else {
        return;
    };
    judge_refuses_what_is_wrong(&mut foreign);
    let count = message_count();
    let mut world = theirs(&mut foreign, false).await;
    wrong_requests_are_refused(&mut foreign, &world).await;
    for n in 0..count {
        if n % ROUND == 0 {
            // Every other round one key does both.
            world = theirs(&mut foreign, n / ROUND % 2 == 1).await;
            at_the_door(&mut foreign, &world).await;
        }
        let sample = Sample::number(n);
        let claims = world.claims(&sample);
        let (message, hash) = foreign.seal(&world.task(claims));
        assert!(message.len() <= MAX_REQUEST_BYTES, "{}", message.len());
        let gateway = &world.service.gateway;
        let taken = gateway.open_exchange(message.as_bytes()).await.unwrap();
        assert_eq!((taken.client.as_str(), taken.role), (OTHER, Role::Billing));
        let request = &taken.request;
        assert_eq!(request.op, sample.op);
        assert_eq!(request.account, sample.account);
        assert_eq!(request.idempotency_key, sample.idempotency_key);
        assert_eq!(request.body, sample.request);

        let answer = gateway.seal_answer(&taken, sample.status, sample.answer.clone());
        let opened = foreign.open(&answer.await.unwrap(), &world.expected());
        let claims = &opened.unwrap()["claims"];
        assert_eq!(claims["status"], sample.status);
        assert_eq!(claims.get("res"), sample.answer.as_ref());
        assert_eq!(claims["req_hash"], *hash);
    }
    println!("{}: {count} requests, {count} answers", library.name);
}

async fn ask_their_service(library: &Library) {
    let Some(mut foreign) = Foreign::start(library) else {
        return;
    };
    judge_refuses_what_is_wrong(&mut foreign);
    let count = message_count();
    let service = Arc::new(TheirService::new(foreign));
    wrong_answers_are_refused(&service).await;
    let mut client = service.client("shop", false);
    for n in 0..count {
        if n % ROUND == 0 {
            client = service.client(&format!("shop-{n}"), n / ROUND % 2 == 1);
        }
        let sample = Sample::number(n);
        service.answer_next(&sample, same);
        let call = Call {
            op: &sample.op,
            account: sample.account.as_deref(),
            idempotency_key: sample.idempotency_key.as_deref(),
        };
        let answer = client.call::<Value, Value>(&call, sample.request.as_ref());
        let answer = answer.await.unwrap();
        assert_eq!(answer.body, sample.answer.unwrap_or_default());
        assert_eq!(answer.open, sample.status == 202);
        let claims = service.seen();
        assert_eq!(claims["op"], *sample.op);
        assert_eq!(claims.get("acct"), text(sample.account).as_ref());
        let key = text(sample.idempotency_key);
        assert_eq!(claims.get("idempotency_key"), key.as_ref());
        assert_eq!(claims.get("req"), sample.request.as_ref());
    }
    println!("{}: {count} requests, {count} answers", library.name);
}

/// The other side opens ours, and then nothing that is wrong in one thing.
fn judge_refuses_what_is_wrong(foreign: &mut Foreign) {
    let keys = foreign.pairs(false);
    let to = key_with(&keys, Usage::Seal);
    let [ours, stranger] = [Usage::Sign; 2].map(|usage| {
        let key = SecretKey::generate(usage, &SystemEntropy);
        key.unwrap()
    });
    let now = Hands::morning().now();
    let good = Answer {
        service: SERVICE.to_owned(),
        client: OTHER.to_owned(),
        window: Window::from(now),
        jti: unique(),
        status: 200,
        body: None,
        request_hash: request_hash("request"),
    };
    let expected = json!({"from": [ours.public().to_jwk()], "iss": SERVICE, "aud": OTHER,
        "now": now.seconds()});
    let sealed = |claims: &Answer, signer: &SecretKey| {
        seal(&claims.to_bytes(), signer, &to, &SystemEntropy).unwrap()
    };
    let message = sealed(&good, &ours);
    assert!(foreign.open(&message, &expected).is_ok());

    let changed = |change: fn(&mut Answer)| {
        let mut claims = good.clone();
        change(&mut claims);
        sealed(&claims, &ours)
    };
    let mut wrong = vec![
        changed(|claims| claims.service = "https://evil.example".to_owned()),
        changed(|claims| claims.client = "somebody-else".to_owned()),
        changed(|claims| claims.window.expires_at -= 180),
        sealed(&good, &stranger),
        seal(
            &good.to_bytes(),
            &ours,
            stranger_to().public(),
            &SystemEntropy,
        )
        .unwrap(),
    ];
    wrong.extend((0..5).map(|part| tampered(&message, part)));
    for (n, message) in wrong.iter().enumerate() {
        assert!(foreign.open(message, &expected).is_err(), "{n}");
    }
}

/// What a request is made of, as the other side is told to make it.
type Wrong = (&'static str, fn(&mut Value));

const WRONG_REQUESTS: &[Wrong] = &[
    ("service", |t| {
        t["claims"]["aud"] = "https://evil.example".into()
    }),
    ("client", |t| t["claims"]["iss"] = "shop".into()),
    ("stale", |t| shift(t, -120)),
    ("from_the_future", |t| shift(t, 61)),
    ("lives_too_long", |t| {
        t["claims"]["exp"] = (t["claims"]["exp"].as_i64().unwrap() + 1).into()
    }),
    ("unknown_claim", |t| t["claims"]["nbf"] = 1.into()),
    ("no_jti", |t| remove(t, "claims", "jti")),
    ("no_op", |t| remove(t, "claims", "op")),
    ("time_as_text", |t| {
        t["claims"]["iat"] = t["claims"]["iat"].to_string().into()
    }),
    ("a128gcm", |t| t["outer"]["enc"] = "A128GCM".into()),
    ("a256cbc_hs512", |t| {
        t["outer"]["enc"] = "A256CBC-HS512".into()
    }),
    ("key_wrap", |t| t["outer"]["alg"] = "ECDH-ES+A256KW".into()),
    ("no_cty", |t| remove(t, "outer", "cty")),
    ("outer_kid", |t| {
        t["outer"]["kid"] = "enc_pppppppppppppppppppp".into()
    }),
    ("outer_typ", |t| t["outer"]["typ"] = "JOSE".into()),
    ("inner_kid", |t| t["inner"]["kid"] = "nobody".into()),
    ("no_inner_kid", |t| remove(t, "inner", "kid")),
    ("inner_typ", |t| t["inner"]["typ"] = "at+jwt".into()),
    ("another_signer", |t| t["signer"] = "stranger".into()),
    ("another_recipient", |t| {
        t["to"] = stranger_to().public().to_jwk()
    }),
];

async fn wrong_requests_are_refused(foreign: &mut Foreign, world: &Theirs) {
    let claims = world.claims(&Sample::number(1));
    let good = world.task(claims);
    let gateway = &world.service.gateway;
    let mut wrong: Vec<(&str, String)> = Vec::new();
    for (name, change) in WRONG_REQUESTS {
        let mut task = good.clone();
        change(&mut task);
        wrong.push((name, foreign.seal(&task).0));
    }
    let (message, _) = foreign.seal(&good);
    wrong.extend((0..5).map(|part| ("tampered", tampered(&message, part))));
    for (name, message) in wrong {
        let refused = gateway.open_exchange(message.as_bytes()).await;
        let code = refused.map(|_| ()).unwrap_err().code();
        assert_eq!(code, cardless::error::Code::ExchangeRefused, "{name}");
    }
    // All of them had the same `jti`, which is free until a good message has it; then it is not.
    gateway.open_exchange(message.as_bytes()).await.unwrap();
    let (again, _) = foreign.seal(&good);
    assert!(gateway.open_exchange(again.as_bytes()).await.is_err());
}

const WRONG_ANSWERS: &[Wrong] = &[
    ("service", |t| {
        t["claims"]["iss"] = "https://evil.example".into()
    }),
    ("client", |t| t["claims"]["aud"] = "somebody-else".into()),
    ("stale", |t| shift(t, -120)),
    ("lives_too_long", |t| {
        t["claims"]["exp"] = (t["claims"]["exp"].as_i64().unwrap() + 1).into()
    }),
    ("another_request", |t| {
        t["claims"]["req_hash"] = request_hash("another").into()
    }),
    ("no_req_hash", |t| remove(t, "claims", "req_hash")),
    ("no_status", |t| remove(t, "claims", "status")),
    ("a128gcm", |t| t["outer"]["enc"] = "A128GCM".into()),
    ("key_wrap", |t| t["outer"]["alg"] = "ECDH-ES+A256KW".into()),
    ("no_cty", |t| remove(t, "outer", "cty")),
    ("inner_kid", |t| t["inner"]["kid"] = "nobody".into()),
    ("another_signer", |t| t["signer"] = "stranger".into()),
    ("another_recipient", |t| {
        t["to"] = stranger_to().public().to_jwk()
    }),
    ("tampered", |t| t["tampered"] = true.into()),
];

async fn wrong_answers_are_refused(service: &Arc<TheirService>) {
    let client = service.client("shop", false);
    let sample = Sample::number(1);
    let call = Call {
        op: &sample.op,
        account: None,
        idempotency_key: None,
    };
    for (name, change) in WRONG_ANSWERS {
        service.answer_next(&sample, *change);
        let result = client.call::<Value, Value>(&call, None).await;
        assert!(
            matches!(result, Err(ExchangeError::Refused)),
            "{name}: {result:?}"
        );
    }
    service.answer_next(&sample, same);
    client.call::<Value, Value>(&call, None).await.unwrap();
}

/// One request through the router, as a client sends it, up to the answer.
async fn at_the_door(foreign: &mut Foreign, world: &Theirs) {
    let mut sample = Sample::number(0);
    sample.op = format!("GET /v1/payments?account={ACCOUNT}");
    sample.account = Some(ACCOUNT.to_owned());
    sample.request = None;
    let (message, hash) = foreign.seal(&world.task(world.claims(&sample)));
    let (status, kind, answer) = world.service.post(message).await;
    assert_eq!(
        (status, kind.as_str()),
        (StatusCode::OK, "application/jose")
    );
    let opened = foreign.open(&answer, &world.expected()).unwrap();
    let claims = &opened["claims"];
    assert_eq!(claims["status"], 200);
    assert_eq!(claims["res"]["data"], json!([]));
    assert_eq!(claims["req_hash"], *hash);
}

/// Our service, with new keys, and the other library as a client of it with new keys too.
struct Theirs {
    service: World,
    service_keys: Vec<Value>,
    keys: Vec<PublicKey>,
}

async fn theirs(foreign: &mut Foreign, one_key: bool) -> Theirs {
    let service = World::new().await;
    let keys = foreign.pairs(one_key);
    let set = set_of(&keys).to_string();
    let added = service
        .gateway
        .add_sealed_client(OTHER, Role::Billing, &set);
    added.await.unwrap();
    let published = service.gateway.exchange_keys().await.unwrap();
    Theirs {
        service,
        service_keys: published["keys"].as_array().unwrap().clone(),
        keys,
    }
}

impl Theirs {
    fn claims(&self, sample: &Sample) -> Value {
        let now = self.service.clock.seconds();
        let mut claims = json!({"iss": OTHER, "aud": SERVICE, "iat": now, "exp": now + 120,
            "jti": unique(), "op": sample.op});
        for (name, value) in [
            ("acct", text(sample.account.clone())),
            ("idempotency_key", text(sample.idempotency_key.clone())),
            ("req", sample.request.clone()),
        ] {
            if let Some(value) = value {
                claims[name] = value;
            }
        }
        claims
    }

    fn task(&self, claims: Value) -> Value {
        let to = self.service_keys.iter().find(|key| key["use"] == "enc");
        task(claims, key_with(&self.keys, Usage::Sign).kid(), to.unwrap())
    }

    /// What the other side expects of our answer.
    fn expected(&self) -> Value {
        json!({"from": self.service_keys, "iss": SERVICE, "aud": OTHER,
            "now": self.service.clock.seconds()})
    }
}

/// A service by the other library, as our client reaches it.
#[derive(Debug)]
struct TheirService(Mutex<State>);

#[derive(Debug)]
struct State {
    foreign: Foreign,
    clock: Hands,
    /// The service's own keys, in public.
    keys: Vec<PublicKey>,
    /// The client's name and its keys, in public.
    client: (String, Vec<PublicKey>),
    next: Option<Next>,
    /// What the last request said.
    seen: Value,
}

/// What the next answer says, and what becomes of it before it is sealed.
#[derive(Debug)]
struct Next {
    status: u16,
    body: Option<Value>,
    change: fn(&mut Value),
}

impl TheirService {
    fn new(foreign: Foreign) -> Self {
        Self(Mutex::new(State {
            foreign,
            clock: Hands::morning(),
            keys: Vec::new(),
            client: (String::new(), Vec::new()),
            next: None,
            seen: Value::Null,
        }))
    }

    /// The service gets new keys, and a client with new keys, which is ours.
    fn client(self: &Arc<Self>, name: &str, one_key: bool) -> Client {
        let uses: &[Usage] = match one_key {
            true => &[Usage::Both],
            false => &[Usage::Sign, Usage::Seal],
        };
        let keys = uses
            .iter()
            .map(|&usage| SecretKey::generate(usage, &SystemEntropy));
        let keys: Vec<SecretKey> = keys.map(Result::unwrap).collect();
        let mut state = self.0.lock().unwrap();
        state.keys = state.foreign.pairs(false);
        let public = keys.iter().map(|key| key.public().clone()).collect();
        state.client = (name.to_owned(), public);
        let parts = ClientParts {
            name: name.to_owned(),
            base_url: SERVICE.to_owned(),
            service: SERVICE.to_owned(),
            keys,
            http: Arc::new(Door(Arc::clone(self))),
            clock: Arc::new(state.clock.clone()),
            entropy: Arc::new(SystemEntropy),
        };
        Client::new(parts).unwrap()
    }

    fn answer_next(&self, sample: &Sample, change: fn(&mut Value)) {
        self.0.lock().unwrap().next = Some(Next {
            status: sample.status,
            body: sample.answer.clone(),
            change,
        });
    }

    fn seen(&self) -> Value {
        self.0.lock().unwrap().seen.take()
    }
}

impl State {
    fn serve(&mut self, request: &Request) -> String {
        if request.uri().path() == "/.well-known/jwks.json" {
            return set_of(&self.keys).to_string();
        }
        let message = std::str::from_utf8(request.body()).unwrap();
        let (name, keys) = &self.client;
        let now = self.clock.seconds();
        let from: Vec<Value> = keys.iter().map(PublicKey::to_jwk).collect();
        let expected = json!({"from": from, "iss": name, "aud": SERVICE, "now": now});
        let mut opened = self.foreign.open(message, &expected).unwrap();
        self.seen = opened["claims"].take();
        let Next {
            status,
            body,
            change,
        } = self.next.take().unwrap();
        let mut claims = json!({"iss": SERVICE, "aud": name, "iat": now, "exp": now + 120,
            "jti": unique(), "status": status, "req_hash": opened["hash"]});
        if let Some(body) = body {
            claims["res"] = body;
        }
        let to = key_with(keys, Usage::Seal);
        let signer = key_with(&self.keys, Usage::Sign);
        let mut task = task(claims, signer.kid(), &to.to_jwk());
        change(&mut task);
        let (answer, _) = self.foreign.seal(&task);
        match task.get("tampered") {
            Some(_) => tampered(&answer, 3),
            None => answer,
        }
    }
}

/// The way to the other library's service.
#[derive(Debug)]
struct Door(Arc<TheirService>);

#[async_trait::async_trait]
impl HttpClient for Door {
    async fn send(&self, request: Request) -> Result<Response, SendError> {
        let answer = self.0.0.lock().unwrap().serve(&request);
        Ok(http::Response::new(Bytes::from(answer)))
    }
}

/// A request and its answer, different for every number and the same in every run.
struct Sample {
    op: String,
    account: Option<String>,
    idempotency_key: Option<String>,
    request: Option<Value>,
    status: u16,
    answer: Option<Value>,
}

impl Sample {
    fn number(n: usize) -> Self {
        let mut dice = Dice::new(n);
        let mut sample = Self {
            op: format!("POST /v1/{}", dice.text(30)),
            account: dice.unless_one_in(4).then(|| dice.text(60)),
            idempotency_key: dice.unless_one_in(2).then(|| dice.text(40)),
            request: dice.unless_one_in(8).then(|| dice.value(4)),
            status: [200, 201, 202][n % 3],
            answer: dice.unless_one_in(8).then(|| dice.value(4)),
        };
        match n % 100 {
            // Nothing that can be left out is there.
            0 => (sample.account, sample.idempotency_key, sample.request) = (None, None, None),
            1 => (sample.request, sample.answer) = (Some(json!({})), Some(json!(""))),
            2 => {
                sample.op = "POST /v1/payments".to_owned();
                sample.account = None;
                sample.request = Some(json!({"text": "x".repeat(LONG_REQUEST)}));
            }
            3 => sample.answer = Some(json!({"text": "y".repeat(LONG_ANSWER)})),
            _ => {}
        }
        sample
    }
}

/// How the other side is told to make a message; unchanged it is a good one.
fn task(claims: Value, signer: &str, to: &Value) -> Value {
    json!({
        "claims": claims, "to": to,
        "inner": {"alg": "ES256", "kid": signer, "typ": "JWT"},
        "outer": {"alg": "ECDH-ES", "enc": "A256GCM", "kid": to["kid"], "typ": "JWT", "cty": "JWT"},
    })
}

fn same(_: &mut Value) {}

fn shift(task: &mut Value, seconds: i64) {
    for claim in ["iat", "exp"] {
        let value = &mut task["claims"][claim];
        *value = (value.as_i64().unwrap() + seconds).into();
    }
}

fn remove(task: &mut Value, of: &str, member: &str) {
    task[of].as_object_mut().unwrap().remove(member).unwrap();
}

/// The message with one bit changed in one of its parts; the part that is empty gets a byte.
fn tampered(message: &str, part: usize) -> String {
    let mut parts: Vec<String> = message.split('.').map(str::to_owned).collect();
    let mut bytes = unb64(&parts[part]);
    match bytes.last_mut() {
        Some(byte) => *byte ^= 1,
        None => bytes.push(0),
    }
    parts[part] = b64(bytes);
    parts.join(".")
}

/// A pair that nobody else holds.
fn stranger_to() -> SecretKey {
    SecretKey::generate(Usage::Seal, &SystemEntropy).unwrap()
}

fn key_with(keys: &[PublicKey], usage: Usage) -> PublicKey {
    let fits = |key: &&PublicKey| key.usage() == usage || key.usage() == Usage::Both;
    keys.iter().find(fits).unwrap().clone()
}

fn set_of(keys: &[PublicKey]) -> Value {
    let keys: Vec<Value> = keys.iter().map(PublicKey::to_jwk).collect();
    json!({ "keys": keys })
}

fn text(text: Option<String>) -> Option<Value> {
    text.map(Value::String)
}
