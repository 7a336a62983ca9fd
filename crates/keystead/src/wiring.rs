//! From configuration to a running broker.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use keystead_broker::callers::{IssuerSettings, KeySource, Verifier};
use keystead_broker::kms::{FileKms, Kms};
use keystead_broker::net::{Client, ClientConfig, certificates_from_pem};
use keystead_broker::{
    Broker, Clock, ConnectSettings, KeyringSettings, Limits, OAuthApp, OAuthSettings, Parts,
    ProxySettings, Rate, RenewSettings, Settings,
};
use keystead_core::egress::Guard;
use keystead_core::policy::Openings;
use keystead_core::provider::{Catalogue, Provider};
use keystead_store::{Store, StoreConfig};

use crate::config::{self, Config, Issuer, KmsDriver};

/// The configuration file that is meant: the one named, else `keystead.toml` here.
pub(crate) fn config_file(named: Option<PathBuf>) -> Option<PathBuf> {
    named.or_else(|| Some(PathBuf::from("keystead.toml")).filter(|path| path.exists()))
}

/// Reads the configuration.
#[allow(clippy::disallowed_methods)] // the one reading of the environment
pub(crate) fn load(named: Option<PathBuf>) -> anyhow::Result<Config> {
    Ok(config::load(
        config_file(named).as_deref(),
        std::env::vars(),
    )?)
}

/// The file of an SQLite store; `None` where it has none.
pub(crate) fn sqlite_file(config: &Config) -> anyhow::Result<Option<PathBuf>> {
    let url = config.store.url.text("[store] url")?;
    Ok(url
        .strip_prefix("sqlite:")
        .filter(|path| *path != ":memory:")
        .map(|path| PathBuf::from(path.strip_prefix("//").unwrap_or(path))))
}

/// Opens the store.
pub(crate) async fn store(config: &Config) -> anyhow::Result<Store> {
    let mut wanted = StoreConfig::new(config.store.url.text("[store] url")?.to_string());
    if let Some(url) = &config.store.system_url {
        wanted = wanted.with_system_url(url.text("[store] system_url")?.to_string());
    }
    wanted.connections = config.store.connections;
    Store::open(wanted)
        .await
        .context("the store could not be opened")
}

/// The one way out.
pub(crate) fn client(config: &Config) -> anyhow::Result<Client> {
    let mut wanted = ClientConfig::new(Guard::new(config.egress.allow.clone()));
    if let Some(path) = &config.egress.extra_ca {
        wanted.extra_roots = certificates_from_pem(path)
            .map_err(|fault| anyhow::anyhow!("[egress] extra_ca = {}: {fault}", path.display()))?;
    }
    Client::new(wanted).context("the outbound client could not be made")
}

/// The providers: the embedded ones, those of the folder, and what the operator sets of them.
pub(crate) fn catalogue(config: &Config) -> anyhow::Result<Catalogue> {
    let mut catalogue = Catalogue::embedded()?;
    let mut files = config.providers.brought.clone();
    if let Some(folder) = &config.providers.folder {
        files.extend(read_folder(folder).context("[providers] folder")?);
    }
    if !files.is_empty() {
        let files = files
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()));
        catalogue = catalogue.with_own(files, config.providers.dangerous_allow_override)?;
    }
    for (id, provider) in &config.provider {
        catalogue =
            catalogue.with_settings(id, provider.base_url.as_deref(), &provider.approved)?;
    }
    for (id, app) in &config.oauth {
        if let Some(scopes) = &app.scopes {
            catalogue = catalogue.with_scopes(id, scopes)?;
        }
    }
    Ok(catalogue)
}

/// The provider files of a folder: name and text.
pub(crate) fn read_folder(folder: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let read = || format!("{} cannot be read", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(read)? {
        let path = entry.with_context(read)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("{} cannot be read", path.display()))?;
            files.push((path.display().to_string(), text));
        }
    }
    files.sort();
    Ok(files)
}

fn issuer(issuer: &Issuer) -> anyhow::Result<IssuerSettings> {
    let what = format!("[[issuer]] {}", issuer.name);
    let keys = match (&issuer.jwks_url, &issuer.jwks, &issuer.hs256_secret) {
        (Some(url), None, None) => KeySource::JwksUrl(url.clone()),
        (None, Some(jwks), None) => KeySource::Jwks(jwks.text(&what)?.to_string()),
        (None, None, Some(secret)) => KeySource::Hs256Secret(secret.read(&what)?),
        _ => bail!(
            "{what}: give one of jwks_url, jwks = {{ file = … }}, hs256_secret = {{ file = … }}"
        ),
    };
    let texts = |list: &[String]| list.to_vec();
    let mut settings = IssuerSettings::new(&issuer.name, &issuer.issuer, &[], &[], keys);
    settings.audience = texts(&issuer.audience);
    settings.algorithms = texts(&issuer.algorithms);
    settings.tenant_claim = issuer.tenant_claim.clone();
    settings.role_claim = issuer.role_claim.clone();
    settings.default_role = issuer.default_role;
    settings.allow_service_role = issuer.allow_service_role;
    settings.allow_anonymous = issuer.allow_anonymous;
    settings.allow_third_party_clients = issuer.allow_third_party_clients;
    if let Some(seconds) = issuer.max_lifetime_seconds {
        settings.max_lifetime = Duration::from_secs(seconds);
    }
    if let Some(seconds) = issuer.leeway_seconds {
        settings.leeway = Duration::from_secs(seconds);
    }
    Ok(settings)
}

/// The provider of that name.
fn known<'c>(catalogue: &'c Catalogue, name: &str) -> anyhow::Result<&'c Arc<Provider>> {
    catalogue.get(name).with_context(|| {
        let near = catalogue.near(name);
        let near = near.first().map(|near| format!("; did you mean `{near}`?"));
        format!("there is no such provider{}", near.unwrap_or_default())
    })
}

fn rate(setting: &str, text: &str) -> anyhow::Result<Rate> {
    text.parse().with_context(|| format!("[limits] {setting}"))
}

/// The limits per provider, by its id, whatever name of it was written.
fn integration_limits(
    written: &BTreeMap<String, String>,
    catalogue: &Catalogue,
) -> anyhow::Result<HashMap<String, Rate>> {
    let mut limits = HashMap::new();
    for (name, text) in written {
        let setting = format!("integration.{name}");
        let provider = known(catalogue, name).with_context(|| format!("[limits] {setting}"))?;
        let rate = rate(&setting, text)?;
        if limits.insert(provider.id.clone(), rate).is_some() {
            bail!("[limits] {setting}: `{}` is set twice", provider.id);
        }
    }
    Ok(limits)
}

/// How the broker is to behave.
pub(crate) fn settings(config: &Config, catalogue: &Catalogue) -> anyhow::Result<Settings> {
    let seconds = Duration::from_secs;
    let limits = &config.limits;
    Ok(Settings {
        limits: Limits {
            user: rate("user", &limits.user)?,
            service: rate("service", &limits.service)?,
            operator: rate("operator", &limits.operator)?,
            anonymous: rate("anonymous", &limits.anonymous)?,
            integration: integration_limits(&limits.integration, catalogue)?,
        },
        openings: Openings {
            reveal_users: config.reveal.users.iter().copied().collect(),
        },
        keyring: KeyringSettings {
            reopen: seconds(config.kms.reopen_seconds),
            grace: seconds(config.kms.grace_seconds),
        },
        proxy: ProxySettings {
            head_timeout: seconds(config.proxy.head_timeout_seconds),
            idle_timeout: seconds(config.proxy.idle_timeout_seconds),
            max_request_body: config.proxy.max_request_body,
            max_signed_body: config.proxy.max_signed_body,
            redact_bodies: !config.proxy.dangerous_no_body_redaction,
        },
        oauth: oauth(config, catalogue)?,
        renew: RenewSettings::default(),
        connect: ConnectSettings::new(
            config.server.checked_home()?.as_deref(),
            &config.connect.return_urls,
            &config.connect.frame_ancestors,
        )?,
    })
}

/// This installation's apps, by their provider's id, and where browsers come back to.
fn oauth(config: &Config, catalogue: &Catalogue) -> anyhow::Result<OAuthSettings> {
    config.connect.check()?;
    let mut apps = BTreeMap::new();
    let mut own_callbacks = BTreeSet::new();
    for (name, app) in &config.oauth {
        let what = format!("[oauth.{name}]");
        let provider = known(catalogue, name).context(what.clone())?;
        if provider.oauth().is_none() {
            bail!("{what}: this provider has no OAuth: remove the section");
        }
        if app.client_id.is_empty() {
            bail!("{what}: client_id is empty");
        }
        if app.own_callback {
            own_callbacks.insert(provider.id.clone());
        }
        let secret = app.client_secret.as_ref();
        let app = OAuthApp {
            client_id: app.client_id.clone(),
            client_secret: secret
                .map(|secret| secret.text(&format!("{what} client_secret")))
                .transpose()?,
        };
        if apps.insert(provider.id.clone(), Arc::new(app)).is_some() {
            bail!("{what}: `{}` is set twice", provider.id);
        }
    }
    Ok(OAuthSettings {
        public_url: config.server.checked_home()?,
        apps,
        own_callbacks,
        redirect_uris: config.connect.redirect_uris.clone(),
    })
}

/// A key service, as configured. The file is made only where there is no installation yet: later,
/// a new one would hide the loss of the old.
pub(crate) fn kms(config: &Config, first_start: bool) -> anyhow::Result<Box<dyn Kms>> {
    Ok(match config.kms.driver {
        KmsDriver::File => Box::new(FileKms::open(&config.kms.path, first_start)?),
    })
}

/// Everything that can be checked without starting.
pub(crate) fn verifier(
    config: &Config,
    client: &Client,
    more: Vec<IssuerSettings>,
) -> anyhow::Result<Verifier> {
    let mut issuers = more;
    for one in &config.issuer {
        issuers.push(issuer(one)?);
    }
    Ok(Verifier::new(issuers, Arc::new(client.clone()))?)
}

/// A running broker.
pub(crate) async fn broker(config: &Config, more: Vec<IssuerSettings>) -> anyhow::Result<Broker> {
    let client = client(config)?;
    let (catalogue, callers) = (catalogue(config)?, verifier(config, &client, more)?);
    let settings = settings(config, &catalogue)?;
    let store = store(config).await?;
    let first_start = store.installation().await?.is_none();
    let kms = kms(config, first_start)?;
    let clock = Clock::default();
    Ok(Broker::start(Parts {
        store,
        kms,
        client,
        catalogue,
        callers,
        settings,
        clock,
    })
    .await?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_the_providers_whatever_name_of_it_is_written() {
        let catalogue = Catalogue::embedded().unwrap();
        let limits = |names: &[&str]| {
            let written = names.iter().map(|name| ((*name).into(), "7/second".into()));
            integration_limits(&written.collect(), &catalogue)
        };
        assert_eq!(limits(&["claude"]).unwrap()["anthropic"].count, 7);
        for (wrong, said) in [
            (["opneai", "claude"], "did you mean `openai`"),
            (["anthropic", "claude"], "`anthropic` is set twice"),
        ] {
            let fault = format!("{:#}", limits(&wrong).unwrap_err());
            assert!(fault.contains(said), "{fault}");
        }
    }
}
