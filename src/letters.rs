/// How every id of ours is spelled: each half byte as one of the letters `a` to `p`, the high half
/// first. Letters only, so that no id can pass for a card number.
pub(crate) fn letters(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 0x0f])
        .map(|half| char::from(b'a' + half))
        .collect()
}

/// Whether `text` is `length` of those letters.
pub(crate) fn are_letters(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| (b'a'..=b'p').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_bytes_become_letters_high_half_first() {
        assert_eq!(letters(&[0x01, 0xfe, 0x9a]), "abpojk");
        assert_eq!(letters(&[]), "");
    }

    #[test]
    fn only_those_letters_pass() {
        assert!(are_letters("abp", 3));
        for bad in ["abq", "ab", "abpp", "ABP", "ab1", "abä"] {
            assert!(!are_letters(bad, 3), "{bad}");
        }
    }
}
