use bytes::Bytes;
use cardless_contract::{
    Credential, Delivery, ErrorKind, IdempotencyKey, ProviderCall, ProviderError, ProviderName,
    Stage, Timestamp, fields_of,
};
use cardless_transport::{Credentials, Hosts, Request, Response, Transport};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, LOCATION};
use http::{HeaderName, HeaderValue};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::error::{Failure, Refusal};
use crate::wire::{self, Alias, TransactionId};

/// Datatrans' operations, as far as they are used: each builds a request, sends it once, and
/// decodes the answer. None of them takes or gives a card number.
#[derive(Debug)]
pub(crate) struct Client {
    provider: ProviderName,
    transport: Transport,
    credentials: Credentials<HeaderValue>,
}

/// An init that the provider has accepted.
pub(crate) struct Initialized {
    pub(crate) started: wire::Started,
    /// Where to send the customer; on the list of hosts.
    pub(crate) location: Url,
}

type Call<T> = Result<T, Failure>;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=UTF-8");
const ACCEPT_JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Every call that is made.
pub(crate) const CALLS: &[ProviderCall] = &[
    INIT,
    AUTHORIZE,
    SETTLE,
    CANCEL,
    CREDIT,
    STATUS,
    ALIAS,
    DATE_ALIAS,
    DELETE_ALIAS,
];

const INIT: ProviderCall = ProviderCall {
    body: &[
        "currency",
        "refno",
        "amount",
        "autoSettle",
        "paymentMethods[]",
        "language",
        "option.createAlias",
        "option.storeCustomerData",
        "card.type",
        "card.alias",
        "card.expiryMonth",
        "card.expiryYear",
        "redirect.successUrl",
        "redirect.cancelUrl",
        "redirect.errorUrl",
        "redirect.method",
        "webhook.url",
    ],
    reads_headers: &["location"],
    ..post(
        "/v1/transactions",
        &[Stage::Link, Stage::Authorize],
        fields_of::<wire::Started>,
    )
};

const AUTHORIZE: ProviderCall = ProviderCall {
    body: &[
        "currency",
        "refno",
        "amount",
        "autoSettle",
        "card.type",
        "card.alias",
        "card.expiryMonth",
        "card.expiryYear",
    ],
    ..post(
        "/v1/transactions/authorize",
        &[Stage::Authorize],
        fields_of::<wire::Started>,
    )
};

const SETTLE: ProviderCall = ProviderCall {
    body: MOVEMENT,
    ..post(
        "/v1/transactions/{id}/settle",
        &[Stage::Authorize, Stage::Capture],
        fields_of::<wire::Accepted>,
    )
};

const CANCEL: ProviderCall = post(
    "/v1/transactions/{id}/cancel",
    &[Stage::Void],
    fields_of::<wire::Accepted>,
);

const CREDIT: ProviderCall = ProviderCall {
    body: MOVEMENT,
    ..post(
        "/v1/transactions/{id}/credit",
        &[Stage::Refund],
        fields_of::<wire::Started>,
    )
};

const MOVEMENT: &[&str] = &["amount", "currency", "refno"];

const STATUS: ProviderCall = keyless(
    "GET",
    "/v1/transactions/{id}",
    &[
        Stage::Check,
        Stage::Link,
        Stage::Authorize,
        Stage::Capture,
        Stage::Void,
        Stage::Read,
    ],
    fields_of::<wire::Status>,
);

const ALIAS: ProviderCall = keyless(
    "GET",
    "/v1/aliases/{alias}",
    &[Stage::Authorize],
    fields_of::<wire::AliasInfo>,
);

const DATE_ALIAS: ProviderCall = ProviderCall {
    body: &["expiryMonth", "expiryYear"],
    ..keyless(
        "PATCH",
        "/v1/aliases/{alias}",
        &[Stage::Link],
        fields_of::<wire::Accepted>,
    )
};

const DELETE_ALIAS: ProviderCall = keyless(
    "DELETE",
    "/v1/aliases/{alias}",
    &[Stage::Revoke],
    fields_of::<wire::Accepted>,
);

const fn post(
    path: &'static str,
    stages: &'static [Stage],
    reads: fn() -> Vec<String>,
) -> ProviderCall {
    ProviderCall {
        headers: &["idempotency-key"],
        ..keyless("POST", path, stages, reads)
    }
}

const fn keyless(
    method: &'static str,
    path: &'static str,
    stages: &'static [Stage],
    reads: fn() -> Vec<String>,
) -> ProviderCall {
    ProviderCall {
        reads,
        reads_of_a_refusal: fields_of::<wire::ErrorBody>,
        ..ProviderCall::new(method, path, stages, Credential::Basic)
    }
}

impl Client {
    pub(crate) const fn new(
        provider: ProviderName,
        transport: Transport,
        credentials: Credentials<HeaderValue>,
    ) -> Self {
        Self {
            provider,
            transport,
            credentials,
        }
    }

    /// Where calls may go, and customers be sent.
    pub(crate) const fn hosts(&self) -> &Hosts {
        self.transport.hosts()
    }

    /// `POST /v1/transactions`
    pub(crate) async fn init(&self, key: &IdempotencyKey, body: Bytes) -> Call<Initialized> {
        let answer = self.send(&INIT, INIT.path, Some(key), Some(body)).await?;
        let location = answer
            .headers()
            .get(LOCATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| Url::parse(text).ok())
            .filter(|url| self.transport.hosts().allow(url))
            .ok_or_else(|| self.unreadable("no Location of the payment page"))?;
        Ok(Initialized {
            started: self.decode(&answer)?,
            location,
        })
    }

    /// `POST /v1/transactions/authorize`
    pub(crate) async fn authorize(&self, key: &IdempotencyKey, body: Bytes) -> Call<wire::Started> {
        let answer = self
            .send(&AUTHORIZE, AUTHORIZE.path, Some(key), Some(body))
            .await?;
        self.decode(&answer)
    }

    /// `POST /v1/transactions/{id}/settle`. Any 2xx is success, with or without a body (§3).
    pub(crate) async fn settle(
        &self,
        key: &IdempotencyKey,
        id: TransactionId<'_>,
        body: &wire::Movement<'_>,
    ) -> Call<()> {
        let body = self.encode(body)?;
        let answer = self.post(&SETTLE, id, key, body).await?;
        self.accepted(&answer)
    }

    /// `POST /v1/transactions/{id}/cancel`. Any 2xx is success, with or without a body (§3).
    pub(crate) async fn cancel(&self, key: &IdempotencyKey, id: TransactionId<'_>) -> Call<()> {
        let body = self.encode(&wire::Cancel {})?;
        let answer = self.post(&CANCEL, id, key, body).await?;
        self.accepted(&answer)
    }

    /// `POST /v1/transactions/{id}/credit`. Any 2xx without a body is success without the new
    /// transaction's id; a body has to name it.
    pub(crate) async fn credit(
        &self,
        key: &IdempotencyKey,
        id: TransactionId<'_>,
        body: &wire::Movement<'_>,
    ) -> Call<Option<wire::Started>> {
        let body = self.encode(body)?;
        let answer = self.post(&CREDIT, id, key, body).await?;
        if is_blank(answer.body()) {
            return Ok(None);
        }
        self.decode(&answer).map(Some)
    }

    /// `GET /v1/transactions/{id}`
    pub(crate) async fn status(&self, id: TransactionId<'_>) -> Call<wire::Status> {
        let path = STATUS.path_with(id.as_str());
        let answer = self.send(&STATUS, &path, None, None).await?;
        let status: wire::Status = self.decode(&answer)?;
        let made_at = answer
            .headers()
            .get(DATE)
            .and_then(|date| date.to_str().ok());
        Ok(wire::Status {
            made_at: made_at.and_then(Timestamp::parse_http_date),
            ..status
        })
    }

    /// `GET /v1/aliases/{alias}`
    pub(crate) async fn alias(&self, alias: Alias<'_>) -> Call<wire::AliasInfo> {
        let path = ALIAS.path_with(alias.expose());
        let answer = self.send(&ALIAS, &path, None, None).await?;
        self.decode(&answer)
    }

    /// `PATCH /v1/aliases/{alias}`. The answer holds the whole alias again and is dropped.
    pub(crate) async fn date_alias(&self, alias: Alias<'_>, expiry: &wire::Expiry) -> Call<()> {
        let body = Some(self.encode(expiry)?);
        let path = DATE_ALIAS.path_with(alias.expose());
        let answer = self.send(&DATE_ALIAS, &path, None, body).await?;
        self.accepted(&answer)
    }

    /// `DELETE /v1/aliases/{alias}`
    pub(crate) async fn delete_alias(&self, alias: Alias<'_>) -> Call<()> {
        let path = DELETE_ALIAS.path_with(alias.expose());
        let answer = self.send(&DELETE_ALIAS, &path, None, None).await?;
        self.accepted(&answer)
    }

    /// The exact bytes of a body: members in the order of the type, so that a repeat is equal.
    pub(crate) fn encode(&self, body: &impl Serialize) -> Call<Bytes> {
        serde_json::to_vec(body)
            .map(Bytes::from)
            .map_err(|_| self.not_sent("the body can't be written"))
    }

    async fn post(
        &self,
        call: &ProviderCall,
        id: TransactionId<'_>,
        key: &IdempotencyKey,
        body: Bytes,
    ) -> Call<Response> {
        let path = call.path_with(id.as_str());
        self.send(call, &path, Some(key), Some(body)).await
    }

    /// Sends once; again, the same bytes under the same key, with another live password only if the
    /// one in use was refused before anything was done. The key goes with POST only: nothing else
    /// keeps it (§8).
    async fn send(
        &self,
        call: &ProviderCall,
        path: &str,
        key: Option<&IdempotencyKey>,
        body: Option<Bytes>,
    ) -> Call<Response> {
        let mut refused = None;
        for turn in self.credentials.in_turn() {
            let request = self
                .request(turn.credential(), call.method, path, key, body.clone())
                .ok_or_else(|| self.not_sent("the request can't be built"))?;
            match self.attempt(request, turn.is_first()).await {
                Err(Failure::Refused(refusal)) if refusal.is_wrong_password() => {
                    refused = Some(Failure::Refused(refusal));
                }
                result => {
                    turn.is_used();
                    return result;
                }
            }
        }
        Err(refused.unwrap_or_else(|| self.not_sent("there is no password")))
    }

    async fn attempt(&self, request: Request, first: bool) -> Call<Response> {
        let answer = self.transport.send(request).await.map_err(|error| {
            let error = error.into_provider_error(&self.provider);
            // One that is not the first was sent before, with another password.
            Failure::Broken(if first { error } else { error.after_a_send() })
        })?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(Failure::Refused(Refusal::new(
            answer.status(),
            answer.body(),
        )))
    }

    fn request(
        &self,
        authorization: &HeaderValue,
        method: &str,
        path: &str,
        key: Option<&IdempotencyKey>,
        body: Option<Bytes>,
    ) -> Option<Request> {
        let base = self.transport.hosts().base().as_str();
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", base.trim_end_matches('/')))
            .header(AUTHORIZATION, authorization.clone())
            .header(ACCEPT, ACCEPT_JSON);
        if let Some(key) = key {
            request = request.header(IDEMPOTENCY_KEY, key.as_str());
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, JSON);
        }
        request.body(body.unwrap_or_default()).ok()
    }

    /// Decodes a body. The decoder's own message is dropped, since it can quote the body.
    fn decode<T: DeserializeOwned>(&self, answer: &Response) -> Call<T> {
        serde_json::from_slice(answer.body()).map_err(|_| self.unreadable("the body can't be read"))
    }

    /// A 2xx that needs no body. One that is there is an object without an error: the page of a
    /// proxy on the way is no success.
    fn accepted(&self, answer: &Response) -> Call<()> {
        if is_blank(answer.body()) {
            return Ok(());
        }
        match self.decode::<wire::Accepted>(answer)?.error {
            None => Ok(()),
            Some(_) => Err(self.unreadable("an error in a success")),
        }
    }

    fn unreadable(&self, why: &'static str) -> Failure {
        let kind = ErrorKind::UnreadableAnswer;
        let error = ProviderError::new(self.provider.clone(), kind, Delivery::Unknown);
        Failure::Broken(error.with_source(why))
    }

    fn not_sent(&self, why: &'static str) -> Failure {
        let kind = ErrorKind::Internal;
        let error = ProviderError::new(self.provider.clone(), kind, Delivery::NotSent);
        Failure::Broken(error.with_source(why))
    }
}

fn is_blank(body: &[u8]) -> bool {
    body.iter().all(u8::is_ascii_whitespace)
}
