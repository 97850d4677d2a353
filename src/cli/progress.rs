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
    began: Instant,
    /// How many were done before this process began.
    before: Option<u64>,
    next: Instant,
    drawn: bool,
}

impl Progress {
    pub(super) fn new(what: &'static str, total: u64) -> Self {
        let began = Instant::now();
        Self {
            what,
            total,
            terminal: std::io::stderr().is_terminal(),
            began,
            before: None,
            next: began + SILENT_FOR,
            drawn: false,
        }
    }

    /// Says how many are done; the first time, of work that goes on, those from before.
    pub(super) fn at(&mut self, done: u64) {
        let now = Instant::now();
        let before = *self.before.get_or_insert(done);
        if now < self.next {
            return;
        }
        let (what, total) = (self.what, self.total);
        let pace = pace(
            done.saturating_sub(before),
            total.saturating_sub(done),
            now - self.began,
        );
        if self.terminal {
            self.next = now + DRAW_EVERY;
            self.drawn = true;
            let filled = (done * WIDTH).checked_div(total).unwrap_or(0).min(WIDTH);
            let bar: String = (0..WIDTH)
                .map(|at| if at < filled { '#' } else { '.' })
                .collect();
            // The rest of the line is wiped: the one before may have been longer.
            write(&format!("\r[{bar}] {done}/{total} {what}{pace}\x1b[K"));
        } else {
            self.next = now + LINE_EVERY;
            write(&format!("{done} of {total} {what}{pace}\n"));
        }
    }

    /// Leaves the bar's line.
    pub(super) fn end(&self) {
        if self.drawn {
            write("\n");
        }
    }
}

/// How fast it goes, and how long the rest takes at that pace; nothing while that is unknown.
fn pace(done: u64, left: u64, since: Duration) -> String {
    let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = done.saturating_mul(1000) / millis;
    match left.saturating_mul(millis).checked_div(done) {
        Some(rest) => format!(", {rate}/s, {} left", clock(rest / 1000)),
        None => String::new(),
    }
}

/// A length of time as `12:05` or `3:12:05`.
fn clock(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_remaining_time_are_of_what_this_process_did() {
        let ten = Duration::from_secs(10);
        assert_eq!(pace(0, 100, ten), "");
        assert_eq!(pace(1000, 4000, ten), ", 100/s, 0:40 left");
        assert_eq!(pace(1, 3, ten), ", 0/s, 0:30 left");
        assert_eq!(pace(100, 1_200_000, ten), ", 10/s, 33:20:00 left");
        assert_eq!(pace(100, 0, ten), ", 10/s, 0:00 left");
    }
}
