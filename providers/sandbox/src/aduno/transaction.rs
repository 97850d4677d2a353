use std::time::Duration;

use cardless_contract::{Currency, Money, Timestamp};
use serde_json::{Map, Value, json};

use super::MERCHANT_ID;
use super::alias::{CardAlias, EXPIRY, FINGERPRINT, card_info};

/// A transaction: a payment, a credit or a check of a card.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) id: String,
    pub(super) kind: Kind,
    pub(super) state: State,
    pub(super) currency: Currency,
    pub(super) refno: String,
    pub(super) auto_settle: bool,
    /// What was asked for; `None` for a registration.
    pub(super) asked: Option<Money>,
    pub(super) authorized: Option<Money>,
    pub(super) settled: Option<Money>,
    /// What was given back of a payment.
    pub(super) credited: Money,
    /// Parts of a settlement: how many came, of how many.
    pub(super) parts: Option<(i64, i64)>,
    /// The payment that a credit gives back.
    pub(super) payment: Option<String>,
    pub(super) fail_reason: Option<&'static str>,
    pub(super) alias: Option<String>,
    pub(super) card: Option<CardAlias>,
    /// There while a customer is involved.
    pub(super) visit: Option<Visit>,
    pub(super) created: Timestamp,
    pub(super) changed: Timestamp,
    history: Vec<Value>,
}

/// What the provider's page needs to know.
#[derive(Debug, Default)]
pub(super) struct Visit {
    pub(super) success_url: Option<String>,
    pub(super) cancel_url: Option<String>,
    pub(super) error_url: Option<String>,
    pub(super) webhook_url: Option<String>,
    pub(super) language: Option<String>,
    pub(super) creates_alias: bool,
    pub(super) authenticates_only: bool,
    /// Ends as a decline, whatever the customer does.
    pub(super) declines: bool,
    /// Takes its time once the customer is done.
    pub(super) lingers: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Payment,
    Credit,
    CardCheck,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Initialized,
    ChallengeRequired,
    ChallengeOngoing,
    Authenticated,
    Authorized,
    Settled,
    Transmitted,
    Canceled,
    Failed,
}

/// How long a customer has (`providers/aduno.md` §4).
const PAGE_WINDOW: Duration = Duration::from_secs(30 * 60);

/// How long a hold stands (§4, "settle window").
const HOLD_WINDOW: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How long it takes until a settlement is handed to the acquirer (§5.6).
const TRANSMISSION_DELAY: Duration = Duration::from_secs(20 * 60);

/// What the acquirer answers to everything that it accepts.
pub(super) const AUTHORIZATION_CODE: &str = "120000";

impl Transaction {
    pub(super) fn new(id: String, kind: Kind, currency: Currency, refno: String) -> Self {
        let nothing = Timestamp::from_millis(0);
        Self {
            id,
            kind,
            state: State::Initialized,
            currency,
            refno,
            auto_settle: false,
            asked: None,
            authorized: None,
            settled: None,
            credited: Money::zero(currency),
            parts: None,
            payment: None,
            fail_reason: None,
            alias: None,
            card: None,
            visit: None,
            created: nothing,
            changed: nothing,
            history: Vec::new(),
        }
    }

    /// Moves on, and writes it into the history.
    pub(super) fn act(&mut self, state: State, action: &str, amount: Option<Money>, at: Timestamp) {
        self.state = state;
        self.changed = at;
        self.remember(action, amount, state != State::Failed, at);
    }

    /// Writes what was done into the history.
    pub(super) fn remember(
        &mut self,
        action: &str,
        amount: Option<Money>,
        success: bool,
        at: Timestamp,
    ) {
        let source = if self.visit.is_some() {
            "redirect"
        } else {
            "api"
        };
        let mut entry = json!({
            "action": action,
            "source": source,
            "date": at,
            "success": success,
            "ip": "203.0.113.9",
        });
        if let (Some(amount), Value::Object(members)) = (amount, &mut entry) {
            members.insert("amount".to_owned(), json!(amount.minor()));
        }
        self.history.push(entry);
    }

    pub(super) fn fail(&mut self, reason: &'static str, at: Timestamp) {
        self.fail_reason = Some(reason);
        self.act(State::Failed, "authorize", self.asked, at);
    }

    /// What time does to it.
    pub(super) fn lapse(&mut self, now: Timestamp) {
        let age = now.since(self.changed);
        match self.state {
            State::Initialized | State::ChallengeRequired => {
                if now.since(self.created) >= PAGE_WINDOW {
                    self.fail("timeout", now);
                }
            }
            State::Authorized if self.kind == Kind::Payment && age >= HOLD_WINDOW => {
                self.act(State::Canceled, "cancel", None, now);
            }
            State::Settled if age >= TRANSMISSION_DELAY => {
                self.state = State::Transmitted;
                self.changed = now;
            }
            State::ChallengeOngoing
            | State::Authenticated
            | State::Authorized
            | State::Settled
            | State::Transmitted
            | State::Canceled
            | State::Failed => {}
        }
    }

    /// `GET /v1/transactions/{id}`, and the body of a webhook.
    pub(super) fn show(&self) -> Value {
        let mut body = json!({
            "transactionId": self.id,
            "merchantId": MERCHANT_ID,
            "type": self.kind.word(),
            "status": self.state.word(),
            "currency": self.currency.code(),
            "refno": self.refno,
            "paymentMethod": self.card.as_ref().map_or("VIS", |card| card.method),
            "detail": self.detail(),
            "history": self.history,
        });
        if let Value::Object(members) = &mut body {
            if let Some(language) = self.visit.as_ref().and_then(|visit| visit.language.clone()) {
                members.insert("language".to_owned(), Value::String(language));
            }
            if let Some(card) = &self.card {
                members.insert("card".to_owned(), self.show_card(card));
            }
        }
        body
    }

    fn detail(&self) -> Value {
        let mut detail = Map::new();
        let mut put = |name: &str, value: Value| detail.insert(name.to_owned(), value);
        if matches!(self.state, State::Initialized | State::ChallengeRequired) {
            put("init", json!({"expires": self.created.plus(PAGE_WINDOW)}));
        }
        if let Some(amount) = self.authorized {
            let code = AUTHORIZATION_CODE;
            let part = json!({"amount": amount.minor(), "acquirerAuthorizationCode": code});
            put("authorize", part);
        }
        if let Some(amount) = self.settled {
            let part = json!({"amount": amount.minor()});
            put(
                if self.kind == Kind::Credit {
                    "credit"
                } else {
                    "settle"
                },
                part,
            );
        }
        if self.state == State::Canceled {
            put("cancel", json!({"reversal": self.authorized.is_some()}));
        }
        if let Some(reason) = self.fail_reason {
            put("fail", json!({"reason": reason, "message": reason}));
        }
        Value::Object(detail)
    }

    fn show_card(&self, card: &CardAlias) -> Value {
        let mut shown = json!({
            "fingerprint": FINGERPRINT,
            "masked": card.masked(),
            "expiryMonth": EXPIRY.0,
            "expiryYear": EXPIRY.1,
            "info": card_info(),
        });
        if let (Some(alias), Value::Object(members)) = (&self.alias, &mut shown) {
            members.insert("alias".to_owned(), Value::String(alias.clone()));
        }
        shown
    }
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Payment => "payment",
            Self::Credit => "credit",
            Self::CardCheck => "card_check",
        }
    }
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Initialized => "initialized",
            Self::ChallengeRequired => "challenge_required",
            Self::ChallengeOngoing => "challenge_ongoing",
            Self::Authenticated => "authenticated",
            Self::Authorized => "authorized",
            Self::Settled => "settled",
            Self::Transmitted => "transmitted",
            Self::Canceled => "canceled",
            Self::Failed => "failed",
        }
    }
}
