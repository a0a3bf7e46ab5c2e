//! Changes a JSON text within the limits.

use super::{EvaluationLimits, Stop};
use crate::value::json::walk;
use crate::value::pointer::Pointer;
use crate::value::tree::Node;
use crate::value::work::Work;

/// A text on its way through changes.
pub struct Edited<'t> {
    root: Node<'t>,
}

impl<'t> Edited<'t> {
    pub fn new(root: Node<'t>) -> Self {
        Self { root }
    }

    /// Afterwards `target` means `value`: in place of what was there, or new. What it is part of has to be there.
    pub fn set(&mut self, target: &Pointer, value: &'t [u8], limits: &EvaluationLimits, work: &mut Work) -> Result<(), Stop> {
        work.charge(value.len())?;
        let depth = target.tokens().len() + walk::depth(value);
        if depth > limits.depth_max {
            return Err(Stop::Failed(format!("found {depth} arrays and objects within each other, expected at most {}", limits.depth_max)));
        }
        match target.tokens().split_last() {
            Some((last, parents)) => self.root.descend(parents, work)?.set(last, Node::Text(value), work)?,
            None => self.root = Node::Text(value),
        }
        Ok(())
    }

    /// Takes out what `target` means, if there is anything.
    pub fn remove(&mut self, target: &Pointer, work: &mut Work) -> Result<(), Stop> {
        let Some((last, parents)) = target.tokens().split_last() else {
            return Err(Stop::Failed("found the whole value to be removed, expected a part of it".into()));
        };
        match self.root.descend(parents, work) {
            Ok(parent) => drop(parent.take(last, work)?),
            Err(message) if work.is_exhausted() => return Err(Stop::Failed(message)),
            Err(_) => {}
        }
        Ok(())
    }

    pub fn print(&self, limits: &EvaluationLimits, work: &mut Work) -> Result<Vec<u8>, Stop> {
        let bytes = self.root.bytes();
        if bytes > limits.value_bytes_max {
            return Err(Stop::Failed(format!("found a value of {bytes} bytes, expected at most {}", limits.value_bytes_max)));
        }
        work.charge(bytes)?;
        let mut out = Vec::with_capacity(bytes);
        self.root.print(&mut out);
        Ok(out)
    }
}
