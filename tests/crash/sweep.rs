//! How much of a sweep is run, and which part of it.

use cardless_contract::{Entropy as _, SystemEntropy};

/// What the environment asks for.
#[derive(Debug)]
pub(crate) struct Scope {
    /// Every point: `CARDLESS_CRASH_POINTS=all`.
    pub(crate) all: bool,
    /// What chooses the points otherwise: `CARDLESS_CRASH_SEED`, or a new one each time.
    pub(crate) seed: u64,
    /// Only cases whose names begin so: `CARDLESS_CRASH_ONLY`.
    pub(crate) only: Option<String>,
}

/// Numbers that follow from a seed (SplitMix64).
#[derive(Debug)]
pub(crate) struct Seed(u64);

impl Scope {
    pub(crate) fn of_environment() -> Self {
        let seed = std::env::var("CARDLESS_CRASH_SEED");
        Self {
            all: std::env::var("CARDLESS_CRASH_POINTS").is_ok_and(|points| points == "all"),
            seed: seed.map_or_else(|_| fresh(), |seed| seed.parse().unwrap()),
            only: std::env::var("CARDLESS_CRASH_ONLY").ok(),
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.only, self.all) {
            (Some(only), _) => write!(f, "only {only}"),
            (None, true) => f.write_str("all points"),
            (None, false) => write!(f, "a sample, CARDLESS_CRASH_SEED={}", self.seed),
        }
    }
}

impl Seed {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % u64::try_from(limit).unwrap()).unwrap()
    }
}

fn fresh() -> u64 {
    let mut bytes = [0; 8];
    SystemEntropy.fill(&mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}
