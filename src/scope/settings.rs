//! The settings in force, as evidence.

use std::sync::{Arc, PoisonError, RwLock};

use super::sources::sha256;
use super::{Claim, Section, Table};
use crate::config::{SettingLine, Settings};
use crate::registry::{self, LiveSecrets};

const SHOWN: Claim = Claim {
    id: "settings-1",
    requirements: &["2.2.1", "8.6.2"],
    says: "These settings are in force",
    proof: "the settings as the program has read them, by the program; secrets are counted and never shown",
};

/// The settings in force: nothing that is secret.
#[derive(Debug, Clone)]
pub struct SettingsFacts {
    /// Every setting by name.
    pub lines: Vec<SettingLine>,
    /// The secret ones, and how many values of each are live.
    pub live_secrets: Vec<LiveSecrets>,
    /// Where the service listens.
    pub listen: String,
    /// Where it is reached.
    pub public_url: String,
    /// The host that events are delivered to. `None` if there is none, or if its section can't be
    /// read here.
    pub events_host: Option<String>,
    /// The same with scheme and port, as `https://billing.example`.
    pub events_origin: Option<String>,
}

/// The settings of a service that runs, which a reload replaces. Cloning shares them.
#[derive(Debug, Clone)]
pub struct InForce(Arc<RwLock<SettingsFacts>>);

impl InForce {
    /// These, until they are replaced.
    pub fn new(facts: SettingsFacts) -> Self {
        Self(Arc::new(RwLock::new(facts)))
    }

    /// From now on these are.
    pub fn replace(&self, facts: SettingsFacts) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = facts;
    }

    /// Those in force now.
    pub fn get(&self) -> SettingsFacts {
        let facts = self.0.read().unwrap_or_else(PoisonError::into_inner);
        facts.clone()
    }
}

impl SettingsFacts {
    /// What these settings say.
    pub fn of(settings: &Settings) -> Self {
        let events = settings.events().ok().flatten();
        let events = events.and_then(|events| url::Url::parse(&events.url).ok());
        Self {
            lines: registry::outline(settings),
            live_secrets: registry::live_secrets(settings),
            listen: settings.service.listen.to_string(),
            public_url: settings.service.public_url.clone(),
            events_origin: events
                .as_ref()
                .map(|url| url.origin().ascii_serialization()),
            events_host: events.and_then(|url| url.host_str().map(str::to_owned)),
        }
    }

    /// SHA-256 over every line, in hexadecimal: equal for equal settings, whatever their secrets are.
    pub fn digest(&self) -> String {
        let lines = self.lines.iter();
        let text: String = lines
            .map(|line| format!("{} = {}\n", line.setting, line.value))
            .collect();
        sha256(text.as_bytes())
    }

    pub(super) fn section(&self) -> Section {
        let rows = self.lines.iter().map(|line| {
            vec![
                line.setting.clone(),
                line.value.clone(),
                line.from.to_owned(),
            ]
        });
        let evidence = Table::new(vec!["setting", "value", "from"], rows.collect());
        Section {
            id: "settings",
            title: "Settings in force",
            statements: vec![SHOWN.judged(Vec::new(), evidence)],
            figures: Vec::new(),
            questions: Vec::new(),
        }
    }
}
