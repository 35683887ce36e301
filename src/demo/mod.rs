//! The demo: the referral loop shown, with a stand-in for the practice's system.
//!
//! What it needs of the service is [`Serve`]: the same acts as `livewell load`, `livewell client add` and `livewell serve`.
//! Everything after that goes over HTTP.

pub mod cast;
pub mod directory;
pub mod keys;
mod look;
pub mod practice;
#[cfg(test)]
mod tests;
pub mod walk;

use std::future::Future;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;

use crate::time::Clock;
use cast::{Cast, DemoClient};
use directory::{Directory, DirectoryUnfit};
use practice::{StandIn, StandInSettings};
use walk::{Page, Walk, WalkFailed};

/// How long the write-back may take to arrive in the demo.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the caller chose.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// The service's port; the stand-in practice system takes the next one. With `once`, or 0, both are free ports.
    pub port: u16,
    /// Where databases and journals go; a fresh folder among the system's temporary files when there is none.
    pub data: Option<PathBuf>,
    /// Walk, stop and answer, instead of serving on until Ctrl-C.
    pub once: bool,
}

/// Makes the database in the stage's folder, loads the directory as `livewell load` does, registers the clients as
/// `livewell client add` does, and serves on the listener with plain HTTP and private addresses of practices allowed.
/// The error is a sentence.
pub type Serve = Box<dyn FnOnce(Stage, TcpListener) -> Starting + Send>;

/// What [`Serve`] answers.
pub type Starting = Pin<Box<dyn Future<Output = Result<Served, String>> + Send>>;

/// What the service has to be given before it serves.
pub struct Stage {
    /// The folder of the database.
    pub data: PathBuf,
    /// ODS code of the Live Well organisation, `service.organization`.
    pub organization: String,
    /// The directory with the practices' Endpoints: a transaction Bundle of PUTs.
    pub directory: Value,
    pub clients: Vec<Registration>,
}

/// A client to register, in the words of `livewell client add`.
#[derive(Clone, Debug)]
pub struct Registration {
    pub id: String,
    /// ODS code.
    pub organization: String,
    /// Scopes, separated by spaces.
    pub scope: String,
    /// JSON Web Key Set.
    pub jwks: Value,
    /// `PractitionerRole/ID`.
    pub staff: Option<String>,
}

impl From<&DemoClient> for Registration {
    fn from(client: &DemoClient) -> Registration {
        Registration {
            id: client.id.clone(),
            organization: client.organization.clone(),
            scope: client.scope.clone(),
            jwks: client.key.jwks(),
            staff: client.staff.clone(),
        }
    }
}

/// The service, serving.
pub struct Served {
    pub address: SocketAddr,
    /// Ends when the requests under way are answered.
    pub stop: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Why the demo ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoFailed {
    #[error("port {port} cannot be listened on ({why}); choose another with --port")]
    Port { port: u16, why: io::Error },
    #[error("the folder for the demo's data cannot be made: {0}")]
    Folder(io::Error),
    #[error(transparent)]
    Directory(#[from] DirectoryUnfit),
    #[error("the service did not start: {0}")]
    Service(String),
    #[error("the stand-in practice system did not start: {0}")]
    StandIn(io::Error),
    #[error(transparent)]
    Walk(#[from] WalkFailed),
    #[error("the demo cannot write to its output: {0}")]
    Output(#[from] io::Error),
}

/// Starts the service and the stand-in, walks the loop, and serves on until Ctrl-C unless it is to run once. Prints to
/// `out`, in colour where `out` is the terminal and nobody set `NO_COLOR`.
pub async fn run(options: DemoOptions, serve: Serve, out: &mut (dyn Write + Send)) -> Result<(), DemoFailed> {
    let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|said| said.is_empty());
    let mut page = Page::new(out, colour);
    let running = Running::start(&options, serve, PATIENCE).await?;
    let told = running.show(&options, &mut page).await;
    running.stop().await;
    told
}

/// Everything that runs while the demo lasts.
struct Running {
    walk: Walk,
    stand_in: StandIn,
    served: Served,
    data: PathBuf,
}

impl Running {
    async fn start(options: &DemoOptions, serve: Serve, patience: Duration) -> Result<Running, DemoFailed> {
        let (at, next) = match options.port {
            port if options.once || port == 0 => (0, 0),
            port => (port, port.saturating_add(1)),
        };
        let (service, practices) = (listen(at).await?, listen(next).await?);
        let data = options.data.clone().unwrap_or_else(fresh_folder);
        std::fs::create_dir_all(&data).map_err(DemoFailed::Folder)?;
        let directory = Directory::embedded()?;
        let cast = Cast::from(&directory)?;
        let address = service.local_addr()?;
        let settings = StandInSettings {
            practices: cast.seeds(),
            client_jwks_url: format!("http://{address}/.well-known/jwks.json"),
            accepted_client_id: "livewell".to_owned(),
            clock: Clock::System,
        };
        let stand_in = StandIn::start(practices, data.join("practices"), settings).await;
        let stand_in = stand_in.map_err(DemoFailed::StandIn)?;
        let stage = Stage {
            data: data.clone(),
            organization: directory.live_well()?,
            directory: directory.with_endpoints(|ods| stand_in.base(ods))?,
            clients: cast.clients().map(Registration::from).collect(),
        };
        let served = serve(stage, service).await.map_err(DemoFailed::Service)?;
        let ods = cast.walked.practice.ods.clone();
        let walk = Walk {
            service: format!("http://{}/fhir", served.address),
            record: stand_in.base(&ods),
            record_token: stand_in.reader_token(&ods),
            cast,
            patience,
        };
        Ok(Running { walk, stand_in, served, data })
    }

    async fn show(&self, options: &DemoOptions, page: &mut Page<'_>) -> Result<(), DemoFailed> {
        page.heading("Live Well, the referral loop (everybody here is invented)")?;
        page.item("service", &self.walk.service)?;
        page.item("practice system", format!("http://{}", self.stand_in.address()))?;
        page.item("data", self.data.display())?;
        page.heading("Step by step")?;
        let walked = walk::run(&self.walk, page).await?;
        page.heading("The loop is closed")?;
        page.item("referral", &walked.reference)?;
        if !options.once {
            look::until_ctrl_c(&self.walk, walked, page).await?;
        }
        Ok(())
    }

    async fn stop(self) {
        self.served.stop.await;
        self.stand_in.stop().await;
    }
}

/// A client for the demo's own traffic, which is plain HTTP on this machine: past any proxy, and without the certificates
/// of the system, which take longer to read than the whole walk.
fn plain_http(timeout: Duration) -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(timeout).build()
}

async fn listen(port: u16) -> Result<TcpListener, DemoFailed> {
    TcpListener::bind(("127.0.0.1", port)).await.map_err(|why| DemoFailed::Port { port, why })
}

fn fresh_folder() -> PathBuf {
    std::env::temp_dir().join(format!("livewell-demo-{}", uuid::Uuid::new_v4().simple()))
}
