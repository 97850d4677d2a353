//! `scope --scan`: the card-number net over files and dumps.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;

use cardless::pan::{self, Encoding, Scan};

use super::super::progress::Progress;
use super::super::{Failure, Outcome, say, say_json, table};

/// How many places are listed; all are counted.
const MAX_LISTED: usize = 10_000;

/// What is read from standard input is called so.
const STANDARD_INPUT: &str = "-";

/// What the scan came to.
#[derive(Debug, Default, Serialize)]
struct Report {
    files: u64,
    bytes: u64,
    found: u64,
    findings: Vec<Place>,
    unread: Vec<Unread>,
}

/// Where something passes for a card number; never the number.
#[derive(Debug, Serialize)]
struct Place {
    file: String,
    offset: u64,
    encoding: Encoding,
    rule: &'static str,
}

/// What could not be looked through.
#[derive(Debug, Serialize)]
struct Unread {
    file: String,
    error: String,
}

pub(super) fn run(paths: &[PathBuf], json: bool) -> Outcome {
    let mut report = Report::default();
    let files: Vec<PathBuf> = paths
        .iter()
        .flat_map(|path| report.files_of(path))
        .collect();
    // Of a pipe nobody knows how much comes.
    let pipe = files.iter().any(|file| file == Path::new(STANDARD_INPUT));
    let total = if pipe {
        0
    } else {
        files.iter().map(|file| size(file)).sum()
    };
    let mut progress = Progress::new("bytes", total);
    for file in &files {
        report.scan(file, &mut progress);
    }
    progress.end();
    if json {
        say_json(&report)?;
    } else {
        print(&report)?;
    }
    report.outcome()
}

impl Report {
    /// The file itself, or all files in a folder and in its folders. Links in a folder are not
    /// followed, and pipes and devices in it are passed over.
    fn files_of(&mut self, path: &Path) -> Vec<PathBuf> {
        if path == Path::new(STANDARD_INPUT) || !path.is_dir() {
            return vec![path.to_owned()];
        }
        let mut files = Vec::new();
        let mut folders = vec![path.to_owned()];
        while let Some(folder) = folders.pop() {
            if let Err(error) = list(&folder, &mut files, &mut folders) {
                self.unread(&folder, &error);
            }
        }
        files.sort_unstable();
        files
    }

    fn scan(&mut self, path: &Path, progress: &mut Progress) {
        let result = open(path).and_then(|reader| self.read(path, Scan::new(reader), progress));
        match result {
            Ok(()) => self.files += 1,
            Err(error) => self.unread(path, &error),
        }
    }

    fn read(
        &mut self,
        path: &Path,
        mut scan: Scan<Box<dyn Read>>,
        progress: &mut Progress,
    ) -> io::Result<()> {
        let before = self.bytes;
        while let Some(findings) = scan.step()? {
            self.bytes = before + scan.bytes();
            progress.at(self.bytes);
            for finding in findings {
                self.found += 1;
                if self.findings.len() < MAX_LISTED {
                    self.findings.push(Place {
                        file: name(path),
                        offset: finding.offset,
                        encoding: finding.encoding,
                        rule: finding.rule,
                    });
                }
            }
        }
        Ok(())
    }

    fn unread(&mut self, path: &Path, error: &io::Error) {
        self.unread.push(Unread {
            file: name(path),
            error: error.to_string(),
        });
    }

    fn outcome(&self) -> Outcome {
        match (self.found, self.unread.len()) {
            (0, 0) => Ok(()),
            (0, unread) => Err(Failure::Failed(format!("{unread} could not be read"))),
            (found, _) => Err(Failure::Failed(format!(
                "{found} found that pass for card numbers; look at each place, delete what is one, \
                 and find out how it came there"
            ))),
        }
    }
}

fn list(folder: &Path, files: &mut Vec<PathBuf>, folders: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            folders.push(entry.path());
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn open(path: &Path) -> io::Result<Box<dyn Read>> {
    if path == Path::new(STANDARD_INPUT) {
        return Ok(Box::new(io::stdin()));
    }
    Ok(Box::new(File::open(path)?))
}

fn size(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}

/// A file may be named after what must not be printed.
fn name(path: &Path) -> String {
    pan::withhold(&path.display().to_string()).into_owned()
}

fn print(report: &Report) -> Outcome {
    if !report.findings.is_empty() {
        let mut table = table(&["file", "offset", "encoding", "looks like"]);
        for place in &report.findings {
            table.add_row([
                place.file.clone(),
                place.offset.to_string(),
                place.encoding.as_str().to_owned(),
                place.rule.to_owned(),
            ]);
        }
        say(table)?;
    }
    for unread in &report.unread {
        say(format_args!("not read: {} ({})", unread.file, unread.error))?;
    }
    say(format_args!(
        "{} files, {} bytes: {} found that pass for card numbers",
        report.files, report.bytes, report.found
    ))
}
