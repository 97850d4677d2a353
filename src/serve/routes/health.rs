use axum::extract::State;
use axum::http::{Method, header};
use axum::response::IntoResponse;
use axum::routing::get;

use super::{Access, Acting, Content, Doc, Problem, Route, Service};

/// The media type of Prometheus' text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn routes() -> Vec<Route> {
    vec![
        open(
            "/healthz",
            "health",
            "Whether the process runs.",
            Content::Text,
            get(health),
        ),
        open(
            "/readyz",
            "readiness",
            "Whether store and keys answer.",
            Content::Text,
            get(ready),
        ),
        open(
            "/metrics",
            "metrics",
            "Metrics as Prometheus text.",
            Content::Text,
            get(metrics),
        ),
        open(
            "/openapi.json",
            "describe",
            "This document.",
            Content::AnyJson,
            get(describe),
        ),
    ]
}

fn open(
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    content: Content,
    handler: axum::routing::MethodRouter<Service>,
) -> Route {
    let answers: &'static [(u16, &'static str, Content)] = match content {
        Content::Text => &[(200, "Yes.", Content::Text)],
        Content::None
        | Content::Json(_)
        | Content::AnyJson
        | Content::Sealed
        | Content::Keys
        | Content::Report => &[(200, "The document.", Content::AnyJson)],
    };
    let doc = Doc {
        id,
        summary,
        keyed: false,
        query: &[],
        body: Content::None,
        answers,
    };
    Route {
        method: Method::GET,
        path,
        access: Access::Open,
        handler,
        doc,
    }
}

async fn health() -> &'static str {
    "ok\n"
}

async fn ready(Acting(gateway): Acting) -> Result<&'static str, Problem> {
    gateway.ready().await?;
    Ok("ready\n")
}

async fn metrics(Acting(gateway): Acting) -> Result<impl IntoResponse, Problem> {
    let text = gateway.metrics().await?;
    Ok(([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], text))
}

async fn describe(State(service): State<Service>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/json")],
        service.openapi().to_owned(),
    )
}
