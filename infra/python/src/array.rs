//! Arrays across the border: copies in by the buffer protocol, copies out as bytes and a dtype.

use pyo3::{
    buffer::{Element, PyBuffer},
    prelude::*,
    types::PyByteArray,
};

use crate::fault::usage;

/// Number that an array holds.
pub(crate) trait Number: Element + Copy + Send + Sync {
    /// NumPy's name of it, in the byte order of this machine.
    const DTYPE: &'static str;

    /// Writes its bytes, in the byte order of this machine.
    fn write(self, into: &mut [u8]);
}

macro_rules! number {
    ($type:ty, $dtype:literal) => {
        impl Number for $type {
            const DTYPE: &'static str = $dtype;

            fn write(self, into: &mut [u8]) {
                into.copy_from_slice(&self.to_ne_bytes());
            }
        }
    };
}

number!(f32, "float32");
number!(f64, "float64");
number!(i64, "int64");
number!(u8, "bool");

/// Array as it goes out: dtype, and a buffer that `numpy.frombuffer` takes.
pub(crate) type Outgoing<'py> = (&'static str, Bound<'py, PyByteArray>);

/// Copies values into an array for Python.
pub(crate) fn outgoing<'py, T: Number>(py: Python<'py>, values: &[T]) -> PyResult<Outgoing<'py>> {
    let size = size_of::<T>();
    let bytes = PyByteArray::new_with(py, size_of_val(values), |bytes| {
        for (into, value) in bytes.chunks_exact_mut(size).zip(values) {
            value.write(into);
        }
        Ok(())
    })?;
    Ok((T::DTYPE, bytes))
}

/// Copies flags into an array for Python.
pub(crate) fn flags<'py>(py: Python<'py>, values: &[bool]) -> PyResult<Outgoing<'py>> {
    let values: Vec<u8> = values.iter().map(|&value| u8::from(value)).collect();
    outgoing(py, &values)
}

/// Copies an array of Python: its shape, and its values in row-major order. `what` names it in
/// errors.
///
/// # Errors
/// It is no array of this number.
pub(crate) fn incoming<T: Number>(
    array: &Bound<'_, PyAny>,
    what: impl FnOnce() -> String,
) -> PyResult<(Vec<usize>, Vec<T>)> {
    match PyBuffer::<T>::get(array) {
        Ok(buffer) => Ok((buffer.shape().to_vec(), buffer.to_vec(array.py())?)),
        Err(_) => Err(usage(format!("{} is no {} array", what(), T::DTYPE))),
    }
}
