//! The card number net: finds what passes for a card number in any text that comes in or goes to
//! the log, so that it is refused before anything of it is kept.
//!
//! A *run* is a stretch of decimal digits of any script, with nothing but spaces, dots, hyphens
//! and format characters between them; each of those is a *group border*, as are the ends of the
//! run. Tested is the whole run and every stretch of 12 to 19 digits between two borders: by the
//! issuer ranges of the card brands, by their lengths, and by the check digit (ISO/IEC 7812-1).
//!
//! One exception: a UUID is no number. One in ten numbers has a fitting check digit, so the net
//! also catches numbers that are no card. Ids of ours can't be caught: they hold no digit.
//!
//! [`find`] stands before what comes in, and each refusal is told and counted ([`refused`]);
//! [`withhold`] stands before the log; [`Scan`] looks through files and dumps, in every encoding in
//! which a number may stand there. What can hold no number is passed over.

mod alarm;
mod encoding;
mod scan;

use std::borrow::Cow;
use std::ops::{Range, RangeInclusive};

use cardless_contract::Timestamp;
use unicode_general_category::{GeneralCategory, get_general_category};

pub(crate) use alarm::alarm;
pub use alarm::refused;
pub use encoding::Encoding;
pub use scan::{Finding, Scan};

/// That a text holds what passes for a card number. It says by which rule and never which number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    /// The brand whose numbers look like it, as `visa`.
    pub rule: &'static str,
}

/// A brand's issuer range, by the first six digits, and the lengths of its numbers.
struct Brand {
    rule: &'static str,
    issuers: RangeInclusive<u32>,
    lengths: RangeInclusive<usize>,
}

/// The shortest and the longest card number (ISO/IEC 7812-1).
const MIN_DIGITS: usize = 12;
const MAX_DIGITS: usize = 19;

/// The shapes of a UUID: `V` is its version, `R` begins its variant, `x` is any half byte.
const UUID: &[u8] = b"xxxxxxxx-xxxx-Vxxx-Rxxx-xxxxxxxxxxxx";
const UUID_WITHOUT_HYPHENS: &[u8] = b"xxxxxxxxxxxxVxxxRxxxxxxxxxxxxxxx";

/// How many leading digits name the issuer.
const ISSUER_DIGITS: usize = 6;

/// The ranges as the brands publish them, the narrower ones of other brands before Maestro's,
/// which take whatever is left of 50 and 56 to 69.
const BRANDS: &[Brand] = &[
    brand("visa", 400_000..=499_999, 13..=13),
    brand("visa", 400_000..=499_999, 16..=16),
    brand("visa", 400_000..=499_999, 18..=19),
    brand("mastercard", 510_000..=559_999, 16..=16),
    brand("mastercard", 222_100..=272_099, 16..=16),
    brand("american_express", 340_000..=349_999, 15..=15),
    brand("american_express", 370_000..=379_999, 15..=15),
    brand("diners_club", 300_000..=305_999, 14..=19),
    brand("diners_club", 309_500..=309_599, 14..=19),
    brand("diners_club", 360_000..=369_999, 14..=19),
    brand("diners_club", 380_000..=399_999, 14..=19),
    brand("jcb", 352_800..=358_999, 16..=19),
    brand("jcb", 213_100..=213_199, 15..=15),
    brand("jcb", 180_000..=180_099, 15..=15),
    brand("discover", 601_100..=601_199, 16..=19),
    brand("discover", 644_000..=659_999, 16..=19),
    brand("unionpay", 620_000..=629_999, 16..=19),
    brand("unionpay", 810_000..=819_999, 16..=19),
    brand("rupay", 820_000..=829_999, 16..=16),
    brand("mir", 220_000..=220_499, 16..=19),
    brand("troy", 979_200..=979_299, 16..=16),
    brand("uatp", 100_000..=199_999, 15..=15),
    brand("maestro", 500_000..=509_999, 12..=19),
    brand("maestro", 560_000..=699_999, 12..=19),
];

const fn brand(
    rule: &'static str,
    issuers: RangeInclusive<u32>,
    lengths: RangeInclusive<usize>,
) -> Brand {
    Brand {
        rule,
        issuers,
        lengths,
    }
}

/// What stands in the log in the place of a number.
const WITHHELD: &str = "[card number withheld]";

/// Looks for a card number in a text. Takes no memory.
pub fn find(text: &str) -> Option<Hit> {
    Numbers::of(text).next().map(|(hit, _)| hit)
}

/// The text without what passes for a card number in it: for the log, which must hold none even if
/// something before it has failed to refuse one.
pub fn withhold(text: &str) -> Cow<'_, str> {
    let mut kept = String::new();
    let mut from = 0;
    for (_, range) in Numbers::of(text) {
        kept.push_str(text.get(from..range.start).unwrap_or_default());
        kept.push_str(WITHHELD);
        from = range.end;
    }
    if from == 0 {
        return Cow::Borrowed(text);
    }
    kept.push_str(text.get(from..).unwrap_or_default());
    Cow::Owned(kept)
}

/// The numbers of a text that pass for a card number, one after the other, each with the bytes from
/// its first to its last digit. Of those that overlap, the one that ends first, at its longest.
struct Numbers<'a> {
    text: &'a str,
    at: usize,
    /// Up to where it is worth looking; nothing is known of what follows.
    until: usize,
    previous: Option<char>,
    run: Run,
}

impl<'a> Numbers<'a> {
    const fn of(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            until: 0,
            previous: None,
            run: Run::new(),
        }
    }

    /// Goes on to the next stretch that may hold a number; `None` if there is none.
    fn skip(&mut self) -> Option<()> {
        let bytes = self.text.as_bytes();
        let stretch = stretch(bytes, self.at)?;
        // A UUID that reaches into it is taken from its beginning.
        let before = bytes.get(self.at..stretch.start)?.iter().rev();
        let of_a_uuid = |byte: &&u8| byte.is_ascii_hexdigit() || **byte == b'-';
        let begin = stretch.start - before.take_while(of_a_uuid).count();
        if begin > self.at {
            self.previous = self.text.get(..begin)?.chars().next_back();
            self.at = begin;
        }
        self.until = stretch.end;
        Some(())
    }
}

impl Iterator for Numbers<'_> {
    type Item = (Hit, Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.run.length == 0 && self.at >= self.until {
                self.skip()?;
            }
            let rest = self.text.get(self.at..)?;
            let (class, taken, after) = next(self.previous, rest);
            if !matches!(class, Some(Class::Digit(_)))
                && let Some(found) = self.run.hit()
            {
                self.run = Run::new();
                return Some(found);
            }
            let end = self.text.len() - after.len();
            self.run.take(class?, self.at..end);
            self.previous = taken;
            self.at = end;
        }
    }
}

/// Whether a text is what Datatrans calls a transaction: 18 digits, of which the first six are a date
/// (YYMMDD). In some years one in ten of them passes for a card number, as in 2036, so that whoever
/// looks at a place where nothing but such an id belongs asks this first.
pub(crate) fn is_dated_id(text: &str) -> bool {
    const DIGITS: usize = 18;
    let mut pairs = text.as_bytes().as_chunks::<2>().0.iter();
    let mut pair = || pairs.next().and_then(|pair| std::str::from_utf8(pair).ok());
    let (Some(year), Some(month), Some(day)) = (pair(), pair(), pair()) else {
        return false;
    };
    let midnight = format!("20{year}-{month}-{day}T00:00:00Z");
    text.len() == DIGITS
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && Timestamp::parse_rfc3339(&midnight).is_some()
}

/// Looks for a card number in a URL, its path or its query: as it stands, and percent-decoded once
/// with `+` as a space.
pub fn find_in_url(url: &str) -> Option<Hit> {
    find(url).or_else(|| decode(url).and_then(|decoded| find(&decoded)))
}

/// What stands next, its last character, and what follows it. A UUID is taken in one piece.
fn next(previous: Option<char>, rest: &str) -> (Option<Class>, Option<char>, &str) {
    if !previous.is_some_and(char::is_alphanumeric)
        && let Some((uuid, after)) = split_uuid(rest)
    {
        return (Some(Class::Other), uuid.chars().next_back(), after);
    }
    let mut characters = rest.chars();
    let character = characters.next();
    (character.map(Class::of), character, characters.as_str())
}

/// Splits off a UUID (RFC 9562, with its hyphens or without) if the text begins with one that has
/// a letter and ends as a word ends. One in a thousand random UUIDs would pass for a card number,
/// and callers use them as `Idempotency-Key`, where a refusal is a payment that can't be made.
fn split_uuid(text: &str) -> Option<(&str, &str)> {
    [UUID, UUID_WITHOUT_HYPHENS].into_iter().find_map(|shape| {
        let (uuid, after) = text.split_at_checked(shape.len())?;
        let shaped = uuid.bytes().zip(shape).all(|(byte, place)| match place {
            b'-' => byte == b'-',
            b'V' => matches!(byte, b'1'..=b'8'),
            b'R' => matches!(byte, b'8' | b'9' | b'a' | b'b' | b'A' | b'B'),
            _ => byte.is_ascii_hexdigit(),
        });
        let has_letter = uuid.bytes().any(|byte| byte.is_ascii_alphabetic());
        let ends = !after.chars().next().is_some_and(char::is_alphanumeric);
        (shaped && has_letter && ends).then_some((uuid, after))
    })
}

/// What a character is to the net.
#[derive(Clone, Copy)]
enum Class {
    Digit(u8),
    Border,
    Other,
}

/// The last digits of a run, the newest at the end, where each begins, and which of them begin a
/// group.
struct Run {
    digits: [u8; MAX_DIGITS],
    begins: [usize; MAX_DIGITS],
    begins_group: [bool; MAX_DIGITS],
    /// Where the newest ends.
    end: usize,
    /// How many digits the run has; it may be more than are kept.
    length: usize,
    at_border: bool,
}

impl Run {
    const fn new() -> Self {
        Self {
            digits: [0; MAX_DIGITS],
            begins: [0; MAX_DIGITS],
            begins_group: [false; MAX_DIGITS],
            end: 0,
            length: 0,
            at_border: true,
        }
    }

    fn take(&mut self, class: Class, place: Range<usize>) {
        match class {
            Class::Digit(value) => {
                push(&mut self.digits, value);
                push(&mut self.begins, place.start);
                push(&mut self.begins_group, self.at_border);
                self.end = place.end;
                self.length = self.length.saturating_add(1);
                self.at_border = false;
            }
            Class::Border => self.at_border = true,
            Class::Other => *self = Self::new(),
        }
    }

    /// Tests every stretch that ends with the newest digit and begins with a group, the longest
    /// first.
    fn hit(&self) -> Option<(Hit, Range<usize>)> {
        if self.at_border {
            return None;
        }
        let lengths = MIN_DIGITS..=self.length.min(MAX_DIGITS);
        lengths.rev().find_map(|length| {
            let first = MAX_DIGITS.checked_sub(length)?;
            if !*self.begins_group.get(first)? {
                return None;
            }
            let hit = test(self.digits.get(first..)?)?;
            Some((hit, *self.begins.get(first)?..self.end))
        })
    }
}

impl Class {
    fn of(character: char) -> Self {
        match character {
            '0'..='9' => Self::digit(u32::from(character), u32::from('0')),
            ' ' | '\t' | '\n' | '\r' | '.' | '-' => Self::Border,
            '\0'..='\x7f' => Self::Other,
            _ => Self::beyond_ascii(character),
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the net names the categories it takes"
    )]
    fn beyond_ascii(character: char) -> Self {
        match get_general_category(character) {
            GeneralCategory::DecimalNumber => Self::digit(
                u32::from(character),
                u32::from(first_of_its_block(character)),
            ),
            GeneralCategory::SpaceSeparator
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
            | GeneralCategory::DashPunctuation
            | GeneralCategory::Format
            // What is drawn on, around or with the digit before it, or not at all: accents, key
            // caps, variation selectors.
            | GeneralCategory::NonspacingMark
            | GeneralCategory::EnclosingMark => Self::Border,
            _ => match character {
                // Hangul fillers, which show nothing.
                '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' => Self::Border,
                // Minus sign and hyphen bullet; middle dot, one dot leader, hyphenation point and
                // the full-width full stop. Next line.
                '\u{2212}' | '\u{2043}' | '·' | '\u{2024}' | '\u{2027}' | '\u{ff0e}' | '\u{85}' => {
                    Self::Border
                }
                _ => Self::Other,
            },
        }
    }

    /// A digit's value by its distance from a zero of its script. Scripts have their ten digits
    /// side by side and in order (Unicode Standard, section 4.6), and blocks of ten may touch.
    fn digit(character: u32, zero: u32) -> Self {
        u8::try_from(character.saturating_sub(zero) % 10).map_or(Self::Other, Self::Digit)
    }
}

/// The first character of the unbroken stretch of decimal digits that holds `digit`: a zero. The
/// longest such stretch is the fifty mathematical digits.
fn first_of_its_block(digit: char) -> char {
    ('\0'..digit)
        .rev()
        .take_while(|&before| get_general_category(before) == GeneralCategory::DecimalNumber)
        .last()
        .unwrap_or(digit)
}

/// Whether a number may stand somewhere in a text.
fn may_hold_a_number(text: &[u8]) -> bool {
    stretch(text, 0).is_some()
}

/// The next stretch, at or after `from`, that may hold a number: without a character of ASCII that
/// ends one, and with enough that could be digits. Every digit outside of ASCII has one byte that
/// begins it.
fn stretch(text: &[u8], from: usize) -> Option<Range<usize>> {
    let (mut begin, mut digits) = (from, 0);
    for (at, byte) in (from..).zip(text.get(from..)?) {
        match byte {
            b'0'..=b'9' | 0xc0.. => digits += 1,
            b' ' | b'\t' | b'\n' | b'\r' | b'.' | b'-' | 0x80..=0xbf => {}
            _ if digits >= MIN_DIGITS => return Some(begin..at),
            _ => (begin, digits) = (at + 1, 0),
        }
    }
    (digits >= MIN_DIGITS).then_some(begin..text.len())
}

/// The digits of a text, whatever their script and whatever stands between them.
fn digits_of(text: &str) -> Vec<u8> {
    let classes = text.chars().map(Class::of);
    let digits = classes.filter_map(|class| match class {
        Class::Digit(value) => Some(value),
        Class::Border | Class::Other => None,
    });
    digits.collect()
}

/// Whether these digits pass for a card number.
fn test(digits: &[u8]) -> Option<Hit> {
    let issuer = digits
        .get(..ISSUER_DIGITS)?
        .iter()
        .fold(0, |value: u32, digit| value * 10 + u32::from(*digit));
    let brand = BRANDS
        .iter()
        .find(|brand| brand.issuers.contains(&issuer) && brand.lengths.contains(&digits.len()))?;
    has_check_digit(digits).then_some(Hit { rule: brand.rule })
}

/// The formula of Luhn (ISO/IEC 7812-1, annex B): every second digit from the right counts double,
/// in digits; the sum is a multiple of ten.
fn has_check_digit(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, u32::from(*digit)) {
            (0, digit) => digit,
            (_, digit) => digit * 2 / 10 + digit * 2 % 10,
        })
        .sum();
    sum.is_multiple_of(10)
}

fn push<T: Copy>(items: &mut [T; MAX_DIGITS], item: T) {
    items.rotate_left(1);
    if let Some(last) = items.last_mut() {
        *last = item;
    }
}

/// The URL percent-decoded once; `None` if there is nothing to decode.
fn decode(url: &str) -> Option<String> {
    if !url.contains(['%', '+']) {
        return None;
    }
    let mut bytes = Vec::with_capacity(url.len());
    let mut rest = url.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let (byte, after) = match first {
            b'%' => escaped(after).unwrap_or((first, after)),
            b'+' => (b' ', after),
            _ => (first, after),
        };
        bytes.push(byte);
        rest = after;
    }
    Some(match String::from_utf8_lossy(&bytes) {
        Cow::Borrowed(text) => text.to_owned(),
        Cow::Owned(text) => text,
    })
}

/// The byte of two hexadecimal digits, and what follows them.
fn escaped(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let ([high, low], rest) = bytes.split_first_chunk::<2>()?;
    let value = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|v| u8::try_from(v).ok())
    };
    Some((value(*high)? << 4 | value(*low)?, rest))
}

#[cfg(test)]
mod tests;
