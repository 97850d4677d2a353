//! One method per endpoint: build, send once, decode.

use std::fmt;

use bytes::Bytes;
use cardless_contract::{
    Credential, Delivery, ErrorKind, IdempotencyKey, ObjectId, ProviderCall, ProviderError,
    ProviderName, ReservationId, Result, Stage, fields_of,
};
use cardless_transport::{Hosts, Response, Transport};
use http::{Request, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::auth::{AccessToken, AccessTokens};
use crate::error::{Failure, Verdict};
use crate::mapping::PathId;
use crate::wire;

/// The header that holds a request's idempotency key.
const REQUEST_ID: &str = "paypal-request-id";

/// Every call that is made, [`AccessTokens`]'s and the webhook verifier's too.
pub(crate) const CALLS: &[ProviderCall] = &[
    ACCESS_TOKEN,
    CREATE_ORDER,
    ORDER,
    CAPTURE_ORDER,
    AUTHORIZE_ORDER,
    AUTHORIZATION,
    CAPTURE_AUTHORIZATION,
    VOID_AUTHORIZATION,
    CAPTURE,
    REFUND_CAPTURE,
    REFUND,
    CREATE_SETUP_TOKEN,
    SETUP_TOKEN,
    CREATE_PAYMENT_TOKEN,
    PAYMENT_TOKENS,
    DELETE_PAYMENT_TOKEN,
    CREATE_AGREEMENT_TOKEN,
    CREATE_AGREEMENT,
    CANCEL_AGREEMENT,
    CERTIFICATE,
];

pub(crate) const ACCESS_TOKEN: ProviderCall = ProviderCall {
    body: &["grant_type"],
    reads: fields_of::<wire::AccessTokenAnswer>,
    reads_of_a_refusal: fields_of::<wire::AccessTokenError>,
    ..ProviderCall::new(
        "POST",
        "/v1/oauth2/token",
        &[Stage::Access],
        Credential::Basic,
    )
};

const CREATE_ORDER: ProviderCall = ProviderCall {
    body: &[
        "intent",
        "purchase_units[].custom_id",
        "purchase_units[].invoice_id",
        "purchase_units[].amount.currency_code",
        "purchase_units[].amount.value",
        "purchase_units[].description",
        "payment_source.paypal.vault_id",
        "payment_source.paypal.stored_credential.payment_initiator",
        "payment_source.paypal.stored_credential.usage",
        "payment_source.paypal.stored_credential.usage_pattern",
        "payment_source.paypal.experience_context.return_url",
        "payment_source.paypal.experience_context.cancel_url",
        "payment_source.paypal.experience_context.shipping_preference",
        "payment_source.paypal.experience_context.user_action",
        "payment_source.paypal.experience_context.brand_name",
        "payment_source.token.id",
        "payment_source.token.type",
    ],
    ..post(
        "/v2/checkout/orders",
        &[Stage::Authorize],
        fields_of::<wire::Order>,
    )
};

const ORDER: ProviderCall = get(
    "/v2/checkout/orders/{id}",
    &[
        Stage::Authorize,
        Stage::Capture,
        Stage::Void,
        Stage::Refund,
        Stage::Read,
    ],
    fields_of::<wire::Order>,
);

const CAPTURE_ORDER: ProviderCall = ProviderCall {
    body: PAYMENT_SOURCE,
    ..post(
        "/v2/checkout/orders/{id}/capture",
        &[Stage::Authorize],
        fields_of::<wire::Order>,
    )
};

const AUTHORIZE_ORDER: ProviderCall = ProviderCall {
    body: PAYMENT_SOURCE,
    ..post(
        "/v2/checkout/orders/{id}/authorize",
        &[Stage::Authorize],
        fields_of::<wire::Order>,
    )
};

/// What pays an order.
const PAYMENT_SOURCE: &[&str] = &[
    "payment_source.paypal.vault_id",
    "payment_source.paypal.stored_credential.payment_initiator",
    "payment_source.paypal.stored_credential.usage",
    "payment_source.paypal.stored_credential.usage_pattern",
    "payment_source.paypal.experience_context.return_url",
    "payment_source.paypal.experience_context.cancel_url",
    "payment_source.paypal.experience_context.shipping_preference",
    "payment_source.paypal.experience_context.user_action",
    "payment_source.paypal.experience_context.brand_name",
    "payment_source.token.id",
    "payment_source.token.type",
];

const AUTHORIZATION: ProviderCall = get(
    "/v2/payments/authorizations/{id}",
    &[Stage::Void, Stage::Read],
    fields_of::<wire::Authorization>,
);

const CAPTURE_AUTHORIZATION: ProviderCall = ProviderCall {
    body: &[
        "amount.currency_code",
        "amount.value",
        "invoice_id",
        "final_capture",
    ],
    ..post(
        "/v2/payments/authorizations/{id}/capture",
        &[Stage::Authorize, Stage::Capture],
        fields_of::<wire::Capture>,
    )
};

const VOID_AUTHORIZATION: ProviderCall = post(
    "/v2/payments/authorizations/{id}/void",
    &[Stage::Void],
    fields_of::<wire::Authorization>,
);

const CAPTURE: ProviderCall = get(
    "/v2/payments/captures/{id}",
    &[Stage::Read],
    fields_of::<wire::Capture>,
);

const REFUND_CAPTURE: ProviderCall = ProviderCall {
    body: &["amount.currency_code", "amount.value", "custom_id"],
    ..post(
        "/v2/payments/captures/{id}/refund",
        &[Stage::Refund],
        fields_of::<wire::Refund>,
    )
};

const REFUND: ProviderCall = get(
    "/v2/payments/refunds/{id}",
    &[Stage::Read],
    fields_of::<wire::Refund>,
);

const CREATE_SETUP_TOKEN: ProviderCall = ProviderCall {
    body: &[
        "customer.merchant_customer_id",
        "payment_source.paypal.usage_type",
        "payment_source.paypal.usage_pattern",
        "payment_source.paypal.description",
        "payment_source.paypal.permit_multiple_payment_tokens",
        "payment_source.paypal.experience_context.return_url",
        "payment_source.paypal.experience_context.cancel_url",
        "payment_source.paypal.experience_context.shipping_preference",
        "payment_source.paypal.experience_context.user_action",
        "payment_source.paypal.experience_context.vault_instruction",
        "payment_source.paypal.experience_context.brand_name",
        "payment_source.paypal.experience_context.locale",
    ],
    ..post(
        "/v3/vault/setup-tokens",
        &[Stage::Link],
        fields_of::<wire::SetupToken>,
    )
};

const SETUP_TOKEN: ProviderCall = get(
    "/v3/vault/setup-tokens/{id}",
    &[Stage::Link],
    fields_of::<wire::SetupToken>,
);

const CREATE_PAYMENT_TOKEN: ProviderCall = ProviderCall {
    body: &["payment_source.token.id", "payment_source.token.type"],
    ..post(
        "/v3/vault/payment-tokens",
        &[Stage::Link],
        fields_of::<wire::PaymentToken>,
    )
};

const PAYMENT_TOKENS: ProviderCall = ProviderCall {
    query: &["customer_id"],
    ..get(
        "/v3/vault/payment-tokens",
        &[Stage::Link],
        fields_of::<wire::PaymentTokens>,
    )
};

const DELETE_PAYMENT_TOKEN: ProviderCall = ProviderCall {
    reads: fields_of::<wire::Accepted>,
    reads_of_a_refusal: fields_of::<wire::ErrorBody>,
    ..ProviderCall::new(
        "DELETE",
        "/v3/vault/payment-tokens/{id}",
        &[Stage::Revoke],
        Credential::AccessToken,
    )
};

const CREATE_AGREEMENT_TOKEN: ProviderCall = ProviderCall {
    body: &[
        "description",
        "payer.payment_method",
        "plan.type",
        "plan.merchant_preferences.return_url",
        "plan.merchant_preferences.cancel_url",
        "plan.merchant_preferences.skip_shipping_address",
        "plan.merchant_preferences.accepted_pymt_type",
    ],
    ..post(
        "/v1/billing-agreements/agreement-tokens",
        &[Stage::Link],
        fields_of::<wire::AgreementToken>,
    )
};

const CREATE_AGREEMENT: ProviderCall = ProviderCall {
    body: &["token_id"],
    ..post(
        "/v1/billing-agreements/agreements",
        &[Stage::Link],
        fields_of::<wire::Agreement>,
    )
};

const CANCEL_AGREEMENT: ProviderCall = ProviderCall {
    headers: &[],
    ..post(
        "/v1/billing-agreements/agreements/{id}/cancel",
        &[Stage::Revoke],
        fields_of::<wire::Accepted>,
    )
};

/// A certificate file, which is read as a whole. Its address comes with the webhook, and is
/// checked there.
const CERTIFICATE: ProviderCall = ProviderCall::new(
    "GET",
    "/v1/notifications/certs/{id}",
    &[Stage::Notification],
    Credential::None,
);

const fn get(
    path: &'static str,
    stages: &'static [Stage],
    reads: fn() -> Vec<String>,
) -> ProviderCall {
    ProviderCall {
        reads,
        reads_of_a_refusal: fields_of::<wire::ErrorBody>,
        ..ProviderCall::new("GET", path, stages, Credential::AccessToken)
    }
}

const fn post(
    path: &'static str,
    stages: &'static [Stage],
    reads: fn() -> Vec<String>,
) -> ProviderCall {
    ProviderCall {
        headers: &[REQUEST_ID],
        reads,
        reads_of_a_refusal: fields_of::<wire::ErrorBody>,
        ..ProviderCall::new("POST", path, stages, Credential::AccessToken)
    }
}

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
    method: &'static str,
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
        self.post(&CREATE_ORDER, "", key, self.json(body)?).await
    }

    pub(crate) async fn order(&self, id: &ReservationId) -> Result<Answer<wire::Order>> {
        self.get(&ORDER, self.path_id(id)?).await
    }

    pub(crate) async fn capture_order(
        &self,
        key: &IdempotencyKey,
        id: &ReservationId,
        body: &wire::PayOrderRequest<'_>,
    ) -> Result<Answer<wire::Order>> {
        let id = self.path_id(id)?;
        self.post(&CAPTURE_ORDER, id.as_str(), key, self.json(body)?)
            .await
    }

    pub(crate) async fn authorize_order(
        &self,
        key: &IdempotencyKey,
        id: &ReservationId,
        body: &wire::PayOrderRequest<'_>,
    ) -> Result<Answer<wire::Order>> {
        let id = self.path_id(id)?;
        self.post(&AUTHORIZE_ORDER, id.as_str(), key, self.json(body)?)
            .await
    }

    pub(crate) async fn authorization(&self, id: &ObjectId) -> Result<Answer<wire::Authorization>> {
        self.get(&AUTHORIZATION, self.path_id(id)?).await
    }

    pub(crate) async fn capture_authorization(
        &self,
        key: &IdempotencyKey,
        id: &ObjectId,
        body: &wire::CaptureRequest<'_>,
    ) -> Result<Answer<wire::Capture>> {
        let id = self.path_id(id)?;
        self.post(&CAPTURE_AUTHORIZATION, id.as_str(), key, self.json(body)?)
            .await
    }

    /// Void takes no body (`providers/paypal.md` §6.5). `None`: 204.
    pub(crate) async fn void_authorization(
        &self,
        key: &IdempotencyKey,
        id: &ObjectId,
    ) -> Result<Answer<Option<wire::Authorization>>> {
        let path = VOID_AUTHORIZATION.path_with(self.path_id(id)?.as_str());
        self.call(Call::of(&VOID_AUTHORIZATION, path, Some(key), None))
            .await
    }

    pub(crate) async fn capture(&self, id: &ObjectId) -> Result<Answer<wire::Capture>> {
        self.get(&CAPTURE, self.path_id(id)?).await
    }

    pub(crate) async fn refund_capture(
        &self,
        key: &IdempotencyKey,
        id: &ObjectId,
        body: &wire::RefundRequest<'_>,
    ) -> Result<Answer<wire::Refund>> {
        let id = self.path_id(id)?;
        self.post(&REFUND_CAPTURE, id.as_str(), key, self.json(body)?)
            .await
    }

    pub(crate) async fn refund(&self, id: &ObjectId) -> Result<Answer<wire::Refund>> {
        self.get(&REFUND, self.path_id(id)?).await
    }

    pub(crate) async fn create_setup_token(
        &self,
        key: &IdempotencyKey,
        body: &wire::SetupTokenRequest<'_>,
    ) -> Result<Answer<wire::SetupToken>> {
        self.post(&CREATE_SETUP_TOKEN, "", key, self.json(body)?)
            .await
    }

    /// `id` is checked by the caller, as are all ids of the vault.
    pub(crate) async fn setup_token(&self, id: PathId<'_>) -> Result<Answer<wire::SetupToken>> {
        self.get(&SETUP_TOKEN, id).await
    }

    pub(crate) async fn create_payment_token(
        &self,
        key: &IdempotencyKey,
        body: &wire::PaymentTokenRequest<'_>,
    ) -> Result<Answer<wire::PaymentToken>> {
        self.post(&CREATE_PAYMENT_TOKEN, "", key, self.json(body)?)
            .await
    }

    /// The first page: up to five tokens of one of PayPal's customers.
    pub(crate) async fn payment_tokens(
        &self,
        customer: PathId<'_>,
    ) -> Result<Answer<wire::PaymentTokens>> {
        let path = format!("{}?customer_id={customer}", PAYMENT_TOKENS.path);
        self.required(Call::of(&PAYMENT_TOKENS, path, None, None))
            .await
    }

    pub(crate) async fn delete_payment_token(&self, id: PathId<'_>) -> Result<Answer<()>> {
        let path = DELETE_PAYMENT_TOKEN.path_with(id.as_str());
        self.no_content(Call::of(&DELETE_PAYMENT_TOKEN, path, None, None))
            .await
    }

    pub(crate) async fn create_agreement_token(
        &self,
        key: &IdempotencyKey,
        body: &wire::AgreementTokenRequest<'_>,
    ) -> Result<Answer<wire::AgreementToken>> {
        self.post(&CREATE_AGREEMENT_TOKEN, "", key, self.json(body)?)
            .await
    }

    pub(crate) async fn create_agreement(
        &self,
        key: &IdempotencyKey,
        body: &wire::AgreementRequest<'_>,
    ) -> Result<Answer<wire::Agreement>> {
        self.post(&CREATE_AGREEMENT, "", key, self.json(body)?)
            .await
    }

    pub(crate) async fn cancel_agreement(&self, id: PathId<'_>) -> Result<Answer<()>> {
        let path = CANCEL_AGREEMENT.path_with(id.as_str());
        self.no_content(Call::of(&CANCEL_AGREEMENT, path, None, None))
            .await
    }

    async fn get<T: DeserializeOwned>(
        &self,
        call: &'static ProviderCall,
        id: PathId<'_>,
    ) -> Result<Answer<T>> {
        let path = call.path_with(id.as_str());
        self.required(Call::of(call, path, None, None)).await
    }

    /// `id` is empty where the path takes none.
    async fn post<T: DeserializeOwned>(
        &self,
        call: &'static ProviderCall,
        id: &str,
        key: &IdempotencyKey,
        body: Bytes,
    ) -> Result<Answer<T>> {
        let path = call.path_with(id);
        self.required(Call::of(call, path, Some(key), Some(body)))
            .await
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
            .method(call.method)
            .uri(format!("{base}{}", call.path))
            .header(header::AUTHORIZATION, bearer)
            .header(header::ACCEPT, "application/json");
        if let Some(key) = call.key {
            request = request
                .header(REQUEST_ID, key.as_str())
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
    const fn of(
        call: &'static ProviderCall,
        path: String,
        key: Option<&'a IdempotencyKey>,
        body: Option<Bytes>,
    ) -> Self {
        Self {
            method: call.method,
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
