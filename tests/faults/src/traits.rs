//! How the worlds of two seeds differ, whatever happens in them.

use std::time::Duration;

use crate::random::Random;

/// What a world is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Traits {
    /// PayPal is given the token with the order (`order_flow = "one_call"`).
    pub(crate) one_call: bool,
    /// How long PostFinance's page can be paid.
    pub(crate) page_open_for: Duration,
    /// PayPal's tokens are billing agreements (`token_kind = "billing_agreement"`).
    pub(crate) agreements: bool,
}

/// How many seeds in 100 have PayPal's one-call flow.
const ONE_CALL_PERCENT: u64 = 30;

/// How many seeds in 100 have PayPal's billing agreements.
const AGREEMENTS_PERCENT: u64 = 25;

/// How long PostFinance's page can be paid, in seconds: as long as the gateway expects a customer to
/// take, longer, beyond a day, and beyond the time after which a person must look.
const PAGES_OPEN_FOR: [u64; 4] = [3600, 3 * 3600, 30 * 3600, 40 * 24 * 3600];

/// Keeps these draws apart from those of the schedule.
const APART: u64 = 0x7472_6169_7473;

impl Traits {
    /// The settings as the sandbox prints them.
    pub(crate) const PLAIN: Self = Self {
        one_call: false,
        page_open_for: Duration::from_secs(3 * 3600),
        agreements: false,
    };

    /// Those of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ APART);
        let one_call = random.chance(ONE_CALL_PERCENT);
        let open_for = PAGES_OPEN_FOR.get(random.index(PAGES_OPEN_FOR.len()));
        Self {
            one_call,
            page_open_for: open_for.map_or(Self::PLAIN.page_open_for, |&seconds| {
                Duration::from_secs(seconds)
            }),
            agreements: random.chance(AGREEMENTS_PERCENT),
        }
    }

    /// The providers' settings of such a world.
    pub(crate) fn settings(&self, mut plain: toml::Table) -> toml::Table {
        let paypal = plain
            .get_mut("providers")
            .and_then(|providers| providers.get_mut("paypal"))
            .and_then(toml::Value::as_table_mut);
        if let Some(paypal) = paypal {
            if self.one_call {
                paypal.insert("order_flow".to_owned(), "one_call".into());
            }
            if self.agreements {
                paypal.insert("token_kind".to_owned(), "billing_agreement".into());
            }
        }
        plain
    }

    /// In a line.
    pub(crate) fn show(&self) -> String {
        format!(
            "PayPal is given the token {}, {}; PostFinance's page is open for {} s",
            if self.one_call {
                "with the order"
            } else {
                "after the order"
            },
            if self.agreements {
                "a billing agreement"
            } else {
                "of its vault"
            },
            self.page_open_for.as_secs()
        )
    }
}
