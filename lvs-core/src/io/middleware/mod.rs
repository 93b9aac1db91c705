//! Middleware lanes (to be filled).
