//! The adapters under test, made from the settings that the sandbox prints.

use std::sync::Arc;

use cardless_aduno::Aduno;
use cardless_contract::{Clock, PaymentProvider};
use cardless_paypal::PayPal;
use cardless_postfinance::PostFinance;
use cardless_sandbox::{Addresses, Provider, print_settings};
use cardless_transport::HttpClient;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// One adapter, and at PayPal the kind of its token and the way it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Adapter {
    PostFinance,
    PayPalVault,
    PayPalAgreement,
    PayPalOneCall,
    Aduno,
}

impl Adapter {
    /// The sandbox's word for its provider.
    pub(crate) const fn provider(self) -> Provider {
        match self {
            Self::PostFinance => Provider::PostFinance,
            Self::PayPalVault | Self::PayPalAgreement | Self::PayPalOneCall => Provider::PayPal,
            Self::Aduno => Provider::Aduno,
        }
    }

    /// The adapter with the sandbox's credentials, before an API at `base` (scheme, host, port).
    pub(crate) fn build(
        self,
        base: &str,
        client: Arc<dyn HttpClient>,
        clock: Arc<dyn Clock>,
    ) -> Box<dyn PaymentProvider> {
        self.with(self.settings(base), client, clock)
    }

    /// The same with these settings in place of, or beside, the sandbox's.
    pub(crate) fn build_with(
        self,
        more: &Table,
        base: &str,
        client: Arc<dyn HttpClient>,
        clock: Arc<dyn Clock>,
    ) -> Box<dyn PaymentProvider> {
        let mut settings = self.settings(base);
        settings.extend(more.clone());
        self.with(settings, client, clock)
    }

    /// The same with credentials that nobody knows.
    pub(crate) fn build_stranger(
        self,
        base: &str,
        client: Arc<dyn HttpClient>,
        clock: Arc<dyn Clock>,
    ) -> Box<dyn PaymentProvider> {
        let mut settings = self.settings(base);
        let (name, value) = match self {
            Self::PostFinance => (
                "authentication_key",
                "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            ),
            Self::PayPalVault | Self::PayPalAgreement | Self::PayPalOneCall => {
                ("client_secret", "wrong")
            }
            Self::Aduno => ("password", "wrong"),
        };
        settings.insert(name.to_owned(), Value::String(value.to_owned()));
        self.with(settings, client, clock)
    }

    fn settings(self, base: &str) -> Table {
        let all: Table = print_settings(&Addresses::default()).parse().unwrap();
        let provider = self.provider().name();
        let table = all
            .get("providers")
            .and_then(|providers| providers.get(provider));
        let mut table = table.and_then(Value::as_table).unwrap().clone();
        let base = match self {
            Self::PostFinance => format!("{base}/api/v2.0"),
            Self::PayPalVault | Self::PayPalAgreement | Self::PayPalOneCall | Self::Aduno => {
                base.to_owned()
            }
        };
        table.insert("base_url".to_owned(), Value::String(base));
        if self == Self::PayPalAgreement {
            table.insert(
                "token_kind".to_owned(),
                Value::String("billing_agreement".to_owned()),
            );
        }
        if self == Self::PayPalOneCall {
            table.insert(
                "order_flow".to_owned(),
                Value::String("one_call".to_owned()),
            );
        }
        table
    }

    fn with(
        self,
        settings: Table,
        client: Arc<dyn HttpClient>,
        clock: Arc<dyn Clock>,
    ) -> Box<dyn PaymentProvider> {
        match self {
            Self::PostFinance => {
                Box::new(PostFinance::new(config(settings), client, clock).unwrap())
            }
            Self::PayPalVault | Self::PayPalAgreement | Self::PayPalOneCall => {
                Box::new(PayPal::new(config(settings), client, clock).unwrap())
            }
            Self::Aduno => Box::new(Aduno::new(config(settings), client, clock).unwrap()),
        }
    }
}

fn config<T: DeserializeOwned>(settings: Table) -> T {
    settings.try_into().unwrap()
}
