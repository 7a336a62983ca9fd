//! Structured logs on standard error, and faults of a command as a person reads them.

use anyhow::Context;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::{Log, LogFormat};

/// Starts logging. The drivers' own parameters never get in: `log` is not bridged to `tracing`.
pub(crate) fn start(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&log.level)
        .with_context(|| format!("[log] level = {:?} is not a level", log.level))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.with_target(false).try_init(),
    };
    started.map_err(|fault| anyhow::anyhow!("logging could not be started: {fault}"))
}

/// How far long work is, on standard error.
#[allow(clippy::print_stderr)] // what a command says to a person
pub(crate) fn progress(text: impl std::fmt::Display) {
    eprintln!("{text}");
}

/// One fault, on standard error, with its causes.
#[allow(clippy::print_stderr)] // what a command says to a person
pub(crate) fn complain(fault: &anyhow::Error) {
    let context = fault
        .chain()
        .find_map(|cause| cause.downcast_ref::<keystead_broker::Error>()?.context());
    let faults = fault.chain().find_map(|cause| match cause.downcast_ref() {
        Some(keystead_broker::Error::Invalid(faults)) => Some(faults),
        _ => None,
    });
    for fault in faults.into_iter().flatten() {
        eprintln!("keystead: {}: {}", fault.path, fault.message);
    }
    match context {
        Some(context) => eprintln!("keystead: {fault:#}: {context}"),
        None => eprintln!("keystead: {fault:#}"),
    }
}

/// What a person is to know while a command goes on, on standard error.
#[allow(clippy::print_stderr)] // what a command says to a person
pub(crate) fn tell(text: impl std::fmt::Display) {
    eprintln!("keystead: {text}");
}

/// What a command was asked for, on standard output.
#[allow(clippy::print_stdout)] // what a command answers
pub(crate) fn say(text: impl std::fmt::Display) {
    use std::io::Write;
    // A closed pipe ends the command elsewhere; there is nobody to tell.
    let _ = writeln!(std::io::stdout(), "{text}");
}
