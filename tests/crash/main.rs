//! The real program, killed, stopped, without a disk, and twice on one store.
//!
//! | property | cases | command |
//! | --- | --- | --- |
//! | SIGKILL at any sync, send or receive of any operation at any provider, a new start, and the caller's repeat: money has moved once at most, the books are the ledger's, nothing stays open, what was answered stands; within the windows the operation succeeds | each `fsync`, `writev`, `recvfrom` and `pwrite64` between a call's arrival and its answer: all operations at all places that `operation.rs` lists, each point with 5 minutes and most also with 7 hours until the next start; the ordinary tests strike a few points of each | `CARDLESS_CRASH_POINTS=all cargo test --release --test crash no_kill -- --nocapture` |
//! | SIGSTOP at any of these, until every deadline is over and another process has brought all to its end, then SIGCONT: nothing that changes anything leaves late, what had ended stays | each sync, send and receive, with 5 minutes and with 7 hours, and once each with 35 s of real time; the ordinary tests stop at a few points of each | `CARDLESS_CRASH_POINTS=all cargo test --release --test crash stopped -- --nocapture` |
//! | A disk that is full or fails: refused with 503, not carried out later, nothing lost, and the same requests go through once it is well | EIO at each sync; no room from each third write on; each with the process going on, and killed; a file system that is really full | `CARDLESS_CRASH_POINTS=all cargo test --release --test crash disk -- --nocapture` |
//! | The disk knows before anybody else does: nothing leaves while something in the database's log is not synced, and no provider is asked before a sync | every send of an undisturbed run of all operations at all places | `cargo test --test crash durable` |
//! | SIGKILL at any sync, write, rename or call of `rotate keys`, `--destroy-retired`, `--rewrite-file`, `rotate handles`, `import`, `export` and `account erase`: every token opens at once, the same verb comes to its end, one generation is active, the audit log holds, the service starts | every such call of each verb; the ordinary tests strike four of each | `CARDLESS_CRASH_POINTS=all cargo test --release --test crash verb -- --nocapture` |
//! | Two processes on one store are one service: one key, racing refunds and captures, webhooks to the other, each event once and in order, an orderly end, one takes over from one that was killed | 24 clients, 10 refunds, 8 captures and 3 kills at each provider | `cargo test --test crash pair` |
//!
//! How many lives that was when all points were last struck, and how long it took, says the table of
//! `README.md`; a sweep prints how many of its points it struck and which it missed, and fails if it
//! struck a class of calls nowhere in an operation, or fewer than nine points in ten of all.
//!
//! The program under test is the unmodified binary, in its default build, with one worker thread
//! (`TOKIO_WORKER_THREADS=1`), so that each kind of call comes from one thread: strace counts by
//! thread, and the test fails if two threads share one kind. SIGKILL falls as the call is entered,
//! before it takes place. So the points are: before each write and each sync of the database's log,
//! before each request to a provider and before the answer to the caller, and after the provider
//! has answered but before a byte of it is read. What a machine that loses its power forgets can't be
//! tested by a kill: the kernel keeps what was written. So `durable.rs` looks at the order of syncs
//! and sends, and a test beside the store at its settings; that a disk tells the truth of a sync is
//! believed.
//!
//! A failing case prints the command that repeats it. Without strace the tests print that they are
//! skipped, and pass; `CARDLESS_REQUIRE_STRACE=1` makes that a failure.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and a sweep says how far it is"
)]

mod disk;
mod durable;
mod judge;
mod kill;
mod operation;
mod pair;
mod recover;
mod stop;
mod strace;
mod sweep;
mod verbs;
mod world;
