//! Google's token endpoint for service accounts.

use serde_json::{Value, json};

use super::desk::{Asked, Desk, Said};
use super::jwt::Signer;

const EMAIL: &str = "robot@acme-project.iam.gserviceaccount.com";
const KEY_ID: &str = "0123456789abcdef0123456789abcdef01234567";

/// The endpoint, and the account that it knows.
#[derive(Clone)]
pub struct Google {
    /// What it heard and gave out.
    pub desk: Desk,
    signer: Signer,
}

impl Google {
    /// Opens.
    pub async fn open() -> Google {
        let signer = Signer::usual();
        let own = signer.clone();
        let desk = Desk::open(move |desk, asked| answer(&own, desk, asked)).await;
        Google {
            desk: desk.expect("a free port"),
            signer,
        }
    }

    /// The account's key file.
    pub fn account(&self) -> Value {
        json!({
            "type": "service_account", "project_id": "acme-project", "private_key_id": KEY_ID,
            "private_key": self.signer.pem, "client_email": EMAIL, "client_id": "1",
            "token_uri": "https://elsewhere.example/token",
        })
    }
}

fn answer(signer: &Signer, desk: &Desk, asked: &Asked) -> Said {
    if (asked.method.as_str(), asked.path.as_str()) != ("POST", "/token") {
        return Said::json(404, &json!({"error": "not_found"}));
    }
    let form = asked.form();
    let field = |name: &str| form.get(name).map_or("", String::as_str);
    if field("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
        return Said::json(400, &json!({"error": "unsupported_grant_type"}));
    }
    let Some(claims) = signer.claims(field("assertion")) else {
        let why = "Invalid JWT Signature.";
        return Said::json(
            400,
            &json!({"error": "invalid_grant", "error_description": why}),
        );
    };
    let times = claims["exp"].as_i64().zip(claims["iat"].as_i64());
    let short = times.is_some_and(|(exp, iat)| exp - iat <= 3600);
    if claims["iss"] != EMAIL || claims["aud"] != "https://oauth2.googleapis.com/token" || !short {
        return Said::json(400, &json!({"error": "invalid_grant"}));
    }
    if claims["sub"].is_string() {
        return Said::json(401, &json!({"error": "unauthorized_client"}));
    }
    let scopes = claims["scope"].as_str().unwrap_or_default();
    let known = |scope: &str| scope.starts_with("https://www.googleapis.com/auth/");
    if scopes.is_empty() || !scopes.split(' ').all(known) {
        return Said::json(400, &json!({"error": "invalid_scope"}));
    }
    let token = desk.give("ya29.");
    Said::json(
        200,
        &json!({"access_token": token, "expires_in": 3599, "token_type": "Bearer"}),
    )
}
