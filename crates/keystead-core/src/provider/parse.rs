//! Reads a provider file, and checks what the types alone cannot hold.

use std::collections::BTreeSet;

use super::destination::{is_plain_https, origin};
use super::is_name;
use super::mint::Mint;
use super::model::{Field, HostRule, Kind, Mode, Placement, Provider, ProviderFault};
use super::oauth::imply;
use super::revoke::is_page;
use super::template;
use super::test_call::TestCall;
use super::usage::{Price, Usage};

/// Placeholders of a test call beside settings and fields: milliseconds since 1970.
pub(super) const CLOCK: [&str; 2] = ["now_ms", "day_ago_ms"];

/// What is wrong with a file.
pub(super) type Check = Result<(), String>;

impl Provider {
    /// Reads one; the fault names the file, the key and what about it.
    pub fn parse(file: &str, text: &str) -> Result<Provider, ProviderFault> {
        let fault = |message: String| ProviderFault {
            file: file.to_owned(),
            message,
        };
        let mut provider: Provider =
            toml::from_str(text).map_err(|error| fault(error.to_string().trim_end().to_owned()))?;
        imply(&mut provider);
        provider.check().map_err(fault)?;
        Ok(provider)
    }

    fn check(&self) -> Check {
        let id = |id: &String| is_name(id) && *id == id.to_ascii_lowercase();
        require(id(&self.id), "id: must be like `my_provider`")?;
        require(
            self.aliases.iter().all(id),
            "aliases: each must be like `my_provider`",
        )?;
        require(
            self.docs.starts_with("https://"),
            "docs: must be an https address",
        )?;
        let links = [&self.links.console, &self.links.revoke];
        require(
            links.iter().all(|link| is_page(link.as_deref())),
            "links: each must be an https address",
        )?;
        require(!self.modes.is_empty(), "mode: at least one is needed")?;
        let under_slash = |p: &String| p.starts_with('/') && p.ends_with('/');
        require(
            !self.path_prefixes.is_empty() && self.path_prefixes.iter().all(under_slash),
            "path_prefixes: at least one, each beginning and ending with a slash",
        )?;
        require(
            self.strip_query
                .iter()
                .all(|n| *n == n.to_ascii_lowercase()),
            "strip_query: names are compared in lower case",
        )?;
        check_fields("config", &self.config)?;
        for setting in &self.config {
            require(
                !setting.secret && !setting.primary,
                &format!("config.{}: settings are not secret", setting.name),
            )?;
        }
        let chooses = self.config.iter().any(|s| s.kind == Kind::Hosts);
        require(
            chooses != self.host_choices.is_empty(),
            "host_choices: go together with a setting of kind `hosts`",
        )?;
        require(
            !self.host_choices.iter().any(HostRule::is_template),
            "host_choices: must be plain patterns",
        )?;
        for header in &self.headers {
            let key = format!("header.{}", header.name);
            self.check_settings_only(&key, &header.value)?;
        }
        self.check_base()?;
        self.usage.iter().try_for_each(Usage::check)?;
        self.prices.iter().try_for_each(Price::check)?;
        self.modes.iter().try_for_each(|mode| self.check_mode(mode))
    }

    /// With every placeholder filled in, the base URL must lie within the hosts.
    fn check_base(&self) -> Check {
        self.check_settings_only("base_url", &self.base_url)?;
        if self.hosts.is_empty() {
            let only_url = self.config.iter().any(|setting| {
                setting.kind == Kind::Url && self.base_url == format!("{{{}}}", setting.name)
            });
            return require(
                only_url,
                "hosts: may be left out only where base_url is a setting of kind `url`",
            );
        }
        // Every label that a setting gives is a sample here; at use, the same check is made again.
        let sample = |text: &str| {
            template::fill(text, template::Into::Host, |name| {
                let setting = self.setting(name)?;
                let default = setting.default.as_deref();
                Some((
                    default.unwrap_or("sample").into(),
                    setting.kind == Kind::Select,
                ))
            })
        };
        for rule in &self.hosts {
            self.check_settings_only("hosts", &rule.text)?;
        }
        let base = sample(&self.base_url).ok();
        let base = base.and_then(|url| origin(&url).ok());
        let base = base.filter(is_plain_https);
        let base = base.ok_or("base_url: must be https and host only")?;
        let within = |rule: &HostRule| {
            rule.matches(base.host()) || sample(&rule.text).as_deref() == Ok(base.host())
        };
        require(
            self.hosts.iter().any(within),
            "base_url: its host is not within `hosts`",
        )
    }

    fn check_mode(&self, mode: &Mode) -> Check {
        let key = format!("mode.{}", mode.id);
        require(
            is_name(&mode.id),
            &format!("{key}: the id must be like `api_key`"),
        )?;
        let same_id = self.modes.iter().filter(|other| other.id == mode.id);
        require(
            same_id.count() == 1,
            &format!("{key}: the id is there twice"),
        )?;
        require(
            !mode.fields.is_empty(),
            &format!("{key}.field: at least one"),
        )?;
        check_fields(&format!("{key}.field"), &mode.fields)?;
        let mut primary = mode.fields.iter().filter(|field| field.primary);
        require(
            primary.next().is_none_or(|field| field.secret) && primary.next().is_none(),
            &format!("{key}: at most one field is primary, and it is secret"),
        )?;
        for field in &mode.fields {
            let key = format!("{key}.field.{}", field.name);
            require(
                !field.withheld || !field.required && field.secret,
                &format!("{key}: `withheld` is for a secret that may be left out"),
            )?;
            require(
                self.setting(&field.name).is_none(),
                &format!("{key}: a setting has the same name"),
            )?;
            require(
                !matches!(
                    field.kind,
                    Kind::Path | Kind::HeaderName | Kind::Url | Kind::Hosts
                ),
                &format!("{key}: that kind is for settings"),
            )?;
            require(
                field.default.is_none(),
                &format!("{key}: a part of a credential has no default"),
            )?;
        }
        if let Some(hint) = &mode.hint_field {
            has_field(&key, mode, hint)?;
        }
        self.check_placement(&key, mode, &mode.placement)?;
        for under in &mode.under {
            let key = format!("{key}.under");
            require(
                under.path.starts_with('/'),
                &format!("{key}.path: must be absolute"),
            )?;
            self.check_placement(&key, mode, &under.placement)?;
        }
        self.check_mint(&key, mode)?;
        self.check_oauth(&key, mode)?;
        self.check_revoke(&key, mode)?;
        self.check_resources(&key, mode)?;
        self.check_rotation(&key, mode)?;
        match mode.test.as_ref().or(self.test.as_ref()) {
            Some(test) => self.check_test(&key, mode, test),
            None => Err(format!(
                "{key}.test: neither the mode nor the provider has one"
            )),
        }
    }

    fn check_placement(&self, key: &str, mode: &Mode, placement: &Placement) -> Check {
        let key = format!("{key}.placement");
        match placement {
            Placement::Bearer { field } | Placement::Query { field, .. } => {
                has_field(&key, mode, field)
            }
            Placement::Header {
                name,
                prefix,
                field,
            } => {
                self.check_settings_only(&key, name)?;
                self.check_settings_only(&key, prefix)?;
                require(
                    name.contains('{') || http::HeaderName::from_lowercase(name.as_bytes()).is_ok(),
                    &format!("{key}.name: no lower-case header name"),
                )?;
                has_field(&key, mode, field)
            }
            Placement::Headers { headers } => {
                require(!headers.is_empty(), &format!("{key}.headers: at least one"))?;
                for header in headers {
                    require(
                        http::HeaderName::from_lowercase(header.name.as_bytes()).is_ok(),
                        &format!(
                            "{key}.headers: `{}` is no lower-case header name",
                            header.name
                        ),
                    )?;
                    has_field(&key, mode, &header.field)?;
                }
                Ok(())
            }
            Placement::Scheme {
                field,
                begins,
                scheme,
                otherwise,
            } => {
                let word = |text: &String| {
                    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric())
                };
                require(
                    word(scheme) && word(otherwise) && !begins.iter().any(String::is_empty),
                    &format!(
                        "{key}: `scheme` and `otherwise` are words, and `begins` is not empty"
                    ),
                )?;
                has_field(&key, mode, field)
            }
            Placement::Basic {
                user,
                user_name,
                password,
            } => {
                require(
                    user.is_some() != user_name.is_some(),
                    &format!("{key}: either `user` or `user_name`"),
                )?;
                user.iter()
                    .try_for_each(|user| has_field(&key, mode, user))?;
                has_field(&key, mode, password)
            }
            Placement::SigV4 {
                access_key_id,
                secret_access_key,
                session_token,
            } => {
                has_field(&key, mode, access_key_id)?;
                has_field(&key, mode, secret_access_key)?;
                has_field(&key, mode, session_token)
            }
            Placement::JwtHs256 {
                issuer,
                key: secret,
                lifetime,
                backdate,
            } => {
                has_field(&key, mode, issuer)?;
                has_field(&key, mode, secret)?;
                require(
                    (60..=3600).contains(lifetime) && (0..=300).contains(backdate),
                    &format!("{key}: lifetime is 60 to 3600 seconds, backdate 0 to 300"),
                )
            }
            Placement::Token { header } => {
                require(
                    mode.mint.is_some(),
                    &format!("{key}: `token` needs the mode's `mint`"),
                )?;
                let name = header.as_deref().unwrap_or("authorization");
                require(
                    http::HeaderName::from_lowercase(name.as_bytes()).is_ok(),
                    &format!("{key}.header: no lower-case header name"),
                )
            }
        }
    }

    fn check_mint(&self, key: &str, mode: &Mode) -> Check {
        let Some(mint) = &mode.mint else {
            return Ok(());
        };
        let key = format!("{key}.mint");
        let needed: &[&str] = match mint {
            Mint::JwtBearer { .. } => &["client_email", "private_key", "private_key_id"],
            Mint::ClientCredentials {
                client_id,
                client_secret,
                form,
                ..
            } => {
                for (name, value) in form {
                    self.check_names(&format!("{key}.form.{name}"), mode, value, &[])?;
                }
                &[client_id.as_str(), client_secret.as_str()]
            }
            Mint::GithubApp { .. } => &["app_id", "private_key"],
        };
        for name in needed {
            has_field(&key, mode, name)?;
        }
        self.check_endpoint(&format!("{key}.token_url"), mint.token_url())?;
        self.check_names(&format!("{key}.token_url"), mode, mint.token_url(), &[])?;
        require(
            !mint.scopes().is_empty(),
            &format!("{key}.scopes: at least one"),
        )?;
        for scope in mint.scopes() {
            let key = format!("{key}.scopes");
            self.check_settings_only(&key, &scope.scope)?;
            require(
                !scope.host.is_template(),
                &format!("{key}: hosts must be plain patterns"),
            )?;
        }
        Ok(())
    }

    fn check_test(&self, key: &str, mode: &Mode, test: &TestCall) -> Check {
        let key = format!("{key}.test");
        if test.mint {
            require(
                mode.mint.is_some() && test.path.is_none(),
                &format!("{key}: `mint` is for modes that mint, and has no path"),
            )?;
        } else {
            let path = test.path.as_deref().unwrap_or_default();
            require(
                path.starts_with(['/', '{']),
                &format!("{key}.path: must be absolute"),
            )?;
            self.check_names(&format!("{key}.path"), mode, path, &CLOCK)?;
            if let Some(host) = &test.host {
                let own = self.hosts.iter().any(|rule| rule.text == *host);
                require(own, &format!("{key}.host: is not one of `hosts`"))?;
            }
        }
        for (name, value) in &test.headers {
            require(
                http::HeaderName::from_lowercase(name.as_bytes()).is_ok()
                    && http::HeaderValue::from_str(value).is_ok(),
                &format!("{key}.headers: `{name}` is no header"),
            )?;
        }
        for (index, rule) in test.rules.iter().enumerate() {
            rule.check()
                .map_err(|message| format!("{key}.rule number {}: {message}", index + 1))?;
        }
        Ok(())
    }

    pub(super) fn check_settings_only(&self, key: &str, text: &str) -> Check {
        for name in template::names(text).map_err(|()| format!("{key}: braces do not pair"))? {
            require(
                self.setting(name).is_some(),
                &format!("{key}: `{{{name}}}` is no setting"),
            )?;
        }
        Ok(())
    }

    /// Settings, the mode's fields that are not secret, and the extra names.
    fn check_names(&self, key: &str, mode: &Mode, text: &str, extra: &[&str]) -> Check {
        for name in template::names(text).map_err(|()| format!("{key}: braces do not pair"))? {
            let open = mode.field(name).is_some_and(|field| !field.secret);
            require(
                open || self.setting(name).is_some() || extra.contains(&name),
                &format!("{key}: `{{{name}}}` is no setting and no field that may be shown"),
            )?;
        }
        Ok(())
    }
}

fn check_fields(key: &str, fields: &[Field]) -> Check {
    let mut names = BTreeSet::new();
    for field in fields {
        let key = format!("{key}.{}", field.name);
        require(
            is_name(&field.name),
            &format!("{key}: the name must be like `api_key`"),
        )?;
        require(
            names.insert(&field.name),
            &format!("{key}: the name is there twice"),
        )?;
        require(
            (field.kind == Kind::Select) != field.options.is_empty(),
            &format!("{key}.options: go together with the kind `select`"),
        )?;
        let fits = |value: &Option<String>| match (value, &field.pattern) {
            (Some(value), Some(pattern)) => pattern.fits(value),
            _ => true,
        };
        require(
            fits(&field.example) && fits(&field.default),
            &format!("{key}: the example or default does not fit the pattern"),
        )?;
    }
    Ok(())
}

fn has_field(key: &str, mode: &Mode, name: &str) -> Check {
    require(
        mode.field(name).is_some(),
        &format!("{key}: the mode has no field `{name}`"),
    )
}

pub(super) fn require(holds: bool, message: &str) -> Check {
    if holds {
        Ok(())
    } else {
        Err(message.to_owned())
    }
}
