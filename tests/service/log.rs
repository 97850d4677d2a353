use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use tracing_subscriber::fmt::MakeWriter;

use crate::support::{Desk, payment};

/// What the log has been given.
#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// One thread, so that the log of this test is its own.
#[tokio::test]
async fn a_request_is_one_line_without_anything_of_its_own() {
    let desk = Desk::new().await;
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(lines.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let mut body = payment();
    body["account"] = "canary-account".into();
    body["reference"] = "canary-reference".into();
    let request = desk
        .request(axum::http::Method::POST, "/v1/payments?canary=canary")
        .header("x-canary", "canary-header");
    desk.send(request.body(body.to_string().into()).unwrap())
        .await;
    desk.get("/v1/payments/canary-id").await;
    drop(guard);

    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(
        !text.contains("canary") && !text.contains("key-a"),
        "{text}"
    );
    assert!(!text.contains(&desk.billing), "{text}");
    let requests: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("gate: request"))
        .collect();
    assert_eq!(requests.len(), 2, "{text}");
    let expected = "route=\"/v1/payments/{id}\" status=404";
    assert!(
        requests[1].contains(expected) && requests[1].contains("client=\"shop\""),
        "{text}"
    );
}
