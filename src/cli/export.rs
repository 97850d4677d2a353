//! `export`: the provider tokens, in a file that only its recipient can open.

use std::path::{Path, PathBuf};

use clap::Args;

use cardless::exchange::transfer::MAX_RECORDS;
use cardless::exchange::{PublicKey, Usage};
use cardless::gateway::{ExportPart, ExportReport, Gateway, TokenExport};

use super::client::read_keys;
use super::partial::{PARTIAL, Partial};
use super::progress::Progress;
use super::{Context, Failure, Outcome, Providers, note, say, say_json};

/// The arguments of `export`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The file to write: made readable by its owner only, and never in the place of another. Until
    /// it is whole it is FILE.partial; one that was interrupted goes on, within a day, when it is run
    /// again with the same arguments.
    #[arg(required_unless_present = "print_keys")]
    file: Option<PathBuf>,
    /// The recipient's public key: a file with a JWK, a JWK set or a PEM. Make sure that it is
    /// theirs: whoever has the private half can open the file.
    #[arg(long, value_name = "KEY", required_unless_present = "print_keys")]
    recipient: Option<PathBuf>,
    /// Begin behind this place, which the export before has named.
    #[arg(long, value_name = "PLACE")]
    after: Option<String>,
    /// How many tokens at most.
    #[arg(long, value_name = "TOKENS", default_value_t = MAX_RECORDS)]
    limit: u64,
    /// Print this installation's public keys, by which the recipient verifies the file, and end.
    #[arg(long, conflicts_with_all = ["file", "recipient", "after", "limit"])]
    print_keys: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Outcome {
    let (Some(file), Some(recipient)) = (&arguments.file, &arguments.recipient) else {
        return print_keys(context).await;
    };
    let recipient = recipient_of(public_keys(recipient)?)?;
    let gateway = context.open(&context.settings()?, Providers::Needed)?;
    let part = ExportPart {
        after: arguments.after,
        limit: arguments.limit,
    };
    part.check(&recipient)?;
    let mut to = Partial::begin(file, PARTIAL)?;
    // Before the first token is opened: whoever finds that it is another key can still stop it.
    note(format_args!(
        "{} is sealed to {}",
        file.display(),
        recipient.thumbprint()
    ));
    let mut export = begin(&gateway, &mut to, &recipient, &part).await?;
    let mut progress = Progress::new("methods looked at", gateway.count_payment_methods().await?);
    progress.at(export.seen());
    while let Some(line) = export.next().await? {
        to.add(&line, &export.mark()?)?;
        progress.at(export.seen());
    }
    to.finish()?;
    progress.end();
    let report = export.finish().await?;
    if arguments.json {
        say_json(&report)?;
    } else {
        print(&report)?;
    }
    if report.left_out.unopened == 0 {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "{} records do not open with the keys of this installation and are not in the file",
        report.left_out.unopened
    )))
}

/// Goes on with what is left of the file, or begins it.
async fn begin(
    gateway: &Gateway,
    to: &mut Partial,
    recipient: &PublicKey,
    part: &ExportPart,
) -> Result<TokenExport, Failure> {
    if let Some(left) = to.left()? {
        let resumed = gateway.resume_export(recipient, part, left).await?;
        if let Some((export, bytes)) = resumed {
            to.go_on(bytes)?;
            note(format_args!(
                "{} was begun at {}, and goes on behind its {} tokens",
                to.name(),
                export.begun_at(),
                export.records()
            ));
            return Ok(export);
        }
        note(format_args!(
            "{} begins anew: it is no part of this file that could go on, or not all that is in it may \
             be handed out any more",
            to.name()
        ));
    }
    to.begin_anew()?;
    Ok(gateway.export_tokens(recipient, part).await?)
}

/// This installation's public keys: what others seal to, and verify by.
pub(super) async fn print_keys(context: &Context) -> Outcome {
    let gateway = context.open(&context.settings()?, Providers::Unused)?;
    say_json(&gateway.exchange_keys().await?)
}

/// The public keys in a file.
pub(super) fn public_keys(file: &Path) -> Result<Vec<PublicKey>, Failure> {
    PublicKey::read_all(&read_keys(file)?)
        .map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))
}

/// The first key that is for this alone, else the first that may be used for it.
fn recipient_of(keys: Vec<PublicKey>) -> Result<PublicKey, Failure> {
    let alone = keys.iter().find(|key| key.usage() == Usage::Seal);
    let found = alone.or_else(|| keys.iter().find(|key| key.usage().seals()));
    found.cloned().ok_or_else(|| {
        Failure::Usage("none of the recipient's keys is for sealing (`use` enc)".to_owned())
    })
}

fn print(report: &ExportReport) -> Outcome {
    let left_out = &report.left_out;
    say(format_args!("export       {}", report.export))?;
    say(format_args!("sealed to    {}", report.recipient))?;
    say(format_args!("signed by    {}", report.sender_kid))?;
    say(format_args!("sha256       {}", report.sha256))?;
    say(format_args!("begun        {}", report.begun_at))?;
    say(format_args!("tokens       {}", report.records))?;
    for (count, what) in [
        (left_out.restricted, "of restricted accounts"),
        (left_out.suspended, "that their provider calls unusable"),
        (
            left_out.provider_not_set_up,
            "at providers that are not set up here",
        ),
        (left_out.unopened, "that do not open"),
    ] {
        if count > 0 {
            say(format_args!("left out     {count} {what}"))?;
        }
    }
    if report.linked_since {
        say(
            "Methods were linked since it was begun, or the clock was set, so that nobody can tell. They are \
             not in it: write another file once none is linked any more.",
        )?;
    }
    if let Some(more) = &report.more {
        say(format_args!(
            "there may be more: the next file is written with --after {more}"
        ))?;
    }
    say(
        "The recipient verifies it by the keys that `cardless export --print-keys` shows: give them \
         on another way than the file.",
    )
}
