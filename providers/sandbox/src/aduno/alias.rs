use std::collections::BTreeMap;

use bytes::Bytes;
use cardless_contract::Timestamp;
use serde_json::{Value, json};

use crate::dialect::World;

use super::fields::Fields;
use super::{Aduno, Answer, Refused, json_answer, no_content};

/// A card as the sandbox knows it: what stands in for it, and never its number.
#[derive(Debug, Clone)]
pub(super) struct CardAlias {
    pub(super) method: &'static str,
    /// Refuses amounts as the provider's test cards with limits do.
    pub(super) limited: bool,
    /// Shown by the alias once it was written there with PATCH.
    expiry: Option<(String, String)>,
    created: Timestamp,
}

/// How many characters an alias has.
const ALIAS_CHARACTERS: usize = 32;

/// The expiry date of every card that is registered here: beyond any clock.
pub(super) const EXPIRY: (&str, &str) = ("12", "99");

/// Aliases that the provider has published for its demo merchant (`providers/aduno.md` §13).
const PUBLISHED: [(&str, &str, bool); 6] = [
    ("AAABcH0Bq92s3kgAESIAAbGj5NIsAHWC", "VIS", true),
    ("AAABcH0BrFms3kgAESIAAfHfAmyjACIJ", "VIS", false),
    ("AAABcH0BrE-s3kgAESIAAWdCRyMPAGvp", "VIS", false),
    ("AAABcH0BrGOs3kgAESIAAc6gFVXTAGTv", "ECA", true),
    ("AAABcH0BrG2s3kgAESIAAbmn7rNZAC1l", "ECA", false),
    ("AAABcH0BrHes3kgAESIAAYJ5A6WzAFsz", "ECA", false),
];

const PATCH_MEMBERS: [&str; 5] = [
    "removePlain",
    "expiryMonth",
    "expiryYear",
    "cardholder",
    "createNetworkToken",
];

pub(super) fn published() -> BTreeMap<String, CardAlias> {
    PUBLISHED
        .into_iter()
        .map(|(alias, method, limited)| {
            let card = CardAlias {
                method,
                limited,
                expiry: Some((EXPIRY.0.to_owned(), EXPIRY.1.to_owned())),
                created: Timestamp::from_seconds(1_577_836_800),
            };
            (alias.to_owned(), card)
        })
        .collect()
}

impl Aduno {
    /// A fresh alias for the card that a customer has typed on the page.
    pub(super) fn new_alias(&mut self, world: &mut World<'_>) -> String {
        let alias = format!("7LHXscqwAAEAAAGQ{:016x}", world.next_id());
        let card = CardAlias {
            method: "VIS",
            limited: false,
            expiry: None,
            created: world.now,
        };
        self.aliases.insert(alias.clone(), card);
        alias
    }

    pub(super) fn alias_info(&self, alias: &str) -> Answer {
        check_shape(alias)?;
        let card = self.aliases.get(alias).ok_or_else(not_found)?;
        Ok(json_answer(200, &card.info(alias)))
    }

    pub(super) fn patch_alias(&mut self, alias: &str, body: &Bytes) -> Answer {
        check_shape(alias)?;
        let fields = Fields::read("patch", body, &PATCH_MEMBERS)?;
        let month = fields.two_digits("expiryMonth")?;
        let year = fields.two_digits("expiryYear")?;
        let card = self.aliases.get_mut(alias).ok_or_else(not_found)?;
        match (month, year) {
            (Some(month), Some(year)) if ("01"..="12").contains(&month) => {
                card.expiry = Some((month.to_owned(), year.to_owned()));
            }
            (None, None) => {}
            _ => return Err(Refused::new("INVALID_EXPIRATION", "invalid expiration")),
        }
        Ok(json_answer(200, &card.info(alias)))
    }

    pub(super) fn delete_alias(&mut self, alias: &str) -> Answer {
        check_shape(alias)?;
        self.aliases.remove(alias).ok_or_else(not_found)?;
        Ok(no_content())
    }

    pub(super) fn convert_alias(&mut self, body: &Bytes, world: &mut World<'_>) -> Answer {
        let known = ["type", "legacyAlias", "expiryMonth", "expiryYear"];
        let fields = Fields::read("convert", body, &known)?;
        fields.two_digits("expiryMonth")?;
        fields.two_digits("expiryYear")?;
        if fields.text("type")? != Some("CARD") {
            return Err(fields.invalid("type"));
        }
        if fields.text("legacyAlias")?.is_none_or(str::is_empty) {
            return Err(fields.invalid("legacyAlias"));
        }
        Ok(json_answer(201, &json!({"alias": self.new_alias(world)})))
    }
}

impl CardAlias {
    fn info(&self, alias: &str) -> Value {
        let mut card = json!({
            "panRemoved": false,
            "last4": self.last_four(),
            "cardInfo": card_info(),
        });
        if let (Some((month, year)), Value::Object(members)) = (&self.expiry, &mut card) {
            members.insert("expiryMonth".to_owned(), json!(month));
            members.insert("expiryYear".to_owned(), json!(year));
        }
        json!({
            "alias": alias,
            "fingerprint": FINGERPRINT,
            "type": "CARD",
            "masked": self.masked(),
            "dateCreated": self.created,
            "card": card,
        })
    }

    /// As the provider writes it; an adapter has to drop it.
    pub(super) fn masked(&self) -> &'static str {
        if self.method == "ECA" {
            "520000xxxxxx0007"
        } else {
            "424242xxxxxx4242"
        }
    }

    fn last_four(&self) -> &'static str {
        if self.method == "ECA" { "0007" } else { "4242" }
    }
}

/// A fingerprint of the documented shape; an adapter has to drop it.
pub(super) const FINGERPRINT: &str = "F-e5-sH1dWRS1onhDWSmmIgP";

pub(super) fn card_info() -> Value {
    json!({
        "brand": "VISA CREDIT",
        "type": "credit",
        "usage": "consumer",
        "country": "GB",
        "issuer": "DATATRANS",
    })
}

fn check_shape(alias: &str) -> Result<(), Refused> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if alias.len() == ALIAS_CHARACTERS && alias.bytes().all(allowed) {
        return Ok(());
    }
    Err(Refused::new("INVALID_ALIAS", "Invalid format"))
}

fn not_found() -> Refused {
    Refused::new("ALIAS_NOT_FOUND", "alias not found")
}
