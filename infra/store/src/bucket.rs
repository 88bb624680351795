//! Create if absent in a bucket: a PUT under `If-None-Match: *`.
//!
//! The answer to a PUT can be lost after the server has done it. Asked again, the server says that
//! the object is there, and a writer that took this for a rival's would have lost a race against
//! itself. Each create therefore carries a token of its own in the object's metadata, and "it is
//! there" is believed only of an object with another one.

use std::time::Duration;

use bytes::Bytes;
use object_store::{
    Attribute, Attributes, Error, GetOptions, ObjectStore, PutMode, PutOptions, Result, path::Path,
};
use tokio::time::sleep;

use crate::{Created, answer::Answer};

/// Name of the token in an object's user metadata (`x-amz-meta-…`).
const TOKEN: Attribute = Attribute::Metadata(std::borrow::Cow::Borrowed("vintage-create"));
/// Tries after an answer that leaves open what happened, on top of the library's own tries.
const TRIES: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_millis(100);

pub(crate) async fn create(
    objects: &dyn ObjectStore,
    path: &Path,
    bytes: Bytes,
) -> Result<Created> {
    let token = uuid::Uuid::now_v7().simple().to_string();
    let attributes: Attributes = [(TOKEN, token.clone())].into_iter().collect();
    for attempt in 1.. {
        let options = PutOptions {
            mode: PutMode::Create,
            attributes: attributes.clone(),
            ..PutOptions::default()
        };
        let put = objects.put_opts(path, bytes.clone().into(), options);
        let Err(error) = put.await else {
            return Ok(Created::New);
        };
        if is_final(&error) {
            return Err(error);
        }
        match owner(objects, path).await {
            Ok(Some(owner)) if owner.as_deref() == Some(token.as_str()) => {
                return Ok(Created::New);
            }
            Ok(Some(_)) => return Ok(Created::Exists),
            // It was there and is gone: somebody deletes what this one creates.
            Ok(None) if is_there(&error) => return Ok(Created::Exists),
            Ok(None) | Err(_) if attempt < TRIES => sleep(FIRST_WAIT * (1 << attempt)).await,
            Ok(None) => return Err(error),
            Err(unknown) => return Err(unknown),
        }
    }
    unreachable!("tries are limited above")
}

/// The token of the object that is there; the inner `None` if it has none.
async fn owner(objects: &dyn ObjectStore, path: &Path) -> Result<Option<Option<String>>> {
    let head = GetOptions {
        head: true,
        ..GetOptions::default()
    };
    match objects.get_opts(path, head).await {
        Ok(found) => {
            let token = found.attributes.get(&TOKEN);
            Ok(Some(token.map(|token| token.as_ref().to_owned())))
        }
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the server said that the object is there. The library says the same of a 409, with
/// which S3 answers while a rival's PUT is under way that may yet fail.
fn is_there(error: &Error) -> bool {
    let Error::AlreadyExists { source, .. } = error else {
        return false;
    };
    matches!(
        source.downcast_ref::<Error>(),
        Some(Error::Precondition { .. } | Error::NotModified { .. })
    )
}

/// Whether asking again gives the same answer and nothing was done.
fn is_final(error: &Error) -> bool {
    matches!(
        error,
        Error::NotFound { .. }
            | Error::PermissionDenied { .. }
            | Error::Unauthenticated { .. }
            | Error::NotImplemented { .. }
            | Error::InvalidPath { .. }
            | Error::UnknownConfigurationKey { .. }
    ) || Answer::behind(error).is_some()
}
