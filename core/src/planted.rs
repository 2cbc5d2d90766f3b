//! Planted bugs: mistakes that somebody could make, to prove that the tests would find them.
//!
//! None is there in a normal build: `planted!` is `false`. With `--cfg planted`, each can be switched on for
//! one thread, so that one build serves them all. `make test-planted` demands that each is found.

/// Whether this mistake is to be made here.
#[cfg(not(planted))]
macro_rules! planted {
    ($bug:literal) => {
        false
    };
}

#[cfg(planted)]
macro_rules! planted {
    ($bug:literal) => {
        crate::planted::is_planted($bug)
    };
}

pub(crate) use planted;

#[cfg(planted)]
pub(crate) mod bugs {
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<&'static str> = const { Cell::new("") };
    }

    /// Every bug that can be planted.
    pub const PLANTED_BUGS: &[&str] = &[
        "account_not_charged",
        "bonus_follows_into_the_next_window",
        "budget_without_the_store_ignored",
        "charge_checks_only_the_first_limit",
        "clock_goes_back",
        "commit_charges_what_was_held",
        "debt_charged_without_a_name",
        "debt_forgotten_when_its_charge_fails",
        "debt_grows_while_it_is_charged",
        "feed_skips_a_change",
        "flight_wakes_only_one_caller",
        "held_units_ignored",
        "hold_expires_on_one_counter_only",
        "hold_ignores_its_key",
        "hold_settled_after_it_expired",
        "hold_settled_twice",
        "late_read_of_a_subscription_is_kept",
        "look_is_charged_when_the_store_is_dead",
        "lease_crosses_a_period",
        "lease_given_back_when_it_expires",
        "leased_units_granted_twice",
        "member_limits_ignored",
        "once_forgets_what_was_done",
        "once_ignores_the_arguments",
        "once_remembers_denials",
        "overage_counts_as_used",
        "plans_of_others_not_loaded",
        "refund_takes_used_before_overage",
        "refused_charge_is_partly_made",
        "reset_drops_what_is_held",
        "subscription_kept_after_a_change",
        "swap_overwrites_another_change",
        "zone_ignored",
    ];

    /// Plants a bug for this thread.
    pub fn plant(bug: &'static str) {
        PLANTED.set(bug);
    }

    pub(crate) fn is_planted(bug: &str) -> bool {
        debug_assert!(PLANTED_BUGS.contains(&bug), "{bug} is not in the list of planted bugs");
        PLANTED.get() == bug
    }
}

#[cfg(planted)]
pub(crate) use bugs::is_planted;
