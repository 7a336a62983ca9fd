//! What goes over the wire when an account is connected. What comes in and holds a code has no
//! `Debug`.

use keystead_broker as broker;
use keystead_core::ids::IntegrationId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::{Integration, time};

/// A consent that is under way.
#[derive(Serialize, ToSchema)]
pub(crate) struct Started {
    /// Where to send the browser.
    url: String,
    /// What the provider will bring back, once.
    state: String,
    /// Until when it may.
    #[schema(format = DateTime)]
    expires_at: String,
}

impl From<broker::Started> for Started {
    fn from(from: broker::Started) -> Started {
        Started {
            url: from.url,
            state: from.state,
            expires_at: time(from.expires_at),
        }
    }
}

/// What the provider put into the query of the client's redirect URI.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Back {
    /// The one-time state.
    state: String,
    /// The code, if there was consent.
    code: Option<String>,
    /// Who says so (RFC 9207), where the provider says it.
    iss: Option<String>,
    /// Why there was none.
    error: Option<String>,
    /// The whole query as it came, without its `?`; needed for providers that sign it.
    query: Option<String>,
}

impl From<Back> for broker::Back {
    fn from(from: Back) -> broker::Back {
        broker::Back {
            state: from.state,
            code: from.code.map(Zeroizing::new),
            iss: from.iss,
            error: from.error,
            browser: None,
            own: None,
            query: from.query.map(Zeroizing::new),
        }
    }
}

/// An account that is to be connected by a code typed on another device.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewDevice {
    /// The integration to authorise anew; else a new one is made.
    #[schema(value_type = Option<String>)]
    pub(crate) integration: Option<IntegrationId>,
    /// What to call a new one; the provider's name if not given.
    pub(crate) name: Option<String>,
    /// The settings of a new one.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub(crate) config: Map<String, Value>,
}

/// What to type, and where.
#[derive(Serialize, ToSchema)]
pub(crate) struct Device {
    /// What to ask for.
    id: String,
    /// What to type.
    user_code: String,
    /// Where.
    verification_uri: String,
    /// The same with the code in it, where the provider has that.
    verification_uri_complete: Option<String>,
    /// Until when.
    #[schema(format = DateTime)]
    expires_at: String,
    /// Seconds between two questions.
    interval: u32,
}

impl From<broker::Device> for Device {
    fn from(from: broker::Device) -> Device {
        Device {
            id: from.id.to_string(),
            user_code: from.user_code,
            verification_uri: from.verification_uri,
            verification_uri_complete: from.verification_uri_complete,
            expires_at: time(from.expires_at),
            interval: from.interval,
        }
    }
}

/// What became of a code that is typed on another device.
#[derive(Serialize, ToSchema)]
pub(crate) struct DevicePoll {
    /// `pending`, `slow_down` or `completed`.
    status: &'static str,
    /// Seconds to wait before the next question; null when it is completed.
    interval: Option<u32>,
    /// The integration, when it is.
    integration: Option<Integration>,
}

impl From<broker::DevicePoll> for DevicePoll {
    fn from(from: broker::DevicePoll) -> DevicePoll {
        let (status, interval, integration) = match from {
            broker::DevicePoll::Pending(interval) => ("pending", Some(interval), None),
            broker::DevicePoll::SlowDown(interval) => ("slow_down", Some(interval), None),
            broker::DevicePoll::Completed(done) => {
                ("completed", None, Some(Integration::from(done.integration)))
            }
        };
        DevicePoll {
            status,
            interval,
            integration,
        }
    }
}
