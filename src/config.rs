//! Settings: `cardless.toml`, overlaid by the environment.
//!
//! - Every setting can be given as `CARDLESS__SECTION__NAME`. Such a value is read as TOML where it
//!   is TOML (`405`, `["a", "b"]`), and as text otherwise; where text is wanted, it is text.
//! - Every value can be `{ env = "NAME" }` or `{ file = "PATH" }`, and is fetched when its section
//!   is read, so that a verb that asks no provider needs no provider's secret.
//! - Relative paths are relative to the folder of the settings file.
//! - An error names the setting and where it stands. It never quotes a value.

mod outline;

pub use outline::SettingLine;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use cardless_contract::Secrets;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};
use url::Url;

use crate::protected::is_protected;

/// The settings file that is read if none is named.
pub const DEFAULT_FILE: &str = "cardless.toml";

/// The largest settings file or secret file, in bytes (1 MiB).
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// What every overriding variable begins with.
const PREFIX: &str = "CARDLESS__";

/// What separates the names in an overriding variable.
const SEPARATOR: &str = "__";

/// The settings of one installation.
#[derive(Debug)]
pub struct Settings {
    /// `[service]`.
    pub service: Service,
    /// `[store]`.
    pub store: Store,
    /// `[keys]`.
    pub keys: Keys,
    document: Document,
}

/// `[service]`: where the service listens, and where it is reached.
#[derive(Debug)]
pub struct Service {
    /// The address of the listener; loopback only without TLS.
    pub listen: SocketAddr,
    /// What providers and browsers reach, without a slash at the end.
    pub public_url: String,
}

/// `[store]`.
#[derive(Debug)]
pub struct Store {
    /// `sqlite:PATH`.
    pub url: String,
}

/// `[keys]`.
#[derive(Debug)]
pub struct Keys {
    /// The key file.
    pub file: PathBuf,
}

/// `[events]`: where events are delivered.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    /// The billing service's address: https, or http on loopback.
    pub url: String,
    /// What they are signed with, `whsec_…`: with each of them, so that one can be replaced with an
    /// overlap.
    pub secret: Secrets,
}

/// The variables of the environment. Its `Debug` shows none of them, since some are secrets.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

/// A setting that is unknown, missing or wrong. It quotes no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    place: Option<String>,
    setting: Option<String>,
    message: String,
}

impl Environment {
    /// The process's own environment, as far as it is UTF-8.
    pub fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The variables that override a setting: name, path of the setting, value.
    fn overrides(&self) -> impl Iterator<Item = (&str, Vec<String>, &str)> {
        self.0.iter().filter_map(|(name, value)| {
            let path = name.strip_prefix(PREFIX)?.split(SEPARATOR);
            Some((
                name.as_str(),
                path.map(str::to_lowercase).collect(),
                value.as_str(),
            ))
        })
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl fmt::Debug for Events {
    /// Not the address: its path or query can be a secret of the billing service's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("secret", &self.secret)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment(…)")
    }
}

impl Settings {
    /// Reads `file`, or [`DEFAULT_FILE`] if it is there, and overlays `environment`.
    ///
    /// # Errors
    ///
    /// [`SettingsError`], also if a file that was named is not there.
    pub fn load(file: Option<&Path>, environment: &Environment) -> Result<Self, SettingsError> {
        let path = file.unwrap_or(Path::new(DEFAULT_FILE));
        let missing_is_fine = file.is_none();
        let text = match read_text(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && missing_is_fine => {
                String::new()
            }
            Err(error) => {
                return Err(SettingsError::of_file(
                    path,
                    format!("can't be read: {error}"),
                ));
            }
        };
        Self::parse(path, &text, environment)
    }

    /// The same, from the text of a file; `path` is what errors call it.
    ///
    /// # Errors
    ///
    /// [`SettingsError`].
    pub fn parse(
        path: &Path,
        text: &str,
        environment: &Environment,
    ) -> Result<Self, SettingsError> {
        let document = Document::new(path, text, environment)?;
        let root: Root = document.decode(&[])?;
        Ok(Self {
            service: service(&document, root.service)?,
            store: Store {
                url: store_url(&document, root.store.url)?,
            },
            keys: keys(&document, root.keys)?,
            document,
        })
    }

    /// The names of the tables under `[providers]`.
    pub fn provider_names(&self) -> Vec<&str> {
        match self.document.find(&["providers"]) {
            Some(Value::Table(table)) => table.keys().map(String::as_str).collect(),
            Some(_) | None => Vec::new(),
        }
    }

    /// The table of one provider, as its adapter's own settings. `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] that names the setting.
    pub fn provider<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, SettingsError> {
        let at = ["providers", name];
        match self.document.find(&at) {
            None => Ok(None),
            Some(_) => self.document.decode(&at).map(Some),
        }
    }

    /// `keys.passphrase`, fetched now. `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] that names the setting.
    pub fn passphrase(&self) -> Result<Option<Secrets>, SettingsError> {
        // Not the section: `{ file = "…" }` alone would be taken for a secret in a file.
        let at = ["keys", "passphrase"];
        match self.document.find(&at) {
            None => Ok(None),
            Some(_) => self.document.decode(&at).map(Some),
        }
    }

    /// `[events]`. `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] that names the setting.
    pub fn events(&self) -> Result<Option<Events>, SettingsError> {
        match self.document.find(&["events"]) {
            None => Ok(None),
            Some(_) => self.document.decode(&["events"]).map(Some),
        }
    }

    /// How many values a setting has: those of a list, or one. `None` if it is not set. What it
    /// points to (`{ env = … }`, `{ file = … }`) is not fetched.
    pub fn count_values(&self, path: &[&str]) -> Option<usize> {
        let value = self.document.find(path)?;
        Some(value.as_array().map_or(1, Vec::len))
    }

    /// An error about a setting, at the place where it stands.
    pub fn error(&self, setting: &str, message: impl Into<String>) -> SettingsError {
        self.document.error(setting, message)
    }
}

impl SettingsError {
    /// The path of the setting, as `providers.paypal.client_id`.
    pub fn setting(&self) -> Option<&str> {
        self.setting.as_deref()
    }

    fn of_file(path: &Path, message: impl Into<String>) -> Self {
        Self {
            place: Some(path.display().to_string()),
            setting: None,
            message: message.into(),
        }
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if let Some(setting) = &self.setting {
            write!(f, "setting `{setting}` ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for SettingsError {}

/// The file's shape. What is kept as `Option` or text here is checked and completed afterwards.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Root {
    service: RawService,
    store: RawStore,
    keys: RawKeys,
    #[serde(rename = "events")]
    _events: Option<Table>,
    #[serde(rename = "providers")]
    _providers: BTreeMap<String, Table>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawService {
    listen: Option<String>,
    public_url: Option<String>,
    tls: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawStore {
    url: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawKeys {
    file: Option<String>,
    #[serde(rename = "passphrase")]
    _passphrase: Option<Value>,
}

fn service(document: &Document, raw: RawService) -> Result<Service, SettingsError> {
    if raw.tls.is_some() {
        return Err(document.error("service.tls", NO_TLS_YET));
    }
    let listen = raw.listen.as_deref().unwrap_or("127.0.0.1:8080");
    let listen: SocketAddr = listen.parse().map_err(|_| {
        document.error(
            "service.listen",
            "is not an address with a port, as 127.0.0.1:8080",
        )
    })?;
    if !listen.ip().is_loopback() {
        return Err(document.error("service.listen", LOOPBACK_ONLY));
    }
    let public_url = raw.public_url.unwrap_or_else(|| format!("http://{listen}"));
    Ok(Service {
        listen,
        public_url: public_url_of(document, &public_url)?,
    })
}

/// What is said to `[service.tls]`, which comes with the TLS listener.
const NO_TLS_YET: &str = "is not available in this build yet: remove it, listen on loopback, and \
                          put a proxy that speaks TLS in front";

/// What is said to an address beyond loopback.
const LOOPBACK_ONLY: &str = "is not a loopback address: beyond loopback [service.tls] is required, \
                             which is not available in this build yet. Listen on 127.0.0.1 or [::1]";

fn public_url_of(document: &Document, text: &str) -> Result<String, SettingsError> {
    let wrong = |message: &str| document.error("service.public_url", message);
    let url = Url::parse(text).map_err(|_| wrong("is not an absolute address"))?;
    if url.host().is_none() {
        return Err(wrong("names no host"));
    }
    if !is_protected(&url) {
        return Err(wrong("must be https, or http on loopback"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("must hold no user and no password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("must have neither a query nor a fragment"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn store_url(document: &Document, url: Option<String>) -> Result<String, SettingsError> {
    let url = url.unwrap_or_else(|| "sqlite:cardless.db".to_owned());
    let Some(path) = url.strip_prefix("sqlite:") else {
        let message = "must begin with `sqlite:`; PostgreSQL is not available in this build yet";
        return Err(document.error("store.url", message));
    };
    if path.is_empty() {
        return Err(document.error("store.url", "names no file after `sqlite:`"));
    }
    if path.starts_with([':', '/']) {
        return Ok(url);
    }
    Ok(format!("sqlite:{}", document.path(path).display()))
}

fn keys(document: &Document, raw: RawKeys) -> Result<Keys, SettingsError> {
    let file = raw.file.as_deref().unwrap_or("cardless.keys");
    Ok(Keys {
        file: document.path(file),
    })
}

/// The file and the environment as one tree of values, with what errors need to name a place.
struct Document {
    file: PathBuf,
    root: Value,
    /// Where a setting stands in the file: line and column.
    places: BTreeMap<Vec<String>, (usize, usize)>,
    /// What the environment gave: the variable's name and its text.
    given: BTreeMap<Vec<String>, (String, String)>,
    environment: Environment,
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl Document {
    fn new(file: &Path, text: &str, environment: &Environment) -> Result<Self, SettingsError> {
        let mut document = Self {
            file: file.to_owned(),
            root: Value::Table(Table::new()),
            places: BTreeMap::new(),
            given: BTreeMap::new(),
            environment: environment.clone(),
        };
        let parsed = DeTable::parse(text).map_err(|error| syntax_error(file, text, &error))?;
        let table = text
            .parse()
            .map_err(|error| syntax_error(file, text, &error))?;
        document.root = Value::Table(table);
        collect_places(parsed.get_ref(), text, &[], &mut document.places);
        for (name, path, value) in environment.overrides() {
            document.overlay(name, path, value)?;
        }
        Ok(document)
    }

    /// Puts one value of the environment over the file's.
    fn overlay(&mut self, name: &str, path: Vec<String>, raw: &str) -> Result<(), SettingsError> {
        if path.iter().any(String::is_empty) {
            return Err(SettingsError {
                place: Some(format!("environment variable {name}")),
                setting: None,
                message: "names no setting; write CARDLESS__SECTION__NAME".to_owned(),
            });
        }
        let setting = path.join(".");
        self.given
            .insert(path.clone(), (name.to_owned(), raw.to_owned()));
        if !put(&mut self.root, &path, read_value(raw)) {
            return Err(self.error(&setting, "lies within a setting that is no table"));
        }
        Ok(())
    }

    fn find(&self, path: &[&str]) -> Option<&Value> {
        path.iter()
            .try_fold(&self.root, |value, name| value.get(name))
    }

    /// A path of the settings, relative to the settings file's folder.
    fn path(&self, path: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }

    /// Reads a section as `T`, its secrets fetched.
    fn decode<T: DeserializeOwned>(&self, at: &[&str]) -> Result<T, SettingsError> {
        let at_owned: Vec<String> = at.iter().map(|&name| name.to_owned()).collect();
        let empty = Value::Table(Table::new());
        let mut value = self.find(at).unwrap_or(&empty).clone();
        let mut fetched = Vec::new();
        if !at.is_empty() {
            self.fetch_secrets(&mut value, &mut at_owned.clone(), &mut fetched)?;
        }
        // Text in the environment that happens to be TOML of another type is tried again as text,
        // so the number of rounds is bounded by the number of variables.
        for _ in 0..=self.given.len() {
            let error = match serde_path_to_error::deserialize(value.clone()) {
                Ok(decoded) => return Ok(decoded),
                Err(error) => error,
            };
            let path = full_path(&at_owned, error.path());
            let as_text = self.given.get(&path).and_then(|(_, raw)| {
                let relative: Vec<String> = path.iter().skip(at.len()).cloned().collect();
                replace_by_text(&mut value, &relative, raw)
            });
            if as_text.is_none() {
                return Err(self.decode_error(path, error.inner().message(), &fetched));
            }
        }
        Err(self.error(&at.join("."), "can't be read"))
    }

    /// Replaces every `{ env = … }` and `{ file = … }` by what it points to.
    fn fetch_secrets(
        &self,
        value: &mut Value,
        path: &mut Vec<String>,
        fetched: &mut Vec<String>,
    ) -> Result<(), SettingsError> {
        if let Some(source) = SecretSource::of(value) {
            let secret = self
                .fetch(&source)
                .map_err(|why| self.error(&path.join("."), why))?;
            fetched.push(secret.clone());
            *value = Value::String(secret);
            return Ok(());
        }
        match value {
            Value::Table(table) => {
                for (name, inner) in table.iter_mut() {
                    path.push(name.to_owned());
                    self.fetch_secrets(inner, path, fetched)?;
                    path.pop();
                }
            }
            Value::Array(items) => {
                for inner in items {
                    self.fetch_secrets(inner, path, fetched)?;
                }
            }
            Value::String(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_) => {}
        }
        Ok(())
    }

    fn fetch(&self, source: &SecretSource) -> Result<String, String> {
        let (secret, what) = match source {
            SecretSource::Env(name) => {
                let value = self.environment.get(name).ok_or_else(|| {
                    format!("needs the environment variable {name}, which is not set")
                })?;
                (value.to_owned(), format!("the environment variable {name}"))
            }
            SecretSource::File(name) => {
                let path = self.path(name);
                let text = read_text(&path).map_err(|error| {
                    format!(
                        "needs the file {}, which can't be read: {error}",
                        path.display()
                    )
                })?;
                (
                    without_last_newline(&text).to_owned(),
                    format!("the file {}", path.display()),
                )
            }
        };
        if secret.is_empty() {
            Err(format!("is empty: {what} holds nothing"))
        } else {
            Ok(secret)
        }
    }

    /// Our words for an error of serde, whose own can quote a value.
    fn decode_error(
        &self,
        mut path: Vec<String>,
        error: &str,
        fetched: &[String],
    ) -> SettingsError {
        let message = if error.starts_with("unknown field ") {
            match error.split_once(", expected ") {
                Some((_, expected)) => format!("is not known; expected {expected}"),
                None => "is not known; nothing can be set here".to_owned(),
            }
        } else if let Some(name) = quoted_after(error, "missing field ") {
            path.push(name.to_owned());
            "is missing".to_owned()
        } else if let Some((_, expected)) = error.rsplit_once(", expected ") {
            format!("is not valid; expected {expected}")
        } else if self.quotes_a_value(&path, error, fetched) {
            "is not valid".to_owned()
        } else {
            format!("is not valid: {}", error.trim_end())
        };
        self.error(&path.join("."), message)
    }

    fn quotes_a_value(&self, path: &[String], message: &str, fetched: &[String]) -> bool {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let own = self.find(&path).and_then(Value::as_str);
        let mut values = fetched.iter().map(String::as_str).chain(own);
        values.any(|value| !value.is_empty() && message.contains(value))
    }

    fn error(&self, setting: &str, message: impl Into<String>) -> SettingsError {
        let path: Vec<String> = setting.split('.').map(str::to_owned).collect();
        SettingsError {
            place: self.place(&path),
            setting: (!setting.is_empty()).then(|| setting.to_owned()),
            message: message.into(),
        }
    }

    /// Where a setting stands, or the nearest table around it.
    fn place(&self, path: &[String]) -> Option<String> {
        if let Some((name, _)) = self.given.get(path) {
            return Some(format!("environment variable {name}"));
        }
        let file = self.file.display();
        let around = (1..=path.len()).rev().find_map(|length| {
            let prefix: Vec<String> = path.iter().take(length).cloned().collect();
            self.places.get(&prefix)
        });
        Some(match around {
            Some((line, column)) => format!("{file}:{line}:{column}"),
            None => file.to_string(),
        })
    }
}

/// Where a secret is kept instead of in the settings.
enum SecretSource {
    Env(String),
    File(String),
}

impl SecretSource {
    /// `{ env = "NAME" }` or `{ file = "PATH" }`, and nothing else in the table.
    fn of(value: &Value) -> Option<Self> {
        let table = value.as_table().filter(|table| table.len() == 1)?;
        let text = |name: &str| table.get(name).and_then(Value::as_str).map(str::to_owned);
        text("env")
            .map(Self::Env)
            .or_else(|| text("file").map(Self::File))
    }
}

fn read_text(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(MAX_FILE_BYTES.saturating_add(1))
        .read_to_string(&mut text)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
        return Err(std::io::Error::other(format!(
            "it is larger than {MAX_FILE_BYTES} bytes"
        )));
    }
    Ok(text)
}

fn without_last_newline(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

/// The text of a variable as TOML, or as text where it is none.
fn read_value(raw: &str) -> Value {
    let parsed = format!("value = {raw}").parse::<Table>();
    // Text with a newline could end the value and begin another setting.
    let one = parsed.ok().filter(|table| table.len() == 1);
    one.and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(raw.to_owned()))
}

/// Sets a value, making the tables around it. False if one of them is no table.
fn put(root: &mut Value, path: &[String], value: Value) -> bool {
    let Some((name, rest)) = path.split_first() else {
        *root = value;
        return true;
    };
    let Some(table) = root.as_table_mut() else {
        return false;
    };
    let inner = table
        .entry(name.clone())
        .or_insert_with(|| Value::Table(Table::new()));
    put(inner, rest, value)
}

/// Sets a value to its text; `None` if it is that text already.
fn replace_by_text(root: &mut Value, path: &[String], raw: &str) -> Option<()> {
    let value = path
        .iter()
        .try_fold(root, |value, name| value.get_mut(name))?;
    if value.as_str() == Some(raw) {
        return None;
    }
    *value = Value::String(raw.to_owned());
    Some(())
}

fn full_path(at: &[String], path: &serde_path_to_error::Path) -> Vec<String> {
    let names = path.iter().filter_map(|segment| match segment {
        serde_path_to_error::Segment::Map { key } => Some(key.clone()),
        serde_path_to_error::Segment::Seq { .. }
        | serde_path_to_error::Segment::Enum { .. }
        | serde_path_to_error::Segment::Unknown => None,
    });
    at.iter().cloned().chain(names).collect()
}

/// The name in backquotes after a prefix of serde's messages.
fn quoted_after<'a>(message: &'a str, prefix: &str) -> Option<&'a str> {
    message
        .strip_prefix(prefix)?
        .strip_prefix('`')?
        .split_once('`')
        .map(|(name, _)| name)
}

/// A syntax error by its place; the line itself is not shown, since it can hold a secret.
fn syntax_error(file: &Path, text: &str, error: &toml::de::Error) -> SettingsError {
    let place = match error.span() {
        Some(span) => {
            let (line, column) = line_and_column(text, span.start);
            format!("{}:{line}:{column}", file.display())
        }
        None => file.display().to_string(),
    };
    SettingsError {
        place: Some(place),
        setting: None,
        message: format!("this is not valid TOML: {}", error.message()),
    }
}

fn collect_places(
    table: &DeTable<'_>,
    text: &str,
    at: &[String],
    places: &mut BTreeMap<Vec<String>, (usize, usize)>,
) {
    for (key, value) in table {
        let mut path = at.to_vec();
        path.push(key.get_ref().to_string());
        places.insert(path.clone(), line_and_column(text, key.span().start));
        if let DeValue::Table(inner) = value.get_ref() {
            collect_places(inner, text, &path, places);
        }
    }
}

/// Line and column, both from 1, of a byte of the text.
fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count().saturating_add(1);
    let column = before
        .rsplit('\n')
        .next()
        .map_or(0, |rest| rest.chars().count());
    (line, column.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Fake {
        user_id: String,
        space_id: u64,
        #[serde(default)]
        secret: Option<String>,
    }

    fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let environment = environment
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Settings::parse(Path::new("cardless.toml"), text, &environment)
    }

    #[test]
    fn nothing_at_all_is_the_defaults() {
        let settings = parse("", &[]).unwrap();
        assert_eq!(settings.service.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(settings.service.public_url, "http://127.0.0.1:8080");
        assert_eq!(settings.store.url, "sqlite:cardless.db");
        assert_eq!(settings.keys.file, Path::new("cardless.keys"));
        assert!(settings.provider_names().is_empty());
    }

    #[test]
    fn relative_paths_are_relative_to_the_file() {
        let settings = Settings::parse(
            Path::new("/etc/cardless/c.toml"),
            "",
            &Environment::default(),
        );
        let settings = settings.unwrap();
        assert_eq!(settings.store.url, "sqlite:/etc/cardless/cardless.db");
        assert_eq!(settings.keys.file, Path::new("/etc/cardless/cardless.keys"));
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let settings = parse(
            "[service]\nlisten = \"127.0.0.1:1\"\n[providers.fake]\nuser_id = \"1\"\nspace_id = 1",
            &[
                ("CARDLESS__SERVICE__LISTEN", "[::1]:9000"),
                ("CARDLESS__PROVIDERS__FAKE__USER_ID", "512"),
                ("CARDLESS__PROVIDERS__FAKE__SPACE_ID", "405"),
            ],
        )
        .unwrap();
        assert_eq!(settings.service.public_url, "http://[::1]:9000");
        let fake: Fake = settings.provider("fake").unwrap().unwrap();
        assert_eq!((fake.user_id.as_str(), fake.space_id), ("512", 405));
        assert!(settings.provider::<Fake>("other").unwrap().is_none());
    }

    #[test]
    fn an_unknown_setting_is_named_with_its_place() {
        let error = parse("[service]\nlisten = \"127.0.0.1:1\"\n  lissten = 1", &[]).unwrap_err();
        assert_eq!(error.setting(), Some("service.lissten"));
        assert!(
            error.to_string().starts_with("cardless.toml:3:3: "),
            "{error}"
        );
        let error = parse("", &[("CARDLESS__SERVICE__LISSTEN", "x")]).unwrap_err();
        assert!(
            error.to_string().contains("CARDLESS__SERVICE__LISSTEN"),
            "{error}"
        );
        assert_eq!(
            parse("[servise]", &[]).unwrap_err().setting(),
            Some("servise")
        );
    }

    #[test]
    fn a_missing_setting_is_named_with_its_table() {
        let settings = parse("\n[providers.fake]\nspace_id = 1", &[]).unwrap();
        let error = settings.provider::<Fake>("fake").unwrap_err();
        assert_eq!(error.setting(), Some("providers.fake.user_id"));
        assert!(
            error.to_string().starts_with("cardless.toml:2:12: "),
            "{error}"
        );
    }

    #[test]
    fn secrets_come_from_the_environment_or_a_file() {
        let text = "[providers.fake]\nuser_id = \"1\"\nspace_id = 1\nsecret = { env = \"S\" }";
        let settings = parse(text, &[("S", "canary")]).unwrap();
        let fake: Fake = settings.provider("fake").unwrap().unwrap();
        assert_eq!(fake.secret.as_deref(), Some("canary"));
        let missing = parse(text, &[])
            .unwrap()
            .provider::<Fake>("fake")
            .unwrap_err();
        assert!(
            missing.to_string().contains("variable S, which is not set"),
            "{missing}"
        );
        let empty = parse(text, &[("S", "")])
            .unwrap()
            .provider::<Fake>("fake")
            .unwrap_err();
        assert!(empty.to_string().contains("is empty"), "{empty}");
    }

    #[test]
    fn a_secret_file_ends_with_one_newline_at_most_that_counts() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("one"), "canary\n\n").unwrap();
        std::fs::write(folder.path().join("none"), "\n").unwrap();
        let parse = |file: &str| {
            let secret = format!("[{{ file = \"{file}\" }}, \"other\"]");
            let text = format!("[providers.fake]\nsecrets = {secret}");
            let path = folder.path().join("cardless.toml");
            Settings::parse(&path, &text, &Environment::default()).unwrap()
        };
        let several = parse("one").provider::<Several>("fake").unwrap().unwrap();
        assert_eq!(several.secrets, ["canary\n", "other"]);
        for (file, why) in [("none", "is empty"), ("missing", "can't be read")] {
            let error = parse(file).provider::<Several>("fake").unwrap_err();
            assert_eq!(error.setting(), Some("providers.fake.secrets"));
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[derive(Debug, Deserialize)]
    struct Several {
        secrets: Vec<String>,
    }

    #[test]
    fn no_error_quotes_a_value() {
        for (text, environment) in [
            (
                "[providers.fake]\nuser_id = \"1\"\nspace_id = \"canary\"",
                vec![],
            ),
            (
                "[providers.fake]\nuser_id = \"1\"\nspace_id = { env = \"S\" }",
                vec![("S", "canary")],
            ),
            (
                "[providers.fake]\nuser_id = [\"canary\"]\nspace_id = 1",
                vec![],
            ),
        ] {
            let error = parse(text, &environment)
                .unwrap()
                .provider::<Fake>("fake")
                .unwrap_err();
            assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
        }
        let error = parse("[providers.fake]\nsecret = \"canary", &[]).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
        let error = parse("[service]\nlisten = \"canary\"", &[]).unwrap_err();
        assert!(!error.to_string().contains("canary"), "{error}");
    }

    #[test]
    fn a_passphrase_is_fetched_when_it_is_needed() {
        let passphrase = |text: &str, environment: &[(&str, &str)]| {
            let settings = parse(text, environment).unwrap();
            settings.passphrase()
        };
        let file = "[keys]\nfile = \"cardless.keys\"\n";
        assert!(passphrase(file, &[]).unwrap().is_none());
        for (text, environment, wanted) in [
            (
                "passphrase = { env = \"P\" }",
                ("P", "canary"),
                &["canary"][..],
            ),
            (
                "passphrase = [\"new\", { env = \"P\" }]",
                ("P", "old"),
                &["new", "old"],
            ),
            ("", ("CARDLESS__KEYS__PASSPHRASE", "canary"), &["canary"]),
            ("", ("CARDLESS__KEYS__PASSPHRASE", "12345"), &["12345"]),
        ] {
            let found = passphrase(&format!("{file}{text}"), &[environment]);
            let found = found.unwrap().unwrap();
            assert_eq!(found.all().collect::<Vec<_>>(), wanted, "{text}");
        }
        let missing = passphrase("[keys]\npassphrase = { env = \"P\" }", &[]).unwrap_err();
        assert_eq!(missing.setting(), Some("keys.passphrase"));
    }

    #[test]
    fn events_have_an_address_and_one_secret_or_two() {
        let text = "[events]\nurl = \"https://b.example/\"\nsecret = [{ env = \"S\" }, \"old\"]";
        let events = parse(text, &[("S", "canary")]).unwrap().events();
        let events = events.unwrap().unwrap();
        assert_eq!(events.secret.all().collect::<Vec<_>>(), ["canary", "old"]);
        assert!(!format!("{events:?}").contains("canary"));
        assert!(parse("", &[]).unwrap().events().unwrap().is_none());
        // Whoever does not deliver needs no secret.
        let without = parse(text, &[]).unwrap();
        assert_eq!(
            without.events().unwrap_err().setting(),
            Some("events.secret")
        );
        for (text, setting) in [
            ("[events]\nsecret = \"s\"", "events.url"),
            ("[events]\nurl = \"u\"", "events.secret"),
            ("[events]\nurl = \"u\"\nsecret = \"s\"\nx = 1", "events.x"),
        ] {
            let error = parse(text, &[]).unwrap().events().unwrap_err();
            assert_eq!(error.setting(), Some(setting));
        }
    }

    #[test]
    fn plain_http_is_for_loopback() {
        let error = parse("[service]\nlisten = \"0.0.0.0:80\"", &[]).unwrap_err();
        assert!(
            error.to_string().contains("[service.tls] is required"),
            "{error}"
        );
        for url in [
            "http://pay.example",
            "ftp://127.0.0.1",
            "https://a@b.example",
            "nonsense",
        ] {
            let text = format!("[service]\npublic_url = \"{url}\"");
            assert_eq!(
                parse(&text, &[]).unwrap_err().setting(),
                Some("service.public_url"),
                "{url}"
            );
        }
    }
}
