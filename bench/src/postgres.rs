//! A PostgreSQL cluster to throw away, for as long as standard input is open.

use std::io::Read;

use anyhow::Result;
use keystead_testkit::postgres::Cluster;

/// Starts it and prints `{"admin_url"}`, the superuser's, of an empty database.
pub(crate) fn until_closed() -> Result<()> {
    let cluster = Cluster::start()?;
    println!(
        "{}",
        serde_json::json!({ "admin_url": cluster.database()? })
    );
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
