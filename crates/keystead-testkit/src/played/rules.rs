//! The rules of a provider file, read anew, and replies that meet exactly one of them.

use keystead_core::provider::{Conditions, ResultClass, Rule, Status};
use serde_json::{Map, Value, json};

/// What a played provider says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Headers, beside the length.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// JSON.
    pub fn json(status: u16, body: &Value) -> Reply {
        Reply::text(status, "application/json", &body.to_string())
    }

    /// Any text.
    pub fn text(status: u16, kind: &str, body: &str) -> Reply {
        Reply {
            status,
            headers: vec![("content-type".to_owned(), kind.to_owned())],
            body: body.as_bytes().to_vec(),
        }
    }

    /// The page that stands in front of many an API when it is in trouble.
    pub fn html(status: u16) -> Reply {
        let page = "<!doctype html><html><title>Out of order</title><p>Come back later.</html>";
        Reply::text(status, "text/html; charset=utf-8", page)
    }

    /// The same with a header more.
    pub fn with(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// The conditions of a rule. All that are given must hold.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Which status.
    pub status: Option<Status>,
    /// Where to look in a JSON body.
    pub pointer: Option<String>,
    /// This value.
    pub equals: Option<Value>,
    /// One of these.
    pub any_of: Option<Vec<Value>>,
    /// Text with this in it, letter case ignored.
    pub contains: Option<String>,
    /// A whole number from the first to the last.
    pub between: Option<[i64; 2]>,
    /// Text anywhere in the body, letter case ignored.
    pub text: Option<String>,
    /// A header that is there.
    pub header: Option<String>,
}

impl From<&Conditions> for Terms {
    fn from(given: &Conditions) -> Terms {
        Terms {
            status: given.status.clone(),
            pointer: given.pointer.clone(),
            equals: given.equals.clone(),
            any_of: given.any_of.clone(),
            contains: given.contains.clone(),
            between: given.between,
            text: given.text.clone(),
            header: given.header.clone(),
        }
    }
}

impl From<&Rule> for Terms {
    fn from(rule: &Rule) -> Terms {
        Terms::from(&rule.when)
    }
}

impl Terms {
    /// Whether the reply meets all of them.
    pub fn meet(&self, reply: &Reply) -> bool {
        let body = String::from_utf8_lossy(&reply.body).to_lowercase();
        let status = match &self.status {
            None => true,
            Some(Status::One(one)) => reply.status == *one,
            Some(Status::Many(many)) => many.contains(&reply.status),
            Some(Status::Class(class)) => {
                class.strip_suffix("xx") == Some(&(reply.status / 100).to_string())
            }
        };
        let header = self.header.as_ref().is_none_or(|name| {
            let given = reply.headers.iter();
            given.into_iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
        });
        let text = self.text.as_ref();
        let text = text.is_none_or(|text| body.contains(&text.to_lowercase()));
        let value = self.pointer.as_ref().is_none_or(|pointer| {
            let json: Option<Value> = serde_json::from_slice(&reply.body).ok();
            json.is_some_and(|json| found(&json, pointer).into_iter().any(|v| self.holds(v)))
        });
        status && header && text && value
    }

    fn holds(&self, value: &Value) -> bool {
        let contains = |part: &String| {
            let text = value.as_str().unwrap_or_default().to_lowercase();
            text.contains(&part.to_lowercase())
        };
        self.equals.as_ref().is_none_or(|v| v == value)
            && self.any_of.as_ref().is_none_or(|all| all.contains(value))
            && self.contains.as_ref().is_none_or(contains)
            && self
                .between
                .is_none_or(|[first, last]| value.as_i64().is_some_and(|n| first <= n && n <= last))
    }

    fn statuses(&self) -> Vec<u16> {
        match &self.status {
            None => vec![200, 400, 401, 403, 404, 409, 418, 422, 429, 500, 503],
            Some(Status::One(one)) => vec![*one],
            Some(Status::Many(many)) => many.clone(),
            Some(Status::Class(class)) => match class.as_str() {
                "2xx" => vec![200, 201, 299],
                "3xx" => vec![302, 399],
                "4xx" => vec![400, 401, 403, 404, 418, 429, 499],
                _ => vec![500, 502, 503, 529, 599],
            },
        }
    }

    fn values(&self) -> Vec<Value> {
        if let Some(value) = &self.equals {
            return vec![value.clone()];
        }
        if let Some(all) = &self.any_of {
            return all.clone();
        }
        if let Some([first, last]) = self.between {
            return vec![json!(first), json!(last)];
        }
        match &self.contains {
            Some(part) => vec![json!(format!("It says: {}!", part.to_uppercase()))],
            None => vec![json!("played"), json!({"played": true}), json!(1)],
        }
    }

    /// Bodies with that value, and with the text somewhere.
    fn bodies(&self, value: &Value) -> Vec<Vec<u8>> {
        let text = self.text.as_deref();
        let Some(pointer) = &self.pointer else {
            return match text {
                None => vec![b"{}".to_vec(), b"played".to_vec()],
                Some(text) => vec![
                    format!("<Error><Code>{text}</Code></Error>").into_bytes(),
                    json!({"error": {"message": format!("So: {text}.")}})
                        .to_string()
                        .into_bytes(),
                    json!({"error": text}).to_string().into_bytes(),
                    format!("{{{text}}}").into_bytes(),
                ],
            };
        };
        let mut body = at(pointer, value);
        if let (Some(text), Value::Object(members)) = (text, &mut body) {
            members.insert("played".to_owned(), json!(text));
        }
        vec![body.to_string().into_bytes()]
    }

    /// Replies that meet the terms: each status once, and each value once.
    fn replies(&self) -> Vec<Reply> {
        let header = self
            .header
            .iter()
            .map(|name| (name.clone(), "1".to_owned()));
        let headers: Vec<(String, String)> = header.collect();
        let mut replies = Vec::new();
        for status in self.statuses() {
            for value in self.values() {
                for body in self.bodies(&value) {
                    replies.push(Reply {
                        status,
                        headers: headers.clone(),
                        body,
                    });
                }
            }
        }
        replies
    }
}

/// Which rule decides: the first whose terms the reply meets.
pub fn decides(rules: &[Terms], reply: &Reply) -> Option<usize> {
    rules.iter().position(|rule| rule.meet(reply))
}

/// Replies that the rule of that number decides, and no earlier one: for each status that it
/// names and for each value. Empty where no reply comes as far as this rule.
pub fn replies_for(rules: &[Terms], number: usize) -> Vec<Reply> {
    replies_that(rules, number, |_| true)
}

/// The same of those replies that also hold to something else.
pub fn replies_that(rules: &[Terms], number: usize, also: impl Fn(&Reply) -> bool) -> Vec<Reply> {
    let mut all: Vec<Reply> = rules[number].replies();
    all.retain(|reply| decides(rules, reply) == Some(number) && also(reply));
    let (mut statuses, mut values) = (Vec::new(), Vec::new());
    all.retain(|reply| {
        // What no status is named for is driven by one.
        let fresh = rules[number].status.is_some() && !statuses.contains(&reply.status);
        let news = rules[number].pointer.is_some() && !values.contains(&reply.body);
        let first = statuses.is_empty();
        statuses.push(reply.status);
        values.push(reply.body.clone());
        fresh || news || first
    });
    all
}

/// Replies that fall short of one rule by one condition.
pub fn near_misses(terms: &Terms) -> Vec<Reply> {
    let Some(hit) = terms.replies().into_iter().next() else {
        return Vec::new();
    };
    let mut misses = Vec::new();
    if terms.status.is_some() {
        misses.push(Reply {
            status: 418,
            ..hit.clone()
        });
    }
    if terms.header.is_some() {
        misses.push(Reply {
            headers: Vec::new(),
            ..hit.clone()
        });
    }
    if terms.text.is_some() || terms.pointer.is_some() {
        misses.push(Reply {
            body: b"{}".to_vec(),
            ..hit.clone()
        });
    }
    if let Some(pointer) = &terms.pointer {
        let body = at(pointer, &json!("something else")).to_string();
        misses.push(Reply {
            body: body.into_bytes(),
            ..hit
        });
    }
    misses
}

/// What an answer means: by the first rule that it meets, else by its status.
pub fn meaning(rules: &[Rule], reply: &Reply) -> (ResultClass, Option<String>) {
    let terms: Vec<Terms> = rules.iter().map(Terms::from).collect();
    if let Some(number) = decides(&terms, reply) {
        return (rules[number].result, rules[number].message.clone());
    }
    let class = match reply.status {
        200..=299 => ResultClass::Ok,
        401 => ResultClass::BadKey,
        402 => ResultClass::Quota,
        403 => ResultClass::NoPerm,
        429 => ResultClass::Rate,
        500..=599 => ResultClass::Down,
        _ => ResultClass::Indeterminate,
    };
    (class, None)
}

/// A reply that says that all is well; `None` where no reply can.
pub fn healthy(rules: &[Rule]) -> Option<Reply> {
    let plain = Reply::json(200, &json!({}));
    if meaning(rules, &plain).0 == ResultClass::Ok {
        return Some(plain);
    }
    let terms: Vec<Terms> = rules.iter().map(Terms::from).collect();
    let good = (0..rules.len()).filter(|number| rules[*number].result == ResultClass::Ok);
    good.flat_map(|number| replies_for(&terms, number)).next()
}

/// Unescapes the segments of an RFC 6901 pointer.
pub(super) fn segments(pointer: &str) -> Vec<String> {
    let segments = pointer.split('/').skip(1);
    segments
        .map(|segment| segment.replace("~1", "/").replace("~0", "~"))
        .collect()
}

/// A document with the value at that place.
pub(super) fn at(pointer: &str, value: &Value) -> Value {
    let mut document = value.clone();
    for segment in segments(pointer).into_iter().rev() {
        document = match segment.parse::<usize>() {
            _ if segment == "*" => json!([{"other": true}, document]),
            Ok(index) if index < 8 => {
                let mut items = vec![json!({}); index];
                items.push(document);
                Value::Array(items)
            }
            _ => Value::Object(Map::from_iter([(segment, document)])),
        };
    }
    document
}

/// Puts a value into a document, beside what is there.
pub(super) fn put(document: &mut Value, pointer: &str, value: Value) {
    let mut place = document;
    for segment in segments(pointer) {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[segment];
    }
    *place = value;
}

/// The values at a pointer whose `*` is any element.
fn found<'v>(value: &'v Value, pointer: &str) -> Vec<&'v Value> {
    let mut places = vec![value];
    for segment in segments(pointer) {
        places = places
            .into_iter()
            .flat_map(|place| match place {
                Value::Array(items) if segment == "*" => items.iter().collect(),
                Value::Array(items) => {
                    let index: Option<usize> = segment.parse().ok();
                    index.and_then(|i| items.get(i)).into_iter().collect()
                }
                Value::Object(members) => members.get(&segment).into_iter().collect(),
                _ => Vec::new(),
            })
            .collect();
    }
    places
}
