//! The HTTP service: a router that is a function, and the loop that accepts connections for it.
//!
//! - A sealed client's requests come to the same handlers, through one route (`sealed`).
//! - Every error is `application/problem+json`, made in `problem`, also those of the router.
//! - Card numbers are looked for before anything else is done with a request.
//! - A request that changes something runs to its end, even if its caller hangs up.
//! - One line in the log per request: method, route, status, duration, client. Never a path with
//!   its values, a header or a body.

mod accept;
mod auth;
mod body;
mod doors;
mod gate;
mod net;
mod openapi;
mod problem;
pub mod routes;
mod sealed;

pub use accept::serve;
pub use auth::{Access, Caller};
pub use doors::doors;
pub use openapi::document;
pub use problem::Problem;

use std::sync::Arc;

use axum::Router;
use tokio::sync::Mutex;

use crate::gateway::Gateway;
use crate::scope::{Door, InForce};

/// The largest body that is read, in bytes (64 KiB).
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// What every handler has at hand.
#[derive(Debug, Clone)]
pub struct Service {
    gateway: Gateway,
    openapi: Arc<str>,
    /// What a sealed message can ask for.
    inside: Router,
    evidence: Evidence,
}

/// What the report on the installation's scope is made from, beside the gateway.
#[derive(Debug, Clone)]
pub(crate) struct Evidence {
    pub(crate) settings: Option<InForce>,
    pub(crate) doors: Arc<[Door]>,
    /// One report at a time: each looks through the whole store.
    pub(crate) turn: Arc<Mutex<()>>,
}

impl Service {
    /// The gateway that does the work.
    pub(crate) const fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// The routes behind the sealed exchange.
    pub(crate) const fn inside(&self) -> &Router {
        &self.inside
    }

    /// What the report on the scope is made from.
    pub(crate) const fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// The text of `/openapi.json`.
    pub(crate) fn openapi(&self) -> &str {
        &self.openapi
    }
}

/// The whole HTTP API over a gateway. The report on the scope shows no settings; see
/// [`router_with_settings`].
pub fn router(gateway: Gateway) -> Router {
    routed(gateway, None)
}

/// The same, with a report on the scope that shows the settings in force.
pub fn router_with_settings(gateway: Gateway, settings: InForce) -> Router {
    routed(gateway, Some(settings))
}

fn routed(gateway: Gateway, settings: Option<InForce>) -> Router {
    let routes = routes::all();
    let openapi: Arc<str> = document(&routes).to_string().into();
    let evidence = Evidence {
        settings,
        doors: doors().into(),
        turn: Arc::default(),
    };
    let mut service = Service {
        inside: Router::new(),
        gateway,
        openapi,
        evidence,
    };
    service.inside = sealed::inside(&service);
    let mut router = Router::new();
    for route in routes {
        router = router.route(route.path, gate::guarded(&service, route));
    }
    router
        .fallback(|| async { Problem::no_route() })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .layer(axum::middleware::from_fn(gate::front))
        .with_state(service)
}
