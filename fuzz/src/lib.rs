//! What the fuzz targets do with their bytes, as ordinary functions: libFuzzer, the replay of stored
//! inputs and a debugger all call the same code.
//!
//! | target | bytes are | asserted |
//! |---|---|---|
//! | [`director`](director::run) | a [`script`] of frames, damage and waiting | [`checks`] after each frame and at the end; the same in [`bursts`] |
//! | [`headers`](headers::run) | one frame | the parser and smoltcp agree but for named differences |
//! | [`rewrite`](modes::rewrite), [`tunnel`](modes::tunnel), [`icmp`](modes::icmp) | 16 bytes of choices, one frame | the laws of translation in [`modes`] |
//! | [`tcp_options`](options::run) | flags, a kind, option bytes | no forged address is left, ours is read, checksums stay right |
//! | [`proxy`](proxy::run) | the start of a client's stream | a header is told from data, and made again alike |
//!
//! A finding is a panic. It goes to `fuzz/regressions/TARGET/`, from where the replay repeats it for ever.

pub mod bursts;
pub mod checks;
pub mod director;
pub mod headers;
pub mod modes;
pub mod options;
pub mod outer;
pub mod proxy;
pub mod script;
pub mod world;

/// A fuzz target by its name.
#[must_use]
pub fn target(name: &str) -> Option<fn(&[u8])> {
    match name {
        "director" => Some(|bytes| {
            director::run(bytes);
        }),
        "headers" => Some(headers::run),
        "rewrite" => Some(modes::rewrite),
        "tunnel" => Some(modes::tunnel),
        "icmp" => Some(modes::icmp),
        "proxy" => Some(proxy::run),
        "tcp_options" => Some(options::run),
        _ => None,
    }
}

/// Names of all targets.
pub const TARGETS: [&str; 7] =
    ["director", "headers", "rewrite", "tunnel", "icmp", "proxy", "tcp_options"];
