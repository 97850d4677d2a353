use cardless_contract::{Currency, Secrets};
use cardless_transport::Hosts;
use http::HeaderValue;
use ring::hmac;
use serde::Deserialize;
use url::Url;

use crate::auth;

/// The settings `[providers.aduno]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Which of the provider's two worlds.
    pub environment: Environment,
    /// Another host for the API; on loopback it is the sandbox.
    #[serde(default)]
    pub base_url: Option<String>,
    /// Another host for the payment page; by default the environment's, and the API's own if that
    /// is on loopback.
    #[serde(default)]
    pub page_url: Option<String>,
    /// Ten digits.
    pub merchant_id: String,
    /// The "server to server" password of the back office. Of several, the first is used; another
    /// one once the provider has refused that.
    pub password: Secrets,
    /// The key that webhooks are signed with, in hexadecimal (`sign2` where it is activated).
    /// A webhook that fits any of them is accepted.
    pub webhook_key: Secrets,
    /// The card brands of the acceptance contract; Visa and Mastercard by default.
    #[serde(default = "default_payment_methods")]
    pub payment_methods: Vec<String>,
    /// The currency that a registration without a payment names, since the provider requires one:
    /// any that the contract takes. No amount goes with it.
    #[serde(default = "default_registration_currency")]
    pub registration_currency: Currency,
}

/// Which of the provider's two worlds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    /// No real money.
    Sandbox,
    /// Real money.
    Live,
}

/// A setting that can't be used. Its text names the setting and never quotes the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct ConfigError {
    /// The setting's name, as `merchant_id`.
    pub setting: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// Settings that were checked.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) hosts: Hosts,
    /// The payment page's address, without a slash at the end.
    pub(crate) page: String,
    pub(crate) merchant_id: String,
    pub(crate) authorizations: Vec<HeaderValue>,
    pub(crate) webhook_keys: Vec<hmac::Key>,
    pub(crate) payment_methods: Vec<String>,
    pub(crate) registration_currency: Currency,
}

/// How many digits a merchant id has.
const MERCHANT_ID_DIGITS: usize = 10;

/// The shortest webhook key, in bytes.
const MIN_WEBHOOK_KEY_BYTES: usize = 16;

/// The brands that the `card` object of a request can stand for (`providers/aduno.md` §4).
const CARD_BRANDS: [&str; 8] = ["VIS", "ECA", "AMX", "DIN", "DIS", "JCB", "CUP", "MAU"];

impl Config {
    pub(crate) fn check(self) -> Result<Settings, ConfigError> {
        let base = self.base_url.as_deref().unwrap_or(self.environment.api());
        let page = page_address(&self, base)?;
        let page_host = page.host_str().unwrap_or_default();
        let hosts = Hosts::new(base, &[page_host]).map_err(|_| BASE_URL)?;
        if !hosts.base_is_one_of(&[self.environment.host()]) {
            return Err(BASE_URL);
        }
        let page_fits = hosts.is_loopback() || page_host == self.environment.page_host();
        if !page_fits || !hosts.allow(&page) {
            return Err(PAGE_URL);
        }
        check_merchant_id(&self.merchant_id)?;
        check_payment_methods(&self.payment_methods)?;
        let passwords = self.password.all();
        let authorizations = passwords.map(|password| auth::basic(&self.merchant_id, password));
        let authorizations = authorizations
            .collect::<Option<Vec<_>>>()
            .ok_or(ConfigError {
                setting: "password",
                problem: "can't be sent in a header",
            })?;
        Ok(Settings {
            hosts,
            page: page.as_str().trim_end_matches('/').to_owned(),
            authorizations,
            webhook_keys: webhook_keys(&self.webhook_key)?,
            merchant_id: self.merchant_id,
            payment_methods: self.payment_methods,
            registration_currency: self.registration_currency,
        })
    }
}

impl Environment {
    /// The API's address (`providers/aduno.md` §2).
    const fn api(self) -> &'static str {
        match self {
            Self::Sandbox => "https://api.sandbox.datatrans.com",
            Self::Live => "https://api.datatrans.com",
        }
    }

    /// The API's host, whatever `base_url` says.
    const fn host(self) -> &'static str {
        match self {
            Self::Sandbox => "api.sandbox.datatrans.com",
            Self::Live => "api.datatrans.com",
        }
    }

    /// The payment page's host.
    const fn page_host(self) -> &'static str {
        match self {
            Self::Sandbox => "pay.sandbox.datatrans.com",
            Self::Live => "pay.datatrans.com",
        }
    }

    /// The payment page's address.
    const fn page(self) -> &'static str {
        match self {
            Self::Sandbox => "https://pay.sandbox.datatrans.com",
            Self::Live => "https://pay.datatrans.com",
        }
    }
}

const BASE_URL: ConfigError = ConfigError {
    setting: "base_url",
    problem: "must be the environment's own address of the API (leave it out), or an address on \
              loopback",
};

const PAGE_URL: ConfigError = ConfigError {
    setting: "page_url",
    problem: "must be the environment's own payment page (leave it out), and on loopback if \
              base_url is, but only then",
};

fn page_address(config: &Config, base: &str) -> Result<Url, ConfigError> {
    let on_loopback = Hosts::new(base, &[]).map_err(|_| BASE_URL)?.is_loopback();
    let page = match config.page_url.as_deref() {
        Some(page) => page,
        None if on_loopback => base,
        None => config.environment.page(),
    };
    Hosts::new(page, &[])
        .map(|hosts| hosts.base().clone())
        .map_err(|_| PAGE_URL)
}

fn check_merchant_id(id: &str) -> Result<(), ConfigError> {
    if id.len() == MERCHANT_ID_DIGITS && id.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(());
    }
    Err(ConfigError {
        setting: "merchant_id",
        problem: "must be 10 digits",
    })
}

fn check_payment_methods(methods: &[String]) -> Result<(), ConfigError> {
    let known = |method: &String| CARD_BRANDS.contains(&method.as_str());
    if !methods.is_empty() && methods.len() <= CARD_BRANDS.len() && methods.iter().all(known) {
        return Ok(());
    }
    Err(ConfigError {
        setting: "payment_methods",
        problem: "must be card brands out of VIS, ECA, AMX, DIN, DIS, JCB, CUP and MAU",
    })
}

fn webhook_keys(secrets: &Secrets) -> Result<Vec<hmac::Key>, ConfigError> {
    secrets
        .all()
        .map(|text| {
            decode_hex(text)
                .filter(|key| key.len() >= MIN_WEBHOOK_KEY_BYTES)
                .map(|key| hmac::Key::new(hmac::HMAC_SHA256, &key))
        })
        .collect::<Option<Vec<_>>>()
        .ok_or(ConfigError {
            setting: "webhook_key",
            problem: "must be hexadecimal, of 16 bytes or more",
        })
}

/// Reads pairs of hexadecimal digits of either case.
pub(crate) fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let nibble = |byte: &u8| char::from(*byte).to_digit(16);
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(nibble(high)? * 16 + nibble(low)?).ok(),
            _ => None,
        })
        .collect()
}

fn default_payment_methods() -> Vec<String> {
    vec!["VIS".to_owned(), "ECA".to_owned()]
}

/// Every Swiss acceptance contract takes it, and no amount goes with it.
fn default_registration_currency() -> Currency {
    #[expect(clippy::expect_used, reason = "a constant of ISO 4217, held by a test")]
    Currency::from_code("CHF").expect("CHF is a currency")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn settings(change: impl FnOnce(&mut Value)) -> Result<Settings, String> {
        let mut value = json!({
            "environment": "sandbox",
            "merchant_id": "1100000000",
            "password": "canary-password",
            "webhook_key": ["000102030405060708090a0b0c0d0e0f", "FF0102030405060708090A0B0C0D0E0F"],
        });
        change(&mut value);
        let config: Config = serde_json::from_value(value).map_err(|error| error.to_string())?;
        assert!(!format!("{config:?}").contains("canary-password"));
        assert!(!format!("{config:?}").contains("00010203"));
        config.check().map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_those_of_the_environment() {
        let checked = settings(|_| {}).unwrap();
        assert_eq!(
            checked.hosts.base().as_str(),
            "https://api.sandbox.datatrans.com/"
        );
        assert_eq!(checked.page, "https://pay.sandbox.datatrans.com");
        assert_eq!(checked.payment_methods, ["VIS", "ECA"]);
        assert_eq!(checked.registration_currency.code(), "CHF");
        assert_eq!(checked.webhook_keys.len(), 2);
        assert!(!format!("{checked:?}").contains("canary"));
        let live = settings(|value| value["environment"] = json!("live")).unwrap();
        assert_eq!(live.hosts.base().as_str(), "https://api.datatrans.com/");
        assert_eq!(live.page, "https://pay.datatrans.com");
    }

    #[test]
    fn on_loopback_the_page_is_the_api() {
        let checked = settings(|value| value["base_url"] = json!("http://127.0.0.1:9103")).unwrap();
        assert_eq!(checked.page, "http://127.0.0.1:9103");
    }

    #[test]
    fn a_bad_setting_is_named_and_not_quoted() {
        for (setting, bad) in [
            ("environment", json!("canary")),
            ("base_url", json!("http://canary.example")),
            ("base_url", json!("canary")),
            ("base_url", json!("https://api.canary.example")),
            ("base_url", json!("https://api.datatrans.com")),
            ("page_url", json!("https://pay.canary.example")),
            ("page_url", json!("https://pay.canary.example:8443")),
            ("page_url", json!("http://127.0.0.1:1")),
            ("merchant_id", json!("canary")),
            ("merchant_id", json!("11000000001")),
            ("webhook_key", json!("canary")),
            ("webhook_key", json!("000102")),
            ("webhook_key", json!("000102030405060708090a0b0c0d0e0")),
            ("payment_methods", json!([])),
            ("payment_methods", json!(["canary"])),
            ("payment_methods", json!(["PAP"])),
        ] {
            let error = settings(|value| value[setting] = bad.clone()).unwrap_err();
            if setting != "environment" {
                assert!(error.starts_with(setting), "{error}");
                assert!(!error.contains("canary"), "{error}");
            }
        }
        assert!(
            settings(|value| value["surprise"] = json!(1))
                .unwrap_err()
                .contains("surprise")
        );
    }
}
