//! Asking a provider to take a grant back, and what its answer means.
//!
//! What always holds: what does not clearly confirm does not confirm; a redirect is not followed;
//! what is written down of an answer is its status, never its text; what a confirmation leaves open
//! by the provider's file is written down with it.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use keystead_core::provider::oauth::{App, retry_after};
use keystead_core::provider::{Config, Fields, Outcome, ProviderCall, revoke_calls};
use keystead_store::RevocationRow;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::ask::request;
use crate::broker::Broker;
use crate::error::Error;
use crate::net::FetchLimits;

/// What came of asking.
pub(super) enum Verdict {
    /// It was done, as far as this says.
    Confirmed {
        /// What that leaves open, by the provider's file.
        remark: Option<String>,
        /// It ended the whole grant, whichever of its tokens was sent.
        whole: bool,
    },
    /// There was nothing left to do about this token, which says nothing of others.
    Gone(String),
    /// Nothing that is there can be taken back by a call.
    Unsupported(String),
    /// Not done, or nobody knows.
    Again {
        /// Why, for a person.
        detail: String,
        /// How many seconds the provider wants to be left alone.
        retry_after: Option<u32>,
    },
}

fn again(detail: impl Into<String>) -> Verdict {
    Verdict::Again {
        detail: detail.into(),
        retry_after: None,
    }
}

impl Broker {
    /// Makes the calls of the provider's file until one confirms.
    pub(super) async fn ask_to_revoke(&self, row: &RevocationRow, fields: &Fields) -> Verdict {
        let now = self.clock().now();
        let Some(provider) = self.catalogue().get(&row.provider).cloned() else {
            return again("its provider is not in the catalogue any more");
        };
        let Some(mode) = provider.mode(&row.mode) else {
            return again("its provider's file does not have its mode any more");
        };
        let settings: Value = serde_json::from_str(&row.config).unwrap_or_default();
        let Ok((config, _)) = Config::parse(&provider, &settings) else {
            return again("its settings are not what the provider's file takes any more");
        };
        let app = App::of(fields).or_else(|| {
            let app = self.settings().oauth.apps.get(&provider.id)?;
            let secret = app.client_secret.as_ref();
            Some(App {
                client_id: app.client_id.clone(),
                client_secret: secret.map(|secret| Zeroizing::new(secret.to_string())),
            })
        });
        let calls = revoke_calls(&provider, mode, &config, app.as_ref(), fields, now);
        let calls = match calls {
            Ok(calls) if !calls.is_empty() => calls,
            _ if mode.oauth.is_some() && app.is_none() => {
                let id = &provider.id;
                return again(format!(
                    "no OAuth app is set up to ask with: set [oauth.{id}]"
                ));
            }
            Ok(_) => return Verdict::Unsupported("the provider has no call for it".to_owned()),
            Err(fault) => return Verdict::Unsupported(fault.to_string()),
        };
        let (mut gone, mut failed) = (None, None);
        for call in calls {
            match self.make_call(call).await {
                done @ Verdict::Confirmed { .. } => return done,
                was @ Verdict::Gone(_) => gone = Some(was),
                other => failed = failed.or(Some(other)),
            }
        }
        let nobody = || again("the provider was not asked");
        failed.or(gone).unwrap_or_else(nobody)
    }

    async fn make_call(&self, mut call: ProviderCall) -> Verdict {
        let request = match request(&mut call.request) {
            Ok(request) => request,
            Err(fault) => return again(fault.to_string()),
        };
        match self.client().fetch(request, FetchLimits::default()).await {
            Ok(answer) => self.judge(&call, &answer),
            Err(fault) => again(Error::from(fault).to_string()),
        }
    }

    fn judge(&self, call: &ProviderCall, answer: &Response<Bytes>) -> Verdict {
        let (status, headers, body) = (answer.status(), answer.headers(), answer.body());
        let said = format!("the provider answered {}", status.as_u16());
        let verdict = match call.outcome(status.as_u16(), headers, body) {
            // Where the file says how to read the answer, that was done.
            Outcome::Confirmed if call.rules.is_empty() => doubt(answer).map(again),
            Outcome::Confirmed => None,
            Outcome::Gone if is_page(answer) => Some(again(PAGE)),
            Outcome::Gone => Some(Verdict::Gone(match &call.remark {
                Some(remark) => format!("{said}: it was gone; {remark}"),
                None => format!("{said}: it was gone"),
            })),
            Outcome::Failed => Some(Verdict::Again {
                detail: said,
                retry_after: retry_after(headers, self.clock().now()),
            }),
        };
        verdict.unwrap_or_else(|| Verdict::Confirmed {
            remark: call.remark.clone(),
            whole: call.whole,
        })
    }
}

const PAGE: &str = "a page came back, and no answer of the provider's";

fn is_page(answer: &Response<Bytes>) -> bool {
    let kind = answer.headers().get(CONTENT_TYPE);
    let kind = kind.map_or(&b""[..], HeaderValue::as_bytes);
    !answer.body().is_empty() && kind.to_ascii_lowercase().starts_with(b"text/html")
}

/// Why a status that confirms does not: a page from something in between, or an error in its words.
fn doubt(answer: &Response<Bytes>) -> Option<&'static str> {
    if is_page(answer) {
        return Some(PAGE);
    }
    let said: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    let error = said.get("error").is_some_and(|error| !error.is_null());
    if error || said.get("ok") == Some(&Value::Bool(false)) {
        return Some("the provider answered with an error in its words");
    }
    None
}
