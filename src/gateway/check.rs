//! What a request must be before anything is stored or sent.

use cardless_contract::{Capabilities, Currency, Money, MoneyError};
use url::{Host, Url};

use crate::account::AccountId;
use crate::error::{Code, Error};
use crate::message::Amount;
use crate::pan::{self, Hit};

/// The longest caller's reference, in characters.
pub(super) const MAX_REFERENCE_CHARS: usize = 255;

/// The longest description, in characters: what PostFinance takes as a line's name
/// (`providers/postfinance.md` §3.2) less a margin.
pub(super) const MAX_DESCRIPTION_CHARS: usize = 100;

/// The longest return address, in bytes (`providers/postfinance.md` §3.1).
pub(super) const MAX_RETURN_URL_BYTES: usize = 1900;

pub(super) fn account(field: &str, text: &str) -> Result<AccountId, Error> {
    no_card_number(field, text)?;
    AccountId::new(text).map_err(|error| {
        Error::field(
            Code::InvalidField,
            field,
            format!("{field} is malformed: {error}."),
        )
    })
}

pub(super) fn no_card_number(field: &str, text: &str) -> Result<(), Error> {
    match pan::find(text) {
        None => Ok(()),
        Some(hit) => Err(card_number(field, hit)),
    }
}

fn card_number(field: &str, hit: Hit) -> Error {
    pan::alarm(hit, field);
    Error::field(
        Code::CardNumber,
        field,
        format!("{field} holds a number that passes for a card number. Nothing was stored."),
    )
}

pub(super) fn reference(text: &str) -> Result<(), Error> {
    text_field("reference", text, MAX_REFERENCE_CHARS)
}

pub(super) fn description(text: &str) -> Result<(), Error> {
    text_field("description", text, MAX_DESCRIPTION_CHARS)
}

pub(super) fn text_field(field: &str, text: &str, longest: usize) -> Result<(), Error> {
    let length = text.chars().count();
    if length == 0 || length > longest || text.chars().any(char::is_control) {
        return Err(Error::field(
            Code::InvalidField,
            field,
            format!("{field} is 1 to {longest} characters, none of them a control character."),
        ));
    }
    no_card_number(field, text)
}

pub(super) fn return_url(text: &str) -> Result<(), Error> {
    let bad = || {
        Error::field(
            Code::InvalidField,
            "return_url",
            "return_url is an https address (http only on loopback) of at most 1900 bytes, \
             without user info and fragment.",
        )
    };
    if text.len() > MAX_RETURN_URL_BYTES {
        return Err(bad());
    }
    let url = Url::parse(text).map_err(|_| bad())?;
    let loopback = match url.host().ok_or_else(bad)? {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    };
    let scheme_fits = url.scheme() == "https" || (url.scheme() == "http" && loopback);
    let bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if !scheme_fits || !bare {
        return Err(bad());
    }
    match pan::find_in_url(text) {
        None => Ok(()),
        Some(hit) => Err(card_number("return_url", hit)),
    }
}

pub(super) fn language(text: &str) -> Result<(), Error> {
    let lower = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_lowercase());
    let upper = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_uppercase());
    let fits = match text.split_once('-') {
        None => lower(text),
        Some((language, region)) => lower(language) && upper(region),
    };
    if fits {
        return Ok(());
    }
    Err(Error::field(
        Code::InvalidField,
        "language",
        "language is two letters, or two with a region, as de or de-CH.",
    ))
}

/// An amount above zero that the provider can express exactly.
pub(super) fn amount(amount: &Amount, capabilities: &Capabilities) -> Result<Money, Error> {
    let money = positive(amount)?;
    expressible(money, capabilities)?;
    Ok(money)
}

/// An amount above zero in the given currency.
pub(super) fn part(amount: &Amount, currency: Currency) -> Result<Money, Error> {
    let money = positive(amount)?;
    if money.currency() == currency {
        return Ok(money);
    }
    Err(Error::field(
        Code::UnsupportedCurrency,
        "amount.currency",
        format!("amount.currency must be {currency}, the payment's currency."),
    ))
}

/// Refuses an amount that the provider can't express; it is never rounded.
pub(super) fn expressible(money: Money, capabilities: &Capabilities) -> Result<(), Error> {
    let currency = money.currency();
    let decimals = capabilities.decimals(currency).ok_or_else(|| {
        Error::field(
            Code::UnsupportedCurrency,
            "amount.currency",
            format!("The provider does not take {currency}."),
        )
    })?;
    money.to_decimal(decimals).map(drop).map_err(|_| {
        Error::field(
            Code::InvalidAmount,
            "amount.minor",
            format!("The provider takes {currency} with {decimals} decimals only; the amount is never rounded."),
        )
    })
}

fn positive(amount: &Amount) -> Result<Money, Error> {
    let money = amount.to_money().map_err(|error| {
        if error == MoneyError::UnknownCurrency {
            return Error::field(
                Code::UnsupportedCurrency,
                "amount.currency",
                "amount.currency must be a currency of ISO 4217 with a smallest unit, as CHF.",
            );
        }
        Error::field(
            Code::InvalidAmount,
            "amount.minor",
            format!("amount.minor: {error}."),
        )
    })?;
    if money.is_zero() {
        return Err(Error::field(
            Code::InvalidAmount,
            "amount.minor",
            "amount.minor must be above zero.",
        ));
    }
    Ok(money)
}
