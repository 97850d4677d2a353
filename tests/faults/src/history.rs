//! Histories with six webhooks each: at PayPal and PostFinance a hold, two captures and refunds; at
//! Aduno, which tells of customers' visits only, six visits.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cardless::error::{Code, Error};
use cardless::gateway::{Gateway, RequestKey};
use cardless::message::{
    Amount, Answer, Capture, CaptureRequest, Initiator, LinkRequest, PayRequest, Payment,
    PaymentStatus, Refund, RefundRequest,
};
use cardless_sandbox::{Fault, OutgoingWebhook, Provider};
use serde_json::Value;

use crate::ended::Made;
use crate::plan::Decision;
use crate::random::Random;
use crate::world::{ACCOUNTS, Broken, World};

/// The account that everything belongs to.
const ACCOUNT: &str = ACCOUNTS[0];

/// How long a caller waits before it asks again, in paused time.
const PAUSE: Duration = Duration::from_secs(2);

/// How often a caller asks again.
const MAX_ASKS: u32 = 400;

/// One in so many answers of a movement is lost.
const LOST_ONE_IN: u64 = 4;

/// What is held at first.
const HELD: i64 = 5000;

/// A script of calls, and what its webhooks are about.
pub(crate) struct History {
    provider: Provider,
    method: String,
    name: String,
    /// Whose draw decides which answers are lost; without it, none is.
    luck: Mutex<Option<Random>>,
    /// How many answers of each movement are to be lost.
    to_lose: Mutex<BTreeMap<Movement, u64>>,
    /// Objects that webhooks were about so far, to tell them apart.
    known: Mutex<Vec<String>>,
}

/// What a call moves, or sets aside to be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are the meaning")]
pub enum Movement {
    Pay,
    Capture,
    Refund,
}

/// A call that moves money, or makes an object.
enum Call<'a> {
    Pay(PayRequest),
    Capture(&'a str, i64, bool),
    Refund(&'a str, i64),
}

impl History {
    pub(crate) fn new(
        provider: Provider,
        methods: &[(usize, String)],
        name: &str,
        luck: Option<u64>,
    ) -> Result<Self, Broken> {
        let index = crate::plan::PROVIDERS
            .iter()
            .position(|one| *one == provider.name())
            .ok_or("no such provider")?;
        Ok(Self {
            provider,
            method: methods.get(index).ok_or("no method")?.1.clone(),
            name: name.to_owned(),
            luck: Mutex::new(luck.map(Random::new)),
            to_lose: Mutex::default(),
            known: Mutex::default(),
        })
    }

    pub(crate) const fn provider(&self) -> Provider {
        self.provider
    }

    /// Makes the calls, one after the other, each by both processes at once under one key.
    pub(crate) async fn run(&self, world: &World) -> Result<Made, Broken> {
        let mut made = Made::default();
        if self.provider == Provider::Aduno {
            self.visits(world, &mut made).await?;
        } else {
            self.charge(world, &mut made).await?;
        }
        Ok(made)
    }

    /// Which of the six a webhook is.
    pub(crate) fn slot(&self, webhook: &OutgoingWebhook) -> Option<usize> {
        let body: Value = serde_json::from_slice(&webhook.body).ok()?;
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str);
        match self.provider {
            Provider::PayPal => match (text("/event_type")?, text("/resource/amount/value")) {
                ("PAYMENT.AUTHORIZATION.CREATED", _) => Some(0),
                ("PAYMENT.CAPTURE.COMPLETED", Some("30.00")) => Some(1),
                ("PAYMENT.CAPTURE.COMPLETED", Some("20.00")) => Some(2),
                ("PAYMENT.CAPTURE.REFUNDED", Some("10.00")) => Some(3),
                ("PAYMENT.CAPTURE.REFUNDED", Some("5.00")) => Some(4),
                ("PAYMENT.CAPTURE.REFUNDED", Some("15.00")) => Some(5),
                _ => None,
            },
            Provider::PostFinance => {
                let entity = body.get("entityId")?.to_string();
                match (text("/listenerEntityTechnicalName")?, text("/state")?) {
                    ("Transaction", "AUTHORIZED") => Some(0),
                    ("Transaction", "FULFILL") => Some(1),
                    ("TransactionCompletion", "SUCCESSFUL") => self.nth("completion", &entity, 2),
                    ("Refund", "SUCCESSFUL") => self.nth("refund", &entity, 4),
                    _ => None,
                }
            }
            Provider::Aduno => self.nth("", text("/transactionId")?, 0),
        }
    }

    /// The place of an object among those of its kind, counted from `first`.
    fn nth(&self, kind: &str, id: &str, first: usize) -> Option<usize> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("{kind} {id}");
        if !known.contains(&name) {
            known.push(name.clone());
        }
        let mut of_kind = known.iter().filter(|name| name.starts_with(kind));
        of_kind
            .position(|one| *one == name)
            .map(|place| first + place)
    }

    /// A hold, two captures, and at PayPal three refunds, at PostFinance two.
    async fn charge(&self, world: &World, made: &mut Made) -> Result<(), Broken> {
        let request = PayRequest {
            account: ACCOUNT.to_owned(),
            payment_method: Some(self.method.clone()),
            amount: Amount::new("CHF", HELD),
            reference: self.name.clone(),
            capture: Capture::Manual,
            initiator: Initiator::Merchant,
            return_url: None,
            description: None,
        };
        let id = self.payment(world, made, "pay", Call::Pay(request)).await?;
        for (key, minor, last) in [("first", 3000, false), ("rest", 2000, true)] {
            self.twice(world, made, key, || Call::Capture(&id, minor, last))
                .await?;
        }
        for (key, minor) in [("r1", 1000), ("r2", 500), ("r3", 1500)] {
            self.twice(world, made, key, || Call::Refund(&id, minor))
                .await?;
        }
        Ok(())
    }

    /// What no history does.
    #[cfg(test)]
    pub(crate) async fn refund_once_more(&self, world: &World, made: &Made) -> Result<(), Broken> {
        let id = made.payments.first().ok_or("no payment")?;
        let gateway = world.process(0).gateway.clone();
        told(
            world,
            gateway,
            format!("{}-r4", self.name),
            Call::Refund(id, 1),
        )
        .await?;
        Ok(())
    }

    /// Six customers' visits: two links, three first payments, one payment.
    async fn visits(&self, world: &World, made: &mut Made) -> Result<(), Broken> {
        let link = |number: u32, amount: Option<(i64, Capture)>| LinkRequest {
            account: ACCOUNT.to_owned(),
            provider: self.provider.name().to_owned(),
            return_url: "https://shop.example/back".to_owned(),
            language: None,
            amount: amount.map(|(minor, _)| Amount::new("CHF", minor)),
            reference: amount.map(|_| format!("{}-{number}", self.name)),
            capture: amount.map(|(_, capture)| capture),
        };
        let automatic = Some((2500, Capture::Automatic));
        self.visit(world, made, "a", link(0, None), true).await?;
        self.visit(world, made, "b", link(1, None), false).await?;
        let taken = self
            .visit(world, made, "c", link(2, automatic), true)
            .await?;
        let manual = Some((HELD, Capture::Manual));
        let held = self.visit(world, made, "d", link(3, manual), true).await?;
        self.visit(world, made, "e", link(4, automatic), false)
            .await?;
        let taken = taken.ok_or("no first payment")?;
        self.until(world, &taken, PaymentStatus::Captured).await?;
        self.twice(world, made, "r1", || Call::Refund(&taken, 700))
            .await?;
        let held = held.ok_or("no first payment")?;
        self.until(world, &held, PaymentStatus::Authorized).await?;
        self.twice(world, made, "first", || Call::Capture(&held, 3000, true))
            .await?;
        self.visit(world, made, "f", link(5, automatic), true)
            .await?;
        Ok(())
    }

    /// One visit: the customer decides, and comes back or does not.
    async fn visit(
        &self,
        world: &World,
        made: &mut Made,
        key: &str,
        request: LinkRequest,
        approves: bool,
    ) -> Result<Option<String>, Broken> {
        let key = format!("{}-{key}", self.name);
        let gateway = &world.process(0).gateway;
        let setup = gateway
            .link(&RequestKey::new("caller", key)?, &request)
            .await?
            .body;
        made.setups.push(setup.id.clone());
        made.payments.extend(setup.payment.clone());
        let page = setup.redirect_url.ok_or("no page")?;
        let decision = if approves {
            Decision::Approve
        } else {
            Decision::Decline
        };
        let back = world.decide(self.provider.name(), &page, decision).await?;
        let comes_back = self.draw(2) == 0;
        if let Some(back) = back.filter(|_| comes_back) {
            let gateway = world.process(1).gateway.clone();
            tokio::spawn(async move { gateway.returned(&back).await }).await??;
        }
        Ok(setup.payment)
    }

    /// A call that makes a payment; gives its id.
    async fn payment(
        &self,
        world: &World,
        made: &mut Made,
        key: &str,
        call: Call<'_>,
    ) -> Result<String, Broken> {
        let Call::Pay(request) = &call else {
            return Err("no payment".into());
        };
        self.twice(world, made, key, || Call::Pay(request.clone()))
            .await?;
        let answer = made.answers.last().map(|[answer, _]| answer.clone());
        let payment: Payment = serde_json::from_str(&answer.unwrap_or_default())?;
        made.payments.push(payment.id.clone());
        Ok(payment.id)
    }

    /// Makes one call by both processes at once, under one key, until both have been told.
    async fn twice<'a>(
        &self,
        world: &World,
        made: &mut Made,
        key: &str,
        call: impl Fn() -> Call<'a>,
    ) -> Result<(), Broken> {
        let key = format!("{}-{key}", self.name);
        if self.draw(LOST_ONE_IN) == 1 {
            self.lose(world, call().movement())?;
        }
        let [one, other] = [0, 1].map(|process| {
            let gateway = world.process(process).gateway.clone();
            told(world, gateway, key.clone(), call())
        });
        let (one, other) = tokio::try_join!(one, other)?;
        made.answers.push([one, other]);
        Ok(())
    }

    /// Has the provider carry the next such call out and lose its answer.
    pub(crate) fn lose(&self, world: &World, movement: Movement) -> Result<(), Broken> {
        let operation = movement
            .request(self.provider)
            .ok_or("no history of this provider makes such a call")?;
        let fault: Fault = serde_json::from_value(serde_json::json!({
            "provider": self.provider.name(), "operation": operation, "times": 1,
            "fault": "execute_then_drop",
        }))?;
        world.sandbox.inject(fault)?;
        *self.to_lose().entry(movement).or_default() += 1;
        Ok(())
    }

    /// How many answers of each movement were lost.
    ///
    /// # Errors
    ///
    /// One was to be lost and was not: the history is not what it says.
    pub(crate) fn lost(&self, world: &World) -> Result<BTreeMap<Movement, u64>, Broken> {
        let waiting = world.sandbox.waiting_faults();
        if waiting.is_empty() {
            return Ok(self.to_lose().clone());
        }
        Err(format!("answers that were to be lost and were not: {waiting:?}").into())
    }

    fn to_lose(&self) -> MutexGuard<'_, BTreeMap<Movement, u64>> {
        self.to_lose.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn until(&self, world: &World, id: &str, status: PaymentStatus) -> Result<(), Broken> {
        for _ in 0..MAX_ASKS {
            if world.process(0).gateway.payment(id).await?.status == status {
                return Ok(());
            }
            wait(world).await;
        }
        Err(format!("{id} does not become {status:?}").into())
    }

    /// A number below `bound`; zero where nothing is left to luck.
    fn draw(&self, bound: u64) -> u64 {
        let mut luck = self.luck.lock().unwrap_or_else(PoisonError::into_inner);
        luck.as_mut().map_or(0, |random| random.below(bound))
    }
}

impl Movement {
    pub(crate) const ALL: [Self; 3] = [Self::Pay, Self::Capture, Self::Refund];

    /// The request by which a provider carries it out, in full: a place in the plan's table is another
    /// one's as soon as something is put in front of it. None if no history of the provider has it, as
    /// at Aduno, where customers pay at its page.
    pub(crate) const fn request(self, provider: Provider) -> Option<&'static str> {
        Some(match (provider, self) {
            (Provider::PostFinance, Self::Pay) => {
                "POST /api/v2.0/payment/transactions/*/process-with-token"
            }
            (Provider::PostFinance, Self::Capture) => {
                "POST /api/v2.0/payment/transactions/*/complete-partially-online"
            }
            (Provider::PostFinance, Self::Refund) => "POST /api/v2.0/payment/refunds",
            (Provider::PayPal, Self::Pay) => "POST /v2/checkout/orders/*",
            (Provider::PayPal, Self::Capture) => "POST /v2/payments/authorizations/*/capture",
            (Provider::PayPal, Self::Refund) => "POST /v2/payments/captures/*/refund",
            (Provider::Aduno, Self::Pay) => return None,
            (Provider::Aduno, Self::Capture) => "POST /v1/transactions/*/settle",
            (Provider::Aduno, Self::Refund) => "POST /v1/transactions/*/credit",
        })
    }
}

impl Call<'_> {
    const fn movement(&self) -> Movement {
        match self {
            Self::Pay(_) => Movement::Pay,
            Self::Capture(..) => Movement::Capture,
            Self::Refund(..) => Movement::Refund,
        }
    }
}

/// Makes a call again and again until its answer is settled, and gives that as text.
async fn told(
    world: &World,
    gateway: Gateway,
    key: String,
    call: Call<'_>,
) -> Result<String, Broken> {
    for _ in 0..MAX_ASKS {
        match made(&gateway, &key, &call).await {
            Ok((answer, false)) => return Ok(answer),
            Ok((_, true)) => {}
            Err(error) if error.code() == Code::InProgress => {}
            Err(error) => return Err(error.into()),
        }
        wait(world).await;
    }
    Err(format!("{key} is never settled").into())
}

/// The answer to a call as text, and whether it is open.
async fn made(gateway: &Gateway, key: &str, call: &Call<'_>) -> Result<(String, bool), Error> {
    let key = RequestKey::new("caller", key)?;
    let account = ACCOUNT.to_owned();
    match call {
        Call::Pay(request) => gateway.pay(&key, request).await.map(payment_text),
        Call::Capture(id, minor, last) => {
            let request = CaptureRequest {
                account,
                amount: Some(Amount::new("CHF", *minor)),
                last: Some(*last),
            };
            let answer = gateway.capture(&key, id, &request).await;
            answer.map(payment_text)
        }
        Call::Refund(id, minor) => {
            let amount = Some(Amount::new("CHF", *minor));
            let request = RefundRequest { account, amount };
            gateway.refund(&key, id, &request).await.map(refund_text)
        }
    }
}

fn payment_text(answer: Answer<Payment>) -> (String, bool) {
    let text = serde_json::to_string(&answer.body).unwrap_or_default();
    (text, answer.open)
}

fn refund_text(answer: Answer<Refund>) -> (String, bool) {
    let text = serde_json::to_string(&answer.body).unwrap_or_default();
    (text, answer.open)
}

/// A moment passes for everybody.
async fn wait(world: &World) {
    tokio::time::sleep(PAUSE).await;
    world.sandbox.tick();
}
