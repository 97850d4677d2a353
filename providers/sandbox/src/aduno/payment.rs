use std::time::Duration;

use bytes::Bytes;
use cardless_contract::{Money, Timestamp};
use http::HeaderValue;
use http::header::LOCATION;
use serde_json::{Value, json};

use crate::dialect::{Mode, PENDING_SECONDS, World};
use crate::ledger::EntryKind;

use super::alias::CardAlias;
use super::fields::Fields;
use super::transaction::{AUTHORIZATION_CODE, Kind, State, Transaction, Visit};
use super::{Aduno, Answer, Refused, declined, json_answer, no_content};

/// How many digits the id of a transaction has.
const ID_DIGITS: usize = 18;

/// Up to here a test card with limits is authorized (`providers/aduno.md` §13), in minor units.
const LIMIT_AUTHORIZED: i64 = 9_000;
/// Up to here it is declined.
const LIMIT_DECLINED: i64 = 10_000;
/// Above this it is blocked; the table leaves what lies between open, and it is authorized here.
const LIMIT_BLOCKED: i64 = 11_000;

const INIT_MEMBERS: [&str; 47] = [
    "currency",
    "refno",
    "refno2",
    "autoSettle",
    "customer",
    "billing",
    "shipping",
    "order",
    "card",
    "BON",
    "PAP",
    "PFC",
    "REK",
    "KLN",
    "TWI",
    "INT",
    "ALP",
    "ESY",
    "MFA",
    "SWP",
    "PLU",
    "airlineData",
    "accertify",
    "threeRIData",
    "DVI",
    "amount",
    "language",
    "paymentMethods",
    "theme",
    "redirect",
    "webhook",
    "option",
    "MFX",
    "MPX",
    "AZP",
    "EPS",
    "SWH",
    "VPS",
    "MBP",
    "WEC",
    "ELV",
    "SWB",
    "MDP",
    "PSC",
    "GPA",
    "mcp",
    "extensions",
];

const AUTHORIZE_MEMBERS: [&str; 39] = [
    "currency",
    "refno",
    "refno2",
    "autoSettle",
    "customer",
    "billing",
    "shipping",
    "order",
    "card",
    "BON",
    "PAP",
    "PFC",
    "REK",
    "KLN",
    "TWI",
    "INT",
    "ALP",
    "ESY",
    "MFA",
    "SWP",
    "PLU",
    "airlineData",
    "accertify",
    "threeRIData",
    "DVI",
    "amount",
    "ACC",
    "PAY",
    "APL",
    "MPA",
    "MPG",
    "MFG",
    "marketplace",
    "ELV",
    "SWB",
    "option",
    "mcp",
    "3RI",
    "extensions",
];

const OPTION_MEMBERS: [&str; 7] = [
    "createAlias",
    "returnMaskedCardNumber",
    "returnCustomerCountry",
    "authenticationOnly",
    "rememberMe",
    "returnMobileToken",
    "storeCustomerData",
];

const REDIRECT_MEMBERS: [&str; 6] = [
    "successUrl",
    "cancelUrl",
    "errorUrl",
    "startTarget",
    "returnTarget",
    "method",
];

const SETTLE_MEMBERS: [&str; 9] = [
    "amount",
    "currency",
    "refno",
    "refno2",
    "airlineData",
    "marketplace",
    "mcp",
    "partialCapture",
    "extensions",
];

const CREDIT_MEMBERS: [&str; 8] = [
    "amount",
    "currency",
    "refno",
    "refno2",
    "marketplace",
    "extensions",
    "mcp",
    "PLU",
];

/// Members that no request of ours may carry: a card's number or security code.
const CARD_MEMBERS: [&str; 7] = [
    "type",
    "alias",
    "expiryMonth",
    "expiryYear",
    "3D",
    "number",
    "cvv",
];

impl Aduno {
    /// `POST /v1/transactions`: a transaction that waits for the customer.
    pub(super) fn init(&mut self, body: &Bytes, mode: Mode, world: &mut World<'_>) -> Answer {
        let fields = Fields::read("init", body, &INIT_MEMBERS)?;
        let refno = fields.refno()?;
        let currency = fields.currency()?;
        // Zero is what older clients send for a registration (§5.1).
        let asked = match fields.integer("amount")? {
            None | Some(0) => None,
            Some(_) => Some(fields.amount(currency)?),
        };
        let card = self.card(&fields, world.now)?;
        let visit = visit(&fields, mode)?;
        let kind = if asked.is_some() {
            Kind::Payment
        } else {
            Kind::CardCheck
        };
        let id = new_id(world);
        let mut transaction = Transaction::new(id.clone(), kind, currency, refno);
        transaction.auto_settle = fields.flag("autoSettle")?.unwrap_or(false);
        transaction.asked = asked;
        transaction.visit = Some(visit);
        transaction.created = world.now;
        transaction.act(State::Initialized, "init", asked, world.now);
        let mut answer = json!({"transactionId": id});
        if let Some((alias, card)) = card {
            transaction.state = State::ChallengeRequired;
            transaction.alias = Some(alias);
            transaction.card = Some(card);
            if let Value::Object(members) = &mut answer {
                members.insert("3D".to_owned(), json!({"enrolled": true}));
            }
        }
        self.transactions.insert(id.clone(), transaction);
        let mut response = json_answer(201, &answer);
        let location = format!("{}/v1/start/{id}", world.base);
        if let Ok(location) = HeaderValue::from_str(&location) {
            response.headers_mut().insert(LOCATION, location);
        }
        Ok(response)
    }

    /// `POST /v1/transactions/authorize`: a charge of an alias, without the customer.
    pub(super) fn authorize(&mut self, body: &Bytes, mode: Mode, world: &mut World<'_>) -> Answer {
        let fields = Fields::read("authorize", body, &AUTHORIZE_MEMBERS)?;
        let refno = fields.refno()?;
        let currency = fields.currency()?;
        let amount = fields.amount(currency)?;
        let auto_settle = fields.flag("autoSettle")?.unwrap_or(false);
        let (alias, card) = self
            .card(&fields, world.now)?
            .ok_or_else(|| fields.invalid("card"))?;
        let id = new_id(world);
        let mut transaction = Transaction::new(id.clone(), Kind::Payment, currency, refno);
        transaction.auto_settle = auto_settle;
        transaction.asked = Some(amount);
        transaction.created = world.now;
        transaction.alias = Some(alias);
        let answer = json!({
            "transactionId": id,
            "acquirerAuthorizationCode": AUTHORIZATION_CODE,
            "card": {"masked": card.masked()},
        });
        let refusal = declined(mode).err().or_else(|| card.refuses(amount));
        transaction.card = Some(card);
        if let Some(refusal) = refusal {
            transaction.fail("declined", world.now);
            self.transactions.insert(id.clone(), transaction);
            return Err(refusal.of(&id));
        }
        transaction.hold(amount, world);
        self.transactions.insert(id, transaction);
        Ok(json_answer(200, &answer))
    }

    /// `POST /v1/transactions/validate`: a check of an alias; nothing is held.
    pub(super) fn validate(&mut self, body: &Bytes, mode: Mode, world: &mut World<'_>) -> Answer {
        let known = [
            "refno", "refno2", "currency", "card", "PFC", "KLN", "PAP", "PAY", "APL", "ESY",
        ];
        let fields = Fields::read("validate", body, &known)?;
        let refno = fields.refno()?;
        let currency = fields.currency()?;
        let (alias, card) = self
            .card(&fields, world.now)?
            .ok_or_else(|| fields.invalid("card"))?;
        declined(mode)?;
        let id = new_id(world);
        let mut transaction = Transaction::new(id.clone(), Kind::CardCheck, currency, refno);
        transaction.created = world.now;
        transaction.alias = Some(alias);
        let answer = json!({
            "transactionId": id,
            "acquirerAuthorizationCode": AUTHORIZATION_CODE,
            "card": {"masked": card.masked()},
        });
        transaction.card = Some(card);
        transaction.register(world.now);
        self.transactions.insert(id, transaction);
        Ok(json_answer(200, &answer))
    }

    /// `POST /v1/transactions/{id}/authorize`: what `authenticationOnly` has left to do.
    pub(super) fn finish(
        &mut self,
        id: &str,
        body: &Bytes,
        mode: Mode,
        world: &mut World<'_>,
    ) -> Answer {
        let known = [
            "amount",
            "refno",
            "refno2",
            "autoSettle",
            "CDM",
            "airlineData",
            "3D",
        ];
        let fields = Fields::read("authorize", body, &known)?;
        fields.refno()?;
        let transaction = self.find("authorize", id)?;
        if transaction.state != State::Authenticated {
            let mut refused = Refused::wrong_status("already authorized");
            refused.status = 409;
            return Err(refused);
        }
        declined(mode)?;
        let amount = match (fields.has("amount"), transaction.asked) {
            (false, Some(asked)) => asked,
            _ => fields.amount(transaction.currency)?,
        };
        transaction.auto_settle = fields.flag("autoSettle")?.unwrap_or(false);
        transaction.hold(amount, world);
        Ok(json_answer(
            200,
            &json!({"acquirerAuthorizationCode": AUTHORIZATION_CODE}),
        ))
    }

    /// `POST /v1/transactions/{id}/settle`
    pub(super) fn settle(
        &mut self,
        id: &str,
        body: &Bytes,
        mode: Mode,
        world: &mut World<'_>,
    ) -> Answer {
        let fields = Fields::read("settle", body, &SETTLE_MEMBERS)?;
        let transaction = self.find("settle", id)?;
        let amount = transaction.asked_for(&fields)?;
        let part = partial_capture(&fields)?;
        transaction.accepts_settlement(part)?;
        let settled = transaction
            .settled
            .unwrap_or(Money::zero(transaction.currency));
        let sum = settled.plus(amount).map_err(|_| fields.invalid("amount"))?;
        if transaction
            .authorized
            .is_none_or(|held| sum.minor() > held.minor())
        {
            return Err(Refused::new(
                "INVALID_PROPERTY",
                "exceeded authorization amount",
            ));
        }
        declined(mode)?;
        transaction.settled = Some(sum);
        transaction.parts = part;
        transaction.act(State::Settled, "settle", Some(amount), world.now);
        world.record(EntryKind::Capture, amount, id);
        Ok(no_content())
    }

    /// `POST /v1/transactions/{id}/cancel`
    pub(super) fn cancel(
        &mut self,
        id: &str,
        body: &Bytes,
        mode: Mode,
        world: &mut World<'_>,
    ) -> Answer {
        Fields::read("cancel", body, &[])?;
        let transaction = self.find("cancel", id)?;
        let amount = match (transaction.kind, transaction.state) {
            (Kind::Payment, State::Authorized) => transaction.authorized,
            (Kind::Payment, State::Settled) if transaction.credited.is_zero() => {
                transaction.settled
            }
            (_, State::Canceled) => {
                return Err(Refused::wrong_status("transaction already canceled"));
            }
            _ => {
                return Err(Refused::wrong_status(
                    "Action denied : Wrong transaction status",
                ));
            }
        };
        declined(mode)?;
        transaction.act(State::Canceled, "cancel", amount, world.now);
        if let Some(amount) = amount {
            world.record(EntryKind::Void, amount, id);
        }
        Ok(no_content())
    }

    /// `POST /v1/transactions/{id}/credit`: a refund, which is a transaction of its own.
    pub(super) fn credit(
        &mut self,
        id: &str,
        body: &Bytes,
        mode: Mode,
        world: &mut World<'_>,
    ) -> Answer {
        let fields = Fields::read("credit", body, &CREDIT_MEMBERS)?;
        let credit_id = new_id(world);
        let transaction = self.find("credit", id)?;
        let refno = fields.refno()?;
        if fields.currency()? != transaction.currency {
            return Err(fields.invalid("currency"));
        }
        let left = transaction.left_to_credit()?;
        let amount = if fields.has("amount") {
            fields.amount(transaction.currency)?
        } else {
            left
        };
        if amount.is_zero() || amount.minor() > left.minor() {
            return Err(fields.invalid("amount"));
        }
        declined(mode)?;
        transaction.credited = transaction
            .credited
            .plus(amount)
            .map_err(|_| fields.invalid("amount"))?;
        transaction.remember("credit", Some(amount), true, world.now);
        let currency = transaction.currency;
        let mut credit = Transaction::new(credit_id.clone(), Kind::Credit, currency, refno);
        credit.created = world.now;
        credit.asked = Some(amount);
        credit.payment = Some(id.to_owned());
        let mut answer = json!({"transactionId": credit_id});
        if mode == Mode::Pending {
            // Accepted; the acquirer has not said yes yet.
            credit.act(State::Authorized, "credit", Some(amount), world.now);
        } else {
            credit.give_back(world);
            if let Value::Object(members) = &mut answer {
                let code = json!(AUTHORIZATION_CODE);
                members.insert("acquirerAuthorizationCode".to_owned(), code);
            }
        }
        self.transactions.insert(credit_id, credit);
        Ok(json_answer(200, &answer))
    }

    /// Credits that take their time end well.
    pub(super) fn conclude_credits(&mut self, world: &mut World<'_>) {
        let delay = Duration::from_secs(PENDING_SECONDS);
        for credit in self.transactions.values_mut() {
            let open = credit.kind == Kind::Credit && credit.state == State::Authorized;
            if open && world.now.since(credit.changed) >= delay {
                credit.give_back(world);
            }
        }
    }

    /// `POST /v1/transactions/{id}/increase`: raises a hold by an amount.
    pub(super) fn increase(
        &mut self,
        id: &str,
        body: &Bytes,
        mode: Mode,
        world: &mut World<'_>,
    ) -> Answer {
        let fields = Fields::read("increase", body, &["amount", "currency", "refno"])?;
        let transaction = self.find("increase", id)?;
        let amount = transaction.asked_for(&fields)?;
        let held = transaction
            .authorized
            .filter(|_| transaction.state == State::Authorized)
            .ok_or_else(|| Refused::wrong_status("the transaction cannot be increased"))?;
        declined(mode)?;
        let sum = held.plus(amount).map_err(|_| fields.invalid("amount"))?;
        transaction.authorized = Some(sum);
        transaction.act(State::Authorized, "authorize", Some(amount), world.now);
        world.record(EntryKind::Authorize, amount, id);
        Ok(json_answer(200, &json!({"increasedAmount": sum.minor()})))
    }

    /// `GET /v1/transactions/{id}`
    pub(super) fn status(&mut self, id: &str) -> Answer {
        self.find("status", id)
            .map(|transaction| json_answer(200, &transaction.show()))
    }

    fn find(&mut self, operation: &str, id: &str) -> Result<&mut Transaction, Refused> {
        if id.len() != ID_DIGITS || !id.bytes().all(|byte| byte.is_ascii_digit()) {
            let message = format!("{operation} transactionId length must be 18 digits");
            return Err(Refused::new("INVALID_PROPERTY", message));
        }
        self.transactions
            .get_mut(id)
            .ok_or_else(|| Refused::new("TRANSACTION_NOT_FOUND", "transactionId not found"))
    }

    /// The alias in a request. Cards by number do not exist here, and an alias needs its expiry
    /// date with it.
    fn card(
        &self,
        fields: &Fields,
        now: Timestamp,
    ) -> Result<Option<(String, CardAlias)>, Refused> {
        let Some(card) = fields.object("card", &CARD_MEMBERS)? else {
            return Ok(None);
        };
        let by_number = card.has("number") || card.has("cvv");
        if by_number || card.text("type")?.is_some_and(|kind| kind != "ALIAS") {
            return Err(Refused::new("FORBIDDEN", "no card numbers here"));
        }
        let alias = card.text("alias")?.unwrap_or_default();
        let found = self
            .aliases
            .get(alias)
            .ok_or_else(|| Refused::new("INVALID_ALIAS", fields.invalid("card.alias").message))?;
        let month = card.two_digits("expiryMonth")?;
        let year = card.two_digits("expiryYear")?;
        let (Some(month), Some(year)) = (month, year) else {
            return Err(fields.invalid("card.expiryMonth"));
        };
        // The card is good until its month is over.
        let today = now.to_string();
        let this_month = today.get(..7).unwrap_or_default();
        if format!("20{year}-{month}").as_str() < this_month {
            return Err(Refused::new("EXPIRED_CARD", "expired card"));
        }
        Ok(Some((alias.to_owned(), found.clone())))
    }
}

impl CardAlias {
    /// What the test cards with limits say to an amount.
    pub(super) fn refuses(&self, amount: Money) -> Option<Refused> {
        match amount.minor() {
            _ if !self.limited => None,
            minor if minor <= LIMIT_AUTHORIZED => None,
            minor if minor <= LIMIT_DECLINED => Some(Refused::new("DECLINED", "declined")),
            minor if minor <= LIMIT_BLOCKED => None,
            _ => Some(Refused::new("BLOCKED_CARD", "card blocked")),
        }
    }
}

impl Transaction {
    /// Holds the amount, and takes it if that was asked for.
    pub(super) fn hold(&mut self, amount: Money, world: &mut World<'_>) {
        self.authorized = Some(amount);
        self.act(State::Authorized, "authorize", Some(amount), world.now);
        world.record(EntryKind::Authorize, amount, &self.id);
        if self.auto_settle {
            self.settled = Some(amount);
            self.act(State::Settled, "settle", Some(amount), world.now);
            world.record(EntryKind::Capture, amount, &self.id);
        }
    }

    /// A credit that went well: money goes back.
    fn give_back(&mut self, world: &mut World<'_>) {
        self.settled = self.asked;
        self.act(State::Settled, "credit", self.asked, world.now);
        if let (Some(amount), Some(payment)) = (self.asked, &self.payment) {
            world.record(EntryKind::Refund, amount, payment);
        }
    }

    /// A check of a card that went well. No money is in it.
    pub(super) fn register(&mut self, now: Timestamp) {
        let nothing = Money::zero(self.currency);
        self.authorized = Some(nothing);
        self.act(State::Authorized, "authorize", Some(nothing), now);
    }

    /// The amount of a settlement or increase, in the transaction's currency.
    fn asked_for(&self, fields: &Fields) -> Result<Money, Refused> {
        fields.refno()?;
        if fields.currency()? != self.currency {
            return Err(fields.invalid("currency"));
        }
        fields.amount(self.currency)
    }

    /// One settlement, or parts that were announced as such: the numbers rise, and how many there
    /// are stays as the first part said (`providers/aduno.md` §5.5).
    fn accepts_settlement(&self, part: Option<(i64, i64)>) -> Result<(), Refused> {
        if self.kind != Kind::Payment {
            return Err(Refused::wrong_status("the transaction cannot be settled"));
        }
        match (self.state, self.parts, part) {
            (State::Authorized, None, None | Some((1, _))) => Ok(()),
            (State::Settled, Some((done, of)), Some((number, total)))
                if number == done.saturating_add(1) && total == of && number <= of =>
            {
                Ok(())
            }
            (State::Settled | State::Transmitted, _, _) => {
                Err(Refused::wrong_status("already settled"))
            }
            _ => Err(Refused::wrong_status("the transaction cannot be settled")),
        }
    }

    fn left_to_credit(&self) -> Result<Money, Refused> {
        let refused = || Refused::wrong_status("the transaction cannot be credited");
        if self.kind != Kind::Payment || !matches!(self.state, State::Settled | State::Transmitted)
        {
            return Err(refused());
        }
        let settled = self.settled.ok_or_else(refused)?;
        settled.minus(self.credited).map_err(|_| refused())
    }
}

fn visit(fields: &Fields, mode: Mode) -> Result<Visit, Refused> {
    let mut visit = Visit {
        language: fields.text("language")?.map(str::to_owned),
        declines: mode == Mode::Decline,
        lingers: mode == Mode::Pending,
        ..Visit::default()
    };
    if let Some(redirect) = fields.object("redirect", &REDIRECT_MEMBERS)? {
        visit.success_url = redirect.text("successUrl")?.map(str::to_owned);
        visit.cancel_url = redirect.text("cancelUrl")?.map(str::to_owned);
        visit.error_url = redirect.text("errorUrl")?.map(str::to_owned);
    }
    if let Some(webhook) = fields.object("webhook", &["url"])? {
        visit.webhook_url = webhook.text("url")?.map(str::to_owned);
    }
    if let Some(option) = fields.object("option", &OPTION_MEMBERS)? {
        let remembers = option.text("rememberMe")?.is_some();
        visit.creates_alias = option.flag("createAlias")?.unwrap_or(remembers);
        visit.authenticates_only = option.flag("authenticationOnly")?.unwrap_or(false);
    }
    Ok(visit)
}

fn partial_capture(fields: &Fields) -> Result<Option<(i64, i64)>, Refused> {
    let Some(part) = fields.object("partialCapture", &["sequenceNumber", "totalNumber"])? else {
        return Ok(None);
    };
    match (
        part.integer("sequenceNumber")?,
        part.integer("totalNumber")?,
    ) {
        (Some(number), Some(total)) if number >= 1 && total >= number => Ok(Some((number, total))),
        _ => Err(fields.invalid("partialCapture")),
    }
}

/// 18 digits: date and time to the second, a running number, and a digit that makes the whole fail
/// the check of card numbers, so that no filter for them takes offense.
fn new_id(world: &mut World<'_>) -> String {
    /// How many running numbers fit.
    const NUMBERS: u64 = 100_000;
    let now = world.now.to_string();
    let digits: String = now
        .chars()
        .filter(char::is_ascii_digit)
        .skip(2)
        .take(12)
        .collect();
    let stem = format!("{digits:0<12}{:05}", world.next_id() % NUMBERS);
    let last = if passes_luhn(&format!("{stem}0")) {
        '1'
    } else {
        '0'
    };
    format!("{stem}{last}")
}

fn passes_luhn(digits: &str) -> bool {
    let doubled = |digit: u32| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let sum: u32 = digits
        .chars()
        .rev()
        .filter_map(|character| character.to_digit(10))
        .enumerate()
        .map(|(place, digit)| {
            if place % 2 == 1 {
                doubled(digit)
            } else {
                digit
            }
        })
        .sum();
    sum.is_multiple_of(10)
}
