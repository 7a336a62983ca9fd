//! The measure itself: a file that says other than its provider does has to be found out.

use std::sync::Arc;

use futures_util::future::join_all;
use keystead_core::provider::{Catalogue, Provider};

use crate::api::{goes_everywhere, tries_everything};
use crate::cases::against;
use crate::consent::consents_everywhere;
use crate::house::Plan;
use crate::revoke::takes_everything_back;

macro_rules! file {
    ($id:literal) => {
        include_str!(concat!("../../../../providers/", $id, ".toml"))
    };
}

const PLAIN: &str = include_str!("plain.toml");
const ODD: &str = include_str!("odd.toml");

/// A file, and what is changed in it.
const CHANGES: &[(&str, &str, &str)] = &[
    (
        file!("openai"),
        "kind = \"bearer\"",
        "kind = \"header\", name = \"api-key\"",
    ),
    (
        file!("openai"),
        "path = \"/v1/models\"",
        "path = \"/v1/model\"",
    ),
    (
        file!("openai"),
        "value = \"{project}\"",
        "value = \"{organization}\"",
    ),
    (
        file!("anthropic"),
        "name = \"x-api-key\"",
        "name = \"x-other-key\"",
    ),
    (
        file!("anthropic"),
        "[[header]]\nname = \"anthropic-version\"",
        "[[header]]\nname = \"x-version\"",
    ),
    (
        file!("twilio"),
        "user = \"account_sid\"",
        "user = \"auth_token\"",
    ),
    (file!("kling"), "lifetime = 1800", "lifetime = 1700"),
    (file!("kling"), "end_time={now_ms}", "end_time={day_ago_ms}"),
    (
        file!("aws_access_key"),
        "Version=2011-06-15",
        "Version=2011-06-16",
    ),
    (PLAIN, "client_auth = \"body\"", "client_auth = \"basic\""),
    (PLAIN, "\"read\", \"write\"", "\"read\""),
    (
        PLAIN,
        "issuer = \"https://plain",
        "issuer = \"https://other",
    ),
    (PLAIN, "client_auth =", "pkce = false\nclient_auth ="),
    (PLAIN, "client_auth =", "request = \"json\"\nclient_auth ="),
    (PLAIN, "example/token", "example/tokens"),
    (PLAIN, "example/authorize", "example/authorise"),
    (PLAIN, "example/device", "example/devices"),
    (PLAIN, "class = \"reusable\"", "class = \"single_use\""),
    (PLAIN, "class = \"reusable\"", "class = \"none\""),
    (PLAIN, "auth = \"app_basic\"", "auth = \"none\""),
    (PLAIN, "{refresh_token|access_token}", "{client_id}"),
    (PLAIN, "ok = [200]", "ok = [202]"),
    (ODD, "client_auth = \"basic\"", "client_auth = \"body\""),
    (ODD, "request = \"json\"", "request = \"form\""),
    (ODD, "pkce = false", "pkce = true"),
    (ODD, "scope_param = \"perms\"", "scope_param = \"scope\""),
    (ODD, "scope_separator = \",\"", "scope_separator = \" \""),
    (ODD, "audience = \"{region}\"", "audience = \"all\""),
    (ODD, "expiring = \"1\"", "expiring = \"0\""),
    (
        ODD,
        "redirect_uri_in_exchange = false",
        "redirect_uri_in_exchange = true",
    ),
    (ODD, "success = [201, 200]", "success = [200]"),
    (ODD, "ok = \"/ok\", ", "ok = \"/fine\", "),
    (ODD, "\"/new/access\"", "\"/access\""),
    (ODD, "\"/new/refresh\"", "\"/refresh\""),
    (ODD, "\"/new/seconds\"", "\"/seconds\""),
    (
        ODD,
        "token_types = [\"odd\", \"user\"]",
        "token_types = [\"bearer\"]",
    ),
    (ODD, "host = \"/where/api\"", "host = \"/where\""),
    (ODD, "class = \"single_use\"", "class = \"reusable\""),
    (
        ODD,
        "lifetime = 7200\n",
        "lifetime = 7200\n[[mode.oauth.rule]]\nstatus = \"4xx\"\nmeans = \"rate\"\n",
    ),
    (ODD, "\"tokens\":", "\"token\":"),
    (ODD, "method = \"DELETE\"", "method = \"POST\""),
    (ODD, "auth = \"placed\"", "auth = \"app_basic\""),
    (ODD, "pointer = \"/ok\"", "pointer = \"/okay\""),
];

/// The file as another provider of that number.
fn numbered(text: &str, number: usize) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("aliases = "));
    let text: Vec<&str> = lines.collect();
    text.join("\n")
        .replacen("id = \"", &format!("id = \"wrong_{number}_"), 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_says_other_than_its_provider_does_is_found_out() {
    let mut files = Vec::new();
    let mut played = Vec::new();
    for (number, (text, from, to)) in CHANGES.iter().enumerate() {
        assert!(text.contains(from), "{from}");
        let parse = |text: &str| Provider::parse(from, text).unwrap();
        played.push(Arc::new(parse(&numbered(text, number))));
        files.push((
            format!("{number}"),
            numbered(&text.replacen(from, to, 1), number),
        ));
    }
    let files = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()));
    let catalogue = Catalogue::embedded().and_then(|all| all.with_own(files, false));
    let cases = against(catalogue.unwrap(), &played, true, Plan::default()).await;
    let found = cases
        .into_iter()
        .zip(CHANGES)
        .map(|(case, (_, from, to))| async move {
            let case = Arc::new(case);
            let mut found = consents_everywhere(case.clone()).await;
            found.extend(takes_everything_back(case.clone()).await);
            found.extend(goes_everywhere(case.clone()).await);
            found.extend(tries_everything(case).await);
            found.is_empty().then(|| format!("{from}  →  {to}"))
        });
    let missed: Vec<String> = join_all(found).await.into_iter().flatten().collect();
    assert!(missed.is_empty(), "not found out:\n{}", missed.join("\n"));
}
