//! Any text as a plans file: it is refused with a reason, or it reads back from what it writes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use quotum::{Plans, QuotaLimit, RateLimit};

fuzz_target!(|text: &str| {
    for read in [Plans::from_toml(text), Plans::from_json(text)] {
        match read {
            Ok(plans) => assert_eq!(Plans::from_json(&plans.to_json()), Ok(plans)),
            Err(error) => assert!(!error.problems.is_empty() && !error.to_string().is_empty()),
        }
    }
    if let Ok(limit) = text.parse::<QuotaLimit>() {
        assert_eq!(limit.to_string().parse(), Ok(limit));
    }
    if let Ok(limit) = text.parse::<RateLimit>() {
        assert_eq!(limit.to_string().parse(), Ok(limit));
    }
});
