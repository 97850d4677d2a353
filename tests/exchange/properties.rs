//! What holds for any text: it comes back, changed messages do not open, and nothing panics.
//! proptest prints the seed of a failure.

use cardless::exchange::{Opened, Received, Refused, SecretKey, Usage, seal};
use cardless_contract::SystemEntropy;
use proptest::prelude::*;

fn pair(usage: Usage) -> SecretKey {
    SecretKey::generate(usage, &SystemEntropy).unwrap()
}

fn open(message: &str, key: &SecretKey) -> Result<Opened, Refused> {
    Received::parse(message)?.open(key)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_sealed_comes_back(text in prop::collection::vec(any::<u8>(), 0..2000)) {
        let (signer, to) = (pair(Usage::Sign), pair(Usage::Seal));
        let message = seal(&text, &signer, to.public(), &SystemEntropy).unwrap();
        let opened = open(&message, &to).unwrap();
        prop_assert_eq!(opened.kid(), signer.public().kid());
        prop_assert_eq!(&*opened.verify(signer.public()).unwrap(), &text);
        prop_assert!(opened.verify(pair(Usage::Sign).public()).is_err());
        prop_assert!(open(&message, &pair(Usage::Seal)).is_err());
    }

    #[test]
    fn no_changed_character_is_taken(at in any::<prop::sample::Index>(), new in "[A-Za-z0-9_.=-]") {
        let (signer, to) = (pair(Usage::Sign), pair(Usage::Seal));
        let message = seal(br#"{"a":1}"#, &signer, to.public(), &SystemEntropy).unwrap();
        let at = at.index(message.len());
        let changed = format!("{}{new}{}", &message[..at], &message[at + 1..]);
        prop_assume!(changed != message);
        prop_assert!(open(&changed, &to).is_err());
    }

    #[test]
    fn no_shortened_message_is_taken(at in any::<prop::sample::Index>()) {
        let (signer, to) = (pair(Usage::Sign), pair(Usage::Seal));
        let message = seal(br#"{"a":1}"#, &signer, to.public(), &SystemEntropy).unwrap();
        prop_assert!(open(&message[..at.index(message.len())], &to).is_err());
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,400}", dots in "[A-Za-z0-9_-]{0,40}(\\.[A-Za-z0-9_-]{0,40}){0,6}") {
        let key = pair(Usage::Seal);
        for text in [text, dots] {
            prop_assert!(open(&text, &key).is_err());
            prop_assert!(cardless::exchange::PublicKey::read_all(&text).is_err());
            prop_assert!(cardless::exchange::Request::parse(text.as_bytes()).is_err());
        }
    }
}

/// Two messages of the same text share nothing: key, nonce and ciphertext are new each time.
#[test]
fn equal_texts_leave_no_equal_bytes() {
    let (signer, to) = (pair(Usage::Sign), pair(Usage::Seal));
    let message = || seal(b"{}", &signer, to.public(), &SystemEntropy).unwrap();
    let (one, other) = (message(), message());
    for (a, b) in one
        .split('.')
        .zip(other.split('.'))
        .filter(|(a, _)| !a.is_empty())
    {
        assert_ne!(a, b);
    }
}
