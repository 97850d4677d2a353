//! Ways of being hostile that any scheme must stand.

use bytes::Bytes;
use http::Method;
use serde_json::{Map, Value};

use crate::judge::{Expected, Genuine, Variant};
use crate::webhook::Webhook;

/// Collects variants.
#[derive(Default)]
pub(crate) struct Forge(Vec<Variant>);

/// A body of this size is refused unread.
const TOO_LARGE_BYTES: usize = 64 * 1024 + 1;

impl Forge {
    pub(crate) fn refused(&mut self, name: impl Into<String>, webhook: Webhook) {
        self.0.push(Variant {
            name: name.into(),
            webhook,
            expected: Expected::Refused,
            times: 1,
        });
    }

    pub(crate) fn repeat(&mut self, name: impl Into<String>, webhook: Webhook, times: u32) {
        self.0.push(Variant {
            name: name.into(),
            webhook,
            expected: Expected::Repeat,
            times,
        });
    }

    pub(crate) fn variants(self) -> Vec<Variant> {
        self.0
    }

    /// Everything that needs no knowledge of the scheme but the names of its headers.
    pub(crate) fn any_scheme(&mut self, genuine: &Genuine, headers: &[&'static str]) {
        for &header in headers {
            self.header(&genuine.open, &genuine.seen, header);
        }
        self.bodies(&genuine.open, &genuine.other);
        self.members(&genuine.open);
        self.doors(genuine);
        self.replays(&genuine.seen);
        for header in headers.iter().filter(|_| headers.len() > 1) {
            let alone = headers.iter().filter(|other| *other != header);
            let bare = alone.fold(genuine.open.clone(), |bare, other| bare.without(other));
            self.refused(format!("only {header}"), bare);
        }
        let nothing = headers
            .iter()
            .fold(genuine.open.clone(), |bare, header| bare.without(header));
        if headers.len() > 1 {
            self.refused("no header of the scheme", nothing.clone());
        }
        self.refused("nothing at all", nothing.body("").without("content-type"));
    }

    /// One header of the scheme, spoilt.
    fn header(&mut self, open: &Webhook, seen: &Webhook, header: &'static str) {
        let value = open.value(header).to_owned();
        let half = &value[..value.len() / 2];
        self.refused(format!("{header} missing"), open.without(header));
        self.refused(format!("{header} twice"), open.and(header, &value));
        self.refused(
            format!("{header} twice, the first forged"),
            open.with(header, half).and(header, &value),
        );
        if seen.value(header) != value {
            let other = seen.value(header).to_owned();
            self.refused(format!("{header} of another"), open.with(header, &other));
            self.refused(format!("{header} and another"), open.and(header, other));
        }
        let wrong: [(&str, Vec<u8>); 14] = [
            ("empty", Vec::new()),
            ("blank", b" ".to_vec()),
            ("cut by one", value.as_bytes()[..value.len() - 1].to_vec()),
            ("cut in half", half.into()),
            ("one byte only", value.as_bytes()[..1].to_vec()),
            ("longer by one", format!("{value}A").into()),
            ("with an equals sign", format!("{value}=").into()),
            ("in quotes", format!("\"{value}\"").into()),
            ("listed twice", format!("{value},{value}").into()),
            ("turned round", value.bytes().rev().collect()),
            ("in other letters", swap_case(&value).into()),
            ("the word null", b"null".to_vec()),
            ("not ASCII", [value.as_bytes(), b"\xff\xfe"].concat()),
            ("very long", value.repeat(8192 / value.len() + 1).into()),
        ];
        for (name, bytes) in wrong {
            if bytes != value.as_bytes() {
                self.refused(format!("{header} {name}"), open.with(header, bytes));
            }
        }
    }

    /// The body, spoilt.
    fn bodies(&mut self, open: &Webhook, other: &Webhook) {
        let body = &open.body;
        let text = String::from_utf8(body.to_vec()).unwrap();
        let around =
            |before: &[u8], after: &[u8]| -> Bytes { [before, body, after].concat().into() };
        let wrong: [(&str, Bytes); 27] = [
            ("empty", Bytes::new()),
            ("an empty object", "{}".into()),
            ("an empty list", "[]".into()),
            ("null", "null".into()),
            ("a number", "17".into()),
            ("a blank before it", around(b" ", b"")),
            ("a blank after it", around(b"", b" ")),
            ("a line after it", around(b"", b"\n")),
            ("a return and a line after it", around(b"", b"\r\n")),
            ("a byte order mark", around(b"\xef\xbb\xbf", b"")),
            ("a zero byte after it", around(b"", b"\0")),
            ("in a list", around(b"[", b"]")),
            ("twice", [&body[..], &body[..]].concat().into()),
            (
                "twice, by lines",
                [&body[..], b"\n", &body[..]].concat().into(),
            ),
            ("of another event", other.body.clone()),
            (
                "the other one after it",
                [&body[..], &other.body[..]].concat().into(),
            ),
            ("cut by one", body.slice(..body.len() - 1)),
            ("cut in half", body.slice(..body.len() / 2)),
            ("without its first byte", body.slice(1..)),
            ("not UTF-8", around(b"\xff\xfe", b"")),
            (
                "UTF-16",
                text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            ),
            ("in base64", base64(body).into()),
            ("in quotes", Value::from(text.clone()).to_string().into()),
            ("nested deeply", "[".repeat(20_000).into()),
            ("objects nested deeply", "{\"a\":".repeat(10_000).into()),
            (
                "as large as may be",
                around(b"", &vec![b' '; TOO_LARGE_BYTES - 1 - body.len()]),
            ),
            (
                "too large",
                around(b"", &vec![b' '; TOO_LARGE_BYTES - body.len()]),
            ),
        ];
        for (name, bytes) in wrong {
            self.refused(format!("body {name}"), open.body(bytes));
        }
        for (name, changed) in [
            ("blanks after colons", text.replace(':', ": ")),
            ("a tab after a comma", text.replacen(',', ",\t", 1)),
            ("an escaped letter", text.replacen('e', "\\u0065", 1)),
            ("other digits", text.replacen('1', "2", 1)),
            ("other letters", swap_case(&text)),
            (
                "written out",
                serde_json::to_string_pretty(&open.json()).unwrap(),
            ),
        ] {
            self.refused(format!("body with {name}"), open.body(changed));
        }
        // Every part of it: forty bytes, spread over its length, one bit each.
        for step in 0..40 {
            let mut flipped = body.to_vec();
            let place = step * body.len() / 40;
            flipped[place] ^= 1 << (step % 7);
            self.refused(format!("body with bit {place} turned"), open.body(flipped));
        }
    }

    /// The members of the body: gone, doubled, of another type, in another order.
    fn members(&mut self, open: &Webhook) {
        let Value::Object(members) = open.json() else {
            panic!("no object");
        };
        let text = String::from_utf8(open.body.to_vec()).unwrap();
        for (name, value) in members.iter().take(8) {
            let mut without = members.clone();
            without.remove(name);
            self.refused(format!("no member {name}"), object(open, &without));
            let mut null = members.clone();
            null.insert(name.clone(), Value::Null);
            self.refused(format!("member {name} is null"), object(open, &null));
            let last = format!("{},\"{name}\":{value}}}", text.trim_end_matches('}'));
            self.refused(
                format!("member {name} once more, at the end"),
                open.body(last),
            );
            let first = text.replacen('{', &format!("{{\"{name}\":\"other\","), 1);
            self.refused(format!("another {name} before it"), open.body(first));
        }
        let turned = members
            .iter()
            .rev()
            .map(|(name, value)| format!("\"{name}\":{value}"));
        let turned = turned.collect::<Vec<_>>().join(",");
        self.refused("members turned round", open.body(format!("{{{turned}}}")));
        let mut more = members.clone();
        more.insert("more".to_owned(), Value::from(1));
        self.refused("one member more", object(open, &more));
    }

    /// Other doors than its own, and other providers' webhooks at its own.
    fn doors(&mut self, genuine: &Genuine) {
        let (open, own) = (&genuine.open, &genuine.open.path);
        for foreign in &genuine.foreign {
            let theirs = &foreign.path;
            self.refused(format!("at {theirs}"), open.at(theirs));
            self.refused(format!("from {theirs}"), foreign.at(own));
            let mut both = foreign.at(own);
            for (name, value) in &open.headers {
                both.headers.insert(name, value.clone());
            }
            self.refused(format!("our headers on the body from {theirs}"), both);
            let mut both = open.clone();
            both.headers.extend(foreign.headers.clone());
            self.refused(
                format!("their headers on our body from {theirs}"),
                both.body(foreign.body.clone()),
            );
            let mut theirs_only = open.clone();
            theirs_only.headers.clone_from(&foreign.headers);
            self.refused(format!("only headers from {theirs}"), theirs_only);
        }
        for path in [
            "/webhooks/other",
            "/webhooks/",
            "/webhooks",
            "/webhooks/%00",
            "/webhooks/%ff",
            "/webhooks/..%2fhealthz",
        ] {
            self.refused(format!("at {path}"), open.at(path));
        }
        for path in [
            format!("{own}/"),
            format!("/{own}"),
            format!("{own}%00"),
            format!("{own}%20"),
            format!("{own};a=b"),
            own.to_ascii_uppercase(),
        ] {
            self.refused(format!("at {path}"), open.at(path));
        }
        for method in [Method::GET, Method::PUT, Method::PATCH, Method::DELETE] {
            self.refused(format!("by {method}"), open.by(method));
        }
        for (name, value) in [
            ("content-type", "text/html"),
            ("x-http-method-override", "PUT"),
            ("authorization", "Bearer 1"),
            ("x-forwarded-host", "evil.example"),
        ] {
            self.refused(
                format!("forged, with {name} {value}"),
                open.with(name, value).body(format!(
                    "{} ",
                    String::from_utf8(open.body.to_vec()).unwrap()
                )),
            );
        }
    }

    /// Genuine ones again, also in another dress that the signature does not cover.
    fn replays(&mut self, seen: &Webhook) {
        self.repeat("once more", seen.clone(), 1);
        self.repeat("a hundred times more", seen.clone(), 100);
        self.repeat("with a query", seen.at(format!("{}?a=b", seen.path)), 1);
        let (start, end) = seen.path.split_at(seen.path.len() - 1);
        let escaped = format!("{start}%{:02x}", end.as_bytes()[0]);
        self.repeat("with an escaped letter in the path", seen.at(escaped), 1);
        self.repeat("without a content type", seen.without("content-type"), 1);
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/jose",
            "application/json; charset=utf-7",
        ] {
            self.repeat(format!("as {kind}"), seen.with("content-type", kind), 1);
        }
        self.repeat(
            "with a foreign header",
            seen.with("x-forwarded-for", "127.0.0.1"),
            1,
        );
    }

    /// Every `step`th byte of a signature turned; `dress` makes it a header's value again.
    pub(crate) fn flips(
        &mut self,
        open: &Webhook,
        header: &'static str,
        signature: &[u8],
        step: usize,
        dress: impl Fn(&[u8]) -> String,
    ) {
        for place in (0..signature.len()).step_by(step) {
            let mut flipped = signature.to_vec();
            flipped[place] ^= 1 << (place % 8);
            self.refused(
                format!("signature with byte {place} turned"),
                open.with(header, dress(&flipped)),
            );
        }
    }
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

pub(crate) fn from_base64(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD
        .decode(text.trim())
        .unwrap()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Written so that it differs from the genuine bytes even where the members are alike.
fn object(open: &Webhook, members: &Map<String, Value>) -> Webhook {
    open.body(Value::Object(members.clone()).to_string())
}

fn swap_case(text: &str) -> String {
    let swap = |letter: char| {
        if letter.is_ascii_lowercase() {
            letter.to_ascii_uppercase()
        } else {
            letter.to_ascii_lowercase()
        }
    };
    text.chars().map(swap).collect()
}
