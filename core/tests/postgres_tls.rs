//! The PostgreSQL store over TLS: whose certificates are believed, and what is said of others.

#![cfg(feature = "postgres-tls")]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod servers;

use std::path::PathBuf;

use pollster::block_on;
use quotum::store::{Call, PostgresOptions, Store, StoreError, Wait};
use quotum::{Error, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use servers::Postgres;

/// An authority, made on the spot.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate for this name, and its key.
    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// A server whose certificate is for `localhost`, and a folder with the right authority's file and another's.
fn encrypted() -> (Postgres, tempfile::TempDir) {
    let (authority, other) = (Authority::new("ours"), Authority::new("another"));
    let (certificate, key) = authority.sign("localhost");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ours.pem"), &authority.pem).unwrap();
    std::fs::write(folder.path().join("another.pem"), &other.pem).unwrap();
    std::fs::write(folder.path().join("empty.pem"), "").unwrap();
    (Postgres::start_encrypted(&certificate, &key), folder)
}

fn file(folder: &tempfile::TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}

/// How many of the store's connections there are, and how many are encrypted.
fn connections(server: &Postgres) -> String {
    server.psql(
        "SELECT count(*), count(*) FILTER (WHERE ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
         WHERE application_name = 'quotum'",
    )
}

fn why(opened: Result<impl std::fmt::Debug, StoreError>) -> String {
    let error = opened.unwrap_err();
    let StoreError::CannotOpen { .. } = &error else { panic!("{error:?}") };
    let told = format!("{error} {error:?}");
    assert!(!told.contains("s3cret"), "{told}");
    told
}

#[test]
fn a_server_is_believed_that_the_right_authority_has_signed_for_its_name() {
    let (server, folder) = encrypted();
    for mode in ["require", "verify-full"] {
        let root = file(&folder, "ours.pem");
        let url = format!("{}?sslmode={mode}&sslrootcert={}", server.tcp_url("localhost"), root.display());
        let store = PostgresOptions::from_url(&url).unwrap().open().unwrap();
        assert!(block_on(store.plans(Call::new(Timestamp::UNIX_EPOCH, Wait::Block))).is_ok());
        assert_eq!(connections(&server), "1|1");
        drop(store);
        while connections(&server) != "0|0" {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

#[test]
fn a_server_is_refused_that_another_authority_has_signed_or_for_another_name() {
    let (server, folder) = encrypted();
    let open = |host: &str, mode: &str, root: Option<&str>| {
        let url = format!("{}?sslmode={mode}", server.tcp_url(host));
        let options = PostgresOptions::from_url(&url).unwrap();
        match root {
            Some(name) => options.root_certificates(file(&folder, name)).open(),
            None => options.open(),
        }
    };
    for mode in ["require", "prefer"] {
        let told = why(open("localhost", mode, Some("another.pem")));
        assert!(told.contains("has signed the server's certificate as sslrootcert"), "{told}");
        let told = why(open("127.0.0.1", mode, Some("ours.pem")));
        assert!(told.contains("connect by the name that the server's certificate is for"), "{told}");
    }
    // The machine's own authorities, if it has any, know nothing of it.
    let told = why(open("localhost", "require", None));
    assert!(told.contains("sslrootcert"), "{told}");
    let told = why(open("localhost", "require", Some("missing.pem")));
    assert!(told.contains("missing.pem, which cannot be read"), "{told}");
    let told = why(open("localhost", "require", Some("empty.pem")));
    assert!(told.contains("which has no certificate"), "{told}");
    assert_eq!(connections(&server), "0|0");
}

#[test]
fn without_being_asked_a_connection_is_encrypted_where_the_server_can_and_never_where_it_is_not_to_be() {
    let (server, _folder) = encrypted();
    for (settings, expected) in [("", "1|1"), ("?sslmode=disable", "1|0")] {
        let url = format!("{}{settings}", server.tcp_url("127.0.0.1"));
        let store = PostgresOptions::from_url(&url).unwrap().open().unwrap();
        assert!(block_on(store.plans(Call::new(Timestamp::UNIX_EPOCH, Wait::Block))).is_ok());
        assert_eq!(connections(&server), expected, "{settings}");
        drop(store);
        while connections(&server) != "0|0" {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

#[test]
fn a_server_that_does_not_encrypt_is_refused_where_that_is_required() {
    let server = Postgres::start_on_tcp();
    let url = server.tcp_url("127.0.0.1");
    let told = why(PostgresOptions::from_url(&format!("{url}?sslmode=verify-full")).unwrap().open());
    assert!(told.contains("turn ssl on in the server") || told.contains("sslrootcert"), "{told}");
    assert!(PostgresOptions::from_url(&format!("{url}?sslmode=prefer")).unwrap().open().is_ok());
    let error = PostgresOptions::from_url(&format!("{url}?sslmode=verify-ca")).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
}
