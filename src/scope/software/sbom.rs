//! The inventory as a CycloneDX 1.6 document (ECMA-424): <https://cyclonedx.org/docs/1.6/json/>.
//!
//! It holds no time and nothing random, so that one program has one document, and one digest of it.

use serde_json::{Value, json};

use super::binary::Binary;
use super::inventory::{Crate, Inventory, Part};

/// The version of CycloneDX.
const SPECIFICATION: &str = "1.6";

/// The crate that the document is about.
const OURS: &str = "cardless";

/// What is linked and is no crate: its name, its version, and its licence.
pub(super) struct Beside {
    pub(super) name: &'static str,
    pub(super) version: String,
    pub(super) licence: &'static str,
}

/// The document. What is linked besides crates stands in `beside`.
pub(super) fn document(inventory: &Inventory, binary: &Binary, beside: &[Beside]) -> Value {
    let listed = inventory
        .crates
        .iter()
        .filter(|one| one.part == Part::Built || one.is_in(binary));
    let (ours, others): (Vec<&Crate>, Vec<&Crate>) = listed.partition(|one| one.name == OURS);
    let all = ours.iter().chain(&others);
    let dependencies: Vec<Value> = all.map(|one| dependency(one)).collect();
    let components: Vec<Value> = others.into_iter().map(component).collect();
    let components = [components, beside.iter().map(other_component).collect()].concat();
    let properties: Vec<Value> = inventory
        .about
        .iter()
        .map(|(name, value)| json!({"name": format!("cardless:{name}"), "value": value}))
        .collect();
    json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPECIFICATION,
        "serialNumber": serial_number(&binary.digest),
        "version": 1,
        "metadata": {
            "component": ours.first().map(|one| program(one, binary)),
            "properties": properties,
        },
        "components": components,
        "dependencies": dependencies,
    })
}

/// The program itself, by the digest of its file.
fn program(ours: &Crate, binary: &Binary) -> Value {
    let mut value = component(ours);
    if let Some(members) = value.as_object_mut() {
        members.insert("type".to_owned(), "application".into());
        members.insert("hashes".to_owned(), hashes(&binary.digest));
    }
    value
}

fn component(one: &Crate) -> Value {
    let mut value = json!({
        "type": "library",
        "bom-ref": purl(&one.id()),
        "name": one.name,
        "version": one.version,
        // What was run to build the program is not in it.
        "scope": if one.part == Part::Built { "excluded" } else { "required" },
        "purl": purl(&one.id()),
    });
    if let Some(members) = value.as_object_mut() {
        if let Some(checksum) = one.checksum {
            members.insert("hashes".to_owned(), hashes(checksum));
        }
        if let Some(licence) = &one.licence {
            members.insert("licenses".to_owned(), licences(licence));
        }
    }
    value
}

fn other_component(one: &Beside) -> Value {
    let purl = format!("pkg:generic/{}@{}", one.name, one.version);
    json!({
        "type": "library",
        "bom-ref": purl,
        "name": one.name,
        "version": one.version,
        "scope": "required",
        "licenses": licences(one.licence),
        "purl": purl,
    })
}

fn dependency(one: &Crate) -> Value {
    let needs: Vec<String> = one.needs.iter().map(|id| purl(id)).collect();
    json!({"ref": purl(&one.id()), "dependsOn": needs})
}

/// A package URL. A version may have a `+`, which stands for a space in some readers' eyes.
fn purl(id: &str) -> String {
    format!("pkg:cargo/{}", id.replace('+', "%2B"))
}

fn hashes(sha256: &str) -> Value {
    json!([{"alg": "SHA-256", "content": sha256}])
}

fn licences(expression: &str) -> Value {
    json!([{"expression": expression}])
}

/// A UUID (RFC 9562, version 8) from the program's digest.
fn serial_number(digest: &str) -> String {
    let half_bytes = |range: std::ops::Range<usize>| digest.get(range).unwrap_or_default();
    format!(
        "urn:uuid:{}-{}-8{}-8{}-{}",
        half_bytes(0..8),
        half_bytes(8..12),
        half_bytes(12..15),
        half_bytes(15..18),
        half_bytes(18..30)
    )
}
