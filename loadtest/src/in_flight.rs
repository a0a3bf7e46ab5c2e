//! Updates whose answer is awaited, where the protocol names them by 16 bits.
//!
//! A run counts its updates with 64 bits; MQTT's answers carry a packet identifier. This finds the one for the
//! other, and says when another update must wait: identifiers in flight differ, and a server may set a bound.

use crate::dialect::mqtt::packet_identifier;
use std::collections::VecDeque;

/// The updates of one connection that are under way, in the order of sending.
pub struct InFlight {
    ids: VecDeque<u64>,
    count_max: usize,
}

impl InFlight {
    pub fn new(count_max: u16) -> Self {
        Self { ids: VecDeque::new(), count_max: usize::from(count_max) }
    }

    /// Whether update `id` may be sent now. Ids rise.
    pub fn has_room(&self, id: u64) -> bool {
        self.ids.len() < self.count_max && self.ids.front().is_none_or(|first| id - first < u64::from(u16::MAX))
    }

    pub fn push(&mut self, id: u64) {
        self.ids.push_back(id);
    }

    /// Takes the update that an answer names. Servers answer in order, so it is nearly always the first.
    pub fn take(&mut self, packet: u64) -> Option<u64> {
        let position = self.ids.iter().position(|id| u64::from(packet_identifier(*id)) == packet)?;
        self.ids.remove(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_find_their_updates_in_any_order() {
        let mut in_flight = InFlight::new(10);
        for id in [65_534, 65_536, 65_537] {
            in_flight.push(id);
        }
        assert_eq!([1, 65_534, 65_534, 2].map(|packet| in_flight.take(packet)), [Some(65_536), Some(65_534), None, Some(65_537)]);
    }

    #[test]
    fn as_many_are_in_flight_as_the_server_takes() {
        let mut in_flight = InFlight::new(2);
        in_flight.push(1);
        assert!(in_flight.has_room(2));
        in_flight.push(2);
        assert!(!in_flight.has_room(3));
    }

    #[test]
    fn no_two_in_flight_have_the_same_identifier() {
        let mut in_flight = InFlight::new(u16::MAX);
        in_flight.push(1);
        assert!(in_flight.has_room(65_535));
        assert!(!in_flight.has_room(65_536));
    }
}
