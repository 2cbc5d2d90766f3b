//! Redis servers of a test's own: one that is reached through a Unix socket in its temporary folder, and a cluster of
//! three on this machine.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Upstream;
use quotum::store::{RedisOptions, StoreTime};

const MISSING: &str = "these tests need a Redis server of version 7 or newer, which is not installed: \
                       apt-get install redis-server";

/// How many slots a cluster has.
const SLOTS: usize = 16_384;

pub struct Redis {
    folder: tempfile::TempDir,
    settings: Vec<String>,
    process: Option<Child>,
    prefixes: AtomicU64,
}

impl Redis {
    /// A server that keeps nothing when it ends.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// A server that has on its disk what it has acknowledged.
    pub fn start_durable() -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// A server with these settings too, a `$` in which is its folder.
    pub fn start_with(settings: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("quotum-redis-").tempdir().unwrap();
        let place = folder.path().to_str().unwrap().to_owned();
        let settings = settings.iter().map(|setting| setting.replace('$', &place)).collect();
        let mut server = Self { folder, settings, process: None, prefixes: AtomicU64::new(0) };
        server.run();
        server
    }

    /// Starts the server and waits until it answers.
    pub fn run(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = Command::new(program("SERVER"));
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        command.args(["--port", "0", "--unixsocket", "socket", "--save", "", "--dir", "."]);
        self.process = Some(command.args(&self.settings).spawn().expect(MISSING));
        let began = Instant::now();
        while !self.answers() {
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(began.elapsed() < Duration::from_secs(60), "the server does not start: {}", log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn answers(&self) -> bool {
        let output = client().arg("-s").arg(self.socket()).arg("PING").output().unwrap();
        // One that asks for a password is there.
        let told = String::from_utf8_lossy(&output.stdout);
        told.contains("PONG") || told.contains("NOAUTH")
    }

    /// Kills the server at once, as a crash would.
    pub fn kill(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        process.kill().unwrap();
        process.wait().unwrap();
    }

    pub fn socket(&self) -> String {
        self.folder.path().join("socket").to_str().unwrap().to_owned()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where a proxy finds it.
    pub fn upstream(&self) -> Upstream {
        Upstream::Unix(self.socket().into())
    }

    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket())
    }

    /// A store under a prefix that no other has, which goes by the clocks of its callers.
    pub fn options(&self) -> RedisOptions {
        let number = self.prefixes.fetch_add(1, Ordering::Relaxed);
        let options = RedisOptions::from_url(&self.url()).unwrap();
        options.prefix(&format!("quotum-{number}")).time(StoreTime::Told)
    }

    /// What `redis-cli` prints.
    pub fn cli(&self, words: &[&str]) -> String {
        told_by(client().arg("-s").arg(self.socket()).args(words))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Three primaries that share the slots.
pub struct RedisCluster {
    nodes: Vec<Redis>,
    pub ports: Vec<u16>,
    prefixes: AtomicU64,
}

impl RedisCluster {
    pub fn start() -> Self {
        let ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
        let node = |port: &u16| {
            let port = port.to_string();
            let mut settings = vec!["--port", &port, "--bind", "127.0.0.1", "--cluster-enabled", "yes"];
            settings.extend(["--cluster-node-timeout", "2000", "--appendonly", "no"]);
            Redis::start_with(&settings)
        };
        let nodes: Vec<Redis> = ports.iter().map(node).collect();
        let cluster = Self { nodes, ports, prefixes: AtomicU64::new(0) };
        cluster.join();
        cluster
    }

    fn join(&self) {
        let share = SLOTS.div_ceil(self.nodes.len());
        for (number, node) in self.nodes.iter().enumerate() {
            let (first, last) = (number * share, ((number + 1) * share).min(SLOTS) - 1);
            assert_eq!(node.cli(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]), "OK");
            assert_eq!(node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]), "OK");
            if number > 0 {
                let first = self.ports.first().unwrap().to_string();
                assert_eq!(node.cli(&["CLUSTER", "MEET", "127.0.0.1", &first]), "OK");
            }
        }
        let began = Instant::now();
        let is_whole = |node: &Redis| {
            let info = node.cli(&["CLUSTER", "INFO"]);
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        };
        while !self.nodes.iter().all(is_whole) {
            assert!(began.elapsed() < Duration::from_secs(60), "the cluster does not come together");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn url(&self) -> String {
        let nodes: Vec<String> = self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        format!("redis://{}?cluster=true", nodes.join(","))
    }

    /// A store under a prefix that no other has, which goes by the clocks of its callers.
    pub fn options(&self) -> RedisOptions {
        let number = self.prefixes.fetch_add(1, Ordering::Relaxed);
        let options = RedisOptions::from_url(&self.url()).unwrap();
        options.prefix(&format!("quotum-{number}")).time(StoreTime::Told)
    }

    /// What `redis-cli` prints of a node.
    pub fn cli(&self, node: usize, words: &[&str]) -> String {
        self.nodes.get(node).unwrap().cli(words)
    }

    pub fn kill(&mut self, node: usize) {
        self.nodes.get_mut(node).unwrap().kill();
    }

    pub fn run(&mut self, node: usize) {
        self.nodes.get_mut(node).unwrap().run();
    }

    /// The node that has a slot.
    pub fn owner(&self, slot: u32) -> usize {
        let share = SLOTS.div_ceil(self.nodes.len());
        slot as usize / share
    }

    /// Moves a slot with all that is in it from one node to another.
    pub fn move_slot(&self, slot: u32, from: usize, to: usize) {
        let (slot, id) = (slot.to_string(), |node: usize| self.cli(node, &["CLUSTER", "MYID"]));
        let port = self.ports.get(to).unwrap().to_string();
        self.cli(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(from)]);
        self.cli(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to)]);
        loop {
            let keys = self.cli(from, &["CLUSTER", "GETKEYSINSLOT", &slot, "1"]);
            let Some(key) = keys.lines().next().filter(|key| !key.is_empty()) else { break };
            self.cli(from, &["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
            std::thread::sleep(Duration::from_millis(20));
        }
        for node in [to, from] {
            self.cli(node, &["CLUSTER", "SETSLOT", &slot, "NODE", &id(to)]);
        }
    }
}

fn client() -> Command {
    let mut command = Command::new(program("CLI"));
    command.stdin(Stdio::null());
    command
}

fn told_by(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A port that nobody listens on, nor on the one that a cluster's nodes talk to each other by.
pub fn free_port() -> u16 {
    loop {
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        if port.checked_add(10_000).is_some_and(|bus| TcpListener::bind(("127.0.0.1", bus)).is_ok()) {
            return port;
        }
    }
}

/// A program of Redis's, or of another server that speaks its protocol: `QUOTUM_TEST_REDIS_SERVER=valkey-server`.
fn program(which: &str) -> String {
    let usual = format!("redis-{}", which.to_lowercase());
    std::env::var(format!("QUOTUM_TEST_REDIS_{which}")).unwrap_or(usual)
}
