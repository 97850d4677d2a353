//! The verbs, one file each, and what they share.

mod account;
mod audit;
mod check;
mod client;
mod clock;
#[cfg(feature = "sandbox")]
mod demo;
mod drill;
mod dump;
mod duration;
mod event;
mod export;
mod import;
mod init;
mod log;
mod partial;
mod payment;
mod private;
mod progress;
mod reconcile;
mod reload;
mod rotate;
#[cfg(feature = "sandbox")]
mod sandbox;
mod scope;
mod serve;

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use cardless_contract::{Clock, SystemEntropy};
use clap::{Parser, Subcommand};
use comfy_table::Table;
use serde::Serialize;
use tracing::level_filters::LevelFilter;

use cardless::config::{DEFAULT_FILE, Environment, Settings, SettingsError};
use cardless::error::{Causes, Code, Error};
use cardless::gateway::{Actor, Gateway};
use cardless::registry;
use cardless::vault::KeyRing;

/// Charges accounts at PostFinance, PayPal and Aduno, and never holds a card.
#[derive(Debug, Parser)]
#[command(name = "cardless", version, arg_required_else_help = true)]
#[command(
    after_help = "Every setting can be overridden: CARDLESS__SERVICE__LISTEN=127.0.0.1:9000. \
                        RUST_LOG sets the log level. Exit codes: 0 success, 1 failure, \
                        2 wrong use or settings."
)]
struct Cli {
    /// The settings file [default: cardless.toml].
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write a commented cardless.toml and a key file; never overwrites.
    Init,
    /// Run the service.
    Serve,
    /// Ask store, keys and each provider one harmless question, and show what works.
    Check(check::Arguments),
    /// Make, list and revoke the API keys of the service's clients.
    #[command(subcommand)]
    Client(client::Command),
    /// Drive everything whose outcome is open now, or compare the books with the providers'.
    Reconcile(reconcile::Arguments),
    /// What is kept of an account.
    #[command(subcommand)]
    Account(account::Command),
    /// Payments: what happened, what a person must look at, and how it ends.
    #[command(subcommand)]
    Payment(payment::Command),
    /// Events: what has become true, and what of it could not be delivered.
    #[command(subcommand)]
    Event(event::Command),
    /// Replace keys and handles while payments go on, and show how far it is.
    #[command(subcommand)]
    Rotate(rotate::Command),
    /// Take in provider tokens from a file that is sealed to this installation. Exit code 1 if any
    /// record is refused.
    Import(import::Arguments),
    /// Write the provider tokens to a file that only its recipient can open.
    Export(export::Arguments),
    /// Evidence for the PCI review, from the running system; card numbers in files and dumps.
    Scope(scope::Arguments),
    /// The audit log: who did what, and whether anybody has tampered with it.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Run the three providers on loopback, for development and tests.
    #[cfg(feature = "sandbox")]
    Sandbox(sandbox::Arguments),
    /// Show all of it at once, on the sandbox and a store in a temporary folder.
    #[cfg(feature = "sandbox")]
    Demo(demo::Arguments),
}

/// Why a verb did not do what it was asked: what happened, to what, what to do next.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Wrong use or settings; exit code 2.
    Usage(String),
    /// It did not work; exit code 1.
    Failed(String),
}

/// The result of a verb.
type Outcome = Result<(), Failure>;

impl Failure {
    fn failed(error: impl fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }

    const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Failed(_) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) | Self::Failed(message) => f.write_str(message),
        }
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = format!("{error}{}", causes(&error));
        if error.code() == Code::InvalidField {
            return Self::Usage(message);
        }
        Self::Failed(message)
    }
}

/// What lies behind an error, in parentheses: a person must see which disk, not only that a store
/// failed.
fn causes(error: &dyn std::error::Error) -> String {
    let source = error.source();
    source.map_or_else(String::new, |source| format!(" ({})", Causes(source)))
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error)
    }
}

/// Runs the verb of the command line.
pub(crate) fn main() -> ExitCode {
    // clap answers wrong use itself, with exit code 2.
    let cli = Cli::parse();
    if let Err(error) = dump::forbid() {
        note(format_args!("core dumps can't be forbidden: {error}"));
    }
    log::start(log_level(&cli.verb));
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            note(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// How much is logged if `RUST_LOG` does not say. A verb prints its own result; the demo loses
/// replies on purpose and tells so itself.
fn log_level(verb: &Verb) -> LevelFilter {
    match verb {
        Verb::Serve => LevelFilter::INFO,
        #[cfg(feature = "sandbox")]
        Verb::Demo(_) => LevelFilter::ERROR,
        #[cfg(feature = "sandbox")]
        Verb::Sandbox(_) => LevelFilter::WARN,
        Verb::Init
        | Verb::Check(_)
        | Verb::Client(_)
        | Verb::Reconcile(_)
        | Verb::Account(_)
        | Verb::Payment(_)
        | Verb::Event(_)
        | Verb::Rotate(_)
        | Verb::Import(_)
        | Verb::Export(_)
        | Verb::Audit(_) => LevelFilter::WARN,
        // A drill sets off a hundred alarms, and counts them.
        Verb::Scope(arguments) if arguments.is_a_drill() => LevelFilter::ERROR,
        Verb::Scope(_) => LevelFilter::WARN,
    }
}

fn run(cli: Cli) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let context = Context {
        config: cli.config,
        environment: Environment::of_process(),
    };
    runtime.block_on(async {
        match cli.verb {
            Verb::Init => init::run(&context),
            Verb::Serve => serve::run(&context).await,
            Verb::Check(arguments) => check::run(&context, &arguments).await,
            Verb::Client(command) => client::run(&context, command).await,
            Verb::Reconcile(arguments) => reconcile::run(&context, &arguments).await,
            Verb::Account(command) => account::run(&context, command).await,
            Verb::Payment(command) => payment::run(&context, command).await,
            Verb::Event(command) => event::run(&context, command).await,
            Verb::Rotate(command) => rotate::run(&context, command).await,
            Verb::Import(arguments) => import::run(&context, arguments).await,
            Verb::Export(arguments) => export::run(&context, arguments).await,
            Verb::Scope(arguments) => scope::run(&context, &arguments).await,
            Verb::Audit(command) => audit::run(&context, command).await,
            #[cfg(feature = "sandbox")]
            Verb::Sandbox(arguments) => sandbox::run(&arguments).await,
            #[cfg(feature = "sandbox")]
            Verb::Demo(arguments) => demo::run(&arguments).await,
        }
    })
}

/// What every verb starts from.
#[derive(Debug, Clone)]
struct Context {
    config: Option<PathBuf>,
    environment: Environment,
}

/// Whether a verb asks the providers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Providers {
    /// It does, and one at least must be set.
    Needed,
    /// It shows how they are set up, if any is.
    Shown,
    /// It reads or changes the store only, so no provider's secret is needed.
    Unused,
}

impl Context {
    fn settings(&self) -> Result<Settings, Failure> {
        Ok(Settings::load(self.config.as_deref(), &self.environment)?)
    }

    /// Where the settings are, or will be.
    fn config(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(DEFAULT_FILE))
    }

    /// Opens the store (and migrates it if need be), the keys and, if needed, the providers.
    fn open(&self, settings: &Settings, providers: Providers) -> Result<Gateway, Failure> {
        let gateway = open(settings, providers, clock::clock(&self.environment)?)?;
        let login = self.login().unwrap_or("nobody");
        Ok(gateway.acting_as(Actor::command_line(login)))
    }

    /// The same, with the providers, each at the merchant that is in force.
    async fn open_at_providers(&self, settings: &Settings) -> Result<Gateway, Failure> {
        let gateway = self.open(settings, Providers::Needed)?;
        gateway.require_merchants().await?;
        Ok(gateway)
    }

    /// The name of the login, if there is one.
    fn login(&self) -> Option<&str> {
        let names = ["USER", "LOGNAME"].into_iter();
        let mut names = names.filter_map(|name| self.environment.get(name));
        names.find(|name| !name.is_empty())
    }
}

fn open(
    settings: &Settings,
    providers: Providers,
    clock: Arc<dyn Clock>,
) -> Result<Gateway, Failure> {
    let keys = KeyRing::from_custody(registry::custody(settings)?).map_err(|error| {
        Failure::Usage(format!(
            "the key file (setting `keys.file`) can't be used: {error}"
        ))
    })?;
    let store = registry::store(settings).map_err(|error| {
        Failure::Failed(format!(
            "the store {} (setting `store.url`) can't be opened: {error}{}",
            settings.store.url,
            causes(&error)
        ))
    })?;
    let mut builder = Gateway::builder()
        .public_url(&settings.service.public_url)
        .store(store)
        .keys(keys)
        .clock(clock.clone())
        .entropy(Arc::new(SystemEntropy));
    if providers != Providers::Unused {
        let adapters = registry::providers(settings, &clock)?;
        if adapters.is_empty() && providers == Providers::Needed {
            return Err(Failure::Usage(NO_PROVIDER.to_owned()));
        }
        for adapter in adapters {
            builder = builder.provider(adapter);
        }
        builder = registry::events(settings, builder)?;
    }
    Ok(builder.build()?)
}

/// What is said when no provider is set.
const NO_PROVIDER: &str = "no provider is set: add a table [providers.paypal], \
                           [providers.postfinance] or [providers.aduno] to the settings; \
                           `cardless init` writes a file that shows them";

/// Prints a line on standard output.
fn say(line: impl fmt::Display) -> Outcome {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}", harmless(&line.to_string()))?;
    Ok(stdout.flush()?)
}

/// Tells a person what is no result. Nobody is left to tell if stderr is closed.
fn note(line: impl fmt::Display) {
    drop(writeln!(std::io::stderr().lock(), "cardless: {line}"));
}

/// A text without what rewrites a terminal or turns its letters around: whoever can write to the
/// database chooses what a table or a client is called.
fn harmless(text: &str) -> String {
    let kept = |letter: char| match letter {
        '\n' | '\t' => letter,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            char::REPLACEMENT_CHARACTER
        }
        _ if letter.is_control() => char::REPLACEMENT_CHARACTER,
        _ => letter,
    };
    text.chars().map(kept).collect()
}

/// Prints a value as indented JSON.
fn say_json<T: Serialize>(value: &T) -> Outcome {
    say(serde_json::to_string_pretty(value).map_err(Failure::failed)?)
}

/// A table without lines, as a listing shows it.
fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(header.iter().copied());
    table
}
