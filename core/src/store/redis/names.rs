//! What the store's keys are called.
//!
//! All that belongs to one account lies in one slot of a cluster, which its hash tag says: `{quotum:acme}:counters`.
//! So do the plans, the subscriptions, the identities and the log together, as `{quotum}:log`. Only where a hold's
//! account is found lies anywhere, as `quotum:hold:…`.

use std::fmt::Write as _;

use crate::HoldId;
use crate::store::{CounterKey, Fingerprint, Once};

/// How many keys an account has that every script on it is given.
pub(super) const ACCOUNT: usize = 8;

/// How many keys the log has, without its indexes.
pub(super) const LOG: usize = 4;

/// The keys under one prefix.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// A key of what is not any account's.
    pub(super) fn of(&self, what: &str) -> String {
        format!("{{{}}}:{what}", self.prefix)
    }

    fn of_account(&self, payer: &str, what: &str) -> String {
        format!("{{{}:{}}}:{what}", self.prefix, written(payer))
    }

    /// The keys that every script on an account is given, in this order.
    pub(super) fn account(&self, payer: &str) -> Vec<String> {
        let parts: [&str; ACCOUNT] = ["counters", "windows", "order", "ages", "open", "parts", "holds", "ends"];
        parts.into_iter().map(|what| self.of_account(payer, what)).collect()
    }

    /// Where a step is remembered that was made under an idempotency key.
    pub(super) fn step(&self, payer: &str, once: &Once) -> String {
        self.of_account(payer, &format!("step:{}/{}", written(&once.subject), written(&once.key)))
    }

    /// Where the last steps without a key are on each seat of a process: what its asker's name is added to. A key for each
    /// goes by itself when the process has not been there for long enough, however busy others are.
    pub(super) fn turns(&self, payer: &str) -> String {
        self.of_account(payer, "turns")
    }

    /// What an account has to tell that is not in the log yet.
    pub(super) fn outbox(&self, payer: &str) -> String {
        self.of_account(payer, "outbox")
    }

    /// What a key owes on a shared rate: each is alone, and lies anywhere.
    pub(super) fn rate(&self, name: Fingerprint) -> String {
        format!("{}:rate:{}", self.prefix, HoldId::from_bytes(name.to_bytes()))
    }

    /// Where the account of a hold is found.
    pub(super) fn pointer(&self, id: HoldId) -> String {
        format!("{}:hold:{id}", self.prefix)
    }

    /// The keys of the log, in the order in which scripts have them.
    pub(super) fn log(&self) -> Vec<String> {
        let parts: [&str; LOG] = ["log:last", "log:events", "log:changes", "log:rest"];
        parts.into_iter().map(|what| self.of(what)).collect()
    }

    /// The index of events by a name.
    pub(super) fn events_named(&self, name: &str) -> String {
        self.of(&format!("log:name:{name}"))
    }

    /// The index of a subject's events: of changes, or of the rest.
    pub(super) fn events_of(&self, subject: &str, changes: bool) -> String {
        let which = if changes { "changes" } else { "rest" };
        self.of(&format!("log:subject:{which}:{}", written(subject)))
    }
}

/// What all windows of a counter have in common, a `/` at its end.
pub(super) fn family(key: &CounterKey) -> String {
    format!("{}/{}/{}/", written(&key.subject), written(&key.metric), key.period.as_str())
}

/// A window's start, so that later ones come later in the order of bytes.
pub(super) fn start(second: i64) -> String {
    /// More seconds than there are in all the time that can be told.
    const ALL: i64 = 10_000_000_000_000;
    // '-' comes before the digits.
    if second < 0 { format!("-{:013}", ALL.saturating_add(second).max(0)) } else { format!("{second:013}") }
}

/// A text as part of a key: what would end a hash tag or a part is written as `%` and two digits, and so is what
/// cannot be printed. No two texts are written alike.
pub(super) fn written(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'{' | b'}' | b'%' | b'/' | 0..=b' ' | 0x7f.. => {
                let _never = write!(written, "%{byte:02x}");
            }
            plain => written.push(char::from(plain)),
        }
    }
    written
}

/// The text that was written so.
pub(super) fn read(written: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(written.len());
    let mut rest = written.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        bytes.push(if byte == b'%' { digit(rest.next()?)? * 16 + digit(rest.next()?)? } else { byte });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_a_hash_tag_and_each_is_read_back() {
        for text in ["ana", "ana@example.com", "a}b{c", "100%", "a/b", "a b\0", "ação", "", "%7d"] {
            let key = Names::new("quotum").outbox(text);
            assert_eq!((key.matches('{').count(), key.matches('}').count()), (1, 1), "{key}");
            assert_eq!(read(&written(text)).as_deref(), Some(text));
        }
        assert_eq!(Names::new("quotum").outbox("ana@example.com"), "{quotum:ana@example.com}:outbox");
    }

    #[test]
    fn starts_are_in_order_as_texts() {
        let seconds = [-377_705_023_201, -86_401, -1, 0, 1, 1_772_323_200, 253_402_207_200];
        let texts = seconds.map(start);
        assert!(texts.is_sorted(), "{texts:?}");
    }
}
