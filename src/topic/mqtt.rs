//! MQTT's topic names and filters ↔ paths and selectors.
//!
//! Names may have levels without a character, paths may not; so a level that is empty, or `~` any number of times, gets one `~` more on the way
//! in and gives it back on the way out. Every other level is a segment as it is.

use std::borrow::Cow;

use super::selector::pattern::METACHARACTERS;

/// What a wildcard stands for in the first level: anything but `$…`.
const UNRESERVED: &str = "[^$].*";

/// The path of an MQTT topic name, which is not empty and holds no wildcard.
///
/// Every name has a path of its own, and [`name_of`] gives it back. Allocates only where a level changes.
pub fn path_of(name: &str) -> Cow<'_, str> {
    if is_plain(name) {
        return Cow::Borrowed(name);
    }
    let mut path = String::new();
    let mut copied = 0;
    let mut end = 0;
    for level in name.split('/') {
        end += level.len();
        if is_tildes(level) {
            path.push_str(&name[copied..end]);
            path.push('~');
            copied = end;
        }
        end += 1;
    }
    if path.is_empty() {
        return Cow::Borrowed(name);
    }
    path.push_str(&name[copied..]);
    Cow::Owned(path)
}

/// Whether a broker says at `path` how its connection to another one stands, by a retained `1` and a will of `0`. It is the one place below `$SYS`
/// that clients publish to; other brokers have it under the same name.
pub fn is_of_bridge(path: &str) -> bool {
    path.strip_prefix("$SYS/broker/connection/").and_then(|rest| rest.strip_suffix("/state")).is_some_and(|name| !name.is_empty())
}

/// The MQTT topic name of a valid path; `None` for a path that no name stands for: one with `+`, `#` or U+0000 in it, and the path `~`.
pub fn name_of(path: &str) -> Option<Cow<'_, str>> {
    // Without a branch for each byte: every message passes here.
    if !path.bytes().fold(false, |is_odd, byte| is_odd | matches!(byte, b'+' | b'#' | 0 | b'~')) {
        return Some(Cow::Borrowed(path));
    }
    // MQTT-3.3.2-2, MQTT-1.5.4-2, MQTT-4.7.3-1: no name holds a wildcard or U+0000, and none is empty.
    if path == "~" || path.bytes().any(|byte| matches!(byte, b'+' | b'#' | 0)) {
        return None;
    }
    let mut name = String::new();
    let mut copied = 0;
    let mut end = 0;
    for segment in path.split('/') {
        end += segment.len();
        if is_tildes(segment) && !segment.is_empty() {
            name.push_str(&path[copied..end - 1]);
            copied = end;
        }
        end += 1;
    }
    if copied == 0 {
        return Some(Cow::Borrowed(path));
    }
    name.push_str(&path[copied..]);
    Some(Cow::Owned(name))
}

/// Whether no level of the name is empty or holds a `~`, as is so of nearly all.
fn is_plain(name: &str) -> bool {
    let (mut is_odd, mut before) = (false, b'/');
    for byte in name.bytes() {
        is_odd |= byte == b'~' || byte == b'/' && before == b'/';
        before = byte;
    }
    !is_odd && before != b'/'
}

/// The empty level counts, too.
fn is_tildes(level: &str) -> bool {
    level.bytes().all(|byte| byte == b'~')
}

/// What a filter selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter<'a> {
    /// The group of a shared subscription.
    pub share: Option<&'a str>,
    /// The filter without `$share/group/`.
    pub filter: &'a str,
    /// The selector of the same topics, in canonical form. It may select paths besides for which there is no name.
    pub selector: String,
}

/// Parses a filter; an error says in words what is wrong.
pub fn parse_filter(text: &str) -> Result<Filter<'_>, &'static str> {
    // MQTT-4.7.3-2.
    if text.contains('\0') {
        return Err("a topic filter holds U+0000");
    }
    let (share, filter) = match text.strip_prefix("$share/") {
        Some(shared) => {
            let (group, filter) = shared.split_once('/').ok_or("a shared subscription has a group but no topic filter")?;
            // MQTT-4.8.2-1, MQTT-4.8.2-2.
            if group.is_empty() || group.contains(['+', '#']) {
                return Err("the group of a shared subscription is empty or holds a wildcard");
            }
            (Some(group), filter)
        }
        None => (None, text),
    };
    check_filter(filter)?;
    Ok(Filter { share, filter, selector: selector_of(filter) })
}

fn check_filter(filter: &str) -> Result<(), &'static str> {
    // MQTT-4.7.3-1.
    if filter.is_empty() {
        return Err("a topic filter is empty");
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        // MQTT-4.7.1-1.
        if level.contains('#') && (level != "#" || levels.peek().is_some()) {
            return Err("'#' stands in a topic filter other than alone in the last level");
        }
        // MQTT-4.7.1-2.
        if level.contains('+') && level != "+" {
            return Err("'+' stands in a level of a topic filter with other characters");
        }
    }
    Ok(())
}

fn selector_of(filter: &str) -> String {
    if !filter.contains(['+', '#']) {
        return format!(">{}", path_of(filter));
    }
    // MQTT-4.7.1.2: `#` stands for its parent, too, which is what `//` says.
    let (levels, reach) = match filter.strip_suffix("/#") {
        Some(parent) => (parent, "//"),
        None if filter == "#" => ("+", "//"),
        None => (filter, ""),
    };
    let mut selector = String::with_capacity(filter.len() + 16);
    for (index, level) in levels.split('/').enumerate() {
        selector.push(if index == 0 { '?' } else { '/' });
        match (level, index) {
            // MQTT-4.7.2-1: a filter that starts with a wildcard does not match names that start with `$`.
            ("+", 0) => selector.push_str(UNRESERVED),
            ("+", _) => selector.push_str(".*"),
            _ => push_literal(&mut selector, level),
        }
    }
    selector + reach
}

/// Escaped just enough that the selector takes the level as plain text and not as a regex.
fn push_literal(selector: &mut String, level: &str) {
    for character in path_of(level).chars() {
        if METACHARACTERS.contains(&character) {
            selector.push('\\');
        }
        selector.push(character);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::topic::path::check_form;
    use crate::topic::selector::{Selector, SelectorLimits};

    /// All texts of one to `length` characters of `alphabet`.
    fn all_texts(alphabet: &str, length: usize) -> Vec<String> {
        let mut texts = vec![String::new()];
        let mut start = 0;
        for _ in 0..length {
            let end = texts.len();
            for index in start..end {
                texts.extend(alphabet.chars().map(|c| format!("{}{c}", texts[index])).collect::<Vec<_>>());
            }
            start = end;
        }
        texts.split_off(1)
    }

    /// Section 4.7 of MQTT 5, level by level.
    fn naive_matches(filter: &str, name: &str) -> bool {
        fn levels_match(filter: &[&str], name: &[&str]) -> bool {
            match (filter, name) {
                (["#"], _) => true,
                ([], []) => true,
                ([first, filter @ ..], [level, name @ ..]) => (*first == "+" || first == level) && levels_match(filter, name),
                _ => false,
            }
        }
        let is_hidden = name.starts_with('$') && filter.starts_with(['+', '#']);
        !is_hidden && levels_match(&filter.split('/').collect::<Vec<_>>(), &name.split('/').collect::<Vec<_>>())
    }

    /// Written apart from the parser: the wildcards' places by their neighbours.
    fn naive_is_valid(filter: &str) -> bool {
        let bytes = filter.as_bytes();
        let is_edge = |index: Option<usize>| index.and_then(|index| bytes.get(index)).is_none_or(|byte| *byte == b'/');
        !bytes.is_empty()
            && bytes.iter().enumerate().all(|(index, byte)| match byte {
                b'#' => index + 1 == bytes.len() && is_edge(index.checked_sub(1)),
                b'+' => is_edge(index.checked_sub(1)) && is_edge(Some(index + 1)),
                _ => true,
            })
    }

    fn selector(text: &str) -> Selector {
        let selector = Selector::parse(text, SelectorLimits::default()).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(selector.as_str(), text, "the canonical form");
        selector
    }

    fn check_matching(filters: &[String], names: &[String]) {
        for filter in filters {
            let parsed = parse_filter(filter);
            assert_eq!(parsed.is_ok(), naive_is_valid(filter), "{filter:?}");
            let Ok(parsed) = parsed else { continue };
            let selector = selector(&parsed.selector);
            for name in names {
                assert_eq!(selector.matches(&path_of(name)), naive_matches(filter, name), "{filter:?} on {name:?}");
            }
        }
    }

    #[test]
    fn every_name_has_a_valid_path_of_its_own() {
        let names = all_texts("a~/$", 7);
        let paths: HashSet<_> = names.iter().map(|name| path_of(name).into_owned()).collect();
        assert_eq!(paths.len(), names.len());
        for name in &names {
            let path = path_of(name);
            assert_eq!(check_form(&path), Ok(()), "{name:?}");
            assert_eq!(name_of(&path).as_deref(), Some(&**name));
        }
    }

    #[test]
    fn every_path_but_few_has_a_name_of_its_own() {
        for path in all_texts("a~/+#\0", 6) {
            if check_form(&path).is_err() {
                continue;
            }
            let is_named = path != "~" && !path.contains(['+', '#', '\0']);
            let name = name_of(&path);
            assert_eq!(name.is_some(), is_named, "{path:?}");
            if let Some(name) = name {
                assert!(!name.is_empty());
                assert_eq!(path_of(&name), path);
            }
        }
    }

    #[test]
    fn names_without_odd_levels_are_borrowed() {
        for name in ["a", "prices/EUR-USD/bid", "~a/a~/$SYS"] {
            assert!(matches!(path_of(name), Cow::Borrowed(path) if path == name));
            assert!(matches!(name_of(name), Some(Cow::Borrowed(path)) if path == name));
        }
    }

    #[test]
    fn a_filters_selector_matches_what_the_filter_does() {
        check_matching(&all_texts("a~$/+#", 5), &all_texts("a~$/", 4));
        check_matching(&all_texts("/+", 8), &all_texts("a/", 7));
    }

    #[test]
    fn what_means_something_in_a_selector_is_plain_text_in_a_filter() {
        let odd = ".\\*?()|[]{}^$<>%&-~ \n";
        for character in odd.chars() {
            let filters = all_texts(&format!("a{character}/+"), 4);
            check_matching(&filters, &all_texts(&format!("a{character}/"), 4));
        }
        assert_eq!(selector(&parse_filter(&format!("{odd}/+")).unwrap().selector).prefix(), odd);
    }

    #[test]
    fn the_levels_before_the_first_wildcard_are_the_branch() {
        for (filter, branch) in [("a.b//c/+/d", "a.b/~/c"), ("$SYS/#", "$SYS"), ("~/x/#", "~~/x"), ("#", ""), ("+/a", "")] {
            assert_eq!(selector(&parse_filter(filter).unwrap().selector).prefix(), branch, "{filter:?}");
        }
    }

    #[test]
    fn a_shared_subscription_names_its_group() {
        let parsed = parse_filter("$share/workers/jobs/+").unwrap();
        let expected = Filter { share: Some("workers"), filter: "jobs/+", selector: "?jobs/.*".into() };
        assert_eq!(parsed, expected);
        // Without the slash it is a topic like another.
        assert_eq!(parse_filter("$share").unwrap().share, None);
        assert_eq!(parse_filter("$shared/a/b").unwrap().share, None);
    }

    #[test]
    fn golden_vectors_hold() {
        let vectors: Value = serde_json::from_str(include_str!("../../sdk/protocol/vectors/mqtt_names.json")).unwrap();
        let rows = |section: &str| vectors[section].as_array().unwrap().clone();
        for row in rows("names") {
            let (name, path) = (row["name"].as_str().unwrap(), row["path"].as_str().unwrap());
            assert_eq!(path_of(name), path);
            assert_eq!(name_of(path).as_deref(), Some(name));
        }
        for path in rows("paths_without_name") {
            assert_eq!(name_of(path.as_str().unwrap()), None, "{path}");
        }
        for row in rows("filters") {
            let parsed = parse_filter(row["filter"].as_str().unwrap()).unwrap_or_else(|what| panic!("{row}: {what}"));
            assert_eq!(parsed.selector, row["selector"], "{row}");
            assert_eq!(parsed.share, row["share"].as_str(), "{row}");
            selector(&parsed.selector);
        }
        for filter in rows("invalid_filters") {
            assert!(parse_filter(filter.as_str().unwrap()).is_err(), "{filter}");
        }
    }

    proptest! {
        #[test]
        fn any_name_comes_back(name in "[~/a\\PC]{1,40}") {
            let path = path_of(&name);
            prop_assert_eq!(check_form(&path), Ok(()));
            let back = name_of(&path);
            let is_name = !name.contains(['+', '#']);
            prop_assert_eq!(back.as_deref(), is_name.then_some(&*name));
        }

        #[test]
        fn any_filter_is_refused_or_a_selector(filter in "(\\$share/)?[~/a+#$\\PC]{0,40}") {
            if let Ok(parsed) = parse_filter(&filter) {
                prop_assert!(filter.ends_with(parsed.filter));
                selector(&parsed.selector);
            }
        }
    }
}
