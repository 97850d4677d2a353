use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use super::{Access, Acting, Content, Doc, Problem, Route, Service};
use crate::error::{Code, Error};
use crate::scope::{Build, HTML_POLICY, Report, Sources};

/// The media type of Markdown (RFC 7763).
const MARKDOWN: &str = "text/markdown; charset=utf-8";

/// The media type of the page.
const HTML: &str = "text/html; charset=utf-8";

pub(super) fn routes() -> Vec<Route> {
    vec![Route {
        method: Method::GET,
        path: "/v1/scope",
        access: Access::Evidence,
        handler: get(read),
        doc: Doc {
            id: "readScope",
            summary: "The evidence for the PCI review, made anew: JSON, or Markdown or HTML if \
                      `Accept` names `text/markdown` or `text/html`.",
            keyed: false,
            query: &[],
            body: Content::None,
            answers: &[(200, "The report.", Content::Report)],
        },
    }]
}

async fn read(
    State(service): State<Service>,
    Acting(gateway): Acting,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let evidence = service.evidence();
    let Ok(_turn) = evidence.turn.try_lock() else {
        let message = "Another report is being made; ask again once it is done.";
        return Err(Error::new(Code::InProgress, message).into());
    };
    let sources = Sources {
        gateway,
        settings: evidence.settings.as_ref().map(|settings| settings.get()),
        doors: evidence.doors.to_vec(),
        build: Build::of_process(),
    };
    let report = Report::of(&sources, |_, _| {}).await?;
    Ok(if accepts(&headers, "text/html") {
        let headers = [
            (header::CONTENT_TYPE, HTML),
            (header::CONTENT_SECURITY_POLICY, HTML_POLICY),
        ];
        (headers, report.to_html()).into_response()
    } else if accepts(&headers, "text/markdown") {
        ([(header::CONTENT_TYPE, MARKDOWN)], report.to_markdown()).into_response()
    } else {
        Json(report).into_response()
    })
}

/// Whether `Accept` names this media type. Preferences among several are not looked at: who names
/// HTML is a browser.
fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let values = headers.get_all(header::ACCEPT).iter();
    let mut values = values.filter_map(|value| value.to_str().ok());
    values.any(|value| {
        let mut types = value.split(',').map(|one| one.split(';').next());
        types.any(|one| one.is_some_and(|one| one.trim().eq_ignore_ascii_case(media_type)))
    })
}
