//! What the net finds, and what it lets through.

mod scanned;

use proptest::prelude::*;

use super::*;

/// Brand, issuer digits, lengths: written apart from the table above.
const NUMBERS: [(&str, &str, &[usize]); 29] = [
    ("visa", "4", &[13, 16, 18, 19]),
    ("mastercard", "51", &[16]),
    ("mastercard", "55", &[16]),
    ("mastercard", "2221", &[16]),
    ("mastercard", "2720", &[16]),
    ("american_express", "34", &[15]),
    ("american_express", "37", &[15]),
    ("diners_club", "300", &[14, 16, 19]),
    ("diners_club", "305", &[14]),
    ("diners_club", "36", &[14, 19]),
    ("diners_club", "38", &[16]),
    ("jcb", "3528", &[16, 19]),
    ("jcb", "3589", &[16]),
    ("discover", "6011", &[16, 19]),
    ("discover", "644", &[16]),
    ("discover", "65", &[16, 19]),
    ("unionpay", "62", &[16, 17, 18, 19]),
    ("unionpay", "81", &[16]),
    ("rupay", "82", &[16]),
    ("mir", "2200", &[16, 19]),
    ("mir", "2204", &[16]),
    ("troy", "9792", &[16]),
    ("uatp", "1354", &[15]),
    ("maestro", "5018", &[12, 13, 16, 19]),
    ("maestro", "5893", &[12, 19]),
    ("maestro", "6304", &[12, 15]),
    ("maestro", "6759", &[13, 18]),
    ("maestro", "6771", &[12]),
    ("maestro", "56", &[14]),
];

const SEPARATORS: [&str; 21] = [
    " ",
    "-",
    ".",
    "\u{a0}",
    "\u{2009}",
    "\u{202f}",
    "\u{3000}",
    "\u{ad}",
    "\u{200b}",
    "\u{200d}",
    "\u{fe0f}",
    "\u{fe0f}\u{20e3}",
    "\u{34f}",
    "\u{3164}",
    "\u{301}",
    "\u{2060}",
    "\u{feff}",
    "\u{2010}",
    "\u{2011}",
    " - ",
    "\t",
];

/// Zeros of scripts: Arabic-Indic, Persian, Devanagari, Thai, full-width, mathematical bold and
/// monospace, Adlam.
const ZEROS: [char; 8] = ['٠', '۰', '०', '๐', '０', '𝟎', '𝟶', '𞥐'];

/// A number of this length with a fitting check digit.
fn number(issuer: &str, length: usize, filler: u64) -> String {
    let mut text = issuer.to_owned();
    let mut filler = filler;
    while text.len() + 1 < length {
        text.push(char::from(b'0' + u8::try_from(filler % 10).unwrap()));
        filler = filler / 10 + 7;
    }
    let check = (b'0'..=b'9').map(char::from).find(|&check| {
        let digits: Vec<u8> = (text.clone() + &check.to_string())
            .bytes()
            .map(|b| b - b'0')
            .collect();
        has_check_digit(&digits)
    });
    text.push(check.unwrap());
    text
}

fn numbers() -> impl Iterator<Item = (&'static str, String)> {
    NUMBERS.into_iter().flat_map(|(rule, issuer, lengths)| {
        lengths
            .iter()
            .map(move |&length| (rule, number(issuer, length, 8_675_309)))
    })
}

fn joined(number: &str, separator: &str, group: usize) -> String {
    let digits: Vec<char> = number.chars().collect();
    let groups: Vec<String> = digits
        .chunks(group)
        .map(|group| group.iter().collect())
        .collect();
    groups.join(separator)
}

fn in_script(number: &str, zero: char) -> String {
    let digit = |c: char| char::from_u32(u32::from(zero) + c.to_digit(10).unwrap()).unwrap();
    number.chars().map(digit).collect()
}

#[test]
fn every_brand_and_length_is_found() {
    for (rule, number) in numbers() {
        assert_eq!(find(&number), Some(Hit { rule }), "{number}");
        assert_eq!(
            find(&format!("card:{number}, thanks")),
            Some(Hit { rule }),
            "{number}"
        );
        assert_eq!(find(&format!("x{number}x")), Some(Hit { rule }), "{number}");
        assert_eq!(
            find_in_url(&format!("/v1/x?y={number}")),
            Some(Hit { rule }),
            "{number}"
        );
    }
}

#[test]
fn published_test_numbers_are_found() {
    for number in [
        "4242424242424242",
        "4111111111111111",
        "5555555555554444",
        "2223003122003222",
        "378282246310005",
        "30569309025904",
        "3530111333300000",
        "6011111111111117",
        "6200000000000005",
        "6304000000000000",
        "4222222222222",
    ] {
        assert!(find(number).is_some(), "{number}");
    }
}

#[test]
fn no_separator_hides_a_number() {
    for (_, number) in numbers() {
        for separator in SEPARATORS {
            for group in [1, 2, 3, 4, 5, 6] {
                let text = joined(&number, separator, group);
                assert!(find(&text).is_some(), "{text:?}");
                assert!(find(&format!("to {text}. Thanks")).is_some(), "{text:?}");
            }
        }
    }
}

#[test]
fn no_script_hides_a_number() {
    for (_, number) in numbers() {
        for zero in ZEROS {
            let text = in_script(&number, zero);
            assert!(find(&text).is_some(), "{text}");
            assert!(find(&joined(&text, "\u{200d}", 1)).is_some(), "{text}");
            let (head, tail) = number.split_at(5);
            assert!(
                find(&(head.to_owned() + &in_script(tail, zero))).is_some(),
                "{text}"
            );
        }
    }
}

#[test]
fn a_number_between_groups_of_others_is_found() {
    let number = joined(&number("4", 16, 99), " ", 4);
    for text in [
        format!("12 {number}"),
        format!("{number} 12/29"),
        format!("2026 11 23 {number} 123"),
        format!("0000-0000-0000-0000-0000-{number}"),
    ] {
        assert!(find(&text).is_some(), "{text}");
    }
}

#[test]
fn a_percent_encoded_number_is_found_in_a_url() {
    let number = number("4", 16, 99);
    let encoded: String = number.bytes().map(|byte| format!("%{byte:02X}")).collect();
    assert!(find(&encoded).is_none());
    assert!(find_in_url(&format!("/x/{encoded}")).is_some());
    for separator in ["%20", "+", "%2D", "%C2%A0", "%E2%80%8D"] {
        let text = format!("/x?reference={}", joined(&number, separator, 4));
        assert!(find_in_url(&text).is_some(), "{text}");
    }
    // Read as it stands, too: here the first two digits decode to a letter.
    assert!(find_in_url(&format!("/x/%{number}")).is_some());
    // Twice encoded is text that holds a percent sign, and no digits in a row.
    assert!(find_in_url(&encoded.replace('%', "%25")).is_none());
    assert!(find_in_url("/x/%zz%4").is_none());
}

#[test]
fn a_wrong_check_digit_length_or_issuer_is_no_hit() {
    for (_, number) in numbers() {
        let (head, last) = number.split_at(number.len() - 1);
        let wrong = (last.parse::<u8>().unwrap() + 1) % 10;
        assert_eq!(find(&format!("{head}{wrong}")), None, "{number}");
    }
    for (issuer, length) in [
        ("4", 12),
        ("4", 14),
        ("51", 15),
        ("34", 16),
        ("7", 16),
        ("9", 16),
    ] {
        assert_eq!(find(&number(issuer, length, 5)), None, "{issuer} {length}");
    }
    assert_eq!(find(&number("4", 20, 5)), None);
    assert_eq!(find(&number("67", 11, 5)), None);
}

#[test]
fn a_letter_or_another_sign_ends_a_run() {
    for text in [
        "42424242a42424242",
        "4242424242/42424242",
        "4242:4242:4242:4242",
        "4242_42424242_4242",
    ] {
        assert_eq!(find(text), None, "{text}");
    }
}

#[test]
fn what_comes_in_every_day_is_no_hit() {
    for text in [
        "",
        "pay_abcdefghijklmnopabcd",
        "set_ponmlkjihgfedcbaponm",
        "2026-11-23T16:25:04.120Z",
        "2026-11-23 16:25:04",
        "2026-11-23",
        "1764000000",
        "1764000000120",
        "20261123162504",
        // Transaction ids of Datatrans, 18 digits that begin with the date.
        "261123172504123456",
        "220119141301582318",
        // Ids of PayPal and PostFinance.
        "5O190127TN364715T",
        "8MC585209K746392H",
        "WH-58D329510W468432D-8HN650336L201105X",
        "405",
        "INV-2026-000123",
        "CHF 1'234'567.90",
        "+41 44 668 18 00",
        "CH93 0076 2011 6238 5295 7",
        "21 00000 00003 13947 14300 09017",
        "756.1234.5678.97",
    ] {
        assert_eq!(find(text), None, "{text}");
        assert_eq!(find_in_url(text), None, "{text}");
    }
}

#[test]
fn a_uuid_is_no_hit_and_hides_none() {
    // Each passes for a card number by its digits.
    for uuid in [
        "06a90326-aa54-4e32-85d8-639455333018",
        "3639797e-38a0-4687-9047-01224ca31e2c",
        "17115626-0602-472E-9A91-35D714BD5881",
    ] {
        for text in [
            uuid.to_owned(),
            format!("key={uuid}, {uuid}"),
            format!("{{{uuid}}}"),
            format!("order-{uuid}-2"),
        ] {
            assert_eq!(find(&text), None, "{text}");
            assert_eq!(find_in_url(&text), None, "{text}");
        }
        assert_eq!(find(&uuid.replace('-', "")), None, "{uuid}");
        assert!(find(&format!("{uuid} 4242 4242 4242 4242")).is_some());
        assert!(find(&format!("4242-4242-4242-4242 {uuid}")).is_some());
        assert!(find(&format!("{uuid}-4242424242424242")).is_some());
        assert!(find(&format!("4242424242424242-{uuid}")).is_some());
    }
    for (no_uuid, name) in [
        ("42424242-4242-4242-8242-424242424242", "no letter"),
        ("06a90326-aa54-0e32-85d8-639455333018", "another version"),
        ("06a90326-aa54-4e32-c5d8-639455333018", "another variant"),
        (
            "06a90326-aa54-4e32-85d8-6394553330181",
            "part of a longer word",
        ),
        ("06a90326aa54-4e32-85d8-639455333018", "hyphens missing"),
        ("06a90326-aa54-4e32-85d8-63945533301", "too short"),
        ("06a90326-äa54-4e32-85d8-63945533301", "another letter"),
    ] {
        assert!(split_uuid(no_uuid).is_none(), "{name}");
    }
    assert!(find("x06a90326-aa54-4e32-85d8-639455333018").is_some());
}

/// A digit's value is derived, not looked up; this holds what it is derived from.
#[test]
fn decimal_digits_come_in_whole_tens() {
    let is_digit = |c: &char| get_general_category(*c) == GeneralCategory::DecimalNumber;
    let mut stretch = 0;
    for character in '\0'..=char::MAX {
        if is_digit(&character) {
            stretch += 1;
        } else {
            assert_eq!(stretch % 10, 0, "before {character:?}");
            stretch = 0;
        }
    }
    assert!(matches!(Class::of('٣'), Class::Digit(3)));
    assert!(matches!(Class::of('𝟙'), Class::Digit(1)));
    assert!(matches!(Class::of('𝟿'), Class::Digit(9)));
    assert!(matches!(Class::of('０'), Class::Digit(0)));
    assert!(matches!(Class::of('²'), Class::Other));
}

proptest! {
    #[test]
    fn no_text_panics(text in ".*") {
        let _ = (find(&text), find_in_url(&text));
    }

    #[test]
    fn no_digits_and_separators_panic(text in "[0-9 .%+\u{200d}٠-٩-]{0,80}") {
        let _ = (find(&text), find_in_url(&text));
    }

    #[test]
    fn a_number_is_found_wherever_its_groups_are_split(
        filler in any::<u64>(), splits in proptest::collection::vec(0usize..16, 0..8),
        before in "[a-z :/]{0,10}", after in "[a-z :/]{0,10}",
    ) {
        let mut text = number("4", 16, filler % 1_000_000_000_000);
        let mut splits = splits;
        splits.sort_unstable();
        for at in splits.into_iter().rev() {
            text.insert(at, '\u{200b}');
        }
        let text = format!("{before}{text}{after}");
        prop_assert!(find(&text).is_some());
    }

    #[test]
    fn the_digits_are_never_in_the_hit(filler in 0u64..1_000_000_000_000) {
        let number = number("55", 16, filler);
        let shown = format!("{:?}", find(&number).unwrap());
        prop_assert!(!shown.bytes().any(|byte| byte.is_ascii_digit()));
    }
}

/// A piece of a text in which numbers, what looks like one, and what hides one may stand.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[0-9]{1,16}",
        2 => "[ .-]{1,2}",
        2 => "[0-9a-f]{1,12}",
        1 => "[a-zA-Z:/]{1,3}",
        1 => Just("4242 4242 4242 4242".to_owned()),
        1 => Just("4242-4242-4242-4242".to_owned()),
        1 => Just("٤٢٤٢٤٢٤٢٤٢٤٢٤٢٤٢".to_owned()),
        1 => Just("\u{feff}\u{301}ß".to_owned()),
        2 => "[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9]{12}",
        1 => "[0-9]{8}[0-9]{4}[1-8][0-9]{3}[89][0-9]{3}[0-9a-f]{12}",
    ]
}

proptest! {
    /// What is passed over holds nothing: the net finds the same in a text that it walks through
    /// letter by letter.
    #[test]
    fn passing_over_loses_nothing(pieces in prop::collection::vec(piece(), 0..12)) {
        let text = pieces.concat();
        let walk = Numbers { until: text.len(), ..Numbers::of(&text) };
        let walked: Vec<_> = walk.map(|(hit, range)| (hit.rule, range)).collect();
        let found: Vec<_> = Numbers::of(&text).map(|(hit, range)| (hit.rule, range)).collect();
        prop_assert_eq!(found, walked, "{}", text);
    }
}
