use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Credentials of one kind, of which several are live during a rotation.
///
/// The first is used. Once the provider has refused it as such, before anything was done, the next
/// one's turn comes; the one that was not refused is used from then on.
pub struct Credentials<T> {
    all: Vec<T>,
    used: AtomicUsize,
}

/// One of the [`Credentials`], in its turn.
#[derive(Clone, Copy)]
pub struct Turn<'a, T> {
    credential: &'a T,
    index: usize,
    used: &'a AtomicUsize,
    first: bool,
}

impl<T> Credentials<T> {
    /// Credentials in the order of the settings.
    pub const fn new(all: Vec<T>) -> Self {
        Self {
            all,
            used: AtomicUsize::new(0),
        }
    }

    /// Each of them once, beginning with the one in use.
    pub fn in_turn(&self) -> impl Iterator<Item = Turn<'_, T>> {
        let used = self.used.load(Ordering::Relaxed);
        let at = move |(index, credential)| Turn {
            credential,
            index,
            used: &self.used,
            first: index == used,
        };
        let one = self.all.iter().enumerate().skip(used).take(1);
        let others = self.all.iter().enumerate();
        one.chain(others.filter(move |(index, _)| *index != used))
            .map(at)
    }
}

impl<'a, T> Turn<'a, T> {
    /// The credential.
    pub const fn credential(&self) -> &'a T {
        self.credential
    }

    /// Whether it is the one in use, so that none was refused before it.
    pub const fn is_first(&self) -> bool {
        self.first
    }

    /// It was not refused, so it is used from now on.
    pub fn is_used(&self) {
        if !self.first {
            self.used.store(self.index, Ordering::Relaxed);
        }
    }
}

impl<T> fmt::Debug for Credentials<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("live", &self.all.len())
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Turn<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(credentials: &Credentials<&'static str>) -> Vec<&'static str> {
        credentials
            .in_turn()
            .map(|turn| *turn.credential())
            .collect()
    }

    #[test]
    fn the_first_is_used_until_another_was_not_refused() {
        let credentials = Credentials::new(vec!["a", "b", "c"]);
        assert_eq!(order(&credentials), ["a", "b", "c"]);
        let firsts: Vec<bool> = credentials.in_turn().map(|turn| turn.is_first()).collect();
        assert_eq!(firsts, [true, false, false]);
        credentials.in_turn().nth(1).unwrap().is_used();
        assert_eq!(order(&credentials), ["b", "a", "c"]);
        credentials.in_turn().next().unwrap().is_used();
        assert_eq!(order(&credentials), ["b", "a", "c"]);
    }

    #[test]
    fn debug_shows_nothing() {
        let credentials = Credentials::new(vec!["canary"]);
        let turn = credentials.in_turn().next().unwrap();
        assert!(!format!("{credentials:?} {turn:?}").contains("canary"));
    }
}
