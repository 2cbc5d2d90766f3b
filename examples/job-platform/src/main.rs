//! `job-platform`: serves the platform of this crate's library.

#![allow(clippy::print_stdout)]

use std::net::SocketAddr;

use anyhow::{Context, Result};
use job_platform::{Platform, Settings, StoreChoice, router};
use quotum::Plans;
use quotum::http::TrustedHops;
use tokio::net::TcpListener;

const PLANS: &str = include_str!("../../plans/job-platform.toml");

fn setting(name: &str, otherwise: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| otherwise.to_owned())
}

#[tokio::main]
async fn main() -> Result<()> {
    let plans = match std::env::var("PLANS") {
        Ok(path) => Plans::read(path)?,
        Err(_) => Plans::from_toml(PLANS)?,
    };
    let url = setting("QUOTUM_URL", "sqlite:job-platform.db");
    let mut settings = Settings::new(plans, StoreChoice::Url(url.clone()));
    settings.hops = TrustedHops::new(setting("TRUSTED_HOPS", "0").parse().context("TRUSTED_HOPS is no number")?);
    // Without a token nobody is an administrator: one that everybody can read here would be none.
    settings.admins = std::env::var("ADMIN_TOKEN").into_iter().map(|token| ("root".to_owned(), token)).collect();
    let platform = Platform::open(settings).await?;

    let listener = TcpListener::bind(setting("LISTEN", "127.0.0.1:8080")).await.context("cannot listen")?;
    let address = listener.local_addr()?;
    println!("job-platform listens on http://{address}, and counts in {url}. Try:\n");
    let json = "-H 'content-type: application/json'";
    let ana = r#"-d '{"email":"ana@example.com","password":"correct horse"}'"#;
    let token = r#"sed 's/.*"token":"\([^"]*\)".*/\1/'"#;
    println!("curl -s http://{address}/v1/register {json} {ana}");
    println!("TOKEN=$(curl -s http://{address}/v1/login {json} {ana} | {token})");
    println!("curl -i http://{address}/v1/jobs -H \"authorization: Bearer $TOKEN\" {json} -d '{{}}'");

    let service = router(platform).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(interrupted()).await?;
    Ok(())
}

/// Until Ctrl-C, so that requests under way are answered before the process ends.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
