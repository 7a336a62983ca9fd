//! GitHub's API for apps: installations, their tokens, their repositories.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::desk::{Asked, Desk, Said};
use super::jwt::Signer;

const APP: &str = "1234567";
/// An installation with many repositories.
const ACME: u64 = 41;
/// One that is suspended.
const SUSPENDED: u64 = 42;
/// More than one page of a hundred.
const REPOSITORIES: u64 = 250;
const MAY: [(&str, &str); 3] = [
    ("metadata", "read"),
    ("contents", "write"),
    ("issues", "read"),
];

/// The API, and the app that it knows.
#[derive(Clone)]
pub struct Github {
    /// What it heard and gave out.
    pub desk: Desk,
    signer: Signer,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    tokens: BTreeMap<String, Value>,
    /// Instead of its own, in links.
    links_to: Option<String>,
    widens: bool,
}

impl Github {
    /// The installation with repositories.
    pub const INSTALLATION: &str = "41";
    /// The suspended one.
    pub const SUSPENDED: &str = "42";

    /// Opens.
    pub async fn open() -> Github {
        let (signer, state) = (Signer::usual(), Arc::<Mutex<State>>::default());
        let own = (signer.clone(), state.clone());
        let desk = Desk::open(move |desk, asked| {
            let mut state = own.1.lock().unwrap_or_else(PoisonError::into_inner);
            state.answer(&own.0, desk, asked)
        });
        Github {
            desk: desk.await.expect("a free port"),
            signer,
            state,
        }
    }

    /// The app's credential.
    pub fn app(&self) -> Value {
        json!({"app_id": APP, "private_key": self.signer.pem})
    }

    /// Names another host in the links of its pages.
    pub fn links_to(&self, url: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.links_to = Some(url.to_owned());
    }

    /// Makes tokens wider than they were asked for.
    pub fn widens(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.widens = true;
    }
}

fn refused(status: u16, message: &str) -> Said {
    Said::json(
        status,
        &json!({"message": message, "documentation_url": "https://docs.github.com/rest"}),
    )
}

fn installation(id: u64) -> Value {
    let permissions: BTreeMap<_, _> = MAY.into();
    json!({
        "id": id, "account": {"login": if id == ACME { "acme" } else { "globex" }, "type": "Organization"},
        "repository_selection": "all", "permissions": permissions,
        "suspended_at": if id == SUSPENDED { json!("2026-01-01T00:00:00Z") } else { Value::Null },
    })
}

fn repository(id: u64) -> Value {
    json!({
        "id": 1000 + id, "name": format!("repo-{id}"), "full_name": format!("acme/repo-{id}"),
        "private": true, "archived": id == 7, "default_branch": "main",
    })
}

impl State {
    fn answer(&mut self, signer: &Signer, desk: &Desk, asked: &Asked) -> Said {
        if !asked.headers.contains_key("user-agent") {
            return refused(
                403,
                "Request forbidden by administrative rules. Please make sure your request has a User-Agent header",
            );
        }
        if asked.headers.get("accept").map(String::as_str) == Some("text/html") {
            return refused(415, "Unsupported 'Accept' header");
        }
        if asked.path == "/installation/repositories" {
            return self.repositories(desk, asked);
        }
        if !asked.path.starts_with("/app/") {
            return refused(404, "Not Found");
        }
        let claims = asked.bearer().and_then(|token| signer.claims(token));
        let Some(claims) = claims else {
            return refused(401, "A JSON web token could not be decoded");
        };
        let times = claims["exp"].as_i64().zip(claims["iat"].as_i64());
        if claims["iss"] != APP || times.is_none_or(|(exp, iat)| exp - iat > 660) {
            return refused(
                401,
                "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires",
            );
        }
        let segments: Vec<&str> = asked.path.split('/').skip(1).collect();
        match (asked.method.as_str(), segments.as_slice()) {
            ("GET", ["app", "installations"]) => {
                Said::json(200, &json!([installation(ACME), installation(SUSPENDED)]))
            }
            ("GET", ["app", "installations", id]) => match known(id) {
                Some(id) => Said::json(200, &installation(id)),
                None => refused(404, "Not Found"),
            },
            ("POST", ["app", "installations", id, "access_tokens"]) => match known(id) {
                Some(SUSPENDED) => refused(403, "This installation has been suspended"),
                Some(_) => self.token(desk, asked),
                None => refused(404, "Not Found"),
            },
            _ => refused(404, "Not Found"),
        }
    }

    fn token(&mut self, desk: &Desk, asked: &Asked) -> Said {
        let wanted = asked.json();
        if !asked.body.is_empty() && !wanted.is_object() {
            return refused(400, "Problems parsing JSON");
        }
        let exists = |name: &Value| {
            (0..REPOSITORIES)
                .find(|id| *name == json!(format!("repo-{id}")) || *name == json!(1000 + id))
        };
        let mut chosen = Vec::new();
        for list in ["repositories", "repository_ids"] {
            for name in wanted[list].as_array().unwrap_or(&Vec::new()) {
                match exists(name) {
                    Some(id) => chosen.push(repository(id)),
                    None => {
                        return refused(
                            422,
                            "There is at least one repository that does not exist or is not accessible to the parent installation.",
                        );
                    }
                }
            }
        }
        let mut permissions: BTreeMap<String, Value> = MAY
            .iter()
            .map(|(name, level)| ((*name).to_owned(), json!(level)))
            .collect();
        if let Some(asked) = wanted["permissions"].as_object() {
            let has = |(name, level): (&String, &Value)| {
                permissions
                    .get(name)
                    .is_some_and(|own| own == level || (own == "write" && *level == "read"))
            };
            if !asked.iter().all(has) {
                return refused(
                    422,
                    "The permissions requested are not granted to this installation.",
                );
            }
            permissions = asked.clone().into_iter().collect();
        }
        let token = desk.give("ghs_");
        let mut reply = json!({
            "token": token, "expires_at": "2099-01-01T01:00:00Z", "permissions": permissions,
            "repository_selection": if chosen.is_empty() || self.widens { "all" } else { "selected" },
        });
        if !chosen.is_empty() && !self.widens {
            reply["repositories"] = Value::from(chosen);
        }
        self.tokens.insert(token, reply.clone());
        Said::json(201, &reply)
    }

    fn repositories(&self, desk: &Desk, asked: &Asked) -> Said {
        let token = asked.bearer().and_then(|token| self.tokens.get(token));
        let Some(token) = token else {
            return refused(401, "Bad credentials");
        };
        if token["permissions"]["metadata"] != "read" {
            return refused(403, "Resource not accessible by integration");
        }
        let number = |name: &str, silent: u64| {
            let given = asked.query.get(name);
            given.and_then(|text| text.parse().ok()).unwrap_or(silent)
        };
        let (page, size) = (number("page", 1), number("per_page", 30).min(100));
        let from = (page - 1) * size;
        let to = (from + size).min(REPOSITORIES);
        let rows: Vec<Value> = (from..to).map(repository).collect();
        let said = Said::json(
            200,
            &json!({"total_count": REPOSITORIES, "repositories": rows}),
        );
        if to == REPOSITORIES {
            return said;
        }
        let home = self.links_to.as_deref().unwrap_or(&desk.url);
        let link = |page: u64, rel: &str| {
            format!("<{home}/installation/repositories?per_page={size}&page={page}>; rel=\"{rel}\"")
        };
        let last = REPOSITORIES.div_ceil(size);
        said.with(
            "link",
            format!("{}, {}", link(page + 1, "next"), link(last, "last")),
        )
    }
}

fn known(id: &str) -> Option<u64> {
    id.parse().ok().filter(|id| [ACME, SUSPENDED].contains(id))
}
