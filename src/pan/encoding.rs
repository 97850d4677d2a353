//! The ways in which a number may stand in a file or a dump, each as text in which the net can
//! look, with the place that every character comes from.

use std::ops::Range;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Serialize;

use super::{Class, MIN_DIGITS, may_hold_a_number};

/// How a number stands in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// As UTF-8, or a character set that shares its digits.
    Text,
    /// In UTF-16, of either byte order and at an odd place too.
    Utf16,
    /// In UTF-32, of either byte order and at any place.
    Utf32,
    /// Escaped once: percent-encoding, quoted-printable, `\u0034`, `\x34`, `&#52;` or `&#x34;`.
    Escaped,
    /// In base64, with either alphabet, and with line breaks.
    Base64,
    /// In hexadecimal, the bytes apart or not.
    Hex,
}

/// A part of a window as text.
pub(super) struct Decoded {
    pub(super) encoding: Encoding,
    pub(super) text: String,
    /// For each byte of the text where in the window it comes from, and the end.
    places: Vec<usize>,
}

/// The shortest stretch of base64 and of hexadecimal that can hold a number.
const MIN_BASE64: usize = MIN_DIGITS * 4 / 3;
const MIN_HEX: usize = MIN_DIGITS * 2;

/// Where no whole group is missing or left over; what remains after the last one is dropped.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Encoding {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Utf16 => "utf16",
            Self::Utf32 => "utf32",
            Self::Escaped => "escaped",
            Self::Base64 => "base64",
            Self::Hex => "hex",
        }
    }
}

impl Decoded {
    fn new(encoding: Encoding) -> Self {
        Self {
            encoding,
            text: String::new(),
            places: Vec::new(),
        }
    }

    /// Where in the window a part of the text stands.
    pub(super) fn place(&self, range: &Range<usize>) -> Range<usize> {
        let place = |at: usize| self.places.get(at).copied().unwrap_or(0);
        place(range.start)..place(range.end)
    }

    fn push(&mut self, character: char, place: usize) {
        self.text.push(character);
        self.places
            .extend(std::iter::repeat_n(place, character.len_utf8()));
    }

    fn end(mut self, place: usize) -> Self {
        self.places.push(place);
        self
    }
}

/// Every way to read a window in which there may be a number, one after the other.
pub(super) fn readings(window: &[u8]) -> impl Iterator<Item = Decoded> + '_ {
    let straight = may_hold_a_number(window).then(|| text(Encoding::Text, window, |at| at));
    straight
        .into_iter()
        .chain(wide(window))
        .chain(escaped(window))
        .chain(base64(window))
        .chain(hex(window))
}

/// Bytes as UTF-8. What is none is the separator that it is in Windows-1252 and Latin-1, or nothing
/// that counts.
fn text(encoding: Encoding, bytes: &[u8], place: impl Fn(usize) -> usize) -> Decoded {
    let mut decoded = Decoded::new(encoding);
    let mut at = 0;
    for chunk in bytes.utf8_chunks() {
        for (offset, character) in chunk.valid().char_indices() {
            decoded.push(character, place(at + offset));
        }
        at += chunk.valid().len();
        for &byte in chunk.invalid() {
            let character = match byte {
                0xa0 => '\u{a0}',
                0xad => '\u{ad}',
                0x96 | 0x97 => '\u{2013}',
                0xb7 => '·',
                _ => char::REPLACEMENT_CHARACTER,
            };
            decoded.push(character, place(at));
            at += 1;
        }
    }
    decoded.end(place(at))
}

/// UTF-16 and UTF-32, from every byte at which a character may begin.
fn wide(window: &[u8]) -> impl Iterator<Item = Decoded> + '_ {
    let orders = [u16::from_le_bytes, u16::from_be_bytes];
    let utf16 = (0..2_usize).flat_map(move |from| orders.map(|order| (from, order)));
    let utf16 = utf16.filter_map(move |(from, order)| utf16_text(window, from, order));
    let orders = [u32::from_le_bytes, u32::from_be_bytes];
    let utf32 = (0..4_usize).flat_map(move |from| orders.map(|order| (from, order)));
    let utf32 = utf32.filter_map(move |(from, order)| utf32_text(window, from, order));
    utf16.chain(utf32)
}

/// What a unit of UTF-16 or UTF-32 can be to a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A digit, or half of what may be one.
    Digit,
    /// What stands between digits.
    Border,
    /// What ends a number.
    Other,
}

impl Kind {
    fn of(character: char) -> Self {
        match Class::of(character) {
            Class::Digit(_) => Self::Digit,
            Class::Border => Self::Border,
            Class::Other => Self::Other,
        }
    }

    fn of_utf16(unit: u16) -> Self {
        /// Of every unit. Half of a pair alone is none, but that is seen later.
        static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(|| {
            let kind = |unit| char::from_u32(unit).map_or(Kind::Digit, Kind::of);
            (0..=u32::from(u16::MAX)).map(kind).collect()
        });
        KINDS.get(usize::from(unit)).copied().unwrap_or(Self::Other)
    }

    fn of_utf32(unit: u32) -> Self {
        match u16::try_from(unit) {
            Ok(unit) => Self::of_utf16(unit),
            Err(_) => char::from_u32(unit).map_or(Self::Other, Self::of),
        }
    }
}

/// Whether there are enough digits with nothing between them that ends a number.
fn may_be_a_number(kinds: impl Iterator<Item = Kind>) -> bool {
    let mut digits = 0;
    for kind in kinds {
        match kind {
            Kind::Digit => digits += 1,
            Kind::Border => {}
            Kind::Other => digits = 0,
        }
        if digits >= MIN_DIGITS {
            return true;
        }
    }
    false
}

fn utf16_text(window: &[u8], from: usize, order: fn([u8; 2]) -> u16) -> Option<Decoded> {
    let bytes = window.get(from..).unwrap_or_default();
    let (units, _) = bytes.as_chunks::<2>();
    if !may_be_a_number(units.iter().map(|&unit| Kind::of_utf16(order(unit)))) {
        return None;
    }
    let mut decoded = Decoded::new(Encoding::Utf16);
    let mut at = from;
    for character in char::decode_utf16(units.iter().map(|&unit| order(unit))) {
        let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
        decoded.push(character, at);
        at += character.len_utf16() * 2;
    }
    Some(decoded.end(at))
}

fn utf32_text(window: &[u8], from: usize, order: fn([u8; 4]) -> u32) -> Option<Decoded> {
    let bytes = window.get(from..).unwrap_or_default();
    let (units, _) = bytes.as_chunks::<4>();
    if !may_be_a_number(units.iter().map(|&unit| Kind::of_utf32(order(unit)))) {
        return None;
    }
    let mut decoded = Decoded::new(Encoding::Utf32);
    let mut at = from;
    for &unit in units {
        let character = char::from_u32(order(unit)).unwrap_or(char::REPLACEMENT_CHARACTER);
        decoded.push(character, at);
        at += 4;
    }
    Some(decoded.end(at))
}

/// The window with its escapes decoded once; `None` if there is none.
fn escaped(window: &[u8]) -> Option<Decoded> {
    if !window.iter().any(|byte| b"%=\\&+".contains(byte)) {
        return None;
    }
    let mut bytes = Vec::with_capacity(window.len());
    let mut places = Vec::with_capacity(window.len() + 1);
    let mut any = false;
    let mut rest = window;
    while let Some((&first, after)) = rest.split_first() {
        let place = window.len() - rest.len();
        let unescaped = unescape(rest);
        any |= unescaped.is_some();
        let (character, after) = match unescaped {
            Some((character, length)) => (character, rest.get(length..).unwrap_or_default()),
            None => (Unescaped::Byte(first), after),
        };
        match character {
            Unescaped::Byte(byte) => bytes.push(byte),
            Unescaped::Character(character) => {
                bytes.extend(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        places.resize(bytes.len(), place);
        rest = after;
    }
    places.push(window.len());
    (any && may_hold_a_number(&bytes)).then(|| {
        text(Encoding::Escaped, &bytes, |at| {
            places.get(at).copied().unwrap_or(window.len())
        })
    })
}

enum Unescaped {
    Byte(u8),
    Character(char),
}

/// What the escape at the beginning stands for, and its length in bytes.
fn unescape(rest: &[u8]) -> Option<(Unescaped, usize)> {
    match rest {
        [b'+', ..] => Some((Unescaped::Byte(b' '), 1)),
        // A soft line break of quoted-printable.
        [b'=', b'\r', b'\n', ..] => Some((Unescaped::Character('\u{ad}'), 3)),
        [b'=', b'\n', ..] => Some((Unescaped::Character('\u{ad}'), 2)),
        [b'%' | b'=', ..] => Some((byte(number(rest.get(1..3)?, 16)?)?, 3)),
        [b'\\', b'x', ..] => Some((byte(number(rest.get(2..4)?, 16)?)?, 4)),
        [b'\\', b'u', ..] => utf16_escape(rest),
        [b'&', b'#', b'x' | b'X', ..] => entity(rest, 3, 16),
        [b'&', b'#', ..] => entity(rest, 2, 10),
        _ => None,
    }
}

/// A character of JSON: `\u0034`, or two of them for one beyond the first plane.
fn utf16_escape(rest: &[u8]) -> Option<(Unescaped, usize)> {
    let unit = |at: usize| {
        let escape = rest.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::try_from(number(escape, 16)?).ok()
    };
    let first = unit(0)?;
    let taken = char::decode_utf16([first]).next()?;
    let (taken, length) = match taken {
        Ok(character) => (character, 6),
        Err(_) => (char::decode_utf16([first, unit(6)?]).next()?.ok()?, 12),
    };
    Some((Unescaped::Character(taken), length))
}

/// A character reference of HTML: at most seven digits, with or without its semicolon.
fn entity(rest: &[u8], from: usize, radix: u32) -> Option<(Unescaped, usize)> {
    let digits = rest.get(from..)?.iter().take(7);
    let length = digits
        .take_while(|&&byte| char::from(byte).is_digit(radix))
        .count();
    let value = number(rest.get(from..from + length)?, radix)?;
    let semicolon = usize::from(rest.get(from + length) == Some(&b';'));
    Some((character(value)?, from + length + semicolon))
}

fn number(digits: &[u8], radix: u32) -> Option<u32> {
    let text = std::str::from_utf8(digits).ok()?;
    // A sign would be taken, too.
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric())
        .then(|| u32::from_str_radix(text, radix).ok())?
}

fn byte(value: u32) -> Option<Unescaped> {
    u8::try_from(value).ok().map(Unescaped::Byte)
}

fn character(value: u32) -> Option<Unescaped> {
    char::from_u32(value).map(Unescaped::Character)
}

/// Every stretch that may be base64, from each of the four places at which a group may begin.
fn base64(window: &[u8]) -> impl Iterator<Item = Decoded> + '_ {
    let letter = |byte: u8| match byte {
        b'-' => Some(b'+'),
        b'_' => Some(b'/'),
        b'+' | b'/' => Some(byte),
        _ => byte.is_ascii_alphanumeric().then_some(byte),
    };
    let skipped = |byte: u8| matches!(byte, b'\r' | b'\n');
    stretches(window, MIN_BASE64, letter, skipped).flat_map(|stretch| {
        (0..4).filter_map(move |from| {
            let letters = stretch.letters.get(from..)?;
            // One letter beyond the last group says nothing.
            let whole = letters.len() - usize::from(letters.len() % 4 == 1);
            let bytes = BASE64.decode(letters.get(..whole)?).ok()?;
            stretch.decoded(Encoding::Base64, &bytes, |at| from + at * 4 / 3)
        })
    })
}

/// Every stretch that may be hexadecimal, from each of the two places at which a byte may begin.
fn hex(window: &[u8]) -> impl Iterator<Item = Decoded> + '_ {
    let letter = |byte: u8| byte.is_ascii_hexdigit().then_some(byte);
    let skipped = |byte: u8| matches!(byte, b' ' | b':' | b'\r' | b'\n');
    stretches(window, MIN_HEX, letter, skipped).flat_map(|stretch| {
        (0..2).filter_map(move |from| {
            let (pairs, _) = stretch.letters.get(from..)?.as_chunks::<2>();
            let bytes = pairs
                .iter()
                .map(|pair| u8::try_from(number(pair, 16)?).ok())
                .collect::<Option<Vec<u8>>>()?;
            stretch.decoded(Encoding::Hex, &bytes, |at| from + at * 2)
        })
    })
}

/// Letters of an alphabet that follow each other, with the place of each.
#[derive(Clone)]
struct Stretch {
    letters: std::rc::Rc<[u8]>,
    places: std::rc::Rc<[usize]>,
}

impl Stretch {
    /// What the stretch's letters stand for, if there may be a number in it.
    fn decoded(
        &self,
        encoding: Encoding,
        bytes: &[u8],
        letter: impl Fn(usize) -> usize,
    ) -> Option<Decoded> {
        let end = self.places.last().map_or(0, |last| last + 1);
        may_hold_a_number(bytes).then(|| {
            text(encoding, bytes, |at| {
                self.places.get(letter(at)).copied().unwrap_or(end)
            })
        })
    }
}

/// The stretches of at least so many letters.
fn stretches(
    window: &[u8],
    min: usize,
    letter: impl Fn(u8) -> Option<u8>,
    skipped: impl Fn(u8) -> bool,
) -> impl Iterator<Item = Stretch> {
    let mut rest = window;
    std::iter::from_fn(move || {
        loop {
            let from = rest.iter().position(|&byte| letter(byte).is_some())?;
            let begun = rest.get(from..)?;
            let length = begun
                .iter()
                .position(|&byte| letter(byte).is_none() && !skipped(byte))
                .unwrap_or(begun.len());
            let (stretch, after) = begun.split_at_checked(length)?;
            let first = window.len() - begun.len();
            rest = after;
            let letters = stretch
                .iter()
                .enumerate()
                .filter_map(|(at, &byte)| Some((letter(byte)?, first + at)));
            let (letters, places): (Vec<u8>, Vec<usize>) = letters.unzip();
            if letters.len() >= min {
                return Some(Stretch {
                    letters: letters.into(),
                    places: places.into(),
                });
            }
        }
    })
}
