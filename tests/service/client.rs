use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use cardless::client::{Client, ClientError};
use cardless::message::PaymentQuery;
use cardless_transport::{HttpClient, Request, Response, SendError};
use tower::ServiceExt as _;

use crate::support::Desk;

/// Hands each request to the router, and remembers its path and query.
#[derive(Debug, Clone)]
struct ToRouter {
    router: Router,
    seen: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl HttpClient for ToRouter {
    async fn send(&self, request: Request) -> Result<Response, SendError> {
        let seen = request.uri().path_and_query().unwrap().to_string();
        self.seen.lock().unwrap().push(seen);
        let response = self
            .router
            .clone()
            .oneshot(request.map(Body::from))
            .await
            .unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Ok(Response::from_parts(parts, body))
    }
}

async fn desk() -> (Client, Client, Arc<Mutex<Vec<String>>>) {
    let desk = Desk::new().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let http = Arc::new(ToRouter {
        router: desk.router.clone(),
        seen: Arc::clone(&seen),
    });
    let base = "http://127.0.0.1:8080/";
    let known = Client::new(base, desk.billing.clone(), http.clone()).unwrap();
    let unknown = Client::new(base, "ck_unknown", http).unwrap();
    (known, unknown, seen)
}

/// The code of a refusal; nothing for any other error.
fn code(error: ClientError) -> String {
    if let ClientError::Problem(problem) = error {
        problem.code
    } else {
        String::new()
    }
}

#[tokio::test]
async fn a_refusal_is_a_problem_with_its_code() {
    let (known, unknown, _) = desk().await;
    assert_eq!(code(known.payment("pay_a").await.unwrap_err()), "not_found");
    assert_eq!(
        code(unknown.payment("pay_a").await.unwrap_err()),
        "unauthenticated"
    );
    let void = cardless::message::VoidRequest {
        account: "a".into(),
    };
    assert_eq!(
        code(known.void("bad key", "pay_a", &void).await.unwrap_err()),
        "idempotency_key"
    );
}

#[tokio::test]
async fn what_varies_is_encoded() {
    let (known, _, seen) = desk().await;
    known.payment("a/b?c").await.unwrap_err();
    let query = PaymentQuery {
        account: "acct&a".into(),
        reference: Some("inv 1".into()),
        after: None,
    };
    // An account that is not valid or not there: only the address matters here.
    drop(known.payments(&query).await);
    known.revoke("pm_a", "acct:a").await.unwrap_err();
    assert_eq!(
        *seen.lock().unwrap(),
        [
            "/v1/payments/a%2Fb%3Fc",
            "/v1/payments?account=acct%26a&reference=inv+1",
            "/v1/payment-methods/pm_a?account=acct%3Aa",
        ]
    );
}

#[tokio::test]
async fn debug_shows_no_key() {
    let (_, unknown, _) = desk().await;
    assert!(!format!("{unknown:?}").contains("ck_unknown"));
}
