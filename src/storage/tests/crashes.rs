//! The writer over a disk that fails: whatever happens and wherever it ends, what was acknowledged comes back, in order, once.

use super::faulty::{Fault, Faulty};
use super::sample::{added, appends, event, removed, state, value};
use crate::base::{ShardIndex, Time};
use crate::journal::{Change, Expected, Salt, State, read_segment};
use crate::storage::disk::Disk;
use crate::storage::replay::{Corruption, Journal, ReplayError, Sealed, replay};
use crate::storage::writer::{Position, Writer, WriterLimits};
use crate::storage::{Ack, Answer};
use proptest::prelude::*;
use std::sync::Arc;

const SALT: Salt = Salt(99);
const SHARD: ShardIndex = ShardIndex(0);

struct World {
    disk: Faulty,
    writer: Writer,
    /// Everything that was handed over; the ticket is the place, from 1.
    changes: Vec<Change>,
    acknowledged: u64,
    is_failing: bool,
    answers: Vec<(ShardIndex, Answer)>,
    now: Time,
    versions: u64,
    ack: Ack,
    /// What was folded, as fjall would hold it, and up to which record.
    base: State,
    through: u64,
    waiting: Vec<Sealed>,
}

impl World {
    fn new(ack: Ack) -> Self {
        let disk = Faulty::default();
        let writer = writer(&disk, ack, Position { salt: SALT, next_record: 1, last_segment: 0, checkpoint: 0 });
        Self {
            disk,
            writer,
            changes: Vec::new(),
            acknowledged: 0,
            is_failing: false,
            answers: Vec::new(),
            now: Time(0),
            versions: 0,
            ack,
            base: State::default(),
            through: 0,
            waiting: Vec::new(),
        }
    }

    /// The process starts again on what a crash left.
    fn restart(&mut self, mut disk: Faulty, at_least: u64) -> Result<(), String> {
        let (journal, prefix) = self.check(disk.clone(), at_least)?;
        journal.settle(&mut disk).unwrap();
        let Journal { next_record, last_segment, sealed, .. } = journal;
        self.writer = writer(&disk, self.ack, Position { salt: SALT, next_record, last_segment, checkpoint: self.through });
        self.disk = disk;
        self.changes.truncate(prefix);
        (self.acknowledged, self.is_failing) = (prefix as u64, false);
        self.waiting = sealed;
        Ok(())
    }

    /// Folds the older half of what waits.
    fn fold(&mut self, deletion: Deletion) {
        self.waiting.extend(self.writer.poll_sealed());
        for Sealed { segment, first_record, until } in self.waiting.drain(..self.waiting.len().div_ceil(2)) {
            let bytes = self.disk.read(segment, usize::MAX).unwrap();
            let read = read_segment(&bytes, Expected { salt: SALT, from: first_record, until: Some(until) }, |read| {
                if read.number > self.through {
                    self.base.apply(&read.record);
                }
            });
            assert_eq!(read.damage, None, "what is folded is whole");
            self.through = self.through.max(until - 1);
            self.writer.handle_folded(self.through);
            if deletion == Deletion::Done {
                self.disk.remove(segment).unwrap();
            }
        }
    }

    fn hear(&mut self) {
        for (shard, answer) in self.answers.drain(..) {
            assert_eq!(shard, SHARD);
            match answer {
                Answer::Acknowledged { through } => {
                    assert!(through > self.acknowledged, "acknowledgements ascend");
                    self.acknowledged = through;
                }
                Answer::Failing { .. } => assert!(!std::mem::replace(&mut self.is_failing, true), "said once"),
                Answer::Recovered => assert!(std::mem::replace(&mut self.is_failing, false), "only after failing"),
            }
        }
    }

    fn send(&mut self, changes: Vec<Change>) {
        let appends = appends(self.changes.len() as u64 + 1, changes.clone());
        self.changes.extend(changes);
        self.writer.take(SHARD, &appends, &mut self.answers);
        self.hear();
    }

    fn step(&mut self, step: Step) {
        match step {
            // A writer that fails is handed nothing.
            Step::Send(_) if self.is_failing => {}
            Step::Send(count) => {
                let changes = (0..count).map(|_| self.change()).collect();
                self.send(changes);
            }
            Step::Commit => self.writer.commit(self.now, &mut self.answers),
            Step::Rest => self.writer.rest(self.now, &mut self.answers),
            Step::Retry => self.writer.retry(self.now, &mut self.answers),
            Step::Wait => self.now = self.now.after_ms(700),
            Step::Sync => {
                self.writer.ask_sync();
                for (sync, through) in self.writer.poll_syncs() {
                    let result = sync();
                    self.writer.handle_synced(through, &result);
                }
            }
            Step::Close => drop(self.writer.close(self.now, &mut self.answers)),
            Step::Fault(fault) => self.disk.set_fault(fault),
            Step::Fold(deletion) => self.fold(deletion),
            Step::Kill => {
                let at_least = if self.ack == Ack::Memory { 0 } else { self.acknowledged };
                self.restart(self.disk.after_kill(), at_least).unwrap_or_else(|error| panic!("killed: {error}"));
            }
            Step::PowerLoss(seed) => {
                let at_least = if self.ack == Ack::Durable { self.acknowledged } else { 0 };
                self.restart(self.disk.after_power_loss(seed), at_least).unwrap_or_else(|error| panic!("power lost: {error}"));
            }
        }
        self.hear();
    }

    /// Additions, values, events and removals in turn, each different.
    fn change(&mut self) -> Change {
        self.versions += 1;
        let number = self.versions;
        match number % 7 {
            1 => added(number, &format!("t/{number}")),
            2 => value(number - 1, 1, &"v".repeat(number as usize % 90)),
            3 => event(number - 2, number, 0),
            4 => event(number - 3, number, number),
            5 => value(number - 4, 2, "second"),
            6 => added(number, &format!("t/{number}")),
            _ => removed(number - 1),
        }
    }

    /// What comes back is everything up to some change, and no less than what has to. Returns up to which.
    fn check(&self, mut disk: Faulty, at_least: u64) -> Result<(Journal, usize), String> {
        let mut found = self.base.clone();
        let journal = replay(&mut disk, SALT, self.through, &mut |record| found.apply(record)).map_err(|error| format!("{error:?}"))?;
        let prefix = (at_least as usize..=self.changes.len()).rev().find(|count| state(&self.changes[..*count]) == found);
        match prefix {
            Some(prefix) => Ok((journal, prefix)),
            None => Err(format!("{} changes, at least {at_least} kept; found {found:?}; {journal:?}", self.changes.len())),
        }
    }
}

fn writer(disk: &Faulty, ack: Ack, position: Position) -> Writer {
    let limits = WriterLimits { ack, shards: 1, segment_bytes: 1500, segment_age_ms: 1000 };
    Writer::new(Box::new(disk.clone()), limits, position, Arc::default())
}

fn read(disk: &mut Faulty) -> Result<(State, Journal), ReplayError> {
    let mut found = State::default();
    let journal = replay(disk, SALT, 0, &mut |record| found.apply(record))?;
    Ok((found, journal))
}

/// Whether a folded segment is deleted before the next crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deletion {
    Done,
    Pending,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Send(u8),
    Commit,
    Rest,
    Retry,
    Wait,
    Sync,
    Close,
    Fault(Fault),
    Fold(Deletion),
    Kill,
    PowerLoss(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fault = prop_oneof![
        3 => Just(Fault::None),
        1 => (0..400_usize).prop_map(|kept| Fault::Full { kept }),
        1 => Just(Fault::Sync),
    ];
    let step = prop_oneof![
        6 => (1..9_u8).prop_map(Step::Send),
        6 => Just(Step::Commit),
        2 => Just(Step::Rest),
        2 => Just(Step::Retry),
        1 => Just(Step::Wait),
        2 => Just(Step::Sync),
        1 => Just(Step::Close),
        2 => fault.prop_map(Step::Fault),
        1 => Just(Step::Fold(Deletion::Done)),
        1 => Just(Step::Fold(Deletion::Pending)),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(Step::PowerLoss),
    ];
    proptest::collection::vec(step, 1..80)
}

/// A crash after every step.
fn check_crashes(ack: Ack, steps: &[Step], seed: u64) {
    let mut world = World::new(ack);
    for (at, step) in steps.iter().enumerate() {
        world.step(*step);
        let kept_over_kill = match ack {
            Ack::Memory => 0,
            Ack::Written | Ack::Durable => world.acknowledged,
        };
        let kept_over_power_loss = if ack == Ack::Durable { world.acknowledged } else { 0 };
        world.check(world.disk.after_kill(), kept_over_kill).unwrap_or_else(|error| panic!("killed after step {at}: {error}"));
        let lost = world.disk.after_power_loss(seed.wrapping_add(at as u64));
        world.check(lost, kept_over_power_loss).unwrap_or_else(|error| panic!("power lost after step {at}: {error}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn durable_acknowledgements_survive_every_crash(steps in steps(), seed in any::<u64>()) {
        check_crashes(Ack::Durable, &steps, seed);
    }

    #[test]
    fn written_acknowledgements_survive_a_kill(steps in steps(), seed in any::<u64>()) {
        check_crashes(Ack::Written, &without_sync_faults(steps), seed);
    }

    #[test]
    fn a_store_that_keeps_nothing_promised_is_whole_after_a_crash(steps in steps(), seed in any::<u64>()) {
        check_crashes(Ack::Memory, &without_sync_faults(steps), seed);
    }
}

/// A system that drops what it could not sync loses it also for who only waited for the write.
fn without_sync_faults(steps: Vec<Step>) -> Vec<Step> {
    steps.into_iter().filter(|step| !matches!(step, Step::Fault(Fault::Sync))).collect()
}

fn run(world: &mut World, steps: &[Step]) {
    steps.iter().for_each(|step| world.step(*step));
}

#[test]
fn a_full_disk_is_said_once_keeps_everything_and_recovers() {
    for kept in [0, 1, 100, 10_000] {
        for ack in [Ack::Written, Ack::Durable] {
            let mut world = World::new(ack);
            run(&mut world, &[Step::Send(5), Step::Commit, Step::Send(7), Step::Fault(Fault::Full { kept }), Step::Commit]);
            assert_eq!((world.acknowledged, world.is_failing), (5, true));
            run(&mut world, &[Step::Retry, Step::Retry, Step::Fault(Fault::None), Step::Retry]);
            assert_eq!((world.acknowledged, world.is_failing), (12, false));
            world.check(world.disk.after_kill(), 12).unwrap();
        }
    }
}

#[test]
fn after_a_failed_sync_the_group_is_in_a_new_segment() {
    let mut world = World::new(Ack::Durable);
    run(&mut world, &[Step::Send(5), Step::Commit, Step::Send(7), Step::Fault(Fault::Sync), Step::Commit]);
    assert_eq!((world.acknowledged, world.is_failing), (5, true));
    run(&mut world, &[Step::Retry, Step::Fault(Fault::None), Step::Retry]);
    assert_eq!((world.acknowledged, world.is_failing), (12, false));
    assert_eq!(world.disk.clone().segments().unwrap(), [1, 2, 3]);
    for seed in 0..200 {
        world.check(world.disk.after_power_loss(seed), 12).unwrap();
    }
}

#[test]
fn what_was_acknowledged_is_synced_when_a_store_is_closed() {
    for ack in [Ack::Memory, Ack::Written, Ack::Durable] {
        // Sometimes it is closing that begins the last segment.
        for groups in 1..20 {
            let mut world = World::new(ack);
            for _ in 1..groups {
                run(&mut world, &[Step::Send(8), Step::Commit]);
            }
            run(&mut world, &[Step::Send(8), Step::Close]);
            for (sync, _) in world.writer.poll_syncs() {
                sync().unwrap();
            }
            for seed in 0..10 {
                world.check(world.disk.after_power_loss(seed), groups * 8).unwrap();
            }
        }
    }
}

#[test]
fn a_full_disk_does_not_keep_what_is_written_from_being_synced_at_the_end() {
    let mut world = World::new(Ack::Written);
    run(&mut world, &[Step::Send(5), Step::Commit, Step::Fault(Fault::Full { kept: 0 }), Step::Send(7), Step::Commit, Step::Close]);
    assert_eq!((world.acknowledged, world.writer.unwritten_changes()), (5, 7));
    for seed in 0..50 {
        world.check(world.disk.after_power_loss(seed), 5).unwrap();
    }
}

#[test]
fn nothing_is_written_behind_what_a_failed_sync_at_the_end_may_have_lost() {
    use Step::{Close, Fault as Set, Rest, Retry, Send};
    let steps = [Send(4), Retry, Rest, Set(Fault::Sync), Close, Set(Fault::None), Send(1), Close];
    check_crashes(Ack::Durable, &steps, 0);
}

#[test]
fn damage_in_what_was_synced_stops_and_says_where() {
    let mut world = World::new(Ack::Durable);
    run(&mut world, &[Step::Send(5), Step::Commit, Step::Send(5), Step::Commit, Step::Rest]);
    world.disk.change(1, |bytes| bytes[100] ^= 1);
    match read(&mut world.disk.clone()) {
        Err(ReplayError::Corrupt(corruption @ Corruption::Record { segment: 1, .. })) => {
            let text = corruption.to_string();
            assert!(text.starts_with("segment 1, byte 64: the record's checksum does not hold; expected record 1"), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_missing_segment_stops() {
    let mut world = World::new(Ack::Durable);
    for _ in 0..12 {
        run(&mut world, &[Step::Send(8), Step::Commit]);
    }
    let mut disk = world.disk.after_kill();
    assert!(disk.segments().unwrap().len() > 3);
    disk.remove(2).unwrap();
    let error = read(&mut disk).unwrap_err();
    assert!(matches!(error, ReplayError::Corrupt(Corruption::Record { segment: 1, .. } | Corruption::Gap { segment: 3, .. })), "{error:?}");
    disk.remove(1).unwrap();
    assert!(matches!(read(&mut disk), Err(ReplayError::Corrupt(Corruption::Gap { segment: 3, .. }))));
}

#[test]
fn a_state_that_lost_records_stops() {
    let mut world = World::new(Ack::Durable);
    run(&mut world, &[Step::Send(5), Step::Commit]);
    world.writer.handle_folded(5);
    run(&mut world, &[Step::Wait, Step::Wait, Step::Rest, Step::Send(1), Step::Commit]);
    let mut disk = world.disk.after_kill();
    assert!(matches!(
        replay(&mut disk, SALT, 4, &mut |_| ()),
        Err(ReplayError::Corrupt(Corruption::State { through: 4, expected: 5, .. }))
    ));
    assert!(replay(&mut disk, SALT, 5, &mut |_| ()).is_ok());
}
