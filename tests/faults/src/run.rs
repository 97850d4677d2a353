//! Runs a schedule and lets the invariants judge it.

use std::collections::BTreeMap;
use std::time::Duration;

use cardless::gateway::{Gateway, RequestKey};
use cardless::message::{
    Amount, Answer, Capture, CaptureRequest, Initiator, LinkRequest, PayRequest, Payment,
    PaymentStatus, Refund, RefundRequest, Setup, VoidRequest,
};
use cardless_sandbox::{Deliver, Fault, WebhookRoute};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::judge::{self, Violation};
use crate::plan::{Call, Delivery, FAULTS, OPERATIONS, PROVIDERS, Step};
use crate::world::{ACCOUNT, Broken, World, provider_of};

/// How long a call may take in paused time before its process counts as dead or stuck.
const PATIENCE: Duration = Duration::from_secs(3600);

/// How often the clock is moved and everything looked at until nothing is open.
const MAX_ROUNDS: u32 = 120;

/// How far the clock moves between two looks at the end.
const ROUND: Duration = Duration::from_secs(400);

/// What a schedule came to.
#[derive(Debug)]
pub struct Outcome {
    /// What happened, a line a step; two runs of one schedule give the same lines.
    pub trace: Vec<String>,
    /// What must not have happened.
    pub violations: Vec<Violation>,
    /// How many calls were made.
    pub calls: u64,
}

/// A call that was made, so that it can be made again.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) key: String,
    pub(crate) request: Request,
    /// The first settled answer, as bytes.
    pub(crate) settled: Option<String>,
}

/// A call's request, with its objects picked.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    Link(LinkRequest),
    Pay(PayRequest),
    Capture(String, CaptureRequest),
    Void(String, VoidRequest),
    Refund(String, RefundRequest),
}

/// What a call answered.
#[derive(Debug)]
pub(crate) enum Reply {
    Setup(Box<Answer<Setup>>),
    Payment(Box<Answer<Payment>>),
    Refund(Answer<Refund>),
}

/// A schedule on its way.
pub(crate) struct Run {
    pub(crate) world: World,
    pub(crate) methods: Vec<String>,
    pub(crate) made: Vec<Made>,
    /// Every setup that a caller was told of, with its provider.
    setups: Vec<(String, String)>,
    /// Every payment that a caller was told of, with the last state it was told.
    pub(crate) payments: Vec<String>,
    pub(crate) told: BTreeMap<String, PaymentStatus>,
    pub(crate) violations: Vec<Violation>,
    trace: Vec<String>,
    calls: u64,
}

/// Runs a schedule on a runtime of its own, with one thread and paused time.
///
/// # Errors
///
/// A bug of the simulation itself.
pub fn run(seed: u64, steps: &[Step]) -> Result<Outcome, Broken> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    runtime.block_on(async {
        let world = World::new(seed)?;
        let methods = world.link_all().await?;
        let mut run = Run {
            world,
            methods,
            made: Vec::new(),
            setups: Vec::new(),
            payments: Vec::new(),
            told: BTreeMap::new(),
            violations: Vec::new(),
            trace: Vec::new(),
            calls: 0,
        };
        for step in steps {
            run.step(step).await?;
        }
        run.end().await?;
        Ok(Outcome {
            trace: run.trace,
            violations: run.violations,
            calls: run.calls,
        })
    })
}

impl Run {
    async fn step(&mut self, step: &Step) -> Result<(), Broken> {
        match step {
            Step::Call(process, call) => self.together(&[(*process, call.clone())]).await?,
            Step::Together(calls) => self.together(calls).await?,
            Step::Reconcile(process) => self.reconcile(*process).await?,
            Step::Fault {
                provider,
                operation,
                kind,
                times,
            } => {
                self.fault(*provider, *operation, *kind, *times)?;
            }
            Step::Advance(seconds) => {
                self.world.sandbox.advance(Duration::from_secs(*seconds));
                self.note(format!("{seconds} s pass"));
            }
            Step::Crash(process, boundaries) => {
                self.world.process(*process).switch.die_after(*boundaries);
                self.note(format!(
                    "process {process} dies after {boundaries} boundaries"
                ));
            }
            Step::FullDisk(process, writes) => {
                self.world.process(*process).switch.fail_writes(*writes);
                self.note(format!("{writes} writes of process {process} fail"));
            }
            Step::Webhooks(delivery) => self.webhooks(*delivery).await?,
            Step::Decide(payment, approve) => self.decide(*payment, *approve).await?,
        }
        self.bury_the_dead()
    }

    fn note(&mut self, line: String) {
        self.trace.push(line);
    }

    fn bury_the_dead(&mut self) -> Result<(), Broken> {
        for index in 0..2 {
            if self.world.process(index).switch.is_dead() {
                self.world.restart(index)?;
                self.note(format!("process {index} is started again"));
            }
        }
        Ok(())
    }

    async fn together(&mut self, calls: &[(usize, Call)]) -> Result<(), Broken> {
        let mut tasks = Vec::new();
        for (process, call) in calls {
            let Some(index) = self.prepare(call) else {
                continue;
            };
            let Some(made) = self.made.get(index).cloned() else {
                continue;
            };
            self.calls += 1;
            let gateway = self.world.process(*process).gateway.clone();
            let line = format!(
                "process {process}: {} {}",
                made.key,
                made.request.describe()
            );
            let task = tokio::spawn(perform(gateway, made));
            tasks.push((index, line, task));
        }
        for (index, line, task) in tasks {
            match tokio::time::timeout(PATIENCE, task).await {
                Err(_) => self.note(format!("{line}: no answer")),
                Ok(joined) => match joined? {
                    Ok(reply) => self.answered(index, &line, &reply),
                    Err(error) => self.note(format!("{line}: {}", error.code().as_str())),
                },
            }
        }
        Ok(())
    }

    /// Picks a call's objects; `None` if there are none to pick from.
    fn prepare(&mut self, call: &Call) -> Option<usize> {
        let pick = |wanted: usize, of: &[String]| of.get(wanted.checked_rem(of.len())?).cloned();
        let account = ACCOUNT.to_owned();
        let request = match call {
            Call::Again { call } => return call.checked_rem(self.made.len()),
            Call::Pay {
                method,
                minor,
                manual,
                customer,
                reference,
            } => Request::Pay(PayRequest {
                account,
                payment_method: pick(*method, &self.methods),
                amount: Amount::new("CHF", *minor),
                reference: format!("invoice-{reference}"),
                capture: if *manual {
                    Capture::Manual
                } else {
                    Capture::Automatic
                },
                initiator: if *customer {
                    Initiator::Customer
                } else {
                    Initiator::Merchant
                },
                return_url: customer.then(|| "https://shop.example/back".to_owned()),
                description: None,
            }),
            Call::Link {
                provider,
                minor,
                manual,
                reference,
            } => Request::Link(LinkRequest {
                account,
                provider: PROVIDERS
                    .get(*provider)
                    .copied()
                    .unwrap_or("paypal")
                    .to_owned(),
                return_url: "https://shop.example/back".to_owned(),
                language: None,
                amount: Some(Amount::new("CHF", *minor)),
                reference: Some(format!("invoice-{reference}")),
                capture: manual.then_some(Capture::Manual),
            }),
            Call::Capture {
                payment,
                percent,
                last,
            } => {
                let id = pick(*payment, &self.payments)?;
                let amount = Some(self.part(&id, *percent)?);
                Request::Capture(
                    id,
                    CaptureRequest {
                        account,
                        amount,
                        last: Some(*last),
                    },
                )
            }
            Call::Void { payment } => {
                Request::Void(pick(*payment, &self.payments)?, VoidRequest { account })
            }
            Call::Refund { payment, percent } => {
                let id = pick(*payment, &self.payments)?;
                let amount = Some(self.part(&id, *percent)?);
                Request::Refund(id, RefundRequest { account, amount })
            }
        };
        let key = format!("k{}", self.made.len());
        self.made.push(Made {
            key,
            request,
            settled: None,
        });
        Some(self.made.len() - 1)
    }

    /// A part of a payment's amount, as its first call asked for it.
    fn part(&self, payment: &str, percent: i64) -> Option<Amount> {
        let minor = self.amounts().get(payment).copied()?;
        Some(Amount::new("CHF", (minor * percent / 100).max(1)))
    }

    fn amounts(&self) -> BTreeMap<String, i64> {
        self.made
            .iter()
            .filter_map(|made| match (&made.request, &made.settled) {
                (Request::Pay(request), Some(answer)) => {
                    let payment: Payment = serde_json::from_str(answer).ok()?;
                    Some((payment.id, request.amount.minor))
                }
                _ => None,
            })
            .chain(self.payments.iter().map(|id| (id.clone(), 1000)))
            .fold(BTreeMap::new(), |mut map, (id, minor)| {
                map.entry(id).or_insert(minor);
                map
            })
    }

    fn answered(&mut self, index: usize, line: &str, reply: &Reply) {
        let (text, settled) = match reply {
            Reply::Setup(answer) => {
                let provider = answer.body.provider.as_str().to_owned();
                self.setups.push((answer.body.id.clone(), provider));
                if let Some(payment) = answer.body.payment.clone()
                    && !self.payments.contains(&payment)
                {
                    self.payments.push(payment);
                }
                // A setup's repeat shows how it stands now.
                (String::new(), false)
            }
            Reply::Payment(answer) => {
                let id = answer.body.id.clone();
                if !self.payments.contains(&id) {
                    self.payments.push(id);
                }
                let text = serde_json::to_string(&answer.body).unwrap_or_default();
                (
                    text,
                    !answer.open && answer.body.status != PaymentStatus::Parked,
                )
            }
            Reply::Refund(answer) => (
                serde_json::to_string(&answer.body).unwrap_or_default(),
                !answer.open,
            ),
        };
        self.note(format!("{line}: {}", reply.describe()));
        let Some(made) = self.made.get_mut(index) else {
            return;
        };
        match &made.settled {
            Some(first) if *first != text => {
                let found = format!("{}: first {first}, then {text}", made.key);
                self.violations
                    .push(Violation::new("same key, same answer byte for byte", found));
            }
            Some(_) => {}
            None if settled => made.settled = Some(text),
            None => {}
        }
    }

    async fn reconcile(&mut self, process: usize) -> Result<(), Broken> {
        let gateway = self.world.process(process).gateway.clone();
        let task = tokio::spawn(async move { gateway.reconcile().await });
        match tokio::time::timeout(PATIENCE, task).await {
            Err(_) => self.note(format!("process {process}: reconcile does not end")),
            Ok(joined) => match joined? {
                Ok(report) => self.note(format!("process {process}: reconcile {report:?}")),
                Err(error) => {
                    self.note(format!(
                        "process {process}: reconcile {}",
                        error.code().as_str()
                    ));
                }
            },
        }
        Ok(())
    }

    fn fault(
        &mut self,
        provider: usize,
        operation: usize,
        kind: usize,
        times: u32,
    ) -> Result<(), Broken> {
        let name = PROVIDERS.get(provider).copied().unwrap_or("paypal");
        let operations = OPERATIONS.get(provider).ok_or("no such provider")?;
        let operation = operations.get(operation).copied().unwrap_or("GET /");
        let kind = FAULTS.get(kind).copied().unwrap_or("drop_before");
        let fault: Fault = serde_json::from_value(serde_json::json!({
            "provider": name, "operation": operation, "times": times, "fault": kind,
        }))?;
        self.world.sandbox.inject(fault)?;
        self.note(format!("{kind} × {times} for {operation} at {name}"));
        Ok(())
    }

    async fn webhooks(&mut self, delivery: Delivery) -> Result<(), Broken> {
        let mut waiting = Vec::new();
        for provider in PROVIDERS {
            let route = WebhookRoute {
                provider: provider_of(provider),
                url: Some(format!("http://127.0.0.1:8080/webhooks/{provider}")),
                deliver: Deliver::Now,
            };
            self.world.sandbox.route_webhooks(&route);
        }
        waiting.extend(self.world.sandbox.take_webhooks());
        match delivery {
            Delivery::InOrder => {}
            Delivery::Twice => {
                waiting = waiting
                    .iter()
                    .flat_map(|one| [one.clone(), one.clone()])
                    .collect()
            }
            Delivery::Reversed => waiting.reverse(),
            Delivery::Lost => waiting.clear(),
        }
        self.note(format!("{} webhooks, {delivery:?}", waiting.len()));
        for webhook in waiting {
            let Some((_, provider)) = webhook.url.rsplit_once('/') else {
                continue;
            };
            let mut headers = HeaderMap::new();
            for (name, value) in &webhook.headers {
                headers.append(
                    HeaderName::from_bytes(name.as_bytes())?,
                    HeaderValue::from_str(value)?,
                );
            }
            let gateway = self.world.process(0).gateway.clone();
            let provider = provider.to_owned();
            let task = tokio::spawn(async move {
                gateway
                    .notification(&provider, &headers, &webhook.body)
                    .await
            });
            if let Ok(joined) = tokio::time::timeout(PATIENCE, task).await
                && let Err(error) = joined?
            {
                self.note(format!("webhook: {}", error.code().as_str()));
            }
        }
        Ok(())
    }

    async fn decide(&mut self, which: usize, approve: bool) -> Result<(), Broken> {
        let mut pages = Vec::new();
        for (setup, provider) in self.setups.clone() {
            let gateway = self.world.process(1).gateway.clone();
            let task = tokio::spawn(async move { gateway.setup(&setup).await });
            if let Some(found) = in_time(task).await? {
                pages.extend(found.redirect_url.map(|page| (provider, page)));
            }
        }
        for payment in self.payments.clone() {
            let gateway = self.world.process(1).gateway.clone();
            let task = tokio::spawn(async move { gateway.payment(&payment).await });
            if let Some(found) = in_time(task).await? {
                let provider = found.provider.as_str().to_owned();
                pages.extend(found.redirect_url.map(|page| (provider, page)));
            }
        }
        let picked = which
            .checked_rem(pages.len())
            .and_then(|index| pages.get(index));
        let Some((provider, page)) = picked else {
            return Ok(());
        };
        self.note(format!("a customer at {provider} decides: {approve}"));
        if let Some(state) = self.world.decide(provider, page, approve).await? {
            let gateway = self.world.process(1).gateway.clone();
            let task = tokio::spawn(async move { gateway.returned(&state).await });
            in_time(task).await?;
        }
        Ok(())
    }

    /// Faults off: everything must end, and the books must be the ledger.
    async fn end(&mut self) -> Result<(), Broken> {
        for index in 0..2 {
            self.world.restart(index)?;
        }
        self.world.sandbox.clear_faults();
        let mut open = None;
        for _ in 0..MAX_ROUNDS {
            self.world.sandbox.advance(ROUND);
            let report = self.world.process(0).gateway.reconcile().await?;
            judge::watch(self).await?;
            // What a look has concluded may have opened something else: a last look finds nothing.
            open = (report.looked_at > report.parked).then_some(report);
            if open.is_none() {
                break;
            }
        }
        if let Some(report) = open {
            let found = format!("{report:?}");
            self.violations
                .push(Violation::new("with faults off all ends", found));
        }
        judge::judge(self).await
    }
}

/// What a task answers, unless its process dies or it fails.
async fn in_time<T>(
    task: tokio::task::JoinHandle<Result<T, cardless::error::Error>>,
) -> Result<Option<T>, Broken> {
    match tokio::time::timeout(PATIENCE, task).await {
        Err(_) => Ok(None),
        Ok(joined) => Ok(joined?.ok()),
    }
}

pub(crate) async fn perform(gateway: Gateway, made: Made) -> Result<Reply, cardless::error::Error> {
    let key = RequestKey::new("caller", made.key)?;
    match &made.request {
        Request::Link(request) => {
            let answer = gateway.link(&key, request).await?;
            Ok(Reply::Setup(Box::new(answer)))
        }
        Request::Pay(request) => gateway.pay(&key, request).await.map(paid),
        Request::Capture(id, request) => gateway.capture(&key, id, request).await.map(paid),
        Request::Void(id, request) => gateway.void(&key, id, request).await.map(paid),
        Request::Refund(id, request) => gateway.refund(&key, id, request).await.map(Reply::Refund),
    }
}

fn paid(answer: Answer<Payment>) -> Reply {
    Reply::Payment(Box::new(answer))
}

impl Request {
    fn describe(&self) -> String {
        match self {
            Self::Link(request) => format!(
                "links at {} and pays {:?}, {:?}",
                request.provider,
                request.amount.as_ref().map(|amount| amount.minor),
                request.reference
            ),
            Self::Pay(request) => format!(
                "pays {} {:?} by {:?}, {:?}, {}",
                request.amount.minor,
                request.capture,
                request.initiator,
                request.payment_method.as_deref().unwrap_or("default"),
                request.reference
            ),
            Self::Capture(id, request) => {
                format!(
                    "captures {:?} of {id}",
                    request.amount.as_ref().map(|amount| amount.minor)
                )
            }
            Self::Void(id, _) => format!("voids {id}"),
            Self::Refund(id, request) => {
                format!(
                    "refunds {:?} of {id}",
                    request.amount.as_ref().map(|amount| amount.minor)
                )
            }
        }
    }
}

impl Reply {
    fn describe(&self) -> String {
        match self {
            Self::Setup(answer) => {
                format!("{} is {:?}", answer.body.id, answer.body.status)
            }
            Self::Payment(answer) => format!(
                "{} is {:?}, captured {}, refunded {}, {:?}",
                answer.body.id,
                answer.body.status,
                answer.body.captured.minor(),
                answer.body.refunded.minor(),
                answer
                    .body
                    .operations
                    .iter()
                    .map(|one| one.status)
                    .collect::<Vec<_>>()
            ),
            Self::Refund(answer) => format!("{} is {:?}", answer.body.id, answer.body.status),
        }
    }
}
