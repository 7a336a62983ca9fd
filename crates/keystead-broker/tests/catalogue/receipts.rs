//! Grants of three providers that ask for three things, from consent to the receipt: which tokens
//! are sent, as whom, and that none of them is left.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keystead_broker::{Changes, NewRevocation, Revocation};
use keystead_core::ids::{BatchId, IntegrationId};
use keystead_core::log::{RevocationReceipt, Settled, VerifierKey};
use keystead_core::provider::Mode;
use keystead_store::RevocationState;
use keystead_testkit::played::{Door, Grant, Heard};
use serde_json::{Value, json};

use crate::cases::{Case, against, catalogue};
use crate::house::Plan;

/// These providers, over a file.
pub(crate) async fn stage(ids: &[&str]) -> Vec<Case> {
    let catalogue = catalogue();
    let played = ids.iter().map(|id| catalogue.get(id).unwrap().clone());
    let played: Vec<_> = played.collect();
    let plan = Plan {
        in_file: true,
        ..Plan::default()
    };
    against(catalogue, &played, true, plan).await
}

impl Case {
    pub(crate) fn oauth_mode(&self) -> &Mode {
        self.provider.oauth_mode().unwrap()
    }

    /// Changes the row of an integration's tokens behind everybody's back.
    pub(crate) async fn set_tokens(&self, id: IntegrationId, change: &str) {
        let statement = format!("UPDATE token_set SET {change} WHERE integration_id = ?");
        let python = format!("print(db.execute('{statement}', (arg[0],)).rowcount)");
        let changed = self.house.tamper(&python, &[id.to_string()]);
        assert_eq!(changed.trim(), "1");
        // Any change lets nobody believe what was read before.
        let renamed = Changes {
            name: Some(format!("renamed {id}")),
            ..Changes::default()
        };
        let broker = &self.house.broker;
        let renamed = broker.update_integration(&self.owner, id, renamed, None);
        renamed.await.unwrap();
    }

    pub(crate) async fn is_used(&self, id: IntegrationId) -> Result<(), String> {
        let path = format!("{}kept", self.provider.path_prefixes[0]);
        self.call(id, None, &path).await
    }

    /// Deletes an integration with its grant, and waits for the receipt.
    pub(crate) async fn deleted(&self, id: IntegrationId) -> Revocation {
        let broker = &self.house.broker;
        let begun = broker.revoke_integration(&self.owner, id, None).await;
        self.closed(begun.unwrap().batch.id).await
    }

    async fn closed(&self, batch: BatchId) -> Revocation {
        let broker = &self.house.broker;
        for _ in 0..3000 {
            let page = broker.find_revocation(&self.owner, batch, 10, None).await;
            let mut page = page.unwrap();
            if page.batch.closed_at.is_some() {
                assert_eq!(page.items.data.len(), 1);
                let item = page.items.data.remove(0);
                let receipt = self.receipt(batch).await;
                assert_eq!(receipt.items[0].integration, item.integration);
                let settled = match item.state {
                    RevocationState::Confirmed => Settled::Confirmed,
                    RevocationState::Unsupported => Settled::Unsupported,
                    RevocationState::Failed | RevocationState::Pending => Settled::Failed,
                };
                assert_eq!(receipt.count(settled), 1);
                assert_eq!(receipt.items[0].detail, item.detail);
                return item;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{batch} is not closed: {}", self.refused());
    }

    async fn receipt(&self, batch: BatchId) -> RevocationReceipt {
        let broker = &self.house.broker;
        let note = broker.revocation_receipt(&self.owner, batch).await.unwrap();
        let key: VerifierKey = broker.verifier_key().parse().unwrap();
        RevocationReceipt::parse_signed(&note, &key).unwrap()
    }
}

/// The call, as the provider's own pages have it: written here by hand, and not read from its file.
fn is_asked_so(case: &Case, heard: &Heard, access: &str, refresh: &str) {
    let client = case.played.client();
    let secret = client.secret.unwrap();
    let authorization = heard.headers.get("authorization");
    let authorization = authorization.map(|value| value.to_str().unwrap().to_owned());
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&heard.body)
        .into_owned()
        .collect();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    match case.provider.id.as_str() {
        "github" => {
            let encoded: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
            let basic = STANDARD.encode(format!("{}:{encoded}", client.id));
            assert_eq!(authorization, Some(format!("Basic {basic}")));
            assert_eq!(heard.method, "DELETE");
            assert_eq!(heard.target, format!("/applications/{}/grant", client.id));
            let body: Value = serde_json::from_slice(&heard.body).unwrap();
            assert_eq!(body, json!({"access_token": access}));
        }
        "linear" => {
            assert_eq!(authorization, Some(format!("Bearer {access}")));
            assert_eq!(heard.target, "/oauth/revoke");
            assert_eq!(form, [pair("token", refresh)]);
        }
        "hubspot" => {
            assert_eq!(authorization, None);
            assert_eq!(heard.target, "/oauth/2026-03/token/revoke");
            let expected = [
                pair("client_id", &client.id),
                pair("client_secret", &secret),
                pair("token", refresh),
                pair("token_type_hint", "refresh_token"),
            ];
            assert_eq!(form, expected);
        }
        other => panic!("{other}"),
    }
}

fn tokens_of(grant: Grant) -> impl Iterator<Item = String> {
    let all = [grant.access, grant.ended, grant.refresh, grant.spent];
    all.into_iter().flatten()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_of_a_consent_is_taken_back_by_its_newest_tokens_and_leaves_none_behind() {
    let cases = stage(&["github", "linear", "hubspot"]).await;
    let house = cases[0].house.clone();
    let mut tokens = Vec::new();
    let mut ids = Vec::new();
    for case in &cases {
        let mut own = Vec::new();
        for _ in 0..3 {
            own.push(case.connect(case.oauth_mode()).await.unwrap());
        }
        for (number, id) in own.iter().take(2).enumerate() {
            // What consent gave is not what is there now.
            case.set_tokens(*id, "expires_at = 1").await;
            case.is_used(*id).await.unwrap();
            assert_eq!(case.played.grants()[number].renewals, 1);
        }
        for (number, id) in own.iter().take(2).enumerate() {
            let grant = case.played.grants()[number].clone();
            let (access, refresh) = (grant.access.last().unwrap(), grant.refresh.last().unwrap());
            let asked = case.played.count(Door::Revoke);
            let item = if number == 0 {
                case.deleted(*id).await
            } else {
                let new = NewRevocation {
                    integrations: vec![*id],
                    ..NewRevocation::default()
                };
                let broker = &case.house.broker;
                let batch = broker.create_revocation(&case.owner, new).await.unwrap();
                case.closed(batch.id).await
            };
            assert_eq!(item.state, RevocationState::Confirmed, "{item:?}");
            let revoke = case.oauth_mode().revoke.as_ref().unwrap();
            assert_eq!(
                (item.integration, item.attempts, &item.detail),
                (*id, 1, &revoke.calls[0].remark)
            );
            assert_eq!(case.played.count(Door::Revoke), asked + 1);
            is_asked_so(
                case,
                &case.played.last(Door::Revoke).unwrap().heard,
                access,
                refresh,
            );
            let revoked = case.played.grants().into_iter().map(|grant| grant.revoked);
            let expected = (0..3).map(|other| other <= number);
            assert!(revoked.eq(expected), "another grant was taken back");
            assert!(case.is_used(*id).await.is_err());
        }
        case.is_used(own[2]).await.unwrap();
        tokens.extend(case.played.grants().into_iter().flat_map(tokens_of));
        tokens.extend(case.played.client().secret);
        ids.extend(own);
    }
    assert!(tokens.len() >= 3 * 10);
    house.log_is_clean().await;
    // In the file and in what is not merged into it yet. An id, which is there, shows that this finds.
    let python = "import glob\nall = b''.join(open(f, 'rb').read() for f in glob.glob(sys.argv[1] + '*'))\n\
                  print(sum(text.encode() in all for text in arg))";
    let found = house.tamper(python, &tokens);
    assert_eq!(found.trim(), "0");
    assert_eq!(house.tamper(python, &[ids[0].to_string()]).trim(), "1");
}
