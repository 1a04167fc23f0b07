//! Request bodies: JSON objects and forms, read as a few text fields. A refusal
//! has the right status and says which field is wrong.

use std::fmt;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use mime::Mime;
use percent_encoding::percent_decode;
use secrecy::SecretString;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use zeroize::Zeroizing;

use super::error::ApiError;
use super::server::Evicted;

/// Largest body, bytes.
pub(super) const MAX_BODY: usize = 16 * 1024;
/// Longest time for a body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The fields that the routes use; others are ignored.
#[derive(Default)]
pub(super) struct Fields {
    username: Field,
    password: Field,
    email: Field,
}

#[derive(Default, PartialEq, Eq)]
enum Field {
    #[default]
    Missing,
    /// Wiped on drop. A username or an address that is taken out lives on as `String`.
    Text(Zeroizing<String>),
    NotText,
    Twice,
}

enum Format {
    Json,
    Form,
}

impl Fields {
    pub(super) fn have_credentials(&self) -> bool {
        self.username != Field::Missing || self.password != Field::Missing
    }

    pub(super) fn username(&mut self) -> Result<String, ApiError> {
        std::mem::take(&mut self.username).into_text("username")
    }

    pub(super) fn password(&mut self) -> Result<SecretString, ApiError> {
        std::mem::take(&mut self.password)
            .into_text("password")
            .map(SecretString::from)
    }

    pub(super) fn email(&mut self) -> Result<String, ApiError> {
        std::mem::take(&mut self.email).into_text("email")
    }

    fn by_name(&mut self, name: &str) -> Option<&mut Field> {
        match name {
            "username" => Some(&mut self.username),
            "password" => Some(&mut self.password),
            "email" => Some(&mut self.email),
            _ => None,
        }
    }
}

impl Field {
    fn set(&mut self, value: Self) {
        *self = match self {
            Self::Missing => value,
            _ => Self::Twice,
        };
    }

    fn into_text(self, name: &'static str) -> Result<String, ApiError> {
        let why = match self {
            Self::Text(mut text) => return Ok(std::mem::take(&mut *text)),
            Self::Missing => "is missing",
            Self::NotText => "must be a string",
            Self::Twice => "is given more than once",
        };
        Err(ApiError::BadRequest(format!("{name} {why}").into()))
    }
}

/// Reads a body as a whole: up to 16 KiB, within ten seconds. A byte order mark
/// before it and line ends after it, which some programs add, are dropped.
pub(super) async fn read(body: Body) -> Result<Bytes, ApiError> {
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(ApiError::TooLarge(MAX_BODY));
    }
    match tokio::time::timeout(BODY_TIMEOUT, collect(body)).await {
        Ok(whole) => whole.map(|whole| whole.slice_ref(trim_bom_and_line_ends(&whole))),
        Err(_) => Err(ApiError::TooSlow),
    }
}

/// Copies the pieces together: each of them, however short, keeps all that it came
/// in with in memory.
async fn collect(mut body: Body) -> Result<Bytes, ApiError> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| match e.into_inner().downcast::<Evicted>() {
            Ok(evicted) => ApiError::busy(evicted.to_string()),
            Err(_) => ApiError::BadRequest("the body did not arrive whole".into()),
        })?;
        let piece = frame.data_ref().map_or(&[][..], |piece| piece);
        if whole.len() + piece.len() > MAX_BODY {
            return Err(ApiError::TooLarge(MAX_BODY));
        }
        whole.extend_from_slice(piece);
    }
    Ok(whole.freeze())
}

fn trim_bom_and_line_ends(mut text: &[u8]) -> &[u8] {
    text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    while let [start @ .., b'\r' | b'\n'] = text {
        text = start;
    }
    text
}

/// The fields of a body that is not empty.
///
/// `curl -d '{...}'` sends the content type of a form, and some clients send
/// none. A body that starts with a brace is JSON then: no form starts with one.
/// `null` has no field either way.
pub(super) fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Fields, ApiError> {
    match format(headers, body)? {
        Format::Json if body.trim_ascii() == b"null" => Ok(Fields::default()),
        Format::Json => parse_json(body),
        Format::Form => parse_form(body),
    }
}

fn format(headers: &HeaderMap, body: &[u8]) -> Result<Format, ApiError> {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    if !encodings.all(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(ApiError::UnsupportedMediaType);
    }
    let trimmed = body.trim_ascii();
    let looks_like_json = trimmed.starts_with(b"{") || trimmed == b"null";
    let Some(content_type) = headers.get(header::CONTENT_TYPE).filter(|v| !v.is_empty()) else {
        return if looks_like_json {
            Ok(Format::Json)
        } else {
            Err(ApiError::UnsupportedMediaType)
        };
    };
    let content_type: Mime = content_type
        .to_str()
        .ok()
        // RFC 9110 allows white space before the semicolon, the parser does not.
        .and_then(|text| text.split(';').next()?.trim().parse().ok())
        .ok_or(ApiError::UnsupportedMediaType)?;
    match (
        content_type.type_(),
        content_type.subtype(),
        content_type.suffix(),
    ) {
        (mime::APPLICATION, mime::JSON, None) | (mime::APPLICATION, _, Some(mime::JSON)) => {
            Ok(Format::Json)
        }
        (mime::APPLICATION, mime::WWW_FORM_URLENCODED, None) => Ok(if looks_like_json {
            Format::Json
        } else {
            Format::Form
        }),
        _ => Err(ApiError::UnsupportedMediaType),
    }
}

fn parse_json(body: &[u8]) -> Result<Fields, ApiError> {
    // Checked first, for its own message.
    let text = std::str::from_utf8(body)
        .map_err(|_| ApiError::BadRequest("the body is not UTF-8 text".into()))?;
    serde_json::from_str(text).map_err(|e| {
        ApiError::BadRequest(match e.classify() {
            serde_json::error::Category::Data => "the body must be a JSON object".into(),
            _ => "the body is not valid JSON".into(),
        })
    })
}

/// `application/x-www-form-urlencoded` as the URL standard defines it, but
/// strict: what is not UTF-8 is refused and not replaced.
fn parse_form(body: &[u8]) -> Result<Fields, ApiError> {
    let mut fields = Fields::default();
    for pair in body.split(|&b| b == b'&') {
        let at = pair.iter().position(|&b| b == b'=').unwrap_or(pair.len());
        let name = decode(&pair[..at])?;
        let value = decode(pair.get(at + 1..).unwrap_or_default())?;
        if let Some(field) = fields.by_name(&name) {
            field.set(Field::Text(Zeroizing::new(value)));
        }
    }
    Ok(fields)
}

fn decode(part: &[u8]) -> Result<String, ApiError> {
    let plus_as_space = part.iter().map(|&b| if b == b'+' { b' ' } else { b });
    let spaced = Zeroizing::new(plus_as_space.collect::<Vec<u8>>());
    let decoded = percent_decode(&spaced).decode_utf8();
    decoded
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| ApiError::BadRequest("the form is not UTF-8 text".into()))
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Fields::default();
                while let Some(name) = map.next_key::<String>()? {
                    match fields.by_name(&name) {
                        Some(field) => field.set(map.next_value()?),
                        None => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Self::Text(Zeroizing::new(text)),
            _ => Self::NotText,
        })
    }
}
