//! A panic as an error: it ends the schedule or the order in which it comes, and not the run.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::world::Broken;

/// Does something that may panic; what it has left half done is not to be used afterwards.
pub(crate) fn caught<T>(work: impl FnOnce() -> Result<T, Broken>) -> Result<T, Broken> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(text(&*panic).into()))
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("it does not say why"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_that_says_why() {
        let error = caught::<()>(|| panic!("{} is planted", "a panic")).unwrap_err();
        assert_eq!(error.to_string(), "panicked: a panic is planted");
        let error = caught::<()>(|| Err("an error".into())).unwrap_err();
        assert_eq!(error.to_string(), "an error");
        assert_eq!(caught(|| Ok(1)).unwrap(), 1);
    }
}
