//! Every call of the trait as data, so that a case can go through all of them.

use cardless_contract::{
    CaptureMode, CaptureRequest, CommitRequest, Currency, CustomerReference, Decline, Delivery,
    ErrorKind, Found, IdempotencyKey, Initiator, LookupRequest, Money, NoSeal, ObjectId,
    OperationKind, OperationLookup, Outcome, PaymentProvider, PaymentRequest, ProviderError,
    ProviderToken, Reference, RefundRequest, ReservationId, SetupCompletion, SetupProgress,
    SetupReference, SetupRequest, Timestamp, VoidRequest,
};

/// One call of the trait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// The harmless question.
    Probe,
    /// Begin a setup without a payment.
    BeginSetup,
    /// Finish it after the customer has agreed.
    CompleteSetup,
    /// Reserve for a commit that takes the amount.
    Reserve,
    /// Commit, automatic capture.
    Commit,
    /// Commit, manual capture.
    CommitManual,
    /// Capture the whole authorization.
    Capture,
    /// Void the authorization.
    Void,
    /// Refund the whole capture.
    Refund,
    /// Read a captured payment.
    Lookup,
    /// Look for the payment by our reference.
    Find,
    /// Look for the capture.
    FindCapture,
    /// Look for the void.
    FindVoid,
    /// Look for the refund.
    FindRefund,
    /// Revoke the token.
    Revoke,
}

impl Call {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Probe,
        Self::BeginSetup,
        Self::CompleteSetup,
        Self::Reserve,
        Self::Commit,
        Self::CommitManual,
        Self::Capture,
        Self::Void,
        Self::Refund,
        Self::Lookup,
        Self::Find,
        Self::FindCapture,
        Self::FindVoid,
        Self::FindRefund,
        Self::Revoke,
    ];

    /// Whether the call may change something at the provider by one request, so that how far that
    /// request got matters. `CompleteSetup` reads first and may be repeated at will.
    pub const fn mutates(self) -> bool {
        matches!(
            self,
            Self::BeginSetup
                | Self::Reserve
                | Self::Commit
                | Self::CommitManual
                | Self::Capture
                | Self::Void
                | Self::Refund
                | Self::Revoke
        )
    }

    /// Whether an amount goes with the call.
    pub const fn moves(self) -> bool {
        matches!(
            self,
            Self::Commit | Self::CommitManual | Self::Capture | Self::Refund | Self::Lookup
        )
    }
}

/// The names that a provider would use, for one payment of CHF 49.90.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The token.
    pub token: ProviderToken,
    /// The setup.
    pub setup: SetupReference,
    /// The payment's object.
    pub reservation: ReservationId,
    /// The authorization, where it has an id of its own.
    pub authorization: Option<ObjectId>,
    /// The capture, where it has an id of its own.
    pub capture: Option<ObjectId>,
    /// The void, where it has an id of its own.
    pub void: Option<ObjectId>,
    /// The refund, where it has an id of its own.
    pub refund: Option<ObjectId>,
}

/// Our reference of the sample payment.
pub const REFERENCE: &str = "abcdefghjk";
/// Our reference of its capture, void or refund.
pub const OPERATION_REFERENCE: &str = "mnpqrstuvw";
/// The key of every sample step.
pub const KEY: &str = "samplekey-step";
/// What a sample customer is called.
pub const CUSTOMER: &str = "cu-abcdef";
/// Where browsers go.
pub const RETURN_URL: &str = "https://pay.example/return/abc";
/// Where webhooks go.
pub const WEBHOOK_URL: &str = "https://pay.example/webhooks/x";

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the contract")]
pub enum End {
    Done,
    Pending,
    ActionRequired,
    Declined(Decline),
    Review,
    Unmapped,
    /// A setup that waits, lapsed, or gave no token.
    Unlinked,
    /// A question with the answer no.
    No,
    CannotTell,
    Failed(Delivery, ErrorKind),
}

/// How a call ended, and everything that it gave back, as its `Debug` and `Display` show it.
#[derive(Debug, Clone)]
pub struct Report {
    /// How it ended.
    pub end: End,
    /// What a log would show.
    pub text: String,
    /// Where a customer would be sent.
    pub redirect: Option<String>,
}

/// An amount of `minor` in `currency`.
pub fn money(currency: &str, minor: i64) -> Money {
    Money::new(Currency::from_code(currency).unwrap(), minor).unwrap()
}

/// The sample's amount.
pub fn amount() -> Money {
    money("CHF", 4990)
}

/// Now, for requests that carry a time.
pub fn moment() -> Timestamp {
    Timestamp::from_seconds(1_764_000_000)
}

/// A charge of `amount` that the merchant starts.
pub fn charge(reference: &str, amount: Money, capture: CaptureMode) -> PaymentRequest {
    PaymentRequest {
        reference: Reference::new(reference).unwrap(),
        customer: CustomerReference::new(CUSTOMER).unwrap(),
        amount,
        capture,
        initiator: Initiator::Merchant,
        return_url: None,
        webhook_url: WEBHOOK_URL.to_owned(),
        description: None,
    }
}

/// A setup under `reference`.
pub fn setup(reference: &str) -> SetupRequest {
    SetupRequest {
        reference: Reference::new(reference).unwrap(),
        customer: CustomerReference::new(CUSTOMER).unwrap(),
        return_url: RETURN_URL.to_owned(),
        webhook_url: WEBHOOK_URL.to_owned(),
        language: Some("de-CH".to_owned()),
        payment: None,
        at: moment(),
    }
}

/// Makes one call with the sample's names.
pub async fn perform(provider: &dyn PaymentProvider, sample: &Sample, call: Call) -> Report {
    let key = IdempotencyKey::new(KEY).unwrap();
    let reference = Reference::new(REFERENCE).unwrap();
    let commit = |capture| CommitRequest {
        reservation: sample.reservation.clone(),
        payment: charge(REFERENCE, amount(), capture),
    };
    match call {
        Call::Probe => report(provider.probe().await, |()| End::Done),
        Call::BeginSetup => {
            let result = provider.begin_setup(&key, &setup(REFERENCE)).await;
            let redirect = match &result {
                Ok(Outcome::Done(started)) => Some(started.redirect.expose().to_owned()),
                _ => None,
            };
            Report {
                redirect,
                ..report(result, end)
            }
        }
        Call::CompleteSetup => {
            let request = SetupCompletion {
                setup: sample.setup.clone(),
                reference,
                payment: None,
            };
            report(provider.complete_setup(&key, &request).await, progress)
        }
        Call::Reserve => {
            let payment = charge(REFERENCE, amount(), CaptureMode::Automatic);
            let result = provider
                .reserve(&key, &sample.token, &payment, &NoSeal)
                .await;
            report(result, end)
        }
        Call::Commit | Call::CommitManual => {
            let mode = if call == Call::Commit {
                CaptureMode::Automatic
            } else {
                CaptureMode::Manual
            };
            report(
                provider.commit(&key, &sample.token, &commit(mode)).await,
                end,
            )
        }
        Call::Capture => report(provider.capture(&key, &capture(sample)).await, end),
        Call::Void => report(provider.void(&key, &void(sample)).await, end),
        Call::Refund => report(provider.refund(&key, &refund(sample)).await, end),
        Call::Lookup => {
            let request = LookupRequest {
                reservation: sample.reservation.clone(),
                reference,
                amount: amount(),
            };
            report(provider.lookup(&request).await, end)
        }
        Call::Find => report(provider.find(&reference).await, |found| {
            self::found(found, |_| End::Done)
        }),
        Call::FindCapture | Call::FindVoid | Call::FindRefund => {
            let result = provider
                .find_operation(&key, &operation(sample, call))
                .await;
            report(result, |found| self::found(found, end))
        }
        Call::Revoke => report(provider.revoke(&sample.token).await, |()| End::Done),
    }
}

fn capture(sample: &Sample) -> CaptureRequest {
    CaptureRequest {
        reservation: sample.reservation.clone(),
        authorization: sample.authorization.clone(),
        payment_reference: Reference::new(REFERENCE).unwrap(),
        reference: Reference::new(OPERATION_REFERENCE).unwrap(),
        amount: amount(),
        authorized: amount(),
        last: true,
    }
}

fn void(sample: &Sample) -> VoidRequest {
    VoidRequest {
        reservation: sample.reservation.clone(),
        authorization: sample.authorization.clone(),
        payment_reference: Reference::new(REFERENCE).unwrap(),
        authorized: amount(),
    }
}

fn refund(sample: &Sample) -> RefundRequest {
    RefundRequest {
        reservation: sample.reservation.clone(),
        capture: sample.capture.clone(),
        payment_reference: Reference::new(REFERENCE).unwrap(),
        reference: Reference::new(OPERATION_REFERENCE).unwrap(),
        amount: amount(),
    }
}

fn operation(sample: &Sample, call: Call) -> OperationLookup {
    let (kind, id) = match call {
        Call::FindVoid => (OperationKind::Void, &sample.void),
        Call::FindRefund => (OperationKind::Refund, &sample.refund),
        _ => (OperationKind::Capture, &sample.capture),
    };
    OperationLookup {
        kind,
        reservation: sample.reservation.clone(),
        authorization: sample.authorization.clone(),
        id: id.clone(),
        payment_reference: Reference::new(REFERENCE).unwrap(),
        reference: Reference::new(OPERATION_REFERENCE).unwrap(),
        amount: amount(),
        settled_before: money("CHF", 0),
    }
}

/// The end that an outcome stands for.
pub fn end<T>(outcome: Outcome<T>) -> End {
    match outcome {
        Outcome::Done(_) => End::Done,
        Outcome::Pending(_) => End::Pending,
        Outcome::ActionRequired(..) => End::ActionRequired,
        Outcome::Declined(decline) => End::Declined(decline),
        Outcome::Review(_) => End::Review,
        Outcome::Unmapped(_) => End::Unmapped,
    }
}

fn progress(progress: SetupProgress) -> End {
    match progress {
        SetupProgress::Linked(_) => End::Done,
        SetupProgress::Pending => End::Pending,
        SetupProgress::Declined(decline) => End::Declined(decline),
        SetupProgress::Unmapped(_) => End::Unmapped,
        SetupProgress::AwaitingCustomer | SetupProgress::Expired | SetupProgress::NoToken => {
            End::Unlinked
        }
    }
}

fn found<T>(found: Found<T>, yes: impl FnOnce(T) -> End) -> End {
    match found {
        Found::Yes(value) => yes(value),
        Found::No => End::No,
        Found::CannotTell => End::CannotTell,
    }
}

fn report<T: std::fmt::Debug>(
    result: Result<T, ProviderError>,
    end: impl FnOnce(T) -> End,
) -> Report {
    match result {
        Ok(value) => {
            let text = format!("{value:?}");
            Report {
                end: end(value),
                text,
                redirect: None,
            }
        }
        Err(error) => Report {
            end: End::Failed(error.delivery(), error.kind()),
            text: shown(&error),
            redirect: None,
        },
    }
}

/// An error as a log shows it, with everything behind it.
fn shown(error: &ProviderError) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text.push_str(&format!(" {error} {error:?}"));
        source = error.source();
    }
    text
}
