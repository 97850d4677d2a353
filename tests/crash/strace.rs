//! What reaches into a running process: `strace`, attached to it once it is up. The program under
//! test is the unmodified binary.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use crate::world::signal;

/// How many bytes of what is sent are shown: a request's method, and nothing that is secret.
const SHOWN: &str = "4";

/// How long strace may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// The system calls of each class, as SQLite and tokio make them.
const CLASSES: [(Class, &[&str]); 4] = [
    (Class::Sync, &["fsync", "fdatasync"]),
    (Class::Send, &["sendto", "sendmsg", "sendmmsg", "writev"]),
    (
        Class::Receive,
        &["recvfrom", "recvmsg", "recvmmsg", "readv"],
    ),
    (Class::Write, &["pwrite64", "pwritev", "ftruncate"]),
];

/// Calls that could move bytes over a socket without being of a class; seen, they fail the test.
const STRAY: [&str; 4] = ["read", "write", "sendfile", "splice"];

/// What a system call is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// The database's.
    Sync,
    /// On a socket.
    Send,
    /// On a socket.
    Receive,
    /// Into the database or its log.
    Write,
}

/// The `nth` call of this name after the tracer was attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) class: Class,
    pub(crate) call: &'static str,
    pub(crate) nth: usize,
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.call, self.nth)
    }
}

/// A tracer on a process.
pub(crate) struct Strace {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
}

/// Whether strace is there and may trace; prints that `test` is skipped if not.
///
/// # Panics
///
/// With `CARDLESS_REQUIRE_STRACE=1`, if it is not.
pub(crate) fn is_there(test: &str) -> bool {
    let works = std::process::Command::new("strace")
        .args(["-f", "-o", "/dev/null", "true"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let required = std::env::var("CARDLESS_REQUIRE_STRACE").is_ok_and(|value| value == "1");
    assert!(works || !required, "{test}: strace does not work here");
    if !works {
        println!("{test}: skipped, strace is not installed or may not trace");
    }
    works
}

impl Strace {
    /// Traces the calls of every class.
    pub(crate) async fn count(pid: u32) -> Self {
        let mut calls: Vec<&str> = CLASSES
            .iter()
            .flat_map(|(_, calls)| *calls)
            .copied()
            .collect();
        calls.extend(STRAY);
        Self::attach(pid, &calls.join(","), &[]).await
    }

    /// Sends `signal` to the process as it enters the call: SIGKILL ends it before the call is
    /// made, SIGSTOP stops it right after.
    pub(crate) async fn signal_at(pid: u32, point: &Point, signal: &str) -> Self {
        let inject = format!("{}:signal={signal}:when={}", point.call, point.nth);
        Self::attach(pid, point.call, &[&inject]).await
    }

    /// Makes calls fail, as `fsync:error=EIO:when=1`.
    pub(crate) async fn inject(pid: u32, calls: &str, rules: &[&str]) -> Self {
        Self::attach(pid, calls, rules).await
    }

    async fn attach(pid: u32, calls: &str, rules: &[&str]) -> Self {
        let mut command = Command::new("strace");
        command
            .args(["-f", "-yy", "-s", SHOWN, "-p", &pid.to_string()])
            .args(["-e", "signal=STOP", "-e", &format!("trace={calls}")])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        for rule in rules {
            command.args(["-e", &format!("inject={rule}")]);
        }
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut strace = Self { child, lines };
        strace.wait_for("attached").await;
        strace
    }

    /// Reads on until a line has this text.
    pub(crate) async fn wait_for(&mut self, text: &str) -> String {
        loop {
            let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
            let line = line.unwrap_or_else(|_| panic!("strace does not say {text:?}"));
            let line = line.unwrap();
            let line = line.unwrap_or_else(|| panic!("strace ended before it said {text:?}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Whether a line has this text within this time.
    pub(crate) async fn says_within(&mut self, text: &str, time: Duration) -> bool {
        let said = async {
            while let Ok(Some(line)) = self.lines.next_line().await {
                if line.contains(text) {
                    return true;
                }
            }
            false
        };
        tokio::time::timeout(time, said).await.unwrap_or(false)
    }

    /// Lets the process go, and gives what was traced.
    pub(crate) async fn detach(mut self) -> Vec<String> {
        if self.child.try_wait().unwrap().is_none() {
            signal(self.child.id().unwrap(), "INT").await;
        }
        let mut traced = Vec::new();
        while let Ok(Some(line)) = self.lines.next_line().await {
            traced.push(line);
        }
        self.child.wait().await.unwrap();
        traced
    }
}

/// How often each call was made: the points at which a sweep can strike.
///
/// # Panics
///
/// If one call was made by two threads, since strace counts by thread; or if bytes went over a
/// socket by a call that is of no class.
pub(crate) fn points(traced: &[String]) -> Vec<Point> {
    let mut counts: BTreeMap<(Class, &'static str), (usize, String)> = BTreeMap::new();
    for line in traced {
        let Some((thread, call)) = thread_and_call(line) else {
            continue;
        };
        let stray = STRAY.iter().any(|name| starts(call, name));
        assert!(!stray || !call.contains("<TCP"), "not counted: {line}");
        let known = CLASSES
            .iter()
            .flat_map(|&(class, calls)| calls.iter().map(move |&c| (class, c)));
        for (class, name) in known.filter(|(_, name)| starts(call, name)) {
            let (count, by) = counts.entry((class, name)).or_default();
            assert!(
                *count == 0 || by == thread,
                "{name} by two threads: {by}, {thread}"
            );
            *count += 1;
            thread.clone_into(by);
        }
    }
    counts
        .iter()
        .flat_map(|(&(class, call), &(count, _))| {
            (1..=count).map(move |nth| Point { class, call, nth })
        })
        .collect()
}

/// The class of a call as it begins; nothing for one of no class, and for the end of another.
pub(crate) fn class_of(call: &str) -> Option<Class> {
    let is_of = |names: &[&str]| names.iter().any(|name| starts(call, name));
    let mut classes = CLASSES.iter();
    classes.find_map(|&(class, names)| is_of(names).then_some(class))
}

fn starts(call: &str, name: &str) -> bool {
    call.strip_prefix(name)
        .is_some_and(|rest| rest.starts_with('('))
}

/// `[pid 17] fsync(…) = 0`; what is resumed was counted when it began.
pub(crate) fn thread_and_call(line: &str) -> Option<(&str, &str)> {
    let rest = line.strip_prefix("[pid")?;
    let (thread, call) = rest.split_once(']')?;
    Some((thread.trim(), call.trim_start()))
}
