//! Sessions are brought in line with their selections: a part of the topics at a time, as far as they read.
//!
//! A session is told about very many topics at the pace at which it reads, whatever it is told: while its queue is above its mark, what it selects
//! and withdraws waits. What has no value that a later one replaces is not put off: a message, an event, what is not retained. A session of MQTT is
//! subscribed at once, since messages would be lost, and only its retained messages wait.

use super::limbo::Part;
use crate::audience::Audience;
use crate::base::SessionKey;
use crate::desk::Desk;
use crate::mail::{Appearance, Mail};
use crate::protocol::Reason;
use crate::session::{Delivery, Ending, Life, LocalTopic, Session, Sweep, SweepKind};
use crate::topic::path::TopicPath;
use crate::topic::specification::Conflation;
use crate::topic::tree::Span;
use crate::wire::mqtt::QoS;
use crate::wire::native::Outcome;
use std::ops::Bound;
use std::rc::Rc;

/// Topics that one session has looked at when its turn comes.
const PART: usize = 256;

/// How a session goes on.
enum Next {
    /// Its turn comes again.
    More,
    /// It has to read first.
    Held,
    Done,
}

impl Audience {
    /// Begins behind what the session has under way, and does what this turn allows.
    pub fn begin_sweep(&mut self, desk: &mut Desk, key: SessionKey, sweep: Sweep) {
        self.begin_sweeps(desk, key, [sweep]);
    }

    /// The same for several, of which none is done before all are noted.
    pub fn begin_sweeps(&mut self, desk: &mut Desk, key: SessionKey, sweeps: impl IntoIterator<Item = Sweep>) {
        let session = self.sessions.get_mut(key).expect("a session that asks stands");
        let extras = session.extras_mut();
        let is_under_way = !extras.sweeps.is_empty();
        extras.sweeps.extend(sweeps);
        if is_under_way || std::mem::replace(&mut extras.is_sweeping, true) {
            return;
        }
        while desk.turn.walk_budget > 0 {
            match self.sweep_part(desk, key) {
                Next::More => {}
                next => return self.pause(key, &next),
            }
        }
        self.locals.sweeping.push_back(key);
    }

    /// The session may not have all that it has any more in these branches, and may have more.
    pub(super) fn sweep_rights(&mut self, key: SessionKey, branches: &[TopicPath]) {
        let Some(session) = self.sessions.get_mut(key).filter(|session| session.life != Life::Over) else { return };
        let selects = session.mqtt.is_some() || !session.selections.is_empty();
        if session.subscriptions.is_empty() && !selects {
            return;
        }
        // What waits for one of MQTT may be of topics to which it is subscribed no longer, or never was: groups deal it messages.
        let may_hold = !session.subscriptions.is_empty() || session.mqtt.is_some();
        let extras = session.extras_mut();
        // In front of what waits until it has read; each goes on where it was.
        if may_hold {
            for branch in branches.iter().rev() {
                extras.put_first(Sweep::of_branch(branch.as_str(), SweepKind::Revoke));
            }
        }
        for branch in branches {
            extras.put_last(Sweep::of_branch(branch.as_str(), SweepKind::Adjust));
        }
        if !std::mem::replace(&mut extras.is_sweeping, true) {
            self.locals.sweeping.push_back(key);
        }
    }

    /// Takes from the session what it may not have any more, as far as this turn allows; whether that is all.
    pub fn finish_revoking(&mut self, desk: &mut Desk, key: SessionKey) -> bool {
        loop {
            let extras = self.session(key).and_then(|session| session.extras.as_ref());
            if extras.and_then(|extras| extras.sweeps.front()).is_none_or(|sweep| sweep.kind != SweepKind::Revoke) {
                return true;
            }
            if desk.turn.walk_budget == 0 {
                return false;
            }
            self.sweep_part(desk, key);
        }
    }

    /// The session has read: what it has to look at goes on.
    pub(super) fn resume_sweeps(&mut self, key: SessionKey) {
        let Some(extras) = self.sessions.get_mut(key).and_then(|session| session.extras.as_mut()) else { return };
        let has_work = !extras.sweeps.is_empty() || extras.firsts_from.is_some();
        if has_work && !std::mem::replace(&mut extras.is_sweeping, true) {
            self.locals.sweeping.push_back(key);
        }
    }

    fn pause(&mut self, key: SessionKey, next: &Next) {
        // One that was taken off its topics is gone.
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.extras_mut().is_sweeping = false;
        match next {
            Next::Held => _ = self.held_back.insert(key),
            _ => {
                session.give_back_extras();
                self.forget_mapping(key);
            }
        }
    }

    /// Goes on with all sessions that have something to look at, and with interests that are answered, each a part in its turn, within this turn's budget.
    pub fn run_sweeps(&mut self, desk: &mut Desk, walks_wait: bool) {
        let kept = if walks_wait { desk.turn.walk_budget / 2 } else { 0 };
        self.run_settlings(desk, kept);
        while desk.turn.walk_budget > kept
            && let Some(key) = self.locals.sweeping.pop_front()
        {
            match self.sweep_part(desk, key) {
                Next::More => self.locals.sweeping.push_back(key),
                next => self.pause(key, &next),
            }
        }
    }

    /// Whether the session should read before it is told about more topics.
    pub(super) fn is_busy(desk: &Desk, session: &Session) -> bool {
        let messages_max = desk.limits.mqtt.queued_messages_max;
        let queue = desk.limits.queue;
        session.queue.bytes() > queue.bytes_high.min(queue.bytes_max / 4) || session.queue.message_count() > messages_max / 2
    }

    fn sweep_part(&mut self, desk: &mut Desk, key: SessionKey) -> Next {
        // It may have ended meanwhile.
        let Some(session) = self.sessions.get(key) else { return Next::Done };
        if session.life == Life::Over {
            return self.end_part(desk, key);
        }
        let Some(extras) = session.extras.as_ref() else { return Next::Done };
        let Some(sweep) = extras.sweeps.front() else { return self.send_firsts(desk, key) };
        let has_to_read = session.mqtt.is_none() && Self::is_busy(desk, session);
        if has_to_read && !session.subscriptions.is_empty() && sweep.kind == SweepKind::Withdraw {
            return Next::Held;
        }
        let part = PART.min(desk.turn.walk_budget.max(1));
        let kind = sweep.kind;
        if kind.only_ends() && session.subscriptions.len() <= part {
            let held = session.subscriptions.values().map(|(topic, _)| topic);
            let (selector, rest) = (&sweep.selector, &sweep.rest);
            let selects = |topic: &&Rc<LocalTopic>| match selector {
                Some(selector) => selector.matches(topic.path.as_str()),
                None => rest.contains(&topic.path),
            };
            let mut topics: Vec<Rc<LocalTopic>> = held.filter(selects).cloned().collect();
            topics.sort_unstable_by(|a, b| a.path.cmp(&b.path).then(a.id.cmp(&b.id)));
            desk.turn.walk_budget = desk.turn.walk_budget.saturating_sub(topics.len().max(1));
            self.look_at(desk, key, kind, &topics);
            return self.finish_sweep(desk, key);
        }
        if sweep.is_in_limbo {
            return self.sweep_limbo(desk, key, has_to_read);
        }
        let (kind, selector) = (sweep.kind, sweep.selector.clone());
        let (mut topics, mut last, mut looked) = (Vec::new(), None, 0);
        for (path, topic) in self.locals.by_path.range((sweep.rest.start.clone(), sweep.rest.end.clone())).take(part) {
            looked += 1;
            last = Some(path.clone());
            if selector.as_ref().is_none_or(|selector| selector.matches(path.as_str())) {
                topics.push(topic.clone());
            }
        }
        desk.turn.walk_budget = desk.turn.walk_budget.saturating_sub(looked.max(1));
        if has_to_read && !topics.is_empty() && kind != SweepKind::Revoke {
            return Next::Held;
        }
        // What it is told of these topics may change what is left to look at, so that is noted first.
        if let Some(last) = last.filter(|_| looked == part) {
            self.first_sweep(key).rest.start = Bound::Excluded(last);
            self.look_at(desk, key, kind, &topics);
            return Next::More;
        }
        let sweep = self.first_sweep(key);
        sweep.is_in_limbo = true;
        sweep.rest = sweep.selector.as_ref().map(Span::of_selector).unwrap_or_default();
        self.look_at(desk, key, kind, &topics);
        // Where no selector is named the sweep only finds topics; none is to end.
        if selector.is_none() || self.locals.limbo.is_empty() {
            return self.finish_sweep(desk, key);
        }
        Next::More
    }

    /// Looks at a part of the topics that the session may have, and that are to appear again.
    fn sweep_limbo(&mut self, desk: &mut Desk, key: SessionKey, has_to_read: bool) -> Next {
        let sweep = self.first_sweep(key);
        let (selector, rest) = (sweep.selector.clone().expect("only a sweep of one selector looks here"), sweep.rest.clone());
        let count = PART.min(desk.turn.walk_budget.max(1));
        let Part { topics, looked, last } = self.locals.limbo.part(&rest, &selector, u64::MAX, count);
        desk.turn.walk_budget = desk.turn.walk_budget.saturating_sub(looked.max(1));
        if has_to_read && !topics.is_empty() {
            return Next::Held;
        }
        let is_last = last.is_none();
        if let Some(last) = last {
            self.first_sweep(key).rest.start = Bound::Excluded(last);
        }
        self.look_at(desk, key, SweepKind::Withdraw, &topics);
        if is_last { self.finish_sweep(desk, key) } else { Next::More }
    }

    fn first_sweep(&mut self, key: SessionKey) -> &mut Sweep {
        let extras = self.sessions.get_mut(key).and_then(|session| session.extras.as_mut());
        extras.and_then(|extras| extras.sweeps.front_mut()).expect("the sweep is under way")
    }

    /// Brings the session's subscriptions to these topics in line.
    fn look_at(&mut self, desk: &mut Desk, key: SessionKey, kind: SweepKind, topics: &[Rc<LocalTopic>]) {
        if self.trees.concern(key) {
            return self.look_at_mapped(desk, key, kind, topics);
        }
        let session = self.sessions.get(key).expect("a session that is looked at stands");
        let ends = |topic: &&Rc<LocalTopic>| session.holds(topic) && !session.selects(topic);
        let ended: Vec<Rc<LocalTopic>> = topics.iter().filter(ends).cloned().collect();
        let is_mqtt = session.mqtt.is_some();
        if is_mqtt {
            for topic in &ended {
                self.end_subscription(desk, key, topic);
            }
        } else if !ended.is_empty() {
            let (denied, ended): (Vec<_>, Vec<_>) =
                ended.into_iter().partition(|topic| session.end_of(topic.path.as_str()) == Reason::AccessDenied);
            for (topics, reason) in [(ended, Reason::Requested), (denied, Reason::AccessDenied)] {
                self.unsubscribe_topics(desk, key, &topics, reason);
            }
        }
        // The caller has looked at `PART` topics at most.
        for topic in topics {
            // Falling behind may have ended its connection.
            let Some(session) = self.sessions.get(key).filter(|session| session.life != Life::Over) else { return };
            let is_held = session.holds(topic);
            match kind {
                SweepKind::Filter { options, id, is_replaced, sends_first } if is_held => {
                    self.change_filter(key, topic, is_replaced, |delivery| delivery.with(options, id));
                    if sends_first {
                        self.offer_first(desk, key, topic, Some((options.qos, id)));
                    }
                }
                SweepKind::Adjust | SweepKind::Withdraw | SweepKind::Revoke if is_held => {
                    if is_mqtt {
                        self.change_filter(key, topic, true, |delivery| delivery);
                    }
                }
                SweepKind::Withdraw | SweepKind::Revoke => {}
                SweepKind::Adjust | SweepKind::Filter { .. } => self.start_subscription(desk, key, topic, Appearance::Found),
            }
        }
    }

    /// The same for a session that may find topics at other paths.
    #[cold]
    fn look_at_mapped(&mut self, desk: &mut Desk, key: SessionKey, kind: SweepKind, topics: &[Rc<LocalTopic>]) {
        for topic in topics {
            // Falling behind may have ended its connection.
            if self.session(key).is_none() {
                return;
            }
            self.align(desk, key, topic, kind, Appearance::Found);
        }
    }

    /// How the session is sent what is published at the topic follows its filters: all of them again, where one was replaced or is gone.
    fn change_filter(&mut self, key: SessionKey, topic: &Rc<LocalTopic>, is_replaced: bool, add: impl FnOnce(Delivery) -> Delivery) {
        if is_replaced {
            self.renew_delivery(key, topic);
        } else {
            self.change_delivery(key, topic, |_, delivery| add(delivery));
        }
    }

    fn finish_sweep(&mut self, desk: &mut Desk, key: SessionKey) -> Next {
        let Some(session) = self.sessions.get_mut(key).filter(|session| session.life != Life::Over) else { return Next::More };
        let sweeps = &mut session.extras_mut().sweeps;
        let mut sweep = sweeps.pop_front().expect("the sweep was under way");
        // Nothing comes any more that it may not have.
        if sweep.kind == SweepKind::Revoke && sweeps.front().is_none_or(|next| next.kind != SweepKind::Revoke) {
            self.withdraw_unpermitted(desk, key);
        }
        let session = self.sessions.get(key).expect("what it may not have ends no session");
        // They may have been selected again meanwhile. Bounded by `limits.selections_max`.
        session.keep_released(&mut sweep.released);
        self.keep_underived(key, &mut sweep.released);
        for selector in &sweep.released {
            self.release(desk, key, selector);
        }
        // Bounded by `limits.questions_max`: each is a request that waits.
        for ending in sweep.endings {
            match ending {
                Ending::Done(asker) => self.answer(desk, asker, Ok(Outcome::Done)),
                Ending::Subscribed(asker) if self.mqtt(key).is_some() => self.answer_mqtt(desk, asker, Ok(Outcome::Done)),
                Ending::Subscribed(asker) => self.answer_subscription(desk, asker),
                Ending::Filter { epoch, .. } | Ending::Unsuback { epoch, .. } if self.mqtt(key).is_none_or(|mqtt| mqtt.epoch != epoch) => {}
                Ending::Filter { id, .. } => self.filter_known(desk, key, id),
                Ending::Unsuback { id, codes, .. } => self.reply(desk, key, |answers, out| answers.put_unsuback(out, id, &codes)),
            }
        }
        Next::More
    }

    /// A topic of which a session may have to hear has come here: now, or when it has read.
    pub(super) fn offer_topic(&mut self, desk: &mut Desk, key: SessionKey, topic: &Rc<LocalTopic>, appearance: Appearance) {
        let is_mapped = self.trees.concern(key);
        let session = self.sessions.get_mut(key).expect("a selector is a session's");
        if session.life == Life::Over || !is_mapped && session.subscriptions.contains_key(&topic.id) {
            return;
        }
        let is_mqtt = session.mqtt.is_some();
        let sweeps = session.extras.as_ref().map(|extras| &extras.sweeps);
        let will_reach = sweeps.into_iter().flatten().any(|sweep| sweep.will_reach(&topic.path));
        if will_reach && (appearance == Appearance::Found || !is_mqtt && is_state(topic)) {
            return;
        }
        if is_mapped && (!is_state(topic) || !Self::is_busy(desk, session)) {
            return self.align(desk, key, topic, SweepKind::Adjust, appearance);
        }
        if is_mqtt || !is_state(topic) || !Self::is_busy(desk, session) || !is_mapped && !session.selects(topic) {
            return self.start_subscription(desk, key, topic, appearance);
        }
        let extras = session.extras_mut();
        let start = Bound::Included(topic.path.clone());
        match extras.sweeps.back_mut() {
            // From the first of those that it has not heard of.
            Some(last) if last.goes_to_the_end() => last.rest.start = start,
            _ => extras.sweeps.push_back(Sweep::from(start)),
        }
        self.held_back.insert(key);
    }

    // Retained messages.

    /// Sends the retained message of a topic, if it has one, or notes that it is to be sent when the client has read.
    pub fn offer_first(&mut self, desk: &mut Desk, key: SessionKey, topic: &Rc<LocalTopic>, filter: Option<(QoS, Option<u32>)>) {
        if topic.first().is_none() {
            return;
        }
        let session = self.sessions.get_mut(key).expect("a subscriber is a session");
        let from = session.extras.as_ref().and_then(|extras| extras.firsts_from.clone());
        if from.is_none() && !Self::is_busy(desk, session) {
            return self.send_first(desk, key, topic, filter);
        }
        self.note_first_due(key, topic);
        self.change_delivery(key, topic, |_, delivery| delivery.with_first_due());
    }

    fn note_first_due(&mut self, key: SessionKey, topic: &LocalTopic) {
        let extras = self.sessions.get_mut(key).expect("a subscriber is a session").extras_mut();
        let from = extras.firsts_from.take();
        extras.firsts_from = Some(from.map_or_else(|| topic.path.clone(), |from| from.min(topic.path.clone())));
        self.held_back.insert(key);
    }

    /// The topic is known again. Where its retained message is due, it may have been passed over meanwhile.
    pub(super) fn renew_firsts(&mut self, topic: &LocalTopic) {
        let subscribers = topic.subscribers.borrow();
        for subscriber in subscribers.iter().filter(|subscriber| subscriber.delivery.is_first_due()) {
            let session = self.sessions.get(subscriber.session).expect("a subscriber is a session");
            if session.life != Life::Over {
                self.note_first_due(subscriber.session, topic);
            }
        }
    }

    /// A message comes to a subscriber whose retained message waits: that is what it replaces, or comes before it.
    pub fn settle_first(&mut self, desk: &mut Desk, key: SessionKey, topic: &Rc<LocalTopic>, is_passing: bool) {
        self.change_delivery(key, topic, |_, delivery| delivery.without_first_due());
        if is_passing {
            self.send_first(desk, key, topic, None);
        }
    }

    fn send_firsts(&mut self, desk: &mut Desk, key: SessionKey) -> Next {
        let session = self.sessions.get_mut(key).expect("it was just there");
        let Some(from) = session.extras_mut().firsts_from.clone() else { return Next::Done };
        if Self::is_busy(desk, session) || !session.life.is_heard() {
            return Next::Held;
        }
        let part = PART.min(desk.turn.walk_budget.max(1));
        let mut range = self.locals.by_path.range((Bound::Included(from), Bound::Unbounded));
        let topics: Vec<Rc<LocalTopic>> = range.by_ref().take(part).map(|(_, topic)| topic.clone()).collect();
        let next: Option<TopicPath> = range.next().map(|(path, _)| path.clone());
        desk.turn.walk_budget = desk.turn.walk_budget.saturating_sub(topics.len().max(1));
        let is_last = next.is_none();
        let session = self.sessions.get_mut(key).expect("it was just there");
        session.extras_mut().firsts_from = next;
        for topic in topics {
            let session = self.sessions.get_mut(key).expect("sending a message ends no session");
            if Self::is_busy(desk, session) {
                session.extras_mut().firsts_from = Some(topic.path.clone());
                return Next::Held;
            }
            let held = session.subscriptions.get(&topic.id).filter(|_| session.holds(&topic));
            let is_due = held.is_some_and(|(_, place)| topic.subscribers.borrow()[*place as usize].delivery.is_first_due());
            if is_due {
                self.settle_first(desk, key, &topic, true);
            }
        }
        if is_last { Next::Done } else { Next::More }
    }

    // The end of sessions.

    /// Takes the session, which is over, off a part of its topics; behind the last it goes.
    fn end_part(&mut self, desk: &mut Desk, key: SessionKey) -> Next {
        let session = self.sessions.get(key).expect("it stands until it is taken off its topics");
        let part = PART.min(desk.turn.walk_budget.max(1));
        let topics: Vec<Rc<LocalTopic>> = session.subscriptions.values().take(part).map(|(topic, _)| topic.clone()).collect();
        desk.turn.walk_budget = desk.turn.walk_budget.saturating_sub(topics.len().max(1));
        for topic in &topics {
            self.end_subscription(desk, key, topic);
        }
        if topics.len() == part || self.tell_watchers(desk, key) {
            return Next::More;
        }
        let session = self.sessions.remove(key).expect("it was just there");
        // Bounded by `limits.selections_max`, and part of what this turn may do: so of many sessions that end at once few go in one turn.
        let selecting = session.selecting();
        desk.turn.walk_budget = desk.turn.walk_budget.saturating_sub(selecting.len());
        for selector in selecting.into_iter().chain(self.trees.forget(key)) {
            self.release(desk, key, &selector);
        }
        for sweep in session.extras.into_iter().flat_map(|extras| extras.sweeps) {
            for selector in &sweep.released {
                self.release(desk, key, selector);
            }
        }
        Next::Done
    }

    /// Tells a part of the topics that want to know that the session is over; whether more may be left.
    fn tell_watchers(&mut self, desk: &mut Desk, key: SessionKey) -> bool {
        let extras = self.sessions.get_mut(key).expect("it was just there").extras.as_mut();
        let Some(watched_by) = extras.map(|extras| &mut extras.watched_by).filter(|watched_by| !watched_by.is_empty()) else {
            return false;
        };
        let part = PART.min(desk.turn.walk_budget.max(1));
        desk.turn.walk_budget = desk.turn.walk_budget.saturating_sub(part);
        for _ in 0..part {
            let Some((id, (owner, path))) = watched_by.pop_first() else { return false };
            desk.mail(owner, Mail::SessionOver { path, id });
        }
        true
    }

    /// The session is over. It is taken off its topics a part at a time.
    pub(super) fn leave_topics(&mut self, desk: &mut Desk, key: SessionKey) {
        if desk.turn.walk_budget == 0 || matches!(self.end_part(desk, key), Next::More) {
            self.locals.sweeping.push_back(key);
        }
    }
}

impl Sweep {
    /// All that the session selects, from one path on.
    fn from(start: Bound<TopicPath>) -> Self {
        let rest = Span { start, end: Bound::Unbounded };
        Self { selector: None, rest, is_in_limbo: false, kind: SweepKind::Adjust, released: Vec::new(), endings: Vec::new() }
    }

    /// Whether it is such a one, and not of a branch in which rights have changed.
    fn goes_to_the_end(&self) -> bool {
        self.selector.is_none() && self.kind == SweepKind::Adjust && self.rest.end == Bound::Unbounded
    }
}

/// Whether what a subscriber hears later of the topic makes good for what it did not hear before.
fn is_state(topic: &LocalTopic) -> bool {
    let specification = &topic.specification;
    !topic.is_time_series() && specification.retains_value() && specification.conflation() != Conflation::Off
}
