//! How many may be here at once: in all, from one network, and before they have
//! shown a certificate.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many may be in their handshake. Each costs some 20 kB for ten seconds.
const STRANGERS: usize = 256;

/// How many of them from one network.
const STRANGERS_OF_ONE: usize = 16;

/// How many that have shown a certificate: fewer than the daemon lets one user
/// have ([`crate::api::varlink::PER_USER`]).
const GUESTS: usize = 96;

/// How many of them from one network.
const GUESTS_OF_ONE: usize = 32;

/// Who is here.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    strangers: Count,
    guests: Count,
}

#[derive(Debug, Default)]
struct Count {
    all: usize,
    by_network: HashMap<IpAddr, usize>,
}

/// A place, for as long as the value lives.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    network: IpAddr,
    is_guest: bool,
}

impl Places {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// A place for somebody who has yet to show a certificate, when there is one.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Place> {
        let network = network(address);
        let entered = self
            .lock()
            .strangers
            .add(network, STRANGERS, STRANGERS_OF_ONE);
        entered.then(|| Place {
            places: self.clone(),
            network,
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
        if !taken.guests.add(self.network, GUESTS, GUESTS_OF_ONE) {
            return false;
        }
        taken.strangers.remove(self.network);
        self.is_guest = true;
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        match self.is_guest {
            true => taken.guests.remove(self.network),
            false => taken.strangers.remove(self.network),
        }
    }
}

impl Count {
    fn add(&mut self, network: IpAddr, most: usize, most_of_one: usize) -> bool {
        let of_one = self.by_network.get(&network).copied().unwrap_or(0);
        if self.all >= most || of_one >= most_of_one {
            return false;
        }
        self.all += 1;
        self.by_network.insert(network, of_one + 1);
        true
    }

    fn remove(&mut self, network: IpAddr) {
        self.all -= 1;
        match self.by_network.get_mut(&network) {
            Some(of_one @ 2..) => *of_one -= 1,
            Some(_) | None => drop(self.by_network.remove(&network)),
        }
    }
}

/// The address of an IPv4 host; of IPv6 the /64, all of which one host can have
/// (RFC 8273).
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let prefix = address.to_bits() & (u128::MAX << 64);
            IpAddr::V6(prefix.into())
        }
    }
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
        assert_eq!(mine.len(), STRANGERS_OF_ONE);
        assert_eq!(enter(&places, "192.0.2.2", 1).len(), 1);
        mine.pop();
        assert_eq!(enter(&places, "192.0.2.1", 2).len(), 1);
        let _mine = enter(&places, "2001:db8::1", 1_000);
        assert_eq!(enter(&places, "2001:db8::2", 1).len(), 0);
        assert_eq!(enter(&places, "2001:db8:0:1::2", 1).len(), 1);
    }

    #[test]
    fn strangers_keep_no_guest_out() {
        let places = Places::new();
        let mut guests = enter(&places, "192.0.2.1", 2);
        assert!(guests[0].stay());
        let strangers: Vec<_> = (0..=255)
            .flat_map(|host| enter(&places, &format!("198.51.100.{host}"), 1_000))
            .collect();
        assert_eq!(strangers.len(), STRANGERS - 1);
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
            assert_eq!(here.len(), GUESTS_OF_ONE);
        }
        let taken = places.lock();
        assert_eq!((taken.strangers.all, taken.guests.all), (0, 0));
        assert!(taken.guests.by_network.is_empty() && taken.strangers.by_network.is_empty());
    }
}
