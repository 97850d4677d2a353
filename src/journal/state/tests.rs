//! The table of `journal::state`, row by row.

use cardless_contract::{
    Currency, DeclineCategory, HoldState, Money, Movement, MovementState, ObjectId, ProviderCode,
    ReservationId, RetryAdvice,
};

use super::*;
use crate::store::InitiatorText;

const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);
const EARLIER: Timestamp = Timestamp::from_millis(1_794_000_000_000);
const HOUR: Duration = Duration::from_hours(1);

const OPEN: [PaymentState; 4] = [
    PaymentState::ActionRequired,
    PaymentState::Pending,
    PaymentState::Unknown,
    PaymentState::Parked,
];

fn money(minor: i64) -> Money {
    Money::new(Currency::from_code("CHF").unwrap(), minor).unwrap()
}

/// A payment of 4990 whose commit was sent, under a lease.
pub(in crate::journal) fn open(capture: CaptureText) -> PaymentRow {
    PaymentRow {
        id: "pay_abcdefghijklmnopabcd".to_owned(),
        account: "account".to_owned(),
        provider: "fake".to_owned(),
        method: None,
        handle: None,
        setup: None,
        reference: "r-1".to_owned(),
        description: None,
        return_url: None,
        amount: money(4990),
        capture,
        initiator: InitiatorText::Merchant,
        state: PaymentState::Unknown,
        step: Step::Committing,
        closing_as: None,
        reservation: Some("object".to_owned()),
        authorization: None,
        capture_object: None,
        commit_round: 0,
        authorized: 0,
        captured: 0,
        reserved_capture: 0,
        refunded: 0,
        reserved_refund: 0,
        reversed: 0,
        returned_told: 0,
        body_mac: None,
        first_sent_at: Some(EARLIER),
        last_sent_at: Some(EARLIER),
        redirect: Some(crate::store::SealedText {
            generation: "kek_a".to_owned(),
            bytes: vec![1],
        }),
        decline: None,
        failure: None,
        reason: None,
        expires_at: None,
        next_at: Some(NOW.plus(HOUR)),
        attempts: 3,
        lease_until: NOW.plus(HOUR),
        created_at: EARLIER,
        accepted_at: EARLIER,
        updated_at: EARLIER,
        version: 1,
    }
}

/// One that is settled, with what it holds and has taken.
fn settled(state: PaymentState, authorized: i64, captured: i64) -> PaymentRow {
    PaymentRow {
        state,
        step: Step::Settled,
        authorized,
        captured,
        redirect: None,
        attempts: 0,
        ..open(CaptureText::Manual)
    }
}

fn seen(phase: PaymentPhase, captured: i64) -> Payment {
    Payment {
        reservation: ReservationId::new("object").unwrap(),
        phase,
        authorization: None,
        expires_at: None,
        hold: HoldState::NotTold,
        captured: money(captured),
        refunded: None,
        reversed: None,
        returned: None,
        captures: Vec::new(),
        refunds: Vec::new(),
    }
}

fn assert_settled(row: &PaymentRow, state: PaymentState) {
    assert_eq!((row.state, row.step), (state, Step::Settled));
    assert_eq!(
        row.lease_until,
        Timestamp::from_millis(0),
        "the lease is given back"
    );
    assert_eq!(
        (row.redirect.as_ref(), row.closing_as, row.attempts),
        (None, None, 0)
    );
    assert_eq!(row.updated_at, NOW);
}

#[test]
fn the_pauses_grow_to_an_hour_and_stay_there() {
    let pauses: Vec<u64> = (0..12).map(|attempts| pause(attempts).as_secs()).collect();
    assert_eq!(pauses, [1, 2, 4, 8, 15, 30, 60, 300, 900, 1800, 3600, 3600]);
    assert_eq!(pause(u32::MAX), HOUR);
}

#[test]
fn a_reservation_alone_needs_a_commit() {
    for holds in [false, true] {
        let mut row = open(CaptureText::Automatic);
        let before = row.clone();
        let next = conclude(&mut row, &seen(PaymentPhase::Reserved, 0), holds, NOW);
        assert_eq!((next, row), (Next::NotCommitted, before));
    }
}

#[test]
fn a_hold_concludes_a_manual_payment_and_only_that() {
    let held = Payment {
        authorization: Some(ObjectId::new("auth").unwrap()),
        expires_at: Some(NOW.plus(48 * HOUR)),
        ..seen(PaymentPhase::Authorized, 0)
    };
    let mut row = open(CaptureText::Manual);
    assert_eq!(conclude(&mut row, &held, false, NOW), Next::Settled);
    assert_settled(&row, PaymentState::Authorized);
    assert_eq!((row.authorized, row.captured), (4990, 0));
    assert_eq!(row.authorization.as_deref(), Some("auth"));
    assert_eq!(row.expires_at, held.expires_at);
    assert_eq!(row.next_at, held.expires_at, "the lapse is looked for");

    for (holds, expected) in [(true, Next::NotCommitted), (false, Next::AskAgain)] {
        let mut row = open(CaptureText::Automatic);
        assert_eq!(conclude(&mut row, &held, holds, NOW), expected);
        assert_eq!((row.state, row.authorized), (PaymentState::Unknown, 0));
    }
    for capture in [CaptureText::Manual, CaptureText::Automatic] {
        let mut row = open(capture);
        close(&mut row, PaymentState::Failed, Some("gave_up"));
        assert_eq!(conclude(&mut row, &held, true, NOW), Next::Release);
        assert_eq!(row.step, Step::Closing);
    }
}

#[test]
fn money_that_was_taken_concludes_whatever_was_wanted() {
    let mut taken = seen(PaymentPhase::Captured, 4990);
    taken.refunded = Some(money(100));
    taken.reversed = Some(money(50));
    for closing in [false, true] {
        let mut row = open(CaptureText::Automatic);
        row.decline = Some(("other".to_owned(), "never".to_owned(), "X".to_owned()));
        if closing {
            close(&mut row, PaymentState::Failed, Some("gave_up"));
        }
        assert_eq!(conclude(&mut row, &taken, false, NOW), Next::Settled);
        assert_settled(&row, PaymentState::Captured);
        assert_eq!((row.authorized, row.captured), (4990, 4990));
        assert_eq!((row.refunded, row.reversed), (100, 50));
        assert_eq!(
            (row.failure, row.decline, row.expires_at),
            (None, None, None)
        );
        assert_eq!(row.next_at, None);
    }
}

#[test]
fn an_end_without_money_is_what_it_was_closed_as_or_what_was_seen() {
    use PaymentPhase::{Expired, Voided};
    let cases = [
        (None, Voided, 0, PaymentState::Voided, None, None),
        (
            None,
            Expired,
            0,
            PaymentState::Failed,
            Some("expired_at_provider"),
            None,
        ),
        (
            None,
            Expired,
            4990,
            PaymentState::Voided,
            None,
            Some("expired"),
        ),
        (
            Some(PaymentState::Failed),
            Voided,
            0,
            PaymentState::Failed,
            Some("gave_up"),
            None,
        ),
        (
            Some(PaymentState::Failed),
            Expired,
            0,
            PaymentState::Failed,
            Some("gave_up"),
            None,
        ),
        (
            Some(PaymentState::Voided),
            Expired,
            0,
            PaymentState::Voided,
            None,
            None,
        ),
    ];
    for (closed_as, phase, authorized, state, failure, reason) in cases {
        let mut row = open(CaptureText::Manual);
        row.authorized = authorized;
        if let Some(state) = closed_as {
            close(&mut row, state, Some("gave_up"));
        }
        assert_eq!(
            conclude(&mut row, &seen(phase, 0), false, NOW),
            Next::Settled
        );
        assert_settled(&row, state);
        assert_eq!(row.failure.as_deref(), failure, "{closed_as:?} {phase:?}");
        assert_eq!(row.reason.as_deref(), reason, "{closed_as:?} {phase:?}");
    }
}

#[test]
fn amounts_grow_only_and_an_open_operation_owns_its_sum() {
    let mut less = seen(PaymentPhase::Captured, 3000);
    less.refunded = Some(money(500));
    less.reversed = Some(money(40));
    let mut row = settled(PaymentState::Captured, 4990, 4990);
    (row.refunded, row.reversed) = (1000, 80);
    let before = row.clone();
    assert!(!follow(&mut row, &less, true, NOW), "nothing has changed");
    assert_eq!(row, before);

    let mut more = seen(PaymentPhase::Captured, 4990);
    more.refunded = Some(money(1500));
    more.reversed = Some(money(200));
    assert!(follow(&mut row, &more, true, NOW));
    assert_eq!(
        (row.refunded, row.reversed, row.updated_at),
        (1500, 200, NOW)
    );

    // What an open refund gives back is counted when it ends, not twice.
    let mut row = settled(PaymentState::Captured, 4990, 4990);
    row.reserved_refund = 500;
    assert!(follow(&mut row, &more, true, NOW));
    assert_eq!((row.refunded, row.reversed), (0, 200));

    // The same for an open capture, whose end decides the state too.
    let mut row = settled(PaymentState::Authorized, 4990, 0);
    row.reserved_capture = 1000;
    let before = row.clone();
    assert!(!follow(
        &mut row,
        &seen(PaymentPhase::Captured, 1000),
        false,
        NOW
    ));
    assert!(!follow(
        &mut row,
        &seen(PaymentPhase::Voided, 0),
        false,
        NOW
    ));
    assert_eq!(row, before);
    let ended = Payment {
        hold: HoldState::Ended,
        ..seen(PaymentPhase::Captured, 1000)
    };
    assert!(!follow(&mut row, &ended, true, NOW));
    assert_eq!(row, before);
}

#[test]
fn what_happened_elsewhere_moves_a_hold_on() {
    use HoldState::{Alive, Ended, NotTold};
    use PaymentPhase::{Authorized, Captured, Expired, Reserved, Voided};
    use PaymentState as State;
    let cases = [
        // Seen, taken there, the hold there, with several captures, taken here before → state,
        // taken.
        (Reserved, 0, NotTold, true, 0, State::Authorized, 0),
        (Authorized, 0, Alive, true, 0, State::Authorized, 0),
        // What is held and what was taken meanwhile is concluded elsewhere: PostFinance's COMPLETED.
        (Authorized, 1000, Ended, true, 0, State::Authorized, 1000),
        (Captured, 1000, Alive, true, 0, State::Authorized, 1000),
        (Captured, 1000, NotTold, true, 0, State::Authorized, 1000),
        (Captured, 1000, NotTold, false, 0, State::Captured, 1000),
        // The rest has lapsed, or was released in the back office.
        (Captured, 1000, Ended, true, 0, State::Captured, 1000),
        (Captured, 1000, Ended, true, 1000, State::Captured, 1000),
        (Captured, 1000, Ended, true, 2000, State::Captured, 2000),
        (Captured, 4990, NotTold, true, 0, State::Captured, 4990),
        (Captured, 4990, NotTold, true, 4990, State::Captured, 4990),
        (Captured, 5000, NotTold, true, 0, State::Captured, 5000),
        (Voided, 0, Ended, true, 0, State::Voided, 0),
        (Voided, 0, Ended, true, 1000, State::Captured, 1000),
        (Expired, 0, Ended, false, 0, State::Voided, 0),
        (Expired, 0, Ended, false, 1000, State::Captured, 1000),
    ];
    for (phase, there, hold, several, before, state, captured) in cases {
        let case = format!("{phase:?} {there} {hold:?} {several} {before}");
        let mut row = settled(State::Authorized, 4990, before);
        row.expires_at = Some(NOW.plus(HOUR));
        let there = Payment {
            hold,
            ..seen(phase, there)
        };
        let changed = follow(&mut row, &there, several, NOW);
        assert_eq!((row.state, row.captured), (state, captured), "{case}");
        assert!(row.authorized >= row.captured, "{case}");
        let moved = state != State::Authorized || captured != before;
        assert_eq!(changed, moved, "{case}");
        let lapses = (state == State::Authorized).then(|| NOW.plus(HOUR));
        assert_eq!(row.expires_at, lapses, "{case}");
        let lapsed = (phase == Expired && before == 0).then_some("expired");
        assert_eq!(row.reason.as_deref(), lapsed, "{case}");
        assert_eq!(row.updated_at, if moved { NOW } else { EARLIER }, "{case}");
    }
}

#[test]
fn a_final_state_stays_whatever_is_seen() {
    let phases = [
        PaymentPhase::Reserved,
        PaymentPhase::Authorized,
        PaymentPhase::Captured,
        PaymentPhase::Voided,
        PaymentPhase::Expired,
    ];
    for state in [
        PaymentState::Captured,
        PaymentState::Declined,
        PaymentState::Failed,
        PaymentState::Voided,
    ] {
        for phase in phases {
            let mut row = settled(state, 0, 0);
            let lapses = Payment {
                expires_at: Some(NOW.plus(HOUR)),
                ..seen(phase, 4990)
            };
            follow(&mut row, &lapses, true, NOW);
            assert_eq!((row.state, row.expires_at, row.reason), (state, None, None));
            assert_eq!(
                row.captured, 4990,
                "but the money that moved is on the books"
            );
        }
    }
}

#[test]
fn the_end_of_a_hold_is_learnt_once_and_looked_for_not_too_soon() {
    let mut row = settled(PaymentState::Authorized, 4990, 0);
    let week = 7 * 24 * HOUR;
    assert_eq!(look_at_hold(&row, NOW), Some(NOW.plus(week)), "untold");
    let mut held = seen(PaymentPhase::Authorized, 0);
    held.expires_at = Some(NOW.plus(48 * HOUR));
    assert!(follow(&mut row, &held, true, NOW));
    held.expires_at = Some(NOW.plus(72 * HOUR));
    assert!(!follow(&mut row, &held, true, NOW));
    assert_eq!(look_at_hold(&row, NOW), Some(NOW.plus(48 * HOUR)));
    let late = NOW.plus(50 * HOUR);
    assert_eq!(look_at_hold(&row, late), Some(late.plus(HOUR)));
    row.state = PaymentState::Voided;
    assert_eq!(look_at_hold(&row, NOW), None);
}

#[test]
fn only_money_behind_an_end_without_money_contradicts() {
    use PaymentState::{Authorized, Captured, Declined, Failed, Voided};
    for state in [Authorized, Captured, Declined, Failed, Voided] {
        let without = matches!(state, Declined | Failed | Voided);
        for captured in [0, 1] {
            let row = settled(state, 4990, captured);
            assert_eq!(
                is_contradicted(&row),
                without && captured > 0,
                "{state:?} {captured}"
            );
        }
    }
}

#[test]
fn a_decline_and_a_failure_say_why() {
    let mut row = open(CaptureText::Automatic);
    row.failure = Some("gave_up".to_owned());
    row.expires_at = Some(NOW);
    let why = Decline {
        category: DeclineCategory::InsufficientFunds,
        retry: RetryAdvice::Later,
        provider_code: ProviderCode::new("NO_FUNDS"),
        method_gone: false,
    };
    decline(&mut row, &why, NOW);
    assert_settled(&row, PaymentState::Declined);
    let (category, retry, code) = row.decline.unwrap();
    assert_eq!(
        [category.as_str(), retry.as_str(), code.as_str()],
        ["insufficient_funds", "later", "NO_FUNDS"]
    );
    assert_eq!((row.failure, row.expires_at), (None, None));

    let mut row = open(CaptureText::Automatic);
    fail(&mut row, "gave_up", NOW);
    assert_settled(&row, PaymentState::Failed);
    assert_eq!(
        (row.failure.as_deref(), row.decline),
        (Some("gave_up"), None)
    );
}

#[test]
fn a_persons_word_takes_all_or_nothing() {
    for (state, taken, failure) in [
        (PaymentState::Captured, 4990, None),
        (PaymentState::Failed, 0, Some("resolved")),
        (PaymentState::Voided, 0, None),
    ] {
        let mut row = open(CaptureText::Automatic);
        row.state = PaymentState::Parked;
        resolve(&mut row, state, "resolved", NOW);
        assert_settled(&row, state);
        assert_eq!((row.captured, row.authorized), (taken, taken));
        assert_eq!(row.failure.as_deref(), failure);
    }
}

#[test]
fn what_is_closed_once_keeps_its_end() {
    for state in OPEN {
        let mut row = open(CaptureText::Automatic);
        row.state = state;
        close(&mut row, PaymentState::Voided, None);
        close(&mut row, PaymentState::Failed, Some("gave_up"));
        assert_eq!(
            (row.step, row.closing_as),
            (Step::Closing, Some(PaymentState::Voided))
        );
        assert_eq!((row.failure, row.attempts), (None, 0));
        // Nobody is to send the customer on to a page of a payment that is closed.
        let shown = if state == PaymentState::ActionRequired {
            PaymentState::Pending
        } else {
            state
        };
        assert_eq!(row.state, shown);
    }
}

#[test]
fn what_is_parked_waits_for_a_look_and_is_not_sent_again() {
    for (step, reservation, then) in [
        (Step::Committing, Some("object"), Step::Waiting),
        (Step::Reserved, Some("object"), Step::Waiting),
        (Step::Reserving, None, Step::Reserving),
        (Step::Closing, Some("object"), Step::Closing),
        (Step::Closing, None, Step::Closing),
    ] {
        let mut row = open(CaptureText::Automatic);
        (row.step, row.reservation) = (step, reservation.map(str::to_owned));
        park(&mut row, NOW);
        assert_eq!((row.state, row.step), (PaymentState::Parked, then));
        assert_eq!(
            (row.next_at, row.lease_until),
            (None, Timestamp::from_millis(0))
        );
        assert_eq!(row.updated_at, NOW);
    }
}

#[test]
fn asking_again_counts_and_shows_a_change_only_if_there_is_one() {
    let mut row = open(CaptureText::Automatic);
    ask_again(&mut row, PaymentState::Unknown, NOW.plus(HOUR), NOW);
    assert_eq!((row.attempts, row.updated_at), (4, EARLIER));
    assert_eq!(
        (row.next_at, row.lease_until),
        (Some(NOW.plus(HOUR)), Timestamp::from_millis(0))
    );
    ask_again(&mut row, PaymentState::Pending, NOW.plus(HOUR), NOW);
    assert_eq!(
        (row.state, row.attempts, row.updated_at),
        (PaymentState::Pending, 5, NOW)
    );
}

#[test]
fn ids_are_learnt_from_a_look_and_are_no_news() {
    let movement = |id: &str, state| Movement {
        id: Some(ObjectId::new(id).unwrap()),
        amount: money(4990),
        state,
        reference: None,
    };
    let seen = Payment {
        authorization: Some(ObjectId::new("auth").unwrap()),
        captures: vec![
            movement("refused", MovementState::Failed),
            movement("taken", MovementState::Done),
        ],
        ..seen(PaymentPhase::Captured, 4990)
    };
    // One that nobody could read when it ended.
    let mut row = settled(PaymentState::Captured, 4990, 4990);
    row.capture = CaptureText::Automatic;
    assert!(!follow(&mut row, &seen, true, NOW), "an id is no news");
    assert_eq!(row.authorization.as_deref(), Some("auth"));
    assert_eq!(row.capture_object.as_deref(), Some("taken"));
    // What is known stays; what operations have taken, they name themselves.
    let mut row = settled(PaymentState::Authorized, 4990, 1000);
    row.authorization = Some("first".to_owned());
    follow(&mut row, &seen, true, NOW);
    assert_eq!(row.authorization.as_deref(), Some("first"));
    assert_eq!(row.capture_object, None);
    // While a capture of ours is open, it may be that one.
    let mut row = settled(PaymentState::Authorized, 4990, 0);
    row.reserved_capture = 4990;
    follow(&mut row, &seen, true, NOW);
    assert_eq!(row.capture_object, None);
    // A hold that was taken in the back office.
    let mut row = settled(PaymentState::Authorized, 4990, 0);
    assert!(follow(&mut row, &seen, true, NOW));
    assert_eq!(row.capture_object.as_deref(), Some("taken"));
    // At the end of an open payment, a capture that was refused first is not the one.
    let mut row = open(CaptureText::Automatic);
    row.capture_object = Some("refused".to_owned());
    assert_eq!(conclude(&mut row, &seen, false, NOW), Next::Settled);
    assert_eq!(row.capture_object.as_deref(), Some("taken"));
}

#[test]
fn money_that_went_back_unexplained_is_noticed_and_not_booked() {
    use PaymentPhase::{Captured, Voided};
    let cases = [
        // Given back here, by an open refund, seen phase, taken there, back there at the least.
        (0, 0, Captured, 4990, None, false),
        (0, 0, Captured, 4990, Some(1), true),
        (0, 0, Captured, 4990, Some(4990), true),
        (4990, 0, Captured, 4990, Some(4990), false),
        (1000, 0, Captured, 4990, Some(4990), true),
        (0, 1000, Captured, 4990, Some(1000), false),
        // Cancelled in the back office after it was taken.
        (0, 0, Voided, 0, None, true),
        (4990, 0, Voided, 0, None, false),
        (0, 0, Voided, 4990, None, false),
    ];
    for (refunded, reserved, phase, captured, returned, short) in cases {
        let case = format!("{refunded} {reserved} {phase:?} {captured} {returned:?}");
        let mut row = settled(PaymentState::Captured, 4990, 4990);
        (row.refunded, row.reserved_refund) = (refunded, reserved);
        let seen = Payment {
            returned: returned.map(money),
            ..seen(phase, captured)
        };
        assert!(!follow(&mut row, &seen, true, NOW), "{case}");
        assert_eq!(is_short(&row, &seen), short, "{case}");
        assert_eq!((row.refunded, row.reversed), (refunded, 0), "{case}");
    }
    let row = settled(PaymentState::Voided, 4990, 0);
    assert!(!is_short(&row, &seen(Voided, 0)), "nothing was taken");

    // What a chargeback took back, and what a refund gave, explain as much as they are together.
    let mut row = settled(PaymentState::Captured, 4990, 4990);
    (row.refunded, row.reversed) = (1000, 500);
    for (returned, short) in [(1500, false), (1501, true)] {
        let seen = Payment {
            returned: Some(money(returned)),
            ..seen(Captured, 4990)
        };
        assert_eq!(is_short(&row, &seen), short, "{returned}");
    }
}
