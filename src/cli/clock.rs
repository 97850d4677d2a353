//! The clock of a verb: the machine's. In builds with the sandbox it can be moved, together with
//! the sandbox's, so that a test need not wait for a lease or a window to end.

use std::sync::Arc;

use cardless::config::Environment;
use cardless_contract::{Clock, SystemClock};

use super::Failure;

/// The clock that the environment asks for.
#[cfg(feature = "sandbox")]
pub(super) fn clock(environment: &Environment) -> Result<Arc<dyn Clock>, Failure> {
    Ok(match environment.get(moved::FILE) {
        None | Some("") => Arc::new(SystemClock::with_offset_seconds(moved::seconds(
            environment,
        )?)),
        Some(file) => Arc::new(moved::FileClock::new(file.into())),
    })
}

/// The machine's clock, whatever the environment says.
#[cfg(not(feature = "sandbox"))]
pub(super) fn clock(_: &Environment) -> Result<Arc<dyn Clock>, Failure> {
    Ok(Arc::new(SystemClock::default()))
}

#[cfg(feature = "sandbox")]
mod moved {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;

    use cardless::config::Environment;
    use cardless_contract::{Clock, SystemClock, Timestamp};

    use super::Failure;

    /// By how many seconds the clock is ahead, from the start to the end of the process.
    const OFFSET: &str = "CARDLESS_CLOCK_OFFSET_SECONDS";

    /// A file with that number, read each time: it moves the clock of a process that runs, or that
    /// is stopped and will find, when it goes on, that time has passed.
    pub(super) const FILE: &str = "CARDLESS_CLOCK_OFFSET_FILE";

    /// The offset that stands in the environment itself.
    pub(super) fn seconds(environment: &Environment) -> Result<i64, Failure> {
        match environment.get(OFFSET) {
            None | Some("") => Ok(0),
            Some(text) => text.parse().map_err(|_| {
                Failure::Usage(format!(
                    "the environment variable {OFFSET} is not a number of seconds"
                ))
            }),
        }
    }

    /// The machine's clock, moved by what stands in a file.
    #[derive(Debug)]
    pub(super) struct FileClock {
        file: PathBuf,
        /// What stood there last, for a moment in which it can't be read.
        last: AtomicI64,
    }

    impl FileClock {
        pub(super) fn new(file: PathBuf) -> Self {
            let last = AtomicI64::new(0);
            Self { file, last }
        }
    }

    impl Clock for FileClock {
        fn now(&self) -> Timestamp {
            self.shows().0
        }

        /// What stands in the file is time that has passed.
        fn shows(&self) -> (Timestamp, Duration) {
            let text = std::fs::read_to_string(&self.file).ok();
            if let Some(seconds) = text.and_then(|text| text.trim().parse().ok()) {
                self.last.store(seconds, Ordering::SeqCst);
            }
            let seconds = self.last.load(Ordering::SeqCst);
            let moved = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            (SystemClock::with_offset_seconds(seconds).now(), moved)
        }
    }
}
