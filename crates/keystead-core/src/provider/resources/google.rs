//! Google Cloud: access tokens of a service account, with no more scopes than its settings have.

use http::Method;
use serde_json::json;

use super::ask::Wanted;
use super::errand::{Answer, Asking};
use super::{Errand, Issued, Listed, Resource, ResourceFault, UNCLEAR, open_field, words};
use crate::provider::ProviderRequest;
use crate::provider::config::Config;
use crate::provider::mint::{MintedToken, mint_scoped, read_token_response};
use crate::provider::model::Provider;
use crate::provider::oauth::Json;

const KEY: &str = "access-token";

/// The scopes that are asked for.
pub(super) fn read(
    provider: &Provider,
    config: &Config,
    key: &str,
    wanted: Wanted,
) -> Result<Vec<String>, ResourceFault> {
    if key != KEY {
        return Err(ResourceFault::NotFound);
    }
    wanted.check(&[KEY], &["scopes"])?;
    let own = words(provider, config, "scopes");
    let Some(mut asked) = wanted.scopes else {
        return Ok(own.into_iter().map(str::to_owned).collect());
    };
    if asked.is_empty() || asked.iter().any(|scope| !own.contains(&scope.as_str())) {
        let message = format!("must be some of the integration's own: {}", own.join(" "));
        return Err(ResourceFault::field("scopes", message));
    }
    asked.sort_unstable();
    asked.dedup();
    Ok(asked)
}

/// The one that there is; nobody is called.
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
        let account = open_field(asking, "client_email").unwrap_or("service account");
        let scopes = words(asking.provider, asking.config, "scopes");
        let subject = asking.config.value(asking.provider, "subject");
        Ok(Listed {
            data: vec![Resource {
                key: KEY.to_owned(),
                kind: "google_access_token",
                name: account.to_owned(),
                status: "available".to_owned(),
                region: None,
                details: json!({
                    "project": open_field(asking, "project_id"),
                    "scopes": scopes,
                    "subject": subject,
                }),
            }],
            next: None,
        })
    }
}

/// Has an access token made.
pub(super) struct Issuing {
    scope: String,
    token: Option<MintedToken>,
}

impl Issuing {
    pub(super) fn new(scopes: Vec<String>) -> Issuing {
        Issuing {
            scope: scopes.join(" "),
            token: None,
        }
    }
}

impl Errand for Issuing {
    type Gives = Issued;

    fn next(&mut self, asking: &Asking<'_>) -> Result<Option<ProviderRequest>, ResourceFault> {
        if self.token.is_some() {
            return Ok(None);
        }
        let Asking {
            provider,
            config,
            fields,
            now,
        } = *asking;
        let subject = config.value(provider, "subject");
        let ask = mint_scoped(provider, fields, config, &self.scope, subject, now)
            .map_err(|fault| ResourceFault::Refused(fault.to_string()))?;
        Ok(Some(ProviderRequest {
            destination: ask.destination,
            method: Method::POST,
            path: ask.path,
            headers: ask.headers,
            body: ask.body,
        }))
    }

    fn take(&mut self, asking: &Asking<'_>, answer: &Answer<'_>) -> Result<(), ResourceFault> {
        if answer.status != 200 {
            let needs = "to act for the user that the settings name, or one of the scopes";
            return Err(asking.refusal(answer, needs));
        }
        let mode = asking.fields.mode(asking.provider);
        let test = mode.and_then(|mode| asking.provider.test_of(mode));
        let test = test.ok_or(UNCLEAR)?;
        let token = read_token_response(test, answer.status, answer.body, asking.now);
        self.token = Some(token.map_err(|_| UNCLEAR)?);
        Ok(())
    }

    fn finish(self: Box<Self>, _: &Asking<'_>) -> Result<Issued, ResourceFault> {
        let token = self.token.ok_or(UNCLEAR)?;
        Ok(Issued {
            kind: KEY,
            credentials: Json::object([
                ("access_token", Json::text(token.expose())),
                ("token_type", Json::text("Bearer")),
                ("scopes", Json::list(self.scope.split(' '))),
            ]),
            expires_at: Some(token.expires_at),
        })
    }
}
