//! The filters of a session of MQTT, and the SUBSCRIBEs that are not answered.
//!
//! Most sessions have one or two filters, and there may be hundreds of thousands of sessions: few filters are looked through. Where there are more, each is
//! found by its text, and by its selector's literal branch those that may match a path.

use crate::topic::selector::Selector;
use crate::wire::mqtt::{ReasonCode, SubscriptionOptions};
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// So many filters are looked through: more have an index.
const SCANNED_MAX: usize = 16;

/// One subscription. Small: most sessions have one, and have it within themselves.
pub struct Filter {
    pub selector: Selector,
    /// `None` where it is the path that the selector selects, as mostly.
    text: Option<Box<Text>>,
    pub options: SubscriptionOptions,
    /// The subscription identifier, of at most 28 bits, or 0; and [`IS_SHARED`].
    marks: u32,
}

struct Text(Rc<str>);

const IS_SHARED: u32 = 1 << 31;

impl Filter {
    /// The selector is the one that the text stands for.
    pub fn new(text: &str, selector: Selector, options: SubscriptionOptions, id: Option<u32>) -> Self {
        let id = id.unwrap_or(0);
        assert!(id < IS_SHARED, "an identifier of a subscription has 28 bits");
        let text = (selector.exact_path() != Some(text)).then(|| Box::new(Text(text.into())));
        Self { selector, text, options, marks: id }
    }

    /// The same as a member's of a shared subscription, whose messages its group deals out.
    pub fn shared(self) -> Self {
        Self { marks: self.marks | IS_SHARED, ..self }
    }

    pub fn is_shared(&self) -> bool {
        self.marks & IS_SHARED != 0
    }

    pub fn id(&self) -> Option<u32> {
        Some(self.marks & !IS_SHARED).filter(|id| *id != 0)
    }

    pub fn text(&self) -> &str {
        self.text.as_ref().map_or_else(|| self.selector.prefix(), |text| &text.0)
    }

    /// The text, of one that is shared not copied.
    pub fn name(&self) -> Rc<str> {
        self.text.as_ref().map_or_else(|| self.selector.prefix().into(), |text| text.0.clone())
    }
}

/// See the module. The loops over the list are bounded by `SCANNED_MAX`, but for those that want all filters.
#[derive(Default)]
pub struct Filters(List);

enum List {
    One(Option<Filter>),
    Many(Box<Many>),
}

impl Default for List {
    fn default() -> Self {
        Self::One(None)
    }
}

#[derive(Default)]
struct Many {
    list: Vec<Filter>,
    index: Option<Box<Index>>,
}

/// Where in the list the filters are.
#[derive(Default)]
struct Index {
    by_text: HashMap<Rc<str>, u32>,
    /// By their selectors' branches those by which the session itself is sent something.
    by_branch: HashMap<String, BTreeSet<u32>>,
    shared: BTreeSet<u32>,
    /// How many that are not shared have the selector.
    counts: HashMap<Selector, usize>,
}

impl Index {
    fn add(&mut self, place: u32, filter: &Filter) {
        self.by_text.insert(filter.name(), place);
        if filter.is_shared() {
            self.shared.insert(place);
            return;
        }
        self.by_branch.entry_ref(filter.selector.prefix()).or_default().insert(place);
        *self.counts.entry(filter.selector.clone()).or_default() += 1;
    }

    fn remove(&mut self, place: u32, filter: &Filter) {
        self.by_text.remove(filter.text());
        if filter.is_shared() {
            self.shared.remove(&place);
            return;
        }
        let branch = self.by_branch.get_mut(filter.selector.prefix()).expect("each filter is under its branch");
        branch.remove(&place);
        if branch.is_empty() {
            self.by_branch.remove(filter.selector.prefix());
        }
        let count = self.counts.get_mut(&filter.selector).expect("each filter's selector is counted");
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&filter.selector);
        }
    }

    /// The places of the filters whose branches are `path` or above.
    fn above(&self, path: &str) -> impl Iterator<Item = u32> {
        let ends = path.bytes().enumerate().filter(|(_, byte)| *byte == b'/').map(|(at, _)| at);
        let ends = std::iter::once(0).chain(ends).chain([path.len()]);
        ends.filter_map(|end| self.by_branch.get(&path[..end])).flatten().copied()
    }
}

impl Filters {
    pub fn len(&self) -> usize {
        self.list().len()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Filter> {
        self.list().iter()
    }

    #[inline]
    fn list(&self) -> &[Filter] {
        match &self.0 {
            List::One(held) => held.as_slice(),
            List::Many(many) => &many.list,
        }
    }

    fn index(&self) -> Option<&Index> {
        match &self.0 {
            List::One(_) => None,
            List::Many(many) => many.index.as_deref(),
        }
    }

    /// Room for more than one.
    fn many_mut(&mut self) -> &mut Many {
        if let List::One(held) = &mut self.0 {
            let list = held.take().into_iter().collect();
            self.0 = List::Many(Box::new(Many { list, index: None }));
        }
        let List::Many(many) = &mut self.0 else { unreachable!("it was just made so") };
        many
    }

    /// Makes room for so many more, and where they are few for no others.
    pub fn reserve(&mut self, count: usize) {
        if self.len() + count > 1 && self.index().is_none() {
            self.many_mut().list.reserve_exact(count);
        }
    }

    /// Gives the room for others back, where they are few: many would be moved for each that comes.
    pub fn shrink(&mut self) {
        let List::Many(many) = &mut self.0 else { return };
        if many.index.is_some() {
            return;
        }
        if many.list.len() > 1 {
            many.list.shrink_to_fit();
        } else {
            self.0 = List::One(many.list.pop());
        }
    }

    fn place(&self, text: &str) -> Option<usize> {
        match self.index() {
            Some(index) => index.by_text.get(text).map(|place| *place as usize),
            None => self.iter().position(|filter| filter.text() == text),
        }
    }

    pub fn find(&self, text: &str) -> Option<&Filter> {
        self.place(text).map(|place| &self.list()[place])
    }

    /// Adds the filter, or replaces the one of the same text, which has the same selector.
    pub fn put(&mut self, filter: Filter) {
        let place = self.place(filter.text());
        if let List::One(held) = &mut self.0
            && (held.is_none() || place.is_some())
        {
            *held = Some(filter);
            return;
        }
        let Many { list, index } = self.many_mut();
        if let Some(place) = place {
            list[place] = filter;
            return;
        }
        list.push(filter);
        if let Some(index) = index {
            let place = list.len() - 1;
            index.add(place as u32, &list[place]);
        } else if list.len() > SCANNED_MAX {
            let index = index.insert(Box::default());
            (0..).zip(list).for_each(|(place, filter)| index.add(place, filter));
        }
    }

    pub fn remove(&mut self, text: &str) -> Option<Filter> {
        let place = self.place(text)?;
        let Many { list, index } = match &mut self.0 {
            List::One(held) => return held.take(),
            List::Many(many) => &mut **many,
        };
        let Some(index) = index else { return Some(list.remove(place)) };
        let last = list.len() - 1;
        index.remove(place as u32, &list[place]);
        if place != last {
            index.remove(last as u32, &list[last]);
            index.add(place as u32, &list[last]);
        }
        Some(list.swap_remove(place))
    }

    /// Those by which the session itself is sent what is at `path`.
    pub fn matching<'f>(&'f self, path: &'f str) -> impl Iterator<Item = &'f Filter> {
        let (list, index) = (self.list(), self.index());
        let scanned = if index.is_some() { &[] } else { list };
        let indexed = index.into_iter().flat_map(|index| index.above(path)).map(|place| &list[place as usize]);
        scanned.iter().chain(indexed).filter(|filter| !filter.is_shared() && filter.selector.matches(path))
    }

    /// Those of shared subscriptions.
    pub fn shared(&self) -> impl Iterator<Item = &Filter> {
        let (list, index) = (self.list(), self.index());
        let scanned = if index.is_some() { &[] } else { list };
        let indexed = index.into_iter().flat_map(|index| &index.shared).map(|place| &list[*place as usize]);
        scanned.iter().filter(|filter| filter.is_shared()).chain(indexed)
    }

    /// The selectors of those that are not shared.
    pub fn selectors(&self) -> impl Iterator<Item = &Selector> {
        self.iter().filter(|filter| !filter.is_shared()).map(|filter| &filter.selector)
    }

    /// How many that are not shared have the selector: texts that differ may mean the same.
    pub fn count(&self, selector: &Selector) -> usize {
        match self.index() {
            Some(index) => index.counts.get(selector).copied().unwrap_or(0),
            None => self.selectors().filter(|held| *held == selector).count(),
        }
    }
}

/// SUBSCRIBEs under way; nothing where there are none, as mostly.
#[derive(Default)]
pub struct Subscribings(Option<Box<UnderWay>>);

#[derive(Default)]
struct UnderWay {
    /// By packet identifier.
    by_id: BTreeMap<u16, Subscribing>,
    waiting: usize,
}

#[derive(Default)]
struct Subscribing {
    codes: Vec<ReasonCode>,
    waiting: usize,
}

impl Subscribings {
    pub fn has(&self, id: u16) -> bool {
        self.0.as_ref().is_some_and(|under_way| under_way.by_id.contains_key(&id))
    }

    /// What all of them wait for.
    pub fn waiting(&self) -> usize {
        self.0.as_ref().map_or(0, |under_way| under_way.waiting)
    }

    /// A SUBSCRIBE waits for one thing more, of which [`Self::arrived`] tells.
    pub fn wait(&mut self, id: u16) {
        let under_way = self.0.get_or_insert_default();
        under_way.by_id.entry(id).or_default().waiting += 1;
        under_way.waiting += 1;
    }

    /// What the client is told of the next filter.
    pub fn push_code(&mut self, id: u16, code: ReasonCode) {
        let held = self.0.as_mut().and_then(|under_way| under_way.by_id.get_mut(&id));
        held.expect("it waits for its own record still").codes.push(code);
    }

    /// The codes, where that was the last thing to wait for. It may be over with its connection.
    pub fn arrived(&mut self, id: u16) -> Option<Vec<ReasonCode>> {
        let under_way = self.0.as_mut()?;
        let held = under_way.by_id.get_mut(&id)?;
        held.waiting -= 1;
        under_way.waiting -= 1;
        if held.waiting > 0 {
            return None;
        }
        let codes = under_way.by_id.remove(&id).map(|held| held.codes);
        self.0.take_if(|under_way| under_way.by_id.is_empty());
        codes
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::mqtt::parse_filter;
    use crate::topic::selector::SelectorLimits;

    fn filter(text: &str, id: u32) -> Filter {
        let parsed = parse_filter(text).unwrap();
        let selector = Selector::parse(&parsed.selector, SelectorLimits::default()).unwrap();
        let filter = Filter::new(text, selector, SubscriptionOptions::default(), Some(id));
        if parsed.share.is_some() { filter.shared() } else { filter }
    }

    fn texts() -> Vec<String> {
        let kinds = ["a/{}", "a/{}/#", "+/{}", "$share/g{}/a/#", "b/+/{}"];
        (0..200).map(|number| kinds[number % 5].replace("{}", &(number / 10).to_string())).collect()
    }

    /// Holds the filters against a list that is looked through.
    fn check(filters: &Filters, model: &[(String, u32)]) {
        assert_eq!(filters.len(), model.len());
        let sorted = |mut ids: Vec<u32>| {
            ids.sort_unstable();
            ids
        };
        for path in ["a/1", "a/19", "b/x/3", "c/7", "a/2/x", "$SYS", "a"] {
            let found = sorted(filters.matching(path).filter_map(|filter| filter.id()).collect());
            let matches = |text: &&(String, u32)| {
                let held = filter(&text.0, 0);
                !held.is_shared() && held.selector.matches(path)
            };
            assert_eq!(found, sorted(model.iter().filter(matches).map(|(_, id)| *id).collect()), "{path}");
        }
        for (text, id) in model {
            assert_eq!(filters.find(text).and_then(|filter| filter.id()), Some(*id), "{text}");
            let wanted = filter(text, 0);
            let same = model.iter().map(|(text, _)| filter(text, 0)).filter(|held| !held.is_shared() && held.selector == wanted.selector);
            assert_eq!(filters.count(&wanted.selector), same.count(), "{text}");
        }
        let is_shared = |text: &&(String, u32)| text.0.starts_with("$share/");
        let shared = sorted(filters.shared().filter_map(|filter| filter.id()).collect());
        assert_eq!(shared, sorted(model.iter().filter(is_shared).map(|(_, id)| *id).collect()));
    }

    #[test]
    fn few_filters_and_many_are_found_the_same_way() {
        let (mut filters, mut model) = (Filters::default(), Vec::<(String, u32)>::new());
        for (id, text) in (1..).zip(texts()) {
            filters.put(filter(&text, id));
            match model.iter_mut().find(|(held, _)| *held == text) {
                Some((_, held)) => *held = id,
                None => model.push((text, id)),
            }
            if id % 15 == 0 {
                check(&filters, &model);
            }
        }
        assert!(filters.index().is_some() && model.len() > 2 * SCANNED_MAX);
        while !model.is_empty() {
            let (text, id) = model.remove(model.len() / 3);
            assert_eq!(filters.remove(&text).and_then(|filter| filter.id()), Some(id));
            assert!(filters.remove(&text).is_none() && filters.find(&text).is_none());
            if model.len().is_multiple_of(15) {
                check(&filters, &model);
            }
        }
        let index = filters.index().expect("it stays");
        assert!(index.by_text.is_empty() && index.by_branch.is_empty() && index.shared.is_empty() && index.counts.is_empty());
    }

    #[test]
    fn one_filter_takes_no_memory_of_its_own() {
        assert!(size_of::<Filters>() <= 24, "{} bytes", size_of::<Filters>());
        let is_within = |filters: &Filters| matches!(filters.0, List::One(_));
        let mut filters = Filters::default();
        filters.reserve(1);
        filters.put(filter("a/b", 1));
        filters.put(filter("a/b", 2));
        assert!(is_within(&filters) && filters.iter().all(|filter| filter.text.is_none()));
        check(&filters, &[("a/b".into(), 2)]);
        filters.reserve(2);
        filters.put(filter("a/+", 0));
        filters.shrink();
        assert!(!is_within(&filters));
        assert_eq!(filters.remove("a/b").map(|filter| (filter.text().to_owned(), filter.id())), Some(("a/b".into(), Some(2))));
        filters.shrink();
        assert!(is_within(&filters) && filters.find("a/+").is_some_and(|filter| filter.id().is_none()));
        assert!(filters.remove("a/b").is_none() && filters.remove("a/+").is_some() && filters.len() == 0);
    }

    #[test]
    fn a_subscribe_is_answered_behind_the_last_that_it_waits_for() {
        let mut subscribings = Subscribings::default();
        for id in [1, 1, 2] {
            subscribings.wait(id);
        }
        subscribings.push_code(1, ReasonCode::SUCCESS);
        assert_eq!((subscribings.waiting(), subscribings.arrived(1)), (3, None));
        assert_eq!((subscribings.arrived(1), subscribings.arrived(1)), (Some(vec![ReasonCode::SUCCESS]), None));
        assert_eq!((subscribings.has(1), subscribings.has(2), subscribings.waiting()), (false, true, 1));
    }
}
