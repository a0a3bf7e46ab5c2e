//! `process`: what its statements make of a value.
//!
//! All of them read the value as it came in. So what they write is collected first, and then applied in order.

use std::ops::Range;

use super::edit::Edited;
use super::source::Source;
use super::{EvaluationLimits, Stop, calculation, condition};
use crate::value::pointer::Pointer;
use crate::value::work::Work;
use crate::view::definition::{Block, Statement, ValueSource};

/// What one statement costs beyond what it reads and writes, in steps.
const STATEMENT_STEPS: usize = 16;

/// The value after `block`; `None` where it stays as it is. `computed` is memory to be used again.
pub fn apply(
    block: &Block,
    source: &[u8],
    limits: &EvaluationLimits,
    work: &mut Work,
    computed: &mut Vec<u8>,
) -> Result<Option<Vec<u8>>, Stop> {
    computed.clear();
    let mut process = Process { source: Source::new(source), work, computed, edits: Vec::new() };
    process.block(block)?;
    let Process { source, work, computed, edits } = process;
    if edits.is_empty() {
        return Ok(None);
    }
    let mut edited = Edited::new(source.into_root());
    for edit in edits {
        match edit {
            Edit::Set { target, value: Text::Slice(text) } => edited.set(target, text, limits, work)?,
            Edit::Set { target, value: Text::Computed(range) } => edited.set(target, &computed[range], limits, work)?,
            Edit::Remove(target) => edited.remove(target, work)?,
        }
    }
    edited.print(limits, work).map(Some)
}

struct Process<'t, 'w> {
    source: Source<'t>,
    work: &'w mut Work,
    computed: &'w mut Vec<u8>,
    edits: Vec<Edit<'t>>,
}

enum Edit<'t> {
    Set { target: &'t Pointer, value: Text<'t> },
    Remove(&'t Pointer),
}

/// Compact JSON.
enum Text<'t> {
    Slice(&'t [u8]),
    /// Of the computed texts.
    Computed(Range<usize>),
}

impl<'t> Process<'t, '_> {
    /// Calls itself for a block within, as deep as the parser takes them.
    fn block(&mut self, block: &'t Block) -> Result<(), Stop> {
        for statement in block {
            self.work.charge(STATEMENT_STEPS)?;
            match statement {
                Statement::Set { target, source } => {
                    let value = self.value(source)?;
                    self.edits.push(Edit::Set { target, value });
                }
                Statement::Remove(target) => self.edits.push(Edit::Remove(target)),
                Statement::Continue => {}
                Statement::If { branches, otherwise } => {
                    let mut chosen = otherwise.as_ref();
                    for branch in branches {
                        if condition::holds(&branch.condition, &mut self.source, self.work)? {
                            chosen = Some(&branch.block);
                            break;
                        }
                    }
                    self.block(chosen.ok_or(Stop::Filtered)?)?;
                }
            }
        }
        Ok(())
    }

    fn value(&mut self, source: &'t ValueSource) -> Result<Text<'t>, Stop> {
        let (number, format) = match source {
            ValueSource::Constant(text) => return Ok(Text::Slice(text)),
            ValueSource::Pointer { pointer, format } => {
                let found = self.source.find(pointer, self.work)?;
                let Some(text) = found else {
                    return Err(Stop::Failed(format!("found nothing at \"{}\", expected a value to set", pointer.brief())));
                };
                if format.is_none() {
                    return Ok(Text::Slice(text));
                }
                (calculation::number(text, pointer, self.work)?, format)
            }
            ValueSource::Calculation { calculation, format } => (calculation::evaluate(calculation, &mut self.source, self.work)?, format),
        };
        let start = self.computed.len();
        calculation::append(number, format.as_ref(), self.computed, self.work)?;
        Ok(Text::Computed(start..self.computed.len()))
    }
}
