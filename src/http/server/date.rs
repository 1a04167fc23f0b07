//! The `Date` of answers (RFC 9110 section 6.6.1), by the service's clock. hyper
//! renews its own only when the clock is past the last one, so it would stand still
//! after a clock was set back.

use std::cell::RefCell;
use std::time::{Duration, UNIX_EPOCH};

use axum::http::HeaderValue;

use crate::clock::UnixTime;

/// Last second of the year 9999.
const LAST: i64 = 253_402_300_799;

pub(super) fn date(now: UnixTime) -> HeaderValue {
    thread_local! {
        /// The text of the second that was asked for last.
        static CACHED: RefCell<(UnixTime, HeaderValue)> = const {
            RefCell::new((UnixTime::from_secs(-1), HeaderValue::from_static("")))
        };
    }
    CACHED.with_borrow_mut(|(second, text)| {
        if *second != now {
            *second = now;
            *text = format(now);
        }
        text.clone()
    })
}

fn format(now: UnixTime) -> HeaderValue {
    let secs = u64::try_from(now.as_secs().clamp(0, LAST)).unwrap_or(0);
    let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(secs));
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
#[path = "../../../tests/unit/date.rs"]
mod tests;
