//! Key management services: what wraps the one root key of an installation.
//!
//! What always holds: a driver is called a constant number of times per start and per hour,
//! whatever the number of tenants and requests, because it only ever sees the root key. A driver
//! that denies and one that cannot be reached are told apart: the first stops service.

mod file;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};

use keystead_core::ids::InstallationId;
use keystead_core::seal::SealKey;

pub use file::FileKms;

/// Why a KMS did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum KmsError {
    /// It answered, and said no: the key is disabled, or this node may not use it.
    #[error("the key service refuses: {0}")]
    Denied(String),
    /// It did not answer.
    #[error("the key service cannot be reached: {0}")]
    Unreachable(String),
    /// What it was given or gave back is not a wrapped root key of this installation.
    #[error("the wrapped root key does not open: {0}")]
    Corrupt(String),
    /// It is not set up; the text says what to do.
    #[error("{0}")]
    Setup(String),
}

/// What a driver answers with, later.
pub type KmsFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, KmsError>> + Send + 'a>>;

/// A KMS. The installation's id is bound into what is wrapped (additional data, encryption
/// context, or key context, as the service calls it).
pub trait Kms: Send + Sync {
    /// The driver's name, kept beside what it wrapped.
    fn name(&self) -> &'static str;

    /// Wraps the root key under the KEK.
    fn wrap<'a>(
        &'a self,
        root: &'a SealKey,
        installation: InstallationId,
    ) -> KmsFuture<'a, Vec<u8>>;

    /// Opens what `wrap` made.
    fn unwrap<'a>(
        &'a self,
        wrapped: &'a [u8],
        installation: InstallationId,
    ) -> KmsFuture<'a, SealKey>;
}

/// A KMS that counts its calls, for the metrics and for the proof that they are few.
pub struct Counted {
    kms: Box<dyn Kms>,
    calls: AtomicU64,
}

impl Counted {
    /// Counts the calls of this driver.
    pub fn new(kms: Box<dyn Kms>) -> Counted {
        Counted {
            kms,
            calls: AtomicU64::new(0),
        }
    }

    /// How often the driver was called.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

impl Kms for Counted {
    fn name(&self) -> &'static str {
        self.kms.name()
    }

    fn wrap<'a>(
        &'a self,
        root: &'a SealKey,
        installation: InstallationId,
    ) -> KmsFuture<'a, Vec<u8>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.kms.wrap(root, installation)
    }

    fn unwrap<'a>(
        &'a self,
        wrapped: &'a [u8],
        installation: InstallationId,
    ) -> KmsFuture<'a, SealKey> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.kms.unwrap(wrapped, installation)
    }
}
