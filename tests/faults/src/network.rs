//! A process's connection to a provider: what leaves is looked at, and some of it arrives late.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cardless_contract::{Delivery, ErrorKind};
use cardless_transport::{
    HttpClient, InProcessClient, InProcessServer as _, Request, Response, SendError,
};

use crate::output::Output;
use crate::seam::Seam;
use crate::strike::Witness;
use crate::switch::Switch;

/// How long a process waits for an answer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A process's connection to one provider.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) switch: Switch,
    pub(crate) seam: Seam,
    pub(crate) output: Output,
    pub(crate) provider: Witness,
}

#[async_trait]
impl HttpClient for Network {
    async fn send(&self, request: Request) -> Result<Response, SendError> {
        self.switch.boundary().await;
        self.output.learn_request(&request);
        let seen = self.seam.leaves(self.provider.provider, &request).await;
        seen.map_err(|error| {
            SendError::new(Delivery::NotSent, ErrorKind::Internal).with_source(error)
        })?;
        let path = request.uri().path().to_owned();
        let result = match self.seam.is_late(self.provider.provider, &request) {
            Some(seconds) => self.send_late(request, seconds).await,
            None => {
                let client = InProcessClient::new(Arc::new(self.provider.clone()), DEADLINE);
                client.send(request).await
            }
        };
        if let Ok(response) = &result {
            self.output.learn_answer(&path, response.body());
        }
        self.switch.boundary().await;
        result
    }
}

impl Network {
    /// No answer comes, and the request arrives when it arrives, whoever is still alive then.
    async fn send_late(&self, request: Request, seconds: u64) -> Result<Response, SendError> {
        let provider = self.provider.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            drop(provider.serve(request));
        });
        tokio::time::sleep(DEADLINE).await;
        Err(SendError::new(Delivery::Unknown, ErrorKind::Interrupted))
    }
}
