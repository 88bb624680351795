//! Exceptions of the package, and the errors that become them.

use pyo3::{PyErr, create_exception, exceptions::PyException};
use vintage_control::Fault;

create_exception!(
    vintage,
    Error,
    PyException,
    "Error of a run: of its broker, its store or its records."
);
create_exception!(
    vintage,
    UsageError,
    Error,
    "Error in settings, folders or values that were given."
);
create_exception!(
    vintage,
    FencedError,
    Error,
    "Error of a learner that another process of its name has superseded or keeps out."
);

/// Converts an error of a run to an exception.
pub(crate) fn raised(error: &vintage_flow::Error) -> PyErr {
    let text = error.to_string();
    let fenced = matches!(
        error,
        vintage_flow::Error::Learner(vintage_learner::Error::Fenced { .. })
            | vintage_flow::Error::LearnerRuns { .. }
    );
    if fenced {
        FencedError::new_err(text)
    } else if error.fault() == Fault::User {
        UsageError::new_err(text)
    } else {
        Error::new_err(text)
    }
}

/// Returns an exception for values or calls that do not fit.
pub(crate) fn usage(text: impl Into<String>) -> PyErr {
    UsageError::new_err(text.into())
}
