//! How fast sessions begin: where very many clients come at once, those whose sessions stand go on at once, and the others are told when to come.
//!
//! A session that begins takes its place on a line of times, so many a second; there may be a second's worth of them ahead. Whoever finds more there is
//! told a place behind it, and comes back then: so those who were put off come as evenly as they can be served, and each a little later than told, by chance.

use crate::base::Time;

/// What may begin at once when nothing has begun for a while, as a time on the line.
const AHEAD_NS: u64 = 1_000_000_000;

/// The longest that anybody is put off. Who comes back then may be put off again.
const WAIT_MS_MAX: u64 = 30_000;

/// See the module.
#[derive(Default)]
pub struct Admission {
    /// Where on the line the next session stands, and the last that was told when to come.
    next: Time,
    told: Time,
}

impl Admission {
    /// A session goes on: it is never put off, and those that begin wait behind it.
    pub fn note_resumed(&mut self, now: Time, per_s: u64) {
        if per_s > 0 {
            let end = now.after_ms(WAIT_MS_MAX);
            self.next = Time((self.next.max(now).0 + step(per_s)).min(end.0));
        }
    }

    /// A session is to begin. Else: in how many milliseconds its client should come, of which `draw` gives a number below another one by chance.
    pub fn admit(&mut self, now: Time, per_s: u64, draw: impl FnOnce(u64) -> u64) -> Result<(), u64> {
        if per_s == 0 {
            return Ok(());
        }
        let next = self.next.max(now);
        if next.since(now) < AHEAD_NS {
            self.next = Time(next.0 + step(per_s));
            return Ok(());
        }
        let place = Time(self.told.max(next).0 + step(per_s));
        let wait_ms = place.since(now).div_ceil(1_000_000);
        if wait_ms > WAIT_MS_MAX {
            return Err(WAIT_MS_MAX / 2 + draw(WAIT_MS_MAX / 2));
        }
        self.told = place;
        Err(wait_ms + draw(wait_ms / 4 + 1))
    }
}

/// A session's share of the line, in nanoseconds.
fn step(per_s: u64) -> u64 {
    (1_000_000_000 / per_s).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_seconds_worth_begins_at_once_and_others_come_evenly() {
        let mut admission = Admission::default();
        let (mut now, mut waits) = (Time(5 * SECOND), Vec::new());
        for _ in 0..5000 {
            if let Err(wait_ms) = admission.admit(now, 1000, |_| 0) {
                waits.push(wait_ms);
            }
        }
        assert_eq!(waits.len(), 4000);
        assert!(waits.is_sorted() && waits[0] >= 1000 && *waits.last().unwrap() <= 5002, "{waits:?}");
        // All who come as they were told begin.
        for wait_ms in waits {
            now = Time(5 * SECOND).after_ms(wait_ms);
            assert_eq!(admission.admit(now, 1000, |_| 0), Ok(()), "{wait_ms}");
        }
    }

    #[test]
    fn those_who_go_on_come_first() {
        let (mut admission, now) = (Admission::default(), Time(5 * SECOND));
        (0..3000).for_each(|_| admission.note_resumed(now, 1000));
        let wait_ms = admission.admit(now, 1000, |_| 0).unwrap_err();
        assert!((3000..3010).contains(&wait_ms), "{wait_ms}");
        assert_eq!(admission.admit(now.after_ms(2001), 1000, |_| 0), Ok(()));
    }

    #[test]
    fn nobody_is_put_off_for_long_and_without_a_pace_nobody_is() {
        let (mut admission, now) = (Admission::default(), Time(SECOND));
        let waits: Vec<u64> = (0..1000).filter_map(|number| admission.admit(now, 10, |below| number % below).err()).collect();
        assert!(waits.iter().all(|wait_ms| (1000..=WAIT_MS_MAX * 5 / 4).contains(wait_ms)), "{waits:?}");
        assert!((0..100_000).all(|_| admission.admit(now, 0, |_| 0).is_ok()));
    }
}
