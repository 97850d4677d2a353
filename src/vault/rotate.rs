//! How the keys of a vault change while it is in use, and how a record passes from one generation
//! to the next. What is swept, and when, is the gateway's to decide.

use std::sync::{Arc, PoisonError};

use cardless_contract::Timestamp;
use zeroize::Zeroizing;

use super::generation::Generations;
use super::keyring::{HashPurpose, KeyRing, Source};
use super::keytext;
use super::{Context, Custody, KeyFileError, Purpose, Sealed, Vault, VaultError};

/// What two key rings of one installation hash alike.
const ROOT_PROBE: &[u8] = b"cardless key ring";

/// What a sample holds: the same words in every installation.
const SAMPLE_TEXT: &[u8] = b"cardless sample";

/// Where a sample belongs that proves that a generation opens nothing.
const SAMPLE: Context<'_> = Context {
    account: "-",
    provider: "-",
    merchant: "-",
    record: "sample",
    purpose: Purpose::Answer,
};

/// A generation as others may know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GenerationInfo {
    /// Its id.
    pub(crate) id: String,
    /// When it was made.
    pub(crate) created_at: Timestamp,
}

/// A key file's text with a generation that is to become the active one.
pub(crate) struct Prepared {
    /// The id of that generation.
    pub(crate) id: String,
    /// What the keys' place must hold.
    pub(crate) text: Zeroizing<String>,
    /// What it holds now, if that is something else.
    from: Option<Zeroizing<String>>,
}

/// Which generations keys that are read again must hold: without them they are an older copy, whatever
/// else they hold. They may hold what was destroyed since.
#[derive(Clone, Copy)]
pub(super) enum Needed<'a> {
    /// What seals here.
    Active,
    /// That, and the one that a record names. Anybody who can write a record can have it name any.
    Also(&'a [u8]),
    /// This one instead, which seals by the store: another process may have destroyed what seals here.
    Instead(&'a [u8]),
}

/// The keys that a vault held before it took others, and where they were read.
pub(crate) struct Held(Option<(Option<Source>, Arc<Generations>)>);

impl Vault {
    /// The id of the generation that seals.
    pub fn active_id(&self) -> String {
        self.generations().active().id().to_owned()
    }

    /// All generations that open, the one that seals first.
    pub(crate) fn generation_infos(&self) -> Vec<GenerationInfo> {
        let generations = self.generations();
        let infos = generations.all().map(|generation| GenerationInfo {
            id: generation.id().to_owned(),
            created_at: generation.created_at(),
        });
        infos.collect()
    }

    /// Makes `id` the generation that seals; reads the keys again if it is not known here.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`] if the keys can't be read, or `id` is not among them.
    pub(crate) fn activate(&self, id: &str) -> Result<(), KeyFileError> {
        if self.generations().active().id() == id {
            return Ok(());
        }
        if self.generations().named(id.as_bytes()).is_none() {
            self.reload_with(Needed::Instead(id.as_bytes()))?;
        }
        // Its lock comes before that of the generations.
        let place = self.name();
        self.change_generations(|held| {
            held.with_active(id).ok_or_else(|| {
                KeyFileError(format!(
                    "{place}: the database seals under the generation {id}, which is not among the \
                     keys. Put back the latest key file of this database; a database from before \
                     that generation was destroyed can't be opened any more"
                ))
            })
        })
    }

    /// Reads the keys again if they have changed where they are kept.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`], also if they lack what seals here; then the vault goes on with the keys that
    /// it has.
    pub(crate) fn reload(&self) -> Result<(), KeyFileError> {
        self.reload_with(Needed::Active)
    }

    /// The same for keys that must hold these. What seals stays what it was, if it is still there.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`]; then the vault goes on with the keys that it has.
    pub(super) fn reload_with(&self, needed: Needed<'_>) -> Result<(), KeyFileError> {
        let mut held = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(source) = held.as_mut() else {
            return Ok(());
        };
        let fingerprint = source.custody.fingerprint()?;
        if fingerprint == source.fingerprint {
            return Ok(());
        }
        if let Some((unread, why)) = &source.unread
            && *unread == fingerprint
        {
            return Err(KeyFileError(why.clone()));
        }
        match self.read_again(&source.custody) {
            Ok(read) => {
                // Not remembered: once another generation seals here, the same text may do.
                let taken = self.open_with(read.generations, needed);
                *held = taken.map(|_| read.source)?;
                Ok(())
            }
            Err(error) => {
                source.unread = Some((fingerprint, error.to_string()));
                Err(error)
            }
        }
    }

    /// The keys where, and with the passphrase with which, they are to be kept from now on. They
    /// must be of this installation, and hold `active`, the generation that seals by the store: this
    /// vault may not have been able to follow.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`].
    pub(crate) fn read_at(
        &self,
        custody: &Arc<dyn Custody>,
        active: &str,
    ) -> Result<KeyRing, KeyFileError> {
        let read = self.read_again(custody)?;
        refuse_older(
            &self.generations(),
            &read.generations,
            Needed::Instead(active.as_bytes()),
        )?;
        Ok(read)
    }

    /// Takes keys that [`Vault::read_at`] gave: from now on they are read where these were, and
    /// `active` can be made what seals. Answers what was held before. Keys that were given as text
    /// stay as they are.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`] if they have become too old meanwhile; then nothing has changed.
    pub(crate) fn take(&self, read: KeyRing, active: &str) -> Result<Held, KeyFileError> {
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        if source.is_none() {
            return Ok(Held(None));
        }
        let generations = self.open_with(read.generations, Needed::Instead(active.as_bytes()))?;
        let before = std::mem::replace(&mut *source, read.source);
        Ok(Held(Some((before, generations))))
    }

    /// Undoes [`Vault::take`].
    pub(crate) fn put_back(&self, before: Held) {
        if let Some((source, generations)) = before.0 {
            let mut held = self.source.lock().unwrap_or_else(PoisonError::into_inner);
            *held = source;
            self.change_generations(|_| Ok(generations.as_ref().clone()))
                .unwrap_or_default();
        }
    }

    /// Opens with the generations of a ring that was read anew; answers those before. What seals
    /// stays what it was, if it is among them.
    fn open_with(
        &self,
        read: Generations,
        needed: Needed<'_>,
    ) -> Result<Arc<Generations>, KeyFileError> {
        let before = self.generations();
        self.change_generations(|held| {
            refuse_older(held, &read, needed)?;
            let as_before = read.with_active(held.active().id());
            Ok(as_before.unwrap_or(read))
        })?;
        Ok(before)
    }

    /// The key ring as it is kept now; another installation's is refused.
    fn read_again(&self, custody: &Arc<dyn Custody>) -> Result<KeyRing, KeyFileError> {
        let read = KeyRing::from_custody(Arc::clone(custody))?;
        let theirs = read.hashes.keyed_hash(HashPurpose::Pseudonym, ROOT_PROBE);
        if self.verify_hash(HashPurpose::Pseudonym, ROOT_PROBE, &theirs) {
            return Ok(read);
        }
        Err(KeyFileError(format!(
            "{}: its `root` is another than before; these are the keys of another installation",
            custody.name()
        )))
    }

    /// Makes the next generation's key, or finds the one that is kept already and has sealed
    /// nothing. Nothing is written yet.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`].
    pub(crate) fn prepare_next(
        &self,
        known: impl Fn(&str) -> bool,
        now: Timestamp,
    ) -> Result<Prepared, KeyFileError> {
        let text = self.source()?.custody.read()?;
        match keytext::next_id(&text, known)? {
            Some(id) => Ok(Prepared {
                id,
                text,
                from: None,
            }),
            None => {
                // A place that cardless can't write has not been told yet what seals.
                let told = keytext::with_active(&text, &self.active_id())?;
                let (with_next, id) = keytext::with_next(&told, self.entropy.as_ref(), now)?;
                Ok(Prepared {
                    id,
                    text: with_next,
                    from: Some(text),
                })
            }
        }
    }

    /// Writes the next generation where the keys are kept, unless it is there.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`], also if the keys have changed there meanwhile.
    pub(crate) fn keep_next(&self, prepared: &Prepared) -> Result<(), KeyFileError> {
        if let Some(from) = &prepared.from {
            self.source()?.custody.replace(from, &prepared.text)?;
        }
        self.reload()
    }

    /// Says in the key file which generation seals, for a database that knows none. Does nothing
    /// if it says so already.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`].
    pub(crate) fn keep_active(&self, id: &str) -> Result<(), KeyFileError> {
        self.rewrite(|text| keytext::with_active(text, id))
    }

    /// Takes generations out of the key file, and forgets them here. Where a person has taken them out
    /// nothing is written: cardless may not be able to, and they may have laid it out otherwise.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`].
    pub(crate) fn destroy(&self, ids: &[String]) -> Result<(), KeyFileError> {
        let active = self.active_id();
        let custody = self.source()?.custody;
        if keytext::is_without(&custody.read()?, ids, &active)? {
            custody.sweep()?;
            return self.reload();
        }
        self.rewrite(|text| keytext::without(text, ids, &active))
    }

    /// Writes the keys anew as they are: under another passphrase than before, if the settings say
    /// so.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`].
    pub(crate) fn rewrite_file(&self) -> Result<(), KeyFileError> {
        let source = self.source()?;
        let present = source.custody.read()?;
        source.custody.replace(&present, &present)?;
        self.reload()
    }

    /// What a person should do about how the keys are kept.
    pub(crate) fn remark(&self) -> Option<String> {
        self.source().ok()?.custody.remark()
    }

    /// What a place that cardless can't write must hold for this text.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`].
    pub(crate) fn as_kept(&self, text: &str) -> Result<Zeroizing<String>, KeyFileError> {
        self.source()?.custody.as_kept(text)
    }

    /// The key file's text without these generations, for a place that cardless can't write.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`].
    pub(crate) fn text_without(&self, ids: &[String]) -> Result<Zeroizing<String>, KeyFileError> {
        keytext::without(&self.source()?.custody.read()?, ids, &self.active_id())
    }

    fn rewrite(
        &self,
        change: impl Fn(&str) -> Result<Zeroizing<String>, KeyFileError>,
    ) -> Result<(), KeyFileError> {
        let source = self.source()?;
        let present = source.custody.read()?;
        let changed = change(&present)?;
        if *changed == *present {
            source.custody.sweep()?;
        } else {
            source.custody.replace(&present, &changed)?;
        }
        self.reload()
    }

    /// The generations that the keys' place holds and that are not marked as unused.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`].
    pub(crate) fn used_ids(&self) -> Result<Vec<String>, KeyFileError> {
        keytext::used_ids(&self.source()?.custody.read()?)
    }

    /// A record sealed under a generation that holds nothing secret: to be kept, and tried when the key
    /// is destroyed. None if the key is not here, or the one that is `kept` opens under it.
    ///
    /// # Errors
    ///
    /// [`VaultError`].
    pub(crate) fn sample(
        &self,
        id: &str,
        kept: Option<&[u8]>,
    ) -> Result<Option<Sealed>, VaultError> {
        let generations = self.generations();
        let Some(generation) = generations.named(id.as_bytes()) else {
            return Ok(None);
        };
        let good = kept.is_some_and(|kept| {
            Self::generation_of(kept) == Some(id) && self.open(&SAMPLE, kept).is_ok()
        });
        if good {
            return Ok(None);
        }
        self.seal_with(generation, &SAMPLE, SAMPLE_TEXT).map(Some)
    }

    /// Proves that these generations open nothing: they are not among the keys as they are kept
    /// now, and the samples are refused by those keys and by this vault. Answers how many were.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`] if one still opens, or the keys can't be read.
    pub(crate) fn prove_gone(
        &self,
        ids: &[String],
        samples: &[Sealed],
    ) -> Result<u64, KeyFileError> {
        let kept = KeyRing::from_custody(self.source()?.custody)?;
        let listed = kept
            .generation_ids()
            .any(|id| ids.iter().any(|gone| gone == id));
        let kept = Vault::new(kept, Arc::clone(&self.entropy));
        let opens = |sealed: &Sealed| {
            kept.open(&SAMPLE, &sealed.bytes).is_ok() || self.open(&SAMPLE, &sealed.bytes).is_ok()
        };
        if listed || samples.iter().any(opens) {
            return Err(KeyFileError(format!(
                "{}: a generation that was to be destroyed is still among the keys",
                kept.name()
            )));
        }
        Ok(u64::try_from(samples.len()).unwrap_or(u64::MAX))
    }

    /// Opens a record and seals what it holds under another generation. The plaintext is wiped.
    ///
    /// # Errors
    ///
    /// [`VaultError`].
    pub(crate) fn reseal(
        &self,
        generation: &str,
        context: &Context<'_>,
        sealed: &[u8],
    ) -> Result<Sealed, VaultError> {
        let opened = self.open(context, sealed)?;
        self.seal_under(generation, context, &opened)
    }

    /// What the place of the keys is called.
    pub(crate) fn name(&self) -> String {
        self.source().map_or_else(
            |_| "the key ring".to_owned(),
            |source| source.custody.name(),
        )
    }

    fn source(&self) -> Result<Source, KeyFileError> {
        let held = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        held.clone().ok_or_else(|| {
            KeyFileError(
                "these keys were given as text, not read from a place where they are kept, so \
                 they can't be rotated; load them with `KeyRing::load` or `KeyRing::from_custody`"
                    .to_owned(),
            )
        })
    }

    /// Puts others in place of those that are held, unless they are refused. Nobody else changes them
    /// meanwhile: one that was read a moment ago is not lost to one that only chooses.
    fn change_generations(
        &self,
        change: impl FnOnce(&Generations) -> Result<Generations, KeyFileError>,
    ) -> Result<(), KeyFileError> {
        let mut held = self
            .generations
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *held = Arc::new(change(&held)?);
        Ok(())
    }
}

/// Refuses keys that lack a generation which they must hold.
fn refuse_older(
    held: &Generations,
    read: &Generations,
    needed: Needed<'_>,
) -> Result<(), KeyFileError> {
    let active = held.active().id().as_bytes();
    let needed = match needed {
        Needed::Active => [active, active],
        Needed::Also(id) => [active, id],
        Needed::Instead(id) => [id, id],
    };
    let Some(lacking) = needed.iter().find(|id| read.named(id).is_none()) else {
        return Ok(());
    };
    Err(KeyFileError(format!(
        "this is an older copy of the keys: it lacks {}, under which records are sealed. Put back the \
         latest one; until then the service goes on with the keys that it has",
        String::from_utf8_lossy(lacking)
    )))
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Held(…)")
    }
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Prepared({})", self.id)
    }
}
