//! The audit log: that each line tells what it must, that nobody has changed one, and what it shows
//! of the time in which the service ran.

use std::collections::BTreeMap;
use std::time::Duration;

use cardless_contract::Timestamp;

use super::stored::Counted;
use super::{Claim, Question, Section, Sources, Statement, Table};
use crate::error::Error;
use crate::gateway::{
    Actor, AuditAction, AuditLine, AuditOutcome, AuditReport, MAX_WORD_CHARS, Origin, Role,
};

/// Counted apart: what must be at hand at once (PCI DSS 10.5.1).
const AT_HAND: Duration = Duration::from_secs(90 * 86_400);

/// How many lines with the same fault are named; the others are counted.
const MAX_NAMED: usize = 20;

/// What two processes that write at the same time may differ by.
const SAME_TIME: Duration = Duration::from_secs(5);

const TOLD: Claim = Claim {
    id: "logs-1",
    requirements: &[
        "10.2.1", "10.2.1.2", "10.2.1.3", "10.2.1.4", "10.2.1.5", "10.2.1.6", "10.2.2",
    ],
    says: "Each line of the audit log tells who, as what and from where did what to what, when and with what \
           outcome: as what, from where, what and the outcome in words of closed lists, to what by a name or \
           handle that has the letters of one",
    proof: "every line, read now; the lists are the program's own (what was refused names what somebody \
            has said), and `audit.list` and \
            `audit.verify` are the looks at this log",
};

const CHAIN: Claim = Claim {
    id: "logs-2",
    requirements: &["10.3.2", "10.3.4", "11.5.2"],
    says: "No line of the audit log was changed, taken out or put in since it was written, from the first \
           to the last, and it reaches back to the first client and what came by clients",
    proof: "the chain of MACs over every line and its head, under the audit key, which is not in the store; \
            and the time of the first line, held against the oldest rows of clients, of their public keys, \
            and, if there is a client, of accounts and payments",
};

const RAN: Claim = Claim {
    id: "logs-3",
    requirements: &["10.2.1.4", "10.2.1.6"],
    says: "When the service ran, when its clock jumped and who knocked in vain can be read in the audit log",
    proof: "a listing; nothing is judged: every line, read now. A service writes lines when something is \
            done, so a long silence is shown and does not prove a failure",
};

const QUESTIONS: [Question; 3] = [
    Question {
        id: "logs-q1",
        requirements: &["10.3.3", "10.5.1"],
        asks: "Where is the head that `logs-2` shows noted, out of reach of whoever can write to the \
               database (`cardless audit verify --expect` compares with it), and where are copies of the \
               log kept for twelve months?",
    },
    Question {
        id: "logs-q2",
        requirements: &["10.4.1", "10.4.1.1"],
        asks: "Who or what looks through the audit log and the process's log every day?",
    },
    Question {
        id: "logs-q3",
        requirements: &["10.6.1", "10.6.2", "10.6.3"],
        asks: "By which time service is the machine's clock set, and who may change that?",
    },
];

/// Asked only where it is so.
const ENDED_SILENTLY: Question = Question {
    id: "logs-q4",
    requirements: &["10.7.2", "10.7.3"],
    asks: "The service began anew without having told its end (`logs-3`): it was killed, its machine \
           failed, or several ran side by side. Which was it, and what was done about it?",
};

/// How often something was told, and when last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    all: u64,
    at_hand: u64,
    latest: Option<Timestamp>,
}

/// Whoever adds these writes the log's line with it, so that none is older than the log.
const WITH_A_LINE: [(&str, &str); 2] = [("clients", "created_at"), ("client_keys", "created_at")];

/// Nor is any of these where it comes by a client. A program that links the library has no client, and
/// may pay for years before there is a line.
const BY_CLIENTS: [(&str, &str); 2] = [("accounts", "created_at"), ("payments", "created_at")];

/// The oldest row that the log must not begin after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Oldest {
    table: &'static str,
    at: Timestamp,
}

/// What a walk along the log has seen.
#[derive(Debug, Default)]
struct Walk {
    since: Option<Timestamp>,
    first: Option<Timestamp>,
    last: Option<(i64, Timestamp)>,
    actions: BTreeMap<String, Count>,
    /// Lines that do not tell what they must.
    odd: Vec<String>,
    odd_count: u64,
    /// Calls that the lines about refusals have counted.
    refused_calls: u64,
    running: bool,
    ended_silently: Count,
    /// The longest time without a line between a start and a stop.
    silence: Duration,
    silence_before: Option<i64>,
    /// Lines that are earlier than the one before.
    backwards: Count,
}

pub(super) async fn section(sources: &Sources, counted: &Counted) -> Result<Section, Error> {
    let gateway = &sources.gateway;
    let mut walk = Walk {
        since: Some(before(gateway.now(), AT_HAND)),
        ..Walk::default()
    };
    gateway.walk_audit(|line| walk.look_at(&line)).await?;
    let chain = gateway.verify_audit(None, |_| {}).await?;
    let oldest = oldest(counted);
    let mut questions = Vec::from(QUESTIONS);
    if walk.ended_silently.all > 0 {
        questions.push(ENDED_SILENTLY);
    }
    Ok(Section {
        id: "logs",
        title: "Audit log",
        statements: vec![told(&walk), whole(&walk, &chain, oldest), ran(&walk)],
        figures: Vec::new(),
        questions,
    })
}

fn oldest(counted: &Counted) -> Option<Oldest> {
    let with_a_line = oldest_of(counted, &WITH_A_LINE)?;
    let by_clients = oldest_of(counted, &BY_CLIENTS);
    let both = by_clients.into_iter().chain([with_a_line]);
    both.min_by_key(|oldest| oldest.at)
}

fn oldest_of(counted: &Counted, columns: &[(&'static str, &'static str)]) -> Option<Oldest> {
    let oldest = columns.iter().filter_map(|&(table, name)| {
        let at = *counted.earliest.get(&(table.to_owned(), name.to_owned()))?;
        Some(Oldest { table, at })
    });
    oldest.min_by_key(|oldest| oldest.at)
}

impl Count {
    fn add(&mut self, at: Timestamp, since: Option<Timestamp>) {
        self.all += 1;
        self.at_hand += u64::from(since.is_some_and(|since| at >= since));
        self.latest = self.latest.max(Some(at));
    }
}

impl Walk {
    fn look_at(&mut self, line: &AuditLine) {
        self.first.get_or_insert(line.at);
        let since = self.since;
        self.actions
            .entry(line.action.clone())
            .or_default()
            .add(line.at, since);
        if let Some(why) = odd(line) {
            self.odd_count += 1;
            if self.odd.len() < MAX_NAMED {
                self.odd.push(format!("line {} {why}", line.line));
            }
        }
        self.follow(line);
        let calls = line.details.get("calls").map(|calls| calls.parse());
        self.refused_calls += calls.and_then(Result::ok).unwrap_or(0);
        self.last = Some((line.line, line.at));
    }

    /// The time between this line and the one before.
    fn follow(&mut self, line: &AuditLine) {
        if let Some((_, before)) = self.last {
            if before.since(line.at) > SAME_TIME {
                self.backwards.add(line.at, self.since);
            }
            let silence = line.at.since(before);
            if self.running && silence > self.silence {
                self.silence = silence;
                self.silence_before = Some(line.line);
            }
        }
        if line.action == AuditAction::ServiceStart.as_str() {
            if self.running {
                self.ended_silently.add(line.at, self.since);
            }
            self.running = true;
        } else if line.action == AuditAction::ServiceStop.as_str() {
            self.running = false;
        }
    }

    fn count(&self, action: AuditAction) -> Count {
        let count = self.actions.get(action.as_str());
        count.copied().unwrap_or_default()
    }
}

/// What a line lacks.
fn odd(line: &AuditLine) -> Option<&'static str> {
    let empty = [&line.actor, &line.role, &line.origin];
    if empty.iter().any(|part| part.is_empty()) {
        return Some("does not tell who, as what or from where");
    }
    let of_clients = Role::ALL.iter().map(|role| role.as_str());
    let mut roles = Actor::ROLES.into_iter().chain(of_clients);
    if !roles.any(|known| known == line.role) {
        return Some("has a role that is not on the list");
    }
    let mut origins = Origin::ALL.iter();
    if !origins.any(|known| known.as_str() == line.origin) {
        return Some("comes from where the list has no word for");
    }
    let mut actions = AuditAction::ALL.iter();
    if !actions.any(|known| known.as_str() == line.action) {
        return Some("has an action that is not on the list");
    }
    let mut outcomes = AuditOutcome::ALL.iter();
    if !outcomes.any(|known| known.as_str() == line.outcome) {
        return Some("has an outcome that is not on the list");
    }
    (!has_an_object(line)).then_some("is about something that is no name or handle")
}

/// Whether what a line is about is written as names and handles are. A call that was refused may have
/// named anything.
fn has_an_object(line: &AuditLine) -> bool {
    let done = [AuditOutcome::Done, AuditOutcome::Accepted];
    let in_alphabet = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    let of_a_name = line.object.chars().all(in_alphabet);
    let is_done = done.iter().any(|word| word.as_str() == line.outcome);
    line.object.chars().count() <= MAX_WORD_CHARS && (of_a_name || !is_done)
}

fn told(walk: &Walk) -> Statement {
    let mut faults = walk.odd.clone();
    let unnamed = walk.odd_count.saturating_sub(count(walk.odd.len()));
    if unnamed > 0 {
        faults.push(format!("{unnamed} more lines are such"));
    }
    let rows = AuditAction::ALL.iter().map(|action| {
        let count = walk.count(*action);
        vec![
            action.as_str().to_owned(),
            count.all.to_string(),
            count.at_hand.to_string(),
            time(count.latest),
        ]
    });
    let header = vec!["action", "lines", "in 90 days", "latest"];
    TOLD.judged(
        faults,
        Table::new(header, rows.collect()).moving(&[1, 2, 3]),
    )
}

fn whole(walk: &Walk, chain: &AuditReport, oldest: Option<Oldest>) -> Statement {
    let mut faults: Vec<String> = chain.faults.iter().map(ToString::to_string).collect();
    let shortened = oldest.and_then(|Oldest { table, at }| match walk.first {
        None => Some(format!(
            "the audit log is empty, and the store has {table} of {at}"
        )),
        Some(first) if first.since(at) > SAME_TIME => Some(format!(
            "the audit log begins at {first}, and the store has {table} of {at}: it was emptied, or a program \
             that links the library has worked on this store before"
        )),
        Some(_) => None,
    });
    faults.extend(shortened);
    let unnamed = chain.fault_count.saturating_sub(count(faults.len()));
    if unnamed > 0 {
        faults.push(format!("{unnamed} more faults"));
    }
    let rows = vec![
        vec!["lines".to_owned(), chain.lines.to_string()],
        vec![
            "head, to be noted elsewhere".to_owned(),
            chain.head.clone().unwrap_or_default(),
        ],
        vec!["the first line is of".to_owned(), time(walk.first)],
        vec![
            "the oldest row that it must reach back to is of".to_owned(),
            time(oldest.map(|oldest| oldest.at)),
        ],
        vec![
            "the last line is of".to_owned(),
            time(walk.last.map(|(_, at)| at)),
        ],
    ];
    CHAIN.judged(faults, Table::new(vec!["what", "found"], rows).moving(&[1]))
}

fn ran(walk: &Walk) -> Statement {
    let of_action = |name: &str, action: AuditAction| of(name, walk.count(action));
    let silence = walk
        .silence_before
        .map(|line| format!("before line {line}"));
    let rows = vec![
        of_action("starts of the service", AuditAction::ServiceStart),
        of_action("ends of the service", AuditAction::ServiceStop),
        of("starts without an end before", walk.ended_silently),
        vec![
            "longest silence of a service that ran, in seconds".to_owned(),
            walk.silence.as_secs().to_string(),
            silence.unwrap_or_default(),
        ],
        of_action("jumps of the clock", AuditAction::ClockStep),
        of("lines earlier than the one before", walk.backwards),
        of_action(
            "lines about calls without a live key",
            AuditAction::LoginRefused,
        ),
        of_action("lines about calls beyond a role", AuditAction::CallRefused),
        vec![
            "calls that these lines have counted".to_owned(),
            walk.refused_calls.to_string(),
            String::new(),
        ],
        of_action("reloads of the settings", AuditAction::SettingsReload),
    ];
    let header = vec!["what", "how often", "latest"];
    RAN.judged(Vec::new(), Table::new(header, rows).moving(&[1, 2]))
}

fn of(name: &str, count: Count) -> Vec<String> {
    vec![name.to_owned(), count.all.to_string(), time(count.latest)]
}

fn time(at: Option<Timestamp>) -> String {
    at.map_or_else(String::new, |at| at.to_string())
}

fn count(many: usize) -> u64 {
    u64::try_from(many).unwrap_or(u64::MAX)
}

fn before(now: Timestamp, span: Duration) -> Timestamp {
    let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(now.millis().saturating_sub(millis))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::AuditFault;

    fn line(number: i64, second: i64, action: &str) -> AuditLine {
        AuditLine {
            line: number,
            at: Timestamp::from_seconds(second),
            actor: "anna".to_owned(),
            role: "command_line".to_owned(),
            origin: "command_line".to_owned(),
            action: action.to_owned(),
            object: String::new(),
            outcome: "done".to_owned(),
            details: BTreeMap::new(),
        }
    }

    fn walk(lines: &[AuditLine]) -> Walk {
        let mut walk = Walk::default();
        for line in lines {
            walk.look_at(line);
        }
        walk
    }

    #[test]
    fn a_line_that_does_not_tell_what_it_must_is_named() {
        let good = line(1, 0, "client.add");
        assert!(told(&walk(std::slice::from_ref(&good))).holds);
        let of = |change: &dyn Fn(&mut AuditLine)| {
            let mut line = line(7, 0, "client.add");
            change(&mut line);
            line
        };
        for bad in [
            of(&|line| line.actor.clear()),
            of(&|line| line.origin.clear()),
            of(&|line| line.action = "client.ad".to_owned()),
            of(&|line| line.outcome.clear()),
            of(&|line| line.role = "root".to_owned()),
            of(&|line| line.origin = "192.0.2.7".to_owned()),
            of(&|line| line.object = "Anna Muster, Bern".to_owned()),
            of(&|line| line.object = "a".repeat(65)),
        ] {
            let statement = told(&walk(&[good.clone(), bad]));
            assert_eq!((statement.claim.id, statement.holds), ("logs-1", false));
            assert!(
                statement.faults[0].starts_with("line 7 "),
                "{:?}",
                statement.faults
            );
        }
        let refused = of(&|line| {
            line.object = "no such name".to_owned();
            line.outcome = "refused".to_owned();
        });
        assert!(told(&walk(&[refused])).holds);
        let many: Vec<AuditLine> = (1..=30).map(|number| line(number, 0, "odd")).collect();
        assert_eq!(
            told(&walk(&many)).faults.last().unwrap(),
            "10 more lines are such"
        );
    }

    #[test]
    fn a_broken_chain_is_a_fault_that_names_the_line() {
        let mut chain = AuditReport::default();
        assert!(whole(&Walk::default(), &chain, None).holds);
        chain.faults = vec![
            AuditFault::Changed { line: 12 },
            AuditFault::Missing { line: 14, to: 15 },
        ];
        chain.fault_count = 2;
        let statement = whole(&Walk::default(), &chain, None);
        assert_eq!((statement.claim.id, statement.holds), ("logs-2", false));
        assert!(statement.faults[0].contains("line 12"));
        assert!(statement.faults[1].contains("lines 14 to 15"));
    }

    #[test]
    fn a_log_that_begins_after_what_it_must_tell_of_is_a_fault() {
        let chain = AuditReport::default();
        let oldest = Some(Oldest {
            table: "payments",
            at: Timestamp::from_seconds(100),
        });
        let from = |second| walk(&[line(1, second, "service.start")]);
        for good in [from(3), from(104)] {
            assert!(whole(&good, &chain, oldest).holds);
        }
        for (bad, part) in [
            (Walk::default(), "log is empty"),
            (from(106), "payments of 1970-01-01T00:01:40"),
        ] {
            let statement = whole(&bad, &chain, oldest);
            assert_eq!((statement.claim.id, statement.holds), ("logs-2", false));
            let fault = &statement.faults[0];
            assert!(fault.contains(part), "{fault}");
        }
    }

    #[test]
    fn ends_without_a_word_silences_and_times_that_go_back_are_counted() {
        let mut refused = line(6, 400, "login.refused");
        refused.details.insert("calls".to_owned(), "31".to_owned());
        let walk = walk(&[
            line(1, 0, "client.add"),
            line(2, 100, "service.start"),
            line(3, 350, "service.start"),
            line(4, 360, "service.stop"),
            // Nothing runs meanwhile, so this is no silence of the service.
            line(5, 900, "client.add"),
            refused,
        ]);
        assert_eq!(walk.ended_silently.all, 1);
        assert_eq!(
            (walk.silence.as_secs(), walk.silence_before),
            (250, Some(3))
        );
        assert_eq!((walk.backwards.all, walk.refused_calls), (1, 31));
        assert_eq!(walk.count(AuditAction::ServiceStart).all, 2);
        let listing = ran(&walk);
        assert!(listing.holds && listing.claim.proof.contains("nothing is judged"));
    }
}
