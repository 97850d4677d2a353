use std::fmt;

use cardless_contract::Secrets;
use cardless_transport::{Hosts, HostsError};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Deserializer, de};

/// The table `[providers.paypal]`.
///
/// An unknown or missing setting is an error that names it. `Debug` shows no secret.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Which of PayPal's two worlds.
    pub environment: Environment,
    /// Overrides the API's address, for the sandbox of this project.
    #[serde(default)]
    pub base_url: Option<String>,
    /// The REST app's client id.
    pub client_id: String,
    /// The REST app's secret; during a rotation both, the one in use first.
    pub client_secret: Secrets,
    /// The id that PayPal gave to our webhook; during a change both.
    #[serde(deserialize_with = "one_or_more")]
    pub webhook_id: Vec<String>,
    /// What a method becomes at PayPal when it is linked. There is no default: the wrong kind charges
    /// nothing, and Switzerland is not on PayPal's list for `vault_v3` (`providers/paypal.md` §1). A
    /// method that is linked is charged and revoked by its own kind, whatever is set.
    pub token_kind: TokenKind,
    /// When the token is sent.
    #[serde(default)]
    pub order_flow: OrderFlow,
    /// The business model that customers agree to; the same at setup and at every charge.
    #[serde(default)]
    pub usage_pattern: Option<UsagePattern>,
    /// The name that PayPal's pages show, at most [`Config::MAX_BRAND_BYTES`] bytes.
    #[serde(default)]
    pub brand: Option<String>,
    /// What a customer reads while agreeing, at most [`Config::MAX_DESCRIPTION_BYTES`] bytes of
    /// letters, digits, spaces and `_'-.,:;!?"`.
    #[serde(default)]
    pub description: Option<String>,
    /// Further intermediate certificates for webhooks, as PEM. They can't widen whom we trust:
    /// PayPal's certificate file may lack the intermediate (`providers/paypal.md` §8.4).
    #[serde(default)]
    pub webhook_intermediates: Option<String>,
    /// Further trust roots for webhooks, as PEM; only for a loopback `base_url` outside of `live`.
    #[serde(default)]
    pub webhook_roots: Option<String>,
}

/// PayPal's two worlds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Test accounts.
    Sandbox,
    /// Real money.
    Live,
}

/// What a linked method is at PayPal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// A payment token of Payment Method Tokens v3.
    VaultV3,
    /// A billing agreement (v1, limited release).
    BillingAgreement,
}

impl TokenKind {
    /// The word in the settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VaultV3 => "vault_v3",
            Self::BillingAgreement => "billing_agreement",
        }
    }
}

/// When the token is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderFlow {
    /// With the capture or authorize call, after the order's id is stored.
    #[default]
    TwoCalls,
    /// With the order's creation, which then holds the amount.
    OneCall,
}

macro_rules! usage_patterns {
    ($($(#[$doc:meta])* $name:ident = $word:literal),* $(,)?) => {
        /// The business model that a customer agrees to (`providers/paypal.md` §6.3).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
        #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
        pub enum UsagePattern {
            $($(#[$doc])* $name),*
        }

        impl UsagePattern {
            /// PayPal's word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word),* }
            }
        }
    };
}

usage_patterns! {
    /// Pay on demand.
    Immediate = "IMMEDIATE",
    /// Pay after use.
    Deferred = "DEFERRED",
    /// Fixed interval, paid before.
    RecurringPrepaid = "RECURRING_PREPAID",
    /// Fixed interval, paid after.
    RecurringPostpaid = "RECURRING_POSTPAID",
    /// Fixed amount and interval, paid before.
    SubscriptionPrepaid = "SUBSCRIPTION_PREPAID",
    /// Fixed amount and interval, paid after.
    SubscriptionPostpaid = "SUBSCRIPTION_POSTPAID",
    /// No fixed interval, paid before.
    UnscheduledPrepaid = "UNSCHEDULED_PREPAID",
    /// No fixed interval, paid after.
    UnscheduledPostpaid = "UNSCHEDULED_POSTPAID",
    /// At a threshold, paid before.
    ThresholdPrepaid = "THRESHOLD_PREPAID",
    /// At a threshold, paid after.
    ThresholdPostpaid = "THRESHOLD_POSTPAID",
    /// In instalments, paid before.
    InstallmentPrepaid = "INSTALLMENT_PREPAID",
    /// In instalments, paid after.
    InstallmentPostpaid = "INSTALLMENT_POSTPAID",
}

/// Why settings are not usable. The message names the setting and quotes no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// `base_url` is no address that calls may go to.
    #[error("base_url: {0}")]
    BaseUrl(HostsError),
    /// `base_url` is on a host that is not PayPal's, or not of this environment.
    #[error("base_url: not a host of this environment; leave it out, or give a loopback address")]
    OtherHost,
    /// A setting is empty or too long, or has characters that PayPal does not take.
    #[error("{0}: empty, too long, or with characters that PayPal does not take")]
    Text(&'static str),
    /// A setting is no list of certificates in PEM.
    #[error("{0}: not one or more certificates in PEM")]
    Certificates(&'static str),
    /// Trust roots of one's own, elsewhere than on loopback.
    #[error(
        "webhook_roots: accepted only with a loopback base_url and an environment other than \"live\""
    )]
    RootsRefused,
}

impl Config {
    /// The longest `brand`.
    pub const MAX_BRAND_BYTES: usize = 127;
    /// The longest `description`.
    pub const MAX_DESCRIPTION_BYTES: usize = 128;
    /// The longest `client_id` and `webhook_id`.
    pub const MAX_ID_BYTES: usize = 128;
    /// The most live webhook ids.
    pub const MAX_WEBHOOK_IDS: usize = 8;

    /// Checks everything that types alone don't, and says where calls may go.
    pub(crate) fn hosts(&self) -> Result<Hosts, ConfigError> {
        let base = self
            .base_url
            .as_deref()
            .unwrap_or_else(|| self.environment.base_url());
        let hosts = Hosts::new(base, self.environment.hosts()).map_err(ConfigError::BaseUrl)?;
        if !hosts.base_is_one_of(self.environment.hosts()) {
            return Err(ConfigError::OtherHost);
        }
        if self.webhook_roots.is_some()
            && (!hosts.is_loopback() || self.environment == Environment::Live)
        {
            return Err(ConfigError::RootsRefused);
        }
        self.check_texts()?;
        Ok(hosts)
    }

    /// The extra intermediates.
    pub(crate) fn intermediates(&self) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
        certificates(
            "webhook_intermediates",
            self.webhook_intermediates.as_deref(),
        )
    }

    /// The extra roots.
    pub(crate) fn roots(&self) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
        certificates("webhook_roots", self.webhook_roots.as_deref())
    }

    fn check_texts(&self) -> Result<(), ConfigError> {
        let id = |name, text: &str| {
            let fits = (1..=Self::MAX_ID_BYTES).contains(&text.len())
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() && byte != b':');
            fits.then_some(()).ok_or(ConfigError::Text(name))
        };
        id("client_id", &self.client_id)?;
        if !(1..=Self::MAX_WEBHOOK_IDS).contains(&self.webhook_id.len()) {
            return Err(ConfigError::Text("webhook_id"));
        }
        for webhook_id in &self.webhook_id {
            id("webhook_id", webhook_id)?;
        }
        let fits = |text: &Option<String>, max| {
            text.as_ref()
                .is_none_or(|text| (1..=max).contains(&text.len()))
        };
        if !fits(&self.brand, Self::MAX_BRAND_BYTES) {
            return Err(ConfigError::Text("brand"));
        }
        let plain = |text: &String| text.bytes().all(is_description_byte);
        if !fits(&self.description, Self::MAX_DESCRIPTION_BYTES)
            || !self.description.as_ref().is_none_or(plain)
        {
            return Err(ConfigError::Text("description"));
        }
        Ok(())
    }
}

impl Environment {
    /// The API's address (`providers/paypal.md` §2).
    const fn base_url(self) -> &'static str {
        match self {
            Self::Sandbox => "https://api-m.sandbox.paypal.com",
            Self::Live => "https://api-m.paypal.com",
        }
    }

    /// Where calls, links and certificates may lie.
    const fn hosts(self) -> &'static [&'static str] {
        match self {
            Self::Sandbox => &[
                "api-m.sandbox.paypal.com",
                "api.sandbox.paypal.com",
                "www.sandbox.paypal.com",
                "sandbox.paypal.com",
            ],
            Self::Live => &["api-m.paypal.com", "api.paypal.com", "www.paypal.com"],
        }
    }

    /// Where a webhook's certificate may lie (`providers/paypal.md` §8.4).
    pub(crate) const fn certificate_hosts(self) -> &'static [&'static str] {
        match self {
            Self::Sandbox => &["api.sandbox.paypal.com", "api-m.sandbox.paypal.com"],
            Self::Live => &["api.paypal.com", "api-m.paypal.com"],
        }
    }

    /// The name that a webhook's certificate must hold.
    pub(crate) const fn certificate_name(self) -> &'static str {
        match self {
            Self::Sandbox => "messageverificationcerts.sandbox.paypal.com",
            Self::Live => "messageverificationcerts.paypal.com",
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sandbox => "sandbox",
            Self::Live => "live",
        })
    }
}

fn is_description_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_'-., :;!?\"".contains(&byte)
}

fn certificates(
    name: &'static str,
    pem: Option<&str>,
) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let Some(pem) = pem else {
        return Ok(Vec::new());
    };
    let list: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| ConfigError::Certificates(name))?;
    if list.is_empty() {
        Err(ConfigError::Certificates(name))
    } else {
        Ok(list)
    }
}

fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMore {
        One(String),
        More(Vec<String>),
    }
    match OneOrMore::deserialize(deserializer)
        .map_err(|_| de::Error::custom("expected text, or a list of texts"))?
    {
        OneOrMore::One(id) => Ok(vec![id]),
        OneOrMore::More(ids) => Ok(ids),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(change: &[(&str, serde_json::Value)]) -> serde_json::Value {
        let mut all = serde_json::json!({
            "environment": "sandbox", "client_id": "id", "client_secret": "canary-secret",
            "webhook_id": "WH1", "token_kind": "vault_v3",
        });
        for (name, value) in change {
            if value.is_null() {
                all.as_object_mut().unwrap().remove(*name);
            } else {
                all[name] = value.clone();
            }
        }
        all
    }

    fn config(change: &[(&str, serde_json::Value)]) -> Config {
        serde_json::from_value(settings(change)).unwrap()
    }

    #[test]
    fn debug_shows_no_secret() {
        assert!(!format!("{:?}", config(&[])).contains("canary"));
    }

    #[test]
    fn a_missing_or_unknown_setting_is_named() {
        for (name, value) in [
            ("token_kind", serde_json::Value::Null),
            ("tokenkind", "x".into()),
        ] {
            let error = serde_json::from_value::<Config>(settings(&[(name, value)])).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn own_roots_need_loopback_and_not_live() {
        let pem = ("webhook_roots", serde_json::Value::from("-"));
        let loopback = ("base_url", serde_json::Value::from("http://127.0.0.1:9101"));
        let live = ("environment", serde_json::Value::from("live"));
        assert_eq!(
            config(std::slice::from_ref(&pem)).hosts().unwrap_err(),
            ConfigError::RootsRefused
        );
        let refused = config(&[pem.clone(), loopback.clone(), live])
            .hosts()
            .unwrap_err();
        assert!(refused.to_string().contains("webhook_roots"), "{refused}");
        assert!(config(&[pem.clone(), loopback.clone()]).hosts().is_ok());
        assert_eq!(
            config(&[pem, loopback]).roots().unwrap_err(),
            ConfigError::Certificates("webhook_roots")
        );
    }

    #[test]
    fn a_base_url_elsewhere_is_https() {
        for bad in [
            "http://api.example",
            "https://user@api.example",
            "api.example",
        ] {
            assert!(matches!(
                config(&[("base_url", bad.into())]).hosts(),
                Err(ConfigError::BaseUrl(_))
            ));
        }
    }

    #[test]
    fn a_base_url_is_on_a_host_of_its_environment() {
        for bad in ["https://api.example", "https://api-m.paypal.com"] {
            let refused = config(&[("base_url", bad.into())]).hosts();
            assert_eq!(refused.err(), Some(ConfigError::OtherHost), "{bad}");
        }
    }

    #[test]
    fn usage_patterns_are_paypals_words() {
        let all = config(&[("usage_pattern", "UNSCHEDULED_POSTPAID".into())]);
        assert_eq!(
            all.usage_pattern.map(UsagePattern::as_str),
            Some("UNSCHEDULED_POSTPAID")
        );
    }
}
