//! The card-number net before the service: methods, paths, queries, `Idempotency-Key` and bodies, before
//! anything else reads them. A hit is refused; nothing of it is stored, logged or repeated.

use std::borrow::Cow;

use axum::http::HeaderMap;
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::error::{Code, Error};
use crate::pan;

/// The header that names a request.
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The member that Datatrans appends to a return address: the id of its transaction.
const RETURNED_ID: &str = "datatransTrxId=";

/// Numbers in a body are looked at from this many digits on; the shortest card number has 12.
const MIN_DIGITS: usize = 12;

/// Looks through what stands before the body.
///
/// # Errors
///
/// [`Code::CardNumber`], and [`Code::NotFound`] for a path that is not UTF-8 once it is decoded.
pub(crate) fn check_parts(parts: &Parts) -> Result<(), Error> {
    check_text(parts.method.as_str(), "method")?;
    let path = percent_decode_str(parts.uri.path()).decode_utf8();
    check_text(&path.map_err(|_| Error::not_found("address"))?, "path")?;
    let query = query(parts);
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        // A member's name is checked first: afterwards it may be named as the field.
        check_text(&name, "query")?;
        check_text(&value, &name)?;
    }
    // Once more as a whole, so that a number is not hidden by being cut into members.
    let decoded: Cow<'_, str> = percent_decode_str(&query).decode_utf8_lossy();
    check_text(&decoded, "query")?;
    check_key(&parts.headers)
}

/// Looks through every text, name and long number of a JSON value; `path` is where it stands.
///
/// # Errors
///
/// [`Code::CardNumber`] with the field's path.
pub(crate) fn check_value(value: &Value, path: &str) -> Result<(), Error> {
    match value {
        Value::String(text) => check_text(text, path),
        Value::Number(number) => check_number(&number.to_string(), path),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(index, item)| check_value(item, &format!("{path}[{index}]"))),
        Value::Object(members) => members.iter().try_for_each(|(name, member)| {
            check_text(name, path)?;
            check_value(member, &joined(path, name))
        }),
        Value::Null | Value::Bool(_) => Ok(()),
    }
}

/// The query, without the one id that Datatrans appends to where its customers come back to: it would
/// be refused now and then in some years ([`pan::is_dated_id`]), and is not believed anyway. Exactly
/// as written, once, and nowhere else.
fn query(parts: &Parts) -> Cow<'_, str> {
    let query = parts.uri.query().unwrap_or_default();
    let returns = super::routes::RETURN_PATH.trim_end_matches("{state}");
    if !parts.uri.path().starts_with(returns) {
        return Cow::Borrowed(query);
    }
    let mut members: Vec<&str> = query.split('&').collect();
    let is_theirs = |member: &&str| {
        member
            .strip_prefix(RETURNED_ID)
            .is_some_and(pan::is_dated_id)
    };
    match members.iter().position(is_theirs) {
        None => Cow::Borrowed(query),
        Some(at) => {
            members.remove(at);
            Cow::Owned(members.join("&"))
        }
    }
}

fn check_key(headers: &HeaderMap) -> Result<(), Error> {
    for value in headers.get_all(IDEMPOTENCY_KEY) {
        check_text(
            &String::from_utf8_lossy(value.as_bytes()),
            "Idempotency-Key",
        )?;
    }
    Ok(())
}

fn check_number(digits: &str, path: &str) -> Result<(), Error> {
    let long = digits.bytes().filter(u8::is_ascii_digit).count() >= MIN_DIGITS;
    if long {
        check_text(digits, path)
    } else {
        Ok(())
    }
}

pub(crate) fn check_text(text: &str, path: &str) -> Result<(), Error> {
    let Some(hit) = pan::find(text) else {
        return Ok(());
    };
    pan::alarm(hit, if path.is_empty() { "body" } else { path });
    let message = "This holds a number that passes for a card number. Never send card data here; \
                   the customer enters it at the provider.";
    Err(if path.is_empty() {
        Error::new(Code::CardNumber, message)
    } else {
        Error::field(Code::CardNumber, path, message)
    })
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn check(address: &str) -> Result<(), Error> {
        let request = Request::get(address).body(()).unwrap();
        check_parts(&request.into_parts().0)
    }

    /// Ids as Datatrans makes them, of every day from 2024 to 2045.
    fn ids() -> impl Iterator<Item = String> {
        let days = (24..=45).flat_map(|year| {
            (1..=12).flat_map(move |month| (1..=28).map(move |day| (year, month, day)))
        });
        days.zip(0_u64..).flat_map(|((year, month, day), number)| {
            (0..10).map(move |part| {
                let rest = number.wrapping_mul(7_777_777_777).wrapping_add(part * 131);
                format!("{year}{month:02}{day:02}{:012}", rest % 1_000_000_000_000)
            })
        })
    }

    #[test]
    fn customers_come_back_from_datatrans_in_every_year() {
        let (mut all, mut alarms) = (0, 0);
        for id in ids() {
            all += 1;
            alarms += u32::from(pan::find(&id).is_some());
            check(&format!("/return/abc?datatransTrxId={id}")).unwrap();
            check(&format!("/return/abc?a=1&datatransTrxId={id}&b=2")).unwrap();
        }
        println!("{alarms} of {all} ids of Datatrans from 2024 to 2045 pass for card numbers");
        assert!(alarms > all / 50, "without the exception some are refused");
    }

    #[test]
    fn what_passes_there_passes_nowhere_else() {
        let id = ids().find(|id| pan::find(id).is_some()).unwrap();
        let (head, tail) = id.split_at(6);
        // Of 2036 and valid as a card number, with 13 for its month.
        let no_date = (0..10).map(|last| format!("36130112345678901{last}"));
        let no_date = no_date.into_iter().find(|text| pan::find(text).is_some());
        let card = "4242424242424242";
        for address in [
            format!("/return/abc?datatransTrxid={id}"),
            format!("/return/abc?datatransTrxId2={id}"),
            format!("/return/abc?xdatatransTrxId={id}"),
            format!("/return/abc?{id}"),
            format!("/return/abc?{id}=datatransTrxId"),
            format!("/return/abc?datatransTrxId={id}&datatransTrxId={id}"),
            format!("/return/abc?datatransTrxId={id}&other={id}"),
            format!("/return/abc?datatransTrxId={head}%20{tail}"),
            format!("/return/abc?datatransTrxId={head}-{tail}"),
            format!("/return/abc?datatransTrxId=+{id}"),
            format!("/return/abc?datatransTrxId=%33{}", id.get(1..).unwrap()),
            format!("/return/abc?datatransTrxId={}", no_date.unwrap()),
            format!("/return/abc?datatransTrxId={card}"),
            format!("/return/abc?datatransTrxId={id}&a={card}"),
            format!("/return/{id}?datatransTrxId={id}"),
            format!("/v1/payments?datatransTrxId={id}"),
            format!("/?datatransTrxId={id}"),
        ] {
            let refused = check(&address).unwrap_err();
            assert_eq!(refused.code(), Code::CardNumber, "{address}");
        }
    }
}
