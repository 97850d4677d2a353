use std::process::Command;

use super::*;

/// A program whose bytes hold the paths of these crates.
fn program(ids: &[&str]) -> Binary {
    let paths = ids.iter().map(|id| {
        let folder = id.replace('@', "-");
        format!("\0/registry/{folder}/src/lib.rs")
    });
    Binary::read(paths.collect::<String>().as_bytes()).unwrap()
}

fn facts(binary: &Binary) -> Facts<'_> {
    Facts {
        inventory: Inventory::of_this_build(),
        allowed: Allowed::of_this_build(),
        binary: Ok(binary),
    }
}

/// A crate of the inventory, by its place among them.
fn linked(place: usize) -> String {
    let inventory = Inventory::of_this_build().unwrap();
    inventory.that_are(Part::Linked).nth(place).unwrap().id()
}

#[test]
fn what_the_bytes_name_and_the_inventory_lacks_is_a_fault() {
    let (one, other) = (linked(0), linked(1));
    let binary = program(&[&one, &other]);
    let statement = listed(&facts(&binary));
    assert!(statement.holds, "{:?}", statement.faults);
    let seen = statement.evidence.rows.iter().filter(|row| row[3] == "yes");
    assert_eq!(seen.count(), 2);

    let binary = program(&[&one, "openssl-sys@0.9.111"]);
    let statement = listed(&facts(&binary));
    assert_eq!((statement.claim.id, statement.holds), ("software-1", false));
    assert!(
        statement.faults[0].starts_with("openssl-sys@0.9.111 "),
        "{:?}",
        statement.faults
    );
}

#[test]
fn a_crate_that_only_builds_the_program_is_not_listed_as_being_in_it() {
    let inventory = Inventory::of_this_build().unwrap();
    let of = |name: &str| inventory.crates.iter().find(|one| one.name == name);
    assert_eq!(of("serde_derive").unwrap().part, Part::Built);
    let binary = program(&[&of("serde_derive").unwrap().id()]);
    assert!(!listed(&facts(&binary)).holds);
}

#[test]
fn what_only_the_lock_file_has_is_listed_once_the_bytes_name_it() {
    let inventory = Inventory::of_this_build().unwrap();
    let id = inventory.that_are(Part::Locked).next().unwrap().id();
    let (with, without) = (program(&[&linked(0), &id]), program(&[&linked(0)]));
    let is_listed = |binary: &Binary| {
        let text = printed(&facts(binary).document().unwrap());
        text.contains(&format!("\"pkg:cargo/{}\"", id.replace('+', "%2B")))
    };
    assert!(is_listed(&with) && !is_listed(&without));
    assert!(listed(&facts(&with)).holds && licences(&facts(&with)).holds);
}

#[test]
fn bytes_that_name_nobody_prove_nothing() {
    let binary = program(&[]);
    assert!(!listed(&facts(&binary)).holds);
}

#[test]
fn a_licence_off_the_list_is_a_fault_of_its_crate() {
    let binary = program(&[&linked(0)]);
    let mut facts = facts(&binary);
    assert!(licences(&facts).holds, "{:?}", licences(&facts).faults);
    let crates = &mut facts.inventory.as_mut().unwrap().crates;
    let first = crates
        .iter_mut()
        .position(|one| one.part == Part::Linked)
        .unwrap();
    crates[first].licence = Some("AGPL-3.0-only".to_owned());
    crates[first + 1].licence = None;
    let ids = [crates[first].id(), crates[first + 1].id()];
    let statement = licences(&facts);
    assert_eq!((statement.claim.id, statement.holds), ("software-2", false));
    for (id, fault) in ids.iter().zip(&statement.faults) {
        assert!(fault.starts_with(id.as_str()), "{fault}");
    }
    facts.allowed = Allowed::default();
    assert!(!licences(&facts).holds);
}

#[test]
fn a_build_without_an_inventory_says_so_in_every_statement() {
    assert_eq!(Inventory::parse(""), None);
    let binary = program(&["a@1.2.3"]);
    let facts = Facts {
        inventory: None,
        ..facts(&binary)
    };
    for statement in [listed(&facts), licences(&facts), tied(&facts)] {
        assert!(!statement.holds);
        assert_eq!(statement.faults[0], NO_INVENTORY);
    }
    assert!(facts.document().is_err());
}

#[test]
fn the_document_has_what_cyclonedx_requires() {
    let binary = program(&[&linked(0)]);
    let facts = facts(&binary);
    let document = facts.document().unwrap();
    assert_eq!(document["bomFormat"], "CycloneDX");
    assert_eq!(document["specVersion"], "1.6");
    assert_eq!(document["version"], 1);
    let serial = document["serialNumber"].as_str().unwrap();
    assert_eq!(serial.len(), "urn:uuid:".len() + 36);
    assert!(crate::pan::find(serial.strip_prefix("urn:uuid:").unwrap()).is_none());
    let ours = &document["metadata"]["component"];
    assert_eq!(
        (&ours["type"], &ours["name"]),
        (&"application".into(), &"cardless".into())
    );
    assert_eq!(ours["hashes"][0]["content"], binary.digest.as_str());
    let components = document["components"].as_array().unwrap();
    let mut refs: BTreeSet<&str> = BTreeSet::from([ours["bom-ref"].as_str().unwrap()]);
    for component in components {
        for member in ["type", "name", "version", "purl", "scope"] {
            assert!(component[member].is_string(), "{component}");
        }
        assert!(
            component["licenses"][0]["expression"].is_string(),
            "{component}"
        );
        assert!(
            refs.insert(component["bom-ref"].as_str().unwrap()),
            "{component}"
        );
    }
    for dependency in document["dependencies"].as_array().unwrap() {
        assert!(refs.contains(dependency["ref"].as_str().unwrap()));
        for needed in dependency["dependsOn"].as_array().unwrap() {
            assert!(refs.contains(needed.as_str().unwrap()), "{needed}");
        }
    }
    let names = |name: &str| components.iter().any(|one| one["name"] == name);
    assert!(names("ring") && names("rust-std"));
    assert_eq!(names("sqlite"), cfg!(feature = "sqlite"));
    let text = printed(&document);
    assert!(!text.contains(env!("CARGO_MANIFEST_DIR")) && !text.contains(".cargo/registry"));
    // The same program has the same document.
    assert_eq!(text, printed(&facts.document().unwrap()));
}

/// Cargo's other account of the same lock file. It counts what any member of the workspace turns
/// on, so it may know of more, and never of less.
#[test]
fn every_crate_of_the_inventory_is_one_of_cargos_with_its_licence() {
    let inventory = Inventory::of_this_build().unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--locked", "--format-version", "1"])
        .args(["--filter-platform", inventory.about["target"]])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages: BTreeMap<String, &Value> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let text = |member: &str| one[member].as_str().unwrap();
            (format!("{}@{}", text("name"), text("version")), one)
        })
        .collect();
    assert!(inventory.that_are(Part::Linked).count() > 100);
    for one in inventory
        .crates
        .iter()
        .filter(|one| one.part != Part::Locked)
    {
        let package = packages[&one.id()];
        let theirs = package["license"].as_str().unwrap();
        let theirs = theirs.replace(" / ", "/").replace('/', " OR ");
        assert_eq!(
            one.licence.as_deref(),
            Some(theirs.as_str()),
            "{}",
            one.id()
        );
        assert_eq!(
            one.checksum.is_some(),
            package["source"].is_string(),
            "{}",
            one.id()
        );
    }
    // Whatever this package's manifest names and this build needs is there.
    let ours = packages["cardless@0.1.0"]["dependencies"]
        .as_array()
        .unwrap();
    for needed in ours
        .iter()
        .filter(|one| one["kind"].is_null() && one["optional"] == false)
    {
        let name = needed["name"].as_str().unwrap();
        assert!(
            inventory.crates.iter().any(|one| one.name == name),
            "{name}"
        );
    }
}
