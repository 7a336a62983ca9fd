//! The answers of the providers of the first days.

use serde_json::json;

use super::{BadKey, Down, Expired, Indeterminate, NoPerm, Quota, Rate, Row, Works};

pub(crate) fn rows() -> Vec<Row> {
    let kling = |code: i64| json!({"code": code, "message": "m"}).to_string();
    let meta = |code: i64, subcode: i64| {
        json!({"error": {"code": code, "error_subcode": subcode, "message": "m"}}).to_string()
    };
    let google = |reason: &str| {
        json!({"error": {"message": "m", "details": [
            {"@type": "type.googleapis.com/google.rpc.Help"},
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason},
        ]}})
        .to_string()
    };
    let youtube = |reason: &str| json!({"error": {"errors": [{"reason": reason}]}}).to_string();
    let entra = |code: i64| json!({"error": "e", "error_codes": [1, code]}).to_string();
    let aws =
        |code: &str| format!("<ErrorResponse><Error><Code>{code}</Code></Error></ErrorResponse>");
    let xai = |disabled: bool, blocked: bool, team: bool| {
        json!({"api_key_disabled": disabled, "api_key_blocked": blocked, "team_blocked": team})
            .to_string()
    };
    let openai =
        |code: &str, kind: &str| json!({"error": {"code": code, "type": kind}}).to_string();
    let oauth =
        |error: &str, text: &str| json!({"error": error, "error_description": text}).to_string();
    let text = str::to_owned;
    vec![
        (
            "openai",
            "api_key",
            vec![
                (200, text("{}"), Works),
                (
                    401,
                    openai("invalid_api_key", "invalid_request_error"),
                    BadKey,
                ),
                (403, openai("missing_scope", "x"), NoPerm),
                (
                    403,
                    openai("unsupported_country_region_territory", "x"),
                    Indeterminate,
                ),
                (429, openai("rate_limit_exceeded", "requests"), Rate),
                (
                    429,
                    openai("credit_balance_exhausted", "insufficient_quota"),
                    Quota,
                ),
                (429, openai("insufficient_quota", "x"), Quota),
                (500, text("no json"), Down),
                (302, text(""), Indeterminate),
            ],
        ),
        (
            "anthropic",
            "api_key",
            vec![
                (200, text("{}"), Works),
                (401, text("{}"), BadKey),
                (404, text("{}"), BadKey),
                (403, text("{}"), NoPerm),
                (429, text("{}"), Rate),
                (529, text("{}"), Down),
                (
                    400,
                    text(r#"{"error":{"message":"Your credit balance is too low"}}"#),
                    Quota,
                ),
                (
                    400,
                    text(r#"{"error":{"type":"invalid_request_error"}}"#),
                    Indeterminate,
                ),
            ],
        ),
        (
            "google_gemini",
            "api_key",
            vec![
                (200, text("{}"), Works),
                (400, google("API_KEY_INVALID"), BadKey),
                (400, google("OTHER"), Indeterminate),
                (
                    400,
                    text(r#"{"error":{"message":"API key expired. Please renew"}}"#),
                    Expired,
                ),
                (403, google("SERVICE_DISABLED"), NoPerm),
                (401, text("{}"), BadKey),
                (
                    429,
                    text(r#"{"error":{"message":"You exceeded your current quota"}}"#),
                    Quota,
                ),
                (429, text("{}"), Rate),
            ],
        ),
        (
            "xai",
            "api_key",
            vec![
                (200, xai(false, false, false), Works),
                (200, xai(true, false, false), BadKey),
                (200, xai(false, true, false), BadKey),
                (200, xai(false, false, true), NoPerm),
                (200, text("<html>"), Indeterminate),
                (400, text("{}"), BadKey),
                (401, text("{}"), BadKey),
                (403, text("{}"), NoPerm),
                (429, text("{}"), Rate),
            ],
        ),
        (
            "youtube",
            "api_key",
            vec![
                (200, text("{}"), Works),
                (400, google("API_KEY_INVALID"), BadKey),
                (400, youtube("keyInvalid"), BadKey),
                (403, youtube("accessNotConfigured"), NoPerm),
                (403, youtube("quotaExceeded"), Quota),
                (403, youtube("dailyLimitExceeded"), Quota),
                (403, youtube("rateLimitExceeded"), Rate),
                (401, youtube("authError"), Expired),
            ],
        ),
        (
            "kling",
            "access_key_secret_key",
            vec![
                (200, kling(0), Works),
                (200, kling(1), Indeterminate),
                (200, kling(1102), Quota),
                (200, text("<html>"), Indeterminate),
                (401, kling(1000), BadKey),
                (401, kling(1002), BadKey),
                (401, kling(1003), Indeterminate),
                (401, kling(1004), Indeterminate),
                (429, kling(1100), Quota),
                (429, kling(1102), Quota),
                (403, kling(1103), NoPerm),
                (429, kling(1302), Rate),
                (500, text(""), Down),
            ],
        ),
        (
            "whatsapp_cloud",
            "access_token",
            vec![
                (200, text(r#"{"id":"1"}"#), Works),
                (401, meta(190, 463), Expired),
                (401, meta(190, 460), BadKey),
                (401, meta(190, 0), BadKey),
                (401, meta(0, 0), BadKey),
                (403, meta(10, 0), NoPerm),
                (403, meta(299, 0), NoPerm),
                (500, meta(3, 0), NoPerm),
                (400, meta(100, 33), NoPerm),
                (400, meta(100, 0), Indeterminate),
                (400, meta(80007, 0), Rate),
                (403, meta(368, 0), NoPerm),
                (500, meta(1, 0), Down),
            ],
        ),
        (
            "twilio",
            "auth_token",
            vec![
                (200, text(r#"{"status":"active"}"#), Works),
                (200, text(r#"{"status":"suspended"}"#), NoPerm),
                (200, text(r#"{"status":"closed"}"#), NoPerm),
                (200, text("{}"), Indeterminate),
                (401, text(r#"{"code":20003}"#), BadKey),
                (404, text(r#"{"code":20404}"#), NoPerm),
                (429, text(r#"{"code":20429}"#), Rate),
            ],
        ),
        (
            "twilio",
            "api_key",
            vec![
                (200, text(r#"{"messages":[]}"#), Works),
                (401, text("{}"), BadKey),
                (403, text("{}"), NoPerm),
                (404, text("{}"), NoPerm),
            ],
        ),
        (
            "aws_access_key",
            "access_key",
            vec![
                (200, text("<GetCallerIdentityResponse/>"), Works),
                (403, aws("InvalidClientTokenId"), BadKey),
                (403, aws("SignatureDoesNotMatch"), BadKey),
                (
                    403,
                    text("SignatureDoesNotMatch: Signature expired: 2026 is now earlier"),
                    Indeterminate,
                ),
                (403, aws("ExpiredToken"), Expired),
                (
                    400,
                    text(r#"{"Error":{"Code":"ExpiredTokenException"}}"#),
                    Expired,
                ),
                (403, aws("AccessDenied"), NoPerm),
                (400, aws("Throttling"), Rate),
                (503, aws("Throttling"), Rate),
                (403, text("a proxy"), Indeterminate),
            ],
        ),
        (
            "gcp_service_account",
            "service_account",
            vec![
                (
                    400,
                    oauth("invalid_grant", "Invalid JWT Signature."),
                    BadKey,
                ),
                (
                    400,
                    oauth("invalid_grant", "Invalid grant: account not found"),
                    BadKey,
                ),
                (
                    400,
                    oauth(
                        "invalid_grant",
                        "Invalid JWT: Token must be a short-lived token",
                    ),
                    Indeterminate,
                ),
                (401, oauth("unauthorized_client", "x"), NoPerm),
                (503, text(""), Down),
            ],
        ),
        (
            "azure_service_principal",
            "client_secret",
            vec![
                (401, entra(7_000_215), BadKey),
                (401, entra(7_000_222), Expired),
                (400, entra(700_016), BadKey),
                (400, entra(90_002), BadKey),
                (401, entra(7_000_112), NoPerm),
                (400, entra(53_003), NoPerm),
                (400, entra(50_196), Rate),
                (429, text("{}"), Rate),
                (400, entra(9_002_313), Indeterminate),
            ],
        ),
        (
            "generic_bearer",
            "api_key",
            vec![
                (204, text(""), Works),
                (401, text(""), BadKey),
                (403, text(""), NoPerm),
                (429, text(""), Rate),
                (404, text(""), Indeterminate),
                (405, text(""), Indeterminate),
                (301, text(""), Indeterminate),
                (502, text(""), Down),
            ],
        ),
    ]
}
