use axum::http::{Method, StatusCode};
use axum::routing::post;

use super::{Access, Acting, Content, Doc, Id, Problem, Raw, Route};

pub(super) fn routes() -> Vec<Route> {
    vec![Route {
        method: Method::POST,
        path: "/webhooks/{provider}",
        access: Access::Open,
        handler: post(receive),
        doc: Doc {
            id: "receiveWebhook",
            summary: "For the providers: the signature is checked over the raw bytes.",
            keyed: false,
            query: &[],
            body: Content::AnyJson,
            answers: &[(200, "It is stored.", Content::None)],
        },
    }]
}

/// A webhook's body is not looked through for card numbers: nothing of it is stored, and a
/// provider's own ids may look like one.
async fn receive(
    Acting(gateway): Acting,
    Id(provider): Id,
    Raw(headers, body): Raw,
) -> Result<StatusCode, Problem> {
    gateway.notification(&provider, &headers, &body).await?;
    Ok(StatusCode::OK)
}
