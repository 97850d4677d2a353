//! What is taken in, what is refused, by which rule, and what is said of it.

use super::*;

#[tokio::test(start_paused = true)]
async fn each_record_that_does_not_belong_is_refused_by_its_rule() {
    let world = world();
    let sender = Sender::to(&world).await;
    let with = |change: fn(&mut Record)| {
        let mut record = record("a-1", "t-1");
        change(&mut record);
        record
    };
    let text = |text: &str| text.to_owned();
    let cases: Vec<(Record, &str, Rule)> = vec![
        (record(CARD, "t-2"), "account", Rule::CardNumber),
        (
            record("a-4242.4242.4242.4242", "t-2"),
            "account",
            Rule::CardNumber,
        ),
        (record("a 1", "t-2"), "account", Rule::Malformed),
        (record("", "t-2"), "account", Rule::Malformed),
        (record(&"a".repeat(65), "t-2"), "account", Rule::Malformed),
        (record("a-1", CARD), "token", Rule::CardNumber),
        (
            record("a-1", "4242-4242-4242-4242"),
            "token",
            Rule::CardNumber,
        ),
        (
            record("a-1", "4242 4242 4242 4242"),
            "token",
            Rule::CardNumber,
        ),
        (record("a-1", ""), "token", Rule::Shape),
        (record("a-1", "t/2"), "token", Rule::Shape),
        (record("a-1", &"t".repeat(256)), "token", Rule::Shape),
        (record("a-1", "tök"), "token", Rule::Shape),
        (
            record("a-1", "old-424242SKMPRI4242"),
            "token",
            Rule::RevealsDigits,
        ),
        (
            with(|record| record.provider = "paypal".to_owned()),
            "provider",
            Rule::NotSetUp,
        ),
        (
            with(|record| record.provider = CARD.to_owned()),
            "provider",
            Rule::CardNumber,
        ),
        (
            with(|record| record.merchant = "another shop".to_owned()),
            "merchant",
            Rule::OtherMerchant,
        ),
        (
            with(|record| record.merchant = CARD.to_owned()),
            "merchant",
            Rule::CardNumber,
        ),
        (
            with(|record| record.kind = "vault_v3".to_owned()),
            "kind",
            Rule::OtherKind,
        ),
        (
            with(|record| record.kind = CARD.to_owned()),
            "kind",
            Rule::CardNumber,
        ),
        (
            with(|record| record.payment_method = Some(CARD.to_owned())),
            "payment_method",
            Rule::CardNumber,
        ),
        (
            with(|record| record.payment_method = Some("pm_x".to_owned())),
            "payment_method",
            Rule::Malformed,
        ),
        (
            with(|record| record.payment_method = Some("pay_abcdefghijklmnopabcd".to_owned())),
            "payment_method",
            Rule::Malformed,
        ),
    ];
    let mut records: Vec<Record> = cases.iter().map(|(record, ..)| record.clone()).collect();
    records.push(record("a-9", "t-9"));
    let lines = sender.file(&records, 5);
    let (report, refusals) = import(&world.gateway, &lines, &sender.keys()).await;
    assert_eq!(report.imported, 1, "what belongs is taken");
    for (at, (refusal, (_, field, rule))) in refusals.iter().zip(&cases).enumerate() {
        let record = u64::try_from(at).unwrap() + 1;
        let line = u64::try_from(at / 5).unwrap() + 2;
        assert_eq!(
            *refusal,
            Refusal {
                line,
                record,
                field,
                rule: *rule
            },
            "{at}"
        );
    }
    assert_eq!(refusals.len(), cases.len());
    // What is told quotes nothing.
    let told = format!("{report:?} {refusals:?} {}", json!(refusals));
    for (record, ..) in &cases {
        for value in [&record.account, &text(&record.token)] {
            assert!(
                value.len() < 4 || value == "a-1" || !told.contains(value.as_str()),
                "{value}"
            );
        }
    }
    assert_eq!(held(&world).await, [(text("a-9"), text("t-9"), true)]);
}

#[tokio::test(start_paused = true)]
async fn no_token_crosses_accounts() {
    let world = world();
    link(&world, "a-1").await;
    let own = held(&world).await[0].1.clone();
    let sender = Sender::to(&world).await;
    let records = [
        record("a-2", &own),
        record("a-1", &own),
        record("a-3", "t-3"),
        record("a-4", "t-3"),
        record("a-5", "t-5"),
    ];
    // Even over many lines: neither of the two is taken.
    let lines = sender.file(&records, 1);
    let (report, refusals) = import(&world.gateway, &lines, &sender.keys()).await;
    assert_eq!(counts(&report), (1, 0, 4));
    let rules: Vec<(u64, Rule)> = refusals.iter().map(|it| (it.record, it.rule)).collect();
    assert_eq!(
        rules,
        [
            (1, Rule::TwoAccounts),
            (2, Rule::TwoAccounts),
            (3, Rule::TwoAccounts),
            (4, Rule::TwoAccounts)
        ]
    );
    let lines = sender.file(&[record("a-2", &own), record("a-6", "t-5")], 1);
    let (_, refusals) = import(&world.gateway, &lines, &sender.keys()).await;
    assert!(
        refusals
            .iter()
            .all(|it| it.rule == Rule::OtherAccount && it.field == "token")
    );
    let lines = sender.file(&[record("a-1", &own)], 1);
    let (report, _) = import(&world.gateway, &lines, &sender.keys()).await;
    assert_eq!(counts(&report), (0, 1, 0), "its own account has it");
    assert_eq!(held(&world).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_revoked_here_since_does_not_come_back() {
    let world = world();
    let sender = Sender::to(&world).await;
    let lines = sender.file(&[record("a-1", "t-1")], 1);
    import(&world.gateway, &lines, &sender.keys()).await;
    let method = methods(&world, "a-1").await[0].id.clone();
    world.gateway.revoke(&method, "a-1").await.unwrap();
    let (_, refusals) = import(&world.gateway, &lines, &sender.keys()).await;
    assert_eq!(
        (refusals[0].field, refusals[0].rule),
        ("token", Rule::Revoked)
    );
    assert!(held(&world).await.is_empty());
}

/// The file's default is one that was revoked here since: the first of the others is the default then.
#[tokio::test(start_paused = true)]
async fn an_account_whose_default_does_not_come_back_has_another() {
    let world = world();
    let sender = Sender::to(&world).await;
    let default = Record {
        default: true,
        ..record("a-1", "t-1")
    };
    let lines = sender.file(std::slice::from_ref(&default), 1);
    import(&world.gateway, &lines, &sender.keys()).await;
    let method = methods(&world, "a-1").await[0].id.clone();
    world.gateway.revoke(&method, "a-1").await.unwrap();
    let others = [record("a-1", "t-2"), record("a-1", "t-3")];
    let records = [&[default], others.as_slice()].concat();
    for each in [1, 3] {
        let lines = sender.file(&records, each);
        let (report, refusals) = import(&world.gateway, &lines, &sender.keys()).await;
        assert_eq!((report.refused, refusals[0].rule), (1, Rule::Revoked));
        let listed = methods(&world, "a-1").await;
        let defaults = listed.iter().filter(|method| method.default).count();
        // The revoked one is listed too.
        assert_eq!((listed.len(), defaults), (3, 1));
    }
    let paid = world.pay(&charge("r-1")).await;
    assert_eq!(paid.status, PaymentStatus::Captured);
}

#[tokio::test(start_paused = true)]
async fn a_method_that_is_being_revoked_is_neither_here_nor_taken_again() {
    let world = world();
    let linked = link(&world, "a-1").await;
    let own = held(&world).await[0].1.clone();
    let mut row = world.store.method(&linked).await.unwrap().unwrap();
    row.state = MethodState::Revoking;
    let change = vec![Change::UpdateMethod(row)];
    world.store.apply(change).await.unwrap();
    let sender = Sender::to(&world).await;
    let lines = sender.file(&[record("a-1", &own)], 1);
    let (_, refusals) = import(&world.gateway, &lines, &sender.keys()).await;
    assert_eq!(refusals[0].rule, Rule::Revoked);
}

#[tokio::test(start_paused = true)]
async fn a_restricted_account_neither_goes_out_nor_takes_in() {
    let world = world();
    link(&world, "a-1").await;
    link(&world, "a-2").await;
    world.gateway.set_restricted("a-1", true).await.unwrap();
    let to = pair(Usage::Seal);
    let (_, report) = export_all(&world.gateway, to.public()).await;
    assert_eq!((report.records, report.left_out.restricted), (1, 1));

    let sender = Sender::to(&world).await;
    let lines = sender.file(&[record("a-1", "t-1"), record("a-3", "t-3")], 2);
    let (report, refusals) = import(&world.gateway, &lines, &sender.keys()).await;
    assert_eq!(counts(&report), (1, 0, 1));
    assert_eq!(
        (refusals[0].field, refusals[0].rule),
        ("account", Rule::Restricted)
    );
    world.gateway.set_restricted("a-1", false).await.unwrap();
    let (report, _) = import(&world.gateway, &lines, &sender.keys()).await;
    assert_eq!(counts(&report), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_erased_account_comes_back_only_by_a_file_that_is_younger() {
    let world = world();
    let sender = Sender::to(&world).await;
    let lines = sender.file(&[record("a-1", "t-1")], 1);
    import(&world.gateway, &lines, &sender.keys()).await;
    tokio::time::advance(Duration::from_secs(5)).await;
    let erased = world.gateway.erase(&world.key(), "a-1").await.unwrap();
    assert!(!erased.open, "{erased:?}");
    let (_, report) = export_all(&world.gateway, pair(Usage::Seal).public()).await;
    assert_eq!(report.records, 0, "what is erased does not go out");

    let (_, refusals) = import(&world.gateway, &lines, &sender.keys()).await;
    assert_eq!(
        (refusals[0].field, refusals[0].rule),
        ("account", Rule::Erased)
    );
    assert!(
        world
            .gateway
            .account("a-1")
            .await
            .unwrap()
            .created_at
            .is_none()
    );
    tokio::time::advance(Duration::from_secs(5)).await;
    let mut later = Sender::to(&world).await;
    later.export = "old-billing-2".to_owned();
    let lines = later.file(&[record("a-1", "t-2")], 1);
    let (report, _) = import(&world.gateway, &lines, &later.keys()).await;
    assert_eq!(report.imported, 1, "the person is a customer there again");
}

#[tokio::test(start_paused = true)]
async fn both_leave_lines_in_the_audit_log() {
    let (from, to) = (world(), world());
    link(&from, "a-1").await;
    let recipient = address(&to.gateway).await;
    let (lines, exported) = export_all(&from.gateway, &recipient).await;
    // One that is given up has a line too.
    drop(
        from.gateway
            .export_tokens(&recipient, &ExportPart::default())
            .await
            .unwrap(),
    );
    let seen = audited(&from.gateway).await;
    let outcomes: Vec<&str> = seen.iter().map(|line| line.1.as_str()).collect();
    assert_eq!(outcomes, ["accepted", "done", "accepted"]);
    assert_eq!(seen[0].2["recipient"], recipient.thumbprint());
    assert_eq!(seen[1].2["records"], "1");
    assert_eq!(seen[1].2["sha256"], exported.sha256);

    let senders = published(&from.gateway).await;
    import(&to.gateway, &lines, &senders).await;
    import(&to.gateway, &lines, &senders).await;
    let cut = &lines[..1];
    import_as(&to.gateway, cut, &senders, false)
        .await
        .unwrap_err();
    let seen = audited(&to.gateway).await;
    let outcomes: Vec<&str> = seen.iter().map(|line| line.1.as_str()).collect();
    assert_eq!(
        outcomes,
        ["accepted", "done", "accepted", "done", "refused"]
    );
    assert_eq!(seen[1].2["imported"], "1");
    assert_eq!(seen[1].2["sha256"], exported.sha256);
    assert_eq!(seen[3].2["already_here"], "1");
    assert_eq!(seen[1].2["sender"], seen[3].2["sender"]);
    let report = to.gateway.verify_audit(None, |_| {}).await.unwrap();
    assert!(report.is_whole(), "{report:?}");
    let all = format!("{seen:?}");
    assert!(!all.contains("token-") && !all.contains("a-1"), "{all}");
}

/// Randomness that does something once, when it is drawn: the moment between what was decided and
/// what is written.
struct Seam {
    armed: AtomicBool,
    work: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl std::fmt::Debug for Seam {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seam")
    }
}

impl Entropy for Seam {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        if self.armed.load(Ordering::SeqCst)
            && let Some(work) = self.work.lock().unwrap().take()
        {
            work();
        }
        SystemEntropy.fill(bytes)
    }
}

/// Runs what never waits: a store on the caller's thread.
fn at_once<T>(work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    let polled = work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(done) = polled else {
        unreachable!("it waits");
    };
    done
}

#[tokio::test(start_paused = true)]
async fn what_changes_between_decision_and_write_is_decided_again() {
    for what in ["restricted", "imported by another", "sealed too late"] {
        let world = world();
        link(&world, "a-1").await;
        let account = world.store.tokens("", 1).await.unwrap()[0]
            .account
            .account
            .clone();
        let seam = Arc::new(Seam {
            armed: AtomicBool::new(false),
            work: Mutex::new(None),
        });
        let gateway = world.builder().entropy(seam.clone()).build().unwrap();
        let sender = Sender::to(&world).await;
        let lines = sender.file(&[record("a-1", "t-1"), record("a-2", "t-2")], 2);
        let mut check = gateway.import_tokens(&sender.keys()).await.unwrap();
        for line in &lines {
            check.line(line.as_bytes()).await.unwrap();
        }
        let mut running = check.compare(false, |_| {}).await.unwrap();
        running.line(lines[0].as_bytes()).await.unwrap();
        let other = world.another_worker();
        let (theirs, senders) = (lines.clone(), sender.keys());
        let work: Box<dyn FnOnce() + Send> = match what {
            "restricted" => {
                let store = Arc::clone(&world.store);
                let change = Change::SetRestricted {
                    account,
                    restricted: true,
                };
                Box::new(move || at_once(store.apply(vec![change])).unwrap())
            }
            "sealed too late" => Box::new(move || {
                at_once(async {
                    let mut rotation = other.rotate_keys().await.unwrap();
                    while rotation.step(10).await.unwrap() {}
                    rotation.finish().await.unwrap();
                });
            }),
            _ => Box::new(move || {
                let (report, _) = at_once(import(&other, &theirs, &senders));
                assert_eq!(report.imported, 2);
            }),
        };
        *seam.work.lock().unwrap() = Some(work);
        seam.armed.store(true, Ordering::SeqCst);
        let refusals = running.line(lines[1].as_bytes()).await.unwrap();
        running.line(lines[2].as_bytes()).await.unwrap();
        let report = running.finish().await.unwrap();
        if what == "restricted" {
            assert_eq!(counts(&report), (1, 0, 1), "{what}");
            assert_eq!(
                (refusals[0].record, refusals[0].rule),
                (1, Rule::Restricted)
            );
        } else {
            let expected = if what == "sealed too late" {
                (2, 0, 0)
            } else {
                (0, 2, 0)
            };
            assert_eq!(counts(&report), expected, "{what}");
        }
        world.gateway.set_restricted("a-1", false).await.unwrap();
        let expected = if what == "restricted" { 2 } else { 3 };
        assert_eq!(held(&world).await.len(), expected, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_token_or_an_account_lies_in_the_store_or_in_what_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cardless.db");
    let url = format!("sqlite:{}", path.display());
    let store = SqliteStore::open(&url, Threads::Caller).unwrap();
    let world = World::on(Arc::new(store));
    let sender = Sender::to(&world).await;
    let records = [
        record("canary-account", "canary-token"),
        record("canary-bad", "old-canary"),
    ];
    let lines = sender.file(&records, 2);
    let (report, refusals) = import(&world.gateway, &lines, &sender.keys()).await;
    assert_eq!(counts(&report), (1, 0, 1));
    let shown = format!(
        "{report:?} {refusals:?} {records:?} {:?} {:?}",
        world.gateway,
        world.gateway.import_tokens(&sender.keys()).await
    );
    assert!(!shown.contains("canary"), "{shown}");
    assert!(!lines.concat().contains("canary"));
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"canary"));
    }
}

/// Erased twice, the second time by a clock that was behind: a file from before the first does not bring
/// the person back.
#[tokio::test(start_paused = true)]
async fn an_erasure_by_a_clock_that_was_behind_hides_no_other() {
    let world = world();
    let sender = Sender::to(&world).await;
    let lines = sender.file(&[record("a-1", "t-1")], 1);
    let (half, back) = (Duration::from_secs(1800), Duration::from_secs(7200));
    world.clock.forward(half);
    world.reconcile().await;
    for set_back in [false, true] {
        if set_back {
            world.clock.back(back);
            world.reconcile().await;
        }
        link(&world, "a-1").await;
        let erased = world.gateway.erase(&world.key(), "a-1").await.unwrap();
        assert!(!erased.open, "{erased:?}");
    }
    world.clock.forward(back + half);
    world.reconcile().await;
    let (_, refusals) = import(&world.gateway, &lines, &sender.keys()).await;
    assert_eq!(
        (refusals[0].field, refusals[0].rule),
        ("account", Rule::Erased)
    );
}
