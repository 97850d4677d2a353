use std::time::Duration;

use crate::Currency;

/// What a provider can do. The gateway reads it and refuses before it opens a token or sends.
///
/// The contract suite picks its cases by these values, and fails an adapter that claims too much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// Currencies the provider takes, each with the decimals that it can express there.
    /// `None` means that the merchant's contract decides, and ISO 4217's exponent holds.
    pub currencies: Option<&'static [(&'static str, u32)]>,
    /// A capture may take less than was authorized.
    pub partial_capture: bool,
    /// Several captures of one authorization.
    pub several_captures: bool,
    /// A refund may give back less than was captured.
    pub partial_refund: bool,
    /// A refund names one capture, so it can't give back more than that capture took.
    pub refund_per_capture: bool,
    /// A look for a capture or refund finds its sum only
    /// ([`OperationLookup::settled_before`](crate::OperationLookup)), so what somebody else took or gave
    /// back can't be told from ours. The gateway reads the sum before it begins a refund then. Without
    /// it each is found by a name of its own, whatever else there is.
    pub finds_by_sum: bool,
    /// A first payment and the link come out of one visit at the provider. Where this is false the
    /// gateway links first and then charges the new token with initiator `customer`.
    pub setup_takes_payment: bool,
    /// `reserve` already holds the amount, so that a manual capture needs no commit.
    pub reserve_holds: bool,
    /// A payment can be found by our [`Reference`](crate::Reference).
    pub find_by_reference: bool,
    /// When a setup's begin may be sent again after an unknown outcome.
    pub repeat_setup: Repeat,
    /// The same for a reserve.
    pub repeat_reserve: Repeat,
    /// The same for a capture.
    pub repeat_capture: Repeat,
    /// The same for a void.
    pub repeat_void: Repeat,
    /// The same for a refund.
    pub repeat_refund: Repeat,
    /// The longest time that a request of ours can be on its way and still be carried out,
    /// including the clock skew between us and the provider. A "not found" proves something only
    /// if it was asked this long after the last send.
    pub longest_delay: Duration,
    /// How long a customer has to finish at the provider's page. Where the page itself moves money
    /// this is no end: it is how long a customer is expected to take.
    pub customer_window: Duration,
    /// The page that a payment's customer is sent to itself holds or takes the amount, with no
    /// commit of ours behind it. Such a payment ends without money only when a read says that the
    /// provider has ended its object ([`Outcome::Declined`](crate::Outcome::Declined),
    /// [`PaymentPhase::Voided`](crate::PaymentPhase::Voided) or
    /// [`PaymentPhase::Expired`](crate::PaymentPhase::Expired)), however long that takes. Where
    /// this is false the customer only approves, nothing moves before the next commit, and a
    /// payment may end while its page is open.
    pub page_moves_money: bool,
}

/// When the same step may be sent again, with the same key, after its outcome is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// The provider keeps the key for this long after the first send and answers a repeat with
    /// the first result. The gateway subtracts the longest delay.
    Keyed(Duration),
    /// The provider keeps the key for good.
    KeyedForever,
    /// There is no key, or none that holds: only after a question, asked the longest delay after
    /// the last send, has shown that nothing happened.
    AfterQuestion,
}

impl Capabilities {
    /// How many decimals the provider can express in a currency; `None` if it lacks the currency.
    pub fn decimals(&self, currency: Currency) -> Option<u32> {
        match self.currencies {
            None => Some(currency.exponent()),
            Some(list) => list
                .iter()
                .find(|(code, _)| *code == currency.code())
                .map(|(_, decimals)| *decimals),
        }
    }
}
