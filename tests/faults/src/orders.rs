//! Every order of the webhooks of a history, each once to three times, racing the calls that cause
//! them: there is one end state, and it is that of the same calls without any webhook.
//!
//! The calls are made by two processes at once under the same keys, some of their answers are
//! lost, both processes' resolvers run, and at every boundary others may go first ([`crate`]).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cardless_sandbox::{OutgoingWebhook, Provider};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::watch;

use crate::caught::caught;
use crate::ended::{End, end_state};
use crate::history::{History, Movement};
use crate::output::Output;
use crate::random::Random;
use crate::world::{Broken, World};

/// How many webhooks a history has.
pub const SLOTS: usize = 6;

/// How often each webhook comes at most.
const MOST_TIMES: u8 = 3;

/// Up to so many webhooks, every choice of how often each comes is tried.
const ALL_TIMES_UP_TO: usize = 3;

/// How many cases share a world; each has objects of its own.
const CASES_PER_WORLD: usize = 32;

/// How many in 100 deliveries come with the next one at once.
const AT_ONCE_PERCENT: u64 = 30;

/// How long whoever waits for a webhook sleeps between two looks, in paused time.
const LOOK: Duration = Duration::from_millis(50);

/// How often it looks before it gives up.
const MAX_LOOKS: u32 = 100_000;

/// How long the resolvers are left alone at the end, in paused time.
const REST: Duration = Duration::from_secs(3);

/// How long nobody is at work then.
const BETWEEN_ROUNDS: Duration = Duration::from_secs(20);

/// How often time passes until nothing is open.
const MAX_ROUNDS: u32 = 60;

/// Which webhooks come, in which order, and how often each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The webhooks, by their place in the history.
    pub slots: Vec<usize>,
    /// How often each of them comes.
    pub times: Vec<u8>,
}

/// Which orders are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Selection {
    /// Every so-manyth choice, as [`some_orders`] has them; all that there are if absent.
    pub every: Option<usize>,
    /// Only the orders that share the world of this seed.
    pub seed: Option<u64>,
    /// Of those only this one. The ones before it are run too, since they leave their world to it.
    pub case: Option<usize>,
}

/// What a run of orders came to.
#[derive(Debug, Default)]
pub struct Orders {
    /// How many orders there were.
    pub cases: u64,
    /// How many deliveries.
    pub deliveries: u64,
    /// How many answers of each movement were lost.
    pub lost: BTreeMap<Movement, u64>,
    /// What differed or did not come to an end, with the command that runs it again.
    pub differences: Vec<String>,
}

/// Where a case stands, and the command that runs it again.
#[derive(Debug, Clone, Copy)]
struct Place {
    provider: Provider,
    every: Option<usize>,
    /// The seed of its world, which is the number of the world.
    seed: u64,
    /// Its number in its world; none while the world is made.
    case: Option<usize>,
}

/// How one case has ended.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    end: End,
    lost: BTreeMap<Movement, u64>,
}

impl Selection {
    /// The orders that it is made from; of them [`Selection::seed`] and [`Selection::case`] choose.
    pub fn orders(self) -> Vec<Order> {
        self.every.map_or_else(all_orders, some_orders)
    }

    const fn has(self, place: Place) -> bool {
        let is_case = match (self.case, place.case) {
            (Some(only), Some(case)) => only == case,
            (Some(_), None) | (None, _) => true,
        };
        let is_seed = match self.seed {
            Some(seed) => seed == place.seed,
            None => true,
        };
        is_case && is_seed
    }
}

impl Orders {
    /// What no case of a provider has reached: movements that its history has and of which no answer
    /// was lost.
    pub fn unreached(&self, provider: Provider) -> Vec<String> {
        Movement::ALL
            .into_iter()
            .filter(|movement| movement.request(provider).is_some())
            .filter(|movement| self.lost.get(movement).copied().unwrap_or(0) == 0)
            .map(|movement| format!("{}: no answer of {movement:?} was lost", provider.name()))
            .collect()
    }

    /// What was lost, in a line.
    pub fn losses(&self) -> String {
        let lost = self.lost.iter();
        let lost: Vec<String> = lost
            .map(|(movement, count)| format!("{count} of {movement:?}"))
            .collect();
        format!("answers lost: {}", lost.join(", "))
    }

    fn judge(&mut self, place: Place, order: &Order, ended: Ended, expected: &End) {
        self.cases += 1;
        let deliveries = order.times.iter().map(|&times| u64::from(times));
        self.deliveries += deliveries.sum::<u64>();
        for (movement, count) in ended.lost {
            *self.lost.entry(movement).or_default() += count;
        }
        if ended.end != *expected {
            let end = ended.end;
            self.differences.push(format!(
                "{place}, {order:?}: {end:#?}\ninstead of {expected:#?}\nagain: {}",
                place.command()
            ));
        }
    }
}

impl Place {
    fn command(self) -> String {
        let every = self.every.map(|every| format!(" --every {every}"));
        let case = self.case.map(|case| format!(" --case {case}"));
        format!(
            "cargo run --release -p cardless-faults -- --webhooks --provider {} --seed {}{}{}",
            self.provider.name(),
            self.seed,
            case.unwrap_or_default(),
            every.unwrap_or_default()
        )
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, seed {}", self.provider.name(), self.seed)?;
        match self.case {
            Some(case) => write!(f, ", case {case}"),
            None => f.write_str(", before its first case"),
        }
    }
}

/// Every ordered choice of up to six of six, none included: 1957.
pub fn choices() -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    let mut from = 0;
    for _ in 0..SLOTS {
        let until = all.len();
        for index in from..until {
            let Some(shorter) = all.get(index).cloned() else {
                continue;
            };
            for slot in (0..SLOTS).filter(|slot| !shorter.contains(slot)) {
                all.push([&shorter[..], &[slot]].concat());
            }
        }
        from = until;
    }
    all
}

/// All that the command runs: every choice of how often each comes for up to three webhooks; for
/// more of them all once, all twice, all three times, and a drawn one.
pub fn all_orders() -> Vec<Order> {
    let mut random = Random::new(SLOTS.try_into().unwrap_or(0));
    let mut orders = Vec::new();
    for slots in choices() {
        let mut all_times: Vec<Vec<u8>> = if slots.len() <= ALL_TIMES_UP_TO {
            vectors(slots.len())
        } else {
            (1..=MOST_TIMES)
                .map(|times| vec![times; slots.len()])
                .chain([drawn(&mut random, slots.len())])
                .collect()
        };
        orders.extend(all_times.drain(..).map(|times| Order {
            slots: slots.clone(),
            times,
        }));
    }
    orders
}

/// The ordinary tests' share: every `step`th choice, each as often as is drawn.
pub fn some_orders(step: usize) -> Vec<Order> {
    let mut random = Random::new(1);
    choices()
        .into_iter()
        .step_by(step)
        .map(|slots| Order {
            times: drawn(&mut random, slots.len()),
            slots,
        })
        .collect()
}

fn drawn(random: &mut Random, length: usize) -> Vec<u8> {
    (0..length)
        .map(|_| 1 + u8::try_from(random.below(MOST_TIMES.into())).unwrap_or(0))
        .collect()
}

/// Every list of so many numbers from one to three.
fn vectors(length: usize) -> Vec<Vec<u8>> {
    (0..length).fold(vec![Vec::new()], |shorter, _| {
        let longer =
            |vector: Vec<u8>| (1..=MOST_TIMES).map(move |times| [&vector[..], &[times]].concat());
        shorter.into_iter().flat_map(longer).collect()
    })
}

/// Runs orders at one provider, in worlds of their own; `told` hears how many are done. What cannot be
/// run to its end is told among the differences, and ends its world.
///
/// # Errors
///
/// There is no such order.
pub fn run_orders(
    provider: Provider,
    selection: Selection,
    mut told: impl FnMut(u64),
) -> Result<Orders, Broken> {
    let mut result = Orders::default();
    for (number, batch) in selection.orders().chunks(CASES_PER_WORLD).enumerate() {
        let mut place = Place {
            provider,
            every: selection.every,
            seed: u64::try_from(number)?,
            case: None,
        };
        if !selection.has(place) {
            continue;
        }
        let cases = selection.case.map_or(batch.len(), |case| case + 1);
        let batch: Vec<(usize, &Order)> = batch.iter().enumerate().take(cases).collect();
        let ran = in_a_world(&mut place, &batch, |place, order, ended, expected| {
            if selection.has(place) {
                result.judge(place, order, ended, expected);
            }
        });
        if let Err(error) = ran {
            let order = place.case.and_then(|case| batch.get(case));
            let order = order.map(|(_, order)| *order);
            result.differences.push(format!(
                "{place}, {order:?}: {error}\nagain: {}",
                place.command()
            ));
        }
        told(result.cases);
    }
    if result.cases == 0 && result.differences.is_empty() {
        return Err(format!("{selection:?} has no order").into());
    }
    Ok(result)
}

/// Runs the orders that share a world, on a runtime of their own; `place` says where an error or a
/// panic came.
fn in_a_world(
    place: &mut Place,
    batch: &[(usize, &Order)],
    told: impl FnMut(Place, &Order, Ended, &End),
) -> Result<(), Broken> {
    caught(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()?;
        runtime.block_on(run_batch(place, batch, told))
    })
}

async fn run_batch(
    place: &mut Place,
    batch: &[(usize, &Order)],
    mut told: impl FnMut(Place, &Order, Ended, &End),
) -> Result<(), Broken> {
    let world = World::new(place.seed, Output::default())?;
    let methods = world.link_all().await?;
    let mut random = Random::new(place.seed.rotate_left(7));
    let nothing = Order {
        slots: Vec::new(),
        times: Vec::new(),
    };
    let calm = History::new(place.provider, &methods, "calm", None)?;
    let expected = case(&world, calm, &nothing, &mut random).await?.end;
    for &(index, order) in batch {
        place.case = Some(index);
        let name = format!("case-{index}");
        let history = History::new(place.provider, &methods, &name, Some(random.next()))?;
        let ended = case(&world, history, order, &mut random).await?;
        told(*place, order, ended, &expected);
    }
    Ok(())
}

/// One history with its webhooks in one order, up to its end.
async fn case(
    world: &World,
    history: History,
    order: &Order,
    random: &mut Random,
) -> Result<Ended, Broken> {
    world.sandbox.take_webhooks();
    let since = Since::now(world).await?;
    let post = Post::default();
    let (stop, stopped) = watch::channel(false);
    let resolvers: Vec<_> = (0..2)
        .map(|index| {
            let gateway = world.process(index).gateway.clone();
            let mut stopped = stopped.clone();
            tokio::spawn(async move {
                let stopped = async {
                    // Whoever stops it is gone either way.
                    drop(stopped.wait_for(|stop| *stop).await);
                };
                gateway.run(stopped).await;
            })
        })
        .collect();
    let script = async {
        let made = history.run(world).await;
        post.lock().ended = true;
        made
    };
    let feed = feed(world, &history, &post, order, random);
    let (made, fed) = tokio::join!(script, feed);
    stop.send_replace(true);
    for resolver in resolvers {
        resolver.await?;
    }
    let made = made?;
    fed?;
    let lost = history.lost(world)?;
    settle(world).await?;
    let end = end_state(world, &made, since.event, since.entry).await?;
    Ok(Ended { end, lost })
}

/// Where the events and the ledger stand before a case.
struct Since {
    event: i64,
    entry: usize,
}

impl Since {
    async fn now(world: &World) -> Result<Self, Broken> {
        let mut event = 0;
        loop {
            let page = world.store.events(event, 500).await?;
            let Some((last, _)) = page.last() else { break };
            event = *last;
        }
        let entry = world.sandbox.ledger().len();
        Ok(Self { event, entry })
    }
}

/// The webhooks that have come so far, by their places.
#[derive(Debug, Default)]
struct Post(Mutex<Posted>);

#[derive(Debug, Default)]
struct Posted {
    slots: [Option<OutgoingWebhook>; SLOTS],
    ended: bool,
}

impl Post {
    fn lock(&self) -> MutexGuard<'_, Posted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts away what the provider has sent, and gives what is in a place.
    fn look(&self, world: &World, history: &History, slot: usize) -> Option<OutgoingWebhook> {
        let mut posted = self.lock();
        for webhook in world.sandbox.take_webhooks() {
            let place = history
                .slot(&webhook)
                .and_then(|slot| posted.slots.get_mut(slot));
            if let Some(place) = place {
                place.get_or_insert(webhook);
            }
        }
        posted.slots.get(slot).cloned().flatten()
    }
}

/// Delivers the webhooks of an order, each as soon as it is there, to one process or the other; some
/// of them two at once, one to each. The first of each kind keep their order; what comes again comes
/// anywhere later.
async fn feed(
    world: &World,
    history: &History,
    post: &Post,
    order: &Order,
    random: &mut Random,
) -> Result<(), Broken> {
    let mut deliveries = deliveries(order, random).into_iter();
    while let Some(slot) = deliveries.next() {
        let webhook = arrived(world, history, post, slot).await?;
        let process = random.index(2);
        let first = deliver(world, history, process, &webhook);
        let second = if random.chance(AT_ONCE_PERCENT) {
            deliveries.next()
        } else {
            None
        };
        match second {
            None => first.await?,
            Some(slot) => {
                let webhook = arrived(world, history, post, slot).await?;
                let second = deliver(world, history, 1 - process, &webhook);
                let (first, second) = tokio::join!(first, second);
                first?;
                second?;
            }
        }
        for _ in 0..random.below(20) {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// The places of an order's webhooks, one for each delivery.
fn deliveries(order: &Order, random: &mut Random) -> Vec<usize> {
    let mut deliveries = order.slots.clone();
    for (&slot, &times) in order.slots.iter().zip(&order.times) {
        for _ in 1..times {
            let first = deliveries.iter().position(|&other| other == slot);
            let earliest = first.map_or(0, |first| first + 1);
            let at = earliest + random.index(deliveries.len() + 1 - earliest);
            deliveries.insert(at, slot);
        }
    }
    deliveries
}

async fn deliver(
    world: &World,
    history: &History,
    process: usize,
    webhook: &OutgoingWebhook,
) -> Result<(), Broken> {
    let gateway = world.process(process).gateway.clone();
    let headers = headers(webhook)?;
    let provider = history.provider().name();
    Ok(gateway
        .notification(provider, &headers, &webhook.body)
        .await?)
}

async fn arrived(
    world: &World,
    history: &History,
    post: &Post,
    slot: usize,
) -> Result<OutgoingWebhook, Broken> {
    for _ in 0..MAX_LOOKS {
        if let Some(webhook) = post.look(world, history, slot) {
            return Ok(webhook);
        }
        if post.lock().ended && post.look(world, history, slot).is_none() {
            return Err(format!("webhook {slot} never came").into());
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(format!("webhook {slot} is not waited for any longer").into())
}

fn headers(webhook: &OutgoingWebhook) -> Result<HeaderMap, Broken> {
    let mut headers = HeaderMap::new();
    for (name, value) in &webhook.headers {
        let name = HeaderName::from_bytes(name.as_bytes())?;
        headers.append(name, HeaderValue::from_str(value)?);
    }
    Ok(headers)
}

/// Time passes until nothing is open and nothing is due.
async fn settle(world: &World) -> Result<(), Broken> {
    let gateway = &world.process(0).gateway;
    for _ in 0..MAX_ROUNDS {
        gateway.run(tokio::time::sleep(REST)).await;
        let now = cardless_contract::Clock::now(&world.sandbox.clock());
        let open = world.store.open(None, 10).await?;
        if open.is_empty() && world.store.due(now, &[], 10).await?.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(BETWEEN_ROUNDS).await;
        world.sandbox.tick();
    }
    Err(format!("still open: {:?}", world.store.open(None, 10).await?).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every so-manyth order runs in the ordinary tests.
    const STEP: usize = 13;

    #[test]
    fn there_are_as_many_orders_as_there_should_be() {
        let choices = choices();
        assert_eq!(choices.len(), 1957);
        assert_eq!(choices.iter().filter(|one| one.len() == SLOTS).count(), 720);
        let of = |length: usize| {
            all_orders()
                .iter()
                .filter(|one| one.slots.len() == length)
                .count()
        };
        assert_eq!([of(1), of(2), of(3)], [6 * 3, 30 * 9, 120 * 27]);
        assert_eq!(of(6), 720 * 4);
    }

    #[test]
    fn what_comes_again_comes_anywhere_after_its_first() {
        let order = Order {
            slots: vec![4, 1, 2],
            times: vec![3, 1, 2],
        };
        let (mut apart, mut random) = (false, Random::new(3));
        for _ in 0..100 {
            let all = deliveries(&order, &mut random);
            assert_eq!(all.len(), 6);
            let first = |slot| all.iter().position(|&other| other == slot).unwrap();
            assert!(first(4) < first(1) && first(1) < first(2), "{all:?}");
            let count = |slot| all.iter().filter(|&&other| other == slot).count();
            assert_eq!([count(4), count(1), count(2)], [3, 1, 2]);
            apart = apart || all.windows(3).any(|three| matches!(three, [4, 1 | 2, 4]));
        }
        assert!(apart, "never one between two of another");
    }

    /// The judge is judged: one refund more is another end, in rows, events and ledger.
    #[test]
    fn another_end_is_seen() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let world = World::new(1, Output::default()).unwrap();
            let methods = world.link_all().await.unwrap();
            let calm = History::new(Provider::PayPal, &methods, "calm", None).unwrap();
            let made = calm.run(&world).await.unwrap();
            let before = end_state(&world, &made, 0, 0).await.unwrap();
            calm.refund_once_more(&world, &made).await.unwrap();
            let after = end_state(&world, &made, 0, 0).await.unwrap();
            assert!(after.differs_everywhere_from(&before), "{after:#?}");
        });
    }

    /// Where the planted cases stand.
    const PLACE: Place = Place {
        provider: Provider::PayPal,
        every: Some(STEP),
        seed: 3,
        case: Some(7),
    };

    /// The world of the place, and all that has ended in it up to some case.
    fn ends_up_to(case: usize) -> Vec<Ended> {
        let orders = some_orders(STEP);
        let batch = orders.chunks(CASES_PER_WORLD).nth(3).unwrap();
        let batch: Vec<(usize, &Order)> = batch.iter().enumerate().take(case + 1).collect();
        let mut ends = Vec::new();
        let mut place = PLACE;
        in_a_world(&mut place, &batch, |_, _, ended, _| ends.push(ended)).unwrap();
        ends
    }

    #[test]
    fn another_end_names_the_command_that_comes_to_it_again() {
        let mut ends = ends_up_to(7);
        let planted = ends_up_to(0).remove(0);
        let [order, _] = [0, 7].map(|at| some_orders(STEP).remove(3 * CASES_PER_WORLD + at));
        let mut orders = Orders::default();
        let (eighth, expected) = (ends.remove(7), End::default());
        assert_eq!(planted, ends.remove(0), "the same world runs otherwise");
        orders.judge(PLACE, &order, planted, &eighth.end);
        assert_eq!(orders.differences, Vec::<String>::new());
        orders.judge(PLACE, &order, eighth, &expected);
        let again = "again: cargo run --release -p cardless-faults -- --webhooks --provider paypal \
                     --seed 3 --case 7 --every 13";
        let [difference] = orders.differences.as_slice() else {
            panic!("{:?}", orders.differences);
        };
        assert!(difference.starts_with("paypal, seed 3, case 7, Order"));
        assert!(difference.ends_with(again), "{difference}");
    }

    #[test]
    fn one_case_is_run_again_alone() {
        let selection = Selection {
            every: Some(STEP),
            seed: Some(3),
            case: Some(2),
        };
        let one = run_orders(Provider::PayPal, selection, |_| {}).unwrap();
        let order = some_orders(STEP).remove(3 * CASES_PER_WORLD + 2);
        let deliveries = order.times.iter().map(|&times| u64::from(times));
        assert_eq!((one.cases, one.deliveries), (1, deliveries.sum()));
        assert_eq!(one.lost, ends_up_to(2).remove(2).lost);
        let none = Selection {
            seed: Some(1000),
            ..selection
        };
        run_orders(Provider::PayPal, none, |_| {}).unwrap_err();
    }

    /// An order that waits for what never comes, between two others.
    #[test]
    fn what_never_settles_is_named_and_ends_its_world_only() {
        let mut order = some_orders(STEP).remove(1);
        order.slots = vec![SLOTS];
        order.times = vec![1];
        let calm = some_orders(STEP).remove(0);
        let batch = [(0, &calm), (1, &order), (2, &calm)];
        let (mut place, mut ended) = (PLACE, 0);
        let ran = in_a_world(&mut place, &batch, |_, _, _, _| ended += 1);
        assert_eq!(ran.unwrap_err().to_string(), "webhook 6 never came");
        assert_eq!((place.case, ended), (Some(1), 1));
    }

    /// The floor is judged: what it asks for at each provider, and that a history which names another
    /// request loses nothing by it.
    #[test]
    fn a_movement_of_which_no_answer_was_lost_is_missed() {
        let mut orders = Orders::default();
        let missed = |orders: &Orders| Provider::ALL.map(|one| orders.unreached(one).len());
        assert_eq!(missed(&orders), [3, 3, 2]);
        orders.lost.insert(Movement::Capture, 1);
        assert_eq!(missed(&orders), [2, 2, 1]);
        let of_paypal = orders.unreached(Provider::PayPal);
        assert_eq!(of_paypal[1], "paypal: no answer of Refund was lost");
    }

    #[test]
    fn an_answer_that_was_to_be_lost_and_was_not_is_an_error() {
        let world = World::new(1, Output::default()).unwrap();
        let methods: Vec<_> = (0..3).map(|index| (index, String::new())).collect();
        let history = History::new(Provider::PayPal, &methods, "waits", None).unwrap();
        assert_eq!(history.lost(&world).unwrap(), BTreeMap::new());
        history.lose(&world, Movement::Capture).unwrap();
        let error = history.lost(&world).unwrap_err().to_string();
        assert!(error.contains("were to be lost and were not"), "{error}");
    }

    fn no_order_ends_otherwise(provider: Provider) {
        let selection = Selection {
            every: Some(STEP),
            ..Selection::default()
        };
        let result = run_orders(provider, selection, |_| {}).unwrap();
        println!("{} orders, {} deliveries", result.cases, result.deliveries);
        println!("{}", result.losses());
        assert!(
            result.differences.is_empty(),
            "{}",
            result.differences.join("\n")
        );
        assert_eq!(result.unreached(provider), Vec::<String>::new());
    }

    #[test]
    fn no_order_of_paypals_webhooks_ends_otherwise() {
        no_order_ends_otherwise(Provider::PayPal);
    }

    #[test]
    fn no_order_of_postfinances_webhooks_ends_otherwise() {
        no_order_ends_otherwise(Provider::PostFinance);
    }

    #[test]
    fn no_order_of_adunos_webhooks_ends_otherwise() {
        no_order_ends_otherwise(Provider::Aduno);
    }
}
