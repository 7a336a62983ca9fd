//! `cargo xtask bench --only scale`: whether many tenants and integrations slow down what is done
//! with one of them, and how much memory they take.
//!
//! What always holds: a small and a large installation of the same kind run side by side and are
//! measured in turn, and ratios are taken inside of each round; which integration is next is drawn
//! at random from all, so that caches miss as they would.

use std::fmt::Write;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::report::median;
use super::servers::{Keystead, released, request};
use super::{COMPLETIONS, Load, Measured, QUESTION, tell};
use crate::tools;

const SMALL: u64 = 10;
const LARGE: u64 = 10_000;
/// Integrations of each tenant.
const EACH: u64 = 10;
const CONNECTIONS: usize = 16;
const ROUNDS: usize = 5;
const WARM_UP_SECONDS: u64 = 1;

/// What is measured, on each integration.
const ASKED: [&str; 3] = ["list", "info", "proxy"];

/// An installation that was filled.
struct Filled {
    store: &'static str,
    integrations: u64,
    keystead: Keystead,
    /// For each of `ASKED`, the request on each integration.
    requests: [Vec<String>; 3],
    seeded_seconds: f64,
    /// Of a walk over all integrations, before anything is cached.
    first: Measured,
    rounds: [Vec<Round>; 3],
}

struct Round {
    measured: Measured,
    /// The processor time that Keystead took for one request.
    each_us: f64,
}

/// The table and the figures.
pub(super) fn measure(
    upstream: &str,
    seconds: u64,
    tenants: Option<u64>,
) -> Result<(String, Value)> {
    let large = tenants.unwrap_or(LARGE);
    let (mut table, mut memory) = (String::from(HEAD), String::from(MEMORY_HEAD));
    let mut figures = Vec::new();
    for store in ["SQLite", "PostgreSQL"] {
        let mut pair = [
            Filled::new(store, SMALL, upstream)?,
            Filled::new(store, large, upstream)?,
        ];
        for round in 0..ROUNDS {
            for (index, asked) in ASKED.iter().enumerate() {
                for filled in &mut pair {
                    let since = filled.keystead.server.processor_us()?;
                    let measured = filled.ask(index, seconds, round)?;
                    let took = filled.keystead.server.processor_us()? - since;
                    let each_us = took / measured.answers;
                    eprintln!(
                        "round {}/{ROUNDS}  {asked:<6} {store:<10} {:>7} {:>8.0}/s  p50 {:>7.0} µs  p99 {:>7.0} µs  processor {each_us:>4.0} µs",
                        round + 1,
                        filled.integrations,
                        measured.rps,
                        measured.p50_us,
                        measured.p99_us,
                    );
                    filled.rounds[index].push(Round { measured, each_us });
                }
            }
        }
        for filled in &pair {
            filled.tell(&pair[0], &mut table, &mut memory, &mut figures)?;
        }
    }
    Ok((format!("{table}\n{memory}"), Value::Array(figures)))
}

impl Filled {
    fn new(store: &'static str, tenants: u64, upstream: &str) -> Result<Filled> {
        let name = format!("{}-{tenants}", store.to_lowercase());
        let keystead = match store {
            "SQLite" => Keystead::on_sqlite(&name, upstream)?,
            _ => Keystead::on_postgres(&name, &tools::postgres_bin()?, upstream)?,
        };
        let integrations = tenants * EACH;
        let mut command = released("keystead-bench");
        command
            .args(["seed", &keystead.address])
            .args([tenants.to_string(), EACH.to_string()]);
        let made = tell(&mut command, keystead.server.ready.to_string().as_bytes())?;
        let seeded_seconds = made["seconds"].as_f64().context("no seconds")?;
        eprintln!("{store}: {integrations} integrations made in {seeded_seconds:.0} s");
        let mut requests: [Vec<String>; 3] = Default::default();
        for tenant in made["tenants"].as_array().into_iter().flatten() {
            let headers = keystead.headers(tenant["id"].as_str().context("no tenant")?)?;
            let ask = |method, path: String, body| {
                request(method, &keystead.address, &path, &headers, body).text
            };
            for id in tenant["integrations"].as_array().into_iter().flatten() {
                let id = id.as_str().context("no integration")?;
                let [list, info, proxy] = &mut requests;
                list.push(ask("GET", "/api/integrations?limit=50".to_owned(), ""));
                info.push(ask("GET", format!("/api/integrations/{id}"), ""));
                proxy.push(ask("POST", format!("/proxy/{id}/{COMPLETIONS}"), QUESTION));
            }
        }
        let walk = Load {
            address: &keystead.address,
            connections: CONNECTIONS,
            seconds: None,
        };
        let first = walk.of(&requests[1])?;
        Ok(Filled {
            store,
            integrations,
            keystead,
            requests,
            seeded_seconds,
            first,
            rounds: Default::default(),
        })
    }

    fn ask(&self, index: usize, seconds: u64, round: usize) -> Result<Measured> {
        let load = Load {
            address: &self.keystead.address,
            connections: CONNECTIONS,
            seconds: Some((WARM_UP_SECONDS, seconds, round)),
        };
        load.of(&self.requests[index])
            .with_context(|| format!("{} of {} {}", ASKED[index], self.integrations, self.store))
    }

    /// Adds its rows.
    fn tell(
        &self,
        small: &Filled,
        table: &mut String,
        memory: &mut String,
        figures: &mut Vec<Value>,
    ) -> Result<()> {
        let (store, integrations) = (self.store, self.integrations);
        let mut asked = serde_json::Map::new();
        for (index, name) in ASKED.iter().enumerate() {
            let rounds = &self.rounds[index];
            let of = |number: fn(&Measured) -> f64| {
                median(rounds.iter().map(|round| number(&round.measured)))
            };
            let (rps, p50, p99) = (of(|it| it.rps), of(|it| it.p50_us), of(|it| it.p99_us));
            let each = median(rounds.iter().map(|round| round.each_us));
            let pairs = rounds.iter().zip(&small.rounds[index]);
            let ratio = median(pairs.map(|(this, small)| this.measured.rps / small.measured.rps));
            // Writing to a string does not fail.
            let _ = writeln!(
                table,
                "| {name} | {store} | {integrations} | {rps:.0} | {p50:.0} | {p99:.0} | {each:.0} | {ratio:.2} |",
            );
            let row = json!({ "rps": rps, "p50_us": p50, "p99_us": p99, "processor_us": each, "rate_ratio": ratio });
            asked.insert((*name).to_owned(), row);
        }
        let resident = self.keystead.server.memory_mib("VmRSS:")?;
        let peak = self.keystead.server.memory_mib("VmHWM:")?;
        let (seeded, first) = (self.seeded_seconds, self.first.rps);
        let _ = writeln!(
            memory,
            "| {store} | {integrations} | {resident:.0} | {peak:.0} | {seeded:.0} | {first:.0} |",
        );
        figures.push(json!({
            "store": store,
            "integrations": integrations,
            "asked": asked,
            "resident_mib": resident,
            "peak_mib": peak,
            "seeded_seconds": seeded,
            "first_info_rps": first,
        }));
        Ok(())
    }
}

const HEAD: &str = "| | store | integrations | requests/s | p50 µs | p99 µs | processor µs each | of the rate of the small one |\n\
     | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n";
const MEMORY_HEAD: &str = "| store | integrations | resident MiB | at most MiB | made in s | first info of each, requests/s |\n\
     | --- | ---: | ---: | ---: | ---: | ---: |\n";
