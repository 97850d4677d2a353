//! Why a request is refused: what the caller is told, and what the log keeps.

use std::error::Error as StdError;
use std::fmt;

/// What the gateway answers when it does not do what was asked.
///
/// Two messages: `Display` is for the caller and names no secret; `source` is for the log.
#[derive(Debug)]
pub struct Error {
    code: Code,
    field: Option<String>,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The stable code of an [`Error`]. Only `serve::problem` knows which HTTP status each one has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// A field is missing, malformed or out of range. 422.
    InvalidField,
    /// An amount of zero, a negative one, or one that the provider can't express. 422.
    InvalidAmount,
    /// Not a currency, or one that the provider lacks. 422.
    UnsupportedCurrency,
    /// A number that passes for a card number stands in the request. 422.
    CardNumber,
    /// The `Idempotency-Key` is missing or malformed. 422.
    IdempotencyKey,
    /// The `Idempotency-Key` was used with another request. 422.
    IdempotencyMismatch,
    /// More than is left to capture or to refund. 422.
    AmountExceedsRemaining,
    /// The provider can't do this. 422.
    NotSupported,
    /// The first call under this `Idempotency-Key` is still running. 409.
    InProgress,
    /// A payment of the account under this reference has no outcome yet. 409.
    OutcomeUnknown,
    /// The payment's state does not allow this. 409.
    InvalidState,
    /// The account is restricted and can't be charged. 409.
    AccountRestricted,
    /// The account that the `Idempotency-Key` was used for is erased; nothing was done. 410.
    AccountErased,
    /// There is no such thing for this caller: revoked, another account's, never existed. 404.
    NotFound,
    /// The event after which to read on is not kept. 410.
    EventGone,
    /// The caller is not known. 401.
    Unauthenticated,
    /// The caller's role does not allow this. 403.
    Forbidden,
    /// A webhook that does not verify. 401.
    NotificationRefused,
    /// A sealed message that is not taken, whatever the reason. 401.
    ExchangeRefused,
    /// The provider could not be asked, and nothing was begun. 503.
    ProviderUnavailable,
    /// The provider refused the request itself: settings, credentials, contract. 502.
    ProviderRefused,
    /// The store failed; nothing was sent. 503.
    StoreUnavailable,
    /// A bug or a broken installation. 500.
    Internal,
}

/// Who has to do something about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Whoever called: the request can't be carried out as it is.
    Caller,
    /// Nobody, if it was a forger; else whoever has the keys of what came in.
    Sender,
    /// The provider, or its settings here.
    Provider,
    /// This installation.
    Ours,
}

impl Code {
    /// Who has to do something about it.
    pub(crate) const fn whose(self) -> Whose {
        match self {
            Self::InvalidField
            | Self::InvalidAmount
            | Self::UnsupportedCurrency
            | Self::CardNumber
            | Self::IdempotencyKey
            | Self::IdempotencyMismatch
            | Self::AmountExceedsRemaining
            | Self::NotSupported
            | Self::InProgress
            | Self::OutcomeUnknown
            | Self::InvalidState
            | Self::AccountRestricted
            | Self::AccountErased
            | Self::NotFound
            | Self::EventGone
            | Self::Unauthenticated
            | Self::Forbidden => Whose::Caller,
            Self::NotificationRefused | Self::ExchangeRefused => Whose::Sender,
            Self::ProviderUnavailable | Self::ProviderRefused => Whose::Provider,
            Self::StoreUnavailable | Self::Internal => Whose::Ours,
        }
    }

    /// The word in an answer's `code`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidField => "invalid_field",
            Self::InvalidAmount => "invalid_amount",
            Self::UnsupportedCurrency => "unsupported_currency",
            Self::CardNumber => "card_number",
            Self::IdempotencyKey => "idempotency_key",
            Self::IdempotencyMismatch => "idempotency_mismatch",
            Self::AmountExceedsRemaining => "amount_exceeds_remaining",
            Self::NotSupported => "not_supported",
            Self::InProgress => "in_progress",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::InvalidState => "invalid_state",
            Self::AccountRestricted => "account_restricted",
            Self::AccountErased => "account_erased",
            Self::NotFound => "not_found",
            Self::EventGone => "event_gone",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotificationRefused => "notification_refused",
            Self::ExchangeRefused => "exchange_refused",
            Self::ProviderUnavailable => "provider_unavailable",
            Self::ProviderRefused => "provider_refused",
            Self::StoreUnavailable => "store_unavailable",
            Self::Internal => "internal",
        }
    }
}

impl Error {
    /// An error with its message for the caller: what happened, to what, what to do next.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            field: None,
            message: message.into(),
            source: None,
        }
    }

    /// A fault in a field of the request; `field` is its path, as `amount.minor`.
    pub fn field(code: Code, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code,
            field: Some(field.into()),
            message: message.into(),
            source: None,
        }
    }

    /// The one answer for handles that are another account's, revoked, or never existed.
    pub fn not_found(what: &str) -> Self {
        Self::new(Code::NotFound, format!("There is no such {what}."))
    }

    /// Adds what lies behind it, for the log.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The stable code.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// The path of the field that is at fault.
    pub fn field_path(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// The message for the caller.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| {
            let source: &(dyn StdError + 'static) = source;
            source
        })
    }
}

/// An error with everything that lies behind it, in one line, for the log.
#[derive(Debug, Clone, Copy)]
pub struct Causes<'a>(pub &'a (dyn StdError + 'static));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
