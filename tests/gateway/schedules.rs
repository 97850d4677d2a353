//! Random schedules of calls, faults and time, each repeatable from its seed.

use std::collections::BTreeMap;
use std::time::Duration;

use cardless::message::{Answer, Payment, PaymentStatus};
use cardless_contract::CaptureMode;

use crate::fake::{Fault, Kind, Phase, SHAPES, Shape};
use crate::world::*;

/// How many schedules run at each shape, unless `CARDLESS_GATEWAY_SCHEDULES` says.
const SCHEDULES: u64 = 8;

const STEPS: u32 = 14;

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn fault(&mut self) -> Fault {
        let late = Duration::from_secs(1 + self.below(110));
        [
            Fault::NotSent,
            Fault::LostBefore,
            Fault::LostAfter,
            Fault::Late(late),
            Fault::Declined,
            Fault::Refused,
            Fault::Pending,
            Fault::Unmapped,
            Fault::Stale,
        ][usize::try_from(self.below(9)).unwrap()]
        .clone()
    }
}

#[tokio::test(start_paused = true)]
async fn no_schedule_moves_money_twice_or_loses_it() {
    let asked = std::env::var("CARDLESS_GATEWAY_SCHEDULES");
    let count = asked.map_or(SCHEDULES, |text| text.parse().unwrap());
    for shape in SHAPES {
        for seed in 1..=count {
            Schedule::new(shape, seed).run().await;
        }
    }
}

struct Schedule {
    name: String,
    world: World,
    dice: Dice,
    payments: Vec<String>,
    ended: BTreeMap<String, PaymentStatus>,
    answers: Vec<(
        cardless::gateway::RequestKey,
        cardless::message::PayRequest,
        String,
    )>,
}

impl Schedule {
    fn new(shape: Shape, seed: u64) -> Self {
        Self {
            name: format!("{shape:?} {seed}"),
            world: World::new(shape),
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            payments: Vec::new(),
            ended: BTreeMap::new(),
            answers: Vec::new(),
        }
    }

    async fn run(mut self) {
        self.world.linked().await;
        for step in 0..STEPS {
            for call in [
                "reserve",
                "commit",
                "lookup",
                "capture",
                "void",
                "refund",
                "find",
                "find_operation",
            ] {
                if self.dice.below(4) == 0 {
                    let fault = self.dice.fault();
                    self.world.fake.fault(call, fault);
                }
            }
            self.call(step).await;
            match self.dice.below(5) {
                0 => {}
                1 => self.world.run_for(Duration::from_secs(2)).await,
                2 => self.world.run_for(Duration::from_secs(30)).await,
                3 => self.world.run_minutes(5).await,
                _ => self.world.run_minutes(20).await,
            }
            if self.dice.below(3) == 0 {
                self.world.fake.finish_pending();
            }
            self.look().await;
        }
        self.world.fake.no_more_faults();
        self.world.fake.finish_pending();
        self.world.run_hours(3).await;
        self.world.fake.finish_pending();
        for (number, id) in self.payments.clone().iter().enumerate() {
            if !self.known(id) {
                continue;
            }
            self.world.webhook(&format!("last-{number}"), id).await;
        }
        self.world.run_hours(1).await;
        self.look().await;
        self.judge().await;
    }

    fn known(&self, id: &str) -> bool {
        let reference = id.split_once('_').unwrap().1;
        let state = self.world.fake.state.lock().unwrap();
        state
            .objects
            .values()
            .any(|object| object.reference == reference)
    }

    async fn call(&mut self, step: u32) {
        let (gateway, key) = (self.world.another_worker(), self.world.key());
        let what = self.dice.below(6);
        let target = match self.payments.len() {
            0 => None,
            count => {
                let index = self.dice.below(u64::try_from(count).unwrap());
                Some(self.payments[usize::try_from(index).unwrap()].clone())
            }
        };
        match (what, target) {
            (0 | 1, _) | (_, None) => {
                let reference = format!("r-{step}");
                let request = if what == 0 {
                    charge(&reference)
                } else {
                    hold(&reference)
                };
                let answer = gateway.pay(&key, &request).await.unwrap();
                self.payments.push(answer.body.id.clone());
                if !answer.open {
                    self.answers.push((key, request, bytes(&answer)));
                }
            }
            (2, Some(id)) => {
                let minor = 1 + i64::try_from(self.dice.below(4990)).unwrap();
                let minor = (self.dice.below(2) == 0).then_some(minor);
                let last = (self.dice.below(2) == 0).then_some(false);
                note(gateway.capture(&key, &id, &take(minor, last)).await);
            }
            (3, Some(id)) => note(gateway.void(&key, &id, &release()).await),
            (_, Some(id)) => {
                let minor = 1 + i64::try_from(self.dice.below(2000)).unwrap();
                drop(gateway.refund(&key, &id, &give(Some(minor))).await);
            }
        }
    }

    /// What has ended stays as it has ended; a failure is never said while money moved.
    async fn look(&mut self) {
        for id in &self.payments {
            let payment = self.world.payment(id).await;
            let context = format!("{} {payment:?}", self.name);
            let moved = self.world.fake.moved(Kind::Capture, id);
            assert!(moved.1 <= 4990, "{context}");
            assert!(
                self.world.fake.moved(Kind::Refund, id).1 <= moved.1,
                "{context}"
            );
            if matches!(
                payment.status,
                PaymentStatus::Failed | PaymentStatus::Declined | PaymentStatus::Voided
            ) {
                assert_eq!(moved, (0, 0), "{context}");
            }
            if let Some(before) = self.ended.get(id) {
                assert_eq!(*before, payment.status, "{context}");
            }
            let is_final = !payment.status.is_open()
                && !matches!(
                    payment.status,
                    PaymentStatus::Authorized | PaymentStatus::Parked
                );
            if is_final {
                self.ended.insert(id.clone(), payment.status);
            }
        }
        for (key, request, first) in &self.answers {
            let again = self.world.gateway.pay(key, request).await.unwrap();
            assert_eq!(&bytes(&again), first, "{}", self.name);
        }
    }

    async fn judge(&self) {
        for id in &self.payments {
            let payment = self.world.payment(id).await;
            let context = format!("{} {payment:?}", self.name);
            assert!(!payment.status.is_open(), "{context}");
            let parked = payment.status == PaymentStatus::Parked
                || payment.operations.iter().any(|operation| {
                    operation.status == cardless::message::OperationStatus::Parked
                });
            let open = payment
                .operations
                .iter()
                .any(|operation| operation.status.is_open());
            assert!(!open, "{context}");
            if !parked {
                assert_eq!(
                    payment.captured.minor(),
                    self.world.fake.moved(Kind::Capture, id).1,
                    "{context}"
                );
                assert_eq!(
                    payment.refunded.minor(),
                    self.world.fake.moved(Kind::Refund, id).1,
                    "{context}"
                );
            }
            if self.known(id) && !parked {
                let object = self.world.fake.object(id).1;
                let automatic = object.capture == CaptureMode::Automatic;
                let captures = self.world.fake.moved(Kind::Capture, id).0;
                assert!(!automatic || captures <= 1, "{context}");
                // Without its id a hold can be neither settled nor released: it lapses.
                let row = self.world.store.payment(id).await.unwrap().unwrap();
                let id_is_known = row.reservation.is_some();
                let held =
                    object.phase == Phase::Held && payment.status != PaymentStatus::Authorized;
                assert!(
                    !held || !id_is_known || payment.captured.minor() > 0,
                    "{context}"
                );
            }
        }
    }
}

fn note(answer: Result<Answer<Payment>, cardless::error::Error>) {
    if let Ok(answer) = answer {
        assert!(answer.body.captured.minor() <= answer.body.amount.minor());
    }
}
