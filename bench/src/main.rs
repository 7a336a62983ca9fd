//! What Keystead is measured beside (a bare server, a plain reverse proxy) and with (a load
//! generator). `cargo xtask bench` runs each as a process of its own.
//!
//! What always holds here: a server listens on loopback, prints one line `{"address"}` once it is
//! ready, and serves until it is killed; a load is bounded in time. The allocator is Keystead's.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod load;
mod postgres;
mod seed;
mod server;

use anyhow::{Context, Result, bail};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "\
keystead-bench bare BODY_BYTES
keystead-bench plain-proxy UPSTREAM_ADDRESS
keystead-bench postgres   (until standard input is closed)
keystead-bench load ADDRESS CONNECTIONS WARM_UP_SECONDS SECONDS SEED   (requests on standard input)
keystead-bench walk ADDRESS CONNECTIONS   (requests on standard input)
keystead-bench seed ADDRESS TENANTS EACH   (what `keystead dev --json` said on standard input)";

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["bare", bytes] => server::bare(bytes.parse().context(USAGE)?),
        ["plain-proxy", upstream] => server::plain_proxy(upstream),
        ["postgres"] => postgres::until_closed(),
        ["load", address, connections, warm_up, measured, seed] => load::command(load::Load {
            address: address.parse().context(USAGE)?,
            connections: connections.parse().context(USAGE)?,
            until: load::Until::Time {
                warm_up: seconds_of(warm_up)?,
                measured: seconds_of(measured)?,
                seed: seed.parse().context(USAGE)?,
            },
        }),
        ["walk", address, connections] => load::command(load::Load {
            address: address.parse().context(USAGE)?,
            connections: connections.parse().context(USAGE)?,
            until: load::Until::Once,
        }),
        ["seed", address, tenants, each] => seed::command(
            address.parse().context(USAGE)?,
            tenants.parse().context(USAGE)?,
            each.parse().context(USAGE)?,
        ),
        _ => bail!("{USAGE}"),
    }
}

fn seconds_of(text: &str) -> Result<std::time::Duration> {
    Ok(std::time::Duration::from_secs_f64(
        text.parse().context(USAGE)?,
    ))
}
