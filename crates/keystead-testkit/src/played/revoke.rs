//! The calls by which a credential is taken back.

use std::collections::BTreeMap;

use keystead_core::provider::{Call, CallAuth, Mode, Outcome as Said};
use serde_json::{Value, json};

use super::fill::{Spot, fill};
use super::judge::one;
use super::mint::form;
use super::rules::{Terms, decides, replies_for};
use super::{Door, Heard, Outcome, Reply, Served, Stage};

type Values = BTreeMap<String, String>;

impl Stage {
    /// What is wrong where the call is at an address of these, and no revocation.
    pub(super) fn revoke(&self, heard: &Heard) -> Result<Outcome, Option<String>> {
        let mut reasons = Vec::new();
        for mode in &self.part.provider.modes {
            let Some(revoke) = &mode.revoke else {
                continue;
            };
            for (number, call) in revoke.calls.iter().enumerate() {
                for (at, values) in self.candidates(mode) {
                    let Some(target) = self.target(mode, call, &values) else {
                        continue;
                    };
                    if target != heard.target || call.method != heard.method {
                        continue;
                    }
                    match self.asks_so(mode, call, &values, heard) {
                        Err(reason) => reasons.push(format!("{} {number}: {reason}", mode.id)),
                        Ok(()) => {
                            let again = self.take_back(mode, at);
                            return Ok(Outcome {
                                reply: said(call, again),
                                served: Served {
                                    mode: Some(mode.id.clone()),
                                    ..Served::right(Door::Revoke, heard.clone())
                                },
                            });
                        }
                    }
                }
            }
        }
        Err(reasons.into_iter().next())
    }

    /// What a call can be about: each grant of an OAuth mode, else the one credential.
    fn candidates(&self, mode: &Mode) -> Vec<(usize, Values)> {
        if mode.oauth.is_none() {
            let own = self.part.credentials.get(&mode.id).cloned();
            return vec![(0, own.unwrap_or_default())];
        }
        let state = self.state();
        let grants = state.grants.all.iter().enumerate();
        grants
            .flat_map(|(at, grant)| {
                let mut values = Values::from([("client_id".to_owned(), self.client.id.clone())]);
                let secret = self.client.secret.clone();
                values.extend(secret.map(|s| ("client_secret".to_owned(), s)));
                // Of a grant that is over, any token may be the one that is held.
                let refresh = grant.refresh.iter().chain(&grant.spent).map(Some);
                let refresh: Vec<_> = refresh.chain([None]).collect();
                let access = grant.access.iter().chain(&grant.ended).map(Some);
                let access: Vec<_> = access.chain([None]).collect();
                let mut all = Vec::new();
                for refresh in &refresh {
                    for access in &access {
                        let mut values = values.clone();
                        let refresh = refresh.map(|t| ("refresh_token".to_owned(), t.clone()));
                        let access = access.map(|t| ("access_token".to_owned(), t.clone()));
                        values.extend(refresh.into_iter().chain(access));
                        all.push((at, values));
                    }
                }
                all
            })
            .collect()
    }

    fn value(&self, values: &Values, name: &str) -> Option<(String, bool)> {
        let own = values.get(name).map(|value| (value.clone(), false));
        own.or_else(|| self.part.setting(name))
    }

    fn target(&self, mode: &Mode, call: &Call, values: &Values) -> Option<String> {
        let (_, target) = call.url.strip_prefix("https://")?.split_once('/')?;
        let secret = |name: &str| mode.fields.iter().any(|f| f.name == name && f.secret);
        let value = |name: &str| self.value(values, name).filter(|_| !secret(name));
        Some(format!("/{}", fill(target, Spot::Path, value)?))
    }

    fn asks_so(
        &self,
        mode: &Mode,
        call: &Call,
        values: &Values,
        heard: &Heard,
    ) -> Result<(), String> {
        match &call.auth {
            CallAuth::AppBasic if !self.is_basic(heard) => {
                return Err("the app is not proven by `Basic`".to_owned());
            }
            CallAuth::Placed => {
                // Of a grant that is over, the token that it had.
                let own = |_: &str, text: &str| {
                    let known = values.get("access_token").map(String::as_str);
                    (known == Some(text)).then(String::new)
                };
                let placed = self.part.carries(mode, heard, &own, false);
                placed.map_err(|reason| format!("the credential is not placed: {reason}"))?;
            }
            CallAuth::None if heard.headers.contains_key("authorization") => {
                return Err("`authorization` is there, and nobody asks for it".to_owned());
            }
            _ => {}
        }
        for (name, value) in &call.headers {
            if one(&heard.headers, name)? != value {
                return Err(format!("`{name}` must be `{value}`"));
            }
        }
        let text = |template: &String| {
            let filled = fill(template, Spot::Plain, |name| self.value(values, name));
            filled.ok_or("a value is missing".to_owned())
        };
        if let Some(expected) = &call.form {
            let given = form(heard)?;
            let names = expected.keys().eq(given.keys());
            for (name, template) in expected {
                if given.get(name) != Some(&text(template)?) {
                    return Err(format!("`{name}` is another"));
                }
            }
            return if names {
                Ok(())
            } else {
                Err("the form has more".to_owned())
            };
        }
        if let Some(expected) = &call.json {
            if one(&heard.headers, "content-type")? != "application/json" {
                return Err("the body is JSON".to_owned());
            }
            let given: Value = serde_json::from_slice(&heard.body).map_err(|f| f.to_string())?;
            return match given == filled(expected, &text)? {
                true => Ok(()),
                false => Err("the body says something else".to_owned()),
            };
        }
        if heard.body.is_empty() {
            Ok(())
        } else {
            Err("a body, and none is asked for".to_owned())
        }
    }

    /// Ends the grant, or the credential; says whether it was over before.
    fn take_back(&self, mode: &Mode, at: usize) -> bool {
        if self.is_told(Door::Revoke) {
            return false;
        }
        let mut state = self.state();
        if mode.oauth.is_none() {
            return !state.taken_back.insert(mode.id.clone());
        }
        let grant = &mut state.grants.all[at];
        grant.kill();
        std::mem::replace(&mut grant.revoked, true)
    }
}

fn filled(
    value: &Value,
    text: &impl Fn(&String) -> Result<String, String>,
) -> Result<Value, String> {
    Ok(match value {
        Value::String(template) => json!(text(template)?),
        Value::Array(items) => {
            let items = items.iter().map(|item| filled(item, text));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        Value::Object(members) => {
            let members = members.iter();
            let members = members.map(|(name, value)| Ok((name.clone(), filled(value, text)?)));
            Value::Object(members.collect::<Result<_, String>>()?)
        }
        other => other.clone(),
    })
}

/// The answer of a call that was done, or was not needed any more.
fn said(call: &Call, again: bool) -> Reply {
    let wanted = if again { Said::Gone } else { Said::Confirmed };
    let terms: Vec<Terms> = call.rules.iter().map(|rule| (&rule.when).into()).collect();
    let ruled = (0..terms.len()).filter(|number| call.rules[*number].means == wanted);
    let mut ruled = ruled.flat_map(|number| replies_for(&terms, number));
    let listed = if again { &call.gone } else { &call.ok };
    let plain = listed.iter().map(|status| Reply::json(*status, &json!({})));
    let plain = plain.filter(|reply| decides(&terms, reply).is_none());
    let mut plain = plain.map(|reply| match reply.status {
        204 => Reply {
            body: Vec::new(),
            ..reply
        },
        _ => reply,
    });
    match plain.next().or_else(|| ruled.next()) {
        Some(reply) => reply,
        // Where nothing tells the second time from the first.
        None if again => said(call, false),
        None => Reply::json(500, &json!({"refused": "no answer confirms this call"})),
    }
}
