//! Tokens and their versions, and the webhook settings of the space.

use serde::Deserialize;

use super::json::Json;
use super::model::{Listener, Token, TokenVersion, WebhookUrl};
use super::webhook::{Entity, Event};
use super::{Answer, Fault, PostFinance, Reply, body, found, next_id, number, one_of};
use crate::dialect::{Call, World};

const STATE: &[&str] = &["CREATE", "ACTIVE", "INACTIVE", "DELETING", "DELETED"];

/// The lengths of a webhook address (§4.1).
const URL_CHARS: std::ops::RangeInclusive<usize> = 9..=500;

/// `TokenCreate` and `TokenUpdate`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenBody {
    version: Option<i64>,
    external_id: Option<String>,
    customer_id: Option<String>,
    token_reference: Option<String>,
    enabled_for_one_click_payment: Option<bool>,
    state: Option<String>,
}

/// The bodies of webhook addresses and listeners.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UrlBody {
    version: Option<i64>,
    name: Option<String>,
    url: Option<String>,
    state: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListenerBody {
    version: Option<i64>,
    name: Option<String>,
    url: Option<i64>,
    entity: Option<i64>,
    entity_states: Option<Vec<String>>,
    notify_every_change: Option<bool>,
    state: Option<String>,
}

impl PostFinance {
    pub(super) fn create_token(&mut self, call: &Call, world: &mut World<'_>) -> Answer {
        let body: TokenBody = body(call)?;
        let external_id = body
            .external_id
            .ok_or(Fault::invalid("externalId is required."))?;
        if let Some(first) = self
            .tokens
            .values()
            .find(|it| it.external_id == external_id)
        {
            return Ok(Reply::Json(201, first.show()));
        }
        let state = match one_of(body.state, STATE)?.as_deref() {
            Some("INACTIVE") => "INACTIVE",
            Some(_) | None => "ACTIVE",
        };
        let token = Token {
            id: next_id(world),
            version: 1,
            state,
            external_id,
            customer_id: body.customer_id,
            reference: body.token_reference,
            one_click: body.enabled_for_one_click_payment.unwrap_or(false),
            created: world.now,
        };
        self.events.push(Event {
            entity: Entity::Token,
            id: token.id,
            state,
        });
        let shown = token.show();
        self.tokens.insert(token.id, token);
        Ok(Reply::Json(201, shown))
    }

    pub(super) fn one_token(
        &mut self,
        method: &str,
        id: i64,
        rest: &[&str],
        call: &Call,
        world: &mut World<'_>,
    ) -> Answer {
        let token = self.tokens.get(&id).ok_or(Fault::not_found())?;
        match (method, rest) {
            ("GET", []) => Ok(Reply::Json(200, token.show())),
            ("PATCH", []) => self.update_token(id, call),
            ("DELETE", []) => self.delete_token(id),
            ("GET", ["active-version"]) => found(
                self.active_version(id)
                    .map(|version| self.show_version(version)),
            ),
            ("POST", ["create-transaction-for-token-update"]) => {
                self.existing(id)?;
                self.transaction_for_token(id, world)
            }
            _ => Err(Fault::not_found()),
        }
    }

    /// Refuses a token that no charge can use: unknown, not active, without an active version.
    pub(super) fn chargeable(&self, id: i64) -> Result<(), Fault> {
        let active = self.existing(id)?.state == "ACTIVE";
        if active && self.active_version(id).is_some() {
            Ok(())
        } else {
            Err(Fault::unprocessable("The token can't be charged."))
        }
    }

    /// Makes or renews the token of a transaction that asks for it.
    pub(super) fn tokenize(&mut self, transaction: i64, world: &mut World<'_>) {
        let Some(owner) = self.transactions.get(&transaction) else {
            return;
        };
        let forced = owner
            .tokenization
            .as_deref()
            .filter(|mode| mode.starts_with("FORCE"));
        let Some(mode) = forced else { return };
        let (mode, existing) = (mode.to_owned(), owner.token);
        let customer_id = owner.customer_id.clone();
        let token = match existing {
            Some(token) if mode == "FORCE_UPDATE" => token,
            Some(_) => return,
            None => self.new_token(transaction, customer_id, &mode, world),
        };
        self.renew(token, world);
        if let Some(owner) = self.transactions.get_mut(&transaction) {
            owner.token = Some(token);
        }
    }

    fn new_token(
        &mut self,
        transaction: i64,
        customer_id: Option<String>,
        mode: &str,
        world: &mut World<'_>,
    ) -> i64 {
        let token = Token {
            id: next_id(world),
            version: 1,
            state: "ACTIVE",
            external_id: format!("transaction-{transaction}"),
            customer_id,
            reference: None,
            one_click: mode == "FORCE_CREATION_WITH_ONE_CLICK_PAYMENT",
            created: world.now,
        };
        let id = token.id;
        self.tokens.insert(id, token);
        self.events.push(Event {
            entity: Entity::Token,
            id,
            state: "ACTIVE",
        });
        id
    }

    /// New credentials behind a token; the old ones are obsolete.
    fn renew(&mut self, token: i64, world: &mut World<'_>) {
        self.retire(token, world);
        let id = next_id(world);
        let created = world.now;
        let version = TokenVersion {
            id,
            token,
            state: "ACTIVE",
            created,
            obsoleted: None,
        };
        self.versions.insert(id, version);
        self.events.push(Event {
            entity: Entity::TokenVersion,
            id,
            state: "ACTIVE",
        });
    }

    fn retire(&mut self, token: i64, world: &World<'_>) {
        let active = |it: &&mut TokenVersion| it.token == token && it.state == "ACTIVE";
        for version in self.versions.values_mut().filter(active) {
            version.state = "OBSOLETE";
            version.obsoleted = Some(world.now);
            let (id, state) = (version.id, version.state);
            self.events.push(Event {
                entity: Entity::TokenVersion,
                id,
                state,
            });
        }
    }

    fn update_token(&mut self, id: i64, call: &Call) -> Answer {
        let body: TokenBody = body(call)?;
        self.existing(id)?;
        let token = self.tokens.get_mut(&id).ok_or(Fault::not_found())?;
        check_version(body.version, token.version)?;
        token.version += 1;
        token.one_click = body
            .enabled_for_one_click_payment
            .unwrap_or(token.one_click);
        if body.customer_id.is_some() {
            token.customer_id = body.customer_id;
        }
        if body.token_reference.is_some() {
            token.reference = body.token_reference;
        }
        Ok(Reply::Json(200, token.show()))
    }

    /// For good. The object can still be read; a second time it is not found (§2.5).
    fn delete_token(&mut self, id: i64) -> Answer {
        let token = self.tokens.get_mut(&id).ok_or(Fault::not_found())?;
        if token.state == "DELETED" {
            return Err(Fault::not_found());
        }
        token.state = "DELETED";
        token.version += 1;
        self.events.push(Event {
            entity: Entity::Token,
            id,
            state: "DELETED",
        });
        Ok(Reply::Empty)
    }

    fn existing(&self, id: i64) -> Result<&Token, Fault> {
        self.tokens
            .get(&id)
            .filter(|token| token.state != "DELETED")
            .ok_or(Fault::unprocessable("There is no such token."))
    }

    fn active_version(&self, token: i64) -> Option<&TokenVersion> {
        let deleted = self
            .tokens
            .get(&token)
            .is_none_or(|token| token.state == "DELETED");
        self.versions
            .values()
            .find(|version| !deleted && version.token == token && version.state == "ACTIVE")
    }

    pub(super) fn webhook_url(
        &mut self,
        method: &str,
        rest: &[&str],
        call: &Call,
        world: &mut World<'_>,
    ) -> Answer {
        match (method, rest) {
            ("GET", []) => self.search(&["webhooks", "urls"], call),
            ("POST", []) => self.create_url(body(call)?, world),
            ("GET", [id]) => found(self.urls.get(&number(id)?).map(WebhookUrl::show)),
            ("PATCH", [id]) => self.update_url(number(id)?, body(call)?),
            ("DELETE", [id]) => gone(self.urls.remove(&number(id)?)),
            _ => Err(Fault::not_found()),
        }
    }

    pub(super) fn listener(
        &mut self,
        method: &str,
        rest: &[&str],
        call: &Call,
        world: &mut World<'_>,
    ) -> Answer {
        match (method, rest) {
            ("GET", []) => self.search(&["webhooks", "listeners"], call),
            ("POST", []) => self.create_listener(body(call)?, world),
            ("GET", [id]) => found(self.shown_listener(number(id)?)),
            ("PATCH", [id]) => self.update_listener(number(id)?, body(call)?),
            ("DELETE", [id]) => gone(self.listeners.remove(&number(id)?)),
            _ => Err(Fault::not_found()),
        }
    }

    fn create_url(&mut self, body: UrlBody, world: &mut World<'_>) -> Answer {
        let address = body.url.ok_or(Fault::unprocessable("url is required."))?;
        check_url(&address)?;
        let url = WebhookUrl {
            id: next_id(world),
            version: 1,
            name: body.name.unwrap_or_default(),
            url: address,
            state: one_of(body.state, STATE)?.unwrap_or_else(active),
        };
        let shown = url.show();
        self.urls.insert(url.id, url);
        Ok(Reply::Json(201, shown))
    }

    fn update_url(&mut self, id: i64, body: UrlBody) -> Answer {
        let url = self.urls.get_mut(&id).ok_or(Fault::not_found())?;
        check_version(body.version, url.version)?;
        if let Some(address) = body.url {
            check_url(&address)?;
            url.url = address;
        }
        url.version += 1;
        url.name = body.name.unwrap_or_else(|| url.name.clone());
        url.state = one_of(body.state, STATE)?.unwrap_or_else(|| url.state.clone());
        Ok(Reply::Json(200, url.show()))
    }

    fn create_listener(&mut self, body: ListenerBody, world: &mut World<'_>) -> Answer {
        let (Some(url), Some(entity)) = (body.url, body.entity) else {
            return Err(Fault::invalid("url and entity are required."));
        };
        if !self.urls.contains_key(&url) {
            return Err(Fault::unprocessable("There is no such webhook URL."));
        }
        let listener = Listener {
            id: next_id(world),
            version: 1,
            name: body.name.unwrap_or_default(),
            url,
            entity,
            states: body.entity_states.unwrap_or_default(),
            every_change: body.notify_every_change.unwrap_or(false),
            state: one_of(body.state, STATE)?.unwrap_or_else(active),
        };
        let shown = self.show_listener(&listener);
        self.listeners.insert(listener.id, listener);
        Ok(Reply::Json(201, shown))
    }

    fn update_listener(&mut self, id: i64, body: ListenerBody) -> Answer {
        let listener = self.listeners.get_mut(&id).ok_or(Fault::not_found())?;
        check_version(body.version, listener.version)?;
        listener.version += 1;
        listener.name = body.name.unwrap_or_else(|| listener.name.clone());
        listener.state = one_of(body.state, STATE)?.unwrap_or_else(|| listener.state.clone());
        listener.every_change = body.notify_every_change.unwrap_or(listener.every_change);
        if let Some(states) = body.entity_states {
            listener.states = states;
        }
        found(self.shown_listener(id))
    }

    fn shown_listener(&self, id: i64) -> Option<Json> {
        self.listeners
            .get(&id)
            .map(|listener| self.show_listener(listener))
    }
}

fn active() -> String {
    "ACTIVE".to_owned()
}

fn gone<T>(removed: Option<T>) -> Answer {
    removed.map(|_| Reply::Empty).ok_or(Fault::not_found())
}

fn check_version(sent: Option<i64>, present: i64) -> Result<(), Fault> {
    match sent {
        Some(version) if version == present => Ok(()),
        Some(_) => Err(Fault::conflict()),
        None => Err(Fault::invalid("version is required.")),
    }
}

fn check_url(url: &str) -> Result<(), Fault> {
    let web = url.starts_with("https://") || url.starts_with("http://");
    if web && URL_CHARS.contains(&url.chars().count()) {
        Ok(())
    } else {
        Err(Fault::unprocessable(
            "url must be an address of 9 to 500 characters.",
        ))
    }
}
