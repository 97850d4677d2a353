use bytes::Bytes;
use cardless_sandbox::OutgoingWebhook;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// A webhook as it comes to a door.
#[derive(Debug, Clone)]
pub(crate) struct Webhook {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl From<OutgoingWebhook> for Webhook {
    fn from(sent: OutgoingWebhook) -> Self {
        let mut headers = HeaderMap::new();
        for (name, value) in &sent.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        let url: http::Uri = sent.url.parse().unwrap();
        Self {
            method: Method::POST,
            path: url.path().to_owned(),
            headers,
            body: sent.body,
        }
    }
}

impl Webhook {
    /// A header's value, which stands once.
    pub(crate) fn value(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn with(&self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        let mut changed = self.clone();
        let value = HeaderValue::from_bytes(value.as_ref()).unwrap();
        changed.headers.insert(name, value);
        changed
    }

    pub(crate) fn and(&self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        let mut changed = self.clone();
        let value = HeaderValue::from_bytes(value.as_ref()).unwrap();
        changed.headers.append(name, value);
        changed
    }

    pub(crate) fn without(&self, name: &str) -> Self {
        let mut changed = self.clone();
        changed.headers.remove(name);
        changed
    }

    pub(crate) fn body(&self, body: impl Into<Bytes>) -> Self {
        let mut changed = self.clone();
        changed.body = body.into();
        changed
    }

    pub(crate) fn at(&self, path: impl Into<String>) -> Self {
        let mut changed = self.clone();
        changed.path = path.into();
        changed
    }

    pub(crate) fn by(&self, method: Method) -> Self {
        let mut changed = self.clone();
        changed.method = method;
        changed
    }

    /// All of it in one line of bytes; equal only for equal webhooks.
    pub(crate) fn fingerprint(&self) -> Vec<u8> {
        let mut bytes = format!("{} {}\n", self.method, self.path).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend([name.as_str().as_bytes(), b":", value.as_bytes(), b"\n"].concat());
        }
        bytes.extend_from_slice(&self.body);
        bytes
    }
}
