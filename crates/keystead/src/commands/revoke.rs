//! `keystead revoke`, over the API; receipts are checked here, without it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use http::Method;
use keystead_core::log::{RevocationReceipt, Settled, VerifierKey};
use serde_json::{Map, Value, json};

use super::integrations::plain;
use super::{Exit, usage};
use crate::api::Api;
use crate::cli::{Revoke, RevokeAsk, RevokeCommand};
use crate::logs::{progress, say};

/// How often it is looked how far a batch is.
const LOOK: Duration = Duration::from_secs(1);

pub(super) async fn run(command: Revoke) -> anyhow::Result<()> {
    let Revoke {
        command,
        ask,
        url,
        acting,
        json,
    } = command;
    match command {
        Some(RevokeCommand::Verify { file, key }) => verify(&file, &key, json),
        Some(RevokeCommand::Show { id }) => {
            let batch = whole(&Api::of_person(url.as_deref(), acting.as_deref())?, &id).await?;
            show(&batch, json);
            Ok(())
        }
        Some(RevokeCommand::List) => {
            list(&Api::of_person(url.as_deref(), acting.as_deref())?, json).await
        }
        Some(RevokeCommand::Receipt { id }) => {
            let api = Api::of_person(url.as_deref(), acting.as_deref())?;
            let path = format!("/api/revocations/{}/receipt", plain(&id)?);
            // Word for word: a receipt is a text that is signed.
            let note = api.text(&path).await?;
            say(note.trim_end_matches('\n'));
            Ok(())
        }
        None => {
            let acting = ask.tenant.clone().or(acting);
            ask_for(
                &Api::of_person(url.as_deref(), acting.as_deref())?,
                ask,
                json,
            )
            .await
        }
    }
}

/// Whose grants, as the API takes it.
fn selection(ask: &RevokeAsk) -> anyhow::Result<Value> {
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| body.insert(name.to_owned(), value);
    if let Some(tenant) = &ask.tenant {
        put("tenant", json!(tenant));
    }
    if let Some(provider) = &ask.provider {
        put("provider", json!(provider));
    }
    if !ask.integrations.is_empty() {
        put("integrations", json!(ask.integrations));
    }
    if let [from, until] = ask.used_between.as_slice() {
        put("used_between", json!({"from": from, "until": until}));
    }
    if body.is_empty() {
        return Err(usage(
            "say whose: --tenant, --provider, --used-between, --integration, or several; --dry-run shows what that is",
        ));
    }
    if let Some(reason) = &ask.reason {
        body.insert("reason".to_owned(), json!(reason));
    }
    if ask.dry_run {
        body.insert("dry_run".to_owned(), json!(true));
    }
    Ok(Value::Object(body))
}

async fn ask_for(api: &Api, ask: RevokeAsk, as_json: bool) -> anyhow::Result<()> {
    let body = selection(&ask)?;
    let answer = api
        .call(Method::POST, "/api/revocations", Some(&body))
        .await?;
    if ask.dry_run {
        preview(&answer, as_json);
        return Ok(());
    }
    let id = text(&answer, "id").to_owned();
    let Some(minutes) = ask.wait else {
        if as_json {
            say(&answer);
        } else {
            say(format_args!(
                "{id}: begun; how far it is: keystead revoke show {id}"
            ));
        }
        return Ok(());
    };
    progress(format_args!(
        "{id}: begun; it goes on when this command is ended"
    ));
    let until = Instant::now() + Duration::from_secs(minutes.saturating_mul(60));
    wait(api, &id, until).await?;
    let batch = whole(api, &id).await?;
    show(&batch, as_json);
    outcome(&batch)
}

/// Waits until the batch is closed, or time is up.
async fn wait(api: &Api, id: &str, until: Instant) -> anyhow::Result<()> {
    let path = format!("/api/revocations/{}?limit=1", plain(id)?);
    let mut told = String::new();
    loop {
        let batch = api.call(Method::GET, &path, None).await?;
        let line = counts(&batch);
        if line != told {
            progress(&line);
            told = line;
        }
        if batch["state"] == "closed" || Instant::now() >= until {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What the exit code says of it.
fn outcome(batch: &Value) -> anyhow::Result<()> {
    let id = text(batch, "id");
    let count = |name: &str| batch["counts"][name].as_u64().unwrap_or(0);
    if batch["state"] != "closed" {
        let text = format!(
            "{} are not confirmed yet; their providers are asked for a week: keystead revoke show {id}",
            count("pending")
        );
        return Err(Exit(6, text).into());
    }
    let left = count("unsupported") + count("failed");
    if left > 0 {
        bail!(
            "{left} are left for a person: the pages are named above; keystead revoke receipt {id}"
        );
    }
    Ok(())
}

/// A batch with all of its grants.
async fn whole(api: &Api, id: &str) -> anyhow::Result<Value> {
    let path = format!("/api/revocations/{}?limit=200", plain(id)?);
    let mut batch = api.call(Method::GET, &path, None).await?;
    let mut next = batch["next"].take();
    while let Some(after) = next.as_str() {
        let mut page = api
            .call(Method::GET, &format!("{path}&after={after}"), None)
            .await?;
        next = page["next"].take();
        if let (Some(all), Some(more)) = (batch["data"].as_array_mut(), page["data"].as_array_mut())
        {
            all.append(more);
        }
    }
    Ok(batch)
}

async fn list(api: &Api, as_json: bool) -> anyhow::Result<()> {
    let mut after = String::new();
    loop {
        let path = format!("/api/revocations?limit=200{after}");
        let page = api.call(Method::GET, &path, None).await?;
        for batch in page["data"].as_array().into_iter().flatten() {
            if as_json {
                say(batch);
            } else {
                say(format_args!(
                    "{}  {}  {}",
                    text(batch, "id"),
                    text(batch, "created_at"),
                    counts(batch)
                ));
            }
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(()),
        }
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

fn counts(batch: &Value) -> String {
    let count = |name: &str| batch["counts"][name].as_u64().unwrap_or(0);
    format!(
        "{}: {} in all, {} confirmed, {} pending, {} unsupported, {} failed",
        text(batch, "state"),
        batch["total"].as_u64().unwrap_or(0),
        count("confirmed"),
        count("pending"),
        count("unsupported"),
        count("failed"),
    )
}

fn preview(answer: &Value, as_json: bool) {
    if as_json {
        say(answer);
        return;
    }
    let all = answer["data"].as_array().map_or(&[][..], Vec::as_slice);
    for one in all {
        say(format_args!(
            "{}  {}  {:16}  {}",
            text(one, "integration"),
            text(one, "tenant"),
            text(one, "provider"),
            text(one, "name")
        ));
    }
    let total = answer["total"].as_u64().unwrap_or(0);
    let more = total.saturating_sub(all.len() as u64);
    if more > 0 {
        say(format_args!("… and {more} more"));
    }
    say(format_args!(
        "{total} would be put out of use and taken back; nothing was changed"
    ));
}

fn show(batch: &Value, as_json: bool) {
    if as_json {
        say(batch);
        return;
    }
    for one in batch["data"].as_array().into_iter().flatten() {
        let mut line = format!(
            "{:11}  {}  {:16}  {}",
            text(one, "state"),
            text(one, "integration"),
            text(one, "provider"),
            text(one, "name")
        );
        let page = match text(one, "state") {
            "confirmed" => "",
            _ => text(one, "manual_url"),
        };
        for part in [text(one, "detail"), page] {
            if !part.is_empty() {
                line.push_str("  ");
                line.push_str(part);
            }
        }
        say(line);
    }
    say(counts(batch));
}

/// Checks a receipt, and says what it says.
fn verify(file: &Path, key: &str, as_json: bool) -> anyhow::Result<()> {
    let key: VerifierKey = key
        .parse()
        .map_err(|fault| usage(format!("--key: {fault}")))?;
    let note = std::fs::read_to_string(file)
        .with_context(|| format!("{} cannot be read", file.display()))?;
    let receipt = RevocationReceipt::parse_signed(&note, &key).with_context(|| {
        format!(
            "{} is not a receipt of a revocation that was signed by that key",
            file.display()
        )
    })?;
    let count = |state| receipt.count(state);
    let (confirmed, unsupported, failed) = (
        count(Settled::Confirmed),
        count(Settled::Unsupported),
        count(Settled::Failed),
    );
    if as_json {
        say(
            json!({"batch": receipt.batch, "origin": receipt.origin, "asked_by": receipt.asked_by, "created_at": receipt.created_at,
            "closed_at": receipt.closed_at, "selection": receipt.selection, "total": receipt.items.len(), "confirmed": confirmed,
            "unsupported": unsupported, "failed": failed}),
        );
        return Ok(());
    }
    say(format_args!(
        "{}, signed by {}: {} in all, {confirmed} confirmed, {unsupported} unsupported, {failed} failed; asked for by {} at {}, closed at {}",
        receipt.batch,
        receipt.origin,
        receipt.items.len(),
        receipt.asked_by,
        receipt.created_at,
        receipt.closed_at
    ));
    Ok(())
}
