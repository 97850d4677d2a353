//! Out of one installation and into another: whole, in parts, again, and after a death on the way.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_goes_out_comes_in_elsewhere_and_can_be_charged() {
    let (from, to) = (world(), world());
    let first = link(&from, "a-1").await;
    let second = link(&from, "a-1").await;
    link(&from, "a-2").await;
    let update = MethodUpdate {
        account: "a-1".to_owned(),
        default: true,
    };
    from.gateway.set_default(&second, &update).await.unwrap();

    let (lines, exported) = export_all(&from.gateway, &address(&to.gateway).await).await;
    assert_eq!((exported.records, lines.len()), (3, 3));
    let (report, refusals) = import(&to.gateway, &lines, &published(&from.gateway).await).await;
    assert_eq!((counts(&report), refusals), ((3, 0, 0), Vec::new()));
    assert_eq!(report.sha256, exported.sha256);
    assert_eq!(held(&to).await, held(&from).await);

    // The billing service learns what the methods are called now.
    let events = to.store.events(0, 100).await.unwrap();
    let told: Vec<_> = events
        .iter()
        .filter(|(_, event)| event.kind == "payment_method.imported")
        .filter_map(|(_, event)| event.replaces.clone())
        .collect();
    assert_eq!(told.len(), 3);
    assert!(told.contains(&first) && told.contains(&second));

    let payment = to.pay(&charge("r-1")).await;
    assert_eq!(payment.status, PaymentStatus::Captured, "{payment:?}");
    let default = methods(&to, "a-1").await;
    let default = default.iter().find(|method| method.default).unwrap();
    assert_eq!(payment.payment_method.as_deref(), Some(default.id.as_str()));
}

#[tokio::test(start_paused = true)]
async fn an_import_that_is_run_again_changes_nothing() {
    let world = world();
    let sender = Sender::to(&world).await;
    let records = [
        record("a-1", "t-1"),
        record("a-1", "t-2"),
        record("a-2", "t-3"),
    ];
    let lines = sender.file(&records, 2);
    let (report, _) = import(&world.gateway, &lines, &sender.keys()).await;
    assert_eq!(counts(&report), (3, 0, 0));
    let before = (held(&world).await, world.events().await);

    let (again, _) = import(&world.gateway, &lines, &sender.keys()).await;
    assert_eq!(counts(&again), (0, 3, 0));
    assert_eq!((held(&world).await, world.events().await), before);

    // Nor does another file with the same, or one that says a record twice.
    let mut other = Sender::to(&world).await;
    other.export = "old-billing-2".to_owned();
    let twice = [
        record("a-1", "t-1"),
        record("a-3", "t-4"),
        record("a-3", "t-4"),
    ];
    for each in [1, 3] {
        let lines = other.file(&twice, each);
        let (report, _) = import(&world.gateway, &lines, &other.keys()).await;
        assert_eq!(report.refused, 0);
    }
    assert_eq!(held(&world).await.len(), 4);
    // Handles that were replaced meanwhile do not matter.
    let mut rotation = world.gateway.rotate_handles(None).await.unwrap();
    while !rotation.is_done() {
        rotation.step(10).await.unwrap();
    }
    let (again, _) = import(&world.gateway, &lines, &sender.keys()).await;
    assert_eq!(counts(&again), (0, 3, 0));
}

#[tokio::test(start_paused = true)]
async fn an_import_that_dies_after_any_line_goes_on_without_doubles() {
    for dies_after in 0..6 {
        let world = world();
        let sender = Sender::to(&world).await;
        let mut records: Vec<Record> = (0..8)
            .map(|number| record(&format!("a-{}", number % 3), &format!("t-{number}")))
            .collect();
        records[7].default = true;
        let lines = sender.file(&records, 2);
        let mut check = world.gateway.import_tokens(&sender.keys()).await.unwrap();
        for line in &lines {
            check.line(line.as_bytes()).await.unwrap();
        }
        let mut import_one = check.compare(false, |_| {}).await.unwrap();
        for line in lines.iter().take(dies_after) {
            import_one.line(line.as_bytes()).await.unwrap();
        }
        drop(import_one);
        let before = u64::try_from(held(&world).await.len()).unwrap();
        let (report, _) = import(&world.gateway, &lines, &sender.keys()).await;
        assert_eq!(counts(&report), (8 - before, before, 0), "{dies_after}");
        let held = held(&world).await;
        assert_eq!(held.len(), 8);
        let events = world.events().await;
        assert_eq!(events.len(), 8, "one event each");
        // The file's word on the default holds, in whatever order and over however many runs.
        let default = held
            .iter()
            .find(|(account, _, default)| account == "a-1" && *default);
        assert_eq!(default.unwrap().1, "t-7");
        for account in ["a-0", "a-2"] {
            let defaults = held.iter().filter(|held| held.0 == account && held.2);
            assert_eq!(defaults.count(), 1, "{account}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_says_the_same_and_stores_nothing() {
    let world = world();
    let sender = Sender::to(&world).await;
    let records = [
        record("a-1", "t-1"),
        record("a-1", "t-1"),
        record("a-2", "old-4242"),
    ];
    let lines = sender.file(&records, 1);
    let dry = import_as(&world.gateway, &lines, &sender.keys(), true).await;
    let (dry, dry_refusals) = dry.unwrap();
    assert!(dry.dry_run && held(&world).await.is_empty());
    assert!(world.gateway.account("a-1").await.is_err());
    assert_eq!(world.events().await, Vec::new());
    let (report, refusals) = import(&world.gateway, &lines, &sender.keys()).await;
    assert_eq!(counts(&report), counts(&dry));
    assert_eq!((counts(&report), refusals), ((1, 1, 1), dry_refusals));
}

/// A method that was linked by a clock that was ahead is here all the same.
#[tokio::test(start_paused = true)]
async fn what_was_linked_by_a_clock_that_was_ahead_goes_out() {
    let world = world();
    let ahead = Duration::from_secs(3600);
    world.clock.forward(ahead);
    link(&world, "a-1").await;
    world.clock.back(ahead);
    link(&world, "a-2").await;
    let to = pair(Usage::Seal);
    let (_, report) = export_all(&world.gateway, to.public()).await;
    assert_eq!(report.records, 2);
    assert!(report.linked_since, "nobody can tell");
}

/// The clock was ahead when it was begun, and was put right before a method was linked.
#[tokio::test(start_paused = true)]
async fn where_the_clock_is_put_back_meanwhile_an_export_says_that_it_can_not_tell() {
    let world = world();
    let ahead = Duration::from_secs(3600);
    world.clock.forward(ahead);
    world.reconcile().await;
    link(&world, "a-1").await;
    let to = pair(Usage::Seal);
    let all = ExportPart::default();
    let export = world.gateway.export_tokens(to.public(), &all).await;
    let mut export = export.unwrap();
    while export.next().await.unwrap().is_some() {}
    world.clock.back(ahead);
    world.reconcile().await;
    link(&world, "a-2").await;
    tokio::time::advance(2 * ahead).await;
    let report = export.finish().await.unwrap();
    assert_eq!(report.records, 1);
    assert!(report.linked_since);
}

#[tokio::test(start_paused = true)]
async fn dead_tokens_do_not_go_out() {
    let world = world();
    let (suspended, revoked) = (link(&world, "a-1").await, link(&world, "a-1").await);
    link(&world, "a-1").await;
    let mut row = world.store.method(&suspended).await.unwrap().unwrap();
    row.state = MethodState::Suspended;
    let change = vec![Change::UpdateMethod(row)];
    world.store.apply(change).await.unwrap();
    world.gateway.revoke(&revoked, "a-1").await.unwrap();
    let (_, report) = export_all(&world.gateway, pair(Usage::Seal).public()).await;
    assert_eq!((report.records, report.left_out.suspended), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_export_in_parts_misses_nothing() {
    let (from, to) = (world(), world());
    for number in 0..5 {
        link(&from, &format!("a-{number}")).await;
    }
    let senders = published(&from.gateway).await;
    let recipient = address(&to.gateway).await;
    let mut part = ExportPart {
        after: None,
        limit: 2,
    };
    let mut files = 0;
    loop {
        let (lines, report) = export(&from.gateway, &recipient, &part).await;
        import(&to.gateway, &lines, &senders).await;
        files += 1;
        part.after = report.more;
        if part.after.is_none() {
            break;
        }
    }
    assert_eq!(files, 3);
    assert_eq!(held(&to).await, held(&from).await);
    for wrong in [
        ExportPart {
            after: None,
            limit: 0,
        },
        ExportPart {
            after: None,
            limit: 1_000_001,
        },
        ExportPart {
            after: Some("pay_abcdefghijklmnopabcd".to_owned()),
            limit: 1,
        },
        ExportPart {
            after: Some(String::new()),
            limit: 1,
        },
    ] {
        let refused = from.gateway.export_tokens(&recipient, &wrong).await;
        assert_eq!(refused.unwrap_err().code(), Code::InvalidField, "{wrong:?}");
    }
    let only_signs = pair(Usage::Sign);
    let refused = from
        .gateway
        .export_tokens(only_signs.public(), &ExportPart::default())
        .await;
    assert_eq!(refused.unwrap_err().field_path(), Some("recipient"));
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_records_go_by_lines_of_a_bounded_length() {
    let (from, to) = (world(), world());
    let sender = Sender::to(&from).await;
    let records: Vec<Record> = (0..10_000)
        .map(|number| record(&format!("customer-{number}"), &format!("t-{number}")))
        .collect();
    let lines = sender.file(&records, MAX_RECORDS_PER_LINE);
    let (report, _) = import(&from.gateway, &lines, &sender.keys()).await;
    assert_eq!(counts(&report), (10_000, 0, 0));

    // An export holds one line at a time, and a line one page of the store.
    let recipient = address(&to.gateway).await;
    let mut export = from
        .gateway
        .export_tokens(&recipient, &ExportPart::default())
        .await
        .unwrap();
    let mut number = 0;
    while let Some(line) = export.next().await.unwrap() {
        assert!(line.len() <= MAX_LINE_BYTES);
        number += 1;
    }
    assert_eq!(number, 102);
    assert_eq!(export.finish().await.unwrap().records, 10_000);
}

/// The longest record that anybody can have fits a full line.
#[tokio::test(start_paused = true)]
async fn a_full_line_of_the_longest_records_fits() {
    let world = world();
    let sender = Sender::to(&world).await;
    let mut longest = record(&"a".repeat(64), &"t".repeat(255));
    longest.provider = "p".repeat(32);
    longest.merchant = "m".repeat(64);
    longest.kind = "k".repeat(32);
    longest.default = true;
    longest.payment_method = Some("pm_abcdefghijklmnopabcd".to_owned());
    let records = vec![longest; MAX_RECORDS_PER_LINE];
    let lines = sender.file(&records, MAX_RECORDS_PER_LINE);
    assert!(lines[1].len() < MAX_LINE_BYTES, "{}", lines[1].len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever tokens somebody has, and however many a line: they come in, go out, and come in
    /// elsewhere, each once.
    #[test]
    fn tokens_survive_two_moves(
        tokens in prop::collection::btree_map("[a-z]{2}-[A-Za-z0-9-]{1,60}", 0..6_u8, 0..40),
        each in 1..20_usize,
        limit in 1..50_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (first, second) = (world(), world());
            let sender = Sender::to(&first).await;
            let records: Vec<Record> = tokens
                .iter()
                .map(|(token, account)| record(&format!("acct-{account}"), token))
                .collect();
            let lines = sender.file(&records, each);
            let (report, refusals) = import(&first.gateway, &lines, &sender.keys()).await;
            // One in ten random numbers passes for a card number; those are refused.
            let fits = |record: &&Record| cardless::pan::find(&record.token).is_none()
                && !record.token.starts_with("old-");
            let expected: Vec<&Record> = records.iter().filter(fits).collect();
            assert_eq!(usize::try_from(report.imported).unwrap(), expected.len(), "{refusals:?}");
            let senders = published(&first.gateway).await;
            let recipient = address(&second.gateway).await;
            let mut part = ExportPart { after: None, limit };
            loop {
                let (lines, report) = export(&first.gateway, &recipient, &part).await;
                import(&second.gateway, &lines, &senders).await;
                part.after = report.more;
                if part.after.is_none() {
                    break;
                }
            }
            let (left, right) = (held(&first).await, held(&second).await);
            let pairs = |held: &[(String, String, bool)]| -> Vec<(String, String)> {
                held.iter().map(|held| (held.0.clone(), held.1.clone())).collect()
            };
            assert_eq!(pairs(&left), pairs(&right));
            assert_eq!(left.len(), expected.len());
            for account in 0..6 {
                let account = format!("acct-{account}");
                let of = |held: &&(String, String, bool)| held.0 == account;
                let any = right.iter().filter(of).count() > 0;
                let defaults = right.iter().filter(of).filter(|held| held.2).count();
                assert_eq!(defaults, usize::from(any), "{account}");
            }
        });
    }
}
