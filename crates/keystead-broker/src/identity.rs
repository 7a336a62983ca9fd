//! Who asks: from the one presented token to a proven caller in one tenant.
//!
//! What always holds: an answer comes from the cache only while the feed is heard and no key,
//! member or tenant has changed since it was made; an address list is checked on every request;
//! every failure is recorded, counts against its address, and looks like every other.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use keystead_core::action::{Action, Role, TargetKind};
use keystead_core::caller::{Caller, Filter, Scope};
use keystead_core::ids::{KeyId, RequestId, TenantId};
use keystead_core::time::Time;
use keystead_core::token::{KeyKind, Presented};
use keystead_store::{KeyRow, TenantRow};

use crate::broker::Broker;
use crate::callers::VerifiedToken;
use crate::context::{Basis, Context, Proof};
use crate::epochs::Epoch;
use crate::error::Error;
use crate::hash::sha256;
use crate::keys;
use crate::limits::Subject;
use crate::permit::On;
use crate::tenants::is_name;

/// A proven caller, as it is remembered.
pub(crate) struct Identity {
    caller: Arc<Caller>,
    tenant: Option<TenantId>,
    subject: Subject,
    addresses: Vec<IpNet>,
    until: Time,
    epoch: Epoch,
    basis: Basis,
    /// When the key or the token ends, however long the proof is remembered.
    expires: Time,
}

/// A key as it is on record, whatever tenant it is used in.
pub(crate) struct KnownKey {
    row: KeyRow,
    until: Time,
    epoch: Epoch,
}

/// How long a proven token is believed without being looked at again, in seconds.
const KEPT_SECONDS: i64 = 60;

/// No issuer's tokens are taken for longer than this after they ended.
const LONGEST_LEEWAY_SECONDS: i64 = 60;

/// Why a token proves nobody; for the entry only.
pub(crate) type Why = std::borrow::Cow<'static, str>;

enum Refusal {
    /// 401, whatever the reason.
    Nobody(Why),
    /// The tenant that was named is not the caller's.
    Tenant,
    /// Something needed is away.
    Fault(Error),
}

impl<E: Into<Error>> From<E> for Refusal {
    fn from(fault: E) -> Refusal {
        Refusal::Fault(fault.into())
    }
}

impl Broker {
    /// Proves the caller by the one presented token, and finds the tenant it acts in: its own, or
    /// the one that `Keystead-Tenant` names (as `named_tenant` reads it).
    ///
    /// # Errors
    /// `Unauthenticated`, all reasons alike; `NotFound` for a tenant that is not the caller's;
    /// `Limited`; `Unavailable`. Each is on record.
    pub async fn identify(
        &self,
        token: Option<&str>,
        tenant: Option<&str>,
        request: RequestId,
        address: Option<IpAddr>,
    ) -> Result<Context, Error> {
        let now = self.clock().now();
        let anonymous = Context::anonymous(request, address);
        let Some(token) = token else {
            return Err(self.nobody(&anonymous, "no token".into()).await);
        };
        let key = cache_key(token, tenant);
        let epoch = self.epochs().of_callers();
        let known = self.identities().get(&key).filter(|known| {
            known.epoch == epoch && known.until > now && self.epochs().trusted(now)
        });
        let identity = match known {
            Some(known) => known,
            None => match self.prove(token, tenant, &anonymous, now, epoch).await {
                Ok(identity) => {
                    let identity = Arc::new(identity);
                    self.identities().insert(key, identity.clone());
                    identity
                }
                Err(Refusal::Nobody(why)) => return Err(self.nobody(&anonymous, why).await),
                Err(Refusal::Tenant) => {
                    let on = On::kind(TargetKind::Tenant, TenantId::PLATFORM)
                        .named(tenant.unwrap_or_default());
                    let fault = Error::NotFound { what: "tenant" };
                    return Err(self
                        .unproven(&anonymous, &on, "other tenant".into(), fault)
                        .await);
                }
                Err(Refusal::Fault(fault)) => return Err(fault),
            },
        };
        if !identity.addresses.is_empty()
            && !address
                .is_some_and(|address| identity.addresses.iter().any(|net| net.contains(&address)))
        {
            return Err(self.nobody(&anonymous, "address".into()).await);
        }
        let ctx = Context {
            caller: Some(identity.caller.clone()),
            tenant: identity.tenant,
            request,
            address,
            subject: Some(identity.subject),
            within: None,
            proof: Some(Proof {
                epoch: identity.epoch,
                basis: identity.basis,
                until: identity.expires,
            }),
        };
        self.admit_caller(&ctx).await?;
        match identity.caller.as_ref() {
            Caller::Service { key, tenant, .. } => {
                self.mark_key_used(tenant.unwrap_or(TenantId::PLATFORM), *key);
            }
            Caller::Operator { key } => self.mark_key_used(TenantId::PLATFORM, *key),
            Caller::User { .. } => {}
        }
        Ok(ctx)
    }

    async fn nobody(&self, ctx: &Context, why: Why) -> Error {
        let on = On::kind(TargetKind::Request, TenantId::PLATFORM);
        self.unproven(ctx, &on, why, Error::Unauthenticated).await
    }

    /// Records a failure to prove anybody in the tenant, and counts it against the address.
    pub(crate) async fn unproven(&self, ctx: &Context, on: &On, why: Why, fault: Error) -> Error {
        // Checked first, so that a flood leaves no entry each.
        let admitted = self
            .admit(
                ctx,
                Action::Info,
                on,
                of_address(ctx.address),
                self.settings().limits.anonymous,
            )
            .await;
        if let Err(limited) = admitted {
            return limited;
        }
        match self.deny(ctx, Action::Info, on, why).await {
            Ok(()) => fault,
            Err(unrecorded) => unrecorded,
        }
    }

    async fn prove(
        &self,
        token: &str,
        tenant: Option<&str>,
        ctx: &Context,
        now: Time,
        epoch: Epoch,
    ) -> Result<Identity, Refusal> {
        match Presented::of(token) {
            Presented::Key(kind) => self.prove_key(token, kind, tenant, ctx, now, epoch).await,
            Presented::Jwt => {
                let verified = self
                    .callers()
                    .verify(token, now)
                    .await
                    .map_err(|fault| Refusal::Nobody(fault.reason.as_str().into()))?;
                self.prove_user(&verified, tenant, ctx, now, epoch).await
            }
            Presented::Unknown => Err(Refusal::Nobody("no token of a known form".into())),
        }
    }

    async fn prove_key(
        &self,
        token: &str,
        kind: KeyKind,
        tenant: Option<&str>,
        ctx: &Context,
        now: Time,
        epoch: Epoch,
    ) -> Result<Identity, Refusal> {
        let known = self.known_key(token, ctx, now, epoch).await?;
        let row = &known.row;
        stands(row, now).map_err(|why| Refusal::Nobody(why.into()))?;
        if keys::kind(row.kind) != kind {
            return Err(Refusal::Nobody("unknown key".into()));
        }
        let bound = row.bound;
        let named = match tenant {
            Some(text) => Some(self.named_by(kind == KeyKind::Operator, text).await?),
            None => None,
        };
        let acting = match (bound, named) {
            (Some(bound), Some(named)) if bound != named => return Err(Refusal::Tenant),
            (Some(bound), _) => {
                let alive = self
                    .store()
                    .find_tenant(bound)
                    .await?
                    .is_some_and(|row| row.is_active());
                if !alive {
                    return Err(Refusal::Nobody("deleted tenant".into()));
                }
                Some(bound)
            }
            (None, named) => named,
        };
        let expires = row.expires_at.unwrap_or(Time(i64::MAX));
        let until = expires.min(known.until);
        let caller = match kind {
            KeyKind::Service => Caller::Service {
                key: row.id,
                tenant: bound,
                scopes: keys::scopes(row)?,
            },
            KeyKind::Operator => Caller::Operator { key: row.id },
        };
        let subject = Subject(b'k', *row.id.bytes());
        Ok(Identity {
            caller: Arc::new(caller),
            tenant: acting,
            subject,
            addresses: keys::addresses(row)?,
            until,
            epoch,
            basis: Basis::Key,
            expires,
        })
    }

    /// The key of that text, from the store once in `KEPT_SECONDS`: a service of many tenants is
    /// proven anew in each of them.
    async fn known_key(
        &self,
        token: &str,
        ctx: &Context,
        now: Time,
        epoch: Epoch,
    ) -> Result<Arc<KnownKey>, Refusal> {
        let hash = self.keyring().lookup_hash(token.as_bytes());
        match self.known_keys().get(&hash) {
            Some(known)
                if known.epoch == epoch && known.until > now && self.epochs().trusted(now) =>
            {
                return Ok(known);
            }
            // It was a key before: whoever guesses from the same address does not shut it out.
            Some(_) => {}
            None => {
                let (subject, rate) = (of_address(ctx.address), self.settings().limits.anonymous);
                if self.limiter().is_full(subject, rate, now) {
                    // Nobody, without asking the store; counted and answered as all the others are.
                    return Err(Refusal::Nobody("unknown key".into()));
                }
            }
        }
        let found = self.store().find_key_by_hash(hash).await?;
        let known = Arc::new(KnownKey {
            row: found.ok_or(Refusal::Nobody("unknown key".into()))?,
            until: now.plus_seconds(KEPT_SECONDS),
            epoch,
        });
        self.known_keys().insert(hash, known.clone());
        Ok(known)
    }

    async fn prove_user(
        &self,
        verified: &VerifiedToken,
        tenant: Option<&str>,
        ctx: &Context,
        now: Time,
        epoch: Epoch,
    ) -> Result<Identity, Refusal> {
        let expires = verified.expires_at.plus_seconds(LONGEST_LEEWAY_SECONDS);
        let until = verified.expires_at.min(now.plus_seconds(KEPT_SECONDS));
        let name = format!("{}|{}", verified.issuer, verified.subject);
        let subject = Subject(b'u', hash16(name.as_bytes()));
        if verified.service_role {
            // The product's own backend, by its project's key: every action of a service, no tenant of its own.
            let acting = match tenant {
                Some(text) => Some(self.named_by(false, text).await?),
                None => None,
            };
            let all = Scope {
                actions: Action::ALL.iter().copied().collect(),
                providers: Filter::Any,
                integrations: Filter::Any,
            };
            let key = KeyId::from_uuid(uuid::Builder::from_custom_bytes(subject.1).into_uuid());
            let caller = Caller::Service {
                key,
                tenant: None,
                scopes: vec![all],
            };
            return Ok(Identity {
                caller: Arc::new(caller),
                tenant: acting,
                subject,
                addresses: Vec::new(),
                until,
                epoch,
                basis: Basis::Stated,
                expires,
            });
        }
        let (external, personal) = match &verified.tenant_claim {
            // The names of users' own tenants are theirs.
            Some(claim) if claim.starts_with("user:") => {
                return Err(Refusal::Nobody("reserved tenant name".into()));
            }
            Some(claim) => (claim.clone(), false),
            None => (format!("user:{}", verified.subject), true),
        };
        let own = match self
            .store()
            .find_tenant_by_external(&verified.issuer, &external)
            .await?
        {
            Some(row) => row,
            None if !is_name(&external) => {
                return Err(Refusal::Nobody("unusable tenant name".into()));
            }
            None => {
                self.make_tenant_at_first_sight(verified, &external, ctx)
                    .await?
            }
        };
        if !own.is_active() {
            return Err(Refusal::Nobody("deleted tenant".into()));
        }
        let named = match tenant {
            Some(text) if text == own.id.to_string() || text == external => own.id,
            Some(text) => self.named_by(false, text).await?,
            None => own.id,
        };
        let member = self
            .store()
            .find_member(named, &verified.issuer, &verified.subject)
            .await?;
        let stated = match personal {
            _ if named != own.id => None,
            true => Some(Role::Owner),
            false => verified.role,
        };
        let (role, basis) = match (stated, member) {
            (Some(role), _) => (role, Basis::Stated),
            (None, Some(member)) => (member.role, Basis::Member),
            (None, None) if named == own.id => (Role::Viewer, Basis::Stated),
            // Another tenant than the token's: only as a member that its owner put there.
            (None, None) => return Err(Refusal::Tenant),
        };
        let caller = Caller::User {
            issuer: verified.issuer.to_string(),
            subject: verified.subject.clone(),
            tenant: named,
            role,
        };
        Ok(Identity {
            caller: Arc::new(caller),
            tenant: Some(named),
            subject,
            addresses: Vec::new(),
            until,
            epoch,
            basis,
            expires,
        })
    }

    /// A tenant by its id, by `issuer|name` (`|name`: one that no issuer names), or, where one issuer
    /// is configured, by that issuer's name alone.
    ///
    /// # Errors
    /// As the store answers.
    pub async fn named_tenant(&self, text: &str) -> Result<Option<TenantId>, Error> {
        // Whatever becomes of a tenant moves this epoch.
        let epoch = self.epochs().of_callers();
        if let Some((id, known)) = self.known_tenants().get(text)
            && known == epoch
            && self.epochs().trusted(self.clock().now())
        {
            return Ok(Some(id));
        }
        let found = self.find_named_tenant(text).await?;
        if let Some(id) = found {
            self.known_tenants().insert(text.to_owned(), (id, epoch));
        }
        Ok(found)
    }

    async fn find_named_tenant(&self, text: &str) -> Result<Option<TenantId>, Error> {
        if let Ok(id) = text.parse::<TenantId>() {
            return Ok(self
                .store()
                .find_tenant(id)
                .await?
                .filter(TenantRow::is_active)
                .map(|row| row.id));
        }
        // No issuer's name has a bar in it, so what comes before the first one is an issuer.
        let (issuer, external) = match text.split_once('|') {
            Some(said) => said,
            None => match self.only_issuer() {
                Some(issuer) => (issuer, text),
                // An issuer makes any name it likes: which one is meant has to be said.
                None => return Ok(None),
            },
        };
        if text.chars().any(char::is_control) {
            return Ok(None);
        }
        let mut found = self
            .store()
            .find_tenant_by_external(issuer, external)
            .await?;
        if found.is_none() && !text.contains('|') {
            found = self.store().find_tenant_by_external("", text).await?;
        }
        Ok(found.filter(TenantRow::is_active).map(|row| row.id))
    }

    /// The one that a bare name is of; empty where no issuer is configured, `None` where several are.
    fn only_issuer(&self) -> Option<&str> {
        let mut issuers = self.callers().issuer_names();
        let first = issuers.next().unwrap_or_default();
        issuers.next().is_none().then_some(first)
    }

    /// The tenant that a caller named; the platform's own is the operators' alone.
    async fn named_by(&self, operator: bool, text: &str) -> Result<TenantId, Refusal> {
        self.named_tenant(text)
            .await?
            .filter(|id| operator || *id != TenantId::PLATFORM)
            .ok_or(Refusal::Tenant)
    }

    /// Whether a key may still be used.
    pub(crate) async fn key_stands(&self, key: KeyId) -> Result<bool, Error> {
        let now = self.clock().now();
        Ok(self
            .store()
            .find_key(key)
            .await?
            .is_some_and(|row| stands(&row, now).is_ok()))
    }
}

fn stands(row: &KeyRow, now: Time) -> Result<(), &'static str> {
    if row.revoked_at.is_some() {
        return Err("revoked key");
    }
    if row.expires_at.is_some_and(|at| at <= now) {
        return Err("expired key");
    }
    Ok(())
}

/// Who failures to prove anybody are counted against.
fn of_address(address: Option<IpAddr>) -> Subject {
    let mut bytes = [0; 16];
    match address {
        Some(IpAddr::V4(address)) => bytes[12..].copy_from_slice(&address.octets()),
        // One customer has a /64 at the least.
        Some(IpAddr::V6(address)) => bytes[..8].copy_from_slice(&address.octets()[..8]),
        None => {}
    }
    Subject(b'a', bytes)
}

/// What a proven caller is remembered under: the token, and the tenant that was named with it.
fn cache_key(token: &str, tenant: Option<&str>) -> [u8; 32] {
    match tenant {
        None => sha256(&[token.as_bytes(), &[0]]),
        Some(tenant) => sha256(&[token.as_bytes(), &[0], tenant.as_bytes(), &[1]]),
    }
}

fn hash16(bytes: &[u8]) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&sha256(&[bytes])[..16]);
    short
}
