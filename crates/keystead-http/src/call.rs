//! One request of the API, read strictly: the caller first, then path, query and body.
//!
//! What always holds: exactly one `Authorization: Bearer`, else nobody; unknown query parameters
//! and unknown fields are refused by name; what is refused here leaves an entry; a fault's text
//! never repeats a value that was sent; the body's buffer is zeroised.

use std::str::FromStr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, IF_MATCH};
use http::request::Parts;
use http_body_util::BodyExt;
use keystead_broker::{Context, Error, FieldFault};
use keystead_core::action::{Action, TargetKind};
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::face::{Arrival, Shared};
use crate::problem::Fault;

/// Bytes of a body: a credential of 64 KiB, escaped in the worst ordinary way, and what is around it.
pub(crate) const MAX_BODY: usize = 256 * 1024;
/// A larger body is read on, and thrown away, up to this, so that the sender sees the answer.
const DRAIN: usize = 4 * 1024 * 1024;
/// From the head's end to the body's.
const BODY_TIME: Duration = Duration::from_secs(30);

const TENANT: HeaderName = HeaderName::from_static("keystead-tenant");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What a route does to what, as its entries say it.
#[derive(Clone, Copy)]
pub(crate) struct Doing(pub(crate) Action, pub(crate) TargetKind);

/// Before it is known what is asked for.
pub(crate) const DOOR: Doing = Doing(Action::Info, TargetKind::Request);

/// An API request whose caller is proven. Its methods take `&mut self`: a body is not `Sync`, so a
/// shared borrow could not be held over an await.
pub(crate) struct Call {
    pub(crate) shared: Shared,
    pub(crate) ctx: Context,
    parts: Parts,
    body: Body,
}

impl FromRequest<Shared> for Call {
    type Rejection = Fault;

    async fn from_request(request: Request, shared: &Shared) -> Result<Call, Fault> {
        let (parts, body) = request.into_parts();
        let arrival = *parts
            .extensions
            .get::<Arrival>()
            .ok_or_else(|| Error::internal("a request without an id"))?;
        let token = bearer(&parts.headers);
        let ctx = identify(shared, token, &parts.headers, arrival, DOOR).await?;
        Ok(Call {
            shared: shared.clone(),
            ctx,
            parts,
            body,
        })
    }
}

/// Proves the caller. Naming two tenants, or none that is readable, is no way of naming none; but
/// who asks comes first.
pub(crate) async fn identify(
    shared: &Shared,
    token: Option<&str>,
    headers: &HeaderMap,
    arrival: Arrival,
    Doing(action, on): Doing,
) -> Result<Context, Fault> {
    let (broker, request, address) = (&shared.broker, arrival.request, Some(arrival.address));
    let tenant = only(headers, &TENANT);
    let ctx = broker.identify(token, tenant, request, address).await?;
    if tenant.is_none() && headers.contains_key(&TENANT) {
        let error = Error::Malformed("send one Keystead-Tenant header with one tenant's id".into());
        broker.refuse(&ctx, action, on, None, &error).await;
        return Err(error.into());
    }
    Ok(ctx)
}

/// The only value of a header; `None` where it is not there, several times there, or not text.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// The token of the one `Authorization: Bearer`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = only(headers, &AUTHORIZATION)?.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

impl Call {
    /// Leaves an entry for a request that is refused here.
    pub(crate) async fn refuse(
        &mut self,
        Doing(action, on): Doing,
        target: Option<&str>,
        fault: Fault,
    ) -> Fault {
        let stand_in = match &fault {
            Fault::Broker(_) => None,
            Fault::Method => Some(Error::Malformed("method".into())),
            Fault::MediaType => Some(Error::Malformed("media type".into())),
            Fault::SlowBody => Some(Error::Malformed("slow body".into())),
            Fault::Forged => Some(Error::Malformed("forged".into())),
        };
        let error = match (&fault, &stand_in) {
            (Fault::Broker(error), _) | (_, Some(error)) => error,
            (_, None) => return fault,
        };
        self.shared
            .broker
            .refuse(&self.ctx, action, on, target, error)
            .await;
        fault
    }

    /// The path, as it was sent.
    pub(crate) fn path(&self) -> &str {
        self.parts.uri.path()
    }

    /// The headers, as they were sent.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// Passes on what was read, or leaves an entry for why it could not be.
    pub(crate) async fn check<T>(
        &mut self,
        doing: Doing,
        read: Result<T, Error>,
    ) -> Result<T, Fault> {
        match read {
            Ok(read) => Ok(read),
            Err(error) => Err(self.refuse(doing, None, error.into()).await),
        }
    }

    /// The `{id}` of the path. What is no id of that kind is the id of nothing.
    pub(crate) async fn id<T: FromStr>(
        &mut self,
        doing: Doing,
        what: &'static str,
    ) -> Result<T, Fault> {
        let text = self.path_text("id").await;
        match text.parse() {
            Ok(id) => Ok(id),
            Err(_) => Err(self
                .refuse(doing, Some(&text), Error::NotFound { what }.into())
                .await),
        }
    }

    /// A part of the path as it was sent, percent-decoded.
    pub(crate) async fn path_text(&mut self, name: &str) -> String {
        match RawPathParams::from_request_parts(&mut self.parts, &()).await {
            Ok(params) => params
                .iter()
                .find(|(own, _)| *own == name)
                .map(|(_, value)| value.to_owned())
                .unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    /// Reads the query, of which these parameters are known.
    pub(crate) async fn query<T>(
        &mut self,
        doing: Doing,
        known: &[&'static str],
        read: impl FnOnce(&Query) -> Result<T, Error>,
    ) -> Result<T, Fault> {
        let query = Query::parse(self.parts.uri.query().unwrap_or_default(), known);
        self.check(doing, query.and_then(|query| read(&query)))
            .await
    }

    /// Takes no query.
    pub(crate) async fn no_query(&mut self, doing: Doing) -> Result<(), Fault> {
        self.query(doing, &[], |_| Ok(())).await
    }

    /// The revision that a change is for.
    pub(crate) fn if_match(&self) -> Option<String> {
        // More than one value, or none readable, can match nothing.
        let all: Vec<_> = self.parts.headers.get_all(IF_MATCH).iter().collect();
        (!all.is_empty()).then(|| {
            only(&self.parts.headers, &IF_MATCH)
                .unwrap_or_default()
                .to_owned()
        })
    }

    /// The key under which a repeated request is the same request.
    pub(crate) async fn idempotency_key(&mut self, doing: Doing) -> Result<Option<String>, Fault> {
        if !self.parts.headers.contains_key(&IDEMPOTENCY_KEY) {
            return Ok(None);
        }
        let key = only(&self.parts.headers, &IDEMPOTENCY_KEY)
            .map(|key| Some(key.to_owned()))
            .ok_or_else(|| Error::Malformed("send one Idempotency-Key, as text".into()));
        self.check(doing, key).await
    }

    /// Reads the body as JSON of the one accepted form.
    pub(crate) async fn body<T: DeserializeOwned>(&mut self, doing: Doing) -> Result<T, Fault> {
        let read = match self.read_body().await {
            Ok(bytes) => read_json(&bytes).map_err(Fault::from),
            Err(fault) => Err(fault),
        };
        match read {
            Ok(read) => Ok(read),
            Err(fault) => Err(self.refuse(doing, None, fault).await),
        }
    }

    async fn read_body(&mut self) -> Result<Zeroizing<Vec<u8>>, Fault> {
        if !is_json(&self.parts.headers) {
            return Err(Fault::MediaType);
        }
        let body = std::mem::take(&mut self.body);
        read_bytes(&self.parts.headers, body, DRAIN).await
    }
}

/// Reads a body of at most `MAX_BODY`; a larger one is read on up to `drain`.
pub(crate) async fn read_bytes(
    headers: &HeaderMap,
    body: Body,
    drain: usize,
) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let said = only(headers, &CONTENT_LENGTH).and_then(|length| length.parse().ok());
    within(BODY_TIME, collect(body, said, drain)).await
}

async fn within<T>(
    time: Duration,
    read: impl Future<Output = Result<T, Error>>,
) -> Result<T, Fault> {
    match tokio::time::timeout(time, read).await {
        Ok(read) => Ok(read?),
        Err(_) => Err(Fault::SlowBody),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = only(headers, &CONTENT_TYPE) else {
        return false;
    };
    value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .eq_ignore_ascii_case("application/json")
}

async fn collect(
    mut body: Body,
    said: Option<usize>,
    drain: usize,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let too_large = || Error::TooLarge {
        most: MAX_BODY as u64,
    };
    if said.is_some_and(|said| said > drain) {
        return Err(too_large());
    }
    // Never grown: a buffer that moves leaves a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(said.unwrap_or(MAX_BODY).min(MAX_BODY)));
    let mut received = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Error::Malformed("the body ends early".into()))?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        received += data.len();
        if received > drain {
            break;
        }
        if received <= MAX_BODY {
            bytes.extend_from_slice(data);
        }
    }
    if received > MAX_BODY {
        Err(too_large())
    } else {
        Ok(bytes)
    }
}

/// Reads JSON: what is no JSON is malformed; what is no `T` is invalid, at a path.
pub(crate) fn read_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    // A type would also be read from a list of its fields' values, in their order.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(Error::field("", "expected an object"));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let read = serde_path_to_error::deserialize(&mut json).map_err(|fault| {
        let path = fault.path().to_string();
        let inner = fault.into_inner();
        if inner.is_data() {
            let path = if path == "." { String::new() } else { path };
            Error::Invalid(vec![FieldFault::new(
                path,
                without_values(&inner.to_string()),
            )])
        } else {
            Error::Malformed(
                format!(
                    "no JSON at line {}, column {}",
                    inner.line(),
                    inner.column()
                )
                .into(),
            )
        }
    })?;
    json.end()
        .map_err(|_| Error::Malformed("something follows the JSON".into()))?;
    Ok(read)
}

/// What serde says of a wrong value, without the value, which may be a credential: only texts that
/// come from our types are let through, and the last `expected …` is always one.
fn without_values(said: &str) -> String {
    let said = said.split(" at line ").next().unwrap_or_default();
    if let Some(at) = said.rfind(", expected ") {
        return if said.starts_with("unknown field") {
            format!("no such field: {}", &said[at + 2..])
        } else {
            said[at + 2..].to_owned()
        };
    }
    let own = [
        "missing field `",
        "duplicate field `",
        "not an id of the form ",
    ];
    if own.iter().any(|start| said.starts_with(start)) {
        return said.to_owned();
    }
    "not what this field takes: see /openapi.json".to_owned()
}

/// A query whose parameters are all known and there once.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str, known: &[&'static str]) -> Result<Query, Error> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
            let path = || name.to_string();
            if !known.contains(&&*name) {
                let message = if known.is_empty() {
                    "this route takes no query".to_owned()
                } else {
                    format!("no such parameter: use {}", known.join(", "))
                };
                return Err(Error::field(path(), message));
            }
            if pairs.iter().any(|(other, _)| *other == name) {
                return Err(Error::field(path(), "send it once"));
            }
            if value.chars().any(char::is_control) {
                return Err(Error::field(path(), "must be without control characters"));
            }
            pairs.push((name.into_owned(), value.into_owned()));
        }
        Ok(Query(pairs))
    }

    /// A parameter as text.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.0
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.clone())
    }

    /// A parameter read as something; `takes` says what it takes.
    pub(crate) fn read<T: FromStr>(&self, name: &str, takes: &str) -> Result<Option<T>, Error> {
        self.map(name, takes, |text| text.parse().ok())
    }

    /// A parameter read by a function.
    pub(crate) fn map<T>(
        &self,
        name: &str,
        takes: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        read(&text)
            .map(Some)
            .ok_or_else(|| Error::field(name, format!("expected {takes}")))
    }

    /// The page size: 1 to 200, 50 if not said.
    pub(crate) fn limit(&self) -> Result<u32, Error> {
        let limit = self.map("limit", "a number from 1 to 200", |text| {
            text.parse().ok().filter(|limit| (1..=200).contains(limit))
        })?;
        Ok(limit.unwrap_or(50))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Thing {
        name: String,
        #[serde(default)]
        config: serde_json::Map<String, serde_json::Value>,
        role: Option<keystead_core::action::Role>,
        tenant: Option<keystead_core::ids::TenantId>,
    }

    fn fault(text: &str) -> (String, String) {
        match read_json::<Thing>(text.as_bytes()) {
            Err(Error::Invalid(mut faults)) => {
                let fault = faults.remove(0);
                (fault.path, fault.message)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_wrong_field_is_named_by_its_path_and_its_value_is_never_repeated() {
        for text in [
            r#"{"name": {"a": "canary"}}"#,
            r#"{"name": "x", "config": "canary, expected nothing"}"#,
            r#"{"name": "x", "role": "canary"}"#,
            r#"{"name": "x", "tenant": "canary"}"#,
            r#"["canary"]"#,
            r#""canary""#,
        ] {
            let (path, message) = fault(text);
            assert!(
                !path.contains("canary") && !message.contains("canary"),
                "{path}: {message}"
            );
        }
        assert_eq!(fault(r#"{"name": 7}"#).0, "name");
        assert_eq!(fault(r#"{"name": "x", "role": "boss"}"#).0, "role");
        assert!(
            fault(r#"{"name": "x", "role": "boss"}"#)
                .1
                .contains("`owner`")
        );
        assert!(
            fault(r#"{"name": "x", "tenant": "ten_1"}"#)
                .1
                .contains("ten_…")
        );
        assert!(fault("{}").1.contains("`name`"));
    }

    #[test]
    fn an_unknown_field_is_refused_with_the_known_ones() {
        let (path, message) = fault(r#"{"name": "x", "conifg": {}}"#);
        assert_eq!(path, "conifg");
        assert!(
            message.contains("no such field") && message.contains("`config`"),
            "{message}"
        );
    }

    #[test]
    fn what_is_no_json_is_malformed() {
        for text in [
            "",
            "{",
            r#"{"name": "x"} more"#,
            r#"{"name": "x",}"#,
            "\u{feff}{}",
        ] {
            assert!(
                matches!(
                    read_json::<Thing>(text.as_bytes()),
                    Err(Error::Malformed(_))
                ),
                "{text}"
            );
        }
        let deep = "[".repeat(100_000);
        assert!(read_json::<serde_json::Value>(deep.as_bytes()).is_err());
    }

    #[test]
    fn exactly_one_bearer_token_is_taken() {
        let headers = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            headers
        };
        assert_eq!(bearer(&headers(&["Bearer a"])), Some("a"));
        assert_eq!(bearer(&headers(&["bearer a"])), Some("a"));
        for wrong in [
            &[][..],
            &["a"],
            &["Basic a"],
            &["Bearer"],
            &["Bearer "],
            &["Bearer a", "Bearer a"],
            &["Bearer a", "Basic b"],
        ] {
            assert_eq!(bearer(&headers(wrong)), None, "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let pieces = futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
        let read = within(
            Duration::from_millis(10),
            collect(Body::from_stream(pieces), None, DRAIN),
        );
        assert!(matches!(read.await, Err(Fault::SlowBody)));
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit_whatever_it_says_of_itself() {
        let whole = vec![b'x'; MAX_BODY];
        let read = collect(Body::from(whole.clone()), None, DRAIN).await;
        assert_eq!(read.unwrap().len(), MAX_BODY);
        for said in [None, Some(1), Some(DRAIN + 1)] {
            let more = [whole.as_slice(), b"x"].concat();
            let read = collect(Body::from(more), said, DRAIN).await;
            assert!(matches!(read, Err(Error::TooLarge { .. })), "{said:?}");
        }
    }

    #[test]
    fn a_query_is_strict() {
        assert!(Query::parse("", &[]).is_ok());
        for control in ["%00", "a%0ab", "%C2%85", "%7f"] {
            let Err(Error::Invalid(faults)) = Query::parse(&format!("type={control}"), &["type"])
            else {
                panic!("{control}");
            };
            assert_eq!(faults[0].path, "type");
        }
        assert!(Query::parse("access_token=x", &[]).is_err());
        assert!(Query::parse("limit=1&limit=2", &["limit"]).is_err());
        assert_eq!(
            Query::parse("limit=3", &["limit"])
                .unwrap()
                .limit()
                .unwrap(),
            3
        );
        assert!(
            Query::parse("limit=201", &["limit"])
                .unwrap()
                .limit()
                .is_err()
        );
        assert!(
            Query::parse("limit=0", &["limit"])
                .unwrap()
                .limit()
                .is_err()
        );
    }
}
