//! How many may be here at once: in all, from one network, and before they have
//! shown a certificate.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many may be here.
#[derive(Debug)]
struct Bounds {
    all: usize,
    /// Of one host, of its site, and of the provider of that ([`networks`]).
    of_one: [usize; 3],
}

/// How many may be in their handshake. Each costs some 20 kB for ten seconds.
const STRANGERS: Bounds = Bounds {
    all: 256,
    of_one: [16, 32, 64],
};

/// How many that have shown a certificate: fewer than the daemon lets one user
/// have ([`crate::api::varlink::PER_USER`]).
const GUESTS: Bounds = Bounds {
    all: 96,
    of_one: [32, 48, 64],
};

/// Who is here.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<Taken>>);

/// A prefix: its first address and its length.
type Network = (IpAddr, u32);

#[derive(Debug, Default)]
struct Taken {
    strangers: Count,
    guests: Count,
}

#[derive(Debug, Default)]
struct Count {
    all: usize,
    by_network: HashMap<Network, usize>,
}

/// A place, for as long as the value lives.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    networks: [Network; 3],
    is_guest: bool,
}

impl Places {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// A place for somebody who has yet to show a certificate, when there is one.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Place> {
        let networks = networks(address);
        let entered = self.lock().strangers.add(&networks, &STRANGERS);
        entered.then(|| Place {
            places: self.clone(),
            networks,
            is_guest: false,
        })
    }

    /// The counts are right even when a thread died while it held them: nothing
    /// between taking and giving back the lock can panic.
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The certificate was right; tells whether there is a place to stay.
    pub(super) fn stay(&mut self) -> bool {
        let mut taken = self.places.lock();
        if !taken.guests.add(&self.networks, &GUESTS) {
            return false;
        }
        taken.strangers.remove(&self.networks);
        self.is_guest = true;
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        match self.is_guest {
            true => taken.guests.remove(&self.networks),
            false => taken.strangers.remove(&self.networks),
        }
    }
}

impl Count {
    fn add(&mut self, networks: &[Network; 3], bounds: &Bounds) -> bool {
        let of_one = |network| self.by_network.get(network).copied().unwrap_or(0);
        let mut pairs = networks.iter().zip(bounds.of_one);
        if self.all >= bounds.all || pairs.any(|(network, most)| of_one(network) >= most) {
            return false;
        }
        self.all += 1;
        for network in networks {
            *self.by_network.entry(*network).or_default() += 1;
        }
        true
    }

    fn remove(&mut self, networks: &[Network; 3]) {
        self.all -= 1;
        for network in networks {
            match self.by_network.get_mut(network) {
                Some(of_one @ 2..) => *of_one -= 1,
                Some(_) | None => drop(self.by_network.remove(network)),
            }
        }
    }
}

/// The networks that somebody may have the whole of: an address or, of IPv6, the
/// /64 of a host (RFC 8273); the /24 or /56 of a site (RFC 6177); the /16 or /48 of
/// a larger one.
fn networks(address: IpAddr) -> [Network; 3] {
    let lengths = match address {
        IpAddr::V4(_) => [32, 24, 16],
        IpAddr::V6(_) => [64, 56, 48],
    };
    lengths.map(|length| match address {
        IpAddr::V4(address) => {
            let bits = address.to_bits() & (u32::MAX << (32 - length));
            (IpAddr::V4(bits.into()), length)
        }
        IpAddr::V6(address) => {
            let bits = address.to_bits() & (u128::MAX << (128 - length));
            (IpAddr::V6(bits.into()), length)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(places: &Places, address: &str, often: usize) -> Vec<Place> {
        let address = address.parse().unwrap();
        (0..often).map_while(|_| places.enter(address)).collect()
    }

    #[test]
    fn one_network_keeps_nobody_else_out() {
        let places = Places::new();
        let mut mine = enter(&places, "192.0.2.1", 1_000);
        assert_eq!(mine.len(), STRANGERS.of_one[0]);
        assert_eq!(enter(&places, "192.0.2.2", 1).len(), 1);
        mine.pop();
        assert_eq!(enter(&places, "192.0.2.1", 2).len(), 1);
        let _mine = enter(&places, "2001:db8::1", 1_000);
        assert_eq!(enter(&places, "2001:db8::2", 1).len(), 0);
        assert_eq!(enter(&places, "2001:db8:0:1::2", 1).len(), 1);
    }

    #[test]
    fn neither_does_a_site_nor_its_provider() {
        for (hosts, others) in [
            (
                ["2001:db8:aa00:", "::1"],
                ["2001:db8:aa00:1ff::1", "2001:db8:aa01::1"],
            ),
            (["192.0.2.", ""], ["192.0.3.1", "192.1.2.1"]),
        ] {
            let places = Places::new();
            let host = |n: usize| format!("{}{n}{}", hosts[0], hosts[1]);
            let of_site: Vec<_> = (1..90).flat_map(|n| enter(&places, &host(n), 16)).collect();
            assert_eq!(of_site.len(), STRANGERS.of_one[1]);
            let of_provider = enter(&places, others[0], 16);
            assert_eq!(of_provider.len(), 16);
            assert_eq!(enter(&places, others[1], 16).len(), 16);
        }
    }

    #[test]
    fn strangers_keep_no_guest_out() {
        let places = Places::new();
        let mut guests = enter(&places, "192.0.2.1", 2);
        assert!(guests[0].stay());
        let strangers: Vec<_> = (0..=255)
            .flat_map(|site| enter(&places, &format!("198.{site}.100.7"), 1_000))
            .collect();
        assert_eq!(strangers.len(), STRANGERS.all - 1);
        assert!(enter(&places, "192.0.2.1", 1).is_empty());
        assert!(guests[1].stay());
    }

    #[test]
    fn what_is_taken_is_given_back() {
        let places = Places::new();
        for _ in 0..3 {
            let mut here = Vec::new();
            while let Some(mut place) = places.enter("192.0.2.1".parse().unwrap()) {
                if !place.stay() {
                    break;
                }
                here.push(place);
            }
            assert_eq!(here.len(), GUESTS.of_one[0]);
        }
        let taken = places.lock();
        assert_eq!((taken.strangers.all, taken.guests.all), (0, 0));
        assert!(taken.guests.by_network.is_empty() && taken.strangers.by_network.is_empty());
    }
}
