//! `scope --scan`: what it says of files, and that it never says a number.

use std::fs;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::CARD;

/// The number in another shape, so that it is looked for in that shape, too.
const GROUPED: &str = "4242 4242 4242 4242";

fn scan(folder: &TempDir, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cardless"))
        .current_dir(folder.path())
        .args(["scope", "--scan"])
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Exit code, and both outputs, which must never hold a number.
fn told(output: &Output) -> (Option<i32>, String) {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    let text = String::from_utf8(text).unwrap();
    assert!(!text.contains(CARD) && !text.contains(GROUPED), "{text}");
    (output.status.code(), text)
}

#[test]
fn a_clean_file_exits_with_0_and_a_number_with_1() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("clean"), "pay_abcd 2026-11-25 CHF 49.90").unwrap();
    let (code, text) = told(&scan(&folder, &["clean"]));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("1 files, 29 bytes: 0 found"), "{text}");

    fs::write(folder.path().join("dirty"), format!("note: {GROUPED}")).unwrap();
    let (code, text) = told(&scan(&folder, &["clean", "dirty"]));
    assert_eq!(code, Some(1), "{text}");
    for part in ["dirty", "text", "visa", "2 files, 54 bytes: 1 found"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn folders_are_looked_through_and_what_cant_be_read_is_told() {
    let folder = TempDir::new().unwrap();
    let deep = folder.path().join("logs/old");
    fs::create_dir_all(&deep).unwrap();
    let wide: Vec<u8> = CARD.encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(deep.join("wide.bin"), wide).unwrap();
    fs::write(folder.path().join("logs/a"), "nothing").unwrap();
    let output = scan(&folder, &["logs", "nowhere", "--json"]);
    told(&output);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["files"], &report["found"]),
        (&2.into(), &1.into()),
        "{report}"
    );
    let place = serde_json::json!({
        "file": "logs/old/wide.bin", "offset": 0, "encoding": "utf16", "rule": "visa"
    });
    assert_eq!(report["findings"], serde_json::json!([place]));
    assert_eq!(report["unread"][0]["file"], "nowhere");
}

#[test]
fn a_file_that_cant_be_read_is_no_clean_file() {
    let folder = TempDir::new().unwrap();
    let (code, text) = told(&scan(&folder, &["nowhere"]));
    assert_eq!(code, Some(1));
    assert!(text.contains("not read: nowhere"), "{text}");
}

#[test]
fn a_name_that_is_a_number_is_not_printed() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join(CARD), GROUPED).unwrap();
    for arguments in [vec!["."], vec![".", "--json"], vec![CARD]] {
        let (code, text) = told(&scan(&folder, &arguments));
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("[card number withheld]"), "{text}");
    }
}

#[test]
fn a_database_of_ours_is_clean() {
    let folder = TempDir::new().unwrap();
    let cardless = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cardless"));
        let command = command.current_dir(folder.path()).env_clear();
        assert!(command.args(arguments).output().unwrap().status.success());
    };
    cardless(&["init"]);
    for name in ["shop", "desk", "other"] {
        cardless(&["client", "add", name, "--role", "billing"]);
    }
    let (code, text) = told(&scan(&folder, &["."]));
    assert_eq!(code, Some(0), "{text}");
}
