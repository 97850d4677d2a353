use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::Resolve;
use rustls::crypto::hash::HashAlgorithm;
use rustls::{ClientConnection, SupportedCipherSuite};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::facts::{Suite, name};
use crate::{ClientConfig, ClientError, Names, names, tls};

/// The longest time for name, connection and handshake together.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How much of a server's messages is read at a time, in bytes.
const READ_BYTES: usize = 16 * 1024;

/// What one TLS connection came to, with a server whose certificate was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// The version, as `TLSv1_3`.
    pub version: String,
    /// The cipher suite.
    pub suite: Suite,
    /// The group that the key was exchanged in, as `X25519`.
    pub group: Option<String>,
    /// The protocol that was agreed on, as `h2`.
    pub protocol: Option<String>,
    /// SHA-256 of each certificate that the server showed, its own first, in hexadecimal.
    pub certificates: Vec<String>,
}

/// Why a handshake came to nothing. It quotes nothing that the server said.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// TLS could not be set up.
    #[error("TLS could not be set up")]
    Client(#[from] ClientError),
    /// The host is no name and no address.
    #[error("no name of a server")]
    Name,
    /// Extra trust roots reach loopback only, as for requests.
    #[error("extra trust roots are for loopback only")]
    Roots,
    /// The name has no address, or none that may be connected to.
    #[error("the name has no address that may be connected to")]
    Address,
    /// Nobody answers there, or the connection broke.
    #[error("no connection")]
    Connection(#[source] std::io::Error),
    /// The server's certificate was not accepted, or nothing could be agreed on.
    #[error("no agreement with the server")]
    Tls(#[source] rustls::Error),
    /// It took too long.
    #[error("no handshake within {} seconds", HANDSHAKE_TIMEOUT.as_secs())]
    Timeout,
}

/// Opens one TLS connection as a request with these settings would, under the same rule for names,
/// and closes it. Nothing is asked of the server.
///
/// # Errors
///
/// [`HandshakeError`].
pub async fn handshake(
    config: &ClientConfig,
    host: &str,
    port: u16,
) -> Result<Handshake, HandshakeError> {
    let tls = tls::client_config(config.extra_roots.as_deref())?.config;
    let server = ServerName::try_from(host.to_owned()).map_err(|_| HandshakeError::Name)?;
    let agreed = async {
        let addresses = addresses(config, host, port).await?;
        let stream = connect(&addresses).await?;
        agree(Arc::clone(&tls), server, stream).await
    };
    let agreed = tokio::time::timeout(HANDSHAKE_TIMEOUT, agreed).await;
    record(&tls, &agreed.map_err(|_| HandshakeError::Timeout)??).ok_or(ClientError::Tls.into())
}

async fn addresses(
    config: &ClientConfig,
    host: &str,
    port: u16,
) -> Result<Vec<SocketAddr>, HandshakeError> {
    let found: Vec<IpAddr> = if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        vec![address]
    } else if host == "localhost" {
        // No resolver decides where loopback is.
        names::LOOPBACK.to_vec()
    } else {
        let resolver: Arc<dyn Resolve> = match config.names {
            Names::Anywhere => Arc::new(names::System),
            Names::Public => Arc::new(names::Public(Arc::new(names::System))),
        };
        let name = host.parse().map_err(|_| HandshakeError::Name)?;
        let found = resolver.resolve(name).await;
        let found = found.map_err(|_| HandshakeError::Address)?;
        found.map(|address| address.ip()).collect()
    };
    let beyond = config.extra_roots.is_some() && !found.iter().all(IpAddr::is_loopback);
    if beyond {
        return Err(HandshakeError::Roots);
    }
    let here = |address| SocketAddr::new(address, port);
    Ok(found.into_iter().map(here).collect())
}

async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, HandshakeError> {
    let mut last = HandshakeError::Address;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = HandshakeError::Connection(error),
        }
    }
    Err(last)
}

/// The handshake alone, until both sides are through.
async fn agree(
    config: Arc<rustls::ClientConfig>,
    server: ServerName<'static>,
    mut stream: TcpStream,
) -> Result<ClientConnection, HandshakeError> {
    let mut connection = ClientConnection::new(config, server).map_err(HandshakeError::Tls)?;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        write(&mut connection, &mut stream).await?;
        if !connection.is_handshaking() {
            connection.send_close_notify();
            // The server may be gone already; what was agreed on stands.
            write(&mut connection, &mut stream).await.ok();
            return Ok(connection);
        }
        let read = stream.read(&mut buffer).await;
        let read = read.map_err(HandshakeError::Connection)?;
        let ended = || HandshakeError::Connection(std::io::ErrorKind::UnexpectedEof.into());
        let mut bytes = buffer.get(..read).filter(|bytes| !bytes.is_empty());
        let bytes = bytes.as_mut().ok_or_else(ended)?;
        while !bytes.is_empty() {
            let taken = connection.read_tls(bytes);
            taken.map_err(HandshakeError::Connection)?;
            let processed = connection.process_new_packets();
            if let Err(error) = processed {
                // So that the server hears why.
                write(&mut connection, &mut stream).await.ok();
                return Err(HandshakeError::Tls(error));
            }
        }
    }
}

async fn write(
    connection: &mut ClientConnection,
    stream: &mut TcpStream,
) -> Result<(), HandshakeError> {
    let mut out = Vec::new();
    while connection.wants_write() {
        let written = connection.write_tls(&mut out);
        written.map_err(HandshakeError::Connection)?;
    }
    let sent = stream.write_all(&out).await;
    sent.map_err(HandshakeError::Connection)
}

fn record(config: &rustls::ClientConfig, connection: &ClientConnection) -> Option<Handshake> {
    let version = connection.protocol_version()?;
    let suite = connection.negotiated_cipher_suite()?;
    let known = &config.crypto_provider().cipher_suites;
    let group = connection.negotiated_key_exchange_group();
    let protocol = connection.alpn_protocol();
    let certificates = connection.peer_certificates()?.iter();
    Some(Handshake {
        version: name(version.as_str(), u16::from(version)),
        suite: Suite::of(suite.suite(), known),
        group: group.map(|group| name(group.name().as_str(), u16::from(group.name()))),
        protocol: protocol.map(|name| String::from_utf8_lossy(name).into_owned()),
        certificates: certificates
            .map(|certificate| sha256(known, certificate))
            .collect::<Option<_>>()?,
    })
}

/// By the hash function of a suite that has it.
fn sha256(suites: &[SupportedCipherSuite], bytes: &[u8]) -> Option<String> {
    let hashes = suites.iter().filter_map(SupportedCipherSuite::tls13);
    let mut hashes = hashes.map(|suite| suite.common.hash_provider);
    let hash = hashes.find(|hash| hash.algorithm() == HashAlgorithm::SHA256)?;
    let digest = hash.hash(bytes);
    let digest = digest.as_ref().iter();
    Some(digest.map(|byte| format!("{byte:02x}")).collect())
}
