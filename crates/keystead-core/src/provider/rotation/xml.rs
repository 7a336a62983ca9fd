//! XML as AWS writes it, read into the same values as JSON: an element is an object of its
//! children, or its text; one whose children are all called `member` is a list.
//!
//! What always holds: no entity but the five of XML itself and characters by number, no DTD, no
//! CDATA, no element twice in one parent; texts are wiped like JSON's. Attributes are skipped.

use zeroize::Zeroizing;

use super::super::oauth::Json;

const DEEPEST: usize = 32;

/// The whole text; its root is a member of what comes back.
pub(super) fn read(text: &[u8]) -> Option<Json> {
    let mut rest = std::str::from_utf8(text).ok()?.trim_start();
    if let Some(declared) = rest.strip_prefix("<?xml") {
        rest = declared.split_once("?>")?.1.trim_start();
    }
    let (name, root, after) = element(rest, 0)?;
    after
        .trim()
        .is_empty()
        .then(|| Json::Object(vec![(name.to_owned(), root)]))
}

/// An element: its name, what is in it, and what follows it.
fn element(text: &str, depth: usize) -> Option<(&str, Json, &str)> {
    let (tag, mut rest) = text.strip_prefix('<')?.split_once('>')?;
    let open = tag.strip_suffix('/');
    let name = open.unwrap_or(tag).split_ascii_whitespace().next()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if depth > DEEPEST || tag.contains('<') || !name.bytes().all(plain) {
        return None;
    }
    if open.is_some() {
        return Some((name, Json::Text(Zeroizing::default()), rest));
    }
    let mut children: Vec<(String, Json)> = Vec::new();
    let end = loop {
        let at = rest.find('<')?;
        let (before, tag) = rest.split_at(at);
        if let Some(end) = tag.strip_prefix("</") {
            let (closed, after) = end.split_once('>')?;
            if closed.trim_end() != name {
                return None;
            }
            if children.is_empty() {
                return Some((name, Json::Text(plain_text(before)?), after));
            }
            break (before, after);
        }
        if !before.trim().is_empty() {
            return None;
        }
        let (child, value, after) = element(tag, depth + 1)?;
        children.push((child.to_owned(), value));
        rest = after;
    };
    let (between, after) = end;
    if !between.trim().is_empty() {
        return None;
    }
    if children.iter().all(|(name, _)| name == "member") {
        let items = children.into_iter().map(|(_, value)| value).collect();
        return Some((name, Json::List(items), after));
    }
    let twice = |(at, (name, _)): (usize, &(String, Json))| {
        children[..at].iter().any(|(other, _)| other == name)
    };
    if children.iter().enumerate().any(twice) {
        return None;
    }
    Some((name, Json::Object(children), after))
}

/// A text, its entities resolved.
fn plain_text(text: &str) -> Option<Zeroizing<String>> {
    let mut plain = Zeroizing::new(String::with_capacity(text.len()));
    let mut rest = text;
    while let Some((before, entity)) = rest.split_once('&') {
        plain.push_str(before);
        let (name, after) = entity.split_once(';')?;
        plain.push(match name {
            "amp" => '&',
            "apos" => '\'',
            "gt" => '>',
            "lt" => '<',
            "quot" => '"',
            _ => {
                let number = name.strip_prefix('#')?;
                let code = match number.strip_prefix('x') {
                    Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                    None => number.parse().ok()?,
                };
                char::from_u32(code)?
            }
        });
        rest = after;
    }
    plain.push_str(rest);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, pointer: &str) -> Option<String> {
        let read = read(text.as_bytes())?;
        read.at(pointer)?.as_text().map(str::to_owned)
    }

    #[test]
    fn xml_is_read_as_aws_writes_it() {
        let text = "<?xml version=\"1.0\"?>\n<R xmlns=\"https://x.example/\">\n <A><B>1&amp;2&#x2F;</B><C/></A>\n <L>\n  <member><Id>a</Id></member>\n  <member><Id>b</Id></member></L></R>\n";
        assert_eq!(at(text, "/R/A/B").as_deref(), Some("1&2/"));
        assert_eq!(at(text, "/R/A/C").as_deref(), Some(""));
        assert_eq!(at(text, "/R/L/1/Id").as_deref(), Some("b"));
        assert_eq!(at(text, "/R/L/2/Id"), None);
        assert_eq!(
            at("<R><L><member>x</member></L></R>", "/R/L/0").as_deref(),
            Some("x")
        );
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_not_read() {
        let deep = format!("{}{}", "<a>".repeat(99), "</a>".repeat(99));
        for text in [
            "",
            "<a>",
            "<a></b>",
            "<a><b>1</b><b>2</b></a>",
            "<a>text<b/></a>",
            "<a><b/>text</a>",
            "<a>&evil;</a>",
            "<a><![CDATA[x]]></a>",
            "<!DOCTYPE a [<!ENTITY e \"x\">]><a>&e;</a>",
            "<a/><b/>",
            "<a <b/>></a>",
            &deep,
        ] {
            assert!(read(text.as_bytes()).is_none(), "{text}");
        }
        assert!(read(b"<a>\xff</a>").is_none());
    }
}
