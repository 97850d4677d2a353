//! What is judged of every variant: the answer, every row of every table, the ledger, what was
//! asked of the provider, and whether answer or log quote it.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use cardless::message::{PaymentStatus, SetupStatus};
use cardless_sandbox::Provider;
use serde_json::Value;

use crate::webhook::Webhook;
use crate::world::{Answer, World};

/// The least number of variants at each provider.
const LEAST_VARIANTS: usize = 200;

/// Between two variants passes so long, in seconds, that each may have its signer's key fetched:
/// ten in a minute are allowed.
const PAUSE_SECONDS: u64 = 7;

/// What is shorter than this stands in a text by chance.
const SHORTEST_QUOTE: usize = 10;

/// What becomes of a variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// It is refused with a 4xx.
    Refused,
    /// It says what a webhook said that came before: 200, and nothing changes.
    Repeat,
}

/// A hostile webhook.
#[derive(Debug)]
pub(crate) struct Variant {
    pub(crate) name: String,
    pub(crate) webhook: Webhook,
    pub(crate) expected: Expected,
    /// How often it comes.
    pub(crate) times: u32,
}

/// The webhooks that variants are made of.
pub(crate) struct Genuine {
    /// About an object whose outcome is open; it has not come yet.
    pub(crate) open: Webhook,
    /// It has come, and has moved a state.
    pub(crate) seen: Webhook,
    /// About a settled object; it has not come yet.
    pub(crate) other: Webhook,
    /// The other providers', not come yet either.
    pub(crate) foreign: Vec<Webhook>,
}

/// Everything that a webhook must not change.
#[derive(Debug, PartialEq)]
struct State {
    rows: BTreeMap<String, Vec<String>>,
    ledger: usize,
}

/// An object with an open outcome.
enum Open {
    Payment(String),
    Setup(String),
}

/// Runs every variant at one provider's door, and says how many there were.
pub(crate) async fn judge(
    provider: Provider,
    forge: impl FnOnce(&World, &Genuine) -> Vec<Variant>,
) -> usize {
    let world = World::new();
    let _guard = tracing::subscriber::set_default(world.lines.clone());
    let mut methods = BTreeMap::new();
    for each in Provider::ALL {
        methods.insert(each.name(), world.link(each).await);
    }
    let method = &methods[provider.name()];

    // The judge is judged first: a genuine webhook moves a state, and it must see that.
    world.webhooks();
    let (first, seen) = open_outcome(&world, provider, method).await;
    moves_a_state(&world, &first, &seen).await;

    let mut foreign = Vec::new();
    for each in Provider::ALL.into_iter().filter(|each| *each != provider) {
        foreign.push(open_outcome(&world, each, &methods[each.name()]).await.1);
    }
    let other = settled(&world, provider, method).await;
    let (last, open) = open_outcome(&world, provider, method).await;
    let genuine = Genuine {
        open,
        seen,
        other,
        foreign,
    };
    let variants = forge(&world, &genuine);
    count(provider, &variants, &genuine);
    let mut wrong = Vec::new();
    for variant in &variants {
        wrong.extend(complaints(&world, variant).await);
    }
    assert!(wrong.is_empty(), "{}: {wrong:#?}", provider.name());

    // What was imitated is still good itself: no variant was refused for another reason.
    moves_a_state(&world, &last, &genuine.open).await;
    variants.len()
}

/// A genuine webhook, which the judge must see, and nothing else concludes what is open.
async fn moves_a_state(world: &World, open: &Open, webhook: &Webhook) {
    assert!(!open.is_concluded(world).await);
    let before = State::of(world);
    assert_eq!(world.bring(webhook).await.status, 200);
    assert_ne!(State::of(world), before, "the judge sees no change");
    world.resolve().await;
    assert!(open.is_concluded(world).await);
}

impl State {
    fn of(world: &World) -> Self {
        Self {
            rows: world.rows(),
            ledger: world.sandbox.ledger().len(),
        }
    }
}

impl Open {
    async fn is_concluded(&self, world: &World) -> bool {
        match self {
            Self::Payment(id) => {
                let payment = world.gateway.payment(id).await.unwrap();
                payment.status == PaymentStatus::Captured
            }
            Self::Setup(id) => {
                let setup = world.gateway.setup(id).await.unwrap();
                setup.status == SetupStatus::Completed
            }
        }
    }
}

/// An object whose outcome the service does not know, and the webhook that would tell. Aduno sends
/// webhooks about customers' visits only, so there it is a setup.
async fn open_outcome(world: &World, provider: Provider, method: &str) -> (Open, Webhook) {
    world.webhooks();
    let open = match provider {
        Provider::Aduno => {
            let setup = world.begin(provider).await;
            world.approve(provider, &setup).await;
            Open::Setup(setup.id)
        }
        Provider::PayPal | Provider::PostFinance => {
            world.inject(provider, commit_of(provider), "execute_then_drop");
            let payment = world.pay(method, 4990).await;
            assert_eq!(payment.status, PaymentStatus::Unknown);
            Open::Payment(payment.id)
        }
    };
    (open, world.webhooks().pop().unwrap())
}

/// The webhook about an object that is settled.
async fn settled(world: &World, provider: Provider, method: &str) -> Webhook {
    world.webhooks();
    if provider == Provider::Aduno {
        world.link(provider).await;
    } else {
        let payment = world.pay(method, 1990).await;
        assert_eq!(payment.status, PaymentStatus::Captured);
    }
    world.webhooks().pop().unwrap()
}

fn commit_of(provider: Provider) -> &'static str {
    match provider {
        Provider::PayPal => "POST /v2/checkout/orders/*/capture",
        Provider::PostFinance => "POST /api/v2.0/payment/transactions/*/process-with-token",
        Provider::Aduno => "POST /v1/transactions/*/settle",
    }
}

/// Enough of them, and no two alike; none that is to be refused is one of the genuine.
fn count(provider: Provider, variants: &[Variant], genuine: &Genuine) {
    let imitated = [&genuine.open, &genuine.seen, &genuine.other].map(Webhook::fingerprint);
    let mut prints = HashSet::new();
    let mut wrong = Vec::new();
    for variant in variants {
        let print = variant.webhook.fingerprint();
        if variant.expected == Expected::Refused && imitated.contains(&print) {
            wrong.push(format!("genuine: {}", variant.name));
        }
        if !prints.insert((print, variant.times)) {
            wrong.push(format!("twice: {}", variant.name));
        }
    }
    assert!(wrong.is_empty(), "{}: {wrong:#?}", provider.name());
    let count = variants.len();
    assert!(
        count >= LEAST_VARIANTS,
        "{}: {count} variants",
        provider.name()
    );
}

/// What is wrong with how a variant was taken.
async fn complaints(world: &World, variant: &Variant) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut complain = |what: String| wrong.push(format!("{}: {what}", variant.name));
    world.sandbox.advance(Duration::from_secs(PAUSE_SECONDS));
    world.lines.take();
    let before = State::of(world);
    let asked = world.wire.requests().len();
    for _ in 0..variant.times {
        let answer = world.bring(&variant.webhook).await;
        let fits = match variant.expected {
            Expected::Refused => (400..500).contains(&answer.status),
            Expected::Repeat => answer.status == 200,
        };
        if !fits {
            complain(format!("{} {}", answer.status, answer.text));
        }
        for quote in quotes(&variant.webhook, &answer, &world.lines.take()) {
            complain(format!("quoted: {quote}"));
        }
    }
    if State::of(world) != before {
        complain("something has changed".to_owned());
    }
    let requests = world.wire.requests().split_off(asked);
    let keys = |path: &&String| !path.contains("/certs/") && !path.contains("/encryption-keys/");
    if requests.len() > 1 || requests.iter().any(|path| keys(&path)) {
        complain(format!("asked for {requests:?}"));
    }
    wrong
}

/// What answer or log repeat of a webhook.
fn quotes(webhook: &Webhook, answer: &Answer, lines: &str) -> Vec<String> {
    let mut parts = Vec::new();
    for (name, value) in &webhook.headers {
        // Where a certificate lies is asked for, so the log may say it.
        if name != "paypal-cert-url" && name != "content-type" {
            parts.push(String::from_utf8_lossy(value.as_bytes()).into_owned());
        }
    }
    match serde_json::from_slice(&webhook.body) {
        Ok(value) => leaves(&value, &mut parts),
        Err(_) => parts.push(String::from_utf8_lossy(&webhook.body).into_owned()),
    }
    parts.retain(|part| {
        part.len() >= SHORTEST_QUOTE && (answer.text.contains(part) || lines.contains(part))
    });
    parts
}

fn leaves(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| leaves(item, into)),
        Value::Object(members) => members.values().for_each(|member| leaves(member, into)),
        Value::String(text) => into.push(text.clone()),
        Value::Number(number) => into.push(number.to_string()),
        Value::Null | Value::Bool(_) => {}
    }
}
