//! The inventory of cryptography: each algorithm, what its keys are, what it is for and where it
//! stands; how old the keys are, and what was done with them.

use std::time::Duration;

use cardless_contract::Timestamp;

use super::{Claim, Question, Section, Sources, Statement, Table, days, is_ahead};
use crate::error::Error;
use crate::gateway::{ExchangeKeyAge, KeysReport, MAX_USES, RotationInfo, WARN_AGE, WARN_USES};

/// One use of cryptography in our own code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    /// The algorithm, as [`VIABLE`] names it.
    pub algorithm: &'static str,
    /// What its keys are, and how large.
    pub key: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// The crate that carries it out, as Rust names it.
    pub by: &'static str,
    /// Where it is asked for, below the repository's root.
    pub files: &'static [&'static str],
    /// The setting that its key comes from, if any.
    pub setting: &'static str,
}

/// An algorithm that may be used, and what is known of its future.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Viable {
    /// Its name.
    pub algorithm: &'static str,
    /// Why it is viable, and what would end that.
    pub because: &'static str,
}

/// Every use of cryptography in our own code. TLS stands among the connections. That nothing is
/// missing, a test holds: `tests/architecture.rs`,
/// `every_use_of_cryptography_is_in_the_inventory`.
pub const INVENTORY: &[Use] = &[
    Use {
        algorithm: "AES-256-GCM",
        key: "KEK, 256 bits, random, one a generation; data keys, 256 bits, random, one a record",
        purpose: "seals tokens, account ids and pages' addresses at rest (AWS Encryption SDK format 2, suite 0x0478)",
        by: "ring",
        files: &["src/vault/record.rs", "src/vault/generation.rs"],
        setting: "keys.file",
    },
    Use {
        algorithm: "HKDF-SHA-512",
        key: "data key, 256 bits, with the record's id of 256 bits as salt",
        purpose: "the message key and the key commitment of each record",
        by: "ring",
        files: &["src/vault/record.rs"],
        setting: "keys.file",
    },
    Use {
        algorithm: "HKDF-SHA-256",
        key: "root of the hash keys, 256 bits, random",
        purpose: "a key of its own for each purpose of keyed hashes",
        by: "ring",
        files: &["src/vault/keyring.rs"],
        setting: "keys.file",
    },
    Use {
        algorithm: "HMAC-SHA-256",
        key: "256 bits, derived, one a purpose",
        purpose: "pseudonyms, API keys, request digests, body seals, the audit log's chain, this report's signature",
        by: "ring",
        files: &["src/vault/keyring.rs"],
        setting: "keys.file",
    },
    Use {
        algorithm: "Argon2id",
        key: "passphrase, with 128 bits of salt; 64 MiB, three passes, one lane",
        purpose: "the key of a key file under a passphrase",
        by: "argon2",
        files: &["src/vault/passphrase.rs"],
        setting: "keys.passphrase",
    },
    Use {
        algorithm: "AES-256-GCM",
        key: "256 bits, from the passphrase",
        purpose: "seals a key file under a passphrase",
        by: "ring",
        files: &["src/vault/passphrase.rs"],
        setting: "keys.passphrase",
    },
    Use {
        algorithm: "SHA-256",
        key: "none",
        purpose: "tells whether a key file has changed; names rows' versions; digests of messages, keys, programs and reports",
        by: "ring",
        files: &[
            "src/vault/custody.rs",
            "src/journal/mod.rs",
            "src/exchange/mod.rs",
            "src/exchange/jwk.rs",
            "src/exchange/transfer.rs",
            "src/gateway/token_export.rs",
            "src/scope/software/binary.rs",
            "src/scope/sources.rs",
        ],
        setting: "",
    },
    Use {
        algorithm: "ECDH P-256",
        key: "P-256, 256 bits; ephemeral for each message, the service's derived a generation, the clients' registered",
        purpose: "sealed exchange gw-jwe-1 and files of tokens (ECDH-ES, RFC 7518 section 4.6)",
        by: "p256",
        files: &["src/exchange/jwe.rs", "src/exchange/jwk.rs"],
        setting: "keys.file",
    },
    Use {
        algorithm: "Concat KDF with SHA-256",
        key: "the shared secret, 256 bits",
        purpose: "the message key of the sealed exchange (NIST SP 800-56A, RFC 7518 section 4.6.2)",
        by: "ring",
        files: &["src/exchange/jwe.rs"],
        setting: "",
    },
    Use {
        algorithm: "AES-256-GCM",
        key: "256 bits, one a message",
        purpose: "the content of the sealed exchange and of files of tokens (A256GCM, RFC 7518 section 5.3)",
        by: "aes_gcm",
        files: &["src/exchange/jwe.rs"],
        setting: "",
    },
    Use {
        algorithm: "ECDSA P-256 with SHA-256",
        key: "P-256, 256 bits; the service's derived a generation, the clients' registered",
        purpose: "the sender of a sealed message or file (ES256, RFC 7518 section 3.4)",
        by: "p256",
        files: &["src/exchange/jws.rs"],
        setting: "keys.file",
    },
    Use {
        algorithm: "HMAC-SHA-256",
        key: "192 to 512 bits, given",
        purpose: "signs events to the billing service (Standard Webhooks)",
        by: "ring",
        files: &["src/webhook.rs"],
        setting: "events.secret",
    },
    Use {
        algorithm: "HMAC-SHA-256",
        key: "given by PostFinance",
        purpose: "signs requests to PostFinance (JWT, HS256)",
        by: "ring",
        files: &["providers/postfinance/src/auth.rs"],
        setting: "providers.postfinance.authentication_key",
    },
    Use {
        algorithm: "ECDSA P-256 with SHA-256",
        key: "P-256, 256 bits, PostFinance's, fetched from its API",
        purpose: "checks PostFinance's webhooks",
        by: "ring",
        files: &["providers/postfinance/src/notification.rs"],
        setting: "",
    },
    Use {
        algorithm: "RSA PKCS#1 v1.5 with SHA-256",
        key: "RSA, 2048 to 8192 bits, PayPal's, by a certificate under a public authority",
        purpose: "checks PayPal's webhooks; checks only, nothing is signed or encrypted by it",
        by: "webpki",
        files: &["providers/paypal/src/notification.rs"],
        setting: "",
    },
    Use {
        algorithm: "CRC-32",
        key: "none",
        purpose: "a part of the text that PayPal signs; nothing relies on it: the object is read from PayPal",
        by: "crc32fast",
        files: &["providers/paypal/src/notification.rs"],
        setting: "",
    },
    Use {
        algorithm: "HMAC-SHA-256",
        key: "at least 128 bits, given by Datatrans",
        purpose: "checks Datatrans' webhooks",
        by: "ring",
        files: &[
            "providers/aduno/src/notification.rs",
            "providers/aduno/src/config.rs",
        ],
        setting: "providers.aduno.webhook_key",
    },
    Use {
        algorithm: "Random bytes of the operating system",
        key: "none",
        purpose: "keys, ids, nonces, salts",
        by: "ring",
        files: &["providers/contract/src/clock.rs"],
        setting: "",
    },
];

/// The algorithms that may be used. Any other one is a fault until somebody has looked at it.
pub const VIABLE: &[Viable] = &[
    Viable {
        algorithm: "AES-256-GCM",
        because: "NIST SP 800-38D; no end is in sight, quantum computers included. The number of uses of a key is bounded",
    },
    Viable {
        algorithm: "HKDF-SHA-512",
        because: "RFC 5869; no end is in sight",
    },
    Viable {
        algorithm: "HKDF-SHA-256",
        because: "RFC 5869; no end is in sight",
    },
    Viable {
        algorithm: "HMAC-SHA-256",
        because: "FIPS 198-1; no end is in sight",
    },
    Viable {
        algorithm: "SHA-256",
        because: "FIPS 180-4; no end is in sight",
    },
    Viable {
        algorithm: "Argon2id",
        because: "RFC 9106, its second recommended choice; its numbers stand in the file and can be raised",
    },
    Viable {
        algorithm: "ECDH P-256",
        because: "NIST SP 800-186; a quantum computer would break it, and recorded messages with it: NIST plans its end for 2035 (IR 8547, draft)",
    },
    Viable {
        algorithm: "Concat KDF with SHA-256",
        because: "NIST SP 800-56A; no end is in sight",
    },
    Viable {
        algorithm: "ECDSA P-256 with SHA-256",
        because: "FIPS 186-5; a quantum computer would break it: NIST plans its end for 2035 (IR 8547, draft)",
    },
    Viable {
        algorithm: "RSA PKCS#1 v1.5 with SHA-256",
        because: "FIPS 186-5, for signatures; PayPal's choice, and it only makes us ask PayPal",
    },
    Viable {
        algorithm: "CRC-32",
        because: "no cryptography; nothing relies on it",
    },
    Viable {
        algorithm: "Random bytes of the operating system",
        because: "getrandom of Linux",
    },
];

/// How long a rotation of the keys may lie unfinished.
const UNFINISHED_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

const ALGORITHMS: Claim = Claim {
    id: "crypto-1",
    requirements: &["12.3.3", "3.6.1.1"],
    says: "Every use of cryptography in our own code is known, and each of its algorithms is viable",
    proof: "the inventory, which a test of the source text holds to be whole, compared with the list of \
            viable algorithms; TLS stands among the connections",
};

const LIMITS: Claim = Claim {
    id: "crypto-2",
    requirements: &["3.7.4", "12.3.3"],
    says: "The key generation that seals is within its limits of age and of uses",
    proof: "the generations as store and key file have them, and their counters",
};

const HISTORY: Claim = Claim {
    id: "crypto-3",
    requirements: &["3.7.4", "3.7.5"],
    says: "Keys were made, rotated, retired and destroyed as listed, and no rotation lies unfinished",
    proof: "the store's list of rotations, and what was found when a generation was destroyed: that a record \
            sealed under it does not open, or, where it was not tried, that it is not among the keys",
};

pub(super) async fn section(sources: &Sources) -> Result<Section, Error> {
    let gateway = &sources.gateway;
    let keys = gateway.keys().await?;
    let rotations = gateway.rotations().await?;
    let exchange = gateway.exchange_key_ages().await?;
    Ok(Section {
        id: "crypto",
        title: "Cryptography inventory",
        statements: vec![
            algorithms(INVENTORY),
            limits(&keys, gateway.now()),
            history(&keys, &rotations, &exchange, gateway.now()),
        ],
        figures: Vec::new(),
        questions: QUESTIONS.to_vec(),
    })
}

const QUESTIONS: [Question; 3] = [
    Question {
        id: "crypto-q1",
        requirements: &["12.3.3"],
        asks: "Who looks through this inventory at least every twelve months, follows what becomes of each \
               algorithm, and has a plan for the day when one is not viable any more?",
    },
    Question {
        id: "crypto-q2",
        requirements: &["3.7.6", "3.7.8"],
        asks: "Who are the custodians of the key file and of its passphrase, and have they acknowledged in \
               writing that they know what that means?",
    },
    Question {
        id: "crypto-q3",
        requirements: &["3.6.1", "3.7.3"],
        asks: "Where are copies of the key file, who can read them, are they apart from every backup of the \
               database, and are they destroyed when a generation is?",
    },
];

fn algorithms(inventory: &[Use]) -> Statement {
    let viable = |one: &Use| {
        VIABLE
            .iter()
            .find(|viable| viable.algorithm == one.algorithm)
    };
    let strange = inventory.iter().filter(|one| viable(one).is_none());
    let faults = strange.map(|one| {
        format!(
            "{} ({}) is not on the list of viable algorithms",
            one.algorithm,
            one.files.join(", ")
        )
    });
    let rows = inventory.iter().map(|one| {
        vec![
            one.algorithm.to_owned(),
            one.key.to_owned(),
            one.purpose.to_owned(),
            format!("{}: {}", one.by, one.files.join(", ")),
            one.setting.to_owned(),
            viable(one)
                .map_or("not known", |viable| viable.because)
                .to_owned(),
        ]
    });
    let header = vec!["algorithm", "key", "purpose", "where", "setting", "viable"];
    let table = Table::new(header, rows.collect());
    ALGORITHMS.judged(faults.collect(), table)
}

fn limits(keys: &KeysReport, now: Timestamp) -> Statement {
    let ahead = keys
        .generations
        .iter()
        .filter(|one| is_ahead(one.created_at, now));
    let ahead = ahead.map(|one| format!("{} is dated in the future, {}", one.id, one.created_at));
    let rows = keys.generations.iter().map(|one| {
        vec![
            one.id.clone(),
            one.state.to_owned(),
            keys.place.clone(),
            one.created_at.to_string(),
            format!("{} days", days(WARN_AGE)),
            one.uses.to_string(),
            format!("{WARN_USES}; none beyond {MAX_USES}"),
        ]
    });
    let header = vec![
        "generation",
        "state",
        "kept in",
        "made",
        "its age at most",
        "uses",
        "its uses at most",
    ];
    let table = Table::new(header, rows.collect()).moving(&[5]);
    // What the program says loudly anyway.
    LIMITS.judged(ahead.chain(keys.warnings.iter().cloned()).collect(), table)
}

fn history(
    keys: &KeysReport,
    rotations: &[RotationInfo],
    exchange: &[ExchangeKeyAge],
    now: Timestamp,
) -> Statement {
    let lies =
        |one: &&RotationInfo| one.ended_at.is_none() && now.since(one.updated_at) > UNFINISHED_FOR;
    let faults = rotations.iter().filter(lies).map(|one| {
        format!(
            "the rotation {} of {} lies unfinished since {}; `cardless rotate {}` goes on with it",
            one.id, one.kind, one.updated_at, one.kind
        )
    });
    let ended =
        |at: Option<Timestamp>| at.map_or_else(|| "not yet".to_owned(), |at| at.to_string());
    let mut rows: Vec<Vec<String>> = rotations
        .iter()
        .map(|one| {
            vec![
                format!("rotation of {}", one.kind),
                one.id.clone(),
                one.started_at.to_string(),
                ended(one.ended_at),
                format!("{} of {}", one.done, one.total),
            ]
        })
        .collect();
    rows.extend(keys.generations.iter().map(|one| {
        vec![
            "generation".to_owned(),
            one.id.clone(),
            one.created_at.to_string(),
            match (one.destroyed_at, one.retired_at) {
                (Some(at), _) if one.is_back() => format!("back among the keys, destroyed {at}"),
                (Some(at), _) if one.tried == Some(true) => format!("destroyed {at}"),
                (Some(at), _) => format!("gone from the keys, not tried {at}"),
                (None, Some(at)) if one.is_unproven() && !one.present => {
                    format!("gone from the keys, not proven, retired {at}")
                }
                (None, Some(at)) => format!("retired {at}"),
                (None, None) => "in use".to_owned(),
            },
            format!("{} sealed under it", one.sealed),
        ]
    }));
    rows.extend(exchange.iter().map(|key| {
        vec![
            "key of the sealed exchange, P-256".to_owned(),
            key.id.clone(),
            key.created_at.to_string(),
            format!("another one {} days later", days(key.renewed_after)),
            String::new(),
        ]
    }));
    let table = Table::new(
        vec!["what", "id", "begun or made", "ended", "how much"],
        rows,
    );
    HISTORY.judged(faults.collect(), table.moving(&[4]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_algorithm_off_the_list_is_a_fault() {
        assert!(algorithms(INVENTORY).holds);
        let weak = Use {
            algorithm: "3DES",
            files: &["src/vault/record.rs"],
            ..INVENTORY[0]
        };
        let statement = algorithms(&[INVENTORY[0], weak]);
        assert!(!statement.holds);
        let faults = statement.faults.concat();
        assert!(
            faults.contains("3DES") && faults.contains("record.rs"),
            "{faults}"
        );
    }

    #[test]
    fn every_viable_algorithm_is_in_use() {
        for viable in VIABLE {
            let used = INVENTORY
                .iter()
                .any(|one| one.algorithm == viable.algorithm);
            assert!(used, "{}", viable.algorithm);
        }
    }

    #[test]
    fn a_rotation_that_lies_unfinished_is_a_fault() {
        let keys = KeysReport {
            place: "there".to_owned(),
            generations: Vec::new(),
            warnings: Vec::new(),
        };
        let at = Timestamp::from_seconds(0);
        let rotation = RotationInfo {
            id: "rot_a".to_owned(),
            kind: "keys",
            done: 1,
            total: 2,
            started_at: at,
            updated_at: at,
            ended_at: None,
            running: false,
            lease_until: None,
        };
        let soon = Timestamp::from_seconds(6 * 24 * 3600);
        let late = Timestamp::from_seconds(8 * 24 * 3600);
        assert!(history(&keys, std::slice::from_ref(&rotation), &[], soon).holds);
        let statement = history(&keys, &[rotation], &[], late);
        assert!(statement.faults.concat().contains("rot_a"), "{statement:?}");
    }
}
