//! SIGKILL at each sync, send and receive.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::judge::{Evidence, judge};
use crate::operation::{Operation, PROVIDERS, methods, payments};
use crate::strace::{self, Class, Point, Strace};
use crate::sweep::{Scope, Seed};
use crate::world::{Answer, Call, Service, Template, World};

/// What passes before the service is started again: every lease and the longest delay; or every
/// window in which a provider keeps a key, and the time in which a payment may be committed.
const WAITS: [(&str, Duration); 2] = [
    ("soon", Duration::from_secs(5 * 60)),
    ("late", Duration::from_secs(7 * 3600)),
];

/// What passes between two runs of `reconcile`, in seconds: nothing while another process has the
/// lease, then what a question waits for, then what a person would wait.
const ROUNDS: [u64; 16] = [
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    10,
    60,
    300,
    3600,
    3600,
    6 * 3600,
    24 * 3600,
    0,
];

/// How many of these pass at once, while a customer's page waits.
const AT_FIRST: usize = 8;

/// How many cases run at once. Most of a case is a wait for a process to start.
const AT_ONCE: usize = 3;

/// How many points of each operation at each provider the ordinary tests strike.
const SAMPLE: usize = 5;

/// One life: an operation, a blow in its midst or none, and what passes before the next life.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) operation: Operation,
    pub(crate) provider: &'static str,
    pub(crate) point: Option<Point>,
    pub(crate) wait: (&'static str, Duration),
}

/// What became of it.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// The point was reached: the process was dead before the test itself ended it.
    pub(crate) struck: bool,
    /// It was reached before the answer was given.
    pub(crate) unanswered: bool,
    /// How the payment or the link ended.
    pub(crate) as_what: String,
    pub(crate) broken: Vec<String>,
    /// Where one can strike; of a life without a blow.
    pub(crate) points: Vec<Point>,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let operation = format!("{:?}", self.operation).to_lowercase();
        write!(f, "{operation} {}", self.provider)?;
        match &self.point {
            Some(point) => write!(f, " {point} {}", self.wait.0),
            None => f.write_str(" without a blow"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_moves_money_twice_or_loses_it() {
    let name = "no_kill_moves_money_twice_or_loses_it";
    if !strace::is_there(name) {
        return;
    }
    let begun = Instant::now();
    let scope = Scope::of_environment();
    let template = std::sync::Arc::new(Template::new().await);
    let mut unstruck = Vec::new();
    for operation in Operation::ALL {
        for provider in PROVIDERS {
            unstruck.push(Case {
                operation,
                provider,
                point: None,
                wait: WAITS[0],
            });
        }
    }
    let mut sweep = Sweep {
        trace: scope.only.is_some() || scope.all,
        ..Sweep::default()
    };
    let controls = sweep.run(&template, unstruck).await;
    let mut seed = Seed::new(scope.seed);
    let mut cases = Vec::new();
    for (case, ended) in controls {
        cases.extend(chosen(&case, &ended.points, &scope, &mut seed));
    }
    sweep.run(&template, cases).await;
    println!("{name}: {}", sweep.figures(begun, &scope));
    assert!(sweep.broken.is_empty(), "{}", sweep.broken.join("\n"));
    assert!(scope.only.is_some() || sweep.struck > 0, "no blow fell");
}

/// The blows of an operation at a provider: all of them, or a few by the seed.
fn chosen(of: &Case, points: &[Point], scope: &Scope, seed: &mut Seed) -> Vec<Case> {
    let mut cases = Vec::new();
    for point in points {
        for wait in WAITS {
            // In the midst of a transaction it makes no difference how long nobody looks.
            if point.class != Class::Write || wait == WAITS[0] {
                cases.push(Case {
                    point: Some(point.clone()),
                    wait,
                    ..of.clone()
                });
            }
        }
    }
    if let Some(only) = &scope.only {
        cases.retain(|case| case.to_string().starts_with(only.as_str()));
        return cases;
    }
    if !scope.all {
        cases.retain(|case| {
            case.point
                .as_ref()
                .is_some_and(|point| point.class != Class::Write)
        });
        while cases.len() > SAMPLE {
            cases.swap_remove(seed.below(cases.len()));
        }
    }
    cases
}

/// What many lives came to.
#[derive(Debug, Default)]
struct Sweep {
    lives: usize,
    struck: usize,
    unanswered: usize,
    by_class: BTreeMap<Class, usize>,
    ends: BTreeMap<(Operation, &'static str, String), usize>,
    /// Says how each life ended.
    trace: bool,
    broken: Vec<String>,
}

impl Sweep {
    async fn run(
        &mut self,
        template: &std::sync::Arc<Template>,
        cases: Vec<Case>,
    ) -> Vec<(Case, Ended)> {
        let all = cases.len();
        let mut done = Vec::new();
        let mut waiting = cases.into_iter();
        let mut running = JoinSet::new();
        loop {
            while running.len() < AT_ONCE {
                let Some(case) = waiting.next() else { break };
                let template = std::sync::Arc::clone(template);
                running.spawn(async move {
                    let named = case.clone();
                    let life = tokio::spawn(async move { live(&template, &named).await });
                    // A life that stops at a surprise is one more thing that was found.
                    let ended = life.await.unwrap_or_else(|panic| Ended {
                        broken: vec![panic.to_string()],
                        ..Ended::default()
                    });
                    (case, ended)
                });
            }
            let Some(ended) = running.join_next().await else {
                return done;
            };
            let (case, ended) = ended.unwrap();
            self.note(&case, &ended);
            done.push((case, ended));
            if done.len().is_multiple_of(50) {
                println!("{}/{all}, {} broken", done.len(), self.broken.len());
            }
        }
    }

    fn note(&mut self, case: &Case, ended: &Ended) {
        self.lives += 1;
        if ended.struck {
            self.struck += 1;
            self.unanswered += usize::from(ended.unanswered);
            if let Some(point) = &case.point {
                *self.by_class.entry(point.class).or_default() += 1;
            }
        }
        let end = (case.operation, case.wait.0, ended.as_what.clone());
        *self.ends.entry(end).or_default() += 1;
        if self.trace {
            println!("{case}: {}", ended.as_what);
        }
        for sentence in &ended.broken {
            let found = format!(
                "{case}: {sentence}\n  again: CARDLESS_CRASH_ONLY='{case}' cargo test --test crash no_kill"
            );
            println!("{found}");
            self.broken.push(found);
        }
    }

    fn figures(&self, begun: Instant, scope: &Scope) -> String {
        let mut text = format!(
            "{} lives; {} ended by SIGKILL at their point {:?}, {} of them before an answer; \
             {} rules broken; {} s; {scope}",
            self.lives,
            self.struck,
            self.by_class,
            self.unanswered,
            self.broken.len(),
            begun.elapsed().as_secs()
        );
        for ((operation, wait, end), count) in &self.ends {
            text.push_str(&format!("\n  {operation:?} {wait}: {count} ended as {end}"));
        }
        text
    }
}

/// One life of the service, its end, and the next one.
async fn live(template: &Template, case: &Case) -> Ended {
    let world = World::new(template).await;
    let service = world.serve().await;
    let call = case
        .operation
        .prepare(&world, &service, case.provider)
        .await;
    let tracer = match &case.point {
        Some(point) => Strace::signal_at(service.pid(), point, "KILL").await,
        None => Strace::count(service.pid()).await,
    };
    let first = world.ask(&service.base, &call).await;
    let unanswered = first.is_none();
    let struck = service.kill().await || unanswered;
    let traced = tracer.detach().await;
    let points = match &case.point {
        Some(_) => Vec::new(),
        None => strace::points(&traced),
    };
    world.advance(case.wait.1);
    let service = world.serve().await;
    let evidence = recover(&world, &service, case.operation, &call, first).await;
    service.stop().await;
    let mut broken = judge(&evidence);
    let as_what = end_of(&evidence);
    if case.wait == WAITS[0] && as_what != case.operation.success() {
        // Within the windows nothing is given up.
        broken.push(format!("it ended as {as_what}"));
    }
    if !broken.is_empty() {
        broken.push(format!("{evidence:#?}\n{}", world.logs()));
    }
    world.close().await;
    Ended {
        struck: struck && case.point.is_some(),
        unanswered,
        as_what,
        broken,
        points,
    }
}

/// What the caller, the customer and the operator do once the service runs again.
pub(crate) async fn recover(
    world: &World,
    service: &Service,
    operation: Operation,
    call: &Call,
    first: Option<Answer>,
) -> Evidence {
    let mut answers: Vec<Answer> = first.into_iter().collect();
    answers.push(world.must(&service.base, call).await);
    if operation == Operation::Begin {
        // A page waits for a few hours only.
        reconcile(world, &ROUNDS[..AT_FIRST]).await;
        answers.push(world.must(&service.base, call).await);
        operation
            .finish(world, service, call, answers.last().unwrap())
            .await;
        reconcile(world, &ROUNDS).await;
    } else {
        reconcile(world, &ROUNDS).await;
        answers.push(world.must(&service.base, call).await);
        operation
            .finish(world, service, call, answers.last().unwrap())
            .await;
    }
    let reconcile = reconcile(world, &ROUNDS).await;
    let verified = world.verb(&["reconcile", "--verify"]).await;
    Evidence {
        operation,
        answers,
        methods: methods(world, &service.base)
            .await
            .iter()
            .filter_map(|method| method["status"].as_str().map(str::to_owned))
            .collect(),
        payments: payments(world, &service.base).await,
        ledger: world.ledger(),
        reconcile,
        verify: (!verified.status.success()).then(|| format!("{verified:?}")),
    }
}

/// Runs `reconcile` until nothing is open, with time passing in between; gives its last report.
pub(crate) async fn reconcile(world: &World, rounds: &[u64]) -> Value {
    let mut report = Value::Null;
    for pause in rounds {
        let output = world.verb(&["reconcile", "--json"]).await;
        assert!(output.status.success(), "{output:?}");
        report = serde_json::from_slice(&output.stdout).unwrap();
        if report["still_open"] == 0 && report["leased"] == 0 && report["errors"] == 0 {
            break;
        }
        world.advance(Duration::from_secs(*pause));
    }
    report
}

/// How the operation ended, in the words of the API.
fn end_of(evidence: &Evidence) -> String {
    let last = evidence.answers.last();
    let text = last.map_or("", |answer| answer.text.as_str());
    match evidence.operation {
        Operation::Begin | Operation::Revoke => evidence.methods.concat(),
        Operation::Complete => {
            let status = text.rsplit_once("status=");
            status.map_or("", |(_, status)| status).to_owned()
        }
        Operation::Charge
        | Operation::Authorize
        | Operation::Capture
        | Operation::Void
        | Operation::Refund => {
            let payment = evidence.payments.first().cloned().unwrap_or_default();
            let mut end = payment["status"].to_string();
            if let Some(code) = payment["failure"]["code"].as_str() {
                end.push_str(&format!(" ({code})"));
            }
            for one in payment["operations"].as_array().into_iter().flatten() {
                end.push_str(&format!(", {} {}", one["kind"], one["status"]));
            }
            end.replace('"', "")
        }
    }
}
