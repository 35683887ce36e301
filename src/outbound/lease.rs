//! Whether what is being sent is still this process's to send.

use std::sync::Arc;

/// Asked before anything is sent that changes a practice's record.
#[derive(Clone)]
pub struct Lease(Arc<dyn Fn() -> bool + Send + Sync>);

impl Lease {
    /// A lease that is held as long as `held` says so.
    pub fn asked(held: impl Fn() -> bool + Send + Sync + 'static) -> Lease {
        Lease(Arc::new(held))
    }

    /// Whether it is held now.
    pub fn is_held(&self) -> bool {
        (self.0)()
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lease(held: {})", self.is_held())
    }
}
