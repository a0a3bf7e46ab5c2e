//! Reference topics: what views make, at the owners of their paths.
//!
//! Views claim paths. Of the claims to one the earliest view's wins, within a view that of the source first in path order; its topic stands
//! unless a client has made a topic there. Clients read reference topics and do not change them.

use crate::base::Time;
use crate::desk::Desk;
use crate::mail::Appearance;
use crate::mail::views::{Ancestry, ClaimChange, Content, Derived};
use crate::owner::Owner;
use crate::owner::decide::{next_publication, plan_event};
use crate::owner::make_publication;
use crate::owner::record::{self, Record};
use crate::series::{self, Event, Numbers, Series};
use crate::topic::path::TopicPath;
use crate::topic::publication::Publication;
use crate::topic::specification::{Specification, TopicType};
use crate::topic::tree::{Place, Topic};
use crate::wire::native::{Append, EventHead};
use hashbrown::HashTable;
use std::collections::BTreeMap;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// One view's claim, from one source.
struct Claim {
    view: u64,
    source: TopicPath,
    specification: Arc<Specification>,
    ancestry: Arc<Ancestry>,
    /// What its topic would hold, while that does not stand.
    held: Held,
    received: Time,
}

enum Held {
    Content(Content),
    Series(Box<Series>),
}

/// Contests by path. Each path goes with its hash, so that the table grows without a look at every path.
#[derive(Default)]
pub struct Contests {
    by_path: HashTable<(u64, Box<Contest>)>,
    /// Reference topics that stand here, by their view.
    standing: BTreeMap<u64, u64>,
}

impl Contests {
    pub fn len(&self) -> usize {
        self.by_path.len()
    }

    /// Views that have reference topics here.
    pub fn view_count(&self) -> usize {
        self.standing.len()
    }

    /// Reference topics of the view that stand here.
    pub fn standing_of(&self, view: u64) -> u64 {
        self.standing.get(&view).copied().unwrap_or(0)
    }

    /// All reference topics that stand here.
    pub fn standing_total(&self) -> u64 {
        self.standing.values().sum()
    }

    fn count_standing(&mut self, view: u64, is_standing: bool) {
        let count = self.standing.entry(view).or_default();
        if is_standing {
            *count += 1;
        } else {
            *count -= 1;
        }
        if *count == 0 {
            self.standing.remove(&view);
        }
    }

    fn get(&self, path: &str) -> Option<&Contest> {
        let hash = xxh3_64(path.as_bytes());
        self.by_path.find(hash, |(held, contest)| *held == hash && contest.path.as_str() == path).map(|(_, contest)| &**contest)
    }

    fn get_mut(&mut self, path: &str) -> Option<&mut Contest> {
        let hash = xxh3_64(path.as_bytes());
        self.by_path.find_mut(hash, |(held, contest)| *held == hash && contest.path.as_str() == path).map(|(_, contest)| &mut **contest)
    }

    /// The path as it is held, which costs nothing to clone.
    fn path(&self, path: &str) -> Option<TopicPath> {
        let hash = xxh3_64(path.as_bytes());
        self.by_path.find(hash, |(held, contest)| *held == hash && contest.path.as_str() == path).map(|(_, contest)| contest.path.clone())
    }

    fn entry(&mut self, path: &TopicPath) -> &mut Contest {
        let hash = xxh3_64(path.as_str().as_bytes());
        let entry = self.by_path.entry(hash, |(held, contest)| *held == hash && contest.path == *path, |(held, _)| *held);
        let new = || (hash, Box::new(Contest { path: path.clone(), claims: Claims::default(), standing: None }));
        &mut entry.or_insert_with(new).into_mut().1
    }

    fn remove(&mut self, path: &str) {
        let hash = xxh3_64(path.as_bytes());
        if let Ok(entry) = self.by_path.find_entry(hash, |(held, contest)| *held == hash && contest.path.as_str() == path) {
            entry.remove();
        }
    }
}

/// All claims to one path.
pub struct Contest {
    path: TopicPath,
    claims: Claims,
    /// Where the first claim's topic stands.
    standing: Option<Place>,
}

/// Claims in the order of their views and sources, the winning one first. Mostly there is one; a view may also lead every topic there is to one path.
enum Claims {
    Few(Vec<Claim>),
    Many(BTreeMap<(u64, TopicPath), Claim>),
}

/// So many claims to a path are a list; more are a tree.
const FEW_MAX: usize = 16;

impl Default for Claims {
    fn default() -> Self {
        Self::Few(Vec::with_capacity(1))
    }
}

impl Claims {
    fn first(&self) -> Option<&Claim> {
        match self {
            Self::Few(claims) => claims.first(),
            Self::Many(claims) => claims.first_key_value().map(|(_, claim)| claim),
        }
    }

    fn first_mut(&mut self) -> Option<&mut Claim> {
        match self {
            Self::Few(claims) => claims.first_mut(),
            Self::Many(claims) => claims.first_entry().map(|first| first.into_mut()),
        }
    }

    /// The view's claim from the source, and whether it is the first.
    fn get_mut(&mut self, view: u64, source: &TopicPath) -> Option<(&mut Claim, bool)> {
        let is_first = self.first().is_some_and(|first| first.view == view && first.source == *source);
        let claim = match self {
            Self::Few(claims) => find(claims, view, source).ok().map(|at| &mut claims[at]),
            Self::Many(claims) => claims.get_mut(&(view, source.clone())),
        };
        claim.map(|claim| (claim, is_first))
    }

    /// Whether the view's claim from the source is the first, or would be.
    fn would_be_first(&self, view: u64, source: &TopicPath) -> bool {
        self.first().is_none_or(|first| (view, source) <= (first.view, &first.source))
    }

    /// Adds a claim, or replaces that of the same view and source.
    fn put(&mut self, claim: Claim) {
        let claims = match self {
            Self::Many(claims) => return drop(claims.insert((claim.view, claim.source.clone()), claim)),
            Self::Few(claims) => claims,
        };
        match find(claims, claim.view, &claim.source) {
            Ok(at) => claims[at] = claim,
            Err(at) => claims.insert(at, claim),
        }
        if claims.len() > FEW_MAX {
            *self = Self::Many(std::mem::take(claims).into_iter().map(|claim| ((claim.view, claim.source.clone()), claim)).collect());
        }
    }

    fn remove(&mut self, view: u64, source: &TopicPath) {
        match self {
            Self::Few(claims) => _ = find(claims, view, source).map(|at| claims.remove(at)),
            Self::Many(claims) => _ = claims.remove(&(view, source.clone())),
        }
    }
}

fn find(claims: &[Claim], view: u64, source: &TopicPath) -> Result<usize, usize> {
    claims.binary_search_by(|claim| claim.view.cmp(&view).then_with(|| claim.source.cmp(source)))
}

impl Owner {
    /// What a view has made of a topic has come to the owner of its path.
    pub fn derived_arrived(&mut self, desk: &mut Desk, derived: Derived) {
        let Derived { view, source, path, step } = derived;
        match step {
            ClaimChange::Offer { specification, ancestry, content, received } => {
                let held = hold(&specification, content, &desk.anonymous, desk.wall_ms());
                self.claim(desk, &path, Claim { view, source, specification, ancestry, held, received });
            }
            ClaimChange::Value { content, received } => self.claim_valued(desk, &path, view, &source, content, received),
            ClaimChange::Event { event, received } => self.claim_extended(desk, &path, view, &source, event, received),
            ClaimChange::Withdraw => self.withdraw_claim(desk, &path, view, &source),
        }
    }

    fn claim(&mut self, desk: &mut Desk, path: &TopicPath, claim: Claim) {
        let contest = self.views.contests.entry(path);
        let is_held = contest.claims.get_mut(claim.view, &claim.source).is_some();
        let is_first = contest.claims.would_be_first(claim.view, &claim.source);
        match contest.standing.filter(|_| is_first) {
            Some(place) if is_held => {
                let held = contest.claims.first().expect("it is the first");
                let is_same = held.specification == claim.specification && held.ancestry == claim.ancestry;
                if let (true, Held::Content(content)) = (is_same, &claim.held) {
                    return self.refresh(desk, place, content, claim.received);
                }
                let view = claim.view;
                contest.claims.put(claim);
                contest.standing = None;
                self.views.contests.count_standing(view, false);
                self.drop_topic(desk, place);
            }
            Some(_) => {
                self.take_down(desk, path);
                let contest = self.views.contests.get_mut(path.as_str()).expect("it was just there");
                contest.claims.put(claim);
            }
            None => contest.claims.put(claim),
        }
        self.settle_contest(desk, path);
    }

    /// Publishes the value, unless the topic has it already.
    fn refresh(&mut self, desk: &mut Desk, place: Place, content: &Content, received: Time) {
        let Some(value) = content.value() else { return };
        let latest = self.tree.topic(place).latest.as_ref();
        if latest.is_none_or(|latest| latest.value() != value) {
            self.publish(desk, place, value, received);
        }
    }

    fn claim_valued(&mut self, desk: &mut Desk, path: &TopicPath, view: u64, source: &TopicPath, content: Content, received: Time) {
        let Some(contest) = self.views.contests.get_mut(path.as_str()) else { return };
        let standing = contest.standing;
        let Some((claim, is_first)) = contest.claims.get_mut(view, source) else { return };
        let Some(place) = standing.filter(|_| is_first) else {
            let now_ms = desk.wall_ms();
            match &mut claim.held {
                Held::Content(held) => *held = content,
                Held::Series(series) => {
                    if let Some(Some(value)) = content.value() {
                        let _ = series.append(value, None, &desk.anonymous, now_ms);
                    }
                }
            }
            claim.received = received;
            // A claim that found no room for its topic may find some now.
            return self.settle_contest(desk, path);
        };
        let Some(value) = content.value() else { return };
        let topic = self.tree.topic(place);
        let Some(series) = topic.series() else { return self.publish(desk, place, value, received) };
        let append = Append::Original { timestamp_ms: None };
        let planned = value.and_then(|value| plan_event(desk, topic.id, series, (append, value), (None, received)).ok());
        if let Some((event, _)) = planned {
            self.apply(desk, Some(place), Record::Event(event));
        }
    }

    fn claim_extended(&mut self, desk: &mut Desk, path: &TopicPath, view: u64, source: &TopicPath, event: Event, received: Time) {
        let Some(contest) = self.views.contests.get_mut(path.as_str()) else { return };
        let standing = contest.standing;
        let Some((claim, is_first)) = contest.claims.get_mut(view, source) else { return };
        if let Some(place) = standing.filter(|_| is_first) {
            self.extend_standing(desk, place, event, received);
        } else if let Held::Series(series) = &mut claim.held {
            let _ = series.restore(event);
            if let Some(gone) = series.take_gone() {
                self.discard(gone);
            }
        }
    }

    fn extend_standing(&mut self, desk: &mut Desk, place: Place, event: Event, received: Time) {
        let topic = self.tree.topic_mut(place);
        let id = topic.id;
        let Some(series) = topic.series_mut() else { return };
        let Event { value, sequence, timestamp_ms, author, original } = event;
        let Ok(planned) = series.plan_foreign(Numbers { sequence, timestamp_ms, original }) else { return };
        let series::Appended { first_kept, dropped, .. } = planned;
        if !series.admits(original) {
            // An edit of an event that is not here is none of this series.
            return series.restore_end(sequence + 1, timestamp_ms);
        }
        let head = EventHead { sequence, timestamp_ms, original, author: &author };
        let publication = Arc::new(Publication::event(id, received, head, &value));
        self.apply(desk, Some(place), Record::Event(record::Event { publication, author, first_kept, dropped }));
    }

    fn withdraw_claim(&mut self, desk: &mut Desk, path: &TopicPath, view: u64, source: &TopicPath) {
        let Some(contest) = self.views.contests.get_mut(path.as_str()) else { return };
        let Some((_, is_first)) = contest.claims.get_mut(view, source) else { return };
        let standing = contest.standing.take_if(|_| is_first);
        contest.claims.remove(view, source);
        if let Some(place) = standing {
            self.views.contests.count_standing(view, false);
            self.drop_topic(desk, place);
        }
        self.settle_contest(desk, path);
    }

    /// Makes the winning claim's topic stand, if it may.
    pub(in crate::owner) fn settle_contest(&mut self, desk: &mut Desk, path: &TopicPath) {
        let contest = self.views.contests.get_mut(path.as_str()).expect("a contest stands as long as somebody claims its path");
        let Some(claim) = contest.claims.first_mut() else {
            return self.views.contests.remove(path.as_str());
        };
        if contest.standing.is_some() || self.tree.find(path.as_str()).is_some() {
            return;
        }
        if self.tree.len() >= desk.limits.topics_max {
            let (view, source) = (claim.view, claim.source.clone());
            let why = format!("this server's core holds its most of {} topics", desk.limits.topics_max);
            return self.views.note_failure(view, source.as_str(), &why);
        }
        let held = std::mem::replace(&mut claim.held, Held::Content(Content::Nothing));
        let (view, specification, received) = (claim.view, claim.specification.clone(), claim.received);
        self.views.contests.count_standing(view, true);
        let mut topic = Topic::new(desk.take_topic_id(), path.clone(), specification);
        topic.is_reference = true;
        let mut unkept = None;
        match held {
            Held::Content(content) => match content.value() {
                Some(value) if topic.specification.retains_value() => {
                    topic.latest = Some(Arc::new(make_publication(topic.id, &topic.specification, 1, value, received)));
                }
                Some(_) => unkept = Some(content),
                None => {}
            },
            Held::Series(series) => {
                topic.latest = series.latest().filter(|_| topic.specification.retains_value()).map(|event| {
                    let series::EventRef { sequence, timestamp_ms, original, author, value } = event;
                    Arc::new(Publication::event(topic.id, received, EventHead { sequence, timestamp_ms, original, author }, value))
                });
                topic.rare_mut().series = Some(series);
            }
        }
        let place = self.enter(desk, topic, None, Appearance::Made);
        self.views.contests.get_mut(path.as_str()).expect("it was just there").standing = Some(place);
        if let Some(Some(value)) = unkept.as_ref().map(Content::value) {
            self.publish(desk, place, value, received);
        }
    }

    /// The standing topic goes, and its claim holds again what it held.
    fn take_down(&mut self, desk: &mut Desk, path: &TopicPath) {
        let contest = self.views.contests.get_mut(path.as_str()).expect("a reference topic is claimed");
        let place = contest.standing.take().expect("the reference topic stands");
        let topic = self.tree.topic_mut(place);
        let claim = contest.claims.first_mut().expect("the first claim's topic stands");
        claim.held = match topic.take_series() {
            Some(series) => Held::Series(series),
            None => Held::Content(topic.latest.clone().map_or(Content::Nothing, Content::Shared)),
        };
        let view = claim.view;
        self.views.contests.count_standing(view, false);
        self.take_away(desk, place);
    }

    /// A client makes a topic where a view's stands, which gives way.
    pub(in crate::owner) fn displace_reference(&mut self, desk: &mut Desk, place: Place) {
        let path = self.tree.topic(place).path.clone();
        self.take_down(desk, &path);
    }

    /// A client's topic has gone: a view's may stand there again.
    pub(in crate::owner) fn revive_reference(&mut self, desk: &mut Desk, path: &str) {
        if let Some(path) = self.views.contests.path(path) {
            self.settle_contest(desk, &path);
        }
    }

    /// What the reference topic at the path is derived from.
    pub(super) fn standing_ancestry(&self, path: &str) -> Arc<Ancestry> {
        let contest = self.views.contests.get(path).expect("a reference topic is claimed");
        contest.claims.first().expect("the first claim's topic stands").ancestry.clone()
    }

    /// A reference topic's next value.
    fn publish(&mut self, desk: &mut Desk, place: Place, value: Option<&[u8]>, received: Time) {
        let publication = next_publication(self.tree.topic(place), value, received);
        self.apply(desk, Some(place), Record::Value(Arc::new(publication)));
    }
}

/// What a claim holds until its topic stands.
fn hold(specification: &Specification, content: Content, anonymous: &Arc<str>, now_ms: u64) -> Held {
    if specification.topic_type() != TopicType::TimeSeries {
        return Held::Content(content);
    }
    let range = specification.retained_range();
    let mut series = Box::new(Series::new(series::Range { limit: range.limit, last_ms: range.last_ms }));
    if let Some(Some(value)) = content.value() {
        let _ = series.append(value, None, anonymous, now_ms);
    }
    if let Content::Events(events) = content {
        // Bounded by `views.events_max`.
        for event in events {
            // An edit of an event that leads elsewhere is none of this series.
            let _ = series.restore(event);
        }
    }
    Held::Series(series)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::specification::SpecificationLimits;

    #[test]
    fn few_claims_and_many_stand_in_the_same_order() {
        let specification = Arc::new(Specification::parse(TopicType::Json, [].into_iter(), SpecificationLimits::default()).unwrap());
        let source = |number: u64| TopicPath::of_branch(&format!("s{:03}", number * 37 % 100));
        let claim = |number: u64| Claim {
            view: number % 3,
            source: source(number),
            specification: specification.clone(),
            ancestry: Arc::new(Ancestry::of(&source(number), None)),
            held: Held::Content(Content::Nothing),
            received: Time(number),
        };
        let first = |claims: &Claims| claims.first().map(|claim| (claim.view, claim.source.clone()));
        let (mut claims, mut model) = (Claims::default(), std::collections::BTreeSet::new());
        for number in (0..100).chain(50..80) {
            let key = (number % 3, source(number));
            assert_eq!(claims.would_be_first(key.0, &key.1), model.first().is_none_or(|first| key <= *first));
            claims.put(claim(number));
            model.insert(key);
            assert_eq!(first(&claims), model.first().cloned());
        }
        assert!(matches!(&claims, Claims::Many(held) if held.len() == model.len()));
        for number in 0..100 {
            let key = (number % 3, source(number));
            let is_first = model.first() == Some(&key);
            assert_eq!(claims.get_mut(key.0, &key.1).map(|(_, is_first)| is_first), Some(is_first));
            claims.remove(key.0, &key.1);
            model.remove(&key);
            assert!(claims.get_mut(key.0, &key.1).is_none());
            assert_eq!(first(&claims), model.first().cloned());
        }
        assert!(claims.first().is_none());
    }
}
