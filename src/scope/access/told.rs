//! The clients as the store has them, held against what the audit log tells of them.
//!
//! Whoever can write to the database can change a row, and not a line. So nothing of a row excuses
//! it: each client that is let in must be told of, as what it is, and with the keys that it has; and
//! each client that is told of must be there.

use std::collections::BTreeMap;
use std::time::Duration;

use cardless_contract::Timestamp;

use super::super::{Claim, Statement, Table};
use crate::error::Error;
use crate::gateway::{
    AuditAction, AuditLine, AuditOutcome, ClientInfo, Gateway, KEY_DETAIL, KID_DETAIL, KID_DETAILS,
    KeyNames, OVERLAP_DETAIL, SEALED_DETAIL,
};
use crate::scope::drill::CLIENT as DRILL_CLIENT;

/// What a row and its line may differ by in their times.
const SAME_TIME: Duration = Duration::from_secs(5);

/// The lines that tell of a client.
const ACTIONS: [AuditAction; 5] = [
    AuditAction::ClientAdd,
    AuditAction::ClientRenew,
    AuditAction::ClientRevoke,
    AuditAction::ClientKeyAdd,
    AuditAction::ClientKeyRevoke,
];

const CLIENTS: Claim = Claim {
    id: "access-2",
    requirements: &["7.2.5", "8.2.1", "8.2.4", "8.2.5"],
    says: "Every client has the role and the keys that it was given, each that was given any is there, and no \
           revoked one is let in",
    proof: "the clients and the names of their keys in the store, held against the lines of the audit log \
            that tell of them (whose chain `logs-2` verifies); an API key is named by a keyed hash of what is \
            stored of it. A line of an earlier version names no key, and its client's keys are passed over",
};

/// What the audit log says of one client. Its name is never given twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Told {
    added: Option<Added>,
    /// The line by which it was revoked.
    revoked: Option<i64>,
    /// Its API key.
    key: Option<Given>,
    /// The API key before, and when it ends at the latest.
    before: Option<(Given, Timestamp)>,
    /// Its public keys, by the line that tells of each.
    public_keys: BTreeMap<String, i64>,
    /// Whether some line about its public keys does not name them.
    unnamed: bool,
    /// Those of them that were revoked.
    revoked_keys: BTreeMap<String, i64>,
}

/// The line that tells of a client's coming.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Added {
    line: i64,
    role: String,
    by: String,
    sealed: bool,
}

/// A line that tells of an API key, and what it is called there; nothing if it is not named.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Given {
    line: i64,
    name: Option<String>,
}

/// What is looked at.
#[derive(Debug)]
struct Facts {
    clients: Vec<ClientInfo>,
    names: BTreeMap<String, KeyNames>,
    told: BTreeMap<String, Told>,
    now: Timestamp,
}

/// The statement. Store and log are not read at one moment; what differs is looked at once more.
pub(super) async fn statement(gateway: &Gateway) -> Result<Statement, Error> {
    let first = Facts::of(gateway).await?.statement();
    if first.holds {
        return Ok(first);
    }
    Ok(Facts::of(gateway).await?.statement())
}

impl Facts {
    async fn of(gateway: &Gateway) -> Result<Self, Error> {
        let mut lines = Vec::new();
        for action in ACTIONS {
            lines.extend(gateway.all_audit_lines(action).await?);
        }
        Ok(Self {
            clients: gateway.clients().await?,
            names: gateway.key_names().await?,
            told: told(lines),
            now: gateway.now(),
        })
    }

    fn statement(&self) -> Statement {
        let mut faults = self.gone();
        let mut rows = Vec::new();
        let mut drilled = false;
        let (no_line, no_keys) = (Told::default(), KeyNames::default());
        for client in &self.clients {
            let told = self.told.get(&client.name).unwrap_or(&no_line);
            let names = self.names.get(&client.name).unwrap_or(&no_keys);
            let found = match &told.added {
                None => stranger(client, told),
                Some(added) => [
                    as_added(client, added),
                    as_revoked(client, told),
                    api_keys(client, names, told, self.now),
                    public_keys(client, names, told),
                ]
                .concat(),
            };
            let name = &client.name;
            faults.extend(
                found
                    .iter()
                    .map(|fault| format!("the client {name} {fault}")),
            );
            // Each drill leaves one; they are judged like any other, and told of once.
            if found.is_empty() && is_of_a_drill(client) {
                drilled = true;
            } else {
                rows.push(row(client, told));
            }
        }
        if drilled {
            let mut row = vec![String::new(); HEADER.len()];
            row.splice(
                ..1,
                [format!("{DRILL_CLIENT}…: of drills, all of them revoked")],
            );
            rows.push(row);
        }
        CLIENTS.judged(faults, Table::new(HEADER.into(), rows).or_none("no client"))
    }

    /// The clients that are told of and are not there. A revoked client keeps its row.
    fn gone(&self) -> Vec<String> {
        let is_there = |name: &str| self.clients.iter().any(|client| client.name == name);
        let gone = self.told.iter().filter(|(name, _)| !is_there(name));
        let gone = gone.filter_map(|(name, told)| {
            let line = told.added.as_ref()?.line;
            Some(format!(
                "the client {name} was added (line {line} of the audit log) and is not in the store"
            ))
        });
        gone.collect()
    }
}

fn told(mut lines: Vec<AuditLine>) -> BTreeMap<String, Told> {
    lines.retain(|line| line.outcome == AuditOutcome::Done.as_str());
    lines.sort_by_key(|line| line.line);
    let mut all: BTreeMap<String, Told> = BTreeMap::new();
    for line in lines {
        all.entry(line.object.clone()).or_default().hear(&line);
    }
    all
}

impl Told {
    /// The next line.
    fn hear(&mut self, line: &AuditLine) {
        let is = |action: AuditAction| line.action == action.as_str();
        let detail = |name: &str| line.details.get(name).cloned();
        let given = || Given {
            line: line.line,
            name: detail(KEY_DETAIL),
        };
        if is(AuditAction::ClientAdd) {
            let sealed = detail(SEALED_DETAIL).is_some();
            self.added = Some(Added {
                line: line.line,
                role: detail("role").unwrap_or_default(),
                by: line.actor.clone(),
                sealed,
            });
            if sealed {
                self.hear_public_keys(line);
            } else {
                self.key = Some(given());
            }
        } else if is(AuditAction::ClientRenew) {
            let overlap = detail(OVERLAP_DETAIL).and_then(|seconds| seconds.parse().ok());
            let ends = line.at.plus(Duration::from_secs(overlap.unwrap_or(0)));
            self.before = self.key.take().map(|key| (key, ends));
            self.key = Some(given());
        } else if is(AuditAction::ClientRevoke) {
            self.revoked = Some(line.line);
        } else if is(AuditAction::ClientKeyAdd) {
            self.hear_public_keys(line);
        } else if let Some(kid) = detail(KID_DETAIL) {
            self.revoked_keys.insert(kid, line.line);
        }
    }

    fn hear_public_keys(&mut self, line: &AuditLine) {
        let kids = KID_DETAILS
            .iter()
            .filter_map(|name| line.details.get(*name));
        let kids: Vec<_> = kids.map(|kid| (kid.clone(), line.line)).collect();
        self.unnamed |= kids.is_empty();
        self.public_keys.extend(kids);
    }
}

fn is_of_a_drill(client: &ClientInfo) -> bool {
    client.name.starts_with(DRILL_CLIENT) && client.revoked_at.is_some()
}

/// A client that no line tells of. One that is not let in does no harm.
fn stranger(client: &ClientInfo, told: &Told) -> Vec<String> {
    let revoked = told.revoked.map(|line| {
        format!("was revoked (line {line} of the audit log) and is let in by the store")
    });
    let unknown = "is in the store, and no line of the audit log tells who has added it: revoke it, and add it \
                   anew under another name if it is yours";
    match client.revoked_at {
        Some(_) => Vec::new(),
        None => vec![revoked.unwrap_or_else(|| unknown.to_owned())],
    }
}

fn as_added(client: &ClientInfo, added: &Added) -> Vec<String> {
    let line = added.line;
    let mut faults = Vec::new();
    if added.role != client.role.as_str() {
        let (role, found) = (&added.role, client.role);
        faults.push(format!(
            "was added as {role} (line {line} of the audit log) and is {found} in the store"
        ));
    }
    if added.sealed != client.sealed {
        let way = |sealed| {
            if sealed {
                "sealed messages"
            } else {
                "an API key"
            }
        };
        let (added, found) = (way(added.sealed), way(client.sealed));
        faults.push(format!(
            "was added to speak by {added} (line {line} of the audit log) and speaks by {found} in the store"
        ));
    }
    faults
}

fn as_revoked(client: &ClientInfo, told: &Told) -> Vec<String> {
    match (told.revoked, client.revoked_at) {
        (Some(line), None) => vec![format!(
            "was revoked (line {line} of the audit log) and is let in by the store"
        )],
        (None, Some(_)) => vec![
            "is revoked in the store, and no line of the audit log tells who has revoked it"
                .to_owned(),
        ],
        (Some(_), Some(_)) | (None, None) => Vec::new(),
    }
}

fn api_keys(client: &ClientInfo, names: &KeyNames, told: &Told, now: Timestamp) -> Vec<String> {
    let mut faults = Vec::new();
    if client.sealed {
        return faults;
    }
    if let Some(Given {
        line,
        name: Some(name),
    }) = &told.key
        && *name != names.api_key
    {
        faults.push(format!(
            "has another API key in the store than it was given (line {line} of the audit log)"
        ));
    }
    let Some((old, ends_at)) = names.old.as_ref().filter(|(_, ends_at)| *ends_at > now) else {
        return faults;
    };
    match &told.before {
        // Not named, and so passed over.
        Some((Given { name: None, .. }, _)) => {}
        Some((Given { name: Some(name), .. }, until))
            if name == old && ends_at.since(*until) <= SAME_TIME => {}
        Some((Given { line, .. }, until)) => faults.push(format!(
            "is let in until {ends_at} with an old API key that is not the one which it was given before \
             (line {line} of the audit log) and which ends at {until}"
        )),
        None => faults.push(format!(
            "is let in until {ends_at} with an old API key, and no line of the audit log tells of a new one"
        )),
    }
    faults
}

fn public_keys(client: &ClientInfo, names: &KeyNames, told: &Told) -> Vec<String> {
    let mut faults = Vec::new();
    let live = names.public_keys.iter().filter(|(_, live)| **live);
    for (kid, _) in live {
        if let Some(line) = told.revoked_keys.get(kid) {
            faults.push(format!(
                "has the public key {kid}, which was revoked (line {line} of the audit log) and is live in \
                 the store"
            ));
        } else if !told.unnamed && !told.public_keys.contains_key(kid) {
            faults.push(format!(
                "has the public key {kid} in the store, and no line of the audit log tells who has added it"
            ));
        }
    }
    if client.sealed {
        let gone = told.public_keys.iter();
        let gone = gone.filter(|(kid, _)| !names.public_keys.contains_key(*kid));
        faults.extend(gone.map(|(kid, line)| {
            format!(
                "was given the public key {kid} (line {line} of the audit log), which is not in the store"
            )
        }));
    }
    faults
}

const HEADER: [&str; 7] = [
    "client",
    "role",
    "speaks by",
    "since",
    "revoked",
    "the audit log",
    "its keys there",
];

fn row(client: &ClientInfo, told: &Told) -> Vec<String> {
    let line = told.added.as_ref().map_or_else(
        || "no line".to_owned(),
        |added| format!("line {}: {}, by {}", added.line, added.role, added.by),
    );
    let speaks = if client.sealed {
        "sealed messages"
    } else {
        "API key"
    };
    let revoked = client.revoked_at;
    vec![
        client.name.clone(),
        client.role.to_string(),
        speaks.to_owned(),
        client.created_at.to_string(),
        revoked.map_or_else(String::new, |at| at.to_string()),
        line,
        keys_there(client, told),
    ]
}

/// Which lines tell of a client's keys.
fn keys_there(client: &ClientInfo, told: &Told) -> String {
    let unnamed = "passed over: a line of an earlier version names no key";
    if client.sealed {
        let kids: Vec<&str> = told.public_keys.keys().map(String::as_str).collect();
        return if told.unnamed {
            unnamed.to_owned()
        } else {
            kids.join(", ")
        };
    }
    match &told.key {
        Some(Given {
            line,
            name: Some(name),
        }) => format!("line {line}: {name}"),
        Some(Given { name: None, .. }) => unnamed.to_owned(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests;
