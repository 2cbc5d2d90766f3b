//! The full decision in memory, beside the same decision composed of its parts. Prints ratios, in one run.
//!
//! A decision is: subject or token, subscription, plan, one rate, one metric with a monthly and a daily
//! quota; 10,000 subjects, uniform. The peer does the same with a map for each step, as one writes it by
//! hand: a cache of tokens, a map of subscriptions, one of rates (`governor`) and one of counters.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod measure;

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::Instant;

use dashmap::DashMap;
use governor::{DefaultKeyedRateLimiter, RateLimiter};
use lru::LruCache;
use quotum::blocking::Quota;
use quotum::token::{Identity, blocking_verifier};
use quotum::{Plans, Request, Subject};
use sha2::{Digest, Sha256};

use measure::{median, picks, resident};

const SUBJECTS: usize = 10_000;
const OPS: usize = 1 << 17;
const PASSES: usize = 7;

const PLANS: &str = r#"
default_plan = "free"
[plans.free]
features = { excel = true }
quotas = { searches = ["1000000000/day", "1000000000/month"], views = "unlimited", none = "0/day" }
rates = { api = "1000000000/second burst 4294967295" }
"#;

/// A decision as one writes it by hand: each step has a map of its own.
struct ByHand {
    tokens: Mutex<LruCache<[u8; 32], String>>,
    subscriptions: DashMap<String, String>,
    plans: DashMap<String, u64>,
    rates: DefaultKeyedRateLimiter<String>,
    counters: DashMap<(String, &'static str, u32), u64>,
}

impl ByHand {
    fn new(subjects: &[String], tokens: &[String]) -> Self {
        let rate = governor::Quota::per_second(NonZeroU32::new(1_000_000_000).unwrap()).allow_burst(NonZeroU32::MAX);
        let by_hand = Self {
            tokens: Mutex::new(LruCache::unbounded()),
            subscriptions: DashMap::new(),
            plans: DashMap::new(),
            rates: RateLimiter::keyed(rate),
            counters: DashMap::new(),
        };
        by_hand.plans.insert("free".to_owned(), 1_000_000_000);
        for (subject, token) in subjects.iter().zip(tokens) {
            by_hand.subscriptions.insert(subject.clone(), "free".to_owned());
            by_hand.tokens.lock().unwrap().put(Sha256::digest(token).into(), subject.clone());
        }
        by_hand
    }

    fn by_subject(&self, subject: &String) -> bool {
        let plan = self.subscriptions.get(subject).unwrap().clone();
        let limit = *self.plans.get(&plan).unwrap();
        if self.rates.check_key(subject).is_err() {
            return false;
        }
        let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let windows = [("day", (seconds / 86_400) as u32), ("month", (seconds / 2_629_746) as u32)];
        windows.into_iter().all(|(period, start)| {
            let mut used = self.counters.entry((subject.clone(), period, start)).or_insert(0);
            let fits = *used < limit;
            *used += u64::from(fits);
            fits
        })
    }

    fn by_token(&self, token: &String) -> bool {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let subject = self.tokens.lock().unwrap().get(&digest).unwrap().clone();
        self.by_subject(&subject)
    }
}

fn time<K>(picks: &[u32], keys: &[K], decide: impl Fn(&K) -> bool) -> f64 {
    let begin = Instant::now();
    assert!(picks.iter().all(|pick| black_box(decide(&keys[*pick as usize]))));
    begin.elapsed().as_nanos() as f64 / picks.len() as f64
}

/// Times ours and the peer's in turn, each by its keys of the same subjects; the first pass of each warms the
/// caches.
fn compare<K, P>(name: &str, keys: &[K], ours: impl Fn(&K) -> bool, peer_keys: &[P], peer: impl Fn(&P) -> bool) {
    let picks = picks(OPS, keys.len(), false);
    let (mut our_ns, mut peer_ns) = (Vec::new(), Vec::new());
    for _ in 0..=PASSES {
        our_ns.push(time(&picks, keys, &ours));
        peer_ns.push(time(&picks, peer_keys, &peer));
    }
    let [our_ns, peer_ns] = [our_ns, peer_ns].map(|mut ns| median(ns.split_off(1)));
    println!("{name:<44} {our_ns:>8.0} ns {peer_ns:>8.0} ns {:>8.2}x", our_ns / peer_ns);
}

fn main() {
    let subjects: Vec<String> = (0..SUBJECTS).map(|number| format!("user:{number}")).collect();
    // As long as a JWT, and the same for everybody up to the end.
    let tokens: Vec<String> = subjects.iter().map(|subject| format!("{:x<800}{subject}", "token")).collect();
    let by_name = |token: &str| Ok(token.rsplit_once('x').map(|(_, subject)| Identity::of(subject)));
    let builder = Quota::builder().plans(Plans::from_toml(PLANS).unwrap()).verifier(blocking_verifier(by_name));
    let quota = builder.open("memory:").unwrap();
    let by_hand = ByHand::new(&subjects, &tokens);

    println!("seed {:#x}, {SUBJECTS} subjects, {OPS} operations a pass, {PASSES} passes, 1 thread", measure::SEED);
    println!("{:<44} {:>11} {:>11} {:>9}", "what", "quotum", "by hand", "ratio");
    let by_subject = |subject: &String| by_hand.by_subject(subject);
    let handles: Vec<Subject> = subjects.iter().map(|subject| quota.subject(subject).unwrap()).collect();

    let costs = [("searches", 1)];
    let full = |subject: &String| quota.admit(&Request::by(subject).rate("api").costs(&costs)).unwrap().allowed;
    compare("full decision, charged in the memory store", &subjects, full, &subjects, by_subject);
    let full = |subject: &Subject| quota.admit(&subject.request().rate("api").costs(&costs)).unwrap().allowed;
    compare("the same, by a handle", &handles, full, &subjects, by_subject);
    let full = |token: &String| quota.admit(&Request::with_token(token).rate("api").costs(&costs)).unwrap().allowed;
    compare("the same, from a token of 800 bytes", &tokens, full, &tokens, |token| by_hand.by_token(token));
    let views = [("views", 1)];
    let free = |subject: &String| quota.admit(&Request::by(subject).rate("api").costs(&views)).unwrap().allowed;
    compare("rate and an unlimited quota: no store", &subjects, free, &subjects, by_subject);
    let free = |subject: &Subject| quota.admit(&subject.request().rate("api").costs(&views)).unwrap().allowed;
    compare("the same, by a handle", &handles, free, &subjects, by_subject);
    let feature = |subject: &String| quota.require(subject, "excel").unwrap().allowed;
    compare("a feature: no store", &subjects, feature, &subjects, by_subject);
    let none = [("none", 1)];
    let denied = |subject: &String| !quota.consume(subject, &none).unwrap().allowed;
    compare("a cached denial: no store", &subjects, denied, &subjects, by_subject);
    let hashed = |token: &String| black_box(Sha256::digest(token))[31] < u8::MAX || !token.is_empty();
    let known = |token: &String| quota.authenticate(token).unwrap().identity().is_some();
    compare("a token of 800 bytes, beside its SHA-256", &tokens, known, &tokens, hashed);

    let many: Vec<String> = (0..100_000).map(|number| format!("subject:{number}")).collect();
    let quota = Quota::builder().plans(Plans::from_toml(PLANS).unwrap()).records_max(200_000).open("memory:").unwrap();
    let before = resident();
    assert!(many.iter().all(|subject| quota.require(subject, "excel").unwrap().allowed));
    println!("{:<44} {:>8.0} bytes", "memory of a subject's record, its id included", (resident() - before) / 1e5);
}
