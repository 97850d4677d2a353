//! `rotate keys --destroy-retired`: takes older generations out of the keys, once a count over all
//! tables proves that nothing needs them; then proves that they open nothing.

use cardless_contract::Timestamp;
use serde::Serialize;
use zeroize::Zeroizing;

use super::audit::{AuditAction, AuditObject};
use super::keys::unfit;
use super::{Gateway, Inner, stored};
use crate::error::{Code, Error};
use crate::store::{
    Change, GenerationRow, GenerationState, RotationKind, SealedColumn, StoreError, Subject,
};
use crate::vault::{Sealed, Vault};

/// What was destroyed, and how that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeysDestroyed {
    /// The generations that are gone; none if nothing was retired.
    pub generations: Vec<String>,
    /// Where the keys are kept.
    pub place: String,
    /// How many sealed values were counted, over all tables; none of them is under one of these.
    pub counted: u64,
    /// Records sealed under these generations while their keys were here, which are refused now: one
    /// for each generation.
    pub refused: u64,
    /// Those of them of which no such record was kept: that they are not among the keys is all that
    /// is known of them.
    pub untried: Vec<String>,
    /// When they were found to be gone.
    pub at: Timestamp,
}

impl Gateway {
    /// Destroys the keys of all retired generations.
    ///
    /// Copies of the key file still hold them: these are their owners' to destroy. Running services
    /// forget them within a minute.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidState`] while anything is sealed under one of them, saying how much in which
    /// table, or while a rotation is unfinished; [`Code::Internal`] if the keys can't be written;
    /// [`Code::StoreUnavailable`].
    pub async fn destroy_retired(&self) -> Result<KeysDestroyed, Error> {
        match self.destroy_all().await {
            Ok(destroyed) => Ok(destroyed),
            Err(error) => {
                let line = self.audit(AuditAction::RotateKeysDestroy, AuditObject::none());
                Err(line.refused(error).await)
            }
        }
    }

    async fn destroy_all(&self) -> Result<KeysDestroyed, Error> {
        let inner = &self.inner;
        let Destroyable { ids, counted } = inner.destroyable().await?;
        let samples = inner.kept_samples(&ids).await?;
        inner.mark_destroyed(&ids).await?;
        inner.vault.destroy(&ids).map_err(unfit)?;
        let refused = inner.vault.prove_gone(&ids, &samples).map_err(unfit)?;
        let tried = |id: &String| samples.iter().any(|sample| sample.generation == *id);
        let untried = ids.iter().filter(|id| !tried(id)).cloned().collect();
        let at = inner.journal.now();
        let set = |id: &String| Change::SetDestroyed {
            generation: id.clone(),
            at,
            tried: tried(id),
        };
        let mut batch: Vec<Change> = ids.iter().map(set).collect();
        batch.extend(ids.iter().map(|id| {
            let object = AuditObject::generation(id);
            let line = self.audit(AuditAction::RotateKeysDestroy, object);
            line.detail("tried", tried(id)).change()
        }));
        inner.journal.write(batch).await.map_err(stored)?;
        Ok(KeysDestroyed {
            generations: ids,
            place: inner.vault.name(),
            counted,
            refused,
            untried,
            at,
        })
    }

    /// What the key file must hold once the retired generations are gone, for a place that cardless
    /// can't write. The keys are not changed, a sample of each is kept by which its end can be proven,
    /// and the audit log says that somebody was given the keys.
    ///
    /// # Errors
    ///
    /// As [`Gateway::destroy_retired`].
    pub async fn key_file_without_retired(&self) -> Result<Zeroizing<String>, Error> {
        let text = self.text_without_retired().await;
        self.handed_out(text).await
    }

    async fn text_without_retired(&self) -> Result<Zeroizing<String>, Error> {
        let Destroyable { ids, .. } = self.inner.destroyable().await?;
        let text = self.inner.vault.text_without(&ids).map_err(unfit)?;
        self.inner.vault.as_kept(&text).map_err(unfit)
    }

    /// The keys as text for whoever asked, once the audit log says so.
    pub(super) async fn handed_out(
        &self,
        text: Result<Zeroizing<String>, Error>,
    ) -> Result<Zeroizing<String>, Error> {
        let line = self.audit(AuditAction::RotateKeysWrite, AuditObject::none());
        let line = line.detail("to", "a file of the caller's");
        match text {
            Ok(text) => line.write().await.map(|()| text),
            Err(error) => Err(line.refused(error).await),
        }
    }
}

/// The generations that nothing needs, and how many sealed values were counted for that.
struct Destroyable {
    ids: Vec<String>,
    counted: u64,
}

impl Inner {
    /// What may go. Of each whose key is still here a sample is kept.
    async fn destroyable(&self) -> Result<Destroyable, Error> {
        let rows = self.all_generations().await?;
        self.vault.reload().map_err(unfit)?;
        let present = self.vault.generation_infos();
        let present = |id: &str| present.iter().any(|info| info.id == id);
        self.refuse_unfinished().await?;
        let counts = self.count_sealed().await?;
        let ids: Vec<String> = rows
            .iter()
            .filter(|row| may_go(row, present(&row.id)))
            .map(|row| row.id.clone())
            .collect();
        refuse_needed(&counts, &ids)?;
        let going = rows.iter().filter(|row| ids.contains(&row.id));
        let samples = self.samples(going)?;
        self.journal.write(samples).await.map_err(stored)?;
        Ok(Destroyable {
            ids,
            counted: counts.iter().map(|(_, _, count)| count).sum(),
        })
    }

    /// The samples of these generations that are kept. One that is not a whole record of its generation
    /// would be refused whatever the keys are, so it counts as none.
    async fn kept_samples(&self, ids: &[String]) -> Result<Vec<Sealed>, Error> {
        let rows = self.journal.store().generations().await.map_err(stored)?;
        let going = rows.into_iter().filter(|row| ids.contains(&row.id));
        let samples = going.filter_map(|row| {
            let bytes = row.sample?;
            let whole = Vault::generation_of(&bytes) == Some(row.id.as_str());
            whole.then_some(Sealed {
                generation: row.id,
                bytes,
            })
        });
        Ok(samples.collect())
    }

    async fn refuse_unfinished(&self) -> Result<(), Error> {
        let rows = self.journal.store().rotations(u32::MAX).await;
        let unfinished = |row: &crate::store::RotationRow| {
            row.kind == RotationKind::Keys && row.ended_at.is_none()
        };
        if !rows.map_err(stored)?.iter().any(unfinished) {
            return Ok(());
        }
        Err(Error::new(
            Code::InvalidState,
            "A rotation of the keys is unfinished; nothing was destroyed. Run `cardless rotate \
             keys` until it ends.",
        ))
    }

    /// The store counts once more, in the transaction that says so.
    async fn mark_destroyed(&self, ids: &[String]) -> Result<(), Error> {
        let rows = self.journal.store().generations().await.map_err(stored)?;
        let retiring = rows
            .into_iter()
            .filter(|row| row.state == GenerationState::Retiring && ids.contains(&row.id));
        let batch: Vec<Change> = retiring.map(|row| Change::MarkDestroyed(row.id)).collect();
        match self.journal.write(batch).await {
            Err(StoreError::Conflict(Subject::Generation)) => Err(Error::new(
                Code::InvalidState,
                "A retired generation is needed after all; nothing was destroyed. Run `cardless \
                 rotate keys` first.",
            )),
            other => other.map_err(stored),
        }
    }
}

/// Retired, or marked by a run that was interrupted before it was proven, or back among the keys from
/// a copy of them.
fn may_go(row: &GenerationRow, present: bool) -> bool {
    match row.state {
        GenerationState::Active => false,
        GenerationState::Retiring => true,
        GenerationState::Destroyed => row.destroyed_at.is_none() || present,
    }
}

fn refuse_needed(counts: &[(SealedColumn, String, u64)], ids: &[String]) -> Result<(), Error> {
    let needed: Vec<String> = counts
        .iter()
        .filter(|(_, id, count)| *count > 0 && ids.contains(id))
        .map(|(column, id, count)| format!("{id} seals {count} of {}", column.as_str()))
        .collect();
    if needed.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        Code::InvalidState,
        format!(
            "Retired generations are still needed; nothing was destroyed: {}. Run `cardless rotate \
             keys` first.",
            needed.join(", ")
        ),
    ))
}
