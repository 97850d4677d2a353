use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use super::{Access, Acting, Content, Doc, Id, Problem, Route};
use crate::error::{Code, Error};

/// Where a provider sends the browser.
pub(crate) const PATH: &str = "/return/{state}";

pub(super) fn routes() -> Vec<Route> {
    vec![Route {
        method: Method::GET,
        path: PATH,
        access: Access::Open,
        handler: get(follow),
        doc: Doc {
            id: "returnFromProvider",
            summary: "For browsers that come back from a provider: sends them on to `return_url`.",
            keyed: false,
            query: &[],
            body: Content::None,
            answers: &[(303, "On to `return_url?setup=…&status=…`.", Content::None)],
        },
    }]
}

/// The query is the provider's, and the gateway believes next to nothing of it: it asks.
async fn follow(Acting(gateway): Acting, Id(state): Id, uri: Uri) -> Result<Response, Problem> {
    let address = format!("{state}?{}", uri.query().unwrap_or_default());
    let to = gateway.returned(&address).await?;
    let location = HeaderValue::try_from(to.location).map_err(|_| {
        let message = "Something is wrong on our side.";
        Error::new(Code::Internal, message).with_source("a return_url that is no header value")
    })?;
    Ok((StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response())
}
