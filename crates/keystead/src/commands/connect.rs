//! `keystead connect`, over the API: an account of the person's at a provider, from a terminal.
//!
//! What always holds: it works on a machine without a browser, by a code to type elsewhere where the
//! provider has that, else by a link; what to do is told before anything is waited for.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use http::Method;
use serde_json::{Value, json};

use super::{Exit, usage};
use crate::api::{Api, Refused};
use crate::cli::Connect;
use crate::logs::{say, tell};

/// Between two looks at whether a link was used.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// No longer is waited for a person; a link and most codes are over by then.
const WAIT_MOST: Duration = Duration::from_secs(30 * 60);
/// A server that did not answer so often, one time after the other, is not waited for.
const SILENT_MOST: u32 = 5;
/// For the first trial of what was connected.
const TRIAL_MOST: Duration = Duration::from_secs(30);

pub(super) async fn run(command: Connect) -> anyhow::Result<()> {
    let api = Api::of_person(command.url.as_deref(), command.tenant.as_deref())?;
    let provider = &command.provider;
    if !provider
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    {
        return Err(usage(format!("{provider:?} is no provider's id")));
    }
    let new = match &command.name {
        Some(name) => json!({"name": name}),
        None => json!({}),
    };
    let path = format!("/api/oauth/{provider}/device");
    let integration = match api.call(Method::POST, &path, Some(&new)).await {
        Ok(device) => by_device(&api, &command, &device).await?,
        Err(fault) if wants_link(&fault) => by_link(&api, &command).await?,
        Err(fault) => return Err(fault),
    };
    let integration = tried(&api, integration).await?;
    let text = |name: &str| integration[name].as_str().unwrap_or_default().to_owned();
    if command.json {
        say(&integration);
    } else {
        say(format_args!(
            "{}  {}  {}",
            text("id"),
            text("status"),
            text("name")
        ));
    }
    match text("status").as_str() {
        "connected" => Ok(()),
        "verifying" => Err(Exit(
            6,
            "it is connected, and not tried yet: look again with keystead integrations list"
                .to_owned(),
        )
        .into()),
        _ => Err(Exit(1, format!("it is not usable: {}", text("error_message"))).into()),
    }
}

/// Whether the provider is connected on a page only.
fn wants_link(fault: &anyhow::Error) -> bool {
    let refused = fault.downcast_ref::<Refused>();
    refused.is_some_and(|refused| {
        matches!(refused.code.as_deref(), Some("no_device_flow" | "no_oauth"))
    })
}

/// A code is typed on another device; the server is asked until it was.
async fn by_device(api: &Api, command: &Connect, device: &Value) -> anyhow::Result<Value> {
    let text = |name: &str| device[name].as_str().unwrap_or_default();
    let page = text("verification_uri");
    show(
        command,
        device,
        format_args!(
            "Open {page} in any browser and type the code {}",
            text("user_code")
        ),
    );
    open(
        command,
        device["verification_uri_complete"].as_str().unwrap_or(page),
    );
    let path = format!("/api/oauth/device/{}", text("id"));
    let mut wait = device["interval"].as_u64().unwrap_or(5);
    let polling = async {
        let mut trouble = Trouble::default();
        loop {
            tokio::time::sleep(Duration::from_secs(wait)).await;
            let polled = match api.call(Method::POST, &path, None).await {
                Ok(polled) => polled,
                Err(fault) if trouble.may_pass(&fault) => continue,
                Err(fault) => return Err(fault),
            };
            trouble = Trouble::default();
            match polled["status"].as_str() {
                Some("completed") => return Ok(polled["integration"].clone()),
                _ => wait = polled["interval"].as_u64().unwrap_or(wait),
            }
        }
    };
    tokio::time::timeout(WAIT_MOST, polling)
        .await
        .unwrap_or_else(|_| Err(late()))
}

/// A page of Keystead's is opened wherever there is a browser; the tenant's integrations are looked
/// at until one of that provider is new, or was authorised anew.
async fn by_link(api: &Api, command: &Connect) -> anyhow::Result<Value> {
    let before = versions(&listed(api, &command.provider).await?);
    let ask = json!({"providers": [command.provider]});
    let link = api
        .call(Method::POST, "/api/connect-sessions", Some(&ask))
        .await?;
    let url = link["url"]
        .as_str()
        .context("a connect session without a URL")?;
    show(
        command,
        &link,
        format_args!("Open this link in any browser, within half an hour:\n\n  {url}\n"),
    );
    open(command, url);
    let looking = async {
        let mut trouble = Trouble::default();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let all = match listed(api, &command.provider).await {
                Ok(all) => all,
                Err(fault) if trouble.may_pass(&fault) => continue,
                Err(fault) => return Err(fault),
            };
            trouble = Trouble::default();
            let now = versions(&all);
            let is_new = |one: &&Value| {
                let id = one["id"].as_str().unwrap_or_default();
                // An app of one's own is there before the consent that it is for.
                one["status"] != "reauthorize" && before.get(id) != now.get(id)
            };
            if let Some(one) = all.iter().find(is_new) {
                return Ok(one.clone());
            }
        }
    };
    tokio::time::timeout(WAIT_MOST, looking)
        .await
        .unwrap_or_else(|_| Err(late()))
}

fn late() -> anyhow::Error {
    Exit(1, "nobody connected it in time: begin again".to_owned()).into()
}

/// What went wrong since a look that did not.
#[derive(Default)]
struct Trouble {
    silent: u32,
}

impl Trouble {
    /// Whether the next look may go better.
    fn may_pass(&mut self, fault: &anyhow::Error) -> bool {
        let Some(refused) = fault.downcast_ref::<Refused>() else {
            return false;
        };
        if refused.status == 503 && refused.code.is_none() {
            self.silent += 1;
            if self.silent == 1 {
                tell("The server does not answer; looking again …");
            }
            return self.silent < SILENT_MOST;
        }
        refused.code.as_deref() != Some("provider_answer_unusable")
            && matches!(refused.status, 429 | 502..=504)
    }
}

async fn listed(api: &Api, provider: &str) -> anyhow::Result<Vec<Value>> {
    let path = format!("/api/integrations?limit=200&type={provider}");
    let mut page = api.call(Method::GET, &path, None).await?;
    Ok(match page["data"].take() {
        Value::Array(all) => all,
        _ => Vec::new(),
    })
}

/// The credential version of each, by id.
fn versions(all: &[Value]) -> BTreeMap<String, u64> {
    let version = |one: &Value| {
        let id = one["id"].as_str()?.to_owned();
        Some((id, one["credential_version"].as_u64()?))
    };
    all.iter().filter_map(version).collect()
}

/// Waits for the first trial to end.
async fn tried(api: &Api, mut integration: Value) -> anyhow::Result<Value> {
    let path = format!(
        "/api/integrations/{}",
        integration["id"].as_str().unwrap_or_default()
    );
    let trial = async {
        while integration["status"] == "verifying" {
            tokio::time::sleep(Duration::from_millis(200)).await;
            integration = api.call(Method::GET, &path, None).await?;
        }
        anyhow::Ok(())
    };
    if let Ok(ended) = tokio::time::timeout(TRIAL_MOST, trial).await {
        ended?;
    }
    Ok(integration)
}

/// Says what to do: to a person, and to a program that asked for JSON.
fn show(command: &Connect, what: &Value, text: std::fmt::Arguments<'_>) {
    if command.json {
        say(what);
    } else {
        tell(text);
        tell("Waiting until it is connected (Ctrl-C ends the wait) …");
    }
}

/// Opens the person's browser, where there is one to see. Whether it opens or not, the text is there.
#[allow(clippy::disallowed_methods)] // whether there is a display
fn open(command: &Connect, url: &str) {
    let display = |name| std::env::var_os(name).is_some();
    let program = if cfg!(target_os = "macos") {
        "open"
    } else if display("DISPLAY") || display("WAYLAND_DISPLAY") {
        "xdg-open"
    } else {
        return;
    };
    if command.no_browser || command.json || !url.starts_with("http") {
        return;
    }
    let quiet = Command::new(program)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if quiet.is_err() {
        tell("No browser could be opened here: open it elsewhere.");
    }
}
