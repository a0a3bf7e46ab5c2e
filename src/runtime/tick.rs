//! When a shard ticks, and what covers for an executor that sleeps over tasks that could run.
//!
//! glommio's run loop sleeps where nothing can run, and also where it was preempted before anything ran: a thread that is off its core for the
//! length of the preempt timer, between setting that timer and asking for it, finds itself preempted at once and goes to sleep over a filled
//! queue. The kernel loses no wake; any later event of the executor ends such a sleep. So later events are made: a tick has timers behind the one
//! that is due, of which the next rings only where the first was slept over, and while there is traffic a timer rings every few milliseconds, so that
//! what sockets and other shards have woken does not wait for the tick. The release of glommio whose loop goes on while a queue is filled needs none of this.

use glommio::timer::Timer;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

pub const TICK: Duration = Duration::from_millis(100);

/// How long after a tick is due the timers ring that count where those before them were slept over.
const LATER_MS: [u64; 4] = [2, 6, 14, 30];

/// How long what has been woken may be slept over while there is traffic.
const ROUSE: Duration = Duration::from_millis(5);

/// Waits until the next tick is due.
pub async fn wait(has_traffic: bool) {
    let mut due: Vec<Timer> = LATER_MS.iter().map(|ms| Timer::new(TICK + Duration::from_millis(*ms))).collect();
    due.push(Timer::new(TICK));
    let rouses = if has_traffic { (TICK.as_micros() / ROUSE.as_micros()) as u32 } else { 0 };
    let mut rousing: Vec<Timer> = (1..rouses).map(|count| Timer::new(ROUSE * count)).collect();
    poll_fn(|context| {
        // Each is looked at, since that is what sets it.
        rousing.retain_mut(|timer| !is_over(timer, context));
        let over = due.iter_mut().filter_map(|timer| is_over(timer, context).then_some(())).count();
        if over > 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

fn is_over(timer: &mut Timer, context: &mut Context<'_>) -> bool {
    Pin::new(timer).poll(context).is_ready()
}
