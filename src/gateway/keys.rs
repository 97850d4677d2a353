//! The generations of the keys: which one seals, how often it has, and how long it may go on.
//!
//! The store says which generation is active, and counts its uses in blocks that are reserved before
//! they are used: a crash loses what was left of a block, and never counts too little. Another
//! process may rotate the keys at any time. A seal that comes too late for that is refused by the
//! store, and is made again under the generation that is active now.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use cardless_contract::Timestamp;
use serde::Serialize;
use tokio::time::Instant;

use super::audit::{AuditAction, AuditObject, AuditOutcome};
use super::{Gateway, Inner, stored};
use crate::error::{Causes, Code, Error};
use crate::store::{
    Change, GenerationRow, GenerationState, SealedColumn, SealedText, StoreError, Subject,
};
use crate::vault::{Context, KeyFileError};

/// How many uses of one generation are enough: from here on it is said loudly.
pub const WARN_USES: u64 = 1 << 30;

/// How many uses of one generation there may be, so that with the sample of its end there are 2^32: with
/// random nonces, a chance of 2^-33 that two are equal. Beyond it nothing is sealed.
pub const MAX_USES: u64 = (1 << 32) - 1;

/// How old a generation may get before it is said loudly: 90 days.
pub const WARN_AGE: Duration = Duration::from_secs(90 * 24 * 3600);

/// How many uses a process reserves at first: a verb that seals once wastes no more.
const FIRST_BLOCK: u64 = 256;

/// How many it reserves from then on.
const BLOCK: u64 = 65_536;

/// How often a seal is made again because the keys were rotated in between.
const MAX_TURNS: u32 = 8;

/// How often it is looked whether another process has rotated the keys.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// How often a generation that should be rotated is spoken of.
const WARN_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Uses that this process has reserved and not used.
#[derive(Debug, Default)]
pub(super) struct Uses {
    generation: String,
    left: u64,
}

/// The keys, as `rotate status` shows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeysReport {
    /// Where the keys are kept.
    pub place: String,
    /// The generations, the active one first, then the latest.
    pub generations: Vec<KeyGeneration>,
    /// What must be done, if anything.
    pub warnings: Vec<String>,
}

/// A generation of the key-encryption key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyGeneration {
    /// Its id.
    pub id: String,
    /// `active`, `retiring` or `destroyed`.
    pub state: &'static str,
    /// How many uses were reserved of it.
    pub uses: u64,
    /// How much is sealed under it now, over all tables.
    pub sealed: u64,
    /// Whether its key is among the keys.
    pub present: bool,
    /// When its key was made.
    pub created_at: Timestamp,
    /// When it stopped sealing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retired_at: Option<Timestamp>,
    /// When it was found to be gone from the keys. One that is `destroyed` without this was to be by a
    /// run that was interrupted: nothing has proven it yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destroyed_at: Option<Timestamp>,
    /// Of one that was found to be gone, whether a record that was sealed under it was tried then, and
    /// refused. Without that, all that is known is that it was not among the keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tried: Option<bool>,
}

impl KeyGeneration {
    /// Whether its key is gone, or was to be, and no run has found yet that it is: one was interrupted,
    /// or a person has taken it out.
    pub fn is_unproven(&self) -> bool {
        let began = self.state == GenerationState::Destroyed.as_str();
        let gone = self.state == GenerationState::Retiring.as_str() && !self.present;
        self.destroyed_at.is_none() && (began || gone)
    }

    /// Whether it was found to be gone, and its key is among the keys again.
    pub const fn is_back(&self) -> bool {
        self.destroyed_at.is_some() && self.present
    }
}

/// Looks after the keys while the service runs, by a clock that only ever goes on.
#[derive(Debug)]
pub(super) struct KeyWatch {
    look_at: Instant,
    warn_at: Instant,
}

impl Gateway {
    /// Makes sure that keys and store fit together, and answers what must be done about the keys.
    ///
    /// # Errors
    ///
    /// [`Code::Internal`] if they don't: another installation's key file, or a database from before
    /// a generation was destroyed. [`Code::StoreUnavailable`].
    pub async fn open_keys(&self) -> Result<Vec<String>, Error> {
        let rows = self.inner.all_generations().await?;
        let present = self.inner.vault.generation_infos();
        let ids: Vec<&str> = present.iter().map(|info| info.id.as_str()).collect();
        self.inner.nothing_is_locked(&rows, &ids).await?;
        Ok(self.inner.key_warnings(&rows))
    }

    /// Writes the key file anew as it is: under the passphrase of the settings, if that is another
    /// than before.
    ///
    /// # Errors
    ///
    /// [`Code::Internal`] if the keys can't be read or written; [`Code::StoreUnavailable`] if that
    /// can't be audited, and then nothing is written.
    pub async fn rewrite_key_file(&self) -> Result<(), Error> {
        let line = || {
            let line = self.audit(AuditAction::RotateKeysWrite, AuditObject::none());
            line.detail("to", "its place")
        };
        line().outcome(AuditOutcome::Accepted).write().await?;
        match self.inner.vault.rewrite_file().map_err(unfit) {
            Ok(()) => line().write().await,
            Err(error) => Err(line().refused(error).await),
        }
    }

    /// The generations of the keys, and what each of them has sealed.
    ///
    /// # Errors
    ///
    /// As [`Gateway::open_keys`].
    pub async fn keys(&self) -> Result<KeysReport, Error> {
        let rows = self.inner.all_generations().await?;
        // Another process may have taken a key out meanwhile: a report of its being back must be true.
        if let Err(error) = self.inner.vault.reload() {
            tracing::error!(%error, "the keys can't be read again");
        }
        let present = self.inner.vault.generation_infos();
        let warnings = self.inner.key_warnings(&rows);
        let sealed = self.inner.count_sealed().await?;
        let generations = rows.into_iter().map(|row| KeyGeneration {
            sealed: sealed_under(&sealed, &row.id),
            present: present.iter().any(|info| info.id == row.id),
            id: row.id,
            state: row.state.as_str(),
            uses: row.uses,
            created_at: row.created_at,
            retired_at: row.retired_at,
            destroyed_at: row.destroyed_at,
            tried: row.destroyed_at.map(|_| row.tried),
        });
        Ok(KeysReport {
            place: self.inner.vault.name(),
            generations: generations.collect(),
            warnings,
        })
    }
}

impl Inner {
    /// Seals, and counts it. The one place in which something is sealed to be kept.
    pub(super) async fn seal(
        &self,
        context: &Context<'_>,
        plaintext: &[u8],
    ) -> Result<SealedText, Error> {
        let generation = self.take_uses(1).await?;
        let sealed = self
            .vault
            .seal_under(&generation, context, plaintext)
            .map_err(|error| {
                Error::new(Code::Internal, "A record could not be sealed.").with_source(error)
            })?;
        Ok(SealedText {
            generation: sealed.generation,
            bytes: sealed.bytes,
        })
    }

    /// Whether something was refused because another process has retired a generation before it was
    /// written. Then this follows, and it must be sealed, or begun, again.
    pub(super) async fn came_too_late<T>(
        &self,
        result: &Result<T, Error>,
        turns: &mut u32,
    ) -> Result<bool, Error> {
        let late = matches!(result, Err(error) if is_conflict(error, Subject::Generation))
            && *turns < MAX_TURNS;
        if late {
            *turns += 1;
            self.follow_generations().await?;
        }
        Ok(late)
    }

    /// Takes uses of the active generation, and answers which one that is.
    pub(super) async fn take_uses(&self, wanted: u64) -> Result<String, Error> {
        for _ in 0..MAX_TURNS {
            let active = self.vault.active_id();
            let Some(block) = self.uses().take(&active, wanted) else {
                return Ok(active);
            };
            let reserve = Change::ReserveUses {
                generation: active.clone(),
                uses: block,
                limit: MAX_USES,
            };
            match self.journal.write(vec![reserve]).await {
                Ok(()) => self.uses().add(&active, block),
                Err(StoreError::Conflict(Subject::Generation)) => {
                    let rows = self.follow_generations().await?;
                    refuse_exhausted(&rows, &active, block)?;
                }
                Err(error) => return Err(stored(error)),
            }
        }
        Err(Error::new(
            Code::Internal,
            "The keys change all the time; nothing could be sealed.",
        ))
    }

    /// Makes the generation that the store says is active the one that seals here. A store that
    /// knows none yet takes over those of the keys.
    pub(super) async fn follow_generations(&self) -> Result<Vec<GenerationRow>, Error> {
        let rows = self.known_generations().await?;
        self.vault.activate(&active_of(&rows)?.id).map_err(unfit)?;
        Ok(self.as_old_as_their_keys(rows))
    }

    /// Follows the store before something is opened that was sealed under a generation which is not
    /// here: the vault by itself takes no keys that lack what seals here, and that may have been destroyed
    /// since. A failure is logged; what can't be opened then says so.
    pub(super) async fn follow_to_open(&self, sealed: &[u8]) {
        if self.vault.knows(sealed) {
            return;
        }
        if let Err(error) = self.follow_generations().await {
            tracing::error!(error = %Causes(&error), "the keys");
        }
    }

    /// The generations that the store knows, whether they are here or not.
    pub(super) async fn known_generations(&self) -> Result<Vec<GenerationRow>, Error> {
        let store = self.journal.store();
        let rows = store.generations().await.map_err(stored)?;
        if !rows.is_empty() {
            return Ok(rows);
        }
        let adopt = self.adopt(self.own_generations())?;
        self.journal.write(adopt).await.map_err(stored)?;
        store.generations().await.map_err(stored)
    }

    /// The generations of the store, and those that only the keys have: of a database that was
    /// restored from before they were made. These have sealed what may stand in later backups, so that
    /// they are shown and destroyed like any other.
    pub(super) async fn all_generations(&self) -> Result<Vec<GenerationRow>, Error> {
        let rows = self.follow_generations().await?;
        // Keys that were given as text have no place, and can't be rotated.
        let Ok(used) = self.vault.used_ids() else {
            return Ok(rows);
        };
        let known = |id: &str| rows.iter().any(|row| row.id == id);
        if used.iter().all(|id| known(id)) {
            return Ok(rows);
        }
        self.vault.reload().map_err(unfit)?;
        let mut strays = self.own_generations();
        strays.retain(|row| used.contains(&row.id) && !known(&row.id));
        for stray in &mut strays {
            stray.state = GenerationState::Retiring;
            stray.retired_at = Some(self.journal.now());
        }
        let adopt = self.adopt(strays)?;
        self.journal.write(adopt).await.map_err(stored)?;
        self.stored_generations().await
    }

    /// The generations as the store has them, each as old as its key.
    async fn stored_generations(&self) -> Result<Vec<GenerationRow>, Error> {
        let rows = self.journal.store().generations().await.map_err(stored)?;
        Ok(self.as_old_as_their_keys(rows))
    }

    /// Whoever can write to the database can make a key look younger there, but not among the keys.
    fn as_old_as_their_keys(&self, mut rows: Vec<GenerationRow>) -> Vec<GenerationRow> {
        let infos = self.vault.generation_infos();
        for row in &mut rows {
            let kept = infos.iter().find(|info| info.id == row.id);
            let made = kept.map_or(row.created_at, |info| info.created_at);
            row.created_at = row.created_at.min(made);
        }
        rows
    }

    /// Takes over generations that the store does not know, with a sample of each that only opens.
    fn adopt(&self, rows: Vec<GenerationRow>) -> Result<Vec<Change>, Error> {
        let older = rows.iter();
        let older = older.filter(|row| row.state != GenerationState::Active);
        let samples = self.samples(older)?;
        let mut batch = vec![Change::AdoptGenerations(rows)];
        batch.extend(samples);
        Ok(batch)
    }

    /// A sample of each of these generations that has none and whose key is here, to be kept: by it
    /// the end of the key is proven, whoever has taken it away by then.
    pub(super) fn samples<'a>(
        &self,
        rows: impl Iterator<Item = &'a GenerationRow>,
    ) -> Result<Vec<Change>, Error> {
        let mut changes = Vec::new();
        for row in rows {
            let sealed = self.vault.sample(&row.id, row.sample.as_deref());
            let sealed = sealed.map_err(|error| {
                Error::new(Code::Internal, "No sample could be sealed.").with_source(error)
            })?;
            changes.extend(sealed.map(|sealed| Change::KeepSample {
                generation: sealed.generation,
                sample: sealed.bytes,
            }));
        }
        Ok(changes)
    }

    /// Refuses a store that holds something under a generation which the keys lack: a backup from
    /// the midst of a rotation, restored after the old generation was destroyed.
    pub(super) async fn nothing_is_locked(
        &self,
        rows: &[GenerationRow],
        present: &[&str],
    ) -> Result<(), Error> {
        let store = self.journal.store();
        for row in rows {
            if present.contains(&row.id.as_str()) {
                continue;
            }
            for column in SealedColumn::ALL {
                let sealed = store.sealed(column, &row.id, 0, 1).await.map_err(stored)?;
                if !sealed.is_empty() {
                    return Err(Error::new(
                        Code::Internal,
                        format!(
                            "The database holds records under the key generation {}, which the key \
                             file lacks. Use the key file of that time, or a later backup of the \
                             database.",
                            row.id
                        ),
                    ));
                }
            }
        }
        Ok(())
    }

    /// How much of each column is sealed under each generation.
    pub(super) async fn count_sealed(&self) -> Result<Vec<(SealedColumn, String, u64)>, Error> {
        self.journal.store().count_sealed().await.map_err(stored)
    }

    /// The active generation's uses and age, as Prometheus text.
    pub(super) async fn key_metrics(&self) -> Result<String, Error> {
        let rows = self.stored_generations().await?;
        let now = self.journal.now();
        let mut text = String::from(
            "# HELP cardless_kek_uses Uses reserved of the active key generation.\n\
             # TYPE cardless_kek_uses gauge\n",
        );
        let active = rows.iter().find(|row| row.state == GenerationState::Active);
        let Some(row) = active else { return Ok(text) };
        text.push_str(&format!(
            "cardless_kek_uses{{generation=\"{0}\"}} {1}\n\
             # HELP cardless_kek_age_seconds Age of the active key generation.\n\
             # TYPE cardless_kek_age_seconds gauge\n\
             cardless_kek_age_seconds{{generation=\"{0}\"}} {2}\n",
            row.id,
            row.uses,
            now.since(row.created_at).as_secs()
        ));
        Ok(text)
    }

    /// What must be done about the keys.
    fn key_warnings(&self, rows: &[GenerationRow]) -> Vec<String> {
        let present = self.vault.generation_infos();
        let present: Vec<&str> = present.iter().map(|info| info.id.as_str()).collect();
        let mut warnings = warnings(rows, &present, self.journal.now());
        warnings.extend(self.vault.remark());
        warnings
    }

    fn own_generations(&self) -> Vec<GenerationRow> {
        let active = self.vault.active_id();
        let infos = self.vault.generation_infos().into_iter();
        let rows = infos.map(|info| GenerationRow {
            state: if info.id == active {
                GenerationState::Active
            } else {
                GenerationState::Retiring
            },
            id: info.id,
            uses: 0,
            created_at: info.created_at,
            retired_at: None,
            destroyed_at: None,
            tried: false,
            sample: None,
        });
        rows.collect()
    }

    fn uses(&self) -> MutexGuard<'_, Uses> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyWatch {
    /// Looks at once.
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            look_at: now,
            warn_at: now,
        }
    }

    /// Follows another process that has rotated the keys or destroyed some, and says what must be
    /// done. A failure is logged; the next look tries again.
    pub(super) async fn look(&mut self, inner: &Inner) {
        let now = Instant::now();
        if now < self.look_at {
            return;
        }
        self.look_at = now + LOOK_EVERY;
        // First what seals: keys that lack what sealed here before are no older copy then.
        let rows = match inner.follow_generations().await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::error!(error = %Causes(&error), "the keys");
                return;
            }
        };
        if let Err(error) = inner.vault.reload() {
            tracing::error!(%error, "the keys can't be read again");
        }
        if now >= self.warn_at {
            self.warn_at = now + WARN_EVERY;
            for warning in inner.key_warnings(&rows) {
                tracing::warn!("{warning}");
            }
        }
    }
}

impl Uses {
    /// Takes uses of a generation; if there are too few, says how many to reserve.
    fn take(&mut self, generation: &str, wanted: u64) -> Option<u64> {
        if self.generation != generation {
            return Some(FIRST_BLOCK.max(wanted));
        }
        match self.left.checked_sub(wanted) {
            Some(left) => {
                self.left = left;
                None
            }
            None => Some(BLOCK.max(wanted)),
        }
    }

    /// Adds what was reserved. What was left of another generation is lost.
    fn add(&mut self, generation: &str, reserved: u64) {
        if self.generation != generation {
            generation.clone_into(&mut self.generation);
            self.left = 0;
        }
        self.left = self.left.saturating_add(reserved);
    }
}

/// What must be done about the generations, of which these keys are present.
fn warnings(rows: &[GenerationRow], present: &[&str], now: Timestamp) -> Vec<String> {
    let of = |row| unproven(row, present);
    let mut warnings: Vec<String> = rows.iter().filter_map(of).collect();
    let active = rows.iter().find(|row| row.state == GenerationState::Active);
    let Some(row) = active else { return warnings };
    let age = now.since(row.created_at);
    if row.uses >= WARN_USES {
        warnings.push(format!(
            "the key generation {} has sealed up to {} times; nothing is sealed beyond {MAX_USES}: \
             run `cardless rotate keys`",
            row.id, row.uses
        ));
    }
    if age >= WARN_AGE {
        warnings.push(format!(
            "the key generation {} is {} days old; 90 are enough: run `cardless rotate keys`",
            row.id,
            age.as_secs() / (24 * 3600)
        ));
    }
    warnings
}

/// One whose key may still be somewhere, though it was to be destroyed or is not among the keys; and one
/// that was found to be gone, and is back, as from a copy of the keys.
fn unproven(row: &GenerationRow, present: &[&str]) -> Option<String> {
    let id = &row.id;
    let is_present = present.contains(&id.as_str());
    let open = row.destroyed_at.is_none();
    match row.state {
        GenerationState::Destroyed if open => Some(format!(
            "nothing has proven yet that the key generation {id} is destroyed: run `cardless rotate keys \
             --destroy-retired` again"
        )),
        GenerationState::Destroyed if is_present => Some(format!(
            "the key generation {id} was destroyed and is back among the keys, as from a copy of them: \
             run `cardless rotate keys --destroy-retired` again"
        )),
        GenerationState::Retiring if !is_present => Some(format!(
            "the key generation {id} is not among the keys any more, and nothing has proven that it is \
             not needed and destroyed: run `cardless rotate keys --destroy-retired`"
        )),
        GenerationState::Active | GenerationState::Retiring | GenerationState::Destroyed => None,
    }
}

fn refuse_exhausted(rows: &[GenerationRow], id: &str, block: u64) -> Result<(), Error> {
    let row = rows
        .iter()
        .find(|row| row.id == id && row.state == GenerationState::Active);
    match row {
        Some(row) if row.uses.saturating_add(block) > MAX_USES => Err(Error::new(
            Code::Internal,
            format!(
                "The key generation {id} has sealed as often as a key may (2^32 times). Nothing \
                 was sealed: run `cardless rotate keys`."
            ),
        )),
        Some(_) | None => Ok(()),
    }
}

/// The generation that seals by these rows.
pub(super) fn active_of(rows: &[GenerationRow]) -> Result<&GenerationRow, Error> {
    rows.iter()
        .find(|row| row.state == GenerationState::Active)
        .ok_or_else(|| stored(StoreError::Unreadable("generations")))
}

/// How much a generation has sealed of what there is.
pub(super) fn sealed_under(counts: &[(SealedColumn, String, u64)], id: &str) -> u64 {
    let of_it = counts.iter().filter(|(_, generation, _)| generation == id);
    of_it.map(|(_, _, count)| count).sum()
}

/// Keys that can't be read, or are not those of the database.
pub(super) fn unfit(error: KeyFileError) -> Error {
    Error::new(
        Code::Internal,
        "The keys of this installation can't be used with its database.",
    )
    .with_source(error)
}

/// Whether a write was refused since this had changed meanwhile.
pub(super) fn is_conflict(error: &Error, subject: Subject) -> bool {
    let source = std::error::Error::source(error);
    let refused = source.and_then(|source| source.downcast_ref::<StoreError>());
    matches!(refused, Some(StoreError::Conflict(about)) if *about == subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(uses: u64, created_at: Timestamp) -> GenerationRow {
        GenerationRow {
            id: "kek_a".to_owned(),
            state: GenerationState::Active,
            uses,
            created_at,
            retired_at: None,
            destroyed_at: None,
            tried: false,
            sample: None,
        }
    }

    #[test]
    fn what_is_reserved_is_used_up_and_never_counted_for_another_generation() {
        let mut uses = Uses::default();
        assert_eq!(uses.take("a", 1), Some(FIRST_BLOCK));
        uses.add("a", FIRST_BLOCK);
        for _ in 0..FIRST_BLOCK {
            assert_eq!(uses.take("a", 1), None);
        }
        assert_eq!(uses.take("a", 1), Some(BLOCK));
        uses.add("a", BLOCK);
        assert_eq!(uses.take("a", BLOCK + 1), Some(BLOCK + 1));
        assert_eq!(uses.take("b", 1), Some(FIRST_BLOCK));
        uses.add("b", FIRST_BLOCK);
        assert_eq!(uses.take("b", FIRST_BLOCK + 1), Some(BLOCK));
        // What another task had reserved of the one before is lost, not used.
        assert_eq!(uses.take("a", 1), Some(FIRST_BLOCK));
    }

    #[test]
    fn the_limits_are_loud_and_then_hard() {
        let made = Timestamp::from_seconds(1_795_000_000);
        let day = Duration::from_secs(24 * 3600);
        let warnings = |rows: &[GenerationRow], now| warnings(rows, &["kek_a"], now);
        assert!(warnings(&[row(WARN_USES - 1, made)], made.plus(day * 89)).is_empty());
        let many = warnings(&[row(WARN_USES, made)], made);
        assert_eq!(many.len(), 1);
        assert!(
            many.iter()
                .all(|text| text.contains("cardless rotate keys"))
        );
        let old = warnings(&[row(0, made)], made.plus(day * 90));
        assert!(old.iter().all(|text| text.contains("90 days old")));
        assert_eq!(
            warnings(&[row(WARN_USES, made)], made.plus(day * 90)).len(),
            2
        );
    }

    #[test]
    fn a_key_whose_end_is_not_proven_is_warned_of() {
        let made = Timestamp::from_seconds(1_795_000_000);
        let of = |state, destroyed_at| GenerationRow {
            state,
            destroyed_at,
            ..row(0, made)
        };
        let (retiring, destroyed) = (GenerationState::Retiring, GenerationState::Destroyed);
        for (row, present, says) in [
            (of(destroyed, None), true, "destroyed: run"),
            (of(destroyed, None), false, "destroyed: run"),
            (of(destroyed, Some(made)), true, "is back among the keys"),
            (of(destroyed, Some(made)), false, ""),
            (of(retiring, None), false, "is not among the keys any more"),
            (of(retiring, None), true, ""),
        ] {
            let present: &[&str] = if present { &["kek_a"] } else { &[] };
            let said = warnings(std::slice::from_ref(&row), present, made);
            assert_eq!(said.len(), usize::from(!says.is_empty()), "{said:?}");
            let whole = |text: &String| text.contains(says) && text.contains("--destroy-retired`");
            assert!(said.iter().all(whole), "{said:?}");
        }
    }

    #[test]
    fn nothing_is_sealed_beyond_the_limit() {
        let made = Timestamp::from_seconds(1_795_000_000);
        let full = [row(MAX_USES - BLOCK, made)];
        assert!(refuse_exhausted(&full, "kek_a", BLOCK).is_ok());
        let error = refuse_exhausted(&full, "kek_a", BLOCK + 1).unwrap_err();
        assert!(error.message().contains("rotate keys"), "{error}");
    }
}
