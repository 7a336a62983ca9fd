//! What a provider file may say of OAuth.

use super::model::{API_HOST, ClientAuth, OAuth, RefreshClass};
use crate::provider::model::{Kind, Mode, Provider};
use crate::provider::parse::{Check, require};

/// Parameters that Keystead sets itself; `authorize_params` and `token_params` may not.
const OWN_PARAMS: [&str; 12] = [
    "assertion",
    "client_id",
    "client_secret",
    "code",
    "code_challenge",
    "code_challenge_method",
    "code_verifier",
    "device_code",
    "grant_type",
    "redirect_uri",
    "refresh_token",
    "state",
];
const MOST_LIFE: i64 = 366 * 86_400;

impl Provider {
    pub(in crate::provider) fn check_oauth(&self, key: &str, mode: &Mode) -> Check {
        let Some(oauth) = &mode.oauth else {
            return Ok(());
        };
        let key = &format!("{key}.oauth");
        let modes = self.modes.iter().filter(|mode| mode.oauth.is_some());
        require(
            modes.count() == 1,
            &format!("{key}: at most one mode has it; another kind of token is another provider"),
        )?;
        self.check_oauth_fields(key, mode, oauth)?;
        let device = oauth.device_url.as_deref();
        for (name, url) in [
            ("authorize_url", Some(oauth.authorize_url.as_str())),
            ("token_url", Some(oauth.token_url.as_str())),
            ("device_url", device),
        ] {
            let Some(url) = url else { continue };
            let key = format!("{key}.{name}");
            self.check_settings_only(&key, url)?;
            self.check_endpoint(&key, url)?;
            require(
                !url.contains(['?', '#']),
                &format!("{key}: parameters go into `authorize_params` or `token_params`"),
            )?;
        }
        if let Some(issuer) = &oauth.issuer {
            require(
                issuer.starts_with("https://") && !issuer.contains(['?', '#', '{']),
                &format!("{key}.issuer: must be an https address, as the provider sends it"),
            )?;
        }
        require(
            !oauth.iss_required || oauth.issuer.is_some(),
            &format!("{key}.iss_required: needs `issuer`"),
        )?;
        if let Some(name) = &oauth.callback_hmac {
            require(
                !name.is_empty() && !["code", "state"].contains(&name.as_str()),
                &format!("{key}.callback_hmac: is the name of the parameter that signs the others"),
            )?;
            require(
                oauth.client_auth != ClientAuth::None,
                &format!("{key}.callback_hmac: needs a client with a secret"),
            )?;
        }
        for (name, value) in &oauth.callback_params {
            self.check_settings_only(&format!("{key}.callback_params.{name}"), value)?;
        }
        self.check_oauth_params(key, oauth)?;
        self.check_reply(key, oauth)?;
        if let Some(life) = oauth.refresh.lifetime {
            require(
                (30..=MOST_LIFE).contains(&life),
                &format!("{key}.refresh.lifetime: is 30 seconds to a year"),
            )?;
        }
        for (index, rule) in oauth.rules.iter().enumerate() {
            rule.when
                .check()
                .map_err(|message| format!("{key}.rule number {}: {message}", index + 1))?;
        }
        Ok(())
    }

    fn check_oauth_fields(&self, key: &str, mode: &Mode, oauth: &OAuth) -> Check {
        require(
            mode.mint.is_none(),
            &format!("{key}: a mode that mints has no consent"),
        )?;
        for field in &mode.fields {
            let known = match field.name.as_str() {
                "client_secret" => oauth.client_auth != ClientAuth::None,
                "access_token" | "client_id" | "host" | "refresh_token" | "scope" => true,
                _ => false,
            };
            require(
                known && !field.primary,
                &format!(
                    "{key}: `{}` is no field of such a mode; what a person adds is a setting",
                    field.name
                ),
            )?;
        }
        // A credential's names say its mode, so another mode needs one that is its own.
        for other in self.modes.iter().filter(|other| other.oauth.is_none()) {
            let own = |name: &str| mode.field(name).is_none();
            require(
                other.fields.iter().any(|f| f.required && own(&f.name)),
                &format!(
                    "{key}: mode `{}` asks for nothing that this one does not have",
                    other.id
                ),
            )?;
        }
        Ok(())
    }

    fn check_oauth_params(&self, key: &str, oauth: &OAuth) -> Check {
        let own = |name: &str| OWN_PARAMS.contains(&name) || name == oauth.scope_param;
        require(
            !oauth.scope_param.is_empty() && !OWN_PARAMS.contains(&oauth.scope_param.as_str()),
            &format!("{key}.scope_param: is the name of another parameter"),
        )?;
        require(
            [" ", ",", "+"].contains(&oauth.scope_separator.as_str()),
            &format!("{key}.scope_separator: is a space, a comma or a plus"),
        )?;
        let word =
            |scope: &String| !scope.is_empty() && scope.bytes().all(|b| b.is_ascii_graphic());
        require(
            oauth.scopes.iter().all(word),
            &format!("{key}.scopes: each is one word"),
        )?;
        for (table, params) in [
            ("authorize_params", &oauth.authorize_params),
            ("token_params", &oauth.token_params),
        ] {
            for (name, value) in params {
                let key = format!("{key}.{table}.{name}");
                let response = table == "authorize_params" && name == "response_type";
                require(
                    !name.is_empty() && !own(name) && !response,
                    &format!("{key}: Keystead sets that one itself"),
                )?;
                self.check_settings_only(&key, value)?;
            }
        }
        Ok(())
    }

    fn check_reply(&self, key: &str, oauth: &OAuth) -> Check {
        let reply = &oauth.reply;
        let key = &format!("{key}.reply");
        require(
            !reply.success.is_empty() && reply.success.iter().all(|s| (200..300).contains(s)),
            &format!("{key}.success: at least one, each of 2xx"),
        )?;
        let named = |pointers: &str| pointers.split('|').all(|one| one.starts_with('/'));
        for (name, pointer) in [
            ("ok", reply.ok.as_deref()),
            ("access_token", Some(reply.access_token.as_str())),
            ("host", reply.host.as_deref()),
        ] {
            require(
                pointer.is_none_or(named),
                &format!("{key}.{name}: must begin with a slash"),
            )?;
        }
        for (name, pointer) in [
            ("error", &reply.error),
            ("refresh_token", &reply.refresh_token),
            ("expires_in", &reply.expires_in),
            ("refresh_expires_in", &reply.refresh_expires_in),
            ("scope", &reply.scope),
            ("token_type", &reply.token_type),
        ] {
            require(
                pointer.is_empty() || named(pointer),
                &format!("{key}.{name}: must begin with a slash, or be empty"),
            )?;
        }
        require(
            !reply.token_types.is_empty(),
            &format!("{key}.token_types: at least one"),
        )?;
        require(
            oauth.refresh.class == RefreshClass::None || named(&reply.refresh_token),
            &format!("{key}.refresh_token: a mode whose tokens are renewed needs it"),
        )?;
        require(
            reply.host.is_none() || !self.host_choices.is_empty(),
            &format!("{key}.host: needs `host_choices`, the hosts that it may name"),
        )?;
        let taken = |s: &crate::provider::Field| s.name == API_HOST && s.kind != Kind::Hosts;
        require(
            !self.config.iter().any(taken),
            &format!("config.{API_HOST}: is the host that a reply names"),
        )
    }
}
