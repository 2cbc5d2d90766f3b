//! Credentials: the token that a request carries.

/// The token of `Authorization: Bearer`, or else of `X-API-Key`. `values_of` gives the values of a header field, by its
/// name in lower case.
///
/// `None` where there is none, and where a field comes twice: a proxy may have read the other one.
///
/// ```
/// use quotum::http::token_of;
///
/// let fields = [("authorization", "bearer key-of-ana")];
/// let token = token_of(|wanted| fields.iter().filter(move |(name, _)| *name == wanted).map(|(_, value)| value.as_bytes()));
/// assert_eq!(token, Some("key-of-ana"));
/// ```
pub fn token_of<'h, Values: Iterator<Item = &'h [u8]>>(values_of: impl Fn(&'static str) -> Values) -> Option<&'h str> {
    let mut authorization = values_of("authorization").peekable();
    if authorization.peek().is_some() {
        let (scheme, token) = only(authorization)?.split_once(' ')?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(token.trim_matches(' ')).filter(|token| !token.is_empty());
        }
    }
    only(values_of("x-api-key")).filter(|token| !token.is_empty())
}

/// The value of a field that comes once, in readable characters.
fn only<'h>(mut values: impl Iterator<Item = &'h [u8]>) -> Option<&'h str> {
    let value = values.next().filter(|value| value.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t')))?;
    if values.next().is_some() { None } else { str::from_utf8(value).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'f>(fields: &[(&'static str, &'f str)]) -> Option<&'f str> {
        token_of(|wanted| fields.iter().filter(move |(name, _)| *name == wanted).map(|(_, value)| value.as_bytes()))
    }

    #[test]
    fn a_token_is_found_however_the_scheme_is_written() {
        for written in ["Bearer abc", "bearer abc", "BEARER   abc  "] {
            assert_eq!(of(&[("authorization", written)]), Some("abc"), "{written}");
        }
        assert_eq!(of(&[("x-api-key", "abc")]), Some("abc"));
        assert_eq!(of(&[("authorization", "Basic YTpi"), ("x-api-key", "abc")]), Some("abc"));
        assert_eq!(of(&[("authorization", "Bearer abc"), ("x-api-key", "def")]), Some("abc"));
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
