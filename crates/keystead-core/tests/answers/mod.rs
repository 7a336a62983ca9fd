//! Documented answers to test calls, and what they mean.

mod first;
mod grants;
mod keys;

use keystead_core::provider::ResultClass;
pub(crate) use keystead_core::provider::ResultClass::{
    BadKey, Down, Expired, Indeterminate, NoPerm, Ok as Works, Quota, Rate,
};

/// A provider, its mode, and answers with what they mean.
pub(crate) type Row = (&'static str, &'static str, Vec<(u16, String, ResultClass)>);

/// The same, as constants.
type Fixed = (
    &'static str,
    &'static str,
    &'static [(u16, &'static str, ResultClass)],
);

/// All of them.
pub(crate) fn rows() -> Vec<Row> {
    let fixed = keys::ROWS
        .iter()
        .chain(grants::ROWS)
        .map(|(id, mode, answers)| {
            let answers = answers
                .iter()
                .map(|(status, body, result)| (*status, (*body).to_owned(), *result));
            (*id, *mode, answers.collect())
        });
    first::rows().into_iter().chain(fixed).collect()
}
