//! `cargo bench`: what the service does a second, and how long a caller waits.
//!
//! The service is the real binary in a process of its own, reached over HTTP with tokens from its token endpoint; the
//! load comes from this process, on the same machine. Results go to `target/bench`: a JSON file each, `table.md` and
//! `chart.svg`.

mod another;
mod baseline;
mod client;
mod fan_out;
mod load;
mod population;
mod report;
mod service;
mod synthea;
mod target;
mod workloads;
mod write_back;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use another::Another;
use baseline::Footprint;
use clap::Parser;
use client::{Ask, Connection};
use load::{Act, Span, closed, open};
use report::{Report, Result as Line};
use service::{Failed, Service, free_address};
use synthea::Synthea;
use target::{Server, Target};
use workloads::Newcomers;

/// Benchmarks of the service.
#[derive(Parser)]
struct Options {
    /// Tasks that are there before the load begins.
    #[arg(long, default_value_t = 10_000)]
    tasks: u64,
    /// Do it all at 1,000,000 Tasks as well.
    #[arg(long)]
    full: bool,
    /// Seconds each workload is measured, after one of warm-up.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Write-backs that wait for 20 practices at once. Default 1,000, with `--full` 10,000.
    #[arg(long)]
    backlog: Option<usize>,
    /// Measure on this database only.
    #[arg(long, value_parser = ["sqlite", "postgresql"])]
    on: Option<String>,
    /// Send the load that any FHIR server takes to this base URL instead, e.g. http://127.0.0.1:8090/fhir.
    #[arg(long)]
    against: Option<String>,
    /// The bearer token for `--against`.
    #[arg(long, default_value = "")]
    token: String,
    /// Only workloads whose name contains this.
    only: Option<String>,
    /// What cargo passes.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failed> {
    let options = Options::parse();
    let folder = tempfile::tempdir_in(report::folder().parent().unwrap_or(Path::new(".")))?;
    let mut report = Report { folder: report::folder(), machine: Vec::new(), results: Vec::new() };
    report.fact("fsyncs a second", baseline::fsyncs_per_second(folder.path(), Duration::from_secs(2))?);
    if let Some(url) = &options.against {
        Another::at(url, &options.token).await?.measure(options.span(), &mut report).await?;
        return Ok(report.write()?);
    }
    let mut sizes = vec![options.tasks];
    if options.full {
        sizes.push(1_000_000);
    }
    if options.only.as_ref().is_some_and(|only| only.starts_with("write-back") || only.starts_with("notification")) {
        sizes.clear();
    }
    let targets = targets(&options, folder.path())?;
    for target in &targets {
        for tasks in &sizes {
            let bench = Bench::start(&options, folder.path(), *tasks, target, &mut report).await?;
            bench.run(&mut report).await?;
        }
    }
    if options.wants_on("sqlite") && options.wants("write-back, idle") {
        let measured = write_back::write_back(folder.path(), 60).await?;
        report.add(Line::new("sqlite", "write-back, idle", 1, &measured));
    }
    if options.wants_on("sqlite") && options.wants("write-back, backlog") {
        let drained = write_back::drain(folder.path(), options.backlog()).await?;
        report.add(Line::new("sqlite", "write-back, backlog to 20 practices", 1, &drained.measured));
        report.fact("most write-backs under way to one practice", drained.most_in_flight);
        report.fact("most attempts in a minute to one practice", drained.most_a_minute);
    }
    for target in &targets {
        if options.wants(fan_out::NAME) {
            let measured = fan_out::fan_out(folder.path(), target, 200).await?;
            report.add(Line::new(target.name(), fan_out::NAME, 1, &measured));
        }
    }
    report.write()?;
    Ok(())
}

/// The databases to measure on.
fn targets(options: &Options, folder: &Path) -> Result<Vec<Target>, Failed> {
    let mut targets = Vec::new();
    if options.wants_on("sqlite") {
        targets.push(Target::Sqlite);
    }
    if options.wants_on("postgresql") {
        targets.extend(Server::find(folder)?.map(Target::Postgres));
    }
    Ok(targets)
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }

    fn wants_on(&self, target: &str) -> bool {
        self.on.as_ref().is_none_or(|on| on == target)
    }

    fn backlog(&self) -> usize {
        self.backlog.unwrap_or(if self.full { 10_000 } else { 1_000 })
    }

    fn span(&self) -> Span {
        Span { warm_up: Duration::from_secs(1), measured: Duration::from_secs(self.seconds) }
    }
}

const SYNTHEA: &str = "Synthea patient, transaction";

/// The workloads on one database.
struct Bench<'o> {
    options: &'o Options,
    folder: PathBuf,
    service: Service,
    practices: Vec<String>,
    coaches: Vec<String>,
    newcomers: Newcomers,
    /// Tasks that `$claim-next` has given out.
    given: Arc<std::sync::Mutex<std::collections::HashSet<String>>>,
    span: Span,
}

impl<'o> Bench<'o> {
    async fn start(
        options: &'o Options,
        folder: &Path,
        tasks: u64,
        target: &Target,
        report: &mut Report,
    ) -> Result<Bench<'o>, Failed> {
        let service = Service::start(folder, free_address()?, tasks, &[], target).await?;
        report.fact(&format!("{}: start ms at {tasks} Tasks", target.name()), service.start.as_secs_f64() * 1000.0);
        Ok(Bench {
            options,
            folder: folder.to_owned(),
            service,
            practices: Vec::new(),
            coaches: Vec::new(),
            newcomers: Newcomers::new(),
            given: Arc::default(),
            span: options.span(),
        })
    }

    async fn run(mut self, report: &mut Report) -> Result<(), Failed> {
        let tasks = self.service.tasks;
        self.sign_in().await?;
        self.readers(report).await?;
        self.sign_in().await?;
        self.referrals(report).await?;
        self.sign_in().await?;
        self.writers(report).await?;
        let name = self.service.target.name();
        report.fact(&format!("{name}: resident MB at {tasks} Tasks"), self.service.resident_mb());
        if self.options.wants(SYNTHEA)
            && let Some(synthea) = Synthea::at_hand()
        {
            self.service.load(&synthea.directory)?;
            self.closed(report, SYNTHEA, 4, synthea.transaction(self.practices.clone())?).await;
        }
        Ok(())
    }

    /// Tokens live five minutes: new ones before each group of workloads.
    async fn sign_in(&mut self) -> Result<(), Failed> {
        self.practices = self.service.practices().await?;
        self.coaches = self.service.coaches().await?;
        Ok(())
    }

    fn read(&self) -> Act {
        workloads::read(self.practices.clone(), self.service.tasks)
    }

    fn claim(&self) -> Act {
        workloads::claim_next(self.coaches.clone(), Arc::clone(&self.given))
    }

    async fn readers(&mut self, report: &mut Report) -> Result<(), Failed> {
        for clients in [1, 32, 256] {
            self.closed(report, "read", clients, self.read()).await;
        }
        for clients in [1, 32] {
            self.closed(report, "work list", clients, workloads::work_list(self.coaches.clone())).await;
        }
        let status = workloads::status(self.practices.clone(), self.service.tasks);
        self.closed(report, "$status", 32, status).await;
        Ok(())
    }

    async fn referrals(&mut self, report: &mut Report) -> Result<(), Failed> {
        let refer = workloads::refer(self.practices.clone(), &self.newcomers);
        self.open(report, "referral, 50 a second", Arc::clone(&refer)).await;
        for clients in [1, 8, 32] {
            self.closed(report, "referral", clients, Arc::clone(&refer)).await;
        }
        if self.options.wants("referral") {
            self.bare(report).await?;
        }
        let day = workloads::day(
            self.read(),
            workloads::work_list(self.coaches.clone()),
            workloads::status(self.practices.clone(), self.service.tasks),
            refer,
            self.claim(),
        );
        self.open(report, "mixed, 50 a second", day).await;
        Ok(())
    }

    async fn writers(&mut self, report: &mut Report) -> Result<(), Failed> {
        let create = workloads::create(self.practices.clone(), &self.newcomers);
        self.closed(report, "create Patient", 32, create).await;
        if self.options.wants("update Patient, 32 clients") {
            let mut connection = Connection::to(self.service.address);
            let own = workloads::patients(&mut connection, &self.practices, &self.newcomers, 64).await?;
            let update = workloads::update(self.practices.clone(), own);
            self.closed(report, "update Patient", 32, update).await;
        }
        let all = workloads::create_read_update(self.practices.clone(), &self.newcomers);
        self.closed(report, "create + read + update", 32, all).await;
        self.closed(report, "$claim-next", 32, self.claim()).await;
        Ok(())
    }

    /// The rows of one referral in bare transactions, in the same database.
    async fn bare(&self, report: &mut Report) -> Result<(), Failed> {
        let (nhs_number, at) = self.newcomers.next();
        let sent = workloads::referral(&population::practice(0), &nhs_number, at);
        let ask = Ask::post("/fhir/ServiceRequest", &self.practices[0], &sent);
        let stored = Connection::to(self.service.address).send(&ask).await?.expect(201)?.json();
        let footprint = Footprint::of(&self.service.url, stored["id"].as_str().unwrap_or_default()).await?;
        let (name, span) = (self.service.target.name(), Duration::from_secs(3));
        report.fact(&format!("{name}: rows of a referral"), footprint.rows() as f64);
        for at_once in [1, 32] {
            match &self.service.target {
                Target::Sqlite => {
                    let rate = footprint.bare_rate(&self.service.url, at_once, span).await?;
                    report.fact(&format!("{name}: bare referrals a second, {at_once} a commit"), rate);
                }
                Target::Postgres(server) => {
                    let rate = footprint.pgbench_rate(server, &self.service.url, &self.folder, at_once, span)?;
                    report.fact(&format!("{name}: bare referrals a second, pgbench with {at_once} clients"), rate);
                }
            }
        }
        Ok(())
    }

    async fn closed(&self, report: &mut Report, name: &str, clients: usize, act: Act) {
        let name = if clients == 1 { format!("{name}, 1 client") } else { format!("{name}, {clients} clients") };
        if self.options.wants(&name) {
            let measured = closed(self.service.address, clients, self.span, act).await;
            report.add(Line::new(self.service.target.name(), name, self.service.tasks, &measured));
        }
    }

    async fn open(&self, report: &mut Report, name: &str, act: Act) {
        if self.options.wants(name) {
            let measured = open(self.service.address, 50.0, 64, self.span, act).await;
            report.add(Line::new(self.service.target.name(), name, self.service.tasks, &measured));
        }
    }
}
