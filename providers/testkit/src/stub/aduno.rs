use cardless_contract::{ObjectId, ProviderToken, ReservationId, SetupReference};

use super::{Answer, Dialect, Refusal, Seen, ends};
use crate::call::{Call, End, OPERATION_REFERENCE, REFERENCE, Sample};

/// The Datatrans JSON API (`providers/aduno.md`).
#[derive(Debug, Clone, Copy, Default)]
pub struct Aduno;

const TRANSACTION: &str = "260101120000000001";
const CREDIT: &str = "260101120000000002";
const ALIAS: &str = "7LHXscqwAAEAAAGQnJCjw96fy0pzAPTN";

impl Dialect for Aduno {
    fn provider(&self) -> &'static str {
        "aduno"
    }

    fn sample(&self) -> Sample {
        Sample {
            token: ProviderToken::new(ALIAS).unwrap(),
            setup: SetupReference::new(TRANSACTION).unwrap(),
            reservation: ReservationId::new(TRANSACTION).unwrap(),
            authorization: None,
            capture: None,
            void: None,
            refund: Some(ObjectId::new(CREDIT).unwrap()),
        }
    }

    fn answer(&self, call: Call, seen: &Seen) -> Answer {
        let segments = seen.segments();
        match (seen.method.as_str(), segments.as_slice()) {
            ("GET", ["upp", "check"]) => Answer::text(200, "text/plain", "ok"),
            ("POST", ["v1", "transactions"]) => Answer {
                location: Some(format!("{}/v1/start/{TRANSACTION}", seen.base)),
                ..Answer::json(201, format!(r#"{{"transactionId":"{TRANSACTION}"}}"#))
            },
            ("POST", ["v1", "transactions", "authorize"]) => {
                Answer::json(200, started(TRANSACTION))
            }
            ("POST", ["v1", "transactions", _, "credit"]) => Answer::json(200, started(CREDIT)),
            ("POST", ["v1", "transactions", _, "settle" | "cancel"]) => Answer::empty(204),
            ("GET", ["v1", "transactions", CREDIT]) => Answer::json(200, credit()),
            ("GET", ["v1", "transactions", TRANSACTION]) => Answer::json(200, status(call, seen)),
            ("GET", ["v1", "transactions", _]) => error(404, "TRANSACTION_NOT_FOUND"),
            ("GET" | "PATCH", ["v1", "aliases", ALIAS]) => Answer::json(200, alias()),
            ("GET", ["v1", "aliases", _]) => error(400, "ALIAS_NOT_FOUND"),
            ("DELETE", ["v1", "aliases", _]) => Answer::empty(204),
            _ => Answer::empty(404),
        }
    }

    fn silent(&self, call: Call) -> bool {
        // The hold that reserve made is the result of a manual commit.
        matches!(call, Call::Find | Call::CommitManual)
    }

    fn bodiless(&self, call: Call) -> bool {
        matches!(
            call,
            Call::Commit | Call::Capture | Call::Void | Call::Revoke
        )
    }

    fn may_be_empty(&self, call: Call) -> bool {
        self.bodiless(call) || call == Call::Refund
    }

    fn well(&self, call: Call) -> End {
        match call {
            Call::Find => End::CannotTell,
            _ => End::Done,
        }
    }

    fn words(&self, call: Call) -> &'static [&'static str] {
        match call {
            Call::CompleteSetup => &[r#""status":"authorized""#],
            Call::Lookup | Call::FindCapture => &[r#""status":"settled""#],
            Call::FindVoid => &[r#""status":"canceled""#],
            Call::FindRefund => &[r#""status":"settled""#],
            _ => &[],
        }
    }

    fn amounts(&self) -> [(&'static str, &'static str); 2] {
        [(":4990", ":4991"), (r#""CHF""#, r#""EUR""#)]
    }

    fn names(&self) -> &'static [(&'static str, &'static str)] {
        &[
            (
                r#""transactionId":"260101120000000001""#,
                r#""transactionId":"260101120000000009""#,
            ),
            (r#""refno":"abcdefghjk""#, r#""refno":"zzzzzzzzzz""#),
            (
                r#""merchantId":"1100000000""#,
                r#""merchantId":"1100000009""#,
            ),
        ]
    }

    fn refusals(&self, call: Call) -> Vec<Refusal> {
        let mut list = general(call);
        list.extend(match call {
            Call::Reserve => authorize(),
            Call::Commit | Call::Capture => settle(),
            Call::Void => vec![unknown_after("INVALID_TRANSACTION_STATUS")],
            Call::Refund => refund(),
            Call::Revoke => vec![Refusal::new(
                "already gone",
                error(400, "ALIAS_NOT_FOUND"),
                ends::done,
            )],
            Call::Lookup => lookups(),
            Call::CompleteSetup => vec![Refusal::new(
                "not known",
                error(404, "TRANSACTION_NOT_FOUND"),
                ends::not_found,
            )],
            _ => Vec::new(),
        });
        list
    }

    fn canaries(&self) -> &'static [&'static str] {
        // `providers/aduno.md` §9.4.
        &[
            "masked",
            "bin",
            "last4",
            "fingerprint",
            "aliasCVV",
            "pan",
            "appPanEnc",
            "ip",
            "payerId",
            "iban",
            "paycardNumber",
            "paymentAccountReference",
            "cavv",
            "email",
            "firstName",
            "lastName",
            "maskedCC",
        ]
    }
}

fn started(id: &str) -> String {
    format!(r#"{{"transactionId":"{id}","acquirerAuthorizationCode":"120500"}}"#)
}

fn credit() -> String {
    format!(
        r#"{{"transactionId":"{CREDIT}","merchantId":"1100000000","type":"credit","status":"settled","currency":"CHF","refno":"{OPERATION_REFERENCE}","paymentMethod":"VIS","detail":{{"credit":{{"amount":4990}},"settle":{{"amount":4990}}}},"history":[]}}"#
    )
}

fn alias() -> String {
    r#"{"alias":"7LHXscqwAAEAAAGQnJCjw96fy0pzAPTN","type":"CARD","dateCreated":"2026-01-01T12:00:00Z","card":{"expiryMonth":"12","expiryYear":"28"}}"#
        .to_owned()
}

/// The transaction as it stands before and after the call.
fn status(call: Call, seen: &Seen) -> String {
    if call == Call::CompleteSetup {
        return registration();
    }
    let status = match (call, seen.carried_out) {
        (Call::Commit | Call::Capture, false) | (Call::CommitManual | Call::Void, _)
            if !(call == Call::Void && seen.carried_out) =>
        {
            "authorized"
        }
        (Call::FindVoid | Call::Void, _) => "canceled",
        _ => "settled",
    };
    let settled = if status == "settled" {
        r#","settle":{"amount":4990}"#
    } else {
        ""
    };
    format!(
        r#"{{"transactionId":"{TRANSACTION}","merchantId":"1100000000","type":"payment","status":"{status}","currency":"CHF","refno":"{REFERENCE}","paymentMethod":"VIS","detail":{{"authorize":{{"amount":4990,"acquirerAuthorizationCode":"120000"}}{settled}}},"history":[{{"action":"authorize","amount":4990,"source":"api","date":"2026-01-01T12:00:30Z","success":true}}]}}"#
    )
}

fn registration() -> String {
    format!(
        r#"{{"transactionId":"{TRANSACTION}","merchantId":"1100000000","type":"card_check","status":"authorized","currency":"CHF","refno":"{REFERENCE}","paymentMethod":"VIS","detail":{{"authorize":{{"amount":0,"acquirerAuthorizationCode":"120000"}}}},"language":"de","card":{{"alias":"{ALIAS}","expiryMonth":"06","expiryYear":"28"}},"history":[]}}"#
    )
}

/// What a read says, by the status (`providers/aduno.md` §7).
fn lookups() -> Vec<Refusal> {
    let read = |name: &str, status: &str, right: fn(&End) -> bool| {
        let body = self::status(Call::Lookup, &Seen::default());
        let body = body.replace(r#""status":"settled""#, &format!(r#""status":"{status}""#));
        Refusal::new(name, Answer::json(200, body), right)
    };
    vec![
        read("handed to the acquirer", "transmitted", ends::done),
        read("challenge required", "challenge_required", ends::open),
        read("challenge running", "challenge_ongoing", ends::open),
        read("failed", "failed", ends::declined),
        Refusal::new(
            "not known",
            error(404, "TRANSACTION_NOT_FOUND"),
            ends::not_found,
        ),
    ]
}

/// What can be answered to every call (`providers/aduno.md` §10).
fn general(call: Call) -> Vec<Refusal> {
    let mut list = vec![Refusal::new(
        "bad credentials",
        error(401, "UNAUTHORIZED"),
        ends::bad_login,
    )];
    if call.mutates() {
        let refused = [
            "INVALID_PROPERTY",
            "UNRECOGNIZED_PROPERTY",
            "INVALID_JSON_PAYLOAD",
            "CLIENT_ERROR",
            "SERVICE_NOT_ALLOWED",
            "INVALID_SETUP",
        ];
        for code in refused {
            list.push(Refusal::new(code, error(400, code), ends::refused));
        }
        for code in [
            "THIRD_PARTY_ERROR",
            "SERVER_ERROR",
            "UNKNOWN_ERROR",
            "A_NEW_CODE",
        ] {
            list.push(Refusal::new(code, error(400, code), ends::unknown));
        }
        list.push(Refusal::new(
            "in flight",
            error(409, "CLIENT_ERROR"),
            ends::unknown,
        ));
    }
    list
}

fn authorize() -> Vec<Refusal> {
    let decline = |code: &str, right: fn(&End) -> bool| Refusal::new(code, error(400, code), right);
    vec![
        decline("DECLINED", ends::declined),
        decline("REFERRAL", ends::declined_for_good),
        decline("SOFT_DECLINED", ends::declined),
        decline("BLOCKED_CARD", ends::declined_for_good),
        decline("EXPIRED_CARD", ends::method_gone),
        decline("INVALID_ALIAS", ends::method_gone),
        decline("ALIAS_NOT_FOUND", ends::method_gone),
        decline("VELOCITY_ERROR", ends::declined),
        Refusal::new(
            "DUPLICATE_REFNO",
            error(400, "DUPLICATE_REFNO"),
            ends::unknown,
        ),
        Refusal::new(
            "another body under the key",
            error(422, "CLIENT_ERROR"),
            ends::refused_or_unknown,
        ),
    ]
}

fn settle() -> Vec<Refusal> {
    vec![unknown_after("INVALID_TRANSACTION_STATUS")]
}

fn refund() -> Vec<Refusal> {
    let body = r#"{"error":{"code":"INVALID_PROPERTY","message":"credit.amount"}}"#;
    vec![
        Refusal::new(
            "more than is left",
            Answer::json(400, body),
            ends::amount_refused,
        ),
        Refusal::new(
            "not settled",
            Answer::json(
                400,
                r#"{"error":{"code":"INVALID_TRANSACTION_STATUS","message":"the transaction cannot be credited"}}"#,
            ),
            ends::refused_or_unknown,
        ),
    ]
}

/// The provider says that the state does not allow it, and the state can't be read: it may be our
/// own first send that has brought it there.
fn unknown_after(code: &str) -> Refusal {
    Refusal::new(code, error(400, code), ends::unknown)
}

fn error(status: u16, code: &str) -> Answer {
    let message = "CANARY-message of the provider";
    Answer::json(
        status,
        format!(r#"{{"error":{{"code":"{code}","message":"{message}"}}}}"#),
    )
}
