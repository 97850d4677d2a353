use super::*;
use crate::gateway::Role;

fn client(name: &str, role: Role) -> ClientInfo {
    ClientInfo {
        name: name.to_owned(),
        role,
        api_keys: Vec::new(),
        sealed: false,
        keys: Vec::new(),
        created_at: Timestamp::from_seconds(100),
        revoked_at: None,
    }
}

fn line(number: i64, action: &str, object: &str, details: &[(&str, &str)]) -> AuditLine {
    let details = details.iter();
    AuditLine {
        line: number,
        at: Timestamp::from_seconds(100),
        actor: "anna".to_owned(),
        role: "command_line".to_owned(),
        origin: "command_line".to_owned(),
        action: action.to_owned(),
        object: object.to_owned(),
        outcome: "done".to_owned(),
        details: details
            .map(|(name, word)| ((*name).to_owned(), (*word).to_owned()))
            .collect(),
    }
}

/// What is changed, and what is said of it.
type Change<'a> = (&'a dyn Fn(&mut Facts), &'a str);

/// A shop that has renewed its key, somebody who is gone, and a sealed client with two keys of which
/// one is revoked.
fn good() -> Facts {
    let lines = vec![
        line(9, "client.revoke", "gone", &[]),
        line(
            3,
            "client.add",
            "shop",
            &[("role", "billing"), ("key", "aa")],
        ),
        line(
            4,
            "client.add",
            "gone",
            &[("role", "auditor"), ("key", "bb")],
        ),
        line(
            5,
            "client.add",
            "box",
            &[
                ("role", "operator"),
                ("sealed", "true"),
                ("kid_1", "k1"),
                ("kid_2", "k2"),
            ],
        ),
        line(
            6,
            "client.renew",
            "shop",
            &[("overlap_seconds", "60"), ("key", "cc")],
        ),
        line(7, "client.key.revoke", "box", &[("kid", "k1")]),
    ];
    let mut gone = client("gone", Role::Auditor);
    gone.revoked_at = Some(Timestamp::from_seconds(200));
    let mut sealed = client("box", Role::Operator);
    sealed.sealed = true;
    let names = |api_key: &str| KeyNames {
        api_key: api_key.to_owned(),
        ..KeyNames::default()
    };
    let mut of_shop = names("cc");
    of_shop.old = Some(("aa".to_owned(), Timestamp::from_seconds(160)));
    let mut of_box = names("random");
    of_box.public_keys = [("k1".to_owned(), false), ("k2".to_owned(), true)].into();
    Facts {
        clients: vec![sealed, gone, client("shop", Role::Billing)],
        names: [("shop", of_shop), ("gone", names("bb")), ("box", of_box)]
            .map(|(name, keys)| (name.to_owned(), keys))
            .into(),
        told: told(lines),
        now: Timestamp::from_seconds(150),
    }
}

fn the<'a>(facts: &'a mut Facts, name: &str) -> (&'a mut ClientInfo, &'a mut KeyNames) {
    let client = facts.clients.iter_mut().find(|client| client.name == name);
    let names = facts.names.entry(name.to_owned()).or_default();
    (client.unwrap(), names)
}

#[test]
fn a_client_is_as_the_audit_log_tells() {
    let statement = good().statement();
    assert!(statement.holds, "{:?}", statement.faults);
    assert_eq!(statement.evidence.rows[2][6], "line 6: cc");

    let end = |seconds| Timestamp::from_seconds(seconds);
    let faults: [Change<'_>; 15] = [
        (
            &|all| the(all, "shop").0.role = Role::Operator,
            "shop was added as billing (line 3",
        ),
        (
            &|all| the(all, "gone").0.revoked_at = None,
            "gone was revoked (line 9",
        ),
        (
            &|all| the(all, "shop").0.revoked_at = Some(end(120)),
            "shop is revoked in the store",
        ),
        // Revoked, and back under a name and a time that nobody knows.
        (
            &|all| {
                let (client, _) = the(all, "gone");
                client.name = "legacy".to_owned();
                client.created_at = end(0);
                client.revoked_at = None;
            },
            "legacy is in the store, and no line",
        ),
        (&|all| drop(all.clients.remove(1)), "gone was added (line 4"),
        (&|all| drop(all.clients.pop()), "shop was added (line 3"),
        // Two clients' keys, swapped.
        (
            &|all| the(all, "shop").1.api_key = "bb".to_owned(),
            "shop has another API key",
        ),
        (
            &|all| the(all, "gone").1.api_key = "cc".to_owned(),
            "gone has another API key",
        ),
        (
            &|all| the(all, "shop").1.old = Some(("bb".to_owned(), end(160))),
            "shop is let in until",
        ),
        (
            &|all| the(all, "shop").1.old = Some(("aa".to_owned(), end(999))),
            "shop is let in until",
        ),
        (
            &|all| the(all, "gone").1.old = Some(("aa".to_owned(), end(160))),
            "gone is let in until",
        ),
        (
            &|all| the(all, "box").0.sealed = false,
            "box was added to speak by sealed messages",
        ),
        (
            &|all| {
                the(all, "box")
                    .1
                    .public_keys
                    .extend([("k1".to_owned(), true)])
            },
            "k1, which was revoked (line 7",
        ),
        (
            &|all| {
                the(all, "box")
                    .1
                    .public_keys
                    .extend([("k3".to_owned(), true)])
            },
            "k3 in the store, and no line",
        ),
        (
            &|all| the(all, "box").1.public_keys.retain(|kid, _| kid != "k1"),
            "k1 (line 5",
        ),
    ];
    for (change, part) in faults {
        let mut facts = good();
        change(&mut facts);
        let statement = facts.statement();
        assert_eq!((statement.claim.id, statement.holds), ("access-2", false));
        let faults = statement.faults.join("\n");
        assert!(faults.contains(part), "{part}: {faults}");
    }
}

#[test]
fn a_line_that_names_no_key_is_passed_over_and_that_is_said() {
    let mut facts = good();
    facts.told = told(vec![
        line(3, "client.add", "shop", &[("role", "billing")]),
        line(4, "client.add", "gone", &[("role", "auditor")]),
        line(
            5,
            "client.add",
            "box",
            &[("role", "operator"), ("sealed", "true")],
        ),
        line(6, "client.renew", "shop", &[("overlap_seconds", "60")]),
        line(9, "client.revoke", "gone", &[]),
    ]);
    let statement = facts.statement();
    assert!(statement.holds, "{:?}", statement.faults);
    for row in statement.evidence.rows {
        assert!(row[6].starts_with("passed over"), "{row:?}");
    }
}

#[test]
fn the_revoked_clients_of_drills_have_one_row_and_are_judged() {
    let mut facts = good();
    for name in ["scope-drill-a", "scope-drill-b", "scope-drill-c"] {
        let mut of_drill = client(name, Role::Billing);
        of_drill.revoked_at = Some(Timestamp::from_seconds(200));
        facts.clients.push(of_drill);
        let lines = ["client.add", "client.revoke"].map(|action| {
            let details = [("role", "billing")];
            line(20, action, name, &details)
        });
        facts.told.extend(told(lines.into()));
    }
    let rows = facts.statement().evidence.rows;
    assert_eq!(rows.len(), 4, "{rows:?}");
    assert!(rows[3][0].starts_with("scope-drill-…"), "{rows:?}");
    the(&mut facts, "scope-drill-b").0.revoked_at = None;
    let statement = facts.statement();
    assert!(!statement.holds);
    assert_eq!(statement.evidence.rows.len(), 5);
}

#[test]
fn no_client_is_said_too() {
    let mut facts = good();
    facts.clients.clear();
    facts.told.clear();
    let statement = facts.statement();
    assert_eq!(statement.evidence.rows[0][0], "no client");
    assert!(statement.holds);
}
