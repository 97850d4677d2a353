//! What has changed since an earlier report: PCI DSS v4.0.1 asks for the scope to be confirmed
//! after significant changes (12.5.2).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::{REPORT_VERSION, Report, signature};
use crate::error::{Code, Error};
use crate::exchange::strict;
use crate::gateway::{AuditAnchor, AuditFault, Gateway};
use crate::pan;

/// The largest report that is read, in bytes (16 MiB).
pub const MAX_REPORT_BYTES: u64 = 16 * 1024 * 1024;

/// How many changes are kept; all are counted.
const MAX_CHANGES: usize = 1_000;

/// The place of what the audit log has lost.
const AUDIT_HEAD: &str = "audit_head";

/// A report that was made earlier, as its JSON has it.
#[derive(Debug, Clone)]
pub struct Earlier(Value);

/// Why text is no report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EarlierError {
    /// It is no JSON, or has not the members of one.
    #[error("it is no report: give the JSON that `cardless scope --format json` has printed")]
    NoReport,
    /// It is of a version that this program does not know.
    #[error("it is a report of another version; compare it with the program that has made it")]
    Version,
}

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// When the earlier report was made.
    pub since: String,
    /// Whether the earlier report is as this installation made it. What is compared with another
    /// one may be anything.
    pub genuine: bool,
    /// What has changed, in the order of the report; at most 1,000.
    pub changes: Vec<Change>,
    /// How many there are.
    pub count: usize,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Where: a statement's id, or a member of the report, as `build.id`.
    pub place: String,
    /// What.
    pub what: String,
}

/// A statement as it is compared.
#[derive(Debug, Default, PartialEq, Eq)]
struct Compared {
    says: String,
    holds: bool,
    faults: BTreeSet<String>,
    rows: BTreeSet<Vec<String>>,
}

impl Earlier {
    /// Reads a report.
    ///
    /// # Errors
    ///
    /// [`EarlierError`].
    pub fn parse(text: &str) -> Result<Self, EarlierError> {
        // Of two members of one name a person may see the other.
        let report = strict(text.as_bytes()).map_err(|_| EarlierError::NoReport)?;
        let version = report.get("version").and_then(Value::as_u64);
        let is_report = report.get("sections").is_some_and(Value::is_array);
        match version {
            Some(version) if version == u64::from(REPORT_VERSION) && is_report => Ok(Self(report)),
            Some(_) if is_report => Err(EarlierError::Version),
            Some(_) | None => Err(EarlierError::NoReport),
        }
    }

    /// When it says that it was made.
    pub fn made_at(&self) -> String {
        self.text("made_at")
    }

    /// SHA-256 of it without its signature, in hexadecimal.
    pub fn digest(&self) -> String {
        super::sources::sha256(signature::canonical(&self.0).as_bytes())
    }

    /// Whether it is as this installation has made it.
    pub fn is_genuine(&self, gateway: &Gateway) -> bool {
        signature::is_genuine(gateway, &self.0)
    }

    /// What has changed between it and `report`, and whether the audit log still has the line that
    /// was its last one then.
    ///
    /// # Errors
    ///
    /// [`Code::StoreUnavailable`], [`Code::Internal`].
    pub async fn compare(&self, gateway: &Gateway, report: &Report) -> Result<Changes, Error> {
        let now = serde_json::to_value(report).map_err(|error| {
            Error::new(Code::Internal, "A report can't be written.").with_source(error)
        })?;
        let mut changes = Changes {
            since: self.made_at(),
            genuine: self.is_genuine(gateway),
            changes: Vec::new(),
            count: 0,
        };
        // First: what is beyond the most that is kept is only counted.
        if let Some(fault) = self.audit_fault(gateway).await? {
            changes.add(AUDIT_HEAD, fault);
        }
        changes.members(&self.0, &now);
        changes.statements(&statements(&self.0), &statements(&now));
        Ok(changes)
    }

    /// Whether the audit log has lost what it had then.
    async fn audit_fault(&self, gateway: &Gateway) -> Result<Option<String>, Error> {
        let noted = self.0.get("audit_head").and_then(Value::as_str);
        let Some(noted) = noted.and_then(|noted| noted.parse::<AuditAnchor>().ok()) else {
            return Ok(None);
        };
        let check = gateway.verify_audit(Some(noted), |_| {}).await?;
        let lost = |fault: &&AuditFault| matches!(fault, AuditFault::NotAsNoted { .. });
        Ok(check.faults.iter().find(lost).map(ToString::to_string))
    }

    fn text(&self, name: &str) -> String {
        shown(self.0.get(name).unwrap_or(&Value::Null))
    }
}

impl Changes {
    /// Whether the audit log does not have the line any more that was its last one then.
    pub fn audit_log_has_lost(&self) -> bool {
        self.changes.iter().any(|change| change.place == AUDIT_HEAD)
    }

    fn add(&mut self, place: &str, what: String) {
        self.count += 1;
        if self.changes.len() < MAX_CHANGES {
            self.changes.push(Change {
                place: pan::withhold(place).into_owned(),
                what: pan::withhold(&what).into_owned(),
            });
        }
    }

    /// The members beside the sections: program, build, settings.
    fn members(&mut self, before: &Value, now: &Value) {
        for pointer in ["/program", "/build/id", "/build/target", "/build/features"] {
            self.member(pointer, before.pointer(pointer), now.pointer(pointer));
        }
        let digest = "/settings_digest";
        self.member(digest, before.pointer(digest), now.pointer(digest));
        self.tables(before.get("rows"), now.get("rows"));
    }

    fn member(&mut self, pointer: &str, before: Option<&Value>, now: Option<&Value>) {
        if before != now {
            let place = pointer.trim_start_matches('/').replace('/', ".");
            let (before, now) = (before.map(shown), now.map(shown));
            let before = before.unwrap_or_else(|| "nothing".to_owned());
            let now = now.unwrap_or_else(|| "nothing".to_owned());
            self.add(&place, format!("was {before}, is {now}"));
        }
    }

    /// Tables that came or went; how many rows they have changes all the time.
    fn tables(&mut self, before: Option<&Value>, now: Option<&Value>) {
        let names = |rows: Option<&Value>| -> BTreeSet<String> {
            let rows = rows.and_then(Value::as_object);
            rows.map(|rows| rows.keys().cloned().collect())
                .unwrap_or_default()
        };
        let (before, now) = (names(before), names(now));
        for gone in before.difference(&now) {
            self.add("rows", format!("the table {gone} is gone"));
        }
        for new in now.difference(&before) {
            self.add("rows", format!("the table {new} is new"));
        }
    }

    fn statements(
        &mut self,
        before: &BTreeMap<String, Compared>,
        now: &BTreeMap<String, Compared>,
    ) {
        for id in before.keys().filter(|id| !now.contains_key(*id)) {
            self.add(id, "this is not said any more".to_owned());
        }
        for (id, now) in now {
            match before.get(id) {
                None => self.add(id, format!("this is new: {}", now.says)),
                Some(before) => self.statement(id, before, now),
            }
        }
    }

    fn statement(&mut self, id: &str, before: &Compared, now: &Compared) {
        if before.says != now.says {
            self.add(
                id,
                format!("it said: {}; it says: {}", before.says, now.says),
            );
        }
        match (before.holds, now.holds) {
            (true, false) => self.add(id, "it held, and does not hold any more".to_owned()),
            (false, true) => self.add(id, "it did not hold, and holds now".to_owned()),
            (true, true) | (false, false) => {}
        }
        for fault in now.faults.difference(&before.faults) {
            self.add(id, format!("a fault that is new: {fault}"));
        }
        for row in before.rows.difference(&now.rows) {
            self.add(id, format!("gone: {}", row.join(" | ")));
        }
        for row in now.rows.difference(&before.rows) {
            self.add(id, format!("new: {}", row.join(" | ")));
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// The statements of a report by their ids. What is not of a report's shape is passed over: the
/// signature tells of it.
fn statements(report: &Value) -> BTreeMap<String, Compared> {
    let sections = items(report.get("sections"));
    let statements = sections.flat_map(|section| items(section.get("statements")));
    statements
        .filter_map(|statement| {
            let id = statement.get("id").and_then(Value::as_str)?;
            Some((id.to_owned(), compared(statement)))
        })
        .collect()
}

fn compared(statement: &Value) -> Compared {
    let evidence = statement.get("evidence").unwrap_or(&Value::Null);
    let moving: BTreeSet<u64> = items(evidence.get("moving"))
        .filter_map(Value::as_u64)
        .collect();
    let stays = |(place, cell): (u64, &Value)| (!moving.contains(&place)).then(|| shown(cell));
    let row = |row: &Value| (0..).zip(items(Some(row))).filter_map(stays).collect();
    Compared {
        says: shown(statement.get("says").unwrap_or(&Value::Null)),
        holds: statement.get("holds").and_then(Value::as_bool) == Some(true),
        faults: items(statement.get("faults")).map(shown).collect(),
        rows: items(evidence.get("rows")).map(row).collect(),
    }
}

fn items(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

/// A value as text, without what would begin a line.
fn shown(value: &Value) -> String {
    let text = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned);
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(edit: impl FnOnce(&mut Value)) -> Value {
        let mut report = json!({
            "version": 1, "program": "0.1.0", "build": {"id": "aa", "target": "t", "features": []},
            "rows": {"payments": 3},
            "sections": [{"id": "data", "statements": [
                {"id": "data-1", "says": "this", "holds": true,
                 "evidence": {"header": ["a", "n"], "rows": [["x", "1"], ["y", "2"]], "moving": [1]}},
                {"id": "data-2", "says": "that", "holds": false, "faults": ["known"],
                 "evidence": {"header": [], "rows": []}}]}],
        });
        edit(&mut report);
        report
    }

    fn changes(before: &Value, now: &Value) -> Vec<String> {
        let mut changes = Changes {
            since: String::new(),
            genuine: true,
            changes: Vec::new(),
            count: 0,
        };
        changes.members(before, now);
        changes.statements(&statements(before), &statements(now));
        changes.changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn counts_are_no_changes() {
        let later = report(|report| {
            report["sections"][0]["statements"][0]["evidence"]["rows"][0][1] = json!("7");
            report["rows"]["payments"] = json!(9);
        });
        assert_eq!(changes(&report(|_| {}), &later), Vec::<String>::new());
    }

    #[test]
    fn every_kind_of_change_is_named_with_its_place() {
        let later = report(|report| {
            report["build"]["id"] = json!("bb");
            report["settings_digest"] = json!("cc");
            report["rows"] = json!({"refunds": 1});
            let statements = report["sections"][0]["statements"].as_array_mut().unwrap();
            statements[0]["holds"] = json!(false);
            statements[0]["faults"] = json!(["found"]);
            statements[0]["evidence"]["rows"] = json!([["x", "1"], ["z", "2"]]);
            statements.remove(1);
            statements.push(json!({"id": "data-3", "says": "more", "holds": true}));
        });
        assert_eq!(
            changes(&report(|_| {}), &later),
            [
                "build.id: was aa, is bb",
                "settings_digest: was nothing, is cc",
                "rows: the table payments is gone",
                "rows: the table refunds is new",
                "data-2: this is not said any more",
                "data-1: it held, and does not hold any more",
                "data-1: a fault that is new: found",
                "data-1: gone: y",
                "data-1: new: z",
                "data-3: this is new: more",
            ]
        );
    }

    #[test]
    fn what_is_no_report_is_refused() {
        for text in ["", "[]", "{}", "{\"version\":1}", "{\"sections\":[]}"] {
            assert_eq!(
                Earlier::parse(text).unwrap_err(),
                EarlierError::NoReport,
                "{text}"
            );
        }
        let other = "{\"version\":9,\"sections\":[]}";
        assert_eq!(Earlier::parse(other).unwrap_err(), EarlierError::Version);
    }
}
