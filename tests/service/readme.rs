//! The README's program for a sealed client, run as it stands there. It needs Python with `joserfc`
//! (`CARDLESS_PYTHON`, else `python3`); with `CARDLESS_REQUIRE_INTEROP=1` a missing one is a failure.

use std::path::Path;
use std::process::{Command, Output};

use cardless_testkit::opinion;

use crate::people::run;
use crate::reload::Service;
use crate::world::ACCOUNT;

const README: &str = include_str!("../../README.md");

/// What a new user has where the README says so, and a test does not.
const USUAL_BASE: &str = "http://127.0.0.1:8080";
const USUAL_ACCOUNT: &str = "customer-17";

/// How the README has the program run.
const RUN: &str = "cargo run -- ";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_readmes_sealed_client_charges() {
    let Some(python) = opinion::python(&["-c", "import joserfc"], "joserfc") else {
        return;
    };
    let service = Service::start().await;
    service.link().await;
    let folder = service.folder.path();
    let programs = blocks("python");
    let [pairs, charge] = programs.as_slice() else {
        unreachable!("the README has {} programs", programs.len())
    };

    assert_succeeds(&execute(&python, pairs, folder));
    let add = line_of("client add till");
    let (code, _, errors) = run(&service.folder, &words(add));
    assert_eq!(code, 0, "{errors}");
    let charge = charge
        .replace(USUAL_BASE, &service.base)
        .replace(USUAL_ACCOUNT, ACCOUNT);
    let first = assert_succeeds(&execute(&python, &charge, folder));
    assert!(first.starts_with("201 "), "{first}");
    assert!(first.contains("'status': 'captured'"), "{first}");
    // A lost answer is asked for by the same once more.
    assert_eq!(assert_succeeds(&execute(&python, &charge, folder)), first);

    // The program takes no answer but the one to its request.
    let wrong = charge.replace("hashlib.sha256(sealed", "hashlib.sha256(signed");
    assert_ne!(wrong, charge);
    assert!(!execute(&python, &wrong, folder).status.success());
}

/// The README's blocks of this language.
fn blocks(language: &str) -> Vec<&'static str> {
    let begin = format!("```{language}\n");
    let blocks = README.split(begin.as_str()).skip(1);
    blocks
        .map(|block| block.split("```").next().unwrap_or_default())
        .collect()
}

/// The arguments of the README's one command that begins so.
fn line_of(verb: &str) -> &'static str {
    let mut lines = README.lines().filter_map(|line| line.strip_prefix(RUN));
    let line = lines.find(|line| line.starts_with(verb)).unwrap();
    line.split('#').next().unwrap_or_default()
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn execute(python: &str, program: &str, folder: &Path) -> Output {
    let mut command = Command::new(python);
    command.current_dir(folder).args(["-c", program]);
    command.output().unwrap()
}

fn assert_succeeds(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}
