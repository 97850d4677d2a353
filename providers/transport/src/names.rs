use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Where the names that a client connects to may lie. Addresses that are written as numbers, and
/// `localhost`, resolve nothing and are no names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Names {
    /// Anywhere; for services of one's own.
    #[default]
    Anywhere,
    /// On the public internet only. Whoever can lie about a provider's name then still can't have
    /// this machine, its network or a cloud's metadata service connected to. Answers that are not
    /// public are left out; if none is left, the connection is refused and nothing is sent.
    Public,
}

/// Where `localhost` is.
pub(crate) const LOOPBACK: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

/// The operating system's resolver.
#[derive(Debug)]
pub(crate) struct System;

impl Resolve for System {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let found: Addrs = Box::new(found.collect::<Vec<_>>().into_iter());
            Ok(found)
        })
    }
}

/// Another resolver's answers, if they are public.
pub(crate) struct Public(pub(crate) Arc<dyn Resolve>);

impl Resolve for Public {
    fn resolve(&self, name: Name) -> Resolving {
        let found = self.0.resolve(name);
        Box::pin(async move {
            let public: Vec<SocketAddr> = found
                .await?
                .filter(|address| is_public(address.ip()))
                .collect();
            if public.is_empty() {
                return Err(NotPublic.into());
            }
            let public: Addrs = Box::new(public.into_iter());
            Ok(public)
        })
    }
}

/// A name has no address, or none that is public.
#[derive(Debug)]
struct NotPublic;

impl fmt::Display for NotPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the provider's name has no public address; look at the name service")
    }
}

impl std::error::Error for NotPublic {}

/// Whether an address may be on the internet: not this machine's, its network's or a group's.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match embedded(address) {
            Some(inner) => is_public_v4(inner),
            None => {
                let special = address.is_unspecified()
                    || address.is_loopback()
                    || address.is_unique_local()
                    || address.is_unicast_link_local()
                    || address.is_multicast();
                !special
            }
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    // "This network" (RFC 1122) and what providers share among customers (RFC 6598).
    let special = first == 0
        || (first == 100 && second & 0xc0 == 64)
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast();
    !special
}

/// The IPv4 address that is reached through an IPv6 one: mapped (RFC 4291), by NAT64 (RFC 6052) or
/// by 6to4 (RFC 3056).
const fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return Some(mapped);
    }
    let [a, b, c, d] = match address.octets() {
        [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d]
        | [0x20, 0x02, a, b, c, d, ..] => [a, b, c, d],
        _ => return None,
    };
    Some(Ipv4Addr::new(a, b, c, d))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use cardless_contract::{Delivery, ErrorKind};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::{ClientConfig, HttpClient as _, ReqwestClient};

    /// Whatever is asked, the answer is this.
    struct Liar(Vec<SocketAddr>);

    impl Resolve for Liar {
        fn resolve(&self, _: Name) -> Resolving {
            let answer: Addrs = Box::new(self.0.clone().into_iter());
            Box::pin(std::future::ready(Ok(answer)))
        }
    }

    #[test]
    fn what_is_not_public_has_many_forms() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::1",
            "2002:c0a8:101::",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "64.4.250.36",
            "100.63.255.255",
            "100.128.0.1",
            "172.32.0.1",
            "192.167.1.1",
            "2606:4700:4700::1111",
            "::ffff:64.4.250.36",
            "64:ff9b::4004:fa24",
            "2002:4004:fa24::1",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[tokio::test]
    async fn a_name_that_comes_to_lie_on_this_machine_is_not_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        let send = async |names| {
            let config = ClientConfig {
                names,
                ..ClientConfig::default()
            };
            let client = ReqwestClient::with(&config, Arc::new(Liar(vec![here]))).unwrap();
            let request =
                http::Request::get("https://api.paypal.com/v1/notifications/certs/CERT-1");
            client.send(request.body(Bytes::new()).unwrap()).await
        };
        let error = send(Names::Public).await.unwrap_err();
        assert_eq!(error.delivery(), Delivery::NotSent);
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        assert!(causes(&error).contains("no public address"));

        // What was not connected to would have been: the same lie, believed.
        let connected = async { drop(listener.accept().await.unwrap()) };
        let ((), error) = tokio::join!(connected, send(Names::Anywhere));
        error.unwrap_err();
    }

    #[tokio::test]
    async fn public_answers_are_kept_and_the_others_left_out() {
        let addresses = [
            "127.0.0.1:1",
            "64.4.250.36:2",
            "[fe80::1]:3",
            "[2606:4700::1]:4",
        ];
        let addresses = addresses.map(|address| address.parse().unwrap()).to_vec();
        let public = Public(Arc::new(Liar(addresses.clone())));
        let kept = public.resolve("api.paypal.com".parse().unwrap()).await;
        let kept: Vec<SocketAddr> = kept.unwrap().collect();
        assert_eq!(kept, [addresses[1], addresses[3]]);
        let public = Public(Arc::new(Liar(Vec::new())));
        assert!(
            public
                .resolve("api.paypal.com".parse().unwrap())
                .await
                .is_err()
        );
    }

    #[tokio::test]
    async fn localhost_is_no_name() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = ClientConfig {
            names: Names::Public,
            ..ClientConfig::default()
        };
        let client = ReqwestClient::new(&config).unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["localhost", "127.0.0.1"] {
            let request = http::Request::get(format!("http://{host}:{port}/"));
            let sent = client.send(request.body(Bytes::new()).unwrap());
            let answered = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
                assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
                stream.write_all(answer).await.unwrap();
            };
            let (answer, ()) = tokio::join!(sent, answered);
            assert_eq!(answer.unwrap().status(), 204, "{host}");
        }
    }

    fn causes(error: &dyn std::error::Error) -> String {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            text.push_str(&format!(": {inner}"));
            source = inner.source();
        }
        text
    }
}
