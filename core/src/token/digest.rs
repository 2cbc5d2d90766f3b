//! Digests: what stands for a token wherever one is remembered.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::error::Error;

/// The least that a pepper may have, in bytes: as many as nobody can try.
const PEPPER_BYTES_MIN: usize = 16;

/// The SHA-256 of a whole token, or its HMAC-SHA-256 under a [`Pepper`].
///
/// Of the whole token, because tokens of one issuer begin alike: the first hundred characters of a JWT
/// are its header, the same for everybody.
///
/// ```
/// use quotum::token::TokenDigest;
///
/// let ana = TokenDigest::of("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbmEifQ.c2ln");
/// let bob = TokenDigest::of("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJib2IifQ.c2ln");
/// assert_ne!(ana, bob);
/// ```
// Compared byte by byte until two differ, as any key of a map: how long that takes tells about digests,
// not tokens, and nobody can choose a token by the digest it shall have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of `token`, read where it lies.
    #[must_use]
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// The digest that [`as_bytes`](Self::as_bytes) has given.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest as 64 hexadecimal digits, for logs that other processes follow.
    pub(crate) fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The digest that [`to_hex`](Self::to_hex) has given.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// The bytes of the digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Hash for TokenDigest {
    /// A quarter of the digest, which is evenly spread already. It still needs a map with a keyed hash,
    /// such as the standard library's: tokens whose digests begin alike can be found by trying.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
}

impl fmt::Debug for TokenDigest {
    /// The first four bytes, enough to tell two digests apart in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "TokenDigest({a:02x}{b:02x}{c:02x}{d:02x}..)")
    }
}

/// A key of the host's, without which digests cannot be computed: who steals a store of them cannot
/// find short tokens by trying.
///
/// Its memory is wiped when it is dropped, and it is never printed.
///
/// ```
/// use quotum::token::{Pepper, TokenDigest};
///
/// let pepper = Pepper::new("sixteen bytes or more, from a vault")?;
/// assert_ne!(pepper.digest("token"), TokenDigest::of("token"));
/// assert_eq!(format!("{pepper:?}"), "Pepper(redacted)");
/// # Ok::<(), quotum::Error>(())
/// ```
#[derive(Clone)]
pub struct Pepper(Hmac<Sha256>);

impl Pepper {
    /// The pepper with these bytes, at least 16 and random.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a shorter one.
    pub fn new(key: impl AsRef<[u8]>) -> Result<Self, Error> {
        let key = key.as_ref();
        let refuse = || Error::argument("pepper", format!("{} bytes", key.len()), "at least 16 random bytes");
        if key.len() < PEPPER_BYTES_MIN {
            return Err(refuse());
        }
        Hmac::new_from_slice(key).map(Self).map_err(|_| refuse())
    }

    /// The digest of `token` under this pepper.
    #[must_use]
    pub fn digest(&self, token: &str) -> TokenDigest {
        TokenDigest(self.0.clone().chain_update(token).finalize().into_bytes().into())
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(redacted)")
    }
}

/// A copy of a token, wiped from memory when it is dropped and never printed.
///
/// ```
/// use quotum::token::Secret;
///
/// let token = Secret::from("a token");
/// assert_eq!(&*token, "a token");
/// assert_eq!(format!("{token:?}"), "Secret(redacted)");
/// ```
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl From<&str> for Secret {
    fn from(token: &str) -> Self {
        Self(Zeroizing::new(token.to_owned()))
    }
}

impl Deref for Secret {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use zeroize::ZeroizeOnDrop;

    use super::*;

    fn hex(digest: TokenDigest) -> String {
        digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_digest_is_the_sha_256_of_fips_180_4() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(TokenDigest::of("abc")), expected);
    }

    #[test]
    fn a_peppered_digest_is_the_hmac_sha_256_of_rfc_4231() {
        // Test case 6: a key longer than a block.
        let pepper = Pepper::new([0xaa; 131]).unwrap();
        let digest = pepper.digest("Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(hex(digest), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }

    #[test]
    fn tokens_that_share_two_hundred_characters_have_two_digests() {
        let header = "e".repeat(200);
        let (ana, bob) = (format!("{header}.ana"), format!("{header}.bob"));
        assert_ne!(TokenDigest::of(&ana), TokenDigest::of(&bob));
        let pepper = Pepper::new([7; 32]).unwrap();
        assert_ne!(pepper.digest(&ana), pepper.digest(&bob));
    }

    #[test]
    fn a_short_pepper_is_refused_and_not_repeated() {
        let error = Pepper::new("hush").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hush"));
    }

    #[test]
    fn what_is_secret_is_wiped() {
        fn wiped<T: ZeroizeOnDrop>() {}
        // All that an `Hmac<Sha256>` consists of.
        wiped::<Sha256>();
        wiped::<Zeroizing<String>>();
    }
}
