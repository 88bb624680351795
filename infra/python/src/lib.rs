//! Native module of the Python package `vintage`: the learner of a run, with updates that Python
//! computes; a producer, whose completions Python samples; archived rollouts as Arrow; and M2PO's rules on arrays.
//!
//! Nothing is decided here that the other crates decide: the learner is `consumers/learner`, put
//! together by `pipelines/flow`, with an engine that hands each update to Python and takes back the
//! parameters and moments.
//!
//! Where to begin reading:
//!
//! * `engine.rs` is the engine: what it hands over and what it takes back.
//! * `job.rs` runs the learner on threads of its own; `learner.rs` is the class that waits for it.
//! * `array.rs` copies arrays in and out; `batch.rs` turns an update into arrays, `commit.rs` turns arrays into an update's outcome and
//!   refuses what does not fit.
//! * `production.rs` runs a producer on threads of its own; `writer.rs` is the class that takes its slots
//!   and answers them.
//! * `read.rs` is `vintage.read`, with `live.rs` for what is not archived, and `uses.rs` is `vintage.uses`; both go out as Arrow IPC streams
//!   (`stream.rs`).
//! * `weigh.rs` is `vintage.weigh`; `fault.rs` turns errors into exceptions.
//!
//! ```python
//! import vintage
//!
//! with vintage.Learner("runs/a") as learner:
//!     model = learner.build_model()
//!     learner.attach(model)
//!     for update in learner:
//!         update.train()
//!         update.commit()
//! ```

mod array;
mod batch;
mod commit;
mod engine;
mod fault;
mod job;
mod learner;
mod live;
mod production;
mod read;
mod stream;
mod uses;
mod weigh;
mod writer;

use pyo3::prelude::*;

/// Native part of the package `vintage`.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("Error", py.get_type::<fault::Error>())?;
    module.add("UsageError", py.get_type::<fault::UsageError>())?;
    module.add("FencedError", py.get_type::<fault::FencedError>())?;
    module.add("version", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<learner::Learner>()?;
    module.add_class::<read::Reader>()?;
    module.add_class::<writer::Writer>()?;
    module.add_function(wrap_pyfunction!(uses::uses, module)?)?;
    module.add_function(wrap_pyfunction!(weigh::weigh, module)?)?;
    Ok(())
}
