//! Keys: tuples of texts and numbers as bytes that sort as the tuples do.
//!
//! Every part ends with a zero byte; a zero within a part is followed by `0xff`, with which no part begins. So no two
//! tuples run into one, and whatever follows a zero sorts before what continues it. Numbers are 16 hexadecimal digits,
//! so that a key can be read by who looks into his map.

/// A key, or what several keys begin with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(Vec<u8>);

impl Key {
    /// A key of this table: its first part.
    pub(super) fn of(table: &str) -> Self {
        Self(Vec::new()).text(table)
    }

    /// With a text more.
    pub(super) fn text(self, text: &str) -> Self {
        self.part(text.as_bytes())
    }

    /// With a number more, that sorts upwards.
    pub(super) fn number(self, number: i64) -> Self {
        self.text(&format!("{:016x}", i128::from(number) - i128::from(i64::MIN)))
    }

    /// With a number more, of which the greatest comes first.
    pub(super) fn newest(self, number: i64) -> Self {
        self.text(&format!("{:016x}", i128::from(i64::MAX) - i128::from(number)))
    }

    /// With a whole key more, as one part.
    pub(super) fn key(self, other: &Self) -> Self {
        self.part(&other.0)
    }

    fn part(mut self, part: &[u8]) -> Self {
        for byte in part {
            self.0.push(*byte);
            if *byte == 0 {
                self.0.push(0xff);
            }
        }
        self.0.push(0);
        self
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Where the keys end that begin with this one.
    pub(super) fn end(&self) -> Vec<u8> {
        [&*self.0, &[0xff]].concat()
    }

    /// The key that a part was.
    pub(super) const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The parts of a key, or none of what is no key.
    pub(super) fn parts(&self) -> Option<Vec<Vec<u8>>> {
        let (mut parts, mut part) = (Vec::new(), Vec::new());
        let mut bytes = self.0.iter().copied().peekable();
        while let Some(byte) = bytes.next() {
            if byte == 0 && bytes.next_if_eq(&0xff).is_none() {
                parts.push(std::mem::take(&mut part));
            } else {
                part.push(byte);
            }
        }
        part.is_empty().then_some(parts)
    }
}

/// The text that a part was.
pub(super) fn text_of(part: &[u8]) -> Option<&str> {
    std::str::from_utf8(part).ok()
}

/// The number that a part was, if it sorts upwards.
pub(super) fn number_of(part: &[u8]) -> Option<i64> {
    i64::try_from(digits(part)? + i128::from(i64::MIN)).ok()
}

/// The number that a part was, if the greatest comes first.
pub(super) fn newest_of(part: &[u8]) -> Option<i64> {
    i64::try_from(i128::from(i64::MAX) - digits(part)?).ok()
}

fn digits(part: &[u8]) -> Option<i128> {
    let text = text_of(part).filter(|text| text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u64::from_str_radix(text, 16).ok().map(i128::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: [i64; 7] = [i64::MIN, -1_000, -1, 0, 1, 1_772_323_200, i64::MAX];

    #[test]
    fn keys_sort_as_their_tuples_do_and_read_back() {
        let texts = ["", "\0", "\0\0", "\0a", "a", "a\0", "a\0\u{1}", "a\0b", "a\u{1}", "ab", "b", "\u{10ffff}"];
        let mut tuples = Vec::new();
        for first in texts {
            for second in texts {
                tuples.extend(NUMBERS.map(|number| (first, second, number)));
            }
        }
        tuples.sort_unstable();
        let key = |(first, second, number): &(&str, &str, i64)| Key::of(first).text(second).number(*number);
        let keys: Vec<Key> = tuples.iter().map(key).collect();
        assert!(keys.is_sorted_by(|one, next| one < next));
        for ((first, second, number), key) in tuples.iter().zip(&keys) {
            let parts = key.parts().unwrap();
            assert_eq!((text_of(&parts[0]), text_of(&parts[1])), (Some(*first), Some(*second)));
            assert_eq!((number_of(&parts[2]), parts.len()), (Some(*number), 3));
            let whole = Key::of("end").key(key).parts().unwrap();
            assert_eq!(Key::from_bytes(whole[1].clone()), *key);
        }
    }

    #[test]
    fn only_keys_that_begin_with_a_key_lie_before_its_end() {
        let of = |text: &str| Key::of("counter").text(text);
        let within = |key: &Key| of("a").as_bytes() <= key.as_bytes() && key.as_bytes() < &*of("a").end();
        assert!(within(&of("a").text("")) && within(&of("a").text("\u{10ffff}")) && within(&of("a").number(1)));
        for other in ["", "A", "a\0", "a\0b", "aa", "b"] {
            assert!(!within(&of(other).text("x")), "{other:?}");
        }
    }

    #[test]
    fn the_greatest_number_comes_first_where_it_is_asked_for() {
        let keys = NUMBERS.map(|number| Key::of("counter").newest(number));
        assert!(keys.iter().rev().is_sorted_by(|one, next| one < next));
        for (number, key) in NUMBERS.iter().zip(&keys) {
            assert_eq!(newest_of(&key.parts().unwrap()[1]), Some(*number));
        }
    }

    #[test]
    fn what_is_no_key_has_no_parts() {
        assert_eq!(Key::from_bytes(b"counter".to_vec()).parts(), None);
        for part in ["", "7fffffffffffffff0", "+fffffffffffffff", "x"] {
            assert_eq!(number_of(part.as_bytes()), None, "{part}");
        }
    }
}
