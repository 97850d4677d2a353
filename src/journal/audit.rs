//! The audit log: a chain of lines that grows at its end only.
//!
//! ```text
//! mac[n]   = HMAC-SHA-256(key, "cardless audit line 1\0" ‖ mac[n-1] ‖ n ‖ head_held ‖ what is said)
//! head.mac = HMAC-SHA-256(key, "cardless audit head 1\0" ‖ mac[n] ‖ n)
//! ```
//!
//! Texts carry their length, numbers are eight bytes, big-endian; before the first line there is
//! the empty MAC. Whoever can write to the database but has no key can't make a line, nor a head:
//! what is changed, dropped, moved or put in between is found and located ([`Check`]). A log that is
//! put back whole to an earlier state, with the head of that time, is found only by somebody who
//! has noted a later head elsewhere.
//!
//! A line that is added to a head which does not hold says so (`head_held`), so that nobody gets a
//! new head over a log that was tampered with.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use subtle::ConstantTimeEq as _;

use super::Journal;
use crate::letters::letters;
use crate::store::{
    AuditChain, AuditEnd, AuditEntry, AuditHeadRow, AuditRow, AuditText, Change, StoreError,
};

/// What a line's bytes begin with.
const LINE: &[u8] = b"cardless audit line 1\0";

/// What a head's bytes begin with.
const HEAD: &[u8] = b"cardless audit head 1\0";

/// How many faults a check keeps; it counts all of them.
const MAX_FAULTS: usize = 100;

/// How many lines are read at once.
const PAGE: u32 = 2000;

/// A MAC under the audit's own key.
type Mac = [u8; 32];

/// Makes a MAC.
type KeyedHash = dyn Fn(&[u8]) -> Mac + Send + Sync;

/// The chain, over a keyed hash that the journal is given.
#[derive(Clone)]
pub(crate) struct Chain(Arc<KeyedHash>);

/// What is wrong with an audit log, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AuditFault {
    /// These lines are not there. The line after them can't be checked without them.
    Missing {
        /// The first of them.
        line: i64,
        /// The last of them.
        to: i64,
    },
    /// Not what was written in this place: changed, moved here, or put in.
    Changed {
        /// Its number.
        line: i64,
    },
    /// When this line was added, the head did not hold: what stands before it was tampered with
    /// before that, whatever it looks like now.
    HeadDidNotHold {
        /// Its number.
        line: i64,
    },
    /// The head is gone.
    HeadMissing,
    /// The head is not what was written, or not the one of the last line.
    HeadChanged,
    /// The log does not have the line that was noted: it was put back to an earlier state, or made
    /// anew.
    NotAsNoted {
        /// The number that was noted.
        line: i64,
    },
}

/// What a check of the audit log has found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct AuditReport {
    /// How many lines there are.
    pub lines: u64,
    /// Number and MAC of the last one, as `COUNT:MAC`: note it where nobody who can write to the
    /// database can change it, and give it to a later check.
    pub head: Option<String>,
    /// What is wrong, in the order of the log; at most 100.
    pub faults: Vec<AuditFault>,
    /// How many faults there are.
    pub fault_count: u64,
}

/// A line that was noted elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditAnchor {
    line: i64,
    mac: String,
}

/// Text is no noted head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a noted head is COUNT:MAC, as `audit verify` has printed it")]
pub struct AuditAnchorError;

/// A walk along the chain, line by line.
#[derive(Debug)]
pub(crate) struct Check {
    chain: Chain,
    noted: Option<AuditAnchor>,
    next: i64,
    /// What the next line's MAC may be over: the MAC that stands in the line before, and, if that
    /// line is at fault, the one that its text has. Nothing if the line before is missing.
    before: Vec<Vec<u8>>,
    report: AuditReport,
}

impl Chain {
    pub(crate) fn new(mac: impl Fn(&[u8]) -> Mac + Send + Sync + 'static) -> Self {
        Self(Arc::new(mac))
    }

    fn line(&self, before: &[u8], row: (i64, bool), said: &AuditText) -> Mac {
        let (sequence, head_held) = row;
        let mut bytes = LINE.to_vec();
        put(&mut bytes, before);
        bytes.extend(sequence.to_be_bytes());
        bytes.push(u8::from(head_held));
        bytes.extend(said.at.millis().to_be_bytes());
        for text in [
            &said.actor,
            &said.role,
            &said.origin,
            &said.action,
            &said.object,
            &said.outcome,
            &said.details,
        ] {
            put(&mut bytes, text.as_bytes());
        }
        (self.0)(&bytes)
    }

    fn head(&self, count: i64, last: &[u8]) -> Mac {
        let mut bytes = HEAD.to_vec();
        put(&mut bytes, last);
        bytes.extend(count.to_be_bytes());
        (self.0)(&bytes)
    }

    fn is_genuine(&self, head: &AuditHeadRow) -> bool {
        same(&self.head(head.count, &head.last), &head.mac)
    }
}

/// Bytes with their length before them, so that no two sequences of texts give the same bytes.
fn put(to: &mut Vec<u8>, bytes: &[u8]) {
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    to.extend(length.to_be_bytes());
    to.extend(bytes);
}

fn same(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

impl AuditChain for Chain {
    fn place(&self, end: &AuditEnd, said: &AuditText) -> (AuditRow, AuditHeadRow) {
        let genuine = end.head.as_ref().filter(|head| self.is_genuine(head));
        let head_held = match (genuine, &end.last) {
            (Some(head), Some((line, mac))) => head.count == *line && same(&head.last, mac),
            (None, None) => end.head.is_none(),
            (Some(_), None) | (None, Some(_)) => false,
        };
        // After whichever is further: a number that the head has seen is never given twice.
        let by_head = genuine.map(|head| (head.count, head.last.clone()));
        let (count, before) = by_head.max(end.last.clone()).unwrap_or_default();
        let sequence = count.saturating_add(1);
        let mac = self.line(&before, (sequence, head_held), said).to_vec();
        let head = AuditHeadRow {
            count: sequence,
            mac: self.head(sequence, &mac).to_vec(),
            last: mac.clone(),
        };
        let line = AuditRow {
            sequence,
            head_held,
            said: said.clone(),
            mac,
        };
        (line, head)
    }
}

impl Check {
    pub(crate) fn new(chain: Chain, noted: Option<AuditAnchor>) -> Self {
        Self {
            chain,
            noted,
            next: 1,
            before: vec![Vec::new()],
            report: AuditReport::default(),
        }
    }

    /// Looks at the next line; lines come by their numbers.
    pub(crate) fn line(&mut self, row: &AuditRow) {
        self.report.lines += 1;
        let line = row.sequence;
        if line < self.next {
            // No number below 1 was ever given.
            return self.fault(AuditFault::Changed { line });
        }
        if line > self.next {
            let (line, to) = (self.next, line - 1);
            self.fault(AuditFault::Missing { line, to });
            self.before.clear();
        }
        self.link(row);
        self.next = line.saturating_add(1);
        let anchor = self.noted.take_if(|noted| noted.line == line);
        if anchor.is_some_and(|noted| noted != anchor_of(line, &row.mac)) {
            self.fault(AuditFault::NotAsNoted { line });
        }
    }

    fn link(&mut self, row: &AuditRow) {
        let said = (row.sequence, row.head_held);
        let made = self.before.iter();
        let made: Vec<Mac> = made
            .map(|before| self.chain.line(before, said, &row.said))
            .collect();
        let fits = made.is_empty() || made.iter().any(|mac| same(mac, &row.mac));
        self.before = vec![row.mac.clone()];
        if fits {
            if !row.head_held {
                self.fault(AuditFault::HeadDidNotHold { line: row.sequence });
            }
            return;
        }
        // If only its MAC was changed, the next line is over the one that it should have.
        self.before
            .extend(made.iter().take(2).map(|mac| mac.to_vec()));
        self.fault(AuditFault::Changed { line: row.sequence });
    }

    pub(crate) const fn seen(&self) -> u64 {
        self.report.lines
    }

    /// The end: compares with the head as it is now.
    pub(crate) fn end(mut self, head: Option<&AuditHeadRow>) -> AuditReport {
        let count = self.next - 1;
        let last = self.before.first().cloned().unwrap_or_default();
        match head {
            None if count == 0 => {}
            None => self.fault(AuditFault::HeadMissing),
            Some(head) if !self.chain.is_genuine(head) => self.fault(AuditFault::HeadChanged),
            Some(head) if head.count > count => {
                let (line, to) = (self.next, head.count);
                self.fault(AuditFault::Missing { line, to });
            }
            // An earlier one, or that of another line under the same number.
            Some(head) if !same(&head.last, &last) => self.fault(AuditFault::HeadChanged),
            Some(_) => {}
        }
        if let Some(AuditAnchor { line, .. }) = self.noted.take() {
            self.fault(AuditFault::NotAsNoted { line });
        }
        self.report.head = (count > 0).then(|| anchor_of(count, &last).to_string());
        self.report
    }

    fn fault(&mut self, fault: AuditFault) {
        self.report.fault_count += 1;
        if self.report.faults.len() < MAX_FAULTS {
            self.report.faults.push(fault);
        }
    }
}

impl Journal {
    /// A line for the batch that makes it true; it gets its place when the batch is applied.
    pub(crate) fn audit(&self, said: AuditText) -> Change {
        let chain: Arc<dyn AuditChain> = Arc::new(self.chain.clone());
        Change::AppendAudit(AuditEntry { said, chain })
    }

    /// Walks along the whole log; `progress` hears how many lines it has seen.
    pub(crate) async fn check_audit(
        &self,
        noted: Option<AuditAnchor>,
        mut progress: impl FnMut(u64) + Send,
    ) -> Result<AuditReport, StoreError> {
        let mut check = Check::new(self.chain.clone(), noted);
        let mut after = i64::MIN;
        loop {
            let page = self.store().audit_after(after, PAGE).await?;
            for row in &page {
                check.line(row);
                after = row.sequence;
            }
            progress(check.seen());
            if !page.is_empty() {
                continue;
            }
            // Lines that were added since the last page stand before the head that is read now.
            let head = self.store().audit_head().await?;
            if self.store().audit_after(after, 1).await?.is_empty() {
                return Ok(check.end(head.as_ref()));
            }
        }
    }
}

impl AuditReport {
    /// Whether nothing is wrong.
    pub const fn is_whole(&self) -> bool {
        self.fault_count == 0
    }
}

/// A line's number and MAC, to be noted elsewhere.
pub(crate) fn anchor_of(line: i64, mac: &[u8]) -> AuditAnchor {
    AuditAnchor {
        line,
        mac: letters(mac),
    }
}

impl std::str::FromStr for AuditAnchor {
    type Err = AuditAnchorError;

    fn from_str(text: &str) -> Result<Self, AuditAnchorError> {
        let (line, mac) = text.trim().split_once(':').ok_or(AuditAnchorError)?;
        let line = line.parse().map_err(|_| AuditAnchorError)?;
        let fits = line > 0 && crate::letters::are_letters(mac, 2 * size_of::<Mac>());
        fits.then(|| Self {
            line,
            mac: mac.to_owned(),
        })
        .ok_or(AuditAnchorError)
    }
}

impl fmt::Display for AuditAnchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.mac)
    }
}

impl fmt::Display for AuditFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { line, to } if line == to => write!(f, "line {line} is missing"),
            Self::Missing { line, to } => write!(f, "lines {line} to {to} are missing"),
            Self::Changed { line } => write!(
                f,
                "line {line} is not what was written there: it was changed, moved or put in"
            ),
            Self::HeadDidNotHold { line } => write!(
                f,
                "the head did not hold when line {line} was added: the log was tampered with before"
            ),
            Self::HeadMissing => f.write_str("the head is missing"),
            Self::HeadChanged => {
                f.write_str("the head is not what was written, or not that of the last line")
            }
            Self::NotAsNoted { line } => write!(
                f,
                "line {line} is not the one that was noted: the log was put back or made anew"
            ),
        }
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chain(…)")
    }
}
