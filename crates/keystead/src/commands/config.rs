//! `keystead config check|default`.

use std::path::PathBuf;

use anyhow::bail;

use crate::cli::ConfigCommand;
use crate::config::{Config, DEFAULT};
use crate::logs::say;
use crate::wiring;

pub(super) async fn run(file: Option<PathBuf>, command: ConfigCommand) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Default => {
            say(DEFAULT.trim_end());
            Ok(())
        }
        ConfigCommand::Check => check(&wiring::load(file)?).await,
    }
}

/// Tries every part and reports each, so that one run tells all that is wrong.
async fn check(config: &Config) -> anyhow::Result<()> {
    let mut wrong = 0;
    let mut report = |part: &str, result: anyhow::Result<String>| match result {
        Ok(what) => say(format_args!("ok     {part}: {what}")),
        Err(fault) => {
            wrong += 1;
            say(format_args!("wrong  {part}: {fault:#}"));
        }
    };
    report("server", Ok(format!("listens on {}", config.server.listen)));
    report(
        "limits and proxy",
        wiring::settings(config).map(|_| "read".to_owned()),
    );
    report(
        "providers",
        wiring::catalogue(config).map(|all| format!("{} known", all.list().count())),
    );
    match wiring::client(config) {
        Err(fault) => report("egress", Err(fault)),
        Ok(client) => {
            report(
                "egress",
                Ok(format!(
                    "public addresses and {} ranges more",
                    config.egress.allow.len()
                )),
            );
            let issuers = wiring::verifier(config, &client, Vec::new());
            report(
                "issuers",
                issuers.map(|all| format!("{} configured", all.issuer_names().count())),
            );
        }
    }
    match wiring::store(config).await {
        Err(fault) => report("store", Err(fault)),
        Ok(store) => {
            let row = store.installation().await;
            report(
                "store",
                row.as_ref()
                    .map_err(|fault| anyhow::anyhow!("{fault}"))
                    .map(|row| match row {
                        Some(row) => format!("holds {}", row.id),
                        None => "is empty: the first start makes an installation".to_owned(),
                    }),
            );
            if let Ok(row) = row {
                let kms = wiring::kms(config, row.is_none()).map(|kms| kms.name().to_owned());
                report("kms", kms);
            }
        }
    }
    if wrong > 0 {
        bail!("{wrong} of the parts above would keep it from starting");
    }
    Ok(())
}
