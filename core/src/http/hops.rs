//! Hops: which address a request comes from, where proxies stand between.

use std::net::{IpAddr, SocketAddr};

use crate::rate::RateKey;

/// How many proxies of one's own a request passes before it arrives: each of them appends the address that it
/// was reached from to `X-Forwarded-For`.
///
/// Only as many entries are believed, from the end; whatever stands before them a client may have written
/// itself. Too small a number lumps clients together, too large a number lets them choose their address.
///
/// ```
/// use quotum::http::TrustedHops;
///
/// let (proxy, lines) = ("10.0.0.1".parse()?, ["1.2.3.4, 203.0.113.7"]);
/// let address = TrustedHops::new(1).address(proxy, lines.iter().map(|line| line.as_bytes()));
/// assert_eq!(address.to_string(), "203.0.113.7", "what the proxy saw, not what the client said");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrustedHops(usize);

impl TrustedHops {
    /// Behind so many proxies; 0 for a server that clients reach directly.
    #[must_use]
    pub const fn new(hops: usize) -> Self {
        Self(hops)
    }

    /// The address that the outermost of the proxies was reached from.
    ///
    /// It is `peer`, the address that this server was reached from, without proxies; and also where the field
    /// has fewer entries than there are proxies, or no address in the place of the client's, so that who came
    /// another way shares one address with all who did.
    ///
    /// `forwarded_for` are the lines of `X-Forwarded-For`, of which there may be several: they are one list.
    #[must_use]
    pub fn address<'h, Lines>(self, peer: IpAddr, forwarded_for: Lines) -> IpAddr
    where
        Lines: IntoIterator<Item = &'h [u8], IntoIter: DoubleEndedIterator>,
    {
        let Some(before) = self.0.checked_sub(1) else { return peer };
        let entries = forwarded_for.into_iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
        let entry = entries.skip(before).map(str::from_utf8).next();
        entry.and_then(Result::ok).and_then(|entry| parsed(entry.trim())).unwrap_or(peer)
    }

    /// The same as the key of a rate.
    #[must_use]
    pub fn key<'h, Lines>(self, peer: IpAddr, forwarded_for: Lines) -> RateKey<'static>
    where
        Lines: IntoIterator<Item = &'h [u8], IntoIter: DoubleEndedIterator>,
    {
        self.address(peer, forwarded_for).into()
    }
}

/// Some proxies append the port too.
fn parsed(entry: &str) -> Option<IpAddr> {
    let bracketed = || entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let with_port = || entry.parse::<SocketAddr>().ok().map(|address| address.ip());
    entry.parse().ok().or_else(with_port).or_else(bracketed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PEER: &str = "10.0.0.1";

    fn address(hops: usize, lines: &[&str]) -> String {
        let lines = lines.iter().map(|line| line.as_bytes());
        TrustedHops::new(hops).address(PEER.parse().unwrap(), lines).to_string()
    }

    #[test]
    fn a_server_without_proxies_believes_no_field() {
        for lines in [&["1.2.3.4"][..], &["1.2.3.4, 5.6.7.8"], &[""], &[]] {
            assert_eq!(address(0, lines), PEER);
        }
    }

    #[test]
    fn what_stands_before_the_entries_of_the_proxies_is_the_clients_own_tale() {
        for spoofed in
            ["", "1.2.3.4", "1.2.3.4, 5.6.7.8", ",,,,", "unknown", "\"1.2.3.4", "é", "10.0.0.1", "::1, [::1]"]
        {
            assert_eq!(address(1, &[&format!("{spoofed}, 203.0.113.7")]), "203.0.113.7", "{spoofed}");
            assert_eq!(address(1, &[spoofed, "203.0.113.7"]), "203.0.113.7", "{spoofed}, on a line of its own");
            assert_eq!(address(2, &[&format!("{spoofed},203.0.113.7 , 192.0.2.9")]), "203.0.113.7", "{spoofed}");
            assert_eq!(address(2, &[spoofed, "203.0.113.7", "192.0.2.9"]), "203.0.113.7", "{spoofed}, on three lines");
        }
    }

    #[test]
    fn who_came_by_fewer_proxies_or_is_not_named_has_the_address_of_the_peer() {
        assert_eq!(address(1, &[]), PEER);
        assert_eq!(address(2, &["203.0.113.7"]), PEER);
        assert_eq!(address(usize::MAX, &["203.0.113.7"]), PEER);
        for unnamed in
            ["unknown", "_hidden", "", "203.0.113", "203.0.113.7.8", "é", "203.0.113.7:http", "[203.0.113.7]"]
        {
            assert_eq!(address(1, &[&format!("1.2.3.4, {unnamed}")]), PEER, "{unnamed:?}");
        }
    }

    #[test]
    fn an_address_may_have_a_port() {
        assert_eq!(address(1, &["203.0.113.7:4711"]), "203.0.113.7");
        assert_eq!(address(1, &["[2001:db8::7]:4711"]), "2001:db8::7");
        assert_eq!(address(1, &["[2001:db8::7]"]), "2001:db8::7");
        assert_eq!(address(1, &["2001:db8::7"]), "2001:db8::7");
    }

    #[test]
    fn the_key_of_an_address_is_that_of_the_one_who_holds_it() {
        let key = |line: &'static str| TrustedHops::new(1).key(PEER.parse().unwrap(), [line.as_bytes()]);
        assert_eq!(key("::ffff:203.0.113.7"), key("203.0.113.7"));
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
        assert_ne!(key("203.0.113.7"), key("203.0.113.8"));
    }

    proptest! {
        #[test]
        fn no_field_of_a_client_changes_its_address(
            lines in prop::collection::vec("[ -~]{0,40}|([0-9]{1,3}\\.){3}[0-9]{1,3}", 0..4),
            hops in 1_usize..4,
        ) {
            let mut lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let of_proxies = ["203.0.113.7", "192.0.2.1", "192.0.2.2"];
            lines.extend(&of_proxies[..hops]);
            prop_assert_eq!(address(hops, &lines), "203.0.113.7");
            prop_assert_eq!(address(hops, &[lines.join(", ").as_str()]), "203.0.113.7");
        }
    }
}
