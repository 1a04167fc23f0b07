//! The Date of answers.

use super::*;

#[test]
fn a_clock_that_is_set_back_is_followed_at_once() {
    for (secs, text) in [
        (1_700_003_600, "Tue, 14 Nov 2023 23:13:20 GMT"),
        (1_700_000_000, "Tue, 14 Nov 2023 22:13:20 GMT"),
        (-1, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (i64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
    ] {
        assert_eq!(date(UnixTime::from_secs(secs)), text);
    }
}
