use axum::Json;
use axum::body::Body as AnswerBody;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};
use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use serde::Deserialize;

use super::{Access, Acting, Body, Content, Doc, Id, Keyed, Problem, Query, Route, answer};
use crate::error::{Causes, Error};
use crate::gateway::AccountExport;
use crate::message::{ErasureRequest, Restriction, RestrictionUpdate};

/// How many pieces of an export wait for a slow reader.
const PIECES_AHEAD: usize = 2;

/// The query of a call that takes none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route {
            method: Method::GET,
            path: "/v1/accounts/{account}/export",
            access: Access::Read,
            handler: get(export),
            doc: Doc {
                id: "exportAccount",
                summary: "Everything that is kept of an account.",
                keyed: false,
                query: &[],
                body: Content::None,
                answers: &[(200, "The document.", Content::Json("AccountExport"))],
            },
        },
        Route {
            method: Method::POST,
            path: "/v1/accounts/{account}/erasure",
            access: Access::Billing,
            handler: post(erase),
            doc: Doc {
                id: "eraseAccount",
                summary: "Revoke at the providers, delete here, and keep what the books must keep \
                          under a random name.",
                keyed: true,
                query: &[],
                body: Content::Json("ErasureRequest"),
                answers: &[
                    (201, "It is erased; the receipt.", Content::Json("Erasure")),
                    (
                        202,
                        "Nothing more is charged; something must come to its end first.",
                        Content::Json("Erasure"),
                    ),
                ],
            },
        },
        Route {
            method: Method::GET,
            path: "/v1/accounts/{account}/erasure",
            access: Access::Read,
            handler: get(erasure),
            doc: Doc {
                id: "getErasure",
                summary: "The latest erasure of an account, or its receipt.",
                keyed: false,
                query: &[],
                body: Content::None,
                answers: &[(200, "The erasure.", Content::Json("Erasure"))],
            },
        },
        Route {
            method: Method::PUT,
            path: "/v1/accounts/{account}/restriction",
            access: Access::Billing,
            handler: put(restrict),
            doc: Doc {
                id: "restrictAccount",
                summary: "Let an account be charged no more, or again.",
                keyed: false,
                query: &[],
                body: Content::Json("RestrictionUpdate"),
                answers: &[(200, "As it stands.", Content::Json("Restriction"))],
            },
        },
    ]
}

async fn export(
    Acting(gateway): Acting,
    Id(account): Id,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Response, Problem> {
    let export = gateway.export_account(&account).await?;
    let (sender, body) = Channel::new(PIECES_AHEAD);
    tokio::spawn(send_pieces(export, sender));
    let json = [(header::CONTENT_TYPE, "application/json")];
    Ok((json, AnswerBody::new(body)).into_response())
}

/// Sends an export piece by piece. One that breaks off is no whole document, and the connection
/// ends without its end.
async fn send_pieces(mut export: AccountExport, mut sender: Sender<Bytes, Error>) {
    loop {
        match export.next().await {
            Ok(Some(piece)) => {
                if sender.send_data(Bytes::from(piece)).await.is_err() {
                    // Nobody reads it any more.
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => {
                tracing::error!(error = %Causes(&error), "an export broke off");
                return sender.abort(error);
            }
        }
    }
}

async fn erase(
    Acting(gateway): Acting,
    Id(account): Id,
    Keyed(key): Keyed,
    Body(ErasureRequest {}): Body<ErasureRequest>,
) -> Result<Response, Problem> {
    let erasure = gateway.erase(&key, &account).await?;
    Ok(answer(erasure, StatusCode::CREATED))
}

async fn erasure(
    Acting(gateway): Acting,
    Id(account): Id,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Response, Problem> {
    let erasure = gateway.erasure(&account).await?;
    Ok(Json(erasure.body).into_response())
}

async fn restrict(
    Acting(gateway): Acting,
    Id(account): Id,
    Body(update): Body<RestrictionUpdate>,
) -> Result<Json<Restriction>, Problem> {
    let restriction = gateway.set_restricted(&account, update.restricted).await?;
    Ok(Json(restriction))
}
