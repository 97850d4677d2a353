//! The seeds of the fuzz targets, and every beginning of each, through what the targets do. The
//! fuzzer itself (`fuzz/run`) is apart from the workspace; this holds its targets true meanwhile.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[expect(
    unreachable_pub,
    clippy::indexing_slicing,
    reason = "it is the library of another crate"
)]
#[path = "../fuzz/lib.rs"]
mod fuzz;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");

type Target = (&'static str, fn(&[u8]));

const TARGETS: &[Target] = &[
    ("record", fuzz::record),
    ("key_file", fuzz::key_file),
    ("settings", fuzz::settings),
    ("pan", fuzz::pan),
    ("webhook_headers", fuzz::webhook_headers),
    ("event_headers", fuzz::event_headers),
    ("jwe", fuzz::jwe),
    ("jws", fuzz::jws),
    ("claims", fuzz::claims),
    ("jwk", fuzz::jwk),
    ("sealed", fuzz::sealed),
    ("tokens", fuzz::tokens),
];

/// These read what an adapter shows to a fuzzer only; the adapter's own tests give it bodies.
const FUZZER_ONLY: &[&str] = &["webhook_paypal", "webhook_postfinance", "webhook_aduno"];

#[test]
fn every_seed_is_what_its_target_takes() {
    for (target, check) in TARGETS {
        for path in files(&Path::new(FUZZ).join("seeds").join(target)) {
            let seed = fs::read(&path).unwrap();
            check(&seed);
            for length in 0..seed.len() {
                check(seed.get(..length).unwrap());
            }
        }
    }
}

#[test]
fn every_target_has_seeds_and_stands_here() {
    let named = TARGETS.iter().map(|(target, _)| *target);
    let named: BTreeSet<String> = named
        .chain(FUZZER_ONLY.iter().copied())
        .map(str::to_owned)
        .collect();
    let stem = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let targets = files(&Path::new(FUZZ).join("fuzz_targets"));
    assert_eq!(targets.iter().map(stem).collect::<BTreeSet<_>>(), named);
    for target in named {
        let seeds = files(&Path::new(FUZZ).join("seeds").join(&target));
        assert!(!seeds.is_empty(), "{target}");
    }
}

/// The fuzzer can make neither seal nor signature, so the seeds must have good ones: else nothing
/// is compared with anything.
#[test]
fn what_must_open_opens() {
    use cardless::exchange::{PublicKey, Received, SecretKey};
    let seed = |name: &str| fs::read_to_string(Path::new(FUZZ).join("seeds").join(name)).unwrap();
    let key = SecretKey::read(&seed("jwk/private")).unwrap();
    let signer = PublicKey::read_all(&seed("jwk/one")).unwrap();
    let sealed = seed("jwe/sealed");
    let opened = Received::parse(&sealed).unwrap().open(&key).unwrap();
    let claims = opened.verify(signer.first().unwrap()).unwrap();
    assert_eq!(*claims, seed("claims/request").into_bytes());
}

/// The signature checks of the three doors are really reached: what the sandbox has signed verifies at
/// its own door and only as it is, the last time as well as the first.
#[test]
fn a_genuine_delivery_verifies_and_a_changed_one_does_not() {
    for door in ["paypal", "postfinance", "aduno"] {
        let path = format!("seeds/webhook_headers/genuine_{door}");
        let genuine = fs::read(Path::new(FUZZ).join(path)).unwrap();
        assert_eq!(fuzz::verified(&genuine), [(door, true)]);
        for at in 0..genuine.len() {
            let mut changed = genuine.clone();
            *changed.get_mut(at).unwrap() ^= 1;
            assert_eq!(fuzz::verified(&changed), [], "{door}, byte {at}");
        }
        assert_eq!(fuzz::verified(&genuine), [(door, true)]);
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}
