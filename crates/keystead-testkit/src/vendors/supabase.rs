//! Supabase's management API.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::desk::{Asked, Desk, Said};

/// The project that is up.
const UP: &str = "abcdefghijklmnopqrst";
/// The project that is paused.
const PAUSED: &str = "tsrqponmlkjihgfedcba";
const FIRST: &str = "sbp_00000000000000000000000000000000000000a0";

/// A management API with one organization.
#[derive(Clone)]
pub struct Supabase {
    /// What it heard and gave out.
    pub desk: Desk,
    state: Arc<Mutex<State>>,
}

struct State {
    access: String,
    refresh: String,
    renewed: usize,
    scopes: BTreeSet<&'static str>,
    masked: bool,
    session_pooler: bool,
}

impl Supabase {
    /// The id and secret of the OAuth app.
    pub const APP: (&str, &str) = (
        "00000000-0000-4000-8000-00000000000a",
        "sba_canary-app-secret-0123456789",
    );
    /// The refresh token of a consent; it is good once.
    pub const REFRESH: &str = "canary-refresh-token-0123456789";

    /// Opens, with a grant that has all scopes.
    pub async fn open() -> Supabase {
        let state = Arc::new(Mutex::new(State {
            access: FIRST.to_owned(),
            refresh: Supabase::REFRESH.to_owned(),
            renewed: 0,
            scopes: [
                "projects:read",
                "secrets:read",
                "database:read",
                "database:write",
            ]
            .into(),
            masked: false,
            session_pooler: true,
        }));
        let own = state.clone();
        let desk = Desk::open(move |desk, asked| {
            let mut state = own.lock().unwrap_or_else(PoisonError::into_inner);
            state.answer(desk, asked)
        });
        Supabase {
            desk: desk.await.expect("a free port"),
            state,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The project that is up.
    pub fn project(&self) -> &'static str {
        UP
    }

    /// The project that is paused.
    pub fn paused(&self) -> &'static str {
        PAUSED
    }

    /// A personal access token that is good.
    pub fn token(&self) -> String {
        self.state().access.clone()
    }

    /// How often tokens were renewed.
    pub fn renewed(&self) -> usize {
        self.state().renewed
    }

    /// Ends the access token; only the refresh token brings another.
    pub fn expire(&self) {
        self.state().access = "none".to_owned();
    }

    /// Takes a scope away from the grant.
    pub fn lacks(&self, scope: &'static str) {
        self.state().scopes.remove(scope);
    }

    /// Gives it back.
    pub fn has(&self, scope: &'static str) {
        self.state().scopes.insert(scope);
    }

    /// Whether keys come masked although they were asked for unmasked.
    pub fn masks(&self, masked: bool) {
        self.state().masked = masked;
    }

    /// Whether the pooler has a row for sessions.
    pub fn pools_sessions(&self, pools: bool) {
        self.state().session_pooler = pools;
    }
}

fn refused(status: u16, message: &str) -> Said {
    Said::json(status, &json!({"message": message}))
}

impl State {
    fn answer(&mut self, desk: &Desk, asked: &Asked) -> Said {
        if asked.path == "/v1/oauth/token" {
            return self.renew(asked);
        }
        if asked.bearer() != Some(self.access.as_str()) {
            return refused(401, "Unauthorized");
        }
        if asked.method == "GET" && asked.path == "/v1/organizations" {
            return Said::json(200, &json!([]));
        }
        if asked.method == "GET" && asked.path == "/v1/projects" {
            return match self.scopes.contains("projects:read") {
                true => Said::json(200, &projects()),
                false => refused(403, "Forbidden resource"),
            };
        }
        let Some((project, what)) = asked
            .path
            .strip_prefix("/v1/projects/")
            .and_then(|rest| rest.split_once('/'))
        else {
            return refused(404, "Not Found");
        };
        let needs = match (asked.method.as_str(), what) {
            ("GET", "api-keys") => "secrets:read",
            ("GET", "config/database/pooler") => "database:read",
            ("POST", "cli/login-role") => "database:write",
            _ => return refused(404, "Not Found"),
        };
        if !self.scopes.contains(needs) {
            return refused(403, "Forbidden resource");
        }
        match project {
            UP => {}
            PAUSED => return refused(400, "Project is paused"),
            _ => return refused(404, "Project not found"),
        }
        match what {
            "api-keys" => self.keys(desk, asked),
            "cli/login-role" => login(desk, asked),
            _ => Said::json(200, &self.pooler()),
        }
    }

    fn renew(&mut self, asked: &Asked) -> Said {
        use base64::Engine;
        let (id, secret) = Supabase::APP;
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("{id}:{secret}"));
        let form = asked.form();
        let authorization = asked.headers.get("authorization");
        if authorization != Some(&format!("Basic {basic}")) || form.contains_key("client_secret") {
            return refused(401, "Invalid client");
        }
        let field = |name: &str| form.get(name).map(String::as_str);
        if field("grant_type") != Some("refresh_token")
            || field("refresh_token") != Some(self.refresh.as_str())
        {
            return refused(400, "Refresh token not found");
        }
        self.renewed += 1;
        self.access = format!("sbp_oauth_{:040x}", 0xca4a + self.renewed);
        self.refresh = format!("canary-refresh-token-{:010}", self.renewed);
        let reply = json!({
            "access_token": self.access, "refresh_token": self.refresh,
            "expires_in": 86400, "token_type": "Bearer",
        });
        Said::json(201, &reply)
    }

    fn keys(&self, desk: &Desk, asked: &Asked) -> Said {
        let revealed = asked.query.get("reveal").map(String::as_str) == Some("true");
        let secret = |what: &str| match revealed && !self.masked {
            true => Value::from(desk.give(what)),
            false => Value::from(format!("{what}abc··········")),
        };
        let keys = json!([
            {"name": "anon", "type": "legacy", "api_key": desk.give("eyJ.anon."), "hash": "0"},
            {"name": "service_role", "type": "legacy", "api_key": secret("eyJ.role."), "hash": "0"},
            {"name": "default", "type": "publishable", "id": "1", "prefix": "sb_p", "api_key": desk.give("sb_publishable_")},
            {"name": "backend", "type": "secret", "id": "2", "prefix": "sb_s", "api_key": secret("sb_secret_"),
             "secret_jwt_template": {"role": "service_role"}},
        ]);
        Said::json(200, &keys)
    }

    fn pooler(&self) -> Value {
        let row = |kind: &str, mode: &str, port: u16| {
            json!({
                "identifier": UP, "database_type": kind, "is_using_scram_auth": true,
                "db_user": format!("postgres.{UP}"), "db_host": "aws-1-eu-west-3.pooler.example.com",
                "db_port": port, "db_name": "postgres", "default_pool_size": 15, "max_client_conn": null,
                "connection_string": format!("postgresql://postgres.{UP}:[YOUR-PASSWORD]@aws-1-eu-west-3.pooler.example.com:{port}/postgres"),
                "pool_mode": mode,
            })
        };
        let mut rows = vec![
            row("READ_REPLICA", "transaction", 1),
            row("PRIMARY", "transaction", 6543),
        ];
        if self.session_pooler {
            rows.push(row("PRIMARY", "session", 5432));
        }
        Value::from(rows)
    }
}

fn projects() -> Value {
    let project = |reference: &str, name: &str, status: &str| {
        json!({
            "id": reference, "ref": reference, "organization_id": "acme", "organization_slug": "acme",
            "name": name, "region": "eu-west-3", "status": status, "created_at": "2026-01-01T00:00:00Z",
            "database": {"host": format!("db.{reference}.example.com"), "version": "17.6.1", "postgres_engine": "17", "release_channel": "ga"},
        })
    };
    json!([
        project(UP, "shop", "ACTIVE_HEALTHY"),
        project(PAUSED, "attic", "INACTIVE"),
    ])
}

fn login(desk: &Desk, asked: &Asked) -> Said {
    let Some(read_only) = asked.json()["read_only"].as_bool() else {
        return refused(400, "read_only: Required");
    };
    let role = match read_only {
        true => "cli_login_supabase_read_only_user",
        false => "cli_login_postgres",
    };
    // What has to be escaped in a URL.
    let password = desk.give("p@ss/word:");
    Said::json(
        201,
        &json!({"role": role, "password": password, "ttl_seconds": 300}),
    )
}
