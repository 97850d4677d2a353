//! The operator's verbs, killed at each sync, write, rename and call of a provider: what they left is
//! whole, and the same verb brings it to its end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cardless::exchange::transfer::{Header, Record, Writer};
use cardless::exchange::{PublicKey, SecretKey, Usage};
use cardless_contract::{Clock as _, SystemClock, SystemEntropy};
use serde_json::Value;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use crate::strace;
use crate::sweep::{Scope, Seed};
use crate::world::{Call, Template, World};

/// Tokens of the store whose keys and handles are rotated.
const TOKENS: u64 = 230;

/// The account that is erased, and how many of the tokens are its own.
const ERASED: &str = "customer-3";
const OF_THE_ERASED: u64 = TOKENS / 10;

/// How many points of each verb the ordinary tests strike.
const SAMPLE: usize = 4;

/// How many lives there are at once.
const AT_ONCE: usize = 3;

/// How often the verb is run again until it has come to its end.
const AGAIN: usize = 3;

/// Longer than any lease.
const LATER: Duration = Duration::from_secs(5 * 60);

/// What changes a file, a name of one, or anything elsewhere.
const CALLS: [&str; 16] = [
    "fsync",
    "fdatasync",
    "write",
    "pwrite64",
    "ftruncate",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "sendto",
    "writev",
    "recvfrom",
    "fchmod",
];

/// A verb that changes what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verb {
    RotateKeys,
    DestroyRetired,
    RewriteKeys,
    RotateHandles,
    Import,
    Export,
    Erase,
}

const VERBS: [Verb; 7] = [
    Verb::RotateKeys,
    Verb::DestroyRetired,
    Verb::RewriteKeys,
    Verb::RotateHandles,
    Verb::Import,
    Verb::Export,
    Verb::Erase,
];

impl Verb {
    const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::RotateKeys => &["rotate", "keys"],
            Self::DestroyRetired => &["rotate", "keys", "--destroy-retired"],
            Self::RewriteKeys => &["rotate", "keys", "--rewrite-file"],
            Self::RotateHandles => &["rotate", "handles", "--overlap", "0"],
            Self::Import => &["import", "tokens", "--sender", "sender"],
            Self::Export => &["export", "out", "--recipient", "ours"],
            Self::Erase => &["account", "erase", ERASED],
        }
    }

    /// How many tokens are there once it is done.
    const fn leaves(self) -> u64 {
        if matches!(self, Self::Erase) {
            TOKENS - OF_THE_ERASED
        } else {
            TOKENS
        }
    }
}

/// The store with the tokens, and the one before them.
struct Stores {
    full: Template,
    empty: Template,
    /// A file with the tokens, and whose it is.
    tokens: String,
    sender: String,
}

impl Stores {
    async fn new() -> Self {
        let world = World::new(&Template::new().await).await;
        // The first verb that needs the keys of the exchange makes them.
        let keys = printed(&world, &["import", "--print-keys"]).await;
        let keys = PublicKey::read_all(&keys).unwrap();
        let to = keys.into_iter().find(|key| key.usage() == Usage::Seal);
        let from = SecretKey::generate(Usage::Sign, &SystemEntropy).unwrap();
        let tokens = file_of_tokens(&from, to.unwrap());
        let sender = from.public().to_jwk().to_string();
        let empty = Template::of(&world);
        put_file(&world, &tokens, &sender);
        printed(&world, Verb::Import.arguments()).await;
        let full = Template::of(&world);
        world.close().await;
        Self {
            full,
            empty,
            tokens,
            sender,
        }
    }

    /// An installation in which the verb has something to do.
    async fn before(&self, verb: Verb) -> World {
        let has_tokens = verb != Verb::Import;
        let template = if has_tokens { &self.full } else { &self.empty };
        let world = World::new(template).await;
        put_file(&world, &self.tokens, &self.sender);
        let ours = printed(&world, &["export", "--print-keys"]).await;
        std::fs::write(world.folder().join("ours"), ours).unwrap();
        if verb == Verb::DestroyRetired {
            printed(&world, Verb::RotateKeys.arguments()).await;
        }
        world
    }
}

fn put_file(world: &World, tokens: &str, sender: &str) {
    std::fs::write(world.folder().join("tokens"), tokens).unwrap();
    std::fs::write(world.folder().join("sender"), sender).unwrap();
}

fn file_of_tokens(from: &SecretKey, to: PublicKey) -> String {
    let record = |number: u64| Record {
        account: format!("customer-{}", number % 10),
        provider: "postfinance".to_owned(),
        merchant: "405".to_owned(),
        kind: "token".to_owned(),
        token: Zeroizing::new((number + 1).to_string()),
        default: false,
        payment_method: None,
    };
    let records: Vec<Record> = (0..TOKENS).map(record).collect();
    let name = "before-1".to_owned();
    let mut writer = Writer::new(name, from.clone(), to, Arc::new(SystemEntropy));
    let header = Header {
        from: "the system from before".to_owned(),
        issued_at: SystemClock::default().now().seconds(),
    };
    let mut text = writer.header(&header).unwrap();
    for part in records.chunks(50) {
        text.push_str(&writer.records(part).unwrap());
    }
    text + &writer.end().unwrap().0
}

/// What a verb prints that must succeed.
async fn printed(world: &World, arguments: &[&str]) -> String {
    let output = world.verb(arguments).await;
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The `nth` call of this name in one of the program's threads.
#[derive(Debug, Clone)]
struct Blow {
    verb: Verb,
    call: String,
    nth: usize,
}

impl std::fmt::Display for Blow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verb = format!("{:?}", self.verb).to_lowercase();
        write!(f, "{verb} {} {}", self.call, self.nth)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verb_that_is_killed_leaves_everything_whole_and_goes_on() {
    let name = "a_verb_that_is_killed_leaves_everything_whole_and_goes_on";
    if !strace::is_there(name) {
        return;
    }
    let (begun, scope) = (Instant::now(), Scope::of_environment());
    let stores = Arc::new(Stores::new().await);
    let mut blows = Vec::new();
    for verb in VERBS {
        let mut here = points(&stores, verb).await;
        if let Some(only) = &scope.only {
            here.retain(|blow| blow.to_string().starts_with(only.as_str()));
        }
        let mut seed = Seed::new(scope.seed);
        while scope.only.is_none() && !scope.all && here.len() > SAMPLE {
            here.swap_remove(seed.below(here.len()));
        }
        blows.extend(here);
    }
    let lives = blows.len();
    let (mut struck, mut broken) = (0, Vec::new());
    let mut by_verb = BTreeMap::<Verb, usize>::new();
    let mut waiting = blows.into_iter();
    let mut running = JoinSet::new();
    loop {
        while running.len() < AT_ONCE {
            let Some(blow) = waiting.next() else { break };
            let stores = Arc::clone(&stores);
            running.spawn(async move {
                let lived = tokio::spawn(live(stores, blow.clone()));
                let lived = lived.await.map_err(|panic| panic.to_string());
                (blow, lived)
            });
        }
        let Some(ended) = running.join_next().await else {
            break;
        };
        let (blow, lived) = ended.unwrap();
        let again = format!("CARDLESS_CRASH_ONLY='{blow}' cargo test --test crash {name}");
        match lived {
            Ok((killed, rules)) => {
                struck += usize::from(killed);
                *by_verb.entry(blow.verb).or_default() += usize::from(killed);
                broken.extend(
                    rules
                        .iter()
                        .map(|rule| format!("{blow}: {rule}\n  {again}")),
                );
            }
            Err(panic) => broken.push(format!("{blow}: {panic}\n  {again}")),
        }
    }
    println!(
        "{name}: {lives} lives; {struck} killed ({by_verb:?}); {} rules broken; {} s; {scope}",
        broken.len(),
        begun.elapsed().as_secs()
    );
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    if scope.only.is_none() {
        assert_eq!(
            by_verb.values().filter(|&&count| count > 0).count(),
            VERBS.len()
        );
        // A thread that counts otherwise in another life is not struck.
        assert!(struck * 10 >= lives * 8, "{struck} of {lives} were struck");
    }
}

/// Every call that an undisturbed run makes, by its thread with the most of them.
async fn points(stores: &Stores, verb: Verb) -> Vec<Blow> {
    let world = stores.before(verb).await;
    let traced = world.folder().join("traced");
    let calls = CALLS.map(|call| format!("?{call}")).join(",");
    let output = world
        .traced(&traced, &format!("trace={calls}"), verb.arguments())
        .await;
    assert!(output.status.success(), "{verb:?}: {output:?}");
    let rules = is_at_its_end(&world, verb).await;
    assert_eq!(rules, Vec::<String>::new(), "{verb:?}, undisturbed");
    let text = std::fs::read_to_string(&traced).unwrap();
    world.close().await;
    let mut counts = BTreeMap::<(&str, &str), usize>::new();
    for line in text.lines() {
        let Some((thread, call)) = line.split_once(' ') else {
            continue;
        };
        let named = CALLS.iter().find(|name| {
            let rest = call.trim_start().strip_prefix(*name);
            rest.is_some_and(|rest| rest.starts_with('('))
        });
        if let Some(name) = named {
            *counts.entry((name, thread)).or_default() += 1;
        }
    }
    let names: BTreeSet<&str> = counts.keys().map(|(name, _)| *name).collect();
    let most = |name: &str| {
        let of = counts.iter().filter(|((call, _), _)| *call == name);
        of.map(|(_, count)| *count).max().unwrap_or(0)
    };
    let blows = names.iter().flat_map(|name| {
        (1..=most(name)).map(|nth| Blow {
            verb,
            call: (*name).to_owned(),
            nth,
        })
    });
    blows.collect()
}

/// Whether it was killed, and what is wrong then.
async fn live(stores: Arc<Stores>, blow: Blow) -> (bool, Vec<String>) {
    let verb = blow.verb;
    let world = stores.before(verb).await;
    let kill = format!("inject={}:signal=KILL:when={}", blow.call, blow.nth);
    let output = world
        .traced(Path::new("/dev/null"), &kill, verb.arguments())
        .await;
    let killed = !output.status.success();
    let mut broken = Vec::new();
    if verb != Verb::Import && verb != Verb::Erase {
        broken.extend(opens_all(&world, "between", TOKENS).await);
    }
    world.advance(LATER);
    let mut said = String::new();
    for _ in 0..AGAIN {
        let again = world.verb(verb.arguments()).await;
        // What was at its end says so.
        let is_there = verb == Verb::Export && world.folder().join("out").exists();
        if again.status.success() || is_there {
            said.clear();
            break;
        }
        said = String::from_utf8_lossy(&again.stderr).into_owned();
        world.advance(LATER);
    }
    if !said.is_empty() {
        broken.push(format!("it does not come to its end: {said}"));
    }
    broken.extend(is_at_its_end(&world, verb).await);
    world.close().await;
    (killed, broken)
}

/// What is wrong with a verb's end.
async fn is_at_its_end(world: &World, verb: Verb) -> Vec<String> {
    let mut broken = opens_all(world, "after", verb.leaves()).await;
    let status: Value =
        serde_json::from_str(&printed(world, &["rotate", "status", "--json"]).await).unwrap();
    let generations = status["keys"]["generations"].as_array();
    let generations = generations.cloned().unwrap_or_default();
    let of = |state: &str| {
        let states = generations.iter().filter(|one| one["state"] == state);
        states.cloned().collect::<Vec<_>>()
    };
    if of("active").len() != 1 {
        broken.push(format!("not one generation is active: {status}"));
    }
    if verb == Verb::DestroyRetired {
        let proven = of("destroyed").iter().all(|one| one["tried"] == true);
        if !of("retiring").is_empty() || of("destroyed").is_empty() || !proven {
            broken.push(format!(
                "the retired key is not destroyed and tried: {status}"
            ));
        }
        let keys = std::fs::read_to_string(world.folder().join("cardless.keys")).unwrap();
        if of("destroyed").iter().any(|one| {
            let id = one["id"].as_str();
            id.is_none_or(|id| keys.contains(id))
        }) {
            broken.push("the key file holds a key that was destroyed".to_owned());
        }
        for left in ["cardless.keys.replaced", "cardless.keys.replacing"] {
            if world.folder().join(left).exists() {
                broken.push(format!("{left} is still there"));
            }
        }
    }
    if verb == Verb::Export {
        if world.folder().join("out.partial").exists() {
            broken.push("a part of the file is still there".to_owned());
        }
        let import = ["import", "out", "--sender", "ours", "--dry-run", "--json"];
        let report: Value = serde_json::from_str(&printed(world, &import).await).unwrap();
        if report["already_here"] != TOKENS {
            broken.push(format!("the file does not hold every token: {report}"));
        }
    }
    let audit = world.verb(&["audit", "verify"]).await;
    if !audit.status.success() {
        broken.push(format!("the audit log does not hold: {audit:?}"));
    }
    let service = world.serve().await;
    let ready = world.must(&service.base, &Call::get("/readyz")).await;
    if ready.status != 200 {
        broken.push(format!("the service is not ready: {ready:?}"));
    }
    service.stop().await;
    broken
}

/// Opens every token, into a file that is thrown away.
async fn opens_all(world: &World, name: &str, tokens: u64) -> Vec<String> {
    let export = ["export", name, "--recipient", "ours", "--json"];
    let output = world.verb(&export).await;
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let all = report["records"] == tokens && report["left_out"]["unopened"] == 0;
    if output.status.success() && all {
        return Vec::new();
    }
    vec![format!("{name}: not every token opens: {output:?}")]
}
