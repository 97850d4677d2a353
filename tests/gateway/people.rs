//! What a person must look at, and how it ends.

use std::time::Duration;

use cardless::error::{Code, Error};
use cardless::gateway::{Case, CaseQuery, MAX_CASES, ResolveAs, ResolveRequest, Resolved};
use cardless::message::*;
use cardless::store::{Change, OperationState, PaymentRow, PaymentState, Step};
use cardless_contract::Timestamp;

use crate::fake::{Fault, Kind, LONGEST_DELAY, Phase, SHAPES, Shape};
use crate::world::*;

/// Beyond this nothing of ours is on its way.
const QUIET: Duration = Duration::from_secs(11).saturating_add(LONGEST_DELAY);

fn end(payment: &str, end: ResolveAs) -> ResolveRequest {
    ResolveRequest {
        payment: payment.to_owned(),
        operation: None,
        end,
        note: "Seen in the back office, ticket 7".to_owned(),
        person: "kim".to_owned(),
    }
}

fn end_operation(payment: &str, operation: &str, how: ResolveAs) -> ResolveRequest {
    ResolveRequest {
        operation: Some(operation.to_owned()),
        ..end(payment, how)
    }
}

impl World {
    /// A payment that is parked as it stands, with nothing on its way.
    async fn park(&self, id: &str) {
        self.change_row(id, |row| {
            row.state = PaymentState::Parked;
            row.step = Step::Waiting;
            row.lease_until = Timestamp::from_millis(0);
            row.next_at = None;
        })
        .await;
        tokio::time::advance(QUIET).await;
    }

    async fn park_operation(&self, id: &str) {
        let mut row = self.store.operation(id).await.unwrap().unwrap();
        row.state = OperationState::Parked;
        row.lease_until = Timestamp::from_millis(0);
        row.next_at = None;
        self.store
            .apply(vec![Change::UpdateOperation(row)])
            .await
            .unwrap();
        tokio::time::advance(QUIET).await;
    }

    /// A charge whose commit never arrived, parked.
    async fn parked(&self, reference: &str) -> String {
        self.fake.fault("commit", Fault::LostBefore);
        let payment = self.pay(&charge(reference)).await;
        self.park(&payment.id).await;
        payment.id
    }

    /// Changes a payment as nobody would.
    async fn change_row(&self, id: &str, change: impl FnOnce(&mut PaymentRow)) {
        let mut row = self.store.payment(id).await.unwrap().unwrap();
        change(&mut row);
        let batch = vec![Change::UpdatePayment(row)];
        self.store.apply(batch).await.unwrap();
    }

    /// A charge that was taken and is parked, just as a webhook tells of it.
    async fn told_of_parked(&self, change: impl FnOnce(&mut PaymentRow)) -> Payment {
        self.linked().await;
        self.fake.fault("commit", Fault::LostAfter);
        let payment = self.pay(&charge("r-1")).await;
        self.change_row(&payment.id, |row| {
            row.state = PaymentState::Parked;
            row.next_at = None;
            change(row);
        })
        .await;
        self.webhook("event-1", &payment.id).await;
        payment
    }

    /// A refund of a captured charge that never arrived, parked.
    async fn parked_refund(&self, reference: &str) -> (String, String) {
        let payment = self.pay(&charge(reference)).await;
        self.fake.fault("refund", Fault::LostBefore);
        let refund = self
            .gateway
            .refund(&self.key(), &payment.id, &give(Some(1000)))
            .await
            .unwrap();
        self.park_operation(&refund.body.id).await;
        (payment.id, refund.body.id)
    }

    async fn resolve(&self, request: &ResolveRequest) -> Result<Resolved, Error> {
        self.gateway.resolve(request).await
    }

    /// Refused with this code and these words, and nothing has changed.
    async fn refuses(&self, request: &ResolveRequest, wanted: Code, words: &str) {
        let before = self.store.payment(&request.payment).await.unwrap();
        let events = self.events().await;
        let error = self.resolve(request).await.err().unwrap();
        assert_eq!(error.code(), wanted, "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(self.events().await, events);
        let after = self.store.payment(&request.payment).await.unwrap();
        assert_eq!(
            after.as_ref().map(|row| (row.state, row.captured)),
            before.as_ref().map(|row| (row.state, row.captured))
        );
        if let Some(row) = after {
            let now = cardless_contract::Clock::now(self.clock.as_ref());
            let ours = before.unwrap().lease_until <= now;
            assert!(!ours || row.lease_until <= now, "the lease is given back");
            let audit = self.store.resolutions(&request.payment).await.unwrap();
            assert!(audit.is_empty(), "{audit:?}");
        }
    }

    async fn cases(&self, query: CaseQuery) -> Page<Case> {
        self.gateway.cases(&query).await.unwrap()
    }
}

fn all(limit: u32) -> CaseQuery {
    CaseQuery {
        limit,
        ..CaseQuery::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_person_ends_what_the_provider_does_not_tell() {
    for (how, status) in [
        (ResolveAs::Captured, PaymentStatus::Captured),
        (ResolveAs::Failed, PaymentStatus::Failed),
        (ResolveAs::Voided, PaymentStatus::Voided),
    ] {
        for fault in [Fault::Unmapped, Fault::LostBefore, Fault::Review] {
            let world = World::new(Shape::TwoCalls);
            world.linked().await;
            let key = world.key();
            world.fake.fault("commit", Fault::LostBefore);
            let id = world.gateway.pay(&key, &charge("r-1")).await.unwrap();
            let id = id.body.id;
            world.park(&id).await;
            let twin = world.gateway.pay(&world.key(), &charge("r-1")).await;
            assert_eq!(code(twin), Code::OutcomeUnknown);

            let commits = world.fake.calls("commit");
            world.fake.fault("lookup", fault);
            let resolved = world.resolve(&end(&id, how)).await.unwrap();
            assert!(resolved.as_wanted);
            assert_eq!(resolved.payment.status, status);
            assert_eq!(resolved.resolution.decided_by, "person");
            assert_eq!(resolved.resolution.person, "kim");
            assert_eq!(world.fake.calls("commit"), commits, "nothing is sent");
            let captured = i64::from(how == ResolveAs::Captured) * 4990;
            assert_eq!(resolved.payment.captured.minor(), captured);

            // The event, the key's final answer, the reference and the audit are all there.
            let kind = format!("payment.{}", how.as_str());
            assert!(world.events().await.contains(&(kind, id.clone())));
            let first = world.gateway.pay(&key, &charge("r-1")).await.unwrap();
            assert!(!first.open);
            assert_eq!(first.body.status, status);
            world
                .gateway
                .pay(&world.key(), &charge("r-1"))
                .await
                .unwrap();
            let case = world.gateway.case(&id).await.unwrap();
            assert_eq!(case.resolutions, [resolved.resolution]);
            assert!(case.to_do.is_empty(), "{case:?}");

            // It is final: neither the resolver nor a person changes it.
            world.run_minutes(5).await;
            assert_eq!(world.payment(&id).await.status, status);
            let again = world.resolve(&end(&id, ResolveAs::Failed)).await;
            assert_eq!(code(again), Code::InvalidState);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_providers_answer_concludes_stands() {
    for shape in SHAPES {
        for how in [ResolveAs::Captured, ResolveAs::Failed, ResolveAs::Voided] {
            let world = World::new(shape);
            world.linked().await;
            world.fake.fault("commit", Fault::LostAfter);
            let payment = world.pay(&charge("r-1")).await;
            world.park(&payment.id).await;
            let resolved = world.resolve(&end(&payment.id, how)).await.unwrap();
            assert_eq!(resolved.payment.status, PaymentStatus::Captured);
            assert_eq!(resolved.as_wanted, how == ResolveAs::Captured);
            assert_eq!(resolved.resolution.decided_by, "provider");
            assert_eq!(resolved.resolution.provider_said, "captured");
            assert_eq!(resolved.resolution.wanted, how.as_str());
            world.books_fit(&payment.id).await;
        }
    }
    for (phase, status) in [
        (Phase::Released, PaymentStatus::Voided),
        (Phase::Lapsed, PaymentStatus::Failed),
        (Phase::Refused, PaymentStatus::Declined),
    ] {
        let world = World::new(Shape::TwoCalls);
        world.linked().await;
        let id = world.parked("r-1").await;
        world.fake.change(&id, |object| object.phase = phase);
        let resolved = world.resolve(&end(&id, ResolveAs::Captured)).await.unwrap();
        assert_eq!(resolved.payment.status, status, "{phase:?}");
        assert!(!resolved.as_wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_providers_answer_contradicts_is_refused() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let id = world.parked("r-1").await;
    // Nothing was taken.
    let invalid = Code::InvalidState;
    let captured = end(&id, ResolveAs::Captured);
    world.refuses(&captured, invalid, "nothing was taken").await;
    world.fake.fault("lookup", Fault::Refused);
    world.refuses(&captured, invalid, "does not know").await;
    world
        .fake
        .change(&id, |object| object.phase = Phase::AwaitsCustomer);
    world.refuses(&captured, invalid, "the customer").await;
    // The amount is held.
    world.fake.change(&id, |object| object.phase = Phase::Held);
    for how in [ResolveAs::Captured, ResolveAs::Failed, ResolveAs::Voided] {
        world.refuses(&end(&id, how), invalid, "holds").await;
    }
    // Money moved, though the provider has not concluded.
    world.fake.change(&id, |object| {
        object.phase = Phase::Working;
        object.captured = 4990;
    });
    for how in [ResolveAs::Failed, ResolveAs::Voided] {
        for fault in [None, Some(Fault::Review)] {
            if let Some(fault) = fault {
                world.fake.fault("lookup", fault);
            }
            world
                .refuses(&end(&id, how), invalid, "money was taken")
                .await;
        }
    }
    // What agrees is no contradiction.
    let resolved = world.resolve(&captured).await.unwrap();
    assert!(resolved.as_wanted);
    assert_eq!(resolved.resolution.decided_by, "person");
}

#[tokio::test(start_paused = true)]
async fn nothing_ends_as_failed_while_it_may_be_on_its_way() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    world.fake.fault("reserve", Fault::Review);
    let payment = world.pay(&charge("r-1")).await;
    assert_eq!(payment.status, PaymentStatus::Parked);
    for how in [ResolveAs::Failed, ResolveAs::Voided] {
        for fault in [None, Some(Fault::LostBefore), Some(Fault::Unmapped)] {
            if let Some(fault) = fault {
                world.fake.fault("lookup", fault);
            }
            world
                .refuses(&end(&payment.id, how), Code::InvalidState, "on its way")
                .await;
        }
    }
    tokio::time::advance(QUIET).await;
    let resolved = world.resolve(&end(&payment.id, ResolveAs::Failed)).await;
    assert!(resolved.unwrap().as_wanted);

    // A page that takes the money itself stays open until its provider ends it.
    let world = World::new(Shape::Page);
    world.linked().await;
    let payment = world.pay(&present("r-1")).await;
    assert_eq!(payment.status, PaymentStatus::ActionRequired);
    world.park(&payment.id).await;
    for how in [ResolveAs::Failed, ResolveAs::Voided] {
        let end = end(&payment.id, how);
        let payable = "still lets the customer pay";
        world.refuses(&end, Code::InvalidState, payable).await;
        tokio::time::advance(crate::fake::CUSTOMER_WINDOW).await;
        world.refuses(&end, Code::InvalidState, payable).await;
    }
    world.fake.change(&payment.id, |object| {
        object.phase = crate::fake::Phase::Lapsed;
    });
    let failed = end(&payment.id, ResolveAs::Failed);
    assert!(world.resolve(&failed).await.unwrap().as_wanted);

    // Whoever gets no answer takes the customer's time and looks.
    let world = World::new(Shape::Page);
    world.linked().await;
    let payment = world.pay(&present("r-1")).await;
    world.park(&payment.id).await;
    world.fake.fault("lookup", Fault::LostBefore);
    let failed = end(&payment.id, ResolveAs::Failed);
    world
        .refuses(&failed, Code::InvalidState, "on its way")
        .await;
    tokio::time::advance(crate::fake::CUSTOMER_WINDOW).await;
    world.fake.fault("lookup", Fault::LostBefore);
    assert!(world.resolve(&failed).await.unwrap().as_wanted);
}

#[tokio::test(start_paused = true)]
async fn a_payment_without_an_id_there_is_looked_for() {
    for (fault, wanted, by, status) in [
        (None, ResolveAs::Failed, "provider", PaymentStatus::Captured),
        (
            Some(Fault::Refused),
            ResolveAs::Captured,
            "person",
            PaymentStatus::Captured,
        ),
        (
            Some(Fault::LostBefore),
            ResolveAs::Failed,
            "person",
            PaymentStatus::Failed,
        ),
    ] {
        let world = World::new(Shape::Page);
        world.linked().await;
        let payment = world.pay(&charge("r-1")).await;
        let nothing_known = |row: &mut PaymentRow| (row.captured, row.reservation) = (0, None);
        world.change_row(&payment.id, nothing_known).await;
        world.park(&payment.id).await;
        let case = world.gateway.case(&payment.id).await.unwrap();
        assert!(case.to_do[0].contains(&case.provider_reference), "{case:?}");
        if let Some(fault) = fault {
            world.fake.fault("find", fault);
        }
        let resolved = world.resolve(&end(&payment.id, wanted)).await.unwrap();
        assert_eq!(resolved.resolution.decided_by, by);
        assert_eq!(resolved.payment.status, status);
        let row = world.store.payment(&payment.id).await.unwrap().unwrap();
        assert_eq!(row.reservation.is_some(), by == "provider");
    }
    // It would be shown, and is not.
    let world = World::new(Shape::Page);
    world.linked().await;
    world.fake.fault("reserve", Fault::LostBefore);
    let payment = world.pay(&charge("r-1")).await;
    world.park(&payment.id).await;
    let captured = end(&payment.id, ResolveAs::Captured);
    world
        .refuses(&captured, Code::InvalidState, "does not know")
        .await;
    let voided = end(&payment.id, ResolveAs::Voided);
    assert!(world.resolve(&voided).await.unwrap().as_wanted);
}

/// Nobody could ask about such a refund.
#[tokio::test(start_paused = true)]
async fn what_has_no_id_there_is_given_back_in_the_back_office() {
    for shape in crate::fake::SHAPES {
        let world = World::new(shape);
        world.linked().await;
        let payment = world.pay(&charge("r-1")).await;
        world
            .change_row(&payment.id, |row| row.reservation = None)
            .await;
        let (key, request) = (world.key(), give(Some(1000)));
        let refund = world.gateway.refund(&key, &payment.id, &request).await;
        let error = refund.unwrap_err();
        assert_eq!(error.code(), Code::InvalidState, "{shape:?}");
        assert!(error.to_string().contains("back office"), "{error}");
        assert_eq!(world.fake.calls("refund "), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_is_parked_and_named_rightly_is_ended() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let (id, refund) = world.parked_refund("r-1").await;
    let other = world.pay(&charge("r-2")).await.id;
    let invalid = Code::InvalidState;
    // The payment is not parked; the message names what is.
    world
        .refuses(&end(&id, ResolveAs::Failed), invalid, &refund)
        .await;
    world
        .refuses(&end(&other, ResolveAs::Failed), invalid, "captured")
        .await;
    for (payment, operation) in [(&other, &refund), (&id, &id), (&id, &"ref_x".to_owned())] {
        let request = end_operation(payment, operation, ResolveAs::Failed);
        assert_eq!(code(world.resolve(&request).await), Code::NotFound);
    }
    let missing = end("pay_aaaaaaaaaaaaaaaaaaaa", ResolveAs::Failed);
    assert_eq!(code(world.resolve(&missing).await), Code::NotFound);
    // An end that does not fit.
    let field = Code::InvalidField;
    for how in [ResolveAs::Captured, ResolveAs::Voided] {
        world
            .refuses(&end_operation(&id, &refund, how), field, "refund")
            .await;
    }
    let parked = world.parked("r-3").await;
    world
        .refuses(&end(&parked, ResolveAs::Refunded), field, "payment")
        .await;
    // Who and why.
    for (note, wanted) in [
        (String::new(), Code::InvalidField),
        ("x".repeat(501), Code::InvalidField),
        ("two\nlines".to_owned(), Code::InvalidField),
        ("card 4242 4242 4242 4242".to_owned(), Code::CardNumber),
    ] {
        let mut request = end(&parked, ResolveAs::Failed);
        request.note.clone_from(&note);
        world.refuses(&request, wanted, "note").await;
        request.note = "x".repeat(500);
        request.person = note.replace("501", "65");
        assert_eq!(code(world.resolve(&request).await), wanted);
    }
    // The note stands in the audit.
    let wanted = end_operation(&id, &refund, ResolveAs::Failed);
    let resolved = world.resolve(&wanted);
    let line = resolved.await.unwrap().resolution;
    assert_eq!(line.note, "Seen in the back office, ticket 7");
    let again = end_operation(&id, &refund, ResolveAs::Failed);
    assert_eq!(code(world.resolve(&again).await), Code::InvalidState);
}

#[tokio::test(start_paused = true)]
async fn what_another_worker_drives_is_left_alone() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let id = world.parked("r-1").await;
    let open = world.pay(&charge("r-2")).await;
    assert_eq!(open.status, PaymentStatus::Captured);
    world.fake.fault("lookup", Fault::Hang);
    let other = world.another_worker();
    let hanging = tokio::spawn(async move { other.reconcile().await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let report = world.reconcile().await;
    assert_eq!(
        (report.looked_at, report.leased, report.still_open),
        (1, 1, 0)
    );
    let until = report.leased_until.unwrap();
    assert!(until > cardless_contract::Clock::now(world.clock.as_ref()));
    let failed = end(&id, ResolveAs::Failed);
    world
        .refuses(&failed, Code::InProgress, "Another worker")
        .await;
    hanging.abort();
    tokio::time::advance(Duration::from_secs(200)).await;
    assert!(world.resolve(&failed).await.unwrap().as_wanted);
    assert_eq!(world.reconcile().await.leased_until, None);
}

#[tokio::test(start_paused = true)]
async fn two_persons_end_it_once() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let id = world.parked("r-1").await;
    world.fake.fault("lookup", Fault::LostBefore);
    world.fake.fault("lookup", Fault::LostBefore);
    let (captured, failed) = (end(&id, ResolveAs::Captured), end(&id, ResolveAs::Failed));
    let (one, two) = tokio::join!(world.resolve(&captured), world.resolve(&failed));
    assert_eq!(u8::from(one.is_ok()) + u8::from(two.is_ok()), 1);
    assert_eq!(world.store.resolutions(&id).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_person_ends_an_operation_that_the_provider_does_not_tell() {
    for fault in [Fault::Refused, Fault::LostBefore] {
        for (how, status, refunded) in [
            (ResolveAs::Refunded, OperationStatus::Succeeded, 1000),
            (ResolveAs::Failed, OperationStatus::Failed, 0),
        ] {
            let world = World::new(Shape::TwoCalls);
            world.linked().await;
            let (id, refund) = world.parked_refund("r-1").await;
            let calls = world.fake.calls("refund");
            world.fake.fault("find_operation", fault.clone());
            let wanted = end_operation(&id, &refund, how);
            let resolved = world.resolve(&wanted);
            let resolved = resolved.await.unwrap();
            assert!(resolved.as_wanted);
            assert_eq!(resolved.resolution.decided_by, "person");
            assert_eq!(resolved.payment.refunded.minor(), refunded);
            assert_eq!(resolved.payment.operations[0].status, status);
            assert_eq!(world.fake.calls("refund"), calls, "nothing is sent");
            let kind = format!(
                "refund.{}",
                if refunded > 0 { "succeeded" } else { "failed" }
            );
            assert!(world.events().await.contains(&(kind, refund.clone())));
            // What is left can be given back.
            let rest = give(Some(4990 - refunded));
            let rest = world
                .gateway
                .refund(&world.key(), &id, &rest)
                .await
                .unwrap();
            assert_eq!(rest.body.status, OperationStatus::Succeeded);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_provider_says_of_an_operation_stands() {
    // Carried out.
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let payment = world.pay(&charge("r-1")).await;
    world.fake.fault("refund", Fault::LostAfter);
    let (key, part) = (world.key(), give(Some(1000)));
    let refund = world.gateway.refund(&key, &payment.id, &part);
    let refund = refund.await.unwrap().body.id;
    world.park_operation(&refund).await;
    let wanted = end_operation(&payment.id, &refund, ResolveAs::Failed);
    let resolved = world.resolve(&wanted).await.unwrap();
    assert!(!resolved.as_wanted);
    assert_eq!(resolved.resolution.decided_by, "provider");
    assert_eq!(resolved.payment.refunded.minor(), 1000);
    world.books_fit(&payment.id).await;
    let first = world.gateway.refund(&key, &payment.id, &part);
    assert_eq!(first.await.unwrap().body.status, OperationStatus::Succeeded);

    // Refused, or never arrived.
    for fault in [None, Some(Fault::Declined)] {
        let world = World::new(Shape::TwoCalls);
        world.linked().await;
        let (id, refund) = world.parked_refund("r-1").await;
        if let Some(fault) = fault {
            world.fake.fault("find_operation", fault);
        }
        let wanted = end_operation(&id, &refund, ResolveAs::Refunded);
        let resolved = world.resolve(&wanted).await.unwrap();
        assert!(!resolved.as_wanted);
        assert_eq!(resolved.resolution.ended, "failed");
        assert_eq!(world.fake.moved(Kind::Refund, &id), (0, 0));
        world.books_fit(&id).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_may_be_on_its_way_or_moved_another_amount_is_not_ended() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let (id, refund) = world.parked_refund("r-1").await;
    for how in [ResolveAs::Refunded, ResolveAs::Failed] {
        world.fake.fault("find_operation", Fault::OtherAmount);
        world
            .refuses(
                &end_operation(&id, &refund, how),
                Code::InvalidState,
                "another amount",
            )
            .await;
    }
    let mut row = world.store.operation(&refund).await.unwrap().unwrap();
    row.last_sent_at = cardless_contract::Clock::now(world.clock.as_ref());
    world
        .store
        .apply(vec![Change::UpdateOperation(row)])
        .await
        .unwrap();
    for (how, fault) in [
        (ResolveAs::Refunded, None),
        (ResolveAs::Failed, None),
        (ResolveAs::Failed, Some(Fault::LostBefore)),
        (ResolveAs::Failed, Some(Fault::Refused)),
    ] {
        if let Some(fault) = fault {
            world.fake.fault("find_operation", fault);
        }
        world
            .refuses(
                &end_operation(&id, &refund, how),
                Code::InvalidState,
                "on its way",
            )
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn captures_and_voids_are_ended_too() {
    for shape in SHAPES {
        for (void, how, status) in [
            (false, ResolveAs::Captured, PaymentStatus::Captured),
            (false, ResolveAs::Failed, PaymentStatus::Authorized),
            (true, ResolveAs::Voided, PaymentStatus::Voided),
            (true, ResolveAs::Failed, PaymentStatus::Authorized),
        ] {
            let world = World::new(shape);
            world.linked().await;
            let payment = world.pay(&hold("r-1")).await;
            let call = if void { "void" } else { "capture" };
            world.fake.fault(call, Fault::LostBefore);
            let key = world.key();
            let open = if void {
                world.gateway.void(&key, &payment.id, &release()).await
            } else {
                let all = take(None, None);
                world.gateway.capture(&key, &payment.id, &all).await
            };
            let id = open.unwrap().body.operations[0].id.clone();
            world.park_operation(&id).await;
            world.fake.fault("find_operation", Fault::LostBefore);
            let wanted = end_operation(&payment.id, &id, how);
            let resolved = world.resolve(&wanted);
            let resolved = resolved.await.unwrap();
            assert_eq!(resolved.payment.status, status, "{shape:?} {call} {how:?}");
            let wrong = end_operation(&payment.id, &id, ResolveAs::Refunded);
            assert_eq!(code(world.resolve(&wrong).await), Code::InvalidField);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_shows_what_a_person_must_look_at() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let fine = world.pay(&charge("r-0")).await.id;
    let parked = world.parked("r-1").await;
    let (with_refund, refund) = world.parked_refund("r-2").await;

    let every = world.cases(all(MAX_CASES)).await;
    let ids: Vec<&str> = every
        .data
        .iter()
        .map(|case| case.payment.id.as_str())
        .collect();
    assert_eq!(ids, [&with_refund, &parked, &fine]);
    let query = CaseQuery {
        status: Some(PaymentStatus::Parked),
        ..all(50)
    };
    let look = world.cases(query).await.data;
    assert_eq!(look.len(), 2);
    let (first, second) = (&look[0], &look[1]);
    assert!(first.to_do[0].contains(&format!("--operation {refund}")));
    assert!(second.to_do[0].contains(&parked));
    let object = &second.provider_objects[0];
    assert!(second.to_do[0].contains(&object.id), "{second:?}");
    assert_eq!((object.kind, second.age_seconds > 60), ("payment", true));

    // By pages, by account, by reference.
    let one = world.cases(all(1)).await;
    assert_eq!(one.next.as_deref(), Some(with_refund.as_str()));
    let query = CaseQuery {
        after: one.next,
        ..all(2)
    };
    let rest = world.cases(query).await;
    assert_eq!((rest.data.len(), rest.next), (2, None));
    for (account, reference, found) in [("a-1", None, 3), ("a-2", None, 0), ("a-1", Some("r-0"), 1)]
    {
        let query = CaseQuery {
            account: Some(account.to_owned()),
            reference: reference.map(str::to_owned),
            ..all(50)
        };
        assert_eq!(world.cases(query).await.data.len(), found);
    }
    for limit in [0, MAX_CASES + 1] {
        assert_eq!(
            code(world.gateway.cases(&all(limit)).await),
            Code::InvalidField
        );
    }
    let metrics = world.gateway.metrics().await.unwrap();
    assert!(
        metrics.contains("cardless_parked{kind=\"payment\"} 1\n"),
        "{metrics}"
    );
    assert!(
        metrics.contains("cardless_parked{kind=\"operation\"} 1\n"),
        "{metrics}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_case_has_no_address_that_is_meant_for_the_customer() {
    let world = World::new(Shape::Page);
    world.linked().await;
    let payment = world.pay(&present("r-1")).await;
    assert!(payment.redirect_url.is_some());
    let case = world.gateway.case(&payment.id).await.unwrap();
    assert_eq!(case.payment.redirect_url, None);
}

#[tokio::test(start_paused = true)]
async fn a_person_sees_how_the_last_questions_ended() {
    let world = World::new(Shape::TwoCalls);
    let method = world.linked().await;
    let id = world.parked("r-1").await;
    let (paid, refund) = world.parked_refund("r-2").await;
    let heard = async |payment: &str, object: &str| {
        let case = world.gateway.case(payment).await.unwrap();
        let mut answers = case.last_answers.into_iter();
        let answer = answers.find(|answer| answer.object == object).unwrap();
        (answer.to_string(), answer)
    };
    for (payment, object) in [(&id, &id), (&paid, &refund)] {
        let (text, answer) = heard(payment, object).await;
        assert_eq!(answer.said, "interrupted");
        assert_eq!(answer.code.as_deref(), Some("GATEWAY_TIMEOUT"));
        assert_eq!(answer.correlation.as_deref(), Some("debug-7"));
        let said = "interrupted (GATEWAY_TIMEOUT) [debug-7] at ";
        assert!(text.starts_with(said), "{text}");
    }
    // The latest answer counts.
    let before = heard(&id, &id).await.1.at;
    world.fake.fault("lookup", Fault::Unmapped);
    world.webhook("e-1", &id).await;
    world.run_for(Duration::from_secs(2)).await;
    let (_, answer) = heard(&id, &id).await;
    assert_eq!((answer.said.as_str(), answer.code), ("unmapped", None));
    assert!(answer.at > before);
    // What is asked of a method shows with its payments.
    world.fake.fault("revoke", Fault::LostBefore);
    let revoked = world.gateway.revoke(&method, "a-1").await.unwrap();
    assert!(revoked.open);
    let row = world.store.payment(&paid).await.unwrap().unwrap();
    let (_, answer) = heard(&paid, &row.method.unwrap()).await;
    assert_eq!(answer.said, "interrupted");
}

#[tokio::test(start_paused = true)]
async fn what_a_person_called_captured_unread_can_be_given_back() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    world.fake.fault("commit", Fault::LostAfter);
    world.fake.fault("lookup", Fault::LostBefore);
    let payment = world.pay(&charge("r-1")).await;
    assert_eq!(payment.status, PaymentStatus::Unknown);
    world.park(&payment.id).await;
    tokio::time::advance(QUIET).await;
    world.fake.fault("lookup", Fault::LostBefore);
    let resolved = world
        .resolve(&end(&payment.id, ResolveAs::Captured))
        .await
        .unwrap();
    assert!(resolved.as_wanted, "{resolved:?}");
    world.fake.no_more_faults();
    let given = world
        .gateway
        .refund(&world.key(), &payment.id, &give(None))
        .await
        .unwrap();
    assert_eq!(given.body.status, OperationStatus::Succeeded);
    world.books_fit(&payment.id).await;
}

/// A payment that is parked before anybody has its provider's id: only a person ends it, or the provider
/// where it can be looked for. No look sends it again.
#[tokio::test(start_paused = true)]
async fn what_is_parked_without_an_id_stays_with_the_person() {
    for shape in SHAPES {
        for carried_out in [false, true] {
            let world = World::new(shape);
            world.linked().await;
            let lost = if carried_out {
                Fault::LostAfter
            } else {
                Fault::LostBefore
            };
            world.fake.fault("reserve", lost);
            let payment = world.pay(&charge("r-1")).await;
            assert_eq!(payment.status, PaymentStatus::Unknown);
            world
                .change_row(&payment.id, |row| {
                    row.state = PaymentState::Parked;
                    row.next_at = None;
                })
                .await;
            let sent = world.fake.calls("reserve");
            let found = shape == Shape::Page && carried_out;
            for minutes in [1, 20] {
                tokio::time::advance(Duration::from_secs(minutes * 60)).await;
                world.reconcile().await;
                assert_eq!(world.fake.calls("reserve"), sent, "{shape:?}");
                let status = world.payment(&payment.id).await.status;
                let wanted = if found {
                    PaymentStatus::Captured
                } else {
                    PaymentStatus::Parked
                };
                assert_eq!(status, wanted, "{shape:?}");
            }
        }
    }
}

/// A webhook tells of a parked payment that is being closed while a commit may still be on its way: it is
/// looked at once that is over.
#[tokio::test(start_paused = true)]
async fn what_is_parked_and_closing_is_looked_at_once_it_is_quiet() {
    let world = World::new(Shape::TwoCalls);
    let payment = world
        .told_of_parked(|row| {
            row.step = Step::Closing;
            row.closing_as = Some(PaymentState::Failed);
        })
        .await;
    world.run_minutes(1).await;
    assert_eq!(
        world.payment(&payment.id).await.status,
        PaymentStatus::Parked
    );
    world.run_minutes(5).await;
    assert_eq!(
        world.payment(&payment.id).await.status,
        PaymentStatus::Captured
    );
}

/// A person is refused just when a webhook has told of the payment: that look is not lost.
#[tokio::test(start_paused = true)]
async fn a_refused_person_takes_no_look_away() {
    let world = World::new(Shape::TwoCalls);
    let payment = world.told_of_parked(|_| {}).await;
    world.fake.fault("lookup", Fault::NotSent);
    let request = ResolveRequest {
        payment: payment.id.clone(),
        operation: None,
        end: ResolveAs::Failed,
        note: "not there".to_owned(),
        person: "ann".to_owned(),
    };
    let refused = world.resolve(&request).await.unwrap_err();
    assert!(refused.to_string().contains("on its way"), "{refused}");
    world.run_minutes(1).await;
    assert_eq!(
        world.payment(&payment.id).await.status,
        PaymentStatus::Captured
    );
}

/// A webhook has told that it was taken, and the look that came of it was not answered, nor was the
/// question before a person ended it as failed: it is looked at again, and told.
#[tokio::test(start_paused = true)]
async fn what_a_person_ends_unread_is_looked_at_once_more() {
    let world = World::new(Shape::TwoCalls);
    let payment = world.told_of_parked(|_| {}).await;
    world.fake.fault("lookup", Fault::NotSent);
    world.run_minutes(1).await;
    assert_eq!(
        world.payment(&payment.id).await.status,
        PaymentStatus::Parked
    );
    tokio::time::advance(QUIET).await;
    for _ in 0..2 {
        world.fake.fault("lookup", Fault::NotSent);
    }
    let request = end(&payment.id, ResolveAs::Failed);
    let resolved = world.resolve(&request).await.unwrap();
    assert_eq!(resolved.payment.status, PaymentStatus::Failed);
    world.run_minutes(5).await;
    let told = ("payment.contradicted".to_owned(), payment.id);
    let events = world.events().await;
    assert_eq!(events.iter().filter(|event| **event == told).count(), 1);
}

/// Of two refunds of the same amount one has arrived. Where the provider finds each by its name, a person
/// who takes one for the other is not believed.
#[tokio::test(start_paused = true)]
async fn a_person_who_takes_one_refund_for_another_is_not_believed() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let payment = world.pay(&charge("r-1")).await;
    let mut refunds = Vec::new();
    for fault in [Fault::LostBefore, Fault::LostAfter] {
        world.fake.fault("refund", fault);
        let (key, request) = (world.key(), give(Some(1000)));
        let refund = world.gateway.refund(&key, &payment.id, &request).await;
        refunds.push(refund.unwrap().body.id);
    }
    for refund in &refunds {
        world.park_operation(refund).await;
    }
    tokio::time::advance(10 * LONGEST_DELAY).await;
    for (refund, end) in refunds.iter().zip([ResolveAs::Refunded, ResolveAs::Failed]) {
        let request = ResolveRequest {
            payment: payment.id.clone(),
            operation: Some(refund.clone()),
            end,
            note: "seen".to_owned(),
            person: "ann".to_owned(),
        };
        let resolved = world.resolve(&request).await.unwrap();
        assert_eq!(resolved.resolution.decided_by, "provider");
        assert!(!resolved.as_wanted);
    }
    assert_eq!(world.payment(&payment.id).await.refunded.minor(), 1000);
    world.books_fit(&payment.id).await;
}
