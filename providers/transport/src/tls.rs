use std::sync::Arc;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::ClientError;

/// The protocols that are offered, the preferred one first. Unless they are named here, every call
/// stays on HTTP/1.1.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What connections are made with, and what can't be read from it again.
#[derive(Debug)]
pub(crate) struct Tls {
    pub(crate) config: Arc<rustls::ClientConfig>,
    /// How many authorities its verifier trusts.
    pub(crate) roots: usize,
    /// Whether its verifier has lists of revoked certificates.
    pub(crate) revocation: bool,
}

/// TLS 1.2 and 1.3 by ring, with the roots of `webpki-roots` and those of `extra_roots` (PEM).
/// No client certificate, no key log, no early data: 0-RTT could be replayed. No lists of revoked
/// certificates either: nothing would keep them fresh.
pub(crate) fn client_config(extra_roots: Option<&str>) -> Result<Tls, ClientError> {
    let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(pem) = extra_roots {
        add_roots(&mut roots, pem)?;
    }
    let trusted = roots.len();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| ClientError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = ALPN.iter().map(|name| name.to_vec()).collect();
    Ok(Tls {
        config: Arc::new(config),
        roots: trusted,
        revocation: false,
    })
}

fn add_roots(roots: &mut RootCertStore, pem: &str) -> Result<(), ClientError> {
    let mut found = false;
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|_| ClientError::ExtraRoots)?;
        roots
            .add(certificate)
            .map_err(|_| ClientError::ExtraRoots)?;
        found = true;
    }
    if found {
        Ok(())
    } else {
        Err(ClientError::ExtraRoots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_http2_first_and_sends_no_early_data() {
        let config = client_config(None).unwrap().config;
        assert_eq!(
            config.alpn_protocols,
            [b"h2".to_vec(), b"http/1.1".to_vec()]
        );
        assert!(!config.enable_early_data);
    }

    #[test]
    fn extra_roots_must_be_certificates() {
        for bad in [
            "",
            "canary",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            let error = client_config(Some(bad)).unwrap_err();
            assert!(matches!(error, ClientError::ExtraRoots), "{bad}");
        }
    }
}
