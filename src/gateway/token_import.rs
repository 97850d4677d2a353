//! Import of provider tokens from a file that is sealed to this installation.
//!
//! The file is read twice. First every line is opened, verified and held against its place, and
//! every token of this installation is compared with those of the file; nothing is stored unless
//! the file is whole. Then each record is decided and what is taken is written, one transaction for
//! each line.
//!
//! A token is known again without a trace of it in the store: while an import runs, it holds a keyed
//! hash of each of the file's tokens in memory, and opens those that are kept here to compare. What
//! an imported method is called is made from such a hash of its account and token. So a record is
//! taken in once, however often the import runs, is killed, or runs beside another; and one that was
//! revoked here since does not come back.
//!
//! No record is refused in silence: [`Refusal`] says where it stands, which field is at fault and by
//! which rule, and never a value.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cardless_contract::{ProviderToken, Timestamp, TokenFault};
use serde::{Serialize, Serializer};

use super::audit::{AuditAction, AuditDraft, AuditObject, AuditOutcome};
use super::{Gateway, Inner, check, stored, view};
use crate::account::{AccountId, Handle, HandleKind};
use crate::error::{Code, Error};
use crate::exchange::transfer::{Fault, Header, Part, Reader, Record, Whole};
use crate::exchange::{PublicKey, SecretKey};
use crate::pan;
use crate::store::{Change, MethodRow, MethodState, RecordRow, StoreError, Subject, TokenRow};
use crate::vault::HashPurpose;

/// How many tokens of this installation are compared at once.
const COMPARE_PAGE: u32 = 500;

/// How far the writer's clock may be ahead of ours.
const MAX_SKEW: Duration = Duration::from_secs(10 * 60);

/// The longest name of who has written a file, in characters.
const MAX_FROM_CHARS: usize = 255;

/// Bytes of a keyed hash that stand for a token or an account while an import runs.
const TAG_BYTES: usize = 16;

/// Bytes of a keyed hash that an imported method is called by; each is two letters.
const NAME_BYTES: usize = Handle::LETTERS / 2;

/// How often a record is decided again because something has changed meanwhile.
const MAX_RACES: u32 = 16;

type Tag = [u8; TAG_BYTES];

/// An import at its first reading: [`ImportCheck::line`] takes the file's lines in order, then
/// [`ImportCheck::compare`] gives the second.
pub struct ImportCheck {
    gateway: Gateway,
    ours: Vec<SecretKey>,
    senders: Vec<PublicKey>,
    reader: Reader,
    header: Option<Header>,
    lines: u64,
    seen: HashMap<Tag, Seen>,
}

/// An import at its second reading, which stores.
pub struct TokenImport {
    gateway: Gateway,
    reader: Reader,
    whole: Whole,
    issued_at: Timestamp,
    dry_run: bool,
    seen: HashMap<Tag, Seen>,
    /// Accounts for which the file says which token is the default, and that token is new here.
    with_default: HashSet<Tag>,
    report: ImportReport,
}

/// What is known of one of the file's tokens.
struct Seen {
    account: Tag,
    default: bool,
    held: Held,
}

/// Who has a token of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Nobody,
    /// Its own account has it here.
    Here,
    /// Its own account had it here, and it is being revoked.
    Leaving,
    /// Another account has it here.
    Elsewhere,
    /// The file gives it to two accounts.
    Disputed,
}

/// What has become of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImportReport {
    /// What the file is called within.
    pub export: String,
    /// Who has written it, in its own words.
    pub from: String,
    /// When it was begun.
    pub issued_at: Timestamp,
    /// The thumbprint of the key that has signed it.
    pub sender: String,
    /// The file's base64url SHA-256.
    pub sha256: String,
    /// Whether nothing was to be stored.
    pub dry_run: bool,
    /// How many records it has: the sum of the next three.
    pub records: u64,
    /// How many of them were taken in, or would be.
    pub imported: u64,
    /// How many were here already.
    pub already_here: u64,
    /// How many were refused.
    pub refused: u64,
}

/// A record that is not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The file's line, from 1.
    pub line: u64,
    /// The record, counted from 1 over the whole file.
    pub record: u64,
    /// The field that is at fault.
    pub field: &'static str,
    /// By which rule.
    pub rule: Rule,
}

macro_rules! rules {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, $says:literal;)+) => {
        /// Why a record is not taken in: a closed list of words.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Rule { $($(#[$doc])* $variant),+ }

        impl Rule {
            /// The word in a report.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// What a person reads.
            pub const fn says(self) -> &'static str {
                match self { $(Self::$variant => $says),+ }
            }
        }
    };
}

rules!(
    /// It passes for a card number.
    CardNumber = "card_number", "passes for a card number";
    /// It is not of its alphabet or length.
    Malformed = "malformed", "is not of its alphabet or length";
    /// The provider is not set up here.
    NotSetUp = "not_set_up", "is not set up here";
    /// The token belongs to another merchant than the settings name.
    OtherMerchant = "other_merchant", "is another merchant than the settings name";
    /// The settings work with another kind of token.
    OtherKind = "other_kind", "is another kind of token than the settings work with";
    /// It has not the shape of the provider's tokens.
    Shape = "shape", "has not the shape of the provider's tokens";
    /// It is of an old kind that shows digits of a card's number, or stands in their place.
    RevealsDigits = "reveals_digits", "is a legacy alias that shows or replaces digits of a card's number; let the provider convert it";
    /// The file gives the token to two accounts.
    TwoAccounts = "two_accounts", "is given to two accounts by the file";
    /// Another account has the token here.
    OtherAccount = "other_account", "belongs to another account here";
    /// It was revoked here.
    Revoked = "revoked", "was imported before and revoked here since, or is being revoked";
    /// The account is restricted: nothing new is linked to it.
    Restricted = "restricted", "is restricted here, or being erased";
    /// The account was erased after the file was written.
    Erased = "erased", "was erased here after the file was written";
);

/// A record that may be taken in.
struct Valid {
    account: AccountId,
    pseudonym: String,
    provider: String,
    merchant: String,
    token: ProviderToken,
    tag: Tag,
    default: bool,
    replaces: Option<String>,
    /// Whether the account was here when it was decided to take the record.
    known: bool,
}

/// What is said of one line's records.
struct Line {
    number: u64,
    refusals: Vec<Refusal>,
}

/// Which field is at fault, and by which rule.
type Objection = (&'static str, Rule);

/// What is to be done with a record.
enum Decision {
    Take,
    AlreadyHere,
    Refuse(Objection),
}

impl Gateway {
    /// Begins to read a file that is sealed to a key of this installation ([`Gateway::exchange_keys`],
    /// those of the last [`FILE_GENERATIONS`](super::FILE_GENERATIONS)) and signed by one of
    /// `senders`.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidField`] if no key of the sender may sign; [`Code::StoreUnavailable`].
    pub async fn import_tokens(&self, senders: &[PublicKey]) -> Result<ImportCheck, Error> {
        let senders: Vec<PublicKey> = senders
            .iter()
            .filter(|key| key.usage().signs())
            .cloned()
            .collect();
        if senders.is_empty() {
            return Err(Error::field(
                Code::InvalidField,
                "sender",
                "None of the sender's keys may sign.",
            ));
        }
        let ours = self.inner.file_keys().await?;
        Ok(ImportCheck {
            gateway: self.clone(),
            reader: Reader::new(ours.clone(), senders.clone()),
            ours,
            senders,
            header: None,
            lines: 0,
            seen: HashMap::new(),
        })
    }
}

impl ImportCheck {
    /// Takes the file's next line, with its line feed.
    ///
    /// # Errors
    ///
    /// [`Code::ExchangeRefused`] with the line and what is wrong with it. The audit log has the
    /// refusal; nothing was stored.
    pub async fn line(&mut self, line: &[u8]) -> Result<(), Error> {
        self.lines += 1;
        match self.take(line) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.refused(error).await),
        }
    }

    /// How many records were read so far.
    pub const fn records(&self) -> u64 {
        self.reader.records()
    }

    /// Holds the file to be whole and compares its tokens with those that are kept here; `progress`
    /// hears how many of them. Gives the second reading, which stores, or with `dry_run` does
    /// everything but that.
    ///
    /// # Errors
    ///
    /// [`Code::ExchangeRefused`] if the file's end is missing; [`Code::StoreUnavailable`]. Nothing
    /// was stored.
    pub async fn compare(
        mut self,
        dry_run: bool,
        progress: impl FnMut(u64) + Send,
    ) -> Result<TokenImport, Error> {
        let (whole, header) = match self.whole() {
            Ok(whole) => whole,
            Err(error) => return Err(self.refused(error).await),
        };
        let issued_at = Timestamp::from_seconds(header.issued_at);
        let report = ImportReport {
            export: whole.export.clone(),
            from: header.from,
            issued_at,
            sender: whole.sender.clone(),
            sha256: whole.sha256.clone(),
            dry_run,
            records: 0,
            imported: 0,
            already_here: 0,
            refused: 0,
        };
        let accepted = line(&self.gateway, &report).outcome(AuditOutcome::Accepted);
        accepted.detail("records", whole.records).write().await?;
        self.compare_all(progress).await?;
        let with_default = self.with_default().await?;
        Ok(TokenImport {
            with_default,
            gateway: self.gateway,
            reader: Reader::new(self.ours, self.senders),
            whole,
            issued_at,
            dry_run,
            seen: self.seen,
            report,
        })
    }

    /// The accounts whose default the file brings: one that was imported before does not come back,
    /// and then the account's first token is its default.
    async fn with_default(&self) -> Result<HashSet<Tag>, Error> {
        let mut accounts = HashSet::new();
        for (tag, seen) in &self.seen {
            if !seen.default || seen.held != Held::Nobody || accounts.contains(&seen.account) {
                continue;
            }
            let before = self
                .gateway
                .inner
                .imported_before(&seen.account, tag)
                .await?;
            if before.is_none() {
                accounts.insert(seen.account);
            }
        }
        Ok(accounts)
    }

    fn whole(&mut self) -> Result<(Whole, Header), Error> {
        let whole = self.reader.end().cloned();
        let whole = whole.map_err(|fault| at_line(self.lines, fault))?;
        check::no_card_number("export", &whole.export)?;
        let header = self.header.take();
        let header = header.ok_or_else(|| at_line(self.lines, Fault::OutOfOrder))?;
        Ok((whole, header))
    }

    fn take(&mut self, line: &[u8]) -> Result<(), Error> {
        let part = self.reader.line(line);
        match part.map_err(|fault| at_line(self.lines, fault))? {
            Part::Header(header) => {
                self.check_header(&header)?;
                self.header = Some(header);
                Ok(())
            }
            Part::Records(records) => {
                for record in records {
                    if let Some((field, hit)) = card_number(&record) {
                        pan::alarm(hit, field);
                    }
                    // What is refused by itself is told at the second reading.
                    if let Ok(valid) = self.gateway.inner.valid(record) {
                        self.remember(&valid);
                    }
                }
                Ok(())
            }
            Part::End => Ok(()),
        }
    }

    fn remember(&mut self, valid: &Valid) {
        let account = tag_of(&valid.pseudonym);
        let seen = self.seen.entry(valid.tag).or_insert(Seen {
            account,
            default: valid.default,
            held: Held::Nobody,
        });
        seen.default |= valid.default;
        if seen.account != account {
            seen.held = Held::Disputed;
        }
    }

    async fn compare_all(&mut self, mut progress: impl FnMut(u64) + Send) -> Result<(), Error> {
        let inner = Arc::clone(&self.gateway.inner);
        let (mut after, mut compared) = (String::new(), 0);
        loop {
            let rows = inner.journal.store().tokens(&after, COMPARE_PAGE).await;
            let rows = rows.map_err(stored)?;
            let Some(last) = rows.last() else {
                return Ok(());
            };
            after.clone_from(&last.method.id);
            for row in &rows {
                inner.follow_to_open(&row.record.sealed).await;
                compared += 1;
                self.compare_one(&inner, row);
            }
            progress(compared);
        }
    }

    fn compare_one(&mut self, inner: &Inner, row: &TokenRow) {
        let record = &row.record;
        let context = view::context_of(record);
        let Ok(token) = inner.vault.open_token(&context, &record.sealed) else {
            tracing::warn!(method = %row.method.id, "a record does not open and is compared with nothing");
            return;
        };
        let tag = inner.token_tag(&record.provider, &record.merchant, &token);
        let Some(seen) = self.seen.get_mut(&tag) else {
            return;
        };
        let own = seen.account == tag_of(&record.account);
        seen.held = match (seen.held, own) {
            (Held::Disputed, _) => Held::Disputed,
            (Held::Here, true) => Held::Here,
            (_, true) if row.method.state == MethodState::Revoking => Held::Leaving,
            (_, true) => Held::Here,
            (held @ (Held::Here | Held::Leaving), false) => held,
            (Held::Nobody | Held::Elsewhere, false) => Held::Elsewhere,
        };
    }

    async fn refused(&self, error: Error) -> Error {
        let line = self.gateway.audit(AuditAction::Import, AuditObject::none());
        line.detail("line", self.lines).refused(error).await
    }

    fn check_header(&self, header: &Header) -> Result<(), Error> {
        check::text_field("from", &header.from, MAX_FROM_CHARS)?;
        let latest = self.gateway.inner.journal.now().plus(MAX_SKEW);
        if Timestamp::from_seconds(header.issued_at) > latest {
            return Err(Error::field(
                Code::ExchangeRefused,
                "iat",
                "The file says that it was written later than now: one of the clocks is wrong. \
                 Nothing was stored.",
            ));
        }
        Ok(())
    }
}

impl TokenImport {
    /// Takes the file's next line again, and stores what is to be stored of it in one transaction.
    /// Gives the records that it refuses.
    ///
    /// # Errors
    ///
    /// [`Code::ExchangeRefused`] if the file has changed since it was read first, and
    /// [`Code::StoreUnavailable`]: what was stored before stays, and the import can be run again.
    pub async fn line(&mut self, line: &[u8]) -> Result<Vec<Refusal>, Error> {
        let part = self.reader.line(line).map_err(|_| changed())?;
        let Part::Records(records) = part else {
            return Ok(Vec::new());
        };
        let mut line = Line {
            number: self.reader.lines(),
            refusals: Vec::new(),
        };
        let mut taken: Vec<(u64, Valid)> = Vec::new();
        for record in records {
            self.report.records += 1;
            let number = self.report.records;
            let mut valid = match self.gateway.inner.valid(record) {
                Ok(valid) => valid,
                Err(objection) => {
                    line.refuse(number, objection);
                    continue;
                }
            };
            let twice = taken.iter().any(|(_, other)| other.tag == valid.tag);
            match self.decide(&mut valid).await? {
                Decision::Take if !twice => taken.push((number, valid)),
                Decision::Take | Decision::AlreadyHere => self.report.already_here += 1,
                Decision::Refuse(objection) => line.refuse(number, objection),
            }
        }
        self.store(taken, &mut line).await?;
        line.refusals.sort_by_key(|refusal| refusal.record);
        self.report.refused += u64::try_from(line.refusals.len()).unwrap_or(u64::MAX);
        Ok(line.refusals)
    }

    /// How many records were dealt with so far, of how many.
    pub const fn done(&self) -> (u64, u64) {
        (self.report.records, self.whole.records)
    }

    /// Says in the audit log what has become of the file.
    ///
    /// # Errors
    ///
    /// [`Code::ExchangeRefused`] if the file has changed since it was read first;
    /// [`Code::StoreUnavailable`].
    pub async fn finish(self) -> Result<ImportReport, Error> {
        if self.reader.end().ok() != Some(&self.whole) {
            return Err(changed());
        }
        let report = self.report;
        line(&self.gateway, &report)
            .detail("records", report.records)
            .detail("imported", report.imported)
            .detail("already_here", report.already_here)
            .detail("refused", report.refused)
            .write()
            .await?;
        Ok(report)
    }

    /// What is to be done with a record, as everything stands now.
    async fn decide(&self, valid: &mut Valid) -> Result<Decision, Error> {
        let inner = &self.gateway.inner;
        let seen = self.seen.get(&valid.tag).ok_or_else(changed)?;
        match seen.held {
            Held::Nobody => {}
            Held::Here => return Ok(Decision::AlreadyHere),
            Held::Leaving => return Ok(Decision::Refuse(("token", Rule::Revoked))),
            Held::Elsewhere => return Ok(Decision::Refuse(("token", Rule::OtherAccount))),
            Held::Disputed => return Ok(Decision::Refuse(("token", Rule::TwoAccounts))),
        }
        let account = inner.journal.store().account(&valid.pseudonym).await;
        let account = account.map_err(stored)?;
        valid.known = account.is_some();
        if account.is_some_and(|account| account.restricted) {
            return Ok(Decision::Refuse(("account", Rule::Restricted)));
        }
        // After the account: an erasure that has ended in between is seen here. That which ended last, by
        // whatever clock, decides.
        let erased_at = inner.erased_last(&valid.account).await?;
        if erased_at.is_some_and(|at| at >= self.issued_at) {
            return Ok(Decision::Refuse(("account", Rule::Erased)));
        }
        let account = tag_of(&valid.pseudonym);
        Ok(match inner.imported_before(&account, &valid.tag).await? {
            None => Decision::Take,
            Some(MethodState::Active | MethodState::Suspended) => Decision::AlreadyHere,
            Some(MethodState::Revoking | MethodState::Revoked) => {
                Decision::Refuse(("token", Rule::Revoked))
            }
        })
    }

    /// Stores what was decided in one transaction. If something has changed meanwhile, each record
    /// is decided again and stored by itself.
    async fn store(&mut self, mut taken: Vec<(u64, Valid)>, line: &mut Line) -> Result<(), Error> {
        let all: Vec<&Valid> = taken.iter().map(|(_, valid)| valid).collect();
        let written = if self.dry_run || all.is_empty() {
            Ok(())
        } else {
            self.write(&all).await?
        };
        match written {
            Ok(()) => {
                for (_, valid) in &taken {
                    self.taken(valid.tag);
                }
                return Ok(());
            }
            Err(StoreError::Conflict(_)) => {}
            Err(error) => return Err(stored(error)),
        }
        for (number, valid) in &mut taken {
            match self.store_one(valid).await? {
                Decision::Take => self.taken(valid.tag),
                Decision::AlreadyHere => self.report.already_here += 1,
                Decision::Refuse(objection) => line.refuse(*number, objection),
            }
        }
        Ok(())
    }

    async fn store_one(&self, valid: &mut Valid) -> Result<Decision, Error> {
        for _ in 0..MAX_RACES {
            let decision = self.decide(valid).await?;
            if !matches!(decision, Decision::Take) {
                return Ok(decision);
            }
            match self.write(&[&*valid]).await? {
                Ok(()) => return Ok(Decision::Take),
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(stored(error)),
            }
        }
        Err(stored(StoreError::Conflict(Subject::Method)))
    }

    /// Counts a record. The file may have it twice.
    fn taken(&mut self, tag: Tag) {
        self.report.imported += 1;
        if let Some(seen) = self.seen.get_mut(&tag) {
            seen.held = Held::Here;
        }
    }

    /// Writes records with their methods and events, whole or not at all.
    async fn write(&self, taken: &[&Valid]) -> Result<Result<(), StoreError>, Error> {
        let inner = &self.gateway.inner;
        let mut turns = 0;
        loop {
            let mut batch = Vec::new();
            for valid in taken {
                let first = !self.with_default.contains(&tag_of(&valid.pseudonym));
                inner
                    .take_in(valid, valid.default || first, &mut batch)
                    .await?;
            }
            let written = match inner.journal.write(batch).await {
                Err(error @ StoreError::Conflict(Subject::Generation)) => Err(stored(error)),
                other => Ok(other),
            };
            if !inner.came_too_late(&written, &mut turns).await? {
                return written;
            }
        }
    }
}

impl Inner {
    /// Holds a record against everything that can be said of it by itself.
    fn valid(&self, record: Record) -> Result<Valid, Objection> {
        if let Some((field, _)) = card_number(&record) {
            return Err((field, Rule::CardNumber));
        }
        let account = AccountId::new(record.account);
        let account = account.map_err(|_| ("account", Rule::Malformed))?;
        let provider = self.provider(&record.provider);
        let provider = provider.map_err(|_| ("provider", Rule::NotSetUp))?;
        if record.merchant != provider.merchant() {
            return Err(("merchant", Rule::OtherMerchant));
        }
        if record.kind != provider.token_kind() {
            return Err(("kind", Rule::OtherKind));
        }
        let token = ProviderToken::new(record.token.as_str()).ok_or(("token", Rule::Shape))?;
        provider.check_token(&token).map_err(|fault| {
            let rule = match fault {
                TokenFault::Shape => Rule::Shape,
                TokenFault::OtherKind => Rule::OtherKind,
                TokenFault::RevealsDigits => Rule::RevealsDigits,
            };
            ("token", rule)
        })?;
        let handle = |text: &String| Handle::parse_as(HandleKind::PaymentMethod, text).is_some();
        if !record.payment_method.as_ref().is_none_or(handle) {
            return Err(("payment_method", Rule::Malformed));
        }
        Ok(Valid {
            pseudonym: self.pseudonym(&account),
            account,
            tag: self.token_tag(&record.provider, &record.merchant, &token),
            provider: record.provider,
            merchant: record.merchant,
            token,
            default: record.default,
            replaces: record.payment_method,
            known: false,
        })
    }

    /// What stands for a token while an import runs, whoever's it is. It is never stored.
    fn token_tag(&self, provider: &str, merchant: &str, token: &ProviderToken) -> Tag {
        // No name of a provider, no merchant and no token holds a zero byte.
        let bytes = zeroize::Zeroizing::new(["tag", provider, merchant, token.expose()].join("\0"));
        let hash = self
            .vault
            .keyed_hash(HashPurpose::ImportedToken, bytes.as_bytes());
        first(&hash)
    }

    /// What the method and the record of an imported token are called: the same for the same account
    /// and token, and of two accounts never the same.
    fn imported_names(&self, pseudonym: &str, token: &Tag) -> (String, String) {
        let bytes = [b"name\0", pseudonym.as_bytes(), &[0], token].concat();
        let hash = self.vault.keyed_hash(HashPurpose::ImportedToken, &bytes);
        let (method, rest) = hash.split_at(NAME_BYTES);
        let (record, _) = rest.split_at(NAME_BYTES);
        let prefix = HandleKind::PaymentMethod.prefix();
        (
            format!("{prefix}{}", crate::letters::letters(method)),
            format!("rec_{}", crate::letters::letters(record)),
        )
    }

    /// How the method of a record stands that was imported before.
    async fn imported_before(
        &self,
        account: &Tag,
        token: &Tag,
    ) -> Result<Option<MethodState>, Error> {
        let (method, _) = self.imported_names(&crate::letters::letters(account), token);
        let row = self.journal.store().method(&method).await.map_err(stored)?;
        Ok(row.map(|row| row.state))
    }

    /// What takes a record in.
    async fn take_in(
        &self,
        valid: &Valid,
        may_be_default: bool,
        batch: &mut Vec<Change>,
    ) -> Result<(), Error> {
        let account = valid.pseudonym.clone();
        let (method, record) = self.imported_names(&account, &valid.tag);
        let now = self.journal.now();
        let mut row = RecordRow {
            id: record,
            account: account.clone(),
            provider: valid.provider.clone(),
            merchant: valid.merchant.clone(),
            generation: String::new(),
            sealed: Vec::new(),
            created_at: now,
        };
        let context = view::context_of(&row);
        let sealed = self.seal(&context, valid.token.expose().as_bytes()).await?;
        row.generation = sealed.generation;
        row.sealed = sealed.bytes;
        if !valid.known {
            batch.push(Change::EnsureAccount(
                self.account_row(&valid.account).await?,
            ));
        }
        batch.push(Change::RequireUnrestricted {
            account: account.clone(),
        });
        let record = row.id.clone();
        batch.push(Change::InsertRecord(row));
        batch.push(Change::InsertMethod(MethodRow {
            handle: method.clone(),
            id: method.clone(),
            account: account.clone(),
            provider: valid.provider.clone(),
            record: Some(record),
            state: MethodState::Active,
            default: false,
            created_at: now,
            next_at: None,
            attempts: 0,
            version: 0,
        }));
        let kind = "payment_method.imported".to_owned();
        let replaces = valid.replaces.clone();
        let event = self
            .journal
            .event_replacing(&account, kind, &method, replaces);
        if may_be_default {
            batch.push(Change::DefaultIfNone { account, method });
        }
        batch.push(event);
        Ok(())
    }
}

impl Line {
    fn refuse(&mut self, record: u64, (field, rule): Objection) {
        self.refusals.push(Refusal {
            line: self.number,
            record,
            field,
            rule,
        });
    }
}

/// A line of the audit log about a file.
fn line<'a>(gateway: &'a Gateway, report: &ImportReport) -> AuditDraft<'a> {
    gateway
        .audit(AuditAction::Import, AuditObject::none())
        .detail("export", &report.export)
        .detail("sender", &report.sender)
        .detail("sha256", &report.sha256)
        .detail("dry_run", report.dry_run)
}

/// Which field of a record passes for a card number. The first reading raises the alarm, the second
/// refuses the record.
fn card_number(record: &Record) -> Option<(&'static str, pan::Hit)> {
    let texts = [
        ("account", Some(record.account.as_str())),
        ("provider", Some(record.provider.as_str())),
        ("merchant", Some(record.merchant.as_str())),
        ("kind", Some(record.kind.as_str())),
        ("token", Some(record.token.as_str())),
        ("payment_method", record.payment_method.as_deref()),
    ];
    let mut texts = texts.into_iter();
    texts.find_map(|(field, text)| Some((field, pan::find(text?)?)))
}

fn at_line(line: u64, fault: Fault) -> Error {
    let message = format!("Line {line} of the file: {fault}. Nothing was stored.");
    Error::new(Code::ExchangeRefused, message).with_source(fault)
}

fn changed() -> Error {
    Error::new(
        Code::ExchangeRefused,
        "The file has changed while it was read. What was stored before stays; run the import again.",
    )
}

/// The first bytes of a hash.
fn first(hash: &[u8]) -> Tag {
    let mut tag = [0; TAG_BYTES];
    for (to, from) in tag.iter_mut().zip(hash) {
        *to = *from;
    }
    tag
}

/// A pseudonym as the bytes that its letters stand for.
fn tag_of(pseudonym: &str) -> Tag {
    let mut tag = [0; TAG_BYTES];
    for (to, letters) in tag.iter_mut().zip(pseudonym.as_bytes().chunks(2)) {
        for letter in letters {
            *to = (*to << 4) | (letter.wrapping_sub(b'a') & 0x0f);
        }
    }
    tag
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Debug for ImportCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ImportCheck({} lines)", self.lines)
    }
}

impl fmt::Debug for TokenImport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenImport({})", self.report.export)
    }
}
