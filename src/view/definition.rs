//! A topic view as parsed: what it maps, where to, and what happens to values on the way.

use crate::topic::selector::Selector;
use crate::topic::specification::TopicType;
use crate::value::patch::Patch;
use crate::value::pointer::Pointer;
use regex::Regex;
use rust_decimal::Decimal;

/// A whole view. Transformations apply in their order, then `value`, then `topic_type`.
#[derive(Clone, Debug)]
pub struct Definition {
    pub selector: Selector,
    /// The remote server that has the source topics; such a view is dormant without it.
    pub remote: Option<Box<str>>,
    pub path: PathTemplate,
    pub transformations: Box<[Transformation]>,
    /// `as <value(…)>`: the part that is published.
    pub value: Option<Pointer>,
    pub throttle: Option<Throttle>,
    pub delay_ms: Option<u64>,
    /// `type …`: what reference topics are.
    pub topic_type: Option<TopicType>,
    /// `with properties`, in the order written, keys in upper case.
    pub properties: Box<[(Box<str>, Box<str>)]>,
    /// Whether reference topics whose path no longer follows from the value stay until their source goes.
    pub preserves_topics: bool,
    /// What stands in for `/` in scalars and in the names of expanded elements.
    pub separator: Option<Box<str>>,
}

/// At most so many updates in each period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttle {
    pub updates: u32,
    pub period_ms: u64,
}

/// Text and directives that together make a path. Text holds the `/` between segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    pub parts: Box<[PathPart]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPart {
    Text(Box<str>),
    /// Segments of the source path from the 0-based `start` on; to its end without a count.
    Path {
        start: usize,
        count: Option<usize>,
    },
    /// A scalar in the source's value; with a level, in the value of the source's ancestor of `level + 1` segments.
    Scalar {
        pointer: Pointer,
        level: Option<usize>,
    },
    /// One reference topic for each child of what `source` points to, named by what `name` points to inside the child, else by key or index.
    Expand {
        source: Pointer,
        name: Option<Pointer>,
    },
}

#[derive(Clone, Debug)]
pub enum Transformation {
    Process(Block),
    Patch(Patch),
    Insert(Box<Insert>),
}

/// Puts the value of another topic, or a part of it, into the current value.
#[derive(Clone, Debug)]
pub struct Insert {
    /// Without `expand`.
    pub path: PathTemplate,
    pub key: Option<Pointer>,
    pub at: Pointer,
    /// Compact JSON.
    pub default: Option<Box<[u8]>>,
}

/// Statements of a process, in order. All read the process's input and write its output, which starts as a copy.
pub type Block = Box<[Statement]>;

#[derive(Clone, Debug)]
pub enum Statement {
    Set {
        target: Pointer,
        source: ValueSource,
    },
    Remove(Pointer),
    /// Changes nothing.
    Continue,
    /// The first branch whose condition holds. Where none holds and there is no `else`, the view makes no reference topic.
    If {
        branches: Box<[Branch]>,
        otherwise: Option<Block>,
    },
}

#[derive(Clone, Debug)]
pub struct Branch {
    pub condition: Condition,
    pub block: Block,
}

#[derive(Clone, Debug)]
pub enum ValueSource {
    /// Compact JSON; also `empty_object` and `empty_array`.
    Constant(Box<[u8]>),
    Pointer {
        pointer: Pointer,
        format: Option<Format>,
    },
    Calculation {
        calculation: Calculation,
        format: Option<Format>,
    },
}

#[derive(Clone, Debug)]
pub enum Condition {
    All(Box<[Condition]>),
    Any(Box<[Condition]>),
    Not(Box<Condition>),
    Compare {
        left: Pointer,
        operator: Comparison,
        right: Operand,
    },
    /// The regex matches all of the value's string form.
    Matches {
        left: Pointer,
        regex: Regex,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

#[derive(Clone, Debug)]
pub enum Operand {
    /// A scalar as compact JSON.
    Constant(Box<[u8]>),
    Pointer(Pointer),
}

#[derive(Clone, Debug)]
pub enum Calculation {
    Number(Decimal),
    Pointer(Pointer),
    Negate(Box<Calculation>),
    Operation { operator: Operator, operands: Box<[Calculation; 2]> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
}

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    pub kind: FormatKind,
    /// Digits behind the point.
    pub scale: Option<u32>,
    pub rounding: Rounding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatKind {
    Number,
    String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Away from zero.
    Up,
    /// Towards zero.
    Down,
    Ceiling,
    Floor,
    HalfUp,
    HalfDown,
    HalfEven,
    /// No digits may be lost.
    Unnecessary,
}

impl PathTemplate {
    /// Whether it depends on nothing but the source's path.
    pub fn is_of_path(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, PathPart::Text(_) | PathPart::Path { .. }))
    }
}

impl Definition {
    /// Whether reference topics have their source's value as it is.
    pub fn passes_values(&self) -> bool {
        let is_expanded = self.path.parts.iter().any(|part| matches!(part, PathPart::Expand { .. }));
        !is_expanded && self.transformations.is_empty() && self.value.is_none() && self.topic_type.is_none()
    }
}
