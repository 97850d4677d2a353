//! Access: who may come in at which door, with what, and whether that is what the audit log tells.

mod told;

use std::time::Duration;

use cardless_contract::Timestamp;

use super::{Claim, Door, Question, Section, Sources, Statement, Table, days, is_ahead};
use crate::error::Error;
use crate::gateway::{ClientInfo, Role};
use crate::registry::LiveSecrets;

/// How old an API key or a client's public key may be.
pub const MAX_CLIENT_KEY_AGE: Duration = Duration::from_secs(365 * 86_400);

/// How many values of a credential are live at the most: the one in use, and the one before or after
/// it.
const MAX_LIVE_VALUES: usize = 2;

/// What an open door may take that changes something: both prove themselves by a signature.
const SIGNED: [&str; 2] = [Door::SEALED, Door::WHOLE_BODY];

const ROLES: Claim = Claim {
    id: "access-1",
    requirements: &["7.2.1", "7.2.2", "7.2.5", "7.3.1"],
    says: "No role is let in beyond its duty: an auditor reads the evidence and nothing else, an operator \
           changes nothing, and what anybody may send proves itself by a signature",
    proof: "every route as the service declares and enforces it, held against that rule",
};

const KEYS: Claim = Claim {
    id: "access-3",
    // 8.3.9 is about the passwords of people.
    requirements: &["8.6.3"],
    says: "No key of a client that is in use is older than a year, or of a time that is still to come; one that \
           was replaced ends by itself",
    proof: "when each live API key was made and each live public key was added, by the store; no key's \
            value is looked at",
};

const CREDENTIALS: Claim = Claim {
    id: "access-4",
    requirements: &["8.6.3"],
    says: "Of each credential at a provider one value is live, or two while it is being replaced",
    proof: "the settings in force; values are counted and not read",
};

const QUESTIONS: [Question; 3] = [
    Question {
        id: "access-q1",
        requirements: &["7.2.4", "7.2.5.1"],
        asks: "Who looks through the clients and roles that are listed here, at least every six months, and \
               when was that last done?",
    },
    Question {
        id: "access-q2",
        requirements: &["7.2.6", "8.2.2", "8.4.2"],
        asks: "Who can log in at the machine, and with which second factor? The command line asks for no \
               key of its own: whoever can read the settings and the key file there can do all of it.",
    },
    Question {
        id: "access-q3",
        requirements: &["8.6.3"],
        asks: "When was each credential at a provider last replaced? The providers know; their \
               interfaces do not tell.",
    },
];

pub(super) async fn section(sources: &Sources) -> Result<Section, Error> {
    let gateway = &sources.gateway;
    let clients = gateway.clients().await?;
    let now = gateway.now();
    let credentials = sources.settings.as_ref();
    let credentials = credentials.map(|settings| credentials_counted(&settings.live_secrets));
    let statements = [
        Some(roles(&sources.doors)),
        Some(told::statement(gateway).await?),
        Some(key_ages(&clients, now)),
        credentials,
    ];
    Ok(Section {
        id: "access",
        title: "Access",
        statements: statements.into_iter().flatten().collect(),
        figures: Vec::new(),
        questions: QUESTIONS.into(),
    })
}

fn roles(doors: &[Door]) -> Statement {
    let faults = doors.iter().flat_map(beyond_duty);
    let rows = doors.iter().map(|door| {
        let mut row = vec![format!("{} {}", door.method, door.path)];
        row.extend(Role::ALL.map(|role| yes(door.roles.contains(&role))));
        row.push(yes(door.open));
        row
    });
    let header = vec!["door", "billing", "operator", "auditor", "everybody"];
    ROLES.judged(faults.collect(), Table::new(header, rows.collect()))
}

/// What a door allows that it must not.
fn beyond_duty(door: &Door) -> Vec<String> {
    let name = format!("{} {}", door.method, door.path);
    let reads = door.method == "GET";
    let shows_evidence = door.gives.iter().all(|given| given == Door::REPORT);
    let lets_in = |role: Role| door.roles.contains(&role);
    let mut faults = Vec::new();
    if lets_in(Role::Operator) && !reads {
        faults.push(format!("{name} lets operator in and changes something"));
    }
    if lets_in(Role::Auditor) && !(reads && shows_evidence && !door.gives.is_empty()) {
        faults.push(format!("{name} lets auditor in and is no evidence"));
    }
    let is_signed = door
        .takes
        .iter()
        .any(|taken| SIGNED.contains(&taken.as_str()));
    if door.open && !reads && !is_signed {
        faults.push(format!(
            "{name} is open to everybody and takes what nobody has signed"
        ));
    }
    if !door.open && door.roles.is_empty() {
        faults.push(format!("{name} lets nobody in, and is not open either"));
    }
    faults
}

/// A key by which a client comes in.
struct Key<'a> {
    client: &'a str,
    kind: String,
    since: Timestamp,
    ends_at: Option<Timestamp>,
}

fn key_ages(clients: &[ClientInfo], now: Timestamp) -> Statement {
    let mut faults = Vec::new();
    let mut rows = Vec::new();
    for key in clients.iter().flat_map(live_keys) {
        let age = now.since(key.since);
        let (client, kind, since) = (key.client, &key.kind, key.since);
        if key.ends_at.is_some() {
            // It was renewed, and this is the one before.
        } else if age > MAX_CLIENT_KEY_AGE {
            faults.push(format!(
                "the {kind} of the client {client} is of {since}: renew it"
            ));
        } else if is_ahead(since, now) {
            faults.push(format!(
                "the {kind} of the client {client} is dated in the future, {since}, so that its age is not \
                 known: renew it"
            ));
        }
        rows.push(vec![
            key.client.to_owned(),
            key.kind,
            key.since.to_string(),
            days(age).to_string(),
            key.ends_at.map_or_else(String::new, |at| at.to_string()),
        ]);
    }
    let header = vec!["client", "key", "since", "days old", "replaced; ends at"];
    let table = Table::new(header, rows).or_none("no live key");
    KEYS.judged(faults, table.moving(&[3]))
}

fn live_keys(client: &ClientInfo) -> Vec<Key<'_>> {
    let api_keys = client.api_keys.iter().map(|key| Key {
        client: &client.name,
        kind: "API key".to_owned(),
        since: key.since,
        ends_at: key.ends_at,
    });
    let is_live = client.revoked_at.is_none();
    let public_keys = client.keys.iter();
    let public_keys = public_keys.filter(|key| is_live && key.revoked_at.is_none());
    let public_keys = public_keys.map(|key| Key {
        client: &client.name,
        kind: format!("public key {} ({})", key.kid, key.r#use),
        since: key.created_at,
        ends_at: None,
    });
    api_keys.chain(public_keys).collect()
}

fn credentials_counted(secrets: &[LiveSecrets]) -> Statement {
    let many = secrets
        .iter()
        .filter(|secret| secret.live > MAX_LIVE_VALUES);
    let faults = many.map(|secret| {
        let (setting, live) = (&secret.setting, secret.live);
        format!("{setting} has {live} live values: take out what is not used any more")
    });
    let rows = secrets
        .iter()
        .map(|secret| vec![secret.setting.clone(), secret.live.to_string()]);
    let table = Table::new(vec!["setting", "live values"], rows.collect());
    CREDENTIALS.judged(faults.collect(), table.or_none("no credential is set"))
}

fn yes(is_so: bool) -> String {
    if is_so { "yes" } else { "" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::ApiKeyInfo;
    use crate::gateway::MAX_SKEW;

    fn door(method: &str, path: &str, roles: &[Role]) -> Door {
        Door {
            method: method.to_owned(),
            path: path.to_owned(),
            id: String::new(),
            summary: String::new(),
            open: false,
            roles: roles.to_vec(),
            takes: Vec::new(),
            gives: vec!["id".to_owned()],
        }
    }

    fn client(name: &str, role: Role, since: i64) -> ClientInfo {
        let since = Timestamp::from_seconds(since);
        ClientInfo {
            name: name.to_owned(),
            role,
            api_keys: vec![ApiKeyInfo {
                since,
                ends_at: None,
            }],
            sealed: false,
            keys: Vec::new(),
            created_at: since,
            revoked_at: None,
        }
    }

    #[test]
    fn a_role_that_is_too_wide_is_a_fault_of_its_door() {
        let evidence = Door {
            gives: vec![Door::REPORT.to_owned()],
            ..door("GET", "/v1/scope", &[Role::Auditor])
        };
        let webhook = Door {
            open: true,
            takes: vec![Door::WHOLE_BODY.to_owned()],
            ..door("POST", "/webhooks/{provider}", &[])
        };
        let good = [
            door("POST", "/v1/payments", &[Role::Billing]),
            door("GET", "/v1/payments", &[Role::Billing, Role::Operator]),
            evidence.clone(),
            webhook.clone(),
        ];
        let statement = roles(&good);
        assert!(statement.holds, "{:?}", statement.faults);
        assert_eq!(statement.evidence.rows.len(), 4);
        for (bad, named) in [
            (door("POST", "/v1/x", &[Role::Operator]), "operator"),
            (door("DELETE", "/v1/x", &[Role::Operator]), "operator"),
            (door("GET", "/v1/x", &[Role::Auditor]), "auditor"),
            (
                Door {
                    gives: Vec::new(),
                    ..door("GET", "/v1/x", &[Role::Auditor])
                },
                "auditor",
            ),
            (
                Door {
                    method: "POST".to_owned(),
                    path: "/v1/x".to_owned(),
                    ..evidence
                },
                "auditor",
            ),
            (
                Door {
                    path: "/v1/x".to_owned(),
                    takes: Vec::new(),
                    ..webhook
                },
                "everybody",
            ),
            (door("GET", "/v1/x", &[]), "nobody"),
        ] {
            let statement = roles(std::slice::from_ref(&bad));
            assert_eq!((statement.claim.id, statement.holds), ("access-1", false));
            let fault = &statement.faults[0];
            assert!(
                fault.contains("/v1/x") && fault.contains(named),
                "{bad:?}: {fault}"
            );
        }
    }

    #[test]
    fn a_key_older_than_a_year_is_a_fault_of_its_client() {
        let now = Timestamp::from_seconds(0).plus(MAX_CLIENT_KEY_AGE);
        let clients = [client("shop", Role::Billing, 0)];
        assert!(key_ages(&clients, now).holds);
        assert_eq!(key_ages(&[], now).evidence.rows[0][0], "no live key");
        let statement = key_ages(&clients, now.plus(Duration::from_secs(1)));
        assert_eq!((statement.claim.id, statement.holds), ("access-3", false));
        assert!(
            statement.faults[0].contains("client shop"),
            "{:?}",
            statement.faults
        );
        assert_eq!(statement.evidence.rows[0][3], "365");
        let made_at = clients[0].created_at;
        let earlier = |seconds| Timestamp::from_seconds(made_at.millis() / 1000 - seconds);
        assert!(key_ages(&clients, earlier(15)).holds);
        let mut renewed = clients.clone();
        renewed[0].api_keys = [(now, None), (made_at, Some(now.plus(MAX_SKEW * 2)))]
            .map(|(since, ends_at)| ApiKeyInfo { since, ends_at })
            .into();
        let overlap = key_ages(&renewed, now.plus(MAX_SKEW));
        assert!(overlap.holds, "{:?}", overlap.faults);
        assert_eq!(overlap.evidence.rows.len(), 2);
        let ahead = key_ages(&clients, earlier(16));
        assert!(!ahead.holds);
        assert!(ahead.faults[0].contains("dated in the future"));
    }

    #[test]
    fn a_credential_with_three_live_values_is_a_fault() {
        let secret = |live| LiveSecrets {
            setting: "providers.paypal.client_secret".to_owned(),
            live,
        };
        assert!(credentials_counted(&[secret(2)]).holds);
        let none = credentials_counted(&[]).evidence.rows;
        assert_eq!(none, [["no credential is set", ""]]);
        // Neither is about people who log in.
        for claim in [KEYS, CREDENTIALS] {
            assert_eq!(claim.requirements, ["8.6.3"], "{}", claim.id);
        }
        let statement = credentials_counted(&[secret(3)]);
        assert_eq!((statement.claim.id, statement.holds), ("access-4", false));
        assert!(statement.faults[0].contains("providers.paypal.client_secret"));
    }
}
