//! A restriction at any moment: once it is written, nothing more of the account is accepted, marked as
//! sent, or shown. The store itself keeps the order in which that is written, and each case is run once
//! for every reading of the clock in it, with the restriction written just there.

use std::time::Duration;

use cardless::error::Code;
use cardless::message::*;

use crate::fake::{Fault, SHAPES, Shape};
use crate::keys::Files;
use crate::world::*;

/// Writes down, in order, what comes of the account. What is rolled back is not in it.
const WATCH: &str = "
    CREATE TABLE seen (what TEXT NOT NULL);
    CREATE TRIGGER seen_restriction AFTER UPDATE OF restricted ON accounts WHEN NEW.restricted = 1
        BEGIN INSERT INTO seen VALUES ('restricted'); END;
    CREATE TRIGGER seen_payment AFTER INSERT ON payments
        BEGIN INSERT INTO seen VALUES ('accepted'); END;
    CREATE TRIGGER seen_capture AFTER INSERT ON operations WHEN NEW.kind = 'capture'
        BEGIN INSERT INTO seen VALUES ('accepted'); END;
    CREATE TRIGGER seen_setup AFTER INSERT ON setups
        BEGIN INSERT INTO seen VALUES ('accepted'); END;
    CREATE TRIGGER seen_commit AFTER UPDATE ON payments
        WHEN NEW.step = 'committing'
            AND (OLD.step <> 'committing' OR NEW.last_sent_at IS NOT OLD.last_sent_at)
        BEGIN INSERT INTO seen VALUES ('commit'); END;
    CREATE TRIGGER seen_reserve AFTER UPDATE ON payments
        WHEN NEW.step = 'reserving' AND OLD.step = 'linking'
        BEGIN INSERT INTO seen VALUES ('reserve'); END;
    CREATE TRIGGER seen_capture_sent AFTER UPDATE ON operations
        WHEN NEW.kind = 'capture' AND NEW.last_sent_at IS NOT OLD.last_sent_at
        BEGIN INSERT INTO seen VALUES ('capture'); END;
    CREATE TRIGGER seen_page AFTER UPDATE ON payments
        WHEN NEW.redirect IS NOT NULL AND OLD.redirect IS NULL
        BEGIN INSERT INTO seen VALUES ('page'); END;
    CREATE TRIGGER seen_page_to_link AFTER UPDATE ON setups
        WHEN NEW.redirect IS NOT NULL AND OLD.redirect IS NULL
        BEGIN INSERT INTO seen VALUES ('page to link'); END;
";

/// The same of a revocation.
const WATCH_REVOCATION: &str = "
    CREATE TABLE seen (what TEXT NOT NULL);
    CREATE TRIGGER seen_revocation AFTER UPDATE OF state ON payment_methods WHEN NEW.state = 'revoking'
        BEGIN INSERT INTO seen VALUES ('revoking'); END;
    CREATE TRIGGER seen_payment AFTER INSERT ON payments
        BEGIN INSERT INTO seen VALUES ('accepted'); END;
";

const REVOKE: &str = "UPDATE payment_methods SET state = 'revoking', is_default = 0";

const RESTRICT: &str = "UPDATE accounts SET restricted = 1";

/// No case reads the clock as often.
const MANY: usize = 10_000;

/// What is done while the restriction comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Charge,
    /// The customer is sent to a page.
    Present,
    /// The customer has approved there.
    Approved,
    /// A commit that has not left is made again.
    NotLeft,
    Link,
    LinkAndPay,
    /// The customer has linked a method with a first payment.
    Linked,
    Capture,
    /// A capture that did not arrive is sent again.
    CaptureAgain,
}

impl Case {
    /// Whether all that is open is driven, so that it begins with nothing.
    const fn drives_all(self) -> bool {
        match self {
            Self::Approved | Self::NotLeft | Self::Linked | Self::CaptureAgain => true,
            Self::Charge | Self::Present | Self::Link | Self::LinkAndPay | Self::Capture => false,
        }
    }
}

/// A world, whose store writes down what comes.
struct Watched {
    files: Files,
    world: World,
    references: u32,
}

impl Watched {
    async fn new(shape: Shape) -> Self {
        Self::by(shape, WATCH).await
    }

    async fn by(shape: Shape, watch: &str) -> Self {
        let files = Files::new();
        let world = World::shaped_on(shape, files.store("x.db"));
        world.linked().await;
        files.execute(watch);
        Self {
            files,
            world,
            references: 0,
        }
    }

    /// What comes before; gives what goes on then.
    async fn prepare(&mut self, case: Case) -> String {
        self.files.execute("UPDATE accounts SET restricted = 0");
        self.references += 1;
        let reference = format!("r-{}", self.references);
        let world = &self.world;
        let id = match case {
            Case::Charge | Case::Present | Case::Link | Case::LinkAndPay => reference,
            Case::Approved => {
                let id = world.pay(&present(&reference)).await.id;
                world.fake.approve(&id);
                id
            }
            Case::NotLeft => {
                for _ in 0..20 {
                    world.fake.fault("commit", Fault::NotSent);
                }
                let payment = world.pay(&charge(&reference)).await;
                assert_eq!(payment.status, PaymentStatus::Pending);
                world.fake.no_more_faults();
                payment.id
            }
            Case::Linked => {
                let request = link_and_pay(&reference);
                let setup = world.gateway.link(&world.key(), &request).await;
                world.fake.end_setup("linked");
                setup.unwrap().body.id
            }
            Case::Capture => world.pay(&hold(&reference)).await.id,
            Case::CaptureAgain => {
                let id = world.pay(&hold(&reference)).await.id;
                world.fake.fault("capture", Fault::LostBefore);
                let (key, whole) = (world.key(), take(None, None));
                world.gateway.capture(&key, &id, &whole).await.unwrap();
                id
            }
        };
        tokio::time::advance(Duration::from_secs(60)).await;
        self.files.execute("DELETE FROM seen");
        id
    }

    /// A refusal is an answer, too.
    async fn run(&self, case: Case, id: &str) {
        let (world, key) = (&self.world, self.world.key());
        match case {
            Case::Charge => drop(world.gateway.pay(&key, &charge(id)).await),
            Case::Present => drop(world.gateway.pay(&key, &present(id)).await),
            Case::Link => drop(world.gateway.link(&key, &link_request()).await),
            Case::LinkAndPay => drop(world.gateway.link(&key, &link_and_pay(id)).await),
            Case::Linked => {
                drop(world.gateway.complete_link(id).await);
                world.reconcile().await;
            }
            Case::Capture => {
                let whole = take(None, None);
                drop(world.gateway.capture(&key, id, &whole).await);
            }
            Case::Approved | Case::NotLeft | Case::CaptureAgain => {
                world.reconcile().await;
            }
        }
    }

    fn seen(&self) -> Vec<String> {
        seen(&self.files)
    }
}

/// What was written, in order.
fn seen(files: &Files) -> Vec<String> {
    let file = files.file();
    let mut seen = file
        .prepare("SELECT what FROM seen ORDER BY rowid")
        .unwrap();
    let seen = seen.query_map([], |row| row.get(0)).unwrap();
    seen.collect::<Result<_, _>>().unwrap()
}

#[tokio::test(start_paused = true)]
async fn nothing_is_accepted_marked_or_shown_behind_it() {
    for (case, shapes, wanted) in [
        (Case::Charge, &SHAPES[..], "commit"),
        (Case::Present, &SHAPES, "page"),
        (Case::Approved, &[Shape::TwoCalls], "commit"),
        (Case::NotLeft, &[Shape::TwoCalls, Shape::Holds], "commit"),
        (Case::Link, &[Shape::TwoCalls], "page to link"),
        (Case::LinkAndPay, &[Shape::Page], "page to link"),
        (Case::Linked, &[Shape::TwoCalls], "reserve"),
        (Case::Capture, &[Shape::TwoCalls], "accepted"),
        (
            Case::CaptureAgain,
            &[Shape::TwoCalls, Shape::Holds],
            "capture",
        ),
    ] {
        for &shape in shapes {
            let (mut kept_out, mut ended) = (0, false);
            let mut watched = Watched::new(shape).await;
            for reads in 0..MANY {
                if case.drives_all() {
                    watched = Watched::new(shape).await;
                }
                let id = watched.prepare(case).await;
                let file = watched.files.file();
                let restrict = move || file.execute_batch(RESTRICT).unwrap();
                watched.world.clock.interrupt(reads, restrict);
                watched.run(case, &id).await;
                ended = watched.world.clock.calm();
                let seen = watched.seen();
                if ended {
                    let does = seen.iter().any(|what| what == wanted);
                    assert!(does, "{case:?} {shape:?}: {seen:?}");
                    break;
                }
                let last = seen.last().map(String::as_str);
                assert_eq!(
                    last,
                    Some("restricted"),
                    "{case:?} {shape:?} {reads}: {seen:?}"
                );
                kept_out += usize::from(!seen.iter().any(|what| what == wanted));
            }
            assert!(ended && kept_out > 0, "{case:?} {shape:?}");
        }
    }
}

/// A method that is being revoked takes no charge that was not accepted before.
#[tokio::test(start_paused = true)]
async fn no_charge_is_accepted_behind_a_revocation() {
    let (mut accepted, mut refused) = (0, 0);
    for reads in 0..MANY {
        let watched = Watched::by(Shape::TwoCalls, WATCH_REVOCATION).await;
        let file = watched.files.file();
        let revoke = move || file.execute_batch(REVOKE).unwrap();
        watched.world.clock.interrupt(reads, revoke);
        let (gateway, key) = (&watched.world.gateway, watched.world.key());
        let paid = gateway.pay(&key, &charge("r-1")).await;
        if watched.world.clock.calm() {
            break;
        }
        match (&watched.seen()[..], paid) {
            ([first, last], Ok(_)) if first == "accepted" && last == "revoking" => accepted += 1,
            ([only], Err(error)) if only == "revoking" => {
                assert_eq!(error.code(), Code::NotFound, "{error}");
                refused += 1;
            }
            (seen, paid) => unreachable!("{reads}: {seen:?} {paid:?}"),
        }
    }
    assert!(accepted > 0 && refused > 0);
}

/// Nor is the first payment of a setup begun with a method that is gone already; the setup is completed.
#[tokio::test(start_paused = true)]
async fn no_first_payment_is_begun_behind_the_end_of_its_method() {
    for state in ["revoking", "suspended"] {
        let (mut begun, mut kept_out) = (0, 0);
        for reads in 0..MANY {
            let files = Files::new();
            let world = World::on(files.store("x.db"));
            let setup = world.gateway.link(&world.key(), &link_and_pay("r-1")).await;
            let setup = setup.unwrap().body;
            world.fake.end_setup("linked");
            files.execute(&format!(
                "CREATE TABLE seen (what TEXT NOT NULL);
                 CREATE TRIGGER seen_end AFTER UPDATE OF state ON payment_methods
                     WHEN NEW.state = '{state}' BEGIN INSERT INTO seen VALUES ('gone'); END;
                 CREATE TRIGGER seen_reserve AFTER UPDATE ON payments
                     WHEN NEW.step = 'reserving' AND OLD.step = 'linking'
                     BEGIN INSERT INTO seen VALUES ('begun'); END;"
            ));
            let file = files.file();
            let gone = format!("UPDATE payment_methods SET state = '{state}', is_default = 0");
            let end = move || file.execute_batch(&gone).unwrap();
            world.clock.interrupt(reads, end);
            drop(world.gateway.complete_link(&setup.id).await);
            world.reconcile().await;
            if world.clock.calm() {
                break;
            }
            let seen = seen(&files);
            let payment = world.payment(&setup.payment.unwrap()).await;
            let seen: Vec<_> = seen.iter().map(String::as_str).collect();
            match seen[..] {
                // There was no method yet, or it was begun before.
                [] | ["begun"] | ["begun", "gone"] => begun += 1,
                ["gone"] => {
                    kept_out += 1;
                    assert_eq!(world.fake.calls("reserve"), 0, "{reads}");
                    assert_eq!(payment.status, PaymentStatus::Failed, "{reads}");
                    assert_eq!(payment.failure.unwrap().code, "payment_method_gone");
                    let setup = world.gateway.setup(&setup.id).await.unwrap();
                    assert_eq!(setup.status, SetupStatus::Completed);
                }
                _ => unreachable!("{state} {reads}: {seen:?}"),
            }
        }
        assert!(begun > 0 && kept_out > 0, "{state}: {begun} {kept_out}");
    }
}
