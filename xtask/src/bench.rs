//! `cargo xtask bench`: what Keystead costs beside a bare server and a plain reverse proxy.
//!
//! What always holds here: one load generator, one run, and rounds in turn (A B C … A B C …), so
//! that a machine whose speed drifts slows all alike; what is quoted is the median of the rounds,
//! and ratios are taken inside of each round.
//!
//! Deliberately not here: a verdict. The load shares the machine's cores with what it measures.

mod renewals;
mod report;
mod scale;
mod servers;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::args::Args;
use crate::process::{cargo, run};
use crate::tools;
use report::Sample;
use servers::{Keystead, One, Request, Server, released, request};

const ROUNDS: usize = 3;
const WARM_UP_SECONDS: u64 = 2;
/// Many for the throughput, one for the latency.
const CONNECTIONS: [usize; 2] = [64, 1];

/// About as long as what `info` answers, and as a short completion.
const BARE_BYTES: &str = "500";
const COMPLETION_BYTES: &str = "800";
const COMPLETIONS: &str = "v1/chat/completions";
const QUESTION: &str = r#"{"model":"gpt-canary","messages":[{"role":"user","content":"Say something short, and then say it once more."}]}"#;

/// What is measured: one request, sent again and again.
struct Case {
    /// What is done; what `--only` looks in.
    name: &'static str,
    /// Where Keystead keeps its rows; empty for what is not Keystead.
    store: &'static str,
    /// The name of the case it is compared with.
    beside: Option<&'static str>,
    request: Request,
}

pub(crate) fn command(mut args: Args) -> Result<()> {
    let json = args.option("--json")?;
    let only = args.option("--only")?;
    let seconds = args.number("--seconds")?;
    let tenants = args.number("--tenants")?;
    let sizes = renewals::Sizes::of(&mut args)?;
    args.end()?;

    if only.as_deref() == Some("renew") {
        return renewals::measure(&sizes);
    }
    // The whole workspace: `--package` would build other features of the same crates.
    run(cargo().args(["build", "--release", "--workspace", "--bins"]))?;
    let upstream = Server::start(released("keystead-bench").args(["bare", COMPLETION_BYTES]))?;
    let upstream = upstream.said("/address")?;
    if only.as_deref() == Some("scale") {
        let (table, figures) = scale::measure(upstream, seconds.unwrap_or(3), tenants)?;
        return show(&table, json.as_deref(), &figures);
    }
    let bare = Server::start(released("keystead-bench").args(["bare", BARE_BYTES]))?;
    let plain = Server::start(released("keystead-bench").args(["plain-proxy", upstream]))?;
    let sqlite = Keystead::on_sqlite("sqlite", upstream)?.with_one()?;
    let postgres = Keystead::on_postgres("postgres", &tools::postgres_bin()?, upstream)?;
    let postgres = postgres.with_one()?;

    let mut cases = vec![
        Case {
            name: "bare",
            store: "",
            beside: None,
            request: request("GET", bare.said("/address")?, "/", "", ""),
        },
        Case {
            name: "plain proxy",
            store: "",
            beside: None,
            request: request(
                "POST",
                plain.said("/address")?,
                &format!("/{COMPLETIONS}"),
                "",
                QUESTION,
            ),
        },
    ];
    cases.extend(of_keystead("SQLite", &sqlite));
    cases.extend(of_keystead("PostgreSQL", &postgres));
    if let Some(only) = &only {
        cases.retain(|case| case.beside.is_none() || case.name == only);
        if cases.iter().all(|case| case.beside.is_none()) {
            bail!("--only takes info, reveal, proxy, scale or renew");
        }
    }

    let samples = measure(&cases, seconds.unwrap_or(6))?;
    let figures = report::json(&cases, &samples);
    show(&report::table(&cases, &samples), json.as_deref(), &figures)
}

fn show(table: &str, file: Option<&str>, figures: &Value) -> Result<()> {
    print!("{table}");
    if let Some(file) = file {
        fs::write(file, format!("{figures:#}\n")).with_context(|| file.to_owned())?;
    }
    Ok(())
}

fn of_keystead(store: &'static str, one: &One) -> [Case; 3] {
    let id = &one.integration;
    let ask = |method, path: String, body| {
        request(method, &one.keystead.address, &path, &one.headers, body)
    };
    [
        Case {
            name: "info",
            store,
            beside: Some("bare"),
            request: ask("GET", format!("/api/integrations/{id}"), ""),
        },
        Case {
            name: "reveal",
            store,
            beside: Some("bare"),
            request: ask("POST", format!("/api/integrations/{id}/reveal"), "{}"),
        },
        Case {
            name: "proxy",
            store,
            beside: Some("plain proxy"),
            request: ask("POST", format!("/proxy/{id}/{COMPLETIONS}"), QUESTION),
        },
    ]
}

/// Samples in the order they were taken.
fn measure(cases: &[Case], seconds: u64) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for round in 0..ROUNDS {
        for connections in CONNECTIONS {
            for (index, case) in cases.iter().enumerate() {
                let told = Load {
                    address: &case.request.address,
                    connections,
                    seconds: Some((WARM_UP_SECONDS, seconds, round)),
                };
                let said = told
                    .of(&[&case.request.text])
                    .with_context(|| format!("{} {} × {connections}", case.name, case.store))?;
                let sample = Sample {
                    case: index,
                    connections,
                    rps: said.rps,
                    p50_us: said.p50_us,
                    p99_us: said.p99_us,
                };
                eprintln!(
                    "round {}/{ROUNDS}  {connections:>2} × {:<11} {:<10} {:>8.0}/s  p50 {:>7.0} µs  p99 {:>7.0} µs",
                    round + 1,
                    case.name,
                    case.store,
                    sample.rps,
                    sample.p50_us,
                    sample.p99_us,
                );
                samples.push(sample);
            }
        }
    }
    Ok(samples)
}

/// How to send requests.
struct Load<'a> {
    address: &'a str,
    connections: usize,
    /// For the warm-up, for what is measured, and what the random order begins with; `None`: each
    /// request once.
    seconds: Option<(u64, u64, usize)>,
}

/// What a load measured.
#[derive(Clone, Copy)]
struct Measured {
    rps: f64,
    p50_us: f64,
    p99_us: f64,
    /// How many came in all, in the warm-up too.
    answers: f64,
}

impl Load<'_> {
    fn of(&self, requests: &[impl AsRef<str>]) -> Result<Measured> {
        let requests: Vec<&str> = requests.iter().map(AsRef::as_ref).collect();
        let mut command = released("keystead-bench");
        let connections = self.connections.to_string();
        match self.seconds {
            Some((warm_up, measured, seed)) => command
                .args(["load", self.address, &connections])
                .args([warm_up.to_string(), measured.to_string(), seed.to_string()]),
            None => command.args(["walk", self.address, &connections]),
        };
        let said = tell(&mut command, &serde_json::to_vec(&requests)?)?;
        let number = |name: &str| said[name].as_f64().context("the load said no number");
        Ok(Measured {
            rps: number("rps")?,
            p50_us: number("p50_us")?,
            p99_us: number("p99_us")?,
            answers: number("answers")?,
        })
    }
}

/// Runs it to its end with that on its standard input, and reads the JSON it printed.
fn tell(command: &mut Command, input: &[u8]) -> Result<Value> {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    // Dropped at once, which ends the input.
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(input)?;
    drop(stdin);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "{} ended with {}",
            command.get_program().display(),
            output.status
        );
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
