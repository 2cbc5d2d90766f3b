//! Which plan a new subject is put on, where the traffic does not say.

use std::str::FromStr;

use anyhow::{Context, Result, bail};

/// Shares of plans: of every so many new subjects, the first ones go to the first plan, the next ones to
/// the next, and so on.
#[derive(Debug, Clone)]
pub(crate) struct Deal {
    shares: Vec<(String, usize)>,
}

impl Deal {
    /// The plans that subjects are dealt to.
    pub(crate) fn plans(&self) -> impl Iterator<Item = &str> {
        self.shares.iter().map(|(plan, _)| plan.as_str())
    }

    /// The plan of the n-th new subject, counted from 0.
    pub(crate) fn plan(&self, n: usize) -> Option<&str> {
        let all: usize = self.shares.iter().map(|(_, share)| share).sum();
        let mut place = n.checked_rem(all)?;
        for (plan, share) in &self.shares {
            match place.checked_sub(*share) {
                Some(beyond) => place = beyond,
                None => return Some(plan),
            }
        }
        None
    }
}

impl FromStr for Deal {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let expected = || format!("found {text:?}, expected shares such as free=80,pro=20");
        let mut shares = Vec::new();
        for part in text.split(',') {
            let (plan, share) = part.split_once('=').with_context(expected)?;
            shares.push((plan.trim().to_owned(), share.trim().parse::<u16>().with_context(expected)?.into()));
        }
        if shares.iter().all(|(_, share)| *share == 0) {
            bail!(expected());
        }
        Ok(Self { shares })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_dealt_in_turn_by_share() {
        let deal: Deal = "free=2,none=0,pro=1".parse().unwrap();
        let plans: Vec<&str> = (0..7).filter_map(|n| deal.plan(n)).collect();
        assert_eq!(plans, ["free", "free", "pro", "free", "free", "pro", "free"]);
        for text in ["", "free", "free=x", "free=0", "free=1,pro", "free=-1"] {
            assert!(text.parse::<Deal>().is_err(), "{text}");
        }
    }
}
