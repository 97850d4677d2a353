//! Texts and values that look random and are the same in every run.

use serde_json::{Map, Value};

/// What texts are made of: what JSON must escape, what is long in UTF-8, what is invisible.
const PIECES: [&str; 24] = [
    "a",
    "Z",
    "7",
    " ",
    "\"",
    "\\",
    "/",
    "<",
    "&",
    "\n",
    "\u{0}",
    "\u{1f}",
    "\u{7f}",
    "é",
    "ß",
    "漢",
    "한",
    "😀",
    "e\u{301}",
    "\u{2028}",
    "\u{200b}",
    "\u{feff}",
    "\u{ffff}",
    "\u{10ffff}",
];

/// The largest whole number that every JSON reader takes for what it is: 2^53 - 1.
const MAX_SAFE: i64 = 9_007_199_254_740_991;

/// A sequence of numbers (SplitMix64).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: usize) -> Self {
        Self(u64::try_from(seed).unwrap())
    }

    /// True but once in so many times.
    pub(crate) fn unless_one_in(&mut self, times: usize) -> bool {
        self.below(times) != 0
    }

    /// Text of fewer pieces than `pieces`.
    pub(crate) fn text(&mut self, pieces: usize) -> String {
        let length = self.below(pieces);
        (0..length)
            .map(|_| PIECES[self.below(PIECES.len())])
            .collect()
    }

    /// Any value, with objects and lists at most so deep.
    pub(crate) fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 4 } else { 7 }) {
            0 => Value::Null,
            1 => (self.below(2) == 0).into(),
            2 => self.number().into(),
            3 => self.text(200).into(),
            4 => (0..self.below(6)).map(|_| self.value(depth - 1)).collect(),
            _ => {
                let length = self.below(8);
                let members = (0..length).map(|_| (self.text(12), self.value(depth - 1)));
                Value::Object(members.collect::<Map<_, _>>())
            }
        }
    }

    fn number(&mut self) -> i64 {
        let edges = [0, 1, -1, MAX_SAFE, -MAX_SAFE];
        match self.below(10) {
            n if n < edges.len() => edges[n],
            _ => i64::try_from(self.next() >> 11).unwrap(),
        }
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
