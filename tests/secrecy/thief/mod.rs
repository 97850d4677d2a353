//! What a thief gets: somebody has a copy of the database file, with the log beside it, and nothing
//! else. The test plays the thief and prints what it learns, what it can't learn, and what it can do
//! who can write to the file too. Every line is found out from the file; `SECURITY.md` quotes them.

mod attack;
mod file;
mod world;

use std::fmt::Write as _;

use cardless_sandbox::Provider;

use file::File;
use world::{ACCOUNTS, ERASED, FIRST, OTHER, SAME, World};

/// Where the quote in `SECURITY.md` begins.
const QUOTED_BEHIND: &str = "<!-- printed by `cargo test --test secrecy what_a_thief_gets` -->";

/// The longest line of the printout.
const WIDTH: usize = 110;

/// The printout: each line is what was found out, by a verb.
#[derive(Default)]
pub(crate) struct Printout(String);

impl Printout {
    fn heading(&mut self, text: &str) {
        writeln!(
            self.0,
            "{}{text}",
            if self.0.is_empty() { "" } else { "\n" }
        )
        .unwrap();
    }

    /// A line that is broken at its width; what follows is indented.
    pub(crate) fn say(&mut self, what: &str, text: &str) {
        let mut line = format!("  {what}:");
        for word in text.split(' ') {
            if line.chars().count() + 1 + word.chars().count() > WIDTH {
                writeln!(self.0, "{line}").unwrap();
                line = "   ".to_owned();
            }
            line = format!("{line} {word}");
        }
        writeln!(self.0, "{line}").unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_thief_gets() {
    let mut world = World::new().await;
    world.add_clients().await;
    for provider in Provider::ALL {
        for account in ACCOUNTS {
            world.live(account, provider).await;
        }
    }
    world.live(ERASED, Provider::PayPal).await;
    world.plant_secrets().await;
    for (number, provider) in (0..).zip(Provider::ALL) {
        let (row, token) = world.token(FIRST, provider).await;
        world.put_token(SAME, &row, &token, 2 * number).await;
        let (_, other) = world.token(OTHER, provider).await;
        assert_eq!(token.len(), other.len(), "else the control is none");
        world.put_token(OTHER, &row, &other, 2 * number + 1).await;
    }
    world.rotate().await;
    world.plant_keys();
    let before = File::open(&world.copy("before the erasure"));
    world.erase(ERASED).await;
    let mut pages = Vec::new();
    for provider in Provider::ALL {
        pages.push((provider, world.begin(OTHER, provider).await));
    }

    let path = world.copy("stolen");
    let stolen = File::open(&path);
    let mut out = Printout::default();
    out.heading(
        "A thief has the database file and the log beside it. It reads, as they stand there:",
    );
    stolen.columns(&mut out);
    out.heading("It learns from that:");
    stolen.counts(&mut out);
    stolen.lengths(&world, &mut out).await;
    stolen.pages(&pages, &mut out);
    stolen.linked(&before, &world, &mut out);
    out.heading("It does not learn:");
    stolen.secrets(&world, &mut out);
    stolen.equal_tokens(&world, &mut out);
    stolen.guesses(&world, &mut out);
    stolen.erased(&before, &world, &mut out);
    out.heading(
        "If it can write to the file, too, and the service goes on with that, it is refused:",
    );
    attack::swaps(&world, &mut out).await;
    attack::keys(&world, &mut out).await;
    attack::public_keys(&world, &mut out).await;
    out.heading("It is found out:");
    attack::audit(&world, &mut out).await;
    attack::amounts(&world, &mut out).await;
    out.heading("It can:");
    attack::roles(&world, &mut out).await;
    attack::rollback(&world, &mut out).await;

    println!("{}", out.0);
    let quoted = include_str!("../../../SECURITY.md");
    let (_, quoted) = quoted.split_once(QUOTED_BEHIND).unwrap_or_default();
    let quoted = quoted.split("```").nth(1).unwrap_or_default();
    let quoted = quoted.trim_start_matches("text");
    assert_eq!(
        quoted.trim(),
        out.0.trim(),
        "SECURITY.md does not quote what is printed"
    );
}
