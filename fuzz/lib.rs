//! What several targets need: adapters with the sandbox's settings, and a client that leads
//! nowhere.
#![forbid(unsafe_code)]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use cardless::config::{Environment, Settings};
use cardless_aduno::Aduno;
use cardless_contract::{Clock, Notification, NotificationError, PaymentProvider, Timestamp};
use cardless_paypal::PayPal;
use cardless_postfinance::PostFinance;
use cardless_sandbox::{Addresses, print_settings};
use cardless_transport::{HttpClient, InProcessClient, InProcessServer, Reply};
use http::HeaderMap;

/// A moment; every run is at the same.
#[derive(Debug)]
pub struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_795_000_000)
    }
}

/// Answers every request with nothing at all.
#[derive(Debug)]
struct Nowhere;

impl InProcessServer for Nowhere {
    fn serve(&self, _: http::Request<Bytes>) -> Reply {
        Reply::Drop
    }
}

/// The three adapters, which reach nobody.
pub fn adapters() -> [Arc<dyn PaymentProvider>; 3] {
    let text = print_settings(&Addresses::default());
    let settings = Settings::parse(Path::new("fuzz"), &text, &Environment::default())
        .expect("the sandbox prints settings that can be read");
    let clock: Arc<dyn Clock> = Arc::new(Noon);
    let client = || -> Arc<dyn HttpClient> {
        let deadline = std::time::Duration::from_secs(1);
        Arc::new(InProcessClient::new(Arc::new(Nowhere), deadline))
    };
    let fits = "the sandbox's settings fit the adapter";
    let config = settings.provider("paypal").expect(fits).expect(fits);
    let paypal = PayPal::new(config, client(), clock.clone()).expect(fits);
    let config = settings.provider("postfinance").expect(fits).expect(fits);
    let postfinance = PostFinance::new(config, client(), clock.clone()).expect(fits);
    let config = settings.provider("aduno").expect(fits).expect(fits);
    let aduno = Aduno::new(config, client(), clock.clone()).expect(fits);
    [Arc::new(paypal), Arc::new(postfinance), Arc::new(aduno)]
}

/// Headers and a body from lines `name: value`, an empty line, and the rest. What is no header is
/// left out.
pub fn message(data: &[u8]) -> (HeaderMap, Bytes) {
    let mut headers = HeaderMap::new();
    let mut rest = data;
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
        let (line, after) = rest.split_at(end);
        rest = &after[1..];
        if line.is_empty() {
            break;
        }
        let Some(colon) = line.windows(2).position(|pair| pair == b": ") else {
            continue;
        };
        let name = http::HeaderName::from_bytes(&line[..colon]);
        let value = http::HeaderValue::from_bytes(&line[colon + 2..]);
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    (headers, Bytes::copy_from_slice(rest))
}

/// What must be true of a body that was read.
pub fn check_body(decoded: Result<Notification, NotificationError>) {
    if let Ok(notification) = decoded {
        let id = &notification.event_id;
        assert!((1..=Notification::MAX_EVENT_ID_BYTES).contains(&id.len()));
        assert!(id.bytes().all(|byte| byte.is_ascii_graphic()), "{id:?}");
    }
}
