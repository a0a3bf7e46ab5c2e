//! Nodes, the network between them and their receivers, on one thread under a clock that stands still until all wait.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tidewire::surface::consensus::{Asker, Engine, GroupId, Handle, News, NodeId, Options, Piece, Proposal, Start};
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::Instant;

use crate::audit::{Audit, Life};
use crate::network::{Network, Weather};
use crate::random::Random;
use crate::receiver::Receiver;

/// How long it may take until all is well again once nothing fails.
const REST_MS: u64 = 30_000;

/// When a node is told that what it has may be old.
const STALE_MS: u64 = 1500;

/// What receivers are told of each group before they take it.
const WINDOW_BYTES: usize = 1000;

pub struct World {
    /// Groups beside the slow one.
    groups: u16,
    pub random: Random,
    pub network: Network,
    pub audit: Audit,
    pub nodes: BTreeMap<NodeId, Node>,
    /// What nodes were told, in order, and by whom.
    news: Rc<RefCell<VecDeque<(Life, News)>>>,
    names: u64,
    /// Of which node in which life, without an answer.
    questions: BTreeSet<(Life, u64)>,
    /// Groups whose members have changed as was asked.
    members: BTreeSet<GroupId>,
    /// By group, when how many entries had been handed on somewhere.
    handed_on: Vec<Vec<(Instant, u64)>>,
    trace: DefaultHasher,
    began: Instant,
}

pub struct Node {
    life: u64,
    /// What outlives the node: its logs, and the last snapshots that its receivers have kept.
    starts: Vec<Start>,
    kept: Vec<Vec<Bytes>>,
    /// Pieces of others' snapshots that have come.
    staged: Vec<Vec<Bytes>>,
    receivers: Vec<Receiver>,
    /// The term that the node leads each group in, as its receivers were told.
    pub leads: Vec<Option<u64>>,
    /// Whether what it has of each group is fresh, as its receivers were told.
    pub fresh: Vec<bool>,
    /// What was handed on of each group and not taken yet.
    owed: Vec<usize>,
    running: Option<Running>,
}

struct Running {
    /// Not there while the node opens.
    handle: Rc<RefCell<Option<Handle>>>,
    tasks: JoinHandle<()>,
}

impl World {
    /// A cluster of `voters` that is founded.
    pub async fn new(seed: u64, voters: NodeId) -> Self {
        let mut world = Self {
            // Every other one is of one group, which takes half the time.
            groups: (seed % 2) as u16,
            random: Random::new(seed),
            network: Network::new(seed),
            audit: Audit::default(),
            nodes: BTreeMap::new(),
            news: Rc::default(),
            names: 0,
            questions: BTreeSet::new(),
            members: BTreeSet::new(),
            handed_on: vec![Vec::new(); usize::from(seed as u16 % 2) + 1],
            trace: DefaultHasher::new(),
            began: Instant::now(),
        };
        (1..=voters).for_each(|id| world.start(id));
        world.step(5).await;
        world.handle(1).unwrap().found((1..=voters).collect());
        while world.groups().any(|group| world.leader(group).is_none()) {
            world.step(20).await;
        }
        world
    }

    fn options(&mut self, id: NodeId) -> Options {
        Options {
            groups: self.groups,
            append_bytes_max: 600,
            append_entries_max: 8,
            queue_proposals_max: 8,
            open_bytes_max: 2000,
            window_bytes: WINDOW_BYTES,
            snapshot_bytes: 4000,
            kept_bytes: 1200,
            snapshot_piece_ms: 1000,
            stale_ms: STALE_MS,
            ..Options::new(id, self.random.next())
        }
    }

    /// Starts a node that does not run, with what it has kept; a new one has nothing.
    pub fn start(&mut self, id: NodeId) {
        let options = self.options(id);
        let groups = options.all_groups().count();
        let node = self.nodes.entry(id).or_insert_with(|| Node {
            life: 0,
            // A clone would be the same log.
            starts: (0..groups).map(|_| Start::default()).collect(),
            kept: vec![Vec::new(); groups],
            staged: Vec::new(),
            receivers: Vec::new(),
            leads: Vec::new(),
            fresh: Vec::new(),
            owed: Vec::new(),
            running: None,
        });
        assert!(node.running.is_none());
        node.life += 1;
        let restore = |(start, kept): (&Start, &Vec<Bytes>)| {
            start.snapshot.as_ref().map(|position| Receiver::from_snapshot(position, kept)).unwrap_or_default()
        };
        node.receivers = node.starts.iter().zip(&node.kept).map(restore).collect();
        node.staged = vec![Vec::new(); groups];
        node.leads = vec![None; groups];
        node.fresh = vec![false; groups];
        node.owed = vec![0; groups];
        let (starts, life, news, network) = (node.starts.clone(), (id, node.life), self.news.clone(), self.network.clone());
        let handle = Rc::new(RefCell::new(None));
        let tasks = LocalSet::new();
        let opened = handle.clone();
        tasks.spawn_local(async move {
            let notify = move |heard| news.borrow_mut().push_back((life, heard));
            let (engine, handle) = Engine::open(options, starts, network.dial(id), notify).await.unwrap();
            network.join(id, engine.inbox());
            *opened.borrow_mut() = Some(handle);
            engine.run().await;
        });
        node.running = Some(Running { handle, tasks: tokio::task::spawn_local(tasks) });
    }

    /// Ends a node at once, as a power loss does: nothing of it runs any more.
    pub async fn crash(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).unwrap();
        let Some(Running { tasks, .. }) = node.running.take() else { return };
        tasks.abort();
        let _ = tasks.await;
        self.network.leave(id);
        let life = (id, self.nodes[&id].life);
        self.news.borrow_mut().retain(|(of, _)| *of != life);
        self.audit.end(life);
    }

    /// The node is never seen again.
    pub async fn forget(&mut self, id: NodeId) {
        self.crash(id).await;
        self.nodes.remove(&id);
    }

    /// Makes `new` a voter of all groups in the place of `old`.
    pub async fn replace(&mut self, old: NodeId, new: NodeId) {
        let voters: BTreeSet<NodeId> = self.nodes.keys().copied().collect();
        assert!(!voters.contains(&old) && voters.contains(&new));
        for group in self.groups() {
            self.until_member(group, |handle| handle.add_learner(group, new)).await;
            self.until_member(group, |handle| handle.set_voters(group, voters.clone())).await;
        }
    }

    /// Asks whoever leads until it says that it is done.
    async fn until_member(&mut self, group: GroupId, ask: impl Fn(Handle)) {
        self.members.clear();
        let until = Instant::now() + Duration::from_millis(REST_MS);
        while !self.members.contains(&group) {
            assert!(Instant::now() < until, "{group:?}: members change");
            self.leader(group).and_then(|leader| self.handle(leader)).into_iter().for_each(&ask);
            self.step(200).await;
        }
    }

    pub fn is_running(&self, id: NodeId) -> bool {
        self.nodes[&id].running.is_some()
    }

    pub fn handle(&self, id: NodeId) -> Option<Handle> {
        self.nodes[&id].running.as_ref()?.handle.borrow().clone()
    }

    /// Lets time pass, and receivers hear what they are told.
    pub async fn step(&mut self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        loop {
            let next = self.news.borrow_mut().pop_front();
            let Some((life, news)) = next else {
                self.check_freshness();
                return self.take();
            };
            (self.began.elapsed(), life).hash(&mut self.trace);
            self.trace_news(&news);
            self.hear(life, news);
        }
    }

    /// Receivers take what they were told, now or at another time.
    fn take(&mut self) {
        for node in self.nodes.values_mut() {
            let Some(handle) = node.running.as_ref().and_then(|running| running.handle.borrow().clone()) else { continue };
            for (group, owed) in (0..).map(GroupId).zip(&mut node.owed) {
                if *owed > 0 && self.random.percent(60) {
                    handle.took(group, std::mem::take(owed));
                }
            }
        }
    }

    fn hear(&mut self, life: Life, news: News) {
        let node = self.nodes.get_mut(&life.0).unwrap();
        match news {
            News::Committed { group, entries, bytes } => {
                let receiver = &mut node.receivers[usize::from(group.0)];
                for (place, committed) in &entries {
                    receiver.apply(*place, committed);
                    self.audit.commit(life, group, *place, committed, receiver);
                }
                let (next, seen) = (receiver.next_index(), &mut self.handed_on[usize::from(group.0)]);
                if seen.last().is_none_or(|(_, last)| *last < next) {
                    seen.push((Instant::now(), next));
                }
                let owed = &mut node.owed[usize::from(group.0)];
                assert!(*owed < WINDOW_BYTES, "{life:?} {group:?}: nothing is handed on while the window is closed");
                *owed += bytes;
            }
            News::Leads { group, term, index } => {
                assert_eq!(node.receivers[usize::from(group.0)].next_index(), index + 1, "who leads has been told of all before");
                node.leads[usize::from(group.0)] = Some(term);
                self.audit.lead(life, group, term);
            }
            News::Follows { group, .. } => node.leads[usize::from(group.0)] = None,
            News::Fresh { group, is_fresh } => {
                let was_fresh = std::mem::replace(&mut node.fresh[usize::from(group.0)], is_fresh);
                assert_ne!(was_fresh, is_fresh, "it is told when it changes");
            }
            News::Heirless { group } => panic!("{life:?} {group:?}: there are others"),
            News::Lost { ticket, fate, .. } => self.audit.lose(life, ticket, fate),
            News::Members { group, outcome: Ok(()) } => drop(self.members.insert(group)),
            News::Members { .. } => {}
            News::Ended { group, reason } => panic!("{life:?} {group:?} has ended: {reason}"),
            // The answer is the question.
            News::Asked { group, call, bytes } => self.handle(life.0).unwrap().answer(group, call, bytes),
            News::Answered { ticket, answer, .. } => {
                assert!(answer.as_ref().map_or(true, |bytes| **bytes == ticket.to_le_bytes()), "an answer is to its question");
                assert!(self.questions.remove(&(life, ticket)), "it comes once, to who has asked");
                self.audit.figures.answered += u64::from(answer.is_ok());
            }
            snapshot => self.hear_snapshot(life, snapshot),
        }
    }

    fn hear_snapshot(&mut self, life: Life, news: News) {
        let handle = self.handle(life.0).unwrap();
        let node = self.nodes.get_mut(&life.0).unwrap();
        match news {
            News::Build { group, position, .. } => {
                let at = usize::from(group.0);
                node.kept[at] = node.receivers[at].snapshot(&position);
                node.starts[at].snapshot = Some(position.clone());
                handle.built(group, position);
            }
            News::Read { group, position, number, reader } => {
                let at = usize::from(group.0);
                let (kept, number) = (&node.kept[at], number as usize);
                let is_kept = node.starts[at].snapshot == Some(position);
                let piece = || Piece { bytes: kept[number].clone(), is_last: number + 1 == kept.len() };
                handle.read(group, reader, is_kept.then(piece));
            }
            News::Piece { group, number, bytes, .. } => {
                let staged = &mut node.staged[usize::from(group.0)];
                if number == 0 {
                    staged.clear();
                }
                assert_eq!(staged.len() as u64, number, "pieces come in order");
                staged.push(bytes);
                handle.staged(group);
            }
            News::Install { group, position } => {
                let at = usize::from(group.0);
                node.kept[at] = std::mem::take(&mut node.staged[at]);
                node.receivers[at] = Receiver::from_snapshot(&position, &node.kept[at]);
                self.audit.install(group, &node.receivers[at]);
                node.starts[at].snapshot = Some(position);
                handle.installed(group);
            }
            News::Hurry { .. } => {}
            other => panic!("{other:?} is heard elsewhere"),
        }
    }

    /// Asks another node's receiver.
    pub fn ask(&mut self, id: NodeId, group: GroupId, to: NodeId) {
        let Some(handle) = self.handle(id) else { return };
        self.names += 1;
        self.questions.insert(((id, self.nodes[&id].life), self.names));
        handle.ask(group, to, Asker { number: 0, attempt: self.names }, self.names, self.names.to_le_bytes().to_vec().into());
    }

    /// Proposes `count` entries at a node, judged in `term`.
    pub fn propose(&mut self, id: NodeId, group: GroupId, term: u64, count: u64) {
        let Some(handle) = self.handle(id) else { return };
        let life = (id, self.nodes[&id].life);
        let is_stale = self.nodes[&id].leads[usize::from(group.0)].is_some_and(|leads| term < leads);
        let ticket = self.names + 1;
        self.names += count;
        let mut entries = Vec::new();
        for name in ticket..=self.names {
            let mut bytes = name.to_le_bytes().to_vec();
            bytes.resize(8 + self.random.below(150) as usize, 0);
            entries.push(Bytes::from(bytes));
            self.audit.propose(life, group, name, is_stale);
        }
        if handle.propose(Proposal { group, term, ticket, entries }).is_err() {
            (ticket..=self.names).for_each(|name| self.audit.take_back(life, name));
        }
    }

    pub fn groups(&self) -> impl Iterator<Item = GroupId> + use<> {
        (0..=self.groups).map(GroupId)
    }

    pub fn leader(&self, group: GroupId) -> Option<NodeId> {
        let leads = |node: &Node| node.leads.get(usize::from(group.0)).copied().flatten();
        self.nodes
            .iter()
            .filter(|(_, node)| node.running.is_some())
            .max_by_key(|(_, node)| leads(node))
            .filter(|(_, node)| leads(node).is_some())
            .map(|(id, _)| *id)
    }

    /// Ends all faults, and waits until each group has a leader whose proposals are committed at all nodes.
    pub async fn rest(&mut self) {
        self.network.heal();
        self.network.set_weather(Weather::FAIR);
        let down: Vec<NodeId> = self.nodes.keys().copied().filter(|id| !self.is_running(*id)).collect();
        down.into_iter().for_each(|id| self.start(id));
        self.heal_stores();
        let until = Instant::now() + Duration::from_millis(REST_MS);
        for group in self.groups() {
            let acknowledged = self.audit.figures.acknowledged;
            while self.audit.figures.acknowledged == acknowledged {
                assert!(Instant::now() < until, "{group:?}: a leader is there, and what it proposes is committed");
                self.step(50).await;
                if let Some(leader) = self.leader(group) {
                    let term = self.nodes[&leader].leads[usize::from(group.0)].unwrap();
                    self.propose(leader, group, term, 1);
                }
            }
        }
        // What was proposed last reaches all nodes by the next heartbeat or two.
        while !self.is_level() && Instant::now() < until {
            self.step(50).await;
        }
        assert!(self.nodes.values().all(|node| node.fresh.iter().all(|is_fresh| *is_fresh)), "all are fresh");
        let receivers = self.nodes.values().flat_map(|node| self.groups().zip(&node.receivers));
        self.audit.rest(receivers);
    }

    /// No node says any more that it cannot write.
    pub fn heal_stores(&self) {
        self.nodes.keys().filter_map(|id| self.handle(*id)).for_each(|handle| handle.falters(false));
    }

    /// Who was told that he is fresh has all that was handed on anywhere so long ago, and as long as it takes to be told otherwise.
    fn check_freshness(&self) {
        let Some(before) = Instant::now().checked_sub(Duration::from_millis(2 * STALE_MS)) else { return };
        for (id, node) in self.nodes.iter().filter(|(_, node)| node.running.is_some()) {
            for (group, seen) in self.handed_on.iter().enumerate().filter(|(group, _)| node.fresh[*group]) {
                let behind = seen.partition_point(|(at, _)| *at <= before).checked_sub(1).map_or(0, |last| seen[last].1);
                let next = node.receivers[group].next_index();
                assert!(next >= behind, "node {id}, group {group} is fresh and at {next}, others have been at {behind} long ago");
            }
        }
    }

    /// Whether all nodes have been told of as much, and nothing that was proposed is open.
    fn is_level(&self) -> bool {
        let is_level = |group: usize| {
            let nexts: BTreeSet<u64> = self.nodes.values().map(|node| node.receivers[group].next_index()).collect();
            nexts.len() == 1
        };
        let is_fresh = |node: &Node| node.fresh.iter().all(|is_fresh| *is_fresh);
        (0..=usize::from(self.groups)).all(is_level) && self.nodes.values().all(is_fresh) && !self.audit.has_open()
    }

    fn trace_news(&mut self, news: &News) {
        match news {
            News::Committed { group, entries, .. } => (0, group, entries[0].0, entries.len()).hash(&mut self.trace),
            News::Leads { group, term, index } => (1, group, term, index).hash(&mut self.trace),
            News::Follows { group, leader } => (2, group, leader).hash(&mut self.trace),
            News::Lost { group, ticket, .. } => (3, group, ticket).hash(&mut self.trace),
            News::Hurry { group, .. } => (12, group).hash(&mut self.trace),
            News::Build { group, position, .. } => (4, group, position.index()).hash(&mut self.trace),
            News::Install { group, position } => (5, group, position.index()).hash(&mut self.trace),
            News::Read { group, number, reader, .. } => (7, group, number, reader).hash(&mut self.trace),
            News::Piece { group, number, bytes, .. } => (8, group, number, bytes).hash(&mut self.trace),
            News::Asked { group, call, bytes } => (9, group, call, bytes).hash(&mut self.trace),
            News::Answered { group, ticket, answer } => (10, group, ticket, answer).hash(&mut self.trace),
            News::Heirless { group } => (14, group).hash(&mut self.trace),
            News::Fresh { group, is_fresh } => (13, group, is_fresh).hash(&mut self.trace),
            News::Members { group, .. } | News::Ended { group, .. } => (6, group).hash(&mut self.trace),
        }
    }

    /// What has happened, as one number.
    pub fn trace(&self) -> u64 {
        self.trace.finish()
    }
}
