use std::collections::HashSet;
use std::path::Path;
use std::slice::from_ref;
use std::sync::Arc;

use cardless::vault::{Custody as _, HashPurpose, KeyFile, KeyFileError, KeyRing};
use cardless_contract::{Secrets, SystemEntropy, Timestamp};

use crate::common::*;

const PURPOSES: [HashPurpose; 10] = [
    HashPurpose::Pseudonym,
    HashPurpose::ApiKey,
    HashPurpose::RequestDigest,
    HashPurpose::BodySeal,
    HashPurpose::CustomerReference,
    HashPurpose::Audit,
    HashPurpose::ErasedAccount,
    HashPurpose::Exchange,
    HashPurpose::ImportedToken,
    HashPurpose::ClientKey,
];

#[test]
fn a_generated_key_file_is_read_back() {
    let moment = Timestamp::from_seconds(1_764_000_000);
    let text = KeyRing::generate_at(&SystemEntropy, moment).unwrap();
    let ring = KeyRing::parse(&text).unwrap();
    assert_eq!(ring.active_since(), moment);
    assert!(ring.active_id().starts_with("kek_"));
    assert_eq!(ring.generation_ids().count(), 1);
    assert_eq!(format!("{ring:?}"), "KeyRing(…)");

    let vault = vault_of(&text);
    assert_eq!(
        vault.open(&CONTEXT, &sample(&vault)).unwrap().as_slice(),
        PLAINTEXT
    );
    let other = KeyRing::generate(&SystemEntropy).unwrap();
    assert_ne!(*text, *other);
    assert!(vault_of(&other).open(&CONTEXT, &sample(&vault)).is_err());
}

#[test]
fn each_purpose_has_a_key_of_its_own() {
    let vault = vault();
    let hashes: HashSet<_> = PURPOSES
        .map(|purpose| vault.keyed_hash(purpose, b"x"))
        .into();
    assert_eq!(hashes.len(), PURPOSES.len());
    for purpose in PURPOSES {
        let hash = vault.keyed_hash(purpose, b"x");
        assert!(vault.verify_hash(purpose, b"x", &hash));
        assert!(!vault.verify_hash(purpose, b"y", &hash));
        assert!(!vault.verify_hash(purpose, b"x", &hash[..31]));
        assert!(!vault.verify_hash(purpose, b"x", b""));
    }
}

/// Pseudonyms in a database are good for as long as its key file: these must never change.
#[test]
fn hashes_stay_what_they_are() {
    let vault = vault();
    let hash = |purpose| base64url(&vault.keyed_hash(purpose, b"account-1"));
    assert_eq!(PURPOSES.map(hash), EXPECTED_HASHES);
}

/// HMAC-SHA-256(HKDF-SHA-256(salt, [7; 32], label), "account-1"), computed with Python's `hmac`.
const EXPECTED_HASHES: [&str; 10] = [
    "XPcYq6M-WPILYBhdVmpD3kypYrrfD-OvFbWSdWk1-ek",
    "mQM7GSCYC3OIzqvcR06Irizijznb5gxFjhU_8eZwdS4",
    "FFmnnkpJjiEMiuq2xEYmGtFmBM9JAcfJdmvp9aT1MQ0",
    "18Ivm4uTVjBp2wTHuyNRZD4xapGLnIKa0Ir9F1ZZchA",
    "T6xB188SODS39q2X5dOInVsjyA2bFFxnitbjV8oveNI",
    "bqI_ttNGfwGg9RPh8a2qW4IlwIgvK2z6pVQrHzc2raU",
    "YsXy22x-SprCexceRRZc4-CS_OROcietOl_s0e5MU3U",
    "ViWIcFWq72n4gY5DC002Vd7RT6hUFI44vLfD-NvzI6A",
    "ykfXFYO9bYp4hG2Eys52Tiy_atGzY9_A0p28-LeeQL8",
    "7AvAcfJjjsFs5sGxTL6OMloZ3FXA7sWcM-3hE4VevbQ",
];

#[test]
fn a_damaged_key_file_says_what_is_wrong_and_quotes_nothing() {
    let good = generation(KEY_NAME, "active", &KEY);
    let canary = "CANARYcanaryCANARYcanaryCANARYcanaryCANARYc";
    let root = base64url(&[7; 32]);
    let bad = [
        ("not_toml", format!("{canary} = = 1\n"), "line 1 "),
        (
            "cut_off",
            key_file(from_ref(&good))
                .replace(&root, canary)
                .replace("\"\n", "\n"),
            "line ",
        ),
        (
            "unknown_member",
            key_file(from_ref(&good)) + &format!("{canary} = 1\n"),
            "line ",
        ),
        ("no_hashes", format!("version = 1\n{good}"), "line "),
        (
            "version",
            key_file(from_ref(&good)).replace("version = 1", "version = 3"),
            "`version`",
        ),
        (
            "no_active",
            key_file(&[generation("a", "retiring", &KEY)]),
            "exactly one",
        ),
        (
            "two_active",
            key_file(&[good.clone(), generation("a", "active", &KEY)]),
            "exactly one",
        ),
        (
            "twins",
            key_file(&[good.clone(), generation(KEY_NAME, "retiring", &OTHER_KEY)]),
            "same `id`",
        ),
        (
            "state",
            key_file(&[generation("a", canary, &KEY)]),
            "`state`",
        ),
        (
            "id",
            key_file(&[generation(&format!("{canary} "), "active", &KEY)]),
            "`id`",
        ),
        (
            "created_at",
            key_file(from_ref(&good)).replace("2026-11-23T16:25:04Z", canary),
            "`created_at`",
        ),
        (
            "short_key",
            key_file(&[generation("a", "active", &KEY[..31])]),
            "`key`",
        ),
        (
            "long_key",
            key_file(&[generation("a", "active", &[7; 33])]),
            "`key`",
        ),
        (
            "not_base64",
            key_file(from_ref(&good)).replace(&root, &format!("{canary}!")),
            "`root`",
        ),
        (
            "escaped",
            key_file(from_ref(&good)).replace(KEY_NAME, "\\u0041CANARY"),
            "line ",
        ),
    ];
    for (name, text, says) in bad {
        let error = KeyRing::parse(&text).unwrap_err();
        let message = format!("{error} {error:?}");
        assert!(message.contains(says), "{name}: {message}");
        assert!(
            !message.to_lowercase().contains("canary"),
            "{name}: {message}"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_key_file_is_its_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cardless.keys");
    std::fs::write(&path, KeyRing::generate(&SystemEntropy).unwrap().as_bytes()).unwrap();
    for mode in [0o644, 0o640, 0o604, 0o660, 0o610, 0o602, 0o777] {
        set_mode(&path, mode);
        let message = load_error(&path);
        assert!(message.contains("cardless.keys"), "{message}");
        assert!(message.contains("chmod 600"), "{message}");
    }
    for mode in [0o600, 0o400] {
        set_mode(&path, mode);
        KeyRing::load(&path).unwrap();
    }
}

/// As a secret is mounted for a group: it belongs to somebody else, and the group may read it.
#[cfg(unix)]
#[test]
fn a_key_file_of_another_owner_may_be_read_by_the_group_and_no_more() {
    use std::os::unix::fs::{MetadataExt as _, chown};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cardless.keys");
    std::fs::write(&path, KeyRing::generate(&SystemEntropy).unwrap().as_bytes()).unwrap();
    if chown(&path, Some(65_534), None).is_err() {
        println!(
            "a_key_file_of_another_owner_may_be_read_by_the_group_and_no_more: skipped, only root \
             can give a file to somebody else"
        );
        return;
    }
    for mode in [0o440, 0o640, 0o400, 0o600] {
        set_mode(&path, mode);
        KeyRing::load(&path).unwrap();
    }
    for mode in [0o444, 0o644, 0o460, 0o660, 0o450, 0o441, 0o442, 0o777] {
        set_mode(&path, mode);
        let message = load_error(&path);
        assert!(message.contains("cardless.keys"), "{message}");
        assert!(
            message.contains("0440") && message.contains("mount"),
            "{message}"
        );
        assert!(!message.contains("chmod"), "{message}");
    }
    // It stays readable for the group when it is written by somebody who can.
    set_mode(&path, 0o440);
    let file = KeyFile::new(&path);
    let present = file.read().unwrap();
    file.replace(&present, &present).unwrap();
    let metadata = path.metadata().unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o777), (65_534, 0o640));
}

#[cfg(unix)]
#[test]
fn an_error_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cardless.keys");
    assert!(load_error(&path).contains("cardless init"));
    assert!(load_error(&path).contains("cardless.keys"));

    std::fs::write(&path, "CANARY").unwrap();
    set_mode(&path, 0o600);
    let message = load_error(&path);
    assert!(
        message.contains("cardless.keys: the key file is damaged: line 1"),
        "{message}"
    );
    assert!(!message.contains("CANARY"), "{message}");

    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(load_error(&path).contains("can't be read"));
    std::fs::write(&path, vec![b'#'; 300 * 1024]).unwrap();
    assert!(load_error(&path).contains("no key file"));
}

/// What a generated key file's text looks like in the version before.
fn version_1() -> String {
    key_file(&[generation(KEY_NAME, "active", &KEY)])
}

#[cfg(unix)]
fn a_file(folder: &Path, text: &str) -> std::path::PathBuf {
    let path = folder.join("cardless.keys");
    std::fs::write(&path, text).unwrap();
    set_mode(&path, 0o600);
    path
}

#[cfg(unix)]
#[test]
fn a_key_file_is_replaced_whole_and_stays_its_owners() {
    use std::os::unix::fs::MetadataExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = a_file(folder.path(), &version_1());
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    // What a process leaves that dies while it writes.
    std::fs::write(folder.path().join("cardless.keys.replacing"), "half of a").unwrap();
    let new = KeyRing::generate(&SystemEntropy).unwrap();
    let file = KeyFile::new(&link);
    let before = (file.fingerprint().unwrap(), path.metadata().unwrap());

    file.replace(&version_1(), &new).unwrap();

    assert_eq!(*file.read().unwrap(), *new);
    assert_ne!(file.fingerprint().unwrap(), before.0);
    let after = path.metadata().unwrap();
    assert_ne!(
        after.ino(),
        before.1.ino(),
        "another file has taken the name"
    );
    assert_eq!(after.mode() & 0o777, 0o600);
    assert_eq!((after.uid(), after.gid()), (before.1.uid(), before.1.gid()));
    assert!(link.symlink_metadata().unwrap().is_symlink());
    let names = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(names, 2, "nothing is left beside it");
    // Whoever read it before somebody else has written it changes nothing.
    let late = file.replace(&version_1(), "canary").unwrap_err();
    assert!(late.to_string().contains("changed meanwhile"), "{late}");
    assert_eq!(*file.read().unwrap(), *new);
}

/// A process that dies on its way leaves the old file under a name that the next one finds.
#[cfg(unix)]
#[test]
fn what_a_dead_process_left_of_an_old_key_file_is_overwritten_by_the_next() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cardless.keys");
    let old = folder.path().join("cardless.keys.replaced");
    let write_private = |path: &Path, text: &str| {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    write_private(&path, "present");
    let file = KeyFile::new(&path);
    // It died before the new one took the name: both names are of the file in use.
    std::fs::hard_link(&path, &old).unwrap();
    file.sweep().unwrap();
    assert!(!old.exists());
    assert_eq!(&*file.read().unwrap(), "present");
    // It died after that; whoever wrote the old one had made it read-only.
    write_private(&old, "secret of old");
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o400)).unwrap();
    let copy = std::fs::File::open(&old).unwrap();
    let remark = file.remark().unwrap();
    assert!(remark.contains("cardless.keys.replaced"), "{remark}");
    // One that is being written has its old file too, for a moment.
    let writing = std::fs::File::open(folder.path()).unwrap();
    writing.lock().unwrap();
    assert_eq!(file.remark(), None);
    drop(writing);
    file.sweep().unwrap();
    assert_eq!(file.remark(), None);
    assert!(!old.exists());
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut &copy, &mut bytes).unwrap();
    assert_eq!(bytes, vec![0; "secret of old".len()]);
    // And so if it writes itself.
    write_private(&old, "secret of old");
    let copy = std::fs::File::open(&old).unwrap();
    file.replace("present", "next").unwrap();
    bytes.clear();
    std::io::Read::read_to_end(&mut &copy, &mut bytes).unwrap();
    assert_eq!(bytes, vec![0; "secret of old".len()]);
    assert_eq!(&*file.read().unwrap(), "next");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn what_is_left_of_an_old_key_file_is_overwritten_unless_it_is_a_copy() {
    use std::io::Read as _;
    let folder = tempfile::tempdir().unwrap();
    let path = a_file(folder.path(), &version_1());
    let read = |mut file: std::fs::File| {
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    };
    let old = std::fs::File::open(&path).unwrap();
    KeyFile::new(&path).replace(&version_1(), "new").unwrap();
    assert!(read(old).bytes().all(|byte| byte == 0));

    let path = a_file(folder.path(), &version_1());
    let copy = folder.path().join("copy");
    std::fs::hard_link(&path, &copy).unwrap();
    KeyFile::new(&path).replace(&version_1(), "new").unwrap();
    assert_eq!(std::fs::read_to_string(&copy).unwrap(), version_1());
}

fn secrets(values: &[&str]) -> Secrets {
    Secrets::new(values.iter().map(|&value| value.to_owned()).collect()).unwrap()
}

#[cfg(unix)]
#[test]
fn a_key_file_under_a_passphrase_opens_with_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = a_file(folder.path(), &version_1());
    let file = KeyFile::new(&path).under(secrets(&["canary one"]));
    assert!(file.remark().unwrap().contains("--rewrite-file"));
    // A plain file opens too, and is under the passphrase once it is written.
    file.replace(&version_1(), &version_1()).unwrap();
    assert_eq!(file.remark(), None);
    assert_eq!(*file.read().unwrap(), version_1());
    let kept = std::fs::read_to_string(&path).unwrap();
    assert!(!kept.contains(&base64url(&KEY)) && !kept.contains("canary"));

    let both = KeyFile::new(&path).under(secrets(&["canary two", "canary one"]));
    assert_eq!(*both.read().unwrap(), version_1());
    let other = KeyFile::new(&path).under(secrets(&["canary two"]));
    let none = KeyFile::new(&path);
    for (file, says) in [(other, "does not open"), (none, "under a passphrase")] {
        let error = KeyRing::from_custody(Arc::new(file)).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains(says) && !text.contains("canary"), "{text}");
    }
}

#[cfg(unix)]
#[test]
fn a_changed_key_file_under_a_passphrase_is_refused_and_can_t_ask_for_much() {
    let folder = tempfile::tempdir().unwrap();
    let path = a_file(folder.path(), &version_1());
    let file = KeyFile::new(&path).under(secrets(&["canary"]));
    let kept = file.as_kept(&version_1()).unwrap();
    let text = kept
        .lines()
        .find(|line| line.starts_with("text = "))
        .unwrap();
    let first = text.strip_prefix("text = \"").unwrap().chars().next();
    let other = if first == Some('A') { "B" } else { "A" };
    let start = format!("text = \"{}", first.unwrap());
    let flipped = text.replacen(&start, &format!("text = \"{other}"), 1);
    for (name, from, to, says) in [
        (
            "memory",
            "memory_kib = 65536",
            "memory_kib = 104857600",
            "more than 1 GiB",
        ),
        (
            "passes",
            "passes = 3",
            "passes = 4000000000",
            "more than 1 GiB",
        ),
        ("lanes", "lanes = 1", "lanes = 9", "more than 1 GiB"),
        ("no_pass", "passes = 3", "passes = 0", "no pass"),
        (
            "no_memory",
            "memory_kib = 65536",
            "memory_kib = 1",
            "too little memory",
        ),
        ("kdf", "argon2id", "canary", "`kdf`"),
        ("version", "version = 2", "version = 9", "`version`"),
        ("cheaper", "passes = 3", "passes = 2", "does not open"),
        ("flipped", text, flipped.as_str(), "does not open"),
        ("cut_off", text, "text = \"AAAA\"", "does not open"),
        ("salt", "salt = \"", "salt = \"A", "`salt`"),
        ("nonce", "nonce = \"", "nonce = \"A", "`nonce`"),
        ("unknown", "lanes = 1", "lanes = 1\ncanary = 1", "line "),
    ] {
        assert!(kept.contains(from), "{name}");
        std::fs::write(&path, kept.replace(from, to)).unwrap();
        let error = file.read().unwrap_err();
        let message = format!("{error} {error:?}");
        assert!(message.contains(says), "{name}: {message}");
        assert!(!message.contains("canary"), "{name}: {message}");
    }
    std::fs::write(&path, kept.as_bytes()).unwrap();
    assert_eq!(*file.read().unwrap(), version_1());
}

fn load_error(path: &Path) -> String {
    let KeyFileError(message) = KeyRing::load(path).unwrap_err();
    message
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
