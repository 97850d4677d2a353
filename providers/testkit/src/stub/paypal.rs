use cardless_contract::{ObjectId, ProviderToken, ReservationId, SetupReference};

use super::{Answer, Dialect, Refusal, Seen, ends};
use crate::call::{Call, End, REFERENCE, Sample};

/// PayPal's Orders v2, Payments v2 and vault v3, or billing agreements v1
/// (`providers/paypal.md`).
#[derive(Debug, Clone, Copy)]
pub struct PayPal(pub PayPalToken);

/// The same with a payment token that goes with the order's creation, which then holds the amount
/// (`providers/paypal.md` §6.2).
#[derive(Debug, Clone, Copy, Default)]
pub struct PayPalOneCall;

/// What a linked method is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayPalToken {
    /// A payment token of the vault.
    Vault,
    /// A billing agreement.
    Agreement,
}

const ORDER: &str = "5O190127TN364715T";
const AUTHORIZATION: &str = "0VF52814937998046";
const CAPTURE: &str = "2GG279541U471931P";
const REFUND: &str = "1JU08902781691411";
const SETUP_TOKEN: &str = "5C991763VB2781612";
const AGREEMENT_TOKEN: &str = "BA-8A802366G0648845Y";
const VAULT_TOKEN: &str = "8kk8451t";
const AGREEMENT: &str = "B-50V812176H0783741";
const MONEY: &str = r#"{"currency_code":"CHF","value":"49.90"}"#;
const ZERO: &str = r#"{"currency_code":"CHF","value":"0.00"}"#;

impl Dialect for PayPal {
    fn provider(&self) -> &'static str {
        "paypal"
    }

    fn sample(&self) -> Sample {
        let (token, setup) = match self.0 {
            PayPalToken::Vault => (VAULT_TOKEN, SETUP_TOKEN),
            PayPalToken::Agreement => (AGREEMENT, AGREEMENT_TOKEN),
        };
        Sample {
            token: ProviderToken::new(token).unwrap(),
            setup: SetupReference::new(setup).unwrap(),
            reservation: ReservationId::new(ORDER).unwrap(),
            authorization: Some(ObjectId::new(AUTHORIZATION).unwrap()),
            capture: Some(ObjectId::new(CAPTURE).unwrap()),
            void: None,
            refund: Some(ObjectId::new(REFUND).unwrap()),
        }
    }

    fn answer(&self, call: Call, seen: &Seen) -> Answer {
        let segments = seen.segments();
        match (seen.method.as_str(), segments.as_slice()) {
            ("POST", ["v1", "oauth2", "token"]) => Answer::json(
                200,
                r#"{"scope":"x","access_token":"A21AAsample","token_type":"Bearer","app_id":"APP-1","expires_in":31668,"nonce":"n"}"#,
            ),
            (_, ["v3", "vault", ..] | ["v1", "billing-agreements", ..]) => link(seen),
            ("POST", ["v2", "checkout", "orders"]) => Answer::json(201, order(call, "CREATED", "")),
            ("POST", ["v2", "checkout", "orders", _, "authorize" | "capture"]) => {
                Answer::json(201, order(call, "COMPLETED", &payments(call)))
            }
            ("GET", ["v2", "checkout", "orders", ORDER]) => {
                Answer::json(200, read_order(call, seen))
            }
            (_, ["v2", "payments", ..]) => payment(call, seen),
            ("GET", ["v1", "notifications", ..]) => {
                Answer::json(200, r#"{"webhooks":[],"event_types":[]}"#)
            }
            _ => error(404, "RESOURCE_NOT_FOUND", "INVALID_RESOURCE_ID"),
        }
    }

    fn login(&self) -> Option<&'static str> {
        Some("/v1/oauth2/token")
    }

    fn silent(&self, call: Call) -> bool {
        call == Call::Find
    }

    fn bodiless(&self, call: Call) -> bool {
        matches!(call, Call::Void | Call::Revoke)
    }

    fn well(&self, call: Call) -> End {
        match call {
            Call::Find => End::CannotTell,
            _ => End::Done,
        }
    }

    fn words(&self, call: Call) -> &'static [&'static str] {
        match call {
            Call::Commit | Call::Lookup => &[r#""id":"2GG279541U471931P","status":"COMPLETED""#],
            Call::CommitManual => &[r#""id":"0VF52814937998046","status":"CREATED""#],
            Call::Capture | Call::FindCapture => {
                &[r#""id":"2GG279541U471931P","status":"COMPLETED""#]
            }
            Call::Refund | Call::FindRefund => &[r#""status":"COMPLETED""#],
            Call::Reserve => &[r#""status":"CREATED""#],
            Call::FindVoid => &[r#""status":"VOIDED""#],
            _ => &[],
        }
    }

    fn amounts(&self) -> [(&'static str, &'static str); 2] {
        [(r#""49.90""#, r#""49.91""#), (r#""CHF""#, r#""EUR""#)]
    }

    fn names(&self) -> &'static [(&'static str, &'static str)] {
        &[
            (r#""id":"5O190127TN364715T""#, r#""id":"5O190127TN364715X""#),
            (r#""custom_id":"abcdefghjk""#, r#""custom_id":"zzzzzzzzzz""#),
        ]
    }

    fn refusals(&self, call: Call) -> Vec<Refusal> {
        let mut list = general(call);
        list.extend(match call {
            Call::Commit | Call::CommitManual => commit(call),
            Call::Capture => capture(ends::pending),
            Call::Void => vec![
                issue("AUTHORIZATION_VOIDED", |end| !ends::pending(end)),
                issue("PREVIOUSLY_CAPTURED", ends::unknown),
            ],
            Call::Refund => refund(),
            Call::Revoke => vec![Refusal::new(
                "already gone",
                error(404, "RESOURCE_NOT_FOUND", "INVALID_RESOURCE_ID"),
                ends::done,
            )],
            Call::Lookup => lookups(),
            Call::FindCapture | Call::FindVoid => vec![Refusal::new(
                "not there",
                Answer::json(200, authorization("CREATED")),
                |end| !ends::done(end),
            )],
            _ => Vec::new(),
        });
        list
    }

    fn canaries(&self) -> &'static [&'static str] {
        // `providers/paypal.md` §5.6.
        &[
            "email_address",
            "account_id",
            "payer_id",
            "account_status",
            "birth_date",
            "business_name",
            "last_digits",
            "brand",
            "expiry",
            "given_name",
            "surname",
            "address_line_1",
            "network_transaction_reference",
            "avs_code",
            "cvv_code",
            "summary",
            "national_number",
            "full_name",
        ]
    }
}

impl Dialect for PayPalOneCall {
    fn provider(&self) -> &'static str {
        TWO_CALLS.provider()
    }

    fn sample(&self) -> Sample {
        TWO_CALLS.sample()
    }

    fn answer(&self, call: Call, seen: &Seen) -> Answer {
        let held = || payments(Call::CommitManual);
        let captured = || payments(Call::Capture);
        let mut answer = match (seen.method.as_str(), seen.segments().as_slice()) {
            ("POST", ["v2", "checkout", "orders"]) => {
                Answer::json(201, order(call, "COMPLETED", &held()))
            }
            ("GET", ["v2", "checkout", "orders", ORDER]) => match (call, seen.carried_out) {
                (Call::Reserve, _) | (Call::Commit, false) => {
                    Answer::json(200, order(call, "COMPLETED", &held()))
                }
                (Call::Commit, true) => Answer::json(200, order(call, "COMPLETED", &captured())),
                _ => TWO_CALLS.answer(call, seen),
            },
            _ => TWO_CALLS.answer(call, seen),
        };
        answer.body = answer
            .body
            .replace(r#""intent":"CAPTURE""#, r#""intent":"AUTHORIZE""#);
        answer
    }

    fn login(&self) -> Option<&'static str> {
        TWO_CALLS.login()
    }

    fn silent(&self, call: Call) -> bool {
        TWO_CALLS.silent(call)
    }

    fn bodiless(&self, call: Call) -> bool {
        TWO_CALLS.bodiless(call)
    }

    fn well(&self, call: Call) -> End {
        TWO_CALLS.well(call)
    }

    fn words(&self, call: Call) -> &'static [&'static str] {
        match call {
            Call::Reserve => TWO_CALLS.words(Call::CommitManual),
            Call::Commit => TWO_CALLS.words(Call::Capture),
            other => TWO_CALLS.words(other),
        }
    }

    fn amounts(&self) -> [(&'static str, &'static str); 2] {
        TWO_CALLS.amounts()
    }

    fn names(&self) -> &'static [(&'static str, &'static str)] {
        TWO_CALLS.names()
    }

    fn refusals(&self, call: Call) -> Vec<Refusal> {
        let further = match call {
            Call::Reserve => commit(Call::CommitManual),
            // The payment as a whole is read from the order, which here can't be read.
            Call::Commit => capture(ends::pending_or_unknown),
            Call::CommitManual => Vec::new(),
            other => return TWO_CALLS.refusals(other),
        };
        general(call).into_iter().chain(further).collect()
    }

    fn canaries(&self) -> &'static [&'static str] {
        TWO_CALLS.canaries()
    }
}

const TWO_CALLS: PayPal = PayPal(PayPalToken::Vault);

fn order(call: Call, status: &str, payments: &str) -> String {
    let intent = match call {
        Call::CommitManual | Call::Capture | Call::Void | Call::FindVoid | Call::FindCapture => {
            "AUTHORIZE"
        }
        _ => "CAPTURE",
    };
    let payments = if payments.is_empty() {
        String::new()
    } else {
        format!(r#","payments":{{{payments}}}"#)
    };
    format!(
        r#"{{"id":"{ORDER}","intent":"{intent}","status":"{status}","purchase_units":[{{"reference_id":"default","custom_id":"{REFERENCE}","invoice_id":"{REFERENCE}","amount":{MONEY}{payments}}}],"create_time":"2026-01-15T10:00:00Z","links":[]}}"#
    )
}

fn payments(call: Call) -> String {
    match call {
        Call::CommitManual => format!(r#""authorizations":[{}]"#, authorization("CREATED")),
        Call::Void | Call::FindVoid => format!(r#""authorizations":[{}]"#, authorization("VOIDED")),
        Call::Capture | Call::FindCapture => format!(
            r#""authorizations":[{}],"captures":[{}]"#,
            authorization("CAPTURED"),
            captured("COMPLETED")
        ),
        Call::Refund | Call::FindRefund => format!(
            r#""captures":[{}],"refunds":[{}]"#,
            captured("REFUNDED"),
            refunded()
        ),
        _ => format!(r#""captures":[{}]"#, captured("COMPLETED")),
    }
}

/// The order as it stands before and after the call.
fn read_order(call: Call, seen: &Seen) -> String {
    match (call, seen.carried_out) {
        (Call::Commit | Call::CommitManual | Call::Reserve, false) => order(call, "CREATED", ""),
        (Call::Capture | Call::Void, false) => {
            order(call, "COMPLETED", &payments(Call::CommitManual))
        }
        (Call::Refund, false) => order(call, "COMPLETED", &payments(Call::Commit)),
        _ => order(call, "COMPLETED", &payments(call)),
    }
}

fn authorization(status: &str) -> String {
    format!(
        r#"{{"id":"{AUTHORIZATION}","status":"{status}","amount":{MONEY},"custom_id":"{REFERENCE}","invoice_id":"{REFERENCE}","expiration_time":"2026-02-13T10:00:00Z","create_time":"2026-01-15T10:00:00Z","supplementary_data":{{"related_ids":{{"order_id":"{ORDER}"}}}}}}"#
    )
}

fn captured(status: &str) -> String {
    format!(
        r#"{{"id":"{CAPTURE}","status":"{status}","amount":{MONEY},"final_capture":true,"custom_id":"{REFERENCE}","invoice_id":"{REFERENCE}","create_time":"2026-01-15T10:00:00Z"}}"#
    )
}

fn refunded() -> String {
    format!(
        r#"{{"id":"{REFUND}","status":"COMPLETED","amount":{MONEY},"custom_id":"mnpqrstuvw","seller_payable_breakdown":{{"total_refunded_amount":{MONEY},"paypal_fee":{ZERO}}},"create_time":"2026-01-15T10:00:00Z"}}"#
    )
}

fn payment(call: Call, seen: &Seen) -> Answer {
    let segments = seen.segments();
    let read = match (call, seen.carried_out) {
        (Call::Void, true) | (Call::FindVoid, _) => "VOIDED",
        (Call::Capture, true) | (Call::FindCapture, _) => "CAPTURED",
        _ => "CREATED",
    };
    match (seen.method.as_str(), segments.as_slice()) {
        ("POST", [.., "void"]) if prefers_representation(seen) => {
            Answer::json(200, authorization("VOIDED"))
        }
        ("POST", [.., "void"]) => Answer::empty(204),
        ("POST", [.., "capture"]) => Answer::json(201, captured("COMPLETED")),
        ("POST", [.., "refund"]) => Answer::json(201, refunded()),
        ("GET", [.., "authorizations", AUTHORIZATION]) => Answer::json(200, authorization(read)),
        ("GET", [.., "captures", CAPTURE]) => Answer::json(200, captured("COMPLETED")),
        ("GET", [.., "refunds", REFUND]) => Answer::json(200, refunded()),
        _ => error(404, "RESOURCE_NOT_FOUND", "INVALID_RESOURCE_ID"),
    }
}

fn prefers_representation(seen: &Seen) -> bool {
    seen.header("prefer") == Some("return=representation")
}

/// Both kinds of linking.
fn link(seen: &Seen) -> Answer {
    let segments = seen.segments();
    let base = &seen.base;
    match (seen.method.as_str(), segments.as_slice()) {
        ("POST", [.., "setup-tokens"]) => Answer::json(
            201,
            format!(
                r#"{{"id":"{SETUP_TOKEN}","status":"PAYER_ACTION_REQUIRED","links":[{{"rel":"approve","method":"GET","href":"{base}/agreements/approve?approval_session_id={SETUP_TOKEN}"}},{{"rel":"self","method":"GET","href":"{base}/v3/vault/setup-tokens/{SETUP_TOKEN}"}}]}}"#
            ),
        ),
        ("GET", [.., "setup-tokens", _]) => Answer::json(
            200,
            format!(r#"{{"id":"{SETUP_TOKEN}","status":"APPROVED","links":[]}}"#),
        ),
        ("POST", [.., "payment-tokens"]) => Answer::json(
            201,
            format!(r#"{{"id":"{VAULT_TOKEN}","customer":{{"id":"vTf9Qz2LmA"}},"links":[]}}"#),
        ),
        ("GET", [.., "payment-tokens", _]) => Answer::json(
            200,
            format!(r#"{{"id":"{VAULT_TOKEN}","customer":{{"id":"vTf9Qz2LmA"}},"links":[]}}"#),
        ),
        ("DELETE", [.., "payment-tokens", _]) | ("POST", [.., "cancel"]) => Answer::empty(204),
        ("POST", [.., "agreement-tokens"]) => Answer::json(
            201,
            format!(
                r#"{{"token_id":"{AGREEMENT_TOKEN}","links":[{{"rel":"approval_url","method":"GET","href":"{base}/agreements/approve?ba_token={AGREEMENT_TOKEN}"}}]}}"#
            ),
        ),
        ("POST", [.., "agreements"]) | ("GET", [.., "agreements", _]) => Answer::json(
            if seen.method == "GET" { 200 } else { 201 },
            format!(r#"{{"id":"{AGREEMENT}","state":"ACTIVE"}}"#),
        ),
        _ => error(404, "RESOURCE_NOT_FOUND", "INVALID_RESOURCE_ID"),
    }
}

/// `providers/paypal.md` §9, by status.
fn general(call: Call) -> Vec<Refusal> {
    let mut list = vec![Refusal::new(
        "401 twice",
        error(401, "AUTHENTICATION_FAILURE", ""),
        ends::bad_login,
    )];
    if call.mutates() && call != Call::Revoke {
        list.extend([
            Refusal::new(
                "400",
                error(400, "INVALID_REQUEST", "INVALID_PARAMETER_SYNTAX"),
                ends::refused,
            ),
            Refusal::new(
                "403",
                error(403, "NOT_AUTHORIZED", "PERMISSION_DENIED"),
                ends::refused,
            ),
            Refusal::new(
                "409",
                error(409, "RESOURCE_CONFLICT", "PREVIOUS_REQUEST_IN_PROGRESS"),
                ends::unknown,
            ),
            Refusal::new(
                "an unlisted issue",
                error(422, "UNPROCESSABLE_ENTITY", "A_NEW_ISSUE"),
                ends::unknown,
            ),
            Refusal::new(
                "no details",
                error(422, "UNPROCESSABLE_ENTITY", ""),
                ends::unknown,
            ),
        ]);
        if call != Call::CompleteSetup {
            list.push(Refusal::new(
                "404",
                error(404, "RESOURCE_NOT_FOUND", "INVALID_RESOURCE_ID"),
                ends::declined_or_refused,
            ));
        }
    }
    list
}

/// `providers/paypal.md` §10.
fn commit(call: Call) -> Vec<Refusal> {
    let mut list: Vec<Refusal> = [
        "INSTRUMENT_DECLINED",
        "PAYER_CANNOT_PAY",
        "TRANSACTION_REFUSED",
        "TRANSACTION_LIMIT_EXCEEDED",
        "PAYMENT_SOURCE_DECLINED_BY_PROCESSOR",
        "CARD_EXPIRED",
        "MAX_NUMBER_OF_PAYMENT_ATTEMPTS_EXCEEDED",
    ]
    .into_iter()
    .map(|code| issue(code, ends::declined))
    .collect();
    for code in [
        "COMPLIANCE_VIOLATION",
        "TRANSACTION_BLOCKED_BY_PAYEE",
        "PAYER_ACCOUNT_RESTRICTED",
    ] {
        list.push(issue(code, ends::declined_for_good));
    }
    for code in [
        "AGREEMENT_ALREADY_CANCELLED",
        "TOKEN_ID_NOT_FOUND",
        "BILLING_AGREEMENT_NOT_FOUND",
    ] {
        list.push(issue(code, ends::method_gone));
    }
    let unknown = [
        "DUPLICATE_INVOICE_ID",
        "ORDER_COMPLETION_IN_PROGRESS",
        "ORDER_ALREADY_CAPTURED",
        "ORDER_ALREADY_AUTHORIZED",
        "ORDER_COMPLETED_OR_VOIDED",
    ];
    list.extend(unknown.map(|code| issue(code, ends::unknown)));
    list.push(issue("PAYER_ACTION_REQUIRED", ends::needs_customer));
    list.push(issue("PAYEE_ACCOUNT_RESTRICTED", ends::declined_or_refused));
    list.push(issue("ACTION_DOES_NOT_MATCH_INTENT", ends::refused));
    let inner = |status: &str| {
        let payment = match call {
            Call::CommitManual => format!(r#""authorizations":[{}]"#, authorization(status)),
            _ => format!(r#""captures":[{}]"#, captured(status)),
        };
        Answer::json(201, order(call, "COMPLETED", &payment))
    };
    let no = if call == Call::CommitManual {
        "DENIED"
    } else {
        "DECLINED"
    };
    list.push(Refusal::new("inner refusal", inner(no), ends::declined));
    list.push(Refusal::new(
        "inner pending",
        inner("PENDING"),
        ends::pending,
    ));
    list
}

fn capture(while_open: fn(&End) -> bool) -> Vec<Refusal> {
    let answered = |status: &str| Answer::json(201, captured(status));
    vec![
        issue("MAX_CAPTURE_AMOUNT_EXCEEDED", ends::amount_refused),
        issue("AUTHORIZATION_ALREADY_CAPTURED", ends::unknown),
        issue("AUTHORIZATION_VOIDED", ends::declined_or_refused),
        issue("INSTRUMENT_DECLINED", ends::declined_or_refused),
        Refusal::new("declined", answered("DECLINED"), ends::declined),
        Refusal::new("pending", answered("PENDING"), while_open),
    ]
}

fn refund() -> Vec<Refusal> {
    let answered = |status: &str| {
        let first = r#""status":"COMPLETED""#;
        Answer::json(
            201,
            refunded().replacen(first, &format!(r#""status":"{status}""#), 1),
        )
    };
    vec![
        issue("REFUND_AMOUNT_EXCEEDED", ends::amount_refused),
        issue("REFUND_NOT_ALLOWED", ends::declined_or_refused),
        issue("PENDING_CAPTURE", ends::declined_or_refused),
        issue("CAPTURE_FULLY_REFUNDED", ends::unknown),
        Refusal::new("pending", answered("PENDING"), ends::pending),
        Refusal::new("failed", answered("FAILED"), ends::declined),
    ]
}

/// What a read of the order says, by its own status and the inner one
/// (`providers/paypal.md` §6.4).
fn lookups() -> Vec<Refusal> {
    let read = |name: &str, body: String, right: fn(&End) -> bool| {
        Refusal::new(name, Answer::json(200, body), right)
    };
    let inner = |status: &str| {
        let payment = format!(r#""captures":[{}]"#, captured(status));
        order(Call::Lookup, "COMPLETED", &payment)
    };
    vec![
        read("created", order(Call::Lookup, "CREATED", ""), ends::done),
        read("declined inside", inner("DECLINED"), ends::declined),
        read("failed inside", inner("FAILED"), ends::declined),
        read("pending inside", inner("PENDING"), ends::pending),
        read("partly refunded", inner("PARTIALLY_REFUNDED"), ends::done),
        Refusal::new(
            "not known",
            error(404, "RESOURCE_NOT_FOUND", "INVALID_RESOURCE_ID"),
            ends::not_found,
        ),
    ]
}

fn issue(code: &str, right: fn(&End) -> bool) -> Refusal {
    Refusal::new(code, error(422, "UNPROCESSABLE_ENTITY", code), right)
}

fn error(status: u16, name: &str, issue: &str) -> Answer {
    let details = if issue.is_empty() {
        String::new()
    } else {
        format!(
            r#","details":[{{"issue":"{issue}","description":"CANARY-description","field":"/payment_source","value":"CANARY-value","location":"body"}}]"#
        )
    };
    Answer::json(
        status,
        format!(
            r#"{{"name":"{name}","message":"CANARY-message","debug_id":"90957fca61718"{details},"links":[]}}"#
        ),
    )
}
