//! AWS: temporary keys, of the key's own user or of a role that the settings name.
//!
//! What always holds: a role is one that the integration's setting names, letter by letter.

use http::Method;
use serde_json::json;

use super::ask::Wanted;
use super::errand::{Answer, Asking};
use super::{Errand, Issued, Listed, Resource, ResourceFault, UNCLEAR, words};
use crate::provider::config::Config;
use crate::provider::model::Provider;
use crate::provider::oauth::Json;
use crate::provider::{ProviderRequest, body};
use crate::time::Time;

const SHORTEST: u32 = 900;
const LONGEST_SESSION: u32 = 129_600;
const LONGEST_ROLE: u32 = 43_200;

/// What is asked of AWS.
pub struct AwsAsk {
    pub(super) role: Option<String>,
    lifetime: u32,
}

pub(super) fn read(
    provider: &Provider,
    config: &Config,
    key: &str,
    wanted: Wanted,
) -> Result<AwsAsk, ResourceFault> {
    let role = match key {
        "session" => None,
        _ => {
            let asked = key.strip_prefix("role/").ok_or(ResourceFault::NotFound)?;
            let named = words(provider, config, "roles");
            let own = named.into_iter().find(|role| *role == asked);
            Some(own.ok_or(ResourceFault::NotFound)?.to_owned())
        }
    };
    let (kind, longest, usual) = match role {
        None => ("session", LONGEST_SESSION, LONGEST_ROLE),
        Some(_) => ("role", LONGEST_ROLE, 3600),
    };
    wanted.check(&[kind], &["lifetime_seconds"])?;
    let lifetime = wanted.lifetime_seconds.unwrap_or(usual);
    if !(SHORTEST..=longest).contains(&lifetime) {
        let message = format!("must be {SHORTEST} to {longest} seconds");
        return Err(ResourceFault::field("lifetime_seconds", message));
    }
    Ok(AwsAsk { role, lifetime })
}

/// Lists what can be asked for, from the settings: nobody is called.
pub(super) struct Listing;

impl Errand for Listing {
    type Gives = Listed;

    fn next(&mut self, _: &Asking<'_>) -> Result<Option<ProviderRequest>, ResourceFault> {
        Ok(None)
    }

    fn take(&mut self, _: &Asking<'_>, _: &Answer<'_>) -> Result<(), ResourceFault> {
        Ok(())
    }

    fn finish(self: Box<Self>, asking: &Asking<'_>) -> Result<Listed, ResourceFault> {
        let region = asking.config.value(asking.provider, "region");
        let resource = |key: String, kind, name: &str, details| Resource {
            key,
            kind,
            name: name.to_owned(),
            status: "available".to_owned(),
            region: region.map(str::to_owned),
            details,
        };
        let mut data = Vec::new();
        // Temporary keys get no session.
        if asking.fields.get("session_token").is_none() {
            let name = "temporary keys of the user";
            let details = json!({"longest_seconds": LONGEST_SESSION});
            data.push(resource("session".to_owned(), "aws_session", name, details));
        }
        for arn in words(asking.provider, asking.config, "roles") {
            let name = arn.rsplit('/').next().unwrap_or(arn);
            let details = json!({
                "arn": arn, "account": arn.split(':').nth(4), "longest_seconds": LONGEST_ROLE,
            });
            data.push(resource(format!("role/{arn}"), "aws_role", name, details));
        }
        Ok(Listed { data, next: None })
    }
}

/// Has temporary keys made.
pub(super) struct Issuing {
    ask: AwsAsk,
    mark: String,
    keys: Option<(Json, Time)>,
}

impl Issuing {
    /// `mark` is the session's name in the account's trail.
    pub(super) fn new(ask: AwsAsk, mark: String) -> Issuing {
        Issuing {
            ask,
            mark,
            keys: None,
        }
    }

    fn needs(&self) -> &'static str {
        match self.ask.role {
            None => "sts:GetSessionToken",
            Some(_) => "sts:AssumeRole (and the role has to trust the key's user)",
        }
    }
}

impl Errand for Issuing {
    type Gives = Issued;

    fn next(&mut self, asking: &Asking<'_>) -> Result<Option<ProviderRequest>, ResourceFault> {
        if self.keys.is_some() {
            return Ok(None);
        }
        if self.ask.role.is_none() && asking.fields.get("session_token").is_some() {
            return Err(ResourceFault::State(
                "temporary_key",
                "AWS gives temporary keys no session: use them as they are, or put a lasting key into the integration".to_owned(),
            ));
        }
        let lifetime = self.ask.lifetime.to_string();
        let mut form = vec![
            ("DurationSeconds", lifetime.as_str()),
            ("Version", "2011-06-15"),
        ];
        match &self.ask.role {
            None => form.push(("Action", "GetSessionToken")),
            Some(arn) => form.extend([
                ("Action", "AssumeRole"),
                ("RoleArn", arn),
                ("RoleSessionName", &self.mark),
            ]),
        }
        let kind = "application/x-www-form-urlencoded; charset=utf-8";
        let call = asking.call(Method::POST, "/", Some((kind, body::form(&form))));
        call.map(Some)
    }

    fn take(&mut self, asking: &Asking<'_>, answer: &Answer<'_>) -> Result<(), ResourceFault> {
        let text = std::str::from_utf8(answer.body).map_err(|_| UNCLEAR)?;
        if answer.status != 200 {
            // A role has its own longest session, which only AWS knows.
            if answer.status == 400 && text.contains("DurationSeconds") {
                let message = "AWS refuses it: a role's own longest session may be shorter";
                return Err(ResourceFault::field("lifetime_seconds", message));
            }
            return Err(asking.refusal(answer, self.needs()));
        }
        let keys = element(text, "Credentials").ok_or(UNCLEAR)?;
        let value = |name: &str| {
            let value = element(keys, name)?;
            // None of them has to be escaped.
            let plain = |b: u8| b.is_ascii_graphic() && !b"<>&\"'".contains(&b);
            ((1..=4096).contains(&value.len()) && value.bytes().all(plain)).then_some(value)
        };
        let member = |name: &str| value(name).map(Json::text).ok_or(UNCLEAR);
        let ends = value("Expiration").and_then(Time::parse_rfc3339);
        let region = asking.config.value(asking.provider, "region");
        let keys = Json::object([
            ("access_key_id", member("AccessKeyId")?),
            ("secret_access_key", member("SecretAccessKey")?),
            ("session_token", member("SessionToken")?),
            ("region", region.map_or(Json::Null, Json::text)),
        ]);
        self.keys = Some((keys, ends.ok_or(UNCLEAR)?));
        Ok(())
    }

    fn finish(self: Box<Self>, _: &Asking<'_>) -> Result<Issued, ResourceFault> {
        let (credentials, ends) = self.keys.ok_or(UNCLEAR)?;
        Ok(Issued {
            kind: if self.ask.role.is_some() {
                "role"
            } else {
                "session"
            },
            credentials,
            expires_at: Some(ends),
        })
    }
}

/// What is between the element's only pair of tags, which have no attributes.
fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let (_, rest) = text.split_once(&open)?;
    let (inner, after) = rest.split_once(&close)?;
    (!inner.contains(&open) && !after.contains(&open)).then(|| inner.trim())
}
