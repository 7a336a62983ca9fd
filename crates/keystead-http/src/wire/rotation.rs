//! How a rotation stands, and how often there is to be one.

use keystead_broker as broker;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::time;

/// How the rotation of an integration stands.
#[derive(Serialize, ToSchema)]
pub(crate) struct Rotation {
    /// What is next: `idle`, `create`, `test`, `grace`, `disable`, `delete`, or `discard` for a new
    /// credential that did not come into use.
    step: &'static str,
    /// When a rotation last put a new credential in its place.
    #[schema(format = DateTime)]
    last: Option<String>,
    /// When something is to be done.
    #[schema(format = DateTime)]
    next: Option<String>,
    /// How often it is rotated by itself.
    every_days: Option<u64>,
    /// For how long the credential before stays valid.
    grace_minutes: u64,
    /// When the last rotation began.
    #[schema(format = DateTime)]
    started_at: Option<String>,
    /// What came of it, or why it waits, for people.
    detail: Option<String>,
}

impl From<broker::Rotation> for Rotation {
    fn from(from: broker::Rotation) -> Rotation {
        Rotation {
            step: from.step.as_str(),
            last: from.last.map(time),
            next: from.next.map(time),
            every_days: from.every_days,
            grace_minutes: from.grace_minutes,
            started_at: from.started_at.map(time),
            detail: from.detail,
        }
    }
}

/// How often to rotate.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotationSchedule {
    /// 1 to 366.
    every_days: u32,
    /// 0 to 10080; 15 if never given.
    grace_minutes: Option<u32>,
}

impl From<RotationSchedule> for broker::Schedule {
    fn from(from: RotationSchedule) -> broker::Schedule {
        broker::Schedule {
            every_days: from.every_days,
            grace_minutes: from.grace_minutes,
        }
    }
}
