//! Who was at work when a thread panicked, so that the message names the stage.

use std::any::Any;
use std::cell::RefCell;

use reelflow_api::error::StageError;

thread_local! {
    /// The innermost stage of the panic under way on this thread.
    static BLAMED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Does the work of `stage`. Costs nothing unless it panics.
pub fn within<T>(stage: &str, work: impl FnOnce() -> T) -> T {
    struct Mark<'a>(&'a str);
    impl Drop for Mark<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                BLAMED.with_borrow_mut(|blamed| _ = blamed.get_or_insert_with(|| self.0.to_owned()));
            }
        }
    }
    let _mark = Mark(stage);
    work()
}

/// The failure that a caught panic is (exit code 101, or 75 if memory ran out), of the stage that was at work on this thread; `otherwise` if none
/// was.
#[must_use]
pub fn failure(panic: &(dyn Any + Send), otherwise: &str) -> StageError {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    let stage = BLAMED.take().unwrap_or_else(|| otherwise.to_owned());
    let first = text.lines().next().unwrap_or_default();
    // What libtorch's allocators and our own doors say; it panics in the midst of whatever was at work.
    if text.contains("out of memory") || text.contains("allocate memory") {
        let first = first.strip_prefix("out of memory: ").unwrap_or(first);
        return StageError::transient(
            stage,
            format!("out of memory: {first}; use a smaller batch, clip or encoder"),
        );
    }
    StageError { stage, message: format!("panicked: {first}; this is a bug"), code: 101 }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    fn failed(work: impl FnOnce()) -> String {
        let panic = catch_unwind(AssertUnwindSafe(work)).unwrap_err();
        let error = failure(&*panic, "engine");
        assert_eq!(error.code, 101);
        error.to_string()
    }

    #[test]
    fn the_innermost_stage_is_named_and_the_next_panic_starts_anew() {
        let said = failed(|| within("batch", || within("views", || panic!("no {}\nsecond line", 1))));
        assert_eq!(said, "views: panicked: no 1; this is a bug");
        assert_eq!(failed(|| panic!("alone")), "engine: panicked: alone; this is a bug");
        assert_eq!(within("batch", || 3), 3);
        let full = catch_unwind(|| within("train", || panic!("you tried to allocate memory"))).unwrap_err();
        assert_eq!(failure(&*full, "engine").code, 75);
        let ours = catch_unwind(|| within("train", || panic!("out of memory: 9 bytes"))).unwrap_err();
        assert!(failure(&*ours, "engine").message.starts_with("out of memory: 9 bytes; use "));
        assert_eq!(failed(|| panic!("again")), "engine: panicked: again; this is a bug");
    }
}
