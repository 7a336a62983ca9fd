//! The beginning of a rotation: whether this credential can be rotated at all, told at once.

use keystead_core::action::Outcome;
use keystead_core::provider::rotation::{Rotation as Calls, State, Step};
use keystead_core::provider::{Fields, Provider};
use keystead_store::RotationRow;

use super::{ACTION, page_of, work};
use crate::broker::Broker;
use crate::clock;
use crate::context::Context;
use crate::error::{Error, FieldFault};
use crate::integrations::Loaded;
use crate::permit::{Decided, Rotate};

/// What to do about a provider that makes no keys when asked.
pub(super) fn unsupported(provider: &Provider) -> Error {
    let (name, page) = (&provider.name, page_of(provider));
    let message = format!(
        "{name} makes no new credential by a call: make one by hand ({page}), give it to the integration, then take the old one back there"
    );
    Error::conflict("rotation_unsupported", message)
}

/// The calls that rotate this credential.
///
/// # Errors
/// `Conflict` where it cannot be rotated, `Invalid` for what has to be there first.
fn calls_for<'l>(loaded: &'l Loaded, fields: &Fields, now: work::Now) -> Result<&'l Calls, Error> {
    let provider = &loaded.provider;
    let mode = fields.mode(provider).ok_or_else(|| Error::Credential {
        reason: "its parts do not make up a credential of this provider".into(),
    })?;
    let Some(calls) = &mode.rotation else {
        return Err(unsupported(provider));
    };
    if let Some(part) = calls.unless.iter().find(|name| fields.get(name).is_some()) {
        let message = format!(
            "a credential with `{part}` is not rotated: it ends by itself, or is replaced by whoever made it"
        );
        return Err(Error::conflict("rotation_unsupported", message));
    }
    let faults: Vec<FieldFault> = calls
        .missing(provider, mode, &loaded.config, fields)
        .into_iter()
        .map(|path| FieldFault::new(path, format!("is needed to rotate. {}", calls.needs)))
        .collect();
    if !faults.is_empty() {
        return Err(Error::Invalid(faults));
    }
    let minted = provider.test_of(mode).is_some_and(|test| test.mint);
    if !minted
        && provider
            .test_request(fields, &loaded.config, now.0)
            .is_none()
    {
        let message = "a new credential could not be tried, so the one in use is not replaced: give the settings that its test needs";
        return Err(Error::conflict("rotation_untestable", message));
    }
    Ok(calls)
}

impl Broker {
    /// Opens the credential to see whether it can be rotated, and writes the first step down.
    pub(super) async fn begin_rotation(
        &self,
        ctx: &Context,
        decided: Decided,
        loaded: &Loaded,
        seen: Option<RotationRow>,
    ) -> Result<RotationRow, Error> {
        let keys = match self.keyring().tenant(loaded.row.tenant).await {
            Ok(keys) => keys,
            Err(fault) => return Err(decided.fail(fault).await),
        };
        let version = loaded.row.credential_version;
        let permit = decided.permit::<Rotate>(version).await?;
        let now = self.clock().now();
        let able = permit
            .open_credential(&keys, &loaded.credential)
            .and_then(|(fields, _)| calls_for(loaded, &fields, work::Now(now)).map(|_| ()));
        let before = match (&seen, able) {
            (_, Err(fault)) => {
                let on = loaded.on();
                self.record_failure(ctx, ACTION, &on, fault.word()).await;
                return Err(fault);
            }
            // What does not open any more is not needed: it only spares a look.
            (Some(row), Ok(())) => permit.open_rotation(&keys, row).unwrap_or_default(),
            (None, Ok(())) => State::default(),
        };
        let marker: [u8; 8] = clock::random()?;
        let state = State {
            marker: format!("keystead_{:016x}", u64::from_be_bytes(marker)),
            old: before.key_of(version).map(str::to_owned),
            ..State::default()
        };
        let expected = seen.as_ref().map(|row| row.revision);
        let mut row = seen.unwrap_or_else(|| work::new_row(loaded, now));
        row.step = Step::Create.as_str().to_owned();
        row.credential_version = version;
        row.started_at = Some(now);
        row.next_at = Some(now);
        row.attempts = 0;
        row.detail = None;
        row.updated_at = now;
        work::seal_state(&keys, &mut row, &state)?;
        let mut entry = self.entry(ctx, ACTION, &loaded.on(), Outcome::Allowed);
        if ctx.caller.is_none() {
            entry.caller = "system";
        }
        entry.reason = Some("rotation begun".into());
        entry.version = Some(version);
        self.append(entry, vec![work::put_effect(&row, expected)])
            .await?;
        row.revision = expected.map_or(1, |revision| revision + 1);
        Ok(row)
    }
}
