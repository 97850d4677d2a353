//! Compares our books with the providers', to the cent: `reconcile --verify`. It reads and tells,
//! and changes nothing.

use cardless_contract::{
    ErrorKind, HoldState, Money, Outcome, Payment as Seen, PaymentPhase, ProviderName,
};
use serde::Serialize;

use super::people::{lookup_request, phase_word};
use super::view::provider_name;
use super::{Gateway, Inner, stored};
use crate::error::{Causes, Error};
use crate::journal::state::{self, HOLD_MAY_REMAIN};
use crate::store::{PaymentRow, PaymentState};

/// How many payments one page compares.
const PAGE: u32 = 100;

/// How often a payment that is being changed meanwhile is compared again.
const MAX_TRIES: u32 = 3;

/// What the comparison of some payments has shown. Pages add up by [`VerifyReport::add`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Payments that were compared.
    pub compared: u64,
    /// Every difference.
    pub differences: Vec<Difference>,
    /// Payments that could not be compared.
    pub unread: Vec<Unread>,
    /// Payments of which the provider's read does not show what was given back: `refunded` was not
    /// compared there.
    pub refunds_not_shown: u64,
    /// Payments of which no object at the provider is known, so that there was nothing to compare.
    pub without_object: WithoutObject,
}

/// How many payments have no object at their provider that we know of, by why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct WithoutObject {
    /// They ended before anything was made there.
    pub never_made: u64,
    /// What was made there is not known, and a hold may stand until it lapses: their failure is
    /// `hold_may_remain`.
    pub hold_may_remain: u64,
    /// They are open: what becomes of them is still being asked, or waits for a customer.
    pub open: u64,
    /// They are parked: a person must look.
    pub parked: u64,
}

/// One difference between our books and a provider's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `pay_…`.
    pub payment: String,
    /// At which provider.
    pub provider: ProviderName,
    /// The provider's id of it.
    pub reservation: String,
    /// `captured`, `refunded`, `reversed`, `status`, or `returned`: more went back there, at the
    /// least, than our refunds and reversals come to, and the read does not say how.
    pub what: &'static str,
    /// What our books say.
    pub ours: String,
    /// What the provider says.
    pub theirs: String,
    /// The payment or one of its operations is open: `reconcile` may settle the difference.
    pub open: bool,
}

/// A payment that could not be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unread {
    /// `pay_…`.
    pub payment: String,
    /// At which provider.
    pub provider: String,
    /// The provider's id of it.
    pub reservation: String,
    /// Why.
    pub why: String,
}

/// Some payments' comparison, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyPage {
    /// What it has shown.
    pub report: VerifyReport,
    /// What to give as `after` for the next page; absent on the last.
    pub next: Option<String>,
}

/// What a provider says of a payment.
struct Theirs {
    /// In one word.
    status: &'static str,
    hold: HoldState,
    captured: Money,
    refunded: Option<Money>,
    reversed: Option<Money>,
    returned: Option<Money>,
}

/// What came of one payment.
enum Compared {
    Shown(Vec<Difference>, bool),
    Unread(String),
}

impl VerifyReport {
    /// Adds another page's.
    pub fn add(&mut self, other: Self) {
        self.compared += other.compared;
        self.differences.extend(other.differences);
        self.unread.extend(other.unread);
        self.refunds_not_shown += other.refunds_not_shown;
        self.without_object.add(other.without_object);
    }

    /// Whether every payment that has an object at its provider was compared, and none differs.
    pub const fn is_clean(&self) -> bool {
        self.differences.is_empty() && self.unread.is_empty()
    }
}

impl WithoutObject {
    /// All of them.
    pub const fn payments(&self) -> u64 {
        self.never_made + self.hold_may_remain + self.open + self.parked
    }

    const fn add(&mut self, other: Self) {
        self.never_made += other.never_made;
        self.hold_may_remain += other.hold_may_remain;
        self.open += other.open;
        self.parked += other.parked;
    }

    fn count(&mut self, state: PaymentState, failure: Option<&str>, payments: u64) {
        let why = match (state, failure) {
            (PaymentState::Parked, _) => &mut self.parked,
            (PaymentState::ActionRequired | PaymentState::Pending | PaymentState::Unknown, _) => {
                &mut self.open
            }
            (_, Some(HOLD_MAY_REMAIN)) => &mut self.hold_may_remain,
            _ => &mut self.never_made,
        };
        *why += payments;
    }
}

impl Gateway {
    /// Compares the next payments that have an object at their provider, by id and after `after`,
    /// with what the provider says of them. The first page counts those that have none.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::StoreUnavailable`]. A provider that can't be read is no error but a
    /// line of the report.
    pub async fn verify_page(&self, after: Option<&str>) -> Result<VerifyPage, Error> {
        let store = self.inner.journal.store();
        let rows = store
            .payments_with_reservation(after, PAGE)
            .await
            .map_err(stored)?;
        let next = rows.last().map(|row| row.id.clone());
        let mut report = VerifyReport::default();
        if after.is_none() {
            let counted = store.count_without_reservation().await.map_err(stored)?;
            for (state, failure, payments) in counted {
                report
                    .without_object
                    .count(state, failure.as_deref(), payments);
            }
        }
        for row in rows {
            self.inner.compare_into(row, &mut report).await?;
        }
        Ok(VerifyPage { report, next })
    }

    /// Compares all of them.
    ///
    /// # Errors
    ///
    /// As for [`Gateway::verify_page`].
    pub async fn verify(&self) -> Result<VerifyReport, Error> {
        let mut report = VerifyReport::default();
        let mut after = None;
        loop {
            let page = self.verify_page(after.as_deref()).await?;
            report.add(page.report);
            after = page.next;
            if after.is_none() {
                return Ok(report);
            }
        }
    }

    /// How many payments there are at all: what a progress bar counts towards.
    ///
    /// # Errors
    ///
    /// [`crate::error::Code::StoreUnavailable`].
    pub async fn count_payments(&self) -> Result<u64, Error> {
        let states = self.inner.journal.store().count_states().await;
        Ok(states.map_err(stored)?.iter().map(|(_, count)| count).sum())
    }
}

impl Inner {
    async fn compare_into(&self, row: PaymentRow, report: &mut VerifyReport) -> Result<(), Error> {
        report.compared += 1;
        let (id, provider) = (row.id.clone(), row.provider.clone());
        let reservation = row.reservation.clone().unwrap_or_default();
        match self.compare(row).await? {
            Compared::Shown(differences, refunds_shown) => {
                report.differences.extend(differences);
                report.refunds_not_shown += u64::from(!refunds_shown);
            }
            Compared::Unread(why) => report.unread.push(Unread {
                payment: id,
                provider,
                reservation,
                why,
            }),
        }
        Ok(())
    }

    /// A difference counts only if our row is the same before and after the read.
    async fn compare(&self, mut row: PaymentRow) -> Result<Compared, Error> {
        for _ in 0..MAX_TRIES {
            let theirs = match self.read_theirs(&row).await {
                Ok(theirs) => theirs,
                Err(why) => return Ok(Compared::Unread(why)),
            };
            let store = self.journal.store();
            let operations = store.operations(&row.id).await.map_err(stored)?;
            let open = row.is_open() || operations.iter().any(|operation| operation.may_end());
            let differences = differences(&row, &theirs, self.several_captures(&row), open)?;
            let fresh = self.payment_row(&row.id).await?;
            if differences.is_empty() || fresh.version == row.version {
                return Ok(Compared::Shown(differences, theirs.refunded.is_some()));
            }
            row = fresh;
        }
        let why = "it changed each time it was compared; run it again";
        Ok(Compared::Unread(why.to_owned()))
    }

    fn several_captures(&self, row: &PaymentRow) -> bool {
        let provider = self.provider(&row.provider);
        provider.is_ok_and(|provider| provider.capabilities().several_captures)
    }

    async fn read_theirs(&self, row: &PaymentRow) -> Result<Theirs, String> {
        let said = |error: Error| Causes(&error).to_string();
        let provider = self.provider(&row.provider).map_err(said)?;
        let request = lookup_request(row).map_err(said)?;
        let nothing = |status| Theirs {
            status,
            hold: HoldState::NotTold,
            captured: row.money(0),
            refunded: Some(row.money(0)),
            reversed: None,
            returned: None,
        };
        match provider.lookup(&request).await {
            Ok(Outcome::Done(seen)) => Ok(theirs(phase_word(seen.phase), &seen)),
            Ok(Outcome::Pending(seen)) => Ok(theirs("pending", &seen)),
            Ok(Outcome::Review(seen)) => Ok(theirs("review", &seen)),
            Ok(Outcome::ActionRequired(seen, _)) => Ok(theirs("action_required", &seen)),
            Ok(Outcome::Declined(_)) => Ok(nothing("declined")),
            Ok(Outcome::Unmapped(word)) => Err(format!(
                "the provider used a word that we do not know: {} {}",
                word.field, word.value
            )),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(nothing("not_found")),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn theirs(status: &'static str, seen: &Seen) -> Theirs {
    // What was never taken can't have been given back, whether the read shows refunds or not.
    let none = (seen.captured.is_zero() && seen.phase != PaymentPhase::Captured)
        .then(|| Money::zero(seen.captured.currency()));
    Theirs {
        status,
        hold: seen.hold,
        captured: seen.captured,
        refunded: seen.refunded.or(none),
        reversed: seen.reversed,
        returned: seen.returned,
    }
}

fn differences(
    row: &PaymentRow,
    theirs: &Theirs,
    several_captures: bool,
    open: bool,
) -> Result<Vec<Difference>, Error> {
    let provider = provider_name(&row.provider)?;
    let difference = |what, ours: String, theirs: String| Difference {
        payment: row.id.clone(),
        provider: provider.clone(),
        reservation: row.reservation.clone().unwrap_or_default(),
        what,
        ours,
        theirs,
        open,
    };
    let amounts = [
        ("captured", row.captured, Some(theirs.captured)),
        ("refunded", row.refunded, theirs.refunded),
        ("reversed", row.reversed, theirs.reversed),
    ];
    let mut found = Vec::new();
    if !status_fits(row, theirs, several_captures) {
        let ours = row.state.as_str().to_owned();
        found.push(difference("status", ours, theirs.status.to_owned()));
    }
    for (what, ours, theirs) in amounts {
        let ours = row.money(ours);
        if let Some(theirs) = theirs.filter(|theirs| *theirs != ours) {
            found.push(difference(what, ours.to_string(), theirs.to_string()));
        }
    }
    let back = row.refunded + row.reversed;
    let more = |least: &Money| least.minor() > back + row.reserved_refund;
    if let Some(least) = theirs.returned.filter(more) {
        found.push(difference(
            "returned",
            row.money(back).to_string(),
            least.to_string(),
        ));
    }
    Ok(found)
}

/// Whether both statuses can stand beside each other for good, or while the payment is open.
fn status_fits(row: &PaymentRow, theirs: &Theirs, several_captures: bool) -> bool {
    let ended = ["captured", "voided", "expired", "declined", "not_found"];
    match row.state {
        PaymentState::Captured => match theirs.status {
            "captured" => true,
            // A part was taken, and the rest released.
            "voided" | "expired" => !theirs.captured.is_zero(),
            _ => false,
        },
        PaymentState::Authorized => match theirs.status {
            "authorized" => true,
            // What is captured in part reads as captured at some, while the rest is held.
            "captured" => {
                row.captured > 0 && state::may_take_more(row, theirs.hold, several_captures)
            }
            _ => false,
        },
        // An object that moved and holds nothing, whatever its name there.
        PaymentState::Declined | PaymentState::Failed | PaymentState::Voided => {
            let idle = [
                "reserved",
                "action_required",
                "voided",
                "expired",
                "declined",
                "not_found",
            ];
            idle.contains(&theirs.status)
        }
        PaymentState::ActionRequired
        | PaymentState::Pending
        | PaymentState::Unknown
        | PaymentState::Parked => !ended.contains(&theirs.status),
    }
}
