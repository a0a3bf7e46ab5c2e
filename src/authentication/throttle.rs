//! Who has failed too often is not checked again for a while.
//!
//! Each failure takes from a bucket of the address and from one of the principal; they fill again with time. An empty one denies without any work. So that
//! nobody can lock somebody else out by failing in his name, a principal's bucket does not count against an address from which that principal came in.
//! Bounded: what is known is kept in two generations, and the older goes when the younger is full; who is forgotten begins anew.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};

use hashbrown::HashMap;

use super::cache::{Digest, Digester};
use crate::base::Time;

/// How often one may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// So many failures at once.
    pub burst: u32,
    /// And so many in each minute after that.
    pub per_minute: u32,
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub address: Allowance,
    pub principal: Allowance,
    /// Of how many addresses and of how many principals something is known, each at most twice as many.
    pub entries_max: usize,
}

/// How it stands with an address and a principal; who is better comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The principal has come in from there.
    Known,
    /// Neither has failed lately.
    Clean,
    Suspect,
}

/// For how long whoever has failed waits behind those who have not: guesses from many addresses would take all the work there is again as soon as that is forgotten.
const LATELY_MS: u64 = 600_000;

/// Use: `may_try` before the work, then `failed` or `succeeded`.
pub struct Throttle {
    limits: Limits,
    addresses: Generations<IpAddr, Bucket>,
    /// By digests: whoever asks chooses how long a name is.
    principals: Generations<Digest, Bucket>,
    /// From where principals have come in.
    homes: Generations<(IpAddr, Digest), ()>,
    digester: Digester,
}

impl Throttle {
    pub fn new(limits: Limits) -> Self {
        let entries = limits.entries_max;
        Self {
            limits,
            addresses: Generations::new(entries),
            principals: Generations::new(entries),
            homes: Generations::new(entries),
            digester: Digester::new(),
        }
    }

    pub fn may_try(&mut self, address: IpAddr, principal: &str, now: Time) -> bool {
        let (address, principal) = (network(address), self.name(principal));
        let Limits { address: of_address, principal: of_principal, .. } = self.limits;
        if self.addresses.find(&address).is_some_and(|bucket| bucket.is_empty(of_address, now)) {
            return false;
        }
        let failed_often = self.principals.find(&principal).is_some_and(|bucket| bucket.is_empty(of_principal, now));
        !failed_often || self.homes.find(&(address, principal)).is_some()
    }

    /// Whose question is worked on first.
    pub fn standing(&mut self, address: IpAddr, principal: &str, now: Time) -> Standing {
        let (address, principal) = (network(address), self.name(principal));
        if self.homes.find(&(address, principal)).is_some() {
            return Standing::Known;
        }
        let has_failed = |bucket: Option<&mut Bucket>| bucket.is_some_and(|bucket| bucket.has_failed_lately(now));
        let is_suspect = has_failed(self.addresses.find(&address)) || has_failed(self.principals.find(&principal));
        if is_suspect { Standing::Suspect } else { Standing::Clean }
    }

    pub fn failed(&mut self, address: IpAddr, principal: &str, now: Time) {
        let Limits { address: of_address, principal: of_principal, .. } = self.limits;
        self.addresses.find_or_insert(network(address), || Bucket::new(of_address, now)).take(of_address, now);
        if !principal.is_empty() {
            let principal = self.name(principal);
            self.principals.find_or_insert(principal, || Bucket::new(of_principal, now)).take(of_principal, now);
        }
    }

    pub fn succeeded(&mut self, address: IpAddr, principal: &str) {
        let principal = self.name(principal);
        self.homes.find_or_insert((network(address), principal), || ());
    }

    fn name(&self, principal: &str) -> Digest {
        self.digester.digest(&[principal.as_bytes()])
    }
}

/// Who has one address of IPv6 has the whole network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

/// Counts in thousandths of a failure.
struct Bucket {
    left: u64,
    since: Time,
    failed: Option<Time>,
}

const ONE: u64 = 1000;
const MINUTE_NS: u128 = 60_000_000_000;

impl Bucket {
    fn new(allowance: Allowance, now: Time) -> Self {
        Self { left: u64::from(allowance.burst) * ONE, since: now, failed: None }
    }

    fn fill(&mut self, allowance: Allowance, now: Time) {
        let rate = u128::from(allowance.per_minute) * u128::from(ONE);
        let gained = u128::from(now.since(self.since)) * rate / MINUTE_NS;
        if gained == 0 {
            return;
        }
        let full = u64::from(allowance.burst) * ONE;
        self.left = self.left.saturating_add(u64::try_from(gained).unwrap_or(u64::MAX)).min(full);
        // Less than a thousandth is not lost: the time goes on from where that was gained.
        let used = (gained * MINUTE_NS).div_ceil(rate);
        self.since = Time(self.since.0.saturating_add(u64::try_from(used).unwrap_or(u64::MAX)));
    }

    fn is_empty(&mut self, allowance: Allowance, now: Time) -> bool {
        self.fill(allowance, now);
        self.left < ONE
    }

    fn has_failed_lately(&self, now: Time) -> bool {
        self.failed.is_some_and(|failed| now < failed.after_ms(LATELY_MS))
    }

    fn take(&mut self, allowance: Allowance, now: Time) {
        self.fill(allowance, now);
        self.left = self.left.saturating_sub(ONE);
        self.failed = Some(now);
    }
}

/// A table that forgets: at most `entries_max` in each of two generations.
struct Generations<K, V> {
    entries_max: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Hash + Eq, V> Generations<K, V> {
    fn new(entries_max: usize) -> Self {
        assert!(entries_max > 0);
        Self { entries_max, young: HashMap::new(), old: HashMap::new() }
    }

    /// What is asked for becomes young again.
    fn find(&mut self, key: &K) -> Option<&mut V> {
        if let Some((key, value)) = self.old.remove_entry(key) {
            self.insert(key, value);
        }
        self.young.get_mut(key)
    }

    fn find_or_insert(&mut self, key: K, value: impl FnOnce() -> V) -> &mut V {
        match self.old.remove(&key) {
            Some(value) => {
                self.make_room();
                self.young.entry(key).or_insert(value)
            }
            None => {
                if !self.young.contains_key(&key) {
                    self.make_room();
                }
                self.young.entry(key).or_insert_with(value)
            }
        }
    }

    fn insert(&mut self, key: K, value: V) {
        self.make_room();
        self.young.insert(key, value);
    }

    fn make_room(&mut self) {
        if self.young.len() >= self.entries_max {
            self.old = std::mem::take(&mut self.young);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { address: Allowance { burst: 3, per_minute: 6 }, principal: Allowance { burst: 5, per_minute: 6 }, entries_max: 4 };

    fn at(ms: u64) -> Time {
        Time::default().after_ms(ms)
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn an_address_may_fail_so_often_and_again_with_time() {
        let mut throttle = Throttle::new(LIMITS);
        for _ in 0..3 {
            assert!(throttle.may_try(address(1), "a", at(0)));
            throttle.failed(address(1), "a", at(0));
        }
        assert!(!throttle.may_try(address(1), "b", at(9_999)), "whoever it says it is");
        assert!(throttle.may_try(address(1), "b", at(10_000)));
        assert!(throttle.may_try(address(2), "a", at(0)), "others may");
    }

    #[test]
    fn asking_often_does_not_slow_the_filling() {
        let mut throttle = Throttle::new(LIMITS);
        (0..3).for_each(|_| throttle.failed(address(1), "a", at(0)));
        let first = (0..20_000).find(|ms| throttle.may_try(address(1), "b", at(*ms)));
        assert_eq!(first, Some(10_000));
    }

    #[test]
    fn a_principal_may_fail_so_often_from_many_addresses() {
        let mut throttle = Throttle::new(LIMITS);
        for last in 0..5 {
            assert!(throttle.may_try(address(last), "a", at(0)));
            throttle.failed(address(last), "a", at(0));
        }
        assert!(!throttle.may_try(address(9), "a", at(0)));
        assert!(throttle.may_try(address(9), "b", at(0)));
    }

    #[test]
    fn nobody_is_locked_out_from_where_he_came_in() {
        let mut throttle = Throttle::new(LIMITS);
        throttle.succeeded(address(200), "a");
        (0..5).for_each(|last| throttle.failed(address(last), "a", at(0)));
        assert!(throttle.may_try(address(200), "a", at(0)));
        assert!(!throttle.may_try(address(201), "a", at(0)));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let mut throttle = Throttle::new(LIMITS);
        let of = |text: &str| text.parse::<IpAddr>().expect("an address");
        ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:0:0:1"].iter().for_each(|text| throttle.failed(of(text), "", at(0)));
        assert!(!throttle.may_try(of("2001:db8::3"), "", at(0)));
        assert!(throttle.may_try(of("2001:db8:0:1::3"), "", at(0)));
        (0..3).for_each(|_| throttle.failed(of("::ffff:10.0.0.1"), "", at(0)));
        assert!(!throttle.may_try(of("10.0.0.1"), "", at(0)));
    }

    #[test]
    fn who_failed_lately_is_not_clean() {
        let mut throttle = Throttle::new(LIMITS);
        assert_eq!(throttle.standing(address(1), "a", at(0)), Standing::Clean);
        throttle.failed(address(1), "a", at(0));
        assert_eq!(throttle.standing(address(1), "b", at(0)), Standing::Suspect);
        assert_eq!(throttle.standing(address(2), "a", at(LATELY_MS - 1)), Standing::Suspect);
        assert_eq!(throttle.standing(address(2), "b", at(0)), Standing::Clean);
        assert_eq!(throttle.standing(address(1), "a", at(LATELY_MS)), Standing::Clean);
    }

    #[test]
    fn who_came_in_from_there_comes_first_whatever_failed() {
        let mut throttle = Throttle::new(LIMITS);
        throttle.succeeded(address(1), "a");
        throttle.failed(address(1), "a", at(0));
        throttle.failed(address(2), "a", at(0));
        assert_eq!(throttle.standing(address(1), "a", at(0)), Standing::Known);
        assert_eq!(throttle.standing(address(1), "b", at(0)), Standing::Suspect);
        assert_eq!(throttle.standing(address(2), "a", at(0)), Standing::Suspect);
    }

    #[test]
    fn what_is_known_is_bounded_and_what_is_used_stays() {
        let mut throttle = Throttle::new(LIMITS);
        (0..3).for_each(|_| throttle.failed(address(1), "a", at(0)));
        for last in 2..100 {
            throttle.failed(address(last), &format!("p{last}"), at(0));
            throttle.succeeded(address(last), "a");
            assert!(!throttle.may_try(address(1), "", at(0)));
        }
        assert!(throttle.addresses.young.len() <= 4 && throttle.addresses.old.len() <= 4);
        assert!(throttle.principals.young.len() + throttle.principals.old.len() <= 8);
        assert!(throttle.homes.young.len() + throttle.homes.old.len() <= 8);
    }
}
