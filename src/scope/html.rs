//! The report as one HTML page: no script, nothing from elsewhere, and it prints well.

use super::{Report, Section, Statement, Table};

/// What the page may load: nothing but its own style.
pub(crate) const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// How many letters of a word stand together at least and at most.
const MIN_PART: u32 = 8;
const MAX_PART: u32 = 24;

/// How it looks, on a screen and on paper.
const STYLE: &str = "\
:root{color-scheme:light;--line:#bbb;--soft:#f5f5f2;--good:#0a5c36;--bad:#a40e26;--old:#8a5a00}\
*{box-sizing:border-box}\
body{font:15px/1.5 system-ui,sans-serif;color:#111;background:#fff;max-width:62rem;margin:0 auto;padding:1.5rem}\
h1{font-size:1.6rem;line-height:1.2;margin:0 0 .5rem}\
h2{font-size:1.25rem;margin:2.2rem 0 .6rem;padding-top:.6rem;border-top:2px solid #111}\
h3{font-size:1rem;margin:1.4rem 0 .2rem}\
p{margin:.3rem 0}\
code{font:.85em ui-monospace,monospace;overflow-wrap:anywhere}\
nav ol{columns:2;padding-left:1.2rem;margin:.4rem 0}\
a{color:inherit}\
.id{font:.85em ui-monospace,monospace;color:#555;margin-right:.4rem}\
.mark{font-weight:600}.holds{color:var(--good)}.fails{color:var(--bad)}.stale{color:var(--old)}\
.how{color:#444;font-size:.9rem}\
.faults{border-left:4px solid var(--bad);margin:.5rem 0;padding:.2rem 0 .2rem 1.6rem;background:#fdf2f3}\
.wide{overflow-x:auto;margin:.5rem 0}\
table{border-collapse:collapse;width:100%;font-size:.85rem}\
th,td{text-align:left;vertical-align:top;padding:.2rem .5rem;border:1px solid var(--line);overflow-wrap:break-word}\
th{background:var(--soft)}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem .8rem;margin:.6rem 0;font-size:.9rem}\
dt{color:#555}dd{margin:0;overflow-wrap:anywhere}\
figure{margin:1rem 0}figure svg{width:100%;height:auto}figcaption{font-size:.9rem;color:#444}\
summary{cursor:pointer;font-size:.85rem;color:#444}\
@media print{body{max-width:none;padding:0;font-size:9pt}nav ol{columns:2}.wide{overflow:visible}\
table{font-size:7.5pt}th,td{padding:1pt 3pt}\
h2,h3,.how{break-after:avoid}tr{break-inside:avoid}thead{display:table-header-group}\
figure{break-inside:avoid}figure svg{max-height:17cm}}\
@page{size:A4;margin:14mm 12mm}";

pub(super) fn page(report: &Report) -> String {
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <title>Scope of cardless, {at}</title>\n<style>{STYLE}</style></head>\n<body>\n\
         <header><h1>What an assessor asks of this installation</h1>\n",
        at = escape(&report.made_at.to_string()),
    );
    head(report, &mut text);
    contents(report, &mut text);
    text.push_str("</header>\n<main>\n");
    for part in &report.sections {
        section(part, &mut text);
    }
    text.push_str("</main>\n</body></html>\n");
    text
}

/// What is said of the whole.
fn head(report: &Report, text: &mut String) {
    let all = report.statements().count();
    let failed = report.failed().count();
    let (class, verdict) = if report.holds {
        ("holds", format!("All {all} statements hold."))
    } else {
        (
            "fails",
            format!("{failed} of {all} statements do not hold."),
        )
    };
    text.push_str(&format!("<p class=\"mark {class}\">{verdict}</p>\n"));
    for statement in report.failed() {
        let (id, says) = (statement.claim.id, escape(statement.claim.says));
        text.push_str(&format!(
            "<p><a href=\"#{id}\"><span class=\"id\">{id}</span></a>{says}</p>\n"
        ));
    }
    let settings = report.settings_digest.as_deref();
    let development = if report.build.debug {
        ", with the checks of development"
    } else {
        ""
    };
    let signature = &report.signature;
    let facts = [
        ("made", report.made_at.to_string()),
        ("program", format!("cardless {}", report.program)),
        (
            "build",
            format!(
                "SHA-256 {}, {}, features {}{development}",
                report.build.id,
                report.build.target,
                report.build.features.join(", "),
            ),
        ),
        (
            "settings",
            settings.map_or_else(
                || "none; a program that links the library has its own".to_owned(),
                |digest| format!("SHA-256 {digest}, without secrets"),
            ),
        ),
        (
            "audit log, last line",
            report
                .audit_head
                .clone()
                .unwrap_or_else(|| "none".to_owned()),
        ),
        ("this report", format!("SHA-256 {}", signature.digest)),
        (
            "signed",
            format!("{}: {}", signature.algorithm, signature.mac),
        ),
    ];
    text.push_str("<dl>\n");
    for (name, value) in facts {
        text.push_str(&format!(
            "<dt>{name}</dt><dd><code>{}</code></dd>\n",
            escape(&value)
        ));
    }
    text.push_str(
        "</dl>\n<p class=\"how\">The signature is over the report as JSON; \
         <code>cardless scope --check FILE</code> checks it, and <code>--against FILE</code> says what \
         has changed since. Whether this is enough is for the assessor to decide.</p>\n",
    );
}

fn contents(report: &Report, text: &mut String) {
    text.push_str("<nav aria-label=\"Contents\"><ol>\n");
    for part in &report.sections {
        let failed = part.statements.iter().filter(|one| !one.holds).count();
        let failed = match failed {
            0 => String::new(),
            failed => format!(" <span class=\"mark fails\">{failed} not</span>"),
        };
        text.push_str(&format!(
            "<li><a href=\"#section-{}\">{}</a>{failed}</li>\n",
            part.id,
            escape(part.title)
        ));
    }
    text.push_str("</ol></nav>\n");
}

fn section(part: &Section, text: &mut String) {
    text.push_str(&format!(
        "<section id=\"section-{}\"><h2>{}</h2>\n",
        part.id,
        escape(part.title)
    ));
    for figure in &part.figures {
        // Drawn by us, its texts escaped where it is drawn.
        text.push_str(&format!(
            "<figure>{}<figcaption>{}</figcaption></figure>\n",
            figure.svg,
            escape(figure.title)
        ));
    }
    for one in &part.statements {
        statement(one, text);
    }
    if !part.questions.is_empty() {
        text.push_str("<h3>Questions for a person</h3>\n<ul>\n");
    }
    for question in &part.questions {
        text.push_str(&format!(
            "<li id=\"{id}\"><span class=\"id\">{id}</span>{} <span class=\"how\">({})</span></li>\n",
            escape(question.asks),
            escape(&question.requirements.join(", ")),
            id = question.id,
        ));
    }
    if !part.questions.is_empty() {
        text.push_str("</ul>\n");
    }
    text.push_str("</section>\n");
}

fn statement(one: &Statement, text: &mut String) {
    let (class, mark) = match (one.holds, one.stale) {
        (true, _) => ("holds", "holds"),
        (false, true) => ("stale", "stale"),
        (false, false) => ("fails", "does not hold"),
    };
    let claim = &one.claim;
    let as_of = one
        .as_of
        .map_or_else(String::new, |at| format!(", as of {at}"));
    text.push_str(&format!(
        "<article id=\"{id}\"><h3><span class=\"id\">{id}</span>{}</h3>\n\
         <p class=\"how\"><span class=\"mark {class}\">{mark}</span>{} · PCI DSS v4.0.1: {} · \
         proven by: {}</p>\n",
        escape(claim.says),
        escape(&as_of),
        escape(&claim.requirements.join(", ")),
        escape(claim.proof),
        id = claim.id,
    ));
    if !one.faults.is_empty() {
        text.push_str("<ul class=\"faults\">\n");
        for fault in &one.faults {
            text.push_str(&format!("<li>{}</li>\n", escape(fault)));
        }
        text.push_str("</ul>\n");
    }
    table(&one.evidence, text);
    text.push_str("</article>\n");
}

fn table(table: &Table, text: &mut String) {
    if table.rows.is_empty() {
        return;
    }
    text.push_str("<div class=\"wide\"><table><thead><tr>");
    for name in &table.header {
        text.push_str(&format!("<th scope=\"col\">{}</th>", escape(name)));
    }
    text.push_str("</tr></thead><tbody>\n");
    for row in &table.rows {
        text.push_str("<tr>");
        for cell in row {
            text.push_str(&format!("<td>{}</td>", broken(cell)));
        }
        text.push_str("</tr>\n");
    }
    text.push_str("</tbody></table></div>\n");
}

/// Text as HTML has it, with places at which a long word may be broken: after what parts a name, and
/// after a number of letters at the latest, so that no column becomes as wide as its longest digest.
fn broken(cell: &str) -> String {
    let mut text = String::with_capacity(cell.len());
    let mut letters = 0;
    for letter in cell.chars() {
        text.push_str(&escape(letter.encode_utf8(&mut [0; 4])));
        letters = if letter.is_whitespace() {
            0
        } else {
            letters + 1
        };
        let parts =
            matches!(letter, '.' | '/' | '_' | ':' | '-' | '=' | '|') && letters >= MIN_PART;
        if parts || letters >= MAX_PART {
            text.push_str("<wbr>");
            letters = 0;
        }
    }
    text
}

/// Text as HTML and SVG have it, within elements and attributes. What is no visible letter becomes a
/// space.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
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
    fn long_words_may_be_broken_and_short_ones_are_not() {
        assert_eq!(broken("payments.state of"), "payments.<wbr>state of");
        assert_eq!(broken("a.b <i>"), "a.b &lt;i&gt;");
        assert_eq!(broken(&"f".repeat(50)).matches("<wbr>").count(), 2);
    }

    #[test]
    fn what_comes_out_of_the_store_is_text() {
        assert_eq!(
            escape("<script>alert('1')</script>\n\"&"),
            "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt; &quot;&amp;"
        );
    }
}
