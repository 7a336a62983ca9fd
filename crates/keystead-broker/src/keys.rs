//! Service keys and operator keys: made once, shown once, kept as a keyed hash.

use ipnet::IpNet;
use keystead_core::action::{Action, TargetKind};
use keystead_core::caller::{Caller, Scope};
use keystead_core::ids::{KeyId, TenantId};
use keystead_core::time::Time;
use keystead_core::token::{KeyKind, PlainKey};
use keystead_store::{Effect, KeyRow};

use crate::broker::Broker;
use crate::clock;
use crate::context::Context;
use crate::error::{Error, FieldFault};
use crate::permit::On;

/// A key, without its text.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its id.
    pub id: KeyId,
    /// For a service or an operator.
    pub kind: KeyKind,
    /// What people call it.
    pub name: String,
    /// The only tenant it may act in.
    pub tenant: Option<TenantId>,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// Where it may be used from; empty: anywhere.
    pub addresses: Vec<IpNet>,
    /// When it ends by itself.
    pub expires_at: Option<Time>,
    /// When it was last used, to about a second.
    pub last_used_at: Option<Time>,
    /// When it was revoked.
    pub revoked_at: Option<Time>,
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: Time,
}

impl TryFrom<KeyRow> for Key {
    type Error = Error;

    fn try_from(row: KeyRow) -> Result<Key, Error> {
        Ok(Key {
            id: row.id,
            scopes: scopes(&row)?,
            addresses: addresses(&row)?,
            kind: kind(row.kind),
            name: row.name,
            tenant: row.bound,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
            revoked_at: row.revoked_at,
            created_by: row.created_by,
            created_at: row.created_at,
        })
    }
}

/// What a stored key may do.
pub(crate) fn scopes(row: &KeyRow) -> Result<Vec<Scope>, Error> {
    serde_json::from_str(&row.scopes).map_err(|_| Error::Corrupt {
        record: row.id.to_string(),
    })
}

/// Where a stored key may be used from.
pub(crate) fn addresses(row: &KeyRow) -> Result<Vec<IpNet>, Error> {
    serde_json::from_str::<Vec<String>>(&row.addresses)
        .ok()
        .and_then(|nets| nets.iter().map(|net| net.parse().ok()).collect())
        .ok_or_else(|| Error::Corrupt {
            record: row.id.to_string(),
        })
}

/// The kind of a stored key.
pub(crate) fn kind(kind: keystead_store::KeyKind) -> KeyKind {
    match kind {
        keystead_store::KeyKind::Service => KeyKind::Service,
        keystead_store::KeyKind::Operator => KeyKind::Operator,
    }
}

/// What a new key is to be.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// For a service or an operator.
    pub kind: KeyKind,
    /// What people call it.
    pub name: String,
    /// The only tenant it may act in.
    pub tenant: Option<TenantId>,
    /// What it may do; a service key needs at least one.
    pub scopes: Vec<Scope>,
    /// Where it may be used from; empty: anywhere.
    pub addresses: Vec<IpNet>,
    /// When it ends by itself.
    pub expires_at: Option<Time>,
}

/// A key that was just made; its text is not to be had again.
pub struct CreatedKey {
    /// The key.
    pub key: Key,
    /// Its text.
    pub text: PlainKey,
}

/// More keys than that are not listed.
const KEYS_MOST: u32 = 10_000;

impl Broker {
    fn new_key_row(&self, new: NewKey, created_by: String) -> Result<(KeyRow, PlainKey), Error> {
        let at = self.clock().now();
        let text = PlainKey::new(new.kind, clock::random()?);
        let row = KeyRow {
            tenant: new.tenant.unwrap_or(TenantId::PLATFORM),
            id: KeyId::from_uuid(clock::new_uuid(at)?),
            kind: match new.kind {
                KeyKind::Service => keystead_store::KeyKind::Service,
                KeyKind::Operator => keystead_store::KeyKind::Operator,
            },
            hash: self.keyring().lookup_hash(text.expose().as_bytes()),
            name: new.name,
            bound: new.tenant,
            scopes: serde_json::to_string(&new.scopes)
                .map_err(|_| Error::internal("scopes that are no JSON"))?,
            addresses: serde_json::to_string(
                &new.addresses
                    .iter()
                    .map(IpNet::to_string)
                    .collect::<Vec<_>>(),
            )
            .map_err(|_| Error::internal("addresses that are no JSON"))?,
            expires_at: new.expires_at,
            last_used_at: None,
            revoked_at: None,
            created_by,
            created_at: at,
        };
        Ok((row, text))
    }

    /// All keys, revoked ones too.
    ///
    /// # Errors
    /// `Denied` for all but operators.
    pub async fn list_keys(&self, ctx: &Context) -> Result<Vec<Key>, Error> {
        self.decide(
            ctx,
            Action::List,
            &On::kind(TargetKind::Key, TenantId::PLATFORM),
        )
        .await?
        .record()
        .await?;
        self.store()
            .list_keys(None, KEYS_MOST)
            .await?
            .into_iter()
            .map(Key::try_from)
            .collect()
    }

    /// Makes a key.
    ///
    /// # Errors
    /// `Invalid` with the fields that are wrong.
    pub async fn create_key(&self, ctx: &Context, new: NewKey) -> Result<CreatedKey, Error> {
        let decided = self
            .decide(
                ctx,
                Action::Put,
                &On::kind(TargetKind::Key, TenantId::PLATFORM),
            )
            .await?;
        let mut faults = Vec::new();
        if new.name.is_empty() || new.name.len() > 200 || new.name.chars().any(char::is_control) {
            faults.push(FieldFault::new(
                "name",
                "must be 1 to 200 bytes without control characters",
            ));
        }
        if new.kind == KeyKind::Service && new.scopes.is_empty() {
            faults.push(FieldFault::new("scopes", "a service key without a scope may do nothing: give at least one, e.g. use,info:openai"));
        }
        let narrowed = |scope: &Scope| {
            scope.actions.contains(&Action::Audit) && !scope.covers(Action::Audit, None, None)
        };
        if new.scopes.iter().any(narrowed) {
            faults.push(FieldFault::new("scopes", "audit is of all the tenant's entries and cannot be narrowed to providers or integrations: give it as a scope of its own, `audit`"));
        }
        if new.kind == KeyKind::Operator && (new.tenant.is_some() || !new.scopes.is_empty()) {
            faults.push(FieldFault::new(
                "kind",
                "an operator key has neither tenant nor scopes",
            ));
        }
        if new.expires_at.is_some_and(|at| at <= self.clock().now()) {
            faults.push(FieldFault::new("expires_at", "is in the past"));
        }
        if let Some(tenant) = new.tenant
            && (tenant == TenantId::PLATFORM
                || !self
                    .store()
                    .find_tenant(tenant)
                    .await?
                    .is_some_and(|row| row.is_active()))
        {
            faults.push(FieldFault::new("tenant", "is no tenant here"));
        }
        if !faults.is_empty() {
            return Err(decided.fail(Error::Invalid(faults)).await);
        }
        let created_by = ctx.caller.as_deref().map(Caller::name).unwrap_or_default();
        let (row, text) = self.new_key_row(new, created_by)?;
        decided
            .because(row.id.to_string())
            .carry_out(vec![Effect::InsertKey(row.clone())])
            .await?;
        Ok(CreatedKey {
            key: row.try_into()?,
            text,
        })
    }

    /// Revokes a key: at once here, within a second on every other node.
    ///
    /// # Errors
    /// `NotFound` where there is none; revoking twice is fine.
    pub async fn revoke_key(&self, ctx: &Context, id: KeyId) -> Result<(), Error> {
        let decided = self
            .decide(
                ctx,
                Action::Delete,
                &On::kind(TargetKind::Key, TenantId::PLATFORM).named(id),
            )
            .await?;
        let Some(row) = self.store().find_key(id).await? else {
            return Err(decided.fail(Error::NotFound { what: "key" }).await);
        };
        if row.revoked_at.is_some() {
            return decided.because("already revoked").record().await;
        }
        let at = self.clock().now();
        decided
            .carry_out(vec![Effect::RevokeKey {
                tenant: row.tenant,
                key: id,
                at,
            }])
            .await?;
        self.epochs().move_callers();
        Ok(())
    }

    /// The operator key of a first start, made by whoever has this installation's shell: `Some`
    /// only while no operator key was ever made.
    ///
    /// # Errors
    /// `Unavailable` where the store does not answer.
    pub async fn first_operator_key(&self) -> Result<Option<PlainKey>, Error> {
        let exists = self
            .store()
            .list_keys(None, KEYS_MOST)
            .await?
            .iter()
            .any(|row| row.kind == keystead_store::KeyKind::Operator);
        if exists {
            return Ok(None);
        }
        let shell = Context::shell(self.new_request_id());
        let made = self
            .create_key(&shell, NewKey::operator("first start"))
            .await?;
        Ok(Some(made.text))
    }
}

impl NewKey {
    /// An operator key of that name.
    pub fn operator(name: &str) -> NewKey {
        NewKey {
            kind: KeyKind::Operator,
            name: name.to_owned(),
            tenant: None,
            scopes: Vec::new(),
            addresses: Vec::new(),
            expires_at: None,
        }
    }
}
