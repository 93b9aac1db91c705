"""Packets: built field by field, with checksums, and read again. No part of any network stack."""
import socket
import struct

FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32}


def raw(address):
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def pseudo(src, dst, proto, length):
    if ":" in src:
        return raw(src) + raw(dst) + struct.pack(">II", length, proto)
    return raw(src) + raw(dst) + struct.pack(">BBH", 0, proto, length)


def ip(src, dst, proto, payload, ttl=64, ident=1, df=True, more=False, offset=0, tos=0, options=b""):
    """`offset` in bytes."""
    if ":" in src:
        return struct.pack(">IHBB", 6 << 28 | tos << 20, len(payload), proto, ttl) + raw(src) + raw(dst) + payload
    length = 20 + len(options)
    head = struct.pack(">BBHHHBBH", 0x40 | length // 4, tos, length + len(payload), ident,
                       df << 14 | more << 13 | offset // 8, ttl, proto, 0) + raw(src) + raw(dst) + options
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + payload


def tcp_segment(src, dst, flags, seq=1000, ack=0, data=b"", options=b"", window=64240, urgent=0, damage=0):
    """`src` and `dst`: (address, port). `damage` is exclusive-or'ed into the checksum."""
    seg = struct.pack(">HHIIBBHHH", src[1], dst[1], seq, ack, (5 + len(options) // 4) << 4,
                      sum(FLAGS[f] for f in flags), window, 0, urgent) + options + data
    total = checksum(pseudo(src[0], dst[0], 6, len(seg)) + seg) ^ damage
    return seg[:16] + struct.pack(">H", total) + seg[18:]


def tcp(src, dst, flags, seq=1000, ack=0, data=b"", options=b"", window=64240, urgent=0, damage=0, **header):
    return ip(src[0], dst[0], 6, tcp_segment(src, dst, flags, seq, ack, data, options, window, urgent, damage), **header)


def udp_datagram(src, dst, data, zero=False, damage=0):
    """`zero`: without a checksum."""
    head = struct.pack(">HHHH", src[1], dst[1], 8 + len(data), 0) + data
    total = checksum(pseudo(src[0], dst[0], 17, len(head)) + head) or 0xFFFF
    return head[:6] + struct.pack(">H", 0 if zero else total ^ damage) + head[8:]


def udp(src, dst, data, zero=False, damage=0, **header):
    return ip(src[0], dst[0], 17, udp_datagram(src, dst, data, zero, damage), **header)


def icmp(src, dst, kind, code, rest, body, damage=0, **header):
    """`rest`: the four bytes behind the checksum."""
    message = struct.pack(">BBH", kind, code, 0) + rest + body
    total = checksum(message) ^ damage
    return ip(src, dst, 1, message[:2] + struct.pack(">H", total) + message[4:], **header)


def icmp_error(src, dst, kind, code, about, mtu=0, quote=8, **header):
    """An error about packet `about`, of which its header and `quote` bytes more are quoted."""
    return icmp(src, dst, kind, code, struct.pack(">HH", 0, mtu), about[:(about[0] & 15) * 4 + quote], **header)


def frame(dst_mac, src_mac, packet):
    return dst_mac + src_mac + (b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\x00") + packet


def destination(frame):
    """(address, port) that the frame's IP packet goes to."""
    packet = frame[14:]
    if packet[0] >> 4 == 6:
        return socket.inet_ntop(socket.AF_INET6, packet[24:40]), struct.unpack(">H", packet[42:44])[0]
    at = (packet[0] & 15) * 4
    return socket.inet_ntoa(packet[16:20]), struct.unpack(">H", packet[at + 2:at + 4])[0]


def source(frame):
    packet = frame[14:]
    if packet[0] >> 4 == 6:
        return socket.inet_ntop(socket.AF_INET6, packet[8:24]), struct.unpack(">H", packet[40:42])[0]
    at = (packet[0] & 15) * 4
    return socket.inet_ntoa(packet[12:16]), struct.unpack(">H", packet[at:at + 2])[0]


def write_pcap(path, packets):
    """`packets`: [(nanoseconds, frame)]. Classic pcap, nanoseconds, little-endian, Ethernet."""
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 1 << 18, 1))
        for when, data in packets:
            file.write(struct.pack("<IIII", when // 10**9, when % 10**9, len(data), len(data)) + data)
