//! Taking a credential out of what an upstream sends back.
//!
//! What always holds here: each exact occurrence of a secret, as it is, in base64 (at any offset of
//! a longer text), percent-encoded or JSON-escaped, is masked at its own length (so lengths and
//! framing stay true), also across the borders of chunks, and so is the beginning of one with which
//! a body ends; nothing is held back but bytes which may be the beginning of one.
//!
//! Deliberately not here: encodings that an upstream might invent to get its own key out.

use std::sync::Arc;

use base64::Engine;
use base64::alphabet;
use base64::engine::{GeneralPurpose, general_purpose::NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use zeroize::{Zeroize, Zeroizing};

/// A value that must not come back.
pub type Secret = Zeroizing<Vec<u8>>;

/// Is called at most once per response, when something was redacted in it.
pub type OnRedacted = Arc<dyn Fn() + Send + Sync>;

/// Shorter ones are left alone: they would be found everywhere, and protect nothing.
const SHORTEST: usize = 8;
const MASK: &[u8] = b"[redacted]";

/// Looks for secrets in a stream.
pub(super) struct Scanner {
    needles: Vec<Secret>,
    /// Whether a needle starts with this byte.
    first: [bool; 256],
    longest: usize,
    held: Zeroizing<Vec<u8>>,
    redacted: bool,
}

impl Scanner {
    /// `None` if there is nothing to look for.
    pub(super) fn new(secrets: &[Secret]) -> Option<Box<Self>> {
        let mut needles: Vec<Secret> = Vec::with_capacity(secrets.len() * 4);
        for secret in secrets {
            add_forms(secret, &mut needles);
        }
        let mut first = [false; 256];
        for needle in &needles {
            first[usize::from(needle[0])] = true;
        }
        let longest = needles.iter().map(|needle| needle.len()).max()?;
        let held = Zeroizing::default();
        Some(Box::new(Self {
            needles,
            first,
            longest,
            held,
            redacted: false,
        }))
    }

    pub(super) fn has_redacted(&self) -> bool {
        self.redacted
    }

    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// The next bytes of the stream that may be passed on, masked.
    pub(super) fn scan(&mut self, chunk: Bytes) -> Bytes {
        if self.held.is_empty() {
            let (found, hold_from) = self.look(&chunk, false);
            if found.is_empty() {
                self.held.extend_from_slice(&chunk[hold_from..]);
                return chunk.slice(..hold_from);
            }
            return self.masked(chunk.to_vec(), &found, hold_from);
        }
        let mut text = std::mem::take(&mut *self.held);
        text.extend_from_slice(&chunk);
        let (found, hold_from) = self.look(&text, false);
        self.masked(text, &found, hold_from)
    }

    /// What was held back, at the end of the stream.
    pub(super) fn finish(&mut self) -> Option<Bytes> {
        if self.held.is_empty() {
            return None;
        }
        let text = std::mem::take(&mut *self.held);
        let (found, end) = self.look(&text, true);
        Some(self.masked(text, &found, end))
    }

    /// Masks what is found in header values.
    pub(super) fn redact_headers(&mut self, headers: &mut HeaderMap) {
        for value in headers.values_mut() {
            if value.len() < SHORTEST {
                continue;
            }
            let (found, end) = self.look(value.as_bytes(), true);
            if !found.is_empty() {
                let text = self.masked(value.as_bytes().to_vec(), &found, end);
                // The mask is visible ASCII; if the rest were no value, it had not been one before.
                *value = HeaderValue::from_maybe_shared(text)
                    .unwrap_or(HeaderValue::from_static("[redacted]"));
            }
        }
    }

    fn masked(&mut self, mut text: Vec<u8>, found: &[(usize, usize)], hold_from: usize) -> Bytes {
        for &(at, length) in found {
            let place = &mut text[at..at + length];
            place.fill(b'*');
            if length >= MASK.len() {
                place[..MASK.len()].copy_from_slice(MASK);
            }
            self.redacted = true;
        }
        self.held.extend_from_slice(&text[hold_from..]);
        text[hold_from..].zeroize();
        text.truncate(hold_from);
        Bytes::from(text)
    }

    /// Occurrences in `text`, and from where on it has to wait for more (never if it is the last).
    fn look(&self, text: &[u8], last: bool) -> (Vec<(usize, usize)>, usize) {
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(step) = text[at..].iter().position(|&b| self.first[usize::from(b)]) {
            at += step;
            let rest = &text[at..];
            // A body that was cut short ends within one: its beginning is told to nobody either.
            let cut = last && rest.len() >= SHORTEST;
            let whole = self
                .needles
                .iter()
                .filter(|n| rest.starts_with(n) || (cut && n.starts_with(rest)))
                .map(|n| n.len().min(rest.len()))
                .max();
            // A longer form may be on its way: the shorter one must not let its end through.
            let may_grow = !last
                && rest.len() < self.longest
                && self
                    .needles
                    .iter()
                    .any(|n| n.len() > rest.len() && n.starts_with(rest));
            if may_grow {
                return (found, at);
            }
            match whole {
                Some(length) => {
                    found.push((at, length));
                    at += length;
                }
                None => at += 1,
            }
        }
        (found, text.len())
    }
}

fn add_forms(secret: &Secret, needles: &mut Vec<Secret>) {
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, NO_PAD);
    let mut add = |form: Vec<u8>| {
        let form = Zeroizing::new(form);
        if form.len() >= SHORTEST && !needles.contains(&form) {
            needles.push(form);
        }
    };
    if secret.len() < SHORTEST {
        return;
    }
    add(secret.to_vec());
    if !secret.iter().all(|&b| is_unreserved(b)) {
        for hex in [b"0123456789ABCDEF", b"0123456789abcdef"] {
            add(percent_encoded(secret, hex));
            add(unicode_escaped(secret, hex, |b| {
                UNSAFE_IN_HTML.contains(&b)
            }));
            add(unicode_escaped(secret, hex, |b| !is_unreserved(b)));
        }
        add(json_escaped(secret, false));
        add(json_escaped(secret, true));
    }
    for before in 0..3 {
        // What stands before shifts the sextets; those that it shares with the secret are not known.
        let mut shifted = Zeroizing::new(vec![0; before]);
        shifted.extend_from_slice(secret);
        let encoded = Zeroizing::new(STANDARD.encode(&*shifted).into_bytes());
        let from = (before * 8).div_ceil(6);
        let core = &encoded[from..shifted.len() * 8 / 6];
        if core.iter().any(|b| matches!(b, b'+' | b'/')) {
            add(core
                .iter()
                .map(|b| match b {
                    b'+' => b'-',
                    b'/' => b'_',
                    b => *b,
                })
                .collect());
        }
        add(core.to_vec());
    }
}

/// RFC 3986: these are themselves in every encoding.
fn is_unreserved(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~')
}

fn percent_encoded(secret: &[u8], hex: &[u8; 16]) -> Vec<u8> {
    let mut form = Vec::with_capacity(secret.len() * 3);
    for &b in secret {
        if is_unreserved(b) {
            form.push(b);
        } else {
            form.push(b'%');
            form.extend(digits(b, hex));
        }
    }
    form
}

fn digits(b: u8, hex: &[u8; 16]) -> [u8; 2] {
    [hex[usize::from(b >> 4)], hex[usize::from(b & 15)]]
}

/// What JSON encoders escape that write for a page.
const UNSAFE_IN_HTML: &[u8] = b"\"&'+<>`";

/// JSON with `\u00XX` for what `escaped` says; the rest as JSON needs it.
fn unicode_escaped(secret: &[u8], hex: &[u8; 16], escaped: fn(u8) -> bool) -> Vec<u8> {
    let mut form = Vec::with_capacity(secret.len() * 6);
    for &b in secret {
        if b.is_ascii() && escaped(b) {
            form.extend(b"\\u00");
            form.extend(digits(b, hex));
        } else {
            form.extend(json_escaped(&[b], false));
        }
    }
    form
}

fn json_escaped(secret: &[u8], slashes: bool) -> Vec<u8> {
    let mut form = Vec::with_capacity(secret.len() + 8);
    for &b in secret {
        match b {
            b'"' | b'\\' => form.extend([b'\\', b]),
            b'\n' => form.extend(b"\\n"),
            b'\r' => form.extend(b"\\r"),
            b'\t' => form.extend(b"\\t"),
            b'/' if slashes => form.extend(b"\\/"),
            b => form.push(b),
        }
    }
    form
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    fn scanner(secret: &str) -> Box<Scanner> {
        Scanner::new(&[Zeroizing::new(secret.as_bytes().to_vec())]).unwrap()
    }

    fn run(scanner: &mut Scanner, chunks: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for chunk in chunks {
            out.extend_from_slice(&scanner.scan(Bytes::copy_from_slice(chunk)));
        }
        out.extend_from_slice(&scanner.finish().unwrap_or_default());
        out
    }

    const KEY: &str = "sk-canary/0123+456\"789";

    #[test]
    fn every_form_of_the_secret_is_masked_at_its_length() {
        let forms = [
            KEY.to_owned(),
            STANDARD.encode(KEY),
            URL_SAFE_NO_PAD.encode(KEY),
            "sk-canary%2F0123%2B456%22789".to_owned(),
            "sk-canary/0123+456\\\"789".to_owned(),
            "sk-canary\\/0123+456\\\"789".to_owned(),
            "sk-canary%2f0123%2b456%22789".to_owned(),
            "sk-canary/0123\\u002B456\\u0022789".to_owned(),
            "sk-canary\\u002f0123\\u002b456\\u0022789".to_owned(),
        ];
        for form in forms {
            let text = format!("{{\"you sent\": \"{form}\"}}");
            let out = run(&mut scanner(KEY), &[text.as_bytes()]);
            let out = String::from_utf8(out).unwrap();
            assert!(out.starts_with("{\"you sent\": \"[redacted]"), "{out}");
            assert_eq!(out.len(), text.len());
            assert!(
                !out.contains("canary") && !out.contains(&form[..12]),
                "{out}"
            );
        }
    }

    #[test]
    fn a_secret_inside_a_longer_base64_text_is_masked() {
        for user in ["", "a", "ab", "abc", "AC0123"] {
            let basic = STANDARD.encode(format!("{user}:{KEY}"));
            let out = String::from_utf8(run(&mut scanner(KEY), &[basic.as_bytes()])).unwrap();
            assert!(out.contains("[redacted]"), "{user}: {out}");
        }
    }

    #[test]
    fn what_cannot_be_a_secret_is_passed_on_at_once() {
        let mut scanner = scanner(KEY);
        assert_eq!(
            scanner.scan(Bytes::from_static(b"data: 1\n\n")),
            "data: 1\n\n"
        );
        assert_eq!(scanner.scan(Bytes::from_static(b"data: sk-")), "data: ");
        assert_eq!(scanner.scan(Bytes::from_static(b"not\n\n")), "sk-not\n\n");
        assert_eq!(scanner.finish(), None);
    }

    #[test]
    fn the_beginning_of_a_secret_at_the_end_of_a_body_is_masked() {
        for (sent, passed) in [
            (&b"x sk-canary/0123"[..], "x [redacted]****"),
            (b"x c2stY2FuYX", "x [redacted]"),
            (b"x sk-canar", "x ********"),
            (b"x sk-cana", "x sk-cana"),
            (b"x sk-canary!", "x sk-canary!"),
        ] {
            let out = run(&mut scanner(KEY), &[&sent[..4], &sent[4..]]);
            assert_eq!(String::from_utf8(out).unwrap(), passed);
        }
    }

    #[test]
    fn a_secret_that_begins_with_another_is_masked_to_its_end() {
        let secrets =
            ["canary-12", "canary-1234567890"].map(|s| Zeroizing::new(s.as_bytes().to_vec()));
        let mut scanner = Scanner::new(&secrets).unwrap();
        let out = run(
            &mut scanner,
            &[b"x canary-12", b"34567890 y canary-12", b" z"],
        );
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "x [redacted]******* y ********* z"
        );
    }

    #[test]
    fn a_short_secret_is_not_looked_for() {
        assert!(Scanner::new(&[Zeroizing::new(b"short".to_vec())]).is_none());
    }

    #[test]
    fn header_values_are_masked() {
        let mut headers = HeaderMap::new();
        headers.insert(
            "x-echo",
            HeaderValue::from_str(&format!("Bearer {KEY}")).unwrap(),
        );
        headers.insert("x-other", HeaderValue::from_static("something else"));
        let mut scanner = scanner(KEY);
        scanner.redact_headers(&mut headers);
        assert!(
            headers["x-echo"]
                .to_str()
                .unwrap()
                .starts_with("Bearer [redacted]*")
        );
        assert_eq!(headers["x-other"], "something else");
        assert!(scanner.has_redacted());
    }

    proptest! {
        #[test]
        fn a_secret_is_masked_wherever_the_chunks_end(
            before in "[a-ksc-]{0,12}", after in "[a-ksc-]{0,12}",
            cuts in prop::collection::vec(0_usize..60, 0..6), repeats in 1_usize..3,
        ) {
            let secret = "sk-canary-sk-canary-0";
            let text = format!("{before}{}{after}", secret.repeat(repeats));
            let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(text.len())).collect();
            cuts.sort_unstable();
            let (mut chunks, mut from) = (Vec::new(), 0);
            for at in cuts {
                chunks.push(&text.as_bytes()[from..at]);
                from = at;
            }
            chunks.push(&text.as_bytes()[from..]);
            let out = String::from_utf8(run(&mut scanner(secret), &chunks)).unwrap();
            prop_assert_eq!(out.len(), text.len());
            prop_assert!(!out.contains(secret));
            let expected = text.replace(secret, "[redacted]***********");
            prop_assert_eq!(out, expected);
        }

        #[test]
        fn a_stream_without_the_secret_is_unchanged(text in "[skcanry0-]{0,200}", size in 1_usize..9) {
            let secret = "sk-canary-sk-canary-0";
            prop_assume!(!text.contains("sk-canar"));
            let chunks: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            prop_assert_eq!(run(&mut scanner(secret), &chunks), text.as_bytes());
        }
    }
}
