//! Who calls, and what that role may do.

use axum::http::{HeaderMap, header};

use crate::error::{Code, Error};
use crate::gateway::{Actor, Gateway, Origin, Role};

/// The longest API key that is looked up, in bytes.
const MAX_KEY_BYTES: usize = 256;

/// The scheme of the `Authorization` header, with the space after it.
const SCHEME: &str = "bearer ";

/// A client that has shown its API key.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The client's name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// From where it calls.
    pub origin: Origin,
}

impl Caller {
    /// Who acts, for the audit log.
    pub(crate) fn actor(&self) -> Actor {
        Actor::client(&self.name, self.role, self.origin)
    }
}

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody: probes, metrics, browsers that come back, webhooks (which carry a signature).
    Open,
    /// Clients that read: `billing` and `operator`.
    Read,
    /// Clients that move money or change methods: `billing`.
    Billing,
    /// Clients that read the evidence of the installation's scope: `auditor`.
    Evidence,
}

impl Access {
    /// Whether a role is let in.
    pub const fn allows(self, role: Role) -> bool {
        match (self, role) {
            (Self::Open, Role::Billing | Role::Operator | Role::Auditor)
            | (Self::Read, Role::Billing | Role::Operator)
            | (Self::Billing, Role::Billing)
            | (Self::Evidence, Role::Auditor) => true,
            (Self::Read, Role::Auditor)
            | (Self::Billing, Role::Operator | Role::Auditor)
            | (Self::Evidence, Role::Billing | Role::Operator) => false,
        }
    }
}

/// The caller of a route; `None` on an open one.
///
/// # Errors
///
/// [`Code::Unauthenticated`] without a live API key, [`Code::Forbidden`] for the wrong role.
pub(crate) async fn admit(
    gateway: &Gateway,
    access: Access,
    headers: &HeaderMap,
    origin: Origin,
) -> Result<Option<Caller>, Error> {
    if access == Access::Open {
        return Ok(None);
    }
    let key = api_key(headers);
    let holder = match key {
        Some(key) => gateway.authenticate(key).await?,
        None => None,
    };
    let Some((name, role)) = holder else {
        gateway.login_refused(key, origin).await;
        return Err(unauthenticated());
    };
    if access.allows(role) {
        Ok(Some(Caller { name, role, origin }))
    } else {
        gateway.call_refused(&name, role, origin).await;
        Err(Error::new(
            Code::Forbidden,
            "This client's role does not allow this call.",
        ))
    }
}

/// The one key of the one `Authorization` header. The scheme's case does not matter (RFC 9110).
fn api_key(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, key) = value.split_at_checked(SCHEME.len())?;
    let key = key.trim_matches(' ');
    let fits = (1..=MAX_KEY_BYTES).contains(&key.len());
    (scheme.eq_ignore_ascii_case(SCHEME) && fits).then_some(key)
}

/// One answer for no key, a malformed one, an unknown one and a revoked one.
fn unauthenticated() -> Error {
    let message = "Send a live API key as `Authorization: Bearer ck_…`; `cardless client add` \
                   makes one.";
    Error::new(Code::Unauthenticated, message)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_one_bearer_header_counts() {
        let headers = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
            }
            headers
        };
        assert_eq!(api_key(&headers(&["Bearer ck_a"])), Some("ck_a"));
        assert_eq!(api_key(&headers(&["bearer  ck_a"])), Some("ck_a"));
        for bad in [
            &[][..],
            &["Basic ck_a"],
            &["Bearer"],
            &["Bearer "],
            &["Bearer a", "Bearer b"],
        ] {
            assert_eq!(api_key(&headers(bad)), None, "{bad:?}");
        }
    }
}
