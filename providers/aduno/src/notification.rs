use std::time::Duration;

use cardless_contract::{
    Notification, NotificationError, ObjectId, RawNotification, Reference, ReservationId,
    SetupReference, Subject, Timestamp,
};
use http::HeaderMap;
use ring::hmac;

use crate::config::decode_hex;
use crate::wire::{Status, TransactionId};

/// How old a signature may be. Whether a repeated delivery gets a fresh time is not documented
/// (`providers/aduno.md` §9.2), so it is generous.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// How far the sender's clock may be ahead of ours.
const MAX_AHEAD: Duration = Duration::from_secs(5 * 60);

const HEADER: &str = "Datatrans-Signature";

/// Checks a webhook's signature, age and merchant, and says what it is about.
pub(crate) fn verify(
    delivery: &RawNotification<'_>,
    keys: &[hmac::Key],
    merchant_id: &str,
    now: Timestamp,
) -> Result<Notification, NotificationError> {
    let signature = Signature::read(delivery.headers)?;
    let mut message = signature.time.as_bytes().to_vec();
    message.extend_from_slice(delivery.body);
    let fits = |key: &hmac::Key| hmac::verify(key, &message, &signature.mac).is_ok();
    if !keys.iter().any(fits) {
        return Err(NotificationError::Signature);
    }
    check_age(signature.moment, now)?;
    decode(delivery.body, merchant_id)
}

/// What a verified body is about.
pub(crate) fn decode(body: &[u8], merchant_id: &str) -> Result<Notification, NotificationError> {
    let body: Status = serde_json::from_slice(body)
        .map_err(|_| NotificationError::Body("not a transaction's status"))?;
    if body
        .merchant_id
        .as_deref()
        .is_some_and(|id| id != merchant_id)
    {
        return Err(NotificationError::OtherAccount);
    }
    describe(&body)
}

/// `t=<milliseconds>,s0=<hexadecimal>`: the HMAC-SHA256 of `t` and the body, without a separator.
struct Signature<'a> {
    time: &'a str,
    moment: Timestamp,
    mac: Vec<u8>,
}

impl<'a> Signature<'a> {
    fn read(headers: &'a HeaderMap) -> Result<Self, NotificationError> {
        let mut values = headers.get_all(HEADER).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(NotificationError::Header(HEADER));
        };
        value
            .to_str()
            .ok()
            .and_then(Self::parse)
            .ok_or(NotificationError::HeaderFormat(HEADER))
    }

    /// Unknown parts are skipped; a known one that stands twice is refused.
    fn parse(text: &'a str) -> Option<Self> {
        let (mut time, mut mac) = (None, None);
        for part in text.split(',') {
            let slot = match part.trim().split_once('=') {
                Some(("t", value)) => time.replace(value),
                Some(("s0", value)) => mac.replace(value),
                _ => None,
            };
            if slot.is_some() {
                return None;
            }
        }
        let time: &str = time?;
        let digits = time.bytes().all(|byte| byte.is_ascii_digit());
        Some(Self {
            time,
            moment: Timestamp::from_millis(time.parse().ok().filter(|_| digits)?),
            mac: decode_hex(mac?)?,
        })
    }
}

fn check_age(moment: Timestamp, now: Timestamp) -> Result<(), NotificationError> {
    if now.since(moment) > MAX_AGE || moment.since(now) > MAX_AHEAD {
        return Err(NotificationError::Stale);
    }
    Ok(())
}

/// The event's name is what a repeat has in common: the transaction and its status. What the
/// body says beyond its ids is never believed; a read follows.
fn describe(body: &Status) -> Result<Notification, NotificationError> {
    let id = TransactionId::new(&body.transaction_id)
        .ok_or(NotificationError::Body("no transaction id"))?
        .as_str();
    let word = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    let event_id = format!("{id}-{}", body.status);
    if !body.status.bytes().all(word) || event_id.len() > Notification::MAX_EVENT_ID_BYTES {
        return Err(NotificationError::Body("no status"));
    }
    let subject = match body.kind.as_deref() {
        Some("card_check") => SetupReference::new(id).map_or(Subject::Other, Subject::Setup),
        Some("credit") => Subject::Payment {
            reservation: None,
            reference: None,
            object: ObjectId::new(id).ok(),
        },
        Some("payment") | None => Subject::Payment {
            reservation: ReservationId::new(id).ok(),
            reference: body
                .refno
                .clone()
                .and_then(|refno| Reference::new(refno).ok()),
            object: None,
        },
        Some(_) => Subject::Other,
    };
    Ok(Notification { event_id, subject })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderValue;

    use super::*;

    const KEY_1: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const KEY_2: &str = "a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90";
    const T_1: i64 = 1_767_225_600_000;
    const BODY_1: &str = r#"{"transactionId":"260101120000000001","merchantId":"1100000000","type":"payment","status":"authorized","currency":"CHF","refno":"acct-0001","paymentMethod":"VIS","detail":{"authorize":{"amount":1000,"acquirerAuthorizationCode":"120000"}}}"#;
    const BODY_2: &str = r#"{"transactionId":"260101120000000002","status":"failed","refno":"Züri-1","detail":{"fail":{"reason":"declined","message":"declined"}}}"#;
    const S0_1: &str = "c7011e1c24191a11e1e8895f3076691e8a2e8226c4612fa1093213b38e8d835e";
    const S0_2: &str = "cacbb4d6c0ada4db9276fb67d0d73614235cf10751f1ec0998e0e14c664d9868";
    /// The key used as text instead of its bytes.
    const KEY_AS_TEXT: &str = "ab25d35072ad6f85cf5dc6ee714488cbe26022d74513f7a8b8833c9b83bf2b99";
    /// A dot between time and body.
    const WITH_A_DOT: &str = "ca7e9c56c09413531c7676f2f37e88c7d61ff365b1f95335e6cb50f63f2f35af";

    fn keys() -> Vec<hmac::Key> {
        [KEY_2, KEY_1]
            .iter()
            .map(|key| hmac::Key::new(hmac::HMAC_SHA256, &decode_hex(key).unwrap()))
            .collect()
    }

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("datatrans-signature", HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn check(header: &[&str], body: &str, now: i64) -> Result<Notification, NotificationError> {
        let headers = headers(header);
        let body = Bytes::copy_from_slice(body.as_bytes());
        let delivery = RawNotification {
            headers: &headers,
            body: &body,
        };
        verify(
            &delivery,
            &keys(),
            "1100000000",
            Timestamp::from_millis(now),
        )
    }

    fn signed(body: &str) -> String {
        let tag = hmac::sign(&keys()[1], format!("{T_1}{body}").as_bytes());
        let hex: String = tag
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("t={T_1},s0={hex}")
    }

    #[test]
    fn the_vectors_verify() {
        let first = check(&[&format!("t={T_1},s0={S0_1}")], BODY_1, T_1).unwrap();
        assert_eq!(first.event_id, "260101120000000001-authorized");
        assert_eq!(
            first.subject,
            Subject::Payment {
                reservation: Some(ReservationId::new("260101120000000001").unwrap()),
                reference: Some(Reference::new("acct-0001").unwrap()),
                object: None
            }
        );
        let second = check(
            &[&format!("x=1, t=1767225601234,s0={S0_2},s1=00")],
            BODY_2,
            T_1,
        )
        .unwrap();
        assert_eq!(second.event_id, "260101120000000002-failed");
    }

    #[test]
    fn the_classic_mistakes_and_a_changed_byte_do_not() {
        for s0 in [KEY_AS_TEXT, WITH_A_DOT, S0_2, "", "00"] {
            let result = check(&[&format!("t={T_1},s0={s0}")], BODY_1, T_1);
            assert!(matches!(result, Err(NotificationError::Signature)), "{s0}");
        }
        let changed = BODY_1.replace("1000,", "1001,");
        let result = check(&[&format!("t={T_1},s0={S0_1}")], &changed, T_1);
        assert!(matches!(result, Err(NotificationError::Signature)));
        let result = check(&[&format!("t={},s0={S0_1}", T_1 + 1)], BODY_1, T_1);
        assert!(matches!(result, Err(NotificationError::Signature)));
    }

    #[test]
    fn an_unsigned_one_is_refused() {
        assert!(matches!(
            check(&[], BODY_1, T_1),
            Err(NotificationError::Header(_))
        ));
        let good = format!("t={T_1},s0={S0_1}");
        assert!(matches!(
            check(&[&good, &good], BODY_1, T_1),
            Err(NotificationError::Header(_))
        ));
        for bad in [
            "",
            "t=1",
            "s0=00",
            "t=+1,s0=00",
            "t=-1,s0=00",
            "t=,s0=00",
            "t=99999999999999999999,s0=00",
            "t=1,s0=0",
            "t=1,s0=zz",
            "t=1,t=1,s0=00",
            "t=1,s0=00,s0=00",
        ] {
            let result = check(&[bad], BODY_1, T_1);
            assert!(
                matches!(result, Err(NotificationError::HeaderFormat(_))),
                "{bad}"
            );
        }
    }

    #[test]
    fn age_is_bounded_both_ways() {
        let header = format!("t={T_1},s0={S0_1}");
        let day = 24 * 60 * 60 * 1000;
        let five_minutes = 5 * 60 * 1000;
        assert!(check(&[&header], BODY_1, T_1 + day).is_ok());
        assert!(check(&[&header], BODY_1, T_1 - five_minutes).is_ok());
        for now in [T_1 + day + 1, T_1 - five_minutes - 1] {
            assert!(matches!(
                check(&[&header], BODY_1, now),
                Err(NotificationError::Stale)
            ));
        }
    }

    #[test]
    fn the_subject_follows_the_type() {
        let of = |body: &str| check(&[&signed(body)], body, T_1).map(|found| found.subject);
        let id = "260101120000000001";
        assert_eq!(
            of(r#"{"transactionId":"260101120000000001","type":"card_check","status":"authorized"}"#).unwrap(),
            Subject::Setup(SetupReference::new(id).unwrap())
        );
        assert!(matches!(
            of(r#"{"transactionId":"260101120000000001","type":"credit","status":"settled"}"#)
                .unwrap(),
            Subject::Payment {
                reservation: None,
                object: Some(_),
                ..
            }
        ));
        assert_eq!(
            of(r#"{"transactionId":"260101120000000001","type":"loan","status":"settled"}"#)
                .unwrap(),
            Subject::Other
        );
        assert!(matches!(
            of(
                r#"{"transactionId":"260101120000000001","merchantId":"1100000001","type":"payment","status":"settled"}"#
            ),
            Err(NotificationError::OtherAccount)
        ));
        for body in [
            "",
            "[]",
            r#"{"transactionId":"1","status":"settled"}"#,
            r#"{"transactionId":"260101120000000001","status":"se ttled"}"#,
        ] {
            assert!(
                matches!(of(body), Err(NotificationError::Body(_))),
                "{body}"
            );
        }
    }
}
