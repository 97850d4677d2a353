//! What a column or a field of card data could be called.

/// A column or field of ours that is called so has no business here, whatever it holds.
pub(super) const CARD_WORDS: [&str; 17] = [
    "pan",
    "card",
    "cardnumber",
    "card_number",
    "cvv",
    "cvc",
    "cvv2",
    "cvc2",
    "cid",
    "expiry",
    "expiration",
    "exp_month",
    "exp_year",
    "track",
    "pin",
    "holder",
    "iban",
];

/// Looks at each word of a name, and at the name as a whole: `payments.card_number` has `card`,
/// `expiryMonth` has `expiry`, `records.discard` has neither.
pub(super) fn is_called_like_card_data(name: &str) -> bool {
    let whole = name.to_lowercase();
    let parted = parted(name).to_lowercase();
    let mut words = whole
        .split(between)
        .chain(parted.split(between))
        .chain([whole.as_str()]);
    words.any(|word| CARD_WORDS.contains(&word))
}

/// With a space before each capital letter that follows a small one.
fn parted(name: &str) -> String {
    let mut parted = String::with_capacity(name.len());
    let mut small = false;
    for letter in name.chars() {
        if small && letter.is_uppercase() {
            parted.push(' ');
        }
        small = letter.is_lowercase();
        parted.push(letter);
    }
    parted
}

fn between(letter: char) -> bool {
    !letter.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_card_data_is_known_by_its_words() {
        for name in [
            "payments.card_number",
            "cards.pan",
            "payments.CVV",
            "exp_month",
            "card.x",
            "payment_source.card.number",
            "expiryMonth",
            "newCardNumber",
            "CVV2",
        ] {
            assert!(is_called_like_card_data(name), "{name}");
        }
        for name in [
            "records.discard",
            "companies.expanse",
            "payments.created_at",
        ] {
            assert!(!is_called_like_card_data(name), "{name}");
        }
    }
}
