//! Alarms: a task is woken at a time, whatever runtime it runs on.
//!
//! One thread for all alarms of the process. It starts with the first alarm and ends when there is none left
//! at the time of the last one it slept for, so a process whose store answers at once never has it, and one
//! whose store is slow starts it once in a timeout. Setting or dropping an alarm does not wake it, unless
//! the alarm is the first to ring: most are set for later than that and dropped before.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;
use std::time::Instant;

use crate::fork::Born;
use crate::sync::Monitor;

static CLOCK: AlarmClock = AlarmClock { alarms: Monitor::new(Alarms::none()) };

struct AlarmClock {
    /// Signalled where an alarm is to ring before the thread meant to wake.
    alarms: Monitor<Alarms>,
}

struct Alarms {
    set: BTreeMap<(Instant, u64), Waker>,
    count: u64,
    thread: Option<Sleeper>,
}

/// The thread that rings.
struct Sleeper {
    /// In the process that it belongs to: one that was forked from it has none.
    born: Born,
    until: Option<Instant>,
}

/// An alarm that is set. Dropping it takes it back.
#[derive(Debug)]
pub(super) struct Alarm {
    place: (Instant, u64),
}

impl Alarms {
    const fn none() -> Self {
        Self { set: BTreeMap::new(), count: 0, thread: None }
    }
}

impl Alarm {
    /// Has `waker` woken at `at`, or soon after.
    pub(super) fn set(at: Instant, waker: &Waker) -> io::Result<Self> {
        let mut alarms = CLOCK.alarms.lock();
        alarms.count += 1;
        let place = (at, alarms.count);
        if alarms.thread.as_ref().is_some_and(|thread| !thread.born.is_here()) {
            alarms.thread = None;
            // Those of a parent's tasks, which are not to be woken by us.
            std::mem::forget(std::mem::take(&mut alarms.set));
        }
        match &alarms.thread {
            Some(thread) if thread.until.is_some_and(|until| at < until) => CLOCK.alarms.notify_one(),
            Some(_) => {}
            None => {
                std::thread::Builder::new().name("quotum-timeout".to_owned()).spawn(|| CLOCK.run())?;
                alarms.thread = Some(Sleeper { born: Born::here(), until: None });
            }
        }
        alarms.set.insert(place, waker.clone());
        Ok(Self { place })
    }

    /// Has `waker` woken in place of the one before.
    pub(super) fn wake_instead(&self, waker: &Waker) {
        let mut alarms = CLOCK.alarms.lock();
        let Some(known) = alarms.set.get_mut(&self.place).filter(|known| !known.will_wake(waker)) else { return };
        let before = std::mem::replace(known, waker.clone());
        drop(alarms);
        // A waker is somebody else's code.
        drop(before);
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let taken_back = CLOCK.alarms.lock().set.remove(&self.place);
        drop(taken_back);
    }
}

impl AlarmClock {
    fn run(&self) {
        let mut alarms = self.alarms.lock();
        loop {
            let now = Instant::now();
            while let Some(first) = alarms.set.first_entry().filter(|first| first.key().0 <= now) {
                let waker = first.remove();
                drop(alarms);
                // A waker that panics must not silence the other alarms.
                let _panicked = catch_unwind(AssertUnwindSafe(|| waker.wake()));
                alarms = self.alarms.lock();
            }
            let Some(next) = alarms.set.keys().next().map(|(at, _)| *at) else { break };
            if let Some(thread) = &mut alarms.thread {
                thread.until = Some(next);
            }
            alarms = self.alarms.wait_for(alarms, next.saturating_duration_since(Instant::now()));
        }
        alarms.thread = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::time::Duration;

    use parking_lot::Mutex;

    use super::*;

    /// Counts how often it was woken, and notes its name then.
    #[derive(Default)]
    struct Sleeper {
        woken: AtomicUsize,
        order: Option<Arc<Mutex<Vec<u64>>>>,
        after_ms: u64,
        panics: bool,
    }

    impl Wake for Sleeper {
        fn wake(self: Arc<Self>) {
            self.woken.fetch_add(1, Ordering::SeqCst);
            if let Some(order) = &self.order {
                order.lock().push(self.after_ms);
            }
            assert!(!self.panics, "planted");
        }
    }

    fn eventually(done: impl Fn() -> bool) {
        let patience = Instant::now() + Duration::from_secs(10);
        while !done() && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(done());
    }

    #[test]
    fn alarms_ring_in_order_once_unless_taken_back_and_whatever_the_others_do() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let begin = Instant::now();
        let set = |after_ms: u64, panics| {
            let sleeper = Arc::new(Sleeper { order: Some(order.clone()), after_ms, panics, ..Sleeper::default() });
            Alarm::set(begin + Duration::from_millis(after_ms), &Waker::from(sleeper)).unwrap()
        };
        let (last, first, taken_back, second) = (set(90, false), set(30, true), set(50, false), set(60, false));
        drop(taken_back);
        eventually(|| order.lock().len() == 3);
        assert_eq!(*order.lock(), [30, 60, 90]);
        assert!(begin.elapsed() >= Duration::from_millis(90));
        drop((last, first, second));
    }

    #[test]
    fn an_alarm_wakes_the_waker_that_it_was_given_last() {
        let (before, after) = (Arc::new(Sleeper::default()), Arc::new(Sleeper::default()));
        let alarm = Alarm::set(Instant::now() + Duration::from_millis(20), &Waker::from(before.clone())).unwrap();
        alarm.wake_instead(&Waker::from(after.clone()));
        eventually(|| after.woken.load(Ordering::SeqCst) == 1);
        assert_eq!(before.woken.load(Ordering::SeqCst), 0);
    }
}
