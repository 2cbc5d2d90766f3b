//! The URL of a PostgreSQL store.

use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::Config;

use super::options::PostgresOptions;
use crate::error::Error;
use crate::store::StoreTime;

/// The settings that are not those of `tokio-postgres`.
const OWN: [&str; 7] =
    ["schema", "connections", "time", "connect_timeout_ms", "statement_timeout_ms", "prepare", "sslrootcert"];

/// Reads a URL. Errors do not repeat it: it may hold a password.
pub(super) fn read(url: &str) -> Result<PostgresOptions, Error> {
    let refuse = |what: &str| {
        let expected = format!("`postgres://user:password@host/database`, with {what}");
        Error::argument("url", "a postgres URL".to_owned(), &expected)
    };
    let (address, settings) = url.split_once('?').unwrap_or((url, ""));
    let mut own = Vec::new();
    let mut others = String::new();
    for setting in settings.split('&').filter(|setting| !setting.is_empty()) {
        // Who asks for encryption gets a verified one, by either name.
        let setting = if setting == "sslmode=verify-full" { "sslmode=require" } else { setting };
        match setting.split_once('=') {
            Some(named) if OWN.contains(&named.0) => own.push(named),
            _ => {
                let _never = write!(others, "{}{setting}", if others.is_empty() { '?' } else { '&' });
            }
        }
    }
    let config = Config::from_str(&format!("{address}{others}"))
        .map_err(|error| refuse(&format!("settings that can be read: {}", cause_of(&error))))?;
    let mut options = PostgresOptions::new(config);
    for (name, value) in own {
        let number = || value.parse::<u32>().map_err(|_| refuse(&format!("a whole number as {name}")));
        options = match name {
            "schema" => options.schema(value),
            "connections" => options.connections(number()? as usize),
            "time" => options.time(match value {
                "server" => StoreTime::Server,
                "told" => StoreTime::Told,
                _ => return Err(refuse("`server` or `told` as time")),
            }),
            "connect_timeout_ms" => options.connect_timeout(Duration::from_millis(number()?.into())),
            "statement_timeout_ms" => options.statement_timeout(Duration::from_millis(number()?.into())),
            "prepare" => options.prepare(value.parse().map_err(|_| refuse("`true` or `false` as prepare"))?),
            // The machine's own authorities, which are asked by default.
            _ if value == "system" => options,
            _ => options.root_certificates(value),
        };
    }
    if !options.has_schema_name() {
        return Err(refuse("a schema of small letters, digits and `_`"));
    }
    Ok(options)
}

/// What could not be read of a URL, without the URL.
fn cause_of(error: &tokio_postgres::Error) -> String {
    use std::error::Error as _;
    error.source().map_or_else(|| "the address".to_owned(), ToString::to_string)
}
