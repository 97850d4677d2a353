//! The contract suite: every adapter, on its stub and on the sandbox.
#![expect(clippy::unwrap_used, reason = "what can't be set up fails the test")]

mod adapters;
mod around;
mod called;
mod honesty;
mod notified;
mod sandboxed;
mod stubbed;

use cardless_sandbox::Provider;
use cardless_testkit::contract_suite;
use cardless_testkit::judge::Judge;

contract_suite!(postfinance_on_stub, stub, crate::stubbed::postfinance());
contract_suite!(paypal_vault_on_stub, stub, crate::stubbed::paypal_vault());
contract_suite!(
    paypal_agreement_on_stub,
    stub,
    crate::stubbed::paypal_agreement()
);
contract_suite!(
    paypal_one_call_on_stub,
    stub,
    crate::stubbed::paypal_one_call()
);
contract_suite!(aduno_on_stub, stub, crate::stubbed::aduno());

contract_suite!(
    postfinance_on_sandbox,
    sandbox,
    crate::sandboxed::postfinance()
);
contract_suite!(
    paypal_vault_on_sandbox,
    sandbox,
    crate::sandboxed::paypal_vault()
);
contract_suite!(
    paypal_agreement_on_sandbox,
    sandbox,
    crate::sandboxed::paypal_agreement()
);
contract_suite!(aduno_on_sandbox, sandbox, crate::sandboxed::aduno());
contract_suite!(
    paypal_one_call_on_sandbox,
    sandbox,
    crate::sandboxed::paypal_one_call()
);

/// Without the published documents the suite still runs, and says that nothing was judged: whoever
/// makes a judge names what is not there, and fails where it is required.
#[test]
fn exchanges_are_judged_by_the_published_documents() {
    for provider in Provider::ALL {
        drop(Judge::for_provider(provider.name()));
    }
}
