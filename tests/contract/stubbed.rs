//! Adapters before their stubs, over real sockets on loopback.

use std::sync::Arc;
use std::time::Duration;

use cardless_contract::{PaymentProvider, SystemClock};
use cardless_testkit::cases::stub::StubFixture;
use cardless_testkit::stub::{self, Dialect, PayPalToken};
use cardless_transport::{ClientConfig, HttpClient, ReqwestClient};

use crate::adapters::Adapter;

pub(crate) struct Stubbed {
    adapter: Adapter,
    dialect: Arc<dyn Dialect>,
}

pub(crate) fn postfinance() -> Stubbed {
    Stubbed::new(Adapter::PostFinance, stub::PostFinance)
}

pub(crate) fn paypal_vault() -> Stubbed {
    Stubbed::new(Adapter::PayPalVault, stub::PayPal(PayPalToken::Vault))
}

pub(crate) fn paypal_agreement() -> Stubbed {
    Stubbed::new(
        Adapter::PayPalAgreement,
        stub::PayPal(PayPalToken::Agreement),
    )
}

pub(crate) fn paypal_one_call() -> Stubbed {
    Stubbed::new(Adapter::PayPalOneCall, stub::PayPalOneCall)
}

pub(crate) fn aduno() -> Stubbed {
    Stubbed::new(Adapter::Aduno, stub::Aduno)
}

impl Stubbed {
    fn new(adapter: Adapter, dialect: impl Dialect + 'static) -> Self {
        Self {
            adapter,
            dialect: Arc::new(dialect),
        }
    }
}

impl StubFixture for Stubbed {
    fn dialect(&self) -> Arc<dyn Dialect> {
        Arc::clone(&self.dialect)
    }

    fn provider(&self, base: &str, client: Arc<dyn HttpClient>) -> Box<dyn PaymentProvider> {
        self.adapter
            .build(base, client, Arc::new(SystemClock::default()))
    }

    fn client(&self, deadline: Duration) -> Arc<dyn HttpClient> {
        let config = ClientConfig {
            total_timeout: deadline,
            ..ClientConfig::default()
        };
        Arc::new(ReqwestClient::new(&config).unwrap())
    }
}
