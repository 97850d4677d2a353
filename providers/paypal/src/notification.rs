//! Webhooks: signature, then decoding (`providers/paypal.md` §8).

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cardless_contract::{
    Clock, Delivery, ErrorKind, Notification, NotificationError, ObjectId, ProviderError,
    ProviderName, RawNotification, Reference, ReservationId, Subject, Timestamp,
};
use cardless_transport::{Budget, Hosts, Transport};
use http::{HeaderMap, Request, StatusCode};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use url::Url;

use crate::config::Environment;
use crate::mapping::PathId;
use crate::wire::{Event, EventResource};

const TRANSMISSION_ID: &str = "paypal-transmission-id";
const TRANSMISSION_TIME: &str = "paypal-transmission-time";
const TRANSMISSION_SIGNATURE: &str = "paypal-transmission-sig";
const CERTIFICATE_URL: &str = "paypal-cert-url";
const ALGORITHM: &str = "paypal-auth-algo";

/// The only algorithm that is accepted.
const SHA256_WITH_RSA: &str = "SHA256withRSA";
/// Where certificates lie on the hosts of the list.
const CERTIFICATE_PATH: &str = "/v1/notifications/certs/";
/// The largest certificate file, in bytes (64 KiB).
const MAX_CERTIFICATE_BYTES: usize = 64 * 1024;
/// How many certificate files are kept.
const MAX_CACHED_CERTIFICATES: usize = 8;
/// How many certificate files may be fetched within [`FETCH_WINDOW`], so that made-up addresses
/// can't be turned into calls.
const MAX_FETCHES: usize = 10;
/// The window of [`MAX_FETCHES`].
const FETCH_WINDOW: Duration = Duration::from_secs(60);
/// How far ahead of our clock a delivery may be signed.
const MAX_AHEAD: Duration = Duration::from_secs(5 * 60);
/// How old a delivery may be: PayPal repeats for three days, perhaps under the first time.
const MAX_AGE: Duration = Duration::from_secs(4 * 24 * 3600);

/// Checks deliveries to our webhook.
pub(crate) struct Verifier {
    provider: ProviderName,
    environment: Environment,
    webhook_ids: Vec<String>,
    clock: Arc<dyn Clock>,
    anchors: Vec<TrustAnchor<'static>>,
    intermediates: Vec<CertificateDer<'static>>,
    cache: Mutex<VecDeque<(String, Arc<Chain>)>>,
    /// When files were fetched, within the window.
    fetches: Budget,
}

/// A certificate file: the signer first.
type Chain = Vec<CertificateDer<'static>>;

/// The five headers of a delivery.
struct Signed<'a> {
    id: &'a str,
    time: &'a str,
    signature: Vec<u8>,
    certificate: Url,
}

impl Verifier {
    /// Trusts the public roots, and `roots`. Whether roots of one's own are acceptable is decided
    /// where settings are read.
    pub(crate) fn new(
        provider: ProviderName,
        environment: Environment,
        webhook_ids: Vec<String>,
        clock: Arc<dyn Clock>,
        intermediates: Vec<CertificateDer<'static>>,
        roots: &[CertificateDer<'static>],
    ) -> Option<Self> {
        let mut anchors = webpki_roots::TLS_SERVER_ROOTS.to_vec();
        for root in roots {
            anchors.push(webpki::anchor_from_trusted_cert(root).ok()?.to_owned());
        }
        Some(Self {
            provider,
            environment,
            webhook_ids,
            clock,
            anchors,
            intermediates,
            cache: Mutex::new(VecDeque::new()),
            fetches: Budget::new(MAX_FETCHES, FETCH_WINDOW),
        })
    }

    /// Where certificates may lie, outside of loopback.
    pub(crate) const fn certificate_hosts(&self) -> &'static [&'static str] {
        self.environment.certificate_hosts()
    }

    /// The whole check, in the order of §8.3.
    pub(crate) async fn verify(
        &self,
        transport: &Transport,
        delivery: &RawNotification<'_>,
    ) -> Result<Notification, NotificationError> {
        let signed = self.headers(delivery.headers, transport.hosts())?;
        let chain = self.certificate(transport, &signed.certificate).await?;
        let signer = self.check_chain(&chain)?;
        self.keep(&signed.certificate, &chain);
        self.check_signature(&signer, &signed, delivery.body)?;
        self.check_age(signed.time)?;
        decode(delivery.body, signed.id)
    }

    fn headers<'a>(
        &self,
        headers: &'a HeaderMap,
        hosts: &Hosts,
    ) -> Result<Signed<'a>, NotificationError> {
        let id = once(headers, TRANSMISSION_ID)?;
        let time = once(headers, TRANSMISSION_TIME)?;
        let signature = once(headers, TRANSMISSION_SIGNATURE)?;
        let certificate = once(headers, CERTIFICATE_URL)?;
        if once(headers, ALGORITHM)? != SHA256_WITH_RSA {
            return Err(NotificationError::Algorithm);
        }
        let format = NotificationError::HeaderFormat;
        Ok(Signed {
            id,
            time,
            signature: STANDARD
                .decode(signature)
                .map_err(|_| format(TRANSMISSION_SIGNATURE))?,
            certificate: self.certificate_url(certificate, hosts)?,
        })
    }

    /// An unchecked address is request forgery, and total forgery of events.
    fn certificate_url(&self, text: &str, hosts: &Hosts) -> Result<Url, NotificationError> {
        let url = Url::parse(text).map_err(|_| NotificationError::KeyAddress)?;
        let named = |host| self.environment.certificate_hosts().contains(&host);
        let on_list = hosts.is_loopback() || url.host_str().is_some_and(named);
        let name = url
            .path()
            .strip_prefix(CERTIFICATE_PATH)
            .unwrap_or_default();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let fits = hosts.allow(&url)
            && on_list
            && url.query().is_none()
            && url.fragment().is_none()
            && !name.is_empty()
            && name.bytes().all(plain);
        if fits {
            Ok(url)
        } else {
            Err(NotificationError::KeyAddress)
        }
    }

    async fn certificate(
        &self,
        transport: &Transport,
        url: &Url,
    ) -> Result<Arc<Chain>, NotificationError> {
        if let Some(chain) = self.cached(url) {
            return Ok(chain);
        }
        let body = self.fetch(transport, url).await?;
        let chain = CertificateDer::pem_slice_iter(&body).collect::<Result<Chain, _>>();
        chain
            .map(Arc::new)
            .map_err(|_| NotificationError::Certificate("not PEM"))
    }

    async fn fetch(&self, transport: &Transport, url: &Url) -> Result<Bytes, NotificationError> {
        let unavailable = |kind, delivery| {
            let error = ProviderError::new(self.provider.clone(), kind, delivery);
            NotificationError::KeyUnavailable(error)
        };
        if !self.may_fetch() {
            // PayPal delivers again, and by then a real one has its turn.
            return Err(unavailable(ErrorKind::RateLimited, Delivery::NotSent));
        }
        let request = Request::get(url.as_str())
            .body(Bytes::new())
            .map_err(|_| NotificationError::KeyAddress)?;
        let response = transport.send(request).await.map_err(|error| {
            NotificationError::KeyUnavailable(error.into_provider_error(&self.provider))
        })?;
        match response.status() {
            StatusCode::OK if response.body().len() <= MAX_CERTIFICATE_BYTES => {
                Ok(response.into_body())
            }
            StatusCode::OK => Err(NotificationError::Certificate("the file is too large")),
            StatusCode::NOT_FOUND | StatusCode::GONE => Err(NotificationError::UnknownKey),
            _ => Err(unavailable(ErrorKind::ProviderFailed, Delivery::Unknown)),
        }
    }

    /// Whether one more file may be fetched now; counts it if so.
    fn may_fetch(&self) -> bool {
        self.fetches.take(self.clock.now())
    }

    /// Chain, dates, purpose and name: an ordinary server certificate's check (§8.4).
    fn check_chain<'a>(
        &self,
        chain: &'a Chain,
    ) -> Result<webpki::EndEntityCert<'a>, NotificationError> {
        let bad = NotificationError::Certificate;
        let (signer, rest) = chain.split_first().ok_or(bad("the file is empty"))?;
        let signer = webpki::EndEntityCert::try_from(signer).map_err(|_| bad("not X.509"))?;
        let between: Vec<_> = rest.iter().chain(&self.intermediates).cloned().collect();
        let seconds = u64::try_from(self.clock.now().seconds()).unwrap_or(0);
        signer
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &self.anchors,
                &between,
                UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
                webpki::KeyUsage::server_auth(),
                None,
                None,
            )
            .map_err(|error| bad(why(&error)))?;
        let name = ServerName::try_from(self.environment.certificate_name())
            .map_err(|_| bad("the name"))?;
        signer
            .verify_is_valid_for_subject_name(&name)
            .map_err(|_| bad("the name"))?;
        Ok(signer)
    }

    /// RSASSA-PKCS1-v1_5 with SHA-256 over `id|time|webhook id|crc32 in decimal` (§8.3).
    fn check_signature(
        &self,
        signer: &webpki::EndEntityCert<'_>,
        signed: &Signed<'_>,
        body: &[u8],
    ) -> Result<(), NotificationError> {
        let crc = crc32fast::hash(body);
        let fits = |webhook_id: &String| {
            let message = format!("{}|{}|{webhook_id}|{crc}", signed.id, signed.time);
            signer
                .verify_signature(
                    webpki::ring::RSA_PKCS1_2048_8192_SHA256,
                    message.as_bytes(),
                    &signed.signature,
                )
                .is_ok()
        };
        let fits = self.webhook_ids.iter().any(fits);
        fits.then_some(()).ok_or(NotificationError::Signature)
    }

    fn check_age(&self, time: &str) -> Result<(), NotificationError> {
        let signed_at = Timestamp::parse_rfc3339(time)
            .ok_or(NotificationError::HeaderFormat(TRANSMISSION_TIME))?;
        let now = self.clock.now();
        if signed_at > now.plus(MAX_AHEAD) || signed_at < now.minus(MAX_AGE) {
            return Err(NotificationError::Stale);
        }
        Ok(())
    }

    fn cached(&self, url: &Url) -> Option<Arc<Chain>> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = cache.iter().find(|(key, _)| key == url.as_str());
        entry.map(|(_, chain)| Arc::clone(chain))
    }

    /// Keeps a file whose chain and name hold, so that no flood of bad signatures has it fetched
    /// again and again. Each use checks its dates again.
    fn keep(&self, url: &Url, chain: &Arc<Chain>) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.iter().any(|(key, _)| key == url.as_str()) {
            return;
        }
        if cache.len() >= MAX_CACHED_CERTIFICATES {
            drop(cache.pop_front());
        }
        cache.push_back((url.as_str().to_owned(), Arc::clone(chain)));
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("environment", &self.environment)
            .finish_non_exhaustive()
    }
}

/// A header that must stand exactly once, as text.
fn once<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, NotificationError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value
            .to_str()
            .map_err(|_| NotificationError::HeaderFormat(name)),
        _ => Err(NotificationError::Header(name)),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the words are for the log; all other reasons share one"
)]
fn why(error: &webpki::Error) -> &'static str {
    match error {
        webpki::Error::CertExpired { .. } => "it has expired",
        webpki::Error::CertNotValidYet { .. } => "it is not valid yet",
        webpki::Error::UnknownIssuer => "its issuer is unknown",
        _ => "its chain",
    }
}

/// What an event is about. Nothing else of the body is taken: the signature does not bind it.
pub(crate) fn decode(
    body: &[u8],
    transmission_id: &str,
) -> Result<Notification, NotificationError> {
    let event: Event =
        serde_json::from_slice(body).map_err(|_| NotificationError::Body("not an event"))?;
    // Both, since a forger who repairs the CRC can write any event id, but no transmission id.
    let event_id = format!("{}:{transmission_id}", event.id);
    let fits = event_id.len() <= Notification::MAX_EVENT_ID_BYTES
        && event_id.bytes().all(|byte| byte.is_ascii_graphic());
    if !fits {
        return Err(NotificationError::Body("the event's id"));
    }
    let subject = subject(&event);
    Ok(Notification { event_id, subject })
}

fn subject(event: &Event) -> Subject {
    let resource = &event.resource;
    let name = event.event_type.as_str();
    let is_v2 = event
        .resource_version
        .as_deref()
        .is_some_and(|v| v.starts_with("2."));
    if name.starts_with("PAYMENT.") {
        // Versions 1 and 2 of the API share names; version 1 is not ours.
        let known = [
            "PAYMENT.AUTHORIZATION.",
            "PAYMENT.CAPTURE.",
            "PAYMENT.REFUND.",
        ];
        if !is_v2 || !known.iter().any(|prefix| name.starts_with(prefix)) {
            return Subject::Other;
        }
        let is_refund = name == "PAYMENT.CAPTURE.REFUNDED" || name.starts_with("PAYMENT.REFUND.");
        return if is_refund {
            of_refund(resource)
        } else {
            of_payment(resource)
        };
    }
    if name.starts_with("CHECKOUT.") {
        let order = resource.order_id.as_deref().or(resource.id.as_deref());
        return payment(order, None, None);
    }
    if name.starts_with("CUSTOMER.DISPUTE.") {
        let first = resource.disputed_transactions.first();
        let capture = first.and_then(|t| t.seller_transaction_id.as_deref());
        return payment(None, None, capture);
    }
    Subject::Other
}

/// An authorization or a capture.
fn of_payment(resource: &EventResource) -> Subject {
    payment(
        related_order(resource),
        resource.custom_id.as_deref(),
        resource.id.as_deref(),
    )
}

/// A refund: its `custom_id` is that of the refund, and its capture stands in the link `up`.
fn of_refund(resource: &EventResource) -> Subject {
    let up = resource.links.iter().find(|link| link.rel == "up");
    let capture = up.and_then(|link| link.href.rsplit('/').next());
    payment(
        related_order(resource),
        None,
        capture.or(resource.id.as_deref()),
    )
}

fn related_order(resource: &EventResource) -> Option<&str> {
    let related = resource.supplementary_data.as_ref()?.related_ids.as_ref()?;
    related.order_id.as_deref()
}

/// Only names of the documented shape; without any there is nothing to look at.
fn payment(order: Option<&str>, reference: Option<&str>, object: Option<&str>) -> Subject {
    let checked = |id: &&str| PathId::payment(id).is_some();
    let reservation = order
        .filter(checked)
        .and_then(|id| ReservationId::new(id).ok());
    let object = object.filter(checked).and_then(|id| ObjectId::new(id).ok());
    let reference = reference.and_then(|text| Reference::new(text).ok());
    if reservation.is_none() && object.is_none() && reference.is_none() {
        return Subject::Other;
    }
    Subject::Payment {
        reservation,
        reference,
        object,
    }
}

#[cfg(test)]
mod tests {

    use async_trait::async_trait;
    use cardless_transport::{HttpClient, Request, Response, SendError};
    use http::HeaderValue;

    use super::*;

    #[derive(Debug)]
    struct At(Timestamp);

    impl Clock for At {
        fn now(&self) -> Timestamp {
            self.0
        }
    }

    /// Serves one certificate file.
    #[derive(Debug)]
    struct Certificates(String, Mutex<usize>);

    #[async_trait]
    impl HttpClient for Certificates {
        async fn send(&self, _request: Request) -> Result<Response, SendError> {
            *self.1.lock().unwrap() += 1;
            Ok(Response::new(Bytes::from(self.0.clone())))
        }
    }

    /// The recorded deliveries; `None` where they are not installed.
    fn vectors() -> Option<serde_json::Value> {
        cardless_testkit::shared::json("specs/paypal/webhook_vectors.json")
    }

    fn pem(text: &serde_json::Value) -> Vec<CertificateDer<'static>> {
        let text = text["pem"].as_str().unwrap().as_bytes();
        CertificateDer::pem_slice_iter(text)
            .map(Result::unwrap)
            .collect()
    }

    fn headers(vector: &serde_json::Value) -> HeaderMap {
        let all = vector["headers"].as_object().unwrap();
        all.iter()
            .map(|(name, value)| {
                let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
                (
                    name,
                    HeaderValue::from_str(value.as_str().unwrap()).unwrap(),
                )
            })
            .collect()
    }

    /// A delivery, and everything around it that a test may change.
    struct Case {
        file: serde_json::Value,
        headers: HeaderMap,
        body: Bytes,
        webhook_id: String,
        now: Timestamp,
        certificate: String,
        base: &'static str,
    }

    impl Case {
        fn of(file: &serde_json::Value, vector: &serde_json::Value) -> Self {
            let headers = headers(vector);
            let time = headers[TRANSMISSION_TIME].to_str().unwrap();
            Self {
                now: Timestamp::parse_rfc3339(time)
                    .unwrap()
                    .plus(Duration::from_secs(3)),
                body: Bytes::from(vector["body"].as_str().unwrap().to_owned()),
                webhook_id: vector["webhook_id"].as_str().unwrap().to_owned(),
                certificate: file["certificate"]["pem"].as_str().unwrap().to_owned(),
                file: file.clone(),
                headers,
                base: "https://api-m.sandbox.paypal.com",
            }
        }

        fn set(&mut self, name: &'static str, value: &str) {
            drop(
                self.headers
                    .insert(name, HeaderValue::from_str(value).unwrap()),
            );
        }

        async fn verify(&self) -> Result<Notification, NotificationError> {
            let name = ProviderName::new("paypal").unwrap();
            let verifier = Verifier::new(
                name.clone(),
                Environment::Sandbox,
                vec!["WH-OTHER".to_owned(), self.webhook_id.clone()],
                Arc::new(At(self.now)),
                pem(&self.file["intermediate"]),
                &pem(&self.file["root"]),
            )
            .unwrap();
            let hosts = Hosts::new(self.base, &["api.sandbox.paypal.com"]).unwrap();
            let client = Arc::new(Certificates(self.certificate.clone(), Mutex::default()));
            let transport = Transport::new(name, client, hosts);
            let delivery = RawNotification {
                headers: &self.headers,
                body: &self.body,
            };
            verifier.verify(&transport, &delivery).await
        }
    }

    #[tokio::test]
    async fn real_deliveries_verify_and_a_forgery_is_harmless() {
        let Some(file) = vectors() else {
            return;
        };
        for vector in file["vectors"].as_array().unwrap() {
            let verified = Case::of(&file, vector).verify().await.unwrap();
            // All five are sale events of version 1. The last one is a forged amount under a
            // genuine signature: it verifies, and says nothing that anybody would act on.
            assert_eq!(verified.subject, Subject::Other, "{}", vector["name"]);
            let transmission = vector["headers"]["PAYPAL-TRANSMISSION-ID"]
                .as_str()
                .unwrap();
            assert!(verified.event_id.ends_with(transmission));
        }
    }

    #[tokio::test]
    async fn each_way_of_being_wrong_has_its_error() {
        let Some(file) = vectors() else {
            return;
        };
        let case = || Case::of(&file, &file["vectors"][0]);

        for name in [
            TRANSMISSION_ID,
            TRANSMISSION_TIME,
            TRANSMISSION_SIGNATURE,
            CERTIFICATE_URL,
            ALGORITHM,
        ] {
            let mut missing = case();
            drop(missing.headers.remove(name));
            assert!(
                matches!(missing.verify().await, Err(NotificationError::Header(n)) if n == name)
            );
            let mut twice = case();
            let value = twice.headers[name].clone();
            twice.headers.append(name, value);
            assert!(matches!(twice.verify().await, Err(NotificationError::Header(n)) if n == name));
        }

        let mut other_algorithm = case();
        other_algorithm.set(ALGORITHM, "SHA1withRSA");
        assert!(matches!(
            other_algorithm.verify().await,
            Err(NotificationError::Algorithm)
        ));

        let mut other_webhook = case();
        other_webhook.webhook_id = "WH-ELSE".to_owned();
        assert!(matches!(
            other_webhook.verify().await,
            Err(NotificationError::Signature)
        ));

        let mut other_body = case();
        other_body.body = Bytes::from([other_body.body.as_ref(), b" "].concat());
        assert!(matches!(
            other_body.verify().await,
            Err(NotificationError::Signature)
        ));

        for (name, value) in [
            (TRANSMISSION_ID, "b2384410-f8d2-11e4-8bf3-77339302725c"),
            (TRANSMISSION_TIME, "2015-05-12T18:14:15Z"),
            (TRANSMISSION_SIGNATURE, "AAAA"),
        ] {
            let mut changed = case();
            changed.set(name, value);
            assert!(
                matches!(changed.verify().await, Err(NotificationError::Signature)),
                "{name}"
            );
        }

        let mut no_base64 = case();
        no_base64.set(TRANSMISSION_SIGNATURE, "%%%");
        assert!(matches!(
            no_base64.verify().await,
            Err(NotificationError::HeaderFormat(_))
        ));
    }

    #[tokio::test]
    async fn certificates_are_checked() {
        let Some(file) = vectors() else {
            return;
        };
        let case = || Case::of(&file, &file["vectors"][0]);

        for url in [
            "http://api.sandbox.paypal.com/v1/notifications/certs/CERT-1",
            "https://api.paypal.com/v1/notifications/certs/CERT-1",
            "https://www.sandbox.paypal.com/v1/notifications/certs/CERT-1",
            "https://api.sandbox.paypal.com.evil.example/v1/notifications/certs/CERT-1",
            "https://a@api.sandbox.paypal.com/v1/notifications/certs/CERT-1",
            "https://api.sandbox.paypal.com:8443/v1/notifications/certs/CERT-1",
            "https://api.sandbox.paypal.com/v1/notifications/certs/CERT-1?x",
            "https://api.sandbox.paypal.com/v1/notifications/certs/CERT-1#x",
            "https://api.sandbox.paypal.com/v1/notifications/certs/",
            "https://api.sandbox.paypal.com/v1/notifications/certs/../x",
            "https://api.sandbox.paypal.com/v1/other/CERT-1",
            "http://127.0.0.1/v1/notifications/certs/CERT-1",
            "https://127.0.0.1/v1/notifications/certs/CERT-1",
            "https://[::1]/v1/notifications/certs/CERT-1",
            "https://[::ffff:1.2.3.4]/v1/notifications/certs/CERT-1",
            "https://api.sandbox.paypal.com./v1/notifications/certs/CERT-1",
            "https://xn--pi-7kc.sandbox.paypal.com/v1/notifications/certs/CERT-1",
            "https://api.sandbox.paypal.com/v1/notifications/certs/%2e%2e/x",
            "https://api.sandbox.paypal.com/v1/notifications/certs/CERT%2F1",
            "https://api.sandbox.paypal.com/v1/notifications/certs/CERT-1/",
            "https://api.sandbox.paypal.com/v1/notifications/certs//CERT-1",
            "https://api.sandbox.paypal.com/v1/notifications/certs/CERT-1;x",
            "https://evil.example\\@api.sandbox.paypal.com/v1/notifications/certs/CERT-1",
            "https://:@evil.example/v1/notifications/certs/CERT-1",
            "//api.sandbox.paypal.com/v1/notifications/certs/CERT-1",
            "not an address",
        ] {
            let mut elsewhere = case();
            elsewhere.set(CERTIFICATE_URL, url);
            assert!(
                matches!(elsewhere.verify().await, Err(NotificationError::KeyAddress)),
                "{url}"
            );
        }

        let at = |text: &str| Timestamp::parse_rfc3339(text).unwrap();
        let mut expired = case();
        expired.now = at("2017-03-23T00:00:00Z");
        assert!(matches!(
            expired.verify().await,
            Err(NotificationError::Certificate("it has expired"))
        ));
        let mut early = case();
        early.now = at("2015-03-17T00:00:00Z");
        assert!(matches!(
            early.verify().await,
            Err(NotificationError::Certificate(_))
        ));

        let mut stale = case();
        stale.now = stale.now.plus(MAX_AGE);
        assert!(matches!(
            stale.verify().await,
            Err(NotificationError::Stale)
        ));
        let mut future = case();
        future.now = future.now.minus(MAX_AHEAD).minus(Duration::from_secs(4));
        assert!(matches!(
            future.verify().await,
            Err(NotificationError::Stale)
        ));

        let mut no_pem = case();
        no_pem.certificate = "<html>".to_owned();
        assert!(matches!(
            no_pem.verify().await,
            Err(NotificationError::Certificate(_))
        ));
        let mut large = case();
        large.certificate = "x".repeat(MAX_CERTIFICATE_BYTES + 1);
        assert!(matches!(
            large.verify().await,
            Err(NotificationError::Certificate(_))
        ));
        let mut other_name = case();
        other_name.certificate = file["intermediate"]["pem"].as_str().unwrap().to_owned();
        assert!(matches!(
            other_name.verify().await,
            Err(NotificationError::Certificate(_))
        ));
    }

    #[tokio::test]
    async fn made_up_addresses_do_not_become_calls_without_end() {
        let name = ProviderName::new("paypal").unwrap();
        let clock = Arc::new(At(Timestamp::from_seconds(1_800_000_000)));
        let ids = vec!["WH-1".to_owned()];
        let verifier = Verifier::new(
            name.clone(),
            Environment::Sandbox,
            ids,
            clock,
            Vec::new(),
            &[],
        );
        let client = Arc::new(Certificates("<html>".to_owned(), Mutex::default()));
        let hosts = Hosts::new("https://api-m.sandbox.paypal.com", &[]).unwrap();
        let transport = Transport::new(name, client.clone(), hosts);
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (TRANSMISSION_ID, "1"),
            (TRANSMISSION_TIME, "2027-01-15T08:00:00Z"),
            (TRANSMISSION_SIGNATURE, "AAAA"),
            (ALGORITHM, SHA256_WITH_RSA),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let mut verifier = verifier.unwrap();
        for number in 0..100 {
            let url =
                format!("https://api-m.sandbox.paypal.com/v1/notifications/certs/CERT-{number}");
            headers.insert(CERTIFICATE_URL, HeaderValue::from_str(&url).unwrap());
            let delivery = RawNotification {
                headers: &headers,
                body: &Bytes::new(),
            };
            let error = verifier.verify(&transport, &delivery).await.unwrap_err();
            assert_eq!(error.is_temporary(), number >= MAX_FETCHES, "{error}");
        }
        assert_eq!(*client.1.lock().unwrap(), MAX_FETCHES);
        assert!(verifier.cache.lock().unwrap().is_empty());
        // A clock that is put back holds nobody up.
        verifier.clock = Arc::new(At(verifier.clock.now().minus(MAX_AGE)));
        assert!(verifier.may_fetch());
    }

    fn subject_of(event: serde_json::Value) -> Subject {
        decode(event.to_string().as_bytes(), "t-1").unwrap().subject
    }

    #[test]
    fn events_say_what_to_read() {
        let capture = serde_json::json!({"id": "WH-1", "event_type": "PAYMENT.CAPTURE.COMPLETED",
            "resource_version": "2.0", "resource": {"id": "C1", "custom_id": "ref-1",
            "supplementary_data": {"related_ids": {"order_id": "O1"}}}});
        let expected = Subject::Payment {
            reservation: Some(ReservationId::new("O1").unwrap()),
            reference: Some(Reference::new("ref-1").unwrap()),
            object: Some(ObjectId::new("C1").unwrap()),
        };
        assert_eq!(subject_of(capture.clone()), expected);
        let mut version_1 = capture.clone();
        version_1["resource_version"] = "1.0".into();
        assert_eq!(subject_of(version_1), Subject::Other);

        let refund = serde_json::json!({"id": "WH-1", "event_type": "PAYMENT.CAPTURE.REFUNDED",
            "resource_version": "2.0", "resource": {"id": "R1", "custom_id": "refund-1", "links": [
            {"rel": "up", "href": "https://api.paypal.com/v2/payments/captures/C1"}]}});
        let expected = Subject::Payment {
            reservation: None,
            reference: None,
            object: Some(ObjectId::new("C1").unwrap()),
        };
        assert_eq!(subject_of(refund), expected);

        let order = serde_json::json!({"id": "WH-1", "event_type": "CHECKOUT.ORDER.APPROVED",
            "resource_version": "2.0", "resource": {"id": "O1"}});
        assert!(matches!(
            subject_of(order),
            Subject::Payment {
                reservation: Some(_),
                ..
            }
        ));
        let token = serde_json::json!({"id": "WH-1", "event_type": "VAULT.PAYMENT-TOKEN.DELETED",
            "resource": {"id": "canary"}});
        assert_eq!(subject_of(token), Subject::Other);
    }
}
