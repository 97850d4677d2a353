//! Two processes of the gateway on one store, over the three adapters, over the sandbox.

use std::sync::Arc;

use bytes::Bytes;
use cardless::gateway::{Gateway, RequestKey};
use cardless::message::LinkRequest;
use cardless::store::{SqliteStore, Store, Threads};
use cardless::vault::{KeyRing, Vault};
use cardless_contract::{Clock, PaymentProvider, Timestamp};
use cardless_sandbox::{Addresses, Deliver, Provider, Sandbox, WebhookRoute, print_settings};
use cardless_transport::{HttpClient, InProcessClient};

use crate::clock::{OffClock, TrueTime};
use crate::network::{DEADLINE, Network};
use crate::output::Output;
use crate::plan::{Decision, PROVIDERS};
use crate::random::SeededEntropy;
use crate::seam::Seam;
use crate::strike::Witness;
use crate::switch::{Befallen, Disk, Switch};
use crate::traits::Traits;

/// The accounts: one with much business, one with little, and one that has nothing.
pub(crate) const ACCOUNTS: [&str; 3] = ["canary-account-a", "canary-account-b", "canary-account-c"];

/// Where the sandbox's ids begin: PostFinance's tokens are ids, and must be long enough to be told
/// apart from other numbers.
const FIRST_ID: u64 = 7_351_406_000;

/// A process: it can die, and another one takes its place.
pub(crate) struct Process {
    pub(crate) gateway: Gateway,
    pub(crate) switch: Switch,
    /// The machine's, a little off.
    pub(crate) clock: OffClock,
}

/// Everything that outlives a process.
pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) seam: Seam,
    pub(crate) output: Output,
    pub(crate) processes: [Process; 2],
    /// The machine's clock.
    pub(crate) machine: OffClock,
    /// What has befallen the stores of processes that are gone.
    befallen: Befallen,
    keys: String,
    settings: toml::Table,
    /// PayPal is given the token with the order.
    pub(crate) one_call: bool,
    born: u64,
    seed: u64,
}

/// Anything that makes a schedule impossible to run; a bug of the simulation.
pub(crate) type Broken = Box<dyn std::error::Error + Send + Sync>;

/// What a process is made from.
struct Parts<'a> {
    sandbox: &'a Sandbox,
    machine: &'a OffClock,
    store: &'a Arc<dyn Store>,
    seam: &'a Seam,
    output: &'a Output,
    settings: &'a toml::Table,
    keys: &'a str,
    seed: u64,
    born: u64,
}

impl World {
    pub(crate) fn new(seed: u64, output: Output) -> Result<Self, Broken> {
        Self::with(seed, output, &Traits::PLAIN)
    }

    pub(crate) fn with(seed: u64, output: Output, traits: &Traits) -> Result<Self, Broken> {
        let sandbox = Sandbox::new(Arc::new(TrueTime::begin()))
            .with_first_id(FIRST_ID)
            .with_postfinance_open_for(traits.page_open_for);
        for name in PROVIDERS {
            sandbox.route_webhooks(&WebhookRoute {
                provider: provider_of(name),
                url: Some(format!("http://127.0.0.1:8080/webhooks/{name}")),
                deliver: Deliver::Now,
            });
        }
        let text = print_settings(&Addresses::default());
        let entropy = SeededEntropy::new(seed);
        let keys = KeyRing::generate(&entropy)?.to_string();
        output.secret_settings(&text);
        output.secret_settings(&keys);
        for account in ACCOUNTS {
            output.secret("an account's id", account);
        }
        let settings = traits.settings(text.parse()?);
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open("sqlite::memory:", Threads::Caller)?);
        let vault = Vault::new(KeyRing::parse(&keys)?, Arc::new(entropy));
        let machine = OffClock::new(Arc::new(sandbox.clock()));
        let seam = Seam::new(Arc::clone(&store), machine.clone(), vault);
        let mut born = 0;
        let mut process = || {
            born += 1;
            start(&Parts {
                sandbox: &sandbox,
                machine: &machine,
                store: &store,
                seam: &seam,
                output: &output,
                settings: &settings,
                keys: &keys,
                seed,
                born,
            })
        };
        let processes = [process()?, process()?];
        Ok(Self {
            sandbox,
            store,
            seam,
            output,
            processes,
            machine,
            befallen: Befallen::default(),
            keys,
            settings,
            one_call: traits.one_call,
            born,
            seed,
        })
    }

    /// Starts a process in the place of a dead one. Like `serve`, it looks at the clock first.
    pub(crate) async fn restart(&mut self, index: usize) -> Result<(), Broken> {
        self.born += 1;
        let process = start(&Parts {
            sandbox: &self.sandbox,
            machine: &self.machine,
            store: &self.store,
            seam: &self.seam,
            output: &self.output,
            settings: &self.settings,
            keys: &self.keys,
            seed: self.seed,
            born: self.born,
        })?;
        if let Some(place) = self.processes.get_mut(index) {
            place.switch.die();
            self.befallen.add(place.switch.befallen());
            *place = process;
        }
        Ok(self.process(index).gateway.look_at_clock().await?)
    }

    pub(crate) fn process(&self, index: usize) -> &Process {
        let [first, second] = &self.processes;
        if index == 0 { first } else { second }
    }

    /// True time.
    pub(crate) fn now(&self) -> Timestamp {
        self.sandbox.clock().now()
    }

    /// What has befallen the stores of all processes.
    pub(crate) fn befallen(&self) -> Befallen {
        let mut all = self.befallen;
        for process in &self.processes {
            all.add(process.switch.befallen());
        }
        all
    }

    /// Links methods without faults: for the first account one at each provider, for the second
    /// one. Answers the account's index and the handle of each.
    pub(crate) async fn link_all(&self) -> Result<Vec<(usize, String)>, Broken> {
        let second = PROVIDERS.into_iter().cycle();
        let skip = usize::try_from(self.seed % 3)?;
        let all = PROVIDERS.into_iter().map(|provider| (0, provider));
        let all = all.chain(second.skip(skip).take(1).map(|provider| (1, provider)));
        let mut methods = Vec::new();
        for (account, provider) in all {
            let method = self.link(account, provider).await?;
            methods.push((account, method));
        }
        Ok(methods)
    }

    async fn link(&self, account: usize, provider: &str) -> Result<String, Broken> {
        let gateway = &self.processes[0].gateway;
        let request = LinkRequest {
            account: account_of(account),
            provider: provider.to_owned(),
            return_url: "https://shop.example/back".to_owned(),
            language: None,
            amount: None,
            reference: None,
            capture: None,
        };
        let key = RequestKey::new("caller", format!("first-link-{account}-{provider}"))?;
        let setup = gateway.link(&key, &request).await?.body;
        let page = setup.redirect_url.ok_or("no page")?;
        self.decide(provider, &page, Decision::Approve).await?;
        let setup = gateway.complete_link(&setup.id).await?;
        Ok(setup.payment_method.ok_or("not linked")?)
    }

    /// Presses a button on a hosted page; answers what follows `/return/`.
    pub(crate) async fn decide(
        &self,
        provider: &str,
        page: &str,
        decision: Decision,
    ) -> Result<Option<String>, Broken> {
        self.output.secret("a hosted page's address", page);
        let decision = match decision {
            Decision::Approve => "approve",
            Decision::Decline => "decline",
            Decision::Abandon => "abandon",
        };
        let request = http::Request::builder()
            .method(http::Method::POST)
            .uri(page)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Bytes::from(format!("decision={decision}")))?;
        let client: InProcessClient = self
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

impl Befallen {
    fn add(&mut self, other: Self) {
        self.writes_failed += other.writes_failed;
        self.reads_failed += other.reads_failed;
        self.pauses += other.pauses;
    }
}

pub(crate) fn account_of(index: usize) -> String {
    ACCOUNTS
        .get(index)
        .copied()
        .unwrap_or(ACCOUNTS[0])
        .to_owned()
}

pub(crate) fn index_of(account: &str) -> usize {
    let found = ACCOUNTS.iter().position(|other| *other == account);
    found.unwrap_or_default()
}

pub(crate) fn provider_of(name: &str) -> Provider {
    match name {
        "paypal" => Provider::PayPal,
        "postfinance" => Provider::PostFinance,
        _ => Provider::Aduno,
    }
}

fn start(parts: &Parts<'_>) -> Result<Process, Broken> {
    let switch = Switch::new(parts.seed ^ parts.born.rotate_left(17));
    let process_clock = OffClock::new(Arc::new(parts.machine.clone()));
    let clock: Arc<dyn Clock> = Arc::new(process_clock.clone());
    let client = |provider| -> Arc<dyn HttpClient> {
        Arc::new(Network {
            switch: switch.clone(),
            seam: parts.seam.clone(),
            output: parts.output.clone(),
            provider: Witness {
                seam: parts.seam.clone(),
                sandbox: parts.sandbox.clone(),
                provider,
            },
        })
    };
    let disk = Disk {
        switch: switch.clone(),
        store: Arc::clone(parts.store),
        seam: parts.seam.clone(),
    };
    let entropy = SeededEntropy::new(parts.seed ^ parts.born.rotate_left(41));
    let mut builder = Gateway::builder()
        .store(Arc::new(disk))
        .keys(KeyRing::parse(parts.keys)?)
        .clock(Arc::clone(&clock))
        .entropy(Arc::new(entropy));
    for name in PROVIDERS {
        let table = parts
            .settings
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
        clock: process_clock,
    })
}
