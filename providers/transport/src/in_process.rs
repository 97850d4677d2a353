use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cardless_contract::{Delivery, ErrorKind};

use crate::{HttpClient, MAX_BODY_BYTES, Request, Response, SendError, classify};

/// The other side of a connection, in the same process.
pub trait InProcessServer: fmt::Debug + Send + Sync + 'static {
    /// What becomes of a request.
    fn serve(&self, request: Request) -> Reply;
}

/// What becomes of a request at the other side.
#[derive(Debug)]
pub enum Reply {
    /// It is answered.
    Answer(Response),
    /// The port is closed: the request never leaves.
    Refuse,
    /// It arrives, and no answer ever comes.
    Stall,
    /// It arrives, and the connection breaks before a byte of the answer.
    Drop,
    /// The connection breaks after half of this answer's body.
    HalfBody(Response),
}

/// Hands each request straight to an [`InProcessServer`]: no socket, no thread, deterministic.
#[derive(Clone)]
pub struct InProcessClient {
    server: Arc<dyn InProcessServer>,
    deadline: Duration,
}

impl fmt::Debug for InProcessClient {
    /// Not the server: its state holds tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcessClient").finish_non_exhaustive()
    }
}

impl InProcessClient {
    /// A client of `server` that gives up on a stalled request after `deadline` of tokio's time.
    pub fn new(server: Arc<dyn InProcessServer>, deadline: Duration) -> Self {
        Self { server, deadline }
    }
}

#[async_trait]
impl HttpClient for InProcessClient {
    async fn send(&self, request: Request) -> Result<Response, SendError> {
        match self.server.serve(request) {
            Reply::Answer(response) if response.body().len() > MAX_BODY_BYTES => {
                Err(classify::oversized())
            }
            Reply::Answer(response) => Ok(response),
            Reply::Refuse => Err(SendError::new(Delivery::NotSent, ErrorKind::Unreachable)),
            Reply::Stall => {
                tokio::time::sleep(self.deadline).await;
                Err(classify::deadline())
            }
            Reply::Drop | Reply::HalfBody(_) => {
                Err(SendError::new(Delivery::Unknown, ErrorKind::Interrupted))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use bytes::Bytes;

    use super::*;

    /// Gives the replies of a list, one after the other, whatever is asked.
    #[derive(Debug)]
    struct Script(Mutex<Vec<Reply>>);

    impl InProcessServer for Script {
        fn serve(&self, _request: Request) -> Reply {
            self.0.lock().unwrap().remove(0)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_reply_says_how_far_the_request_got() {
        let answer = |bytes: usize| Response::new(Bytes::from(vec![b'x'; bytes]));
        let replies = [
            (Reply::Answer(answer(2)), None),
            (
                Reply::Answer(answer(MAX_BODY_BYTES + 1)),
                Some(Delivery::Unknown),
            ),
            (Reply::Refuse, Some(Delivery::NotSent)),
            (Reply::Stall, Some(Delivery::Unknown)),
            (Reply::Drop, Some(Delivery::Unknown)),
            (Reply::HalfBody(answer(2)), Some(Delivery::Unknown)),
        ];
        let (script, expected): (Vec<_>, Vec<_>) = replies.into_iter().unzip();
        let server = Arc::new(Script(Mutex::new(script)));
        let client = InProcessClient::new(server, Duration::from_secs(30));
        for delivery in expected {
            let result = client.send(Request::new(Bytes::new())).await;
            assert_eq!(result.err().map(|error| error.delivery()), delivery);
        }
    }
}
