//! Which calls of a provider the sandbox's faults have really struck, and what became of them. A fault
//! that is set says nothing: it may wait in vain, and a closed port strikes whatever call is next.

use cardless_sandbox::{Fault, FaultKind, Operation, Provider, Sandbox};
use cardless_transport::{InProcessServer, Reply, Request};
use http::Method;

use crate::plan::{OPERATIONS, PROVIDERS};
use crate::seam::Seam;

/// What a fault has made of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// It was carried out, and its answer was lost.
    AnswerLost,
    /// It was not carried out, and nobody was told so.
    NotCarriedOut,
    /// It was answered: the provider declines, or keeps it pending.
    Answered,
}

/// A call that a fault has struck.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Strike {
    pub(crate) provider: Provider,
    /// What the plan calls the call.
    pub(crate) operation: &'static str,
    pub(crate) kind: FaultKind,
}

/// A provider of the sandbox that tells the seam which calls are struck.
#[derive(Debug, Clone)]
pub(crate) struct Witness {
    pub(crate) seam: Seam,
    pub(crate) sandbox: Sandbox,
    pub(crate) provider: Provider,
}

/// What the plan has no name for.
pub(crate) const NAMELESS: &str = "a call that the plan has no name for";

impl Effect {
    pub(crate) const ALL: [Self; 3] = [Self::AnswerLost, Self::NotCarriedOut, Self::Answered];

    pub(crate) const fn of(kind: FaultKind) -> Self {
        match kind {
            FaultKind::Refuse | FaultKind::DropBefore | FaultKind::Stall => Self::NotCarriedOut,
            FaultKind::ExecuteThenDrop | FaultKind::ExecuteThen500 | FaultKind::HalfBody => {
                Self::AnswerLost
            }
            FaultKind::Decline | FaultKind::Pending => Self::Answered,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::AnswerLost => "answer_lost",
            Self::NotCarriedOut => "not_carried_out",
            Self::Answered => "answered",
        }
    }
}

impl InProcessServer for Witness {
    fn serve(&self, request: Request) -> Reply {
        let waited = self.sandbox.waiting_faults();
        let operation = named(self.provider, request.method(), request.uri().path());
        let reply = self.sandbox.serve_call(self.provider, request);
        if let Some(kind) = taken(&waited, &self.sandbox.waiting_faults()) {
            self.seam.struck(Strike {
                provider: self.provider,
                operation,
                kind,
            });
        }
        reply
    }
}

/// The fault that has befallen one call more than before.
fn taken(before: &[Fault], after: &[Fault]) -> Option<FaultKind> {
    let changed = before
        .iter()
        .enumerate()
        .find(|(index, fault)| after.get(*index) != Some(fault));
    changed.map(|(_, fault)| fault.fault)
}

/// What the plan calls a call: of the names that fit the one that says most.
fn named(provider: Provider, method: &Method, path: &str) -> &'static str {
    let all = PROVIDERS.into_iter().zip(OPERATIONS);
    let fits = |name: &str| {
        let operation: Result<Operation, _> = name.parse();
        operation.is_ok_and(|operation| operation.matches(method, path))
    };
    all.filter(|(name, _)| *name == provider.name())
        .flat_map(|(_, names)| names.iter().copied())
        .filter(|name| fits(name))
        .max_by_key(|name| name.len())
        .unwrap_or(NAMELESS)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::output::Output;
    use crate::world::World;

    /// A fault of one operation strikes what it strikes: a closed port the next call, whatever it is.
    #[test]
    fn what_is_struck_is_the_call_that_came() {
        let world = World::new(1, Output::default()).unwrap();
        let inject = |kind: &str| {
            let fault = serde_json::json!({
                "provider": "paypal", "operation": "POST /v2/payments/captures/*/refund",
                "times": 2, "fault": kind,
            });
            let fault = serde_json::from_value(fault).unwrap();
            world.sandbox.inject(fault).unwrap();
        };
        let witness = Witness {
            seam: world.seam.clone(),
            sandbox: world.sandbox.clone(),
            provider: Provider::PayPal,
        };
        let call = |path: &str| {
            let request = http::Request::post(format!("http://127.0.0.1:9101{path}"));
            drop(witness.serve(request.body(Bytes::new()).unwrap()));
        };
        inject("execute_then_drop");
        call("/v2/checkout/orders");
        assert_eq!(world.seam.strikes(), []);
        inject("refuse");
        call("/v2/checkout/orders");
        call("/v1/a-path-without-a-name");
        call("/v2/payments/captures/5C/refund");
        let strike = |operation, kind| Strike {
            provider: Provider::PayPal,
            operation,
            kind,
        };
        let refund = "POST /v2/payments/captures/*/refund";
        assert_eq!(
            world.seam.strikes(),
            [
                strike("POST /v2/checkout/orders", FaultKind::Refuse),
                strike(NAMELESS, FaultKind::Refuse),
                strike(refund, FaultKind::ExecuteThenDrop),
            ]
        );
    }

    #[test]
    fn a_call_has_the_name_that_says_most() {
        for (provider, path, name) in [
            (
                Provider::PayPal,
                "/v2/checkout/orders",
                "POST /v2/checkout/orders",
            ),
            (
                Provider::PayPal,
                "/v2/checkout/orders/5O/capture",
                "POST /v2/checkout/orders/*",
            ),
            (Provider::PayPal, "/v2/else", "POST /v2"),
            (Provider::Aduno, "/v1/transactions", "POST /v1/transactions"),
            (
                Provider::Aduno,
                "/v1/transactions/12/settle",
                "POST /v1/transactions/*/settle",
            ),
            (Provider::Aduno, "/v2/checkout/orders", NAMELESS),
        ] {
            assert_eq!(named(provider, &Method::POST, path), name);
        }
    }
}
