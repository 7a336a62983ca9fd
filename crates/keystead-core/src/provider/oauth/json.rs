//! JSON that may hold secrets: its texts are wiped on drop, also where reading ends half-way.
//!
//! What always holds: a name that stands twice in an object is refused, since two readers would
//! read two values; nothing is nested deeper than `serde_json` goes (128).

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use zeroize::Zeroizing;

/// A value.
pub(in crate::provider) enum Json {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(Zeroizing<String>),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// The value of the whole text.
    pub(in crate::provider) fn read(text: &[u8]) -> Option<Json> {
        serde_json::from_slice(text).ok()
    }

    /// What the pointer (RFC 6901) leads to; of several, with `|` between them, the first that
    /// leads anywhere. The empty one leads nowhere; null is nothing.
    pub(in crate::provider) fn at(&self, pointer: &str) -> Option<&Json> {
        pointer.split('|').find_map(|pointer| self.at_one(pointer))
    }

    fn at_one(&self, pointer: &str) -> Option<&Json> {
        let mut value = self;
        for segment in pointer.strip_prefix('/')?.split('/') {
            let name = segment.replace("~1", "/").replace("~0", "~");
            value = match value {
                Json::Object(members) => &members.iter().find(|(own, _)| *own == name)?.1,
                Json::List(items) => items.get(name.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        (!matches!(value, Json::Null)).then_some(value)
    }

    /// A text.
    pub(in crate::provider) fn text(text: impl Into<String>) -> Json {
        Json::Text(Zeroizing::new(text.into()))
    }

    /// A list of texts.
    pub(in crate::provider) fn list<'t>(texts: impl IntoIterator<Item = &'t str>) -> Json {
        Json::List(texts.into_iter().map(Json::text).collect())
    }

    /// An object of these members.
    pub(in crate::provider) fn object<'n>(
        members: impl IntoIterator<Item = (&'n str, Json)>,
    ) -> Json {
        let named = |(name, value): (&str, Json)| (name.to_owned(), value);
        Json::Object(members.into_iter().map(named).collect())
    }

    pub(in crate::provider) fn as_u64(&self) -> Option<u64> {
        match self {
            Json::Number(number) => number.as_u64(),
            _ => None,
        }
    }

    pub(in crate::provider) fn as_text(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Json;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E: Error>(self) -> Result<Json, E> {
                Ok(Json::Null)
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
                Ok(Json::Bool(value))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
                Ok(Json::Number(value.into()))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
                Ok(Json::Number(value.into()))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
                let number = serde_json::Number::from_f64(value);
                number
                    .map(Json::Number)
                    .ok_or_else(|| E::custom("no number"))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Json, E> {
                Ok(Json::Text(Zeroizing::new(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = from.next_element()? {
                    items.push(item);
                }
                Ok(Json::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
                let mut members: Vec<(String, Json)> = Vec::new();
                let mut names = std::collections::BTreeSet::new();
                while let Some(name) = from.next_key::<String>()? {
                    if !names.insert(name.clone()) {
                        return Err(A::Error::custom("a name is there twice"));
                    }
                    members.push((name, from.next_value()?));
                }
                Ok(Json::Object(members))
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Json::Null => serializer.serialize_unit(),
            Json::Bool(value) => serializer.serialize_bool(*value),
            Json::Number(value) => value.serialize(serializer),
            Json::Text(text) => serializer.serialize_str(text),
            Json::List(items) => serializer.collect_seq(items),
            Json::Object(members) => {
                serializer.collect_map(members.iter().map(|(name, value)| (name, value)))
            }
        }
    }
}
