//! The scope report over a provider that is somewhere: who is asked for a handshake, and what is kept.

use cardless::gateway::AuditQuery;
use cardless::scope::{Build, Report, Sources, probe};
use cardless_contract::{ProviderPlace, Purpose};

use crate::fake::Shape;
use crate::world::World;

/// An address of this machine on which nobody listens.
fn closed_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn place(host: &str, port: u16, loopback: bool) -> ProviderPlace {
    ProviderPlace {
        scheme: "https".to_owned(),
        host: host.to_owned(),
        port,
        path: String::new(),
        loopback,
        purposes: &[Purpose::Api, Purpose::CustomerPage],
        operator: "nobody",
    }
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_in_the_audit_log_and_in_the_report() {
    let port = closed_port();
    let world = World::with(Shape::TwoCalls.capabilities(), |fake| {
        fake.places = vec![
            place("127.0.0.1", port, false),
            place("localhost", port, true),
        ];
    });
    let sources = Sources {
        gateway: world.gateway.clone(),
        settings: None,
        doors: Vec::new(),
        build: Build::of_process(),
    };
    assert_eq!(probe(&sources).await.unwrap(), (1, 0));
    let query = AuditQuery {
        action: Some("scope.probe".to_owned()),
        object: None,
        account: None,
        before: None,
        limit: 10,
    };
    let lines = world.gateway.audit_lines(&query).await.unwrap().data;
    assert_eq!(lines.len(), 1, "{lines:?}");
    let line = &lines[0];
    assert_eq!(line.outcome, "failed");
    assert_eq!(line.details["host"], "127.0.0.1");
    assert_eq!(line.details["port"], port.to_string());
    assert_eq!(line.details["error"], "no connection");

    let report = Report::of(&sources, |_, _| {}).await.unwrap();
    let faults: Vec<&String> = report
        .failed()
        .filter(|statement| statement.claim.id == "connections-5")
        .flat_map(|statement| &statement.faults)
        .collect();
    assert_eq!(
        faults,
        [&format!("127.0.0.1:{port}: no agreement: no connection")]
    );
}
