//! Messages that must not be taken. One answer for all of them, nothing stored, and the `jti` of a
//! refused message is still free.

use std::collections::BTreeSet;
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use crate::forge::{self, b64};
use crate::world::{ACCOUNT, NAME, SERVICE, World, unique};

/// A message in the making. What is not changed makes a good one.
pub(crate) struct Draft {
    pub(crate) outer: Value,
    pub(crate) inner: Value,
    pub(crate) claims: Value,
    pub(crate) signer: p256::SecretKey,
    pub(crate) to: p256::PublicKey,
    /// What becomes of the texts of outer header, inner header and claims.
    texts: [fn(String) -> String; 3],
    /// What becomes of the signed message, and of the whole.
    signed: fn(String) -> String,
    whole: fn(String) -> String,
}

impl Draft {
    /// A good message.
    pub(crate) async fn new(world: &World) -> Self {
        let (kid, to) = world.service_key().await;
        let epk = forge::jwk(&forge::pair("ephemeral"), &json!({}));
        let now = world.clock.seconds();
        Self {
            outer: json!({"alg": "ECDH-ES", "enc": "A256GCM", "kid": kid, "epk": epk,
                "typ": "JWT", "cty": "JWT"}),
            inner: json!({"alg": "ES256", "kid": "sign", "typ": "JWT"}),
            claims: json!({
                "iss": NAME, "aud": SERVICE, "iat": now, "exp": now + 120, "jti": unique(),
                "op": format!("GET /v1/payments?account={ACCOUNT}"), "acct": ACCOUNT,
            }),
            signer: forge::pair("sign"),
            to,
            texts: [same, same, same],
            signed: same,
            whole: same,
        }
    }

    pub(crate) fn message(&self) -> String {
        let claims = (self.texts[2])(self.claims.to_string());
        let inner = (self.texts[1])(self.inner.to_string());
        let signed = forge::jws(&inner, claims.as_bytes(), &self.signer);
        self.around((self.signed)(signed).as_bytes())
    }

    /// Seals any text.
    fn around(&self, text: &[u8]) -> String {
        let outer = (self.texts[0])(self.outer.to_string());
        let ephemeral = forge::pair("ephemeral");
        (self.whole)(forge::jwe(&outer, text, &ephemeral, &self.to))
    }
}

fn same(text: String) -> String {
    text
}

/// Part `at` of a compact message.
fn part(message: &str, at: usize) -> &str {
    message.split('.').nth(at).unwrap()
}

/// The message with another part.
fn with_part(message: &str, at: usize, new: &str) -> String {
    let mut parts: Vec<&str> = message.split('.').collect();
    parts[at] = new;
    parts.join(".")
}

/// The part with a changed bit.
fn flipped(part: &str) -> String {
    let mut bytes = forge::unb64(part);
    bytes[0] ^= 1;
    b64(bytes)
}

type Case = (&'static str, fn(&mut Draft));

/// Wrong in the outer header.
const OUTER: &[Case] = &[
    ("rsa1_5", |d| d.outer["alg"] = "RSA1_5".into()),
    ("rsa_oaep", |d| d.outer["alg"] = "RSA-OAEP-256".into()),
    ("pbes2", |d| {
        d.outer["alg"] = "PBES2-HS256+A128KW".into();
        d.outer["p2s"] = "c2FsdA".into();
        d.outer["p2c"] = 2_000_000_000_u32.into();
    }),
    ("dir", |d| d.outer["alg"] = "dir".into()),
    ("outer_alg_none", |d| d.outer["alg"] = "none".into()),
    ("ecdh_es_with_key_wrap", |d| {
        d.outer["alg"] = "ECDH-ES+A256KW".into()
    }),
    ("alg_in_lower_case", |d| d.outer["alg"] = "ecdh-es".into()),
    ("alg_is_a_list", |d| d.outer["alg"] = json!(["ECDH-ES"])),
    ("alg_missing", |d| remove(&mut d.outer, "alg")),
    ("a128gcm", |d| d.outer["enc"] = "A128GCM".into()),
    ("a256cbc_hs512", |d| d.outer["enc"] = "A256CBC-HS512".into()),
    ("enc_missing", |d| remove(&mut d.outer, "enc")),
    ("compressed", |d| d.outer["zip"] = "DEF".into()),
    ("crit_empty", |d| d.outer["crit"] = json!([])),
    ("crit_unknown", |d| {
        d.outer["crit"] = json!(["exp"]);
        d.outer["exp"] = 1.into();
    }),
    ("outer_b64", |d| d.outer["b64"] = false.into()),
    ("outer_jku", |d| {
        d.outer["jku"] = "https://evil.example/keys".into()
    }),
    ("outer_jwk", |d| {
        d.outer["jwk"] = forge::jwk(&forge::pair("evil"), &json!({}))
    }),
    ("outer_x5u", |d| {
        d.outer["x5u"] = "https://evil.example/cert".into()
    }),
    ("outer_x5c", |d| d.outer["x5c"] = json!(["MIIB"])),
    ("outer_claims", |d| d.outer["iss"] = NAME.into()),
    ("outer_kid_missing", |d| remove(&mut d.outer, "kid")),
    ("outer_kid_unknown", |d| {
        d.outer["kid"] = "enc_pppppppppppppppppppp".into()
    }),
    ("outer_kid_of_the_signing_key", |d| {
        let kid = d.outer["kid"].as_str().unwrap().replace("enc_", "sig_");
        d.outer["kid"] = kid.into();
    }),
    ("outer_kid_is_a_number", |d| d.outer["kid"] = 1.into()),
    ("outer_kid_too_long", |d| {
        d.outer["kid"] = "k".repeat(129).into()
    }),
    ("outer_typ_other", |d| d.outer["typ"] = "at+jwt".into()),
    ("cty_missing", |d| remove(&mut d.outer, "cty")),
    ("cty_other", |d| d.outer["cty"] = "json".into()),
    ("outer_member_twice", |d| {
        d.texts[0] = |text| text.replacen('{', r#"{"alg":"ECDH-ES","#, 1);
    }),
    ("outer_member_twice_escaped", |d| {
        d.texts[0] = |text| text.replacen('{', r#"{"\u0061lg":"ECDH-ES","#, 1);
    }),
    ("outer_is_a_list", |d| {
        d.texts[0] = |text| format!("[{text}]")
    }),
    ("outer_is_no_json", |d| d.texts[0] = |_| "alg".to_owned()),
    ("outer_is_empty", |d| d.texts[0] = |_| String::new()),
    ("outer_has_something_behind_it", |d| {
        d.texts[0] = |text| text + "{}"
    }),
    ("outer_is_deep", |d| {
        d.outer["apu"] = "x".into();
        d.texts[0] = |text| {
            let deep = format!("{}{}", "[".repeat(400), "]".repeat(400));
            text.replace(r#""x""#, &deep)
        };
    }),
    ("outer_is_long", |d| {
        d.outer["apu"] = "A".repeat(2000).into()
    }),
    ("apu_is_no_base64url", |d| d.outer["apu"] = "A=".into()),
    // What is agreed on covers both names, so another one gives another key.
    ("apv_not_agreed_on", |d| d.outer["apv"] = "Qm9i".into()),
];

/// Wrong in the ephemeral key.
const EPHEMERAL: &[Case] = &[
    ("epk_missing", |d| remove(&mut d.outer, "epk")),
    ("epk_null", |d| d.outer["epk"] = Value::Null),
    ("epk_is_a_text", |d| d.outer["epk"] = "key".into()),
    ("epk_is_a_list", |d| {
        let epk = d.outer["epk"].clone();
        d.outer["epk"] = json!([epk["crv"], epk["kty"], epk["x"], epk["y"]]);
    }),
    ("epk_on_p384", |d| d.outer["epk"]["crv"] = "P-384".into()),
    ("epk_okp", |d| d.outer["epk"]["kty"] = "OKP".into()),
    ("epk_without_y", |d| remove(&mut d.outer["epk"], "y")),
    ("epk_with_d", |d| d.outer["epk"]["d"] = b64([1; 32]).into()),
    ("epk_zero", |d| set_point(d, [0; 32], [0; 32])),
    ("epk_off_the_curve", |d| set_point(d, [1; 32], [2; 32])),
    ("epk_beyond_the_field", |d| {
        set_point(d, [255; 32], [255; 32])
    }),
    ("epk_on_the_twist", |d| {
        let mut x = [0; 32];
        x[31] = 1;
        set_point(d, x, [0; 32]);
    }),
    ("epk_x_short", |d| d.outer["epk"]["x"] = b64([1; 31]).into()),
    ("epk_x_long", |d| {
        let x = forge::unb64(d.outer["epk"]["x"].as_str().unwrap());
        d.outer["epk"]["x"] = b64([&[0][..], &x].concat()).into();
    }),
    ("epk_x_empty", |d| d.outer["epk"]["x"] = "".into()),
    ("epk_x_padded", |d| {
        let x = d.outer["epk"]["x"].as_str().unwrap().to_owned() + "=";
        d.outer["epk"]["x"] = x.into();
    }),
    ("epk_y_mirrored", |d| {
        let mut y = forge::unb64(d.outer["epk"]["y"].as_str().unwrap());
        y[31] ^= 1;
        d.outer["epk"]["y"] = b64(y).into();
    }),
    ("epk_member_twice", |d| {
        d.texts[0] = |text| text.replacen(r#""crv":"#, r#""crv":"P-256","crv":"#, 1);
    }),
    ("epk_of_another", |d| {
        d.outer["epk"] = forge::jwk(&forge::pair("evil"), &json!({}))
    }),
];

/// Wrong in the compact form, or changed on the way.
const WHOLE: &[Case] = &[
    ("empty", |d| d.whole = |_| String::new()),
    ("dots", |d| d.whole = |_| "....".to_owned()),
    ("json_serialization", |d| {
        d.whole = |text| {
            json!({"protected": part(&text, 0), "iv": part(&text, 2),
                "ciphertext": part(&text, 3), "tag": part(&text, 4)})
            .to_string()
        };
    }),
    ("four_parts", |d| {
        d.whole = |text| text.rsplit_once('.').unwrap().0.to_owned();
    }),
    ("six_parts", |d| d.whole = |text| text + ".AAAA"),
    ("space_around", |d| d.whole = |text| format!(" {text}\n")),
    ("encrypted_key", |d| {
        d.whole = |text| with_part(&text, 1, "AAAA")
    }),
    ("iv_short", |d| {
        d.whole = |text| with_part(&text, 2, &b64([9; 11]))
    }),
    ("iv_long", |d| {
        d.whole = |text| with_part(&text, 2, &b64([9; 16]))
    }),
    ("iv_changed", |d| {
        d.whole = |text| with_part(&text, 2, &flipped(part(&text, 2)))
    }),
    ("text_changed", |d| {
        d.whole = |text| with_part(&text, 3, &flipped(part(&text, 3)))
    }),
    ("text_empty", |d| d.whole = |text| with_part(&text, 3, "")),
    ("tag_changed", |d| {
        d.whole = |text| with_part(&text, 4, &flipped(part(&text, 4)))
    }),
    ("tag_short", |d| {
        d.whole = |text| with_part(&text, 4, &b64([0; 12]))
    }),
    ("tag_empty", |d| d.whole = |text| with_part(&text, 4, "")),
    ("standard_base64", |d| {
        d.whole = |text| with_part(&text, 4, "+/+/+/+/+/+/+/+/+/+/+w")
    }),
    ("padded", |d| d.whole = |text| text + "=="),
    ("spare_bits", |d| {
        // The last character of a tag of 16 bytes carries two bits; the others must be zero.
        d.whole = |text| text[..text.len() - 1].to_owned() + "B";
    }),
    ("header_spelled_otherwise", |d| {
        d.whole = |text| {
            let header = String::from_utf8(forge::unb64(part(&text, 0))).unwrap();
            with_part(&text, 0, &b64(header.replacen('{', "{ ", 1)))
        };
    }),
];

/// Wrong in the signed message within.
const INNER: &[Case] = &[
    ("alg_none", |d| {
        d.inner["alg"] = "none".into();
        d.signed = |text| with_part(&text, 2, "");
    }),
    ("alg_none_with_signature", |d| {
        d.inner["alg"] = "none".into()
    }),
    ("hs256", |d| d.inner["alg"] = "HS256".into()),
    ("es384", |d| d.inner["alg"] = "ES384".into()),
    ("es256k", |d| d.inner["alg"] = "ES256K".into()),
    ("inner_alg_missing", |d| remove(&mut d.inner, "alg")),
    ("inner_kid_missing", |d| remove(&mut d.inner, "kid")),
    ("inner_kid_unknown", |d| d.inner["kid"] = "other".into()),
    ("signed_by_the_sealing_key", |d| {
        d.inner["kid"] = "receive".into();
        d.signer = forge::pair("receive");
    }),
    ("signed_by_another", |d| d.signer = forge::pair("evil")),
    ("inner_jwk", |d| {
        d.inner["jwk"] = forge::jwk(&forge::pair("evil"), &json!({}));
        d.signer = forge::pair("evil");
    }),
    ("inner_jku", |d| {
        d.inner["jku"] = "https://evil.example/keys".into()
    }),
    ("inner_x5c", |d| d.inner["x5c"] = json!(["MIIB"])),
    ("inner_x5t", |d| d.inner["x5t"] = "AAAA".into()),
    ("inner_crit", |d| d.inner["crit"] = json!(["b64"])),
    ("inner_b64", |d| d.inner["b64"] = false.into()),
    ("inner_typ_other", |d| d.inner["typ"] = "dpop+jwt".into()),
    ("inner_cty", |d| d.inner["cty"] = "JWT".into()),
    ("inner_member_twice", |d| {
        d.texts[1] = |text| text.replacen('{', r#"{"alg":"none","#, 1);
    }),
    ("signature_missing", |d| {
        d.signed = |text| with_part(&text, 2, "")
    }),
    ("signature_changed", |d| {
        d.signed = |text| with_part(&text, 2, &flipped(part(&text, 2)))
    }),
    ("signature_zero", |d| {
        d.signed = |text| with_part(&text, 2, &b64([0; 64]))
    }),
    ("signature_in_der", |d| {
        d.signed = |text| {
            let der = [
                &[0x30, 0x44, 0x02, 0x20][..],
                &[1; 32],
                &[0x02, 0x20],
                &[1; 32],
            ]
            .concat();
            with_part(&text, 2, &b64(der))
        };
    }),
    ("payload_changed", |d| {
        d.signed = |text| with_part(&text, 1, &flipped(part(&text, 1)))
    }),
    ("claims_unsigned", |d| {
        d.signed = |text| String::from_utf8(forge::unb64(part(&text, 1))).unwrap();
    }),
    ("sealed_twice", |d| {
        d.signed = |text| format!("{text}.AAAA.AAAA")
    }),
];

/// Wrong in the claims.
const CLAIMS: &[Case] = &[
    ("iss_missing", |d| remove(&mut d.claims, "iss")),
    ("iss_of_another", |d| d.claims["iss"] = "desk".into()),
    ("iss_in_upper_case", |d| d.claims["iss"] = "SHOP".into()),
    ("aud_missing", |d| remove(&mut d.claims, "aud")),
    ("aud_of_another", |d| {
        d.claims["aud"] = "https://other.example".into()
    }),
    ("aud_is_a_list", |d| d.claims["aud"] = json!([SERVICE])),
    ("aud_with_slash", |d| {
        d.claims["aud"] = format!("{SERVICE}/").into()
    }),
    ("jti_missing", |d| remove(&mut d.claims, "jti")),
    ("jti_empty", |d| d.claims["jti"] = "".into()),
    ("jti_too_long", |d| d.claims["jti"] = "j".repeat(129).into()),
    ("jti_is_a_number", |d| d.claims["jti"] = 7.into()),
    ("jti_with_zero_byte", |d| d.claims["jti"] = "a\0b".into()),
    ("op_missing", |d| remove(&mut d.claims, "op")),
    ("op_is_a_list", |d| {
        d.claims["op"] = json!(["GET", "/v1/events"])
    }),
    ("exp_missing", |d| remove(&mut d.claims, "exp")),
    ("iat_missing", |d| remove(&mut d.claims, "iat")),
    ("lapsed", |d| shift(d, -121)),
    ("lapsed_this_second", |d| shift(d, -120)),
    ("old", |d| shift(d, -86_400)),
    ("from_the_future", |d| shift(d, 61)),
    ("lives_121_seconds", |d| {
        d.claims["iat"] = (number(d, "iat") - 1).into()
    }),
    ("lives_no_time", |d| {
        d.claims["iat"] = d.claims["exp"].clone()
    }),
    ("lives_backwards", |d| {
        d.claims["iat"] = (number(d, "exp") + 10).into()
    }),
    ("exp_is_a_text", |d| {
        d.claims["exp"] = number(d, "exp").to_string().into()
    }),
    ("exp_with_a_fraction", |d| {
        d.texts[2] = |text| text.replacen("\"exp\":", "\"exp\":0.5e1", 1);
    }),
    ("exp_huge", |d| {
        d.texts[2] = |text| text.replacen("\"exp\":", "\"exp\":99999999999999999999", 1);
    }),
    ("nbf", |d| d.claims["nbf"] = 1.into()),
    ("unknown_claim", |d| d.claims["admin"] = true.into()),
    ("claim_twice", |d| {
        d.texts[2] = |text| text.replacen('{', r#"{"iss":"shop","#, 1);
    }),
    ("body_member_twice", |d| {
        d.claims["req"] = json!({"account": ACCOUNT});
        d.texts[2] = |text| text.replacen("{\"account\"", "{\"account\":\"b\",\"account\"", 1);
    }),
    ("body_is_deep", |d| {
        d.claims["req"] = "x".into();
        d.texts[2] = |text| {
            let deep = format!("{}{}", "{\"a\":".repeat(4_000), "}".repeat(4_000));
            text.replace(r#""x""#, &deep)
        };
    }),
    ("claims_are_a_list", |d| {
        d.texts[2] = |text| format!("[{text}]")
    }),
    ("claims_are_no_utf8", |d| {
        d.signed = |text| with_part(&text, 1, &b64([0x22, 0xff, 0x22]))
    }),
    ("claims_are_empty", |d| d.texts[2] = |_| String::new()),
];

fn remove(object: &mut Value, member: &str) {
    object.as_object_mut().unwrap().remove(member).unwrap();
}

fn set_point(draft: &mut Draft, x: [u8; 32], y: [u8; 32]) {
    draft.outer["epk"]["x"] = b64(x).into();
    draft.outer["epk"]["y"] = b64(y).into();
}

fn number(draft: &Draft, claim: &str) -> i64 {
    draft.claims[claim].as_i64().unwrap()
}

fn shift(draft: &mut Draft, seconds: i64) {
    for claim in ["iat", "exp"] {
        draft.claims[claim] = (number(draft, claim) + seconds).into();
    }
}

fn cases() -> Vec<Case> {
    [OUTER, EPHEMERAL, WHOLE, INNER, CLAIMS].concat()
}

#[tokio::test]
async fn every_hostile_message_gets_the_same_answer_and_leaves_nothing() {
    let world = World::new().await;
    let draft = Draft::new(&world).await;
    let jti = draft.claims["jti"].clone();
    assert!(cases().len() >= 120, "{}", cases().len());
    let mut answers = BTreeSet::new();
    for (name, change) in cases() {
        let mut draft = Draft::new(&world).await;
        draft.claims["jti"] = jti.clone();
        change(&mut draft);
        let (status, kind, body) = world.post(draft.message()).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{name}: {body}");
        assert_eq!(kind, "application/problem+json", "{name}");
        answers.insert(body);
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    // No judge without a good message: the same, unchanged, is taken, and only once.
    let good = draft.message();
    assert_eq!(world.post(good.clone()).await.0, StatusCode::OK);
    let (status, _, body) = world.post(good).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(answers.contains(&body));
    assert_eq!(world.count_payments().await, 0);
}

#[tokio::test]
async fn names_of_cases_are_unique() {
    let names: BTreeSet<&str> = cases().iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), cases().len());
}

/// The edges of what is taken: each of these is good.
#[tokio::test]
async fn messages_at_the_edge_are_taken() {
    let world = World::new().await;
    let edges: &[Case] = &[
        ("without_outer_typ", |d| remove(&mut d.outer, "typ")),
        ("without_inner_typ", |d| remove(&mut d.inner, "typ")),
        ("about_to_lapse", |d| shift(d, -119)),
        ("a_minute_ahead", |d| shift(d, 60)),
        ("longest_jti", |d| d.claims["jti"] = "j".repeat(128).into()),
        ("parties_left_empty", |d| {
            d.outer["apu"] = "".into();
            d.outer["apv"] = "".into();
        }),
    ];
    for (name, change) in edges {
        let mut draft = Draft::new(&world).await;
        change(&mut draft);
        let (status, kind, body) = world.post(draft.message()).await;
        assert_eq!(status, StatusCode::OK, "{name}: {body}");
        assert_eq!(kind, "application/jose");
    }
}

/// Single-use in another process on the same store too, and for as long as a message could be
/// taken; a `jti` belongs to its client.
#[tokio::test]
async fn a_replay_is_refused_by_every_process_until_it_is_stale() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("cardless.db").display());
    let open = || {
        let threads = cardless::store::Threads::Caller;
        std::sync::Arc::new(cardless::store::SqliteStore::open(&url, threads).unwrap())
    };
    let keys = cardless::vault::KeyRing::generate(&cardless_contract::SystemEntropy).unwrap();
    let first = World::new().await;
    let one = World::on(open(), &keys, first.clock.clone());
    let other = World::on(open(), &keys, first.clock.clone());
    let pair = crate::world::public("sign");
    let set = json!({"keys": [pair, crate::world::public("receive")]}).to_string();
    let role = cardless::gateway::Role::Billing;
    one.gateway
        .add_sealed_client(NAME, role, &set)
        .await
        .unwrap();

    let message = Draft::new(&one).await.message();
    assert_eq!(one.post(message.clone()).await.0, StatusCode::OK);
    for world in [&other, &one] {
        let (status, _, _) = world.post(message.clone()).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
    for seconds in [1, 60, 58, 1, 600, 86_400] {
        first.clock.forward(Duration::from_secs(seconds));
        // Others come, at which what has lapsed is forgotten.
        let another = Draft::new(&other).await.message();
        assert_eq!(other.post(another).await.0, StatusCode::OK);
        let (status, _, _) = other.post(message.clone()).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{seconds}");
    }
}

/// A revoked key, a revoked client, and a client that is not a sealed one.
#[tokio::test]
async fn what_is_revoked_counts_no_longer() {
    let world = World::new().await;
    let send = async || world.post(Draft::new(&world).await.message()).await.0;
    assert_eq!(send().await, StatusCode::OK);
    world.gateway.revoke_client_key(NAME, "sign").await.unwrap();
    assert_eq!(send().await, StatusCode::UNAUTHORIZED);

    let world = World::new().await;
    let send = async || world.post(Draft::new(&world).await.message()).await.0;
    assert_eq!(send().await, StatusCode::OK);
    world
        .gateway
        .revoke_client_key(NAME, "receive")
        .await
        .unwrap();
    assert_eq!(
        send().await,
        StatusCode::UNAUTHORIZED,
        "nowhere to answer to"
    );

    let world = World::new().await;
    let send = async || world.post(Draft::new(&world).await.message()).await.0;
    world.gateway.revoke_client(NAME).await.unwrap();
    assert_eq!(send().await, StatusCode::UNAUTHORIZED);
}
