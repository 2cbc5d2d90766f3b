//! The schema in the database, and whether a database may be used at all.
//!
//! A schema that is foreign or newer than this library is refused as it is. Of several processes that bring one up
//! to date at once, one does.

use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Client, Config, Error};

use super::failure::{failure, text};
use super::hosted::{HostedTables, Queries};
use super::tls::{Encryption, encryption_advice};
use crate::store::StoreError;
use crate::store::effect::Effect;

/// What turns version `i` of the schema into version `i + 1`. Never edited once released.
const MIGRATIONS: [&[&str]; 1] = [&[
    include_str!("schema/tables.sql"),
    include_str!("schema/counters.sql"),
    include_str!("schema/steps.sql"),
    include_str!("schema/charges.sql"),
    include_str!("schema/holds.sql"),
    include_str!("schema/leases.sql"),
    include_str!("schema/rates.sql"),
    include_str!("schema/log.sql"),
]];

/// The newest schema that this library knows.
const NEWEST: i64 = MIGRATIONS.len() as i64;

/// Checks the database, brings the schema up to date and tries the host's queries. `schema` is a name without quotes.
pub(super) async fn prepare(
    config: &Config,
    encryption: Encryption,
    schema: &str,
    name: &str,
    queries: &Queries,
) -> Result<HostedTables, StoreError> {
    let cannot = |detail: String| StoreError::CannotOpen { name: name.to_owned(), detail };
    let (client, connection) = config.connect(encryption).await.map_err(|error| cannot(advice(&error)))?;
    let driven = tokio::spawn(connection);
    let outcome = match prepare_on(&client, schema, name).await {
        Ok(()) => queries.tried(&client).await.map_err(cannot),
        Err(error) => Err(error),
    };
    drop(client);
    let _closed = driven.await;
    outcome
}

async fn prepare_on(client: &Client, schema: &str, name: &str) -> Result<(), StoreError> {
    let refuse = |detail: &str| Err(StoreError::CannotOpen { name: name.to_owned(), detail: detail.to_owned() });
    if setting(client, "server_encoding").await? != "UTF8" {
        return refuse("its encoding is not UTF8, create the database with ENCODING 'UTF8'");
    }
    // What was locked must be seen as it is, not as it was when the statement began.
    if setting(client, "default_transaction_isolation").await? != "read committed" {
        return refuse("set default_transaction_isolation to 'read committed' for the role that Quotum connects as");
    }
    // Most often there is nothing to do, and that needs no right to do anything.
    if version(client, schema).await? == Some(NEWEST) {
        return Ok(());
    }
    let migrated = migrate(client, schema, name).await;
    if migrated.is_err() {
        let _undone = client.batch_execute("ROLLBACK").await;
    }
    migrated
}

async fn setting(client: &Client, name: &str) -> Result<String, StoreError> {
    let value = first(client, &format!("SELECT current_setting('{name}')"), &[]).await?;
    Ok(value.unwrap_or_default())
}

/// The first value that a question finds. Never prepared by name: a pooler may ask each on another session.
async fn first<T>(
    client: &Client,
    question: &str,
    values: &[(&(dyn ToSql + Sync), Type)],
) -> Result<Option<T>, StoreError>
where
    T: for<'r> FromSql<'r>,
{
    let rows = client.query_typed(question, values).await.map_err(|error| failure(&error, Effect::None))?;
    rows.first().map(|row| row.try_get(0)).transpose().map_err(|error| failure(&error, Effect::None))
}

/// The version of the schema, where there is one that says so.
///
/// The catalog is asked as a table: what a session has looked up by name it believes until it is told otherwise,
/// and it may not have been told when it has waited for another that has just made the schema.
async fn version(client: &Client, schema: &str) -> Result<Option<i64>, StoreError> {
    if count(client, schema, "relname = 'schema_version'").await? == 0 {
        return Ok(None);
    }
    first(client, &format!("SELECT version FROM \"{schema}\".schema_version"), &[]).await
}

/// How many tables, and whatever else has a name beside them, the schema has of these.
async fn count(client: &Client, schema: &str, which: &str) -> Result<i64, StoreError> {
    let count = format!(
        "SELECT count(*) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = $1::text AND {which}"
    );
    Ok(first(client, &count, &[(&schema, Type::TEXT)]).await?.unwrap_or(0))
}

async fn migrate(client: &Client, schema: &str, name: &str) -> Result<(), StoreError> {
    let quoted = format!("\"{schema}\"");
    let run = async |sql: String| client.batch_execute(&sql).await.map_err(|error| failure(&error, Effect::Each));
    run(format!("BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('quotum migration of {schema}', 0))")).await?;
    let found = version(client, schema).await?;
    if let Some(found) = found.filter(|found| !(1..=NEWEST).contains(found)) {
        return Err(StoreError::NewerSchema { name: name.to_owned(), found, known: NEWEST });
    }
    if found.is_none() {
        if count(client, schema, "true").await? > 0 {
            return Err(StoreError::Foreign { name: format!("the schema {schema} of {name}") });
        }
        run(format!(
            "CREATE SCHEMA IF NOT EXISTS {quoted};
             CREATE TABLE {quoted}.schema_version (version int8 NOT NULL);
             INSERT INTO {quoted}.schema_version VALUES (0)"
        ))
        .await?;
    }
    let done = usize::try_from(found.unwrap_or(0)).unwrap_or(usize::MAX);
    for migration in MIGRATIONS.iter().skip(done).flat_map(|files| files.iter()) {
        run(migration.replace("quotum.", &format!("{quoted}."))).await?;
    }
    run(format!("UPDATE {quoted}.schema_version SET version = {NEWEST}; COMMIT")).await
}

/// Why there is no connection, and what to do.
fn advice(error: &Error) -> String {
    use tokio_postgres::error::SqlState;
    let what = match error.code() {
        Some(&SqlState::INVALID_PASSWORD) => "correct the user's name and password",
        Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => "correct the user's name, or let it in in pg_hba.conf",
        Some(&SqlState::INVALID_CATALOG_NAME) => "create the database first",
        Some(&SqlState::TOO_MANY_CONNECTIONS) => "raise the server's max_connections, or make the pools smaller",
        Some(_) => "ask again once the server has finished what it is doing",
        None => encryption_advice(error).unwrap_or("correct its address, or start the server"),
    };
    format!("{}: {what}", text(error))
}
