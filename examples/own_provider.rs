//! A provider of one's own: a prepaid balance at the house, behind the same trait as the others.
//!
//! [`PaymentProvider`] is all that the gateway knows of a provider; its docs are the contract. No
//! method has a default body, so nothing can be forgotten. `House` keeps its book in memory, moves
//! an amount when a reservation is committed, and can be asked about each of them. A real adapter
//! also says, for every error, how far the request got (`Delivery`): that is what decides whether
//! anything may be sent again. `tests/contract` shows the suite that holds an adapter to all of it.
//!
//! The program links a balance of CHF 60, charges 49.90, and is declined for another 20.
//!
//! ```text
//! cargo run --example own_provider
//! ```

#![expect(clippy::print_stdout, reason = "it shows what happens")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cardless::gateway::{Gateway, RequestKey};
use cardless::message::{self, Amount, Capture, LinkRequest, PayRequest, PaymentStatus};
use cardless::store::{SqliteStore, Threads};
use cardless::vault::KeyRing;
use cardless_contract::{
    BodySeal, Capabilities, CaptureMode, CaptureRequest, CommitRequest, Decline, DeclineCategory,
    Delivery, ErrorKind, Found, HoldState, IdempotencyKey, LookupRequest, Money, Notification,
    NotificationError, ObjectId, Operation, OperationKind, OperationLookup, Outcome, Payment,
    PaymentPhase, PaymentProvider, PaymentRequest, ProviderCall, ProviderCode, ProviderError,
    ProviderName, ProviderPlace, ProviderToken, RawNotification, RedirectUrl, Reference,
    RefundRequest, Repeat, ReservationId, RetryAdvice, SetupCompletion, SetupProgress,
    SetupReference, SetupRequest, SetupStarted, SystemEntropy, TokenFault, VoidRequest,
    async_trait,
};

type Answer<T> = cardless_contract::Result<T>;
type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result {
    let gateway = Gateway::builder()
        .store(Arc::new(SqliteStore::open(
            "sqlite::memory:",
            Threads::Own,
        )?))
        .keys(KeyRing::parse(&KeyRing::generate(&SystemEntropy)?)?)
        .provider(Arc::new(House::new(6000)?))
        .build()?;
    let link = LinkRequest {
        account: "customer-a".to_owned(),
        provider: "house".to_owned(),
        return_url: "https://shop.example/thanks".to_owned(),
        language: None,
        amount: None,
        reference: None,
        capture: None,
    };
    let setup = gateway
        .link(&RequestKey::new("billing", "link-a")?, &link)
        .await?
        .body;
    let method = gateway.complete_link(&setup.id).await?.payment_method;
    println!("linked   {}", method.ok_or("the house gave no token")?);

    let first = charge(&gateway, "invoice-a", 4990).await?;
    ensure(
        first.status == PaymentStatus::Captured,
        "the first charge is taken",
    )?;
    println!("charged  {}", first.captured);
    let second = charge(&gateway, "invoice-b", 2000).await?;
    let decline = second
        .decline
        .ok_or("not true: the second charge is declined")?;
    println!(
        "declined CHF 20.00: {}, try again: {}",
        decline.category, decline.retry
    );
    Ok(())
}

async fn charge(gateway: &Gateway, reference: &str, minor: i64) -> Result<message::Payment> {
    let request = PayRequest {
        account: "customer-a".to_owned(),
        payment_method: None,
        amount: Amount::new("CHF", minor),
        reference: reference.to_owned(),
        capture: Capture::Automatic,
        initiator: message::Initiator::Merchant,
        return_url: None,
        description: None,
    };
    Ok(gateway
        .pay(&RequestKey::new("billing", reference)?, &request)
        .await?
        .body)
}

/// A prepaid balance in francs.
#[derive(Debug)]
struct House {
    name: ProviderName,
    capabilities: Capabilities,
    book: Mutex<Book>,
}

/// What is left, and what every reservation came to: amount, phase, what was given back.
#[derive(Debug)]
struct Book {
    left_minor: i64,
    entries: BTreeMap<ReservationId, (Money, PaymentPhase, Money)>,
}

impl House {
    fn new(left_minor: i64) -> Result<Self> {
        let capabilities = Capabilities {
            currencies: Some(&[("CHF", 2)]),
            partial_capture: false,
            several_captures: false,
            partial_refund: true,
            refund_per_capture: false,
            finds_by_sum: false,
            setup_takes_payment: false,
            reserve_holds: false,
            find_by_reference: true,
            repeat_setup: Repeat::KeyedForever,
            repeat_reserve: Repeat::KeyedForever,
            repeat_capture: Repeat::AfterQuestion,
            repeat_void: Repeat::AfterQuestion,
            repeat_refund: Repeat::AfterQuestion,
            longest_delay: Duration::ZERO,
            customer_window: Duration::from_secs(600),
            page_moves_money: false,
        };
        let book = Book {
            left_minor,
            entries: BTreeMap::new(),
        };
        Ok(Self {
            name: ProviderName::new("house")?,
            capabilities,
            book: Mutex::new(book),
        })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An error of a call that has moved nothing.
    fn refused(&self, kind: ErrorKind) -> ProviderError {
        ProviderError::new(self.name.clone(), kind, Delivery::Refused)
    }

    fn internal(&self, error: impl std::error::Error + Send + Sync + 'static) -> ProviderError {
        self.refused(ErrorKind::Internal).with_source(error)
    }

    /// A payment as the book shows it.
    fn read(&self, book: &Book, id: &ReservationId) -> Answer<Payment> {
        let entry = book.entries.get(id).copied();
        let (amount, phase, refunded) = entry.ok_or_else(|| self.refused(ErrorKind::NotFound))?;
        let taken = phase == PaymentPhase::Captured;
        Ok(Payment {
            reservation: id.clone(),
            phase,
            authorization: None,
            expires_at: None,
            // One capture takes all that was held.
            hold: if taken {
                HoldState::Ended
            } else {
                HoldState::NotTold
            },
            captured: if taken {
                amount
            } else {
                Money::zero(amount.currency())
            },
            refunded: Some(refunded),
            reversed: None,
            returned: None,
            captures: Vec::new(),
            refunds: Vec::new(),
        })
    }
}

#[async_trait]
impl PaymentProvider for House {
    fn name(&self) -> &ProviderName {
        &self.name
    }

    fn merchant(&self) -> &str {
        "the-house"
    }

    /// There is one way to work here.
    fn mode(&self) -> &str {
        ""
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn calls(&self) -> &'static [ProviderCall] {
        &[]
    }

    fn places(&self) -> Vec<ProviderPlace> {
        Vec::new()
    }

    async fn probe(&self) -> Answer<()> {
        Ok(())
    }

    async fn begin_setup(
        &self,
        _: &IdempotencyKey,
        request: &SetupRequest,
    ) -> Answer<Outcome<SetupStarted>> {
        let setup = SetupReference::new(request.reference.as_str());
        let page = RedirectUrl::new("https://house.example/agree");
        Ok(Outcome::Done(SetupStarted {
            setup: setup.map_err(|error| self.internal(error))?,
            redirect: page.ok_or_else(|| self.refused(ErrorKind::Internal))?,
            expires_at: request.at.plus(self.capabilities.customer_window),
        }))
    }

    /// At the house everybody agrees.
    async fn complete_setup(
        &self,
        _: &IdempotencyKey,
        _: &SetupCompletion,
    ) -> Answer<SetupProgress> {
        let token = ProviderToken::new("house-balance");
        token
            .map(SetupProgress::Linked)
            .ok_or_else(|| self.refused(ErrorKind::Internal))
    }

    async fn reserve(
        &self,
        _: &IdempotencyKey,
        _: &ProviderToken,
        request: &PaymentRequest,
        _: &dyn BodySeal,
    ) -> Answer<Outcome<ReservationId>> {
        if request.capture == CaptureMode::Manual {
            return Err(self.refused(ErrorKind::Unsupported));
        }
        let id = ReservationId::new(request.reference.as_str());
        let id = id.map_err(|error| self.internal(error))?;
        let entry = (
            request.amount,
            PaymentPhase::Reserved,
            Money::zero(request.amount.currency()),
        );
        // A repeat finds the entry of the first call, whatever became of it.
        self.book().entries.entry(id.clone()).or_insert(entry);
        Ok(Outcome::Done(id))
    }

    /// Takes the amount, once: a second commit finds the phase changed.
    async fn commit(
        &self,
        _: &IdempotencyKey,
        _: &ProviderToken,
        request: &CommitRequest,
    ) -> Answer<Outcome<Payment>> {
        let mut book = self.book();
        let seen = self.read(&book, &request.reservation)?;
        let left = book
            .left_minor
            .saturating_sub(request.payment.amount.minor());
        if seen.phase == PaymentPhase::Reserved && left < 0 {
            return Ok(Outcome::Declined(Decline {
                category: DeclineCategory::InsufficientFunds,
                retry: RetryAdvice::Later,
                provider_code: ProviderCode::new("balance"),
                method_gone: false,
            }));
        }
        if seen.phase == PaymentPhase::Reserved {
            book.left_minor = left;
            if let Some(entry) = book.entries.get_mut(&request.reservation) {
                entry.1 = PaymentPhase::Captured;
            }
        }
        self.read(&book, &request.reservation).map(Outcome::Done)
    }

    /// The house takes with the commit; there is nothing to capture later, and nothing is held.
    async fn capture(&self, _: &IdempotencyKey, _: &CaptureRequest) -> Answer<Outcome<Operation>> {
        Err(self.refused(ErrorKind::Unsupported))
    }

    async fn void(&self, _: &IdempotencyKey, _: &VoidRequest) -> Answer<Outcome<Operation>> {
        Err(self.refused(ErrorKind::Unsupported))
    }

    async fn refund(
        &self,
        _: &IdempotencyKey,
        request: &RefundRequest,
    ) -> Answer<Outcome<Operation>> {
        let mut book = self.book();
        let entry = book.entries.get_mut(&request.reservation);
        let entry = entry.ok_or_else(|| self.refused(ErrorKind::NotFound))?;
        entry.2 = entry
            .2
            .plus(request.amount)
            .map_err(|error| self.internal(error))?;
        book.left_minor = book.left_minor.saturating_add(request.amount.minor());
        Ok(Outcome::Done(Operation {
            id: None,
            amount: Some(request.amount),
        }))
    }

    async fn lookup(&self, request: &LookupRequest) -> Answer<Outcome<Payment>> {
        self.read(&self.book(), &request.reservation)
            .map(Outcome::Done)
    }

    async fn find(&self, reference: &Reference) -> Answer<Found<ReservationId>> {
        let id = ReservationId::new(reference.as_str()).map_err(|error| self.internal(error))?;
        let known = self.book().entries.contains_key(&id);
        Ok(if known { Found::Yes(id) } else { Found::No })
    }

    async fn find_operation(
        &self,
        _: &IdempotencyKey,
        _: &OperationLookup,
    ) -> Answer<Found<Outcome<Operation>>> {
        Ok(Found::CannotTell)
    }

    /// Nobody else gives anything back here.
    async fn payment_of(&self, _: OperationKind, _: &ObjectId) -> Answer<Option<ReservationId>> {
        Ok(None)
    }

    async fn revoke(&self, _: &ProviderToken) -> Answer<()> {
        Ok(())
    }

    fn token_kind(&self) -> &'static str {
        "house"
    }

    /// The house knows every guest's handshake.
    fn check_token(&self, _: &ProviderToken) -> std::result::Result<(), TokenFault> {
        Ok(())
    }

    /// The house sends no webhooks, so none is its own.
    async fn verify_notification(
        &self,
        _: &RawNotification<'_>,
    ) -> std::result::Result<Notification, NotificationError> {
        Err(NotificationError::Signature)
    }
}

fn ensure(holds: bool, what: &str) -> Result {
    if holds {
        Ok(())
    } else {
        Err(format!("not true: {what}").into())
    }
}
