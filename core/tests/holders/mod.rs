//! Processes that consume one counter of a shared store, and say on a pipe what they were granted.
//!
//! A test starts its own binary again for each of them; they find their orders in the environment.

#![allow(clippy::unwrap_used, clippy::panic, dead_code, unreachable_pub)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pollster::block_on;
use quotum::blocking::Quota;
use quotum::store::{Balance, Call, CounterKey, Store, Wait};
use quotum::{Decision, Period, Plans, Reason, Timestamp};

const STORE: &str = "QUOTUM_TEST_STORE";
const SUBJECT: &str = "QUOTUM_TEST_SUBJECT";
const METRIC: &str = "QUOTUM_TEST_METRIC";
const PAUSE_US: &str = "QUOTUM_TEST_PAUSE_US";
const STAYS: &str = "QUOTUM_TEST_STAYS";
const TIMEOUT_MS: &str = "QUOTUM_TEST_TIMEOUT_MS";

/// How long anything may take that a test waits for.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long a holder that stays waits after a denial.
const AFTER_DENIAL: Duration = Duration::from_millis(20);

pub const EXACT: u64 = 4_000;
pub const LEASED: u64 = 10_000;
pub const LARGE: u64 = 200_000;

/// How many units a block of `blocks` has at the most.
pub const BLOCK: u64 = 100;

const PLANS: &str = "
    default_plan = 'free'
    [plans.free]
    quotas = { exact = '4000/total', leased = '10000/total', large = '200000/total', blocks = '200000/total' }
    lease = { exact = 'off', leased = {}, large = { ttl_s = 2 }, blocks = { max = 100, ttl_s = 5 } }
";

/// The subject and the metric of a counter.
pub type Counted<'c> = (&'c str, &'c str);

/// An engine on a store, whose calls may wait for so long.
pub fn engine(store: Arc<dyn Store>, timeout: Duration) -> Quota {
    let builder = Quota::builder().plans(Plans::from_toml(PLANS).unwrap());
    builder.store_timeout(timeout).breaker(None).open_on(store).unwrap()
}

/// What a counter holds, by the store itself.
pub fn balance(store: &dyn Store, (subject, metric): Counted<'_>) -> Balance {
    let key = CounterKey::of(subject, metric, Period::Total, 0);
    let call = Call::new(Timestamp::now(), Wait::Block);
    block_on(store.balances(call, &[key])).unwrap().pop().unwrap()
}

/// Consumes at once what is left of a counter but for so many units, so that holders need not take all of it. Returns
/// how many that was.
pub fn take_all_but(rest: u64, of: Counted<'_>, limit: u64, store: &dyn Store, quota: &Quota) -> u64 {
    // They go on meanwhile, and may take what was free.
    let take = || {
        let Balance { used, held, .. } = balance(store, of);
        let bulk = limit - used - held - rest;
        quota.consume(of.0, &[(of.1, bulk)]).unwrap().allowed.then_some(bulk)
    };
    std::iter::repeat_with(take).take(100).flatten().next().unwrap()
}

/// Waits until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// How a holder consumes.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How long it waits after each grant.
    pub pause: Duration,
    /// Whether it goes on after a denial, until it is told to close.
    pub stays: bool,
    /// How long a request waits for the store.
    pub timeout: Duration,
}

impl Pace {
    /// As fast as it goes, up to the first denial.
    pub const HARD: Self = Self { pause: Duration::ZERO, stays: false, timeout: PATIENCE };
}

/// A grant that a holder has said.
#[derive(Debug, Clone, Copy)]
struct Heard {
    at: Instant,
    /// How many units its blocks then had left.
    left: u64,
}

/// A holder that was killed.
#[derive(Debug, Clone, Copy)]
pub struct Dead {
    /// How much it had said to have been granted.
    pub granted: u64,
    /// How many units it may have had in its blocks: the most that it ever said to have left in them, and a block that
    /// it had just leased, of which it was granted nothing yet.
    pub leased: u64,
}

/// A process that consumes one unit after the other. It is killed when it is dropped.
pub struct Holder {
    child: Child,
    input: Option<ChildStdin>,
    granted: Arc<Mutex<Vec<Heard>>>,
    said: Receiver<(Instant, String)>,
    reader: Option<JoinHandle<()>>,
}

impl Holder {
    /// Starts the test of this name again as a holder, which waits for [`go`](Self::go).
    pub fn start(test: &str, url: &str, of: Counted<'_>, pace: Pace) -> Self {
        Self::start_by(Command::new(std::env::current_exe().unwrap()), test, url, of, pace)
    }

    /// The same, where the command runs this test's binary.
    pub fn start_by(mut command: Command, test: &str, url: &str, of: Counted<'_>, pace: Pace) -> Self {
        let mut child = command
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(STORE, url)
            .env(SUBJECT, of.0)
            .env(METRIC, of.1)
            .env(PAUSE_US, pace.pause.as_micros().to_string())
            .env(STAYS, pace.stays.to_string())
            .env(TIMEOUT_MS, pace.timeout.as_millis().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let granted = Arc::new(Mutex::new(Vec::new()));
        let (lines, counted) = (BufReader::new(child.stdout.take().unwrap()).lines(), Arc::clone(&granted));
        let (say, said) = channel();
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(left) = line.strip_prefix("granted ") {
                    counted.lock().unwrap().push(Heard { at: Instant::now(), left: left.parse().unwrap() });
                } else {
                    // Of one whom nobody listens to any more, the grants are counted all the same.
                    let _heard = say.send((Instant::now(), line));
                }
            }
        });
        Self { input: child.stdin.take(), child, granted, said, reader: Some(reader) }
    }

    /// How many units it has said to have been granted.
    pub fn granted(&self) -> u64 {
        self.granted.lock().unwrap().len() as u64
    }

    /// How many of them by then.
    pub fn granted_by(&self, then: Instant) -> u64 {
        self.granted.lock().unwrap().partition_point(|heard| heard.at <= then) as u64
    }

    /// Its next line that begins with this word, without it.
    pub fn line(&self, word: &str) -> String {
        let said = self.line_if(word, PATIENCE);
        said.unwrap_or_else(|| panic!("the holder has not said {word:?}")).1
    }

    /// The same, where it comes within so long, and when it came.
    pub fn line_if(&self, word: &str, within: Duration) -> Option<(Instant, String)> {
        let began = Instant::now();
        loop {
            match self.said.recv_timeout(within.saturating_sub(began.elapsed())) {
                Ok((at, line)) => {
                    if let Some(rest) = line.strip_prefix(word) {
                        return Some((at, rest.trim().to_owned()));
                    }
                }
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => panic!("the holder ended without saying {word:?}"),
            }
        }
    }

    /// Lets it begin.
    pub fn go(&mut self) {
        self.input.as_mut().unwrap().write_all(b"go\n").unwrap();
    }

    /// Has it close its engine, and waits for its end. Returns how much it was granted.
    pub fn close(mut self) -> u64 {
        self.end();
        self.line("closed");
        assert!(self.child.wait().unwrap().success());
        self.reader.take().unwrap().join().unwrap();
        self.granted()
    }

    /// Lets it close its engine once it comes to it.
    pub fn end(&mut self) {
        drop(self.input.take());
    }

    /// Kills a holder of `blocks` by SIGKILL.
    pub fn kill(mut self) -> Dead {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        let most = self.granted.lock().unwrap().iter().map(|heard| heard.left).max().unwrap_or(0);
        Dead { granted: self.granted(), leased: most + BLOCK }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // One that has ended already has no need of it.
        let _ended = self.child.kill();
        let _waited = self.child.wait();
    }
}

/// Consumes as ordered, where this process is a holder. False where it is not.
pub fn served() -> bool {
    let Ok(url) = std::env::var(STORE) else { return false };
    let order = |name: &str| std::env::var(name).unwrap();
    let (subject, metric, stays) = (order(SUBJECT), order(METRIC), order(STAYS) == "true");
    let pause = Duration::from_micros(order(PAUSE_US).parse().unwrap());
    let quota = engine(quotum::store::open(&url).unwrap(), Duration::from_millis(order(TIMEOUT_MS).parse().unwrap()));
    // The harness has begun a line of its own.
    say("\nready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let (over, watching) = (Arc::clone(&is_over), std::thread::current());
    std::thread::spawn(move || {
        let _closed = std::io::stdin().read_line(&mut String::new());
        over.store(true, Ordering::Release);
        watching.unpark();
    });
    let mut last = None;
    while !is_over.load(Ordering::Acquire) {
        let decision = quota.consume(&subject, &[(metric.as_str(), 1)]).unwrap();
        let reason = decision.denied.as_ref().map(|denial| denial.reason);
        if reason.is_none() {
            // Of what is leased, what is in blocks of its own.
            let left = decision.quotas.first().map_or(0, |state| state.leased - state.stranded);
            say(&format!("granted {left}"));
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
        }
        if reason != last {
            say(&told(&decision));
        }
        last = reason;
        if reason.is_some() {
            if !stays {
                assert_eq!(reason, Some(Reason::QuotaExhausted), "{decision:?}");
                break;
            }
            std::thread::sleep(AFTER_DENIAL);
        }
    }
    while !is_over.load(Ordering::Acquire) {
        std::thread::park();
    }
    quota.close().unwrap();
    say("closed");
    true
}

/// A decision in a line: after a denial, units that others have leased.
fn told(decision: &Decision) -> String {
    match &decision.denied {
        None => "allowed".to_owned(),
        Some(denial) if denial.reason == Reason::QuotaExhausted => {
            format!("exhausted {}", decision.quotas.first().map_or(0, |state| state.stranded))
        }
        Some(denial) => format!("denied {:?}: {}", denial.reason, denial.cause.as_deref().unwrap_or_default()),
    }
}

/// Says something, in one write.
fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    output.write_all(format!("{line}\n").as_bytes()).unwrap();
    output.flush().unwrap();
}
