//! Certificates for PayPal's signer: a right one, and every way of being wrong. All but one hold
//! the key that really signs, so that nothing but the certificate can be what is refused.

use std::sync::OnceLock;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_RSA_SHA256,
    date_time_ymd,
};

use crate::forge::from_base64;

/// The sandbox's signer: published test material.
const SIGNER: &str = include_str!("../../providers/sandbox/src/paypal/material/signer.pkcs8.b64");
/// A key of somebody else.
const OTHER: &str = include_str!("material/other.pkcs8.b64");
/// The name that a signer in PayPal's test environment has.
const NAME: &str = "messageverificationcerts.sandbox.paypal.com";

type Authority = Issuer<'static, KeyPair>;

/// The root that the settings of these tests trust beside the sandbox's.
pub(crate) fn root_pem() -> &'static str {
    &root().1
}

/// The signer's key as PKCS #8.
pub(crate) fn signer() -> Vec<u8> {
    from_base64(SIGNER)
}

/// Somebody else's.
pub(crate) fn other_signer() -> Vec<u8> {
    from_base64(OTHER)
}

/// A file that holds.
pub(crate) fn right() -> String {
    issued(&leaf(&[NAME]), &rsa(SIGNER), &root().0)
}

/// A file that holds, with the key of somebody else.
pub(crate) fn of_other_key() -> String {
    issued(&leaf(&[NAME]), &rsa(OTHER), &root().0)
}

/// Files that do not hold, and why.
pub(crate) fn wrong() -> Vec<(&'static str, Vec<u8>)> {
    let key = rsa(SIGNER);
    let by_root = |params: &CertificateParams| issued(params, &key, &root().0);
    let mut files: Vec<(&'static str, String)> = Vec::new();
    for (why, name) in [
        ("another name", "api.sandbox.paypal.com"),
        ("the live name", "messageverificationcerts.paypal.com"),
        ("a name above", "sandbox.paypal.com"),
        (
            "a name below",
            "x.messageverificationcerts.sandbox.paypal.com",
        ),
        (
            "a suffix",
            "messageverificationcerts.sandbox.paypal.com.evil.example",
        ),
        (
            "a prefix",
            "evil-messageverificationcerts.sandbox.paypal.com",
        ),
        ("a wildcard too high", "*.paypal.com"),
        ("an address for a name", "127.0.0.1"),
    ] {
        files.push((why, by_root(&leaf(&[name]))));
    }
    let mut params = leaf(&[]);
    params.distinguished_name.push(DnType::CommonName, NAME);
    files.push(("the name as a common name only", by_root(&params)));
    let mut params = leaf(&[NAME]);
    params.not_after = date_time_ymd(2026, 11, 17);
    files.push(("expired yesterday", by_root(&params)));
    let mut params = leaf(&[NAME]);
    params.not_before = date_time_ymd(2026, 12, 1);
    files.push(("valid from next month on", by_root(&params)));
    for (why, purpose) in [
        ("for clients", ExtendedKeyUsagePurpose::ClientAuth),
        ("for code", ExtendedKeyUsagePurpose::CodeSigning),
        ("for mail", ExtendedKeyUsagePurpose::EmailProtection),
        ("for time stamps", ExtendedKeyUsagePurpose::TimeStamping),
    ] {
        let mut params = leaf(&[NAME]);
        params.extended_key_usages = vec![purpose];
        files.push((why, by_root(&params)));
    }
    let mut params = leaf(&[NAME]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    files.push(("an authority's own", by_root(&params)));
    let mut params = leaf(&[NAME]);
    let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 1, 1], vec![5, 0]);
    extension.set_criticality(true);
    params.custom_extensions.push(extension);
    files.push(("with a rule that nobody knows", by_root(&params)));
    let own = leaf(&[NAME]).self_signed(&key).unwrap().pem();
    files.push(("signed by itself", own));
    let (unknown, unknown_pem) = authority("some other root", |_| {});
    let pem = issued(&leaf(&[NAME]), &key, &unknown);
    files.push(("with its own root beside it", format!("{pem}{unknown_pem}")));
    files.push(("of an unknown root", pem));
    files.push(("the root itself", root_pem().to_owned()));
    let ecdsa = KeyPair::generate().unwrap();
    let pem = issued(&leaf(&[NAME]), &ecdsa, &root().0);
    files.push(("of another kind of key", pem));
    files.extend(wrong_chains(&key));
    let mut files: Vec<(&str, Vec<u8>)> = files
        .into_iter()
        .map(|(why, pem)| (why, pem.into_bytes()))
        .collect();
    let right = right();
    files.extend([
        ("no file", Vec::new()),
        ("HTML", b"<html><body>not found</body></html>".to_vec()),
        ("cut in half", right.as_bytes()[..right.len() / 2].to_vec()),
        ("a key", key.serialize_pem().into_bytes()),
        ("bytes", signer()),
        (
            "too large",
            format!("{right}{}", "\n".repeat(64 * 1024)).into_bytes(),
        ),
        (
            "an empty certificate",
            b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n".to_vec(),
        ),
    ]);
    files
}

/// Chains with something wrong between the signer and the root.
fn wrong_chains(key: &KeyPair) -> Vec<(&'static str, String)> {
    let chain = |change: &dyn Fn(&mut CertificateParams)| {
        let (between, pem) = authority_by_root("between", change);
        (issued(&leaf(&[NAME]), key, &between), pem)
    };
    let joined = |(leaf, between): (String, String)| format!("{leaf}{between}");
    let (alone, _) = chain(&|_| {});
    let nested = {
        let (first, first_pem) = authority_by_root("no further", |params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        });
        let (second, second_pem) = authority_by("further", |_| {}, &first);
        format!(
            "{}{second_pem}{first_pem}",
            issued(&leaf(&[NAME]), key, &second)
        )
    };
    vec![
        ("without the one between", alone),
        (
            "the one between is no authority",
            joined(chain(&|params| params.is_ca = IsCa::ExplicitNoCa)),
        ),
        (
            "the one between has expired",
            joined(chain(&|params| {
                params.not_after = date_time_ymd(2026, 1, 1)
            })),
        ),
        (
            "the one between may not sign for this name",
            joined(chain(&|params| {
                params.name_constraints = Some(NameConstraints {
                    permitted_subtrees: Vec::new(),
                    excluded_subtrees: vec![GeneralSubtree::DnsName("paypal.com".to_owned())],
                });
            })),
        ),
        ("a chain longer than allowed", nested),
    ]
}

fn root() -> &'static (Authority, String) {
    static ROOT: OnceLock<(Authority, String)> = OnceLock::new();
    ROOT.get_or_init(|| authority("test root", |_| {}))
}

fn leaf(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2120, 1, 1);
    params
}

fn issued(params: &CertificateParams, key: &KeyPair, by: &Authority) -> String {
    params.signed_by(key, by).unwrap().pem()
}

fn authority_params(name: &str, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2120, 1, 1);
    change(&mut params);
    params
}

fn authority(name: &str, change: impl FnOnce(&mut CertificateParams)) -> (Authority, String) {
    let params = authority_params(name, change);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}

fn authority_by(
    name: &str,
    change: impl FnOnce(&mut CertificateParams),
    by: &Authority,
) -> (Authority, String) {
    let params = authority_params(name, change);
    let key = KeyPair::generate().unwrap();
    let pem = params.signed_by(&key, by).unwrap().pem();
    (Issuer::new(params, key), pem)
}

fn authority_by_root(
    name: &str,
    change: impl FnOnce(&mut CertificateParams),
) -> (Authority, String) {
    authority_by(name, change, &root().0)
}

fn rsa(base64: &str) -> KeyPair {
    let der = from_base64(base64);
    KeyPair::from_pkcs8_der_and_sign_algo(&der.as_slice().into(), &PKCS_RSA_SHA256).unwrap()
}
