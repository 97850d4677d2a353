//! What every request passes before and after its handler.

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Extensions, HeaderValue, Method, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::MethodRouter;
use tokio::time::{Duration, Instant, timeout};

use super::accept::Peer;
use super::auth::{self, Access, Caller};
use super::routes::Route;
use super::{MAX_BODY_BYTES, Problem, Service, net};
use crate::error::{Code, Error};
use crate::gateway::Origin;

/// The largest answer that is sealed, in bytes.
const MAX_ANSWER_BYTES: usize = 512 * 1024;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The methods of RFC 9110 and `PATCH`.
const STANDARD: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
    Method::TRACE,
    Method::CONNECT,
];

/// A handler behind the checks that its declaration asks for.
pub(crate) fn guarded(service: &Service, route: Route) -> MethodRouter<Service> {
    let access = route.access;
    let state = service.clone();
    route
        .handler
        .route_layer(middleware::from_fn(move |request: Request, next: Next| {
            let state = State(state.clone());
            admit(state, access, request, next)
        }))
}

/// The outermost layer, unknown addresses included: the card-number net, the headers that every
/// answer has, and the line in the log.
pub(crate) async fn front(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let (parts, body) = request.into_parts();
    let mut response = match net::check_parts(&parts) {
        Ok(()) => to_the_end(&method, Request::from_parts(parts, body), next).await,
        Err(error) => Problem::from(error).into_response(),
    };
    log(&method, route.as_ref(), &response, started.elapsed());
    let headers = response.headers_mut();
    // Only what is the same for everybody says otherwise.
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// Who calls, and the whole of the body.
async fn admit(
    State(service): State<Service>,
    access: Access,
    mut request: Request,
    next: Next,
) -> Response {
    let origin = origin(request.extensions());
    let caller = match auth::admit(service.gateway(), access, request.headers(), origin).await {
        Ok(caller) => caller,
        Err(error) => return Problem::from(error).into_response(),
    };
    if let Some(caller) = caller.clone() {
        request.extensions_mut().insert(caller);
    }
    let (parts, body) = request.into_parts();
    let body = match read(body).await {
        Ok(body) => body,
        Err(problem) => return problem.into_response(),
    };
    let mut response = next.run(Request::from_parts(parts, Body::from(body))).await;
    if let Some(caller) = caller {
        response.extensions_mut().insert(caller);
    }
    response
}

/// From where a call comes.
pub(super) fn origin(extensions: &Extensions) -> Origin {
    let peer = extensions.get::<Peer>();
    peer.map_or(Origin::Http, |peer| Origin::of_peer(peer.0))
}

/// Reads a body, within its limits of size and time.
async fn read(body: Body) -> Result<Bytes, Problem> {
    let limit = u64::try_from(MAX_BODY_BYTES).unwrap_or(u64::MAX);
    if body.size_hint().lower() > limit {
        return Err(Problem::too_large(MAX_BODY_BYTES));
    }
    match timeout(BODY_TIMEOUT, axum::body::to_bytes(body, MAX_BODY_BYTES)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_too_large(&error) => Err(Problem::too_large(MAX_BODY_BYTES)),
        Ok(Err(_)) => Err(Problem::broken_body()),
        Err(_) => Err(Problem::too_slow()),
    }
}

/// The whole body of an answer of ours.
pub(super) async fn whole_answer(body: Body) -> Option<Bytes> {
    axum::body::to_bytes(body, MAX_ANSWER_BYTES).await.ok()
}

fn is_too_large(error: &axum::Error) -> bool {
    let source = std::error::Error::source(error);
    source.is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}

/// Runs a handler. One that changes something goes on when its caller hangs up: a dropped call to
/// a provider would leave an outcome that nobody knows.
async fn to_the_end(method: &Method, request: Request, next: Next) -> Response {
    let reads = method == Method::GET || method == Method::HEAD;
    if reads
        && request
            .extensions()
            .get::<MatchedPath>()
            .is_none_or(|path| !completes(path))
    {
        return next.run(request).await;
    }
    match tokio::spawn(next.run(request)).await {
        Ok(response) => response,
        Err(error) => {
            let message = "Something is wrong on our side; ask for the object before repeating.";
            let source = if error.is_panic() {
                "a handler panicked"
            } else {
                "a handler ended"
            };
            Problem::from(Error::new(Code::Internal, message).with_source(source)).into_response()
        }
    }
}

/// The one address that changes something on a `GET`: where a browser comes back to.
fn completes(path: &MatchedPath) -> bool {
    path.as_str() == super::routes::RETURN_PATH
}

/// The name of a method that everybody knows; any other is a text of the caller's, and not logged.
fn named(method: &Method) -> &str {
    if STANDARD.contains(method) {
        method.as_str()
    } else {
        "-"
    }
}

fn log(method: &Method, route: Option<&MatchedPath>, response: &Response, took: Duration) {
    tracing::info!(
        method = %named(method),
        route = route.map_or("-", MatchedPath::as_str),
        status = response.status().as_u16(),
        millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        client = response
            .extensions()
            .get::<Caller>()
            .map_or("-", |caller| caller.name.as_str()),
        "request"
    );
}
