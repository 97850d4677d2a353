//! A file that was interrupted goes on where it was, and only there.

use cardless::gateway::RESUMED_WITHIN;

use super::*;

/// How many accounts have a token: three lines of them.
const TOKENS: usize = 230;

/// A store with so many tokens, a recipient, and a file for it up to its second line of records.
struct Interrupted {
    world: World,
    to: SecretKey,
    part: ExportPart,
    /// The lines so far.
    lines: Vec<String>,
    mark: String,
}

impl Interrupted {
    async fn after(lines: usize) -> Self {
        let world = world();
        let sender = Sender::to(&world).await;
        let records: Vec<_> = (0..TOKENS)
            .map(|at| record(&format!("account-{at}"), &format!("token-{at}")))
            .collect();
        import(&world.gateway, &sender.file(&records, 50), &sender.keys()).await;
        let to = pair(Usage::Seal);
        let part = ExportPart::default();
        let mut export = world
            .gateway
            .export_tokens(to.public(), &part)
            .await
            .unwrap();
        let mut written = Vec::new();
        for _ in 0..lines {
            written.push(export.next().await.unwrap().unwrap());
        }
        let mark = export.mark().unwrap();
        Self {
            world,
            to,
            part,
            lines: written,
            mark,
        }
    }

    /// What stands in the file.
    fn left(&self) -> String {
        self.lines.concat() + &self.mark
    }

    /// The file's other lines, if it goes on with what is `left`.
    async fn resumed(&self, left: &str) -> Option<(Vec<String>, ExportReport)> {
        let (mut export, bytes) = self
            .world
            .gateway
            .resume_export(self.to.public(), &self.part, left.as_bytes())
            .await
            .unwrap()?;
        assert_eq!(usize::try_from(bytes).unwrap(), self.lines.concat().len());
        let mut lines = Vec::new();
        while let Some(line) = export.next().await.unwrap() {
            lines.push(line);
        }
        Some((lines, export.finish().await.unwrap()))
    }

    async fn begins_anew(&self, left: &str) {
        assert!(self.resumed(left).await.is_none());
    }
}

/// Whether `line` opens for `to` and is a line of records, and whose they are.
fn accounts(lines: &[String], to: &SecretKey) -> Vec<String> {
    let claims = lines.iter().map(|line| opened(line, to));
    let records = claims.flat_map(|claims| claims["records"].as_array().cloned());
    let records = records.flatten();
    records
        .map(|record| record["account"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_behind_each_of_its_lines_and_ends_as_one_file() {
    // The header, three lines of records, the end.
    for lines in 1..=5 {
        let interrupted = Interrupted::after(lines).await;
        // What is linked meanwhile was not here when it was begun.
        tokio::time::advance(Duration::from_secs(1)).await;
        link(&interrupted.world, "late").await;
        let (rest, report) = interrupted.resumed(&interrupted.left()).await.unwrap();
        assert_eq!(rest.len(), 5 - lines);
        let whole = [&interrupted.lines[..], &rest].concat();

        let mut found = accounts(&whole, &interrupted.to);
        assert_eq!(found.len(), TOKENS);
        found.sort();
        found.dedup();
        assert_eq!(found.len(), TOKENS);
        assert_eq!(report.records, u64::try_from(TOKENS).unwrap());
        assert!(report.linked_since);

        let senders = published(&interrupted.world.gateway).await;
        let mut reader =
            cardless::exchange::transfer::Reader::new(vec![interrupted.to.clone()], senders);
        for line in &whole {
            reader.line(line.as_bytes()).unwrap();
        }
        let read = reader.end().unwrap();
        assert_eq!(
            (&read.sha256, &read.export),
            (&report.sha256, &report.export)
        );

        let said = audited(&interrupted.world.gateway).await;
        let said: Vec<_> = said.iter().filter(|line| line.0 == "export").collect();
        let [begun, resumed, ended] = said[..] else {
            panic!("{said:?}")
        };
        assert_eq!(begun.2["export"], ended.2["export"]);
        assert_eq!(resumed.2["behind_line"], lines.to_string());
        assert_eq!(ended.2["sha256"], report.sha256);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_changed_or_cut_begins_anew() {
    let interrupted = Interrupted::after(3).await;
    let (lines, mark) = (&interrupted.lines, &interrupted.mark);
    let left = interrupted.left();
    let cases = [
        String::new(),
        "left behind by something else\n".to_owned(),
        lines.concat(),
        left.trim_end().to_owned(),
        left.chars().take(left.len() - 20).collect(),
        left.clone() + "x",
        left.clone() + mark,
        lines[..2].concat() + mark,
        [&lines[0], &lines[2], &lines[1], mark]
            .map(String::as_str)
            .concat(),
        left.replacen('A', "B", 1),
        mark.clone(),
    ];
    for case in cases {
        interrupted.begins_anew(&case).await;
    }

    // A line of the file is signed by the same key and is no mark, and a mark is no line.
    let signed = jwe::Unopened::parse(lines[2].trim_end())
        .unwrap()
        .open(&interrupted.to)
        .unwrap();
    let signed = std::str::from_utf8(&signed).unwrap().to_owned() + "\n";
    for line in [&signed, &lines[2]] {
        interrupted.begins_anew(&(lines.concat() + line)).await;
    }
    let ours = published(&interrupted.world.gateway).await;
    let mut check = interrupted
        .world
        .gateway
        .import_tokens(&ours)
        .await
        .unwrap();
    assert!(check.line(mark.as_bytes()).await.is_err());

    // A mark that somebody has made of this one says what its signature does not.
    let forged = jws::sign(
        &base64_of(mark.split('.').nth(1).unwrap()),
        "cardless-tokens-mark+jwt",
        &pair(Usage::Sign),
    );
    interrupted
        .begins_anew(&(lines.concat() + &forged.unwrap() + "\n"))
        .await;
    assert!(interrupted.resumed(&left).await.is_some());
}

fn base64_of(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(text)
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn another_recipient_part_or_day_begins_anew() {
    let mut interrupted = Interrupted::after(3).await;
    let left = interrupted.left();
    let to = std::mem::replace(&mut interrupted.to, pair(Usage::Seal));
    interrupted.begins_anew(&left).await;
    interrupted.to = to;

    interrupted.part.limit = 200;
    interrupted.begins_anew(&left).await;
    let (_, report) = export(
        &interrupted.world.gateway,
        interrupted.to.public(),
        &interrupted.part,
    )
    .await;
    interrupted.part = ExportPart {
        after: report.more,
        ..ExportPart::default()
    };
    assert!(interrupted.part.after.is_some());
    interrupted.begins_anew(&left).await;

    interrupted.part = ExportPart::default();
    tokio::time::advance(RESUMED_WITHIN).await;
    assert!(interrupted.resumed(&left).await.is_some());
    tokio::time::advance(Duration::from_millis(1)).await;
    interrupted.begins_anew(&left).await;
}

/// Who was restricted or erased, or has no method any more, is not handed out by going on.
#[tokio::test(start_paused = true)]
async fn what_may_not_be_handed_out_any_more_begins_anew() {
    for what in ["restrict", "erase", "revoke", "suspend"] {
        let interrupted = Interrupted::after(3).await;
        let world = &interrupted.world;
        let left = interrupted.left();
        tokio::time::advance(Duration::from_secs(1)).await;
        // One that is in the file already, and one that is to come.
        let (_, all) = export(&world.gateway, interrupted.to.public(), &interrupted.part).await;
        assert!(!all.linked_since);
        let written = accounts(&interrupted.lines, &interrupted.to);
        assert_eq!(written.len(), 200);
        let (in_it, to_come) = (&written[7], later(&written));
        let change = async |account: &str| match what {
            "restrict" => {
                world.gateway.set_restricted(account, true).await.unwrap();
            }
            "erase" => {
                let key = world.key();
                world.gateway.erase(&key, account).await.unwrap();
            }
            "revoke" => {
                let methods = world.gateway.payment_methods(account).await.unwrap();
                let revoked = world.gateway.revoke(&methods.data[0].id, account).await;
                revoked.unwrap();
            }
            _ => {
                let methods = world.gateway.payment_methods(account).await.unwrap();
                let now = world.clock.now();
                let row = world.store.method_by_handle(&methods.data[0].id, now).await;
                let mut row = row.unwrap().unwrap();
                row.state = MethodState::Suspended;
                let change = vec![Change::UpdateMethod(row)];
                world.store.apply(change).await.unwrap();
            }
        };
        change(&to_come).await;
        let (rest, report) = interrupted.resumed(&left).await.unwrap();
        let rest = accounts(&rest, &interrupted.to);
        assert_eq!((rest.len(), report.records), (29, 229), "{what}");
        assert!(!rest.contains(&to_come) && !report.linked_since);
        change(in_it).await;
        interrupted.begins_anew(&left).await;
    }
}

/// An account that is not among these.
fn later(written: &[String]) -> String {
    let mut all = (0..TOKENS).map(|at| format!("account-{at}"));
    all.find(|account| !written.contains(account)).unwrap()
}

/// What the first half has left out is told at the end.
#[tokio::test(start_paused = true)]
async fn what_was_left_out_before_is_counted_after() {
    let mut interrupted = Interrupted::after(0).await;
    let gateway = &interrupted.world.gateway;
    for at in 0..TOKENS {
        if at % 10 == 0 {
            let account = format!("account-{at}");
            gateway.set_restricted(&account, true).await.unwrap();
        }
    }
    let mut export = gateway
        .export_tokens(interrupted.to.public(), &interrupted.part)
        .await
        .unwrap();
    for _ in 0..3 {
        interrupted
            .lines
            .push(export.next().await.unwrap().unwrap());
    }
    interrupted.mark = export.mark().unwrap();
    let (_, report) = interrupted.resumed(&interrupted.left()).await.unwrap();
    assert_eq!((report.records, report.left_out.restricted), (207, 23));
}
