// The engine that the examples of `docs/guide.md` go on from: an expression, included into each of them.
(|| -> Result<(quotum::blocking::Quota, std::sync::Arc<quotum::ManualClock>), Box<dyn std::error::Error>> {
    let clock = std::sync::Arc::new(quotum::ManualClock::at("2026-03-10T15:00:00Z".parse()?));
    let plans = quotum::Plans::from_toml(
        r#"
        default_plan = "free"
        rates = { login = "3/minute" }

        [plans.free]
        features = { excel = false, history_days = 7 }
        quotas = { searches = ["3/day", "50/month"], tokens = "1000/day", storage_mb = "100/total" }
        rates = { api = "2/minute" }

        [plans.team]
        rank = 1
        features = { excel = true, history_days = 365 }
        quotas = { searches = "1000/month", tokens = "unlimited/month", storage_mb = "5000/total" }
        member_quotas = { searches = "100/day" }
        rates = { api = "60/minute" }
    "#,
    )?;
    let quota = quotum::blocking::Quota::builder().plans(plans).clock(clock.clone()).open("memory:")?;
    Ok((quota, clock))
})()
