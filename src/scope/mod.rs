//! The evidence for the PCI review, read from where the facts are. Nothing but the service and the
//! command line reads this.
//!
//! A report is made of sections, and these of statements. A statement says one thing of the running
//! system, names the requirement of PCI DSS v4.0.1 that it helps with, says how it was proven, and
//! carries what was found. It holds or it does not: nothing is said that was not looked at. What the
//! program can't know is a question for a person.
//!
//! So far there is one section, on what is stored. [`columns`] is the list of every column that it
//! compares the live schema with; `tests/secrecy` compares it with a real file.

pub mod columns;
mod render;
mod stored;

use cardless_contract::Timestamp;
use serde::Serialize;

use crate::error::Error;
use crate::gateway::Gateway;

/// The version of the report's shape as JSON. Members are only ever added under one version.
pub const REPORT_VERSION: u32 = 1;

/// What was found out, and when.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// When it was made.
    pub made_at: Timestamp,
    /// The program's version.
    pub program: &'static str,
    /// Whether every statement holds.
    pub holds: bool,
    /// The parts.
    pub sections: Vec<Section>,
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
    /// What only a person can answer.
    pub questions: Vec<Question>,
}

/// One thing that is said of the running system, and what shows it.
#[derive(Debug, Clone, Serialize)]
pub struct Statement {
    /// Its name, for good, as `data-3`.
    pub id: &'static str,
    /// Requirements of PCI DSS v4.0.1 that it helps with.
    pub requirements: &'static [&'static str],
    /// What is said.
    pub says: &'static str,
    /// How it was proven.
    pub proof: &'static str,
    /// Whether that is so.
    pub holds: bool,
    /// Why not; each names a place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
    /// What was found.
    pub evidence: Table,
}

/// What was found, as a table.
#[derive(Debug, Clone, Serialize)]
pub struct Table {
    /// What stands in each column.
    pub header: Vec<&'static str>,
    /// The rows.
    pub rows: Vec<Vec<String>>,
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
    /// Looks at everything anew. `progress` hears how many of the store's columns it has looked
    /// through, and how many there are.
    ///
    /// # Errors
    ///
    /// [`Code::StoreUnavailable`](crate::error::Code::StoreUnavailable).
    pub async fn of(
        gateway: &Gateway,
        progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Self, Error> {
        let sections = vec![stored::section(gateway, progress).await?];
        let mut statements = sections.iter().flat_map(|section| &section.statements);
        Ok(Self {
            version: REPORT_VERSION,
            made_at: gateway.now(),
            program: env!("CARGO_PKG_VERSION"),
            holds: statements.all(|statement| statement.holds),
            sections,
        })
    }

    /// The statements that do not hold.
    pub fn failed(&self) -> impl Iterator<Item = &Statement> {
        let statements = self.sections.iter().flat_map(|section| &section.statements);
        statements.filter(|statement| !statement.holds)
    }

    /// The report as Markdown.
    pub fn to_markdown(&self) -> String {
        render::markdown(self)
    }
}
