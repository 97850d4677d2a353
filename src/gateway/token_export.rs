//! Export of provider tokens: a file that only its recipient can open, written while payments go on.
//!
//! It holds what could be charged when it was begun: methods that are active, of accounts that are
//! not restricted. What is left out is counted by its reason:
//!
//! - a restricted account: to hand its token to somebody is more than to keep it, and nobody may do
//!   more than keep it (GDPR, article 18). A person lifts the restriction first, or asks there.
//! - a suspended method: its provider says that the token is dead.
//! - a provider that is not set up here: nobody knows what kind of token it is.
//!
//! A method that is revoked while the file is written may still be in it. Nothing of a card is: the
//! expiry dates that Aduno has are at Aduno.
//!
//! Who is interrupted goes on ([`Gateway::resume_export`]) from the mark behind the last line, which
//! says how far the file is, and is signed: nobody can make it leave something out. It goes on only
//! while all that is in it may still be handed out: after an erasure, a restriction or a revocation of
//! something in it, it begins anew.

use std::fmt;
use std::io::BufRead;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cardless_contract::Timestamp;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::audit::{AuditAction, AuditDraft, AuditObject, AuditOutcome};
use super::{Gateway, check, stored, view};
use crate::account::{Handle, HandleKind};
use crate::error::{Code, Error};
use crate::exchange::transfer::{
    Header, MAX_RECORDS, MAX_RECORDS_PER_LINE, Record, Resumed, Writer,
};
use crate::exchange::{PublicKey, SealError, SecretKey};
use crate::store::{MethodState, TokenRow};

/// Random bytes in a file's name.
const ID_BYTES: usize = 10;

/// How many methods are read at once.
const PAGE: u32 = 100;

/// How long after its beginning an interrupted file goes on: what was linked since is not in it.
pub const RESUMED_WITHIN: Duration = Duration::from_secs(24 * 60 * 60);

/// Which part of the tokens goes into a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportPart {
    /// Begin behind this place: the [`ExportReport::more`] of the file before.
    pub after: Option<String>,
    /// How many records at most, 1 to [`MAX_RECORDS`].
    pub limit: u64,
}

/// An export on its way: [`TokenExport::next`] gives the file's lines in order.
pub struct TokenExport {
    gateway: Gateway,
    writer: Writer,
    place: Place,
    /// What is left out, and where the next file begins, is put in at the end.
    report: ExportReport,
}

/// How far an export is: what its mark says beside the lines.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    /// In milliseconds since 1970.
    begun_at: i64,
    /// What was linked later was not here when it was begun; in milliseconds since 1970.
    linked_by: i64,
    /// Where it began.
    from: Option<String>,
    limit: u64,
    after: String,
    seen: u64,
    /// The last step of the clock that was known when it was begun.
    clock_step: i64,
    /// What [`chained`] makes of every method so far that could be handed out.
    due: String,
    left_out: LeftOut,
    more: Option<String>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stage {
    Head,
    Records,
    End,
    Over,
}

/// What a file holds, and what is not in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportReport {
    /// What the file is called within.
    pub export: String,
    /// The thumbprint of the key that it is sealed to.
    pub recipient: String,
    /// The `kid` of the key that has signed it: one of those that `--print-keys` shows.
    pub sender_kid: String,
    /// How many tokens it holds.
    pub records: u64,
    /// What was left out, by reason.
    pub left_out: LeftOut,
    /// Where the next file begins, if there was more than this one may hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub more: Option<String>,
    /// The file's base64url SHA-256, once it is whole.
    pub sha256: String,
    /// When it was begun: what it holds is what could be charged then.
    pub begun_at: Timestamp,
    /// Whether methods were linked since, which it does not hold; or may have been, where a clock was ahead
    /// or was set.
    pub linked_since: bool,
}

/// What an export has left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    /// Methods of restricted accounts, and of those that are being erased.
    pub restricted: u64,
    /// Methods that their provider calls unusable.
    pub suspended: u64,
    /// Methods at a provider that is not set up here.
    pub provider_not_set_up: u64,
    /// Records that do not open with the keys of this installation.
    pub unopened: u64,
}

impl ExportPart {
    /// Refuses a part that is none, and a key that nothing can be sealed to, before anything is begun.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidField`]; [`Code::CardNumber`].
    pub fn check(&self, to: &PublicKey) -> Result<(), Error> {
        check_part(to, self)
    }
}

impl Default for ExportPart {
    fn default() -> Self {
        Self {
            after: None,
            limit: MAX_RECORDS,
        }
    }
}

impl Gateway {
    /// Begins a file with the provider tokens of this installation, sealed to `to` and signed with
    /// the service's own key. That somebody has begun is in the audit log before the first token is
    /// opened; [`TokenExport::finish`] adds what has become of it.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidField`] for a key that nothing can be sealed to, and for a part that is none;
    /// [`Code::StoreUnavailable`].
    pub async fn export_tokens(
        &self,
        to: &PublicKey,
        part: &ExportPart,
    ) -> Result<TokenExport, Error> {
        check_part(to, part)?;
        let inner = &self.inner;
        let signer = inner.signing_key().await?;
        let export = format!("exp_{}", inner.letters(ID_BYTES)?);
        let begun_at = inner.journal.now();
        let linked_by = inner.linked_so_far(begun_at).await?;
        let place = Place {
            begun_at: begun_at.millis(),
            linked_by: linked_by.millis(),
            from: part.after.clone(),
            limit: part.limit,
            after: part.after.clone().unwrap_or_default(),
            seen: 0,
            clock_step: inner.journal.store().latest_step().await.map_err(stored)?,
            due: String::new(),
            left_out: LeftOut::default(),
            more: None,
            stage: Stage::Head,
        };
        let report = ExportReport::of(export.clone(), to, &signer, begun_at);
        let accepted = line(self, &report).outcome(AuditOutcome::Accepted);
        accepted.write().await?;
        Ok(TokenExport {
            gateway: self.clone(),
            writer: Writer::new(export, signer, to.clone(), Arc::clone(&inner.entropy)),
            place,
            report,
        })
    }

    /// Goes on with a file that was interrupted: with its lines and, behind them, the last
    /// [`TokenExport::mark`]. Gives with it how many bytes the lines are; the next line belongs
    /// behind them. That somebody goes on is in the audit log.
    ///
    /// `None` if that is not possible, and the file has to begin anew: what is `left` was changed or
    /// does not end with a mark; it is for another recipient or of another part; the service signs
    /// by another key by now; it was begun longer than [`RESUMED_WITHIN`] ago; or what could be handed
    /// out then is not what it is now, among the methods that were looked at: somebody was erased or
    /// restricted, or a method revoked or suspended.
    ///
    /// # Errors
    ///
    /// As for [`Gateway::export_tokens`]; [`Code::Internal`] if `left` can't be read.
    pub async fn resume_export(
        &self,
        to: &PublicKey,
        part: &ExportPart,
        left: impl BufRead,
    ) -> Result<Option<(TokenExport, u64)>, Error> {
        check_part(to, part)?;
        let inner = &self.inner;
        let signer = inner.signing_key().await?;
        let now = inner.journal.now();
        let mut report = ExportReport::of(String::new(), to, &signer, now);
        let left = Writer::resume(left, signer, to.clone(), Arc::clone(&inner.entropy));
        let left = left.map_err(|error| {
            Error::new(Code::Internal, "What is left of the file can't be read.").with_source(error)
        })?;
        let Some(Resumed {
            writer,
            whole,
            bytes,
            says,
        }) = left
        else {
            return Ok(None);
        };
        let Ok(place) = serde_json::from_value::<Place>(says) else {
            return Ok(None);
        };
        let begun_at = Timestamp::from_millis(place.begun_at);
        let in_time = (begun_at..=begun_at.plus(RESUMED_WITHIN)).contains(&now);
        if !in_time || (&place.from, place.limit) != (&part.after, part.limit) {
            return Ok(None);
        }
        if self.due_by(&place).await? != place.due {
            return Ok(None);
        }
        report.begun_at = begun_at;
        report.export = whole.export;
        report.records = whole.records;
        report.sha256 = whole.sha256;
        let accepted = line(self, &report).outcome(AuditOutcome::Accepted);
        accepted.detail("behind_line", whole.lines).write().await?;
        let export = TokenExport {
            gateway: self.clone(),
            writer,
            place,
            report,
        };
        Ok(Some((export, bytes)))
    }
}

impl Gateway {
    /// What `due` would be now of the methods that were looked at.
    async fn due_by(&self, place: &Place) -> Result<String, Error> {
        let store = self.inner.journal.store();
        let (mut due, mut after) = (String::new(), place.from.clone().unwrap_or_default());
        loop {
            let rows = store.tokens(&after, PAGE).await.map_err(stored)?;
            let Some(last) = rows.last() else {
                return Ok(due);
            };
            after.clone_from(&last.method.id);
            for row in &rows {
                if row.method.id > place.after {
                    return Ok(due);
                }
                if place.is_due(row) {
                    due = chained(&due, &row.method.id);
                }
            }
        }
    }

    /// How many payment methods there are that are not revoked.
    ///
    /// # Errors
    ///
    /// [`Code::StoreUnavailable`].
    pub async fn count_payment_methods(&self) -> Result<u64, Error> {
        let counted = self.inner.journal.store().count_methods().await;
        counted.map_err(stored)
    }
}

impl TokenExport {
    /// The file's next line, with its line feed; `None` after the last.
    ///
    /// # Errors
    ///
    /// [`Code::StoreUnavailable`], [`Code::Internal`]: what was given until then is no whole file,
    /// and nobody can import it.
    pub async fn next(&mut self) -> Result<Option<String>, Error> {
        loop {
            match self.place.stage {
                Stage::Head => {
                    self.place.stage = Stage::Records;
                    let header = Header {
                        from: self.gateway.inner.public_url.clone(),
                        issued_at: Timestamp::from_millis(self.place.begun_at).seconds(),
                    };
                    return self.writer.header(&header).map(Some).map_err(unsealed);
                }
                Stage::Records => {
                    if let Some(line) = self.page().await? {
                        return Ok(Some(line));
                    }
                }
                Stage::End => {
                    self.place.stage = Stage::Over;
                    let (line, whole) = self.writer.end().map_err(unsealed)?;
                    self.report.sha256 = whole.sha256;
                    return Ok(Some(line));
                }
                Stage::Over => return Ok(None),
            }
        }
    }

    /// How far the file is with the line that [`TokenExport::next`] gave last: a line to write behind
    /// it, and to put the next one in the place of. It is none of the file's, and signed.
    ///
    /// # Errors
    ///
    /// [`Code::Internal`].
    pub fn mark(&self) -> Result<String, Error> {
        let unwritten =
            |error| Error::new(Code::Internal, "The mark can't be written.").with_source(error);
        let says = serde_json::to_value(&self.place).map_err(unwritten)?;
        self.writer.mark(&says).map_err(unsealed)
    }

    /// How many methods were looked at so far.
    pub const fn seen(&self) -> u64 {
        self.place.seen
    }

    /// When the file was begun.
    pub const fn begun_at(&self) -> Timestamp {
        Timestamp::from_millis(self.place.begun_at)
    }

    /// How many tokens the file holds so far.
    pub const fn records(&self) -> u64 {
        self.report.records
    }

    /// Says in the audit log that the file is whole and where it belongs, and what it holds.
    ///
    /// # Errors
    ///
    /// [`Code::Internal`] before the last line was given; [`Code::StoreUnavailable`].
    pub async fn finish(mut self) -> Result<ExportReport, Error> {
        if self.place.stage != Stage::Over {
            return Err(Error::new(Code::Internal, "The export is not at its end."));
        }
        let left_out = self.place.left_out;
        self.report.linked_since = self.linked_since().await?;
        self.report.left_out = left_out;
        self.report.more = self.place.more;
        line(&self.gateway, &self.report)
            .detail("records", self.report.records)
            .detail("sha256", &self.report.sha256)
            .detail("left_out_restricted", left_out.restricted)
            .detail("left_out_suspended", left_out.suspended)
            .detail("left_out_not_set_up", left_out.provider_not_set_up)
            .detail("left_out_unopened", left_out.unopened)
            .write()
            .await?;
        Ok(self.report)
    }

    /// Whether methods were linked since it was begun, as far as their times tell: not where a clock was
    /// ahead by then, or was set since.
    async fn linked_since(&self) -> Result<bool, Error> {
        let journal = &self.gateway.inner.journal;
        let latest = journal.store().latest_linked().await.map_err(stored)?;
        let step = journal.store().latest_step().await.map_err(stored)?;
        let Place {
            begun_at,
            linked_by,
            clock_step,
            ..
        } = self.place;
        let set = step != clock_step || journal.now().millis() < begun_at;
        let later = latest.is_some_and(|latest| latest.millis() > linked_by);
        Ok(later || set || linked_by > begun_at)
    }

    /// A line with the tokens of the next page; `None` if there are none in it.
    async fn page(&mut self) -> Result<Option<String>, Error> {
        let inner = Arc::clone(&self.gateway.inner);
        let store = inner.journal.store();
        let rows = store
            .tokens(&self.place.after, PAGE)
            .await
            .map_err(stored)?;
        if rows.is_empty() {
            self.place.stage = Stage::End;
            return Ok(None);
        }
        let mut records = Vec::with_capacity(MAX_RECORDS_PER_LINE);
        for row in rows {
            if self.report.records >= self.place.limit {
                self.place.more = Some(self.place.after.clone());
                self.place.stage = Stage::End;
                break;
            }
            self.place.seen += 1;
            self.place.after.clone_from(&row.method.id);
            if self.place.is_due(&row) {
                self.place.due = chained(&self.place.due, &row.method.id);
            }
            inner.follow_to_open(&row.record.sealed).await;
            inner.follow_to_open(&row.account.sealed_id).await;
            if let Some(record) = self.record(&row) {
                self.report.records += 1;
                records.push(record);
            }
        }
        if records.is_empty() {
            return Ok(None);
        }
        self.writer.records(&records).map(Some).map_err(unsealed)
    }

    /// The record of a method; `None` if it does not belong into the file.
    fn record(&mut self, row: &TokenRow) -> Option<Record> {
        let inner = &self.gateway.inner;
        let method = &row.method;
        if self.place.is_later(row) {
            return None;
        }
        let left_out = &mut self.place.left_out;
        match method.state {
            MethodState::Active if row.account.restricted => left_out.restricted += 1,
            MethodState::Active => {
                let Ok(provider) = inner.provider(&method.provider) else {
                    left_out.provider_not_set_up += 1;
                    return None;
                };
                let token = inner
                    .vault
                    .open_token(&view::context_of(&row.record), &row.record.sealed);
                let (Ok(token), Ok(account)) = (token, inner.account_id_of(&row.account)) else {
                    left_out.unopened += 1;
                    return None;
                };
                return Some(Record {
                    account,
                    provider: method.provider.clone(),
                    merchant: row.record.merchant.clone(),
                    kind: provider.kind_of(&token).to_owned(),
                    token: Zeroizing::new(token.expose().to_owned()),
                    default: method.default,
                    payment_method: Some(method.handle.clone()),
                });
            }
            MethodState::Suspended => left_out.suspended += 1,
            MethodState::Revoking | MethodState::Revoked => {}
        }
        None
    }
}

impl Place {
    /// Whether a method was linked after the file was begun.
    const fn is_later(&self, row: &TokenRow) -> bool {
        row.method.created_at.millis() > self.linked_by
    }

    /// Whether a method may be handed out.
    fn is_due(&self, row: &TokenRow) -> bool {
        !self.is_later(row) && !row.account.restricted && row.method.state == MethodState::Active
    }
}

/// The base64url SHA-256 of what stood before and one method more.
fn chained(before: &str, method: &str) -> String {
    let text = [before, " ", method].concat();
    URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
}

impl ExportReport {
    fn of(export: String, to: &PublicKey, signer: &SecretKey, begun_at: Timestamp) -> Self {
        Self {
            export,
            recipient: to.thumbprint(),
            sender_kid: signer.public().kid().to_owned(),
            records: 0,
            left_out: LeftOut::default(),
            more: None,
            sha256: String::new(),
            begun_at,
            linked_since: false,
        }
    }
}

/// A line of the audit log about a file.
fn line<'a>(gateway: &'a Gateway, report: &ExportReport) -> AuditDraft<'a> {
    gateway
        .audit(AuditAction::Export, AuditObject::none())
        .detail("export", &report.export)
        .detail("recipient", &report.recipient)
        .detail("sender_kid", &report.sender_kid)
}

fn check_part(to: &PublicKey, part: &ExportPart) -> Result<(), Error> {
    let wrong = |field: &str, what: &str| Err(Error::field(Code::InvalidField, field, what));
    if !to.usage().seals() {
        return wrong(
            "recipient",
            "The recipient's key only signs; nothing can be sealed to it.",
        );
    }
    if !(1..=MAX_RECORDS).contains(&part.limit) {
        return wrong("limit", "limit is 1 to 1000000.");
    }
    if let Some(after) = &part.after {
        check::no_card_number("after", after)?;
        if Handle::parse_as(HandleKind::PaymentMethod, after).is_none() {
            return wrong(
                "after",
                "after is the place that the export before has named.",
            );
        }
    }
    Ok(())
}

fn unsealed(error: SealError) -> Error {
    Error::new(Code::Internal, "A line of the file can't be sealed.").with_source(error)
}

impl fmt::Debug for TokenExport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "TokenExport({}, {} seen)",
            self.report.export,
            self.seen()
        )
    }
}
