//! What a person may ask, over HTTP and at the command line.

use cardless::gateway::Role;
use http::{HeaderMap, Method, header};
use serde_json::{Value, json};

use crate::people::Desk;
use crate::world::{ACCOUNT, ALL, World, json_of};

/// A call under somebody's key.
async fn call(world: &World, api_key: &str, method: Method, path: &str, body: &str) -> u16 {
    let mut headers = HeaderMap::new();
    let bearer = format!("Bearer {api_key}");
    headers.insert(header::AUTHORIZATION, bearer.parse().unwrap());
    headers.insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
    headers.insert("idempotency-key", world.key().parse().unwrap());
    let url = format!("{}/v1/accounts/{ACCOUNT}/{path}", world.base);
    let answer = world.send(method, &url, headers, body.to_owned()).await;
    answer.status().as_u16()
}

#[tokio::test]
async fn a_billing_service_restricts_exports_and_erases() {
    let world = World::new().await;
    for provider in ALL {
        world.link(provider).await;
    }
    let (status, payment) = world.pay(4990, "automatic").await;
    assert_eq!(status, 201, "{payment}");
    let (status, held) = world.pay(1000, "manual").await;
    assert_eq!(status, 201, "{held}");
    let path = format!("/v1/accounts/{ACCOUNT}");
    let restriction = format!("{path}/restriction");
    for restricted in [true, false, true] {
        let body = json!({ "restricted": restricted }).to_string();
        let answer = world.call(Method::PUT, &restriction, "-", body).await;
        let wanted = json!({ "account": ACCOUNT, "restricted": restricted });
        assert_eq!((answer.status().as_u16(), json_of(&answer)), (200, wanted));
    }
    let (status, refused) = world.pay(1, "automatic").await;
    assert_eq!(
        (status, refused["code"].as_str()),
        (409, Some("account_restricted"))
    );

    let export = world.get(&format!("{path}/export")).await;
    assert_eq!(export["payment_methods"].as_array().unwrap().len(), 3);
    assert_eq!(export["payments"].as_array().unwrap().len(), 2);
    assert_eq!(export["payments"][0]["account"], ACCOUNT);

    let (status, open) = world.post(&format!("{path}/erasure"), &json!({})).await;
    assert_eq!(
        (status, open["status"].as_str()),
        (202, Some("open")),
        "{open}"
    );
    assert_eq!(open["waiting_for"][0]["id"], held["id"]);
    let void = format!("/v1/payments/{}/void", held["id"].as_str().unwrap());
    let (status, voided) = world.post(&void, &json!({ "account": ACCOUNT })).await;
    assert_eq!(status, 200, "{voided}");
    let key = world.key();
    let erasure = path_of("erasure");
    let erase = || world.call(Method::POST, &erasure, &key, "{}");
    let done = erase().await;
    assert_eq!(done.status(), 201, "{:?}", done.body());
    let receipt = json_of(&done);
    assert_eq!(receipt["id"], open["id"]);
    assert_eq!(receipt["revoked"].as_array().unwrap().len(), 3);
    assert_eq!(erase().await.body(), done.body());
    assert_eq!(world.get(&format!("{path}/erasure")).await, receipt);
    let payment = world
        .get(&format!("/v1/payments/{}", payment["id"].as_str().unwrap()))
        .await;
    assert_eq!(
        (payment["account"].as_str(), payment["reference"].as_str()),
        (Some("(erased)"), Some(""))
    );
    let gone = world.call(Method::GET, &path_of("export"), "-", "").await;
    assert_eq!(gone.status(), 404);
    let methods = world.get(&format!("{path}/payment-methods")).await;
    assert_eq!(methods, json!({ "data": [] }));
}

fn path_of(what: &str) -> String {
    format!("/v1/accounts/{ACCOUNT}/{what}")
}

#[tokio::test]
async fn only_a_billing_key_changes_and_an_auditor_sees_nothing_of_a_person() {
    let world = World::new().await;
    world.link("paypal").await;
    let add = |name: &'static str, role| world.gateway.add_client(name, role);
    let operator = add("desk", Role::Operator).await.unwrap();
    let auditor = add("reviewer", Role::Auditor).await.unwrap();
    let restrict = r#"{"restricted":true}"#;
    let calls = [
        (Method::GET, "export", "", [200, 403]),
        (Method::POST, "erasure", "{}", [403, 403]),
        (Method::PUT, "restriction", restrict, [403, 403]),
        (Method::GET, "erasure", "", [404, 403]),
    ];
    for (method, path, body, wanted) in calls {
        for (key, wanted) in [&operator, &auditor].into_iter().zip(wanted) {
            let status = call(&world, key, method.clone(), path, body).await;
            assert_eq!(status, wanted, "{method} {path}");
        }
    }
    for (body, wanted) in [
        ("{}", 422),
        (r#"{"restricted":1}"#, 422),
        (r#"{"restricted":true,"a":1}"#, 422),
    ] {
        let answer = world
            .call(Method::PUT, &path_of("restriction"), "-", body)
            .await;
        assert_eq!(answer.status(), wanted, "{body}");
    }
    let answer = world
        .call(
            Method::POST,
            "/v1/accounts/4111111111111111/erasure",
            "k-1",
            "{}",
        )
        .await;
    assert_eq!(json_of(&answer)["code"], "card_number");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_erases_at_the_command_line_and_has_a_receipt() {
    let desk = Desk::new().await;
    let payment = desk.charged("paypal").await;
    let run = |arguments: &[&str]| desk.run(arguments);
    let (code, out, error) = run(&["account", "restrict", ACCOUNT, "--by", "ann", "--json"]);
    assert_eq!(code, 0, "{error}");
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(said, json!({ "account": ACCOUNT, "restricted": true }));
    let file = [
        "account",
        "export",
        ACCOUNT,
        "--output",
        "person.json",
        "--by",
        "ann",
    ];
    assert_eq!(run(&file).0, 0);
    // It is never overwritten.
    assert_eq!(run(&file).0, 1);
    let (code, out, _) = run(&["account", "export", ACCOUNT]);
    let export: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, export["payments"][0]["id"].as_str()),
        (0, Some(payment.id.as_str()))
    );

    let (code, out, error) = run(&["account", "erase", ACCOUNT, "--by", "ann", "--json"]);
    assert_eq!(code, 0, "{out} {error}");
    let receipt: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(receipt["kept"]["payments"], 1);
    let (code, out, _) = run(&["account", "show", ACCOUNT]);
    assert_eq!(code, 0);
    assert!(out.contains(receipt["id"].as_str().unwrap()), "{out}");
    assert!(out.contains("nothing but the receipt"), "{out}");
    assert_eq!(run(&["account", "erase", "nobody", "--by", "ann"]).0, 1);
    let (code, out, _) = run(&["payment", "show", &payment.id]);
    assert!(code == 0 && out.contains("(erased)"), "{out}");
    let list = ["audit", "list", "--account", ACCOUNT, "--json"];
    let lines: Value = serde_json::from_str(&run(&list).1).unwrap();
    let said: Vec<&str> = lines["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|line| line["actor"] == "ann")
        .map(|line| line["action"].as_str().unwrap())
        .collect();
    // The file that was there already was refused after the export was asked for.
    assert_eq!(
        said,
        [
            "account.erase",
            "account.export",
            "account.export",
            "account.restrict"
        ]
    );
    assert_eq!(run(&["audit", "verify"]).0, 0);
}
