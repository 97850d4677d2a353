//! The books and the provider's, side by side.

use cardless::gateway::VerifyReport;
use cardless::message::*;

use crate::fake::{Fault, Phase, SHAPES, Shape};
use crate::world::*;

impl World {
    /// Compares, and holds that nothing changes by it.
    async fn verify(&self) -> VerifyReport {
        let before = self.everything().await;
        let report = self.gateway.verify().await.unwrap();
        assert_eq!(self.everything().await, before);
        report
    }

    async fn everything(&self) -> String {
        let rows = self.store.payments_with_reservation(None, 1000).await;
        let calls: usize = ["reserve", "commit", "capture", "void", "refund"]
            .into_iter()
            .map(|call| self.fake.calls(call))
            .sum();
        format!("{:?} {:?} {calls}", rows.unwrap(), self.events().await)
    }
}

fn found(report: &VerifyReport) -> Vec<(&str, &str, &str)> {
    report
        .differences
        .iter()
        .map(|found| (found.what, found.ours.as_str(), found.theirs.as_str()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn books_that_fit_show_no_difference() {
    for shape in SHAPES {
        let world = World::new(shape);
        world.linked().await;
        let payment = world.pay(&charge("r-1")).await;
        let refund = give(Some(1000));
        world
            .gateway
            .refund(&world.key(), &payment.id, &refund)
            .await
            .unwrap();
        let held = world.pay(&hold("r-2")).await;
        if shape != Shape::Holds {
            let part = take(Some(1000), Some(false));
            world
                .gateway
                .capture(&world.key(), &held.id, &part)
                .await
                .unwrap();
        }
        let voided = world.pay(&hold("r-3")).await;
        world
            .gateway
            .void(&world.key(), &voided.id, &release())
            .await
            .unwrap();
        world.fake.fault("commit", Fault::Declined);
        let declined = world.pay(&charge("r-4")).await;
        world.run_minutes(10).await;
        assert_eq!(
            world.payment(&declined.id).await.status,
            PaymentStatus::Declined
        );
        let report = world.verify().await;
        assert!(report.is_clean(), "{shape:?} {report:?}");
        assert_eq!((report.compared, report.refunds_not_shown), (4, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn every_difference_is_shown() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let payment = world.pay(&charge("r-1")).await;
    world.fake.refund_elsewhere(&payment.id, 1);
    let report = world.verify().await;
    assert_eq!(found(&report), [("refunded", "CHF 0.00", "CHF 0.01")]);
    let difference = &report.differences[0];
    assert_eq!(difference.payment, payment.id);
    assert_eq!(difference.reservation, world.fake.object(&payment.id).0);
    assert!(!difference.open);

    world.fake.change(&payment.id, |object| {
        object.refunded = 0;
        object.captured = 0;
        object.phase = Phase::Released;
    });
    let report = world.verify().await;
    let wanted = [
        ("status", "captured", "voided"),
        ("captured", "CHF 49.90", "CHF 0.00"),
    ];
    assert_eq!(found(&report), wanted);
}

#[tokio::test(start_paused = true)]
async fn a_hold_or_money_behind_an_end_without_money_is_shown() {
    for (phase, captured) in [(Phase::Held, 0), (Phase::Taken, 4990)] {
        let world = World::new(Shape::TwoCalls);
        world.linked().await;
        world.fake.fault("commit", Fault::Declined);
        let payment = world.pay(&charge("r-1")).await;
        assert_eq!(payment.status, PaymentStatus::Declined);
        assert!(world.verify().await.is_clean());
        world.fake.change(&payment.id, |object| {
            object.phase = phase;
            object.captured = captured;
        });
        let report = world.verify().await;
        assert_eq!(found(&report)[0].0, "status");
        assert_eq!(found(&report).len(), 1 + usize::from(captured > 0));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_open_is_marked_so() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    world.fake.fault("commit", Fault::LostAfter);
    world.fake.fault("lookup", Fault::LostBefore);
    let payment = world.pay(&charge("r-1")).await;
    assert_eq!(payment.status, PaymentStatus::Unknown);
    world.fake.no_more_faults();
    let report = world.verify().await;
    assert_eq!(found(&report)[0], ("status", "unknown", "captured"));
    assert!(report.differences.iter().all(|found| found.open));
    world.run_minutes(5).await;
    assert!(world.verify().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_read_is_named() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let payment = world.pay(&charge("r-1")).await;
    for fault in [Fault::LostBefore, Fault::Unmapped] {
        world.fake.fault("lookup", fault);
        let report = world.verify().await;
        assert!(!report.is_clean());
        assert_eq!(report.unread.len(), 1);
        assert_eq!(report.unread[0].payment, payment.id);
    }
    // The provider does not know it: that is a difference.
    world.fake.fault("lookup", Fault::Refused);
    let report = world.verify().await;
    assert_eq!(found(&report)[0], ("status", "captured", "not_found"));
}

#[tokio::test(start_paused = true)]
async fn what_has_nothing_there_to_be_compared_is_counted_by_why() {
    let world = World::new(Shape::Holds);
    world.linked().await;
    world.pay(&charge("r-1")).await;
    world.fake.fault("reserve", Fault::Refused);
    let failed = world.pay(&charge("r-2")).await;
    assert_eq!(failed.status, PaymentStatus::Failed);
    world.fake.fault("reserve", Fault::Unmapped);
    let open = world.pay(&charge("r-3")).await;
    assert_eq!(open.status, PaymentStatus::Unknown);
    let report = world.verify().await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.compared, 1);
    let without = report.without_object;
    assert_eq!((without.never_made, without.open), (1, 1), "{report:?}");

    world
        .gateway
        .void(&world.key(), &open.id, &release())
        .await
        .unwrap();
    world.run_minutes(10).await;
    let ended = world.payment(&open.id).await;
    assert_eq!(ended.failure.unwrap().code, "hold_may_remain");
    let mut parked = world.store.payment(&failed.id).await.unwrap().unwrap();
    parked.state = cardless::store::PaymentState::Parked;
    let update = cardless::store::Change::UpdatePayment(parked);
    world.store.apply(vec![update]).await.unwrap();
    let report = world.verify().await;
    let without = report.without_object;
    assert_eq!((without.hold_may_remain, without.parked), (1, 1));
    assert_eq!(without.payments(), 2, "{report:?}");
    // All payments are accounted for.
    let all = world.gateway.count_payments().await.unwrap();
    assert_eq!(report.compared + without.payments(), all);
}
