//! What is looked for, in which forms, and where.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

/// A secret shorter than this is too likely to appear by chance.
pub(crate) const SHORTEST: usize = 8;

/// A form shorter than this is not looked for: what is left of base64 in the midst of a text.
const SHORTEST_FORM: usize = 6;

/// How many first bytes of a form the finder sorts by.
const FIRST_BYTES: usize = 4;

/// Kinds of secrets, and how each reads. A kind can have several values.
#[derive(Debug, Clone, Default)]
pub(crate) struct Canaries(BTreeSet<(String, Vec<u8>)>);

impl Canaries {
    pub(crate) fn plant(&mut self, kind: &str, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        let text = String::from_utf8_lossy(value);
        assert!(
            value.len() >= SHORTEST,
            "{kind} is too short to be looked for: {text}"
        );
        self.0.insert((kind.to_owned(), value.to_vec()));
    }

    /// Plants a text that is the base64 of something, and that something too.
    pub(crate) fn plant_base64(&mut self, kind: &str, text: &str) {
        self.plant(kind, text);
        let engines = [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD];
        let decoded = engines.iter().find_map(|engine| engine.decode(text).ok());
        self.plant(kind, decoded.unwrap());
    }

    pub(crate) fn kinds(&self) -> BTreeSet<&str> {
        self.0.iter().map(|(kind, _)| kind.as_str()).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0
            .iter()
            .map(|(kind, value)| (kind.as_str(), value.as_slice()))
    }
}

/// Every form in which a secret could stand somewhere, with the form's name.
pub(crate) fn forms(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut forms = vec![
        ("as it is", secret.to_vec()),
        ("reversed", secret.iter().rev().copied().collect()),
        ("hex", hex(secret, |byte| format!("{byte:02x}"))),
        ("hex", hex(secret, |byte| format!("{byte:02X}"))),
        ("hex", hex(secret, |byte| format!("{byte:02x} "))),
        ("hex", hex(secret, |byte| format!("\\x{byte:02x}"))),
        ("a list of bytes", list(secret)),
        ("percent", hex(secret, |byte| format!("%{byte:02X}"))),
        ("percent", hex(secret, |byte| format!("%{byte:02x}"))),
        ("base32", base32(secret)),
    ];
    for (name, engine) in [("base64", STANDARD), ("base64url", URL_SAFE)] {
        for before in 0..3 {
            forms.push((name, base64_amid(&engine, secret, before)));
        }
    }
    if let Ok(text) = std::str::from_utf8(secret) {
        let percent =
            percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
        forms.push(("percent", percent.to_string().into_bytes()));
        let escaped = serde_json::to_string(text).unwrap();
        forms.push(("JSON", inner(&escaped)));
        forms.push(("Rust's Debug", inner(&format!("{text:?}"))));
        let units = text.encode_utf16();
        let spelled = units.clone().fold(String::new(), |mut spelled, unit| {
            write!(spelled, "\\u{unit:04x}").unwrap();
            spelled
        });
        forms.push(("JSON", spelled.into_bytes()));
        forms.push(("UTF-16", units.clone().flat_map(u16::to_le_bytes).collect()));
        forms.push(("UTF-16", units.clone().flat_map(u16::to_be_bytes).collect()));
        let mut reversed: Vec<u16> = units.collect();
        reversed.reverse();
        let reversed = reversed.into_iter().flat_map(u16::to_le_bytes).collect();
        forms.push(("UTF-16, reversed", reversed));
    }
    let mut seen = BTreeSet::new();
    forms.retain(|(_, form)| form.len() >= SHORTEST_FORM && seen.insert(form.clone()));
    forms
}

fn hex(secret: &[u8], write: impl Fn(&u8) -> String) -> Vec<u8> {
    let text: String = secret.iter().map(write).collect();
    text.trim_end().as_bytes().to_vec()
}

/// As `Debug` prints bytes.
fn list(secret: &[u8]) -> Vec<u8> {
    inner(&format!("{secret:?}"))
}

/// Without the first and the last character.
fn inner(text: &str) -> Vec<u8> {
    let mut text = text.chars();
    text.next();
    text.next_back();
    text.as_str().as_bytes().to_vec()
}

/// The base64 of a text in which this many bytes stand before the secret, and some behind: only
/// those characters that hold nothing of the others.
fn base64_amid(engine: &impl base64::Engine, secret: &[u8], before: usize) -> Vec<u8> {
    let text = [&vec![0; before][..], secret, &[0; 3]].concat();
    let encoded = engine.encode(text).into_bytes();
    let from = (before * 8).div_ceil(6);
    let to = (before + secret.len()) * 8 / 6;
    encoded[from..to].to_vec()
}

/// RFC 4648, without padding; the last character is left out if it holds something else too.
fn base32(secret: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let bits: Vec<u8> = secret
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1))
        .collect();
    bits.chunks_exact(5)
        .map(|five| {
            five.iter()
                .fold(0, |value, bit| value << 1 | usize::from(*bit))
        })
        .map(|value| ALPHABET[value])
        .collect()
}

/// Looks for every form of every secret, in one walk over the bytes.
pub(crate) struct Finder {
    forms: Vec<Wanted>,
    /// Which forms begin with these bytes.
    by_first: HashMap<[u8; FIRST_BYTES], Vec<usize>>,
    /// Whether a form begins with bytes of this [`bucket`]: most places are passed by at a glance.
    begins: Vec<bool>,
    kinds: usize,
}

struct Wanted {
    kind: String,
    form: &'static str,
    bytes: Vec<u8>,
}

impl Finder {
    pub(crate) fn new(canaries: &Canaries) -> Self {
        let mut wanted = Vec::new();
        for (kind, value) in canaries.iter() {
            wanted.extend(forms(value).into_iter().map(|(form, bytes)| Wanted {
                kind: kind.to_owned(),
                form,
                bytes,
            }));
        }
        let mut by_first: HashMap<_, Vec<usize>> = HashMap::new();
        let mut begins = vec![false; 1 << u16::BITS];
        for (index, wanted) in wanted.iter().enumerate() {
            let first: [u8; FIRST_BYTES] = wanted.bytes[..FIRST_BYTES].try_into().unwrap();
            by_first.entry(first).or_default().push(index);
            begins[bucket(&first)] = true;
        }
        Self {
            forms: wanted,
            by_first,
            begins,
            kinds: canaries.kinds().len(),
        }
    }

    /// How many kinds of secrets are looked for, and in how many forms altogether.
    pub(crate) fn sought(&self) -> (usize, usize) {
        (self.kinds, self.forms.len())
    }

    /// The kinds that stand there, each with the forms in which it does.
    pub(crate) fn find(&self, bytes: &[u8]) -> BTreeMap<&str, BTreeSet<&'static str>> {
        let mut found: BTreeMap<&str, BTreeSet<&'static str>> = BTreeMap::new();
        for (place, first) in bytes.windows(FIRST_BYTES).enumerate() {
            if !self.begins[bucket(first)] {
                continue;
            }
            for &index in self.by_first.get(first).into_iter().flatten() {
                let wanted = &self.forms[index];
                if bytes[place..].starts_with(&wanted.bytes) {
                    found.entry(&wanted.kind).or_default().insert(wanted.form);
                }
            }
        }
        found
    }
}

fn bucket(first: &[u8]) -> usize {
    first
        .iter()
        .fold(0u16, |bucket, byte| {
            bucket.wrapping_mul(31).wrapping_add(u16::from(*byte))
        })
        .into()
}

/// Whether one secret stands in a text in any form.
pub(crate) fn found(text: &[u8], secret: &str) -> bool {
    let mut canaries = Canaries::default();
    canaries
        .0
        .insert((String::new(), secret.as_bytes().to_vec()));
    !Finder::new(&canaries).find(text).is_empty()
}

/// A place where no secret may be, but those that it is there for.
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    /// No secret, and must be there: it shows that the place is really looked at.
    pub(crate) marker: String,
    /// Kinds that belong there. Each must be there, or it does not belong on this list.
    pub(crate) belongs: Vec<&'static str>,
}

impl Place {
    pub(crate) fn new(name: &str, bytes: impl Into<Vec<u8>>, marker: &str) -> Self {
        Self {
            name: name.to_owned(),
            bytes: bytes.into(),
            marker: marker.to_owned(),
            belongs: Vec::new(),
        }
    }

    /// Says that these kinds belong here.
    pub(crate) fn with(mut self, kinds: &[&'static str]) -> Self {
        self.belongs.extend(kinds);
        self
    }
}

/// Looks through every place, prints what was looked for and found, and answers with what is wrong.
pub(crate) fn judge(canaries: &Canaries, places: &[Place]) -> Vec<String> {
    let finder = Finder::new(canaries);
    let (kinds, all) = finder.sought();
    let mut wrong = Vec::new();
    println!(
        "{:<52} {:>9} {:>7} {:>6} {:>6}  belongs there",
        "place", "bytes", "secrets", "forms", "found"
    );
    for place in places {
        let found = finder.find(&place.bytes);
        let strange = found
            .iter()
            .filter(|(kind, _)| !place.belongs.contains(*kind));
        let count = strange.clone().count();
        println!(
            "{:<52} {:>9} {:>7} {:>6} {:>6}  {}",
            place.name,
            place.bytes.len(),
            kinds - place.belongs.len(),
            all,
            count,
            place.belongs.join(", ")
        );
        wrong.extend(
            strange.map(|(kind, forms)| format!("{kind} is in {} ({forms:?})", place.name)),
        );
        let absent = place
            .belongs
            .iter()
            .filter(|kind| !found.contains_key(*kind));
        wrong.extend(
            absent.map(|kind| format!("{kind} is not in {}, where it belongs", place.name)),
        );
        if !contains(&place.bytes, place.marker.as_bytes()) {
            wrong.push(format!("{} is not in {}", place.marker, place.name));
        }
    }
    wrong
}

/// Whether bytes hold others, as they are.
pub(crate) fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// Everything that `judge` says of a place is said, and nothing of what it is not said of.
#[test]
fn the_finder_finds_every_secret_in_every_form() {
    let mut canaries = Canaries::default();
    canaries.plant("a text", "pass+word/\"ü~?1");
    canaries.plant("a number", "7351406001");
    canaries.plant_base64("a key", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    let finder = Finder::new(&canaries);
    assert!(
        finder
            .find(b"nothing of all that, not even pass+word")
            .is_empty()
    );
    let mut tried = 0;
    for (kind, value) in canaries.iter() {
        for (form, bytes) in forms(value) {
            let text = [b"before ", bytes.as_slice(), b" behind"].concat();
            let found = finder.find(&text);
            assert!(found[kind].contains(form), "{kind} {form}");
            let cut = [b"before ", &bytes[1..], b" behind"].concat();
            assert!(
                !finder
                    .find(&cut)
                    .get(kind)
                    .is_some_and(|found| found.contains("as it is"))
            );
            tried += 1;
        }
    }
    assert!(tried > 60, "{tried}");
    // What is encoded amid other text is found wherever it stands there.
    for before in ["", "1", "12", "123", "1234"] {
        let text = format!("{before}pass+word/\"ü~?1 and more");
        for encoded in [STANDARD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
            assert!(
                finder.find(encoded.as_bytes()).contains_key("a text"),
                "{before}"
            );
        }
    }
    let place = || Place::new("a place", "7351406001 marker", "marker");
    assert_eq!(judge(&canaries, &[place()]).len(), 1);
    assert_eq!(
        judge(&canaries, &[place().with(&["a number"])]),
        Vec::<String>::new()
    );
    assert_eq!(
        judge(&canaries, &[place().with(&["a number", "a key"])]).len(),
        1
    );
    let unmarked = Place::new("a place", "nothing", "marker");
    assert_eq!(judge(&canaries, &[unmarked]).len(), 1);
}
