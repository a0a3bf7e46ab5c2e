//! Which views there are, and in which order: what the one writer decides.
//!
//! A view has a place, counted from 1: the smaller one wins a path that two views want. Replacing a view keeps its place. A view is refused
//! where it is certain that all it could ever make is a source of it again, directly or through other views; a cycle that depends on values
//! is found when it runs, by its depth. Carrying views out, and storing them, is left to `shard`.

use super::definition::{Definition, PathPart};
use crate::topic::path;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

/// The longest name of a view.
pub const NAME_BYTES_MAX: usize = 256;

/// Every bound of a catalogue.
#[derive(Clone, Copy, Debug)]
pub struct CatalogueLimits {
    pub views_max: usize,
    /// Of all definitions together.
    pub text_bytes_max: usize,
}

/// One view of a catalogue.
#[derive(Clone, Debug)]
pub struct Entry {
    pub place: u64,
    pub text: Box<str>,
    definition: Rc<Definition>,
}

#[derive(Debug, Default)]
pub struct Catalogue {
    views: BTreeMap<Box<str>, Entry>,
    last_place: u64,
    text_bytes: usize,
}

/// Why a view is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogueError {
    Name {
        message: String,
    },
    Full {
        message: String,
    },
    /// The names of the other views on the way round, in its order.
    Cycle {
        through: Vec<String>,
    },
}

impl fmt::Display for CatalogueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { message } | Self::Full { message } => f.write_str(message),
            Self::Cycle { through } if through.is_empty() => f.write_str("every topic that the view makes would be a source of it"),
            Self::Cycle { through } => {
                write!(f, "every topic that the view makes would be a source of it, by way of {}", through.join(", "))
            }
        }
    }
}

/// What a catalogue has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Put {
    pub place: u64,
    pub is_new: bool,
    /// The view had this very text.
    pub is_same: bool,
}

impl Catalogue {
    /// Adds a view, or replaces the one of its name.
    pub fn put(&mut self, name: &str, text: &str, definition: Definition, limits: CatalogueLimits) -> Result<Put, CatalogueError> {
        check_name(name).map_err(|message| CatalogueError::Name { message })?;
        let held = self.views.get(name).map(|entry| (entry.place, entry.text.len()));
        if held.is_none() && self.views.len() >= limits.views_max {
            return Err(CatalogueError::Full { message: format!("there are {} views, which is the most", limits.views_max) });
        }
        let bytes = self.text_bytes - held.map_or(0, |(_, bytes)| bytes) + text.len();
        if bytes > limits.text_bytes_max {
            let message = format!("all views together would have {bytes} bytes, more than {}", limits.text_bytes_max);
            return Err(CatalogueError::Full { message });
        }
        if let Some(through) = self.find_cycle(name, &definition) {
            return Err(CatalogueError::Cycle { through });
        }
        let place = held.map_or(self.last_place + 1, |(place, _)| place);
        let is_same = self.views.get(name).is_some_and(|entry| *entry.text == *text);
        self.restore(name, place, text, definition);
        Ok(Put { place, is_new: held.is_none(), is_same })
    }

    /// Takes up a view that was accepted before.
    pub fn restore(&mut self, name: &str, place: u64, text: &str, definition: Definition) {
        self.remove(name);
        self.last_place = self.last_place.max(place);
        self.text_bytes += text.len();
        self.views.insert(name.into(), Entry { place, text: text.into(), definition: Rc::new(definition) });
    }

    pub fn remove(&mut self, name: &str) -> Option<Entry> {
        let entry = self.views.remove(name)?;
        self.text_bytes -= entry.text.len();
        Some(entry)
    }

    /// The other views on a certain way from `definition`, to be put under `name`, back to it.
    fn find_cycle(&self, name: &str, definition: &Definition) -> Option<Vec<String>> {
        if feeds(definition, definition) {
            return Some(Vec::new());
        }
        let mut reached: BTreeMap<&str, Option<&str>> = BTreeMap::new();
        let mut waiting: Vec<(Option<&str>, &Definition)> = vec![(None, definition)];
        // Bounded by the square of `views.views_max`, once for each view that an operator makes or changes.
        while let Some((at, from)) = waiting.pop() {
            if let Some(last) = at
                && feeds(from, definition)
            {
                let mut through: Vec<String> = std::iter::successors(Some(last), |view| reached[view]).map(str::to_owned).collect();
                through.reverse();
                return Some(through);
            }
            for (other, entry) in self.views.iter().filter(|(other, _)| &***other != name) {
                if !reached.contains_key(&**other) && feeds(from, &entry.definition) {
                    reached.insert(other, at);
                    waiting.push((Some(other), &entry.definition));
                }
            }
        }
        None
    }
}

/// Checks that a view may be called so.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.len() > NAME_BYTES_MAX {
        return Err(format!("found a name of {} bytes, expected at most {NAME_BYTES_MAX}", name.len()));
    }
    path::check_form(name).map_err(|error| format!("a view's name has the form of a path: {error}"))?;
    if let Some((at, c)) = name.char_indices().find(|(_, c)| c.is_control()) {
        return Err(format!("found {c:?} at byte {at} of the name, expected no control characters"));
    }
    Ok(())
}

/// Whether every reference topic that `from` can make is a source of `to`.
fn feeds(from: &Definition, to: &Definition) -> bool {
    // What depends on values is not certain.
    if from.remote.is_some() || to.remote.is_some() || !from.path.is_of_path() {
        return false;
    }
    match &*from.path.parts {
        [PathPart::Text(path)] => to.selector.matches(path),
        [PathPart::Text(text), ..] => {
            // A part of a segment that a directive goes on with says nothing of its level.
            let branch = text.rfind('/').map_or("", |end| &text[..end]);
            to.selector.selects_all_below(branch)
        }
        _ => to.selector.selects_all_below(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::ViewLimits;

    const LIMITS: CatalogueLimits = CatalogueLimits { views_max: 3, text_bytes_max: 200 };

    fn put(catalogue: &mut Catalogue, name: &str, text: &str) -> Result<Put, CatalogueError> {
        catalogue.put(name, text, Definition::parse(text, &ViewLimits::default()).unwrap(), LIMITS)
    }

    #[test]
    fn replacing_keeps_the_place_and_making_again_does_not() {
        let mut catalogue = Catalogue::default();
        assert_eq!(put(&mut catalogue, "a", "map x to y"), Ok(Put { place: 1, is_new: true, is_same: false }));
        assert_eq!(put(&mut catalogue, "b", "map x to z"), Ok(Put { place: 2, is_new: true, is_same: false }));
        assert_eq!(put(&mut catalogue, "a", "map x to z"), Ok(Put { place: 1, is_new: false, is_same: false }));
        assert_eq!(put(&mut catalogue, "a", "map x to z"), Ok(Put { place: 1, is_new: false, is_same: true }));
        catalogue.remove("a");
        assert_eq!(put(&mut catalogue, "a", "map x to y"), Ok(Put { place: 3, is_new: true, is_same: false }));
    }

    #[test]
    fn bounds_hold_and_replacing_may_use_what_it_frees() {
        let mut catalogue = Catalogue::default();
        for name in ["a", "b", "c"] {
            put(&mut catalogue, name, "map x to y").unwrap();
        }
        assert!(matches!(put(&mut catalogue, "d", "map x to y"), Err(CatalogueError::Full { .. })));
        put(&mut catalogue, "a", &format!("map x to {}", "y".repeat(160))).unwrap();
        assert!(matches!(put(&mut catalogue, "b", &format!("map x to {}", "y".repeat(20))), Err(CatalogueError::Full { .. })));
        put(&mut catalogue, "a", &format!("map x to {}", "z".repeat(160))).unwrap();
    }

    #[test]
    fn a_name_has_the_form_of_a_path() {
        let mut catalogue = Catalogue::default();
        for name in ["", "/a", "a/", "a//b", "a\nb", &"x".repeat(257)] {
            assert!(matches!(put(&mut catalogue, name, "map x to y"), Err(CatalogueError::Name { .. })), "{name:?}");
        }
        put(&mut catalogue, "prices/by currency", "map x to y").unwrap();
    }

    fn check_cycle(views: &[&str], last: &str, expected: Option<&[&str]>) {
        let mut catalogue = Catalogue::default();
        for (number, text) in views.iter().enumerate() {
            put(&mut catalogue, &format!("v{number}"), text).unwrap();
        }
        match (put(&mut catalogue, "last", last), expected) {
            (Ok(_), None) => {}
            (Err(CatalogueError::Cycle { through }), Some(expected)) => assert_eq!(through, expected, "{last}"),
            (found, _) => panic!("{last}: {found:?}"),
        }
    }

    #[test]
    fn a_certain_cycle_is_refused_and_one_that_depends_is_not() {
        check_cycle(&[], "map a to a", Some(&[]));
        check_cycle(&[], "map ?a// to a/copy/<path(1)>", Some(&[]));
        check_cycle(&[], "map ?a// to a<path(1)>", None);
        check_cycle(&[], "map ?a// to <path(0)>", None);
        check_cycle(&[], "map ?.*// to <path(0)>/x", Some(&[]));
        check_cycle(&[], "map ?a// to a/by-name/<scalar(/name)>", None);
        check_cycle(&[], "map ?a/[0-9]+ to a/<path(1)>/copy", None);
        check_cycle(&["map ?a// to b/<path(1)>"], "map ?b// to a/<path(1)>", Some(&["v0"]));
        check_cycle(&["map ?a// to b/<path(1)>", "map ?b// to c/<path(1)>"], "map ?c// to a/x/<path(1)>", Some(&["v0", "v1"]));
        check_cycle(&["map ?a// to b/<path(1)>"], "map ?b// to c/<path(1)>", None);
    }

    #[test]
    fn a_view_that_is_replaced_does_not_count() {
        let mut catalogue = Catalogue::default();
        put(&mut catalogue, "a", "map ?a// to b/<path(1)>").unwrap();
        put(&mut catalogue, "a", "map ?b// to a/<path(1)>").unwrap();
    }
}
