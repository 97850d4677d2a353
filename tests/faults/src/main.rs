//! `cargo run --release -p cardless-faults -- --schedules 100000`, or `-- --webhooks`

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cardless_faults::{
    Failure, Selection, Step, examine, examine_all, is_in_orders, plan, run_orders, shorten,
};
use cardless_sandbox::Provider;
use clap::Parser;

/// Runs random schedules of calls, faults, crashes and clock jumps, and judges each by the ledger.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many schedules.
    #[arg(long, default_value_t = 1000)]
    schedules: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many at a time; as many as there are processors if absent.
    #[arg(long)]
    threads: Option<usize>,
    /// The closing figures as JSON on standard output.
    #[arg(long)]
    json: bool,
    /// Only this seed, with its steps and its trace; with --webhooks only the orders of its world.
    #[arg(long)]
    seed: Option<u64>,
    /// With --seed: the shortest schedule that still fails.
    #[arg(long, requires = "seed")]
    shrink: bool,
    /// Instead: every order of up to six webhooks, each once to three times, at each provider.
    #[arg(long, conflicts_with_all = ["schedules", "shrink", "json"])]
    webhooks: bool,
    /// With --webhooks: only at this provider.
    #[arg(long, requires = "webhooks")]
    provider: Option<Provider>,
    /// With --webhooks and --seed: only this order of the world's, after those before it.
    #[arg(long, requires_all = ["webhooks", "provider", "seed"])]
    case: Option<usize>,
    /// With --webhooks: every so-manyth choice, as the ordinary tests have them.
    #[arg(long, requires = "webhooks")]
    every: Option<std::num::NonZero<usize>>,
}

/// How often a terminal sees progress, and how often anything else does.
const ON_A_TERMINAL: Duration = Duration::from_millis(250);
const ELSEWHERE: Duration = Duration::from_secs(10);

/// How wide the bar is, in characters.
const BAR: u64 = 30;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.seed {
        _ if arguments.webhooks => webhooks(&arguments),
        Some(seed) => Ok(one(seed, arguments.shrink)),
        None => many(&arguments),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            say(&format!("\nthe simulation itself failed: {error}\n"));
            ExitCode::from(2)
        }
    }
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn one(seed: u64, shrink: bool) -> ExitCode {
    let steps = plan(seed);
    // First, so that it is there even if the schedule never ends.
    show_steps(&steps);
    let examined = examine(seed, &steps, is_in_orders(seed));
    if examined.holds() {
        say(&format!(
            "{}\nno invariant is broken\n",
            examined.trace.join("\n")
        ));
        return ExitCode::SUCCESS;
    }
    if shrink {
        say(&shorten(seed, &examined).to_string());
        return ExitCode::FAILURE;
    }
    say(&format!("{}\n", examined.trace.join("\n")));
    for violation in &examined.violations {
        say(&format!("{violation}\n"));
    }
    if let Some(why) = &examined.stopped {
        say(&format!("it does not come to its end: {why}\n"));
    }
    ExitCode::FAILURE
}

fn many(arguments: &Arguments) -> Result<ExitCode> {
    let begun = Instant::now();
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = arguments.threads.unwrap_or(processors);
    let progress = Progress::new("schedules", arguments.schedules, begun);
    let seeds = arguments.from..arguments.from.saturating_add(arguments.schedules);
    let figures = examine_all(
        seeds,
        threads,
        &|failure| progress.failed(&failure),
        &|| progress.done(),
    )?;
    progress.end();
    let failed = progress.failed.load(Ordering::Relaxed);
    let seconds = begun.elapsed().as_secs();
    say(&format!("{}\n", figures.lines().join("\n")));
    say(&format!(
        "{failed} failed, {threads} at a time, {seconds} s\n"
    ));
    // Few schedules may well leave something unreached; it is said, and held against many only.
    let (unreached, short) = (figures.unreached(), figures.falls_short());
    for one in &unreached {
        say(&format!("not reached: {one}\n"));
    }
    for one in short.iter().filter(|one| !unreached.contains(one)) {
        say(&format!("{one}\n"));
    }
    if arguments.json {
        let mut json = figures.to_json();
        if let Some(members) = json.as_object_mut() {
            members.insert("failed".to_owned(), failed.into());
            members.insert("seconds".to_owned(), seconds.into());
        }
        writeln!(std::io::stdout(), "{json}")?;
    }
    Ok(if failed == 0 && short.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn webhooks(arguments: &Arguments) -> Result<ExitCode> {
    let begun = Instant::now();
    let selection = Selection {
        every: arguments.every.map(std::num::NonZero::get),
        seed: arguments.seed,
        case: arguments.case,
    };
    let all = u64::try_from(selection.orders().len())?;
    let mut failed = 0;
    let chosen = |provider: &Provider| arguments.provider.is_none_or(|only| only == *provider);
    for provider in Provider::ALL.into_iter().filter(chosen) {
        let progress = Progress::new("orders", all, Instant::now());
        let mut result = run_orders(provider, selection, |done| progress.reached(done))?;
        progress.end();
        // The orders of one world need not come to everything.
        if selection.seed.is_none() {
            let unreached = result.unreached(provider);
            result.differences.extend(unreached);
        }
        failed += result.differences.len();
        say(&format!(
            "{}: {} orders, {} deliveries, {}, {} with another end or none, {} s\n{}\n",
            provider.name(),
            result.cases,
            result.deliveries,
            result.losses(),
            result.differences.len(),
            begun.elapsed().as_secs(),
            result.differences.join("\n")
        ));
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// How far it is: a bar on a terminal, a line now and then elsewhere.
struct Progress {
    what: &'static str,
    of: u64,
    begun: Instant,
    done: AtomicU64,
    failed: AtomicU64,
    shown: Mutex<Instant>,
    terminal: bool,
}

impl Progress {
    fn new(what: &'static str, of: u64, begun: Instant) -> Self {
        Self {
            what,
            of,
            begun,
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            shown: Mutex::new(begun),
            terminal: std::io::stderr().is_terminal(),
        }
    }

    fn failed(&self, failure: &Failure) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        say(&format!("\n{failure}"));
    }

    fn done(&self) {
        self.reached(self.done.fetch_add(1, Ordering::Relaxed) + 1);
    }

    /// So many are done.
    fn reached(&self, done: u64) {
        self.done.fetch_max(done, Ordering::Relaxed);
        let pause = if self.terminal {
            ON_A_TERMINAL
        } else {
            ELSEWHERE
        };
        // Whoever comes while another one writes has nothing to add.
        if let Ok(mut shown) = self.shown.try_lock()
            && shown.elapsed() >= pause
        {
            *shown = Instant::now();
            self.show(done);
        }
    }

    fn end(&self) {
        self.show(self.done.load(Ordering::Relaxed));
        if self.terminal {
            say("\n");
        }
    }

    fn show(&self, done: u64) {
        let millis = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let rate = done.saturating_mul(1000) / millis.max(1);
        let left = self.of.saturating_sub(done) / rate.max(1);
        let failed = self.failed.load(Ordering::Relaxed);
        let (of, what) = (self.of, self.what);
        let line = format!("{done}/{of} {what}, {failed} failed, {rate}/s, {left} s left");
        if self.terminal {
            let full = done.saturating_mul(BAR) / of.max(1);
            let bar: String = (0..BAR)
                .map(|at| if at < full { '#' } else { '.' })
                .collect();
            say(&format!("\r[{bar}] {line}    "));
        } else {
            say(&format!("{line}\n"));
        }
    }
}

fn show_steps(steps: &[Step]) {
    for step in steps {
        say(&format!("{step:?}\n"));
    }
}

fn say(text: &str) {
    // Nobody reads it any more if this fails.
    drop(std::io::stderr().write_all(text.as_bytes()));
}
