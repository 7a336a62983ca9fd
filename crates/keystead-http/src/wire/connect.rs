//! Connect sessions, as the API says them.

use keystead_broker as broker;
use keystead_core::ids::IntegrationId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A link to the connect page that is to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewConnectSession {
    /// For whom; services only. A user's own link is that user's.
    user: Option<SessionUser>,
    /// Ids of the providers to choose from; all where none are named.
    providers: Option<Vec<String>>,
    /// The only integration it is for, to connect it again.
    #[schema(value_type = Option<String>)]
    integration: Option<IntegrationId>,
    /// Where the page leads back to, within one of the configured addresses.
    return_url: Option<String>,
    /// Whether the page is shown in a frame of the product.
    #[serde(default)]
    embed: bool,
}

/// A user of the product.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SessionUser {
    /// The product's id for them; entries hold it.
    id: String,
    /// As the page calls them.
    name: Option<String>,
}

impl From<NewConnectSession> for broker::NewConnectSession {
    fn from(from: NewConnectSession) -> Self {
        broker::NewConnectSession {
            user: from.user.map(|user| broker::SessionUser {
                id: user.id,
                name: user.name,
            }),
            providers: from.providers,
            integration: from.integration,
            return_url: from.return_url,
            embed: from.embed,
        }
    }
}

/// A link to the connect page.
#[derive(Serialize, ToSchema)]
pub(crate) struct ConnectSession {
    /// For the person alone: whoever opens it first has it.
    pub(crate) url: String,
    /// When the page closes, at the latest.
    #[schema(format = DateTime)]
    pub(crate) expires_at: String,
}
