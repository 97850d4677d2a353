use super::{Failure, Outcome};
use clap::Args;
#[derive(Debug, Args)]
pub(super) struct Arguments {}
pub(super) async fn run(_: &Arguments) -> Outcome {
    Err(Failure::not_yet("sandbox"))
}
