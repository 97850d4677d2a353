//! Data flows: which fields go from whom to whom, stage by stage, from the doors of the service and
//! the providers' own tables of calls; and a drawing of it.

use std::collections::BTreeMap;

use cardless_contract::{ProviderCall, Purpose, fields_of};

use super::diagram;
use super::words::is_called_like_card_data;
use super::{Claim, Door, Figure, Question, Section, Sources, Statement, Table};
use crate::error::Error;
use crate::exchange::transfer::RECORD;
use crate::gateway::{Declared, Role};
use crate::message::Event;

/// Who asks here.
pub(super) const BILLING: &str = "billing service";
/// Who runs this.
pub(super) const OPERATOR: &str = "operator";
/// Who looks at the evidence.
pub(super) const AUDITOR: &str = "auditor";
/// Whose card it is.
pub(super) const BROWSER: &str = "customer's browser";
/// This program.
pub(super) const CARDLESS: &str = "cardless";
/// Where rows are kept.
pub(super) const STORE: &str = "store";
/// Where keys are kept.
pub(super) const KEY_FILE: &str = "key file";
/// Whoever watches the service: anybody who reaches it.
const WATCHER: &str = "whoever watches";

const PARTIES: Claim = Claim {
    id: "flows-1",
    requirements: &["1.2.4", "12.5.2"],
    says: "Which fields go from whom to whom is known, stage by stage",
    proof: "the routes that the service answers, with their schemas; the tables from which the adapters \
            make every request. At build the suite `tests/contract` compares the fields, stages and \
            credentials of each table with all requests of its cases, and shows that no field of an \
            answer is read which the table does not name",
};

const FIELDS: Claim = Claim {
    id: "flows-2",
    requirements: &["1.2.4", "3.2.1", "12.5.2"],
    says: "Every field that comes in or goes out at a door is on the program's list of fields",
    proof: "the schemas of the doors, name by name, compared with the list",
};

const NAMES: Claim = Claim {
    id: "flows-3",
    requirements: &["3.2.1", "3.3.1", "12.5.2"],
    says: "No door has a field that is called like card data, and no call to a provider has one but \
           those below: none is a card number, a security code or a name",
    proof: "every name of flows-1, word by word",
};

/// Fields of calls that are called like card data, by provider: each with what it is.
const CALLED_ALIKE: [(&str, &str, &str); 8] = [
    (
        "aduno",
        "card.type",
        "a constant word: what follows is an alias",
    ),
    (
        "aduno",
        "card.alias",
        "the provider's token, in the place where a number would be; of another form than a number",
    ),
    ("aduno", "card.expiryMonth", EXPIRY),
    ("aduno", "card.expiryYear", EXPIRY),
    ("aduno", "expiryMonth", EXPIRY),
    ("aduno", "expiryYear", EXPIRY),
    (
        "aduno",
        "card.walletIndicator",
        "whether it is there; its value is not read",
    ),
    (
        "paypal",
        "expiration_time",
        "when a hold lapses; nothing of a card",
    ),
];

const EXPIRY: &str = "the month and year in which the card expires: read from the provider and sent back \
                      with its token, in memory for one call, without a number, never stored or logged";

/// Every name of a member at a door. A door that has another is looked at by a person first.
const DOOR_FIELDS: [&str; 57] = [
    Door::KEYS,
    Door::SEALED,
    Door::TEXT,
    Door::WHOLE_BODY,
    Door::REPORT,
    "Idempotency-Key",
    "account",
    "accounts",
    "after",
    "answers_of_idempotency_keys",
    "capture",
    "category",
    "code",
    "counts",
    "created_at",
    "currency",
    "default",
    "description",
    "erased_at",
    "events",
    "expires_at",
    "exported_at",
    "final",
    "id",
    "initiator",
    "kind",
    "language",
    "message",
    "minor",
    "next",
    "next_look_at",
    "notes",
    "operations",
    "payment",
    "payment_method",
    "payment_methods",
    "payments",
    "provider",
    "provider_code",
    "reason",
    "redirect_url",
    "reference",
    "refund",
    "replaces",
    "requested_at",
    "restricted",
    "retry",
    "return_url",
    "setup",
    "setups",
    "state",
    "status",
    "texts_of_payments",
    "timestamp",
    "type",
    "updated_at",
    "void",
];

/// What goes from one to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flow {
    /// For what.
    pub(super) stages: Vec<&'static str>,
    pub(super) from: String,
    pub(super) to: String,
    /// By which door or call.
    by: String,
    sends: Vec<String>,
    gets: Vec<String>,
}

/// What the section is made from.
#[derive(Debug, Clone)]
struct Facts<'a> {
    doors: &'a [Door],
    providers: Vec<Declared>,
    /// Whether events are sent.
    events: bool,
}

pub(super) async fn section(sources: &Sources) -> Result<Section, Error> {
    let settings = sources.settings.as_ref();
    let facts = Facts {
        doors: &sources.doors,
        providers: sources.gateway.declared(),
        events: settings.is_some_and(|settings| settings.events_origin.is_some()),
    };
    Ok(of(&facts))
}

fn of(facts: &Facts<'_>) -> Section {
    let flows = flows(facts);
    Section {
        id: "flows",
        title: "Data flows",
        statements: vec![parties(facts, &flows), fields(facts.doors), names(facts)],
        figures: vec![Figure {
            title: "Who exchanges what with whom",
            svg: diagram::svg(&flows),
        }],
        questions: vec![Question {
            id: "flows-q1",
            requirements: &["1.2.4", "12.5.2"],
            asks: "What does the billing service keep of what it gets here, and where does it pass it on? \
                   Does a customer ever tell a card to anybody but the provider's page: by telephone, \
                   in a message, on paper?",
        }],
    }
}

fn flows(facts: &Facts<'_>) -> Vec<Flow> {
    let providers = facts.providers.iter();
    let mut flows: Vec<Flow> = facts
        .doors
        .iter()
        .flat_map(|door| at_door(door, &facts.providers))
        .collect();
    flows.extend(providers.flat_map(at_provider));
    if facts.events {
        flows.push(Flow {
            stages: vec!["events"],
            from: CARDLESS.to_owned(),
            to: BILLING.to_owned(),
            by: "POST to events.url, signed (Standard Webhooks)".to_owned(),
            sends: fields_of::<Event>(),
            gets: Vec::new(),
        });
    }
    flows.extend(around());
    flows
}

/// What the program does beside its doors.
fn around() -> [Flow; 4] {
    let flow = |stages: &[&'static str], from: &str, to: &str, by: &str, sends: &[&str]| Flow {
        stages: stages.to_vec(),
        from: from.to_owned(),
        to: to.to_owned(),
        by: by.to_owned(),
        sends: sends.iter().map(|&name| name.to_owned()).collect(),
        gets: Vec::new(),
    };
    [
        flow(
            &["import"],
            OPERATOR,
            CARDLESS,
            "a file, signed and sealed to this installation",
            &RECORD,
        ),
        flow(
            &["export"],
            CARDLESS,
            OPERATOR,
            "a file, signed and sealed to one recipient",
            &RECORD,
        ),
        flow(
            &["rows; tokens and accounts sealed"],
            CARDLESS,
            STORE,
            "the database",
            &["the columns of data-1"],
        ),
        flow(
            &["keys"],
            KEY_FILE,
            CARDLESS,
            "a file of its own, outside of the store",
            &["the generations of data-5"],
        ),
    ]
}

fn at_door(door: &Door, providers: &[Declared]) -> Vec<Flow> {
    let stage = stage_of(door).unwrap_or("unknown");
    let callers = match stage {
        "notification" => providers.iter().map(|one| one.provider.clone()).collect(),
        _ => callers(door),
    };
    let flow = |from: String| Flow {
        stages: vec![stage],
        from,
        to: CARDLESS.to_owned(),
        by: format!("{} {}", door.method, door.path),
        sends: door.takes.clone(),
        gets: door.gives.clone(),
    };
    callers.into_iter().map(flow).collect()
}

fn callers(door: &Door) -> Vec<String> {
    let name = |role: &Role| match role {
        Role::Billing => BILLING,
        Role::Operator => OPERATOR,
        Role::Auditor => AUDITOR,
    };
    if !door.open {
        let roles = door.roles.iter();
        return roles.map(|role| name(role).to_owned()).collect();
    }
    let caller = match door.id.as_str() {
        "returnFromProvider" => BROWSER,
        "exchange" | "readExchangeKeys" => BILLING,
        _ => WATCHER,
    };
    vec![caller.to_owned()]
}

/// What a door is for.
fn stage_of(door: &Door) -> Option<&'static str> {
    Some(match door.id.as_str() {
        "createSetup" | "readSetup" | "returnFromProvider" => "link",
        "createPayment" => "authorize",
        "capturePayment" => "capture",
        "voidPayment" => "void",
        "refundPayment" => "refund",
        "readPayment" | "listPayments" | "readRefund" => "read",
        "listPaymentMethods" | "updatePaymentMethod" => "methods",
        "revokePaymentMethod" => "revoke",
        "receiveWebhook" => "notification",
        "listEvents" => "events",
        "exportAccount" | "eraseAccount" | "getErasure" | "restrictAccount" => "rights",
        "exchange" | "readExchangeKeys" => "sealed exchange",
        "readScope" => "evidence",
        "health" | "readiness" | "metrics" | "describe" => "watch",
        _ => return None,
    })
}

fn at_provider(declared: &Declared) -> Vec<Flow> {
    let call = |call: &ProviderCall| Flow {
        stages: call.stages.iter().map(|stage| stage.as_str()).collect(),
        from: CARDLESS.to_owned(),
        to: declared.provider.clone(),
        by: format!(
            "{} {}, by {}",
            call.method,
            call.path,
            call.credential.as_str()
        ),
        sends: call.sends(),
        gets: call.reads(),
    };
    let pages = declared.places.iter();
    let pages = pages.filter(|place| place.purposes.contains(&Purpose::CustomerPage));
    let page = pages.map(|place| Flow {
        stages: vec!["card or login"],
        from: BROWSER.to_owned(),
        to: declared.provider.clone(),
        by: format!("the provider's own page at {place}"),
        sends: vec!["what the provider asks for; none of it comes here".to_owned()],
        gets: Vec::new(),
    });
    declared.calls.iter().map(call).chain(page).collect()
}

fn parties(facts: &Facts<'_>, flows: &[Flow]) -> Statement {
    let doors = facts.doors.iter();
    let unknown = doors.filter(|door| stage_of(door).is_none());
    let silent = facts.providers.iter();
    let silent = silent.filter(|one| one.calls.is_empty());
    let faults = unknown
        .map(|door| format!("{} {} belongs to no stage", door.method, door.path))
        .chain(silent.map(|one| format!("{} declares no call", one.provider)));
    let row = |flow: &Flow| {
        vec![
            flow.stages.join(", "),
            flow.from.clone(),
            flow.to.clone(),
            flow.by.clone(),
            flow.sends.join(", "),
            flow.gets.join(", "),
        ]
    };
    PARTIES.judged(
        faults.collect(),
        Table::new(
            vec!["for", "from", "to", "by", "sends", "gets back"],
            flows.iter().map(row).collect(),
        ),
    )
}

fn fields(doors: &[Door]) -> Statement {
    let mut used: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for door in doors {
        for name in door.takes.iter().chain(&door.gives) {
            let at = format!("{} {}", door.method, door.path);
            let doors = used.entry(last(name)).or_default();
            if !doors.contains(&at) {
                doors.push(at);
            }
        }
    }
    let unlisted = used.iter().filter(|(name, _)| !DOOR_FIELDS.contains(name));
    let faults = unlisted.map(|(name, doors)| format!("{name} at {}", doors.join(", ")));
    let faults = faults.collect();
    let rows = used
        .iter()
        .map(|(name, doors)| vec![(*name).to_owned(), doors.join(", ")]);
    let table = Table::new(vec!["field", "doors"], rows.collect());
    FIELDS.judged(faults, table.or_none("there is no door"))
}

/// The last name of a path of names: `minor` of `amount.minor`, `id` of `data[].id`.
fn last(name: &str) -> &str {
    let last = name.rsplit('.').next().unwrap_or(name);
    last.trim_end_matches("[]")
}

fn names(facts: &Facts<'_>) -> Statement {
    let mut faults = Vec::new();
    let mut rows = Vec::new();
    let mut looked = 0_usize;
    for door in facts.doors {
        for name in door.takes.iter().chain(&door.gives) {
            looked += 1;
            if is_called_like_card_data(name) {
                faults.push(format!("{name} at {} {}", door.method, door.path));
            }
        }
    }
    for one in &facts.providers {
        for call in one.calls {
            for name in of_call(call) {
                looked += 1;
                if !is_called_like_card_data(&name) {
                    continue;
                }
                let at = format!("{} {} of {}", call.method, call.path, one.provider);
                match known_alike(&one.provider, &name) {
                    Some(why) => rows.push(vec![name, at, why.to_owned()]),
                    None => faults.push(format!("{name} at {at}")),
                }
            }
        }
    }
    let header = vec!["field", "call", "what it is"];
    let all = ["all other names", "", "are not called so"].map(str::to_owned);
    rows.push(all.to_vec());
    let (all, rest) = (rows.len(), looked.saturating_sub(rows.len() - 1));
    if let Some(last) = rows.get_mut(all - 1).and_then(|row| row.get_mut(1)) {
        *last = format!("{rest} of {looked}");
    }
    NAMES.judged(faults, Table::new(header, rows))
}

/// Everything that a call sends or reads.
fn of_call(call: &ProviderCall) -> Vec<String> {
    let mut names = call.sends();
    names.extend(call.reads());
    names.extend((call.reads_of_a_refusal)());
    names.sort_unstable();
    names.dedup();
    names
}

fn known_alike(provider: &str, name: &str) -> Option<&'static str> {
    let mut known = CALLED_ALIKE.iter().filter(|(at, _, _)| *at == provider);
    let found = known.find(|(_, known, _)| {
        let before = name.strip_suffix(known);
        before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
    });
    found.map(|(_, _, why)| *why)
}

#[cfg(test)]
#[cfg(feature = "serve")]
pub(super) mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use cardless_contract::{Clock, Credential, Stage, SystemClock};

    use super::*;
    use crate::config::{Environment, Settings};
    use crate::registry;

    /// The three providers by settings as an operator has them.
    const SETTINGS: &str = r#"
        [providers.aduno]
        environment = "live"
        merchant_id = "1100000000"
        password = "secret"
        webhook_key = "000102030405060708090a0b0c0d0e0f"
        [providers.paypal]
        environment = "live"
        client_id = "id"
        client_secret = "secret"
        webhook_id = "WH1"
        token_kind = "vault_v3"
        [providers.postfinance]
        space_id = 405
        user_id = "512"
        authentication_key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    "#;

    /// What the real adapters declare by these settings.
    pub(in crate::scope) fn declared_by(settings: &str) -> Vec<Declared> {
        let path = Path::new("cardless.toml");
        let settings = Settings::parse(path, settings, &Environment::default()).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let providers = registry::providers(&settings, &clock).unwrap();
        let mut declared: Vec<Declared> =
            providers.iter().map(|one| Declared::of(&**one)).collect();
        declared.sort_by(|one, other| one.provider.cmp(&other.provider));
        declared
    }

    /// What the real adapters declare, live.
    pub(in crate::scope) fn declared() -> Vec<Declared> {
        declared_by(SETTINGS)
    }

    /// The flows with so many of the providers set.
    pub(in crate::scope) fn flows_of(providers: usize) -> Vec<Flow> {
        let mut all = declared();
        all.truncate(providers);
        flows(&Facts {
            doors: &crate::serve::doors(),
            providers: all,
            events: true,
        })
    }

    impl Flow {
        /// A flow from this program to somebody.
        pub(in crate::scope) fn planted(to: &str, stage: &'static str) -> Self {
            Self {
                stages: vec![stage],
                from: CARDLESS.to_owned(),
                to: to.to_owned(),
                by: String::new(),
                sends: Vec::new(),
                gets: Vec::new(),
            }
        }
    }

    fn section(doors: &[Door], providers: Vec<Declared>) -> Section {
        of(&Facts {
            doors,
            providers,
            events: true,
        })
    }

    /// The faults of one statement; the others hold.
    fn faults(section: &Section, id: &str) -> Vec<String> {
        let others = section.statements.iter().filter(|one| one.claim.id != id);
        for other in others {
            assert!(other.holds, "{} {:?}", other.claim.id, other.faults);
        }
        let mut statements = section.statements.iter();
        statements
            .find(|one| one.claim.id == id)
            .unwrap()
            .faults
            .clone()
    }

    fn plant(call: ProviderCall) -> Vec<Declared> {
        let mut all = declared();
        let paypal = all.iter_mut().find(|one| one.provider == "paypal").unwrap();
        paypal.calls = [paypal.calls, &[call]].concat().leak();
        all
    }

    #[test]
    fn what_the_program_declares_holds() {
        let section = section(&crate::serve::doors(), declared());
        for statement in &section.statements {
            assert!(statement.holds, "{:?}", statement.faults);
            assert!(!statement.evidence.rows.is_empty());
        }
        let [parties, _, names] = section.statements.as_slice() else {
            panic!("{section:?}")
        };
        let rows = &parties.evidence.rows;
        let has = |from: &str, to: &str, stage: &str| {
            rows.iter()
                .any(|row| row[0].contains(stage) && row[1] == from && row[2] == to)
        };
        for (from, to, stage) in [
            (BILLING, CARDLESS, "authorize"),
            (CARDLESS, "paypal", "refund"),
            ("aduno", CARDLESS, "notification"),
            (BROWSER, "postfinance", "card or login"),
            (CARDLESS, BILLING, "events"),
            (OPERATOR, CARDLESS, "import"),
            (CARDLESS, STORE, "rows"),
            (KEY_FILE, CARDLESS, "keys"),
            (AUDITOR, CARDLESS, "evidence"),
        ] {
            assert!(has(from, to, stage), "{from} {to} {stage}");
        }
        let known = names.evidence.rows.iter().map(|row| row[0].as_str());
        let known: Vec<&str> = known.collect();
        for (provider, alike, _) in CALLED_ALIKE {
            let used = known.iter().any(|name| name.ends_with(alike));
            assert!(used, "{alike} of {provider} is nowhere");
        }
    }

    #[test]
    fn every_field_on_the_list_is_at_a_door() {
        let doors = crate::serve::doors();
        let names = doors
            .iter()
            .flat_map(|door| door.takes.iter().chain(&door.gives));
        let used: std::collections::BTreeSet<&str> = names.map(|name| last(name)).collect();
        let listed: std::collections::BTreeSet<&str> = DOOR_FIELDS.into_iter().collect();
        assert_eq!(listed, used);
        assert_eq!(listed.len(), DOOR_FIELDS.len(), "each stands once");
    }

    #[test]
    fn a_door_with_a_field_of_card_data_is_found() {
        let mut doors = crate::serve::doors();
        let door = doors.iter_mut().find(|door| door.id == "createPayment");
        door.unwrap().takes.push("payment_method.cvv".to_owned());
        let section = section(&doors, declared());
        let [_, fields, names] = section.statements.as_slice() else {
            panic!("{section:?}")
        };
        assert_eq!(fields.faults, ["cvv at POST /v1/payments"]);
        assert_eq!(names.faults, ["payment_method.cvv at POST /v1/payments"]);
    }

    #[test]
    fn a_door_without_a_stage_is_found() {
        let mut doors = crate::serve::doors();
        doors[0].id = "another".to_owned();
        let at = format!("{} {}", doors[0].method, doors[0].path);
        let section = section(&doors, declared());
        assert_eq!(
            faults(&section, "flows-1"),
            [format!("{at} belongs to no stage")]
        );
    }

    #[test]
    fn a_call_with_a_field_of_card_data_is_found() {
        let call = ProviderCall {
            body: &["payment_source.card.number"],
            ..ProviderCall::new(
                "POST",
                "/v2/planted",
                &[Stage::Authorize],
                Credential::AccessToken,
            )
        };
        let found = section(&crate::serve::doors(), plant(call));
        assert_eq!(
            faults(&found, "flows-3"),
            ["payment_source.card.number at POST /v2/planted of paypal"]
        );
        // What is known at one provider is not known at another, nor is what only ends alike.
        for name in ["card.alias", "otherexpiration_time", "expiration_time.pan"] {
            let call = ProviderCall {
                body: Box::leak(Box::new([name])),
                ..call
            };
            let found = section(&crate::serve::doors(), plant(call));
            let expected = is_called_like_card_data(name);
            assert_eq!(!faults(&found, "flows-3").is_empty(), expected, "{name}");
        }
        let read = ProviderCall {
            body: &[],
            reads: || vec!["card.cvc".to_owned()],
            ..call
        };
        let found = section(&crate::serve::doors(), plant(read));
        assert_eq!(
            faults(&found, "flows-3"),
            ["card.cvc at POST /v2/planted of paypal"]
        );
    }

    #[test]
    fn a_provider_that_declares_nothing_is_found() {
        let mut providers = declared();
        providers[0].calls = &[];
        let found = section(&crate::serve::doors(), providers);
        assert_eq!(faults(&found, "flows-1"), ["aduno declares no call"]);
    }
}
