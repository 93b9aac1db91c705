//! lvsd.
fn main() {}
