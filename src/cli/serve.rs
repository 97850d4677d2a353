//! `serve`: the service.

use std::future::Future;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};

use cardless::gateway::{AuditAction, AuditObject, AuditOutcome, Gateway};
use cardless::scope::{self, Build, InForce, SettingsFacts};
use cardless::serve;

use super::reload::{Fixed, Reloader};
use super::{Context, Failure, Outcome, Providers, say};

pub(super) async fn run(context: &Context) -> Outcome {
    let mut settings = context.settings()?;
    let fixed = Fixed::of(&settings);
    let shown = SettingsFacts::of(&settings);
    let listen = settings.service.listen;
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        Failure::Failed(format!(
            "the address {listen} (setting `service.listen`) can't be used: {error}"
        ))
    })?;
    // Port 0 is a free one, known only now.
    let bound = listener.local_addr()?;
    if settings.service.public_url == format!("http://{listen}") {
        settings.service.public_url = format!("http://{bound}");
    }
    let gateway = context.open(&settings, Providers::Needed)?;
    gateway.keep_merchants().await?;
    gateway.open_keys().await?;
    let signals = Signals::new()?;
    let (build, read) = (Build::of_process().id, shown.digest());
    let shown = InForce::new(shown);
    let reloader = Reloader::new(context, gateway.clone(), fixed, shown.clone())?;
    // A store that takes no writes is no reason not to read: the service starts, and refuses.
    if let Err(error) = gateway.look_at_clock().await {
        tracing::error!(%error, "what the clock shows is not reckoned with yet");
    }
    let start = gateway
        .audit(AuditAction::ServiceStart, AuditObject::none())
        .detail("version", env!("CARGO_PKG_VERSION"))
        .detail(scope::BUILD, scope::noted(&build))
        .detail(scope::SETTINGS, scope::noted(&read));
    if let Err(error) = start.write().await {
        tracing::error!(%error, "the start of the service was not audited");
    }
    say(format_args!("cardless listens on http://{bound}"))?;
    let reloads = tokio::spawn(reloader.run());
    let served = run_until(gateway.clone(), shown, listener, signals.stop()).await;
    reloads.abort();
    let outcome = match &served {
        Ok(()) => AuditOutcome::Done,
        Err(_) => AuditOutcome::Failed,
    };
    let stop = gateway.audit(AuditAction::ServiceStop, AuditObject::none());
    if let Err(error) = stop.outcome(outcome).write().await {
        tracing::error!(%error, "the end of the service was not audited");
    }
    served
}

/// Serves and resolves until `stop` ends. The requests that run are finished first, then the
/// resolver stops. A resolver that breaks off takes the service with it: payments whose outcome is
/// open must not go unasked.
pub(super) async fn run_until(
    gateway: Gateway,
    settings: InForce,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send,
) -> Outcome {
    let router = serve::router_with_settings(gateway.clone(), settings);
    let (stop_resolver, stopped) = watch::channel(false);
    let (alive, ended) = oneshot::channel::<()>();
    let resolver = tokio::spawn({
        let gateway = gateway.clone();
        async move {
            // Dropped when this task ends, however it ends.
            let _alive = alive;
            gateway.run(until(stopped)).await;
        }
    });
    let stop = async {
        tokio::select! {
            () = stop => {}
            _ = ended => tracing::error!("the resolver broke off; the service stops"),
        }
    };
    let served = serve::serve(listener, router, stop).await;
    stop_resolver.send_replace(true);
    let resolved = resolver.await;
    served?;
    resolved.map_err(|_| Failure::Failed("the resolver broke off; see the log".to_owned()))
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop as well.
    drop(stopped.wait_for(|stopped| *stopped).await);
}

/// The signals that end a service.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Ends at SIGTERM or SIGINT.
    pub(super) async fn stop(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        tracing::info!("stopping: requests that run are finished first");
    }
}
