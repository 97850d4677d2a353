use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use cardless_contract::{Delivery, ErrorKind};

use crate::{HttpClient, Request, Response, SendError};

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
#[derive(Debug, Clone)]
pub struct InProcessClient {
    server: Arc<dyn InProcessServer>,
    deadline: std::time::Duration,
}

impl InProcessClient {
    /// A client of `server` that gives up on a stalled request after `deadline` of tokio's time.
    pub fn new(server: Arc<dyn InProcessServer>, deadline: std::time::Duration) -> Self {
        Self { server, deadline }
    }
}

#[async_trait]
impl HttpClient for InProcessClient {
    async fn send(&self, request: Request) -> Result<Response, SendError> {
        match self.server.serve(request) {
            Reply::Answer(response) => Ok(response),
            Reply::Refuse => Err(SendError::new(Delivery::NotSent, ErrorKind::Unreachable)),
            Reply::Stall => {
                tokio::time::sleep(self.deadline).await;
                Err(SendError::new(Delivery::Unknown, ErrorKind::Interrupted))
            }
            Reply::Drop | Reply::HalfBody(_) => {
                Err(SendError::new(Delivery::Unknown, ErrorKind::Interrupted))
            }
        }
    }
}
