//! Certificates: what the main listener shows and what upstreams are verified against.

use std::cell::OnceCell;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

use crate::config::{ServerTls, UpstreamTls};

/// The name of HTTP/2 in the handshake. Source: RFC 9113, section 3.1.
pub(crate) const ALPN_HTTP2: &[u8] = b"h2";
/// The name of HTTP/1.1 in the handshake. Source: RFC 7301, section 6.
const ALPN_HTTP1: &[u8] = b"http/1.1";

/// Reads the listener's certificate and key.
///
/// # Errors
///
/// A message that names the file which cannot be read or does not fit.
pub(crate) fn server(files: &ServerTls) -> Result<Arc<ServerConfig>, String> {
    let chain = certificates(&files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| format!("`{}` holds no usable private key: {error}", files.key.display()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| format!("`{}` and `{}` do not fit: {error}", files.cert.display(), files.key.display()))?;
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec(), ALPN_HTTP1.to_vec()];
    Ok(Arc::new(config))
}

/// The authorities the machine trusts, read when first needed and once for all upstreams of a configuration.
#[derive(Default)]
pub(crate) struct Trust {
    system: OnceCell<RootCertStore>,
}

impl Trust {
/// Builds what an upstream's certificate is verified with: the system's authorities, or Mozilla's where the system
/// has none, and the upstream's own `tls.ca`.
///
/// # Errors
///
/// A message that names the file which cannot be read.
pub(crate) fn client(&self, settings: &UpstreamTls) -> Result<Arc<ClientConfig>, String> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default versions");
    let mut config = if settings.is_insecure {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAny(provider()))).with_no_client_auth()
    } else {
        builder.with_root_certificates(self.roots(settings.ca.as_deref())?).with_no_client_auth()
    };
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec(), ALPN_HTTP1.to_vec()];
    Ok(Arc::new(config))
}

fn roots(&self, further: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = self.system.get_or_init(system_roots).clone();
    if let Some(path) = further {
        for certificate in certificates(path)? {
            roots
                .add(certificate)
                .map_err(|error| format!("`{}` holds an unusable certificate: {error}", path.display()))?;
        }
    }
    Ok(roots)
}
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // Single unreadable files among the system's are not this program's business.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = fs::read(path).map_err(|error| format!("`{}` cannot be read: {error}", path.display()))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("`{}` is not PEM: {error}", path.display()))?;
    if certificates.is_empty() {
        return Err(format!("`{}` holds no certificate", path.display()));
    }
    Ok(certificates)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// `tls.insecure: true`: any certificate will do.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
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
