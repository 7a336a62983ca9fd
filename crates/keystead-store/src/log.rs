//! Reading the audit log: entries, changes, the head, and the tiles that proofs are made from.
//!
//! What always holds: entries are read as they were written; tiles follow from the entries and can
//! always be built anew. Appending is in `append`.

use keystead_core::action::{Action, Outcome, TargetKind};
use keystead_core::ids::{IntegrationId, TenantId};
use keystead_core::log::{
    Frontier, Hash, HashSource, Hashes, Read, Tile, TileId, TreeError, new_tiles, plan,
};
use keystead_core::time::Time;

use crate::value::{Query, Row, Scope, query};
use crate::{Error, Store};

/// The log's size and root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// How many entries there are; the next one's number.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

/// An entry with effects: what other nodes have to know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its number.
    pub seq: u64,
    /// The tenant acted in.
    pub tenant: TenantId,
    /// The kind of thing that changed.
    pub on: TargetKind,
    /// Which one.
    pub target: Option<String>,
}

/// An entry as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryRow {
    /// Its number.
    pub seq: u64,
    /// The text that was hashed; see `keystead_core::entry::Leaf`.
    pub leaf: String,
}

/// Which entries of a tenant to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryFilter {
    /// Of this action.
    pub action: Option<Action>,
    /// On this kind of thing.
    pub on: Option<TargetKind>,
    /// On this thing.
    pub target: Option<String>,
    /// That ended so.
    pub outcome: Option<Outcome>,
}

/// Tiles that one pass builds at most, so that it holds no transaction for long.
const TILES_PER_PASS: usize = 64;
/// Hashes in a tile.
const TILE_WIDTH: u64 = 256;

const HEAD: &str = "SELECT size, root FROM log_head WHERE one = 1";
const CHANGES: &str = "SELECT seq, tenant_id, on_kind, target FROM entry WHERE changed = 1 AND seq >= $1 ORDER BY seq LIMIT $2";
const ENTRIES: &str = "SELECT seq, leaf FROM entry WHERE tenant_id = $1 AND seq < $2 \
     AND (CAST($3 AS TEXT) IS NULL OR action = $3) AND (CAST($4 AS TEXT) IS NULL OR on_kind = $4) \
     AND (CAST($5 AS TEXT) IS NULL OR target = $5) AND (CAST($6 AS TEXT) IS NULL OR outcome = $6) \
     ORDER BY seq DESC LIMIT $7";
const AT: &str = "SELECT at FROM entry WHERE seq >= $1 AND seq < $2 ORDER BY seq LIMIT 1";
const USED: &str = "SELECT DISTINCT tenant_id, target FROM entry WHERE seq >= $1 AND seq < $2 AND at >= $3 AND at < $4 \
     AND on_kind = 'integration' AND action IN ('use', 'reveal', 'test', 'rotate') AND outcome = 'allowed' \
     AND target IS NOT NULL AND (CAST($5 AS TEXT) IS NULL OR tenant_id = $5)";
const LEAVES: &str = "SELECT leaf FROM entry WHERE seq >= $1 AND seq < $2 ORDER BY seq";
const TILED: &str = "SELECT COALESCE(MAX(idx) + 1, 0) FROM log_tile WHERE level = 0";
const TILE: &str = "SELECT hashes FROM log_tile WHERE level = $1 AND idx = $2";
const ROOTS: &str =
    "SELECT root FROM log_tile WHERE level = $1 AND idx >= $2 AND idx < $3 ORDER BY idx";
const INSERT_TILE: &str = "INSERT INTO log_tile (level, idx, hashes, root) VALUES ($1, $2, $3, $4) ON CONFLICT (level, idx) DO NOTHING";

impl Store {
    /// The head as it is stored.
    pub async fn head(&self) -> Result<Head, Error> {
        let mut row = self.one(Scope::System, query!(HEAD)).await?;
        Ok(Head {
            size: row.take()?,
            root: row.take()?,
        })
    }

    /// Entries with effects from number `from` on, in order: the change feed. None is ever added
    /// before one that was seen.
    pub async fn changes_since(&self, from: u64, limit: u32) -> Result<Vec<Change>, Error> {
        let changes = query!(CHANGES, from, i64::from(limit));
        let read = |mut row: Row| {
            Ok(Change {
                seq: row.take()?,
                tenant: row.take()?,
                on: row.take()?,
                target: row.take()?,
            })
        };
        self.all(Scope::System, changes, read).await
    }

    /// A tenant's entries before the given number (or the end), the newest first.
    pub async fn entries(
        &self,
        tenant: TenantId,
        filter: &EntryFilter,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<EntryRow>, Error> {
        let entries = query!(
            ENTRIES,
            tenant,
            before.map_or(i64::MAX, |seq| i64::try_from(seq).unwrap_or(i64::MAX)),
            filter.action,
            filter.on,
            filter.target.clone(),
            filter.outcome,
            i64::from(limit)
        );
        let read = |mut row: Row| {
            Ok(EntryRow {
                seq: row.take()?,
                leaf: row.take()?,
            })
        };
        self.all(Scope::Tenant(tenant), entries, read).await
    }

    /// When the entry of that number was made, or the next one that there is.
    pub async fn entry_time(&self, seq: u64) -> Result<Option<Time>, Error> {
        let end = i64::MAX;
        let row = self.opt(Scope::System, query!(AT, seq, end)).await?;
        row.map(|mut row| row.take()).transpose()
    }

    /// Integrations whose credential was opened, by the entries from number `from` to before `to` that
    /// were made in this time: of one tenant, or of all.
    pub async fn used_integrations(
        &self,
        tenant: Option<TenantId>,
        (from, to): (u64, u64),
        (since, until): (Time, Time),
    ) -> Result<Vec<(TenantId, IntegrationId)>, Error> {
        let used = query!(USED, from, to, since, until, tenant);
        let read = |mut row: Row| Ok((row.take()?, row.take()?));
        let targets: Vec<(TenantId, String)> = self.all(Scope::System, used, read).await?;
        let read = |(tenant, target): (TenantId, String)| Some((tenant, target.parse().ok()?));
        Ok(targets.into_iter().filter_map(read).collect())
    }

    /// The texts of all tenants' entries from `from` to before `to`, in order. Fewer than that:
    /// the log ends before `to`.
    pub async fn leaves(&self, from: u64, to: u64) -> Result<Vec<String>, Error> {
        self.all(Scope::System, query!(LEAVES, from, to), |mut row| {
            row.take()
        })
        .await
    }

    /// How many leaves are covered by stored tiles, as `keystead_core::log::plan` wants to know.
    pub async fn tiled(&self) -> Result<u64, Error> {
        let tiles: u64 = self.one(Scope::System, query!(TILED)).await?.take()?;
        Ok(tiles * TILE_WIDTH)
    }

    /// Fetches what a question about the tree has to read, and answers it: for example
    /// `store.ask(|source| inclusion_proof(index, size, source))`.
    pub async fn ask<T>(
        &self,
        question: impl Fn(&dyn HashSource) -> Result<T, TreeError>,
    ) -> Result<T, Error> {
        const ASKED: Error = Error::Invalid {
            what: "question about the log",
        };
        let reads = plan(self.tiled().await?, &question).map_err(|_| ASKED)?;
        let hashes = self.fetch(&reads).await?;
        question(&hashes).map_err(|_| Error::Corrupt {
            what: "the log's tiles",
        })
    }

    /// Fetches hashes, in one transaction.
    async fn fetch(&self, reads: &[Read]) -> Result<Hashes, Error> {
        let queries: Vec<Query> = reads
            .iter()
            .map(|read| match *read {
                Read::Leaves { from, to } => query!(LEAVES, from, to),
                Read::Roots { level, from, to } => query!(ROOTS, i64::from(level), from, to),
                Read::Tile(id) => query!(TILE, i64::from(id.level), id.index),
            })
            .collect();
        let mut hashes = Hashes::default();
        if queries.is_empty() {
            return Ok(hashes);
        }
        let answers = self.read(Scope::System, queries).await?;
        for (read, answer) in reads.iter().zip(answers) {
            let rows = answer.rows.into_iter();
            match *read {
                Read::Leaves { from, .. } => {
                    for (seq, mut row) in (from..).zip(rows) {
                        hashes.add_leaf(seq, row.take::<String>()?.as_bytes());
                    }
                }
                Read::Roots { level, from, .. } => {
                    for (index, mut row) in (from..).zip(rows) {
                        hashes.add_root(TileId { level, index }, row.take()?);
                    }
                }
                Read::Tile(id) => {
                    for mut row in rows {
                        let bytes: Vec<u8> = row.take()?;
                        let tile = Tile::from_bytes(&bytes);
                        hashes.add_tile(id, &tile.map_err(|_| Error::Corrupt { what: "a tile" })?);
                    }
                }
            }
        }
        Ok(hashes)
    }

    /// Adds the tiles that the log has filled since; returns how many it added. To be called again
    /// while it adds any. Several nodes may do it at once.
    pub async fn build_tiles(&self) -> Result<usize, Error> {
        let (tiled, size) = (self.tiled().await?, self.head().await?.size);
        // A bounded stretch whose end is where a tile ends.
        let end = size.min(tiled + TILES_PER_PASS as u64 * TILE_WIDTH);
        let mut hashes = Hashes::default();
        let mut inserts = Vec::new();
        for id in new_tiles(tiled, end) {
            // Roots of tiles below may be from this pass; what is not, is fetched.
            let tile = match Tile::build(id, &hashes) {
                Ok(tile) => tile,
                Err(_) => {
                    let fetched = self.fetch(&[id.source()]).await?;
                    let both = Either(&hashes, &fetched);
                    Tile::build(id, &both).map_err(|_| Error::Corrupt { what: "the log" })?
                }
            };
            let root = tile.root();
            hashes.add_root(id, root);
            let bytes = tile.as_bytes().to_vec();
            inserts.push(query!(
                INSERT_TILE,
                i64::from(id.level),
                id.index,
                bytes,
                root
            ));
        }
        let added = inserts.len();
        if added > 0 {
            self.write(Scope::System, inserts).await?;
        }
        Ok(added)
    }

    /// Reads the whole log and compares it with the stored head: size, order, and root.
    pub async fn prove_log(&self) -> Result<Head, Error> {
        const STEP: u64 = 4096;
        let head = self.head().await?;
        let mut frontier = Frontier::new();
        while frontier.size() < head.size {
            let from = frontier.size();
            let leaves = self.leaves(from, head.size.min(from + STEP)).await?;
            if leaves.is_empty() {
                break;
            }
            for leaf in leaves {
                frontier.push(keystead_core::log::leaf_hash(leaf.as_bytes()));
            }
        }
        if frontier.size() != head.size || frontier.root() != head.root {
            return Err(Error::Corrupt {
                what: "the log and its head",
            });
        }
        Ok(head)
    }
}

/// Two sources as one.
struct Either<'a>(&'a Hashes, &'a Hashes);

impl HashSource for Either<'_> {
    fn hash(&self, level: u8, index: u64) -> Option<Hash> {
        self.0
            .hash(level, index)
            .or_else(|| self.1.hash(level, index))
    }
}
