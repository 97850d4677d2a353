//! The audit log from outside: the command line that writes, lists and checks it, and calls that
//! are refused over a socket.

use std::process::Command;

use cardless::gateway::{AuditQuery, Role};
use http::{HeaderMap, Method, header};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::world::{ACCOUNT, World};

/// Exit code, standard output and standard error of the program.
fn run(folder: &TempDir, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cardless"));
    command.current_dir(folder.path()).args(arguments);
    let output = command.env_clear().env("USER", "ann").output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

fn json(folder: &TempDir, arguments: &[&str]) -> Value {
    serde_json::from_str(&run(folder, arguments).1).unwrap()
}

#[test]
fn the_command_line_lists_and_checks_the_log() {
    let folder = TempDir::new().unwrap();
    assert_eq!(run(&folder, &["init"]).0, 0);
    let add = ["client", "add", "shop", "--role", "billing"];
    assert_eq!(run(&folder, &add).0, 0);
    assert_eq!(run(&folder, &add).0, 2);
    assert_eq!(run(&folder, &["client", "revoke", "shop"]).0, 0);

    let (code, out, _) = run(&folder, &["audit", "verify"]);
    assert_eq!(code, 0, "{out}");
    let report = json(&folder, &["audit", "verify", "--json"]);
    // The check before this one has left a line too.
    assert_eq!(report["lines"], 4);
    let head = report["head"].as_str().unwrap();
    assert_eq!(run(&folder, &["audit", "verify", "--expect", head]).0, 0);
    let other = format!("3:{}", head.split_once(':').unwrap().1);
    let (code, out, error) = run(&folder, &["audit", "verify", "--expect", &other]);
    assert_eq!(code, 1, "{out} {error}");
    assert!(
        out.contains("line 3 is not the one that was noted"),
        "{out}"
    );
    assert_eq!(run(&folder, &["audit", "verify", "--expect", "3"]).0, 2);

    let list = json(&folder, &["audit", "list", "--json", "--object", "shop"]);
    let said: Vec<String> = list["data"].as_array().unwrap().iter().map(said).collect();
    assert_eq!(
        said,
        [
            "ann command_line client.revoke done",
            "ann command_line client.add refused",
            "ann command_line client.add done"
        ]
    );
    let page = json(&folder, &["audit", "list", "--json", "--limit", "2"]);
    let next = page["next"].as_str().unwrap();
    let rest = json(&folder, &["audit", "list", "--json", "--before", next]);
    assert_eq!(rest["data"][0]["line"].to_string(), {
        let last: i64 = next.parse().unwrap();
        (last - 1).to_string()
    });
    assert_eq!(run(&folder, &["audit", "list", "--action", "nothing"]).0, 2);
}

fn said(line: &Value) -> String {
    let words = ["actor", "role", "action", "outcome"].map(|name| line[name].as_str().unwrap());
    words.join(" ")
}

async fn get(world: &World, path: &str, api_key: &str) -> u16 {
    let mut headers = HeaderMap::new();
    let bearer = format!("Bearer {api_key}");
    headers.insert(header::AUTHORIZATION, bearer.parse().unwrap());
    let url = format!("{}{path}", world.base);
    let answer = world.send(Method::GET, &url, headers, "").await;
    answer.status().as_u16()
}

#[tokio::test]
async fn a_refused_call_leaves_a_line_with_where_it_came_from() {
    let world = World::new().await;
    let addresses = ["/v1/payments/pay_x", "/v1/payments/pay_y"];
    for address in addresses {
        assert_eq!(get(&world, address, "ck_wrong").await, 401);
    }
    let auditor = world
        .gateway
        .add_client("reviewer", Role::Auditor)
        .await
        .unwrap();
    assert_eq!(get(&world, addresses[0], &auditor).await, 403);
    let query = AuditQuery {
        limit: 10,
        ..AuditQuery::default()
    };
    let lines = world.gateway.audit_lines(&query).await.unwrap().data;
    let said: Vec<_> = lines
        .iter()
        .rev()
        .map(|line| format!("{} {} {}", line.action, line.object, line.origin))
        .collect();
    assert_eq!(
        said,
        [
            "client.add shop process",
            "login.refused  http_loopback",
            "client.add reviewer process",
            "call.refused reviewer http_loopback",
        ]
    );
}

/// Whatever is audited of a client's call names the client, and not who has started the service.
#[tokio::test]
async fn a_clients_call_is_audited_under_the_clients_name() {
    let world = World::new().await;
    world.link("paypal").await;
    let path = |what: &str| format!("/v1/accounts/{ACCOUNT}/{what}");
    let begun = world.gateway.audit_lines(&all_lines()).await.unwrap().data;
    world.call(Method::GET, &path("erasure"), "-", "").await;
    world.get(&path("export")).await;
    let restricted = json!({ "restricted": true });
    let key = world.key();
    let body = restricted.to_string();
    world
        .call(Method::PUT, &path("restriction"), &key, body)
        .await;
    world.post(&path("erasure"), &json!({})).await;
    world.get(&path("erasure")).await;

    let lines = world.gateway.audit_lines(&all_lines()).await.unwrap().data;
    let said: Vec<_> = lines
        .iter()
        .rev()
        .skip(begun.len())
        .filter(|line| line.action != "account.erased")
        .map(|line| {
            format!(
                "{} {} {} {}",
                line.action, line.actor, line.role, line.origin
            )
        })
        .collect();
    assert_eq!(
        said,
        [
            "account.show shop billing http_loopback",
            "account.export shop billing http_loopback",
            "account.restrict shop billing http_loopback",
            "account.erase shop billing http_loopback",
            "account.show shop billing http_loopback",
        ]
    );
}

fn all_lines() -> AuditQuery {
    AuditQuery {
        limit: 100,
        ..AuditQuery::default()
    }
}
