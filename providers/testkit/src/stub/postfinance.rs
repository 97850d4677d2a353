use cardless_contract::{ObjectId, ProviderToken, ReservationId, SetupReference};
use serde_json::Value;

use super::{Answer, Dialect, Refusal, Seen, ends};
use crate::call::{CUSTOMER, Call, End, KEY, REFERENCE, Sample};

/// PostFinance Checkout's API 2.0 (`providers/postfinance.md`).
#[derive(Debug, Clone, Copy, Default)]
pub struct PostFinance;

impl Dialect for PostFinance {
    fn provider(&self) -> &'static str {
        "postfinance"
    }

    fn sample(&self) -> Sample {
        Sample {
            token: ProviderToken::new("4711").unwrap(),
            setup: SetupReference::new("7001").unwrap(),
            reservation: ReservationId::new("7001").unwrap(),
            authorization: None,
            capture: Some(ObjectId::new("8001").unwrap()),
            void: Some(ObjectId::new("8101").unwrap()),
            refund: Some(ObjectId::new("8201").unwrap()),
        }
    }

    fn answer(&self, call: Call, seen: &Seen) -> Answer {
        let segments = seen.segments();
        let Some(["api", "v2.0", rest @ ..]) = Some(segments.as_slice()) else {
            return Answer::empty(404);
        };
        match (seen.method.as_str(), rest) {
            ("GET", ["spaces", _]) => Answer::json(
                200,
                r#"{"id":405,"state":"ACTIVE","name":"x","requestLimit":1000}"#,
            ),
            ("GET", ["payment", "transactions"]) => Answer::json(200, page(&[])),
            ("GET", ["payment", "transactions", "search"]) => Answer::json(200, search(call, seen)),
            ("POST", ["payment", "transactions"]) => {
                Answer::json(201, transaction(call, "PENDING"))
            }
            ("GET", ["payment", "transactions", "completions", "search"]) => {
                Answer::json(200, page(&[completion(seen)]))
            }
            ("GET", ["payment", "transactions", "completions", _]) => {
                Answer::json(200, completion(seen))
            }
            ("GET", ["payment", "transactions", "voids", "search"]) => {
                Answer::json(200, page(&[void()]))
            }
            ("GET", ["payment", "transactions", "voids", _]) | ("POST", [.., "void-online"]) => {
                Answer::json(200, void())
            }
            ("GET", ["payment", "transactions", _]) => {
                Answer::json(200, transaction(call, state(call, seen)))
            }
            ("GET", [.., "payment-page-url"]) => Answer::text(
                200,
                "text/plain",
                format!(
                    "{}/s/405/payment/transaction/pay/7001?securityToken=CANARY-security",
                    seen.base
                ),
            ),
            ("POST", [.., "process-with-token"]) => Answer::json(
                200,
                r#"{"id":9001,"linkedSpaceId":405,"state":"SUCCESSFUL","type":"TOKEN","version":1}"#,
            ),
            ("POST", [.., "process-without-interaction"]) => {
                Answer::json(200, transaction(call, "PROCESSING"))
            }
            ("POST", [.., "complete-partially-online" | "complete-online"]) => {
                Answer::json(200, completion(seen))
            }
            ("POST", ["payment", "refunds"]) => Answer::json(201, refund(seen)),
            ("GET", ["payment", "refunds", "search"]) => Answer::json(200, refunds(call, seen)),
            ("GET", ["payment", "refunds", _]) => Answer::json(200, refund(seen)),
            ("GET", ["payment", "tokens", _, "active-version"]) => Answer::json(
                200,
                r#"{"id":1,"state":"ACTIVE","token":{"id":4711},"version":1}"#,
            ),
            ("GET", ["payment", "tokens", _]) => {
                Answer::json(200, r#"{"id":4711,"state":"ACTIVE","version":1}"#)
            }
            ("DELETE", ["payment", "tokens", _]) => Answer::empty(204),
            _ => Answer::empty(404),
        }
    }

    fn silent(&self, _call: Call) -> bool {
        false
    }

    fn bodiless(&self, call: Call) -> bool {
        call == Call::Revoke
    }

    fn well(&self, _call: Call) -> End {
        End::Done
    }

    fn words(&self, call: Call) -> &'static [&'static str] {
        match call {
            Call::Commit | Call::Lookup | Call::CompleteSetup => &[r#""state":"FULFILL""#],
            Call::CommitManual => &[r#""state":"AUTHORIZED""#],
            Call::Capture | Call::FindCapture | Call::Refund | Call::FindRefund => {
                &[r#""state":"SUCCESSFUL""#]
            }
            _ => &[],
        }
    }

    fn amounts(&self) -> [(&'static str, &'static str); 2] {
        [(":49.90", ":49.91"), (r#""CHF""#, r#""EUR""#)]
    }

    fn names(&self) -> &'static [(&'static str, &'static str)] {
        &[
            (r#"{"id":7001,"#, r#"{"id":7009,"#),
            (
                r#""merchantReference":"abcdefghjk""#,
                r#""merchantReference":"zzzzzzzzzz""#,
            ),
            (r#""linkedSpaceId":405"#, r#""linkedSpaceId":406"#),
        ]
    }

    fn refusals(&self, call: Call) -> Vec<Refusal> {
        let mut list = general(call);
        list.extend(match call {
            Call::Capture => vec![
                state_of(
                    "failed",
                    completion(&Seen::default()),
                    "FAILED",
                    ends::declined_or_refused,
                ),
                state_of(
                    "pending",
                    completion(&Seen::default()),
                    "PENDING",
                    ends::pending,
                ),
            ],
            Call::Void => vec![
                state_of("failed", void(), "FAILED", ends::declined_or_refused),
                state_of("pending", void(), "PENDING", ends::pending),
            ],
            Call::Refund => vec![
                state_of(
                    "failed",
                    refund(&Seen::default()),
                    "FAILED",
                    ends::declined_or_refused,
                ),
                state_of(
                    "pending",
                    refund(&Seen::default()),
                    "PENDING",
                    ends::pending,
                ),
                state_of(
                    "manual check",
                    refund(&Seen::default()),
                    "MANUAL_CHECK",
                    ends::review,
                ),
            ],
            Call::Revoke => vec![Refusal::new("already gone", error(404), ends::done)],
            Call::Lookup => lookups(),
            Call::Find => finds(),
            Call::FindCapture | Call::FindRefund => {
                vec![Refusal::new("not there", error(404), |end| {
                    !ends::done(end)
                })]
            }
            Call::CompleteSetup => vec![Refusal::new("not known", error(404), ends::not_found)],
            _ => Vec::new(),
        });
        list
    }

    fn canaries(&self) -> &'static [&'static str] {
        // `providers/postfinance.md` §2.1, and what describes the payer's browser.
        &[
            "processorToken",
            "customerEmailAddress",
            "internetProtocolAddress",
            "userAgentHeader",
            "acceptHeader",
            "paymentInformation",
            "deviceSessionIdentifier",
            "labelText",
            "iconUrl",
            "emailAddress",
            "givenName",
            "familyName",
            "processorReference",
        ]
    }
}

/// Where the transaction stands before and after the call.
fn state(call: Call, seen: &Seen) -> &'static str {
    match (call, seen.carried_out) {
        (Call::BeginSetup | Call::Reserve, _) | (Call::Commit | Call::CommitManual, false) => {
            "PENDING"
        }
        (Call::CommitManual, true) | (Call::Capture | Call::Void, false) => "AUTHORIZED",
        (Call::Void, true) | (Call::FindVoid, _) => "VOIDED",
        _ => "FULFILL",
    }
}

fn transaction(call: Call, state: &str) -> String {
    let setup = matches!(call, Call::BeginSetup | Call::CompleteSetup);
    let amount = if setup { "0" } else { "49.90" };
    let completed = if state == "FULFILL" { amount } else { "0" };
    let refunded = match call {
        Call::FindRefund => "49.90",
        _ => "0",
    };
    format!(
        r#"{{"id":7001,"linkedSpaceId":405,"version":3,"state":"{state}","currency":"CHF","merchantReference":"{REFERENCE}","customerId":"{CUSTOMER}","authorizationAmount":{amount},"completedAmount":{completed},"refundedAmount":{refunded},"lineItems":[{{"uniqueId":"1","name":"x","quantity":1,"type":"PRODUCT","amountIncludingTax":{amount}}}],"token":{{"id":4711,"state":"ACTIVE","version":1}}}}"#
    )
}

/// A search by reference finds the payment, except before it is made.
fn search(call: Call, seen: &Seen) -> String {
    let before = matches!(call, Call::Reserve | Call::BeginSetup) && !seen.carried_out;
    if before {
        return page(&[]);
    }
    page(&[transaction(call, state(call, seen))])
}

fn page(items: &[String]) -> String {
    format!(
        r#"{{"data":[{}],"hasMore":false,"limit":10,"offset":0}}"#,
        items.join(",")
    )
}

fn completion(seen: &Seen) -> String {
    let key = external_id(seen);
    format!(
        r#"{{"id":8001,"linkedSpaceId":405,"linkedTransaction":7001,"version":1,"state":"SUCCESSFUL","mode":"ONLINE","externalId":"{key}","amount":49.90,"lastCompletion":true}}"#
    )
}

fn void() -> String {
    r#"{"id":8101,"linkedSpaceId":405,"linkedTransaction":7001,"version":1,"state":"SUCCESSFUL","mode":"ONLINE"}"#.to_owned()
}

fn refund(seen: &Seen) -> String {
    let key = external_id(seen);
    format!(
        r#"{{"id":8201,"linkedSpaceId":405,"version":1,"state":"SUCCESSFUL","type":"MERCHANT_INITIATED_ONLINE","externalId":"{key}","amount":49.90,"transaction":{{"id":7001,"currency":"CHF"}}}}"#
    )
}

/// Before a refund there is none; a payment that is only read has none either.
fn refunds(call: Call, seen: &Seen) -> String {
    let there = call == Call::FindRefund || (call == Call::Refund && seen.carried_out);
    let list = if there {
        vec![refund(seen)]
    } else {
        Vec::new()
    };
    page(&list)
}

/// The key that the request sends or asks for, else the sample's.
fn external_id(seen: &Seen) -> String {
    let sent = serde_json::from_str::<Value>(&seen.body).ok();
    let sent = sent.and_then(|body| Some(body.get("externalId")?.as_str()?.to_owned()));
    let asked = || {
        let (_, query) = seen.query.iter().find(|(name, _)| name == "query")?;
        let (_, rest) = query.split_once("externalId:")?;
        Some(
            rest.split(' ')
                .next()?
                .trim_matches(['"', '(', ')'])
                .to_owned(),
        )
    };
    sent.or_else(asked).unwrap_or_else(|| KEY.to_owned())
}

/// `providers/postfinance.md` §5.1.
fn general(call: Call) -> Vec<Refusal> {
    let mut list = vec![Refusal::new("401", error(401), ends::bad_login)];
    if call.mutates() && call != Call::Revoke {
        // A commit or void that was sent before is refused for the state that it has made, and the
        // state can't be read here.
        let keyless = matches!(call, Call::Commit | Call::CommitManual | Call::Void);
        let semantic = if keyless {
            ends::refused_or_unknown
        } else {
            ends::refused
        };
        list.push(Refusal::new("422", error(422), semantic));
        for status in [400, 403, 415] {
            list.push(Refusal::new(
                status.to_string(),
                error(status),
                ends::refused,
            ));
        }
        for status in [409, 429, 500, 503] {
            list.push(Refusal::new(
                status.to_string(),
                error(status),
                ends::unknown,
            ));
        }
    }
    list
}

/// What a search says: nothing, or more than one, which is never guessed at.
fn finds() -> Vec<Refusal> {
    let one = transaction(Call::Find, "FULFILL");
    let other = one.replace(r#""id":7001"#, r#""id":7002"#);
    vec![
        Refusal::new("none", Answer::json(200, page(&[])), ends::absent),
        Refusal::new(
            "two",
            Answer::json(200, page(&[one, other])),
            ends::ambiguous,
        ),
    ]
}

/// What a read says by the transaction's state.
fn lookups() -> Vec<Refusal> {
    let read = |name: &str, state: &str, right: fn(&End) -> bool| {
        Refusal::new(
            name,
            Answer::json(200, transaction(Call::Lookup, state)),
            right,
        )
    };
    vec![
        read("failed", "FAILED", ends::declined),
        read("processing", "PROCESSING", ends::pending),
        read("completed", "COMPLETED", ends::pending),
        read("decline", "DECLINE", ends::review),
        Refusal::new("not known", error(404), ends::not_found),
    ]
}

fn state_of(name: &str, body: String, state: &str, right: fn(&End) -> bool) -> Refusal {
    let failure =
        r#","failureReason":{"id":1,"category":"END_USER","name":{"en-US":"CANARY-name"}}"#;
    let failure = if state == "FAILED" { failure } else { "" };
    let body = body.replace(
        r#""state":"SUCCESSFUL""#,
        &format!(r#""state":"{state}"{failure}"#),
    );
    Refusal::new(name, Answer::json(200, body), right)
}

fn error(status: u16) -> Answer {
    Answer::json(
        status,
        r#"{"date":"2026-05-04T10:00:00Z","id":"abc123","code":"some_code","message":"CANARY-message","errors":{"field":"CANARY-field"}}"#,
    )
}
