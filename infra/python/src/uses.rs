//! Rollouts that each update used: the native part of `vintage.uses`.

use std::path::PathBuf;

use arrow::compute::concat_batches;
use pyo3::{prelude::*, types::PyByteArray};
use vintage_control::Name;
use vintage_flow::uses::{schema, uses as read};

use crate::{
    fault::{raised, usage},
    read::arrow,
    stream,
};

/// Returns one row for each rollout that an update of `learner` trained (the lead's, if it is
/// `None`), as an Arrow IPC stream.
#[pyfunction]
#[pyo3(signature = (run, *, learner))]
#[expect(
    clippy::needless_pass_by_value,
    reason = "arguments of Python arrive owned"
)]
pub(crate) fn uses(
    py: Python<'_>,
    run: PathBuf,
    learner: Option<String>,
) -> PyResult<Bound<'_, PyByteArray>> {
    let name = learner
        .map(|name| {
            let parsed = name.parse::<Name>();
            parsed.map_err(|error| usage(format!("learner={name:?}: {error}")))
        })
        .transpose()?;
    let runtime = stream::runtime()?;
    let batches = py.detach(|| {
        runtime.block_on(async {
            let mut batches = Vec::new();
            read(&run, name.as_ref(), |batch| {
                batches.push(batch.clone());
                Ok::<_, vintage_flow::Error>(())
            })
            .await?;
            Ok::<_, vintage_flow::Error>(batches)
        })
    });
    let batches = batches.map_err(|error| raised(&error))?;
    let table = concat_batches(&schema(), &batches).map_err(|error| arrow(&error))?;
    stream::encoded(py, &table)
}
