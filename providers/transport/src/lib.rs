//! The only place where requests leave.

mod client;
mod hosts;
mod in_process;

pub use client::{HttpClient, MAX_BODY_BYTES, Request, Response, SendError};
pub use hosts::{Hosts, HostsError};
pub use in_process::{InProcessClient, InProcessServer, Reply};

use std::sync::Arc;

use cardless_contract::{Delivery, ErrorKind, ProviderName};

/// One provider's way out: a client behind the list of addresses that it may reach.
#[derive(Debug, Clone)]
pub struct Transport {
    provider: ProviderName,
    client: Arc<dyn HttpClient>,
    hosts: Hosts,
}

impl Transport {
    /// A way out for `provider` to `hosts` through `client`.
    pub fn new(provider: ProviderName, client: Arc<dyn HttpClient>, hosts: Hosts) -> Self {
        Self {
            provider,
            client,
            hosts,
        }
    }

    /// Where this provider's calls may go.
    pub const fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// Sends one request, once, if its address is on the list.
    ///
    /// # Errors
    ///
    /// [`SendError`]; an address off the list is `NotSent` and `Internal`.
    pub async fn send(&self, request: Request) -> Result<Response, SendError> {
        let allowed =
            url::Url::parse(&request.uri().to_string()).is_ok_and(|url| self.hosts.allow(&url));
        if !allowed {
            return Err(SendError::new(Delivery::NotSent, ErrorKind::Internal)
                .with_source("the address is not on the provider's list"));
        }
        // A path can hold a payment token (PayPal's delete does), so it is not logged.
        tracing::debug!(provider = %self.provider, method = %request.method(), "request");
        self.client.send(request).await
    }
}
