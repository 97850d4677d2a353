//! The evidence for the PCI review, read from where the facts are. Nothing but the service and the
//! command line reads this.
//!
//! A report is made of sections, and these of statements. A statement says one thing of the running
//! system, names the requirement of PCI DSS v4.0.1 that it helps with, says how it was proven, and
//! carries what was found. It holds or it does not: nothing is said that was not looked at. What was
//! looked at earlier says when, and is stale beyond its limit. What the program can't know is a
//! question for a person.
//!
//! A report is signed with the audit key (`signature`), and can be compared with an earlier one
//! ([`Earlier`]). Its JSON has a schema ([`SCHEMA`]).

pub mod access;
mod against;
pub mod columns;
mod connections;
pub mod cryptography;
mod diagram;
pub mod drill;
mod flows;
mod html;
mod incidents;
mod logs;
mod markdown;
mod settings;
mod signature;
pub mod software;
mod sources;
mod stored;
mod tokens;
mod words;

use std::collections::BTreeMap;
use std::time::Duration;

use cardless_contract::Timestamp;
use serde::Serialize;

pub use against::{Change, Changes, Earlier, EarlierError, MAX_REPORT_BYTES};
pub use connections::probe;
#[cfg(feature = "serve")]
pub(crate) use html::POLICY as HTML_POLICY;
pub use settings::{BUILD, InForce, SETTINGS, SettingsFacts, noted};
pub use signature::Signature;
pub use sources::{Build, Door, Sources};

use crate::error::Error;
use crate::gateway::{AuditAction, AuditObject, MAX_SKEW};

/// The version of the report's shape as JSON. Members are only ever added under one version.
pub const REPORT_VERSION: u32 = 1;

/// The JSON Schema (2020-12) of a report.
pub const SCHEMA: &str = include_str!("report.schema.json");

/// What was found out, and when.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// When it was made.
    pub made_at: Timestamp,
    /// The program's version.
    pub program: &'static str,
    /// Which program exactly.
    pub build: Build,
    /// SHA-256 of the settings in force, without secrets; missing where a program that links the
    /// library has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings_digest: Option<String>,
    /// The last line of the audit log when this was made, as `COUNT:MAC`. A later report that is
    /// compared with this one tells whether the log still has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit_head: Option<String>,
    /// How many rows each table has.
    pub rows: BTreeMap<String, u64>,
    /// Whether every statement holds.
    pub holds: bool,
    /// The parts.
    pub sections: Vec<Section>,
    /// Over all of the above.
    pub signature: Signature,
}

/// A part of the report.
#[derive(Debug, Clone, Serialize)]
pub struct Section {
    /// What statements of it begin with, as `data`.
    pub id: &'static str,
    /// Its title.
    pub title: &'static str,
    /// What is said.
    pub statements: Vec<Statement>,
    /// Drawings; JSON leaves them out, since they show only what the tables say.
    #[serde(skip)]
    pub figures: Vec<Figure>,
    /// What only a person can answer.
    pub questions: Vec<Question>,
}

/// What is said, and how it is proven: the part of a statement that is the same in every report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Claim {
    /// Its name, for good, as `data-3`.
    pub id: &'static str,
    /// Requirements of PCI DSS v4.0.1 that it helps with.
    pub requirements: &'static [&'static str],
    /// What is said.
    pub says: &'static str,
    /// How it was proven.
    pub proof: &'static str,
}

/// One thing that is said of the running system, and what shows it.
#[derive(Debug, Clone, Serialize)]
pub struct Statement {
    /// What is said.
    #[serde(flatten)]
    pub claim: Claim,
    /// Whether that is so, and was looked at lately enough.
    pub holds: bool,
    /// Whether the evidence is older than its limit.
    pub stale: bool,
    /// When it was looked at, if that was before this report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Timestamp>,
    /// Why not; each names a place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
    /// What was found.
    pub evidence: Table,
}

/// What was found, as a table.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Table {
    /// What stands in each column.
    pub header: Vec<&'static str>,
    /// The rows.
    pub rows: Vec<Vec<String>>,
    /// The columns, from 0, that change all the time: counts and times. A comparison passes over
    /// them.
    #[serde(skip_serializing_if = "<[usize]>::is_empty")]
    pub moving: &'static [usize],
}

/// A drawing.
#[derive(Debug, Clone)]
pub struct Figure {
    /// What it shows.
    pub title: &'static str,
    /// The drawing, an `svg` element.
    pub svg: String,
}

/// What the program can't know.
#[derive(Debug, Clone, Serialize)]
pub struct Question {
    /// Its name, for good.
    pub id: &'static str,
    /// Requirements of PCI DSS v4.0.1 that it belongs to.
    pub requirements: &'static [&'static str],
    /// What a person must answer.
    pub asks: &'static str,
}

impl Report {
    /// Looks at everything anew, and leaves a line in the audit log that somebody did. `progress`
    /// hears how many of the store's columns it has looked through, and how many there are.
    ///
    /// # Errors
    ///
    /// [`Code::StoreUnavailable`](crate::error::Code::StoreUnavailable), and
    /// [`Code::Internal`](crate::error::Code::Internal) if the keys don't fit the store.
    pub async fn of(
        sources: &Sources,
        progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Self, Error> {
        let gateway = &sources.gateway;
        let (stored, counted) = stored::section(sources, progress).await?;
        let mut sections = vec![
            stored,
            flows::section(sources).await?,
            connections::section(sources).await?,
            cryptography::section(sources).await?,
        ];
        if let Some(settings) = &sources.settings {
            sections.push(settings.section(sources).await?);
        }
        sections.push(access::section(sources).await?);
        sections.push(software::section());
        sections.push(logs::section(sources, &counted).await?);
        sections.push(incidents::section(sources).await?);
        sections.push(tokens::section(sources, &sections, &counted).await?);
        let failed = sections.iter().flat_map(|section| &section.statements);
        let failed = failed.filter(|statement| !statement.holds).count();
        gateway
            .audit(AuditAction::ScopeRead, AuditObject::none())
            .detail("failed", failed)
            .write()
            .await?;
        let mut report = Self {
            version: REPORT_VERSION,
            made_at: gateway.now(),
            program: env!("CARGO_PKG_VERSION"),
            build: sources.build.clone(),
            settings_digest: sources.settings.as_ref().map(SettingsFacts::digest),
            audit_head: gateway.audit_head().await?,
            rows: counted.rows,
            holds: failed == 0,
            sections,
            signature: Signature::default(),
        };
        report.signature = Signature::of(gateway, &report)?;
        Ok(report)
    }

    /// All statements.
    pub fn statements(&self) -> impl Iterator<Item = &Statement> {
        self.sections.iter().flat_map(|section| &section.statements)
    }

    /// The statements that do not hold.
    pub fn failed(&self) -> impl Iterator<Item = &Statement> {
        self.statements().filter(|statement| !statement.holds)
    }

    /// The report as Markdown.
    pub fn to_markdown(&self) -> String {
        markdown::page(self)
    }

    /// The report as one HTML page that needs nothing else and prints well.
    pub fn to_html(&self) -> String {
        html::page(self)
    }
}

impl Claim {
    /// The statement that there is this evidence, and that it has these faults. It holds if there
    /// are none.
    pub fn judged(self, faults: Vec<String>, evidence: Table) -> Statement {
        Statement {
            claim: self,
            holds: faults.is_empty(),
            stale: false,
            as_of: None,
            faults,
            evidence,
        }
    }
}

impl Statement {
    /// The same, looked at earlier: beyond `limit` it is stale, and no longer holds. `again` is what
    /// a person does to look anew.
    #[must_use]
    pub fn looked_at(
        mut self,
        at: Timestamp,
        now: Timestamp,
        limit: Duration,
        again: &str,
    ) -> Self {
        self.as_of = Some(at);
        if is_ahead(at, now) {
            self.stale = true;
            self.holds = false;
            self.faults.push(format!(
                "the evidence is dated in the future, {at}: it was made by a wrong clock; {again}"
            ));
        }
        if now.since(at) > limit {
            self.stale = true;
            self.holds = false;
            let days = days(limit);
            self.faults.push(format!(
                "stale: the evidence is of {at}, older than {days} days; {again}"
            ));
        }
        self
    }
}

impl Table {
    /// A table of these rows.
    pub fn new(header: Vec<&'static str>, rows: Vec<Vec<String>>) -> Self {
        Self {
            header,
            rows,
            moving: &[],
        }
    }

    /// The same; if it has no row, with one that says so: no statement is without evidence.
    #[must_use]
    pub fn or_none(mut self, none: &str) -> Self {
        if self.rows.is_empty() {
            let says = |column| if column == 0 { none } else { "" }.to_owned();
            self.rows.push((0..self.header.len()).map(says).collect());
        }
        self
    }

    /// The same, whose columns with these numbers (from 0) are counts and times.
    #[must_use]
    pub const fn moving(mut self, columns: &'static [usize]) -> Self {
        self.moving = columns;
        self
    }
}

/// Whether a time is still to come, by more than two clocks differ: it would never grow old.
fn is_ahead(at: Timestamp, now: Timestamp) -> bool {
    at.since(now) > MAX_SKEW
}

/// Whole days.
const fn days(time: Duration) -> u64 {
    time.as_secs() / (24 * 3600)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIM: Claim = Claim {
        id: "data-1",
        requirements: &["3.2.1"],
        says: "something",
        proof: "somehow",
    };

    #[test]
    fn what_was_looked_at_too_long_ago_does_not_hold() {
        let day = Duration::from_secs(24 * 3600);
        let (then, now) = (Timestamp::from_seconds(0), Timestamp::from_seconds(86_401));
        let statement = CLAIM.judged(Vec::new(), Table::default());
        let fresh = statement
            .clone()
            .looked_at(then, now, 2 * day, "look again");
        assert!(fresh.holds && !fresh.stale && fresh.as_of == Some(then));
        let ahead = statement
            .clone()
            .looked_at(now.plus(day), now, day, "look again");
        assert!(!ahead.holds && ahead.stale);
        let stale = statement.looked_at(then, now, day, "look again");
        assert!(!stale.holds && stale.stale);
        assert!(stale.faults.concat().contains("look again"), "{stale:?}");
    }
}
