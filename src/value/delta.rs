//! Deltas: the next value from the one before, in fewer bytes.
