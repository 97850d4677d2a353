//! `import` and `export` with the program itself: between two installations at the same providers,
//! killed on the way, and with what does not belong.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use cardless::exchange::transfer::{Header, Record, Writer};
use cardless::exchange::{PublicKey, SecretKey, Usage};
use cardless::gateway::ExportPart;
use cardless::message::{Amount, Capture, Initiator, PayRequest, PaymentStatus};
use cardless_contract::{Clock as _, SystemClock, SystemEntropy};
use cardless_testkit::opinion;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::people::Desk;
use crate::world::{ACCOUNT, ALL};

/// Records of the file whose import is killed.
const RECORDS: u64 = 1500;

/// A system from before, which writes files for an installation.
struct Before {
    key: SecretKey,
    to: PublicKey,
}

impl Before {
    /// Its public key is in the file `sender` of the installation's folder.
    fn to(desk: &Desk) -> Self {
        let key = SecretKey::generate(Usage::Sign, &SystemEntropy).unwrap();
        let set = keys(desk, "import");
        let to = PublicKey::read_all(&set).unwrap().into_iter();
        let to = to.into_iter().find(|key| key.usage() == Usage::Seal);
        let sender = key.public().to_jwk().to_string();
        std::fs::write(desk.folder.path().join("sender"), sender).unwrap();
        Self {
            key,
            to: to.unwrap(),
        }
    }

    fn write(&self, path: &Path, records: &[Record]) {
        let header = Header {
            from: "the system from before".to_owned(),
            issued_at: SystemClock::default().now().seconds(),
        };
        let entropy = Arc::new(SystemEntropy);
        let (name, key) = ("before-1".to_owned(), self.key.clone());
        let mut writer = Writer::new(name, key, self.to.clone(), entropy);
        let mut text = writer.header(&header).unwrap();
        for part in records.chunks(50) {
            text.push_str(&writer.records(part).unwrap());
        }
        text.push_str(&writer.end().unwrap().0);
        std::fs::write(path, text).unwrap();
    }
}

fn record(account: &str, provider: &str, token: &str) -> Record {
    let (merchant, kind) = match provider {
        "paypal" => ("sandbox", "vault_v3"),
        "postfinance" => ("405", "token"),
        _ => ("1100000000", "alias"),
    };
    Record {
        account: account.to_owned(),
        provider: provider.to_owned(),
        merchant: merchant.to_owned(),
        kind: kind.to_owned(),
        token: Zeroizing::new(token.to_owned()),
        default: false,
        payment_method: None,
    }
}

/// The public keys that a verb prints.
fn keys(desk: &Desk, verb: &str) -> String {
    let (code, out, err) = desk.run(&[verb, "--print-keys"]);
    assert_eq!(code, 0, "{err}");
    out
}

fn json_of(out: &str) -> Value {
    serde_json::from_str(out).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_all_three_providers_move_to_another_installation() {
    let from = Desk::new().await;
    for provider in ALL {
        from.charged(provider).await;
    }
    let to = from.beside();
    std::fs::write(from.folder.path().join("theirs"), keys(&to, "import")).unwrap();
    std::fs::write(to.folder.path().join("sender"), keys(&from, "export")).unwrap();

    let export = ["export", "tokens", "--recipient", "theirs", "--json"];
    let (code, out, err) = from.run(&export);
    assert_eq!(code, 0, "{err}");
    let exported = json_of(&out);
    assert_eq!(exported["records"], 3);
    // To be compared while nothing is lost yet.
    let recipient = exported["recipient"].as_str().unwrap();
    assert!(err.contains(&format!("sealed to {recipient}")), "{err}");
    let file = from.folder.path().join("tokens");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert!(!from.folder.path().join("tokens.partial").exists());
    let (code, _, err) = from.run(&export);
    assert_eq!(code, 1, "a file is never overwritten");
    assert!(err.contains("exists and is left as it is"), "{err}");

    std::fs::copy(&file, to.folder.path().join("tokens")).unwrap();
    let import = ["import", "tokens", "--sender", "sender", "--json"];
    let (code, out, err) = to.run(&[&import[..], &["--dry-run"]].concat());
    assert_eq!((code, &json_of(&out)["imported"]), (0, &json!(3)), "{err}");
    let (code, out, err) = to.run(&import);
    assert_eq!(code, 0, "{err}");
    let report = json_of(&out);
    assert_eq!(report["imported"], 3, "{out}");
    assert_eq!(report["sha256"], exported["sha256"]);
    let (code, out, _) = to.run(&["import", "tokens", "--sender", "sender"]);
    assert_eq!(code, 0);
    assert!(out.contains("already here 3"), "{out}");

    // The customer notices nothing: each of them can be charged where it is now.
    let methods = to.gateway.payment_methods(ACCOUNT).await.unwrap().data;
    assert_eq!(methods.len(), 3);
    assert_eq!(methods.iter().filter(|method| method.default).count(), 1);
    for method in methods {
        let request = PayRequest {
            account: ACCOUNT.to_owned(),
            payment_method: Some(method.id.clone()),
            amount: Amount::new("CHF", 700),
            reference: format!("moved {}", method.provider),
            capture: Capture::Automatic,
            initiator: Initiator::Merchant,
            return_url: None,
            description: None,
        };
        let key = Desk::key(&format!("moved-{}", method.provider));
        let payment = to.gateway.pay(&key, &request).await.unwrap().body;
        assert_eq!(payment.status, PaymentStatus::Captured, "{payment:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_belong_is_refused_by_name_and_never_quoted() {
    let desk = Desk::new().await;
    let before = Before::to(&desk);
    let records = [
        (
            "a-1",
            "aduno",
            "424242SKMPRI4242",
            "token",
            "reveals_digits",
        ),
        (
            "a-1",
            "aduno",
            "70119122433810042000",
            "token",
            "reveals_digits",
        ),
        ("a-1", "aduno", "vGAAAXGnQbrJAAEAAAGQnJCj", "token", "shape"),
        (
            "a-1",
            "paypal",
            "B-7FB31251F28061234",
            "token",
            "other_kind",
        ),
        (
            "a-1",
            "paypal",
            "BA-8A802366G0648845Y",
            "token",
            "other_kind",
        ),
        ("a-1", "paypal", "4111111111111111", "token", "card_number"),
        (
            "a-1",
            "postfinance",
            "5555555555554444",
            "token",
            "card_number",
        ),
        ("a-1", "postfinance", "007", "token", "shape"),
        ("a-1", "postfinance", "old-alias", "token", "shape"),
        (
            "4111-1111-1111-1111",
            "postfinance",
            "17",
            "account",
            "card_number",
        ),
        ("a/1", "postfinance", "17", "account", "malformed"),
    ];
    let mut file: Vec<Record> = records
        .iter()
        .map(|(account, provider, token, ..)| record(account, provider, token))
        .collect();
    file.push(record("a-9", "aduno", "7LHXscqwAAEAAAGQnJCjw96fy0pzAPTN"));
    before.write(&desk.folder.path().join("tokens"), &file);
    let arguments = ["import", "tokens", "--sender", "sender"];
    let (code, out, err) = desk.run(&[&arguments[..], &["--report", "refused", "--json"]].concat());
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("11 of 12 records were refused"), "{err}");
    // Each card number is an alarm, and one only: the file is read twice.
    let numbers = records.iter().filter(|record| record.4 == "card_number");
    let alarms = err.matches("what passes for a card number was refused");
    assert_eq!(alarms.count(), numbers.count(), "{err}");
    let report = json_of(&out);
    assert_eq!(report["imported"], 1);
    let written = std::fs::read_to_string(desk.folder.path().join("refused")).unwrap();
    for (at, line) in written.lines().enumerate() {
        let (.., field, rule) = records[at];
        let expected = json!({"line": 2, "record": at + 1, "field": field, "rule": rule});
        assert_eq!(json_of(line), expected);
        assert_eq!(report["refusals"][at], expected);
    }
    assert_eq!(written.lines().count(), records.len());
    let (code, shown, err2) = desk.run(&arguments);
    assert_eq!(code, 1, "the same again");
    assert!(shown.contains("already here 1"), "{shown}");
    let (_, log, _) = desk.run(&["audit", "list"]);
    let all = format!("{out}{err}{written}{shown}{err2}{log}");
    for (account, _, token, ..) in records {
        assert!(
            !all.contains(token) || token == "17" || token == "007",
            "{token}"
        );
        assert!(!all.contains(account) || account == "a-1", "{account}");
    }
    // A report is never written over, and then nothing is stored either.
    let (code, _, err) = desk.run(&[&arguments[..], &["--report", "refused"]].concat());
    assert_eq!(code, 1);
    assert!(err.contains("refused can't be written"), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_use_says_what_is_wrong() {
    let desk = Desk::new().await;
    let before = Before::to(&desk);
    let folder = desk.folder.path();
    before.write(
        &folder.join("tokens"),
        &[record("a-1", "postfinance", "17")],
    );
    let secret = before.key.to_private_jwk();
    std::fs::write(folder.join("private"), secret.as_bytes()).unwrap();
    std::fs::write(folder.join("garbage"), "no key").unwrap();
    for (arguments, what) in [
        (&["import", "tokens"][..], "--sender"),
        (&["import"], "--sender"),
        (&["export", "out"], "--recipient"),
        (&["import", "tokens", "--sender", "none"], "none"),
        (&["import", "tokens", "--sender", "garbage"], "garbage"),
        (&["import", "tokens", "--sender", "private"], "private key"),
        (&["export", "out", "--recipient", "private"], "private key"),
        (&["export", "out", "--recipient", "sender"], "for sealing"),
        (
            &["import", "none", "--sender", "sender"],
            "none can't be read",
        ),
        (
            &["import", "tokens", "--sender", "sender", "--print-keys"],
            "cannot be used",
        ),
        (
            &["export", "out", "--recipient", "ours", "--after", "x"],
            "after",
        ),
        (
            &["export", "out", "--recipient", "ours", "--limit", "0"],
            "limit",
        ),
    ] {
        std::fs::write(folder.join("ours"), keys(&desk, "import")).unwrap();
        let (code, out, err) = desk.run(arguments);
        assert_eq!(code, 2, "{arguments:?} {out}{err}");
        assert!(err.contains(what), "{arguments:?} {err}");
    }
    assert!(!folder.join("out").exists());
    assert!(!folder.join("out.partial").exists());
    // A file for somebody else, by somebody else, and one that was cut off.
    let whole = std::fs::read(folder.join("tokens")).unwrap();
    std::fs::write(folder.join("cut"), &whole[..whole.len() - 100]).unwrap();
    let stranger = SecretKey::generate(Usage::Sign, &SystemEntropy).unwrap();
    let stranger = stranger.public().to_jwk().to_string();
    std::fs::write(folder.join("stranger"), stranger).unwrap();
    for (file, sender, what) in [
        (
            "cut",
            "sender",
            "Line 3 of the file: it does not end with a line feed",
        ),
        (
            "tokens",
            "stranger",
            "Line 1 of the file: it is signed by none of the sender's keys",
        ),
        ("private", "sender", "Line 1 of the file"),
    ] {
        let (code, _, err) = desk.run(&["import", file, "--sender", sender]);
        assert_eq!(code, 1, "{err}");
        assert!(err.contains(what), "{err}");
        assert!(err.contains("Nothing was stored"), "{err}");
    }
    assert_eq!(desk.store.count_methods().await.unwrap(), 0);
}

/// Waits until this many are stored, or the program has ended.
async fn until_stored(desk: &Desk, child: &mut Child, wanted: u64) {
    while desk.store.count_methods().await.unwrap() < wanted {
        if child.try_wait().unwrap().is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_is_killed_goes_on_and_two_at_once_take_each_record_once() {
    let desk = Desk::new().await;
    let before = Before::to(&desk);
    let records: Vec<Record> = (0..RECORDS)
        .map(|number| {
            let (account, token) = (format!("customer-{}", number % 400), number + 1);
            record(&account, "postfinance", &token.to_string())
        })
        .collect();
    let fits = |record: &&Record| cardless::pan::find(&record.token).is_none();
    assert_eq!(records.iter().filter(fits).count(), records.len());
    // And one that is refused.
    let bad = record("customer-0", "postfinance", "007");
    let all: Vec<Record> = std::iter::once(bad).chain(records).collect();
    before.write(&desk.folder.path().join("tokens"), &all);
    let import = ["import", "tokens", "--sender", "sender"];
    let arguments = [&import[..], &["--report", "refused", "--rate", "400"]].concat();
    for killed in 1..=3 {
        let mut child = desk.start(&arguments);
        until_stored(&desk, &mut child, 200 * killed).await;
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let stored = desk.store.count_methods().await.unwrap();
    assert!((600..RECORDS).contains(&stored), "{stored}");
    assert!(
        !desk.folder.path().join("refused").exists(),
        "it is not whole"
    );
    // Two processes go on with it at once.
    let mut beside = desk.start(&import);
    let (code, out, err) = tokio::task::block_in_place(|| {
        desk.run(&[&import[..], &["--report", "refused", "--json"]].concat())
    });
    assert!(err.contains("1 of 1501 records were refused"), "{err}");
    assert_eq!((code, beside.wait().unwrap().code()), (1, Some(1)), "{err}");
    let refused = std::fs::read_to_string(desk.folder.path().join("refused")).unwrap();
    assert_eq!(refused.lines().count(), 1, "it is begun anew: {refused}");
    assert!(!desk.folder.path().join("refused.unfinished").exists());
    let report = json_of(&out);
    let sum = |name: &str| report[name].as_u64().unwrap();
    assert_eq!(sum("imported") + sum("already_here"), RECORDS);
    assert_eq!(desk.store.count_methods().await.unwrap(), RECORDS);
    let events = desk.store.events(0, 10_000).await.unwrap();
    let told =
        |(_, event): &&(i64, cardless::store::EventRow)| event.kind == "payment_method.imported";
    assert_eq!(
        u64::try_from(events.iter().filter(told).count()).unwrap(),
        RECORDS
    );
    let report = desk.gateway.verify_audit(None, |_| {}).await.unwrap();
    assert!(report.is_whole(), "{report:?}");

    an_export_that_is_killed_goes_on(&desk);
}

/// Killed as soon as there is something new of it, until it ends.
fn an_export_that_is_killed_goes_on(desk: &Desk) {
    let folder = desk.folder.path();
    std::fs::write(folder.join("ours"), keys(desk, "export")).unwrap();
    let (partial, target) = (folder.join("out.partial"), folder.join("out"));
    let length = || partial.metadata().map_or(0, |file| file.len());
    let mut whole = Vec::new();
    for _ in 0..2 {
        let before = length();
        let mut child = desk.start(&["export", "out", "--recipient", "ours"]);
        while length() <= before && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if target.exists() {
            break;
        }
        let left = std::fs::read_to_string(&partial).unwrap();
        whole = left.lines().map(str::to_owned).collect();
        // A JWE has five parts, the mark three.
        let is_whole = |line: &String| line.matches('.').count() == 4;
        if left.ends_with('\n') && whole.iter().all(is_whole) {
            break;
        }
        // The mark, or what was written of the next line.
        whole.pop();
        let (code, _, err) = desk.run(&["import", "out.partial", "--sender", "ours"]);
        assert_eq!(code, 1, "{err}");
        assert!(err.contains("Nothing was stored"), "{err}");
    }
    if !target.exists() {
        let (code, _, err) = desk.run(&["export", "out", "--recipient", "ours"]);
        assert_eq!(code, 0, "{err}");
        // One killed in the middle of a line, or at its end, has no mark behind the lines.
        if err.contains("goes on behind its") {
            let file = std::fs::read_to_string(&target).unwrap();
            let lines: Vec<_> = file.lines().take(whole.len()).collect();
            assert!(lines == whole, "it goes on with the lines that it has");
        } else {
            assert!(err.contains("begins anew"), "{err}");
        }
    }
    assert!(!partial.exists());
    let (code, out, err) = desk.run(&["import", "out", "--sender", "ours", "--dry-run", "--json"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(json_of(&out)["already_here"], RECORDS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_goes_on_with_what_is_left_of_it_and_with_nothing_else() {
    let desk = Desk::new().await;
    for provider in ALL {
        desk.charged(provider).await;
    }
    let folder = desk.folder.path();
    std::fs::write(folder.join("theirs"), keys(&desk, "import")).unwrap();
    let theirs = PublicKey::read_all(&keys(&desk, "import")).unwrap();
    let to = theirs.into_iter().find(|key| key.usage().seals()).unwrap();
    let part = ExportPart::default();
    let mut begun = desk.gateway.export_tokens(&to, &part).await.unwrap();
    let mut lines = Vec::new();
    for _ in 0..2 {
        lines.push(begun.next().await.unwrap().unwrap());
    }
    let left = lines.concat() + &begun.mark().unwrap();
    let partial = folder.join("tokens.partial");
    let export = ["export", "tokens", "--recipient", "theirs", "--json"];

    std::fs::write(&partial, &left).unwrap();
    let (code, out, err) = desk.run(&export);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("goes on behind its 3 tokens"), "{err}");
    assert_eq!(json_of(&out)["records"], 3);
    let file = std::fs::read_to_string(folder.join("tokens")).unwrap();
    assert!(file.starts_with(&lines.concat()));
    assert_eq!(file.lines().count(), 3);
    assert!(!partial.exists());

    std::fs::remove_file(folder.join("tokens")).unwrap();
    std::fs::write(&partial, left.clone() + "and something else\n").unwrap();
    let (code, out, err) = desk.run(&export);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("tokens.partial begins anew"), "{err}");
    assert_eq!(json_of(&out)["records"], 3);
    let file = std::fs::read_to_string(folder.join("tokens")).unwrap();
    assert!(!file.starts_with(&lines[0]));
    assert_eq!(file.lines().count(), 3);
}

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/service/transfer.py");

/// Runs the script once.
fn ask(python: &str, task: &Value) -> Value {
    let mut child = Command::new(python)
        .arg(SCRIPT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(task.to_string().as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{SCRIPT} failed");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_jose_library_reads_and_writes_files() {
    let Some(python) = opinion::python(&[SCRIPT, "probe"], "joserfc") else {
        return;
    };
    let desk = Desk::new().await;
    let before = Before::to(&desk);
    let folder = desk.folder.path();
    let records: Vec<Value> = (1..=120)
        .map(|number| {
            json!({
                "account": format!("customer-{}", number % 50), "provider": "postfinance",
                "merchant": "405", "kind": "token", "token": number.to_string(),
            })
        })
        .collect();
    let private = |key: &SecretKey| json_of(&key.to_private_jwk());
    ask(
        &python,
        &json!({"write": {
            "file": folder.join("tokens"), "key": private(&before.key),
            "recipient": before.to.to_jwk(), "export": "old-1",
            "iat": SystemClock::default().now().seconds(), "records": records,
        }}),
    );
    let (code, out, err) = desk.run(&["import", "tokens", "--sender", "sender", "--json"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(json_of(&out)["imported"], 120);

    let recipient = SecretKey::generate(Usage::Seal, &SystemEntropy).unwrap();
    let jwk = recipient.public().to_jwk().to_string();
    std::fs::write(folder.join("theirs"), jwk).unwrap();
    let (code, out, err) = desk.run(&["export", "out", "--recipient", "theirs", "--json"]);
    assert_eq!(code, 0, "{err}");
    let set = json_of(&keys(&desk, "export"));
    let sender = set["keys"].as_array().unwrap().iter();
    let kid = &json_of(&out)["sender_kid"];
    let sender = sender.clone().find(|key| key["kid"] == *kid).unwrap();
    let read = ask(
        &python,
        &json!({"read": {"file": folder.join("out"), "key": private(&recipient), "sender": sender}}),
    );
    let lines = read["lines"].as_array().unwrap();
    let parts = lines.iter().filter_map(|line| line["records"].as_array());
    let mut tokens: Vec<i64> = parts
        .flatten()
        .map(|record| record["token"].as_str().unwrap().parse().unwrap())
        .collect();
    tokens.sort_unstable();
    assert_eq!(tokens, (1..=120).collect::<Vec<i64>>());
    assert_eq!(lines.last().unwrap()["end"]["records"], 120);
}
