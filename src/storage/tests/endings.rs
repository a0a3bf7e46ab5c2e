//! How a run ended, as the next one finds it.

use super::files::{Directory, SMALL, run};
use super::sample::{added, value};
use crate::storage::ending::{Ending, LastRun, note_begin, note_end};
use crate::storage::{Ack, Store};

const LAST: u64 = 7;
const NEW: LastRun = LastRun { ending: Ending::Unknown, ack: Ack::Written, lacked_tail: false };

#[test]
fn what_may_be_missing_follows_from_how_the_run_ended_and_when_it_acknowledged() {
    let directory = Directory::new();
    std::fs::create_dir_all(&directory.0).unwrap();
    let place = &directory.0;
    assert_eq!(LastRun::read(place, LAST), NEW);
    for (ack, killed, power) in [(Ack::Memory, true, true), (Ack::Written, false, true), (Ack::Durable, false, false)] {
        note_begin(place, ack, NEW).unwrap();
        let last = LastRun::read(place, LAST);
        assert_eq!((last, last.may_lack_tail()), (LastRun { ending: Ending::Killed, ack, lacked_tail: false }, killed));
        for now in [Some("another boot"), None] {
            let last = LastRun::read_under(place, LAST, now);
            assert_eq!((last, last.may_lack_tail()), (LastRun { ending: Ending::HostStopped, ack, lacked_tail: false }, power));
        }
        note_end(place, LAST);
        for last in [LastRun::read(place, LAST), LastRun::read_under(place, LAST, Some("another boot"))] {
            assert_eq!((last, last.may_lack_tail()), (LastRun { ending: Ending::InOrder, ack, lacked_tail: false }, false));
        }
        // Somebody has written behind it, or cut, who noted nothing.
        assert_eq!(LastRun::read(place, LAST + 1).may_lack_tail(), power);
    }
    note_begin(place, Ack::Written, NEW).unwrap();
    assert_eq!(LastRun::read(place, LAST).ending, Ending::Killed, "that the one before was stopped is not said of this one");
    std::fs::write(place.join("run.json"), "{").unwrap();
    assert!(LastRun::read(place, LAST).may_lack_tail(), "what cannot be read says nothing good");
}

#[test]
fn that_something_may_be_missing_is_known_until_a_run_is_stopped_in_order() {
    let directory = Directory::new();
    std::fs::create_dir_all(&directory.0).unwrap();
    let place = &directory.0;
    note_begin(place, Ack::Written, NEW).unwrap();
    let lost = LastRun::read_under(place, LAST, Some("another boot"));
    for _ in 0..2 {
        note_begin(place, Ack::Written, lost).unwrap();
        assert!(LastRun::read(place, LAST).may_lack_tail(), "also behind a run that was killed");
    }
    note_end(place, LAST);
    let last = LastRun::read(place, LAST);
    assert!(!last.may_lack_tail());
    note_begin(place, Ack::Written, last).unwrap();
    assert!(!LastRun::read(place, LAST).may_lack_tail());
}

#[test]
fn a_store_that_is_only_looked_at_keeps_how_its_run_ended() {
    let directory = Directory::new();
    let ending = || Store::open(&directory.0, SMALL).unwrap().1.last_run.ending;
    let (running, _) = run(&directory, SMALL);
    running.write_and_stop(&[added(1, "a"), value(1, 1, "one")]);
    for _ in 0..2 {
        assert_eq!(ending(), Ending::InOrder);
    }
    let (running, _) = run(&directory, SMALL);
    running.write_and_stop(&[value(1, 2, "two")]);
    assert_eq!(ending(), Ending::InOrder);
    let (running, _) = run(&directory, SMALL);
    running.write_and_fail(&[value(1, 3, "three")]);
    assert_eq!(ending(), Ending::Killed);
    let (running, _) = run(&directory, SMALL);
    running.write_and_stop(&[value(1, 4, "four")]);
    assert_eq!(ending(), Ending::InOrder);
}
