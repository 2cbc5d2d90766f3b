//! Opening: the two kinds of engines, and how each is opened and left.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::answer::{Answer, Kind, Told};
use crate::engine::{Engine, Shared};
use crate::error::raise;
use crate::fork::detached;
use crate::options::Options;
use crate::store::Place;

/// The engine: asks a store, decides by the plans. Safe to share between threads, and to inherit by fork.
///
/// Costs are keywords, such as searches=1, or a mapping where a metric is no identifier, in units: whole numbers from 0
/// to 2**53 - 1. Time spans are a timedelta or seconds. Times that are given know their zone, times that are returned
/// are in UTC. A denial is a Decision, not an exception.
///
/// Every verb raises InvalidArgumentError for an argument that no call can have, UnknownNameError for a name that no
/// plan knows, PlansError where there never were any plans, StoreError where the store cannot answer, and ClosedError
/// after close. To admit, consume, check, reserve and require, a store that cannot answer is a denial. As a context
/// manager, the engine is closed at the end.
#[pyclass(frozen, extends = Engine, module = "quotum")]
pub(crate) struct Quota;

/// The engine for asyncio: the verbs of Quota, awaited. None of them blocks the event loop, and what can be answered
/// from memory is, without a switch to another task. Arguments and exceptions are those of Quota. Entered by `async
/// with`, the engine is closed at the end.
#[pyclass(frozen, extends = Engine, module = "quotum")]
pub(crate) struct AsyncQuota;

/// An engine that was opened, for whom, and with whom it is shared.
pub(crate) struct Opened(pub(crate) Kind, pub(crate) quotum::Quota, pub(crate) Shared);

impl Told for Opened {
    fn told(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let Self(kind, quota, shared) = self;
        let engine = PyClassInitializer::from(Engine::new(kind, quota, shared));
        let engine = match kind {
            Kind::Blocking => Py::new(py, engine.add_subclass(Quota))?.into_any(),
            Kind::Asyncio => Py::new(py, engine.add_subclass(AsyncQuota))?.into_any(),
        };
        py.import("quotum._closing")?.call_method1("watch", (&engine,))?;
        Ok(engine)
    }
}

#[pymethods]
impl Quota {
    /// Open an engine on the store that a URL names, such as "sqlite:quota.db", "memory:", "postgres://…" or
    /// "redis://…", or on one of the host's own: see quotum.testing.Store.
    ///
    #[doc = include_str!("options.md")]
    #[staticmethod]
    #[pyo3(signature = (store, /, **options))]
    fn open<'py>(
        py: Python<'py>,
        store: &Bound<'py, PyAny>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (options, place) = (Options::of(options, false)?, Place::of(store)?);
        let builder = options.builder().blocking();
        let opened = detached(py, || match place {
            Place::At(url) => builder.open(&url),
            Place::In(store) => builder.open_on(store),
        });
        let quota = opened.map_err(|error| raise(py, error))?.to_futures();
        Ok(Opened(Kind::Blocking, quota, Shared::default()).told(py)?.into_bound(py))
    }

    /// The same engine for asyncio.
    fn to_async(slf: PyRef<'_, Self>, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let quota = slf.as_super().with(|quota| quota.to_blocking().to_async())?;
        Opened(Kind::Asyncio, quota, slf.as_super().shared()).told(py)
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(slf: PyRef<'_, Self>, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        slf.as_super().close(py).map(drop)
    }
}

#[pymethods]
impl AsyncQuota {
    /// Open an engine on the store that a URL names, such as "sqlite:quota.db", "memory:", "postgres://…" or
    /// "redis://…", or on one of the host's own: see quotum.testing.Store.
    ///
    /// Within a running event loop: `await` it, or enter it by `async with`. Functions may be coroutine functions, but
    /// for on_event.
    ///
    #[doc = include_str!("options.md")]
    #[staticmethod]
    #[pyo3(signature = (store, /, **options))]
    fn open<'py>(
        py: Python<'py>,
        store: &Bound<'py, PyAny>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (options, place) = (Options::of(options, true)?, Place::of(store)?);
        let builder = options.builder();
        let open = async move {
            let quota = match place {
                Place::At(url) => builder.open(&url).await?,
                Place::In(store) => builder.open_on(store).await?,
            };
            Ok(Opened(Kind::Asyncio, quota, Shared::default()))
        };
        Kind::Asyncio.ask(py, open)
    }

    /// The same engine for synchronous callers, in other threads than the event loop's.
    fn to_blocking(slf: PyRef<'_, Self>, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let quota = slf.as_super().with(|quota| quota.to_blocking().to_futures())?;
        Opened(Kind::Blocking, quota, slf.as_super().shared()).told(py)
    }

    fn __aenter__(slf: Py<Self>, py: Python<'_>) -> Answer {
        Answer::known(Ok(slf.clone_ref(py).into_any()))
    }

    #[pyo3(signature = (*_exception))]
    fn __aexit__<'py>(
        slf: PyRef<'_, Self>,
        py: Python<'py>,
        _exception: &Bound<'_, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.as_super().close(py)
    }
}
