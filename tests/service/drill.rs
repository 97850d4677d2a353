//! `scope --drill`: that every door refuses a card number and tells of it, and that a door which
//! does not is found.

use std::process::Command;

use bytes::Bytes;
use cardless::gateway::{AuditQuery, Role};
use cardless::scope::Door;
use cardless::scope::drill::{Drill, Reach, WaysIn};
use cardless_contract::async_trait;
use http::{Request, Response};
use rusqlite::Connection;
use serde_json::Value;

use crate::people::Desk;
use crate::world::ALL;

/// The statement about the last drill.
const STATEMENT: &str = "incidents-1";

/// A service that takes whatever comes and keeps it, and a log that keeps it too.
struct Careless(std::sync::Mutex<Connection>);

#[async_trait]
impl WaysIn for Careless {
    async fn http(&self, request: Request<Bytes>) -> Response<Bytes> {
        let kept = format!("{} {:?}", request.uri(), request.body());
        let file = self.0.lock().unwrap();
        file.execute("INSERT INTO kept VALUES (?1)", [kept])
            .unwrap();
        Response::new(Bytes::from_static(b"{}"))
    }

    fn logged(&self, line: &str) -> String {
        line.to_owned()
    }
}

fn statement(desk: &Desk, id: &str) -> Option<Value> {
    let (_, out, _) = desk.run(&["scope", "--format", "json"]);
    let report: Value = serde_json::from_str(&out).unwrap();
    let sections = report["sections"].as_array().unwrap();
    let statements = sections
        .iter()
        .flat_map(|section| section["statements"].as_array().unwrap());
    let mut of_it = statements.filter(|statement| statement["id"] == id);
    of_it.next().cloned()
}

fn drilled(desk: &Desk, environment: &[(&str, &str)]) -> (i32, String, String) {
    run_with(desk, &["scope", "--drill", "--json"], environment)
}

/// Exit code, standard output and standard error of the program in this environment.
fn run_with(
    desk: &Desk,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cardless"));
    command.current_dir(desk.folder.path()).args(arguments);
    let environment = environment.iter().copied();
    let output = command.env_clear().envs(environment).output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_door_refuses_a_card_number_and_tells_of_it() {
    let desk = Desk::new().await;
    assert!(statement(&desk, STATEMENT).is_none());
    let (_, out, _) = desk.run(&["scope"]);
    assert!(
        out.contains("`incidents-q2`") && out.contains("scope --drill"),
        "{out}"
    );

    let (code, out, err) = drilled(&desk, &[("RUST_LOG", "warn")]);
    assert_eq!(code, 0, "{out}{err}");
    let drill: Value = serde_json::from_str(&out).unwrap();
    let tries = drill["tries"].as_array().unwrap();
    let tried = |door: &str, place: &str| {
        let mut of = tries
            .iter()
            .filter(|one| one["door"] == door && one["place"] == place);
        of.next().unwrap_or_else(|| panic!("{door} {place}: {out}"))
    };
    for (door, place) in [
        ("POST /v1/payments", "Idempotency-Key"),
        ("POST /v1/payments", "body"),
        ("POST /v1/payments", "number in the body"),
        ("POST /v1/payments", "name in the body"),
        ("GET /v1/payments/{id}", "path"),
        ("GET /v1/payments", "query"),
        ("PUT /v1/accounts/{account}/restriction", "body"),
        ("POST /v1/exchange", "query"),
        ("the library", "description"),
        ("the library", "return_url"),
    ] {
        let one = tried(door, place);
        assert_eq!(one["answer"], "card_number", "{one}");
        assert_eq!(one["alarmed"], true, "{one}");
    }
    for provider in ALL {
        let one = tried(&format!("POST /webhooks/{provider}"), "body");
        assert_eq!(one["answer"], "notification_refused", "{one}");
    }
    assert_eq!(tried("the log", "line")["answer"], "withheld");
    assert!(drill["stored"].as_array().unwrap().is_empty());
    assert!(drill["looked_at_bytes"].as_u64().unwrap() > 100_000);

    // Each refusal is a warning that names rule and field, and the number is in none of them.
    let alarms = err
        .lines()
        .filter(|line| line.contains("WARN") && line.contains("rule=\"visa\""));
    let alarms: Vec<&str> = alarms.collect();
    let due = tries.iter().filter(|one| one["alarmed"] == true).count();
    assert!(alarms.len() >= due, "{due}: {err}");
    for field in ["Idempotency-Key", "note", "path", "description"] {
        let named = format!("field=\"{field}\"");
        assert!(alarms.iter().any(|line| line.contains(&named)), "{field}");
    }
    assert!(!out.contains("400000") && !err.contains("400000"), "{err}");
    // They are shown to whoever asks for them, and to nobody else.
    let (code, _, err) = drilled(&desk, &[]);
    assert_eq!((code, err.as_str()), (0, ""));

    // The drill's own client is let in no more, and the log has its line.
    let clients = desk.gateway.clients().await.unwrap();
    assert!(clients.iter().all(|client| client.revoked_at.is_some()));
    let of_it = drill["client"].as_str().unwrap();
    assert!(clients.iter().any(|client| client.name == of_it), "{out}");
    let found = statement(&desk, STATEMENT).unwrap();
    assert_eq!(found["holds"], true, "{found}");
    assert_eq!(
        found["evidence"]["rows"][0][4],
        tries.len().to_string(),
        "{found}"
    );
    let year_on = [("CARDLESS_CLOCK_OFFSET_SECONDS", "31622400")];
    let (code, said, _) = run_with(&desk, &["scope", "--prove"], &year_on);
    assert_eq!(code, 1, "{said}");
    let stale = said.lines().skip_while(|line| !line.starts_with(STATEMENT));
    assert!(stale.take(2).any(|line| line.contains("stale")), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drill_leaves_the_client_of_another_one_that_runs_alone() {
    let desk = Desk::new().await;
    for name in ["scope-drill-now", "scope-drill-killed"] {
        desk.gateway.add_client(name, Role::Billing).await.unwrap();
    }
    let file = Connection::open(desk.folder.path().join("cardless.db")).unwrap();
    let long_ago = "UPDATE clients SET created_at = created_at - 601000 WHERE name LIKE '%killed'";
    assert_eq!(file.execute(long_ago, []).unwrap(), 1);
    let (code, out, err) = desk.run(&["scope", "--drill"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("it is revoked, and stays"), "{out}");
    for client in desk.gateway.clients().await.unwrap() {
        let runs = client.name == "scope-drill-now";
        assert_eq!(client.revoked_at.is_none(), runs, "{}", client.name);
    }
    assert_eq!(statement(&desk, STATEMENT).unwrap()["holds"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_door_that_takes_a_card_number_fails_the_drill() {
    let desk = Desk::new().await;
    let path = desk.folder.path().join("cardless.db");
    let file = Connection::open(&path).unwrap();
    file.execute_batch("CREATE TABLE kept (x TEXT)").unwrap();
    let reach = Reach {
        doors: vec![Door {
            method: "POST".to_owned(),
            path: "/v1/notes/{id}".to_owned(),
            id: "note".to_owned(),
            summary: String::new(),
            open: false,
            roles: Vec::new(),
            takes: Vec::new(),
            gives: Vec::new(),
        }],
        files: vec![path.clone()],
    };
    let careless = Careless(std::sync::Mutex::new(file));
    let drill = Drill::run(&desk.gateway, &reach, &careless).await.unwrap();
    assert!(!drill.holds());
    assert!(drill.stored.contains(&"kept.x".to_owned()), "{drill:?}");
    let failures = drill.failures().join("\n");
    for part in [
        "POST /v1/notes/{id} (body) did not refuse",
        "POST /v1/notes/{id} (body) refused a card number and no alarm went off",
        "the log (line) did not refuse",
        "kept.x holds the number",
    ] {
        assert!(failures.contains(part), "{part}: {failures}");
    }

    let query = AuditQuery {
        action: Some("scope.drill".to_owned()),
        limit: 1,
        ..AuditQuery::default()
    };
    let line = desk.gateway.audit_lines(&query).await.unwrap().data[0].clone();
    assert_eq!(line.outcome, "failed");
    let found = statement(&desk, STATEMENT).unwrap();
    assert_eq!(found["holds"], false);
    let fault = found["faults"][0].as_str().unwrap();
    assert!(fault.contains(&format!("line {}", line.line)), "{fault}");
}
