//! What can be chosen about an engine, as keyword arguments of `open`.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyMapping, PyString};
use quotum::store::{BreakerOptions, Sourced};
use quotum::token::{Pepper, TokenCacheOptions};
use quotum::{Builder, Leasing, LoggedEvents};

use crate::argument::{number, refused, refused_value, span, switch, text};
use crate::clock::ManualClock;
use crate::error::raise;
use crate::host::{self, Function, HostVerifier};
use crate::plan::Plans;
use crate::subscription::parsed;

/// Everything that an engine is opened with.
pub(crate) struct Options {
    builder: Builder,
    token_cache: TokenCacheOptions,
    plans: Option<Function>,
    subscriptions: Option<Function>,
}

/// The names of all of them.
const NAMES: [&str; 23] = [
    "plans",
    "subscriptions",
    "verifier",
    "clock",
    "store_timeout",
    "breaker",
    "lease",
    "enforcement",
    "catalog_ttl",
    "subscription_ttl",
    "feed_interval",
    "idempotency_ttl",
    "records_max",
    "rates_max",
    "verifications_max",
    "tokens_max",
    "token_ttl",
    "refusals_max",
    "refusal_ttl",
    "tokens_in_store",
    "pepper",
    "on_event",
    "log_events",
];

impl Options {
    /// Those that are given; `in_loop` says whether functions may be coroutines'.
    pub(crate) fn of(given: Option<&Bound<'_, PyDict>>, in_loop: bool) -> PyResult<Self> {
        let token_cache = TokenCacheOptions::new();
        let mut options = Self { builder: quotum::Quota::builder(), token_cache, plans: None, subscriptions: None };
        for (name, value) in given.into_iter().flatten() {
            let name = name.cast_into::<PyString>()?;
            let name = name.to_str()?;
            if !NAMES.contains(&name) {
                return Err(refused(name, "an option that no engine has", &NAMES.join(", ")));
            }
            // None is what it is without.
            if !value.is_none() {
                options = options.with(name, &value, in_loop)?;
            }
        }
        Ok(options)
    }

    fn with(mut self, name: &str, value: &Bound<'_, PyAny>, in_loop: bool) -> PyResult<Self> {
        let builder = self.builder;
        self.builder = match name {
            "plans" if value.is_callable() => {
                self.plans = Some(Function::of(name, value, in_loop)?);
                builder
            }
            "plans" => plans(builder, value)?,
            "subscriptions" => {
                self.subscriptions = Some(Function::of(name, value, in_loop)?);
                builder
            }
            "verifier" => builder.verifier(HostVerifier::of(Function::of(name, value, in_loop)?)),
            "clock" => {
                let clock = value.cast::<ManualClock>();
                let clock = clock.map_err(|_| refused_value(name, value, "a quotum.ManualClock"))?;
                builder.clock(clock.get().inner.clone())
            }
            "store_timeout" => builder.store_timeout(span(name, value)?),
            "breaker" => builder.breaker(breaker(value)?),
            "lease" => builder.lease(leasing(value)?),
            "enforcement" => builder.enforcement(parsed(name, value)?),
            "catalog_ttl" => builder.catalog_ttl(span(name, value)?),
            "subscription_ttl" => builder.subscription_ttl(span(name, value)?),
            "feed_interval" => builder.feed_interval(span(name, value)?),
            "idempotency_ttl" => builder.idempotency_ttl(span(name, value)?),
            "records_max" => builder.records_max(number(name, value)?),
            "rates_max" => builder.rates_max(number(name, value)?),
            "verifications_max" => builder.verifications_max(number(name, value)?),
            "tokens_in_store" => builder.tokens_in_store(switch(name, value)?),
            "pepper" => builder.pepper(pepper(value)?),
            "on_event" => builder.on_event(host::listener(name, value)?),
            "log_events" => builder.log_events(logged(value)?),
            _ => {
                self.token_cache = cache(self.token_cache, name, value)?;
                builder
            }
        };
        Ok(self)
    }

    pub(crate) fn builder(self) -> Builder {
        let Self { builder, token_cache, plans, subscriptions } = self;
        let builder = builder.token_cache(token_cache);
        if plans.is_none() && subscriptions.is_none() {
            return builder;
        }
        builder.around_store(move |store| {
            let mut store = Sourced::around(store);
            if let Some(function) = plans {
                store = host::plans(store, function);
            }
            if let Some(function) = subscriptions {
                store = host::subscriptions(store, function);
            }
            Arc::new(store)
        })
    }
}

fn plans(builder: Builder, value: &Bound<'_, PyAny>) -> PyResult<Builder> {
    // A file is read again at every refresh.
    match value.extract::<PathBuf>() {
        Ok(path) => Ok(builder.plans_file(path)),
        Err(_) => Ok(builder.plans(Plans::of("plans", value)?)),
    }
}

fn cache(cache: TokenCacheOptions, name: &str, value: &Bound<'_, PyAny>) -> PyResult<TokenCacheOptions> {
    Ok(match name {
        "tokens_max" => cache.identities_max(number(name, value)?),
        "token_ttl" => cache.ttl(span(name, value)?),
        "refusals_max" => cache.refusals_max(number(name, value)?),
        _ => cache.refusal_ttl(span(name, value)?),
    })
}

/// `False` for none, or a mapping of what is to be other than usual.
fn breaker(value: &Bound<'_, PyAny>) -> PyResult<Option<BreakerOptions>> {
    if let Ok(is_wanted) = value.cast::<PyBool>() {
        return Ok(is_wanted.is_true().then(BreakerOptions::default));
    }
    let expected = "False, or a mapping of failures, cool_down and cool_down_max";
    let mapping = value.cast::<PyMapping>().map_err(|_| refused_value("breaker", value, expected))?;
    let mut options = BreakerOptions::default();
    for item in mapping.items()? {
        let (name, value): (String, Bound<'_, PyAny>) = item.extract()?;
        match name.as_str() {
            "failures" => options.failures = u32::try_from(number("failures", &value)?).unwrap_or(u32::MAX),
            "cool_down" => options.cool_down = span("cool_down", &value)?,
            "cool_down_max" => options.cool_down_max = span("cool_down_max", &value)?,
            _ => return Err(refused("breaker", &format!("{name:?}"), expected)),
        }
    }
    Ok(Some(options))
}

/// As plans files write it: "auto", "off", or a mapping of max and ttl_s.
fn leasing(value: &Bound<'_, PyAny>) -> PyResult<Leasing> {
    let expected = "\"auto\", \"off\", or a mapping of max and ttl_s";
    if let Ok(word) = value.cast::<PyString>() {
        return match word.to_str()? {
            "auto" => Ok(Leasing::Auto),
            "off" => Ok(Leasing::Off),
            _ => Err(refused_value("lease", value, expected)),
        };
    }
    let mapping = value.cast::<PyMapping>().map_err(|_| refused_value("lease", value, expected))?;
    let (mut max, mut ttl_s) = (quotum::UNITS_MAX, 10);
    for item in mapping.items()? {
        let (name, value): (String, Bound<'_, PyAny>) = item.extract()?;
        let found = number(&name, &value)?;
        match name.as_str() {
            "max" => max = u64::try_from(found).unwrap_or(u64::MAX),
            "ttl_s" => ttl_s = u32::try_from(found).unwrap_or(u32::MAX),
            _ => return Err(refused("lease", &format!("{name:?}"), expected)),
        }
    }
    Ok(Leasing::Blocks { max, ttl_s })
}

fn pepper(value: &Bound<'_, PyAny>) -> PyResult<Pepper> {
    let py = value.py();
    // What was given is a secret: an error does not show it.
    let bytes: Vec<u8> = value.extract().map_err(|_| refused_value("pepper", &value.get_type(), "bytes"))?;
    Pepper::new(bytes).map_err(|error| raise(py, error))
}

fn logged(value: &Bound<'_, PyAny>) -> PyResult<LoggedEvents> {
    match text("log_events", value)?.as_str() {
        "changes" => Ok(LoggedEvents::Changes),
        "incidents" => Ok(LoggedEvents::Incidents),
        "all" => Ok(LoggedEvents::All),
        _ => Err(refused_value("log_events", value, "\"changes\", \"incidents\" or \"all\"")),
    }
}
