//! A house for the real program: a folder with its configuration, keys and database, a strict
//! upstream, an identity provider's secret; and servers started on it, as many as a test wants.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keystead_testkit::client::Client;
use keystead_testkit::issuer::TestKey;
use keystead_testkit::postgres::{self, Cluster};
use keystead_testkit::process::Process;
use keystead_testkit::upstream::Upstream;
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const TRUE_KEY: &str = "sk-canary-true-key-0123456789abcdef";
pub(crate) const JWT_SECRET: &str = "canary-jwt-secret-that-is-long-enough-for-hs256";
const ISSUER: &str = "https://issuer.example";
/// Longer than anything takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The program, with nothing of this process's environment that would configure it.
pub(crate) fn keystead() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keystead"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KEYSTEAD_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// The Python of `cargo xtask test`, which has the vendors' packages.
pub(crate) fn python(script: &str) -> Command {
    let python = std::env::var_os("KEYSTEAD_TEST_PYTHON")
        .expect("KEYSTEAD_TEST_PYTHON is not set: run `cargo xtask test`");
    let mut command = Command::new(python);
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    command
        .arg("-u")
        .arg(clients.join(script))
        .stdin(Stdio::piped());
    command
}

pub(crate) struct House {
    pub(crate) folder: TempDir,
    pub(crate) upstream: Upstream,
    /// The superuser's URL of the database, where it is PostgreSQL.
    pub(crate) admin_url: Option<String>,
    operator: Mutex<Option<String>>,
}

/// A running server.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) url: String,
}

impl House {
    /// On SQLite, not started yet.
    pub(crate) async fn new(more: &str) -> House {
        let house = House::empty().await;
        let database = house.path("keystead.db");
        house.configure(&format!("url = \"sqlite:{}\"", database.display()), more);
        house
    }

    /// On a new database of a PostgreSQL cluster, set up by the program, not started yet.
    pub(crate) async fn on_postgres(cluster: &Cluster, more: &str) -> House {
        let mut house = House::empty().await;
        let admin = cluster.database().unwrap();
        house.admin_url = Some(admin.clone());
        // Roles belong to the cluster: every set-up of these tests sets their passwords anew, so
        // each test that does has a cluster to itself.
        let report = house.run(keystead().args([
            "setup",
            "postgres",
            "--json",
            "--new-passwords",
            "--admin-url",
            &admin,
        ]));
        assert!(report.status.success(), "{report:?}");
        let report: Value = serde_json::from_slice(&report.stdout).unwrap();
        house.write("app-url", report["url"].as_str().unwrap());
        house.write("system-url", report["system_url"].as_str().unwrap());
        let (app, system) = (house.path("app-url"), house.path("system-url"));
        let store = format!(
            "url = {{ file = \"{}\" }}\nsystem_url = {{ file = \"{}\" }}",
            app.display(),
            system.display()
        );
        house.configure(&store, more);
        house
    }

    async fn empty() -> House {
        House {
            folder: tempfile::tempdir().unwrap(),
            upstream: Upstream::start(TRUE_KEY).await,
            admin_url: None,
            operator: Mutex::default(),
        }
    }

    fn configure(&self, store: &str, more: &str) {
        self.write("jwt-secret", JWT_SECRET);
        let (folder, upstream) = (self.folder.path().display(), self.upstream.url());
        let limits = if more.contains("[limits]") {
            String::new()
        } else {
            "[limits]\nuser = \"1000000/minute\"\noperator = \"1000000/minute\"\nservice = \"1000000/minute\"\n\
             anonymous = \"1000000/minute\"\n"
                .to_owned()
        };
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\ngrace_seconds = 5\n\
             [store]\n{store}\n\
             [kms]\npath = \"{folder}/root.key\"\n\
             [[issuer]]\nname = \"house\"\nissuer = \"{ISSUER}\"\naudience = [\"keystead\"]\nalgorithms = [\"HS256\"]\n\
             hs256_secret = {{ file = \"{folder}/jwt-secret\" }}\ntenant_claim = \"tenant\"\nrole_claim = \"role\"\n\
             [egress]\nallow = [\"127.0.0.1\"]\n\
             [provider.openai]\nbase_url = \"{upstream}\"\n\
             [provider.generic_bearer]\napproved = [\"{upstream}\"]\n\
             {limits}{more}"
        );
        self.write("keystead.toml", &text);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("keystead.toml")
    }

    /// A command of the program on this configuration.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = keystead();
        command.args(words).arg("--config").arg(self.config());
        command.current_dir(self.folder.path());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, command: &mut Command) -> Output {
        command.output().unwrap()
    }

    /// Runs a command of the program; its exit code and what it said on both outputs.
    pub(crate) fn keystead(&self, words: &[&str]) -> (i32, String, String) {
        let output = self.run(&mut self.command(words));
        (
            output.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    /// Starts a server, and waits until it says that it serves.
    pub(crate) fn serve(&self) -> Server {
        let process = Process::start(&mut self.command(&["serve"]));
        self.wait(process)
    }

    /// Waits until a server that was started says that it serves.
    pub(crate) fn wait(&self, process: Process) -> Server {
        let line = process.log_line(|line| line.contains("\"serving\""), PATIENCE);
        let line = line.unwrap_or_else(|| panic!("it does not serve: {}", process.stderr()));
        let line: Value = serde_json::from_str(&line).unwrap();
        if let Some(key) = process
            .stdout()
            .lines()
            .find(|line| line.starts_with("kso_"))
        {
            *self.operator.lock().unwrap() = Some(key.to_owned());
        }
        let url = format!("http://{}", line["listen"].as_str().unwrap());
        Server { process, url }
    }

    /// Starts a server that has to refuse; its exit code and why. `None` where it serves.
    pub(crate) fn refused(&self) -> Option<(i32, String)> {
        let mut process = Process::start(&mut self.command(&["serve"]));
        if process
            .log_line(|line| line.contains("\"serving\""), PATIENCE)
            .is_some()
        {
            return None;
        }
        let status = process.ended(PATIENCE)?;
        Some((status.code().unwrap_or(-1), process.stderr()))
    }

    /// The operator key of this installation.
    pub(crate) fn operator_key(&self) -> String {
        let mut operator = self.operator.lock().unwrap();
        let make = || {
            // The first start ended before it could say its key.
            let (code, out, err) =
                self.keystead(&["keys", "create", "--operator", "--name", "rig", "--json"]);
            assert_eq!(code, 0, "{err}");
            let made: Value = serde_json::from_str(&out).unwrap();
            made["key"].as_str().unwrap().to_owned()
        };
        operator.get_or_insert_with(make).clone()
    }

    pub(crate) fn operator(&self, server: &Server) -> Client {
        Client::new(&server.url).bearer(&self.operator_key())
    }

    /// A user's token.
    pub(crate) fn jwt(&self, subject: &str, tenant: &str, role: &str) -> String {
        jwt_with(json!({"sub": subject, "tenant": tenant, "role": role}))
    }

    pub(crate) fn user(&self, server: &Server, subject: &str, tenant: &str, role: &str) -> Client {
        Client::new(&server.url).bearer(&self.jwt(subject, tenant, role))
    }

    /// A service key for one tenant, by the tenant's name at the issuer; the tenant is made by the
    /// first request of a user.
    pub(crate) fn service_key(&self, tenant: &str, scope: &str) -> (String, String) {
        let (code, out, err) = self.keystead(&[
            "keys", "create", "--name", "backend", "--tenant", tenant, "--scope", scope, "--json",
        ]);
        assert_eq!(code, 0, "{err}");
        let made: Value = serde_json::from_str(&out).unwrap();
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        (text("id"), text("key"))
    }
}

/// A token of the house's issuer with these claims over the usual ones.
pub(crate) fn jwt_with(more: Value) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let mut claims =
        json!({"iss": ISSUER, "aud": "keystead", "iat": now, "nbf": now, "exp": now + 3600});
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    TestKey::hs256("house", JWT_SECRET.as_bytes()).mint(&claims)
}

/// A cluster of this test's own.
pub(crate) fn cluster() -> Cluster {
    Cluster::start().unwrap_or_else(|fault: postgres::NoCluster| panic!("{fault}"))
}

/// Adds an OpenAI key, and waits until it was tried.
pub(crate) async fn connect(user: &Client, name: &str, key: &str) -> Value {
    let made = user
        .post(
            "/api/integrations",
            &json!({"name": name, "type": "openai", "credentials": key}),
        )
        .await
        .expect(201);
    settled(user, made["id"].as_str().unwrap()).await
}

/// The integration, once it was tried.
pub(crate) async fn settled(user: &Client, id: &str) -> Value {
    let until = std::time::Instant::now() + PATIENCE;
    loop {
        let seen = user
            .get(&format!("/api/integrations/{id}"))
            .await
            .expect(200);
        if seen["status"] != "verifying" {
            return seen;
        }
        assert!(std::time::Instant::now() < until, "{seen}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits for something that another process does in its own time.
pub(crate) async fn eventually<F: Future<Output = bool>>(
    most: Duration,
    what: &str,
    mut is: impl FnMut() -> F,
) -> Duration {
    let began = std::time::Instant::now();
    while !is().await {
        assert!(began.elapsed() < most, "{what}: not within {most:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    began.elapsed()
}
