//! Where PayPal's certificate is said to lie: whatever the address, no request and no connection
//! leaves the list.

use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use cardless::config::{Environment, Settings};
use cardless::gateway::Gateway;
use cardless::serve::router;
use cardless::store::{SqliteStore, Threads};
use cardless::vault::KeyRing;
use cardless_contract::{Clock, SystemClock, SystemEntropy, async_trait};
use cardless_paypal::PayPal;
use cardless_transport::{
    ClientConfig, HttpClient, Names, Request, ReqwestClient, Response, SendError,
};
use http::HeaderValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tower::ServiceExt as _;
use url::Url;

/// The least number of addresses that are tried.
const LEAST_ADDRESSES: usize = 60;

/// Where certificates lie.
const PATH: &str = "/v1/notifications/certs/";

/// What is asked for when an address is on the list, however it is written.
const LISTED: &str = "https://api.paypal.com/v1/notifications/certs/CERT-1";

/// Hosts of the list of PayPal's live environment.
const HOSTS: [&str; 2] = ["api.paypal.com", "api-m.paypal.com"];

/// Counts the requests that would leave, and answers each with a redirect off the list.
#[derive(Debug, Default)]
struct Counting(Mutex<Vec<String>>);

#[async_trait]
impl HttpClient for Counting {
    async fn send(&self, request: Request) -> Result<Response, SendError> {
        self.0.lock().unwrap().push(request.uri().to_string());
        let mut answer = Response::new(Bytes::new());
        *answer.status_mut() = http::StatusCode::FOUND;
        let elsewhere =
            HeaderValue::from_static("https://evil.example/v1/notifications/certs/CERT-1");
        answer.headers_mut().insert("location", elsewhere);
        Ok(answer)
    }
}

/// The service with PayPal alone, by these settings and this client.
fn service(settings: &str, client: Arc<dyn HttpClient>) -> Router {
    let text = format!(
        "[providers.paypal]\nclient_id = \"a\"\nclient_secret = \"b\"\nwebhook_id = \"WH-1\"\n\
         token_kind = \"vault_v3\"\n{settings}"
    );
    let settings = Settings::parse(Path::new("test"), &text, &Environment::default()).unwrap();
    let config = settings.provider("paypal").unwrap().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let paypal = PayPal::new(config, client, clock.clone()).unwrap();
    let keys = KeyRing::parse(&KeyRing::generate(&SystemEntropy).unwrap()).unwrap();
    let store = SqliteStore::open("sqlite::memory:", Threads::Caller).unwrap();
    let gateway = Gateway::builder()
        .public_url("http://127.0.0.1:8080")
        .store(Arc::new(store))
        .keys(keys)
        .clock(clock)
        .provider(Arc::new(paypal));
    router(gateway.build().unwrap())
}

/// Brings a webhook whose certificate is said to lie at `address`; gives the answer's status.
async fn bring(service: &Router, address: &str) -> u16 {
    let request = http::Request::post("/webhooks/paypal")
        .header("paypal-transmission-id", "1")
        .header("paypal-transmission-time", "2026-11-25T00:00:00Z")
        .header("paypal-transmission-sig", "AAAA")
        .header("paypal-auth-algo", "SHA256withRSA")
        .header(
            "paypal-cert-url",
            HeaderValue::from_bytes(address.as_bytes()).unwrap(),
        )
        .body(Body::from("{}"));
    let answer = service.clone().oneshot(request.unwrap()).await.unwrap();
    answer.status().as_u16()
}

/// Addresses that lead elsewhere, or that nobody can be sure of.
fn off_the_list() -> Vec<String> {
    let at = |authority: &str| format!("https://{authority}{PATH}CERT-1");
    let mut addresses: Vec<String> = [
        // User info.
        "a@api.paypal.com",
        "a:b@api.paypal.com",
        ":b@api.paypal.com",
        "api.paypal.com@evil.example",
        "api.paypal.com:443@evil.example",
        "api.paypal.com%40evil.example",
        "evil.example%40api.paypal.com",
        "api.paypal.com%2f@evil.example",
        // Suffix, prefix, parts.
        "api.paypal.com.evil.example",
        "api.paypal.com-evil.example",
        "evil-api.paypal.com",
        "evilapi.paypal.com",
        "x.api.paypal.com",
        "paypal.com",
        "www.paypal.com",
        "api.paypal.co",
        "api.paypal.comm",
        "api.paypal.com.",
        "api.paypal.com..",
        ".api.paypal.com",
        "api..paypal.com",
        "api.sandbox.paypal.com",
        "api-m.sandbox.paypal.com",
        "messageverificationcerts.paypal.com",
        // Ports.
        "api.paypal.com:80",
        "api.paypal.com:8443",
        "api.paypal.com:0",
        "api.paypal.com:65536",
        "api.paypal.com:-1",
        "api.paypal.com:443:443",
        // Names that look alike.
        "\u{430}pi.paypal.com",
        "api.p\u{430}ypal.com",
        "api.pay\u{440}al.com",
        "%D0%B0pi.paypal.com",
        "api.p%D0%B0ypal.com",
        "xn--pi-7kc.paypal.com",
        "api.xn--pypal-4ve.com",
        "api.paypa1.com",
        "api.paypal.\u{441}om",
        "api\u{2024}paypal.com.evil.example",
        "\u{212a}.paypal.com",
        // Numbers.
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "0.0.0.0",
        "10.0.0.1",
        "169.254.169.254",
        "2852039166",
        "64.4.250.36",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[::1%25lo]",
        "localhost",
        "localhost.",
        "\u{ff11}\u{ff12}\u{ff17}.0.0.1",
        // Slashes, marks and what else parts an address.
        "evil.example\\@api.paypal.com",
        "evil.example\\.api.paypal.com",
        "evil.example#@api.paypal.com",
        "evil.example?@api.paypal.com",
        "evil.example/@api.paypal.com",
        "evil.example/api.paypal.com",
        "evil.example:443\\api.paypal.com",
        "evil.example;api.paypal.com",
        "evil.example,api.paypal.com",
        "api.paypal.com evil.example",
        "api.paypal.com%00.evil.example",
        "api.paypal.com%0d%0ahost:evil.example",
        "%65vil.example",
        "api.paypal.com,evil.example",
        "*.paypal.com",
        "",
    ]
    .map(at)
    .into();
    let on_a_good_host = |rest: &str| format!("https://api.paypal.com{rest}");
    addresses.extend(
        [
            "/",
            "/v1/notifications/certs",
            "/v1/notifications/certs/",
            "/v1/notifications/certs//CERT-1",
            "/v1/notifications/certs/../oauth2/token",
            "/v1/notifications/certs/%2e%2e/CERT-1",
            "/v1/notifications/certs/CERT-1/..",
            "/v1/notifications/certs/CERT%2F1",
            "/v1/notifications/certs/CERT-1?next=https://evil.example",
            "/v1/notifications/certs/CERT-1#evil",
            "/v1/notifications/certs/CERT-1;a=b",
            "/v1/notifications/certs/CERT 1",
            "/v1/oauth2/token/CERT-1",
            "//evil.example/v1/notifications/certs/CERT-1",
            "/v1/notifications/certs/https://evil.example/CERT-1",
            "\\evil.example\\CERT-1",
        ]
        .map(on_a_good_host),
    );
    addresses.extend(
        [
            "http://api.paypal.com/v1/notifications/certs/CERT-1",
            "ftp://api.paypal.com/v1/notifications/certs/CERT-1",
            "wss://api.paypal.com/v1/notifications/certs/CERT-1",
            "gopher://api.paypal.com/v1/notifications/certs/CERT-1",
            "file:///v1/notifications/certs/CERT-1",
            "file://api.paypal.com/v1/notifications/certs/CERT-1",
            "data:text/plain,CERT-1",
            "javascript:CERT-1",
            "blob:https://api.paypal.com/v1/notifications/certs/CERT-1",
            "view-source:https://api.paypal.com/v1/notifications/certs/CERT-1",
            "//api.paypal.com/v1/notifications/certs/CERT-1",
            "/v1/notifications/certs/CERT-1",
            "api.paypal.com/v1/notifications/certs/CERT-1",
            "https:",
            "https://",
            "CERT-1",
        ]
        .map(str::to_owned),
    );
    addresses.push(at(&format!("{}.api.paypal.com", "a".repeat(20_000))));
    addresses.push(at(&"a@".repeat(5000)));
    addresses.push(format!(
        "https://api.paypal.com{PATH}CERT-1,https://evil.example/CERT-1"
    ));
    addresses
}

/// The same place in other letters: what is asked for is the plain form.
fn on_the_list() -> Vec<String> {
    [
        LISTED,
        "https://api.paypal.com:443/v1/notifications/certs/CERT-1",
        "HTTPS://API.PAYPAL.COM/v1/notifications/certs/CERT-1",
        "https://%EF%BD%81pi.paypal.com/v1/notifications/certs/CERT-1",
        "https://api%E3%80%82paypal.com/v1/notifications/certs/CERT-1",
        "https://%61pi.paypal.com/v1/notifications/certs/CERT-1",
        "https:api.paypal.com/v1/notifications/certs/CERT-1",
        "https:\\\\api.paypal.com\\v1\\notifications\\certs\\CERT-1",
        "https:///api.paypal.com/v1/notifications/certs/CERT-1",
        "https://api.pay\tpal.com/v1/notifications/certs/CERT-1",
        "https://api.paypal.com/v1/./notifications/x/../certs/CERT-1",
    ]
    .map(str::to_owned)
    .into()
}

#[tokio::test]
async fn no_request_leaves_the_list_whatever_the_address_of_the_certificate() {
    let addresses = off_the_list();
    assert!(addresses.len() >= LEAST_ADDRESSES, "{}", addresses.len());
    println!("{} addresses off the list", addresses.len());
    let mut wrong = Vec::new();
    for address in &addresses {
        let client = Arc::new(Counting::default());
        let service = service("environment = \"live\"\n", client.clone());
        let status = bring(&service, address).await;
        let asked = client.0.lock().unwrap().clone();
        if status != 401 || !asked.is_empty() {
            wrong.push((address.chars().take(100).collect::<String>(), status, asked));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The counter is judged: it sees what is asked for. And where the answer is a redirect, nobody
/// follows it.
#[tokio::test]
async fn another_spelling_of_an_address_of_the_list_is_asked_for_in_its_plain_form() {
    for address in on_the_list() {
        let client = Arc::new(Counting::default());
        let service = service("environment = \"live\"\n", client.clone());
        let status = bring(&service, &address).await;
        assert_eq!(*client.0.lock().unwrap(), [LISTED], "{address}");
        assert_eq!(status, 503, "the sender may come again: {address}");
        let url = Url::parse(LISTED).unwrap();
        assert!(HOSTS.contains(&url.host_str().unwrap()) && url.path().starts_with(PATH));
    }
}

/// Made-up names on a good host: a few are asked for, then none.
#[tokio::test]
async fn repeated_addresses_do_not_become_requests_without_end() {
    let client = Arc::new(Counting::default());
    let service = service("environment = \"live\"\n", client.clone());
    for number in 0..200 {
        let host = HOSTS[number % HOSTS.len()];
        let status = bring(&service, &format!("https://{host}{PATH}CERT-{number}")).await;
        assert_eq!(status, 503);
    }
    assert_eq!(client.0.lock().unwrap().len(), 10);
}

/// With the real client: nothing connects to a listener on this machine, whatever the spelling. The
/// listener is judged too: with a loopback `base_url` it is reached, and where it redirects to is not.
#[tokio::test]
async fn no_connection_reaches_this_machine_by_an_address_of_the_certificate() {
    let config = ClientConfig {
        names: Names::Public,
        ..ClientConfig::default()
    };
    let client = Arc::new(ReqwestClient::new(&config).unwrap());
    let here =
        Listener::open("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned()).await;
    let live = service("environment = \"live\"\n", client.clone());
    let port = here.port;
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "017700000001",
        "0.0.0.0",
        "[::ffff:127.0.0.1]",
        "[::1]",
        "localhost",
        "localhost.",
        "\u{ff11}\u{ff12}\u{ff17}.0.0.1",
        "api.paypal.com@127.0.0.1",
        "127.0.0.1\\@api.paypal.com",
    ] {
        for scheme in ["http", "https"] {
            let address = format!("{scheme}://{host}:{port}{PATH}CERT-1");
            assert_eq!(bring(&live, &address).await, 401, "{address}");
        }
    }
    assert_eq!(here.count(), 0);

    let elsewhere = format!("http://127.0.0.1:{port}{PATH}CERT-1");
    let redirecting = Listener::open(format!(
        "HTTP/1.1 302 Found\r\nlocation: {elsewhere}\r\ncontent-length: 0\r\n\r\n"
    ))
    .await;
    let base = format!("base_url = \"http://127.0.0.1:{}\"\n", redirecting.port);
    let sandbox = service(&format!("environment = \"sandbox\"\n{base}"), client);
    let address = format!("http://127.0.0.1:{}{PATH}CERT-1", redirecting.port);
    assert_eq!(bring(&sandbox, &address).await, 503);
    assert_eq!((redirecting.count(), here.count()), (1, 0));
    assert_eq!(bring(&sandbox, &elsewhere).await, 401);
    assert_eq!(here.count(), 1, "the listener counts");
}

/// Counts connections, and gives each the same answer.
struct Listener {
    port: u16,
    connections: Arc<Mutex<usize>>,
}

impl Listener {
    async fn open(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(Mutex::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                *count.lock().unwrap() += 1;
                if stream.read(&mut [0; 4096]).await.is_ok() {
                    stream.write_all(answer.as_bytes()).await.ok();
                }
            }
        });
        Self { port, connections }
    }

    fn count(&self) -> usize {
        *self.connections.lock().unwrap()
    }
}
