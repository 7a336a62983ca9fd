//! Which call a request is: each has its place, its authorisation and its body.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{ACCOUNT, ADMIN_KEY, APP, AUTH_TOKEN, Heard, PAT, PERMITTED, PROJECT, TENANT};

/// What the call does, and to which key; or why it is none of the provider's.
pub(super) fn call_of(id: &str, heard: &Heard) -> Result<(&'static str, String), String> {
    let basic = |user: &str, password: &str| {
        let pair = STANDARD.encode(format!("{user}:{password}"));
        heard.header("authorization") == format!("Basic {pair}")
    };
    let bearer = |token: &str| heard.header("authorization") == format!("Bearer {token}");
    let (method, path) = (heard.method.as_str(), heard.path.as_str());
    let must = |holds: bool, why: &str| if holds { Ok(()) } else { Err(why.to_owned()) };
    let is_form = heard
        .header("content-type")
        .starts_with("application/x-www-form-urlencoded");
    let is_json = heard.header("content-type") == "application/json";
    must(
        id != "resend" || !heard.header("user-agent").is_empty(),
        "no user agent",
    )?;
    must(
        method != "GET" || heard.body.is_empty(),
        "a GET with a body",
    )?;
    let of_key = match id {
        "azure_service_principal" => {
            let home = format!("/v1.0/applications(appId='{APP}')");
            if path == format!("/{TENANT}/oauth2/v2.0/token") {
                must(is_form && method == "POST", "the token's form")?;
                return Ok(("token", String::new()));
            }
            must(bearer("canary-made-token"), "the token")?;
            let rest = path.strip_prefix(&home).ok_or("no such path")?;
            let body = heard.json();
            return match (method, rest) {
                ("GET", "?$select=passwordCredentials") => Ok(("list", String::new())),
                ("POST", "/addPassword") => {
                    let name = &body["passwordCredential"]["displayName"];
                    must(
                        is_json && name.is_string(),
                        "passwordCredential.displayName",
                    )?;
                    Ok(("create", String::new()))
                }
                ("POST", "/removePassword") => {
                    let key = body["keyId"].as_str().ok_or("keyId")?;
                    Ok(("delete", key.to_owned()))
                }
                _ => Err("no such call".to_owned()),
            };
        }
        "gcp_service_account" => {
            if path == "/token" {
                must(is_form && method == "POST", "the token's form")?;
                return Ok(("token", String::new()));
            }
            must(bearer("canary-made-token"), "the token")?;
            let home = "/v1/projects/-/serviceAccounts/robot%40p.iam.gserviceaccount.com/keys";
            if method == "GET" {
                must(
                    path == format!("{home}?keyTypes=USER_MANAGED"),
                    "the list's path",
                )?;
                return Ok(("list", String::new()));
            }
            let rest = path.strip_prefix(home).ok_or("no such path")?;
            if rest.is_empty() {
                let asked = json!({"keyAlgorithm": "KEY_ALG_RSA_2048", "privateKeyType": "TYPE_GOOGLE_CREDENTIALS_FILE"});
                must(is_json && heard.json() == asked, "the body of create")?;
                return Ok(("create", String::new()));
            }
            let rest = rest.strip_prefix('/').ok_or("no such path")?;
            if let Some((key, act)) = rest.split_once(':') {
                must(
                    method == "POST" && heard.json() == json!({}),
                    "an empty object",
                )?;
                let act = ["disable", "enable"].into_iter().find(|own| *own == act);
                return Ok((act.ok_or("no such act")?, key.to_owned()));
            }
            rest.to_owned()
        }
        "openai" => {
            if path == "/v1/models" {
                must(!bearer(ADMIN_KEY), "an admin key calls no models")?;
                return Ok(("test", String::new()));
            }
            must(bearer(ADMIN_KEY), "the admin key")?;
            let home = "/v1/organization/projects/proj_1/";
            let rest = path.strip_prefix(home).ok_or("no such path")?;
            match (method, rest) {
                ("GET", "api_keys?limit=100") => return Ok(("list", String::new())),
                ("POST", "service_accounts/user-1/api_keys") => {
                    must(is_json && heard.json()["name"].is_string(), "the name")?;
                    return Ok(("create", String::new()));
                }
                _ => {}
            }
            rest.strip_prefix("api_keys/")
                .ok_or("no such path")?
                .to_owned()
        }
        "resend" => match (method, path) {
            ("GET", "/domains?limit=1") => return Ok(("test", String::new())),
            ("GET", "/api-keys?limit=100") => return Ok(("list", String::new())),
            ("POST", "/api-keys") => {
                let body = heard.json();
                let whole = body["name"].is_string() && body["permission"] == "full_access";
                must(is_json && whole, "name and permission")?;
                return Ok(("create", String::new()));
            }
            _ => path
                .strip_prefix("/api-keys/")
                .ok_or("no such path")?
                .to_owned(),
        },
        "sendgrid" => match (method, path) {
            ("GET", "/v3/scopes") => return Ok(("test", String::new())),
            ("GET", "/v3/api_keys") => return Ok(("list", String::new())),
            ("POST", "/v3/api_keys") => {
                let body = heard.json();
                let whole = body["name"].is_string() && body["scopes"] == json!(PERMITTED);
                must(is_json && whole, "name and scopes")?;
                return Ok(("create", String::new()));
            }
            _ => {
                let key = path.strip_prefix("/v3/api_keys/").ok_or("no such path")?;
                if method == "GET" {
                    return Ok(("copy", key.to_owned()));
                }
                key.to_owned()
            }
        },
        "supabase_project_key" => {
            let home = format!("/v1/projects/{PROJECT}/api-keys");
            if path == "/rest/v1/" {
                must(
                    heard.header("authorization").is_empty(),
                    "the key is no bearer",
                )?;
                return Ok(("test", String::new()));
            }
            must(bearer(PAT), "the personal access token")?;
            if path == format!("{home}?reveal=true") {
                if method == "GET" {
                    return Ok(("list", String::new()));
                }
                let body = heard.json();
                let name = body["name"].as_str().unwrap_or_default();
                let fits = (4..=64).contains(&name.len())
                    && name
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
                must(is_json && fits && body["type"] == "secret", "name and type")?;
                return Ok(("create", String::new()));
            }
            let rest = path
                .strip_prefix(&home)
                .and_then(|rest| rest.strip_prefix('/'));
            rest.ok_or("no such path")?.to_owned()
        }
        _ => {
            if path == format!("/2010-04-01/Accounts/{ACCOUNT}/Messages.json?PageSize=1") {
                must(
                    !basic(ACCOUNT, AUTH_TOKEN),
                    "the key calls, not the auth token",
                )?;
                return Ok(("test", String::new()));
            }
            must(basic(ACCOUNT, AUTH_TOKEN), "the auth token")?;
            let list = format!("/v1/Keys?AccountSid={ACCOUNT}&PageSize=1000");
            match (method, path) {
                ("GET", path) if path == list => return Ok(("list", String::new())),
                ("POST", "/v1/Keys") => {
                    let form = heard.form();
                    let whole = form.len() == 2
                        && form["AccountSid"] == ACCOUNT
                        && form.contains_key("FriendlyName");
                    must(is_form && whole, "AccountSid and FriendlyName")?;
                    return Ok(("create", String::new()));
                }
                _ => path
                    .strip_prefix("/v1/Keys/")
                    .ok_or("no such path")?
                    .to_owned(),
            }
        }
    };
    must(method == "DELETE", "no such call")?;
    must(heard.body.is_empty(), "DELETE has no body")?;
    Ok(("delete", of_key))
}
