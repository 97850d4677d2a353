//! The settings in force, as evidence: each by its name and where it comes from. What is secret is
//! counted and never shown, not even as a digest, since short secrets could be tried against one.

use serde::Serialize;
use toml::Value;

use super::{SecretSource, Settings};
use crate::pan;

/// The longest value that is shown, in characters; of a longer one the first of them are.
const MAX_SHOWN_CHARS: usize = 160;

/// One setting, as evidence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SettingLine {
    /// Its path, as `providers.paypal.environment`.
    pub setting: String,
    /// Its value, or what can be said of a secret one.
    pub value: String,
    /// `file`, `environment` or `default`.
    pub from: &'static str,
    /// Whether it is secret and stands there itself, or one of its values does, instead of elsewhere.
    #[serde(skip)]
    pub stands_here: bool,
}

impl Settings {
    /// Every setting that is in force, by name. `is_secret` says of a path whether its value must not
    /// be shown.
    pub fn outline(&self, is_secret: impl Fn(&str) -> bool) -> Vec<SettingLine> {
        let mut lines = Vec::new();
        self.walk(&self.document.root, &mut Vec::new(), &is_secret, &mut lines);
        let shown = [
            ("service.listen", self.service.listen.to_string()),
            ("service.public_url", self.service.public_url.clone()),
            ("store.url", self.store.url.clone()),
            ("keys.file", self.keys.file.display().to_string()),
        ];
        for (setting, value) in shown {
            if !lines.iter().any(|line| line.setting == setting) {
                lines.push(SettingLine {
                    setting: setting.to_owned(),
                    value: shortened(&value),
                    from: "default",
                    stands_here: false,
                });
            }
        }
        lines.sort();
        lines
    }

    fn walk(
        &self,
        value: &Value,
        path: &mut Vec<String>,
        is_secret: &dyn Fn(&str) -> bool,
        lines: &mut Vec<SettingLine>,
    ) {
        let setting = path.join(".");
        let source = SecretSource::of(value);
        if let (Value::Table(table), None) = (value, &source)
            && !is_secret(&setting)
        {
            for (name, inner) in table {
                path.push(name.to_owned());
                self.walk(inner, path, is_secret, lines);
                path.pop();
            }
            return;
        }
        let from = if self.document.given.contains_key(path.as_slice()) {
            "environment"
        } else {
            "file"
        };
        let (value, stands_here) = match source {
            Some(source) => (source.says(), false),
            None if is_secret(&setting) => counted(value),
            None => (shortened(&written(value)), false),
        };
        lines.push(SettingLine {
            setting,
            value,
            from,
            stands_here,
        });
    }
}

impl SecretSource {
    /// Where it is kept. The name of a variable is no secret, and neither is a path.
    fn says(&self) -> String {
        match self {
            Self::Env(name) => format!("kept in the environment variable {}", shortened(name)),
            Self::File(path) => format!("kept in the file {}", shortened(path)),
        }
    }
}

/// How many values a secret setting has and where they are kept, and whether one stands here.
fn counted(value: &Value) -> (String, bool) {
    let Some(values) = value.as_array() else {
        return ("secret, stands in the settings".to_owned(), true);
    };
    let elsewhere = values
        .iter()
        .filter(|value| SecretSource::of(value).is_some());
    let (all, elsewhere) = (values.len(), elsewhere.count());
    let text = format!("{all} secrets, {elsewhere} of them kept elsewhere");
    (text, elsewhere < all)
}

fn written(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn shortened(text: &str) -> String {
    let shown: String = text.chars().take(MAX_SHOWN_CHARS).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    format!("{}{more}", pan::withhold(&shown))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Environment;
    use super::*;

    #[test]
    fn settings_are_shown_by_name_and_secrets_are_not() {
        let text = "[service]\nlisten = \"127.0.0.1:1\"\n\
                    [providers.paypal]\nclient_id = \"an id\"\n\
                    client_secret = [\"canary one\", { env = \"SECOND\" }]\n\
                    other = { file = \"f.txt\" }\nplain = \"canary two\"\nlong = 7\n";
        let environment = [(
            "CARDLESS__PROVIDERS__PAYPAL__LONG".to_owned(),
            "8".to_owned(),
        )];
        let environment = Environment::from_iter(environment);
        let settings = Settings::parse(Path::new("a/c.toml"), text, &environment).unwrap();
        let secret = |path: &str| path.ends_with("client_secret") || path.ends_with("plain");
        let lines = settings.outline(secret);
        let lines: Vec<String> = lines
            .iter()
            .map(|line| format!("{} = {} ({})", line.setting, line.value, line.from))
            .collect();
        assert_eq!(
            lines,
            [
                "keys.file = a/cardless.keys (default)",
                "providers.paypal.client_id = an id (file)",
                "providers.paypal.client_secret = 2 secrets, 1 of them kept elsewhere (file)",
                "providers.paypal.long = 8 (environment)",
                "providers.paypal.other = kept in the file f.txt (file)",
                "providers.paypal.plain = secret, stands in the settings (file)",
                "service.listen = 127.0.0.1:1 (file)",
                "service.public_url = http://127.0.0.1:1 (default)",
                "store.url = sqlite:a/cardless.db (default)",
            ]
        );
    }

    #[test]
    fn a_long_value_is_cut_and_a_card_number_is_not_shown() {
        assert_eq!(
            shortened(&"a".repeat(200)).chars().count(),
            MAX_SHOWN_CHARS + 1
        );
        let number = ["4242", "4242", "4242", "4242"].join(" ");
        assert!(!shortened(&number).contains("4242"));
    }
}
