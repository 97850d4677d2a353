//! What the demo plays on: sandbox, service, store and keys, in a folder that is removed.

use std::fs::DirBuilder;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use cardless_contract::{Entropy as _, SystemClock, SystemEntropy};
use cardless_sandbox::{Addresses, Running, Sandbox, Servers, print_settings};
use cardless_transport::{HttpClient, Response};
use http::{Method, StatusCode, header};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use cardless::client::Client;
use cardless::config::{Environment, Settings};
use cardless::gateway::{Gateway, KeysDestroyed, KeysRotated, Role};
use cardless::registry;
use cardless::scope::{InForce, SettingsFacts};

use super::walk::PROVIDERS;
use crate::cli::init::write_keys;
use crate::cli::serve::run_until;
use crate::cli::{Failure, Outcome, Providers, open, say};

/// How many random bytes are in the folder's name.
const NAME_BYTES: usize = 8;

/// Everything that runs, and the ways to it.
#[derive(Debug)]
pub(super) struct Stage {
    sandbox: Running,
    gateway: Gateway,
    client: Client,
    http: Arc<dyn HttpClient>,
    public_url: String,
    api_key: String,
    auditor_key: String,
    stop: oneshot::Sender<()>,
    service: JoinHandle<Outcome>,
    folder: Folder,
}

impl Stage {
    /// Starts all of it on free ports of loopback.
    pub(super) async fn set() -> Result<Self, Failure> {
        let folder = Folder::make()?;
        let sandbox = Sandbox::new(Arc::new(SystemClock::default()));
        let sandbox = Servers::start(sandbox, Addresses::free()).await?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let listen = listener.local_addr()?.to_string();
        let settings = folder.settings(&listen, sandbox.addresses())?;
        write_keys(&settings.keys.file, None)?;

        let clock = Arc::new(SystemClock::default());
        let gateway = open(&settings, Providers::Needed, clock)?;
        let api_key = gateway.add_client("demo", Role::Billing).await?;
        let auditor_key = gateway.add_client("auditor", Role::Auditor).await?;
        let http = registry::client(&settings)?;
        let shown = InForce::new(SettingsFacts::of(&settings));
        let public_url = settings.service.public_url;
        let client = Client::new(&public_url, api_key.clone(), Arc::clone(&http))
            .map_err(Failure::failed)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let service = tokio::spawn(run_until(gateway.clone(), shown, listener, async {
            // A sender that is gone is a stop as well.
            drop(stopped.await);
        }));
        let stage = Self {
            sandbox,
            gateway,
            client,
            http,
            public_url,
            api_key,
            auditor_key,
            stop,
            service,
            folder,
        };
        stage.route_webhooks().await?;
        Ok(stage)
    }

    /// The billing service's own client.
    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    /// What `cardless reconcile` does, in this process.
    pub(super) async fn reconcile(&self) -> Outcome {
        self.gateway.reconcile().await?;
        Ok(())
    }

    /// What `cardless rotate keys` and `rotate keys --destroy-retired` do, in this process.
    pub(super) async fn rotate_keys(&self) -> Result<(KeysRotated, KeysDestroyed), Failure> {
        let rotated = self.gateway.rotate_keys().await?.finish().await?;
        Ok((rotated, self.gateway.destroy_retired().await?))
    }

    /// The sandbox's ledger.
    pub(super) async fn ledger(&self) -> Result<Value, Failure> {
        let url = self.control("/ledger");
        let answer = self
            .send(Method::GET, &url, "application/json", Bytes::new())
            .await?;
        serde_json::from_slice(answer.body()).map_err(Failure::failed)
    }

    /// The report on the scope, as an auditor reads it.
    pub(super) async fn scope(&self) -> Result<Value, Failure> {
        let request = http::Request::get(format!("{}/v1/scope", self.public_url))
            .header(
                header::AUTHORIZATION,
                format!("Bearer {}", self.auditor_key),
            )
            .body(Bytes::new())
            .map_err(Failure::failed)?;
        let answer = self.http.send(request).await.map_err(Failure::failed)?;
        if answer.status() != StatusCode::OK {
            return Err(Failure::Failed(format!(
                "the service answered {} instead of the scope report",
                answer.status()
            )));
        }
        serde_json::from_slice(answer.body()).map_err(Failure::failed)
    }

    /// Lets the next call of this kind be carried out, and loses its answer.
    pub(super) async fn lose_a_reply(&self, provider: &str, operation: &str) -> Outcome {
        let fault = json!({
            "provider": provider,
            "operation": operation,
            "times": 1,
            "fault": "execute_then_drop",
        });
        self.tell_control("/faults", &fault).await
    }

    /// Presses a button of a hosted page, follows the browser's way back to the service, and
    /// gives the address that the customer is sent on to.
    pub(super) async fn press(&self, page: &str, button: &str) -> Result<String, Failure> {
        let form = Bytes::from(format!("decision={button}"));
        let form_type = "application/x-www-form-urlencoded";
        let answer = self.send(Method::POST, page, form_type, form).await?;
        let back = location(&answer, "the hosted page")?;
        if !back.starts_with(&format!("{}/return/", self.public_url)) {
            return Err(Failure::Failed(
                "the hosted page leads to another place".to_owned(),
            ));
        }
        let answer = self
            .send(Method::GET, &back, form_type, Bytes::new())
            .await?;
        location(&answer, "the service")
    }

    /// Where everything is, for somebody who looks around.
    pub(super) fn describe(&self) -> Outcome {
        let addresses = self.sandbox.addresses();
        say("\nstill running; stop it with Ctrl-C")?;
        say(format_args!("  service      {}", self.public_url))?;
        say(format_args!("  API key      {}", self.api_key))?;
        say(format_args!("  auditor      {}", self.auditor_key))?;
        say(format_args!(
            "  report       curl -H 'Authorization: Bearer {}' -H 'Accept: text/html' {}/v1/scope",
            self.auditor_key, self.public_url
        ))?;
        say(format_args!("  paypal       http://{}", addresses.paypal))?;
        say(format_args!(
            "  postfinance  http://{}",
            addresses.postfinance
        ))?;
        say(format_args!("  aduno        http://{}", addresses.aduno))?;
        say(format_args!("  control      http://{}", addresses.control))?;
        say(format_args!(
            "  settings     {}",
            self.folder.settings_file().display()
        ))
    }

    /// Stops the service and then the sandbox, and removes the folder.
    pub(super) async fn clear(self) -> Outcome {
        // A service that has ended by itself has nobody to be told; its result says why.
        self.stop.send(()).ok();
        let served = self
            .service
            .await
            .map_err(|_| Failure::Failed("the service broke off; see the log".to_owned()))?;
        self.sandbox.shutdown().await;
        self.folder.remove()?;
        served
    }

    async fn route_webhooks(&self) -> Outcome {
        for provider in PROVIDERS {
            let route = json!({
                "provider": provider.name,
                "url": format!("{}/webhooks/{}", self.public_url, provider.name),
                "deliver": "now",
            });
            self.tell_control("/webhooks", &route).await?;
        }
        Ok(())
    }

    fn control(&self, path: &str) -> String {
        format!("http://{}{path}", self.sandbox.addresses().control)
    }

    async fn tell_control(&self, path: &str, body: &Value) -> Outcome {
        let body = Bytes::from(body.to_string());
        let answer = self
            .send(Method::POST, &self.control(path), "application/json", body)
            .await?;
        if answer.status().is_success() {
            return Ok(());
        }
        Err(Failure::Failed(format!(
            "the sandbox's {path} answered {}",
            answer.status()
        )))
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Response, Failure> {
        let request = http::Request::builder()
            .method(method)
            .uri(url)
            .header(header::CONTENT_TYPE, content_type)
            .body(body)
            .map_err(Failure::failed)?;
        self.http.send(request).await.map_err(Failure::failed)
    }
}

/// Where a 303 leads.
fn location(answer: &Response, who: &str) -> Result<String, Failure> {
    let location = answer
        .headers()
        .get(header::LOCATION)
        .and_then(|value| value.to_str().ok());
    match location {
        Some(location) if answer.status() == StatusCode::SEE_OTHER => Ok(location.to_owned()),
        Some(_) | None => Err(Failure::Failed(format!(
            "{who} answered {} instead of sending the browser on",
            answer.status()
        ))),
    }
}

/// A folder of our own under the temporary one; removed when it goes out of use, however that is.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self, Failure> {
        let mut random = [0; NAME_BYTES];
        SystemEntropy.fill(&mut random).map_err(Failure::failed)?;
        let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = std::env::temp_dir().join(format!("cardless-demo-{random}"));
        let mut builder = DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path)?;
        Ok(Self(path))
    }

    fn settings_file(&self) -> PathBuf {
        self.0.join("cardless.toml")
    }

    /// Writes the settings, so that other verbs can be run beside the demo, and reads them.
    fn settings(&self, listen: &str, sandbox: &Addresses) -> Result<Settings, Failure> {
        let providers = print_settings(sandbox);
        let text = format!("[service]\nlisten = \"{listen}\"\n\n{providers}");
        std::fs::write(self.settings_file(), &text)?;
        let path: &Path = &self.settings_file();
        Ok(Settings::parse(path, &text, &Environment::default())?)
    }

    fn remove(self) -> Outcome {
        Ok(std::fs::remove_dir_all(&self.0)?)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Already removed after an orderly end; best effort after any other.
        drop(std::fs::remove_dir_all(&self.0));
    }
}
