//! `rotate keys` with the program itself, on one database file beside a gateway that charges; the
//! passphrase of the key file; and that no core dump can hold a key.

use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use cardless::store::{Change, RecordRow, SealedColumn};
use cardless::vault::{Context, KeyRing, Purpose, Vault};
use cardless_contract::{SystemEntropy, Timestamp};
use serde_json::Value;
use tempfile::TempDir;

use crate::people::Desk;
use crate::rotation::{killed_beside_payments, pay};
use crate::world::ACCOUNT;

/// How many records there are beside the one that is charged.
const RECORDS: usize = 2000;

fn token(account: &str, id: &str) -> Context<'static> {
    Context {
        account: account.to_owned().leak(),
        provider: "paypal",
        merchant: "m",
        record: id.to_owned().leak(),
        purpose: Purpose::Token,
    }
}

fn vault(desk: &Desk) -> Vault {
    let keys = KeyRing::load(&desk.folder.path().join("cardless.keys")).unwrap();
    Vault::new(keys, Arc::new(SystemEntropy))
}

/// Records of the account that pays; each holds its own id.
async fn fill(desk: &Desk, linked: &str) -> String {
    let account = desk.store.method(linked).await.unwrap().unwrap().account;
    let vault = vault(desk);
    let mut batch = Vec::new();
    for number in 0..RECORDS {
        let id = format!("rec_{number}");
        let sealed = vault.seal(&token(&account, &id), id.as_bytes()).unwrap();
        batch.push(Change::InsertRecord(RecordRow {
            id,
            account: account.clone(),
            provider: "paypal".to_owned(),
            merchant: "m".to_owned(),
            generation: sealed.generation,
            sealed: sealed.bytes,
            created_at: Timestamp::from_seconds(1),
        }));
    }
    desk.store.apply(batch).await.unwrap();
    account
}

/// Killed three times, beside payments, and with another that wants to begin meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_rotated_while_payments_go_on_and_the_program_is_killed() {
    let desk = Desk::new().await;
    let linked = desk.charged("paypal").await.payment_method.unwrap();
    let account = fill(&desk, &linked).await;
    let counts = desk.store.count_sealed().await.unwrap();
    let all: u64 = counts.iter().map(|(_, _, count)| count).sum();
    let slowly = ["rotate", "keys", "--rate", "500"];
    let finish = ["rotate", "keys", "--json"];
    let (paid, (code, out, err)) = killed_beside_payments(&desk, &slowly, 450, &finish).await;
    assert_eq!(code, 0, "{err}");
    assert!(paid > 0);
    // The last one that was killed may still live, for all that the next one knows.
    assert!(err.contains("waits until"), "{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&report["resumed"], &report["unopened"]),
        (&true.into(), &0.into())
    );
    assert!(report["resealed"].as_u64().unwrap() < all, "{out}");

    // Nothing is lost, all of it opens, and names the one new generation.
    let generation = report["generation"].as_str().unwrap();
    let vault = vault(&desk);
    assert_eq!(vault.active_id(), generation);
    let rows = desk
        .store
        .sealed(SealedColumn::Record, generation, 0, u32::MAX);
    let rows = rows.await.unwrap();
    assert_eq!(rows.len(), RECORDS + 1);
    for row in rows.iter().filter(|row| row.merchant == "m") {
        let opened = vault.open(&token(&account, &row.id), &row.bytes).unwrap();
        assert_eq!(*opened, row.id.as_bytes());
    }
    let counts = desk.store.count_sealed().await.unwrap();
    assert!(
        counts.iter().all(|(_, found, _)| found == generation),
        "{counts:?}"
    );

    let (code, out, _) = desk.run(&["rotate", "status", "--json"]);
    let status: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0);
    assert_eq!(status["rotations"][0]["kind"], "keys");
    assert_eq!(status["keys"]["generations"][1]["state"], "retiring");
    assert_eq!(status["keys"]["generations"][1]["sealed"], 0);
    let (code, out, err) = desk.run(&["rotate", "keys", "--destroy-retired"]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("1 records sealed under them while their keys were here are refused now"),
        "{out}"
    );
    assert!(
        out.contains("Copies of the key file still hold them"),
        "{out}"
    );
    pay(&desk.gateway, paid).await;
    let (code, out, _) = desk.run(&["rotate", "status"]);
    assert_eq!(code, 0);
    assert!(out.contains("destroyed") && out.contains("gone"), "{out}");
}

/// The database is put back as it was before the keys were rotated and the old ones destroyed; the
/// key file is today's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_backup_from_before_a_destroyed_generation_is_refused() {
    let desk = Desk::new().await;
    desk.charged("paypal").await;
    let place = |name: &str| desk.folder.path().join(name);
    let copy = rusqlite::Connection::open(place("cardless.db")).unwrap();
    let backup = place("backup.db");
    copy.execute("VACUUM INTO ?1", [backup.to_str().unwrap()])
        .unwrap();
    drop(copy);
    let restored = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cardless"));
        command
            .current_dir(desk.folder.path())
            .args(arguments)
            .env_clear()
            .env("CARDLESS__STORE__URL", "sqlite:backup.db")
            .env("CARDLESS__SERVICE__LISTEN", "127.0.0.1:0");
        let output: Output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let opening = ["payment", "list", "--json"];
    // While the old key exists, the backup is good.
    assert_eq!(desk.run(&["rotate", "keys"]).0, 0);
    let (code, said) = restored(&opening);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(ACCOUNT), "{said}");

    assert_eq!(desk.run(&["rotate", "keys", "--destroy-retired"]).0, 0);
    for arguments in [&["serve"][..], &["check"], &opening, &["rotate", "keys"]] {
        let (code, said) = restored(arguments);
        assert_eq!(code, Some(1), "{arguments:?} {said}");
        let gone = said.contains("can't be opened any more") || said.contains("does not open");
        assert!(gone && !said.contains(ACCOUNT), "{arguments:?} {said}");
    }
    // Today's database is as good as ever.
    let (code, out, err) = desk.run(&opening);
    assert_eq!((code, out.contains(ACCOUNT)), (0, true), "{err}");
}

/// A person takes the old key out, as of a mounted secret; then there is a proof only if a sample of it
/// was kept, and the program says so either way.
#[test]
fn a_key_that_somebody_else_took_out_is_proven_gone_or_said_not_to_be() {
    for (kept, json, says) in [
        (
            true,
            false,
            "1 records sealed under them while their keys were here are refused now",
        ),
        (true, true, "\"refused\":1,\"untried\":[]"),
        (false, false, "not proven of kek_"),
        (false, true, "\"refused\":0,\"untried\":[\"kek_"),
    ] {
        let folder = TempDir::new().unwrap();
        let place = |name: &str| folder.path().join(name);
        let run = |arguments: &[&str]| {
            let (code, out, err) = under(&folder, "", arguments);
            assert_eq!(code, 0, "{err}");
            out
        };
        run(&["init"]);
        run(&["client", "list"]);
        run(&["rotate", "keys"]);
        let destroy = ["rotate", "keys", "--destroy-retired"];
        run(&[&destroy[..], &["--write-to", "new.keys"]].concat());
        std::fs::copy(place("cardless.keys"), place("copy")).unwrap();
        std::fs::rename(place("new.keys"), place("cardless.keys")).unwrap();
        for (arguments, says) in [
            (&["rotate", "status"][..], "gone, not proven"),
            (&["rotate", "status"], "is not among the keys any more"),
            (
                &["scope", "--format", "json"],
                "gone from the keys, not proven",
            ),
        ] {
            let out = run(arguments);
            assert!(out.contains(says), "{arguments:?}: {out}");
        }
        if !kept {
            let database = rusqlite::Connection::open(place("cardless.db")).unwrap();
            let spoil = "UPDATE generations SET sample = NULL";
            assert_eq!(database.execute(spoil, []).unwrap(), 2);
        }
        let more: &[&str] = if json { &["--json"] } else { &[] };
        let out = run(&[&destroy[..], more].concat());
        let out = if json {
            out.replace([' ', '\n'], "")
        } else {
            out
        };
        assert!(out.contains(says), "{out}");
        assert!(!out.contains("0 records"), "{out}");
        // Nor is it called proven afterwards.
        let status: Value = serde_json::from_str(&run(&["rotate", "status", "--json"])).unwrap();
        assert_eq!(status["keys"]["generations"][1]["tried"], kept);
        let status = run(&["rotate", "status"]);
        assert_eq!(status.contains("gone, not tried"), !kept, "{status}");
        let scope = run(&["scope", "--format", "json"]);
        assert_eq!(
            scope.contains("\"gone from the keys, not tried 2"),
            !kept,
            "{scope}"
        );
        assert_eq!(scope.contains("\"destroyed 2"), kept, "{scope}");
        let lines: Value = serde_json::from_str(&run(&["audit", "list", "--json"])).unwrap();
        let mut lines = lines["data"].as_array().unwrap().iter();
        let line = lines.find(|line| line["action"] == "rotate.keys.destroy");
        let tried = &line.unwrap()["details"]["tried"];
        assert_eq!(tried, if kept { "true" } else { "false" });
    }
}

/// Killed after the key was taken away, and before anything was proven or the old file overwritten.
#[test]
fn a_destruction_that_was_killed_is_not_called_the_end_of_a_key() {
    let folder = TempDir::new().unwrap();
    let place = |name: &str| folder.path().join(name);
    let run = |arguments: &[&str]| {
        let (code, out, err) = under(&folder, "", arguments);
        assert_eq!(code, 0, "{err}");
        out
    };
    let destroy = ["rotate", "keys", "--destroy-retired"];
    run(&["init"]);
    run(&["client", "list"]);
    run(&["rotate", "keys"]);
    run(&[&destroy[..], &["--write-to", "new.keys"]].concat());
    std::fs::rename(place("cardless.keys"), place("cardless.keys.replaced")).unwrap();
    std::fs::rename(place("new.keys"), place("cardless.keys")).unwrap();
    let database = rusqlite::Connection::open(place("cardless.db")).unwrap();
    let mark = "UPDATE generations SET state = 'destroyed' WHERE state = 'retiring'";
    assert_eq!(database.execute(mark, []).unwrap(), 1);
    drop(database);

    let out = run(&["rotate", "status"]);
    assert!(
        out.contains("gone, not proven: run --destroy-retired"),
        "{out}"
    );
    assert!(out.contains("cardless.keys.replaced"), "{out}");
    let status: Value = serde_json::from_str(&run(&["rotate", "status", "--json"])).unwrap();
    let warnings = status["keys"]["warnings"].to_string();
    for says in ["nothing has proven", "cardless.keys.replaced"] {
        assert!(warnings.contains(says), "{warnings}");
    }
    let scope = run(&["scope", "--format", "json"]);
    assert!(
        scope.contains("\"gone from the keys, not proven"),
        "{scope}"
    );

    let out = run(&destroy);
    assert!(out.contains("are refused now"), "{out}");
    assert!(!place("cardless.keys.replaced").exists());
    let out = run(&["rotate", "status"]);
    assert!(
        !out.contains("not proven") && !out.contains("warning"),
        "{out}"
    );
}

const PASSPHRASE: &str = "CARDLESS__KEYS__PASSPHRASE";

fn under(folder: &TempDir, passphrase: &str, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cardless"));
    command
        .current_dir(folder.path())
        .args(arguments)
        .env_clear();
    if !passphrase.is_empty() {
        command.env(PASSPHRASE, passphrase);
    }
    let output: Output = command.output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn a_key_file_is_made_opened_and_put_under_another_passphrase() {
    let folder = TempDir::new().unwrap();
    let keys = folder.path().join("cardless.keys");
    let text = || std::fs::read_to_string(&keys).unwrap();
    let (code, out, err) = under(&folder, "canary-one", &["init"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("under the passphrase"), "{out}");
    let first = text();
    assert!(
        !first.contains("[[generation]]") && !first.contains("canary"),
        "{first}"
    );

    let list = ["client", "list"];
    assert_eq!(under(&folder, "canary-one", &list).0, 0);
    for (passphrase, says) in [
        ("", "give it in the setting `keys.passphrase`"),
        ("canary-two", "does not open the key file"),
    ] {
        let (code, _, err) = under(&folder, passphrase, &list);
        assert_eq!(code, 2, "{err}");
        assert!(err.contains(says) && !err.contains("canary"), "{err}");
    }

    // Another one: both are given, the new one first.
    let both = r#"["canary-two", "canary-one"]"#;
    let rewrite = ["rotate", "keys", "--rewrite-file", "--json"];
    let (code, out, err) = under(&folder, both, &rewrite);
    assert_eq!(code, 0, "{err}");
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(said["rewritten"], "cardless.keys");
    let copy = ["rotate", "keys", "--write-to", "copy", "--json"];
    let (code, out, err) = under(&folder, both, &copy);
    assert_eq!(code, 0, "{err}");
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(said["written"], "copy");
    assert_ne!(text(), first);
    assert_eq!(under(&folder, "canary-one", &list).0, 2);
    assert_eq!(under(&folder, "canary-two", &["rotate", "keys"]).0, 0);
    assert_eq!(
        under(
            &folder,
            "canary-two",
            &["rotate", "keys", "--destroy-retired"]
        )
        .0,
        0
    );
    assert!(!text().contains("[[generation]]"));
}

#[test]
fn a_plain_key_file_is_put_under_the_passphrase_when_it_is_written() {
    let folder = TempDir::new().unwrap();
    let keys = folder.path().join("cardless.keys");
    assert_eq!(under(&folder, "", &["init"]).0, 0);
    assert_eq!(under(&folder, "", &["client", "list"]).0, 0);
    let (code, out, _) = under(&folder, "canary", &["rotate", "status"]);
    assert_eq!(code, 0);
    assert!(out.contains("--rewrite-file"), "{out}");
    assert_eq!(under(&folder, "canary", &["rotate", "keys"]).0, 0);
    let (_, out, _) = under(&folder, "canary", &["rotate", "status"]);
    assert!(!out.contains("--rewrite-file"), "{out}");
    assert!(
        std::fs::read_to_string(keys)
            .unwrap()
            .contains("[passphrase]")
    );
    assert_eq!(under(&folder, "", &["client", "list"]).0, 2);
}

/// As Kubernetes mounts a secret for a pod with `fsGroup`: it belongs to root, the pod's group may read
/// it, and nobody may write there.
#[cfg(target_os = "linux")]
#[test]
fn the_keys_of_a_mounted_secret_are_rotated_by_a_pod_that_is_not_root() {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    use std::os::unix::process::CommandExt as _;
    use std::path::Path;
    const TEST: &str = "the_keys_of_a_mounted_secret_are_rotated_by_a_pod_that_is_not_root";
    const POD: u32 = 65_534;
    let mode = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let folder = TempDir::new().unwrap();
    if chown(folder.path(), Some(POD), Some(POD)).is_err() {
        println!("{TEST}: skipped, only root can give a file to somebody else");
        return;
    }
    chown(folder.path(), Some(0), Some(0)).unwrap();
    let place = |name: &str| folder.path().join(name);
    let binary = place("cardless");
    std::fs::copy(env!("CARGO_BIN_EXE_cardless"), &binary).unwrap();
    mode(folder.path(), 0o755);
    for name in ["secret", "data"] {
        std::fs::create_dir(place(name)).unwrap();
        mode(&place(name), 0o755);
    }
    chown(place("data"), Some(POD), Some(POD)).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&binary);
        command
            .current_dir(place("data"))
            .args(arguments)
            .env_clear()
            .env("CARDLESS__KEYS__FILE", place("secret/cardless.keys"))
            .uid(POD)
            .gid(POD);
        let output: Output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    // What a person does who has the keys elsewhere.
    let mount = |from: &Path| {
        let mounted = place("secret/cardless.keys");
        std::fs::rename(from, &mounted).unwrap();
        chown(&mounted, Some(0), Some(POD)).unwrap();
        mode(&mounted, 0o440);
    };
    assert_eq!(under(&folder, "", &["init"]).0, 0);
    std::fs::rename(place("cardless.toml"), place("data/cardless.toml")).unwrap();
    mode(&place("data/cardless.toml"), 0o644);
    mount(&place("cardless.keys"));

    let done = |arguments: &[&str]| {
        let (code, said) = run(arguments);
        assert_eq!(code, Some(0), "{arguments:?} {said}");
        said
    };
    done(&["client", "list"]);
    let (code, said) = run(&["rotate", "keys"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("--write-to FILE"), "{said}");
    for verb in [
        &["rotate", "keys"][..],
        &["rotate", "keys", "--destroy-retired"],
    ] {
        done(&[verb, &["--write-to", "new.keys"]].concat());
        mount(&place("data/new.keys"));
        done(verb);
    }
    let said = done(&["rotate", "status"]);
    assert!(
        said.contains("destroyed") && !said.contains("warning"),
        "{said}"
    );

    // What everybody can read is none, and nobody can change the mode there.
    mode(&place("secret/cardless.keys"), 0o444);
    let (code, said) = run(&["client", "list"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("defaultMode: 0440") && !said.contains("chmod"),
        "{said}"
    );
    mode(&place("secret/cardless.keys"), 0o400);
    let (code, said) = run(&["client", "list"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("mounted, to a group of that user"), "{said}");
}

#[cfg(all(feature = "sandbox", target_os = "linux"))]
#[tokio::test]
async fn no_core_dump_can_hold_a_key() {
    use std::io::{BufRead as _, BufReader};
    let desk = Desk::new().await;
    let mut child = Command::new(env!("CARGO_BIN_EXE_cardless"))
        .current_dir(desk.folder.path())
        .args(["serve"])
        .env_clear()
        .env("CARDLESS__SERVICE__LISTEN", "127.0.0.1:0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id()));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(line.contains("cardless listens"), "{line}");
    let limits = limits.unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let numbers: Vec<&str> = core.unwrap().split_whitespace().skip(4).take(2).collect();
    assert_eq!(numbers, ["0", "0"], "{limits}");
}
