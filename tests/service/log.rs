use std::cell::RefCell;
use std::io::{self, Write};

use crate::support::{Desk, payment};

thread_local! {
    /// What this thread has logged.
    static LINES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Keeps each thread's lines apart, so that tests beside this one do not mix in.
#[derive(Debug)]
struct OwnLines;

impl Write for OwnLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.with_borrow_mut(|lines| lines.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The test's runtime has one thread, so that its handlers log on it too.
#[tokio::test]
async fn a_request_is_one_line_without_anything_of_its_own() {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(|| OwnLines)
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let desk = Desk::new().await;
    let mut body = payment();
    body["account"] = "canary-account".into();
    body["reference"] = "canary-reference".into();
    let request = desk
        .request(axum::http::Method::POST, "/v1/payments?canary=canary")
        .header("x-canary", "canary-header");
    desk.send(request.body(body.to_string().into()).unwrap())
        .await;
    desk.get("/v1/payments/canary-id").await;
    for method in ["4111111111111111", "CANARY-canary"] {
        let method = axum::http::Method::from_bytes(method.as_bytes()).unwrap();
        let request = desk.request(method, "/v1/payments");
        desk.send(request.body("".into()).unwrap()).await;
    }

    let text = String::from_utf8(LINES.with_borrow(Clone::clone)).unwrap();
    assert!(
        !text.contains("canary") && !text.contains("key-a") && !text.contains("4111"),
        "{text}"
    );
    assert!(!text.contains(&desk.billing), "{text}");
    let requests: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("gate: request"))
        .collect();
    assert_eq!(requests.len(), 4, "{text}");
    assert!(requests[0].contains("method=POST"), "{text}");
    for (line, status) in requests[2..].iter().zip(["422", "405"]) {
        let expected = format!("method=- route=\"/v1/payments\" status={status}");
        assert!(line.contains(&expected), "{text}");
    }
    let expected = "route=\"/v1/payments/{id}\" status=404";
    assert!(
        requests[1].contains(expected) && requests[1].contains("client=\"shop\""),
        "{text}"
    );
}
