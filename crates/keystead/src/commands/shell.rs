//! What the commands of an installation's shell share: its broker, if there is an installation.

use std::path::{Path, PathBuf};

use keystead_broker::Broker;

use super::{Exit, token};
use crate::config::Config;
use crate::wiring;

/// The broker of the installation that the configuration names. With `begin`, one is made where
/// there is none; else a wrong folder or file would look like an empty installation.
pub(super) async fn broker(config: &Config, begin: bool) -> anyhow::Result<Broker> {
    if !begin {
        let url = config.store.url.text("[store] url")?;
        let file = url.strip_prefix("sqlite:").map(PathBuf::from);
        let exists = match &file {
            Some(path) if !path.exists() => false,
            _ => wiring::store(config).await?.installation().await?.is_some(),
        };
        if !exists {
            let at = file.map_or("that database".to_owned(), |path| {
                path.display().to_string()
            });
            let text = format!(
                "there is no installation at {at}: name its configuration with --config; `keystead serve` makes one"
            );
            return Err(Exit(4, text).into());
        }
    }
    // What `keystead dev` made knows the tenants of its development issuer by name.
    let data = config.kms.path.parent().unwrap_or(Path::new("."));
    let more = if token::is_there(data) {
        vec![token::issuer(data, false)?.settings()]
    } else {
        Vec::new()
    };
    wiring::broker(config, more).await
}
