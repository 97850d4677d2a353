//! PostFinance: a stateful imitation at wire level.

use cardless_transport::Response;

use crate::dialect::{Call, Dialect, World};
use crate::page;

/// The provider's state.
#[derive(Debug, Default)]
pub(crate) struct PostFinance {}

impl Dialect for PostFinance {
    fn answer(&mut self, _call: &Call, _world: &mut World<'_>) -> Response {
        page::html(404, String::new())
    }

    fn tick(&mut self, _world: &mut World<'_>) {}

    fn reset(&mut self) {
        *self = Self::default();
    }
}
