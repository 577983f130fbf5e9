//! TLS to relay and mailbox: rustls, the system's roots and `ca_file`, the certificate's name verified. There is no switch to turn
//! verification off.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio_rustls::TlsConnector;

use super::MailError;
use super::dialogue::Stream;

/// The settings that every connection of one transport shares. `section`: whose `ca_file` it is, for errors.
pub(super) fn client_config(section: &'static str, ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, MailError> {
    let mut roots = RootCertStore::empty();
    // What cannot be read of the system's roots is left out: a missing one fails the verification, never skips it.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let unusable = |source| MailError::CaFile { section, path: path.to_owned(), source };
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| unusable(io::Error::new(io::ErrorKind::InvalidData, error)))?;
        if certificates.is_empty() {
            return Err(unusable(io::Error::new(io::ErrorKind::InvalidData, "it holds no certificate")));
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|error| unusable(io::Error::new(io::ErrorKind::InvalidData, error)))?;
        }
    }
    if roots.is_empty() {
        return Err(MailError::NoRoots(section));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(MailError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// The handshake. The caller sets its deadline.
pub(super) async fn protect(
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    stream: Box<dyn Stream>,
) -> io::Result<Box<dyn Stream>> {
    Ok(Box::new(TlsConnector::from(config).connect(name, stream).await?))
}

/// Whether a handshake failed over the certificate: that lasts until somebody acts.
pub(super) fn is_certificate_error(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented))
}
