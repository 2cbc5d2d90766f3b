//! How connections are encrypted: by rustls, where the crate has its feature `postgres-tls`.

use std::path::Path;

use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Config, Error};

#[cfg(feature = "postgres-tls")]
pub(super) use self::rustls_connector::{Encryption, advice, connector};
#[cfg(not(feature = "postgres-tls"))]
pub(super) use self::without::{Encryption, advice, connector};

/// Makes the connector for these settings, or says what is wrong with them.
pub(super) fn encryption(config: &mut Config, roots: Option<&Path>) -> Result<Encryption, String> {
    // As everywhere with PostgreSQL: what goes through a socket of the machine is never encrypted.
    #[cfg(unix)]
    if config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_))) {
        config.ssl_mode(SslMode::Disable);
    }
    connector(config.get_ssl_mode(), roots)
}

/// The advice for a connection that failed, where it is about encryption.
pub(super) fn encryption_advice(error: &Error) -> Option<&'static str> {
    // The kind of an error is told by its text alone.
    if !error.to_string().contains("TLS") {
        return None;
    }
    Some(advice(error))
}

#[cfg(not(feature = "postgres-tls"))]
mod without {
    use std::path::Path;

    use tokio_postgres::config::SslMode;
    use tokio_postgres::{Error, NoTls};

    pub(in super::super) type Encryption = NoTls;

    pub(in super::super) fn connector(mode: SslMode, roots: Option<&Path>) -> Result<Encryption, String> {
        if mode == SslMode::Require || roots.is_some() {
            return Err("encryption needs the crate's feature `postgres-tls`".to_owned());
        }
        Ok(NoTls)
    }

    pub(in super::super) const fn advice(_: &Error) -> &'static str {
        "build with the crate's feature `postgres-tls`"
    }
}

#[cfg(feature = "postgres-tls")]
mod rustls_connector {
    use std::error::Error as _;
    use std::io;
    use std::path::Path;
    use std::sync::Arc;

    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
    use tokio_postgres::Error;
    use tokio_postgres::config::SslMode;
    use tokio_postgres_rustls::MakeRustlsConnect;

    pub(in super::super) type Encryption = MakeRustlsConnect;

    pub(in super::super) fn connector(mode: SslMode, roots: Option<&Path>) -> Result<Encryption, String> {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let config = match (mode, roots) {
            (SslMode::Disable | SslMode::Prefer, None) => {
                config.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            }
            (_, Some(file)) => config.with_root_certificates(roots_in(file)?),
            (_, None) => config.with_root_certificates(roots_of_the_platform()?),
        };
        Ok(MakeRustlsConnect::new(config.with_no_client_auth()))
    }

    /// The authorities in a file in PEM.
    fn roots_in(file: &Path) -> Result<RootCertStore, String> {
        let refuse =
            |what: &str| format!("sslrootcert is {}, {what}: give it a file of certificates in PEM", file.display());
        let unreadable = |error: &dyn std::fmt::Display| refuse(&format!("which cannot be read ({error})"));
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unreadable(&error))? {
            let certificate = certificate.map_err(|error| unreadable(&error))?;
            roots.add(certificate).map_err(|error| unreadable(&error))?;
        }
        if roots.is_empty() { Err(refuse("which has no certificate")) } else { Ok(roots) }
    }

    fn roots_of_the_platform() -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        // Some platforms have a few that nobody can read.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err("this machine knows no certificate authorities: name a file of them as sslrootcert".to_owned());
        }
        Ok(roots)
    }

    pub(in super::super) fn advice(error: &Error) -> &'static str {
        let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>()).and_then(io::Error::get_ref);
        match cause.and_then(|cause| cause.downcast_ref()) {
            Some(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => "connect by the name that the server's certificate is for",
            Some(rustls::Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            )) => "renew the server's certificate",
            Some(rustls::Error::InvalidCertificate(_)) => {
                "name the authority that has signed the server's certificate as sslrootcert"
            }
            _ => "turn ssl on in the server, or say sslmode=disable where nobody can listen",
        }
    }

    /// Accepts whatever certificate a server has.
    #[derive(Debug)]
    struct Anybody(Arc<CryptoProvider>);

    impl ServerCertVerifier for Anybody {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}
