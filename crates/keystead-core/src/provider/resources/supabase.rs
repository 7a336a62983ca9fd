//! Supabase's projects: their API keys, pooler settings, and a database login that ends by itself.
//!
//! What always holds: a project is one of the list that the grant shows; hosts and ports of the
//! database are the ones that Supabase names, never made up by a rule.

use http::Method;
use serde_json::json;
use zeroize::Zeroizing;

use super::ask::Wanted;
use super::errand::{Answer, Asking};
use super::{Errand, Issued, Listed, Resource, ResourceFault, UNCLEAR};
use crate::egress::canonical_host;
use crate::provider::oauth::Json;
use crate::provider::template::push_encoded;
use crate::provider::{ProviderRequest, body};
use crate::time::Time;

/// The longest that a login may be said to last.
const LONGEST_LOGIN: u64 = 366 * 86_400;

/// Which of a project's credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All together.
    All,
    /// The API keys, legacy and new.
    ApiKeys,
    /// The pooler's settings, as they are.
    Pooler,
    /// A login of the database, and how to connect with it.
    Database,
}

impl Part {
    const KINDS: [&'static str; 4] = ["all", "api-keys", "pooler", "database"];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Part::All => "all",
            Part::ApiKeys => "api-keys",
            Part::Pooler => "pooler",
            Part::Database => "database",
        }
    }

    fn has_login(self) -> bool {
        matches!(self, Part::All | Part::Database)
    }
}

/// What is asked of a project.
pub struct SupabaseAsk {
    pub(super) project: String,
    pub(super) part: Part,
    read_only: bool,
}

pub(super) fn read(key: &str, wanted: Wanted) -> Result<SupabaseAsk, ResourceFault> {
    if !is_reference(key) {
        return Err(ResourceFault::NotFound);
    }
    let named = wanted.kind.as_deref();
    let login = matches!(named, None | Some("all" | "database"));
    let takes: &[&str] = if login { &["read_only"] } else { &[] };
    let part = match wanted.check(&Part::KINDS, takes)? {
        "api-keys" => Part::ApiKeys,
        "pooler" => Part::Pooler,
        "database" => Part::Database,
        _ => Part::All,
    };
    Ok(SupabaseAsk {
        project: key.to_owned(),
        part,
        read_only: wanted.read_only.unwrap_or(true),
    })
}

/// Twenty letters today; anything like it that is one segment of a path and of nothing else.
fn is_reference(text: &str) -> bool {
    (1..=40).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

struct Project {
    reference: String,
    name: String,
    region: Option<String>,
    status: String,
    organization: Option<String>,
    host: Option<String>,
    version: Option<String>,
}

fn projects(asking: &Asking<'_>) -> Result<ProviderRequest, ResourceFault> {
    asking.call(Method::GET, "/v1/projects", None)
}

fn read_projects(asking: &Asking<'_>, answer: &Answer<'_>) -> Result<Vec<Project>, ResourceFault> {
    let Json::List(rows) = asking.json(answer, 200, "projects:read")? else {
        return Err(UNCLEAR);
    };
    let project = |row: &Json| {
        let text = |pointer: &str| row.at(pointer).and_then(Json::as_text).map(str::to_owned);
        let host = text("/database/host").filter(|host| canonical_host(host).is_ok());
        Some(Project {
            // Older answers have it under its older name alone.
            reference: text("/ref|/id").filter(|text| is_reference(text))?,
            name: text("/name").unwrap_or_default(),
            region: text("/region"),
            status: text("/status").unwrap_or_else(|| "UNKNOWN".to_owned()),
            organization: text("/organization_slug|/organization_id"),
            host,
            version: text("/database/version"),
        })
    };
    Ok(rows.iter().filter_map(project).collect())
}

impl Project {
    /// Whether there is anything behind its keys and hosts.
    fn is_up(&self) -> Result<(), ResourceFault> {
        let say = |code, text: &str| Err(ResourceFault::State(code, text.to_owned()));
        match self.status.as_str() {
            "INACTIVE" | "PAUSING" | "PAUSED" => say(
                "paused",
                "the project is paused: restore it in the Supabase dashboard, and repeat",
            ),
            "COMING_UP" | "RESTORING" | "RESTARTING" | "UPGRADING" | "RESIZING" => say(
                "not_ready",
                "the project is not up yet: repeat in a few minutes",
            ),
            "GOING_DOWN" | "REMOVED" | "INIT_FAILED" | "RESTORE_FAILED" => say(
                "not_ready",
                "the project is down: look at it in the Supabase dashboard, and repeat",
            ),
            _ => Ok(()),
        }
    }
}

/// Lists the projects.
#[derive(Default)]
pub(super) struct Listing(Option<Vec<Project>>);

impl Errand for Listing {
    type Gives = Listed;

    fn next(&mut self, asking: &Asking<'_>) -> Result<Option<ProviderRequest>, ResourceFault> {
        match self.0 {
            None => projects(asking).map(Some),
            Some(_) => Ok(None),
        }
    }

    fn take(&mut self, asking: &Asking<'_>, answer: &Answer<'_>) -> Result<(), ResourceFault> {
        self.0 = Some(read_projects(asking, answer)?);
        Ok(())
    }

    fn finish(self: Box<Self>, _: &Asking<'_>) -> Result<Listed, ResourceFault> {
        let resource = |project: Project| Resource {
            key: project.reference,
            kind: "supabase_project",
            name: project.name,
            status: project.status,
            region: project.region,
            details: json!({
                "organization": project.organization,
                "database": {"host": project.host, "version": project.version},
            }),
        };
        let projects = self.0.unwrap_or_default();
        Ok(Listed {
            data: projects.into_iter().map(resource).collect(),
            next: None,
        })
    }
}

/// Fetches a project's credentials. The login, which makes something, comes last.
pub(super) struct Issuing {
    ask: SupabaseAsk,
    project: Option<Project>,
    keys: Option<Json>,
    pooler: Option<Json>,
    login: Option<Json>,
    asked_at: Time,
}

enum Step {
    Project,
    Keys,
    Pooler,
    Login,
}

impl Issuing {
    pub(super) fn new(ask: SupabaseAsk) -> Issuing {
        Issuing {
            ask,
            project: None,
            keys: None,
            pooler: None,
            login: None,
            asked_at: Time(0),
        }
    }

    fn step(&self) -> Option<Step> {
        let part = self.ask.part;
        if self.project.is_none() {
            Some(Step::Project)
        } else if self.keys.is_none() && matches!(part, Part::All | Part::ApiKeys) {
            Some(Step::Keys)
        } else if self.pooler.is_none() && part != Part::ApiKeys {
            Some(Step::Pooler)
        } else if self.login.is_none() && part.has_login() {
            Some(Step::Login)
        } else {
            None
        }
    }
}

impl Errand for Issuing {
    type Gives = Issued;

    fn next(&mut self, asking: &Asking<'_>) -> Result<Option<ProviderRequest>, ResourceFault> {
        // What lasts for some seconds lasts from before it was asked for.
        self.asked_at = asking.now;
        let at = |end: &str| format!("/v1/projects/{}/{end}", self.ask.project);
        let Some(step) = self.step() else {
            return Ok(None);
        };
        let call = match step {
            Step::Project => projects(asking),
            Step::Keys => asking.call(Method::GET, &at("api-keys?reveal=true"), None),
            Step::Pooler => asking.call(Method::GET, &at("config/database/pooler"), None),
            Step::Login => {
                let ask = Json::object([("read_only", Json::Bool(self.ask.read_only))]);
                let body = Some(("application/json", body::json(&ask)));
                asking.call(Method::POST, &at("cli/login-role"), body)
            }
        };
        call.map(Some)
    }

    fn take(&mut self, asking: &Asking<'_>, answer: &Answer<'_>) -> Result<(), ResourceFault> {
        match self.step() {
            Some(Step::Project) => {
                let mut projects = read_projects(asking, answer)?.into_iter();
                let own = projects.find(|project| project.reference == self.ask.project);
                let own = own.ok_or(ResourceFault::NotFound)?;
                own.is_up()?;
                self.project = Some(own);
            }
            Some(Step::Keys) => {
                self.keys = Some(keys(asking.json(answer, 200, "secrets:read")?)?);
            }
            Some(Step::Pooler) => {
                self.pooler = Some(pooler(asking.json(answer, 200, "database:read")?)?);
            }
            Some(Step::Login) => {
                self.login = Some(asking.json(answer, 201, "database:write")?);
            }
            None => {}
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _: &Asking<'_>) -> Result<Issued, ResourceFault> {
        let project = self.project.ok_or(UNCLEAR)?;
        let (mut all, mut expires_at) = (Vec::new(), None);
        if let Some(login) = &self.login {
            let rows = self.pooler.as_ref().ok_or(UNCLEAR)?;
            let database = Database::read(login, rows, &project)?;
            let life = i64::try_from(database.ttl).unwrap_or(i64::MAX);
            expires_at = Some(self.asked_at.plus_seconds(life));
            all.push(("database", database.into_json(self.ask.read_only)));
        }
        all.extend(self.keys.map(|keys| ("api_keys", keys)));
        if self.ask.part != Part::Database {
            all.extend(self.pooler.map(|rows| ("pooler", rows)));
        }
        Ok(Issued {
            kind: self.ask.part.as_str(),
            credentials: Json::object(all),
            expires_at,
        })
    }
}

/// The keys with what there is to know of them. One that came masked is a permission that is not
/// there: half of them would be taken for all.
fn keys(json: Json) -> Result<Json, ResourceFault> {
    const KNOWN: [&str; 8] = [
        "api_key",
        "description",
        "id",
        "inserted_at",
        "name",
        "prefix",
        "type",
        "updated_at",
    ];
    let keys = only(json, &KNOWN)?;
    let Json::List(rows) = &keys else {
        return Err(UNCLEAR);
    };
    let whole = |key: &str| {
        !key.is_empty()
            && key
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    let masked = |row: &Json| {
        !row.at("/api_key")
            .and_then(Json::as_text)
            .is_some_and(whole)
    };
    if rows.iter().any(masked) {
        return Err(ResourceFault::NoPermission("secrets:read"));
    }
    Ok(keys)
}

fn pooler(json: Json) -> Result<Json, ResourceFault> {
    const KNOWN: [&str; 11] = [
        "connection_string",
        "database_type",
        "db_host",
        "db_name",
        "db_port",
        "db_user",
        "default_pool_size",
        "identifier",
        "is_using_scram_auth",
        "max_client_conn",
        "pool_mode",
    ];
    only(json, &KNOWN)
}

/// A list of objects, with these members alone.
fn only(json: Json, known: &[&str]) -> Result<Json, ResourceFault> {
    let Json::List(rows) = json else {
        return Err(UNCLEAR);
    };
    let row = |row: Json| match row {
        Json::Object(mut members) => {
            members.retain(|(name, _)| known.contains(&name.as_str()));
            Ok(Json::Object(members))
        }
        _ => Err(UNCLEAR),
    };
    Ok(Json::List(
        rows.into_iter().map(row).collect::<Result<_, _>>()?,
    ))
}

/// A login, and where it is good.
struct Database<'a> {
    role: &'a str,
    password: &'a str,
    ttl: u64,
    name: Option<&'a str>,
    connections: Vec<(&'static str, Json)>,
}

impl<'a> Database<'a> {
    fn read(
        login: &'a Json,
        rows: &'a Json,
        project: &Project,
    ) -> Result<Database<'a>, ResourceFault> {
        let text = |pointer: &str| login.at(pointer).and_then(Json::as_text);
        let short = |text: &&str| (1..=1024).contains(&text.len());
        let (role, password) = match (text("/role"), text("/password")) {
            (Some(role), Some(password)) if short(&role) && short(&password) => (role, password),
            _ => return Err(UNCLEAR),
        };
        let ttl = login.at("/ttl_seconds").and_then(Json::as_u64);
        let ttl = ttl.filter(|ttl| (1..=LONGEST_LOGIN).contains(ttl));
        let mut database = Database {
            role,
            password,
            ttl: ttl.ok_or(UNCLEAR)?,
            name: None,
            connections: Vec::new(),
        };
        let Json::List(rows) = rows else {
            return Err(UNCLEAR);
        };
        for row in rows {
            database.add(row)?;
        }
        // The pooler stands in front of the database of this name. PostgreSQL's own port is meant.
        if let (Some(host), Some(name)) = (&project.host, database.name) {
            let direct = database.url(role, host, None, name);
            database.connections.insert(0, ("direct", direct));
        }
        Ok(database)
    }

    /// The connection that a row of the pooler is for. Replicas cannot be logged in to for writing.
    fn add(&mut self, row: &'a Json) -> Result<(), ResourceFault> {
        let text = |pointer: &str| row.at(pointer).and_then(Json::as_text);
        if text("/database_type").is_some_and(|kind| kind != "PRIMARY") {
            return Ok(());
        }
        let mode = match text("/pool_mode") {
            Some("session") => "session",
            Some("transaction") => "transaction",
            _ => return Ok(()),
        };
        let host = text("/db_host").filter(|host| canonical_host(host).is_ok());
        let port = row.at("/db_port").and_then(Json::as_u64);
        let port = port.and_then(|port| u16::try_from(port).ok());
        let name = text("/db_name").filter(|name| !name.is_empty());
        let (Some(host), Some(port), Some(name)) = (host, port, name) else {
            return Err(UNCLEAR);
        };
        // The pooler tells projects apart by what follows the user's name.
        let user = match text("/db_user").and_then(|user| user.split_once('.')) {
            Some((_, of)) => format!("{}.{of}", self.role),
            None => self.role.to_owned(),
        };
        if self.connections.iter().all(|(other, _)| *other != mode) {
            let url = self.url(&user, host, Some(port), name);
            self.connections.push((mode, url));
        }
        self.name = self.name.or(Some(name));
        Ok(())
    }

    fn url(&self, user: &str, host: &str, port: Option<u16>, name: &str) -> Json {
        let parts = user.len() + self.password.len() + name.len();
        // Room for every byte escaped: a buffer that grows leaves copies behind.
        let mut url = Zeroizing::new(String::with_capacity(3 * parts + host.len() + 32));
        url.push_str("postgresql://");
        push_encoded(&mut url, user.as_bytes());
        url.push(':');
        push_encoded(&mut url, self.password.as_bytes());
        url.push('@');
        url.push_str(host);
        if let Some(port) = port {
            url.push(':');
            url.push_str(&port.to_string());
        }
        url.push('/');
        push_encoded(&mut url, name.as_bytes());
        Json::Text(url)
    }

    fn into_json(self, read_only: bool) -> Json {
        Json::object([
            ("role", Json::text(self.role)),
            ("password", Json::text(self.password)),
            ("ttl_seconds", Json::Number(self.ttl.into())),
            ("read_only", Json::Bool(read_only)),
            ("database", self.name.map_or(Json::Null, Json::text)),
            ("connections", Json::object(self.connections)),
        ])
    }
}
