use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::Addresses;

// from the dialect: paypal
const PAYPAL_CLIENT_ID: &str = "sandbox-client";
const PAYPAL_CLIENT_SECRET: &str = "sandbox-secret";
const PAYPAL_WEBHOOK_ID: &str = "1JE4291016473214C";
const PAYPAL_WEBHOOK_ROOTS_PEM: &str = "";

// from the dialect: postfinance
const POSTFINANCE_SPACE_ID: u64 = 405;
const POSTFINANCE_USER_ID: &str = "512";
const POSTFINANCE_KEY: &[u8] = b"cardless-sandbox-postfinance-key";

// from the dialect: aduno
const ADUNO_MERCHANT_ID: &str = "1100000000";
const ADUNO_PASSWORD: &str = "sandbox-password";
const ADUNO_WEBHOOK_KEY_HEX: &str =
    "636172646c6573732d73616e64626f782d6164756e6f2d776562686f6f6b2d31";

/// The `[providers.*]` tables of `cardless.toml` that fit a sandbox at these addresses, webhook
/// keys and trust included. All of it is published test material.
pub fn print_settings(addresses: &Addresses) -> String {
    let postfinance_key = STANDARD.encode(POSTFINANCE_KEY);
    let roots = PAYPAL_WEBHOOK_ROOTS_PEM.trim_end();
    let Addresses {
        paypal,
        postfinance,
        aduno,
        control: _,
    } = addresses;
    format!(
        "[providers.paypal]
environment = \"sandbox\"
base_url = \"http://{paypal}\"
client_id = \"{PAYPAL_CLIENT_ID}\"
client_secret = \"{PAYPAL_CLIENT_SECRET}\"
webhook_id = \"{PAYPAL_WEBHOOK_ID}\"
token_kind = \"vault_v3\"
webhook_roots = \"\"\"
{roots}
\"\"\"

[providers.postfinance]
base_url = \"http://{postfinance}/api/v2.0\"
space_id = {POSTFINANCE_SPACE_ID}
user_id = \"{POSTFINANCE_USER_ID}\"
authentication_key = \"{postfinance_key}\"

[providers.aduno]
environment = \"sandbox\"
base_url = \"http://{aduno}\"
merchant_id = \"{ADUNO_MERCHANT_ID}\"
password = \"{ADUNO_PASSWORD}\"
webhook_key = \"{ADUNO_WEBHOOK_KEY_HEX}\"
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_name_each_provider_at_its_address() {
        let text = print_settings(&Addresses::default());
        for line in [
            "[providers.paypal]",
            "base_url = \"http://127.0.0.1:9101\"",
            "token_kind = \"vault_v3\"",
            "[providers.postfinance]",
            "base_url = \"http://127.0.0.1:9102/api/v2.0\"",
            "space_id = 405",
            "[providers.aduno]",
            "base_url = \"http://127.0.0.1:9103\"",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}");
        }
    }
}
