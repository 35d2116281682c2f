//! Neighbours on an outside link: their hardware addresses, and what is to be
//! done about them for the addresses of a pool.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The Ethernet address of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HardwareAddress(pub [u8; 6]);

/// Why a text is no hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hardware address is six pairs of hexadecimal digits, with colons between or none")]
pub struct NoHardwareAddress;

impl fmt::Display for HardwareAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for HardwareAddress {
    type Err = NoHardwareAddress;
    fn from_str(text: &str) -> Result<Self, NoHardwareAddress> {
        let mut bytes = [0; 6];
        // Without colons, as the original took them.
        if text.len() == 12 && text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
                *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| NoHardwareAddress)?;
            }
            return Ok(Self(bytes));
        }
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let is_pair = |part: &&str| {
                part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit())
            };
            let part = parts.next().filter(is_pair).ok_or(NoHardwareAddress)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| NoHardwareAddress)?;
        }
        match parts.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(NoHardwareAddress),
        }
    }
}

/// What the neighbours are asked and told about the addresses of a pool. The
/// default is a pool about which nobody is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Announcing {
    /// For how long it is asked whether somebody else has an address, before it
    /// is taken; `None` for not at all.
    pub probe: Option<Duration>,
    /// How often an address is announced for as long as it is ours; `None` for
    /// only when there is a reason.
    pub refresh: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hardware_address_is_read_as_it_is_written() {
        let text = "02:00:00:00:0a:ff";
        let address: HardwareAddress = text.parse().unwrap();
        assert_eq!(address, HardwareAddress([2, 0, 0, 0, 10, 255]));
        assert_eq!(address.to_string(), text);
        assert_eq!("020000000aFF".parse(), Ok(address));
        for text in [
            "",
            "02:00:00:00:0a",
            "02:00:00:00:0a:ff:00",
            "2:0:0:0:a:ff",
            "02-00-00-00-0a-ff",
            "020000000a+f",
            "020000000af",
        ] {
            assert!(text.parse::<HardwareAddress>().is_err(), "{text}");
        }
    }
}
