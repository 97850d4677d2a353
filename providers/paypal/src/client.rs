//! One method per endpoint: build, send once, decode.

use std::fmt;

use bytes::Bytes;
use cardless_contract::{
    Delivery, ErrorKind, IdempotencyKey, ObjectId, ProviderError, ProviderName, ReservationId,
    Result,
};
use cardless_transport::{Hosts, Response, Transport};
use http::{Method, Request, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::auth::{AccessToken, AccessTokens};
use crate::error::{Failure, Verdict};
use crate::mapping::PathId;
use crate::wire;

const ORDERS: &str = "/v2/checkout/orders";
const AUTHORIZATIONS: &str = "/v2/payments/authorizations";
const CAPTURES: &str = "/v2/payments/captures";
const REFUNDS: &str = "/v2/payments/refunds";
const SETUP_TOKENS: &str = "/v3/vault/setup-tokens";
const PAYMENT_TOKENS: &str = "/v3/vault/payment-tokens";
const AGREEMENT_TOKENS: &str = "/v1/billing-agreements/agreement-tokens";
const AGREEMENTS: &str = "/v1/billing-agreements/agreements";

/// What PayPal answered: the object, or why not.
pub(crate) enum Answer<T> {
    Given(T),
    Refused(Failure),
}

/// PayPal's API. Its `Debug` shows no token.
pub(crate) struct Client {
    provider: ProviderName,
    transport: Transport,
    tokens: AccessTokens,
}

/// One request, before it has an access token.
struct Call<'a> {
    method: Method,
    path: String,
    key: Option<&'a IdempotencyKey>,
    body: Option<Bytes>,
}

impl Client {
    pub(crate) const fn new(
        provider: ProviderName,
        transport: Transport,
        tokens: AccessTokens,
    ) -> Self {
        Self {
            provider,
            transport,
            tokens,
        }
    }

    /// Where links may lead.
    pub(crate) const fn hosts(&self) -> &Hosts {
        self.transport.hosts()
    }

    /// The way out, for certificates.
    pub(crate) const fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Asks for a new access token.
    pub(crate) async fn probe(&self) -> Result<()> {
        self.tokens.fresh(&self.transport).await.map(drop)
    }

    pub(crate) async fn create_order(
        &self,
        key: &IdempotencyKey,
        body: &wire::OrderRequest<'_>,
    ) -> Result<Answer<wire::Order>> {
        self.post(ORDERS.to_owned(), key, Some(self.json(body)?))
            .await
    }

    pub(crate) async fn order(&self, id: &ReservationId) -> Result<Answer<wire::Order>> {
        self.get(format!("{ORDERS}/{}", self.path_id(id)?)).await
    }

    pub(crate) async fn capture_order(
        &self,
        key: &IdempotencyKey,
        id: &ReservationId,
        body: &wire::PayOrderRequest<'_>,
    ) -> Result<Answer<wire::Order>> {
        let path = format!("{ORDERS}/{}/capture", self.path_id(id)?);
        self.post(path, key, Some(self.json(body)?)).await
    }

    pub(crate) async fn authorize_order(
        &self,
        key: &IdempotencyKey,
        id: &ReservationId,
        body: &wire::PayOrderRequest<'_>,
    ) -> Result<Answer<wire::Order>> {
        let path = format!("{ORDERS}/{}/authorize", self.path_id(id)?);
        self.post(path, key, Some(self.json(body)?)).await
    }

    pub(crate) async fn authorization(&self, id: &ObjectId) -> Result<Answer<wire::Authorization>> {
        self.get(format!("{AUTHORIZATIONS}/{}", self.path_id(id)?))
            .await
    }

    pub(crate) async fn capture_authorization(
        &self,
        key: &IdempotencyKey,
        id: &ObjectId,
        body: &wire::CaptureRequest<'_>,
    ) -> Result<Answer<wire::Capture>> {
        let path = format!("{AUTHORIZATIONS}/{}/capture", self.path_id(id)?);
        self.post(path, key, Some(self.json(body)?)).await
    }

    /// Void takes no body (`providers/paypal.md` §6.5). `None`: 204.
    pub(crate) async fn void_authorization(
        &self,
        key: &IdempotencyKey,
        id: &ObjectId,
    ) -> Result<Answer<Option<wire::Authorization>>> {
        let path = format!("{AUTHORIZATIONS}/{}/void", self.path_id(id)?);
        self.call(Call::post(path, Some(key), None)).await
    }

    pub(crate) async fn capture(&self, id: &ObjectId) -> Result<Answer<wire::Capture>> {
        self.get(format!("{CAPTURES}/{}", self.path_id(id)?)).await
    }

    pub(crate) async fn refund_capture(
        &self,
        key: &IdempotencyKey,
        id: &ObjectId,
        body: &wire::RefundRequest<'_>,
    ) -> Result<Answer<wire::Refund>> {
        let path = format!("{CAPTURES}/{}/refund", self.path_id(id)?);
        self.post(path, key, Some(self.json(body)?)).await
    }

    pub(crate) async fn refund(&self, id: &ObjectId) -> Result<Answer<wire::Refund>> {
        self.get(format!("{REFUNDS}/{}", self.path_id(id)?)).await
    }

    pub(crate) async fn create_setup_token(
        &self,
        key: &IdempotencyKey,
        body: &wire::SetupTokenRequest<'_>,
    ) -> Result<Answer<wire::SetupToken>> {
        self.post(SETUP_TOKENS.to_owned(), key, Some(self.json(body)?))
            .await
    }

    /// `id` is checked by the caller, as are all ids of the vault.
    pub(crate) async fn setup_token(&self, id: PathId<'_>) -> Result<Answer<wire::SetupToken>> {
        self.get(format!("{SETUP_TOKENS}/{id}")).await
    }

    pub(crate) async fn create_payment_token(
        &self,
        key: &IdempotencyKey,
        body: &wire::PaymentTokenRequest<'_>,
    ) -> Result<Answer<wire::PaymentToken>> {
        self.post(PAYMENT_TOKENS.to_owned(), key, Some(self.json(body)?))
            .await
    }

    /// The first page: up to five tokens of one of PayPal's customers.
    pub(crate) async fn payment_tokens(
        &self,
        customer: PathId<'_>,
    ) -> Result<Answer<wire::PaymentTokens>> {
        self.get(format!("{PAYMENT_TOKENS}?customer_id={customer}"))
            .await
    }

    pub(crate) async fn delete_payment_token(&self, id: PathId<'_>) -> Result<Answer<()>> {
        self.no_content(Call {
            method: Method::DELETE,
            path: format!("{PAYMENT_TOKENS}/{id}"),
            key: None,
            body: None,
        })
        .await
    }

    pub(crate) async fn create_agreement_token(
        &self,
        key: &IdempotencyKey,
        body: &wire::AgreementTokenRequest<'_>,
    ) -> Result<Answer<wire::AgreementToken>> {
        self.post(AGREEMENT_TOKENS.to_owned(), key, Some(self.json(body)?))
            .await
    }

    pub(crate) async fn create_agreement(
        &self,
        key: &IdempotencyKey,
        body: &wire::AgreementRequest<'_>,
    ) -> Result<Answer<wire::Agreement>> {
        self.post(AGREEMENTS.to_owned(), key, Some(self.json(body)?))
            .await
    }

    pub(crate) async fn cancel_agreement(&self, id: PathId<'_>) -> Result<Answer<()>> {
        let path = format!("{AGREEMENTS}/{id}/cancel");
        self.no_content(Call::post(path, None, None)).await
    }

    async fn get<T: DeserializeOwned>(&self, path: String) -> Result<Answer<T>> {
        let call = Call {
            method: Method::GET,
            path,
            key: None,
            body: None,
        };
        self.required(call).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: String,
        key: &IdempotencyKey,
        body: Option<Bytes>,
    ) -> Result<Answer<T>> {
        self.required(Call::post(path, Some(key), body)).await
    }

    async fn required<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<Answer<T>> {
        match self.call(call).await? {
            Answer::Given(Some(object)) => Ok(Answer::Given(object)),
            Answer::Given(None) => Err(self.unreadable("an empty answer")),
            Answer::Refused(failure) => Ok(Answer::Refused(failure)),
        }
    }

    async fn no_content(&self, call: Call<'_>) -> Result<Answer<()>> {
        let response = self.exchange(&call).await?;
        if response.status().is_success() {
            // The page of a proxy on the way is no success.
            let body = response.body();
            let fits = body.iter().all(u8::is_ascii_whitespace)
                || serde_json::from_slice::<wire::Accepted>(body)
                    .is_ok_and(|body| body.error.is_none());
            return if fits {
                Ok(Answer::Given(()))
            } else {
                Err(self.unreadable("neither empty nor an object"))
            };
        }
        Ok(Answer::Refused(Failure::read(
            response.status(),
            response.body(),
        )))
    }

    /// Sends and decodes. 200 and 201 are alike: a repeat under the same request id answers 200.
    async fn call<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<Answer<Option<T>>> {
        let response = self.exchange(&call).await?;
        match response.status().as_u16() {
            200 | 201 => match serde_json::from_slice(response.body()) {
                Ok(object) => Ok(Answer::Given(Some(object))),
                // The reason of serde's error may quote the body, so it is dropped.
                Err(_) => Err(self.unreadable("not the documented JSON")),
            },
            204 => Ok(Answer::Given(None)),
            _ => Ok(Answer::Refused(Failure::read(
                response.status(),
                response.body(),
            ))),
        }
    }

    /// Sends once; a second time, under the same request id, only if the access token was refused
    /// before anything was done.
    async fn exchange(&self, call: &Call<'_>) -> Result<Response> {
        let token = self.tokens.current(&self.transport).await?;
        let response = self.send(call, &token).await?;
        if !is_token_refused(&response) {
            return Ok(response);
        }
        self.tokens.refused(&token).await;
        let renewed = self.tokens.current(&self.transport).await;
        let token = renewed.map_err(ProviderError::after_a_send)?;
        self.send(call, &token)
            .await
            .map_err(ProviderError::after_a_send)
    }

    async fn send(&self, call: &Call<'_>, token: &AccessToken) -> Result<Response> {
        let request = self.request(call, token)?;
        let sent = self.transport.send(request).await;
        sent.map_err(|error| error.into_provider_error(&self.provider))
    }

    fn request(&self, call: &Call<'_>, token: &AccessToken) -> Result<Request<Bytes>> {
        let base = self.hosts().base().as_str().trim_end_matches('/');
        let bearer = token.header().ok_or_else(|| self.internal())?;
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(format!("{base}{}", call.path))
            .header(header::AUTHORIZATION, bearer)
            .header(header::ACCEPT, "application/json");
        if let Some(key) = call.key {
            request = request
                .header("PayPal-Request-Id", key.as_str())
                .header("Prefer", "return=representation");
        }
        if call.body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = call.body.clone().unwrap_or_default();
        request.body(body).map_err(|_| self.internal())
    }

    fn json(&self, body: &impl Serialize) -> Result<Bytes> {
        serde_json::to_vec(body)
            .map(Bytes::from)
            .map_err(|_| self.internal())
    }

    /// An id that may stand in a path. Ids come from PayPal's answers and from our store.
    fn path_id<'a>(&self, id: &'a impl AsText) -> Result<PathId<'a>> {
        PathId::payment(id.text()).ok_or_else(|| {
            let kind = ErrorKind::InvalidRequest;
            ProviderError::new(self.provider.clone(), kind, Delivery::NotSent)
        })
    }

    fn unreadable(&self, why: &'static str) -> ProviderError {
        let kind = ErrorKind::UnreadableAnswer;
        ProviderError::new(self.provider.clone(), kind, Delivery::Unknown).with_source(why)
    }

    fn internal(&self) -> ProviderError {
        ProviderError::new(
            self.provider.clone(),
            ErrorKind::Internal,
            Delivery::NotSent,
        )
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}

impl<'a> Call<'a> {
    const fn post(path: String, key: Option<&'a IdempotencyKey>, body: Option<Bytes>) -> Self {
        Self {
            method: Method::POST,
            path,
            key,
            body,
        }
    }
}

/// The text of an id.
trait AsText {
    fn text(&self) -> &str;
}

impl AsText for ReservationId {
    fn text(&self) -> &str {
        self.as_str()
    }
}

impl AsText for ObjectId {
    fn text(&self) -> &str {
        self.as_str()
    }
}

/// 401, unless it speaks of the merchant account: then a new token changes nothing.
fn is_token_refused(response: &Response) -> bool {
    if response.status().as_u16() != 401 {
        return false;
    }
    let failure = Failure::read(response.status(), response.body());
    failure.verdict == Verdict::Error(ErrorKind::Authentication, Delivery::Refused)
}
