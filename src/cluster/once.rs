//! Which updates a group's log has: so that one whose answer was lost is found again, and is not made twice.
//!
//! What a shard asks for in a group is numbered by that shard, be it decided at its own server or at another: a [`Source`] is a shard of one process of a server. An entry names its
//! source and number, so every server that applies it can say later that it was made, and what it is answered. What is refused or changes nothing makes no entry: it is
//! judged anew where it is asked again.
//!
//! Bounded: of a source the last [`WINDOW`] numbers are known. A source has nothing sent that is so far ahead of the oldest that it has no answer to, so what may be asked
//! again is known; but for what it has put to the log itself as a leader, which may be more. Of a server's shard two processes are known, and a source that was not
//! heard of for an hour, by the times in the log, is forgotten when another comes: what is asked again is asked again within minutes.
//!
//! The shard that applies an entry notes it, and so does the folded state, which is what a start and another server's snapshot take the table from. There a shard gets all
//! that is known of a group, of whatever path it was: numbers that are never asked of it do no harm, and servers need not have as many shards as others, or as before.

#[cfg(feature = "server")]
mod kept;

use crate::wire::native::Outcome;
use hashbrown::HashMap;
use std::collections::VecDeque;

/// So many of the last numbers of a source are known.
pub const WINDOW: u64 = 512;

/// So long a source is known that no entry is of, in milliseconds.
const KNOWN_MS: u64 = 3_600_000;

/// Of so many processes of a server's shard numbers are known.
const PROCESSES_MAX: usize = 2;

/// Who numbers what is asked for: a shard of a server, in one of its processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// The server's number in its cluster.
    pub server: u64,
    /// Tells its process from others.
    pub boot: u64,
    pub shard: u16,
}

/// Which update an entry is of, and what is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub source: Source,
    /// Rises with each of the source in the group.
    pub number: u64,
    pub made: Made,
}

/// The answer of an update that has changed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    Done,
    Created(bool),
    /// One topic.
    Removed,
    Appended {
        sequence: u64,
        timestamp_ms: u64,
    },
}

/// What is known of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It was made, at this place of the log.
    Made(Made, u64),
    /// It was not made by anything that is applied here.
    NotMade,
    /// It is too long ago.
    Forgotten,
}

/// The updates of one group. See the module.
#[derive(Clone, Debug, Default)]
pub struct Once {
    rows: HashMap<Source, Row>,
}

/// The updates of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// The time of the newest entry.
    time_ms: u64,
    /// Numbers up to this one are known no more.
    forgotten: u64,
    /// By rising numbers.
    kept: VecDeque<Kept>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    number: u64,
    index: u64,
    made: Made,
}

impl Once {
    /// The entry at this place of the log is applied.
    pub fn note(&mut self, asked: &Asked, time_ms: u64, index: u64) {
        let Asked { source, number, made } = *asked;
        let row = match self.rows.get_mut(&source) {
            Some(row) => row,
            None => self.begin(source, time_ms),
        };
        row.time_ms = row.time_ms.max(time_ms);
        row.insert(Kept { number, index, made });
        row.forget(number.saturating_sub(WINDOW));
    }

    pub fn find(&self, source: Source, number: u64) -> Found {
        let Some(row) = self.rows.get(&source) else { return Found::NotMade };
        match row.kept.binary_search_by_key(&number, |kept| kept.number) {
            Ok(at) => Found::Made(row.kept[at].made, row.kept[at].index),
            Err(_) if number <= row.forgotten => Found::Forgotten,
            Err(_) => Found::NotMade,
        }
    }

    /// What another table knows is known here too.
    pub fn merge(&mut self, source: Source, row: &Row) {
        let held = self.rows.entry(source).or_default();
        held.time_ms = held.time_ms.max(row.time_ms);
        row.kept.iter().for_each(|kept| held.insert(*kept));
        held.forget(row.forgotten.max(held.forgotten));
    }

    /// Makes room for a source that is not known. As seldom as processes begin.
    fn begin(&mut self, source: Source, time_ms: u64) -> &mut Row {
        self.rows.retain(|_, row| row.time_ms.saturating_add(KNOWN_MS) >= time_ms);
        let of_shard = |other: &Source| (other.server, other.shard) == (source.server, source.shard);
        let processes = self.rows.iter().filter(|(other, _)| of_shard(other));
        if processes.clone().count() >= PROCESSES_MAX
            && let Some(oldest) = processes.min_by_key(|(other, row)| (row.time_ms, other.boot)).map(|(other, _)| *other)
        {
            self.rows.remove(&oldest);
        }
        self.rows.entry(source).or_default()
    }
}

impl Row {
    fn insert(&mut self, kept: Kept) {
        if self.kept.back().is_none_or(|last| last.number < kept.number) {
            return self.kept.push_back(kept);
        }
        if let Err(at) = self.kept.binary_search_by_key(&kept.number, |other| other.number) {
            self.kept.insert(at, kept);
        }
    }

    fn forget(&mut self, through: u64) {
        self.forgotten = self.forgotten.max(through);
        while self.kept.front().is_some_and(|first| first.number <= self.forgotten) {
            self.kept.pop_front();
        }
    }
}

impl Made {
    /// What is answered of an update that has changed something.
    pub fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Created(is_new) => Self::Created(*is_new),
            Outcome::Removed(_) => Self::Removed,
            Outcome::Appended { sequence, timestamp_ms } => Self::Appended { sequence: *sequence, timestamp_ms: *timestamp_ms },
            // No update has another.
            _ => Self::Done,
        }
    }

    pub fn outcome(self) -> Outcome {
        match self {
            Self::Done => Outcome::Done,
            Self::Created(is_new) => Outcome::Created(is_new),
            Self::Removed => Outcome::Removed(1),
            Self::Appended { sequence, timestamp_ms } => Outcome::Appended { sequence, timestamp_ms },
        }
    }

    pub(super) fn kind(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Created(false) => 1,
            Self::Created(true) => 2,
            Self::Removed => 3,
            Self::Appended { .. } => 4,
        }
    }

    /// `event` is the sequence and timestamp, where there is one.
    pub(super) fn of_kind(kind: u8, event: Option<(u64, u64)>) -> Option<Self> {
        Some(match (kind, event) {
            (0, _) => Self::Done,
            (1, _) => Self::Created(false),
            (2, _) => Self::Created(true),
            (3, _) => Self::Removed,
            (4, Some((sequence, timestamp_ms))) => Self::Appended { sequence, timestamp_ms },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const SOURCE: Source = Source { server: 1, boot: 10, shard: 2 };

    fn note(once: &mut Once, source: Source, number: u64, time_ms: u64) {
        once.note(&Asked { source, number, made: Made::Created(true) }, time_ms, 1000 + number);
    }

    fn is_made(once: &Once, source: Source, number: u64) -> bool {
        once.find(source, number) == Found::Made(Made::Created(true), 1000 + number)
    }

    #[test]
    fn what_was_made_is_found_and_nothing_else_is() {
        let mut once = Once::default();
        [5, 9, 7, 9].into_iter().for_each(|number| note(&mut once, SOURCE, number, 1));
        for number in 1..20 {
            assert_eq!(is_made(&once, SOURCE, number), [5, 7, 9].contains(&number), "{number}");
            assert_eq!(once.find(Source { shard: 3, ..SOURCE }, number), Found::NotMade);
        }
    }

    #[test]
    fn of_a_source_the_last_numbers_are_known() {
        let mut once = Once::default();
        (1..=WINDOW + 10).for_each(|number| note(&mut once, SOURCE, number, 1));
        assert_eq!(once.find(SOURCE, 10), Found::Forgotten);
        assert!(is_made(&once, SOURCE, 11) && is_made(&once, SOURCE, WINDOW + 10));
        assert_eq!(once.find(SOURCE, WINDOW + 11), Found::NotMade);
        // One that comes so late is not known either.
        note(&mut once, SOURCE, 3, 1);
        assert_eq!(once.find(SOURCE, 3), Found::Forgotten);
        assert_eq!(once.rows.get(&SOURCE).map(|row| row.kept.len()), Some(WINDOW as usize));
    }

    #[test]
    fn of_a_servers_shard_two_processes_are_known() {
        let mut once = Once::default();
        let process = |boot| Source { boot, ..SOURCE };
        (1..=3).for_each(|boot| note(&mut once, process(boot), 1, boot));
        note(&mut once, Source { shard: 9, ..SOURCE }, 1, 3);
        assert_eq!([1, 2, 3].map(|boot| is_made(&once, process(boot), 1)), [false, true, true]);
    }

    #[test]
    fn who_was_not_heard_of_for_long_is_forgotten_when_another_comes() {
        let mut once = Once::default();
        let server = |server| Source { server, ..SOURCE };
        note(&mut once, server(1), 1, 1000);
        note(&mut once, server(2), 1, 1000 + KNOWN_MS);
        assert!(is_made(&once, server(1), 1));
        note(&mut once, server(2), 2, 9000 + KNOWN_MS);
        assert!(is_made(&once, server(1), 1), "nobody has come");
        note(&mut once, server(3), 1, 1001 + KNOWN_MS);
        assert!(!is_made(&once, server(1), 1));
        assert!(is_made(&once, server(2), 1));
    }

    #[test]
    fn tables_of_shards_make_one_of_all() {
        let (mut odd, mut even) = (Once::default(), Once::default());
        for number in 1..=600 {
            note(if number % 2 == 0 { &mut even } else { &mut odd }, SOURCE, number, number);
        }
        let row = odd.rows.get(&SOURCE).cloned().unwrap();
        even.merge(SOURCE, &row);
        even.merge(SOURCE, &row);
        for number in 1..=601 {
            let expected = match number {
                ..=88 => Found::Forgotten,
                601.. => Found::NotMade,
                _ => Found::Made(Made::Created(true), 1000 + number),
            };
            assert_eq!(even.find(SOURCE, number), expected, "{number}");
        }
    }

    proptest! {
        /// Whoever keeps to the window, in whatever order what it asks for is made, is told the truth of whatever it has no answer to.
        #[test]
        fn what_has_no_answer_is_never_forgotten(steps in prop::collection::vec((any::<u8>(), any::<bool>()), 1..3000)) {
            let mut once = Once::default();
            let (mut open, mut next) = (BTreeMap::<u64, bool>::new(), 1);
            for (chance, is_made_now) in steps {
                let first = open.first_key_value().map_or(next, |(number, _)| *number);
                if chance < 170 && next < first + WINDOW {
                    open.insert(next, false);
                    next += 1;
                } else if let Some(number) = open.keys().nth(usize::from(chance) % open.len().max(1)).copied() {
                    let made = open.get_mut(&number).expect("it is there");
                    prop_assert_eq!(once.find(SOURCE, number) != Found::NotMade, *made);
                    prop_assert!(once.find(SOURCE, number) != Found::Forgotten);
                    if is_made_now && !*made {
                        note(&mut once, SOURCE, number, 1);
                        *made = true;
                    } else if *made {
                        open.remove(&number);
                    }
                }
            }
        }

    }
}
