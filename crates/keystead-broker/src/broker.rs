//! The broker: what all use cases share, and how it starts.
//!
//! What always holds: a started broker has opened its keys, proven the isolation of its store, and
//! hears the change feed. Its background work ends with it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderName;
use keystead_core::action::{Action, TargetKind};
use keystead_core::caller::Caller;
use keystead_core::ids::{IntegrationId, KeyId, RequestId, TenantId};
use keystead_core::policy::Openings;
use keystead_core::provider::Catalogue;
use keystead_core::time::Time;
use keystead_store::{Note, Store};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;

use crate::callers::Verifier;
use crate::clock::{self, Clock, RequestIds};
use crate::connect::ConnectSettings;
use crate::context::Context;
use crate::epochs::{Epoch, Epochs};
use crate::error::Error;
use crate::feed::FeedPlace;
use crate::identity::{Identity, KnownKey};
use crate::integrations::{Loaded, Loading};
use crate::keyring::{Keyring, KeyringSettings};
use crate::kms::Kms;
use crate::limits::{self, Limiter, Limits, Subject};
use crate::mint::Minted;
use crate::net::Client;
use crate::oauth::{DevicePace, OAuthSettings};
use crate::permit::On;
use crate::renew::{RenewSettings, Renewals, StoreClock};
use crate::streams::Streams;

/// What a broker is made of.
pub struct Parts {
    /// Where rows are kept.
    pub store: Store,
    /// What wraps the root key.
    pub kms: Box<dyn Kms>,
    /// The one way out.
    pub client: Client,
    /// The providers.
    pub catalogue: Catalogue,
    /// Whose JWTs are believed.
    pub callers: Verifier,
    /// How it behaves.
    pub settings: Settings,
    /// What time it is.
    pub clock: Clock,
}

/// How a broker behaves.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Limits per caller and integration.
    pub limits: Limits,
    /// What an operator has opened beyond the default.
    pub openings: Openings,
    /// How long keys are trusted.
    pub keyring: KeyringSettings,
    /// The proxy's limits.
    pub proxy: ProxySettings,
    /// How accounts at providers are connected.
    pub oauth: OAuthSettings,
    /// What is said of connect sessions.
    pub connect: ConnectSettings,
    /// How their tokens are renewed.
    pub renew: RenewSettings,
}

/// The proxy's limits.
#[derive(Clone, Copy, Debug)]
pub struct ProxySettings {
    /// How long a provider may take to begin its answer.
    pub head_timeout: Duration,
    /// How long a body may stand still.
    pub idle_timeout: Duration,
    /// The largest request body, in bytes.
    pub max_request_body: u64,
    /// The largest request body that is held in memory to be signed (SigV4), in bytes.
    pub max_signed_body: u64,
    /// Whether a credential that a provider echoes is taken out of its answer's body.
    pub redact_bodies: bool,
}

impl Default for ProxySettings {
    fn default() -> Self {
        ProxySettings {
            head_timeout: Duration::from_secs(120),
            idle_timeout: Duration::from_secs(300),
            max_request_body: 512 << 20,
            max_signed_body: 16 << 20,
            redact_bodies: true,
        }
    }
}

/// Plain numbers for the metrics.
#[derive(Default)]
pub struct Counters {
    /// Entries given to the log.
    pub entries: AtomicU64,
    /// Integrations found in the cache.
    pub cache_hits: AtomicU64,
    /// Integrations read from the store.
    pub cache_misses: AtomicU64,
    /// Requests refused by a limit.
    pub limited: AtomicU64,
    /// Credentials that a provider echoed, and that were taken out.
    pub redacted: AtomicU64,
}

/// What needs what to be up.
#[derive(Clone, Debug)]
pub struct Readiness {
    /// Each part, and what is wrong with it.
    pub parts: BTreeMap<&'static str, Result<(), String>>,
}

impl Readiness {
    /// Whether all of it is.
    pub fn ok(&self) -> bool {
        self.parts.values().all(Result::is_ok)
    }
}

/// The broker. Clones share it.
#[derive(Clone)]
pub struct Broker(Arc<Inner>);

struct Inner {
    store: Store,
    keyring: Keyring,
    client: Client,
    catalogue: Catalogue,
    callers: Verifier,
    settings: Settings,
    clock: Clock,
    epochs: Epochs,
    feed: FeedPlace,
    limiter: Limiter,
    identities: Cache<[u8; 32], Arc<Identity>>,
    known_keys: Cache<[u8; 32], Arc<KnownKey>>,
    known_tenants: Cache<String, (TenantId, Epoch)>,
    integrations: Integrations,
    loading: Loading,
    only_of_type: Cache<(TenantId, String), (IntegrationId, Epoch)>,
    minted: Cache<(TenantId, IntegrationId, u64), Arc<Minted>>,
    streams: Streams,
    renewals: Renewals,
    store_clock: StoreClock,
    /// Room for renewals ahead of need.
    ahead: Arc<Semaphore>,
    device_pace: DevicePace,
    held_bodies: Arc<Semaphore>,
    started: Time,
    taken_up: Mutex<BTreeSet<(IntegrationId, u64)>>,
    used: Mutex<Used>,
    keys_used: Mutex<BTreeMap<KeyId, (TenantId, i64)>>,
    /// When the log's last write failed; 0 where it succeeded.
    unwritten_at: AtomicI64,
    token_headers: Vec<HeaderName>,
    request_ids: RequestIds,
    counters: Counters,
}

/// Integrations that were read; bounded by their bytes, as a credential may be large.
pub(crate) type Integrations = Cache<(TenantId, IntegrationId), Arc<Loaded>, ByWeight>;

#[derive(Clone)]
pub(crate) struct ByWeight;

impl Weighter<(TenantId, IntegrationId), Arc<Loaded>> for ByWeight {
    fn weight(&self, _: &(TenantId, IntegrationId), loaded: &Arc<Loaded>) -> u64 {
        loaded.bytes()
    }
}

/// When integrations were last used, as far as it is yet to be written down.
#[derive(Default)]
struct Used {
    latest: BTreeMap<(TenantId, IntegrationId), i64>,
    /// The one that was taken last.
    place: Option<(TenantId, IntegrationId)>,
}

impl Used {
    /// Takes the next few, and after the last the first again: none has to wait for ever.
    fn take(&mut self, most: usize) -> BTreeMap<(TenantId, IntegrationId), i64> {
        let after = self.place.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.latest.range((after, Bound::Unbounded));
        let again = self.latest.iter();
        let next: Vec<_> = rest.chain(again).take(most).map(|(id, _)| *id).collect();
        self.place = next.last().copied();
        next.into_iter()
            .filter_map(|id| Some((id, self.latest.remove(&id)?)))
            .collect()
    }
}

/// Uses of integrations that are written down per second at the most: a store has better things to
/// do than to note each of a hundred thousand.
const NOTED_AT_ONCE: usize = 256;
/// How long one failed write keeps a node from being ready, if none succeeds meanwhile.
const UNWRITTEN_SECONDS: i64 = 10;
const IDENTITIES_KEPT: usize = 20_000;
const KEYS_KEPT: usize = 1_000;
/// About a hundred thousand of the usual size.
const INTEGRATIONS_BYTES: u64 = 128 << 20;
const INTEGRATIONS_KEPT: usize = 100_000;
const ONLY_OF_TYPE_KEPT: usize = 50_000;
/// Of all request bodies together that are held to be signed, unless one alone may take more.
const HELD_BODIES_BYTES: usize = 64 << 20;
const MINTED_KEPT: usize = 20_000;
/// How often it is looked whether the KMS is to be asked.
const KMS_EVERY: Duration = Duration::from_secs(5);

impl Broker {
    /// Starts: opens the keys, proves the store's isolation, hears the feed, and keeps doing so.
    ///
    /// # Errors
    /// Whatever keeps it from serving safely; the text says what to do.
    pub async fn start(parts: Parts) -> Result<Broker, Error> {
        let Parts {
            store,
            kms,
            client,
            catalogue,
            callers,
            settings,
            clock,
        } = parts;
        let keyring = Keyring::open(store.clone(), kms, clock.clone(), settings.keyring).await?;
        store.prove_isolation().await?;
        let next = store.head().await?.size;
        let node = clock::new_uuid(clock.now())?.simple().to_string();
        let mut token_headers = vec![http::header::AUTHORIZATION];
        for provider in catalogue.list() {
            for header in &provider.sdk_token_headers {
                if !token_headers.contains(header) {
                    token_headers.push(header.clone());
                }
            }
        }
        let longest_held = usize::try_from(settings.proxy.max_signed_body).unwrap_or(usize::MAX);
        let held_bodies = longest_held.clamp(HELD_BODIES_BYTES, Semaphore::MAX_PERMITS);
        let broker = Broker(Arc::new(Inner {
            epochs: Epochs::new(clock.now()),
            feed: FeedPlace::at(next),
            limiter: Limiter::new(node),
            identities: Cache::new(IDENTITIES_KEPT),
            known_keys: Cache::new(KEYS_KEPT),
            known_tenants: Cache::new(IDENTITIES_KEPT),
            integrations: Cache::with_weighter(INTEGRATIONS_KEPT, INTEGRATIONS_BYTES, ByWeight),
            loading: Loading::default(),
            only_of_type: Cache::new(ONLY_OF_TYPE_KEPT),
            minted: Cache::new(MINTED_KEPT),
            streams: Streams::default(),
            renewals: Renewals::default(),
            store_clock: StoreClock::unread(clock.now()),
            ahead: Arc::new(Semaphore::new(settings.renew.at_once)),
            device_pace: DevicePace::default(),
            held_bodies: Arc::new(Semaphore::new(held_bodies)),
            started: clock.now(),
            taken_up: Mutex::default(),
            used: Mutex::default(),
            keys_used: Mutex::default(),
            unwritten_at: AtomicI64::new(0),
            token_headers,
            request_ids: RequestIds::new()?,
            counters: Counters::default(),
            store,
            keyring,
            client,
            catalogue,
            callers,
            settings,
            clock,
        }));
        broker.read_store_clock().await?;
        tokio::spawn(broker.clone().follow_feed());
        tokio::spawn(broker.clone().tend());
        tokio::spawn(broker.clone().follow_kms());
        if broker.settings().renew.upkeep {
            tokio::spawn(broker.clone().follow_duties());
        }
        Ok(broker)
    }

    /// What is done every half second: counts are exchanged, uses noted, streams checked.
    async fn tend(self) {
        let mut round = 0_u64;
        loop {
            tokio::time::sleep(limits::SYNC).await;
            round += 1;
            let now = self.clock().now();
            if let Err(fault) = self.0.limiter.sync(self.store(), now).await {
                tracing::debug!(?fault, "counts of limits were not exchanged");
            }
            if round.is_multiple_of(2) {
                self.note_uses().await;
                self.check_streams().await;
            }
            if round.is_multiple_of(60)
                && let Err(fault) = self.store().build_tiles().await
            {
                tracing::warn!(?fault, "tiles of the log were not built");
            }
        }
    }

    /// Apart from `tend`: a KMS that is slow holds nothing else up.
    async fn follow_kms(self) {
        loop {
            tokio::time::sleep(KMS_EVERY).await;
            self.hear_kms().await;
        }
    }

    /// Asks the KMS again when it is time, as is done every few seconds anyway: keys are dropped
    /// where it refuses, and taken up again where it does no more.
    pub async fn hear_kms(&self) {
        self.keyring().tend().await;
    }

    /// Writes down when integrations and keys were last used, of integrations some at a time; it
    /// may be late, and lost with the process.
    pub async fn note_uses(&self) {
        let used = self.used().take(NOTED_AT_ONCE);
        let keys = std::mem::take(
            &mut *self
                .0
                .keys_used
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        let integrations =
            used.into_iter()
                .map(|((tenant, integration), at)| Note::IntegrationUsed {
                    tenant,
                    integration,
                    at: Time(at),
                });
        let keys = keys.into_iter().map(|(key, (tenant, at))| Note::KeyUsed {
            tenant,
            key,
            at: Time(at),
        });
        let notes: Vec<Note> = integrations.chain(keys).collect();
        if let Err(fault) = self.store().note(&notes).await {
            tracing::debug!(?fault, "last uses were not noted");
        }
    }

    /// When this node started.
    pub(crate) fn started(&self) -> Time {
        self.0.started
    }

    /// Whether this trial is to be taken up now: the first time that it is asked.
    pub(crate) fn take_up(&self, id: IntegrationId, version: u64) -> bool {
        let taken_up = self.0.taken_up.lock();
        taken_up
            .unwrap_or_else(PoisonError::into_inner)
            .insert((id, version))
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.0.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn mark_used(&self, tenant: TenantId, id: IntegrationId) {
        let now = self.clock().now().0;
        self.used().latest.insert((tenant, id), now);
    }

    pub(crate) fn mark_key_used(&self, tenant: TenantId, id: KeyId) {
        let now = self.clock().now().0;
        self.0
            .keys_used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, (tenant, now));
    }

    /// Hears how a write to the log ended.
    pub(crate) fn note_written(&self, written: bool) {
        let at = if written { 0 } else { self.clock().now().0 };
        self.0.unwritten_at.store(at, Ordering::Relaxed);
    }

    /// Only for a while after a failure: a node that is sent no requests would write nothing, and
    /// never be ready again.
    fn cannot_write(&self) -> bool {
        let at = Time(self.0.unwritten_at.load(Ordering::Relaxed));
        at.0 != 0 && self.clock().now() < at.plus_seconds(UNWRITTEN_SECONDS)
    }

    pub(crate) fn limiter(&self) -> &Limiter {
        &self.0.limiter
    }

    /// A fresh id for a request. Uniqueness matters, secrecy does not.
    pub fn new_request_id(&self) -> RequestId {
        self.0.request_ids.next(self.clock().now())
    }

    /// Whether everything that is needed is up.
    pub async fn ready(&self) -> Readiness {
        let store = match self.store().ready().await {
            Err(fault) => Err(Error::from(fault).to_string()),
            Ok(()) if self.cannot_write() => {
                Err("the last entry could not be written (is the disk full?)".to_owned())
            }
            Ok(()) => Ok(()),
        };
        let kms = match (self.keyring().is_open(), self.keyring().trouble()) {
            (true, _) => Ok(()),
            (false, trouble) => Err(trouble.unwrap_or_else(|| "closed".to_owned())),
        };
        let feed = if self.epochs().trusted(self.clock().now()) {
            Ok(())
        } else {
            Err("the change feed has been silent for more than a second".to_owned())
        };
        Readiness {
            parts: BTreeMap::from([("store", store), ("kms", kms), ("feed", feed)]),
        }
    }

    /// The headers in which a provider's own SDK would put a key; the proxy takes a caller's token
    /// from any one of them.
    pub fn token_headers(&self) -> &[HeaderName] {
        &self.0.token_headers
    }

    /// Numbers since the start.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// How often the KMS was asked since the start.
    pub fn kms_calls(&self) -> u64 {
        self.0.keyring.kms_calls()
    }

    /// Counts one request of this caller, or says how long to wait.
    pub(crate) async fn admit_caller(&self, ctx: &Context) -> Result<(), Error> {
        let (Some(caller), Some(subject)) = (&ctx.caller, ctx.subject) else {
            return Ok(());
        };
        let limits = &self.settings().limits;
        let rate = match caller.as_ref() {
            Caller::User { .. } => limits.user,
            Caller::Service { .. } => limits.service,
            Caller::Operator { .. } => limits.operator,
        };
        let on = On::kind(
            TargetKind::Request,
            ctx.tenant.unwrap_or(TenantId::PLATFORM),
        );
        self.admit(ctx, Action::Info, &on, subject, rate).await
    }

    /// Counts one, or refuses it; of the refusals within one window the first is recorded.
    ///
    /// # Errors
    /// `Limited` with the seconds to wait.
    pub(crate) async fn admit(
        &self,
        ctx: &Context,
        action: Action,
        on: &On,
        subject: Subject,
        rate: limits::Rate,
    ) -> Result<(), Error> {
        let Err(refused) = self.0.limiter.admit(subject, rate, self.clock().now()) else {
            return Ok(());
        };
        self.counters().limited.fetch_add(1, Ordering::Relaxed);
        let limited = Error::Limited {
            retry_after: refused.retry_after,
        };
        if refused.first {
            self.deny(ctx, action, on, limited.word()).await?;
        }
        Err(limited)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }
    pub(crate) fn keyring(&self) -> &Keyring {
        &self.0.keyring
    }
    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }
    pub(crate) fn catalogue(&self) -> &Catalogue {
        &self.0.catalogue
    }
    pub(crate) fn callers(&self) -> &Verifier {
        &self.0.callers
    }
    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }
    pub(crate) fn openings(&self) -> &Openings {
        &self.0.settings.openings
    }
    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }
    pub(crate) fn epochs(&self) -> &Epochs {
        &self.0.epochs
    }
    pub(crate) fn feed_place(&self) -> &FeedPlace {
        &self.0.feed
    }
    pub(crate) fn identities(&self) -> &Cache<[u8; 32], Arc<Identity>> {
        &self.0.identities
    }
    pub(crate) fn known_keys(&self) -> &Cache<[u8; 32], Arc<KnownKey>> {
        &self.0.known_keys
    }
    pub(crate) fn known_tenants(&self) -> &Cache<String, (TenantId, Epoch)> {
        &self.0.known_tenants
    }
    pub(crate) fn integrations_cache(&self) -> &Integrations {
        &self.0.integrations
    }
    pub(crate) fn loading(&self) -> &Loading {
        &self.0.loading
    }
    pub(crate) fn type_cache(&self) -> &Cache<(TenantId, String), (IntegrationId, Epoch)> {
        &self.0.only_of_type
    }
    pub(crate) fn minted(&self) -> &Cache<(TenantId, IntegrationId, u64), Arc<Minted>> {
        &self.0.minted
    }
    pub(crate) fn streams(&self) -> &Streams {
        &self.0.streams
    }
    pub(crate) fn renewals(&self) -> &Renewals {
        &self.0.renewals
    }
    pub(crate) fn store_clock(&self) -> &StoreClock {
        &self.0.store_clock
    }
    pub(crate) fn ahead(&self) -> &Arc<Semaphore> {
        &self.0.ahead
    }
    pub(crate) fn device_pace(&self) -> &DevicePace {
        &self.0.device_pace
    }
    /// The bytes that request bodies may yet take that are held to be signed.
    pub(crate) fn held_bodies(&self) -> &Arc<Semaphore> {
        &self.0.held_bodies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_taken_a_few_at_a_time_and_none_waits_for_ever() {
        let id = |number: u8| {
            let id = IntegrationId::from_uuid(uuid::Uuid::from_bytes([number; 16]));
            (TenantId::PLATFORM, id)
        };
        let mut used = Used::default();
        used.latest.extend((0..5).map(|number| (id(number), 1)));
        let taken = |used: &mut Used| used.take(2).into_keys().collect::<Vec<_>>();
        assert_eq!(taken(&mut used), [id(0), id(1)]);
        used.latest.insert(id(0), 2);
        assert_eq!(taken(&mut used), [id(2), id(3)]);
        assert_eq!(taken(&mut used), [id(0), id(4)]);
        assert_eq!(taken(&mut used), []);
        used.latest.insert(id(1), 3);
        assert_eq!(used.take(2), BTreeMap::from([(id(1), 3)]));
    }
}
