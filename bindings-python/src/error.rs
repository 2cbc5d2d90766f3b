//! The core's errors as Python's exceptions, which are in `quotum/_errors.py`.

use pyo3::prelude::*;
use pyo3::{PyErr, import_exception, intern};
use quotum::store::StoreError as StoreFailure;
use quotum::{Error, Retry};

import_exception!(quotum._errors, ClosedError);
import_exception!(quotum._errors, ConflictError);
import_exception!(quotum._errors, ConflictedError);
import_exception!(quotum._errors, DeniedError);
import_exception!(quotum._errors, HoldExpiredError);
import_exception!(quotum._errors, HoldUnknownError);
import_exception!(quotum._errors, InvalidArgumentError);
import_exception!(quotum._errors, PlansError);
import_exception!(quotum._errors, QuotumError);
import_exception!(quotum._errors, StoreError);
import_exception!(quotum._errors, UnknownNameError);
import_exception!(quotum._errors, VerifyError);

/// What an exception was in the core: what to tell a client of it, the core knows.
#[pyclass(frozen)]
struct Cause {
    error: Error,
}

/// The exception that an error is raised as.
pub(crate) fn raise(py: Python<'_>, error: Error) -> PyErr {
    let text = error.to_string();
    let exception = match &error {
        Error::InvalidArgument { .. } => InvalidArgumentError::new_err(text),
        Error::Unknown { kind, name, known } => {
            UnknownNameError::new_err((text, kind.to_string(), name.clone(), known.clone()))
        }
        Error::Plans(_) | Error::NoPlans => PlansError::new_err(text),
        Error::Conflict { .. } => ConflictError::new_err(text),
        Error::HoldExpired { .. } => HoldExpiredError::new_err(text),
        Error::HoldUnknown { .. } => HoldUnknownError::new_err(text),
        Error::Store(_) => StoreError::new_err((text, retry(error.retry()))),
        Error::Verify(_) => VerifyError::new_err((text, retry(error.retry()))),
        _ => QuotumError::new_err(text),
    };
    // Without it, a client is told less.
    let _told =
        Py::new(py, Cause { error }).and_then(|cause| exception.value(py).setattr(intern!(py, "_cause"), cause));
    exception
}

/// What an exception of this library's was in the core. One that was raised here is a mistake of the backend's, or an
/// engine that was closed; `None` for any other.
pub(crate) fn cause_of(exception: &Bound<'_, PyAny>) -> Option<Error> {
    let py = exception.py();
    let told = exception.getattr(intern!(py, "_cause")).ok();
    if let Some(cause) = told.as_ref().and_then(|cause| cause.cast::<Cause>().ok()) {
        return Some(cause.get().error.clone());
    }
    let raised = PyErr::from_value(exception.clone());
    let said = || exception.str().map(|text| text.to_string()).unwrap_or_default();
    if raised.is_instance_of::<ClosedError>(py) {
        return Some(StoreFailure::Failed { detail: said(), retry: Retry::Safe }.into());
    }
    let mistake = || Error::InvalidArgument { argument: "call", found: said(), expected: String::new() };
    raised.is_instance_of::<QuotumError>(py).then(mistake)
}

const fn retry(retry: Retry) -> &'static str {
    match retry {
        Retry::Never => "never",
        Retry::Safe => "safe",
        Retry::OutcomeUnknown => "outcome_unknown",
    }
}
