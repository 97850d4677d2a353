//! Sealed clients and their keys, as an operator adds them.

use cardless::error::Code;
use cardless::gateway::{MAX_LIVE_KEYS, Role};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::forge;
use crate::world::{NAME, World, public};

async fn refusal(world: &World, name: &str, keys: &str) -> (Code, String) {
    let error = world.gateway.add_sealed_client(name, Role::Billing, keys);
    let error = error.await.unwrap_err();
    (error.code(), error.message().to_owned())
}

#[tokio::test]
async fn a_sealed_client_needs_keys_for_both_ways() {
    let world = World::new().await;
    let one = |kid: &str| public(kid).to_string();
    for keys in [one("sign-b"), one("receive-b")] {
        let (code, message) = refusal(&world, "other", &keys).await;
        assert_eq!(code, Code::InvalidField);
        assert!(message.contains("signs"), "{message}");
    }
    world
        .gateway
        .add_sealed_client("other", Role::Billing, &one("both"))
        .await
        .unwrap();
}

#[tokio::test]
async fn no_key_is_registered_twice_or_comes_back() {
    let world = World::new().await;
    let same = public("sign").to_string();
    let renamed = forge::jwk(&forge::pair("sign"), &json!({"kid": "fresh"})).to_string();
    let taken = forge::jwk(&forge::pair("fresh"), &json!({"kid": "sign"})).to_string();
    for keys in [&same, &renamed, &taken] {
        for name in [NAME, "desk"] {
            let result = if name == NAME {
                world.gateway.add_client_keys(NAME, keys).await
            } else {
                let both = format!("{{\"keys\":[{keys},{}]}}", public("receive-b"));
                let added = world.gateway.add_sealed_client(name, Role::Billing, &both);
                added.await
            };
            assert_eq!(result.unwrap_err().code(), Code::InvalidField);
        }
    }
    world.gateway.revoke_client_key(NAME, "sign").await.unwrap();
    for keys in [&same, &renamed, &taken] {
        let result = world.gateway.add_client_keys(NAME, keys).await;
        assert_eq!(result.unwrap_err().code(), Code::InvalidField);
    }
    let result = world.gateway.revoke_client_key(NAME, "sign").await;
    assert_eq!(result.unwrap_err().code(), Code::NotFound);
    // The refused client was not half added.
    let names: Vec<_> = world.gateway.clients().await.unwrap();
    assert_eq!(names.len(), 1);
}

#[tokio::test]
async fn a_client_has_a_limited_number_of_live_keys() {
    let world = World::new().await;
    for n in 2..MAX_LIVE_KEYS {
        let key = public(&format!("key-{n}")).to_string();
        world.gateway.add_client_keys(NAME, &key).await.unwrap();
    }
    let one_more = public("one-more").to_string();
    let refused = world.gateway.add_client_keys(NAME, &one_more).await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidField);
    world
        .gateway
        .revoke_client_key(NAME, "key-2")
        .await
        .unwrap();
    world
        .gateway
        .add_client_keys(NAME, &one_more)
        .await
        .unwrap();
}

#[tokio::test]
async fn only_a_live_sealed_client_gets_keys() {
    let world = World::new().await;
    world
        .gateway
        .add_client("plain", Role::Billing)
        .await
        .unwrap();
    let key = public("more").to_string();
    for name in ["plain", "nobody"] {
        let result = world.gateway.add_client_keys(name, &key).await;
        assert_eq!(result.unwrap_err().code(), Code::NotFound, "{name}");
    }
    world.gateway.revoke_client(NAME).await.unwrap();
    let result = world.gateway.add_client_keys(NAME, &key).await;
    assert_eq!(result.unwrap_err().code(), Code::NotFound);
}

/// It is listed with its keys, and has no API key to show anywhere else.
#[tokio::test]
async fn a_sealed_client_is_listed_with_its_keys() {
    let world = World::new().await;
    let listed = world.gateway.clients().await.unwrap();
    let listed: Value = serde_json::to_value(&listed).unwrap();
    assert_eq!(listed[0]["sealed"], true);
    let uses: Vec<_> = listed[0]["keys"].as_array().unwrap().iter().collect();
    assert_eq!(uses[0]["kid"], "sign");
    assert_eq!(uses[0]["use"], "sig");
    assert_eq!(uses[1]["use"], "enc");
}

#[tokio::test]
async fn the_key_set_is_public_and_may_be_kept() {
    let world = World::new().await;
    let request = http::Request::builder()
        .method(Method::GET)
        .uri("/.well-known/jwks.json");
    let request = request.body(axum::body::Body::empty()).unwrap();
    let response = world.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(
        response.headers()["content-type"],
        "application/jwk-set+json"
    );
    assert_eq!(response.headers()["cache-control"], "public, max-age=3600");
    let body = axum::body::to_bytes(response.into_body(), usize::MAX)
        .await
        .unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert!(!text.contains("\"d\""));
    let keys = cardless::exchange::PublicKey::read_all(&text).unwrap();
    assert_eq!(keys.len(), 2);
    assert!(keys.iter().any(|key| key.usage().signs()));
    assert!(keys.iter().any(|key| key.usage().seals()));
}

#[tokio::test]
async fn another_content_type_is_told_so() {
    let world = World::new().await;
    let request = http::Request::builder()
        .method(Method::POST)
        .uri("/v1/exchange")
        .header("content-type", "application/json")
        .body(axum::body::Body::from("{}"))
        .unwrap();
    let response = world.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
}
