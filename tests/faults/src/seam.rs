//! The seam between a process and what is outside of it: what is durable, what leaves, and what is
//! secret. It looks into the store at the moment at which a request leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use cardless::account::{Handle, HandleKind};
use cardless::store::{
    Change, EventRow, MethodState, OperationRow, PaymentRow, RecordRow, SetupRow, Step, Store,
};
use cardless::vault::{Context, Purpose, Vault};
use cardless_contract::{Clock as _, Timestamp};
use cardless_sandbox::{Operation, Provider};
use cardless_transport::Request;
use http::Method;
use serde_json::Value;

use crate::clock::OffClock;
use crate::strike::Strike;
use crate::world::Broken;

/// A request that leaves and may change something at a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// When, by the machine's clock.
    pub at: Timestamp,
    /// To which provider.
    pub provider: &'static str,
    /// Method and path.
    pub what: String,
    /// What of ours it is for, as the store knew it at that moment.
    pub intent: Option<Intent>,
    /// The accounts whose tokens it carries, by their pseudonyms.
    pub owners: BTreeSet<String>,
}

/// What a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// The payment, operation, setup or method.
    pub id: String,
    /// Its account's pseudonym.
    pub account: String,
    /// What the store said of the sending.
    pub mark: Mark,
}

/// What the store says of a request that leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It is marked as sent, then.
    SentAt(Timestamp),
    /// The payment is closed against commits and is being released; the method is being revoked;
    /// the setup is there. That is all that is needed.
    Standing,
    /// Nothing says that it may leave.
    None,
}

/// A state in which an object was durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glimpse {
    /// When it was written, by the machine's clock.
    pub at: Timestamp,
    /// The state, as the row has it.
    pub state: &'static str,
    /// A payment's minor units taken.
    pub captured: i64,
    /// A payment's minor units given back.
    pub refunded: i64,
}

/// How often something came into a state that it was not in before.
pub(crate) fn times_into(glimpses: &[Glimpse], state: &str) -> usize {
    let mut before = None;
    let comes = |glimpse: &&Glimpse| {
        let other = before.replace(glimpse.state) != Some(glimpse.state);
        other && glimpse.state == state
    };
    glimpses.iter().filter(comes).count()
}

/// Shared by everything in a world.
#[derive(Debug, Clone)]
pub(crate) struct Seam(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    /// The machine's: marks are reckoned by it too.
    clock: OffClock,
    vault: Vault,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Our references, and the ids that they are made from.
    references: BTreeMap<String, String>,
    /// The providers' ids, and what of ours they are for.
    objects: BTreeMap<(String, String), String>,
    /// Sealed tokens, with the accounts and records that they are sealed for.
    tokens: BTreeMap<String, BTreeSet<(String, String)>>,
    sent: Vec<Sent>,
    /// Every state in which an object was ever durable, in order.
    history: BTreeMap<String, Vec<Glimpse>>,
    /// What was written that is text: final answers.
    answers: Vec<String>,
    /// Every event, as it was written.
    events: Vec<EventRow>,
    /// Requests that are to arrive late, and by how many seconds.
    late: Vec<(Provider, Operation, u64)>,
    late_befallen: u64,
    /// Calls that the sandbox's faults have struck.
    strikes: Vec<Strike>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seam")
    }
}

impl Seam {
    pub(crate) fn new(store: Arc<dyn Store>, clock: OffClock, vault: Vault) -> Self {
        Self(Arc::new(Inner {
            store,
            clock,
            vault,
            state: Mutex::default(),
        }))
    }

    /// Takes note of a batch that the store has kept.
    pub(crate) fn durable(&self, batch: &[Change]) {
        let mut tokens = Vec::new();
        for change in batch {
            if let Change::InsertRecord(row) = change {
                tokens.extend(self.opened(row).map(|token| (token, row)));
            }
        }
        let now = self.0.clock.now();
        let mut state = self.lock();
        for (token, row) in tokens {
            let owner = (row.account.clone(), row.id.clone());
            state.tokens.entry(token).or_default().insert(owner);
        }
        for change in batch {
            state.note(change, now);
        }
    }

    fn opened(&self, row: &RecordRow) -> Option<String> {
        let context = Context {
            account: &row.account,
            provider: &row.provider,
            merchant: &row.merchant,
            record: &row.id,
            purpose: Purpose::Token,
        };
        let token = self.0.vault.open_token(&context, &row.sealed).ok()?;
        Some(token.expose().to_owned())
    }

    /// Takes note of a request that leaves now.
    pub(crate) async fn leaves(&self, provider: Provider, request: &Request) -> Result<(), Broken> {
        if request.method() == Method::GET || is_free(request) {
            return Ok(());
        }
        let at = self.0.clock.now();
        let carried = self.carried(request);
        let intent = match (request.method(), carried.first()) {
            (_, Some((_, _, record))) if is_revocation(request) => self.revocation(record).await?,
            _ => self.intent(provider.name(), request).await?,
        };
        let sent = Sent {
            at,
            provider: provider.name(),
            what: format!("{} {}", request.method(), request.uri().path()),
            intent,
            owners: carried.into_iter().map(|(_, owner, _)| owner).collect(),
        };
        self.lock().sent.push(sent);
        Ok(())
    }

    /// The tokens that stand in a request, with the account and record of each.
    fn carried(&self, request: &Request) -> Vec<(String, String, String)> {
        let body = String::from_utf8_lossy(request.body());
        let path = request.uri().path();
        let state = self.lock();
        state
            .tokens
            .iter()
            .filter(|(token, _)| body.contains(token.as_str()) || path.contains(token.as_str()))
            .flat_map(|(token, owners)| {
                owners
                    .iter()
                    .map(|(owner, record)| (token.clone(), owner.clone(), record.clone()))
            })
            .collect()
    }

    /// The method that is being revoked.
    async fn revocation(&self, record: &str) -> Result<Option<Intent>, Broken> {
        let id = {
            let state = self.lock();
            state.references.get(record).cloned()
        };
        let Some(id) = id else { return Ok(None) };
        Ok(self.0.store.method(&id).await?.map(|row| Intent {
            mark: match row.state {
                MethodState::Revoking | MethodState::Revoked => Mark::Standing,
                MethodState::Active | MethodState::Suspended => Mark::None,
            },
            account: row.account,
            id,
        }))
    }

    /// What a request is for: by our key, by our reference, or by the provider's id.
    async fn intent(
        &self,
        provider: &'static str,
        request: &Request,
    ) -> Result<Option<Intent>, Broken> {
        let id = {
            let state = self.lock();
            references(request)
                .iter()
                .find_map(|reference| state.references.get(reference).cloned())
                .or_else(|| {
                    request.uri().path().split('/').find_map(|segment| {
                        let object = (provider.to_owned(), segment.to_owned());
                        state.objects.get(&object).cloned()
                    })
                })
        };
        let Some(id) = id else { return Ok(None) };
        let store = &self.0.store;
        Ok(match Handle::parse(&id).map(|handle| handle.kind()) {
            Some(HandleKind::Payment) => match store.payment(&id).await? {
                Some(row) => {
                    let operations = store.operations(&id).await?;
                    Some(payment_intent(&row, &operations, is_release(request)))
                }
                None => None,
            },
            Some(HandleKind::Setup) => store.setup(&id).await?.map(|row| setup_intent(&row)),
            Some(HandleKind::Capture | HandleKind::Void | HandleKind::Refund) => {
                store.operation(&id).await?.map(|row| Intent {
                    mark: Mark::SentAt(row.last_sent_at),
                    account: row.account,
                    id,
                })
            }
            Some(HandleKind::PaymentMethod) | None => None,
        })
    }

    /// The next matching request arrives late.
    pub(crate) fn be_late(&self, provider: Provider, operation: Operation, seconds: u64) {
        self.lock().late.push((provider, operation, seconds));
    }

    /// By how many seconds this request is late, if it is.
    pub(crate) fn is_late(&self, provider: Provider, request: &Request) -> Option<u64> {
        let mut state = self.lock();
        let path = request.uri().path();
        let index = state.late.iter().position(|(at, operation, _)| {
            *at == provider && operation.matches(request.method(), path)
        })?;
        state.late_befallen += 1;
        Some(state.late.remove(index).2)
    }

    /// Nothing is late any more.
    pub(crate) fn clear_late(&self) {
        self.lock().late.clear();
    }

    pub(crate) fn late_befallen(&self) -> u64 {
        self.lock().late_befallen
    }

    /// A fault of the sandbox has struck a call.
    pub(crate) fn struck(&self, strike: Strike) {
        self.lock().strikes.push(strike);
    }

    pub(crate) fn strikes(&self) -> Vec<Strike> {
        self.lock().strikes.clone()
    }

    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.lock().sent.clone()
    }

    /// The state in which an object is durable.
    pub(crate) fn state_of(&self, id: &str) -> Option<&'static str> {
        let state = self.lock();
        Some(state.history.get(id)?.last()?.state)
    }

    pub(crate) fn history(&self) -> BTreeMap<String, Vec<Glimpse>> {
        self.lock().history.clone()
    }

    pub(crate) fn events(&self) -> Vec<EventRow> {
        self.lock().events.clone()
    }

    pub(crate) fn answers(&self) -> Vec<String> {
        self.lock().answers.clone()
    }

    /// Every token that was sealed, with the accounts that it was sealed for.
    pub(crate) fn tokens(&self) -> BTreeMap<String, BTreeSet<String>> {
        let state = self.lock();
        let owners = |owners: &BTreeSet<(String, String)>| {
            owners.iter().map(|(owner, _)| owner.clone()).collect()
        };
        state
            .tokens
            .iter()
            .map(|(token, of)| (token.clone(), owners(of)))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the other changes say nothing of what leaves"
    )]
    fn note(&mut self, change: &Change, now: Timestamp) {
        match change {
            Change::InsertPayment(row) | Change::UpdatePayment(row) => {
                self.name(&row.id);
                self.glimpse(&row.id, now, row.state.as_str(), row.captured, row.refunded);
                let objects = [&row.reservation, &row.authorization, &row.capture_object];
                for object in objects.into_iter().flatten() {
                    self.object(&row.provider, object, &row.id);
                }
            }
            Change::InsertSetup(row) | Change::UpdateSetup(row) => {
                self.name(&row.id);
                self.glimpse(&row.id, now, row.state.as_str(), 0, 0);
                if let Some(object) = &row.reference {
                    // A first payment that the provider takes in the same visit has the same id.
                    let id = row.payment.as_ref().filter(|_| row.provider != "paypal");
                    self.object(&row.provider, object, id.unwrap_or(&row.id));
                }
            }
            Change::InsertOperation(row) | Change::UpdateOperation(row) => {
                self.name(&row.id);
                self.glimpse(&row.id, now, row.state.as_str(), 0, 0);
            }
            Change::InsertMethod(row) | Change::UpdateMethod(row) => {
                self.glimpse(&row.id, now, row.state.as_str(), 0, 0);
                if let Some(record) = &row.record {
                    self.references.insert(record.clone(), row.id.clone());
                }
            }
            Change::FinishKey { answer, .. } => self.answers.push(answer.clone()),
            Change::InsertEvent(row) => self.events.push(row.clone()),
            _ => {}
        }
    }

    fn name(&mut self, id: &str) {
        if let Some(handle) = Handle::parse(id) {
            let reference = handle.reference().to_string();
            self.references.insert(reference, id.to_owned());
        }
    }

    fn glimpse(
        &mut self,
        id: &str,
        at: Timestamp,
        state: &'static str,
        captured: i64,
        refunded: i64,
    ) {
        let glimpses = self.history.entry(id.to_owned()).or_default();
        let glimpse = Glimpse {
            at,
            state,
            captured,
            refunded,
        };
        let same = glimpses.last().is_some_and(|last| {
            (last.state, last.captured, last.refunded) == (state, captured, refunded)
        });
        if !same {
            glimpses.push(glimpse);
        }
    }

    fn object(&mut self, provider: &str, object: &str, id: &str) {
        self.objects
            .insert((provider.to_owned(), object.to_owned()), id.to_owned());
    }
}

/// Requests that change nothing of anybody's: an access token, and the expiry of a card that is
/// being linked.
fn is_free(request: &Request) -> bool {
    request.uri().path() == "/v1/oauth2/token" || request.method() == Method::PATCH
}

/// Whether a request gives a token up: PayPal cancels agreements by POST.
fn is_revocation(request: &Request) -> bool {
    let path = request.uri().path();
    request.method() == Method::DELETE
        || path.starts_with("/v1/billing-agreements/") && path.ends_with("/cancel")
}

/// Our references in a request: from the key in a header, or from the body.
fn references(request: &Request) -> Vec<String> {
    let headers = ["paypal-request-id", "idempotency-key"];
    let mut found: Vec<String> = headers
        .into_iter()
        .filter_map(|name| request.headers().get(name)?.to_str().ok())
        .map(str::to_owned)
        .collect();
    if let Some(body) = json(request.body()) {
        let members = ["externalId", "merchantReference"];
        let texts = members.into_iter().filter_map(|name| body.get(name));
        found.extend(texts.filter_map(Value::as_str).map(str::to_owned));
    }
    let reference = |key: &String| key.split('-').next().map(str::to_owned);
    found.iter().filter_map(reference).collect()
}

fn json(body: &Bytes) -> Option<Value> {
    serde_json::from_slice(body).ok()
}

/// Whether a request gives a hold back.
fn is_release(request: &Request) -> bool {
    let path = request.uri().path();
    ["/void", "/void-online", "/cancel"]
        .into_iter()
        .any(|end| path.ends_with(end))
}

/// PostFinance's void of a hold names the payment only: the operation has its mark.
fn payment_intent(row: &PaymentRow, operations: &[OperationRow], releases: bool) -> Intent {
    let marks = operations
        .iter()
        .map(|operation| operation.last_sent_at)
        .chain(row.last_sent_at);
    let mark = match marks.max() {
        _ if releases && row.step == Step::Closing => Mark::Standing,
        Some(at) => Mark::SentAt(at),
        None if row.setup.is_some() => Mark::Standing,
        None => Mark::None,
    };
    Intent {
        id: row.id.clone(),
        account: row.account.clone(),
        mark,
    }
}

fn setup_intent(row: &SetupRow) -> Intent {
    Intent {
        id: row.id.clone(),
        account: row.account.clone(),
        mark: Mark::Standing,
    }
}
