//! How a PostgreSQL store is opened.

use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::connections::Terms;
use super::hosted::Queries;
use super::server::Server;
use super::tls::encryption;
use super::{PostgresStore, schema, url};
use crate::error::Error;
use crate::store::{StoreError, StoreTime};

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
/// # Encryption
///
/// With the crate's feature `postgres-tls`, connections are encrypted as the URL's `sslmode` says:
///
/// - `require` or `verify-full`: encrypted, by a server whose certificate is signed by an authority that the machine
///   trusts, or one in the file `sslrootcert`, and is for the name or the address in the URL. Anything else is refused.
///   (The `require` of `psql` would accept any certificate.)
/// - `prefer`, the default: encrypted where the server can. Its certificate is not looked at, unless `sslrootcert` is
///   given: that keeps out who listens, and nobody who could answer in the server's place.
/// - `disable`: never encrypted.
///
/// Without the feature nothing is encrypted, and `require` is refused. A Unix socket is never encrypted.
#[derive(Debug, Clone)]
#[must_use = "options do nothing until they open a store"]
pub struct PostgresOptions {
    config: Config,
    schema: String,
    time: StoreTime,
    roots: Option<PathBuf>,
    queries: Queries,
    connections: usize,
    connect_timeout: Duration,
    statement_timeout: Duration,
    prepares: bool,
}

impl PostgresOptions {
    /// Reads a URL such as `postgres://user:password@host:5432/database?schema=quotum&connections=8`.
    ///
    /// Of the settings after the question mark, `schema`, `connections`, `time` (`server` or `told`),
    /// `connect_timeout_ms`, `statement_timeout_ms`, `prepare` (`true` or `false`) and `sslrootcert` are those of the methods of this type; all others
    /// are [those of `tokio-postgres`].
    ///
    /// [those of `tokio-postgres`]: https://docs.rs/tokio-postgres/0.7/tokio_postgres/config/struct.Config.html
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a URL that cannot be read. It does not repeat the URL, which may hold a password.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        url::read(url)
    }

    pub(super) fn new(mut config: Config) -> Self {
        if config.get_application_name().is_none() {
            config.application_name("quotum");
        }
        Self {
            config,
            schema: "quotum".to_owned(),
            time: StoreTime::Server,
            roots: None,
            queries: Queries::default(),
            connections: 8,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(5),
            prepares: false,
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

    /// The file of the authorities, in PEM, of which one must have signed the server's certificate: `sslrootcert` in
    /// the URL. The machine's own by default.
    pub fn root_certificates(mut self, file: impl Into<PathBuf>) -> Self {
        self.roots = Some(file.into());
        self
    }

    /// Reads subscriptions from a table of the host's own, in the same database.
    ///
    /// The query selects the row of the subject `$1`, whatever its id is: a text, a whole number or a UUID. Of its
    /// columns, `plan` must be there, and `status` (`active` by default), `account`, `zone`, `since` (1970 by default),
    /// `trial_ends_at`, `expires_at` and `anchor` may be; others are not looked at. Times are timestamps, in UTC where
    /// they have no zone. A subject without a row has the subscription that Quotum keeps for it, if any. What is in the
    /// host's table is changed there, and refused here: see [`Sourced`](crate::store::Sourced), also for when changes
    /// are seen.
    ///
    /// The query is tried when the store is opened. It is made once for a subject each `subscription_ttl`, within the
    /// rights of the store's own user.
    ///
    /// ```no_run
    /// use quotum::store::PostgresOptions;
    ///
    /// let store = PostgresOptions::from_url("postgres://quotum@localhost/app")?
    ///     .subscription_query("SELECT plan, team_id AS account, paid_until AS expires_at FROM users WHERE id = $1")
    ///     .open()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn subscription_query(mut self, sql: &str) -> Self {
        self.queries.subscription = Some(sql.to_owned());
        self
    }

    /// Reads the plans from a table of the host's own: a row with a plans file, in JSON or TOML, as `document`, and a
    /// whole number as `version` that rises when it changes. Where there is no row, the plans file of the engine holds.
    pub fn plans_query(mut self, sql: &str) -> Self {
        self.queries.plans = Some(sql.to_owned());
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
    ///
    /// The server is told to give up a statement that was not answered, but not through a pooler: there, it finds out by
    /// itself where its `client_connection_check_interval` says how often to look.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout;
        self
    }

    /// Whether each connection keeps the statements that it has made, so that the server need not read and plan them
    /// anew. `false` by default, because a pooler that hands
    /// connections on after each transaction must know about such statements: PgBouncer does from version 1.21 on, with
    /// `max_prepared_statements` above zero. Where it does not, a statement is unknown in the next session, or known
    /// there as another process's. To the server itself, say `true`.
    pub fn prepare(mut self, prepares: bool) -> Self {
        self.prepares = prepares;
        self
    }

    /// Opens the store, and makes its schema or brings it up to date.
    ///
    /// # Errors
    ///
    /// [`StoreError::CannotOpen`] where the server cannot be reached or does not let one in, or a query of the host's
    /// cannot be made; [`StoreError::Foreign`]
    /// or [`StoreError::NewerSchema`] for a schema that must not be used, which is left as it is;
    /// [`StoreError::ReadOnly`] where the user may not make a schema.
    pub fn open(&self) -> Result<PostgresStore, StoreError> {
        let name = self.name();
        let cannot = |detail: &str| StoreError::CannotOpen { name: name.clone(), detail: detail.to_owned() };
        if !self.has_schema_name() {
            return Err(cannot("the name of its schema must be of small letters, digits and `_`, at most 63"));
        }
        let terms = Terms {
            schema: format!("\"{}\"", self.schema),
            time: self.time,
            connections_max: self.connections,
            connect_timeout: self.connect_timeout,
            statement_timeout: self.statement_timeout,
            prepares: self.prepares,
        };
        let mut config = self.config.clone();
        let encryption = encryption(&mut config, self.roots.as_deref()).map_err(|detail| cannot(&detail))?;
        let server = Server::new(config.clone(), encryption.clone(), terms)?;
        let (schema, queries, timeout) = (self.schema.clone(), self.queries.clone(), self.connect_timeout);
        let late = cannot(&format!("it did not answer within {} ms: correct its address", timeout.as_millis()));
        let tables = pollster::block_on(server.on_own_threads(async move {
            let prepared = schema::prepare(&config, encryption, &schema, &name, &queries);
            tokio::time::timeout(timeout, prepared).await.unwrap_or(Err(late))
        }))?;
        Ok(PostgresStore::new(server, tables))
    }

    pub(super) fn has_schema_name(&self) -> bool {
        is_name(&self.schema)
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

/// Whether a schema may be called this.
fn is_name(schema: &str) -> bool {
    let mut bytes = schema.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_lowercase() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        && schema.len() <= 63
}
