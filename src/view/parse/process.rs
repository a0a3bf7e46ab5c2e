//! `process { … }`: statements, and the forms of the values that they set.
//!
//! A branch of an `if` is a block in braces, or operations with `;` between them as far as they go: then what follows
//! belongs to the branch up to the next `elseif` or `else`, or the end of the block. As it would be easy to misread, an
//! `if` in such operations is refused: braces around the branch say whether it stands in it or behind it.

use super::{Parser, token};
use crate::topic::syntax::{Cursor, Quoted, SyntaxError};
use crate::view::definition::{Block, Branch, Format, FormatKind, Rounding, Statement, ValueSource};

const STATEMENT: &str = "`set(…)`, `remove(…)`, `continue` or `if`";
const OPERATION: &str = "`set(…)`, `remove(…)`, `continue` or '{'";
/// The most digits that a decimal has behind its point.
const SCALE_MAX: u32 = rust_decimal::Decimal::MAX_SCALE;

impl Parser<'_> {
    /// Statements in braces; `depth_left` says how much deeper blocks may go, with this one.
    pub fn block(&mut self, cursor: &mut Cursor<'_>, depth_left: usize) -> Result<Block, SyntaxError> {
        let before = cursor.clone();
        token::expect_symbol(cursor, '{')?;
        let depth_left = token::deeper(&before, depth_left, "a block")?;
        let mut statements = Vec::new();
        while cursor.take_symbol('}').is_none() {
            statements.push(self.statement(cursor, depth_left)?);
            if cursor.take_symbol(';').is_none() && !cursor.rest().starts_with('}') {
                return Err(cursor.error("';' or '}'"));
            }
        }
        Ok(statements.into())
    }

    fn statement(&mut self, cursor: &mut Cursor<'_>, depth_left: usize) -> Result<Statement, SyntaxError> {
        if !cursor.is_keyword("if") {
            return self.operation(cursor, STATEMENT);
        }
        self.count_statement(cursor)?;
        cursor.take_word();
        let mut branches = Vec::new();
        loop {
            let condition = self.condition(cursor)?;
            let block = self.branch(cursor, depth_left)?;
            branches.push(Branch { condition, block });
            if cursor.take_keyword("elseif").is_some() {
                continue;
            }
            let otherwise = match cursor.take_keyword("else") {
                Some(()) => Some(self.branch(cursor, depth_left)?),
                None => None,
            };
            return Ok(Statement::If { branches: branches.into(), otherwise });
        }
    }

    fn branch(&mut self, cursor: &mut Cursor<'_>, depth_left: usize) -> Result<Block, SyntaxError> {
        if cursor.rest().starts_with('{') {
            return self.block(cursor, depth_left);
        }
        let mut operations = Vec::new();
        loop {
            if cursor.is_keyword("if") {
                return Err(cursor.error("`elseif`, or braces around the operations before or behind it"));
            }
            operations.push(self.operation(cursor, OPERATION)?);
            let ends = |cursor: &Cursor<'_>| ["elseif", "else"].iter().any(|keyword| cursor.is_keyword(keyword));
            if cursor.take_symbol(';').is_none() || cursor.rest().starts_with('}') || ends(cursor) {
                return Ok(operations.into());
            }
        }
    }

    fn operation(&mut self, cursor: &mut Cursor<'_>, expected: &str) -> Result<Statement, SyntaxError> {
        self.count_statement(cursor)?;
        if cursor.take_keyword("continue").is_some() {
            return Ok(Statement::Continue);
        }
        if cursor.take_keyword("remove").is_some() {
            token::expect_symbol(cursor, '(')?;
            let target = token::argument(cursor)?;
            token::expect_symbol(cursor, ')')?;
            return Ok(Statement::Remove(target));
        }
        cursor.take_keyword("set").ok_or_else(|| cursor.error(expected))?;
        token::expect_symbol(cursor, '(')?;
        let target = token::argument(cursor)?;
        if cursor.take_symbol(')').is_some() {
            let source = ValueSource::Pointer { pointer: target.clone(), format: None };
            return Ok(Statement::Set { target, source });
        }
        cursor.take_symbol(',').ok_or_else(|| cursor.error("',' or ')'"))?;
        let source = self.source(cursor)?;
        token::expect_symbol(cursor, ')')?;
        Ok(Statement::Set { target, source })
    }

    fn count_statement(&mut self, cursor: &Cursor<'_>) -> Result<(), SyntaxError> {
        self.statements += 1;
        if self.statements > self.limits.statements_max {
            return Err(cursor.error(&format!("at most {} statements", self.limits.statements_max)));
        }
        Ok(())
    }

    fn source(&mut self, cursor: &mut Cursor<'_>) -> Result<ValueSource, SyntaxError> {
        if cursor.take_keyword("empty_object").is_some() {
            return Ok(ValueSource::Constant(b"{}"[..].into()));
        }
        if cursor.take_keyword("empty_array").is_some() {
            return Ok(ValueSource::Constant(b"[]"[..].into()));
        }
        if cursor.take_keyword("calc").is_some() {
            let calculation = self.calculation(cursor)?;
            return Ok(ValueSource::Calculation { calculation, format: format(cursor)? });
        }
        if token::is_argument_empty(cursor) {
            return Ok(ValueSource::Pointer { pointer: token::whole_value(), format: None });
        }
        if token::is_pointer(cursor) {
            let pointer = token::plain_pointer(cursor, &token::ARGUMENT_ENDS)?;
            return Ok(ValueSource::Pointer { pointer, format: format(cursor)? });
        }
        match token::constant(cursor, self.limits.json)? {
            Some(json) => Ok(ValueSource::Constant(json)),
            None => Err(cursor.error("a JSON pointer, a constant, `empty_object`, `empty_array` or `calc`")),
        }
    }
}

/// `format '…'` or `f'…'`, if it stands next.
fn format(cursor: &mut Cursor<'_>) -> Result<Option<Format>, SyntaxError> {
    const FORMAT: &str = "a format in quotation marks";
    let has_format = cursor.take_keyword("format").is_some() || cursor.take_keyword("f").is_some();
    if !has_format {
        return Ok(None);
    }
    let quoted = cursor.expect_quoted(FORMAT)?;
    settings(quoted).map(Some).map_err(|error| token::locate(quoted, error))
}

const KINDS: [(&str, FormatKind); 2] = [("number", FormatKind::Number), ("string", FormatKind::String)];

const ROUNDINGS: [(&str, Rounding); 8] = [
    ("up", Rounding::Up),
    ("down", Rounding::Down),
    ("ceiling", Rounding::Ceiling),
    ("floor", Rounding::Floor),
    ("half_up", Rounding::HalfUp),
    ("half_down", Rounding::HalfDown),
    ("half_even", Rounding::HalfEven),
    ("unnecessary", Rounding::Unnecessary),
];

/// What a format says, each setting at most once. Its default is a number, rounded half up.
fn settings(quoted: Quoted<'_>) -> Result<Format, SyntaxError> {
    let content = quoted.content();
    let mut cursor = Cursor::new(&content);
    let (mut kind, mut scale, mut rounding) = (None, None, None);
    loop {
        let before = cursor.clone();
        let key = cursor.take_word().to_ascii_lowercase();
        let is_known = matches!(&*key, "type" | "scale" | "round");
        if !is_known {
            return Err(before.error("`type=…`, `scale=…` or `round=…`"));
        }
        token::expect_symbol(&mut cursor, '=')?;
        let again = match &*key {
            "type" => kind.replace(choice(&mut cursor, &KINDS)?).is_some(),
            "scale" => scale.replace(digits(&mut cursor)?).is_some(),
            _ => rounding.replace(choice(&mut cursor, &ROUNDINGS)?).is_some(),
        };
        if again {
            return token::refuse(before.position(), format!("`{key}` again"), "each setting of a format at most once");
        }
        if cursor.take_symbol(',').is_none() {
            break;
        }
    }
    cursor.expect_end("',' or the end of the format")?;
    Ok(Format { kind: kind.unwrap_or(FormatKind::Number), scale, rounding: rounding.unwrap_or(Rounding::HalfUp) })
}

fn choice<T: Copy>(cursor: &mut Cursor<'_>, choices: &[(&str, T)]) -> Result<T, SyntaxError> {
    let chosen = choices.iter().find(|(word, _)| cursor.is_keyword(word));
    let Some((_, value)) = chosen else {
        let words: Vec<_> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
        return Err(cursor.error(&format!("one of {}", words.join(", "))));
    };
    cursor.take_word();
    Ok(*value)
}

fn digits(cursor: &mut Cursor<'_>) -> Result<u32, SyntaxError> {
    let expected = format!("a number of digits from 0 to {SCALE_MAX}");
    let before = cursor.clone();
    let number = cursor.expect_number(&expected)?;
    u32::try_from(number).ok().filter(|scale| *scale <= SCALE_MAX).ok_or_else(|| before.error(&expected))
}
