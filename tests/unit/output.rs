//! The end of the process.

use super::*;

#[test]
fn neither_what_never_ends_nor_what_panics_is_waited_for() {
    let (_kept, never) = mpsc::channel::<()>();
    let blocks = move || {
        let _ = never.recv();
    };
    assert!(for_at_most(Duration::from_millis(1), blocks));
    assert!(for_at_most(Duration::MAX, || panic!("as intended")));
}
