//! What people who work on Keystead run: `cargo xtask COMMAND`.
//!
//! What always holds here: each command sets up what it needs or says in one line what is missing,
//! and exits non-zero unless all that it set out to do was done.
//!
//! Deliberately not here: anything that Keystead needs at run time, and heavy dependencies; this
//! builds in a second.
#![allow(clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::disallowed_methods)] // a command reads its environment

mod args;
mod bench;
mod ci;
mod fuzz;
mod openapi;
mod process;
mod test;
mod tools;

use std::process::ExitCode;

use crate::args::Args;

const USAGE: &str = "\
cargo xtask COMMAND

  test [--only NAME]             run the tests, with all that they need set up
  ci                             that, and format, lints, docs, stale files, a clean tree
  openapi [--check]              write openapi.json, or compare it
  fuzz NAME|all [--seconds N]    feed one parser (of fuzz/fuzz_targets) with hostile input
  bench [--json FILE] [--only NAME] [--seconds N]
                                 info, reveal and proxy beside a bare server and a plain proxy
  bench --only renew [--grants N] [--users N] [--rounds N] [--debug]
                                 what renewals cost, and how long they take
";

fn main() -> ExitCode {
    let mut args = Args::new(std::env::args().skip(1));
    let Some(command) = args.positional() else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    let done = match command.as_str() {
        "test" => test::command(args),
        "ci" => ci::command(args),
        "openapi" => openapi::command(args),
        "bench" => bench::command(args),
        "fuzz" => fuzz::command(args),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("unknown command `{command}`\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {command}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
