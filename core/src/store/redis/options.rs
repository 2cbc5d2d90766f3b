//! How a Redis store is opened.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use redis::cluster::ClusterClient;
use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisError, TlsCertificates};
use tokio::sync::Mutex;

use super::connection::Connection;
use super::names::Names;
use super::opening;
use super::server::{Server, Terms, Threads, Way};
use super::{Own, RedisStore};
use crate::error::Error;
use crate::store::{StoreError, StoreTime};

/// How to open a Redis store.
///
/// ```no_run
/// use std::time::Duration;
/// use quotum::store::RedisOptions;
///
/// let store = RedisOptions::from_url("rediss://quotum:password@redis.example.com")?
///     .prefix("app:quotum")
///     .response_timeout(Duration::from_millis(500))
///     .open()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use = "options do nothing until they open a store"]
pub struct RedisOptions {
    nodes: Vec<ConnectionInfo>,
    is_cluster: bool,
    prefix: String,
    authority: Option<PathBuf>,
    connections: usize,
    connect_timeout: Duration,
    response_timeout: Duration,
    time: StoreTime,
}

impl fmt::Debug for RedisOptions {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("at", &self.name())
            .field("is_cluster", &self.is_cluster)
            .field("prefix", &self.prefix)
            .field("authority", &self.authority)
            .field("connections", &self.connections)
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .field("time", &self.time)
            .finish()
    }
}

impl RedisOptions {
    /// Reads a URL:
    ///
    /// - `redis://user:password@host:6379/0` names a server, `redis://:password@host` one without users, `rediss://…`
    ///   one that is reached through TLS;
    /// - `redis+unix:///run/redis.sock?db=0&user=…&pass=…` names a server on this machine;
    /// - `redis://user:password@host1:7000,host2:7000?cluster=true` names some nodes of a cluster, which name the
    ///   others. One is enough where it is there when the store is opened.
    ///
    /// `valkey`, `valkeys` and `valkey+unix` mean the same of a Valkey server. Of the settings after the question mark, `cluster`,
    /// `prefix`, `ca`, `connections`, `connect_timeout_ms` and `response_timeout_ms` are those of the methods of this
    /// type; all others are [those of `redis`].
    ///
    /// [those of `redis`]: https://docs.rs/redis/1/redis/#connection-parameters
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a URL that cannot be read. It does not repeat the URL, which may hold a password.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        let refuse = |what: &str| {
            let expected = format!("`redis://user:password@host:6379/0`, with {what}");
            Error::argument("url", "a redis URL".to_owned(), &expected)
        };
        let (address, settings) = url.split_once('?').unwrap_or((url, ""));
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for setting in settings.split('&').filter(|setting| !setting.is_empty()) {
            match setting.split_once('=') {
                Some(named @ ("cluster" | "prefix" | "ca" | "connections", _)) => own.push(named),
                Some(named @ ("connect_timeout_ms" | "response_timeout_ms", _)) => own.push(named),
                _ => others.push(setting),
            }
        }
        let mut nodes = Vec::new();
        for node in each_node(address) {
            let url = if others.is_empty() { node } else { format!("{node}?{}", others.join("&")) };
            // What is wrong may be the password, so that is not repeated either.
            nodes.push(url.into_connection_info().map_err(|_| refuse("an address that can be read"))?);
        }
        let mut options = Self::new(nodes);
        for (name, value) in own {
            let number = || value.parse::<u32>().map_err(|_| refuse(&format!("a whole number as {name}")));
            options = match name {
                "cluster" => options.cluster(value.parse().map_err(|_| refuse("`true` or `false` as cluster"))?),
                "prefix" => options.prefix(value),
                "ca" => options.authority(value),
                "connections" => options.connections(number()? as usize),
                "connect_timeout_ms" => options.connect_timeout(Duration::from_millis(number()?.into())),
                _ => options.response_timeout(Duration::from_millis(number()?.into())),
            };
        }
        if !is_prefix(&options.prefix) {
            return Err(refuse("a prefix of letters, digits and `:._-`"));
        }
        if options.nodes.len() > 1 && !options.is_cluster {
            return Err(refuse("one host, or `cluster=true`"));
        }
        Ok(options)
    }

    fn new(nodes: Vec<ConnectionInfo>) -> Self {
        Self {
            nodes,
            is_cluster: false,
            prefix: "quotum".to_owned(),
            authority: None,
            connections: 2,
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(5),
            time: StoreTime::Server,
        }
    }

    /// Whether the address is that of a cluster's nodes; by default it is not.
    pub const fn cluster(mut self, is_cluster: bool) -> Self {
        self.is_cluster = is_cluster;
        self
    }

    /// What the store's keys begin with, so that several share a server; `quotum` by default. Letters, digits and
    /// `:._-`, at most 100 of them.
    ///
    /// A user that may do no more than is needed: `~{quotum}:* ~{quotum:* ~quotum:* +@read +@write +@scripting
    /// +@connection +time +info`, and on a cluster `+cluster`.
    pub fn prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// A file in PEM form with the certificates of those who may have signed the server's; by default, those whom the
    /// operating system trusts. It is read when the store is opened.
    pub fn authority(mut self, file: impl AsRef<Path>) -> Self {
        self.authority = Some(file.as_ref().to_owned());
        self
    }

    /// How many connections there are; 2 by default. Each takes any number of steps at once, so more help only where
    /// one core cannot send fast enough. To a cluster there is one to each node.
    pub const fn connections(mut self, count: usize) -> Self {
        self.connections = if count == 0 { 1 } else { count };
        self
    }

    /// How long to wait for a connection to be made; 5 seconds by default.
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long to wait for an answer; 5 seconds by default.
    pub const fn response_timeout(mut self, timeout: Duration) -> Self {
        self.response_timeout = timeout;
        self
    }

    /// Whose clock decides when holds and leases expire; the server's by default.
    pub const fn time(mut self, time: StoreTime) -> Self {
        self.time = time;
        self
    }

    /// Opens the store.
    ///
    /// # Errors
    ///
    /// [`StoreError::CannotOpen`] where the server cannot be reached or does not let one in, is too old, is a replica,
    /// or would drop keys when its memory is full; [`StoreError::Foreign`] or [`StoreError::NewerSchema`] for a prefix
    /// under which something else is kept, which is left as it is.
    pub fn open(&self) -> Result<RedisStore, StoreError> {
        let name = self.name();
        let cannot = |detail: String| self.cannot(detail);
        if !is_prefix(&self.prefix) {
            return Err(cannot("its prefix must be of letters, digits and `:._-`, at most 100".to_owned()));
        }
        let terms =
            Terms { connect_timeout: self.connect_timeout, response_timeout: self.response_timeout, time: self.time };
        // Read here: a child process may have given up the right to.
        let (options, certificates) = (self.clone(), self.certificates().map_err(cannot)?);
        let start = move || {
            let cannot = |error| options.cannot(super::failure::text(&error));
            let way = options.way(certificates.clone()).map_err(cannot)?;
            Ok(Own::new(Threads::start()?, Arc::new(Server::new(way, terms)?)))
        };
        let (own, names) = (start()?, Names::new(&self.prefix));
        let (checked, under) = (Arc::clone(&own.server), names.clone());
        pollster::block_on(own.threads.run(async move { opening::prepare(&checked, &under, &name).await }))?;
        Ok(RedisStore::new(own, names, start))
    }

    fn cannot(&self, detail: String) -> StoreError {
        StoreError::CannotOpen { name: self.name(), detail }
    }

    fn certificates(&self) -> Result<TlsCertificates, String> {
        if self.nodes.iter().any(|node| matches!(node.addr(), ConnectionAddr::TcpTls { .. })) {
            // A program that has chosen its cryptography keeps it. That another thread was faster is as good.
            if rustls::crypto::CryptoProvider::get_default().is_none() {
                let _chosen = rustls::crypto::ring::default_provider().install_default();
            }
        }
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|error| format!("the file {} cannot be read: {error}", path.display()))
        };
        Ok(TlsCertificates { client_tls: None, root_cert: self.authority.as_ref().map(read).transpose()? })
    }

    fn way(&self, certificates: TlsCertificates) -> Result<Way, RedisError> {
        let modern = |node: &ConnectionInfo| {
            // By which a connection tells that it has ended.
            let redis = node.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
            node.clone().set_redis_settings(redis)
        };
        let mut nodes = self.nodes.iter().map(modern);
        let with_tls = self.authority.is_some();
        if self.is_cluster {
            // It must not send a step again by itself: one whose answer was lost may have been made.
            let mut builder = ClusterClient::builder(nodes)
                .retries(0)
                .connection_timeout(self.connect_timeout)
                .response_timeout(self.response_timeout)
                .overall_response_timeout(None);
            if with_tls {
                builder = builder.certs(certificates);
            }
            return Ok(Way::Cluster { client: Box::new(builder.build()?), current: Mutex::new(None) });
        }
        let missing = || RedisError::from((redis::ErrorKind::InvalidClientConfig, "there is no address"));
        let node = nodes.next().ok_or_else(missing)?;
        let client = if with_tls { Client::build_with_tls(node, certificates)? } else { Client::open(node)? };
        Ok(Way::Single((0..self.connections).map(|_| Connection::new(client.clone())).collect()))
    }

    /// Where the store is, for errors: without the password.
    fn name(&self) -> String {
        let address = |node: &ConnectionInfo| match node.addr() {
            ConnectionAddr::Unix(path) => path.display().to_string(),
            address => address.to_string(),
        };
        let nodes: Vec<String> = self.nodes.iter().map(address).collect();
        let user = self.nodes.first().and_then(|node| node.redis_settings().username());
        let user = user.map_or_else(String::new, |user| format!("{user}@"));
        format!("redis://{user}{}", nodes.join(","))
    }
}

/// The addresses of a URL that may name several nodes, each whole.
fn each_node(address: &str) -> Vec<String> {
    let Some((scheme, rest)) = address.split_once("://").filter(|(scheme, _)| !scheme.contains("unix")) else {
        return vec![address.to_owned()];
    };
    let (user, hosts) = match rest.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), rest),
    };
    let (hosts, path) = hosts.split_once('/').unwrap_or((hosts, ""));
    hosts.split(',').map(|host| format!("{scheme}://{user}{host}/{path}")).collect()
}

fn is_prefix(prefix: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'.' | b'_' | b'-');
    !prefix.is_empty() && prefix.len() <= 100 && prefix.bytes().all(is_allowed)
}
