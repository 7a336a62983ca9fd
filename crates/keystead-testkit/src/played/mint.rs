//! Where a credential buys a token: a JWT by RFC 7523, a client's credentials, or a GitHub App's.

use std::collections::BTreeMap;

use http::Method;
use keystead_core::provider::oauth::ClientAuth;
use keystead_core::provider::{Mint, Mode, Scope};
use serde_json::json;
use url::form_urlencoded;

use super::fill::{Spot, fill};
use super::judge::one;
use super::{Door, Heard, Outcome, Part, Reply, Served, Stage, Token, refused, sealed};

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

impl Stage {
    /// `None` where the call is for no mode's token endpoint.
    pub(super) fn mint(&self, heard: &Heard) -> Option<Outcome> {
        let at = |mode: &Mode| {
            let (url, ..) = parts(mode.mint.as_ref()?);
            let path = self.part.endpoint_path(mode, url)?;
            (heard.method == Method::POST && heard.target == path).then_some(())
        };
        let mut modes = self.part.provider.modes.iter();
        let mode = modes.find(|mode| at(mode).is_some())?;
        let mint = mode.mint.as_ref()?;
        let scope = match self.part.buys(mode, mint, heard) {
            Ok(scope) => scope,
            Err(reason) => return Some(refused(Door::Mint, 400, reason, heard.clone())),
        };
        let mut state = self.state();
        state.given_out += 1;
        let text = format!("canary-minted-{}-{}", mode.id, state.given_out);
        let token = Token {
            mode: mode.id.clone(),
            scope: scope.clone(),
        };
        state.tokens.insert(text.clone(), token);
        let reply = match mint {
            Mint::GithubApp { .. } => {
                let end = jiff::Timestamp::from_second(sealed::now_seconds() + 3600);
                let end = end.map(|end| end.to_string()).unwrap_or_default();
                Reply::json(201, &json!({"token": text, "expires_at": end}))
            }
            Mint::JwtBearer { .. } | Mint::ClientCredentials { .. } => Reply::json(
                200,
                &json!({"access_token": text, "expires_in": 3600, "token_type": "Bearer"}),
            ),
        };
        Some(Outcome {
            reply,
            served: Served {
                mode: Some(mode.id.clone()),
                scope: Some(scope),
                ..Served::right(Door::Mint, heard.clone())
            },
        })
    }
}

/// Address and scopes.
fn parts(mint: &Mint) -> (&str, &[Scope]) {
    match mint {
        Mint::JwtBearer { token_url, scopes }
        | Mint::GithubApp { token_url, scopes }
        | Mint::ClientCredentials {
            token_url, scopes, ..
        } => (token_url, scopes),
    }
}

impl Part {
    /// The scope that the request buys.
    fn buys(&self, mode: &Mode, mint: &Mint, heard: &Heard) -> Result<String, String> {
        let credential = self.credentials.get(&mode.id);
        let field = |name: &str| {
            let value = credential.and_then(|fields| fields.get(name));
            value
                .map(String::as_str)
                .ok_or(format!("no `{name}` is known"))
        };
        let (address, scopes) = parts(mint);
        let known: Vec<String> = scopes
            .iter()
            .filter_map(|s| self.filled(&s.scope))
            .collect();
        let scope = match mint {
            Mint::JwtBearer { .. } => {
                let form = only(heard, &[("grant_type", JWT_BEARER)], &["assertion"])?;
                without_header(heard)?;
                let claims = sealed::rs256(
                    &form["assertion"],
                    &sealed::Assertion {
                        issuer: field("client_email")?,
                        key_id: Some(field("private_key_id")?),
                        audience: Some(address),
                        subject: self.config.get("subject").map(String::as_str),
                        life: 3600,
                    },
                )?;
                claims["scope"].as_str().unwrap_or_default().to_owned()
            }
            Mint::ClientCredentials {
                client_id,
                client_secret,
                client_auth,
                grant_type,
                form,
                ..
            } => {
                let (id, secret) = (field(client_id)?, field(client_secret)?);
                let mut expected = vec![("grant_type", grant_type.as_str())];
                match client_auth {
                    ClientAuth::Body => {
                        expected.extend([("client_id", id), ("client_secret", secret)]);
                        without_header(heard)?;
                    }
                    ClientAuth::Basic if sealed::is_basic(heard, id, secret) => {}
                    ClientAuth::Basic => return Err("the client is not in `Basic`".to_owned()),
                    ClientAuth::None => return Err("nobody proves anything".to_owned()),
                }
                let own = form.iter().map(|(name, template)| {
                    let open = |name: &str| self.open_value(mode, name);
                    let value = fill(template, Spot::Plain, open);
                    Ok((
                        name.as_str(),
                        value.ok_or(format!("`{name}` has no value"))?,
                    ))
                });
                let own: Vec<(&str, String)> = own.collect::<Result<_, String>>()?;
                expected.extend(own.iter().map(|(name, value)| (*name, value.as_str())));
                let scoped = known.iter().any(|scope| !scope.is_empty());
                let free: &[&str] = if scoped { &["scope"] } else { &[] };
                let mut form = only(heard, &expected, free)?;
                form.remove("scope").unwrap_or_default()
            }
            Mint::GithubApp { .. } => {
                let bearer = one(&heard.headers, "authorization")?;
                let jwt = bearer.strip_prefix("Bearer ").ok_or("no bearer")?;
                sealed::rs256(
                    jwt,
                    &sealed::Assertion {
                        issuer: field("app_id")?,
                        key_id: None,
                        audience: None,
                        subject: None,
                        life: 600,
                    },
                )?;
                if !heard.body.is_empty() {
                    return Err("a body, and none is asked for".to_owned());
                }
                // The address names the installation.
                known.first().cloned().unwrap_or_default()
            }
        };
        if known.contains(&scope) {
            Ok(scope)
        } else {
            Err(format!("`{scope}` is no scope of this provider"))
        }
    }
}

fn without_header(heard: &Heard) -> Result<(), String> {
    if heard.headers.contains_key("authorization") {
        return Err("the client is in the body, and `authorization` is there too".to_owned());
    }
    Ok(())
}

/// A form with exactly these, and the free ones with any value.
fn only(
    heard: &Heard,
    expected: &[(&str, &str)],
    free: &[&str],
) -> Result<BTreeMap<String, String>, String> {
    let form = form(heard)?;
    for (name, value) in expected {
        if form.get(*name).map(String::as_str) != Some(value) {
            return Err(format!("`{name}` is missing or another"));
        }
    }
    if let Some(name) = free.iter().find(|name| !form.contains_key(**name)) {
        return Err(format!("`{name}` is missing"));
    }
    if form.len() != expected.len() + free.len() {
        return Err("the form has more".to_owned());
    }
    Ok(form)
}

/// The body as a form, each name once.
pub(super) fn form(heard: &Heard) -> Result<BTreeMap<String, String>, String> {
    let kind = one(&heard.headers, "content-type")?;
    if kind.split(';').next() != Some("application/x-www-form-urlencoded") {
        return Err(format!("a form, and no `{kind}`"));
    }
    let mut form = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(&heard.body).into_owned() {
        if form.insert(name.clone(), value).is_some() {
            return Err(format!("`{name}` is there twice"));
        }
    }
    Ok(form)
}
