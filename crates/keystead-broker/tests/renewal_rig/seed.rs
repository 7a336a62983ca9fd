//! Very many integrations with tokens of live grants, straight into the store: as they would be had
//! each been connected.

use keystead_broker::kms::{FileKms, Kms};
use keystead_core::action::{Action, Outcome, TargetKind};
use keystead_core::entry::Entry;
use keystead_core::ids::{IntegrationId, RequestId, SealKeyId};
use keystead_core::seal::{self, Kind, Place, SealKey};
use keystead_core::time::Time;
use keystead_store::{
    CredentialRow, Effect, IntegrationRow, Status, TenantKeyState, TokenSetRow, TokenState, Write,
};
use keystead_testkit::token_server::Class;
use serde_json::json;
use uuid::Uuid;

use super::{Node, Rig, micros, provider};

/// Rows of one write.
const AT_ONCE: usize = 250;

/// The tenant's key, and its id.
async fn tenant_key(rig: &Rig, node: &Node) -> (SealKeyId, SealKey) {
    let row = node.store.installation().await.unwrap().unwrap();
    let kms = FileKms::open(&rig.folder().join("root.key"), false).unwrap();
    let root = kms.unwrap(&row.root_key, row.id).await.unwrap();
    let keys = node.store.tenant_keys(node.tenant).await.unwrap();
    let active = keys
        .into_iter()
        .find(|key| key.state == TenantKeyState::Active);
    let active = active.unwrap();
    let place = Place {
        tenant: *node.tenant.bytes(),
        kind: Kind::TenantKey,
        record: *active.id.bytes(),
        field: 0,
        version: active.generation,
    };
    let root_id = SealKeyId::from_uuid(Uuid::from_u128(2));
    let key = seal::open_key(&root, &root_id, &place, &active.sealed).unwrap();
    (active.id, key)
}

impl Rig {
    /// So many; each due at once, and ended at the time that is given for its number.
    pub async fn seed(
        &self,
        node: &Node,
        count: usize,
        class: Class,
        ends: impl Fn(usize) -> Time,
    ) -> Vec<IntegrationId> {
        let (key_id, key) = tenant_key(self, node).await;
        let now = Time(micros());
        let tenant = node.tenant;
        let mut all = Vec::with_capacity(count);
        let mut effects = Vec::new();
        for number in 0..count {
            let id = IntegrationId::from_uuid(Uuid::from_u128(1 + number as u128));
            let sealed = |kind, message: &[u8]| {
                let place = Place {
                    tenant: *tenant.bytes(),
                    kind,
                    record: *id.bytes(),
                    field: 0,
                    version: 1,
                };
                let salt = keystead_broker::random().unwrap();
                seal::seal(&key, &key_id, &place, salt, message)
            };
            let (access, refresh) = self.server.grant(class);
            let tokens = json!({ "access_token": access, "refresh_token": refresh }).to_string();
            effects.push(Effect::InsertIntegration {
                integration: Box::new(IntegrationRow {
                    tenant,
                    id,
                    name: format!("seeded {number}"),
                    provider: provider(class).0.to_owned(),
                    status: Status::Connected,
                    config: "{}".to_owned(),
                    hint: None,
                    credential_version: 1,
                    disabled: false,
                    created_by: "system".to_owned(),
                    created_at: now,
                    updated_at: now,
                    last_used_at: None,
                    last_verified_at: Some(now),
                    error_message: None,
                    revision: 1,
                }),
                credential: CredentialRow {
                    tenant,
                    integration: id,
                    version: 1,
                    key_id,
                    // No parts, as an object.
                    sealed: sealed(Kind::Credential, b"O{}"),
                    created_at: now,
                },
            });
            effects.push(Effect::PutTokenSet(Box::new(TokenSetRow {
                tenant,
                integration: id,
                credential_version: 1,
                token_version: 1,
                state: TokenState::Live,
                key_id,
                sealed: sealed(Kind::TokenSet, tokens.as_bytes()),
                expires_at: Some(ends(number)),
                refresh_expires_at: None,
                renew_at: Some(now),
                holder: None,
                fence: 1,
                lease_until: None,
                intent: false,
                failures: 0,
                failing_since: None,
                problem: None,
                updated_at: now,
            })));
            all.push(id);
            if effects.len() >= 2 * AT_ONCE || number + 1 == count {
                let entry = Entry {
                    at: now,
                    tenant,
                    caller: "system",
                    by: None,
                    action: Action::Put,
                    on: TargetKind::Integration,
                    target: None,
                    outcome: Outcome::Allowed,
                    reason: Some("seeded".into()),
                    version: None,
                    tokens: None,
                    request: RequestId::from_uuid(Uuid::nil()),
                    address: None,
                };
                let effects = std::mem::take(&mut effects);
                node.store.append(Write { entry, effects }).await.unwrap();
            }
        }
        all
    }
}
