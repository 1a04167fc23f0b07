//! What operations take: headers, and bodies as JSON and as forms.

use std::collections::BTreeMap;

use axum::http::{HeaderName, header};
use utoipa::openapi::path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::{AnyOfBuilder, Object, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{Content, Ref, RefOr, Required};

use super::public::Text;
use crate::http::access_log;
use crate::http::body::MAX_BODY;
use crate::http::error::ApiError;

/// The headers that more than one operation takes.
pub(super) fn parameters() -> BTreeMap<String, RefOr<Parameter>> {
    let taken = |name: HeaderName, description| {
        let parameter = ParameterBuilder::new()
            .name(name.as_str())
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .schema(Some(Object::with_type(Type::String)))
            .description(Some(description));
        (name.to_string(), RefOr::T(parameter.build()))
    };
    BTreeMap::from([
        taken(
            header::IF_NONE_MATCH,
            "Tags of documents that the client has.",
        ),
        taken(
            access_log::REQUEST_ID,
            "Comes back when it is 1 to 64 letters, digits and -_. and is replaced otherwise.",
        ),
    ])
}

/// An operation with its texts, which takes the header that all take.
pub(in crate::http) fn operation(text: Text) -> OperationBuilder {
    OperationBuilder::new()
        .summary(Some(text.summary))
        .description(Some(text.description))
        .operation_id(Some(text.id))
        .parameter_ref(parameter(&access_log::REQUEST_ID))
}

/// An operation on a document.
pub(super) fn conditional(text: Text) -> OperationBuilder {
    operation(text).parameter_ref(parameter(&header::IF_NONE_MATCH))
}

fn parameter(name: &HeaderName) -> Ref {
    Ref::new(format!("#/components/parameters/{name}"))
}

/// The component `schema` as JSON or as a form.
pub(in crate::http) fn body(schema: &str, required: Required) -> RequestBody {
    let fields = Ref::from_schema_name(schema);
    let mut form = AnyOfBuilder::new().item(fields.clone());
    if required == Required::False {
        // On the wire, a form without fields and no body are the same.
        let nothing = ObjectBuilder::new().schema_type(Type::Object);
        form = form.item(nothing.max_properties(Some(0)));
    }
    RequestBodyBuilder::new()
        .description(Some(format!(
            "At most {MAX_BODY} bytes. Other fields are ignored; none of these may be given twice."
        )))
        .content("application/json", Content::new(Some(fields)))
        .content(
            "application/x-www-form-urlencoded",
            Content::new(Some(form)),
        )
        .required(Some(required))
        .build()
}

/// What is wrong with bodies, and what may go wrong behind.
pub(in crate::http) fn failures(methods: &'static str) -> [ApiError; 7] {
    [
        ApiError::BadRequest("".into()),
        ApiError::MethodNotAllowed(methods),
        ApiError::TooSlow,
        ApiError::TooLarge(MAX_BODY),
        ApiError::UnsupportedMediaType,
        ApiError::Internal,
        ApiError::busy(""),
    ]
}

/// Text fields, all of them required.
pub(in crate::http) fn fields<const N: usize>(fields: [(&str, ObjectBuilder); N]) -> Object {
    let object = ObjectBuilder::new().schema_type(Type::Object);
    let all = fields.into_iter().fold(object, |object, (name, schema)| {
        object.property(name, schema).required(name)
    });
    all.build()
}

/// A text field.
pub(in crate::http) fn text(format: Option<&str>, description: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(format.map(|format| SchemaFormat::Custom(format.to_owned())))
        .description(Some(description))
}
