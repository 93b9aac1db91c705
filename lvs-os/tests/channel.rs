//! Messages with descriptors between the ends of a channel.

use lvs_os::channel::{Channel, MAX_FDS};
use std::fs::File;
use std::io::{ErrorKind, Read, Write, pipe};
use std::os::fd::AsFd;

#[test]
fn a_passed_descriptor_is_the_same_open_file() {
    let (a, b) = Channel::pair().unwrap();
    let (mut reader, mut writer) = pipe().unwrap();
    writer.write_all(b"through the pipe").unwrap();
    drop(writer);
    a.send(b"take it", &[reader.as_fd()]).unwrap();
    let mut buffer = [0; 64];
    let message = b.receive(&mut buffer).unwrap();
    assert_eq!(&buffer[..message.len], b"take it");
    assert_eq!(message.fds.len(), 1);
    let mut text = String::new();
    File::from(message.fds.into_iter().next().unwrap()).read_to_string(&mut text).unwrap();
    assert_eq!(text, "through the pipe");
    assert_eq!(reader.read(&mut buffer).unwrap(), 0);
}

#[test]
fn messages_keep_their_borders_and_their_descriptors() {
    let (a, b) = Channel::pair().unwrap();
    let null = File::open("/dev/null").unwrap();
    a.send(b"one", &[]).unwrap();
    a.send(b"two", &vec![null.as_fd(); MAX_FDS]).unwrap();
    let mut buffer = [0; 64];
    let first = b.receive(&mut buffer).unwrap();
    assert_eq!((first.len, first.fds.len()), (3, 0));
    let second = b.receive(&mut buffer).unwrap();
    assert_eq!((second.len, second.fds.len()), (3, MAX_FDS));
}

#[test]
fn what_cannot_be_sent_or_does_not_fit_is_an_error() {
    let (a, b) = Channel::pair().unwrap();
    let null = File::open("/dev/null").unwrap();
    assert_eq!(a.send(b"", &[]).unwrap_err().kind(), ErrorKind::InvalidInput);
    let many = vec![null.as_fd(); MAX_FDS + 1];
    assert_eq!(a.send(b"x", &many).unwrap_err().kind(), ErrorKind::InvalidInput);
    a.send(b"longer than the buffer", &[null.as_fd()]).unwrap();
    assert_eq!(b.receive(&mut [0; 4]).unwrap_err().kind(), ErrorKind::InvalidData);
}

#[test]
fn a_closed_end_reads_as_an_empty_message_and_breaks_the_pipe() {
    let (a, b) = Channel::pair().unwrap();
    drop(a);
    assert_eq!(b.receive(&mut [0; 4]).unwrap().len, 0);
    assert_eq!(b.send(b"x", &[]).unwrap_err().kind(), ErrorKind::BrokenPipe);
}
