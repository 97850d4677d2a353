//! What the resolver drives at the moment, and what waits for that: each provider has places of its own,
//! so that one that stalls holds up nothing of the others.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::pending;
use std::sync::Arc;

use tokio::task::{Id, JoinError, JoinSet};

use super::Inner;
use super::resolve::BATCH;
use crate::error::Causes;
use crate::journal::LEASE;
use crate::store::{Due, DueRow};

/// How many objects of one provider, and how many erasures, are driven at once.
const AT_ONCE: usize = 16;

/// A provider, or none for erasures.
type Place = Option<String>;

/// What was begun and has not ended, and what is to begin.
#[derive(Debug, Default)]
pub(super) struct Running {
    /// Each says whether it could drive its object.
    tasks: JoinSet<bool>,
    /// Of each task: its object, and where it is driven.
    objects: HashMap<Id, (String, Place)>,
    /// What the last look has found.
    waiting: BTreeMap<Place, VecDeque<Due>>,
    /// There may be more due than the last look has taken.
    full: Vec<Place>,
    /// Something of the last look could be driven. Where nothing can, the store takes no writes, and
    /// the next look would find the same.
    driven: bool,
}

impl Running {
    /// Takes what a look has found, in the place of what the one before had.
    pub(super) fn wait_for(&mut self, due: Vec<DueRow>) {
        self.waiting.clear();
        for row in due {
            self.waiting
                .entry(row.provider)
                .or_default()
                .push_back(row.due);
        }
        let most = usize::try_from(BATCH).unwrap_or(usize::MAX);
        let full = self.waiting.iter().filter(|(_, due)| due.len() >= most);
        self.full = full.map(|(place, _)| place.clone()).collect();
        self.driven = false;
    }

    /// Begins what there is room for. `false` if all of a full look have begun, so that the next look
    /// finds others.
    pub(super) fn begin(&mut self, inner: &Arc<Inner>) -> bool {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.ended(ended);
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        for (place, due) in &mut waiting {
            while self.at(place) < AT_ONCE
                && let Some(due) = due.pop_front()
            {
                // It may be on its way to its lease still, and so be found again.
                if self.objects.values().all(|(id, _)| id != due.id()) {
                    self.spawn(inner, due, place.clone());
                }
            }
        }
        self.waiting = waiting;
        let is_through = |place: &Place| self.waiting.get(place).is_none_or(VecDeque::is_empty);
        if self.driven && self.full.iter().any(is_through) {
            self.full.clear();
            return false;
        }
        true
    }

    /// Until one has ended; for ever while there is none.
    pub(super) async fn one_ends(&mut self) {
        match self.tasks.join_next_with_id().await {
            Some(ended) => self.ended(ended),
            None => pending().await,
        }
    }

    pub(super) async fn all_end(&mut self) {
        self.waiting.clear();
        while let Some(ended) = self.tasks.join_next_with_id().await {
            self.ended(ended);
        }
    }

    fn at(&self, place: &Place) -> usize {
        let here = |(_, at): &&(String, Place)| at == place;
        self.objects.values().filter(here).count()
    }

    fn ended(&mut self, ended: Result<(Id, bool), JoinError>) {
        let id = match &ended {
            Ok((id, driven)) => {
                self.driven |= driven;
                *id
            }
            Err(error) => error.id(),
        };
        let object = self.objects.remove(&id);
        if let Err(error) = ended {
            let object = object.map(|(object, _)| object);
            tracing::error!(object, error = %Causes(&error), "resolver");
        }
    }

    fn spawn(&mut self, inner: &Arc<Inner>, due: Due, place: Place) {
        let object = due.id().to_owned();
        let (inner, id) = (Arc::clone(inner), object.clone());
        let task = self.tasks.spawn(async move {
            // Beyond its lease another look takes the object over; a call that hangs must not hold up
            // the rest.
            match tokio::time::timeout(LEASE, inner.drive_in_its_place(due)).await {
                Ok(Ok(_)) => return true,
                Ok(Err(error)) => {
                    tracing::error!(object = %id, error = %Causes(&error), "resolver");
                }
                Err(_) => tracing::error!(object = %id, "resolver: no end within the lease"),
            }
            false
        });
        self.objects.insert(task.id(), (object, place));
    }
}
