//! The contract between `cardless` and a payment provider: one trait, [`PaymentProvider`], and
//! the words that its arguments and answers are made of.
//!
//! An adapter crate implements the trait and knows nothing of accounts, stores or keys. The
//! gateway calls the trait and knows nothing of any provider. What the trait's docs say is what
//! both sides may rely on; the suite in `cardless-testkit` holds every adapter to it.
//!
//! Invariants, each held by a type or a test:
//!
//! - No type here can carry a card number, an expiry date or a security code.
//! - Amounts are integers in the smallest unit of ISO 4217; no float touches one.
//! - A decline is an [`Outcome`], never an error; an error says how far its request got.
//! - A secret has no `Display`, no `Serialize` and no `PartialEq`; its `Debug` prints its type.
//! - Time and randomness come in through [`Clock`] and [`Entropy`].

mod calls;
mod capability;
mod clock;
mod error;
mod fields;
mod id;
mod money;
mod notification;
mod outcome;
mod provider;
mod secret;

pub use calls::{Credential, ProviderCall, ProviderPlace, Purpose, Stage, call_of};
pub use capability::{Capabilities, Repeat};
pub use clock::{Clock, Entropy, EntropyError, SystemClock, SystemEntropy, Timestamp};
pub use error::{Delivery, ErrorKind, ProviderError, Result};
pub use fields::fields_of;
pub use id::{
    CustomerReference, IdError, IdempotencyKey, ObjectId, ProviderCode, ProviderName, Reference,
    ReservationId, SetupReference,
};
pub use money::{Currency, Money, MoneyError};
pub use notification::{Notification, NotificationError, RawNotification, Subject};
pub use outcome::{
    Decline, DeclineCategory, Found, HoldState, Movement, MovementState, Operation, Outcome,
    Payment, PaymentPhase, RetryAdvice, SetupProgress, SetupStarted, Unmapped,
};
pub use provider::{
    BodySeal, CaptureMode, CaptureRequest, CommitRequest, Initiator, LookupRequest, NoSeal,
    OperationKind, OperationLookup, PaymentProvider, PaymentRequest, RefundRequest,
    SetupCompletion, SetupPayment, SetupRequest, VoidRequest,
};
pub use secret::{ProviderToken, RedirectUrl, Secrets, TokenFault};

pub use async_trait::async_trait;
