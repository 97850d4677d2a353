use axum::Json;
use axum::http::{Method, StatusCode};
use axum::routing::{delete, get, patch};
use serde::Deserialize;

use super::{Access, Acting, Body, Content, Doc, Id, Problem, Query, Route};
use crate::message::{MethodUpdate, Page, PaymentMethod};

/// Whose method it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Owner {
    account: String,
}

/// The query of a call that takes none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route {
            method: Method::GET,
            path: "/v1/accounts/{account}/payment-methods",
            access: Access::Read,
            handler: get(list),
            doc: Doc {
                id: "listPaymentMethods",
                summary: "The payment methods of an account.",
                keyed: false,
                query: &[],
                body: Content::None,
                answers: &[(200, "The methods.", Content::Json("PaymentMethodPage"))],
            },
        },
        Route {
            method: Method::PATCH,
            path: "/v1/payment-methods/{id}",
            access: Access::Billing,
            handler: patch(update),
            doc: Doc {
                id: "updatePaymentMethod",
                summary: "Make a payment method its account's default.",
                keyed: false,
                query: &[],
                body: Content::Json("MethodUpdate"),
                answers: &[(200, "The method.", Content::Json("PaymentMethod"))],
            },
        },
        Route {
            method: Method::DELETE,
            path: "/v1/payment-methods/{id}",
            access: Access::Billing,
            handler: delete(revoke),
            doc: Doc {
                id: "revokePaymentMethod",
                summary: "Revoke a payment method, here and at the provider.",
                keyed: false,
                query: &[("account", true)],
                body: Content::None,
                answers: &[
                    (204, "It is revoked, at the provider too.", Content::None),
                    (
                        202,
                        "It is revoked here; the provider has not confirmed yet.",
                        Content::None,
                    ),
                ],
            },
        },
    ]
}

async fn list(
    Acting(gateway): Acting,
    Id(account): Id,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<Page<PaymentMethod>>, Problem> {
    Ok(Json(gateway.payment_methods(&account).await?))
}

async fn update(
    Acting(gateway): Acting,
    Id(id): Id,
    Body(request): Body<MethodUpdate>,
) -> Result<Json<PaymentMethod>, Problem> {
    Ok(Json(gateway.set_default(&id, &request).await?))
}

async fn revoke(
    Acting(gateway): Acting,
    Id(id): Id,
    Query(owner): Query<Owner>,
) -> Result<StatusCode, Problem> {
    let answer = gateway.revoke(&id, &owner.account).await?;
    Ok(if answer.open {
        StatusCode::ACCEPTED
    } else {
        StatusCode::NO_CONTENT
    })
}
