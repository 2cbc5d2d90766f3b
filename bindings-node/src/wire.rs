//! Arguments, as the package writes them in JSON.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use quotum::rate::RateKey;
use quotum::{Error, FeatureValue, Overrides, Plans, Status, Subscription};
use serde::Deserialize;

use crate::outcome::refused;

/// Costs, in the order in which they were named.
#[derive(Deserialize)]
pub(crate) struct Costs(Vec<(String, u64)>);

impl Costs {
    pub(crate) fn borrowed(&self) -> Vec<(&str, u64)> {
        self.0.iter().map(|(metric, units)| (metric.as_str(), *units)).collect()
    }
}

/// A time span, in milliseconds.
#[derive(Deserialize, Clone, Copy)]
pub(crate) struct Milliseconds(u64);

impl From<Milliseconds> for Duration {
    fn from(Milliseconds(ms): Milliseconds) -> Self {
        Self::from_millis(ms)
    }
}

/// The key of a rate: any text, or an address.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Key {
    Text(String),
    Address { ip: String },
}

impl Key {
    /// As the core takes it.
    pub(crate) fn borrowed(&self) -> Result<RateKey<'_>, Error> {
        match self {
            Self::Text(text) => Ok(RateKey::from(text.as_str())),
            Self::Address { ip } => {
                let address: Result<IpAddr, _> = ip.parse();
                let address = address.map_err(|_| refused("key", format!("{ip:?}"), "an IPv4 or IPv6 address"))?;
                Ok(RateKey::from(address))
            }
        }
    }
}

/// Plans, or the file that they are to be read from.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Source {
    Path(PathBuf),
    Json(String),
}

impl Source {
    /// The plans. Reading a file may take a while.
    pub(crate) fn read(self) -> Result<Plans, Error> {
        Ok(match self {
            Self::Path(path) => Plans::read(path)?,
            Self::Json(text) => Plans::from_json(&text)?,
        })
    }
}

/// What is to be said of a subscription.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Subscribed {
    plan: String,
    status: Option<Status>,
    since: Option<Timestamp>,
    trial_ends_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    anchor: Option<Timestamp>,
    zone: Option<String>,
    account: Option<String>,
    #[serde(default)]
    overrides: Overrides,
}

impl Subscribed {
    /// Active since `now`, where nothing else is said.
    pub(crate) fn at(self, now: Timestamp) -> Subscription {
        let mut subscription = Subscription::active(&self.plan, self.since.unwrap_or(now));
        subscription.status = self.status.unwrap_or(subscription.status);
        subscription.trial_ends_at = self.trial_ends_at;
        subscription.expires_at = self.expires_at;
        subscription.anchor = self.anchor;
        subscription.zone = self.zone;
        subscription.account = self.account;
        subscription.overrides = self.overrides;
        subscription
    }
}

/// A feature that a plan must have, and what of it.
pub(crate) type Feature = (String, Option<FeatureValue>);
