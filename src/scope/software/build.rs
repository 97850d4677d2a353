//! Writes down what is linked into this build, for the software inventory of `cardless scope`.
//!
//! Cargo is asked for the graph of exactly this build (features, target), offline and from the lock
//! file. Where that can't be had, as in a build as somebody else's dependency, the inventory is
//! empty, the build goes on, and the report says that it has none.
//!
//! ```text
//! about <name> <value>
//! crate <name> <version> <linked|built|locked> <SHA-256 of the lock file> <licence> <name@version>,…
//! ```
//!
//! with tabs between; `-` stands for nothing. `locked` is what the lock file has beyond this graph:
//! building several packages at once turns on what any of them asks for, which nobody tells a build
//! script, so some of it may be in the program all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What decides which crates are linked, below the package's folder.
const INPUTS: [&str; 10] = [
    "src/scope/software/build.rs",
    "Cargo.toml",
    "Cargo.lock",
    ".cargo/deny.toml",
    "providers/contract/Cargo.toml",
    "providers/transport/Cargo.toml",
    "providers/postfinance/Cargo.toml",
    "providers/paypal/Cargo.toml",
    "providers/aduno/Cargo.toml",
    "providers/sandbox/Cargo.toml",
];

/// A crate by name and version.
type Id = (String, String);

/// A crate of the graph.
#[derive(Debug, Default)]
struct Crate {
    /// Whether it is in the program, and not only in what was run to build it.
    linked: bool,
    licence: String,
    needs: BTreeSet<Id>,
}

fn main() -> io::Result<()> {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    for input in INPUTS.iter().filter(|input| root.join(input).exists()) {
        println!("cargo::rerun-if-changed={input}");
    }
    let out = PathBuf::from(variable("OUT_DIR"));
    // A build from elsewhere may lack it: then no licence is on the list.
    let allowed = fs::read_to_string(root.join(".cargo/deny.toml")).unwrap_or_default();
    fs::write(out.join("licences.toml"), allowed)?;
    fs::write(out.join("software.txt"), inventory(&root))
}

/// The inventory as text; empty if it can't be had.
fn inventory(root: &Path) -> String {
    let Some(tree) = tree() else {
        return String::new();
    };
    let lock = fs::read_to_string(root.join("Cargo.lock")).unwrap_or_default();
    let graph = graph(&tree);
    let locked = locked(&lock);
    let mut text = about();
    for (id, found) in &graph {
        let how = if found.linked { "linked" } else { "built" };
        let checksum = locked.get(id).map_or("", String::as_str);
        text.push_str(&line(id, how, checksum, found));
    }
    for (id, checksum) in &locked {
        if !graph.contains_key(id) {
            text.push_str(&line(id, "locked", checksum, &Crate::default()));
        }
    }
    text
}

fn line(id: &Id, how: &str, checksum: &str, found: &Crate) -> String {
    let needs = found.needs.iter();
    let needs: Vec<String> = needs
        .map(|(name, version)| format!("{name}@{version}"))
        .collect();
    let (name, version) = id;
    let (checksum, licence) = (or_dash(checksum), or_dash(&found.licence));
    let needs = needs.join(",");
    let needs = or_dash(&needs);
    format!("crate\t{name}\t{version}\t{how}\t{checksum}\t{licence}\t{needs}\n")
}

/// What cargo says of this build's crates, each with its depth before it.
fn tree() -> Option<String> {
    let output = Command::new(env::var_os("CARGO")?)
        .args(["tree", "--offline", "--locked", "--package", "cardless"])
        .args(["--no-default-features", "--features", &features()])
        .args(["--target", &variable("TARGET"), "--edges", "normal"])
        .args(["--no-dedupe", "--prefix", "depth", "--format", "\t{p}\t{l}"])
        .output()
        .ok()?;
    let tree = String::from_utf8(output.stdout).ok()?;
    output.status.success().then_some(tree)
}

/// The graph, from a tree in which nothing is left out: what stands beneath a procedural macro was
/// run to build the program, and is in it only if it stands elsewhere too.
fn graph(tree: &str) -> BTreeMap<Id, Crate> {
    let mut crates: BTreeMap<Id, Crate> = BTreeMap::new();
    let mut above: Vec<(Id, bool)> = Vec::new();
    for line in tree.lines() {
        let mut parts = line.split('\t');
        let depth: usize = match parts.next().map(str::parse) {
            Some(Ok(depth)) => depth,
            Some(Err(_)) | None => continue,
        };
        let package = parts.next().unwrap_or_default();
        let licence = parts.next().unwrap_or_default();
        let Some(id) = id(package) else { continue };
        above.truncate(depth);
        let parent = above.last();
        let linked = parent.is_none_or(|(_, linked)| *linked) && !package.contains("(proc-macro)");
        if let Some((parent, _)) = parent {
            let parent = crates.entry(parent.clone()).or_default();
            parent.needs.insert(id.clone());
        }
        let found = crates.entry(id.clone()).or_default();
        found.linked |= linked;
        licence.trim().clone_into(&mut found.licence);
        above.push((id, linked));
    }
    crates
}

/// Name and version; what stands behind them may be a path of this machine.
fn id(package: &str) -> Option<Id> {
    let mut words = package.split(' ');
    let name = words.next()?;
    let version = words.next()?.strip_prefix('v')?;
    Some((name.to_owned(), version.to_owned()))
}

/// The lock file's packages and their checksums. Cargo writes it: one member a line.
fn locked(lock: &str) -> BTreeMap<Id, String> {
    let member = |package: &str, name: &str| {
        let begins = format!("{name} = \"");
        let value = package.lines().find_map(|line| line.strip_prefix(&begins));
        value.map(|value| value.trim_end_matches('"').to_owned())
    };
    let packages = lock.split("[[package]]").skip(1).filter_map(|package| {
        let id = (member(package, "name")?, member(package, "version")?);
        Some((id, member(package, "checksum").unwrap_or_default()))
    });
    packages.collect()
}

/// How it was built.
fn about() -> String {
    let compiler = Command::new(env::var_os("RUSTC").unwrap_or(OsString::from("rustc")))
        .arg("-V")
        .output();
    let compiler = compiler.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let facts = [
        ("compiler", compiler.unwrap_or_default()),
        ("target", variable("TARGET")),
        ("profile", variable("PROFILE")),
        ("features", features()),
    ];
    let lines = facts.map(|(name, value)| format!("about\t{name}\t{}\n", or_dash(value.trim())));
    lines.concat()
}

/// The features of this build, without the list of the default ones.
fn features() -> String {
    let names = env::vars_os().filter_map(|(name, _)| {
        let name = name.to_str()?.strip_prefix("CARGO_FEATURE_")?;
        Some(name.to_lowercase())
    });
    let mut names: Vec<String> = names.filter(|name| name != "default").collect();
    names.sort_unstable();
    names.join(",")
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}
