use bytes::Bytes;
use http::HeaderMap;

use crate::{ObjectId, OperationKind, Reference, ReservationId, SetupReference};

/// A webhook as it came in: headers and the untouched bytes of its body.
#[derive(Debug)]
pub struct RawNotification<'a> {
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The request's body, byte for byte. Its `Debug` is never logged.
    pub body: &'a Bytes,
}

/// A webhook whose signature is good. Its body is a hint and never believed: PayPal's signature
/// covers only a CRC-32 of it (`providers/paypal.md` §8.4). It says what to read, nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Names this event for de-duplication; at most [`Notification::MAX_EVENT_ID_BYTES`] bytes of
    /// visible ASCII.
    pub event_id: String,
    /// What to look at.
    pub subject: Subject,
}

/// What a notification is about. More than one of a payment's names may be known; any of them
/// finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A payment, or a capture or refund of one.
    Payment {
        /// The provider's object.
        reservation: Option<ReservationId>,
        /// Our reference, as the provider returned it.
        reference: Option<Reference>,
        /// An authorization, capture, completion or refund.
        object: Option<ObjectId>,
    },
    /// A capture, void or refund, by its own id and no name of its payment.
    Operation {
        /// What kind.
        kind: OperationKind,
        /// The provider's object.
        object: ObjectId,
    },
    /// A setup.
    Setup(SetupReference),
    /// Nothing that changes a payment or a setup; stored and acknowledged.
    Other,
}

/// Why a webhook was not accepted. Each way of being wrong has its own; the HTTP answer shows
/// only the status, the log shows this.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotificationError {
    /// A header of the scheme is missing, or stands more than once.
    #[error("the header {0} is missing or stands more than once")]
    Header(&'static str),
    /// A header of the scheme is there but can't be read.
    #[error("the header {0} can't be read")]
    HeaderFormat(&'static str),
    /// Another algorithm than the one the scheme pins.
    #[error("the signature algorithm is not the expected one")]
    Algorithm,
    /// The address of the key or certificate is not on the list.
    #[error("the address of the certificate is not allowed")]
    KeyAddress,
    /// The signing key is not known to the provider.
    #[error("the signing key is unknown")]
    UnknownKey,
    /// The certificate's chain, name or dates do not hold.
    #[error("the certificate does not hold: {0}")]
    Certificate(&'static str),
    /// The signature does not fit.
    #[error("the signature does not fit")]
    Signature,
    /// Signed too long ago, or in the future.
    #[error("the time of the signature is outside of the window")]
    Stale,
    /// The signature holds, but the body is not what the provider documents.
    #[error("the body can't be read: {0}")]
    Body(&'static str),
    /// The event is of another account than ours (another PostFinance space, another merchant).
    #[error("the event belongs to another account")]
    OtherAccount,
    /// The key or certificate could not be fetched. The sender should try again.
    #[error("the signing key could not be fetched")]
    KeyUnavailable(#[source] crate::ProviderError),
}

impl Notification {
    /// The longest event id.
    pub const MAX_EVENT_ID_BYTES: usize = 200;
}

impl NotificationError {
    /// Whether the same delivery may be accepted later (then the answer is a 5xx).
    pub const fn is_temporary(&self) -> bool {
        matches!(self, Self::KeyUnavailable(_))
    }
}
