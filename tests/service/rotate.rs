//! `rotate` with the program itself, on one database file beside a gateway that charges.

use std::collections::BTreeSet;

use cardless::gateway::Gateway;
use cardless::message::EventQuery;
use cardless::store::{Change, MethodRow, MethodState, RecordRow};
use cardless_contract::Timestamp;
use serde_json::Value;

use crate::people::Desk;
use crate::rotation::killed_beside_payments;
use crate::world::ACCOUNT;

/// How many methods there are beside the one that is charged.
const METHODS: usize = 900;

/// Methods that are never charged, so what is sealed does not matter.
async fn fill(desk: &Desk, linked: &str) {
    let at = Timestamp::from_seconds(1);
    let account = desk.store.method(linked).await.unwrap().unwrap().account;
    let generation = active(&desk.gateway).await;
    let mut batch = Vec::new();
    for number in 0..METHODS {
        let letters: String = format!("{number:020}")
            .bytes()
            .map(|digit| char::from(digit - b'0' + b'a'))
            .collect();
        let id = format!("pm_{letters}");
        let record = format!("rec_{letters}");
        batch.push(Change::InsertRecord(RecordRow {
            id: record.clone(),
            account: account.clone(),
            provider: "paypal".to_owned(),
            merchant: "m".to_owned(),
            generation: generation.clone(),
            sealed: Vec::new(),
            created_at: at,
        }));
        batch.push(Change::InsertMethod(MethodRow {
            handle: id.clone(),
            id,
            account: account.clone(),
            provider: "paypal".to_owned(),
            record: Some(record),
            state: MethodState::Active,
            default: false,
            created_at: at,
            next_at: None,
            attempts: 0,
            version: 0,
        }));
    }
    desk.store.apply(batch).await.unwrap();
}

/// The key generation that seals.
async fn active(gateway: &Gateway) -> String {
    let report = gateway.keys().await.unwrap();
    report.generations.into_iter().next().unwrap().id
}

/// Old and new handle of every event that tells them.
async fn told(gateway: &Gateway) -> Vec<(String, String)> {
    let mut told = Vec::new();
    let mut query = EventQuery::default();
    loop {
        let page = gateway.events(query.after.as_deref(), 100).await.unwrap();
        for event in page.data {
            if let Some(old) = event.data.replaces {
                told.push((old, event.data.payment_method.unwrap()));
            }
        }
        query.after = page.next;
        if query.after.is_none() {
            return told;
        }
    }
}

/// Killed three times, beside payments, and with another that wants to begin meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handles_are_rotated_while_payments_go_on_and_the_program_is_killed() {
    let desk = Desk::new().await;
    let linked = desk.charged("paypal").await.payment_method.unwrap();
    fill(&desk, &linked).await;
    let slowly = ["rotate", "handles", "--overlap", "2d", "--rate", "300"];
    let finish = ["rotate", "handles", "--json"];
    let (paid, (code, out, err)) = killed_beside_payments(&desk, &slowly, 200, &finish).await;
    assert_eq!(code, 0, "{err}");
    assert!(paid > 0);
    let report: Value = serde_json::from_str(&out).unwrap();
    let all = METHODS + 1;
    assert_eq!(report["rotation"]["done"], all);
    assert_eq!(report["overlap_seconds"], 2 * 24 * 3600);
    assert_eq!(report["old_handles"]["live"], all);

    let told = told(&desk.gateway).await;
    let old: BTreeSet<&String> = told.iter().map(|(old, _)| old).collect();
    assert_eq!((told.len(), old.len()), (all, all), "each once");
    let (_, new) = told.iter().find(|(old, _)| *old == linked).unwrap();
    let methods = desk.gateway.payment_methods(ACCOUNT).await.unwrap().data;
    assert!(
        methods
            .iter()
            .any(|method| method.default && method.id == *new)
    );

    let (code, out, _) = desk.run(&["rotate", "status", "--json"]);
    let status: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &status["rotations"][0]["kind"]),
        (0, &"handles".into())
    );
    let (code, out, _) = desk.run(&["rotate", "status"]);
    assert_eq!(code, 0);
    assert!(out.contains(&format!("{all} of {all}")), "{out}");
}

#[tokio::test]
async fn an_overlap_or_a_rate_that_is_none_is_refused() {
    let desk = Desk::new().await;
    for wrong in [
        &["rotate", "handles", "--overlap", "soon"][..],
        &["rotate", "handles", "--overlap", "400d"],
        &["rotate", "handles", "--rate", "0"],
    ] {
        let (code, _, err) = desk.run(wrong);
        assert_eq!(code, 2, "{wrong:?} {err}");
    }
    let (code, out, _) = desk.run(&["rotate", "status"]);
    assert_eq!(code, 0);
    assert!(out.contains("nothing was rotated yet"), "{out}");
}

#[test]
fn an_api_key_is_renewed_with_an_overlap_at_the_command_line() {
    let folder = tempfile::TempDir::new().unwrap();
    let run = |arguments: &[&str]| crate::people::run(&folder, arguments);
    assert_eq!(run(&["init"]).0, 0);
    let (_, out, _) = run(&["client", "add", "shop", "--role", "billing", "--json"]);
    let added: Value = serde_json::from_str(&out).unwrap();
    let (code, out, err) = run(&["client", "renew", "shop", "--overlap", "7d", "--json"]);
    assert_eq!(code, 0, "{err}");
    let renewed: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&renewed["name"], &renewed["role"]),
        (&added["name"], &added["role"])
    );
    assert_ne!(renewed["api_key"], added["api_key"]);
    let (_, out, _) = run(&["client", "list", "--json"]);
    let listed: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        listed["data"][0]["api_keys"][1]["ends_at"],
        renewed["old_key_ends_at"]
    );
    let (code, _, err) = run(&["client", "renew", "shop"]);
    assert_eq!(code, 1);
    assert!(err.contains("two live API keys"), "{err}");
    let (code, out, _) = run(&["client", "renew", "shop", "--overlap", "0"]);
    assert_eq!(code, 0);
    assert!(out.lines().last().unwrap().starts_with("ck_"), "{out}");
    let (_, out, _) = run(&["client", "list"]);
    assert!(!out.contains("an older one"), "{out}");
}

#[test]
fn the_status_shows_ages_and_numbers_and_no_secret() {
    let folder = tempfile::TempDir::new().unwrap();
    let run = |arguments: &[&str]| crate::people::run(&folder, arguments);
    assert_eq!(run(&["init"]).0, 0);
    let path = folder.path().join("cardless.toml");
    let mut settings = std::fs::read_to_string(&path).unwrap();
    settings.push_str(
        "[events]\nurl = \"https://canary.example/\"\nsecret = { env = \"CANARY\" }\n\
         [providers.aduno]\npassword = [\"canary-new\", { file = \"canary-old\" }]\n",
    );
    std::fs::write(&path, settings).unwrap();
    assert_eq!(run(&["client", "add", "shop", "--role", "billing"]).0, 0);
    assert_eq!(run(&["client", "add", "gone", "--role", "billing"]).0, 0);
    assert_eq!(run(&["client", "revoke", "gone"]).0, 0);
    let (code, out, err) = run(&["client", "renew", "shop"]);
    assert_eq!(code, 0, "{err}");
    let key = out.lines().last().unwrap().to_owned();

    let (code, out, err) = run(&["rotate", "status", "--json"]);
    assert_eq!(code, 0, "{err}");
    assert!(!out.contains("canary") && !out.contains(&key), "{out}");
    let status: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(status["clients"].as_array().unwrap().len(), 1);
    assert!(status["clients"][0]["api_keys"][1]["ends_at"].is_string());
    let wanted = serde_json::json!([
        { "setting": "providers.aduno.password", "live": 2 },
        { "setting": "events.secret", "live": 1 },
    ]);
    assert_eq!(status["secrets"], wanted);
    let (code, out, _) = run(&["rotate", "status"]);
    assert_eq!(code, 0);
    assert!(!out.contains("canary") && !out.contains(&key), "{out}");
    for shown in [
        "providers.aduno.password",
        "the first",
        "an older one until",
    ] {
        assert!(out.contains(shown), "{shown}: {out}");
    }
}
