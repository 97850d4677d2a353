//! Payment Method Tokens v3 and billing agreements v1.

use std::time::Duration;

use cardless_contract::Timestamp;
use http::Method;
use serde_json::{Value, json};

use super::orders::{go_on, put, set};
use super::reply::{self, Problem, Reply, link};
use super::{Ask, PayPal, Target, parameter};
use crate::dialect::{Call, Mode, World};
use crate::page::{self, Decision};

/// How long a setup token lives (3 days).
const SETUP_TOKEN_LIFE: Duration = Duration::from_secs(3 * 24 * 3600);
/// How long an agreement token lives (3 h).
const AGREEMENT_TOKEN_LIFE: Duration = Duration::from_secs(3 * 3600);
/// The most tokens on a page of the list.
const MAX_PAGE: usize = 5;

type Routed = Result<(Reply, Option<Target>), Problem>;

/// A setup on its way.
#[derive(Debug)]
pub(crate) struct SetupToken {
    id: String,
    status: &'static str,
    customer: Customer,
    return_url: Option<String>,
    cancel_url: Option<String>,
    until: Timestamp,
}

/// A saved wallet.
#[derive(Debug)]
pub(crate) struct VaultToken {
    id: String,
    customer: Customer,
}

#[derive(Debug, Clone)]
struct Customer {
    id: String,
    merchant_customer_id: Option<String>,
}

/// A billing agreement on its way.
#[derive(Debug)]
pub(crate) struct AgreementToken {
    id: String,
    approved: bool,
    /// The agreement that was made of it.
    agreement: Option<String>,
    return_url: Option<String>,
    cancel_url: Option<String>,
    until: Timestamp,
}

/// A billing agreement.
#[derive(Debug)]
pub(crate) struct Agreement {
    id: String,
    pub(crate) active: bool,
}

impl Customer {
    fn show(&self) -> Value {
        let mut shown = json!({"id": self.id});
        set(
            &mut shown,
            "merchant_customer_id",
            self.merchant_customer_id.as_deref(),
        );
        shown
    }
}

impl SetupToken {
    pub(crate) fn show(&self, base: &str) -> Value {
        let own = format!("{base}/v3/vault/setup-tokens/{}", self.id);
        let mut links = vec![link("self", &own, "GET")];
        if self.status == "PAYER_ACTION_REQUIRED" {
            let page = format!("{base}/agreements/approve?approval_session_id={}", self.id);
            links.push(link("approve", &page, "GET"));
        }
        if self.status == "APPROVED" {
            links.push(link(
                "confirm",
                &format!("{base}/v3/vault/payment-tokens"),
                "POST",
            ));
        }
        json!({
            "id": self.id, "status": self.status, "customer": self.customer.show(),
            "payment_source": {"paypal": {"usage_type": "MERCHANT"}}, "links": links,
        })
    }
}

impl VaultToken {
    pub(crate) fn show(&self, base: &str) -> Value {
        let own = format!("{base}/v3/vault/payment-tokens/{}", self.id);
        json!({
            "id": self.id, "customer": self.customer.show(),
            "payment_source": {"paypal": {
                "email_address": "buyer@sandbox.example", "payer_id": "QYR5Z8XDVJNXQ",
                "account_id": "QYR5Z8XDVJNXQ",
                "name": {"given_name": "Test", "surname": "Buyer"}}},
            "links": [link("self", &own, "GET"), link("delete", &own, "DELETE")],
        })
    }
}

impl AgreementToken {
    pub(crate) fn show(&self, base: &str) -> Value {
        let page = format!("{base}/agreements/approve?ba_token={}", self.id);
        let own = format!("{base}/v1/billing-agreements/agreement-tokens/{}", self.id);
        json!({"token_id": self.id,
            "links": [link("approval_url", &page, "POST"), link("self", &own, "POST")]})
    }
}

impl Agreement {
    pub(crate) fn show(&self) -> Value {
        json!({
            "id": self.id, "state": if self.active { "ACTIVE" } else { "CANCELED" },
            "payer": {"payer_info": {"email": "buyer@sandbox.example"}},
        })
    }
}

impl PayPal {
    pub(super) fn route_vault(
        &mut self,
        rest: &[&str],
        ask: &Ask<'_>,
        world: &mut World<'_>,
    ) -> Routed {
        let base = world.base;
        match (&ask.call.method, rest) {
            (&Method::POST, ["setup-tokens"]) => self.create_setup_token(ask, world),
            (&Method::GET, ["setup-tokens", id]) => {
                let token = self.setup_tokens.get(*id).ok_or(Problem::not_found())?;
                Ok((Reply::json(200, token.show(base)), None))
            }
            (&Method::POST, ["payment-tokens"]) => self.create_payment_token(ask, world),
            (&Method::GET, ["payment-tokens"]) => self.list_payment_tokens(ask, base),
            (&Method::GET, ["payment-tokens", id]) => {
                let token = self.vault.get(*id).ok_or(Problem::not_found())?;
                Ok((Reply::json(200, token.show(base)), None))
            }
            (&Method::DELETE, ["payment-tokens", id]) => self.delete_payment_token(id, world),
            _ => Err(Problem::not_found()),
        }
    }

    fn create_setup_token(&mut self, ask: &Ask<'_>, world: &mut World<'_>) -> Routed {
        if ask.call.mode == Mode::Decline {
            return Err(Problem::issue(403, "NOT_ENABLED_TO_VAULT_PAYMENT_SOURCE"));
        }
        if ask.body.pointer("/payment_source/paypal").is_none() {
            return Err(Problem::missing());
        }
        let context = |name: &str| {
            let pointer = format!("/payment_source/paypal/experience_context/{name}");
            ask.text(&pointer).map(str::to_owned)
        };
        if ask.text("/payment_source/paypal/usage_type").is_none() {
            return Err(Problem::missing());
        }
        let customer = Customer {
            id: ask
                .text("/customer/id")
                .map_or_else(|| reply::id("CU", world.next_id()), str::to_owned),
            merchant_customer_id: ask
                .text("/customer/merchant_customer_id")
                .map(str::to_owned),
        };
        let token = SetupToken {
            id: reply::id("SETUP", world.next_id()),
            status: "PAYER_ACTION_REQUIRED",
            customer,
            return_url: context("return_url"),
            cancel_url: context("cancel_url"),
            until: world.now.plus(SETUP_TOKEN_LIFE),
        };
        let id = token.id.clone();
        let shown = token.show(world.base);
        self.setup_tokens.insert(id.clone(), token);
        Ok((Reply::json(201, shown), Some(Target::SetupToken(id))))
    }

    fn create_payment_token(&mut self, ask: &Ask<'_>, world: &mut World<'_>) -> Routed {
        let id = ask
            .text("/payment_source/token/id")
            .ok_or(Problem::missing())?;
        let customer = match ask.text("/payment_source/token/type") {
            Some("SETUP_TOKEN") => self.convert_setup_token(id)?,
            Some("BILLING_AGREEMENT") => self.customer_of_agreement(id, world)?,
            Some(_) => return Err(Problem::issue(400, "INVALID_PARAMETER_VALUE")),
            None => return Err(Problem::missing()),
        };
        let token = VaultToken {
            id: reply::id("pt", world.next_id()),
            customer,
        };
        let id = token.id.clone();
        let shown = token.show(world.base);
        self.vault.insert(id.clone(), token);
        let event = "VAULT.PAYMENT-TOKEN.CREATED";
        self.emit(event, "payment_token", shown.clone(), world);
        Ok((Reply::json(201, shown), Some(Target::PaymentToken(id))))
    }

    fn convert_setup_token(&mut self, id: &str) -> Result<Customer, Problem> {
        let setup = self.setup_tokens.get_mut(id).ok_or(Problem::not_found())?;
        match setup.status {
            "APPROVED" => {
                setup.status = "VAULTED";
                Ok(setup.customer.clone())
            }
            "VAULTED" => Err(Problem::issue(422, "SETUP_TOKEN_ALREADY_TOKENIZED")),
            _ => Err(Problem::issue(422, "PAYER_ACTION_REQUIRED")),
        }
    }

    fn customer_of_agreement(&self, id: &str, world: &mut World<'_>) -> Result<Customer, Problem> {
        if !self
            .agreements
            .get(id)
            .is_some_and(|agreement| agreement.active)
        {
            return Err(Problem::issue(422, "BILLING_AGREEMENT_NOT_FOUND"));
        }
        Ok(Customer {
            id: reply::id("CU", world.next_id()),
            merchant_customer_id: None,
        })
    }

    fn list_payment_tokens(&self, ask: &Ask<'_>, base: &str) -> Routed {
        let customer = ask.parameter("customer_id").ok_or(Problem::missing())?;
        let number = |name, default: usize| {
            ask.parameter(name)
                .and_then(|text| text.parse().ok())
                .unwrap_or(default)
        };
        let size = number("page_size", MAX_PAGE).clamp(1, MAX_PAGE);
        let page = number("page", 1).max(1);
        let all: Vec<&VaultToken> = self
            .vault
            .values()
            .filter(|token| token.customer.id == customer)
            .collect();
        let skipped = page.saturating_sub(1).saturating_mul(size);
        let shown: Vec<Value> = all
            .iter()
            .skip(skipped)
            .take(size)
            .map(|token| token.show(base))
            .collect();
        let own = format!("{base}/v3/vault/payment-tokens?customer_id={customer}");
        let mut list = json!({
            "customer": {"id": customer}, "payment_tokens": shown,
            "links": [link("self", &own, "GET")],
        });
        if ask.parameter("total_required").as_deref() == Some("true") {
            put(&mut list, "total_items", all.len().into());
            put(&mut list, "total_pages", all.len().div_ceil(size).into());
        }
        Ok((Reply::json(200, list), None))
    }

    fn delete_payment_token(&mut self, id: &str, world: &mut World<'_>) -> Routed {
        if self.deleted.contains(id) {
            return Ok((Reply::Empty(204), None));
        }
        self.vault.remove(id).ok_or(Problem::not_found())?;
        self.deleted.insert(id.to_owned());
        self.emit(
            "VAULT.PAYMENT-TOKEN.DELETED",
            "payment_token",
            json!({"id": id}),
            world,
        );
        Ok((Reply::Empty(204), None))
    }

    pub(super) fn route_agreements(
        &mut self,
        rest: &[&str],
        ask: &Ask<'_>,
        world: &mut World<'_>,
    ) -> Routed {
        match (&ask.call.method, rest) {
            (&Method::POST, ["agreement-tokens"]) => self.create_agreement_token(ask, world),
            (&Method::POST, ["agreements"]) => self.create_agreement(ask, world),
            (&Method::GET, ["agreements", id]) => {
                let agreement = self.agreements.get(*id).ok_or(Problem::not_found())?;
                Ok((Reply::json(200, agreement.show()), None))
            }
            (&Method::POST, ["agreements", id, "cancel"]) => {
                let agreement = self.agreements.get_mut(*id).ok_or(Problem::not_found())?;
                if !agreement.active {
                    return Err(Problem::issue(422, "AGREEMENT_ALREADY_CANCELLED"));
                }
                agreement.active = false;
                Ok((Reply::Empty(204), None))
            }
            _ => Err(Problem::not_found()),
        }
    }

    fn create_agreement_token(&mut self, ask: &Ask<'_>, world: &mut World<'_>) -> Routed {
        if ask.call.mode == Mode::Decline {
            return Err(Problem::named(
                400,
                "REFUSED_MARK_REF_TXN_NOT_ENABLED",
                None,
            ));
        }
        if ask.text("/plan/type") != Some("MERCHANT_INITIATED_BILLING") {
            return Err(Problem::issue(400, "INVALID_PARAMETER_VALUE"));
        }
        let address = |name: &str| {
            ask.text(&format!("/plan/merchant_preferences/{name}"))
                .map(str::to_owned)
        };
        let token = AgreementToken {
            id: reply::id("BA-", world.next_id()),
            approved: false,
            agreement: None,
            return_url: address("return_url"),
            cancel_url: address("cancel_url"),
            until: world.now.plus(AGREEMENT_TOKEN_LIFE),
        };
        let id = token.id.clone();
        let shown = token.show(world.base);
        self.agreement_tokens.insert(id.clone(), token);
        Ok((Reply::json(201, shown), Some(Target::AgreementToken(id))))
    }

    fn create_agreement(&mut self, ask: &Ask<'_>, world: &mut World<'_>) -> Routed {
        let id = ask.text("/token_id").ok_or(Problem::missing())?;
        let token = self
            .agreement_tokens
            .get_mut(id)
            .ok_or(Problem::not_found())?;
        if !token.approved {
            return Err(Problem::issue(422, "PAYER_ACTION_REQUIRED"));
        }
        let first = token.agreement.is_none();
        let id = token
            .agreement
            .get_or_insert_with(|| reply::id("B-", world.next_id()))
            .clone();
        let agreement = self
            .agreements
            .entry(id.clone())
            .or_insert_with(|| Agreement {
                id: id.clone(),
                active: true,
            });
        let status = if first { 201 } else { 200 };
        Ok((
            Reply::json(status, agreement.show()),
            Some(Target::Agreement(id)),
        ))
    }

    /// The page where a customer agrees to be charged later: a setup token or an agreement.
    pub(super) fn approve_setup(&mut self, call: &Call, _world: &mut World<'_>) -> Reply {
        let session = parameter(&call.query, "approval_session_id");
        let agreement = parameter(&call.query, "ba_token");
        let id = session.or(agreement).unwrap_or_default();
        let known = self.setup_tokens.contains_key(&id) || self.agreement_tokens.contains_key(&id);
        if !known {
            return Reply::whole(page::html(404, "This session is not known.".to_owned()));
        }
        if call.method == Method::GET {
            let lines = [("Session", id.as_str())];
            return Reply::whole(page::decision_page(
                "PayPal sandbox: save for later",
                &lines,
            ));
        }
        let Some(decision) = Decision::from_form(&call.body) else {
            return Reply::whole(page::html(400, "A decision is missing.".to_owned()));
        };
        let approved = decision == Decision::Approve;
        let mut to = (None, None);
        if let Some(setup) = self.setup_tokens.get_mut(&id) {
            if approved && setup.status == "PAYER_ACTION_REQUIRED" {
                setup.status = "APPROVED";
            }
            to = (setup.return_url.clone(), setup.cancel_url.clone());
        } else if let Some(token) = self.agreement_tokens.get_mut(&id) {
            token.approved |= approved;
            to = (token.return_url.clone(), token.cancel_url.clone());
        }
        let name = if id.starts_with("BA-") {
            "ba_token"
        } else {
            "approval_session_id"
        };
        let to = if approved { to.0 } else { to.1 };
        Reply::whole(go_on(to.as_deref(), name, &id))
    }

    /// Forgets setups that nobody finished in time.
    pub(super) fn tick_vault(&mut self, now: Timestamp) {
        self.setup_tokens.retain(|_, token| now < token.until);
        self.agreement_tokens.retain(|_, token| now < token.until);
    }
}
