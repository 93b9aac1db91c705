//! What runs on a host.

use super::stack::Stack;
use core::any::Any;
use core::fmt;
use core::marker::PhantomData;

/// An application on a simulated host.
///
/// `poll` is called whenever something may have changed for it: a frame arrived, a timer of the
/// stack ran out, or the time asked for by `wake_at` has come. It must not wait.
pub trait App: Any {
    /// Does what can be done now.
    fn poll(&mut self, now_ns: u64, stack: &mut Stack);

    /// When it wants to be polled although nothing happens.
    fn wake_at(&self) -> Option<u64> {
        None
    }

    /// How far it is, for the text of a timeout.
    fn describe(&self) -> String;
}

/// An application of type `A` on some host of a [`Net`](super::Net).
pub struct AppId<A> {
    pub(super) host: usize,
    pub(super) app: usize,
    kind: PhantomData<fn() -> A>,
}

impl<A> AppId<A> {
    pub(super) const fn new(host: usize, app: usize) -> Self {
        Self { host, app, kind: PhantomData }
    }
}

impl<A> Clone for AppId<A> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<A> Copy for AppId<A> {}

impl<A> fmt::Debug for AppId<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "app {} of host {}", self.app, self.host)
    }
}
