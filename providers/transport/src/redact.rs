/// Log targets that print addresses, headers or bytes of the wire at their finer levels. A program
/// that sets up logging keeps each of them at `warn` or above.
pub const QUIET_TARGETS: &[&str] = &[
    "h2",
    "hyper",
    "hyper_util",
    "hyper_rustls",
    "reqwest",
    "rustls",
    "tokio_rustls",
    "tower",
    "want",
];

/// What stands in a log line where a token was.
const REDACTED: &str = "…";

/// Path segments that are followed by a token: PayPal's vault and agreements
/// (`providers/paypal.md` §5), PostFinance's tokens and one-click tokens
/// (`providers/postfinance.md` §2), Datatrans' aliases (`providers/aduno.md` §6).
const BEFORE_A_TOKEN: &[&str] = &[
    "agreement-tokens",
    "agreements",
    "aliases",
    "by-credentials",
    "one-click-tokens",
    "payment-tokens",
    "setup-tokens",
    "start",
    "token",
    "tokens",
];

/// A path that is fit for a log line: the segment after `tokens`, `aliases` and the like is
/// replaced. Ids of orders, transactions and refunds stay; a query must not be passed in, and is
/// cut off if it is.
pub fn redact_path(path: &str) -> String {
    let (path, _query) = path.split_once(['?', '#']).unwrap_or((path, ""));
    let mut clean = String::with_capacity(path.len());
    let mut hide_next = false;
    for (index, segment) in path.split('/').enumerate() {
        if index > 0 {
            clean.push('/');
        }
        let shown = if hide_next && !segment.is_empty() {
            REDACTED
        } else {
            segment
        };
        clean.push_str(shown);
        // An empty segment between the two doesn't bring the token back to light.
        hide_next = BEFORE_A_TOKEN
            .iter()
            .any(|word| segment.eq_ignore_ascii_case(word))
            || (hide_next && segment.is_empty());
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_replaced_and_ids_stay() {
        for (path, shown) in [
            (
                "/v3/vault/payment-tokens/8kk845",
                "/v3/vault/payment-tokens/…",
            ),
            ("/v3/vault/setup-tokens/5C99", "/v3/vault/setup-tokens/…"),
            (
                "/v1/billing-agreements/agreements/B-1/cancel",
                "/v1/billing-agreements/agreements/…/cancel",
            ),
            (
                "/v1/billing-agreements/agreement-tokens/BA-1",
                "/v1/billing-agreements/agreement-tokens/…",
            ),
            ("/v1/aliases/canary", "/v1/aliases/…"),
            ("/v1/Aliases//canary", "/v1/Aliases//…"),
            ("/api/v2.0/payment/tokens/17", "/api/v2.0/payment/tokens/…"),
            (
                "/v2/checkout/orders/5O19/capture",
                "/v2/checkout/orders/5O19/capture",
            ),
            ("/v1/oauth2/token", "/v1/oauth2/token"),
            ("/v1/aliases", "/v1/aliases"),
            ("/pay?securityToken=canary", "/pay"),
            ("", ""),
        ] {
            assert_eq!(redact_path(path), shown);
        }
    }
}
