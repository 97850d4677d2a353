use std::time::Duration;

use bytes::Bytes;
use cardless_contract::{
    CaptureMode, Notification, NotificationError, OperationKind, RawNotification,
};
use http::{HeaderMap, HeaderValue};

use super::flow::{Step as Operation, chf, documented, paid};
use super::{Delivered, Fixture};

/// Longer than any provider's signature is good for, where it carries a time.
const STALE_DAYS: u64 = 6;

/// Every webhook of a life from link to refund verifies, and the same delivery names the same
/// event.
pub async fn notifications_verify(fixture: &impl Fixture) {
    let deliveries = deliveries(fixture).await;
    assert!(!deliveries.is_empty(), "no webhook was sent");
    for delivery in &deliveries {
        let first = verify(fixture, &delivery.headers, &delivery.body)
            .await
            .unwrap();
        let second = verify(fixture, &delivery.headers, &delivery.body)
            .await
            .unwrap();
        assert_eq!(first, second);
        assert!((1..=Notification::MAX_EVENT_ID_BYTES).contains(&first.event_id.len()));
    }
    documented(fixture);
}

/// Each part of a delivery changed, one at a time.
pub async fn tampered_notifications_are_refused(fixture: &impl Fixture) {
    for delivery in deliveries(fixture).await {
        tampered_body(fixture, &delivery).await;
        for name in signature_headers(&delivery.headers) {
            tampered_header(fixture, &delivery, &name).await;
        }
    }
    stale(fixture).await;
    documented(fixture);
}

async fn tampered_body(fixture: &impl Fixture, delivery: &Delivered) {
    let mut flipped = delivery.body.to_vec();
    if let Some(last) = flipped.last_mut() {
        *last ^= 1;
    }
    let mut longer = delivery.body.to_vec();
    longer.push(b' ');
    for body in [flipped, longer, Vec::new()] {
        let result = verify(fixture, &delivery.headers, &Bytes::from(body)).await;
        assert!(
            matches!(result, Err(NotificationError::Signature)),
            "a changed body: {result:?}"
        );
    }
}

async fn tampered_header(fixture: &impl Fixture, delivery: &Delivered, name: &str) {
    let mut without = delivery.headers.clone();
    without.remove(name);
    let result = verify(fixture, &without, &delivery.body).await;
    assert!(
        matches!(result, Err(NotificationError::Header(_))),
        "without {name}: {result:?}"
    );

    let mut twice = delivery.headers.clone();
    let value = delivery.headers.get(name).unwrap().clone();
    twice.append(
        http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
        value.clone(),
    );
    let result = verify(fixture, &twice, &delivery.body).await;
    assert!(
        matches!(result, Err(NotificationError::Header(_))),
        "{name} twice: {result:?}"
    );

    let mut changed = delivery.headers.clone();
    let mut bytes = value.as_bytes().to_vec();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte = if *byte == b'1' { b'2' } else { b'1' };
    }
    let other = HeaderValue::from_bytes(&bytes).unwrap();
    changed.insert(
        http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
        other,
    );
    let result = verify(fixture, &changed, &delivery.body).await;
    assert!(result.is_err(), "{name} changed: {result:?}");
}

/// A signature that carries a time is good for a while only.
async fn stale(fixture: &impl Fixture) {
    let deliveries = deliveries(fixture).await;
    fixture.advance(Duration::from_secs(STALE_DAYS * 24 * 3600));
    for delivery in deliveries {
        let result = verify(fixture, &delivery.headers, &delivery.body).await;
        let timed = !delivery.headers.contains_key("x-signature");
        let refused = matches!(result, Err(NotificationError::Stale));
        assert_eq!(refused, timed, "{result:?}");
    }
}

/// The headers of a provider's scheme. PayPal's version header is no part of it
/// (`providers/paypal.md` §8.3).
fn signature_headers(headers: &HeaderMap) -> Vec<String> {
    let schemes = [
        "paypal-transmission-",
        "paypal-cert-url",
        "paypal-auth-algo",
        "x-signature",
        "datatrans-signature",
    ];
    let names = headers.keys().map(|name| name.as_str().to_owned());
    names
        .filter(|name| schemes.iter().any(|scheme| name.starts_with(scheme)))
        .collect()
}

async fn deliveries(fixture: &impl Fixture) -> Vec<Delivered> {
    let paid = paid(fixture, chf(4990), CaptureMode::Automatic).await;
    Operation::new(OperationKind::Refund, &paid, chf(4990))
        .done(fixture)
        .await;
    fixture.deliveries()
}

async fn verify(
    fixture: &impl Fixture,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Notification, NotificationError> {
    let delivery = RawNotification { headers, body };
    fixture.provider().verify_notification(&delivery).await
}
