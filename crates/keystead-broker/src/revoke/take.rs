//! Taking one integration out of use: in one write it is disabled or deleted, its credential and
//! its tokens are destroyed, and what its provider's revocation needs is sealed anew.
//!
//! What always holds: a renewal that is under way is waited for, not cut off, because its answer
//! holds the tokens that have to be taken back; whatever else comes in between fails the write.
//! Tokens of an earlier version of the credential are a grant of their own, as live as ever, and are
//! taken back with the app of that version beside what took its place.

use std::time::Duration;

use keystead_core::ids::{IntegrationId, RevocationId, TenantId};
use keystead_core::provider::{Fields, Mode, Provider};
use keystead_core::time::Time;
use keystead_store::{
    BatchRow, CredentialRow, Effect, IntegrationChange, IntegrationRow, RevocationRow,
    RevocationState, RevokeIntegration, TokenSetRow,
};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::ACTION;
use crate::broker::Broker;
use crate::clock;
use crate::context::Context;
use crate::error::Error;
use crate::integrations::write_message;
use crate::keyring::TenantKeys;
use crate::permit::{Decided, On, Revoke, credential_place, revocation_place};

/// Longer than a lease on a renewal.
const PATIENCE: Duration = Duration::from_secs(40);
const LOOK: Duration = Duration::from_millis(100);
/// One may have been begun before by somebody who wanted less.
const RENEWALS: u8 = 2;
/// Of a credential that was revoked, all that stays: what a new consent is asked with.
const APP: [&str; 2] = ["client_id", "client_secret"];

/// For whom, and how, integrations are taken out.
pub(super) struct Take<'a> {
    pub(super) ctx: &'a Context,
    pub(super) batch: &'a BatchRow,
    /// The caller takes out one integration, and deletes it: the batch is made in the same write.
    /// Otherwise Keystead takes out what a recorded decision selected, and disables it.
    pub(super) delete: bool,
}

/// What is to be done about a grant.
enum Way {
    /// The provider is asked, with this in hand.
    Ask { mode: String, sealed: Fields },
    /// There is nobody to ask; whose page a person has to open goes by the mode, where it is known.
    Settled(RevocationState, &'static str, Option<String>),
}

/// An integration with what there is of its secrets, sealed.
pub(super) struct Seen {
    pub(super) row: IntegrationRow,
    credential: CredentialRow,
    tokens: Option<TokenSetRow>,
}

impl Seen {
    /// Its tokens, where they were granted under the credential as it is.
    pub(super) fn tokens(&self) -> Option<&TokenSetRow> {
        let version = self.credential.version;
        let tokens = self.tokens.as_ref();
        tokens.filter(|tokens| tokens.credential_version == version)
    }

    /// The tokens, where the credential that they were granted under was replaced since.
    fn earlier_tokens(&self) -> Option<&TokenSetRow> {
        let version = self.credential.version;
        let tokens = self.tokens.as_ref();
        tokens.filter(|tokens| tokens.credential_version != version)
    }
}

impl Broker {
    /// Takes an integration out, if it is still there and was not taken out before. A change that
    /// comes in between is looked at anew, or refused where a revision is expected.
    pub(super) async fn take_out(
        &self,
        take: &Take<'_>,
        tenant: TenantId,
        id: IntegrationId,
        mut expected: Option<u64>,
    ) -> Result<Option<Vec<RevocationRow>>, Error> {
        let until = Instant::now() + PATIENCE;
        let (mut renewals, mut rotation_is_over) = (RENEWALS, false);
        let mut other = None;
        loop {
            let Some(seen) = self.see(tenant, id).await? else {
                return Ok(None);
            };
            if expected.is_some_and(|expected| expected != seen.row.revision) {
                return Err(Error::Precondition);
            }
            // Given anew since it was asked for: not what was meant.
            let meant = seen.credential.created_at <= take.batch.created_at
                || seen.earlier_tokens().is_some();
            if !take.delete && (!meant || self.is_revoked(&seen.row).await?) {
                return Ok(None);
            }
            if self.is_being_renewed(&seen).await? && Instant::now() < until {
                if self.hold(take, &seen.row).await? {
                    expected = expected.map(|revision| revision + 1);
                }
                tokio::time::sleep(LOOK).await;
                continue;
            }
            if renewals > 0 && self.is_to_be_renewed(&seen) && Instant::now() < until {
                if seen.row.disabled {
                    renewals -= 1;
                    self.renew_once_more(tenant, id).await;
                } else if self.hold(take, &seen.row).await? {
                    expected = expected.map(|revision| revision + 1);
                }
                continue;
            }
            if !rotation_is_over && Instant::now() < until {
                if !self.is_rotated(&seen.row).await? {
                    rotation_is_over = true;
                } else if seen.row.disabled {
                    other = self.end_other_key(take.ctx, &seen.row).await?;
                    rotation_is_over = true;
                } else if self.hold(take, &seen.row).await? {
                    expected = expected.map(|revision| revision + 1);
                }
                continue;
            }
            let left = other.as_ref().map(|(_, left)| left.as_str());
            match self.take_seen(take, seen, left).await {
                Err(Error::Conflict { .. }) if Instant::now() < until => {
                    tokio::time::sleep(LOOK / 10).await;
                }
                Err(Error::NotFound { .. }) => return Ok(None),
                done => {
                    if let (Ok(_), Some((leftover, _))) = (&done, other) {
                        self.discard_later(leftover);
                    }
                    return done.map(Some);
                }
            }
        }
    }

    async fn see(&self, tenant: TenantId, id: IntegrationId) -> Result<Option<Seen>, Error> {
        loop {
            let Some(row) = self.store().find_integration(tenant, id).await? else {
                return Ok(None);
            };
            let version = row.credential_version;
            let (credential, tokens) = tokio::join!(
                self.store().find_credential(tenant, id, version),
                self.store().find_token_set(tenant, id)
            );
            // Without its credential it was replaced between the two reads.
            if let Some(credential) = credential? {
                let tokens = tokens?;
                return Ok(Some(Seen {
                    row,
                    credential,
                    tokens,
                }));
            }
        }
    }

    async fn is_being_renewed(&self, seen: &Seen) -> Result<bool, Error> {
        let lease = seen.tokens.as_ref().and_then(|tokens| tokens.lease_until);
        match lease {
            Some(until) => Ok(self.store().clock().await? < until),
            None => Ok(false),
        }
    }

    /// Puts it out of use while its renewal ends; whether that changed it.
    async fn hold(&self, take: &Take<'_>, row: &IntegrationRow) -> Result<bool, Error> {
        if row.disabled {
            return Ok(false);
        }
        let held = Effect::UpdateIntegration {
            tenant: row.tenant,
            integration: row.id,
            expected_revision: Some(row.revision),
            change: IntegrationChange {
                disabled: Some(true),
                ..IntegrationChange::default()
            },
            at: self.clock().now(),
        };
        let decided = self.decided(take, row).await?;
        match decided
            .because("held to be revoked")
            .carry_out(vec![held])
            .await
        {
            Ok(()) => Ok(true),
            Err(Error::Conflict { .. } | Error::NotFound { .. }) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    async fn decided(&self, take: &Take<'_>, row: &IntegrationRow) -> Result<Decided, Error> {
        let on = On::integration(row.tenant, row.id, &row.provider);
        if take.delete {
            return self.decide(take.ctx, ACTION, &on).await;
        }
        Ok(self.decide_for_system(take.ctx, ACTION, &on))
    }

    async fn take_seen(
        &self,
        take: &Take<'_>,
        seen: Seen,
        other_key: Option<&str>,
    ) -> Result<Vec<RevocationRow>, Error> {
        let (tenant, integration) = (seen.row.tenant, seen.row.id);
        let keys = self.keyring().tenant(tenant).await?;
        let provider = self.catalogue().get(&seen.row.provider).cloned();
        let (ways, app) = self
            .ways_of(take, &seen, provider.as_deref(), &keys)
            .await?;
        let batch = take.batch;
        // A deletion is asked for in the moment in which it is done.
        let at = if take.delete {
            batch.created_at
        } else {
            self.clock().now()
        };
        let left = (other_key, other_key.or_else(|| self.left_by_renewal(&seen)));
        let revocations = ways
            .into_iter()
            .map(|way| {
                revocation(
                    batch,
                    &seen.row,
                    provider.as_deref(),
                    &keys,
                    (way, left),
                    at,
                )
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let version = seen.credential.version + 1;
        let message = write_message(&app, false);
        let (key_id, sealed) =
            keys.seal(&credential_place(tenant, integration, version), &message)?;
        let revoke = RevokeIntegration {
            credential: CredentialRow {
                tenant,
                integration,
                version,
                key_id,
                sealed,
                created_at: at,
            },
            tokens: seen
                .tokens
                .as_ref()
                .map(|tokens| (tokens.token_version, tokens.fence)),
            expected_revision: seen.row.revision,
            error_message: told(batch, at),
            at,
        };
        let mut effects = vec![Effect::RevokeIntegration(Box::new(revoke))];
        effects.extend(
            revocations
                .iter()
                .map(|row| Effect::InsertRevocation(Box::new(row.clone()))),
        );
        let mut decided = self.decided(take, &seen.row).await?;
        decided = decided.because(format!("revoked in {}", batch.id));
        if take.delete {
            let batch = BatchRow {
                total: Some(revocations.len() as u64),
                ..batch.clone()
            };
            effects.insert(0, Effect::InsertBatch(Box::new(batch)));
            effects.push(Effect::DeleteIntegration {
                tenant,
                integration,
                expected_revision: None,
            });
            decided = decided.version(seen.credential.version);
        }
        decided.carry_out(effects).await?;
        // Nothing finds it there any more; it need not lie there either.
        self.minted()
            .remove(&(tenant, integration, seen.credential.version));
        Ok(revocations)
    }

    /// What is to be done about each grant, and what of the credential stays.
    async fn ways_of(
        &self,
        take: &Take<'_>,
        seen: &Seen,
        provider: Option<&Provider>,
        keys: &TenantKeys,
    ) -> Result<(Vec<Way>, Fields), Error> {
        let nothing = Fields::from_message(b"{}").ok_or_else(|| Error::internal("no parts"))?;
        let Some(provider) = provider else {
            let detail =
                "its provider is not in the catalogue any more: take it back on the vendor's page";
            let way = Way::Settled(RevocationState::Failed, detail, None);
            return Ok((vec![way], nothing));
        };
        // What nobody can be asked for is not opened, but for an app that is to stay.
        if provider.oauth_mode().is_none() && !provider.modes.iter().any(is_asked) {
            return Ok((vec![no_call(None)], nothing));
        }
        let mut ways = Vec::new();
        if let Some(tokens) = seen.earlier_tokens() {
            let (tenant, id, version) =
                (tokens.tenant, tokens.integration, tokens.credential_version);
            let granted_under = self.store().find_credential(tenant, id, version).await?;
            ways.push(match granted_under {
                Some(credential) => {
                    let opened = self.opened(take, seen, keys, &credential, Some(tokens));
                    way_of_tokens(provider, opened.await?.as_ref())?
                }
                None => unopened(provider.oauth_mode()),
            });
        }
        let tokens = seen.tokens.as_ref();
        let own = tokens.filter(|_| seen.earlier_tokens().is_none());
        let opened = self.opened(take, seen, keys, &seen.credential, own);
        let Some(fields) = opened.await? else {
            ways.push(unopened(own.and_then(|_| provider.oauth_mode())));
            return Ok((ways, nothing));
        };
        if own.is_some() {
            ways.push(way_of_tokens(provider, Some(&fields))?);
            return Ok((ways, fields.keep(&APP)));
        }
        let Some(mode) = fields.mode(provider) else {
            ways.push(no_call(None));
            return Ok((ways, nothing));
        };
        if mode.oauth.is_none() {
            ways.push(way_by(mode, &fields)?);
            return Ok((ways, nothing));
        }
        if ways.is_empty() {
            let detail = "it was never connected: there was nothing to take back";
            ways.push(Way::Settled(RevocationState::Confirmed, detail, None));
        }
        Ok((ways, fields.keep(&APP)))
    }

    /// A version of the credential, and the tokens that were granted under it; `None` where it does
    /// not open.
    async fn opened(
        &self,
        take: &Take<'_>,
        seen: &Seen,
        keys: &TenantKeys,
        credential: &CredentialRow,
        tokens: Option<&TokenSetRow>,
    ) -> Result<Option<Fields>, Error> {
        let permit = self
            .decided(take, &seen.row)
            .await?
            .because("opened to be revoked")
            .permit::<Revoke>(credential.version)
            .await?;
        let opened = permit.open_grant(keys, credential, tokens);
        if opened.is_err() {
            tracing::error!(integration = %seen.row.id, "what is to be revoked does not open: its row was changed or moved");
        }
        Ok(opened.ok())
    }
}

/// A grant's revocation, as it begins.
fn revocation(
    batch: &BatchRow,
    row: &IntegrationRow,
    provider: Option<&Provider>,
    keys: &TenantKeys,
    (way, (other_key, left)): (Way, (Option<&str>, Option<&str>)),
    at: Time,
) -> Result<RevocationRow, Error> {
    let id = RevocationId::from_uuid(clock::new_uuid(at)?);
    let mut revocation = RevocationRow {
        tenant: row.tenant,
        id,
        batch_tenant: batch.tenant,
        batch: batch.id,
        integration: row.id,
        name: row.name.clone(),
        provider: row.provider.clone(),
        config: row.config.clone(),
        mode: String::new(),
        state: RevocationState::Pending,
        key_id: None,
        sealed: None,
        attempts: 0,
        next_at: None,
        detail: None,
        manual_url: None,
        created_at: at,
        settled_at: None,
        remark: None,
    };
    match way {
        Way::Ask { mode, sealed } => {
            let message = Zeroizing::new(sealed.to_message());
            let (key, blob) = keys.seal(&revocation_place(row.tenant, id), &message)?;
            (revocation.key_id, revocation.sealed) = (Some(key), Some(blob));
            revocation.next_at = Some(at.plus_seconds(super::work::CLAIM_SECONDS));
            revocation.mode = mode;
            revocation.remark = left.map(str::to_owned);
        }
        Way::Settled(state, detail, mode) => {
            (revocation.state, revocation.settled_at) = (state, Some(at));
            revocation.detail = Some(match other_key {
                Some(left) => format!("{detail}. {left}"),
                None => detail.to_owned(),
            });
            revocation.mode = mode.unwrap_or_default();
        }
    }
    if revocation.state != RevocationState::Confirmed {
        let mode = provider.and_then(|provider| provider.mode(&revocation.mode));
        revocation.manual_url = provider.map(|provider| page_of(provider, mode));
    }
    Ok(revocation)
}

/// Whether there is a provider's call for what is of this mode.
fn is_asked(mode: &Mode) -> bool {
    let revoke = mode.revoke.as_ref();
    revoke.is_some_and(|revoke| !revoke.calls.is_empty())
}

fn way_by(mode: &Mode, fields: &Fields) -> Result<Way, Error> {
    if !is_asked(mode) {
        return Ok(no_call(Some(mode)));
    }
    Ok(Way::Ask {
        mode: mode.id.clone(),
        sealed: copy(fields)?,
    })
}

fn way_of_tokens(provider: &Provider, opened: Option<&Fields>) -> Result<Way, Error> {
    match (provider.oauth_mode(), opened) {
        (mode, None) => Ok(unopened(mode)),
        (Some(mode), Some(fields)) => way_by(mode, fields),
        (None, Some(_)) => Ok(no_call(None)),
    }
}

fn unopened(mode: Option<&Mode>) -> Way {
    let detail = "what was stored does not open: take it back on the vendor's page";
    let mode = mode.map(|mode| mode.id.clone());
    Way::Settled(RevocationState::Failed, detail, mode)
}

fn no_call(mode: Option<&Mode>) -> Way {
    let detail = "the provider has no call for it: a person has to do it";
    let mode = mode.map(|mode| mode.id.clone());
    Way::Settled(RevocationState::Unsupported, detail, mode)
}

fn copy(fields: &Fields) -> Result<Fields, Error> {
    let message = Zeroizing::new(fields.to_message());
    Fields::from_message(&message).ok_or_else(|| Error::internal("parts that do not read"))
}

/// Where a person can do it: the page for that, or else the nearest to it.
pub(super) fn page_of(provider: &Provider, mode: Option<&Mode>) -> String {
    let own = mode.and_then(|mode| provider.manual_revocation_of(mode));
    own.or(provider.links.revoke.as_deref())
        .or(provider.links.console.as_deref())
        .unwrap_or(&provider.docs)
        .to_owned()
}

/// What the integration's owner reads.
fn told(batch: &BatchRow, at: Time) -> String {
    format!(
        "revoked at {} ({}): give it a new credential, or authorise it anew, and enable it",
        at.rfc3339(),
        batch.id
    )
}
