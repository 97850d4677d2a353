//! OAuth access tokens: in memory only, one renewal at a time (`providers/paypal.md` §2).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cardless_contract::{
    Clock, Delivery, ErrorKind, ProviderCode, ProviderError, ProviderName, Result, Secrets,
    Timestamp,
};
use cardless_transport::{Response, Transport};
use http::{HeaderValue, Request, StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;

use crate::client::ACCESS_TOKEN;
use crate::wire::{AccessTokenAnswer, AccessTokenError};

/// After a refused or unclear token request none is sent for this long: asking too often is the
/// documented way to get 429.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(5);
/// The part of a token's life after which it is renewed, in per cent.
const RENEW_AT_PERCENT: u64 = 90;
/// No token is taken to live longer than this, whatever the answer says, in seconds (a day).
const MAX_LIFE_SECONDS: u64 = 86_400;

/// A token and which one it is, so that a late 401 does not drop its successor.
#[derive(Clone)]
pub(crate) struct AccessToken {
    value: SecretString,
    generation: u64,
}

/// The cache. Its `Debug` shows nothing.
pub(crate) struct AccessTokens {
    provider: ProviderName,
    client_id: String,
    secrets: Secrets,
    clock: Arc<dyn Clock>,
    // How many renewals have ended.
    ended: AtomicU64,
    // Held over the renewal: whoever needs a token meanwhile waits for that one.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: Option<(AccessToken, Timestamp)>,
    paused: Option<(ErrorKind, Timestamp)>,
    /// Why the last renewal failed, if it did.
    failed: Option<ErrorKind>,
    generation: u64,
}

/// What one token request brought.
enum Attempt {
    Given(SecretString, Duration),
    WrongSecret,
    Failed(ProviderError),
}

impl AccessToken {
    /// The value of the header `Authorization`.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        sensitive(&format!("Bearer {}", self.value.expose_secret()))
    }
}

impl AccessTokens {
    pub(crate) fn new(
        provider: ProviderName,
        client_id: String,
        secrets: Secrets,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            provider,
            client_id,
            secrets,
            clock,
            ended: AtomicU64::new(0),
            state: Mutex::new(State::default()),
        }
    }

    /// The token in use, renewed if need be. Errors are `NotSent`: the request that needed the
    /// token has not left.
    ///
    /// Whoever waited for a renewal that failed shares its failure: one after the other, the
    /// waiting would each spend a whole connect deadline.
    pub(crate) async fn current(&self, transport: &Transport) -> Result<AccessToken> {
        let ended_before = self.ended.load(Ordering::Acquire);
        let mut state = self.state.lock().await;
        let now = self.clock.now();
        if let Some((token, _)) = state.held.as_ref().filter(|(_, renew_at)| now < *renew_at) {
            return Ok(token.clone());
        }
        // A clock that was put back makes no pause longer.
        let pauses = |until: Timestamp| now < until && until.since(now) <= PAUSE_AFTER_FAILURE;
        if let Some((kind, _)) = state.paused.filter(|&(_, until)| pauses(until)) {
            return Err(self.error(kind));
        }
        let waited = self.ended.load(Ordering::Acquire) != ended_before;
        if let Some(kind) = state.failed.filter(|_| waited) {
            return Err(self.error(kind));
        }
        self.renew(&mut state, transport).await
    }

    /// A new token, whatever is held.
    pub(crate) async fn fresh(&self, transport: &Transport) -> Result<AccessToken> {
        let mut state = self.state.lock().await;
        self.renew(&mut state, transport).await
    }

    /// Drops a token that was refused, unless it has been replaced already.
    pub(crate) async fn refused(&self, token: &AccessToken) {
        let mut state = self.state.lock().await;
        let same = |(held, _): &(AccessToken, Timestamp)| held.generation == token.generation;
        if state.held.as_ref().is_some_and(same) {
            state.held = None;
        }
    }

    async fn renew(&self, state: &mut State, transport: &Transport) -> Result<AccessToken> {
        let started = self.clock.now();
        let asked = self.ask(transport).await;
        self.ended.fetch_add(1, Ordering::AcqRel);
        state.failed = asked.as_ref().err().map(ProviderError::kind);
        match asked {
            Ok((value, life)) => {
                state.generation = state.generation.saturating_add(1);
                let token = AccessToken {
                    value,
                    generation: state.generation,
                };
                state.held = Some((token.clone(), started.plus(life)));
                state.paused = None;
                Ok(token)
            }
            Err(error) => {
                // What never reached PayPal is no reason to wait.
                if error.kind() != ErrorKind::Unreachable {
                    let until = self.clock.now().plus(PAUSE_AFTER_FAILURE);
                    state.paused = Some((error.kind(), until));
                }
                Err(error)
            }
        }
    }

    /// Tries the live secrets in order.
    async fn ask(&self, transport: &Transport) -> Result<(SecretString, Duration)> {
        for secret in self.secrets.all() {
            match self.attempt(transport, secret).await {
                Attempt::Given(value, life) => return Ok((value, life)),
                Attempt::WrongSecret => {}
                Attempt::Failed(error) => return Err(error),
            }
        }
        Err(self.error(ErrorKind::Authentication))
    }

    async fn attempt(&self, transport: &Transport, secret: &str) -> Attempt {
        let Some(request) = self.request(transport, secret) else {
            return Attempt::Failed(self.error(ErrorKind::Internal));
        };
        match transport.send(request).await {
            Ok(response) => self.read(&response),
            Err(error) => {
                let kind = error.kind();
                Attempt::Failed(self.error(kind).with_source(error))
            }
        }
    }

    fn request(&self, transport: &Transport, secret: &str) -> Option<Request<Bytes>> {
        let credentials = STANDARD.encode(format!("{}:{secret}", self.client_id));
        let base = transport.hosts().base().as_str().trim_end_matches('/');
        Request::builder()
            .method(ACCESS_TOKEN.method)
            .uri(format!("{base}{}", ACCESS_TOKEN.path))
            .header(
                header::AUTHORIZATION,
                sensitive(&format!("Basic {credentials}"))?,
            )
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .body(Bytes::from_static(b"grant_type=client_credentials"))
            .ok()
    }

    fn read(&self, response: &Response) -> Attempt {
        if response.status() == StatusCode::OK {
            return self.read_token(response.body());
        }
        let code = serde_json::from_slice::<AccessTokenError>(response.body())
            .ok()
            .map(|body| body.error);
        let kind = match (response.status().as_u16(), code.as_deref()) {
            (400 | 401, Some("invalid_client")) => return Attempt::WrongSecret,
            // A gateway may answer without the documented body: the next secret may be the one.
            (401, None) => return Attempt::WrongSecret,
            (400 | 401 | 403, Some("unauthorized_client" | "invalid_scope")) | (403, _) => {
                ErrorKind::Permission
            }
            (401, _) => ErrorKind::Authentication,
            (429, _) => ErrorKind::RateLimited,
            (400, _) => ErrorKind::InvalidRequest,
            _ => ErrorKind::ProviderFailed,
        };
        let error = self.error(kind);
        Attempt::Failed(match code {
            Some(code) => error.with_code(ProviderCode::new(&code)),
            None => error,
        })
    }

    fn read_token(&self, body: &[u8]) -> Attempt {
        match serde_json::from_slice::<AccessTokenAnswer>(body) {
            Ok(answer) if answer.token_type.eq_ignore_ascii_case("bearer") => {
                let life = answer.expires_in.min(MAX_LIFE_SECONDS);
                let percent = life.saturating_mul(RENEW_AT_PERCENT);
                Attempt::Given(
                    answer.access_token,
                    Duration::from_millis(percent.saturating_mul(10)),
                )
            }
            _ => Attempt::Failed(self.error(ErrorKind::UnreadableAnswer)),
        }
    }

    fn error(&self, kind: ErrorKind) -> ProviderError {
        ProviderError::new(self.provider.clone(), kind, Delivery::NotSent)
    }
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
