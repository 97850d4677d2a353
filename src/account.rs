//! What accounts and our own objects are called: by the caller, in the store, at the provider.

use std::fmt;

use cardless_contract::{CustomerReference, Entropy, EntropyError, ProviderName, Reference};

use crate::letters::{are_letters, letters};
use crate::vault::{HashPurpose, Vault};

/// The caller's own id of an account: 1 to 64 of `A-Za-z0-9._:-`. It is personal data while a
/// method is linked to it, so its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct AccountId(String);

/// Text is no account id. It names the rule and does not quote the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an account is 1 to 64 characters of A-Z, a-z, 0-9, `.`, `_`, `:` and `-`")]
pub struct AccountIdError;

/// What an account is called in the store: 32 letters of a keyed hash, which nobody can link to the
/// account without the key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pseudonym(String);

/// The id of one of our objects as callers see it: a prefix that tells the kind, and 20 letters
/// from 10 random bytes, as `pay_abcdefghijklmnopabcd`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle {
    kind: HandleKind,
    reference: Reference,
}

/// What a [`Handle`] names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HandleKind {
    /// `pay_…`
    Payment,
    /// `set_…`
    Setup,
    /// `pm_…`
    PaymentMethod,
    /// `cap_…`
    Capture,
    /// `void_…`
    Void,
    /// `ref_…`
    Refund,
}

/// How many bytes of a keyed hash a name is made from, and how many letters they give.
const NAME_BYTES: usize = 16;
const NAME_LETTERS: usize = 2 * NAME_BYTES;

impl AccountId {
    /// The longest one, in bytes.
    pub const MAX_BYTES: usize = 64;

    /// Checks length and alphabet. Digits alone are an account id too: the card number net is
    /// [`crate::pan`], and stands before this.
    ///
    /// # Errors
    ///
    /// [`AccountIdError`].
    pub fn new(text: impl Into<String>) -> Result<Self, AccountIdError> {
        let text = text.into();
        let in_alphabet =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-');
        let fits = (1..=Self::MAX_BYTES).contains(&text.len());
        if fits && text.bytes().all(in_alphabet) {
            Ok(Self(text))
        } else {
            Err(AccountIdError)
        }
    }

    /// The id as the caller wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the account is called in the store.
    pub fn pseudonym(&self, vault: &Vault) -> Pseudonym {
        Pseudonym(name(vault, HashPurpose::Pseudonym, self.0.as_bytes()))
    }

    /// What the account is called at a provider: another name at each, so that two providers can't
    /// tell that they serve the same account.
    #[expect(
        clippy::expect_used,
        reason = "32 letters are a customer reference; a test holds it"
    )]
    pub fn customer_reference(&self, vault: &Vault, provider: &ProviderName) -> CustomerReference {
        // No provider's name holds a zero byte, so no two pairs give the same bytes.
        let bytes = [provider.as_str().as_bytes(), &[0], self.0.as_bytes()].concat();
        CustomerReference::new(name(vault, HashPurpose::CustomerReference, &bytes))
            .expect("32 letters are a customer reference")
    }
}

impl Pseudonym {
    /// How long a pseudonym is, in bytes.
    pub const BYTES: usize = NAME_LETTERS;

    /// Reads one back from the store; `None` if it is not [`Pseudonym::BYTES`] letters `a` to `p`.
    pub fn parse(text: &str) -> Option<Self> {
        are_letters(text, NAME_LETTERS).then(|| Self(text.to_owned()))
    }

    /// The letters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Handle {
    /// How many letters follow the prefix; they fit a [`Reference`].
    pub const LETTERS: usize = 20;

    /// Draws a new one.
    ///
    /// # Errors
    ///
    /// [`EntropyError`].
    pub fn generate(kind: HandleKind, entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        let mut bytes = [0; Self::LETTERS / 2];
        entropy.fill(&mut bytes)?;
        Reference::new(letters(&bytes))
            .map(|reference| Self { kind, reference })
            // 20 letters are a reference, so this is never taken.
            .map_err(|_| EntropyError)
    }

    /// Reads a handle of any kind. `None` if it is none of ours.
    pub fn parse(text: &str) -> Option<Self> {
        HandleKind::ALL
            .into_iter()
            .find_map(|kind| Self::parse_as(kind, text))
    }

    /// Reads a handle of one kind. `None` if it is of another, or none of ours.
    pub fn parse_as(kind: HandleKind, text: &str) -> Option<Self> {
        let rest = text.strip_prefix(kind.prefix())?;
        if !are_letters(rest, Self::LETTERS) {
            return None;
        }
        let reference = Reference::new(rest).ok()?;
        Some(Self { kind, reference })
    }

    /// What it names.
    pub const fn kind(&self) -> HandleKind {
        self.kind
    }

    /// The 20 letters: what a provider sees as our reference.
    pub const fn reference(&self) -> &Reference {
        &self.reference
    }
}

impl HandleKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Payment,
        Self::Setup,
        Self::PaymentMethod,
        Self::Capture,
        Self::Void,
        Self::Refund,
    ];

    /// What a handle of the kind begins with, as `pay_`.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Payment => "pay_",
            Self::Setup => "set_",
            Self::PaymentMethod => "pm_",
            Self::Capture => "cap_",
            Self::Void => "void_",
            Self::Refund => "ref_",
        }
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.kind.prefix(), self.reference)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Pseudonym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Pseudonym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pseudonym({})", self.0)
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccountId(…)")
    }
}

/// The first half of a keyed hash, in letters.
fn name(vault: &Vault, purpose: HashPurpose, bytes: &[u8]) -> String {
    let mut name = letters(&vault.keyed_hash(purpose, bytes));
    name.truncate(NAME_LETTERS);
    name
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cardless_contract::SystemEntropy;

    use super::*;
    use crate::vault::KeyRing;

    fn vault() -> Vault {
        let text = KeyRing::generate(&SystemEntropy).unwrap();
        Vault::new(KeyRing::parse(&text).unwrap(), Arc::new(SystemEntropy))
    }

    fn provider(name: &str) -> ProviderName {
        ProviderName::new(name).unwrap()
    }

    #[test]
    fn an_account_holds_its_alphabet_and_length() {
        let longest = "x".repeat(64);
        for good in ["a", "A-1.b_c:d", "42", &longest] {
            assert_eq!(AccountId::new(good).unwrap().as_str(), good);
        }
        let longer = "x".repeat(65);
        for bad in ["", "a b", "a/b", "ä", "a\n", "a@b", &longer] {
            assert!(AccountId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn neither_the_error_nor_debug_quotes_an_account() {
        let error = AccountId::new("canary canary").unwrap_err();
        let account = AccountId::new("canary").unwrap();
        assert!(!format!("{error} {error:?} {account:?}").contains("canary"));
    }

    #[test]
    fn a_pseudonym_is_32_letters_and_depends_on_account_and_key() {
        let (vault, other) = (vault(), vault());
        let account = AccountId::new("account-1").unwrap();
        let pseudonym = account.pseudonym(&vault);
        assert_eq!(
            Pseudonym::parse(pseudonym.as_str()),
            Some(pseudonym.clone())
        );
        assert_eq!(account.pseudonym(&vault), pseudonym);
        assert_ne!(account.pseudonym(&other), pseudonym);
        assert_ne!(
            AccountId::new("account-2").unwrap().pseudonym(&vault),
            pseudonym
        );
        for bad in ["", "abc", &"q".repeat(32), &"a".repeat(33)] {
            assert_eq!(Pseudonym::parse(bad), None);
        }
    }

    #[test]
    fn each_provider_knows_the_account_by_another_name() {
        let vault = vault();
        let account = AccountId::new("account-1").unwrap();
        let at = |name| account.customer_reference(&vault, &provider(name));
        assert!(are_letters(at("paypal").as_str(), 32));
        assert_eq!(at("paypal"), at("paypal"));
        assert_ne!(at("paypal"), at("aduno"));
        assert_ne!(at("paypal").as_str(), account.pseudonym(&vault).as_str());
    }

    #[test]
    fn a_handle_is_read_back_by_its_kind_only() {
        for kind in HandleKind::ALL {
            let handle = Handle::generate(kind, &SystemEntropy).unwrap();
            let text = handle.to_string();
            assert_eq!(Handle::parse(&text), Some(handle.clone()));
            assert_eq!(text, format!("{}{}", kind.prefix(), handle.reference()));
            for other in HandleKind::ALL {
                let expected = (other == kind).then(|| handle.clone());
                assert_eq!(Handle::parse_as(other, &text), expected);
            }
        }
    }

    #[test]
    fn what_is_no_handle_is_refused() {
        for bad in [
            "",
            "pay_",
            "pay_abcdefghijklmnopabc",
            "pay_abcdefghijklmnopabcde",
            "pay_abcdefghijklmnopabcq",
            "PAY_abcdefghijklmnopabcd",
            "pay_ABCDEFGHIJKLMNOPABCD",
            "pay_abcdefghijklmnopabc1",
            "pay-abcdefghijklmnopabcd",
            " pay_abcdefghijklmnopabcd",
            "abcdefghijklmnopabcd",
            "xyz_abcdefghijklmnopabcd",
        ] {
            assert_eq!(Handle::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn no_name_of_ours_has_a_digit() {
        let vault = vault();
        let account = AccountId::new("4").unwrap();
        let handle = Handle::generate(HandleKind::Payment, &SystemEntropy).unwrap();
        let names = [
            account.pseudonym(&vault).to_string(),
            account
                .customer_reference(&vault, &provider("paypal"))
                .to_string(),
            handle.to_string(),
        ];
        for name in names {
            assert!(!name.bytes().any(|byte| byte.is_ascii_digit()), "{name}");
        }
    }
}
