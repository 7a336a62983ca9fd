//! Request paths that every parser on the way reads alike.
//!
//! What always holds here: an ambiguous path is refused, never normalised; what passes is sent byte
//! for byte. Ambiguous is what becomes a dot segment, an empty segment, a backslash, another slash
//! or a control character under up to three percent-decodings, since some server decodes that often.
//!
//! Deliberately not here: whether a path is within the provider's prefixes (the broker's policy).

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// Does not start with a slash, or is not a path alone.
    #[error("a path starts with a slash and holds no `?` or `#`")]
    Form,
    /// A character that belongs percent-encoded, or a broken percent-encoding.
    #[error("a path is made of ASCII without spaces, and its percent-encodings are whole")]
    Encoding,
    /// `.` or `..`, also with a path parameter or a space.
    #[error("a path holds no dot segments")]
    DotSegment,
    /// `//`.
    #[error("a path holds no empty segments")]
    EmptySegment,
    /// `%2f` or `%5c`, at any depth.
    #[error("a path holds no encoded slashes or backslashes")]
    EncodedSlash,
    /// `\`.
    #[error("a path holds no backslash")]
    Backslash,
    /// A control character.
    #[error("a path holds no control characters")]
    Control,
}

/// How often a path is decoded in search of a second meaning.
const DEPTH: usize = 3;

/// Checks the raw path of a request (without its query), as it came and as it will be sent.
///
/// # Errors
/// [`PathFault`] for the first ambiguity found.
pub fn check(raw_path: &str) -> Result<(), PathFault> {
    let raw = raw_path.as_bytes();
    if raw.first() != Some(&b'/') || raw.iter().any(|b| matches!(b, b'?' | b'#')) {
        return Err(PathFault::Form);
    }
    check_text(raw)?;
    if raw.iter().any(|b| !b.is_ascii_graphic()) {
        return Err(PathFault::Encoding);
    }
    if !raw.contains(&b'%') {
        return Ok(());
    }
    if raw
        .iter()
        .zip(0..)
        .any(|(&b, at)| b == b'%' && encoded_at(raw, at).is_none())
    {
        return Err(PathFault::Encoding);
    }
    let mut text = raw.to_vec();
    for _ in 0..DEPTH {
        let decoded = decode(&text);
        if decoded == text {
            break;
        }
        // Overlong forms of `.` and `/` are not UTF-8, and were read as such by some servers.
        let Ok(chars) = str::from_utf8(&decoded) else {
            return Err(PathFault::Encoding);
        };
        if chars.chars().any(char::is_control) {
            return Err(PathFault::Control);
        }
        check_text(&decoded)?;
        text = decoded;
    }
    Ok(())
}

fn check_text(text: &[u8]) -> Result<(), PathFault> {
    if text.iter().any(u8::is_ascii_control) {
        return Err(PathFault::Control);
    }
    if text.contains(&b'\\') {
        return Err(PathFault::Backslash);
    }
    if text.contains(&b'%')
        && (0..text.len()).any(|at| matches!(encoded_at(text, at), Some(b'/' | b'\\')))
    {
        return Err(PathFault::EncodedSlash);
    }
    let segments = text.strip_prefix(b"/").unwrap_or(text);
    let mut segments = segments.split(|&b| b == b'/').peekable();
    while let Some(segment) = segments.next() {
        // The last segment may be empty: `/v1/`.
        if segment.is_empty() && segments.peek().is_some() {
            return Err(PathFault::EmptySegment);
        }
        // Some servers cut path parameters (`/..;x/`, `/;../`) or trim spaces before they resolve dots.
        let dots = |part: &[u8]| matches!(part.trim_ascii(), b"." | b"..");
        if segment.contains(&b'.') && segment.split(|&b| b == b';').any(dots) {
            return Err(PathFault::DotSegment);
        }
    }
    Ok(())
}

/// The byte that the percent-encoding at `at` stands for.
fn encoded_at(text: &[u8], at: usize) -> Option<u8> {
    let hex = |b: u8| char::from(b).to_digit(16);
    match text.get(at..at + 3) {
        Some(&[b'%', high, low]) => u8::try_from(hex(high)? << 4 | hex(low)?).ok(),
        _ => None,
    }
}

fn decode(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        match encoded_at(text, at) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(text[at]);
                at += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Vectors {
        accepted: Vec<String>,
        refused: Vec<String>,
    }

    #[test]
    fn the_path_vectors_hold() {
        let text = include_str!("../../../vectors/hosts/paths.json");
        let vectors: Vectors = serde_json::from_str(text).unwrap();
        for path in vectors.accepted {
            assert_eq!(check(&path), Ok(()), "{path:?}");
        }
        for path in vectors.refused {
            assert!(check(&path).is_err(), "{path:?} must be refused");
        }
    }

    #[test]
    fn a_fault_says_what_is_wrong() {
        for (path, fault) in [
            ("v1", PathFault::Form),
            ("/a?b", PathFault::Form),
            ("/%zz", PathFault::Encoding),
            ("/a/../b", PathFault::DotSegment),
            ("/a//b", PathFault::EmptySegment),
            ("/a%252Fb", PathFault::EncodedSlash),
            ("/a\\b", PathFault::Backslash),
            ("/a%0d%0ab", PathFault::Control),
        ] {
            assert_eq!(check(path), Err(fault), "{path:?}");
        }
    }

    fn encode(text: &str, times: usize) -> String {
        (0..times).fold(text.to_owned(), |text, _| {
            text.bytes().map(|b| format!("%{b:02x}")).collect()
        })
    }

    proptest! {
        #[test]
        fn an_attack_is_refused_however_often_it_is_encoded(
            attack in prop::sample::select(vec!["..", ".", "../..", "..;", ";..", "\\", "\r\n", "\0", "a/b"]),
            times in 1_usize..=3, before in "[a-z]{1,5}",
        ) {
            let path = format!("/{before}/{}/x", encode(attack, times));
            prop_assert!(check(&path).is_err(), "{}", path);
        }

        #[test]
        fn an_ordinary_path_passes(segments in prop::collection::vec("[A-Za-z0-9_~:@!$&'()*+,=-]{1,12}", 0..6)) {
            let path = format!("/{}", segments.join("/"));
            prop_assert_eq!(check(&path), Ok(()));
        }

        #[test]
        fn what_passes_keeps_its_segments_under_decoding(path in "/[a-z%.;/2-9efEF5c\\\\]{0,24}") {
            if check(&path).is_ok() {
                let slashes = |text: &[u8]| text.iter().filter(|&&b| b == b'/').count();
                let mut text = path.into_bytes();
                let count = slashes(&text);
                for _ in 0..=DEPTH {
                    let has_dots = text.split(|&b| b == b'/').any(|s| s == b"." || s == b"..");
                    prop_assert!(!has_dots);
                    prop_assert_eq!(slashes(&text), count);
                    text = decode(&text);
                    if text.contains(&b'%') && decode(&text) != text { continue }
                }
            }
        }
    }
}
