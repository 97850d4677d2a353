use cardless_contract::{ProviderPlace, Purpose};
use url::{Host, Url};

/// Where a provider's calls, links, pages and certificates may lie.
///
/// If the base address is loopback, any loopback address and port is allowed, `http` too, and
/// nothing else. Otherwise: `https`, port 443, and a host of the list, exactly.
#[derive(Debug, Clone)]
pub struct Hosts {
    base: Url,
    named: Vec<String>,
}

/// Why an address can't be a provider's base address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostsError {
    /// Not an absolute `http` or `https` address.
    #[error("not an absolute http or https address")]
    NotAnAddress,
    /// User info, a query or a fragment.
    #[error("an address with user info, a query or a fragment")]
    Decorated,
    /// `http` to a host that is not loopback.
    #[error("http is for loopback only; use https")]
    NotHttps,
    /// A port other than 443 on a host that is not loopback.
    #[error("a port other than 443 is for loopback only")]
    Port,
}

impl Hosts {
    /// The base address of the API, and the other hosts that may be called or linked to. The base
    /// address's own host is always on the list.
    ///
    /// # Errors
    ///
    /// [`HostsError`].
    pub fn new(base: &str, others: &[&str]) -> Result<Self, HostsError> {
        let base = Url::parse(base).map_err(|_| HostsError::NotAnAddress)?;
        let Some(host) = base.host() else {
            return Err(HostsError::NotAnAddress);
        };
        if !matches!(base.scheme(), "http" | "https") {
            return Err(HostsError::NotAnAddress);
        }
        if !base.username().is_empty()
            || base.password().is_some()
            || base.query().is_some()
            || base.fragment().is_some()
        {
            return Err(HostsError::Decorated);
        }
        if !is_loopback(&host) {
            if base.scheme() != "https" {
                return Err(HostsError::NotHttps);
            }
            if base.port().is_some() {
                return Err(HostsError::Port);
            }
        }
        let mut named: Vec<String> = others.iter().map(|&host| host.to_owned()).collect();
        named.extend(base.host_str().map(str::to_owned));
        Ok(Self { base, named })
    }

    /// The base address.
    pub const fn base(&self) -> &Url {
        &self.base
    }

    /// Every host on the list, once; with a loopback base address that alone, since the others are
    /// not reached then.
    pub fn names(&self) -> Vec<&str> {
        let base = self.base.host_str().into_iter();
        if self.is_loopback() {
            return base.collect();
        }
        let mut names: Vec<&str> = base.chain(self.named.iter().map(String::as_str)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Every place that may be reached, as data: each host on the list with what `purposes` says
    /// that it is for, or the base address alone if that is on loopback.
    pub fn places(
        &self,
        operator: &'static str,
        purposes: impl Fn(&str) -> &'static [Purpose],
    ) -> Vec<ProviderPlace> {
        let base = self.base.host_str();
        let place = |host: &str| ProviderPlace {
            scheme: self.base.scheme().to_owned(),
            host: host.to_owned(),
            port: self.base.port_or_known_default().unwrap_or(0),
            path: match self.base.path().trim_end_matches('/') {
                path if base == Some(host) => path.to_owned(),
                _ => String::new(),
            },
            loopback: self.is_loopback(),
            purposes: purposes(host),
            operator: if self.is_loopback() {
                "whoever runs this machine"
            } else {
                operator
            },
        };
        self.names().into_iter().map(place).collect()
    }

    /// Whether everything of this provider is on loopback (the sandbox).
    pub fn is_loopback(&self) -> bool {
        is_loopback_address(&self.base)
    }

    /// Whether the base address is on loopback, or on one of these hosts exactly.
    pub fn base_is_one_of(&self, hosts: &[&str]) -> bool {
        self.is_loopback()
            || self
                .base
                .host_str()
                .is_some_and(|host| hosts.contains(&host))
    }

    /// Whether a call may go to this address, or a customer may be sent to it.
    pub fn allow(&self, url: &Url) -> bool {
        let Some(host) = url.host() else { return false };
        if !url.username().is_empty() || url.password().is_some() {
            return false;
        }
        if self.is_loopback() {
            return is_loopback(&host) && matches!(url.scheme(), "http" | "https");
        }
        url.scheme() == "https"
            && url.port().is_none()
            && url
                .host_str()
                .is_some_and(|host| self.named.iter().any(|named| named == host))
    }
}

/// Whether an address lies on this machine.
pub(crate) fn is_loopback_address(url: &Url) -> bool {
    url.host().is_some_and(|host| is_loopback(&host))
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live() -> Hosts {
        Hosts::new("https://api-m.paypal.com", &["www.paypal.com"]).unwrap()
    }

    fn allows(hosts: &Hosts, address: &str) -> bool {
        Url::parse(address).is_ok_and(|url| hosts.allow(&url))
    }

    #[test]
    fn live_hosts_are_named_exactly() {
        for good in [
            "https://api-m.paypal.com/v2/checkout/orders",
            "https://www.paypal.com/checkoutnow?token=1",
            "https://API-M.PAYPAL.COM/",
            "https://api-m.paypal.com:443/",
        ] {
            assert!(allows(&live(), good), "{good}");
        }
    }

    #[test]
    fn nothing_else_is_reached() {
        for (name, bad) in [
            ("plain http", "http://api-m.paypal.com/"),
            ("another scheme", "ftp://api-m.paypal.com/"),
            ("no host", "data:text/plain,api-m.paypal.com"),
            ("user info", "https://user@api-m.paypal.com/"),
            ("password", "https://:pw@api-m.paypal.com/"),
            (
                "host as user info",
                "https://api-m.paypal.com@evil.example/",
            ),
            ("suffix", "https://api-m.paypal.com.evil.example/"),
            ("prefix", "https://evil-api-m.paypal.com/"),
            ("sub-domain", "https://x.api-m.paypal.com/"),
            ("parent domain", "https://paypal.com/"),
            ("other port", "https://api-m.paypal.com:8443/"),
            ("port 80", "https://api-m.paypal.com:80/"),
            ("trailing dot", "https://api-m.paypal.com./"),
            ("Cyrillic a", "https://\u{430}pi-m.paypal.com/"),
            ("punycode", "https://xn--pi-m-43d.paypal.com/"),
            ("IPv4", "https://64.4.250.36/"),
            ("IPv6", "https://[2a00::1]/"),
            ("loopback", "https://127.0.0.1/"),
            ("loopback by name", "https://localhost/"),
            ("backslash", "https://evil.example\\@api-m.paypal.com/"),
        ] {
            assert!(!allows(&live(), bad), "{name}: {bad}");
        }
    }

    #[test]
    fn full_width_letters_are_the_same_host() {
        assert!(allows(&live(), "https://\u{ff41}pi-m.paypal.com/"));
    }

    #[test]
    fn a_loopback_base_reaches_loopback_only() {
        let hosts = Hosts::new("http://127.0.0.1:9101", &["www.paypal.com"]).unwrap();
        assert!(hosts.is_loopback());
        for good in [
            "http://127.0.0.1:9101/",
            "https://127.0.0.2:1/",
            "http://localhost:80/",
            "http://[::1]:9/",
            "http://127.1/",
        ] {
            assert!(allows(&hosts, good), "{good}");
        }
        for bad in [
            "https://www.paypal.com/",
            "http://192.168.0.1/",
            "http://0.0.0.0/",
            "http://[::ffff:10.0.0.1]/",
            "http://localhost.evil.example/",
            "http://127.0.0.1.evil.example/",
            "http://user@127.0.0.1/",
            "file:///etc/passwd",
        ] {
            assert!(!allows(&hosts, bad), "{bad}");
        }
    }

    #[test]
    fn a_base_address_is_plain() {
        for (bad, error) in [
            ("", HostsError::NotAnAddress),
            ("api-m.paypal.com", HostsError::NotAnAddress),
            ("ftp://api-m.paypal.com", HostsError::NotAnAddress),
            ("https://user@api-m.paypal.com", HostsError::Decorated),
            ("https://api-m.paypal.com?x", HostsError::Decorated),
            ("https://api-m.paypal.com#x", HostsError::Decorated),
            ("http://api-m.paypal.com", HostsError::NotHttps),
            ("http://localhost.", HostsError::NotHttps),
            ("https://api-m.paypal.com:8443", HostsError::Port),
        ] {
            assert_eq!(Hosts::new(bad, &[]).unwrap_err(), error, "{bad}");
        }
        assert!(Hosts::new("https://api-m.paypal.com:443/", &[]).is_ok());
    }
}
