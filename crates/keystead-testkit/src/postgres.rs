//! A PostgreSQL cluster to throw away: in a temporary folder, on a free port of 127.0.0.1.
//!
//! What always holds: one cluster per test process, a database per call, and nothing left behind:
//! the server is stopped when the process that started it ends, however it ends. Durability is on,
//! so that what is measured and killed is the real thing.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A running cluster; stopped and removed when dropped.
pub struct Cluster {
    /// The guard that stops the server when this process ends: it waits for the end of its input.
    guard: Mutex<Child>,
    bin: PathBuf,
    folder: TempDir,
    port: u16,
    next: AtomicU64,
}

/// Why there is no cluster.
#[derive(Debug)]
pub struct NoCluster(String);

impl std::fmt::Display for NoCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "no PostgreSQL for tests: {} (Debian: apt-get install postgresql)",
            self.0
        )
    }
}

impl std::error::Error for NoCluster {}

fn fault(what: impl std::fmt::Display) -> NoCluster {
    NoCluster(what.to_string())
}

/// The cluster of this test process, started at first use.
pub fn shared() -> Result<&'static Cluster, NoCluster> {
    static SHARED: OnceLock<Result<Cluster, String>> = OnceLock::new();
    let started = SHARED.get_or_init(|| Cluster::start().map_err(|fault| fault.0));
    started.as_ref().map_err(fault)
}

impl Cluster {
    /// Starts a cluster of its own.
    pub fn start() -> Result<Cluster, NoCluster> {
        let bin = binaries().ok_or_else(|| fault("initdb was not found"))?;
        let folder = tempfile::Builder::new()
            .prefix("keystead-pg-")
            .tempdir_in("/tmp")
            .map_err(fault)?;
        if is_root() {
            done(Command::new("chown").arg("postgres").arg(folder.path()))?;
        }
        let data = folder.path().join("data");
        let mut initdb = as_postgres(bin.join("initdb"));
        initdb.arg("-D").arg(&data).args([
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
        ]);
        done(&mut initdb)?;
        let port = free_port().map_err(fault)?;
        let hba = "local all all trust\n\
                   host all postgres 127.0.0.1/32 trust\n\
                   host all all 127.0.0.1/32 scram-sha-256\n";
        write_as_owner(&data.join("pg_hba.conf"), hba, &data)?;
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\n\
             max_connections = 200\nfsync = on\nsynchronous_commit = on\n",
            folder.path().display()
        );
        write_as_owner(&data.join("postgresql.auto.conf"), &settings, &data)?;
        // The shell stops the server when its input ends, which it does when this process does.
        // By then it may be another than the one started here: see `start_again`.
        let script = "\"$0\" -D \"$1/data\" >>\"$1/log\" 2>&1 & read -r _; pid=\"$1/data/postmaster.pid\"; \
                      [ ! -e \"$pid\" ] || kill -INT $(head -n 1 \"$pid\"); \
                      while [ -e \"$pid\" ]; do sleep 0.02; done; rm -rf \"$1\"";
        let mut guard = as_postgres(Path::new("/bin/sh"));
        guard.args(["-c", script]).arg(bin.join("postgres"));
        guard.arg(folder.path()).stdin(Stdio::piped());
        guard
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/");
        let guard = Mutex::new(guard.spawn().map_err(fault)?);
        let next = AtomicU64::new(0);
        let cluster = Cluster {
            guard,
            bin,
            folder,
            port,
            next,
        };
        cluster.wait()?;
        Ok(cluster)
    }

    /// A new, empty database; the URL is the superuser's.
    pub fn database(&self) -> Result<String, NoCluster> {
        let name = format!("test_{}", self.next.fetch_add(1, Ordering::Relaxed));
        let mut createdb = self.client("createdb");
        // Another template: two at once from template1 would wait for one another.
        done(createdb.args(["-T", "template0"]).arg(&name))?;
        Ok(self.url("postgres", &name))
    }

    /// A URL of this cluster.
    pub fn url(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// The port that the server listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// A client program of this cluster, as superuser: `psql`, `pg_dump`, …
    pub fn client(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        let port = self.port.to_string();
        command.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port]);
        command.stdin(Stdio::null());
        command
    }

    /// Stops the server as a crash does: every connection is cut, and the next start recovers.
    pub fn stop_at_once(&self) {
        self.control(&["stop", "-m", "immediate"]);
    }

    /// Starts the server after it was stopped.
    pub fn start_again(&self) {
        self.control(&["start"]);
    }

    fn control(&self, words: &[&str]) {
        let mut control = as_postgres(self.bin.join("pg_ctl"));
        control.args(words).arg("-w");
        control.arg("-D").arg(self.folder.path().join("data"));
        control.arg("-l").arg(self.folder.path().join("log"));
        // Not to its end: the server would keep a piped output open.
        control.stdout(Stdio::null()).stderr(Stdio::null());
        let status = control.status().expect("pg_ctl can be run");
        assert!(status.success(), "pg_ctl {words:?}: {}", self.log());
    }

    fn wait(&self) -> Result<(), NoCluster> {
        let until = Instant::now() + Duration::from_secs(30);
        while !self
            .client("pg_isready")
            .output()
            .map_err(fault)?
            .status
            .success()
        {
            if Instant::now() > until {
                return Err(fault(format!("the server did not start: {}", self.log())));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Ok(guard) = self.guard.get_mut() {
            drop(guard.stdin.take());
            let _ = guard.wait();
        }
    }
}

/// Those that `cargo xtask test` found; else the newest that Debian's packages have, or where
/// `pg_config` says.
#[allow(clippy::disallowed_methods)] // what `cargo xtask test` hands over
fn binaries() -> Option<PathBuf> {
    if let Some(bin) = std::env::var_os("KEYSTEAD_TEST_PG_BIN") {
        return Some(bin.into());
    }
    let mut places: Vec<_> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .collect();
    places.sort();
    places.reverse();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        places.push(PathBuf::from(
            String::from_utf8_lossy(&output.stdout).trim(),
        ));
    }
    places.into_iter().find(|bin| bin.join("initdb").exists())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|id| id.stdout.trim_ascii() == b"0")
}

/// The server refuses to run as root.
fn as_postgres(program: impl AsRef<OsStr>) -> Command {
    let mut command;
    if is_root() {
        command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
    } else {
        command = Command::new(program);
    }
    command.current_dir("/").stdin(Stdio::null());
    command
}

fn done(command: &mut Command) -> Result<(), NoCluster> {
    let output = command
        .output()
        .map_err(|error| fault(format!("{command:?}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(fault(String::from_utf8_lossy(&output.stderr)))
}

fn write_as_owner(path: &Path, text: &str, like: &Path) -> Result<(), NoCluster> {
    let mut file = fs::File::create(path).map_err(fault)?;
    file.write_all(text.as_bytes()).map_err(fault)?;
    if is_root() {
        let mut chown = Command::new("chown");
        done(chown.arg("--reference").arg(like).arg(path))?;
    }
    Ok(())
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
