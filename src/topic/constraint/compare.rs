//! The lenient operators: a value beside a string, number, boolean or null.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::value::json::walk;
use crate::value::number::Decimal;
use crate::value::{ValueType, scalar};

#[derive(Clone, Debug)]
pub struct Comparison {
    pub operator: Operator,
    pub operand: Operand,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Eq,
    Ne,
    Gt,
    Ge,
    Lt,
    Le,
}

/// What the operators of order have beside them is always a number.
#[derive(Clone, Debug)]
pub enum Operand {
    Null,
    /// The characters of a string, or of `true` or `false`.
    Text(Box<[u8]>),
    /// A number as JSON writes it.
    Number(Box<[u8]>),
}

/// A value as the operators see it.
#[derive(Clone, Debug)]
pub enum Form<'a> {
    Null,
    /// The characters of a string, or of `true` or `false`.
    Text(Cow<'a, [u8]>),
    /// The characters that a STRING topic holds: the digits of a number in them may begin with zeros.
    Plain(&'a [u8]),
    /// A number as JSON writes it.
    Number(Cow<'a, [u8]>),
    /// Nothing that can be compared.
    Other,
}

impl Operator {
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"eq" => Self::Eq,
            b"ne" => Self::Ne,
            b"gt" => Self::Gt,
            b"ge" => Self::Ge,
            b"lt" => Self::Lt,
            b"le" => Self::Le,
            _ => return None,
        })
    }

    fn accepts(self, ordering: Ordering) -> bool {
        match self {
            Self::Eq => ordering.is_eq(),
            Self::Ne => ordering.is_ne(),
            Self::Gt => ordering.is_gt(),
            Self::Ge => ordering.is_ge(),
            Self::Lt => ordering.is_lt(),
            Self::Le => ordering.is_le(),
        }
    }
}

impl Comparison {
    pub fn holds(&self, form: &Form<'_>) -> bool {
        match &self.operand {
            Operand::Null => self.is_equality_of(matches!(form, Form::Null)),
            Operand::Text(wanted) => match form {
                Form::Text(text) | Form::Number(text) => self.is_equality_of(**text == **wanted),
                Form::Plain(text) => self.is_equality_of(**text == **wanted),
                Form::Null | Form::Other => false,
            },
            Operand::Number(wanted) => match (form.number(), Decimal::parse(wanted)) {
                (Some(number), Some(wanted)) => self.operator.accepts(number.cmp(&wanted)),
                _ => false,
            },
        }
    }

    /// Whether it is plain that no value passes both.
    pub fn excludes(&self, other: &Self) -> bool {
        self.pins_against(other) || other.pins_against(self) || self.is_bound_beyond(other) || other.is_bound_beyond(self)
    }

    fn is_equality_of(&self, is_equal: bool) -> bool {
        match self.operator {
            Operator::Eq => is_equal,
            Operator::Ne => !is_equal,
            Operator::Gt | Operator::Ge | Operator::Lt | Operator::Le => false,
        }
    }

    /// Whether it asks for equality with what does not pass `other`.
    fn pins_against(&self, other: &Self) -> bool {
        let pinned = match (&self.operand, &other.operand) {
            _ if self.operator != Operator::Eq => return false,
            // A number may be written in many ways, so what its string form is not can be said of none.
            (Operand::Number(_), Operand::Text(_)) => return false,
            (Operand::Null, _) => Form::Null,
            // What passes as a string of JSON passes as a STRING topic's.
            (Operand::Text(text), _) => Form::Plain(text),
            (Operand::Number(text), _) => Form::Number(Cow::Borrowed(text)),
        };
        !other.holds(&pinned)
    }

    /// Whether it is a lower bound that is above the upper bound `other`.
    fn is_bound_beyond(&self, other: &Self) -> bool {
        let is_closed = match (self.operator, other.operator) {
            (Operator::Ge, Operator::Le) => true,
            (Operator::Gt | Operator::Ge, Operator::Lt | Operator::Le) => false,
            _ => return false,
        };
        match (self.operand.number(), other.operand.number()) {
            (Some(lower), Some(upper)) => lower > upper || lower == upper && !is_closed,
            _ => false,
        }
    }
}

impl Operand {
    fn number(&self) -> Option<Decimal<'_>> {
        match self {
            Self::Number(text) => Decimal::parse(text),
            Self::Null | Self::Text(_) => None,
        }
    }
}

impl<'a> Form<'a> {
    pub fn of_value(kind: ValueType, bytes: &'a [u8]) -> Self {
        match kind {
            ValueType::Json => Self::of_json(bytes),
            ValueType::String => Self::Plain(bytes),
            ValueType::Int64 | ValueType::Double if bytes.len() == 8 => {
                let mut text = Vec::with_capacity(24);
                scalar::append_json(kind, bytes, &mut text);
                match walk::string(&text) {
                    // The name of a DOUBLE that JSON has no number for.
                    Some(name) => Self::Text(Cow::Owned(name.content().to_vec())),
                    None => Self::Number(Cow::Owned(text)),
                }
            }
            _ => Self::Other,
        }
    }

    pub fn of_json(text: &'a [u8]) -> Self {
        match text.first() {
            Some(b'"') => walk::string(text).map_or(Self::Other, |string| Self::Text(string.decode())),
            Some(b't' | b'f') => Self::Text(Cow::Borrowed(text)),
            Some(b'n') => Self::Null,
            Some(b'-' | b'0'..=b'9') => Self::Number(Cow::Borrowed(text)),
            _ => Self::Other,
        }
    }

    fn number(&self) -> Option<Decimal<'_>> {
        match self {
            Self::Number(text) | Self::Text(text) => Decimal::parse(text),
            Self::Plain(text) => Decimal::parse_with_zeros(text),
            Self::Null | Self::Other => None,
        }
    }
}
