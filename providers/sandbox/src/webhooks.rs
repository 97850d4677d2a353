use std::collections::VecDeque;
use std::time::Duration;

use cardless_transport::{HttpClient, Request};
use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::{OutgoingWebhook, Provider};

/// How a provider's webhooks are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deliver {
    /// Each once, in order.
    #[default]
    Now,
    /// Each twice, in order.
    Twice,
    /// Those that are waiting, the last one first. Over sockets they gather for half a second.
    Reversed,
    /// Not at all.
    Never,
}

/// Where a provider's webhooks go, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookRoute {
    /// Whose webhooks.
    pub provider: Provider,
    /// Where they go when a request names no address of its own; absent leaves it as it is.
    #[serde(default)]
    pub url: Option<String>,
    /// How.
    pub deliver: Deliver,
}

/// How long webhooks gather before a batch is reversed, in milliseconds.
pub(crate) const GATHER_MILLIS: u64 = 500;

/// How many times a webhook is posted until it is answered with 2xx.
const MAX_ATTEMPTS: u32 = 5;

/// The wait before the second attempt, in milliseconds; it doubles with each further one.
const FIRST_WAIT_MILLIS: u64 = 200;

/// How many webhooks wait at once; older ones go first.
const MAX_WAITING: usize = 10_000;

/// Webhooks that wait, in the order in which they came about.
#[derive(Debug, Default)]
pub(crate) struct WebhookQueue(VecDeque<(Provider, bool, OutgoingWebhook)>);

impl WebhookQueue {
    /// Adds a webhook as often as `deliver` says.
    pub(crate) fn push(&mut self, provider: Provider, deliver: Deliver, webhook: OutgoingWebhook) {
        let (copies, reversed) = match deliver {
            Deliver::Now => (1, false),
            Deliver::Twice => (2, false),
            Deliver::Reversed => (1, true),
            Deliver::Never => (0, false),
        };
        for _ in 0..copies {
            if self.0.len() >= MAX_WAITING {
                self.0.pop_front();
            }
            self.0.push_back((provider, reversed, webhook.clone()));
        }
    }

    /// Whether a webhook of this provider waits for others, to be reversed with them.
    pub(crate) fn gathers(&self, provider: Provider) -> bool {
        self.0
            .iter()
            .any(|(p, reversed, _)| *p == provider && *reversed)
    }

    /// Takes the webhooks of one provider, or all: first those in order, then those to be
    /// reversed, the last one first.
    pub(crate) fn take(&mut self, provider: Option<Provider>) -> Vec<OutgoingWebhook> {
        let mut kept = VecDeque::new();
        let (mut ordered, mut reversed) = (Vec::new(), Vec::new());
        for (owner, reverse, webhook) in self.0.drain(..) {
            if provider.is_some_and(|provider| provider != owner) {
                kept.push_back((owner, reverse, webhook));
            } else if reverse {
                reversed.push(webhook);
            } else {
                ordered.push(webhook);
            }
        }
        self.0 = kept;
        ordered.extend(reversed.into_iter().rev());
        ordered
    }

    /// Whether none waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Whether webhooks may be posted there: `http` or `https`, on loopback.
pub(crate) fn is_deliverable(address: &str) -> bool {
    let Ok(url) = Url::parse(address) else {
        return false;
    };
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    loopback && matches!(url.scheme(), "http" | "https")
}

/// Posts a webhook until it is answered with 2xx, a few times at most.
pub(crate) async fn post(client: &dyn HttpClient, webhook: &OutgoingWebhook) {
    let Some(request) = request(webhook) else {
        tracing::warn!("a webhook was dropped: its address is not on loopback");
        return;
    };
    let mut wait = Duration::from_millis(FIRST_WAIT_MILLIS);
    for attempt in 1..=MAX_ATTEMPTS {
        match client.send(request.clone()).await {
            Ok(answer) if answer.status().is_success() => return,
            Ok(answer) => {
                tracing::debug!(
                    attempt,
                    status = answer.status().as_u16(),
                    "webhook refused"
                );
            }
            Err(error) => tracing::debug!(attempt, %error, "webhook not delivered"),
        }
        if attempt < MAX_ATTEMPTS {
            tokio::time::sleep(wait).await;
            wait = wait.saturating_mul(2);
        }
    }
    tracing::warn!(attempts = MAX_ATTEMPTS, "a webhook was given up");
}

fn request(webhook: &OutgoingWebhook) -> Option<Request> {
    if !is_deliverable(&webhook.url) {
        return None;
    }
    let mut request = http::Request::post(&webhook.url)
        .body(webhook.body.clone())
        .ok()?;
    for (name, value) in &webhook.headers {
        let name: HeaderName = name.parse().ok()?;
        request
            .headers_mut()
            .append(name, HeaderValue::from_str(value).ok()?);
    }
    Some(request)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn webhook(name: &str) -> OutgoingWebhook {
        OutgoingWebhook {
            url: "http://127.0.0.1:1/".to_owned(),
            headers: Vec::new(),
            body: Bytes::copy_from_slice(name.as_bytes()),
        }
    }

    fn taken(queue: &mut WebhookQueue, provider: Option<Provider>) -> String {
        let webhooks = queue.take(provider);
        let names = webhooks.iter().map(|w| String::from_utf8_lossy(&w.body));
        names.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn delivery_says_how_often_and_in_which_order() {
        for (deliver, expected) in [
            (Deliver::Now, "1 2 3"),
            (Deliver::Twice, "1 1 2 2 3 3"),
            (Deliver::Reversed, "3 2 1"),
            (Deliver::Never, ""),
        ] {
            let mut queue = WebhookQueue::default();
            for name in ["1", "2", "3"] {
                queue.push(Provider::PayPal, deliver, webhook(name));
            }
            assert_eq!(taken(&mut queue, None), expected);
            assert_eq!(taken(&mut queue, None), "");
        }
    }

    #[test]
    fn taking_one_providers_webhooks_leaves_the_others() {
        let mut queue = WebhookQueue::default();
        queue.push(Provider::PayPal, Deliver::Now, webhook("paypal"));
        queue.push(Provider::Aduno, Deliver::Reversed, webhook("aduno"));
        assert!(queue.gathers(Provider::Aduno) && !queue.gathers(Provider::PayPal));
        assert_eq!(taken(&mut queue, Some(Provider::Aduno)), "aduno");
        assert_eq!(taken(&mut queue, None), "paypal");
    }

    #[test]
    fn webhooks_stay_on_the_machine() {
        for good in [
            "http://127.0.0.1:8080/webhooks/paypal",
            "http://localhost/",
            "http://[::1]:1/",
        ] {
            assert!(is_deliverable(good), "{good}");
        }
        for bad in [
            "",
            "/webhooks",
            "https://pay.example/",
            "http://10.0.0.1/",
            "ftp://127.0.0.1/",
        ] {
            assert!(!is_deliverable(bad), "{bad}");
        }
    }
}
