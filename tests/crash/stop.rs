//! SIGSTOP at each sync, send and receive, while time passes beyond every deadline and another
//! process of the service goes on; then SIGCONT.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cardless_sandbox::RecordedRequest;

use tokio::task::JoinHandle;

use crate::judge::{Evidence, judge};
use crate::operation::{Operation, charge_as};
use crate::recover::{end_of, evidence, recover};
use crate::strace::{self, Class, Point, Strace};
use crate::sweep::{
    A_MOMENT, Case, Ended, LATE, Life, SOON, Scope, Sweep, Wait, cases, undisturbed,
};
use crate::world::{Answer, Call, Service, Template, World, signal};

/// How many points of each operation at each provider the ordinary tests strike.
const SAMPLE: usize = 2;

/// As [`SOON`], and the time really passes that a call to a provider may take (30 s), so that
/// timers run out as well. Only with all points.
const REAL: Wait = ("really", Duration::from_secs(5 * 60));
const REAL_SECONDS: u64 = 35;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_was_stopped_sends_nothing_late() {
    let name = "a_process_that_was_stopped_sends_nothing_late";
    if !strace::is_there(name) {
        return;
    }
    let (begun, scope) = (Instant::now(), Scope::of_environment());
    let template = Arc::new(Template::new().await);
    // Once for each operation at each provider, right after its first request has left.
    let wanted = |case: &Case| match case.wait {
        REAL => case.point.class == Class::Send && case.point.nth == 1,
        _ => case.point.class != Class::Write,
    };
    let waits: &[Wait] = if scope.all || scope.only.is_some() {
        &[SOON, LATE, REAL]
    } else {
        &[SOON, LATE]
    };
    let of = undisturbed(&template).await;
    let cases = cases(of, waits, SAMPLE, &scope, wanted);
    let mut sweep = Sweep::new(name, &scope);
    let life: Life = |template, case| Box::pin(live(template, case));
    sweep.run(&template, life, cases).await;
    println!("{}", sweep.figures(begun, &scope));
    sweep.assert_sound(&scope);
}

/// Two processes on one store; the first is stopped in its midst, and goes on when the second has
/// brought everything to an end.
async fn live(template: Arc<Template>, case: Case) -> Ended {
    let world = Arc::new(World::at(&template, case.place).await);
    let first = world.serve().await;
    let call = case.operation.prepare(&world, &first, case.place).await;
    let tracer = Strace::signal_at(first.pid(), &case.point, "STOP").await;
    let asked = tokio::spawn({
        let (world, base, call) = (Arc::clone(&world), first.base.clone(), call.clone());
        async move { world.ask(&base, &call).await }
    });
    let Stopped {
        struck,
        unanswered,
        asked,
    } = stopped(tracer, asked, case.point.class).await;
    if !struck {
        first.kill().await;
        return Ended {
            as_what: "not reached".to_owned(),
            ..Ended::default()
        };
    }
    // Something else may have been in the midst of a commit as it stopped.
    if case.point.class == Class::Sync || world.is_locked() {
        return Ended {
            unanswered,
            ..alone(world, case, &call, first, asked).await
        };
    }
    if case.wait == REAL {
        tokio::time::sleep(Duration::from_secs(REAL_SECONDS)).await;
    }
    world.advance(case.wait.1);
    let second = world.serve().await;
    let before = recover(&world, &second, case.operation, &call, None).await;
    let sent = world.requests().len();
    signal(first.pid(), "CONT").await;
    let late_answer = asked.await.unwrap();
    first.stop().await;
    let late: Vec<String> = world.requests()[sent..]
        .iter()
        .filter(|request| changes_something(request))
        .map(|request| format!("{} {}", request.method, request.path))
        .collect();
    // A head that takes 15 s is no request any more: then the connection is closed.
    let given_up = late_answer.is_none() && case.wait == REAL;
    let answered = late_answer.is_some() || given_up;
    let mut answers = before.answers.clone();
    // In the order in which they were made.
    let at = if unanswered { answers.len() } else { 0 };
    answers.splice(at..at, late_answer);
    let after = Evidence {
        unasked: before.unasked.clone(),
        ..evidence(&world, &second, case.operation, answers).await
    };
    second.stop().await;
    let mut broken = judge(&after);
    if !late.is_empty() {
        broken.push(format!("sent late: {late:?}"));
    }
    if !answered {
        broken.push("a process that goes on answers".to_owned());
    }
    if before.payments != after.payments || before.ledger != after.ledger {
        broken.push(format!("what had ended has changed; before: {before:#?}"));
    }
    let as_what = end_of(&before);
    if case.wait != LATE && as_what != case.operation.success() {
        broken.push(format!("it ended as {as_what}"));
    }
    if !broken.is_empty() {
        broken.push(format!("{after:#?}\n{}", world.logs()));
    }
    Ended {
        struck: true,
        unanswered,
        as_what,
        broken,
    }
}

/// A call to a process that was to be stopped in its midst.
struct Stopped {
    /// The process stands.
    struck: bool,
    /// It has not answered before.
    unanswered: bool,
    asked: JoinHandle<Option<Answer>>,
}

/// Waits until a process stands, or has answered without that.
async fn stopped(
    mut tracer: Strace,
    mut asked: JoinHandle<Option<Answer>>,
    class: Class,
) -> Stopped {
    let mut early = tokio::select! {
        biased;
        _ = tracer.wait_for("stopped by SIGSTOP") => None,
        answer = &mut asked => Some(answer.unwrap()),
    };
    // A point behind the answer is reached a moment later.
    let struck = early.is_none() || tracer.says_within("stopped by SIGSTOP", A_MOMENT).await;
    tracer.detach().await;
    if early.is_none() && class == Class::Send {
        // What was sent may have been the answer.
        let answer = tokio::time::timeout(A_MOMENT, &mut asked).await;
        early = answer.ok().map(Result::unwrap);
    }
    let unanswered = early.is_none();
    let asked = match early {
        Some(answer) => tokio::spawn(async { answer }),
        None => asked,
    };
    Stopped {
        struck,
        unanswered,
        asked,
    }
}

/// A process that stops within a commit keeps the database's lock, so that nobody can overtake it:
/// it goes on alone, and finds that its mark is too old.
async fn alone(
    world: Arc<World>,
    case: Case,
    call: &Call,
    stopped: Service,
    asked: JoinHandle<Option<Answer>>,
) -> Ended {
    world.advance(case.wait.1);
    let sent = world.requests().len();
    signal(stopped.pid(), "CONT").await;
    let answer = asked.await.unwrap();
    stopped.stop().await;
    let late: Vec<String> = world.requests()[sent..]
        .iter()
        .filter(|request| changes_something(request) && !releases(request))
        .map(|request| format!("{} {}", request.method, request.path))
        .collect();
    let second = world.serve().await;
    let evidence = recover(&world, &second, case.operation, call, answer).await;
    second.stop().await;
    let mut broken = judge(&evidence);
    if case.operation.charges() && case.wait == LATE && !late.is_empty() {
        // What would be sent anew is not, since 15 minutes have passed; so this is old.
        broken.push(format!("sent late: {late:?}"));
    }
    // It may say that it failed, since it knows that nothing has left.
    let as_what = end_of(&evidence);
    if !broken.is_empty() {
        broken.push(format!("{evidence:#?}\n{}", world.logs()));
    }
    Ended {
        struck: true,
        unanswered: true,
        as_what,
        broken,
    }
}

/// A link that one process has begun and another has brought to its end is not taken back by the
/// first, which finds when it goes on that its own request never left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_another_process_has_begun_is_not_taken_back() {
    if !strace::is_there("a_link_that_another_process_has_begun_is_not_taken_back") {
        return;
    }
    let template = Arc::new(Template::new().await);
    let case = Case {
        operation: Operation::Begin,
        place: "paypal",
        // The access token is asked for; the link itself would come next.
        point: Point {
            class: Class::Send,
            call: "writev",
            nth: 1,
        },
        wait: SOON,
    };
    let ended = live(template, case).await;
    assert!(ended.struck);
    assert!(ended.broken.is_empty(), "{}", ended.broken.join("\n"));
}

/// A process that was stopped within a commit keeps others from writing, not from reading; what
/// they refuse is not carried out later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_stopped_process_holds_the_database_others_refuse() {
    if !strace::is_there("while_a_stopped_process_holds_the_database_others_refuse") {
        return;
    }
    let template = Template::new().await;
    let world = Arc::new(World::new(&template).await);
    let first = world.serve().await;
    let call = Operation::Charge.prepare(&world, &first, "paypal").await;
    let point = Point {
        class: Class::Sync,
        call: "fsync",
        nth: 1,
    };
    let mut tracer = Strace::signal_at(first.pid(), &point, "STOP").await;
    let asked = tokio::spawn({
        let (world, base, call) = (Arc::clone(&world), first.base.clone(), call.clone());
        async move { world.ask(&base, &call).await }
    });
    tracer.wait_for("stopped by SIGSTOP").await;
    tracer.detach().await;
    // It starts, reads, and refuses.
    let second = world.serve().await;
    let before = world.requests().len();
    let other = charge_as("automatic", "other", "invoice-18");
    let refused = world.must(&second.base, &other).await;
    assert_eq!(
        (refused.status, &refused.json()["code"]),
        (503, &"store_unavailable".into())
    );
    let list = world.verb(&["payment", "list"]).await;
    assert!(list.status.success(), "{list:?}");
    let ready = world.must(&second.base, &Call::get("/readyz")).await;
    assert_eq!(ready.status, 503, "{ready:?}");
    assert_eq!(world.requests().len(), before, "something was sent");
    signal(first.pid(), "CONT").await;
    // More than 10 s have passed since its mark: it sends nothing for it, and asks later.
    let answer = asked.await.unwrap();
    assert!(answer.is_some_and(|answer| answer.status < 500));
    first.stop().await;
    world.advance(SOON.1);
    let evidence = recover(&world, &second, Operation::Charge, &call, None).await;
    assert_eq!(judge(&evidence), Vec::<String>::new());
    second.stop().await;
}

/// Whether a request lets something go at the provider.
fn releases(request: &RecordedRequest) -> bool {
    ["/cancel", "/void", "/void-online"]
        .iter()
        .any(|end| request.path.ends_with(end))
}

/// Whether a request may move or change anything at the provider; an access token and a search do
/// not.
fn changes_something(request: &RecordedRequest) -> bool {
    let asks = request.method == "GET"
        || request.path.ends_with("/oauth2/token")
        || request.path.ends_with("/search");
    !asks
}
