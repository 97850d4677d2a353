//! The way of one customer at one provider, from the link to its end.

use std::fmt::Debug;
use std::time::Duration;

use cardless::client::ClientError;
use cardless::error::Code;
use cardless::message::{
    Amount, Answer, Capture, CaptureRequest, Initiator, LinkRequest, PayRequest, Payment,
    PaymentStatus, RefundRequest, SetupStatus, VoidRequest,
};

use super::books::Books;
use super::stage::Stage;
use crate::cli::{Failure, Outcome, say};

/// How often something that is open is looked at before the demo gives up.
const MAX_LOOKS: u32 = 80;

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(250);

/// Amounts in rappen.
const CHARGE: i64 = 4990;
const REFUND: i64 = 500;
const HOLD: i64 = 3000;
const CAPTURE: i64 = 2000;
const VOIDED: i64 = 1200;
const LOST: i64 = 1990;

/// A provider, and its call that takes the money.
#[derive(Debug, Clone, Copy)]
pub(super) struct Provider {
    /// As callers write it.
    pub(super) name: &'static str,
    /// The call whose answer gets lost.
    commit: &'static str,
}

/// All three.
pub(super) const PROVIDERS: [Provider; 3] = [
    Provider {
        name: "postfinance",
        commit: "POST /api/v2.0/payment/transactions/*/process-with-token",
    },
    Provider {
        name: "paypal",
        commit: "POST /v2/checkout/orders/*/capture",
    },
    Provider {
        name: "aduno",
        commit: "POST /v1/transactions/*/settle",
    },
];

/// Links, charges, captures, refunds, voids, rotates the keys, survives a lost reply, and revokes.
pub(super) async fn walk(stage: &Stage, provider: Provider, wanted: &mut Books) -> Outcome {
    let walk = Walk {
        stage,
        provider,
        account: format!("customer-at-{}", provider.name),
    };
    let method = walk.link().await?;
    let charged = walk.charge(wanted).await?;
    walk.refund(&charged, wanted).await?;
    walk.capture_a_part(wanted).await?;
    walk.void(wanted).await?;
    walk.rotate_keys().await?;
    walk.survive_a_lost_reply(wanted).await?;
    walk.revoke(&method).await
}

struct Walk<'a> {
    stage: &'a Stage,
    provider: Provider,
    account: String,
}

impl Walk<'_> {
    async fn link(&self) -> Result<String, Failure> {
        let request = LinkRequest {
            account: self.account.clone(),
            provider: self.provider.name.to_owned(),
            return_url: "http://127.0.0.1:9/thanks".to_owned(),
            language: None,
            amount: None,
            reference: None,
            capture: None,
        };
        let setup = self.stage.client().link(&self.key("link"), &request).await;
        let setup = setup.map_err(|error| self.failed("link", &error))?.body;
        let page = setup
            .redirect_url
            .ok_or_else(|| self.wrong("the setup has no page"))?;
        let back = self.stage.press(&page, "approve").await?;
        self.ensure(
            back.starts_with(&request.return_url),
            "the browser comes back",
            &back,
        )?;
        let setup = self.completed(&setup.id).await?;
        self.line(&format!(
            "linked {setup} by approving on the provider's page"
        ))?;
        Ok(setup)
    }

    /// The payment method of a setup, once it is completed.
    async fn completed(&self, id: &str) -> Result<String, Failure> {
        for _ in 0..MAX_LOOKS {
            let setup = self.stage.client().setup(id).await;
            let setup = setup.map_err(|error| self.failed("setup", &error))?;
            if let (SetupStatus::Completed, Some(method)) = (setup.status, setup.payment_method) {
                return Ok(method);
            }
            self.wait().await?;
        }
        Err(self.wrong("the setup was not completed"))
    }

    /// Everything is sealed under another key from here on, and the one before opens nothing.
    async fn rotate_keys(&self) -> Outcome {
        let (rotated, destroyed) = self.stage.rotate_keys().await?;
        self.ensure(rotated.unopened == 0, "everything opens", &rotated)?;
        self.ensure(
            destroyed.refused == 1,
            "the old key opens nothing",
            &destroyed,
        )?;
        self.line(&format!(
            "rotated the keys: {} records sealed anew, the old key destroyed",
            rotated.resealed
        ))
    }

    async fn charge(&self, wanted: &mut Books) -> Result<Payment, Failure> {
        let payment = self.pay("charge", CHARGE, Capture::Automatic).await?;
        let payment = self.settled(payment).await?;
        self.ensure(
            payment.status == PaymentStatus::Captured,
            "captured",
            &payment,
        )?;
        self.ensure(
            payment.captured.minor() == CHARGE,
            "captured in full",
            &payment,
        )?;
        wanted.add(self.provider.name, "capture", CHARGE);
        self.line(&format!(
            "charged {} with the customer away",
            payment.captured
        ))?;
        Ok(payment)
    }

    async fn refund(&self, payment: &Payment, wanted: &mut Books) -> Outcome {
        let request = RefundRequest {
            account: self.account.clone(),
            amount: Some(Amount::new("CHF", REFUND)),
        };
        let refund = self
            .stage
            .client()
            .refund(&self.key("refund"), &payment.id, &request)
            .await;
        refund.map_err(|error| self.failed("refund", &error))?;
        let payment = self
            .read_until(&payment.id, |now| now.refunded.minor() == REFUND)
            .await?;
        wanted.add(self.provider.name, "refund", REFUND);
        self.line(&format!("refunded {} of it", payment.refunded))
    }

    async fn capture_a_part(&self, wanted: &mut Books) -> Outcome {
        let held = self.hold("hold", HOLD).await?;
        let request = CaptureRequest {
            account: self.account.clone(),
            amount: Some(Amount::new("CHF", CAPTURE)),
            last: None,
        };
        let captured = self
            .stage
            .client()
            .capture(&self.key("capture"), &held.id, &request)
            .await;
        captured.map_err(|error| self.failed("capture", &error))?;
        let payment = self
            .read_until(&held.id, |now| now.captured.minor() == CAPTURE)
            .await?;
        wanted.add(self.provider.name, "capture", CAPTURE);
        self.line(&format!(
            "held {} and captured {} of it",
            payment.amount, payment.captured
        ))
    }

    async fn void(&self, wanted: &mut Books) -> Outcome {
        let held = self.hold("other-hold", VOIDED).await?;
        let request = VoidRequest {
            account: self.account.clone(),
        };
        let voided = self
            .stage
            .client()
            .void(&self.key("void"), &held.id, &request)
            .await;
        voided.map_err(|error| self.failed("void", &error))?;
        let is_voided = |now: &Payment| now.status == PaymentStatus::Voided;
        let payment = self.read_until(&held.id, is_voided).await?;
        wanted.add(self.provider.name, "void", VOIDED);
        self.line(&format!("held {} and released it", payment.amount))
    }

    /// The provider takes the money, and its answer never comes: at no time may that read as a
    /// failure, and the money may be taken once only.
    async fn survive_a_lost_reply(&self, wanted: &mut Books) -> Outcome {
        self.stage
            .lose_a_reply(self.provider.name, self.provider.commit)
            .await?;
        let first = self.pay("lost", LOST, Capture::Automatic).await?;
        let shown = first.body.status;
        self.ensure(
            matches!(shown, PaymentStatus::Unknown | PaymentStatus::Captured),
            "unknown, or already asked for",
            &shown,
        )?;
        let payment = self.settled(first).await?;
        self.ensure(
            payment.status == PaymentStatus::Captured,
            "captured",
            &payment,
        )?;
        let again = self.pay("lost", LOST, Capture::Automatic).await?;
        self.ensure(again.body.id == payment.id, "the same payment", &again.body)?;
        wanted.add(self.provider.name, "capture", LOST);
        let how = if shown == PaymentStatus::Unknown {
            "the payment read unknown until the provider was asked"
        } else {
            "the provider was asked at once"
        };
        self.line(&format!(
            "lost the answer to {}: {how}; taken once",
            payment.amount
        ))
    }

    async fn revoke(&self, method: &str) -> Outcome {
        let revoked = self.stage.client().revoke(method, &self.account).await;
        revoked.map_err(|error| self.failed("revoke", &error))?;
        match self.try_pay("after", CHARGE, Capture::Automatic).await {
            Err(ClientError::Problem(problem)) if problem.code == Code::NotFound.as_str() => {
                self.line("revoked the link; it can't be charged any more")
            }
            other => Err(self.wrong(&format!("charging a revoked link ended so: {other:?}"))),
        }
    }

    async fn hold(&self, reference: &str, minor: i64) -> Result<Payment, Failure> {
        let payment = self.pay(reference, minor, Capture::Manual).await?;
        let payment = self.settled(payment).await?;
        self.ensure(
            payment.status == PaymentStatus::Authorized,
            "authorized",
            &payment,
        )?;
        Ok(payment)
    }

    async fn pay(
        &self,
        reference: &str,
        minor: i64,
        capture: Capture,
    ) -> Result<Answer<Payment>, Failure> {
        let payment = self.try_pay(reference, minor, capture).await;
        payment.map_err(|error| self.failed(reference, &error))
    }

    async fn try_pay(
        &self,
        reference: &str,
        minor: i64,
        capture: Capture,
    ) -> Result<Answer<Payment>, ClientError> {
        let request = PayRequest {
            account: self.account.clone(),
            payment_method: None,
            amount: Amount::new("CHF", minor),
            reference: reference.to_owned(),
            capture,
            initiator: Initiator::Merchant,
            return_url: None,
            description: None,
        };
        self.stage
            .client()
            .pay(&self.key(reference), &request)
            .await
    }

    async fn settled(&self, payment: Answer<Payment>) -> Result<Payment, Failure> {
        if payment.open {
            return self
                .read_until(&payment.body.id, |now| !now.status.is_open())
                .await;
        }
        Ok(payment.body)
    }

    /// Reads a payment until it is as it should be, letting the service ask in between.
    async fn read_until(
        &self,
        id: &str,
        done: impl Fn(&Payment) -> bool,
    ) -> Result<Payment, Failure> {
        for _ in 0..MAX_LOOKS {
            let payment = self.stage.client().payment(id).await;
            let payment = payment.map_err(|error| self.failed("payment", &error))?;
            if done(&payment) {
                return Ok(payment);
            }
            self.wait().await?;
        }
        Err(self.wrong(&format!("the payment {id} did not get as far as it should")))
    }

    async fn wait(&self) -> Outcome {
        self.stage.reconcile().await?;
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }

    /// An `Idempotency-Key` for each thing that is asked for.
    fn key(&self, what: &str) -> String {
        format!("demo-{}-{what}", self.provider.name)
    }

    fn ensure<T: Debug>(&self, holds: bool, what: &str, found: &T) -> Outcome {
        if holds {
            return Ok(());
        }
        Err(self.wrong(&format!("expected: {what}; found: {found:?}")))
    }

    fn failed(&self, what: &str, error: &ClientError) -> Failure {
        self.wrong(&format!("{what}: {error}"))
    }

    fn wrong(&self, what: &str) -> Failure {
        Failure::Failed(format!("{}: {what}", self.provider.name))
    }

    fn line(&self, text: &str) -> Outcome {
        say(format_args!("  {text}"))
    }
}
