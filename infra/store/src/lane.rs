//! Objects that are read one after the other, several of them at a time.

use bytes::Bytes;
use futures::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use serde::de::DeserializeOwned;

use crate::{error::Result, store::Store};

/// Number of objects that are read at a time: each costs a round trip over a network, and a run has
/// a plan and a result for every update.
pub const AT_ONCE: usize = 32;

/// Objects in their order, of which up to [`AT_ONCE`] are on their way.
pub struct Lane<'a, T> {
    objects: BoxStream<'a, Result<Option<T>>>,
}

impl<T> Lane<'_, T> {
    /// Returns the next object; `None` for one that is not there, and after the last one.
    pub async fn next(&mut self) -> Result<Option<T>> {
        Ok(self.objects.try_next().await?.flatten())
    }
}

impl Store {
    /// Returns the objects of these paths, in this order, a few of them read ahead.
    pub fn lane<'a, P>(&'a self, paths: P) -> Lane<'a, Bytes>
    where
        P: IntoIterator<Item = String>,
        P::IntoIter: Send + 'a,
    {
        let reads = stream::iter(paths).map(move |path| async move { self.get(&path).await });
        Lane {
            objects: reads.buffered(AT_ONCE).boxed(),
        }
    }

    /// Returns the records of these paths, in this order, a few of them read ahead. One that does not
    /// parse is an error that names it.
    pub fn lane_json<'a, T, P>(&'a self, paths: P) -> Lane<'a, T>
    where
        T: DeserializeOwned + Send + 'a,
        P: IntoIterator<Item = String>,
        P::IntoIter: Send + 'a,
    {
        let reads = stream::iter(paths).map(move |path| async move { self.get_json(&path).await });
        Lane {
            objects: reads.buffered(AT_ONCE).boxed(),
        }
    }
}
