//! Connections: every host that this installation reaches, how they are protected, and who answers
//! for what at each provider.

use std::time::Duration;

use cardless_contract::{ProviderPlace, Purpose, Timestamp};
use cardless_transport::{Handshake, Names, TlsFacts, handshake, viable_suite, viable_version};
use url::Url;

use super::{Claim, Door, Question, Section, Sources, Statement, Table};
use crate::error::Error;
use crate::gateway::{
    AuditAction, AuditLine, AuditObject, AuditOutcome, AuditQuery, Declared, MAX_AUDIT_LINES,
};
use crate::letters::{of_hexadecimal, to_hexadecimal};
use crate::registry;

/// How old the record of a handshake may be.
const PROBE_LIMIT: Duration = Duration::from_secs(90 * 24 * 3600);

/// What a person does for a new record.
const PROBE_AGAIN: &str = "run `cardless scope --probe`";

/// How many certificates of a chain are kept.
const MAX_CERTIFICATES: usize = 4;

/// The names of their digests in a line of the audit log.
const CERTIFICATES: [&str; MAX_CERTIFICATES] = [
    "certificate",
    "certificate_2",
    "certificate_3",
    "certificate_4",
];

const HOSTS: Claim = Claim {
    id: "connections-1",
    requirements: &["1.2.5", "12.5.2"],
    says: "Every host that a provider's adapter reaches, or sends a customer to, is one of the provider's \
           own by its documents, over https on port 443, or it is this machine",
    proof: "the adapters' own lists, by which they refuse every other address, compared with the \
            program's list of the providers' documented hosts",
};

const OTHERS: Claim = Claim {
    id: "connections-2",
    requirements: &["1.2.5", "4.2.1"],
    says: "What else is reached or listened on is https, or this machine",
    proof: "the settings in force",
};

const TLS: Claim = Claim {
    id: "connections-3",
    requirements: &["4.2.1", "12.3.3"],
    says: "TLS offers strong cryptography alone to every server",
    proof: "the first message that a client with the settings in force would send, and the list of \
            trusted authorities that it verifies by",
};

const NOTHING_ELSE: Claim = Claim {
    id: "connections-4",
    requirements: &["1.2.5"],
    says: "Nothing else in this program makes connections",
    proof: "a listing: shown at build, by tests of the program's sources and of its dependencies' list; this report does \
            not look at them anew",
};

const AGREED: Claim = Claim {
    id: "connections-5",
    requirements: &["4.2.1", "4.2.1.1", "12.5.2"],
    says: "Every host beyond this machine has agreed on strong cryptography within the last 90 days",
    proof: "one handshake with each, by the same settings, without any request; what came of it is in \
            the audit log (`scope.probe`)",
};

const RESPONSIBLE: Claim = Claim {
    id: "connections-6",
    requirements: &["6.4.3", "11.6.1", "12.8.1", "12.8.5"],
    says: "At every provider a customer enters a card, or signs in, on the provider's own page, to which \
           the browser is sent by a full redirect; no page, frame or script of a payment form comes from \
           here",
    proof: "the adapters' places, by which an address for the customer is refused that is not there; the \
            doors of the service, of which each that is open to everybody gives data, text or a way on, \
            and no page",
};

/// The hosts that the providers' documents name, by provider. The adapters have lists of their own.
const DOCUMENTED: [(&str, &[&str]); 3] = [
    (
        "aduno",
        &[
            "api.datatrans.com",
            "api.sandbox.datatrans.com",
            "pay.datatrans.com",
            "pay.sandbox.datatrans.com",
        ],
    ),
    (
        "paypal",
        &[
            "api-m.paypal.com",
            "api-m.sandbox.paypal.com",
            "api.paypal.com",
            "api.sandbox.paypal.com",
            "sandbox.paypal.com",
            "www.paypal.com",
            "www.sandbox.paypal.com",
        ],
    ),
    ("postfinance", &["checkout.postfinance.ch"]),
];

/// The port of https, and of everything beyond this machine.
const HTTPS_PORT: u16 = 443;

/// What the section is made from.
#[derive(Debug, Clone)]
struct Facts {
    providers: Vec<Declared>,
    /// Where events go, as `https://billing.example`.
    events: Option<String>,
    /// Where the service listens.
    listen: Option<String>,
    /// TLS by whom it is used; `None` where it can't be set up.
    tls: Vec<(&'static str, Option<TlsFacts>)>,
    /// The latest line of each host.
    probes: Vec<AuditLine>,
    doors: Vec<Door>,
    now: Timestamp,
}

/// A host beyond this machine, and the settings by which it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    whose: String,
    host: String,
    port: u16,
    names: Names,
}

pub(super) async fn section(sources: &Sources) -> Result<Section, Error> {
    Ok(of(&facts(sources).await?))
}

/// Opens one TLS connection to each host beyond this machine, asks nothing, and writes what came of
/// it to the audit log. Gives how many there were, and how many agreed.
///
/// # Errors
///
/// [`Code::StoreUnavailable`](crate::error::Code::StoreUnavailable). That a host does not answer is
/// no error; its line says so.
pub async fn probe(sources: &Sources) -> Result<(usize, usize), Error> {
    let targets = targets(&facts(sources).await?);
    let mut agreed = 0;
    for target in &targets {
        let config = registry::way_out(target.names);
        let result = handshake(&config, &target.host, target.port).await;
        let object = AuditObject::provider(&target.whose);
        let line = sources.gateway.audit(AuditAction::ScopeProbe, object);
        let line = line
            .detail("host", &target.host)
            .detail("port", target.port);
        let line = match result {
            Ok(handshake) => {
                agreed += 1;
                let details = kept(handshake).into_iter();
                details.fold(line, |line, (name, word)| line.detail(name, word))
            }
            Err(error) => line.outcome(AuditOutcome::Failed).detail("error", error),
        };
        line.write().await?;
    }
    Ok((targets.len(), agreed))
}

/// What is kept of a handshake, by the names of its details.
fn kept(handshake: Handshake) -> Vec<(&'static str, String)> {
    let or_none = |word: Option<String>| word.unwrap_or_else(|| "none".to_owned());
    let terms = [
        ("version", handshake.version),
        ("suite", handshake.suite.name),
        ("group", or_none(handshake.group)),
        ("protocol", or_none(handshake.protocol)),
    ];
    let digests = handshake.certificates.iter();
    let digests = digests.map(|digest| of_hexadecimal(digest));
    terms
        .into_iter()
        .chain(CERTIFICATES.into_iter().zip(digests))
        .collect()
}

async fn facts(sources: &Sources) -> Result<Facts, Error> {
    let settings = sources.settings.as_ref();
    let read = |names| TlsFacts::of(&registry::way_out(names)).ok();
    Ok(Facts {
        providers: sources.gateway.declared(),
        events: settings.and_then(|settings| settings.events_origin.clone()),
        listen: settings.map(|settings| settings.listen.clone()),
        tls: in_use(read(Names::Public), read(Names::Anywhere)),
        probes: probes(sources).await?,
        doors: sources.doors.clone(),
        now: sources.gateway.now(),
    })
}

/// TLS by whom it is used, once where it is the same.
fn in_use(
    providers: Option<TlsFacts>,
    events: Option<TlsFacts>,
) -> Vec<(&'static str, Option<TlsFacts>)> {
    if providers == events {
        return vec![("calls to providers, events", providers)];
    }
    vec![("calls to providers", providers), ("events", events)]
}

/// The latest line of each host, of the last ones.
async fn probes(sources: &Sources) -> Result<Vec<AuditLine>, Error> {
    let query = AuditQuery {
        action: Some(AuditAction::ScopeProbe.as_str().to_owned()),
        object: None,
        account: None,
        before: None,
        limit: MAX_AUDIT_LINES,
    };
    let mut latest: Vec<AuditLine> = Vec::new();
    for line in sources.gateway.audit_lines(&query).await?.data {
        let known = |one: &AuditLine| at(one) == at(&line);
        if !latest.iter().any(known) {
            latest.push(line);
        }
    }
    Ok(latest)
}

/// Host and port that a line is about.
fn at(line: &AuditLine) -> (&str, &str) {
    (line.detail("host"), line.detail("port"))
}

fn of(facts: &Facts) -> Section {
    Section {
        id: "connections",
        title: "Connections",
        statements: vec![
            hosts(facts),
            others(facts),
            tls(facts),
            nothing_else(),
            agreed(facts),
            responsible(facts),
        ],
        figures: Vec::new(),
        questions: QUESTIONS.to_vec(),
    }
}

const QUESTIONS: [Question; 6] = [
    Question {
        id: "connections-q1",
        requirements: &["12.8.4"],
        asks: "Of what date is each provider's attestation of compliance (AOC), which services of \
               connections-6 does it cover, and who asks for the next one, when?",
    },
    Question {
        id: "connections-q2",
        requirements: &["12.8.2", "12.8.5"],
        asks: "Where are the contracts with the providers, in which they acknowledge what they answer \
               for? For `aduno` that is the gateway (Datatrans) and the acquirer.",
    },
    Question {
        id: "connections-q3",
        requirements: &["6.4.3", "11.6.1", "12.5.2"],
        asks: "Does any page of the billing service embed a provider's form (a frame or a script), or \
               does each send the browser away whole? Who can change those pages?",
    },
    Question {
        id: "connections-q4",
        requirements: &["1.2.5", "1.3.2"],
        asks: "Do the network's own rules let this machine reach the hosts of connections-1 and \
               connections-2, the name service and nothing else?",
    },
    Question {
        id: "connections-q5",
        requirements: &["2.2.7", "4.2.1"],
        asks: "What ends TLS in front of the listener, which versions and suites does it take, and who \
               renews its certificate?",
    },
    Question {
        id: "connections-q6",
        requirements: &["4.2.1"],
        asks: "Certificates are checked for their name, their dates and their authority; whether one was \
               revoked is not looked up. Is that accepted, or does something on the way out look?",
    },
];

fn hosts(facts: &Facts) -> Statement {
    let mut faults = Vec::new();
    let mut rows = Vec::new();
    for one in &facts.providers {
        if one.places.is_empty() {
            faults.push(format!("{} declares no place", one.provider));
        }
        for place in &one.places {
            let wrong = fault(&one.provider, place);
            let why = match &wrong {
                Some(_) => "unknown",
                None if place.loopback => "this machine",
                None => "documented",
            };
            rows.push(vec![
                one.provider.clone(),
                place.to_string(),
                purposes(place),
                place.operator.to_owned(),
                why.to_owned(),
            ]);
            faults.extend(wrong);
        }
    }
    let header = vec!["provider", "place", "for", "run by", "why"];
    HOSTS.judged(
        faults,
        Table::new(header, rows).or_none("no provider is set"),
    )
}

/// What is wrong with a place, if anything.
fn fault(provider: &str, place: &ProviderPlace) -> Option<String> {
    if place.loopback && is_loopback(&place.host) {
        return None;
    }
    let mut documented = DOCUMENTED.iter().filter(|(name, _)| *name == provider);
    if !documented.any(|(_, hosts)| hosts.contains(&place.host.as_str())) {
        return Some(format!("{provider}: {place} is on no list of its hosts"));
    }
    let protected = place.scheme == "https" && place.port == HTTPS_PORT;
    (!protected).then(|| format!("{provider}: {place} is not https on port {HTTPS_PORT}"))
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn purposes(place: &ProviderPlace) -> String {
    let purposes = place.purposes.iter().map(|purpose| purpose.as_str());
    purposes.collect::<Vec<_>>().join(", ")
}

fn others(facts: &Facts) -> Statement {
    let mut faults = Vec::new();
    if let Some(origin) = facts
        .events
        .as_deref()
        .filter(|origin| !is_protected(origin))
    {
        faults.push(format!(
            "events go to {origin}, which is neither https nor here"
        ));
    }
    let here = |listen: &&str| {
        let address = listen.parse::<std::net::SocketAddr>();
        address.is_ok_and(|address| address.ip().is_loopback())
    };
    let beyond = facts.listen.as_deref().filter(|listen| !here(listen));
    faults.extend(beyond.map(|listen| format!("the listener on {listen} is not on loopback")));
    let or = |what: &Option<String>, none: &str| what.clone().unwrap_or_else(|| none.to_owned());
    let rows = [
        [
            "out",
            "events to the billing service",
            &or(&facts.events, "not sent"),
        ],
        [
            "out",
            "names of hosts",
            "the operating system's name service",
        ],
        ["in", "the listener", &or(&facts.listen, "none")],
    ];
    let rows = rows.map(|row| row.map(str::to_owned).to_vec()).to_vec();
    OTHERS.judged(faults, Table::new(vec!["way", "what", "where"], rows))
}

fn is_protected(origin: &str) -> bool {
    Url::parse(origin)
        .is_ok_and(|url| url.scheme() == "https" || url.host_str().is_some_and(is_loopback))
}

fn tls(facts: &Facts) -> Statement {
    let mut faults = Vec::new();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (whose, facts) in &facts.tls {
        let Some(facts) = facts else {
            faults.push(format!("{whose}: TLS can't be set up"));
            continue;
        };
        faults.extend(
            facts
                .weaknesses()
                .iter()
                .map(|one| format!("{whose}: {one}")),
        );
        let mut row = |what: &str, value: String, why: &str| {
            rows.push(vec![
                (*whose).to_owned(),
                what.to_owned(),
                value,
                why.to_owned(),
            ]);
        };
        for version in &facts.versions {
            let why = viable_version(version).unwrap_or("not known to be strong");
            row("version", version.clone(), why);
        }
        for suite in &facts.suites {
            let why = viable_suite(&suite.name).unwrap_or("not known to be strong");
            row(
                "suite",
                format!("{}, {} bits", suite.name, suite.key_bits),
                why,
            );
        }
        row("key exchange", facts.groups.join(", "), "");
        row("signatures", facts.signatures.join(", "), "");
        row("protocols", facts.protocols.join(", "), "");
        row("early data", yes(facts.early_data), "it could be replayed");
        row(
            "trusted authorities",
            facts.roots.to_string(),
            "Mozilla's list, built in",
        );
        row("certificate of ours", yes(facts.client_certificate), "");
        row(
            "looks for revoked certificates",
            yes(facts.revocation),
            "nothing here would keep lists of them fresh",
        );
    }
    TLS.judged(
        faults,
        Table::new(vec!["for", "what", "value", "why"], rows).or_none("no client"),
    )
}

fn yes(is_so: bool) -> String {
    (if is_so { "yes" } else { "no" }).to_owned()
}

fn nothing_else() -> Statement {
    let rows = [
        [
            "an HTTP client is a dependency of `cardless-transport` alone",
            "tests/architecture.rs, the_arrows_between_crates_go_one_way",
        ],
        [
            "no other source opens a socket to elsewhere or resolves a name",
            "tests/architecture.rs, nothing_but_the_transport_connects",
        ],
        [
            "the transport refuses an address that is not on the provider's list",
            "providers/transport/tests/network.rs, transport_sends_to_its_hosts_only",
        ],
        [
            "what leaves is in the adapters' tables of calls",
            "tests/contract, what_paypal_declares_is_what_leaves and two more",
        ],
    ];
    let rows = rows.map(|row| row.map(str::to_owned).to_vec()).to_vec();
    NOTHING_ELSE.judged(Vec::new(), Table::new(vec!["rule", "test"], rows))
}

/// Every host beyond this machine, once.
fn targets(facts: &Facts) -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::new();
    for one in &facts.providers {
        // A page is for the customer's browser; this machine may not even be let there.
        let called = |place: &&ProviderPlace| {
            !place.loopback
                && place
                    .purposes
                    .iter()
                    .any(|purpose| *purpose != Purpose::CustomerPage)
        };
        let beyond = one.places.iter().filter(called);
        targets.extend(beyond.map(|place| Target {
            whose: one.provider.clone(),
            host: place.host.clone(),
            port: place.port,
            names: Names::Public,
        }));
    }
    let events = facts
        .events
        .as_deref()
        .and_then(|origin| Url::parse(origin).ok());
    let events = events.filter(|url| !url.host_str().is_some_and(is_loopback));
    targets.extend(events.and_then(|url| {
        Some(Target {
            whose: "events".to_owned(),
            host: url.host_str()?.to_owned(),
            port: url.port_or_known_default()?,
            names: Names::Anywhere,
        })
    }));
    targets
}

fn agreed(facts: &Facts) -> Statement {
    let mut faults = Vec::new();
    let mut rows = Vec::new();
    let mut oldest: Option<Timestamp> = None;
    for target in targets(facts) {
        let (host, port) = (target.host.as_str(), target.port.to_string());
        let line = facts.probes.iter().find(|line| at(line) == (host, &port));
        let place = format!("{host}:{port}");
        let Some(line) = line else {
            faults.push(format!("{place} was never probed; {PROBE_AGAIN}"));
            rows.push(vec![
                target.whose,
                place,
                "never".to_owned(),
                String::new(),
                String::new(),
            ]);
            continue;
        };
        faults.extend(disagreement(line).map(|why| format!("{place}: {why}")));
        oldest = Some(oldest.map_or(line.at, |oldest| oldest.min(line.at)));
        rows.push(vec![
            target.whose,
            place,
            line.at.to_string(),
            terms(line),
            chain(line),
        ]);
    }
    let header = vec!["for", "host", "when", "agreed on", "certificates (SHA-256)"];
    let statement = AGREED.judged(
        faults,
        Table::new(header, rows)
            .or_none("no host beyond this machine")
            .moving(&[2]),
    );
    match oldest {
        Some(at) => statement.looked_at(at, facts.now, PROBE_LIMIT, PROBE_AGAIN),
        None => statement,
    }
}

/// Why a handshake is no evidence of strong cryptography.
fn disagreement(line: &AuditLine) -> Option<String> {
    if line.outcome != AuditOutcome::Done.as_str() {
        return Some(format!("no agreement: {}", line.detail("error")));
    }
    let (version, suite) = (line.detail("version"), line.detail("suite"));
    let strong = viable_version(version).is_some() && viable_suite(suite).is_some();
    (!strong).then(|| format!("{version} with {suite} is not known to be strong"))
}

fn terms(line: &AuditLine) -> String {
    let names = ["version", "suite", "group", "protocol", "error"];
    let words = names.map(|name| line.detail(name));
    let words = words.into_iter().filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(", ")
}

fn chain(line: &AuditLine) -> String {
    let digests = CERTIFICATES.map(|name| line.detail(name));
    let digests = digests.into_iter().filter(|digest| !digest.is_empty());
    digests.map(to_hexadecimal).collect::<Vec<_>>().join(", ")
}

fn responsible(facts: &Facts) -> Statement {
    let open = facts.doors.iter().filter(|door| door.open);
    let pages = open.filter(|door| door.gives.iter().any(|given| given == Door::REPORT));
    let mut faults: Vec<String> = pages
        .map(|door| format!("{} {} gives everybody a page", door.method, door.path))
        .collect();
    let mut rows = Vec::new();
    for one in &facts.providers {
        let pages = one.places.iter();
        let mut pages = pages.filter(|place| place.purposes.contains(&Purpose::CustomerPage));
        let Some(page) = pages.next() else {
            faults.push(format!(
                "{} has no page of its own for the customer",
                one.provider
            ));
            continue;
        };
        let (operator, host) = (page.operator, page.host.as_str());
        let mut row = |what: &str, who: &str| {
            rows.push(vec![one.provider.clone(), what.to_owned(), who.to_owned()]);
        };
        row(
            "the page where a card is entered, its scripts and headers (6.4.3, 11.6.1)",
            &format!("{operator}, at {host}"),
        );
        row(
            "card numbers and security codes: capture, storage, authorization",
            operator,
        );
        row(
            "the address of the page, made by the provider for one customer and passed on whole",
            "this installation",
        );
        row(
            "tokens: sealed here, and accepted from here alone by these credentials",
            "this installation",
        );
        row(
            "the page that sends the customer to the provider",
            "the billing service's owner",
        );
    }
    let saq = [
        "what that means for SAQ A (v4.0.1 r1)",
        "where the browser is redirected whole, the criterion about scripts on the merchant's own page does \
         not apply (PCI SSC FAQ 1588), and 6.4.3 and 11.6.1 are the page owner's; whether this \
         installation is eligible, the assessor decides",
    ];
    let [what, means] = saq.map(str::to_owned);
    rows.push(vec!["all".to_owned(), what, means]);
    let header = vec!["provider", "what", "who"];
    RESPONSIBLE.judged(faults, Table::new(header, rows))
}

#[cfg(test)]
#[cfg(feature = "serve")]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use cardless_transport::Suite;

    use super::super::flows::tests::{declared, declared_by};
    use super::*;

    const DAY_SECONDS: i64 = 24 * 3600;
    const NOW: i64 = 1_800_000_000;

    /// A handshake with a host, as the audit log has it.
    fn probed(host: &str, days_ago: i64, version: &str, suite: &str) -> AuditLine {
        let details = [
            ("host", host),
            ("port", "443"),
            ("version", version),
            ("suite", suite),
            ("group", "X25519"),
            ("certificate", &of_hexadecimal(&"0f".repeat(32))),
        ];
        let details = details.map(|(name, word)| (name.to_owned(), word.to_owned()));
        AuditLine {
            line: 1,
            at: Timestamp::from_seconds(NOW - days_ago * DAY_SECONDS),
            actor: "a".to_owned(),
            role: "operator".to_owned(),
            origin: "command_line".to_owned(),
            action: AuditAction::ScopeProbe.as_str().to_owned(),
            object: String::new(),
            outcome: AuditOutcome::Done.as_str().to_owned(),
            details: BTreeMap::from(details),
        }
    }

    fn facts() -> Facts {
        let mut facts = Facts {
            providers: declared(),
            events: Some("https://billing.example".to_owned()),
            listen: Some("127.0.0.1:8080".to_owned()),
            tls: vec![(
                "calls to providers",
                TlsFacts::of(&registry::way_out(Names::Public)).ok(),
            )],
            probes: Vec::new(),
            doors: Vec::new(),
            now: Timestamp::from_seconds(NOW),
        };
        let hosts = targets(&facts).into_iter().map(|target| target.host);
        let probed = |host: String| probed(&host, 1, "TLSv1_3", "TLS13_AES_256_GCM_SHA384");
        facts.probes = hosts.map(probed).collect();
        facts
    }

    /// The faults of one statement; the others hold.
    fn faults(facts: &Facts, id: &str) -> Vec<String> {
        let section = of(facts);
        for other in section.statements.iter().filter(|one| one.claim.id != id) {
            assert!(other.holds, "{}: {:?}", other.claim.id, other.faults);
        }
        let mut statements = section.statements.into_iter();
        statements.find(|one| one.claim.id == id).unwrap().faults
    }

    #[test]
    fn what_is_in_order_holds() {
        for statement in of(&facts()).statements {
            assert!(
                statement.holds,
                "{}: {:?}",
                statement.claim.id, statement.faults
            );
            assert!(
                !statement.evidence.rows.is_empty(),
                "{}",
                statement.claim.id
            );
        }
        let nothing = Facts {
            providers: Vec::new(),
            events: None,
            listen: None,
            tls: Vec::new(),
            probes: Vec::new(),
            doors: Vec::new(),
            now: Timestamp::from_seconds(NOW),
        };
        for statement in of(&nothing).statements {
            assert!(
                statement.holds,
                "{}: {:?}",
                statement.claim.id, statement.faults
            );
            assert!(
                !statement.evidence.rows.is_empty(),
                "{}",
                statement.claim.id
            );
        }
    }

    /// Our list of documented hosts is what the adapters have, and no more.
    #[test]
    fn every_documented_host_is_reached_by_some_settings() {
        let sandbox = r#"
            [providers.aduno]
            environment = "sandbox"
            merchant_id = "1100000000"
            password = "secret"
            webhook_key = "000102030405060708090a0b0c0d0e0f"
            [providers.paypal]
            environment = "sandbox"
            client_id = "id"
            client_secret = "secret"
            webhook_id = "WH1"
            token_kind = "vault_v3"
        "#;
        let all = [declared(), declared_by(sandbox)].concat();
        let reached: BTreeSet<(String, String)> = all
            .iter()
            .flat_map(|one| {
                let places = one.places.iter();
                places.map(|place| (one.provider.clone(), place.host.clone()))
            })
            .collect();
        let documented: BTreeSet<(String, String)> = DOCUMENTED
            .iter()
            .flat_map(|(name, hosts)| {
                let hosts = hosts.iter();
                hosts.map(|host| ((*name).to_owned(), (*host).to_owned()))
            })
            .collect();
        assert_eq!(reached, documented);
    }

    #[test]
    fn an_extra_host_is_found() {
        let mut planted = facts();
        let mut place = planted.providers[1].places[0].clone();
        place.host = "evil.example".to_owned();
        planted.providers[1].places.push(place);
        let at = "https://evil.example:443";
        let probe = probed("evil.example", 1, "TLSv1_3", "TLS13_AES_256_GCM_SHA384");
        planted.probes.push(probe);
        assert_eq!(
            faults(&planted, "connections-1"),
            [format!("paypal: {at} is on no list of its hosts")]
        );
        // One provider's host is not another's, and what calls itself loopback must be.
        let mut planted = facts();
        "www.paypal.com".clone_into(&mut planted.providers[0].places[0].host);
        let probe = probed("www.paypal.com", 1, "TLSv1_3", "TLS13_AES_256_GCM_SHA384");
        planted.probes.push(probe);
        planted.providers[2].places[0].loopback = true;
        "10.0.0.1".clone_into(&mut planted.providers[2].places[0].host);
        assert_eq!(
            faults(&planted, "connections-1"),
            [
                "aduno: https://www.paypal.com:443 is on no list of its hosts",
                "postfinance: https://10.0.0.1:443/api/v2.0 is on no list of its hosts"
            ]
        );
    }

    #[test]
    fn a_door_that_gives_everybody_a_page_is_found() {
        let mut planted = facts();
        planted.doors.push(Door {
            method: "GET".to_owned(),
            path: "/pay".to_owned(),
            id: "page".to_owned(),
            summary: String::new(),
            open: true,
            roles: Vec::new(),
            takes: Vec::new(),
            gives: vec![Door::REPORT.to_owned()],
        });
        let faults = faults(&planted, "connections-6");
        assert_eq!(faults, ["GET /pay gives everybody a page"]);
    }

    #[test]
    fn a_host_over_http_is_found() {
        let mut planted = facts();
        let place = &mut planted.providers[2].places[0];
        "http".clone_into(&mut place.scheme);
        assert_eq!(
            faults(&planted, "connections-1"),
            ["postfinance: http://checkout.postfinance.ch:443/api/v2.0 is not https on port 443"]
        );
        let mut planted = facts();
        planted.events = Some("http://billing.example".to_owned());
        planted.probes.push(AuditLine {
            details: BTreeMap::from([
                ("host".to_owned(), "billing.example".to_owned()),
                ("port".to_owned(), "80".to_owned()),
                ("version".to_owned(), "TLSv1_3".to_owned()),
                ("suite".to_owned(), "TLS13_AES_256_GCM_SHA384".to_owned()),
            ]),
            ..planted.probes[0].clone()
        });
        assert_eq!(
            faults(&planted, "connections-2"),
            ["events go to http://billing.example, which is neither https nor here"]
        );
        let mut planted = facts();
        planted.listen = Some("0.0.0.0:8080".to_owned());
        assert_eq!(
            faults(&planted, "connections-2"),
            ["the listener on 0.0.0.0:8080 is not on loopback"]
        );
    }

    #[test]
    fn a_weak_suite_and_an_old_version_are_found() {
        let mut planted = facts();
        let tls = planted.tls[0].1.as_mut().unwrap();
        tls.suites.push(Suite {
            name: "TLS_RSA_WITH_3DES_EDE_CBC_SHA".to_owned(),
            key_bits: 112,
        });
        tls.versions.push("TLSv1_0".to_owned());
        assert_eq!(
            faults(&planted, "connections-3"),
            [
                "calls to providers: version TLSv1_0",
                "calls to providers: suite TLS_RSA_WITH_3DES_EDE_CBC_SHA (112 bits)"
            ]
        );
        let host = "checkout.postfinance.ch";
        for (version, suite) in [
            ("TLSv1_1", "TLS13_AES_256_GCM_SHA384"),
            ("TLSv1_2", "TLS_RSA_WITH_AES_128_CBC_SHA"),
        ] {
            let mut planted = facts();
            planted.probes.retain(|line| line.detail("host") != host);
            planted.probes.push(probed(host, 1, version, suite));
            assert_eq!(
                faults(&planted, "connections-5"),
                [format!(
                    "{host}:443: {version} with {suite} is not known to be strong"
                )]
            );
        }
    }

    #[test]
    fn tls_that_differs_is_shown_twice() {
        let facts = facts().tls[0].1.clone();
        let mut other = facts.clone();
        other.as_mut().unwrap().early_data = true;
        assert_eq!(in_use(facts.clone(), facts.clone()).len(), 1);
        assert_eq!(in_use(facts, other).len(), 2);
    }

    #[test]
    fn a_record_that_is_missing_failed_or_old_is_found() {
        let host = "checkout.postfinance.ch";
        let mut planted = facts();
        planted.probes.retain(|line| line.detail("host") != host);
        let without = planted.clone();
        assert_eq!(
            faults(&planted, "connections-5"),
            [format!("{host}:443 was never probed; {PROBE_AGAIN}")]
        );
        let mut failed = probed(host, 1, "", "");
        AuditOutcome::Failed
            .as_str()
            .clone_into(&mut failed.outcome);
        failed
            .details
            .insert("error".to_owned(), "no connection".to_owned());
        planted.probes.push(failed);
        assert_eq!(
            faults(&planted, "connections-5"),
            [format!("{host}:443: no agreement: no connection")]
        );
        for (days, holds) in [(90, true), (91, false)] {
            let mut planted = without.clone();
            let suite = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384";
            planted.probes.push(probed(host, days, "TLSv1_2", suite));
            let faults = faults(&planted, "connections-5");
            assert_eq!(faults.is_empty(), holds, "{days} days: {faults:?}");
            let told = faults.iter().all(|fault| fault.starts_with("stale"));
            assert!(told, "{faults:?}");
        }
    }

    #[test]
    fn a_provider_without_a_page_is_found() {
        let mut planted = facts();
        planted.providers[2].places[0].purposes = &[Purpose::Api];
        assert_eq!(
            faults(&planted, "connections-6"),
            ["postfinance has no page of its own for the customer"]
        );
    }

    #[test]
    fn what_is_kept_of_a_handshake_is_what_is_read_again() {
        let kept = kept(Handshake {
            version: "TLSv1_3".to_owned(),
            suite: Suite {
                name: "TLS13_AES_256_GCM_SHA384".to_owned(),
                key_bits: 256,
            },
            group: Some("X25519".to_owned()),
            protocol: None,
            certificates: vec!["01ef".repeat(16); MAX_CERTIFICATES + 1],
        });
        let details = kept.into_iter();
        let line = AuditLine {
            details: details
                .map(|(name, word)| (name.to_owned(), word))
                .collect(),
            ..probed("a.example", 0, "", "")
        };
        assert_eq!(disagreement(&line), None);
        assert_eq!(
            terms(&line),
            "TLSv1_3, TLS13_AES_256_GCM_SHA384, X25519, none"
        );
        assert_eq!(
            chain(&line),
            vec!["01ef".repeat(16); MAX_CERTIFICATES].join(", ")
        );
    }

    #[test]
    fn a_digest_comes_back_as_it_was() {
        let digest = "0123456789abcdef".repeat(4);
        assert_eq!(to_hexadecimal(&of_hexadecimal(&digest)), digest);
        assert!(of_hexadecimal(&digest).chars().all(char::is_alphabetic));
    }

    #[test]
    fn this_machine_is_not_probed() {
        let settings = "[providers.postfinance]\nspace_id = 405\nuser_id = \"512\"\n\
                        authentication_key = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"\n\
                        base_url = \"http://127.0.0.1:9102/api/v2.0\"";
        let planted = Facts {
            providers: declared_by(settings),
            events: Some("http://[::1]:9000".to_owned()),
            probes: Vec::new(),
            ..facts()
        };
        assert_eq!(targets(&planted), []);
        assert_eq!(faults(&planted, "connections-5"), [""; 0]);
    }
}
