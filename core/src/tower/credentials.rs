//! Credentials: the token that a request carries.

use ::http::HeaderMap;
use ::http::header::AUTHORIZATION;

/// The token of `Authorization: Bearer`, or else of `X-API-Key`.
///
/// `None` where there is none, and where a field comes twice: a proxy may have read the other one.
///
/// ```
/// use quotum::tower::token_of;
///
/// let request = http::Request::get("/").header("authorization", "bearer key-of-ana").body(())?;
/// assert_eq!(token_of(request.headers()), Some("key-of-ana"));
/// # Ok::<(), http::Error>(())
/// ```
#[must_use]
pub fn token_of(headers: &HeaderMap) -> Option<&str> {
    if headers.contains_key(AUTHORIZATION) {
        let (scheme, token) = only(headers, AUTHORIZATION.as_str())?.split_once(' ')?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(token.trim_matches(' ')).filter(|token| !token.is_empty());
        }
    }
    only(headers, "x-api-key").filter(|token| !token.is_empty())
}

/// The value of a field that comes once, in readable characters.
fn only<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ::http::{HeaderName, HeaderValue};

    use super::*;

    fn of(fields: &[(&'static str, &str)]) -> Option<String> {
        let fields = fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap()));
        let mut headers = HeaderMap::new();
        fields.for_each(|(name, value)| _ = headers.append(name, value));
        token_of(&headers).map(str::to_owned)
    }

    #[test]
    fn a_token_is_found_however_the_scheme_is_written() {
        for written in ["Bearer abc", "bearer abc", "BEARER   abc  "] {
            assert_eq!(of(&[("authorization", written)]).as_deref(), Some("abc"), "{written}");
        }
        assert_eq!(of(&[("x-api-key", "abc")]).as_deref(), Some("abc"));
        assert_eq!(of(&[("authorization", "Basic YTpi"), ("x-api-key", "abc")]).as_deref(), Some("abc"));
        assert_eq!(of(&[("authorization", "Bearer abc"), ("x-api-key", "def")]).as_deref(), Some("abc"));
    }

    #[test]
    fn nothing_is_taken_for_a_token_that_is_none() {
        for fields in [
            &[][..],
            &[("authorization", "")],
            &[("authorization", "Bearer")],
            &[("authorization", "Bearer ")],
            &[("authorization", "Bearerabc")],
            &[("authorization", "Basic YTpi")],
            &[("authorization", "Bearer \u{e9}")],
            &[("x-api-key", "")],
        ] {
            assert_eq!(of(fields), None, "{fields:?}");
        }
    }

    #[test]
    fn a_field_that_comes_twice_is_no_token() {
        assert_eq!(of(&[("authorization", "Bearer abc"), ("authorization", "Bearer def")]), None);
        assert_eq!(of(&[("x-api-key", "abc"), ("x-api-key", "def")]), None);
    }
}
