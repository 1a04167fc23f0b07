//! Changes to the text of a finished token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

/// Changes the text of a token whose signature was right; `None` for an unknown form.
pub(super) fn reshaped(token: &str, form: &str) -> Option<String> {
    let (message, sig) = token.rsplit_once('.')?;
    let (header, payload) = message.split_once('.')?;
    let mut bytes = URL_SAFE_NO_PAD.decode(sig).ok()?;
    let resigned = |bytes: &[u8]| format!("{message}.{}", URL_SAFE_NO_PAD.encode(bytes));
    // Another member in front of the others, so that the claims differ.
    let changed = |part: &str| {
        let mut text = URL_SAFE_NO_PAD.decode(part).ok()?;
        text.splice(1..1, *b"\"trial\":1,");
        Some(URL_SAFE_NO_PAD.encode(text))
    };
    let inserted = |what: &str| format!("{message}.{}{what}{}", &sig[..10], &sig[10..]);
    Some(match form {
        "payload-not-utf8" | "payload-trailing" => token.to_owned(),
        "payload-changed" => format!("{header}.{}.{sig}", changed(payload)?),
        "header-changed" => format!("{}.{payload}.{sig}", changed(header)?),
        "sig-bit" => {
            *bytes.last_mut()? ^= 1;
            resigned(&bytes)
        }
        "sig-truncated" => resigned(&bytes[..bytes.len() - 1]),
        "sig-leading-zero" => resigned(&[&[0], &bytes[..]].concat()),
        // The last of 342 characters has two bits of the signature and four others.
        "sig-unused-bits" => {
            let (rest, last) = token.split_at(token.len() - 1);
            let other = [("A", "B"), ("Q", "R"), ("g", "h"), ("w", "x")];
            let (_, other) = other.into_iter().find(|(char, _)| *char == last)?;
            format!("{rest}{other}")
        }
        "sig-standard" => format!("{message}.{}", sig.replace('-', "+").replace('_', "/")),
        "sig-padding" => format!("{token}=="),
        "sig-space" => inserted(" "),
        "sig-garbage" => inserted("!*"),
        "json-flattened" => {
            json!({"payload": payload, "protected": header, "signature": sig}).to_string()
        }
        "json-general" => {
            let signature = json!({"protected": header, "signature": sig});
            json!({"payload": payload, "signatures": [signature]}).to_string()
        }
        "parts-1" => header.to_owned(),
        "parts-2" => message.to_owned(),
        "parts-4" => format!("{token}.{payload}"),
        "parts-dot" => format!("{token}."),
        "parts-dots" => "..".to_owned(),
        "garbage" => "no-token".to_owned(),
        _ => return None,
    })
}
