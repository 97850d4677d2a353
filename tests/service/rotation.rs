//! A rotation by the program itself, beside payments, and killed on its way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cardless::gateway::Gateway;
use cardless::message::{Amount, Capture, Initiator, PayRequest, PaymentStatus};

use crate::people::Desk;
use crate::world::ACCOUNT;

/// How often the program is killed before it is left alone.
const KILLS: u64 = 3;

/// Starts `rotate` with `slowly`, kills it three times, each time once `step` more have been done,
/// and lets `finish` do the rest; another that wants to begin meanwhile is refused. Payments go on
/// all the time. Gives how many there were, and what the last run said.
pub(crate) async fn killed_beside_payments(
    desk: &Desk,
    slowly: &[&str],
    step: u64,
    finish: &[&str],
) -> (u32, (i32, String, String)) {
    let stop = AtomicBool::new(false);
    let charge = async {
        let mut paid = 0;
        while !stop.load(Ordering::Relaxed) {
            pay(&desk.gateway, paid).await;
            paid += 1;
        }
        paid
    };
    let rotate = async {
        for killed in 1..=KILLS {
            let mut child = desk.start(slowly);
            until_done(&desk.gateway, step * killed).await;
            if killed == 1 {
                let (code, _, err) = tokio::task::block_in_place(|| desk.run(&slowly[..2]));
                assert_eq!(code, 1, "{err}");
                assert!(err.contains("Another process drives a rotation"), "{err}");
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let last = tokio::task::block_in_place(|| desk.run(finish));
        stop.store(true, Ordering::Relaxed);
        last
    };
    tokio::join!(charge, rotate)
}

/// Waits until the rotation has done this many.
async fn until_done(gateway: &Gateway, wanted: u64) {
    loop {
        let rotations = gateway.rotations().await.unwrap();
        if rotations.first().is_some_and(|first| first.done >= wanted) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Charges the account, and is told at once that it was taken.
pub(crate) async fn pay(gateway: &Gateway, number: u32) {
    let request = PayRequest {
        account: ACCOUNT.to_owned(),
        payment_method: None,
        amount: Amount::new("CHF", 100),
        reference: format!("beside {number}"),
        capture: Capture::Automatic,
        initiator: Initiator::Merchant,
        return_url: None,
        description: None,
    };
    let key = Desk::key(&format!("beside-{number}"));
    let payment = gateway.pay(&key, &request).await.unwrap().body;
    assert_eq!(payment.status, PaymentStatus::Captured, "{payment:?}");
}
