//! Calls to a provider, and what their answers say: what all vendors have in common.

use aws_lc_rs::digest;
use http::header::{CONTENT_TYPE, HeaderName, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method};
use zeroize::Zeroizing;

use super::{ResourceFault, UNCLEAR};
use crate::placement::{Head, Material, place};
use crate::provider::oauth::{Json, retry_after};
use crate::provider::{Config, Fields, Provider, ProviderRequest, ResultClass, classify};
use crate::time::Time;

/// What is waited for where a provider does not say.
const SILENT_WAIT: u32 = 60;
/// The longest wait that is passed on: an hour.
const LONGEST_WAIT: u32 = 3600;
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");

/// Who asks, and with what.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// Whom.
    pub provider: &'a Provider,
    /// Under which settings.
    pub config: &'a Config,
    /// With which credential.
    pub fields: &'a Fields,
    /// When.
    pub now: Time,
}

/// What came back.
pub struct Answer<'a> {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body, whole.
    pub body: &'a [u8],
}

/// A body, and its type.
pub(super) type Body = (&'static str, Zeroizing<Vec<u8>>);

impl<'a> Asking<'a> {
    /// A call to the provider's own host, with the credential placed.
    pub(super) fn call(
        &self,
        method: Method,
        target: &str,
        body: Option<Body>,
    ) -> Result<ProviderRequest, ResourceFault> {
        self.call_with(Material::Fields(self.fields), method, target, body)
    }

    /// The same with what was made of it.
    pub(super) fn call_with(
        &self,
        material: Material<'_>,
        method: Method,
        target: &str,
        body: Option<Body>,
    ) -> Result<ProviderRequest, ResourceFault> {
        let unusable = |fault: String| ResourceFault::Refused(fault);
        let destination = self.provider.destination_of(self.config, None);
        let destination = destination.map_err(|fault| unusable(fault.to_string()))?;
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        crate::path::check(path).map_err(|_| ResourceFault::NotFound)?;
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static("keystead"));
        let body = match body {
            Some((kind, body)) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
                body
            }
            None => Zeroizing::default(),
        };
        let mut head = Head {
            method,
            logical_host: destination.logical_host.clone(),
            host_header: destination.host_header.clone(),
            path: path.to_owned(),
            query,
            headers,
        };
        let hash = digest::digest(&digest::SHA256, &body);
        let hash = hash.as_ref().try_into().ok();
        let (provider, config) = (self.provider, self.config);
        place(provider, material, config, &mut head, self.now, hash)
            .map_err(|fault| unusable(fault.to_string()))?;
        Ok(ProviderRequest {
            destination,
            method: head.method,
            path: match head.query {
                Some(query) => format!("{}?{query}", head.path),
                None => head.path,
            },
            headers: head.headers,
            body,
        })
    }

    /// What an answer other than the one that was hoped for says. `needs` is the permission that
    /// the call needs.
    pub(super) fn refusal(&self, answer: &Answer<'_>, needs: &'static str) -> ResourceFault {
        let Answer {
            status,
            headers,
            body,
        } = *answer;
        let wait = retry_after(headers, self.now);
        let none_left = headers.get(REMAINING).is_some_and(|left| left == "0");
        if status == 429 || (status == 403 && (wait.is_some() || none_left)) {
            return rate(wait);
        }
        if status == 404 {
            return ResourceFault::NotFound;
        }
        let mode = self.fields.mode(self.provider);
        let Some(test) = mode.and_then(|mode| self.provider.test_of(mode)) else {
            return UNCLEAR;
        };
        let (class, message) = classify(test, status, headers, body);
        match class {
            ResultClass::BadKey | ResultClass::Expired => {
                ResourceFault::Refused(message.trim_end_matches('.').to_owned())
            }
            ResultClass::NoPerm => ResourceFault::NoPermission(needs),
            ResultClass::Rate | ResultClass::Quota => rate(wait),
            ResultClass::Down => ResourceFault::Down(status),
            ResultClass::Ok | ResultClass::Indeterminate => UNCLEAR,
        }
    }

    /// The body of an answer with that status, which is JSON.
    pub(super) fn json(
        &self,
        answer: &Answer<'_>,
        status: u16,
        needs: &'static str,
    ) -> Result<Json, ResourceFault> {
        if answer.status != status {
            return Err(self.refusal(answer, needs));
        }
        Json::read(answer.body).ok_or(ResourceFault::Unclear("its answer is no JSON"))
    }
}

fn rate(wait: Option<u32>) -> ResourceFault {
    ResourceFault::Rate(wait.unwrap_or(SILENT_WAIT).clamp(1, LONGEST_WAIT))
}
