//! The loops: deliveries are leased, sent and settled; credentials that expired are forgotten; the search index of what an
//! earlier release stored is brought up to date.

mod catch_up;
mod deliver;
mod tidy;

use std::sync::Arc;

use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config;
use crate::outbound::Outbound;
use crate::store::Store;
use crate::time::Clock;
use crate::workflow::House;

/// What the loops work with.
pub struct Worker {
    pub store: Store,
    pub house: Arc<House>,
    pub outbound: Arc<Outbound>,
    pub clock: Clock,
    pub settings: config::Delivery,
    /// Told when something may be ready to be delivered: a hint, the loop looks by itself too.
    pub wake: Arc<Notify>,
}

impl Worker {
    /// Starts the loops. They end, with what is under way finished, when `stop` is cancelled and `tasks` is awaited.
    pub fn start(self: Arc<Worker>, stop: &CancellationToken, tasks: &TaskTracker) {
        let slots = Arc::new(Semaphore::new(self.settings.workers.max(1)));
        tasks.spawn(deliver::deliver(Arc::clone(&self), slots, stop.clone(), tasks.clone()));
        tasks.spawn(catch_up::catch_up(self.store.clone(), stop.clone()));
        tasks.spawn(tidy::tidy(self, stop.clone()));
    }
}
