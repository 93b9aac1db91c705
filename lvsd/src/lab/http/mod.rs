//! As much HTTP/1.1 as the lab's client and servers need, over kernel TCP: requests and answers
//! with `Content-Length`, kept alive. Not for anything else.

pub(crate) mod client;
pub(crate) mod pattern;
mod peers;
pub(crate) mod server;
mod stay;
mod storm;
mod visits;

use std::io::{self, BufRead, Read};

/// The longest head that is read.
const MAX_HEAD: u64 = 16 * 1024;

/// What goes before the body of a request or an answer.
#[derive(Debug, Default)]
pub(crate) struct Head {
    /// The first line.
    pub(crate) start: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
}

impl Head {
    /// Reads up to and with the empty line; `None` when the other side has closed before it began.
    pub(crate) fn read(stream: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut head = Self::default();
        let mut limited = stream.take(MAX_HEAD);
        loop {
            let mut line = String::new();
            if limited.read_line(&mut line)? == 0 {
                let fresh = head.start.is_empty();
                return if fresh { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
            let line = line.trim_end();
            if head.start.is_empty() {
                line.clone_into(&mut head.start);
            } else if line.is_empty() {
                return Ok(Some(head));
            } else if let Some((name, value)) = line.split_once(':') {
                head.headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The length of the body; without the header there is none.
    pub(crate) fn content_length(&self) -> u64 {
        self.header("content-length").and_then(|v| v.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn closes(&self) -> bool {
        self.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_up_to_its_empty_line() {
        let mut bytes =
            &b"GET / HTTP/1.1\r\nContent-Length: 12\r\nConnection: Close\r\n\r\nbody"[..];
        let head = Head::read(&mut bytes).unwrap().unwrap();
        assert_eq!(head.start, "GET / HTTP/1.1");
        assert_eq!(head.content_length(), 12);
        assert!(head.closes());
        assert_eq!(bytes, b"body");
    }

    #[test]
    fn the_end_before_a_head_is_none_and_within_it_an_error() {
        assert!(Head::read(&mut &b""[..]).unwrap().is_none());
        assert!(Head::read(&mut &b"GET / HTTP/1.1\r\n"[..]).is_err());
    }

    #[test]
    fn an_endless_head_is_refused() {
        let long = [b"GET / HTTP/1.1\r\n".to_vec(), vec![b'x'; 100_000]].concat();
        assert!(Head::read(&mut long.as_slice()).is_err());
    }
}
