//! How the last question about something open has ended, kept for a person: in words of ours, with
//! the provider's code and the id under which its support finds the request. Nothing depends on
//! it; no text of a provider, no body and no token is in it.

use std::fmt;

use cardless_contract::{ErrorKind, ProviderError, Timestamp};
use serde::Serialize;

use super::{Inner, stored};
use crate::error::{Causes, Error};
use crate::store::{Change, LastAnswerRow};

/// How the last question about something open has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastAnswer {
    /// What was asked about: the payment, one of its operations, its setup or its payment method.
    pub object: String,
    /// `interrupted`, `not_found`, `pending` and so on.
    pub said: String,
    /// The provider's code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The id for the provider's support.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// An answer, before it is kept.
#[derive(Debug, Clone)]
pub(super) struct Said {
    word: &'static str,
    code: Option<String>,
    correlation: Option<String>,
}

impl From<&'static str> for Said {
    fn from(word: &'static str) -> Self {
        Self {
            word,
            code: None,
            correlation: None,
        }
    }
}

impl From<&ProviderError> for Said {
    fn from(error: &ProviderError) -> Self {
        Self {
            word: word_of(error.kind()),
            code: error.code().map(|code| code.as_str().to_owned()),
            correlation: error.correlation().map(|id| id.as_str().to_owned()),
        }
    }
}

impl Inner {
    /// Keeps an answer. A failure is logged, and changes nothing about the question.
    pub(super) async fn heard(&self, account: &str, object: &str, said: impl Into<Said>) {
        let said = said.into();
        let row = LastAnswerRow {
            account: account.to_owned(),
            object: object.to_owned(),
            said: said.word.to_owned(),
            code: said.code,
            correlation: said.correlation,
            at: self.journal.now(),
        };
        if let Err(error) = self.journal.write(vec![Change::KeepAnswer(row)]).await {
            tracing::warn!(object, error = %Causes(&error), "an answer was not kept");
        }
    }

    /// What was heard last about each of these.
    pub(super) async fn last_answers(
        &self,
        objects: impl Iterator<Item = &String> + Send,
    ) -> Result<Vec<LastAnswer>, Error> {
        let mut answers = Vec::new();
        for object in objects {
            let row = self.journal.store().last_answer(object).await;
            answers.extend(row.map_err(stored)?.map(LastAnswer::from));
        }
        Ok(answers)
    }

    /// What was heard last about one object, for the log's alarm.
    pub(super) async fn last_heard(&self, object: &str) -> String {
        let found = self.journal.store().last_answer(object).await;
        let answer = found.ok().flatten().map(LastAnswer::from);
        answer.map_or_else(|| "none".to_owned(), |answer| answer.to_string())
    }
}

impl fmt::Display for LastAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)?;
        if let Some(code) = &self.code {
            write!(f, " ({code})")?;
        }
        if let Some(id) = &self.correlation {
            write!(f, " [{id}]")?;
        }
        write!(f, " at {}", self.at)
    }
}

impl From<LastAnswerRow> for LastAnswer {
    fn from(row: LastAnswerRow) -> Self {
        Self {
            object: row.object,
            said: row.said,
            code: row.code,
            correlation: row.correlation,
            at: row.at,
        }
    }
}

/// A kind that is added later has no word yet.
const fn word_of(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Unreachable => "unreachable",
        ErrorKind::Interrupted => "interrupted",
        ErrorKind::Authentication => "authentication",
        ErrorKind::Permission => "permission",
        ErrorKind::InvalidRequest => "invalid_request",
        ErrorKind::NotFound => "not_found",
        ErrorKind::Conflict => "conflict",
        ErrorKind::AmountRefused => "amount_refused",
        ErrorKind::RateLimited => "rate_limited",
        ErrorKind::ProviderFailed => "provider_failed",
        ErrorKind::UnreadableAnswer => "unreadable_answer",
        ErrorKind::MerchantAccount => "merchant_account",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::RepeatRefused => "repeat_refused",
        ErrorKind::Internal => "internal",
        _ => "other",
    }
}
