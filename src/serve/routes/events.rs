use axum::Json;
use axum::http::Method;
use axum::routing::get;

use super::{Access, Acting, Content, Doc, Problem, Query, Route};
use crate::gateway::MAX_EVENTS;
use crate::message::{Event, EventQuery, Page};

pub(super) fn routes() -> Vec<Route> {
    vec![Route {
        method: Method::GET,
        path: "/v1/events",
        access: Access::Read,
        handler: get(list),
        doc: Doc {
            id: "listEvents",
            summary: "What has become true, oldest first. Keep the id of the last event that you \
                      have dealt with, and give it as `after` the next time; 410 `event_gone` says that it is not kept \
                      any more.",
            keyed: false,
            query: &[("after", false)],
            body: Content::None,
            answers: &[(200, "The events.", Content::Json("EventPage"))],
        },
    }]
}

async fn list(
    Acting(gateway): Acting,
    Query(query): Query<EventQuery>,
) -> Result<Json<Page<Event>>, Problem> {
    let after = query.after.as_deref();
    Ok(Json(gateway.events(after, MAX_EVENTS).await?))
}
