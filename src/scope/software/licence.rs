//! Licence expressions (SPDX, annex D) against the list of `.cargo/deny.toml`, which also `cargo
//! deny` goes by.

use serde::Deserialize;

/// What is allowed.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Allowed {
    #[serde(default)]
    licenses: List,
}

#[derive(Debug, Default, Deserialize)]
struct List {
    #[serde(default)]
    allow: Vec<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

/// What is allowed to one crate only.
#[derive(Debug, Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

impl Allowed {
    /// The list that this program was built by; empty if it was built without one.
    pub(super) fn of_this_build() -> Self {
        let text = include_str!(concat!(env!("OUT_DIR"), "/licences.toml"));
        toml::from_str(text).unwrap_or_default()
    }

    /// Whether a crate may come under one of the ways that its licence leaves.
    pub(super) fn allows(&self, name: &str, expression: &str) -> bool {
        let spaced = expression.replace('(', " ( ").replace(')', " ) ");
        let mut words = spaced.split_whitespace().peekable();
        let is_allowed = |licence: &str| self.has(name, licence);
        let allowed = any(&mut words, &is_allowed);
        allowed == Some(true) && words.next().is_none()
    }

    /// The list, as one text.
    pub(super) fn to_text(&self) -> String {
        self.licenses.allow.join(", ")
    }

    fn has(&self, name: &str, licence: &str) -> bool {
        let listed = |list: &[String]| list.iter().any(|one| one == licence);
        let List { allow, exceptions } = &self.licenses;
        let mut its = exceptions.iter().filter(|one| one.name == name);
        listed(allow) || its.any(|one| listed(&one.allow))
    }
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

/// `a OR b`; `None` for what is no expression.
fn any(words: &mut Words<'_>, is_allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let mut allowed = all(words, is_allowed)?;
    while words.next_if_eq(&"OR").is_some() {
        allowed |= all(words, is_allowed)?;
    }
    Some(allowed)
}

/// `a AND b`, which binds tighter.
fn all(words: &mut Words<'_>, is_allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let mut allowed = one(words, is_allowed)?;
    while words.next_if_eq(&"AND").is_some() {
        allowed &= one(words, is_allowed)?;
    }
    Some(allowed)
}

/// A licence, one with an exception, or an expression in parentheses.
fn one(words: &mut Words<'_>, is_allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let word = words.next()?;
    if word == "(" {
        let allowed = any(words, is_allowed)?;
        return (words.next()? == ")").then_some(allowed);
    }
    if words.next_if_eq(&"WITH").is_some() {
        return Some(is_allowed(&format!("{word} WITH {}", words.next()?)));
    }
    Some(is_allowed(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_allowed_by_one_of_its_ways() {
        let allowed: Allowed = toml::from_str(
            "[licenses]\nallow = ['MIT', 'Apache-2.0', 'ISC']\n\
             exceptions = [{ crate = 'odd', allow = ['MIT-0'] }]",
        )
        .unwrap();
        for good in [
            "MIT",
            "GPL-3.0-only OR MIT",
            "MIT AND (Apache-2.0 OR GPL-3.0-only)",
            "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
            "Apache-2.0 AND ISC",
        ] {
            assert!(allowed.allows("any", good), "{good}");
        }
        for bad in [
            "",
            "GPL-3.0-only",
            "MIT AND GPL-3.0-only",
            "GPL-3.0-only OR MIT AND BSL-1.0",
            "Apache-2.0 WITH LLVM-exception",
            "(MIT",
            "MIT)",
            "MIT OR",
            "MIT Apache-2.0",
            "MIT-0",
        ] {
            assert!(!allowed.allows("any", bad), "{bad}");
        }
        assert!(allowed.allows("odd", "MIT-0"));
        assert!(!Allowed::default().allows("any", "MIT"));
    }

    #[test]
    fn the_list_of_this_build_is_that_of_the_repository() {
        let text = include_str!("../../../.cargo/deny.toml");
        let theirs: Allowed = toml::from_str(text).unwrap();
        assert!(!theirs.licenses.allow.is_empty());
        assert_eq!(theirs.to_text(), Allowed::of_this_build().to_text());
    }
}
