//! A disk that is full, and a disk that fails: what is refused is not carried out, and what was
//! promised is kept.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::judge::judge;
use crate::operation::{Operation, charge_as, payments};
use crate::recover::{end_of, recover};
use crate::strace::{self, Class, Strace};
use crate::sweep::{Case, Ended, Life, Scope, Sweep, Wait, cases, undisturbed};
use crate::world::{Answer, Call, Template, World};

/// How many points of each operation at each provider the ordinary tests strike.
const SAMPLE: usize = 2;

/// After the failure the process goes on; or it is killed, and another reads what it has left.
const GOES_ON: Wait = ("going on", Duration::from_secs(5 * 60));
const KILLED: Wait = ("killed", Duration::from_secs(5 * 60));

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_disk_refuses_is_neither_done_nor_lost() {
    let name = "what_the_disk_refuses_is_neither_done_nor_lost";
    if !strace::is_there(name) {
        return;
    }
    let (begun, scope) = (Instant::now(), Scope::of_environment());
    let template = Arc::new(Template::new().await);
    // Each sync fails by itself; from each third write on there is no room.
    let wanted = |case: &Case| match case.point.class {
        Class::Sync => true,
        Class::Write => case.point.nth % 3 == 1,
        Class::Send | Class::Receive => false,
    };
    let of = undisturbed(&template).await;
    let cases = cases(of, &[GOES_ON, KILLED], SAMPLE, &scope, wanted);
    let mut sweep = Sweep::new(name, &scope);
    let life: Life = |template, case| Box::pin(live(template, case));
    sweep.run(&template, life, cases).await;
    println!("{}", sweep.figures(begun, &scope));
    sweep.assert_sound(&scope);
}

async fn live(template: Arc<Template>, case: Case) -> Ended {
    let world = World::at(&template, case.place).await;
    let mut service = world.serve().await;
    let call = case.operation.prepare(&world, &service, case.place).await;
    let before = payments(&world, &service.base).await;
    let sent = world.requests().len();
    let (name, nth) = (case.point.call, case.point.nth);
    let rule = match case.point.class {
        Class::Sync => format!("{name}:error=EIO:when={nth}"),
        Class::Send | Class::Receive | Class::Write => format!("{name}:error=ENOSPC:when={nth}+"),
    };
    let tracer = Strace::inject(service.pid(), name, &[&rule]).await;
    let first = world.must(&service.base, &call).await;
    let struck = tracer
        .detach()
        .await
        .iter()
        .any(|line| line.contains("(INJECTED)"));
    let refused = is_refused(&first);
    let nothing_left = world.requests().len() == sent;
    if case.wait == KILLED {
        service.kill().await;
        service = world.serve().await;
    }
    let mut broken = Vec::new();
    if refused && nothing_left && payments(&world, &service.base).await != before {
        broken.push("what was refused is there after all".to_owned());
    }
    world.advance(case.wait.1);
    let answered = Some(first).filter(|_| !refused);
    let evidence = recover(&world, &service, case.operation, &call, answered).await;
    let ready = world.must(&service.base, &Call::get("/readyz")).await;
    service.stop().await;
    broken.extend(judge(&evidence));
    let as_what = end_of(&evidence);
    // Where the write came between the intent and its request, it says that nothing was begun.
    if as_what != case.operation.success() && !as_what.contains("not_begun") {
        broken.push(format!("it ended as {as_what}"));
    }
    if ready.status != 200 {
        broken.push(format!("not ready again: {ready:?}"));
    }
    if !broken.is_empty() {
        broken.push(format!("{evidence:#?}\n{}", world.logs()));
    }
    world.close().await;
    Ended {
        struck,
        unanswered: refused,
        as_what,
        broken,
    }
}

fn is_refused(answer: &Answer) -> bool {
    answer.status == 503 && answer.json()["code"] == "store_unavailable"
}

/// A file system of its own, with little room, that is taken away again.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// Nothing if this process may not mount.
    fn mount() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs"])
            .arg(folder.path())
            .output();
        mounted
            .is_ok_and(|output| output.status.success())
            .then(|| Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let filled = std::fs::write(self.path().join("ballast"), vec![1; 8 * 1024 * 1024]);
        filled.expect_err("there is room for all of it");
    }

    fn empty(&self) {
        std::fs::remove_file(self.path().join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that was killed a moment ago may not be gone.
        let unmounted = Command::new("umount").arg("-l").arg(self.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "umount");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_and_forgiven() {
    let Some(disk) = SmallDisk::mount() else {
        println!("a_full_disk_is_told_and_forgiven: skipped, this user may not mount a tmpfs");
        return;
    };
    let template = Template::new().await;
    let folder = TempDir::new().unwrap();
    let store = disk.path().to_owned();
    let world = World::with_store(&template, folder, store, "").await;
    let service = world.serve().await;
    let base = &service.base;
    let call = Operation::Charge.prepare(&world, &service, "paypal").await;
    let paid = world.must(base, &call).await;
    assert_eq!(paid.status, 201, "{paid:?}");

    disk.fill();
    let sent = world.requests().len();
    let mut refused = Vec::new();
    for attempt in 0..3 {
        let call = charge_as(
            "automatic",
            &format!("full-{attempt}"),
            &format!("full {attempt}"),
        );
        let answer = world.must(base, &call).await;
        assert!(is_refused(&answer), "{answer:?}");
        refused.push(call);
    }
    assert_eq!(world.requests().len(), sent, "something was sent");
    assert_eq!(world.must(base, &Call::get("/readyz")).await.status, 503);
    assert_eq!(world.must(base, &Call::get("/healthz")).await.status, 200);
    assert!(
        service.log().contains("look at its disk"),
        "{}",
        service.log()
    );
    // What was answered is read, and a person is told what is wrong.
    assert_eq!(world.must(base, &call).await, paid);
    let list = world.verb(&["payment", "list"]).await;
    assert!(list.status.success(), "{list:?}");
    let add = world
        .verb(&["client", "add", "late", "--role", "auditor"])
        .await;
    let text = String::from_utf8(add.stderr).unwrap();
    assert_eq!(add.status.code(), Some(1), "{text}");
    // The log may say so as well; the last word is for the person.
    let last = text.lines().last().unwrap();
    assert!(
        last.starts_with("cardless: ") && last.contains("disk is full"),
        "{text}"
    );

    disk.empty();
    assert_eq!(world.must(base, &Call::get("/readyz")).await.status, 200);
    for call in &refused {
        let answer = world.must(base, call).await;
        assert_eq!(
            (answer.status, &answer.json()["status"]),
            (201, &"captured".into())
        );
    }
    assert_eq!(world.must(base, &call).await, paid);
    assert_eq!(world.ledger().len(), 1 + refused.len());
    service.stop().await;
    let verified = world.verb(&["reconcile", "--verify"]).await;
    assert!(verified.status.success(), "{verified:?}");
}
