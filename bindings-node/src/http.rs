//! What to tell HTTP clients of decisions and errors. The core says it all.

use std::collections::BTreeMap;
use std::net::IpAddr;

use napi::bindgen_prelude::Error as Thrown;
use napi_derive::napi;
use quotum::http::{self, Fields, Mapping, TrustedHops};
use quotum::{Decision, Error, Reason, Timestamp};
use serde::Deserialize;

use crate::outcome::{Failure, Outcome};

/// How decisions become responses, where that is not as usual.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Chosen {
    statuses: BTreeMap<Reason, u16>,
    fields: Fields,
}

impl Chosen {
    fn mapping(self) -> Result<Mapping, Error> {
        let mapping = Mapping::new().fields(self.fields);
        self.statuses.into_iter().try_fold(mapping, |mapping, (reason, status)| mapping.status(reason, status))
    }
}

/// Reads JSON, which the package has written.
fn read<'t, T: Deserialize<'t>>(text: &'t str) -> napi::Result<T> {
    serde_json::from_str(text).map_err(|error| Thrown::from_reason(error.to_string()))
}

fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Refuses a mapping that cannot be: an outcome.
#[napi(catch_unwind)]
pub(crate) fn check_mapping(mapping: String) -> napi::Result<String> {
    Ok(Outcome::of(read::<Chosen>(&mapping)?.mapping().map(drop)).into())
}

/// What to tell the client about a decision: an outcome.
#[napi(catch_unwind)]
pub(crate) fn answer(mapping: String, decision: String, now: i64) -> napi::Result<String> {
    let (mapping, decision) = (read::<Chosen>(&mapping)?.mapping(), read::<Decision>(&decision)?);
    Ok(Outcome::of(mapping.map(|mapping| mapping.answer(&decision, time(now)))).into())
}

/// What to tell the client where an error kept the engine from deciding: an outcome.
#[napi(catch_unwind)]
pub(crate) fn answer_error(mapping: String, error: String, now: i64) -> napi::Result<String> {
    let (mapping, error) = (read::<Chosen>(&mapping)?.mapping(), read::<Failure>(&error)?.into_error());
    Ok(Outcome::of(mapping.map(|mapping| mapping.answer_error(&error, time(now)))).into())
}

/// The token of `Authorization: Bearer`, or else of `X-API-Key`, by the values of both fields.
#[napi(catch_unwind)]
pub(crate) fn token_of(authorization: Vec<String>, api_key: Vec<String>) -> Option<String> {
    let values_of = |name: &str| {
        let values = if name == "authorization" { &authorization } else { &api_key };
        values.iter().map(String::as_bytes)
    };
    http::token_of(values_of).map(str::to_owned)
}

/// The address that a request comes from, behind so many trusted proxies, by the lines of `X-Forwarded-For`. Nothing where
/// the peer has none, such as the other end of a Unix socket.
#[napi(catch_unwind)]
pub(crate) fn client_address(trusted_hops: u32, peer: String, forwarded_for: Vec<String>) -> Option<String> {
    // Of a link-local address, the zone is the server's own name for a network.
    let peer: IpAddr = peer.split('%').next()?.parse().ok()?;
    let lines = forwarded_for.iter().map(String::as_bytes);
    Some(TrustedHops::new(trusted_hops as usize).address(peer, lines).to_string())
}
