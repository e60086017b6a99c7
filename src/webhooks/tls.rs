//! TLS certificate of the webhook endpoints. `watch` reloads it when its files change.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use crate::config::{SecretError, SecretRef, TlsFiles};

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate is invalid or cannot be read.
    #[error("cannot use the certificate {}: {reason}", .path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The key is invalid.
    #[error("cannot use the key {}: {reason}", .path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The key cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// A certificate that can be replaced while connections are open.
#[derive(Clone)]
pub struct ServerCertificate {
    current: Arc<CurrentCertificate>,
    acceptor: TlsAcceptor,
}

#[derive(Debug)]
struct CurrentCertificate(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl ServerCertificate {
    /// Reads certificate and key.
    ///
    /// # Errors
    /// [`TlsError`] when one of them cannot be used.
    pub fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let current = Arc::new(CurrentCertificate(RwLock::new(Arc::new(certified(files)?))));
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(&current) as _;
        let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { current, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// Reads both files again. Open connections keep the old certificate.
    ///
    /// # Errors
    /// [`TlsError`] when one of them cannot be used. The old certificate stays.
    pub fn reload(&self, files: &TlsFiles) -> Result<(), TlsError> {
        let new = Arc::new(certified(files)?);
        *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    pub(super) fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }
}

fn certified(files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
    let bad = |reason: String| TlsError::Certificate { path: files.certificate.clone(), reason };
    let chain = CertificateDer::pem_file_iter(&files.certificate).map_err(|e| bad(e.to_string()))?;
    let chain: Vec<_> = chain.collect::<Result<_, _>>().map_err(|e| bad(e.to_string()))?;
    if chain.is_empty() {
        return Err(bad("the file contains no certificate".to_owned()));
    }
    let bad_key = |reason: String| TlsError::Key { path: files.key.clone(), reason };
    let text = SecretRef::File(files.key.clone()).resolve(&|_| None)?;
    let key = PrivateKeyDer::from_pem_slice(text.expose().as_bytes()).map_err(|e| bad_key(e.to_string()))?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|e| bad_key(e.to_string()))?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|e| bad_key(format!("it does not match the certificate: {e}")))?;
    Ok(certified)
}
