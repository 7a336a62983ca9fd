//! Using a credential unseen: the caller's request goes to the provider with it, and the answer
//! comes back without it.
//!
//! What always holds: the way is checked (path, host, body) before anything is opened; the entry is
//! durable before the credential is on the request; the host that policy saw is the one dialled.

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Body;
use keystead_core::action::Action;
use keystead_core::ids::IntegrationId;
use keystead_core::path;
use keystead_core::placement::{self, Head, Material};
use keystead_core::provider::{Fields, MintedToken};
use keystead_core::renew::Want;
use keystead_core::time::Time;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::broker::Broker;
use crate::context::{Basis, Context};
use crate::error::Error;
use crate::hash::sha256;
use crate::integrations::{Home, Loaded};
use crate::keyring::TenantKeys;
use crate::limits::Subject;
use crate::mint::Made;
use crate::net::{self, Hop, HopLimits, NetError, OnRedacted, ProxyBody, Secret, Waited};
use crate::permit::{On, Use};
use crate::renew::renews;
use crate::streams::Grounds;

/// Which integration a call goes through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// This one.
    Id(IntegrationId),
    /// The tenant's only one of that provider.
    Type(String),
}

/// Values shorter than this are not looked for in answers: they would be found by chance.
const SECRET_LEAST: usize = 8;

impl Broker {
    /// Sends a request to the provider through an integration. `host` is one of the provider's
    /// others, `path_and_query` is raw and starts with a slash; `prefix` is what the caller's path
    /// has in front of it.
    ///
    /// # Errors
    /// `NotFound`, `Denied`, `Conflict` (several, or disabled), `Malformed` (an ambiguous path, a
    /// host that is not the integration's), `TooLarge`, `Limited`, `Upstream`, `UpstreamTimeout`.
    pub async fn forward<B>(
        &self,
        ctx: &Context,
        to: &Selector,
        host: Option<&str>,
        path_and_query: &str,
        prefix: Option<&str>,
        request: Request<B>,
    ) -> Result<Response<ProxyBody>, Error>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let caller = ctx.caller.clone().ok_or(Error::Unauthenticated)?;
        let loaded = match to {
            Selector::Id(id) => self.load(ctx, Action::Use, *id).await?,
            Selector::Type(type_) => self.find_only(ctx, type_).await?,
        };
        let on = loaded.on();
        let decided = self.decide(ctx, Action::Use, &on).await?;
        let way = match self.way(&loaded, host, path_and_query) {
            Ok(way) => way,
            Err(fault) => return Err(decided.fail(fault).await),
        };
        let provider = &loaded.provider;
        if let Some(rate) = self.settings().limits.integration.get(&provider.id) {
            let subject = Subject(b'i', *loaded.row.id.bytes());
            self.admit(ctx, Action::Use, &on, subject, *rate).await?;
        }
        let version = loaded.row.credential_version;
        let grounds = Grounds {
            caller,
            basis: ctx.proof.map_or(Basis::Stated, |proof| proof.basis),
            until: ctx.proof.map_or(Time(i64::MAX), |proof| proof.until),
            tenant: loaded.row.tenant,
            integration: loaded.row.id,
            version,
            of_tenant: loaded.epoch,
            // From before the caller was proven: what was taken back since is seen.
            of_callers: ctx
                .proof
                .map_or_else(|| self.epochs().of_callers(), |proof| proof.epoch),
        };
        let sign_body = provider.needs_body_hash(&way.home.logical_host);
        // Tokens that may end at any time: the call is made again with new ones, where it can be.
        let tokens = loaded.tokens.as_ref();
        let of_unknown_end = tokens.is_some_and(|row| row.expires_at.is_none()) && renews(provider);
        let hold = match (sign_body, of_unknown_end) {
            (true, _) => Hold::ToSign,
            (false, true) => Hold::ToRepeat,
            (false, false) => Hold::Not,
        };
        let (request, body_sha256) = match self.hold_body(request, hold).await {
            Ok(held) => held,
            Err(fault) => return Err(decided.fail(fault).await),
        };
        // A body that was held took the time that its caller wanted.
        if hold != Hold::Not {
            match self.stands(&grounds).await {
                Ok(true) => {}
                Ok(false) => return Err(decided.fail(NetError::Cut.into()).await),
                Err(fault) => return Err(decided.fail(fault).await),
            }
        }
        let keys = match self.keyring().tenant(loaded.row.tenant).await {
            Ok(keys) => keys,
            Err(fault) => return Err(decided.fail(fault).await),
        };
        let permit = decided.permit::<Use>(version).await?;
        let live = self
            .live_fields(ctx, permit, &keys, &loaded, Want::Live)
            .await?;
        self.mark_used(loaded.row.tenant, loaded.row.id);
        let call = Call {
            ctx,
            loaded: &loaded,
            keys: &keys,
            way: &way,
            prefix,
            grounds: &grounds,
            body_sha256,
        };
        let again = live.of_unknown_end().map(|_| repeatable(&request));
        let answer = self.send(&call, &live.fields, request).await?;
        let refused = answer.status() == StatusCode::UNAUTHORIZED;
        match (live.of_unknown_end(), again) {
            (Some(version), Some(again)) if refused => {
                Box::pin(self.send_again(&call, version, again, answer)).await
            }
            _ => Ok(answer),
        }
    }

    /// Tokens of which nobody knows how long they last were refused: they are renewed, and the call
    /// is made again where it can be. Else its answer goes on, and the next call has new tokens.
    async fn send_again<B>(
        &self,
        call: &Call<'_>,
        version: u64,
        again: Option<Held<B>>,
        refusal: Response<ProxyBody>,
    ) -> Result<Response<ProxyBody>, Error>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (loaded, want) = (call.loaded, Want::Later(version));
        if !self.may_renew_refused(loaded, version) {
            return Ok(refusal);
        }
        let grant = (loaded.row.tenant, loaded.row.id);
        let Some(again) = again else {
            drop(self.fly(grant, want));
            return Ok(refusal);
        };
        if self.renewed(grant, want).await.is_err() || !self.stands(call.grounds).await? {
            return Ok(refusal);
        }
        let decided = self.decide(call.ctx, Action::Use, &loaded.on()).await?;
        let decided = decided.because("repeated with renewed tokens");
        let permit = decided.permit::<Use>(loaded.row.credential_version).await?;
        let live = self
            .live_fields(call.ctx, permit, call.keys, loaded, want)
            .await?;
        self.send(call, &live.fields, again).await
    }

    /// Places the credential, sends the request, and records where that fails.
    async fn send<B>(
        &self,
        call: &Call<'_>,
        fields: &Fields,
        request: Held<B>,
    ) -> Result<Response<ProxyBody>, Error>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Call {
            ctx,
            loaded,
            keys,
            way,
            prefix,
            grounds,
            body_sha256,
        } = *call;
        let provider = &loaded.provider;
        let on = loaded.on();
        let token = match provider.token_scope(fields, &loaded.config, &way.home.logical_host) {
            Some(_) => match self
                .token(loaded, keys, fields, &way.home.logical_host)
                .await
            {
                Ok(Made::Token(token)) => Some(token),
                Ok(Made::Refused { message, .. }) => {
                    self.record_failure(ctx, Action::Use, &on, "no token for the credential")
                        .await;
                    return Err(Error::Credential {
                        reason: message.into(),
                    });
                }
                Err(fault) => {
                    self.record_failure(ctx, Action::Use, &on, fault.word())
                        .await;
                    return Err(fault);
                }
            },
            None => None,
        };
        let cut = self.streams().enter(grounds.clone());
        let settings = &self.settings().proxy;
        let hop = Hop {
            to: &way.home.destination,
            path: way.path,
            query: way.query,
            strip_headers: self.token_headers(),
            strip_query: &provider.strip_query,
            limits: HopLimits {
                head: settings.head_timeout,
                idle: settings.idle_timeout,
                request_body: settings.max_request_body,
            },
            redact_bodies: settings.redact_bodies,
            location_prefix: prefix,
            cut: Some(cut),
            on_redacted: Some(self.echo_recorder(ctx, &on)),
        };
        let now = self.clock().now();
        let answer = net::forward(
            self.client(),
            hop,
            request,
            |head: &mut net::Head<'_>| -> Result<Vec<Secret>, Error> {
                let mut placed = Head {
                    method: head.method.clone(),
                    logical_host: way.home.logical_host.to_string(),
                    host_header: head.authority.to_owned(),
                    path: head.path.to_owned(),
                    query: head.query.take(),
                    headers: mem::take(&mut head.headers),
                };
                let material = token
                    .as_ref()
                    .map_or(Material::Fields(fields), Material::Token);
                let derived = placement::place(
                    provider,
                    material,
                    &loaded.config,
                    &mut placed,
                    now,
                    body_sha256,
                )
                .map_err(|fault| Error::Credential {
                    reason: fault.to_string().into(),
                })?;
                head.query = placed.query;
                head.headers = placed.headers;
                let mut secrets = secrets(loaded, fields);
                let token = token.as_ref().map(MintedToken::expose);
                let made = token
                    .into_iter()
                    .chain(derived.as_ref().map(|it| it.as_str()));
                secrets.extend(made.map(|made| Zeroizing::new(made.as_bytes().to_vec())));
                Ok(secrets)
            },
        )
        .await;
        match answer {
            Ok(answer) => Ok(answer),
            Err(fault) => {
                self.record_failure(ctx, Action::Use, &on, fault.word())
                    .await;
                Err(match fault {
                    Error::TooLarge { .. } => Error::TooLarge {
                        most: settings.max_request_body,
                    },
                    other => other,
                })
            }
        }
    }

    /// What to do when a provider sends the credential back: it is taken out, counted, and left on
    /// record. The answer waits for none of it.
    fn echo_recorder(&self, ctx: &Context, on: &On) -> OnRedacted {
        let (broker, ctx, on) = (self.clone(), ctx.clone(), on.clone());
        Arc::new(move || {
            let (broker, ctx, on) = (broker.clone(), ctx.clone(), on.clone());
            broker.counters().redacted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                broker
                    .record_failure(&ctx, Action::Use, &on, "credential echoed")
                    .await;
            });
        })
    }

    /// Where the call goes, before anything is opened for it.
    fn way<'a>(
        &self,
        loaded: &Loaded,
        host: Option<&str>,
        path_and_query: &'a str,
    ) -> Result<Way<'a>, Error> {
        if loaded.row.disabled {
            return Err(Error::disabled());
        }
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_and_query, None),
        };
        path::check(path).map_err(NetError::Path)?;
        let home = match (loaded.home.get(), host) {
            (Some(home), None) if loaded.provider.takes_path(path) => home.clone(),
            _ => {
                let to = loaded
                    .provider
                    .destination(&loaded.config, host, path)
                    .map_err(|fault| Error::Malformed(fault.to_string().into()))?;
                let found = Home {
                    destination: net::Destination::new(&to.dial)?,
                    logical_host: to.logical_host.into(),
                };
                if host.is_none() {
                    let _ = loaded.home.set(found.clone());
                }
                found
            }
        };
        Ok(Way { home, path, query })
    }
}

/// Where a call goes.
struct Way<'a> {
    home: Home,
    path: &'a str,
    query: Option<&'a str>,
}

/// The secret parts of a credential, to be kept out of what comes back.
fn secrets(loaded: &Loaded, fields: &Fields) -> Vec<Secret> {
    let Some(mode) = fields.mode(&loaded.provider) else {
        return Vec::new();
    };
    mode.fields
        .iter()
        .filter(|field| field.secret)
        .filter_map(|field| fields.get(&field.name))
        .filter(|value| value.len() >= SECRET_LEAST)
        .map(|value| Zeroizing::new(value.as_bytes().to_vec()))
        .collect()
}

type Held<B> = Request<Either<B, Full<Bytes>>>;

/// A call that was allowed.
#[derive(Clone, Copy)]
struct Call<'a> {
    ctx: &'a Context,
    loaded: &'a Loaded,
    keys: &'a TenantKeys,
    way: &'a Way<'a>,
    prefix: Option<&'a str>,
    grounds: &'a Grounds,
    body_sha256: Option<[u8; 32]>,
}

/// Why a body is held in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// It is not.
    Not,
    /// A short one: the call may be made again.
    ToRepeat,
    /// The signature covers it.
    ToSign,
}

/// The longest body that is held so that its call can be made again.
const REPEATED_MOST: u64 = 64 << 10;
/// What such bodies leave of the memory for bodies that have to be held: they can do without.
const LEFT_TO_SIGN: usize = 32 << 20;

/// The same request once more, where its body is in memory and it asks for no other protocol.
fn repeatable<B>(request: &Held<B>) -> Option<Held<B>> {
    let Either::Right(body) = request.body() else {
        return None;
    };
    if request.headers().contains_key(header::UPGRADE) {
        return None;
    }
    let mut again = Request::new(Either::Right(body.clone()));
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.version_mut() = request.version();
    *again.headers_mut() = request.headers().clone();
    *again.extensions_mut() = request.extensions().clone();
    Some(again)
}

/// A body in memory, and its part of what all of them may take.
struct HeldBody {
    bytes: Vec<u8>,
    room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for HeldBody {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Room for a body of that length, where it leaves enough to those that have to be signed.
fn room_to_repeat(all: &Arc<Semaphore>, length: u64) -> Option<HeldBody> {
    let length = usize::try_from(length).ok()?;
    let free = all.available_permits();
    free.checked_sub(length)
        .filter(|left| *left >= LEFT_TO_SIGN)?;
    let room = u32::try_from(length).ok()?;
    Some(HeldBody {
        bytes: Vec::with_capacity(length),
        room: all.clone().try_acquire_many_owned(room).ok()?,
    })
}

impl HeldBody {
    fn new(all: &Arc<Semaphore>) -> Result<HeldBody, Error> {
        Ok(HeldBody {
            bytes: Vec::new(),
            room: all.clone().try_acquire_many_owned(0).map_err(|_| full())?,
        })
    }

    /// Takes room as bytes come: a length that is only announced keeps nobody else out.
    fn push(&mut self, piece: &[u8], all: &Arc<Semaphore>, most: u64) -> Result<(), Error> {
        let length = self.bytes.len() + piece.len();
        let most_here = usize::try_from(most).unwrap_or(usize::MAX);
        if length > most_here {
            return Err(Error::TooLarge { most });
        }
        let capacity = self.bytes.capacity();
        if length > capacity {
            let grown = length.max(2 * capacity).min(most_here);
            let more = u32::try_from(grown - capacity).map_err(|_| full())?;
            let more = all.clone().try_acquire_many_owned(more);
            self.room.merge(more.map_err(|_| full())?);
            self.bytes.reserve_exact(grown - self.bytes.len());
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }
}

fn full() -> Error {
    Error::Unavailable {
        what: "room for another request body that is to be signed",
        context: "the bodies held to be signed fill the memory that is theirs".to_owned(),
    }
}

impl Broker {
    /// Reads the body into memory where it has to be there, else leaves it a stream.
    async fn hold_body<B>(
        &self,
        request: Request<B>,
        hold: Hold,
    ) -> Result<(Held<B>, Option<[u8; 32]>), Error>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let all = self.held_bodies();
        let length = request.body().size_hint().exact();
        let held = match hold {
            Hold::Not => None,
            Hold::ToRepeat => length
                .filter(|length| *length <= REPEATED_MOST)
                .and_then(|length| room_to_repeat(all, length)),
            Hold::ToSign => Some(HeldBody::new(all)?),
        };
        let Some(mut held) = held else {
            return Ok((request.map(Either::Left), None));
        };
        let settings = &self.settings().proxy;
        let late = |_| Error::from(NetError::Timeout(Waited::Caller));
        let until = Instant::now() + settings.head_timeout;
        let (parts, mut body) = request.into_parts();
        loop {
            let next = until.min(Instant::now() + settings.idle_timeout);
            let Some(frame) = timeout_at(next, body.frame()).await.map_err(late)? else {
                break;
            };
            let frame = frame.map_err(|_| Error::from(NetError::Caller))?;
            if let Ok(piece) = frame.into_data() {
                held.push(&piece, all, settings.max_signed_body)?;
            }
        }
        let hash = (hold == Hold::ToSign).then(|| sha256(&[&held.bytes]));
        let body = Full::new(Bytes::from_owner(held));
        Ok((Request::from_parts(parts, Either::Right(body)), hash))
    }
}

impl From<NetError> for Error {
    fn from(fault: NetError) -> Error {
        match fault {
            NetError::Timeout(Waited::Head | Waited::Whole) => Error::UpstreamTimeout,
            // Whoever set the limit says what it is.
            NetError::RequestTooLarge => Error::TooLarge { most: 0 },
            NetError::Cut => Error::Denied {
                action: Action::Use,
                message: "the right to this call was taken back while it ran",
            },
            NetError::Caller
            | NetError::Malformed
            | NetError::Path(_)
            | NetError::Method(_)
            | NetError::Timeout(Waited::Caller) => Error::Malformed(fault.to_string().into()),
            other => Error::Upstream {
                reason: other.to_string().into(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_is_held_to_be_repeated_takes_no_room_from_those_to_be_signed() {
        let all = Arc::new(Semaphore::new(LEFT_TO_SIGN + 100));
        let held = room_to_repeat(&all, 60).unwrap();
        assert!(room_to_repeat(&all, 60).is_none());
        assert!(room_to_repeat(&all, 40).is_some());
        drop(held);
        let mut held = room_to_repeat(&all, 60).unwrap();
        held.push(&[b'x'; 60], &all, REPEATED_MOST).unwrap();
        assert_eq!(all.available_permits(), LEFT_TO_SIGN + 40);
    }
}
