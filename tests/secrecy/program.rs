//! The program itself at `RUST_LOG=trace`: every verb, the service with a SIGKILL in the midst of a
//! charge and an abort, sealed messages, reloads, rotations, an erasure, card numbers at every door.

use std::sync::Arc;
use std::time::Duration;

use cardless::exchange::{Client, ClientParts, SecretKey, Usage};
use cardless::message::{Amount, Capture, Initiator, PayRequest};
use cardless_contract::{SystemClock, SystemEntropy};
use cardless_sandbox::{Fault, FaultKind, Provider};
use http::{HeaderMap, HeaderValue, Method, header};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::canary::judge;
use crate::keys::{check_derived, plant_keys};
use crate::stand::{BY_ENVIRONMENT, Service, Stand, json_of, word};

/// How many kinds of secrets there must be at least.
const LEAST: usize = 90;

/// The caller's own ids of accounts that its events and answers name.
pub(crate) const ACCOUNTS: [&str; 3] = [
    "an account id at postfinance",
    "an account id at paypal",
    "an account id at aduno",
];

/// The same, and the one that is erased.
pub(crate) const NAMED: [&str; 4] = [ACCOUNTS[0], ACCOUNTS[1], ACCOUNTS[2], ERASED];

/// The account that is erased.
const ERASED: &str = "an account id that is erased";

/// What answers to the billing service hold, since they are there for it.
pub(crate) const ANSWERED: [&str; 7] = [
    ERASED,
    ACCOUNTS[0],
    ACCOUNTS[1],
    ACCOUNTS[2],
    "a hosted page's address at postfinance",
    "a hosted page's address at paypal",
    "a hosted page's address at aduno",
];

/// Names that a caller sends are told back to it, so that it sees which are wrong.
pub(crate) const TOLD_BACK: [&str; 2] = ["a parameter", "an unknown member's name"];

/// What the providers are sent, since it is theirs, or they need it.
const SENT: [&str; 4] = [
    "a token of postfinance",
    "a token of paypal",
    "a token of aduno",
    "a return address's proof",
];

/// What the sandbox's answers say of the customer and the card; nobody may keep it.
const TOLD: [(&str, &str); 4] = [
    ("a masked card number", "424242xxxxxx4242"),
    ("a customer's e-mail address", "buyer@sandbox.example"),
    ("a card's fingerprint", "F-e5-sH1dWRS1onhDWSmmIgP"),
    ("a customer's id at PayPal", "QYR5Z8XDVJNXQ"),
];

/// An API key of the command line.
fn api_key(stand: &Stand, kind: &'static str, arguments: &[&str]) -> String {
    let added = stand.verb(arguments, "api_key", &[kind]);
    let added: Value = serde_json::from_str(&added).unwrap();
    let key = added["api_key"].as_str().unwrap().to_owned();
    stand.plant(kind, &key);
    key
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_comes_out_of_the_program() {
    let stand = Stand::new().await;
    for (kind, value) in TOLD {
        stand.plant(kind, value);
    }
    let add = |name, role| ["client", "add", name, "--role", role, "--json"];
    let first = "an API key, the older one";
    api_key(&stand, first, &add("plain-shop", "billing"));
    let key = "an API key";
    let renew = ["client", "renew", "plain-shop", "--json"];
    let billing = api_key(&stand, key, &renew);
    let desk = "an operator's API key";
    api_key(&stand, desk, &add("plain-desk", "operator"));
    let audit = "an auditor's API key";
    api_key(&stand, audit, &add("plain-audit", "auditor"));
    let gone = "a revoked API key";
    api_key(&stand, gone, &add("plain-gone", "billing"));
    stand.verb(&["client", "revoke", "plain-gone"], "plain-gone", &[]);
    let sealed = sealed_client(&stand);
    plant_keys(&stand, "made first");
    stand.keep_database("before the service runs");

    let service = stand.serve("first.log");
    let shop = Shop {
        stand: &stand,
        base: service.base.clone(),
        api_key: &billing,
    };
    for provider in Provider::ALL {
        shop.live(provider).await;
    }
    shop.link(Provider::PayPal, &stand.canary(ERASED)).await;
    plant_keys(&stand, "made first");
    shop.type_card_numbers().await;
    shop.use_wrong_secrets().await;
    exchange(&stand, &service, sealed).await;
    look_at_the_process(&stand, &service);
    shop.look_at_open_routes().await;
    reload(&stand, &service).await;
    stand.keep_database("while the service runs");
    stand.until_told().await;
    shop.die_in_the_midst_of_a_charge(service).await;
    stand.keep_database("after a SIGKILL");

    let service = stand.serve("second.log");
    check_derived(&stand, &service, &word(ACCOUNTS[2])).await;
    tokens(&stand);
    verbs(&stand);
    stand.keep_database("after a rotation and an erasure");
    service.signal("ABRT");
    stand.end(service, "KILL");
    no_dump(&stand);
    wrong_use(&stand);
    passphrases(&stand);
    let sent = format!("{:?}", stand.sandbox.requests(None));
    stand.keep(
        "what the providers were sent",
        sent.as_bytes(),
        "authorizations",
        &SENT,
    );

    let canaries = stand.canaries();
    let kinds = canaries.kinds().len();
    println!("{kinds} kinds of secrets");
    assert!(kinds >= LEAST, "{:?}", canaries.kinds());
    assert_eq!(judge(&canaries, &stand.places()), Vec::<String>::new());
}

/// Registers a sealed client, and gives its private keys.
fn sealed_client(stand: &Stand) -> Vec<SecretKey> {
    let pair = |usage: Usage, kind: &str| {
        let key = SecretKey::generate(usage, &SystemEntropy).unwrap();
        let jwk: Value = serde_json::from_str(&key.to_private_jwk()).unwrap();
        stand.plant_base64(kind, jwk["d"].as_str().unwrap());
        key
    };
    let keys = vec![
        pair(Usage::Sign, "a client's signing key"),
        pair(Usage::Seal, "a client's receiving key"),
    ];
    let public: Vec<Value> = keys.iter().map(|key| key.public().to_jwk()).collect();
    std::fs::write(
        stand.path("jwks.json"),
        json!({ "keys": public }).to_string(),
    )
    .unwrap();
    stand.verb(
        &[
            "client",
            "add",
            "plain-sealed",
            "--role",
            "billing",
            "--sealed",
            "--public-key",
            "jwks.json",
        ],
        "plain-sealed",
        &[
            "an API key",
            "an API key, the older one",
            "an operator's API key",
        ][..0],
    );
    keys
}

/// The billing service.
struct Shop<'a> {
    stand: &'a Stand,
    base: String,
    api_key: &'a str,
}

impl Shop<'_> {
    fn headers(&self, key: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let bearer = format!("Bearer {}", self.api_key).parse().unwrap();
        headers.insert(header::AUTHORIZATION, bearer);
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers.insert("idempotency-key", key.parse().unwrap());
        headers
    }

    async fn post(&self, path: &str, key: &str, body: &Value) -> (u16, Value) {
        let url = format!("{}{path}", self.base);
        let headers = self.headers(key);
        let answer = self
            .stand
            .call(Method::POST, &url, headers, body.to_string())
            .await;
        (answer.status().as_u16(), json_of(&answer))
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let url = format!("{}{path}", self.base);
        let answer = self
            .stand
            .call(Method::GET, &url, self.headers("none"), "")
            .await;
        (answer.status().as_u16(), json_of(&answer))
    }

    fn account(&self, provider: Provider) -> String {
        self.stand
            .canary(&format!("an account id at {}", provider.name()))
    }

    /// Links a method of an account.
    async fn link(&self, provider: Provider, account: &str) {
        let name = provider.name();
        let word = self.stand.canary("the idempotency key of a link");
        let link = json!({
            "account": account, "provider": name, "return_url": "https://shop.example/back",
        });
        let key = format!("{word}.{account}");
        let (status, setup) = self.post("/v1/setups", &key, &link).await;
        assert_eq!(status, 201, "{setup}");
        let page = setup["redirect_url"].as_str().unwrap();
        let kind = format!("a hosted page's address at {name}");
        self.stand.plant(&kind, page);
        let back = self.stand.approve(page).await;
        let (_, state) = back.split_once("/return/").unwrap();
        let proof = state.split(['?', '.']).nth(1).unwrap();
        self.stand.plant("a return address's proof", proof);
    }

    /// Links a method and moves money, with lost replies.
    async fn live(&self, provider: Provider) {
        let name = provider.name();
        let account = self.account(provider);
        let key = |step: &str| {
            let kind = format!("the idempotency key of a {step}");
            format!("{}.{name}", self.stand.canary(&kind))
        };
        self.link(provider, &account).await;
        let pay = |step: &str, capture: &str| {
            json!({
                "account": account, "amount": {"currency": "CHF", "minor": 4990},
                "reference": format!("plain {step} {name}"), "capture": capture,
                "initiator": "merchant", "description": "plain description",
            })
        };
        let (status, paid) = self
            .post("/v1/payments", &key("charge"), &pay("charge", "automatic"))
            .await;
        assert_eq!(
            (status, &paid["status"]),
            (201, &"captured".into()),
            "{paid}"
        );
        let id = paid["id"].as_str().unwrap();
        let part = json!({"account": account, "amount": {"currency": "CHF", "minor": 500}});
        let path = format!("/v1/payments/{id}/refunds");
        self.post(&path, &key("refund"), &part).await;
        let (_, held) = self
            .post("/v1/payments", &key("hold"), &pay("hold", "manual"))
            .await;
        let path = format!("/v1/payments/{}/captures", held["id"].as_str().unwrap());
        self.post(&path, &key("capture"), &json!({"account": account}))
            .await;
        let (_, held) = self
            .post(
                "/v1/payments",
                &key("other hold"),
                &pay("other hold", "manual"),
            )
            .await;
        let path = format!("/v1/payments/{}/void", held["id"].as_str().unwrap());
        self.post(&path, &key("void"), &json!({"account": account}))
            .await;
        for (fault, step) in [
            (FaultKind::ExecuteThenDrop, "lost reply"),
            (FaultKind::HalfBody, "half reply"),
        ] {
            self.inject(provider, fault);
            self.post("/v1/payments", &key(step), &pay(step, "automatic"))
                .await;
        }
        self.get(&format!("/v1/payments?account={account}")).await;
        self.get(&format!("/v1/accounts/{account}/payment-methods"))
            .await;
        self.get(&format!("/v1/accounts/{account}/export")).await;
        self.get("/v1/events").await;
    }

    fn inject(&self, provider: Provider, fault: FaultKind) {
        let fault = Fault {
            provider,
            operation: None,
            times: 1,
            fault,
        };
        self.stand.sandbox.inject(fault).unwrap();
    }

    /// A card number at every door for text; all are refused.
    async fn type_card_numbers(&self) {
        let account = self.account(Provider::Aduno);
        let pay = json!({
            "account": account, "amount": {"currency": "CHF", "minor": 100}, "reference": "r",
            "capture": "automatic", "initiator": "merchant",
        });
        let link = json!({
            "account": account, "provider": "aduno", "return_url": "https://shop.example/back",
        });
        for (path, body, member) in [
            ("/v1/payments", &pay, "reference"),
            ("/v1/payments", &pay, "description"),
            ("/v1/payments", &pay, "account"),
            ("/v1/payments", &pay, "payment_method"),
            ("/v1/payments", &pay, "return_url"),
            ("/v1/setups", &link, "language"),
            ("/v1/setups", &link, "provider"),
            ("/v1/setups", &link, "an_unknown_member"),
        ] {
            let mut body = body.clone();
            let card = self.stand.card(&format!("`{member}`"));
            body[member] = match member {
                "return_url" => format!("https://shop.example/?c={card}").into(),
                _ => card.into(),
            };
            let (status, problem) = self.post(path, "plain-key", &body).await;
            assert_eq!(status, 422, "{member} {problem}");
        }
        let card = self.stand.card("`Idempotency-Key`");
        assert_eq!(self.post("/v1/payments", &card, &pay).await.0, 422);
        let card = self.stand.card("a member's name");
        let mut body = pay.clone();
        body[&card] = 1.into();
        assert_eq!(self.post("/v1/payments", "plain-key", &body).await.0, 422);
        let card = self.stand.card("a path");
        assert_eq!(self.get(&format!("/v1/payments/{card}")).await.0, 422);
        let card = self.stand.card("a query");
        assert_eq!(
            self.get(&format!("/v1/payments?account={card}")).await.0,
            422
        );
        let card = self.stand.card("a webhook");
        let url = format!("{}/webhooks/aduno", self.base);
        let body = json!({"card": card}).to_string();
        let answer = self
            .stand
            .call(Method::POST, &url, HeaderMap::new(), body)
            .await;
        assert!(answer.status().is_client_error());
    }

    /// Secrets of somebody else, or nearly ours, wherever a request has room for one.
    async fn use_wrong_secrets(&self) {
        let stand = self.stand;
        let account = self.account(Provider::PayPal);
        let url = format!("{}/v1/payments?account={account}", self.base);
        for (kind, scheme) in [
            ("a made-up API key", "Bearer ck_"),
            ("a password in a request", "Basic "),
        ] {
            let mut headers = HeaderMap::new();
            let value = format!("{scheme}{}", stand.canary(kind));
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            assert_eq!(
                stand.call(Method::GET, &url, headers, "").await.status(),
                401
            );
        }
        let mut headers = self.headers("plain-key");
        let cookie = stand.canary("a cookie").parse().unwrap();
        headers.insert(header::COOKIE, cookie);
        headers.insert("x-secret", stand.canary("a header").parse().unwrap());
        let odd = format!("{url}&{}=1", stand.canary("a parameter"));
        stand.call(Method::GET, &odd, headers, "").await;
        let mut body = json!({"account": stand.canary("an account id that is not there")});
        let path = "/v1/payments/pay_abcdefghijklmnopabcd/void";
        self.post(path, "plain-key", &body).await;
        body["unknown"] = stand.canary("an unknown member's value").into();
        self.post(path, "plain-key", &body).await;
        body[&stand.canary("an unknown member's name")] = 1.into();
        self.post(path, "plain-key", &body).await;
        let broken = format!("{{\"account\": {}", stand.canary("a body that is no JSON"));
        let url = format!("{}/v1/payments", self.base);
        stand
            .call(Method::POST, &url, self.headers("plain-key"), broken)
            .await;
        self.get(&format!("/{}", stand.canary("a path that is none")))
            .await;
        let state = format!("/return/set_abc.{}", stand.canary("a made-up proof"));
        self.get(&state).await;
        for (provider, name) in [
            (Provider::PayPal, "paypal-transmission-sig"),
            (Provider::PostFinance, "x-signature"),
            (Provider::Aduno, "datatrans-signature"),
        ] {
            let mut headers = HeaderMap::new();
            let signature = stand
                .canary("a forged webhook's signature")
                .parse()
                .unwrap();
            headers.insert(name, signature);
            let body = json!({"secret": stand.canary("a forged webhook's body")}).to_string();
            let url = format!("{}/webhooks/{}", self.base, provider.name());
            stand.call(Method::POST, &url, headers, body).await;
        }
    }

    async fn look_at_open_routes(&self) {
        for (path, marker) in [
            ("/metrics", "cardless_kek_uses"),
            ("/readyz", "ready"),
            ("/healthz", "200"),
            ("/openapi.json", "openapi"),
            ("/.well-known/jwks.json", "P-256"),
        ] {
            let request = http::Request::get(format!("{}{path}", self.base));
            let request = request.body(bytes::Bytes::new()).unwrap();
            let answer = self.stand.http.send(request).await.unwrap();
            let text = [answer.status().as_str().as_bytes(), answer.body()].concat();
            self.stand.keep(path, &text, marker, &[]);
        }
    }

    /// The service is killed while it waits for a provider's answer.
    async fn die_in_the_midst_of_a_charge(&self, service: Service) {
        self.inject(Provider::Aduno, FaultKind::Stall);
        let body = json!({
            "account": self.account(Provider::Aduno), "reference": "plain last",
            "amount": {"currency": "CHF", "minor": 100}, "capture": "automatic", "initiator": "merchant",
        });
        let request = http::Request::post(format!("{}/v1/payments", self.base));
        let mut request = request.body(bytes::Bytes::from(body.to_string())).unwrap();
        *request.headers_mut() =
            self.headers(&self.stand.canary("the idempotency key of the last charge"));
        let http = Arc::clone(&self.stand.http);
        let call = tokio::spawn(async move { http.send(request).await });
        while !self.stand.sandbox.waiting_faults().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.stand.end(service, "KILL");
        assert!(call.await.unwrap().is_err());
    }
}

/// A sealed client's call, the same once more, and one that is not sealed to us.
async fn exchange(stand: &Stand, service: &Service, keys: Vec<SecretKey>) {
    let client = Client::new(ClientParts {
        name: "plain-sealed".to_owned(),
        base_url: service.base.clone(),
        service: service.base.clone(),
        keys,
        http: Arc::clone(&stand.http),
        clock: Arc::new(SystemClock::default()),
        entropy: Arc::new(SystemEntropy),
    })
    .unwrap();
    stand.keep(
        "what Debug shows of a sealed client",
        format!("{client:?}").as_bytes(),
        "Client",
        &[],
    );
    let request = |description: String| PayRequest {
        account: stand.canary("an account id at paypal"),
        payment_method: None,
        amount: Amount::new("CHF", 100),
        reference: "plain sealed".to_owned(),
        capture: Capture::Automatic,
        initiator: Initiator::Merchant,
        return_url: None,
        description: Some(description),
    };
    let key = stand.canary("the idempotency key of a sealed charge");
    client
        .pay(&key, &request("plain".to_owned()))
        .await
        .unwrap();
    let card = stand.card("a sealed message");
    let refused = client.pay(&key, &request(card)).await.unwrap_err();
    stand.keep(
        "refusals of sealed messages",
        format!("{refused} {refused:?}").as_bytes(),
        "card_number",
        &[],
    );
    let body = format!("{}.a.b.c.d", stand.canary("a message that is not sealed"));
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/jose"),
    );
    let url = format!("{}/v1/exchange", service.base);
    stand.call(Method::POST, &url, headers, body).await;
}

/// A reload with what is wrong in several ways, and one with what is right.
async fn reload(stand: &Stand, service: &Service) {
    let path = stand.path("cardless.toml");
    let right = std::fs::read_to_string(&path).unwrap();
    let word = stand.canary("a setting that is wrong");
    for (wrong, said) in [
        (format!("[providers.paypal]\nclient_secret = {word}\n"), 1),
        (format!("{right}\n[providers.{word}]\nx = 1\n"), 2),
        (right.replace("client_id", &word), 3),
        (right.replace("whsec_", &word), 4),
    ] {
        std::fs::write(&path, wrong).unwrap();
        service.signal("HUP");
        let told = "the settings were not reloaded";
        service.until_said_times(told, said).await;
        stand.refused("verbs with wrong settings", &["check"], "cardless: ");
    }
    std::fs::write(&path, &right).unwrap();
    service.signal("HUP");
    service
        .until_said_times("the settings were read again and are in force", 1)
        .await;
}

/// What others on the machine see of the process.
fn look_at_the_process(stand: &Stand, service: &Service) {
    let of_process = |name: &str| std::fs::read(format!("/proc/{}/{name}", service.id()));
    let Ok(line) = of_process("cmdline") else {
        println!("look_at_the_process: skipped, there is no /proc");
        return;
    };
    stand.keep("the command line of the process", &line, "serve", &[]);
    let environment = of_process("environ").unwrap();
    stand.keep(
        "the environment of the process",
        &environment,
        "RUST_LOG",
        &[BY_ENVIRONMENT],
    );
    let limits = String::from_utf8(of_process("limits").unwrap()).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let numbers: Vec<&str> = core.unwrap().split_whitespace().skip(4).take(2).collect();
    assert_eq!(numbers, ["0", "0"], "{limits}");
    let children = of_process(&format!("task/{}/children", service.id())).unwrap_or_default();
    assert_eq!(
        children, b"",
        "the service starts no process that could inherit anything"
    );
}

/// Every verb that reads or changes something, beside the service.
fn verbs(stand: &Stand) {
    let [_, restricted, shown] = &ACCOUNTS.map(word);
    for json in [&[][..], &["--json"]] {
        let with = |arguments: &[&'static str]| [arguments, json].concat();
        stand.verb(&with(&["check"]), "paypal", &[]);
        stand.verb(&with(&["client", "list"]), "plain-shop", &[]);
        // The text names no account; JSON does, as the API's answers do.
        let named: &[&str] = if json.is_empty() { &[] } else { &ACCOUNTS };
        stand.verb(&with(&["payment", "list"]), "captured", named);
        stand.verb(&with(&["event", "list"]), "payment.captured", &NAMED);
        stand.verb(&with(&["event", "list", "--dead"]), "payment.captured", &[]);
        stand.verb(&with(&["audit", "list"]), "client.add", &[]);
        stand.verb(&with(&["audit", "verify"]), "lines", &[]);
        stand.verb(&with(&["rotate", "status"]), "kek_", &[]);
        let handles = ["rotate", "handles", "--overlap", "1d"];
        stand.verb(&with(&handles), "old", &[]);
        stand.verb(&with(&["rotate", "keys"]), "kek_", &[]);
        plant_keys(stand, "made by a rotation");
        let destroy = ["rotate", "keys", "--destroy-retired"];
        stand.verb(&with(&destroy), "kek_", &[]);
        stand.verb(&with(&["reconcile"]), "parked", &[]);
        let books = with(&["reconcile", "--verify"]);
        stand.refused("cardless reconcile --verify", &books, "compared");
        let scan = [
            "scope",
            "--scan",
            "cardless.db",
            "cardless.keys",
            "first.log",
        ];
        stand.verb(&with(&scan), "found", &[]);
        let show = [&["account", "show", shown.as_str()][..], json].concat();
        stand.verb(&show, shown, &["an account id at aduno"]);
    }
    stand.verb(
        &["account", "export", shown],
        shown,
        &["an account id at aduno"],
    );
    stand.verb(
        &["account", "restrict", restricted, "--by", "plain-person"],
        restricted,
        &["an account id at paypal"],
    );
    stand.keep_database("before an erasure");
    let erase = ["account", "erase", &word(ERASED), "--json"];
    stand.verb(&erase, "erased", &[]);
}

/// Tokens in a file that is sealed to this installation itself, and back.
fn tokens(stand: &Stand) {
    for (verb, name) in [("import", "theirs.json"), ("export", "ours.json")] {
        let keys = stand.verb(&[verb, "--print-keys"], "keys", &[]);
        std::fs::write(stand.path(name), keys).unwrap();
    }
    let export = ["export", "tokens", "--recipient", "theirs.json"];
    stand.refused("tokens are exported", &export, "tokens");
    let file = std::fs::read(stand.path("tokens")).unwrap();
    stand.keep("a file of tokens", &file, "ey", &[]);
    let import = ["import", "tokens", "--sender", "ours.json"];
    for more in [&["--dry-run", "--json"][..], &["--json"]] {
        let import = [&import[..], more].concat();
        stand.refused("tokens are imported", &import, "sha256");
    }
}

/// A process that is made to break off leaves no dump of its memory.
fn no_dump(stand: &Stand) {
    let dumps: Vec<_> = std::fs::read_dir(stand.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_string_lossy().starts_with("core"))
        .collect();
    assert!(dumps.is_empty(), "{dumps:?}");
}

/// Secrets typed where they are wrong: each is refused, and none is repeated.
fn wrong_use(stand: &Stand) {
    let account = stand.canary("an account id that is not there");
    for arguments in [
        &["account", "show", &account][..],
        &["account", "export", &account],
        &["account", "restrict", &account],
        &["payment", "list", "--account", &account],
        &["payment", "show", &stand.card("`payment show`")],
        &[
            "payment",
            "list",
            "--reference",
            &stand.card("`payment list`"),
        ],
        &["account", "show", &stand.card("`account show`")],
        &[
            "client",
            "add",
            &stand.card("`client add`"),
            "--role",
            "billing",
        ],
        &["audit", "list", "--object", &stand.card("`audit list`")],
        &[
            "account",
            "restrict",
            "plain",
            "--by",
            &stand.card("`--by`"),
        ],
        &[
            "payment",
            "resolve",
            "pay_abcdefghijklmnopabcd",
            "--as",
            "failed",
            "--note",
            &stand.card("`--note`"),
        ],
    ] {
        stand.refused("verbs that are refused", arguments, "cardless: ");
    }
}

/// A key file under a passphrase, which is wrong, changed and right.
fn passphrases(stand: &Stand) {
    let folder = TempDir::new().unwrap();
    let place = folder.path();
    let one = stand.canary("a passphrase");
    let two = stand.canary("a passphrase, the new one");
    let wrong = stand.canary("a wrong passphrase");
    assert!(stand.under(place, &one, &["init"]).status.success());
    assert!(
        stand
            .under(place, &one, &["client", "list"])
            .status
            .success()
    );
    assert!(
        !stand
            .under(place, &wrong, &["client", "list"])
            .status
            .success()
    );
    let keep = |stage: &str| {
        let keys = std::fs::read(place.join("cardless.keys")).unwrap();
        stand.keep("a key file under a passphrase", &keys, "[passphrase]", &[]);
        let database = std::fs::read(place.join("cardless.db")).unwrap_or_default();
        stand.keep(
            &format!("its database, {stage}"),
            &database,
            "payment_methods",
            &[],
        );
    };
    let both = format!("[\"{two}\", \"{one}\"]");
    assert!(
        stand
            .under(place, &both, &["rotate", "keys"])
            .status
            .success()
    );
    keep("after a rotation");
}
