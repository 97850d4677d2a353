//! The HTTP service: a router that is a function, and the loop that accepts connections for it.
//!
//! - Every error is `application/problem+json`, made in `problem`, also those of the router.
//! - Card numbers are looked for before anything else is done with a request.
//! - A request that changes something runs to its end, even if its caller hangs up.
//! - One line in the log per request: method, route, status, duration, client. Never a path with
//!   its values, a header or a body.

mod accept;
mod auth;
mod body;
mod gate;
mod net;
mod openapi;
mod problem;
pub mod routes;

pub use accept::serve;
pub use auth::{Access, Caller};
pub use openapi::document;
pub use problem::Problem;

use std::sync::Arc;

use axum::Router;

use crate::gateway::Gateway;

/// The largest body that is read, in bytes (64 KiB).
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// What every handler has at hand.
#[derive(Debug, Clone)]
pub struct Service {
    gateway: Gateway,
    openapi: Arc<str>,
}

impl Service {
    /// The gateway that does the work.
    pub(crate) const fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// The text of `/openapi.json`.
    pub(crate) fn openapi(&self) -> &str {
        &self.openapi
    }
}

/// The whole HTTP API over a gateway.
pub fn router(gateway: Gateway) -> Router {
    let routes = routes::all();
    let service = Service {
        gateway,
        openapi: document(&routes).to_string().into(),
    };
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
