//! What is said about addresses on an outside link: ARP and neighbour discovery
//! to bytes, and what others say from bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::{FloatingIp, HardwareAddress};

/// `ETH_P_ARP` and `ETH_P_IPV6` (linux/if_ether.h).
pub(super) const ETH_P_ARP: u16 = 0x0806;
pub(super) const ETH_P_IPV6: u16 = 0x86dd;

/// Where all Ethernet hosts listen.
const BROADCAST: [u8; 6] = [0xff; 6];

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
pub(super) const ICMPV6: u8 = 58;
/// The hop limit of neighbour discovery: a receiver sees that no router passed
/// the message on (RFC 4861 7.1).
pub(super) const NOT_ROUTED: u8 = 255;
const SOLICITATION: u8 = 135;
pub(super) const ADVERTISEMENT: u8 = 136;
/// How long an ARP packet for IPv4 on Ethernet is, and an IPv6 header.
const ARP: usize = 28;
pub(super) const IPV6_HEADER: usize = 40;

/// A frame without its Ethernet header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Its type.
    pub(super) protocol: u16,
    /// Whom it is for.
    pub(super) to: [u8; 6],
    /// What it carries.
    pub(super) packet: Vec<u8>,
}

/// What somebody said about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// That it is his.
    Claims,
    /// He asks whether it is somebody's, so as to take it himself.
    Probes,
}

/// The frames that announce an address: gratuitous ARP as request and as reply
/// (some switches and hosts heed only the one, some only the other), or an
/// unsolicited neighbour advertisement.
pub(super) fn announcement(floating: FloatingIp, mac: [u8; 6]) -> Vec<Frame> {
    match floating.ip() {
        IpAddr::V4(v4) => {
            let said = [
                arp(Operation::Request, mac, v4, [0; 6], v4),
                arp(Operation::Reply, mac, v4, mac, v4),
            ];
            said.map(|packet| Frame {
                protocol: ETH_P_ARP,
                to: BROADCAST,
                packet,
            })
            .into()
        }
        IpAddr::V6(v6) => vec![Frame {
            protocol: ETH_P_IPV6,
            to: group(ALL_NODES),
            packet: advertisement(v6, mac),
        }],
    }
}

/// The frame that asks whether somebody has an address: an ARP probe (RFC 5227
/// 2.1.1), which names no sender, so that no neighbour learns anything from it;
/// or a solicitation as duplicate address detection sends it (RFC 4862 5.4.2).
pub(super) fn probe(floating: FloatingIp, mac: [u8; 6]) -> Frame {
    match floating.ip() {
        IpAddr::V4(v4) => Frame {
            protocol: ETH_P_ARP,
            to: BROADCAST,
            packet: arp(Operation::Request, mac, Ipv4Addr::UNSPECIFIED, [0; 6], v4),
        },
        IpAddr::V6(v6) => {
            let to = solicited_node(v6);
            Frame {
                protocol: ETH_P_IPV6,
                to: group(to),
                packet: solicitation(v6, to),
            }
        }
    }
}

/// What an ARP packet says about an address, and who says it.
pub(super) fn heard_by_arp(packet: &[u8]) -> Option<(FloatingIp, HardwareAddress, Speech)> {
    let packet = packet.get(..ARP)?;
    // Ethernet and IPv4, with addresses of 6 and 4 bytes.
    if packet[..6] != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let address =
        |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
    let by = HardwareAddress(packet[8..14].try_into().ok()?);
    let (sender, target) = (address(14), address(24));
    let is_request = packet[6..8] == [0, Operation::Request as u8];
    let (said, speech) = match sender {
        Ipv4Addr::UNSPECIFIED if is_request => (target, Speech::Probes),
        sender => (sender, Speech::Claims),
    };
    Some((FloatingIp::new(said.into()).ok()?, by, speech))
}

/// What a message of neighbour discovery says about an address, and whether
/// from there or as a probe. Its sender is in the frame.
pub(super) fn heard_by_discovery(packet: &[u8]) -> Option<(FloatingIp, Speech)> {
    let header = packet.get(..IPV6_HEADER)?;
    let message = packet.get(IPV6_HEADER..IPV6_HEADER + 24)?;
    if header[6] != ICMPV6 || header[7] != NOT_ROUTED {
        return None;
    }
    let from_nobody = header[8..24] == [0; 16];
    let speech = match message[0] {
        ADVERTISEMENT => Speech::Claims,
        SOLICITATION if from_nobody => Speech::Probes,
        _ => return None,
    };
    let target = <[u8; 16]>::try_from(&message[8..24]).ok()?;
    Some((FloatingIp::new(target.into()).ok()?, speech))
}

#[derive(Clone, Copy)]
enum Operation {
    Request = 1,
    Reply = 2,
}

/// An ARP packet (RFC 826): what the sender has, and whom it asks or answers.
fn arp(
    operation: Operation,
    mac: [u8; 6],
    sender: Ipv4Addr,
    target_mac: [u8; 6],
    target: Ipv4Addr,
) -> Vec<u8> {
    let mut packet = Vec::with_capacity(ARP);
    packet.extend([0, 1]); // Ethernet
    packet.extend([8, 0]); // IPv4
    packet.extend([6, 4]); // lengths of their addresses
    packet.extend([0, operation as u8]);
    packet.extend(mac);
    packet.extend(sender.octets());
    packet.extend(target_mac);
    packet.extend(target.octets());
    packet
}

/// An unsolicited neighbour advertisement to all nodes (RFC 4861 4.4, 7.2.6).
fn advertisement(address: Ipv6Addr, mac: [u8; 6]) -> Vec<u8> {
    // Router and override; not solicited.
    const FLAGS: u8 = 0x80 | 0x20;
    const TARGET_LINK_LAYER_ADDRESS: u8 = 2;

    let mut message = vec![ADVERTISEMENT, 0, 0, 0, FLAGS, 0, 0, 0];
    message.extend(address.octets());
    message.extend([TARGET_LINK_LAYER_ADDRESS, 1]); // in units of eight bytes
    message.extend(mac);
    discovery(address, ALL_NODES, message)
}

/// A solicitation from nobody: it has no option with a link-layer address (RFC
/// 4861 4.3).
fn solicitation(address: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend(address.octets());
    discovery(Ipv6Addr::UNSPECIFIED, to, message)
}

/// A message of neighbour discovery in its IPv6 packet.
fn discovery(from: Ipv6Addr, to: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    let sum = checksum(from, to, ICMPV6, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let length = u8::try_from(message.len()).expect("the messages are short");
    let mut packet = vec![0x60, 0, 0, 0, 0, length, ICMPV6, NOT_ROUTED];
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(message);
    packet
}

/// The group that a node with the address listens to (RFC 4291 2.7.1).
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    let mut group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0).octets();
    group[13..].copy_from_slice(&[a, b, c]);
    group.into()
}

/// The Ethernet address of a group (RFC 2464 7).
fn group(address: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = address.octets();
    [0x33, 0x33, a, b, c, d]
}

/// The checksum over message and pseudo-header (RFC 8200 8.1, RFC 1071).
fn checksum(from: Ipv6Addr, to: Ipv6Addr, protocol: u8, message: &[u8]) -> u16 {
    let length = u32::try_from(message.len())
        .expect("messages are short")
        .to_be_bytes();
    let pseudo = [
        &from.octets()[..],
        &to.octets(),
        &length,
        &[0, 0, 0, protocol],
        message,
    ]
    .concat();
    let sum: u32 = pseudo
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !(((folded & 0xffff) + (folded >> 16)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_gratuitous_arp_names_the_address_as_sender_and_target() {
        let floating = "198.51.100.7".parse().unwrap();
        let frames = announcement(floating, MAC);
        let said: Vec<_> = frames.iter().map(|frame| hex(&frame.packet)).collect();
        assert_eq!(
            said,
            [
                "0001080006040001020000000001c6336407000000000000c6336407",
                "0001080006040002020000000001c6336407020000000001c6336407"
            ]
        );
        for frame in frames {
            let heard = heard_by_arp(&frame.packet);
            assert_eq!(
                heard,
                Some((floating, HardwareAddress(MAC), Speech::Claims))
            );
        }
    }

    #[test]
    fn an_arp_probe_names_no_sender() {
        let floating = "198.51.100.7".parse().unwrap();
        let frame = probe(floating, MAC);
        assert_eq!(
            hex(&frame.packet),
            "000108000604000102000000000100000000000000000000c6336407"
        );
        let heard = heard_by_arp(&frame.packet);
        assert_eq!(
            heard,
            Some((floating, HardwareAddress(MAC), Speech::Probes))
        );
    }

    #[test]
    fn messages_of_neighbour_discovery_have_a_checksum_that_adds_up() {
        let floating: FloatingIp = "2001:db8::1:203:405".parse().unwrap();
        let [said] = announcement(floating, MAC).try_into().unwrap();
        let asked = probe(floating, MAC);
        assert_eq!((said.packet.len(), asked.packet.len()), (40 + 32, 40 + 24));
        assert_eq!(said.to, [0x33, 0x33, 0, 0, 0, 1]);
        assert_eq!(asked.to, [0x33, 0x33, 0xff, 3, 4, 5]);
        for (frame, speech) in [(said, Speech::Claims), (asked, Speech::Probes)] {
            let address = |at| {
                <[u8; 16]>::try_from(&frame.packet[at..at + 16])
                    .unwrap()
                    .into()
            };
            // Over a message with its checksum in it the sum is all ones, whose
            // complement is zero.
            assert_eq!(
                checksum(address(8), address(24), ICMPV6, &frame.packet[40..]),
                0
            );
            assert_eq!(heard_by_discovery(&frame.packet), Some((floating, speech)));
        }
    }

    #[test]
    fn what_is_cut_short_routed_or_about_something_else_is_passed_over() {
        let floating = "2001:db8::7".parse().unwrap();
        let Frame { packet, .. } = probe(floating, MAC);
        for length in 0..packet.len() {
            assert_eq!(heard_by_discovery(&packet[..length]), None, "{length}");
        }
        let with = |at: usize, value| {
            let mut packet = packet.clone();
            packet[at] = value;
            heard_by_discovery(&packet)
        };
        // The hop limit; a router solicitation; one from somebody, who has
        // another address to ask from.
        assert_eq!([with(7, 64), with(40, 133), with(9, 1)], [None; 3]);

        let Frame { packet, .. } = probe("198.51.100.7".parse().unwrap(), MAC);
        for length in 0..packet.len() {
            assert_eq!(heard_by_arp(&packet[..length]), None, "{length}");
        }
    }
}
