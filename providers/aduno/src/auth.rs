use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

/// The value of `Authorization`: HTTP Basic, merchant id and server-to-server password
/// (`providers/aduno.md` §2). It is marked sensitive, so its `Debug` shows nothing.
///
/// `None` can't come about: base64 is always a header value.
pub(crate) fn basic(merchant_id: &str, password: &str) -> Option<HeaderValue> {
    let pair = STANDARD.encode(format!("{merchant_id}:{password}"));
    let mut value = HeaderValue::try_from(format!("Basic {pair}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_basic_and_shows_nothing() {
        let value = basic("1100000000", "canary").unwrap();
        assert_eq!(value.to_str().unwrap(), "Basic MTEwMDAwMDAwMDpjYW5hcnk=");
        assert_eq!(format!("{value:?}"), "Sensitive");
    }
}
