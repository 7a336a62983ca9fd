//! The one error type of this crate: each variant names the fault.
//!
//! What always holds: a failing database is never reported as a missing row, and the source is
//! kept for logs and never part of the message.

use std::error::Error as StdError;

/// What can go wrong between a caller and the rows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A change was not made because the row was changed by someone else in between.
    #[error("the {what} was changed in between")]
    Conflict {
        /// Which kind of row.
        what: &'static str,
    },
    /// A change was not made because there already is one with that identity.
    #[error("there already is such a {what}")]
    Duplicate {
        /// What exists.
        what: &'static str,
    },
    /// A change was not made because its row does not exist.
    #[error("there is no such {what}")]
    NotFound {
        /// What is missing.
        what: &'static str,
    },
    /// A change was not made because the database refuses the value.
    #[error("the {what} holds a value that cannot be stored")]
    Invalid {
        /// Which kind of row.
        what: &'static str,
    },
    /// The database cannot answer now. After an append: it may or may not have been recorded.
    #[error("the store is unavailable: {context}")]
    Unavailable {
        /// What was being done.
        context: &'static str,
        /// Why, for the log.
        #[source]
        source: Option<Box<dyn StdError + Send + Sync>>,
    },
    /// A stored row does not read as what it must be.
    #[error("the store holds a row that does not read: {what}")]
    Corrupt {
        /// Which part of which row.
        what: &'static str,
    },
    /// The database's schema is not the one that this program was built for.
    #[error("{0}")]
    Drift(String),
    /// The database is not set up as it must be; the text says what to do.
    #[error("{0}")]
    Setup(String),
}

impl Error {
    pub(crate) fn unavailable(context: &'static str) -> Error {
        Error::Unavailable {
            context,
            source: None,
        }
    }

    pub(crate) fn because(
        context: &'static str,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Error {
        Error::Unavailable {
            context,
            source: Some(source.into()),
        }
    }
}
