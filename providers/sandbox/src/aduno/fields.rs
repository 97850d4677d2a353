use cardless_contract::{Currency, Money};
use serde_json::{Map, Value};

use super::Refused;

/// A request's body: an object whose members are all known.
#[derive(Debug)]
pub(super) struct Fields {
    operation: &'static str,
    members: Map<String, Value>,
}

/// The longest `refno` (`providers/aduno.md` §4).
const MAX_REFNO_CHARACTERS: usize = 40;

/// A currency that the sandbox's merchant lacks (§13).
const CURRENCY_NOT_ENABLED: &str = "DKK";

impl Fields {
    /// Reads a body. Members that are null count as absent.
    pub(super) fn read(
        operation: &'static str,
        body: &[u8],
        known: &[&str],
    ) -> Result<Self, Refused> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(members)) => Self::known(operation, members, known),
            Ok(_) | Err(_) => Err(Refused::new("INVALID_JSON_PAYLOAD", "not a JSON object")),
        }
    }

    fn known(
        operation: &'static str,
        mut members: Map<String, Value>,
        known: &[&str],
    ) -> Result<Self, Refused> {
        if let Some(name) = members.keys().find(|name| !known.contains(&name.as_str())) {
            let message = format!("{operation}.{name}");
            return Err(Refused::new("UNRECOGNIZED_PROPERTY", message));
        }
        members.retain(|_, value| !value.is_null());
        Ok(Self { operation, members })
    }

    /// An object within the body.
    pub(super) fn object(&self, name: &str, known: &[&str]) -> Result<Option<Self>, Refused> {
        match self.members.get(name) {
            None => Ok(None),
            Some(Value::Object(inner)) => {
                Self::known(self.operation, inner.clone(), known).map(Some)
            }
            Some(_) => Err(self.invalid(name)),
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Refused> {
        match self.members.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.invalid(name)),
        }
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Refused> {
        match self.members.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.invalid(name)),
        }
    }

    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>, Refused> {
        match self.members.get(name) {
            None => Ok(None),
            Some(value) => value.as_i64().map(Some).ok_or_else(|| self.invalid(name)),
        }
    }

    /// Two digits, as the parts of an expiry date are.
    pub(super) fn two_digits(&self, name: &str) -> Result<Option<&str>, Refused> {
        let text = self.text(name)?;
        let fits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        if text.is_some_and(|text| !fits(text)) {
            return Err(self.invalid(name));
        }
        Ok(text)
    }

    pub(super) fn refno(&self) -> Result<String, Refused> {
        let Some(refno) = self.text("refno")? else {
            let message = format!("{}.refno must not be null", self.operation);
            return Err(Refused::new("INVALID_PROPERTY", message));
        };
        if (1..=MAX_REFNO_CHARACTERS).contains(&refno.chars().count()) {
            return Ok(refno.to_owned());
        }
        Err(self.invalid("refno"))
    }

    pub(super) fn currency(&self) -> Result<Currency, Refused> {
        let code = self.text("currency")?.unwrap_or_default();
        Currency::from_code(code)
            .ok()
            .filter(|_| code != CURRENCY_NOT_ENABLED)
            .ok_or_else(|| self.invalid("currency"))
    }

    /// An amount above zero that must be there.
    pub(super) fn amount(&self, currency: Currency) -> Result<Money, Refused> {
        let minor = self.integer("amount")?.unwrap_or_default();
        Money::new(currency, minor)
            .ok()
            .filter(|amount| !amount.is_zero())
            .ok_or_else(|| self.invalid("amount"))
    }

    /// The domain answer to a member that does not do.
    pub(super) fn invalid(&self, name: &str) -> Refused {
        Refused::new("INVALID_PROPERTY", format!("{}.{name}", self.operation))
    }
}
