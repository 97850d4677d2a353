//! Another implementation opens what ours sealed, and the other way round: the AWS Encryption SDK
//! for Python. It runs if a Python with the SDK is found (`CARDLESS_PYTHON`, else `python3`), over
//! `CARDLESS_INTEROP_RECORDS` records each way. With `CARDLESS_REQUIRE_INTEROP=1` a missing SDK is
//! a failure.

use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cardless::vault::{Context, Purpose, VaultError};
use cardless_testkit::opinion;
use serde_json::{Value, json};

use crate::common::*;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vault/interop.py");
const SDK: &str = "aws-encryption-sdk[MPL]";
const DEFAULT_RECORDS: usize = 100;
/// The longest text among the records, in bytes.
const LONGEST: usize = 3000;

#[test]
fn the_aws_encryption_sdk_reads_and_writes_our_records() {
    let Some(python) = opinion::python(&[SCRIPT, "probe"], SDK) else {
        return;
    };
    let vault = vault();
    let ours: Vec<Sample> = (0..record_count()).map(Sample::number).collect();
    let to_open: Vec<Value> = ours
        .iter()
        .map(|sample| {
            let sealed = vault.seal(&sample.context(), &sample.plaintext).unwrap();
            json!({"context": sample.pairs(), "message": STANDARD.encode(sealed.bytes)})
        })
        .collect();
    let to_seal: Vec<Value> = ours
        .iter()
        .map(|sample| {
            json!({"context": sample.pairs(), "plaintext": STANDARD.encode(&sample.plaintext)})
        })
        .collect();

    let answer = ask(&python, &json!({"open": to_open, "seal": to_seal}));

    for (sample, opened) in ours.iter().zip(list(&answer, "open")) {
        assert_eq!(bytes(opened, "plaintext"), sample.plaintext, "{opened}");
    }
    for (sample, sealed) in ours.iter().zip(list(&answer, "seal")) {
        let message = bytes(sealed, "message");
        let opened = vault.open(&sample.context(), &message).unwrap();
        assert_eq!(*opened, sample.plaintext);
        let elsewhere = Context {
            record: "elsewhere",
            ..sample.context()
        };
        assert_eq!(
            vault.open(&elsewhere, &message).unwrap_err(),
            VaultError::Opaque
        );
    }
}

#[test]
fn the_aws_encryption_sdk_refuses_our_record_in_another_context() {
    let Some(python) = opinion::python(&[SCRIPT, "probe"], SDK) else {
        return;
    };
    let sample = Sample::number(1);
    let sealed = vault().seal(&sample.context(), &sample.plaintext).unwrap();
    let message = STANDARD.encode(sealed.bytes);
    let moved: Vec<Value> = [
        "account", "provider", "merchant", "record", "purpose", "schema",
    ]
    .into_iter()
    .map(|key| {
        let mut pairs = sample.pairs();
        pairs[key] = json!("elsewhere");
        json!({"context": pairs, "message": message})
    })
    .collect();

    let answer = ask(&python, &json!({"open": moved, "seal": []}));

    assert_eq!(list(&answer, "open").len(), 6);
    for opened in list(&answer, "open") {
        assert!(opened.get("error").is_some(), "{opened}");
    }
}

/// One ciphertext that two keys open is what a format without commitment can be abused by. The SDK
/// makes such a message and reads it; here it is refused, although each key is one of ours.
#[test]
fn a_message_of_the_aws_encryption_sdk_under_two_keys_is_refused() {
    let Some(python) = opinion::python(&[SCRIPT, "probe"], SDK) else {
        return;
    };
    let sample = Sample::number(1);
    let record =
        json!({"context": sample.pairs(), "plaintext": STANDARD.encode(&sample.plaintext)});
    let second = json!({"second_key": STANDARD.encode(OTHER_KEY),
        "second_key_name": OTHER_KEY_NAME});
    let both = |open: Value, seal: Value| {
        let mut work = second.clone();
        (work["open"], work["seal"]) = (open, seal);
        ask(&python, &work)
    };

    let sealed = both(json!([]), json!([record]));
    let message = &list(&sealed, "seal")[0]["message"];
    let context = sample.pairs();
    let opened = both(json!([{"context": context, "message": message}]), json!([]));

    assert_eq!(
        bytes(&list(&opened, "open")[0], "plaintext"),
        sample.plaintext
    );
    let message = STANDARD.decode(message.as_str().unwrap()).unwrap();
    let ours = vault_of(&key_file(&[
        generation(KEY_NAME, "active", &KEY),
        generation(OTHER_KEY_NAME, "retiring", &OTHER_KEY),
    ]));
    assert_eq!(
        ours.open(&sample.context(), &message).unwrap_err(),
        VaultError::Opaque
    );
}

/// A record's text and place, different for every number.
struct Sample {
    account: String,
    merchant: String,
    record: String,
    provider: &'static str,
    purpose: Purpose,
    plaintext: Vec<u8>,
}

impl Sample {
    fn number(n: usize) -> Self {
        let providers = ["postfinance", "paypal", "aduno", "-"];
        let purposes = [
            Purpose::Token,
            Purpose::Account,
            Purpose::Redirect,
            Purpose::Answer,
        ];
        Self {
            account: format!("account-{n}"),
            merchant: if n.is_multiple_of(3) {
                "-".to_owned()
            } else {
                format!("Händler {n}")
            },
            record: format!("pm_{n}"),
            provider: providers[n % providers.len()],
            purpose: purposes[n / 4 % purposes.len()],
            plaintext: (0..n * 37 % LONGEST)
                .map(|i| (i * 31 + n).to_le_bytes()[0])
                .collect(),
        }
    }

    fn context(&self) -> Context<'_> {
        Context {
            account: &self.account,
            provider: self.provider,
            merchant: &self.merchant,
            record: &self.record,
            purpose: self.purpose,
        }
    }

    /// The context as the other implementation is given it.
    fn pairs(&self) -> Value {
        json!({
            "account": self.account,
            "provider": self.provider,
            "merchant": self.merchant,
            "record": self.record,
            "purpose": self.purpose.as_str(),
            "schema": "1",
        })
    }
}

fn record_count() -> usize {
    std::env::var("CARDLESS_INTEROP_RECORDS")
        .map_or(DEFAULT_RECORDS, |count| count.parse().unwrap())
}

/// Runs the script once over `work`.
fn ask(python: &str, work: &Value) -> Value {
    let mut task = json!({
        "namespace": "cardless",
        "key_name": KEY_NAME,
        "key": STANDARD.encode(KEY),
        "frame_length": cardless::vault::Vault::MAX_PLAINTEXT_BYTES,
    });
    for (name, value) in work.as_object().unwrap() {
        task[name] = value.clone();
    }
    let mut child = Command::new(python)
        .arg(SCRIPT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The script reads all of its input before it writes, so neither end can block the other.
    child
        .stdin
        .take()
        .unwrap()
        .write_all(task.to_string().as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{SCRIPT} failed: {}",
        output.status
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn list<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    answer[name].as_array().unwrap()
}

fn bytes(value: &Value, name: &str) -> Vec<u8> {
    STANDARD
        .decode(value[name].as_str().unwrap_or_default())
        .unwrap()
}
