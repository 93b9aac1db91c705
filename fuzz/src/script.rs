//! The language of the target `director`: what happens, one operation after the other, in few bytes.
//!
//! Any bytes are a script: what is missing reads as zero, numbers are taken modulo what makes sense
//! where they are used. [`encode`] is for seeds.

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Time passes, in units of 10 ms.
    Wait(u16),
    /// These bytes arrive on a port.
    Frame {
        /// The port.
        port: u8,
        /// The bytes, at most 2047.
        bytes: Vec<u8>,
    },
    /// A client sends a TCP segment to a service.
    Client {
        /// Which client, and of which family.
        client: u8,
        /// What it sends.
        segment: Segment,
    },
    /// A server answers one of the newest packets that reached it.
    Server {
        /// How many packets ago.
        back: u8,
        /// What it sends.
        segment: Segment,
    },
    /// A client sends a datagram to a service.
    Datagram {
        /// Which client, and of which family.
        client: u8,
        /// Payload bytes.
        len: u8,
    },
    /// A client pings the service's address.
    Echo {
        /// Which client, and of which family.
        client: u8,
    },
    /// A neighbour tells its address, or asks for one of the director's.
    Neighbour {
        /// Which host, on which side.
        host: u8,
        /// Whether it asks.
        asks: bool,
    },
    /// A byte of the next frame is another one.
    Damage {
        /// Which, modulo the length.
        at: u16,
        /// What it becomes.
        value: u8,
    },
    /// The next frame ends early.
    Cut(u16),
    /// The next segment arrives in another form: partial checksum, train, tag beside it.
    Shape(u8),
}

/// A TCP segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Byte 13 of the header.
    pub flags: u8,
    /// Added to the sequence number that would be right.
    pub ahead: i8,
    /// Time to live.
    pub ttl: u8,
    /// Option bytes, at most 40.
    pub options: Vec<u8>,
    /// Payload bytes, in units of 8.
    pub len: u8,
}

/// Reads bytes; behind the end there are zeros.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn u8(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    fn u16(&mut self) -> u16 {
        u16::from(self.u8()) | u16::from(self.u8()) << 8
    }

    fn take(&mut self, n: usize) -> Vec<u8> {
        let (front, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        front.to_vec()
    }

    fn segment(&mut self) -> Segment {
        let (flags, ahead, ttl) = (self.u8(), self.u8().cast_signed(), self.u8());
        let options = usize::from(self.u8()) % 41;
        Segment { flags, ahead, ttl, options: self.take(options), len: self.u8() }
    }
}

/// Most operations of one script: a bound on the work for one input.
const LONGEST: usize = 200;

/// Reads a script.
#[must_use]
pub fn decode(bytes: &[u8]) -> Vec<Op> {
    let mut reader = Reader(bytes);
    let mut ops = Vec::new();
    while !reader.0.is_empty() && ops.len() < LONGEST {
        ops.push(match reader.u8() % 10 {
            0 => Op::Wait(reader.u16()),
            1 => {
                let (port, len) = (reader.u8(), usize::from(reader.u16()) % 2048);
                Op::Frame { port, bytes: reader.take(len) }
            }
            2 => Op::Client { client: reader.u8(), segment: reader.segment() },
            3 => Op::Server { back: reader.u8(), segment: reader.segment() },
            4 => Op::Datagram { client: reader.u8(), len: reader.u8() },
            5 => Op::Echo { client: reader.u8() },
            6 => Op::Neighbour { host: reader.u8(), asks: reader.u8() & 1 != 0 },
            7 => Op::Damage { at: reader.u16(), value: reader.u8() },
            8 => Op::Cut(reader.u16()),
            _ => Op::Shape(reader.u8()),
        });
    }
    ops
}

/// Writes a script, so that [`decode`] reads the same.
#[must_use]
pub fn encode(ops: &[Op]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for op in ops {
        match op {
            Op::Wait(time) => {
                bytes.push(0);
                bytes.extend(time.to_le_bytes());
            }
            Op::Frame { port, bytes: frame } => {
                bytes.extend([1, *port]);
                bytes.extend((frame.len() as u16).to_le_bytes());
                bytes.extend(frame);
            }
            Op::Client { client, segment } => {
                bytes.extend([2, *client]);
                write_segment(segment, &mut bytes);
            }
            Op::Server { back, segment } => {
                bytes.extend([3, *back]);
                write_segment(segment, &mut bytes);
            }
            Op::Datagram { client, len } => bytes.extend([4, *client, *len]),
            Op::Echo { client } => bytes.extend([5, *client]),
            Op::Neighbour { host, asks } => bytes.extend([6, *host, u8::from(*asks)]),
            Op::Damage { at, value } => {
                bytes.push(7);
                bytes.extend(at.to_le_bytes());
                bytes.push(*value);
            }
            Op::Cut(len) => {
                bytes.push(8);
                bytes.extend(len.to_le_bytes());
            }
            Op::Shape(shape) => bytes.extend([9, *shape]),
        }
    }
    bytes
}

fn write_segment(segment: &Segment, bytes: &mut Vec<u8>) {
    let Segment { flags, ahead, ttl, options, len } = segment;
    bytes.extend([*flags, ahead.cast_unsigned(), *ttl, options.len() as u8]);
    bytes.extend(options);
    bytes.push(*len);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_reads_the_same() {
        let segment = Segment { flags: 2, ahead: -3, ttl: 64, options: vec![2, 4, 5, 180], len: 9 };
        let ops = vec![
            Op::Wait(700),
            Op::Frame { port: 1, bytes: vec![1, 2, 3] },
            Op::Client { client: 200, segment: segment.clone() },
            Op::Server { back: 1, segment },
            Op::Datagram { client: 3, len: 4 },
            Op::Echo { client: 3 },
            Op::Neighbour { host: 1, asks: true },
            Op::Damage { at: 400, value: 7 },
            Op::Cut(90),
            Op::Shape(6),
        ];
        assert_eq!(decode(&encode(&ops)), ops);
    }

    #[test]
    fn any_bytes_are_a_script() {
        for byte in 0..=255u8 {
            assert!(decode(&vec![byte; 5000]).len() <= LONGEST);
        }
    }
}
