//! A small provider in memory: objects, a ledger, and faults that a test puts in its way. It can
//! take each of the three shapes that the gateway drives.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
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

#[derive(Debug)]
pub(crate) struct Fake {
    name: ProviderName,
    /// The settings name another merchant now.
    pub(crate) other_merchant: AtomicBool,
    /// The settings name another way to work now.
    pub(crate) other_mode: AtomicBool,
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
                setup_takes_payment: true,
                page_moves_money: true,
                reserve_holds: true,
                ..base
            },
        }
    }
}

impl Fake {
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

#[async_trait]
impl PaymentProvider for Fake {
    fn name(&self) -> &ProviderName {
        &self.name
    }

    fn merchant(&self) -> &str {
        if self.other_merchant.load(Ordering::Relaxed) {
            "another shop"
        } else {
            "shop"
        }
    }

    fn mode(&self) -> &str {
        if self.other_mode.load(Ordering::Relaxed) {
            "another way"
        } else {
            "one way"
        }
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn calls(&self) -> &'static [ProviderCall] {
        &[]
    }

    fn places(&self) -> Vec<ProviderPlace> {
        self.places.clone()
    }

    async fn probe(&self) -> Result<()> {
        Ok(())
    }

    async fn begin_setup(
        &self,
        key: &IdempotencyKey,
        request: &SetupRequest,
    ) -> Result<Outcome<SetupStarted>> {
        let expires_at = self.clock.now().plus(CUSTOMER_WINDOW);
        let request = request.clone();
        let started = move |state: &mut State| {
            let id = state.id("S");
            state.setups.insert(id.clone(), Setup { progress: "waits" });
            if let Some(payment) = request.payment {
                state.objects.insert(
                    id.clone(),
                    Object {
                        reference: request.reference.as_str().to_owned(),
                        amount: payment.amount,
                        capture: payment.capture,
                        initiator: Initiator::Customer,
                        phase: Phase::AwaitsCustomer,
                        captured: 0,
                        refunded: 0,
                        taken_back: 0,
                        captures: Vec::new(),
                        operations: BTreeMap::new(),
                    },
                );
            }
            SetupStarted {
                redirect: page(&id),
                setup: SetupReference::new(id).unwrap(),
                expires_at,
            }
        };
        let again = started.clone();
        self.call("begin_setup", key.as_str(), started, move |state| {
            Ok(Outcome::Done(again(state)))
        })
        .await
    }

    async fn complete_setup(
        &self,
        key: &IdempotencyKey,
        request: &SetupCompletion,
    ) -> Result<SetupProgress> {
        match self.begin("complete_setup", key.as_str()) {
            None => {}
            Some(Fault::Hang) => std::future::pending().await,
            Some(_) => return Err(self.lost()),
        }
        let id = request.setup.as_str();
        let progress = self.state.lock().unwrap().setups[id].progress;
        Ok(match progress {
            "linked" => SetupProgress::Linked(ProviderToken::new(format!("token-{id}")).unwrap()),
            "declined" => SetupProgress::Declined(Self::decline(false)),
            "no_token" => SetupProgress::NoToken,
            "expired" => SetupProgress::Expired,
            _ => SetupProgress::AwaitingCustomer,
        })
    }

    async fn reserve(
        &self,
        key: &IdempotencyKey,
        token: &ProviderToken,
        request: &PaymentRequest,
        seal: &dyn BodySeal,
    ) -> Result<Outcome<ReservationId>> {
        if self.capabilities.reserve_holds {
            let expiry = self.state.lock().unwrap().expiry;
            let bytes = format!("{key} {} {expiry}", token.expose());
            seal.admit(bytes.as_bytes()).await?;
        }
        let keyed = self.capabilities.repeat_reserve != Repeat::AfterQuestion;
        let holds = self.capabilities.reserve_holds;
        let asks = self.capabilities.page_moves_money || self.asks_at_reserve;
        let (key, request) = (key.as_str().to_owned(), request.clone());
        let note = format!("{} {key}", request.reference);
        let make = move |state: &mut State| {
            if let Some(id) = state.reserved_by_key.get(&key).filter(|_| keyed) {
                return id.clone();
            }
            let id = state.id("R");
            let page = asks && request.initiator == Initiator::Customer;
            state.reserved_by_key.insert(key, id.clone());
            state.objects.insert(
                id.clone(),
                Object {
                    reference: request.reference.as_str().to_owned(),
                    amount: request.amount,
                    capture: request.capture,
                    initiator: request.initiator,
                    phase: if page {
                        Phase::AwaitsCustomer
                    } else {
                        Phase::Created
                    },
                    captured: 0,
                    refunded: 0,
                    taken_back: 0,
                    captures: Vec::new(),
                    operations: BTreeMap::new(),
                },
            );
            if holds && !page {
                state.take(&id, false);
            }
            id
        };
        let pending = make.clone();
        self.call(
            "reserve",
            &note,
            move |state| ReservationId::new(pending(state)).unwrap(),
            move |state| {
                let id = make(state);
                let waits = state.objects[&id].phase == Phase::AwaitsCustomer;
                let reservation = ReservationId::new(id.clone()).unwrap();
                Ok(if waits {
                    Outcome::ActionRequired(reservation, page(&id))
                } else {
                    Outcome::Done(reservation)
                })
            },
        )
        .await
    }

    async fn commit(
        &self,
        key: &IdempotencyKey,
        _token: &ProviderToken,
        request: &CommitRequest,
    ) -> Result<Outcome<Payment>> {
        let id = request.reservation.as_str().to_owned();
        let holds = self.capabilities.reserve_holds;
        let takes = self.capabilities.page_moves_money;
        let working = id.clone();
        let ran = self
            .call(
                "commit",
                &format!("{id} {}", key.as_str()),
                move |state| {
                    let object = state.objects.get_mut(&working).unwrap();
                    if matches!(object.phase, Phase::Created | Phase::Approved) {
                        object.phase = Phase::Working;
                    }
                    working.clone()
                },
                move |state| {
                    let object = state.objects[&id].clone();
                    let automatic = object.capture == CaptureMode::Automatic;
                    match object.phase {
                        Phase::Created if object.initiator == Initiator::Customer && !takes => {
                            state.objects.get_mut(&id).unwrap().phase = Phase::AwaitsCustomer;
                        }
                        Phase::Created | Phase::Approved => state.take(&id, automatic),
                        Phase::Held if holds && automatic => state.take(&id, true),
                        Phase::Held | Phase::Taken | Phase::AwaitsCustomer | Phase::Working => {}
                        Phase::Released | Phase::Lapsed | Phase::Refused => {
                            return Err(ErrorKind::Conflict);
                        }
                    }
                    Ok(Outcome::Done(id))
                },
            )
            .await?;
        let (read, pending) = match ran {
            Outcome::Done(id) => (id, false),
            Outcome::Pending(id) => (id, true),
            Outcome::Declined(decline) => return Ok(Outcome::Declined(decline)),
            Outcome::Unmapped(word) => return Ok(Outcome::Unmapped(word)),
            Outcome::ActionRequired(id, url) => {
                let object = self.state.lock().unwrap().objects[&id].clone();
                let (Outcome::Done(payment) | Outcome::Pending(payment)) = self.seen(&id, &object)
                else {
                    return Err(self.lost());
                };
                return Ok(Outcome::ActionRequired(payment, url));
            }
            Outcome::Review(id) => {
                let object = self.state.lock().unwrap().objects[&id].clone();
                return Ok(match self.seen(&id, &object) {
                    Outcome::Done(payment) | Outcome::Pending(payment) => Outcome::Review(payment),
                    other => other,
                });
            }
        };
        let object = self.state.lock().unwrap().objects[&read].clone();
        let seen = self.seen(&read, &object);
        Ok(match seen {
            Outcome::Done(payment) if pending => Outcome::Pending(payment),
            other => other,
        })
    }

    async fn capture(
        &self,
        key: &IdempotencyKey,
        request: &CaptureRequest,
    ) -> Result<Outcome<Operation>> {
        let amount = request.amount.minor();
        let kind = OperationKind::Capture;
        self.operate(
            "capture",
            key,
            &request.reservation,
            kind,
            amount,
            request.last,
        )
        .await
    }

    async fn void(
        &self,
        key: &IdempotencyKey,
        request: &VoidRequest,
    ) -> Result<Outcome<Operation>> {
        let amount = request.authorized.minor();
        let kind = OperationKind::Void;
        self.operate("void", key, &request.reservation, kind, amount, true)
            .await
    }

    async fn refund(
        &self,
        key: &IdempotencyKey,
        request: &RefundRequest,
    ) -> Result<Outcome<Operation>> {
        assert_eq!(
            request.capture.is_some(),
            self.capabilities.refund_per_capture
        );
        if let Some(capture) = &request.capture {
            // No capture gives back more than it took.
            let state = self.state.lock().unwrap();
            let object = &state.objects[request.reservation.as_str()];
            let mut captures = object.captures.iter();
            let took = captures.find(|(id, _)| id == capture.as_str());
            assert!(took.unwrap().1 >= request.amount.minor(), "{capture:?}");
        }
        let amount = request.amount.minor();
        let kind = OperationKind::Refund;
        self.operate("refund", key, &request.reservation, kind, amount, false)
            .await
    }

    async fn lookup(&self, request: &LookupRequest) -> Result<Outcome<Payment>> {
        let id = request.reservation.as_str();
        let fault = self.begin("lookup", id);
        let mut object = match self.state.lock().unwrap().objects.get(id) {
            Some(object) => object.clone(),
            None => return Err(self.error(ErrorKind::NotFound, Delivery::Refused)),
        };
        match fault {
            None => {}
            Some(Fault::Stale) => {
                // A read lags behind, but not for longer than the longest delay.
                let since = self.clock.now().since(self.state.lock().unwrap().asked_at);
                if since < Duration::from_secs(60) {
                    object.phase = Phase::Created;
                }
            }
            Some(Fault::Unmapped) => {
                return Ok(Outcome::Unmapped(Unmapped::new("status", "NEW_WORD")));
            }
            Some(Fault::Declined) => return Ok(Outcome::Declined(Self::decline(false))),
            Some(Fault::Wait(gate)) => gate.notified().await,
            Some(Fault::Hang | Fault::HangAfter) => std::future::pending().await,
            Some(Fault::Review) => {
                return Ok(match self.seen(id, &object) {
                    Outcome::Done(payment) | Outcome::Pending(payment) => Outcome::Review(payment),
                    other => other,
                });
            }
            Some(Fault::Refused) => return Err(self.error(ErrorKind::NotFound, Delivery::Refused)),
            Some(_) => return Err(self.lost()),
        }
        Ok(self.seen(id, &object))
    }

    async fn find(&self, reference: &Reference) -> Result<Found<ReservationId>> {
        match self.begin("find", reference.as_str()) {
            None => {}
            Some(Fault::Refused) => return Ok(Found::CannotTell),
            Some(_) => return Err(self.lost()),
        }
        if !self.capabilities.find_by_reference {
            return Ok(Found::CannotTell);
        }
        let state = self.state.lock().unwrap();
        let mut of = state
            .objects
            .iter()
            .filter(|(_, object)| object.reference == reference.as_str());
        Ok(match (of.next(), of.next()) {
            (None, _) => Found::No,
            (Some((id, _)), None) => Found::Yes(ReservationId::new(id.clone()).unwrap()),
            (Some(_), Some(_)) => return Err(self.error(ErrorKind::Conflict, Delivery::Unknown)),
        })
    }

    async fn find_operation(
        &self,
        key: &IdempotencyKey,
        request: &OperationLookup,
    ) -> Result<Found<Outcome<Operation>>> {
        let gate = match self.begin("find_operation", key.as_str()) {
            None => None,
            Some(Fault::Wait(gate)) => Some(gate),
            Some(Fault::WaitOnTheWay(gate)) => {
                gate.notified().await;
                None
            }
            Some(Fault::Unmapped) => {
                let word = Unmapped::new("refund.status", "NEW_WORD");
                return Ok(Found::Yes(Outcome::Unmapped(word)));
            }
            Some(Fault::Refused) => return Ok(Found::CannotTell),
            Some(Fault::Absent) => return Ok(Found::No),
            Some(Fault::Declined) => {
                return Ok(Found::Yes(Outcome::Declined(Self::decline(false))));
            }
            Some(Fault::OtherAmount) => {
                return Ok(Found::Yes(Outcome::Done(Operation {
                    id: None,
                    amount: request.amount.plus(request.amount).ok(),
                })));
            }
            Some(_) => return Err(self.lost()),
        };
        let id = request.reservation.as_str();
        let object = self.state.lock().unwrap().objects[id].clone();
        if let Some(gate) = gate {
            // What it saw is on its way.
            gate.notified().await;
        }
        if self.capabilities.reserve_holds {
            return Ok(by_sum(&object, request));
        }
        Ok(match object.operations.get(key.as_str()) {
            None => Found::No,
            Some(done) => {
                let operation = Operation {
                    id: Some(ObjectId::new(done.id.clone()).unwrap()),
                    amount: None,
                };
                Found::Yes(if done.pending {
                    Outcome::Pending(operation)
                } else {
                    Outcome::Done(operation)
                })
            }
        })
    }

    async fn payment_of(
        &self,
        kind: OperationKind,
        object: &ObjectId,
    ) -> Result<Option<ReservationId>> {
        match self.begin("payment_of", object.as_str()) {
            None => {}
            Some(Fault::NotSent) => {
                return Err(self.error(ErrorKind::Unreachable, Delivery::NotSent));
            }
            Some(Fault::Refused) => {
                return Err(self.error(ErrorKind::InvalidRequest, Delivery::Refused));
            }
            Some(_) => return Err(self.lost()),
        }
        let state = self.state.lock().unwrap();
        let has = |held: &Object| {
            let mut operations = held.operations.values();
            operations.any(|done| done.kind == kind && done.id == object.as_str())
        };
        let mut objects = state.objects.iter();
        let found = objects.find(|(_, held)| has(held));
        Ok(found.map(|(id, _)| ReservationId::new(id.clone()).unwrap()))
    }

    async fn revoke(&self, token: &ProviderToken) -> Result<()> {
        let fault = self.begin("revoke", "");
        match fault {
            None | Some(Fault::LostAfter | Fault::HangAfter) => {}
            Some(Fault::Hang) => std::future::pending().await,
            Some(_) => return Err(self.lost()),
        }
        let gone = {
            let mut state = self.state.lock().unwrap();
            let known = token.expose().to_owned();
            let gone = state.revoked.contains(&known);
            if !gone {
                state.revoked.push(known);
            }
            gone
        };
        match fault {
            Some(Fault::HangAfter) => std::future::pending().await,
            Some(Fault::LostAfter) => Err(self.lost()),
            _ if gone => Err(self.error(ErrorKind::NotFound, Delivery::Refused)),
            _ => Ok(()),
        }
    }

    fn token_kind(&self) -> &'static str {
        "plain"
    }

    fn check_token(&self, token: &ProviderToken) -> std::result::Result<(), TokenFault> {
        let shown = token.expose();
        if shown.starts_with("old-") {
            return Err(TokenFault::RevealsDigits);
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let fits = shown.bytes().all(plain);
        fits.then_some(()).ok_or(TokenFault::Shape)
    }

    async fn verify_notification(
        &self,
        delivery: &RawNotification<'_>,
    ) -> std::result::Result<Notification, NotificationError> {
        // The body is `event reservation`, or `event kind/operation`.
        let body = std::str::from_utf8(delivery.body).map_err(|_| NotificationError::Signature)?;
        let (event, id) = body.split_once(' ').ok_or(NotificationError::Signature)?;
        let operation = |kind, object| Subject::Operation {
            kind,
            object: ObjectId::new(object).unwrap(),
        };
        let subject = match id.split_once('/') {
            Some(("capture", object)) => operation(OperationKind::Capture, object),
            Some(("void", object)) => operation(OperationKind::Void, object),
            Some((_, object)) => operation(OperationKind::Refund, object),
            None => Subject::Payment {
                reservation: Some(ReservationId::new(id).unwrap()),
                reference: None,
                object: None,
            },
        };
        Ok(Notification {
            event_id: event.to_owned(),
            subject,
        })
    }
}

/// All that a provider tells which shows sums only.
fn by_sum(object: &Object, request: &OperationLookup) -> Found<Outcome<Operation>> {
    let yes = Found::Yes(Outcome::Done(Operation {
        id: None,
        amount: None,
    }));
    let (sum, before) = match request.kind {
        OperationKind::Void if matches!(object.phase, Phase::Released | Phase::Lapsed) => {
            return yes;
        }
        OperationKind::Void => return Found::No,
        OperationKind::Capture => (object.captured, request.settled_before.minor()),
        OperationKind::Refund => (object.refunded, request.settled_before.minor()),
    };
    if sum == before + request.amount.minor() {
        yes
    } else if sum == before {
        Found::No
    } else {
        Found::CannotTell
    }
}
