//! Incidents: what happens when a card number turns up where none belongs, by the last drill, and
//! what sets off an alarm.

use super::drill::MAX_DRILL_AGE;
use super::{BUILD, Claim, Question, Section, Sources, Statement, Table, noted};
use crate::error::Error;
use crate::gateway::{AuditAction, AuditLine, AuditOutcome, AuditQuery};
use cardless_contract::Timestamp;

const DRILLED: Claim = Claim {
    id: "incidents-1",
    requirements: &["12.10.2", "12.10.7"],
    says: "A card number that comes in at any door is refused and kept nowhere, and wherever what comes in is \
           read before it has proven itself, that is counted for `/metrics` and warned of in the log",
    proof: "the last drill with this program, by its line in the audit log: a test number at every door, where the count must \
            go up (the one call that counts also writes the warning), then a look through every value \
            and file of the store",
};

const ALARMED: Claim = Claim {
    id: "incidents-2",
    requirements: &["10.7.2", "12.10.5"],
    says: "What somebody must be woken by can be read by a monitor",
    proof: "the text of `/metrics`, as it is now; what is counted since a process began is of the \
                process that made this report",
};

/// The metrics that somebody must be woken by.
const ALARMS: [&str; 3] = [
    "cardless_card_numbers_refused_total",
    "cardless_parked",
    "cardless_kek_age_seconds",
];

/// How many drills are listed.
const LISTED: u32 = 10;

pub(super) async fn section(sources: &Sources) -> Result<Section, Error> {
    let gateway = &sources.gateway;
    let query = AuditQuery {
        action: Some(AuditAction::ScopeDrill.as_str().to_owned()),
        limit: LISTED,
        ..AuditQuery::default()
    };
    let drills = gateway.audit_lines(&query).await?.data;
    let metrics = gateway.metrics().await?;
    let program = noted(&sources.build.id);
    let drilled = drilled(&drills, &program, gateway.now());
    let mut statements: Vec<Statement> = drilled.into_iter().collect();
    let mut questions = vec![PLAN];
    if statements.is_empty() {
        questions.push(NEVER_DRILLED);
    }
    statements.push(alarms(&metrics));
    Ok(Section {
        id: "incidents",
        title: "Incidents",
        statements,
        figures: Vec::new(),
        questions,
    })
}

const PLAN: Question = Question {
    id: "incidents-q1",
    requirements: &["12.10.1", "12.10.3", "12.10.7"],
    asks: "Where is the plan for an incident, who is woken by the alarms that are listed here and at what \
           hours, and whom do they call when a card number has come in or a token has gone out?",
};

/// Asked only until it was done once.
const NEVER_DRILLED: Question = Question {
    id: "incidents-q2",
    requirements: &["12.10.2", "12.10.7"],
    asks: "Nobody has tried yet what happens here when a card number comes in. Run `cardless scope \
           --drill`; it plants a test number at every door, and the next report shows what became of it.",
};

/// The last drill, for this program; nothing if there was none.
fn drilled(drills: &[AuditLine], program: &str, now: Timestamp) -> Option<Statement> {
    let last = drills.first()?;
    let failed = last.outcome != AuditOutcome::Done.as_str();
    let mut faults = Vec::new();
    if failed {
        faults.push(format!(
            "the drill of {} (line {} of the audit log) failed at {} points: {} of {} refused, {} of {} \
             alarms, {} places where the number stayed",
            last.at,
            last.line,
            last.detail("failures"),
            last.detail("refused"),
            last.detail("planted"),
            last.detail("alarms"),
            last.detail("alarms_due"),
            last.detail("stored"),
        ));
    }
    let evidence = Table::new(
        vec![
            "line",
            "at",
            "by",
            "outcome",
            "planted",
            "refused",
            "alarms",
            "stored",
            "with this program",
        ],
        drills.iter().map(|line| row(line, program)).collect(),
    );
    let mut statement = DRILLED.judged(faults, evidence);
    if !is_of(last, program) {
        statement.stale = true;
        statement.holds = false;
        statement.faults.push(format!(
            "stale: the drill of {} (line {} of the audit log) was made with another program; {AGAIN}",
            last.at, last.line
        ));
    }
    Some(statement.looked_at(last.at, now, MAX_DRILL_AGE, AGAIN))
}

/// What a person does about a drill that does not count.
const AGAIN: &str = "run `cardless scope --drill`";

/// Whether a drill was made with this program.
fn is_of(line: &AuditLine, program: &str) -> bool {
    // A program whose file can't be read is known by nothing.
    !program.is_empty() && line.detail(BUILD) == program
}

fn row(line: &AuditLine, program: &str) -> Vec<String> {
    vec![
        line.line.to_string(),
        line.at.to_string(),
        line.actor.clone(),
        line.outcome.clone(),
        line.detail("planted").to_owned(),
        line.detail("refused").to_owned(),
        line.detail("alarms").to_owned(),
        line.detail("stored").to_owned(),
        if is_of(line, program) { "yes" } else { "no" }.to_owned(),
    ]
}

/// Reads what `/metrics` says, as a monitor does.
fn alarms(metrics: &str) -> Statement {
    let help = |name: &str| {
        let begins = format!("# HELP {name} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&begins));
        line.map(str::to_owned)
    };
    let faults: Vec<String> = ALARMS
        .iter()
        .filter(|name| help(name).is_none())
        .map(|name| format!("/metrics has no {name}"))
        .collect();
    let rows = ALARMS.iter().filter_map(|name| {
        let values = metrics.lines().filter(|line| line.starts_with(name));
        let values: Vec<&str> = values.collect();
        Some(vec![(*name).to_owned(), help(name)?, values.join("; ")])
    });
    let evidence = Table::new(vec!["metric", "what it is", "now"], rows.collect());
    ALARMED.judged(faults, evidence.or_none("none of them").moving(&[2]))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The digest of a program, in letters.
    const PROGRAM: &str = "abcd";

    /// The same for another one.
    const ANOTHER: &str = "abce";

    fn line(outcome: &str) -> AuditLine {
        let details = [
            ("planted", "7"),
            ("refused", "6"),
            ("failures", "1"),
            ("build", PROGRAM),
        ];
        AuditLine {
            line: 12,
            at: Timestamp::from_seconds(1_000_000),
            actor: "anna".to_owned(),
            role: "command_line".to_owned(),
            origin: "command_line".to_owned(),
            action: "scope.drill".to_owned(),
            object: String::new(),
            outcome: outcome.to_owned(),
            details: details
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        }
    }

    fn drilled(drills: &[AuditLine], now: Timestamp) -> Option<Statement> {
        super::drilled(drills, PROGRAM, now)
    }

    #[test]
    fn a_drill_holds_for_a_year_and_a_failed_one_not_at_all() {
        let at = line("done").at;
        let a_year_on = at.plus(MAX_DRILL_AGE);
        assert!(drilled(&[line("done")], a_year_on).unwrap().holds);
        let stale = drilled(&[line("done")], a_year_on.plus(Duration::from_secs(1))).unwrap();
        assert_eq!((stale.claim.id, stale.holds), ("incidents-1", false));
        assert!(stale.stale && stale.as_of == Some(at));
        assert!(
            stale.faults[0].contains("scope --drill"),
            "{:?}",
            stale.faults
        );
        let failed = drilled(&[line("failed"), line("done")], at).unwrap();
        assert!(!failed.holds);
        let fault = &failed.faults[0];
        assert!(
            fault.contains("line 12") && fault.contains("6 of 7"),
            "{fault}"
        );
        // A later one that went well counts.
        assert!(drilled(&[line("done"), line("failed")], at).unwrap().holds);
        assert!(drilled(&[], at).is_none());
    }

    #[test]
    fn a_drill_of_another_program_or_of_a_time_to_come_does_not_count() {
        let at = line("done").at;
        let lines = [line("done")];
        let another = super::drilled(&lines, ANOTHER, at).unwrap();
        assert!(another.stale && !another.holds);
        assert!(another.faults[0].contains("another program"), "{another:?}");
        assert_eq!(another.evidence.rows[0][8], "no");
        let unnamed = AuditLine {
            details: [].into(),
            ..line("done")
        };
        assert!(!drilled(&[unnamed], at).unwrap().holds);
        let earlier = |seconds| Timestamp::from_seconds(at.millis() / 1000 - seconds);
        assert!(drilled(&lines, earlier(15)).unwrap().holds);
        let ahead = drilled(&lines, earlier(16)).unwrap();
        assert!(!ahead.holds);
        assert!(ahead.faults[0].contains("dated in the future"), "{ahead:?}");
    }

    #[test]
    fn an_alarm_that_metrics_lack_is_a_fault() {
        assert_eq!(alarms("").evidence.rows[0][0], "none of them");
        let text = "# HELP cardless_parked What.\ncardless_parked{kind=\"payment\"} 0\n";
        let statement = alarms(text);
        assert!(!statement.holds);
        let lacking = "/metrics has no cardless_card_numbers_refused_total";
        assert!(statement.faults.iter().any(|fault| fault == lacking));
    }
}
