//! Judges requests and answers by the providers' published OpenAPI documents.
//!
//! The documents lie in the shared folder (module [`shared`]) and are read when a judge is
//! made; without them there is no judge.

mod agreements;
mod client;
mod document;
mod house;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cardless_transport::{Request, Response};
use http::HeaderMap;
use serde_json::{Value, json};

pub use client::JudgedClient;
use document::{Document, Operation};

use crate::shared;

/// Something in an exchange that the provider's document does not allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The request, as `POST /v1/transactions`.
    pub call: String,
    /// What is wrong, and where.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, self.what)
    }
}

/// Knows one provider's document and finds what does not fit it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Judge(Arc<Inner>);

struct Inner {
    provider: &'static str,
    prefix: &'static str,
    document: Document,
    validators: Mutex<HashMap<String, Arc<jsonschema::Validator>>>,
}

impl Judge {
    /// The judge for `postfinance`, `paypal` or `aduno`. `None` for another name, and where the
    /// documents are absent.
    pub fn for_provider(name: &str) -> Option<Self> {
        static POSTFINANCE: OnceLock<Option<Judge>> = OnceLock::new();
        static PAYPAL: OnceLock<Option<Judge>> = OnceLock::new();
        static ADUNO: OnceLock<Option<Judge>> = OnceLock::new();
        match name {
            "postfinance" => POSTFINANCE.get_or_init(Self::postfinance).clone(),
            "paypal" => PAYPAL.get_or_init(Self::paypal).clone(),
            "aduno" => ADUNO.get_or_init(Self::aduno).clone(),
            _ => None,
        }
    }

    fn postfinance() -> Option<Self> {
        let document = read("specs/postfinance/postfinance-checkout-v2-subset.openapi.json")?;
        Some(Self::new("postfinance", "/api/v2.0", document))
    }

    fn paypal() -> Option<Self> {
        let mut document = read("specs/paypal/contract_judge.json")?;
        document.add_paths(agreements::paths());
        // The issue is the code; what is said about it "may change any time"
        // (`providers/paypal.md` §9), and the document pins each sentence.
        document.free_texts(&["message", "description"]);
        // The document of 2024 lacks it; the fact sheet's example, from the newer SDK, has it
        // (`providers/paypal.md` §5.1).
        let words = json!({ "type": "string", "enum": ["CONTINUE", "PAY_NOW"] });
        document.add_property("vlt_experience_context", "user_action", words);
        Some(Self::new("paypal", "", document))
    }

    fn aduno() -> Option<Self> {
        let mut document = read("specs/aduno/datatrans-openapi-specification-2.0.45.json")?;
        // The document requires nothing but `type`; the vendor's guide requires these
        // (`providers/aduno.md` §6.3, `specs/aduno/SOURCE.md` defect 3).
        document.require("AliasCard", &["alias", "expiryMonth", "expiryYear"]);
        document.require("AliasInitCard", &["alias"]);
        Some(Self::new("aduno", "", document))
    }

    fn new(provider: &'static str, prefix: &'static str, document: Document) -> Self {
        Self(Arc::new(Inner {
            provider,
            prefix,
            document,
            validators: Mutex::default(),
        }))
    }

    /// What is wrong with a request; empty if it fits.
    pub fn request(&self, request: &Request) -> Vec<Fault> {
        if self.undocumented_file(request) {
            return Vec::new();
        }
        let mut faults = match self.operation(request) {
            Some(operation) => self.judge_request(&operation, request),
            None => vec!["no such operation is documented".to_owned()],
        };
        faults.extend(house::rules(self.0.provider, request));
        name_faults(request, faults)
    }

    /// What is wrong with the answer to a request; empty if it fits.
    pub fn response(&self, request: &Request, response: &Response) -> Vec<Fault> {
        if self.undocumented_file(request) {
            return Vec::new();
        }
        let faults = match self.operation(request) {
            Some(operation) => self.judge_response(request.method().as_str(), &operation, response),
            None => vec!["no such operation is documented".to_owned()],
        };
        name_faults(request, faults)
    }

    /// Files that the fact sheets name and the documents leave out: PayPal's certificates
    /// (`providers/paypal.md` §8.4) and Datatrans' health check (`providers/aduno.md` §2).
    fn undocumented_file(&self, request: &Request) -> bool {
        let path = request.uri().path();
        request.method() == http::Method::GET
            && match self.0.provider {
                "paypal" => path.starts_with("/v1/notifications/certs/"),
                "aduno" => path == "/upp/check",
                _ => false,
            }
    }

    fn operation(&self, request: &Request) -> Option<Operation<'_>> {
        let path = request.uri().path().strip_prefix(self.0.prefix)?;
        self.0.document.operation(request.method().as_str(), path)
    }

    fn judge_request(&self, operation: &Operation<'_>, request: &Request) -> Vec<String> {
        let mut faults = self.judge_parameters(operation, request);
        let body = operation
            .object
            .get("requestBody")
            .map(|body| self.0.document.resolve(body));
        match body {
            None if request.body().is_empty() => {}
            None => faults.push("a body, and none is documented".to_owned()),
            Some(body) => faults.extend(self.judge_request_body(operation, body, request)),
        }
        faults
    }

    fn judge_request_body(
        &self,
        operation: &Operation<'_>,
        body: &Value,
        request: &Request,
    ) -> Vec<String> {
        let required = body.get("required") == Some(&Value::Bool(true));
        if request.body().is_empty() {
            return if required {
                vec!["the body is missing".to_owned()]
            } else {
                Vec::new()
            };
        }
        let Some((kind, schema)) = content(body, request.headers()) else {
            return vec!["a content type that is not documented".to_owned()];
        };
        let value = match kind {
            "application/x-www-form-urlencoded" => Some(form(request.body())),
            _ => serde_json::from_slice(request.body()).ok(),
        };
        let Some(value) = value else {
            return vec!["the body is not JSON".to_owned()];
        };
        let key = format!("{} {} request", request.method(), operation.template);
        let mut faults = self.judge_value(&key, schema, &value);
        let undeclared = self.0.document.undeclared(schema, &value);
        faults.extend(
            undeclared
                .into_iter()
                .map(|at| format!("`{at}` is not a documented member")),
        );
        faults
    }

    fn judge_parameters(&self, operation: &Operation<'_>, request: &Request) -> Vec<String> {
        let mut faults = Vec::new();
        let query = request.uri().query().unwrap_or_default();
        let sent: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect();
        let mut known = Vec::new();
        let list = operation.object.get("parameters").and_then(Value::as_array);
        for parameter in list.into_iter().flatten() {
            let parameter = self.0.document.resolve(parameter);
            let word = |member: &str| parameter.get(member).and_then(Value::as_str).unwrap_or("");
            let name = word("name");
            let values: Vec<String> = match word("in") {
                "path" => place(operation, name).into_iter().collect(),
                "header" => headers(request.headers(), name),
                _ => {
                    known.push(name);
                    sent.iter()
                        .filter(|(key, _)| key == name)
                        .map(|(_, value)| value.clone())
                        .collect()
                }
            };
            faults.extend(self.judge_parameter(operation, parameter, name, &values));
        }
        let unknown = sent
            .iter()
            .filter(|(name, _)| !known.contains(&name.as_str()));
        faults.extend(
            unknown.map(|(name, _)| format!("the query parameter `{name}` is not documented")),
        );
        faults
    }

    fn judge_parameter(
        &self,
        operation: &Operation<'_>,
        parameter: &Value,
        name: &str,
        values: &[String],
    ) -> Vec<String> {
        if values.is_empty() {
            let required = parameter.get("required") == Some(&Value::Bool(true));
            return required
                .then(|| format!("`{name}` is missing"))
                .into_iter()
                .collect();
        }
        let Some(schema) = parameter.get("schema") else {
            return Vec::new();
        };
        let schema = self.0.document.resolve(schema);
        let value = parameter_value(schema, values);
        let key = format!("{} parameter {name}", operation.template);
        let faults = self.judge_value(&key, schema, &value).into_iter();
        faults
            .map(|fault| format!("the parameter `{name}` {fault}"))
            .collect()
    }

    fn judge_response(
        &self,
        method: &str,
        operation: &Operation<'_>,
        response: &Response,
    ) -> Vec<String> {
        let status = response.status();
        let Some(answer) = self.documented_answer(operation, status.as_u16()) else {
            // Most error statuses are undeclared at Aduno (`specs/aduno/SOURCE.md`, defect 5).
            let tolerated = status.is_client_error() || status.is_server_error();
            return (!tolerated)
                .then(|| format!("the status {} is not documented", status.as_u16()))
                .into_iter()
                .collect();
        };
        let documented = answer.get("content").and_then(Value::as_object);
        if documented.is_none_or(serde_json::Map::is_empty) {
            return (!response.body().is_empty() && status.is_success())
                .then(|| "an answer with a body, and none is documented".to_owned())
                .into_iter()
                .collect();
        }
        let Some((kind, schema)) = content(answer, response.headers()) else {
            // A failing server need not speak its own language (`providers/postfinance.md` §5.1,
            // `providers/paypal.md` §9).
            if status.is_server_error() {
                return Vec::new();
            }
            return vec![format!(
                "an answer {} of an undocumented content type",
                status.as_u16()
            )];
        };
        if kind.starts_with("text/") {
            return Vec::new();
        }
        let Ok(value) = serde_json::from_slice(response.body()) else {
            return vec!["the answer is not JSON".to_owned()];
        };
        let key = format!(
            "{method} {} response {}",
            operation.template,
            status.as_u16()
        );
        self.judge_value(&key, schema, &value)
    }

    fn documented_answer<'a>(
        &'a self,
        operation: &Operation<'a>,
        status: u16,
    ) -> Option<&'a Value> {
        let answers = operation.object.get("responses")?;
        let class = format!("{}XX", status / 100);
        let exact = answers.get(status.to_string());
        // PayPal answers a repeat with 200 where the first was 201 (`providers/paypal.md` §3).
        let twin = (self.0.provider == "paypal" && status == 200)
            .then(|| answers.get("201"))
            .flatten();
        let default = (status >= 400).then(|| answers.get("default")).flatten();
        let found = exact.or(twin).or_else(|| answers.get(class)).or(default)?;
        Some(self.0.document.resolve(found))
    }

    fn judge_value(&self, key: &str, schema: &Value, value: &Value) -> Vec<String> {
        match self.validator(key, schema) {
            Ok(validator) => validator
                .iter_errors(value)
                .map(|error| format!("at `{}`: {}", error.instance_path(), error.masked()))
                .collect(),
            Err(fault) => vec![fault],
        }
    }

    fn validator(&self, key: &str, schema: &Value) -> Result<Arc<jsonschema::Validator>, String> {
        let mut validators = self
            .0
            .validators
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = validators.get(key) {
            return Ok(Arc::clone(known));
        }
        let made = jsonschema::options()
            .with_draft(jsonschema::Draft::Draft7)
            .should_validate_formats(true)
            .should_ignore_unknown_formats(true)
            .build(&self.0.document.standalone(schema))
            .map_err(|error| format!("the schema of {key} can't be used: {error}"))?;
        let made = Arc::new(made);
        validators.insert(key.to_owned(), Arc::clone(&made));
        Ok(made)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judge")
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}

/// A document, if the folder of documents is there. A folder without it is a mistake, and no
/// reason to judge nothing.
fn read(path: &str) -> Option<Document> {
    shared::json(path).map(Document::new)
}

fn name_faults(request: &Request, faults: Vec<String>) -> Vec<Fault> {
    let call = format!("{} {}", request.method(), request.uri().path());
    faults
        .into_iter()
        .map(|what| Fault {
            call: call.clone(),
            what,
        })
        .collect()
}

/// The documented content type that the headers name, and its schema.
fn content<'a>(body: &'a Value, headers: &HeaderMap) -> Option<(&'a str, &'a Value)> {
    let sent = headers.get(http::header::CONTENT_TYPE)?.to_str().ok()?;
    let sent = sent.split(';').next()?.trim().to_lowercase();
    let documented = body.get("content")?.as_object()?;
    let (kind, content) = documented.iter().find(|(kind, _)| **kind == sent)?;
    static ANYTHING: Value = Value::Bool(true);
    Some((kind, content.get("schema").unwrap_or(&ANYTHING)))
}

fn form(body: &[u8]) -> Value {
    url::form_urlencoded::parse(body)
        .map(|(name, value)| (name.into_owned(), json!(value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn place(operation: &Operation<'_>, name: &str) -> Option<String> {
    let found = operation.places.iter().find(|(place, _)| *place == name);
    found.map(|(_, value)| value.clone())
}

fn headers(headers: &HeaderMap, name: &str) -> Vec<String> {
    let values = headers.get_all(name).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .map(str::to_owned)
        .collect()
}

/// A parameter's text as the JSON value that its schema speaks of.
fn parameter_value(schema: &Value, values: &[String]) -> Value {
    let one = |text: &str| -> Value {
        match schema.get("type").and_then(Value::as_str) {
            Some("integer") => text
                .parse::<i64>()
                .map_or_else(|_| json!(text), |number| json!(number)),
            Some("boolean") => text
                .parse::<bool>()
                .map_or_else(|_| json!(text), |word| json!(word)),
            _ => json!(text),
        }
    };
    match values {
        [value] if schema.get("type") != Some(&json!("array")) => one(value),
        several => json!(several),
    }
}

#[cfg(test)]
mod tests;
