use serde_json::{Value, json};

use crate::world::{ACCOUNT, Answer, Call, Service, World};

/// The three providers, as callers write them.
pub(crate) const PROVIDERS: [&str; 3] = ["postfinance", "paypal", "aduno"];

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
}

impl Operation {
    pub(crate) const ALL: [Self; 8] = [
        Self::Begin,
        Self::Complete,
        Self::Charge,
        Self::Authorize,
        Self::Capture,
        Self::Void,
        Self::Refund,
        Self::Revoke,
    ];

    /// How it ends if nothing is given up.
    pub(crate) const fn success(self) -> &'static str {
        match self {
            Self::Begin => "active",
            Self::Complete => "completed",
            Self::Charge => "captured",
            Self::Authorize => "authorized",
            Self::Capture => "captured, capture succeeded",
            Self::Void => "voided, void succeeded",
            Self::Refund => "captured, refund succeeded",
            Self::Revoke => "revoked",
        }
    }

    /// Everything that comes before the operation, and the call that begins it.
    pub(crate) async fn prepare(self, world: &World, service: &Service, provider: &str) -> Call {
        let base = &service.base;
        let begin = begin(provider);
        if self == Self::Begin {
            return begin;
        }
        let setup = world.must(base, &begin).await.json();
        let page = setup["redirect_url"].as_str().unwrap();
        let back = Call::get(world.press(page, "approve").await);
        if self == Self::Complete {
            return back;
        }
        let linked = world.must(base, &back).await;
        assert!(linked.text.ends_with("status=completed"), "{linked:?}");
        match self {
            Self::Begin | Self::Complete | Self::Charge => charge("automatic"),
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
    /// it still waits, and what is linked is charged. The last answer to `call` says how the link
    /// stands.
    pub(crate) async fn finish(self, world: &World, service: &Service, call: &Call, last: &Answer) {
        let base = &service.base;
        match self {
            Self::Begin => {
                let page = last.json()["redirect_url"].as_str().map(str::to_owned);
                let Some(page) = page else { return };
                let back = Call::get(world.press(&page, "approve").await);
                let linked = world.must(base, &back).await;
                assert!(linked.text.ends_with("status=completed"), "{linked:?}");
            }
            Self::Complete => drop(world.must(base, call).await),
            Self::Revoke => {
                let refused = world.must(base, &charge("automatic")).await;
                assert_eq!(
                    refused.status, 404,
                    "a revoked method is charged: {refused:?}"
                );
                return;
            }
            Self::Charge | Self::Authorize | Self::Capture | Self::Void | Self::Refund => return,
        }
        world.must(base, &charge("automatic")).await;
    }
}

fn begin(provider: &str) -> Call {
    let body = json!({
        "account": ACCOUNT, "provider": provider, "return_url": "https://shop.example/back",
    });
    Call::post("/v1/setups", "begin", &body)
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
