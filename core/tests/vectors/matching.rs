//! How an expectation is matched with an answer. `README.md` has the rules in words.

use serde_json::Value;

/// Says where an answer is not as expected, if it is not.
pub(crate) fn mismatch(expected: &Value, found: &Value) -> Result<(), String> {
    at("", expected, found).map_err(|place| format!("{place}\n  the whole answer: {found}"))
}

fn at(path: &str, expected: &Value, found: &Value) -> Result<(), String> {
    let differ = || Err(format!("at `{path}` expected {expected}\n  found {found}"));
    match (expected, found) {
        (Value::Object(fields), Value::Object(_)) => fields.iter().try_for_each(|(key, expected)| {
            // A key that is absent is null.
            at(&format!("{path}.{key}"), expected, found.get(key).unwrap_or(&Value::Null))
        }),
        (Value::Array(expected), Value::Array(items)) if expected.len() == items.len() => {
            let mut pairs = expected.iter().zip(items).enumerate();
            pairs.try_for_each(|(index, (expected, found))| at(&format!("{path}[{index}]"), expected, found))
        }
        _ if expected == found => Ok(()),
        _ => differ(),
    }
}

/// The same for an error, whose message is matched in parts.
pub(crate) fn mismatch_of_error(expected: &Value, error: &Value) -> Result<(), String> {
    let mut fields = expected.as_object().ok_or("`expect_error` is an object")?.clone();
    let parts = match fields.remove("message_contains") {
        Some(Value::Array(parts)) => parts,
        part => part.into_iter().collect(),
    };
    let message = error["message"].as_str().unwrap_or_default();
    for part in parts {
        let part = part.as_str().ok_or("`message_contains` is a text, or a list of texts")?;
        if !message.contains(part) {
            return Err(format!("expected a message with {part:?}\n  found {message:?}"));
        }
    }
    mismatch(&Value::Object(fields), error)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_matched_as_a_subset_and_an_absent_key_is_null() {
        let found = json!({ "allowed": true, "quotas": [{ "used": 1, "limit": 5 }], "plan": null });
        for expected in [json!({}), json!({ "allowed": true }), json!({ "denied": null, "plan": null })] {
            assert_eq!(mismatch(&expected, &found), Ok(()), "{expected}");
        }
        for expected in [
            json!({ "allowed": false }),
            json!({ "allowed": null }),
            json!({ "allowed": 1 }),
            json!({ "denied": {} }),
            json!({ "quotas": [] }),
            json!({ "quotas": [{}, {}] }),
            json!({ "quotas": [{ "used": 2 }] }),
            json!({ "quotas": {} }),
        ] {
            assert!(mismatch(&expected, &found).is_err(), "{expected}");
        }
    }

    #[test]
    fn an_error_is_matched_by_parts_of_its_message() {
        let error = json!({ "kind": "unknown", "message": "unknown plan" });
        assert_eq!(
            mismatch_of_error(&json!({ "kind": "unknown", "message_contains": ["plan", "un"] }), &error),
            Ok(())
        );
        for expected in [json!({ "message_contains": "metric" }), json!({ "kind": "store" })] {
            assert!(mismatch_of_error(&expected, &error).is_err(), "{expected}");
        }
    }
}
