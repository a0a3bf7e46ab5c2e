//! The topics of this shard's partitions: one writer for each, so updates to a topic have one order.

use super::Shard;
use super::mail::{Asker, Mail, Part, Question, Update};
use crate::base::{ShardIndex, ShardSet, Time, TopicId};
use crate::protocol::{ErrorCode, Reason, Refusal};
use crate::topic::path::TopicPath;
use crate::topic::publication::Publication;
use crate::topic::selector::Selector;
use crate::topic::tree::{Place, Topic};
use crate::value::ValueType;
use crate::value::delta::Gain;
use crate::wire::native::{Entry, Outcome, Verb};

/// A question whose share here is walked slice by slice.
pub struct Walk {
    from: ShardIndex,
    ticket: u64,
    question: Question,
    selector: Selector,
    after: Option<TopicPath>,
    progress: Progress,
}

impl Walk {
    fn is_interest(&self, from: ShardIndex, selector: &Selector) -> bool {
        self.from == from && matches!(self.question, Question::Interest { .. }) && self.selector == *selector
    }
}

#[derive(Default)]
struct Progress {
    removed: u64,
    entries: Vec<Entry>,
    bytes: usize,
    is_cut: bool,
}

impl Shard {
    pub(super) fn update_for_other(&mut self, update: Update) {
        let Update { from, to, verb, path, kind, value, received } = update;
        let result = self.update(verb, path.as_str(), kind, &value, received);
        if needs_answer(to, &result) {
            self.mail(from, Mail::Answer { to, result });
        }
    }

    /// Applies an update whose path and value have been checked.
    pub(super) fn update(&mut self, verb: Verb, path: &str, kind: ValueType, value: &[u8], received: Time) -> Result<Outcome, Refusal> {
        let found = self.tree.find(path);
        if let Some(place) = found {
            self.check_kind(place, verb, kind)?;
        }
        match (verb, found) {
            (Verb::Add, Some(_)) => Ok(Outcome::Created(false)),
            (Verb::Add, None) => self.create(path, kind, None).map(|_| Outcome::Created(true)),
            (Verb::Set, None) => Err(Refusal::new(ErrorCode::NoSuchTopic, format!("there is no topic at '{path}'"))),
            (Verb::Set, Some(place)) => {
                self.publish(place, value, received);
                Ok(Outcome::Done)
            }
            (Verb::AddAndSet, Some(place)) => {
                self.publish(place, value, received);
                Ok(Outcome::Created(false))
            }
            (Verb::AddAndSet, None) => self.create(path, kind, Some((value, received))).map(|_| Outcome::Created(true)),
        }
    }

    fn check_kind(&self, place: Place, verb: Verb, kind: ValueType) -> Result<(), Refusal> {
        let topic = self.tree.topic(place);
        if topic.kind == kind {
            return Ok(());
        }
        let code = if verb == Verb::Set { ErrorCode::IncompatibleType } else { ErrorCode::TopicExists };
        Err(Refusal::new(code, format!("the topic at '{}' has type {}, not {}", topic.path.as_str(), topic.kind.name(), kind.name())))
    }

    fn create(&mut self, path: &str, kind: ValueType, first: Option<(&[u8], Time)>) -> Result<(), Refusal> {
        if self.tree.len() >= self.limits.topics_max {
            return Err(Refusal::new(
                ErrorCode::TopicLimit,
                format!("this server's core holds its most of {} topics", self.limits.topics_max),
            ));
        }
        let path = TopicPath::parse(path, self.limits.path_bytes_max).expect("a session's shard checked the path");
        self.topics_made += 1;
        let id = TopicId(
            self.topics_made * u64::from(self.identity.count) - u64::from(self.identity.count) + u64::from(self.identity.index.0) + 1,
        );
        let latest = first.map(|(value, received)| Publication::new(id, 1, received, value, None));
        self.report.updates += u64::from(latest.is_some());
        let mut interested = ShardSet::default();
        self.shards_interested.for_each_match(path.as_str(), |_, shards| interested = interested.union(*shards));
        for shard in interested.iter() {
            self.mail(shard, Mail::Appeared { id, path: path.clone(), kind, latest: latest.clone() });
        }
        self.tree.insert(Topic { id, path, kind, latest, interested, gain: Gain::default() });
        Ok(())
    }

    fn publish(&mut self, place: Place, value: &[u8], received: Time) {
        self.report.updates += 1;
        let topic = self.tree.topic_mut(place);
        let previous = topic.latest.as_deref();
        let version = previous.map_or(1, |previous| previous.version + 1);
        self.delta_bytes.clear();
        let mut form = None;
        if let Some(previous) = previous.filter(|_| has_deltas(topic.kind) && !topic.interested.is_empty())
            && topic.gain.should_attempt()
        {
            form = self.delta.encode(previous.value(), value, &mut self.delta_bytes);
            topic.gain.note(form.map(|_| self.delta_bytes.len()), value.len());
        }
        let delta = form.map(|form| (form, &self.delta_bytes[..]));
        let publication = Publication::new(topic.id, version, received, value, delta);
        topic.latest = Some(publication.clone());
        for shard in topic.interested.iter() {
            self.mail(shard, Mail::Published(publication.clone()));
        }
    }

    fn remove_topic(&mut self, path: &str) -> bool {
        let Some(topic) = self.tree.remove(path) else { return false };
        for shard in topic.interested.iter() {
            self.mail(shard, Mail::Removed { id: topic.id, reason: Reason::Removed });
        }
        true
    }

    pub(super) fn release_interest(&mut self, from: ShardIndex, selector: &str) {
        let selector = self.known_selector(selector);
        // Answers to an interest that ended are not wanted any more, nor may its walk mark further topics.
        self.walks.retain(|walk| !walk.is_interest(from, &selector));
        let Some(shards) = self.shards_interested.get_mut(&selector) else { return };
        shards.remove(from);
        if shards.is_empty() {
            self.shards_interested.remove(&selector);
        }
        self.forget_interest(from, &selector);
    }

    /// Takes `from` off the topics that no other selector of it matches, and tells it so: its table follows the owner's word alone.
    fn forget_interest(&mut self, from: ShardIndex, selector: &Selector) {
        let mut places = Vec::new();
        self.tree.walk(selector, None, usize::MAX, |place, topic| {
            if topic.interested.contains(from) {
                let mut is_wanted = false;
                self.shards_interested.for_each_match(topic.path.as_str(), |_, shards| is_wanted |= shards.contains(from));
                if !is_wanted {
                    places.push(place);
                }
            }
            true
        });
        for place in places {
            let topic = self.tree.topic_mut(place);
            topic.interested.remove(from);
            let id = topic.id;
            self.mail(from, Mail::Forgotten { id });
        }
    }

    fn known_selector(&self, text: &str) -> Selector {
        Selector::parse(text, self.limits.selector).expect("a session's shard parsed the selector")
    }

    /// Takes up a question; what one path answers is answered at once, the rest slice by slice.
    pub(super) fn start_walk(&mut self, from: ShardIndex, ticket: u64, question: Question) {
        let (Question::Interest { selector } | Question::Remove { selector } | Question::Fetch { selector, .. }) = &question;
        let selector = self.known_selector(selector);
        let mut after = None;
        match &question {
            Question::Interest { .. } => {
                let is_walked = self.walks.iter().any(|walk| walk.is_interest(from, &selector));
                let shards = self.shards_interested.entry(&selector, ShardSet::default);
                if shards.contains(from) && !is_walked {
                    // Every topic that it matches is marked; this answer comes behind all of them.
                    return self.mail(from, Mail::Part { ticket, part: Part::Ready });
                }
                shards.insert(from);
            }
            Question::Fetch { after: behind, .. } => after = behind.clone(),
            Question::Remove { .. } => {}
        }
        self.walks.push_back(Walk { from, ticket, question, selector, after, progress: Progress::default() });
        if self.walks.len() == 1 {
            self.walk_slice();
        }
    }

    /// Does a slice of the first walk, and puts it behind the others if it is not done.
    pub(super) fn walk_slice(&mut self) {
        let Some(mut walk) = self.walks.pop_front() else { return };
        let next = match &walk.question {
            Question::Interest { .. } => self.walk_interest(&walk),
            Question::Remove { .. } => self.walk_removal(&mut walk),
            Question::Fetch { .. } => self.walk_fetch(&mut walk),
        };
        if next.is_some() && !walk.progress.is_cut {
            walk.after = next;
            self.walks.push_back(walk);
            return;
        }
        let Progress { removed, entries, is_cut, .. } = walk.progress;
        let part = match walk.question {
            Question::Interest { .. } => Part::Ready,
            Question::Remove { .. } => Part::Removed(removed),
            Question::Fetch { .. } => Part::Page { entries, is_cut },
        };
        self.mail(walk.from, Mail::Part { ticket: walk.ticket, part });
    }

    fn walk_interest(&mut self, walk: &Walk) -> Option<TopicPath> {
        let mut places = Vec::new();
        let next = self.tree.walk(&walk.selector, walk.after.as_ref(), self.limits.walk_slice, |place, topic| {
            if !topic.interested.contains(walk.from) {
                places.push(place);
            }
            true
        });
        for place in places {
            let topic = self.tree.topic_mut(place);
            topic.interested.insert(walk.from);
            let mail = Mail::Appeared { id: topic.id, path: topic.path.clone(), kind: topic.kind, latest: topic.latest.clone() };
            self.mail(walk.from, mail);
        }
        next
    }

    fn walk_removal(&mut self, walk: &mut Walk) -> Option<TopicPath> {
        let mut paths = Vec::new();
        let next = self.tree.walk(&walk.selector, walk.after.as_ref(), self.limits.walk_slice, |_, topic| {
            paths.push(topic.path.clone());
            true
        });
        for path in paths {
            walk.progress.removed += u64::from(self.remove_topic(path.as_str()));
        }
        next
    }

    fn walk_fetch(&mut self, walk: &mut Walk) -> Option<TopicPath> {
        let Question::Fetch { first, bytes_max, with_values, .. } = walk.question else { unreachable!("the caller matched a fetch") };
        let progress = &mut walk.progress;
        self.tree.walk(&walk.selector, walk.after.as_ref(), self.limits.walk_slice, |_, topic| {
            let value = topic.latest.as_ref().filter(|_| with_values).map(|latest| latest.value().to_vec());
            let bytes = topic.path.as_str().len() + value.as_ref().map_or(0, Vec::len) + 16;
            if progress.entries.len() >= first || (!progress.entries.is_empty() && progress.bytes + bytes > bytes_max) {
                progress.is_cut = true;
                return false;
            }
            progress.bytes += bytes;
            progress.entries.push(Entry { path: topic.path.as_str().to_owned(), kind: topic.kind, value });
            true
        })
    }
}

/// An update without an id is answered only if it fails.
pub(super) fn needs_answer(to: Asker, result: &Result<Outcome, Refusal>) -> bool {
    to.id != 0 || result.is_err()
}

/// Scalars are shorter than their deltas.
fn has_deltas(kind: ValueType) -> bool {
    matches!(kind, ValueType::Json | ValueType::String | ValueType::Binary)
}
