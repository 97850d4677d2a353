//! Leases and compare-and-set, on a store in memory.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "test code stops at the first surprise"
)]

use cardless_contract::{EntropyError, SystemEntropy};

use super::state::tests::open;
use super::*;
use crate::store::{
    AccountRow, CaptureText, GenerationRow, GenerationState, HeldTopicRow, PaymentState,
    SqliteStore, Threads, WebhookRow,
};

const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);
const ZERO: Timestamp = Timestamp::from_millis(0);

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        NOW
    }
}

#[derive(Debug)]
struct Exhausted;

impl Entropy for Exhausted {
    fn fill(&self, _: &mut [u8]) -> Result<(), EntropyError> {
        Err(EntropyError)
    }
}

/// A journal with one payment, which nobody drives.
async fn journal(entropy: Arc<dyn Entropy>) -> (Journal, PaymentRow) {
    let store = SqliteStore::open("sqlite::memory:", Threads::Caller).unwrap();
    let journal = Journal::new(
        Arc::new(store),
        Arc::new(Still),
        entropy,
        audit::Chain::new(|_| [0; 32]),
    );
    let mut row = open(CaptureText::Automatic);
    (row.lease_until, row.next_at, row.version) = (ZERO, Some(NOW), 0);
    row.redirect = None;
    let generation = GenerationRow {
        id: "g".to_owned(),
        state: GenerationState::Active,
        uses: 0,
        created_at: NOW,
        retired_at: None,
        destroyed_at: None,
        tried: false,
        sample: None,
    };
    let account = AccountRow {
        account: row.account.clone(),
        sealed_id: vec![1],
        generation: "g".to_owned(),
        restricted: false,
        created_at: NOW,
    };
    let batch = vec![
        Change::AdoptGenerations(vec![generation]),
        Change::EnsureAccount(account),
        Change::InsertPayment(row.clone()),
        webhook(),
    ];
    journal.write(batch).await.unwrap();
    (journal, row)
}

/// A change that is a conflict from the second time on.
fn webhook() -> Change {
    Change::InsertWebhook(WebhookRow {
        provider: "fake".to_owned(),
        event: "seen".to_owned(),
        received_at: NOW,
    })
}

async fn stored(journal: &Journal, row: &PaymentRow) -> PaymentRow {
    journal.store().payment(&row.id).await.unwrap().unwrap()
}

fn yes<T: std::fmt::Debug>(written: Result<Written<T>, StoreError>) -> T {
    match written.unwrap() {
        Written::Yes(row) => row,
        Written::Lost(row) => panic!("lost: {row:?}"),
    }
}

#[tokio::test]
async fn one_worker_gets_the_lease_and_keeps_it_until_it_ends() {
    let (journal, row) = journal(Arc::new(SystemEntropy)).await;
    let leased = journal.lease(&row, Vec::new()).await.unwrap().unwrap();
    assert_eq!(leased, stored(&journal, &row).await);
    assert_eq!(
        (leased.lease_until, leased.next_at),
        (NOW.plus(LEASE), Some(NOW.plus(LEASE)))
    );
    assert!(
        journal.lease(&row, Vec::new()).await.unwrap().is_none(),
        "by the old row"
    );
    assert!(
        journal.lease(&leased, Vec::new()).await.unwrap().is_none(),
        "by the new one"
    );
    for (until, free) in [(NOW.plus(Duration::from_millis(1)), false), (NOW, true)] {
        let mut row = stored(&journal, &row).await;
        row.lease_until = until;
        journal.write(vec![row.update()]).await.unwrap();
        row.bump();
        assert_eq!(
            journal.lease(&row, Vec::new()).await.unwrap().is_some(),
            free,
            "{until}"
        );
    }
}

#[tokio::test]
async fn a_change_meets_what_has_changed_under_its_lease() {
    let (journal, row) = journal(Arc::new(SystemEntropy)).await;
    let leased = journal.lease(&row, Vec::new()).await.unwrap().unwrap();
    // A webhook asks for a look meanwhile.
    let wake = Change::WakePayment {
        id: row.id.clone(),
        at: NOW,
    };
    journal.write(vec![wake]).await.unwrap();
    let mut calls = 0;
    let changed = journal.change(&leased, |row| {
        calls += 1;
        row.captured = 1;
        release_row(row, None);
        Vec::new()
    });
    let changed = yes(changed.await);
    assert_eq!(calls, 2, "once on each row");
    assert_eq!(changed, stored(&journal, &row).await);
    assert_eq!(
        (changed.captured, changed.next_at),
        (1, Some(NOW)),
        "the wish is kept"
    );

    let leased = journal.lease(&changed, Vec::new()).await.unwrap().unwrap();
    let undisturbed = journal.change(&leased, |row| {
        release_row(row, None);
        Vec::new()
    });
    assert_eq!(yes(undisturbed.await).next_at, None);
}

#[tokio::test]
async fn a_worker_whose_lease_is_anothers_changes_nothing() {
    let (journal, row) = journal(Arc::new(SystemEntropy)).await;
    let leased = journal.lease(&row, Vec::new()).await.unwrap().unwrap();
    let mut others = stored(&journal, &row).await;
    others.lease_until = NOW.plus(2 * LEASE);
    journal.write(vec![others.update()]).await.unwrap();
    let lost = journal.change(&leased, |row| {
        row.state = PaymentState::Failed;
        vec![]
    });
    let Written::Lost(seen) = lost.await.unwrap() else {
        panic!("written over another worker's lease");
    };
    assert_eq!(seen, stored(&journal, &row).await);
    assert_eq!(seen.state, row.state);
}

#[tokio::test]
async fn a_conflict_about_something_else_is_the_callers() {
    let (journal, row) = journal(Arc::new(SystemEntropy)).await;
    let leased = journal.lease(&row, Vec::new()).await.unwrap().unwrap();
    let mut calls = 0;
    let refused = journal.change(&leased, |row| {
        calls += 1;
        row.captured = 1;
        vec![webhook()]
    });
    let refused = refused.await.unwrap_err();
    assert!(
        matches!(refused, StoreError::Conflict(Subject::Webhook)),
        "{refused:?}"
    );
    assert_eq!(calls, 1);
    assert_eq!(
        stored(&journal, &row).await,
        leased,
        "nothing of the batch is kept"
    );
}

#[tokio::test]
async fn one_worker_delivers_until_its_lease_ends() {
    let (journal, row) = journal(Arc::new(SystemEntropy)).await;
    let event = journal.event(&row.account, "payment.captured".to_owned(), &row.id);
    journal.write(vec![event]).await.unwrap();
    assert!(journal.take_turn().await.unwrap().is_some());
    assert!(
        journal.take_turn().await.unwrap().is_none(),
        "another has it"
    );
    for (until, free) in [(NOW.plus(Duration::from_millis(1)), false), (NOW, true)] {
        let mut delivery = journal.store().delivery().await.unwrap();
        delivery.lease_until = until;
        journal
            .write(vec![Change::UpdateDelivery(delivery)])
            .await
            .unwrap();
        assert_eq!(
            journal.take_turn().await.unwrap().is_some(),
            free,
            "{until}"
        );
    }
}

#[tokio::test]
async fn nothing_new_begins_while_too_many_topics_are_held() {
    let (journal, row) = journal(Arc::new(SystemEntropy)).await;
    // As many as there may be, or one fewer, or many that a person sends again by themselves.
    for (held, prefix, begins) in [(15, "pay_", true), (16, "pay_", false), (40, "evt_", true)] {
        let mut batch = vec![journal.event(&row.account, "payment.captured".to_owned(), &row.id)];
        batch.extend((0..40).map(|number| Change::ReleaseTopic(format!("pay_{number}"))));
        batch.extend((0..held).map(|number| {
            Change::HoldTopic(HeldTopicRow {
                topic: format!("{prefix}{number}"),
                sequence: 1,
                attempts: 1,
                next_at: NOW.plus(Duration::from_millis(1)),
            })
        }));
        let mut delivery = journal.store().delivery().await.unwrap();
        delivery.lease_until = ZERO;
        batch.push(Change::UpdateDelivery(delivery));
        journal.write(batch).await.unwrap();
        let turn = journal.take_turn().await.unwrap();
        assert_eq!(turn.is_some(), begins, "{held} {prefix}");
    }
}

#[tokio::test]
async fn an_event_has_an_id_even_without_randomness() {
    let (journal, row) = journal(Arc::new(Exhausted)).await;
    let event = |kind: &str| {
        let change = journal.event(&row.account, kind.to_owned(), &row.id);
        let Change::InsertEvent(event) = change else {
            panic!("{change:?}");
        };
        event
    };
    let (captured, again) = (event("payment.captured"), event("payment.captured"));
    assert!(is_event_id(&captured.id), "{}", captured.id);
    assert_eq!(captured, again);
    assert_ne!(captured.id, event("payment.voided").id);
    assert_eq!((captured.at, captured.topic), (NOW, row.id));
    for text in [
        "",
        "evt_",
        "evt_abc",
        "pay_abcdefghijklmnopabcd",
        "evt_abcdefghijklmnopabcde",
    ] {
        assert!(!is_event_id(text), "{text}");
    }
}
