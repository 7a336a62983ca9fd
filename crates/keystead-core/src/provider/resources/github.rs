//! A GitHub App: its installations, their repositories, and tokens for as little as is asked for.
//!
//! What always holds: where the settings name an installation, there is no other; a page is
//! followed by its number, and only where its link leads to the provider's own host; a token that
//! is wider than what was asked for is not handed out.

use std::collections::BTreeMap;

use http::Method;
use http::header::LINK;
use serde_json::{Map, Value, json};

use super::ask::Wanted;
use super::errand::{Answer, Asking};
use super::{Errand, Issued, Listed, Resource, ResourceFault, UNCLEAR};
use crate::placement::Material;
use crate::provider::config::Config;
use crate::provider::mint::{MintedToken, app_token, read_token_response};
use crate::provider::model::Provider;
use crate::provider::oauth::Json;
use crate::provider::{FieldFault, ProviderRequest, body};
use crate::time::Time;

/// The most pages that a list is believed to have.
pub(super) const PAGES_MOST: u32 = 1000;
/// Pages of a hundred that are followed for one part of the list.
const PAGES_AT_ONCE: u32 = 10;
const INSTALLATION: &str = "installation_id";
const LIVE: &str = "an installation that is not suspended";

/// What is asked of an installation.
pub struct GithubAsk {
    pub(super) key: String,
    installation: String,
    repository: Option<u64>,
    repositories: Vec<String>,
    permissions: BTreeMap<String, String>,
}

pub(super) fn read(
    provider: &Provider,
    config: &Config,
    key: &str,
    wanted: Wanted,
) -> Result<GithubAsk, ResourceFault> {
    let number = |text: &str| {
        let digits = (1..=19).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<u64>().ok()).flatten()
    };
    let own = config.value(provider, INSTALLATION);
    let (installation, repository) = match key.split_once('/') {
        Some(("installation", id)) if number(id).is_some() => {
            (own.is_none_or(|own| own == id).then_some(id), None)
        }
        // Which installation's it is, only the settings say.
        Some(("repository", id)) => (own.filter(|_| number(id).is_some()), number(id)),
        _ => (None, None),
    };
    let installation = installation.ok_or(ResourceFault::NotFound)?.to_owned();
    let takes: &[&str] = match repository {
        None => &["repositories", "permissions"],
        Some(_) => &["permissions"],
    };
    wanted.check(&["installation-token"], takes)?;
    let mut faults = Vec::new();
    let mut fault = |path: &str, message: &str| {
        faults.push(FieldFault {
            path: path.to_owned(),
            message: message.to_owned(),
        });
    };
    let name = |text: &String| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        (1..=100).contains(&text.len()) && text.bytes().all(plain)
    };
    if let Some(names) = &wanted.repositories
        && !((1..=500).contains(&names.len()) && names.iter().all(name))
    {
        fault(
            "repositories",
            "must be 1 to 500 names of repositories, without their owner",
        );
    }
    let area = |text: &String| {
        (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    };
    let level = |text: &String| ["read", "write", "admin"].contains(&text.as_str());
    if let Some(asked) = &wanted.permissions
        && (asked.is_empty() || !asked.iter().all(|(name, value)| area(name) && level(value)))
    {
        fault(
            "permissions",
            "must be areas with `read`, `write` or `admin`, such as {\"contents\": \"read\"}",
        );
    }
    if !faults.is_empty() {
        return Err(ResourceFault::Invalid(faults));
    }
    Ok(GithubAsk {
        key: key.to_owned(),
        installation,
        repository,
        repositories: wanted.repositories.unwrap_or_default(),
        permissions: wanted.permissions.unwrap_or_default(),
    })
}

/// A call as the app itself.
fn as_app(
    asking: &Asking<'_>,
    method: Method,
    target: &str,
    body: Option<&Json>,
) -> Result<ProviderRequest, ResourceFault> {
    let token = app_token(asking.fields, asking.now)
        .map_err(|fault| ResourceFault::Refused(fault.to_string()))?;
    let body = body.map(|json| ("application/json", body::json(json)));
    asking.call_with(Material::Token(&token), method, target, body)
}

fn read_token(asking: &Asking<'_>, answer: &Answer<'_>) -> Result<MintedToken, ResourceFault> {
    if answer.status != 201 {
        return Err(asking.refusal(answer, LIVE));
    }
    let mode = asking.fields.mode(asking.provider);
    let test = mode.and_then(|mode| asking.provider.test_of(mode));
    let token = read_token_response(test.ok_or(UNCLEAR)?, 201, answer.body, asking.now);
    token.map_err(|_| UNCLEAR)
}

/// The number of the next page, where there is one.
fn next_page(
    asking: &Asking<'_>,
    answer: &Answer<'_>,
    page: u32,
) -> Result<Option<u32>, ResourceFault> {
    let Some(links) = answer.headers.get(LINK) else {
        return Ok(None);
    };
    let links = links.to_str().map_err(|_| UNCLEAR)?;
    let next = links.split(',').find_map(|link| {
        let (url, rel) = link.trim().strip_prefix('<')?.split_once('>')?;
        rel.contains("rel=\"next\"").then_some(url)
    });
    let Some(next) = next else {
        return Ok(None);
    };
    let url = url::Url::parse(next).map_err(|_| UNCLEAR)?;
    let home = asking.provider.destination_of(asking.config, None);
    let home = home.map_err(|_| UNCLEAR)?;
    let origin = url.origin().ascii_serialization();
    // By its name, or by where it is dialled.
    let own = origin == format!("https://{}", home.logical_host)
        || origin == home.dial.origin().trim_end_matches('/');
    if !own || !url.username().is_empty() || url.password().is_some() {
        return Err(ResourceFault::Unclear(
            "its list goes on at another host, which is not followed",
        ));
    }
    let named = url.query_pairs().find(|(name, _)| name == "page");
    let named = named.and_then(|(_, value)| value.parse().ok());
    match named {
        Some(next) if next == page + 1 && next <= PAGES_MOST => Ok(Some(next)),
        _ => Err(UNCLEAR),
    }
}

/// Lists installations; where the settings name one, that one and its repositories.
pub(super) struct Listing {
    only: Option<String>,
    first: bool,
    page: u32,
    left: u32,
    more: bool,
    suspended: bool,
    token: Option<MintedToken>,
    found: Vec<Resource>,
}

impl Listing {
    pub(super) fn new(provider: &Provider, config: &Config, page: u32) -> Listing {
        Listing {
            only: config.value(provider, INSTALLATION).map(str::to_owned),
            // A further part begins with repositories.
            first: page == 1,
            page,
            left: PAGES_AT_ONCE,
            more: true,
            suspended: false,
            token: None,
            found: Vec::new(),
        }
    }

    fn paged(&mut self, next: Option<u32>) {
        self.left -= 1;
        match next {
            Some(next) => self.page = next,
            None => self.more = false,
        }
    }
}

impl Errand for Listing {
    type Gives = Listed;

    fn next(&mut self, asking: &Asking<'_>) -> Result<Option<ProviderRequest>, ResourceFault> {
        if !self.more || self.left == 0 || self.suspended {
            return Ok(None);
        }
        let page = self.page;
        let call = match (&self.only, &self.token) {
            (None, _) => {
                let target = format!("/app/installations?per_page=100&page={page}");
                as_app(asking, Method::GET, &target, None)
            }
            (Some(id), _) if self.first => {
                let target = format!("/app/installations/{id}");
                as_app(asking, Method::GET, &target, None)
            }
            (Some(id), None) => {
                let target = format!("/app/installations/{id}/access_tokens");
                let least = Json::object([("metadata", Json::text("read"))]);
                let ask = Json::object([("permissions", least)]);
                as_app(asking, Method::POST, &target, Some(&ask))
            }
            (Some(_), Some(token)) => {
                let target = format!("/installation/repositories?per_page=100&page={page}");
                asking.call_with(Material::Token(token), Method::GET, &target, None)
            }
        };
        call.map(Some)
    }

    fn take(&mut self, asking: &Asking<'_>, answer: &Answer<'_>) -> Result<(), ResourceFault> {
        if self.only.is_none() {
            let Json::List(rows) = asking.json(answer, 200, LIVE)? else {
                return Err(UNCLEAR);
            };
            self.found.extend(rows.iter().filter_map(installation));
            let next = next_page(asking, answer, self.page)?;
            self.paged(next);
        } else if self.first {
            let own = asking.json(answer, 200, LIVE)?;
            let own = installation(&own).ok_or(UNCLEAR)?;
            self.suspended = own.status != "active";
            self.found.push(own);
            self.first = false;
        } else if self.token.is_none() {
            self.token = Some(read_token(asking, answer)?);
        } else {
            let page = asking.json(answer, 200, "metadata:read")?;
            let Some(Json::List(rows)) = page.at("/repositories") else {
                return Err(UNCLEAR);
            };
            self.found.extend(rows.iter().filter_map(repository));
            let next = next_page(asking, answer, self.page)?;
            self.paged(next);
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _: &Asking<'_>) -> Result<Listed, ResourceFault> {
        let more = self.more && !self.suspended;
        Ok(Listed {
            data: self.found,
            next: more.then(|| self.page.to_string()),
        })
    }
}

fn installation(row: &Json) -> Option<Resource> {
    let text = |pointer: &str| row.at(pointer).and_then(Json::as_text);
    let id = row.at("/id").and_then(Json::as_u64)?;
    let suspended = row.at("/suspended_at").is_some();
    Some(Resource {
        key: format!("installation/{id}"),
        kind: "github_installation",
        name: text("/account/login").unwrap_or_default().to_owned(),
        status: if suspended { "suspended" } else { "active" }.to_owned(),
        region: None,
        details: json!({
            "account_type": text("/account/type"),
            "permissions": permissions(row),
            "repository_selection": text("/repository_selection"),
        }),
    })
}

fn repository(row: &Json) -> Option<Resource> {
    let text = |pointer: &str| row.at(pointer).and_then(Json::as_text);
    let flag = |pointer: &str| matches!(row.at(pointer), Some(Json::Bool(true)));
    let id = row.at("/id").and_then(Json::as_u64)?;
    let archived = flag("/archived");
    Some(Resource {
        key: format!("repository/{id}"),
        kind: "github_repository",
        name: text("/full_name").unwrap_or_default().to_owned(),
        status: if archived { "archived" } else { "active" }.to_owned(),
        region: None,
        details: json!({
            "default_branch": text("/default_branch"),
            "private": flag("/private"),
        }),
    })
}

/// What a token or an installation may do, by area.
fn permissions(row: &Json) -> Map<String, Value> {
    let Some(Json::Object(members)) = row.at("/permissions") else {
        return Map::new();
    };
    let member = |(name, value): &(String, Json)| Some((name.clone(), value.as_text()?.into()));
    members.iter().filter_map(member).collect()
}

/// Has an installation token made.
pub(super) struct Issuing {
    ask: GithubAsk,
    made: Option<(Json, Time)>,
}

impl Issuing {
    pub(super) fn new(ask: GithubAsk) -> Issuing {
        Issuing { ask, made: None }
    }

    fn narrowed(&self) -> bool {
        self.ask.repository.is_some() || !self.ask.repositories.is_empty()
    }

    fn body(&self) -> Json {
        let mut members = Vec::new();
        if let Some(id) = self.ask.repository {
            let ids = Json::List(vec![Json::Number(id.into())]);
            members.push(("repository_ids", ids));
        }
        if !self.ask.repositories.is_empty() {
            let names = self.ask.repositories.iter().map(String::as_str);
            members.push(("repositories", Json::list(names)));
        }
        if !self.ask.permissions.is_empty() {
            let asked = self.ask.permissions.iter();
            let asked = asked.map(|(name, value)| (name.as_str(), Json::text(value)));
            members.push(("permissions", Json::object(asked)));
        }
        Json::object(members)
    }
}

impl Errand for Issuing {
    type Gives = Issued;

    fn next(&mut self, asking: &Asking<'_>) -> Result<Option<ProviderRequest>, ResourceFault> {
        if self.made.is_some() {
            return Ok(None);
        }
        let id = &self.ask.installation;
        let target = format!("/app/installations/{id}/access_tokens");
        as_app(asking, Method::POST, &target, Some(&self.body())).map(Some)
    }

    fn take(&mut self, asking: &Asking<'_>, answer: &Answer<'_>) -> Result<(), ResourceFault> {
        if answer.status == 422 {
            if self.ask.repository.is_some() && self.ask.permissions.is_empty() {
                return Err(ResourceFault::NotFound);
            }
            let asked = [
                ("repositories", !self.ask.repositories.is_empty()),
                ("permissions", !self.ask.permissions.is_empty()),
            ];
            let faults = asked.into_iter().filter(|(_, asked)| *asked);
            let faults = faults.map(|(path, _)| FieldFault {
                path: path.to_owned(),
                message: "GitHub refuses what was asked for: the installation has less".to_owned(),
            });
            return Err(ResourceFault::Invalid(faults.collect()));
        }
        let token = read_token(asking, answer)?;
        let json = Json::read(answer.body).ok_or(UNCLEAR)?;
        let selection = json.at("/repository_selection").and_then(Json::as_text);
        if self.narrowed() && selection == Some("all") {
            return Err(ResourceFault::Unclear(
                "it made a wider token than was asked for, which was dropped",
            ));
        }
        let granted = permissions(&json);
        let granted = granted.iter().filter_map(|(name, value)| {
            let value = Json::text(value.as_str()?);
            Some((name.as_str(), value))
        });
        let granted = Json::object(granted);
        let mut made = vec![
            ("token", Json::text(token.expose())),
            ("token_type", Json::text("Bearer")),
            ("permissions", granted),
        ];
        made.extend(selection.map(|text| ("repository_selection", Json::text(text))));
        if let Some(Json::List(rows)) = json.at("/repositories") {
            let name = |row: &Json| row.at("/full_name").and_then(Json::as_text).map(Json::text);
            let names = Json::List(rows.iter().filter_map(name).collect());
            made.push(("repositories", names));
        }
        self.made = Some((Json::object(made), token.expires_at));
        Ok(())
    }

    fn finish(self: Box<Self>, _: &Asking<'_>) -> Result<Issued, ResourceFault> {
        let (credentials, ends) = self.made.ok_or(UNCLEAR)?;
        Ok(Issued {
            kind: "installation-token",
            credentials,
            expires_at: Some(ends),
        })
    }
}
