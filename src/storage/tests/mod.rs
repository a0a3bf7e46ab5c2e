//! Storage on real files: what is kept, through crashes and failures.

mod crashes;
mod endings;
mod faulty;
pub mod files;
mod folding;
mod logs;
mod sample;
mod snapshots;
