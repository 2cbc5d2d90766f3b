//! A PgBouncer of a test's own before a PostgreSQL server, on a port of this machine. It hands its few sessions on
//! after each transaction, so that two statements of one client are most often made on two sessions.

use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::postgres::{NOBODY, Postgres, free_port, signal};

const MISSING: &str = "these tests need PgBouncer, which is not installed: apt-get install pgbouncer";

/// How many sessions of the server it has for all of its clients.
pub const SESSIONS: usize = 2;

pub struct Pooler {
    folder: tempfile::TempDir,
    uid: Option<u32>,
    port: u16,
    process: Option<Child>,
}

impl Pooler {
    pub fn start(server: &Postgres) -> Self {
        let folder = tempfile::Builder::new().prefix("quotum-pooler-").tempdir().unwrap();
        // It refuses to be run by root, as the server does.
        let uid = (folder.path().metadata().unwrap().uid() == 0).then_some(NOBODY);
        let port = free_port();
        let settings = format!(
            "[databases]\n\
             postgres = host={} port={} user=quotum\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {port}\n\
             unix_socket_dir =\n\
             auth_type = any\n\
             pool_mode = transaction\n\
             default_pool_size = {SESSIONS}\n\
             max_client_conn = 500\n\
             server_login_retry = 0.1\n",
            server.folder().display(),
            server.port(),
        );
        std::fs::write(folder.path().join("pgbouncer.ini"), settings).unwrap();
        for place in [folder.path(), &folder.path().join("pgbouncer.ini")] {
            chown(place, uid, uid).unwrap();
        }
        let mut pooler = Self { folder, uid, port, process: None };
        pooler.run();
        pooler
    }

    /// Starts it and waits until it lets somebody in.
    pub fn run(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = Command::new(program().expect(MISSING));
        command.current_dir(self.folder.path()).arg("pgbouncer.ini").stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        if let Some(uid) = self.uid {
            command.uid(uid).gid(uid);
        }
        self.process = Some(command.spawn().unwrap());
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(began.elapsed() < Duration::from_secs(60), "the pooler does not start: {}", log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it by a signal: `-KILL` as a crash would, `-TERM` at once, `-INT` once no transaction is open.
    pub fn end(&mut self, by: &str) {
        let Some(mut process) = self.process.take() else { return };
        signal(by, &[process.id()]);
        process.wait().unwrap();
    }

    pub fn url(&self) -> String {
        format!("postgres://quotum@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.end("-KILL");
    }
}

/// Where it is: a folder that only root looks into by default, or any other.
fn program() -> Option<PathBuf> {
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&on_path).chain([Path::new("/usr/sbin").to_owned()]);
    folders.map(|folder| folder.join("pgbouncer")).find(|program| program.is_file())
}
