//! Floating IPs and fixed addresses: two types, so that they are never swapped.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in the order in which the ruleset lists them.
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// Why an address can be neither a floating IP nor a fixed address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// `0.0.0.0/8` (RFC 1122 3.2.1.3) or `::`.
    #[error("it is the unspecified address or lies in 0.0.0.0/8")]
    Unspecified,
    /// `127.0.0.0/8` or `::1`.
    #[error("it is a loopback address")]
    Loopback,
    /// `224.0.0.0/4` or `ff00::/8`.
    #[error("it is a multicast address")]
    Multicast,
    /// `255.255.255.255`.
    #[error("it is the broadcast address")]
    Broadcast,
    /// `240.0.0.0/4` (RFC 1112 4), which Linux does not route by default.
    #[error("it lies in 240.0.0.0/4, which is reserved")]
    Reserved,
    /// `169.254.0.0/16` or `fe80::/10`: not routed (RFC 3927, RFC 4291 2.5.6).
    #[error("it is a link-local address, which no router forwards")]
    LinkLocal,
    /// `::ffff:a.b.c.d`, which is IPv4 in disguise (RFC 4291 2.5.5.2).
    #[error("it is an IPv4 address written as IPv6; write it as IPv4")]
    Mapped,
}

/// Why a text is no usable address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseAddressError {
    /// Not the text of an address at all; leading zeros are refused as well,
    /// because half the world reads them as octal.
    #[error(
        "it is not an IPv4 or IPv6 address (leading zeros, prefixes and zones are not accepted)"
    )]
    Syntax,
    /// An address, but none that can be used here.
    #[error(transparent)]
    Unusable(#[from] AddressError),
}

/// IPv6 also in brackets, as it is written where a port may follow.
fn parse(text: &str) -> Result<IpAddr, ParseAddressError> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = match bare {
        Some(bare) => bare.parse().map(IpAddr::V6),
        None => text.parse(),
    };
    address.map_err(|_| ParseAddressError::Syntax)
}

fn check(address: IpAddr) -> Result<IpAddr, AddressError> {
    match address {
        IpAddr::V4(v4) => check4(v4)?,
        IpAddr::V6(v6) => check6(v6)?,
    }
    Ok(address)
}

fn check4(address: Ipv4Addr) -> Result<(), AddressError> {
    match address.octets() {
        [0, ..] => Err(AddressError::Unspecified),
        [127, ..] => Err(AddressError::Loopback),
        [169, 254, ..] => Err(AddressError::LinkLocal),
        [224..=239, ..] => Err(AddressError::Multicast),
        [255, 255, 255, 255] => Err(AddressError::Broadcast),
        [240..=255, ..] => Err(AddressError::Reserved),
        _ => Ok(()),
    }
}

fn check6(address: Ipv6Addr) -> Result<(), AddressError> {
    if address.is_unspecified() {
        Err(AddressError::Unspecified)
    } else if address.is_loopback() {
        Err(AddressError::Loopback)
    } else if address.is_multicast() {
        Err(AddressError::Multicast)
    } else if address.is_unicast_link_local() {
        Err(AddressError::LinkLocal)
    } else if address.to_ipv4_mapped().is_some() {
        Err(AddressError::Mapped)
    } else {
        Ok(())
    }
}

macro_rules! address_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "IpAddr", into = "IpAddr")]
        pub struct $name(IpAddr);

        impl $name {
            /// The address, when it is one that can be routed to a single host.
            pub fn new(address: IpAddr) -> Result<Self, AddressError> {
                check(address).map(Self)
            }

            /// IPv4 or IPv6.
            #[must_use]
            pub fn family(self) -> Family {
                Family::of(self.0)
            }

            /// The address without its meaning.
            #[must_use]
            pub fn ip(self) -> IpAddr {
                self.0
            }
        }

        impl TryFrom<IpAddr> for $name {
            type Error = AddressError;
            fn try_from(address: IpAddr) -> Result<Self, AddressError> {
                Self::new(address)
            }
        }

        impl From<$name> for IpAddr {
            fn from(address: $name) -> IpAddr {
                address.0
            }
        }

        impl FromStr for $name {
            type Err = ParseAddressError;
            fn from_str(text: &str) -> Result<Self, ParseAddressError> {
                Ok(Self::new(parse(text)?)?)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

address_type! {
    /// A public address out of a pool, which can be moved from host to host.
    FloatingIp
}
address_type! {
    /// The private address of a host, which a floating IP is associated with.
    FixedIp
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_no_host_can_have_are_refused_with_the_reason() {
        for (text, why) in [
            ("0.0.0.0", AddressError::Unspecified),
            ("0.1.2.3", AddressError::Unspecified),
            ("::", AddressError::Unspecified),
            ("127.0.0.1", AddressError::Loopback),
            ("::1", AddressError::Loopback),
            ("224.0.0.1", AddressError::Multicast),
            ("ff02::1", AddressError::Multicast),
            ("255.255.255.255", AddressError::Broadcast),
            ("240.0.0.1", AddressError::Reserved),
            ("169.254.1.1", AddressError::LinkLocal),
            ("fe80::1", AddressError::LinkLocal),
            ("::ffff:192.0.2.1", AddressError::Mapped),
        ] {
            assert_eq!(text.parse::<FloatingIp>(), Err(why.into()), "{text}");
            assert_eq!(text.parse::<FixedIp>(), Err(why.into()), "{text}");
        }
    }

    #[test]
    fn ipv6_is_taken_as_it_is_printed_before_a_port() {
        let bare: FloatingIp = "2001:db8::7".parse().unwrap();
        assert_eq!("[2001:db8::7]".parse(), Ok(bare));
        assert_eq!(bare.to_string(), "2001:db8::7");
    }

    #[test]
    fn text_that_is_no_address_is_refused() {
        for text in [
            "",
            "1.2.3",
            "010.0.0.1",
            "1.2.3.4/32",
            "fe80::1%eth0",
            " 192.0.2.1",
            "[192.0.2.1]",
            "[2001:db8::7",
            "[[2001:db8::7]]",
            "host",
        ] {
            assert_eq!(
                text.parse::<FloatingIp>(),
                Err(ParseAddressError::Syntax),
                "{text:?}"
            );
        }
    }
}
