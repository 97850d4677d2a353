//! Signed webhooks (`providers/postfinance.md` §4.2 and §4.3).

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cardless_contract::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use time::OffsetDateTime;
use time::format_description::FormatItem;
use time::macros::format_description;

use super::json::Object;
use super::{PostFinance, SPACE_ID, WEBHOOK_KEY_ID};
use crate::dialect::{OutgoingWebhook, World};

/// The private half of the test key; `material/` says nothing secret.
const PRIVATE_KEY: &[u8] = include_bytes!("material/webhook-key.pk8");

/// The listener that the sandbox has without being told.
const BUILT_IN_LISTENER: i64 = 1;

/// Not RFC 3339: the offset has no colon.
const TIMESTAMP: &[FormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]+0000");

/// An entity that listeners can be set on (`providers/postfinance.md` §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entity {
    Transaction,
    Completion,
    Void,
    Refund,
    Token,
    TokenVersion,
}

/// An object has entered a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) entity: Entity,
    pub(super) id: i64,
    pub(super) state: &'static str,
}

impl Entity {
    const fn id(self) -> i64 {
        match self {
            Self::Transaction => 1_472_041_829_003,
            Self::Completion => 1_472_041_831_364,
            Self::Void => 1_472_041_867_364,
            Self::Refund => 1_472_041_839_405,
            Self::Token => 1_472_041_806_455,
            Self::TokenVersion => 1_472_041_811_051,
        }
    }

    const fn technical_name(self) -> &'static str {
        match self {
            Self::Transaction => "Transaction",
            Self::Completion => "TransactionCompletion",
            Self::Void => "TransactionVoid",
            Self::Refund => "Refund",
            Self::Token => "Token",
            Self::TokenVersion => "TokenVersion",
        }
    }
}

impl PostFinance {
    /// Sends what has happened to the sandbox's address and to every listener that wants it.
    pub(super) fn deliver(&mut self, world: &mut World<'_>) {
        for event in std::mem::take(&mut self.events) {
            let event_id = world.next_id();
            let mut targets: Vec<(i64, String)> = self.listening(&event);
            if let Some(url) = world.webhook_url
                && !targets.iter().any(|(_, target)| target == url)
            {
                targets.push((BUILT_IN_LISTENER, url.to_owned()));
            }
            for (listener, url) in targets {
                let body = payload(&event, event_id, listener, world.now);
                if let Some(signature) = sign(&body) {
                    world.webhooks.push(OutgoingWebhook {
                        url,
                        headers: headers(signature),
                        body,
                    });
                }
            }
        }
    }

    fn listening(&self, event: &Event) -> Vec<(i64, String)> {
        let wants = |states: &[String]| states.iter().any(|state| state == event.state);
        self.listeners
            .values()
            .filter(|listener| listener.entity == event.entity.id() && listener.state == "ACTIVE")
            .filter(|listener| listener.every_change || wants(&listener.states))
            .filter_map(|listener| {
                let url = self
                    .urls
                    .get(&listener.url)
                    .filter(|url| url.state == "ACTIVE")?;
                Some((listener.id, url.url.clone()))
            })
            .collect()
    }
}

fn payload(event: &Event, event_id: u64, listener: i64, now: Timestamp) -> Bytes {
    let at = OffsetDateTime::from_unix_timestamp(now.seconds())
        .ok()
        .and_then(|at| at.format(TIMESTAMP).ok())
        .unwrap_or_default();
    let body = Object::new()
        .put("entityId", event.id)
        .put("eventId", i64::try_from(event_id).unwrap_or(i64::MAX))
        .put("listenerEntityId", event.entity.id())
        .put("listenerEntityTechnicalName", event.entity.technical_name())
        .put("spaceId", SPACE_ID)
        .put("state", event.state)
        .put("timestamp", at)
        .put("webhookListenerId", listener);
    Bytes::from(super::json::Json::from(body).to_text())
}

fn headers(signature: String) -> Vec<(String, String)> {
    vec![
        ("content-type".to_owned(), "application/json".to_owned()),
        ("x-signature".to_owned(), signature),
    ]
}

/// The header's value; `None` only if the system has no randomness.
fn sign(body: &[u8]) -> Option<String> {
    static KEY: OnceLock<Option<EcdsaKeyPair>> = OnceLock::new();
    let random = SystemRandom::new();
    let key = KEY.get_or_init(|| {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, PRIVATE_KEY, &random).ok()
    });
    let signature = STANDARD.encode(key.as_ref()?.sign(&random, body).ok()?);
    Some(format!(
        "algorithm=SHA256withECDSA, keyId={WEBHOOK_KEY_ID}, signature={signature}"
    ))
}
