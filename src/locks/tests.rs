//! The rule of one shard's locks: one holder, in order, rising numbers.

use super::*;
use crate::base::Time;
use crate::desk::{Identity, Limits, Storing};
use crate::session::LockScope;

/// The shard of the locks, and that of the sessions.
const HERE: ShardIndex = ShardIndex(0);
const THERE: ShardIndex = ShardIndex(1);

struct World {
    desk: Desk,
    locks: Locks,
}

impl World {
    fn new() -> Self {
        let identity = Identity {
            index: HERE,
            count: 2,
            server: "test".into(),
            run: 1,
            start: 1,
            storing: Storing::Off,
            topics_base: 0,
            node: 0,
            secret: [7; 32],
        };
        let limits = Limits { fetch_page_max: 3, ..Limits::default() };
        Self { desk: Desk::new(identity, limits, Time(0), 0), locks: Locks::default() }
    }

    fn say(&mut self, name: &str, word: LockWord) {
        self.locks.handle_word(&mut self.desk, name.into(), word);
    }

    fn claim(&mut self, name: &str, number: u64) {
        self.say(name, LockWord::Claimed(claim_of(number)));
    }

    fn release(&mut self, name: &str, number: u64, fences: usize) {
        self.say(name, LockWord::Released { claim: claim_of(number), fences, asked: None });
    }

    /// The sessions that were granted something since, with the grants' numbers.
    fn granted(&mut self) -> Vec<(u64, u64)> {
        let mails = self.desk.poll_mail(THERE).map_or_else(Vec::new, |batch| batch.mails);
        let granted = |mail| match mail {
            Mail::Lock { word, .. } => match *word {
                LockWord::Granted { claim, number } => (claim.ticket, number),
                _ => panic!("not a grant"),
            },
            _ => panic!("only grants are told"),
        };
        mails.into_iter().map(granted).collect()
    }

    fn list(&mut self, after: &str) -> (Vec<LockEntry>, bool) {
        self.locks.list(&mut self.desk, THERE, 1, after);
        match self.desk.poll_mail(THERE).expect("it is told").mails.pop() {
            Some(Mail::Part { ticket: 1, part: Part::Locks { entries, is_cut } }) => (entries, is_cut),
            _ => panic!("a list is told"),
        }
    }
}

fn claim_of(number: u64) -> Claim {
    Claim { session: SessionId::new(THERE, number), ticket: number, scope: LockScope::Session }
}

fn names(entries: &[LockEntry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.name.as_str()).collect()
}

#[test]
fn one_holds_and_the_others_follow_in_their_order() {
    let mut world = World::new();
    (1..=4).for_each(|number| world.claim("a", number));
    assert_eq!(world.granted(), [(1, 1)]);
    world.release("a", 1, 0);
    assert_eq!(world.granted(), [(2, 2)]);
    world.release("a", 3, 0);
    assert_eq!(world.granted(), [], "one that waits gives up nothing that another could have");
    world.release("a", 2, 0);
    assert_eq!(world.granted(), [(4, 3)]);
    world.release("a", 4, 0);
    assert_eq!((world.granted(), world.locks.counts()), (vec![], [0, 0]));
}

#[test]
fn a_lock_that_was_forgotten_has_higher_numbers_still() {
    let mut world = World::new();
    for number in 1..4 {
        world.claim("a", number);
        assert_eq!(world.granted(), [(number, number)]);
        world.release("a", number, 0);
        assert_eq!(world.locks.counts(), [0, 0]);
    }
}

#[test]
fn locks_of_other_names_are_others() {
    let mut world = World::new();
    world.claim("a", 1);
    world.claim("a/b", 2);
    assert_eq!(world.granted(), [(1, 1), (2, 2)]);
}

#[test]
fn the_next_holds_it_when_all_fences_have_come_whatever_comes_first() {
    for fences_before in 0..=2 {
        let mut world = World::new();
        world.claim("a", 1);
        world.claim("a", 2);
        assert_eq!(world.granted(), [(1, 1)]);
        (0..fences_before).for_each(|_| world.say("a", LockWord::Fenced(claim_of(1))));
        world.release("a", 1, 2);
        for _ in fences_before..2 {
            assert_eq!(world.granted(), []);
            world.say("a", LockWord::Fenced(claim_of(1)));
        }
        assert_eq!(world.granted(), [(2, 2)]);
    }
}

#[test]
fn a_session_that_asks_again_while_its_grant_ends_waits_as_others_do() {
    let mut world = World::new();
    world.claim("a", 1);
    world.release("a", 1, 1);
    world.claim("a", 2);
    world.claim("a", 1);
    assert_eq!(world.granted(), [(1, 1)]);
    world.say("a", LockWord::Fenced(claim_of(1)));
    world.release("a", 2, 0);
    assert_eq!(world.granted(), [(2, 2), (1, 3)]);
}

#[test]
fn lists_come_in_pages_by_name() {
    let mut world = World::new();
    ["d", "b", "a", "c"].iter().zip(1..).for_each(|(name, number)| world.claim(name, number));
    world.claim("b", 7);
    world.granted();
    let (first, is_cut) = world.list("");
    assert_eq!((names(&first), is_cut), (vec!["a", "b", "c"], true));
    let session = format!("{:016x}-{:x}", 1, 2 << 16 | 1);
    assert_eq!(first[1], LockEntry { name: "b".into(), session, number: 2, scope: 0, waiting: 1 });
    let (rest, is_cut) = world.list("c");
    assert_eq!((names(&rest), is_cut), (vec!["d"], false));
    let other = vec![LockEntry { name: "aa".into(), ..first[0].clone() }];
    let Outcome::Locks { has_more, locks } = merge_lists(&world.desk, vec![(first, true), (other, false)]) else { panic!("locks") };
    assert_eq!((names(&locks), has_more), (vec!["a", "aa", "b"], true));
    let Outcome::Locks { has_more, locks } = merge_lists(&world.desk, vec![(rest, false), (Vec::new(), false)]) else { panic!("locks") };
    assert_eq!((names(&locks), has_more), (vec!["d"], false));
}

#[test]
fn a_page_is_no_longer_than_a_message() {
    let mut world = World::new();
    world.desk.limits.message_bytes_max = 300;
    ["a", "b", "c"].iter().zip(1..).for_each(|(name, number)| world.claim(name, number));
    world.granted();
    let (entries, is_cut) = world.list("");
    assert_eq!((names(&entries), is_cut), (vec!["a"], true));
}
