//! Who is asking: a subject, any other text, or an address.

use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::store::Fingerprint;

/// The length of the IPv6 prefix that counts as one caller: what one customer of a provider is given,
/// who may use all of its addresses ([RFC 6177](https://www.rfc-editor.org/rfc/rfc6177)).
const IPV6_PREFIX_BITS: u8 = 64;

/// The key of a rate within its scope.
///
/// Texts are compared as they are; a subject's id is one. Addresses are compared as a caller holds
/// them: an IPv4 address that is written as IPv6 is the IPv4 address, and other IPv6 addresses count
/// by their /64 prefix, since one caller has them all. A text that looks like an address is a text.
///
/// ```
/// use std::net::IpAddr;
/// use quotum::rate::RateKey;
///
/// let key = |text: &str| RateKey::from(text.parse::<IpAddr>().unwrap());
/// assert_eq!(key("::ffff:203.0.113.7"), key("203.0.113.7"));
/// assert_eq!(key("2001:db8::1"), key("2001:db8::ffff"));
/// assert_ne!(key("2001:db8:0:1::1"), key("2001:db8:0:2::1"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RateKey<'k>(Kind<'k>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind<'k> {
    Text(&'k str),
    Ipv4(u32),
    Ipv6(u128),
}

impl<'k> RateKey<'k> {
    /// The text, of a key that is one.
    pub(crate) const fn text(&self) -> Option<&'k str> {
        match self.0 {
            Kind::Text(text) => Some(text),
            Kind::Ipv4(_) | Kind::Ipv6(_) => None,
        }
    }

    /// The address, or the first of a network's, of a key that is one.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        match self.0 {
            Kind::Text(_) => None,
            Kind::Ipv4(bits) => Some(Ipv4Addr::from_bits(bits).into()),
            Kind::Ipv6(bits) => Some(Ipv6Addr::from_bits(bits).into()),
        }
    }
}

impl RateKey<'_> {
    /// An address by its first `bits` bits only; an IPv4 address has 32 at most, others 128.
    ///
    /// ```
    /// use quotum::rate::RateKey;
    ///
    /// let site = |text: &str| RateKey::ip_prefix(text.parse().unwrap(), 48);
    /// assert_eq!(site("2001:db8:1:2::3"), site("2001:db8:1:ffff::"));
    /// assert_ne!(site("203.0.113.7"), site("203.0.113.8"));
    /// ```
    #[must_use]
    pub fn ip_prefix(addr: IpAddr, bits: u8) -> Self {
        let prefix = |width: u32| u128::MAX.checked_shl(width.saturating_sub(u32::from(bits))).unwrap_or(0);
        match unified(addr) {
            IpAddr::V4(addr) => {
                let [.., a, b, c, d] = prefix(32).to_be_bytes();
                Self(Kind::Ipv4(addr.to_bits() & u32::from_be_bytes([a, b, c, d])))
            }
            IpAddr::V6(addr) => Self(Kind::Ipv6(addr.to_bits() & prefix(128))),
        }
    }

    /// Tells this key in a scope from all others, in a store.
    pub(super) fn fingerprint(&self, scope: &str) -> Fingerprint {
        match self.0 {
            Kind::Text(text) => Fingerprint::of(&[scope.as_bytes(), b"text", text.as_bytes()]),
            Kind::Ipv4(bits) => Fingerprint::of(&[scope.as_bytes(), b"ipv4", &bits.to_be_bytes()]),
            Kind::Ipv6(bits) => Fingerprint::of(&[scope.as_bytes(), b"ipv6", &bits.to_be_bytes()]),
        }
    }

    /// Feeds everything that tells this key from others to a hash, after the text of its scope. The first
    /// byte ends that text, since it is in no UTF-8, and says the kind.
    #[inline]
    pub(super) fn hash_into(&self, hasher: &mut impl Hasher) {
        let (kind, number);
        let bytes: &[u8] = match self.0 {
            Kind::Text(text) => {
                kind = 0xFF;
                text.as_bytes()
            }
            Kind::Ipv4(bits) => {
                (kind, number) = (0xFE, u128::from(bits).to_be_bytes());
                &number
            }
            Kind::Ipv6(bits) => {
                (kind, number) = (0xFD, bits.to_be_bytes());
                &number
            }
        };
        hasher.write(&[kind]);
        hasher.write(bytes);
    }
}

/// A key that borrows nothing, for whoever keeps one while a request is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OwnedKey {
    Text(Box<str>),
    Address(RateKey<'static>),
}

impl OwnedKey {
    pub(crate) fn borrowed(&self) -> RateKey<'_> {
        match self {
            Self::Text(text) => RateKey(Kind::Text(text)),
            Self::Address(address) => *address,
        }
    }
}

impl From<RateKey<'_>> for OwnedKey {
    fn from(key: RateKey<'_>) -> Self {
        match key.0 {
            Kind::Text(text) => Self::Text(text.into()),
            Kind::Ipv4(bits) => Self::Address(RateKey(Kind::Ipv4(bits))),
            Kind::Ipv6(bits) => Self::Address(RateKey(Kind::Ipv6(bits))),
        }
    }
}

impl<'k> From<&'k str> for RateKey<'k> {
    fn from(text: &'k str) -> Self {
        Self(Kind::Text(text))
    }
}

impl From<IpAddr> for RateKey<'_> {
    fn from(addr: IpAddr) -> Self {
        match unified(addr) {
            addr @ IpAddr::V4(_) => Self::ip_prefix(addr, u8::MAX),
            addr @ IpAddr::V6(_) => Self::ip_prefix(addr, IPV6_PREFIX_BITS),
        }
    }
}

/// The IPv4 address that an IPv6 address stands for, mapped (`::ffff:a.b.c.d`) or in the older,
/// compatible form (`::a.b.c.d`, of which `::` and `::1` are not, see RFC 4291, section 2.5.5).
fn unified(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V6(addr) if addr != Ipv6Addr::LOCALHOST && addr != Ipv6Addr::UNSPECIFIED => {
            addr.to_ipv4().map_or(IpAddr::V6(addr), IpAddr::V4)
        }
        _ => addr,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> RateKey<'_> {
        RateKey::from(text.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn an_ipv4_address_written_as_ipv6_is_the_ipv4_address() {
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_eq!(key("::192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("::1"), key("0.0.0.1"));
        assert_ne!(key("::"), key("0.0.0.0"));
    }

    #[test]
    fn rotating_through_a_network_is_one_caller() {
        assert_eq!(key("2001:db8::1"), key("2001:db8:0:0:ffff:ffff:ffff:ffff"));
        assert_ne!(key("2001:db8:0:1::"), key("2001:db8::"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    }

    #[test]
    fn a_prefix_of_any_length_is_taken() {
        let prefix = |text: &str, bits| RateKey::ip_prefix(text.parse().unwrap(), bits);
        assert_eq!(prefix("192.0.2.1", 24), prefix("192.0.2.255", 24));
        assert_ne!(prefix("192.0.2.1", 24), prefix("192.0.3.1", 24));
        assert_eq!(prefix("::ffff:192.0.2.1", 0), prefix("0.0.0.0", 0));
        assert_eq!(prefix("ffff::", 0), prefix("2001:db8::", 0));
        assert_ne!(prefix("2001:db8::1", 128), prefix("2001:db8::2", 128));
        assert_ne!(prefix("2001:db8::1", 255), prefix("2001:db8::2", 255));
    }

    #[test]
    fn a_text_is_never_an_address() {
        assert_ne!(RateKey::from("192.0.2.1"), key("192.0.2.1"));
    }
}
