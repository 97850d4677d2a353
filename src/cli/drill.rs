//! `scope --drill`: a test card number at every door, and what becomes of it.

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use cardless_contract::async_trait;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use cardless::config::Settings;
use cardless::exchange;
use cardless::registry;
use cardless::scope::drill::{Drill, HttpDoor, Reach, WaysIn};
use cardless::serve::{self, Access, routes};

use super::{Context, Failure, Outcome, Providers, log, say, say_json, table};

/// What varies in the address of a webhook.
const PROVIDER: &str = "{provider}";

/// The service and the log of this process.
struct Here(Router);

#[async_trait]
impl WaysIn for Here {
    async fn http(&self, request: Request<Bytes>) -> Response<Bytes> {
        let Ok(response) = self.0.clone().oneshot(request.map(Body::from)).await;
        let (parts, body) = response.into_parts();
        match body.collect().await {
            Ok(body) => Response::from_parts(parts, body.to_bytes()),
            Err(_) => broken(),
        }
    }

    fn logged(&self, line: &str) -> String {
        log::as_written(line)
    }
}

pub(super) async fn run(context: &Context, json: bool) -> Outcome {
    let settings = context.settings()?;
    let providers = settings.provider_names();
    let gateway = context.open(&settings, Providers::Shown)?;
    let here = Here(serve::router(gateway.clone()));
    let drill = Drill::run(&gateway, &reach(&settings, &providers), &here).await?;
    if json {
        say_json(&drill)?;
    } else {
        print(&drill)?;
    }
    let failures = drill.failures();
    if failures.is_empty() {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "the drill has failed at {} points: {}",
        failures.len(),
        failures.join("; ")
    )))
}

fn reach(settings: &Settings, providers: &[&str]) -> Reach {
    Reach {
        doors: routes::all()
            .iter()
            .flat_map(|route| doors(route, providers))
            .collect(),
        files: registry::store_files(settings),
    }
}

/// A route's door; of webhooks, also that of each provider which is set up.
fn doors(route: &routes::Route, providers: &[&str]) -> Vec<HttpDoor> {
    let door = |path: String| HttpDoor {
        method: route.method.clone(),
        path,
        open: route.access == Access::Open,
        media_type: match route.doc.body {
            routes::Content::Sealed => exchange::MEDIA_TYPE,
            routes::Content::None
            | routes::Content::Json(_)
            | routes::Content::AnyJson
            | routes::Content::Text
            | routes::Content::Keys
            | routes::Content::Report => "application/json",
        },
    };
    let mut doors = vec![door(route.path.to_owned())];
    if route.method == Method::POST && route.path.contains(PROVIDER) {
        let paths = providers
            .iter()
            .map(|name| route.path.replace(PROVIDER, name));
        doors.extend(paths.map(door));
    }
    doors
}

fn broken() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

fn print(drill: &Drill) -> Outcome {
    let mut rows = table(&["door", "place", "answer", "refused", "alarm"]);
    for one in &drill.tries {
        let alarm = match one.alarmed {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "none is due",
        };
        rows.add_row([
            one.door.as_str(),
            one.place,
            one.answer.as_str(),
            if one.refused { "yes" } else { "NO" },
            alarm,
        ]);
    }
    say(rows)?;
    for place in &drill.stored {
        say(format_args!("STORED: {place}"))?;
    }
    say(format_args!(
        "planted {}, looked through {} bytes of the store and its files for it: {}",
        drill.tries.len(),
        drill.looked_at_bytes,
        if drill.stored.is_empty() {
            "kept nowhere"
        } else {
            "FOUND"
        }
    ))?;
    say(format_args!(
        "the client {} was made for it; it is revoked, and stays in the list of clients. The audit log has \
         a refused `client.add` of no name: that was the drill's",
        drill.client
    ))
}
