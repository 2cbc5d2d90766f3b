//! Makes traffic for a demonstration: three weeks of a tender search engine, as CSV.
//!
//! The same in every run. Some subjects search now and then, a few all day; searches come in working
//! hours, and one in six exports what it found. A few of the free ones pay after the first week.

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::io::{BufWriter, Write};

use jiff::{SignedDuration, Timestamp};

/// SplitMix64 ([Steele, Lea and Flood, 2014](https://doi.org/10.1145/2660193.2660195)): enough to make
/// traffic, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (bits ^ (bits >> 31)) % bound
    }
}

const DAYS: i64 = 21;

fn main() -> Result<(), Box<dyn Error>> {
    let begin: Timestamp = "2026-03-02T03:00:00Z".parse()?;
    let mut random = Random(7);
    let mut requests: Vec<(Timestamp, String, &str, u64)> = Vec::new();
    for subject in 0..160_u64 {
        let plan = match subject % 20 {
            0..=11 => "free_trial",
            12..=16 => "consultor_agil",
            17..=18 => "maquina",
            _ => "sala_guerra",
        };
        let upgraded = if subject % 8 == 3 && plan == "free_trial" { "consultor_agil" } else { plan };
        let a_day = match plan {
            "free_trial" => 1,
            "consultor_agil" => 1 + random.below(5),
            "maquina" => 4 + random.below(22),
            _ => 30 + random.below(40),
        };
        for day in 0..DAYS {
            let weekend = day % 7 >= 5;
            let today = if weekend { a_day / 4 } else { random.below(2 * a_day + 1) };
            for _ in 0..today {
                // Between eight in the morning and eight in the evening, in seconds.
                let second = i64::try_from(8 * 3_600 + random.below(12 * 3_600))?;
                let time = begin.checked_add(SignedDuration::from_secs(day * 86_400 + second))?;
                let exports = u64::from(plan != "free_trial" && plan != "consultor_agil" && random.below(6) == 0);
                let plan = if day < 7 { plan } else { upgraded };
                requests.push((time, format!("user-{subject:03}"), plan, exports));
            }
        }
    }
    requests.sort();
    let mut output = BufWriter::new(std::io::stdout().lock());
    writeln!(output, "time,user,plan,exports")?;
    for (time, subject, plan, exports) in requests {
        writeln!(output, "{time},{subject},{plan},{exports}")?;
    }
    Ok(output.flush()?)
}
