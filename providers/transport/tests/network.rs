//! The network client against servers that misbehave byte by byte.
#![expect(
    clippy::unwrap_used,
    reason = "a helper that fails is a test that fails"
)]

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cardless_contract::{Delivery, ErrorKind, ProviderName};
use cardless_transport::{
    ClientConfig, HandshakeError, Hosts, HttpClient as _, MAX_BODY_BYTES, Names, Request,
    ReqwestClient, Response, SendError, Transport, handshake,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// What a scripted server does with one connection.
enum Script {
    /// Closes it before reading anything.
    Close,
    /// Reads the request and closes without a byte.
    ReadAndClose,
    /// Reads the request, answers with these bytes, closes.
    Answer(Vec<u8>),
    /// Reads the request, answers with these bytes, keeps it open.
    AnswerAndHold(Vec<u8>),
    /// Answers two requests on the same connection, then closes.
    AnswerTwice(Vec<u8>),
}

struct Server {
    address: String,
    /// Whole requests that were read.
    requests: Arc<AtomicUsize>,
    /// The head of the last request.
    last: Arc<std::sync::Mutex<String>>,
}

/// Serves one connection per script, in order, then refuses.
async fn serve(scripts: Vec<Script>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let last = Arc::new(std::sync::Mutex::new(String::new()));
    let (count, head) = (Arc::clone(&requests), Arc::clone(&last));
    tokio::spawn(async move {
        let mut held = Vec::new();
        for script in scripts {
            let (mut stream, _) = listener.accept().await.unwrap();
            let bytes: Vec<u8> = match script {
                Script::Close => continue,
                Script::ReadAndClose => {
                    read_request(&mut stream, &count, &head).await;
                    continue;
                }
                Script::AnswerAndHold(bytes) => {
                    read_request(&mut stream, &count, &head).await;
                    stream.write_all(&bytes).await.unwrap();
                    held.push(stream);
                    continue;
                }
                Script::AnswerTwice(bytes) => {
                    read_request(&mut stream, &count, &head).await;
                    stream.write_all(&bytes).await.unwrap();
                    bytes
                }
                Script::Answer(bytes) => bytes,
            };
            read_request(&mut stream, &count, &head).await;
            // A client that has seen enough may be gone.
            stream.write_all(&bytes).await.ok();
        }
        std::future::pending::<()>().await;
        drop((held, listener));
    });
    Server {
        address,
        requests,
        last,
    }
}

/// Reads a head and the body that its content-length announces.
async fn read_request(
    stream: &mut TcpStream,
    count: &AtomicUsize,
    last: &std::sync::Mutex<String>,
) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).await.unwrap_or(0);
        if read == 0 {
            return;
        }
        bytes.extend(buffer.iter().take(read));
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |value| value.parse().unwrap());
        if body.len() >= length {
            *last.lock().unwrap() = text;
            count.fetch_add(1, Ordering::SeqCst);
            return;
        }
    }
}

fn client() -> ReqwestClient {
    ReqwestClient::new(&ClientConfig::default()).unwrap()
}

fn impatient() -> ReqwestClient {
    ReqwestClient::new(&ClientConfig {
        total_timeout: Duration::from_millis(100),
        ..ClientConfig::default()
    })
    .unwrap()
}

fn post(address: &str) -> Request {
    http::Request::post(format!("{address}/v1/charge"))
        .body(Bytes::from_static(b"{\"amount\":1}"))
        .unwrap()
}

fn failed(result: Result<Response, SendError>) -> (Delivery, ErrorKind) {
    let error = result.unwrap_err();
    (error.delivery(), error.kind())
}

const UNKNOWN: (Delivery, ErrorKind) = (Delivery::Unknown, ErrorKind::Interrupted);
const NOT_SENT: (Delivery, ErrorKind) = (Delivery::NotSent, ErrorKind::Unreachable);
const TOO_LARGE: (Delivery, ErrorKind) = (Delivery::Unknown, ErrorKind::UnreadableAnswer);

/// An address on which nothing listens.
async fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test]
async fn refused_port_is_not_sent() {
    let address = format!("http://{}", closed_port().await);
    assert_eq!(failed(client().send(post(&address)).await), NOT_SENT);
}

#[tokio::test]
async fn closed_before_reading_is_unknown() {
    let server = serve(vec![Script::Close]).await;
    assert_eq!(failed(client().send(post(&server.address)).await), UNKNOWN);
}

#[tokio::test]
async fn closed_after_reading_is_unknown_and_sent_once() {
    let server = serve(vec![Script::ReadAndClose, Script::Answer(OK.into())]).await;
    assert_eq!(failed(client().send(post(&server.address)).await), UNKNOWN);
    assert_eq!(server.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn half_a_body_is_unknown() {
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf!";
    let server = serve(vec![Script::Answer(half.into())]).await;
    assert_eq!(failed(client().send(post(&server.address)).await), UNKNOWN);
}

#[tokio::test]
async fn half_a_chunked_body_is_unknown() {
    let half = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let server = serve(vec![Script::Answer(half.into())]).await;
    assert_eq!(failed(client().send(post(&server.address)).await), UNKNOWN);
}

#[tokio::test]
async fn half_a_head_is_unknown() {
    let server = serve(vec![Script::Answer("HTTP/1.1 200 O".into())]).await;
    assert_eq!(failed(client().send(post(&server.address)).await), UNKNOWN);
}

#[tokio::test]
async fn no_http_at_all_is_unknown() {
    let server = serve(vec![Script::Answer("220 mail.example ESMTP\r\n".into())]).await;
    assert_eq!(failed(client().send(post(&server.address)).await), UNKNOWN);
}

#[tokio::test]
async fn two_content_lengths_are_unknown() {
    let lie = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok!";
    let server = serve(vec![Script::Answer(lie.into())]).await;
    assert_eq!(failed(client().send(post(&server.address)).await), UNKNOWN);
}

#[tokio::test]
async fn bytes_beyond_the_content_length_are_not_the_next_answer() {
    let lie = format!("{OK}HTTP/1.1 500 Smuggled\r\ncontent-length: 0\r\n\r\n");
    let server = serve(vec![
        Script::AnswerAndHold(lie.into()),
        Script::Answer(OK.into()),
    ])
    .await;
    let client = client();
    for _ in 0..2 {
        let answer = client.send(post(&server.address)).await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.body()[..]),
            (200, &b"ok"[..])
        );
    }
}

#[tokio::test]
async fn largest_body_is_read() {
    let mut answer =
        format!("HTTP/1.1 200 OK\r\ncontent-length: {MAX_BODY_BYTES}\r\n\r\n").into_bytes();
    answer.resize(answer.len() + MAX_BODY_BYTES, b'x');
    let server = serve(vec![Script::Answer(answer)]).await;
    let answer = client().send(post(&server.address)).await.unwrap();
    assert_eq!(answer.body().len(), MAX_BODY_BYTES);
}

#[tokio::test]
async fn announced_oversize_is_unknown() {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
        MAX_BODY_BYTES + 1
    );
    let server = serve(vec![Script::AnswerAndHold(head.into())]).await;
    assert_eq!(
        failed(client().send(post(&server.address)).await),
        TOO_LARGE
    );
}

#[tokio::test]
async fn unannounced_oversize_is_unknown() {
    let mut answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
    answer.resize(answer.len() + MAX_BODY_BYTES + 1, b'x');
    let server = serve(vec![Script::Answer(answer)]).await;
    assert_eq!(
        failed(client().send(post(&server.address)).await),
        TOO_LARGE
    );
}

#[tokio::test]
async fn redirects_are_answers() {
    for status in [301, 302, 303, 307, 308] {
        let target = serve(vec![Script::Answer(OK.into())]).await;
        let moved = format!(
            "HTTP/1.1 {status} Moved\r\nlocation: {}/\r\ncontent-length: 0\r\n\r\n",
            target.address
        );
        let server = serve(vec![Script::Answer(moved.into())]).await;
        let answer = client().send(post(&server.address)).await.unwrap();
        assert_eq!(answer.status().as_u16(), status);
        assert!(answer.headers().contains_key("location"));
        assert_eq!(target.requests.load(Ordering::SeqCst), 0);
    }
}

#[tokio::test]
async fn gzip_is_neither_asked_for_nor_decoded() {
    let squeezed = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n\x1f\x01";
    let server = serve(vec![Script::Answer(squeezed.into())]).await;
    let answer = client().send(post(&server.address)).await.unwrap();
    assert_eq!(&answer.body()[..], b"\x1f\x01");
    assert!(!server.last.lock().unwrap().contains("accept-encoding"));
}

#[tokio::test]
async fn cookies_are_not_kept() {
    let cookie = "HTTP/1.1 200 OK\r\nset-cookie: a=b\r\ncontent-length: 2\r\n\r\nok";
    let server = serve(vec![Script::AnswerTwice(cookie.into())]).await;
    let client = client();
    for _ in 0..2 {
        let answer = client.send(post(&server.address)).await.unwrap();
        assert_eq!(answer.headers()["set-cookie"], "a=b");
    }
    assert!(!server.last.lock().unwrap().contains("cookie:"));
}

#[tokio::test]
async fn silence_beyond_the_deadline_is_unknown() {
    let server = serve(vec![Script::AnswerAndHold(Vec::new())]).await;
    assert_eq!(
        failed(impatient().send(post(&server.address)).await),
        UNKNOWN
    );
}

#[tokio::test]
async fn slow_body_beyond_the_deadline_is_unknown() {
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf!";
    let server = serve(vec![Script::AnswerAndHold(half.into())]).await;
    assert_eq!(
        failed(impatient().send(post(&server.address)).await),
        UNKNOWN
    );
}

#[tokio::test]
async fn pooled_connection_that_was_closed_costs_no_second_send() {
    // The first connection answers and is closed at once: the pool may or may not have seen it when
    // the second request starts. Whatever happens, no request arrives twice.
    let server = serve(vec![
        Script::Answer(OK.into()),
        Script::Answer(OK.into()),
        Script::Answer(OK.into()),
    ])
    .await;
    let client = client();
    let mut answered = 0;
    for _ in 0..3 {
        match client.send(post(&server.address)).await {
            Ok(_) => answered += 1,
            Err(error) => assert_eq!(error.delivery(), Delivery::Unknown),
        }
    }
    assert_eq!(server.requests.load(Ordering::SeqCst), answered);
}

#[tokio::test]
async fn pooled_connection_is_reused_and_its_loss_is_unknown() {
    let server = serve(vec![
        Script::AnswerTwice(OK.into()),
        Script::Answer(OK.into()),
    ])
    .await;
    let client = client();
    for _ in 0..2 {
        client.send(post(&server.address)).await.unwrap();
    }
    assert_eq!(server.requests.load(Ordering::SeqCst), 2);

    // The request reaches a kept connection, which then breaks without an answer.
    let broken = broken_on_second().await;
    client.send(post(&broken.address)).await.unwrap();
    assert_eq!(failed(client.send(post(&broken.address)).await), UNKNOWN);
    assert_eq!(broken.requests.load(Ordering::SeqCst), 2);
}

/// Answers the first request of a connection and breaks at the second; a third would be counted.
async fn broken_on_second() -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let last = Arc::new(std::sync::Mutex::new(String::new()));
    let (count, head) = (Arc::clone(&requests), Arc::clone(&last));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream, &count, &head).await;
            stream.write_all(OK.as_bytes()).await.unwrap();
            read_request(&mut stream, &count, &head).await;
        }
    });
    Server {
        address,
        requests,
        last,
    }
}

#[tokio::test]
async fn dropped_call_closes_its_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (arrived, arrival) = oneshot::channel();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        arrived.send(()).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.ok();
    });
    let client = client();
    tokio::select! {
        result = client.send(post(&address)) => assert!(result.is_err()),
        _ = arrival => {}
    }
    server.await.unwrap();
}

#[tokio::test]
async fn empty_post_says_so_and_get_has_no_length() {
    let server = serve(vec![Script::AnswerTwice(OK.into())]).await;
    let client = client();
    let empty = http::Request::post(&server.address)
        .body(Bytes::new())
        .unwrap();
    client.send(empty).await.unwrap();
    let head = server.last.lock().unwrap().clone();
    assert_eq!(head.matches("content-length: 0").count(), 1, "{head}");
    let get = http::Request::get(&server.address)
        .body(Bytes::new())
        .unwrap();
    client.send(get).await.unwrap();
    let head = server.last.lock().unwrap().clone();
    assert!(!head.contains("content-length"), "{head}");
    assert!(head.contains("user-agent: cardless/"), "{head}");
}

/// Names the server to the process that this test starts.
const CHILD: &str = "CARDLESS_TEST_ADDRESS";

#[tokio::test]
async fn proxy_of_the_environment_is_unused() {
    // The setting is fixed when the client is built; the environment of the test run can't be
    // changed safely, so the run with `HTTP_PROXY` is this test again, in a process of its own.
    if let Ok(address) = std::env::var(CHILD) {
        let answer = client().send(post(&address)).await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        return;
    }
    let server = serve(vec![Script::Answer(OK.into())]).await;
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "proxy_of_the_environment_is_unused",
            "--test-threads=1",
        ])
        .env(CHILD, &server.address)
        .env("HTTP_PROXY", "http://127.0.0.1:1")
        .env("http_proxy", "http://127.0.0.1:1")
        .env("ALL_PROXY", "http://127.0.0.1:1")
        .spawn();
    let status = tokio::task::spawn_blocking(move || child.unwrap().wait().unwrap())
        .await
        .unwrap();
    assert!(status.success());
    assert_eq!(server.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn tls_to_a_plain_port_is_not_sent() {
    let server = serve(vec![Script::Answer(OK.into())]).await;
    let address = server.address.replace("http://", "https://");
    // The server waits for a head that never comes; the handshake runs into the connect deadline.
    let client = ReqwestClient::new(&ClientConfig {
        connect_timeout: Duration::from_millis(100),
        ..ClientConfig::default()
    })
    .unwrap();
    assert_eq!(failed(client.send(post(&address)).await), NOT_SENT);
    assert_eq!(server.requests.load(Ordering::SeqCst), 0);
}

/// A TLS server for one connection, with a certificate of its own; gives its address and the
/// certificate.
fn tls_server() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let pem = made.cert.pem();
    let key = rustls_pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let session = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = rustls::StreamOwned::new(session, stream);
        let mut buffer = [0; 4096];
        if stream.read(&mut buffer).unwrap_or(0) > 0 {
            stream.write_all(OK.as_bytes()).unwrap();
        }
    });
    (format!("https://localhost:{port}"), pem)
}

#[tokio::test]
async fn untrusted_certificate_is_not_sent() {
    let (address, _pem) = tls_server();
    assert_eq!(failed(client().send(post(&address)).await), NOT_SENT);
}

#[tokio::test]
async fn extra_root_is_trusted_on_loopback_only() {
    let (address, pem) = tls_server();
    let client = ReqwestClient::new(&ClientConfig {
        extra_roots: Some(pem),
        ..ClientConfig::default()
    })
    .unwrap();
    let result = client.send(post("https://api-m.paypal.com")).await;
    assert_eq!(failed(result), (Delivery::NotSent, ErrorKind::Internal));
    let answer = client.send(post(&address)).await.unwrap();
    assert_eq!(&answer.body()[..], b"ok");
}

fn trusting(pem: String) -> ClientConfig {
    ClientConfig {
        extra_roots: Some(pem),
        names: Names::Public,
        ..ClientConfig::default()
    }
}

fn port(address: &str) -> u16 {
    address.rsplit_once(':').unwrap().1.parse().unwrap()
}

#[tokio::test]
async fn a_handshake_says_what_was_agreed_on() {
    let (address, pem) = tls_server();
    let config = trusting(pem.clone());
    let agreed = handshake(&config, "localhost", port(&address)).await;
    let agreed = agreed.unwrap();
    assert_eq!(agreed.version, "TLSv1_3");
    assert!(agreed.suite.is_viable(), "{agreed:?}");
    assert_eq!(agreed.group.as_deref(), Some("X25519"));
    assert_eq!(agreed.protocol, None, "the server knows none");
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let suite = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13();
    let digest = suite.unwrap().common.hash_provider.hash(&der);
    let digest: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(agreed.certificates, [digest]);
}

#[tokio::test]
async fn a_handshake_goes_no_further_than_a_request() {
    let (address, _) = tls_server();
    let stranger = handshake(&ClientConfig::default(), "localhost", port(&address)).await;
    assert!(
        matches!(stranger, Err(HandshakeError::Tls(_))),
        "{stranger:?}"
    );
    let (_, pem) = tls_server();
    let config = trusting(pem);
    let beyond = handshake(&config, "192.0.2.1", 443).await;
    assert!(matches!(beyond, Err(HandshakeError::Roots)), "{beyond:?}");
    let closed = handshake(&config, "127.0.0.1", port(&closed_port().await)).await;
    assert!(
        matches!(closed, Err(HandshakeError::Connection(_))),
        "{closed:?}"
    );
    let nameless = handshake(&config, "a b", 443).await;
    assert!(
        matches!(nameless, Err(HandshakeError::Name)),
        "{nameless:?}"
    );
}

#[tokio::test]
async fn a_server_that_says_nothing_ends_no_handshake() {
    let server = serve(vec![Script::Answer(OK.into())]).await;
    tokio::time::pause();
    let config = ClientConfig::default();
    let silent = handshake(&config, "127.0.0.1", port(&server.address)).await;
    assert!(matches!(silent, Err(HandshakeError::Timeout)), "{silent:?}");
    assert_eq!(server.requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn transport_sends_to_its_hosts_only() {
    let server = serve(vec![Script::Answer(OK.into())]).await;
    let transport = Transport::new(
        ProviderName::new("paypal").unwrap(),
        Arc::new(client()),
        Hosts::new(&server.address, &["www.paypal.com"]).unwrap(),
    );
    let result = transport.send(post("https://www.paypal.com")).await;
    assert_eq!(failed(result), (Delivery::NotSent, ErrorKind::Internal));
    transport.send(post(&server.address)).await.unwrap();
}

#[tokio::test]
async fn errors_quote_no_address() {
    let address = format!("http://{}/tokens/canary?secret=canary", closed_port().await);
    let request = http::Request::get(&address).body(Bytes::new()).unwrap();
    let error = client().send(request).await.unwrap_err();
    let mut text = format!("{error} {error:?}");
    let mut source = std::error::Error::source(&error);
    while let Some(inner) = source {
        text.push_str(&format!(" {inner} {inner:?}"));
        source = inner.source();
    }
    assert!(!text.contains("canary"), "{text}");
}
