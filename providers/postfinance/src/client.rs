use std::sync::Arc;

use bytes::Bytes;
use cardless_contract::{
    Clock, Credential, ErrorKind, ProviderCall, ProviderName, Stage, fields_of,
};
use cardless_transport::{Credentials, Hosts, Request, Response, Transport};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::auth::Signer;
use crate::error::Failure;
use crate::wire;

/// How many results a search asks for where more than one would be a conflict.
const LIMIT_TO_SEE_A_SECOND: u8 = 2;

/// How many results a search asks for where all are wanted: the largest page (§3.7).
const LIMIT_OF_A_PAGE: u8 = 100;

/// What stays as it is in a query; everything else is percent-encoded, so that no client on the
/// way encodes it again after it is signed (`providers/postfinance.md` §1.2).
const QUERY_VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// What an endpoint answers with.
#[derive(Clone, Copy)]
enum Answer {
    Json,
    /// An address or a key, as bare text.
    Text,
}

/// The header that names the space, for the endpoints that belong to one.
const SPACE: &str = "space";

/// One method per endpoint: builds the request, sends it once, decodes the answer.
#[derive(Debug)]
pub(crate) struct Client {
    provider: ProviderName,
    transport: Transport,
    signers: Credentials<Signer>,
    clock: Arc<dyn Clock>,
    base: String,
    space: i64,
}

/// Every call that is made.
pub(crate) const CALLS: &[ProviderCall] = &[
    CREATE_TRANSACTION,
    TRANSACTION,
    SEARCH_TRANSACTIONS,
    PAYMENT_PAGE_URL,
    PROCESS_WITH_TOKEN,
    COMPLETE,
    COMPLETION,
    SEARCH_COMPLETIONS,
    VOID,
    ONE_VOID,
    SEARCH_VOIDS,
    CREATE_REFUND,
    REFUND,
    SEARCH_REFUNDS,
    TOKEN,
    ACTIVE_VERSION,
    DELETE_TOKEN,
    LISTENERS,
    ENCRYPTION_KEY,
];

const CREATE_TRANSACTION: ProviderCall = ProviderCall {
    body: &[
        "currency",
        "merchantReference",
        "customerId",
        "token",
        "tokenizationMode",
        "completionBehavior",
        "customersPresence",
        "chargeRetryEnabled",
        "language",
        "successUrl",
        "failedUrl",
        "allowedPaymentMethodConfigurations[]",
        "lineItems[].uniqueId",
        "lineItems[].type",
        "lineItems[].name",
        "lineItems[].quantity",
        "lineItems[].amountIncludingTax",
    ],
    ..of_the_space(
        "POST",
        "/payment/transactions",
        &[Stage::Link, Stage::Authorize],
        fields_of::<wire::Transaction>,
    )
};

const TRANSACTION: ProviderCall = ProviderCall {
    query: &["expand"],
    ..of_the_space(
        "GET",
        "/payment/transactions/{id}",
        &[
            Stage::Link,
            Stage::Authorize,
            Stage::Capture,
            Stage::Void,
            Stage::Refund,
            Stage::Read,
        ],
        fields_of::<wire::Transaction>,
    )
};

const SEARCH_TRANSACTIONS: ProviderCall = search_call(
    "/payment/transactions/search",
    &[Stage::Check, Stage::Read],
    fields_of::<wire::Page<wire::Transaction>>,
);

/// The address is read as a whole; it is the answer's text.
const PAYMENT_PAGE_URL: ProviderCall = of_the_space(
    "GET",
    "/payment/transactions/{id}/payment-page-url",
    &[Stage::Link, Stage::Authorize],
    Vec::new,
);

const PROCESS_WITH_TOKEN: ProviderCall = of_the_space(
    "POST",
    "/payment/transactions/{id}/process-with-token",
    &[Stage::Authorize],
    fields_of::<wire::Charge>,
);

const COMPLETE: ProviderCall = ProviderCall {
    body: &[
        "externalId",
        "lastCompletion",
        "lineItems[].uniqueId",
        "lineItems[].quantity",
        "lineItems[].amount",
    ],
    ..of_the_space(
        "POST",
        "/payment/transactions/{id}/complete-partially-online",
        &[Stage::Capture],
        fields_of::<wire::Completion>,
    )
};

const COMPLETION: ProviderCall = of_the_space(
    "GET",
    "/payment/transactions/completions/{id}",
    &[Stage::Read],
    fields_of::<wire::Completion>,
);

const SEARCH_COMPLETIONS: ProviderCall = search_call(
    "/payment/transactions/completions/search",
    &[Stage::Authorize, Stage::Read],
    fields_of::<wire::Page<wire::Completion>>,
);

const VOID: ProviderCall = of_the_space(
    "POST",
    "/payment/transactions/{id}/void-online",
    &[Stage::Link, Stage::Void],
    fields_of::<wire::Void>,
);

const ONE_VOID: ProviderCall = of_the_space(
    "GET",
    "/payment/transactions/voids/{id}",
    &[Stage::Read],
    fields_of::<wire::Void>,
);

const SEARCH_VOIDS: ProviderCall = search_call(
    "/payment/transactions/voids/search",
    &[Stage::Authorize, Stage::Read],
    fields_of::<wire::Page<wire::Void>>,
);

const CREATE_REFUND: ProviderCall = ProviderCall {
    body: &[
        "externalId",
        "type",
        "transaction",
        "amount",
        "merchantReference",
    ],
    ..of_the_space(
        "POST",
        "/payment/refunds",
        &[Stage::Refund],
        fields_of::<wire::Refund>,
    )
};

const REFUND: ProviderCall = of_the_space(
    "GET",
    "/payment/refunds/{id}",
    &[Stage::Read],
    fields_of::<wire::Refund>,
);

const SEARCH_REFUNDS: ProviderCall = search_call(
    "/payment/refunds/search",
    &[Stage::Read],
    fields_of::<wire::Page<wire::Refund>>,
);

const TOKEN: ProviderCall = of_the_space(
    "GET",
    "/payment/tokens/{id}",
    &[Stage::Authorize, Stage::Revoke],
    fields_of::<wire::Token>,
);

const ACTIVE_VERSION: ProviderCall = of_the_space(
    "GET",
    "/payment/tokens/{id}/active-version",
    &[Stage::Link],
    fields_of::<wire::TokenVersion>,
);

const DELETE_TOKEN: ProviderCall = of_the_space(
    "DELETE",
    "/payment/tokens/{id}",
    &[Stage::Revoke],
    fields_of::<wire::Token>,
);

const LISTENERS: ProviderCall = search_call(
    "/webhooks/listeners/search",
    &[Stage::Check],
    fields_of::<wire::Page<wire::Listener>>,
);

/// The key is read as a whole; it is the answer's text.
const ENCRYPTION_KEY: ProviderCall = ProviderCall {
    reads_of_a_refusal: fields_of::<wire::ErrorBody>,
    ..ProviderCall::new(
        "GET",
        "/webhooks/encryption-keys/{id}",
        &[Stage::Notification],
        Credential::SignedToken,
    )
};

const fn search_call(
    path: &'static str,
    stages: &'static [Stage],
    reads: fn() -> Vec<String>,
) -> ProviderCall {
    ProviderCall {
        query: &["query", "limit"],
        ..of_the_space("GET", path, stages, reads)
    }
}

/// A call that names the space in its header.
const fn of_the_space(
    method: &'static str,
    path: &'static str,
    stages: &'static [Stage],
    reads: fn() -> Vec<String>,
) -> ProviderCall {
    ProviderCall {
        headers: &[SPACE],
        reads,
        reads_of_a_refusal: fields_of::<wire::ErrorBody>,
        ..ProviderCall::new(method, path, stages, Credential::SignedToken)
    }
}

impl Client {
    pub(crate) fn new(
        provider: ProviderName,
        transport: Transport,
        signers: Credentials<Signer>,
        clock: Arc<dyn Clock>,
        space: i64,
    ) -> Self {
        let base = transport
            .hosts()
            .base()
            .as_str()
            .trim_end_matches('/')
            .to_owned();
        Self {
            provider,
            transport,
            signers,
            clock,
            base,
            space,
        }
    }

    /// Where payers may be sent.
    pub(crate) const fn hosts(&self) -> &Hosts {
        self.transport.hosts()
    }

    /// `POST /payment/transactions`.
    pub(crate) async fn create_transaction(
        &self,
        body: &wire::TransactionCreate<'_>,
    ) -> Result<wire::Transaction, Failure> {
        self.post(&CREATE_TRANSACTION, CREATE_TRANSACTION.path, body)
            .await
    }

    /// `GET /payment/transactions/{id}`, with the token in full.
    pub(crate) async fn transaction(&self, id: i64) -> Result<wire::Transaction, Failure> {
        let path = format!("{}?expand=token", at(&TRANSACTION, id));
        self.get(&TRANSACTION, &path).await
    }

    /// `GET /payment/transactions/search` by our reference, at most two.
    pub(crate) async fn transactions_by_reference(
        &self,
        reference: &str,
    ) -> Result<wire::Page<wire::Transaction>, Failure> {
        let query = format!("merchantReference:\"{reference}\"");
        self.search(&SEARCH_TRANSACTIONS, &query, LIMIT_TO_SEE_A_SECOND)
            .await
    }

    /// `GET /payment/transactions/{id}/payment-page-url`. The address holds a security token.
    pub(crate) async fn payment_page_url(&self, id: i64) -> Result<String, Failure> {
        self.text(&PAYMENT_PAGE_URL, &at(&PAYMENT_PAGE_URL, id))
            .await
    }

    /// `POST /payment/transactions/{id}/process-with-token`.
    pub(crate) async fn process_with_token(&self, id: i64) -> Result<wire::Charge, Failure> {
        self.post_empty(&PROCESS_WITH_TOKEN, id).await
    }

    /// `POST /payment/transactions/{id}/complete-partially-online`.
    pub(crate) async fn complete(
        &self,
        id: i64,
        body: &wire::CompletionDetails<'_>,
    ) -> Result<wire::Completion, Failure> {
        self.post(&COMPLETE, &at(&COMPLETE, id), body).await
    }

    /// `GET /payment/transactions/completions/{id}`.
    pub(crate) async fn completion(&self, id: i64) -> Result<wire::Completion, Failure> {
        self.get(&COMPLETION, &at(&COMPLETION, id)).await
    }

    /// `GET /payment/transactions/completions/search` by our key, at most two.
    pub(crate) async fn completions_by_key(
        &self,
        key: &str,
    ) -> Result<wire::Page<wire::Completion>, Failure> {
        let query = format!("externalId:\"{key}\"");
        self.search(&SEARCH_COMPLETIONS, &query, LIMIT_TO_SEE_A_SECOND)
            .await
    }

    /// `GET /payment/transactions/completions/search` by transaction.
    pub(crate) async fn completions_of(
        &self,
        transaction: i64,
    ) -> Result<wire::Page<wire::Completion>, Failure> {
        let query = format!("linkedTransaction:{transaction}");
        self.search(&SEARCH_COMPLETIONS, &query, LIMIT_OF_A_PAGE)
            .await
    }

    /// `POST /payment/transactions/{id}/void-online`.
    pub(crate) async fn void(&self, id: i64) -> Result<wire::Void, Failure> {
        self.post_empty(&VOID, id).await
    }

    /// `GET /payment/transactions/voids/{id}`.
    pub(crate) async fn one_void(&self, id: i64) -> Result<wire::Void, Failure> {
        self.get(&ONE_VOID, &at(&ONE_VOID, id)).await
    }

    /// `GET /payment/transactions/voids/search` by transaction.
    pub(crate) async fn voids_of(
        &self,
        transaction: i64,
    ) -> Result<wire::Page<wire::Void>, Failure> {
        let query = format!("transaction.id:{transaction}");
        self.search(&SEARCH_VOIDS, &query, LIMIT_OF_A_PAGE).await
    }

    /// `POST /payment/refunds`.
    pub(crate) async fn create_refund(
        &self,
        body: &wire::RefundCreate<'_>,
    ) -> Result<wire::Refund, Failure> {
        self.post(&CREATE_REFUND, CREATE_REFUND.path, body).await
    }

    /// `GET /payment/refunds/{id}`.
    pub(crate) async fn refund(&self, id: i64) -> Result<wire::Refund, Failure> {
        self.get(&REFUND, &at(&REFUND, id)).await
    }

    /// `GET /payment/refunds/search` by our key, at most two.
    pub(crate) async fn refunds_by_key(
        &self,
        key: &str,
    ) -> Result<wire::Page<wire::Refund>, Failure> {
        let query = format!("externalId:\"{key}\"");
        self.search(&SEARCH_REFUNDS, &query, LIMIT_TO_SEE_A_SECOND)
            .await
    }

    /// `GET /payment/tokens/{id}`.
    pub(crate) async fn token(&self, id: i64) -> Result<wire::Token, Failure> {
        self.get(&TOKEN, &at(&TOKEN, id)).await
    }

    /// `GET /payment/tokens/{id}/active-version`.
    pub(crate) async fn active_version(&self, id: i64) -> Result<wire::TokenVersion, Failure> {
        self.get(&ACTIVE_VERSION, &at(&ACTIVE_VERSION, id)).await
    }

    /// `DELETE /payment/tokens/{id}`.
    pub(crate) async fn delete_token(&self, id: i64) -> Result<(), Failure> {
        let path = at(&DELETE_TOKEN, id);
        let response = self.send(&DELETE_TOKEN, &path, None, Answer::Json).await?;
        if response.body().iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        // The object may come back; the page of a proxy on the way is no success.
        self.decode::<wire::Token>(&response).map(drop)
    }

    /// `GET /webhooks/listeners/search`, those in use.
    pub(crate) async fn listeners(&self) -> Result<wire::Page<wire::Listener>, Failure> {
        self.search(&LISTENERS, "state:ACTIVE", LIMIT_OF_A_PAGE)
            .await
    }

    /// `GET /webhooks/encryption-keys/{id}`: base64 of a DER SubjectPublicKeyInfo. The caller has
    /// checked that `id` is letters, digits and hyphens.
    pub(crate) async fn encryption_key(&self, id: &str) -> Result<String, Failure> {
        self.text(&ENCRYPTION_KEY, &ENCRYPTION_KEY.path_with(id))
            .await
    }

    async fn search<T: DeserializeOwned>(
        &self,
        call: &ProviderCall,
        query: &str,
        limit: u8,
    ) -> Result<wire::Page<T>, Failure> {
        let query = utf8_percent_encode(query, QUERY_VALUE);
        self.get(call, &format!("{}?query={query}&limit={limit}", call.path))
            .await
    }

    async fn get<T: DeserializeOwned>(
        &self,
        call: &ProviderCall,
        path: &str,
    ) -> Result<T, Failure> {
        let response = self.send(call, path, None, Answer::Json).await?;
        self.decode(&response)
    }

    async fn text(&self, call: &ProviderCall, path: &str) -> Result<String, Failure> {
        let response = self.send(call, path, None, Answer::Text).await?;
        String::from_utf8(response.into_body().to_vec())
            .map_err(|_| Failure::unreadable(&self.provider, "not text".to_owned()))
    }

    async fn post<T: DeserializeOwned>(
        &self,
        call: &ProviderCall,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body)
            .map_err(|_| Failure::internal(&self.provider, "the body can't be written"))?;
        let response = self.send(call, path, Some(body), Answer::Json).await?;
        self.decode(&response)
    }

    async fn post_empty<T: DeserializeOwned>(
        &self,
        call: &ProviderCall,
        id: i64,
    ) -> Result<T, Failure> {
        let response = self.send(call, &at(call, id), None, Answer::Json).await?;
        self.decode(&response)
    }

    /// Sends once; again with another live key only if the one in use was refused before anything
    /// was done.
    async fn send(
        &self,
        call: &ProviderCall,
        path: &str,
        body: Option<Vec<u8>>,
        answer: Answer,
    ) -> Result<Response, Failure> {
        let body = body.map(Bytes::from);
        let mut refused = None;
        for turn in self.signers.in_turn() {
            let request = self
                .request(turn.credential(), call, path, body.clone(), answer)
                .ok_or_else(|| Failure::internal(&self.provider, "the request can't be built"))?;
            match self.attempt(request, turn.is_first()).await {
                Err(failure) if failure.is(ErrorKind::Authentication) => refused = Some(failure),
                result => {
                    turn.is_used();
                    return result;
                }
            }
        }
        Err(refused.unwrap_or_else(|| Failure::internal(&self.provider, "there is no key")))
    }

    async fn attempt(&self, request: Request, first: bool) -> Result<Response, Failure> {
        let response = self
            .transport
            .send(request)
            .await
            .map_err(|error| Failure::unanswered(&self.provider, error, first))?;
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(Failure::refused(&self.provider, &response))
        }
    }

    /// The request as it leaves. The address is final before it is signed: the JWT covers path
    /// and query byte for byte.
    fn request(
        &self,
        signer: &Signer,
        call: &ProviderCall,
        path: &str,
        body: Option<Bytes>,
        answer: Answer,
    ) -> Option<Request> {
        let uri: Uri = format!("{}{path}", self.base).parse().ok()?;
        let signed = uri.path_and_query()?.as_str();
        let method = Method::from_bytes(call.method.as_bytes()).ok()?;
        let token = signer.token(&method, signed, self.clock.now()).ok()?;
        let mut authorization = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
        authorization.set_sensitive(true);

        let mut request = http::Request::builder()
            .method(method)
            .uri(uri)
            .header(AUTHORIZATION, authorization)
            .header(ACCEPT, answer.accept());
        if call.headers.contains(&SPACE) {
            request = request.header(SPACE, HeaderValue::from(self.space));
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        request.body(body.unwrap_or_default()).ok()
    }

    fn decode<T: DeserializeOwned>(&self, response: &Response) -> Result<T, Failure> {
        // serde's own text can quote the answer, so only the place is kept.
        serde_json::from_slice(response.body()).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let what = format!("{:?} error at {line}:{column}", error.classify());
            Failure::unreadable(&self.provider, what)
        })
    }
}

impl Answer {
    const fn accept(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Text => "text/plain,application/json",
        }
    }
}

fn at(call: &ProviderCall, id: i64) -> String {
    call.path_with(&id.to_string())
}
