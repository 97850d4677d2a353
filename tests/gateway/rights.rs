//! What a person may ask: restriction, erasure, export. Money first: nothing is lost sight of, and
//! nothing is charged that should not be.

use std::sync::Arc;
use std::time::Duration;

use cardless::error::{Code, Error};
use cardless::gateway::{AuditQuery, Gateway, ResolveAs, ResolveRequest};
use cardless::message::*;
use cardless::store::{PaymentFilter, PaymentState};
use cardless_contract::Capabilities;
use serde_json::Value;
use tokio::sync::Notify;

use crate::fake::{Fault, Kind, Phase, SHAPES, Shape};
use crate::world::*;

const MINUTE: Duration = Duration::from_secs(60);

/// Longer than a lease.
const LEASE: Duration = Duration::from_secs(200);

async fn erase(world: &World) -> Answer<Erasure> {
    world.gateway.erase(&world.key(), "a-1").await.unwrap()
}

async fn standing(world: &World) -> Erasure {
    world.gateway.erasure("a-1").await.unwrap().body
}

fn waits(erasure: &Erasure) -> Vec<(&str, &str)> {
    let waiting = erasure.waiting_for.iter();
    waiting
        .map(|waiting| (waiting.kind.as_str(), waiting.status.as_str()))
        .collect()
}

/// Gives back, or says what is open.
async fn refund(world: &World, payment: &str, minor: Option<i64>) -> Answer<Refund> {
    let (key, request) = (world.key(), give(minor));
    let refund = world.gateway.refund(&key, payment, &request).await;
    refund.unwrap()
}

async fn actions(gateway: &Gateway) -> Vec<(String, String)> {
    let query = AuditQuery {
        limit: 100,
        ..AuditQuery::default()
    };
    let lines = gateway.audit_lines(&query).await.unwrap().data;
    let of = lines.into_iter().rev();
    of.map(|line| (line.action, line.outcome)).collect()
}

/// Every payment of everybody.
async fn books(world: &World) -> Vec<cardless::store::PaymentRow> {
    let filter = PaymentFilter {
        account: None,
        state: None,
        reference: None,
        before: None,
        limit: 100,
    };
    world.store.payments(&filter).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_restricted_account_takes_nothing_and_gives_back_as_ever() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let taken = world.pay(&charge("r-1")).await;
    let held = world.pay(&hold("r-2")).await;
    let gateway = &world.gateway;
    assert!(
        gateway
            .set_restricted("a-1", true)
            .await
            .unwrap()
            .restricted
    );
    // Again is no error.
    gateway.set_restricted("a-1", true).await.unwrap();
    let key = || world.key();
    let restricted = Code::AccountRestricted;
    assert_eq!(code(gateway.pay(&key(), &charge("r-3")).await), restricted);
    assert_eq!(
        code(gateway.link(&key(), &link_request()).await),
        restricted
    );
    let link = link_and_pay("r-4");
    assert_eq!(code(gateway.link(&key(), &link).await), restricted);
    let whole = take(None, None);
    let capture = gateway.capture(&key(), &held.id, &whole).await;
    assert_eq!(code(capture), restricted);
    assert_eq!(world.fake.moved(Kind::Capture, &held.id), (0, 0));

    refund(&world, &taken.id, Some(500)).await;
    gateway.void(&key(), &held.id, &release()).await.unwrap();
    assert_eq!(world.payment(&held.id).await.status, PaymentStatus::Voided);
    assert_eq!(world.fake.moved(Kind::Refund, &taken.id), (1, 500));

    gateway.set_restricted("a-1", false).await.unwrap();
    let paid = world.pay(&charge("r-3")).await;
    assert_eq!(paid.status, PaymentStatus::Captured);
    let unknown = gateway.set_restricted("a-2", true).await;
    assert_eq!(code(unknown), Code::NotFound);
    let said = actions(gateway).await;
    let said: Vec<_> = said.iter().map(|(a, o)| (a.as_str(), o.as_str())).collect();
    assert_eq!(
        said,
        [
            ("account.restrict", "done"),
            ("account.restrict", "done"),
            ("account.unrestrict", "done"),
            ("account.restrict", "refused")
        ]
    );
}

/// A charge that ends without money because its account was restricted.
async fn is_restricted(world: &World, payment: &str) {
    let payment = world.payment(payment).await;
    assert_eq!(payment.status, PaymentStatus::Failed, "{payment:?}");
    assert_eq!(payment.failure.unwrap().code, "account_restricted");
    assert_eq!(world.fake.moved(Kind::Capture, &payment.id), (0, 0));
    world.books_fit(&payment.id).await;
}

#[tokio::test(start_paused = true)]
async fn a_charge_that_has_not_left_is_not_sent_for_a_restricted_account() {
    for shape in SHAPES {
        for erased in [false, true] {
            let world = World::new(shape);
            world.linked().await;
            for _ in 0..20 {
                world.fake.fault("commit", Fault::NotSent);
            }
            let payment = world.pay(&charge("r-1")).await;
            assert_eq!(payment.status, PaymentStatus::Pending, "{shape:?}");
            let tried = world.fake.calls("commit");
            world.fake.no_more_faults();
            if erased {
                assert!(!waits(&erase(&world).await.body).is_empty());
            } else {
                world.gateway.set_restricted("a-1", true).await.unwrap();
            }
            world.run_minutes(40).await;
            is_restricted(&world, &payment.id).await;
            assert_eq!(world.fake.calls("commit"), tried, "{shape:?}");
            if erased {
                assert_eq!(standing(&world).await.status, ErasureStatus::Erased);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_charge_whose_reservation_was_looked_for_meanwhile_is_not_taken_from_a_restricted_account()
 {
    for (shape, erased) in SHAPES
        .into_iter()
        .flat_map(|shape| [(shape, false), (shape, true)])
    {
        let world = World::new(shape);
        world.linked().await;
        world.fake.fault("reserve", Fault::LostAfter);
        let payment = world.pay(&charge("r-1")).await;
        assert_eq!(payment.status, PaymentStatus::Unknown, "{shape:?}");
        if erased {
            // The token stays until it is known whether anything is held: only with it that is found.
            let waiting = erase(&world).await.body;
            let kinds = waits(&waiting);
            assert!(kinds.contains(&("payment", "unknown")), "{kinds:?}");
        } else {
            world.gateway.set_restricted("a-1", true).await.unwrap();
        }
        world.run_minutes(40).await;
        is_restricted(&world, &payment.id).await;
        assert_eq!(world.fake.calls("commit"), 0, "{shape:?}");
        let (_, object) = world.fake.object(&payment.id);
        assert_ne!(object.phase, Phase::Held, "{shape:?} {erased}");
        if erased {
            assert_eq!(standing(&world).await.status, ErasureStatus::Erased);
            assert_eq!(world.fake.calls("revoke"), 1, "{shape:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_may_be_on_its_way_is_looked_for_before_a_restricted_charge_ends() {
    for (fault, taken) in [(Fault::LostBefore, false), (Fault::LostAfter, true)] {
        let world = World::new(Shape::TwoCalls);
        world.linked().await;
        world.fake.fault("commit", fault);
        let payment = world.pay(&charge("r-1")).await;
        assert_eq!(payment.status, PaymentStatus::Unknown);
        world.gateway.set_restricted("a-1", true).await.unwrap();
        world.run_minutes(1).await;
        if !taken {
            assert_eq!(
                world.payment(&payment.id).await.status,
                PaymentStatus::Unknown
            );
        }
        world.run_minutes(40).await;
        assert_eq!(world.fake.calls("commit"), 1);
        if taken {
            let payment = world.payment(&payment.id).await;
            assert_eq!(payment.status, PaymentStatus::Captured);
            world.books_fit(&payment.id).await;
        } else {
            is_restricted(&world, &payment.id).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_customer_who_approves_after_the_restriction_is_not_charged() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let payment = world.pay(&present("r-1")).await;
    assert_eq!(payment.status, PaymentStatus::ActionRequired);
    let commits = world.fake.calls("commit");
    world.gateway.set_restricted("a-1", true).await.unwrap();
    world.fake.approve(&payment.id);
    world.run_minutes(40).await;
    is_restricted(&world, &payment.id).await;
    assert_eq!(world.fake.calls("commit"), commits);
}

/// What was not reserved before the restriction leads nobody to a page afterwards.
#[tokio::test(start_paused = true)]
async fn a_customer_is_led_to_no_page_after_the_restriction() {
    for shape in SHAPES {
        for fault in [Fault::LostBefore, Fault::LostAfter] {
            let world = World::new(shape);
            world.linked().await;
            world.fake.fault("reserve", fault);
            let payment = world.pay(&present("r-1")).await;
            assert_eq!(payment.status, PaymentStatus::Unknown, "{shape:?}");
            world.gateway.set_restricted("a-1", true).await.unwrap();
            for _ in 0..80 {
                world.run_minutes(1).await;
                let shown = world.payment(&payment.id).await;
                assert_eq!(shown.redirect_url, None, "{shape:?}");
            }
            is_restricted(&world, &payment.id).await;
            if shape != Shape::Holds {
                assert_eq!(world.fake.calls("reserve"), 1, "{shape:?}");
            }
        }
    }
}

/// Of two captures one has arrived. Where the provider finds each by its name, the other has failed; where
/// its sums do not tell which it was, a person looks. Nothing is sent again.
#[tokio::test(start_paused = true)]
async fn one_of_several_captures_is_not_sent_again_for_a_restricted_account() {
    for (finds_by_sum, ends) in [
        (false, OperationStatus::Failed),
        (true, OperationStatus::Parked),
    ] {
        let capabilities = Capabilities {
            finds_by_sum,
            ..Shape::TwoCalls.capabilities()
        };
        let world = World::with(capabilities, |_| {});
        world.linked().await;
        let held = world.pay(&hold("r-1")).await;
        world.fake.fault("capture", Fault::LostBefore);
        for minor in [3000, 1000] {
            let (key, part) = (world.key(), take(Some(minor), Some(false)));
            world.gateway.capture(&key, &held.id, &part).await.unwrap();
        }
        world.gateway.set_restricted("a-1", true).await.unwrap();
        world.run_minutes(60).await;
        assert_eq!(world.fake.moved(Kind::Capture, &held.id), (1, 1000));
        let case = world.gateway.case(&held.id).await.unwrap();
        let lost = &case.payment.operations[0];
        assert_eq!(lost.status, ends, "{lost:?}");
    }
}

/// A capture of which the provider tells nothing is not sent again either; a person looks.
#[tokio::test(start_paused = true)]
async fn a_capture_that_nobody_can_find_is_left_to_a_person_for_a_restricted_account() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let held = world.pay(&hold("r-1")).await;
    world.fake.fault("capture", Fault::LostBefore);
    for _ in 0..500 {
        world.fake.fault("find_operation", Fault::Refused);
    }
    let (key, whole) = (world.key(), take(None, None));
    let capture = world.gateway.capture(&key, &held.id, &whole).await;
    assert_eq!(
        capture.unwrap().body.operations[0].status,
        OperationStatus::Unknown
    );
    world.gateway.set_restricted("a-1", true).await.unwrap();
    let status = async || {
        let case = world.gateway.case(&held.id).await.unwrap();
        case.payment.operations[0].status
    };
    world.run_minutes(1).await;
    assert_eq!(
        status().await,
        OperationStatus::Unknown,
        "it may be on its way"
    );
    world.run_minutes(60).await;
    assert_eq!(world.fake.moved(Kind::Capture, &held.id), (0, 0));
    assert_eq!(status().await, OperationStatus::Parked);
}

/// A page to link, and to pay, that was not made before the restriction is not made after it.
#[tokio::test(start_paused = true)]
async fn nobody_is_led_to_link_after_the_restriction() {
    for shape in SHAPES {
        for (fault, erased) in [
            (Fault::LostBefore, false),
            (Fault::LostAfter, false),
            (Fault::LostBefore, true),
        ] {
            let world = World::new(shape);
            world.fake.fault("begin_setup", fault);
            let setup = world.gateway.link(&world.key(), &link_and_pay("r-1")).await;
            let setup = setup.unwrap().body;
            assert_eq!(setup.redirect_url, None, "{shape:?}");
            if erased {
                erase(&world).await;
            } else {
                world.gateway.set_restricted("a-1", true).await.unwrap();
            }
            world.run_minutes(10).await;
            assert_eq!(world.fake.calls("begin_setup"), 1, "{shape:?}");
            let payment = world.payment(&setup.payment.unwrap()).await;
            assert_eq!(payment.status, PaymentStatus::Failed, "{shape:?}");
            assert_eq!(payment.failure.unwrap().code, "account_restricted");
            if erased {
                assert_eq!(standing(&world).await.status, ErasureStatus::Erased);
            } else {
                let shown = world.gateway.setup(&setup.id).await.unwrap();
                assert_eq!(shown.status, SetupStatus::Expired);
                assert_eq!(shown.redirect_url, None);
            }
        }
    }
}

/// The restriction comes while the provider makes the page.
#[tokio::test(start_paused = true)]
async fn a_page_that_comes_after_the_restriction_is_shown_to_nobody() {
    for shape in SHAPES {
        let world = World::new(shape);
        let gate = Arc::new(Notify::new());
        world.fake.fault("begin_setup", Fault::Wait(gate.clone()));
        let (gateway, key) = (world.gateway.clone(), world.key());
        let linking = tokio::spawn(async move { gateway.link(&key, &link_and_pay("r-1")).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.gateway.set_restricted("a-1", true).await.unwrap();
        gate.notify_one();
        let setup = linking.await.unwrap().unwrap().body;
        assert_eq!(setup.status, SetupStatus::Expired, "{shape:?}");
        assert_eq!(setup.redirect_url, None, "{shape:?}");
        is_restricted(&world, &setup.payment.unwrap()).await;
        assert!(!erase(&world).await.open, "nothing holds it up");
    }
}

#[tokio::test(start_paused = true)]
async fn a_capture_that_did_not_arrive_is_not_sent_again_for_a_restricted_account() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let held = world.pay(&hold("r-1")).await;
    world.fake.fault("capture", Fault::LostBefore);
    let (key, whole) = (world.key(), take(None, None));
    world.gateway.capture(&key, &held.id, &whole).await.unwrap();
    world.gateway.set_restricted("a-1", true).await.unwrap();
    world.run_minutes(60).await;
    let case = world.gateway.case(&held.id).await.unwrap();
    let capture = &case.payment.operations[0];
    assert_eq!(capture.status, OperationStatus::Failed, "{capture:?}");
    let failure = capture.failure.as_ref().unwrap();
    assert_eq!(failure.code, "account_restricted");
    assert_eq!(world.fake.moved(Kind::Capture, &held.id), (0, 0));
    world.books_fit(&held.id).await;
    // The hold is the merchant's to release.
    world
        .gateway
        .void(&world.key(), &held.id, &release())
        .await
        .unwrap();
    assert_eq!(world.payment(&held.id).await.status, PaymentStatus::Voided);
}

#[tokio::test(start_paused = true)]
async fn a_first_payment_that_has_not_begun_is_not_begun_for_a_restricted_account() {
    let world = World::new(Shape::TwoCalls);
    let setup = world.gateway.link(&world.key(), &link_and_pay("r-1")).await;
    let setup = setup.unwrap().body;
    world.gateway.set_restricted("a-1", true).await.unwrap();
    world.fake.end_setup("linked");
    world.run_minutes(2).await;
    let payment = world.payment(&setup.payment.unwrap()).await;
    assert_eq!(payment.status, PaymentStatus::Failed);
    assert_eq!(payment.failure.unwrap().code, "account_restricted");
    assert_eq!(world.fake.calls("reserve"), 0);
    // What the provider has linked is not lost: it can be revoked.
    assert_eq!(
        world.gateway.payment_methods("a-1").await.unwrap().data[0].status,
        MethodStatus::Active
    );
}

#[tokio::test(start_paused = true)]
async fn an_erasure_deletes_keeps_what_books_must_keep_and_gives_a_receipt() {
    for shape in SHAPES {
        let world = World::new(shape);
        world.linked().await;
        world.linked().await;
        let paid = world.pay(&charge("r-1")).await;
        refund(&world, &paid.id, Some(90)).await;
        let old = books(&world).await[0].account.clone();

        let erased = erase(&world).await;
        assert!(!erased.open, "{shape:?}: {erased:?}");
        let receipt = erased.body;
        assert_eq!(receipt.status, ErasureStatus::Erased);
        assert_eq!(receipt.revoked[0].payment_methods, 2);
        let deleted = receipt.deleted.unwrap();
        assert_eq!((deleted.payment_methods, deleted.setups), (2, 2));
        assert_eq!(deleted.answers_of_idempotency_keys, 4);
        let kept = receipt.kept.unwrap();
        assert_eq!((kept.payments, kept.operations), (1, 1));
        assert_eq!(world.fake.state.lock().unwrap().revoked.len(), 2);

        // The books say what they said, of nobody.
        let row = &books(&world).await[0];
        assert_ne!(row.account, old);
        assert_eq!((row.captured, row.refunded), (4990, 90));
        assert_eq!((row.reference.as_str(), &row.description), ("", &None));
        assert!(row.reservation.is_some() && row.method.is_none());
        assert!(world.store.account(&old).await.unwrap().is_none());
        let payment = world.payment(&paid.id).await;
        assert_eq!(payment.account, "(erased)");
        assert_eq!(payment.status, PaymentStatus::Captured);
        world.books_fit(&paid.id).await;
        for event in world.gateway.events(None, 100).await.unwrap().data {
            assert_eq!(event.data.account, None, "{event:?}");
        }
        let case = world.gateway.case(&paid.id).await.unwrap();
        assert_eq!(case.payment.account, "(erased)");

        // A later look confirms it; nothing of the account is left.
        let shown = world.gateway.account("a-1").await.unwrap();
        assert_eq!(shown.erasures, [standing(&world).await]);
        assert_eq!((shown.created_at, shown.payments), (None, 0));
        assert!(shown.payment_methods.is_empty());
        let gone = world.gateway.export_account("a-1").await;
        assert_eq!(code(gone), Code::NotFound);
        // Asked again, it gives the same receipt and erases nothing.
        assert_eq!(erase(&world).await.body, shown.erasures[0]);
        let report = world.gateway.verify_audit(None, |_| {}).await.unwrap();
        assert!(report.is_whole());
    }
}

#[tokio::test(start_paused = true)]
async fn an_account_that_was_never_there_has_nothing_to_erase() {
    let world = World::new(Shape::TwoCalls);
    let never = world.gateway.erase(&world.key(), "a-1").await;
    assert_eq!(code(never), Code::NotFound);
    assert_eq!(code(world.gateway.erasure("a-1").await), Code::NotFound);
    assert_eq!(code(world.gateway.account("a-1").await), Code::NotFound);
    let number = world.gateway.erase(&world.key(), "4111111111111111").await;
    assert_eq!(code(number), Code::CardNumber);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_is_tried_until_the_provider_confirms_it_whoever_restarts() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    for fault in [Fault::LostBefore, Fault::NotSent, Fault::LostAfter] {
        world.fake.fault("revoke", fault);
    }
    let begun = erase(&world).await;
    assert!(begun.open);
    assert_eq!(waits(&begun.body), [("payment_method", "revoking")]);
    let refused = world.gateway.set_restricted("a-1", false).await;
    assert_eq!(code(refused), Code::InvalidState);
    let pay = world.gateway.pay(&world.key(), &charge("r-1")).await;
    assert_eq!(code(pay), Code::NotFound);
    let link = world.gateway.link(&world.key(), &link_request()).await;
    assert_eq!(code(link), Code::AccountRestricted);

    // Another process, after this one is gone.
    let other = world.another_worker();
    other.run(tokio::time::sleep(MINUTE * 5)).await;
    let receipt = standing(&world).await;
    assert_eq!(receipt.status, ErasureStatus::Erased);
    assert_eq!(receipt.id, begun.body.id);
    assert!(world.fake.calls("revoke") >= 4);
    let said = actions(&other).await;
    let of = |action: &str| said.iter().filter(|(found, _)| found == action).count();
    assert_eq!((of("account.erase"), of("account.erased")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_while_it_erases_leaves_the_rest_to_another() {
    for fault in [Fault::Hang, Fault::HangAfter] {
        let world = World::new(Shape::TwoCalls);
        world.linked().await;
        world.fake.fault("revoke", fault);
        let key = world.key();
        let call = world.gateway.erase(&key, "a-1");
        assert!(tokio::time::timeout(MINUTE, call).await.is_err());
        assert_eq!(standing(&world).await.status, ErasureStatus::Open);
        world.clock.forward(LEASE);
        let other = world.another_worker();
        other.run(tokio::time::sleep(MINUTE)).await;
        // The same key gives the receipt of what its first call began.
        let again = world.gateway.erase(&key, "a-1").await.unwrap();
        assert_eq!(again.body.status, ErasureStatus::Erased);
        assert_eq!(
            world.gateway.account("a-1").await.unwrap().erasures.len(),
            1
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_erasure_waits_for_an_outcome_that_nobody_knows() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    world.fake.fault("commit", Fault::LostAfter);
    let unknown = world.pay(&charge("r-1")).await;
    assert_eq!(unknown.status, PaymentStatus::Unknown);
    let begun = erase(&world).await;
    assert!(waits(&begun.body).contains(&("payment", "unknown")));
    world.run_minutes(10).await;
    assert_eq!(standing(&world).await.status, ErasureStatus::Erased);
    let payment = world.payment(&unknown.id).await;
    assert_eq!(payment.status, PaymentStatus::Captured);
    world.books_fit(&unknown.id).await;
}

#[tokio::test(start_paused = true)]
async fn an_erasure_waits_for_a_hold_and_for_a_refund() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let held = world.pay(&hold("r-1")).await;
    let taken = world.pay(&charge("r-2")).await;
    world.fake.fault("refund", Fault::Pending);
    assert!(refund(&world, &taken.id, None).await.open);
    let begun = erase(&world).await;
    assert_eq!(
        waits(&begun.body),
        [("payment", "authorized"), ("operation", "pending")]
    );
    world.run_minutes(10).await;
    let still = standing(&world).await;
    assert!(waits(&still).contains(&("payment", "authorized")));
    // The merchant decides about the hold: it can't be taken any more, but released.
    let (key, whole) = (world.key(), take(None, None));
    let capture = world.gateway.capture(&key, &held.id, &whole).await;
    assert_eq!(code(capture), Code::AccountRestricted);
    world
        .gateway
        .void(&world.key(), &held.id, &release())
        .await
        .unwrap();
    world.fake.finish_pending();
    world.run_minutes(90).await;
    let receipt = standing(&world).await;
    assert_eq!(receipt.status, ErasureStatus::Erased, "{receipt:?}");
    world.books_fit(&taken.id).await;
    assert_eq!(world.payment(&taken.id).await.refunded.minor(), 4990);
}

#[tokio::test(start_paused = true)]
async fn an_erasure_waits_for_a_person_where_a_person_must_look() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    world.fake.fault("commit", Fault::Review);
    let parked = world.pay(&charge("r-1")).await;
    assert_eq!(parked.status, PaymentStatus::Parked);
    assert_eq!(waits(&erase(&world).await.body), [("payment", "parked")]);
    world.run_minutes(10).await;
    assert_eq!(standing(&world).await.status, ErasureStatus::Open);
    tokio::time::advance(LEASE).await;
    let request = ResolveRequest {
        payment: parked.id.clone(),
        operation: None,
        end: ResolveAs::Failed,
        note: "seen in the portal: Mrs Canary".to_owned(),
        person: "ann".to_owned(),
    };
    world.gateway.resolve(&request).await.unwrap();
    world.run_minutes(10).await;
    let receipt = standing(&world).await;
    assert_eq!(receipt.deleted.unwrap().notes, 1);
    let case = world.gateway.case(&parked.id).await.unwrap();
    assert_eq!(case.resolutions[0].note, "");
    assert_eq!(case.resolutions[0].person, "ann");
}

#[tokio::test(start_paused = true)]
async fn a_method_that_is_linked_while_the_account_is_erased_is_revoked_too() {
    let world = World::new(Shape::TwoCalls);
    world
        .gateway
        .link(&world.key(), &link_request())
        .await
        .unwrap();
    let begun = erase(&world).await;
    assert_eq!(waits(&begun.body), [("setup", "awaiting_customer")]);
    world.fake.end_setup("linked");
    world.run_minutes(30).await;
    let receipt = standing(&world).await;
    assert_eq!(receipt.status, ErasureStatus::Erased);
    assert_eq!(receipt.revoked[0].payment_methods, 1);
    assert_eq!(world.fake.state.lock().unwrap().revoked.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_old_key_of_an_erased_account_charges_nothing() {
    let world = World::new(Shape::TwoCalls);
    let link = world.key();
    world.gateway.link(&link, &link_request()).await.unwrap();
    world.fake.end_setup("linked");
    world.run_minutes(2).await;
    let (pay, capture, giving) = (world.key(), world.key(), world.key());
    let held = world.gateway.pay(&pay, &hold("r-1")).await.unwrap().body;
    let whole = take(None, None);
    let taken = world.gateway.capture(&capture, &held.id, &whole).await;
    taken.unwrap();
    let back = world
        .gateway
        .refund(&giving, &held.id, &give(Some(1)))
        .await;
    back.unwrap();
    assert!(!erase(&world).await.open);
    // The same person comes back: the account begins afresh, and the old keys stay used.
    world.fake.end_setup("done");
    world.linked().await;
    let ledger = world.fake.state.lock().unwrap().ledger.len();
    let gateway = &world.gateway;
    let erased = Code::AccountErased;
    assert_eq!(code(gateway.pay(&pay, &hold("r-1")).await), erased);
    // Also with another body: what the first one said is not kept.
    assert_eq!(code(gateway.pay(&pay, &charge("r-9")).await), erased);
    assert_eq!(code(gateway.link(&link, &link_request()).await), erased);
    for key in [&capture, &giving] {
        let gone = gateway.capture(key, &held.id, &whole).await;
        assert_eq!(code(gone), Code::NotFound);
        let gone = gateway.refund(key, &held.id, &give(Some(1))).await;
        assert_eq!(code(gone), Code::NotFound);
    }
    assert_eq!(world.fake.state.lock().unwrap().ledger.len(), ledger);
    // A new key under the old reference is a new payment of the new account.
    let paid = world.pay(&charge("r-1")).await;
    assert_eq!(
        (paid.status, paid.account),
        (PaymentStatus::Captured, "a-1".to_owned())
    );
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_begins_afresh_and_can_be_erased_again() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let first = world.pay(&charge("r-1")).await;
    assert!(!erase(&world).await.open);
    world.linked().await;
    let shown = world.gateway.account("a-1").await.unwrap();
    assert_eq!((shown.payments, shown.restricted), (0, false));
    assert_eq!((shown.payment_methods.len(), shown.erasures.len()), (1, 1));
    let second = world.pay(&charge("r-1")).await;
    assert!(!erase(&world).await.open);
    let shown = world.gateway.account("a-1").await.unwrap();
    assert_eq!(shown.erasures.len(), 2);
    // The two lives can't be told to be one person's.
    let rows = books(&world).await;
    assert_ne!(rows[0].account, rows[1].account);
    for id in [first.id, second.id] {
        world.books_fit(&id).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_happens_at_the_provider_after_an_erasure_is_booked_all_the_same() {
    for shape in SHAPES {
        let world = World::new(shape);
        world.linked().await;
        let paid = world.pay(&charge("r-1")).await;
        assert!(!erase(&world).await.open);
        let before = world.events().await.len();
        world.fake.refund_elsewhere(&paid.id, 990);
        world.webhook("late", &paid.id).await;
        world.run_minutes(2).await;
        world.books_fit(&paid.id).await;
        let row = &books(&world).await[0];
        assert_eq!((row.refunded, row.reference.as_str()), (990, ""));
        let events = world.store.events(0, 1000).await.unwrap();
        assert!(events.len() > before, "{shape:?}");
        assert_eq!(events.last().unwrap().1.account, row.account);
        let event = world.gateway.events(None, 100).await.unwrap();
        assert_eq!(event.data.last().unwrap().data.account, None);
    }
}

#[tokio::test(start_paused = true)]
async fn charges_that_race_an_erasure_are_booked_or_refused() {
    for seed in 1..=60u64 {
        let world = World::new(SHAPES[usize::try_from(seed % 3).unwrap()]);
        world.linked().await;
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..6u64 {
            let (gateway, key) = (world.another_worker(), world.key());
            let turns = (seed * 7 + number * 13) % 23;
            tasks.spawn(async move {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                let request = charge(&format!("r-{number}"));
                gateway
                    .pay(&key, &request)
                    .await
                    .map(|answer| answer.body.id)
            });
        }
        for _ in 0..(seed * 11) % 29 {
            tokio::task::yield_now().await;
        }
        erase(&world).await;
        let mut booked = 0;
        for result in tasks.join_all().await {
            match result {
                Ok(_) => booked += 1,
                Err(error) => assert!(
                    matches!(
                        error.code(),
                        Code::NotFound | Code::AccountRestricted | Code::InvalidState
                    ),
                    "seed {seed}: {error:?}"
                ),
            }
        }
        world.run_minutes(15).await;
        assert_eq!(
            standing(&world).await.status,
            ErasureStatus::Erased,
            "seed {seed}"
        );
        let rows = books(&world).await;
        assert_eq!(rows.len(), booked, "seed {seed}");
        let accounts: std::collections::BTreeSet<_> = rows.iter().map(|row| &row.account).collect();
        assert!(accounts.len() <= 1, "seed {seed}");
        for row in &rows {
            assert!(row.state == PaymentState::Captured || row.captured == 0);
            world.books_fit(&row.id).await;
        }
        let moved = world.fake.state.lock().unwrap();
        let taken = moved.ledger.iter().filter(|entry| entry.0 == Kind::Capture);
        let ours = rows.iter().filter(|row| row.captured > 0);
        assert_eq!(taken.count(), ours.count(), "seed {seed}");
    }
}

/// Begins a call, and leaves its caller away until `ended` says that what it began has come to its
/// end; then erases the account, and lets the caller look at its answer.
async fn answered_after_an_erasure<T>(
    world: &World,
    call: impl Future<Output = Result<Answer<T>, Error>>,
    ended: impl Fn(&[cardless::store::PaymentRow]) -> bool,
) -> Answer<T> {
    tokio::pin!(call);
    tokio::select! {
        biased;
        _ = &mut call => panic!("nothing was left to a task"),
        () = std::future::ready(()) => {}
    }
    for turn in 0.. {
        assert!(turn < 1000, "it does not end");
        if ended(&books(world).await) {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(!erase(world).await.open);
    call.await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_first_caller_is_told_of_what_moved_though_the_account_is_erased_meanwhile() {
    for shape in SHAPES {
        let world = World::new(shape);
        world.linked().await;
        let (key, request) = (world.key(), charge("r-1"));
        let call = world.gateway.pay(&key, &request);
        let taken = |rows: &[cardless::store::PaymentRow]| {
            rows.iter().any(|row| row.state == PaymentState::Captured)
        };
        let answer = answered_after_an_erasure(&world, call, taken).await;
        assert_eq!(answer.body.status, PaymentStatus::Captured, "{shape:?}");
        assert_eq!(answer.body.account, "a-1");
        assert!(!answer.open);
    }
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let held = world.pay(&hold("r-1")).await;
    let (key, whole) = (world.key(), take(None, None));
    let call = world.gateway.capture(&key, &held.id, &whole);
    let taken = |rows: &[cardless::store::PaymentRow]| rows.iter().any(|row| row.captured > 0);
    let answer = answered_after_an_erasure(&world, call, taken).await;
    assert_eq!(answer.body.status, PaymentStatus::Captured);
    assert_eq!(answer.body.captured, held.amount);
    // A repeat is told that nothing is known any more.
    let again = world.gateway.capture(&key, &held.id, &whole).await;
    assert_eq!(code(again), Code::NotFound);
}

#[tokio::test(start_paused = true)]
async fn two_callers_ask_for_one_erasure() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    world.fake.fault("revoke", Fault::LostBefore);
    let (other, keys) = (world.another_worker(), [world.key(), world.key()]);
    let (one, two) = tokio::join!(
        world.gateway.erase(&keys[0], "a-1"),
        other.erase(&keys[1], "a-1")
    );
    assert_eq!(one.unwrap().body.id, two.unwrap().body.id);
    world.run_minutes(5).await;
    assert_eq!(standing(&world).await.status, ErasureStatus::Erased);
    let used = world.gateway.erase(&keys[0], "a-2").await;
    assert_eq!(code(used), Code::IdempotencyMismatch);
}

async fn exported(world: &World) -> Value {
    let mut export = world.gateway.export_account("a-1").await.unwrap();
    let mut text = String::new();
    while let Some(piece) = export.next().await.unwrap() {
        text.push_str(&piece);
    }
    serde_json::from_str(&text).unwrap()
}

/// What an erasure has taken half of is no whole document.
#[tokio::test(start_paused = true)]
async fn an_export_that_an_erasure_overtakes_does_not_end_as_if_it_were_whole() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    world.pay(&charge("r-1")).await;
    let mut export = world.gateway.export_account("a-1").await.unwrap();
    let mut text = export.next().await.unwrap().unwrap();
    world.gateway.erase(&world.key(), "a-1").await.unwrap();
    let error = loop {
        match export.next().await {
            Ok(Some(piece)) => text.push_str(&piece),
            Ok(None) => panic!("it ended: {text}"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), Code::NotFound);
    assert!(serde_json::from_str::<Value>(&text).is_err(), "{text}");
}

/// Nor is one that goes on with what was linked anew since, wherever it was overtaken.
#[tokio::test(start_paused = true)]
async fn an_export_does_not_go_on_with_an_account_that_is_here_again() {
    for given in 0.. {
        let world = World::new(Shape::TwoCalls);
        world.linked().await;
        world.pay(&charge("r-1")).await;
        let mut export = world.gateway.export_account("a-1").await.unwrap();
        let mut text = String::new();
        for _ in 0..given {
            text.extend(export.next().await.unwrap());
        }
        if text.ends_with("]}\n") {
            assert!(given > 3, "{text}");
            return;
        }
        world.gateway.erase(&world.key(), "a-1").await.unwrap();
        world.clock.forward(Duration::from_millis(1));
        world.linked().await;
        let error = export.next().await.unwrap_err();
        assert_eq!(error.code(), Code::NotFound, "{given}");
    }
}

/// Whoever asks again, and whoever looks, is in the log.
#[tokio::test(start_paused = true)]
async fn a_second_request_to_erase_and_a_look_at_it_are_audited() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    world.gateway.erase(&world.key(), "a-1").await.unwrap();
    world.gateway.erase(&world.key(), "a-1").await.unwrap();
    world.gateway.erasure("a-1").await.unwrap();
    world.gateway.erasure("a-none").await.unwrap_err();
    let query = AuditQuery {
        limit: 10,
        ..AuditQuery::default()
    };
    let lines = world.gateway.audit_lines(&query).await.unwrap().data;
    let said: Vec<(&str, &str)> = lines
        .iter()
        .map(|line| (line.action.as_str(), line.outcome.as_str()))
        .take(4)
        .collect();
    assert_eq!(
        said,
        [
            ("account.show", "refused"),
            ("account.show", "done"),
            ("account.erase", "done"),
            ("account.erased", "done"),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_export_has_everything_that_is_kept_and_no_secret() {
    let world = World::new(Shape::TwoCalls);
    world
        .gateway
        .link(&world.key(), &link_request())
        .await
        .unwrap();
    world.linked().await;
    // More than one page of payments.
    for number in 0..130 {
        let mut request = charge(&format!("r-{number}"));
        request.description = Some("Monthly plan".to_owned());
        world.pay(&request).await;
    }
    let first = &books(&world).await[0].id;
    refund(&world, first, Some(5)).await;
    let document = exported(&world).await;
    assert_eq!(document["account"], "a-1");
    let list = |name: &str| document[name].as_array().unwrap();
    assert_eq!(list("payments").len(), 130);
    assert_eq!(list("setups").len(), 2);
    let counts = &document["counts"];
    assert_eq!(counts["payments"], 130);
    assert_eq!(counts["events"], list("events").len());
    let payment = &list("payments")[0];
    assert_eq!(payment["id"], first.as_str());
    assert_eq!(payment["description"], "Monthly plan");
    assert_eq!(payment["operations"][0]["kind"], "refund");
    assert_eq!(payment["provider_objects"][0]["kind"], "payment");
    assert_eq!(list("payment_methods")[0]["token_kept"], true);
    assert_eq!(list("setups")[0]["return_url"], "https://shop.example/back");
    assert!(!document.to_string().contains("token-"), "{document}");
    assert_eq!(
        actions(&world.gateway).await.last().unwrap().0,
        "account.export"
    );
}

#[tokio::test(start_paused = true)]
async fn a_person_may_wait_no_longer_for_a_provider_and_the_receipt_says_so() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    world.linked().await;
    let early = world.gateway.erase_unconfirmed("a-1", "fake").await;
    assert_eq!(code(early), Code::NotFound);

    // One is confirmed, of the other nobody ever hears.
    world.fake.fault("revoke", Fault::NotSent);
    let begun = erase(&world).await;
    assert_eq!(waits(&begun.body), [("payment_method", "revoking")]);
    for _ in 0..1000 {
        world.fake.fault("revoke", Fault::LostBefore);
    }
    world.run_hours(2).await;
    let asked = world.fake.calls("revoke");
    let other = world.gateway.erase_unconfirmed("a-1", "paypal").await;
    assert_eq!(code(other), Code::InvalidState);
    let ended = world
        .gateway
        .erase_unconfirmed("a-1", "fake")
        .await
        .unwrap();
    assert!(!ended.open, "{ended:?}");
    let receipt = ended.body;
    assert_eq!(receipt.id, begun.body.id);
    assert_eq!(receipt.revoked[0].payment_methods, 1);
    assert_eq!(receipt.unconfirmed[0].payment_methods, 1);
    assert_eq!(receipt.deleted.unwrap().payment_methods, 2);
    assert_eq!(world.fake.calls("revoke"), asked, "nobody is asked again");
    assert_eq!(standing(&world).await, receipt);
    let shown = world.gateway.account("a-1").await.unwrap();
    assert_eq!(shown.erasures, [receipt]);

    let events = world.events().await;
    let revoked = events
        .iter()
        .filter(|(kind, _)| kind == "payment_method.revoked");
    assert_eq!(revoked.count(), 2, "{events:?}");
    let said = actions(&world.gateway).await;
    let of = |outcome: &str| {
        let line = ("account.erase.unconfirmed".to_owned(), outcome.to_owned());
        said.iter().filter(|found| **found == line).count()
    };
    assert_eq!((of("refused"), of("done")), (2, 1), "{said:?}");
    let again = world.gateway.erase_unconfirmed("a-1", "fake").await;
    assert_eq!(code(again), Code::NotFound);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_ended_that_no_provider_was_asked_for() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    world.pay(&hold("r-1")).await;
    let begun = erase(&world).await;
    assert_eq!(waits(&begun.body), [("payment", "authorized")]);
    let refused = world.gateway.erase_unconfirmed("a-1", "fake").await;
    assert_eq!(code(refused), Code::InvalidState);
    assert_eq!(standing(&world).await.status, ErasureStatus::Open);
}

/// An account was erased by a clock that was ahead, came back once it was put right, and is erased again.
#[tokio::test(start_paused = true)]
async fn the_erasure_that_is_open_is_the_latest_whatever_the_clock_was() {
    let world = World::new(Shape::TwoCalls);
    let ahead = Duration::from_secs(30 * 24 * 3600);
    world.clock.forward(ahead);
    world.reconcile().await;
    world.linked().await;
    let first = erase(&world).await.body;
    assert_eq!(first.status, ErasureStatus::Erased);
    world.clock.back(ahead);
    world.reconcile().await;
    world.linked().await;
    for _ in 0..1000 {
        world.fake.fault("revoke", Fault::LostBefore);
    }
    let second = erase(&world).await.body;
    assert_eq!(second.status, ErasureStatus::Open);
    assert_ne!(second.id, first.id);
    assert_eq!(standing(&world).await.id, second.id);
    assert_eq!(erase(&world).await.body.id, second.id);
    let ended = world.gateway.erase_unconfirmed("a-1", "fake").await;
    assert_eq!(ended.unwrap().body.id, second.id);
    assert_eq!(standing(&world).await.id, second.id);
    assert_eq!(erase(&world).await.body.id, second.id);
    let shown = world.gateway.account("a-1").await.unwrap().erasures;
    assert_eq!(shown.len(), 2);
}

/// A revocation waits for a reservation that may hold something, and no longer.
#[tokio::test(start_paused = true)]
async fn a_token_is_revoked_soon_after_no_reservation_needs_it() {
    for erased in [false, true] {
        let world = World::new(Shape::Holds);
        let method = world.linked().await;
        let gate = Arc::new(Notify::new());
        world.fake.fault("reserve", Fault::Wait(Arc::clone(&gate)));
        let (gateway, key) = (world.gateway.clone(), world.key());
        let paying = tokio::spawn(async move { gateway.pay(&key, &charge("r-1")).await });
        tokio::task::yield_now().await;
        assert_eq!(world.fake.calls("reserve"), 1);
        if erased {
            assert!(erase(&world).await.open);
        } else {
            assert!(world.gateway.revoke(&method, "a-1").await.unwrap().open);
        }
        assert_eq!(world.fake.calls("revoke"), 0);
        gate.notify_one();
        paying.await.unwrap().unwrap();
        world.run_for(Duration::from_secs(10)).await;
        assert_eq!(world.fake.calls("revoke"), 1, "{erased}");
        if erased {
            // What it holds is released once nothing can be on its way.
            world.run_minutes(5).await;
            let erasure = standing(&world).await;
            assert_eq!(erasure.status, ErasureStatus::Erased, "{erasure:?}");
        }
    }
}
