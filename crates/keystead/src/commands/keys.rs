//! `keystead keys`: whoever has the installation's shell, and so its configuration, its store and
//! its KMS, is its operator.

use keystead_broker::{Broker, Clock, Context, Key, NewKey};
use keystead_core::caller::Scope;
use keystead_core::token::KeyKind;
use serde_json::json;

use super::{Exit, shell, usage};
use crate::cli::{Keys, KeysCreate};
use crate::config::Config;
use crate::logs::say;

pub(super) async fn run(config: Config, command: Keys) -> anyhow::Result<()> {
    let begin = matches!(command, Keys::Create(_));
    let broker = shell::broker(&config, begin).await?;
    let shell = Context::shell(broker.new_request_id());
    match command {
        Keys::Create(create) => self::create(&broker, &shell, create).await,
        Keys::List { json } => list(&broker, &shell, json).await,
        Keys::Revoke { id, json } => {
            let id = id.parse().map_err(usage)?;
            broker.revoke_key(&shell, id).await?;
            if json {
                say(json!({"id": id, "revoked": true}));
            }
            Ok(())
        }
    }
}

async fn create(broker: &Broker, shell: &Context, create: KeysCreate) -> anyhow::Result<()> {
    let tenant = match &create.tenant {
        Some(name) => Some(
            broker
                .named_tenant(name)
                .await?
                .ok_or_else(|| Exit(4, format!("no tenant is called {name:?}")))?,
        ),
        None => None,
    };
    let scopes = create
        .scope
        .iter()
        .map(|text| Scope::parse(text).map_err(|fault| usage(format!("--scope {text}: {fault}"))));
    let made = broker
        .create_key(
            shell,
            NewKey {
                kind: if create.operator {
                    KeyKind::Operator
                } else {
                    KeyKind::Service
                },
                name: create.name,
                tenant,
                scopes: scopes.collect::<anyhow::Result<_>>()?,
                addresses: create.addresses,
                expires_at: create.days.map(|days| {
                    Clock::default()
                        .now()
                        .plus_seconds(i64::from(days) * 86_400)
                }),
            },
        )
        .await?;
    if create.json {
        say(json!({"id": made.key.id, "key": made.text.expose()}));
    } else {
        say(format_args!("{}\n{}", made.key.id, made.text.expose()));
    }
    Ok(())
}

async fn list(broker: &Broker, shell: &Context, as_json: bool) -> anyhow::Result<()> {
    let time = |time: Option<keystead_core::time::Time>| time.map(|time| time.rfc3339());
    for key in broker.list_keys(shell).await? {
        let kind = match key.kind {
            KeyKind::Service => "service",
            KeyKind::Operator => "operator",
        };
        if as_json {
            say(json!({
                "id": key.id, "kind": kind, "name": key.name, "tenant": key.tenant, "scopes": key.scopes,
                "expires_at": time(key.expires_at), "last_used_at": time(key.last_used_at),
                "revoked_at": time(key.revoked_at), "created_at": key.created_at.rfc3339(),
            }));
        } else {
            say(format_args!(
                "{}  {kind:8}  {:10}  {}",
                key.id,
                state(&key),
                key.name
            ));
        }
    }
    Ok(())
}

fn state(key: &Key) -> &'static str {
    let now = Clock::default().now();
    match (key.revoked_at, key.expires_at) {
        (Some(_), _) => "revoked",
        (None, Some(at)) if at <= now => "expired",
        _ => "valid",
    }
}
