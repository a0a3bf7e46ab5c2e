//! A simulated disk: takes the records of shards late, fills up, fails, and loses in a crash what was not synced.
//!
//! It writes the journal's own bytes and reads them again, and holds every record against those before it.

use crate::random::Random;
use std::collections::VecDeque;
use tidewire::surface::journal::{
    self, Append, Expected, Frame, Header, Record, SESSION_KIND, SESSION_TREE_KIND, Salt, State, VIEW_KIND, read_segment,
};

const SALT: Salt = Salt(0x5eed);

/// The end of a record that is written.
struct Written {
    shard: usize,
    ticket: u64,
    number: u64,
    end: usize,
}

pub struct Disk {
    bytes: Vec<u8>,
    next_number: u64,
    /// What shards gave, in the order of each.
    waiting: Vec<VecDeque<Append>>,
    /// What a crash may still take.
    unsynced: VecDeque<Written>,
    synced_bytes: usize,
    synced_number: u64,
    /// Acknowledgements on their way, by shard.
    acknowledged: Vec<VecDeque<u64>>,
    /// What the journal adds up to.
    pub state: State,
    pub is_failing: bool,
    /// Records that wait at most, of one shard.
    pub waiting_max: usize,
}

impl Disk {
    pub fn new(shards: usize, waiting_max: usize) -> Self {
        let header = Header { segment: 1, first_record: 1, checkpoint: 0, synced: 0, salt: SALT }.encode();
        Self {
            bytes: header.to_vec(),
            next_number: 1,
            waiting: (0..shards).map(|_| VecDeque::new()).collect(),
            unsynced: VecDeque::new(),
            synced_bytes: header.len(),
            synced_number: 0,
            acknowledged: (0..shards).map(|_| VecDeque::new()).collect(),
            state: State::default(),
            is_failing: false,
            waiting_max,
        }
    }

    /// Takes a turn's records, or gives them back where there is no room.
    pub fn take(&mut self, shard: usize, records: Vec<Append>) -> Result<(), Vec<Append>> {
        let waiting = &mut self.waiting[shard];
        if waiting.len() >= self.waiting_max {
            return Err(records);
        }
        waiting.extend(records);
        let tickets: Vec<u64> = waiting.iter().map(|append| append.ticket).collect();
        assert!(tickets.is_sorted_by(|a, b| a + 1 == *b), "the records of shard {shard} come out of order: {tickets:?}");
        Ok(())
    }

    pub fn write(&mut self, shard: usize) -> bool {
        if self.is_failing {
            return false;
        }
        let Some(Append { ticket, change }) = self.waiting[shard].pop_front() else { return false };
        let record = Record::from(&change);
        self.check(&record);
        let frame = Frame { number: self.next_number, synced: self.synced_number };
        journal::encode(SALT, frame, &record, &mut self.bytes);
        self.state.apply(&record);
        self.unsynced.push_back(Written { shard, ticket, number: self.next_number, end: self.bytes.len() });
        self.next_number += 1;
        true
    }

    /// Versions of a topic never go back, its events come one by one, and its number is new.
    fn check(&self, record: &Record<'_>) {
        let stored = record.topic().and_then(|topic| self.state.topics.get(&topic));
        match record {
            // A view's new record comes before its old one goes, and so does a table's.
            Record::Added { kind: VIEW_KIND | SESSION_TREE_KIND, .. } => {}
            Record::Added { topic, path, .. } => {
                assert!(stored.is_none(), "topic {topic:?} is added twice");
                let other = self.state.topics.values().find(|stored| stored.path.as_str() == *path);
                assert!(other.is_none(), "two topics stand at {path}");
            }
            Record::Value { topic, version, .. } | Record::NoValue { topic, version } | Record::Message { topic, version, .. } => {
                let stored = stored.unwrap_or_else(|| panic!("a value of {topic:?}, which was not added"));
                assert_eq!(stored.version + 1, *version, "the versions of {}", stored.path.as_str());
            }
            Record::Event { topic, sequence, .. } => {
                let stored = stored.unwrap_or_else(|| panic!("an event of {topic:?}, which was not added"));
                let next = stored.last_sequence.map_or(0, |last| last + 1);
                // A session has numbers for what is in no record: what came before it was kept, and while storage failed.
                let fits = if stored.kind == SESSION_KIND { next <= *sequence } else { next == *sequence };
                assert!(fits, "the events of {}: {sequence}, expected {next}", stored.path.as_str());
            }
            Record::Removed { topic } => assert!(stored.is_some(), "{topic:?} is removed twice"),
            Record::Mark | Record::Logged { .. } | Record::Cut { .. } | Record::Voted { .. } | Record::Committed { .. } => {}
        }
    }

    /// Makes some of what is written safe.
    pub fn sync(&mut self, records_max: usize) -> bool {
        if self.is_failing {
            return false;
        }
        let count = records_max.min(self.unsynced.len());
        for written in self.unsynced.drain(..count) {
            (self.synced_bytes, self.synced_number) = (written.end, written.number);
            self.acknowledged[written.shard].push_back(written.ticket);
        }
        count > 0
    }

    /// An acknowledgement that arrives: everything of the shard up to a ticket is stored.
    pub fn next_acknowledgement(&mut self, shard: usize, random: &mut Random) -> Option<u64> {
        let waiting = &mut self.acknowledged[shard];
        let count = random.within(1, waiting.len().max(1));
        waiting.drain(..count.min(waiting.len())).next_back()
    }

    /// The process ends: bytes that were not synced may be lost from anywhere on. Gives what is left.
    pub fn crash(self, random: &mut Random, shards: usize) -> Self {
        let kept = random.within(self.synced_bytes, self.bytes.len());
        let mut disk = Self::new(shards, self.waiting_max);
        let expected = Expected { salt: SALT, from: 1, until: None };
        let read = read_segment(&self.bytes[..kept], expected, |read| disk.state.apply(&read.record));
        assert!(read.damage.is_none_or(|damage| !damage.is_corruption(0)), "nothing is lost that was synced");
        assert!(read.next_record > self.synced_number);
        disk.bytes = self.bytes[..read.end].to_vec();
        (disk.synced_bytes, disk.next_number, disk.synced_number) = (read.end, read.next_record, read.next_record - 1);
        disk
    }
}
