//! What a person must look at, and how it ends: `payment list`, `payment show`, `payment resolve`.
//!
//! A person's word ends only what is parked, and only after the provider was asked once more. What
//! the provider's answer concludes stands, whatever the person wanted; what it contradicts is
//! refused. Nothing is ever sent to move money here.

use std::sync::Arc;

use cardless_contract::{
    Decline, ErrorKind, Found, LookupRequest, Operation as Done, Outcome, Payment as Seen,
    PaymentPhase, PaymentProvider, Timestamp,
};
use serde::Serialize;

use super::audit::{Actor, AuditAction, AuditObject};
use super::drive::page_moves_money;
use super::heard::LastAnswer;
use super::link::on_a_task;
use super::operate::lookup;
use super::pay::{key_of, reference_of, reservation_of};
use super::view::{self, DECLINED};
use super::{Gateway, Inner, check, quiet_at, stored};
use crate::account::Handle;
use crate::error::{Causes, Code, Error};
use crate::journal::state::{self, Next};
use crate::journal::{Leased, Reload, Written, release_row};
use crate::message::{Page, Payment, PaymentStatus};
use crate::store::{
    Change, OperationRow, OperationState, OperationType, PaymentFilter, PaymentRow, PaymentState,
    ResolutionRow, Step,
};

/// The most payments that one page of [`Gateway::cases`] has.
pub const MAX_CASES: u32 = 500;

/// The longest note of a resolution, in characters.
const MAX_NOTE_CHARS: usize = 500;

/// The longest name of whoever resolves, in characters.
const MAX_PERSON_CHARS: usize = 64;

/// Which payments a person wants to see.
#[derive(Debug, Clone, Default)]
pub struct CaseQuery {
    /// Of this account; of all if absent.
    pub account: Option<String>,
    /// Under this reference of the caller.
    pub reference: Option<String>,
    /// In this state. `parked` also finds payments with an operation that is parked.
    pub status: Option<PaymentStatus>,
    /// After this payment: the `next` of the page before.
    pub after: Option<String>,
    /// How many at most, 1 to [`MAX_CASES`].
    pub limit: u32,
}

/// A payment as an operator sees it: what the API shows, and what helps to find it elsewhere. It
/// never has a `redirect_url`: that address is meant for the customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Case {
    /// What the API shows.
    #[serde(flatten)]
    pub payment: Payment,
    /// Our reference of it at the provider.
    pub provider_reference: String,
    /// Its ids at the provider, the payment's own first.
    pub provider_objects: Vec<ProviderObject>,
    /// Seconds since it was asked for.
    pub age_seconds: u64,
    /// What the journal does next with it.
    pub step: &'static str,
    /// How often the present question was asked.
    pub attempts: u32,
    /// When something of the present step was last sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sent_at: Option<Timestamp>,
    /// When it is looked at next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_look_at: Option<Timestamp>,
    /// Until when a worker has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leased_until: Option<Timestamp>,
    /// How the last questions about it ended: about itself, its operations, its setup and its
    /// payment method.
    pub last_answers: Vec<LastAnswer>,
    /// What a person should do, one sentence each.
    pub to_do: Vec<String>,
    /// How what was parked of it was ended before.
    pub resolutions: Vec<Resolution>,
}

/// Something at the provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProviderObject {
    /// `payment`, `authorization`, `capture`, `void` or `refund`.
    pub kind: &'static str,
    /// The provider's id.
    pub id: String,
    /// Our operation that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
}

/// How something parked was ended: a line of the audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Resolution {
    /// The payment or operation.
    pub object: String,
    /// How the person wanted it to end.
    pub wanted: String,
    /// The state that it ended in.
    pub ended: String,
    /// `provider` if the provider's answer has ended it, else `person`.
    pub decided_by: String,
    /// What the provider said when it was asked.
    pub provider_said: String,
    /// Who.
    pub person: String,
    /// Why.
    pub note: String,
    /// When.
    pub at: Timestamp,
}

/// How something parked is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResolveAs {
    /// The money was taken: a payment or a capture.
    Captured,
    /// Nothing moved and nothing will: a payment or any operation.
    Failed,
    /// The hold was released, and nothing was taken: a payment or a void.
    Voided,
    /// The money was given back: a refund.
    Refunded,
}

impl ResolveAs {
    /// The word on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Captured => "captured",
            Self::Failed => "failed",
            Self::Voided => "voided",
            Self::Refunded => "refunded",
        }
    }

    const fn of_payment(self) -> Option<PaymentState> {
        match self {
            Self::Captured => Some(PaymentState::Captured),
            Self::Failed => Some(PaymentState::Failed),
            Self::Voided => Some(PaymentState::Voided),
            Self::Refunded => None,
        }
    }

    const fn of_operation(self, kind: OperationType) -> Option<OperationState> {
        match (self, kind) {
            (Self::Failed, _) => Some(OperationState::Failed),
            (Self::Captured, OperationType::Capture)
            | (Self::Voided, OperationType::Void)
            | (Self::Refunded, OperationType::Refund) => Some(OperationState::Succeeded),
            (Self::Captured | Self::Voided | Self::Refunded, _) => None,
        }
    }
}

/// End something parked: `payment resolve`.
#[derive(Debug, Clone)]
pub struct ResolveRequest {
    /// `pay_…`.
    pub payment: String,
    /// The parked operation of that payment; the payment itself if absent.
    pub operation: Option<String>,
    /// How it ends.
    pub end: ResolveAs,
    /// What the person has seen and where: 1 to 500 characters. Kept in plain text.
    pub note: String,
    /// Who says so: 1 to 64 characters.
    pub person: String,
}

/// How it has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Resolved {
    /// The payment as it stands.
    pub payment: Payment,
    /// The line of the audit.
    pub resolution: Resolution,
    /// Whether it has ended as the person wanted. If not, the provider's answer stands.
    pub as_wanted: bool,
}

/// What a read of a payment says.
enum Reading {
    /// The provider's present picture of it.
    Seen(Seen),
    /// The provider has concluded with a refusal.
    Declined(Decline),
    /// The provider does not know it.
    Absent,
    /// The provider is at work, or waits for somebody; what it shows as taken, in minor units.
    Undecided { captured: i64, customer: bool },
    /// Nothing could be read.
    Unread,
}

/// What a question about an operation says.
enum OperationReading {
    /// It is carried out; the provider's id and the amount, if told.
    Carried(Done),
    /// It is refused; why, as a row keeps it.
    Refused(String),
    /// The provider would show it, and does not.
    Absent,
    /// Nothing that decides it.
    Undecided,
    /// Nothing could be read.
    Unread,
}

/// Who has decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Provider,
    Person,
}

/// What was heard, in one word for the audit.
struct Heard<T> {
    said: String,
    reading: T,
}

impl Gateway {
    /// Payments with what a person needs to find them elsewhere, newest first.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidField`], [`Code::CardNumber`], [`Code::StoreUnavailable`].
    pub async fn cases(&self, query: &CaseQuery) -> Result<Page<Case>, Error> {
        let inner = &self.inner;
        let filter = inner.case_filter(query).await?;
        let mut rows = inner
            .journal
            .store()
            .payments(&filter)
            .await
            .map_err(stored)?;
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let mut data = Vec::with_capacity(rows.len());
        for row in &rows {
            data.push(inner.case_of(row).await?);
        }
        let next = rows.last().filter(|_| more).map(|row| row.id.clone());
        Ok(Page { data, next })
    }

    /// One payment, the same way.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`], [`Code::StoreUnavailable`].
    pub async fn case(&self, id: &str) -> Result<Case, Error> {
        let row = self.inner.payment_row(id).await?;
        self.inner.case_of(&row).await
    }

    /// Ends a parked payment or operation by a person's word, once the provider was asked again:
    /// what its answer concludes stands instead, and what it contradicts is refused. The state, the
    /// event, the key's final answer and the audit's line are one transaction.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidState`] if it is not parked, if the provider's answer contradicts the wanted
    /// end, or if a request may still be on its way; [`Code::InProgress`] while a worker has it;
    /// [`Code::InvalidField`] and [`Code::CardNumber`] for the texts and for an end that does not
    /// fit; [`Code::NotFound`], [`Code::StoreUnavailable`].
    pub async fn resolve(&self, request: &ResolveRequest) -> Result<Resolved, Error> {
        check::text_field("note", &request.note, MAX_NOTE_CHARS)?;
        check::text_field("person", &request.person, MAX_PERSON_CHARS)?;
        let inner = &self.inner;
        let actor = self.actor.named(&request.person);
        let object = AuditObject::handle(request.operation.as_ref().unwrap_or(&request.payment));
        let line = inner.audit(actor.clone(), AuditAction::PaymentResolve, object);
        let (inner, request) = (Arc::clone(&self.inner), request.clone());
        let resolved = on_a_task(async move {
            // By a clock that nobody has looked at, a request may still be on its way.
            inner.look_at_clock().await?;
            let payment = inner.payment_row(&request.payment).await?;
            match &request.operation {
                None => inner.resolve_payment(payment, &request, &actor).await,
                Some(id) => {
                    let row = inner.operation_of(&payment, id).await?;
                    inner
                        .resolve_operation(payment, row, &request, &actor)
                        .await
                }
            }
        });
        match resolved.await {
            Ok(resolved) => Ok(resolved),
            Err(error) => Err(line.refused(error).await),
        }
    }
}

// What a person sees.

impl Inner {
    async fn case_filter(&self, query: &CaseQuery) -> Result<PaymentFilter, Error> {
        if !(1..=MAX_CASES).contains(&query.limit) {
            return Err(Error::field(
                Code::InvalidField,
                "limit",
                format!("limit is 1 to {MAX_CASES}."),
            ));
        }
        let account = match &query.account {
            None => None,
            Some(account) => Some(self.pseudonym(&check::account("account", account)?)),
        };
        query
            .reference
            .as_deref()
            .map_or(Ok(()), check::reference)?;
        let before = match &query.after {
            None => None,
            Some(after) => {
                let row = self.payment_row(after).await.map_err(|error| {
                    let text = "after is the `next` of the page before.";
                    Error::field(Code::InvalidField, "after", text).with_source(error)
                })?;
                Some((row.created_at, row.id))
            }
        };
        Ok(PaymentFilter {
            account,
            state: query.status.map(state_of),
            reference: query.reference.clone(),
            before,
            limit: query.limit + 1,
        })
    }

    async fn case_of(&self, row: &PaymentRow) -> Result<Case, Error> {
        let store = self.journal.store();
        let operations = store.operations(&row.id).await.map_err(stored)?;
        let resolutions = store.resolutions(&row.id).await.map_err(stored)?;
        let account = self.account_id(&row.account).await?;
        let now = self.journal.now();
        let reference = reference_of(&row.id)?.to_string();
        let asked_about = [Some(&row.id), row.setup.as_ref(), row.method.as_ref()];
        let asked_about = asked_about.into_iter().flatten();
        let asked_about = asked_about.chain(operations.iter().map(|operation| &operation.id));
        let last_answers = self.last_answers(asked_about).await?;
        Ok(Case {
            payment: view::payment_view(row, account, &operations)?,
            provider_objects: provider_objects(row, &operations),
            age_seconds: now.since(row.created_at).as_secs(),
            step: row.step.as_str(),
            attempts: row.attempts,
            last_sent_at: row.last_sent_at,
            last_answers,
            next_look_at: row.next_at,
            leased_until: Some(row.lease_until).filter(|&until| until > now),
            to_do: to_do(row, &operations, &reference),
            provider_reference: reference,
            resolutions: resolutions.into_iter().map(resolution_view).collect(),
        })
    }

    async fn operation_of(&self, payment: &PaymentRow, id: &str) -> Result<OperationRow, Error> {
        let row = match Handle::parse(id) {
            Some(_) => self.journal.store().operation(id).await.map_err(stored)?,
            None => None,
        };
        row.filter(|row| row.payment == payment.id)
            .ok_or_else(|| Error::not_found("operation of this payment"))
    }
}

pub(super) fn provider_objects(
    row: &PaymentRow,
    operations: &[OperationRow],
) -> Vec<ProviderObject> {
    let own = [
        ("payment", &row.reservation),
        ("authorization", &row.authorization),
        ("capture", &row.capture_object),
    ];
    let own = own.into_iter().filter_map(|(kind, id)| {
        Some(ProviderObject {
            kind,
            id: id.clone()?,
            operation: None,
        })
    });
    let others = operations.iter().filter_map(|operation| {
        Some(ProviderObject {
            kind: operation.kind.as_str(),
            id: operation.object.clone()?,
            operation: Some(operation.id.clone()),
        })
    });
    own.chain(others).collect()
}

/// What a person should do about a payment; nothing if all is well.
fn to_do(row: &PaymentRow, operations: &[OperationRow], reference: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let whom = match &row.reservation {
        Some(id) => format!("the payment {id} (our reference there is {reference})"),
        None => format!(
            "our reference {reference}, or a payment of {} on {}, since its id there is not known",
            row.amount, row.created_at
        ),
    };
    if row.state == PaymentState::Parked {
        lines.push(format!(
            "Look at the provider for {whom}: was {} taken, is it held, or neither? Then run \
             `cardless payment resolve {} --as captured|failed|voided --note TEXT`.",
            row.amount, row.id
        ));
    }
    if state::is_contradicted(row) {
        lines.push(format!(
            "Money moved at the provider after the payment had ended as {}: look there for {whom}, \
             and give it back there if it was not meant.",
            row.state.as_str()
        ));
    }
    for operation in operations {
        if operation.state == OperationState::Parked {
            let done = match operation.kind {
                OperationType::Capture => "captured",
                OperationType::Void => "voided",
                OperationType::Refund => "refunded",
            };
            lines.push(format!(
                "Look at the provider for {whom}: was its {} of {} carried out? Then run `cardless \
                 payment resolve {} --operation {} --as {done}|failed --note TEXT`.",
                operation.kind.as_str(),
                operation.amount,
                row.id,
                operation.id
            ));
        }
    }
    lines
}

// How it ends.

impl Inner {
    async fn resolve_payment(
        self: &Arc<Self>,
        row: PaymentRow,
        request: &ResolveRequest,
        actor: &Actor,
    ) -> Result<Resolved, Error> {
        let wanted = request.end.of_payment().ok_or_else(|| unfit("a payment"))?;
        if row.state != PaymentState::Parked {
            let parked = self.parked_operations(&row.id).await?;
            return Err(not_parked("payment", row.state.as_str(), &parked));
        }
        let mut leased = self.lease_to_resolve(&row).await?;
        let decided = self.decide_payment(&mut leased, wanted).await;
        let (by, heard) = match decided {
            Ok(decided) => decided,
            Err(error) => return Err(self.let_go(&leased, row.next_at(), error).await),
        };
        if let Reading::Declined(decline) = &heard.reading
            && decline.method_gone
        {
            self.suspend_method(leased.method.as_deref()).await;
        }
        let holds = self.holds(&leased.provider)?;
        let reservation = leased.reservation.clone();
        let now = self.journal.now();
        let written = self
            .journal
            .change(&leased, |row| {
                row.reservation.clone_from(&reservation);
                end_payment(row, by, &heard.reading, wanted, holds, now);
                if by == By::Person && row.reservation.is_some() {
                    // Nothing was read that could speak against the person, and a webhook may have told
                    // of it meanwhile: it is looked at once more.
                    row.set_next_at(Some(now));
                }
                let mut batch = self.payment_concluded(row);
                let resolution = resolution(
                    (&row.account, &row.id, &row.id),
                    request,
                    row.state.as_str(),
                    by,
                    &heard.said,
                    now,
                );
                batch.extend(self.resolution_lines(resolution, actor));
                batch
            })
            .await;
        match written.map_err(stored)? {
            Written::Lost(row) => Err(driven(row.lease_until)),
            Written::Yes(row) => {
                tracing::warn!(payment = %row.id, state = row.state.as_str(), by = by.as_str(), "resolved");
                self.resolved(&row.id, row.state == wanted).await
            }
        }
    }

    /// Asks the provider and decides; the row learns the provider's id if it was missing.
    async fn decide_payment(
        &self,
        row: &mut PaymentRow,
        wanted: PaymentState,
    ) -> Result<(By, Heard<Reading>), Error> {
        let provider = self.provider(&row.provider)?;
        // What an answer proves, it proves of the moment of its question.
        let now = self.clock.certain(self.journal.now());
        let heard = self.hear_payment(provider.as_ref(), row).await?;
        let payable = page_moves_money(row, provider.capabilities()) && is_payable(&heard.reading);
        if payable && wanted != PaymentState::Captured {
            return Err(contradicted(
                "still lets the customer pay at its page; end it there first, then resolve again",
            ));
        }
        let quiet = quiet_payment(row, provider.as_ref());
        let holds = provider.capabilities().reserve_holds;
        let by = decide_payment(row, &heard.reading, wanted, holds, quiet, now)?;
        Ok((by, heard))
    }

    async fn hear_payment(
        &self,
        provider: &dyn PaymentProvider,
        row: &mut PaymentRow,
    ) -> Result<Heard<Reading>, Error> {
        if row.reservation.is_none() {
            let said = match provider.find(&reference_of(&row.id)?).await {
                Ok(Found::Yes(id)) => {
                    row.reservation = Some(id.as_str().to_owned());
                    None
                }
                Ok(Found::No) => Some(heard("not_found", Reading::Absent)),
                Ok(Found::CannotTell) => Some(heard("cannot_tell", Reading::Unread)),
                Err(error) => {
                    tracing::warn!(payment = %row.id, %error, "resolve");
                    Some(heard("no_answer", Reading::Unread))
                }
            };
            if let Some(heard) = said {
                return Ok(heard);
            }
        }
        let request = lookup_request(row)?;
        Ok(read_payment(&row.id, provider.lookup(&request).await))
    }

    async fn resolve_operation(
        self: &Arc<Self>,
        payment: PaymentRow,
        row: OperationRow,
        request: &ResolveRequest,
        actor: &Actor,
    ) -> Result<Resolved, Error> {
        let wanted = request
            .end
            .of_operation(row.kind)
            .ok_or_else(|| unfit(&format!("a {}", row.kind.as_str())))?;
        if row.state != OperationState::Parked {
            let parked = self.parked_operations(&payment.id).await?;
            return Err(not_parked("operation", row.state.as_str(), &parked));
        }
        let leased = self.lease_to_resolve(&row).await?;
        let decided = self.decide_operation(&payment, &leased, wanted).await;
        let (by, state, heard) = match decided {
            Ok(decided) => decided,
            Err(error) => return Err(self.let_go(&leased, row.next_at(), error).await),
        };
        let (object, failure) = match (&heard.reading, state) {
            (OperationReading::Carried(done), OperationState::Succeeded) => {
                (done.id.as_ref().map(|id| id.as_str().to_owned()), "")
            }
            (OperationReading::Refused(code), _) => (None, code.as_str()),
            (OperationReading::Absent, _) if by == By::Provider => (None, "not_carried_out"),
            (_, OperationState::Failed) => (None, RESOLVED),
            (_, _) => (None, ""),
        };
        let resolution = resolution(
            (&payment.account, &payment.id, &row.id),
            request,
            state.as_str(),
            by,
            &heard.said,
            self.journal.now(),
        );
        let lines = self.resolution_lines(resolution, actor).to_vec();
        let lease = leased.lease_until();
        let ended = Arc::clone(self)
            .operation_ended_with(leased, state, object, failure, lines)
            .await?;
        if ended.state != state || ended.lease_until() == lease {
            return Err(driven(ended.lease_until()));
        }
        tracing::warn!(operation = %ended.id, state = state.as_str(), by = by.as_str(), "resolved");
        self.resolved(&payment.id, state == wanted).await
    }

    async fn decide_operation(
        &self,
        payment: &PaymentRow,
        row: &OperationRow,
        wanted: OperationState,
    ) -> Result<(By, OperationState, Heard<OperationReading>), Error> {
        let provider = self.provider(&row.provider)?;
        // What an answer proves, it proves of the moment of its question.
        let now = self.clock.certain(self.journal.now());
        let heard = self.hear_operation(provider.as_ref(), payment, row).await?;
        let quiet = quiet_at(row.last_sent_at, provider.capabilities());
        let (by, state) = decide_operation(row, &heard.reading, wanted, quiet, now)?;
        Ok((by, state, heard))
    }

    async fn hear_operation(
        &self,
        provider: &dyn PaymentProvider,
        payment: &PaymentRow,
        row: &OperationRow,
    ) -> Result<Heard<OperationReading>, Error> {
        let key = key_of(&row.id, "o")?;
        let answer = provider.find_operation(&key, &lookup(row, payment)?).await;
        let rivals = self.has_rivals(row).await?;
        Ok(match answer {
            // A sum proves nothing about one of several operations.
            Ok(Found::Yes(Outcome::Done(done))) if done.id.is_none() && rivals => {
                heard("cannot_tell", OperationReading::Undecided)
            }
            Ok(Found::Yes(Outcome::Done(done))) => heard("done", OperationReading::Carried(done)),
            Ok(Found::Yes(Outcome::Declined(decline))) => {
                let code = format!("{DECLINED}{}", decline.provider_code);
                heard("declined", OperationReading::Refused(code))
            }
            Ok(Found::Yes(Outcome::Pending(_))) => heard("pending", OperationReading::Undecided),
            Ok(Found::Yes(Outcome::Review(_))) => heard("review", OperationReading::Undecided),
            Ok(Found::Yes(Outcome::ActionRequired(..))) => {
                heard("action_required", OperationReading::Undecided)
            }
            Ok(Found::Yes(Outcome::Unmapped(word))) => Heard {
                said: format!("unmapped {}", word.value),
                reading: OperationReading::Undecided,
            },
            Ok(Found::No) if !rivals => heard("not_found", OperationReading::Absent),
            Ok(Found::No | Found::CannotTell) => heard("cannot_tell", OperationReading::Undecided),
            Err(error) => {
                tracing::warn!(operation = %row.id, %error, "resolve");
                heard("no_answer", OperationReading::Unread)
            }
        })
    }

    /// What is kept of it beside the object itself, and its line in the audit log.
    fn resolution_lines(&self, row: ResolutionRow, actor: &Actor) -> [Change; 2] {
        let object = AuditObject::handle(&row.object);
        let line = self
            .audit(actor.clone(), AuditAction::PaymentResolve, object)
            .detail("wanted", &row.wanted)
            .detail("ended", &row.ended)
            .detail("decided_by", &row.decided_by)
            .change();
        [Change::InsertResolution(row), line]
    }

    async fn lease_to_resolve<T: Leased>(&self, row: &T) -> Result<T, Error> {
        let leased = self.lease(row).await.map_err(stored)?;
        leased.ok_or_else(|| driven(row.lease_until()))
    }

    /// Gives the lease back after a refusal, and the look that was due before it. What fails at that
    /// ends with the lease.
    async fn let_go<T: Leased + Reload>(
        &self,
        leased: &T,
        due: Option<Timestamp>,
        refusal: Error,
    ) -> Error {
        let written = self.journal.change(leased, |row| {
            release_row(row, due);
            Vec::new()
        });
        if let Err(error) = written.await {
            tracing::warn!(object = leased.id(), error = %Causes(&error), "the lease was not given back");
        }
        refusal
    }

    async fn parked_operations(&self, payment: &str) -> Result<Vec<String>, Error> {
        let operations = self.journal.store().operations(payment).await;
        let parked = operations
            .map_err(stored)?
            .into_iter()
            .filter(|row| row.state == OperationState::Parked);
        Ok(parked.map(|row| row.id).collect())
    }

    async fn resolved(&self, payment: &str, as_wanted: bool) -> Result<Resolved, Error> {
        let case = self.case_of(&self.payment_row(payment).await?).await?;
        let resolution = case.resolutions.into_iter().next_back();
        Ok(Resolved {
            payment: case.payment,
            resolution: resolution.ok_or_else(|| Error::not_found("resolution"))?,
            as_wanted,
        })
    }

    fn holds(&self, provider: &str) -> Result<bool, Error> {
        Ok(self.provider(provider)?.capabilities().reserve_holds)
    }
}

/// Why something failed that a person has ended so.
pub(super) const RESOLVED: &str = "resolved";

impl By {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Person => "person",
        }
    }
}

/// What a look-up is asked with.
pub(super) fn lookup_request(row: &PaymentRow) -> Result<LookupRequest, Error> {
    Ok(LookupRequest {
        reservation: reservation_of(row)?,
        reference: reference_of(&row.id)?,
        amount: row.amount,
    })
}

fn read_payment(id: &str, answer: cardless_contract::Result<Outcome<Seen>>) -> Heard<Reading> {
    let undecided = |said: &str, seen: &Seen, customer| {
        let captured = seen.captured.minor();
        heard(said, Reading::Undecided { captured, customer })
    };
    match answer {
        Ok(Outcome::Done(seen)) => heard(phase_word(seen.phase), Reading::Seen(seen)),
        Ok(Outcome::Pending(seen)) => undecided("pending", &seen, false),
        Ok(Outcome::Review(seen)) => undecided("review", &seen, false),
        Ok(Outcome::ActionRequired(seen, _)) => undecided("action_required", &seen, true),
        Ok(Outcome::Declined(decline)) => heard("declined", Reading::Declined(decline)),
        Ok(Outcome::Unmapped(word)) => Heard {
            said: format!("unmapped {}", word.value),
            reading: Reading::Undecided {
                captured: 0,
                customer: false,
            },
        },
        Err(error) if error.kind() == ErrorKind::NotFound => heard("not_found", Reading::Absent),
        Err(error) => {
            tracing::warn!(payment = id, %error, "resolve");
            heard("no_answer", Reading::Unread)
        }
    }
}

/// Whether the provider's answer or the person's word ends the payment; refuses what the answer
/// contradicts. `quiet` is from when nothing of ours or the customer's can be on its way.
fn decide_payment(
    row: &PaymentRow,
    reading: &Reading,
    wanted: PaymentState,
    holds: bool,
    quiet: Option<Timestamp>,
    now: Timestamp,
) -> Result<By, Error> {
    let taken = wanted == PaymentState::Captured;
    let unless_on_its_way = || match quiet.filter(|&at| at > now && !taken) {
        Some(at) => Err(too_early(at)),
        None => Ok(By::Person),
    };
    match reading {
        Reading::Seen(seen) => {
            let mut trial = row.clone();
            if state::conclude(&mut trial, seen, holds, now) == Next::Settled {
                return Ok(By::Provider);
            }
            match seen.phase {
                PaymentPhase::Reserved if taken => {
                    Err(contradicted("shows that nothing was taken"))
                }
                PaymentPhase::Reserved if seen.captured.is_zero() => unless_on_its_way(),
                PaymentPhase::Reserved => Err(contradicted("shows that money was taken")),
                PaymentPhase::Authorized
                | PaymentPhase::Captured
                | PaymentPhase::Voided
                | PaymentPhase::Expired => Err(contradicted(
                    "holds the amount and has not taken it; take or release it there, then resolve again",
                )),
            }
        }
        Reading::Declined(_) => Ok(By::Provider),
        Reading::Absent if taken => Err(contradicted("does not know the payment")),
        Reading::Undecided { captured, .. } if *captured > 0 && !taken => {
            Err(contradicted("shows that money was taken"))
        }
        Reading::Undecided { customer: true, .. } if taken => {
            Err(contradicted("still waits for the customer"))
        }
        Reading::Absent | Reading::Undecided { .. } | Reading::Unread => unless_on_its_way(),
    }
}

fn end_payment(
    row: &mut PaymentRow,
    by: By,
    reading: &Reading,
    wanted: PaymentState,
    holds: bool,
    now: Timestamp,
) {
    match (by, reading) {
        (By::Provider, Reading::Seen(seen)) => {
            state::conclude(row, seen, holds, now);
        }
        (By::Provider, Reading::Declined(_)) if row.step == Step::Closing => {
            state::end_without_money(row, PaymentPhase::Voided, now);
        }
        (By::Provider, Reading::Declined(decline)) => state::decline(row, decline, now),
        (By::Provider | By::Person, _) => state::resolve(row, wanted, RESOLVED, now),
    }
}

fn decide_operation(
    row: &OperationRow,
    reading: &OperationReading,
    wanted: OperationState,
    quiet: Timestamp,
    now: Timestamp,
) -> Result<(By, OperationState), Error> {
    let failed = wanted == OperationState::Failed;
    match reading {
        OperationReading::Carried(done) => {
            let differs = row.kind != OperationType::Void
                && done.amount.is_some_and(|amount| amount != row.amount);
            if differs {
                return Err(contradicted("moved another amount than was asked"));
            }
            Ok((By::Provider, OperationState::Succeeded))
        }
        OperationReading::Refused(_) => Ok((By::Provider, OperationState::Failed)),
        // What the provider has shown once is not proven never to have been by its absence.
        OperationReading::Absent if row.object.is_none() => {
            if now < quiet {
                return Err(too_early(quiet));
            }
            Ok((By::Provider, OperationState::Failed))
        }
        OperationReading::Absent | OperationReading::Undecided | OperationReading::Unread => {
            if failed && now < quiet {
                return Err(too_early(quiet));
            }
            Ok((By::Person, wanted))
        }
    }
}

/// Whether the customer's page stands open at the provider.
fn is_payable(reading: &Reading) -> bool {
    match reading {
        Reading::Seen(seen) => seen.phase == PaymentPhase::Reserved && seen.captured.is_zero(),
        Reading::Undecided { customer, .. } => *customer,
        Reading::Declined(_) | Reading::Absent | Reading::Unread => false,
    }
}

/// From when nothing can be on its way: what we sent has arrived or never will, and the customer has
/// had the time that the provider's page is expected to take.
fn quiet_payment(row: &PaymentRow, provider: &dyn PaymentProvider) -> Option<Timestamp> {
    let capabilities = provider.capabilities();
    let sent = row.last_sent_at.map(|at| quiet_at(at, capabilities));
    let customer = page_moves_money(row, capabilities).then(|| {
        row.accepted_at
            .plus(capabilities.customer_window)
            .plus(capabilities.longest_delay)
    });
    sent.max(customer)
}

fn resolution(
    (account, payment, object): (&str, &str, &str),
    request: &ResolveRequest,
    ended: &str,
    by: By,
    said: &str,
    at: Timestamp,
) -> ResolutionRow {
    ResolutionRow {
        account: account.to_owned(),
        payment: payment.to_owned(),
        object: object.to_owned(),
        wanted: request.end.as_str().to_owned(),
        ended: ended.to_owned(),
        decided_by: by.as_str().to_owned(),
        provider_said: said.to_owned(),
        person: request.person.clone(),
        note: request.note.clone(),
        at,
    }
}

pub(super) fn resolution_view(row: ResolutionRow) -> Resolution {
    Resolution {
        object: row.object,
        wanted: row.wanted,
        ended: row.ended,
        decided_by: row.decided_by,
        provider_said: row.provider_said,
        person: row.person,
        note: row.note,
        at: row.at,
    }
}

fn heard<T>(said: &str, reading: T) -> Heard<T> {
    Heard {
        said: said.to_owned(),
        reading,
    }
}

/// A phase in one word.
pub(super) const fn phase_word(phase: PaymentPhase) -> &'static str {
    match phase {
        PaymentPhase::Reserved => "reserved",
        PaymentPhase::Authorized => "authorized",
        PaymentPhase::Captured => "captured",
        PaymentPhase::Voided => "voided",
        PaymentPhase::Expired => "expired",
    }
}

fn state_of(status: PaymentStatus) -> PaymentState {
    match status {
        PaymentStatus::ActionRequired => PaymentState::ActionRequired,
        PaymentStatus::Pending => PaymentState::Pending,
        PaymentStatus::Unknown => PaymentState::Unknown,
        PaymentStatus::Authorized => PaymentState::Authorized,
        PaymentStatus::Captured => PaymentState::Captured,
        PaymentStatus::Declined => PaymentState::Declined,
        PaymentStatus::Failed => PaymentState::Failed,
        PaymentStatus::Voided => PaymentState::Voided,
        PaymentStatus::Parked => PaymentState::Parked,
    }
}

fn not_parked(what: &str, state: &str, parked: &[String]) -> Error {
    let hint = match parked.first() {
        Some(id) => format!(" Its operation {id} is parked; name that one."),
        None => String::new(),
    };
    Error::new(
        Code::InvalidState,
        format!("The {what} is {state}; only what is parked is ended by a person.{hint}"),
    )
}

fn contradicted(says: &str) -> Error {
    Error::new(
        Code::InvalidState,
        format!("Nothing was changed: asked just now, the provider {says}."),
    )
}

fn too_early(at: Timestamp) -> Error {
    Error::new(
        Code::InvalidState,
        format!(
            "Nothing was changed: a request may still be on its way. Look there again after {at}, then resolve."
        ),
    )
}

fn driven(until: Timestamp) -> Error {
    Error::new(
        Code::InProgress,
        format!("Another worker drives it, until {until} at the latest. Try again then."),
    )
}

fn unfit(what: &str) -> Error {
    Error::field(
        Code::InvalidField,
        "as",
        format!(
            "{what} can't end so: a payment ends as captured, failed or voided; a capture as \
             captured, a void as voided, a refund as refunded, and each of them as failed."
        ),
    )
}
