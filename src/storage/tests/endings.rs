//! How a run ended, as the next one finds it.

use super::files::{Directory, SMALL, run};
use super::sample::{added, value};
use crate::storage::ending::{EndNote, Ending, LastRun, note_begin};
use crate::storage::{Ack, Store};

#[test]
fn what_may_be_missing_follows_from_how_the_run_ended_and_when_it_acknowledged() {
    let directory = Directory::new();
    std::fs::create_dir_all(&directory.0).unwrap();
    let place = &directory.0;
    assert_eq!(LastRun::read(place).ending, Ending::Unknown);
    for (ack, killed, power) in [(Ack::Memory, true, true), (Ack::Written, false, true), (Ack::Durable, false, false)] {
        note_begin(place, ack).unwrap();
        let last = LastRun::read(place);
        assert_eq!((last, last.may_lack_tail()), (LastRun { ending: Ending::Killed, ack }, killed));
        for now in [Some("another boot"), None] {
            let last = LastRun::read_under(place, now);
            assert_eq!((last, last.may_lack_tail()), (LastRun { ending: Ending::HostStopped, ack }, power));
        }
        EndNote::of(place).write();
        for last in [LastRun::read(place), LastRun::read_under(place, Some("another boot"))] {
            assert_eq!((last, last.may_lack_tail()), (LastRun { ending: Ending::InOrder, ack }, false));
        }
    }
    note_begin(place, Ack::Written).unwrap();
    assert_eq!(LastRun::read(place).ending, Ending::Killed, "that the one before was stopped is not said of this one");
    std::fs::write(place.join("run.json"), "{").unwrap();
    assert_eq!(LastRun::read(place).ending, Ending::Unknown);
}

#[test]
fn a_store_that_is_only_looked_at_keeps_how_its_run_ended() {
    let directory = Directory::new();
    let (running, _) = run(&directory, SMALL);
    assert_eq!(LastRun::read(&directory.0).ending, Ending::Killed);
    running.write_and_stop(&[added(1, "a"), value(1, 1, "one")]);
    for _ in 0..2 {
        let (_, recovered) = Store::open(&directory.0, SMALL).unwrap();
        assert_eq!(recovered.last_run, LastRun { ending: Ending::InOrder, ack: SMALL.ack });
    }
    let (running, _) = run(&directory, SMALL);
    running.write_and_stop(&[value(1, 2, "two")]);
    assert_eq!(LastRun::read(&directory.0).ending, Ending::InOrder);
}
