//! `sandbox`: the three providers on loopback.

use std::net::SocketAddr;
use std::sync::Arc;

use cardless_contract::SystemClock;
use cardless_sandbox::{Addresses, Sandbox, Servers, print_settings};
use clap::Args;

use super::serve::Signals;
use super::{Failure, Outcome, say};

/// The arguments of `sandbox`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Where PayPal listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9101")]
    paypal: SocketAddr,
    /// Where PostFinance listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9102")]
    postfinance: SocketAddr,
    /// Where Aduno listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9103")]
    aduno: SocketAddr,
    /// Where the control calls listen: ledger, requests, faults, clock, webhooks, reset.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9100")]
    control: SocketAddr,
    /// Print the [providers.*] tables that fit these addresses, and end.
    #[arg(long)]
    print_settings: bool,
}

pub(super) async fn run(arguments: &Arguments) -> Outcome {
    let addresses = Addresses {
        paypal: arguments.paypal,
        postfinance: arguments.postfinance,
        aduno: arguments.aduno,
        control: arguments.control,
    };
    if arguments.print_settings {
        return say(print_settings(&addresses).trim_end());
    }
    let signals = Signals::new()?;
    let sandbox = Sandbox::new(Arc::new(SystemClock::default()));
    let running = Servers::start(sandbox, addresses).await.map_err(|error| {
        Failure::Failed(format!(
            "the sandbox can't listen: {error}; name free loopback addresses with --paypal, \
             --postfinance, --aduno and --control"
        ))
    })?;
    let addresses = running.addresses();
    say(format_args!("paypal       http://{}", addresses.paypal))?;
    say(format_args!(
        "postfinance  http://{}",
        addresses.postfinance
    ))?;
    say(format_args!("aduno        http://{}", addresses.aduno))?;
    say(format_args!("control      http://{}", addresses.control))?;
    signals.stop().await;
    running.shutdown().await;
    Ok(())
}
