//! Two processes of the gateway on one store, over the three adapters, over the sandbox.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cardless::gateway::{Gateway, RequestKey};
use cardless::message::LinkRequest;
use cardless::store::{SqliteStore, Store, Threads};
use cardless::vault::KeyRing;
use cardless_contract::{Clock, PaymentProvider, Timestamp};
use cardless_sandbox::{Addresses, Provider, Sandbox, print_settings};
use cardless_transport::{HttpClient, InProcessClient};

use crate::plan::PROVIDERS;
use crate::random::SeededEntropy;
use crate::switch::{Disk, Network, Switch};

/// How long a client waits for a stalled answer, in tokio's paused time.
const DEADLINE: Duration = Duration::from_secs(20);

/// The account that everything belongs to.
pub(crate) const ACCOUNT: &str = "acct-7";

/// When every schedule begins.
#[derive(Debug)]
struct Morning;

impl Clock for Morning {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_795_000_000)
    }
}

/// A process: it can die, and another one takes its place.
pub(crate) struct Process {
    pub(crate) gateway: Gateway,
    pub(crate) switch: Switch,
}

/// Everything that outlives a process.
pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) processes: [Process; 2],
    keys: String,
    settings: toml::Table,
    born: u64,
    seed: u64,
}

/// Anything that makes a schedule impossible to run; a bug of the simulation.
pub(crate) type Broken = Box<dyn std::error::Error + Send + Sync>;

impl World {
    pub(crate) fn new(seed: u64) -> Result<Self, Broken> {
        let sandbox = Sandbox::new(Arc::new(Morning));
        let settings: toml::Table = print_settings(&Addresses::default()).parse()?;
        let keys = KeyRing::generate(&SeededEntropy::new(seed))?.to_string();
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open("sqlite::memory:", Threads::Caller)?);
        let mut born = 0;
        let mut process = || {
            born += 1;
            start(&sandbox, &store, &settings, &keys, seed, born)
        };
        let processes = [process()?, process()?];
        Ok(Self {
            sandbox,
            store,
            processes,
            keys,
            settings,
            born,
            seed,
        })
    }

    /// Starts a process in the place of a dead one.
    pub(crate) fn restart(&mut self, index: usize) -> Result<(), Broken> {
        self.born += 1;
        let process = start(
            &self.sandbox,
            &self.store,
            &self.settings,
            &self.keys,
            self.seed,
            self.born,
        )?;
        if let Some(place) = self.processes.get_mut(index) {
            place.switch.die();
            *place = process;
        }
        Ok(())
    }

    pub(crate) fn process(&self, index: usize) -> &Process {
        let [first, second] = &self.processes;
        if index == 0 { first } else { second }
    }

    /// Links one method at each provider, without faults.
    pub(crate) async fn link_all(&self) -> Result<Vec<String>, Broken> {
        let mut methods = Vec::new();
        for provider in PROVIDERS {
            let gateway = &self.processes[0].gateway;
            let request = LinkRequest {
                account: ACCOUNT.to_owned(),
                provider: provider.to_owned(),
                return_url: "https://shop.example/back".to_owned(),
                language: None,
                amount: None,
                reference: None,
                capture: None,
            };
            let key = RequestKey::new("caller", format!("link-{provider}"))?;
            let setup = gateway.link(&key, &request).await?.body;
            let page = setup.redirect_url.ok_or("no page")?;
            self.decide(provider, &page, true).await?;
            let setup = gateway.complete_link(&setup.id).await?;
            methods.push(setup.payment_method.ok_or("not linked")?);
        }
        Ok(methods)
    }

    /// Presses a button on a hosted page; answers what follows `/return/`.
    pub(crate) async fn decide(
        &self,
        provider: &str,
        page: &str,
        approve: bool,
    ) -> Result<Option<String>, Broken> {
        let decision = if approve { "approve" } else { "decline" };
        let request = http::Request::builder()
            .method(http::Method::POST)
            .uri(page)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Bytes::from(format!("decision={decision}")))?;
        let client = self
            .sandbox
            .provider(provider_of(provider))
            .client(DEADLINE);
        let Ok(answer) = client.send(request).await else {
            return Ok(None);
        };
        let location = answer
            .headers()
            .get("location")
            .and_then(|value| value.to_str().ok());
        let back = location.and_then(|location| location.split_once("/return/"));
        Ok(back.map(|(_, state)| state.to_owned()))
    }
}

pub(crate) fn provider_of(name: &str) -> Provider {
    match name {
        "paypal" => Provider::PayPal,
        "postfinance" => Provider::PostFinance,
        _ => Provider::Aduno,
    }
}

fn start(
    sandbox: &Sandbox,
    store: &Arc<dyn Store>,
    settings: &toml::Table,
    keys: &str,
    seed: u64,
    born: u64,
) -> Result<Process, Broken> {
    let switch = Switch::new(seed ^ born.rotate_left(17));
    let clock: Arc<dyn Clock> = Arc::new(sandbox.clock());
    let client = |provider| -> Arc<dyn HttpClient> {
        let inner: InProcessClient = sandbox.provider(provider).client(DEADLINE);
        Arc::new(Network {
            switch: switch.clone(),
            client: Arc::new(inner),
        })
    };
    let disk = Disk {
        switch: switch.clone(),
        store: Arc::clone(store),
    };
    let mut builder = Gateway::builder()
        .store(Arc::new(disk))
        .keys(KeyRing::parse(keys)?)
        .clock(Arc::clone(&clock))
        .entropy(Arc::new(SeededEntropy::new(seed ^ born.rotate_left(41))));
    for name in PROVIDERS {
        let table = settings
            .get("providers")
            .and_then(|providers| providers.get(name))
            .ok_or("no settings")?
            .clone();
        let client = client(provider_of(name));
        let provider: Arc<dyn PaymentProvider> = match name {
            "paypal" => Arc::new(cardless_paypal::PayPal::new(
                table.try_into()?,
                client,
                clock.clone(),
            )?),
            "postfinance" => Arc::new(cardless_postfinance::PostFinance::new(
                table.try_into()?,
                client,
                clock.clone(),
            )?),
            _ => Arc::new(cardless_aduno::Aduno::new(
                table.try_into()?,
                client,
                clock.clone(),
            )?),
        };
        builder = builder.provider(provider);
    }
    Ok(Process {
        gateway: builder.build()?,
        switch,
    })
}
