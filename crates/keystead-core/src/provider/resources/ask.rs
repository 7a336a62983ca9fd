//! What a caller asks of a resource, read strictly before anything is opened or called.

use std::collections::BTreeMap;

use super::aws::{self, AwsAsk};
use super::github::GithubAsk;
use super::supabase::{self, SupabaseAsk};
use super::{ResourceFault, ResourcesKind, github, google};
use crate::provider::FieldFault;
use crate::provider::config::Config;
use crate::provider::model::Provider;

/// What a caller wants; none of it has to be said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Which of the resource's credentials.
    pub kind: Option<String>,
    /// Whether they are for reading alone.
    pub read_only: Option<bool>,
    /// How long they are to last.
    pub lifetime_seconds: Option<u32>,
    /// The scopes that they are to have.
    pub scopes: Option<Vec<String>>,
    /// The repositories that they are for, by name.
    pub repositories: Option<Vec<String>>,
    /// What they may do, by area.
    pub permissions: Option<BTreeMap<String, String>>,
}

/// What is asked for, checked. Its texts have a form that cannot hold a secret by mistake.
pub enum Ask {
    /// Of a Supabase project.
    Supabase(SupabaseAsk),
    /// Temporary keys of AWS.
    Aws(AwsAsk),
    /// An access token of Google's.
    Google {
        /// Its scopes.
        scopes: Vec<String>,
    },
    /// An installation token of GitHub's.
    Github(GithubAsk),
}

impl Ask {
    /// Reads what is wanted of the resource of that key.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`.
    pub fn read(
        provider: &Provider,
        config: &Config,
        kind: ResourcesKind,
        key: &str,
        wanted: Wanted,
    ) -> Result<Ask, ResourceFault> {
        match kind {
            ResourcesKind::Supabase => supabase::read(key, wanted).map(Ask::Supabase),
            ResourcesKind::Aws => aws::read(provider, config, key, wanted).map(Ask::Aws),
            ResourcesKind::Google => {
                google::read(provider, config, key, wanted).map(|scopes| Ask::Google { scopes })
            }
            ResourcesKind::GithubApp => {
                github::read(provider, config, key, wanted).map(Ask::Github)
            }
        }
    }

    /// What it is and of what, in one clause for an entry.
    pub fn clause(&self) -> String {
        match self {
            Ask::Supabase(ask) => format!("{} of {}", ask.part.as_str(), ask.project),
            Ask::Aws(AwsAsk { role: None, .. }) => "session of session".to_owned(),
            Ask::Aws(AwsAsk {
                role: Some(role), ..
            }) => format!("role of role/{role}"),
            Ask::Google { .. } => "access-token of access-token".to_owned(),
            Ask::Github(ask) => format!("installation-token of {}", ask.key),
        }
    }
}

impl Wanted {
    /// Checks that nothing was asked for that this resource does not have: `kinds` are its kinds,
    /// the first of them is meant where none is named, and `takes` names what else it takes.
    pub(super) fn check(
        &self,
        kinds: &[&'static str],
        takes: &[&str],
    ) -> Result<&'static str, ResourceFault> {
        let mut faults = Vec::new();
        let named = self.kind.as_deref();
        let kind = match named {
            None => kinds.first(),
            Some(named) => kinds.iter().find(|kind| **kind == named),
        };
        if kind.is_none() {
            faults.push(FieldFault {
                path: "kind".to_owned(),
                message: format!("this resource has: {}", kinds.join(", ")),
            });
        }
        for (name, given) in [
            ("read_only", self.read_only.is_some()),
            ("lifetime_seconds", self.lifetime_seconds.is_some()),
            ("scopes", self.scopes.is_some()),
            ("repositories", self.repositories.is_some()),
            ("permissions", self.permissions.is_some()),
        ] {
            if given && !takes.contains(&name) {
                faults.push(FieldFault {
                    path: name.to_owned(),
                    message: "does not apply to this resource and kind: leave it out".to_owned(),
                });
            }
        }
        match kind {
            Some(kind) if faults.is_empty() => Ok(kind),
            _ => Err(ResourceFault::Invalid(faults)),
        }
    }
}
