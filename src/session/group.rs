//! A shared subscription's members, and whose turn it is.
//!
//! In turn, of those that have a message soonest. They are found by their sessions and by how they stand: there may be very many, and a member's standing
//! may change with every message.

use super::Caller;
use super::mqtt::Standing;
use crate::base::{SessionId, ShardIndex};
use crate::security::Rights;
use crate::wire::mqtt::QoS;
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub session: SessionId,
    pub qos: QoS,
    pub retain_as_published: bool,
    pub id: Option<u32>,
    pub standing: Standing,
    /// It is dealt nothing that its client may not have, be it by its roles or as a topic's owner.
    pub rights: Arc<Rights>,
    pub principal: Option<Arc<str>>,
}

/// See the module.
#[derive(Default)]
pub struct Group {
    /// By number, in the order in which they joined.
    members: BTreeMap<u64, Member>,
    numbers: HashMap<SessionId, u64>,
    classes: Vec<Class>,
    /// The numbers of those that have a principal.
    owners: HashMap<Arc<str>, Standings>,
    newest: u64,
    /// The member whose turn it is is the first from this number on.
    next: u64,
    /// Who is answered once the owners of topics know the group's selector, by a number.
    joining: BTreeMap<u32, (ShardIndex, Caller)>,
    last_join: u32,
}

/// The members that may do the same: they share their rights, so there are no more classes than sets of roles on each shard.
struct Class {
    rights: Arc<Rights>,
    standing: Standings,
}

/// The numbers of those that stand so, by [`Standing`].
type Standings = [BTreeSet<u64>; 3];

impl Group {
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Takes it up behind the others.
    pub fn put(&mut self, member: Member) {
        self.remove(member.session);
        self.newest += 1;
        self.numbers.insert(member.session, self.newest);
        let number = self.newest;
        self.class(&member.rights).standing[member.standing as usize].insert(number);
        if let Some(principal) = &member.principal {
            self.owners.entry(principal.clone()).or_default()[member.standing as usize].insert(number);
        }
        self.members.insert(self.newest, member);
    }

    fn class(&mut self, rights: &Arc<Rights>) -> &mut Class {
        let at = self.classes.iter().position(|class| Arc::ptr_eq(&class.rights, rights)).unwrap_or_else(|| {
            self.classes.push(Class { rights: rights.clone(), standing: Default::default() });
            self.classes.len() - 1
        });
        &mut self.classes[at]
    }

    /// Takes a member's number out of its class, which goes with its last.
    fn leave_class(&mut self, rights: &Arc<Rights>, standing: Standing, number: u64) {
        let class = self.class(rights);
        class.standing[standing as usize].remove(&number);
        if class.standing.iter().all(BTreeSet::is_empty) {
            self.classes.retain(|class| !Arc::ptr_eq(&class.rights, rights));
        }
    }

    pub fn remove(&mut self, session: SessionId) {
        let Some(number) = self.numbers.remove(&session) else { return };
        let member = self.members.remove(&number).expect("a member has its number");
        self.leave_class(&member.rights, member.standing, number);
        self.leave_owners(member.principal.as_deref(), member.standing, number);
    }

    fn leave_owners(&mut self, principal: Option<&str>, standing: Standing, number: u64) {
        if let Some(principal) = principal
            && let Some(owners) = self.owners.get_mut(principal)
        {
            owners[standing as usize].remove(&number);
            if owners.iter().all(BTreeSet::is_empty) {
                self.owners.remove(principal);
            }
        }
    }

    pub fn set_standing(&mut self, session: SessionId, standing: Standing) {
        let Some(number) = self.numbers.get(&session).copied() else { return };
        let member = self.members.get_mut(&number).expect("a member has its number");
        let before = std::mem::replace(&mut member.standing, standing);
        let (rights, principal) = (member.rights.clone(), member.principal.clone());
        let move_number = |standings: &mut Standings| {
            standings[before as usize].remove(&number);
            standings[standing as usize].insert(number);
        };
        move_number(&mut self.class(&rights).standing);
        if let Some(owners) = principal.and_then(|principal| self.owners.get_mut(&principal)) {
            move_number(owners);
        }
    }

    /// What the member may have, and who it is.
    pub fn set_rights(&mut self, session: SessionId, rights: Arc<Rights>, principal: Option<Arc<str>>) {
        let Some(number) = self.numbers.get(&session).copied() else { return };
        let member = self.members.get_mut(&number).expect("a member has its number");
        let (before, standing) = (std::mem::replace(&mut member.rights, rights.clone()), member.standing);
        let was = std::mem::replace(&mut member.principal, principal.clone());
        self.leave_class(&before, standing, number);
        self.class(&rights).standing[standing as usize].insert(number);
        self.leave_owners(was.as_deref(), standing, number);
        if let Some(principal) = principal {
            self.owners.entry(principal).or_default()[standing as usize].insert(number);
        }
    }

    /// The member whose turn it is, of those whose rights are enough and those of the topic's owner. Those that `has_left` says are passed over: no more than have left and not been taken
    /// out.
    pub fn find_next(
        &self,
        is_enough: impl Fn(&Rights) -> bool,
        owner: Option<&str>,
        has_left: impl Fn(&Member) -> bool,
    ) -> Option<(u64, &Member)> {
        let classes = self.classes.iter().filter(|class| is_enough(&class.rights)).map(|class| &class.standing);
        let classes: Vec<&Standings> = classes.chain(owner.and_then(|owner| self.owners.get(owner))).collect();
        let in_turn = |numbers: &BTreeSet<u64>| {
            let round = numbers.range(self.next..).chain(numbers.range(..self.next));
            round.copied().find(|number| !has_left(&self.members[number]))
        };
        (0..3).find_map(|standing| {
            let soonest = classes.iter().filter_map(|class| in_turn(&class[standing]));
            let number = soonest.min_by_key(|number| (*number < self.next, *number))?;
            Some((number, &self.members[&number]))
        })
    }

    /// The member has had its turn.
    pub fn pass(&mut self, number: u64) {
        self.next = number + 1;
    }

    /// Whom to answer under which number, once the owners know the group's selector.
    pub fn join(&mut self, shard: ShardIndex, caller: Caller) -> u32 {
        self.last_join = self.last_join.wrapping_add(1);
        self.joining.insert(self.last_join, (shard, caller));
        self.last_join
    }

    pub fn joined(&mut self, number: u32) -> (ShardIndex, Caller) {
        self.joining.remove(&number).expect("a member that joins is answered once")
    }

    /// Those that are still to be answered.
    pub fn take_joining(&mut self) -> impl Iterator<Item = (ShardIndex, Caller)> + use<> {
        std::mem::take(&mut self.joining).into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(number: u64) -> SessionId {
        SessionId::new(ShardIndex(0), number)
    }

    fn member(number: u64, standing: Standing) -> Member {
        Member {
            session: session(number),
            qos: QoS::AtLeastOnce,
            retain_as_published: false,
            id: None,
            standing,
            rights: Arc::default(),
            principal: None,
        }
    }

    fn deal(group: &mut Group) -> Option<u64> {
        let (number, member) = group.find_next(|_| true, None, |member| member.session == session(9))?;
        let session = member.session;
        group.pass(number);
        Some(session.number() >> 16)
    }

    #[test]
    fn members_have_their_turns_and_the_sooner_ones_first() {
        let mut group = Group::default();
        for number in [1, 2, 9, 3] {
            group.put(member(number, Standing::Ready));
        }
        group.put(member(4, Standing::Away));
        assert_eq!([(); 5].map(|()| deal(&mut group)), [1, 2, 3, 1, 2].map(Some));
        group.set_standing(session(3), Standing::Full);
        assert_eq!([(); 3].map(|()| deal(&mut group)), [1, 2, 1].map(Some));
        group.remove(session(2));
        group.set_standing(session(1), Standing::Away);
        assert_eq!([(); 2].map(|()| deal(&mut group)), [3, 3].map(Some));
        group.set_standing(session(3), Standing::Away);
        // Who joins again is the last.
        group.put(member(1, Standing::Away));
        assert_eq!([(); 4].map(|()| deal(&mut group)), [4, 1, 3, 4].map(Some));
        for number in [1, 3, 4, 4] {
            group.remove(session(number));
        }
        assert_eq!((deal(&mut group), group.is_empty()), (None, false), "one has left and is not taken out");
        group.remove(session(9));
        assert!(group.is_empty() && group.numbers.is_empty() && group.classes.is_empty());
    }

    #[test]
    fn members_whose_rights_are_not_enough_have_turns_of_what_they_own() {
        let mut group = Group::default();
        for (number, principal) in [(1, "ann"), (2, "bob"), (3, "ann")] {
            group.put(Member { principal: Some(principal.into()), ..member(number, Standing::Ready) });
        }
        let deal = |group: &mut Group, owner: Option<&str>| {
            let (number, member) = group.find_next(|_| false, owner, |_| false)?;
            let session = member.session;
            group.pass(number);
            Some(session.number() >> 16)
        };
        assert_eq!([None, Some("eve"), Some("bob")].map(|owner| deal(&mut group, owner)), [None, None, Some(2)]);
        assert_eq!([(); 3].map(|()| deal(&mut group, Some("ann"))), [3, 1, 3].map(Some));
        group.set_standing(session(1), Standing::Full);
        assert_eq!([(); 2].map(|()| deal(&mut group, Some("ann"))), [3, 3].map(Some));
        group.remove(session(3));
        assert_eq!(deal(&mut group, Some("ann")), Some(1));
        // It is another's now.
        let rights = group.members.values().next().expect("a member").rights.clone();
        group.set_rights(session(1), rights, Some("eve".into()));
        assert_eq!([Some("ann"), Some("eve")].map(|owner| deal(&mut group, owner)), [None, Some(1)]);
        group.remove(session(1));
        assert_eq!((deal(&mut group, Some("eve")), group.owners.len()), (None, 1));
    }
}
