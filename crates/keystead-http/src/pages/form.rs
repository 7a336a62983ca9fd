//! A form that a browser sent: `application/x-www-form-urlencoded`, or `multipart/form-data`
//! (RFC 7578) where it holds a file.
//!
//! What always holds: values are text, wiped on drop; what is no form of either kind is malformed;
//! nothing of a value is repeated in a fault.

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use keystead_broker::Error;
use zeroize::Zeroizing;

/// The most parts that a form has.
const PARTS_MOST: usize = 200;

/// The fields of a form, in their order.
pub(crate) struct Form(Vec<(String, Zeroizing<String>)>);

impl Form {
    /// Reads a body by its declared type.
    pub(crate) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Form, Error> {
        let declared = headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let (kind, parameters) = declared
            .unwrap_or_default()
            .split_once(';')
            .unwrap_or((declared.unwrap_or_default(), ""));
        let fields = match kind.trim().to_ascii_lowercase().as_str() {
            "application/x-www-form-urlencoded" => Some(urlencoded(body)),
            "multipart/form-data" => {
                boundary(parameters).and_then(|boundary| multipart(body, boundary))
            }
            _ => None,
        };
        fields
            .filter(|fields| fields.len() <= PARTS_MOST)
            .map(Form)
            .ok_or_else(|| Error::Malformed("the form cannot be read".into()))
    }

    /// A field's text; empty where it is not there.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0
            .iter()
            .find(|(other, _)| other == name)
            .map_or("", |(_, value)| value.as_str())
    }

    /// Whether a box was ticked.
    pub(crate) fn ticked(&self, name: &str) -> bool {
        !self.text(name).is_empty()
    }
}

fn urlencoded(body: &[u8]) -> Vec<(String, Zeroizing<String>)> {
    url::form_urlencoded::parse(body)
        .map(|(name, value)| (name.into_owned(), Zeroizing::new(value.into_owned())))
        .collect()
}

fn boundary(parameters: &str) -> Option<&str> {
    let (_, rest) = parameters
        .split(';')
        .filter_map(|one| one.trim().split_once('='))
        .find(|(name, _)| name.eq_ignore_ascii_case("boundary"))?;
    let boundary = rest.trim_matches('"');
    (1..=70).contains(&boundary.len()).then_some(boundary)
}

/// `--boundary CRLF headers CRLF CRLF value CRLF --boundary … --boundary--`
fn multipart(body: &[u8], boundary: &str) -> Option<Vec<(String, Zeroizing<String>)>> {
    let first = format!("--{boundary}");
    let between = format!("\r\n--{boundary}");
    let mut rest = body.strip_prefix(first.as_bytes())?;
    let mut fields = Vec::new();
    while !rest.starts_with(b"--") {
        rest = rest.strip_prefix(b"\r\n")?;
        let head_end = find(rest, b"\r\n\r\n")?;
        let head = std::str::from_utf8(&rest[..head_end]).ok()?;
        rest = &rest[head_end + 4..];
        let end = find(rest, between.as_bytes())?;
        // What is no text is no credential; it is read as one that will be refused.
        let value = String::from_utf8_lossy(&rest[..end]).into_owned();
        fields.push((name_of(head)?, Zeroizing::new(value)));
        rest = &rest[end + between.len()..];
        if fields.len() > PARTS_MOST {
            return None;
        }
    }
    Some(fields)
}

/// The name in a part's `Content-Disposition: form-data; name="…"`.
fn name_of(head: &str) -> Option<String> {
    let disposition = head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-disposition")
            .then_some(value)
    })?;
    let (_, rest) = disposition.split_once(" name=\"")?;
    Some(rest.split('"').next()?.to_owned())
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len())
        .position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &str, body: &str) -> Option<Form> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, kind.parse().unwrap());
        Form::read(&headers, body.as_bytes()).ok()
    }

    #[test]
    fn a_form_is_read_as_browsers_send_it() {
        let form = read(
            "application/x-www-form-urlencoded; charset=UTF-8",
            "name=My+key%21&empty=&tick=on",
        )
        .unwrap();
        assert_eq!(form.text("name"), "My key!");
        assert_eq!((form.text("empty"), form.text("missing")), ("", ""));

        assert!(form.ticked("tick") && !form.ticked("empty"));

        let body = "--x\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nMy key\r\n\
            --x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.json\"\r\nContent-Type: application/json\r\n\r\n{\r\n--y}\r\n--x--\r\n";
        let form = read("multipart/form-data; boundary=x", body).unwrap();
        assert_eq!(form.text("name"), "My key");
        assert_eq!(form.text("file"), "{\r\n--y}");
    }

    #[test]
    fn what_is_no_form_is_refused() {
        for (kind, body) in [
            ("application/json", "{}"),
            ("text/plain", "csrf=x"),
            ("multipart/form-data", "--x--"),
            ("multipart/form-data; boundary=", "----"),
            ("multipart/form-data; boundary=x", ""),
            ("multipart/form-data; boundary=x", "--x"),
            ("multipart/form-data; boundary=x", "--x\r\n"),
            (
                "multipart/form-data; boundary=x",
                "--x\r\nno head\r\n\r\nv\r\n--x--",
            ),
            (
                "multipart/form-data; boundary=x",
                "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nnever ends",
            ),
        ] {
            assert!(read(kind, body).is_none(), "{kind}: {body}");
        }
        let many = "a=1&".repeat(PARTS_MOST + 1);
        assert!(read("application/x-www-form-urlencoded", &many).is_none());
    }
}
