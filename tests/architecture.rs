//! The arrows between crates and between the modules of `src`, and what no crate may name.
//!
//! Facts come from `cargo metadata`, the manifests and the sources, with comments and strings taken
//! out. Each rule is a function from a fact to a violation, so that a wrong example can be shown to
//! be caught: those come first.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cardless::scope::cryptography::INVENTORY;
use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

const ADAPTERS: [&str; 3] = ["cardless-postfinance", "cardless-paypal", "cardless-aduno"];
const TOOLS: [&str; 2] = ["cardless-testkit", "cardless-sandbox"];

/// The modules of `src` that may not name each other: from, to, and why.
const FORBIDDEN_MODULES: &[(&str, &[&str], &str)] = &[
    (
        "vault",
        &[
            "journal", "gateway", "serve", "cli", "registry", "config", "client",
        ],
        "the vault seals for anybody and knows nobody",
    ),
    (
        "journal",
        &[
            "vault", "gateway", "serve", "cli", "registry", "config", "client",
        ],
        "the journal knows neither keys nor callers",
    ),
    (
        "store",
        &[
            "gateway", "vault", "serve", "cli", "registry", "config", "client", "message",
        ],
        "a store makes no decisions",
    ),
    (
        "gateway",
        &["serve", "cli", "client"],
        "serve and cli stand before the gateway",
    ),
    (
        "serve",
        &["cli", "journal", "store"],
        "the service goes through the gateway",
    ),
    (
        "cli",
        &["journal", "store"],
        "the command line goes through the gateway",
    ),
    (
        "pan",
        &[
            "vault", "journal", "store", "gateway", "serve", "cli", "registry", "config", "account",
        ],
        "the card number net stands before everything",
    ),
    (
        "account",
        &[
            "journal", "store", "gateway", "serve", "cli", "registry", "config",
        ],
        "a name knows nobody who uses it",
    ),
    (
        "webhook",
        &[
            "vault", "journal", "store", "gateway", "serve", "cli", "registry", "config", "client",
            "message",
        ],
        "a signature is over bytes, whatever they say",
    ),
    (
        "exchange",
        &[
            "vault", "journal", "store", "gateway", "serve", "cli", "registry", "config", "account",
        ],
        "a sealed message is keys and bytes, whoever keeps them",
    ),
    (
        "message",
        &[
            "vault", "journal", "store", "gateway", "serve", "cli", "registry", "config",
        ],
        "requests and answers are words, not deeds",
    ),
];

/// The only modules that may read the PCI evidence.
const SCOPE_READERS: [&str; 3] = ["scope", "serve", "cli"];

/// The sources that carry money, where no float may stand.
const MONEY: &[&str] = &[
    "src/gateway",
    "src/journal",
    "src/store",
    "src/message.rs",
    "src/client.rs",
    "providers/contract/src",
    "providers/transport/src",
    "providers/postfinance/src",
    "providers/paypal/src",
    "providers/aduno/src",
    "providers/sandbox/src",
    "providers/testkit/src",
];

/// A deserializer must name every kind of value that serde has. This one gives a float to nobody: it
/// says which fields a type reads.
const NAMES_EVERY_KIND: &str = "providers/contract/src/fields.rs";

#[test]
fn a_wrong_arrow_between_crates_is_caught() {
    for (from, to, kind) in [
        ("cardless-contract", "cardless-transport", "normal"),
        ("cardless-transport", "cardless-paypal", "normal"),
        ("cardless-paypal", "cardless-aduno", "normal"),
        ("cardless-paypal", "cardless-aduno", "dev"),
        ("cardless-paypal", "cardless", "dev"),
        ("cardless-testkit", "cardless-paypal", "normal"),
        ("cardless-sandbox", "cardless", "build"),
        ("cardless-paypal", "cardless-testkit", "normal"),
        ("cardless", "cardless-testkit", "normal"),
        ("cardless-paypal", "reqwest", "normal"),
        ("cardless", "reqwest", "dev"),
        ("cardless-sandbox", "rusqlite", "normal"),
        ("cardless-newcomer", "cardless-transport", "normal"),
    ] {
        assert!(
            wrong_dependency(from, to, kind).is_some(),
            "{from} -> {to} ({kind})"
        );
    }
    for (from, to, kind) in [
        ("cardless-paypal", "cardless-transport", "normal"),
        ("cardless-paypal", "cardless-testkit", "dev"),
        ("cardless", "cardless-paypal", "normal"),
        ("cardless-transport", "reqwest", "normal"),
        ("cardless", "rusqlite", "normal"),
    ] {
        assert_eq!(
            wrong_dependency(from, to, kind),
            None,
            "{from} -> {to} ({kind})"
        );
    }
}

#[test]
fn a_wrong_arrow_between_modules_is_caught() {
    for (path, source) in [
        ("vault/mod.rs", "use crate::journal::Journal;"),
        ("vault/record.rs", "use crate::{letters::letters, journal};"),
        ("vault/mod.rs", "use super::gateway::Gateway;"),
        ("vault/mod.rs", "fn f(x: cardless_paypal::Config) {}"),
        ("journal/state.rs", "fn f() { crate::vault::Vault::new(); }"),
        ("journal/mod.rs", "use cardless_aduno as a;"),
        (
            "store/sqlite.rs",
            "use crate::{error::Error, gateway::{self, Gateway}};",
        ),
        ("gateway/pay.rs", "use crate::serve::problem;"),
        ("gateway/mod.rs", "use cardless_postfinance::PostFinance;"),
        ("serve/mod.rs", "use crate::store::Store;"),
        ("gateway/mod.rs", "use crate::scope::Scope;"),
        ("gateway/mod.rs", "use rusqlite::Connection;"),
        ("main.rs", "use cardless_paypal::PayPal;"),
    ] {
        assert!(!wrong_names(path, source).is_empty(), "{path}: {source}");
    }
    for (path, source) in [
        ("registry.rs", "use cardless_paypal::PayPal;"),
        (
            "vault/mod.rs",
            "// crate::journal\nuse crate::letters::letters; /* crate::gateway */",
        ),
        (
            "vault/mod.rs",
            "const A: &str = \"crate::journal\"; const B: char = '\"'; // \"",
        ),
        (
            "vault/mod.rs",
            "const A: &str = r#\"\"crate::journal\"#; fn f<'a>(x: &'a str) {}",
        ),
        ("vault/keyring.rs", "use super::journal;"),
        (
            "gateway/pay.rs",
            "use crate::{journal::{store, Journal}, vault};",
        ),
        ("serve/mod.rs", "use crate::scope::Scope;"),
        ("store/sqlite.rs", "use rusqlite::Connection;"),
        ("lib.rs", "pub mod vault; pub mod scope;"),
    ] {
        assert_eq!(
            wrong_names(path, source),
            Vec::<String>::new(),
            "{path}: {source}"
        );
    }
}

#[test]
fn cryptography_that_is_not_in_the_inventory_is_caught() {
    let missing = strange_uses("src/a.rs", "fn f() { ring::digest::digest(); }");
    assert_eq!(
        missing,
        ["src/a.rs uses ring, which the inventory does not say"]
    );
    assert!(strange_uses("src/a.rs", "// ring::digest\nfn ringing() {}").is_empty());
    let tested = "#[cfg(test)]\nmod tests { use ring::digest; }";
    assert!(strange_uses("src/a.rs", tested).is_empty());
    let idle = "src/vault/record.rs";
    assert_eq!(
        strange_uses(idle, "fn f() {}"),
        [format!(
            "{idle} does not use ring, which the inventory says"
        )]
    );
}

/// The inventory that the PCI reviewer reads names each file that uses cryptography, and none that
/// does not.
#[test]
fn every_use_of_cryptography_is_in_the_inventory() {
    let adapters = ["contract", "postfinance", "paypal", "aduno"];
    let folders = adapters.map(|name| format!("providers/{name}/src"));
    let mut wrong = Vec::new();
    let mut seen = 0;
    for folder in folders.iter().map(String::as_str).chain(["src"]) {
        for path in rust_files(&Path::new(ROOT).join(folder)) {
            let name = path.strip_prefix(ROOT).unwrap().to_str().unwrap();
            wrong.extend(strange_uses(name, &fs::read_to_string(&path).unwrap()));
            seen += 1;
        }
    }
    assert!(seen > 100, "{seen}");
    for used in INVENTORY {
        for file in used.files {
            assert!(Path::new(ROOT).join(file).is_file(), "{file}");
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// The crates that carry out cryptography; TLS is one place, which the connections speak of.
const CRYPTOGRAPHY: [&str; 6] = ["ring", "aes_gcm", "p256", "argon2", "crc32fast", "webpki"];

fn strange_uses(path: &str, source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]\nmod tests").next().unwrap();
    let words = words(&code(source));
    // Not `webpki::ring`, which is another crate's.
    let names = |one: &str| {
        let mut places = words.windows(3);
        places.any(|three| matches!(three, [before, name, after] if before != ":" && name == one && after == ":"))
    };
    let listed = |one: &str| {
        let mut uses = INVENTORY.iter().filter(|used| used.by == one);
        uses.any(|used| used.files.contains(&path))
    };
    let mut wrong = Vec::new();
    for one in CRYPTOGRAPHY {
        match (names(one), listed(one)) {
            (true, false) => wrong.push(format!(
                "{path} uses {one}, which the inventory does not say"
            )),
            (false, true) => wrong.push(format!(
                "{path} does not use {one}, which the inventory says"
            )),
            (true, true) | (false, false) => {}
        }
    }
    wrong
}

#[test]
fn a_connection_elsewhere_is_caught() {
    for source in [
        "let stream = TcpStream::connect(address).await;",
        "use std::net::UdpSocket;",
        "tokio::net::lookup_host(name).await",
        "let found = (name, 443).to_socket_addrs();",
        "use tokio::net::UnixStream;",
        "let socket = tokio::net::TcpSocket::new_v4();",
    ] {
        assert!(connects(source), "{source}");
    }
    for source in [
        "use tokio::net::{TcpListener, TcpStream}; fn f(stream: TcpStream) {}",
        "// TcpStream::connect\nconst A: &str = \"UdpSocket\";",
        "fn f(a: std::net::SocketAddr) {}",
    ] {
        assert!(!connects(source), "{source}");
    }
}

#[test]
fn a_float_is_caught() {
    for source in [
        "fn f(x: f64) {}",
        "let x = y as f32;",
        "value.as_f64()",
        "1_f64",
    ] {
        assert!(names_a_float(source), "{source}");
    }
    for source in [
        "// f64\nfn f(x: i64) {}",
        "const X: &str = \"f64\";",
        "let ref64 = 0xf64;",
    ] {
        assert!(!names_a_float(source), "{source}");
    }
}

#[test]
fn the_arrows_between_crates_go_one_way() {
    let mut wrong = Vec::new();
    for package in packages() {
        for dependency in package["dependencies"].as_array().unwrap() {
            let kind = dependency["kind"].as_str().unwrap_or("normal");
            wrong.extend(wrong_dependency(
                text(&package["name"]),
                text(&dependency["name"]),
                kind,
            ));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn the_arrows_between_modules_go_one_way() {
    let source = Path::new(ROOT).join("src");
    let wrong: Vec<String> = rust_files(&source)
        .iter()
        .flat_map(|file| {
            let path = file
                .strip_prefix(&source)
                .unwrap()
                .to_str()
                .unwrap()
                .replace('\\', "/");
            wrong_names(&path, &fs::read_to_string(file).unwrap())
        })
        .collect();
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn nothing_but_the_transport_connects() {
    let folders = [
        "src",
        "providers/contract/src",
        "providers/postfinance/src",
        "providers/paypal/src",
        "providers/aduno/src",
    ];
    let files = folders.map(|folder| rust_files(&Path::new(ROOT).join(folder)));
    let wrong: Vec<_> = files
        .iter()
        .flatten()
        .filter(|file| connects(&fs::read_to_string(file).unwrap()))
        .collect();
    assert_eq!(wrong, Vec::<&PathBuf>::new());
}

#[test]
fn what_is_sealed_is_counted() {
    assert!(seals_uncounted("self.vault.seal(&context, bytes)"));
    assert!(seals_uncounted("self\n.vault\n.seal_under(id, x, y)"));
    assert!(!seals_uncounted(
        "self.seal(&context, bytes) // .vault.seal("
    ));
    // `keys` counts, and everything else goes through it.
    let gateway = Path::new(ROOT).join("src/gateway");
    let wrong: Vec<PathBuf> = rust_files(&gateway)
        .into_iter()
        .filter(|file| !file.ends_with("keys.rs"))
        .filter(|file| seals_uncounted(&fs::read_to_string(file).unwrap()))
        .collect();
    assert_eq!(wrong, Vec::<PathBuf>::new());
}

/// What a handler does is written into the audit log under the name of whoever calls.
#[test]
fn every_handler_acts_for_whoever_calls() {
    assert!(takes_gateway("service\n    .gateway()\n    .erase(&key)"));
    assert!(takes_gateway("service.gateway.erasure(&key)"));
    assert!(takes_gateway("let Service { gateway, .. } = &*service;"));
    assert!(!takes_gateway("gateway.erase(&key) // service.gateway()"));
    let routes = Path::new(ROOT).join("src/serve/routes");
    let wrong: Vec<PathBuf> = rust_files(&routes)
        .into_iter()
        .filter(|file| !file.ends_with("routes/mod.rs"))
        .filter(|file| takes_gateway(&fs::read_to_string(file).unwrap()))
        .collect();
    assert_eq!(wrong, Vec::<PathBuf>::new());
}

#[test]
fn every_crate_forbids_unsafe_code() {
    let workspace = manifest(Path::new(ROOT).join("Cargo.toml"));
    let level = workspace["workspace"]["lints"]["rust"]["unsafe_code"].as_str();
    assert_eq!(level, Some("forbid"));
    for package in packages() {
        let path = text(&package["manifest_path"]);
        let lints = manifest(PathBuf::from(path)).get("lints").cloned();
        let inherited = lints.and_then(|lints| lints.get("workspace")?.as_bool());
        assert_eq!(
            inherited,
            Some(true),
            "{path} does not inherit the workspace's lints"
        );
    }
}

#[test]
fn no_float_stands_near_an_amount() {
    let with_float: Vec<PathBuf> = MONEY
        .iter()
        .flat_map(|part| rust_files(&Path::new(ROOT).join(part)))
        .filter(|file| names_a_float(&fs::read_to_string(file).unwrap()))
        .filter(|file| !file.ends_with(NAMES_EVERY_KIND))
        .collect();
    assert_eq!(with_float, Vec::<PathBuf>::new());
}

#[test]
fn every_invariant_names_a_test_that_exists() {
    let root = Path::new(ROOT);
    let sources: String = ["src", "tests", "providers"]
        .iter()
        .flat_map(|part| rust_files(&root.join(part)))
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    let docs = fs::read_to_string(root.join("src/lib.rs")).unwrap();
    let (_, absent) = docs.split_once("# What is absent").unwrap();
    let quoted: Vec<&str> = absent.split('`').skip(1).step_by(2).collect();
    let paths = quoted
        .iter()
        .filter(|name| name.contains('/') && !name.starts_with('/'));
    let tests = quoted.iter().filter(|name| name.matches('_').count() > 1);
    let no_path: Vec<&&str> = paths.filter(|path| !root.join(path).exists()).collect();
    let no_test: Vec<&&str> = tests
        .clone()
        .filter(|name| !sources.contains(&format!("fn {name}(")))
        .collect();
    assert!(
        tests.count() > 10,
        "the invariants are not where they are looked for"
    );
    assert_eq!((no_path, no_test), (Vec::new(), Vec::new()));
}

/// Whether a file takes the gateway out of what every handler has at hand: by its method, as a field,
/// or by taking that apart.
fn takes_gateway(source: &str) -> bool {
    let words = words(&code(source));
    [[".", "gateway"], ["Service", "{"]]
        .iter()
        .any(|taken| words.windows(taken.len()).any(|part| part == taken))
}

/// Whether a file seals with the vault itself, past the count of the key's uses.
fn seals_uncounted(source: &str) -> bool {
    let words = words(&code(source));
    ["seal", "seal_under"].iter().any(|verb| {
        let call = ["vault", ".", verb, "("].map(str::to_owned);
        words.windows(call.len()).any(|part| part == call)
    })
}

/// What is wrong with a dependency of a crate of ours, if anything.
fn wrong_dependency(from: &str, to: &str, kind: &str) -> Option<String> {
    let to_contract = to == "cardless-contract";
    let down = to_contract || to == "cardless-transport";
    let tool = kind == "dev" && TOOLS.contains(&to);
    let fine = match (from, to) {
        (_, "reqwest") => from == "cardless-transport",
        (_, "rusqlite") => from == "cardless",
        (_, to) if !to.starts_with("cardless") => true,
        ("cardless-contract", _) => false,
        ("cardless-transport", _) => to_contract,
        ("cardless", _) => down || tool || ADAPTERS.contains(&to) || to == "cardless-sandbox",
        (from, _) if ADAPTERS.contains(&from) || TOOLS.contains(&from) => down || tool,
        // The fault simulation stands above everything, and nothing stands on it.
        ("cardless-faults", _) => true,
        // A crate that is not named here has no place in the picture yet.
        _ => false,
    };
    (!fine).then(|| format!("{from} -> {to} ({kind}) runs the wrong way"))
}

/// What a file of `src` names and may not. `path` is relative to `src`.
fn wrong_names(path: &str, source: &str) -> Vec<String> {
    let words = words(&code(source));
    let module = path
        .split('/')
        .next()
        .unwrap_or_default()
        .trim_end_matches(".rs");
    let at_the_root =
        !path.contains('/') || path.ends_with("/mod.rs") && path.matches('/').count() == 1;
    let mut named = named_after(&words, "crate");
    if at_the_root {
        named.extend(named_after(&words, "super"));
    }

    let mut wrong = Vec::new();
    for (from, targets, why) in FORBIDDEN_MODULES {
        let hits = named
            .iter()
            .filter(|name| *from == module && targets.contains(&name.as_str()));
        wrong.extend(hits.map(|name| format!("{path} names {name}: {why}")));
    }
    if named.iter().any(|name| name == "scope") && !SCOPE_READERS.contains(&module) {
        wrong.push(format!(
            "{path} names scope: scope reads, and nothing reads scope"
        ));
    }
    for adapter in ADAPTERS.map(|name| name.replace('-', "_")) {
        if words.contains(&adapter) && module != "registry" {
            wrong.push(format!("{path} names {adapter}: only registry.rs does"));
        }
    }
    if words.iter().any(|word| word == "rusqlite") && module != "store" {
        wrong.push(format!("{path} names rusqlite: only the store does"));
    }
    wrong
}

/// Whether a source opens a connection, or could ask the name service. To be connected to is
/// another thing.
fn connects(source: &str) -> bool {
    let words = words(&code(source));
    let opens = [
        "UdpSocket",
        "TcpSocket",
        "UnixStream",
        "UnixDatagram",
        "lookup_host",
        "to_socket_addrs",
    ];
    let call = ["TcpStream", ":", ":", "connect"].map(str::to_owned);
    words.iter().any(|word| opens.contains(&word.as_str()))
        || words.windows(call.len()).any(|part| part == call)
}

fn names_a_float(source: &str) -> bool {
    let float = |word: &String| {
        ["f32", "f64"].contains(&word.as_str()) || word.ends_with("_f32") || word.ends_with("_f64")
    };
    words(&code(source)).iter().any(float)
}

/// The names that stand directly after `start::`, each member of a group included.
fn named_after(words: &[String], start: &str) -> Vec<String> {
    let mut named = Vec::new();
    for (at, _) in words.iter().enumerate().filter(|(_, word)| *word == start) {
        let rest = words.get(at + 1..).unwrap_or_default();
        let Some(rest) = rest.strip_prefix([":".to_owned(), ":".to_owned()].as_slice()) else {
            continue;
        };
        if rest.first().is_some_and(|word| word == "{") {
            named.extend(group_members(rest));
        } else {
            named.extend(rest.first().cloned());
        }
    }
    named
}

/// The first name of each member of the group that `words` begins with.
fn group_members(words: &[String]) -> Vec<String> {
    let mut members = Vec::new();
    let mut depth = 0;
    let mut begins = false;
    for word in words {
        match word.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            name if depth == 1 && begins && name != "," => members.push(name.to_owned()),
            _ => {}
        }
        if depth == 0 {
            break;
        }
        begins = depth == 1 && (word == "{" || word == ",");
    }
    members
}

/// Identifiers and numbers as one word each, every other visible character as one.
fn words(code: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut in_word = false;
    for character in code.chars() {
        let part_of_word = character.is_alphanumeric() || character == '_';
        match words.last_mut() {
            Some(word) if part_of_word && in_word => word.push(character),
            _ if character.is_whitespace() => {}
            _ => words.push(character.to_string()),
        }
        in_word = part_of_word;
    }
    words
}

/// A source without its comments and the text of its strings.
fn code(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let skipped = skipped_bytes(rest);
        if skipped > 0 {
            code.push(' ');
        } else {
            code.push(first);
        }
        rest = rest
            .get(skipped.max(first.len_utf8())..)
            .unwrap_or_default();
    }
    code
}

/// How many bytes of comment, string or character literal `rest` begins with.
fn skipped_bytes(rest: &str) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return rest.find("*/").map_or(rest.len(), |end| end + 2);
    }
    if let Some(hashes) = rest.strip_prefix('r').and_then(raw_string_hashes) {
        let end = format!("\"{}", "#".repeat(hashes));
        let begin = hashes + 2;
        let body = rest.get(begin..).unwrap_or_default();
        return body
            .find(&end)
            .map_or(rest.len(), |at| begin + at + end.len());
    }
    if rest.starts_with('"') {
        return quoted_bytes(rest, '"');
    }
    // `'x'` and `'\n'` are characters; `'a` alone is a lifetime.
    let mut characters = rest.chars().skip(1);
    let is_character = match (characters.next(), characters.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => rest.starts_with('\''),
        _ => false,
    };
    if is_character {
        quoted_bytes(rest, '\'')
    } else {
        0
    }
}

/// The number of `#` between `r` and `"` of a raw string; `None` if it is none.
fn raw_string_hashes(after_r: &str) -> Option<usize> {
    let hashes = after_r
        .chars()
        .take_while(|&character| character == '#')
        .count();
    after_r.get(hashes..)?.starts_with('"').then_some(hashes)
}

/// How long the literal is that `rest` begins with, both quotes included.
fn quoted_bytes(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        if character == quote && !escaped {
            return at + character.len_utf8();
        }
        escaped = character == '\\' && !escaped;
    }
    rest.len()
}

/// The workspace's packages as `cargo metadata` describes them.
fn packages() -> Vec<Value> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(ROOT)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "cargo metadata failed: {}",
        output.status
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata
        .get("packages")
        .unwrap()
        .as_array()
        .unwrap()
        .clone()
}

/// All Rust files at or under a path; none if it does not exist.
fn rust_files(path: &Path) -> Vec<PathBuf> {
    if path.extension().is_some_and(|extension| extension == "rs") && path.is_file() {
        return vec![path.to_owned()];
    }
    let Ok(entries) = fs::read_dir(path) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries
        .flat_map(|entry| rust_files(&entry.unwrap().path()))
        .collect();
    files.sort();
    files
}

fn manifest(path: PathBuf) -> toml::Table {
    fs::read_to_string(path).unwrap().parse().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}
