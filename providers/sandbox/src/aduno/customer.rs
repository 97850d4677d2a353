use std::time::Duration;

use bytes::Bytes;
use cardless_transport::Response;
use http::Method;
use ring::hmac;
use url::Url;

use crate::dialect::{Call, Mode, OutgoingWebhook, PENDING_SECONDS, World};
use crate::page::{self, Decision};

use super::transaction::{State, Transaction};
use super::{Aduno, WEBHOOK_KEY};

impl Aduno {
    /// The hosted page, `/v1/start/{id}`.
    pub(super) fn customer(&mut self, id: &str, call: &Call, world: &mut World<'_>) -> Response {
        let Some(transaction) = self.transactions.get(id) else {
            return page::html(404, "<html><h1>no such payment</h1></html>".to_owned());
        };
        if call.method != Method::POST {
            return transaction.page();
        }
        let Some(decision) = Decision::from_form(&call.body) else {
            return page::html(400, "<html><h1>no such decision</h1></html>".to_owned());
        };
        if transaction.waits_for_customer() {
            self.decide(id, decision, call.mode, world);
        }
        match self.transactions.get(id).and_then(Transaction::way_back) {
            Some(url) => page::see_other(&url),
            None => page::html(200, "<html><h1>done</h1></html>".to_owned()),
        }
    }

    /// Challenges that take their time end well.
    pub(super) fn conclude_challenges(&mut self, world: &mut World<'_>) {
        let delay = Duration::from_secs(PENDING_SECONDS);
        let due: Vec<String> = self
            .transactions
            .values()
            .filter(|transaction| transaction.state == State::ChallengeOngoing)
            .filter(|transaction| world.now.since(transaction.changed) >= delay)
            .map(|transaction| transaction.id.clone())
            .collect();
        for id in due {
            self.approve(&id, world);
        }
    }

    fn decide(&mut self, id: &str, decision: Decision, mode: Mode, world: &mut World<'_>) {
        let Some(transaction) = self.transactions.get_mut(id) else {
            return;
        };
        let visit = transaction.visit.get_or_insert_default();
        visit.declines |= mode == Mode::Decline;
        visit.lingers |= mode == Mode::Pending;
        let (declines, lingers) = (visit.declines, visit.lingers);
        match decision {
            Decision::Abandon => transaction.act(State::Canceled, "cancel", None, world.now),
            Decision::Decline => transaction.fail("declined", world.now),
            Decision::Approve if declines => transaction.fail("declined", world.now),
            Decision::Approve if lingers => {
                transaction.act(State::ChallengeOngoing, "authenticate", None, world.now);
                return;
            }
            Decision::Approve => return self.approve(id, world),
        }
        notify(transaction, world);
    }

    /// The customer has agreed: the card is registered, the amount held or taken.
    fn approve(&mut self, id: &str, world: &mut World<'_>) {
        let wants_alias = self
            .transactions
            .get(id)
            .and_then(|transaction| transaction.visit.as_ref())
            .is_some_and(|visit| visit.creates_alias);
        let new_alias = wants_alias.then(|| self.new_alias(world));
        let shown = new_alias
            .as_ref()
            .and_then(|alias| self.aliases.get(alias).cloned());
        let Some(transaction) = self.transactions.get_mut(id) else {
            return;
        };
        if transaction.card.is_none() {
            transaction.card = shown;
            transaction.alias = new_alias;
        }
        let only_authenticates = transaction
            .visit
            .as_ref()
            .is_some_and(|visit| visit.authenticates_only);
        let refused = |amount| {
            let card = transaction.card.as_ref();
            card.is_some_and(|card| card.refuses(amount).is_some())
        };
        match transaction.asked {
            None => transaction.register(world.now),
            Some(_) if only_authenticates => {
                transaction.act(State::Authenticated, "authenticate", None, world.now);
            }
            Some(amount) if refused(amount) => transaction.fail("declined", world.now),
            Some(amount) => transaction.hold(amount, world),
        }
        notify(transaction, world);
    }
}

impl Transaction {
    const fn waits_for_customer(&self) -> bool {
        matches!(self.state, State::Initialized | State::ChallengeRequired)
    }

    fn page(&self) -> Response {
        let what = self.asked.map_or_else(
            || "registration of a card".to_owned(),
            |amount| amount.to_string(),
        );
        page::decision_page(
            "Aduno sandbox",
            &[("Reference", &self.refno), ("Amount", &what)],
        )
    }

    /// Where the browser goes: one of three addresses, with the transaction's id added.
    fn way_back(&self) -> Option<String> {
        let visit = self.visit.as_ref()?;
        let url = match self.state {
            State::Canceled => visit.cancel_url.as_deref(),
            State::Failed => visit.error_url.as_deref(),
            State::Initialized
            | State::ChallengeRequired
            | State::ChallengeOngoing
            | State::Authenticated
            | State::Authorized
            | State::Settled
            | State::Transmitted => visit.success_url.as_deref(),
        }?;
        let mut url = Url::parse(url).ok()?;
        url.query_pairs_mut()
            .append_pair("datatransTrxId", &self.id);
        Some(url.into())
    }
}

/// A webhook, for what a customer has taken part in and for nothing else
/// (`providers/aduno.md` §9.1).
fn notify(transaction: &Transaction, world: &mut World<'_>) {
    let named = transaction
        .visit
        .as_ref()
        .and_then(|visit| visit.webhook_url.as_deref());
    let Some(url) = named.or(world.webhook_url).map(str::to_owned) else {
        return;
    };
    let body = Bytes::from(transaction.show().to_string());
    let signature = sign(world.now.millis(), &body);
    world.webhooks.push(OutgoingWebhook {
        url,
        headers: vec![
            ("Content-Type".to_owned(), "application/json".to_owned()),
            ("Datatrans-Signature".to_owned(), signature),
        ],
        body,
    });
}

/// `t=<milliseconds>,s0=<HMAC-SHA256 of t and body>`, without a separator (§9.2).
fn sign(millis: i64, body: &[u8]) -> String {
    let time = millis.to_string();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(time.as_bytes());
    context.update(body);
    let mac: String = context
        .sign()
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("t={time},s0={mac}")
}

fn key_bytes() -> Vec<u8> {
    let digits: Vec<u8> = WEBHOOK_KEY
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .filter_map(|digit| u8::try_from(digit).ok())
        .collect();
    digits
        .chunks_exact(2)
        .map(|pair| pair.iter().fold(0, |byte, digit| byte * 16 + digit))
        .collect()
}
