//! `rotate keys`: a new generation, and every record sealed anew under it, while payments go on.
//!
//! The key is in the key file before the store names it; from the transaction that names it, nothing
//! is kept that is sealed under another. So what is left to do is what stands under the older
//! generations, and it only gets less: whoever goes on after a kill reads it there. A sample of what
//! retires is kept in the same transaction, so that its end can be proven. Reading,
//! cryptography and writing of three batches run at once, each batch is one transaction, and a row
//! that was deleted or sealed anew meanwhile is left as it is.

use std::sync::Arc;

use serde::Serialize;
use zeroize::Zeroizing;

use super::audit::{Actor, AuditAction, AuditObject};
use super::keys::{active_of, unfit};
use super::{Gateway, Inner, stored, view};
use crate::error::{Code, Error};
use crate::store::{
    Change, GenerationRow, GenerationState, ResealedRow, RotationKind, RotationRow, SealedColumn,
    SealedRow,
};
use crate::vault::{Context, VaultError};

/// How many records a batch has: a transaction of a few hundredths of a second.
pub const RESEAL_BATCH: u32 = 2048;

/// From how many records on a batch is divided among the machine's cores.
const DIVIDE_FROM: usize = 256;

/// How many ids of records that don't open are named.
const MAX_NAMED: usize = 20;

/// A rotation of the keys under way. Dropping it interrupts it: the next one goes on where it was.
#[derive(Debug)]
pub struct KeyRotation {
    inner: Arc<Inner>,
    actor: Actor,
    row: RotationRow,
    resumed: bool,
    /// What is left to read: a column and a generation that has sealed something in it.
    sources: Vec<(SealedColumn, String)>,
    /// Behind which place the present source goes on.
    after: i64,
    opened: Option<Batch<SealedRow>>,
    resealed: Option<Batch<ResealedRow>>,
    report: KeysRotated,
}

/// What a rotation of the keys did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct KeysRotated {
    /// The generation that seals now.
    pub generation: String,
    /// Whether it went on with a rotation that was interrupted.
    pub resumed: bool,
    /// How many records this run has sealed anew.
    pub resealed: u64,
    /// How many don't open, and stay as they are. Their generation can't be destroyed.
    pub unopened: u64,
    /// The ids of the first of them.
    pub unopened_ids: Vec<String>,
    /// The generations that nothing needs any more: `rotate keys --destroy-retired` takes them.
    pub retired: Vec<String>,
}

/// Rows of one column, all under one generation.
#[derive(Debug)]
struct Batch<T> {
    column: SealedColumn,
    from: String,
    rows: Vec<T>,
    /// How many rows were read for it.
    read: u64,
}

impl Gateway {
    /// Makes a new generation of the key and begins to seal everything anew under it, or goes on
    /// with a rotation that was interrupted. [`KeyRotation::step`] does the work.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidState`] if another process rotates; [`Code::Internal`] if the keys can't be
    /// read or written; [`Code::StoreUnavailable`].
    pub async fn rotate_keys(&self) -> Result<KeyRotation, Error> {
        let inner = &self.inner;
        let (row, resumed) = inner.take_up_keys(&self.actor).await?;
        // Another process may have begun it: what seals is what the store says now.
        inner.follow_generations().await?;
        let active = inner.vault.active_id();
        if let Err(error) = inner.vault.keep_active(&active) {
            // The store says it too, and it is the store that counts.
            tracing::info!(%error, "the keys do not say which generation is active");
        }
        let sources = inner.sources(&active).await?;
        Ok(KeyRotation {
            inner: Arc::clone(inner),
            actor: self.actor.as_ref().clone(),
            row,
            resumed,
            sources,
            after: 0,
            opened: None,
            resealed: None,
            report: KeysRotated {
                generation: active,
                resumed,
                ..KeysRotated::default()
            },
        })
    }

    /// What the key file must hold so that the keys can be rotated, for a place that cardless can't
    /// write, such as a mounted secret. Nothing is changed, and the audit log says that somebody
    /// was given the keys.
    ///
    /// # Errors
    ///
    /// [`Code::Internal`] if the keys can't be read; [`Code::StoreUnavailable`].
    pub async fn next_key_file(&self) -> Result<Zeroizing<String>, Error> {
        let text = self.text_with_next().await;
        self.handed_out(text).await
    }

    async fn text_with_next(&self) -> Result<Zeroizing<String>, Error> {
        let rows = self.inner.follow_generations().await?;
        let known = |id: &str| rows.iter().any(|row| row.id == id);
        let now = self.inner.journal.now();
        let prepared = self.inner.vault.prepare_next(known, now).map_err(unfit)?;
        self.inner.vault.as_kept(&prepared.text).map_err(unfit)
    }
}

impl Inner {
    /// The rotation that is unfinished, or else a new one; and whether it is resumed.
    async fn take_up_keys(&self, actor: &Actor) -> Result<(RotationRow, bool), Error> {
        let mut turns = 0;
        loop {
            let rows = self.follow_generations().await?;
            if let Some(row) = self.unfinished_rotation(RotationKind::Keys).await? {
                return Ok((row, true));
            }
            let begun = self.begin_keys(&rows, actor).await;
            // Another process may have rotated them since the rows were read.
            if !self.came_too_late(&begun, &mut turns).await? {
                return begun.map(|row| (row, false));
            }
        }
    }

    /// The new key is kept, then named by the store, in one transaction with the rotation: unless
    /// another generation seals by then than by these rows.
    async fn begin_keys(
        &self,
        rows: &[GenerationRow],
        actor: &Actor,
    ) -> Result<RotationRow, Error> {
        let known = |id: &str| rows.iter().any(|row| row.id == id);
        let now = self.journal.now();
        let prepared = self.vault.prepare_next(known, now).map_err(unfit)?;
        self.vault.keep_next(&prepared).map_err(unfit)?;
        let infos = self.vault.generation_infos();
        let made = infos.into_iter().find(|info| info.id == prepared.id);
        let activate = Change::ActivateGeneration {
            row: GenerationRow {
                id: prepared.id.clone(),
                state: GenerationState::Active,
                uses: 0,
                created_at: made.map_or(now, |info| info.created_at),
                retired_at: None,
                destroyed_at: None,
                tried: false,
                sample: None,
            },
            retires: active_of(rows)?.id.clone(),
            at: now,
        };
        let counts = self.count_sealed().await?;
        let total = counts.iter().map(|(_, _, count)| count).sum();
        let object = AuditObject::generation(&prepared.id);
        let line = self
            .audit(actor.clone(), AuditAction::RotateKeysBegin, object)
            .detail("records", total);
        let mut batch = vec![activate, line.change()];
        // While the key of what retires now is here for certain.
        batch.extend(self.samples(rows.iter())?);
        self.begin_rotation(RotationKind::Keys, prepared.id, total, batch)
            .await
    }

    /// What older generations have sealed.
    async fn sources(&self, active: &str) -> Result<Vec<(SealedColumn, String)>, Error> {
        let counts = self.count_sealed().await?;
        let older = counts.into_iter().filter(|(_, id, _)| id != active);
        Ok(older.map(|(column, id, _)| (column, id)).collect())
    }

    /// Seals a batch anew, on all cores if it is worth it.
    async fn reseal(
        self: &Arc<Self>,
        to: &str,
        batch: Batch<SealedRow>,
    ) -> Result<(Batch<ResealedRow>, Vec<String>), Error> {
        let Batch {
            column, from, rows, ..
        } = batch;
        let read = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        let generation = self.take_uses(read).await?;
        if generation != to {
            return Err(rotated_again());
        }
        let mut done = Vec::with_capacity(rows.len());
        let mut unopened = Vec::new();
        for part in self.divided(column, to, rows).await? {
            done.extend(part.0);
            unopened.extend(part.1);
        }
        let batch = Batch {
            column,
            from,
            rows: done,
            read,
        };
        Ok((batch, unopened))
    }

    async fn divided(
        self: &Arc<Self>,
        column: SealedColumn,
        to: &str,
        mut rows: Vec<SealedRow>,
    ) -> Result<Vec<(Vec<ResealedRow>, Vec<String>)>, Error> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if rows.len() < DIVIDE_FROM || cores == 1 {
            return Ok(vec![self.reseal_rows(column, to, &rows)?]);
        }
        let share = rows.len().div_ceil(cores);
        let mut parts = Vec::with_capacity(cores);
        while !rows.is_empty() {
            let part = rows.split_off(rows.len().saturating_sub(share));
            let (inner, to) = (Arc::clone(self), to.to_owned());
            parts.push(tokio::task::spawn_blocking(move || {
                inner.reseal_rows(column, &to, &part)
            }));
        }
        let mut results = Vec::with_capacity(parts.len());
        // The last part was taken first.
        for part in parts.into_iter().rev() {
            results.push(part.await.map_err(|error| {
                Error::new(Code::Internal, "A part of a batch broke off.").with_source(error)
            })??);
        }
        Ok(results)
    }

    /// The rows that could be sealed anew, and the ids of those that don't open.
    fn reseal_rows(
        &self,
        column: SealedColumn,
        to: &str,
        rows: &[SealedRow],
    ) -> Result<(Vec<ResealedRow>, Vec<String>), Error> {
        let mut done = Vec::with_capacity(rows.len());
        let mut unopened = Vec::new();
        for row in rows {
            match self.vault.reseal(to, &context(column, row), &row.bytes) {
                Ok(sealed) => done.push(ResealedRow {
                    place: row.place,
                    id: row.id.clone(),
                    bytes: sealed.bytes,
                }),
                Err(VaultError::Opaque) => unopened.push(row.id.clone()),
                Err(error @ (VaultError::Entropy | VaultError::TooLong)) => {
                    return Err(
                        Error::new(Code::Internal, "A record could not be sealed anew.")
                            .with_source(error),
                    );
                }
            }
        }
        Ok((done, unopened))
    }
}

impl KeyRotation {
    /// How many records are done, those of earlier runs included.
    pub const fn done(&self) -> u64 {
        self.row.done
    }

    /// How many there were when it began.
    pub const fn total(&self) -> u64 {
        self.row.total
    }

    /// The generation that seals now.
    pub fn generation(&self) -> &str {
        &self.report.generation
    }

    /// Reads up to `limit` records, seals those read before, and writes those sealed before. False
    /// once nothing is left; then [`KeyRotation::finish`] ends it.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidState`] if another process has taken the rotation over;
    /// [`Code::StoreUnavailable`]. What was written stays; a new rotation goes on behind it.
    pub async fn step(&mut self, limit: u32) -> Result<bool, Error> {
        let (opened, resealed) = (self.opened.take(), self.resealed.take());
        if opened.is_none() && resealed.is_none() && self.sources.is_empty() {
            return Ok(false);
        }
        let inner = Arc::clone(&self.inner);
        let to = self.report.generation.clone();
        let reseal = async {
            match opened {
                Some(batch) => inner.reseal(&to, batch).await.map(Some),
                None => Ok(None),
            }
        };
        let row = self.row.clone();
        let write = async {
            match resealed {
                Some(batch) => inner.write_batch(row, &to, batch).await.map(Some),
                None => Ok(None),
            }
        };
        let source = self.sources.first().cloned();
        let read = async {
            match &source {
                Some((column, from)) => inner.read_batch(*column, from, self.after, limit).await,
                None => Ok(Vec::new()),
            }
        };
        let (rows, sealed, written) = tokio::join!(read, reseal, write);
        if let Some(row) = written? {
            self.row = row;
        }
        if let Some((batch, unopened)) = sealed? {
            self.count(&batch, unopened);
            self.resealed = Some(batch);
        }
        let rows = rows?;
        self.opened = source.and_then(|source| self.opened_of(source, rows));
        Ok(true)
    }

    /// Says that all of it is done, and what is left of the older generations.
    ///
    /// # Errors
    ///
    /// As [`KeyRotation::step`].
    pub async fn finish(mut self) -> Result<KeysRotated, Error> {
        while self.step(RESEAL_BATCH).await? {}
        self.row.ended_at = Some(self.inner.journal.now());
        let object = AuditObject::generation(&self.report.generation);
        let line = self
            .inner
            .audit(self.actor, AuditAction::RotateKeysEnd, object)
            .detail("records", self.row.done)
            .detail("unopened", self.report.unopened)
            .change();
        self.inner.advance_rotation(self.row, vec![line]).await?;
        let rows = self.inner.follow_generations().await?;
        let counts = self.inner.count_sealed().await?;
        let free = rows.into_iter().filter(|row| {
            row.state == GenerationState::Retiring
                && super::keys::sealed_under(&counts, &row.id) == 0
        });
        self.report.retired = free.map(|row| row.id).collect();
        Ok(self.report)
    }

    /// Whether this goes on with a rotation that was interrupted.
    pub const fn is_resumed(&self) -> bool {
        self.resumed
    }

    fn opened_of(
        &mut self,
        (column, from): (SealedColumn, String),
        rows: Vec<SealedRow>,
    ) -> Option<Batch<SealedRow>> {
        let Some(last) = rows.last() else {
            self.sources.remove(0);
            self.after = 0;
            return None;
        };
        self.after = last.place;
        let read = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        Some(Batch {
            column,
            from,
            rows,
            read,
        })
    }

    fn count(&mut self, batch: &Batch<ResealedRow>, unopened: Vec<String>) {
        let failed = u64::try_from(unopened.len()).unwrap_or(u64::MAX);
        if failed > 0 {
            tracing::error!(
                column = batch.column.as_str(),
                generation = batch.from,
                count = failed,
                "records do not open and stay as they are"
            );
        }
        self.report.unopened = self.report.unopened.saturating_add(failed);
        self.report.resealed += batch.read.saturating_sub(failed);
        let room = MAX_NAMED.saturating_sub(self.report.unopened_ids.len());
        self.report
            .unopened_ids
            .extend(unopened.into_iter().take(room));
    }
}

impl Inner {
    async fn read_batch(
        &self,
        column: SealedColumn,
        from: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<SealedRow>, Error> {
        let store = self.journal.store();
        let rows = store.sealed(column, from, after, limit).await;
        rows.map_err(stored)
    }

    async fn write_batch(
        &self,
        mut row: RotationRow,
        to: &str,
        batch: Batch<ResealedRow>,
    ) -> Result<RotationRow, Error> {
        row.done = row.done.saturating_add(batch.read);
        let change = Change::Reseal {
            column: batch.column,
            from: batch.from,
            to: to.to_owned(),
            rows: batch.rows,
        };
        let written = self.advance_rotation(row, vec![change]).await?;
        written.ok_or_else(rotated_again)
    }
}

fn rotated_again() -> Error {
    Error::new(
        Code::InvalidState,
        "The keys were rotated again meanwhile; run `cardless rotate keys` again.",
    )
}

/// Where a sealed value belongs.
fn context(column: SealedColumn, row: &SealedRow) -> Context<'_> {
    match column {
        SealedColumn::Record => {
            view::token_context(&row.account, &row.provider, &row.merchant, &row.id)
        }
        SealedColumn::Account => view::account_context(&row.account),
        SealedColumn::SetupRedirect | SealedColumn::PaymentRedirect => {
            view::redirect_context(&row.account, &row.provider, &row.id)
        }
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inner(…)")
    }
}
