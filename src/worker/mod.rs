//! The loops: deliveries are taken, sent and settled, and kept in hand meanwhile; what practices answer is heard; exports
//! are counted; rotated keys are followed; credentials that expired are forgotten; the search index of what an earlier
//! release stored is brought up to date.

mod catch_up;
mod deliver;
mod export;
mod heartbeat;
mod held;
mod keys;
mod mesh;
mod notify;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
mod panics;
mod tidy;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config;
use crate::outbound::{KeyRing, Mesh, Outbound};
use crate::store::Store;
use crate::time::Clock;
use crate::workflow::House;

pub use keys::{KeysError, in_file, keys, keys_kept, rotate_keys};

use held::Held;

/// What the loops work with.
pub struct Worker {
    store: Store,
    house: Arc<House>,
    outbound: Arc<Outbound>,
    /// Our mailbox at MESH, where there is one.
    mesh: Option<Arc<Mesh>>,
    /// The keys of the service, where they are kept in the database and rotated there.
    keys: Option<Arc<KeyRing>>,
    clock: Clock,
    settings: config::Delivery,
    /// Told when something may be ready to be delivered: a hint, the loop looks by itself too.
    wake: Arc<Notify>,
    /// This process, among all that work on the same database.
    id: String,
    held: Arc<Held>,
}

impl Worker {
    /// A worker of this process; it does nothing before it is started.
    pub fn new(
        store: Store,
        house: Arc<House>,
        outbound: Arc<Outbound>,
        clock: Clock,
        settings: config::Delivery,
        wake: Arc<Notify>,
    ) -> Worker {
        let id = uuid::Uuid::new_v4().to_string();
        Worker { store, house, outbound, mesh: None, keys: None, clock, settings, wake, id, held: Arc::default() }
    }

    /// The same, with a mailbox at MESH.
    pub fn with_mesh(self, mesh: Option<Arc<Mesh>>) -> Worker {
        Worker { mesh, ..self }
    }

    /// The same, following the keys that are rotated in the database.
    pub fn with_keys(self, keys: Option<Arc<KeyRing>>) -> Worker {
        Worker { keys, ..self }
    }

    /// How long a delivery stays in this process's hands without a heartbeat.
    fn lease(&self) -> Duration {
        Duration::from_secs(self.settings.lease_seconds.max(1))
    }

    /// Starts the loops. They end, with what is under way finished, when `stop` is cancelled and `tasks` is awaited.
    pub fn start(self: Arc<Worker>, stop: &CancellationToken, tasks: &TaskTracker) {
        tasks.spawn(deliver::deliver(Arc::clone(&self), stop.clone(), tasks.clone()));
        tasks.spawn(heartbeat::beat(Arc::clone(&self), stop.clone()));
        tasks.spawn(catch_up::catch_up(self.store.clone(), stop.clone()));
        tasks.spawn(export::export(Arc::clone(&self), stop.clone()));
        if let Some(mesh) = &self.mesh {
            tasks.spawn(mesh::listen(Arc::clone(&self), Arc::clone(mesh), stop.clone()));
        }
        if let Some(keys) = &self.keys {
            let (store, clock) = (self.store.clone(), self.clock.clone());
            tasks.spawn(keys::follow(store, Arc::clone(keys), clock, stop.clone()));
        }
        tasks.spawn(tidy::tidy(self, stop.clone()));
    }
}
