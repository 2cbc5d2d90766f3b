//! What is changed in one process is in force in all others within the interval of the feed, on both servers.
//!
//! Two engines, each on a store of its own as in two processes, keep what they know for an hour: only the feed can tell
//! one what was changed on the other.

#![cfg(any(feature = "postgres", feature = "redis"))]
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod servers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quotum::blocking::Quota;
use quotum::store::Store;
use quotum::token::{Authenticated, Identity, TokenCacheOptions, blocking_verifier};
use quotum::{Enforcement, Overrides, Plans, Subscription, Timestamp};

const INTERVAL: Duration = Duration::from_millis(500);
const HOUR: Duration = Duration::from_secs(3_600);

/// What a busy machine may take beyond the interval.
const ALLOWANCE: Duration = Duration::from_secs(20);

const PLANS: &str = "default_plan = 'free'
[plans.free]
quotas = { jobs = '1/total' }
[plans.pro]
rank = 1
quotas = { jobs = '9/total' }
features = { export = true }";

#[cfg(feature = "postgres")]
#[test]
fn a_change_on_postgres_is_in_force_in_every_process_within_the_interval() {
    let server = servers::Postgres::start_hasty();
    let options = server.options();
    follow("postgres", || Arc::new(options.open().unwrap()));
}

#[cfg(feature = "redis")]
#[test]
fn a_change_on_redis_is_in_force_in_every_process_within_the_interval() {
    let server = servers::Redis::start();
    let options = server.options();
    follow("redis", || Arc::new(options.open().unwrap()));
}

/// The host's table of tokens, which has one.
#[derive(Clone)]
struct Tokens(Arc<AtomicBool>);

impl Tokens {
    fn open(&self, store: Arc<dyn Store>) -> Quota {
        let is_valid = Arc::clone(&self.0);
        let verifier = blocking_verifier(move |_| Ok(is_valid.load(Ordering::SeqCst).then(|| Identity::of("ana"))));
        Quota::builder()
            .plans(Plans::from_toml(PLANS).unwrap())
            .feed_interval(INTERVAL)
            .catalog_ttl(HOUR)
            .subscription_ttl(HOUR)
            .verifier(verifier)
            .token_cache(TokenCacheOptions::new().ttl(HOUR))
            .tokens_in_store(true)
            .open_on(store)
            .unwrap()
    }
}

fn follow(server: &str, store: impl Fn() -> Arc<dyn Store>) {
    let tokens = Tokens(Arc::new(AtomicBool::new(true)));
    let (here, there) = (tokens.open(store()), tokens.open(store()));
    let fits = |subject: &str, jobs| there.check(subject, &[("jobs", jobs)]).unwrap().allowed;
    let is_let_in = || matches!(there.authenticate("a token of ana's").unwrap(), Authenticated::Known(_));

    let is_followed = |what: &str, change: &dyn Fn(), in_force: &dyn Fn() -> bool| {
        // Known there, and kept for an hour.
        assert!(!in_force(), "{server}: {what} before it was made");
        change();
        let changed = Instant::now();
        while !in_force() {
            assert!(changed.elapsed() < INTERVAL + ALLOWANCE, "{server}: {what} is not in force");
            std::thread::sleep(Duration::from_millis(5));
        }
        println!("{server}: {what} is in force elsewhere after {:.0?}", changed.elapsed());
    };

    let pro = || Subscription::active("pro", Timestamp::UNIX_EPOCH);
    is_followed("a subscription", &|| here.subscribe("ana", pro()).unwrap(), &|| {
        fits("ana", 9) && there.feature("ana", "export").unwrap().is_some()
    });
    let twenty = || {
        let mut overrides = Overrides::default();
        overrides.quotas.insert("jobs".to_owned(), vec!["20/total".parse().unwrap()]);
        overrides
    };
    is_followed("an override", &|| _ = here.set_overrides("ana", twenty()).unwrap(), &|| fits("ana", 20));
    let more = Plans::from_toml(&PLANS.replace("'1/total'", "'5/total'")).unwrap();
    is_followed("a plan", &|| _ = here.set_plans(&more).unwrap(), &|| fits("bob", 5));
    let revoke = || {
        tokens.0.store(false, Ordering::SeqCst);
        assert!(is_let_in(), "what is kept of a token holds until it is revoked");
        here.forget_token("a token of ana's").unwrap();
    };
    is_followed("a revocation", &revoke, &|| !is_let_in());
    is_followed("a switch", &|| here.set_enforcement(None, Enforcement::Off).unwrap(), &|| fits("bob", 1_000));
    is_followed("a switch back", &|| here.set_enforcement(None, Enforcement::Enforce).unwrap(), &|| {
        !fits("bob", 1_000)
    });
}
