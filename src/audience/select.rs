//! What sessions select: their selectors, and the interest in them that the owners of topics are told.

use super::ask::{Answer, Gather};
use super::session_trees::Answered;
use crate::audience::Audience;
use crate::audience::queue::wake;
use crate::base::{SessionKey, SmallSet};
use crate::desk::Desk;
use crate::mail::{Caller, Mail, Question};
use crate::protocol::{ErrorCode, Reason, Refusal};
use crate::session::{Ending, Entry, LocalTopic, Step, Sweep, SweepKind};
use crate::topic::selector::Selector;
use crate::wire::native::Outcome;
use std::rc::Rc;

/// A selector that sessions of this shard have.
#[derive(Default)]
pub struct Selected {
    pub(super) sessions: SmallSet<SessionKey>,
    /// The tickets of the questions that not all owners have answered.
    pub(super) asking: SmallSet<u64>,
}

impl Audience {
    pub fn subscribe(&mut self, desk: &mut Desk, asker: Caller, scope: &str, selector: &Selector, step: Step) -> Result<(), Refusal> {
        let selections_max = desk.limits.selections_max;
        let session = self.sessions.get_mut(asker.session).expect("a client that asks has a session");
        let is_new = session.selections.add(scope, selector, step, selections_max).map_err(|_| selections_full(selections_max))?;
        self.note_durable(desk, asker.session);
        let ticket = self.take_interest(desk, asker, selector, is_new);
        // The owners do not send again what the shard has.
        self.begin_sweep(desk, asker.session, Sweep::of(selector, SweepKind::Adjust));
        if self.trees.concern(asker.session) {
            self.subscribe_mapped(desk, asker, selector, is_new, ticket);
        }
        Ok(())
    }

    /// The session has the selector from now on; the owners of topics are told that this shard is interested in it, by a question of the ticket given.
    pub fn take_interest(&mut self, desk: &mut Desk, asker: Caller, selector: &Selector, is_new: bool) -> u64 {
        self.note_wanted(desk, selector);
        let selected = self.selected.entry(selector, Selected::default);
        if is_new {
            selected.sessions.insert(asker.session);
        }
        // Every time, also where the owners know the selector: a topic made before this request may be on its way here.
        let answer = Answer::Interest { selector: selector.clone(), asker };
        let ticket = self.ask(desk, selector, |selector| Question::Interest { selector }, answer);
        self.selected.entry(selector, Selected::default).asking.insert(ticket);
        ticket
    }

    /// The session has the selector, and the owners of topics know already that this shard is interested.
    pub fn hold_selector(&mut self, session: SessionKey, selector: &Selector) {
        self.selected.entry(selector, Selected::default).sessions.insert(session);
    }

    /// Takes the selector out of one scope, or of every scope where none is named.
    pub fn unsubscribe(&mut self, desk: &mut Desk, asker: Caller, scope: Option<&str>, selector: &Selector) -> Result<(), Refusal> {
        let selections_max = desk.limits.selections_max;
        self.check_questions(desk, asker)?;
        let session = self.sessions.get_mut(asker.session).expect("a client that asks has a session");
        let released = match scope {
            Some(scope) => session.selections.remove(scope, selector, selections_max),
            None => session.selections.remove_everywhere(selector, selections_max),
        };
        let mut released = released.map_err(|_| selections_full(selections_max))?;
        self.note_durable(desk, asker.session);
        if self.trees.concern(asker.session) {
            self.unsubscribe_mapped(desk, asker.session, selector, &mut released);
        }
        let sweep = Sweep::of(selector, SweepKind::Withdraw);
        self.begin_sweep(desk, asker.session, Sweep { released, endings: vec![Ending::Done(asker)], ..sweep });
        Ok(())
    }

    pub(super) fn unsubscribe_topics(&mut self, desk: &mut Desk, key: SessionKey, topics: &[Rc<LocalTopic>], reason: Reason) {
        // What one end causes may end another under pressure, which is told then.
        let mut ended = Vec::new();
        // The caller has a part of a sweep, or the topics of one queue.
        for topic in topics {
            if self.sessions.get(key).expect("a session with subscriptions stands").holds(topic) {
                self.end_subscription(desk, key, topic);
                ended.push(topic.clone());
            }
        }
        let topics = &ended;
        // What it may not have any more it is not sent.
        let ends_all = matches!(reason, Reason::BackPressure | Reason::AccessDenied);
        let is_tidied = |topic: &&Rc<LocalTopic>| topic.specification.tidies_on_unsubscribe() || ends_all;
        let tidied: Vec<Rc<LocalTopic>> = topics.iter().filter(is_tidied).cloned().collect();
        let session = self.sessions.get_mut(key).expect("a session with subscriptions stands");
        session.queue.drop_updates(&tidied);
        for topic in topics {
            session.queue.push(Entry::Unsubscribed(topic.clone(), reason));
        }
        let is_high = session.queue.bytes() > desk.limits.queue.bytes_high;
        // Ends under pressure are part of keeping the bound, which goes on behind them.
        if is_high && reason != Reason::BackPressure {
            self.keep_bound(desk, key);
        }
        wake(desk, self.sessions.get_mut(key).expect("keeping a queue's bound ends no session"));
    }

    /// The session's selections have lost `selector`.
    pub fn release(&mut self, desk: &mut Desk, session: SessionKey, selector: &Selector) {
        // A session of MQTT may have had it by two filters.
        let Some(selected) = self.selected.get_mut(selector) else { return };
        selected.sessions.remove(&session);
        if !selected.sessions.is_empty() {
            return;
        }
        let asking = std::mem::take(&mut selected.asking);
        self.selected.remove(selector);
        // Each is a question that was asked and is not answered: bounded by `limits.questions_max` for each session.
        for ticket in asking.iter() {
            // The owners drop the question, so its waiting request is answered here.
            if let Some(Gather { answer: Answer::Interest { asker, .. }, .. }) = self.gathers.remove(ticket)
                && let Answered::Wholly { .. } = self.trees.note_answered(*ticket, selector, false)
            {
                self.answer(desk, asker, Ok(Outcome::Done));
            }
        }
        for owner in self.owners_of(desk, selector) {
            desk.mail(owner, Mail::Release { selector: selector.as_str().into() });
        }
    }
}

fn selections_full(selections_max: usize) -> Refusal {
    Refusal::new(ErrorCode::SelectionLimit, format!("the session has its most of {selections_max} selections"))
}
