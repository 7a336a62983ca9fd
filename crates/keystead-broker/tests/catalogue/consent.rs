//! What is asked of OAuth providers, and what is understood of their answers. A failure names the
//! provider and what was played.

use std::sync::Arc;
use std::time::Duration;

use keystead_core::provider::Fields;
use keystead_core::provider::oauth::{
    Means, OAuth, OAuthError, RefreshClass, code_request, device_poll_request, device_request,
    read_device, refresh_request,
};
use keystead_testkit::played::{
    Answer, Door, REDIRECT_URI, Reply, Shape, Terms, dead, refusal, refused_as, replies_that,
};
use serde_json::{Value, json};

use crate::cases::{Case, cases, catalogue, each};
use crate::known::{Known, NOW};

/// How many alternatives the reply's pointers have at most.
fn alternatives(oauth: &OAuth) -> usize {
    let reply = &oauth.reply;
    let pointers = [&reply.access_token, &reply.refresh_token, &reply.expires_in];
    let counts = pointers.map(|pointer| pointer.split('|').count());
    counts.into_iter().max().unwrap_or(1)
}

async fn consents_and_renews(case: &Case, oauth: &OAuth) -> Result<(), String> {
    let known = Known::of(case);
    for alternative in 0..alternatives(oauth) {
        for silent in [false, true] {
            let shape = Shape {
                alternative,
                silent,
                life: None,
            };
            case.played.shapes(shape);
            grants_and_renews(case, &known, oauth, silent)
                .await
                .map_err(|fault| format!("{shape:?}: {fault}"))?;
        }
    }
    case.played.shapes(Shape::default());
    Ok(())
}

async fn grants_and_renews(
    case: &Case,
    known: &Known,
    oauth: &OAuth,
    silent: bool,
) -> Result<(), String> {
    let tokens = known.consent(case, oauth).await?;
    let grant = case.played.grants().pop().unwrap();
    let is = |fields: &Fields, name: &str, expected: Option<&String>| {
        if fields.get(name) == expected.map(String::as_str) {
            Ok(())
        } else {
            Err(format!("`{name}` is not what was granted"))
        }
    };
    let fields = &tokens.fields;
    is(fields, "access_token", grant.access.last())?;
    is(fields, "refresh_token", grant.refresh.last())?;
    let host = oauth
        .reply
        .host
        .as_ref()
        .map(|_| case.played.part().api_host());
    is(fields, "host", host.as_ref())?;
    let life = if silent {
        oauth.refresh.lifetime
    } else {
        Some(3600)
    };
    // Where the file names no place for it, a reply cannot say it.
    let life = if oauth.reply.expires_in.is_empty() {
        oauth.refresh.lifetime
    } else {
        life
    };
    if tokens.expires_at != life.map(|life| NOW.plus_seconds(life)) {
        return Err(format!("it ends at {:?}", tokens.expires_at));
    }
    if oauth.refresh.class == RefreshClass::None {
        if !grant.refresh.is_empty() {
            return Err("a refresh token, and nobody would use it".to_owned());
        }
        let request = refresh_request(&known.provider, &known.config, &known.app, "x");
        return match request {
            Err(OAuthError::NoRefresh) => Ok(()),
            _ => Err("what is not renewed is asked for".to_owned()),
        };
    }
    let mut before = tokens.fields;
    for _ in 0..2 {
        let renewed = known.renew(&before).await?;
        let renewed = renewed.map_err(|means| format!("{means:?}; {}", case.refused()))?;
        let grant = case.played.grants().pop().unwrap();
        is(&renewed.fields, "access_token", grant.access.last())?;
        is(&renewed.fields, "refresh_token", grant.refresh.last())?;
        is(&renewed.fields, "host", host.as_ref())?;
        let new = renewed.fields.get("refresh_token") != before.get("refresh_token");
        let rotates = oauth.refresh.class != RefreshClass::Reusable;
        if new != rotates {
            return Err("the refresh token does not go by its class".to_owned());
        }
        before = renewed.fields;
    }
    let replayed = known.renew(&before).await?.map(|_| ());
    replayed.map_err(|means| format!("a third renewal: {means:?}"))?;
    // The one before the last was used already.
    let again = known.renew(&before).await?;
    match (oauth.refresh.class, again.map(|_| ())) {
        (RefreshClass::SingleUse, Err(Means::Dead)) => {}
        (RefreshClass::Reusable | RefreshClass::Rotating, Ok(())) => {}
        (class, other) => return Err(format!("a second use under {class:?}: {other:?}")),
    }
    let grant = case.played.grants().pop().unwrap();
    if grant.replayed != (oauth.refresh.class == RefreshClass::SingleUse) {
        return Err("the provider counts other uses".to_owned());
    }
    Ok(())
}

/// Answers of the token endpoint that are no tokens, each with what it is and means.
pub(crate) fn failures(oauth: &OAuth) -> Result<Vec<(String, Reply, Means)>, String> {
    let mut all = Vec::new();
    let rules: Vec<Terms> = oauth.rules.iter().map(|rule| (&rule.when).into()).collect();
    for (number, rule) in oauth.rules.iter().enumerate() {
        let replies = replies_that(&rules, number, |reply| {
            refused_as(oauth, reply) == Some(rule.means)
        });
        if replies.is_empty() {
            return Err(format!("rule {} is never the first to fit", number + 1));
        }
        let named = |reply| (format!("rule {}", number + 1), reply, rule.means);
        all.extend(replies.into_iter().map(named));
    }
    let mut standard = |name: &str, reply: Reply| {
        let means = refused_as(oauth, &reply).unwrap_or(Means::Unclear);
        all.push((name.to_owned(), reply, means));
    };
    for code in [
        "invalid_grant",
        "invalid_client",
        "unauthorized_client",
        "invalid_request",
    ] {
        standard(code, refusal(oauth, code));
        let within = Reply {
            status: oauth.reply.success[0],
            ..refusal(oauth, code)
        };
        standard(&format!("{code} within a success"), within);
    }
    standard("dead", dead(oauth));
    for status in [400, 401, 403, 404, 429, 500, 503] {
        standard(&format!("status {status}"), Reply::json(status, &json!({})));
        standard(&format!("a page with {status}"), Reply::html(status));
    }
    let hard = Reply::json(429, &json!({})).with("retry-after", "7");
    standard("too many", hard);
    let away = Reply::json(307, &json!({})).with("location", "/stolen");
    standard("a redirection", away);
    Ok(all)
}

/// Replies that look like tokens and are none, with the code that says why.
pub(crate) fn unusable(oauth: &OAuth, good: &Reply) -> Vec<(&'static str, Reply, &'static str)> {
    let status = oauth.reply.success[0];
    let body: Value = serde_json::from_slice(&good.body).unwrap();
    let first = |pointers: &str| pointers.split('|').next().unwrap().to_owned();
    let with = |pointer: &str, value: Value| {
        let mut body = body.clone();
        if let Some(place) = body.pointer_mut(&first(pointer)) {
            *place = value;
        }
        Reply::json(status, &body)
    };
    let reply = &oauth.reply;
    let mut all = vec![
        ("a page", Reply::html(status), "reply_not_json"),
        (
            "half a reply",
            Reply::text(status, "application/json", "{\"access_token\":"),
            "reply_not_json",
        ),
        (
            "a form",
            Reply::text(
                status,
                "application/x-www-form-urlencoded",
                "access_token=canary",
            ),
            "reply_not_json",
        ),
        (
            "no token",
            with(&reply.access_token, Value::Null),
            "reply_without_token",
        ),
        (
            "an empty token",
            with(&reply.access_token, json!("")),
            "token_form",
        ),
        (
            "a token with a space",
            with(&reply.access_token, json!("canary token")),
            "token_form",
        ),
        (
            "a token with a line",
            with(&reply.access_token, json!("canary\ntoken")),
            "token_form",
        ),
        (
            "a long token",
            with(&reply.access_token, json!("c".repeat(20_000))),
            "token_form",
        ),
        (
            "a number",
            with(&reply.access_token, json!(7)),
            "token_form",
        ),
    ];
    if !reply.token_type.is_empty() {
        all.push((
            "another type",
            with(&reply.token_type, json!("mac")),
            "token_type",
        ));
    }
    if !reply.expires_in.is_empty() {
        for value in [json!(-1), json!(1e300), json!("soon"), json!(true)] {
            all.push((
                "another expiry",
                with(&reply.expires_in, value),
                "expires_in",
            ));
        }
    }
    if let Some(host) = &reply.host {
        all.push((
            "a host of others",
            with(host, json!("https://evil.example")),
            "host",
        ));
    }
    all
}

async fn understands_failures(case: &Case, oauth: &OAuth) -> Result<(), String> {
    let known = Known::of(case);
    // What is asked with was used before: the answers are told, not earned.
    let tokens = known.consent(case, oauth).await?;
    let ask = || {
        let request = if oauth.refresh.class != RefreshClass::None {
            let token = tokens.fields.get("refresh_token").unwrap_or("none");
            refresh_request(&known.provider, &known.config, &known.app, token)
        } else {
            let verifier = oauth.pkce.then_some("v");
            let code = case.played.last_code();
            code_request(
                &known.provider,
                &known.config,
                &known.app,
                &code,
                verifier,
                REDIRECT_URI,
            )
        };
        request.unwrap()
    };
    let renews = oauth.refresh.class != RefreshClass::None;
    let door = if renews { Door::Renew } else { Door::Token };
    for (name, reply, means) in failures(oauth)? {
        case.answers(door, Answer::With(reply.clone()));
        let answer = known
            .post(ask())
            .await
            .map_err(|fault| format!("{name}: {fault}"))?;
        let at = || {
            format!(
                "{name}: {} {}",
                reply.status,
                String::from_utf8_lossy(&reply.body)
            )
        };
        match known.read(&answer, None) {
            Ok(_) => return Err(format!("{}: tokens", at())),
            Err(refusal) if refusal.means != means => {
                return Err(format!("{}: {refusal:?}, not {means:?}", at()));
            }
            Err(refusal) if name == "too many" && refusal.retry_after != Some(7) => {
                return Err(format!("{}: {refusal:?}", at()));
            }
            Err(_) => {}
        }
    }
    let good = case.played.good_reply().unwrap();
    for (name, reply, code) in unusable(oauth, &good) {
        case.answers(door, Answer::With(reply));
        let answer = known
            .post(ask())
            .await
            .map_err(|fault| format!("{name}: {fault}"))?;
        match known.read(&answer, None) {
            Err(refusal) if refusal.code == code && refusal.means == Means::Unclear => {}
            other => return Err(format!("{name}: {:?}", other.map(|_| "tokens"))),
        }
    }
    let big = Reply {
        body: vec![b' '; 10 << 20],
        ..good
    };
    let ways = [
        ("10 MB", Answer::With(big), 10_000),
        ("a connection that is closed", Answer::Reset, 10_000),
        ("silence", Answer::Hang, 300),
    ];
    for (name, answer, within) in ways {
        case.answers(door, answer);
        let answer = known.post_within(ask(), Duration::from_millis(within));
        if answer.await.is_ok() {
            return Err(format!("{name}: an answer"));
        }
    }
    case.answers(door, Answer::WellPlayed);
    Ok(())
}

async fn takes_devices(case: &Case, oauth: &OAuth) -> Result<(), String> {
    let known = Known::of(case);
    let request = device_request(&known.provider, &known.config, &known.app);
    if oauth.device_url.is_none() {
        return match request {
            Err(OAuthError::NoDevice) => Ok(()),
            _ => Err("a device flow that is not there".to_owned()),
        };
    }
    let answer = known.post(request.unwrap()).await?;
    let device = read_device(answer.status().as_u16(), answer.body());
    let device = device.map_err(|r| format!("{r:?}; {}", case.refused()))?;
    let poll = || {
        let code = &device.device_code;
        device_poll_request(&known.provider, &known.config, &known.app, code).unwrap()
    };
    let waiting = known.post(poll()).await?;
    match known.read(&waiting, None).map_err(|refusal| refusal.means) {
        Err(Means::Pending) => {}
        other => return Err(format!("before consent: {:?}", other.map(|_| ()))),
    }
    case.played.approves_devices();
    let answer = known.post(poll()).await?;
    let tokens = known.read(&answer, None);
    tokens.map_err(|r| format!("after consent: {r:?}; {}", case.refused()))?;
    Ok(())
}

pub(crate) async fn consents_everywhere(case: Arc<Case>) -> Vec<String> {
    let mut modes = case.provider.modes.iter();
    let found = modes.find_map(|mode| Some((mode, mode.oauth.as_ref()?)));
    let Some((mode, oauth)) = found else {
        return Vec::new();
    };
    let results = [
        (
            "consent and renewal",
            consents_and_renews(&case, oauth).await,
        ),
        ("failures", understands_failures(&case, oauth).await),
        ("devices", takes_devices(&case, oauth).await),
    ];
    let faults = results.into_iter();
    let faults = faults.filter_map(|(what, result)| Some(format!("{what}: {}", result.err()?)));
    faults.map(|fault| case.at(mode, &fault)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_oauth_provider_is_asked_as_its_file_says_and_its_answers_mean_what_it_says() {
    each(cases(catalogue(), true).await, consents_everywhere).await;
}
