//! Header fields of a request, in the types of `http`.

use ::http::HeaderMap;

/// The token of `Authorization: Bearer`, or else of `X-API-Key`: see [`http::token_of`](crate::http::token_of).
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
    crate::http::token_of(|name| values_of(headers, name))
}

/// The lines of `X-Forwarded-For`, for [`TrustedHops`](crate::http::TrustedHops).
///
/// ```
/// use quotum::http::TrustedHops;
/// use quotum::tower::forwarded_for;
///
/// let proxy = "10.0.0.1".parse()?;
/// let request = http::Request::get("/").header("x-forwarded-for", "1.2.3.4, 203.0.113.7").body(())?;
/// let address = TrustedHops::new(1).address(proxy, forwarded_for(request.headers()));
/// assert_eq!(address.to_string(), "203.0.113.7");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn forwarded_for(headers: &HeaderMap) -> impl DoubleEndedIterator<Item = &[u8]> {
    values_of(headers, "x-forwarded-for")
}

fn values_of<'h>(headers: &'h HeaderMap, name: &'static str) -> impl DoubleEndedIterator<Item = &'h [u8]> {
    headers.get_all(name).iter().map(|value| value.as_bytes())
}
