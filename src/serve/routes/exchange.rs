use axum::extract::State;
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};

use super::{Access, Acting, CalledFrom, Caller, Content, Doc, Problem, Raw, Route, Service};
use crate::error::Code;
use crate::exchange::MEDIA_TYPE;
use crate::serve::sealed;

/// The media type of a set of public keys (RFC 7517).
pub(crate) const KEYS_MEDIA_TYPE: &str = "application/jwk-set+json";

/// How long the key set may be kept: less than the day for which a new key is published before it
/// signs.
const KEYS_CACHE: &str = "public, max-age=3600";

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route {
            method: Method::POST,
            path: "/v1/exchange",
            access: Access::Open,
            handler: post(exchange),
            doc: Doc {
                id: "exchange",
                summary: "The one door of a sealed client: a call of this API as a sealed message.",
                keyed: false,
                query: &[],
                body: Content::Sealed,
                answers: &[(
                    200,
                    "The answer, sealed; its claim `status` is the call's own.",
                    Content::Sealed,
                )],
            },
        },
        Route {
            method: Method::GET,
            path: "/.well-known/jwks.json",
            access: Access::Open,
            handler: get(keys),
            doc: Doc {
                id: "readExchangeKeys",
                summary: "The service's public keys for sealed messages, the newest first.",
                keyed: false,
                query: &[],
                body: Content::None,
                answers: &[(200, "The keys.", Content::Keys)],
            },
        },
    ]
}

/// Whoever sends the message proves who it is by the message itself.
async fn exchange(
    State(service): State<Service>,
    Acting(gateway): Acting,
    CalledFrom(origin): CalledFrom,
    Raw(headers, body): Raw,
) -> Result<Response, Problem> {
    if !is_sealed(&headers) {
        return Err(Problem::not_sealed());
    }
    let taken = match gateway.open_exchange(&body).await {
        Ok(taken) => taken,
        Err(error) => {
            if error.code() == Code::ExchangeRefused {
                gateway.login_refused(None, origin).await;
            }
            return Err(error.into());
        }
    };
    let caller = Caller {
        name: taken.client.clone(),
        role: taken.role,
        origin,
    };
    let (status, body) = sealed::dispatch(&service, &caller, &taken.request).await;
    let answer = gateway.seal_answer(&taken, status.as_u16(), body).await?;
    let mut response = ([(header::CONTENT_TYPE, MEDIA_TYPE)], answer).into_response();
    // For the line in the log.
    response.extensions_mut().insert(caller);
    Ok(response)
}

async fn keys(Acting(gateway): Acting) -> Result<Response, Problem> {
    let keys = gateway.exchange_keys().await?;
    let headers = [
        (header::CONTENT_TYPE, KEYS_MEDIA_TYPE),
        (header::CACHE_CONTROL, KEYS_CACHE),
    ];
    Ok((headers, keys.to_string()).into_response())
}

fn is_sealed(headers: &HeaderMap) -> bool {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = value
        .and_then(|value| value.split(';').next())
        .unwrap_or_default();
    essence.trim().eq_ignore_ascii_case(MEDIA_TYPE)
}
