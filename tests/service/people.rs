//! What a person does at the command line, with the program itself, the three providers of the
//! sandbox, and one database file.

use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use cardless::config::{Environment, Settings};
use cardless::gateway::{Gateway, RequestKey};
use cardless::message::{
    Amount, Capture, CaptureRequest, Initiator, LinkRequest, PayRequest, Payment, PaymentStatus,
    RefundRequest, VoidRequest,
};
use cardless::registry;
use cardless::store::{Change, DeadEventRow, PaymentRow, PaymentState, Store};
use cardless::vault::KeyRing;
use cardless_contract::{Clock, SystemClock};
use cardless_sandbox::{Addresses, Running, Sandbox, Servers};
use cardless_testkit::overheard::Overheard;
use http::header;
use tempfile::TempDir;

use crate::world::{ACCOUNT, ALL};

pub(crate) struct Desk {
    pub(crate) folder: TempDir,
    settings: Settings,
    pub(crate) gateway: Gateway,
    pub(crate) store: Arc<dyn Store>,
    /// The sandbox, if it is this installation's own.
    _servers: Option<Running>,
    /// It listens to this process only.
    #[expect(dead_code, reason = "it judges when it goes")]
    heard: Overheard,
}

impl Desk {
    pub(crate) async fn new() -> Self {
        let sandbox = Sandbox::new(Arc::new(SystemClock::default()));
        let servers = Servers::start(sandbox, Addresses::free()).await.unwrap();
        let folder = TempDir::new().unwrap();
        assert_eq!(run(&folder, &["init"]).0, 0);
        let path = folder.path().join("cardless.toml");
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str(&cardless_sandbox::print_settings(servers.addresses()));
        Self::at(folder, &text, Some(servers))
    }

    /// The program with these arguments, on its way and unheard.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_cardless"))
            .current_dir(self.folder.path())
            .args(arguments)
            .env_clear()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Another installation, with keys and a store of its own, at the same providers.
    pub(crate) fn beside(&self) -> Self {
        let folder = TempDir::new().unwrap();
        assert_eq!(run(&folder, &["init"]).0, 0);
        let text = std::fs::read_to_string(self.folder.path().join("cardless.toml")).unwrap();
        Self::at(folder, &text, None)
    }

    fn at(folder: TempDir, text: &str, servers: Option<Running>) -> Self {
        let heard = Overheard::default();
        heard.settings(text);
        let path = folder.path().join("cardless.toml");
        std::fs::write(&path, text).unwrap();
        // The program runs in the folder; this process does not.
        let url = format!("sqlite:{}", folder.path().join("cardless.db").display());
        let environment = [("CARDLESS__STORE__URL".to_owned(), url)];
        let settings = Settings::load(Some(&path), &Environment::from_iter(environment)).unwrap();
        let store = registry::store(&settings).unwrap();
        let keys = KeyRing::load(&folder.path().join("cardless.keys")).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let mut builder = Gateway::builder().store(Arc::clone(&store)).keys(keys);
        for provider in registry::providers(&settings, &clock).unwrap() {
            builder = builder.provider(provider);
        }
        let key_file = std::fs::read_to_string(folder.path().join("cardless.keys"));
        heard.settings(&key_file.unwrap());
        Self {
            gateway: builder.build().unwrap(),
            folder,
            settings,
            store,
            heard,
            _servers: servers,
        }
    }

    pub(crate) fn key(name: &str) -> RequestKey {
        RequestKey::new("shop", name).unwrap()
    }

    /// A captured charge with a method of its own.
    pub(crate) async fn charged(&self, provider: &str) -> Payment {
        let request = LinkRequest {
            account: ACCOUNT.to_owned(),
            provider: provider.to_owned(),
            return_url: "https://shop.example/back".to_owned(),
            language: None,
            amount: None,
            reference: None,
            capture: None,
        };
        let key = Self::key(&format!("link-{provider}"));
        let setup = self.gateway.link(&key, &request).await.unwrap().body;
        let page = http::Request::post(setup.redirect_url.unwrap())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body("decision=approve".into());
        let http = registry::client(&self.settings).unwrap();
        assert_eq!(http.send(page.unwrap()).await.unwrap().status(), 303);
        let setup = self.gateway.complete_link(&setup.id).await.unwrap();
        let request = PayRequest {
            account: ACCOUNT.to_owned(),
            payment_method: setup.payment_method,
            amount: Amount::new("CHF", 4990),
            reference: format!("invoice {provider}"),
            capture: Capture::Automatic,
            initiator: Initiator::Merchant,
            return_url: None,
            description: None,
        };
        let key = Self::key(&format!("pay-{provider}"));
        let payment = self.gateway.pay(&key, &request).await.unwrap().body;
        assert_eq!(payment.status, PaymentStatus::Captured, "{payment:?}");
        payment
    }

    async fn change(&self, id: &str, change: impl FnOnce(&mut PaymentRow)) {
        let mut row = self.store.payment(id).await.unwrap().unwrap();
        change(&mut row);
        let change = vec![Change::UpdatePayment(row)];
        self.store.apply(change).await.unwrap();
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        run(&self.folder, arguments)
    }
}

/// Exit code, standard output and standard error of the program.
pub(crate) fn run(folder: &TempDir, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cardless"));
    command.current_dir(folder.path()).args(arguments);
    let output: Output = command.env_clear().output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_finds_ends_and_compares_at_the_command_line() {
    let desk = Desk::new().await;
    let mut ids = Vec::new();
    for provider in ALL {
        ids.push(desk.charged(provider).await.id);
    }
    let refund = RefundRequest {
        account: ACCOUNT.to_owned(),
        amount: Some(Amount::new("CHF", 500)),
    };
    let key = Desk::key("refund");
    desk.gateway.refund(&key, &ids[1], &refund).await.unwrap();

    // The books fit.
    let (code, out, err) = desk.run(&["reconcile", "--verify"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(
        out.contains("compared 3, differences 0, not read 0"),
        "{out}"
    );

    // A cent that is missing is shown, by all three.
    for (id, provider) in ids.iter().zip(ALL) {
        desk.change(id, |row| row.captured -= 1).await;
        let (code, out, err) = desk.run(&["reconcile", "--verify"]);
        assert_eq!(code, 1, "{out}");
        assert!(err.contains("differ in 1 points"), "{err}");
        for part in [id.as_str(), provider, "captured", "CHF 49.89", "CHF 49.90"] {
            assert!(out.contains(part), "{part}: {out}");
        }
        let (code, json, _) = desk.run(&["reconcile", "--verify", "--json"]);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (code, &json["differences"][0]["what"]),
            (1, &"captured".into())
        );
        desk.change(id, |row| row.captured += 1).await;
    }

    // What is parked is found, with its id at the provider and the place to look.
    let (code, out, _) = desk.run(&["payment", "list", "--status", "parked", "--json"]);
    assert_eq!((code, out.contains("\"data\": []")), (0, true), "{out}");
    for (id, place) in ids.iter().zip(["PostFinance", "PayPal", "Datatrans"]) {
        let parked = |row: &mut PaymentRow| {
            row.state = PaymentState::Parked;
            row.captured = 0;
            row.refunded = 0;
        };
        desk.change(id, parked).await;
        let row = desk.store.payment(id).await.unwrap().unwrap();
        let there = row.reservation.unwrap();
        for arguments in [
            &["payment", "list", "--status", "parked"][..],
            &["payment", "list", "--limit", "3", "--account", ACCOUNT],
            &["payment", "show", id],
            &["payment", "show", id, "--json"],
        ] {
            let (code, out, err) = desk.run(arguments);
            assert_eq!(code, 0, "{arguments:?} {err}");
            for part in [id, &there, place, "parked", "payment resolve"] {
                assert!(out.contains(part), "{arguments:?} {part}: {out}");
            }
        }
        // The provider's answer stands, whatever the person says.
        let wrong = [
            "payment", "resolve", id, "--as", "failed", "--note", "no", "--by", "kim",
        ];
        let (code, out, err) = desk.run(&wrong);
        assert_eq!(code, 1, "{out}{err}");
        assert!(out.contains("by the provider's answer"), "{out}");
        assert!(err.contains("has not ended as failed"), "{err}");
        let (code, _, err) = desk.run(&wrong);
        assert_eq!(code, 1);
        assert!(err.contains("only what is parked"), "{err}");
        let (_, out, _) = desk.run(&["payment", "show", id]);
        assert!(out.contains("status     captured"), "{out}");
        assert!(out.contains("by provider (kim)"), "{out}");
    }
}

#[tokio::test]
async fn the_books_fit_after_captures_voids_and_refunds_in_part() {
    let desk = Desk::new().await;
    for provider in ALL {
        let charged = desk.charged(provider).await;
        let part = Some(Amount::new("CHF", 1000));
        let account = ACCOUNT.to_owned();
        let refund = RefundRequest {
            account: account.clone(),
            amount: part.clone(),
        };
        let key = |name: &str| Desk::key(&format!("{name}-{provider}"));
        let name = key("refund");
        let refunded = desk.gateway.refund(&name, &charged.id, &refund);
        refunded.await.unwrap();
        let mut hold = PayRequest {
            account: account.clone(),
            payment_method: charged.payment_method.clone(),
            amount: Amount::new("CHF", 4990),
            reference: format!("hold {provider}"),
            capture: Capture::Manual,
            initiator: Initiator::Merchant,
            return_url: None,
            description: None,
        };
        let held = desk.gateway.pay(&key("hold"), &hold).await.unwrap().body;
        let capture = CaptureRequest {
            account: account.clone(),
            amount: part,
            last: Some(true),
        };
        let taken = desk.gateway.capture(&key("take"), &held.id, &capture).await;
        assert_eq!(taken.unwrap().body.status, PaymentStatus::Captured);
        hold.reference.push_str(" again");
        let held = desk.gateway.pay(&key("again"), &hold).await.unwrap().body;
        let held_only = desk.gateway.verify().await.unwrap();
        assert!(held_only.is_clean(), "{provider} {held_only:?}");
        let (name, all) = (key("void"), VoidRequest { account });
        let voided = desk.gateway.void(&name, &held.id, &all);
        assert_eq!(voided.await.unwrap().body.status, PaymentStatus::Voided);
        let report = desk.gateway.verify().await.unwrap();
        assert!(report.is_clean(), "{provider} {report:?}");
        // Aduno's history shows no refunds of a payment until there is one.
        let hidden = u64::from(provider == "aduno");
        assert_eq!(report.refunds_not_shown, hidden, "{provider}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_use_of_resolve_is_told() {
    let desk = Desk::new().await;
    let id = desk.charged("paypal").await.id;
    for (arguments, wanted, words) in [
        (&["--as", "failed", "--by", "kim"][..], 2, "--note"),
        (&["--as", "gone", "--note", "x", "--by", "kim"], 2, "gone"),
        (&["--as", "failed", "--note", "x"], 2, "--by"),
        (&["--as", "failed", "--note", "", "--by", "kim"], 2, "note"),
        (
            &["--as", "refunded", "--note", "x", "--by", "kim"],
            2,
            "a payment",
        ),
        (
            &[
                "--as",
                "failed",
                "--note",
                "4242424242424242",
                "--by",
                "kim",
            ],
            1,
            "card number",
        ),
        (
            &["--as", "failed", "--note", "x", "--by", "kim"],
            1,
            "only what is parked",
        ),
        (
            &[
                "--as",
                "failed",
                "--note",
                "x",
                "--by",
                "kim",
                "--operation",
                "ref_x",
            ],
            1,
            "operation",
        ),
    ] {
        let all = [&["payment", "resolve", &id], arguments].concat();
        let (code, out, err) = desk.run(&all);
        assert_eq!(code, wanted, "{arguments:?} {out}{err}");
        assert!(err.contains(words), "{arguments:?} {err}");
    }
    for arguments in [
        &["payment", "list", "--limit", "0"][..],
        &["payment", "list", "--status", "lost"],
        &["payment", "list", "--after", "pay_x"],
    ] {
        assert_eq!(desk.run(arguments).0, 2, "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_deals_with_dead_events_at_the_command_line() {
    let desk = Desk::new().await;
    let payment = desk.charged("paypal").await.id;
    let events = desk.gateway.events(None, 100).await.unwrap().data;
    let ids: Vec<&str> = events.iter().map(|event| event.id.as_str()).collect();
    let (code, out, _) = desk.run(&["event", "list"]);
    assert_eq!(code, 0);
    assert!(
        out.contains("payment.captured") && out.contains(&payment),
        "{out}"
    );
    let (_, out, _) = desk.run(&["event", "list", "--after", ids[0], "--json"]);
    let page: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(page["data"][0]["id"], ids[1]);

    let dead = |sequence| {
        Change::InsertDeadEvent(DeadEventRow {
            sequence,
            attempts: 11,
            dead_at: SystemClock::default().now(),
        })
    };
    desk.store.apply(vec![dead(1), dead(2)]).await.unwrap();
    let (code, out, _) = desk.run(&["event", "list", "--dead", "--json"]);
    assert_eq!(code, 0);
    let list: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(list["data"][0]["event"]["id"], ids[1]);
    assert_eq!(list["data"][0]["attempts"], 11);
    let (_, out, _) = desk.run(&["event", "list", "--dead"]);
    assert!(
        out.contains(ids[0]) && out.contains("cardless event retry"),
        "{out}"
    );

    assert_eq!(desk.run(&["event", "dismiss", ids[0]]).0, 0);
    assert_eq!(desk.run(&["event", "retry", ids[1]]).0, 0);
    let held = desk.store.held_topics().await.unwrap();
    assert_eq!((held[0].sequence, held[0].attempts), (2, 0));
    for verb in ["dismiss", "retry"] {
        let (code, _, err) = desk.run(&["event", verb, ids[0]]);
        assert_eq!(code, 1);
        assert!(err.contains("event list --dead"), "{err}");
    }
    assert_eq!(desk.run(&["event", "retry"]).0, 2);
    desk.store.apply(vec![dead(1)]).await.unwrap();
    let (_, out, _) = desk.run(&["event", "retry", "--all"]);
    assert_eq!(out, "sent again: 1\n");
    // Who took an alarm off the list, and what was sent again, can be read.
    let (_, out, _) = desk.run(&["audit", "list", "--object", ids[0], "--json"]);
    let lines: serde_json::Value = serde_json::from_str(&out).unwrap();
    let lines = lines["data"].as_array().unwrap().iter();
    let done: Vec<_> = lines
        .filter(|line| line["outcome"] == "done")
        .map(|line| (line["action"].clone(), line["role"].clone()))
        .collect();
    let by_hand = |action: &str| (action.into(), "command_line".into());
    assert_eq!(done, [by_hand("event.retry"), by_hand("event.dismiss")]);
    let (_, out, _) = desk.run(&["event", "list", "--dead", "--json"]);
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&out).unwrap()["data"],
        serde_json::json!([])
    );
}
