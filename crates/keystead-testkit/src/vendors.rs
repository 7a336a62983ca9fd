//! Vendors' management APIs, played by hand and strictly: each refuses what the vendor refuses.
//!
//! What always holds: a call without the right credential, permission or header is refused as the
//! vendor does; every credential that is given out is remembered, so that a test can search for
//! it; what is not known is 404.
//!
//! Not here: providers that a definition alone can play (`played`).

mod desk;
mod github;
mod google;
mod jwt;
mod supabase;

pub use desk::{Asked, Desk, Said};
pub use github::Github;
pub use google::Google;
pub use jwt::Signer;
pub use supabase::Supabase;
