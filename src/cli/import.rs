//! `import`: provider tokens from a file that is sealed to this installation.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use cardless::exchange::transfer::MAX_LINE_BYTES;
use cardless::gateway::{ImportReport, Refusal, TokenImport};

use super::export::{print_keys, public_keys};
use super::partial::{Partial, UNFINISHED};
use super::private::exists;
use super::progress::Progress;
use super::rotate::Throttle;
use super::{Context, Failure, Outcome, say, say_json};

/// How many refused records are printed for a person.
const MAX_SHOWN: usize = 20;

/// How many refused records stand in the JSON. `--report` has all.
const MAX_LISTED: usize = 1000;

/// The arguments of `import`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The file to read. Nothing is stored unless all of it is whole; one that was interrupted goes
    /// on when it is run again.
    #[arg(required_unless_present = "print_keys")]
    file: Option<PathBuf>,
    /// The sender's public keys: a file with a JWK, a JWK set or a PEM. Make sure that they are
    /// theirs: whoever has a private half can write such a file.
    #[arg(long, value_name = "KEY", required_unless_present = "print_keys")]
    sender: Option<PathBuf>,
    /// Check everything and store nothing.
    #[arg(long)]
    dry_run: bool,
    /// Write every refused record to a new FILE, one JSON object a line, never with a value. Until it
    /// is whole it is FILE.unfinished; one that was interrupted is begun anew.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    throttle: Throttle,
    /// Print this installation's public keys, to which the sender seals the file, and end.
    #[arg(long, conflicts_with_all = ["file", "sender", "dry_run", "report", "rate"])]
    print_keys: bool,
    /// Print JSON; of the refused records the first 1000.
    #[arg(long)]
    json: bool,
}

/// A file that is read line by line, twice.
struct Lines {
    file: BufReader<File>,
    name: String,
    line: Vec<u8>,
    /// How many bytes were read so far.
    read: u64,
}

/// Where refused records go.
struct Refusals {
    file: Option<Partial>,
    listed: Vec<Refusal>,
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    report: &'a ImportReport,
    refusals: &'a [Refusal],
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Outcome {
    let (Some(file), Some(sender)) = (&arguments.file, &arguments.sender) else {
        return print_keys(context).await;
    };
    let senders = public_keys(sender)?;
    let mut lines = Lines::open(file)?;
    if let Some(report) = &arguments.report
        && report.symlink_metadata().is_ok()
    {
        return Err(exists(report));
    }
    let gateway = context.open_at_providers(&context.settings()?).await?;
    let mut check = gateway.import_tokens(&senders).await?;
    let mut progress = Progress::new("bytes of the file verified", lines.length()?);
    while let Some(line) = lines.next()? {
        check.line(line).await?;
        progress.at(lines.read);
    }
    progress.end();
    let mut progress = Progress::new("tokens compared", gateway.count_payment_methods().await?);
    let import = check
        .compare(arguments.dry_run, |done| progress.at(done))
        .await?;
    progress.end();
    let mut refusals = Refusals::to(arguments.report.as_deref())?;
    lines.rewind()?;
    let report = store(import, lines, &mut refusals, arguments.throttle).await?;
    let listed = refusals.end()?;
    tell(&report, &listed, arguments.json)?;
    if report.refused == 0 {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "{} of {} records were refused",
        report.refused, report.records
    )))
}

/// The second reading.
async fn store(
    mut import: TokenImport,
    mut lines: Lines,
    refusals: &mut Refusals,
    throttle: Throttle,
) -> Result<ImportReport, Failure> {
    let (_, total) = import.done();
    let mut progress = Progress::new("records dealt with", total);
    let mut pace = throttle.pace();
    let mut before = 0;
    loop {
        pace.batch(u32::MAX);
        let Some(line) = lines.next()? else { break };
        for refusal in import.line(line).await? {
            refusals.add(refusal)?;
        }
        let (done, _) = import.done();
        progress.at(done);
        pace.wait(u32::try_from(done - before).unwrap_or(u32::MAX))
            .await;
        before = done;
    }
    progress.end();
    Ok(import.finish().await?)
}

fn tell(report: &ImportReport, refusals: &[Refusal], json: bool) -> Outcome {
    if json {
        return say_json(&Told { report, refusals });
    }
    say(format_args!(
        "export       {}, from {}, of {}",
        report.export, report.from, report.issued_at
    ))?;
    say(format_args!("signed by    {}", report.sender))?;
    say(format_args!("sha256       {}", report.sha256))?;
    say(format_args!("records      {}", report.records))?;
    let imported = if report.dry_run {
        "would come  "
    } else {
        "imported    "
    };
    say(format_args!("{imported} {}", report.imported))?;
    say(format_args!("already here {}", report.already_here))?;
    say(format_args!("refused      {}", report.refused))?;
    for refusal in refusals.iter().take(MAX_SHOWN) {
        say(format_args!(
            "line {}, record {}: {} {} ({})",
            refusal.line,
            refusal.record,
            refusal.field,
            refusal.rule.says(),
            refusal.rule.as_str()
        ))?;
    }
    if report.refused > u64::try_from(MAX_SHOWN).unwrap_or(u64::MAX) {
        say("and others: --report FILE writes all of them")?;
    }
    Ok(())
}

impl Lines {
    fn open(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| unread(&name, &error))?;
        Ok(Self {
            file: BufReader::new(file),
            name,
            line: Vec::new(),
            read: 0,
        })
    }

    fn length(&self) -> Result<u64, Failure> {
        let metadata = self.file.get_ref().metadata();
        Ok(metadata.map_err(|error| unread(&self.name, &error))?.len())
    }

    /// The next line with its line feed, and of one that is too long no more than shows that it is.
    fn next(&mut self) -> Result<Option<&[u8]>, Failure> {
        self.line.clear();
        let limit = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX);
        let mut part = (&mut self.file).take(limit.saturating_add(1));
        let read = part.read_until(b'\n', &mut self.line);
        let read = read.map_err(|error| unread(&self.name, &error))?;
        self.read += u64::try_from(read).unwrap_or(0);
        Ok((read > 0).then_some(self.line.as_slice()))
    }

    /// The same file from its beginning, whatever stands in its place by now.
    fn rewind(&mut self) -> Outcome {
        let rewound = self.file.rewind();
        rewound.map_err(|error| unread(&self.name, &error))
    }
}

impl Refusals {
    /// What an import that was killed has left of its report is begun anew: this one refuses it again.
    fn to(report: Option<&Path>) -> Result<Self, Failure> {
        let begin = |report| Partial::begin(report, UNFINISHED);
        let mut file = report.map(begin).transpose()?;
        if let Some(file) = &mut file {
            file.begin_anew()?;
        }
        Ok(Self {
            file,
            listed: Vec::new(),
        })
    }

    fn add(&mut self, refusal: Refusal) -> Outcome {
        if self.listed.len() < MAX_LISTED {
            self.listed.push(refusal);
        }
        if let Some(file) = &mut self.file {
            let line = serde_json::to_string(&refusal).map_err(Failure::failed)?;
            file.add(&(line + "\n"), "")?;
        }
        Ok(())
    }

    /// Puts the report into its place; gives those that are listed.
    fn end(self) -> Result<Vec<Refusal>, Failure> {
        if let Some(file) = self.file {
            file.finish()?;
        }
        Ok(self.listed)
    }
}

fn unread(name: &str, error: &std::io::Error) -> Failure {
    Failure::Usage(format!("{name} can't be read: {error}"))
}
