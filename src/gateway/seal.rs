//! The bytes of a reserve whose repeat must be byte-equal: remembered as a keyed hash.

use std::sync::{Arc, Mutex, PoisonError};

use cardless_contract::{BodySeal, Delivery, ErrorKind, ProviderError, ProviderName, async_trait};

use super::Inner;
use crate::journal::Written;
use crate::store::PaymentRow;
use crate::vault::HashPurpose;

/// Keeps a keyed hash of the reserve's bytes in the payment's row.
pub(super) struct Seal {
    inner: Arc<Inner>,
    provider: ProviderName,
    row: Mutex<PaymentRow>,
}

impl Seal {
    pub(super) fn new(inner: &Arc<Inner>, provider: &ProviderName, row: &PaymentRow) -> Self {
        Self {
            inner: Arc::clone(inner),
            provider: provider.clone(),
            row: Mutex::new(row.clone()),
        }
    }

    fn row(&self) -> PaymentRow {
        self.row
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn into_row(self) -> PaymentRow {
        self.row
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl BodySeal for Seal {
    async fn admit(&self, bytes: &[u8]) -> cardless_contract::Result<()> {
        let row = self.row();
        let refuse = |kind| ProviderError::new(self.provider.clone(), kind, Delivery::NotSent);
        let bound = [row.id.as_bytes(), &[0], bytes].concat();
        let mac = self.inner.vault.keyed_hash(HashPurpose::BodySeal, &bound);
        match &row.body_mac {
            Some(first) if first.as_slice() == mac.as_slice() => Ok(()),
            Some(_) => Err(refuse(ErrorKind::RepeatRefused)),
            None => {
                let written = self
                    .inner
                    .journal
                    .change(&row, |row| {
                        row.body_mac = Some(mac.to_vec());
                        Vec::new()
                    })
                    .await;
                let Ok(Written::Yes(changed)) = written else {
                    return Err(refuse(ErrorKind::Internal));
                };
                *self.row.lock().unwrap_or_else(PoisonError::into_inner) = changed;
                Ok(())
            }
        }
    }
}
