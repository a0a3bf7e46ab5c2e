//! A shard's way to the engine. Nothing here waits.

use super::outstanding::Outstanding;
use super::{head, pack, unpack};
use crate::base::ShardIndex;
use crate::cluster::Source;
use crate::consensus::{self, Asker, GroupId, Handle};
use crate::shard::{Forwarder, Outgoing, Proposal};
use bytes::Bytes;
use std::iter::Peekable;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec::IntoIter;

/// What shards have proposed to groups and have not heard of: by shard, and by group.
pub type Ledger = Arc<[Box<[Mutex<Outstanding>]>]>;

pub fn ledger(shards: u16, groups: u16) -> Ledger {
    (0..shards).map(|_| (0..groups).map(|_| Mutex::default()).collect()).collect()
}

pub fn outstanding(ledger: &Ledger, shard: u16, group: u16) -> MutexGuard<'_, Outstanding> {
    ledger[usize::from(shard)][usize::from(group)].lock().unwrap_or_else(PoisonError::into_inner)
}

/// See the module.
#[derive(Clone)]
pub struct Link {
    /// The server and its process.
    server: (u64, u64),
    shard: ShardIndex,
    handle: Handle,
    ledger: Ledger,
}

impl Link {
    pub(super) fn new(server: (u64, u64), shard: ShardIndex, handle: Handle, ledger: Ledger) -> Self {
        Self { server, shard, handle, ledger }
    }

    /// Whether the server's store cannot write, which one shard says for all.
    pub fn falters(&self, falters: bool) {
        if self.shard.0 == 0 {
            self.handle.falters(falters);
        }
    }

    /// Puts proposals to their logs, those of a group in order. Those that there is no room for come back.
    pub fn propose(&self, mut proposals: Vec<Proposal>) -> Vec<Proposal> {
        proposals.sort_by_key(|proposal| proposal.group);
        let (mut refused, mut is_full) = (Vec::new(), None);
        let mut rest = proposals.into_iter().peekable();
        while let Some(batch) = next_batch(&mut rest) {
            // What comes behind one that was refused is refused too.
            if is_full == Some(batch[0].group) {
                refused.extend(batch);
                continue;
            }
            let group = batch[0].group;
            let back = self.propose_batch(batch);
            is_full = if back.is_empty() { is_full } else { Some(group) };
            refused.extend(back);
        }
        refused
    }

    /// Proposals of one group and term with numbers that follow each other.
    fn propose_batch(&self, mut batch: Vec<Proposal>) -> Vec<Proposal> {
        let (group, term) = (batch[0].group, batch[0].term);
        // One without an entry says what any behind it says too.
        let first = batch.iter().position(|proposal| proposal.entry.is_some()).unwrap_or(batch.len() - 1);
        let ticket = batch[first].number;
        let entries: Vec<Bytes> = batch[first..].iter_mut().map(|proposal| proposal.entry.take().unwrap_or_default().into()).collect();
        let mut outstanding = outstanding(&self.ledger, self.shard.0, group);
        (ticket..).take(entries.len()).for_each(|number| outstanding.push(number));
        let proposal = consensus::Proposal { group: GroupId(group), term, ticket: pack(self.shard.0, ticket), entries };
        let Err(refused) = self.handle.propose(proposal) else { return Vec::new() };
        outstanding.take_back(ticket);
        for (proposal, entry) in batch[first..].iter_mut().zip(refused.entries) {
            // A proposal without an entry went as an empty one.
            proposal.entry = (!entry.is_empty()).then(|| entry.into());
        }
        batch
    }

    /// Sends an update to the server that leads its group.
    pub fn forward(&self, outgoing: Outgoing) {
        let Outgoing { group, to, number, ticket, attempt, request } = outgoing;
        let (server, boot) = self.server;
        let from = Forwarder { source: Source { server, boot, shard: self.shard.0 }, number, attempt };
        let bytes = [&head(to.term, from)[..], &request].concat();
        let asker = Asker { number: self.shard.0, attempt };
        self.handle.ask(GroupId(group), to.server, asker, pack(self.shard.0, ticket), bytes.into());
    }

    /// Answers an update that another server has forwarded.
    pub fn answer(&self, number: u64, reply: Vec<u8>) {
        let (group, call) = unpack(number);
        self.handle.answer(GroupId(group), call, reply.into());
    }

    /// The shard has taken so much of what a group's log says.
    pub fn took(&self, group: u16, bytes: usize) {
        self.handle.took(GroupId(group), bytes);
    }
}

/// The next proposals of one group and term whose numbers follow each other.
fn next_batch(rest: &mut Peekable<IntoIter<Proposal>>) -> Option<Vec<Proposal>> {
    let mut batch = vec![rest.next()?];
    let mut bytes = 0;
    while let Some(next) = rest.next_if(|next| {
        let last = &batch[batch.len() - 1];
        bytes < super::WORD_BYTES && (next.group, next.term, next.number) == (last.group, last.term, last.number + 1)
    }) {
        bytes += next.entry.as_ref().map_or(0, Vec::len);
        batch.push(next);
    }
    Some(batch)
}
