//! The log, on standard error. Every line goes through the card-number net once more.

use std::io::{self, IsTerminal as _, Write};
use std::panic::{self, PanicHookInfo};

use cardless::pan;
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
        .with_writer(|| Net(io::stderr()))
        .with_ansi(io::stderr().is_terminal())
        .with_filter(wanted.and(caps));
    panic::set_hook(Box::new(tell_of_panic));
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

/// What the log writes for a line.
pub(super) fn as_written(line: &str) -> String {
    let mut written = Vec::new();
    // Writing to memory does not fail.
    drop(Net(&mut written).write_all(line.as_bytes()));
    String::from_utf8_lossy(&written).into_owned()
}

/// Writes without what passes for a card number. A line comes in one piece.
struct Net<W>(W);

impl<W: Write> Write for Net<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        self.0.write_all(pan::withhold(&text).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A panic is a bug. Its text may quote what was looked at, so it goes through the log's net.
fn tell_of_panic(panic: &PanicHookInfo<'_>) {
    let at = panic.location().map(ToString::to_string);
    let text = panic.payload_as_str().unwrap_or("no text");
    tracing::error!(
        at = at.unwrap_or_default(),
        "a bug in cardless, please report it: {text}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_the_log_holds_a_card_number() {
        let mut log = Vec::new();
        for line in ["a 4242 4242 4242 4242 b\n", "pay_abcd took 12 ms\n"] {
            Net(&mut log).write_all(line.as_bytes()).unwrap();
        }
        let text = String::from_utf8(log).unwrap();
        assert_eq!(text, "a [card number withheld] b\npay_abcd took 12 ms\n");
    }
}
