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
/// `records.discard` has not.
pub(super) fn is_called_like_card_data(name: &str) -> bool {
    let whole = name.to_lowercase();
    let mut words = whole
        .split(|letter: char| !letter.is_alphanumeric())
        .chain([whole.as_str()]);
    words.any(|word| CARD_WORDS.contains(&word))
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
