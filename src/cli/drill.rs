//! `scope --drill`: a test card number at every door, and what becomes of it.

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use cardless_contract::async_trait;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use cardless::config::Settings;
use cardless::registry;
use cardless::scope::Door;
use cardless::scope::drill::{Drill, Reach, WaysIn};
use cardless::serve;

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
    let doors = serve::doors();
    let doors = doors
        .into_iter()
        .flat_map(|door| with_each(door, providers));
    Reach {
        doors: doors.collect(),
        files: registry::store_files(settings),
    }
}

/// A door; of webhooks, also that of each provider which is set up.
fn with_each(door: Door, providers: &[&str]) -> Vec<Door> {
    let mut doors = Vec::new();
    if door.method == "POST" && door.path.contains(PROVIDER) {
        doors.extend(providers.iter().map(|name| Door {
            path: door.path.replace(PROVIDER, name),
            ..door.clone()
        }));
    }
    doors.push(door);
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
