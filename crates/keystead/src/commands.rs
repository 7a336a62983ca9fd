//! The commands. Each ends with 0, or with a number that means something:
//! 1 failed, 2 usage, 3 denied, 4 not found, 5 conflict, 6 unavailable.

mod audit;
mod config;
mod connect;
mod dev;
mod integrations;
mod keys;
mod providers;
mod revoke;
mod rotate;
mod serve;
mod setup;
mod shell;
mod token;

use keystead_broker::Error;

use crate::api::Refused;
use crate::cli::{Cli, Command};
use crate::config::ConfigFault;
use crate::wiring;

/// Runs one.
pub(crate) async fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Dev(dev) => Box::pin(dev::run(cli.config, dev)).await,
        Command::Serve => Box::pin(serve::run(wiring::load(cli.config)?)).await,
        Command::Setup(setup) => Box::pin(setup::run(setup)).await,
        Command::Config(command) => Box::pin(config::run(cli.config, command)).await,
        Command::Keys(command) => Box::pin(keys::run(wiring::load(cli.config)?, command)).await,
        Command::Token(command) => token::run(command),
        Command::Connect(command) => Box::pin(connect::run(command)).await,
        Command::Integrations(command) => integrations::run(command).await,
        Command::Providers(command) => providers::run(cli.config, command),
        Command::Revoke(command) => revoke::run(command).await,
        Command::Audit(command) => Box::pin(audit::run(cli.config, command)).await,
        Command::Openapi => {
            crate::logs::say(keystead_http::openapi());
            Ok(())
        }
    }
}

/// A fault of a command whose exit code says what kind it is.
#[derive(Debug)]
pub(crate) struct Exit(pub(crate) u8, pub(crate) String);

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.1)
    }
}

impl std::error::Error for Exit {}

/// What was written on the command line does not read: exit code 2.
pub(crate) fn usage(text: impl std::fmt::Display) -> anyhow::Error {
    Exit(2, text.to_string()).into()
}

/// What a fault means to whoever called the command.
pub(crate) fn exit_code(fault: &anyhow::Error) -> u8 {
    for cause in fault.chain() {
        if let Some(refused) = cause.downcast_ref::<Refused>() {
            return match refused.status {
                401 | 403 => 3,
                404 => 4,
                409 | 412 => 5,
                429 | 502..=504 => 6,
                _ => 1,
            };
        }
        if let Some(Exit(code, _)) = cause.downcast_ref() {
            return *code;
        }
        if cause.is::<ConfigFault>() {
            return 2;
        }
        if let Some(keystead_store::Error::Unavailable { .. }) = cause.downcast_ref() {
            return 6;
        }
        if let Some(fault) = cause.downcast_ref::<Error>() {
            return match fault {
                Error::Unauthenticated | Error::Denied { .. } => 3,
                Error::NotFound { .. } => 4,
                Error::Conflict { .. } | Error::Precondition => 5,
                Error::Unavailable { .. }
                | Error::Limited { .. }
                | Error::Upstream { .. }
                | Error::UpstreamTimeout
                | Error::Provider { .. } => 6,
                _ => 1,
            };
        }
    }
    1
}
