//! How a PostgreSQL store is opened.

use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::PostgresStore;
use super::schema;
use super::server::{Server, Terms};
use crate::error::Error;
use crate::store::{StoreError, StoreTime};

/// The settings of a URL that are not those of `tokio-postgres`.
const OWN: [&str; 5] = ["schema", "connections", "time", "connect_timeout_ms", "statement_timeout_ms"];

/// How to open a PostgreSQL store.
///
/// ```no_run
/// use std::time::Duration;
/// use quotum::store::PostgresOptions;
///
/// let store = PostgresOptions::from_url("postgres://quotum@localhost/app")?
///     .schema("quotum")
///     .connections(16)
///     .statement_timeout(Duration::from_secs(2))
///     .open()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Connections are not encrypted as yet: let the server be on the same machine or network, or reach it through a
/// tunnel. A URL with `sslmode=require` is refused when it is opened.
#[derive(Debug, Clone)]
#[must_use = "options do nothing until they open a store"]
pub struct PostgresOptions {
    config: Config,
    schema: String,
    time: StoreTime,
    connections: usize,
    connect_timeout: Duration,
    statement_timeout: Duration,
}

impl PostgresOptions {
    /// Reads a URL such as `postgres://user:password@host:5432/database?schema=quotum&connections=8`.
    ///
    /// Of the settings after the question mark, `schema`, `connections`, `time` (`server` or `told`),
    /// `connect_timeout_ms` and `statement_timeout_ms` are those of the methods of this type; all others are [those of `tokio-postgres`].
    ///
    /// [those of `tokio-postgres`]: https://docs.rs/tokio-postgres/0.7/tokio_postgres/config/struct.Config.html
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a URL that cannot be read. It does not repeat the URL, which may hold a password.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        let refuse = |what: &str| {
            let expected = format!("`postgres://user:password@host/database`, with {what}");
            Error::argument("url", "a postgres URL".to_owned(), &expected)
        };
        let (address, settings) = url.split_once('?').unwrap_or((url, ""));
        let mut own = Vec::new();
        let mut others = String::new();
        for setting in settings.split('&').filter(|setting| !setting.is_empty()) {
            match setting.split_once('=') {
                Some(named) if OWN.contains(&named.0) => own.push(named),
                _ => {
                    let _never = write!(others, "{}{setting}", if others.is_empty() { '?' } else { '&' });
                }
            }
        }
        let config = Config::from_str(&format!("{address}{others}"))
            .map_err(|error| refuse(&format!("settings that can be read: {}", cause_of(&error))))?;
        let mut options = Self::new(config);
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
                _ => options.statement_timeout(Duration::from_millis(number()?.into())),
            };
        }
        if !is_name(&options.schema) {
            return Err(refuse("a schema of small letters, digits and `_`"));
        }
        Ok(options)
    }

    fn new(mut config: Config) -> Self {
        if config.get_application_name().is_none() {
            config.application_name("quotum");
        }
        Self {
            config,
            schema: "quotum".to_owned(),
            time: StoreTime::Server,
            connections: 8,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(5),
        }
    }

    /// The schema that holds everything, made where there is none; `quotum` by default. Small letters, digits and
    /// `_`, at most 63 of them.
    pub fn schema(mut self, name: &str) -> Self {
        name.clone_into(&mut self.schema);
        self
    }

    /// Whose clock says when holds and leases expire and what is too old to be kept: the server's by default, or the
    /// one that the engine is given ([`Clock`](crate::Clock)).
    pub fn time(mut self, time: StoreTime) -> Self {
        self.time = time;
        self
    }

    /// How many connections there may be at once; 8 by default. They are made as they are needed.
    pub fn connections(mut self, most: usize) -> Self {
        self.connections = most.max(1);
        self
    }

    /// How long to wait for a connection to be made; 5 seconds by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long to wait for a connection to be free, and then for the answer to a statement; 5 seconds by default.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout;
        self
    }

    /// Opens the store, and makes its schema or brings it up to date.
    ///
    /// # Errors
    ///
    /// [`StoreError::CannotOpen`] where the server cannot be reached or does not let one in; [`StoreError::Foreign`]
    /// or [`StoreError::NewerSchema`] for a schema that must not be used, which is left as it is;
    /// [`StoreError::ReadOnly`] where the user may not make a schema.
    pub fn open(&self) -> Result<PostgresStore, StoreError> {
        let name = self.name();
        let cannot = |detail: &str| StoreError::CannotOpen { name: name.clone(), detail: detail.to_owned() };
        if !is_name(&self.schema) {
            return Err(cannot("the name of its schema must be of small letters, digits and `_`, at most 63"));
        }
        let terms = Terms {
            schema: format!("\"{}\"", self.schema),
            time: self.time,
            connections_max: self.connections,
            connect_timeout: self.connect_timeout,
            statement_timeout: self.statement_timeout,
        };
        let server = Server::new(self.config.clone(), terms)?;
        let (config, schema, timeout) = (self.config.clone(), self.schema.clone(), self.connect_timeout);
        let late = cannot(&format!("it did not answer within {} ms: correct its address", timeout.as_millis()));
        pollster::block_on(server.on_own_threads(async move {
            let prepared = schema::prepare(&config, &schema, &name);
            tokio::time::timeout(timeout, prepared).await.unwrap_or(Err(late))
        }))?;
        Ok(PostgresStore::new(server))
    }

    /// Where the store is, for errors: without the password.
    fn name(&self) -> String {
        let host = self.config.get_hosts().first().map_or_else(String::new, |host| match host {
            Host::Tcp(host) => host.clone(),
            #[cfg(unix)]
            Host::Unix(path) => path.display().to_string(),
        });
        let user = self.config.get_user().map_or_else(String::new, |user| format!("{user}@"));
        let database = self.config.get_dbname().or(self.config.get_user()).unwrap_or_default();
        format!("postgres://{user}{host}/{database}")
    }
}

fn is_name(schema: &str) -> bool {
    let mut bytes = schema.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_lowercase() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        && schema.len() <= 63
}

/// What could not be read of a URL, without the URL.
fn cause_of(error: &tokio_postgres::Error) -> String {
    use std::error::Error as _;
    error.source().map_or_else(|| "the address".to_owned(), ToString::to_string)
}
