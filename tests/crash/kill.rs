//! SIGKILL at each sync, send and receive.

use std::sync::Arc;
use std::time::Instant;

use crate::judge::judge;
use crate::recover::{end_of, recover};
use crate::strace::{self, Class, Strace};
use crate::sweep::{A_MOMENT, Case, Ended, LATE, Life, SOON, Scope, Sweep, cases, undisturbed};
use crate::world::{Template, World};

/// How many points of each operation at each provider the ordinary tests strike.
const SAMPLE: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_moves_money_twice_or_loses_it() {
    let name = "no_kill_moves_money_twice_or_loses_it";
    if !strace::is_there(name) {
        return;
    }
    let (begun, scope) = (Instant::now(), Scope::of_environment());
    let template = Arc::new(Template::new().await);
    // In the midst of a transaction it makes no difference how long nobody looks.
    let wanted = |case: &Case| case.point.class != Class::Write || case.wait == SOON;
    let of = undisturbed(&template).await;
    let cases = cases(of, &[SOON, LATE], SAMPLE, &scope, wanted);
    let mut sweep = Sweep::new(name, &scope);
    let life: Life = |template, case| Box::pin(live(template, case));
    sweep.run(&template, life, cases).await;
    println!("{}", sweep.figures(begun, &scope));
    sweep.assert_sound(&scope);
}

/// One life of the service, its end, and the next one.
async fn live(template: Arc<Template>, case: Case) -> Ended {
    let world = World::at(&template, case.place).await;
    let mut service = world.serve().await;
    let call = case.operation.prepare(&world, &service, case.place).await;
    let tracer = Strace::signal_at(service.pid(), &case.point, "KILL").await;
    let first = world.ask(&service.base, &call).await;
    let unanswered = first.is_none();
    // A point behind the answer is reached a moment later.
    let struck = service.ends_within(A_MOMENT).await || unanswered;
    service.kill().await;
    tracer.detach().await;
    world.advance(case.wait.1);
    let service = world.serve().await;
    let evidence = recover(&world, &service, case.operation, &call, first).await;
    service.stop().await;
    let mut broken = judge(&evidence);
    let as_what = end_of(&evidence);
    if case.wait == SOON && as_what != case.operation.success() {
        // Within the windows nothing is given up.
        broken.push(format!("it ended as {as_what}"));
    }
    if !broken.is_empty() {
        broken.push(format!("{evidence:#?}\n{}", world.logs()));
    }
    world.close().await;
    Ended {
        struck,
        unanswered,
        as_what,
        broken,
    }
}
