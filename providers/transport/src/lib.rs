//! The only place where requests leave.
//!
//! An adapter builds a whole [`Request`] and gets a whole [`Response`] or a [`SendError`] that
//! says how far the request got. Between the two lie:
//!
//! - [`Hosts`]: the addresses that a provider's calls, links, pages and certificates may have;
//! - [`HttpClient`]: one attempt, with [`ReqwestClient`] over the network and
//!   [`InProcessClient`] straight into the sandbox;
//! - [`Credentials`]: several live ones during a rotation, and whose turn it is;
//! - [`TlsFacts`] and [`handshake`]: what TLS offers here, and what it came to with a server;
//! - [`Budget`]: how often strangers can make a provider be asked;
//! - [`leaving_by`]: the moment after which nothing that may move money leaves any more.
//!
//! Invariants, each held by a test:
//!
//! - A request is written to a connection at most once: no retry, no redirect, no 0-RTT.
//! - Only a connection that was never made is `NotSent`; whatever fails after it is `Unknown`.
//! - A request that would change something does not leave after its time ([`leaving_by`]).
//! - A client for a provider connects to no name that lies on this machine or in a private network
//!   ([`Names::Public`]).
//! - No answer beyond [`MAX_BODY_BYTES`] is held in memory.
//! - Neither proxies from the environment nor cookies nor decompression take part.
//! - Headers, bodies, queries and tokens in paths are in no log line and in no error.
//!
//! The libraries below log what passes through them. A program that sets up logging must keep
//! every target in [`QUIET_TARGETS`] at `warn` or above, whatever its user asks for.

mod budget;
mod classify;
mod client;
mod credentials;
mod departure;
mod facts;
mod handshake;
mod hosts;
mod in_process;
mod names;
mod redact;
mod reqwest_client;
mod tls;

pub use budget::Budget;
pub use client::{HttpClient, MAX_BODY_BYTES, Request, Response, SendError};
pub use credentials::{Credentials, Turn};
pub use departure::leaving_by;
pub use facts::{Suite, TlsFacts, viable_suite, viable_version};
pub use handshake::{Handshake, HandshakeError, handshake};
pub use hosts::{Hosts, HostsError};
pub use in_process::{InProcessClient, InProcessServer, Reply};
pub use names::Names;
pub use redact::{QUIET_TARGETS, redact_path};
pub use reqwest_client::{ClientConfig, ClientError, ReqwestClient};

use std::sync::Arc;

use cardless_contract::{Delivery, ErrorKind, ProviderName};
use tokio::time::Instant;

/// One provider's way out: a client behind the list of addresses that it may reach.
#[derive(Debug, Clone)]
pub struct Transport {
    provider: ProviderName,
    client: Arc<dyn HttpClient>,
    hosts: Hosts,
}

impl Transport {
    /// A way out for `provider` to `hosts` through `client`.
    pub fn new(provider: ProviderName, client: Arc<dyn HttpClient>, hosts: Hosts) -> Self {
        Self {
            provider,
            client,
            hosts,
        }
    }

    /// Where this provider's calls may go.
    pub const fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// Sends one request, once, if its address is on the list.
    ///
    /// # Errors
    ///
    /// [`SendError`]; an address off the list is `NotSent` and `Internal`, a request that is too
    /// late ([`leaving_by`]) is `NotSent` and `Interrupted`.
    pub async fn send(&self, request: Request) -> Result<Response, SendError> {
        let allowed =
            url::Url::parse(&request.uri().to_string()).is_ok_and(|url| self.hosts.allow(&url));
        if !allowed {
            return Err(SendError::new(Delivery::NotSent, ErrorKind::Internal)
                .with_source("the address is not on the provider's list"));
        }
        if departure::is_missed(request.method()) {
            return Err(SendError::new(Delivery::NotSent, ErrorKind::Interrupted)
                .with_source("it was marked as sent too long ago"));
        }
        if !tracing::enabled!(tracing::Level::TRACE) {
            return self.client.send(request).await;
        }
        self.send_traced(request).await
    }

    /// The same with two log lines around it: method, host, redacted path; status or how far it
    /// got; and how long it took, in milliseconds.
    async fn send_traced(&self, request: Request) -> Result<Response, SendError> {
        let method = request.method().clone();
        let host = request.uri().host().unwrap_or_default().to_owned();
        let path = redact_path(request.uri().path());
        let provider = &self.provider;
        tracing::trace!(%provider, %method, host, path, "request leaves");
        let start = Instant::now();
        let result = self.client.send(request).await;
        let millis = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        match &result {
            Ok(response) => {
                let status = response.status().as_u16();
                tracing::trace!(%provider, %method, host, path, status, millis, "answer");
            }
            Err(error) => {
                let delivery = error.delivery();
                tracing::trace!(%provider, %method, host, path, ?delivery, %error, millis, "no answer");
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::fmt::{self, Write as _};

    use std::time::Duration;

    use bytes::Bytes;
    use tracing::field::{Field, Visit};
    use tracing::span;

    use super::*;

    /// Answers everything with a body and a header that must not be logged.
    #[derive(Debug)]
    struct Canaries;

    impl InProcessServer for Canaries {
        fn serve(&self, request: Request) -> Reply {
            if request.uri().path().ends_with("/lost") {
                return Reply::Drop;
            }
            let mut response = Response::new(Bytes::from_static(b"canary"));
            response
                .headers_mut()
                .insert("x-answer", http::HeaderValue::from_static("canary"));
            Reply::Answer(response)
        }
    }

    thread_local! {
        /// What this thread has logged.
        static LOGGED: RefCell<String> = const { RefCell::new(String::new()) };
    }

    /// Keeps every log line as text, each thread's apart. It is everybody's: were it one thread's
    /// alone, a test beside it that reaches a line first would have it switched off for all.
    #[derive(Debug, Clone)]
    struct Lines;

    impl tracing::Subscriber for Lines {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn event(&self, event: &tracing::Event<'_>) {
            event.record(&mut self.clone());
        }
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    impl Visit for Lines {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            LOGGED.with_borrow_mut(|lines| write!(lines, "{field}={value:?} ").unwrap());
        }
    }

    /// To a provider that answers with canaries.
    fn transport() -> Transport {
        let client = InProcessClient::new(Arc::new(Canaries), Duration::from_secs(1));
        Transport::new(
            ProviderName::new("paypal").unwrap(),
            Arc::new(client),
            Hosts::new("https://api-m.paypal.com", &[]).unwrap(),
        )
    }

    async fn send(path: &str) {
        let transport = transport();
        let request = http::Request::post(format!("https://api-m.paypal.com{path}"))
            .header("authorization", "Bearer canary")
            .body(Bytes::from_static(b"canary"))
            .unwrap();
        transport.send(request).await.ok();
    }

    /// A clock that the test moves.
    #[derive(Debug, Default)]
    struct Hands(std::sync::atomic::AtomicI64);

    impl cardless_contract::Clock for Hands {
        fn now(&self) -> cardless_contract::Timestamp {
            let seconds = self.0.load(std::sync::atomic::Ordering::SeqCst);
            cardless_contract::Timestamp::from_seconds(seconds)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_that_changes_anything_leaves_too_late() {
        let hands = Arc::new(Hands::default());
        let transport = transport();
        let by = cardless_contract::Timestamp::from_seconds(10);
        for (now, method, leaves) in [
            (10, "POST", true),
            (11, "POST", false),
            (11, "PATCH", false),
            (11, "DELETE", false),
            (11, "GET", true),
        ] {
            hands.0.store(now, std::sync::atomic::Ordering::SeqCst);
            let request = http::Request::builder()
                .method(method)
                .uri("https://api-m.paypal.com/v2/checkout/orders")
                .body(Bytes::new())
                .unwrap();
            let sent = leaving_by(hands.clone(), by, transport.send(request)).await;
            match sent {
                Ok(_) => assert!(leaves, "{method} at {now}"),
                Err(error) => {
                    assert!(!leaves, "{method} at {now}: {error}");
                    assert_eq!(error.delivery(), Delivery::NotSent);
                    assert_ne!(
                        error.kind(),
                        ErrorKind::Unreachable,
                        "it is not tried again"
                    );
                }
            }
        }
    }

    /// The clock is put back between the mark and the sending: ten seconds stay ten seconds.
    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_put_back_gives_no_more_time_to_leave() {
        let hands = Arc::new(Hands::default());
        hands.0.store(3600, std::sync::atomic::Ordering::SeqCst);
        let transport = transport();
        for (waited, leaves) in [(9, true), (11, false)] {
            let by = cardless_contract::Timestamp::from_seconds(3610);
            hands.0.store(3600, std::sync::atomic::Ordering::SeqCst);
            let sent = leaving_by(hands.clone(), by, async {
                hands.0.store(0, std::sync::atomic::Ordering::SeqCst);
                tokio::time::advance(Duration::from_secs(waited)).await;
                let request = http::Request::post("https://api-m.paypal.com/v2/checkout/orders");
                let request = request.body(Bytes::new()).unwrap();
                transport.send(request).await
            });
            assert_eq!(sent.await.is_ok(), leaves, "after {waited} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn log_lines_hold_no_secret() {
        tracing::subscriber::set_global_default(Lines).unwrap();
        tracing::callsite::rebuild_interest_cache();
        send("/v3/vault/payment-tokens/canary?page=canary").await;
        send("/v2/checkout/orders/5O19/lost").await;
        let text = LOGGED.with_borrow(Clone::clone);
        for shown in [
            "method=POST",
            "host=\"api-m.paypal.com\"",
            "path=\"/v3/vault/payment-tokens/…\"",
            "path=\"/v2/checkout/orders/5O19/lost\"",
            "status=200",
            "delivery=Unknown",
        ] {
            assert!(text.contains(shown), "{shown} in {text}");
        }
        assert!(!text.contains("canary"), "{text}");
    }
}
