//! The conformance suite, on every store of the crate.

#![allow(clippy::unwrap_used, missing_docs)]

mod maps;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod servers;

use std::sync::Arc;

use quotum::store::{Durability, MapStore, MemoryStore, SqliteOptions, Store, conformance};

#[test]
fn the_memory_store_conforms() {
    conformance::run(|| Arc::new(MemoryStore::new())).assert_passed();
}

#[test]
fn a_store_over_a_map_with_a_lock_conforms() {
    conformance::run(|| Arc::new(MapStore::over(Arc::new(maps::Locked::default())))).assert_passed();
}

#[test]
fn a_store_over_a_map_that_finds_conflicts_conforms() {
    conformance::run(|| Arc::new(MapStore::over(Arc::new(maps::Optimistic::default())))).assert_passed();
}

#[test]
fn the_sqlite_store_conforms() {
    let folder = tempfile::tempdir().unwrap();
    for durability in [Durability::Full, Durability::Normal] {
        let made = std::cell::Cell::new(0);
        let make = || -> Arc<dyn Store> {
            made.set(made.get() + 1);
            let file = folder.path().join(format!("{durability:?}-{}.db", made.get()));
            Arc::new(SqliteOptions::at(file).durability(durability).open().unwrap())
        };
        conformance::run(make).assert_passed();
    }
}

#[cfg(feature = "postgres")]
#[test]
fn the_postgres_store_conforms() {
    let server = servers::Postgres::start_hasty();
    conformance::run(|| Arc::new(server.options().open().unwrap())).assert_passed();
}

#[cfg(feature = "postgres")]
#[test]
fn the_postgres_store_conforms_with_statements_that_are_prepared() {
    let server = servers::Postgres::start_hasty();
    conformance::run(|| Arc::new(server.emptied(&server.url(), |options| options.prepare(true)))).assert_passed();
}

#[cfg(feature = "redis")]
#[test]
fn the_redis_store_conforms() {
    let server = servers::Redis::start();
    conformance::run(|| Arc::new(server.options().open().unwrap())).assert_passed();
}

#[cfg(feature = "redis")]
#[test]
fn the_redis_store_conforms_on_a_cluster() {
    let cluster = servers::RedisCluster::start();
    conformance::run(|| Arc::new(cluster.options().open().unwrap())).assert_passed();
}
