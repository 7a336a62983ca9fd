//! Handing a credential out: for services that nothing else will do for, each time on record.

use keystead_core::action::Action;
use keystead_core::ids::IntegrationId;
use keystead_core::provider::Fields;
use keystead_core::renew::Want;
use keystead_core::time::Time;
use zeroize::Zeroizing;

use crate::broker::Broker;
use crate::context::Context;
use crate::error::Error;
use crate::permit::Reveal;

/// A credential on its one way out. It is written once, and gone.
pub struct Revealed {
    fields: Fields,
    as_text: bool,
    version: u64,
    expires_at: Option<Time>,
}

impl Revealed {
    /// The credential's version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// When it ends by itself, where that is known.
    pub fn expires_at(&self) -> Option<Time> {
        self.expires_at
    }

    /// Writes `{"credentials", "version", "expires_at"}`. The credential has the form in which it
    /// was given: one text, or an object of its parts. The buffer is made once, and wiped.
    pub fn into_json(self) -> Zeroizing<Vec<u8>> {
        let parts = Zeroizing::new(self.fields.to_message());
        let mut json = Zeroizing::new(Vec::with_capacity(parts.len() + 128));
        json.extend_from_slice(b"{\"credentials\":");
        match self.fields.only().filter(|_| self.as_text) {
            // A writer into memory does not fail; JSON text is at most six times as long.
            Some(text) => {
                let mut quoted = Zeroizing::new(Vec::with_capacity(text.len() * 6 + 2));
                let _ = serde_json::to_writer(&mut *quoted, text);
                let mut whole = Zeroizing::new(Vec::with_capacity(json.len() + quoted.len() + 64));
                whole.extend_from_slice(&json);
                whole.extend_from_slice(&quoted);
                json = whole;
            }
            None => json.extend_from_slice(&parts),
        }
        json.extend_from_slice(format!(",\"version\":{},\"expires_at\":", self.version).as_bytes());
        match self.expires_at {
            Some(at) => json.extend_from_slice(format!("\"{}\"}}", at.rfc3339()).as_bytes()),
            None => json.extend_from_slice(b"null}"),
        }
        json
    }
}

impl Broker {
    /// Hands the credential out.
    ///
    /// # Errors
    /// `Denied` for every user of whatever role, unless an operator opened it.
    pub async fn reveal_integration(
        &self,
        ctx: &Context,
        id: IntegrationId,
    ) -> Result<Revealed, Error> {
        let loaded = self.load(ctx, Action::Reveal, id).await?;
        let decided = self.decide(ctx, Action::Reveal, &loaded.on()).await?;
        if loaded.row.disabled {
            return Err(decided.fail(Error::disabled()).await);
        }
        let version = loaded.row.credential_version;
        let keys = match self.keyring().tenant(loaded.row.tenant).await {
            Ok(keys) => keys,
            Err(fault) => return Err(decided.fail(fault).await),
        };
        let permit = decided.permit::<Reveal>(version).await?;
        // Of granted tokens, the one that calls are made with: whoever renews them is here.
        let live = self
            .live_fields(ctx, permit, &keys, &loaded, Want::Live)
            .await?;
        self.mark_used(loaded.row.tenant, id);
        Ok(Revealed {
            fields: live.fields.for_others(&loaded.provider),
            as_text: live.as_text,
            version,
            expires_at: live.tokens.and_then(|(_, expires_at)| expires_at),
        })
    }
}
