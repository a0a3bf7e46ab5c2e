//! What views make of the topics of this shard.
//!
//! A source topic holds a derivation for each view that selects it: what the view last made of it, and what it has still to look at. A change
//! queues the derivations of its topic, and nothing else.

use super::pace::Pace;
use super::work::Job;
use super::{View, Views};
use crate::base::{Time, TopicId};
use crate::desk::{Desk, Effect, Log};
use crate::mail::Mail;
use crate::mail::views::{Ancestry, ClaimChange, Content, DEPTH_MAX, Derived};
use crate::owner::Owner;
use crate::owner::views::evaluation_limits;
use crate::topic::path::TopicPath;
use crate::topic::publication::Publication;
use crate::topic::specification::{Specification, TopicType};
use crate::topic::tree::{Place, Topic};
use crate::value::ValueType;
use crate::view::evaluate::{Evaluation, Input};
use crate::view::specification::reference_specification;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128;

/// How many results of one evaluation are sent at once; those behind them are sent one by one, each in a turn of its own.
const STEPS_AT_ONCE: usize = 64;

/// What a topic that comes or goes costs, most of it at its owner.
const TOPIC_UNITS: usize = 4;

/// Bytes that cost one unit to evaluate.
const UNIT_BYTES: usize = 256;

/// How many different specifications of sources a view remembers. There are hardly ever more; where there are, the oldest is made again when it is
/// needed.
const SPECIFICATIONS_MAX: usize = 64;

/// A topic that views derive from.
pub struct Source {
    pub place: Place,
    path: TopicPath,
    /// What the topic is derived from, and itself; `None` where that is too long a way to derive from it again.
    ancestry: Option<Arc<Ancestry>>,
    pub derivations: Vec<Derivation>,
}

/// One view of one topic.
pub struct Derivation {
    pub view: u64,
    shape: Shape,
    /// Of the definition that the outputs follow from.
    pub revision: u32,
    pub is_queued: bool,
    pub pending: Pending,
    pub outputs: Vec<Output>,
    /// The other topics that it looks at.
    pub watches: Vec<TopicPath>,
    /// What the outputs are derived from, where that is more than what the source is.
    pub joined: Option<Arc<Ancestry>>,
    pub pace: Option<Box<Pace>>,
}

/// What a derivation has not looked at yet.
pub enum Pending {
    Nothing,
    /// The topic as it is.
    Whole,
    Latest(Arc<Publication>),
    /// Every one of them.
    Each(VecDeque<Arc<Publication>>),
}

/// A reference topic that a derivation has made.
pub struct Output {
    pub path: TopicPath,
    /// Of the value that was sent last.
    pub digest: u128,
}

impl Source {
    pub fn find(&mut self, view: u64) -> Option<&mut Derivation> {
        let at = self.position(view).ok()?;
        Some(&mut self.derivations[at])
    }

    fn position(&self, view: u64) -> Result<usize, usize> {
        self.derivations.binary_search_by_key(&view, |held| held.view)
    }
}

impl Derivation {
    fn new(view: u64, revision: u32, shape: Shape) -> Self {
        let (outputs, watches) = (Vec::new(), Vec::new());
        Self { view, shape, revision, is_queued: false, pending: Pending::Nothing, outputs, watches, joined: None, pace: None }
    }

    /// Of updates that are to be seen each, all but the newest go, and are counted. Those that a series keeps are found there.
    pub fn forget_older(&mut self) -> usize {
        let Pending::Each(updates) = &mut self.pending else { return 0 };
        let count = updates.len();
        if self.shape == Shape::Events {
            self.pending = Pending::Whole;
            return count;
        }
        updates.drain(..count - 1);
        count - 1
    }

    /// Updates that are to be seen each.
    fn updates_pending(&self) -> usize {
        if let Pending::Each(updates) = &self.pending { updates.len() } else { 0 }
    }

    /// What is to be looked at joins what waits already.
    fn note(&mut self, news: Pending) {
        let pending = std::mem::replace(&mut self.pending, Pending::Nothing);
        self.pending = match (self.shape, pending, news) {
            // The topic keeps its events, so they need not be held here once all of it is to be looked at.
            (Shape::Events, Pending::Whole, _) | (Shape::Events, _, Pending::Whole) => Pending::Whole,
            (Shape::Events | Shape::Collected, Pending::Each(mut held), Pending::Latest(publication)) => {
                held.push_back(publication);
                Pending::Each(held)
            }
            (Shape::Events | Shape::Collected, _, Pending::Latest(publication)) => Pending::Each(VecDeque::from([publication])),
            (_, Pending::Each(held), Pending::Whole) => Pending::Each(held),
            // What was published last is the topic as it is, also where the topic does not keep it.
            (_, Pending::Latest(publication), Pending::Whole) => Pending::Latest(publication),
            (_, _, news) => news,
        };
    }
}

/// What a source and its reference topics are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Values of values.
    Values,
    /// Events of events.
    Events,
    /// The latest event as a value.
    LatestEvent,
    /// An event of each value.
    Collected,
}

impl Shape {
    fn of(source: &Specification, reference: &Specification) -> Self {
        let is_series = |specification: &Specification| specification.topic_type() == TopicType::TimeSeries;
        match (is_series(source), is_series(reference)) {
            (false, false) => Self::Values,
            (true, true) => Self::Events,
            (true, false) => Self::LatestEvent,
            (false, true) => Self::Collected,
        }
    }
}

/// A derivation on its way through an evaluation.
pub struct Deriving<'d> {
    pub view: u64,
    pub source: &'d TopicPath,
    pub definition: &'d crate::view::Definition,
    pub specification: &'d Arc<Specification>,
    pub ancestry: &'d Arc<Ancestry>,
    /// Whether everything is to be offered anew.
    pub is_new: bool,
    /// Whether what there is follows from another definition.
    pub is_redefined: bool,
    pub received: Time,
    pub shape: Shape,
}

impl Views {
    /// What a view makes of a topic, where it is known to make something.
    pub(super) fn derivation(&mut self, id: TopicId, view: u64) -> &mut Derivation {
        let source = self.sources.get_mut(&id).expect("what derives has its source");
        source.find(view).expect("what derives stands")
    }
}

impl Owner {
    /// A topic has come: whatever selects it derives from it.
    pub fn link_views(&mut self, place: Place) {
        if self.views.selectors.is_empty() {
            return;
        }
        let topic = self.tree.topic(place);
        let id = topic.id;
        let mut views = Vec::new();
        self.views.selectors.for_each_match(topic.path.as_str(), |places| views.extend_from_slice(places));
        views.sort_unstable();
        views.retain(|view| self.views.by_place.get(view).is_some_and(|view| view.may_read(topic)));
        // Bounded by `views.views_max`.
        for view in views {
            self.link_view(place, id, view);
        }
    }

    /// The view selects the topic: derives from it, or again where what it makes follows from another definition.
    pub(super) fn link_view(&mut self, place: Place, id: TopicId, view: u64) {
        let ancestry = if self.views.sources.contains_key(&id) { None } else { self.ancestry(place) };
        let topic = self.tree.topic_mut(place);
        let held = self.views.by_place.get_mut(&view).expect("a view that selects is at work");
        let reference = specification_for(held, &topic.specification);
        let shape = reference.as_ref().map_or(Shape::Values, |reference| Shape::of(&topic.specification, reference));
        let new = || Box::new(Source { place, path: topic.path.clone(), ancestry, derivations: Vec::with_capacity(1) });
        let source = self.views.sources.entry(id).or_insert_with(new);
        match source.position(view) {
            // A walk comes to a topic that has come meanwhile.
            Ok(at) if source.derivations[at].revision == held.revision => return,
            Ok(at) => source.derivations[at].shape = shape,
            Err(at) => {
                source.derivations.insert(at, Derivation::new(view, held.revision, shape));
                topic.is_source = true;
                held.sources += 1;
            }
        }
        let news = match (shape, topic.latest.clone()) {
            // Its value becomes the first event, however soon the next value follows.
            (Shape::Collected, Some(latest)) => Pending::Latest(latest),
            _ => Pending::Whole,
        };
        self.queue_derivation(id, view, news);
    }

    /// A topic has a new value.
    pub fn note_source(&mut self, id: TopicId, publication: &Arc<Publication>) {
        let source = self.views.sources.get_mut(&id).expect("a topic is marked as long as it is a source");
        // Bounded by `views.views_max`.
        for derivation in &mut source.derivations {
            let before = derivation.updates_pending();
            derivation.note(Pending::Latest(publication.clone()));
            self.views.work.count_updates(before, derivation.updates_pending());
            if !std::mem::replace(&mut derivation.is_queued, true) {
                self.views.work.push(Job::Derive(id, derivation.view));
            }
        }
    }

    pub(super) fn queue_derivation(&mut self, id: TopicId, view: u64, news: Pending) {
        let derivation = self.views.derivation(id, view);
        let before = derivation.updates_pending();
        derivation.note(news);
        let (now, was_queued) = (derivation.updates_pending(), std::mem::replace(&mut derivation.is_queued, true));
        self.views.work.count_updates(before, now);
        if !was_queued {
            self.views.work.push(Job::Derive(id, view));
        }
    }

    /// Looks at what a derivation has not seen yet.
    pub(super) fn derive(&mut self, desk: &mut Desk, id: TopicId, view: u64) {
        // The view or the topic may have gone since the derivation was queued.
        let Some(held) = self.views.by_place.get_mut(&view) else { return };
        let Some(source) = self.views.sources.get_mut(&id) else { return };
        let (place, path) = (source.place, source.path.clone());
        let Some(derivation) = source.find(view) else { return };
        derivation.is_queued = false;
        if held.is_ending {
            return;
        }
        if held.is_plain
            && held.delayed.is_empty()
            && held.sends_waiting == 0
            && derivation.revision == held.revision
            && derivation.shape == Shape::Values
            && let [output] = &derivation.outputs[..]
        {
            // The one thing that most views do is to pass a value on.
            let Pending::Latest(publication) = std::mem::replace(&mut derivation.pending, Pending::Nothing) else { return };
            held.evaluations += 1;
            let (received, bytes) = (publication.received, publication.bytes());
            let step = ClaimChange::Value { content: Content::Shared(publication), received };
            let derived = Derived { view, source: path, path: output.path.clone(), step };
            self.views.work.spend(1 + bytes / (4 * UNIT_BYTES));
            return self.mail_derived(desk, derived);
        }
        // Where the new definition does not select the topic, the view's walk will unlink the derivation.
        if derivation.revision != held.revision && !held.definition.selector.matches(path.as_str()) {
            return;
        }
        let (definition, ancestry) = (held.definition.clone(), source.ancestry.clone());
        if self.is_throttled(desk, id, view, &definition) || self.is_starved(desk, id, view, &definition) {
            return;
        }
        let Some(ancestry) = ancestry else {
            return self.fail_too_deep(desk, id, view, "the topic");
        };
        let topic = self.tree.topic(place);
        let held = self.views.by_place.get_mut(&view).expect("it was just there");
        held.evaluations += 1;
        let revision = held.revision;
        let reference = match specification_for(held, &topic.specification).clone() {
            Ok(reference) => reference,
            Err(why) => return self.fail_derivation(desk, id, view, &why),
        };
        let shape = Shape::of(&topic.specification, &reference);
        let latest = topic.latest.clone();
        let derivation = self.views.derivation(id, view);
        let updates = derivation.updates_pending();
        let pending = std::mem::replace(&mut derivation.pending, Pending::Nothing);
        let is_new = std::mem::replace(&mut derivation.revision, revision) != revision;
        self.views.work.forget_updates(updates);
        let mut deriving = Deriving {
            view,
            source: &path,
            definition: &definition,
            specification: &reference,
            ancestry: &ancestry,
            is_new,
            is_redefined: is_new,
            received: desk.turn.now,
            shape,
        };
        self.derive_pending(desk, id, place, &mut deriving, pending, latest);
    }

    fn derive_pending(
        &mut self,
        desk: &mut Desk,
        id: TopicId,
        place: Place,
        deriving: &mut Deriving<'_>,
        pending: Pending,
        latest: Option<Arc<Publication>>,
    ) {
        match (deriving.shape, pending) {
            (Shape::Events, pending) => self.derive_events(desk, id, place, deriving, pending),
            (Shape::Collected, Pending::Each(values)) => {
                // What waits is counted into the backlog, at whose mark publishers are not read.
                for value in values {
                    deriving.received = value.received;
                    self.derive_value(desk, id, place, deriving, Some(value));
                    (deriving.is_new, deriving.is_redefined) = (false, false);
                }
            }
            (_, Pending::Latest(value)) => {
                deriving.received = value.received;
                self.derive_value(desk, id, place, deriving, Some(value));
            }
            (_, Pending::Each(mut values)) => self.derive_value(desk, id, place, deriving, values.pop_back()),
            (_, Pending::Whole | Pending::Nothing) => self.derive_value(desk, id, place, deriving, latest),
        }
    }

    fn derive_value(&mut self, desk: &mut Desk, id: TopicId, place: Place, deriving: &Deriving<'_>, publication: Option<Arc<Publication>>) {
        let topic = self.tree.topic(place);
        let kind = topic.specification.value_type();
        let value = publication.as_ref().and_then(|publication| publication.value());
        let bytes = value.map_or(0, <[u8]>::len);
        let limits = evaluation_limits(desk);
        let mut evaluation = Evaluation::default();
        let input = Input { path: deriving.source.as_str(), kind, value };
        let reader = self.views.reader_of(deriving.view);
        let mut topics = super::watch::Looking::new(&self.views.watches, &reader);
        self.views.evaluator.evaluate(deriving.definition, &input, &mut topics, &limits, &mut evaluation);
        let looked = topics.into_paths();
        self.views.work.spend(1 + bytes / UNIT_BYTES + evaluation.references.len());
        let made: Vec<Made> = evaluation
            .references
            .into_iter()
            .map(|derived| {
                let content = match (derived.value, &publication) {
                    _ if publication.is_none() => Content::Nothing,
                    (Some(value), _) => Content::Own(Some(value.into_owned().into())),
                    (None, _) => Content::Own(None),
                };
                Made { path: derived.path, kind: derived.kind, content }
            })
            .collect();
        let (failures, last_failure, is_waiting) = (evaluation.failures, evaluation.failure, evaluation.is_waiting);
        self.watch(desk, id, deriving.view, looked);
        if is_waiting {
            // What is awaited queues the derivation again.
            return self.keep_pending(id, deriving, publication);
        }
        if let Some(failure) = last_failure {
            let view = self.views.by_place.get_mut(&deriving.view).expect("what derives has its view");
            view.failures += failures.saturating_sub(1);
            view.note_failure(deriving.source.as_str(), &failure.message);
        }
        self.settle_outputs(desk, id, deriving, made);
    }

    fn keep_pending(&mut self, id: TopicId, deriving: &Deriving<'_>, publication: Option<Arc<Publication>>) {
        let derivation = self.views.derivation(id, deriving.view);
        if deriving.is_new {
            derivation.revision = derivation.revision.wrapping_sub(1);
        }
        let before = derivation.updates_pending();
        match publication {
            Some(publication) if deriving.shape == Shape::Collected => derivation.note(Pending::Latest(publication)),
            publication if matches!(derivation.pending, Pending::Nothing) => {
                derivation.pending = publication.map_or(Pending::Whole, Pending::Latest);
            }
            _ => {}
        }
        let now = derivation.updates_pending();
        self.views.work.count_updates(before, now);
    }

    /// What the outputs are derived from, where that is more than their source.
    pub(super) fn joined(&mut self, id: TopicId, deriving: &Deriving<'_>) -> Option<Arc<Ancestry>> {
        let derivation = self.views.derivation(id, deriving.view);
        if derivation.watches.is_empty() {
            return None;
        }
        let watches = std::mem::take(&mut derivation.watches);
        let joined = self.joined_ancestry(deriving.ancestry, &watches);
        self.views.derivation(id, deriving.view).watches = watches;
        Some(joined)
    }

    /// Sends what differs from what was made before.
    pub(super) fn settle_outputs(&mut self, desk: &mut Desk, id: TopicId, deriving: &Deriving<'_>, made: Vec<Made>) {
        let joined = self.joined(id, deriving);
        let derivation = self.views.derivation(id, deriving.view);
        let is_moved = derivation.joined != joined;
        derivation.joined.clone_from(&joined);
        let ancestry = joined.as_ref().unwrap_or(deriving.ancestry);
        if ancestry.is_too_deep() {
            return self.fail_too_deep(desk, id, deriving.view, "what it looks at");
        }
        let deriving = &Deriving { ancestry, is_new: deriving.is_new || is_moved, ..*deriving };
        let old = std::mem::take(&mut derivation.outputs);
        let mut outputs = Vec::with_capacity(made.len());
        let mut steps = Vec::with_capacity(made.len());
        let mut loops: BTreeSet<String> = BTreeSet::new();
        // Most views make one topic of each; only those that expand need a table.
        let by_path: Option<hashbrown::HashMap<&str, usize>> =
            (old.len() > 8).then(|| old.iter().enumerate().map(|(at, output)| (output.path.as_str(), at)).collect());
        let find = |path: &str| match &by_path {
            Some(table) => table.get(path).copied(),
            None => old.iter().position(|output| output.path.as_str() == path),
        };
        let mut is_kept = vec![false; old.len()];
        // Bounded by `views.references_max`, here and below.
        for Made { path, kind, content } in made {
            if deriving.ancestry.contains(&path) {
                loops.insert(path);
                continue;
            }
            let digest = digest(kind, &content);
            let found = find(&path);
            let path = found.map_or_else(|| TopicPath::of_branch(&path), |at| old[at].path.clone());
            if let Some(at) = found {
                is_kept[at] = true;
            }
            let step = match found {
                Some(_) if deriving.is_new => Some(offer(deriving, content)),
                Some(at) if old[at].digest == digest && deriving.shape != Shape::Collected => None,
                Some(_) => Some(ClaimChange::Value { content, received: deriving.received }),
                None => Some(offer(deriving, content)),
            };
            steps.extend(step.map(|step| (path.clone(), step)));
            outputs.push(Output { path, digest });
        }
        drop(by_path);
        for (output, is_kept) in old.into_iter().zip(is_kept) {
            if is_kept {
                continue;
            }
            let is_preserved = deriving.definition.preserves_topics && !deriving.is_redefined;
            if is_preserved && !loops.contains(output.path.as_str()) {
                outputs.push(output);
            } else {
                steps.push((output.path, ClaimChange::Withdraw));
            }
        }
        derivation.outputs = outputs;
        for path in loops {
            let why = format!("the topic '{path}' would be derived from itself");
            self.views.note_failure(deriving.view, deriving.source.as_str(), &why);
        }
        for (count, (path, step)) in steps.into_iter().enumerate() {
            let derived = Derived { view: deriving.view, source: deriving.source.clone(), path, step };
            self.hand_on(desk, derived, deriving.definition.delay_ms, count);
        }
    }

    pub(super) fn send_derived(&mut self, desk: &mut Desk, deriving: &Deriving<'_>, path: TopicPath, step: ClaimChange) {
        let derived = Derived { view: deriving.view, source: deriving.source.clone(), path, step };
        self.hand_on(desk, derived, deriving.definition.delay_ms, 0);
    }

    /// Sends a result before which its evaluation had `count` others. Nothing overtakes what its view has still to send.
    fn hand_on(&mut self, desk: &mut Desk, derived: Derived, delay_ms: Option<u64>, count: usize) {
        let view = self.views.by_place.get(&derived.view).expect("what derives has its view");
        let (is_delaying, is_sending) = (!view.delayed.is_empty(), view.sends_waiting > 0);
        match delay_ms {
            Some(delay_ms) => self.delay_derived(desk, derived, delay_ms),
            None if is_delaying => self.delay_derived(desk, derived, 0),
            None if is_sending || count >= STEPS_AT_ONCE => self.views.send_later(derived),
            None => self.mail_derived(desk, derived),
        }
    }

    pub(super) fn mail_derived(&mut self, desk: &mut Desk, derived: Derived) {
        let derived = self.check_made(derived);
        if matches!(derived.step, ClaimChange::Offer { .. } | ClaimChange::Withdraw) {
            self.views.work.spend(TOPIC_UNITS);
        }
        let owner = desk.owner_of(derived.path.as_str());
        // Values change no structure, so they need not wait for their turn where nothing does.
        if owner == desk.identity.index && !desk.has_mail() && matches!(derived.step, ClaimChange::Value { .. } | ClaimChange::Event { .. })
        {
            return self.derived_arrived(desk, derived);
        }
        desk.mail(owner, Mail::Derived(Box::new(derived)));
    }

    /// Where the view's creator may make no topic there is none, nor stays one.
    fn check_made(&mut self, derived: Derived) -> Derived {
        let is_allowed = self.views.by_place.get(&derived.view).is_none_or(|view| view.may_make(&derived.path));
        if is_allowed || matches!(derived.step, ClaimChange::Withdraw) {
            return derived;
        }
        let why = format!("its creator's roles do not permit MODIFY_TOPIC at '{}'", derived.path.as_str());
        self.views.note_failure(derived.view, derived.source.as_str(), &why);
        Derived { step: ClaimChange::Withdraw, ..derived }
    }

    /// Counted like every failure, and told to the log once for each definition.
    fn fail_too_deep(&mut self, desk: &mut Desk, id: TopicId, view: u64, what: &str) {
        self.fail_derivation(desk, id, view, &format!("{what} is derived {DEPTH_MAX} deep already"));
        let held = self.views.by_place.get_mut(&view).expect("what derives has its view");
        let source = self.views.sources.get(&id).expect("what derives has its source");
        if !std::mem::replace(&mut held.is_depth_told, true) {
            desk.effects.push(Effect::Log(Log::ViewTooDeep { view: held.name.clone(), source: source.path.clone() }));
        }
    }

    /// What the view makes of the topic goes; why is kept for who asks.
    pub(super) fn fail_derivation(&mut self, desk: &mut Desk, id: TopicId, view: u64, why: &str) {
        let source = self.views.sources.get_mut(&id).expect("what derives has its source");
        let path = source.path.clone();
        let derivation = source.find(view).expect("what derives stands");
        self.views.work.forget_updates(derivation.updates_pending());
        derivation.pending = Pending::Nothing;
        let outputs = std::mem::take(&mut derivation.outputs);
        self.views.note_failure(view, path.as_str(), why);
        self.views.work.spend(1);
        self.withdraw(desk, view, &path, outputs);
    }

    fn withdraw(&mut self, desk: &mut Desk, view: u64, source: &TopicPath, outputs: Vec<Output>) {
        let held = self.views.by_place.get(&view).expect("what derives has its view");
        let delay_ms = if held.is_ending { None } else { held.definition.delay_ms };
        // Bounded by `views.references_max`; those behind the first are sent in their turn.
        for (count, output) in outputs.into_iter().enumerate() {
            let derived = Derived { view, source: source.clone(), path: output.path, step: ClaimChange::Withdraw };
            self.hand_on(desk, derived, delay_ms, count);
        }
    }

    /// Takes back what one view made of a topic.
    pub(super) fn unlink_derivation(&mut self, desk: &mut Desk, id: TopicId, view: u64) {
        let source = self.views.sources.get_mut(&id).expect("a topic is marked as long as it is a source");
        let Ok(at) = source.position(view) else { return };
        let derivation = source.derivations.remove(at);
        let (place, is_last) = (source.place, source.derivations.is_empty());
        if is_last {
            self.views.sources.remove(&id);
            self.tree.topic_mut(place).is_source = false;
        }
        let path = self.tree.topic(place).path.clone();
        self.end_derivation(desk, id, &path, derivation);
    }

    /// A topic has gone, and all that was made of it goes.
    pub(in crate::owner) fn end_source(&mut self, desk: &mut Desk, topic: &Topic) {
        let source = self.views.sources.remove(&topic.id).expect("a topic is marked as long as it is a source");
        // Bounded by `views.views_max`.
        for derivation in source.derivations {
            self.end_derivation(desk, topic.id, &topic.path, derivation);
        }
    }

    fn end_derivation(&mut self, desk: &mut Desk, id: TopicId, path: &TopicPath, derivation: Derivation) {
        self.views.work.forget_updates(derivation.updates_pending());
        let Derivation { view, outputs, watches, pace, .. } = derivation;
        self.views.by_place.get_mut(&view).expect("a view stays as long as it has sources").sources -= 1;
        self.unwatch(desk, id, view, watches);
        self.end_pace(pace);
        self.withdraw(desk, view, path, outputs);
    }

    /// One topic's way from the topics it is derived from, with itself; `None` where that is too long.
    fn ancestry(&self, place: Place) -> Option<Arc<Ancestry>> {
        let topic = self.tree.topic(place);
        let own = topic.is_reference.then(|| self.standing_ancestry(topic.path.as_str()));
        let ancestry = Ancestry::of(&topic.path, own.as_deref());
        (!ancestry.is_too_deep()).then(|| Arc::new(ancestry))
    }
}

/// A reference topic as evaluated.
pub struct Made {
    pub path: String,
    pub kind: ValueType,
    pub content: Content,
}

fn offer(deriving: &Deriving<'_>, content: Content) -> ClaimChange {
    ClaimChange::Offer {
        specification: deriving.specification.clone(),
        ancestry: deriving.ancestry.clone(),
        content,
        received: deriving.received,
    }
}

fn digest(kind: ValueType, content: &Content) -> u128 {
    match content {
        Content::Nothing => 0,
        Content::Own(None) => 1,
        Content::Own(Some(value)) => xxh3_128(value) ^ (u128::from(kind as u8) << 120),
        Content::Shared(publication) => publication.value().map_or(1, xxh3_128) ^ (u128::from(kind as u8) << 120),
        Content::Events(_) => 2,
    }
}

/// What the reference topics of such a source are.
fn specification_for<'v>(view: &'v mut View, source: &Arc<Specification>) -> &'v Result<Arc<Specification>, String> {
    if let Some(at) = view.specifications.iter().position(|(held, _)| Arc::ptr_eq(held, source)) {
        return &view.specifications[at].1;
    }
    let definition: Rc<_> = view.definition.clone();
    let reference = reference_specification(&definition, source).map(Arc::new);
    if view.specifications.len() >= SPECIFICATIONS_MAX {
        let _ = view.specifications.remove(0);
    }
    view.specifications.push((source.clone(), reference));
    &view.specifications.last().expect("it was just pushed").1
}
