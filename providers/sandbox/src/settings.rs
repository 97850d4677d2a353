use crate::Addresses;
use crate::aduno::{MERCHANT_ID, PASSWORD, WEBHOOK_KEY};
use crate::paypal::{CLIENT_ID, CLIENT_SECRET, ROOT_PEM, WEBHOOK_ID};
use crate::postfinance::{AUTHENTICATION_KEY, SPACE_ID, USER_ID};

/// The `[providers.*]` tables of `cardless.toml` that fit a sandbox at these addresses, webhook
/// keys and trust included. All of it is published test material.
pub fn print_settings(addresses: &Addresses) -> String {
    let roots = ROOT_PEM.trim_end();
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
client_id = \"{CLIENT_ID}\"
client_secret = \"{CLIENT_SECRET}\"
webhook_id = \"{WEBHOOK_ID}\"
token_kind = \"vault_v3\"
webhook_roots = \"\"\"
{roots}
\"\"\"

[providers.postfinance]
base_url = \"http://{postfinance}/api/v2.0\"
space_id = {SPACE_ID}
user_id = \"{USER_ID}\"
authentication_key = \"{AUTHENTICATION_KEY}\"

[providers.aduno]
environment = \"sandbox\"
base_url = \"http://{aduno}\"
merchant_id = \"{MERCHANT_ID}\"
password = \"{PASSWORD}\"
webhook_key = \"{WEBHOOK_KEY}\"
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
