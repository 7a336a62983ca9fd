//! `keystead integrations`, over the API.

use std::io::Read;

use anyhow::{Context, bail};
use http::Method;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::Exit;
use crate::api::Api;
use crate::cli::{Integrations, IntegrationsCommand};
use crate::logs::say;

pub(super) async fn run(command: Integrations) -> anyhow::Result<()> {
    let api = Api::of_person(command.url.as_deref(), command.tenant.as_deref())?;
    let json = command.json;
    match command.command {
        IntegrationsCommand::List => list(&api, json).await,
        IntegrationsCommand::Add {
            name,
            type_,
            settings,
        } => {
            let new = json!({"name": name, "type": type_, "credentials": credential()?, "config": config(&settings)?});
            show(
                &api.call(Method::POST, "/api/integrations", Some(&new))
                    .await?,
                json,
            );
            Ok(())
        }
        IntegrationsCommand::Test { id } => {
            let report = api
                .call(
                    Method::POST,
                    &format!("/api/integrations/{}/test", plain(&id)?),
                    None,
                )
                .await?;
            if json {
                say(&report);
            } else {
                let text = |name: &str| report[name].as_str().unwrap_or_default().to_owned();
                say(format_args!("{}  {}", text("result"), text("message")));
            }
            match report["result"].as_str().unwrap_or_default() {
                "ok" => {}
                "bad_key" | "expired" | "no_perm" => {
                    bail!("the provider does not take the credential")
                }
                "rate" | "quota" | "down" => {
                    let text = "the provider could not say: try again later";
                    return Err(Exit(6, text.to_owned()).into());
                }
                _ => bail!("the answer does not tell whether the credential works"),
            }
            Ok(())
        }
        IntegrationsCommand::Disable { id } => switch(&api, &id, true, json).await,
        IntegrationsCommand::Enable { id } => switch(&api, &id, false, json).await,
        IntegrationsCommand::Rotate {
            id,
            every,
            grace,
            wait,
        } => {
            let path = format!("/api/integrations/{}", plain(&id)?);
            super::rotate::run(&api, &path, every.as_deref(), grace, wait, json).await
        }
        IntegrationsCommand::Remove { id, revoke } => {
            let query = if revoke { "?revoke=true" } else { "" };
            let path = format!("/api/integrations/{}{query}", plain(&id)?);
            let gone = api.call(Method::DELETE, &path, None).await?;
            if revoke && json {
                say(&gone);
            } else if revoke {
                let batch = gone["revocation"].as_str().unwrap_or_default();
                say(format_args!(
                    "it is gone; its grant is being taken back: keystead revoke show {batch}"
                ));
            }
            Ok(())
        }
    }
}

/// Switches an integration off or on.
async fn switch(api: &Api, id: &str, disabled: bool, json: bool) -> anyhow::Result<()> {
    let path = format!("/api/integrations/{}", plain(id)?);
    let change = json!({"disabled": disabled});
    show(&api.call(Method::PUT, &path, Some(&change)).await?, json);
    Ok(())
}

async fn list(api: &Api, json: bool) -> anyhow::Result<()> {
    let mut after = String::new();
    loop {
        let page = api
            .call(
                Method::GET,
                &format!("/api/integrations?limit=200{after}"),
                None,
            )
            .await?;
        for integration in page["data"].as_array().into_iter().flatten() {
            show(integration, json);
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(()),
        }
    }
}

fn show(integration: &Value, json: bool) {
    if json {
        say(integration);
        return;
    }
    let text = |name: &str| integration[name].as_str().unwrap_or_default();
    say(format_args!(
        "{}  {:16}  {:11}  {}  {}",
        text("id"),
        text("type"),
        text("status"),
        text("name"),
        text("error_message")
    ));
}

/// From standard input, so that it is in no shell's history and no process list.
fn credential() -> anyhow::Result<Value> {
    let mut text = Zeroizing::new(String::with_capacity(128 * 1024));
    std::io::stdin()
        .take(128 * 1024)
        .read_to_string(&mut text)
        .context("the credential could not be read from standard input")?;
    let trimmed = text.trim_end_matches(['\n', '\r']);
    if trimmed.is_empty() {
        bail!("give the credential on standard input");
    }
    match serde_json::from_str::<Value>(trimmed) {
        Ok(value @ Value::Object(_)) => Ok(value),
        _ => Ok(Value::String(trimmed.to_owned())),
    }
}

fn config(settings: &[String]) -> anyhow::Result<Map<String, Value>> {
    let pair = |text: &String| {
        let (name, value) = text
            .split_once('=')
            .with_context(|| format!("--set {text}: write NAME=VALUE"))?;
        Ok((name.to_owned(), Value::String(value.to_owned())))
    };
    settings.iter().map(pair).collect()
}

/// An id goes into a path: nothing else may.
pub(super) fn plain(id: &str) -> anyhow::Result<&str> {
    if id
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    {
        Ok(id)
    } else {
        bail!("{id:?} is no id")
    }
}
