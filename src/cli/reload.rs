//! SIGHUP: the settings are read again while the service runs. What is wrong leaves those before in
//! force.

use std::sync::Arc;

use cardless_contract::{Clock, ErrorKind};
use tokio::signal::unix::{Signal, SignalKind, signal};

use cardless::config::Settings;
use cardless::gateway::{AuditAction, AuditObject, AuditOutcome, Gateway, Probe};
use cardless::registry;
use cardless::scope::{self, Build, InForce, SettingsFacts};

use super::{Context, Failure, NO_PROVIDER, Outcome, clock};

/// What reads the settings again.
#[derive(Debug)]
pub(super) struct Reloader {
    context: Context,
    gateway: Gateway,
    clock: Arc<dyn Clock>,
    running: Fixed,
    /// What the report on the scope shows.
    shown: InForce,
    hangup: Signal,
}

/// What a running service can't change, as its settings said it at the start: name and value.
#[derive(Debug)]
pub(super) struct Fixed(Vec<(&'static str, String)>);

impl Fixed {
    pub(super) fn of(settings: &Settings) -> Self {
        Self(vec![
            ("service.listen", settings.service.listen.to_string()),
            ("service.public_url", settings.service.public_url.clone()),
            ("store.url", settings.store.url.clone()),
        ])
    }

    /// The settings that differ.
    fn differing(&self, other: &Self) -> Vec<&'static str> {
        let pairs = self.0.iter().zip(&other.0);
        let differing = pairs.filter(|(running, new)| running.1 != new.1);
        differing.map(|(running, _)| running.0).collect()
    }
}

impl Reloader {
    pub(super) fn new(
        context: &Context,
        gateway: Gateway,
        running: Fixed,
        shown: InForce,
    ) -> Result<Self, Failure> {
        Ok(Self {
            clock: clock::clock(&context.environment)?,
            context: context.clone(),
            gateway,
            running,
            shown,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Reads the settings again at each SIGHUP, for as long as it is polled.
    pub(super) async fn run(mut self) {
        while self.hangup.recv().await.is_some() {
            let outcome = self.reload().await;
            let line = self
                .gateway
                .audit(AuditAction::SettingsReload, AuditObject::none());
            let line = match &outcome {
                Ok(()) => {
                    tracing::info!("the settings were read again and are in force");
                    let (build, read) = (Build::of_process().id, self.shown.get().digest());
                    line.detail(scope::BUILD, scope::noted(&build))
                        .detail(scope::SETTINGS, scope::noted(&read))
                }
                Err(failure) => {
                    tracing::error!(
                        "the settings were not reloaded, and those before stay in force: {failure}"
                    );
                    line.outcome(AuditOutcome::Refused)
                }
            };
            if let Err(error) = line.write().await {
                tracing::error!(%error, "a reload of the settings was not audited");
            }
        }
    }

    async fn reload(&self) -> Outcome {
        let settings = self.context.settings()?;
        let reload = registry::reload(&settings, &self.clock)?;
        if settings.provider_names().is_empty() {
            return Err(Failure::Usage(NO_PROVIDER.to_owned()));
        }
        self.check(&reload.check().await).await?;
        self.gateway.reload(reload).await?;
        self.shown.replace(SettingsFacts::of(&settings));
        for setting in self.running.differing(&Fixed::of(&settings)) {
            tracing::warn!(
                "the setting `{setting}` has changed, which takes effect at the next start only"
            );
        }
        Ok(())
    }

    /// Credentials that a provider refuses don't replace ones that it accepts.
    async fn check(&self, probes: &[Probe]) -> Outcome {
        let refused = |probe: &&Probe| {
            let error = probe.result.as_ref().err();
            error.is_some_and(|error| error.kind() == ErrorKind::Authentication)
        };
        let refused: Vec<&Probe> = probes.iter().filter(refused).collect();
        if refused.is_empty() {
            return Ok(());
        }
        let before = self.gateway.check().await;
        for probe in refused {
            let name = &probe.provider;
            let worked = |old: &Probe| old.provider == *name && old.result.is_ok();
            if before.iter().any(worked) {
                return Err(Failure::Failed(format!(
                    "{name} refuses the new credentials in [providers.{name}], and accepts those \
                     before"
                )));
            }
            tracing::warn!(provider = %name, "the new credentials are refused, as were those before");
        }
        Ok(())
    }
}
