//! Calls of the command line to a running Keystead, over the broker's own client.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{Method, Request, header};
use keystead_broker::net::{Client, ClientConfig, FetchLimits};
use keystead_core::egress::Guard;
use serde_json::Value;

use crate::commands::usage;

/// A server, and who asks it.
pub(crate) struct Api {
    client: Client,
    url: String,
    token: String,
    tenant: Option<String>,
}

/// The server said no; the text is what it says to do.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: u16,
    /// The problem's word for programs.
    pub(crate) code: Option<String>,
    text: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refused {}

impl Api {
    /// Whatever address the person named is where they want to go: nothing is guarded here.
    pub(crate) fn new(url: &str, token: &str, tenant: Option<&str>) -> anyhow::Result<Api> {
        let anywhere = ["0.0.0.0/0", "::/0"]
            .iter()
            .filter_map(|net| net.parse().ok())
            .collect();
        Ok(Api {
            client: Client::new(ClientConfig::new(Guard::new(anywhere)))?,
            url: url.trim_end_matches('/').to_owned(),
            token: token.to_owned(),
            tenant: tenant.map(str::to_owned),
        })
    }

    /// A server that a person named, asked with the token in their environment.
    #[allow(clippy::disallowed_methods)] // the one token that a person gives by a variable
    pub(crate) fn of_person(url: Option<&str>, tenant: Option<&str>) -> anyhow::Result<Api> {
        let token = std::env::var("KEYSTEAD_TOKEN")
            .map_err(|_| usage("set KEYSTEAD_TOKEN to a service key, an operator key or a JWT"))?;
        match url {
            Some(url) => Api::new(url, &token, tenant),
            None => Api::new(&configured_url()?, &token, tenant),
        }
    }

    /// The answer's status and body, whatever they are.
    pub(crate) async fn raw(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(u16, Bytes)> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token));
        if let Some(tenant) = &self.tenant {
            request = request.header("keystead-tenant", tenant);
        }
        let bytes = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        let request = request
            .body(bytes)
            .context("the URL or the token is malformed")?;
        let limits = FetchLimits {
            // The receipt of a large revocation; all else is small.
            max_body: 256 << 20,
            total: Duration::from_secs(60),
        };
        let answer = self
            .client
            .fetch(request, limits)
            .await
            .map_err(|fault| Refused {
                status: 503,
                code: None,
                text: format!("{} does not answer: {fault}", self.url),
            })?;
        Ok((answer.status().as_u16(), answer.into_body()))
    }

    /// The JSON of a successful answer; null where it has none.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let (status, bytes) = self.raw(method, path, body).await?;
        Ok(serde_json::from_slice(&taken(status, bytes)?).unwrap_or_default())
    }

    /// The text of a successful answer.
    pub(crate) async fn text(&self, path: &str) -> anyhow::Result<String> {
        let (status, bytes) = self.raw(Method::GET, path, None).await?;
        String::from_utf8(taken(status, bytes)?.to_vec()).context("the answer is no text")
    }
}

/// The body of a successful answer; of another, what it says to do.
fn taken(status: u16, bytes: Bytes) -> anyhow::Result<Bytes> {
    if (200..300).contains(&status) {
        return Ok(bytes);
    }
    let json: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let mut text = match json["detail"].as_str().or(json["title"].as_str()) {
        Some(said) => format!("{status}: {said}"),
        None => format!("the answer was {status}"),
    };
    for fault in json["errors"].as_array().into_iter().flatten() {
        let part = |name: &str| fault[name].as_str().unwrap_or_default().to_owned();
        text.push_str(&format!("\n  {}: {}", part("path"), part("message")));
    }
    let code = json["code"].as_str().map(str::to_owned);
    Err(Refused { status, code, text }.into())
}

/// The URL of the person's own settings. There is no default: a token is not sent to whatever
/// listens.
#[allow(clippy::disallowed_methods)] // where the home folder is
fn configured_url() -> anyhow::Result<String> {
    let missing = || {
        usage(
            "say where Keystead is: --url, KEYSTEAD_URL, or {\"url\": …} in ~/.config/keystead/config.json",
        )
    };
    let home = std::env::var_os("HOME").ok_or_else(missing)?;
    let path = PathBuf::from(home).join(".config/keystead/config.json");
    let text = std::fs::read_to_string(&path).map_err(|_| missing())?;
    let settings: Value = serde_json::from_str(&text)
        .map_err(|fault| usage(format!("{}: {fault}", path.display())))?;
    settings["url"]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(missing)
}
