//! How far long work is, on standard error: a bar on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Before this nothing is shown: short work needs no bar.
const SILENT_FOR: Duration = Duration::from_secs(1);

/// How often a bar is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// How often a line is written where no bar can be.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How wide the bar is, in characters.
const WIDTH: u64 = 30;

/// Counts towards a number that may turn out lower.
#[derive(Debug)]
pub(super) struct Progress {
    what: &'static str,
    total: u64,
    terminal: bool,
    next: Instant,
    drawn: bool,
}

impl Progress {
    pub(super) fn new(what: &'static str, total: u64) -> Self {
        Self {
            what,
            total,
            terminal: std::io::stderr().is_terminal(),
            next: Instant::now() + SILENT_FOR,
            drawn: false,
        }
    }

    /// Says how many are done.
    pub(super) fn at(&mut self, done: u64) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        let (what, total) = (self.what, self.total);
        if self.terminal {
            self.next = now + DRAW_EVERY;
            self.drawn = true;
            let filled = (done * WIDTH).checked_div(total).unwrap_or(0).min(WIDTH);
            let bar: String = (0..WIDTH)
                .map(|at| if at < filled { '#' } else { '.' })
                .collect();
            write(&format!("\r[{bar}] {done}/{total} {what}"));
        } else {
            self.next = now + LINE_EVERY;
            write(&format!("{done} of {total} {what}\n"));
        }
    }

    /// Leaves the bar's line.
    pub(super) fn end(&self) {
        if self.drawn {
            write("\n");
        }
    }
}

fn write(text: &str) {
    let mut stderr = std::io::stderr().lock();
    // Nobody is left to tell if stderr is closed.
    drop(
        stderr
            .write_all(text.as_bytes())
            .and_then(|()| stderr.flush()),
    );
}
