//! One request, as every use case takes it: who asks, in which tenant, from where, and what the
//! proof of that rests on.

use std::net::IpAddr;
use std::sync::Arc;

use keystead_core::caller::{Caller, Scope};
use keystead_core::ids::{KeyId, RequestId, TenantId};
use keystead_core::time::Time;

use crate::epochs::Epoch;
use crate::error::Error;
use crate::limits::Subject;

/// One request: who asks, in which tenant, from where.
#[derive(Clone)]
pub struct Context {
    /// The proven caller; `None`: anonymous.
    pub caller: Option<Arc<Caller>>,
    /// The tenant acted in.
    pub tenant: Option<TenantId>,
    /// The request.
    pub request: RequestId,
    /// Where it came from.
    pub address: Option<IpAddr>,
    /// Under which limit the caller counts.
    pub(crate) subject: Option<Subject>,
    /// All that it may touch, where that is less than what the caller may: a connect session's.
    pub(crate) within: Option<Arc<Scope>>,
    /// What the proof of the caller rests on.
    pub(crate) proof: Option<Proof>,
}

/// What the proof of a caller rests on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proof {
    /// The epoch of callers from before it was made.
    pub(crate) epoch: Epoch,
    /// What may be taken back.
    pub(crate) basis: Basis,
    /// When the key or the token itself ends; `Time(i64::MAX)`: never.
    pub(crate) until: Time,
}

/// What has to go on for a caller to be who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Basis {
    /// Nothing that is on record: all is said by a token, or by whoever has the shell.
    Stated,
    /// The row of the caller's key.
    Key,
    /// A member's row, from which a user has its role.
    Member,
}

impl Context {
    /// A request of nobody in particular.
    pub fn anonymous(request: RequestId, address: Option<IpAddr>) -> Context {
        Context {
            caller: None,
            tenant: None,
            request,
            address,
            subject: None,
            within: None,
            proof: None,
        }
    }

    /// A command of whoever has this installation's shell, and so its configuration, store and
    /// KMS: an operator, on record under the key id of zeros.
    pub fn shell(request: RequestId) -> Context {
        let caller = Caller::Operator {
            key: KeyId::from_uuid(uuid::Uuid::nil()),
        };
        Context {
            caller: Some(Arc::new(caller)),
            ..Context::anonymous(request, None)
        }
    }

    /// The tenant acted in.
    ///
    /// # Errors
    /// `Unauthenticated` for nobody; `Malformed` for a caller of several tenants that named none.
    pub(crate) fn tenant(&self) -> Result<TenantId, Error> {
        match (self.tenant, &self.caller) {
            (Some(tenant), _) => Ok(tenant),
            (None, None) => Err(Error::Unauthenticated),
            (None, Some(_)) => Err(Error::Malformed(
                "this caller may act for several tenants: name one in the header Keystead-Tenant"
                    .into(),
            )),
        }
    }
}
