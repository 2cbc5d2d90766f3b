//! Books: what every counter, hold and idempotency key must hold, kept beside the store and without its
//! arithmetic. Each method makes one step, in the order in which the store made them, and says what came of it.

use std::collections::{BTreeMap, HashMap};

use quotum::store::{Adjust, Adjustment, Balance, Charge, Charged, CounterKey, Hold, Once, Outcome, Settle};
use quotum::{HoldId, Period, Timestamp, UNITS_MAX};

/// Used, held, bonus, overage, and the threshold told.
pub(crate) type Entry = [u64; 5];

pub(crate) const fn entry_of(balance: &Balance) -> Entry {
    [balance.used, balance.held, balance.bonus, balance.overage, balance.told as u64]
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Granted,
    Refused,
    Repeated(i64),
    Conflict,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resolved {
    Now(Vec<(u64, u64)>),
    Before(Vec<(u64, u64)>),
    Expired,
    Unknown,
}

#[derive(Debug, Clone, Default)]
struct Count {
    used: u64,
    bonus: u64,
    overage: u64,
    told: u64,
    open: BTreeMap<HoldId, (i64, u64)>,
}

#[derive(Debug)]
struct Done {
    once: Once,
    hold: Option<HoldId>,
    at_ms: i64,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Held {
    hold: Hold,
    at_ms: i64,
    entries: Vec<Entry>,
    receipt: Option<Vec<(u64, u64)>>,
}

#[derive(Debug)]
pub(crate) struct Books {
    /// The latest time that anybody told the store.
    pub(crate) latest_ms: i64,
    counts: BTreeMap<CounterKey, Count>,
    done: HashMap<(String, String), Done>,
    holds: BTreeMap<HoldId, Held>,
}

/// What the store answered, in the words of these books.
pub(crate) fn answered(charged: &Charged) -> (Verdict, Vec<Entry>) {
    let verdict = match charged.outcome {
        Outcome::Granted => Verdict::Granted,
        Outcome::Refused => Verdict::Refused,
        Outcome::Repeated(at) => Verdict::Repeated(at.as_millisecond()),
        Outcome::Conflict => Verdict::Conflict,
    };
    (verdict, charged.balances.iter().map(entry_of).collect())
}

impl Count {
    fn held(&self, now_ms: i64) -> u64 {
        self.open.values().filter(|(expires_ms, _)| *expires_ms > now_ms).map(|(_, amount)| amount).sum()
    }

    fn entry(&self, now_ms: i64) -> Entry {
        [self.used, self.held(now_ms), self.bonus, self.overage, self.told]
    }

    fn ceiling(&self, limit: Option<u64>) -> u64 {
        limit.map_or(UNITS_MAX, |units| units + self.bonus)
    }

    fn tell(&mut self, limit: Option<u64>) {
        let Some(limit) = limit else { return };
        let ceiling = self.ceiling(Some(limit));
        if self.used > 0 && self.used >= ceiling {
            self.told = self.told.max(100);
        } else if self.used > 0 && self.used * 100 >= ceiling * 80 {
            self.told = self.told.max(80);
        }
    }
}

/// A counter, made now if there is none. A new one of an hour has those forgotten that began 48 hours before,
/// unless they are among the three newest.
fn count_of<'c>(counts: &'c mut BTreeMap<CounterKey, Count>, key: &CounterKey) -> &'c mut Count {
    if !counts.contains_key(key) {
        counts.insert(key.clone(), Count::default());
        let (first, last) = (i64::MIN, i64::MAX);
        let own = CounterKey { start_s: first, ..key.clone() }..=CounterKey { start_s: last, ..key.clone() };
        let is_old = |window: &&CounterKey| key.period == Period::Hour && window.start_s < key.start_s - 48 * 3_600;
        let windows = counts.range(own).map(|(window, _)| window).rev();
        for old in windows.skip(3).filter(is_old).cloned().collect::<Vec<_>>() {
            counts.remove(&old);
        }
    }
    counts.entry(key.clone()).or_default()
}

impl Books {
    pub(crate) fn new() -> Self {
        Self { latest_ms: i64::MIN, counts: BTreeMap::new(), done: HashMap::new(), holds: BTreeMap::new() }
    }

    pub(crate) fn tell_time(&mut self, now: Timestamp) {
        self.latest_ms = self.latest_ms.max(now.as_millisecond());
    }

    fn earlier(&self, once: Option<&Once>) -> Option<(Verdict, Vec<Entry>)> {
        let once = once?;
        let done = self.done.get(&(once.subject.to_string(), once.key.to_string()))?;
        if done.once.kept_until.as_millisecond() <= self.latest_ms || done.hold.is_some_and(|id| !self.stands(id)) {
            return None;
        }
        Some(match done.once.arguments == once.arguments {
            true => (Verdict::Repeated(done.at_ms), done.entries.clone()),
            false => (Verdict::Conflict, Vec::new()),
        })
    }

    /// Whether a hold has charged something, or still may.
    fn stands(&self, id: HoldId) -> bool {
        let held = self.holds.get(&id).filter(|held| self.latest_ms < held.hold.kept_until.as_millisecond());
        held.is_some_and(|held| match &held.receipt {
            Some(parts) => parts.iter().any(|(used, overage)| used + overage > 0),
            None => self.latest_ms < held.hold.expires_at.as_millisecond(),
        })
    }

    fn remember(&mut self, once: Option<&Once>, hold: Option<HoldId>, entries: &[Entry]) {
        if let Some(once) = once {
            let done = Done { once: once.clone(), hold, at_ms: self.latest_ms, entries: entries.to_vec() };
            self.done.insert((once.subject.to_string(), once.key.to_string()), done);
        }
    }

    fn refuses(&self, charges: &[Charge]) -> bool {
        charges.iter().any(|charge| {
            let nothing = Count::default();
            let count = self.counts.get(&charge.key).unwrap_or(&nothing);
            count.used + count.held(self.latest_ms) + charge.amount > count.ceiling(charge.limit.units())
        })
    }

    pub(crate) fn entry(&self, key: &CounterKey) -> Entry {
        self.counts.get(key).map_or([0; 5], |count| count.entry(self.latest_ms))
    }

    fn entries(&self, charges: &[Charge]) -> Vec<Entry> {
        charges.iter().map(|charge| self.entry(&charge.key)).collect()
    }

    pub(crate) fn charge(&mut self, charges: &[Charge], once: Option<&Once>) -> (Verdict, Vec<Entry>) {
        if let Some(earlier) = self.earlier(once) {
            return earlier;
        }
        if self.refuses(charges) {
            return (Verdict::Refused, self.entries(charges));
        }
        for charge in charges {
            let count = count_of(&mut self.counts, &charge.key);
            count.used += charge.amount;
            count.tell(charge.limit.units());
        }
        let entries = self.entries(charges);
        self.remember(once, None, &entries);
        (Verdict::Granted, entries)
    }

    pub(crate) fn hold(&mut self, hold: &Hold) -> (Verdict, Vec<Entry>) {
        if let Some(earlier) = self.earlier(hold.once.as_ref()) {
            return earlier;
        }
        if let Some(earlier) = self.holds.get(&hold.id).filter(|_| self.stands(hold.id)) {
            return (Verdict::Repeated(earlier.at_ms), earlier.entries.clone());
        }
        if self.refuses(&hold.charges) {
            return (Verdict::Refused, self.entries(&hold.charges));
        }
        // What was held counts in the answer although a slow clock may have it expire at once.
        let mut entries = Vec::new();
        for charge in &hold.charges {
            let now_ms = self.latest_ms;
            let count = count_of(&mut self.counts, &charge.key);
            count.tell(charge.limit.units());
            let mut entry = count.entry(now_ms);
            entry[1] += charge.amount;
            count.open.insert(hold.id, (hold.expires_at.as_millisecond(), charge.amount));
            entries.push(entry);
        }
        let held = Held { hold: hold.clone(), at_ms: self.latest_ms, entries: entries.clone(), receipt: None };
        self.holds.insert(hold.id, held);
        self.remember(hold.once.as_ref(), Some(hold.id), &entries);
        (Verdict::Granted, entries)
    }

    pub(crate) fn settle(&mut self, settle: &Settle) -> Resolved {
        let now_ms = self.latest_ms;
        let found = self.holds.get_mut(&settle.id).filter(|held| now_ms < held.hold.kept_until.as_millisecond());
        let Some(held) = found else { return Resolved::Unknown };
        if let Some(receipt) = &held.receipt {
            return Resolved::Before(receipt.clone());
        }
        if held.hold.expires_at.as_millisecond() <= now_ms {
            return Resolved::Expired;
        }
        let mut parts = Vec::new();
        for charge in &held.hold.charges {
            let listed = settle.used.iter().find(|(metric, _)| *metric == charge.key.metric);
            let actual = listed.map_or(charge.amount, |(_, actual)| *actual);
            let count = count_of(&mut self.counts, &charge.key);
            count.open.remove(&settle.id);
            count.used += actual.min(charge.amount);
            let beyond = actual.saturating_sub(charge.amount);
            let room = count.ceiling(charge.limit.units()).saturating_sub(count.used + count.held(now_ms));
            count.used += beyond.min(room);
            count.overage += beyond - beyond.min(room);
            count.tell(charge.limit.units());
            parts.push((actual.min(charge.amount) + beyond.min(room), beyond - beyond.min(room)));
        }
        held.receipt = Some(parts.clone());
        Resolved::Now(parts)
    }

    pub(crate) fn adjust(&mut self, adjustments: &[Adjustment], once: Option<&Once>) -> (Verdict, Vec<Entry>) {
        if let Some(earlier) = self.earlier(once) {
            return earlier;
        }
        let mut entries = Vec::new();
        for Adjustment { key, by } in adjustments {
            let now_ms = self.latest_ms;
            let mut count = self.counts.get(key).cloned().unwrap_or_default();
            let before = count.entry(now_ms);
            match by {
                Adjust::Refund(amount) => {
                    let from_overage = count.overage.min(*amount);
                    count.overage -= from_overage;
                    count.used -= count.used.min(amount - from_overage);
                }
                Adjust::Grant(amount) => count.bonus += amount,
                Adjust::Record(amount, limit) => {
                    let room = count.ceiling(limit.units()).saturating_sub(count.used + count.held(now_ms));
                    count.used += room.min(*amount);
                    count.overage += amount - room.min(*amount);
                }
                Adjust::Reset => (count.used, count.overage) = (0, 0),
                _ => panic!("no run adjusts by {by:?}"),
            }
            entries.push(count.entry(now_ms));
            // A counter that was never charged stays absent.
            if count.entry(now_ms) != before {
                *count_of(&mut self.counts, key) = count;
            }
        }
        self.remember(once, None, &entries);
        (Verdict::Granted, entries)
    }

    /// Every counter and what it must hold.
    pub(crate) fn all(&self) -> Vec<(CounterKey, Entry)> {
        self.counts.iter().map(|(key, count)| (key.clone(), count.entry(self.latest_ms))).collect()
    }

    /// Units that are held by holds that are still open.
    pub(crate) fn held(&self) -> u64 {
        self.counts.values().map(|count| count.held(self.latest_ms)).sum()
    }

    pub(crate) fn hold_of(&self, id: HoldId) -> Option<&Hold> {
        self.holds.get(&id).map(|held| &held.hold)
    }
}
