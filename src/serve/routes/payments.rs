use axum::Json;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};

use super::{Access, Acting, Body, Content, Doc, Id, Keyed, Problem, Query, Route, answer};
use crate::message::{
    CaptureRequest, Page, PayRequest, Payment, PaymentQuery, RefundRequest, VoidRequest,
};

pub(super) fn routes() -> Vec<Route> {
    let mut routes = vec![create_route(), list_route(), read_route()];
    routes.extend([capture_route(), void_route(), refund_route()]);
    routes
}

fn create_route() -> Route {
    Route {
        method: Method::POST,
        path: "/v1/payments",
        access: Access::Billing,
        handler: post(create),
        doc: Doc {
            id: "createPayment",
            summary: "Charge an account.",
            keyed: true,
            query: &[],
            body: Content::Json("PayRequest"),
            answers: &[
                (
                    201,
                    "It is settled one way or the other.",
                    Content::Json("Payment"),
                ),
                (
                    202,
                    "It is open; read it until it is settled.",
                    Content::Json("Payment"),
                ),
            ],
        },
    }
}

fn list_route() -> Route {
    Route {
        method: Method::GET,
        path: "/v1/payments",
        access: Access::Read,
        handler: get(list),
        doc: Doc {
            id: "listPayments",
            summary: "The payments of an account.",
            keyed: false,
            query: &[("account", true), ("reference", false), ("after", false)],
            body: Content::None,
            answers: &[(200, "The payments.", Content::Json("PaymentPage"))],
        },
    }
}

fn read_route() -> Route {
    Route {
        method: Method::GET,
        path: "/v1/payments/{id}",
        access: Access::Read,
        handler: get(read),
        doc: Doc {
            id: "readPayment",
            summary: "A payment.",
            keyed: false,
            query: &[],
            body: Content::None,
            answers: &[(200, "The payment.", Content::Json("Payment"))],
        },
    }
}

fn capture_route() -> Route {
    Route {
        method: Method::POST,
        path: "/v1/payments/{id}/captures",
        access: Access::Billing,
        handler: post(capture),
        doc: Doc {
            id: "capturePayment",
            summary: "Take an authorized amount, or a part of it.",
            keyed: true,
            query: &[],
            body: Content::Json("CaptureRequest"),
            answers: &[
                (200, "The capture is settled.", Content::Json("Payment")),
                (202, "The capture is open.", Content::Json("Payment")),
            ],
        },
    }
}

fn void_route() -> Route {
    Route {
        method: Method::POST,
        path: "/v1/payments/{id}/void",
        access: Access::Billing,
        handler: post(void),
        doc: Doc {
            id: "voidPayment",
            summary: "Release what is held.",
            keyed: true,
            query: &[],
            body: Content::Json("VoidRequest"),
            answers: &[
                (200, "The void is settled.", Content::Json("Payment")),
                (202, "The void is open.", Content::Json("Payment")),
            ],
        },
    }
}

fn refund_route() -> Route {
    Route {
        method: Method::POST,
        path: "/v1/payments/{id}/refunds",
        access: Access::Billing,
        handler: post(refund),
        doc: Doc {
            id: "refundPayment",
            summary: "Give back a captured amount, or a part of it.",
            keyed: true,
            query: &[],
            body: Content::Json("RefundRequest"),
            answers: &[
                (201, "The refund is settled.", Content::Json("Refund")),
                (202, "The refund is open.", Content::Json("Refund")),
            ],
        },
    }
}

async fn create(
    Acting(gateway): Acting,
    Keyed(key): Keyed,
    Body(request): Body<PayRequest>,
) -> Result<Response, Problem> {
    let payment = gateway.pay(&key, &request).await?;
    Ok(answer(payment, StatusCode::CREATED))
}

async fn list(
    Acting(gateway): Acting,
    Query(query): Query<PaymentQuery>,
) -> Result<Json<Page<Payment>>, Problem> {
    Ok(Json(gateway.payments(&query).await?))
}

async fn read(Acting(gateway): Acting, Id(id): Id) -> Result<Json<Payment>, Problem> {
    Ok(Json(gateway.payment(&id).await?))
}

async fn capture(
    Acting(gateway): Acting,
    Id(id): Id,
    Keyed(key): Keyed,
    Body(request): Body<CaptureRequest>,
) -> Result<Response, Problem> {
    let payment = gateway.capture(&key, &id, &request).await?;
    Ok(answer(payment, StatusCode::OK))
}

async fn void(
    Acting(gateway): Acting,
    Id(id): Id,
    Keyed(key): Keyed,
    Body(request): Body<VoidRequest>,
) -> Result<Response, Problem> {
    let payment = gateway.void(&key, &id, &request).await?;
    Ok(answer(payment, StatusCode::OK))
}

async fn refund(
    Acting(gateway): Acting,
    Id(id): Id,
    Keyed(key): Keyed,
    Body(request): Body<RefundRequest>,
) -> Result<Response, Problem> {
    let refund = gateway.refund(&key, &id, &request).await?;
    Ok(answer(refund, StatusCode::CREATED))
}
