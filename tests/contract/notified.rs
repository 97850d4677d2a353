//! Webhooks whose signer's key can't be had: nothing is accepted, and the sender is told to come
//! back only where that may help.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use cardless_contract::{
    Delivery, ErrorKind, Notification, NotificationError, RawNotification, SystemClock,
};
use cardless_transport::{HttpClient, Request, Response, SendError};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::adapters::Adapter;

const BASE: &str = "http://127.0.0.1:9101";
const CERTIFICATE: &str = "http://127.0.0.1:9101/v1/notifications/certs/CERT-1";
/// The curve's own base point in a SubjectPublicKeyInfo; no signature here is of it.
const OTHER_KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==";

/// Gives one answer to everything, or none.
#[derive(Debug)]
struct KeyServer {
    answer: Option<(u16, &'static str)>,
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl HttpClient for KeyServer {
    async fn send(&self, request: Request) -> Result<Response, SendError> {
        self.asked.lock().unwrap().push(request.uri().to_string());
        let Some((status, body)) = self.answer else {
            return Err(SendError::new(Delivery::NotSent, ErrorKind::Unreachable));
        };
        let mut response = Response::new(Bytes::from_static(body.as_bytes()));
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
        Ok(response)
    }
}

/// What comes of a delivery, and which addresses were asked for it.
async fn delivered(
    adapter: Adapter,
    answer: Option<(u16, &'static str)>,
    headers: &[(&'static str, &str)],
) -> (Result<Notification, NotificationError>, Vec<String>) {
    let server = Arc::new(KeyServer {
        answer,
        asked: Mutex::default(),
    });
    let provider = adapter.build(BASE, server.clone(), Arc::new(SystemClock::default()));
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_str(value).unwrap())
        })
        .collect();
    let delivery = RawNotification {
        headers: &headers,
        body: &Bytes::from_static(b"{}"),
    };
    let result = provider.verify_notification(&delivery).await;
    let asked = server.asked.lock().unwrap().clone();
    (result, asked)
}

fn postfinance(key_id: &str) -> String {
    format!("algorithm=SHA256withECDSA, keyId={key_id}, signature=AAAA")
}

const fn paypal(certificate: &str) -> [(&'static str, &str); 5] {
    [
        ("paypal-transmission-id", "1"),
        ("paypal-transmission-time", "2026-05-04T10:00:00Z"),
        ("paypal-transmission-sig", "AAAA"),
        ("paypal-cert-url", certificate),
        ("paypal-auth-algo", "SHA256withRSA"),
    ]
}

/// Which answers of a key server are worth another delivery.
const TEMPORARY: [Option<(u16, &str)>; 4] = [
    None,
    Some((503, "<html>")),
    Some((429, "")),
    Some((302, "")),
];

#[tokio::test]
async fn postfinances_key_is_asked_for_at_its_own_api_only() {
    let header = postfinance("a-1");
    let headers = [("x-signature", header.as_str())];
    let (result, asked) = delivered(Adapter::PostFinance, Some((404, "")), &headers).await;
    assert!(matches!(result, Err(NotificationError::UnknownKey)));
    let address = format!("{BASE}/api/v2.0/webhooks/encryption-keys/a-1");
    assert_eq!(asked, [address]);

    for answer in TEMPORARY {
        let (result, _) = delivered(Adapter::PostFinance, answer, &headers).await;
        assert!(result.unwrap_err().is_temporary(), "{answer:?}");
    }
    for body in ["<html>", "", "AAAA"] {
        let (result, _) = delivered(Adapter::PostFinance, Some((200, body)), &headers).await;
        assert!(
            matches!(result, Err(NotificationError::Certificate(_))),
            "{body}"
        );
    }
    let (result, _) = delivered(Adapter::PostFinance, Some((200, OTHER_KEY)), &headers).await;
    assert!(matches!(result, Err(NotificationError::Signature)));
}

#[tokio::test]
async fn a_key_id_does_not_lead_elsewhere() {
    for id in [
        "../transactions/1",
        "a%2f..",
        "a?x=1",
        "a#x",
        "//evil.example",
        "a b",
        "",
    ] {
        let header = postfinance(id);
        let headers = [("x-signature", header.as_str())];
        let (result, asked) = delivered(Adapter::PostFinance, None, &headers).await;
        assert!(
            matches!(result, Err(NotificationError::HeaderFormat(_))),
            "{id}"
        );
        assert!(asked.is_empty(), "{id}: {asked:?}");
    }
}

#[tokio::test]
async fn paypals_certificate_is_asked_for_where_it_may_lie_only() {
    let adapter = Adapter::PayPalVault;
    let (result, asked) = delivered(adapter, Some((404, "")), &paypal(CERTIFICATE)).await;
    assert!(matches!(result, Err(NotificationError::UnknownKey)));
    assert_eq!(asked, [CERTIFICATE]);

    for answer in TEMPORARY {
        let (result, _) = delivered(adapter, answer, &paypal(CERTIFICATE)).await;
        assert!(result.unwrap_err().is_temporary(), "{answer:?}");
    }
    for body in ["<html>", ""] {
        let (result, _) = delivered(adapter, Some((200, body)), &paypal(CERTIFICATE)).await;
        assert!(
            matches!(result, Err(NotificationError::Certificate(_))),
            "{body}"
        );
    }
    for foreign in [
        "https://api.paypal.com/v1/notifications/certs/CERT-1",
        "https://evil.example/v1/notifications/certs/CERT-1",
        "http://127.0.0.1:9101/v2/checkout/orders/CERT-1",
        "http://user@127.0.0.1:9101/v1/notifications/certs/CERT-1",
        "http://127.0.0.1.evil.example/v1/notifications/certs/CERT-1",
        "file:///etc/passwd",
    ] {
        let (result, asked) = delivered(adapter, None, &paypal(foreign)).await;
        assert!(
            matches!(result, Err(NotificationError::KeyAddress)),
            "{foreign}"
        );
        assert!(asked.is_empty(), "{foreign}: {asked:?}");
    }
}

#[tokio::test]
async fn an_unsigned_delivery_is_refused_and_nothing_is_asked() {
    for adapter in [Adapter::PostFinance, Adapter::PayPalVault, Adapter::Aduno] {
        let (result, asked) = delivered(adapter, None, &[]).await;
        assert!(
            matches!(result, Err(NotificationError::Header(_))),
            "{adapter:?}"
        );
        assert!(asked.is_empty());
    }
}
