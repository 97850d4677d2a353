use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use cardless_contract::{Clock as _, Timestamp};
use cardless_transport::{ClientConfig, Reply, Request, ReqwestClient, Response};
use http::header::DATE;
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use time::OffsetDateTime;
use time::macros::format_description;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::control::Control;
use crate::webhooks::{self, GATHER_MILLIS};
use crate::{Provider, Sandbox};

/// How long a port stays closed for each attempt of a `refuse` fault, in seconds of real time.
pub const REFUSED_ATTEMPT_SECONDS: u64 = 1;

/// How long a stalled call is held open at most, in seconds.
const MAX_STALL_SECONDS: u64 = 120;

/// The largest request body, in bytes (1 MiB).
const MAX_REQUEST_BYTES: usize = 1024 * 1024;

/// How long open connections may go on after a stop, in milliseconds.
const MAX_STOP_MILLIS: u64 = 1000;

/// The wait before a port is bound once more, or a connection accepted once more, after an error,
/// in milliseconds.
const AFTER_ERROR_MILLIS: u64 = 50;

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// How many commands may wait at a door.
const MAX_COMMANDS: usize = 16;

/// How often the clock is looked at when nobody calls, in seconds.
const TICK_SECONDS: u64 = 1;

/// The deadline of a webhook's delivery, in seconds.
const WEBHOOK_SECONDS: u64 = 10;

/// Where the sandbox listens; port 0 picks a free one. All of it on loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// PayPal's port.
    pub paypal: SocketAddr,
    /// PostFinance's port.
    pub postfinance: SocketAddr,
    /// Aduno's port.
    pub aduno: SocketAddr,
    /// The control port.
    pub control: SocketAddr,
}

/// Serves a sandbox over sockets.
#[derive(Debug)]
pub enum Servers {}

/// A sandbox that is being served. Dropping it closes its ports at once.
#[derive(Debug)]
pub struct Running {
    sandbox: Sandbox,
    addresses: Addresses,
    doors: Doors,
    stop: watch::Sender<bool>,
    listeners: JoinSet<()>,
    /// Webhooks and the clock; they end when this is dropped.
    _helpers: JoinSet<()>,
}

/// The ports of the three providers, to be closed and opened. Without listeners (the default), it
/// does nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Doors {
    paypal: Option<mpsc::Sender<Command>>,
    postfinance: Option<mpsc::Sender<Command>>,
    aduno: Option<mpsc::Sender<Command>>,
}

/// What a door is told; it answers once that is done.
#[derive(Debug)]
enum Command {
    Close {
        times: u32,
        done: oneshot::Sender<()>,
    },
    Open {
        done: oneshot::Sender<()>,
    },
}

/// Says what becomes of a request.
pub(crate) trait Respond: Clone + Send + Sync + 'static {
    /// Answers one request.
    fn respond(&self, request: Request) -> impl Future<Output = Reply> + Send;
}

/// One provider of a sandbox, behind a socket.
#[derive(Debug, Clone)]
struct Served {
    sandbox: Sandbox,
    provider: Provider,
}

impl Default for Addresses {
    /// Ports 9101 to 9103 for the providers, 9100 for control.
    fn default() -> Self {
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            paypal: loopback(9101),
            postfinance: loopback(9102),
            aduno: loopback(9103),
            control: loopback(9100),
        }
    }
}

impl Addresses {
    /// A free port for each.
    pub fn free() -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            paypal: any,
            postfinance: any,
            aduno: any,
            control: any,
        }
    }

    /// A provider's address.
    pub const fn of(&self, provider: Provider) -> SocketAddr {
        match provider {
            Provider::PayPal => self.paypal,
            Provider::PostFinance => self.postfinance,
            Provider::Aduno => self.aduno,
        }
    }
}

impl Servers {
    /// Listens on all four ports and serves `sandbox` until it is stopped.
    ///
    /// # Errors
    ///
    /// An address that is not loopback, or a port that can't be had.
    pub async fn start(sandbox: Sandbox, addresses: Addresses) -> io::Result<Running> {
        let paypal = bind(addresses.paypal).await?;
        let postfinance = bind(addresses.postfinance).await?;
        let aduno = bind(addresses.aduno).await?;
        let control = bind(addresses.control).await?;
        let addresses = Addresses {
            paypal: paypal.local_addr()?,
            postfinance: postfinance.local_addr()?,
            aduno: aduno.local_addr()?,
            control: control.local_addr()?,
        };
        let client = ReqwestClient::new(&ClientConfig {
            total_timeout: Duration::from_secs(WEBHOOK_SECONDS),
            ..ClientConfig::default()
        })
        .map_err(io::Error::other)?;

        let (stop, stopped) = watch::channel(false);
        let mut listeners = JoinSet::new();
        let mut open = |listener, provider: Provider| {
            sandbox.set_base(provider, format!("http://{}", addresses.of(provider)));
            let (commands, inbox) = mpsc::channel(MAX_COMMANDS);
            let served = Served {
                sandbox: sandbox.clone(),
                provider,
            };
            let address = addresses.of(provider);
            listeners.spawn(Door::new(address, served, inbox, stopped.clone()).run(listener));
            Some(commands)
        };
        let doors = Doors {
            paypal: open(paypal, Provider::PayPal),
            postfinance: open(postfinance, Provider::PostFinance),
            aduno: open(aduno, Provider::Aduno),
        };
        let (_never, inbox) = mpsc::channel(1);
        let respond = Control::new(sandbox.clone(), doors.clone());
        listeners.spawn(Door::new(addresses.control, respond, inbox, stopped).run(control));
        let mut helpers = JoinSet::new();
        for provider in Provider::ALL {
            helpers.spawn(post_webhooks(sandbox.clone(), provider, client.clone()));
        }
        helpers.spawn(keep_ticking(sandbox.clone()));
        Ok(Running {
            sandbox,
            addresses,
            doors,
            stop,
            listeners,
            _helpers: helpers,
        })
    }
}

impl Running {
    /// The sandbox that is served.
    pub const fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Where it listens, with the ports that were picked.
    pub const fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Closes a provider's port and cuts its connections, for `times` attempts of
    /// [`REFUSED_ATTEMPT_SECONDS`]. It is closed when this returns.
    pub async fn refuse(&self, provider: Provider, times: u32) {
        self.doors.close(provider, times).await;
    }

    /// Opens a port that [`Running::refuse`] has closed.
    pub async fn reopen(&self, provider: Provider) {
        self.doors.open(provider).await;
    }

    /// Stops listening, lets calls that are on their way end within a second, and returns.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        let stopped = async { while self.listeners.join_next().await.is_some() {} };
        let limit = Duration::from_millis(MAX_STOP_MILLIS.saturating_mul(2));
        if tokio::time::timeout(limit, stopped).await.is_err() {
            tracing::warn!("the sandbox was stopped with calls on their way");
        }
        self.listeners.shutdown().await;
    }
}

impl Doors {
    /// Closes a provider's port for `times` attempts; it is closed when this returns.
    pub(crate) async fn close(&self, provider: Provider, times: u32) {
        self.tell(provider, |done| Command::Close { times, done })
            .await;
    }

    /// Opens a provider's port if it is closed.
    pub(crate) async fn open(&self, provider: Provider) {
        self.tell(provider, |done| Command::Open { done }).await;
    }

    async fn tell(&self, provider: Provider, command: impl FnOnce(oneshot::Sender<()>) -> Command) {
        let door = match provider {
            Provider::PayPal => &self.paypal,
            Provider::PostFinance => &self.postfinance,
            Provider::Aduno => &self.aduno,
        };
        let Some(door) = door else { return };
        let (done, told) = oneshot::channel();
        // A door that is gone has been stopped: there is nothing to close or open any more.
        if door.send(command(done)).await.is_ok() {
            told.await.ok();
        }
    }
}

impl Respond for Served {
    async fn respond(&self, request: Request) -> Reply {
        match self.sandbox.serve_call(self.provider, request) {
            Reply::Answer(response) => Reply::Answer(self.dated(response)),
            Reply::HalfBody(response) => Reply::HalfBody(self.dated(response)),
            other @ (Reply::Refuse | Reply::Stall | Reply::Drop) => other,
        }
    }
}

impl Served {
    /// Says when the answer was made, by the sandbox's clock, unless the dialect has said so.
    fn dated(&self, mut response: Response) -> Response {
        if let Some(date) = http_date(self.sandbox.clock().now()) {
            response.headers_mut().entry(DATE).or_insert(date);
        }
        response
    }
}

/// A moment as HTTP writes it (RFC 9110 §5.6.7).
fn http_date(moment: Timestamp) -> Option<HeaderValue> {
    let format = format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let moment = OffsetDateTime::from_unix_timestamp(moment.seconds()).ok()?;
    HeaderValue::try_from(moment.format(&format).ok()?).ok()
}

/// One port: a listener that can be closed and opened again.
struct Door<R> {
    address: SocketAddr,
    respond: R,
    commands: mpsc::Receiver<Command>,
    /// Whoever holds the other end may be gone, as with the control port.
    commanded: bool,
    stop: watch::Receiver<bool>,
}

impl<R: Respond> Door<R> {
    const fn new(
        address: SocketAddr,
        respond: R,
        commands: mpsc::Receiver<Command>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self {
            address,
            respond,
            commands,
            commanded: true,
            stop,
        }
    }

    async fn run(mut self, mut listener: TcpListener) {
        while let Some((times, done)) = self.open(listener).await {
            let Some(reopened) = self.closed(times, done).await else {
                return;
            };
            listener = reopened;
        }
    }

    /// Serves until it is told to close, which it answers with how long; `None` on a stop.
    async fn open(&mut self, listener: TcpListener) -> Option<(u32, oneshot::Sender<()>)> {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(serve(stream, self.respond.clone(), self.stop.clone()));
                    }
                    Err(_) => pause().await,
                },
                Some(_) = connections.join_next() => {}
                command = self.commands.recv(), if self.commanded => match command {
                    Some(Command::Close { times, done }) => {
                        drop(listener);
                        connections.shutdown().await;
                        return Some((times, done));
                    }
                    Some(Command::Open { done }) => done.send(()).unwrap_or_default(),
                    None => self.commanded = false,
                },
                _ = self.stop.changed() => {
                    drop(listener);
                    drain(connections).await;
                    return None;
                }
            }
        }
    }

    /// Keeps the port closed: bound, so that nobody else takes it, but not listening, so that the
    /// kernel refuses. `None` on a stop.
    async fn closed(&mut self, times: u32, done: oneshot::Sender<()>) -> Option<TcpListener> {
        let held = hold(self.address).await;
        done.send(()).unwrap_or_default();
        let mut until = Instant::now() + closed_for(times);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return listen(held, self.address).await,
                command = self.commands.recv(), if self.commanded => match command {
                    Some(Command::Close { times, done }) => {
                        until += closed_for(times);
                        done.send(()).unwrap_or_default();
                    }
                    Some(Command::Open { done }) => {
                        let listener = listen(held, self.address).await;
                        done.send(()).unwrap_or_default();
                        return listener;
                    }
                    None => self.commanded = false,
                },
                _ = self.stop.changed() => return None,
            }
        }
    }
}

impl<R> fmt::Debug for Door<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Door").field(&self.address).finish()
    }
}

fn closed_for(times: u32) -> Duration {
    Duration::from_secs(REFUSED_ATTEMPT_SECONDS.saturating_mul(u64::from(times)))
}

async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    if !address.ip().is_loopback() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the sandbox listens on loopback only: its keys are published",
        ));
    }
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{address}: {error}"));
    TcpListener::bind(address).await.map_err(named)
}

/// Takes the port without listening on it.
async fn hold(address: SocketAddr) -> TcpSocket {
    loop {
        match held(address) {
            Ok(socket) => return socket,
            Err(_) => pause().await,
        }
    }
}

fn held(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn listen(mut held: TcpSocket, address: SocketAddr) -> Option<TcpListener> {
    loop {
        match held.listen(BACKLOG) {
            Ok(listener) => return Some(listener),
            Err(error) => {
                tracing::warn!(%address, %error, "the port can't be opened yet");
                pause().await;
                held = hold(address).await;
            }
        }
    }
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(AFTER_ERROR_MILLIS)).await;
}

/// Lets connections end by themselves for a while.
async fn drain(mut connections: JoinSet<()>) {
    let ended = async { while connections.join_next().await.is_some() {} };
    let limit = Duration::from_millis(MAX_STOP_MILLIS);
    if tokio::time::timeout(limit, ended).await.is_err() {
        connections.shutdown().await;
    }
}

/// Serves one connection, HTTP/1.1 with keep-alive, until either side ends it.
async fn serve<R: Respond>(stream: TcpStream, respond: R, mut stop: watch::Receiver<bool>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    let service = service_fn(|request| exchange(&respond, request));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                // A fault that cuts the connection ends here too.
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection");
                }
                return;
            }
            _ = stop.changed() => connection.as_mut().graceful_shutdown(),
        }
    }
}

/// Reads a whole request and does on the wire what the reply says.
async fn exchange<R: Respond>(
    respond: &R,
    request: http::Request<Incoming>,
) -> Result<http::Response<Answer>, Cut> {
    let (parts, body) = request.into_parts();
    let body = match Limited::new(body, MAX_REQUEST_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Ok(too_large()),
        Err(_) => return Err(Cut),
    };
    match respond
        .respond(http::Request::from_parts(parts, body))
        .await
    {
        Reply::Answer(response) => Ok(response.map(Answer::whole)),
        Reply::HalfBody(response) if !response.body().is_empty() => Ok(response.map(Answer::half)),
        Reply::Stall => {
            tokio::time::sleep(Duration::from_secs(MAX_STALL_SECONDS)).await;
            Err(Cut)
        }
        Reply::Refuse | Reply::Drop | Reply::HalfBody(_) => Err(Cut),
    }
}

fn too_large() -> http::Response<Answer> {
    let mut response = Response::new(Bytes::from_static(b"payload too large\n"));
    *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
    response.map(Answer::whole)
}

/// The connection breaks here, on purpose or because the client is gone.
#[derive(Debug)]
struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is cut")
    }
}

impl StdError for Cut {}

/// An answer's body, which announces its whole length and may break off in the middle.
#[derive(Debug)]
struct Answer {
    rest: Option<Bytes>,
    length: u64,
    ending: Ending,
}

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// With its last byte.
    Whole,
    /// It will break once what was sent so far has been written to the socket.
    Half,
    /// It breaks now.
    Break,
}

impl Answer {
    fn whole(body: Bytes) -> Self {
        Self {
            length: length_of(&body),
            rest: (!body.is_empty()).then_some(body),
            ending: Ending::Whole,
        }
    }

    fn half(body: Bytes) -> Self {
        let length = length_of(&body);
        let half = body.slice(..body.len() / 2);
        Self {
            length,
            rest: (!half.is_empty()).then_some(half),
            ending: Ending::Half,
        }
    }
}

fn length_of(body: &Bytes) -> u64 {
    u64::try_from(body.len()).unwrap_or(u64::MAX)
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(rest) = self.rest.take() {
            return Poll::Ready(Some(Ok(Frame::data(rest))));
        }
        match self.ending {
            Ending::Whole => Poll::Ready(None),
            // hyper writes out what it has when a body has nothing more at the moment.
            Ending::Half => {
                self.ending = Ending::Break;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Ending::Break => Poll::Ready(Some(Err(Cut))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none() && self.ending == Ending::Whole
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(if self.is_end_stream() { 0 } else { self.length })
    }
}

/// Posts a provider's webhooks as they come about, one after the other.
async fn post_webhooks(sandbox: Sandbox, provider: Provider, client: ReqwestClient) {
    let mut waiting = sandbox.webhooks_wait();
    loop {
        if sandbox.gathers(provider) {
            tokio::time::sleep(Duration::from_millis(GATHER_MILLIS)).await;
        }
        for webhook in sandbox.take_webhooks_of(provider) {
            webhooks::post(&client, &webhook).await;
        }
        if waiting.changed().await.is_err() {
            return;
        }
    }
}

/// Lets time pass at the providers when nobody calls.
async fn keep_ticking(sandbox: Sandbox) {
    let mut ticks = tokio::time::interval(Duration::from_secs(TICK_SECONDS));
    loop {
        ticks.tick().await;
        sandbox.tick();
    }
}

#[cfg(test)]
mod tests {
    use cardless_contract::Delivery;
    use cardless_transport::{HttpClient as _, SendError};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::testing::{ledger_objects, sandbox};

    struct Bench {
        running: Running,
        client: ReqwestClient,
    }

    impl Bench {
        async fn new() -> Self {
            let client = ReqwestClient::new(&ClientConfig {
                total_timeout: Duration::from_millis(500),
                ..ClientConfig::default()
            });
            Self {
                running: Servers::start(sandbox(), Addresses::free()).await.unwrap(),
                client: client.unwrap(),
            }
        }

        async fn charge(&self) -> Result<(u16, String), SendError> {
            let address = self.running.addresses().paypal;
            self.post(format!("http://{address}/v1/charge"), "{}").await
        }

        async fn control(&self, path: &str, body: &str) -> (u16, String) {
            let address = self.running.addresses().control;
            self.post(format!("http://{address}{path}"), body)
                .await
                .unwrap()
        }

        async fn post(&self, url: String, body: &str) -> Result<(u16, String), SendError> {
            let body = Bytes::copy_from_slice(body.as_bytes());
            let answer = self
                .client
                .send(http::Request::post(url).body(body).unwrap())
                .await?;
            let text = String::from_utf8_lossy(answer.body()).into_owned();
            Ok((answer.status().as_u16(), text))
        }

        async fn fault(&self, fault: &str) {
            let body = format!(
                r#"{{"provider":"paypal","operation":"POST /v1/charge","times":1,"fault":"{fault}"}}"#
            );
            assert_eq!(self.control("/faults", &body).await.0, 200);
        }

        fn executed(&self) -> usize {
            self.running.sandbox().ledger().len()
        }
    }

    #[tokio::test]
    async fn faults_are_wire_deep() {
        let bench = Bench::new().await;
        // The first call leaves a kept connection behind, which the faults then meet.
        assert_eq!(bench.charge().await.unwrap().0, 200);
        for (fault, executed) in [
            ("drop_before", false),
            ("stall", false),
            ("execute_then_drop", true),
            ("half_body", true),
        ] {
            let before = bench.executed();
            bench.fault(fault).await;
            let error = bench.charge().await.unwrap_err();
            assert_eq!(error.delivery(), Delivery::Unknown, "{fault}");
            assert_eq!(bench.executed() - before, usize::from(executed), "{fault}");
            assert_eq!(bench.charge().await.unwrap().0, 200, "{fault}");
        }
        for (fault, status) in [
            ("execute_then_500", 500),
            ("decline", 402),
            ("pending", 202),
        ] {
            bench.fault(fault).await;
            assert_eq!(bench.charge().await.unwrap().0, status, "{fault}");
        }
        bench.running.shutdown().await;
    }

    #[tokio::test]
    async fn a_refused_port_is_really_closed_and_opens_again() {
        let bench = Bench::new().await;
        let refuse = r#"{"provider":"paypal","times":1000,"fault":"refuse"}"#;
        assert_eq!(bench.charge().await.unwrap().0, 200);
        assert_eq!(bench.control("/faults", refuse).await.0, 200);
        for _ in 0..3 {
            let error = bench.charge().await.unwrap_err();
            assert_eq!(error.delivery(), Delivery::NotSent);
        }
        let address = bench.running.addresses().paypal;
        let error = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(bench.executed(), 1);

        assert_eq!(bench.control("/reset", "").await.0, 200);
        assert_eq!(bench.charge().await.unwrap().0, 200);
        bench.running.shutdown().await;
    }

    #[tokio::test]
    async fn a_refused_port_opens_by_itself() {
        let bench = Bench::new().await;
        bench.running.refuse(Provider::PayPal, 1).await;
        let error = bench.charge().await.unwrap_err();
        assert_eq!(error.delivery(), Delivery::NotSent);
        while bench.charge().await.is_err() {
            pause().await;
        }
        // Another provider was never closed.
        let url = format!("http://{}/nowhere", bench.running.addresses().aduno);
        assert_eq!(bench.post(url, "").await.unwrap().0, 404);
        bench.running.shutdown().await;
    }

    #[tokio::test]
    async fn half_a_body_announces_the_whole() {
        let bench = Bench::new().await;
        bench.fault("half_body").await;
        let address = bench.running.addresses().paypal;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = "POST /v1/charge HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("content-length: 8"), "{head}");
        assert!(
            head.contains("date: Fri, 15 Jan 2027 08:00:00 GMT"),
            "{head}"
        );
        assert_eq!(body, "obje");
        bench.running.shutdown().await;
    }

    #[tokio::test]
    async fn connections_are_kept_and_large_bodies_refused() {
        let bench = Bench::new().await;
        let address = bench.running.addresses().paypal;
        let mut stream = TcpStream::connect(address).await.unwrap();
        for _ in 0..2 {
            let request = "GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n";
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"not found") {
                answer.push(stream.read_u8().await.unwrap());
            }
        }
        let url = format!("http://{address}/v1/charge");
        let large = "x".repeat(MAX_REQUEST_BYTES + 1);
        // The answer may be lost with the connection, since the rest of the body is not read.
        if let Ok((status, _)) = bench.post(url, &large).await {
            assert_eq!(status, 413);
        }
        assert_eq!(bench.executed(), 0);
        bench.running.shutdown().await;
    }

    /// Answers 500 once, then 200, and gives the bodies that were posted.
    async fn receiver() -> (String, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (sender, bodies) = mpsc::channel(16);
        tokio::spawn(async move {
            let mut status = 500;
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut text = String::new();
                while !text.contains("object-") {
                    let mut buffer = [0; 1024];
                    let read = stream.read(&mut buffer).await.unwrap();
                    text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
                }
                assert!(text.contains("x-signature: signed"));
                let answer = format!(
                    "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
                status = 200;
                let (_, body) = text.split_once("\r\n\r\n").unwrap();
                sender.send(body.to_owned()).await.unwrap();
            }
        });
        (url, bodies)
    }

    #[tokio::test]
    async fn webhooks_are_posted_until_they_are_taken() {
        let bench = Bench::new().await;
        let (url, mut bodies) = receiver().await;
        let route = format!(r#"{{"provider":"paypal","url":"{url}","deliver":"twice"}}"#);
        assert_eq!(bench.control("/webhooks", &route).await.0, 200);
        bench.charge().await.unwrap();
        // One attempt that is refused, then both copies.
        for _ in 0..3 {
            assert_eq!(bodies.recv().await.unwrap(), "object-1");
        }
        bench.running.shutdown().await;
    }

    #[tokio::test]
    async fn reversed_webhooks_gather_first() {
        let bench = Bench::new().await;
        let (url, mut bodies) = receiver().await;
        let route = format!(r#"{{"provider":"paypal","url":"{url}","deliver":"reversed"}}"#);
        assert_eq!(bench.control("/webhooks", &route).await.0, 200);
        bench.charge().await.unwrap();
        bench.charge().await.unwrap();
        let objects = ledger_objects(bench.running.sandbox());
        let refused = bodies.recv().await.unwrap();
        assert_eq!(refused, objects[1]);
        assert_eq!(bodies.recv().await.unwrap(), objects[1]);
        assert_eq!(bodies.recv().await.unwrap(), objects[0]);
        bench.running.shutdown().await;
    }

    #[tokio::test]
    async fn what_is_taken_back_must_be_there() {
        let bench = Bench::new().await;
        for (object, status) in [("object-1", 200), ("object-2", 422)] {
            let body = format!(r#"{{"provider":"paypal","object":"{object}"}}"#);
            assert_eq!(bench.control("/reversals", &body).await.0, status);
        }
        bench.running.shutdown().await;
    }

    #[tokio::test]
    async fn only_loopback_is_listened_on_and_a_taken_port_is_named() {
        let mut addresses = Addresses::free();
        addresses.aduno = SocketAddr::from(([0, 0, 0, 0], 0));
        let error = Servers::start(sandbox(), addresses).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);

        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        addresses.aduno = taken.local_addr().unwrap();
        let error = Servers::start(sandbox(), addresses).await.unwrap_err();
        assert!(error.to_string().contains(&addresses.aduno.to_string()));
    }

    #[tokio::test]
    async fn providers_learn_the_port_that_was_picked() {
        let bench = Bench::new().await;
        let address = bench.running.addresses().postfinance;
        assert_ne!(address.port(), 0);
        assert_eq!(
            bench.running.sandbox().base(Provider::PostFinance),
            format!("http://{address}")
        );
        let help = format!("http://{}/", bench.running.addresses().control);
        let request = http::Request::get(help).body(Bytes::new()).unwrap();
        let answer = bench.client.send(request).await.unwrap();
        assert!(String::from_utf8_lossy(answer.body()).contains("/ledger"));
        bench.running.shutdown().await;
        assert!(TcpStream::connect(address).await.is_err());
    }
}
