//! The conditions of `if`: comparisons of what pointers point to, joined by `and`, `or`, `not` and parentheses.
//!
//! A pointer ends at white space or at one of `= ! < > & | ( )`; in quotation marks, one on the left may hold anything. On
//! the right of an operator, quotation marks make a text.

use regex::Regex;

use super::{Parser, token};
use crate::topic::syntax::{Cursor, SyntaxError, check_length};
use crate::value::pointer::Pointer;
use crate::view::definition::{Comparison, Condition, Operand};

/// What ends a pointer without quotation marks in a condition.
const POINTER_ENDS: [char; 8] = ['=', '!', '<', '>', '&', '|', '(', ')'];

enum Operator {
    Compare(Comparison),
    Matches,
}

/// A sign stands before another that it starts with.
const SIGNS: [(&str, Operator); 7] = [
    ("=~", Operator::Matches),
    ("=", Operator::Compare(Comparison::Equal)),
    ("!=", Operator::Compare(Comparison::NotEqual)),
    (">=", Operator::Compare(Comparison::GreaterOrEqual)),
    (">", Operator::Compare(Comparison::Greater)),
    ("<=", Operator::Compare(Comparison::LessOrEqual)),
    ("<", Operator::Compare(Comparison::Less)),
];

const WORDS: [(&str, Operator); 7] = [
    ("matches", Operator::Matches),
    ("eq", Operator::Compare(Comparison::Equal)),
    ("ne", Operator::Compare(Comparison::NotEqual)),
    ("ge", Operator::Compare(Comparison::GreaterOrEqual)),
    ("gt", Operator::Compare(Comparison::Greater)),
    ("le", Operator::Compare(Comparison::LessOrEqual)),
    ("lt", Operator::Compare(Comparison::Less)),
];

impl Parser<'_> {
    /// A condition in quotation marks.
    pub fn condition(&mut self, cursor: &mut Cursor<'_>) -> Result<Condition, SyntaxError> {
        let quoted = cursor.expect_quoted("a condition in quotation marks")?;
        let content = quoted.content();
        let mut cursor = Cursor::new(&content);
        let mut comparisons = 0;
        self.any(&mut cursor, self.limits.depth_max, &mut comparisons)
            .and_then(|condition| cursor.expect_end("`and`, `or` or the end of the condition").map(|()| condition))
            .map_err(|error| token::locate(quoted, error))
    }

    fn any(&mut self, cursor: &mut Cursor<'_>, depth_left: usize, comparisons: &mut usize) -> Result<Condition, SyntaxError> {
        let mut members = Vec::new();
        loop {
            match self.all(cursor, depth_left, comparisons)? {
                Condition::Any(inner) => members.extend(inner),
                member => members.push(member),
            }
            if cursor.take_keyword("or").or_else(|| cursor.take_symbol('|')).is_none() {
                return Ok(join(members, Condition::Any));
            }
        }
    }

    fn all(&mut self, cursor: &mut Cursor<'_>, depth_left: usize, comparisons: &mut usize) -> Result<Condition, SyntaxError> {
        let mut members = Vec::new();
        loop {
            match self.operand(cursor, depth_left, comparisons)? {
                Condition::All(inner) => members.extend(inner),
                member => members.push(member),
            }
            if cursor.take_keyword("and").or_else(|| cursor.take_symbol('&')).is_none() {
                return Ok(join(members, Condition::All));
            }
        }
    }

    fn operand(&mut self, cursor: &mut Cursor<'_>, depth_left: usize, comparisons: &mut usize) -> Result<Condition, SyntaxError> {
        let before = cursor.clone();
        if cursor.take_keyword("not").is_some() {
            let depth_left = token::deeper(&before, depth_left, "a condition")?;
            return Ok(Condition::Not(Box::new(self.operand(cursor, depth_left, comparisons)?)));
        }
        if cursor.take_symbol('(').is_some() {
            let depth_left = token::deeper(&before, depth_left, "a condition")?;
            let condition = self.any(cursor, depth_left, comparisons)?;
            cursor.take_symbol(')').ok_or_else(|| cursor.error("`and`, `or` or ')'"))?;
            return Ok(condition);
        }
        *comparisons += 1;
        if *comparisons > self.limits.operations_max {
            return Err(cursor.error(&format!("at most {} comparisons in a condition", self.limits.operations_max)));
        }
        if !token::is_pointer(cursor) && !cursor.is_quoted() {
            return Err(cursor.error("a JSON pointer, which starts with '/', `not` or '('"));
        }
        let left = token::pointer(cursor, &POINTER_ENDS)?;
        self.comparison(cursor, left)
    }

    fn comparison(&mut self, cursor: &mut Cursor<'_>, left: Pointer) -> Result<Condition, SyntaxError> {
        match take_operator(cursor)? {
            Operator::Compare(operator) => Ok(Condition::Compare { left, operator: *operator, right: right(cursor, *operator)? }),
            Operator::Matches => Ok(Condition::Matches { left, regex: self.regex(cursor)? }),
        }
    }

    fn regex(&mut self, cursor: &mut Cursor<'_>) -> Result<Regex, SyntaxError> {
        const REGEX: &str = "a regex (in quotation marks where it has white space or ')')";
        if cursor.is_quoted() {
            let quoted = cursor.expect_quoted(REGEX)?;
            return self.compile(&quoted.content(), "a regex").map_err(|error| token::locate(quoted, error));
        }
        let position = cursor.position();
        let text = token::take_until(cursor, &[')']);
        if text.is_empty() {
            return Err(cursor.error(REGEX));
        }
        self.compile(text, REGEX).map_err(|error| token::shift(error, position))
    }

    fn compile(&mut self, text: &str, expected: &str) -> Result<Regex, SyntaxError> {
        check_length(text, "a regex", self.limits.regex_text_bytes_max)?;
        match self.patterns.parse(text) {
            Ok(pattern) => Ok(pattern.into_regex()),
            Err(error) if error.expected == "a regex" => Err(SyntaxError { expected: expected.into(), ..error }),
            Err(error) => Err(error),
        }
    }
}

fn take_operator(cursor: &mut Cursor<'_>) -> Result<&'static Operator, SyntaxError> {
    if let Some((sign, operator)) = SIGNS.iter().find(|(sign, _)| cursor.rest().starts_with(sign)) {
        cursor.take(sign.len());
        return Ok(operator);
    }
    if let Some((_, operator)) = WORDS.iter().find(|(word, _)| cursor.is_keyword(word)) {
        cursor.take_word();
        return Ok(operator);
    }
    Err(cursor.error("one of `=`, `!=`, `>`, `<`, `>=`, `<=` or `=~`, or `eq`, `ne`, `gt`, `lt`, `ge`, `le` or `matches`"))
}

fn right(cursor: &mut Cursor<'_>, operator: Comparison) -> Result<Operand, SyntaxError> {
    if token::is_pointer(cursor) {
        return token::plain_pointer(cursor, &POINTER_ENDS).map(Operand::Pointer);
    }
    let before = cursor.clone();
    let is_order = !matches!(operator, Comparison::Equal | Comparison::NotEqual);
    match token::scalar(cursor)? {
        Some(json) if is_order && !json.starts_with(b"-") && !json[0].is_ascii_digit() => {
            Err(before.error("a number or a JSON pointer, as only numbers are greater or less"))
        }
        Some(json) => Ok(Operand::Constant(json)),
        None => Err(cursor.error("a JSON pointer, a number, `true`, `false`, `null`, or a text, which stands in quotation marks")),
    }
}

/// The only one of `members`, or all of them as a `list`. There is one at least.
fn join(mut members: Vec<Condition>, list: fn(Box<[Condition]>) -> Condition) -> Condition {
    if members.len() > 1 {
        return list(members.into());
    }
    members.pop().expect("a member was read before this")
}
