//! What the service logs, for tests that look at it.

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};

use livewell::telemetry;
use tracing_subscriber::layer::SubscriberExt;

/// All that is logged in this process from the first call on, at `trace`, under the service's own filter.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

/// The log. One for the whole process, because tracing decides once for each place in the code whether it is of
/// interest to anybody: a log for one test alone would miss lines when others run beside it.
pub(crate) fn log() -> Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    let log = LOG.get_or_init(|| {
        let log = Log::default();
        let writer = log.clone();
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(telemetry::filter("trace").unwrap()).with(lines);
        tracing::subscriber::set_global_default(subscriber).expect("this is the only log of the tests");
        log
    });
    log.clone()
}

impl Log {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
