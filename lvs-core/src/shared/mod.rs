//! What the workers of a director share: touched when a session opens, closes or changes its state, by no
//! other packet.
//!
//! Three tables of fixed size, made of atomic words, without locks: persistence [`Templates`], sessions of each
//! server with their [`Thresholds`] ([`ServerCounts`]), and sessions that are half open ([`HalfOpen`]). One worker
//! uses them as many do.
//!
//! ```
//! use lvs_core::id::{ServerId, ServiceId};
//! use lvs_core::shared::{Ending, Inserted, Scope, Shared, SharedConfig, TemplateKey};
//! use lvs_core::time::Tick;
//!
//! let shared = Shared::new(&SharedConfig::default());
//! let client = TemplateKey::new(Scope::Service(ServiceId(0)), "192.0.2.7".parse().unwrap(), 32);
//! let (now, end) = (Tick(100), Tick(100));
//! assert_eq!(shared.templates.find(&client, now, end), None);
//! let Inserted::New(first) = shared.templates.insert(&client, ServerId(3), now, end) else { panic!() };
//! // Another worker, at the same time: the first answer counts.
//! let Inserted::Other(second) = shared.templates.insert(&client, ServerId(4), now, end) else { panic!() };
//! assert_eq!(second.server, ServerId(3));
//! for hold in [first, second] {
//!     shared.templates.release(hold.slot, Ending::Until(Tick(9000)));
//! }
//! assert!(shared.templates.find(&client, Tick(8999), Tick(8999)).is_some());
//! ```

mod counts;
mod life;
mod templates;
mod word;

pub use counts::{HalfOpen, ServerCounts, Sessions, Thresholds};
pub use templates::{
    Ending, Hold, Inserted, Scope, Spot, Template, TemplateKey, TemplateStats, Templates,
};

use core::fmt;

#[cfg(all(test, loom))]
mod interleavings;

/// Sizes and secrets of what workers share.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SharedConfig {
    /// Clients with a template at once; about 65 bytes each.
    pub templates: u32,
    /// Servers whose sessions are counted: one more than the highest number; 8 bytes each. A server beyond has
    /// thresholds within each worker only.
    pub servers: u32,
    /// Services whose half-open sessions are counted; 8 bytes each.
    pub services: u32,
    /// Secret of the template hash; random at each start.
    pub key: [u64; 2],
}

impl Default for SharedConfig {
    /// 1024 templates, 1024 servers, 256 services, and a key that anybody can guess: good for tests only.
    fn default() -> Self {
        Self { templates: 1024, servers: 1024, services: 256, key: [0, 0] }
    }
}

impl fmt::Debug for SharedConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedConfig")
            .field("templates", &self.templates)
            .field("servers", &self.servers)
            .field("services", &self.services)
            .finish_non_exhaustive()
    }
}

/// Everything that workers share.
#[derive(Debug)]
pub struct Shared {
    /// Which server a client belongs to.
    pub templates: Templates,
    /// Sessions of each server.
    pub servers: ServerCounts,
    /// Half-open sessions of each service.
    pub half_open: HalfOpen,
}

impl Shared {
    /// Takes the memory; nothing grows afterwards.
    #[must_use]
    pub fn new(config: &SharedConfig) -> Self {
        Self {
            templates: Templates::new(config.templates, &config.key),
            servers: ServerCounts::new(config.servers),
            half_open: HalfOpen::new(config.services),
        }
    }
}
