//! What the benchmarks share: seeded randomness, medians, memory.

/// What the generator starts from, in every run.
pub(crate) const SEED: u64 = 0x5155_4F54_554D_0001;

/// The generator of Vigna's splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.next()) * count as u128) >> 64) as usize
    }

    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Which key each operation asks for: any, or by Zipf's law with an exponent of 0.99, its ranks permuted.
pub(crate) fn picks(ops: usize, keys: usize, zipf: bool) -> Vec<u32> {
    let mut random = Random(SEED);
    if !zipf {
        return (0..ops).map(|_| random.below(keys) as u32).collect();
    }
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=keys)
        .map(|rank| {
            sum += (rank as f64).powf(-0.99);
            sum
        })
        .collect();
    let mut of_rank: Vec<u32> = (0..keys as u32).collect();
    for index in (1..keys).rev() {
        of_rank.swap(index, random.below(index + 1));
    }
    let pick = |at: f64| of_rank[sums.partition_point(|sum| *sum < at).min(keys - 1)];
    (0..ops).map(|_| pick(random.fraction() * sum)).collect()
}

/// The middle one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Resident memory of this process, in bytes; 0 where there is no `/proc`.
pub(crate) fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap_or(0.0) * 1_024.0
}
