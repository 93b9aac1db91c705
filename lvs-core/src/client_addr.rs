//! How a server learns who the client is, per service.

/// What comes after compaction for a segment that should carry the client's address and has no room for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NoToaRoom {
    /// Send the address ahead on a segment of its own without payload, then the segment as it is. A
    /// SYN goes without, and without data; the segments behind it carry the address. Where none would, it is
    /// dropped.
    #[default]
    SeparateAck,
    /// From then on the address goes as a PROXY header, version 2, in front of the client's first bytes. Where the
    /// server has been sent the option already, as [`SeparateAck`](Self::SeparateAck). For servers that look for a
    /// header only where the option is missing: behind the option stand bytes of the client, who may write one.
    Proxy,
    /// Drop the segment; the sender's retransmission meets the same fate, which makes the fault seen.
    Drop,
}

/// On which client segments the address option travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ToaPlacement {
    /// On the SYN.
    pub syn: bool,
    /// On the segment that ends the handshake, and on every other that starts at the first byte and
    /// acknowledges nothing but the server's SYN: the acknowledgement may be lost, and the first data
    /// then does its work.
    pub handshake: bool,
    /// On every segment until the client has acknowledged data of the server.
    pub until_server_data: bool,
}

impl ToaPlacement {
    /// Whether segments behind the SYN carry it.
    #[must_use]
    pub const fn later(&self) -> bool {
        self.handshake || self.until_server_data
    }
}

impl Default for ToaPlacement {
    fn default() -> Self {
        Self { syn: true, handshake: true, until_server_data: true }
    }
}

/// How the address option says an address, behind kind and length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ToaFormat {
    /// Port and address; 8 or 20 bytes in all.
    #[default]
    Port,
    /// A version byte (1 for IPv4, 2 for IPv6) and the address, without a port; 7 or 19 bytes and one of padding.
    Versioned,
    /// IPv4 with the virtual address, 16 bytes; an IPv6 client gets [`Port`](Self::Port).
    WithVirtual,
}

/// The client-address TCP option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ToaOptions {
    /// Option kind for IPv4 clients.
    pub kind_v4: u8,
    /// Option kind for IPv6 clients.
    pub kind_v6: u8,
    /// What it looks like.
    pub format: ToaFormat,
    /// Which segments carry it.
    pub placement: ToaPlacement,
    /// What happens when it does not fit.
    pub no_room: NoToaRoom,
}

impl Default for ToaOptions {
    fn default() -> Self {
        Self {
            kind_v4: 254,
            kind_v6: 254,
            format: ToaFormat::default(),
            placement: ToaPlacement::default(),
            no_room: NoToaRoom::default(),
        }
    }
}

/// Which form of the PROXY protocol servers read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ProxyVersion {
    /// A line of text; TCP only.
    V1,
    /// Binary; TCP, and UDP on the first datagram of a session.
    #[default]
    V2,
}

/// What becomes of a PROXY header that a client sends itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClientHeader {
    /// The director's takes its place: nobody is believed.
    #[default]
    Replace,
    /// It is believed; in the other version it is translated. For a trusted proxy in front.
    Convert,
    /// It is believed and stays as it is. For a trusted proxy in front.
    Keep,
}

/// When the PROXY header goes to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ProxyTiming {
    /// In front of the client's first bytes.
    #[default]
    FirstData,
    /// On the segment that ends the handshake, for servers that speak first; again whenever the client answers
    /// a repeated SYN-ACK. What the client sends is then data, a header of its own too.
    Handshake,
}

/// The PROXY protocol of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ProxyOptions {
    /// What servers read.
    pub version: ProxyVersion,
    /// What becomes of a client's own header.
    pub client: ClientHeader,
    /// When it goes.
    pub timing: ProxyTiming,
}

/// How a server learns the client's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClientAddrMode {
    /// Not at all (NAT keeps the address anyway).
    #[default]
    None,
    /// By TCP option.
    Toa(ToaOptions),
    /// In front of the byte stream, or of the first datagram.
    Proxy(ProxyOptions),
}
