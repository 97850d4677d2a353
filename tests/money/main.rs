//! The main job at each provider, through the gateway, judged by the sandbox's ledger.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code stops at the first surprise"
)]

mod erasure;
mod late;
mod one_call;
mod returns;
mod world;

use cardless::message::{
    Amount, Capture, CaptureRequest, ErasureStatus, Initiator, MethodStatus, OperationStatus,
    PaymentStatus, RefundRequest, Setup, SetupStatus, VoidRequest,
};
use cardless_contract::{
    Currency, IdempotencyKey, Money, PaymentProvider as _, Reference,
    RefundRequest as ProviderRefund, ReservationId,
};
use cardless_sandbox::{Deliver, EntryKind, Provider, WebhookRoute};
use world::{ALL, World};

/// What PostFinance's webhooks call a refund.
const REFUND_ENTITY: &str = "1472041839405";

const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// Its webhook names the refund, which nobody here knows.
#[tokio::test(start_paused = true)]
async fn a_refund_of_the_back_office_is_booked_by_its_webhook() {
    let world = World::new();
    let method = world.link("postfinance").await;
    let payment = world.pay(&World::charge(&method, 4990, "invoice-1")).await;
    world.sandbox.route_webhooks(&WebhookRoute {
        provider: Provider::PostFinance,
        url: Some("http://127.0.0.1:8080/webhooks/postfinance".into()),
        deliver: Deliver::Now,
    });
    let row = world.store.payment(&payment.id).await.unwrap().unwrap();
    let request = ProviderRefund {
        reservation: ReservationId::new(row.reservation.unwrap()).unwrap(),
        capture: None,
        payment_reference: Reference::new("elsewhere").unwrap(),
        reference: Reference::new("elsewhere-1").unwrap(),
        amount: Money::new(Currency::from_code("CHF").unwrap(), 990).unwrap(),
    };
    let key = IdempotencyKey::new("elsewhere").unwrap();
    world.back_office().refund(&key, &request).await.unwrap();
    assert_eq!(world.bring("postfinance", REFUND_ENTITY).await, 1);
    world.gateway.run(tokio::time::sleep(DAY / 24)).await;
    let booked = world.gateway.payment(&payment.id).await.unwrap();
    assert_eq!(booked.refunded.minor(), 990);
}

#[tokio::test(start_paused = true)]
async fn links_charges_and_gives_back() {
    for provider in ALL {
        let world = World::new();
        let method = world.link(provider).await;
        let payment = world.pay(&World::charge(&method, 4990, "invoice-1")).await;
        assert_eq!(
            payment.status,
            PaymentStatus::Captured,
            "{provider}: {payment:?}"
        );
        assert_eq!(payment.captured.minor(), 4990);
        let request = RefundRequest {
            account: "acct-7".into(),
            amount: Some(Amount::new("CHF", 990)),
        };
        let refund = world
            .gateway
            .refund(&world.key(), &payment.id, &request)
            .await
            .unwrap();
        assert_eq!(refund.body.status, OperationStatus::Succeeded, "{provider}");
        assert_eq!(world.moved(EntryKind::Capture), [4990], "{provider}");
        assert_eq!(world.moved(EntryKind::Refund), [990], "{provider}");
    }
}

#[tokio::test(start_paused = true)]
async fn authorizes_captures_a_part_and_voids() {
    for provider in ALL {
        let world = World::new();
        let method = world.link(provider).await;
        let mut request = World::charge(&method, 5000, "invoice-1");
        request.capture = Capture::Manual;
        let payment = world.pay(&request).await;
        assert_eq!(
            payment.status,
            PaymentStatus::Authorized,
            "{provider}: {payment:?}"
        );
        let part = CaptureRequest {
            account: "acct-7".into(),
            amount: Some(Amount::new("CHF", 3000)),
            last: None,
        };
        let answer = world
            .gateway
            .capture(&world.key(), &payment.id, &part)
            .await
            .unwrap();
        assert_eq!(
            answer.body.status,
            PaymentStatus::Captured,
            "{provider}: {answer:?}"
        );
        assert_eq!(answer.body.captured.minor(), 3000, "{provider}");

        request.reference = "invoice-2".into();
        let payment = world.pay(&request).await;
        let void = VoidRequest {
            account: "acct-7".into(),
        };
        let answer = world
            .gateway
            .void(&world.key(), &payment.id, &void)
            .await
            .unwrap();
        assert_eq!(
            answer.body.status,
            PaymentStatus::Voided,
            "{provider}: {answer:?}"
        );
        assert_eq!(world.moved(EntryKind::Capture), [3000], "{provider}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_lapses_is_noticed_whether_or_not_its_end_was_told() {
    for provider in ALL {
        let world = World::new();
        let method = world.link(provider).await;
        let mut request = World::charge(&method, 5000, "invoice-1");
        request.capture = Capture::Manual;
        let id = world.pay(&request).await.id;
        for _ in 0..6 {
            world.pass(7 * DAY).await;
            let a_moment = tokio::time::sleep(std::time::Duration::from_secs(2));
            world.gateway.run(a_moment).await;
        }
        let payment = world.gateway.payment(&id).await.unwrap();
        assert_eq!(payment.status, PaymentStatus::Voided, "{provider}");
        assert!(payment.expires_at.is_none(), "{provider}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_lapses_after_a_part_was_taken_ends_as_captured_and_is_erased() {
    for provider in ALL {
        let world = World::new();
        let method = world.link(provider).await;
        let mut request = World::charge(&method, 5000, "invoice-1");
        request.capture = Capture::Manual;
        let id = world.pay(&request).await.id;
        let part = CaptureRequest {
            account: "acct-7".into(),
            amount: Some(Amount::new("CHF", 1500)),
            last: Some(false),
        };
        let key = world.key();
        let Ok(answer) = world.gateway.capture(&key, &id, &part).await else {
            assert_eq!(provider, "aduno", "it takes one capture");
            continue;
        };
        assert_eq!(answer.body.status, PaymentStatus::Authorized, "{provider}");
        // A look at what is still held ends nothing.
        world.settle().await;
        let payment = world.gateway.payment(&id).await.unwrap();
        assert_eq!(payment.status, PaymentStatus::Authorized, "{provider}");
        assert!(world.gateway.verify().await.unwrap().is_clean());

        world.pass(35 * DAY).await;
        let report = world.gateway.verify().await.unwrap();
        let found = report.differences.iter().map(|found| found.what);
        assert!(found.eq(["status"]), "{provider}: {report:?}");
        let a_moment = tokio::time::sleep(std::time::Duration::from_secs(2));
        world.gateway.run(a_moment).await;
        let payment = world.gateway.payment(&id).await.unwrap();
        assert_eq!(payment.status, PaymentStatus::Captured, "{provider}");
        assert_eq!(payment.captured.minor(), 1500, "{provider}");
        assert!(payment.expires_at.is_none(), "{provider}");
        assert!(world.gateway.verify().await.unwrap().is_clean());
        let row = world.store.payment(&id).await.unwrap().unwrap();
        assert_eq!(row.next_at, None, "{provider}: nobody asks for ever");
        let key = world.key();
        let erasure = world.gateway.erase(&key, "acct-7").await.unwrap().body;
        assert_eq!(
            erasure.status,
            ErasureStatus::Erased,
            "{provider}: {erasure:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_customers_bank_takes_back_is_a_difference_and_is_not_guessed_at() {
    let world = World::new();
    let method = world.link("paypal").await;
    let payment = world.pay(&World::charge(&method, 4990, "invoice-1")).await;
    assert!(world.gateway.verify().await.unwrap().is_clean());
    let order = world.store.payment(&payment.id).await.unwrap().unwrap();
    let order = order.reservation.unwrap();
    let paypal = cardless_sandbox::Provider::PayPal;
    assert!(world.sandbox.take_back(paypal, &order));
    assert!(!world.sandbox.take_back(paypal, &order), "once");
    let report = world.gateway.verify().await.unwrap();
    let [found] = report.differences.as_slice() else {
        panic!("{report:?}");
    };
    assert_eq!(
        (found.what, found.ours.as_str(), found.theirs.as_str()),
        ("returned", "CHF 0.00", "CHF 49.90")
    );
    assert_eq!(world.moved(EntryKind::Refund), Vec::<i64>::new());
    let all = RefundRequest {
        account: "acct-7".into(),
        amount: None,
    };
    let refund = world.gateway.refund(&world.key(), &payment.id, &all).await;
    assert_eq!(refund.unwrap().body.status, OperationStatus::Failed);
}

/// Where each step of each provider goes, in the words of the sandbox's faults.
const STEPS: [(&str, [(&str, &str); 8]); 3] = [
    (
        "postfinance",
        [
            ("begin", "POST /api/v2.0/payment/transactions"),
            ("token", "GET /api/v2.0/payment/transactions"),
            ("reserve", "POST /api/v2.0/payment/transactions"),
            (
                "commit",
                "POST /api/v2.0/payment/transactions/*/process-with-token",
            ),
            (
                "capture",
                "POST /api/v2.0/payment/transactions/*/complete-partially-online",
            ),
            ("void", "POST /api/v2.0/payment/transactions/*/void-online"),
            ("refund", "POST /api/v2.0/payment/refunds"),
            ("revoke", "DELETE /api/v2.0/payment/tokens"),
        ],
    ),
    (
        "paypal",
        [
            ("begin", "POST /v3/vault/setup-tokens"),
            ("token", "POST /v3/vault/payment-tokens"),
            ("reserve", "POST /v2/checkout/orders"),
            ("commit", "POST /v2/checkout/orders/*/capture"),
            ("capture", "POST /v2/payments/authorizations/*/capture"),
            ("void", "POST /v2/payments/authorizations/*/void"),
            ("refund", "POST /v2/payments/captures/*/refund"),
            ("revoke", "DELETE /v3/vault/payment-tokens"),
        ],
    ),
    (
        "aduno",
        [
            ("begin", "POST /v1/transactions"),
            ("token", "GET /v1/transactions"),
            ("reserve", "POST /v1/transactions/authorize"),
            ("commit", "POST /v1/transactions/*/settle"),
            ("capture", "POST /v1/transactions/*/settle"),
            ("void", "POST /v1/transactions/*/cancel"),
            ("refund", "POST /v1/transactions/*/credit"),
            ("revoke", "DELETE /v1/aliases"),
        ],
    ),
];

/// Faults after which nobody knows whether the call was carried out.
const LOSSES: [&str; 5] = [
    "execute_then_drop",
    "execute_then_500",
    "half_body",
    "drop_before",
    "stall",
];

fn step(provider: &str, wanted: &str) -> &'static str {
    let steps = STEPS.iter().find(|(name, _)| *name == provider).unwrap().1;
    steps.iter().find(|(name, _)| *name == wanted).unwrap().1
}

/// The page or the token is lost on its way: another is made, or the same is asked for again, and
/// the customer ends with one method that can be charged.
#[tokio::test(start_paused = true)]
async fn a_lost_reply_of_a_link_makes_one_method() {
    for provider in ALL {
        for lost in ["begin", "token"] {
            for fault in LOSSES {
                let case = format!("{provider}, {lost}, {fault}");
                let world = World::new();
                let waits = if lost == "begin" {
                    begins_after_a_loss(&world, provider, fault, &case).await
                } else {
                    world.begin(provider, None).await
                };
                if lost == "token" {
                    world.inject(provider, step(provider, lost), fault);
                }
                let page = waits.redirect_url.unwrap();
                let back = world.decide(provider, &page, "approve").await;
                let knows = back.ends_with("status=completed");
                assert_eq!(knows, lost == "begin", "{case}: {back}");
                world.settle().await;
                let setup = world.gateway.setup(&waits.id).await.unwrap();
                assert_eq!(setup.status, SetupStatus::Completed, "{case}: {setup:?}");
                let method = setup.payment_method.unwrap();
                let methods = world.gateway.payment_methods("acct-7").await.unwrap();
                let methods: Vec<&str> = methods.data.iter().map(|one| one.id.as_str()).collect();
                assert_eq!(methods, [method.as_str()], "{case}");
                if provider == "paypal" {
                    let (ids, count) = world.paypal_request_ids(step(provider, lost));
                    assert_eq!((ids.len(), count), (1, 2), "{case}: {ids:?}");
                }
                let payment = world.pay(&World::charge(&method, 4990, "invoice-1")).await;
                assert_eq!(payment.status, PaymentStatus::Captured, "{case}");
                assert_eq!(world.moved(EntryKind::Capture), [4990], "{case}");
            }
        }
    }
}

/// A link whose page is lost once, as it stands when it has one.
async fn begins_after_a_loss(world: &World, provider: &str, fault: &str, case: &str) -> Setup {
    world.inject(provider, step(provider, "begin"), fault);
    let setup = world.begin(provider, None).await;
    assert_eq!(setup.status, SetupStatus::Unknown, "{case}: {setup:?}");
    world
        .sandbox
        .advance(std::time::Duration::from_secs(5 * 60));
    world.gateway.reconcile().await.unwrap();
    let waits = world.gateway.setup(&setup.id).await.unwrap();
    assert_eq!(
        waits.status,
        SetupStatus::AwaitingCustomer,
        "{case}: {waits:?}"
    );
    waits
}

/// A method is not charged from the moment it is to be revoked, whatever the provider says or
/// doesn't; and in the end it is gone there.
#[tokio::test(start_paused = true)]
async fn a_lost_reply_of_a_revocation_revokes() {
    for provider in ALL {
        for fault in LOSSES {
            let case = format!("{provider}, {fault}");
            let world = World::new();
            let method = world.link(provider).await;
            world.inject(provider, step(provider, "revoke"), fault);
            let answer = world.gateway.revoke(&method, "acct-7").await.unwrap();
            assert!(answer.open, "{case}");
            let charge = World::charge(&method, 4990, "invoice-1");
            let refused = world.gateway.pay(&world.key(), &charge).await;
            assert!(refused.is_err(), "{case}: {refused:?}");
            let asked = world.count_sent(step(provider, "revoke"));
            world.settle().await;
            assert!(
                world.count_sent(step(provider, "revoke")) > asked,
                "{case}: nobody asked again"
            );
            let methods = world.gateway.payment_methods("acct-7").await.unwrap();
            assert_eq!(methods.data[0].status, MethodStatus::Revoked, "{case}");
            // Nothing is left to be done.
            let asked = world.count_sent(step(provider, "revoke"));
            world.pass(DAY).await;
            world.settle().await;
            assert_eq!(world.count_sent(step(provider, "revoke")), asked, "{case}");
            assert!(world.sandbox.ledger().is_empty(), "{case}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_of_a_charge_is_unknown_and_then_the_truth() {
    for provider in ALL {
        for lost in ["reserve", "commit"] {
            for fault in LOSSES {
                let case = format!("{provider}, {lost}, {fault}");
                let world = World::new();
                let method = world.link(provider).await;
                world.inject(provider, step(provider, lost), fault);
                let request = World::charge(&method, 4990, "invoice-1");
                let key = world.key();
                let payment = world.gateway.pay(&key, &request).await.unwrap().body;
                assert_eq!(
                    payment.status,
                    PaymentStatus::Unknown,
                    "{case}: {payment:?}"
                );
                world.settle().await;
                let payment = world.gateway.payment(&payment.id).await.unwrap();
                assert_eq!(
                    payment.status,
                    PaymentStatus::Captured,
                    "{case}: {payment:?}"
                );
                assert_eq!(world.moved(EntryKind::Capture), [4990], "{case}");
                let again = world.gateway.pay(&key, &request).await.unwrap();
                assert_eq!(again.body, payment, "{case}");
                assert_eq!(world.moved(EntryKind::Capture), [4990], "{case}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_of_an_operation_is_unknown_and_then_the_truth() {
    for provider in ALL {
        for lost in ["capture", "void", "refund"] {
            for fault in LOSSES {
                let case = format!("{provider}, {lost}, {fault}");
                let world = World::new();
                let method = world.link(provider).await;
                let mut request = World::charge(&method, 5000, "invoice-1");
                if lost != "refund" {
                    request.capture = Capture::Manual;
                }
                let payment = world.pay(&request).await;
                world.inject(provider, step(provider, lost), fault);
                let amount = Some(Amount::new("CHF", 2000));
                let open = match lost {
                    "capture" => {
                        let part = CaptureRequest {
                            account: "acct-7".into(),
                            amount,
                            last: None,
                        };
                        world
                            .gateway
                            .capture(&world.key(), &payment.id, &part)
                            .await
                            .unwrap()
                            .open
                    }
                    "void" => {
                        let void = VoidRequest {
                            account: "acct-7".into(),
                        };
                        world
                            .gateway
                            .void(&world.key(), &payment.id, &void)
                            .await
                            .unwrap()
                            .open
                    }
                    _ => {
                        let refund = RefundRequest {
                            account: "acct-7".into(),
                            amount,
                        };
                        world
                            .gateway
                            .refund(&world.key(), &payment.id, &refund)
                            .await
                            .unwrap()
                            .open
                    }
                };
                assert!(open, "{case}");
                world.settle().await;
                let payment = world.gateway.payment(&payment.id).await.unwrap();
                let operation = &payment.operations[0];
                assert_eq!(
                    operation.status,
                    OperationStatus::Succeeded,
                    "{case}: {payment:?}"
                );
                let (kind, moved) = match lost {
                    "capture" => (EntryKind::Capture, 2000),
                    "void" => (EntryKind::Void, 5000),
                    _ => (EntryKind::Refund, 2000),
                };
                assert_eq!(world.moved(kind), [moved], "{case}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_payment_links_the_method_in_the_same_visit() {
    for provider in ALL {
        let world = World::new();
        let setup = world.begin(provider, Some(4990)).await;
        let payment = setup.payment.clone().unwrap();
        let mut page = setup.redirect_url.clone().unwrap();
        // PayPal wants the customer twice; the second page follows in the same visit.
        let mut visits = 0;
        let back = loop {
            visits += 1;
            let next = world.decide(provider, &page, "approve").await;
            if next.starts_with("https://shop.example/back") {
                break next;
            }
            assert!(visits < 3, "{provider}: {next}");
            page = next;
        };
        world.settle().await;
        let setup = world.gateway.setup(&setup.id).await.unwrap();
        assert_eq!(
            setup.status,
            SetupStatus::Completed,
            "{provider}: {setup:?}, {back}"
        );
        let payment = world.gateway.payment(&payment).await.unwrap();
        assert_eq!(
            payment.status,
            PaymentStatus::Captured,
            "{provider}: {payment:?}"
        );
        assert_eq!(payment.payment_method, setup.payment_method, "{provider}");
        assert_eq!(world.moved(EntryKind::Capture), [4990], "{provider}");
        let again = World::charge(&setup.payment_method.unwrap(), 100, "invoice-2");
        assert_eq!(
            world.pay(&again).await.status,
            PaymentStatus::Captured,
            "{provider}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_customer_confirms_a_charge_of_a_saved_method() {
    for provider in ALL {
        let world = World::new();
        let method = world.link(provider).await;
        let mut request = World::charge(&method, 2500, "invoice-1");
        request.initiator = Initiator::Customer;
        request.return_url = Some("https://shop.example/back".into());
        let payment = world.pay(&request).await;
        assert_eq!(
            payment.status,
            PaymentStatus::ActionRequired,
            "{provider}: {payment:?}"
        );
        assert_eq!(world.moved(EntryKind::Capture), [0; 0], "{provider}");
        let page = payment.redirect_url.clone().unwrap();
        let back = world.decide(provider, &page, "approve").await;
        assert!(back.contains("payment=pay_"), "{back}");
        world.settle().await;
        let payment = world.gateway.payment(&payment.id).await.unwrap();
        assert_eq!(
            payment.status,
            PaymentStatus::Captured,
            "{provider}: {payment:?}"
        );
        assert_eq!(world.moved(EntryKind::Capture), [2500], "{provider}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_customer_who_says_no_links_and_pays_nothing() {
    for provider in ALL {
        for amount in [None, Some(4990)] {
            let world = World::new();
            let setup = world.begin(provider, amount).await;
            let page = setup.redirect_url.clone().unwrap();
            let back = world.decide(provider, &page, "decline").await;
            assert!(back.contains("status=declined"), "{provider}: {back}");
            let setup = world.gateway.setup(&setup.id).await.unwrap();
            assert_eq!(setup.status, SetupStatus::Declined, "{provider}: {setup:?}");
            world.settle().await;
            if let Some(payment) = setup.payment {
                let payment = world.gateway.payment(&payment).await.unwrap();
                assert_eq!(
                    payment.status,
                    PaymentStatus::Declined,
                    "{provider}: {payment:?}"
                );
            }
            assert!(world.sandbox.ledger().is_empty(), "{provider}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_customer_who_never_comes_back_leaves_nothing_open() {
    for provider in ALL {
        let world = World::new();
        let method = world.link(provider).await;
        let setup = world.begin(provider, Some(4990)).await;
        let mut request = World::charge(&method, 2500, "invoice-1");
        request.initiator = Initiator::Customer;
        request.return_url = Some("https://shop.example/back".into());
        let payment = world.pay(&request).await;
        world
            .sandbox
            .advance(std::time::Duration::from_secs(4 * 3600));
        world.settle().await;
        let setup = world.gateway.setup(&setup.id).await.unwrap();
        // PostFinance shows a page that lapsed as a payment that failed.
        let ended = [SetupStatus::Expired, SetupStatus::Declined];
        assert!(ended.contains(&setup.status), "{provider}: {setup:?}");
        for id in [setup.payment.unwrap(), payment.id] {
            let payment = world.gateway.payment(&id).await.unwrap();
            let ended = [
                PaymentStatus::Failed,
                PaymentStatus::Declined,
                PaymentStatus::Voided,
            ];
            assert!(ended.contains(&payment.status), "{provider}: {payment:?}");
        }
        assert_eq!(world.moved(EntryKind::Capture), [0; 0], "{provider}");
    }
}

/// The process sleeps between the mark and the request for longer than its lease; meanwhile
/// another worker ends the payment.
#[tokio::test(start_paused = true)]
async fn a_worker_that_has_slept_sends_nothing_any_more() {
    let world = World::new();
    let method = world.link("paypal").await;
    // By then the access token is too old, so that one is fetched before the order is made.
    world.pass(DAY).await;
    world.nap.after("/v1/oauth2/token");
    let (gateway, key) = (world.gateway.clone(), world.key());
    let request = World::charge(&method, 4990, "invoice-1");
    let sleeper = tokio::spawn(async move { gateway.pay(&key, &request).await });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    world.pass(DAY).await;
    let report = world.gateway.reconcile().await.unwrap();
    assert_eq!((report.looked_at, report.concluded), (1, 1));
    world.nap.wake();
    let payment = sleeper.await.unwrap().unwrap().body;
    assert_eq!(payment.status, PaymentStatus::Failed, "{payment:?}");
    assert!(!world.nap.was_asked("/v2/checkout/orders"));
}
