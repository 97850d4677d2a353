//! The search grammar (`providers/postfinance.md` §3.7): `field:value`, `field:"value"`,
//! `field:~part`, ranges, `AND`, `OR`, parentheses; a blank between terms means `AND`.

use super::json::Json;

/// A parsed query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Query {
    All(Vec<Query>),
    Any(Vec<Query>),
    Term {
        field: String,
        test: Test,
        value: String,
    },
}

/// How a field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Is,
    Contains,
    Above,
    AtLeast,
    Below,
    AtMost,
}

/// The deepest nesting of parentheses.
const MAX_DEPTH: usize = 16;

impl Query {
    /// Reads a query; `None` if it is malformed. An empty one fits everything.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parser = Parser {
            rest: text,
            depth: 0,
        };
        let query = parser.any()?;
        parser.skip_blanks();
        parser.rest.is_empty().then_some(query)
    }

    /// Whether an object fits.
    pub(super) fn fits(&self, object: &Json) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.fits(object)),
            Self::Any(parts) => parts.iter().any(|part| part.fits(object)),
            Self::Term { field, test, value } => object
                .at(field)
                .is_some_and(|found| test.holds(&found.plain(), value)),
        }
    }
}

impl Test {
    fn holds(self, found: &str, value: &str) -> bool {
        let numbers = found.parse::<i128>().ok().zip(value.parse::<i128>().ok());
        let order = numbers.map_or_else(|| found.cmp(value), |(found, value)| found.cmp(&value));
        match self {
            Self::Is => order.is_eq(),
            Self::Contains => found.contains(value),
            Self::Above => order.is_gt(),
            Self::AtLeast => order.is_ge(),
            Self::Below => order.is_lt(),
            Self::AtMost => order.is_le(),
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl Parser<'_> {
    fn any(&mut self) -> Option<Query> {
        let mut parts = vec![self.all()?];
        while self.word("OR") {
            parts.push(self.all()?);
        }
        Some(if parts.len() == 1 {
            parts.remove(0)
        } else {
            Query::Any(parts)
        })
    }

    fn all(&mut self) -> Option<Query> {
        let mut parts = Vec::new();
        loop {
            self.skip_blanks();
            if self.rest.is_empty() || self.rest.starts_with(')') || self.at_word("OR") {
                break;
            }
            parts.push(self.one()?);
            // A blank alone means AND.
            let _named = self.word("AND");
        }
        Some(if parts.len() == 1 {
            parts.remove(0)
        } else {
            Query::All(parts)
        })
    }

    fn one(&mut self) -> Option<Query> {
        if let Some(rest) = self.rest.strip_prefix('(') {
            self.depth += 1;
            if self.depth > MAX_DEPTH {
                return None;
            }
            self.rest = rest;
            let query = self.any()?;
            self.skip_blanks();
            self.rest = self.rest.strip_prefix(')')?;
            return Some(query);
        }
        let (field, rest) = self.rest.split_once(':')?;
        let named = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'_';
        if field.is_empty() || !field.bytes().all(named) {
            return None;
        }
        let (test, rest) = test(rest);
        let (value, rest) = value(rest)?;
        self.rest = rest;
        Some(Query::Term {
            field: field.to_owned(),
            test,
            value,
        })
    }

    fn word(&mut self, word: &str) -> bool {
        self.skip_blanks();
        let there = self.at_word(word);
        if there {
            self.rest = self.rest.strip_prefix(word).unwrap_or(self.rest);
        }
        there
    }

    fn at_word(&self, word: &str) -> bool {
        self.rest
            .strip_prefix(word)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '(']))
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }
}

fn test(rest: &str) -> (Test, &str) {
    [
        (">=", Test::AtLeast),
        ("<=", Test::AtMost),
        (">", Test::Above),
        ("<", Test::Below),
        ("~", Test::Contains),
    ]
    .into_iter()
    .find_map(|(sign, test)| rest.strip_prefix(sign).map(|rest| (test, rest)))
    .unwrap_or((Test::Is, rest))
}

/// A bare or quoted value; a backslash keeps the next character of a quoted one.
fn value(rest: &str) -> Option<(String, &str)> {
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find([' ', ')']).unwrap_or(rest.len());
        let (value, rest) = rest.split_at_checked(end)?;
        return (!value.is_empty()).then(|| (value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => return Some((value, characters.as_str())),
            '\\' => value.push(characters.next()?),
            other => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::json::Object;
    use super::*;

    fn fits(query: &str) -> bool {
        let inner = Object::new().put("id", 123_i64);
        let object: Json = Object::new()
            .put("id", 7_i64)
            .put("state", "FULFILL")
            .put("merchantReference", "a b\"c")
            .put("transaction", inner)
            .into();
        Query::parse(query).unwrap().fits(&object)
    }

    #[test]
    fn the_documented_grammar() {
        for query in [
            "",
            "id:7",
            "state:FULFILL id:7",
            "state:FULFILL AND id:7",
            "state:FAILED OR id:7",
            "(state:FAILED OR state:FULFILL) AND id:>5 id:<=9",
            "merchantReference:\"a b\\\"c\"",
            "merchantReference:~b",
            "transaction.id:123",
        ] {
            assert!(fits(query), "{query}");
        }
        for query in [
            "id:8",
            "id:70",
            "transaction.id:12",
            "state:FULFILL id:8",
            "id:>7",
            "x:1",
        ] {
            assert!(!fits(query), "{query}");
        }
    }

    #[test]
    fn a_malformed_query_is_refused() {
        for query in [
            "id",
            "id:",
            ":1",
            "(id:7",
            "id:7)",
            "merchantReference:\"a",
            "a b:1",
        ] {
            assert_eq!(Query::parse(query), None, "{query}");
        }
    }
}
