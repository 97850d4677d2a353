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

    /// Whether everything of this provider is on loopback (the sandbox).
    pub fn is_loopback(&self) -> bool {
        self.base.host().is_some_and(|host| is_loopback(&host))
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

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}
