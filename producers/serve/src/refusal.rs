//! Refusals, in the shape of OpenAI's errors.

use serde_json::{Value, json};

/// Request that is not answered with a completion: its status, and what is wrong with which field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    message: String,
    /// Field at fault, with its path.
    param: Option<String>,
}

impl Refusal {
    pub(crate) fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            param: None,
        }
    }

    /// Refuses a field of the request.
    pub(crate) fn field(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            status: 400,
            message: message.into(),
            param: Some(param.into()),
        }
    }

    /// Returns the same refusal with another status.
    pub(crate) fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// Body of the reply.
    pub(crate) fn body(&self) -> Value {
        let kind = match self.status {
            401 => "AuthenticationError",
            403 | 421 => "PermissionDeniedError",
            404 => "NotFoundError",
            405 => "MethodNotAllowedError",
            408 => "RequestTimeoutError",
            413 => "RequestTooLargeError",
            500 => "InternalServerError",
            503 => "ServiceUnavailableError",
            _ => "BadRequestError",
        };
        let (message, param, code) = (&self.message, &self.param, self.status);
        json!({"error": {"message": message, "type": kind, "param": param, "code": code}})
    }
}
