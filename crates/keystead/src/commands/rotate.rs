//! `keystead integrations rotate`, over the API.

use std::time::Duration;

use anyhow::bail;
use http::Method;
use serde_json::{Value, json};

use super::usage;
use crate::api::Api;
use crate::logs::{say, tell};

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Rotates now, and every so often from then on where that is asked for.
pub(super) async fn run(
    api: &Api,
    path: &str,
    every: Option<&str>,
    grace_minutes: Option<u32>,
    wait: bool,
    json: bool,
) -> anyhow::Result<()> {
    let rotation = format!("{path}/rotation");
    if let Some(every) = every {
        let mut schedule = json!({"every_days": days(every)?});
        if let Some(minutes) = grace_minutes {
            schedule["grace_minutes"] = minutes.into();
        }
        api.call(Method::PUT, &rotation, Some(&schedule)).await?;
    }
    let mut stands = api
        .call(Method::POST, &format!("{path}/rotate"), None)
        .await?;
    let mut told = String::new();
    while wait && !is_settled(&stands) {
        let now = format!("{}  {}", text(&stands, "step"), text(&stands, "detail"));
        if now != told {
            tell(now.trim_end());
            told = now;
        }
        tokio::time::sleep(LOOK_EVERY).await;
        stands = api.call(Method::GET, &rotation, None).await?;
    }
    if json {
        say(&stands);
    } else {
        say(format_args!(
            "{}  {}",
            text(&stands, "step"),
            text(&stands, "detail")
        ));
    }
    if wait && !is_replaced(&stands) {
        bail!("the credential was not replaced, and the one before is in use as ever");
    }
    Ok(())
}

fn text<'v>(stands: &'v Value, name: &str) -> &'v str {
    stands[name].as_str().unwrap_or_default()
}

/// Whether the next credential is in its place, or will not come to be.
fn is_settled(stands: &Value) -> bool {
    matches!(
        text(stands, "step"),
        "idle" | "grace" | "disable" | "delete"
    )
}

fn is_replaced(stands: &Value) -> bool {
    // Both are of one form, in which later times are greater texts.
    let since = text(stands, "last") >= text(stands, "started_at");
    text(stands, "step") != "idle" || since && !text(stands, "last").is_empty()
}

/// Reads `30d`.
fn days(every: &str) -> anyhow::Result<u32> {
    let days = every.strip_suffix('d').unwrap_or(every).parse();
    days.map_err(|_| usage(format!("--every {every}: write days, such as 30d")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_when_the_credential_was_replaced_or_will_not_be() {
        let stands = |step: &str, last: Option<&str>| json!({"step": step, "last": last, "started_at": "2026-11-20T12:00:00.000000Z"});
        let (before, after) = ("2026-11-19T12:00:00.000000Z", "2026-11-20T12:00:09.000000Z");
        for step in ["create", "test", "discard"] {
            assert!(!is_settled(&stands(step, Some(before))), "{step}");
        }
        for step in ["grace", "disable", "delete"] {
            assert!(
                is_settled(&stands(step, Some(after))) && is_replaced(&stands(step, Some(after)))
            );
        }
        assert!(is_replaced(&stands("idle", Some(after))));
        assert!(!is_replaced(&stands("idle", Some(before))));
        assert!(!is_replaced(&stands("idle", None)));
        assert_eq!((days("30d").unwrap(), days("7").unwrap()), (30, 7));
        assert!(days("1h").is_err());
    }
}
