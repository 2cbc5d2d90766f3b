//! Opening: what can be chosen about an engine.

use std::sync::Arc;
use std::time::Duration;

use napi::bindgen_prelude::Either;
use napi_derive::napi;
use quotum::store::{BreakerOptions, Sourced};
use quotum::token::{Pepper, TokenCacheOptions};
use quotum::{Builder, Enforcement, Error, Leasing, LoggedEvents, Quota, UNITS_MAX};
use serde::Deserialize;

use crate::home::{Home, Of};
use crate::host::{self, Function};
use crate::outcome::{Failure, Outcome, refused};
use crate::store::store_of;
use crate::task::{Begun, Tasks, work};
use crate::wire::{Milliseconds, Source};

/// Everything that an engine is opened with. Functions, clocks and stores of the host's are numbers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Options {
    url: Option<String>,
    store: Option<u32>,
    plans: Option<Source>,
    plans_function: Option<u32>,
    subscriptions: Option<u32>,
    verifier: Option<u32>,
    on_event: Option<u32>,
    clock: Option<u32>,
    store_timeout_ms: Option<Milliseconds>,
    breaker: Option<Breaker>,
    lease: Option<Lease>,
    enforcement: Option<Enforcement>,
    catalog_ttl_ms: Option<Milliseconds>,
    subscription_ttl_ms: Option<Milliseconds>,
    feed_interval_ms: Option<Milliseconds>,
    idempotency_ttl_ms: Option<Milliseconds>,
    records_max: Option<usize>,
    rates_max: Option<usize>,
    verifications_max: Option<usize>,
    tokens_max: Option<usize>,
    token_ttl_ms: Option<Milliseconds>,
    refusals_max: Option<usize>,
    refusal_ttl_ms: Option<Milliseconds>,
    tokens_in_store: Option<bool>,
    pepper: Option<Vec<u8>>,
    log_events: Option<Logged>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Breaker {
    Wanted(bool),
    #[serde(rename_all = "camelCase")]
    Other {
        failures: Option<u32>,
        cool_down_ms: Option<Milliseconds>,
        cool_down_max_ms: Option<Milliseconds>,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Lease {
    Auto,
    Off,
    #[serde(untagged, rename_all = "camelCase")]
    Blocks {
        max: Option<u64>,
        ttl_s: Option<u32>,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Logged {
    Changes,
    Incidents,
    All,
}

impl From<Breaker> for Option<BreakerOptions> {
    fn from(breaker: Breaker) -> Self {
        let mut options = BreakerOptions::default();
        match breaker {
            Breaker::Wanted(false) => return None,
            Breaker::Wanted(true) => {}
            Breaker::Other { failures, cool_down_ms, cool_down_max_ms } => {
                options.failures = failures.unwrap_or(options.failures);
                options.cool_down = cool_down_ms.map_or(options.cool_down, Duration::from);
                options.cool_down_max = cool_down_max_ms.map_or(options.cool_down_max, Duration::from);
            }
        }
        Some(options)
    }
}

impl From<Lease> for Leasing {
    fn from(lease: Lease) -> Self {
        match lease {
            Lease::Auto => Self::Auto,
            Lease::Off => Self::Off,
            Lease::Blocks { max, ttl_s } => Self::Blocks { max: max.unwrap_or(UNITS_MAX), ttl_s: ttl_s.unwrap_or(10) },
        }
    }
}

impl From<Logged> for LoggedEvents {
    fn from(logged: Logged) -> Self {
        match logged {
            Logged::Changes => Self::Changes,
            Logged::Incidents => Self::Incidents,
            Logged::All => Self::All,
        }
    }
}

/// Applies what is given.
fn given<B, T>(builder: B, value: Option<T>, apply: impl FnOnce(B, T) -> B) -> B {
    match value {
        Some(value) => apply(builder, value),
        None => builder,
    }
}

impl Options {
    fn builder(&mut self, home: &Home) -> Result<Builder, Error> {
        let function = |number| Function::new(home, number);
        let builder = Quota::builder().token_cache(self.token_cache());
        let builder = given(builder, self.plans.take(), |builder, plans| match plans {
            // A file is read again at every refresh.
            Source::Path(path) => builder.plans_file(path),
            Source::Json(text) => match quotum::Plans::from_json(&text) {
                Ok(plans) => builder.plans(plans),
                // The package has read them already.
                Err(_) => builder,
            },
        });
        let builder = given(builder, self.clock, |builder, clock| match home.clocks.with(clock, Arc::clone) {
            Some(clock) => builder.clock(clock),
            None => builder,
        });
        let builder =
            given(builder, self.verifier, |builder, verifier| builder.verifier(host::verifier(function(verifier))));
        let builder =
            given(builder, self.on_event, |builder, listener| builder.on_event(host::listener(function(listener))));
        let builder = given(builder, self.store_timeout_ms, |builder, ms| builder.store_timeout(ms.into()));
        let builder = given(builder, self.breaker.take(), |builder, breaker| {
            builder.breaker(Option::<BreakerOptions>::from(breaker))
        });
        let builder = given(builder, self.lease.take(), |builder, lease| builder.lease(lease.into()));
        let builder = given(builder, self.enforcement, Builder::enforcement);
        let builder = given(builder, self.catalog_ttl_ms, |builder, ms| builder.catalog_ttl(ms.into()));
        let builder = given(builder, self.subscription_ttl_ms, |builder, ms| builder.subscription_ttl(ms.into()));
        let builder = given(builder, self.feed_interval_ms, |builder, ms| builder.feed_interval(ms.into()));
        let builder = given(builder, self.idempotency_ttl_ms, |builder, ms| builder.idempotency_ttl(ms.into()));
        let builder = given(builder, self.records_max, Builder::records_max);
        let builder = given(builder, self.rates_max, Builder::rates_max);
        let builder = given(builder, self.verifications_max, Builder::verifications_max);
        let builder = given(builder, self.tokens_in_store, Builder::tokens_in_store);
        let builder = given(builder, self.log_events.take(), |builder, logged| builder.log_events(logged.into()));
        let pepper = self.pepper.take().map(Pepper::new).transpose()?;
        let builder = given(builder, pepper, Builder::pepper);
        Ok(self.sourced(builder, function))
    }

    fn token_cache(&self) -> TokenCacheOptions {
        let cache = TokenCacheOptions::new();
        let cache = given(cache, self.tokens_max, TokenCacheOptions::identities_max);
        let cache = given(cache, self.token_ttl_ms, |cache, ms| cache.ttl(ms.into()));
        let cache = given(cache, self.refusals_max, TokenCacheOptions::refusals_max);
        given(cache, self.refusal_ttl_ms, |cache, ms| cache.refusal_ttl(ms.into()))
    }

    /// Puts the host's own plans and subscriptions around the store.
    fn sourced(&self, builder: Builder, function: impl Fn(u32) -> Function) -> Builder {
        let (plans, subscriptions) = (self.plans_function.map(&function), self.subscriptions.map(&function));
        if plans.is_none() && subscriptions.is_none() {
            return builder;
        }
        builder.around_store(move |store| {
            let store = given(Sourced::around(store), plans, host::plans);
            Arc::new(given(store, subscriptions, host::subscriptions))
        })
    }
}

/// Opens an engine with options in JSON: the number of a task, which comes to the engine's number.
#[napi(catch_unwind)]
pub(crate) fn open(home: u32, options: String) -> napi::Result<Either<u32, String>> {
    let home = Home::of(home)?;
    let begun = match serde_json::from_str::<Options>(&options) {
        Ok(options) => begin(&home, options),
        Err(error) => Begun::Done(Outcome::failure(&Failure::new("invalid_argument", error.to_string()))),
    };
    Ok(begun.into())
}

fn begin(home: &Home, mut options: Options) -> Begun {
    let builder = match options.builder(home) {
        Ok(builder) => builder,
        Err(error) => return Begun::Done(Outcome::error(&error)),
    };
    let store = options.store.map(|number| store_of(Function::new(home, number)));
    let url = options.url.take();
    let opened = async move {
        match (store, url) {
            (Some(store), _) => builder.open_on(store).await,
            (None, Some(url)) => builder.open(&url).await,
            (None, None) => Err(refused("store", "nothing", "the URL of a store, or a store")),
        }
    };
    let told = work(opened, |home, quota| {
        let opening = home.next_opening();
        Outcome::value(&home.engines.insert(Of::new(quota, opening)))
    });
    Tasks::begin(home, told)
}
