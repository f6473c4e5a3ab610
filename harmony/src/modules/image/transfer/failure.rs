//! Why an attempt failed, and so what may be done next.

use std::error::Error;
use std::io;
use std::time::Duration;

use reqwest::Url;

use crate::modules::image::error::ImageError;
use crate::modules::image::source::public_form;

/// What an attempt that failed leaves to be tried.
#[derive(Debug)]
pub(in crate::modules::image) enum Failure {
    /// The file is not published there any more.
    Gone,
    /// The host cannot be connected to; `waited` when the connection's time bound was used up.
    Unreachable {
        source: reqwest::Error,
        waited: bool,
    },
    /// The same attempt may succeed later, or go on from where this one ended.
    Transient(ImageError),
    /// The answer was not the rest of what is there: only a transfer from the beginning may succeed.
    NotTheRest(ImageError),
    /// The same attempt will fail again; another URL of the same file may do.
    Refused(ImageError),
    /// Nothing else will do.
    Fatal(ImageError),
}

/// What the HTTP client's error means.
pub(super) fn classify(
    url: &Url,
    received: u64,
    stall: Duration,
    error: reqwest::Error,
) -> Failure {
    // The URL is in our own message, without its secrets.
    let error = error.without_url();
    let url = public_form(url);
    if is_tls(&error) {
        return Failure::Refused(ImageError::Tls {
            url,
            source: Box::new(error),
        });
    }
    if error.is_connect() {
        return Failure::Unreachable {
            waited: error.is_timeout(),
            source: error,
        };
    }
    if error.is_timeout() {
        return Failure::Transient(ImageError::Stalled {
            url,
            received,
            bound: stall,
        });
    }
    let lasting = error.is_redirect() || error.is_builder();
    let broken = ImageError::Transfer {
        url,
        received,
        source: Box::new(error),
    };
    if lasting {
        Failure::Refused(broken)
    } else {
        Failure::Transient(broken)
    }
}

/// Whether the TLS library is among the causes: the host was reached and is not who it should be.
fn is_tls(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        // An I/O error that wraps another does not name it as its source.
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        if error.is::<rustls::Error>() || wrapped.is_some_and(|e| e.is::<rustls::Error>()) {
            return true;
        }
        cause = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    false
}
