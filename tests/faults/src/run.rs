//! Runs a schedule and lets the invariants judge it.

use std::time::Duration;

use cardless::error::Error;
use cardless_sandbox::{Fault, OutgoingWebhook};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::task::JoinHandle;

use crate::call::{Known, Made, Reply, Request, perform};
use crate::figures::Figures;
use crate::invariant::Violation;
use crate::judge::{self, Evidence};
use crate::output::Output;
use crate::plan::{AWAY, Call, Decision, Delivery, FAR, FAULTS, OPERATIONS, PROVIDERS, Seen, Step};
use crate::traits::Traits;
use crate::world::{Broken, World, provider_of};

/// How long a call may take in paused time before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(4 * 3600);

/// How long a key is kept at least; after that its call may be a new one (`API`: 400 days, by a clock
/// that may be ahead).
pub(crate) const KEYS_ARE_KEPT: Duration = Duration::from_secs(400 * 24 * 3600 - FAR.as_secs());

/// How long resolvers are at work before and after they see that the clock is set.
const SEEN_AFTER: Duration = Duration::from_secs(3);

/// What a schedule came to.
#[derive(Debug)]
pub struct Outcome {
    /// What happened, a line a step; two runs of one schedule give the same lines.
    pub trace: Vec<String>,
    /// What must not have happened.
    pub violations: Vec<Violation>,
    /// What was judged.
    pub evidence: Evidence,
    /// How much of it there was.
    pub figures: Figures,
}

/// How the webhooks come that were withheld until the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the meaning")]
pub enum Arrival {
    /// As the schedule says, and what is left when everything has ended.
    AsPlanned,
    InOrder,
    Reversed,
    TwiceEach,
    /// The later half first, each part from both ends.
    Shuffled,
    Never,
}

/// A schedule on its way.
pub(crate) struct Run {
    pub(crate) world: World,
    /// Every method that a caller was told of, with its account.
    pub(crate) methods: Vec<(usize, String)>,
    pub(crate) made: Vec<Made>,
    /// Every setup that a caller was told of, with its account.
    pub(crate) setups: Vec<(String, usize)>,
    /// Every payment that a caller was told of.
    pub(crate) payments: Vec<Known>,
    /// Every page that a customer was sent to, with its provider.
    pub(crate) pages: Vec<(String, String)>,
    /// Every way back that a browser was sent.
    returns: Vec<String>,
    pub(crate) waiting: Vec<OutgoingWebhook>,
    pub(crate) lost: Vec<OutgoingWebhook>,
    pub(crate) found: judge::Found,
    pub(crate) violations: Vec<Violation>,
    pub(crate) figures: Figures,
    /// How many of the next starts of each process die, and after how many boundaries.
    dies_at_start: [(u32, u32); 2],
    trace: Vec<String>,
}

/// Runs a schedule on a runtime of its own, with one thread and paused time.
///
/// # Errors
///
/// A bug of the simulation itself.
pub fn run(seed: u64, steps: &[Step]) -> Result<Outcome, Broken> {
    run_arriving(seed, steps, Arrival::AsPlanned)
}

/// The same, with its webhooks in another order: they are withheld until the schedule is over.
///
/// # Errors
///
/// A bug of the simulation itself.
pub fn run_arriving(seed: u64, steps: &[Step], order: Arrival) -> Result<Outcome, Broken> {
    let output = Output::default();
    let _listening = tracing::subscriber::set_default(output.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    runtime.block_on(async {
        let traits = Traits::of(seed);
        let world = World::with(seed, output, &traits)?;
        for process in &world.processes {
            process.gateway.look_at_clock().await?;
        }
        let methods = world.link_all().await?;
        let mut run = Run::new(world, methods);
        run.note(traits.show());
        for step in steps {
            if order != Arrival::AsPlanned && matches!(step, Step::Webhooks(..)) {
                continue;
            }
            run.step(step).await?;
        }
        run.end(order).await?;
        let evidence = judge::gather(&mut run).await?;
        let mut violations = std::mem::take(&mut run.violations);
        violations.extend(judge::judge(&evidence, &mut run.figures));
        run.figures.count(&run.world, &evidence);
        Ok(Outcome {
            trace: run.trace,
            violations,
            evidence,
            figures: run.figures,
        })
    })
}

impl Run {
    fn new(world: World, methods: Vec<(usize, String)>) -> Self {
        Self {
            world,
            methods,
            made: Vec::new(),
            setups: Vec::new(),
            payments: Vec::new(),
            pages: Vec::new(),
            returns: Vec::new(),
            waiting: Vec::new(),
            lost: Vec::new(),
            found: judge::Found::default(),
            violations: Vec::new(),
            figures: Figures::default(),
            dies_at_start: [(0, 0); 2],
            trace: Vec::new(),
        }
    }

    async fn step(&mut self, step: &Step) -> Result<(), Broken> {
        match step {
            Step::Call(process, call) => self.together(&[(*process, call.clone())]).await?,
            Step::Together(calls) => self.together(calls).await?,
            Step::Reconcile(process) => self.reconcile(*process).await?,
            Step::Work(process, seconds) => {
                self.work(*process, Duration::from_secs(*seconds)).await?;
            }
            Step::Fault {
                provider,
                operation,
                kind,
                times,
            } => self.fault(*provider, *operation, *kind, *times)?,
            Step::Late {
                provider,
                operation,
                seconds,
            } => self.late(*provider, *operation, *seconds)?,
            Step::Advance(seconds) => {
                self.note(format!("{seconds} s pass"));
                self.all_look().await?;
                self.advance(Duration::from_secs(*seconds)).await;
            }
            Step::Skew(process, seconds) => {
                self.world.process(*process).clock.set_off(*seconds);
                self.figures.clock_steps += 1;
                self.note(format!(
                    "the clock of process {process} is off by {seconds} s"
                ));
            }
            Step::SetClock { seconds, seen } => self.set_clock(*seconds, *seen).await?,
            Step::Crash(process, boundaries, again) => {
                self.world.process(*process).switch.die_after(*boundaries);
                if let Some(dies) = self.dies_at_start.get_mut(*process) {
                    *dies = (*again, *boundaries % 7);
                }
                self.note(format!(
                    "process {process} dies after {boundaries} boundaries, and {again} times when it is started"
                ));
            }
            Step::Pause(process, boundaries, seconds) => {
                let time = Duration::from_secs(*seconds);
                self.world.process(*process).switch.pause(*boundaries, time);
                self.note(format!(
                    "process {process} stands still for {seconds} s after {boundaries} boundaries of the store"
                ));
            }
            Step::FailWrites(process, writes) => {
                self.world.process(*process).switch.fail_writes(*writes);
                self.note(format!("{writes} writes of process {process} fail"));
            }
            Step::FailReads(process, reads) => {
                self.world.process(*process).switch.fail_reads(*reads);
                self.note(format!("{reads} reads of process {process} fail"));
            }
            Step::Webhooks(process, delivery) => self.webhooks(*process, *delivery).await?,
            Step::Decide(which, decision) => self.decide(*which, *decision).await?,
            Step::Return(which) => self.come_back_again(*which).await?,
            Step::Resolve(which, hours) => self.resolve(*which, *hours).await?,
        }
        self.bury_the_dead().await
    }

    /// Somebody sets the machine's clock. Both processes see it; or both are gone, for as long as a
    /// machine takes to start, and those in their place look at it before they do anything else, as
    /// `serve` does.
    pub(crate) async fn set_clock(&mut self, seconds: i64, seen: Seen) -> Result<(), Broken> {
        self.figures.clock_steps += 1;
        self.note(format!(
            "the machine's clock is off by {seconds} s, seen: {seen:?}"
        ));
        let machine = self.world.machine.clone();
        match seen {
            Seen::AtWork => {
                let set = tokio::spawn(async move {
                    tokio::time::sleep(SEEN_AFTER).await;
                    machine.set_off(seconds);
                });
                self.work_together(SEEN_AFTER * 2).await?;
                return Ok(set.await?);
            }
            Seen::Later => {
                machine.set_off(seconds);
                return Ok(());
            }
            Seen::Never => {}
        }
        // What was shown last is known to within a minute.
        for index in 0..2 {
            self.world.restart(index).await?;
            self.work(index, SEEN_AFTER).await?;
        }
        for index in 0..2 {
            self.world.process(index).switch.die();
        }
        self.advance(AWAY).await;
        machine.set_off(seconds);
        for index in 0..2 {
            self.world.restart(index).await?;
        }
        Ok(())
    }

    pub(crate) fn note(&mut self, line: String) {
        self.trace.push(line);
    }

    /// Time passes for everybody, and the sandbox concludes what falls due.
    pub(crate) async fn advance(&self, time: Duration) {
        tokio::time::sleep(time).await;
        self.world.sandbox.tick();
    }

    /// Both processes look at the clock, as a real one does each second: before time passes.
    pub(crate) async fn all_look(&self) -> Result<(), Broken> {
        for index in 0..2 {
            let gateway = self.world.process(index).gateway.clone();
            let task = tokio::spawn(async move { gateway.look_at_clock().await });
            self.answer(index, task).await?;
        }
        Ok(())
    }

    /// Starts anew what has died. What is started may die at its first look.
    async fn bury_the_dead(&mut self) -> Result<(), Broken> {
        for index in 0..2 {
            while self.world.process(index).switch.is_dead() {
                self.world.restart(index).await?;
                self.figures.crashes += 1;
                self.note(format!("process {index} is started again"));
                let Some((again, boundaries)) = self.dies_at_start.get_mut(index) else {
                    continue;
                };
                if *again > 0 {
                    *again -= 1;
                    let boundaries = *boundaries;
                    self.world.process(index).switch.die_after(boundaries);
                    self.reconcile(index).await?;
                    self.world.process(index).switch.die();
                }
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
            self.figures.calls += 1;
            let gateway = self.world.process(*process).gateway.clone();
            let line = format!(
                "process {process}: {} {}",
                made.key,
                made.request.describe()
            );
            let task = tokio::spawn(perform(gateway, made));
            tasks.push((*process, index, line, task));
        }
        for (process, index, line, task) in tasks {
            match self.answer(process, task).await? {
                None => self.note(format!("{line}: no answer")),
                Some(Ok(reply)) => self.answered(index, &line, reply),
                Some(Err(error)) => self.note(format!("{line}: {}", error.code().as_str())),
            }
        }
        Ok(())
    }

    /// What a process's task answers, unless the process dies or is stuck.
    pub(crate) async fn answer<T>(
        &self,
        process: usize,
        task: JoinHandle<Result<T, Error>>,
    ) -> Result<Option<Result<T, Error>>, Broken> {
        let switch = self.world.process(process).switch.clone();
        let joined = tokio::select! {
            biased;
            joined = task => joined?,
            () = switch.died() => return Ok(None),
            () = tokio::time::sleep(PATIENCE) => return Ok(None),
        };
        if let Err(error) = &joined {
            self.world.output.error(error);
        }
        Ok(Some(joined))
    }

    fn answered(&mut self, index: usize, line: &str, reply: Reply) {
        self.note(format!("{line}: {}", reply.describe()));
        let Some(made) = self.made.get_mut(index) else {
            return;
        };
        let (text, settled) = judge::bytes(&reply);
        let forgotten = self.world.now().since(made.at) >= KEYS_ARE_KEPT;
        match &made.settled {
            Some(_) if forgotten => {}
            Some(first) => self.found.repeat(&made.key, first, &text),
            None if settled => made.settled = Some(text),
            None => {}
        }
        match reply {
            Reply::Setup(setup) => self.told_setup(index, &setup),
            Reply::Payment(answer) => {
                let known = Known {
                    account: crate::world::index_of(&answer.body.account),
                    amount: answer.body.amount.into(),
                    id: answer.body.id,
                };
                if let Some(page) = answer.body.redirect_url {
                    self.pages
                        .push((answer.body.provider.as_str().to_owned(), page));
                }
                self.told_payment(known);
            }
            Reply::Strangers(two) => self.found.strangers.push(two),
            Reply::Refund(_) | Reply::Done(_) => {}
        }
    }

    fn told_setup(&mut self, index: usize, setup: &cardless::message::Setup) {
        let account = crate::world::index_of(&setup.account);
        let told = (setup.id.clone(), account);
        if !self.setups.contains(&told) {
            self.setups.push(told);
        }
        if let Some(page) = setup.redirect_url.clone() {
            self.pages.push((setup.provider.as_str().to_owned(), page));
        }
        if let Some(method) = setup.payment_method.clone() {
            let linked = (account, method);
            if !self.methods.contains(&linked) {
                self.methods.push(linked);
            }
        }
        let request = self.made.get(index).map(|made| &made.request);
        let amount = match request {
            Some(Request::Link(request)) => request.amount.clone(),
            Some(_) | None => None,
        };
        if let (Some(id), Some(amount)) = (setup.payment.clone(), amount) {
            self.told_payment(Known {
                id,
                account,
                amount,
            });
        }
    }

    fn told_payment(&mut self, known: Known) {
        if !self.payments.iter().any(|other| other.id == known.id) {
            self.payments.push(known);
        }
    }

    pub(crate) async fn reconcile(&mut self, process: usize) -> Result<(), Broken> {
        let gateway = self.world.process(process).gateway.clone();
        let task = tokio::spawn(async move { gateway.reconcile().await });
        let line = match self.answer(process, task).await? {
            None => "no answer".to_owned(),
            Some(Ok(report)) => format!("{report:?}"),
            Some(Err(error)) => error.code().as_str().to_owned(),
        };
        self.note(format!("process {process}: reconcile {line}"));
        Ok(())
    }

    /// The resolver of a process works for a while, as it does all the time in a real one.
    pub(crate) async fn work(&mut self, process: usize, time: Duration) -> Result<(), Broken> {
        let gateway = self.world.process(process).gateway.clone();
        let task = tokio::spawn(async move {
            gateway.run(tokio::time::sleep(time)).await;
            Ok(())
        });
        let dies = task.abort_handle();
        let ended = self.answer(process, task).await?.is_some();
        // What a dead process goes round in without asking the store or the network dies with it.
        dies.abort();
        self.world.sandbox.tick();
        self.note(format!(
            "process {process}: the resolver works for {} s, to the end: {ended}",
            time.as_secs()
        ));
        Ok(())
    }

    /// The resolvers of both work for a while.
    async fn work_together(&mut self, time: Duration) -> Result<(), Broken> {
        let mut tasks = Vec::new();
        for index in 0..2 {
            let gateway = self.world.process(index).gateway.clone();
            let task = tokio::spawn(async move {
                gateway.run(tokio::time::sleep(time)).await;
                Ok(())
            });
            tasks.push((index, task.abort_handle(), task));
        }
        for (index, dies, task) in tasks {
            self.answer(index, task).await?;
            dies.abort();
        }
        self.world.sandbox.tick();
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
        let operation = operation_of(provider, operation)?;
        let kind = FAULTS.get(kind).copied().unwrap_or("drop_before");
        let fault: Fault = serde_json::from_value(serde_json::json!({
            "provider": name, "operation": operation, "times": times, "fault": kind,
        }))?;
        self.world.sandbox.inject(fault)?;
        self.note(format!("{kind} × {times} for {operation} at {name}"));
        Ok(())
    }

    fn late(&mut self, provider: usize, operation: usize, seconds: u64) -> Result<(), Broken> {
        let name = PROVIDERS.get(provider).copied().unwrap_or("paypal");
        let operation = operation_of(provider, operation)?;
        let matching = operation.parse()?;
        self.world
            .seam
            .be_late(provider_of(name), matching, seconds);
        self.note(format!("{operation} at {name} arrives after {seconds} s"));
        Ok(())
    }

    async fn webhooks(&mut self, process: usize, delivery: Delivery) -> Result<(), Broken> {
        self.waiting.extend(self.world.sandbox.take_webhooks());
        let mut now = std::mem::take(&mut self.waiting);
        match delivery {
            Delivery::InOrder => {}
            Delivery::Twice => {
                now = now
                    .iter()
                    .flat_map(|one| [one.clone(), one.clone()])
                    .collect();
            }
            Delivery::Reversed => now.reverse(),
            Delivery::EveryOther => {
                let mut odd = false;
                let (first, rest) = now.into_iter().partition(|_| {
                    odd = !odd;
                    odd
                });
                now = first;
                self.waiting = rest;
            }
            Delivery::Lost => self.lost.append(&mut now),
        }
        self.note(format!(
            "process {process}: {} webhooks, {delivery:?}",
            now.len()
        ));
        for webhook in now {
            self.deliver(process, webhook).await?;
        }
        Ok(())
    }

    pub(crate) async fn deliver(
        &mut self,
        process: usize,
        webhook: OutgoingWebhook,
    ) -> Result<(), Broken> {
        let Some((_, provider)) = webhook.url.rsplit_once('/') else {
            return Ok(());
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &webhook.headers {
            headers.append(
                HeaderName::from_bytes(name.as_bytes())?,
                HeaderValue::from_str(value)?,
            );
        }
        self.figures.webhooks += 1;
        let gateway = self.world.process(process).gateway.clone();
        let provider = provider.to_owned();
        let task = tokio::spawn(async move {
            gateway
                .notification(&provider, &headers, &webhook.body)
                .await
        });
        if let Some(Err(error)) = self.answer(process, task).await? {
            self.note(format!("webhook: {}", error.code().as_str()));
        }
        Ok(())
    }

    async fn decide(&mut self, which: usize, decision: Decision) -> Result<(), Broken> {
        let mut pages = Vec::new();
        for (setup, _) in self.setups.clone() {
            let gateway = self.world.process(1).gateway.clone();
            let task = tokio::spawn(async move { gateway.setup(&setup).await });
            if let Some(Ok(found)) = self.answer(1, task).await?
                && let Some(page) = found.redirect_url
            {
                pages.push((found.provider.as_str().to_owned(), page));
            }
        }
        for payment in self.payments.clone() {
            let gateway = self.world.process(1).gateway.clone();
            let task = tokio::spawn(async move { gateway.payment(&payment.id).await });
            if let Some(Ok(found)) = self.answer(1, task).await?
                && let Some(page) = found.redirect_url
            {
                pages.push((found.provider.as_str().to_owned(), page));
            }
        }
        let picked = which
            .checked_rem(pages.len())
            .and_then(|index| pages.get(index))
            .cloned();
        let Some((provider, page)) = picked else {
            return Ok(());
        };
        self.note(format!("a customer at {provider} decides: {decision:?}"));
        let state = self.world.decide(&provider, &page, decision).await?;
        self.pages.push((provider, page));
        if let Some(state) = state {
            self.returns.push(state.clone());
            self.come_back(state).await?;
        }
        Ok(())
    }

    async fn come_back_again(&mut self, which: usize) -> Result<(), Broken> {
        let state = which
            .checked_rem(self.returns.len())
            .and_then(|index| self.returns.get(index))
            .cloned();
        if let Some(state) = state {
            self.note("a browser comes back once more".to_owned());
            self.come_back(state).await?;
        }
        Ok(())
    }

    async fn come_back(&mut self, state: String) -> Result<(), Broken> {
        let gateway = self.world.process(1).gateway.clone();
        let task = tokio::spawn(async move { gateway.returned(&state).await });
        if let Some(Err(error)) = self.answer(1, task).await? {
            self.note(format!("the way back: {}", error.code().as_str()));
        }
        Ok(())
    }
}

fn operation_of(provider: usize, operation: usize) -> Result<&'static str, Broken> {
    let operations = OPERATIONS.get(provider).ok_or("no such provider")?;
    Ok(operations.get(operation).copied().unwrap_or("GET /"))
}
