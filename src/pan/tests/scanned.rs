//! The net over files: what it finds in which encoding, and how often it is wrong. The figures are
//! printed: `cargo test --lib pan::tests::scanned -- --nocapture`.

use std::collections::BTreeMap;
use std::io::{self, Read};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::*;

/// Between two numbers: nothing that is a digit or a border in any of the encodings.
const BETWEEN: &str = ";|~|;";

/// Numbers of the generators below come from this.
const SEED: u64 = 0x5eed_2026;

/// How many ids of a kind are tried.
const IDS: u64 = 20_000;

/// A way of writing a text into a file.
type Write = (&'static str, fn(&str) -> Vec<u8>);

/// A kind of id.
type Make = fn(&mut Dice) -> String;

const WAYS: [Write; 17] = [
    ("UTF-8", |text| text.as_bytes().to_vec()),
    ("UTF-16LE", |text| {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }),
    ("UTF-16BE", |text| {
        text.encode_utf16().flat_map(u16::to_be_bytes).collect()
    }),
    ("UTF-32LE", |text| {
        let units = text.chars().map(u32::from);
        units.flat_map(u32::to_le_bytes).collect()
    }),
    ("UTF-32BE", |text| {
        let units = text.chars().map(u32::from);
        units.flat_map(u32::to_be_bytes).collect()
    }),
    ("percent", |text| {
        each_byte(text, |byte| format!("%{byte:02X}"))
    }),
    ("percent, form", |text| {
        each_byte(text, |byte| match byte {
            b' ' => "+".to_owned(),
            b'0'..=b'9' => char::from(byte).to_string(),
            _ => format!("%{byte:02x}"),
        })
    }),
    ("quoted-printable", |text| {
        each_byte(text, |byte| format!("={byte:02X}"))
    }),
    ("\\x", |text| {
        each_byte(text, |byte| format!("\\x{byte:02x}"))
    }),
    ("\\u", |text| {
        let escaped = text.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
        escaped.collect::<String>().into_bytes()
    }),
    ("HTML, decimal", |text| {
        let escaped = text.chars().map(|c| format!("&#{};", u32::from(c)));
        escaped.collect::<String>().into_bytes()
    }),
    ("HTML, hexadecimal", |text| {
        let escaped = text.chars().map(|c| format!("&#x{:x};", u32::from(c)));
        escaped.collect::<String>().into_bytes()
    }),
    ("base64", |text| STANDARD.encode(text).into_bytes()),
    ("base64url", |text| {
        URL_SAFE_NO_PAD.encode(text).into_bytes()
    }),
    ("base64, wrapped", |text| {
        let encoded = STANDARD.encode(text).into_bytes();
        encoded
            .chunks(10)
            .collect::<Vec<_>>()
            .join(b"\r\n".as_slice())
    }),
    ("hexadecimal", |text| {
        each_byte(text, |byte| format!("{byte:02x}"))
    }),
    ("hexadecimal, apart", |text| {
        each_byte(text, |byte| format!("{byte:02X} "))
    }),
];

fn each_byte(text: &str, write: impl Fn(u8) -> String) -> Vec<u8> {
    text.bytes().map(write).collect::<String>().into_bytes()
}

#[test]
fn every_number_is_found_in_every_script_and_encoding() {
    let texts: Vec<String> = numbers()
        .flat_map(|(_, number)| {
            let scripts = ZEROS.map(|zero| in_script(&number, zero));
            scripts.into_iter().chain([number])
        })
        .collect();
    for (name, write) in WAYS {
        assert_all_found(&format!("{name}, scripts"), write, texts.iter());
    }
}

#[test]
fn every_number_is_found_behind_every_separator_and_encoding() {
    let texts: Vec<String> = numbers()
        .flat_map(|(_, number)| {
            SEPARATORS.into_iter().flat_map(move |separator| {
                let number = number.clone();
                [1, 4].map(move |group| joined(&number, separator, group))
            })
        })
        .collect();
    for (name, write) in WAYS {
        assert_all_found(&format!("{name}, separators"), write, texts.iter());
    }
}

/// How many numbers are drawn for each issuer and length.
const DRAWN: usize = 10;

/// What the net finds of numbers that are drawn anew for each encoding, brand and length: all of them.
#[test]
fn every_brand_and_length_is_found_in_every_encoding() {
    let mut dice = Dice(SEED);
    let mut by_length: BTreeMap<(&str, usize), (usize, usize)> = BTreeMap::new();
    let mut by_encoding: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (encoding, write) in WAYS {
        for (brand, issuer, lengths) in NUMBERS {
            for &length in lengths {
                for _ in 0..DRAWN {
                    let file = write(&number(issuer, length, dice.below(u64::MAX)));
                    // Hexadecimal digits apart may be named as the brand that they look like themselves.
                    let found = !scanned(&file).is_empty();
                    for count in [
                        by_length.entry((brand, length)).or_default(),
                        by_encoding.entry(encoding).or_default(),
                    ] {
                        count.0 += usize::from(found);
                        count.1 += 1;
                    }
                }
            }
        }
    }
    for ((brand, length), (found, all)) in &by_length {
        println!("recall: {brand} of {length} digits, all encodings: {found} of {all}");
        assert_eq!(found, all, "{brand} {length}");
    }
    for (encoding, (found, all)) in &by_encoding {
        println!("recall: {encoding}, all brands and lengths: {found} of {all}");
    }
    let all: usize = by_encoding.values().map(|(_, all)| all).sum();
    println!("recall: {all} of {all}");
}

/// Puts the numbers into one file, many windows long, and looks for each at its place.
fn assert_all_found<'a>(
    name: &str,
    write: fn(&str) -> Vec<u8>,
    texts: impl Iterator<Item = &'a String>,
) {
    let mut file = Vec::new();
    let mut places = Vec::new();
    for text in texts {
        file.extend(BETWEEN.as_bytes());
        let from = file.len();
        file.extend(write(text));
        places.push((from..file.len(), text));
    }
    file.extend(BETWEEN.as_bytes());
    let found = scanned(&file);
    let missed: Vec<_> = places
        .iter()
        .filter(|(place, _)| {
            let inside = |finding: &&Finding| place.contains(&offset(finding));
            found.iter().find(inside).is_none()
        })
        .collect();
    println!(
        "{name}: {} of {} found",
        places.len() - missed.len(),
        places.len()
    );
    assert_eq!(missed, Vec::<&(Range<usize>, &String)>::new(), "{name}");
    // Elsewhere an encoding's own digits, or those read from its other place, may pass for others.
    if name.starts_with("UTF-8") {
        assert_eq!(found.len(), places.len(), "{name}: one finding each");
    }
}

fn scanned(file: &[u8]) -> Vec<Finding> {
    let mut scan = Scan::new(file);
    let mut found = Vec::new();
    while let Some(findings) = scan.step().unwrap() {
        found.extend(findings);
    }
    assert_eq!(scan.bytes(), u64::try_from(file.len()).unwrap());
    found
}

fn offset(finding: &Finding) -> usize {
    usize::try_from(finding.offset).unwrap()
}

#[test]
fn a_number_is_found_once_wherever_a_window_ends() {
    let number = joined(&number("4", 16, 77), " ", 4);
    let step = 64 * 1024;
    for at in step - 100..step + 10 {
        let mut file = vec![b';'; at + 2000];
        file.splice(at..at + number.len(), number.bytes());
        let found: Vec<usize> = scanned(&file).iter().map(offset).collect();
        assert_eq!(found, [at]);
    }
}

#[test]
fn a_long_row_of_digits_is_no_number_wherever_a_window_ends() {
    for length in [64 * 1024, 70_001] {
        assert_eq!(scanned(&vec![b'4'; length]), []);
    }
}

#[test]
fn an_error_of_the_reader_is_told() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
    }
    assert!(Scan::new(Broken).step().is_err());
}

#[test]
fn what_is_withheld_from_the_log_is_the_number_alone() {
    let number = number("51", 16, 3);
    let grouped = joined(&number, " ", 4);
    for text in [&number, &grouped] {
        let line = format!("2026-11-25T10:00:00.123456Z WARN \"{text}\" is odd, {text}\n");
        assert_eq!(
            withhold(&line),
            "2026-11-25T10:00:00.123456Z WARN \"[card number withheld]\" is odd, \
             [card number withheld]\n"
        );
    }
    let clean = "2026-11-25T10:00:00.123456Z INFO pay_abc took 12 ms";
    assert!(matches!(withhold(clean), Cow::Borrowed(text) if text == clean));
}

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 24) % limit
    }

    fn digits(&mut self, count: u64) -> String {
        (0..count)
            .map(|_| char::from(b'0' + self.byte(10)))
            .collect()
    }

    fn of(&mut self, letters: &str, count: u64) -> String {
        let letters: Vec<char> = letters.chars().collect();
        let length = u8::try_from(letters.len()).unwrap();
        (0..count)
            .map(|_| letters[usize::from(self.byte(length))])
            .collect()
    }

    fn byte(&mut self, limit: u8) -> u8 {
        u8::try_from(self.below(u64::from(limit))).unwrap()
    }
}

/// What stands in our database and log, and in the providers' answers, drawn from the letters that each
/// really has: no false alarm at all. What is one now and then has tests of its own below.
#[test]
fn no_id_of_ours_or_of_a_provider_is_a_hit() {
    const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    const LOWER: &str = "abcdefghijklmnopqrstuvwxyz0123456789";
    /// Of aliases, and of PayPal's payment tokens at their longest.
    const ANY: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    let kinds: [(&str, Make); 14] = [
        ("handles of ours", |dice| {
            let bytes: Vec<u8> = (0..10).map(|_| dice.byte(255)).collect();
            format!("pay_{}", crate::letters::letters(&bytes))
        }),
        ("UUIDs, version 4", |dice| {
            let hex = "0123456789abcdef";
            format!(
                "{}-{}-4{}-a{}-{}",
                dice.of(hex, 8),
                dice.of(hex, 4),
                dice.of(hex, 3),
                dice.of(hex, 3),
                dice.of(hex, 12)
            )
        }),
        ("orders and captures of PayPal", |dice| dice.of(UPPER, 17)),
        ("events of PayPal", |dice| {
            format!("WH-{}-{}", dice.of(UPPER, 17), dice.of(UPPER, 17))
        }),
        ("agreements of PayPal", |dice| {
            format!("B-{}", dice.of(UPPER, 17))
        }),
        ("agreement tokens of PayPal", |dice| {
            format!("BA-{}", dice.of(UPPER, 17))
        }),
        ("checkout tokens of PayPal", |dice| {
            format!("EC-{}", dice.of(UPPER, 17))
        }),
        ("payment tokens of PayPal", |dice| dice.of(LOWER, 8)),
        ("payment tokens of PayPal, the longest", |dice| {
            dice.of(ANY, 36)
        }),
        ("transactions of Datatrans, 2026 to 2029", |dice| {
            let year = 26 + dice.below(4);
            dated(dice, year)
        }),
        ("aliases of Datatrans", |dice| dice.of(ANY, 32)),
        ("ids of PostFinance up to 11 digits", |dice| {
            let digits = 1 + dice.below(11);
            format!(
                "{}",
                1 + dice.below(10_u64.pow(u32::try_from(digits).unwrap()))
            )
        }),
        ("milliseconds since 1970", |dice| {
            format!("{}", 1_764_000_000_000 + dice.below(900_000_000_000))
        }),
        ("times", |dice| {
            format!(
                "20{}-11-{:02}T1{}:{}Z",
                24 + dice.below(22),
                1 + dice.below(28),
                dice.below(10),
                dice.digits(2)
            )
        }),
    ];
    println!("seed {SEED:#x}");
    for (name, make) in kinds {
        let mut dice = Dice(SEED);
        let alarms = (0..IDS)
            .filter(|_| find(&make(&mut dice)).is_some())
            .count();
        println!("{name}: {alarms} false alarms in {IDS}");
        assert_eq!(alarms, 0, "{name}");
    }
}

/// A transaction's id as Datatrans makes it in a year: the day, the time, and digits.
fn dated(dice: &mut Dice, year: u64) -> String {
    let (month, day) = (1 + dice.below(12), 1 + dice.below(28));
    let (hour, minute) = (dice.below(24), dice.below(60));
    let rest = dice.digits(8);
    format!("{year:02}{month:02}{day:02}{hour:02}{minute:02}{rest}")
}

/// In some years the day looks like an issuer. What lets such an id pass knows it by its shape.
#[test]
fn transactions_of_datatrans_are_hits_in_some_years() {
    let mut in_all = 0;
    for year in 24..=45 {
        let mut dice = Dice(SEED);
        let ids: Vec<String> = (0..IDS).map(|_| dated(&mut dice, year)).collect();
        let alarms = ids.iter().filter(|id| find(id).is_some()).count();
        println!("transactions of Datatrans, 20{year}: {alarms} false alarms in {IDS}");
        assert!(ids.iter().all(|id| is_dated_id(id)));
        let looks_like_an_issuer = matches!(year, 30 | 36 | 38..=45);
        assert_eq!(alarms > 0, looks_like_an_issuer, "20{year}");
        in_all += alarms;
    }
    println!(
        "transactions of Datatrans, 2024 to 2045: {in_all} false alarms in {}",
        IDS * 22
    );
    for other in [
        "36011212345678901",
        "3601121234567890123",
        "361312123456789012",
        "360230123456789012",
        "360100123456789012",
        "36011212345678901a",
        "3601-2123456789012",
        "٣60112123456789012",
        "",
    ] {
        assert!(!is_dated_id(other), "{other}");
    }
}

/// What a caller may write besides: the net is wrong about some, and this says how many.
#[test]
fn other_numbers_are_hits_as_often_as_the_rules_say() {
    let kinds: [(&str, Make, usize); 5] = [
        (
            "ids of PostFinance of 12 digits",
            |dice| format!("{}", 100_000_000_000 + dice.below(900_000_000_000)),
            2,
        ),
        (
            "phone numbers",
            |dice| {
                format!(
                    "+41 44 {} {} {}",
                    dice.digits(3),
                    dice.digits(2),
                    dice.digits(2)
                )
            },
            0,
        ),
        ("invoice numbers of 10 digits", |dice| dice.digits(10), 0),
        ("16 random digits", |dice| dice.digits(16), 5),
        (
            "Swiss account numbers, in groups",
            |dice| {
                let rest = dice.digits(19);
                format!("CH{}", joined(&rest, " ", 4))
            },
            15,
        ),
    ];
    println!("seed {SEED:#x}");
    for (name, make, percent) in kinds {
        let mut dice = Dice(SEED);
        let ids = usize::try_from(IDS).unwrap();
        let alarms = (0..ids)
            .filter(|_| find(&make(&mut dice)).is_some())
            .count();
        println!("{name}: {alarms} false alarms in {ids}");
        assert!(alarms * 100 <= ids * percent, "{name}: {alarms}");
    }
}
