//! The bounds of the exploration, the clocks, and how a run is judged.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::time::{Duration, Instant};

use stateright::{Checker as _, Expectation, HasDiscoveries, Model, Path};

/// How long a request can be under way after it has left, in ticks.
pub(crate) const NET: u8 = 1;

/// How far two clocks of ours differ at most, in ticks.
pub(crate) const SKEW: u8 = 1;

/// How long after its mark a request may still leave, in ticks: within the same one.
pub(crate) const SEND_WITHIN: u8 = 0;

/// The longest delay of `DESIGN`: from the mark, by one clock, to the last moment at which the
/// request can be carried out, by another clock. One more, since a tick has no order within.
pub(crate) const LONGEST_DELAY: u8 = NET + SKEW + SEND_WITHIN + 1;

/// How long a lease lasts, in ticks.
pub(crate) const LEASE: u8 = 2;

/// How long after its acceptance a payment may be reserved or committed, in ticks.
pub(crate) const COMMIT_WITHIN: u8 = 1;

/// How long the provider keeps a key, in ticks.
pub(crate) const WINDOW: u8 = 5;

/// "At no time."
pub(crate) const NEVER: u8 = u8::MAX;

/// How often a row can be taken, and something of it be learnt, within one tick once the faults are
/// off. More would be a worker that spins: it has to do one of both again and again.
pub(crate) const MAX_TURNS_IN_A_TICK: u8 = 12;

/// The name of the variable that widens the bounds.
const DEPTH: &str = "CARDLESS_MODEL_DEPTH";

/// The clocks of the two workers relative to the true time: equal, or either ahead of the other.
pub(crate) const SKEWS: [[u8; 2]; 3] = [[0, 0], [0, SKEW], [SKEW, 0]];

/// What may go wrong, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Crashes, lost requests, lost replies, duplicates, refused connections, unanswered questions
    /// and webhooks, together.
    pub(crate) faults: u8,
    /// Until this tick things go wrong and workers pause as long as they like.
    pub(crate) faults_until: u8,
    /// At this tick everything must have ended.
    pub(crate) horizon: u8,
}

impl Bounds {
    /// The bounds of the ordinary tests, or wider ones by `CARDLESS_MODEL_DEPTH`.
    pub(crate) fn new(faults: u8, faults_until: u8) -> Self {
        let depth = std::env::var(DEPTH)
            .ok()
            .and_then(|text| text.parse::<u8>().ok())
            .unwrap_or(0);
        let faults_until = faults_until + depth;
        Self {
            faults: faults + depth,
            faults_until,
            horizon: faults_until + 10,
        }
    }
}

/// Explores everything within the bounds and prints how much that was.
///
/// # Panics
///
/// If a safety property is violated, with the trace that led there; if something that must be possible
/// is not, since a model in which nothing happens proves nothing.
pub(crate) fn holds<M>(name: &str, model: M)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq,
{
    let start = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let checker = model
        .checker()
        .threads(threads)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let found = checker.discoveries();
    for property in checker.model().properties() {
        let discovery = found.get(property.name);
        match property.expectation {
            Expectation::Sometimes => {
                assert!(discovery.is_some(), "{name}: never {}", property.name)
            }
            Expectation::Always | Expectation::Eventually => {
                if let Some(path) = discovery {
                    panic!("{name}: not {}:\n{}", property.name, trace(path));
                }
            }
        }
    }
    println!(
        "{name}: {} states, {} transitions, depth {}, {}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        seconds(start.elapsed()),
    );
}

/// Explores a wrong protocol until a safety property breaks, and prints which.
///
/// # Panics
///
/// If nothing breaks, or nothing of what is `expected`.
pub(crate) fn breaks<M>(name: &str, model: M, expected: &'static str)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq,
{
    let start = Instant::now();
    // One thread goes strictly breadth first, so that the trace is short.
    let checker = model
        .checker()
        .finish_when(HasDiscoveries::AnyOf(BTreeSet::from([expected])))
        .spawn_bfs()
        .join();
    let path = checker.discovery(expected);
    let path = path.unwrap_or_else(|| {
        panic!(
            "{name}: no schedule of {} states violates \"{expected}\"",
            checker.unique_state_count()
        )
    });
    println!(
        "{name}: \"{expected}\" is violated after {} states, {}:\n{}",
        checker.unique_state_count(),
        seconds(start.elapsed()),
        trace(&path),
    );
}

/// The steps that led somewhere, one a line, and where that is.
fn trace<S: Debug + Clone + PartialEq, A: Debug + Clone + PartialEq>(path: &Path<S, A>) -> String {
    let mut text = String::new();
    for action in path.clone().into_actions() {
        text.push_str(&format!("    {action:?}\n"));
    }
    text.push_str(&format!("    = {:?}\n", path.last_state()));
    text
}

fn seconds(time: Duration) -> String {
    format!("{}.{:03} s", time.as_secs(), time.subsec_millis())
}
