//! Whether a call carries exactly one true credential, exactly where the definition says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use keystead_core::provider::{Mode, Placement};
use url::form_urlencoded;

use super::fill::is_signed;
use super::{Heard, Part, sealed};

/// What a call was accepted as.
#[derive(Clone, Debug)]
pub(super) struct Accepted {
    /// By which mode's credential.
    pub(super) mode: String,
    /// What the credential was good for: a scope, or `region/service` of a signature.
    pub(super) scope: Option<String>,
}

/// What has to stand in the places that a mode's credential takes.
struct Expected {
    headers: Vec<(String, Held)>,
    query: Option<(String, String)>,
}

enum Held {
    /// This text.
    Text(String),
    /// A token that was given out, after this text.
    Token(String),
    /// A JWT: issuer, key, longest life.
    Jwt(String, String, i64),
    /// A signature: id, secret, token.
    Signature(String, String, Option<String>),
}

impl Part {
    pub(super) fn judge(
        &self,
        heard: &Heard,
        token: &dyn Fn(&str, &str) -> Option<String>,
    ) -> Result<Accepted, String> {
        let path = heard.path();
        let within = self
            .provider
            .path_prefixes
            .iter()
            .any(|prefix| path.starts_with(prefix.as_str()) || format!("{path}/") == *prefix);
        if !within {
            return Err(format!("`{path}` is within none of the path prefixes"));
        }
        let mut reasons = Vec::new();
        let mut accepted = None;
        for mode in &self.provider.modes {
            match self.carries(mode, heard, token, true) {
                Ok(scope) => {
                    accepted.get_or_insert(Accepted {
                        mode: mode.id.clone(),
                        scope,
                    });
                }
                Err(reason) => reasons.push(format!("{}: {reason}", mode.id)),
            }
        }
        let accepted = accepted.ok_or_else(|| reasons.join("; "))?;
        self.has_headers(&heard.headers)?;
        Ok(accepted)
    }

    /// Whether the call carries this mode's credential, and no other of anybody's. Returns the
    /// scope of a token.
    pub(super) fn carries(
        &self,
        mode: &Mode,
        heard: &Heard,
        token: &dyn Fn(&str, &str) -> Option<String>,
        nowhere_else: bool,
    ) -> Result<Option<String>, String> {
        let expected = self
            .expected(mode, heard.path())
            .ok_or("no credential of this mode is known")?;
        let mut scope = None;
        let mut secrets = self.secrets();
        for (name, held) in &expected.headers {
            let value = one(&heard.headers, name)?;
            match held {
                Held::Text(text) if value == text => {}
                Held::Text(_) => return Err(format!("`{name}` holds something else")),
                Held::Token(prefix) => {
                    let text = value.strip_prefix(prefix.as_str());
                    let text = text.ok_or(format!("`{name}` holds no token"))?;
                    scope = Some(token(&mode.id, text).ok_or("the token is unknown or ended")?);
                    secrets.push(("token".to_owned(), text.to_owned()));
                }
                Held::Jwt(issuer, key, life) => {
                    let text = value.strip_prefix("Bearer ").ok_or("no bearer token")?;
                    sealed::hs256(text, issuer, key, *life)?;
                }
                Held::Signature(id, secret, session) => {
                    scope = Some(sealed::sigv4(heard, value, id, secret, session.as_deref())?);
                }
            }
        }
        for name in self.carriers() {
            let known = expected.headers.iter().any(|(other, _)| *other == name);
            if !known && heard.headers.contains_key(&name) {
                return Err(format!("`{name}` is there too"));
            }
        }
        self.query_is_clean(&expected, heard)?;
        if nowhere_else {
            leaks(&secrets, &expected, heard)?;
        }
        Ok(scope)
    }

    fn expected(&self, mode: &Mode, path: &str) -> Option<Expected> {
        let credential = self.credentials.get(&mode.id);
        let field = |name: &String| credential?.get(name).cloned();
        let granted = |name: &String| mode.oauth.is_some() && name == "access_token";
        let under = mode
            .under
            .iter()
            .find(|under| path.starts_with(&under.path));
        let placement = under.map_or(&mode.placement, |under| &under.placement);
        let authorization = |held| Expected {
            headers: vec![("authorization".to_owned(), held)],
            query: None,
        };
        let text = |text: String| authorization(Held::Text(text));
        Some(match placement {
            Placement::Bearer { field: name } if granted(name) => {
                authorization(Held::Token("Bearer ".to_owned()))
            }
            Placement::Header {
                name,
                prefix,
                field: secret,
            } if granted(secret) => Expected {
                headers: vec![(
                    self.filled(name)?.to_lowercase(),
                    Held::Token(self.filled(prefix)?),
                )],
                query: None,
            },
            Placement::Bearer { field: name } => text(format!("Bearer {}", field(name)?)),
            Placement::Header {
                name,
                prefix,
                field: secret,
            } => Expected {
                headers: vec![(
                    self.filled(name)?.to_lowercase(),
                    Held::Text(format!("{}{}", self.filled(prefix)?, field(secret)?)),
                )],
                query: None,
            },
            Placement::Headers { headers } => Expected {
                headers: headers
                    .iter()
                    .filter_map(|header| {
                        let text = format!("{}{}", header.prefix, field(&header.field)?);
                        Some((header.name.clone(), Held::Text(text)))
                    })
                    .collect(),
                query: None,
            },
            Placement::Scheme {
                field: name,
                begins,
                scheme,
                otherwise,
            } => {
                // As it is typed here, no scheme comes with it.
                let value = field(name)?;
                let special = value
                    .split(',')
                    .any(|part| begins.iter().any(|begin| part.starts_with(begin)));
                let scheme = if special { scheme } else { otherwise };
                text(format!("{scheme} {value}"))
            }
            Placement::Basic {
                user,
                user_name,
                password,
            } => {
                let user = match user {
                    Some(name) => field(name)?,
                    None => user_name.clone()?,
                };
                let pair = format!("{user}:{}", field(password)?);
                text(format!("Basic {}", STANDARD.encode(pair)))
            }
            Placement::Query {
                name,
                field: secret,
            } => Expected {
                headers: Vec::new(),
                query: Some((name.clone(), field(secret)?)),
            },
            Placement::SigV4 {
                access_key_id,
                secret_access_key,
                session_token,
            } => {
                let session = field(session_token);
                let held = Held::Signature(
                    field(access_key_id)?,
                    field(secret_access_key)?,
                    session.clone(),
                );
                let mut expected = authorization(held);
                let session = session.map(|t| ("x-amz-security-token".to_owned(), Held::Text(t)));
                expected.headers.extend(session);
                expected
            }
            Placement::JwtHs256 {
                issuer,
                key,
                lifetime,
                backdate,
            } => authorization(Held::Jwt(field(issuer)?, field(key)?, lifetime + backdate)),
            Placement::Token { header: None } => authorization(Held::Token("Bearer ".to_owned())),
            Placement::Token { header: Some(name) } => Expected {
                headers: vec![(name.clone(), Held::Token(String::new()))],
                query: None,
            },
        })
    }

    /// All headers that a credential could travel in.
    pub(super) fn carriers(&self) -> Vec<String> {
        let provider = &self.provider;
        let mut names: Vec<String> = ["authorization", "proxy-authorization", "cookie"]
            .map(str::to_owned)
            .into();
        let listed = provider
            .sdk_token_headers
            .iter()
            .chain(&provider.strip_headers);
        names.extend(listed.map(|name| name.as_str().to_owned()));
        for mode in &provider.modes {
            let under = mode.under.iter().map(|under| &under.placement);
            for placement in under.chain([&mode.placement]) {
                match placement {
                    Placement::Header { name, .. } | Placement::Token { header: Some(name) } => {
                        names.extend(self.filled(name).map(|name| name.to_lowercase()));
                    }
                    Placement::Headers { headers } => {
                        names.extend(headers.iter().map(|header| header.name.clone()));
                    }
                    _ => {}
                }
            }
        }
        if is_signed(provider) {
            names.push("x-amz-security-token".to_owned());
        }
        names.sort();
        names.dedup();
        names
    }

    /// All query parameters that a credential could travel in.
    pub(super) fn carrying_parameters(&self) -> Vec<String> {
        let modes = self.provider.modes.iter();
        let placed = modes.filter_map(|mode| match &mode.placement {
            Placement::Query { name, .. } => Some(name.to_lowercase()),
            _ => None,
        });
        self.provider
            .strip_query
            .iter()
            .cloned()
            .chain(placed)
            .collect()
    }

    fn query_is_clean(&self, expected: &Expected, heard: &Heard) -> Result<(), String> {
        let pairs: Vec<(String, String)> = form_urlencoded::parse(heard.query().as_bytes())
            .into_owned()
            .collect();
        for name in self.carrying_parameters() {
            let given: Vec<&str> = pairs
                .iter()
                .filter(|(other, _)| other.to_lowercase() == name)
                .map(|(_, value)| value.as_str())
                .collect();
            match (&expected.query, &given[..]) {
                (Some((own, value)), [one]) if *own == name && value == one => {}
                (Some((own, _)), _) if *own == name => {
                    return Err(format!("`{name}=` is not the credential, or not once"));
                }
                (_, []) => {}
                (_, _) => return Err(format!("`{name}=` is in the query too")),
            }
        }
        Ok(())
    }

    /// All secret values by their fields' names.
    fn secrets(&self) -> Vec<(String, String)> {
        let modes = self.provider.modes.iter();
        modes
            .flat_map(|mode| {
                let known = self.credentials.get(&mode.id);
                let secret = mode.fields.iter().filter(|field| field.secret);
                secret.filter_map(move |field| {
                    Some((field.name.clone(), known?.get(&field.name)?.clone()))
                })
            })
            .collect()
    }

    /// The headers that calls need beside the credential, and none of the broker's own.
    fn has_headers(&self, headers: &HeaderMap) -> Result<(), String> {
        for rule in &self.provider.headers {
            let Some(value) = self.filled(&rule.value) else {
                continue;
            };
            let given = one(headers, rule.name.as_str())?;
            if rule.force && given != value {
                return Err(format!("`{}` must be `{value}`", rule.name));
            }
        }
        match headers
            .keys()
            .find(|name| name.as_str().starts_with("keystead-"))
        {
            Some(name) => Err(format!("`{name}` is nothing for a provider")),
            None => Ok(()),
        }
    }
}

/// No secret stands where none belongs, in clear or escaped.
fn leaks(secrets: &[(String, String)], expected: &Expected, heard: &Heard) -> Result<(), String> {
    let pairs = heard.target.replace(['/', '?'], "&");
    let mut target = heard.target.clone();
    for (name, value) in form_urlencoded::parse(pairs.as_bytes()) {
        target.push_str(&format!(" {name} {value}"));
    }
    let own = [
        ("refresh token", "canary-refresh-"),
        ("client secret", "canary+secret/"),
    ];
    let own = own.map(|(name, text)| (name.to_owned(), text.to_owned()));
    for (field, secret) in secrets.iter().chain(&own) {
        let has = |place: &[u8]| String::from_utf8_lossy(place).contains(secret.as_str());
        if expected.query.is_none() && has(target.as_bytes()) {
            return Err(format!("`{field}` is in the URL"));
        }
        if has(&heard.body) {
            return Err(format!("`{field}` is in the body"));
        }
        let elsewhere = heard.headers.iter().find(|(name, value)| {
            let placed = expected.headers.iter().any(|(own, _)| own == name.as_str());
            !placed && has(value.as_bytes())
        });
        if let Some((name, _)) = elsewhere {
            return Err(format!("`{field}` is in `{name}`"));
        }
    }
    Ok(())
}

/// The one value of a header.
pub(super) fn one<'h>(headers: &'h HeaderMap, name: &str) -> Result<&'h str, String> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().map_err(|_| format!("`{name}` is no text")),
        (None, _) => Err(format!("`{name}` is missing")),
        (Some(_), Some(_)) => Err(format!("`{name}` is there twice")),
    }
}
