//! A PostgreSQL server of a test's own, reached through a Unix socket in its temporary folder.

use std::fmt::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quotum::store::{PostgresOptions, PostgresStore, StoreTime};

use super::Upstream;

const MISSING: &str = "these tests need a PostgreSQL server of version 14 or newer, which is not installed: \
                       apt-get install postgresql";

/// Who runs the server where the tests are run by root, whom it refuses: `nobody`.
pub(super) const NOBODY: u32 = 65_534;

pub struct Postgres {
    folder: tempfile::TempDir,
    programs: PathBuf,
    uid: Option<u32>,
    process: Option<Child>,
    schemas: AtomicU64,
    port: u16,
}

impl Postgres {
    /// A server that is as durable as one is by default.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// A server that forgets when the power fails, for tests that ask it for much.
    pub fn start_hasty() -> Self {
        Self::start_with(&["fsync = off", "synchronous_commit = off", "full_page_writes = off"])
    }

    /// A hasty server that writes into its log how it has made each statement, and does nothing by itself.
    pub fn start_explaining() -> Self {
        let settings = ["log_min_duration = 0", "log_nested_statements = on", "log_analyze = on", "log_timing = off"];
        let settings = settings.map(|setting| format!("auto_explain.{setting}")).join("\n");
        Self::start_with(&["fsync = off", "autovacuum = off", "session_preload_libraries = 'auto_explain'", &settings])
    }

    /// A hasty server that listens on an address of the machine too.
    pub fn start_on_tcp() -> Self {
        Self::start_with(&["fsync = off", "listen_addresses = '127.0.0.1'"])
    }

    /// A hasty server that other hosts of this address's network reach too.
    pub fn start_on(address: &str) -> Self {
        let mut server = Self::start_with(&["fsync = off", &format!("listen_addresses = '{address}'")]);
        let mut access = std::fs::File::options().append(true).open(server.data().join("pg_hba.conf")).unwrap();
        std::io::Write::write_all(&mut access, b"\nhost all all samenet trust\n").unwrap();
        server.kill();
        server.run();
        server
    }

    /// A hasty server that listens on an address of the machine too, encrypted by this certificate and key in PEM.
    pub fn start_encrypted(certificate: &str, key: &str) -> Self {
        let mut server = Self::start_on_tcp();
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            let file = server.data().join(name);
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
            if let Some(uid) = server.uid {
                chown(&file, Some(uid), Some(uid)).unwrap();
            }
        }
        let mut settings = std::fs::File::options().append(true).open(server.data().join("postgresql.conf")).unwrap();
        std::io::Write::write_all(&mut settings, b"\nssl = on\n").unwrap();
        server.kill();
        server.run();
        server
    }

    fn start_with(settings: &[&str]) -> Self {
        let programs = programs().expect(MISSING);
        let folder = tempfile::Builder::new().prefix("quotum-pg-").tempdir().unwrap();
        let uid = (folder.path().metadata().unwrap().uid() == 0).then_some(NOBODY);
        if let Some(uid) = uid {
            chown(folder.path(), Some(uid), Some(uid)).unwrap();
        }
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut server = Self { folder, programs, uid, process: None, schemas: AtomicU64::new(0), port: free_port() };
        let data = server.data();
        let made = server
            .command("initdb")
            .args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "--username=quotum", "--pgdata"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let mut file = std::fs::read_to_string(data.join("postgresql.conf")).unwrap();
        let socket = server.folder.path().display();
        write!(file, "\nlisten_addresses = ''\nunix_socket_directories = '{socket}'\n").unwrap();
        // A small share of the machine: several of these run at once.
        writeln!(file, "port = {}", server.port).unwrap();
        writeln!(file, "shared_buffers = 16MB\nmax_connections = 100\n{}", settings.join("\n")).unwrap();
        std::fs::write(data.join("postgresql.conf"), file).unwrap();
        server.run();
        server
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command
            .current_dir(self.folder.path())
            .env("TZ", "UTC")
            .env("PGPORT", self.port.to_string())
            .stdin(Stdio::null());
        if let Some(uid) = self.uid {
            command.uid(uid).gid(uid);
        }
        command
    }

    /// Starts the server and waits until it lets somebody in.
    pub fn run(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(command.spawn().unwrap());
        let began = Instant::now();
        while !self.answers() {
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(began.elapsed() < Duration::from_secs(60), "the server does not start: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn answers(&self) -> bool {
        let mut ready = self.command("pg_isready");
        ready.arg("-q").arg("-h").arg(self.folder.path()).args(["-U", "quotum", "-d", "postgres"]);
        ready.status().unwrap().success()
    }

    /// Kills the whole server at once, as a crash of its machine would, but for what the disk holds.
    pub fn kill(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let children = children_of(process.id());
        process.kill().unwrap();
        process.wait().unwrap();
        signal("-KILL", &children);
        // Those who are not told otherwise end when they find their parent gone.
        let began = Instant::now();
        while children.iter().any(|child| Path::new(&format!("/proc/{child}")).exists()) {
            assert!(began.elapsed() < Duration::from_secs(60), "the server does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
        let _gone = std::fs::remove_file(self.data().join("postmaster.pid"));
    }

    /// Kills one of the server's sessions, upon which it ends all others and recovers.
    pub fn kill_a_session(&self) -> bool {
        let is_session = |child: &u32| {
            let title = std::fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
            title.contains("quotum postgres")
        };
        let session = children_of(self.process.as_ref().unwrap().id()).into_iter().find(is_session);
        signal("-KILL", session.as_slice());
        session.is_some()
    }

    pub fn url(&self) -> String {
        format!("postgres:///postgres?user=quotum&port={}&host={}", self.port, self.folder.path().display())
    }

    /// The URL by an address or a name of the machine, of a server that listens there.
    pub fn tcp_url(&self, host: &str) -> String {
        format!("postgres://quotum:s3cret@{host}:{}/postgres", self.port)
    }

    /// Where a proxy finds it.
    pub fn upstream(&self) -> Upstream {
        Upstream::Unix(self.folder.path().join(format!(".s.PGSQL.{}", self.port)))
    }

    /// A store in a schema that no other has, which goes by the time that it is told.
    pub fn options(&self) -> PostgresOptions {
        self.options_at(&self.url())
    }

    /// The same by another way to the server.
    pub fn options_at(&self, url: &str) -> PostgresOptions {
        let number = self.schemas.fetch_add(1, Ordering::Relaxed);
        PostgresOptions::from_url(url).unwrap().schema(&format!("quotum_{number}")).time(StoreTime::Told)
    }

    /// A store in one schema, empty again each time: to make the schema takes longer than what most tests ask of it.
    pub fn emptied(&self, url: &str, change: impl Fn(PostgresOptions) -> PostgresOptions) -> PostgresStore {
        let options = PostgresOptions::from_url(url).unwrap().schema("quotum_emptied").time(StoreTime::Told);
        let store = change(options).open().unwrap();
        self.psql(
            "DO $$ DECLARE t text; BEGIN
                 FOR t IN SELECT tablename FROM pg_tables
                          WHERE schemaname = 'quotum_emptied' AND tablename <> 'schema_version' LOOP
                     EXECUTE 'TRUNCATE quotum_emptied.' || t || ' RESTART IDENTITY';
                 END LOOP;
             END $$",
        );
        store
    }

    /// What `psql` prints.
    pub fn psql(&self, sql: &str) -> String {
        let mut command = self.command("psql");
        command.args(["-qAtX", "-v", "ON_ERROR_STOP=1", "-U", "quotum", "-d", "postgres", "-h"]);
        let output = command.arg(self.folder.path()).arg("-c").arg(sql).output().unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// What it has written into its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        // At once, without waiting for anybody.
        signal("-QUIT", &[process.id()]);
        let _ended = process.wait();
    }
}

pub(super) fn signal(which: &str, processes: &[u32]) {
    if !processes.is_empty() {
        let names = processes.iter().map(u32::to_string);
        // One that has ended meanwhile is no failure.
        let _told = Command::new("kill").arg(which).args(names).stderr(Stdio::null()).status();
    }
}

/// The processes that this one has started.
fn children_of(parent: u32) -> Vec<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let listed = std::fs::read_to_string(path).unwrap_or_default();
    listed.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// A port that nobody uses at the moment.
pub(super) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Where the newest server's programs are.
fn programs() -> Option<PathBuf> {
    let has_all = |folder: &PathBuf| ["initdb", "postgres"].iter().all(|program| folder.join(program).is_file());
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let mut known: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(version, folder)| *version >= 14 && has_all(folder))
        .collect();
    known.sort();
    known.pop().map(|(_, folder)| folder).or_else(|| std::env::split_paths(&on_path).find(has_all))
}
