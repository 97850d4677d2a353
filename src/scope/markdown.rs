//! The report as Markdown.

use super::{Report, Section, Statement, Table};

pub(super) fn page(report: &Report) -> String {
    let mut text = format!(
        "# What an assessor asks of this installation\n\n\
         Made at {} by cardless {}. {}\n\n\
         - build: SHA-256 `{}` of the program, {}, features {}{}\n\
         - settings: {}\n\
         - last line of the audit log: {}\n\
         - digest of this report: SHA-256 `{}`\n\
         - signed: {}, `{}`; `cardless scope --check FILE` checks the report's JSON\n",
        report.made_at,
        report.program,
        if report.holds {
            "Every statement holds."
        } else {
            "**Not every statement holds.**"
        },
        report.build.id,
        report.build.target,
        report.build.features.join(", "),
        if report.build.debug {
            ", with the checks of development"
        } else {
            ""
        },
        digest_of(report.settings_digest.as_deref()),
        report.audit_head.as_deref().unwrap_or("none"),
        report.signature.digest,
        report.signature.algorithm,
        report.signature.mac,
    );
    for part in &report.sections {
        section(part, &mut text);
    }
    text
}

fn digest_of(settings: Option<&str>) -> String {
    settings.map_or_else(
        || "none; a program that links the library has its own".to_owned(),
        |digest| format!("SHA-256 `{digest}` without secrets"),
    )
}

fn section(part: &Section, text: &mut String) {
    text.push_str(&format!("\n## {}\n", part.title));
    for one in &part.statements {
        statement(one, text);
    }
    if part.questions.is_empty() {
        return;
    }
    text.push_str("\n### Questions for a person\n\n");
    for question in &part.questions {
        text.push_str(&format!(
            "- `{}` ({}) {}\n",
            question.id,
            question.requirements.join(", "),
            question.asks
        ));
    }
}

fn statement(one: &Statement, text: &mut String) {
    let mark = match (one.holds, one.stale) {
        (true, _) => "holds",
        (false, true) => "STALE",
        (false, false) => "DOES NOT HOLD",
    };
    let claim = &one.claim;
    let as_of = one
        .as_of
        .map_or_else(String::new, |at| format!(" · as of {at}"));
    text.push_str(&format!(
        "\n### `{}` {}\n\n{mark}{as_of} · PCI DSS v4.0.1: {} · proven by: {}\n",
        claim.id,
        claim.says,
        claim.requirements.join(", "),
        claim.proof
    ));
    if !one.faults.is_empty() {
        text.push('\n');
    }
    for fault in &one.faults {
        text.push_str(&format!("- {}\n", inline(fault)));
    }
    table(&one.evidence, text);
}

fn table(table: &Table, text: &mut String) {
    if table.rows.is_empty() {
        return;
    }
    text.push_str(&format!("\n| {} |\n", table.header.join(" | ")));
    text.push_str(&format!("|{}\n", " --- |".repeat(table.header.len())));
    for row in &table.rows {
        let cells: Vec<String> = row.iter().map(|cell| inline(cell)).collect();
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
}

/// What comes out of the store does not end a cell, begin a line or become markup.
fn inline(cell: &str) -> String {
    let mut safe = String::with_capacity(cell.len());
    for letter in cell.chars() {
        match letter {
            '|' | '\\' | '`' | '<' | '[' | '*' | '#' => {
                safe.push('\\');
                safe.push(letter);
            }
            letter if letter.is_control() => safe.push(' '),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_out_of_the_store_stays_in_its_cell() {
        assert_eq!(inline("a|b\n# c <script>"), "a\\|b \\# c \\<script>");
    }
}
