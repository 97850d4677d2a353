//! The drill: a test card number is planted at every door that can be reached without the network,
//! and at each it is looked what becomes of it.
//!
//! The number is made for the occasion: a random one of the range that test numbers are taken from,
//! so that it stands nowhere before, and finding it afterwards is finding where it was let in. A
//! door refuses it, an alarm goes off (the count that `/metrics` shows goes up; the call that counts
//! also warns in the log), the answer does not repeat it, and neither the store nor its files hold
//! it.
//!
//! Webhooks and sealed messages prove themselves by a signature, and their bodies are not looked
//! through before that; here it must be refused for the signature, and nothing of it kept.
//!
//! The drill runs in a process of its own. It makes a client for itself and revokes it; the audit
//! log tells of both, of what was refused, and at the end of the drill. A revoked client keeps its
//! row, so that this one stays in the list.

use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use cardless_contract::async_trait;
use http::{Request, Response, header};
use serde::Serialize;
use serde_json::Value;

use super::stored::BETWEEN;
use super::{BUILD, Door, noted, software};
use crate::error::{Code, Error};
use crate::exchange;
use crate::gateway::{AuditAction, AuditObject, AuditOutcome, Gateway, RequestKey, Role};
use crate::letters::letters;
use crate::message::{Amount, Capture, Initiator, LinkRequest, PayRequest};
use crate::pan::{self, Scan};
use crate::store::{StoredColumn, StoredValue};

/// What the number begins with: the range of the test numbers that processors publish.
const RANGE: &str = "400000";

/// How many random digits follow; the last digit is the check digit.
const RANDOM_DIGITS: usize = 9;

/// What the drill's own client is called, with random letters behind.
pub(super) const CLIENT: &str = "scope-drill-";

/// How long a drill may need its client. One that is older was left by a drill that was killed; a
/// younger one may be that of a drill which runs now.
const CLIENT_LIVES: Duration = Duration::from_secs(600);

/// How many random bytes make a name that nothing else has.
const NAME_BYTES: usize = 8;

/// The ways in that the drill does not build itself.
#[async_trait]
pub trait WaysIn: Send + Sync {
    /// Hands a request to the service, as if it had come over the network.
    async fn http(&self, request: Request<Bytes>) -> Response<Bytes>;

    /// What the log writes when it is given this line.
    fn logged(&self, line: &str) -> String;
}

/// What a drill looks at.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// The doors of the HTTP service.
    pub doors: Vec<Door>,
    /// The store's own files.
    pub files: Vec<PathBuf>,
}

/// What a drill came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Drill {
    /// Each place where the number was planted.
    pub tries: Vec<Try>,
    /// The client that it made for itself. It is revoked, and stays in the list of clients.
    pub client: String,
    /// Where it was found afterwards, as columns and files.
    pub stored: Vec<String>,
    /// How many bytes were looked through for it.
    pub looked_at_bytes: u64,
}

/// What became of the number at one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Try {
    /// The door, as `POST /v1/payments`.
    pub door: String,
    /// Where at the door, as `body`.
    pub place: &'static str,
    /// What was answered: a code.
    pub answer: String,
    /// Whether that is a refusal, for the right reason, that does not repeat the number.
    pub refused: bool,
    /// Whether an alarm went off; `None` where none is due.
    pub alarmed: Option<bool>,
}

impl Drill {
    /// Runs it, and writes its line into the audit log.
    ///
    /// # Errors
    ///
    /// [`Code::StoreUnavailable`], and [`Code::Internal`] if there is no randomness or a file can't
    /// be read. What the drill finds is in the [`Drill`].
    pub async fn run(gateway: &Gateway, reach: &Reach, ways: &dyn WaysIn) -> Result<Self, Error> {
        revoke_left_over(gateway).await?;
        let number = number(gateway)?;
        let name = format!("{CLIENT}{}", random_name(gateway)?);
        let key = gateway.add_client(&name, Role::Billing).await?;
        let mut drill = Self {
            client: name.clone(),
            ..Self::default()
        };
        let http = Http {
            ways,
            number: &number,
            key: &key,
            name: &name,
        };
        for door in &reach.doors {
            drill.tries.extend(http.try_door(door).await);
        }
        gateway.revoke_client(&name).await?;
        drill.tries.extend(library(gateway, &number).await);
        drill.tries.push(log(ways, &number));
        drill.look_through_store(gateway, &number).await?;
        for file in &reach.files {
            drill.look_through_file(file, &number)?;
        }
        drill.write(gateway).await?;
        Ok(drill)
    }

    /// Whether everything was as it must be.
    pub fn holds(&self) -> bool {
        self.failures().is_empty()
    }

    /// What was not as it must be; each names a place.
    pub fn failures(&self) -> Vec<String> {
        let tries = self.tries.iter().flat_map(Try::failures);
        let stored = self.stored.iter();
        let stored = stored.map(|place| format!("{place} holds the number that was planted"));
        let none = self
            .tries
            .is_empty()
            .then(|| "nothing was tried".to_owned());
        tries.chain(stored).chain(none).collect()
    }

    async fn look_through_store(&mut self, gateway: &Gateway, number: &str) -> Result<(), Error> {
        for column in gateway.columns().await? {
            if self.is_in(gateway, &column, number).await? {
                // Whoever can write to the file chooses what a column is called.
                let name = format!("{}.{}", column.table, column.name);
                self.stored.push(pan::withhold(&name).into_owned());
            }
        }
        Ok(())
    }

    async fn is_in(
        &mut self,
        gateway: &Gateway,
        column: &StoredColumn,
        number: &str,
    ) -> Result<bool, Error> {
        let mut found = false;
        let look = |batch: &[StoredValue]| {
            let values: Vec<&[u8]> = batch.iter().map(|value| value.bytes.as_slice()).collect();
            // Reading from memory does not fail.
            found = self.holds_number(values.join(BETWEEN).as_slice(), number) == Some(true);
            if found {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        gateway.walk_values(column, look).await?;
        Ok(found)
    }

    fn look_through_file(&mut self, path: &Path, number: &str) -> Result<(), Error> {
        let file = match File::open(path) {
            Ok(file) => file,
            // The log of writes is there only while somebody writes.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unread(error.into())),
        };
        match self.holds_number(file, number) {
            Some(true) => self.stored.push(path.display().to_string()),
            Some(false) => {}
            None => return Err(unread("it broke off".into())),
        }
        Ok(())
    }

    /// Whether the number stands there, in any usual encoding; `None` if reading failed.
    fn holds_number(&mut self, from: impl Read, number: &str) -> Option<bool> {
        let mut scan = Scan::only(from, number);
        let mut found = false;
        while let Some(findings) = scan.step().ok()? {
            found |= !findings.is_empty();
        }
        self.looked_at_bytes += scan.bytes();
        Some(found)
    }

    async fn write(&self, gateway: &Gateway) -> Result<(), Error> {
        let failures = self.failures();
        let outcome = if failures.is_empty() {
            AuditOutcome::Done
        } else {
            AuditOutcome::Failed
        };
        let refused = self.tries.iter().filter(|one| one.refused);
        let alarms = self.tries.iter().filter(|one| one.alarmed == Some(true));
        let due = self.tries.iter().filter(|one| one.alarmed.is_some());
        gateway
            .audit(AuditAction::ScopeDrill, AuditObject::none())
            .outcome(outcome)
            .detail(BUILD, noted(&software::program_digest()))
            .detail("planted", self.tries.len())
            .detail("refused", refused.count())
            .detail("alarms_due", due.count())
            .detail("alarms", alarms.count())
            .detail("stored", self.stored.len())
            .detail("failures", failures.len())
            .write()
            .await
    }
}

impl Try {
    fn failures(&self) -> Vec<String> {
        let place = format!("{} ({})", self.door, self.place);
        let taken = (!self.refused).then(|| {
            let answer = &self.answer;
            format!("{place} did not refuse a card number as it must: it answered {answer}")
        });
        let silent = (self.alarmed == Some(false))
            .then(|| format!("{place} refused a card number and no alarm went off"));
        taken.into_iter().chain(silent).collect()
    }
}

/// A drill that was killed may have left its client.
async fn revoke_left_over(gateway: &Gateway) -> Result<(), Error> {
    let now = gateway.now();
    for client in gateway.clients().await? {
        let is_live = client.name.starts_with(CLIENT) && client.revoked_at.is_none();
        if !is_live || now.since(client.created_at) <= CLIENT_LIVES {
            continue;
        }
        match gateway.revoke_client(&client.name).await {
            Ok(()) => {}
            // Another drill was faster.
            Err(error) if error.code() == Code::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What is needed to plant the number at a door of the service.
struct Http<'a> {
    ways: &'a dyn WaysIn,
    number: &'a str,
    key: &'a str,
    /// What nothing is called: an object, an account, a request.
    name: &'a str,
}

impl Http<'_> {
    async fn try_door(&self, door: &Door) -> Vec<Try> {
        let mut tries = Vec::new();
        for place in places(door) {
            let before = pan::refused();
            let response = match self.request(door, place) {
                Ok(request) => self.ways.http(request).await,
                // Not even the address could be written; nothing was tried, and that is a failure.
                Err(_) => Response::new(Bytes::new()),
            };
            let signed = door.open && place == "body";
            tries.push(Try {
                door: format!("{} {}", door.method, door.path),
                place,
                refused: self.is_refusal(&response, signed),
                answer: code(&response),
                alarmed: (!signed).then(|| pan::refused() > before),
            });
        }
        tries
    }

    fn request(&self, door: &Door, place: &str) -> http::Result<Request<Bytes>> {
        let number = self.number;
        let in_path = if place == "path" { number } else { self.name };
        let mut address = filled(&door.path, in_path);
        if place == "query" {
            address.push_str(&format!("?note={number}"));
        }
        let name = if place == "Idempotency-Key" {
            number
        } else {
            self.name
        };
        let body = match place {
            "body" => format!("{{\"note\":\"{number}\"}}"),
            "number in the body" => format!("{{\"note\":{number}}}"),
            "name in the body" => format!("{{\"{number}\":1}}"),
            _ => "{}".to_owned(),
        };
        Request::builder()
            .method(door.method.as_str())
            .uri(address)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.key))
            .header("idempotency-key", name)
            .header(header::CONTENT_TYPE, media_type(door))
            .body(body.into())
    }

    /// Whether it was refused as it must be, and without the number. A body that proves itself is
    /// refused for its signature, or because nobody is set up here who could have signed it.
    fn is_refusal(&self, response: &Response<Bytes>, signed: bool) -> bool {
        let code = code(response);
        let fits = if signed {
            [
                Code::NotificationRefused,
                Code::ExchangeRefused,
                Code::NotFound,
            ]
            .iter()
            .any(|refusal| refusal.as_str() == code)
        } else {
            code == Code::CardNumber.as_str()
        };
        let headers = response.headers().values();
        let said = headers
            .map(|value| value.as_bytes())
            .chain([response.body().as_ref()]);
        let quoted = said.into_iter().any(|bytes| holds(bytes, self.number));
        response.status().is_client_error() && fits && !quoted
    }
}

/// What a body at a door is sent as.
fn media_type(door: &Door) -> &'static str {
    if door.takes.iter().any(|taken| taken == Door::SEALED) {
        exchange::MEDIA_TYPE
    } else {
        "application/json"
    }
}

/// Where at a door something can be written.
fn places(door: &Door) -> Vec<&'static str> {
    let writes = ["POST", "PUT", "PATCH"].contains(&door.method.as_str());
    let mut places = vec!["query"];
    if door.path.contains('{') {
        places.push("path");
    }
    if writes {
        places.extend(["Idempotency-Key", "body"]);
    }
    if writes && !door.open {
        places.extend(["number in the body", "name in the body"]);
    }
    places
}

/// A path with something in the place of each of its varying pieces.
fn filled(path: &str, with: &str) -> String {
    let pieces = path
        .split('/')
        .map(|piece| if piece.starts_with('{') { with } else { piece });
    pieces.collect::<Vec<_>>().join("/")
}

fn code(response: &Response<Bytes>) -> String {
    let body: Option<Value> = serde_json::from_slice(response.body()).ok();
    let code = body.as_ref().and_then(|body| body.get("code")?.as_str());
    code.map_or_else(|| response.status().as_u16().to_string(), str::to_owned)
}

/// The calls of the library, by whoever links it.
async fn library(gateway: &Gateway, number: &str) -> Vec<Try> {
    let mut tries = Vec::new();
    let mut before = pan::refused();
    let mut tell = |place: &'static str, error: Option<Error>| {
        let code = error.as_ref().map(Error::code);
        let quoted = error.is_some_and(|error| holds(error.message().as_bytes(), number));
        let after = pan::refused();
        tries.push(Try {
            door: "the library".to_owned(),
            place,
            answer: code.map_or("done", Code::as_str).to_owned(),
            refused: code == Some(Code::CardNumber) && !quoted,
            alarmed: Some(after > before),
        });
        before = after;
    };
    tell("Idempotency-Key", RequestKey::new("drill", number).err());
    if let Ok(key) = RequestKey::new("drill", "drill") {
        for (place, request) in payments(number) {
            tell(place, gateway.pay(&key, &request).await.err());
        }
        let request = setup(number);
        tell(
            "account of a setup",
            gateway.link(&key, &request).await.err(),
        );
    }
    let client = gateway.add_client(number, Role::Auditor).await;
    tell("a client's name", client.err());
    tries
}

/// Payments with the number in one field each. None of them could be carried out anyway: no account
/// is called so.
fn payments(number: &str) -> Vec<(&'static str, PayRequest)> {
    let request = PayRequest {
        account: CLIENT.to_owned(),
        payment_method: None,
        amount: Amount::new("CHF", 1),
        reference: "drill".to_owned(),
        capture: Capture::Automatic,
        initiator: Initiator::Merchant,
        return_url: None,
        description: None,
    };
    let with = |change: &dyn Fn(&mut PayRequest)| {
        let mut request = request.clone();
        change(&mut request);
        request
    };
    let number = number.to_owned();
    let address = format!("https://drill.invalid/{number}");
    vec![
        ("account", with(&|one| one.account.clone_from(&number))),
        ("reference", with(&|one| one.reference.clone_from(&number))),
        (
            "payment_method",
            with(&|one| one.payment_method = Some(number.clone())),
        ),
        (
            "description",
            with(&|one| one.description = Some(number.clone())),
        ),
        (
            "return_url",
            with(&|one| one.return_url = Some(address.clone())),
        ),
    ]
}

fn setup(number: &str) -> LinkRequest {
    LinkRequest {
        account: number.to_owned(),
        provider: "drill".to_owned(),
        return_url: "https://drill.invalid/".to_owned(),
        language: None,
        amount: None,
        reference: None,
        capture: None,
    }
}

/// The log's own net: whatever gets as far as a line is withheld from it.
fn log(ways: &dyn WaysIn, number: &str) -> Try {
    let written = ways.logged(&format!("a line that quotes {number}\n"));
    let withheld = !holds(written.as_bytes(), number);
    Try {
        door: "the log".to_owned(),
        place: "line",
        answer: if withheld { "withheld" } else { "written" }.to_owned(),
        refused: withheld,
        alarmed: None,
    }
}

/// Whether a number stands in these bytes.
fn holds(bytes: &[u8], number: &str) -> bool {
    // Reading from memory does not fail.
    Drill::default().holds_number(bytes, number) == Some(true)
}

fn number(gateway: &Gateway) -> Result<String, Error> {
    let mut bytes = [0; RANDOM_DIGITS];
    fill(gateway, &mut bytes)?;
    let digits = bytes.iter().map(|byte| char::from(b'0' + byte % 10));
    let begins: String = RANGE.chars().chain(digits).collect();
    let mut whole = ('0'..='9').map(|check| format!("{begins}{check}"));
    let number = whole.find(|number| pan::find(number).is_some());
    number.ok_or_else(|| Error::new(Code::Internal, "No test number could be made."))
}

fn random_name(gateway: &Gateway) -> Result<String, Error> {
    let mut bytes = [0; NAME_BYTES];
    fill(gateway, &mut bytes)?;
    Ok(letters(&bytes))
}

fn fill(gateway: &Gateway, bytes: &mut [u8]) -> Result<(), Error> {
    gateway.entropy().fill(bytes).map_err(|error| {
        Error::new(Code::Internal, "The source of randomness failed.").with_source(error)
    })
}

fn unread(source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::new(Code::Internal, "A file of the store can't be read.").with_source(source)
}

/// How old a drill may be.
pub const MAX_DRILL_AGE: Duration = Duration::from_secs(365 * 86_400);
