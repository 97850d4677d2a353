//! How far long work is, on standard error: a bar on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal as _, Stderr, Write};
use std::pin::pin;
use std::time::{Duration, Instant};

/// Before this nothing is shown: short work needs no bar.
const SILENT_FOR: Duration = Duration::from_secs(1);

/// How often a bar is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// How often a line is written where no bar can be.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How wide the bar is, in characters.
const WIDTH: u64 = 30;

/// Waits for work of which nobody knows how far it is, and says so once it is no short work.
pub(super) async fn said_if_long<T>(work: impl Future<Output = T>, say: impl FnOnce()) -> T {
    let mut work = pin!(work);
    match tokio::time::timeout(SILENT_FOR, &mut work).await {
        Ok(done) => done,
        Err(_) => {
            say();
            work.await
        }
    }
}

/// Counts towards a number that may turn out lower; 0 if nobody knows it.
#[derive(Debug)]
pub(super) struct Progress<W: Write = Stderr> {
    to: W,
    terminal: bool,
    what: &'static str,
    total: u64,
    began: Instant,
    /// How many were done before this process began.
    before: Option<u64>,
    done: u64,
    next: Instant,
    /// What was drawn last, if anything was.
    drawn: Option<u64>,
    /// Whether the cursor stands behind a bar.
    in_a_bar: bool,
}

impl Progress {
    pub(super) fn new(what: &'static str, total: u64) -> Self {
        let stderr = std::io::stderr();
        let terminal = stderr.is_terminal();
        Self::on(stderr, terminal, what, total, Instant::now())
    }

    /// Says how many are done; the first time, of work that goes on, those from before.
    pub(super) fn at(&mut self, done: u64) {
        self.at_time(done, Instant::now());
    }

    /// Draws how it ended, if anything was drawn before, and leaves the bar's line.
    pub(super) fn end(mut self) {
        self.end_at_time(Instant::now());
    }
}

impl<W: Write> Progress<W> {
    fn on(to: W, terminal: bool, what: &'static str, total: u64, began: Instant) -> Self {
        Self {
            to,
            terminal,
            what,
            total,
            began,
            before: None,
            done: 0,
            next: began + SILENT_FOR,
            drawn: None,
            in_a_bar: false,
        }
    }

    fn at_time(&mut self, done: u64, now: Instant) {
        self.before.get_or_insert(done);
        self.done = done;
        if now < self.next {
            return;
        }
        self.next = now
            + if self.terminal {
                DRAW_EVERY
            } else {
                LINE_EVERY
            };
        let left = (self.total > 0).then(|| self.total.saturating_sub(done));
        self.draw(left, now);
    }

    fn end_at_time(&mut self, now: Instant) {
        if self.drawn.is_some_and(|drawn| drawn != self.done) {
            self.draw(None, now);
        }
        self.leave_the_bar();
    }

    /// `left` if it is known how many are left, and any may be.
    fn draw(&mut self, left: Option<u64>, now: Instant) {
        let (what, total, done) = (self.what, self.total, self.done);
        let by_this = done.saturating_sub(self.before.unwrap_or(0));
        let pace = pace(by_this, left, now - self.began);
        let text = match (self.terminal, total) {
            // The rest of the line is wiped: the one before may have been longer.
            (true, 0) => format!("\r{done} {what}{pace}\x1b[K"),
            (true, _) => format!("\r[{}] {done}/{total} {what}{pace}\x1b[K", bar(done, total)),
            (false, 0) => format!("{done} {what}{pace}\n"),
            (false, _) => format!("{done} of {total} {what}{pace}\n"),
        };
        self.drawn = Some(done);
        self.in_a_bar = self.terminal;
        self.write(&text);
    }

    fn leave_the_bar(&mut self) {
        if std::mem::take(&mut self.in_a_bar) {
            self.write("\n");
        }
    }

    fn write(&mut self, text: &str) {
        // Nobody is left to tell if stderr is closed.
        drop(
            self.to
                .write_all(text.as_bytes())
                .and_then(|()| self.to.flush()),
        );
    }
}

/// Work that breaks off says why on a line of its own.
impl<W: Write> Drop for Progress<W> {
    fn drop(&mut self) {
        self.leave_the_bar();
    }
}

fn bar(done: u64, total: u64) -> String {
    let filled = done.saturating_mul(WIDTH) / total.max(1);
    let mark = |at| if at < filled { '#' } else { '.' };
    (0..WIDTH).map(mark).collect()
}

/// How fast it goes, and how long what is left takes at that pace; nothing while that is unknown.
fn pace(done: u64, left: Option<u64>, since: Duration) -> String {
    let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = done.saturating_mul(1000) / millis;
    if done == 0 {
        return String::new();
    }
    let rest = left.and_then(|left| left.saturating_mul(millis).checked_div(done));
    let rest = rest.map(|rest| format!(", {} left", clock(rest / 1000)));
    format!(", {rate}/s{}", rest.unwrap_or_default())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What is drawn of work that is this far at these times, in milliseconds, and has ended with the
    /// last of them.
    fn drawn(terminal: bool, total: u64, times: &[(u64, u64)]) -> String {
        let began = Instant::now();
        let at = |millis| began + Duration::from_millis(millis);
        let mut to = Vec::new();
        let mut progress = Progress::on(&mut to, terminal, "records", total, began);
        progress.at_time(0, began);
        for &(millis, done) in times {
            progress.at_time(done, at(millis));
        }
        progress.end_at_time(at(times.last().map_or(0, |last| last.0)));
        drop(progress);
        String::from_utf8(to).unwrap()
    }

    #[test]
    fn a_bar_is_full_at_its_end() {
        let times = [(500, 10), (1000, 50), (1100, 60), (1200, 75), (1300, 100)];
        assert_eq!(
            drawn(true, 100, &times),
            "\r[###############...............] 50/100 records, 50/s, 0:01 left\x1b[K\
             \r[######################........] 75/100 records, 62/s, 0:00 left\x1b[K\
             \r[##############################] 100/100 records, 76/s\x1b[K\n"
        );
        // One that has drawn its last state has nothing to add.
        let times = [(1000, 50), (2000, 100)];
        assert_eq!(
            drawn(true, 100, &times),
            "\r[###############...............] 50/100 records, 50/s, 0:01 left\x1b[K\
             \r[##############################] 100/100 records, 50/s, 0:00 left\x1b[K\n"
        );
    }

    #[test]
    fn without_a_terminal_there_is_a_line_now_and_then_and_one_at_the_end() {
        let times = [(1000, 10), (9000, 90), (11_000, 110), (15_000, 150)];
        assert_eq!(
            drawn(false, 150, &times),
            "10 of 150 records, 10/s, 0:14 left\n\
             110 of 150 records, 10/s, 0:04 left\n\
             150 of 150 records, 10/s\n"
        );
    }

    #[test]
    fn short_work_is_silent() {
        for terminal in [true, false] {
            assert_eq!(drawn(terminal, 100, &[(500, 50), (999, 100)]), "");
        }
    }

    #[test]
    fn where_nobody_knows_how_much_there_is_no_end_is_foretold() {
        let times = [(1000, 4096), (2000, 8192)];
        assert_eq!(
            drawn(true, 0, &times),
            "\r4096 records, 4096/s\x1b[K\r8192 records, 4096/s\x1b[K\n"
        );
        let times = [(1000, 4096), (2000, 8192)];
        assert_eq!(
            drawn(false, 0, &times),
            "4096 records, 4096/s\n8192 records, 4096/s\n"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn work_without_a_number_is_spoken_of_once_it_is_long() {
        let told = async |millis| {
            let mut told = false;
            let work = tokio::time::sleep(Duration::from_millis(millis));
            said_if_long(work, || told = true).await;
            told
        };
        assert!(!told(900).await);
        assert!(told(1100).await);
    }

    #[test]
    fn work_that_breaks_off_leaves_the_bars_line() {
        let began = Instant::now();
        let mut to = Vec::new();
        let mut progress = Progress::on(&mut to, true, "records", 10, began);
        progress.at_time(0, began);
        progress.at_time(5, began + SILENT_FOR);
        drop(progress);
        let text = String::from_utf8(to).unwrap();
        assert!(text.ends_with("0:01 left\x1b[K\n"), "{text:?}");
    }

    #[test]
    fn rate_and_remaining_time_are_of_what_this_process_did() {
        let ten = Duration::from_secs(10);
        assert_eq!(pace(0, Some(100), ten), "");
        assert_eq!(pace(1000, Some(4000), ten), ", 100/s, 0:40 left");
        assert_eq!(pace(1, Some(3), ten), ", 0/s, 0:30 left");
        assert_eq!(pace(100, Some(1_200_000), ten), ", 10/s, 33:20:00 left");
        assert_eq!(pace(100, Some(0), ten), ", 10/s, 0:00 left");
        assert_eq!(pace(100, None, ten), ", 10/s");
    }
}
