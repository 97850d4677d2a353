//! The client's half: seals a request, sends it, and takes only the answer that fits it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use cardless_contract::{Clock, Entropy};
use cardless_transport::{HttpClient, SendError};
use http::{Method, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::replay::Window;
use super::{
    Answer, KeyError, MEDIA_TYPE, PublicKey, Received, Refused, Request, SealError, SecretKey,
    request_hash, seal,
};
use crate::client::Problem;
use crate::error::Code;
use crate::message::{self, PayRequest, Payment};
use crate::protected::is_protected;

/// How many random bytes a `jti` has.
const JTI_BYTES: usize = 16;

/// Speaks to one service as one sealed client.
#[derive(Debug)]
pub struct Client {
    parts: ClientParts,
    base: Url,
    service_keys: Mutex<Vec<PublicKey>>,
    /// The keys were given, and none is fetched.
    pinned: bool,
}

/// What a sealed client is made of.
#[derive(Debug)]
pub struct ClientParts {
    /// The name that it was added under.
    pub name: String,
    /// Where the service is, as `https://pay.example`.
    pub base_url: String,
    /// The service's `public_url`, to which messages are addressed; mostly the same.
    pub service: String,
    /// The private keys whose public halves are registered, the one that signs first. All that may
    /// receive are tried by their `kid`.
    pub keys: Vec<SecretKey>,
    /// Sends.
    pub http: Arc<dyn HttpClient>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

/// One call of the API.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Method, a space, and the path with its query, as `POST /v1/payments`.
    pub op: &'a str,
    /// The account that it is about.
    pub account: Option<&'a str>,
    /// Names the request, so that it can be sent again; required for every `POST`.
    pub idempotency_key: Option<&'a str>,
}

/// A call that brought no answer of the kind that was asked for. Unless it is a
/// [`ExchangeError::Problem`] that [is a refusal](Problem::is_refusal), a change may have been carried
/// out: send it again, under the same idempotency key.
#[derive(Debug)]
#[non_exhaustive]
pub enum ExchangeError {
    /// The request could not be built: a bad address, or a key that is not for this.
    Request,
    /// There was no answer; the error says how far the request got.
    Send(SendError),
    /// The service says in a sealed answer, which nobody else can make, why it does not do it.
    Problem(Problem),
    /// A refusal that is not sealed. Whoever stands between can have written it, and the service
    /// itself answers so when it can't seal what it has done: it proves nothing.
    Unsealed(Problem),
    /// The answer is not from this service, or not to this request.
    Refused,
    /// The answer could not be read.
    Unreadable(StatusCode),
}

/// The result of a call.
type Result<T> = std::result::Result<T, ExchangeError>;

impl Client {
    /// A client of a service. Its keys are fetched at the first call, from
    /// `/.well-known/jwks.json`, and only from an address by https or on loopback: whoever can
    /// change what is fetched there can read the calls and make the answers, a proxy that ends TLS
    /// before the service included. [`Client::with_service_keys`] trusts nobody between.
    ///
    /// They are fetched again when an answer is signed by a key that is not known, and when the
    /// service refuses a message whose key it does not publish any more: then the call is sealed
    /// anew, and sent once more. Nothing is done twice by that, whoever has written the refusal: the
    /// repeat has the same idempotency key, and a call that needs none (`GET`, `PUT`, `PATCH`,
    /// `DELETE`) comes to the same when it is repeated.
    ///
    /// # Errors
    ///
    /// [`ExchangeError::Request`] if the address is none, or no key may sign.
    pub fn new(parts: ClientParts) -> Result<Self> {
        let base = Url::parse(&parts.base_url).map_err(|_| ExchangeError::Request)?;
        let can_sign = parts.keys.iter().any(|key| key.public().usage().signs());
        if base.cannot_be_a_base() || !can_sign {
            return Err(ExchangeError::Request);
        }
        Ok(Self {
            parts,
            base,
            service_keys: Mutex::default(),
            pinned: false,
        })
    }

    /// Uses these keys of the service (a JWK set) instead of fetching them, and no others: an answer
    /// by a key that is not among them is refused. Give new ones before the service changes its own.
    ///
    /// # Errors
    ///
    /// [`KeyError`].
    pub fn with_service_keys(mut self, jwks: &str) -> std::result::Result<Self, KeyError> {
        self.put_keys(PublicKey::read_all(jwks)?);
        self.pinned = true;
        Ok(self)
    }

    /// `POST /v1/payments`.
    ///
    /// # Errors
    ///
    /// [`ExchangeError`], as for every call.
    pub async fn pay(&self, key: &str, request: &PayRequest) -> Result<message::Answer<Payment>> {
        let call = Call {
            op: "POST /v1/payments",
            account: Some(&request.account),
            idempotency_key: Some(key),
        };
        self.call(&call, Some(request)).await
    }

    /// Any call: sends it once, sealed, and reads the answer.
    ///
    /// # Errors
    ///
    /// [`ExchangeError`], as for every call.
    pub async fn call<B: Serialize, T: DeserializeOwned>(
        &self,
        call: &Call<'_>,
        body: Option<&B>,
    ) -> Result<message::Answer<T>> {
        let answer = self.exchange(call, body).await?;
        let status = StatusCode::from_u16(answer.status).map_err(|_| ExchangeError::Refused)?;
        let body = answer.body.unwrap_or_default();
        if !status.is_success() {
            let problem = serde_json::from_value(body);
            return Err(problem.map_or(ExchangeError::Unreadable(status), ExchangeError::Problem));
        }
        Ok(message::Answer {
            body: serde_json::from_value(body).map_err(|_| ExchangeError::Unreadable(status))?,
            open: status == StatusCode::ACCEPTED,
        })
    }

    /// Fetches the service's keys.
    ///
    /// # Errors
    ///
    /// [`ExchangeError`], as for every call; [`ExchangeError::Request`] if the address is neither
    /// https nor on loopback.
    pub async fn fetch_keys(&self) -> Result<()> {
        if !is_protected(&self.base) {
            return Err(ExchangeError::Request);
        }
        let url = self.url(&[".well-known", "jwks.json"])?;
        let request = http::Request::builder().method(Method::GET).uri(url);
        let request = request.body(Bytes::new());
        let (status, body) = self.send(request).await?;
        let text = std::str::from_utf8(&body).map_err(|_| ExchangeError::Unreadable(status))?;
        let keys = PublicKey::read_all(text).map_err(|_| ExchangeError::Unreadable(status))?;
        self.put_keys(keys);
        Ok(())
    }

    /// At most two messages and three key sets, whatever the service answers.
    async fn exchange<B: Serialize>(&self, call: &Call<'_>, body: Option<&B>) -> Result<Answer> {
        let to = self.key_to_seal_to().await?;
        match self.exchange_under(&to, call, body).await {
            Err(ExchangeError::Unsealed(problem)) if self.is_key_gone(&to, &problem).await => {
                let to = self.key_to_seal_to().await?;
                self.exchange_under(&to, call, body).await
            }
            result => result,
        }
    }

    /// Whether a message may have been refused for the key that it was sealed to. The refusal does
    /// not say, so the service's present keys do.
    async fn is_key_gone(&self, to: &PublicKey, problem: &Problem) -> bool {
        problem.code == Code::ExchangeRefused.as_str()
            && !self.pinned
            && self.fetch_keys().await.is_ok()
            && !self.keys().contains(to)
    }

    /// One message, sealed to this key, and its answer.
    async fn exchange_under<B: Serialize>(
        &self,
        to: &PublicKey,
        call: &Call<'_>,
        body: Option<&B>,
    ) -> Result<Answer> {
        let message = self.sealed(call, body, to)?;
        let request = http::Request::builder()
            .method(Method::POST)
            .uri(self.url(&["v1", "exchange"])?)
            .header(header::CONTENT_TYPE, MEDIA_TYPE)
            .body(Bytes::from(message.clone()));
        let (status, answer) = self.send(request).await?;
        let answer = std::str::from_utf8(&answer).map_err(|_| ExchangeError::Unreadable(status))?;
        let opened = self
            .opened(answer)
            .map_err(|Refused| ExchangeError::Refused)?;
        // The service may have begun to sign with a key that is newer than what we know.
        if self.known(opened.kid()).is_none() && !self.pinned {
            self.fetch_keys().await?;
        }
        let key = self.known(opened.kid()).ok_or(ExchangeError::Refused)?;
        let claims = opened
            .verify(&key)
            .map_err(|Refused| ExchangeError::Refused)?;
        let answer = Answer::parse(&claims).map_err(|Refused| ExchangeError::Refused)?;
        self.fits(&answer, &message)
            .map(|()| answer)
            .map_err(|Refused| ExchangeError::Refused)
    }

    fn sealed<B: Serialize>(
        &self,
        call: &Call<'_>,
        body: Option<&B>,
        to: &PublicKey,
    ) -> Result<String> {
        let body = body.map(serde_json::to_value).transpose();
        let mut jti = [0; JTI_BYTES];
        let entropy = self.parts.entropy.as_ref();
        entropy.fill(&mut jti).map_err(|_| ExchangeError::Request)?;
        let request = Request {
            client: self.parts.name.clone(),
            service: self.parts.service.clone(),
            window: Window::from(self.parts.clock.now()),
            jti: crate::letters::letters(&jti),
            op: call.op.to_owned(),
            account: call.account.map(str::to_owned),
            idempotency_key: call.idempotency_key.map(str::to_owned),
            body: body.map_err(|_| ExchangeError::Request)?,
        };
        let mut keys = self.parts.keys.iter();
        let signer = keys
            .find(|key| key.public().usage().signs())
            .ok_or(ExchangeError::Request)?;
        let sealed = seal(&request.to_bytes(), signer, to, entropy);
        sealed.map_err(|_: SealError| ExchangeError::Request)
    }

    fn opened(&self, answer: &str) -> std::result::Result<super::Opened, Refused> {
        let received = Received::parse(answer)?;
        let mut keys = self.parts.keys.iter();
        let key = keys.find(|key| key.public().kid() == received.kid());
        received.open(key.ok_or(Refused)?)
    }

    /// Whether an answer is from this service, to this client, to this request, and not stale.
    fn fits(&self, answer: &Answer, message: &str) -> std::result::Result<(), Refused> {
        answer.window.check(self.parts.clock.now())?;
        let fits = answer.service == self.parts.service
            && answer.client == self.parts.name
            && answer.request_hash == request_hash(message);
        fits.then_some(()).ok_or(Refused)
    }

    async fn key_to_seal_to(&self) -> Result<PublicKey> {
        if self.keys().is_empty() {
            self.fetch_keys().await?;
        }
        let mut keys = self.keys().into_iter();
        keys.find(|key| key.usage().seals())
            .ok_or(ExchangeError::Refused)
    }

    fn known(&self, kid: &str) -> Option<PublicKey> {
        self.keys().into_iter().find(|key| key.kid() == kid)
    }

    fn keys(&self) -> Vec<PublicKey> {
        let keys = self.service_keys.lock();
        keys.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put_keys(&self, keys: Vec<PublicKey>) {
        let held = self.service_keys.lock();
        *held.unwrap_or_else(PoisonError::into_inner) = keys;
    }

    fn url(&self, path: &[&str]) -> Result<String> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| ExchangeError::Request)?
            .pop_if_empty()
            .extend(path);
        Ok(url.into())
    }

    async fn send(
        &self,
        request: http::Result<http::Request<Bytes>>,
    ) -> Result<(StatusCode, Bytes)> {
        let request = request.map_err(|_| ExchangeError::Request)?;
        let response = self.parts.http.send(request).await;
        let response = response.map_err(ExchangeError::Send)?;
        let status = response.status();
        if status.is_success() {
            return Ok((status, response.into_body()));
        }
        let problem = serde_json::from_slice(response.body());
        Err(problem.map_or(ExchangeError::Unreadable(status), ExchangeError::Unsealed))
    }
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request => f.write_str("the request could not be built"),
            Self::Send(error) => error.fmt(f),
            Self::Problem(problem) => {
                let Problem {
                    status,
                    code,
                    detail,
                    ..
                } = problem;
                write!(f, "{status} ({code}): {detail}")
            }
            Self::Unsealed(problem) => write!(
                f,
                "an answer that is not sealed says {} ({}): {}; it proves nothing, so send the same \
                 again under the same idempotency key",
                problem.status, problem.code, problem.detail
            ),
            Self::Refused => f.write_str("the answer is not from this service to this request"),
            Self::Unreadable(status) => {
                write!(
                    f,
                    "the answer with status {} can't be read",
                    status.as_u16()
                )
            }
        }
    }
}

impl std::error::Error for ExchangeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Send(error) => Some(error),
            Self::Request
            | Self::Problem(_)
            | Self::Unsealed(_)
            | Self::Refused
            | Self::Unreadable(_) => None,
        }
    }
}
