//! Another implementation behind a line protocol: one JSON object in, one out. `interop.py`
//! describes the lines.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use cardless::exchange::PublicKey;
use cardless_testkit::opinion;
use serde_json::{Value, json};

const DEFAULT_MESSAGES: usize = 200;

/// A library that is not ours, and how it is run.
#[derive(Debug)]
pub(crate) struct Library {
    pub(crate) name: &'static str,
    script: &'static str,
    /// The program, and the variable that names another one.
    program: (&'static str, &'static str),
}

pub(crate) const JOSERFC: Library = Library {
    name: "joserfc",
    script: concat!(env!("CARGO_MANIFEST_DIR"), "/tests/exchange/interop.py"),
    program: ("python3", "CARDLESS_PYTHON"),
};

pub(crate) const JOSE: Library = Library {
    name: "jose",
    script: concat!(env!("CARGO_MANIFEST_DIR"), "/tests/exchange/interop.mjs"),
    program: ("node", "CARDLESS_NODE"),
};

impl Library {
    /// The program, if the library is there; else the test is named as skipped, or fails where the
    /// library is required.
    pub(crate) fn found(&self) -> Option<String> {
        let (program, variable) = self.program;
        opinion::found(program, variable, &[self.script, "probe"], self.name)
    }
}

/// The library at work.
#[derive(Debug)]
pub(crate) struct Foreign {
    child: Child,
    /// Gone once no more is asked.
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Foreign {
    pub(crate) fn start(library: &Library) -> Option<Self> {
        let program = library.found()?;
        let mut child = Command::new(program)
            .arg(library.script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Some(Self {
            to: child.stdin.take(),
            from: BufReader::new(child.stdout.take().unwrap()),
            child,
        })
    }

    /// It makes new pairs, and keeps the private halves.
    pub(crate) fn pairs(&mut self, one: bool) -> Vec<PublicKey> {
        let answer = self.ask(&json!({"do": "pairs", "one": one})).unwrap();
        PublicKey::read_all(&answer.to_string()).unwrap()
    }

    /// It makes a message, and says what its hash is.
    pub(crate) fn seal(&mut self, task: &Value) -> (String, String) {
        let mut task = task.clone();
        task["do"] = "seal".into();
        let answer = self.ask(&task).unwrap();
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        (text("message"), text("hash"))
    }

    /// It opens a message and holds it against what is expected; why not, else.
    pub(crate) fn open(&mut self, message: &str, expected: &Value) -> Result<Value, String> {
        let mut task = expected.clone();
        task["do"] = "open".into();
        task["message"] = message.into();
        self.ask(&task)
    }

    fn ask(&mut self, task: &Value) -> Result<Value, String> {
        let to = self.to.as_mut().unwrap();
        writeln!(to, "{task}").unwrap();
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        match answer.get("error") {
            Some(error) => Err(error.to_string()),
            None => Ok(answer),
        }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.to.take());
        drop(self.child.wait());
    }
}

/// How many requests, and as many answers, each test exchanges.
pub(crate) fn message_count() -> usize {
    let count = std::env::var("CARDLESS_INTEROP_MESSAGES");
    count.map_or(DEFAULT_MESSAGES, |count| count.parse().unwrap())
}
