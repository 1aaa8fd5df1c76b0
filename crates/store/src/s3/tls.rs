//! The HTTP client: rustls with ring, the system's certificates or the bundled ones, no redirects, no compression.

use super::answer::NoAnswer;
use crate::location::S3Settings;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Time to look up, connect and shake hands.
pub(super) const CONNECT: Duration = Duration::from_secs(10);

/// An unused connection is closed after this; below the idle limits of the services known.
pub(super) const IDLE: Duration = Duration::from_secs(20);

/// Sent with each request.
pub(super) const USER_AGENT: &str = concat!("litekeep/", env!("CARGO_PKG_VERSION"));

/// How often a connection that is silent is asked whether it still stands.
pub(super) const KEEPALIVE: Duration = Duration::from_secs(30);

pub(crate) fn client(tls: ClientConfig) -> Result<reqwest::Client, NoAnswer> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(USER_AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT)
        .pool_idle_timeout(IDLE)
        .tcp_keepalive(KEEPALIVE)
        .http1_only()
        .build()
        .map_err(|error| NoAnswer::Setup(format!("the HTTP client could not be made: {error}")))
}

/// Whom to trust, as the settings say.
pub(crate) fn config(settings: &S3Settings) -> Result<ClientConfig, NoAnswer> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| NoAnswer::Setup(format!("TLS can't be set up: {error}")))?;
    let builder = if settings.skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAny(provider)))
    } else {
        builder.with_root_certificates(roots(settings.ca_bundle.as_deref())?)
    };
    Ok(builder.with_no_client_auth())
}

/// The bundle's certificates alone where one is named; else the system's; else, in a container that has none, the
/// Mozilla roots that come with this program.
fn roots(bundle: Option<&Path>) -> Result<RootCertStore, NoAnswer> {
    let mut store = RootCertStore::empty();
    if let Some(path) = bundle {
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| NoAnswer::Setup(format!("certificates in {}: {error}", path.display())))?;
        let (added, _) = store.add_parsable_certificates(certificates);
        if added == 0 {
            return Err(NoAnswer::Setup(format!("{} holds no usable certificate", path.display())));
        }
        return Ok(store);
    }
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() {
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    Ok(store)
}

/// `skip-verify`: any certificate will do.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
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
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
