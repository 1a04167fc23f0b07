//! Content negotiation between HTML and JSON (RFC 9110 section 12.5.1).

use axum::http::{HeaderMap, header};
use mime::Mime;

/// JSON unless `Accept` ranks HTML above it: by the quality, and with equal ones by how
/// exactly the type is named, as some browsers of text send `text/html, */*`.
pub(super) fn prefers_html(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    let ranges: Vec<_> = values.flat_map(|value| value.split(',')).collect();
    let ranges: Vec<_> = ranges
        .iter()
        .filter_map(|range| media_range(range))
        .collect();
    rank(&ranges, &mime::TEXT_HTML) > rank(&ranges, &mime::APPLICATION_JSON)
}

/// A media range and its quality.
fn media_range(text: &str) -> Option<(Mime, f32)> {
    let range: Mime = text.trim().parse().ok()?;
    let quality = match range.get_param("q") {
        Some(q) => q.as_str().parse().ok()?,
        None => 1.0,
    };
    (0.0..=1.0).contains(&quality).then_some((range, quality))
}

/// Quality of a media type by the most exact range that matches it, and how exact that is.
fn rank(ranges: &[(Mime, f32)], kind: &Mime) -> (f32, u8) {
    let exactness = |range: &Mime| match (range.type_(), range.subtype()) {
        (mime::STAR, mime::STAR) => Some(1),
        (top, mime::STAR) if top == kind.type_() => Some(2),
        (top, sub) if (top, sub) == (kind.type_(), kind.subtype()) => Some(3),
        _ => None,
    };
    let matching = ranges
        .iter()
        .filter_map(|(range, quality)| Some((exactness(range)?, *quality)));
    let best = matching.max_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    match best {
        Some((exactness, quality)) if quality > 0.0 => (quality, exactness),
        _ => (0.0, 0),
    }
}
