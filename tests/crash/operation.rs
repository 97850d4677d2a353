use cardless_sandbox::Entry;
use serde_json::{Value, json};

use crate::world::{ACCOUNT, Answer, Call, Service, World};

/// The three providers, as callers write them.
pub(crate) const PROVIDERS: [&str; 3] = ["postfinance", "paypal", "aduno"];

/// PayPal, with `order_flow = "one_call"`.
pub(crate) const ONE_CALL: &str = "paypal:one_call";

/// The providers by their settings: where an operation can be struck.
pub(crate) const PLACES: [&str; 4] = ["postfinance", "paypal", "aduno", ONE_CALL];

/// Where customers come back to.
const RETURN_URL: &str = "https://shop.example/back";

/// How many pages a customer sees in one visit, at most.
const MAX_PAGES: usize = 2;

/// What is charged, in rappen.
pub(crate) const AMOUNT: i64 = 4990;

/// What is captured of a hold, and given back of a capture.
pub(crate) const PART: i64 = 2000;

/// What is going on when the blow falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    /// A link begins.
    Begin,
    /// The customer comes back from the provider's page, and the link is completed.
    Complete,
    /// A charge that takes the money at once.
    Charge,
    /// A charge that holds it.
    Authorize,
    /// A part of a hold is taken, and the rest released.
    Capture,
    /// A hold is released.
    Void,
    /// A part of what was taken is given back.
    Refund,
    /// A payment method is revoked.
    Revoke,
    /// A link begins that takes the first payment in the same visit.
    BeginPaid,
    /// The customer comes back from that link's page. PayPal then has a second page, for the payment.
    CompletePaid,
    /// The customer comes back from the second page.
    ConfirmPaid,
    /// A charge begins whose customer is present and must confirm it.
    Present,
    /// The customer comes back from the page of such a charge.
    Approved,
}

impl Operation {
    pub(crate) const ALL: [Self; 13] = [
        Self::Begin,
        Self::Complete,
        Self::Charge,
        Self::Authorize,
        Self::Capture,
        Self::Void,
        Self::Refund,
        Self::Revoke,
        Self::BeginPaid,
        Self::CompletePaid,
        Self::ConfirmPaid,
        Self::Present,
        Self::Approved,
    ];

    /// Where it can be struck: PayPal's order flow matters only to what makes an order or takes it,
    /// and nobody but PayPal has a second page.
    pub(crate) fn places(self) -> Vec<&'static str> {
        match self {
            Self::Charge
            | Self::Authorize
            | Self::CompletePaid
            | Self::Present
            | Self::Approved => PLACES.to_vec(),
            Self::ConfirmPaid => vec!["paypal", ONE_CALL],
            Self::Begin
            | Self::Complete
            | Self::Capture
            | Self::Void
            | Self::Refund
            | Self::Revoke
            | Self::BeginPaid => PROVIDERS.to_vec(),
        }
    }

    /// Whether it is a step of a link that takes the first payment.
    pub(crate) const fn is_of_a_paid_link(self) -> bool {
        matches!(
            self,
            Self::BeginPaid | Self::CompletePaid | Self::ConfirmPaid
        )
    }

    /// Whether it begins a link.
    pub(crate) const fn begins_a_link(self) -> bool {
        matches!(self, Self::Begin | Self::BeginPaid)
    }

    /// Whether a customer may have to press a page after it.
    pub(crate) const fn leads_to_a_page(self) -> bool {
        matches!(
            self,
            Self::Begin | Self::BeginPaid | Self::CompletePaid | Self::Present
        )
    }

    /// Whether what it sends is not sent once it is old. A first payment at PayPal is accepted when its
    /// method is linked, however late, and moves nothing before the customer agrees to it.
    pub(crate) const fn charges(self) -> bool {
        matches!(
            self,
            Self::Charge | Self::Authorize | Self::ConfirmPaid | Self::Present | Self::Approved
        )
    }

    /// How it ends if nothing is given up.
    pub(crate) const fn success(self) -> &'static str {
        match self {
            Self::Begin => "active",
            Self::Complete => "completed",
            Self::BeginPaid | Self::CompletePaid | Self::ConfirmPaid => "completed, captured",
            Self::Charge | Self::Present | Self::Approved => "captured",
            Self::Authorize => "authorized",
            Self::Capture => "captured, capture succeeded",
            Self::Void => "voided, void succeeded",
            Self::Refund => "captured, refund succeeded",
            Self::Revoke => "revoked",
        }
    }

    /// Everything that comes before the operation, and the call that begins it.
    pub(crate) async fn prepare(self, world: &World, service: &Service, place: &str) -> Call {
        let base = &service.base;
        let begin = begin(place, self.is_of_a_paid_link());
        if self.begins_a_link() {
            return begin;
        }
        let setup = world.must(base, &begin).await;
        let back = press(world, &page_of(&setup).unwrap()).await;
        if matches!(self, Self::Complete | Self::CompletePaid) {
            return back;
        }
        let linked = world.must(base, &back).await;
        if self == Self::ConfirmPaid {
            return press(world, &page_of(&linked).unwrap()).await;
        }
        assert!(linked.text.ends_with("status=completed"), "{linked:?}");
        match self {
            Self::Begin
            | Self::Complete
            | Self::BeginPaid
            | Self::CompletePaid
            | Self::ConfirmPaid
            | Self::Charge => charge("automatic"),
            Self::Present => present(),
            Self::Approved => {
                let waits = world.must(base, &present()).await;
                press(world, &page_of(&waits).unwrap()).await
            }
            Self::Authorize => charge("manual"),
            Self::Capture => {
                let path = format!("/v1/payments/{}/captures", pay(world, base, "manual").await);
                Call::post(path, "capture", &part())
            }
            Self::Void => {
                let path = format!("/v1/payments/{}/void", pay(world, base, "manual").await);
                Call::post(path, "void", &json!({ "account": ACCOUNT }))
            }
            Self::Refund => {
                let path = format!(
                    "/v1/payments/{}/refunds",
                    pay(world, base, "automatic").await
                );
                Call::post(path, "refund", &part())
            }
            Self::Revoke => {
                let methods = methods(world, base).await;
                let id = methods[0]["id"].as_str().unwrap();
                Call {
                    method: http::Method::DELETE,
                    ..Call::get(format!("/v1/payment-methods/{id}?account={ACCOUNT}"))
                }
            }
        }
    }

    /// What a customer and a billing service do once everything runs again: the page is pressed if
    /// it still waits, and what is linked is charged, unless its first payment was. The last answer
    /// to `call` says how the link or the payment stands. Gives what had moved before the customer
    /// agreed.
    pub(crate) async fn finish(
        self,
        world: &World,
        service: &Service,
        call: &Call,
        last: &Answer,
    ) -> Vec<Entry> {
        let base = &service.base;
        let mut unasked = Vec::new();
        match self {
            Self::Begin | Self::BeginPaid | Self::CompletePaid | Self::Present => {
                let Some(page) = page_of(last) else {
                    return unasked;
                };
                unasked = world.ledger();
                let to = visit(world, base, page).await;
                if self != Self::Begin {
                    return unasked;
                }
                assert!(to.text.ends_with("status=completed"), "{to:?}");
            }
            Self::Complete => drop(world.must(base, call).await),
            Self::Revoke => {
                let refused = world.must(base, &charge("automatic")).await;
                assert_eq!(
                    refused.status, 404,
                    "a revoked method is charged: {refused:?}"
                );
                return unasked;
            }
            Self::ConfirmPaid
            | Self::Approved
            | Self::Charge
            | Self::Authorize
            | Self::Capture
            | Self::Void
            | Self::Refund => return unasked,
        }
        world.must(base, &charge("automatic")).await;
        unasked
    }
}

fn begin(place: &str, paid: bool) -> Call {
    let mut body = json!({
        "account": ACCOUNT,
        "provider": if place == ONE_CALL { "paypal" } else { place },
        "return_url": RETURN_URL,
    });
    if paid {
        body["amount"] = json!({ "currency": "CHF", "minor": AMOUNT });
        body["reference"] = json!("invoice-17");
    }
    Call::post("/v1/setups", "begin", &body)
}

/// The page to which an answer sends the customer, if it is not the shop's own.
fn page_of(answer: &Answer) -> Option<String> {
    let body = answer.json();
    match body["redirect_url"].as_str() {
        Some(page) => Some(page.to_owned()),
        None => (answer.status == 303 && !is_at_the_shop(answer)).then(|| answer.text.clone()),
    }
}

fn is_at_the_shop(answer: &Answer) -> bool {
    answer.text.starts_with(RETURN_URL)
}

/// The customer agrees at a page; gives the call of the browser that comes back.
async fn press(world: &World, page: &str) -> Call {
    Call::get(world.press(page, "approve").await)
}

/// The customer agrees at a page and at the one to which the visit leads on; gives the way back to
/// the shop.
async fn visit(world: &World, base: &str, mut page: String) -> Answer {
    for _ in 0..MAX_PAGES {
        let to = world.must(base, &press(world, &page).await).await;
        if is_at_the_shop(&to) {
            return to;
        }
        page = page_of(&to).unwrap_or_else(|| panic!("neither a page nor the shop: {to:?}"));
    }
    panic!("too many pages, the last is {page}")
}

/// The id of the link that answers speak of.
pub(crate) fn setup_of(answers: &[Answer]) -> Option<String> {
    let of = |answer: &Answer| {
        let body = answer.json();
        let of_body = body["id"].as_str().filter(|id| id.starts_with("set_"));
        let (_, query) = answer.text.split_once("?setup=").unzip();
        let of_query = query.and_then(|query| query.split('&').next());
        of_body.or(of_query).map(str::to_owned)
    };
    answers.iter().find_map(of)
}

/// The link, as the service tells it.
pub(crate) async fn setup(world: &World, base: &str, id: &str) -> Value {
    let path = format!("/v1/setups/{id}");
    world.must(base, &Call::get(path)).await.json()
}

/// A charge of the account's default method.
pub(crate) fn charge(capture: &str) -> Call {
    charge_as(capture, "pay", "invoice-17")
}

pub(crate) fn charge_as(capture: &str, key: &str, reference: &str) -> Call {
    let body = json!({
        "account": ACCOUNT,
        "amount": { "currency": "CHF", "minor": AMOUNT },
        "reference": reference,
        "capture": capture,
        "initiator": "merchant",
    });
    Call::post("/v1/payments", key, &body)
}

/// A charge of the account's default method, with the customer present.
fn present() -> Call {
    let mut call = charge("automatic");
    let mut body: Value = serde_json::from_str(&call.body).unwrap();
    body["initiator"] = json!("customer");
    body["return_url"] = json!(RETURN_URL);
    call.body = body.to_string();
    call
}

/// A charge that succeeds at once; gives its id.
async fn pay(world: &World, base: &str, capture: &str) -> String {
    let paid = world.must(base, &charge(capture)).await;
    assert_eq!(paid.status, 201, "{paid:?}");
    paid.json()["id"].as_str().unwrap().to_owned()
}

fn part() -> Value {
    json!({ "account": ACCOUNT, "amount": { "currency": "CHF", "minor": PART } })
}

/// The account's payments, as the service tells them.
pub(crate) async fn payments(world: &World, base: &str) -> Vec<Value> {
    list(world, base, format!("/v1/payments?account={ACCOUNT}")).await
}

/// The account's methods, as the service tells them.
pub(crate) async fn methods(world: &World, base: &str) -> Vec<Value> {
    list(
        world,
        base,
        format!("/v1/accounts/{ACCOUNT}/payment-methods"),
    )
    .await
}

async fn list(world: &World, base: &str, path: String) -> Vec<Value> {
    let list = world.must(base, &Call::get(path)).await.json();
    // An account that was never linked is not known.
    list["data"].as_array().cloned().unwrap_or_default()
}
