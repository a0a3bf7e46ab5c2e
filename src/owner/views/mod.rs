//! Topic views at work: each shard derives from the topics that it owns, and sends what comes out to the owners of the reference topics.
//!
//! - here — which views there are: the one writer on the first shard, and every shard's copy.
//! - `work` — what waits for its turn, and the turn; `walk` — a view that comes, changes or goes finds its topics.
//! - `source` — what views make of a topic of this shard: evaluated in slices, and only what its change touches.
//! - `series` — the same for the events of time series.
//! - `pace` — views that throttle and delay.
//! - `watch` — values of other topics that a view needs.
//! - `rights` — what views may read and make.
//! - `reference` — the topics that views make: who wins a path, and what stands there.
//!
//! All that one view makes of one topic comes from that topic's owner, in order, so a late result never overwrites a newer one. Work is
//! counted in units, of which a turn has so many; what is left waits for the next, and of a topic that changes meanwhile only the newest value.

mod pace;
mod reference;
mod rights;
mod series;
mod source;
mod walk;
mod watch;
mod work;

use crate::base::{ShardIndex, Time, TopicId};
use crate::desk::{Answer, Desk, Ticket};
use crate::journal::{Change, StoredTopic, VIEW_KIND, VIEWS_BRANCH};
use crate::mail::views::{Creator, Decision, Derived, Figures, Order, Told};
use crate::mail::{Mail, Part};
use crate::owner::Owner;
use crate::protocol::{ErrorCode, Refusal};
use crate::security::Rights;
use crate::topic::interest::Interests;
use crate::topic::path::TopicPath;
use crate::topic::specification::Specification;
use crate::view::Definition;
use crate::view::catalogue::{Catalogue, CatalogueError, Entry};
use crate::view::evaluate::{EvaluationLimits, Evaluator};
use crate::wire::native::{Outcome, ViewEntry};
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
pub(super) use work::Turn;
use work::{Job, Work};

/// The only shard that decides on views.
pub const VIEWS_WRITER: ShardIndex = ShardIndex(0);

/// Properties of a view's record.
const PRINCIPAL: &str = "principal";
const ROLES: &str = "roles";

/// A reference topic's specification, or why there is none.
type Made = Result<Arc<Specification>, String>;

/// A view on this shard.
struct View {
    name: Box<str>,
    text: Box<str>,
    /// Nobody of whom something is known, where it was made when everybody might do everything.
    creator: Option<Creator>,
    rights: Arc<Rights>,
    definition: Rc<Definition>,
    /// Whether it passes values on as they are and when they come, to a path that follows from the source's alone.
    is_plain: bool,
    /// Counts the definitions it has had.
    revision: u32,
    /// Removed; what it made here is being taken back.
    is_ending: bool,
    /// What its reference topics are, by what their sources are.
    specifications: Vec<(Arc<Specification>, Made)>,
    /// Whether the log was told that what it makes is derived too deep.
    is_depth_told: bool,
    sources: u64,
    evaluations: u64,
    failures: u64,
    last_failure: String,
    delayed: VecDeque<pace::Delayed>,
    /// Results that are sent in their turn.
    sends_waiting: usize,
    /// Topics that found no room for their delay.
    starved: BTreeSet<TopicId>,
}

impl View {
    fn note_failure(&mut self, source: &str, message: &str) {
        // One answer lists many views, each with its last failure: see `view_places`.
        const BYTES_MAX: usize = 1000;
        self.failures += 1;
        self.last_failure.clear();
        self.last_failure.push_str(source);
        self.last_failure.push_str(": ");
        self.last_failure.push_str(message);
        let end = (0..=BYTES_MAX.min(self.last_failure.len())).rev().find(|end| self.last_failure.is_char_boundary(*end));
        self.last_failure.truncate(end.unwrap_or(0));
    }
}

/// What the shard that decides on views holds.
#[derive(Default)]
struct Writer {
    catalogue: Catalogue,
    /// The journal's record of each view.
    records: HashMap<Box<str>, TopicId>,
}

/// See the module.
pub struct Views {
    by_place: BTreeMap<u64, View>,
    selectors: Interests<Vec<u64>>,
    pub(super) work: Work,
    evaluator: Evaluator,
    sources: HashMap<TopicId, Box<source::Source>>,
    contests: reference::Contests,
    watches: watch::Watches,
    pacing: pace::Pacing,
    writer: Writer,
    security: rights::Security,
}

impl Views {
    pub fn new(now: Time) -> Self {
        Self {
            by_place: BTreeMap::new(),
            selectors: Interests::default(),
            work: Work::default(),
            evaluator: Evaluator::default(),
            sources: HashMap::new(),
            contests: reference::Contests::default(),
            watches: watch::Watches::default(),
            pacing: pace::Pacing::new(now),
            writer: Writer::default(),
            security: rights::Security::default(),
        }
    }

    /// What waits for its turn.
    pub fn backlog(&self) -> usize {
        self.work.backlog()
    }

    pub fn has_watchers(&self) -> bool {
        self.watches.has_watchers()
    }

    /// What is kept on account of views; all 0 once every view is gone and mail is delivered.
    pub fn counts(&self) -> [usize; 8] {
        let (sources, contests, [watchers, watched]) = (self.sources.len(), self.contests.len(), self.watches.counts());
        let work = self.work.count() + self.pacing.count();
        [self.by_place.len(), self.selectors.len(), sources, watchers, contests, self.contests.view_count(), watched, work]
    }

    /// Evaluations, failures, and reference topics that stand here.
    pub fn totals(&self) -> [u64; 3] {
        // Bounded by `views.views_max`.
        let views = || self.by_place.values();
        [views().map(|view| view.evaluations).sum(), views().map(|view| view.failures).sum(), self.contests.standing_total()]
    }

    /// Sends a result in its turn.
    fn send_later(&mut self, derived: Derived) {
        let view = self.by_place.get_mut(&derived.view).expect("what derives has its view");
        view.sends_waiting += 1;
        self.work.push(Job::Send(Box::new(derived)));
    }

    fn note_failure(&mut self, place: u64, source: &str, message: &str) {
        // A claim may come from another shard, and outlive its view here.
        if let Some(view) = self.by_place.get_mut(&place) {
            view.note_failure(source, message);
        }
    }
}

fn is_plain(definition: &Definition) -> bool {
    definition.passes_values() && definition.path.is_of_path() && definition.throttle.is_none() && definition.delay_ms.is_none()
}

impl Owner {
    /// The places of views behind `after`, as many as fit a message, and whether there are more; with a name only that one's.
    pub fn view_places(&self, desk: &Desk, after: u64, name: Option<&str>) -> (Vec<u64>, bool) {
        let mut places = Vec::new();
        let mut bytes = 0;
        // Bounded by `views.views_max`.
        for (place, view) in self.views.by_place.range(after.saturating_add(1)..).filter(|(_, view)| !view.is_ending) {
            if name.is_some_and(|name| *view.name != *name) {
                continue;
            }
            bytes += view.name.len() + view.text.len() + 2048;
            if !places.is_empty() && bytes > desk.limits.message_bytes_max {
                return (places, true);
            }
            places.push(*place);
        }
        (places, false)
    }

    /// What this shard knows of views at work.
    pub fn view_figures(&self, places: &[u64]) -> Vec<Figures> {
        let figures = |place: &u64| {
            let references = self.views.contests.standing_of(*place);
            let Some(view) = self.views.by_place.get(place) else { return Figures { place: *place, references, ..Figures::default() } };
            let View { sources, evaluations, failures, .. } = *view;
            Figures { place: *place, sources, references, evaluations, failures, last_failure: view.last_failure.clone() }
        };
        places.iter().map(figures).collect()
    }

    /// The entries of an answer, from all shards' figures in the order of places.
    pub fn view_entries(&self, places: &[u64], figures: &[Figures]) -> Vec<ViewEntry> {
        let entry = |place: &u64| {
            let view = self.views.by_place.get(place)?;
            let mut entry = ViewEntry {
                name: view.name.to_string(),
                definition: view.text.to_string(),
                place: *place,
                is_dormant: view.definition.remote.is_some(),
                sources: 0,
                references: 0,
                evaluations: 0,
                failures: 0,
                last_failure: String::new(),
            };
            // One message has few hundred views, and one share of each is a shard's.
            for share in figures.iter().filter(|share| share.place == *place) {
                entry.sources += share.sources;
                entry.references += share.references;
                entry.evaluations += share.evaluations;
                entry.failures += share.failures;
                if !share.last_failure.is_empty() {
                    entry.last_failure.clone_from(&share.last_failure);
                }
            }
            Some(entry)
        };
        places.iter().filter_map(entry).collect()
    }

    // The writer.

    pub fn view_ordered(&mut self, desk: &mut Desk, order: Order, to: Told) {
        let decided = match order {
            Order::Create { name, text, creator } => self.decide_view(desk, &name, &text, creator, to),
            Order::Remove { name } => self.decide_removal(desk, &name, to),
        };
        let result = match decided {
            Ok(Some((outcome, stored))) => {
                return desk.acknowledge(Ok((outcome, stored)), Answer::View { from: to.shard, ticket: to.ticket });
            }
            Ok(None) => Ok(Outcome::Removed(0)),
            Err(refusal) => Err(refusal),
        };
        desk.mail(to.shard, Mail::Part { ticket: to.ticket, part: Part::View { result, changes_nothing: true } });
    }

    fn decide_view(
        &mut self,
        desk: &mut Desk,
        name: &str,
        text: &str,
        creator: Option<Creator>,
        to: Told,
    ) -> Result<Option<(Outcome, Option<Ticket>)>, Refusal> {
        check_view_storage(desk)?;
        let definition = parse_view(desk, text)?;
        let limits = desk.limits.views.catalogue();
        let put = self.views.writer.catalogue.put(name, text, definition, limits).map_err(|error| {
            let code = match error {
                CatalogueError::Name { .. } => ErrorCode::InvalidView,
                CatalogueError::Full { .. } => ErrorCode::ViewLimit,
                CatalogueError::Cycle { .. } => ErrorCode::CyclicView,
            };
            Refusal::new(code, error.to_string())
        })?;
        if put.is_same && self.views.by_place.get(&put.place).is_some_and(|view| view.creator == creator) {
            // Nothing changes, but the answer waits for what was decided before: whoever asks may rely on that.
            announce(desk, &Decision::Put { place: put.place, name: name.into(), text: text.into(), creator }, to);
            return Ok(Some((Outcome::Created(false), desk.ledger.earlier())));
        }
        // The record of the new definition comes before the removal of the old one: after a crash between the two the newer stands.
        let id = desk.take_topic_id();
        let mut properties = vec![("definition".into(), text.into()), ("place".into(), put.place.to_string().into())];
        if let Some(creator) = &creator {
            properties.extend([(PRINCIPAL.into(), creator.principal.clone()), (ROLES.into(), creator.roles.clone())]);
        }
        let path = TopicPath::of_branch(&format!("{VIEWS_BRANCH}{name}"));
        let mut ticket = desk.ledger.append_record(Change::Added { topic: id, path, kind: VIEW_KIND, properties: properties.into() });
        if let Some(old) = self.views.writer.records.insert(name.into(), id) {
            ticket = desk.ledger.append_record(Change::Removed { topic: old }).or(ticket);
        }
        announce(desk, &Decision::Put { place: put.place, name: name.into(), text: text.into(), creator }, to);
        Ok(Some((Outcome::Created(put.is_new), ticket)))
    }

    fn decide_removal(&mut self, desk: &mut Desk, name: &str, to: Told) -> Result<Option<(Outcome, Option<Ticket>)>, Refusal> {
        check_view_storage(desk)?;
        let Some(Entry { place, .. }) = self.views.writer.catalogue.remove(name) else { return Ok(None) };
        let topic = self.views.writer.records.remove(name).expect("a view has its record");
        let ticket = desk.ledger.append_record(Change::Removed { topic });
        announce(desk, &Decision::Removed { place }, to);
        Ok(Some((Outcome::Removed(1), ticket)))
    }

    // Every shard.

    pub fn view_decided(&mut self, desk: &Desk, decision: Decision, to: Told) {
        match decision {
            Decision::Put { place, name, text, creator } => self.put_view(desk, place, (&name, &text), creator, Some(to)),
            Decision::Removed { place } => self.end_view(place, to),
        }
    }

    /// Takes up a view, or its new definition.
    fn put_view(&mut self, desk: &Desk, place: u64, (name, text): (&str, &str), creator: Option<Creator>, to: Option<Told>) {
        let is_same = |view: &View| *view.text == *text && view.creator == creator;
        if let Some(to) = to.filter(|_| self.views.by_place.get(&place).is_some_and(is_same)) {
            return self.start_empty_walk(place, to);
        }
        let rights = self.views.security.rights_of(creator.as_ref());
        let definition = Definition::parse(text, &desk.limits.views.language).expect("the writer has parsed it by the same limits");
        let definition = Rc::new(definition);
        let old = self.views.by_place.get_mut(&place).map(|view| {
            view.text = text.into();
            (view.creator, view.rights) = (creator.clone(), rights.clone());
            view.is_plain = is_plain(&definition);
            view.revision += 1;
            view.specifications.clear();
            view.is_depth_told = false;
            std::mem::replace(&mut view.definition, definition.clone())
        });
        match &old {
            Some(old) => {
                self.unlink_view(place, old);
                if definition.delay_ms.is_none() {
                    self.release_delayed(desk, place);
                }
            }
            None => {
                let view = View {
                    name: name.into(),
                    text: text.into(),
                    creator,
                    rights,
                    is_plain: is_plain(&definition),
                    definition: definition.clone(),
                    revision: 0,
                    is_ending: false,
                    specifications: Vec::new(),
                    is_depth_told: false,
                    sources: 0,
                    evaluations: 0,
                    failures: 0,
                    last_failure: String::new(),
                    delayed: VecDeque::new(),
                    sends_waiting: 0,
                    starved: BTreeSet::new(),
                };
                self.views.by_place.insert(place, view);
            }
        }
        if definition.remote.is_none() {
            self.views.selectors.entry(&definition.selector, Vec::new).push(place);
        }
        self.start_view_walk(place, old.map(|old| old.selector.clone()), to);
    }

    fn end_view(&mut self, place: u64, to: Told) {
        let view = self.views.by_place.get_mut(&place).expect("the writer removes what it has put");
        view.is_ending = true;
        let definition = view.definition.clone();
        self.unlink_view(place, &definition);
        self.drop_delayed(place);
        self.start_view_walk(place, Some(definition.selector.clone()), Some(to));
    }

    fn unlink_view(&mut self, place: u64, definition: &Definition) {
        if definition.remote.is_some() {
            return;
        }
        let places = self.views.selectors.get_mut(&definition.selector).expect("a view that is at work is found by its selector");
        // Bounded by `views.views_max`.
        places.retain(|held| *held != place);
        if places.is_empty() {
            self.views.selectors.remove(&definition.selector);
        }
    }

    /// Takes up a view that was stored. Every shard does, behind its topics.
    pub fn restore_view(&mut self, desk: &mut Desk, id: TopicId, stored: &StoredTopic) -> Result<(), String> {
        let name = stored.view_name().ok_or_else(|| format!("the record of a view has the path '{}'", stored.path.as_str()))?.to_owned();
        let text = stored.property("definition").ok_or_else(|| format!("view '{name}' has no definition"))?;
        let place = stored.property("place").and_then(|place| place.parse().ok()).ok_or_else(|| format!("view '{name}' has no place"))?;
        let definition = parse_view(desk, text).map_err(|refusal| format!("view '{name}': {}", refusal.message))?;
        if desk.identity.index == VIEWS_WRITER {
            self.views.writer.catalogue.restore(&name, place, text, definition);
            if let Some(older) = self.views.writer.records.insert(name.as_str().into(), id) {
                desk.ledger.append_record(Change::Removed { topic: older });
            }
        }
        let creator = stored.property(PRINCIPAL).zip(stored.property(ROLES));
        let creator = creator.map(|(principal, roles)| Creator { principal: principal.into(), roles: roles.into() });
        self.put_view(desk, place, (&name, text), creator, None);
        Ok(())
    }

    /// A shard's fence has come, and so has all that the shard had sent before. The shard that waits for it is told.
    pub fn fence(&mut self, desk: &mut Desk, to: Told) {
        desk.mail(to.shard, Mail::Part { ticket: to.ticket, part: Part::Ready });
    }
}

fn evaluation_limits(desk: &Desk) -> EvaluationLimits {
    EvaluationLimits {
        references_max: desk.limits.views.references_max,
        value_bytes_max: desk.limits.value_bytes_max,
        path_bytes_max: desk.limits.path_bytes_max,
        depth_max: desk.limits.json_depth_max,
        work_max: desk.limits.views.work_max,
    }
}

/// Refuses a change of views that could not be stored now.
fn check_view_storage(desk: &Desk) -> Result<(), Refusal> {
    match desk.ledger.failure() {
        Some(reason) => Err(Refusal::new(ErrorCode::StorageUnavailable, format!("views cannot be changed for now: {reason}"))),
        None => Ok(()),
    }
}

/// Reads the text of a view.
pub fn parse_view(desk: &Desk, text: &str) -> Result<Definition, Refusal> {
    Definition::parse(text, &desk.limits.views.language)
        .map_err(|error| Refusal::at(ErrorCode::InvalidView, error.position, error.to_string()))
}

/// Tells every shard what was decided.
fn announce(desk: &mut Desk, decision: &Decision, to: Told) {
    for shard in (0..desk.identity.count).map(ShardIndex) {
        desk.mail(shard, Mail::ViewDecided { decision: Box::new(decision.clone()), to });
    }
}
