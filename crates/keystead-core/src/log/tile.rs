//! Tiles: the tree's hashes in blocks of 256, and which blocks a proof has to read.
//!
//! ```text
//! tile (level, index) = hashes 256·index … 256·index + 255 of the subtrees of 256^level leaves
//!                       8192 bytes; its root is one hash of the tile above
//! ```
//!
//! As in [C2SP tlog-tiles](https://c2sp.org/tlog-tiles), but only complete tiles are kept, each with
//! its root, so rows are inserted once and never changed. They follow from the leaves: a pass behind
//! the appending adds them ([`new_tiles`]), and a lost one is built anew. The part of a level that
//! fills no tile yet is read as roots of the tiles below, or as leaves.

use std::cell::RefCell;
use std::collections::HashMap;

use super::tree::{Frontier, Hash, HashSource, TreeError, leaf_hash};

/// Tree levels that a tile spans.
const HEIGHT: u8 = 8;
/// Hashes in a tile.
const WIDTH: u64 = 1 << HEIGHT;
/// Tile levels that a tree below 2^63 leaves can fill.
const LEVELS: u8 = 7;

/// The name of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    /// Its hashes are of subtrees of 256^level leaves.
    pub level: u8,
    /// Place within the level, from 0.
    pub index: u64,
}

impl TileId {
    /// What the tile is built from: 256 leaves, or the roots of 256 tiles of the level below.
    pub fn source(self) -> Read {
        let (from, to) = (self.index * WIDTH, (self.index + 1) * WIDTH);
        match self.level {
            0 => Read::Leaves { from, to },
            level => Read::Roots {
                level: level - 1,
                from,
                to,
            },
        }
    }
}

/// How many tiles of `level` the tree of `size` leaves has filled: those from 0 to before that.
pub fn complete_tiles(level: u8, size: u64) -> u64 {
    size.checked_shr(u32::from(HEIGHT) * (u32::from(level) + 1))
        .unwrap_or(0)
}

/// The tiles to add to those of a tree of `tiled` leaves to have those of a tree of `size`, in an
/// order in which each follows what it is built from.
///
/// A pass that adds them all in one transaction may stop anywhere and begin again: `tiled` is then
/// 256 × the number of tiles of level 0.
pub fn new_tiles(tiled: u64, size: u64) -> impl Iterator<Item = TileId> {
    (0..LEVELS).flat_map(move |level| {
        (complete_tiles(level, tiled)..complete_tiles(level, size))
            .map(move |index| TileId { level, index })
    })
}

/// A complete tile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile(Vec<Hash>);

impl Tile {
    /// Builds a tile from what [`TileId::source`] names.
    pub fn build(id: TileId, source: &dyn HashSource) -> Result<Tile, TreeError> {
        let level = id.level * HEIGHT;
        (id.index * WIDTH..(id.index + 1) * WIDTH)
            .map(|index| {
                let missing = TreeError::Missing { level, index };
                source.hash(level, index).ok_or(missing)
            })
            .collect::<Result<_, _>>()
            .map(Tile)
    }

    /// Reads the stored form: 8192 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Tile, TreeError> {
        match bytes.as_chunks() {
            (hashes, []) if hashes.len() as u64 == WIDTH => Ok(Tile(hashes.to_vec())),
            _ => Err(TreeError::Form("tile")),
        }
    }

    /// The stored form.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_flattened()
    }

    /// The root over the tile, a hash of the tile above.
    pub fn root(&self) -> Hash {
        let mut frontier = Frontier::new();
        self.0.iter().for_each(|hash| frontier.push(*hash));
        frontier.root()
    }
}

/// Something to fetch for a proof or a tile, into [`Hashes`]. `to` is exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Read {
    /// The stored texts of these entries: [`Hashes::add_leaf`] for each.
    Leaves {
        /// First sequence number.
        from: u64,
        /// The one after the last.
        to: u64,
    },
    /// The roots of these complete tiles: [`Hashes::add_root`] for each.
    Roots {
        /// Level of the tiles.
        level: u8,
        /// Index of the first tile.
        from: u64,
        /// The one after the last.
        to: u64,
    },
    /// One complete tile: [`Hashes::add_tile`].
    Tile(TileId),
}

/// What has to be read to answer `question`, where the tiles of a tree of `tiled` leaves are stored.
///
/// The question is the call that then runs over the [`Hashes`] that were read, so the plan and the
/// proof cannot differ:
///
/// ```
/// # use keystead_core::log::*;
/// # let (index, size, tiled) = (1, 3, 0);
/// let question = |source: &dyn HashSource| inclusion_proof(index, size, source);
/// let mut hashes = Hashes::default();
/// for read in plan(tiled, question)? {
///     // … fetch it …
/// #   let Read::Leaves { from, to } = read else { panic!() };
/// #   (from..to).for_each(|seq| hashes.add_leaf(seq, b"leaf"));
/// }
/// let proof = question(&hashes)?;
/// # assert_eq!(proof.len(), 2);
/// # Ok::<(), TreeError>(())
/// ```
pub fn plan<T>(
    tiled: u64,
    question: impl FnOnce(&dyn HashSource) -> Result<T, TreeError>,
) -> Result<Vec<Read>, TreeError> {
    let planner = Planner {
        tiled: tiled / WIDTH * WIDTH,
        reads: RefCell::default(),
    };
    question(&planner)?;
    let mut reads = planner.reads.into_inner();
    reads.sort_unstable();
    reads.dedup_by(|next, last| match (last, next) {
        (Read::Leaves { to, .. }, Read::Leaves { from, to: end }) if *from <= *to => {
            *to = (*to).max(*end);
            true
        }
        (
            Read::Roots { level, to, .. },
            Read::Roots {
                level: l,
                from,
                to: end,
            },
        ) if level == l && *from <= *to => {
            *to = (*to).max(*end);
            true
        }
        (last, next) => last == next,
    });
    Ok(reads)
}

/// Answers every question with a hash of no meaning, and notes what was asked.
struct Planner {
    tiled: u64,
    reads: RefCell<Vec<Read>>,
}

impl HashSource for Planner {
    fn hash(&self, level: u8, index: u64) -> Option<Hash> {
        let (start, end) = (index << level, (index + 1) << level);
        if end <= self.tiled {
            let (tile_level, height) = (level / HEIGHT, level % HEIGHT);
            let from = index << height;
            let tile = TileId {
                level: tile_level,
                index: from / WIDTH,
            };
            let whole = tile.index < complete_tiles(tile_level, self.tiled);
            let read = match tile_level {
                // Leaves in `tiled` are in a complete tile, as it is a multiple of 256.
                1.. if !whole => Read::Roots {
                    level: tile_level - 1,
                    from,
                    to: from + (1 << height),
                },
                _ => Read::Tile(tile),
            };
            self.reads.borrow_mut().push(read);
        } else if start >= self.tiled {
            let read = Read::Leaves {
                from: start,
                to: end,
            };
            self.reads.borrow_mut().push(read);
        } else {
            self.hash(level - 1, 2 * index);
            self.hash(level - 1, 2 * index + 1);
        }
        Some(Hash::default())
    }
}

/// Hashes that were read, from which those of larger subtrees follow.
#[derive(Clone, Debug, Default)]
pub struct Hashes(HashMap<(u8, u64), Hash>);

impl Hashes {
    /// Adds an entry by its stored text.
    pub fn add_leaf(&mut self, seq: u64, leaf: &[u8]) {
        self.0.insert((0, seq), leaf_hash(leaf));
    }

    /// Adds the root of a tile.
    pub fn add_root(&mut self, tile: TileId, root: Hash) {
        self.0.insert(((tile.level + 1) * HEIGHT, tile.index), root);
    }

    /// Adds all hashes of a tile.
    pub fn add_tile(&mut self, id: TileId, tile: &Tile) {
        let places = (id.index * WIDTH..).map(|index| (id.level * HEIGHT, index));
        self.0.extend(places.zip(tile.0.iter().copied()));
    }
}

impl HashSource for Hashes {
    fn hash(&self, level: u8, index: u64) -> Option<Hash> {
        if let Some(hash) = self.0.get(&(level, index)) {
            return Some(*hash);
        }
        let below = level.checked_sub(1)?;
        let left = self.hash(below, index.checked_mul(2)?)?;
        let right = self.hash(below, 2 * index + 1)?;
        Some(super::node_hash(&left, &right))
    }
}
