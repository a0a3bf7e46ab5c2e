//! What was stored before, taken up again: which record goes to which shard, and in which order.
//!
//! Every shard knows first what the sessions of all shards select, so that nothing which is published later misses one. Then come the sessions that
//! it holds, then its topics, and the views last, before all of which stand the branch mapping tables: they find the topics slice by slice, as a new view does. Sessions and views keep the order of
//! the store, and so do the topics of one shard.

use super::Shard;
use crate::audience::durable;
use crate::audience::mqtt::{home_of, is_unfinished, session_of};
use crate::base::placement::owner_of;
use crate::base::{ShardIndex, TopicId};
use crate::cluster::{Row, Source};
use crate::journal::StoredTopic;
use crate::mail::Appearance;
use crate::topic::mqtt::parse_filter;
use crate::topic::selector::Selector;
use crate::topic::specification::{Interner, Specification, SpecificationLimits, TopicType};
use std::sync::Arc;

/// One shard's share of what was stored.
#[derive(Default)]
pub struct Restoring {
    /// The sessions of all shards, without the messages that wait for them, and the shard of each.
    interests: Arc<[(ShardIndex, StoredTopic)]>,
    sessions: Vec<(TopicId, StoredTopic)>,
    /// Those of the native protocol of all shards.
    durable: Arc<[(TopicId, StoredTopic)]>,
    topics: Vec<(TopicId, StoredTopic)>,
    views: Vec<(TopicId, StoredTopic)>,
    session_trees: Vec<(TopicId, StoredTopic)>,
    security: Vec<(TopicId, StoredTopic)>,
    /// Topics of groups that messages are only passed through.
    passing: Vec<(TopicId, StoredTopic)>,
    /// The last place of each group's log that the topics hold.
    places: Arc<[(u16, u64)]>,
    /// The updates that groups are known to have, of all shards: there may have been more of these.
    made: Arc<[(u16, Source, Row)]>,
}

impl Restoring {
    /// The run that sessions which were kept go on with, if there are any: all have the same.
    pub fn run_of(stored: &[(TopicId, StoredTopic)]) -> Option<u64> {
        stored.iter().filter(|(_, stored)| stored.is_durable_session()).find_map(|(_, stored)| durable::run_of(stored))
    }

    /// Deals out what a store holds to so many shards.
    pub fn deal(stored: impl IntoIterator<Item = (TopicId, StoredTopic)>, shards: u16) -> Vec<Self> {
        let mut dealt: Vec<Self> = (0..shards).map(|_| Self::default()).collect();
        let (mut interests, mut durable) = (Vec::new(), Vec::new());
        for (id, record) in stored {
            if record.view_name().is_some() {
                dealt.iter_mut().for_each(|shard| shard.views.push((id, record.clone())));
            } else if record.session_tree_branch().is_some() {
                dealt.iter_mut().for_each(|shard| shard.session_trees.push((id, record.clone())));
            } else if record.security_script().is_some() || record.principals_script().is_some() {
                dealt.iter_mut().for_each(|shard| shard.security.push((id, record.clone())));
            } else if record.session_path().is_some() {
                let home = home_of(&record, shards);
                interests.push((home, StoredTopic { events: Default::default(), ..record.clone() }));
                dealt[usize::from(home.0)].sessions.push((id, record));
            } else if record.is_durable_session() {
                durable.push((id, record));
            } else {
                dealt[usize::from(owner_of(record.path.as_str(), shards).0)].topics.push((id, record));
            }
        }
        let interests: Arc<[_]> = interests.into();
        let durable: Arc<[_]> = durable.into();
        dealt.iter_mut().for_each(|shard| (shard.interests, shard.durable) = (interests.clone(), durable.clone()));
        dealt
    }
}

impl Restoring {
    /// Adds what is only of a server of a cluster: topics that messages are only passed through, how far each group's log is held, and which updates it is known to have.
    pub fn deal_groups(
        dealt: &mut [Self],
        passing: impl IntoIterator<Item = (TopicId, StoredTopic)>,
        places: &[(u16, u64)],
        made: Vec<(u16, Source, Row)>,
    ) {
        for (id, topic) in passing {
            let owner = owner_of(topic.path.as_str(), dealt.len() as u16);
            dealt[usize::from(owner.0)].passing.push((id, topic));
        }
        let made: Arc<[_]> = made.into();
        dealt.iter_mut().for_each(|shard| (shard.places, shard.made) = (places.into(), made.clone()));
    }
}

impl Shard {
    /// Takes up what was stored, before anybody is connected. An error says what about it this server cannot read.
    pub fn restore(&mut self, restoring: Restoring) -> Result<(), String> {
        let Restoring { interests, sessions, durable, topics, views, session_trees, security, passing, places, made } = restoring;
        places.iter().for_each(|(group, index)| _ = self.desk.groups.take_place(*group, *index));
        made.iter().for_each(|(group, source, row)| self.desk.groups.merge_made(*group, *source, row));
        // First: sessions are taken up with what they may do.
        security.iter().try_for_each(|(id, stored)| self.audience.restore_security(&mut self.desk, *id, stored))?;
        self.owner.set_security(self.audience.kept_security());
        session_trees.iter().try_for_each(|(id, table)| self.audience.restore_session_tree(&mut self.desk, *id, table))?;
        interests.iter().try_for_each(|(home, session)| self.restore_interest(*home, session))?;
        sessions.into_iter().try_for_each(|(id, session)| self.audience.restore_session(&mut self.desk, id, session))?;
        durable.iter().try_for_each(|(id, session)| self.restore_durable(*id, session))?;
        for (is_passing, (id, topic)) in
            passing.into_iter().map(|topic| (true, topic)).chain(topics.into_iter().map(|topic| (false, topic)))
        {
            let specification = specification_of(&mut self.desk.specifications, &topic)?;
            self.owner.restore_topic(&mut self.desk, id, topic, (specification, is_passing), Appearance::Restored)?;
        }
        views.iter().try_for_each(|(id, view)| self.owner.restore_view(&mut self.desk, *id, view))
    }

    /// A session of the shard `home` selects this: its topics' publications go there.
    fn restore_interest(&mut self, home: ShardIndex, stored: &StoredTopic) -> Result<(), String> {
        if is_unfinished(stored) {
            return Ok(());
        }
        let (_, record) = session_of(stored)?;
        self.desk.ledger.keepers.insert(home);
        for filter in &record.filters {
            let parsed = parse_filter(&filter.text).map_err(str::to_owned)?;
            let selector = Selector::parse(&parsed.selector, self.desk.limits.selector).map_err(|error| error.to_string())?;
            let home = if parsed.share.is_some() { self.desk.owner_of(&filter.text) } else { home };
            self.desk.ledger.keepers.insert(home);
            self.restore_selector(home, &selector);
        }
        Ok(())
    }

    /// A session of the native protocol, of this shard or of another one.
    fn restore_durable(&mut self, id: TopicId, stored: &StoredTopic) -> Result<(), String> {
        let session = durable::id_of(&self.desk, stored)?;
        let home = self.desk.home_of(session);
        let interest = durable::interest_of(&self.desk, stored)?;
        self.desk.skip_names(session, interest.stored_ms);
        interest.selecting.iter().for_each(|selector| self.restore_selector(home, selector));
        if home == self.desk.identity.index {
            self.audience.restore_durable(&mut self.desk, id, stored)?;
        }
        Ok(())
    }

    /// Sessions of the shard select this. Of a path only its owner is told, as by any subscription.
    fn restore_selector(&mut self, home: ShardIndex, selector: &Selector) {
        if selector.exact_path().is_none_or(|path| self.desk.owner_of(path) == self.desk.identity.index) {
            self.owner.restore_interest(home, selector);
        }
    }
}

pub(super) fn specification_of(specifications: &mut Interner, stored: &StoredTopic) -> Result<Arc<Specification>, String> {
    let refused = |what: String| format!("topic '{}': {what}", stored.path.as_str());
    let topic_type = TopicType::from_number(stored.kind).ok_or_else(|| refused(format!("there is no topic type {}", stored.kind)))?;
    let properties = stored.properties.iter().map(|(key, value)| (&**key, &**value));
    let parsed = Specification::parse(topic_type, properties, SpecificationLimits::default());
    Ok(specifications.intern(parsed.map_err(|error| refused(error.to_string()))?))
}

#[cfg(test)]
mod tests {
    use super::super::{Identity, Limits, Storing};
    use super::*;
    use crate::audience::Audience;
    use crate::base::{ConnectionKey, SessionId, SessionKey, SlabKey, Time};
    use crate::desk::Desk;
    use crate::journal::{Append, Change, DURABLE_BRANCH, DURABLE_KIND, Record, State};
    use crate::session::{Form, Life, Session};
    use crate::topic::path::TopicPath;

    const WALL_MS: u64 = 1_700_000_000_000;
    const RUN: u64 = 7;

    fn shard(now: Time, wall_ms: u64) -> Shard {
        let (index, server, storing) = (ShardIndex(0), "test".into(), Storing::Stored);
        let identity = Identity { index, count: 1, server, run: RUN, start: now.0, storing, topics_base: 0, node: 0, secret: [7; 32] };
        Shard::new(identity, Limits::default(), now, wall_ms)
    }

    /// What is stored, five seconds later, of a session that began when the server did.
    fn stored(store: fn(&mut Audience, &mut Desk, SessionKey)) -> (SessionId, Vec<(TopicId, StoredTopic)>) {
        let mut shard = shard(Time(1), WALL_MS);
        let id = shard.desk.take_session_id();
        let session = Session::new(id, Life::Connected(ConnectionKey::new(0, 0)), Form::Text, Time(1));
        let key = shard.audience.enter(session);
        shard.audience.let_resume(&mut shard.desk, key, 60_000);
        shard.audience.make_durable(&mut shard.desk, key);
        shard.desk.tick(Time(1).after_ms(5000), WALL_MS + 5000);
        store(&mut shard.audience, &mut shard.desk, key);
        let mut state = State::default();
        for append in shard.desk.ledger.poll_records().expect("there is a record") {
            state.apply(&Record::from(&append.change));
        }
        (id, state.topics.into_iter().collect())
    }

    /// The server had begun to keep it.
    fn unfinished(run: u64, session: SessionId) -> (TopicId, StoredTopic) {
        let path = TopicPath::of_branch(&format!("{DURABLE_BRANCH}{run:016x}-{:x}", session.number()));
        (TopicId(99), StoredTopic::new(path, DURABLE_KIND, Vec::new()))
    }

    fn restored(now: Time, wall_ms: u64, stored: Vec<(TopicId, StoredTopic)>) -> Result<Shard, String> {
        assert_eq!(Restoring::run_of(&stored), Some(RUN));
        let mut shard = shard(now, wall_ms);
        let restoring = Restoring::deal(stored, 1).pop().expect("there is one shard");
        shard.restore(restoring).map(|()| shard)
    }

    #[test]
    fn a_session_that_is_kept_began_when_it_began() {
        let (id, stored) = stored(Audience::leave_durable);
        // The host was started anew too, and its clock that nobody sets with it.
        let shard = restored(Time(5), WALL_MS + 9000, stored).unwrap();
        let key = shard.audience.find(id).expect("it is there");
        let properties = shard.audience.session_properties(&shard.desk, key);
        let began = properties.iter().find(|(key, _)| &**key == "$StartTime").map(|(_, value)| &**value);
        assert_eq!(began, Some(&*WALL_MS.to_string()));
    }

    /// Also where the server is killed again before its client has come back.
    #[test]
    fn the_time_without_a_connection_begins_once() {
        let (id, stored) = stored(Audience::store_durable);
        let mut shard = restored(Time(5), WALL_MS + 6000, stored.clone()).unwrap();
        shard.settle();
        let mut state = State { topics: stored.into_iter().collect(), highest_topic: 1 };
        for append in shard.desk.ledger.poll_records().expect("its end is stored") {
            state.apply(&Record::from(&append.change));
        }
        let stored: Vec<_> = state.topics.into_iter().collect();
        for (later_ms, is_there) in [(59_000, true), (61_000, false)] {
            let mut shard = restored(Time(5), WALL_MS + 6000 + later_ms, stored.clone()).unwrap();
            shard.handle_tick(Time(6), WALL_MS + 6000 + later_ms);
            assert_eq!(shard.audience.find(id).is_some(), is_there, "{later_ms} ms later");
        }
    }

    #[test]
    fn names_of_earlier_starts_are_not_given_again() {
        let (id, stored) = stored(Audience::leave_durable);
        let until = (WALL_MS + 5000) << 6;
        let mut shard = restored(Time(5), WALL_MS, stored).unwrap();
        assert!(shard.desk.take_session_id().count() > until, "nor where the clock was set back");
        let mut shard = restored(Time(5), WALL_MS + 6000, vec![unfinished(RUN, id)]).unwrap();
        assert!(shard.desk.take_session_id().count() > until, "nor where its run is all that is known of a session");
        assert_eq!(shard.session_count(), 0);
        let removed = shard.desk.ledger.poll_records().expect("its record goes");
        assert!(matches!(removed[..], [Append { change: Change::Removed { topic: TopicId(99) }, .. }]));
    }

    #[test]
    fn sessions_of_two_servers_are_not_mixed() {
        let (id, mut stored) = stored(Audience::leave_durable);
        stored.push(unfinished(RUN + 1, id));
        let error = restored(Time(5), WALL_MS, stored).err().expect("they cannot be told apart");
        assert!(error.contains("0000000000000008-10000") && error.contains("of the run 0000000000000007"), "{error}");
    }
}
