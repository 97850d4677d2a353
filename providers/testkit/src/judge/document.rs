use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// A published OpenAPI 3.0 document, made fit for a JSON Schema validator.
#[derive(Debug)]
pub(super) struct Document {
    root: Value,
}

/// One operation of a document, with what a template matched.
#[derive(Debug)]
pub(super) struct Operation<'a> {
    /// The template, as `/v1/aliases/{alias}`.
    pub(super) template: &'a str,
    /// The operation object.
    pub(super) object: &'a Value,
    /// The values of the template's places, percent-decoded.
    pub(super) places: Vec<(&'a str, String)>,
}

impl Document {
    /// Takes a parsed document: cuts the cycles and spells `nullable` as JSON Schema does.
    pub(super) fn new(mut root: Value) -> Self {
        cut_cycles(&mut root);
        spell_nullable(&mut root);
        Self { root }
    }

    /// Adds operations that the published document lacks.
    pub(super) fn add_paths(&mut self, paths: Value) {
        if let (Some(Value::Object(known)), Value::Object(more)) =
            (self.root.get_mut("paths"), paths)
        {
            known.extend(more);
        }
    }

    /// Lets the named members be any text: prose that a provider may reword at any time.
    pub(super) fn free_texts(&mut self, names: &[&str]) {
        free(&mut self.root, names);
    }

    /// Adds a member that a schema of the document lacks.
    pub(super) fn add_property(&mut self, schema: &str, name: &str, property: Value) {
        let place = format!("/components/schemas/{schema}/properties");
        if let Some(Value::Object(properties)) = self.root.pointer_mut(&place) {
            properties.insert(name.to_owned(), property);
        }
    }

    /// Adds members to the `required` list of a schema.
    pub(super) fn require(&mut self, schema: &str, members: &[&str]) {
        if let Some(Value::Object(schema)) = self
            .root
            .pointer_mut(&format!("/components/schemas/{schema}"))
        {
            let required = schema.entry("required").or_insert_with(|| json!([]));
            if let Value::Array(required) = required {
                required.extend(members.iter().map(|&member| json!(member)));
            }
        }
    }

    /// The operation that answers `method` on `path`; a literal segment wins over a place, and a
    /// path whose template has no such method is not found either.
    pub(super) fn operation(&self, method: &str, path: &str) -> Option<Operation<'_>> {
        let paths = self.root.get("paths")?.as_object()?;
        let mut found: Vec<(usize, Operation<'_>)> = paths
            .iter()
            .filter_map(|(template, item)| {
                let places = match_template(template, path)?;
                let operation = Operation {
                    template,
                    object: item.get(method.to_lowercase())?,
                    places,
                };
                Some((operation.places.len(), operation))
            })
            .collect();
        found.sort_by_key(|(places, _)| *places);
        found.into_iter().next().map(|(_, operation)| operation)
    }

    /// Follows `$ref` until there is none.
    pub(super) fn resolve<'a>(&'a self, mut value: &'a Value) -> &'a Value {
        while let Some(target) = value
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|name| self.root.pointer(name.strip_prefix('#')?))
        {
            value = target;
        }
        value
    }

    /// The schema as a document of its own, with every component that it can reach.
    pub(super) fn standalone(&self, schema: &Value) -> Value {
        let mut names = BTreeSet::new();
        self.reach(schema, &mut names);
        let components: Map<String, Value> = names
            .into_iter()
            .filter_map(|name| {
                let schema = self.root.pointer(&format!("/components/schemas/{name}"))?;
                Some((name, schema.clone()))
            })
            .collect();
        json!({ "allOf": [schema], "components": { "schemas": components } })
    }

    fn reach(&self, value: &Value, names: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                if let Some(name) = members
                    .get("$ref")
                    .and_then(Value::as_str)
                    .and_then(|target| target.strip_prefix("#/components/schemas/"))
                    && names.insert(name.to_owned())
                    && let Some(target) = self.root.pointer(&format!("/components/schemas/{name}"))
                {
                    self.reach(target, names);
                }
                members
                    .values()
                    .for_each(|member| self.reach(member, names));
            }
            Value::Array(items) => items.iter().for_each(|item| self.reach(item, names)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// The paths of members in `value` that no schema declares, as `card.numbr`.
    pub(super) fn undeclared(&self, schema: &Value, value: &Value) -> Vec<String> {
        let mut found = Vec::new();
        self.walk(&[schema], value, String::new(), &mut found);
        found
    }

    fn walk(&self, schemas: &[&Value], value: &Value, at: String, found: &mut Vec<String>) {
        match value {
            Value::Array(items) => {
                let inner: Vec<&Value> = self
                    .branches(schemas, value)
                    .into_iter()
                    .filter_map(|schema| schema.get("items"))
                    .collect();
                for (index, item) in items.iter().enumerate() {
                    self.walk(&inner, item, format!("{at}[{index}]"), found);
                }
            }
            Value::Object(members) => {
                let branches = self.branches(schemas, value);
                for (name, member) in members {
                    let inner = declared(&branches, name);
                    let at = if at.is_empty() {
                        name.clone()
                    } else {
                        format!("{at}.{name}")
                    };
                    if inner.is_empty() {
                        found.push(at);
                    } else {
                        self.walk(&inner, member, at, found);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// Every schema that speaks about `value`: through `$ref`, `allOf`, and those branches of
    /// `oneOf` and `anyOf` whose own `type` word, if they fix one, is that of the value.
    fn branches<'a>(&'a self, schemas: &[&'a Value], value: &Value) -> Vec<&'a Value> {
        let mut all = Vec::new();
        let mut open: Vec<&Value> = schemas.to_vec();
        while let Some(schema) = open.pop() {
            let schema = self.resolve(schema);
            if !fixes_another_type(schema, value) {
                all.push(schema);
                let inner = ["allOf", "oneOf", "anyOf"]
                    .iter()
                    .filter_map(|keyword| schema.get(keyword).and_then(Value::as_array));
                open.extend(inner.flatten());
            }
        }
        all
    }
}

/// The schemas that declare a member: by name, else by `additionalProperties`. A schema that says
/// nothing at all declares everything.
fn declared<'a>(branches: &[&'a Value], name: &str) -> Vec<&'a Value> {
    branches
        .iter()
        .filter_map(|&schema| {
            let named = schema.get("properties").and_then(|list| list.get(name));
            let rest = schema.get("additionalProperties");
            let silent = schema
                .as_object()
                .is_some_and(Map::is_empty)
                .then_some(schema);
            named.or(rest).or(silent)
        })
        .filter(|schema| **schema != Value::Bool(false))
        .collect()
}

fn fixes_another_type(schema: &Value, value: &Value) -> bool {
    let words = schema
        .pointer("/properties/type/enum")
        .and_then(Value::as_array);
    match (words, value.get("type")) {
        (Some(words), Some(word)) => !words.contains(word),
        _ => false,
    }
}

/// `Card` and its kind are a `oneOf` over branches that each name their parent in `allOf`: a cycle
/// (`specs/aduno/SOURCE.md`, defect 2). The branch loses its parent, and gets the discriminator's
/// word as the only value of its `type`, so that exactly one branch fits.
fn cut_cycles(root: &mut Value) {
    let Some(Value::Object(schemas)) = root.pointer_mut("/components/schemas") else {
        return;
    };
    let parents: Vec<(String, String, String)> = schemas
        .iter()
        .filter_map(|(parent, schema)| {
            let mapping = schema.pointer("/discriminator/mapping")?.as_object()?;
            Some(mapping.iter().filter_map(move |(word, branch)| {
                let branch = branch.as_str()?.strip_prefix("#/components/schemas/")?;
                Some((parent.clone(), word.clone(), branch.to_owned()))
            }))
        })
        .flatten()
        .collect();
    for (parent, word, branch) in parents {
        let parent = json!({ "$ref": format!("#/components/schemas/{parent}") });
        let Some(Value::Object(branch)) = schemas.get_mut(&branch) else {
            continue;
        };
        if let Some(Value::Array(all)) = branch.get_mut("allOf") {
            all.retain(|schema| *schema != parent);
            if all.is_empty() {
                branch.remove("allOf");
            }
        }
        if let Some(Value::Object(properties)) = branch.get_mut("properties") {
            properties.insert(
                "type".to_owned(),
                json!({ "type": "string", "enum": [word] }),
            );
        }
    }
}

fn free(value: &mut Value, names: &[&str]) {
    match value {
        Value::Object(members) => {
            if let Some(Value::Object(properties)) = members.get_mut("properties") {
                for name in names {
                    if let Some(Value::Object(schema)) = properties.get_mut(*name) {
                        schema.remove("enum");
                    }
                }
            }
            members.values_mut().for_each(|member| free(member, names));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| free(item, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// OpenAPI 3.0's `nullable: true` as a list of types.
fn spell_nullable(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if members.remove("nullable") == Some(Value::Bool(true))
                && let Some(name) = members.get("type").cloned()
            {
                members.insert("type".to_owned(), json!([name, "null"]));
            }
            members.values_mut().for_each(spell_nullable);
        }
        Value::Array(items) => items.iter_mut().for_each(spell_nullable),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn match_template<'a>(template: &'a str, path: &str) -> Option<Vec<(&'a str, String)>> {
    let expected: Vec<&str> = template.split('/').collect();
    let sent: Vec<&str> = path.split('/').collect();
    if expected.len() != sent.len() {
        return None;
    }
    let mut places = Vec::new();
    for (expected, sent) in expected.into_iter().zip(sent) {
        match expected
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
        {
            Some(_) if sent.is_empty() => return None,
            Some(name) => places.push((name, percent_decode(sent))),
            None if expected == sent => {}
            None => return None,
        }
    }
    Some(places)
}

/// A path segment without its percent-encoding. `+` stands for itself in a path.
fn percent_decode(segment: &str) -> String {
    let pair = format!("x={}", segment.replace('+', "%2B"));
    url::form_urlencoded::parse(pair.as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}
