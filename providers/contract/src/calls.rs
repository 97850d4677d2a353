//! What an adapter sends and reads, and where: as data, for the evidence of the PCI review.
//!
//! An adapter's client takes method and path of each request from its table, and the fields that
//! are read from the types that decode the answers. The suite in `cardless-testkit` compares what
//! really leaves with the rest of it.

use std::fmt;

/// One call that an adapter can make: which request it is, what goes with it, and what is read of
/// the answer.
#[derive(Debug, Clone, Copy)]
pub struct ProviderCall {
    /// The method, upper case.
    pub method: &'static str,
    /// The path below the API's address, with `{name}` for what is put in.
    pub path: &'static str,
    /// What it is made for.
    pub stages: &'static [Stage],
    /// What shows that it is ours.
    pub credential: Credential,
    /// The names of what goes in the query.
    pub query: &'static [&'static str],
    /// The headers that hold more than the way of writing, in lower case.
    pub headers: &'static [&'static str],
    /// The fields of the body, as `purchase_units[].amount.value`.
    pub body: &'static [&'static str],
    /// The fields that are read of a good answer; see [`fields_of`](crate::fields_of).
    pub reads: fn() -> Vec<String>,
    /// The headers that are read of a good answer, in lower case.
    pub reads_headers: &'static [&'static str],
    /// The fields that are read of a refusal.
    pub reads_of_a_refusal: fn() -> Vec<String>,
}

/// What a call is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// To be let in: an access token.
    Access,
    /// The harmless question of `check`.
    Check,
    /// To link a method; where a setup has an amount, to pay with it too.
    Link,
    /// To reserve and commit a charge; where it is automatic, this takes the amount too.
    Authorize,
    /// To take an authorized amount.
    Capture,
    /// To release a hold.
    Void,
    /// To give back.
    Refund,
    /// To ask how a payment or an operation stands.
    Read,
    /// To make a token unusable.
    Revoke,
    /// To have the key or certificate that a webhook is signed with.
    Notification,
}

/// What shows that a call is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Credential {
    /// Nothing.
    None,
    /// Id and secret, as HTTP Basic.
    Basic,
    /// A short-lived access token, in memory only.
    AccessToken,
    /// A JWT for this one request, signed with a shared key.
    SignedToken,
}

/// A host that an adapter can reach or send a customer to, with the settings that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderPlace {
    /// `https`, or `http` on loopback.
    pub scheme: String,
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path that all of its paths begin with; empty for none.
    pub path: String,
    /// It lies on this machine. The adapter then reaches any port of loopback, and nothing else.
    pub loopback: bool,
    /// What it is for.
    pub purposes: &'static [Purpose],
    /// Who runs it.
    pub operator: &'static str,
}

/// What a place is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The provider's API.
    Api,
    /// Access tokens are asked for here.
    AccessTokens,
    /// The keys or certificates that webhooks are signed with.
    WebhookKeys,
    /// The provider's own page, which the customer's browser is sent to by a full redirect. If a
    /// card is entered at all, then there; nothing of it is embedded, framed or passed on here.
    CustomerPage,
}

impl ProviderCall {
    /// A call that sends nothing but its path, and reads nothing.
    pub const fn new(
        method: &'static str,
        path: &'static str,
        stages: &'static [Stage],
        credential: Credential,
    ) -> Self {
        Self {
            method,
            path,
            stages,
            credential,
            query: &[],
            headers: &[],
            body: &[],
            reads: Vec::new,
            reads_headers: &[],
            reads_of_a_refusal: Vec::new,
        }
    }

    /// The path, with `value` in the place of its name.
    pub fn path_with(&self, value: &str) -> String {
        let (before, after) = self.path.split_once('{').unwrap_or((self.path, ""));
        let after = after.split_once('}').map_or("", |(_, after)| after);
        format!("{before}{value}{after}")
    }

    /// The name of what is put into the path, if anything is.
    pub fn path_name(&self) -> Option<&'static str> {
        let (_, after) = self.path.split_once('{')?;
        after.split_once('}').map(|(name, _)| name)
    }

    /// Whether a request with this method to this path below the API's address is this call.
    pub fn fits(&self, method: &str, path: &str) -> bool {
        let mut segments = path.split('/');
        let mut template = self.path.split('/');
        let mut named = template.by_ref().zip(segments.by_ref());
        let fit = named.all(|(template, segment)| {
            template == segment || template.starts_with('{') && !segment.is_empty()
        });
        let as_long = self.path.split('/').count() == path.split('/').count();
        self.method == method && fit && as_long
    }

    /// Everything that is sent, each with where it stands: `path id`, `query customer_id`,
    /// `header space`, and fields of the body by their names alone.
    pub fn sends(&self) -> Vec<String> {
        let path = self.path_name().map(|name| format!("path {name}"));
        let query = self.query.iter().map(|name| format!("query {name}"));
        let headers = self.headers.iter().map(|name| format!("header {name}"));
        let body = self.body.iter().map(|&name| name.to_owned());
        path.into_iter()
            .chain(query)
            .chain(headers)
            .chain(body)
            .collect()
    }

    /// Everything that is read of a good answer: `header location`, and fields by their names.
    pub fn reads(&self) -> Vec<String> {
        let headers = self.reads_headers.iter();
        let headers = headers.map(|name| format!("header {name}"));
        headers.chain((self.reads)()).collect()
    }
}

/// The call of a table that a request is, by method and path below the API's address. Where a path
/// in full and one with a name in it fit, it is the one in full.
pub fn call_of<'a>(
    calls: &'a [ProviderCall],
    method: &str,
    path: &str,
) -> Option<&'a ProviderCall> {
    let fitting = calls.iter().filter(|call| call.fits(method, path));
    fitting.min_by_key(|call| call.path_name().is_some())
}

impl Stage {
    /// In one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Check => "check",
            Self::Link => "link",
            Self::Authorize => "authorize",
            Self::Capture => "capture",
            Self::Void => "void",
            Self::Refund => "refund",
            Self::Read => "read",
            Self::Revoke => "revoke",
            Self::Notification => "notification",
        }
    }
}

impl Credential {
    /// In a few words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Basic => "id and secret (HTTP Basic)",
            Self::AccessToken => "access token (in memory only)",
            Self::SignedToken => "signed JWT of this request",
        }
    }
}

impl Purpose {
    /// In a few words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "API",
            Self::AccessTokens => "access tokens",
            Self::WebhookKeys => "keys of webhooks",
            Self::CustomerPage => "the customer's page (full redirect)",
        }
    }
}

impl fmt::Display for ProviderPlace {
    /// As an address: `https://api-m.paypal.com:443`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            scheme, host, port, ..
        } = self;
        write!(f, "{scheme}://{host}:{port}{}", self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: ProviderCall =
        ProviderCall::new("GET", "/orders/{id}", &[Stage::Read], Credential::None);
    const SEARCH: ProviderCall =
        ProviderCall::new("GET", "/orders/search", &[Stage::Read], Credential::None);
    const TAKE: ProviderCall = ProviderCall {
        headers: &["request-id"],
        body: &["amount.value"],
        ..ProviderCall::new(
            "POST",
            "/orders/{id}/capture",
            &[Stage::Capture],
            Credential::Basic,
        )
    };

    #[test]
    fn a_request_is_one_call() {
        let calls = [READ, SEARCH, TAKE];
        let path = |method, path| call_of(&calls, method, path).map(|call| call.path);
        assert_eq!(path("GET", "/orders/5O1"), Some("/orders/{id}"));
        assert_eq!(path("GET", "/orders/search"), Some("/orders/search"));
        assert_eq!(
            path("POST", "/orders/5O1/capture"),
            Some("/orders/{id}/capture")
        );
        for (method, other) in [
            ("POST", "/orders/5O1"),
            ("GET", "/orders/"),
            ("GET", "/orders"),
            ("GET", "/orders/5O1/capture"),
            ("GET", "/x/orders/5O1"),
        ] {
            assert_eq!(path(method, other), None, "{method} {other}");
        }
    }

    #[test]
    fn a_path_is_filled_in() {
        assert_eq!(TAKE.path_with("5O1"), "/orders/5O1/capture");
        assert_eq!(READ.path_with("5O1"), "/orders/5O1");
        assert_eq!(SEARCH.path_with("5O1"), "/orders/search5O1");
        assert_eq!(SEARCH.path_name(), None);
        assert_eq!(
            TAKE.sends(),
            ["path id", "header request-id", "amount.value"]
        );
    }
}
