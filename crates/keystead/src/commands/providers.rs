//! `keystead providers check|list`: provider files, without a server.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use keystead_core::provider::{Catalogue, Provider};
use serde_json::{Value, json};

use crate::cli::Providers;
use crate::logs::say;
use crate::wiring;

pub(super) fn run(config: Option<PathBuf>, command: Providers) -> anyhow::Result<()> {
    match command {
        Providers::Check { files } => check(&files),
        Providers::List { json } => {
            list(&wiring::catalogue(&wiring::load(config)?)?, json);
            Ok(())
        }
    }
}

/// Reads each, and says of all what is wrong.
fn check(paths: &[PathBuf]) -> anyhow::Result<()> {
    let embedded = Catalogue::embedded()?;
    let mut together = embedded.clone();
    let (mut wrong, mut right) = (0, 0);
    for path in paths {
        for (file, text) in read(path)? {
            let read = Provider::parse(&file, &text);
            let fits = read.and_then(|provider| {
                // Against each other as well: two files must not claim one name.
                let replaces = embedded.get(&provider.id).is_some();
                let all = together
                    .clone()
                    .with_own([(file.as_str(), text.as_str())], replaces);
                Ok((provider, replaces, all?))
            });
            match fits {
                Ok((provider, replaces, all)) => {
                    right += 1;
                    together = all;
                    say(format_args!("ok     {file}: {}", described(&provider)));
                    if replaces {
                        say(
                            "       it replaces one of the catalogue: set [providers] dangerous_allow_override",
                        );
                    }
                }
                Err(fault) => {
                    wrong += 1;
                    say(format_args!("wrong  {fault}"));
                }
            }
        }
    }
    if wrong > 0 {
        bail!(
            "{wrong} of {} provider files would keep Keystead from starting",
            wrong + right
        );
    }
    if right == 0 {
        bail!("there is no provider file (*.toml) in what was named");
    }
    Ok(())
}

fn described(provider: &Provider) -> String {
    let modes = provider.modes.iter().map(|mode| mode.id.as_str());
    let modes = modes.collect::<Vec<_>>().join(", ");
    format!("{} ({}): {modes}", provider.id, provider.name)
}

fn list(catalogue: &Catalogue, as_json: bool) {
    let modes = |provider: &Provider| -> Vec<Value> {
        let modes = provider.modes.iter();
        modes
            .map(|mode| json!({"id": mode.id, "label": mode.label, "oauth": mode.oauth.is_some()}))
            .collect()
    };
    if as_json {
        let all: Vec<Value> = catalogue
            .list()
            .map(|p| json!({"id": p.id, "name": p.name, "aliases": p.aliases, "modes": modes(p)}))
            .collect();
        say(Value::from(all));
        return;
    }
    for provider in catalogue.list() {
        say(described(provider));
    }
}

/// The file, or those of the folder.
fn read(path: &Path) -> anyhow::Result<Vec<(String, String)>> {
    if path.is_dir() {
        return wiring::read_folder(path);
    }
    let text = std::fs::read_to_string(path);
    let text = text.with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(vec![(path.display().to_string(), text)])
}
