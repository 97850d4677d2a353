//! What TLS offers and accepts here, from the objects that do it.

use std::sync::Arc;

use rustls::server::Acceptor;
use rustls::{CipherSuite, ProtocolVersion, SupportedCipherSuite};
use rustls_pki_types::ServerName;

use crate::{ClientConfig, ClientError, tls};

/// TLS as a client with some settings speaks it: read from the first message that its
/// configuration makes for a server, and from the configuration itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFacts {
    /// The versions that are offered, as `TLSv1_3`.
    pub versions: Vec<String>,
    /// The cipher suites that are offered.
    pub suites: Vec<Suite>,
    /// The groups that keys are exchanged in, as `X25519`.
    pub groups: Vec<String>,
    /// The signatures that are accepted, as `ECDSA_NISTP256_SHA256`.
    pub signatures: Vec<String>,
    /// The protocols that are offered, as `h2`.
    pub protocols: Vec<String>,
    /// Whether anything is sent before the handshake is over; such data could be replayed.
    pub early_data: bool,
    /// How many authorities are trusted.
    pub roots: usize,
    /// Whether there is a certificate of ours to show.
    pub client_certificate: bool,
    /// Whether it is asked if a server's certificate was revoked.
    pub revocation: bool,
}

/// A cipher suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suite {
    /// Its name, as `TLS13_AES_256_GCM_SHA384`.
    pub name: String,
    /// How long its key is, in bits.
    pub key_bits: usize,
}

/// The versions that count as strong cryptography, and why.
const VIABLE_VERSIONS: [(&str, &str); 2] = [
    ("TLSv1_2", "RFC 5246; with the suites below alone"),
    ("TLSv1_3", "RFC 8446; the present version"),
];

/// The suites that count as strong cryptography, and why: authenticated encryption with keys of 128
/// bits or more, and keys of a session that nobody gets from a server's long-lived key.
const VIABLE_SUITES: [(&str, &str); 9] = [
    ("TLS13_AES_256_GCM_SHA384", "RFC 8446"),
    ("TLS13_AES_128_GCM_SHA256", "RFC 8446"),
    ("TLS13_CHACHA20_POLY1305_SHA256", "RFC 8446"),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "recommended by RFC 9325",
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "recommended by RFC 9325",
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        "recommended by RFC 7905",
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        "recommended by RFC 9325",
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        "recommended by RFC 9325",
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        "recommended by RFC 7905",
    ),
];

/// The shortest key of a viable suite, in bits.
const MIN_KEY_BITS: usize = 128;

/// Says that a client can renegotiate safely, and is no suite (RFC 5746).
const SIGNAL: CipherSuite = CipherSuite::TLS_EMPTY_RENEGOTIATION_INFO_SCSV;

/// The extension of a first message that lists versions (RFC 8446 §4.2.1).
const SUPPORTED_VERSIONS: u16 = 43;

/// The extension that announces early data (RFC 8446 §4.2.10).
const EARLY_DATA: u16 = 42;

impl TlsFacts {
    /// The facts of every client with these settings: they are one configuration.
    ///
    /// # Errors
    ///
    /// [`ClientError`] if TLS can't be set up with them.
    pub fn of(config: &ClientConfig) -> Result<Self, ClientError> {
        let tls = tls::client_config(config.extra_roots.as_deref())?;
        Self::read(tls).ok_or(ClientError::Tls)
    }

    fn read(tls: tls::Tls) -> Option<Self> {
        let hello = first_message(&tls.config)?;
        let mut acceptor = Acceptor::default();
        acceptor.read_tls(&mut hello.as_slice()).ok()?;
        let accepted = acceptor.accept().ok()??;
        let offered = accepted.client_hello();
        let extensions = extensions(&hello)?;
        let known = &tls.config.crypto_provider().cipher_suites;
        let suites = offered.cipher_suites().iter();
        Some(Self {
            versions: versions(&extensions),
            suites: suites
                .filter(|suite| **suite != SIGNAL)
                .map(|suite| Suite::of(*suite, known))
                .collect(),
            groups: offered
                .named_groups()
                .unwrap_or_default()
                .iter()
                .map(|group| name(group.as_str(), u16::from(*group)))
                .collect(),
            signatures: offered
                .signature_schemes()
                .iter()
                .map(|scheme| name(scheme.as_str(), u16::from(*scheme)))
                .collect(),
            protocols: offered
                .alpn()
                .into_iter()
                .flatten()
                .map(|name| String::from_utf8_lossy(name).into_owned())
                .collect(),
            early_data: tls.config.enable_early_data
                || extensions.iter().any(|(kind, _)| *kind == EARLY_DATA),
            roots: tls.roots,
            client_certificate: tls.config.client_auth_cert_resolver.has_certs(),
            revocation: tls.revocation,
        })
    }

    /// What is no strong cryptography: an old version, a suite that is not known to be good, data
    /// before the end of the handshake, nobody who is trusted.
    pub fn weaknesses(&self) -> Vec<String> {
        let versions = self.versions.iter();
        let versions = versions.filter(|version| viable_version(version).is_none());
        let suites = self.suites.iter().filter(|suite| !suite.is_viable());
        let mut found: Vec<String> = versions
            .map(|version| format!("version {version}"))
            .chain(suites.map(|suite| format!("suite {} ({} bits)", suite.name, suite.key_bits)))
            .collect();
        if self.versions.is_empty() || self.suites.is_empty() {
            found.push("no version, or no suite".to_owned());
        }
        if self.early_data {
            found.push("early data".to_owned());
        }
        if self.roots == 0 {
            found.push("no trusted authority".to_owned());
        }
        found
    }
}

impl Suite {
    pub(crate) fn of(suite: CipherSuite, known: &[SupportedCipherSuite]) -> Self {
        let found = known.iter().find(|known| known.suite() == suite);
        Self {
            name: name(suite.as_str(), u16::from(suite)),
            key_bits: found.map_or(0, |suite| 8 * key_bytes(suite)),
        }
    }

    /// Whether it is on the list of good ones, with a key as long as it must be.
    pub fn is_viable(&self) -> bool {
        viable_suite(&self.name).is_some() && self.key_bits >= MIN_KEY_BITS
    }
}

/// Why a version, as `TLSv1_3`, counts as strong cryptography. `None`: it does not, or is not known.
pub fn viable_version(name: &str) -> Option<&'static str> {
    reason(&VIABLE_VERSIONS, name)
}

/// Why a suite counts as strong cryptography. `None`: it does not, or is not known.
pub fn viable_suite(name: &str) -> Option<&'static str> {
    reason(&VIABLE_SUITES, name)
}

fn reason(list: &[(&'static str, &'static str)], name: &str) -> Option<&'static str> {
    let found = list.iter().find(|(known, _)| *known == name);
    found.map(|(_, reason)| *reason)
}

fn key_bytes(suite: &SupportedCipherSuite) -> usize {
    match suite {
        SupportedCipherSuite::Tls12(suite) => suite.aead_alg.key_block_shape().enc_key_len,
        SupportedCipherSuite::Tls13(suite) => suite.aead_alg.key_len(),
    }
}

/// A name of the registry, or the number that has none here.
pub(crate) fn name(known: Option<&str>, number: u16) -> String {
    known.map_or_else(|| format!("unknown {number:#06x}"), str::to_owned)
}

/// What this configuration would send first. It goes nowhere.
fn first_message(config: &Arc<rustls::ClientConfig>) -> Option<Vec<u8>> {
    let nobody = ServerName::try_from("facts.invalid").ok()?;
    let mut connection = rustls::ClientConnection::new(Arc::clone(config), nobody).ok()?;
    let mut message = Vec::new();
    connection.write_tls(&mut message).ok()?;
    Some(message)
}

/// The extensions of a first message, by number (RFC 8446 §4.1.2).
fn extensions(message: &[u8]) -> Option<Vec<(u16, Vec<u8>)>> {
    // Record: type, version, length. Handshake: type, length. Hello: version, random.
    let (_, rest) = message.split_at_checked(5 + 4 + 2 + 32)?;
    let (_session, rest) = prefixed(rest, 1)?;
    let (_suites, rest) = prefixed(rest, 2)?;
    let (_compression, rest) = prefixed(rest, 1)?;
    let (mut rest, _) = prefixed(rest, 2)?;
    let mut extensions = Vec::new();
    while let Some((kind, after)) = rest.split_first_chunk::<2>() {
        let (body, after) = prefixed(after, 2)?;
        extensions.push((u16::from_be_bytes(*kind), body.to_vec()));
        rest = after;
    }
    Some(extensions)
}

/// What a length of so many bytes announces, and what follows it.
fn prefixed(bytes: &[u8], length_bytes: usize) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(length_bytes)?;
    let length = length
        .iter()
        .fold(0, |length, byte| length * 256 + usize::from(*byte));
    rest.split_at_checked(length)
}

/// Without the extension the message offers TLS 1.2 and nothing newer.
fn versions(extensions: &[(u16, Vec<u8>)]) -> Vec<String> {
    let listed = extensions
        .iter()
        .find(|(kind, _)| *kind == SUPPORTED_VERSIONS);
    let Some((_, body)) = listed else {
        return vec![name(ProtocolVersion::TLSv1_2.as_str(), 0)];
    };
    let (_, list) = body.split_at_checked(1).unwrap_or_default();
    let (pairs, _) = list.as_chunks::<2>();
    pairs
        .iter()
        .map(|pair| u16::from_be_bytes(*pair))
        .map(|number| name(ProtocolVersion::from(number).as_str(), number))
        .collect()
}

#[cfg(test)]
mod tests {
    use rustls::RootCertStore;

    use super::*;

    fn facts() -> TlsFacts {
        TlsFacts::of(&ClientConfig::default()).unwrap()
    }

    #[test]
    fn facts_are_those_of_the_configuration() {
        let facts = facts();
        let mut versions = facts.versions.clone();
        versions.sort();
        assert_eq!(versions, ["TLSv1_2", "TLSv1_3"]);
        assert_eq!(facts.suites.len(), 9);
        assert!(facts.suites.iter().all(Suite::is_viable), "{facts:?}");
        assert!(facts.suites.iter().any(|suite| suite.key_bits == 256));
        assert!(facts.groups.iter().any(|group| group == "X25519"));
        assert!(!facts.signatures.is_empty());
        assert_eq!(facts.protocols, ["h2", "http/1.1"]);
        assert_eq!(facts.roots, webpki_roots::TLS_SERVER_ROOTS.len());
        assert!(!facts.early_data && !facts.client_certificate && !facts.revocation);
        assert_eq!(facts.weaknesses(), [""; 0]);
    }

    /// They follow the object: with one version and one suite, there is one of each.
    #[test]
    fn another_configuration_has_other_facts() {
        let mut provider = rustls::crypto::ring::default_provider();
        provider
            .cipher_suites
            .retain(|suite| suite.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256);
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.enable_early_data = true;
        let facts = TlsFacts::read(tls::Tls {
            config: Arc::new(config),
            roots: 0,
            revocation: false,
        })
        .unwrap();
        assert_eq!(facts.versions, ["TLSv1_3"]);
        let only = Suite {
            name: "TLS13_AES_128_GCM_SHA256".to_owned(),
            key_bits: 128,
        };
        assert_eq!(facts.suites, [only]);
        assert!(facts.protocols.is_empty());
        assert_eq!(facts.weaknesses(), ["early data", "no trusted authority"]);
    }

    #[test]
    fn a_weak_suite_and_an_old_version_are_told() {
        let mut weak = facts();
        weak.versions.push("TLSv1_1".to_owned());
        for (name, key_bits) in [
            ("TLS_RSA_WITH_3DES_EDE_CBC_SHA", 112),
            ("TLS_RSA_WITH_AES_128_GCM_SHA256", 128),
            ("TLS13_AES_128_CCM_8_SHA256", 128),
            ("TLS13_AES_256_GCM_SHA384", 64),
            ("unknown 0xc0de", 256),
        ] {
            weak.suites.push(Suite {
                name: name.to_owned(),
                key_bits,
            });
        }
        assert_eq!(
            weak.weaknesses(),
            [
                "version TLSv1_1",
                "suite TLS_RSA_WITH_3DES_EDE_CBC_SHA (112 bits)",
                "suite TLS_RSA_WITH_AES_128_GCM_SHA256 (128 bits)",
                "suite TLS13_AES_128_CCM_8_SHA256 (128 bits)",
                "suite TLS13_AES_256_GCM_SHA384 (64 bits)",
                "suite unknown 0xc0de (256 bits)",
            ]
        );
        for old in ["SSLv3", "TLSv1_0", "TLSv1_1", "TLSv1_4", ""] {
            assert_eq!(viable_version(old), None, "{old}");
        }
        let nothing = TlsFacts {
            versions: Vec::new(),
            ..facts()
        };
        assert_eq!(nothing.weaknesses(), ["no version, or no suite"]);
    }
}
