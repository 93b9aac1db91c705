//! Captures as values: read and write pcap files for goldens and replay.
//!
//! Written files have nanosecond time stamps, link type Ethernet and little-endian fields whatever
//! the machine, so equal captures give equal bytes.
//!
//! ```
//! use lvs_testkit::build::tcp;
//! use lvs_testkit::pcap::{self, Capture};
//! let captures = vec![Capture { time_ns: 1_500_000_007, data: tcp().syn().build() }];
//! let mut file = Vec::new();
//! pcap::write(&mut file, &captures).unwrap();
//! assert_eq!(pcap::read(&file[..]).unwrap(), captures);
//! ```

use core::time::Duration;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::{DataLink, Endianness, PcapError, TsResolution};
use std::fs::File;
use std::io::{BufReader, BufWriter, Error, ErrorKind, Read, Result, Write};
use std::path::Path;

/// One captured frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// When, in nanoseconds since the epoch of the capture.
    pub time_ns: u64,
    /// The frame, from the Ethernet header on.
    pub data: Vec<u8>,
}

fn io_error(error: PcapError) -> Error {
    match error {
        PcapError::IoError(inner) => inner,
        other => Error::new(ErrorKind::InvalidData, other.to_string()),
    }
}

/// Reads a whole capture, of either byte order and time resolution.
///
/// # Errors
/// What the reader answers, and `InvalidData` for anything that is not a pcap file of Ethernet
/// frames, or ends inside a record.
pub fn read(from: impl Read) -> Result<Vec<Capture>> {
    let mut reader = PcapReader::new(from).map_err(io_error)?;
    if reader.header().datalink != DataLink::ETHERNET {
        let text = format!("link type {:?} is not Ethernet", reader.header().datalink);
        return Err(Error::new(ErrorKind::InvalidData, text));
    }
    let mut captures = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet.map_err(io_error)?;
        let time_ns = u64::try_from(packet.timestamp.as_nanos()).unwrap_or(u64::MAX);
        captures.push(Capture { time_ns, data: packet.data.into_owned() });
    }
    Ok(captures)
}

/// Writes a whole capture.
///
/// # Errors
/// What the writer answers; `InvalidInput` for times beyond the year 2106, which the format cannot
/// express.
pub fn write(to: impl Write, captures: &[Capture]) -> Result<()> {
    let header = PcapHeader {
        snaplen: 1 << 18,
        datalink: DataLink::ETHERNET,
        ts_resolution: TsResolution::NanoSecond,
        endianness: Endianness::Little,
        ..PcapHeader::default()
    };
    let mut writer = PcapWriter::with_header(to, header).map_err(io_error)?;
    for capture in captures {
        let time = Duration::from_nanos(capture.time_ns);
        if u32::try_from(time.as_secs()).is_err() {
            return Err(Error::new(ErrorKind::InvalidInput, "a pcap file ends in the year 2106"));
        }
        let len = u32::try_from(capture.data.len()).unwrap_or(u32::MAX);
        writer.write_packet(&PcapPacket::new(time, len, &capture.data)).map_err(io_error)?;
    }
    writer.into_writer().flush()
}

/// Reads a capture file.
///
/// # Errors
/// As [`read`].
pub fn read_file(path: impl AsRef<Path>) -> Result<Vec<Capture>> {
    read(BufReader::new(File::open(path)?))
}

/// Writes a capture file.
///
/// # Errors
/// As [`write()`].
pub fn write_file(path: impl AsRef<Path>, captures: &[Capture]) -> Result<()> {
    write(BufWriter::new(File::create(path)?), captures)
}
