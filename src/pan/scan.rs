//! The net over files and dumps: a window after the other, in memory that does not grow with the
//! file.

use std::io::{self, Read};
use std::ops::Range;

use serde::Serialize;

use super::encoding::{Encoding, readings};
use super::{Numbers, digits_of};

/// A place in a file where something passes for a card number. It does not hold the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where it begins, in bytes from the file's beginning.
    pub offset: u64,
    /// How it stands there.
    pub encoding: Encoding,
    /// The brand whose numbers look like it, as `visa`.
    pub rule: &'static str,
}

/// A look through one file.
#[derive(Debug)]
pub struct Scan<R> {
    reader: R,
    window: Vec<u8>,
    /// How far into the file the window begins.
    offset: u64,
    /// How much of the window was there before.
    seen: usize,
    ended: bool,
    previous: Vec<Finding>,
    /// The digits of the one number that is looked for; any if there is none.
    wanted: Option<Vec<u8>>,
}

/// How many new bytes a window takes.
const STEP_BYTES: usize = 64 * 1024;

/// How many bytes of a window are looked at again with the next: more than any number takes.
const OVERLAP_BYTES: usize = 4 * 1024;

/// What ends this near to a window's end may go on beyond it, and is left to the next window.
const GUARD_BYTES: usize = 64;

/// What begins this near to a window's beginning may have begun before it: the longest character.
const CUT_BYTES: usize = 4;

/// Two windows may place the same number so many bytes apart: a group of base64.
const SAME_WITHIN_BYTES: u64 = 8;

impl<R: Read> Scan<R> {
    /// Begins to look through what the reader gives.
    pub fn new(reader: R) -> Self {
        Self {
            reader,
            window: Vec::with_capacity(OVERLAP_BYTES + STEP_BYTES),
            offset: 0,
            seen: 0,
            ended: false,
            previous: Vec::new(),
            wanted: None,
        }
    }

    /// The same for one number only, as one that was planted to see whether it stays somewhere.
    pub fn only(reader: R, number: &str) -> Self {
        Self {
            wanted: Some(digits_of(number)),
            ..Self::new(reader)
        }
    }

    /// How many bytes have been read.
    pub fn bytes(&self) -> u64 {
        self.offset + u64::try_from(self.window.len()).unwrap_or(u64::MAX)
    }

    /// Looks through the next window; `None` once there is no more.
    ///
    /// # Errors
    ///
    /// What the reader says.
    pub fn step(&mut self) -> io::Result<Option<Vec<Finding>>> {
        if self.ended {
            return Ok(None);
        }
        self.slide();
        let step = u64::try_from(STEP_BYTES).unwrap_or(u64::MAX);
        let taken = self
            .reader
            .by_ref()
            .take(step)
            .read_to_end(&mut self.window)?;
        self.ended = taken < STEP_BYTES;
        let mut findings = Vec::new();
        for reading in readings(&self.window) {
            for (hit, range) in Numbers::of(&reading.text) {
                if !self.wants(reading.text.get(range.clone()).unwrap_or_default()) {
                    continue;
                }
                let finding = self.finding(&reading.place(&range), reading.encoding, hit.rule);
                findings.extend(finding.filter(|finding| !is_known(&findings, finding)));
            }
        }
        findings.sort_unstable_by_key(|finding| finding.offset);
        findings.retain(|finding| !is_known(&self.previous, finding));
        self.previous.clone_from(&findings);
        Ok(Some(findings))
    }

    fn wants(&self, number: &str) -> bool {
        let wanted = self.wanted.as_ref();
        wanted.is_none_or(|wanted| *wanted == digits_of(number))
    }

    /// Keeps the end of the window for the next one.
    fn slide(&mut self) {
        let gone = self.window.len().saturating_sub(OVERLAP_BYTES);
        self.window.drain(..gone);
        self.offset += u64::try_from(gone).unwrap_or(u64::MAX);
        self.seen = self.window.len();
    }

    /// A number at a place of the window, unless another window tells of it, or its beginning is
    /// cut off.
    fn finding(
        &self,
        place: &Range<usize>,
        encoding: Encoding,
        rule: &'static str,
    ) -> Option<Finding> {
        let told_before = place.end + GUARD_BYTES < self.seen;
        let told_later = !self.ended && place.end + GUARD_BYTES > self.window.len();
        let is_cut = place.start < CUT_BYTES && self.offset > 0;
        let offset = self.offset + u64::try_from(place.start).unwrap_or(u64::MAX);
        (!told_before && !told_later && !is_cut).then_some(Finding {
            offset,
            encoding,
            rule,
        })
    }
}

/// Whether the number was found before: by another reading, or by the window before.
fn is_known(known: &[Finding], finding: &Finding) -> bool {
    known
        .iter()
        .any(|one| one.offset.abs_diff(finding.offset) <= SAME_WITHIN_BYTES)
}
