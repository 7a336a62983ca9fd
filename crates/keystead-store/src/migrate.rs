//! The schema's versions: one list for both databases, and what was applied of it.
//!
//! What always holds: a file that was applied is never changed; a database that has a migration
//! which this program does not know, or another text under the same number, is not started.

use aws_lc_rs::digest::{SHA256, digest};

use crate::Error;
use crate::value::Row;

/// A step of the schema, in both languages.
pub(crate) struct Migration {
    pub(crate) number: i64,
    pub(crate) name: &'static str,
    pub(crate) sqlite: &'static str,
    pub(crate) postgres: &'static str,
}

macro_rules! migrations {
    ($($number:literal $name:literal),* $(,)?) => {
        &[$(Migration {
            number: $number,
            name: $name,
            sqlite: include_str!(concat!("../../../migrations/sqlite/", $name, ".sql")),
            postgres: include_str!(concat!("../../../migrations/postgres/", $name, ".sql")),
        }),*]
    };
}

/// All of them, in order.
pub(crate) const MIGRATIONS: &[Migration] = migrations![1 "0001_main"];

pub(crate) const APPLIED: &str = "SELECT number, name, checksum FROM migration ORDER BY number";
pub(crate) const RECORD: &str =
    "INSERT INTO migration (number, name, checksum) VALUES ($1, $2, $3)";

/// What is recorded of a migration that was applied.
pub(crate) struct Applied {
    number: i64,
    name: String,
    checksum: [u8; 32],
}

impl Applied {
    pub(crate) fn read(mut row: Row) -> Result<Applied, Error> {
        Ok(Applied {
            number: row.take()?,
            name: row.take()?,
            checksum: row.take()?,
        })
    }
}

/// The checksum of a migration's text.
pub(crate) fn checksum(text: &str) -> Vec<u8> {
    digest(&SHA256, text.as_bytes()).as_ref().to_vec()
}

/// Those that are still to be applied; refuses a database that went another way.
pub(crate) fn pending(
    known: &'static [Migration],
    applied: &[Applied],
    text: fn(&Migration) -> &'static str,
) -> Result<&'static [Migration], Error> {
    for (index, done) in applied.iter().enumerate() {
        let Some(known) = known.get(index) else {
            return Err(Error::Drift(format!(
                "the database has migration {} ({}), which this version of Keystead does not know: \
                 start the version that made it, or a newer one",
                done.number, done.name
            )));
        };
        if known.number != done.number
            || known.name != done.name
            || checksum(text(known)) != done.checksum
        {
            return Err(Error::Drift(format!(
                "the database was migrated with another text of {} than this version of Keystead \
                 has of {}: one of the two was changed after its release; start the version that \
                 made it",
                done.name, known.name
            )));
        }
    }
    Ok(&known[applied.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(number: i64, name: &str, text: &str) -> Applied {
        let checksum = checksum(text).try_into().unwrap();
        let name = name.to_owned();
        Applied {
            number,
            name,
            checksum,
        }
    }

    #[test]
    fn a_changed_or_unknown_migration_stops_the_start() {
        let text = |migration: &Migration| migration.sqlite;
        let good = || applied(1, "0001_main", MIGRATIONS[0].sqlite);
        assert_eq!(
            pending(MIGRATIONS, &[], text).unwrap().len(),
            MIGRATIONS.len()
        );
        assert_eq!(
            pending(MIGRATIONS, &[good()], text).unwrap().len(),
            MIGRATIONS.len() - 1
        );
        let changed = pending(MIGRATIONS, &[applied(1, "0001_main", "other")], text);
        assert!(
            matches!(changed, Err(Error::Drift(text)) if text.contains("changed after its release"))
        );
        let newer = applied(2, "0002_later", "later");
        let unknown = pending(&MIGRATIONS[..1], &[good(), newer], text);
        assert!(matches!(unknown, Err(Error::Drift(text)) if text.contains("0002_later")));
    }
}
