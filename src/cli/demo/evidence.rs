//! The scope report of the demo, as an auditor reads it from the service.

use serde_json::Value;

use super::stage::Stage;
use crate::cli::{Failure, Outcome, say};

/// Reads the report, says how many statements of each section hold, and fails if one does not.
pub(super) async fn show(stage: &Stage) -> Outcome {
    say("\nscope")?;
    let report = stage.scope().await?;
    for section in list(&report, "sections") {
        let statements = list(section, "statements");
        let held = statements.filter(|one| one.get("holds") == Some(&Value::Bool(true)));
        say(format_args!(
            "  {:<24} {} of {} statements hold, {} questions for a person",
            text(section, "title"),
            held.count(),
            list(section, "statements").count(),
            list(section, "questions").count(),
        ))?;
    }
    if report.get("holds") == Some(&Value::Bool(true)) {
        return Ok(());
    }
    let statements = list(&report, "sections").flat_map(|section| list(section, "statements"));
    let failed = statements.filter(|one| one.get("holds") != Some(&Value::Bool(true)));
    let failed: Vec<&str> = failed.map(|one| text(one, "id")).collect();
    Err(Failure::Failed(format!(
        "these statements of the scope report do not hold: {}",
        failed.join(", ")
    )))
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value
        .get(name)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}
