//! Simulated hosts: their configuration, and a stack at work with its applications.

use super::app::App;
use super::fin::FinGuard;
use super::segment::SegmentId;
use super::stack::{EPHEMERAL, Queues, Stack, TSVAL, instant};
use super::toa::{self, ToaSeen};
use core::any::Any;
use core::net::IpAddr;
use lvs_core::addr::MacAddr;
use lvs_core::io::middleware::Rng;
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};

/// A host of a [`Net`](super::Net).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostId(pub(super) usize);

/// Configuration of a host.
///
/// ```
/// use lvs_testkit::net::Host;
/// let web = Host::new("web1").addr("10.0.1.11/24").addr("2001:db8:1::11/64").gateway("10.0.1.1");
/// ```
#[derive(Clone, Debug)]
pub struct Host {
    name: String,
    mac: Option<MacAddr>,
    addrs: Vec<IpCidr>,
    gateways: Vec<IpAddr>,
    mtu: usize,
    vlan: Option<u16>,
    timestamps: bool,
    buffer: usize,
}

impl Host {
    /// A host with this name and no address yet.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            mac: None,
            addrs: Vec::new(),
            gateways: Vec::new(),
            mtu: 1500,
            vlan: None,
            timestamps: false,
            buffer: 65535,
        }
    }

    /// One more address with its prefix length, as `10.0.0.2/24`.
    ///
    /// # Panics
    /// When the text is not of that form.
    #[must_use]
    pub fn addr(mut self, cidr: &str) -> Self {
        let parsed = cidr.split_once('/').and_then(|(ip, len)| {
            let ip: IpAddr = ip.parse().ok()?;
            let len = len.parse().ok().filter(|len| *len <= if ip.is_ipv4() { 32 } else { 128 })?;
            Some(IpCidr::new(ip.into(), len))
        });
        self.addrs.push(parsed.unwrap_or_else(|| panic!("{cidr:?} is not address/length")));
        self
    }

    /// The default route of the address's family.
    ///
    /// # Panics
    /// When the text is not an address.
    #[must_use]
    pub fn gateway(mut self, ip: &str) -> Self {
        let ip = ip.parse().unwrap_or_else(|_| panic!("{ip:?} is not an address"));
        self.gateways.push(ip);
        self
    }

    /// Its Ethernet address; otherwise one is made from its number.
    #[must_use]
    pub fn mac(mut self, mac: MacAddr) -> Self {
        self.mac = Some(mac);
        self
    }

    /// Largest IP packet; 1500 unless told otherwise.
    #[must_use]
    pub fn mtu(mut self, mtu: usize) -> Self {
        self.mtu = mtu;
        self
    }

    /// Connects it to an access port of this VLAN: devices see its frames tagged.
    #[must_use]
    pub fn vlan(mut self, id: u16) -> Self {
        self.vlan = Some(id);
        self
    }

    /// Uses TCP timestamps, in milliseconds of virtual time.
    #[must_use]
    pub fn timestamps(mut self) -> Self {
        self.timestamps = true;
        self
    }

    /// Bytes of each TCP buffer; the receive buffer bounds the window.
    #[must_use]
    pub fn buffer(mut self, bytes: usize) -> Self {
        self.buffer = bytes;
        self
    }

    pub(super) fn vlan_id(&self) -> Option<u16> {
        self.vlan
    }
}

/// A host at work.
pub(super) struct Station {
    pub(super) name: String,
    pub(super) apps: Vec<Box<dyn App>>,
    pub(super) toa: ToaSeen,
    pub(super) running: bool,
    pub(super) dirty: bool,
    due: Option<u64>,
    fins: FinGuard,
    stack: Stack,
    place: (SegmentId, usize),
}

impl Station {
    pub(super) fn new(
        id: usize,
        place: (SegmentId, usize),
        host: Host,
        rng: &mut Rng,
        now_ns: u64,
    ) -> Self {
        let [high, low] = (id as u16 + 1).to_be_bytes();
        let mac = host.mac.unwrap_or(MacAddr([0x02, 0x68, 0, 0, high, low]));
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac.0)));
        config.random_seed = rng.next_u64();
        let mut device = Queues { mtu: host.mtu, ..Queues::default() };
        let mut iface = Interface::new(config, &mut device, instant(now_ns));
        iface.update_ip_addrs(|addrs| {
            for addr in &host.addrs {
                addrs.push(*addr).expect("at most 8 addresses");
            }
        });
        for gateway in &host.gateways {
            let routes = iface.routes_mut();
            match gateway {
                IpAddr::V4(v4) => routes.add_default_ipv4_route(*v4).expect("room for a route"),
                IpAddr::V6(v6) => routes.add_default_ipv6_route(*v6).expect("room for a route"),
            };
        }
        let mut rng = rng.fork();
        let next_port = EPHEMERAL + rng.below(16384) as u16;
        let stack = Stack {
            iface,
            sockets: SocketSet::new(Vec::new()),
            device,
            rng,
            next_port,
            timestamps: host.timestamps,
            buffer: host.buffer,
        };
        Self {
            name: host.name,
            apps: Vec::new(),
            toa: ToaSeen::new(),
            running: true,
            dirty: true,
            due: None,
            fins: FinGuard::default(),
            stack,
            place,
        }
    }

    pub(super) fn place(&self) -> (SegmentId, usize) {
        self.place
    }

    pub(super) fn app<A: App>(&self, index: usize) -> &A {
        let app: &dyn Any = &*self.apps[index];
        app.downcast_ref().expect("an AppId is made for its type")
    }

    pub(super) fn app_mut<A: App>(&mut self, index: usize) -> &mut A {
        let app: &mut dyn Any = &mut *self.apps[index];
        app.downcast_mut().expect("an AppId is made for its type")
    }

    pub(super) fn receive(&mut self, frame: Vec<u8>) {
        if self.running {
            toa::record(&frame, &mut self.toa);
            if !self.fins.admits(&frame) {
                return;
            }
            self.stack.device.rx.push_back(frame);
            self.dirty = true;
        }
    }

    /// When something is due: at once when frames wait, else at a timer of the stack or of an
    /// application.
    pub(super) fn next_instant(&self, now_ns: u64) -> Option<u64> {
        match (self.running, self.dirty) {
            (false, _) => None,
            (true, true) => Some(now_ns),
            (true, false) => self.due,
        }
    }

    /// The next timer; never the same instant twice.
    fn next_timer(&mut self, now_ns: u64) -> Option<u64> {
        let Stack { iface, sockets, .. } = &mut self.stack;
        let timer = iface.poll_at(instant(now_ns), sockets);
        let timer = timer.map(|at| u64::try_from(at.total_micros()).unwrap_or(0) * 1_000);
        let app = self.apps.iter().filter_map(|app| app.wake_at()).min();
        [timer, app].into_iter().flatten().min().map(|at| at.max(now_ns + 1_000))
    }

    /// Polls applications and stack; the frames they send, or `None` when nothing was due.
    pub(super) fn turn(&mut self, now_ns: u64) -> Option<Vec<Vec<u8>>> {
        let due = self.dirty || self.due.is_some_and(|due| due <= now_ns);
        if !self.running || !due {
            return None;
        }
        self.dirty = false;
        TSVAL.set((now_ns / 1_000_000) as u32);
        let Self { stack, apps, .. } = self;
        // What arrived reaches the applications, and what they answer leaves in the same instant.
        stack.poll(now_ns);
        apps.iter_mut().for_each(|app| app.poll(now_ns, stack));
        stack.poll(now_ns);
        let sent = core::mem::take(&mut stack.device.tx);
        sent.iter().for_each(|frame| self.fins.sent(frame));
        self.due = self.next_timer(now_ns);
        Some(sent)
    }
}
