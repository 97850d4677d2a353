use std::collections::{BTreeMap, VecDeque};

use cardless_contract::Timestamp;
use cardless_transport::Request;
use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE, HeaderName, PROXY_AUTHORIZATION};
use serde::Serialize;

use crate::Provider;

/// One request that arrived, as `GET /requests` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordedRequest {
    /// At which provider.
    pub provider: Provider,
    /// When, by the sandbox's clock.
    pub at: Timestamp,
    /// The method.
    pub method: String,
    /// The path as sent, without the query.
    pub path: String,
    /// The query as sent; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// The headers, names in small letters, without those that carry credentials. Values of a
    /// repeated header are joined by a comma.
    pub headers: BTreeMap<String, String>,
    /// The body as text, cut at 64 KiB.
    pub body: String,
}

/// How much of a body is kept, in bytes.
pub(crate) const MAX_SHOWN_BODY_BYTES: usize = 64 * 1024;

/// How many requests are kept; older ones go first.
pub(crate) const MAX_REQUESTS: usize = 10_000;

/// Headers that carry credentials.
const SECRET_HEADERS: [HeaderName; 3] = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION];

/// The latest requests, in the order in which they arrived.
#[derive(Debug, Default)]
pub(crate) struct RequestLog(VecDeque<RecordedRequest>);

impl RequestLog {
    /// Keeps a request.
    pub(crate) fn record(&mut self, provider: Provider, at: Timestamp, request: &Request) {
        if self.0.len() >= MAX_REQUESTS {
            self.0.pop_front();
        }
        let shown = request.body().get(..MAX_SHOWN_BODY_BYTES);
        self.0.push_back(RecordedRequest {
            provider,
            at,
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().map(str::to_owned),
            headers: without_secrets(request.headers()),
            body: String::from_utf8_lossy(shown.unwrap_or(request.body())).into_owned(),
        });
    }

    /// The requests of one provider, or all.
    pub(crate) fn of(&self, provider: Option<Provider>) -> Vec<RecordedRequest> {
        let wanted = |request: &&RecordedRequest| provider.is_none_or(|p| p == request.provider);
        self.0.iter().filter(wanted).cloned().collect()
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

fn without_secrets(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut shown: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        if SECRET_HEADERS.contains(name) {
            continue;
        }
        let value = String::from_utf8_lossy(value.as_bytes());
        shown
            .entry(name.to_string())
            .and_modify(|joined| {
                joined.push_str(", ");
                joined.push_str(&value);
            })
            .or_insert_with(|| value.to_string());
    }
    shown
}
