//! The report as Markdown.

use super::{Report, Section, Statement, Table};

pub(super) fn markdown(report: &Report) -> String {
    let mut text = format!(
        "# What an assessor asks of this installation\n\n\
         Made at {} by cardless {}. {}\n",
        report.made_at,
        report.program,
        if report.holds {
            "Every statement holds."
        } else {
            "**Not every statement holds.**"
        }
    );
    for part in &report.sections {
        section(part, &mut text);
    }
    text
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
    let mark = if one.holds { "holds" } else { "DOES NOT HOLD" };
    text.push_str(&format!(
        "\n### `{}` {}\n\n{mark} · PCI DSS v4.0.1: {} · proven by: {}\n",
        one.id,
        one.says,
        one.requirements.join(", "),
        one.proof
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
