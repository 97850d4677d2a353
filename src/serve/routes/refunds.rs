use axum::Json;
use axum::http::Method;
use axum::routing::get;

use super::{Access, Acting, Content, Doc, Id, Problem, Route};
use crate::message::Refund;

pub(super) fn routes() -> Vec<Route> {
    vec![Route {
        method: Method::GET,
        path: "/v1/refunds/{id}",
        access: Access::Read,
        handler: get(read),
        doc: Doc {
            id: "readRefund",
            summary: "A refund.",
            keyed: false,
            query: &[],
            body: Content::None,
            answers: &[(200, "The refund.", Content::Json("Refund"))],
        },
    }]
}

async fn read(Acting(gateway): Acting, Id(id): Id) -> Result<Json<Refund>, Problem> {
    Ok(Json(gateway.refund_by_id(&id).await?))
}
