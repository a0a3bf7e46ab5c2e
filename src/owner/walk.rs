//! Questions about all topics that match: answered at once for one path, else slice by slice.
//!
//! All walks together look at one slice of topics a turn, which they share: a walk among many gets a small part each time its turn comes, so that short
//! ones are soon done.

use super::decide::check_storage;
use super::forward::removal_of;
use super::record::appeared;
use super::walks::Purpose;
use crate::base::ShardIndex;
use crate::desk::{Answer, Desk, Own, Role, Ticket, Together};
use crate::mail::{Appearance, DeepLimit, Fetch, ListenerKind, Mail, Notice, Part, Question, Viewer, What};
use crate::owner::{Owner, Paused};
use crate::protocol::Refusal;
use crate::security::PathPermission;
use crate::topic::path::{TopicPath, is_within};
use crate::topic::selector::{Selector, SelectorLimits};
use crate::topic::tree::{Direction, Onward, Span, Topic, branch_of};
use crate::wire::native::{Entry, Outcome};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;

/// The fewest topics that a walk among many looks at when its turn comes.
const PART_MIN: usize = 32;

/// A question whose share here is walked slice by slice.
pub(super) struct Walk {
    pub(super) from: ShardIndex,
    pub(super) ticket: u64,
    pub(super) question: Question,
    pub(super) selector: Selector,
    rest: Span,
    progress: Progress,
}

impl Walk {
    pub(super) fn new(from: ShardIndex, ticket: u64, question: Question, selector: Selector) -> Self {
        Self { from, ticket, question, selector, rest: Span::default(), progress: Progress::default() }
    }
}

/// How a walk goes on.
enum Next {
    More(Walk),
    /// When the listener's session has room for more.
    Told(Walk),
    /// When less is on its way to the log of this group.
    Paused(Walk, u16),
    /// It was answered.
    Done(Walk),
}

/// What a removal has come to: topics removed, why one was left, the groups and terms that it was decided in, and what others decide on.
type Removing = (u64, Option<Refusal>, BTreeMap<u16, u64>, Option<Rc<RefCell<Together>>>);

#[derive(Default)]
struct Progress {
    removed: u64,
    stored: Option<Ticket>,
    /// Why a topic that is stored, or that several servers hold, was left.
    refusal: Option<Refusal>,
    /// Those that it was decided in, and the terms: a handful.
    groups: BTreeMap<u16, u64>,
    /// Removals that other servers decide on are part of this.
    together: Option<Rc<RefCell<Together>>>,
    /// The group that it waits for, until less is on its way there.
    paused: Option<u16>,
    /// Up to where topics were looked at that are not there yet.
    ahead: Option<TopicPath>,
    page: Page,
    /// Whether the last slice has told a listener something.
    has_told: bool,
}

#[derive(Default)]
struct Page {
    entries: Vec<Entry>,
    bytes: usize,
    is_cut: bool,
    is_thinned: bool,
    /// The deep branch that the last topic was in, and how many it has given.
    branch: Option<(String, usize)>,
}

impl Owner {
    /// Takes up a question; what one path answers is answered at once, the rest slice by slice.
    pub fn start_walk(&mut self, desk: &mut Desk, from: ShardIndex, ticket: u64, question: Question) {
        let text = match &question {
            Question::Interest { selector } | Question::Remove { selector, .. } | Question::Listen { selector, .. } => selector,
            Question::Fetch(fetch) => &fetch.selector,
            Question::Views { places } => {
                let part = Part::Views(self.view_figures(places));
                return desk.mail(from, Mail::Part { ticket, part });
            }
            Question::Query { path, query, bytes_max, unless_owner } => {
                let part = Part::Events(self.query(path, query, *bytes_max, unless_owner.as_ref()));
                return desk.mail(from, Mail::Part { ticket, part });
            }
        };
        let selector = known_selector(desk.limits.selector, text);
        let mut rest = selector.exact_path().map(Span::of_path).unwrap_or_default();
        let mut is_path = selector.exact_path().is_some();
        match &question {
            Question::Interest { .. } => {
                let is_walked = self.walks.has(Purpose::Interest, from, &selector);
                if !self.interests.select(&selector, from) && !is_walked {
                    // Every topic that it matches is marked; this answer comes behind all of them.
                    return desk.mail(from, Mail::Part { ticket, part: Part::Ready });
                }
            }
            Question::Listen { kind: ListenerKind::Topics, .. } => {
                self.interests.listen(ListenerKind::Topics, &selector, from, ticket);
                // Listeners are told of what lies below too, whatever the selector says of that.
                rest = Span::of_branch(selector.prefix());
                is_path = false;
            }
            Question::Listen { kind: ListenerKind::Subscribers, .. } => {
                self.interests.listen(ListenerKind::Subscribers, &selector, from, ticket);
            }
            Question::Fetch(fetch) => match &fetch.region {
                Some(region) => rest = region.topics_of(&selector, &fetch.span),
                None => rest = rest.and(fetch.span.clone()),
            },
            Question::Remove { .. } | Question::Query { .. } | Question::Views { .. } => {}
        }
        let walk = Walk { rest, ..Walk::new(from, ticket, question, selector) };
        if is_path {
            // One topic at most. What the same session asks next may build on it.
            let mut budget = usize::MAX;
            let rest = self.walk_on(desk, walk, &mut budget);
            assert!(matches!(rest, Next::Done(_)), "a scan without a bound comes to its end");
            return;
        }
        self.walks.push(walk);
        if self.walks.active() == 1 && desk.turn.walk_budget > 0 {
            self.walk_part(desk);
        }
    }

    /// Goes on with the walks until this turn's budget is spent.
    pub fn run_walks(&mut self, desk: &mut Desk) {
        while desk.turn.walk_budget > 0 && self.walks.active() > 0 {
            self.walk_part(desk);
        }
    }

    /// Gives the first walk its part of the slice, and puts it behind the others if it is not done.
    fn walk_part(&mut self, desk: &mut Desk) {
        let part = (desk.limits.walk_slice / self.walks.active()).max(PART_MIN).min(desk.turn.walk_budget);
        let (number, walk) = self.walks.pop().expect("a walk can go on");
        let mut left = part;
        let next = self.walk_on(desk, walk, &mut left);
        // A part that finds no topics costs something too.
        desk.turn.walk_budget = desk.turn.walk_budget.saturating_sub((part - left).max(1));
        match next {
            Next::More(walk) => self.walks.put_back(number, walk),
            Next::Told(walk) => {
                desk.mail(walk.from, Mail::SliceTold { ticket: walk.ticket });
                self.walks.wait(number, walk);
            }
            Next::Paused(walk, group) => {
                self.paused.push(Paused { from: walk.from, ticket: walk.ticket, group });
                self.walks.wait(number, walk);
            }
            Next::Done(walk) => self.walks.done(number, &walk),
        }
    }

    /// Walks so many topics on, and gives the answer where that is the end.
    fn walk_on(&mut self, desk: &mut Desk, mut walk: Walk, budget: &mut usize) -> Next {
        let question = walk.question.clone();
        let next = match &question {
            Question::Interest { .. } => self.walk_interest(desk, &walk, budget),
            Question::Remove { viewer, .. } => self.walk_removal(desk, viewer, &mut walk, budget),
            Question::Fetch(fetch) => self.walk_fetch(fetch, &mut walk, budget),
            Question::Listen { kind: ListenerKind::Topics, .. } => self.walk_listened(desk, &mut walk, budget),
            Question::Listen { kind: ListenerKind::Subscribers, .. } => self.walk_counted(desk, &mut walk, budget),
            Question::Query { .. } | Question::Views { .. } => None,
        };
        if let Some(rest) = next.filter(|_| !walk.progress.page.is_cut) {
            walk.rest = rest;
            if let Some(group) = walk.progress.paused.take() {
                return Next::Paused(walk, group);
            }
            return if std::mem::take(&mut walk.progress.has_told) { Next::Told(walk) } else { Next::More(walk) };
        }
        let Progress { removed, stored, refusal, page, groups, together, .. } = std::mem::take(&mut walk.progress);
        let part = match question {
            Question::Remove { .. } => {
                let answer = Answer::Removal { from: walk.from, ticket: walk.ticket };
                if desk.groups.count() > 0 {
                    return self.finish_removal(desk, walk, (removed, refusal, groups, together), answer);
                }
                desk.acknowledge(refusal.map_or(Ok((Outcome::Removed(removed), stored)), Err), answer);
                return Next::Done(walk);
            }
            Question::Fetch(_) => Part::Page { entries: page.entries, is_cut: page.is_cut, is_thinned: page.is_thinned },
            _ => Part::Ready,
        };
        desk.mail(walk.from, Mail::Part { ticket: walk.ticket, part });
        Next::Done(walk)
    }

    pub fn resume_walk(&mut self, from: ShardIndex, ticket: u64) {
        self.walks.resume(from, ticket);
    }

    fn walk_interest(&mut self, desk: &mut Desk, walk: &Walk, budget: &mut usize) -> Option<Span> {
        let mut places = Vec::new();
        let next = self.tree.scan_within(&walk.selector, &walk.rest, Direction::Forward, budget, |place, topic| {
            if !topic.interested.contains(walk.from) {
                places.push(place);
            }
            Onward::Next
        });
        for place in places {
            let topic = self.tree.topic_mut(place);
            topic.interested.insert(walk.from);
            let mail = appeared(topic, Appearance::Found);
            desk.mail(walk.from, mail);
        }
        next
    }

    fn walk_removal(&mut self, desk: &mut Desk, viewer: &Viewer, walk: &mut Walk, budget: &mut usize) -> Option<Span> {
        let mut paths = Vec::new();
        let next = self.tree.scan_within(&walk.selector, &walk.rest, Direction::Forward, budget, |_, topic| {
            // Topics that views make stand as long as their views make them.
            if self.judged(desk, topic.path.as_str(), Some(topic)).is_some_and(|topic| may_remove(viewer, topic)) {
                paths.push(topic.path.clone());
            }
            Onward::Next
        });
        for path in paths {
            if let Some(group) = desk.groups.of(path.as_str()) {
                if is_full(desk, walk, group) {
                    walk.progress.paused = Some(group);
                    return Some(Span { start: Bound::Included(path), end: walk.rest.end.clone() });
                }
                self.note_removal(desk, walk, group, &path);
                continue;
            }
            let place = self.tree.find(path.as_str()).expect("the removal of one topic takes no other along");
            if let Err(refusal) = check_storage(desk, &self.tree.topic(place).specification) {
                walk.progress.refusal = Some(refusal);
                continue;
            }
            walk.progress.removed += 1;
            walk.progress.stored = self.remove_topic(desk, place).or(walk.progress.stored);
        }
        next.or_else(|| self.remove_ahead(desk, viewer, walk, budget))
    }

    /// Topics that will be there, and are not yet, go too: who asks may have added them just before. Gives an empty span where it has to go on.
    fn remove_ahead(&mut self, desk: &mut Desk, viewer: &Viewer, walk: &mut Walk, budget: &mut usize) -> Option<Span> {
        let span = Span::of_selector(&walk.selector);
        while let Some(path) = self.ahead.next_added(&span, walk.progress.ahead.as_ref()).cloned() {
            let group = desk.groups.of(path.as_str()).expect("what is ahead is replicated");
            let full = walk.selector.matches(path.as_str()) && is_full(desk, walk, group);
            if *budget == 0 || full {
                walk.progress.paused = full.then_some(group);
                return Some(Span { start: Bound::Included(path.clone()), end: Bound::Excluded(path) });
            }
            *budget -= 1;
            let judged = self.judged(desk, path.as_str(), None).filter(|topic| may_remove(viewer, topic));
            if judged.is_some() && walk.selector.matches(path.as_str()) {
                self.note_removal(desk, walk, group, &path);
            }
            walk.progress.ahead = Some(path);
        }
        None
    }

    fn note_removal(&mut self, desk: &mut Desk, walk: &mut Walk, group: u16, path: &TopicPath) {
        let progress = &mut walk.progress;
        let part = |together: &mut Option<_>| Together::part(together.get_or_insert_with(Together::begin));
        // What waits for another server to lead comes before it.
        if matches!(desk.groups.role(group), Role::Follows { .. }) || desk.groups.has_forwarded(group) {
            let number = desk.groups.forward(desk.turn.now, group, removal_of(path.as_str(), None));
            return desk.groups.hold_forwarded(group, number, part(&mut progress.together));
        }
        let asked = desk.groups.take_number(group);
        match self.propose_removal(desk, group, path, Some(asked)) {
            Ok(proposed) => {
                // The answer waits for what it was decided from in this term.
                progress.groups.entry(group).or_insert(proposed.term);
                let own = Own { number: asked.1, path: path.clone() };
                desk.groups.hold(proposed, part(&mut progress.together), Ok(Outcome::Removed(1)), Some(own));
            }
            Err(refusal) => progress.refusal = Some(refusal),
        }
    }

    /// Answers a removal of which some topics are replicated, or may be: that there were none is true only as long as this server leads.
    fn finish_removal(&mut self, desk: &mut Desk, walk: Walk, (removed, refusal, mut groups, together): Removing, answer: Answer) -> Next {
        let exact = walk.selector.exact_path();
        let concerned = exact.map(|path| desk.groups.of(path));
        for group in (0..desk.groups.count()).filter(|group| concerned.is_none_or(|concerned| concerned == Some(*group))) {
            if let Role::Leads { term } = desk.groups.role(group) {
                groups.entry(group).or_insert(term);
            }
        }
        let is_forwarded = together.is_some();
        let together = together.unwrap_or_else(Together::begin);
        if let (Some(path), Some(Some(group))) = (exact, concerned)
            && !is_forwarded
            && matches!(desk.groups.role(group), Role::Follows { .. })
            && refusal.is_none()
            && removed == 0
        {
            // The one topic may be there, and is not here yet.
            let number = desk.groups.forward(desk.turn.now, group, removal_of(path, None));
            desk.groups.hold_forwarded(group, number, Together::part(&together));
        }
        if let Some(refusal) = refusal {
            desk.give(Together::part(&together), Err(refusal));
        }
        desk.give_together(&together, groups, removed, answer);
        Next::Done(walk)
    }

    fn walk_fetch(&mut self, fetch: &Fetch, walk: &mut Walk, budget: &mut usize) -> Option<Span> {
        let Walk { selector, rest, progress, .. } = walk;
        let page = &mut progress.page;
        let Some(region) = &fetch.region else {
            return self.tree.scan_within(selector, rest, fetch.direction, budget, |_, topic| page.take(fetch, topic, topic.path.as_str()));
        };
        // The selector is about the session's paths, and so is the span, which may hold only a part of the region.
        self.tree.scan_within(&self.walks.everything, rest, fetch.direction, budget, |_, topic| {
            let path = region.session_path(topic.path.as_str()).filter(|path| selector.matches(path));
            match path.filter(|path| fetch.span.contains(&TopicPath::of_branch(path))).map(|path| page.take(fetch, topic, &path)) {
                Some(Onward::SkipBranch(segments)) => Onward::SkipBranch(region.topic_depth(segments)),
                Some(onward) => onward,
                None => Onward::Next,
            }
        })
    }

    /// Tells what a new listener finds.
    fn walk_listened(&mut self, desk: &mut Desk, walk: &mut Walk, budget: &mut usize) -> Option<Span> {
        let (mut notices, mut bytes) = (Vec::new(), 0);
        let next = self.tree.scan_within(&self.walks.everything, &walk.rest, Direction::Forward, budget, |_, topic| {
            if matches_from_above(&walk.selector, topic.path.as_str()) {
                let (path, specification) = (topic.path.clone(), topic.specification.clone());
                if bytes > NOTICE_BYTES_MAX {
                    return Onward::Stop;
                }
                bytes += notice_bytes(topic);
                notices.push(Notice::Topic { what: What::Selected, path, specification });
            }
            Onward::Next
        });
        walk.progress.has_told = !notices.is_empty();
        for notice in notices {
            self.interests.tell(desk, walk.from, notice);
        }
        next
    }

    fn walk_counted(&mut self, desk: &mut Desk, walk: &mut Walk, budget: &mut usize) -> Option<Span> {
        let mut places = Vec::new();
        let next = self.tree.scan_within(&walk.selector, &walk.rest, Direction::Forward, budget, |place, _| {
            places.push(place);
            Onward::Next
        });
        walk.progress.has_told = !places.is_empty();
        for place in places {
            self.start_counting(desk, place, Some(walk.from));
        }
        next
    }

    pub fn release_interest(&mut self, desk: &mut Desk, from: ShardIndex, selector: &str) {
        let selector = known_selector(desk.limits.selector, selector);
        // The walk for an interest that ended gives no answer, and may mark no further topics.
        self.walks.end(Purpose::Interest, from, &selector);
        if self.interests.release(&selector, from) {
            self.forget_interest(desk, from, selector);
        }
    }

    pub fn stop_listening(&mut self, desk: &mut Desk, from: ShardIndex, kind: ListenerKind, selector: &str) {
        let selector = known_selector(desk.limits.selector, selector);
        // The request to listen is answered all the same; only what its walk would have told is not wanted any more.
        for walk in self.walks.end(kind.into(), from, &selector) {
            desk.mail(from, Mail::Part { ticket: walk.ticket, part: Part::Ready });
        }
        if self.interests.stop_listening(kind, &selector, from) && kind == ListenerKind::Subscribers {
            self.errands.end_counting(selector, &self.walks.everything);
        }
    }
}

/// A selector in its canonical text, which was read before: by a session's shard from a text that may have been shorter, or in a removal
/// policy, which has limits of its own.
pub fn known_selector(limits: SelectorLimits, text: &str) -> Selector {
    let regex_bytes_max = limits.regex_bytes_max.max(SelectorLimits::default().regex_bytes_max);
    let most = usize::MAX;
    let limits = SelectorLimits { text_bytes_max: most, members_max: most, regexes_max: most, regex_bytes_max, unicode_classes_max: most };
    Selector::parse(text, limits).expect("the canonical text of a selector is one")
}

/// Whether `selector` matches the path or one above it.
fn matches_from_above(selector: &Selector, path: &str) -> bool {
    if !selector.prefix().is_empty() && !is_within(path, selector.prefix()) {
        return false;
    }
    let ends = path.bytes().enumerate().filter(|(_, byte)| *byte == b'/').map(|(at, _)| at).chain([path.len()]);
    ends.into_iter().any(|end| selector.matches(&path[..end]))
}

impl Page {
    fn take(&mut self, fetch: &Fetch, topic: &Topic, path: &str) -> Onward {
        let specification = &topic.specification;
        let number = specification.topic_type().number();
        if !fetch.viewer.rights.may_see(path) && !fetch.viewer.owns(specification) {
            return Onward::Next;
        }
        if fetch.types != 0 && fetch.types & (1 << number) == 0 {
            return Onward::Next;
        }
        if let Some(deep) = fetch.deep
            && self.is_full(deep, path)
        {
            self.is_thinned = true;
            return Onward::SkipBranch(deep.depth);
        }
        let held = topic.latest.as_ref().and_then(|latest| latest.value());
        let value = held.filter(|_| fetch.shown.values).map(<[u8]>::to_vec);
        let properties: Arc<[_]> = if fetch.shown.properties {
            specification.properties().map(|(key, value)| (key.into(), value.into())).collect()
        } else {
            Arc::default()
        };
        let (kind, value_kind, size) = (number, specification.value_type(), held.map(<[u8]>::len));
        let entry = Entry { path: path.to_owned(), kind, value_kind, value, properties, size };
        let bytes = bytes(&entry);
        if self.entries.len() >= fetch.count_max || (!self.entries.is_empty() && self.bytes + bytes > fetch.bytes_max) {
            self.is_cut = true;
            return Onward::Stop;
        }
        self.bytes += bytes;
        if let Some(deep) = fetch.deep {
            self.note_branch(deep, path);
        }
        self.entries.push(entry);
        Onward::Next
    }

    /// Whether the path's deep branch has given all that it may.
    fn is_full(&self, deep: DeepLimit, path: &str) -> bool {
        let Some(branch) = branch_of(path, deep.depth) else { return false };
        self.branch.as_ref().is_some_and(|(held, count)| held == branch && *count >= deep.count_max)
    }

    fn note_branch(&mut self, deep: DeepLimit, path: &str) {
        let Some(branch) = branch_of(path, deep.depth) else { return };
        match &mut self.branch {
            Some((held, count)) if held == branch => *count += 1,
            held => *held = Some((branch.to_owned(), 1)),
        }
    }
}

/// The most bytes of the notices of one slice, exceeded by at most one notice; the rest follow in the next slice.
const NOTICE_BYTES_MAX: usize = 64 << 10;

/// What a notice of the topic takes, roughly.
fn notice_bytes(topic: &Topic) -> usize {
    let properties: usize = topic.specification.properties().map(|(key, value)| key.len() + value.len()).sum();
    topic.path.as_str().len() + properties + ENTRY_BYTES
}

/// What an entry takes in an answer beside its texts and value.
const ENTRY_BYTES: usize = 16;

/// What an entry adds to an answer, roughly and rather too much.
fn bytes(entry: &Entry) -> usize {
    let properties: usize = entry.properties.iter().map(|(key, value)| key.len() + value.len() + 4).sum();
    entry.path.len() + entry.value.as_ref().map_or(0, Vec::len) + properties + ENTRY_BYTES
}

/// Merges the owners' pages in the fetch's order, without more than they hold. Behind the last entry of a page that was cut nothing is known, so the
/// result ends there at the latest. Gives the entries in path order, and whether there is more.
pub fn merge_pages(fetch: &Fetch, pages: Vec<(Vec<Entry>, bool)>) -> (Vec<Entry>, bool) {
    // One page for each shard, each bounded by `limits.fetch_page_max` and the length of a message.
    let is_cut = pages.iter().any(|(_, is_cut)| *is_cut);
    let mut total = 0;
    let mut lanes: Vec<Lane> = Vec::new();
    for (entries, is_cut) in pages {
        total += entries.len();
        let mut entries = entries.into_iter();
        let head = entries.next().map(|entry| (TopicPath::of_branch(&entry.path), entry));
        lanes.push(Lane { head, rest: entries, is_cut });
    }
    let mut page = Page::default();
    let mut merged = Vec::new();
    loop {
        let heads = lanes.iter().enumerate().filter_map(|(at, lane)| lane.head.as_ref().map(|(path, _)| (path, at)));
        let next = match fetch.direction {
            Direction::Forward => heads.min(),
            Direction::Backward => heads.max(),
        };
        let Some((_, at)) = next else { break };
        let (_, entry) = lanes[at].head.take().expect("it was just there");
        if let Some(deep) = fetch.deep {
            if page.is_full(deep, &entry.path) {
                page.is_thinned = true;
                if !lanes[at].advance() {
                    break;
                }
                continue;
            }
            page.note_branch(deep, &entry.path);
        }
        page.bytes += bytes(&entry);
        if merged.len() >= fetch.count_max || (!merged.is_empty() && page.bytes > fetch.bytes_max) {
            break;
        }
        merged.push(entry);
        if !lanes[at].advance() {
            break;
        }
    }
    let has_more = is_cut || merged.len() < total;
    if fetch.direction == Direction::Backward {
        merged.reverse();
    }
    (merged, has_more)
}

/// One owner's entries, the next one first.
struct Lane {
    head: Option<(TopicPath, Entry)>,
    rest: std::vec::IntoIter<Entry>,
    is_cut: bool,
}

impl Lane {
    /// Moves on; `false` where the owner has more that it did not give, so that nobody knows what comes next.
    fn advance(&mut self) -> bool {
        self.head = self.rest.next().map(|entry| (TopicPath::of_branch(&entry.path), entry));
        self.head.is_some() || !self.is_cut
    }
}

/// Topics that views make stand as long as their views make them.
fn may_remove(viewer: &Viewer, topic: &Topic) -> bool {
    let is_permitted = || viewer.rights.may(topic.path.as_str(), PathPermission::ModifyTopic) || viewer.owns(&topic.specification);
    !topic.is_reference && is_permitted()
}

/// Whether a removal of many has to wait until less is on its way: it puts twice as much there as may be, so that publishers leave it room.
fn is_full(desk: &Desk, walk: &Walk, group: u16) -> bool {
    walk.selector.exact_path().is_none() && desk.groups.bytes_under_way(group) > 2 * desk.limits.proposed_bytes_max
}
