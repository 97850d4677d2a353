use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cardless_contract::{
    Notification, NotificationError, ObjectId, OperationKind, ReservationId, Subject, Timestamp,
};
use cardless_transport::Budget;
use http::HeaderMap;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

use crate::wire::WebhookPayload;

/// The header that carries the signature.
const HEADER: &str = "x-signature";

/// The one algorithm that is defined (`providers/postfinance.md` §4.3).
const ALGORITHM: &str = "SHA256withECDSA";

/// The longest key id that is asked about, in bytes; PostFinance's are UUIDs.
const MAX_KEY_ID_BYTES: usize = 64;

/// The longest signature that is read, in base64 bytes; a P-256 signature in DER has at most 72
/// bytes.
const MAX_SIGNATURE_BYTES: usize = 128;

/// How many keys are remembered.
const MAX_KEYS: usize = 16;

/// How many keys may be fetched within [`FETCH_WINDOW`], so that made-up ids can't be turned into
/// calls.
const MAX_FETCHES: usize = 10;

/// How many objects may be read within [`FETCH_WINDOW`] because a notification names them: more than
/// a busy shop has, so that an old notification that is sent again and again is no flood.
const MAX_READS: usize = 600;

/// The window of [`MAX_FETCHES`] and [`MAX_READS`].
const FETCH_WINDOW: Duration = Duration::from_secs(60);

/// What stands before the point in a SubjectPublicKeyInfo of P-256: two sequences, the object ids
/// of EC keys and of the curve, and the bit string's head (RFC 5480).
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The length of an uncompressed point of P-256, in bytes.
const P256_POINT_BYTES: usize = 65;

/// The entities whose change concerns a payment (`providers/postfinance.md` §4.1).
const TRANSACTION: i64 = 1_472_041_829_003;
const COMPLETION: i64 = 1_472_041_831_364;
const VOID: i64 = 1_472_041_867_364;
const REFUND: i64 = 1_472_041_839_405;

/// A signature header, taken apart.
#[derive(Debug)]
pub(crate) struct Signature {
    pub(crate) key_id: String,
    bytes: Vec<u8>,
}

/// A signing key of PostFinance: an uncompressed point of P-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SigningKey(Vec<u8>);

/// The signing keys that were fetched, and when; bounded in both.
#[derive(Debug)]
pub(crate) struct Keys {
    known: Mutex<VecDeque<(String, SigningKey)>>,
    fetches: Budget,
}

/// How often notifications may make us read what they name.
pub(crate) const fn reads() -> Budget {
    Budget::new(MAX_READS, FETCH_WINDOW)
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            fetches: Budget::new(MAX_FETCHES, FETCH_WINDOW),
        }
    }
}

impl Signature {
    /// Reads the header in its exact form: three parts, a comma and one blank between them.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Result<Self, NotificationError> {
        let mut values = headers.get_all(HEADER).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(NotificationError::Header(HEADER));
        };
        let bad = || NotificationError::HeaderFormat(HEADER);
        let text = value.to_str().map_err(|_| bad())?;
        let mut parts = text.split(", ");
        let mut part = |name: &str| parts.next().and_then(|part| part.strip_prefix(name));
        let algorithm = part("algorithm=").ok_or_else(bad)?;
        let key_id = part("keyId=").filter(|id| is_key_id(id)).ok_or_else(bad)?;
        let signature = part("signature=").ok_or_else(bad)?;
        if parts.next().is_some() || signature.len() > MAX_SIGNATURE_BYTES {
            return Err(bad());
        }
        if algorithm != ALGORITHM {
            return Err(NotificationError::Algorithm);
        }
        let bytes = STANDARD.decode(signature).map_err(|_| bad())?;
        Ok(Self {
            key_id: key_id.to_owned(),
            bytes,
        })
    }

    /// ECDSA over P-256 and SHA-256, DER, over the raw body.
    pub(crate) fn verify(&self, key: &SigningKey, body: &Bytes) -> Result<(), NotificationError> {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &key.0)
            .verify(body, &self.bytes)
            .map_err(|_| NotificationError::Signature)
    }
}

impl SigningKey {
    /// From base64 of a DER SubjectPublicKeyInfo; `None` if it is no key of P-256.
    pub(crate) fn from_base64(text: &str) -> Option<Self> {
        let der = STANDARD.decode(text.trim()).ok()?;
        let point = der.strip_prefix(&P256_PREFIX)?;
        (point.len() == P256_POINT_BYTES && point.first() == Some(&4)).then(|| Self(point.to_vec()))
    }
}

impl Keys {
    /// A key that was fetched before.
    pub(crate) fn known(&self, id: &str) -> Option<SigningKey> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .iter()
            .find(|(known, _)| known == id)
            .map(|(_, key)| key.clone())
    }

    /// Whether one more key may be fetched now; counts it if so.
    pub(crate) fn may_fetch(&self, now: Timestamp) -> bool {
        self.fetches.take(now)
    }

    /// Remembers a key, and forgets the oldest if there are too many.
    pub(crate) fn remember(&self, id: &str, key: &SigningKey) {
        let mut keys = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.iter().any(|(known, _)| known == id) {
            return;
        }
        keys.push_back((id.to_owned(), key.clone()));
        if keys.len() > MAX_KEYS {
            keys.pop_front();
        }
    }
}

/// What a verified body is about. Its state is not read: the entity is.
pub(crate) fn decode(body: &Bytes, space: i64) -> Result<Notification, NotificationError> {
    let payload: WebhookPayload = serde_json::from_slice(body)
        .map_err(|_| NotificationError::Body("not the documented members"))?;
    if payload.space_id != space {
        return Err(NotificationError::OtherAccount);
    }
    if payload.entity_id < 1 {
        return Err(NotificationError::Body("entityId"));
    }
    let id = payload.entity_id.to_string();
    Ok(Notification {
        event_id: format!("{}-{}-{id}", payload.event_id, payload.listener_entity_id),
        subject: subject(payload.listener_entity_id, id)?,
    })
}

fn subject(entity: i64, id: String) -> Result<Subject, NotificationError> {
    let bad = |_| NotificationError::Body("entityId");
    let kind = match entity {
        TRANSACTION => {
            return Ok(Subject::Payment {
                reservation: Some(ReservationId::new(id).map_err(bad)?),
                reference: None,
                object: None,
            });
        }
        COMPLETION => OperationKind::Capture,
        VOID => OperationKind::Void,
        REFUND => OperationKind::Refund,
        _ => return Ok(Subject::Other),
    };
    let object = ObjectId::new(id).map_err(bad)?;
    Ok(Subject::Operation { kind, object })
}

/// The id goes into a path, so it is letters, digits and hyphens only.
fn is_key_id(id: &str) -> bool {
    let in_alphabet = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_KEY_ID_BYTES).contains(&id.len()) && id.bytes().all(in_alphabet)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn parse(header: &str) -> Result<Signature, NotificationError> {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_str(header).unwrap());
        Signature::from_headers(&headers)
    }

    #[test]
    fn the_header_has_one_form() {
        assert!(parse("algorithm=SHA256withECDSA, keyId=a-1, signature=AAAA").is_ok());
        for bad in [
            "",
            "algorithm=SHA256withECDSA,keyId=a-1,signature=AAAA",
            "algorithm=SHA256withECDSA,  keyId=a-1, signature=AAAA",
            "keyId=a-1, algorithm=SHA256withECDSA, signature=AAAA",
            "algorithm=SHA256withECDSA, keyId=a-1, signature=AAAA, signature=AAAA",
            "algorithm=SHA256withECDSA, keyId=A-1, signature=AAAA",
            "algorithm=SHA256withECDSA, keyId=../x, signature=AAAA",
            "algorithm=SHA256withECDSA, keyId=, signature=AAAA",
            "algorithm=SHA256withECDSA, keyId=a-1, signature=A",
            "algorithm=SHA256withECDSA, keyId=a-1",
        ] {
            let error = parse(bad).unwrap_err();
            assert!(matches!(error, NotificationError::HeaderFormat(_)), "{bad}");
        }
        let error = parse("algorithm=SHA1withECDSA, keyId=a-1, signature=AAAA").unwrap_err();
        assert!(matches!(error, NotificationError::Algorithm));
    }

    #[test]
    fn a_missing_or_doubled_header_is_refused() {
        let mut headers = HeaderMap::new();
        let missing = Signature::from_headers(&headers).unwrap_err();
        assert!(matches!(missing, NotificationError::Header(_)));
        let value = HeaderValue::from_static("algorithm=SHA256withECDSA, keyId=a, signature=AAAA");
        headers.append(HEADER, value.clone());
        headers.append(HEADER, value);
        let doubled = Signature::from_headers(&headers).unwrap_err();
        assert!(matches!(doubled, NotificationError::Header(_)));
    }

    #[test]
    fn only_a_point_of_p256_is_a_key() {
        let good = [&P256_PREFIX[..], &[4], &[7; 64]].concat();
        assert!(SigningKey::from_base64(&STANDARD.encode(&good)).is_some());
        for bad in [&good[..90], &good[1..], &[&good[..], &[0]].concat(), &[]] {
            assert!(SigningKey::from_base64(&STANDARD.encode(bad)).is_none());
        }
        assert!(SigningKey::from_base64("-----BEGIN PUBLIC KEY-----").is_none());
    }

    #[test]
    fn made_up_ids_do_not_become_calls_without_end() {
        let keys = Keys::default();
        let start = Timestamp::from_seconds(1_700_000_000);
        assert_eq!(
            (0..100).filter(|_| keys.may_fetch(start)).count(),
            MAX_FETCHES
        );
        assert!(keys.may_fetch(start.plus(FETCH_WINDOW)));
    }

    #[test]
    fn a_clock_that_is_put_back_holds_no_fetch_up() {
        let (keys, budget) = (Keys::default(), reads());
        let ahead = Timestamp::from_seconds(1_700_000_000);
        assert_eq!((0..100).filter(|_| keys.may_fetch(ahead)).count(), 10);
        assert_eq!((0..1000).filter(|_| budget.take(ahead)).count(), MAX_READS);
        let now = ahead.minus(Duration::from_secs(24 * 3600));
        assert!(keys.may_fetch(now));
        assert!(budget.take(now));
    }

    #[test]
    fn the_cache_is_bounded() {
        let keys = Keys::default();
        for number in 0..100 {
            keys.remember(&format!("k-{number}"), &SigningKey(vec![4]));
        }
        assert!(keys.known("k-99").is_some() && keys.known("k-0").is_none());
        assert_eq!(keys.known.lock().unwrap().len(), MAX_KEYS);
    }

    #[test]
    fn entities_become_subjects() {
        let body = |entity: i64, space: i64| {
            Bytes::from(format!(
                "{{\"entityId\":11,\"eventId\":35,\"listenerEntityId\":{entity},\
                 \"listenerEntityTechnicalName\":\"x\",\"spaceId\":{space},\"state\":\"FULFILL\",\
                 \"timestamp\":\"2026-05-04T10:00:00+0000\",\"webhookListenerId\":2}}"
            ))
        };
        let subject = |entity| decode(&body(entity, 405), 405).unwrap().subject;
        assert!(matches!(
            subject(TRANSACTION),
            Subject::Payment { reservation: Some(id), object: None, .. } if id.as_str() == "11"
        ));
        for (entity, expected) in [
            (COMPLETION, OperationKind::Capture),
            (VOID, OperationKind::Void),
            (REFUND, OperationKind::Refund),
        ] {
            assert!(matches!(
                subject(entity),
                Subject::Operation { kind, object } if kind == expected && object.as_str() == "11"
            ));
        }
        assert_eq!(subject(1_472_041_806_455), Subject::Other);
        assert!(matches!(
            decode(&body(VOID, 406), 405),
            Err(NotificationError::OtherAccount)
        ));
        let empty = Bytes::from_static(b"{}");
        assert!(matches!(
            decode(&empty, 405),
            Err(NotificationError::Body(_))
        ));
    }
}
