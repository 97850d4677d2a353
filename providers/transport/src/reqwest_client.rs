use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use cardless_contract::{Delivery, ErrorKind};
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method};
use reqwest::dns::Resolve;

use crate::hosts::is_loopback_address;
use crate::names::{LOOPBACK, Names, Public, System};
use crate::{HttpClient, MAX_BODY_BYTES, Request, Response, SendError, classify, tls};

/// How a [`ReqwestClient`] connects and how long it waits.
#[derive(Clone)]
pub struct ClientConfig {
    /// The longest time for name, connection and TLS together. Passing it is `NotSent`.
    pub connect_timeout: Duration,
    /// The longest time for a whole call, from the start to the last byte. Passing it is `Unknown`.
    pub total_timeout: Duration,
    /// Certificates (PEM) to trust beside the public ones. A client that has any reaches loopback
    /// and nothing else.
    pub extra_roots: Option<String>,
    /// Where the names that it connects to may lie.
    pub names: Names,
}

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The extra roots are no PEM certificates.
    #[error("the extra trust roots are not PEM certificates")]
    ExtraRoots,
    /// TLS could not be set up.
    #[error("TLS could not be set up")]
    Tls,
    /// The HTTP client could not be set up.
    #[error("the HTTP client could not be set up")]
    Client(#[source] reqwest::Error),
}

/// Sends requests over the network: HTTP/2 or HTTP/1.1, TLS by rustls and ring.
///
/// Cloning it shares the pool of connections. One per provider is right.
///
/// Each request is written at most once. A pooled connection that the other side has closed in the
/// meantime is no exception: hyper takes a fresh one only if it gets the request back unsent from
/// the connection's queue; once a request is off that queue, its failure is final and `Unknown`.
#[derive(Debug, Clone)]
pub struct ReqwestClient {
    client: reqwest::Client,
    total_timeout: Duration,
    loopback_only: bool,
}

/// How long a connection may lie idle before it is closed. Shorter than what servers allow, so that
/// a request seldom meets a connection that is being closed.
const POOL_IDLE_SECONDS: u64 = 30;

/// How we call ourselves, unless a request says otherwise.
const USER_AGENT: &str = concat!("cardless/", env!("CARGO_PKG_VERSION"));

impl Default for ClientConfig {
    /// Ten seconds to connect, thirty in all, no extra roots, names anywhere.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            total_timeout: Duration::from_secs(30),
            extra_roots: None,
            names: Names::Anywhere,
        }
    }
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig")
            .field("connect_timeout", &self.connect_timeout)
            .field("total_timeout", &self.total_timeout)
            .field("extra_roots", &self.extra_roots.is_some())
            .field("names", &self.names)
            .finish()
    }
}

impl ReqwestClient {
    /// A client with a pool of its own.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn new(config: &ClientConfig) -> Result<Self, ClientError> {
        Self::with(config, Arc::new(System))
    }

    /// The same with a resolver of its own.
    pub(crate) fn with(
        config: &ClientConfig,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Self, ClientError> {
        let resolver = match config.names {
            Names::Anywhere => resolver,
            Names::Public => Arc::new(Public(resolver)),
        };
        let tls = tls::client_config(config.extra_roots.as_deref())?.config;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(Arc::unwrap_or_clone(tls))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            // Another crate of the same program may switch these features on.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .no_hickory_dns()
            .dns_resolver(resolver)
            // No resolver decides where loopback is. Port 0 stands for the address's own.
            .resolve_to_addrs("localhost", &loopback_addresses())
            .connect_timeout(config.connect_timeout)
            .pool_idle_timeout(Duration::from_secs(POOL_IDLE_SECONDS))
            .tcp_nodelay(true)
            .user_agent(USER_AGENT)
            .build()
            .map_err(ClientError::Client)?;
        Ok(Self {
            client,
            total_timeout: config.total_timeout,
            loopback_only: config.extra_roots.is_some(),
        })
    }

    async fn exchange(&self, request: reqwest::Request) -> Result<Response, SendError> {
        let answer = self
            .client
            .execute(request)
            .await
            .map_err(classify::send_failure)?;
        let status = answer.status();
        let headers = answer.headers().clone();
        let mut response = Response::new(read_body(answer).await?);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

#[async_trait]
impl HttpClient for ReqwestClient {
    async fn send(&self, request: Request) -> Result<Response, SendError> {
        let request = into_reqwest(request)?;
        if self.loopback_only && !is_loopback_address(request.url()) {
            return Err(SendError::new(Delivery::NotSent, ErrorKind::Internal)
                .with_source("extra trust roots are for loopback only"));
        }
        // The deadline comes first: after a sleep of the whole process it has passed, and a
        // connection that stands by then must not carry the request any more.
        tokio::select! {
            biased;
            () = tokio::time::sleep(self.total_timeout) => Err(classify::deadline()),
            result = self.exchange(request) => result,
        }
    }
}

fn into_reqwest(mut request: Request) -> Result<reqwest::Request, SendError> {
    // A body is expected with these methods, so its absence is said (RFC 9110 §8.6); some servers
    // answer 411 otherwise.
    let expects_body = matches!(
        *request.method(),
        Method::POST | Method::PUT | Method::PATCH
    );
    if expects_body && request.body().is_empty() {
        request
            .headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    reqwest::Request::try_from(request).map_err(classify::send_failure)
}

/// Reads the whole body and holds no more than [`MAX_BODY_BYTES`] of it.
async fn read_body(mut answer: reqwest::Response) -> Result<Bytes, SendError> {
    let announced = answer.content_length().unwrap_or(0);
    if usize::try_from(announced).map_or(true, |bytes| bytes > MAX_BODY_BYTES) {
        return Err(classify::oversized());
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(classify::body_failure)? {
        if body.len().saturating_add(chunk.len()) > MAX_BODY_BYTES {
            return Err(classify::oversized());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn loopback_addresses() -> [SocketAddr; 2] {
    LOOPBACK.map(|address| SocketAddr::new(address, 0))
}
