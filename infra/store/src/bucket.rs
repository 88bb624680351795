//! Create-if-absent in a bucket: a PUT with `If-None-Match: *`.
//!
//! The response to a PUT can be lost after the server has done it. A repeated request then reports
//! that the object exists, and a writer that took it for a rival's would lose a race against
//! itself. Each create therefore stores a token of its own in the object's metadata, and counts the
//! object as existing only if it holds another token.

use std::time::Duration;

use bytes::Bytes;
use object_store::{
    Attribute, Attributes, Error, GetOptions, ObjectStore, PutMode, PutOptions, Result, path::Path,
};
use tokio::time::sleep;

use crate::{answer::Answer, created::Created};

/// Metadata key of the token (`x-amz-meta-…`).
const TOKEN: Attribute = Attribute::Metadata(std::borrow::Cow::Borrowed("vintage-create"));
/// Attempts in total while it is unknown whether the object was created, on top of the library's
/// own retries of each.
const TRIES: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// Returns a token for one create, which keeps it over all its tries.
pub(crate) fn token() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

pub(crate) async fn create(
    objects: &dyn ObjectStore,
    path: &Path,
    bytes: &Bytes,
    token: &str,
) -> Result<Created> {
    let attributes: Attributes = [(TOKEN, token.to_owned())].into_iter().collect();
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
            Ok(Some(owner)) if owner.as_deref() == Some(token) => {
                return Ok(Created::New);
            }
            Ok(Some(_)) => return Ok(Created::Exists),
            // The object existed and is gone: another process deletes what this one creates.
            Ok(None) if is_there(&error) => return Ok(Created::Exists),
            Ok(None) | Err(_) if attempt < TRIES => sleep(FIRST_WAIT * (1 << attempt)).await,
            Ok(None) => return Err(error),
            Err(unknown) => return Err(unknown),
        }
    }
    unreachable!("tries are limited above")
}

/// Returns the token of an object: outer `None` if there is no object, inner `None` if it has no
/// token.
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

/// Returns true if the server reported that the object exists. The library also maps a 409 to
/// `AlreadyExists`, which S3 returns while a rival's PUT is in progress that may yet fail; that
/// does not count.
fn is_there(error: &Error) -> bool {
    let Error::AlreadyExists { source, .. } = error else {
        return false;
    };
    matches!(
        source.downcast_ref::<Error>(),
        Some(Error::Precondition { .. } | Error::NotModified { .. })
    )
}

/// Returns true if another attempt would fail in the same way and nothing was written.
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
