use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A currency of ISO 4217 that has a smallest unit (so no gold, no test codes).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency {
    inner: iso_currency::Currency,
    exponent: u32,
}

/// An amount of money: integer, in the currency's smallest unit by ISO 4217, never negative.
///
/// There is one money type in the workspace. What a provider does otherwise (PayPal takes no
/// decimals for HUF) is that adapter's affair; see [`Money::to_decimal`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, try_from = "RawMoney")]
pub struct Money {
    currency: Currency,
    minor: i64,
}

/// Why text or numbers are no [`Money`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MoneyError {
    /// The code is not three upper-case letters of ISO 4217 with a smallest unit.
    #[error("not a currency of ISO 4217")]
    UnknownCurrency,
    /// An amount below zero.
    #[error("the amount is negative")]
    Negative,
    /// Zero where an amount above zero is needed.
    #[error("the amount is zero")]
    Zero,
    /// The amount does not fit.
    #[error("the amount is too large")]
    TooLarge,
    /// The amount has a part below the smallest unit that can be expressed.
    #[error("the amount has more decimals than can be expressed")]
    Precision,
    /// The text is not a plain decimal number.
    #[error("not a decimal number")]
    NotANumber,
    /// Two amounts in different currencies.
    #[error("the currencies differ")]
    CurrencyMismatch,
}

impl Currency {
    /// By its three-letter code, upper case.
    ///
    /// # Errors
    ///
    /// [`MoneyError::UnknownCurrency`].
    pub fn from_code(code: &str) -> Result<Self, MoneyError> {
        let inner = iso_currency::Currency::from_code(code).ok_or(MoneyError::UnknownCurrency)?;
        let exponent = inner.exponent().ok_or(MoneyError::UnknownCurrency)?;
        Ok(Self {
            inner,
            exponent: u32::from(exponent),
        })
    }

    /// The three-letter code.
    pub fn code(self) -> &'static str {
        self.inner.code()
    }

    /// How many decimals the smallest unit stands for, by ISO 4217 (CHF 2, JPY 0, KWD 3).
    pub const fn exponent(self) -> u32 {
        self.exponent
    }
}

impl Money {
    /// The largest amount that is accepted, in the smallest unit: what PayPal can express
    /// (`providers/paypal.md` §4), the narrowest of the three.
    pub const MAX_MINOR: i64 = 99_999_999_999_999_999;

    /// An amount of zero or more.
    ///
    /// # Errors
    ///
    /// [`MoneyError::Negative`], [`MoneyError::TooLarge`].
    pub const fn new(currency: Currency, minor: i64) -> Result<Self, MoneyError> {
        if minor < 0 {
            return Err(MoneyError::Negative);
        }
        if minor > Self::MAX_MINOR {
            return Err(MoneyError::TooLarge);
        }
        Ok(Self { currency, minor })
    }

    /// Nothing, in a currency.
    pub const fn zero(currency: Currency) -> Self {
        Self { currency, minor: 0 }
    }

    /// The currency.
    pub const fn currency(self) -> Currency {
        self.currency
    }

    /// The amount in the currency's smallest unit.
    pub const fn minor(self) -> i64 {
        self.minor
    }

    /// Whether the amount is zero.
    pub const fn is_zero(self) -> bool {
        self.minor == 0
    }

    /// The sum.
    ///
    /// # Errors
    ///
    /// [`MoneyError::CurrencyMismatch`], [`MoneyError::TooLarge`].
    pub fn plus(self, other: Self) -> Result<Self, MoneyError> {
        if self.currency != other.currency {
            return Err(MoneyError::CurrencyMismatch);
        }
        let minor = self
            .minor
            .checked_add(other.minor)
            .ok_or(MoneyError::TooLarge)?;
        Self::new(self.currency, minor)
    }

    /// The difference.
    ///
    /// # Errors
    ///
    /// [`MoneyError::CurrencyMismatch`], [`MoneyError::Negative`].
    pub fn minus(self, other: Self) -> Result<Self, MoneyError> {
        if self.currency != other.currency {
            return Err(MoneyError::CurrencyMismatch);
        }
        let minor = self
            .minor
            .checked_sub(other.minor)
            .ok_or(MoneyError::Negative)?;
        Self::new(self.currency, minor)
    }

    /// The amount in major units with exactly `decimals` decimals, as `49.90`.
    ///
    /// # Errors
    ///
    /// [`MoneyError::Precision`] when the amount has a part that `decimals` can't express; it is
    /// never rounded.
    pub fn to_decimal(self, decimals: u32) -> Result<String, MoneyError> {
        let digits = self.minor.to_string();
        let exponent = usize::try_from(self.currency.exponent).unwrap_or(0);
        let padded = format!("{digits:0>width$}", width = exponent.saturating_add(1));
        let split = padded.len().saturating_sub(exponent);
        let (whole, fraction) = padded
            .split_at_checked(split)
            .ok_or(MoneyError::NotANumber)?;
        let wanted = usize::try_from(decimals).map_err(|_| MoneyError::Precision)?;
        let (kept, cut) = fraction.split_at_checked(wanted).unwrap_or((fraction, ""));
        if cut.bytes().any(|digit| digit != b'0') {
            return Err(MoneyError::Precision);
        }
        if wanted == 0 {
            return Ok(whole.to_owned());
        }
        Ok(format!("{whole}.{kept:0<wanted$}"))
    }

    /// Reads an amount in major units: `10`, `10.0` and `10.00` are the same. No sign, no
    /// exponent, no grouping.
    ///
    /// # Errors
    ///
    /// [`MoneyError::NotANumber`]; [`MoneyError::Precision`] when a decimal beyond the currency's
    /// smallest unit is not zero; [`MoneyError::TooLarge`].
    pub fn from_decimal(currency: Currency, text: &str) -> Result<Self, MoneyError> {
        let (whole, fraction) = match text.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return Err(MoneyError::NotANumber),
            None => (text, ""),
        };
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
            return Err(MoneyError::NotANumber);
        }
        let exponent = usize::try_from(currency.exponent).unwrap_or(0);
        let (kept, cut) = fraction
            .split_at_checked(exponent)
            .unwrap_or((fraction, ""));
        if cut.bytes().any(|digit| digit != b'0') {
            return Err(MoneyError::Precision);
        }
        let digits = format!("{whole}{kept:0<exponent$}");
        let minor = digits.parse().map_err(|_| MoneyError::TooLarge)?;
        Self::new(currency, minor)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMoney {
    currency: Currency,
    minor: i64,
}

impl TryFrom<RawMoney> for Money {
    type Error = MoneyError;

    fn try_from(raw: RawMoney) -> Result<Self, MoneyError> {
        Self::new(raw.currency, raw.minor)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_decimal(self.currency.exponent) {
            Ok(amount) => write!(f, "{} {amount}", self.currency),
            Err(_) => write!(f, "{} {} minor units", self.currency, self.minor),
        }
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::from_code(&code).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn money(code: &str, minor: i64) -> Money {
        Money::new(Currency::from_code(code).unwrap(), minor).unwrap()
    }

    #[test]
    fn exponents_are_those_of_iso_4217() {
        for (code, exponent) in [("CHF", 2), ("JPY", 0), ("KWD", 3), ("HUF", 2), ("TWD", 2)] {
            assert_eq!(
                Currency::from_code(code).unwrap().exponent(),
                exponent,
                "{code}"
            );
        }
        for code in ["chf", "XXX", "XAU", "CH", "CHFF", ""] {
            assert_eq!(
                Currency::from_code(code),
                Err(MoneyError::UnknownCurrency),
                "{code}"
            );
        }
    }

    #[test]
    fn decimals_are_exact_or_refused() {
        assert_eq!(money("CHF", 4990).to_decimal(2).unwrap(), "49.90");
        assert_eq!(money("CHF", 5).to_decimal(2).unwrap(), "0.05");
        assert_eq!(money("CHF", 4990).to_decimal(4).unwrap(), "49.9000");
        assert_eq!(money("JPY", 500).to_decimal(0).unwrap(), "500");
        assert_eq!(money("HUF", 150_000).to_decimal(0).unwrap(), "1500");
        assert_eq!(
            money("HUF", 150_050).to_decimal(0),
            Err(MoneyError::Precision)
        );
        assert_eq!(money("KWD", 1).to_decimal(3).unwrap(), "0.001");
    }

    #[test]
    fn reads_what_providers_write() {
        let chf = Currency::from_code("CHF").unwrap();
        for text in ["10", "10.0", "10.00", "10.000", "010"] {
            assert_eq!(
                Money::from_decimal(chf, text).unwrap(),
                money("CHF", 1000),
                "{text}"
            );
        }
        assert_eq!(
            Money::from_decimal(chf, "10.001"),
            Err(MoneyError::Precision)
        );
        assert_eq!(
            Money::from_decimal(chf, "99999999999999999999"),
            Err(MoneyError::TooLarge)
        );
        for text in [
            "", ".", ".5", "5.", "-1", "+1", "1e3", "1,0", "1.0.0", "\u{661}",
        ] {
            assert_eq!(
                Money::from_decimal(chf, text),
                Err(MoneyError::NotANumber),
                "{text}"
            );
        }
    }

    #[test]
    fn json_is_strict() {
        let read = |text: &str| serde_json::from_str::<Money>(text);
        assert_eq!(
            read(r#"{"currency":"CHF","minor":4990}"#).unwrap(),
            money("CHF", 4990)
        );
        for bad in [
            r#"{"currency":"CHF","minor":-1}"#,
            r#"{"currency":"CHF","minor":1.0}"#,
            r#"{"currency":"CHF","minor":"1"}"#,
            r#"{"currency":"XXX","minor":1}"#,
            r#"{"currency":"CHF","minor":1,"extra":1}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn decimal_round_trip(minor in 0..=Money::MAX_MINOR, code in "CHF|JPY|KWD|CLF") {
            let amount = money(&code, minor);
            let text = amount.to_decimal(amount.currency().exponent()).unwrap();
            prop_assert_eq!(Money::from_decimal(amount.currency(), &text).unwrap(), amount);
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let result = Money::from_decimal(Currency::from_code("CHF").unwrap(), &text);
            prop_assert!(result.is_err() || text.bytes().any(|byte| byte.is_ascii_digit()));
        }
    }
}
