//! The one row of this installation: its id and its wrapped and sealed keys.
//!
//! What always holds: nothing in it is of use without the key in the KMS.

use keystead_core::ids::InstallationId;
use keystead_core::time::Time;

use crate::effect::Step;
use crate::value::{Row, Scope, query};
use crate::{Error, Store};

/// This installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallationRow {
    /// Its id.
    pub id: InstallationId,
    /// The root key, wrapped by the KMS.
    pub root_key: Vec<u8>,
    /// Which KMS wrapped it, as its driver names it.
    pub kms: String,
    /// The root key's check value.
    pub check_value: [u8; 32],
    /// The key of the database context, sealed under the root key; empty where there is none.
    pub context_key: Vec<u8>,
    /// The signing key of the log, sealed under the root key.
    pub log_key: Vec<u8>,
    /// The key that presented tokens are looked up with, sealed under the root key.
    pub lookup_key: Vec<u8>,
    /// When it was first started.
    pub created_at: Time,
}

const FIND: &str = "SELECT installation_id, root_key, kms, check_value, context_key, log_key, lookup_key, created_at \
     FROM installation WHERE one = 1";
const INSERT: &str = "INSERT INTO installation (one, installation_id, root_key, kms, check_value, context_key, log_key, \
     lookup_key, created_at) VALUES (1, $1, $2, $3, $4, $5, $6, $7, $8)";

fn read(mut row: Row) -> Result<InstallationRow, Error> {
    Ok(InstallationRow {
        id: row.take()?,
        root_key: row.take()?,
        kms: row.take()?,
        check_value: row.take()?,
        context_key: row.take()?,
        log_key: row.take()?,
        lookup_key: row.take()?,
        created_at: row.take()?,
    })
}

pub(crate) fn insert(row: &InstallationRow) -> Vec<Step> {
    let row = row.clone();
    vec![Step::insert(
        "installation",
        query!(
            INSERT,
            row.id,
            row.root_key,
            row.kms,
            row.check_value,
            row.context_key,
            row.log_key,
            row.lookup_key,
            row.created_at
        ),
    )]
}

impl Store {
    /// This installation; `None` before the first start.
    pub async fn installation(&self) -> Result<Option<InstallationRow>, Error> {
        self.opt(Scope::System, query!(FIND))
            .await?
            .map(read)
            .transpose()
    }
}
