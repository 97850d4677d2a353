//! In process and over sockets, the same faults look alike to a client, whatever the provider says.
#![expect(
    clippy::unwrap_used,
    reason = "a helper that fails is a test that fails"
)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cardless_contract::{Delivery, SystemClock};
use cardless_sandbox::{Addresses, Fault, FaultKind, Provider, Running, Sandbox, Servers};
use cardless_transport::{ClientConfig, HttpClient, ReqwestClient};

/// How a fault ends for a client: a status, or how far the request got.
type Seen = Result<u16, Delivery>;

const DEADLINE: Duration = Duration::from_millis(300);

fn sandbox() -> Sandbox {
    Sandbox::new(Arc::new(SystemClock::default()))
}

async fn ask(client: &dyn HttpClient, base: &str) -> Seen {
    let request = http::Request::get(format!("{base}/v1/unknown"))
        .body(Bytes::new())
        .unwrap();
    match client.send(request).await {
        Ok(answer) => Ok(answer.status().as_u16()),
        Err(error) => Err(error.delivery()),
    }
}

fn fault(provider: Provider, fault: FaultKind) -> Fault {
    Fault {
        provider,
        operation: Some("GET /v1/unknown".parse().unwrap()),
        times: 1,
        fault,
    }
}

async fn in_process(provider: Provider, kind: FaultKind) -> Seen {
    let sandbox = sandbox();
    let client = sandbox.provider(provider).client(DEADLINE);
    sandbox.inject(fault(provider, kind)).unwrap();
    ask(&client, &sandbox.base(provider)).await
}

async fn over_sockets(running: &Running, provider: Provider, kind: FaultKind) -> Seen {
    let client = ReqwestClient::new(&ClientConfig {
        total_timeout: DEADLINE,
        ..ClientConfig::default()
    })
    .unwrap();
    if kind == FaultKind::Refuse {
        running.refuse(provider, 1).await;
    } else {
        running.sandbox().inject(fault(provider, kind)).unwrap();
    }
    let seen = ask(&client, &running.sandbox().base(provider)).await;
    running.reopen(provider).await;
    seen
}

#[tokio::test]
async fn faults_look_alike() {
    let running = Servers::start(sandbox(), Addresses::free()).await.unwrap();
    for provider in Provider::ALL {
        for (kind, expected) in [
            (FaultKind::Refuse, Err(Delivery::NotSent)),
            (FaultKind::DropBefore, Err(Delivery::Unknown)),
            (FaultKind::Stall, Err(Delivery::Unknown)),
            (FaultKind::ExecuteThenDrop, Err(Delivery::Unknown)),
            (FaultKind::ExecuteThen500, Ok(500)),
            (FaultKind::HalfBody, Err(Delivery::Unknown)),
        ] {
            assert_eq!(
                in_process(provider, kind).await,
                expected,
                "{provider} {kind:?}"
            );
            let seen = over_sockets(&running, provider, kind).await;
            assert_eq!(seen, expected, "{provider} {kind:?}");
        }
    }
    running.shutdown().await;
}

#[tokio::test]
async fn clones_are_the_same_sandbox() {
    let sandbox = sandbox();
    let client = sandbox.provider(Provider::Aduno).client(DEADLINE);
    let seen = ask(&client, &sandbox.base(Provider::Aduno)).await;
    assert!(seen.is_ok());
    assert_eq!(sandbox.clone().requests(Some(Provider::Aduno)).len(), 1);
}
