//! The audit log: what is written, and that nobody changes it unseen. The attacker here owns the
//! database file and has no key.

use std::sync::Arc;

use cardless::gateway::{
    Actor, AuditAction, AuditAnchor, AuditFault, AuditObject, AuditQuery, AuditReport, Gateway,
    Origin, ResolveAs, ResolveRequest, Role,
};
use cardless::store::{SqliteStore, Threads};
use cardless::vault::KeyRing;
use cardless_contract::SystemEntropy;
use rusqlite::{Connection, params};
use tempfile::TempDir;

use crate::fake::Shape;
use crate::world::*;

/// How many lines the log has that is tampered with.
const LINES: usize = 12;

/// How many random ways of tampering each run tries; `CARDLESS_AUDIT_CASES` says otherwise.
const CASES: u64 = 1500;

/// A log in a file, and the attacker's own way to it.
struct Log {
    gateway: Gateway,
    file: Connection,
    _folder: TempDir,
}

#[derive(Debug, Clone, PartialEq)]
struct Line {
    seq: i64,
    held: bool,
    at: i64,
    texts: [String; 7],
    mac: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq)]
struct Head {
    count: i64,
    last: Vec<u8>,
    mac: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq)]
struct State {
    lines: Vec<Line>,
    head: Option<Head>,
}

impl Log {
    /// A log with this many lines, and the states that it went through.
    async fn with(lines: usize) -> (Self, Vec<State>) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("x.db");
        let store = SqliteStore::open(&format!("sqlite:{}", path.display()), Threads::Caller);
        let keys = KeyRing::generate(&SystemEntropy).unwrap();
        let gateway = Gateway::builder()
            .store(Arc::new(store.unwrap()))
            .keys(KeyRing::parse(&keys).unwrap())
            .build()
            .unwrap();
        let file = Connection::open(&path).unwrap();
        file.execute_batch(
            "PRAGMA synchronous = OFF; DROP TRIGGER audit_lines_stay; DROP TRIGGER audit_lines_stand;",
        )
        .unwrap();
        let log = Self {
            gateway,
            file,
            _folder: folder,
        };
        let mut states = vec![log.state()];
        for line in 0..lines {
            log.add(&format!("client-{line}")).await;
            states.push(log.state());
        }
        (log, states)
    }

    async fn add(&self, client: &str) {
        let object = AuditObject::client(client);
        let line = self.gateway.audit(AuditAction::ClientAdd, object);
        line.detail("role", "billing").write().await.unwrap();
    }

    async fn verify(&self, noted: Option<&str>) -> AuditReport {
        let noted = noted.map(|noted| noted.parse::<AuditAnchor>().unwrap());
        self.gateway.verify_audit(noted, |_| {}).await.unwrap()
    }

    fn state(&self) -> State {
        let mut found = self
            .file
            .prepare("SELECT * FROM audit_lines ORDER BY seq")
            .unwrap();
        let lines = found.query_map([], |row| {
            Ok(Line {
                seq: row.get("seq")?,
                held: row.get("head_held")?,
                at: row.get("at")?,
                texts: [
                    row.get("actor")?,
                    row.get("role")?,
                    row.get("origin")?,
                    row.get("action")?,
                    row.get("object")?,
                    row.get("outcome")?,
                    row.get("details")?,
                ],
                mac: row.get("mac")?,
            })
        });
        let lines = lines.unwrap().map(Result::unwrap).collect();
        let head = self.file.query_row("SELECT * FROM audit_head", [], |row| {
            Ok(Head {
                count: row.get("count")?,
                last: row.get("last")?,
                mac: row.get("mac")?,
            })
        });
        State {
            lines,
            head: head.ok(),
        }
    }

    /// Makes the file say this.
    fn put(&self, state: &State) {
        self.file
            .execute_batch("BEGIN; DELETE FROM audit_lines; DELETE FROM audit_head;")
            .unwrap();
        for line in &state.lines {
            let [actor, role, origin, action, object, outcome, details] = &line.texts;
            self.file
                .prepare_cached(
                    "INSERT INTO audit_lines VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                )
                .unwrap()
                .execute(params![
                    line.seq, line.held, line.at, actor, role, origin, action, object, outcome,
                    details, line.mac
                ])
                .unwrap();
        }
        if let Some(head) = &state.head {
            let values = params![head.count, head.last, head.mac];
            self.file
                .execute("INSERT INTO audit_head VALUES (1, ?1, ?2, ?3)", values)
                .unwrap();
        }
        self.file.execute_batch("COMMIT").unwrap();
    }
}

/// Numbers that repeat from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % limit
    }
}

fn number(at: usize) -> i64 {
    i64::try_from(at).unwrap() + 1
}

fn bend(mac: &mut Vec<u8>, dice: &mut Dice) {
    match dice.below(4) {
        0 => mac.clear(),
        1 => drop(mac.pop()),
        2 => mac.push(0),
        _ => {
            let at = dice.below(mac.len());
            mac[at] ^= 1 << dice.below(8);
        }
    }
}

fn renumber(lines: &mut [Line]) {
    for (at, line) in lines.iter_mut().enumerate() {
        line.seq = number(at);
    }
}

/// Tampers in one way; the name of the way, and the fault that must be found first.
fn tamper(state: &mut State, before: &[State], dice: &mut Dice) -> (&'static str, AuditFault) {
    let lines = &mut state.lines;
    let n = lines.len();
    let i = dice.below(n);
    let changed = |at: usize| AuditFault::Changed { line: number(at) };
    match dice.below(16) {
        0 => {
            let text = &mut lines[i].texts[dice.below(7)];
            text.push('x');
            ("a text is changed", changed(i))
        }
        1 => {
            // The same letters in the next field: lengths are part of the bytes.
            let field = dice.below(6);
            let moved = lines[i].texts[field].pop();
            lines[i].texts[field + 1].insert_str(0, &moved.map(String::from).unwrap_or_default());
            lines[i].texts[field].push_str(if moved.is_none() { "x" } else { "" });
            ("a letter moves to the next field", changed(i))
        }
        2 => {
            lines[i].at += [1, -1, 1000][dice.below(3)];
            ("a time is changed", changed(i))
        }
        3 => {
            lines[i].held = false;
            ("what it says of the head is changed", changed(i))
        }
        4 => {
            bend(&mut lines[i].mac, dice);
            ("a MAC is changed", changed(i))
        }
        5 => {
            let to = i + dice.below(n - i);
            lines.drain(i..=to);
            let (line, to) = (number(i), number(to));
            ("lines are dropped", AuditFault::Missing { line, to })
        }
        6 if i < n - 1 => {
            lines.remove(i);
            renumber(lines);
            ("a line is dropped and the rest moved up", changed(i))
        }
        7 => {
            let j = (i + 1 + dice.below(n - 1)) % n;
            lines.swap(i, j);
            renumber(lines);
            ("two lines change places", changed(i.min(j)))
        }
        8 => {
            let j = (i + 1 + dice.below(n - 1)) % n;
            let texts = lines[i].texts.clone();
            lines[i].texts = std::mem::replace(&mut lines[j].texts, texts);
            ("two lines change their texts", changed(i.min(j)))
        }
        9 => {
            let place = dice.below(n + 1);
            lines.insert(place, lines[i].clone());
            renumber(lines);
            // A copy right before its line stands in its place; the line itself is one too far.
            let first = if place == i { place + 1 } else { place };
            ("a line is doubled", changed(first))
        }
        10 => {
            let place = dice.below(n);
            let mut line = lines[i].clone();
            line.texts[0] = "nobody".to_owned();
            lines.insert(place, line);
            renumber(lines);
            ("a line is put in", changed(place))
        }
        11 => {
            let mut line = lines[i].clone();
            line.seq = [0, -3, i64::MIN + 1][dice.below(3)];
            let fault = AuditFault::Changed { line: line.seq };
            lines.push(line);
            ("a line is put in before the first", fault)
        }
        12 => {
            let mut line = lines[i].clone();
            line.seq = number(n);
            line.texts[4] = "forged".to_owned();
            lines.push(line);
            ("a line is put after the last", changed(n))
        }
        13 => {
            state.head = None;
            ("the head is removed", AuditFault::HeadMissing)
        }
        14 => {
            let head = state.head.as_mut().unwrap();
            match dice.below(3) {
                0 => head.count += [1, -1, 1_000_000][dice.below(3)],
                1 => bend(&mut head.last, dice),
                _ => bend(&mut head.mac, dice),
            }
            ("the head is changed", AuditFault::HeadChanged)
        }
        _ => {
            let earlier = 1 + dice.below(n - 1);
            state.head.clone_from(&before[earlier].head);
            ("an earlier head is put back", AuditFault::HeadChanged)
        }
    }
}

#[tokio::test]
async fn every_way_of_tampering_is_found_and_located() {
    let asked = std::env::var("CARDLESS_AUDIT_CASES");
    let cases = asked.map_or(CASES, |text| text.parse().unwrap());
    let (log, states) = Log::with(LINES).await;
    let whole = log.state();
    assert_eq!(log.verify(None).await.faults, []);
    let mut ways = std::collections::BTreeMap::new();
    for seed in 1..=cases {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut state = whole.clone();
        let (way, first) = tamper(&mut state, &states, &mut dice);
        log.put(&state);
        let report = log.verify(None).await;
        assert_eq!(report.faults.first(), Some(&first), "seed {seed}: {way}");
        *ways.entry(way).or_insert(0u64) += 1;
    }
    log.put(&whole);
    assert_eq!(log.verify(None).await.faults, []);
    assert!(ways.len() >= 15 || cases < CASES, "{ways:?}");
    println!("{cases} cases, seeds 1 to {cases}: {ways:?}");
}

#[tokio::test]
async fn one_change_is_one_fault() {
    let (log, _) = Log::with(9).await;
    let whole = log.state();
    let mut text = whole.clone();
    text.lines[3].texts[0] = "somebody".to_owned();
    log.put(&text);
    assert_eq!(
        log.verify(None).await.faults,
        [AuditFault::Changed { line: 4 }]
    );
    let mut mac = whole.clone();
    mac.lines[3].mac[7] ^= 1;
    log.put(&mac);
    assert_eq!(
        log.verify(None).await.faults,
        [AuditFault::Changed { line: 4 }]
    );
    let mut gap = whole;
    gap.lines.drain(3..5);
    log.put(&gap);
    assert_eq!(
        log.verify(None).await.faults,
        [AuditFault::Missing { line: 4, to: 5 }]
    );
}

/// Whoever reads it learns where to look.
#[test]
fn a_fault_says_where_it_is() {
    for (fault, says) in [
        (AuditFault::Missing { line: 5, to: 5 }, "line 5 is missing"),
        (
            AuditFault::Missing { line: 5, to: 7 },
            "lines 5 to 7 are missing",
        ),
        (AuditFault::Changed { line: 5 }, "line 5 is not what"),
        (AuditFault::HeadDidNotHold { line: 5 }, "line 5 was added"),
        (AuditFault::HeadMissing, "head is missing"),
        (AuditFault::HeadChanged, "not that of the last line"),
        (AuditFault::NotAsNoted { line: 5 }, "line 5 is not the one"),
    ] {
        let said = fault.to_string();
        assert!(said.contains(says), "{said}");
    }
}

/// A hundred faults are named, and all of them are counted.
#[tokio::test]
async fn no_fault_is_left_uncounted() {
    let (log, _) = Log::with(120).await;
    let mut changed = log.state();
    for line in &mut changed.lines {
        line.texts[0] = "another".to_owned();
    }
    log.put(&changed);
    let report = log.verify(None).await;
    assert_eq!((report.faults.len(), report.fault_count), (100, 120));
    assert!(!report.is_whole());
    let mut one = log.state();
    one.lines.truncate(119);
    log.put(&one);
    assert_eq!(log.verify(None).await.fault_count, 120);
}

/// Whoever waits sees how many lines were looked at.
#[tokio::test]
async fn a_verification_tells_how_far_it_is() {
    let (log, _) = Log::with(6).await;
    let mut heard = Vec::new();
    let verified = log.gateway.verify_audit(None, |seen| heard.push(seen));
    assert!(verified.await.unwrap().is_whole());
    assert_eq!(heard.last(), Some(&6), "{heard:?}");
    assert!(heard.is_sorted(), "{heard:?}");
}

/// A genuine head of another line that once had the same number, and an earlier one.
#[tokio::test]
async fn a_head_that_does_not_belong_is_found() {
    let (log, states) = Log::with(6).await;
    log.put(&states[5]);
    log.add("another").await;
    let genuine = log.state();
    assert!(log.verify(None).await.is_whole());
    for head in [&states[6].head, &states[5].head, &states[1].head] {
        let mut other = genuine.clone();
        other.head.clone_from(head);
        log.put(&other);
        assert_eq!(log.verify(None).await.faults, [AuditFault::HeadChanged]);
    }
}

#[tokio::test]
async fn a_new_line_hides_no_tampering() {
    let (log, states) = Log::with(6).await;
    let whole = log.state();
    let mut cut = whole.clone();
    cut.lines.truncate(4);
    log.put(&cut);
    log.add("later").await;
    assert_eq!(
        log.verify(None).await.faults,
        [
            AuditFault::Missing { line: 5, to: 6 },
            AuditFault::HeadDidNotHold { line: 7 }
        ]
    );

    let did_not_hold = [AuditFault::HeadDidNotHold { line: 7 }];
    let mut earlier = whole.clone();
    earlier.head.clone_from(&states[3].head);
    log.put(&earlier);
    log.add("later").await;
    assert_eq!(log.verify(None).await.faults, did_not_hold);

    let mut headless = whole.clone();
    headless.head = None;
    log.put(&headless);
    log.add("later").await;
    assert_eq!(log.verify(None).await.faults, did_not_hold);

    // The last line is another than the head's, under the same number.
    let mut bent = whole.clone();
    bent.lines.last_mut().unwrap().mac.fill(7);
    log.put(&bent);
    log.add("later").await;
    let faults = log.verify(None).await.faults;
    assert!(faults.contains(&did_not_hold[0]), "{faults:?}");

    let mut huge = whole.clone();
    huge.head.as_mut().unwrap().count = i64::MAX - 1;
    log.put(&huge);
    log.add("later").await;
    log.add("and later").await;
    assert_eq!(log.verify(None).await.faults, did_not_hold);
    assert_eq!(log.state().lines.len(), 8);
}

#[tokio::test]
async fn a_log_that_is_put_back_whole_is_found_by_who_has_noted_its_head() {
    let (log, states) = Log::with(6).await;
    let noted = log.verify(None).await.head.unwrap();
    log.add("later").await;
    assert_eq!(log.verify(Some(&noted)).await.faults, []);

    // Lines and head of an earlier time fit each other: this is what the chain alone can't show.
    log.put(&states[4]);
    assert_eq!(log.verify(None).await.faults, []);
    let gone = [AuditFault::NotAsNoted { line: 6 }];
    assert_eq!(log.verify(Some(&noted)).await.faults, gone);
    // Nor can new lines take the place of those that are gone.
    for client in ["a", "b", "c"] {
        log.add(client).await;
    }
    assert_eq!(log.verify(None).await.faults, []);
    assert_eq!(log.verify(Some(&noted)).await.faults, gone);

    log.put(&State {
        lines: Vec::new(),
        head: None,
    });
    assert_eq!(log.verify(None).await.faults, []);
    assert_eq!(log.verify(Some(&noted)).await.faults, gone);
}

#[test]
fn a_noted_head_is_read_back_or_refused() {
    let good = format!("7:{}", "ab".repeat(32));
    assert_eq!(good.parse::<AuditAnchor>().unwrap().to_string(), good);
    let short = format!("7:{}", "ab".repeat(31));
    let below = format!("0:{}", "ab".repeat(32));
    for bad in ["", "7", "7:", ":ab", "x:ab", "-1:ab", &short, &below] {
        assert!(bad.parse::<AuditAnchor>().is_err(), "{bad}");
    }
}

#[tokio::test]
async fn lines_of_two_processes_make_one_chain() {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite:{}", folder.path().join("x.db").display());
    let keys = KeyRing::generate(&SystemEntropy).unwrap();
    let process = || {
        let store = SqliteStore::open(&url, Threads::Own).unwrap();
        Gateway::builder()
            .store(Arc::new(store))
            .keys(KeyRing::parse(&keys).unwrap())
            .build()
            .unwrap()
    };
    let processes = [process(), process()];
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..120 {
        let gateway = processes[number % 2].clone();
        // Every name comes twice: one of each is refused, and leaves a line all the same.
        tasks.spawn(async move {
            let name = format!("client-{}", number / 2);
            gateway.add_client(&name, Role::Operator).await.is_ok()
        });
    }
    let added = tasks.join_all().await.into_iter().filter(|added| *added);
    assert_eq!(added.count(), 60);
    let report = processes[0].verify_audit(None, |_| {}).await.unwrap();
    assert_eq!((report.lines, report.faults), (120, Vec::new()));
}

async fn lines(gateway: &Gateway) -> Vec<String> {
    let query = AuditQuery {
        limit: 100,
        ..AuditQuery::default()
    };
    let page = gateway.audit_lines(&query).await.unwrap();
    let line = |line: &cardless::gateway::AuditLine| {
        let details: Vec<_> = line
            .details
            .iter()
            .map(|(name, word)| format!("{name}={word}"))
            .collect();
        format!(
            "{} {} {} {} {} {} {}",
            line.actor,
            line.role,
            line.origin,
            line.action,
            line.object,
            line.outcome,
            details.join(",")
        )
    };
    page.data.iter().rev().map(line).collect()
}

#[tokio::test(start_paused = true)]
async fn a_line_says_who_did_what_to_what_and_how_it_came_out() {
    let world = World::new(Shape::TwoCalls);
    let ann = world.gateway.acting_as(Actor::command_line("ann"));
    ann.add_client("shop", Role::Billing).await.unwrap();
    assert!(ann.add_client("shop", Role::Billing).await.is_err());
    ann.revoke_client("shop").await.unwrap();
    assert!(ann.revoke_client("shop").await.is_err());
    let said = lines(&world.gateway).await;
    // The name of its key is another one each time.
    let (said_first, key) = said[0].split_once("key=").unwrap();
    let (key, rest) = key.split_once(',').unwrap();
    assert!(key.len() == 16 && key.bytes().all(|letter| (b'a'..=b'p').contains(&letter)));
    let said: Vec<_> = [format!("{said_first}{rest}")]
        .into_iter()
        .chain(said[1..].iter().cloned())
        .collect();
    assert_eq!(
        said,
        [
            "ann command_line command_line client.add shop done role=billing",
            "ann command_line command_line client.add shop refused code=invalid_field",
            "ann command_line command_line client.revoke shop done ",
            "ann command_line command_line client.revoke shop refused code=not_found",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn no_line_holds_an_account_a_card_number_or_free_text() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let someone = Actor::command_line("4111 1111 1111 1111").named(&"x".repeat(65));
    let gateway = world.gateway.acting_as(someone);
    gateway.account("a-1").await.unwrap();
    assert!(gateway.account("nobody-there").await.is_err());
    assert!(
        gateway
            .add_client("4111111111111111", Role::Billing)
            .await
            .is_err()
    );
    let request = ResolveRequest {
        payment: "4111 1111 1111 1111".to_owned(),
        operation: None,
        end: ResolveAs::Failed,
        note: "seen".to_owned(),
        person: "4111111111111111".to_owned(),
    };
    assert!(gateway.resolve(&request).await.is_err());
    let said = lines(&gateway).await.join("\n");
    for secret in ["4111", "a-1", "nobody-there", "xxx"] {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
    assert!(said.contains("unnamed command_line command_line account.show account_"));
    assert_eq!(said.matches("account.show").count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_listing_goes_page_by_page_and_by_account() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    for _ in 0..5 {
        world.gateway.account("a-1").await.unwrap();
    }
    assert!(world.gateway.account("a-2").await.is_err());
    let mut query = AuditQuery {
        account: Some("a-1".to_owned()),
        limit: 2,
        ..AuditQuery::default()
    };
    let mut seen = Vec::new();
    loop {
        let page = world.gateway.audit_lines(&query).await.unwrap();
        seen.extend(page.data.iter().map(|line| line.line));
        let Some(next) = page.next else { break };
        query.before = Some(next.parse().unwrap());
    }
    assert_eq!(seen, [5, 4, 3, 2, 1]);
}

#[tokio::test(start_paused = true)]
async fn refused_calls_are_counted_and_not_one_line_each() {
    let world = World::new(Shape::TwoCalls);
    let key = world
        .gateway
        .add_client("shop", Role::Billing)
        .await
        .unwrap();
    world.gateway.revoke_client("shop").await.unwrap();
    for _ in 0..100 {
        let origin = Origin::HttpPublic;
        world.gateway.login_refused(Some(&key), origin).await;
        world.gateway.login_refused(None, origin).await;
    }
    world.run_for(std::time::Duration::from_secs(90)).await;
    let said = lines(&world.gateway).await;
    assert_eq!(
        said[2..],
        [
            "unknown unknown http_public login.refused shop refused calls=1,why=revoked_key",
            "unknown unknown http_public login.refused  refused calls=1,why=no_key",
            "unknown unknown http_public login.refused  refused calls=99,why=no_key",
            "unknown unknown http_public login.refused shop refused calls=99,why=revoked_key",
        ]
    );
}
