//! Files of provider tokens: what one installation writes for another, or a billing system from
//! before for its first.
//!
//! A file is text. Each line is a nested JWT by the primitives of `gw-jwe-1`, so any JOSE library
//! writes and reads it, and ends with one line feed. Both layers say by `typ` what they are
//! (RFC 8725, section 3.11), so that no line passes for a message of the exchange, or a message for
//! a line.
//!
//! ```text
//! JWE  {"alg":"ECDH-ES","enc":"A256GCM","kid":…,"epk":…,"typ":"cardless-tokens+jwt","cty":"JWT"}
//!  └─ JWS  {"alg":"ES256","kid":…,"typ":"cardless-tokens+jwt"}
//!      └─ {"aud","export","seq","header":{"version":1,"from","iat"}}               the first line
//!         {"aud","export","seq","records":[{"account","provider","merchant","kind","token",
//!                                           "default"?,"payment_method"?}, …]}     any number
//!         {"aud","export","seq","end":{"records","sha256"}}                        the last line
//! ```
//!
//! - `aud` is the thumbprint (RFC 7638) of the key that the line is sealed to: what was signed for
//!   one recipient can't be sealed again to another.
//! - `export` names the file, `seq` counts its lines from 0: none can be moved, doubled or put into
//!   another file.
//! - `end` says how many records there were, and the base64url SHA-256 of every line before it with
//!   its line feed: nothing can be taken out or cut off.
//! - `payment_method` is what the record was called where it comes from.
//!
//! While it is written, a mark stands behind the lines so far: a JWS of the same key, with a `typ` of
//! its own, that says how many lines there are and what their digest is. Whoever was interrupted goes
//! on from it ([`Writer::resume`]); the whole file has none.
//!
//! What is absent: nothing of a card. An expiry date, like any other member, is not known here, and
//! its file is refused.

use std::fmt;
use std::io::{self, BufRead, Read as _};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cardless_contract::Entropy;
use ring::digest::{Context, SHA256};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::json::Members;
use super::{JWT, PublicKey, Refused, SealError, SecretKey, jwe, jws};

/// What both layers of a line say they are.
pub const TYP: &str = "cardless-tokens+jwt";

/// The version of the format that is written and read.
pub const VERSION: i64 = 1;

/// The longest line, in bytes, its line feed included (256 KiB).
pub const MAX_LINE_BYTES: usize = 256 * 1024;

/// How many records one line may have.
pub const MAX_RECORDS_PER_LINE: usize = 100;

/// How many records one file may have. What an import remembers of each while it runs is bounded by
/// it, at about 100 bytes a record.
pub const MAX_RECORDS: u64 = 1_000_000;

/// The longest name of a file (`export`), in characters.
pub const MAX_EXPORT_CHARS: usize = 64;

/// What a mark says it is: it passes for no line, and for no message of the exchange.
const MARK_TYP: &str = "cardless-tokens-mark+jwt";

const CLAIMS: [&str; 6] = ["aud", "export", "seq", "header", "records", "end"];
const HEADER: [&str; 3] = ["version", "from", "iat"];
const END: [&str; 2] = ["records", "sha256"];
const MARK: [&str; 6] = ["aud", "export", "lines", "records", "sha256", "says"];
/// The members of a record.
pub(crate) const RECORD: [&str; 7] = [
    "account",
    "provider",
    "merchant",
    "kind",
    "token",
    "default",
    "payment_method",
];

/// A provider's token, and whose it is. Its `Debug` shows neither.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// The caller's own id of the account.
    pub account: String,
    /// The provider.
    pub provider: String,
    /// The merchant there that the token belongs to.
    pub merchant: String,
    /// What kind of token it is, in the provider's word.
    pub kind: String,
    /// The token.
    pub token: Zeroizing<String>,
    /// Whether it is the account's default.
    pub default: bool,
    /// What the method is called where it comes from.
    pub payment_method: Option<String>,
}

/// Who has written a file, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Who, in the writer's own words. Its key says it.
    pub from: String,
    /// When it was begun, in seconds since 1970.
    pub issued_at: i64,
}

/// What one line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The first line.
    Header(Header),
    /// Records.
    Records(Vec<Record>),
    /// The last line.
    End,
}

/// What is wrong with a file. It quotes nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fault {
    /// A line is longer than [`MAX_LINE_BYTES`].
    #[error("it is longer than a line may be (256 KiB)")]
    TooLong,
    /// A line has no end.
    #[error("it does not end with a line feed: the file was cut off")]
    CutOff,
    /// No nested JWT of this format.
    #[error("it is no line of a file of tokens")]
    NotOfTheFormat,
    /// Sealed to a key that is not here.
    #[error("it is sealed to no key of this installation")]
    OtherRecipient,
    /// It does not open.
    #[error("it does not open: it was changed, or sealed to another key")]
    Unopened,
    /// Signed by a key that was not named.
    #[error("it is signed by none of the sender's keys")]
    OtherSender,
    /// The signature does not hold.
    #[error("its signature does not hold")]
    Signature,
    /// The claims are not those of this format: a member is missing, doubled, unknown, or of
    /// another type.
    #[error(
        "what it says is not of this format: a member is missing, unknown, of another type, or \
         stands twice"
    )]
    Claims,
    /// Another version.
    #[error("it is of a version of the format that is not known here")]
    Version,
    /// Signed for another recipient and sealed again.
    #[error("it was signed for another recipient")]
    Audience,
    /// From another file.
    #[error("it belongs to another file")]
    OtherFile,
    /// Not where it belongs.
    #[error("it is not the line that belongs here: lines are missing, doubled or moved")]
    OutOfOrder,
    /// Too many records.
    #[error("the file has more records than one may have")]
    TooManyRecords,
    /// The last line says another number of records.
    #[error("the file has another number of records than it says")]
    Count,
    /// The last line is about other lines.
    #[error("the lines are not those that the sender has written")]
    Digest,
    /// There is something behind the last line.
    #[error("there is something behind the end")]
    BehindTheEnd,
    /// There is no last line.
    #[error("the end is missing: the file was cut off")]
    NoEnd,
}

/// Writes a file, line by line.
pub struct Writer {
    signer: SecretKey,
    to: PublicKey,
    audience: String,
    entropy: Arc<dyn Entropy>,
    export: String,
    lines: i64,
    records: u64,
    digest: Context,
}

/// A file that goes on where its writer was interrupted.
#[derive(Debug)]
pub struct Resumed {
    /// The writer, behind the lines that it has written.
    pub writer: Writer,
    /// What the file is so far.
    pub whole: Whole,
    /// How many bytes these lines are; what stands behind them is to be taken away.
    pub bytes: u64,
    /// What the mark was given to say.
    pub says: Value,
}

/// Reads a file, line by line, and holds each against what came before.
pub struct Reader {
    ours: Vec<SecretKey>,
    senders: Vec<PublicKey>,
    /// The key that the first line is sealed to.
    recipient: Option<usize>,
    sender: Option<String>,
    export: Option<String>,
    lines: i64,
    records: u64,
    digest: Context,
    whole: Option<Whole>,
}

/// What a file is: one that was read to its end, or is written so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// What it is called.
    pub export: String,
    /// The thumbprint of the key that has signed it.
    pub sender: String,
    /// How many lines it has.
    pub lines: u64,
    /// How many records it has.
    pub records: u64,
    /// Its base64url SHA-256.
    pub sha256: String,
}

impl Writer {
    /// A file that `signer` writes to the holder of `to`, called `export`.
    pub fn new(
        export: String,
        signer: SecretKey,
        to: PublicKey,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self {
            audience: to.thumbprint(),
            signer,
            to,
            entropy,
            export,
            lines: 0,
            records: 0,
            digest: Context::new(&SHA256),
        }
    }

    /// The first line.
    ///
    /// # Errors
    ///
    /// [`SealError`], as for every line.
    pub fn header(&mut self, header: &Header) -> Result<String, SealError> {
        let header = json!({
            "version": VERSION, "from": header.from, "iat": header.issued_at,
        });
        self.line("header", header)
    }

    /// A line with records, at most [`MAX_RECORDS_PER_LINE`].
    ///
    /// # Errors
    ///
    /// [`SealError`].
    pub fn records(&mut self, records: &[Record]) -> Result<String, SealError> {
        if !(1..=MAX_RECORDS_PER_LINE).contains(&records.len()) {
            return Err(SealError::TooLong);
        }
        self.records += u64::try_from(records.len()).unwrap_or(u64::MAX);
        self.line("records", records.iter().map(Record::to_json).collect())
    }

    /// The last line, and what the file is now.
    ///
    /// # Errors
    ///
    /// [`SealError`].
    pub fn end(&mut self) -> Result<(String, Whole), SealError> {
        let end = json!({"records": self.records, "sha256": encoded(&self.digest)});
        let line = self.line("end", end)?;
        Ok((line, self.whole()))
    }

    /// How far the file is, and what else `says`, signed: with its line feed it belongs behind the
    /// lines so far, and the next line into its place.
    ///
    /// # Errors
    ///
    /// [`SealError`].
    pub fn mark(&self, says: &Value) -> Result<String, SealError> {
        let mark = json!({
            "aud": self.audience, "export": self.export, "lines": self.lines,
            "records": self.records, "sha256": encoded(&self.digest), "says": says,
        });
        let mark = jws::sign(mark.to_string().as_bytes(), MARK_TYP, &self.signer)? + "\n";
        (mark.len() <= MAX_LINE_BYTES)
            .then_some(mark)
            .ok_or(SealError::TooLong)
    }

    /// Goes on with what is `left` of a file. `None` if it does not end with a mark, or the mark is
    /// not by `signer`, about a file for the holder of `to`, and about just these lines.
    ///
    /// # Errors
    ///
    /// Those of reading `left`.
    pub fn resume(
        mut left: impl BufRead,
        signer: SecretKey,
        to: PublicKey,
        entropy: Arc<dyn Entropy>,
    ) -> io::Result<Option<Resumed>> {
        let limit = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX);
        let mut writer = Self::new(String::new(), signer, to, entropy);
        let (mut bytes, mut last) = (0, Vec::new());
        loop {
            let mut next = Vec::new();
            left.by_ref().take(limit).read_until(b'\n', &mut next)?;
            if next.is_empty() {
                break;
            }
            if !last.is_empty() {
                writer.lines += 1;
                writer.digest.update(&last);
                bytes += u64::try_from(last.len()).unwrap_or(limit);
            }
            last = next;
        }
        let Ok(says) = writer.marked(&last) else {
            return Ok(None);
        };
        Ok(Some(Resumed {
            whole: writer.whole(),
            writer,
            bytes,
            says,
        }))
    }

    /// Takes from a mark which file it is and how many records it has so far; gives what else the
    /// mark says.
    fn marked(&mut self, mark: &[u8]) -> Result<Value, Refused> {
        let mark = mark.strip_suffix(b"\n").ok_or(Refused)?;
        let mark = std::str::from_utf8(mark).map_err(|_| Refused)?;
        let mark = jws::Unverified::parse(mark)?;
        if mark.typ() != Some(MARK_TYP) {
            return Err(Refused);
        }
        let mut mark = Members::parse(&mark.verify(self.signer.public())?, &MARK)?;
        let about_these = mark.text("aud")? == self.audience
            && mark.number("lines")? == self.lines
            && mark.text("sha256")? == encoded(&self.digest);
        if !about_these {
            return Err(Refused);
        }
        mark.text("export")?.clone_into(&mut self.export);
        self.records = u64::try_from(mark.number("records")?).map_err(|_| Refused)?;
        mark.take("says").ok_or(Refused)
    }

    /// What the file is so far.
    fn whole(&self) -> Whole {
        Whole {
            export: self.export.clone(),
            sender: self.signer.public().thumbprint(),
            lines: u64::try_from(self.lines).unwrap_or(0),
            records: self.records,
            sha256: encoded(&self.digest),
        }
    }

    fn line(&mut self, part: &str, says: Value) -> Result<String, SealError> {
        let mut claims = Map::new();
        claims.insert("aud".to_owned(), self.audience.clone().into());
        claims.insert("export".to_owned(), self.export.clone().into());
        claims.insert("seq".to_owned(), self.lines.into());
        claims.insert(part.to_owned(), says);
        let claims = Zeroizing::new(Value::Object(claims).to_string());
        let signed = Zeroizing::new(jws::sign(claims.as_bytes(), TYP, &self.signer)?);
        let sealed = jwe::seal(
            signed.as_bytes(),
            TYP,
            Some(JWT),
            &self.to,
            self.entropy.as_ref(),
        )?;
        let line = sealed + "\n";
        if line.len() > MAX_LINE_BYTES {
            return Err(SealError::TooLong);
        }
        self.lines += 1;
        self.digest.update(line.as_bytes());
        Ok(line)
    }
}

impl Reader {
    /// Reads a file that is sealed to one of `ours` and signed by one of `senders`.
    pub fn new(ours: Vec<SecretKey>, senders: Vec<PublicKey>) -> Self {
        Self {
            ours,
            senders,
            recipient: None,
            sender: None,
            export: None,
            lines: 0,
            records: 0,
            digest: Context::new(&SHA256),
            whole: None,
        }
    }

    /// The next line, with its line feed.
    ///
    /// # Errors
    ///
    /// [`Fault`]; nothing of the file is to be believed then, the lines before it included.
    pub fn line(&mut self, line: &[u8]) -> Result<Part, Fault> {
        if self.whole.is_some() {
            return Err(Fault::BehindTheEnd);
        }
        if line.len() > MAX_LINE_BYTES {
            return Err(Fault::TooLong);
        }
        let text = line.strip_suffix(b"\n").ok_or(Fault::CutOff)?;
        let text = std::str::from_utf8(text).map_err(|_| Fault::NotOfTheFormat)?;
        let claims = self.open(text)?;
        let mut claims = Members::parse(&claims, &CLAIMS).map_err(|_| Fault::Claims)?;
        let part = self.placed(&mut claims)?;
        self.digest.update(line);
        self.lines += 1;
        match &part {
            Part::Records(records) => {
                self.records += u64::try_from(records.len()).unwrap_or(u64::MAX);
                if self.records > MAX_RECORDS {
                    return Err(Fault::TooManyRecords);
                }
            }
            Part::End => {
                self.whole = Some(Whole {
                    export: self.export.clone().unwrap_or_default(),
                    sender: self.sender.clone().unwrap_or_default(),
                    lines: u64::try_from(self.lines).unwrap_or(0),
                    records: self.records,
                    sha256: encoded(&self.digest),
                });
            }
            Part::Header(_) => {}
        }
        Ok(part)
    }

    /// How many records were read so far.
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// How many lines were read so far.
    pub fn lines(&self) -> u64 {
        u64::try_from(self.lines).unwrap_or(0)
    }

    /// What was read, once the last line was.
    ///
    /// # Errors
    ///
    /// [`Fault::NoEnd`].
    pub fn end(&self) -> Result<&Whole, Fault> {
        self.whole.as_ref().ok_or(Fault::NoEnd)
    }

    /// The claims of a line that is sealed to us and signed by the sender: the same key of each for
    /// the whole file.
    fn open(&mut self, text: &str) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let message = jwe::Unopened::parse(text).map_err(|_| Fault::NotOfTheFormat)?;
        if message.typ() != Some(TYP) || message.cty() != Some(JWT) {
            return Err(Fault::NotOfTheFormat);
        }
        let kid = message.kid().ok_or(Fault::NotOfTheFormat)?;
        let named = |key: &SecretKey| key.public().kid() == kid;
        let found = self.ours.iter().position(named);
        let at = found.ok_or(Fault::OtherRecipient)?;
        if *self.recipient.get_or_insert(at) != at {
            return Err(Fault::OtherFile);
        }
        let key = self.ours.get(at).ok_or(Fault::OtherRecipient)?;
        let signed = message.open(key).map_err(|_| Fault::Unopened)?;
        let signed = std::str::from_utf8(&signed).map_err(|_| Fault::NotOfTheFormat)?;
        let signed = jws::Unverified::parse(signed).map_err(|_| Fault::NotOfTheFormat)?;
        if signed.typ() != Some(TYP) {
            return Err(Fault::NotOfTheFormat);
        }
        let kid = signed.kid().ok_or(Fault::NotOfTheFormat)?;
        let sender = self.senders.iter().find(|key| key.kid() == kid);
        let sender = sender.ok_or(Fault::OtherSender)?;
        let thumbprint = sender.thumbprint();
        if *self.sender.get_or_insert_with(|| thumbprint.clone()) != thumbprint {
            return Err(Fault::OtherFile);
        }
        let claims = signed.verify(sender).map_err(|_| Fault::Signature)?;
        Ok(Zeroizing::new(claims))
    }

    /// What a line says, if it belongs where it stands.
    fn placed(&mut self, claims: &mut Members) -> Result<Part, Fault> {
        let audience = self.recipient.and_then(|at| self.ours.get(at));
        let audience = audience.map(|key| key.public().thumbprint());
        if Some(claims.text("aud").map_err(|_| Fault::Claims)?) != audience.as_deref() {
            return Err(Fault::Audience);
        }
        let export = claims.text("export").map_err(|_| Fault::Claims)?;
        if !is_export(export) {
            return Err(Fault::Claims);
        }
        if self.export.get_or_insert_with(|| export.to_owned()) != export {
            return Err(Fault::OtherFile);
        }
        if claims.number("seq").map_err(|_| Fault::Claims)? != self.lines {
            return Err(Fault::OutOfOrder);
        }
        let parts = ["header", "records", "end"].map(|name| claims.has(name));
        match (parts, self.lines) {
            ([true, false, false], 0) => header(claims),
            ([false, true, false], 1..) => records(claims.take("records")),
            ([false, false, true], 1..) => self.last(claims),
            ([true, false, false], _) | ([false, ..], 0) => Err(Fault::OutOfOrder),
            _ => Err(Fault::Claims),
        }
    }

    fn last(&self, claims: &mut Members) -> Result<Part, Fault> {
        let end = claims.object("end", &END).map_err(|_| Fault::Claims)?;
        let count = end.number("records").map_err(|_| Fault::Claims)?;
        if u64::try_from(count) != Ok(self.records) {
            return Err(Fault::Count);
        }
        if end.text("sha256").map_err(|_| Fault::Claims)? != encoded(&self.digest) {
            return Err(Fault::Digest);
        }
        Ok(Part::End)
    }
}

impl Record {
    fn to_json(&self) -> Value {
        let mut record = json!({
            "account": self.account, "provider": self.provider, "merchant": self.merchant,
            "kind": self.kind, "token": self.token.as_str(),
        });
        if let Some(members) = record.as_object_mut() {
            if self.default {
                members.insert("default".to_owned(), true.into());
            }
            let name = self.payment_method.clone().map(Value::String);
            members.extend(name.map(|name| ("payment_method".to_owned(), name)));
        }
        record
    }

    fn from_json(record: Value) -> Result<Self, Fault> {
        let Value::Object(members) = record else {
            return Err(Fault::Claims);
        };
        let mut members = Members::of(members, &RECORD).map_err(|_| Fault::Claims)?;
        let default = match members.take("default") {
            None => false,
            Some(Value::Bool(default)) => default,
            Some(_) => return Err(Fault::Claims),
        };
        let payment_method = members.take("payment_method").map(text).transpose()?;
        let mut text = |name: &str| members.take(name).map(text).unwrap_or(Err(Fault::Claims));
        Ok(Self {
            account: text("account")?,
            provider: text("provider")?,
            merchant: text("merchant")?,
            kind: text("kind")?,
            token: Zeroizing::new(text("token")?),
            default,
            payment_method,
        })
    }
}

fn header(claims: &mut Members) -> Result<Part, Fault> {
    let header = claims
        .object("header", &HEADER)
        .map_err(|_| Fault::Claims)?;
    if header.number("version").map_err(|_| Fault::Claims)? != VERSION {
        return Err(Fault::Version);
    }
    Ok(Part::Header(Header {
        from: header.text("from").map_err(|_| Fault::Claims)?.to_owned(),
        issued_at: header.number("iat").map_err(|_| Fault::Claims)?,
    }))
}

fn records(records: Option<Value>) -> Result<Part, Fault> {
    let Some(Value::Array(records)) = records else {
        return Err(Fault::Claims);
    };
    if !(1..=MAX_RECORDS_PER_LINE).contains(&records.len()) {
        return Err(Fault::TooManyRecords);
    }
    let records = records.into_iter().map(Record::from_json);
    Ok(Part::Records(records.collect::<Result<_, _>>()?))
}

fn text(value: Value) -> Result<String, Fault> {
    let Value::String(text) = value else {
        return Err(Fault::Claims);
    };
    Ok(text)
}

/// A file's name is 1 to [`MAX_EXPORT_CHARS`] of `A-Za-z0-9_-`.
fn is_export(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=MAX_EXPORT_CHARS).contains(&text.len()) && text.bytes().all(plain)
}

/// The base64url SHA-256 of what was taken so far.
fn encoded(digest: &Context) -> String {
    URL_SAFE_NO_PAD.encode(digest.clone().finish())
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Record(…)")
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writer({}, {} lines)", self.export, self.lines)
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader({} lines)", self.lines)
    }
}
