use std::sync::Arc;
use std::time::Duration;

use cardless_transport::{InProcessClient, InProcessServer, Reply, Request};

use crate::{Provider, Sandbox};

/// One provider of a sandbox, as the other side of an [`InProcessClient`].
#[derive(Debug, Clone)]
pub struct ProviderHandle {
    sandbox: Sandbox,
    provider: Provider,
}

impl ProviderHandle {
    pub(crate) const fn new(sandbox: Sandbox, provider: Provider) -> Self {
        Self { sandbox, provider }
    }

    /// A client that reaches this provider without a socket and gives up on a stalled call after
    /// `deadline` of tokio's time.
    pub fn client(self, deadline: Duration) -> InProcessClient {
        InProcessClient::new(Arc::new(self), deadline)
    }
}

impl InProcessServer for ProviderHandle {
    fn serve(&self, request: Request) -> Reply {
        self.sandbox.serve_call(self.provider, request)
    }
}
