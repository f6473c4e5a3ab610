//! Text which no log and no error message shows.

use std::fmt;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Secret text: [`Debug`] is redacted, there is no `Display`, and a value of another type is refused
/// without being quoted. Serialising writes the text itself: the wire needs it.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SecretString(String);

impl SecretString {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself; hand it only to what authenticates with it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretString(redacted)")
    }
}

impl Serialize for SecretString {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // `any`: asked for a string, a deserialiser quotes the value which is none.
        deserializer.deserialize_any(SecretVisitor)
    }
}

struct SecretVisitor;

/// serde's own message quotes the value; this one names its type only.
fn not_text<E: Error>(found: &str) -> E {
    E::invalid_type(Unexpected::Other(found), &SecretVisitor)
}

impl Visitor<'_> for SecretVisitor {
    type Value = SecretString;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<SecretString, E> {
        Ok(SecretString(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<SecretString, E> {
        Ok(SecretString(text))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<SecretString, E> {
        Err(not_text("a boolean"))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<SecretString, E> {
        Err(not_text("a number"))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<SecretString, E> {
        Err(not_text("a number"))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<SecretString, E> {
        Err(not_text("a number"))
    }
}

#[cfg(test)]
mod tests {
    use super::SecretString;

    #[test]
    fn debug_is_redacted_and_the_wire_is_not() {
        let secret = SecretString::new("hunter2");
        assert_eq!(format!("{secret:?}"), "SecretString(redacted)");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"hunter2\"");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn a_value_of_another_type_is_not_quoted() {
        for (json, found) in [
            ("4711", "a number"),
            ("-1", "a number"),
            ("true", "a boolean"),
        ] {
            let message = serde_json::from_str::<SecretString>(json)
                .unwrap_err()
                .to_string();
            assert!(message.contains(found), "{message}");
            assert!(!message.contains(json), "{message}");
        }
    }
}
