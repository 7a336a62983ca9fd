//! `keystead dev`: the newcomer's command. A server, a development issuer, two tenants (alice owns
//! acme, bob owns globex), a sample provider, and the main job done once, line by line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use http::Method;
use keystead_broker::callers::DevIssuer;
use keystead_broker::{Broker, Clock, Context, NewKey};
use keystead_core::action::{Action, Role};
use keystead_core::caller::{Filter, Scope};
use keystead_core::ids::TenantId;
use keystead_core::token::KeyKind;
use serde_json::{Value, json};

use super::{serve, token, usage};
use crate::api::Api;
use crate::cli::Dev;
use crate::config::{Config, LogFormat, OAuthApp, SecretText};
use crate::logs::{self, say};
use crate::sample::{self, SAMPLE, SAMPLE_FILE, SAMPLE_KEY};
use crate::wiring;

/// A day, less what a clock may be off.
const TOKENS_LAST: Duration = Duration::from_secs(23 * 3600);
const OPERATOR: &str = "dev operator";
const SERVICE: &str = "dev backend";

/// What a newcomer holds.
struct Hands {
    url: String,
    operator: String,
    service: String,
    alice: String,
    bob: String,
    acme: TenantId,
    globex: TenantId,
}

pub(super) async fn run(file: Option<PathBuf>, dev: Dev) -> anyhow::Result<()> {
    let mut config = configured(file, &dev)?;
    logs::start(&config.log)?;
    // What the file says of the provider is the operator's word; else the sample plays it.
    let own_provider = config
        .provider
        .get("openai")
        .is_some_and(|provider| provider.base_url.is_some());
    let issuer = token::issuer(&dev.data, true)?;
    let listener = serve::listen(&mut config).await?;
    let home = config.server.checked_home()?;
    let home = home.context("dev serves where browsers of this machine reach it")?;
    bring_sample(&mut config, sample::start(&home).await?, own_provider);
    let broker = wiring::broker(&config, vec![issuer.settings()]).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let hands = hands(&broker, &issuer, url).await?;
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let signals = serve::ended()?;
    let serving = async {
        let until = async {
            tokio::select! {
                () = signals => {}
                _ = ended => {}
            }
        };
        serve::serve_until(&config, broker.clone(), listener, until).await;
    };
    let job = async {
        let link = connect_link(&hands).await?;
        if dev.json {
            say(ready(&hands, &link));
        }
        if !dev.json || dev.once {
            show(&hands, own_provider, dev.json).await?;
        }
        if dev.once {
            drop(end);
        } else {
            if !dev.json {
                farewell(&hands, &link);
            }
            // Kept until the server ends: its drop is the sign to end.
            std::mem::forget(end);
        }
        anyhow::Ok(())
    };
    let mut failed = None;
    tokio::join!(serving, async {
        if let Err(fault) = job.await {
            failed = Some(fault);
        }
    });
    failed.map_or(Ok(()), Err)
}

/// The sample provider, as itself; and as OpenAI, unless the file says where that is.
fn bring_sample(config: &mut Config, address: SocketAddr, own_provider: bool) {
    let file = (format!("{SAMPLE}.toml"), SAMPLE_FILE.to_owned());
    config.providers.brought.push(file);
    let app = OAuthApp {
        client_id: sample::CLIENT_ID.to_owned(),
        client_secret: None,
        scopes: None,
        own_callback: false,
    };
    config.oauth.insert(SAMPLE.to_owned(), app);
    let played = if own_provider {
        &[SAMPLE][..]
    } else {
        &[SAMPLE, "openai"]
    };
    for id in played {
        let provider = config.provider.entry((*id).to_owned()).or_default();
        provider.base_url = Some(format!("http://{address}"));
    }
    config.egress.allow.push(address.ip().into());
}

/// A link to the connect page, for alice.
async fn connect_link(hands: &Hands) -> anyhow::Result<String> {
    let alice = Api::new(&hands.url, &hands.alice, None)?;
    let ask = json!({"providers": [SAMPLE, "openai"]});
    let made = alice
        .call(Method::POST, "/api/connect-sessions", Some(&ask))
        .await?;
    let link = made["url"].as_str();
    Ok(link.context("a connect session without a link")?.to_owned())
}

/// The file's settings, and where it is silent those of a trial.
fn configured(file: Option<PathBuf>, dev: &Dev) -> anyhow::Result<Config> {
    let mut config = wiring::load(file)?;
    std::fs::create_dir_all(&dev.data)
        .with_context(|| format!("{} cannot be made", dev.data.display()))?;
    let plain = Config::default();
    if config.store.url == plain.store.url {
        let path = dev.data.join("keystead.db");
        config.store.url = SecretText::plain(&format!("sqlite:{}", path.display()));
    }
    if config.kms.path == plain.kms.path {
        config.kms.path = dev.data.join("root.key");
    }
    if let Some(listen) = dev.listen {
        config.server.listen = listen;
    }
    if config.server.is_public() {
        // Its issuer's key lies in a file, and its tokens are shown.
        return Err(usage(
            "dev serves on loopback only: give another --listen, or use serve",
        ));
    }
    if config.log == plain.log {
        config.log.format = LogFormat::Text;
        config.log.level = "warn".to_owned();
    }
    Ok(config)
}

async fn hands(broker: &Broker, issuer: &DevIssuer, url: String) -> anyhow::Result<Hands> {
    let shell = Context::shell(broker.new_request_id());
    for key in broker.list_keys(&shell).await? {
        if key.revoked_at.is_none() && [OPERATOR, SERVICE].contains(&key.name.as_str()) {
            broker.revoke_key(&shell, key.id).await?;
        }
    }
    let operator = broker
        .create_key(&shell, NewKey::operator(OPERATOR))
        .await?;
    let every = Scope {
        actions: Action::ALL.iter().copied().collect(),
        providers: Filter::Any,
        integrations: Filter::Any,
    };
    let service = NewKey {
        kind: KeyKind::Service,
        name: SERVICE.to_owned(),
        scopes: vec![every],
        ..NewKey::operator(SERVICE)
    };
    let service = broker.create_key(&shell, service).await?;
    let (alice, acme) = user(broker, issuer, "alice", "acme").await?;
    let (bob, globex) = user(broker, issuer, "bob", "globex").await?;
    Ok(Hands {
        url,
        operator: operator.text.expose().to_owned(),
        service: service.text.expose().to_owned(),
        alice,
        bob,
        acme,
        globex,
    })
}

/// A token, and the tenant, which is made when its owner is first seen.
async fn user(
    broker: &Broker,
    issuer: &DevIssuer,
    name: &str,
    tenant: &str,
) -> anyhow::Result<(String, TenantId)> {
    let jwt = issuer
        .mint(
            name,
            Some(tenant),
            Some(Role::Owner),
            TOKENS_LAST,
            Clock::default().now(),
        )
        .context("a token could not be signed")?;
    let seen = broker
        .identify(Some(&jwt), None, broker.new_request_id(), None)
        .await?;
    Ok((jwt, seen.tenant.context("a user without a tenant")?))
}

fn ready(hands: &Hands, link: &str) -> Value {
    json!({
        "url": hands.url,
        "console_url": null,
        "connect_url": link,
        "operator_key": hands.operator,
        "service_key": hands.service,
        "tenants": {"acme": hands.acme, "globex": hands.globex},
        "users": {"alice": hands.alice, "bob": hands.bob},
    })
}

/// The main job, as each of its parties would do it.
async fn show(hands: &Hands, own_provider: bool, quiet: bool) -> anyhow::Result<()> {
    let tell = |text: String| {
        if !quiet {
            say(text);
        }
    };
    let alice = Api::new(&hands.url, &hands.alice, None)?;
    let bob = Api::new(&hands.url, &hands.bob, None)?;
    let backend = Api::new(&hands.url, &hands.service, Some("acme"))?;
    let operator = Api::new(&hands.url, &hands.operator, Some("acme"))?;
    if own_provider {
        tell(
            "[provider.openai] is yours: the job needs the sample provider and is left out."
                .to_owned(),
        );
        return Ok(());
    }
    tell(format!("Keystead serves at {}\n", hands.url));
    let name = format!("demo {}", Clock::default().now().0);
    let new = json!({"name": name, "type": "openai", "credentials": SAMPLE_KEY});
    let made = alice
        .call(Method::POST, "/api/integrations", Some(&new))
        .await?;
    let id = made["id"]
        .as_str()
        .context("an integration without an id")?
        .to_owned();
    tell(format!(
        "1 connect  alice of acme pastes her OpenAI key; it is sealed as {id}, hint …{}",
        made["hint"].as_str().unwrap_or_default()
    ));
    let connected = settled(&alice, &id).await?;
    ensure!(
        connected["status"] == "connected",
        "the sample provider did not take its key: {connected}"
    );
    tell("2 verify   the provider takes it: connected".to_owned());
    let ask = json!({"model": "sample-1", "stream": true, "messages": [{"role": "user", "content": "Where is my key?"}]});
    let (status, answer) = backend
        .raw(
            Method::POST,
            &format!("/proxy/{id}/v1/chat/completions"),
            Some(&ask),
        )
        .await?;
    ensure!(
        status == 200,
        "the call through the proxy was answered {status}"
    );
    ensure!(!contains(&answer, SAMPLE_KEY), "the answer held the key");
    tell(format!(
        "3 use      her product's backend calls the provider with a Keystead token, unseen, streamed: {:?}",
        words(&answer)
    ));
    let (status, _) = alice
        .raw(
            Method::POST,
            &format!("/api/integrations/{id}/reveal"),
            None,
        )
        .await?;
    ensure!(status == 403, "a user's reveal was answered {status}");
    let (status, _) = bob
        .raw(Method::GET, &format!("/api/integrations/{id}"), None)
        .await?;
    ensure!(status == 404, "another tenant's look was answered {status}");
    tell("4 deny     alice herself may not see the key again (403); for bob of globex it does not exist (404)".to_owned());
    let entries = operator
        .call(
            Method::GET,
            &format!("/api/audit?target={id}&limit=50"),
            None,
        )
        .await?;
    let count = entries["data"].as_array().map_or(0, Vec::len);
    ensure!(count > 0, "the log has no entry of it");
    let proof = operator
        .call(Method::GET, "/api/audit/checkpoint", None)
        .await;
    ensure!(proof.is_ok(), "the log has no checkpoint");
    tell(format!(
        "5 prove    {count} entries say who did what with it, under a signed checkpoint; check all with: keystead audit verify"
    ));
    alice
        .call(Method::DELETE, &format!("/api/integrations/{id}"), None)
        .await?;
    tell("6 take back  alice removes it: every version is destroyed\n".to_owned());
    Ok(())
}

async fn settled(api: &Api, id: &str) -> anyhow::Result<Value> {
    for _ in 0..100 {
        let seen = api
            .call(Method::GET, &format!("/api/integrations/{id}"), None)
            .await?;
        if seen["status"] != "verifying" {
            return Ok(seen);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("the integration is still being verified")
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

/// The text of a streamed answer.
fn words(events: &[u8]) -> String {
    let events = String::from_utf8_lossy(events);
    let deltas = events
        .lines()
        .filter_map(|line| line.strip_prefix("data: "));
    let parsed = deltas.filter_map(|event| serde_json::from_str::<Value>(event).ok());
    parsed
        .filter_map(|event| {
            event["choices"][0]["delta"]["content"]
                .as_str()
                .map(str::to_owned)
        })
        .collect()
}

fn farewell(hands: &Hands, link: &str) {
    say(format_args!(
        "Click through Connect as alice of acme, for half an hour in one browser:\n\n  {link}\n\n\
         Try it: an unmodified OpenAI SDK, with base_url = {url}/proxy/@openai/v1 and this for a key\n\
         (header Keystead-Tenant: acme), once acme has an integration of type openai:\n\n  {service}\n\n\
         As alice, the owner of acme:\n\n  \
         curl {url}/api/integrations -H 'Authorization: Bearer {alice}'\n\n\
         Add the sample provider's key ({SAMPLE_KEY}) as in the README. Ctrl-C ends it.",
        url = hands.url,
        service = hands.service,
        alice = hands.alice,
    ));
}
