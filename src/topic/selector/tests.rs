//! Selectors: what is read, what is refused and where, and what matches.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn limits() -> SelectorLimits {
    SelectorLimits::default()
}

fn parse(text: &str) -> Selector {
    Selector::parse(text, limits()).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn check(selector: &str, path: &str, expected: bool) {
    assert_eq!(parse(selector).matches(path), expected, "{selector:?} on {path:?}");
}

fn check_selected(selector: &str, expected: &[&str]) {
    let topics = ["foo", "bar", "foo/bar", "foo/baz", "foo/bar/baz/bing"];
    let selector = parse(selector);
    let selected: Vec<_> = topics.into_iter().filter(|path| selector.matches(path)).collect();
    assert_eq!(selected, expected, "{selector}");
}

fn check_prefix(selector: &str, expected: &str) {
    assert_eq!(parse(selector).prefix(), expected, "{selector}");
}

fn check_refused(selector: &str, position: usize, words: &str) {
    let error = Selector::parse(selector, limits()).expect_err(selector);
    assert_eq!(error.position, position, "{selector:?}: {error}");
    assert!(error.to_string().contains(words), "{selector:?}: {error}");
}

#[test]
fn qualifiers_choose_matches_descendants_or_both() {
    check_selected("foo", &["foo"]);
    check_selected("?foo", &["foo"]);
    check_selected("?foo/", &["foo/bar", "foo/baz", "foo/bar/baz/bing"]);
    check_selected("?foo//", &["foo", "foo/bar", "foo/baz", "foo/bar/baz/bing"]);
    check_selected("?foo/.*", &["foo/bar", "foo/baz"]);
    check_selected("?foo/bar", &["foo/bar"]);
    check_selected("?foo/bar/", &["foo/bar/baz/bing"]);
    check_selected("*foo/", &["foo/bar", "foo/baz", "foo/bar/baz/bing"]);
    check_selected("*.*a.//", &["bar", "foo/bar", "foo/baz", "foo/bar/baz/bing"]);
}

#[test]
fn everything_is_everything() {
    for selector in ["?.*//", "*.*", "?.+//", "?(.*)//"] {
        for path in ["a", "a/b/c", "a\nb", "\u{2028}/\u{85}", "Tidewire/x"] {
            check(selector, path, true);
        }
    }
}

#[test]
fn a_level_matches_a_whole_segment() {
    check("?a|ab", "ab", true);
    check("?a", "ab", false);
    check("?b/.*", "ab/a", false);
    check("?a/b|c/d", "a/c/d", true);
    check("?a/b|c/d", "a/b", false);
    // A slash may be escaped into a level, but no segment has one.
    check(r"?a\x2Fb", "a/b", false);
    check(r"?a/x\x2Fb.*", "a/x/b", false);
}

#[test]
fn perl_classes_are_ascii() {
    for (class, inside, outside) in [("d", "7", "x٣"), ("w", "aZ_0", "-éπ"), ("s", " \t\n\u{b}\u{c}\r", "x\u{a0}\u{2028}")] {
        let negated = class.to_uppercase();
        for (text, is_inside) in [(inside, true), (outside, false)] {
            for c in text.chars() {
                let c = c.to_string();
                check(&format!(r"?\{class}"), &c, is_inside);
                check(&format!(r"?[#\{class}]+"), &c, is_inside);
                check(&format!(r"?\{negated}"), &c, !is_inside);
                check(&format!(r"?[^\{class}]"), &c, !is_inside);
                check(&format!(r"?(?x)[\{class}&&\{class}] a? "), &c, is_inside);
            }
        }
    }
    check(r"?\w{30}\s\d\d", &format!("{} 12", "a".repeat(30)), true);
}

#[test]
fn a_full_path_regex_matches_the_whole_path() {
    check("*a", "a/b", false);
    check("*a|a/b", "a/b", true);
    check("*a.b", "a/b", true);
    check("*^a/b$", "a/b", true);
    check(r"*a\x2Fb", "a/b", true);
}

#[test]
fn the_prefix_is_the_deepest_literal_branch() {
    check_prefix("?foo/bar/baz/.*/bing", "foo/bar/baz");
    check_prefix("?.*//", "");
    check_prefix("?foo//", "foo");
    check_prefix(r"?foo\.x/[a]/b/.*", "foo.x/a/b");
    check_prefix("#foo/bar////?foo/baz//", "foo");
    check_prefix("#foo/bar////?foo/bart//", "foo");
    check_prefix("#foo////?foo/bar//", "foo");
    check_prefix("*foo/bar/.*", "foo/bar");
    check_prefix("*foo/bar.*", "foo");
    check_prefix("*foo/bar?", "foo");
    check_prefix("*^foo/.*", "foo");
    check_prefix("*foo/.*|.*", "");
    check_prefix("*(?i)foo/.*", "");
    check_prefix("*a//b.*", "");
}

#[test]
fn only_path_selectors_have_an_exact_path() {
    assert_eq!(parse("a/b").exact_path(), Some("a/b"));
    assert_eq!(parse(">?a").exact_path(), Some("?a"));
    assert_eq!(parse("?a/b").exact_path(), None);
    assert_eq!(parse("#a/b").exact_path(), None);
}

#[test]
fn equality_is_that_of_the_canonical_text() {
    assert_eq!(parse("a/b"), parse(">a/b"));
    assert_eq!(parse("#a////#b"), parse("#>a////>b"));
    assert_ne!(parse("?a/b"), parse("a/b"));
    let table: hashbrown::HashSet<_> = hashbrown::HashSet::from([parse("a")]);
    assert!(table.contains(">a"));
}

#[test]
fn paths_take_no_qualifiers_and_errors_say_what_to_write() {
    check_refused("a/", 1, "`?a//`");
    check_refused("a/b//", 4, "`?a/b//`");
    check_refused("#x////a/b//", 10, "`?a/b//`");
    check_refused("$a", 0, "`>$a`");
    check_refused("", 0, "a selector");
    check_refused("?a//b", 3, "a regex for the level");
    check_refused("#a////", 6, "a selector");
}

#[test]
fn what_only_java_has_is_refused_by_name() {
    check_refused("?a/(?=b)", 3, "look-around");
    check_refused("?a/(?<=b)", 3, "look-around");
    check_refused(r"?(a)\1", 4, "back-reference");
    check_refused(r"?(?<n>a)\k<n>", 8, "back-reference");
    check_refused(r"*\Qa.b\E", 1, "quotation");
    check_refused("?a++", 3, "possessive");
    check_refused("?a?+", 3, "possessive");
    check_refused("?(?>a)", 3, "atomic");
    check_refused(r"?\d\W[\s]\p{javaLowerCase}\d", 9, r"`\p{javaLowerCase}`");
    check("?(?:a*)+", "aa", true);
}

#[test]
fn a_regex_torn_at_a_slash_is_explained() {
    check_refused("?a[/]b", 2, "split at every '/'");
    check_refused("?(a/b)", 1, "split at every '/'");
    check_refused(r"?a\/b", 2, "split at every '/'");
    check("*(a/b)", "a/b", true);
}

#[test]
fn every_limit_has_an_edge() {
    let limits = SelectorLimits { text_bytes_max: 24, members_max: 2, regexes_max: 2, regex_bytes_max: 50_000, unicode_classes_max: 2 };
    let check_limit = |text: &str, position: Option<usize>| {
        assert_eq!(Selector::parse(text, limits).err().map(|error| error.position), position, "{text:?}");
    };
    check_limit(&"a".repeat(24), None);
    check_limit(&"a".repeat(25), Some(24));
    check_limit("#a////b", None);
    check_limit("#a////b////c", Some(11));
    check_limit("?a+/b+/c/.*", None);
    check_limit("?a+/b+/c/d+", Some(9));
    check_limit("#?a+////?b+/c+", Some(12));
    check_limit(r"?\pZ[\pZ]", None);
    check_limit(r"?\pZ[\pZ]/\p{Z}", Some(10));
    check_limit("?a/b{100}", None);
    check_limit("?a/b{5000}", Some(3));
    check_limit("?a/(b{99}){99}", Some(3));
}

#[test]
fn nesting_has_an_edge() {
    let nested = |depth: usize, inner: &str| format!("?{}{inner}{}", "(".repeat(depth), ")".repeat(depth));
    for depth in 0..100 {
        let text = nested(depth, r"\da?");
        match Selector::parse(&text, limits()) {
            Ok(selector) => assert!(depth < 64 && selector.matches("1a")),
            Err(error) => assert!(depth > 30 && error.position < text.len(), "{depth}: {error}"),
        }
    }
}

#[test]
fn a_regex_that_ends_in_a_comment_is_refused() {
    check_refused("?(?x)a+ b#c", 1, "line break");
    check("?(?x)a+ b#c\n", "ab", true);
}

/// Whole-text matching without any shortcut.
#[derive(Default)]
struct Regexes(hashbrown::HashMap<String, regex::Regex>);

impl Regexes {
    fn matches(&mut self, regex: &str, text: &str) -> bool {
        let compile = || regex::Regex::new(&format!("^(?s:{regex})$")).unwrap();
        self.0.entry(regex.into()).or_insert_with(compile).is_match(text)
    }
}

/// What the module's header says, word by word.
fn naive(regexes: &mut Regexes, selector: &str, path: &str) -> bool {
    let (pattern, matched, descendants) = match (selector.strip_suffix("//"), selector.strip_suffix('/')) {
        (Some(pattern), _) => (pattern, true, true),
        (None, Some(pattern)) => (pattern, false, true),
        (None, None) => (selector, true, false),
    };
    let mut node_matches = |node: &[&str]| match pattern.split_at(1) {
        ("?", levels) => {
            let levels: Vec<_> = levels.split('/').collect();
            levels.len() == node.len() && levels.iter().zip(node).all(|(level, segment)| regexes.matches(level, segment))
        }
        ("*", regex) => regexes.matches(regex, &node.join("/")),
        (">", exact) => exact == node.join("/"),
        _ => panic!("the model knows no {pattern}"),
    };
    let segments: Vec<_> = path.split('/').collect();
    (matched && node_matches(&segments)) || (descendants && (1..segments.len()).any(|end| node_matches(&segments[..end])))
}

/// All paths of up to three segments over a small alphabet.
fn all_paths() -> Vec<String> {
    let segments = ["a", "b", "ab"];
    let mut paths: Vec<String> = segments.map(String::from).to_vec();
    let mut start = 0;
    for _ in 0..2 {
        let end = paths.len();
        for index in start..end {
            paths.extend(segments.map(|segment| format!("{}/{segment}", paths[index])));
        }
        start = end;
    }
    paths
}

fn all_selectors() -> Vec<String> {
    let levels = ["a", "b", "ab", ".*", ".+", "a?b?", "a|b", "[ab]", "(ab)*", "a.*", "[^a]*", r"\x61b", "(?:)"];
    let mut patterns: Vec<String> = levels.map(|level| format!("?{level}")).to_vec();
    for first in levels {
        patterns.extend(levels.map(|second| format!("?{first}/{second}")));
        patterns.extend(["a", ".*", "a|b"].map(|third| format!("?{first}/b/{third}")));
    }
    let full = ["a/a|b/b", "a/(b|a)b?", ".*/b", "a/.*", "a.*", "a/b/?a?", "(a/)*b", "a/[^/]*", "^a/b", "(a)/b", "a/b.+", "a//b"];
    patterns.extend(levels.into_iter().chain(full).map(|regex| format!("*{regex}")));
    let mut selectors: Vec<String> = patterns.iter().flat_map(|p| ["", "/", "//"].map(|reach| format!("{p}{reach}"))).collect();
    selectors.extend(all_paths().into_iter().map(|path| format!(">{path}")));
    selectors
}

#[test]
fn selection_is_what_the_naive_model_says_and_lies_within_the_prefix() {
    let (paths, mut regexes) = (all_paths(), Regexes::default());
    assert_eq!(paths.len(), 39);
    for text in all_selectors() {
        let selector = parse(&text);
        for path in &paths {
            let matches = selector.matches(path);
            assert_eq!(matches, naive(&mut regexes, &text, path), "{text} on {path}");
            assert!(!matches || is_within(path, selector.prefix()), "{text} matches {path} outside of {}", selector.prefix());
        }
    }
}

#[test]
fn a_set_selects_what_its_members_do_within_their_common_prefix() {
    let paths = all_paths();
    let members: Vec<_> = all_selectors().into_iter().step_by(17).collect();
    for a in &members {
        for b in &members {
            let text = format!("#{a}{SEPARATOR}{b}");
            let (selector, first, second) = (parse(&text), parse(a), parse(b));
            for path in &paths {
                let matches = selector.matches(path);
                assert_eq!(matches, first.matches(path) || second.matches(path), "{text} on {path}");
                assert!(!matches || is_within(path, selector.prefix()), "{text} matches {path} outside of {}", selector.prefix());
            }
        }
    }
}

#[test]
fn golden_vectors_hold() {
    let vectors: Value = serde_json::from_str(include_str!("../../../sdk/protocol/vectors/selectors.json")).unwrap();
    let strings = |value: &Value| value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_string()).collect::<Vec<_>>();
    for case in vectors["valid"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let selector = parse(text);
        assert_eq!(selector.as_str(), case["canonical"].as_str().unwrap_or(text), "{case}");
        assert_eq!(selector.prefix(), case["prefix"], "{case}");
        assert_eq!(parse(selector.as_str()), selector, "{case}");
        for path in strings(&case["matches"]) {
            check(text, &path, true);
        }
        for path in strings(&case["misses"]) {
            check(text, &path, false);
        }
    }
    for case in vectors["invalid"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let error = Selector::parse(text, limits()).expect_err(text);
        assert_eq!(case["position"], error.position, "{text:?}: {error}");
    }
}

proptest! {
    #[test]
    fn any_text_is_a_selector_or_refused_at_a_position_within_it(text in r"[#>?*$]?([/ab.*+?()|\[\]{}\\^1Q]|//|////|\PC|\(\?x\))*") {
        match Selector::parse(&text, limits()) {
            Ok(selector) => {
                let again = parse(selector.as_str());
                prop_assert_eq!(again.as_str(), selector.as_str());
                for path in ["a", "b/a", "a/b/ab", "1/Q"] {
                    let matches = selector.matches(path);
                    prop_assert!(!matches || is_within(path, selector.prefix()));
                    prop_assert_eq!(matches, again.matches(path));
                }
            }
            Err(error) => prop_assert!(error.position <= text.len() && text.is_char_boundary(error.position), "{}", error),
        }
    }
}

#[test]
fn what_selects_all_below_a_branch_is_known() {
    for (selector, branch, expected) in [
        ("?a//", "a", true),
        ("?a/", "a", true),
        ("?a//", "a/b", true),
        ("?a//", "", false),
        ("?a//", "ab", false),
        ("?a//", "b", false),
        ("?a/b//", "a", false),
        ("?.*//", "", true),
        ("?.*//", "x", true),
        ("?.*/", "", false),
        ("?.*/", "x", true),
        ("?a/.*//", "a", true),
        ("?a/.*", "a", false),
        ("?a/[xy]//", "a/x", true),
        ("?a/[xy]//", "a/z", false),
        ("?a/[xy]//", "a", false),
        ("*.*", "a", true),
        ("*a.*", "a", false),
        ("a/b", "a", false),
        ("#a////?b//", "b", true),
        ("#a////?b//", "a", false),
    ] {
        let parsed = Selector::parse(selector, SelectorLimits::default()).unwrap();
        assert_eq!(parsed.selects_all_below(branch), expected, "{selector} below {branch:?}");
    }
}
