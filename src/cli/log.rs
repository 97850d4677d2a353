//! The log, on standard error.

use std::io::IsTerminal as _;

use cardless_transport::QUIET_TARGETS;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{FilterExt as _, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Starts the log at what `RUST_LOG` says; otherwise at `default`.
pub(super) fn start(default: LevelFilter) {
    let asked = std::env::var("RUST_LOG")
        .ok()
        .filter(|text| !text.is_empty());
    let parsed = asked.map(|text| text.parse::<Targets>());
    let unreadable = matches!(parsed, Some(Err(_)));
    let wanted = match parsed {
        Some(Ok(targets)) => targets,
        Some(Err(_)) | None => Targets::new().with_default(default),
    };
    // They print headers and bodies below `warn`, so they stay there whatever is asked for.
    let caps = Targets::new()
        .with_default(LevelFilter::TRACE)
        .with_targets(
            QUIET_TARGETS
                .iter()
                .map(|&target| (target, LevelFilter::WARN)),
        );
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_filter(wanted.and(caps));
    // A second start in one process keeps the first log.
    if tracing_subscriber::registry()
        .with(lines)
        .try_init()
        .is_ok()
        && unreadable
    {
        tracing::warn!("RUST_LOG can't be read; write it as `info` or `cardless=debug,info`");
    }
}
