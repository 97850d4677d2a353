//! The disk knows before anybody else does. A kill can't show this, since the kernel keeps what a
//! dead process wrote; so the order of the calls is looked at: what was written into the database's
//! log is synced before the next byte goes to a provider or back to the caller.

use std::collections::BTreeMap;

use crate::strace::{self, Class, thread_and_call};
use crate::sweep::{Undisturbed, undisturbed};
use crate::world::Template;

/// How the name of the database's log ends, as strace writes it.
const LOG: &str = "cardless.db-wal>";

/// What a call is to the promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Into the log.
    Written,
    /// The log, and the disk has said that it holds it.
    Synced,
    /// What may change something there.
    ToProvider,
    /// A question, which needs no intent.
    Question,
    ToCaller,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disk_knows_before_a_provider_or_the_caller_does() {
    if !strace::is_there("the_disk_knows_before_a_provider_or_the_caller_does") {
        return;
    }
    for run in undisturbed(&Template::new().await).await {
        let (traced, port) = (&run.traced, port(run));
        let what = format!("{:?} {}", run.operation, run.place);
        let order = steps(traced, port);
        assert_eq!(told_too_early(&order), None, "{what}: {order:?}");
        assert!(order.contains(&Step::ToCaller), "{what}: {order:?}");
        let asked = |step: &Step| matches!(step, Step::ToProvider | Step::Question);
        assert!(order.iter().any(asked), "{what}: {order:?}");
        // The same without its syncs, and with each of them a moment too late, is not believed.
        let is_sync = |line: &String| line.contains("fsync") || line.contains("fdatasync");
        let never: Vec<String> = traced
            .iter()
            .filter(|line| !is_sync(line))
            .cloned()
            .collect();
        assert!(told_too_early(&steps(&never, port)).is_some(), "{what}");
        assert!(told_too_early(&late(&order)).is_some(), "{what}");
    }
}

/// The port at which the service listened.
fn port(run: &Undisturbed) -> &str {
    run.base.rsplit_once(':').map_or("", |(_, port)| port)
}

/// Each sync changes places with the next step.
fn late(order: &[Step]) -> Vec<Step> {
    let mut late = order.to_vec();
    for at in (1..late.len()).rev() {
        if late[at - 1] == Step::Synced {
            late.swap(at - 1, at);
        }
    }
    late
}

/// What was sent before the disk knew of it.
fn told_too_early(order: &[Step]) -> Option<String> {
    let (mut unsynced, mut syncs) = (0, 0);
    for step in order {
        match step {
            Step::Written => unsynced += 1,
            Step::Synced => {
                unsynced = 0;
                syncs += 1;
            }
            Step::ToProvider if syncs == 0 => {
                return Some("a provider is asked before an intent is on disk".to_owned());
            }
            Step::ToProvider | Step::ToCaller if unsynced > 0 => {
                return Some(format!(
                    "{step:?} with {unsynced} writes that are not synced"
                ));
            }
            Step::ToProvider | Step::ToCaller | Step::Question => {}
        }
    }
    None
}

/// The steps of a traced run whose service listened at this port.
fn steps(traced: &[String], port: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    // What a thread is syncing, if strace tells the end of it on another line.
    let mut syncing = BTreeMap::<&str, bool>::new();
    for (thread, call) in traced.iter().filter_map(|line| thread_and_call(line)) {
        let of_log = call.contains(LOG);
        match strace::class_of(call) {
            Some(Class::Sync) => {
                syncing.insert(thread, of_log);
                if of_log && call.ends_with("= 0") {
                    steps.push(Step::Synced);
                }
            }
            Some(Class::Write) if of_log => steps.push(Step::Written),
            Some(Class::Send) if call.contains("<TCP") => {
                let ours = call.contains(&format!(":{port}->"));
                steps.push(if ours {
                    Step::ToCaller
                } else if call.contains("\"GET \"") {
                    Step::Question
                } else {
                    Step::ToProvider
                });
            }
            Some(Class::Write | Class::Send | Class::Receive) => {}
            None => {
                let resumed = call.starts_with("<... fsync") || call.starts_with("<... fdatasync");
                if resumed && call.ends_with("= 0") && syncing.get(thread) == Some(&true) {
                    steps.push(Step::Synced);
                }
            }
        }
    }
    steps
}

/// Orders that are known to be wrong come before any that is believed.
#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: &str = "[pid 2] pwrite64(12</tmp/x/cardless.db-wal>, \"\"..., 4096, 24) = 4096";
    const SYNC: &str = "[pid 2] fdatasync(12</tmp/x/cardless.db-wal>) = 0";
    const ASK: &str = "[pid 1] writev(19<TCP:[127.0.0.1:35508->127.0.0.1:40145]>, [...], 1) = 464";
    const QUESTION: &str =
        "[pid 1] sendto(19<TCP:[127.0.0.1:35508->127.0.0.1:40145]>, \"GET \"..., 90, 0) = 90";
    const ANSWER: &str = "[pid 1] writev(18<TCP:[127.0.0.1:80->127.0.0.1:32818]>, [...], 2) = 597";

    fn told(lines: &[&str]) -> Option<String> {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        told_too_early(&steps(&lines, "80"))
    }

    #[test]
    fn what_is_synced_first_is_let_through() {
        assert_eq!(told(&[WRITE, WRITE, SYNC, ASK, WRITE, SYNC, ANSWER]), None);
        assert_eq!(told(&[QUESTION, WRITE, SYNC, ASK, ANSWER]), None);
        let begun = "[pid 2] fsync(12</tmp/x/cardless.db-wal> <unfinished ...>";
        let ended = "[pid 2] <... fsync resumed>) = 0";
        assert_eq!(told(&[WRITE, begun, ended, ASK, ANSWER]), None);
    }

    #[test]
    fn what_is_told_too_early_is_found() {
        let failed = "[pid 2] fdatasync(12</tmp/x/cardless.db-wal>) = -1 EIO (Input/output error)";
        let other = "[pid 2] fdatasync(11</tmp/x/cardless.db>) = 0";
        let begun = "[pid 2] fsync(12</tmp/x/cardless.db-wal> <unfinished ...>";
        let others_begun = "[pid 2] fsync(11</tmp/x/cardless.db> <unfinished ...>";
        let ended = "[pid 2] <... fsync resumed>) = 0";
        let elsewhere = "[pid 3] <... fsync resumed>) = 0";
        let went_wrong = "[pid 2] <... fsync resumed>) = -1 EIO (Input/output error)";
        let wrongs: [&[&str]; 12] = [
            &[ASK],
            &[QUESTION, ASK],
            &[WRITE, ASK],
            &[WRITE, ASK, SYNC],
            &[WRITE, failed, ASK],
            &[WRITE, other, ASK],
            &[WRITE, begun, ASK, ended],
            &[WRITE, others_begun, ended, ASK],
            &[WRITE, begun, elsewhere, ASK],
            &[WRITE, begun, went_wrong, ASK],
            &[WRITE, SYNC, WRITE, ASK],
            &[WRITE, SYNC, ASK, WRITE, ANSWER],
        ];
        for wrong in wrongs {
            assert!(told(wrong).is_some(), "{wrong:?}");
        }
    }
}
