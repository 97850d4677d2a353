//! A small provider in memory: objects, a ledger, and faults that a test puts in its way. It can
//! take each of the three shapes that the gateway drives.

mod provider;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cardless_contract::*;
use tokio::sync::Notify;

/// What goes wrong with one call.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The request never leaves.
    NotSent,
    /// It leaves and is not carried out; the reply is lost.
    LostBefore,
    /// It is carried out; the reply is lost.
    LostAfter,
    /// It is carried out a while later; the reply is lost at once.
    Late(Duration),
    /// The provider says no, by a rule of its own.
    Refused,
    Declined,
    MethodGone,
    /// Accepted, and carried out by [`Fake::finish_pending`].
    Pending,
    Unmapped,
    Review,
    /// A read shows the object as it was made.
    Stale,
    /// Nothing more happens in this call, for ever: the process dies here.
    Hang,
    /// It is carried out, then nothing more happens, for ever.
    HangAfter,
    /// Waits for the test before it is carried out. An answer waits after it has been seen.
    Wait(Arc<Notify>),
    /// A question waits for the test on its way, before anything is seen.
    WaitOnTheWay(Arc<Notify>),
    /// An operation moved another amount than was asked.
    OtherAmount,
    /// A merchant's charge needs the customer.
    Challenge,
    /// A question is answered as if nothing were there.
    Absent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Hold,
    Capture,
    Void,
    Refund,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Created,
    AwaitsCustomer,
    Approved,
    Working,
    Held,
    Taken,
    Released,
    Lapsed,
    Refused,
}

#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) reference: String,
    pub(crate) amount: Money,
    pub(crate) capture: CaptureMode,
    pub(crate) initiator: Initiator,
    pub(crate) phase: Phase,
    pub(crate) captured: i64,
    pub(crate) refunded: i64,
    /// What the customer's bank has taken back.
    pub(crate) taken_back: i64,
    captures: Vec<(String, i64)>,
    /// By key: kind, id, amount, state.
    operations: BTreeMap<String, Done>,
}

#[derive(Debug, Clone)]
struct Done {
    kind: OperationKind,
    id: String,
    amount: i64,
    pending: bool,
    last: bool,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) objects: BTreeMap<String, Object>,
    pub(crate) ledger: Vec<(Kind, String, i64)>,
    pub(crate) calls: Vec<String>,
    faults: BTreeMap<&'static str, VecDeque<Fault>>,
    reserved_by_key: BTreeMap<String, String>,
    setups: BTreeMap<String, Setup>,
    next: u64,
    pub(crate) revoked: Vec<String>,
    /// Stands in the bytes of a reserve.
    pub(crate) expiry: u32,
    /// When the last call came that may change something.
    asked_at: Timestamp,
}

#[derive(Debug, Clone)]
struct Setup {
    progress: &'static str,
}

/// The token that a visit brings.
fn token_of(setup: &str) -> String {
    format!("token-{setup}")
}

/// Stops a thread wherever it asks for the merchant, until the test lets it go on.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) arrived: Sender<()>,
    pub(crate) go_on: Receiver<()>,
}

#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) name: ProviderName,
    /// The settings name another merchant now.
    pub(crate) other_merchant: AtomicBool,
    /// The settings name another way to work now.
    pub(crate) other_mode: AtomicBool,
    /// Who is told each time that it is asked for its merchant, and then waited for.
    pub(crate) watched: Mutex<Option<Watch>>,
    /// Where it says that it is.
    pub(crate) places: Vec<ProviderPlace>,
    pub(crate) capabilities: Capabilities,
    pub(crate) state: Arc<Mutex<State>>,
    clock: Arc<dyn Clock>,
    pub(crate) hold_for: Option<Duration>,
    /// A customer's reserve gives the page at once, whatever the page does.
    pub(crate) asks_at_reserve: bool,
}

pub(crate) const LONGEST_DELAY: Duration = Duration::from_secs(120);
pub(crate) const KEY_WINDOW: Duration = Duration::from_secs(3600);
pub(crate) const CUSTOMER_WINDOW: Duration = Duration::from_secs(3600);

/// The shapes of the three providers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Reserve, commit; the customer's approval opens another commit. Links before it charges.
    TwoCalls,
    /// Reserve gives the page, which takes the money; a repeat follows a question.
    Page,
    /// Reserve holds; its repeat must be byte-equal; operations are seen as sums only.
    Holds,
}

pub(crate) const SHAPES: [Shape; 3] = [Shape::TwoCalls, Shape::Page, Shape::Holds];

impl Shape {
    pub(crate) fn capabilities(self) -> Capabilities {
        let keyed = Repeat::Keyed(KEY_WINDOW);
        let base = Capabilities {
            currencies: None,
            partial_capture: true,
            several_captures: true,
            partial_refund: true,
            refund_per_capture: true,
            finds_by_sum: false,
            setup_takes_payment: false,
            reserve_holds: false,
            find_by_reference: false,
            repeat_setup: keyed,
            repeat_reserve: keyed,
            repeat_capture: keyed,
            repeat_void: keyed,
            repeat_refund: keyed,
            longest_delay: LONGEST_DELAY,
            customer_window: CUSTOMER_WINDOW,
            page_moves_money: false,
        };
        match self {
            Self::TwoCalls => base,
            Self::Page => Capabilities {
                refund_per_capture: false,
                setup_takes_payment: true,
                page_moves_money: true,
                find_by_reference: true,
                repeat_setup: Repeat::AfterQuestion,
                repeat_reserve: Repeat::AfterQuestion,
                repeat_capture: Repeat::KeyedForever,
                repeat_void: Repeat::AfterQuestion,
                repeat_refund: Repeat::KeyedForever,
                ..base
            },
            Self::Holds => Capabilities {
                several_captures: false,
                refund_per_capture: false,
                finds_by_sum: true,
                setup_takes_payment: true,
                page_moves_money: true,
                reserve_holds: true,
                ..base
            },
        }
    }
}

impl Fake {
    /// Every token that a customer's visit has brought or can still bring.
    pub(crate) fn tokens(&self) -> Vec<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.setups.keys().map(|setup| token_of(setup)).collect()
    }

    pub(crate) fn new(capabilities: Capabilities, clock: Arc<dyn Clock>) -> Self {
        Self {
            name: ProviderName::new("fake").unwrap(),
            capabilities,
            state: Arc::new(Mutex::new(State {
                objects: BTreeMap::new(),
                ledger: Vec::new(),
                calls: Vec::new(),
                faults: BTreeMap::new(),
                reserved_by_key: BTreeMap::new(),
                setups: BTreeMap::new(),
                next: 0,
                revoked: Vec::new(),
                expiry: 0,
                asked_at: Timestamp::from_millis(0),
            })),
            clock,
            other_merchant: AtomicBool::new(false),
            other_mode: AtomicBool::new(false),
            watched: Mutex::default(),
            places: Vec::new(),
            hold_for: None,
            asks_at_reserve: false,
        }
    }

    pub(crate) fn fault(&self, call: &'static str, fault: Fault) {
        let mut state = self.state.lock().unwrap();
        state.faults.entry(call).or_default().push_back(fault);
    }

    pub(crate) fn no_more_faults(&self) {
        self.state.lock().unwrap().faults.clear();
    }

    pub(crate) fn calls(&self, prefix: &str) -> usize {
        let state = self.state.lock().unwrap();
        let of = |call: &&String| call.starts_with(prefix);
        state.calls.iter().filter(of).count()
    }

    /// What really moved for an object, by our reference.
    pub(crate) fn moved(&self, kind: Kind, payment: &str) -> (usize, i64) {
        let reference = payment.split_once('_').unwrap().1;
        let state = self.state.lock().unwrap();
        let of = |entry: &&(Kind, String, i64)| {
            entry.0 == kind && state.objects[&entry.1].reference == reference
        };
        let entries = state.ledger.iter().filter(of);
        (entries.clone().count(), entries.map(|entry| entry.2).sum())
    }

    pub(crate) fn object(&self, payment: &str) -> (String, Object) {
        let reference = payment.split_once('_').unwrap().1;
        let state = self.state.lock().unwrap();
        let found = state
            .objects
            .iter()
            .filter(|(_, object)| object.reference == reference)
            .max_by_key(|(_, object)| object.captured);
        found
            .map(|(id, object)| (id.clone(), object.clone()))
            .unwrap()
    }

    pub(crate) fn change(&self, payment: &str, change: impl FnOnce(&mut Object)) {
        let (id, _) = self.object(payment);
        change(self.state.lock().unwrap().objects.get_mut(&id).unwrap());
    }

    /// The customer says yes at the page of a payment.
    pub(crate) fn approve(&self, payment: &str) {
        let (id, object) = self.object(payment);
        let mut state = self.state.lock().unwrap();
        assert_eq!(object.phase, Phase::AwaitsCustomer);
        if self.capabilities.page_moves_money {
            // The page takes or holds the amount.
            state.take(&id, object.capture == CaptureMode::Automatic);
        } else {
            state.objects.get_mut(&id).unwrap().phase = Phase::Approved;
        }
    }

    /// The customer ends a setup's visit.
    pub(crate) fn end_setup(&self, progress: &'static str) {
        let mut state = self.state.lock().unwrap();
        for setup in state.setups.values_mut() {
            setup.progress = progress;
        }
    }

    /// Somebody gives back in the back office.
    pub(crate) fn refund_elsewhere(&self, payment: &str, minor: i64) {
        let (id, _) = self.object(payment);
        let mut state = self.state.lock().unwrap();
        state.objects.get_mut(&id).unwrap().refunded += minor;
        state.ledger.push((Kind::Refund, id, minor));
    }

    /// Somebody captures in the back office.
    pub(crate) fn capture_elsewhere(&self, payment: &str, minor: i64) {
        let (id, _) = self.object(payment);
        let mut state = self.state.lock().unwrap();
        let capture = state.id("C");
        let object = state.objects.get_mut(&id).unwrap();
        object.captured += minor;
        object.captures.push((capture, minor));
        if object.captured >= object.amount.minor() {
            object.phase = Phase::Taken;
        }
        state.ledger.push((Kind::Capture, id, minor));
    }

    /// Everything that was pending is carried out.
    pub(crate) fn finish_pending(&self) {
        let mut state = self.state.lock().unwrap();
        let ids: Vec<String> = state.objects.keys().cloned().collect();
        for id in ids {
            let object = state.objects[&id].clone();
            if object.phase == Phase::Working {
                state.take(&id, object.capture == CaptureMode::Automatic);
            }
            for (key, done) in object.operations {
                if done.pending {
                    // What the ceilings forbid stays pending.
                    drop(state.operate(&id, &key, done.kind, done.amount, done.last));
                }
            }
        }
    }

    fn begin(&self, call: &'static str, note: &str) -> Option<Fault> {
        let mut state = self.state.lock().unwrap();
        if call != "lookup" && !call.starts_with("find") {
            state.asked_at = self.clock.now();
        }
        state.calls.push(format!("{call} {note}"));
        state.faults.get_mut(call).and_then(VecDeque::pop_front)
    }

    fn error(&self, kind: ErrorKind, delivery: Delivery) -> ProviderError {
        ProviderError::new(self.name.clone(), kind, delivery)
    }

    fn lost(&self) -> ProviderError {
        self.error(ErrorKind::Interrupted, Delivery::Unknown)
            .with_code(ProviderCode::new("GATEWAY_TIMEOUT"))
            .with_correlation(ProviderCode::new("debug-7"))
    }

    fn decline(gone: bool) -> Decline {
        Decline {
            category: DeclineCategory::InsufficientFunds,
            retry: RetryAdvice::Later,
            provider_code: ProviderCode::new("NO_FUNDS"),
            method_gone: gone,
        }
    }

    /// Runs one mutating call with the fault that stands in its way.
    async fn call<T: Send + 'static>(
        &self,
        call: &'static str,
        note: &str,
        answer_if_pending: impl FnOnce(&mut State) -> T + Send,
        run: impl FnOnce(&mut State) -> std::result::Result<Outcome<T>, ErrorKind> + Send + 'static,
    ) -> Result<Outcome<T>> {
        let fault = self.begin(call, note);
        let finish =
            |run: &mut dyn FnMut(&mut State) -> std::result::Result<Outcome<T>, ErrorKind>| {
                run(&mut self.state.lock().unwrap())
                    .map_err(|kind| self.error(kind, Delivery::Refused))
            };
        let mut once = Some(run);
        let mut run = move |state: &mut State| once.take().unwrap()(state);
        match fault {
            None => finish(&mut run),
            Some(Fault::NotSent) => Err(self.error(ErrorKind::Unreachable, Delivery::NotSent)),
            Some(Fault::LostBefore | Fault::Stale | Fault::OtherAmount | Fault::Absent) => {
                Err(self.lost())
            }
            Some(Fault::LostAfter) => {
                drop(finish(&mut run));
                Err(self.lost())
            }
            Some(Fault::Late(after)) => {
                let state = Arc::clone(&self.state);
                tokio::spawn(async move {
                    tokio::time::sleep(after).await;
                    drop(run(&mut state.lock().unwrap()));
                });
                Err(self.lost())
            }
            Some(Fault::Refused) => Err(self.error(ErrorKind::InvalidRequest, Delivery::Refused)),
            Some(Fault::Declined) => Ok(Outcome::Declined(Self::decline(false))),
            Some(Fault::MethodGone) => Ok(Outcome::Declined(Self::decline(true))),
            Some(Fault::Pending) => {
                let pending = answer_if_pending(&mut self.state.lock().unwrap());
                Ok(Outcome::Pending(pending))
            }
            Some(Fault::Review) => {
                let pending = answer_if_pending(&mut self.state.lock().unwrap());
                Ok(Outcome::Review(pending))
            }
            Some(Fault::Unmapped) => Ok(Outcome::Unmapped(Unmapped::new("status", "NEW_WORD"))),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::HangAfter) => {
                drop(finish(&mut run));
                std::future::pending().await
            }
            Some(Fault::Wait(gate) | Fault::WaitOnTheWay(gate)) => {
                gate.notified().await;
                finish(&mut run)
            }
            Some(Fault::Challenge) => {
                let pending = answer_if_pending(&mut self.state.lock().unwrap());
                Ok(Outcome::ActionRequired(pending, page("challenge")))
            }
        }
    }

    async fn operate(
        &self,
        call: &'static str,
        key: &IdempotencyKey,
        reservation: &ReservationId,
        kind: OperationKind,
        amount: i64,
        last: bool,
    ) -> Result<Outcome<Operation>> {
        let id = reservation.as_str().to_owned();
        let key = key.as_str().to_owned();
        let pending = (id.clone(), key.clone());
        self.call(
            call,
            &format!("{id} {amount} {key}"),
            move |state| {
                let done = state.note(&pending.0, &pending.1, kind, amount, last);
                Operation {
                    id: Some(ObjectId::new(done).unwrap()),
                    amount: None,
                }
            },
            move |state| {
                let done = state.operate(&id, &key, kind, amount, last)?;
                let currency = state.objects[&id].amount.currency();
                Ok(Outcome::Done(Operation {
                    id: Some(ObjectId::new(done).unwrap()),
                    amount: Some(Money::new(currency, amount).unwrap()),
                }))
            },
        )
        .await
    }

    fn seen(&self, id: &str, object: &Object) -> Outcome<Payment> {
        let money = |minor| Money::new(object.amount.currency(), minor).unwrap();
        let phase = match object.phase {
            Phase::Created | Phase::AwaitsCustomer | Phase::Approved | Phase::Working => {
                PaymentPhase::Reserved
            }
            Phase::Held => PaymentPhase::Authorized,
            Phase::Taken => PaymentPhase::Captured,
            Phase::Released => PaymentPhase::Voided,
            Phase::Lapsed => PaymentPhase::Expired,
            Phase::Refused => return Outcome::Declined(Self::decline(false)),
        };
        // Like PayPal: what is captured in part reads as captured.
        let phase = if object.captured > 0 {
            PaymentPhase::Captured
        } else {
            phase
        };
        let payment = Payment {
            reservation: ReservationId::new(id).unwrap(),
            phase,
            authorization: (object.phase == Phase::Held)
                .then(|| ObjectId::new(format!("A{id}")).unwrap()),
            expires_at: self
                .hold_for
                .map(|time| self.clock.now().plus(time))
                .filter(|_| object.phase == Phase::Held),
            hold: match object.phase {
                Phase::Held => HoldState::Alive,
                Phase::Taken | Phase::Released | Phase::Lapsed | Phase::Refused => HoldState::Ended,
                Phase::Created | Phase::AwaitsCustomer | Phase::Approved | Phase::Working => {
                    HoldState::NotTold
                }
            },
            captured: money(object.captured),
            // Like PayPal: what else went back is in no sum.
            refunded: (object.taken_back == 0).then(|| money(object.refunded)),
            reversed: None,
            returned: (object.taken_back > 0).then(|| money(object.refunded + object.taken_back)),
            captures: object
                .captures
                .iter()
                .map(|(id, minor)| Movement {
                    id: Some(ObjectId::new(id.clone()).unwrap()),
                    amount: money(*minor),
                    state: MovementState::Done,
                    reference: None,
                })
                .collect(),
            refunds: Vec::new(),
        };
        match object.phase {
            Phase::AwaitsCustomer => Outcome::ActionRequired(payment, page(id)),
            Phase::Working => Outcome::Pending(payment),
            _ => Outcome::Done(payment),
        }
    }
}

fn page(id: &str) -> RedirectUrl {
    RedirectUrl::new(format!("https://pay.example/{id}")).unwrap()
}

impl State {
    fn id(&mut self, prefix: &str) -> String {
        self.next += 1;
        format!("{prefix}{}", self.next)
    }

    /// Takes or holds the whole amount, once.
    fn take(&mut self, id: &str, capture: bool) {
        let capture_id = self.id("C");
        let object = self.objects.get_mut(id).unwrap();
        let minor = object.amount.minor();
        if capture {
            object.phase = Phase::Taken;
            object.captured = minor;
            object.captures.push((capture_id, minor));
            self.ledger.push((Kind::Capture, id.to_owned(), minor));
        } else {
            object.phase = Phase::Held;
            self.ledger.push((Kind::Hold, id.to_owned(), minor));
        }
    }

    fn note(
        &mut self,
        id: &str,
        key: &str,
        kind: OperationKind,
        amount: i64,
        last: bool,
    ) -> String {
        let name = self.id("O");
        let object = self.objects.get_mut(id).unwrap();
        let done = object.operations.entry(key.to_owned()).or_insert(Done {
            kind,
            id: name,
            amount,
            pending: true,
            last,
        });
        done.id.clone()
    }

    /// Carries an operation out, once per key, within the provider's own ceilings.
    fn operate(
        &mut self,
        id: &str,
        key: &str,
        kind: OperationKind,
        amount: i64,
        last: bool,
    ) -> std::result::Result<String, ErrorKind> {
        let known = self.objects[id].operations.get(key).cloned();
        if let Some(done) = known.filter(|done| !done.pending) {
            return Ok(done.id);
        }
        let name = self.id("O");
        let object = self.objects.get_mut(id).unwrap();
        let entry = match kind {
            OperationKind::Capture => {
                if object.phase != Phase::Held || object.captured + amount > object.amount.minor() {
                    return Err(ErrorKind::Conflict);
                }
                object.captured += amount;
                if last || object.captured == object.amount.minor() {
                    object.phase = Phase::Taken;
                }
                Kind::Capture
            }
            OperationKind::Void => {
                if object.phase != Phase::Held {
                    return Err(ErrorKind::Conflict);
                }
                object.phase = if object.captured > 0 {
                    Phase::Taken
                } else {
                    Phase::Released
                };
                Kind::Void
            }
            OperationKind::Refund => {
                if object.refunded + amount > object.captured {
                    return Err(ErrorKind::AmountRefused);
                }
                object.refunded += amount;
                Kind::Refund
            }
        };
        let pending = object.operations.get(key).map(|done| done.id.clone());
        let name = pending.unwrap_or(name);
        if kind == OperationKind::Capture {
            object.captures.push((name.clone(), amount));
        }
        object.operations.insert(
            key.to_owned(),
            Done {
                kind,
                id: name.clone(),
                amount,
                pending: false,
                last,
            },
        );
        self.ledger.push((entry, id.to_owned(), amount));
        Ok(name)
    }
}
