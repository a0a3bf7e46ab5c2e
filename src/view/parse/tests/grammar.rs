//! The grammar and the parser say the same: every sentence that the grammar makes is a view.

use std::collections::{BTreeMap, BTreeSet};

use super::{Definition, ViewLimits};
use crate::topic::syntax::fuzz::Numbers;

const GRAMMAR: &str = include_str!("../../grammar.ebnf");

/// A rule's name → what it stands for. Names in capitals have none.
pub type Rules = BTreeMap<String, Option<Item>>;

#[derive(Debug)]
pub enum Item {
    Literal(String),
    Rule(String),
    Quoted(Box<Item>),
    Sequence(Vec<Item>),
    Choice { alternatives: Vec<Item>, each_once: bool },
    Optional(Box<Item>),
    Repeated(Box<Item>),
}

/// Reads the notation that the grammar's head describes.
struct Reader<'a> {
    tokens: Vec<&'a str>,
    position: usize,
}

const EACH_ONCE: &str = "(* each at most once *)";

fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let between = |mark: &str| mark.len() + rest[mark.len()..].find(mark).expect("a closing mark") + mark.len();
        let bytes = match first {
            _ if rest.starts_with("(*") => rest.find("*)").expect("a closing comment") + 2,
            '"' => between("\""),
            '?' => between("?"),
            _ => rest.find(|c: char| !c.is_alphanumeric() && c != '_').filter(|length| *length > 0).unwrap_or(1),
        };
        let token = &rest[..bytes];
        if !token.starts_with("(*") || token == EACH_ONCE {
            tokens.push(token);
        }
        rest = rest[bytes..].trim_start();
    }
    tokens
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> &'a str {
        self.position += 1;
        self.tokens[self.position - 1]
    }

    fn take(&mut self, token: &str) -> bool {
        let is_next = self.tokens.get(self.position) == Some(&token);
        self.position += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, token: &str) {
        assert!(
            self.take(token),
            "expected {token} before {:?}",
            &self.tokens[self.position..][..5.min(self.tokens.len() - self.position)]
        );
    }

    fn rules(mut self) -> Rules {
        let mut rules = Rules::new();
        while self.position < self.tokens.len() {
            let name = self.next();
            self.expect("=");
            let is_said_in_words = self.tokens[self.position].starts_with('?');
            let item = if is_said_in_words { self.words() } else { Some(self.choice()) };
            self.expect(";");
            assert!(rules.insert(name.into(), item).is_none(), "{name} stands twice");
        }
        rules
    }

    fn words(&mut self) -> Option<Item> {
        self.next();
        None
    }

    fn choice(&mut self) -> Item {
        let mut alternatives = Vec::new();
        let mut each_once = false;
        loop {
            alternatives.push(self.sequence());
            each_once |= self.take(EACH_ONCE);
            if !self.take("|") {
                return Item::Choice { alternatives, each_once };
            }
        }
    }

    fn sequence(&mut self) -> Item {
        let mut items = Vec::new();
        while !["|", ")", "]", "}", ";", EACH_ONCE].contains(&self.tokens[self.position]) {
            items.push(self.item());
        }
        Item::Sequence(items)
    }

    fn item(&mut self) -> Item {
        let token = self.next();
        let (item, end) = match token {
            "(" => (self.choice(), ")"),
            "[" => (Item::Optional(Box::new(self.choice())), "]"),
            "{" => (Item::Repeated(Box::new(self.choice())), "}"),
            "quoted" => {
                self.expect("(");
                (Item::Quoted(Box::new(self.choice())), ")")
            }
            _ if token.starts_with('"') => return Item::Literal(token.trim_matches('"').into()),
            _ => return Item::Rule(token.into()),
        };
        self.expect(end);
        item
    }
}

pub fn rules() -> Rules {
    Reader { tokens: tokens(GRAMMAR), position: 0 }.rules()
}

/// What may stand for a name in capitals, and only in quotation marks.
fn samples(name: &str) -> (&'static [&'static str], &'static [&'static str]) {
    match name {
        "SELECTOR" => (&["a/b", ">a", "?a/.*//", "*a/[^/]+(b|c)", "#>a////?b/\\d"], &["a b/c", "?it's/.*"]),
        "NAME" => (&["server-1", "from", "é"], &["server 1"]),
        "CHARACTERS" => (&["a", "views", "it's", ">", "é-1", "process", "{};"], &["a b"]),
        "INDEX" => (&["0", "1", "65535"], &[]),
        "COUNT" => (&["1", "20"], &[]),
        "SCALE" => (&["0", "2", "28"], &[]),
        "POINTER" => (&["/", "/a", "/a/b-c/0", "/a.b_c", "/~0~1", "/é'"], &["", "/a b", "/a,b)", "/=<>", "/\"\\"]),
        "PATCH" => (&["[]", r#"[{"op":"add","path":"/a ]\"","value":[{}]}]"#], &[r#" [ {"op":"remove","path":"/it's"} ]"#]),
        "REGEX" => (&["a.*", "\\d+", "[^'\"]", "x{2}"], &["(a b)", "", "\\\\|'"]),
        "NUMBER" => (&["0", "-1", "1.5", "-0.1e-3", "12345678901234567890123456789012"], &[]),
        "DECIMAL" => (&["0", "1", "1.50", "0.1e-3", "2E+3", "1234567890123456789012345678"], &[]),
        "TEXT" => (&["", "a", "it's", "say \"x\"", "\\", "/a"], &[]),
        "ARRAY" => (&["[]", "[ 1, [\"]\"] ]"], &[]),
        "OBJECT" => (&["{}", "{\"a\": {\"}\\\"\": null}}"], &[]),
        "SEPARATOR" => (&["_", "", " - ", "'"], &[]),
        "PROPERTY" => (&["COMPRESSION", "CONFLATION", "priority", "Time_Series_Event_Value_Type", "TIME_SERIES_RETAINED_RANGE"], &[]),
        "PROPERTY_VALUE" => (&["low", "off", "high", "json", "limit 5"], &[]),
        _ => panic!("{name} has no samples"),
    }
}

/// What may stand between the parts of a rule.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gap {
    WhiteSpace,
    Nothing,
}

/// Makes sentences, and notes which parts of the grammar it has used.
struct Generator<'r> {
    rules: &'r Rules,
    numbers: Numbers,
    /// Once it is used up, the shortest way to an end is taken.
    fuel: usize,
    text: String,
    gap: Gap,
    /// The only characters that the last token may touch, if that is limited.
    touches: Option<&'static str>,
    /// The alternatives that may not be taken again.
    taken: Vec<(*const Item, usize)>,
    properties: Vec<usize>,
    used: &'r mut BTreeSet<*const Item>,
}

impl Generator<'_> {
    fn make(&mut self, item: &Item, gap: Gap) {
        self.used.insert(item);
        self.fuel = self.fuel.saturating_sub(1);
        match item {
            Item::Literal(literal) if self.numbers.next(4) == 0 => self.emit(&literal.to_ascii_uppercase(), None),
            Item::Literal(literal) => self.emit(literal, None),
            Item::Rule(name) => self.rule(name),
            Item::Quoted(inner) => self.quoted(inner),
            Item::Sequence(items) => {
                for (index, item) in items.iter().enumerate() {
                    // The first part stands as far away as the rule around this one wants it.
                    self.gap = if index > 0 { gap } else { self.gap };
                    self.make(item, gap);
                }
            }
            Item::Choice { alternatives, each_once } => {
                let is_open = |index: &usize| !self.taken.contains(&(item as *const Item, *index));
                let open: Vec<usize> = (0..alternatives.len()).filter(is_open).collect();
                let index = if self.fuel == 0 { open[0] } else { self.numbers.pick(&open) };
                if *each_once {
                    self.taken.push((item, index));
                }
                self.make(&alternatives[index], gap);
            }
            Item::Optional(inner) if self.fuel > 0 && self.numbers.next(2) == 0 => self.make(inner, gap),
            Item::Optional(_) => {}
            Item::Repeated(inner) => {
                for _ in 0..self.numbers.next(3).min(self.fuel) {
                    self.make(inner, gap);
                    self.gap = gap;
                }
            }
        }
    }

    fn rule(&mut self, name: &str) {
        let Some(item) = &self.rules[name] else { return self.sample(name, samples(name).0) };
        let is_capital = name.starts_with(|c: char| c.is_uppercase());
        self.make(item, if is_capital { Gap::Nothing } else { Gap::WhiteSpace });
        if matches!(name, "Path" | "Insert_path") {
            self.touches = Some("");
        }
    }

    fn sample(&mut self, name: &str, samples: &[&'static str]) {
        let index = match name {
            "PROPERTY" => {
                let open: Vec<_> = (0..samples.len()).filter(|index| !self.properties.contains(index)).collect();
                self.properties.push(self.numbers.pick(&open));
                self.properties[self.properties.len() - 1]
            }
            "PROPERTY_VALUE" => self.properties[self.properties.len() - 1],
            _ => self.numbers.next(samples.len()),
        };
        let touches = match name {
            "SELECTOR" | "NAME" => Some(""),
            "REGEX" => Some(")"),
            "POINTER" => Some("),=!<>&|+*"),
            _ => None,
        };
        self.emit(samples[index], touches);
    }

    /// Makes `inner` as a text of its own.
    fn quoted(&mut self, inner: &Item) {
        let text = std::mem::take(&mut self.text);
        let taken = std::mem::take(&mut self.taken);
        let around = (self.gap, self.touches);
        (self.gap, self.touches) = (Gap::Nothing, None);
        match only_rule(inner).filter(|name| self.rules[*name].is_none()) {
            Some(name) => {
                self.used.extend([inner as *const Item]);
                let (plain, spaced) = samples(name);
                self.sample(name, &[plain, spaced].concat());
            }
            None => self.make(inner, Gap::WhiteSpace),
        }
        (self.gap, self.touches) = around;
        self.taken = taken;
        let content = std::mem::replace(&mut self.text, text);
        let mark = self.numbers.pick(&["'", "\""]);
        let escaped = content.replace('\\', r"\\").replace(mark, &format!("\\{mark}"));
        self.emit(&format!("{mark}{escaped}{mark}"), None);
    }

    fn emit(&mut self, token: &str, touches: Option<&'static str>) {
        let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-'));
        let must_part = match self.touches {
            Some(characters) => !token.starts_with(|c| characters.contains(c)),
            None => is_word(self.text.chars().next_back()) && is_word(token.chars().next()),
        };
        if self.gap == Gap::WhiteSpace {
            let from = usize::from(must_part);
            self.text.push_str(["", " ", " ", "\n\t"][from + self.numbers.next(4 - from)]);
        }
        self.text.push_str(token);
        self.touches = touches;
    }
}

/// The name of the rule that `item` is, if it is nothing else.
fn only_rule(item: &Item) -> Option<&str> {
    match item {
        Item::Rule(name) => Some(name),
        Item::Sequence(items) | Item::Choice { alternatives: items, .. } if items.len() == 1 => only_rule(&items[0]),
        _ => None,
    }
}

/// Calls `visit` with `item` and all that it is made of.
fn walk<'i>(item: &'i Item, visit: &mut dyn FnMut(&'i Item)) {
    visit(item);
    match item {
        Item::Literal(_) | Item::Rule(_) => {}
        Item::Quoted(inner) | Item::Optional(inner) | Item::Repeated(inner) => walk(inner, visit),
        Item::Sequence(items) | Item::Choice { alternatives: items, .. } => items.iter().for_each(|item| walk(item, visit)),
    }
}

/// A sentence of the grammar that depends on `seed` alone. What lies deep in the grammar is made inside a short view, too,
/// as it is seldom reached otherwise.
pub fn sentence(rules: &Rules, seed: u64, used: &mut BTreeSet<*const Item>) -> String {
    let mut numbers = Numbers(seed);
    let fuel = 20 + numbers.next(300);
    let (start, rule, end) = numbers.pick(&[
        ("", "view", ""),
        ("map a to b ", "transformation", ""),
        ("map a to b process { set(/a,", "source", ") }"),
        ("map a to b process { if ", "condition", " continue }"),
    ]);
    let (text, taken, properties) = (start.into(), Vec::new(), Vec::new());
    let mut generator = Generator { rules, numbers, fuel, text, gap: Gap::Nothing, touches: None, taken, properties, used };
    generator.rule(rule);
    generator.text + end
}

#[test]
fn every_rule_is_there_and_leads_to_a_view() {
    let rules = rules();
    let mut reached = BTreeSet::from(["view"]);
    loop {
        let before = reached.len();
        for item in reached.clone().into_iter().filter_map(|name| rules[name].as_ref()) {
            walk(item, &mut |item| {
                if let Item::Rule(name) = item {
                    assert!(rules.contains_key(name), "there is no {name}");
                    reached.insert(name);
                }
            });
        }
        if reached.len() == before {
            break;
        }
    }
    let unreached: Vec<_> = rules.keys().filter(|name| !reached.contains(name.as_str())).collect();
    assert!(unreached.is_empty(), "{unreached:?}");
    for (name, _) in rules.iter().filter(|(_, item)| item.is_none()) {
        assert!(!samples(name).0.is_empty());
    }
}

#[test]
fn every_sentence_of_the_grammar_is_a_view() {
    let rules = rules();
    let limits = ViewLimits { regexes_max: 1000, ..ViewLimits::default() };
    let mut used = BTreeSet::new();
    // Seeds far from each other, as near ones begin alike.
    for seed in (0..4000).map(|index: u64| index.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
        let text = sentence(&rules, seed, &mut used);
        if let Err(error) = Definition::parse(&text, &limits) {
            panic!("seed {seed}: {error}\n{text}");
        }
    }
    for (name, item) in rules.iter().filter_map(|(name, item)| Some((name, item.as_ref()?))) {
        // What is quoted and said in words is filled in without looking inside.
        let mut inside = BTreeSet::new();
        walk(item, &mut |item| {
            if let Item::Quoted(inner) = item
                && only_rule(inner).is_some()
            {
                walk(inner, &mut |item| {
                    inside.insert(item as *const Item);
                });
            }
            let is_used = used.contains(&(item as *const Item)) || inside.contains(&(item as *const Item));
            assert!(is_used, "no sentence uses {item:?} of {name}");
        });
    }
}
