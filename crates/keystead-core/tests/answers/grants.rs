//! The answers of providers that are connected by OAuth; their other tokens are tried alike.

use super::{BadKey, Down, Expired, Fixed, Indeterminate, NoPerm, Quota, Rate, Works};

pub(crate) const ROWS: &[Fixed] = &[
    (
        "google_oauth",
        "oauth",
        &[
            (200, r#"{"user":{}}"#, Works),
            (
                401,
                r#"{"error":{"errors":[{"reason":"authError"}]}}"#,
                Expired,
            ),
            (
                403,
                r#"{"error":{"errors":[{"reason":"insufficientPermissions"}]}}"#,
                NoPerm,
            ),
            (
                403,
                r#"{"error":{"errors":[{"reason":"accessNotConfigured"}]}}"#,
                NoPerm,
            ),
            (
                403,
                r#"{"error":{"errors":[{"reason":"rateLimitExceeded"}]}}"#,
                Rate,
            ),
            (
                403,
                r#"{"error":{"errors":[{"reason":"userRateLimitExceeded"}]}}"#,
                Rate,
            ),
            (429, "{}", Rate),
        ],
    ),
    (
        "youtube",
        "oauth",
        &[
            (200, "{}", Works),
            (
                401,
                r#"{"error":{"errors":[{"reason":"authError"}]}}"#,
                Expired,
            ),
            (
                403,
                r#"{"error":{"errors":[{"reason":"insufficientPermissions"}]}}"#,
                NoPerm,
            ),
            (
                403,
                r#"{"error":{"errors":[{"reason":"quotaExceeded"}]}}"#,
                Quota,
            ),
            (
                403,
                r#"{"error":{"errors":[{"reason":"rateLimitExceeded"}]}}"#,
                Rate,
            ),
        ],
    ),
    (
        "supabase",
        "oauth",
        &[
            (200, "[]", Works),
            (401, r#"{"message":"Unauthorized"}"#, BadKey),
            (403, "{}", NoPerm),
            (429, "{}", Rate),
            (503, "", Down),
        ],
    ),
    (
        "github",
        "oauth",
        &[
            (200, r#"{"login":"canary"}"#, Works),
            (401, r#"{"message":"Bad credentials"}"#, BadKey),
            (
                403,
                "x-github-sso: required; url=https://github.com/orgs/x\n\n{}",
                NoPerm,
            ),
            (
                403,
                r#"{"message":"Resource not accessible by integration"}"#,
                NoPerm,
            ),
            (
                403,
                "retry-after: 60\n\n{\"message\":\"You have exceeded a secondary rate limit\"}",
                Rate,
            ),
            (
                403,
                r#"{"message":"API rate limit exceeded for user ID 1."}"#,
                Rate,
            ),
            (404, "{}", Indeterminate),
        ],
    ),
    (
        "smashrun",
        "oauth",
        &[(200, "{}", Works), (401, "{}", Expired), (503, "", Down)],
    ),
    (
        "slack",
        "token",
        &[
            (200, r#"{"ok":true}"#, Works),
            (200, r#"{"ok":false,"error":"invalid_auth"}"#, BadKey),
            (200, r#"{"ok":false,"error":"token_revoked"}"#, BadKey),
            (200, r#"{"ok":false,"error":"account_inactive"}"#, BadKey),
            (200, r#"{"ok":false,"error":"not_authed"}"#, BadKey),
            (200, r#"{"ok":false,"error":"token_expired"}"#, Expired),
            (200, r#"{"ok":false,"error":"missing_scope"}"#, NoPerm),
            (200, r#"{"ok":false,"error":"ekm_access_denied"}"#, NoPerm),
            (
                200,
                r#"{"ok":false,"error":"something_new"}"#,
                Indeterminate,
            ),
            (200, "<html>", Indeterminate),
            (429, r#"{"ok":false,"error":"ratelimited"}"#, Rate),
        ],
    ),
    (
        "notion",
        "token",
        &[
            (200, "{}", Works),
            (401, r#"{"code":"unauthorized"}"#, BadKey),
            (403, r#"{"code":"restricted_resource"}"#, NoPerm),
            (429, r#"{"code":"rate_limited"}"#, Rate),
        ],
    ),
    (
        "hubspot",
        "token",
        &[
            (200, "{}", Works),
            (401, r#"{"category":"INVALID_AUTHENTICATION"}"#, BadKey),
            (401, r#"{"category":"EXPIRED_AUTHENTICATION"}"#, Expired),
            (403, r#"{"category":"MISSING_SCOPES"}"#, NoPerm),
            (429, r#"{"policyName":"SECONDLY"}"#, Rate),
            (429, r#"{"policyName":"DAILY"}"#, Quota),
        ],
    ),
    (
        "salesforce",
        "oauth",
        &[
            (200, "{}", Works),
            (401, r#"[{"errorCode":"INVALID_SESSION_ID"}]"#, Expired),
            (403, "Bad_OAuth_Token", Expired),
            (403, r#"[{"errorCode":"REQUEST_LIMIT_EXCEEDED"}]"#, Quota),
            (403, r#"[{"errorCode":"API_DISABLED_FOR_ORG"}]"#, NoPerm),
        ],
    ),
    (
        "linear",
        "oauth",
        &[
            (200, r#"{"data":{"viewer":{"id":"1"}}}"#, Works),
            (
                401,
                r#"{"errors":[{"extensions":{"code":"AUTHENTICATION_ERROR"}}]}"#,
                BadKey,
            ),
        ],
    ),
    (
        "discord",
        "oauth",
        &[
            (200, "{}", Works),
            (401, "{}", Expired),
            (403, "{}", NoPerm),
            (403, "error code: 1010", Indeterminate),
            (429, "{}", Rate),
        ],
    ),
    (
        "microsoft_graph",
        "oauth",
        &[
            (200, r#"{"id":"1"}"#, Works),
            (
                401,
                r#"{"error":{"code":"InvalidAuthenticationToken"}}"#,
                Expired,
            ),
            (
                403,
                r#"{"error":{"code":"Authorization_RequestDenied"}}"#,
                NoPerm,
            ),
            (429, "{}", Rate),
        ],
    ),
    (
        "atlassian",
        "oauth",
        &[
            (
                200,
                r#"[{"id":"1","url":"https://canary.atlassian.net"}]"#,
                Works,
            ),
            (200, "[]", NoPerm),
            (401, "{}", Expired),
            (403, "{}", NoPerm),
            (429, "{}", Rate),
        ],
    ),
    (
        "zoom",
        "oauth",
        &[
            (200, "{}", Works),
            (
                401,
                r#"{"code":124,"message":"Invalid access token."}"#,
                Expired,
            ),
            (
                400,
                r#"{"code":4711,"message":"Invalid access token, does not contain scopes"}"#,
                NoPerm,
            ),
            (403, r#"{"code":4711}"#, NoPerm),
            (401, "{}", BadKey),
            (429, "{}", Rate),
        ],
    ),
    (
        "dropbox",
        "token",
        &[
            (200, "{}", Works),
            (401, r#"{"error":{".tag":"expired_access_token"}}"#, Expired),
            (401, r#"{"error":{".tag":"invalid_access_token"}}"#, BadKey),
            (401, r#"{"error":{".tag":"missing_scope"}}"#, NoPerm),
            (400, "Error in call to API function", Indeterminate),
            (
                429,
                r#"{"error":{"reason":{".tag":"too_many_requests"}}}"#,
                Rate,
            ),
        ],
    ),
    (
        "airtable",
        "token",
        &[
            (200, r#"{"id":"usr1"}"#, Works),
            (401, "{}", BadKey),
            (403, "{}", NoPerm),
            (429, "{}", Rate),
        ],
    ),
    (
        "shopify",
        "token",
        &[
            (200, "{}", Works),
            (401, "{}", BadKey),
            (402, "{}", NoPerm),
            (403, "{}", NoPerm),
            (404, "{}", NoPerm),
            (429, "{}", Rate),
        ],
    ),
    (
        "pagerduty",
        "oauth",
        &[
            (200, "{}", Works),
            (401, "{}", Expired),
            (403, "{}", NoPerm),
            (429, "{}", Rate),
        ],
    ),
];
