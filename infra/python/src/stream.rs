//! Record batches on their way to pyarrow, as Arrow IPC streams.

use arrow::{array::RecordBatch, ipc::writer::StreamWriter};
use pyo3::{prelude::*, types::PyByteArray};
use tokio::runtime::Runtime;

use crate::fault::Error;

/// Starts the runtime that a reader waits on.
pub(crate) fn runtime() -> PyResult<Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.map_err(|error| Error::new_err(format!("starting the reader's threads: {error}")))
}

/// Encodes a batch as an Arrow IPC stream, whose columns pyarrow takes without copying them.
pub(crate) fn encoded<'py>(
    py: Python<'py>,
    batch: &RecordBatch,
) -> PyResult<Bound<'py, PyByteArray>> {
    let bytes = py.detach(|| {
        let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
        writer.write(batch)?;
        writer.finish()?;
        writer.into_inner()
    });
    let bytes = bytes.map_err(|error| crate::read::arrow(&error))?;
    Ok(PyByteArray::new(py, &bytes))
}
