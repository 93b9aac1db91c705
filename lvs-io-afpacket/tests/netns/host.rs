//! Namespaces, interfaces and the machines in them.

use std::io::Write;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

/// Declares a test that runs in a network namespace of its own, in a process of its own.
macro_rules! namespace_test {
    ($(#[$meta:meta])* fn $name:ident() $body:block) => {
        $(#[$meta])*
        #[test]
        fn $name() {
            $crate::host::in_namespace(concat!(module_path!(), "::", stringify!($name)), || $body);
        }
    };
}
pub(crate) use namespace_test;

const MARK: &str = "LVS_TEST_IN_NAMESPACE";

/// Runs `body` in a new user and network namespace: this test binary starts itself again through
/// `unshare`, with only this test selected. With `LVS_TEST_NO_SKIP` set, a system that forbids
/// namespaces is a failure.
pub(crate) fn in_namespace(path: &str, body: impl FnOnce()) {
    let name = path.split_once("::").map_or(path, |(_crate, rest)| rest);
    if std::env::var(MARK).as_deref() == Ok(name) {
        return body();
    }
    let Some(flags) = ["-Urn", "-n"].into_iter().find(|flags| works(flags)) else {
        let why = "this system lets us make no network namespace with a veth pair";
        assert!(std::env::var_os("LVS_TEST_NO_SKIP").is_none(), "{name}: {why}");
        return skipped(name, why);
    };
    let output = Command::new("unshare")
        .arg(flags)
        .arg(std::env::current_exe().expect("own path"))
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(MARK, name)
        .env("PATH", search_path())
        .output()
        .expect("unshare has just worked");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}\n{errors}");
    for reason in errors.lines().filter_map(|line| line.strip_prefix("SKIPPED: ")) {
        skipped(name, reason);
    }
}

/// Says so even where the output of passing tests is hidden.
pub(crate) fn skipped(what: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}: {why}");
}

/// Unprivileged users often lack the directory of `ip`.
fn search_path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

fn works(flags: &str) -> bool {
    let try_it = ["ip", "link", "add", "x0", "type", "veth", "peer", "name", "x1"];
    let outcome =
        Command::new("unshare").arg(flags).args(try_it).env("PATH", search_path()).output();
    outcome.is_ok_and(|output| output.status.success())
}

/// Runs `ip` with these arguments, split at spaces, in the namespace of the calling thread.
pub(crate) fn ip(args: &str) -> String {
    let output = Command::new("ip").args(args.split(' ')).output().expect("iproute2 is installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {args}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Makes a veth pair, both ends up and silent by themselves.
pub(crate) fn veth(a: &str, b: &str) {
    pair(a, b);
    ip(&format!("link set {a} up"));
    ip(&format!("link set {b} up"));
}

fn pair(a: &str, b: &str) {
    ip(&format!("link add {a} type veth peer name {b}"));
    for end in [a, b] {
        // No address of its own, hence no chatter; a kernel without IPv6 refuses, and is silent.
        let _ = Command::new("ip").args(["link", "set", end, "addrgenmode", "none"]).output();
    }
}

/// Whether the kernel knows IPv6 at all.
pub(crate) fn has_ipv6() -> bool {
    std::path::Path::new("/proc/sys/net/ipv6").exists()
}

type Job = Box<dyn FnOnce() + Send>;

/// A machine: a thread with a network namespace of its own, which does what it is told.
pub(crate) struct Host {
    jobs: mpsc::Sender<Job>,
    tid: i32,
}

impl Host {
    pub(crate) fn new() -> Self {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            // SAFETY: no pointers; only this thread changes its namespace.
            let outcome = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
            // SAFETY: takes nothing, changes nothing.
            tell.send(unsafe { libc::gettid() }).expect("the creator waits");
            inbox.into_iter().for_each(|job| job());
        });
        Self { jobs, tid: told.recv().expect("the thread answers") }
    }

    /// Lets the machine do something and waits for the result.
    pub(crate) fn run<R: Send + 'static>(&self, job: impl FnOnce() -> R + Send + 'static) -> R {
        let (tell, told) = mpsc::channel();
        self.start(move || drop(tell.send(job())));
        told.recv().expect("the job did not panic")
    }

    /// Lets the machine do something without waiting.
    pub(crate) fn start(&self, job: impl FnOnce() + Send + 'static) {
        self.jobs.send(Box::new(job)).expect("the machine lives");
    }

    /// A cable from here to the machine: `near` stays here, `far` gets the addresses.
    pub(crate) fn cable(&self, near: &str, far: &'static str, addresses: &'static [&'static str]) {
        pair(near, far);
        ip(&format!("link set {far} netns {}", self.tid));
        ip(&format!("link set {near} up"));
        self.run(move || {
            ip("link set lo up");
            for address in addresses.iter().filter(|a| has_ipv6() || !a.contains(':')) {
                let nodad = if address.contains(':') { " nodad" } else { "" };
                ip(&format!("addr add {address} dev {far}{nodad}"));
            }
            ip(&format!("link set {far} up"));
        });
    }
}
