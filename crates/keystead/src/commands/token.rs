//! `keystead token mint`: JWTs of the development issuer, for trying things.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use keystead_broker::Clock;
use keystead_broker::callers::DevIssuer;
use zeroize::Zeroizing;

use crate::cli::Token;
use crate::files;
use crate::logs::say;

fn path(data: &Path) -> PathBuf {
    data.join("dev-issuer.key")
}

/// Whether a data folder has a development issuer.
pub(super) fn is_there(data: &Path) -> bool {
    path(data).exists()
}

/// The development issuer of a data folder; made where there is none and `make` says so.
pub(super) fn issuer(data: &Path, make: bool) -> anyhow::Result<DevIssuer> {
    let path = path(data);
    if make && !path.exists() {
        let issuer = DevIssuer::generate().context("no key could be made")?;
        files::write_private(&path, issuer.expose_pkcs8())?;
        return Ok(issuer);
    }
    let bytes = std::fs::read(&path)
        .with_context(|| format!("{} cannot be read: `keystead dev` makes it", path.display()))?;
    DevIssuer::from_pkcs8(Zeroizing::new(bytes))
        .with_context(|| format!("{} is no key", path.display()))
}

pub(super) fn run(command: Token) -> anyhow::Result<()> {
    let Token::Mint {
        data,
        subject,
        tenant,
        role,
        minutes,
        json,
    } = command;
    let lifetime = Duration::from_secs(u64::from(minutes) * 60);
    let token = issuer(&data, false)?
        .mint(
            &subject,
            tenant.as_deref(),
            role,
            lifetime,
            Clock::default().now(),
        )
        .context("the token could not be signed")?;
    if json {
        say(serde_json::json!({"token": token}));
    } else {
        say(token);
    }
    Ok(())
}
