//! Capture files in the classic pcap format, as `tcpdump -w` writes them: read whole, written as the
//! packets come.
//!
//! Read in both byte orders and both time resolutions. Written little-endian with nanoseconds,
//! whatever the machine, so that equal packets give equal files.
//! Format: draft-ietf-opsawg-pcap.

use core::fmt;
use core::ops::Range;
use std::io::{self, Write};

/// Magic number of a file with microseconds, and of one with nanoseconds.
const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
/// First block of a pcapng file: the same in both byte orders.
const PCAPNG: u32 = 0x0a0d_0d0a;
/// Length of the file header and of a record header.
const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
/// `LINKTYPE_ETHERNET`.
const ETHERNET: u32 = 1;
/// Longest record of any capture (`MAXIMUM_SNAPLEN` of libpcap); more is a damaged file.
pub const LONGEST: u32 = 262_144;

/// What is wrong with a capture file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PcapError {
    /// It ends inside the file header.
    NoHeader {
        /// How many bytes there are.
        bytes: usize,
    },
    /// It is of another kind.
    NotPcap {
        /// Its first four bytes.
        magic: [u8; 4],
    },
    /// It is a pcapng file.
    Pcapng,
    /// Its frames are not Ethernet frames.
    LinkType {
        /// What they are: a number of the LINKTYPE registry.
        link_type: u32,
    },
    /// It ends inside a record.
    Truncated {
        /// The record, from 1.
        record: usize,
        /// Where the record starts, in bytes of the file.
        offset: usize,
        /// Bytes that should follow there, record header included.
        needed: usize,
        /// Bytes that do.
        present: usize,
    },
    /// A record states a length that no capture has.
    TooLong {
        /// The record, from 1.
        record: usize,
        /// Where the record starts, in bytes of the file.
        offset: usize,
        /// The stated length.
        length: u32,
    },
}

impl fmt::Display for PcapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHeader { bytes } => {
                write!(f, "the file has {bytes} bytes; a pcap file begins with a header of 24")
            }
            Self::NotPcap { magic: [a, b, c, d] } => write!(
                f,
                "not a pcap file: it begins with {a:02x} {b:02x} {c:02x} {d:02x}; a compressed one \
                 must be unpacked first"
            ),
            Self::Pcapng => f.write_str(
                "a pcapng file; convert it to pcap: `editcap -F nsecpcap IN OUT` or \
                 `tcpdump -r IN -w OUT`",
            ),
            Self::LinkType { link_type } => write!(
                f,
                "byte 20: link type {link_type} ({}); only Ethernet (1) goes through a port",
                link_name(*link_type)
            ),
            Self::Truncated { record, offset, needed, present } => write!(
                f,
                "record {record} at byte {offset} is cut off: it takes {needed} bytes and the file \
                 has {present} more"
            ),
            Self::TooLong { record, offset, length } => write!(
                f,
                "record {record} at byte {offset} states {length} bytes, more than any capture \
                 holds: the file is damaged there"
            ),
        }
    }
}
impl core::error::Error for PcapError {}

/// The link types that captures of IP usually have.
const fn link_name(link_type: u32) -> &'static str {
    match link_type {
        0 => "BSD loopback",
        9 => "PPP",
        101 | 12 | 14 => "raw IP, as from a tunnel",
        105 | 127 => "802.11",
        113 => "Linux cooked, as from `tcpdump -i any`; capture on one interface",
        276 => "Linux cooked v2, as from `tcpdump -i any`; capture on one interface",
        _ => "unknown here",
    }
}

/// One captured frame: where its bytes are in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When, in nanoseconds since 1970.
    pub time_ns: u64,
    /// Its bytes in the file.
    pub bytes: Range<usize>,
    /// How long it was on the wire; longer than what is there when the capture cut it (`tcpdump -s`).
    pub wire_len: u32,
}

impl Record {
    /// Whether bytes of it are missing.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        usize::try_from(self.wire_len).is_ok_and(|len| len > self.bytes.len())
    }
}

/// The byte order and time resolution of a file.
#[derive(Clone, Copy)]
struct Format {
    big_endian: bool,
    unit_ns: u64,
}

impl Format {
    fn u32_at(self, file: &[u8], at: usize) -> Option<u32> {
        let bytes = *file.get(at..)?.first_chunk::<4>()?;
        Some(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }
}

fn format_of(file: &[u8]) -> Result<Format, PcapError> {
    let Some(magic) = file.first_chunk::<4>().copied() else {
        return Err(PcapError::NoHeader { bytes: file.len() });
    };
    let (big, little) = (u32::from_be_bytes(magic), u32::from_le_bytes(magic));
    let (big_endian, unit_ns) = match (big, little) {
        (MICROSECONDS, _) => (true, 1000),
        (NANOSECONDS, _) => (true, 1),
        (_, MICROSECONDS) => (false, 1000),
        (_, NANOSECONDS) => (false, 1),
        (PCAPNG, _) => return Err(PcapError::Pcapng),
        _ => return Err(PcapError::NotPcap { magic }),
    };
    if file.len() < FILE_HEADER {
        return Err(PcapError::NoHeader { bytes: file.len() });
    }
    Ok(Format { big_endian, unit_ns })
}

/// Finds every record of a file, in the order of the file.
///
/// # Errors
/// [`PcapError`].
pub fn read(file: &[u8]) -> Result<Vec<Record>, PcapError> {
    let format = format_of(file)?;
    // The upper bits tell of a frame check sequence; behind an IP packet it is as harmless as padding.
    let link_type = format.u32_at(file, 20).unwrap_or_default() & 0xffff;
    if link_type != ETHERNET {
        return Err(PcapError::LinkType { link_type });
    }
    let mut records = Vec::new();
    let mut offset = FILE_HEADER;
    while offset < file.len() {
        let record = records.len() + 1;
        let present = file.len() - offset;
        let cut = |needed| PcapError::Truncated { record, offset, needed, present };
        let field = |at| format.u32_at(file, offset + at).ok_or_else(|| cut(RECORD_HEADER));
        let (seconds, fraction) = (field(0)?, field(4)?);
        let (length, wire_len) = (field(8)?, field(12)?);
        if length > LONGEST {
            return Err(PcapError::TooLong { record, offset, length });
        }
        let start = offset + RECORD_HEADER;
        let end = start + usize::try_from(length).unwrap_or(usize::MAX - start);
        if end > file.len() {
            return Err(cut(end - offset));
        }
        let time_ns = u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * format.unit_ns;
        records.push(Record { time_ns, bytes: start..end, wire_len });
        offset = end;
    }
    Ok(records)
}

/// Writes a capture, packet by packet.
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
}

impl<W: Write> Writer<W> {
    /// Begins a file of Ethernet frames.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn new(mut to: W) -> io::Result<Self> {
        let mut header = Vec::with_capacity(FILE_HEADER);
        header.extend(NANOSECONDS.to_le_bytes());
        header.extend(2u16.to_le_bytes()); // version 2.4
        header.extend(4u16.to_le_bytes());
        header.extend([0; 8]); // time zone and accuracy, always zero
        header.extend(LONGEST.to_le_bytes());
        header.extend(ETHERNET.to_le_bytes());
        to.write_all(&header)?;
        Ok(Self { to })
    }

    /// Appends a frame.
    ///
    /// # Errors
    /// Those of `to`, and `InvalidInput` for a time beyond the year 2106 or a frame beyond 4 GiB, which
    /// the format cannot express.
    pub fn write(&mut self, time_ns: u64, frame: &[u8]) -> io::Result<()> {
        let invalid = |text| io::Error::new(io::ErrorKind::InvalidInput, text);
        let seconds = u32::try_from(time_ns / 1_000_000_000)
            .map_err(|_| invalid("a pcap file ends in the year 2106"))?;
        let fraction = u32::try_from(time_ns % 1_000_000_000).unwrap_or_default();
        let length = u32::try_from(frame.len()).map_err(|_| invalid("a frame is beyond 4 GiB"))?;
        for field in [seconds, fraction, length, length] {
            self.to.write_all(&field.to_le_bytes())?;
        }
        self.to.write_all(frame)
    }

    /// Ends the file.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn finish(mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lvs_testkit::build::tcp;
    use lvs_testkit::pcap as other;

    /// A file by hand: header fields and one record, each number in the wanted byte order.
    fn file(big_endian: bool, magic: u32, link_type: u32, fraction: u32, frame: &[u8]) -> Vec<u8> {
        let u32s = |n: u32| if big_endian { n.to_be_bytes() } else { n.to_le_bytes() };
        let u16s = |n: u16| if big_endian { n.to_be_bytes() } else { n.to_le_bytes() };
        let length = u32::try_from(frame.len()).unwrap();
        let mut file = u32s(magic).to_vec();
        file.extend([u16s(2), u16s(4)].concat());
        file.extend([u32s(0), u32s(0), u32s(65_535), u32s(link_type)].concat());
        file.extend([u32s(1_700_000_000), u32s(fraction), u32s(length), u32s(length + 9)].concat());
        file.extend(frame);
        file
    }

    #[test]
    fn both_byte_orders_and_both_resolutions_are_read() {
        for big_endian in [true, false] {
            for (magic, fraction, ns) in
                [(MICROSECONDS, 7, 7_000), (NANOSECONDS, 123_456_789, 123_456_789)]
            {
                let bytes = file(big_endian, magic, 1, fraction, &[5; 60]);
                let records = read(&bytes).unwrap();
                assert_eq!(records.len(), 1);
                assert_eq!(records[0].time_ns, 1_700_000_000_000_000_000 + ns);
                assert_eq!(bytes[records[0].bytes.clone()], [5; 60]);
                assert_eq!(records[0].wire_len, 69);
                assert!(records[0].is_cut());
                assert_eq!(other::read(&bytes[..]).unwrap()[0].time_ns, records[0].time_ns);
            }
        }
    }

    #[test]
    fn what_is_written_is_what_another_implementation_writes_and_reads() {
        let captures: Vec<_> = (0..5u16)
            .map(|n| other::Capture {
                time_ns: 4_294_967_295_000_000_000 + u64::from(n),
                data: tcp().syn().payload_len(usize::from(n)).build(),
            })
            .collect();
        let mut theirs = Vec::new();
        other::write(&mut theirs, &captures).unwrap();
        let mut ours = Vec::new();
        let mut writer = Writer::new(&mut ours).unwrap();
        captures.iter().for_each(|c| writer.write(c.time_ns, &c.data).unwrap());
        writer.finish().unwrap();
        assert_eq!(ours, theirs);
        let records = read(&ours).unwrap();
        assert_eq!(records.len(), captures.len());
        for (record, capture) in records.iter().zip(&captures) {
            assert_eq!(
                (record.time_ns, &ours[record.bytes.clone()]),
                (capture.time_ns, &capture.data[..])
            );
            assert!(!record.is_cut());
        }
        let late = Writer::new(Vec::new()).unwrap().write(u64::MAX, &[]).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_file_that_ends_anywhere_inside_a_record_says_where() {
        let whole = file(false, MICROSECONDS, 1, 0, &[5; 60]);
        assert_eq!(read(&whole[..FILE_HEADER]), Ok(Vec::new()), "an empty capture");
        for len in 0..FILE_HEADER {
            assert_eq!(read(&whole[..len]), Err(PcapError::NoHeader { bytes: len }));
        }
        for len in FILE_HEADER + 1..whole.len() {
            let needed = if len < FILE_HEADER + RECORD_HEADER { RECORD_HEADER } else { 76 };
            let present = len - FILE_HEADER;
            let error = PcapError::Truncated { record: 1, offset: 24, needed, present };
            assert_eq!(read(&whole[..len]), Err(error));
        }
    }

    #[test]
    fn other_files_are_refused_with_what_they_are() {
        let cooked = file(true, NANOSECONDS, 113, 0, &[]);
        assert_eq!(read(&cooked), Err(PcapError::LinkType { link_type: 113 }));
        let with_fcs = file(false, NANOSECONDS, 1 | 0x2400_0000, 0, &[5; 60]);
        assert_eq!(read(&with_fcs).unwrap().len(), 1);
        let next = [&PCAPNG.to_be_bytes()[..], &[0; 40]].concat();
        assert_eq!(read(&next), Err(PcapError::Pcapng));
        let zipped = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0];
        assert_eq!(read(&zipped), Err(PcapError::NotPcap { magic: [0x1f, 0x8b, 8, 0] }));
        let mut absurd = file(false, MICROSECONDS, 1, 0, &[5; 60]);
        absurd[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
        let error = PcapError::TooLong { record: 1, offset: 24, length: u32::MAX };
        assert_eq!(read(&absurd), Err(error));
    }
}
