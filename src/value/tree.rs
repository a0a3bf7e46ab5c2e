//! A JSON value that is being changed, kept as text wherever the changes do not go.
//!
//! A node is a slice of the original text until a pointer leads into it; only then it becomes an array or object of
//! nodes. What is not touched is printed as it stood: order and duplicates of members, spelling of numbers, escapes.
//!
//! What a change costs is charged to its caller's [`Work`]: the members that it passes over, the text that it opens.

use std::borrow::Cow;

use super::json::walk::{self, Text};
use super::number::Decimal;
use super::pointer::Token;
use super::work::{Exhausted, Work};
use super::{ValueType, scalar};

/// What a node costs beyond its text, in steps.
const NODE_STEPS: usize = 8;
/// What it takes to pass over a member, in steps.
const MEMBER_STEPS: usize = 2;
/// The most children that room is made for before they are counted.
const CHILDREN_EXPECTED_MAX: usize = 64;

#[derive(Clone, Debug)]
pub enum Node<'a> {
    /// Compact JSON, not looked into yet.
    Text(&'a [u8]),
    Array(Vec<Node<'a>>),
    Object(Vec<Member<'a>>),
}

#[derive(Clone, Debug)]
pub struct Member<'a> {
    /// As JSON writes it, without quotation marks.
    name: Cow<'a, [u8]>,
    value: Node<'a>,
}

impl Member<'_> {
    fn is(&self, token: &Token) -> bool {
        Text::new(&self.name).is(token.name().as_bytes())
    }
}

impl<'a> Node<'a> {
    /// The node that `tokens` lead to from here.
    pub fn descend(&mut self, tokens: &[Token], work: &mut Work) -> Result<&mut Self, String> {
        let mut node = self;
        for (level, token) in tokens.iter().enumerate() {
            node.expand(work)?;
            let Some(index) = node.position(token, work)? else {
                return Err(node.lacks(&tokens[..level], token));
            };
            node = match node {
                Self::Object(members) => &mut members[index].value,
                Self::Array(elements) => &mut elements[index],
                Self::Text(_) => return Err(node.lacks(&tokens[..level], token)),
            };
        }
        Ok(node)
    }

    /// The text of the child that `token` means. A child that was looked into has none.
    pub fn child_text(&mut self, token: &Token, work: &mut Work) -> Result<Option<&'a [u8]>, Exhausted> {
        self.expand(work)?;
        let child = self.position(token, work)?.and_then(|index| match self {
            Self::Object(members) => members.get(index).map(|member| &member.value),
            Self::Array(elements) => elements.get(index),
            Self::Text(_) => None,
        });
        Ok(match child {
            Some(Self::Text(text)) => Some(text),
            _ => None,
        })
    }

    /// Puts `value` where `token` says: a member of that name, or an element before which the others move up.
    pub fn insert(&mut self, token: &Token, value: Node<'a>, work: &mut Work) -> Result<(), String> {
        self.expand(work)?;
        let position = self.position(token, work)?;
        match self {
            Self::Object(members) => match position {
                Some(index) => members[index].value = value,
                None => members.push(Member { name: Cow::Owned(written(token.name())), value }),
            },
            Self::Array(elements) => match token.index() {
                Some(index) if index <= elements.len() => {
                    work.charge(elements.len() - index)?;
                    elements.insert(index, value);
                }
                _ if token.is_append() => elements.push(value),
                _ => return Err(beyond(elements.len(), token)),
            },
            Self::Text(_) => return Err(self.takes_no_parts(token)),
        }
        Ok(())
    }

    /// Puts `value` where `token` says, in place of what is there: a member or an element, or behind the last element.
    pub fn set(&mut self, token: &Token, value: Node<'a>, work: &mut Work) -> Result<(), String> {
        self.expand(work)?;
        if let Self::Array(elements) = self
            && let Some(element) = token.index().and_then(|index| elements.get_mut(index))
        {
            *element = value;
            return Ok(());
        }
        self.insert(token, value, work)
    }

    /// Takes out what `token` means. Of members with one name all go, so that the name is gone.
    pub fn take(&mut self, token: &Token, work: &mut Work) -> Result<Option<Node<'a>>, String> {
        self.expand(work)?;
        let Some(index) = self.position(token, work)? else { return Ok(None) };
        match self {
            Self::Object(members) => {
                work.charge(NODE_STEPS * members.len())?;
                let value = members.remove(index).value;
                members.retain(|member| !member.is(token));
                Ok(Some(value))
            }
            Self::Array(elements) => {
                work.charge(elements.len() - index)?;
                Ok(Some(elements.remove(index)))
            }
            Self::Text(_) => Ok(None),
        }
    }

    /// Why nothing is at `token` in this node, which itself is at `path`.
    pub fn lacks(&self, path: &[Token], token: &Token) -> String {
        let path: String = path.iter().map(Token::to_string).collect();
        let path: String = path.chars().take(100).collect();
        match self {
            Self::Object(_) => format!("found an object at \"{path}\" without `{}`, expected that member", brief(token)),
            Self::Array(elements) => {
                format!("found an array at \"{path}\" of {} without `{}`, expected an index of it", elements.len(), brief(token))
            }
            Self::Text(_) => format!("found {} at \"{path}\", expected an array or object with `{}`", self.noun(), brief(token)),
        }
    }

    pub fn print(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => out.extend_from_slice(text),
            Self::Array(elements) => {
                out.push(b'[');
                for (index, element) in elements.iter().enumerate() {
                    out.extend_from_slice(if index == 0 { b"" } else { b"," });
                    element.print(out);
                }
                out.push(b']');
            }
            Self::Object(members) => {
                out.push(b'{');
                for (index, member) in members.iter().enumerate() {
                    out.extend_from_slice(if index == 0 { b"\"" } else { b",\"" });
                    out.extend_from_slice(&member.name);
                    out.extend_from_slice(b"\":");
                    member.value.print(out);
                }
                out.push(b'}');
            }
        }
    }

    /// How long it prints.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Array(elements) => 2 + elements.len().saturating_sub(1) + elements.iter().map(Self::bytes).sum::<usize>(),
            Self::Object(members) => {
                let inner: usize = members.iter().map(|member| 3 + member.name.len() + member.value.bytes()).sum();
                2 + members.len().saturating_sub(1) + inner
            }
        }
    }

    /// The most arrays and objects within each other.
    pub fn depth(&self) -> usize {
        match self {
            Self::Text(text) => walk::depth(text),
            Self::Array(elements) => 1 + elements.iter().map(Self::depth).max().unwrap_or(0),
            Self::Object(members) => 1 + members.iter().map(|member| member.value.depth()).max().unwrap_or(0),
        }
    }

    /// Whether both mean the same value (RFC 6902 4.6): numbers by what they are, strings by their characters, objects
    /// whatever the order of their members.
    pub fn equals(&self, other: &Self) -> bool {
        if let (Self::Text(a), Self::Text(b)) = (self, other)
            && a == b
        {
            return true;
        }
        match (&*self.expanded(), &*other.expanded()) {
            (Self::Text(a), Self::Text(b)) => scalars_equal(a, b),
            (Self::Array(a), Self::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.equals(b)),
            (Self::Object(a), Self::Object(b)) => {
                let (a, b) = (by_name(a), by_name(b));
                a.len() == b.len() && a.iter().zip(&b).all(|((a_name, a), (b_name, b))| a_name == b_name && a.equals(b))
            }
            _ => false,
        }
    }

    /// Where the child that `token` means stands.
    fn position(&self, token: &Token, work: &mut Work) -> Result<Option<usize>, Exhausted> {
        Ok(match self {
            Self::Object(members) => {
                let found = members.iter().rposition(|member| member.is(token));
                work.charge(MEMBER_STEPS * (members.len() - found.unwrap_or(0)))?;
                found
            }
            Self::Array(elements) => token.index().filter(|&index| index < elements.len()),
            Self::Text(_) => None,
        })
    }

    /// Makes nodes of the next level, where it is an array or object.
    pub fn expand(&mut self, work: &mut Work) -> Result<(), Exhausted> {
        if let Self::Text(text) = self {
            work.charge(text.len())?;
            if let Some(expanded) = expand_text(text) {
                *self = expanded;
                work.charge(NODE_STEPS * self.children_count())?;
            }
        }
        Ok(())
    }

    fn children_count(&self) -> usize {
        match self {
            Self::Text(_) => 0,
            Self::Array(elements) => elements.len(),
            Self::Object(members) => members.len(),
        }
    }

    fn expanded(&self) -> Cow<'_, Self> {
        match self {
            Self::Text(text) => expand_text(text).map_or(Cow::Borrowed(self), Cow::Owned),
            _ => Cow::Borrowed(self),
        }
    }

    fn takes_no_parts(&self, token: &Token) -> String {
        format!("found {} to put `{}` into, expected an array or object", self.noun(), brief(token))
    }

    fn noun(&self) -> &'static str {
        match self {
            Self::Text(text) => walk::noun(text),
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

fn expand_text<'a>(text: &'a [u8]) -> Option<Node<'a>> {
    // Saves most of the moves while the list grows.
    const CHILD_BYTES: usize = 24;
    let children_expected = (text.len() / CHILD_BYTES).min(CHILDREN_EXPECTED_MAX);
    match text.first()? {
        b'[' => {
            let mut elements = Vec::with_capacity(children_expected);
            elements.extend(walk::elements(text).map(|(_, value)| Node::Text(value)));
            Some(Node::Array(elements))
        }
        b'{' => {
            let member = |member: walk::Member<'a>| Member { name: Cow::Borrowed(member.name.content()), value: Node::Text(member.value) };
            let mut members = Vec::with_capacity(children_expected);
            members.extend(walk::members(text).map(member));
            Some(Node::Object(members))
        }
        _ => None,
    }
}

fn beyond(elements_count: usize, token: &Token) -> String {
    format!("found `{}` for an array, expected an index of at most {elements_count} or '-'", brief(token))
}

fn scalars_equal(a: &[u8], b: &[u8]) -> bool {
    match (walk::string(a), walk::string(b)) {
        (Some(a), Some(b)) => a.decode() == b.decode(),
        (None, None) => match (Decimal::parse(a), Decimal::parse(b)) {
            (Some(a), Some(b)) => a == b,
            _ => a == b,
        },
        _ => false,
    }
}

/// The members that count, the last of each name, in the order of their names.
fn by_name<'n, 'a>(members: &'n [Member<'a>]) -> Vec<(Cow<'n, [u8]>, &'n Node<'a>)> {
    let mut sorted: Vec<_> = members.iter().rev().map(|member| (Text::new(&member.name).decode(), &member.value)).collect();
    sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
    sorted.dedup_by(|(later, _), (kept, _)| later == kept);
    sorted
}

/// The name as JSON writes it between quotation marks.
fn written(name: &str) -> Vec<u8> {
    let mut text = Vec::with_capacity(name.len() + 2);
    scalar::append_json(ValueType::String, name.as_bytes(), &mut text);
    text.pop();
    text.remove(0);
    text
}

/// A name short enough to be quoted in an error.
fn brief(token: &Token) -> String {
    const CHARS_MAX: usize = 40;
    match token.name().char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &token.name()[..end]),
        None => token.name().into(),
    }
}
