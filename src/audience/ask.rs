//! What sessions ask the owners of topics, and what comes of their answers.

use super::audit;
use crate::audience::Audience;
use crate::base::ShardIndex;
use crate::desk::{Audit, Desk, Fate, refusal_of};
use crate::gate::{self, Deed};
use crate::locks::merge_lists;
use crate::mail::events::{Events, PresenceQuestion};
use crate::mail::views::{Figures, Told};
use crate::mail::{Caller, Fetch, ListenerKind, Mail, Part, Question};
use crate::owner::{known_selector, merge_pages};
use crate::protocol::{ErrorCode, Refusal};
use crate::session::{Ending, Life};
use crate::topic::path::{TopicPath, is_within};
use crate::topic::selector::Selector;
use crate::wire::native::{self, LockEntry, Outcome, PresenceEntry};
use std::ops::Bound;
use std::sync::Arc;

/// The shard that sets the server's figures as topics.
pub const FIGURES_WRITER: ShardIndex = ShardIndex(0);
/// The branch of those topics.
const FIGURES: &str = "$SYS";

/// A question to several owners, until all have answered.
pub struct Gather {
    waiting: usize,
    pub(super) answer: Answer,
}

pub enum Answer {
    Interest {
        selector: Selector,
        asker: Caller,
    },
    Removed {
        asker: Caller,
        count: Result<u64, Refusal>,
        refusal: Option<Refusal>,
    },
    Page {
        asker: Caller,
        fetch: Box<Fetch>,
        pages: Vec<(Vec<native::Entry>, bool)>,
        is_thinned: bool,
    },
    /// With what was asked for, and where: as the session says it. Nothing where the topic's owner has asked.
    Events {
        asker: Caller,
        needs: Option<(Deed, Box<str>)>,
    },
    Listening {
        asker: Caller,
    },
    Views {
        asker: Caller,
        places: Arc<[u64]>,
        has_more: bool,
        figures: Vec<Figures>,
    },
    View {
        asker: Caller,
        result: Result<Outcome, Refusal>,
        audit: Option<Box<Audit>>,
    },
    Locks {
        asker: Caller,
        lists: Vec<(Vec<LockEntry>, bool)>,
    },
    Presence {
        asker: Caller,
        count_max: usize,
        present: Vec<(TopicPath, u64, PresenceEntry)>,
        has_more: bool,
    },
}

/// What owners have said of views that a session wants listed.
pub struct Listing {
    pub asker: Caller,
    pub places: Arc<[u64]>,
    pub has_more: bool,
    pub figures: Vec<Figures>,
}

impl Gather {
    /// A question that so many answer.
    pub(super) fn new(waiting: usize, answer: Answer) -> Self {
        Self { waiting, answer }
    }

    pub fn asker(&self) -> Caller {
        match self.answer {
            Answer::Interest { asker, .. } | Answer::Removed { asker, .. } | Answer::Page { asker, .. } => asker,
            Answer::Events { asker, .. } | Answer::Listening { asker } => asker,
            Answer::Views { asker, .. } | Answer::View { asker, .. } | Answer::Locks { asker, .. } | Answer::Presence { asker, .. } => {
                asker
            }
        }
    }
}

impl Audience {
    /// A session selects or fetches by the selector. The server's figures are told from the first time that somebody looks for them.
    pub fn note_wanted(&mut self, desk: &mut Desk, selector: &Selector) {
        let has_figures = desk.limits.has_mqtt && desk.limits.mqtt.sys_interval_ms > 0;
        if !has_figures || self.wants_figures || !is_within(selector.prefix(), FIGURES) || selector.prefix().is_empty() {
            return;
        }
        self.wants_figures = true;
        desk.mail(FIGURES_WRITER, Mail::WantSys);
    }

    /// `refusal` is what is told where nothing is removed.
    pub fn remove(&mut self, desk: &mut Desk, asker: Caller, selector: &Selector, refusal: Option<Refusal>) {
        let viewer = self.viewer(asker.session);
        let answer = Answer::Removed { asker, count: Ok(0), refusal };
        self.ask(desk, selector, |selector| Question::Remove { selector, viewer }, answer);
    }

    pub fn fetch(&mut self, desk: &mut Desk, asker: Caller, selector: &Selector, fetch: Fetch) {
        self.note_wanted(desk, selector);
        if self.trees.concern(asker.session) {
            return self.fetch_mapped(desk, asker, selector, fetch);
        }
        let question = Question::Fetch(Box::new(fetch.clone()));
        self.ask(desk, selector, |_| question, Answer::Page { asker, fetch: Box::new(fetch), pages: Vec::new(), is_thinned: false });
    }

    /// `refusal` is what anybody is told but the topic's owner.
    pub fn query_owner(
        &mut self,
        desk: &mut Desk,
        asker: Caller,
        (deed, path): (Deed, &str),
        query: crate::series::Query,
        refusal: Option<Refusal>,
    ) {
        let needs = refusal.is_none().then(|| (deed, path.into()));
        let unless_owner = refusal.map(|refusal| (refusal, self.author_of(asker.session)));
        let path = &*self.resolve(asker.session, path);
        let ticket = desk.take_ticket();
        self.gathers.insert(ticket, Gather { waiting: 1, answer: Answer::Events { asker, needs } });
        let question = Question::Query { path: path.into(), query, bytes_max: desk.limits.message_bytes_max, unless_owner };
        let owner = desk.owner_of(path);
        desk.mail(owner, Mail::Ask { ticket, question });
    }

    pub fn ask_about_views(&mut self, desk: &mut Desk, asker: Caller, places: Arc<[u64]>, has_more: bool) {
        let ticket = desk.take_ticket();
        let answer = Answer::Views { asker, places: places.clone(), has_more, figures: Vec::new() };
        self.gathers.insert(ticket, Gather { waiting: usize::from(desk.identity.count), answer });
        for owner in (0..desk.identity.count).map(ShardIndex) {
            desk.mail(owner, Mail::Ask { ticket, question: Question::Views { places: places.clone() } });
        }
    }

    /// Asks every owner of locks for those behind a name.
    pub fn list_locks(&mut self, desk: &mut Desk, asker: Caller, after: &str) {
        let ticket = desk.take_ticket();
        let answer = Answer::Locks { asker, lists: Vec::new() };
        self.gathers.insert(ticket, Gather { waiting: usize::from(desk.identity.count), answer });
        for owner in (0..desk.identity.count).map(ShardIndex) {
            desk.mail(owner, Mail::AskLocks { ticket, after: after.into() });
        }
    }

    /// Asks every shard which of its sessions are subscribed.
    pub fn list_presence(&mut self, desk: &mut Desk, asker: Caller, question: &PresenceQuestion) {
        let ticket = desk.take_ticket();
        let answer = Answer::Presence { asker, count_max: question.count_max, present: Vec::new(), has_more: false };
        self.gathers.insert(ticket, Gather { waiting: usize::from(desk.identity.count), answer });
        self.tell_all(desk, || Mail::Events(Box::new(Events::AskPresence { ticket, question: Box::new(question.clone()) })));
    }

    /// Takes a ticket for an order to the writer of views. The asker is answered when the writer's word has come, and the fence of every shard for
    /// every other: by then each has sent what it had to.
    /// What came of it completes the note.
    pub fn expect_decision(&mut self, desk: &mut Desk, asker: Caller, audit: Option<Audit>) -> u64 {
        let ticket = desk.take_ticket();
        let count = usize::from(desk.identity.count);
        let answer = Answer::View { asker, result: Ok(Outcome::Done), audit: audit.map(Box::new) };
        self.gathers.insert(ticket, Gather { waiting: count * count + 1, answer });
        ticket
    }

    /// Takes a ticket for an order to the writer of branch mapping tables, or of what roles permit: its word is awaited, and that of every shard.
    pub fn expect_tables(&mut self, desk: &mut Desk, asker: Caller, audit: Option<Audit>) -> u64 {
        let ticket = desk.take_ticket();
        let answer = Answer::View { asker, result: Ok(Outcome::Done), audit: audit.map(Box::new) };
        self.gathers.insert(ticket, Gather { waiting: usize::from(desk.identity.count) + 1, answer });
        ticket
    }

    /// Takes a ticket for a request that is answered when every shard has sent its fence.
    pub fn expect_fences(&mut self, desk: &mut Desk, asker: Caller) -> u64 {
        let ticket = desk.take_ticket();
        self.gathers.insert(ticket, Gather { waiting: usize::from(desk.identity.count), answer: Answer::Listening { asker } });
        ticket
    }

    /// Asks every owner to tell of topics that the selector matches. Gives the ticket of the request.
    pub fn ask_to_listen(&mut self, desk: &mut Desk, asker: Caller, kind: ListenerKind, selector: &Selector) -> u64 {
        let ticket = desk.take_ticket();
        self.gathers.insert(ticket, Gather { waiting: usize::from(desk.identity.count), answer: Answer::Listening { asker } });
        // What lies below an exact path may have any owner.
        for owner in (0..desk.identity.count).map(ShardIndex) {
            let question = Question::Listen { kind, selector: selector.as_str().into() };
            desk.mail(owner, Mail::Ask { ticket, question });
        }
        ticket
    }

    /// Asks the owners of what `selector` may match: one for a path, else all.
    pub(super) fn ask(&mut self, desk: &mut Desk, selector: &Selector, question: impl FnOnce(Box<str>) -> Question, answer: Answer) -> u64 {
        let ticket = desk.take_ticket();
        let question = question(selector.as_str().into());
        let owners = self.owners_of(desk, selector);
        self.gathers.insert(ticket, Gather { waiting: owners.len(), answer });
        for owner in owners {
            desk.mail(owner, Mail::Ask { ticket, question: question.clone() });
        }
        ticket
    }

    pub(super) fn owners_of(&self, desk: &Desk, selector: &Selector) -> Vec<ShardIndex> {
        match selector.exact_path() {
            Some(path) => vec![desk.owner_of(path)],
            None => (0..desk.identity.count).map(ShardIndex).collect(),
        }
    }

    /// An owner's part of an answer has come; the last completes it. What is to be listed of views is given, and all else is answered here.
    pub fn gather_part(&mut self, desk: &mut Desk, ticket: u64, part: Part) -> Option<Listing> {
        // A selector that nobody has any more took its questions along.
        let gather = self.gathers.get_mut(&ticket)?;
        gather.waiting -= 1;
        match (&mut gather.answer, part) {
            (Answer::Removed { count, .. }, Part::Removed(more)) => add_removed(count, more),
            (Answer::Page { pages, is_thinned, .. }, Part::Page { entries, is_cut, is_thinned: more }) => {
                pages.push((entries, is_cut));
                *is_thinned |= more;
            }
            (Answer::Views { figures, .. }, Part::Views(more)) => figures.extend(more),
            (Answer::Locks { lists, .. }, Part::Locks { entries, is_cut }) => lists.push((entries, is_cut)),
            (Answer::Presence { present, has_more, .. }, Part::Presence { present: more, has_more: is_more }) => {
                present.extend(more);
                *has_more |= is_more;
            }
            (Answer::View { result, .. }, Part::View { result: found, changes_nothing }) => {
                *result = found;
                if changes_nothing {
                    gather.waiting = 0;
                }
            }
            (Answer::Events { .. }, Part::Events(result)) => {
                let Answer::Events { asker, needs } = self.gathers.remove(&ticket)?.answer else { return None };
                // It may have less than when it asked.
                let allowed = needs.map_or(Ok(()), |(deed, path)| gate::at(self.rights(asker.session), deed, &path));
                self.answer(desk, asker, allowed.and(result));
                return None;
            }
            _ => {}
        }
        if gather.waiting > 0 {
            return None;
        }
        if let Answer::Interest { selector, .. } = &gather.answer {
            let selector = selector.clone();
            self.interest_answered(desk, ticket, selector);
            return None;
        }
        let gather = self.gathers.remove(&ticket).expect("it was just there");
        match gather.answer {
            Answer::Interest { .. } => {}
            Answer::Removed { asker, count: Ok(0), refusal: Some(refusal) } => self.answer(desk, asker, Err(refusal)),
            Answer::Removed { asker, count, .. } => self.answer(desk, asker, count.map(Outcome::Removed)),
            Answer::Page { asker, fetch, pages, is_thinned } => self.answer_page(desk, asker, &fetch, pages, is_thinned),
            Answer::Events { .. } => {}
            Answer::Views { asker, places, has_more, figures } => return Some(Listing { asker, places, has_more, figures }),
            Answer::View { asker, result, audit } => {
                audit::tell(desk, audit, &result);
                self.answer(desk, asker, result);
            }
            Answer::Presence { asker, count_max, present, has_more } => {
                let page = presence_page(present, count_max, has_more);
                self.answer(desk, asker, Ok(page));
            }
            Answer::Listening { asker } => {
                if self.trees.is_answered(ticket) {
                    self.answer(desk, asker, Ok(Outcome::Done));
                }
            }
            Answer::Locks { asker, lists } => {
                let page = merge_lists(desk, lists);
                self.answer(desk, asker, Ok(page));
            }
        }
        None
    }

    /// Answers a FETCH when all owners have.
    fn answer_page(&mut self, desk: &mut Desk, asker: Caller, fetch: &Fetch, pages: Vec<(Vec<native::Entry>, bool)>, is_thinned: bool) {
        let (mut entries, has_more) = merge_pages(fetch, pages);
        if let Some(refusal) = fetch.refusal.as_ref().filter(|_| entries.is_empty()) {
            return self.answer(desk, asker, Err(refusal.clone()));
        }
        // It may have less than when it asked; what it has as its owner it still has.
        let rights = self.shared_rights(asker.session);
        let before = &fetch.viewer.rights;
        if !Arc::ptr_eq(&rights, before) {
            let found = entries.len();
            entries.retain(|entry| rights.may_see(&entry.path) || !before.may_see(&entry.path));
            if entries.is_empty() && found > 0 && has_more {
                let message = "what the session may have has changed while it was looked for; ask again";
                return self.answer(desk, asker, Err(Refusal::new(ErrorCode::AccessDenied, message)));
            }
        }
        if entries.is_empty() && fetch.is_plain() {
            let selector = known_selector(desk.limits.selector, &fetch.selector);
            self.tell_missing(desk, asker.session, &selector);
        }
        self.answer(desk, asker, Ok(Outcome::Page { has_more: has_more || is_thinned, shown: fetch.shown, entries }));
    }

    /// Answers a SUBSCRIBE behind the events of all topics that its selector matched: those of time series may still be on their way.
    pub(super) fn answer_subscription(&mut self, desk: &mut Desk, asker: Caller) {
        // Others may have the selector still when the session that asked is over.
        let Some(session) = self.sessions.get_mut(asker.session).filter(|session| session.life != Life::Over) else { return };
        match &mut session.extras {
            // A topic that was found may be left to any of them, whichever selectors match it.
            Some(extras) if !extras.sweeps.is_empty() => {
                extras.sweeps.back_mut().expect("there is one").endings.push(Ending::Subscribed(asker));
            }
            _ if session.mqtt.is_some() => self.answer_mqtt(desk, asker, Ok(Outcome::Done)),
            Some(extras) if !extras.histories.is_empty() => extras.answers_held.push(asker.call),
            _ => self.answer_behind(desk, asker),
        }
    }
}

/// All sessions of this shard were looked at since something changed for them.
pub(super) fn tell_carried_out(desk: &mut Desk, to: Option<Told>) {
    if let Some(Told { shard, ticket }) = to {
        desk.mail(shard, Mail::Part { ticket, part: Part::Ready });
    }
}

/// One refusal counts for all owners.
fn add_removed(count: &mut Result<u64, Refusal>, more: Result<u64, Refusal>) {
    *count = match (std::mem::replace(count, Ok(0)), more) {
        (Ok(count), Ok(more)) => Ok(count + more),
        // That nothing was done is true of one owner only.
        (Ok(1..), Err(refusal)) | (Err(refusal), Ok(1..)) if refusal.code == ErrorCode::NoQuorum => Err(refusal_of(Fate::Unknown)),
        (_, Err(refusal)) | (Err(refusal), _) => Err(refusal),
    };
}

/// The first so many of what all shards have found: at most what one page has, of each.
fn presence_page(mut present: Vec<(TopicPath, u64, PresenceEntry)>, count_max: usize, has_more: bool) -> Outcome {
    present.sort_by(|one, other| (&one.0, one.1).cmp(&(&other.0, other.1)));
    let has_more = has_more || present.len() > count_max;
    present.truncate(count_max);
    Outcome::Presence { has_more, present: present.into_iter().map(|(_, _, entry)| entry).collect() }
}

impl Fetch {
    /// Whether an empty page can only mean that the selector matches no topic: the fetch leaves nothing out by place or type.
    fn is_plain(&self) -> bool {
        let is_whole = matches!((&self.span.start, &self.span.end), (Bound::Unbounded, Bound::Unbounded));
        is_whole && self.types == 0
    }
}
