//! The core's errors as Python's exceptions, which are in `quotum/_errors.py`.

use pyo3::{PyErr, import_exception};
use quotum::{Error, Retry};

import_exception!(quotum._errors, ClosedError);
import_exception!(quotum._errors, ConflictError);
import_exception!(quotum._errors, DeniedError);
import_exception!(quotum._errors, HoldExpiredError);
import_exception!(quotum._errors, HoldUnknownError);
import_exception!(quotum._errors, InvalidArgumentError);
import_exception!(quotum._errors, PlansError);
import_exception!(quotum._errors, QuotumError);
import_exception!(quotum._errors, StoreError);
import_exception!(quotum._errors, UnknownNameError);
import_exception!(quotum._errors, VerifyError);

/// The exception that an error is raised as.
pub(crate) fn raise(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::InvalidArgument { .. } => InvalidArgumentError::new_err(text),
        Error::Unknown { .. } => UnknownNameError::new_err(text),
        Error::Plans(_) | Error::NoPlans => PlansError::new_err(text),
        Error::Conflict { .. } => ConflictError::new_err(text),
        Error::HoldExpired { .. } => HoldExpiredError::new_err(text),
        Error::HoldUnknown { .. } => HoldUnknownError::new_err(text),
        Error::Store(error) => StoreError::new_err((text, retry(error.retry()))),
        Error::Verify(_) => VerifyError::new_err(text),
        _ => QuotumError::new_err(text),
    }
}

const fn retry(retry: Retry) -> &'static str {
    match retry {
        Retry::Never => "never",
        Retry::Safe => "safe",
        Retry::OutcomeUnknown => "outcome_unknown",
    }
}
