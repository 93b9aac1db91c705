//! What changes a whole process: signals, capabilities, namespaces, parents. Every case runs in a
//! process of its own with one thread: this program starts itself again with the case's name.

use core::time::Duration;
use lvs_os::channel::Channel;
use lvs_os::namespace::{Namespace, NamespaceFd, set_hostname, unshare};
use lvs_os::privilege::{self, Capability};
use lvs_os::process::{self, PidFd, SpawnExt};
use lvs_os::signal::{self, Signal, Signals};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::process::{Command, ExitCode, Stdio, exit};
use std::{env, thread};

/// The exit code of a case that cannot run on this system.
const SKIPPED: i32 = 77;

const CASES: [(&str, fn()); 12] = [
    ("signals_are_read_in_place_of_killing", signals_are_read_in_place_of_killing),
    ("a_child_can_start_with_nothing_blocked", a_child_can_start_with_nothing_blocked),
    ("dropped_capabilities_do_not_come_back", dropped_capabilities_do_not_come_back),
    ("a_descriptor_opened_before_the_drop_still_works", descriptor_opened_before_the_drop),
    ("dropping_is_refused_while_other_threads_run", dropping_is_refused_with_threads),
    ("new_namespaces_are_separate_and_can_be_joined", new_namespaces_can_be_joined),
    ("a_child_dies_with_its_parent", a_child_dies_with_its_parent),
    ("a_pid_namespace_dies_with_its_first_process", a_pid_namespace_dies_with_its_first),
    ("a_child_can_start_without_inherited_files", child_without_inherited_files),
    ("kept_capabilities_reach_children_until_they_are_dropped", kept_capabilities),
    ("ended_children_are_reaped_one_by_one", ended_children_are_reaped),
    ("a_child_takes_a_channel_as_standard_input", a_child_takes_a_channel),
];

fn main() -> ExitCode {
    let wanted = env::args().nth(1).unwrap_or_default();
    if let Some(role) = wanted.strip_prefix("role:") {
        return role_of_a_child(role);
    }
    if let Some((_, case)) = CASES.iter().find(|(name, _)| *name == wanted) {
        case();
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for (name, _) in CASES.iter().filter(|(name, _)| name.contains(wanted.trim_start_matches('-')))
    {
        let status = Command::new(env::current_exe().unwrap()).arg(name).status().unwrap();
        let word = match status.code() {
            Some(0) => "ok",
            Some(SKIPPED) => "SKIPPED (this system does not allow it)",
            _ => "FAILED",
        };
        failed += u8::from(word == "FAILED");
        println!("test {name} ... {word}");
    }
    ExitCode::from(failed)
}

/// This program in a second role.
fn again(role: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.arg(format!("role:{role}"));
    command
}

fn role_of_a_child(role: &str) -> ExitCode {
    match role {
        "sleep" => loop {
            process::pause();
        },
        // Starts a child that is to die with it, says its number, and waits.
        "parent" => {
            let mut child = again("sleep").die_with_parent(Signal::Kill).spawn().unwrap();
            println!("{}", child.id());
            child.wait().unwrap();
            ExitCode::FAILURE
        }
        "kill-me-by-term" => {
            signal::send(std::process::id(), Signal::Terminate).unwrap();
            thread::sleep(Duration::from_secs(5));
            ExitCode::SUCCESS
        }
        "echo-channel" => {
            let channel = Channel::from_stdin().unwrap();
            let mut buffer = [0; 16];
            let message = channel.receive(&mut buffer).unwrap();
            channel.send(&buffer[..message.len], &[]).unwrap();
            ExitCode::SUCCESS
        }
        "spawn-sleeper" => {
            let mut sleeper = again("sleep");
            sleeper.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            println!("{}", sleeper.close_other_files().spawn().unwrap().id());
            ExitCode::SUCCESS
        }
        "drop-twice" => ExitCode::from(u8::from(privilege::effective().unwrap() != 0)),
        other => panic!("no role {other}"),
    }
}

fn signals_are_read_in_place_of_killing() {
    let signals = Signals::block(&[Signal::Terminate, Signal::User1]).unwrap();
    assert_eq!(signals.try_next().unwrap(), None);
    assert_eq!(signals.wait_timeout(Duration::from_millis(1)).unwrap(), None);
    let me = std::process::id();
    signal::send(me, Signal::Terminate).unwrap();
    assert_eq!(signals.wait().unwrap(), Signal::Terminate);
    PidFd::open(me).unwrap().send(Signal::User1).unwrap();
    assert_eq!(signals.wait_timeout(Duration::from_secs(9)).unwrap(), Some(Signal::User1));
    assert_eq!(signals.try_next().unwrap(), None);
}

fn a_child_can_start_with_nothing_blocked() {
    use std::os::unix::process::ExitStatusExt;
    let _signals = Signals::block(&[Signal::Terminate]).unwrap();
    let status = again("kill-me-by-term").unblock_signals().status().unwrap();
    assert_eq!(status.signal(), Some(Signal::Terminate.number()));
}

fn dropped_capabilities_do_not_come_back() {
    privilege::drop_all().unwrap();
    assert_eq!(privilege::effective().unwrap(), 0);
    assert!(!privilege::has(Capability::NetAdmin).unwrap());
    // Root would get all of them back at the next exec without the bounding set and no_new_privs.
    assert!(again("drop-twice").status().unwrap().success());
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = |name: &str| status.lines().find(|l| l.starts_with(name)).unwrap().to_owned();
    assert!(line("NoNewPrivs").ends_with('1'));
    assert!(line("CapPrm").ends_with("0000000000000000"));
    privilege::drop_all().unwrap();
}

fn descriptor_opened_before_the_drop() {
    use std::os::unix::fs::FileExt;
    let file = File::open("/proc/self/exe").unwrap();
    privilege::drop_all().unwrap();
    let mut magic = [0; 4];
    file.read_exact_at(&mut magic, 0).unwrap();
    assert_eq!(&magic, b"\x7fELF");
}

fn dropping_is_refused_with_threads() {
    let (started, wait) = std::sync::mpsc::channel::<()>();
    let thread = thread::spawn(move || wait.recv());
    let before = privilege::effective().unwrap();
    assert_eq!(privilege::drop_all().unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    assert_eq!(privilege::effective().unwrap(), before);
    drop(started);
    let _ = thread.join();
}

/// Namespaces as root makes them, or through a user namespace; ends the case where neither works.
fn unshare_or_skip(kinds: &[Namespace]) {
    let as_root = privilege::has(Capability::SysAdmin).unwrap();
    let with_user: Vec<_> = [Namespace::User].iter().chain(kinds).copied().collect();
    if let Err(error) = unshare(if as_root { kinds } else { &with_user }) {
        eprintln!("namespaces: {error}");
        exit(SKIPPED);
    }
    privilege::keep_across_exec().unwrap();
}

fn new_namespaces_can_be_joined() {
    let name = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    let original = name("self");
    unshare_or_skip(&[Namespace::Mount, Namespace::Uts, Namespace::Net]);
    assert_ne!(name("self"), original);
    set_hostname("inside").unwrap();
    let mut child = again("sleep").spawn().unwrap();
    let outer_net = name("self");
    // The child keeps the old ones while this process moves on to further new ones.
    unshare(&[Namespace::Uts, Namespace::Net]).unwrap();
    assert_ne!(name("self"), outer_net);
    set_hostname("further").unwrap();
    let joined = [Namespace::Uts, Namespace::Net, Namespace::Mount]
        .map(|kind| NamespaceFd::of(child.id(), kind).unwrap());
    let output = Command::new("cat")
        .arg("/proc/sys/kernel/hostname")
        .current_dir("/tmp")
        .join_namespaces(joined.into())
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"inside\n");
    child.kill().unwrap();
    child.wait().unwrap();
}

fn a_child_dies_with_its_parent() {
    let mut middle = again("parent").stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(middle.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let grandchild = PidFd::open(line.trim().parse().unwrap()).unwrap();
    assert!(!grandchild.wait_exit(Duration::from_millis(20)).unwrap());
    middle.kill().unwrap();
    middle.wait().unwrap();
    assert!(grandchild.wait_exit(Duration::from_secs(20)).unwrap());
}

fn a_pid_namespace_dies_with_its_first() {
    unshare_or_skip(&[Namespace::Pid]);
    let mut first = again("sleep").spawn().unwrap();
    let mut second = again("sleep").spawn().unwrap();
    let watched = PidFd::open(second.id()).unwrap();
    assert!(!watched.wait_exit(Duration::from_millis(20)).unwrap());
    first.kill().unwrap();
    assert!(watched.wait_exit(Duration::from_secs(20)).unwrap());
    // In this order: the kernel holds the first process back until all others have been reaped.
    second.wait().unwrap();
    first.wait().unwrap();
}

fn a_child_takes_a_channel() {
    let (ours, theirs) = Channel::pair().unwrap();
    let mut child = again("echo-channel").stdin(OwnedFd::from(theirs)).spawn().unwrap();
    ours.send(b"hello", &[]).unwrap();
    let mut buffer = [0; 16];
    assert_eq!(ours.receive(&mut buffer).unwrap().len, 5);
    assert!(child.wait().unwrap().success());
    assert!(process::start_time(std::process::id()).unwrap() > 0);
}

fn ended_children_are_reaped() {
    assert!(process::reap_any().unwrap().is_none());
    let mut command = Command::new("sh");
    let mut child = command.args(["-c", "exit 7"]).stdin(Stdio::null()).spawn().unwrap();
    assert!(PidFd::open(child.id()).unwrap().wait_exit(Duration::from_secs(20)).unwrap());
    let (pid, status) = process::reap_any().unwrap().unwrap();
    assert_eq!((pid, status.code()), (child.id(), Some(7)));
    assert!(child.wait().is_err(), "its status has been taken");
    assert!(process::reap_any().unwrap().is_none());
}

fn child_without_inherited_files() {
    let (reader, writer) = std::io::pipe().unwrap();
    // The shell keeps a writing end that is not close-on-exec, as a careless caller has it.
    let script = "exec 9>&0; exec \"$0\" role:spawn-sleeper";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(env::current_exe().unwrap());
    let output = shell.stdin(writer).stdout(Stdio::piped()).output().unwrap();
    drop(shell);
    // With the pipe inherited this read would wait for the sleeper.
    assert_eq!(BufReader::new(reader).lines().count(), 0);
    let sleeper: u32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    PidFd::open(sleeper).unwrap().send(Signal::Kill).unwrap();
}

fn kept_capabilities() {
    unshare_or_skip(&[Namespace::Uts]);
    let child_has_some = || !again("drop-twice").status().unwrap().success();
    assert!(privilege::has(Capability::SysAdmin).unwrap() && child_has_some());
    privilege::drop_all().unwrap();
    assert!(!child_has_some());
}
