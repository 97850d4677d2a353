use crate::{Addresses, aduno, paypal, postfinance};

/// The `[providers.*]` tables of `cardless.toml` that fit a sandbox at these addresses, webhook
/// keys and trust included. All of it is published test material.
pub fn print_settings(addresses: &Addresses) -> String {
    let roots = paypal::ROOT_PEM.trim_end();
    let Addresses {
        paypal: at_paypal,
        postfinance: at_postfinance,
        aduno: at_aduno,
        ..
    } = addresses;
    let (client_id, client_secret) = (paypal::CLIENT_ID, paypal::CLIENT_SECRET);
    let webhook_id = paypal::WEBHOOK_ID;
    let (space_id, user_id) = (postfinance::SPACE_ID, postfinance::USER_ID);
    let authentication_key = postfinance::AUTHENTICATION_KEY;
    let (merchant_id, password) = (aduno::MERCHANT_ID, aduno::PASSWORD);
    let webhook_key = aduno::WEBHOOK_KEY;
    format!(
        "[providers.paypal]
environment = \"sandbox\"
base_url = \"http://{at_paypal}\"
client_id = \"{client_id}\"
client_secret = \"{client_secret}\"
webhook_id = \"{webhook_id}\"
token_kind = \"vault_v3\"
webhook_roots = \"\"\"
{roots}
\"\"\"

[providers.postfinance]
base_url = \"http://{at_postfinance}/api/v2.0\"
space_id = {space_id}
user_id = \"{user_id}\"
authentication_key = \"{authentication_key}\"

[providers.aduno]
environment = \"sandbox\"
base_url = \"http://{at_aduno}\"
merchant_id = \"{merchant_id}\"
password = \"{password}\"
webhook_key = \"{webhook_key}\"
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
