//! Plans and subscriptions in tables of the host's own, read by queries of its own.
//!
//! A query is wrapped into one that names its columns and casts them, so that they may be of any type that reads as
//! what they are: a number or a UUID as an account, an enumeration as a status. It is tried when the store is opened.

use std::collections::HashSet;

use jiff::Timestamp;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row, SimpleQueryMessage};

use super::failure::{damaged, failure, text};
use super::statement::{Bytes, Statement};
use crate::plan::Plans;
use crate::store::effect::Effect;
use crate::store::{StoreError, StoredPlans};
use crate::subscription::Subscription;

/// A query of the host's as it is asked.
#[derive(Debug, Clone)]
pub(super) struct Hosted {
    sql: String,
    subject: SubjectKind,
}

/// The host's queries as it has written them.
#[derive(Debug, Clone, Default)]
pub(super) struct Queries {
    pub(super) subscription: Option<String>,
    pub(super) plans: Option<String>,
}

/// The host's queries as they are asked.
#[derive(Debug, Default)]
pub(super) struct HostedTables {
    pub(super) subscription: Option<Hosted>,
    pub(super) plans: Option<Hosted>,
}

impl Queries {
    /// Tries them, or says what is wrong with one.
    pub(super) async fn tried(&self, client: &Client) -> Result<HostedTables, String> {
        let mut tables = HostedTables::default();
        if let Some(query) = &self.subscription {
            tables.subscription = Some(Hosted::subscription(client, query).await?);
        }
        if let Some(query) = &self.plans {
            tables.plans = Some(Hosted::plans(client, query).await?);
        }
        Ok(tables)
    }
}

/// What a query's `$1` is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SubjectKind {
    Text,
    Number,
    Uuid,
}

/// The columns of a subscription, and whether it must have them.
const TEXTS: [(&str, bool); 4] = [("plan", true), ("status", false), ("account", false), ("zone", false)];
const TIMES: [&str; 4] = ["since", "trial_ends_at", "expires_at", "anchor"];

impl Hosted {
    /// Tries the query for a subject's subscription.
    async fn subscription(client: &Client, query: &str) -> Result<Self, String> {
        let what = "the subscription query";
        let found = columns(client, what, query).await?;
        let mut columns = Vec::new();
        for (name, is_required) in TEXTS {
            columns.push(match (found.contains(name), is_required) {
                (true, _) => format!("h.{name}::text AS {name}"),
                (false, true) => return Err(missing(what, name)),
                (false, false) => format!("NULL::text AS {name}"),
            });
        }
        for name in TIMES {
            // For ever is no end.
            columns.push(match found.contains(name) {
                true => format!(
                    "CASE WHEN isfinite(h.{name}) THEN (extract(epoch FROM h.{name}) * 1000)::int8 END AS {name}"
                ),
                false => format!("NULL::int8 AS {name}"),
            });
        }
        let sql = format!("SELECT {} FROM ({}\n) AS h LIMIT 1", columns.join(", "), bare(query));
        let kinds = [SubjectKind::Text, SubjectKind::Number, SubjectKind::Uuid];
        let mut first_error = None;
        for subject in kinds {
            let nobody: (&(dyn ToSql + Sync), Type) = match subject {
                SubjectKind::Text => (&None::<&str>, Type::TEXT),
                SubjectKind::Number => (&None::<i64>, Type::INT8),
                SubjectKind::Uuid => (&None::<Uuid>, Type::UUID),
            };
            match client.query_typed(&sql, &[nobody]).await {
                Ok(_) => return Ok(Self { sql, subject }),
                Err(error) => drop(first_error.get_or_insert(error)),
            }
        }
        let detail = first_error.map_or_else(String::new, |error| text(&error));
        Err(format!("{what} cannot be made, it must select texts and timestamps by a subject as $1: {detail}"))
    }

    /// Tries the query for the plans.
    async fn plans(client: &Client, query: &str) -> Result<Self, String> {
        let what = "the plans query";
        let found = columns(client, what, query).await?;
        for name in ["version", "document"] {
            if !found.contains(name) {
                return Err(missing(what, name));
            }
        }
        let sql = format!("SELECT h.version::int8, h.document::text FROM ({}\n) AS h LIMIT 1", bare(query));
        match client.query_typed(&sql, &[]).await {
            Ok(_) => Ok(Self { sql, subject: SubjectKind::Text }),
            Err(error) => Err(format!(
                "{what} cannot be made, it must select a whole number as version and a text as document: {}",
                text(&error)
            )),
        }
    }

    /// The query for a subject's subscription; none where it can be nobody's id.
    pub(super) fn asking_for(&self, subject: &str) -> Option<Statement> {
        let statement = Statement::hosted(&self.sql);
        Some(match self.subject {
            SubjectKind::Text if subject.contains('\0') => return None,
            SubjectKind::Text => statement.with(subject.to_owned()),
            SubjectKind::Number => statement.with(subject.parse::<i64>().ok()?),
            SubjectKind::Uuid => statement.with(subject.parse::<Uuid>().ok()?),
        })
    }

    pub(super) fn asking(&self) -> Statement {
        Statement::hosted(&self.sql)
    }
}

/// The names of a query's columns.
async fn columns(client: &Client, what: &str, query: &str) -> Result<HashSet<String>, String> {
    // Without a value, which this way of asking does not know.
    let sql = format!("SELECT * FROM ({}\n) AS h LIMIT 0", bare(query).replace("$1", "NULL"));
    let answer = client.simple_query(&sql).await;
    let messages = answer.map_err(|error| match error.code() {
        Some(&SqlState::UNDEFINED_TABLE | &SqlState::INSUFFICIENT_PRIVILEGE) => {
            format!("{what} cannot read its tables: {}", text(&error))
        }
        _ => format!("{what} cannot be made: {}", text(&error)),
    })?;
    let names = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::RowDescription(columns) => Some(columns.iter().map(|column| column.name().to_owned())),
        _ => None,
    });
    Ok(names.flatten().collect())
}

fn missing(what: &str, column: &str) -> String {
    format!("{what} has no column {column}: select one `AS {column}`")
}

/// The query without the semicolon at its end.
fn bare(query: &str) -> &str {
    query.trim_end().trim_end_matches(';')
}

/// The subscription in a row of the host's.
pub(super) fn subscription(row: &Row) -> Result<Subscription, StoreError> {
    let what = "a subscription of the host's";
    let texts = |name| row.try_get::<_, Option<String>>(name).map_err(|error| failure(&error, Effect::None));
    let time = |name| -> Result<Option<Timestamp>, StoreError> {
        let ms: Option<i64> = row.try_get(name).map_err(|error| failure(&error, Effect::None))?;
        ms.map(Timestamp::from_millisecond).transpose().map_err(|error| damaged(what, &error))
    };
    let plan = texts("plan")?.ok_or_else(|| damaged(what, &"its plan is null, select no row for who has none"))?;
    let mut subscription = Subscription::active(&plan, time("since")?.unwrap_or(Timestamp::UNIX_EPOCH));
    if let Some(status) = texts("status")? {
        subscription.status = status.parse().map_err(|error: crate::Error| damaged(what, &error))?;
    }
    subscription.trial_ends_at = time("trial_ends_at")?;
    subscription.expires_at = time("expires_at")?;
    subscription.anchor = time("anchor")?;
    subscription.zone = texts("zone")?;
    subscription.account = texts("account")?;
    Ok(subscription)
}

/// The plans in a row of the host's: a plans file in JSON or TOML.
pub(super) fn plans(row: &Row) -> Result<StoredPlans, StoreError> {
    let get = |error| damaged("the plans of the host's", &error);
    let (version, document): (i64, &str) = (row.try_get(0).map_err(get)?, row.try_get(1).map_err(get)?);
    let is_json = document.trim_start().starts_with('{');
    let plans = if is_json { Plans::from_json(document) } else { Plans::from_toml(document) };
    let plans = plans.map_err(|error| damaged("the plans of the host's", &error))?;
    Ok(StoredPlans { version: version.unsigned_abs(), plans })
}

/// A UUID as the server has it.
#[derive(Debug)]
pub(super) struct Uuid(Bytes);

impl std::str::FromStr for Uuid {
    type Err = ();

    /// 32 hexadecimal digits, with or without hyphens.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits: String = text.chars().filter(|digit| *digit != '-').collect();
        let is_one = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let bits = u128::from_str_radix(&digits, 16).ok().filter(|_| is_one).ok_or(())?;
        Ok(Self(Bytes::of(bits.to_be_bytes())))
    }
}

impl ToSql for Uuid {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut tokio_postgres::types::private::BytesMut,
    ) -> Result<tokio_postgres::types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
        self.0.to_sql(&Type::BYTEA, out)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::UUID
    }

    tokio_postgres::types::to_sql_checked!();
}
