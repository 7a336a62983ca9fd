//! Lists in pages.

use std::str::FromStr;

use crate::error::Error;

/// The most that one page holds.
pub(crate) const MOST: u32 = 200;

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// What is on it.
    pub data: Vec<T>,
    /// Where the next one begins: what to give as `after`; `None` at the end.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// The page size that is meant: 1 to 200.
    pub(crate) fn limit(asked: u32) -> u32 {
        asked.clamp(1, MOST)
    }

    /// Where a page begins, from what a caller gave as `after`.
    pub(crate) fn after<P: FromStr>(given: Option<&str>) -> Result<Option<P>, Error> {
        given.map(str::parse).transpose().map_err(|_| {
            let message = "is not a place in this list: use `next` of the page before";
            Error::field("after", message)
        })
    }

    /// From the rows of a query that asked for one more than the page holds.
    pub(crate) fn of(mut rows: Vec<T>, limit: u32, place: impl Fn(&T) -> String) -> Page<T> {
        let limit = limit as usize;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(place);
        Page { data: rows, next }
    }

    /// The same page of something else.
    pub(crate) fn map<U>(self, to: impl FnMut(T) -> U) -> Page<U> {
        Page {
            data: self.data.into_iter().map(to).collect(),
            next: self.next,
        }
    }
}
