//! The PostgreSQL store on the host's own tables of users and plans.

#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod servers;

use std::sync::Arc;

use quotum::blocking::Quota;
use quotum::store::{PostgresOptions, StoreError};
use quotum::{Error, Plans, Status, Subscription, Timestamp};
use servers::Postgres;

const PLANS: &str = "default_plan = 'free'
[plans.free]
quotas = { jobs = '1/total' }
[plans.pro]
rank = 1
quotas = { jobs = '9/total' }";

const USERS: &str = "
CREATE TYPE standing AS ENUM ('active', 'past_due', 'canceled');
CREATE TABLE users (
    id bigint PRIMARY KEY, public_id uuid, name varchar(40) UNIQUE, plan text, standing standing, team int,
    paid_until timestamp, ends date
);
INSERT INTO users VALUES
    (7, '00000000-0000-0000-0000-0000000000aa', 'ana', 'pro', 'active', 3, '2099-01-01 12:00', '2099-01-01'),
    (8, '00000000-0000-0000-0000-0000000000bb', 'bob', 'pro', 'canceled', NULL, '2020-01-01', 'infinity');
CREATE TABLE catalog (version int, document jsonb);";

fn open(options: &PostgresOptions) -> Quota {
    let plans = Plans::from_toml(PLANS).unwrap();
    Quota::builder().plans(plans).open_on(Arc::new(options.open().unwrap())).unwrap()
}

fn time(text: &str) -> Option<Timestamp> {
    Some(text.parse().unwrap())
}

#[test]
fn a_subscription_is_read_from_a_table_whatever_its_columns_are() {
    let server = Postgres::start_hasty();
    server.psql(USERS);
    let columns = "plan, standing AS status, team AS account, paid_until AS expires_at, ends AS anchor, name";
    for (which, ana, nobody) in [
        ("id = $1", "7", "not a number"),
        ("name = $1", "ana", "nul\0"),
        ("public_id = $1", "00000000-0000-0000-0000-0000000000AA", "ana"),
        ("id::text = $1;", "7", "9"),
    ] {
        let query = format!("SELECT {columns} FROM users WHERE {which}");
        let quota = open(&server.options().subscription_query(&query));
        let found = quota.subscription(ana).unwrap().unwrap();
        assert_eq!((found.plan.as_str(), found.status, found.account.as_deref()), ("pro", Status::Active, Some("3")));
        assert_eq!((found.expires_at, found.anchor), (time("2099-01-01T12:00:00Z"), time("2099-01-01T00:00:00Z")));
        assert_eq!(quota.subscription(nobody).unwrap(), None);
    }
    let quota =
        open(&server.options().subscription_query("SELECT plan, standing AS status FROM users WHERE name = $1"));
    assert_eq!(quota.subscription("bob").unwrap().unwrap().status, Status::Canceled);
    assert!(quota.consume("ana", &[("jobs", 9)]).unwrap().allowed);
    assert!(!quota.consume("bob", &[("jobs", 9)]).unwrap().allowed, "canceled");
}

#[test]
fn a_change_in_the_table_is_seen_once_the_subject_is_forgotten_and_made_nowhere_else() {
    let server = Postgres::start_hasty();
    server.psql(USERS);
    let quota = open(&server.options().subscription_query("SELECT plan FROM users WHERE name = $1"));
    assert!(quota.check("ana", &[("jobs", 9)]).unwrap().allowed);
    server.psql("UPDATE users SET plan = 'free' WHERE name = 'ana'");
    quota.forget_subject("ana").unwrap();
    assert!(!quota.check("ana", &[("jobs", 9)]).unwrap().allowed);
    let pro = || Subscription::active("pro", Timestamp::UNIX_EPOCH);
    for error in [quota.subscribe("ana", pro()).unwrap_err(), quota.cancel("ana").unwrap_err()] {
        assert!(matches!(error, Error::Store(StoreError::KeptByHost { .. })), "{error}");
    }
    quota.subscribe("eve", pro()).unwrap();
    assert_eq!(quota.subscription("eve").unwrap(), Some(pro()));
}

#[test]
fn plans_are_read_from_a_table_and_from_the_file_while_it_is_empty() {
    let server = Postgres::start_hasty();
    server.psql(USERS);
    let options = server.options().plans_query("SELECT version, document FROM catalog");
    let quota = open(&options);
    assert!(quota.check("ana", &[("jobs", 1)]).unwrap().allowed);
    server.psql(
        r#"INSERT INTO catalog VALUES (3, '{"default_plan": "free", "plans": {"free": {"quotas": {"jobs": "5/total"}}}}')"#,
    );
    let quota = open(&options);
    assert!(quota.check("ana", &[("jobs", 5)]).unwrap().allowed);
    let error = quota.set_plans(&Plans::from_toml(PLANS).unwrap()).unwrap_err();
    assert!(matches!(error, Error::Store(StoreError::KeptByHost { .. })), "{error}");
}

#[test]
fn a_query_that_cannot_be_used_is_refused_when_the_store_is_opened() {
    let server = Postgres::start_hasty();
    server.psql(USERS);
    let why = |options: PostgresOptions| {
        let error = options.open().unwrap_err();
        let StoreError::CannotOpen { detail, .. } = error else { panic!("{error:?}") };
        detail
    };
    for (query, expected) in [
        ("SELECT name FROM users WHERE id = $1", "has no column plan: select one `AS plan`"),
        ("SELECT plan FROM customers WHERE id = $1", "cannot read its tables: relation \"customers\" does not exist"),
        ("SELECT plan, name AS expires_at FROM users WHERE id = $1", "must select texts and timestamps"),
        ("SELEKT plan FROM users", "syntax error"),
        ("SELECT plan FROM users WHERE paid_until = $1", "by a subject as $1"),
    ] {
        let told = why(server.options().subscription_query(query));
        assert!(told.contains("the subscription query") && told.contains(expected), "{told}");
    }
    let told = why(server.options().plans_query("SELECT document FROM catalog"));
    assert!(told.contains("the plans query has no column version"), "{told}");
}
