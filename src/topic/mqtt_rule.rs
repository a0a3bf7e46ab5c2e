//! What topics MQTT clients make: rules of the operator, each for a branch of the tree.
//!
//! A rule is `BRANCH: TYPE [KEY=VALUE …] [keep]`. The branch is a path, and empty for all topics; a colon with white space or nothing
//! behind it ends it. A value with white space stands in quotation marks. Of the rules that hold for a path the longest branch's counts.
//! Making topics of them is left to others.

#[cfg(test)]
mod tests;

use super::path::{PathErrorKind, check_form, is_within};
use super::specification::{PropertyError, Specification, SpecificationLimits, TopicType};
use super::syntax::{Cursor, SyntaxError, brief};
use crate::value::ValueType;
use std::fmt;

/// More rules than this are refused: each publication to a topic that is not there looks at all of them.
pub const RULES_MAX: usize = 1000;

/// What the topics are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleKind {
    Of(ValueType),
    /// No topic is made.
    Refuse,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRule {
    /// The path at the top of the branch; empty for the whole tree.
    pub branch: String,
    pub kind: RuleKind,
    /// As written. Each was checked against every type that the topics may have.
    pub properties: Vec<(String, String)>,
    /// Whether what is published without RETAIN becomes the topic's value too.
    pub keeps: bool,
}

/// All rules, no two for the same branch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicRules(Vec<TopicRule>);

/// Why a text is not a rule: the operator's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// Which rule, from 1.
    pub number: usize,
    pub error: SyntaxError,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {}: {}", self.number, self.error)
    }
}

impl std::error::Error for RuleError {}

impl TopicRules {
    pub fn parse<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<Self, RuleError> {
        let mut rules: Vec<TopicRule> = Vec::new();
        for (index, text) in texts.into_iter().enumerate() {
            let refuse = |error| RuleError { number: index + 1, error };
            if index == RULES_MAX {
                let (found, expected) = ("one more rule".into(), format!("at most {RULES_MAX}"));
                return Err(refuse(SyntaxError { position: 0, found, expected }));
            }
            let rule = TopicRule::parse(text).map_err(refuse)?;
            if let Some(earlier) = rules.iter().position(|earlier| earlier.branch == rule.branch) {
                let found = format!("`{}`, as in rule {}", brief(&rule.branch), earlier + 1);
                return Err(refuse(SyntaxError { position: 0, found, expected: "each branch once".into() }));
            }
            rules.push(rule);
        }
        Ok(Self(rules))
    }

    /// The rule for `path`, if there is one.
    pub fn find(&self, path: &str) -> Option<&TopicRule> {
        self.0.iter().filter(|rule| is_within(path, &rule.branch)).max_by_key(|rule| rule.branch.len())
    }
}

const A_TYPE: &str = "json, string, int64, double, binary or refuse";
const AN_OPTION: &str = "KEY=VALUE, `keep` or the end";

impl TopicRule {
    fn parse(text: &str) -> Result<Self, SyntaxError> {
        let mut cursor = Cursor::new(text);
        let branch = take_branch(text, &mut cursor)?;
        let kind = take_kind(&mut cursor)?;
        if kind == RuleKind::Refuse {
            cursor.expect_end("the end, as no topic is made")?;
        }
        let mut rule = Self { branch, kind, properties: Vec::new(), keeps: false };
        let mut places = Vec::new();
        while !cursor.rest().is_empty() {
            if cursor.is_keyword("keep") && !rule.keeps {
                cursor.take_word();
                rule.keeps = true;
                continue;
            }
            let (key, value, place) = take_property(&mut cursor)?;
            rule.properties.push((key, value));
            places.push(place);
        }
        rule.check_properties(&places)?;
        Ok(rule)
    }

    /// `places` says where the values stand.
    fn check_properties(&self, places: &[Quoting<'_>]) -> Result<(), SyntaxError> {
        let properties = || self.properties.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        for topic_type in self.kind.topic_types() {
            Specification::parse(topic_type, properties(), SpecificationLimits::default()).map_err(|error| self.locate(error, places))?;
        }
        Ok(())
    }

    fn locate(&self, error: PropertyError, places: &[Quoting<'_>]) -> SyntaxError {
        let PropertyError { property, position, found, expected } = error;
        // Of a key that stands twice the second is at fault.
        let index = self.properties.iter().rposition(|(key, _)| brief(key) == property);
        let position = index.map_or(0, |index| places[index].position_of(position));
        SyntaxError { position, found: format!("{found} in {property}"), expected }
    }
}

impl RuleKind {
    /// The types that topics of this kind may have.
    pub fn topic_types(self) -> impl Iterator<Item = TopicType> {
        ValueType::ALL.into_iter().map(TopicType::from).filter(move |topic_type| match self {
            Self::Of(value_type) => topic_type.value_type() == Some(value_type),
            Self::Refuse => false,
        })
    }
}

fn take_branch(text: &str, cursor: &mut Cursor<'_>) -> Result<String, SyntaxError> {
    let ends = |rest: &str| rest.is_empty() || rest.starts_with(char::is_whitespace);
    let Some((colon, _)) = text.match_indices(':').find(|(index, _)| ends(&text[index + 1..])) else {
        let found = if text.is_empty() { "nothing".to_owned() } else { format!("`{}`", brief(text)) };
        return Err(SyntaxError { position: 0, found, expected: "`BRANCH: TYPE`, with white space behind the colon".into() });
    };
    let start = cursor.position();
    let branch = text[start..colon].trim_end();
    cursor.take(colon + 1 - start);
    match check_form(branch) {
        Err(error) if error.kind != PathErrorKind::Empty => Err(SyntaxError {
            position: start + error.position,
            found: format!("`{}`, in which a segment is empty", brief(branch)),
            expected: "a path such as `a/b`, or nothing for the whole tree".into(),
        }),
        _ => Ok(branch.to_owned()),
    }
}

fn take_kind(cursor: &mut Cursor<'_>) -> Result<RuleKind, SyntaxError> {
    let kind = match cursor.word() {
        "refuse" => RuleKind::Refuse,
        word => ValueType::from_name(word).map(RuleKind::Of).ok_or_else(|| cursor.error(A_TYPE))?,
    };
    cursor.take_word();
    Ok(kind)
}

/// Where a property's value stands in its rule.
enum Quoting<'t> {
    Plain(usize),
    Quoted(super::syntax::Quoted<'t>),
}

impl Quoting<'_> {
    fn position_of(&self, offset: usize) -> usize {
        match self {
            Self::Plain(start) => start + offset,
            Self::Quoted(quoted) => quoted.position_of(offset),
        }
    }
}

fn take_property<'t>(cursor: &mut Cursor<'t>) -> Result<(String, String, Quoting<'t>), SyntaxError> {
    let key = cursor.word();
    if key.is_empty() {
        return Err(cursor.error(AN_OPTION));
    }
    if !Specification::knows_property(key) {
        return Err(cursor.error(&format!("{AN_OPTION}, where the key is a topic property such as PERSISTENT")));
    }
    cursor.take_word();
    cursor.take_symbol('=').ok_or_else(|| cursor.error("`=` and the property's value"))?;
    if cursor.is_quoted() {
        let quoted = cursor.expect_quoted("a quoted value")?;
        return Ok((key.to_owned(), quoted.content().into_owned(), Quoting::Quoted(quoted)));
    }
    let start = cursor.position();
    let bytes = cursor.rest().find(char::is_whitespace).unwrap_or(cursor.rest().len());
    if bytes == 0 {
        return Err(cursor.error("the property's value"));
    }
    Ok((key.to_owned(), cursor.take(bytes).to_owned(), Quoting::Plain(start)))
}
