//! A bound on the work that one task may cost, counted in steps.
//!
//! A step is about what it takes to look at one byte of text or to pass over one member of an object. Whoever loops over
//! what a client wrote charges before the loop, so that the cost of a task is bounded however its parts multiply.

use std::fmt;

#[derive(Clone, Debug)]
pub struct Work {
    max: usize,
    left: usize,
    is_exhausted: bool,
}

impl Work {
    pub fn new(steps_max: usize) -> Self {
        Self { max: steps_max, left: steps_max, is_exhausted: false }
    }

    /// Takes `steps` off what is left; fails, now and ever after, where that is less.
    #[inline]
    pub fn charge(&mut self, steps: usize) -> Result<(), Exhausted> {
        match self.left.checked_sub(steps) {
            Some(left) if !self.is_exhausted => {
                self.left = left;
                Ok(())
            }
            _ => {
                self.is_exhausted = true;
                Err(Exhausted { max: self.max })
            }
        }
    }

    /// Whether a charge has failed.
    pub fn is_exhausted(&self) -> bool {
        self.is_exhausted
    }
}

/// A task needs more than its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted {
    max: usize,
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "found more than {} steps of work, expected at most that many", self.max)
    }
}

impl std::error::Error for Exhausted {}

impl From<Exhausted> for String {
    fn from(exhausted: Exhausted) -> Self {
        exhausted.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_step_is_taken_and_one_more_is_the_end() {
        let mut work = Work::new(3);
        assert_eq!((work.charge(1), work.charge(2), work.left), (Ok(()), Ok(()), 0));
        assert!(work.charge(0).is_ok() && !work.is_exhausted());
        assert!(work.charge(1).unwrap_err().to_string().contains("more than 3 steps"));
        assert!(work.charge(0).is_err() && work.is_exhausted());
    }
}
