//! How many connections each address has, of all shards together: counted where one begins or it is known whose it is, and given back where it ends.
//!
//! An address of IPv6 counts with its network of 64 bits, as whoever has one has all of it. An entry stands only while something is counted there, so there are
//! no more of them than connections. Locks are held for a look into a table, at a connection's beginning and end.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Tables that shards seldom meet at.
const TABLES: usize = 64;

/// A table gives memory back where it has room for so many times what it has.
const SPARSE: usize = 8;
const KEPT_MIN: usize = 64;

/// See the module.
pub struct Addresses {
    each_max: u32,
    tables: [Mutex<HashMap<u64, u32>>; TABLES],
}

/// A connection that is counted, until this is dropped.
pub struct Counted {
    addresses: Arc<Addresses>,
    network: u64,
}

/// The address has as many as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Addresses {
    /// `None` where there is no bound.
    pub fn new(each_max: u32) -> Option<Arc<Self>> {
        let tables = std::array::from_fn(|_| Mutex::default());
        (each_max > 0).then(|| Arc::new(Self { each_max, tables }))
    }

    pub fn count(self: &Arc<Self>, address: IpAddr) -> Result<Counted, Full> {
        let network = network_of(address);
        let mut table = self.table(network).lock().unwrap_or_else(PoisonError::into_inner);
        let count = table.entry(network).or_insert(0);
        if *count >= self.each_max {
            return Err(Full);
        }
        *count += 1;
        Ok(Counted { addresses: self.clone(), network })
    }

    fn table(&self, network: u64) -> &Mutex<HashMap<u64, u32>> {
        &self.tables[(network.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58) as usize]
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut table = self.addresses.table(self.network).lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = table.get_mut(&self.network) else { return };
        *count -= 1;
        if *count == 0 {
            table.remove(&self.network);
            if table.capacity() > KEPT_MIN && table.capacity() / SPARSE > table.len() {
                let room = 2 * table.len();
                table.shrink_to(room);
            }
        }
    }
}

/// An address of IPv4 stands where no network of IPv6 is: those that begin with 16 zero bits belong to nobody.
fn network_of(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => 0xffff << 32 | u64::from(u32::from(address)),
        IpAddr::V6(address) => (u128::from(address) >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn entries(addresses: &Addresses) -> usize {
        addresses.tables.iter().map(|table| table.lock().unwrap().len()).sum()
    }

    #[test]
    fn an_address_has_its_most_until_one_ends() {
        let addresses = Addresses::new(2).expect("a bound");
        let first = addresses.count(address("10.0.0.1")).ok();
        let second = addresses.count(address("::ffff:10.0.0.1")).ok();
        assert!(first.is_some() && second.is_some());
        assert!(addresses.count(address("10.0.0.1")).is_err());
        assert!(addresses.count(address("10.0.0.2")).is_ok(), "others have their own");
        drop(first);
        let third = addresses.count(address("10.0.0.1")).ok();
        assert!(third.is_some() && addresses.count(address("10.0.0.1")).is_err());
        drop((second, third));
        assert_eq!(entries(&addresses), 0);
        assert!(Addresses::new(0).is_none());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let addresses = Addresses::new(1).expect("a bound");
        let _first = addresses.count(address("2001:db8::1"));
        assert!(addresses.count(address("2001:db8::ffff:0:0:1")).is_err());
        assert!(addresses.count(address("2001:db8:0:1::1")).is_ok());
    }

    #[test]
    fn memory_goes_with_what_is_counted() {
        let addresses = Addresses::new(1).expect("a bound");
        let room = || addresses.tables.iter().map(|table| table.lock().unwrap().capacity()).sum::<usize>();
        let counted: Vec<_> = (0..100_000u32).map(|number| addresses.count(IpAddr::from(number.to_be_bytes())).ok()).collect();
        assert!(counted.iter().all(Option::is_some) && entries(&addresses) == 100_000);
        drop(counted);
        assert_eq!(entries(&addresses), 0);
        assert!(room() <= TABLES * 4 * KEPT_MIN, "{}", room());
    }
}
