//! Topics that several servers hold: what this shard proposes and forwards goes out, what groups' logs and other servers say comes in, a part a turn.

use super::Turns;
use crate::replica::{Said, Word};
use crate::runtime::now;
use crate::shard::{Landed, Replication};

/// Bytes of entries that are applied before connections get their turn.
const APPLIED_A_TURN: usize = 64 << 10;

impl Turns {
    /// Whether there is something to do that was not looked at.
    pub(super) fn has_words(&self) -> bool {
        !self.words.is_empty()
    }

    /// Hears a part of what has come; whether there was anything.
    pub(super) fn hear_words(&mut self) -> bool {
        let mut heard = 0;
        let any = self.has_words();
        while heard < APPLIED_A_TURN
            && let Some(word) = self.words.pop_front()
        {
            heard += self.hear_word(word).max(1024);
        }
        if any {
            self.carry_out();
        }
        any
    }

    fn hear_word(&mut self, word: Word) -> usize {
        let link = self.links.replica.as_ref().expect("only a server of a cluster hears of groups");
        let mut shard = Replication::of(&mut self.shard, now());
        match word {
            Word::Stale(is_stale) => shard.handle_staleness(is_stale),
            Word::Role { group, role } => shard.handle_role(group, role),
            Word::Said { group, said, bytes } => {
                for said in said {
                    match said {
                        Said::Entry { place, term, own, bytes } => {
                            let landed = Landed { group, place, term, own, entry: &bytes };
                            // Behind it nothing can be applied: this server would hold other topics than all others.
                            shard.handle_entry(landed).unwrap_or_else(|what| panic!("group {group}, place {place} of its log: {what}"));
                        }
                        Said::Confirmed { number, term } => shard.handle_confirmed(group, number, term),
                        Said::Lost { last, fate } => shard.handle_lost(group, last, fate),
                    }
                }
                link.took(group, bytes);
                return bytes;
            }
            Word::Installed { group, topics } => {
                let bytes = topics.iter().map(|(_, topic, _)| topic.value.as_ref().map_or(0, |value| value.len())).sum();
                shard.handle_installed(group, topics).unwrap_or_else(|what| panic!("group {group}, a snapshot: {what}"));
                return bytes;
            }
            Word::AllInstalled { group, place, made } => shard.handle_all_installed(group, place, &made),
            Word::Forwarded { group, term, from, number, request } => {
                if let Some(reply) = shard.handle_forwarded((group, term), from, number, &request) {
                    link.answer(number, reply);
                }
                return request.len();
            }
            Word::Reply { group, ticket, reply } => shard.handle_reply(group, ticket, reply.as_deref().map_err(|fate| *fate)),
        }
        0
    }

    /// Others lead meanwhile.
    pub(super) fn say_faltering(&self, falters: bool) {
        if let Some(link) = &self.links.replica {
            link.falters(falters);
        }
    }

    /// Sends what the shard has for logs and other servers; what there is no room for is tried again soon.
    pub(super) fn send_words(&mut self) {
        let Some(link) = &self.links.replica else { return };
        let mut shard = Replication::of(&mut self.shard, now());
        if let Some(proposals) = shard.poll_proposals() {
            let refused = link.propose(proposals);
            self.is_post_held |= !refused.is_empty();
            shard.return_proposals(refused);
        }
        while let Some(outgoing) = shard.poll_forward() {
            link.forward(outgoing);
        }
        for (number, reply) in shard.poll_replies() {
            link.answer(number, reply);
        }
    }
}
