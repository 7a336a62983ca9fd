//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;
use keystead_core::action::Role;

/// Your users' keys, used in your stead. Your app holds none of them.
#[derive(Debug, Parser)]
#[command(
    name = "keystead",
    version,
    max_term_width = 100,
    propagate_version = true
)]
pub(crate) struct Cli {
    /// The configuration file; `keystead.toml` here, if there is one.
    #[arg(long, global = true, env = "KEYSTEAD_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Try it: a server, two tenants, a sample provider, and the main job done in front of you.
    Dev(Dev),
    /// Serve.
    Serve,
    /// Prepare a database.
    #[command(subcommand)]
    Setup(Setup),
    /// Look at the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Service keys and operator keys of this installation.
    #[command(subcommand)]
    Keys(Keys),
    /// Tokens of the development issuer.
    #[command(subcommand)]
    Token(Token),
    /// Integrations, over the API: KEYSTEAD_URL says where, KEYSTEAD_TOKEN who, KEYSTEAD_TENANT for whom.
    Integrations(Integrations),
    /// Connect an account at a provider, over the API: by a code to type on any device, or by a link.
    Connect(Connect),
    /// Provider files: the catalogue's, and your own.
    #[command(subcommand)]
    Providers(Providers),
    /// Put integrations out of use and take their grants back at the providers, over the API.
    Revoke(Revoke),
    /// The audit log.
    #[command(subcommand)]
    Audit(Audit),
    /// Print the OpenAPI document.
    #[command(hide = true)]
    Openapi,
}

#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// Where to keep its data.
    #[arg(long, default_value = "keystead-data", value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Where to listen.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Print one line of JSON once it serves, and do no job of its own.
    #[arg(long)]
    pub(crate) json: bool,
    /// Do the job once and end.
    #[arg(long)]
    pub(crate) once: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Setup {
    /// Make the roles and the schema in a PostgreSQL database, or bring them up to date.
    Postgres {
        /// The database, as a role that may create roles: postgres://admin:…@host/database
        #[arg(long, value_name = "URL")]
        admin_url: String,
        /// Set new passwords for roles that exist; running servers have to be given the new URLs.
        #[arg(long)]
        new_passwords: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say what is wrong with it, reaching everything that it names.
    Check,
    /// Print the default configuration with what each setting means.
    Default,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Make a key; it is shown once.
    Create(KeysCreate),
    /// List keys, without their text.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key: at once, and within a second on every node.
    Revoke {
        /// Its id.
        #[arg(value_name = "key_…")]
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct KeysCreate {
    /// What to call it.
    #[arg(long)]
    pub(crate) name: String,
    /// An operator key.
    #[arg(long, conflicts_with_all = ["scope", "tenant"])]
    pub(crate) operator: bool,
    /// What a service key may do: `ACTIONS[:PROVIDERS[:INTEGRATIONS]]`, such as use,info:openai.
    #[arg(long, required_unless_present = "operator", value_name = "SCOPE")]
    pub(crate) scope: Vec<String>,
    /// The only tenant it may act in: its id, `issuer|name`, `|name` for one that no issuer names, or,
    /// where one issuer is configured, the name.
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// Address ranges it may be used from; anywhere, if none is given.
    #[arg(long = "allow", value_name = "CIDR")]
    pub(crate) addresses: Vec<IpNet>,
    /// How long it is valid, in days.
    #[arg(long, value_name = "DAYS")]
    pub(crate) days: Option<u32>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a JWT of the development issuer (see `keystead dev`).
    Mint {
        /// Where `keystead dev` keeps its data.
        #[arg(long, default_value = "keystead-data", value_name = "DIR")]
        data: PathBuf,
        /// Who.
        #[arg(long)]
        subject: String,
        /// In which tenant; their own, if none is given.
        #[arg(long)]
        tenant: Option<String>,
        /// In which role.
        #[arg(long)]
        role: Option<Role>,
        /// For how many minutes; a day at most.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=1440))]
        minutes: u32,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Connect {
    /// The provider.
    pub(crate) provider: String,
    /// What to call the new integration.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Where Keystead is; else what `url` says in ~/.config/keystead/config.json.
    #[arg(long, env = "KEYSTEAD_URL")]
    pub(crate) url: Option<String>,
    /// For which tenant, where the token is good for several.
    #[arg(long, env = "KEYSTEAD_TENANT")]
    pub(crate) tenant: Option<String>,
    /// Open no browser on this machine.
    #[arg(long)]
    pub(crate) no_browser: bool,
    /// Print JSON: first what to open, then the integration.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Integrations {
    /// Where Keystead is; else what `url` says in ~/.config/keystead/config.json.
    #[arg(long, global = true, env = "KEYSTEAD_URL")]
    pub(crate) url: Option<String>,
    /// For which tenant, where the token is good for several.
    #[arg(long, global = true, env = "KEYSTEAD_TENANT")]
    pub(crate) tenant: Option<String>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: IntegrationsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IntegrationsCommand {
    /// List them.
    List,
    /// Add one; the credential is read from standard input, as text or as a JSON object.
    Add {
        /// What to call it.
        name: String,
        /// The provider.
        #[arg(long = "type", value_name = "PROVIDER")]
        type_: String,
        /// A setting of the provider.
        #[arg(long = "set", value_name = "NAME=VALUE")]
        settings: Vec<String>,
    },
    /// Try its credential now.
    Test {
        /// Its id.
        #[arg(value_name = "int_…")]
        id: String,
    },
    /// Switch it off; nothing uses it then.
    Disable {
        /// Its id.
        #[arg(value_name = "int_…")]
        id: String,
    },
    /// Switch it on again; its credential is tried.
    Enable {
        /// Its id.
        #[arg(value_name = "int_…")]
        id: String,
    },
    /// Have the provider make the next credential, put it in its place, and end the one before.
    Rotate {
        /// Its id.
        #[arg(value_name = "int_…")]
        id: String,
        /// Also by itself from then on, every so many days.
        #[arg(long, value_name = "30d")]
        every: Option<String>,
        /// How long the credential before stays valid, for what else holds it.
        #[arg(long, value_name = "MINUTES", requires = "every")]
        grace: Option<u32>,
        /// Wait until the new one is in use, or will not be.
        #[arg(long)]
        wait: bool,
    },
    /// Destroy it and every version of its credential.
    Remove {
        /// Its id.
        #[arg(value_name = "int_…")]
        id: String,
        /// Also take the grant back at the provider.
        #[arg(long)]
        revoke: bool,
    },
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Revoke {
    #[command(subcommand)]
    pub(crate) command: Option<RevokeCommand>,
    #[command(flatten)]
    pub(crate) ask: RevokeAsk,
    /// Where Keystead is; else what `url` says in ~/.config/keystead/config.json.
    #[arg(long, global = true, env = "KEYSTEAD_URL")]
    pub(crate) url: Option<String>,
    /// Acting in this tenant, where the token is good for several. It selects nothing.
    #[arg(
        long = "acting-in",
        global = true,
        env = "KEYSTEAD_TENANT",
        value_name = "TENANT"
    )]
    pub(crate) acting: Option<String>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// Whose grants: those for which all that is given holds.
#[derive(Debug, Args)]
pub(crate) struct RevokeAsk {
    /// All of this tenant.
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// All of this provider.
    #[arg(long)]
    pub(crate) provider: Option<String>,
    /// All that were used or handed out in this time, such as 2026-11-20T14:00:00Z 2026-11-20T18:30:00Z.
    #[arg(long, num_args = 2, value_names = ["FROM", "UNTIL"])]
    pub(crate) used_between: Vec<String>,
    /// This one; as many as are named.
    #[arg(long = "integration", value_name = "int_…")]
    pub(crate) integrations: Vec<String>,
    /// Why; the receipt says it.
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// Only say which these are.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Wait for the providers, 10 minutes or as many as are given, and say what became of each.
    #[arg(long, num_args = 0..=1, default_missing_value = "10", value_name = "MINUTES")]
    pub(crate) wait: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RevokeCommand {
    /// Say what was asked for so far, the newest first.
    List,
    /// Say how far one is, and what became of each grant.
    Show {
        /// Its id.
        #[arg(value_name = "rvb_…")]
        id: String,
    },
    /// Print the signed receipt of one that is closed.
    Receipt {
        /// Its id.
        #[arg(value_name = "rvb_…")]
        id: String,
    },
    /// Check a receipt; no server is asked.
    Verify {
        /// The receipt.
        file: PathBuf,
        /// The key that checks it (`…/api/audit/key`), from where it was kept.
        #[arg(long, value_name = "KEY")]
        key: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Providers {
    /// Say what is wrong with provider files, before a server reads them.
    Check {
        /// Files, or folders of them.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// List the providers of the catalogue and of the configured folder.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Print the newest entries.
    Tail {
        /// How many.
        #[arg(short = 'n', long, default_value_t = 20)]
        lines: u64,
        /// Go on printing new ones.
        #[arg(short, long)]
        follow: bool,
    },
    /// Check the log: its order, its tree, and that older checkpoints are its beginning.
    Verify {
        /// An export to check instead of this installation's log.
        file: Option<PathBuf>,
        /// A checkpoint that was kept elsewhere; as many as you have.
        #[arg(long, value_name = "FILE")]
        checkpoint: Vec<PathBuf>,
        /// The key that checks checkpoints (`…/api/audit/key`), for an export.
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write the whole log, its signed checkpoint and the key that checks it.
    Export {
        /// The file; beside it come FILE.checkpoint and FILE.key.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}
