//! JSON without room for two readings: no member twice at any depth, nesting capped before the
//! parser starts, nothing after the value.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// How deep objects and arrays may nest.
const MAX_DEPTH: usize = 32;

/// Reads a JSON object; `None` where it is anything else.
pub(super) fn read_object(bytes: &[u8]) -> Option<Map<String, Value>> {
    if !shallow(bytes) {
        return None;
    }
    match serde_json::from_slice(bytes).ok()? {
        Strict(Value::Object(object)) => Some(object),
        Strict(_) => None,
    }
}

/// Whether no bracket outside a string stands deeper than the cap.
fn shallow(bytes: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return false;
        }
    }
    true
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

#[derive(Clone, Copy)]
struct StrictVisitor;

impl<'de> DeserializeSeed<'de> for StrictVisitor {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(self)?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a member stands twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_an_unambiguous_object_reads() {
        let nested = |depth: usize| {
            format!(
                r#"{{"a":{}{}}}"#,
                "[".repeat(depth - 1),
                "]".repeat(depth - 1)
            )
        };
        for good in [
            r#"{}"#,
            r#" {"a":1,"b":{"a":1}} "#,
            r#"{"a":"]]]]}}\"{{{{[[[["}"#,
            &nested(MAX_DEPTH),
        ] {
            assert!(read_object(good.as_bytes()).is_some(), "{good}");
        }
        for bad in [
            "",
            "[]",
            "null",
            r#""a""#,
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"b":{"a":1,"a":2}}"#,
            r#"{"b":[{"a":1,"a":2}]}"#,
            r#"{"a":1}{"#,
            r#"{"a":1},"#,
            r#"{"a":NaN}"#,
            r#"{"a":1e400}"#,
            r#"{'a':1}"#,
            r#"{"a":1,}"#,
            &nested(MAX_DEPTH + 1),
            &nested(20_000),
        ] {
            assert!(read_object(bad.as_bytes()).is_none(), "{bad:.40}");
        }
        assert!(read_object(b"{\"a\":\"\xff\"}").is_none());
        assert!(read_object(b"\xef\xbb\xbf{}").is_none());
    }

    proptest! {
        #[test]
        fn it_reads_as_the_common_parser_does_where_names_differ(
            names in proptest::collection::btree_set("[a-z]{1,4}", 0..6), number: i64, text in "\\PC{0,12}",
        ) {
            let object: Map<String, Value> = names
                .into_iter()
                .map(|name| (name, serde_json::json!([number, text, null, true, {"x": text}])))
                .collect();
            let bytes = serde_json::to_vec(&object).unwrap_or_default();
            prop_assert_eq!(read_object(&bytes), Some(object));
        }
    }
}
