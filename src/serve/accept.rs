//! The loop that accepts connections, its limits, and its graceful end.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt as _;

/// How many connections are open at once; a further one waits to be accepted.
const MAX_CONNECTIONS: usize = 1024;

/// How many headers a request may have; more are answered 431.
const MAX_HEADERS: usize = 64;

/// How many bytes the head of a request may have.
const MAX_HEAD_BYTES: usize = 32 * 1024;

/// How long the head of a request may take, and how long a connection may lie idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a reader of an answer may take none of it. Beyond it the connection ends, so that nobody
/// holds one without reading.
const READ_NOTHING_TIMEOUT: Duration = Duration::from_secs(30);

/// How long requests that run may take to end once the service stops. A provider's slowest answer
/// lies within it.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// How long to wait after an accept that failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Serves `router` on `listener` until `shutdown` ends; then finishes the requests that run.
///
/// # Errors
///
/// If the listener is lost. A connection's own failure is none.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let connections = GracefulShutdown::new();
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let (stream, permit) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &permits) => accepted?,
        };
        connect(stream, permit, router.clone(), &connections);
    }
    drop(listener);
    if tokio::time::timeout(STOP_TIMEOUT, connections.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("some requests did not end in time; their outcome is asked for later");
    }
    Ok(())
}

/// The next connection, once there is room for it.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = permits
        .clone()
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Ok((stream, permit)),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted at present");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    [
        io::ErrorKind::ConnectionAborted,
        io::ErrorKind::ConnectionRefused,
        io::ErrorKind::ConnectionReset,
    ]
    .contains(&error.kind())
}

/// Serves one connection on a task of its own.
fn connect(
    stream: TcpStream,
    permit: OwnedSemaphorePermit,
    router: Router,
    connections: &GracefulShutdown,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection stays without TCP_NODELAY");
    }
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES);
    let peer = stream.peer_addr().ok().map(|peer| Peer(peer.ip()));
    let router = router.map_request(move |mut request: hyper::Request<Incoming>| {
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        request
    });
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(READ_NOTHING_TIMEOUT));
    let stream = TokioIo::new(Box::pin(stream));
    let connection = http.serve_connection(stream, TowerToHyperService::new(router));
    let connection = connections.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended early");
        }
        drop(permit);
    });
}
