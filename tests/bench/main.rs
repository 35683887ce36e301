//! `cargo bench`: what the service does a second, and how long a caller waits.
//!
//! The service is the real binary in a process of its own, reached over HTTP with tokens from its token endpoint; the
//! load comes from this process, on the same machine. Results go to `target/bench`: a JSON file each, and `chart.svg`.

mod baseline;
mod client;
mod load;
mod population;
mod report;
mod service;
mod workloads;
mod write_back;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use baseline::Footprint;
use clap::Parser;
use client::{Ask, Connection};
use load::{Act, Measured, Span, closed, open};
use report::{Report, Result as Line};
use service::{Failed, Service, free_address};
use workloads::Newcomers;

/// Benchmarks of the service.
#[derive(Parser)]
struct Options {
    /// Tasks that are there before the load begins.
    #[arg(long, default_value_t = 10_000)]
    tasks: u64,
    /// Do the work list, $claim-next and the rest also at 1,000,000 Tasks.
    #[arg(long)]
    full: bool,
    /// Seconds each workload is measured, after two of warm-up.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Write-backs that wait for 20 practices at once.
    #[arg(long, default_value_t = 10_000)]
    backlog: usize,
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
    let mut sizes = vec![options.tasks];
    if options.full {
        sizes.push(1_000_000);
    }
    if options.only.as_ref().is_some_and(|only| only.starts_with("write-back")) {
        sizes.clear();
    }
    for tasks in sizes {
        let bench = Bench::start(&options, folder.path(), tasks, &mut report).await?;
        bench.run(&mut report).await?;
    }
    if options.wants("write-back") {
        let measured = write_back::write_back(folder.path(), 60).await?;
        report.add(Line::new("write-back, idle", 1, &measured));
    }
    if options.wants("write-back, backlog") {
        let drained = write_back::drain(folder.path(), options.backlog).await?;
        report.add(Line::new("write-back, backlog to 20 practices", 1, &drained.measured));
        report.fact("most write-backs under way to one practice", drained.most_in_flight);
        report.fact("most attempts in a minute to one practice", drained.most_a_minute);
    }
    report.write()?;
    Ok(())
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }
}

/// The workloads on one database.
struct Bench<'o> {
    options: &'o Options,
    service: Service,
    practices: Vec<String>,
    coaches: Vec<String>,
    newcomers: Newcomers,
    span: Span,
}

impl<'o> Bench<'o> {
    async fn start(options: &'o Options, folder: &Path, tasks: u64, report: &mut Report) -> Result<Bench<'o>, Failed> {
        let service = Service::start(folder, free_address()?, tasks, &[]).await?;
        report.fact(&format!("start ms at {tasks} Tasks"), service.start.as_secs_f64() * 1000.0);
        let span = Span { warm_up: Duration::from_secs(2), measured: Duration::from_secs(options.seconds) };
        Ok(Bench { options, service, practices: Vec::new(), coaches: Vec::new(), newcomers: Newcomers::new(), span })
    }

    async fn run(mut self, report: &mut Report) -> Result<(), Failed> {
        let tasks = self.service.tasks;
        self.work_lists(report).await?;
        self.referrals(report).await?;
        self.sign_in().await?;
        let given = Arc::default();
        let claim = workloads::claim_next(self.coaches.clone(), given);
        self.closed(report, "$claim-next, 32 clients", 32, claim).await;
        report.fact(&format!("resident MB at {tasks} Tasks"), self.service.resident_mb());
        Ok(())
    }

    /// Tokens live five minutes: new ones before each group of workloads.
    async fn sign_in(&mut self) -> Result<(), Failed> {
        self.practices = self.service.practices().await?;
        self.coaches = self.service.coaches().await?;
        Ok(())
    }

    async fn work_lists(&mut self, report: &mut Report) -> Result<(), Failed> {
        self.sign_in().await?;
        let tasks = self.service.tasks;
        let read = workloads::read(self.practices.clone(), tasks);
        self.closed(report, "read, 1 client", 1, Arc::clone(&read)).await;
        self.closed(report, "read, 32 clients", 32, read).await;
        let list = workloads::work_list(self.coaches.clone());
        self.closed(report, "work list, 1 client", 1, Arc::clone(&list)).await;
        self.closed(report, "work list, 32 clients", 32, list).await;
        let status = workloads::status(self.practices.clone(), tasks);
        self.closed(report, "$status, 32 clients", 32, status).await;
        Ok(())
    }

    async fn referrals(&mut self, report: &mut Report) -> Result<(), Failed> {
        self.sign_in().await?;
        let refer = workloads::refer(self.practices.clone(), &self.newcomers);
        if self.options.wants("referral, 50 a second") {
            let measured = open(self.service.address, 50.0, 64, self.span, Arc::clone(&refer)).await;
            report.add(Line::new("referral, 50 a second", self.service.tasks, &measured));
        }
        for clients in [1, 8, 32] {
            let name =
                if clients == 1 { "referral, 1 client".to_owned() } else { format!("referral, {clients} clients") };
            self.closed(report, &name, clients, Arc::clone(&refer)).await;
        }
        if self.options.wants("referral") {
            self.bare(report).await?;
        }
        let create = workloads::create(self.practices.clone(), &self.newcomers);
        self.closed(report, "create Patient, 32 clients", 32, create).await;
        Ok(())
    }

    /// The rows of one referral in bare transactions, in the same file.
    async fn bare(&self, report: &mut Report) -> Result<(), Failed> {
        let (nhs_number, at) = self.newcomers.next();
        let sent = workloads::referral(&population::practice(0), &nhs_number, at);
        let ask = Ask::post("/fhir/ServiceRequest", &self.practices[0], &sent);
        let stored = Connection::to(self.service.address).send(&ask).await?.expect(201)?.json();
        let footprint = Footprint::of(&self.service.database, stored["id"].as_str().unwrap_or_default()).await?;
        report.fact("rows of a referral", footprint.rows() as f64);
        for at_once in [1, 32] {
            let rate = footprint.bare_rate(&self.service.database, at_once, Duration::from_secs(2)).await?;
            report.fact(&format!("bare referrals a second, {at_once} a commit"), rate);
        }
        Ok(())
    }

    async fn closed(&self, report: &mut Report, name: &str, clients: usize, act: Act) {
        if self.options.wants(name) {
            let measured: Measured = closed(self.service.address, clients, self.span, act).await;
            report.add(Line::new(name, self.service.tasks, &measured));
        }
    }
}
