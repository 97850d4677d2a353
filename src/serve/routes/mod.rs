//! Every route of the service, declared once: path, access, handler, and what `/openapi.json` says
//! of it. The router and the document are both made from this list.

mod accounts;
mod events;
mod exchange;
mod health;
mod payment_methods;
mod payments;
mod refunds;
mod returns;
mod scope;
mod setups;
mod webhooks;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use axum::{Json, body::Bytes};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::auth::{Access, Caller};
use super::net::IDEMPOTENCY_KEY;
use super::{Problem, Service, body, gate};
use crate::error::{Code, Error};
use crate::gateway::{Actor, Gateway, Origin, RequestKey};
use crate::message::Answer;

pub(crate) use exchange::KEYS_MEDIA_TYPE;
pub(crate) use returns::PATH as RETURN_PATH;

/// One route: a method on a path.
#[derive(Debug)]
pub struct Route {
    /// Its method.
    pub method: Method,
    /// Its path, with `{…}` for what varies.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    /// What it does.
    pub handler: MethodRouter<Service>,
    /// What `/openapi.json` says of it.
    pub doc: Doc,
}

/// What `/openapi.json` says of a route.
#[derive(Debug, Clone, Copy)]
pub struct Doc {
    /// The operation's id.
    pub id: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Whether an `Idempotency-Key` is required.
    pub keyed: bool,
    /// The members of the query: name, and whether it is required.
    pub query: &'static [(&'static str, bool)],
    /// The body.
    pub body: Content,
    /// The answers that are no errors: status, and what is in them.
    pub answers: &'static [(u16, &'static str, Content)],
}

/// What a body holds.
#[derive(Debug, Clone, Copy)]
pub enum Content {
    /// Nothing.
    None,
    /// JSON of this schema.
    Json(&'static str),
    /// JSON of any shape: the provider's own.
    AnyJson,
    /// Plain text.
    Text,
    /// A sealed message.
    Sealed,
    /// A set of public keys.
    Keys,
    /// The report on the scope: JSON by `scope::SCHEMA`, Markdown or HTML.
    Report,
}

/// All routes.
pub fn all() -> Vec<Route> {
    let mut routes = setups::routes();
    routes.extend(payment_methods::routes());
    routes.extend(accounts::routes());
    routes.extend(payments::routes());
    routes.extend(refunds::routes());
    routes.extend(events::routes());
    routes.extend(exchange::routes());
    routes.extend(webhooks::routes());
    routes.extend(returns::routes());
    routes.extend(scope::routes());
    routes.extend(health::routes());
    routes
}

/// The request's `Idempotency-Key`, in the name of its client.
#[derive(Debug)]
struct Keyed(RequestKey);

impl FromRequestParts<Service> for Keyed {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Service) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<Caller>().ok_or_else(|| {
            let message = "Something is wrong on our side.";
            Error::new(Code::Internal, message).with_source("a keyed route without a caller")
        })?;
        let mut keys = parts.headers.get_all(IDEMPOTENCY_KEY).iter();
        let key = match (keys.next(), keys.next()) {
            (Some(key), None) => key.to_str().map_err(|_| bad_key())?,
            (Some(_), Some(_)) | (None, _) => return Err(bad_key().into()),
        };
        Ok(Self(RequestKey::new(caller.name.clone(), key)?))
    }
}

fn bad_key() -> Error {
    let message = "Send one `Idempotency-Key` of 1 to 255 visible ASCII characters; repeat a \
                   request with the same key.";
    Error::field(Code::IdempotencyKey, "Idempotency-Key", message)
}

/// A JSON body.
#[derive(Debug)]
struct Body<T>(T);

impl<T: DeserializeOwned> FromRequest<Service> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &Service) -> Result<Self, Problem> {
        let headers = request.headers().clone();
        let bytes = whole(request, state).await?;
        body::decode_json(&headers, &bytes).map(Self)
    }
}

/// A body as it came, with its headers.
#[derive(Debug)]
struct Raw(HeaderMap, Bytes);

impl FromRequest<Service> for Raw {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &Service) -> Result<Self, Problem> {
        let headers = request.headers().clone();
        Ok(Self(headers, whole(request, state).await?))
    }
}

/// The gateway, acting for whoever calls: what it writes into the audit log names them. No handler has
/// another.
#[derive(Debug)]
struct Acting(Gateway);

impl FromRequestParts<Service> for Acting {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        service: &Service,
    ) -> Result<Self, Self::Rejection> {
        let caller = parts.extensions.get::<Caller>();
        let actor = caller.map_or_else(
            || Actor::unknown(gate::origin(&parts.extensions)),
            Caller::actor,
        );
        Ok(Self(service.gateway().acting_as(actor)))
    }
}

/// From where a call comes, on a route that is open to everybody.
#[derive(Debug)]
struct CalledFrom(Origin);

impl FromRequestParts<Service> for CalledFrom {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Service) -> Result<Self, Self::Rejection> {
        Ok(Self(gate::origin(&parts.extensions)))
    }
}

/// The body that the gate has read.
async fn whole(request: Request, state: &Service) -> Result<Bytes, Problem> {
    Bytes::from_request(request, state)
        .await
        .map_err(|_| Problem::broken_body())
}

/// The query.
#[derive(Debug)]
struct Query<T>(T);

impl<T: DeserializeOwned> FromRequestParts<Service> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Service) -> Result<Self, Problem> {
        body::decode_query(parts.uri.query()).map(Self)
    }
}

/// The one varying piece of a path, decoded.
#[derive(Debug)]
struct Id(String);

impl FromRequestParts<Service> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Service) -> Result<Self, Problem> {
        let path = axum::extract::Path::<String>::from_request_parts(parts, state).await;
        path.map(|path| Self(path.0))
            .map_err(|_| Error::not_found("address").into())
    }
}

/// An answer with `settled` as its status, or 202 while it is open.
fn answer<T: Serialize>(answer: Answer<T>, settled: StatusCode) -> Response {
    let status = if answer.open {
        StatusCode::ACCEPTED
    } else {
        settled
    };
    (status, Json(answer.body)).into_response()
}
