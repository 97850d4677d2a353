use cardless_contract::{Currency, Money, Secrets};
use cardless_transport::{Credentials, Hosts};
use serde::Deserialize;

use crate::auth::Signer;

/// Where PostFinance Checkout lies (`providers/postfinance.md` §1.1). Test and live share it.
const DEFAULT_BASE_URL: &str = "https://checkout.postfinance.ch/api/v2.0";

/// The currency of a registration if the settings name none: that of PostFinance's contracts.
const DEFAULT_REGISTRATION_CURRENCY: &str = "CHF";

/// What a line item is called if neither the settings nor the payment say.
const DEFAULT_LINE_ITEM_NAME: &str = "Payment";

/// The longest name of a line item, in characters (`LineItemCreate.name`).
pub(crate) const MAX_LINE_ITEM_NAME_CHARS: usize = 150;

/// How many payment method configurations the settings may list.
const MAX_ALLOWED_CONFIGURATIONS: usize = 100;

/// The settings of one PostFinance space, as `[providers.postfinance]` holds them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The API's address with its version, without a slash at the end.
    #[serde(default = "default_base_url")]
    pub base_url: String,
    /// The space that all objects belong to.
    pub space_id: i64,
    /// The application user's id.
    pub user_id: String,
    /// The application user's authentication key, base64. Of several, the first signs; another one
    /// once the provider has refused that.
    pub authentication_key: Secrets,
    /// What the space is used for. With `live`, a token or payment of the test environment is
    /// refused, and so is a loopback address.
    #[serde(default)]
    pub environment: Option<Environment>,
    /// `customersPresence` of a charge by the merchant; not sent if absent
    /// (`providers/postfinance.md` §2.4).
    #[serde(default)]
    pub customers_presence: Option<CustomersPresence>,
    /// The amount of a setup without a payment, in the currency's smallest unit. If it is above
    /// zero it is held, and released once the token is known.
    #[serde(default)]
    pub registration_amount: i64,
    /// The currency of a setup without a payment.
    #[serde(default = "default_registration_currency")]
    pub registration_currency: String,
    /// Restricts the payment methods of the payment page, by configuration id.
    #[serde(default)]
    pub allowed_payment_method_configurations: Option<Vec<i64>>,
    /// What a line item is called if the payment has no description: 1–150 characters.
    #[serde(default = "default_line_item_name")]
    pub line_item_name: String,
}

/// What a space is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Real money.
    Live,
    /// A space in simulation mode.
    Test,
    /// The sandbox of this project.
    Sandbox,
}

/// Where the customer is when a merchant charges (`CustomersPresence` of the API).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CustomersPresence {
    /// Mail or telephone order; needs a connector that allows it.
    NotPresent,
    /// The provider's own default.
    VirtualPresent,
    /// At the counter.
    PhysicalPresent,
}

/// A setting that can't be used. It names the setting and quotes no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct ConfigError {
    setting: &'static str,
    problem: &'static str,
}

impl ConfigError {
    pub(crate) const fn new(setting: &'static str, problem: &'static str) -> Self {
        Self { setting, problem }
    }

    /// The setting's name, as `space_id`.
    pub const fn setting(&self) -> &'static str {
        self.setting
    }
}

/// Checked settings, in the form in which they are used.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) space: i64,
    pub(crate) live: bool,
    pub(crate) customers_presence: Option<&'static str>,
    pub(crate) registration: Money,
    pub(crate) allowed_configurations: Option<Vec<i64>>,
    pub(crate) line_item_name: String,
}

/// The only host of the API (`providers/postfinance.md` §1.1).
const HOST: &str = "checkout.postfinance.ch";

impl Config {
    /// The hosts that calls and payers may be sent to: the API's own.
    pub(crate) fn hosts(&self) -> Result<Hosts, ConfigError> {
        let hosts = Hosts::new(&self.base_url, &[]).map_err(|_| {
            ConfigError::new(
                "base_url",
                "must be an https address (http only on loopback)",
            )
        })?;
        if !hosts.base_is_one_of(&[HOST]) {
            return Err(ConfigError::new(
                "base_url",
                "must be on checkout.postfinance.ch, or on loopback",
            ));
        }
        if hosts.is_loopback() && self.environment == Some(Environment::Live) {
            return Err(ConfigError::new(
                "base_url",
                "is loopback, and environment is live",
            ));
        }
        Ok(hosts)
    }

    /// Who signs requests: one for each live key.
    pub(crate) fn signers(&self) -> Result<Credentials<Signer>, ConfigError> {
        if self.user_id.is_empty() || !self.user_id.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ConfigError::new(
                "user_id",
                "must be the application user's number",
            ));
        }
        let mut signers = Vec::new();
        for key in self.authentication_key.all() {
            signers.push(Signer::new(&self.user_id, key)?);
        }
        Ok(Credentials::new(signers))
    }

    /// Everything else, checked.
    pub(crate) fn settings(&self) -> Result<Settings, ConfigError> {
        if self.space_id < 1 {
            return Err(ConfigError::new("space_id", "must be a number above zero"));
        }
        Ok(Settings {
            space: self.space_id,
            live: self.environment == Some(Environment::Live),
            customers_presence: self.customers_presence.map(CustomersPresence::as_str),
            registration: self.registration()?,
            allowed_configurations: self.allowed_configurations()?,
            line_item_name: self.checked_line_item_name()?,
        })
    }

    fn registration(&self) -> Result<Money, ConfigError> {
        let currency = Currency::from_code(&self.registration_currency).map_err(|_| {
            ConfigError::new("registration_currency", "is not a currency of ISO 4217")
        })?;
        Money::new(currency, self.registration_amount)
            .map_err(|_| ConfigError::new("registration_amount", "is out of range"))
    }

    fn allowed_configurations(&self) -> Result<Option<Vec<i64>>, ConfigError> {
        let fits = |list: &Vec<i64>| {
            (1..=MAX_ALLOWED_CONFIGURATIONS).contains(&list.len()) && list.iter().all(|id| *id > 0)
        };
        match &self.allowed_payment_method_configurations {
            Some(list) if !fits(list) => Err(ConfigError::new(
                "allowed_payment_method_configurations",
                "must list 1 to 100 ids above zero",
            )),
            list => Ok(list.clone()),
        }
    }

    fn checked_line_item_name(&self) -> Result<String, ConfigError> {
        let characters = self.line_item_name.chars().count();
        if (1..=MAX_LINE_ITEM_NAME_CHARS).contains(&characters) {
            Ok(self.line_item_name.clone())
        } else {
            Err(ConfigError::new(
                "line_item_name",
                "must have 1 to 150 characters",
            ))
        }
    }
}

impl CustomersPresence {
    const fn as_str(self) -> &'static str {
        match self {
            Self::NotPresent => "NOT_PRESENT",
            Self::VirtualPresent => "VIRTUAL_PRESENT",
            Self::PhysicalPresent => "PHYSICAL_PRESENT",
        }
    }
}

fn default_base_url() -> String {
    DEFAULT_BASE_URL.to_owned()
}

fn default_registration_currency() -> String {
    DEFAULT_REGISTRATION_CURRENCY.to_owned()
}

fn default_line_item_name() -> String {
    DEFAULT_LINE_ITEM_NAME.to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn settings(change: &[(&str, Value)]) -> serde_json::Result<Config> {
        let mut all = json!({
            "space_id": 405,
            "user_id": "512",
            "authentication_key": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        });
        for (name, value) in change {
            all[*name] = value.clone();
        }
        serde_json::from_value(all)
    }

    fn refused(name: &str, value: Value) -> &'static str {
        let config = settings(&[(name, value)]).unwrap();
        let error = config
            .hosts()
            .err()
            .or(config.signers().err())
            .or(config.settings().err());
        error.unwrap().setting()
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let config = settings(&[]).unwrap();
        assert_eq!(config.base_url, DEFAULT_BASE_URL);
        assert!(config.customers_presence.is_none());
        assert!(config.settings().unwrap().registration.is_zero());
        assert_eq!(
            config.settings().unwrap().registration.currency().code(),
            "CHF"
        );
    }

    #[test]
    fn the_api_is_on_its_own_host_or_on_loopback() {
        for bad in [
            "https://app-wallee.com/api/v2.0",
            "https://checkout.postfinance.ch.evil.example/api/v2.0",
        ] {
            assert_eq!(refused("base_url", json!(bad)), "base_url", "{bad}");
        }
    }

    #[test]
    fn a_bad_setting_is_named() {
        for (name, value) in [
            ("base_url", json!("http://checkout.postfinance.ch/api/v2.0")),
            ("space_id", json!(0)),
            ("user_id", json!("user")),
            ("authentication_key", json!("canary!")),
            ("authentication_key", json!(["AAECAw==", "canary!"])),
            ("registration_amount", json!(-1)),
            ("registration_currency", json!("XXX")),
            ("allowed_payment_method_configurations", json!([])),
            ("line_item_name", json!("")),
        ] {
            assert_eq!(refused(name, value), name);
        }
    }

    #[test]
    fn live_is_never_on_loopback() {
        let config = settings(&[
            ("base_url", json!("http://127.0.0.1:9102/api/v2.0")),
            ("environment", json!("live")),
        ]);
        assert_eq!(config.unwrap().hosts().unwrap_err().setting(), "base_url");
    }

    #[test]
    fn an_unknown_setting_is_refused() {
        let error = settings(&[("spaceid", json!(1))]).unwrap_err().to_string();
        assert!(error.contains("spaceid"), "{error}");
    }

    #[test]
    fn debug_shows_no_key() {
        let config = settings(&[("authentication_key", json!("Y2FuYXJ5"))]).unwrap();
        let signers = config.signers().unwrap();
        let signer = signers.in_turn().next().unwrap().credential();
        for text in [format!("{config:?}"), format!("{signer:?}")] {
            assert!(
                !text.contains("Y2FuYXJ5") && !text.contains("canary"),
                "{text}"
            );
        }
    }
}
