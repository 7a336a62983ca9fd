//! What may live on at a provider when all that is here is taken back.
//!
//! What always holds: tokens are renewed once more only with their integration out of use, and while
//! their row is there to keep what comes; what may live on is said, and not called confirmed.

use std::time::Duration;

use keystead_core::ids::{IntegrationId, TenantId};
use keystead_core::provider::oauth::RefreshClass;
use keystead_core::provider::rotation::Step;
use keystead_core::renew::Want;
use keystead_store::{IntegrationRow, TokenState};
use tokio::time::timeout;

use super::take::Seen;
use crate::broker::Broker;
use crate::error::Error;
use crate::renew::{is_in_doubt, seen as renewable};

/// A renewal takes less, but where its store is away.
const PATIENCE: Duration = Duration::from_secs(20);
const NEWER: &str = "An answer was lost when its tokens were renewed: newer tokens may exist, which were not taken back";
const ENDED: &str =
    "Its access token had ended and could not be renewed: its refresh token may work yet";

impl Broker {
    /// Whether its tokens are renewed before it is taken out: nobody knows whether they are the
    /// newest, or it is an access token that is needed, and that has ended.
    pub(super) fn is_to_be_renewed(&self, seen: &Seen) -> bool {
        let live = seen.tokens().map(|tokens| tokens.state) == Some(TokenState::Live);
        live && self.left_by_renewal(seen).is_some()
    }

    /// Renews its tokens, though it is out of use. How that ends is read off their row.
    pub(super) async fn renew_once_more(&self, tenant: TenantId, id: IntegrationId) {
        let mut flight = self.fly((tenant, id), Want::Last);
        let _ = timeout(PATIENCE, flight.wait_for(Option::is_some)).await;
    }

    /// Whether there may be another key beside the one in use.
    pub(super) async fn is_rotated(&self, row: &IntegrationRow) -> Result<bool, Error> {
        let rotation = self.store().find_rotation(row.tenant, row.id).await?;
        Ok(rotation.is_some_and(|rotation| rotation.step != Step::Idle.as_str()))
    }

    /// What of a grant may live on when the tokens that are seen are taken back by the provider's
    /// calls.
    pub(super) fn left_by_renewal(&self, seen: &Seen) -> Option<&'static str> {
        let tokens = seen.tokens()?;
        let provider = self.catalogue().get(&seen.row.provider)?;
        let mode = provider.oauth_mode()?;
        let revoke = mode.revoke.as_ref().filter(|it| !it.calls.is_empty())?;
        if mode.oauth.as_ref()?.refresh.class == RefreshClass::None {
            return None;
        }
        if is_in_doubt(tokens) {
            return Some(NEWER);
        }
        let usable = renewable(tokens).usable(self.store_time());
        let ended = tokens.state == TokenState::Live && !usable;
        (ended && revoke.needs_access_token()).then_some(ENDED)
    }
}
