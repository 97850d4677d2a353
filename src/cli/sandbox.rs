use clap::Args;
use super::{Failure, Outcome};
#[derive(Debug, Args)]
pub(super) struct Arguments {}
pub(super) async fn run(_: &Arguments) -> Outcome { Err(Failure::not_yet("sandbox")) }
