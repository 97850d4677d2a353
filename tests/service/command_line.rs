use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// Runs the program in a folder, with nothing of ours in its environment but `environment`.
fn cardless(folder: &TempDir, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cardless"));
    command
        .current_dir(folder.path())
        .args(arguments)
        .env_clear();
    command.envs(environment.iter().copied()).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn init_writes_two_private_files_and_never_overwrites() {
    let folder = TempDir::new().unwrap();
    let first = cardless(&folder, &["init"], &[]);
    assert_eq!(code(&first), 0, "{}", stderr(&first));
    let settings = folder.path().join("cardless.toml");
    let keys = folder.path().join("cardless.keys");
    let written = std::fs::read(&keys).unwrap();
    assert_eq!((mode(&settings), mode(&keys)), (0o600, 0o600));

    let second = cardless(&folder, &["init"], &[]);
    assert_eq!(code(&second), 1);
    assert!(
        stderr(&second).contains("nothing was written"),
        "{}",
        stderr(&second)
    );
    assert_eq!(std::fs::read(&keys).unwrap(), written);

    std::fs::remove_file(&settings).unwrap();
    let third = cardless(&folder, &["init"], &[]);
    assert_eq!(code(&third), 1);
    assert!(!settings.exists());
    assert_eq!(std::fs::read(&keys).unwrap(), written);
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn config_stands_before_or_after_the_verb() {
    for arguments in [
        ["--config", "a.toml", "init"],
        ["init", "--config", "a.toml"],
    ] {
        let folder = TempDir::new().unwrap();
        assert_eq!(code(&cardless(&folder, &arguments, &[])), 0);
        assert!(folder.path().join("a.toml").exists());
        assert!(folder.path().join("cardless.keys").exists());
    }
}

#[test]
fn wrong_use_and_wrong_settings_exit_with_2() {
    let folder = TempDir::new().unwrap();
    assert_eq!(code(&cardless(&folder, &["nonsense"], &[])), 2);
    assert_eq!(code(&cardless(&folder, &["client", "add", "shop"], &[])), 2);
    assert_eq!(
        code(&cardless(
            &folder,
            &["serve", "--config", "nowhere.toml"],
            &[]
        )),
        2
    );
    std::fs::write(
        folder.path().join("cardless.toml"),
        "[service]\nlissten = 1\n",
    )
    .unwrap();
    let output = cardless(&folder, &["serve"], &[]);
    assert_eq!(code(&output), 2);
    let expected = "cardless.toml:2:1: setting `service.lissten` is not known";
    assert!(stderr(&output).contains(expected), "{}", stderr(&output));
}

/// Public keys on P-256, of nobody: the example of RFC 7517 and one of Wycheproof.
const SEALED_KEYS: &str = r#"{"keys":[
    {"kty":"EC","crv":"P-256","kid":"shop-sig","use":"sig",
     "x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
     "y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"},
    {"kty":"EC","crv":"P-256","kid":"shop-enc","use":"enc",
     "x":"weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ",
     "y":"e8lnCO-AlStT-NJVX-crhB7QRYhiix03illJOVAOyck"}]}"#;

#[test]
fn a_sealed_client_is_added_by_its_public_keys() {
    let folder = TempDir::new().unwrap();
    assert_eq!(code(&cardless(&folder, &["init"], &[])), 0);
    std::fs::write(folder.path().join("keys.json"), SEALED_KEYS).unwrap();
    let private = r#"{"kty":"EC","crv":"P-256","d":"canary","x":"AA","y":"AA"}"#;
    std::fs::write(folder.path().join("private.json"), private).unwrap();
    let add = ["client", "add", "shop", "--role", "billing"];
    let run = |more: &[&str]| cardless(&folder, &[&add, more].concat(), &[]);

    assert_eq!(code(&run(&["--sealed"])), 2);
    assert_eq!(code(&run(&["--public-key", "keys.json"])), 2);
    let refused = run(&["--sealed", "--public-key", "private.json"]);
    assert_eq!(code(&refused), 2);
    assert!(
        stderr(&refused).contains("private key"),
        "{}",
        stderr(&refused)
    );
    assert!(!stderr(&refused).contains("canary"));
    let added = run(&["--sealed", "--public-key", "keys.json", "--json"]);
    assert_eq!(code(&added), 0, "{}", stderr(&added));
    let added: serde_json::Value = serde_json::from_slice(&added.stdout).unwrap();
    assert_eq!(added["sealed"], true);
    assert_eq!(added["keys"][0]["kid"], "shop-sig");
    assert!(added.get("api_key").is_none());

    let revoke = ["client", "key", "revoke", "shop", "--kid", "shop-sig"];
    assert_eq!(code(&cardless(&folder, &revoke, &[])), 0);
    assert_eq!(code(&cardless(&folder, &revoke, &[])), 1);
    let again = ["client", "key", "add", "shop", "--public-key", "keys.json"];
    assert_eq!(code(&cardless(&folder, &again, &[])), 2);
    let listed = cardless(&folder, &["client", "list", "--json"], &[]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let keys = &listed["data"][0]["keys"];
    assert!(keys[0].get("revoked_at").is_some());
    assert!(keys[1].get("revoked_at").is_none());
}

#[test]
fn serve_needs_a_provider_that_is_known() {
    let folder = TempDir::new().unwrap();
    assert_eq!(code(&cardless(&folder, &["init"], &[])), 0);
    let none = cardless(&folder, &["serve"], &[]);
    assert_eq!(code(&none), 2);
    assert!(
        stderr(&none).contains("no provider is set"),
        "{}",
        stderr(&none)
    );
    let unknown = cardless(
        &folder,
        &["check"],
        &[("CARDLESS__PROVIDERS__STRIPE__KEY", "canary")],
    );
    assert_eq!(code(&unknown), 2);
    assert!(
        stderr(&unknown).contains("providers.stripe"),
        "{}",
        stderr(&unknown)
    );
    assert!(!stderr(&unknown).contains("canary"));
}

#[test]
fn a_key_file_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = TempDir::new().unwrap();
    assert_eq!(code(&cardless(&folder, &["init"], &[])), 0);
    let keys = folder.path().join("cardless.keys");
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o644)).unwrap();
    let output = cardless(&folder, &["client", "list"], &[]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("keys.file"), "{}", stderr(&output));
}

#[test]
fn help_is_there_for_every_verb() {
    let folder = TempDir::new().unwrap();
    for verb in [
        "init",
        "serve",
        "check",
        "client",
        "reconcile",
        "account",
        "payment",
    ] {
        assert_eq!(
            code(&cardless(&folder, &[verb, "--help"], &[])),
            0,
            "{verb}"
        );
    }
}

#[cfg(feature = "sandbox")]
#[test]
fn the_demo_is_true_and_leaves_nothing_behind() {
    let folder = TempDir::new().unwrap();
    let temporary = folder.path().to_str().unwrap().to_owned();
    let output = cardless(&folder, &["demo"], &[("TMPDIR", &temporary)]);
    let printed = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(code(&output), 0, "{printed}{}", stderr(&output));
    // The replies that it loses are no warnings to whoever watches it.
    assert_eq!(stderr(&output), "");
    for line in ["postfinance", "paypal", "aduno", "all of it is true"] {
        assert!(printed.lines().any(|found| found == line), "{printed}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[cfg(feature = "sandbox")]
#[test]
fn the_sandbox_prints_settings_that_fit_what_init_writes() {
    let folder = TempDir::new().unwrap();
    assert_eq!(code(&cardless(&folder, &["init"], &[])), 0);
    // Port 9 is for discarding; nothing answers HTTP there.
    let printed = cardless(&folder, &NOWHERE, &[]);
    assert_eq!(code(&printed), 0);
    let path = folder.path().join("cardless.toml");
    let mut settings = std::fs::read(&path).unwrap();
    settings.extend_from_slice(&printed.stdout);
    std::fs::write(&path, settings).unwrap();
    // The settings are good; it is nobody's fault that no sandbox listens.
    let checked = cardless(&folder, &["check", "--json"], &[]);
    assert_eq!(code(&checked), 1, "{}", stderr(&checked));
    let rows: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 4);
    assert_eq!(rows[0]["ok"], true);
    for (row, setting) in [
        (1, "providers.aduno.base_url"),
        (2, "providers.paypal.base_url"),
        (3, "providers.postfinance.base_url"),
    ] {
        let detail = rows[row]["detail"].as_str().unwrap();
        assert!(detail.contains(setting), "{detail}");
    }
}

#[cfg(feature = "sandbox")]
#[test]
fn a_secret_that_is_missing_is_named() {
    let folder = TempDir::new().unwrap();
    assert_eq!(code(&cardless(&folder, &["init"], &[])), 0);
    let printed = cardless(&folder, &NOWHERE, &[]);
    let printed = String::from_utf8(printed.stdout).unwrap();
    let lines = printed.lines();
    for (secret, setting) in [
        ("password", "providers.aduno.password"),
        ("client_secret", "providers.paypal.client_secret"),
    ] {
        let kept: Vec<&str> = lines
            .clone()
            .filter(|line| !line.starts_with(secret))
            .collect();
        std::fs::write(folder.path().join("cardless.toml"), kept.join("\n")).unwrap();
        let output = cardless(&folder, &["check"], &[]);
        assert_eq!(code(&output), 2);
        let expected = format!("setting `{setting}` is missing");
        assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
    }
}

#[cfg(feature = "sandbox")]
const NOWHERE: [&str; 8] = [
    "sandbox",
    "--print-settings",
    "--paypal",
    "127.0.0.1:9",
    "--postfinance",
    "127.0.0.1:9",
    "--aduno",
    "127.0.0.1:9",
];

/// Files of `/proc` about a process that may not be dumped belong to root, whoever runs it: nobody else
/// reads its memory or attaches to it. Root itself tries it as somebody who is not.
#[cfg(target_os = "linux")]
#[test]
fn a_process_is_neither_dumped_nor_read_by_its_user() {
    use std::fs::Permissions;
    use std::io::Write as _;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, Stdio};

    /// `nobody` of every Linux.
    const NOBODY: u32 = 65_534;

    let folder = TempDir::new().unwrap();
    let all = |path: &Path| std::fs::set_permissions(path, Permissions::from_mode(0o755));
    all(folder.path()).unwrap();
    let ours = std::fs::metadata(folder.path()).unwrap().uid();
    let user = if ours == 0 { NOBODY } else { ours };
    let start = |program: &Path, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(folder.path());
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        if ours == 0 {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.spawn().unwrap()
    };
    let owner = |process: &Child| {
        let of_process = format!("/proc/{}/mem", process.id());
        std::fs::metadata(of_process).unwrap().uid()
    };

    let mut other = start(Path::new("/bin/cat"), &[]);
    assert_eq!(owner(&other), user, "the control");
    drop(other.stdin.take());
    other.wait().unwrap();

    // Where whoever runs it may go.
    let program = folder.path().join("cardless");
    std::fs::copy(env!("CARGO_BIN_EXE_cardless"), &program).unwrap();
    all(&program).unwrap();
    let mut ours = start(&program, &["scope", "--scan", "-"]);
    let mut input = ours.stdin.take().unwrap();
    // More than a pipe holds: once it is written, the verb is at work.
    input.write_all(&vec![b'x'; 1 << 20]).unwrap();
    assert_eq!(owner(&ours), 0);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", ours.id())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let core: Vec<&str> = core.unwrap().split_whitespace().skip(4).take(2).collect();
    assert_eq!(core, ["0", "0"], "{limits}");
    drop(input);
    assert_eq!(ours.wait().unwrap().code(), Some(0));
}
