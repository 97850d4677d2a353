//! Answers in PayPal's form.

use bytes::Bytes;
use cardless_contract::{Currency, Money, Timestamp};
use cardless_transport::Response;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

/// The most digits of an amount before its point (`providers/paypal.md` §4).
const MAX_WHOLE_DIGITS: usize = 15;

/// Currencies without decimals at PayPal.
const WITHOUT_DECIMALS: [&str; 3] = ["HUF", "JPY", "TWD"];
/// The other currencies.
const WITH_DECIMALS: [&str; 20] = [
    "AUD", "BRL", "CAD", "CHF", "CZK", "DKK", "EUR", "GBP", "HKD", "ILS", "MXN", "MYR", "NOK",
    "NZD", "PHP", "PLN", "SEK", "SGD", "THB", "USD",
];

/// An answer that still lacks its debug id.
pub(crate) enum Reply {
    Json(u16, Value),
    Empty(u16),
    Whole(Box<Response>),
}

/// A refusal.
#[derive(Debug)]
pub(crate) struct Problem {
    status: u16,
    name: &'static str,
    issue: Option<&'static str>,
    links: Vec<Value>,
}

impl Reply {
    pub(crate) fn whole(response: Response) -> Self {
        Self::Whole(Box::new(response))
    }

    pub(crate) const fn json(status: u16, body: Value) -> Self {
        Self::Json(status, body)
    }

    pub(crate) fn into_response(self, number: u64) -> Response {
        let debug_id = id("f", number).to_ascii_lowercase();
        let (status, body) = match self {
            Self::Whole(response) => return *response,
            Self::Empty(status) => (status, None),
            Self::Json(status, mut body) => {
                if let Some(slot) = body.get_mut("debug_id") {
                    *slot = Value::from(debug_id.as_str());
                }
                (status, Some(body))
            }
        };
        let bytes = body
            .as_ref()
            .map(|body| Bytes::from(body.to_string()))
            .unwrap_or_default();
        let mut response = Response::new(bytes);
        *response.status_mut() =
            StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        if body.is_some() {
            let json = HeaderValue::from_static("application/json;charset=UTF-8");
            headers.insert(header::CONTENT_TYPE, json);
        }
        if let Ok(value) = HeaderValue::from_str(&debug_id) {
            headers.insert("paypal-debug-id", value);
        }
        response
    }
}

impl Problem {
    /// With the `name` that belongs to the status.
    pub(crate) const fn issue(status: u16, issue: &'static str) -> Self {
        let name = match status {
            400 => "INVALID_REQUEST",
            403 => "NOT_AUTHORIZED",
            404 => "RESOURCE_NOT_FOUND",
            409 => "RESOURCE_CONFLICT",
            _ => "UNPROCESSABLE_ENTITY",
        };
        Self::named(status, name, Some(issue))
    }

    pub(crate) const fn named(
        status: u16,
        name: &'static str,
        issue: Option<&'static str>,
    ) -> Self {
        Self {
            status,
            name,
            issue,
            links: Vec::new(),
        }
    }

    pub(crate) const fn not_found() -> Self {
        Self::issue(404, "INVALID_RESOURCE_ID")
    }

    pub(crate) const fn missing() -> Self {
        Self::issue(400, "MISSING_REQUIRED_PARAMETER")
    }

    pub(crate) fn with_link(mut self, rel: &str, href: &str) -> Self {
        self.links.push(link(rel, href, "GET"));
        self
    }
}

impl From<Problem> for Reply {
    fn from(problem: Problem) -> Self {
        let details: Vec<Value> = problem
            .issue
            .iter()
            .map(|issue| json!({"issue": issue}))
            .collect();
        let mut links = problem.links;
        let more = format!(
            "https://developer.paypal.com/docs/api/orders/v2/#error-{}",
            problem.name
        );
        links.push(link("information_link", &more, "GET"));
        Self::Json(
            problem.status,
            json!({
                "name": problem.name,
                "message": message(problem.status),
                "debug_id": "",
                "details": details,
                "links": links,
            }),
        )
    }
}

/// The text that PayPal's documents fix for each status.
const fn message(status: u16) -> &'static str {
    match status {
        400 => "Request is not well-formed, syntactically incorrect, or violates schema.",
        401 => {
            "Authentication failed due to missing authorization header, \
             or invalid authentication credentials."
        }
        403 => "Authorization failed due to insufficient permissions.",
        404 => "The specified resource does not exist.",
        409 => "The server has detected a conflict while processing this request.",
        415 => "The server does not support the request payload's media type.",
        _ => {
            "The requested action could not be performed, semantically incorrect, \
             or failed business validation."
        }
    }
}

pub(crate) fn link(rel: &str, href: &str, method: &str) -> Value {
    json!({"rel": rel, "href": href, "method": method})
}

/// An id of letters: the same run gives the same ones, and none can pass for a card number.
pub(crate) fn id(prefix: &str, number: u64) -> String {
    const LETTERS: [char; 16] = [
        'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'J', 'K', 'L', 'M', 'N', 'P', 'R', 'S',
    ];
    let nibbles = (0..12_u32).rev().filter_map(|place| {
        let nibble = usize::try_from((number >> (place * 4)) & 15).ok()?;
        LETTERS.get(nibble)
    });
    prefix.chars().chain(nibbles.copied()).collect()
}

/// `2026-11-23T16:25:04Z`.
pub(crate) fn time(at: Timestamp) -> String {
    Timestamp::from_seconds(at.seconds()).to_string()
}

pub(crate) fn show_money(money: Money) -> Value {
    let code = money.currency().code();
    let decimals = if WITHOUT_DECIMALS.contains(&code) {
        0
    } else {
        2
    };
    let value = money.to_decimal(decimals).unwrap_or_default();
    json!({"currency_code": code, "value": value})
}

/// Reads `{"currency_code":…,"value":…}` as strictly as PayPal does.
pub(crate) fn read_money(value: Option<&Value>) -> Result<Money, Problem> {
    let part = |name| {
        value
            .and_then(|value| value.get(name))
            .and_then(Value::as_str)
    };
    let (Some(code), Some(text)) = (part("currency_code"), part("value")) else {
        return Err(Problem::missing());
    };
    let without = WITHOUT_DECIMALS.contains(&code);
    if !without && !WITH_DECIMALS.contains(&code) {
        return Err(Problem::issue(422, "INVALID_CURRENCY_CODE"));
    }
    let decimals = text
        .split_once('.')
        .map_or(0, |(_, fraction)| fraction.len());
    if without && text.contains('.') {
        return Err(Problem::issue(422, "DECIMALS_NOT_SUPPORTED"));
    }
    if decimals > 2 {
        return Err(Problem::issue(422, "DECIMAL_PRECISION"));
    }
    let whole = text.split('.').next().unwrap_or_default();
    if whole.len() > MAX_WHOLE_DIGITS {
        return Err(Problem::issue(422, "MAX_VALUE_EXCEEDED"));
    }
    let currency =
        Currency::from_code(code).map_err(|_| Problem::issue(422, "INVALID_CURRENCY_CODE"))?;
    if text.starts_with('-') {
        return Err(Problem::issue(422, "CANNOT_BE_ZERO_OR_NEGATIVE"));
    }
    let money = Money::from_decimal(currency, text)
        .map_err(|_| Problem::issue(400, "INVALID_PARAMETER_SYNTAX"))?;
    if money.is_zero() {
        Err(Problem::issue(422, "CANNOT_BE_ZERO_OR_NEGATIVE"))
    } else {
        Ok(money)
    }
}
