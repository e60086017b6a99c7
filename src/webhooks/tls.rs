//! TLS at the doors, by files that are read again when they change. No file is watched here: whoever watches
//! says when.

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
    /// The certificate cannot be read.
    #[error("cannot use the certificate {}: {what}", .path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The key cannot be read.
    #[error("cannot use the key {}: {what}", .path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The key cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// A certificate that can be replaced while connections use it.
#[derive(Clone)]
pub struct Certificate {
    current: Arc<Current>,
    acceptor: TlsAcceptor,
}

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Certificate {
    /// Reads certificate and key.
    ///
    /// # Errors
    /// [`TlsError`] when one of them cannot be used.
    pub fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let current = Arc::new(Current(RwLock::new(Arc::new(certified(files)?))));
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(&current) as _;
        let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { current, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// Reads both files again. Connections that are open keep what they have.
    ///
    /// # Errors
    /// [`TlsError`] when one of them cannot be used; then the old ones stay.
    pub fn reread(&self, files: &TlsFiles) -> Result<(), TlsError> {
        let new = Arc::new(certified(files)?);
        *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    pub(super) fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }
}

fn certified(files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
    let bad = |what: String| TlsError::Certificate { path: files.certificate.clone(), what };
    let chain = CertificateDer::pem_file_iter(&files.certificate).map_err(|e| bad(e.to_string()))?;
    let chain: Vec<_> = chain.collect::<Result<_, _>>().map_err(|e| bad(e.to_string()))?;
    if chain.is_empty() {
        return Err(bad("it holds no certificate".to_owned()));
    }
    let bad_key = |what: String| TlsError::Key { path: files.key.clone(), what };
    let text = SecretRef::File(files.key.clone()).resolve(&|_| None)?;
    let key = PrivateKeyDer::from_pem_slice(text.expose().as_bytes()).map_err(|e| bad_key(e.to_string()))?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|e| bad_key(e.to_string()))?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|e| bad_key(format!("it is not the certificate's: {e}")))?;
    Ok(certified)
}
