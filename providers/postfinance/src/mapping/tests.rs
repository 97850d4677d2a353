use super::*;

/// The states that `state-machines.json` lists for an entity.
fn listed(entity: &str) -> Option<Vec<String>> {
    let all = cardless_testkit::shared::json("specs/postfinance/state-machines.json")?;
    let machine = &all[entity];
    let mut states: Vec<String> = machine["transitions"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    let last = machine["final"].as_array().unwrap().iter();
    states.extend(last.map(|state| state.as_str().unwrap().to_owned()));
    Some(states)
}

fn settings() -> Settings {
    Settings {
        space: 405,
        live: false,
        customers_presence: None,
        registration: Money::zero(chf()),
        allowed_configurations: None,
        line_item_name: "Payment".to_owned(),
    }
}

fn chf() -> Currency {
    Currency::from_code("CHF").unwrap()
}

fn operation_answer<T: serde::de::DeserializeOwned>(state: &str) -> T {
    serde_json::from_str(&format!("{{\"id\":5,\"state\":\"{state}\"}}")).unwrap()
}

#[test]
fn every_listed_state_of_a_transaction_is_known() {
    let Some(states) = listed("Transaction") else {
        return;
    };
    assert_eq!(states.len(), 10);
    for state in states {
        assert_ne!(Standing::of(&state), Standing::Unknown, "{state}");
    }
}

#[test]
fn every_listed_state_of_an_operation_is_known() {
    let key = IdempotencyKey::new("k").unwrap();
    let amount = Money::zero(chf());
    let settings = settings();
    let expected = ExpectedOperation {
        settings: &settings,
        transaction: 1,
        key: &key,
        amount,
    };
    for entity in ["TransactionCompletion", "TransactionVoid", "Refund"] {
        let Some(states) = listed(entity) else {
            return;
        };
        for state in states {
            let outcome = match entity {
                "TransactionCompletion" => completion(&operation_answer(&state), &expected),
                "TransactionVoid" => void(&operation_answer(&state), &settings, 1),
                _ => refund_outcome(&operation_answer(&state), &expected),
            };
            assert!(
                !matches!(outcome, Ok(Outcome::Unmapped(_)) | Err(_)),
                "{entity} {state}"
            );
        }
    }
}

#[test]
fn every_listed_state_of_a_token_is_known() {
    let Some(states) = listed("Token") else {
        return;
    };
    for state in states {
        let fate = token_fate(&operation_answer(&state), 5, &settings()).unwrap();
        let expected = match state.as_str() {
            "CREATE" | "ACTIVE" => TokenFate::Usable,
            "INACTIVE" => TokenFate::Suspended,
            _ => TokenFate::Gone,
        };
        assert_eq!(fate, expected, "{state}");
    }
    for state in listed("TokenVersion").unwrap() {
        let version: wire::TokenVersion = operation_answer(&state);
        let progress = linked(&version, 5, &settings()).unwrap();
        assert!(!matches!(progress, SetupProgress::Unmapped(_)), "{state}");
    }
}

#[test]
fn an_id_is_a_plain_number_above_zero() {
    for bad in [
        "0",
        "-1",
        "+1",
        "1.0",
        "a",
        "",
        " 1",
        "99999999999999999999",
    ] {
        assert_eq!(positive(bad), None, "{bad}");
    }
    assert_eq!(positive("9223372036854775807"), Some(i64::MAX));
    let token = ProviderToken::new("77x").unwrap();
    assert!(token_id(&token).is_err());
}

#[test]
fn a_reason_that_is_too_long_for_a_code_gives_its_category() {
    let reason: wire::FailureReason =
        serde_json::from_str(r#"{"id":1479893453498,"category":"END_USER"}"#).unwrap();
    assert_eq!(decline(Some(&reason)).provider_code.as_str(), "END_USER");
    assert_eq!(decline(None).provider_code.as_str(), "FAILED");
}

#[test]
fn line_items_add_up_where_the_sum_is_missing() {
    let answer: wire::Transaction = serde_json::from_str(
        r#"{"id":1,"state":"PENDING","lineItems":[{"amountIncludingTax":1.50},
        {"amountIncludingTax":0.25}]}"#,
    )
    .unwrap();
    assert_eq!(total(&answer, chf()), Ok(Money::new(chf(), 175).unwrap()));
}

#[test]
fn a_listener_without_signature_is_noticed() {
    for (data, unsigned) in [
        (r"[]", false),
        (r#"[{"id":7}]"#, false),
        (r#"[{"id":7,"enablePayloadSignatureAndState":true}]"#, false),
        (
            r#"[{"enablePayloadSignatureAndState":true},{"enablePayloadSignatureAndState":false}]"#,
            true,
        ),
    ] {
        let page = serde_json::from_str(&format!(r#"{{"data":{data}}}"#)).unwrap();
        assert_eq!(sends_unsigned(&page), unsigned, "{data}");
    }
}

#[test]
fn a_token_from_elsewhere_is_a_number_as_the_provider_writes_it() {
    let check = |text: &str| check_token(&ProviderToken::new(text).unwrap());
    for good in ["1", "123456", "9223372036854775807"] {
        assert_eq!(check(good), Ok(()), "{good}");
    }
    for bad in [
        "0",
        "007",
        "+7",
        "-7",
        "1.0",
        "9223372036854775808",
        "alias-7",
    ] {
        assert_eq!(check(bad), Err(TokenFault::Shape), "{bad}");
    }
}

#[test]
fn only_an_authorized_transaction_still_holds() {
    use HoldState::{Alive, Ended, NotTold};
    let reference = Reference::new("pay-1").unwrap();
    let settings = settings();
    let amount = Money::new(chf(), 5000).unwrap();
    let expected = Expected {
        settings: &settings,
        id: Some(7),
        reference: &reference,
        amount,
    };
    for (state, completed, hold) in [
        ("CONFIRMED", "0", NotTold),
        ("PROCESSING", "0", NotTold),
        ("AUTHORIZED", "0", Alive),
        // Taken in part, and the rest can still be taken.
        ("AUTHORIZED", "15.00", Alive),
        ("COMPLETED", "15.00", Ended),
        ("FULFILL", "15.00", Ended),
        ("DECLINE", "15.00", Ended),
        ("VOIDED", "15.00", Ended),
        ("VOIDED", "0", Ended),
    ] {
        let answer: wire::Transaction = serde_json::from_str(&format!(
            r#"{{"id":7,"state":"{state}","linkedSpaceId":405,"currency":"CHF",
                "authorizationAmount":50.00,"completedAmount":{completed}}}"#
        ))
        .unwrap();
        let seen = match payment(&answer, None, &expected).unwrap() {
            Outcome::Done(seen) | Outcome::Pending(seen) | Outcome::Review(seen) => seen,
            other @ (Outcome::ActionRequired(..) | Outcome::Declined(_) | Outcome::Unmapped(_)) => {
                panic!("{state}: {other:?}")
            }
        };
        assert_eq!(seen.hold, hold, "{state} {completed}");
    }
}
