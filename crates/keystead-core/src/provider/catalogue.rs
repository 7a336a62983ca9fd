//! All providers that an installation knows.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::model::{Provider, ProviderFault};
use super::nearest;

macro_rules! embedded {
    ($($id:literal)*) => {
        [$((
            concat!("providers/", $id, ".toml"),
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../providers/", $id, ".toml")),
        ),)*]
    };
}

const EMBEDDED: &[(&str, &str)] = &embedded! {
    "airtable"
    "anthropic"
    "atlassian"
    "aws_access_key"
    "azure_service_principal"
    "cloudflare"
    "cohere"
    "datadog"
    "deepseek"
    "discord"
    "dropbox"
    "elevenlabs"
    "fly"
    "gcp_service_account"
    "generic_bearer"
    "github"
    "google_gemini"
    "google_oauth"
    "groq"
    "hubspot"
    "huggingface"
    "kling"
    "linear"
    "mailgun"
    "microsoft_graph"
    "mistral"
    "netlify"
    "notion"
    "openai"
    "openrouter"
    "pagerduty"
    "perplexity"
    "postmark"
    "replicate"
    "resend"
    "salesforce"
    "sendgrid"
    "sentry"
    "shopify"
    "slack"
    "smashrun"
    "stripe"
    "supabase"
    "supabase_project_key"
    "together"
    "twilio"
    "vercel"
    "whatsapp_cloud"
    "xai"
    "youtube"
    "zoom"
};

/// Providers by id and alias.
#[derive(Clone, Debug)]
pub struct Catalogue {
    providers: BTreeMap<String, Arc<Provider>>,
    aliases: BTreeMap<String, String>,
}

impl Catalogue {
    /// The providers that Keystead brings.
    pub fn embedded() -> Result<Catalogue, ProviderFault> {
        let mut catalogue = Catalogue {
            providers: BTreeMap::new(),
            aliases: BTreeMap::new(),
        };
        for (file, text) in EMBEDDED {
            catalogue.add(file, text, false)?;
        }
        Ok(catalogue)
    }

    /// These and those of an operator's folder, as pairs of file name and text. One that is known
    /// already is refused, unless `allow_override`.
    pub fn with_own<'a>(
        mut self,
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
        allow_override: bool,
    ) -> Result<Catalogue, ProviderFault> {
        for (file, text) in files {
            self.add(file, text, allow_override)?;
        }
        Ok(self)
    }

    /// These, with the operator's settings for one: where to dial, and the approved base URLs.
    pub fn with_settings(
        mut self,
        id: &str,
        base_url: Option<&str>,
        approved: &[String],
    ) -> Result<Catalogue, ProviderFault> {
        let fault = |message: String| ProviderFault {
            file: format!("[provider.{id}]"),
            message,
        };
        let Some(provider) = self.get(id) else {
            return Err(fault(match self.near(id).first() {
                Some(near) => format!("there is no such provider; did you mean `{near}`?"),
                None => "there is no such provider".to_owned(),
            }));
        };
        let mut provider = Provider::clone(provider);
        if let Some(url) = base_url {
            provider = provider
                .with_base_url(url)
                .map_err(|reason| fault(format!("base_url {reason}")))?;
        }
        if !approved.is_empty() {
            provider = provider
                .with_approved(approved.iter().map(String::as_str))
                .map_err(|reason| fault(format!("approved: each {reason}")))?;
        }
        self.providers
            .insert(provider.id.clone(), Arc::new(provider));
        Ok(self)
    }

    /// These, with the scopes that an operator's app asks for at one.
    pub fn with_scopes(mut self, id: &str, scopes: &[String]) -> Result<Catalogue, ProviderFault> {
        let fault = |message: &str| ProviderFault {
            file: format!("[oauth.{id}]"),
            message: message.to_owned(),
        };
        let provider = self
            .get(id)
            .ok_or_else(|| fault("there is no such provider"))?;
        let mut provider = Provider::clone(provider);
        let oauth = provider
            .modes
            .iter_mut()
            .find_map(|mode| mode.oauth.as_mut())
            .ok_or_else(|| fault("this provider has no OAuth"))?;
        oauth.scopes = scopes.to_vec();
        self.providers
            .insert(provider.id.clone(), Arc::new(provider));
        Ok(self)
    }

    /// The provider of that id or alias.
    pub fn get(&self, id: &str) -> Option<&Arc<Provider>> {
        let id = self.aliases.get(id).map_or(id, String::as_str);
        self.providers.get(id)
    }

    /// The up to three ids closest to one that is not known.
    pub fn near(&self, id: &str) -> Vec<&str> {
        let names = self.providers.keys().chain(self.aliases.keys());
        let mut ids = Vec::new();
        for name in nearest(id, names.map(String::as_str)) {
            let id = self.aliases.get(name).map_or(name, String::as_str);
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids
    }

    /// All, by id.
    pub fn list(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.providers.values()
    }

    fn add(&mut self, file: &str, text: &str, replace: bool) -> Result<(), ProviderFault> {
        let provider = Provider::parse(file, text)?;
        let fault = |message: String| ProviderFault {
            file: file.to_owned(),
            message,
        };
        if !replace && self.get(&provider.id).is_some() {
            return Err(fault(format!("id: `{}` is taken", provider.id)));
        }
        if replace && self.aliases.contains_key(&provider.id) {
            return Err(fault(format!("id: `{}` is an alias", provider.id)));
        }
        self.aliases.retain(|_, id| *id != provider.id);
        for alias in &provider.aliases {
            if self.get(alias).is_some() || *alias == provider.id {
                return Err(fault(format!("aliases: `{alias}` is taken")));
            }
            self.aliases.insert(alias.clone(), provider.id.clone());
        }
        self.providers
            .insert(provider.id.clone(), Arc::new(provider));
        Ok(())
    }
}
