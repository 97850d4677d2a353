//! The service beside the three providers, all behind sockets, as a billing service meets them.

use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use cardless_sandbox::Deliver;
use http::{HeaderMap, Method, Uri};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::LocalSet;

use crate::support::CARD;
use crate::world::{ACCOUNT, ALL, World, charge, json_of};

/// How long something that happens at once may take, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(20);

fn franc(minor: i64) -> Value {
    json!({ "account": ACCOUNT, "amount": { "currency": "CHF", "minor": minor } })
}

#[tokio::test]
async fn a_full_round_at_each_provider_is_what_the_ledger_says() {
    for provider in ALL {
        let world = World::new().await;
        let method = world.link(provider).await;

        let (status, paid) = world.pay(4990, "automatic").await;
        assert_eq!(
            (status, &paid["status"]),
            (201, &json!("captured")),
            "{paid}"
        );
        let refunds = format!("/v1/payments/{}/refunds", paid["id"].as_str().unwrap());
        let (status, refund) = world.post(&refunds, &franc(500)).await;
        assert_eq!(
            (status, &refund["status"]),
            (201, &json!("succeeded")),
            "{refund}"
        );
        let (status, refund) = world.post(&refunds, &json!({ "account": ACCOUNT })).await;
        assert_eq!(
            (status, &refund["amount"]["minor"]),
            (201, &json!(4490)),
            "{refund}"
        );

        let (status, held) = world.pay(3000, "manual").await;
        assert_eq!(
            (status, &held["status"]),
            (201, &json!("authorized")),
            "{held}"
        );
        let captures = format!("/v1/payments/{}/captures", held["id"].as_str().unwrap());
        let (status, captured) = world.post(&captures, &franc(2000)).await;
        assert_eq!(
            (status, &captured["status"], &captured["captured"]["minor"]),
            (200, &json!("captured"), &json!(2000)),
            "{captured}"
        );

        let (_, held) = world.pay(1200, "manual").await;
        let void = format!("/v1/payments/{}/void", held["id"].as_str().unwrap());
        let (status, voided) = world.post(&void, &json!({ "account": ACCOUNT })).await;
        assert_eq!(
            (status, &voided["status"]),
            (200, &json!("voided")),
            "{voided}"
        );

        let revoke = format!("/v1/payment-methods/{method}?account={ACCOUNT}");
        let answer = world.call(Method::DELETE, &revoke, "-", "").await;
        assert_eq!(answer.status(), 204, "{provider}");
        assert_eq!(world.pay(100, "automatic").await.0, 404, "{provider}");
        assert_eq!(world.ledger().await, wanted(provider), "{provider}");
    }
}

/// What the round moves. Aduno holds an amount before it takes it.
fn wanted(provider: &str) -> Vec<(String, i64)> {
    let hold = [("authorize", 4990)];
    let first: &[(&str, i64)] = if provider == "aduno" { &hold } else { &[] };
    let rest = [
        ("capture", 4990),
        ("refund", 500),
        ("refund", 4490),
        ("authorize", 3000),
        ("capture", 2000),
        ("authorize", 1200),
        ("void", 1200),
    ];
    let owned = |(kind, minor): &(&str, i64)| ((*kind).to_owned(), *minor);
    first.iter().chain(&rest).map(owned).collect()
}

#[tokio::test]
async fn what_is_refused_is_neither_stored_nor_sent() {
    let world = World::new().await;
    world.link("paypal").await;
    let sent = world.sandbox.requests(None).len();
    for (pointer, value, field, code) in [
        ("/amount/minor", json!(0), "amount.minor", "invalid_amount"),
        ("/amount/minor", json!(-5), "amount.minor", "invalid_amount"),
        (
            "/amount/minor",
            json!(i64::MAX),
            "amount.minor",
            "invalid_amount",
        ),
        ("/amount/minor", json!(1.5), "amount.minor", "invalid_field"),
        ("/amount/minor", json!("5"), "amount.minor", "invalid_field"),
        (
            "/amount",
            json!({ "currency": "CHF", "minor": 5, "major": 0 }),
            "amount.major",
            "invalid_field",
        ),
        (
            "/amount",
            json!({ "currency": "HUF", "minor": 101 }),
            "amount.minor",
            "invalid_amount",
        ),
        (
            "/amount",
            json!({ "currency": "TWD", "minor": 101 }),
            "amount.minor",
            "invalid_amount",
        ),
        (
            "/amount/currency",
            json!("XTS"),
            "amount.currency",
            "unsupported_currency",
        ),
        (
            "/amount/currency",
            json!("chf"),
            "amount.currency",
            "unsupported_currency",
        ),
        (
            "/amount/currency",
            json!("BHD"),
            "amount.currency",
            "unsupported_currency",
        ),
        ("/reference", json!(CARD), "reference", "card_number"),
        ("/reference", json!(""), "reference", "invalid_field"),
        ("/reference", json!("a\nb"), "reference", "invalid_field"),
        ("/description", json!(CARD), "description", "card_number"),
        (
            "/description",
            json!("4242 4242-4242.4242"),
            "description",
            "card_number",
        ),
        (
            "/description",
            json!("x".repeat(5000)),
            "description",
            "invalid_field",
        ),
        ("/account", json!("a b"), "account", "invalid_field"),
        (
            "/initiator",
            json!("customer"),
            "return_url",
            "invalid_field",
        ),
        ("/capture", json!("later"), "capture", "invalid_field"),
        ("/note", json!("a"), "note", "invalid_field"),
        ("/note", json!(CARD), "note", "card_number"),
    ] {
        let mut body = charge(100, "automatic", "inv-1");
        put(&mut body, pointer, value);
        let (status, problem) = world.post("/v1/payments", &body).await;
        let found = (status, problem["code"].as_str(), problem["field"].as_str());
        assert_eq!(found, (422, Some(code), Some(field)), "{body}: {problem}");
        assert!(!problem.to_string().contains("4242"), "{problem}");
    }
    let large = world.call(Method::POST, "/v1/payments", "k", vec![b' '; 1 << 20]);
    assert_eq!(large.await.status(), 413);
    let carded = world.call(Method::POST, "/v1/payments", CARD, "{}").await;
    assert_eq!(json_of(&carded)["code"], "card_number");

    let payments = world.get(&format!("/v1/payments?account={ACCOUNT}")).await;
    assert_eq!(payments["data"], json!([]));
    assert_eq!(world.sandbox.requests(None).len(), sent);
    // Nothing was kept of a key either: the first good request may use it.
    let good = charge(100, "automatic", "inv-1").to_string();
    let answer = world
        .call(Method::POST, "/v1/payments", "key-2", good)
        .await;
    assert_eq!(answer.status(), 201, "{:?}", answer.body());
}

fn put(body: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    body.pointer_mut(parent).unwrap()[name] = value;
}

#[tokio::test]
async fn more_than_is_left_and_the_wrong_state_are_refused() {
    for provider in ALL {
        let world = World::new().await;
        world.link(provider).await;
        let (_, paid) = world.pay(4990, "automatic").await;
        let (_, held) = world.pay(3000, "manual").await;
        let paid = format!("/v1/payments/{}", paid["id"].as_str().unwrap());
        let held = format!("/v1/payments/{}", held["id"].as_str().unwrap());
        let mut euros = franc(1);
        put(&mut euros, "/amount/currency", json!("EUR"));
        let mut foreign = franc(1);
        put(&mut foreign, "/account", json!("acct-8"));
        for (path, body, status, code) in [
            (&paid, franc(4991), 422, "amount_exceeds_remaining"),
            (&held, franc(1), 409, "invalid_state"),
            (&paid, euros, 422, "unsupported_currency"),
            (&paid, franc(0), 422, "invalid_amount"),
            (&paid, foreign, 404, "not_found"),
        ] {
            let (found, problem) = world.post(&format!("{path}/refunds"), &body).await;
            assert_eq!(
                (found, &problem["code"]),
                (status, &json!(code)),
                "{problem}"
            );
        }
        for (path, body, status, code) in [
            (
                format!("{held}/captures"),
                franc(3001),
                422,
                "amount_exceeds_remaining",
            ),
            (format!("{paid}/captures"), franc(1), 409, "invalid_state"),
            (
                format!("{paid}/void"),
                json!({ "account": ACCOUNT }),
                409,
                "invalid_state",
            ),
            (
                format!("{held}/void"),
                json!({ "account": "acct-8" }),
                404,
                "not_found",
            ),
        ] {
            let (found, problem) = world.post(&path, &body).await;
            assert_eq!(
                (found, &problem["code"]),
                (status, &json!(code)),
                "{problem}"
            );
        }
        let moved = world.ledger().await;
        assert!(
            moved
                .iter()
                .all(|(kind, _)| kind == "capture" || kind == "authorize"),
            "{provider}: {moved:?}"
        );
    }
}

#[tokio::test]
async fn a_repeat_is_equal_to_the_byte_whatever_follows() {
    for provider in ALL {
        let world = World::new().await;
        world.link(provider).await;
        let body = charge(4990, "automatic", "inv-1").to_string();
        let pay = || world.call(Method::POST, "/v1/payments", "pay", body.clone());
        let first = pay().await;
        let id = json_of(&first)["id"].as_str().unwrap().to_owned();
        let refunds = format!("/v1/payments/{id}/refunds");
        let refund = || world.call(Method::POST, &refunds, "refund", franc(500).to_string());
        let given_back = refund().await;
        assert_eq!(world.post(&refunds, &franc(1000)).await.0, 201);
        for (repeat, answer) in [(pay().await, &first), (refund().await, &given_back)] {
            assert_eq!(answer.status(), 201, "{provider}");
            assert_eq!(repeat.status(), 201, "{provider}");
            assert_eq!(repeat.body(), answer.body(), "{provider}");
        }
        let now = world.get(&format!("/v1/payments/{id}")).await;
        assert_eq!(now["refunded"]["minor"], 1500);

        let other = charge(4991, "automatic", "inv-1").to_string();
        let answer = world.call(Method::POST, "/v1/payments", "pay", other).await;
        assert_eq!(answer.status(), 422, "{provider}");
        assert_eq!(json_of(&answer)["code"], "idempotency_mismatch");
        let answer = world.call(Method::POST, &refunds, "pay", franc(500).to_string());
        assert_eq!(json_of(&answer.await)["code"], "idempotency_mismatch");
        let moved = world.ledger().await;
        let movements = moved.iter().filter(|(kind, _)| kind != "authorize");
        assert_eq!(movements.count(), 3, "{provider}: {moved:?}");
    }
}

/// Takes the webhooks in the service's place, so that a test can bring them when it likes.
#[derive(Debug, Clone, Default)]
struct PostOffice(Arc<Mutex<Vec<Delivery>>>);

/// A webhook as the provider sent it.
#[derive(Debug, Clone)]
struct Delivery {
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl PostOffice {
    /// Opens on a free port, and gives its address too.
    async fn open() -> (Self, String) {
        async fn take(State(office): State<PostOffice>, uri: Uri, headers: HeaderMap, body: Bytes) {
            let path = uri.path().to_owned();
            office.0.lock().unwrap().push(Delivery {
                path,
                headers,
                body,
            });
        }
        let office = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(take).with_state(office.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (office, address)
    }

    /// The first webhook that comes.
    async fn first(&self) -> Delivery {
        let come = async {
            loop {
                if let Some(delivery) = self.0.lock().unwrap().first() {
                    return delivery.clone();
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, come).await.unwrap()
    }
}

impl Delivery {
    async fn bring(&self, world: &World) -> u16 {
        let url = format!("{}{}", world.base, self.path);
        let mut headers = self.headers.clone();
        headers.remove("host");
        headers.remove("content-length");
        let answer = world.send(Method::POST, &url, headers, self.body.clone());
        answer.await.status().as_u16()
    }

    /// Every way of forging it that is tried: other bytes, another signature, none.
    fn forged(&self) -> Vec<Self> {
        let mut forged = Vec::new();
        let mut other = self.clone();
        other.body = [&self.body[..], b" "].concat().into();
        forged.push(other);
        let signature = self
            .headers
            .iter()
            .find(|(name, _)| {
                name.as_str().ends_with("signature") || *name == "paypal-transmission-sig"
            })
            .map(|(name, _)| name.clone())
            .unwrap();
        let mut other = self.clone();
        let text = self.headers[&signature].to_str().unwrap();
        let (kept, last) = text.split_at(text.len() - 8);
        let turned: String = last.chars().rev().collect();
        let turned = if turned == last {
            "AAAAAAAA".to_owned()
        } else {
            turned
        };
        other
            .headers
            .insert(&signature, format!("{kept}{turned}").parse().unwrap());
        forged.push(other);
        let mut other = self.clone();
        other.headers.remove(&signature);
        forged.push(other);
        forged
    }
}

/// An outcome that the service does not know, and the webhook about it.
struct Withheld {
    world: World,
    /// Where it is read.
    path: String,
    /// Its status before and after.
    open: &'static str,
    concluded: &'static str,
    delivery: Delivery,
}

impl Withheld {
    /// At Aduno a customer who approves and never comes back, since Aduno sends webhooks about
    /// visits only; elsewhere a charge whose reply is lost.
    async fn at(provider: &str) -> Self {
        let (office, address) = PostOffice::open().await;
        let world = World::with_public_url(Some(&address)).await;
        let (path, open, concluded) = if provider == "aduno" {
            world.deliver(&address, Deliver::Now);
            let setup = world.begin(provider).await;
            world
                .decide(setup["redirect_url"].as_str().unwrap(), "approve")
                .await;
            let path = format!("/v1/setups/{}", setup["id"].as_str().unwrap());
            (path, "awaiting_customer", "completed")
        } else {
            world.link(provider).await;
            world.deliver(&address, Deliver::Now);
            world.inject(provider, commit_of(provider), "execute_then_drop");
            let (status, payment) = world.pay(4990, "automatic").await;
            assert_eq!(status, 202, "{provider}: {payment}");
            let path = format!("/v1/payments/{}", payment["id"].as_str().unwrap());
            (path, "unknown", "captured")
        };
        assert_eq!(world.get(&path).await["status"], open, "{provider}");
        Self {
            delivery: office.first().await,
            world,
            path,
            open,
            concluded,
        }
    }
}

/// The call that takes the money.
fn commit_of(provider: &str) -> &'static str {
    match provider {
        "paypal" => "POST /v2/checkout/orders/*/capture",
        "postfinance" => "POST /api/v2.0/payment/transactions/*/process-with-token",
        _ => "POST /v1/transactions/*/settle",
    }
}

/// The clock stands still, so nothing falls due by itself: only the webhook makes the resolver ask.
#[tokio::test]
async fn a_webhook_concludes_an_outcome_that_was_withheld() {
    for provider in ALL {
        let case = Withheld::at(provider).await;
        let world = &case.world;
        let gateway = world.gateway.clone();
        let resolver = tokio::spawn(async move { gateway.run(std::future::pending()).await });
        for _ in 0..2 {
            assert_eq!(case.delivery.bring(world).await, 200, "{provider}");
        }
        let concluded = async {
            while world.get(&case.path).await["status"] != case.concluded {
                tokio::task::yield_now().await;
            }
        };
        let within = tokio::time::timeout(PATIENCE, concluded).await;
        within.unwrap_or_else(|_| panic!("{provider}: not concluded"));
        resolver.abort();
        let moved = world.ledger().await;
        let captures = moved.iter().filter(|(kind, _)| kind == "capture").count();
        assert_eq!(
            captures,
            usize::from(provider != "aduno"),
            "{provider}: {moved:?}"
        );
    }
}

#[tokio::test]
async fn a_forged_webhook_is_refused_and_asks_for_nothing() {
    for provider in ALL {
        let case = Withheld::at(provider).await;
        let world = &case.world;
        let asked = world.sandbox.requests(None).len();
        for forged in case.delivery.forged() {
            assert_eq!(forged.bring(world).await, 401, "{provider}: {forged:?}");
        }
        assert_eq!(
            world.get(&case.path).await["status"],
            case.open,
            "{provider}"
        );
        // The signer's key or certificate may have been fetched, but no object.
        let now = world.sandbox.requests(None);
        let objects = now[asked..].iter().filter(|request| {
            request.path.contains("/transactions") || request.path.contains("/orders")
        });
        assert_eq!(objects.count(), 0, "{provider}");
    }
}

#[tokio::test]
async fn what_is_open_holds_its_reference() {
    for provider in ALL {
        let world = World::new().await;
        world.link(provider).await;
        world.inject(provider, commit_of(provider), "execute_then_drop");
        let body = charge(4990, "automatic", "inv-1");
        let answer = world
            .call(Method::POST, "/v1/payments", "pay", body.to_string())
            .await;
        assert_eq!(answer.status(), 202, "{provider}");
        let (status, problem) = world.post("/v1/payments", &body).await;
        let found = (status, &problem["code"]);
        assert_eq!(found, (409, &json!("outcome_unknown")), "{provider}");

        world.gateway.reconcile().await.unwrap();
        let repeat = world
            .call(Method::POST, "/v1/payments", "pay", body.to_string())
            .await;
        assert_eq!(repeat.status(), 201, "{provider}");
        assert_eq!(json_of(&repeat)["status"], "captured", "{provider}");
        let moved = world.ledger().await;
        let captures = moved.iter().filter(|(kind, _)| kind == "capture");
        assert_eq!(captures.count(), 1, "{provider}: {moved:?}");
    }
}

/// Twenty at once of what only some may have.
#[tokio::test]
async fn whoever_races_takes_no_more_than_there_is() {
    for provider in ALL {
        let world = Rc::new(World::new().await);
        world.link(provider).await;
        let charge = charge(4000, "automatic", "inv-1");
        let keys = vec!["pay-once".to_owned(); RACERS];
        let answers = race(&world, "/v1/payments", keys, &charge).await;
        assert!(
            answers
                .iter()
                .all(|(status, _)| [201, 409].contains(status)),
            "{provider}: {answers:?}"
        );
        let paid: Vec<&Value> = answers
            .iter()
            .filter(|(status, _)| *status == 201)
            .map(|(_, payment)| &payment["id"])
            .collect();
        assert!(!paid.is_empty() && paid.windows(2).all(|two| two[0] == two[1]));
        let refunds = format!("/v1/payments/{}/refunds", paid[0].as_str().unwrap());
        let keys = (0..RACERS).map(|racer| format!("refund-{racer}")).collect();
        let answers = race(&world, &refunds, keys, &franc(300)).await;
        let given = answers.iter().filter(|(status, _)| *status == 201).count();
        let refused = answers
            .iter()
            .filter(|(_, body)| body["code"] == "amount_exceeds_remaining")
            .count();
        assert_eq!((given, refused), (13, 7), "{provider}: {answers:?}");
        let moved = world.ledger().await;
        let of = |kind: &str| moved.iter().filter(|(found, _)| found == kind).count();
        assert_eq!((of("capture"), of("refund")), (1, 13), "{provider}");
    }
}

/// How many call at once.
const RACERS: usize = 20;

/// Sends the same body under each of the keys, all at once.
async fn race(world: &Rc<World>, path: &str, keys: Vec<String>, body: &Value) -> Vec<(u16, Value)> {
    let local = LocalSet::new();
    let racers: Vec<_> = keys
        .into_iter()
        .map(|key| {
            let (world, path, body) = (Rc::clone(world), path.to_owned(), body.to_string());
            local.spawn_local(async move {
                let answer = world.call(Method::POST, &path, &key, body).await;
                (answer.status().as_u16(), json_of(&answer))
            })
        })
        .collect();
    local.await;
    let mut answers = Vec::new();
    for racer in racers {
        answers.push(racer.await.unwrap());
    }
    answers
}
