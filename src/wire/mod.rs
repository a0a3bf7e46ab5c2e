//! Bytes ↔ packets; no state beyond an unfinished frame.
