//! Servers that hold topics as one. Nothing agrees on their logs but chance: it elects leaders, lets the end of a log be lost with the leader that put it there,
//! and tells each server late, or never, what the others do.
//!
//! A log is what all its servers will have; how far each has applied it is its own. What a leader proposes and is not in the log yet, or not committed, is lost
//! when another is elected, or not, as chance has it.

use crate::random::Random;
use std::collections::{BTreeMap, VecDeque};
use tidewire::surface::base::placement::owner_of;
use tidewire::surface::base::{SessionId, ShardIndex, Time};
use tidewire::surface::cluster::{Entry, Forward, Source};
use tidewire::surface::shard::{
    Effect, Fate, Forwarder, Identity, Landed, Leader, Limits, Outgoing, Proposal, Replication, Role, Shard, Storing,
};
use tidewire::surface::wire::native::{Ask, Request};

pub const SERVERS: usize = 3;
pub const GROUPS: u16 = 3;
/// Each server has as many as it has cores.
const SHARDS: [u16; SERVERS] = [2, 1, 3];
const WALL_MS: u64 = 1_700_000_000_000;

/// What stands in a group's log.
enum Stands {
    /// A leader's first word.
    Elected {
        server: usize,
        term: u64,
    },
    Proposed {
        server: usize,
        proposal: Proposal,
        term: u64,
    },
}

#[derive(Default)]
struct Log {
    entries: Vec<Stands>,
    /// So many of them stay for ever.
    committed: usize,
    term: u64,
    leader: usize,
}

/// What a server knows of a group.
#[derive(Default)]
struct Known {
    applied: usize,
    /// The term in which it believes that it leads.
    leads: Option<u64>,
    /// What its shards have proposed and the log does not have.
    out: VecDeque<(usize, Proposal)>,
    /// Confirmations that were asked for, with how long the log was then.
    asked: VecDeque<(usize, usize, Proposal)>,
    /// The number of each shard's last proposal that is not settled as far as the server knows.
    proposed: [u64; 3],
}

pub struct Server {
    shards: Vec<Shard>,
    groups: Vec<Known>,
    /// Somebody who asks.
    pub writer: SessionId,
    /// Somebody who is subscribed to everything.
    pub watcher: SessionId,
}

/// An update on its way from a shard to the server that it takes to lead.
#[derive(Clone)]
struct Call {
    from: usize,
    shard: usize,
    outgoing: Outgoing,
    is_stray: bool,
}

type Reply = (Call, Vec<u8>);

pub struct Nodes {
    pub random: Random,
    now: Time,
    logs: Vec<Log>,
    pub servers: Vec<Server>,
    /// On their way from a server to another, in order.
    calls: BTreeMap<(usize, usize), VecDeque<Call>>,
    /// Those that have come to where they go, by that server and their number there, and the answers on their way back.
    taken: BTreeMap<(usize, u64), Call>,
    replies: BTreeMap<(usize, usize), VecDeque<Reply>>,
    /// Those whose connection has ended, and that may come to where they go all the same, at any time.
    strays: Vec<(usize, Call)>,
    next_call: u64,
    /// Whether servers wait for a leader without end.
    pub is_patient: bool,
}

impl Nodes {
    /// So many bytes may be on their way from a shard to the log of a group.
    pub fn new(seed: u64, proposed_bytes_max: usize) -> Self {
        let mut random = Random::new(seed);
        let is_patient = random.percent(50);
        let leader_patience_ms = if is_patient { 600_000_000 } else { 3000 };
        let limits = Limits { groups: GROUPS, topics_max: 1000, proposed_bytes_max, leader_patience_ms, ..Limits::default() };
        let servers = (0..SERVERS).map(|server| Server::new(server, random.next(), &limits)).collect();
        let logs = (0..GROUPS).map(|_| Log::default()).collect();
        let (calls, taken, replies) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (now, strays, next_call) = (Time(1), Vec::new(), 0);
        let mut nodes = Self { random, now, logs, servers, calls, taken, replies, strays, next_call, is_patient };
        for server in 0..SERVERS {
            nodes.carry_out(server);
        }
        nodes
    }

    /// The writer of a server asks.
    pub fn ask(&mut self, server: usize, request: Request<'_>) {
        let at = &mut self.servers[server];
        assert!(at.shards[0].handle_inside(self.now, at.writer, request));
        self.carry_out(server);
    }

    /// What a session of a server was told since the last time.
    pub fn take(&mut self, server: usize, session: SessionId) -> Vec<u8> {
        let mut told = Vec::new();
        while self.servers[server].shards[0].poll_inside(self.now, session, &mut told) {}
        self.carry_out(server);
        told
    }

    /// Something happens that need not be asked for.
    pub fn step(&mut self) {
        self.now = self.now.after_ms(self.random.within(0, 3) as u64);
        let (server, group) = (self.random.below(SERVERS), self.random.below(usize::from(GROUPS)));
        let other = self.random.below(SERVERS);
        match self.random.below(142) {
            140..142 => self.take_stray(),
            100..118 => _ = self.take_call(server, other),
            118..136 => _ = self.take_reply(server, other),
            136 => self.disconnect(server, other),
            137..140 => self.tick(server),
            0..30 => self.append(server, group),
            30..55 => {
                let log = &mut self.logs[group];
                log.committed += self.random.within(0, log.entries.len() - log.committed);
            }
            55..98 => _ = self.apply(server, group),
            98 if self.random.percent(50) => self.give_up(server, group),
            98 => self.falter(server, group),
            _ if self.random.percent(60) => self.elect(group),
            _ => {}
        }
    }

    /// This server is elected in all groups, and nothing in their logs is lost.
    pub fn elect_everywhere(&mut self, leader: usize) {
        for log in &mut self.logs {
            log.term += 1;
            log.leader = leader;
            log.entries.push(Stands::Elected { server: leader, term: log.term });
        }
    }

    /// The next update that a server has forwarded comes to the other.
    fn take_call(&mut self, from: usize, to: usize) -> bool {
        let Some(call) = self.calls.get_mut(&(from, to)).and_then(VecDeque::pop_front) else { return false };
        self.bring(from, to, call);
        true
    }

    /// One whose connection has ended comes late. Nobody hears what is said of it.
    fn take_stray(&mut self) {
        if self.strays.is_empty() {
            return;
        }
        let number = self.random.below(self.strays.len());
        let (to, call) = self.strays.swap_remove(number);
        self.bring(call.from, to, call);
        let numbers: Vec<_> = self.taken.iter().filter(|((at, _), call)| *at == to && call.is_stray).map(|(key, _)| *key).collect();
        numbers.iter().for_each(|key| drop(self.taken.remove(key)));
        self.replies.values_mut().for_each(|replies| replies.retain(|(call, _)| !call.is_stray));
    }

    fn bring(&mut self, from: usize, to: usize, call: Call) {
        self.next_call += 1;
        let Outgoing { group, to: Leader { term, .. }, number, attempt, request, .. } = &call.outgoing;
        let path = &Forward::access(request).expect("it was made here").path;
        let shard = usize::from(owner_of(path, SHARDS[to]).0);
        let mut shard = Replication::of(&mut self.servers[to].shards[shard], self.now);
        let source = Source { server: from as u64 + 1, boot: 1, shard: call.shard as u16 };
        let forwarder = Forwarder { source, number: *number, attempt: *attempt };
        match shard.handle_forwarded((*group, *term), forwarder, self.next_call, request) {
            Some(reply) => self.replies.entry((to, from)).or_default().push_back((call, reply)),
            None => _ = self.taken.insert((to, self.next_call), call),
        }
        self.carry_out(to);
    }

    /// The next answer of a server comes back to the other.
    fn take_reply(&mut self, from: usize, to: usize) -> bool {
        let Some((call, reply)) = self.replies.get_mut(&(from, to)).and_then(VecDeque::pop_front) else { return false };
        self.return_call(&call, Ok(&reply));
        true
    }

    fn return_call(&mut self, call: &Call, reply: Result<&[u8], Fate>) {
        let shard = &mut self.servers[call.from].shards[call.shard];
        Replication::of(shard, self.now).handle_reply(call.outgoing.group, call.outgoing.ticket, reply);
        self.carry_out(call.from);
    }

    /// The connection by which a server asks another ends. What was on its way is lost, and the answers are.
    fn disconnect(&mut self, from: usize, to: usize) {
        for call in self.calls.remove(&(from, to)).unwrap_or_default() {
            let fate = if self.random.percent(50) { Fate::Void } else { Fate::Unknown };
            if fate == Fate::Unknown && self.random.percent(50) {
                self.strays.push((to, Call { is_stray: true, ..call.clone() }));
            }
            self.return_call(&call, Err(fate));
        }
        let numbers: Vec<_> = self.taken.iter().filter(|((at, _), call)| *at == to && call.from == from).map(|(key, _)| *key).collect();
        let mut lost: Vec<_> = numbers.iter().filter_map(|key| self.taken.remove(key)).collect();
        lost.extend(self.replies.remove(&(to, from)).unwrap_or_default().into_iter().map(|(call, _)| call));
        lost.iter().for_each(|call| self.return_call(call, Err(Fate::Unknown)));
    }

    /// So much time passes for a server's shards.
    pub fn pass(&mut self, server: usize, ms: u64) {
        for _ in 0..ms / 100 {
            self.now = self.now.after_ms(100);
            self.tick(server);
        }
    }

    /// Time passes for a server's shards.
    fn tick(&mut self, server: usize) {
        self.now = self.now.after_ms(self.random.within(0, 200) as u64);
        self.tick_at(server);
    }

    fn tick_at(&mut self, server: usize) {
        for shard in &mut self.servers[server].shards {
            shard.handle_tick(self.now, WALL_MS + server as u64 * 10_000 + self.now.0 / 1_000_000);
        }
        self.carry_out(server);
    }

    /// What this server has proposed is in the logs, is committed, and the server knows it; the others may not.
    pub fn settle(&mut self, server: usize) {
        for group in 0..usize::from(GROUPS) {
            while !self.servers[server].groups[group].out.is_empty() && self.logs[group].leader == server {
                self.append(server, group);
            }
            self.logs[group].committed = self.logs[group].entries.len();
            while self.apply(server, group) {}
        }
    }

    /// All is well from now on: whoever leads is known, and what is proposed is applied everywhere.
    pub fn heal(&mut self) {
        for group in 0..usize::from(GROUPS) {
            self.elect(group);
        }
        loop {
            for group in 0..usize::from(GROUPS) {
                for server in 0..SERVERS {
                    self.append(server, group);
                    if self.logs[group].leader != server {
                        // Nobody takes it from there.
                        self.servers[server].groups[group].out.clear();
                    }
                }
                self.logs[group].committed = self.logs[group].entries.len();
                for server in 0..SERVERS {
                    while self.apply(server, group) {}
                }
            }
            let mut is_still = true;
            for (from, to) in (0..SERVERS).flat_map(|from| (0..SERVERS).map(move |to| (from, to))) {
                while self.take_call(from, to) || self.take_reply(from, to) {
                    is_still = false;
                }
            }
            // What was not reached is tried again.
            (0..SERVERS).for_each(|server| self.tick_at(server));
            is_still &= self.calls.values().all(VecDeque::is_empty);
            is_still &= self.servers.iter().flat_map(|server| &server.groups).all(|known| known.out.is_empty() && known.asked.is_empty());
            if is_still {
                return;
            }
        }
    }

    /// Topics that shards take to be on their way.
    pub fn topics_ahead(&mut self) -> isize {
        let shards = self.servers.iter_mut().flat_map(|server| &mut server.shards);
        shards.map(|shard| Replication::of(shard, self.now).topics_ahead().abs()).sum()
    }

    /// What a server's shards have proposed reaches the log, if the server leads. One that believes so and does not has its proposals refused by all others.
    fn append(&mut self, server: usize, group: usize) {
        let (log, known) = (&mut self.logs[group], &mut self.servers[server].groups[group]);
        let some = self.random.within(0, known.out.len());
        let leads = log.leader == server && log.term > 0;
        // What was decided in an earlier term may come to the log late: by a server that leads again.
        for (shard, proposal) in known.out.drain(..if leads { some } else { 0 }) {
            match proposal.entry {
                Some(_) => log.entries.push(Stands::Proposed { server, proposal, term: log.term }),
                None => known.asked.push_back((shard, log.entries.len(), proposal)),
            }
        }
        self.confirm(server, group);
    }

    /// Another server is elected, or the same again. What was not committed may be gone.
    fn elect(&mut self, group: usize) {
        let log = &mut self.logs[group];
        let kept = self.random.within(log.committed, log.entries.len());
        log.entries.truncate(kept);
        log.term += 1;
        log.leader = self.random.below(SERVERS);
        log.entries.push(Stands::Elected { server: log.leader, term: log.term });
    }

    /// A server that hears of nobody for a while leads no more, and says that it does not know.
    fn give_up(&mut self, server: usize, group: usize) {
        if self.servers[server].groups[group].leads.take().is_none() {
            return;
        }
        self.lose(server, group, Fate::Unknown);
        self.carry_out(server);
    }

    /// A server hears of nobody for a moment, and leads on in the same term.
    fn falter(&mut self, server: usize, group: usize) {
        let log = &self.logs[group];
        let Some(term) = self.servers[server].groups[group].leads.filter(|term| log.leader == server && log.term == *term) else { return };
        for role in [Role::Follows { leader: None }, Role::Leads { term }] {
            for shard in &mut self.servers[server].shards {
                Replication::of(shard, self.now).handle_role(group as u16, role);
            }
        }
        self.carry_out(server);
    }

    /// The server is told of the next that is committed; whether there was anything.
    fn apply(&mut self, server: usize, group: usize) -> bool {
        let (log, known) = (&self.logs[group], &mut self.servers[server].groups[group]);
        if known.applied == log.committed {
            return false;
        }
        let index = known.applied;
        known.applied += 1;
        match &log.entries[index] {
            Stands::Elected { server: elected, term } => {
                let (elected, term) = (*elected, *term);
                let leads = elected == server;
                // What was proposed before and has not come by now never will.
                self.lose(server, group, Fate::Void);
                let leader = Some(Leader { server: elected as u64 + 1, term });
                let role = if leads { Role::Leads { term } } else { Role::Follows { leader } };
                self.servers[server].groups[group].leads = leads.then_some(term);
                for shard in &mut self.servers[server].shards {
                    Replication::of(shard, self.now).handle_role(group as u16, role);
                }
            }
            Stands::Proposed { server: from, proposal, term } => {
                let entry = proposal.entry.as_deref().expect("what is in the log is an entry");
                let path = Entry::decode(entry).expect("it was encoded").path;
                let to = usize::from(owner_of(path, SHARDS[server]).0);
                let own = (*from == server).then_some(proposal.number);
                let landed = Landed { group: group as u16, place: index as u64 + 1, term: *term, own, entry };
                // What is told again changes nothing.
                for _ in 0..self.random.within(1, 2) {
                    Replication::of(&mut self.servers[server].shards[to], self.now).handle_entry(landed).expect("it was decided here");
                }
            }
        }
        self.carry_out(server);
        self.confirm(server, group);
        true
    }

    /// Whoever wanted to know that the server leads still is told so, once all before is applied.
    fn confirm(&mut self, server: usize, group: usize) {
        let log = &self.logs[group];
        let Server { shards, groups, .. } = &mut self.servers[server];
        let known = &mut groups[group];
        while let Some((shard, length, proposal)) = known.asked.front() {
            if known.applied < *length || log.leader != server {
                break;
            }
            let mut shard = Replication::of(&mut shards[*shard], self.now);
            if log.term == proposal.term {
                shard.handle_confirmed(group as u16, proposal.number, log.term);
            } else {
                shard.handle_lost(group as u16, proposal.number, Fate::Void);
            }
            known.asked.pop_front();
        }
        self.carry_out(server);
    }

    /// What the server has proposed and does not know to be applied is lost to it.
    fn lose(&mut self, server: usize, group: usize, fate: Fate) {
        let Server { shards, groups, .. } = &mut self.servers[server];
        let known = &mut groups[group];
        known.asked.clear();
        // Some of what waits may still go on its way: it is void then.
        if self.random.percent(50) {
            known.out.clear();
        }
        for (shard, proposed) in shards.iter_mut().zip(known.proposed) {
            let mut shard = Replication::of(shard, self.now);
            if fate == Fate::Unknown {
                shard.handle_role(group as u16, Role::Follows { leader: None });
            }
            shard.handle_lost(group as u16, proposed, fate);
        }
    }

    fn carry_out(&mut self, server: usize) {
        let Self { servers, calls, taken, replies, .. } = self;
        let Server { shards, groups, .. } = &mut servers[server];
        loop {
            let mut is_quiet = true;
            for from in 0..shards.len() {
                while shards[from].poll_effect().is_some_and(|effect| matches!(effect, Effect::Inside(_))) {}
                if shards[from].has_walks() {
                    shards[from].run_slice(self.now);
                    is_quiet = false;
                }
                for to in 0..shards.len() {
                    if let Some(batch) = shards[from].poll_mail(ShardIndex(to as u16)) {
                        shards[to].handle_mail(self.now, ShardIndex(from as u16), batch);
                        is_quiet = false;
                    }
                }
                let mut shard = Replication::of(&mut shards[from], self.now);
                while let Some(outgoing) = shard.poll_forward() {
                    let to = outgoing.to.server as usize - 1;
                    calls.entry((server, to)).or_default().push_back(Call { from: server, shard: from, outgoing, is_stray: false });
                }
                for (number, reply) in shard.poll_replies() {
                    // Nobody waits where the connection has ended.
                    if let Some(call) = taken.remove(&(server, number)) {
                        replies.entry((server, call.from)).or_default().push_back((call, reply));
                    }
                }
                for proposal in shard.poll_proposals().unwrap_or_default() {
                    let known = &mut groups[usize::from(proposal.group)];
                    known.proposed[from] = proposal.number;
                    known.out.push_back((from, proposal));
                }
            }
            if is_quiet {
                return;
            }
        }
    }
}

impl Server {
    fn new(server: usize, secret: u64, limits: &Limits) -> Self {
        let shard = |index| {
            let identity = Identity {
                index: ShardIndex(index),
                count: SHARDS[server],
                server: format!("server {server}"),
                run: server as u64 + 1,
                start: 1,
                storing: Storing::Off,
                topics_base: 0,
                node: server as u64 + 1,
                secret: [secret as u8; 32],
            };
            // No clock is right.
            Shard::new(identity, limits.clone(), Time(1), WALL_MS + server as u64 * 10_000)
        };
        let mut shards: Vec<Shard> = (0..SHARDS[server]).map(shard).collect();
        let (writer, watcher) = (shards[0].open_inside(Time(1)), shards[0].open_inside(Time(1)));
        let ask = Ask::Subscribe { selector: "?.*//".into(), scope: "".into() };
        assert!(shards[0].handle_inside(Time(1), watcher, Request { id: 1, ask }));
        Self { shards, groups: (0..GROUPS).map(|_| Known::default()).collect(), writer, watcher }
    }
}
