use std::sync::Arc;

use bytes::Bytes;
use cardless_contract::{Clock, ErrorKind, ProviderName};
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

/// Whether an endpoint belongs to a space, and takes the `Space` header.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Space,
    Global,
}

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
        self.post("/payment/transactions", body).await
    }

    /// `GET /payment/transactions/{id}`, with the token in full.
    pub(crate) async fn transaction(&self, id: i64) -> Result<wire::Transaction, Failure> {
        self.get(&format!("/payment/transactions/{id}?expand=token"))
            .await
    }

    /// `GET /payment/transactions/search` by our reference, at most two.
    pub(crate) async fn transactions_by_reference(
        &self,
        reference: &str,
    ) -> Result<wire::Page<wire::Transaction>, Failure> {
        let query = format!("merchantReference:\"{reference}\"");
        self.get(&search(
            "/payment/transactions/search",
            &query,
            LIMIT_TO_SEE_A_SECOND,
        ))
        .await
    }

    /// `GET /payment/transactions/{id}/payment-page-url`. The address holds a security token.
    pub(crate) async fn payment_page_url(&self, id: i64) -> Result<String, Failure> {
        let path = format!("/payment/transactions/{id}/payment-page-url");
        self.text(&path, Scope::Space).await
    }

    /// `POST /payment/transactions/{id}/process-with-token`.
    pub(crate) async fn process_with_token(&self, id: i64) -> Result<wire::Charge, Failure> {
        self.post_empty(&format!("/payment/transactions/{id}/process-with-token"))
            .await
    }

    /// `POST /payment/transactions/{id}/complete-partially-online`.
    pub(crate) async fn complete(
        &self,
        id: i64,
        body: &wire::CompletionDetails<'_>,
    ) -> Result<wire::Completion, Failure> {
        self.post(
            &format!("/payment/transactions/{id}/complete-partially-online"),
            body,
        )
        .await
    }

    /// `GET /payment/transactions/completions/{id}`.
    pub(crate) async fn completion(&self, id: i64) -> Result<wire::Completion, Failure> {
        self.get(&format!("/payment/transactions/completions/{id}"))
            .await
    }

    /// `GET /payment/transactions/completions/search` by our key, at most two.
    pub(crate) async fn completions_by_key(
        &self,
        key: &str,
    ) -> Result<wire::Page<wire::Completion>, Failure> {
        let query = format!("externalId:\"{key}\"");
        let path = "/payment/transactions/completions/search";
        self.get(&search(path, &query, LIMIT_TO_SEE_A_SECOND)).await
    }

    /// `GET /payment/transactions/completions/search` by transaction.
    pub(crate) async fn completions_of(
        &self,
        transaction: i64,
    ) -> Result<wire::Page<wire::Completion>, Failure> {
        let query = format!("linkedTransaction:{transaction}");
        let path = "/payment/transactions/completions/search";
        self.get(&search(path, &query, LIMIT_OF_A_PAGE)).await
    }

    /// `POST /payment/transactions/{id}/void-online`.
    pub(crate) async fn void(&self, id: i64) -> Result<wire::Void, Failure> {
        self.post_empty(&format!("/payment/transactions/{id}/void-online"))
            .await
    }

    /// `GET /payment/transactions/voids/search` by transaction.
    pub(crate) async fn voids_of(
        &self,
        transaction: i64,
    ) -> Result<wire::Page<wire::Void>, Failure> {
        let query = format!("transaction.id:{transaction}");
        self.get(&search(
            "/payment/transactions/voids/search",
            &query,
            LIMIT_OF_A_PAGE,
        ))
        .await
    }

    /// `POST /payment/refunds`.
    pub(crate) async fn create_refund(
        &self,
        body: &wire::RefundCreate<'_>,
    ) -> Result<wire::Refund, Failure> {
        self.post("/payment/refunds", body).await
    }

    /// `GET /payment/refunds/{id}`.
    pub(crate) async fn refund(&self, id: i64) -> Result<wire::Refund, Failure> {
        self.get(&format!("/payment/refunds/{id}")).await
    }

    /// `GET /payment/refunds/search` by our key, at most two.
    pub(crate) async fn refunds_by_key(
        &self,
        key: &str,
    ) -> Result<wire::Page<wire::Refund>, Failure> {
        let query = format!("externalId:\"{key}\"");
        self.get(&search(
            "/payment/refunds/search",
            &query,
            LIMIT_TO_SEE_A_SECOND,
        ))
        .await
    }

    /// `GET /payment/tokens/{id}`.
    pub(crate) async fn token(&self, id: i64) -> Result<wire::Token, Failure> {
        self.get(&format!("/payment/tokens/{id}")).await
    }

    /// `GET /payment/tokens/{id}/active-version`.
    pub(crate) async fn active_version(&self, id: i64) -> Result<wire::TokenVersion, Failure> {
        self.get(&format!("/payment/tokens/{id}/active-version"))
            .await
    }

    /// `DELETE /payment/tokens/{id}`.
    pub(crate) async fn delete_token(&self, id: i64) -> Result<(), Failure> {
        let path = format!("/payment/tokens/{id}");
        let response = self
            .send(Method::DELETE, &path, None, Scope::Space, Answer::Json)
            .await?;
        if response.body().iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        // The object may come back; the page of a proxy on the way is no success.
        self.decode::<wire::Token>(&response).map(drop)
    }

    /// `GET /webhooks/listeners/search`, those in use.
    pub(crate) async fn listeners(&self) -> Result<wire::Page<wire::Listener>, Failure> {
        let path = "/webhooks/listeners/search";
        self.get(&search(path, "state:ACTIVE", LIMIT_OF_A_PAGE))
            .await
    }

    /// `GET /webhooks/encryption-keys/{id}`: base64 of a DER SubjectPublicKeyInfo. The caller has
    /// checked that `id` is letters, digits and hyphens.
    pub(crate) async fn encryption_key(&self, id: &str) -> Result<String, Failure> {
        self.text(&format!("/webhooks/encryption-keys/{id}"), Scope::Global)
            .await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let response = self
            .send(Method::GET, path, None, Scope::Space, Answer::Json)
            .await?;
        self.decode(&response)
    }

    async fn text(&self, path: &str, scope: Scope) -> Result<String, Failure> {
        let response = self
            .send(Method::GET, path, None, scope, Answer::Text)
            .await?;
        String::from_utf8(response.into_body().to_vec())
            .map_err(|_| Failure::unreadable(&self.provider, "not text".to_owned()))
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body)
            .map_err(|_| Failure::internal(&self.provider, "the body can't be written"))?;
        let response = self
            .send(Method::POST, path, Some(body), Scope::Space, Answer::Json)
            .await?;
        self.decode(&response)
    }

    async fn post_empty<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let response = self
            .send(Method::POST, path, None, Scope::Space, Answer::Json)
            .await?;
        self.decode(&response)
    }

    /// Sends once; again with another live key only if the one in use was refused before anything
    /// was done.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        scope: Scope,
        answer: Answer,
    ) -> Result<Response, Failure> {
        let body = body.map(Bytes::from);
        let mut refused = None;
        for turn in self.signers.in_turn() {
            let request = self
                .request(
                    turn.credential(),
                    &method,
                    path,
                    body.clone(),
                    scope,
                    answer,
                )
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
        method: &Method,
        path: &str,
        body: Option<Bytes>,
        scope: Scope,
        answer: Answer,
    ) -> Option<Request> {
        let uri: Uri = format!("{}{path}", self.base).parse().ok()?;
        let signed = uri.path_and_query()?.as_str();
        let token = signer.token(method, signed, self.clock.now()).ok()?;
        let mut authorization = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
        authorization.set_sensitive(true);

        let mut request = http::Request::builder()
            .method(method.clone())
            .uri(uri)
            .header(AUTHORIZATION, authorization)
            .header(ACCEPT, answer.accept());
        if scope == Scope::Space {
            request = request.header("space", HeaderValue::from(self.space));
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

fn search(path: &str, query: &str, limit: u8) -> String {
    format!(
        "{path}?query={}&limit={limit}",
        utf8_percent_encode(query, QUERY_VALUE)
    )
}
