//! In-memory lane (to be filled).
