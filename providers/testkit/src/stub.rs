//! Stubs: stateless servers on loopback that speak a provider's dialect by script.

mod aduno;
mod paypal;
mod postfinance;
mod server;

use std::fmt;

use crate::call::{Call, End, Sample};

pub use aduno::Aduno;
pub use paypal::{PayPal, PayPalOneCall, PayPalToken};
pub use postfinance::PostFinance;
pub use server::{Misbehavior, Stub, closed_port};

/// One request, as a stub sees it.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The method, upper case.
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// The query, decoded into pairs.
    pub query: Vec<(String, String)>,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
    /// The stub's own address, without a slash at the end.
    pub base: String,
    /// Whether the request that carries the call out has come before this one.
    pub carried_out: bool,
}

/// A scripted answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The content type; empty for an answer without a body.
    pub kind: &'static str,
    /// A `Location`.
    pub location: Option<String>,
    /// The body.
    pub body: String,
}

/// A documented refusal: the answer, and how the call may end.
#[derive(Clone)]
pub struct Refusal {
    /// What it is, for the message of a failed test.
    pub name: String,
    /// The answer to the request that carries the call out.
    pub answer: Answer,
    /// Whether an end is right.
    pub right: fn(&End) -> bool,
}

/// One provider's language, as a table of good answers and documented refusals.
pub trait Dialect: fmt::Debug + Send + Sync {
    /// Whose judge looks at the requests.
    fn provider(&self) -> &'static str;

    /// The names in its answers.
    fn sample(&self) -> Sample;

    /// The answer to a request while `call` goes well.
    fn answer(&self, call: Call, seen: &Seen) -> Answer;

    /// Where an access token comes from, if there is such a request.
    fn login(&self) -> Option<&'static str> {
        None
    }

    /// The call is answered without a request.
    fn silent(&self, call: Call) -> bool;

    /// An empty 2xx is the documented success of the call.
    fn bodiless(&self, call: Call) -> bool;

    /// An empty 2xx is taken for success, although a body is documented.
    fn may_be_empty(&self, call: Call) -> bool {
        self.bodiless(call)
    }

    /// How the call ends when everything goes well.
    fn well(&self, call: Call) -> End;

    /// The words of the answers that decide the call, each as it stands in a body. Another word in
    /// its place must not be read as success, refusal or failure.
    fn words(&self, call: Call) -> &'static [&'static str];

    /// How the sample's amount and currency stand in a body, each with a wrong one.
    fn amounts(&self) -> [(&'static str, &'static str); 2];

    /// How the sample payment's own names stand in a body, each with another payment's.
    fn names(&self) -> &'static [(&'static str, &'static str)];

    /// What is documented to go wrong with a call.
    fn refusals(&self, call: Call) -> Vec<Refusal>;

    /// Members that answers may contain and nothing may keep.
    fn canaries(&self) -> &'static [&'static str];
}

impl Answer {
    /// JSON.
    pub fn json(status: u16, body: impl Into<String>) -> Self {
        Self {
            status,
            kind: "application/json",
            location: None,
            body: body.into(),
        }
    }

    /// No body.
    pub fn empty(status: u16) -> Self {
        Self {
            status,
            kind: "",
            location: None,
            body: String::new(),
        }
    }

    /// Another content type.
    pub fn text(status: u16, kind: &'static str, body: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            location: None,
            body: body.into(),
        }
    }
}

impl Refusal {
    /// A refusal and the ends that are right for it.
    pub fn new(name: impl Into<String>, answer: Answer, right: fn(&End) -> bool) -> Self {
        Self {
            name: name.into(),
            answer,
            right,
        }
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusal")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Seen {
    /// The path's segments.
    pub(crate) fn segments(&self) -> Vec<&str> {
        self.path
            .split('/')
            .filter(|segment| !segment.is_empty())
            .collect()
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Ends that refusals are held to.
pub(crate) mod ends {
    use cardless_contract::{Delivery, ErrorKind, RetryAdvice};

    use crate::call::End;

    pub(crate) fn refused(end: &End) -> bool {
        matches!(end, End::Failed(Delivery::Refused, _))
    }

    pub(crate) fn unknown(end: &End) -> bool {
        matches!(end, End::Failed(Delivery::Unknown, _))
    }

    pub(crate) fn refused_or_unknown(end: &End) -> bool {
        refused(end) || unknown(end)
    }

    pub(crate) fn bad_login(end: &End) -> bool {
        matches!(
            end,
            End::Failed(Delivery::Refused, ErrorKind::Authentication)
        )
    }

    pub(crate) fn done(end: &End) -> bool {
        matches!(end, End::Done)
    }

    pub(crate) fn declined(end: &End) -> bool {
        matches!(end, End::Declined(_))
    }

    pub(crate) fn declined_or_refused(end: &End) -> bool {
        declined(end) || refused(end)
    }

    pub(crate) fn declined_for_good(end: &End) -> bool {
        matches!(end, End::Declined(decline) if decline.retry != RetryAdvice::Later)
    }

    pub(crate) fn method_gone(end: &End) -> bool {
        matches!(end, End::Declined(decline) if decline.method_gone)
    }

    pub(crate) fn not_found(end: &End) -> bool {
        matches!(
            end,
            End::Failed(_, ErrorKind::NotFound) | End::No | End::CannotTell | End::Unlinked
        )
    }

    pub(crate) fn absent(end: &End) -> bool {
        matches!(end, End::No | End::CannotTell)
    }

    pub(crate) fn ambiguous(end: &End) -> bool {
        matches!(end, End::Failed(_, ErrorKind::Conflict))
    }

    pub(crate) fn amount_refused(end: &End) -> bool {
        matches!(
            end,
            End::Failed(Delivery::Refused, ErrorKind::AmountRefused)
        )
    }

    pub(crate) fn pending(end: &End) -> bool {
        matches!(end, End::Pending)
    }

    pub(crate) fn pending_or_unknown(end: &End) -> bool {
        pending(end) || unknown(end)
    }

    pub(crate) fn review(end: &End) -> bool {
        matches!(end, End::Review)
    }

    /// Accepted and not concluded: the provider or the customer is at it.
    pub(crate) fn open(end: &End) -> bool {
        matches!(end, End::ActionRequired | End::Pending)
    }

    /// The customer must act, or, if the address for it can't be read, nobody knows.
    pub(crate) fn needs_customer(end: &End) -> bool {
        matches!(end, End::ActionRequired | End::Declined(_)) || unknown(end)
    }
}
