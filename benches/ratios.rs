//! Prints the last benchmark run as ratios: how long Quotum takes beside its peer, measured in turn.

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let criterion = target.join("criterion");
    let mut groups: Vec<PathBuf> = fs::read_dir(&criterion)
        .map_err(|error| format!("{}: {error}; run `cargo bench -p quotum-benches` first", criterion.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()).filter(|path| path.join("quotum").is_dir()))
        .collect();
    groups.sort();
    println!("{:<28} {:>14} {:>14} {:>12}", "what", "quotum", "peer", "quotum:peer");
    for group in groups {
        let (ours_ns, peer_ns) = (median_ns(&group.join("quotum"))?, median_ns(&group.join("peer"))?);
        let name = group.file_name().unwrap_or_default().to_string_lossy().replace('_', " / ");
        println!("{name:<28} {:>14} {:>14} {:>11.2}x", readable(ours_ns), readable(peer_ns), ours_ns / peer_ns);
    }
    Ok(())
}

fn median_ns(bench: &Path) -> Result<f64, Box<dyn Error>> {
    let estimates: serde_json::Value = serde_json::from_str(&fs::read_to_string(bench.join("new/estimates.json"))?)?;
    let median = estimates.pointer("/median/point_estimate").and_then(serde_json::Value::as_f64);
    Ok(median.ok_or_else(|| format!("{}: no median", bench.display()))?)
}

fn readable(ns: f64) -> String {
    if ns < 1_000.0 { format!("{ns:.0} ns") } else { format!("{:.2} us", ns / 1_000.0) }
}
