//! The settings in force, as evidence.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use super::sources::sha256;
use super::{Build, Claim, Question, Section, Sources, Statement, Table};
use crate::config::{SettingLine, Settings};
use crate::error::Error;
use crate::gateway::{AuditAction, AuditLine, AuditQuery, Gateway};
use crate::letters::of_hexadecimal;
use crate::protected;
use crate::registry::{self, LiveSecrets};

const SHOWN: Claim = Claim {
    id: "settings-1",
    requirements: &["12.5.2"],
    says: "This program has read these settings",
    proof: "a listing, by the program; secrets are counted and never shown. Nothing is judged here",
};

const SECRETS: Claim = Claim {
    id: "settings-2",
    requirements: &["8.6.2"],
    says: "No secret that opens anything real stands in the settings themselves",
    proof: "for each secret setting whether it stands there or points elsewhere; those of a provider that \
            is no live one are listed only",
};

const LIVE: Claim = Claim {
    id: "settings-3",
    requirements: &["6.5.5", "6.5.6"],
    says: "What is for development is not where money is real: no live provider on loopback, and no \
           imitation of the providers or checks of development in a program that serves a live one",
    proof: "the settings, and what is built into the program",
};

const IN_SERVICE: Claim = Claim {
    id: "settings-4",
    requirements: &["12.5.2", "10.2.1"],
    says: "The service was last started, or has last read its settings, with this program and these settings",
    proof: "their digests, compared with those that the audit log has of that moment",
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
    /// Where events are delivered, as `https://billing.example`. `None` if nowhere, or if the section
    /// can't be read here.
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
            events_origin: events.map(|url| url.origin().ascii_serialization()),
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

    pub(super) async fn section(&self, sources: &Sources) -> Result<Section, Error> {
        let mut statements = vec![self.shown(), self.secrets(), self.live(&sources.build)];
        let mut questions = Vec::new();
        match last_read(&sources.gateway).await? {
            Some(line) => statements.push(self.in_service(&sources.build, &line)),
            None => questions.push(NEVER_STARTED),
        }
        Ok(Section {
            id: "settings",
            title: "Settings",
            statements,
            figures: Vec::new(),
            questions,
        })
    }

    fn shown(&self) -> Statement {
        let rows = self.lines.iter().map(|line| {
            vec![
                line.setting.clone(),
                line.value.clone(),
                line.from.to_owned(),
            ]
        });
        let header = vec!["setting", "value", "from"];
        SHOWN.judged(Vec::new(), Table::new(header, rows.collect()))
    }

    fn secrets(&self) -> Statement {
        let secret = |line: &&SettingLine| {
            self.live_secrets
                .iter()
                .any(|one| one.setting == line.setting)
        };
        let (mut faults, mut rows) = (Vec::new(), Vec::new());
        for line in self.lines.iter().filter(secret) {
            let real = line
                .setting
                .split('.')
                .nth(1)
                .is_some_and(|name| self.is_live(name));
            if real && line.stands_here {
                faults.push(format!(
                    "{} stands in the settings; give it as {{ env = … }} or {{ file = … }}",
                    line.setting
                ));
            }
            let word = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
            rows.push(vec![line.setting.clone(), line.value.clone(), word(real)]);
        }
        let header = vec!["secret setting", "where", "of a live provider"];
        SECRETS.judged(faults, Table::new(header, rows).or_none("none is set"))
    }

    fn live(&self, build: &Build) -> Statement {
        let (mut faults, mut rows) = (Vec::new(), Vec::new());
        for name in self.providers() {
            let live = self.is_live(name);
            let base = self
                .value(&format!("providers.{name}.base_url"))
                .unwrap_or_default();
            if self.value(&format!("providers.{name}.environment")) == Some("live")
                && is_loopback(base)
            {
                faults.push(format!(
                    "providers.{name} is live, and its base_url is on this machine"
                ));
            }
            let world = if live { "live" } else { "no real money" };
            rows.push(vec![format!("providers.{name}"), world.to_owned()]);
        }
        let any = self.providers().any(|name| self.is_live(name));
        let sandbox = build.features.contains(&"sandbox");
        if any && sandbox {
            faults.push(
                "the program has the feature `sandbox` built in; package it without".to_owned(),
            );
        }
        if any && build.debug {
            faults.push("the program is a development build; build it with --release".to_owned());
        }
        rows.push(vec![
            "this program".to_owned(),
            format!("features {}", build.features.join(", ")),
        ]);
        LIVE.judged(faults, Table::new(vec!["what", "is"], rows))
    }

    fn in_service(&self, build: &Build, line: &AuditLine) -> Statement {
        let then = |name: &str| line.detail(name).to_owned();
        let pairs = [
            ("program", then(BUILD), noted(&build.id)),
            ("settings", then(SETTINGS), noted(&self.digest())),
        ];
        let mut faults = Vec::new();
        for (what, then, now) in &pairs {
            if then != now {
                faults.push(format!(
                    "the service has read another {what} at {} than this report: restart it or have it \
                     read its settings again, or make the report in its environment",
                    line.at
                ));
            }
        }
        let rows = pairs.map(|(what, then, now)| vec![what.to_owned(), then, now]);
        let header = vec![
            "what",
            "of the service, letters of SHA-256",
            "of this report",
        ];
        let statement = IN_SERVICE.judged(faults, Table::new(header, rows.to_vec()));
        Statement {
            as_of: Some(line.at),
            ..statement
        }
    }

    /// The providers that are set.
    fn providers(&self) -> impl Iterator<Item = &str> {
        let lines = self.lines.iter();
        let names =
            lines.filter_map(|line| line.setting.strip_prefix("providers.")?.split('.').next());
        let names: BTreeSet<&str> = names.collect();
        names.into_iter()
    }

    /// Whether money is real at a provider: unless it says otherwise, or is on this machine.
    fn is_live(&self, provider: &str) -> bool {
        let value = |name: &str| self.value(&format!("providers.{provider}.{name}"));
        match value("environment") {
            Some("sandbox") => false,
            Some(_) => true,
            None => {
                self.providers().any(|name| name == provider)
                    && !value("base_url").is_some_and(is_loopback)
            }
        }
    }

    fn value(&self, setting: &str) -> Option<&str> {
        let line = self.lines.iter().find(|line| line.setting == setting);
        line.map(|line| line.value.as_str())
    }
}

const NEVER_STARTED: Question = Question {
    id: "settings-q1",
    requirements: &["12.5.2"],
    asks: "The audit log tells of no start of the service with its program and settings. Is it this program \
           that serves, in this environment?",
};

/// What a line about the service's start or its settings says of its program and settings.
pub const BUILD: &str = "build";
/// The same of its settings.
pub const SETTINGS: &str = "settings";

/// How many letters of a digest are noted.
const NOTED_LETTERS: usize = 32;

/// The beginning of a digest in letters: a row of digits could pass for a card number.
pub fn noted(digest: &str) -> String {
    let mut text = of_hexadecimal(digest);
    text.truncate(NOTED_LETTERS);
    text
}

/// The latest line of a start, or of settings that were read again and are in force.
async fn last_read(gateway: &Gateway) -> Result<Option<AuditLine>, Error> {
    let mut latest: Option<AuditLine> = None;
    for action in [AuditAction::ServiceStart, AuditAction::SettingsReload] {
        let query = AuditQuery {
            action: Some(action.as_str().to_owned()),
            limit: LOOKED_AT,
            ..AuditQuery::default()
        };
        let lines = gateway.audit_lines(&query).await?.data.into_iter();
        let mut lines =
            lines.filter(|line| line.outcome == "done" && line.details.contains_key(BUILD));
        let line = lines.next();
        if line.as_ref().map(|line| line.line) > latest.as_ref().map(|line| line.line) {
            latest = line;
        }
    }
    Ok(latest)
}

/// How many lines of each kind are looked at; refused reloads may stand between.
const LOOKED_AT: u32 = 50;

fn is_loopback(address: &str) -> bool {
    url::Url::parse(address).is_ok_and(|url| protected::is_loopback(&url))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    fn facts(text: &str) -> SettingsFacts {
        let settings = Settings::parse("c.toml".as_ref(), text, &Environment::default());
        SettingsFacts::of(&settings.unwrap())
    }

    fn build(features: &[&'static str], debug: bool) -> Build {
        Build {
            features: features.to_vec(),
            debug,
            ..Build::of_process()
        }
    }

    #[test]
    fn a_secret_of_a_live_provider_stands_elsewhere() {
        let text = |environment: &str, secret: &str| {
            format!(
                "[providers.paypal]\nenvironment = \"{environment}\"\nclient_secret = {secret}\n"
            )
        };
        assert!(facts(&text("sandbox", "\"canary\"")).secrets().holds);
        assert!(facts(&text("live", "{ env = \"A\" }")).secrets().holds);
        assert!(
            facts(&text("live", "[{ env = \"A\" }, { file = \"b\" }]"))
                .secrets()
                .holds
        );
        for secret in ["\"canary\"", "[{ env = \"A\" }, \"canary\"]"] {
            let statement = facts(&text("live", secret)).secrets();
            let faults = statement.faults.concat();
            assert!(
                faults.contains("providers.paypal.client_secret"),
                "{faults}"
            );
            assert!(!faults.contains("canary"), "{faults}");
        }
    }

    #[test]
    fn what_is_for_development_is_no_part_of_a_live_installation() {
        let live = facts("[providers.aduno]\nenvironment = \"live\"\n");
        assert!(live.live(&build(&["serve"], false)).holds);
        for (program, word) in [
            (build(&["sandbox"], false), "sandbox"),
            (build(&[], true), "--release"),
        ] {
            let statement = live.live(&program);
            assert!(statement.faults.concat().contains(word), "{statement:?}");
        }
        let near = "[providers.aduno]\nenvironment = \"live\"\nbase_url = \"http://127.0.0.1:1\"\n";
        let statement = facts(near).live(&build(&[], false));
        assert!(
            statement.faults.concat().contains("providers.aduno"),
            "{statement:?}"
        );
        // PostFinance has one world; on loopback it is the imitation.
        let sandbox = facts("[providers.postfinance]\nbase_url = \"http://127.0.0.1:1\"\n");
        assert!(sandbox.live(&build(&["sandbox"], true)).holds);
        let postfinance = facts("[providers.postfinance]\nspace_id = 1\n");
        assert!(!postfinance.live(&build(&["sandbox"], true)).holds);
    }
}
