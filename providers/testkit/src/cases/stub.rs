//! Cases on a stub: every documented refusal, and every way in which an answer can be no answer.
//! In each, no mutating request is sent more than once.

use std::sync::Arc;
use std::time::Duration;

use cardless_contract::{Delivery, ErrorKind, PaymentProvider};
use cardless_transport::HttpClient;

use crate::call::{Call, End, Report, perform};
use crate::judge::{Fault, Judge, JudgedClient};
use crate::stub::{Answer, Dialect, Misbehavior, Seen, Stub, closed_port};

/// An adapter before a stub.
pub trait StubFixture: Send + Sync {
    /// The stub's language.
    fn dialect(&self) -> Arc<dyn Dialect>;

    /// The adapter, whose API lies at `base` (scheme, host and port), sending through `client`.
    fn provider(&self, base: &str, client: Arc<dyn HttpClient>) -> Box<dyn PaymentProvider>;

    /// A client that goes over the network and gives up after `deadline`.
    fn client(&self, deadline: Duration) -> Arc<dyn HttpClient>;
}

/// The deadline where no answer is slow, in milliseconds: never reached.
const PATIENT_MILLIS: u64 = 20_000;
/// The deadline where one is.
const SHORT_MILLIS: u64 = 200;
/// More than a client reads, in bytes.
const HUGE_BYTES: usize = 1024 * 1024 + 1;
/// How deep the deepest answer is; below the size that a client refuses to read.
const DEEP: usize = 100_000;
const MARK: &str = "CANARY";

/// One call against one stub.
#[derive(Debug)]
struct Trial {
    report: Report,
    hits: Vec<Seen>,
    seen: Vec<Seen>,
    replaced: bool,
    faults: Vec<Fault>,
}

async fn trial(fixture: &dyn StubFixture, call: Call, misbehavior: Misbehavior) -> Trial {
    let slow = misbehavior == Misbehavior::Stall;
    let dialect = fixture.dialect();
    let judge = Judge::for_provider(dialect.provider());
    let stub = Stub::start(Arc::clone(&dialect), call, misbehavior).await;
    let millis = if slow { SHORT_MILLIS } else { PATIENT_MILLIS };
    let client = JudgedClient::new(fixture.client(Duration::from_millis(millis)), judge, false);
    let provider = fixture.provider(stub.base(), Arc::new(client.clone()));
    let report = perform(provider.as_ref(), &dialect.sample(), call).await;
    let trial = Trial {
        report,
        hits: stub.hits(),
        seen: stub.seen(),
        replaced: stub.replaced(),
        faults: client.faults(),
    };
    trial.check(dialect.as_ref(), call);
    trial
}

impl Trial {
    /// What holds in every case: the requests are documented ones, none is repeated, and nothing
    /// shows what must not be shown.
    fn check(&self, dialect: &dyn Dialect, call: Call) {
        assert_eq!(
            self.faults,
            [],
            "{call:?}: a request that is not documented"
        );
        assert!(
            !self.report.text.contains(MARK),
            "{call:?} shows a canary: {}",
            self.report.text
        );
        if !call.mutates() {
            return;
        }
        // An access token that was refused is the one reason to send again, under the same key.
        let most = if dialect.login().is_some() { 2 } else { 1 };
        assert!(
            self.hits.len() <= most,
            "{call:?} was sent {} times",
            self.hits.len()
        );
        if let [first, second] = self.hits.as_slice() {
            let unchanged = first.body == second.body
                && first.path == second.path
                && first.header("paypal-request-id") == second.header("paypal-request-id");
            assert!(unchanged, "{call:?} was repeated as another request");
            let end = &self.report.end;
            let login = matches!(
                end,
                End::Failed(Delivery::Refused, ErrorKind::Authentication)
            );
            assert!(login, "{call:?} was sent twice and ended {end:?}");
        }
    }

    /// The call was answered without the request that the misbehavior waits for.
    fn untouched(&self) -> bool {
        self.hits.is_empty()
    }
}

/// The calls that this adapter answers by a request.
fn calls(fixture: &dyn StubFixture) -> Vec<Call> {
    let dialect = fixture.dialect();
    Call::ALL
        .into_iter()
        .filter(|&call| !dialect.silent(call))
        .collect()
}

/// After `misbehavior` nobody knows what happened: a call that writes is `Unknown`, one that reads
/// fails or says that it can't tell.
async fn unknown_after(fixture: &dyn StubFixture, misbehavior: &Misbehavior, calls: &[Call]) {
    for &call in calls {
        let trial = trial(fixture, call, misbehavior.clone()).await;
        if trial.untouched() {
            continue;
        }
        let end = &trial.report.end;
        let right = if call.mutates() {
            matches!(end, End::Failed(Delivery::Unknown, _))
        } else {
            matches!(end, End::Failed(..) | End::CannotTell)
        };
        assert!(right, "{call:?} after {} ended {end:?}", name(misbehavior));
    }
}

fn name(misbehavior: &Misbehavior) -> String {
    match misbehavior {
        Misbehavior::Answer(answer) => format!("{} {}", answer.status, answer.kind),
        other => format!("{other:?}"),
    }
}

/// Every call succeeds on a well-behaved provider, with documented requests only.
pub async fn every_call_goes_well(fixture: &dyn StubFixture) {
    let dialect = fixture.dialect();
    for call in Call::ALL {
        let trial = trial(fixture, call, Misbehavior::None).await;
        assert_eq!(
            trial.report.end,
            dialect.well(call),
            "{call:?}: {}",
            trial.report.text
        );
        assert_eq!(dialect.silent(call), trial.seen.is_empty(), "{call:?}");
    }
}

/// The fact sheet's table, line by line.
pub async fn documented_refusals_end_as_documented(fixture: &dyn StubFixture) {
    let dialect = fixture.dialect();
    let mut wrong = Vec::new();
    for call in calls(fixture) {
        for refusal in dialect.refusals(call) {
            let misbehavior = Misbehavior::Answer(refusal.answer.clone());
            let trial = trial(fixture, call, misbehavior).await;
            if !trial.untouched() && !(refusal.right)(&trial.report.end) {
                wrong.push(format!(
                    "{call:?}, {}: {:?}",
                    refusal.name, trial.report.end
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "wrong ends:\n{}", wrong.join("\n"));
}

/// A 5xx may have made a payment.
pub async fn a_server_error_is_unknown(fixture: &dyn StubFixture) {
    for status in [500, 502, 503, 504] {
        let body = format!(r#"{{"name":"INTERNAL_SERVER_ERROR","message":"{MARK}"}}"#);
        let answer = Misbehavior::Answer(Answer::json(status, body));
        unknown_after(fixture, &answer, &calls(fixture)).await;
    }
}

/// A gateway on the way answers in HTML.
pub async fn an_html_error_is_unknown(fixture: &dyn StubFixture) {
    for status in [502, 503, 520] {
        let answer = Answer::text(status, "text/html", format!("<html>{MARK}</html>"));
        unknown_after(fixture, &Misbehavior::Answer(answer), &calls(fixture)).await;
    }
}

/// A 4xx that the fact sheet does not list proves nothing.
pub async fn an_undocumented_4xx_is_unknown(fixture: &dyn StubFixture) {
    for status in [402, 410, 418, 451] {
        let answer = Misbehavior::Answer(Answer::json(status, format!(r#"{{"x":"{MARK}"}}"#)));
        unknown_after(fixture, &answer, &calls(fixture)).await;
    }
}

/// That a 429 comes before processing is nowhere promised.
pub async fn too_many_requests_is_unknown(fixture: &dyn StubFixture) {
    let answer = Answer::json(429, r#"{"name":"RATE_LIMIT_REACHED"}"#);
    unknown_after(fixture, &Misbehavior::Answer(answer), &calls(fixture)).await;
}

/// A 2xx whose JSON is broken.
pub async fn malformed_json_is_unknown(fixture: &dyn StubFixture) {
    for body in [r#"{"id":"#, r#"{"id":1,,}"#, "[]", "null", r#""text""#] {
        let answer = Misbehavior::Answer(Answer::json(200, body));
        unknown_after(fixture, &answer, &parsed(fixture)).await;
    }
}

/// A 2xx with a web page, as a captive proxy gives it. A call whose success needs no body is no
/// exception.
pub async fn html_for_json_is_unknown(fixture: &dyn StubFixture) {
    let answer = Answer::text(200, "text/html", format!("<html>{MARK}</html>"));
    let mut all = calls(fixture);
    all.retain(|call| *call != Call::Probe);
    unknown_after(fixture, &Misbehavior::Answer(answer), &all).await;
}

/// A good document that ends too early, in a whole HTTP message.
pub async fn a_truncated_document_is_unknown(fixture: &dyn StubFixture) {
    let answer = Answer::json(
        200,
        r#"{"id":7001,"transactionId":"260101120000000001","sta"#,
    );
    unknown_after(fixture, &Misbehavior::Answer(answer), &parsed(fixture)).await;
}

/// A 2xx without the body that is documented.
pub async fn an_empty_answer_is_unknown(fixture: &dyn StubFixture) {
    let answer = Misbehavior::Answer(Answer::json(200, ""));
    let dialect = fixture.dialect();
    let mut needs_a_body = parsed(fixture);
    needs_a_body.retain(|call| !dialect.may_be_empty(*call));
    unknown_after(fixture, &answer, &needs_a_body).await;
}

/// The good answer under a wrong name may be read or not, but never as a refusal.
pub async fn another_content_type_is_never_refused(fixture: &dyn StubFixture) {
    let dialect = fixture.dialect();
    for call in parsed(fixture) {
        let good = trial(fixture, call, Misbehavior::None).await;
        let Some(hit) = good.hits.first() else {
            continue;
        };
        let answer = dialect.answer(call, hit);
        let renamed = Answer {
            kind: "application/octet-stream",
            ..answer
        };
        let trial = trial(fixture, call, Misbehavior::Answer(renamed)).await;
        let end = &trial.report.end;
        let wrong = matches!(
            end,
            End::Failed(Delivery::NotSent | Delivery::Refused, _) | End::Declined(_)
        );
        assert!(!(call.mutates() && wrong), "{call:?} ended {end:?}");
    }
}

/// More than the client reads.
pub async fn a_huge_answer_is_unknown(fixture: &dyn StubFixture) {
    let body = format!(r#"{{"x":"{}"}}"#, "x".repeat(HUGE_BYTES));
    let answer = Misbehavior::Answer(Answer::json(200, body));
    unknown_after(fixture, &answer, &calls(fixture)).await;
}

/// No answer within the deadline.
pub async fn a_slow_answer_is_unknown(fixture: &dyn StubFixture) {
    unknown_after(fixture, &Misbehavior::Stall, &calls(fixture)).await;
}

/// The connection breaks in the middle of the answer.
pub async fn half_a_body_is_unknown(fixture: &dyn StubFixture) {
    unknown_after(fixture, &Misbehavior::HalfBody, &calls(fixture)).await;
}

/// The connection breaks before a byte of the answer.
pub async fn a_broken_connection_is_unknown(fixture: &dyn StubFixture) {
    unknown_after(fixture, &Misbehavior::Reset, &calls(fixture)).await;
}

/// Nobody listens: nothing has left.
pub async fn a_closed_port_is_not_sent(fixture: &dyn StubFixture) {
    let dialect = fixture.dialect();
    let base = closed_port().await;
    let client = fixture.client(Duration::from_millis(PATIENT_MILLIS));
    let provider = fixture.provider(&base, client);
    for call in calls(fixture) {
        let well = trial(fixture, call, Misbehavior::None).await;
        let report = perform(provider.as_ref(), &dialect.sample(), call).await;
        let right = matches!(report.end, End::Failed(Delivery::NotSent, _));
        assert!(
            right || well.seen.is_empty(),
            "{call:?} ended {:?}",
            report.end
        );
    }
}

/// What was sent stays sent, whatever is asked afterwards and fails.
pub async fn a_failed_read_after_the_send_is_unknown(fixture: &dyn StubFixture) {
    for call in calls(fixture).into_iter().filter(|call| call.mutates()) {
        let trial = trial(fixture, call, Misbehavior::Afterwards).await;
        let right = matches!(
            trial.report.end,
            End::Done | End::Pending | End::Failed(Delivery::Unknown, _)
        );
        assert!(right, "{call:?} ended {:?}", trial.report.end);
    }
}

/// A status that nobody has heard of is neither success nor refusal nor absence.
pub async fn an_unknown_word_is_no_verdict(fixture: &dyn StubFixture) {
    let dialect = fixture.dialect();
    for call in calls(fixture) {
        for word in dialect.words(call) {
            let start = word.rfind(":\"").unwrap();
            let (kept, _) = word.split_at(start);
            let other = format!("{kept}:\"A_NEW_WORD\"");
            let texts = vec![((*word).to_owned(), other)];
            let trial = trial(fixture, call, Misbehavior::Replace(texts)).await;
            assert!(trial.replaced, "{call:?}: {word} is in no answer");
            let end = &trial.report.end;
            let right = matches!(
                end,
                End::Unmapped | End::Pending | End::CannotTell | End::Failed(Delivery::Unknown, _)
            );
            assert!(right, "{call:?} with another word for {word} ended {end:?}");
        }
    }
}

/// An answer about another amount is not an answer.
pub async fn another_amount_is_never_success(fixture: &dyn StubFixture) {
    let [amount, _] = fixture.dialect().amounts();
    another_money(fixture, amount).await;
}

/// No number is so odd that it passes for the amount, or ends the process.
pub async fn a_hostile_amount_is_never_success(fixture: &dyn StubFixture) {
    let [(good, _), _] = fixture.dialect().amounts();
    let digits = good.trim_matches([':', '"']);
    let zeros = "0".repeat(400);
    for hostile in [
        format!("-{digits}"),
        format!("{digits}1"),
        format!("1{zeros}"),
        "1e400".to_owned(),
        "0".to_owned(),
        "true".to_owned(),
        "{}".to_owned(),
        "[]".to_owned(),
    ] {
        let bad = good.replace(digits, &hostile);
        another_money(fixture, (good, &bad)).await;
    }
}

/// A member that stands twice with two meanings has none.
pub async fn a_word_said_twice_is_no_verdict(fixture: &dyn StubFixture) {
    let dialect = fixture.dialect();
    for call in calls(fixture) {
        for word in dialect.words(call) {
            let start = word.rfind(":\"").unwrap();
            let (kept, _) = word.split_at(start);
            let (_, name) = kept.split_at(kept.rfind(['{', ',']).map_or(0, |at| at + 1));
            let other = format!("{name}:\"A_NEW_WORD\"");
            for twice in [
                format!("{word},{other}"),
                word.replacen(name, &format!("{other},{name}"), 1),
            ] {
                let texts = vec![((*word).to_owned(), twice.clone())];
                let trial = trial(fixture, call, Misbehavior::Replace(texts)).await;
                assert!(trial.replaced, "{call:?}: {word} is in no answer");
                let end = &trial.report.end;
                let right = matches!(end, End::CannotTell | End::Failed(Delivery::Unknown, _));
                assert!(right, "{call:?} with {twice} ended {end:?}");
            }
        }
    }
}

/// Nesting without end in a member that nobody reads.
pub async fn a_deep_answer_is_survived(fixture: &dyn StubFixture) {
    let deep = format!("{}{}", "[".repeat(DEEP), "]".repeat(DEEP));
    let body = format!(r#"{{"zzz":{deep}}}"#);
    let answer = Misbehavior::Answer(Answer::json(200, body));
    let dialect = fixture.dialect();
    let mut all = parsed(fixture);
    all.retain(|call| !dialect.may_be_empty(*call));
    unknown_after(fixture, &answer, &all).await;
    let open = Misbehavior::Answer(Answer::json(422, "[".repeat(DEEP)));
    unknown_after(fixture, &open, &calls(fixture)).await;
}

/// An answer in another currency is not an answer.
pub async fn another_currency_is_never_success(fixture: &dyn StubFixture) {
    let [_, currency] = fixture.dialect().amounts();
    another_money(fixture, currency).await;
}

async fn another_money(fixture: &dyn StubFixture, (good, bad): (&str, &str)) {
    for call in calls(fixture).into_iter().filter(|call| call.moves()) {
        let texts = vec![(good.to_owned(), bad.to_owned())];
        let trial = trial(fixture, call, Misbehavior::Replace(texts)).await;
        if trial.replaced {
            let end = &trial.report.end;
            let right = match end {
                End::Failed(delivery, ErrorKind::UnreadableAnswer) => {
                    !call.mutates() || *delivery == Delivery::Unknown || trial.untouched()
                }
                _ => false,
            };
            assert!(right, "{call:?} with {bad} for {good} ended {end:?}");
        }
    }
}

/// An answer about another payment, of another account or with another reference, is not an
/// answer.
pub async fn another_payment_is_never_success(fixture: &dyn StubFixture) {
    let dialect = fixture.dialect();
    for call in [Call::Lookup, Call::Commit, Call::CommitManual, Call::Find] {
        for (good, bad) in dialect.names() {
            if dialect.silent(call) {
                continue;
            }
            let texts = vec![((*good).to_owned(), (*bad).to_owned())];
            let trial = trial(fixture, call, Misbehavior::Replace(texts)).await;
            let found_by_name = call == Call::Find && good.contains("id");
            if trial.replaced && !found_by_name {
                let end = &trial.report.end;
                let right = matches!(end, End::Failed(..) | End::No | End::CannotTell);
                assert!(right, "{call:?} with {bad} for {good} ended {end:?}");
            }
        }
    }
}

/// A customer is sent to the provider's own hosts and nowhere else.
pub async fn a_foreign_page_is_never_handed_out(fixture: &dyn StubFixture) {
    for foreign in [
        "https://pages.example",
        "javascript:x",
        "http://127.0.0.1@pages.example",
    ] {
        let texts = vec![("http://127.0.0.1".to_owned(), foreign.to_owned())];
        let trial = trial(fixture, Call::BeginSetup, Misbehavior::Replace(texts)).await;
        assert!(trial.replaced);
        let redirect = trial.report.redirect.unwrap_or_default();
        let own = redirect.is_empty() || redirect.starts_with("http://127.0.0.1:");
        assert!(own, "a customer would be sent to {redirect}");
    }
}

/// Providers add members without notice.
pub async fn unknown_members_are_tolerated(fixture: &dyn StubFixture) {
    let members = vec![
        ("zzz_new".to_owned(), r#""x""#.to_owned()),
        ("zzzNewList".to_owned(), "[1,null,true]".to_owned()),
    ];
    inserted(fixture, &members).await;
}

/// Personal data and card data in an answer end there.
pub async fn what_must_be_dropped_is_dropped(fixture: &dyn StubFixture) {
    let dialect = fixture.dialect();
    let canary = |name: &&str| ((*name).to_owned(), format!(r#""{MARK}-{name}""#));
    let members: Vec<_> = dialect.canaries().iter().map(canary).collect();
    inserted(fixture, &members).await;
}

async fn inserted(fixture: &dyn StubFixture, members: &[(String, String)]) {
    let dialect = fixture.dialect();
    for call in calls(fixture) {
        let trial = trial(fixture, call, Misbehavior::Insert(members.to_vec())).await;
        assert_eq!(
            trial.report.end,
            dialect.well(call),
            "{call:?}: {}",
            trial.report.text
        );
    }
}

/// Without an access token nothing can leave, whatever the reason.
pub async fn no_access_token_means_not_sent(fixture: &dyn StubFixture) {
    let dialect = fixture.dialect();
    if dialect.login().is_none() {
        return;
    }
    let answers = [
        Answer::json(
            401,
            r#"{"error":"invalid_client","error_description":"CANARY"}"#,
        ),
        Answer::json(500, r#"{"name":"INTERNAL_SERVER_ERROR"}"#),
        Answer::text(200, "text/html", "<html>CANARY</html>"),
        Answer::json(200, r#"{"token_type":"Bearer"}"#),
    ];
    for call in calls(fixture) {
        for answer in answers.clone() {
            let status = answer.status;
            let trial = trial(fixture, call, Misbehavior::Login(answer)).await;
            let end = &trial.report.end;
            assert!(
                trial.untouched(),
                "{call:?} went out without an access token"
            );
            let right = match end {
                End::Failed(delivery, kind) => {
                    (*delivery != Delivery::Unknown || !call.mutates())
                        && (status != 401 || *kind == ErrorKind::Authentication)
                }
                _ => false,
            };
            assert!(
                right,
                "{call:?} without an access token ({status}) ended {end:?}"
            );
        }
    }
}

/// The calls whose success is a document that must be read.
fn parsed(fixture: &dyn StubFixture) -> Vec<Call> {
    let dialect = fixture.dialect();
    let bodiless = |call: &Call| dialect.bodiless(*call) || *call == Call::Probe;
    calls(fixture)
        .into_iter()
        .filter(|call| !bodiless(call))
        .collect()
}
