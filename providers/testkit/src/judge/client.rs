use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use cardless_transport::{HttpClient, Request, Response, SendError};

use super::{Fault, Judge};

/// Passes each exchange on to another client, and judges it on the way.
#[derive(Debug, Clone)]
pub struct JudgedClient {
    inner: Arc<dyn HttpClient>,
    judge: Option<Judge>,
    answers_too: bool,
    faults: Arc<Mutex<Vec<Fault>>>,
    sent: Arc<Mutex<Vec<Request>>>,
}

impl JudgedClient {
    /// Judges requests by `judge`, and answers if `answers_too`. Without a judge it only keeps
    /// what was sent.
    pub fn new(inner: Arc<dyn HttpClient>, judge: Option<Judge>, answers_too: bool) -> Self {
        Self {
            inner,
            judge,
            answers_too,
            faults: Arc::default(),
            sent: Arc::default(),
        }
    }

    /// What did not fit the provider's document so far.
    pub fn faults(&self) -> Vec<Fault> {
        self.faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Every request so far, in order.
    pub fn sent(&self) -> Vec<Request> {
        self.sent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn note(&self, faults: Vec<Fault>) {
        self.faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(faults);
    }
}

#[async_trait]
impl HttpClient for JudgedClient {
    async fn send(&self, request: Request) -> Result<Response, SendError> {
        self.sent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(request.clone());
        if let Some(judge) = &self.judge {
            self.note(judge.request(&request));
        }
        let answer = self.inner.send(request.clone()).await;
        if let (Some(judge), true, Ok(response)) = (&self.judge, self.answers_too, &answer) {
            self.note(judge.response(&request, response));
        }
        answer
    }
}
