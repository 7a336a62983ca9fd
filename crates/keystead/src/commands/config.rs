//! `keystead config check|default`. Neither makes anything: no folder, no database, no key.

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::cli::ConfigCommand;
use crate::config::{Config, DEFAULT, KmsDriver};
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
    match wiring::catalogue(config) {
        Err(fault) => report("providers", Err(fault)),
        Ok(all) => {
            let settings = wiring::settings(config, &all);
            report("limits and proxy", settings.map(|_| "read".to_owned()));
            report("providers", Ok(format!("{} known", all.list().count())));
        }
    }
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
    match installation(config).await {
        Err(fault) => report("store", Err(fault)),
        Ok((says, first_start)) => {
            report("store", Ok(says));
            report("kms", kms(config, first_start));
        }
    }
    if wrong > 0 {
        bail!("{wrong} of the parts above would keep it from starting");
    }
    Ok(())
}

/// What the store holds, and whether the first start is still to come.
async fn installation(config: &Config) -> anyhow::Result<(String, bool)> {
    if let Some(file) = wiring::sqlite_file(config)?
        && std::fs::metadata(&file).map_or(true, |file| file.len() == 0)
    {
        return Ok((made_later(&file)?, true));
    }
    Ok(match wiring::store(config).await?.installation().await? {
        Some(row) => (format!("holds {}", row.id), false),
        None => (
            "is empty: the first start makes an installation".to_owned(),
            true,
        ),
    })
}

fn kms(config: &Config, first_start: bool) -> anyhow::Result<String> {
    match config.kms.driver {
        KmsDriver::File if first_start && !config.kms.path.exists() => made_later(&config.kms.path),
        KmsDriver::File => Ok(wiring::kms(config, false)?.name().to_owned()),
    }
}

/// Says so of a file that the first start makes, if it can.
fn made_later(file: &Path) -> anyhow::Result<String> {
    let there = file.ancestors().skip(1).find(|folder| folder.exists());
    if let Some(folder) = there
        && !folder.is_dir()
    {
        bail!(
            "{} cannot be made: {} is no folder",
            file.display(),
            folder.display()
        );
    }
    Ok(format!(
        "{} will be made at the first start",
        file.display()
    ))
}
