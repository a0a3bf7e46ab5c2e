//! Logs of groups over a disk that fails: what was said to be kept comes back, a vote whatever is lost, and nothing that was cut.

use super::faulty::{Fault, Faulty};
use super::sample::{added, appends};
use crate::base::{ShardIndex, Time};
use crate::journal::{Expected, Salt, read_segment};
use crate::storage::disk::Disk;
use crate::storage::groups::{Logs, apply};
use crate::storage::replay::{Journal, Sealed, replay};
use crate::storage::writer::{Position, Writer, WriterLimits};
use crate::storage::{Ack, Answer, Done, LogEntry, LogPayload, LogWrite};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

const SALT: Salt = Salt(99);
const SHARD: ShardIndex = ShardIndex(0);

/// What was handed over. Entries are told apart by their terms.
#[derive(Clone, Debug)]
enum Op {
    Append { group: u16, entry: LogEntry },
    Cut { group: u16, after: Option<u64> },
    Vote { group: u16, vote: u8 },
}

/// The naive model: of each group its vote and its log, by places.
type Model = BTreeMap<u16, (Option<u8>, Vec<LogEntry>)>;

fn model(ops: &[Op]) -> Model {
    let mut model = Model::new();
    for op in ops {
        match op {
            Op::Append { group, entry } => model.entry(*group).or_default().1.push(entry.clone()),
            Op::Cut { group, after } => model.entry(*group).or_default().1.truncate(after.map_or(0, |after| after as usize + 1)),
            Op::Vote { group, vote } => model.entry(*group).or_default().0 = Some(*vote),
        }
    }
    model
}

fn model_of(logs: &Logs) -> Model {
    let of = |(group, log): (&u16, &crate::storage::GroupLog)| {
        assert_eq!(log.gap(), None);
        (*group, (log.vote.as_ref().map(|vote| vote[0]), log.entries.values().cloned().collect()))
    };
    logs.iter().map(of).collect()
}

struct World {
    disk: Faulty,
    writer: Writer,
    ack: Ack,
    ops: Vec<Op>,
    /// The numbers of what is kept, from 1 for the first operation.
    kept: Arc<Mutex<Vec<usize>>>,
    /// How many of the operations are said to survive a loss of power.
    synced: Arc<Mutex<usize>>,
    answers: Vec<(ShardIndex, Answer)>,
    now: Time,
    tickets: u64,
    folded: Logs,
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
            ack,
            ops: Vec::new(),
            kept: Arc::default(),
            synced: Arc::default(),
            answers: Vec::new(),
            now: Time(0),
            tickets: 0,
            folded: Logs::new(),
            through: 0,
            waiting: Vec::new(),
        }
    }

    /// Notes what is handed over, and who is told that the last of it is kept.
    fn done(&mut self, ops: impl IntoIterator<Item = Op>) -> Done {
        self.ops.extend(ops);
        let (kept, number) = (self.kept.clone(), self.ops.len());
        Box::new(move || kept.lock().unwrap().push(number))
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append(group, count) => {
                let first = model(&self.ops).get(&group).map_or(0, |(_, log)| log.len() as u64);
                let term = self.ops.len() as u64;
                let entry = |index| LogEntry { index, term, payload: LogPayload::Entry { judged: term, bytes: vec![b'e'; 40].into() } };
                let entries: Vec<LogEntry> = (first..first + u64::from(count)).map(entry).collect();
                let done = self.done(entries.iter().map(|entry| Op::Append { group, entry: entry.clone() }));
                self.writer.take_log(LogWrite::Append { group, entries, done });
            }
            Step::Cut(group, count) => {
                let kept = model(&self.ops).get(&group).map_or(0, |(_, log)| log.len() as u64).saturating_sub(u64::from(count));
                let after = kept.checked_sub(1);
                self.ops.push(Op::Cut { group, after });
                self.writer.take_log(LogWrite::Cut { group, after });
            }
            Step::Vote(group) => {
                let vote = self.ops.len() as u8;
                let done = self.done([Op::Vote { group, vote }]);
                self.writer.take_log(LogWrite::Vote { group, vote: [vote].into(), done });
            }
            Step::Committed(group) => self.writer.take_log(LogWrite::Committed { group, index: self.ops.len() as u64 }),
            Step::Seal(group) => self.writer.take_log(LogWrite::Seal { group, index: self.ops.len() as u64 }),
            Step::Barrier => {
                let (synced, number) = (self.synced.clone(), self.ops.len());
                self.writer.take_log(LogWrite::Sync { done: Box::new(move || *synced.lock().unwrap() = number) });
            }
            Step::Send => {
                self.tickets += 1;
                let change = added(self.tickets, &format!("t/{}", self.tickets));
                self.writer.take(SHARD, &appends(self.tickets, vec![change]), &mut self.answers);
            }
            Step::Commit => self.writer.commit(self.now, &mut self.answers),
            Step::Rest => self.writer.rest(self.now, &mut self.answers),
            Step::Retry => self.writer.retry(self.now, &mut self.answers),
            Step::Wait => self.now = self.now.after_ms(700),
            Step::Sync => self.sync(),
            Step::Close => drop(self.writer.close(self.now, &mut self.answers)),
            Step::Fault(fault) => self.disk.set_fault(fault),
            Step::Fold => self.fold(),
            Step::Kill => {
                let at_least = if self.ack == Ack::Memory { self.kept_votes() } else { self.kept_max() };
                self.restart(self.disk.after_kill(), at_least).unwrap_or_else(|error| panic!("killed: {error}"));
            }
            Step::PowerLoss(seed) => {
                let at_least = if self.ack == Ack::Durable { self.kept_max() } else { self.kept_votes() };
                self.restart(self.disk.after_power_loss(seed), at_least).unwrap_or_else(|error| panic!("power lost: {error}"));
            }
        }
        self.writer.poll_kept().into_iter().for_each(|done| done());
    }

    fn sync(&mut self) {
        self.writer.ask_sync();
        for (sync, through) in self.writer.poll_syncs() {
            let result = sync();
            self.writer.handle_synced(through, &result);
        }
    }

    fn fold(&mut self) {
        self.waiting.extend(self.writer.poll_sealed());
        for Sealed { segment, first_record, until } in self.waiting.drain(..) {
            let bytes = self.disk.read(segment, usize::MAX).unwrap();
            read_segment(&bytes, Expected { salt: SALT, from: first_record, until: Some(until) }, |read| {
                if read.number > self.through {
                    apply(&mut self.folded, &read.record);
                }
            });
            self.through = self.through.max(until - 1);
            self.writer.handle_folded(self.through);
            self.disk.remove(segment).unwrap();
        }
    }

    /// The highest operation that is said to be kept.
    fn kept_max(&self) -> usize {
        self.kept.lock().unwrap().iter().copied().max().unwrap_or(0).max(*self.synced.lock().unwrap())
    }

    /// The highest that is said to survive a loss of power whatever acknowledgements promise.
    fn kept_votes(&self) -> usize {
        let kept = self.kept.lock().unwrap();
        let votes = kept.iter().copied().filter(|number| matches!(self.ops[number - 1], Op::Vote { .. }));
        votes.max().unwrap_or(0).max(*self.synced.lock().unwrap())
    }

    /// What comes back is what some of the operations add up to, all before those that were kept among them. Returns how many.
    fn check(&self, mut disk: Faulty, at_least: usize) -> Result<(Journal, usize), String> {
        let mut found = self.folded.clone();
        let journal =
            replay(&mut disk, SALT, self.through, &mut |record| apply(&mut found, record)).map_err(|error| format!("{error:?}"))?;
        // What is committed is said of a group that may not be known by anything else.
        let found = model_of(&found);
        let is_same = |ops: &[Op]| {
            let expected = model(ops);
            let none = (None, Vec::new());
            let groups: Vec<u16> = expected.keys().chain(found.keys()).copied().collect();
            groups.iter().all(|group| expected.get(group).unwrap_or(&none) == found.get(group).unwrap_or(&none))
        };
        match (at_least..=self.ops.len()).rev().find(|count| is_same(&self.ops[..*count])) {
            Some(prefix) => Ok((journal, prefix)),
            None => Err(format!("{} operations, at least {at_least} kept; found {found:?}; {journal:?}", self.ops.len())),
        }
    }

    fn restart(&mut self, mut disk: Faulty, at_least: usize) -> Result<(), String> {
        let (journal, prefix) = self.check(disk.clone(), at_least)?;
        journal.settle(&mut disk).unwrap();
        let Journal { next_record, last_segment, sealed, .. } = journal;
        self.writer = writer(&disk, self.ack, Position { salt: SALT, next_record, last_segment, checkpoint: self.through });
        (self.disk, self.waiting) = (disk, sealed);
        self.ops.truncate(prefix);
        // Who waited is told no more.
        (self.kept, self.synced) = (Arc::new(Mutex::new((1..=prefix).collect())), Arc::new(Mutex::new(prefix)));
        Ok(())
    }
}

fn writer(disk: &Faulty, ack: Ack, position: Position) -> Writer {
    let limits = WriterLimits { ack, shards: 1, segment_bytes: 1500, segment_age_ms: 1000 };
    Writer::new(Box::new(disk.clone()), limits, position, Arc::default())
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Append(u16, u8),
    Cut(u16, u8),
    Vote(u16),
    Committed(u16),
    Seal(u16),
    Barrier,
    Send,
    Commit,
    Rest,
    Retry,
    Wait,
    Sync,
    Close,
    Fault(Fault),
    Fold,
    Kill,
    PowerLoss(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fault = prop_oneof![
        3 => Just(Fault::None),
        1 => (0..400_usize).prop_map(|kept| Fault::Full { kept }),
        1 => Just(Fault::Sync),
    ];
    let group = || 0..3_u16;
    let step = prop_oneof![
        6 => (group(), 1..6_u8).prop_map(|(group, count)| Step::Append(group, count)),
        2 => (group(), 0..6_u8).prop_map(|(group, count)| Step::Cut(group, count)),
        3 => group().prop_map(Step::Vote),
        2 => group().prop_map(Step::Committed),
        1 => group().prop_map(Step::Seal),
        1 => Just(Step::Barrier),
        2 => Just(Step::Send),
        6 => Just(Step::Commit),
        2 => Just(Step::Rest),
        2 => Just(Step::Retry),
        1 => Just(Step::Wait),
        2 => Just(Step::Sync),
        1 => Just(Step::Close),
        2 => fault.prop_map(Step::Fault),
        1 => Just(Step::Fold),
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
        let kept_over_kill = if ack == Ack::Memory { world.kept_votes() } else { world.kept_max() };
        let kept_over_power_loss = if ack == Ack::Durable { world.kept_max() } else { world.kept_votes() };
        world.check(world.disk.after_kill(), kept_over_kill).unwrap_or_else(|error| panic!("killed after step {at}: {error}"));
        let lost = world.disk.after_power_loss(seed.wrapping_add(at as u64));
        world.check(lost, kept_over_power_loss).unwrap_or_else(|error| panic!("power lost after step {at}: {error}"));
    }
}

/// A system that drops what it could not sync loses it also for who only waited for the write.
fn without_sync_faults(steps: Vec<Step>) -> Vec<Step> {
    steps.into_iter().filter(|step| !matches!(step, Step::Fault(Fault::Sync))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn durable_logs_survive_every_crash(steps in steps(), seed in any::<u64>()) {
        check_crashes(Ack::Durable, &steps, seed);
    }

    #[test]
    fn written_logs_survive_a_kill_and_votes_a_loss_of_power(steps in steps(), seed in any::<u64>()) {
        check_crashes(Ack::Written, &without_sync_faults(steps), seed);
    }

    #[test]
    fn votes_survive_a_loss_of_power_though_nothing_else_is_promised(steps in steps(), seed in any::<u64>()) {
        check_crashes(Ack::Memory, &without_sync_faults(steps), seed);
    }
}

#[test]
fn a_full_disk_keeps_who_appends_waiting_and_loses_nothing() {
    for ack in [Ack::Written, Ack::Durable] {
        let mut world = World::new(ack);
        let steps =
            [Step::Append(1, 3), Step::Commit, Step::Fault(Fault::Full { kept: 90 }), Step::Append(1, 2), Step::Vote(2), Step::Commit];
        steps.into_iter().for_each(|step| world.step(step));
        assert_eq!(*world.kept.lock().unwrap(), [3]);
        [Step::Retry, Step::Fault(Fault::None), Step::Retry].into_iter().for_each(|step| world.step(step));
        assert_eq!(*world.kept.lock().unwrap(), [3, 5, 6]);
        world.check(world.disk.after_kill(), 6).unwrap();
    }
}

#[test]
fn a_vote_waits_for_the_sync_of_what_is_before_it() {
    let mut world = World::new(Ack::Written);
    // The second segment begins, and the first is not synced yet.
    [Step::Append(0, 20), Step::Commit, Step::Append(0, 1), Step::Commit].into_iter().for_each(|step| world.step(step));
    [Step::Vote(0), Step::Commit].into_iter().for_each(|step| world.step(step));
    assert_eq!(*world.kept.lock().unwrap(), [20, 21]);
    world.step(Step::Sync);
    assert_eq!(*world.kept.lock().unwrap(), [20, 21, 22]);
    [Step::Vote(1), Step::Commit].into_iter().for_each(|step| world.step(step));
    assert_eq!(world.kept_votes(), 23, "nothing is before it any more, so it is synced at once");
}
