//! How a server learns who the client is, per service.

/// What to do with a segment that should carry the client's address and has no room for it, not even
/// after its options were compacted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NoToaRoom {
    /// Send the address ahead on a segment of its own without payload, then the segment as it is. A
    /// SYN goes without; the segments behind it carry the address.
    #[default]
    SeparateAck,
    /// Drop the segment; the sender's retransmission meets the same fate, which makes the fault seen.
    Drop,
}

/// On which client segments the address option travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ToaPlacement {
    /// On the SYN.
    pub syn: bool,
    /// On the segment that ends the handshake, and on every later one until the server has sent data
    /// that the client acknowledged.
    pub until_server_data: bool,
}

impl Default for ToaPlacement {
    fn default() -> Self {
        Self { syn: true, until_server_data: true }
    }
}

/// The client-address TCP option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ToaOptions {
    /// Option kind for IPv4 clients (8 bytes).
    pub kind_v4: u8,
    /// Option kind for IPv6 clients (20 bytes).
    pub kind_v6: u8,
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
