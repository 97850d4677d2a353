//! A client of a running service, with the types of [`crate::message`].
//!
//! It sends every request once. Whether one is repeated is the caller's decision; a repeat with the
//! same `Idempotency-Key` is always safe.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use cardless_transport::{HttpClient, Request, Response, SendError};
use http::{Method, StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::error::Code;
use crate::message::{
    Answer, CaptureRequest, Event, LinkRequest, MethodUpdate, Page, PayRequest, Payment,
    PaymentMethod, PaymentQuery, Refund, RefundRequest, Setup, VoidRequest,
};

/// Speaks to one service as one client.
#[derive(Debug, Clone)]
pub struct Client {
    base: Url,
    api_key: SecretString,
    http: Arc<dyn HttpClient>,
}

/// A call that brought no answer of the kind that was asked for. Unless it is a
/// [`ClientError::Problem`] that [is a refusal](Problem::is_refusal), a change may have been carried
/// out: send it again, under the same idempotency key.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// The request could not be built: a base address or key that no request can carry.
    Request,
    /// There was no answer; the error says how far the request got.
    Send(SendError),
    /// The service refused, and says why.
    Problem(Problem),
    /// The answer could not be read.
    Unreadable(StatusCode),
}

/// What the service says of a refusal (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The stable code, as [`crate::error::Code::as_str`].
    pub code: String,
    /// What kind of error it is.
    pub title: String,
    /// What happened, and what to do.
    pub detail: String,
    /// The path of the field that is at fault.
    #[serde(default)]
    pub field: Option<String>,
}

impl Problem {
    /// Whether nothing was done. Not so for errors of the service (5xx), and not while the first call
    /// under the same key is still running: what becomes of it, only the same call again tells.
    pub fn is_refusal(&self) -> bool {
        (400..500).contains(&self.status) && self.code != Code::InProgress.as_str()
    }
}

/// The result of a call.
pub type Result<T> = std::result::Result<T, ClientError>;

impl Client {
    /// A client of the service at `base_url`, as `http://127.0.0.1:8080`.
    ///
    /// # Errors
    ///
    /// [`ClientError::Request`] if that is no address.
    pub fn new(
        base_url: &str,
        api_key: impl Into<String>,
        http: Arc<dyn HttpClient>,
    ) -> Result<Self> {
        let base = Url::parse(base_url).map_err(|_| ClientError::Request)?;
        if base.cannot_be_a_base() {
            return Err(ClientError::Request);
        }
        Ok(Self {
            base,
            api_key: api_key.into().into(),
            http,
        })
    }

    /// `POST /v1/setups`.
    ///
    /// # Errors
    ///
    /// [`ClientError`], as for every call.
    pub async fn link(&self, key: &str, request: &LinkRequest) -> Result<Answer<Setup>> {
        self.post(&["v1", "setups"], key, request).await
    }

    /// `GET /v1/setups/{id}`.
    ///
    /// # Errors
    ///
    /// [`ClientError`], as for every call.
    pub async fn setup(&self, id: &str) -> Result<Setup> {
        self.get(&["v1", "setups", id], &[]).await
    }

    /// `GET /v1/accounts/{account}/payment-methods`.
    ///
    /// # Errors
    ///
    /// [`ClientError`], as for every call.
    pub async fn payment_methods(&self, account: &str) -> Result<Page<PaymentMethod>> {
        self.get(&["v1", "accounts", account, "payment-methods"], &[])
            .await
    }

    /// `PATCH /v1/payment-methods/{id}`.
    ///
    /// # Errors
    ///
    /// [`ClientError`], as for every call.
    pub async fn set_default(&self, id: &str, update: &MethodUpdate) -> Result<PaymentMethod> {
        let url = self.url(&["v1", "payment-methods", id], &[])?;
        let response = self
            .send(Method::PATCH, &url, None, body_of(update)?)
            .await?;
        decode(&response)
    }

    /// `DELETE /v1/payment-methods/{id}`; open while the provider has not confirmed.
    ///
    /// # Errors
    ///
    /// [`ClientError`], as for every call.
    pub async fn revoke(&self, id: &str, account: &str) -> Result<Answer<()>> {
        let url = self.url(&["v1", "payment-methods", id], &[("account", account)])?;
        let response = self.send(Method::DELETE, &url, None, Bytes::new()).await?;
        Ok(Answer {
            body: (),
            open: is_open(&response),
        })
    }

    /// `POST /v1/payments`.
    ///
    /// # Errors
    ///
    /// [`ClientError`], as for every call.
    pub async fn pay(&self, key: &str, request: &PayRequest) -> Result<Answer<Payment>> {
        self.post(&["v1", "payments"], key, request).await
    }

    /// `GET /v1/payments/{id}`.
    ///
    /// # Errors
    ///
    /// [`ClientError`], as for every call.
    pub async fn payment(&self, id: &str) -> Result<Payment> {
        self.get(&["v1", "payments", id], &[]).await
    }

    /// `GET /v1/payments`.
    ///
    /// # Errors
    ///
    /// [`ClientError`], as for every call.
    pub async fn payments(&self, query: &PaymentQuery) -> Result<Page<Payment>> {
        let mut members = vec![("account", query.account.as_str())];
        members.extend(query.reference.as_deref().map(|value| ("reference", value)));
        members.extend(query.after.as_deref().map(|value| ("after", value)));
        self.get(&["v1", "payments"], &members).await
    }

    /// `POST /v1/payments/{id}/captures`.
    ///
    /// # Errors
    ///
    /// [`ClientError`], as for every call.
    pub async fn capture(
        &self,
        key: &str,
        payment: &str,
        request: &CaptureRequest,
    ) -> Result<Answer<Payment>> {
        self.post(&["v1", "payments", payment, "captures"], key, request)
            .await
    }

    /// `POST /v1/payments/{id}/void`.
    ///
    /// # Errors
    ///
    /// [`ClientError`], as for every call.
    pub async fn void(
        &self,
        key: &str,
        payment: &str,
        request: &VoidRequest,
    ) -> Result<Answer<Payment>> {
        self.post(&["v1", "payments", payment, "void"], key, request)
            .await
    }

    /// `POST /v1/payments/{id}/refunds`.
    ///
    /// # Errors
    ///
    /// [`ClientError`], as for every call.
    pub async fn refund(
        &self,
        key: &str,
        payment: &str,
        request: &RefundRequest,
    ) -> Result<Answer<Refund>> {
        self.post(&["v1", "payments", payment, "refunds"], key, request)
            .await
    }

    /// `GET /v1/refunds/{id}`.
    ///
    /// # Errors
    ///
    /// [`ClientError`], as for every call.
    pub async fn refund_by_id(&self, id: &str) -> Result<Refund> {
        self.get(&["v1", "refunds", id], &[]).await
    }

    /// `GET /v1/events`: what has become true after the event `after`, or from the first one on.
    ///
    /// # Errors
    ///
    /// [`ClientError`], as for every call.
    pub async fn events(&self, after: Option<&str>) -> Result<Page<Event>> {
        let members: Vec<_> = after.map(|id| ("after", id)).into_iter().collect();
        self.get(&["v1", "events"], &members).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, &str)]) -> Result<T> {
        let url = self.url(path, query)?;
        decode(&self.send(Method::GET, &url, None, Bytes::new()).await?)
    }

    async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &[&str],
        key: &str,
        body: &B,
    ) -> Result<Answer<T>> {
        let url = self.url(path, &[])?;
        let response = self
            .send(Method::POST, &url, Some(key), body_of(body)?)
            .await?;
        Ok(Answer {
            body: decode(&response)?,
            open: is_open(&response),
        })
    }

    /// Each segment is encoded, so that an id can't reach another address.
    fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Url> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| ClientError::Request)?
            .pop_if_empty()
            .extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    async fn send(
        &self,
        method: Method,
        url: &Url,
        key: Option<&str>,
        body: Bytes,
    ) -> Result<Response> {
        let authorization = format!("Bearer {}", self.api_key.expose_secret());
        let mut authorization =
            header::HeaderValue::try_from(authorization).map_err(|_| ClientError::Request)?;
        authorization.set_sensitive(true);
        let mut request = http::Request::builder()
            .method(method)
            .uri(url.as_str())
            .header(header::AUTHORIZATION, authorization)
            .header(header::ACCEPT, "application/json");
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let request: Request = request.body(body).map_err(|_| ClientError::Request)?;
        let response = self.http.send(request).await.map_err(ClientError::Send)?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(match serde_json::from_slice(response.body()) {
            Ok(problem) => ClientError::Problem(problem),
            Err(_) => ClientError::Unreadable(response.status()),
        })
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request => f.write_str("the request could not be built"),
            Self::Send(error) => error.fmt(f),
            Self::Problem(problem) => {
                write!(
                    f,
                    "{} ({}): {}",
                    problem.status, problem.code, problem.detail
                )
            }
            Self::Unreadable(status) => {
                write!(
                    f,
                    "the service's answer with status {status} could not be read"
                )
            }
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Send(error) => Some(error),
            Self::Request | Self::Problem(_) | Self::Unreadable(_) => None,
        }
    }
}

fn body_of<T: Serialize>(body: &T) -> Result<Bytes> {
    serde_json::to_vec(body)
        .map(Bytes::from)
        .map_err(|_| ClientError::Request)
}

fn decode<T: DeserializeOwned>(response: &Response) -> Result<T> {
    serde_json::from_slice(response.body()).map_err(|_| ClientError::Unreadable(response.status()))
}

fn is_open(response: &Response) -> bool {
    response.status() == StatusCode::ACCEPTED
}
