use std::error::Error as StdError;
use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use cardless_contract::{Delivery, ErrorKind, ProviderError, ProviderName};

/// A request as it leaves: absolute address, headers, and the whole body.
pub type Request = http::Request<Bytes>;

/// A whole answer; its body is at most [`MAX_BODY_BYTES`].
pub type Response = http::Response<Bytes>;

/// The largest answer that is read, in bytes (1 MiB).
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Sends one request, once: no retry, no redirect, no cookie, no proxy from the environment, no
/// decompression.
#[async_trait]
pub trait HttpClient: fmt::Debug + Send + Sync + 'static {
    /// Sends `request` and reads the whole answer, whatever its status.
    ///
    /// # Errors
    ///
    /// [`SendError`], which says how far the request got.
    async fn send(&self, request: Request) -> Result<Response, SendError>;
}

/// A request that brought no readable answer.
#[derive(Debug)]
pub struct SendError {
    delivery: Delivery,
    kind: ErrorKind,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl SendError {
    /// An error with what is known of it.
    pub const fn new(delivery: Delivery, kind: ErrorKind) -> Self {
        Self {
            delivery,
            kind,
            source: None,
        }
    }

    /// Adds what lies behind it, for the log: no address with a query, no body.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// How far the request got.
    pub const fn delivery(&self) -> Delivery {
        self.delivery
    }

    /// What went wrong.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The same, as an error of the contract.
    pub fn into_provider_error(self, provider: &ProviderName) -> ProviderError {
        let error = ProviderError::new(provider.clone(), self.kind, self.delivery);
        match self.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the other side {}", self.kind)
    }
}

impl StdError for SendError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| {
            let source: &(dyn StdError + 'static) = source;
            source
        })
    }
}
