//! Listeners to topics of sessions whose paths mean other topics: what happens at a topic is told under the paths at which its session finds it.
//!
//! As with subscriptions the owners are asked by derived selectors. What a listener knows is session paths; where these mean other topics from now on, it is
//! told that what was there is deselected, a part at a time, and then the owners tell anew what is there.

use crate::audience::Audience;
use crate::audience::listeners::{Holders, TOPICS};
use crate::base::SessionKey;
use crate::desk::Desk;
use crate::mail::{Call, Caller, ListenerKind};
use crate::topic::path::TopicPath;
use crate::topic::selector::Selector;

impl Audience {
    // The loops over a session's selectors are bounded by `limits.listeners_max`, each with `session_trees.tables_max` branches.

    /// A listener to topics has a selector more, which was asked for by the ticket.
    #[cold]
    pub fn listen_mapped(&mut self, desk: &mut Desk, asker: Caller, selector: &Selector, ticket: u64) {
        let mut tickets = vec![ticket];
        for selector in self.derived_below(desk, asker.session, selector) {
            self.hold_listened(asker.session, &selector);
            tickets.push(self.ask_to_listen(desk, asker, ListenerKind::Topics, &selector));
        }
        self.trees.waiting.insert(selector, &tickets);
    }

    /// The session needs the derived selector for its listeners; whether that is new.
    fn hold_listened(&mut self, key: SessionKey, selector: &Selector) -> bool {
        let mapped = self.trees.sessions.get_mut(&key).expect("the session is one that is concerned");
        let is_new = !mapped.listened.contains(selector);
        if is_new {
            mapped.listened.push(selector.clone());
            *self.listening.topics.entry(selector, Holders::new).entry(key).or_default() += 1;
        }
        is_new
    }

    /// A selector of the session's listeners is gone, or what its paths mean has changed: it has what derives from those that are left, and no more.
    #[cold]
    pub fn rederive_listened(&mut self, desk: &mut Desk, key: SessionKey) {
        let extras = self.sessions.get(key).and_then(|session| session.extras.as_deref());
        let listeners = extras.iter().flat_map(|extras| extras.listeners.values()).filter(|listener| listener.kind == TOPICS);
        // Those under review are listened to until it is done.
        let reviewed = extras.iter().flat_map(|extras| &extras.reviews).filter_map(|review| {
            let is_to_topics =
                extras.is_some_and(|extras| extras.listeners.get(&review.number).is_some_and(|listener| listener.kind == TOPICS));
            review.ended.as_ref().filter(|_| is_to_topics).map(|(_, selector)| selector)
        });
        let own: Vec<Selector> =
            listeners.flat_map(|listener| listener.selectors.iter().map(|held| &held.selector)).chain(reviewed).cloned().collect();
        let wanted: Vec<Selector> = own.iter().flat_map(|selector| self.derived_below(desk, key, selector)).collect();
        let mapped = self.trees.sessions.get_mut(&key).expect("the session is one that is concerned");
        let is_wanted = |selector: &Selector| wanted.contains(selector);
        let (kept, gone): (Vec<Selector>, Vec<Selector>) = std::mem::take(&mut mapped.listened).into_iter().partition(is_wanted);
        mapped.listened = kept;
        for selector in &wanted {
            if self.hold_listened(key, selector) {
                self.ask_to_listen(desk, Caller { session: key, call: Call::Unheard }, ListenerKind::Topics, selector);
            }
        }
        for selector in gone {
            self.release_listening(desk, key, TOPICS, &selector);
        }
    }

    /// What lies in these branches of the session's paths means other topics from now on.
    pub(super) fn review_remapped(&mut self, desk: &mut Desk, key: SessionKey, branches: &[TopicPath]) {
        let Some(extras) = self.sessions.get_mut(key).and_then(|session| session.extras.as_mut()) else { return };
        let listening = extras.listeners.iter().filter(|(_, listener)| listener.kind == TOPICS);
        let numbers: Vec<u64> = listening.map(|(number, _)| *number).collect();
        if numbers.is_empty() {
            return;
        }
        self.rederive_listened(desk, key);
        self.forget_listened(key, &numbers, branches);
    }

    /// The paths at which the session finds a topic.
    pub(in crate::audience) fn session_paths(&self, key: SessionKey, topic: &TopicPath) -> Vec<TopicPath> {
        self.trees.mapping_of(key).map_or_else(|| vec![topic.clone()], |mapping| mapping.paths_of(topic.as_str()))
    }
}
