//! The servers of a benchmark, each a process of its own, and Keystead made ready to be measured:
//! one integration whose provider is the benchmark's own upstream.
//!
//! What always holds here: every process ends with its value, by its own id; data is in
//! `target/bench`, made anew for each run.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::process::{command, output, target_dir};

/// A program of the release build.
pub(crate) fn released(name: &str) -> Command {
    command(target_dir().join("release").join(name))
}

/// A process that serves until this is dropped.
pub(crate) struct Server {
    child: Child,
    stdin: Option<ChildStdin>,
    /// The line of JSON it printed once it was ready.
    pub(crate) ready: Value,
}

impl Server {
    /// Starts a program that ends by being killed.
    pub(crate) fn start(command: &mut Command) -> Result<Server> {
        Server::spawn(command.stdin(Stdio::null()))
    }

    /// Starts a program that has something to clear up, and does so once its standard input ends.
    fn start_until_closed(command: &mut Command) -> Result<Server> {
        Server::spawn(command.stdin(Stdio::piped()))
    }

    fn spawn(command: &mut Command) -> Result<Server> {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("no standard output")?;
        let mut server = Server {
            child,
            stdin,
            ready: Value::Null,
        };
        let (first, line) = mpsc::channel();
        thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            let mut line = String::new();
            let _ = stdout.read_line(&mut line);
            let _ = first.send(line);
            // Read on, so that the program never waits for a full pipe.
            let _ = std::io::copy(&mut stdout, &mut std::io::sink());
        });
        let line = line
            .recv_timeout(Duration::from_secs(60))
            .context("not ready within a minute")?;
        server.ready = serde_json::from_str(&line)
            .with_context(|| format!("not a line of JSON, but `{}`", line.trim()))?;
        Ok(server)
    }

    /// Its memory, of a name in `/proc/PID/status`, in MiB.
    pub(crate) fn memory_mib(&self, name: &str) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next());
        let kib: f64 = kib.with_context(|| format!("no {name}"))?.parse()?;
        Ok(kib / 1024.0)
    }

    /// The processor time it took so far, in microseconds.
    pub(crate) fn processor_us(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // Behind the name, which may hold anything: user and system time are the 12th and 13th.
        let (_, fields) = stat.rsplit_once(") ").context("no process")?;
        let ticks = fields.split(' ').skip(11).take(2);
        let ticks: Vec<f64> = ticks.map(str::parse).collect::<Result<_, _>>()?;
        // A hundredth of a second, wherever Linux runs.
        Ok(ticks.iter().sum::<f64>() * 10_000.0)
    }

    /// What it said of itself under that name, such as its `address`.
    pub(crate) fn said(&self, pointer: &str) -> Result<&str> {
        text(&self.ready, pointer)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stdin) = self.stdin.take() {
            drop(stdin);
            let until = Instant::now() + Duration::from_secs(10);
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
                thread::sleep(Duration::from_millis(20));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running Keystead; its store is empty at first.
pub(crate) struct Keystead {
    pub(crate) server: Server,
    /// Ends after the server that uses it.
    _postgres: Option<Server>,
    pub(crate) address: String,
}

/// Keystead with one integration.
pub(crate) struct One {
    pub(crate) keystead: Keystead,
    /// The headers of a service that may do all that is measured.
    pub(crate) headers: String,
    pub(crate) integration: String,
}

impl Keystead {
    /// `name` is that of its folder.
    pub(crate) fn on_sqlite(name: &str, upstream: &str) -> Result<Keystead> {
        Keystead::start(name, "", None, upstream)
    }

    /// On a cluster of its own, which ends with it.
    pub(crate) fn on_postgres(name: &str, postgres_bin: &Path, upstream: &str) -> Result<Keystead> {
        let cluster = Server::start_until_closed(
            released("keystead-bench")
                .arg("postgres")
                .env("KEYSTEAD_TEST_PG_BIN", postgres_bin),
        )?;
        let urls = output(
            released("keystead")
                .args(["setup", "postgres", "--json", "--admin-url"])
                .arg(cluster.said("/admin_url")?),
        )?;
        let urls: Value = serde_json::from_str(&urls)?;
        let store = format!(
            "[store]\nurl = {}\nsystem_url = {}\n",
            json!(text(&urls, "/url")?),
            json!(text(&urls, "/system_url")?),
        );
        Keystead::start(name, &store, Some(cluster), upstream)
    }

    fn start(
        name: &str,
        store: &str,
        postgres: Option<Server>,
        upstream: &str,
    ) -> Result<Keystead> {
        let dir = fresh_dir(name)?;
        let config = dir.join("config.toml");
        fs::write(
            &config,
            format!(
                "[egress]\nallow = [\"127.0.0.1/32\"]\n\
                 [provider.openai]\nbase_url = \"http://{upstream}\"\n\
                 [limits]\nservice = \"1000000000/minute\"\noperator = \"1000000000/minute\"\n{store}"
            ),
        )?;
        let server = Server::start(
            released("keystead")
                .args(["dev", "--json", "--listen", "127.0.0.1:0", "--data"])
                .arg(dir.join("data"))
                .arg("--config")
                .arg(&config),
        )
        .with_context(|| format!("keystead on {name}"))?;
        let address = server.said("/url")?.trim_start_matches("http://");
        let address = address.trim_end_matches('/').to_owned();
        Ok(Keystead {
            server,
            _postgres: postgres,
            address,
        })
    }

    /// The headers of a service that may do everything in that tenant.
    pub(crate) fn headers(&self, tenant: &str) -> Result<String> {
        let key = self.server.said("/service_key")?;
        Ok(format!(
            "authorization: Bearer {key}\r\nkeystead-tenant: {tenant}\r\n"
        ))
    }

    /// Makes one integration.
    pub(crate) fn with_one(self) -> Result<One> {
        let headers = self.headers(self.server.said("/tenants/acme")?)?;
        let body = json!({
            "name": "bench",
            "type": "openai",
            "credentials": "sk-canary-bench-0123456789abcdefghijklmnopqrstuvwxyz",
        });
        let made = call(&request(
            "POST",
            &self.address,
            "/api/integrations",
            &headers,
            &body.to_string(),
        ))
        .context("the integration could not be made")?;
        let one = One {
            keystead: self,
            headers,
            integration: text(&made, "/id")?.to_owned(),
        };
        one.wait_until_verified()?;
        Ok(one)
    }
}

impl One {
    /// Verification runs in the background and would disturb the first round.
    fn wait_until_verified(&self) -> Result<()> {
        let path = format!("/api/integrations/{}", self.integration);
        let ask = request("GET", &self.keystead.address, &path, &self.headers, "");
        let until = Instant::now() + Duration::from_secs(15);
        while Instant::now() < until {
            if text(&call(&ask)?, "/status")? != "verifying" {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50));
        }
        bail!("the integration was not verified within 15 s")
    }
}

/// An HTTP/1.1 request as it is sent. `headers` are whole lines; a body is JSON.
pub(crate) fn request(
    method: &str,
    address: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Request {
    let length = match body {
        "" => String::new(),
        _ => format!(
            "content-type: application/json\r\ncontent-length: {}\r\n",
            body.len()
        ),
    };
    Request {
        address: address.to_owned(),
        text: format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\n{headers}{length}\r\n{body}"),
    }
}

/// A request, and where it goes.
pub(crate) struct Request {
    pub(crate) address: String,
    pub(crate) text: String,
}

/// Sends it once and returns the answer, which must be a success in JSON.
fn call(request: &Request) -> Result<Value> {
    let mut stream = TcpStream::connect(&request.address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let text = request
        .text
        .replacen("\r\n", "\r\nconnection: close\r\n", 1);
    stream.write_all(text.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    if !head.starts_with("HTTP/1.1 2") {
        bail!("{}: {body}", head.lines().next().unwrap_or_default());
    }
    serde_json::from_str(body).with_context(|| format!("not JSON: `{body}`"))
}

fn text<'a>(value: &'a Value, pointer: &str) -> Result<&'a str> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.with_context(|| format!("no {pointer} was said"))
}

fn fresh_dir(name: &str) -> Result<PathBuf> {
    let dir = target_dir().join("bench").join(name);
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir_all(&dir)?;
    Ok(dir)
}
