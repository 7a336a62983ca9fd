//! What a person would type: settings and credentials of a provider, invented.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keystead_core::provider::{Field, Kind, Mode, Provider};

use super::Part;

/// One RSA key for all: making them is slow.
pub(super) struct SigningKey {
    /// PKCS#8.
    pub(super) private_pem: String,
    /// PKCS#1.
    pub(super) public_der: Vec<u8>,
}

pub(super) static KEY: LazyLock<SigningKey> = LazyLock::new(|| {
    let pair = KeyPair::generate(KeySize::Rsa2048).expect("an RSA key");
    let private = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).expect("PKCS#8");
    let body = STANDARD.encode(private.as_ref());
    SigningKey {
        private_pem: format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"),
        public_der: pair.public_key().as_ref().to_vec(),
    }
});

impl Part {
    /// A part with everything invented: every setting and field, or only those that are needed.
    pub fn invented(provider: Arc<Provider>, all: bool) -> Part {
        let config = provider
            .config
            .iter()
            .filter(|setting| all || is_needed(&provider, setting))
            .filter_map(|setting| Some((setting.name.clone(), typed_setting(&provider, setting)?)))
            .collect();
        let credentials = provider
            .modes
            .iter()
            .filter(|mode| mode.oauth.is_none())
            .map(|mode| (mode.id.clone(), credential(&provider, mode, all)))
            .collect();
        Part {
            provider,
            config,
            credentials,
        }
    }
}

/// Whether nothing works without the setting, or one mode does not.
fn is_needed(provider: &Provider, setting: &Field) -> bool {
    let named = |mode: &Mode| {
        let text = format!("{:?}", mode.mint);
        text.contains(&format!("{{{}}}", setting.name))
    };
    let required = setting.required || provider.modes.iter().any(named);
    required && setting.default.is_none()
}

fn typed_setting(provider: &Provider, setting: &Field) -> Option<String> {
    let known = setting.example.clone().or(setting.default.clone());
    match setting.kind {
        // What the operator approves is not the file's to say.
        Kind::Url => provider
            .approved
            .first()
            .map(|url| format!("https://{}", url.authority())),
        Kind::Select => setting.default.clone().or(setting.options.first().cloned()),
        Kind::Path => known.or(Some("/canary/ping".to_owned())),
        Kind::HeaderName => Some("x-canary-key".to_owned()),
        Kind::Hosts => known,
        Kind::Text | Kind::Multiline | Kind::File => {
            known.or_else(|| setting.required.then(|| label(provider, &setting.name)))
        }
    }
}

/// Fits into a host as well.
fn label(provider: &Provider, name: &str) -> String {
    format!("canary-{}-{name}", provider.id).replace('_', "-")
}

fn credential(provider: &Provider, mode: &Mode, all: bool) -> BTreeMap<String, String> {
    let typed = |field: &Field| {
        if let Some(only) = &field.equals {
            return only.clone();
        }
        if let Some(option) = field.options.first() {
            return option.clone();
        }
        if field.name == "private_key" {
            return KEY.private_pem.clone();
        }
        match &field.example {
            Some(example) if !field.secret => example.clone(),
            _ if field.secret => format!(
                "canary.{}.{}.{}-0123456789",
                provider.id, mode.id, field.name
            ),
            _ => label(provider, &field.name),
        }
    };
    let fields = mode.fields.iter().filter(|field| all || field.required);
    fields
        .map(|field| (field.name.clone(), typed(field)))
        .collect()
}

/// The provider files of the folder that `KEYSTEAD_TEST_PROVIDERS` names: file name and text.
#[expect(clippy::disallowed_methods, reason = "whoever runs the tests says it")]
pub fn own_providers() -> Vec<(String, String)> {
    let Ok(folder) = std::env::var("KEYSTEAD_TEST_PROVIDERS") else {
        return Vec::new();
    };
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|fault| panic!("{folder}: {fault}"));
    let mut files: Vec<(String, String)> = entries
        .map(|entry| entry.expect("a folder's entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("a file that can be read");
            (path.display().to_string(), text)
        })
        .collect();
    files.sort();
    files
}
