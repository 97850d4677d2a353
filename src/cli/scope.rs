//! `scope`: evidence for the PCI review, from the running system; and `--scan`, the card-number net
//! over files and dumps.

mod scan;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use cardless::scope::{
    Build, Changes, Earlier, MAX_REPORT_BYTES, Report, SCHEMA, SettingsFacts, Sources, probe,
    software,
};
use cardless::serve;

use super::progress::Progress;
use super::{Context, Failure, Outcome, Providers, say, say_json};

/// What `scope` takes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How the report is printed.
    #[arg(long, value_enum, default_value_t = Format::Md)]
    format: Format,
    /// Print only the statements that do not hold. Exit code 1 if there is one.
    #[arg(long, group = "instead")]
    prove: bool,
    /// Say what has changed since this report, which `--format json` has printed. Exit code 1 if
    /// that is not as this installation made it, or if the audit log has lost what it had then.
    #[arg(long, value_name = "FILE", group = "instead")]
    against: Option<PathBuf>,
    /// Say whether this report is as this installation made it. Exit code 1 if it is not.
    #[arg(long, value_name = "FILE", group = "instead")]
    check: Option<PathBuf>,
    /// First open one TLS connection to each host beyond this machine, ask nothing, and keep in the
    /// audit log what was agreed on.
    #[arg(long, conflicts_with_all = ["check", "schema", "scan"])]
    probe: bool,
    /// Plant a test card number at every door, look what becomes of it, and write that into the audit
    /// log. Exit code 1 if it was taken anywhere.
    #[arg(long, group = "instead")]
    drill: bool,
    /// Print what is linked into this program, as a CycloneDX document.
    #[arg(long, group = "instead")]
    sbom: bool,
    /// Print the JSON Schema of the report.
    #[arg(long, group = "instead")]
    schema: bool,
    /// Look for card numbers in these files, in every file of these folders, and in standard input
    /// for `-`. Exit code 1 if there is one, or if something can't be read.
    #[arg(long, num_args = 1.., value_name = "FILE", group = "instead", conflicts_with = "format")]
    scan: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// Whether a test number is to be planted.
    pub(super) const fn is_a_drill(&self) -> bool {
        self.drill
    }
}

/// How the report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// JSON, for programs.
    Json,
    /// Markdown, for people.
    Md,
    /// One HTML page, for a browser and for paper.
    Html,
}

pub(super) async fn run(context: &Context, arguments: &Arguments) -> Outcome {
    if !arguments.scan.is_empty() {
        return scan::run(&arguments.scan, arguments.json);
    }
    if arguments.drill {
        return super::drill::run(context, arguments.json).await;
    }
    if arguments.sbom {
        return say(software::printed(&software::sbom()?).trim_end());
    }
    if arguments.schema {
        return say(SCHEMA.trim_end());
    }
    // Before anything long begins.
    let earlier = arguments.against.as_deref().map(read).transpose()?;
    let sources = sources(context)?;
    if let Some(path) = &arguments.check {
        return check(&sources, path, arguments.json);
    }
    if arguments.probe {
        let (hosts, agreed) = probe(&sources).await?;
        tracing::info!(hosts, agreed, "each host was asked for a handshake");
    }
    let report = report(&sources).await?;
    if let Some(earlier) = earlier {
        let changes = earlier.compare(&sources.gateway, &report).await?;
        return against(&changes, arguments.json);
    }
    if arguments.prove {
        return prove(&report, arguments.json);
    }
    match arguments.format {
        Format::Md if !arguments.json => say(report.to_markdown()),
        Format::Html if !arguments.json => say(report.to_html()),
        Format::Json | Format::Md | Format::Html => say_json(&report),
    }
}

/// What the report is made from. No provider is asked.
fn sources(context: &Context) -> Result<Sources, Failure> {
    let settings = context.settings()?;
    Ok(Sources {
        gateway: context.open(&settings, Providers::Shown)?,
        settings: Some(SettingsFacts::of(&settings)),
        doors: serve::doors(),
        build: Build::of_process(),
    })
}

async fn report(sources: &Sources) -> Result<Report, Failure> {
    let mut progress: Option<Progress> = None;
    let report = Report::of(sources, |done, all| {
        let progress = progress.get_or_insert_with(|| Progress::new("columns", all));
        progress.at(done);
    });
    let report = report.await?;
    if let Some(progress) = progress {
        progress.end();
    }
    Ok(report)
}

fn prove(report: &Report, json: bool) -> Outcome {
    let failed: Vec<_> = report.failed().collect();
    if json {
        say_json(&failed)?;
    } else {
        for statement in &failed {
            let claim = &statement.claim;
            say(format_args!("{} does not hold: {}", claim.id, claim.says))?;
            for fault in &statement.faults {
                say(format_args!("  {fault}"))?;
            }
        }
    }
    let all = report.statements().count();
    if failed.is_empty() {
        return if json {
            Ok(())
        } else {
            say(format_args!("all {all} statements hold"))
        };
    }
    Err(Failure::Failed(format!(
        "{} of {all} statements do not hold; find out how that came about before anything else",
        failed.len()
    )))
}

fn against(changes: &Changes, json: bool) -> Outcome {
    if json {
        say_json(changes)?;
    } else {
        for change in &changes.changes {
            say(change)?;
        }
        say(format_args!(
            "{} changes since {}",
            changes.count, changes.since
        ))?;
    }
    if !changes.genuine {
        return Err(Failure::Failed(NOT_GENUINE.to_owned()));
    }
    if changes.audit_log_has_lost() {
        return Err(Failure::Failed(
            "the audit log has lost what it had when that report was made; `cardless audit verify` \
             says more"
                .to_owned(),
        ));
    }
    Ok(())
}

fn check(sources: &Sources, path: &Path, json: bool) -> Outcome {
    let earlier = read(path)?;
    let genuine = earlier.is_genuine(&sources.gateway);
    let (made_at, digest) = (earlier.made_at(), earlier.digest());
    if json {
        say_json(&serde_json::json!({ "genuine": genuine, "made_at": made_at, "digest": digest }))?;
    } else if genuine {
        say(format_args!(
            "this installation made it at {made_at}, and nothing of it was changed; SHA-256 {digest}"
        ))?;
    }
    if genuine {
        return Ok(());
    }
    Err(Failure::Failed(NOT_GENUINE.to_owned()))
}

/// What is said of a report whose signature does not hold.
const NOT_GENUINE: &str = "the report is not as this installation made it: it was changed, or another \
                           installation or another key file has made it";

fn read(path: &Path) -> Result<Earlier, Failure> {
    let failed = |why: &dyn std::fmt::Display| {
        Failure::Usage(format!("the report {}: {why}", path.display()))
    };
    let mut text = String::new();
    let file = File::open(path).map_err(|error| failed(&error))?;
    file.take(MAX_REPORT_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| failed(&error))?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_REPORT_BYTES {
        return Err(failed(&format_args!(
            "it is larger than {MAX_REPORT_BYTES} bytes"
        )));
    }
    Earlier::parse(&text).map_err(|error| failed(&error))
}
