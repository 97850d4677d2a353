//! A sweep: many lives, each with a blow in its midst; how much of it is run, and what it came to.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cardless_contract::{Entropy as _, SystemEntropy};
use tokio::sync::OnceCell;
use tokio::task::JoinSet;

use crate::operation::Operation;
use crate::strace::{self, Class, Point, Strace};
use crate::world::{Template, World};

/// What passes until the next life: every lease and the longest delay; or every window in which a
/// provider keeps a key, and the time in which a payment may be committed.
pub(crate) const SOON: Wait = ("soon", Duration::from_secs(5 * 60));
pub(crate) const LATE: Wait = ("late", Duration::from_secs(7 * 3600));

/// A name, and how much time passes.
pub(crate) type Wait = (&'static str, Duration);

/// How many cases run at once. Most of a case is a wait for a process to start.
const AT_ONCE: usize = 3;

/// How long a process may go on behind its answer until it makes the calls that were counted there.
pub(crate) const A_MOMENT: Duration = Duration::from_millis(500);

/// How many of all points must be struck, out of a hundred. The others lie behind the answer, or are
/// of a life that needed fewer calls on its sockets than the one that was counted.
const LEAST_STRUCK_PERCENT: usize = 90;

/// How a case is lived.
pub(crate) type Life = fn(Arc<Template>, Case) -> Pin<Box<dyn Future<Output = Ended> + Send>>;

/// What the environment asks for.
#[derive(Debug)]
pub(crate) struct Scope {
    /// Every point: `CARDLESS_CRASH_POINTS=all`.
    pub(crate) all: bool,
    /// What chooses the points otherwise: `CARDLESS_CRASH_SEED`, or a new one each time.
    pub(crate) seed: u64,
    /// Only cases whose names begin so: `CARDLESS_CRASH_ONLY`.
    pub(crate) only: Option<String>,
}

/// Numbers that follow from a seed (SplitMix64).
#[derive(Debug)]
pub(crate) struct Seed(u64);

impl Scope {
    pub(crate) fn of_environment() -> Self {
        let seed = std::env::var("CARDLESS_CRASH_SEED");
        Self {
            all: std::env::var("CARDLESS_CRASH_POINTS").is_ok_and(|points| points == "all"),
            seed: seed.map_or_else(|_| fresh(), |seed| seed.parse().unwrap()),
            only: std::env::var("CARDLESS_CRASH_ONLY").ok(),
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.only, self.all) {
            (Some(only), _) => write!(f, "only {only}"),
            (None, true) => f.write_str("all points"),
            (None, false) => write!(f, "a sample, CARDLESS_CRASH_SEED={}", self.seed),
        }
    }
}

impl Seed {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % u64::try_from(limit).unwrap()).unwrap()
    }
}

fn fresh() -> u64 {
    let mut bytes = [0; 8];
    SystemEntropy.fill(&mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}

/// One life: an operation, a blow in its midst, and what passes before the next life.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) operation: Operation,
    /// Which provider, by which settings.
    pub(crate) place: &'static str,
    pub(crate) point: Point,
    pub(crate) wait: Wait,
}

/// What became of it.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// The point was reached.
    pub(crate) struck: bool,
    /// It was reached before the answer was given.
    pub(crate) unanswered: bool,
    /// How the payment or the link ended.
    pub(crate) as_what: String,
    pub(crate) broken: Vec<String>,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let operation = format!("{:?}", self.operation).to_lowercase();
        let (point, wait) = (&self.point, self.wait.0);
        write!(f, "{operation} {} {point} {wait}", self.place)
    }
}

/// What an undisturbed run of an operation shows.
#[derive(Debug)]
pub(crate) struct Undisturbed {
    pub(crate) operation: Operation,
    pub(crate) place: &'static str,
    /// Where the service listened.
    pub(crate) base: String,
    /// Its calls, in order.
    pub(crate) traced: Vec<String>,
    /// All points at which a blow can fall.
    points: Vec<Point>,
}

/// An undisturbed run of every operation at every place. The sweeps share them.
pub(crate) async fn undisturbed(template: &Template) -> &'static [Undisturbed] {
    static RUNS: OnceCell<Vec<Undisturbed>> = OnceCell::const_new();
    RUNS.get_or_init(|| run_all(template)).await
}

async fn run_all(template: &Template) -> Vec<Undisturbed> {
    let mut all = Vec::new();
    for operation in Operation::ALL {
        for place in operation.places() {
            let world = World::at(template, place).await;
            let service = world.serve().await;
            let call = operation.prepare(&world, &service, place).await;
            let tracer = Strace::count(service.pid()).await;
            let answer = world.must(&service.base, &call).await;
            assert!(answer.status < 400, "{operation:?} {place}: {answer:?}");
            let base = service.base.clone();
            service.kill().await;
            let traced = tracer.detach().await;
            all.push(Undisturbed {
                operation,
                place,
                base,
                points: strace::points(&traced),
                traced,
            });
            world.close().await;
        }
    }
    all
}

/// The cases of a sweep: every one that `wanted` lets through, or `sample` of each operation at each
/// provider, by the seed.
pub(crate) fn cases(
    of: &[Undisturbed],
    waits: &[Wait],
    sample: usize,
    scope: &Scope,
    wanted: fn(&Case) -> bool,
) -> Vec<Case> {
    let mut seed = Seed::new(scope.seed);
    let mut cases = Vec::new();
    for run in of {
        let mut here = Vec::new();
        for point in &run.points {
            here.extend(waits.iter().map(|&wait| Case {
                operation: run.operation,
                place: run.place,
                point: point.clone(),
                wait,
            }));
        }
        here.retain(wanted);
        match &scope.only {
            Some(only) => here.retain(|case| case.to_string().starts_with(only.as_str())),
            None if scope.all => {}
            None => {
                here.retain(|case| case.point.class != Class::Write);
                while here.len() > sample {
                    here.swap_remove(seed.below(here.len()));
                }
            }
        }
        cases.extend(here);
    }
    cases
}

/// What a sweep must have struck at least once: an operation, where, and a class of calls.
type Group = (Operation, &'static str, Class);

/// Of a plan, how much was lived and how much was struck.
#[derive(Debug, Default, Clone)]
struct Strikes {
    planned: usize,
    struck: usize,
    /// What comes before everything else of the class, and is lived if nothing else was struck.
    first: Option<Case>,
}

/// What many lives came to.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    lives: usize,
    unanswered: usize,
    strikes: BTreeMap<Group, Strikes>,
    /// The cases whose point was not reached.
    missed: Vec<String>,
    ends: BTreeMap<(Operation, &'static str, String), usize>,
    /// The name of the test, for who wants to repeat a case.
    test: &'static str,
    /// Says how each life ended.
    trace: bool,
    broken: Vec<String>,
}

impl Sweep {
    pub(crate) fn new(test: &'static str, scope: &Scope) -> Self {
        Self {
            test,
            trace: scope.only.is_some() || scope.all,
            ..Self::default()
        }
    }

    /// Lives all of these. What of a class was chosen by chance may lie behind the answer of a life
    /// that makes fewer calls; then the first point of the class is struck as well.
    pub(crate) async fn run(&mut self, template: &Arc<Template>, life: Life, cases: Vec<Case>) {
        for case in &cases {
            let strikes = self.strikes.entry(group(case)).or_default();
            strikes.planned += 1;
            let mut first = case.clone();
            first.point.nth = 1;
            strikes.first.get_or_insert(first);
        }
        self.live_all(template, life, cases).await;
        let again = self.strikes.values_mut().filter(|group| group.struck == 0);
        let again: Vec<Case> = again
            .filter_map(|group| {
                group.planned += 1;
                group.first.clone()
            })
            .collect();
        if !again.is_empty() {
            self.live_all(template, life, again).await;
        }
    }

    async fn live_all(&mut self, template: &Arc<Template>, life: Life, cases: Vec<Case>) {
        let (all, mut done) = (cases.len(), 0_usize);
        let mut waiting = cases.into_iter();
        let mut running = JoinSet::new();
        loop {
            while running.len() < AT_ONCE {
                let Some(case) = waiting.next() else { break };
                let lived = life(Arc::clone(template), case.clone());
                running.spawn(async move {
                    let life = tokio::spawn(lived);
                    // A life that stops at a surprise is one more thing that was found.
                    let ended = life.await.unwrap_or_else(|panic| Ended {
                        broken: vec![panic.to_string()],
                        ..Ended::default()
                    });
                    (case, ended)
                });
            }
            let Some(ended) = running.join_next().await else {
                return;
            };
            let (case, ended) = ended.unwrap();
            self.note(&case, &ended);
            done += 1;
            if done.is_multiple_of(50) || done == all {
                println!("{done}/{all}, {} broken", self.broken.len());
            }
        }
    }

    fn note(&mut self, case: &Case, ended: &Ended) {
        self.lives += 1;
        if ended.struck {
            self.strikes.entry(group(case)).or_default().struck += 1;
            self.unanswered += usize::from(ended.unanswered);
        } else {
            self.missed.push(case.to_string());
        }
        let end = (case.operation, case.wait.0, ended.as_what.clone());
        *self.ends.entry(end).or_default() += 1;
        if self.trace {
            println!("{case}: {}", ended.as_what);
        }
        for sentence in &ended.broken {
            let found = format!(
                "{case}: {sentence}\n  again: CARDLESS_CRASH_ONLY='{case}' cargo test --test crash {}",
                self.test
            );
            println!("{found}");
            self.broken.push(found);
        }
    }

    /// Whether the sweep has struck what it was to strike: each class of calls of each operation at
    /// each place once at least, and of all points [`LEAST_STRUCK_PERCENT`].
    ///
    /// # Panics
    ///
    /// If a life broke a rule, or if the blows have not fallen.
    pub(crate) fn assert_sound(&self, scope: &Scope) {
        assert!(self.broken.is_empty(), "{}", self.broken.join("\n"));
        assert_eq!(too_few(&self.strikes, scope.all), Vec::<String>::new());
    }

    /// The closing lines.
    pub(crate) fn figures(&self, begun: Instant, scope: &Scope) -> String {
        let mut text = format!(
            "{}: {} lives; {} struck at their point ({}), {} of them before an answer; \
             {} missed; {} rules broken; {} s; {scope}",
            self.test,
            self.lives,
            self.lives - self.missed.len(),
            self.by_class(),
            self.unanswered,
            self.missed.len(),
            self.broken.len(),
            begun.elapsed().as_secs()
        );
        for ((operation, wait, end), count) in &self.ends {
            text.push_str(&format!("\n  {operation:?} {wait}: {count} ended as {end}"));
        }
        for case in &self.missed {
            text.push_str(&format!("\n  missed: {case}"));
        }
        text
    }

    /// How many were struck of how many planned, by class.
    fn by_class(&self) -> String {
        let mut by_class = BTreeMap::<Class, (usize, usize)>::new();
        for ((_, _, class), group) in &self.strikes {
            let (struck, planned) = by_class.entry(*class).or_default();
            *struck += group.struck;
            *planned += group.planned;
        }
        let text = |(class, (struck, planned)): (&Class, &(usize, usize))| {
            format!("{class:?} {struck} of {planned}")
        };
        by_class.iter().map(text).collect::<Vec<_>>().join(", ")
    }
}

fn group(case: &Case) -> Group {
    (case.operation, case.place, case.point.class)
}

/// What was struck too rarely, each as a sentence.
fn too_few(strikes: &BTreeMap<Group, Strikes>, all: bool) -> Vec<String> {
    let never = |(group, strikes): (&Group, &Strikes)| {
        (strikes.struck == 0)
            .then(|| format!("{group:?}: no blow fell at {} points", strikes.planned))
    };
    let mut found: Vec<String> = strikes.iter().filter_map(never).collect();
    let planned: usize = strikes.values().map(|group| group.planned).sum();
    let struck: usize = strikes.values().map(|group| group.struck).sum();
    if planned == 0 {
        found.push("nothing was planned".to_owned());
    }
    if all && struck * 100 < planned * LEAST_STRUCK_PERCENT {
        found.push(format!("{struck} of {planned} points were struck"));
    }
    found
}

/// A sweep that has missed is seen before one is believed.
#[cfg(test)]
mod tests {
    use super::*;

    fn strikes(of: &[(Class, usize, usize)]) -> BTreeMap<Group, Strikes> {
        let entry = |&(class, struck, planned): &(Class, usize, usize)| {
            let strikes = Strikes {
                planned,
                struck,
                first: None,
            };
            ((Operation::Charge, "paypal", class), strikes)
        };
        of.iter().map(entry).collect()
    }

    #[test]
    fn a_sweep_that_has_missed_is_found() {
        let good = strikes(&[(Class::Sync, 9, 9), (Class::Send, 9, 11)]);
        assert_eq!(too_few(&good, true), Vec::<String>::new());

        let never = strikes(&[(Class::Sync, 90, 90), (Class::Send, 0, 1)]);
        assert_eq!(too_few(&never, false).len(), 1);

        let rarely = strikes(&[(Class::Sync, 9, 9), (Class::Send, 8, 10)]);
        assert_eq!(too_few(&rarely, true).len(), 1);
        // A sample says little about how often.
        assert_eq!(too_few(&rarely, false), Vec::<String>::new());

        assert_eq!(too_few(&BTreeMap::new(), false).len(), 1);
    }
}
