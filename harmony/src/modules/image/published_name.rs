//! What a URL says of the name and kind of the file behind it. Pure.

use reqwest::Url;

/// The last part of a URL's path.
pub(super) fn published_name(url: &Url) -> &str {
    url.path().rsplit('/').next().unwrap_or_default()
}

/// A file name's extension in lower case.
pub(super) fn extension(name: &str) -> Option<String> {
    let (_, extension) = name.rsplit_once('.')?;
    let usual =
        (1..=8).contains(&extension.len()) && extension.bytes().all(|b| b.is_ascii_alphanumeric());
    usual.then(|| extension.to_ascii_lowercase())
}

/// A file name's extension in lower case, or `img`.
pub(super) fn image_extension(name: &str) -> String {
    extension(name).unwrap_or_else(|| "img".to_owned())
}
