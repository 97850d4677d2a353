//! A caller's calls: how they are put together, made, and told.

use cardless::error::Error;
use cardless::gateway::{Gateway, RequestKey};
use cardless::message::{
    Amount, Answer, Capture, CaptureRequest, Initiator, LinkRequest, MethodUpdate, PayRequest,
    Payment, PaymentQuery, Refund, RefundRequest, Setup, VoidRequest,
};
use cardless_contract::Timestamp;

use crate::plan::{CURRENCIES, Call, PROVIDERS};
use crate::run::Run;
use crate::world::account_of;

/// A call that was made, so that it can be made again.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) key: String,
    pub(crate) request: Request,
    /// When it was first made.
    pub(crate) at: Timestamp,
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
    Complete(String),
    Revoke(String, String),
    Default(String, MethodUpdate),
    Restrict(String, bool),
    /// What is another's, and the same with what never existed: both answers.
    Stranger(Box<[Request; 2]>),
    /// Whose payments: the account, and the last one seen.
    Listing(PaymentQuery),
}

/// What a call answered.
#[derive(Debug)]
pub(crate) enum Reply {
    Setup(Box<Setup>),
    Payment(Box<Answer<Payment>>),
    Refund(Answer<Refund>),
    Done(String),
    /// What two strangers were told.
    Strangers([String; 2]),
}

/// A payment that a caller was told of.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) id: String,
    pub(crate) account: usize,
    pub(crate) amount: Amount,
}

/// A handle that never existed, of the same kind.
fn never(id: &str) -> String {
    let (prefix, letters) = id
        .split_once('_')
        .unwrap_or(("pay", "aaaaaaaaaaaaaaaaaaaa"));
    let turned: String = letters.chars().rev().collect();
    format!("{prefix}_{turned}")
}

fn picked<T>(wanted: usize, of: &[T]) -> Option<&T> {
    of.get(wanted.checked_rem(of.len())?)
}

impl Run {
    /// Picks a call's objects; `None` if there are none to pick from.
    pub(crate) fn prepare(&mut self, call: &Call) -> Option<usize> {
        let request = match call {
            Call::Again { call } => return call.checked_rem(self.made.len()),
            Call::Pay { .. } => self.pay(call)?,
            Call::Link { .. } | Call::Register { .. } => link(call)?,
            Call::Capture {
                payment,
                percent,
                last,
            } => {
                let known = self.payment_that_is("authorized", *payment)?;
                let request = CaptureRequest {
                    account: account_of(known.account),
                    amount: part(&known, *percent),
                    last: Some(*last),
                };
                Request::Capture(known.id, request)
            }
            Call::Void { payment } => {
                let known = picked(*payment, &self.payments)?;
                let account = account_of(known.account);
                Request::Void(known.id.clone(), VoidRequest { account })
            }
            Call::Refund { payment, percent } => {
                let known = self.payment_that_is("captured", *payment)?;
                let request = RefundRequest {
                    account: account_of(known.account),
                    amount: part(&known, *percent),
                };
                Request::Refund(known.id, request)
            }
            Call::Complete { setup } => Request::Complete(picked(*setup, &self.setups)?.0.clone()),
            Call::Revoke { method } => {
                let (account, method) = picked(*method, &self.methods)?;
                Request::Revoke(method.clone(), account_of(*account))
            }
            Call::Default { method } => {
                let (account, method) = picked(*method, &self.methods)?;
                let update = MethodUpdate {
                    account: account_of(*account),
                    default: true,
                };
                Request::Default(method.clone(), update)
            }
            Call::Restrict {
                account,
                restricted,
            } => Request::Restrict(account_of(*account), *restricted),
            Call::Stranger { object, verb } => self.stranger(*object, *verb)?,
        };
        let key = format!("canary-key-{}", self.made.len());
        self.world.output.secret("an Idempotency-Key", &key);
        self.made.push(Made {
            key,
            request,
            at: self.world.now(),
            settled: None,
        });
        Some(self.made.len() - 1)
    }

    /// One of the payments that are in this state, or of all if none is.
    fn payment_that_is(&self, state: &str, wanted: usize) -> Option<Known> {
        let fits = |known: &&Known| self.world.seam.state_of(&known.id) == Some(state);
        let fitting: Vec<&Known> = self.payments.iter().filter(fits).collect();
        let known = picked(wanted, &fitting).copied();
        known.or_else(|| picked(wanted, &self.payments)).cloned()
    }

    fn pay(&self, call: &Call) -> Option<Request> {
        let Call::Pay {
            account,
            method,
            minor,
            currency,
            manual,
            customer,
            reference,
        } = call
        else {
            return None;
        };
        let own: Vec<&String> = self
            .methods
            .iter()
            .filter(|(owner, _)| owner == account)
            .map(|(_, method)| method)
            .collect();
        // One more than there are: the account's default.
        let method = method.checked_rem(own.len() + 1)?;
        Some(Request::Pay(PayRequest {
            account: account_of(*account),
            payment_method: own.get(method).map(|method| (*method).clone()),
            amount: amount(*minor, *currency),
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
        }))
    }

    /// A request for what is another account's, and the same for what never existed.
    fn stranger(&self, object: usize, verb: usize) -> Option<Request> {
        let (owner, method) = picked(object, &self.methods)?;
        let known = picked(object, &self.payments);
        let other = |owner: usize| account_of(if owner == 2 { 0 } else { owner + 1 });
        let two = |make: &dyn Fn(String) -> Request, id: &str| {
            Some(Request::Stranger(Box::new([
                make(id.to_owned()),
                make(never(id)),
            ])))
        };
        let account = other(*owner);
        match verb {
            0 => {
                let pay = |id| {
                    Request::Pay(PayRequest {
                        account: account.clone(),
                        payment_method: Some(id),
                        amount: amount(1000, 0),
                        reference: "a stranger's".to_owned(),
                        capture: Capture::Automatic,
                        initiator: Initiator::Merchant,
                        return_url: None,
                        description: None,
                    })
                };
                two(&pay, method)
            }
            1 => two(&|id| Request::Revoke(id, account.clone()), method),
            2 => {
                let account = other(known?.account);
                let refund = |id| {
                    let account = account.clone();
                    Request::Refund(
                        id,
                        RefundRequest {
                            account,
                            amount: None,
                        },
                    )
                };
                two(&refund, &known?.id)
            }
            3 => {
                let account = other(known?.account);
                let void = |id| {
                    let account = account.clone();
                    Request::Void(id, VoidRequest { account })
                };
                two(&void, &known?.id)
            }
            _ => {
                let account = other(known?.account);
                let listing = |id| {
                    Request::Listing(PaymentQuery {
                        account: account.clone(),
                        reference: None,
                        after: Some(id),
                    })
                };
                two(&listing, &known?.id)
            }
        }
    }
}

fn link(call: &Call) -> Option<Request> {
    let (account, provider, first) = if let Call::Link {
        account,
        provider,
        minor,
        currency,
        manual,
        reference,
    } = call
    {
        let amount = amount(*minor, *currency);
        (account, provider, Some((amount, *manual, *reference)))
    } else if let Call::Register { account, provider } = call {
        (account, provider, None)
    } else {
        return None;
    };
    Some(Request::Link(LinkRequest {
        account: account_of(*account),
        provider: picked(*provider, &PROVIDERS).copied()?.to_owned(),
        return_url: "https://shop.example/back".to_owned(),
        language: None,
        reference: first
            .as_ref()
            .map(|(_, _, reference)| format!("invoice-{reference}")),
        capture: first
            .as_ref()
            .filter(|(_, manual, _)| *manual)
            .map(|_| Capture::Manual),
        amount: first.map(|(amount, ..)| amount),
    }))
}

fn amount(minor: i64, currency: usize) -> Amount {
    let currency = picked(currency, &CURRENCIES).copied().unwrap_or("CHF");
    Amount::new(currency, minor)
}

/// A part of a payment's amount; `None` for all that is left.
fn part(known: &Known, percent: i64) -> Option<Amount> {
    let minor = (known.amount.minor * percent / 100).max(1);
    (percent != 0).then(|| Amount::new(known.amount.currency.clone(), minor))
}

/// Makes a call.
pub(crate) async fn perform(gateway: Gateway, made: Made) -> Result<Reply, Error> {
    if let Request::Stranger(two) = &made.request {
        let [theirs, nobodys] = two.as_ref();
        let first = ask(&gateway, &format!("{}-a", made.key), theirs).await;
        let second = ask(&gateway, &format!("{}-b", made.key), nobodys).await;
        return Ok(Reply::Strangers([told(first), told(second)]));
    }
    ask(&gateway, &made.key, &made.request).await
}

fn told(reply: Result<Reply, Error>) -> String {
    match reply {
        Ok(reply) => reply.describe(),
        Err(error) => format!("{}: {error}", error.code().as_str()),
    }
}

async fn ask(gateway: &Gateway, key: &str, request: &Request) -> Result<Reply, Error> {
    let key = RequestKey::new("caller", key)?;
    match request {
        Request::Link(request) => {
            let answer = gateway.link(&key, request).await?;
            Ok(Reply::Setup(Box::new(answer.body)))
        }
        Request::Pay(request) => gateway.pay(&key, request).await.map(paid),
        Request::Capture(id, request) => gateway.capture(&key, id, request).await.map(paid),
        Request::Void(id, request) => gateway.void(&key, id, request).await.map(paid),
        Request::Refund(id, request) => gateway.refund(&key, id, request).await.map(Reply::Refund),
        Request::Complete(id) => {
            let setup = gateway.complete_link(id).await?;
            Ok(Reply::Setup(Box::new(setup)))
        }
        Request::Revoke(id, account) => {
            let answer = gateway.revoke(id, account).await?;
            Ok(Reply::Done(format!("revoked, open: {}", answer.open)))
        }
        Request::Default(id, update) => {
            gateway.set_default(id, update).await?;
            Ok(Reply::Done("the default".to_owned()))
        }
        Request::Restrict(account, restricted) => {
            gateway.set_restricted(account, *restricted).await?;
            Ok(Reply::Done("done".to_owned()))
        }
        Request::Listing(query) => {
            let page = gateway.payments(query).await?;
            Ok(Reply::Done(format!("{} payments", page.data.len())))
        }
        Request::Stranger(_) => Ok(Reply::Done("a stranger asks for itself only".to_owned())),
    }
}

fn paid(answer: Answer<Payment>) -> Reply {
    Reply::Payment(Box::new(answer))
}

fn shown(amount: Option<&Amount>) -> String {
    amount.map_or_else(
        || "all".to_owned(),
        |amount| format!("{} {}", amount.currency, amount.minor),
    )
}

impl Request {
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Link(request) => format!(
                "{} links at {} and pays {}, {:?}",
                request.account,
                request.provider,
                shown(request.amount.as_ref()),
                request.reference
            ),
            Self::Pay(request) => format!(
                "{} pays {} {:?} by {:?}, {}, {}",
                request.account,
                shown(Some(&request.amount)),
                request.capture,
                request.initiator,
                request.payment_method.as_deref().unwrap_or("default"),
                request.reference
            ),
            Self::Capture(id, request) => format!(
                "captures {} of {id}, last: {:?}",
                shown(request.amount.as_ref()),
                request.last
            ),
            Self::Void(id, request) => format!("{} voids {id}", request.account),
            Self::Refund(id, request) => {
                format!("refunds {} of {id}", shown(request.amount.as_ref()))
            }
            Self::Complete(id) => format!("asks for {id}"),
            Self::Revoke(id, account) => format!("{account} revokes {id}"),
            Self::Default(id, update) => format!("{} makes {id} its default", update.account),
            Self::Restrict(account, restricted) => format!("{account} restricted: {restricted}"),
            Self::Stranger(two) => {
                let [theirs, _] = two.as_ref();
                format!("a stranger: {}", theirs.describe())
            }
            Self::Listing(query) => format!("{} lists after {:?}", query.account, query.after),
        }
    }
}

impl Reply {
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Setup(setup) => format!("{} is {:?}", setup.id, setup.status),
            Self::Payment(answer) => format!(
                "{} is {:?}, captured {}, refunded {}, {:?}",
                answer.body.id,
                answer.body.status,
                answer.body.captured,
                answer.body.refunded,
                answer
                    .body
                    .operations
                    .iter()
                    .map(|one| one.status)
                    .collect::<Vec<_>>()
            ),
            Self::Refund(answer) => format!("{} is {:?}", answer.body.id, answer.body.status),
            Self::Done(text) => text.clone(),
            Self::Strangers([theirs, nobodys]) => format!("{theirs}; {nobodys}"),
        }
    }
}
