//! Bodies that hold secrets, written once into a buffer of the right size: a buffer that grows
//! leaves copies behind.

use std::io;

use serde::Serialize;
use zeroize::Zeroizing;

use super::template::push_encoded;

/// `application/x-www-form-urlencoded`.
pub(super) fn form(pairs: &[(&str, &str)]) -> Zeroizing<Vec<u8>> {
    // Room for every byte escaped.
    let room = pairs
        .iter()
        .map(|(name, value)| 3 * (name.len() + value.len()) + 2)
        .sum();
    let mut body = String::with_capacity(room);
    for (name, value) in pairs {
        if !body.is_empty() {
            body.push('&');
        }
        push_encoded(&mut body, name.as_bytes());
        body.push('=');
        push_encoded(&mut body, value.as_bytes());
    }
    Zeroizing::new(body.into_bytes())
}

/// JSON.
pub(super) fn json(value: &impl Serialize) -> Zeroizing<Vec<u8>> {
    written(|to| serde_json::to_writer(to, value).map_err(io::Error::from))
}

/// What `write` writes, which it must do alike each time.
pub(super) fn written(write: impl Fn(&mut dyn io::Write) -> io::Result<()>) -> Zeroizing<Vec<u8>> {
    let mut count = Count(0);
    // Neither writer can fail.
    let _ = write(&mut count);
    let mut bytes = Zeroizing::new(Vec::with_capacity(count.0));
    let _ = write(&mut *bytes);
    bytes
}

/// Counts bytes.
struct Count(usize);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
