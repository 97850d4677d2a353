use axum::Json;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};

use super::{Access, Acting, Body, Content, Doc, Id, Keyed, Problem, Route};
use crate::message::{LinkRequest, Setup};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route {
            method: Method::POST,
            path: "/v1/setups",
            access: Access::Billing,
            handler: post(create),
            doc: Doc {
                id: "createSetup",
                summary: "Begin to link a payment method; send the customer to `redirect_url`.",
                keyed: true,
                query: &[],
                body: Content::Json("LinkRequest"),
                answers: &[(
                    201,
                    "The setup, whatever its status.",
                    Content::Json("Setup"),
                )],
            },
        },
        Route {
            method: Method::GET,
            path: "/v1/setups/{id}",
            access: Access::Read,
            handler: get(read),
            doc: Doc {
                id: "readSetup",
                summary: "How far a setup is.",
                keyed: false,
                query: &[],
                body: Content::None,
                answers: &[(200, "The setup.", Content::Json("Setup"))],
            },
        },
    ]
}

/// 201 in every case: the setup exists, and its status says how far it is.
async fn create(
    Acting(gateway): Acting,
    Keyed(key): Keyed,
    Body(request): Body<LinkRequest>,
) -> Result<Response, Problem> {
    let setup = gateway.link(&key, &request).await?;
    Ok((StatusCode::CREATED, Json(setup.body)).into_response())
}

async fn read(Acting(gateway): Acting, Id(id): Id) -> Result<Json<Setup>, Problem> {
    Ok(Json(gateway.setup(&id).await?))
}
