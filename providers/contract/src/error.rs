use std::error::Error as StdError;
use std::fmt;

use crate::{ProviderCode, ProviderName};

/// The result of a call to a provider.
pub type Result<T> = std::result::Result<T, ProviderError>;

/// A call to a provider that gave no [`Outcome`](crate::Outcome).
///
/// `kind` is for the caller, `delivery` for the money, `source` for the log. `Display` names the
/// provider, the kind and the provider's code; the provider's reply stays out of it, since a reply
/// can quote a token.
#[derive(Debug)]
pub struct ProviderError {
    provider: ProviderName,
    kind: ErrorKind,
    delivery: Delivery,
    code: Option<ProviderCode>,
    correlation: Option<ProviderCode>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// How far a failed request got. It decides what may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// The request never left; repeating it is free.
    NotSent,
    /// The request may have been carried out. Ask before repeating it.
    Unknown,
    /// The provider refused it and moved no money.
    Refused,
}

/// What went wrong, in words that a caller can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No connection: name, route, refused, TLS.
    Unreachable,
    /// No answer within the deadline, or the connection broke.
    Interrupted,
    /// Our credentials were refused.
    Authentication,
    /// Our credentials are good, but the merchant account may not do this.
    Permission,
    /// The provider found our request malformed; a bug in the adapter or a wrong setting.
    InvalidRequest,
    /// The provider does not know the object.
    NotFound,
    /// The object is in a state that does not allow this, or somebody else is changing it.
    Conflict,
    /// More than is left to capture or to refund, or over a limit of the provider.
    AmountRefused,
    /// Too many requests.
    RateLimited,
    /// The provider failed.
    ProviderFailed,
    /// The answer could not be read, or said something that does not fit the question: another
    /// amount, another currency, another object.
    UnreadableAnswer,
    /// The merchant's own account or contract needs attention before this can work.
    MerchantAccount,
    /// This can't be done with this provider; nothing was sent.
    Unsupported,
    /// A repeat would differ from what was sent first, or lies outside the provider's window, so
    /// nothing was sent.
    RepeatRefused,
    /// Something on our side failed before anything was sent.
    Internal,
}

impl ProviderError {
    /// An error without code and source.
    pub const fn new(provider: ProviderName, kind: ErrorKind, delivery: Delivery) -> Self {
        Self {
            provider,
            kind,
            delivery,
            code: None,
            correlation: None,
            source: None,
        }
    }

    /// Adds the provider's own code.
    #[must_use]
    pub fn with_code(mut self, code: ProviderCode) -> Self {
        self.code = Some(code);
        self
    }

    /// Adds the id under which the provider's support finds the request (PayPal's debug id).
    #[must_use]
    pub fn with_correlation(mut self, id: ProviderCode) -> Self {
        self.correlation = Some(id);
        self
    }

    /// Adds what lies behind it, for the log. It must hold no reply body and no secret.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error, for a call whose mutating request had left before this one failed: whatever
    /// this request's own delivery was, the call may have been carried out.
    #[must_use]
    pub const fn after_a_send(mut self) -> Self {
        self.delivery = Delivery::Unknown;
        self
    }

    /// Who was asked.
    pub const fn provider(&self) -> &ProviderName {
        &self.provider
    }

    /// What went wrong.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// How far the request got.
    pub const fn delivery(&self) -> Delivery {
        self.delivery
    }

    /// The provider's own code.
    pub const fn code(&self) -> Option<&ProviderCode> {
        self.code.as_ref()
    }

    /// The id for the provider's support.
    pub const fn correlation(&self) -> Option<&ProviderCode> {
        self.correlation.as_ref()
    }
}

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.provider, self.kind)?;
        if let Some(code) = &self.code {
            write!(f, " ({code})")?;
        }
        if let Some(id) = &self.correlation {
            write!(f, " [{id}]")?;
        }
        Ok(())
    }
}

impl StdError for ProviderError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| {
            let source: &(dyn StdError + 'static) = source;
            source
        })
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "could not be reached",
            Self::Interrupted => "gave no whole answer in time",
            Self::Authentication => "refused our credentials",
            Self::Permission => "does not allow this to the merchant account",
            Self::InvalidRequest => "found our request malformed",
            Self::NotFound => "does not know the object",
            Self::Conflict => "does not allow this in the present state",
            Self::AmountRefused => "refused the amount",
            Self::RateLimited => "asked us to slow down",
            Self::ProviderFailed => "failed",
            Self::UnreadableAnswer => "gave an answer that does not fit the question",
            Self::MerchantAccount => "needs the merchant account put in order",
            Self::Unsupported => "can't do this",
            Self::RepeatRefused => "was not asked again, since a repeat would not be safe",
            Self::Internal => "was not asked, because something failed on our side",
        })
    }
}
