//! The audit log: who did what, when, to what, from where, and with what outcome.
//!
//! A verb that is to be audited adds its line to the batch that makes it true:
//!
//! ```ignore
//! let done = self.audit(AuditAction::ClientRevoke, &AuditObject::client(name));
//! self.inner.journal.write(vec![revoke, done.change()]).await?;
//! ```
//!
//! What has no batch of its own is told by `.write().await`. A gateway knows who acts by
//! [`Gateway::acting_as`]. Payments, captures and refunds have no lines here: the journal and the
//! events tell of them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use cardless_contract::Timestamp;
use serde::Serialize;

use super::clients::Role;
use super::{Gateway, Inner, check, stored};
use crate::account::{AccountId, Handle};
use crate::error::{Causes, Code, Error, Whose};
use crate::journal::audit::{AuditAnchor, AuditReport, anchor_of};
use crate::journal::is_event_id;
use crate::letters::letters;
use crate::message::Page;
use crate::store::{AuditFilter, AuditRow, AuditText, Change};
use crate::vault::HashPurpose;

/// The most lines that one page of [`Gateway::audit_lines`] has.
pub const MAX_AUDIT_LINES: u32 = 500;

/// How many lines are read at once on a walk.
const WALK_LINES: u32 = 2000;

/// The longest name of who acts, and the longest word of a detail, in characters.
pub(crate) const MAX_WORD_CHARS: usize = 64;

/// The most details of one line.
const MAX_DETAILS: usize = 12;

/// How many letters an account is called by in the log.
const ACCOUNT_LETTERS: usize = 32;

/// How many letters an API key is called by in the log, each of half a byte: enough that no two keys
/// are called alike.
const TAG_LETTERS: usize = 16;

/// What the bytes of a signed report begin with, so that its MAC is none of the log's own.
const EVIDENCE: &[u8] = b"cardless scope report 1\0";

/// What stands for a name that may not be kept.
const UNNAMED: &str = "unnamed";

/// Who acts, as what, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    name: String,
    role: &'static str,
    origin: Origin,
}

/// From where somebody acts: a class of places. An address of one person's machine is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// The command line of the machine.
    CommandLine,
    /// HTTP from the same machine.
    HttpLoopback,
    /// HTTP from a private network.
    HttpPrivate,
    /// HTTP from elsewhere.
    HttpPublic,
    /// HTTP; from where is not known.
    Http,
    /// This process by itself, or the program that links the library.
    Process,
}

macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)?) => {
        /// What is audited: a closed list of words.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum AuditAction { $($(#[$doc])* $variant),+ }

        impl AuditAction {
            /// Every action.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word in the log.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}

actions!(
    /// A client was added.
    ClientAdd = "client.add",
    /// A client is let in no longer.
    ClientRevoke = "client.revoke",
    /// A client got a new API key.
    ClientRenew = "client.renew",
    /// A client's public key was added.
    ClientKeyAdd = "client.key.add",
    /// A client's public key was revoked.
    ClientKeyRevoke = "client.key.revoke",
    /// A new generation of the key-encryption key.
    RotateKeysBegin = "rotate.keys.begin",
    /// Every record is sealed under the new generation.
    RotateKeysEnd = "rotate.keys.end",
    /// The keys were written, to their own place or to where somebody said.
    RotateKeysWrite = "rotate.keys.write",
    /// A generation was destroyed.
    RotateKeysDestroy = "rotate.keys.destroy",
    /// Handles are issued anew.
    RotateHandlesBegin = "rotate.handles.begin",
    /// Every handle was issued anew.
    RotateHandlesEnd = "rotate.handles.end",
    /// Somebody saw what is kept of an account.
    AccountShow = "account.show",
    /// Somebody got everything that is kept of an account.
    AccountExport = "account.export",
    /// An account can't be charged any more.
    AccountRestrict = "account.restrict",
    /// An account can be charged again.
    AccountUnrestrict = "account.unrestrict",
    /// An account's erasure was asked for.
    AccountErase = "account.erase",
    /// A person waits no longer for a provider to confirm what is being revoked for an erasure.
    AccountUnconfirmed = "account.erase.unconfirmed",
    /// An account was erased.
    AccountErased = "account.erased",
    /// A person ended something parked.
    PaymentResolve = "payment.resolve",
    /// A person has an event sent again that was given up.
    EventRetry = "event.retry",
    /// A person took an event off the list of those that were given up.
    EventDismiss = "event.dismiss",
    /// Provider tokens came in.
    Import = "import",
    /// Provider tokens went out.
    Export = "export",
    /// The settings were read again.
    SettingsReload = "settings.reload",
    /// The machine's clock has jumped.
    ClockStep = "clock.step",
    /// The service began.
    ServiceStart = "service.start",
    /// The service ended.
    ServiceStop = "service.stop",
    /// Calls without a live API key, counted.
    LoginRefused = "login.refused",
    /// Calls that the client's role does not allow, counted.
    CallRefused = "call.refused",
    /// The evidence was read.
    ScopeRead = "scope.read",
    /// A host was asked for a handshake, for the evidence of the PCI review.
    ScopeProbe = "scope.probe",
    /// A card number was planted at every door, to see what becomes of it.
    ScopeDrill = "scope.drill",
    /// This log was listed.
    AuditList = "audit.list",
    /// This log was checked.
    AuditVerify = "audit.verify",
);

/// How what was audited came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditOutcome {
    /// It is done.
    Done,
    /// It is begun and goes on by itself.
    Accepted,
    /// It was refused; nothing was changed.
    Refused,
    /// It did not work.
    Failed,
}

/// What something was done to: a name that tells nothing about a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditObject(String);

/// A line that is being written. Does nothing until it is in a batch (`change`) or
/// written ([`AuditDraft::write`]).
#[must_use = "a line is kept once it is in a batch or written"]
pub struct AuditDraft<'a> {
    inner: &'a Inner,
    actor: Actor,
    action: AuditAction,
    object: AuditObject,
    outcome: AuditOutcome,
    details: BTreeMap<&'static str, String>,
}

/// A line as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditLine {
    /// Its number.
    pub line: i64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// As what.
    pub role: String,
    /// From where.
    pub origin: String,
    /// What.
    pub action: String,
    /// To what.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub object: String,
    /// With what outcome.
    pub outcome: String,
    /// More, in short words.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

/// Which lines to list.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// Of this action.
    pub action: Option<String>,
    /// About this object: a handle, a client's name.
    pub object: Option<String>,
    /// About this account, by the caller's id.
    pub account: Option<String>,
    /// Older than this line: the `next` of the page before.
    pub before: Option<i64>,
    /// How many at most, 1 to [`MAX_AUDIT_LINES`].
    pub limit: u32,
}

/// What somebody acts as who is no client.
const COMMAND_LINE: &str = "command_line";
const PROGRAM: &str = "program";
const SYSTEM: &str = "system";
const UNKNOWN: &str = "unknown";

impl Actor {
    /// What somebody acts as who is no client, in the words of the log; a client acts as its [`Role`].
    pub const ROLES: [&str; 4] = [COMMAND_LINE, PROGRAM, SYSTEM, UNKNOWN];

    /// A client of the service.
    pub fn client(name: &str, role: Role, origin: Origin) -> Self {
        Self {
            name: kept(name),
            role: role.as_str(),
            origin,
        }
    }

    /// Whoever runs the command line, by the login or by what was said: a statement, not a proof.
    pub fn command_line(name: &str) -> Self {
        Self {
            name: kept(name),
            role: COMMAND_LINE,
            origin: Origin::CommandLine,
        }
    }

    /// The program that links the library.
    pub fn program() -> Self {
        Self {
            name: "program".to_owned(),
            role: PROGRAM,
            origin: Origin::Process,
        }
    }

    /// Nobody: what goes on by itself.
    pub fn system() -> Self {
        Self {
            name: "system".to_owned(),
            role: SYSTEM,
            origin: Origin::Process,
        }
    }

    /// Somebody whom nobody knows.
    pub fn unknown(origin: Origin) -> Self {
        Self {
            name: "unknown".to_owned(),
            role: UNKNOWN,
            origin,
        }
    }

    /// The same under another name, as a person gives it.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        Self {
            name: kept(name),
            ..self.clone()
        }
    }
}

impl Origin {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::CommandLine,
        Self::HttpLoopback,
        Self::HttpPrivate,
        Self::HttpPublic,
        Self::Http,
        Self::Process,
    ];

    /// The class of an address that a call came from.
    pub fn of_peer(peer: IpAddr) -> Self {
        let private = match peer.to_canonical() {
            IpAddr::V4(address) => address.is_private() || address.is_link_local(),
            IpAddr::V6(address) => address.is_unique_local() || address.is_unicast_link_local(),
        };
        if peer.to_canonical().is_loopback() {
            Self::HttpLoopback
        } else if private {
            Self::HttpPrivate
        } else {
            Self::HttpPublic
        }
    }

    /// The word in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CommandLine => "command_line",
            Self::HttpLoopback => "http_loopback",
            Self::HttpPrivate => "http_private",
            Self::HttpPublic => "http_public",
            Self::Http => "http",
            Self::Process => "process",
        }
    }
}

impl AuditOutcome {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Done, Self::Accepted, Self::Refused, Self::Failed];

    /// The word in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl AuditObject {
    /// Nothing in particular.
    pub const fn none() -> Self {
        Self(String::new())
    }

    /// One of our objects by its handle; anything that is no handle is not kept.
    pub fn handle(id: &str) -> Self {
        Handle::parse(id).map_or_else(Self::none, |handle| Self(handle.to_string()))
    }

    /// An event, by its id; anything that is no id of one is not kept.
    pub fn event(id: &str) -> Self {
        if is_event_id(id) {
            Self(id.to_owned())
        } else {
            Self::none()
        }
    }

    /// A client of the service, by its name.
    pub fn client(name: &str) -> Self {
        Self(kept(name))
    }

    /// A generation of the key-encryption key, by its id.
    pub fn generation(id: &str) -> Self {
        Self(kept(id))
    }

    /// An erasure, by its receipt.
    pub fn receipt(id: &str) -> Self {
        Self(kept(id))
    }

    /// A provider, by its name.
    pub fn provider(name: &str) -> Self {
        Self(kept(name))
    }
}

impl AuditDraft<'_> {
    /// How it came out; `Done` unless somebody says otherwise.
    pub fn outcome(mut self, outcome: AuditOutcome) -> Self {
        self.outcome = outcome;
        self
    }

    /// Adds a short word, as a count or a role. Never an account id, a token or free text: what is
    /// too long or passes for a card number is not kept.
    pub fn detail(mut self, name: &'static str, word: impl ToString) -> Self {
        if self.details.len() < MAX_DETAILS {
            self.details.insert(name, kept(&word.to_string()));
        }
        self
    }

    /// Refused or failed, and why.
    pub fn failed(self, error: &Error) -> Self {
        let outcome = match error.code().whose() {
            Whose::Caller | Whose::Sender => AuditOutcome::Refused,
            Whose::Provider | Whose::Ours => AuditOutcome::Failed,
        };
        self.outcome(outcome).detail("code", error.code().as_str())
    }

    /// The line, for the batch that makes it true.
    pub(crate) fn change(self) -> Change {
        let details = serde_json::to_string(&self.details).unwrap_or_default();
        self.inner.journal.audit(AuditText {
            at: self.inner.journal.now(),
            actor: self.actor.name,
            role: self.actor.role.to_owned(),
            origin: self.actor.origin.as_str().to_owned(),
            action: self.action.as_str().to_owned(),
            object: self.object.0,
            outcome: self.outcome.as_str().to_owned(),
            details,
        })
    }

    /// Writes the line by itself.
    ///
    /// # Errors
    ///
    /// [`Code::StoreUnavailable`].
    pub async fn write(self) -> Result<(), Error> {
        let inner = self.inner;
        let change = self.change();
        inner.journal.write(vec![change]).await.map_err(stored)
    }

    /// Writes that it was refused, and gives the refusal back. A line that can't be written is an
    /// error in the process's log: the refusal stands anyway.
    pub async fn refused(self, error: Error) -> Error {
        let action = self.action.as_str();
        if let Err(failure) = self.failed(&error).write().await {
            tracing::error!(action, error = %Causes(&failure), "a refusal was not audited");
        }
        error
    }
}

impl fmt::Debug for AuditDraft<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuditDraft({})", self.action.as_str())
    }
}

impl Gateway {
    /// The same gateway, for somebody: every line of the audit log that is written through it names
    /// them.
    #[must_use]
    pub fn acting_as(&self, actor: Actor) -> Self {
        Self {
            inner: self.inner.clone(),
            actor: actor.into(),
        }
    }

    /// Begins a line of the audit log: whoever this gateway acts for did this to that.
    pub fn audit(&self, action: AuditAction, object: AuditObject) -> AuditDraft<'_> {
        self.inner
            .audit(self.actor.as_ref().clone(), action, object)
    }

    /// Lines of the audit log, the latest first.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidField`], [`Code::StoreUnavailable`].
    pub async fn audit_lines(&self, query: &AuditQuery) -> Result<Page<AuditLine>, Error> {
        if !(1..=MAX_AUDIT_LINES).contains(&query.limit) {
            return Err(Error::field(
                Code::InvalidField,
                "limit",
                format!("limit is 1 to {MAX_AUDIT_LINES}."),
            ));
        }
        let object = match (&query.account, &query.object) {
            (None, object) => object.clone(),
            (Some(account), _) => {
                let account = check::account("account", account)?;
                Some(self.inner.audit_name(&account).0)
            }
        };
        let filter = AuditFilter {
            before: query.before,
            action: query.action.clone(),
            object,
            limit: query.limit + 1,
        };
        let store = self.inner.journal.store();
        let mut rows = store.audit_before(&filter).await.map_err(stored)?;
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more);
        let next = next.map(|row| row.sequence.to_string());
        let data = rows.into_iter().map(line_view).collect();
        Ok(Page { data, next })
    }

    /// Every line of an action, the latest first.
    pub(crate) async fn all_audit_lines(
        &self,
        action: AuditAction,
    ) -> Result<Vec<AuditLine>, Error> {
        let mut query = AuditQuery {
            action: Some(action.as_str().to_owned()),
            limit: MAX_AUDIT_LINES,
            ..AuditQuery::default()
        };
        let mut lines = Vec::new();
        loop {
            let page = self.audit_lines(&query).await?;
            lines.extend(page.data);
            if page.next.is_none() {
                return Ok(lines);
            }
            query.before = lines.last().map(|line| line.line);
        }
    }

    /// Shows every line, from the first on.
    pub(crate) async fn walk_audit(&self, mut look: impl FnMut(AuditLine)) -> Result<(), Error> {
        let store = self.inner.journal.store();
        let mut after = i64::MIN;
        loop {
            let rows = store.audit_after(after, WALK_LINES).await.map_err(stored)?;
            let Some(last) = rows.last() else {
                return Ok(());
            };
            after = last.sequence;
            rows.into_iter().map(line_view).for_each(&mut look);
        }
    }

    /// Checks the whole audit log, and that it still has the line that was noted, if one is given.
    /// `progress` hears how many lines it has seen.
    ///
    /// # Errors
    ///
    /// [`Code::StoreUnavailable`]. What is wrong with the log is in the report.
    pub async fn verify_audit(
        &self,
        noted: Option<AuditAnchor>,
        progress: impl FnMut(u64) + Send,
    ) -> Result<AuditReport, Error> {
        let journal = &self.inner.journal;
        journal.check_audit(noted, progress).await.map_err(stored)
    }

    /// Number and MAC of the audit log's last line, as `COUNT:MAC`; `None` before the first. The head
    /// says so; whether it holds is [`Gateway::verify_audit`]'s to say.
    ///
    /// # Errors
    ///
    /// [`Code::StoreUnavailable`].
    pub async fn audit_head(&self) -> Result<Option<String>, Error> {
        let head = self.inner.journal.store().audit_head().await;
        let head = head.map_err(stored)?;
        Ok(head.map(|head| anchor_of(head.count, &head.last).to_string()))
    }

    /// The MAC of a report of evidence, under the audit key.
    pub(crate) fn evidence_mac(&self, report: &[u8]) -> [u8; 32] {
        let bytes = [EVIDENCE, report].concat();
        self.inner.vault.keyed_hash(HashPurpose::Audit, &bytes)
    }

    /// Whether a MAC is that of a report of evidence.
    pub(crate) fn is_evidence_mac(&self, report: &[u8], mac: &[u8]) -> bool {
        let bytes = [EVIDENCE, report].concat();
        self.inner
            .vault
            .verify_hash(HashPurpose::Audit, &bytes, mac)
    }

    /// How many lines the audit log says that it has.
    ///
    /// # Errors
    ///
    /// [`Code::StoreUnavailable`].
    pub async fn count_audit_lines(&self) -> Result<u64, Error> {
        let head = self.inner.journal.store().audit_head().await;
        let count = head.map_err(stored)?.map_or(0, |head| head.count);
        Ok(u64::try_from(count).unwrap_or(0))
    }
}

impl Inner {
    pub(super) fn audit(
        &self,
        actor: Actor,
        action: AuditAction,
        object: AuditObject,
    ) -> AuditDraft<'_> {
        AuditDraft {
            inner: self,
            actor,
            action,
            object,
            outcome: AuditOutcome::Done,
            details: BTreeMap::new(),
        }
    }

    /// What an API key is called in the audit log: a keyed hash of the hash that is stored of it, so that
    /// whoever reads the one finds nothing by it in the other.
    pub(super) fn api_key_tag(&self, key_hash: &[u8]) -> String {
        self.audit_tag(b"api key\0", key_hash, TAG_LETTERS)
    }

    /// What a public key is called in the audit log: its `kid`, or what stands for one that is too long
    /// for a detail.
    pub(super) fn kid_word(&self, kid: &str) -> String {
        if kid.len() <= MAX_WORD_CHARS {
            return kid.to_owned();
        }
        self.audit_tag(b"kid\0", kid.as_bytes(), MAX_WORD_CHARS)
    }

    /// What stands in the audit log for something of a kind: the first letters of a keyed hash, each of
    /// half a byte.
    fn audit_tag(&self, kind: &[u8], of: &[u8], count: usize) -> String {
        let bytes = [kind, of].concat();
        let mut tag = letters(&self.vault.keyed_hash(HashPurpose::Audit, &bytes));
        tag.truncate(count);
        tag
    }

    /// What an account is called in the audit log. It is not its pseudonym: once the account is
    /// erased, no key leads from these lines to what the books keep.
    pub(super) fn audit_name(&self, account: &AccountId) -> AuditObject {
        let name = self.audit_tag(b"account\0", account.as_str().as_bytes(), ACCOUNT_LETTERS);
        AuditObject(format!("account_{name}"))
    }
}

impl AuditLine {
    /// One of its details; empty if it has none of that name.
    pub fn detail(&self, name: &str) -> &str {
        self.details.get(name).map_or("", String::as_str)
    }
}

fn line_view(row: AuditRow) -> AuditLine {
    let said = row.said;
    AuditLine {
        line: row.sequence,
        at: said.at,
        actor: said.actor,
        role: said.role,
        origin: said.origin,
        action: said.action,
        object: said.object,
        outcome: said.outcome,
        // What can't be read was not written by us; `audit verify` says so.
        details: serde_json::from_str(&said.details).unwrap_or_default(),
    }
}

/// A word as it may be kept.
fn kept(word: &str) -> String {
    match check::text_field("word", word, MAX_WORD_CHARS) {
        Ok(()) => word.to_owned(),
        Err(_) => UNNAMED.to_owned(),
    }
}
