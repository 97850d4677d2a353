use std::io::ErrorKind;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use cardless::pan;
use cardless::serve::{router, serve};

use crate::support::gateway;

#[tokio::test]
async fn it_answers_on_a_socket_and_stops_when_it_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let service = tokio::spawn(serve(listener, router(gateway()), async {
        drop(stopped.await);
    }));

    let answer = exchange(address, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(!answer.to_lowercase().contains("\r\nserver:"), "{answer}");

    let many = "X-A: b\r\n".repeat(100);
    let request = format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{many}\r\n");
    assert!(
        exchange(address, &request)
            .await
            .starts_with("HTTP/1.1 431")
    );

    stop.send(()).unwrap();
    service.await.unwrap().unwrap();
}

/// Somebody who asks and does not read holds a connection for a time only. The clock of the test runs
/// ahead whenever nothing else can go on.
#[tokio::test(start_paused = true)]
async fn a_reader_who_reads_nothing_loses_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let service = tokio::spawn(serve(listener, router(gateway()), async {
        drop(stopped.await);
    }));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = "GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n";
    // Until nothing fits any more between here and there, and the other end has given up.
    let mut asked = 0;
    let ended = loop {
        match stream.write_all(request.as_bytes()).await {
            Ok(()) => asked += 1,
            Err(error) => break error,
        }
        assert!(asked < 1_000_000, "it reads for ever");
    };
    assert!(
        [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&ended.kind()),
        "{ended}"
    );
    stop.send(()).unwrap();
    service.await.unwrap().unwrap();
}

/// A method is a text of the caller's like any other.
#[tokio::test]
async fn a_card_number_in_place_of_a_method_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let service = tokio::spawn(serve(listener, router(gateway()), async {
        drop(stopped.await);
    }));
    let refused = pan::refused();
    for path in ["/v1/payments", "/healthz", "/nothing"] {
        let request = format!("4111111111111111 {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = exchange(address, &request).await;
        assert!(answer.starts_with("HTTP/1.1 422 "), "{path}: {answer}");
        assert!(answer.contains("\"card_number\""), "{path}: {answer}");
        assert!(!answer.contains("4111"), "{path}: {answer}");
    }
    assert!(pan::refused() >= refused + 3);
    stop.send(()).unwrap();
    service.await.unwrap().unwrap();
}

/// Sends a request and reads until the answer's body ends.
async fn exchange(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
