//! The thief reads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cardless::account::AccountId;
use cardless::scope::columns::{self, Class};
use cardless::vault::HashPurpose;
use cardless_contract::ProviderName;
use cardless_sandbox::Provider;
use ring::{digest, hkdf, hmac};
use rusqlite::Connection;

use super::Printout;
use super::world::{ACCOUNTS, ERASED, FIRST, World};
use crate::canary::{Finder, contains};

/// How long a stretch of bytes must be to be no accident: where all are drawn, and where half of
/// each says nothing.
const SEALED_STRETCH: usize = 8;
const TEXT_STRETCH: usize = 16;

/// Between these customer numbers the thief guesses.
const GUESSES: std::ops::Range<u32> = 20_170_000..20_180_000;

/// A stolen file, as a database and as bytes.
pub(crate) struct File {
    connection: Connection,
    bytes: Vec<u8>,
}

impl File {
    pub(crate) fn open(path: &Path) -> Self {
        let mut bytes = std::fs::read(path).unwrap();
        bytes.extend(std::fs::read(path.with_extension("db-wal")).unwrap_or_default());
        Self {
            connection: Connection::open(path).unwrap(),
            bytes,
        }
    }

    /// The columns of the live schema.
    fn schema(&self) -> Vec<(String, String)> {
        let question = "SELECT m.name, c.name FROM sqlite_schema m, pragma_table_info(m.name) c
                        WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' ORDER BY 1, 2";
        let mut columns = self.connection.prepare(question).unwrap();
        let columns = columns.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        columns.unwrap().map(Result::unwrap).collect()
    }

    /// Every column, by what it holds. One that is not on the list fails, and so does one on the
    /// list that is not there.
    pub(crate) fn columns(&self, out: &mut Printout) {
        let mut classes: BTreeMap<Class, BTreeMap<String, Vec<String>>> = BTreeMap::new();
        for (table, column) in self.schema() {
            let class = columns::class(&table, &column);
            let class = class.unwrap_or_else(|| panic!("{table}.{column} is in no class"));
            let tables = classes.entry(class).or_default();
            tables.entry(table).or_default().push(column);
        }
        assert_eq!(self.schema().len(), columns::all().count());
        for class in Class::ALL.into_iter().filter(|class| class.is_plain()) {
            let tables = classes.remove(&class).unwrap();
            let tables: Vec<String> = tables
                .iter()
                .map(|(table, columns)| format!("{table} ({})", columns.join(" ")))
                .collect();
            out.say(class.as_str(), &tables.join(", "));
        }
        let hidden: usize = classes
            .values()
            .flatten()
            .map(|(_, columns)| columns.len())
            .sum();
        let plain = self.schema().len() - hidden;
        out.say(
            "in all",
            &format!("{plain} columns in plain, {hidden} sealed, hashed or MACs"),
        );
    }

    fn count(&self, question: &str) -> i64 {
        self.connection
            .query_row(question, [], |row| row.get(0))
            .unwrap()
    }

    pub(crate) fn texts(&self, question: &str) -> BTreeSet<String> {
        let mut found = self.connection.prepare(question).unwrap();
        let found = found.query_map([], |row| row.get(0)).unwrap();
        found.map(Result::unwrap).collect()
    }

    fn blobs(&self, question: &str) -> Vec<Vec<u8>> {
        let mut found = self.connection.prepare(question).unwrap();
        let found = found.query_map([], |row| row.get(0)).unwrap();
        found.map(Result::unwrap).collect()
    }

    /// How many there are of everything, and what belongs together.
    pub(crate) fn counts(&self, out: &mut Printout) {
        let counts: Vec<String> = [
            "accounts",
            "payment_methods",
            "payments",
            "operations",
            "clients",
            "erasures",
        ]
        .into_iter()
        .map(|table| {
            let count = self.count(&format!("SELECT count(*) FROM {table}"));
            format!("{} {count}", table.replace('_', " "))
        })
        .collect();
        out.say("how many there are", &counts.join(", "));
        let most =
            self.count("SELECT max(n) FROM (SELECT count(*) n FROM payments GROUP BY account)");
        let methods = self
            .count("SELECT max(n) FROM (SELECT count(*) n FROM payment_methods GROUP BY account)");
        out.say(
            "what belongs to one account, whosever it is",
            &format!("up to {most} payments and {methods} payment methods have one pseudonym"),
        );
        let turnover = self.count("SELECT sum(captured - refunded) FROM payments");
        let currency = self.texts("SELECT DISTINCT currency FROM payments");
        let currency = currency.into_iter().next().unwrap();
        out.say(
            "the turnover",
            &format!("{currency} {}.{:02}", turnover / 100, turnover % 100),
        );
    }

    /// The content's length, which stands before it in each sealed message.
    pub(crate) async fn lengths(&self, world: &World, out: &mut Printout) {
        let mut told = Vec::new();
        for provider in Provider::ALL {
            let name = provider.name();
            let sealed = self.blobs(&format!(
                "SELECT sealed FROM records WHERE provider = '{name}'"
            ));
            let lengths: BTreeSet<usize> =
                sealed.iter().map(|sealed| content_length(sealed)).collect();
            let (_, token) = world.token(FIRST, provider).await;
            assert!(lengths.contains(&token.len()), "{lengths:?}");
            let lengths: Vec<String> = lengths.iter().map(ToString::to_string).collect();
            told.push(format!("a token of {name} {}", lengths.join(" or ")));
        }
        let ids = self.blobs("SELECT sealed_id FROM accounts");
        let ids: BTreeSet<usize> = ids.iter().map(|id| content_length(id)).collect();
        assert_eq!(ids, [FIRST.len()].into());
        told.push(format!("these accounts' ids {}", FIRST.len()));
        out.say("how long what is sealed is, in bytes", &told.join(", "));
    }

    /// Whether the id of an open setup is all that its page's address holds.
    pub(crate) fn pages(&self, pages: &[(Provider, (String, String))], out: &mut Printout) {
        let mut told: BTreeMap<bool, Vec<&str>> = BTreeMap::new();
        for (provider, (setup, page)) in pages {
            let question = format!("SELECT reference FROM setups WHERE id = '{setup}'");
            let reference = self.texts(&question).into_iter().next().unwrap();
            assert!(page.contains(&reference), "{page} {reference}");
            // What else varies in the address would have to be known, too.
            let rest = page.replace(&reference, "");
            told.entry(!rest.contains("securityToken"))
                .or_default()
                .push(provider.name());
        }
        out.say(
            "the address of the page of a setup that is still open",
            &format!(
                "by its id at {}; not at {}, whose address holds a secret that is sealed",
                told[&true].join(" and "),
                told[&false].join(" and ")
            ),
        );
    }

    /// What a second copy adds, from before an erasure.
    pub(crate) fn linked(&self, before: &Self, world: &World, out: &mut Printout) {
        let account = world.pseudonym(ERASED);
        let own = format!("SELECT id FROM payments WHERE account = '{account}'");
        assert!(self.texts(&own).is_empty(), "the pseudonym is gone");
        let then = before.texts(&own);
        let now = self.texts("SELECT id FROM payments");
        let same = then.intersection(&now).count();
        assert!(same > 0);
        out.say(
            "with a copy from before an erasure",
            &format!("which payments were the erased account's ({same} of {same} keep their id), not whose it was"),
        );
    }

    /// Everything that was secret, in every form, in the bytes of the file.
    pub(crate) fn secrets(&self, world: &World, out: &mut Printout) {
        let finder = Finder::new(&world.secrets);
        assert!(
            finder.find(&self.bytes).is_empty(),
            "{:?}",
            finder.find(&self.bytes)
        );
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (kind, _) in world.secrets.iter() {
            *counts.entry(kind).or_default() += 1;
        }
        let counts: Vec<String> = counts
            .iter()
            .map(|(kind, count)| format!("{kind} (0 of {count})"))
            .collect();
        out.say(
            "what is not there, in any of twelve forms",
            &counts.join(", "),
        );
        let ours = contains(&self.bytes, b"invoice of a customer");
        assert!(ours, "the file is really read");
    }

    /// All texts and bytes that are kept of an account, sealed ones apart.
    fn rows_of(&self, account: &str) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let (mut open, mut sealed) = (Vec::new(), Vec::new());
        let with_account = columns::all().filter(|column| column.name == "account");
        for table in with_account.map(|column| column.table) {
            let kept = columns::all().filter(|column| column.table == table);
            // The providers' ids of transactions are numbered one after the other.
            for column in kept.filter(|column| column.class != Class::ProviderId) {
                let question = format!(
                    "SELECT CAST({0} AS BLOB) FROM {table} WHERE account = '{account}' AND
                     typeof({0}) IN ('text', 'blob')",
                    column.name
                );
                let values = self.blobs(&question);
                if column.class == Class::Sealed {
                    sealed.extend(values);
                } else {
                    open.extend(values);
                }
            }
        }
        (open, sealed)
    }

    /// Two accounts hold the same tokens: whatever their rows have in common, those of an account
    /// with other tokens have too.
    pub(crate) fn equal_tokens(&self, world: &World, out: &mut Printout) {
        let rows = ACCOUNTS.map(|account| self.rows_of(&world.pseudonym(account)));
        let sealed: Vec<&Vec<u8>> = rows.iter().flat_map(|(_, sealed)| sealed).collect();
        let format = Format::of(&sealed);
        let [first, same, other] = rows.each_ref().map(|(open, sealed)| {
            let open = open.iter().flat_map(|bytes| bytes.windows(TEXT_STRETCH));
            let drawn = sealed.iter().flat_map(|sealed| format.drawn(sealed));
            let drawn: Vec<Vec<u8>> = drawn.collect();
            let sealed = drawn.iter().flat_map(|drawn| drawn.windows(SEALED_STRETCH));
            open.chain(sealed)
                .map(<[u8]>::to_vec)
                .collect::<BTreeSet<_>>()
        });
        let shared: BTreeSet<_> = first.intersection(&same).collect();
        let control: BTreeSet<_> = first.intersection(&other).collect();
        assert!(!shared.is_empty(), "what is the same for all is found");
        let telling: Vec<_> = shared.difference(&control).collect();
        assert!(telling.is_empty(), "{telling:?}");
        out.say(
            "whether two accounts hold the same token",
            &format!(
                "no stretch of {SEALED_STRETCH} sealed bytes and none of {TEXT_STRETCH} others, in all rows of two \
                 accounts with the same three tokens, is shared by these two and not by a third account with \
                 other tokens (the providers' ids of transactions and what is the same in every message aside)"
            ),
        );
    }

    fn hashes(&self) -> BTreeSet<Vec<u8>> {
        let mut hashes = BTreeSet::new();
        for column in columns::all() {
            let kept = matches!(
                column.class,
                Class::KeyedHash | Class::Mac | Class::Pseudonym
            );
            if !kept {
                continue;
            }
            let question = format!(
                "SELECT CAST({0} AS BLOB) FROM {1} WHERE {0} IS NOT NULL",
                column.name, column.table
            );
            hashes.extend(self.blobs(&question));
        }
        hashes
    }

    /// A dictionary against every hash and pseudonym.
    pub(crate) fn guesses(&self, world: &World, out: &mut Printout) {
        let hashes = self.hashes();
        let tried = |guess: &[u8]| ways(guess).iter().any(|hash| hashes.contains(hash));
        let found = GUESSES
            .filter(|number| tried(number.to_string().as_bytes()))
            .count();
        assert_eq!(found, 0);
        let vault = world.vault();
        let with_key = GUESSES
            .filter(|number| {
                let id = AccountId::new(number.to_string()).unwrap();
                let name = id.pseudonym(&vault).to_string();
                hashes.contains(name.as_bytes())
            })
            .count();
        assert_eq!(with_key, ACCOUNTS.len());
        out.say(
            "whose pseudonym one is",
            &format!(
                "{} customer numbers, theirs among them, hashed in {} ways: {found} found (with the key file: \
                 {with_key})",
                GUESSES.len(),
                ways(b"").len()
            ),
        );
        let keys = &world.api_keys;
        let found = keys.iter().filter(|key| tried(key.as_bytes())).count();
        assert_eq!(found, 0);
        let known = |key: &&String| {
            let hash = vault.keyed_hash(HashPurpose::ApiKey, key.as_bytes());
            hashes.contains(hash.as_slice())
        };
        let with_key = keys.iter().filter(known).count();
        assert_eq!(with_key, keys.len());
        out.say(
            "whether an API key that it has guessed is one",
            &format!("the true ones, hashed in the same ways: {found} of {} found (with the key file: {with_key})", keys.len()),
        );
        let keys = &world.idempotency_keys;
        let found = keys.iter().filter(|key| tried(key.as_bytes())).count();
        assert_eq!(found, 0);
        out.say(
            "whether an idempotency key that it has guessed was used",
            &format!("{found} of {} found", keys.len()),
        );
        let names = Provider::ALL.map(|provider| {
            let id = AccountId::new(FIRST).unwrap();
            let name = ProviderName::new(provider.name()).unwrap();
            id.customer_reference(&vault, &name).to_string()
        });
        let found = names
            .iter()
            .filter(|name| contains(&self.bytes, name.as_bytes()))
            .count();
        assert_eq!(found, 0);
        out.say(
            "what an account is called at a provider",
            &format!("{found} of {} names are there", names.len()),
        );
    }

    /// What was sealed of an account before it was erased.
    pub(crate) fn erased(&self, before: &Self, world: &World, out: &mut Printout) {
        let account = world.pseudonym(ERASED);
        let sealed: Vec<Vec<u8>> = [
            format!("SELECT sealed FROM records WHERE account = '{account}'"),
            format!("SELECT sealed_id FROM accounts WHERE account = '{account}'"),
        ]
        .iter()
        .flat_map(|question| before.blobs(question))
        .collect();
        assert_eq!(sealed.len(), 2);
        assert!(sealed.iter().all(|sealed| contains(&before.bytes, sealed)));
        let left = sealed
            .iter()
            .filter(|sealed| contains(&self.bytes, sealed))
            .count();
        assert_eq!(left, 0);
        assert!(!contains(&self.bytes, account.as_bytes()));
        out.say(
            "anything sealed of an account that was erased",
            &format!(
                "{left} of {} values are left, also in what the file no longer uses",
                sealed.len()
            ),
        );
    }
}

/// Which bytes of a sealed message are the same in all, from its start and from its end.
struct Format {
    from_start: Vec<bool>,
    from_end: Vec<bool>,
}

impl Format {
    fn of(messages: &[&Vec<u8>]) -> Self {
        let shortest = messages.iter().map(|message| message.len()).min().unwrap();
        let same = |at: &dyn Fn(&[u8]) -> u8| {
            let first = at(messages[0]);
            messages.iter().all(|message| at(message) == first)
        };
        Self {
            from_start: (0..shortest)
                .map(|place| same(&|message| message[place]))
                .collect(),
            from_end: (1..=shortest)
                .map(|place| same(&|message| message[message.len() - place]))
                .collect(),
        }
    }

    /// The stretches between what is the same in all.
    fn drawn(&self, message: &[u8]) -> Vec<Vec<u8>> {
        let same = |place: usize| {
            let behind = message.len() - 1 - place;
            let at_start = self.from_start.get(place).is_some_and(|same| *same);
            at_start || self.from_end.get(behind).is_some_and(|same| *same)
        };
        let bytes: Vec<(usize, u8)> = message.iter().copied().enumerate().collect();
        let stretches = bytes.split(|(place, _)| same(*place));
        stretches
            .map(|stretch| stretch.iter().map(|(_, byte)| *byte).collect())
            .collect()
    }
}

/// Reads the length of what is sealed from the message itself: it stands in four bytes before the
/// content, which ends 16 bytes before the end.
fn content_length(sealed: &[u8]) -> usize {
    (0..sealed.len() - 20)
        .find(|length| {
            let at = sealed.len() - 16 - length - 4;
            let stated: [u8; 4] = sealed[at..at + 4].try_into().unwrap();
            usize::try_from(u32::from_be_bytes(stated)).unwrap() == *length
        })
        .unwrap()
}

/// What a guess could be kept as by somebody who has no key, or hopes that there is none: each hash
/// whole, halved, and in our letters.
fn ways(guess: &[u8]) -> Vec<Vec<u8>> {
    let keyed = |key: &[u8]| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        hmac::sign(&key, guess).as_ref().to_vec()
    };
    let mut derived = [0; 32];
    let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"cardless keyed hashes 1").extract(&[0; 32]);
    let okm = root.expand(&[b"pseudonym"], hmac::HMAC_SHA256).unwrap();
    okm.fill(&mut derived).unwrap();
    let hashes = [
        digest::digest(&digest::SHA256, guess).as_ref().to_vec(),
        digest::digest(&digest::SHA512, guess).as_ref().to_vec(),
        digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, guess)
            .as_ref()
            .to_vec(),
        keyed(b""),
        keyed(&[0; 32]),
        keyed(b"pseudonym"),
        keyed(b"cardless keyed hashes 1"),
        keyed(&derived),
    ];
    let letters = |hash: &[u8]| -> Vec<u8> {
        let halves = hash.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        halves.map(|half| b'a' + half).collect()
    };
    hashes
        .iter()
        .flat_map(|hash| {
            [
                hash.clone(),
                hash[..16].to_vec(),
                letters(&hash[..16]),
                letters(hash),
            ]
        })
        .collect()
}
