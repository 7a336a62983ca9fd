//! The answers of providers that are used with a key.

use super::{BadKey, Down, Expired, Fixed, Indeterminate, NoPerm, Quota, Rate, Works};

pub(crate) const ROWS: &[Fixed] = &[
    (
        "mistral",
        "api_key",
        &[
            (200, "{}", Works),
            (401, r#"{"message":"Unauthorized"}"#, BadKey),
            (403, "{}", NoPerm),
            (429, "{}", Rate),
            (503, "", Down),
        ],
    ),
    (
        "groq",
        "api_key",
        &[
            (200, "{}", Works),
            (401, r#"{"error":{"code":"invalid_api_key"}}"#, BadKey),
            (403, "{}", NoPerm),
            (429, "{}", Rate),
        ],
    ),
    (
        "cohere",
        "api_key",
        &[
            (200, "{}", Works),
            (401, "{}", BadKey),
            (498, "{}", BadKey),
            (
                429,
                r#"{"message":"You are using a Trial key, which is limited to 1000 API calls / month"}"#,
                Quota,
            ),
            (429, "{}", Rate),
        ],
    ),
    (
        "deepseek",
        "api_key",
        &[
            (200, r#"{"is_available":true,"balance_infos":[]}"#, Works),
            (200, r#"{"is_available":false}"#, Quota),
            (200, "<html>", Indeterminate),
            (401, "{}", BadKey),
            (402, "{}", Quota),
            (429, "{}", Rate),
            (503, "{}", Down),
        ],
    ),
    (
        "openrouter",
        "api_key",
        &[
            (200, r#"{"data":{"limit":10,"limit_remaining":3.5}}"#, Works),
            (
                200,
                r#"{"data":{"limit":null,"limit_remaining":null}}"#,
                Works,
            ),
            (200, r#"{"data":{"limit":10,"limit_remaining":0}}"#, Quota),
            (401, "{}", BadKey),
            (402, "{}", Quota),
            (403, "{}", NoPerm),
            (429, "{}", Rate),
        ],
    ),
    (
        "together",
        "api_key",
        &[(200, "[]", Works), (401, "{}", BadKey), (429, "{}", Rate)],
    ),
    (
        "perplexity",
        "api_key",
        &[
            (200, "{}", Works),
            (401, "<html>", BadKey),
            (400, "{}", Indeterminate),
            (422, "{}", Indeterminate),
            (429, "{}", Rate),
        ],
    ),
    (
        "elevenlabs",
        "api_key",
        &[
            (200, "{}", Works),
            (
                401,
                r#"{"detail":{"status":"missing_permissions"}}"#,
                NoPerm,
            ),
            (401, r#"{"detail":{"status":"invalid_api_key"}}"#, BadKey),
            (
                401,
                r#"{"detail":{"status":"detected_unusual_activity"}}"#,
                NoPerm,
            ),
            (401, r#"{"detail":{"status":"quota_exceeded"}}"#, Quota),
            (402, r#"{"detail":{"status":"quota_exceeded"}}"#, Quota),
            (
                429,
                r#"{"detail":{"status":"too_many_concurrent_requests"}}"#,
                Rate,
            ),
        ],
    ),
    (
        "replicate",
        "api_key",
        &[(200, "{}", Works), (401, "{}", BadKey), (429, "{}", Rate)],
    ),
    (
        "huggingface",
        "token",
        &[
            (200, r#"{"auth":{"accessToken":{"role":"read"}}}"#, Works),
            (401, "{}", BadKey),
            (429, "{}", Rate),
        ],
    ),
    (
        "stripe",
        "api_key",
        &[
            (200, r#"{"livemode":false}"#, Works),
            (
                401,
                r#"{"error":{"type":"invalid_request_error","message":"Invalid API Key provided: sk_test_****"}}"#,
                BadKey,
            ),
            (
                401,
                r#"{"error":{"message":"Expired API Key provided: sk_test_****"}}"#,
                Expired,
            ),
            (401, r#"{"error":{"code":"api_key_expired"}}"#, Expired),
            (
                403,
                r#"{"error":{"code":"more_permissions_required"}}"#,
                NoPerm,
            ),
            (429, r#"{"error":{"code":"rate_limit"}}"#, Rate),
        ],
    ),
    (
        "sendgrid",
        "api_key",
        &[
            (200, r#"{"scopes":["mail.send"]}"#, Works),
            (401, "{}", BadKey),
            (403, "{}", NoPerm),
            (429, "{}", Rate),
        ],
    ),
    (
        "mailgun",
        "api_key",
        &[
            (200, "{}", Works),
            (401, "Forbidden", Indeterminate),
            (403, "{}", NoPerm),
            (429, "{}", Rate),
        ],
    ),
    (
        "postmark",
        "server_token",
        &[
            (200, "{}", Works),
            (401, r#"{"ErrorCode":10}"#, BadKey),
            (429, "{}", Rate),
            (500, "", Down),
        ],
    ),
    (
        "postmark",
        "account_token",
        &[
            (200, "{}", Works),
            (401, r#"{"ErrorCode":10}"#, BadKey),
            (422, r#"{"ErrorCode":10}"#, BadKey),
        ],
    ),
    (
        "resend",
        "api_key",
        &[
            (200, "{}", Works),
            (401, r#"{"name":"restricted_api_key"}"#, NoPerm),
            (401, r#"{"name":"missing_api_key"}"#, BadKey),
            (403, r#"{"name":"invalid_api_key"}"#, BadKey),
            (400, r#"{"name":"invalid_api_key"}"#, BadKey),
            (403, "error code: 1010", Indeterminate),
            (429, r#"{"name":"rate_limit_exceeded"}"#, Rate),
            (429, r#"{"name":"daily_quota_exceeded"}"#, Quota),
        ],
    ),
    (
        "vercel",
        "token",
        &[
            (200, "{}", Works),
            (
                403,
                r#"{"error":{"code":"forbidden","invalidToken":true}}"#,
                BadKey,
            ),
            (
                403,
                r#"{"error":{"code":"forbidden","message":"Not authorized"}}"#,
                BadKey,
            ),
            (403, r#"{"error":{"code":"team_unauthorized"}}"#, NoPerm),
            (401, "{}", BadKey),
            (429, "{}", Rate),
        ],
    ),
    (
        "netlify",
        "token",
        &[(200, "{}", Works), (401, "{}", BadKey), (429, "{}", Rate)],
    ),
    (
        "cloudflare",
        "api_token",
        &[
            (
                200,
                r#"{"success":true,"result":{"status":"active"}}"#,
                Works,
            ),
            (
                200,
                r#"{"success":true,"result":{"status":"disabled"}}"#,
                Expired,
            ),
            (
                200,
                r#"{"success":true,"result":{"status":"expired"}}"#,
                Expired,
            ),
            (200, r#"{"success":true}"#, Indeterminate),
            (
                401,
                r#"{"errors":[{"code":1000,"message":"Invalid API Token"}]}"#,
                BadKey,
            ),
            (
                400,
                r#"{"errors":[{"code":6003,"message":"Invalid request headers"}]}"#,
                BadKey,
            ),
            (403, r#"{"errors":[{"code":9109}]}"#, BadKey),
            (403, "{}", Indeterminate),
            (429, "{}", Rate),
        ],
    ),
    (
        "cloudflare",
        "account_token",
        &[
            (200, r#"{"result":{"status":"active"}}"#, Works),
            (200, r#"{"result":{"status":"expired"}}"#, Expired),
            (200, "{}", Indeterminate),
            (401, r#"{"errors":[{"code":1000}]}"#, BadKey),
            (403, "<html>", Indeterminate),
        ],
    ),
    (
        "cloudflare",
        "global_key",
        &[
            (200, "{}", Works),
            (400, r#"{"errors":[{"code":6003}]}"#, BadKey),
            (403, r#"{"errors":[{"code":9103}]}"#, BadKey),
            (403, "", Indeterminate),
        ],
    ),
    (
        "datadog",
        "api_key",
        &[
            (200, r#"{"valid":true}"#, Works),
            (200, "{}", Indeterminate),
            (403, r#"{"errors":["Forbidden"]}"#, BadKey),
            (429, "{}", Rate),
        ],
    ),
    (
        "datadog",
        "api_and_app_key",
        &[
            (200, "{}", Works),
            (401, "{}", BadKey),
            (403, "{}", BadKey),
            (429, "{}", Rate),
        ],
    ),
    (
        "sentry",
        "token",
        &[
            (
                200,
                r#"{"version":"0","auth":{"scopes":["org:read"]},"user":{}}"#,
                Works,
            ),
            (
                200,
                r#"{"version":"0","auth":null,"user":null}"#,
                Indeterminate,
            ),
            (401, "{}", BadKey),
            (403, "{}", NoPerm),
            (429, "{}", Rate),
        ],
    ),
    (
        "sentry",
        "org_token",
        &[(200, "{}", Works), (401, "{}", BadKey), (403, "{}", NoPerm)],
    ),
    (
        "fly",
        "token",
        &[
            (200, r#"{"tokens":[]}"#, Works),
            (401, "{}", BadKey),
            (403, "{}", NoPerm),
            (429, "{}", Rate),
            (503, "rate limit exceeded", Rate),
            (503, "", Down),
        ],
    ),
    (
        "supabase_project_key",
        "secret_key",
        &[(200, "{}", Works), (401, "{}", BadKey), (503, "", Down)],
    ),
    (
        "supabase_project_key",
        "publishable_key",
        &[(200, "{}", Works), (401, "{}", BadKey)],
    ),
    (
        "supabase_project_key",
        "legacy_key",
        &[(200, "{}", Works), (401, "{}", BadKey), (403, "{}", NoPerm)],
    ),
    (
        "pagerduty",
        "api_key",
        &[
            (200, "{}", Works),
            (401, "{}", BadKey),
            (402, "{}", NoPerm),
            (403, "{}", NoPerm),
            (429, "{}", Rate),
        ],
    ),
    (
        "discord",
        "bot_token",
        &[
            (200, "{}", Works),
            (401, r#"{"message":"401: Unauthorized"}"#, BadKey),
            (403, "{}", NoPerm),
            (403, "error code: 1010", Indeterminate),
            (429, r#"{"retry_after":1.5}"#, Rate),
        ],
    ),
    (
        "linear",
        "api_key",
        &[
            (200, r#"{"data":{"viewer":{"id":"1"}}}"#, Works),
            (
                400,
                r#"{"errors":[{"extensions":{"code":"AUTHENTICATION_ERROR"}}]}"#,
                BadKey,
            ),
            (
                401,
                r#"{"errors":[{"extensions":{"code":"AUTHENTICATION_ERROR"}}]}"#,
                BadKey,
            ),
            (
                200,
                r#"{"errors":[{"extensions":{"code":"FORBIDDEN"}}]}"#,
                NoPerm,
            ),
            (
                400,
                r#"{"errors":[{"extensions":{"code":"RATELIMITED"}}]}"#,
                Rate,
            ),
            (200, r#"{"errors":[{"message":"m"}]}"#, Indeterminate),
        ],
    ),
    (
        "atlassian",
        "api_token",
        &[
            (200, r#"{"accountId":"1"}"#, Works),
            (
                200,
                "x-seraph-loginreason: AUTHENTICATED_FAILED\n\n{}",
                Indeterminate,
            ),
            (
                200,
                "x-seraph-loginreason: OUT\n\n{\"displayName\":\"Anonymous\"}",
                BadKey,
            ),
            (401, "{}", BadKey),
            (
                403,
                "x-seraph-loginreason: AUTHENTICATION_DENIED\n\n",
                NoPerm,
            ),
            (429, "{}", Rate),
        ],
    ),
    (
        "atlassian",
        "admin_key",
        &[(200, "{}", Works), (401, "{}", BadKey), (403, "{}", NoPerm)],
    ),
    (
        "twilio",
        "oauth_app",
        &[
            (401, r#"{"error":"invalid_client"}"#, BadKey),
            (400, r#"{"error":"invalid_request"}"#, Indeterminate),
            (429, "{}", Rate),
            (503, "", Down),
        ],
    ),
    (
        "zoom",
        "server_to_server",
        &[
            (
                400,
                r#"{"reason":"Invalid client_id or client_secret","error":"invalid_client"}"#,
                BadKey,
            ),
            (
                400,
                r#"{"reason":"Bad request","error":"invalid_request"}"#,
                Indeterminate,
            ),
            (
                400,
                r#"{"reason":"unsupported grant type","error":"unsupported_grant_type"}"#,
                NoPerm,
            ),
            (429, "{}", Rate),
        ],
    ),
    (
        "salesforce",
        "client_credentials",
        &[
            (
                400,
                r#"{"error":"invalid_client_id","error_description":"client identifier invalid"}"#,
                BadKey,
            ),
            (401, r#"{"error":"invalid_client"}"#, BadKey),
            (
                400,
                r#"{"error":"invalid_grant","error_description":"no client credentials user enabled"}"#,
                NoPerm,
            ),
            (400, r#"{"error":"unsupported_grant_type"}"#, Indeterminate),
            (503, "", Down),
        ],
    ),
    (
        "shopify",
        "client_credentials",
        &[
            (400, r#"{"error":"invalid_client"}"#, BadKey),
            (400, r#"{"error":"shop_not_permitted"}"#, NoPerm),
            (400, "<html>", Indeterminate),
            (404, "", NoPerm),
        ],
    ),
    (
        "github",
        "app",
        &[
            (
                401,
                r#"{"message":"A JSON web token could not be decoded"}"#,
                BadKey,
            ),
            (404, r#"{"message":"Not Found"}"#, NoPerm),
            (
                403,
                r#"{"message":"This installation has been suspended"}"#,
                NoPerm,
            ),
            (500, "", Down),
        ],
    ),
];
