/// How every id of ours is spelled: each half byte as one of the letters `a` to `p`, the high half
/// first. Letters only, so that no id can pass for a card number.
pub(crate) fn letters(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 0x0f])
        .map(|half| char::from(b'a' + half))
        .collect()
}

/// Hexadecimal digits as these letters: a row of digits could pass for a card number. What is no digit
/// is left out.
pub(crate) fn of_hexadecimal(digits: &str) -> String {
    let letter = |digit: char| char::from_digit(digit.to_digit(16)? + 10, 26);
    digits.chars().filter_map(letter).collect()
}

/// These letters as hexadecimal digits, as people compare digests. What is no such letter is left out.
pub(crate) fn to_hexadecimal(letters: &str) -> String {
    let digit = |letter: char| {
        let value = letter.to_digit(26)?.checked_sub(10)?;
        char::from_digit(value, 16)
    };
    letters.chars().filter_map(digit).collect()
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
    fn digits_become_the_letters_of_their_bytes_and_come_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(of_hexadecimal(&digits), letters(&bytes));
        assert_eq!(to_hexadecimal(&letters(&bytes)), digits);
        assert_eq!(
            (of_hexadecimal("0g-F"), to_hexadecimal("9aqp ")),
            ("ap".to_owned(), "0f".to_owned())
        );
    }

    #[test]
    fn only_those_letters_pass() {
        assert!(are_letters("abp", 3));
        for bad in ["abq", "ab", "abpp", "ABP", "ab1", "abä"] {
            assert!(!are_letters(bad, 3), "{bad}");
        }
    }
}
