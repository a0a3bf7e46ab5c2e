//! What is lost is told in order, and a server alone in its cluster hears what its shards propose.

use super::outstanding::Outstanding;
use super::*;
use crate::base::ShardIndex;
use crate::base::placement::owner_of;
use crate::cluster::{Change, Entry, Source, last_place};
use crate::consensus::{self, GroupId, News, Options, Start};
use crate::shard::{Leader, Outgoing, Proposal};
use crate::storage::LoadedGroup;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, OnceLock};

fn confirmed(number: u64) -> Said {
    Said::Confirmed { number, term: 1 }
}

fn lost(last: u64, fate: Fate) -> Said {
    Said::Lost { last, fate }
}

#[test]
fn what_is_lost_waits_for_all_that_was_proposed_before() {
    let (mut outstanding, mut said) = (Outstanding::default(), Vec::new());
    [1, 2, 4, 5].into_iter().for_each(|number| outstanding.push(number));
    outstanding.lose(2, Fate::Void, &mut said);
    outstanding.lose(5, Fate::Unknown, &mut said);
    assert_eq!(said, []);
    outstanding.settle(1, confirmed(1), &mut said);
    assert_eq!(said, [confirmed(1), lost(2, Fate::Void)]);
    said.clear();
    outstanding.settle(4, confirmed(4), &mut said);
    assert_eq!(said, [confirmed(4), lost(5, Fate::Unknown)]);
}

#[test]
fn what_comes_behind_settles_what_never_came() {
    let (mut outstanding, mut said) = (Outstanding::default(), Vec::new());
    [1, 2, 3].into_iter().for_each(|number| outstanding.push(number));
    outstanding.settle(2, confirmed(2), &mut said);
    assert_eq!(said, [lost(1, Fate::Unknown), confirmed(2)]);
    said.clear();
    outstanding.lose(1, Fate::Void, &mut said);
    assert_eq!(said, [], "it is told once");
    outstanding.take_back(3);
    outstanding.lose(3, Fate::Void, &mut said);
    assert_eq!(said, []);
}

const NODE: u64 = 1;
const SHARDS: u16 = 3;
const GROUPS: u16 = 2;

/// A server whose engine runs, alone in its cluster.
struct Alone {
    carrier: Arc<OnceLock<Carrier>>,
    handle: consensus::Handle,
    words: Receiver<(ShardIndex, Word)>,
    thread: std::thread::JoinHandle<std::io::Result<()>>,
}

impl Alone {
    fn new() -> Self {
        let options = Options { groups: GROUPS, ..Options::new(NODE, 1) };
        let starts = (0..=GROUPS).map(|_| Start::default()).collect();
        let carrier = Arc::new(OnceLock::<Carrier>::new());
        let hearing = carrier.clone();
        // There is no other.
        let connect = || {
            let dial: consensus::Dial = Rc::new(|_, _, _| Box::pin(async { Err(consensus::Unreached::Unsent) }));
            Ok((dial, drop::<consensus::Inbox>))
        };
        let notify = move |news: News| drop(hearing.wait().hear(news));
        let (handle, thread) = consensus::start(options, starts, || {}, connect, notify).unwrap();
        let (told, words) = channel();
        let tell = move |shard, word| drop(told.send((shard, word)));
        assert!(carrier.set(Carrier::new((NODE, 1), (SHARDS, GROUPS), handle.clone(), tell)).is_ok());
        handle.found([NODE].into());
        Self { carrier, handle, words, thread }
    }

    fn link(&self, shard: u16) -> Link {
        self.carrier.wait().link(ShardIndex(shard))
    }

    fn find<T>(&self, mut wanted: impl FnMut(ShardIndex, Word) -> Option<T>) -> T {
        loop {
            let (shard, word) = self.words.recv().expect("the engine runs");
            if let Some(found) = wanted(shard, word) {
                return found;
            }
        }
    }

    /// The term in which the server leads the group, once this shard knows.
    fn term(&self, of: u16, shard: u16) -> u64 {
        self.find(|told, word| match word {
            Word::Role { group, role: Role::Leads { term } } if (group, told.0) == (of, shard) => Some(term),
            _ => None,
        })
    }

    fn said(&self, shard: u16) -> Vec<Said> {
        self.find(|told, word| match word {
            Word::Said { said, group, bytes } if told.0 == shard => {
                self.link(shard).took(group, bytes);
                Some(said)
            }
            _ => None,
        })
    }

    fn stop(self) {
        self.handle.stop();
        self.thread.join().unwrap().unwrap();
    }
}

fn entry(path: &str, term: u64) -> Vec<u8> {
    Entry { path, term, time_ms: 1, asked: None, added: None, change: Some(Change::Removed) }.encode()
}

#[test]
fn a_shard_hears_what_it_has_proposed_in_order_and_others_what_is_theirs() {
    let alone = Alone::new();
    let term = alone.term(0, 2);
    let proposal = |number, entry| Proposal { group: 0, term, number, entry };
    let own = entry("a", term);
    let proposals = vec![proposal(1, None), proposal(2, None), proposal(3, Some(own.clone())), proposal(4, None)];
    assert!(alone.link(2).propose(proposals).is_empty());
    let mut heard = Vec::new();
    while heard.len() < 2 {
        heard.extend(alone.said(2));
    }
    assert!(matches!(&heard[0], Said::Entry { own: Some(3), bytes, .. } if *bytes == own), "{heard:?}");
    assert_eq!(heard[1], Said::Confirmed { number: 4, term });
    // One of another term is void.
    let stale = Proposal { group: 0, term: term - 1, number: 5, entry: Some(entry("a", term - 1)) };
    assert!(alone.link(2).propose(vec![stale]).is_empty());
    assert_eq!(alone.said(2), [lost(5, Fate::Void)]);
    alone.stop();
}

#[test]
fn a_forwarded_update_that_reaches_nobody_was_not_made() {
    let alone = Alone::new();
    let outgoing =
        Outgoing { group: 1, to: Leader { server: 7, term: 1 }, number: 1, ticket: 9, attempt: 0, request: b"an update"[..].into() };
    alone.link(1).forward(outgoing);
    let reply = alone.find(|shard, word| match word {
        Word::Reply { group, ticket, reply } => Some((shard, group, ticket, reply)),
        _ => None,
    });
    assert_eq!(reply, (ShardIndex(1), 1, 9, Err(Fate::Void)));
    alone.stop();
}

#[test]
fn who_has_forwarded_is_read_again() {
    let from = Forwarder { source: Source { server: u64::MAX - 1, boot: 5, shard: 63 }, number: 1 << 60, attempt: 7 };
    assert_eq!(read_head(&head(9, from)), Some((9, from)));
    assert_eq!(read_head(&head(9, from)[1..]), None);
}

#[test]
fn what_another_server_proposes_is_its_owners() {
    let alone = Alone::new();
    let (carrier, words) = carrier_of(&alone);
    let paths = ["a", "b", "c/d", "e/f/g"];
    let entries = (5..).zip(paths).map(|(place, path)| {
        let bytes = entry(path, 3).into();
        (place, consensus::Committed::Entry { term: 3, bytes, ticket: None })
    });
    let bytes = paths.iter().map(|path| consensus::entry_bytes(entry(path, 3).len())).sum();
    assert!(carrier.hear(News::Committed { group: GroupId(1), entries: entries.collect(), bytes }).is_none());
    let mut places: Vec<u64> = Vec::new();
    for (shard, word) in words.try_iter() {
        let Word::Said { group: 1, said, .. } = word else { panic!("{word:?}") };
        for said in said {
            let Said::Entry { place, term: 3, own: None, bytes } = said else { panic!("{said:?}") };
            assert_eq!(shard, owner_of(Entry::decode(&bytes).unwrap().path, SHARDS));
            places.push(place);
        }
    }
    places.sort_unstable();
    assert_eq!(places, [5, 6, 7, 8]);
    alone.stop();
}

#[test]
fn only_snapshots_of_groups_that_have_topics_are_the_shards() {
    let alone = Alone::new();
    let (carrier, words) = carrier_of(&alone);
    carrier.install(GroupId(GROUPS), 9, LoadedGroup::default());
    assert!(words.try_recv().is_err(), "no shard knows the group");
    carrier.install(GroupId(GROUPS - 1), 9, LoadedGroup::default());
    let all =
        words.try_iter().filter(|(_, word)| matches!(word, Word::AllInstalled { group: 1, place, .. } if *place == last_place(9))).count();
    assert_eq!(all, usize::from(SHARDS));
    alone.stop();
}

/// A carrier, and what shards hear of it behind the first word.
fn carrier_of(alone: &Alone) -> (Carrier, Receiver<(ShardIndex, Word)>) {
    let (told, words) = channel();
    let carrier = Carrier::new((NODE, 1), (SHARDS, GROUPS), alone.handle.clone(), move |shard, word| drop(told.send((shard, word))));
    assert_eq!(staleness(&words), [true; SHARDS as usize], "nothing is known to be fresh");
    (carrier, words)
}

fn staleness(words: &Receiver<(ShardIndex, Word)>) -> Vec<bool> {
    let is_stale = |(_, word): (ShardIndex, Word)| if let Word::Stale(is_stale) = word { is_stale } else { panic!("{word:?}") };
    words.try_iter().map(is_stale).collect()
}

#[test]
fn shards_are_told_when_all_groups_are_fresh_and_when_the_first_is_not() {
    let alone = Alone::new();
    const NOBODY: [bool; 0] = [];
    let (carrier, words) = carrier_of(&alone);
    let told = |group: u16, is_fresh| {
        assert!(carrier.hear(News::Fresh { group: GroupId(group), is_fresh }).is_none());
        staleness(&words)
    };
    assert_eq!(told(0, true), NOBODY);
    // The group of what changes seldom has no topics.
    assert_eq!(told(GROUPS, true), NOBODY);
    (1..GROUPS - 1).for_each(|group| assert_eq!(told(group, true), NOBODY));
    assert_eq!(told(GROUPS - 1, true), [false; SHARDS as usize]);
    assert_eq!(told(GROUPS, false), NOBODY);
    assert_eq!(told(0, false), [true; SHARDS as usize]);
    assert_eq!(told(1, false), NOBODY);
    assert_eq!(told(0, true), NOBODY);
    assert_eq!(told(1, true), [false; SHARDS as usize]);
    alone.stop();
}
