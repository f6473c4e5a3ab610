//! Small files from publishers.

use std::time::Duration;

use reqwest::{Client, Response};

use super::error::RefreshError;

/// The longest index or list of sums.
const LONGEST: usize = 4 << 20;

/// The publishers' servers, or one in their place.
pub(super) struct Web {
    client: Client,
    server: Option<String>,
}

impl Web {
    pub(super) fn new(server: Option<&str>) -> Result<Self, RefreshError> {
        // Fails when the process has a provider already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(Duration::from_secs(30))
            .user_agent(concat!("harmony-image/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| RefreshError::Web {
                url: server.unwrap_or("https://").to_owned(),
                source: Box::new(error),
            })?;
        Ok(Self {
            client,
            server: server.map(|server| server.trim_end_matches('/').to_owned()),
        })
    }

    /// The URL that is asked.
    pub(super) fn url(&self, host: &str, path: &str) -> String {
        format!("{}{path}", self.server.as_deref().unwrap_or(host))
    }

    pub(super) async fn text(&self, host: &str, path: &str) -> Result<String, RefreshError> {
        let bytes = self.bytes(host, path).await?;
        String::from_utf8(bytes).map_err(|error| RefreshError::Web {
            url: self.url(host, path),
            source: Box::new(error),
        })
    }

    pub(super) async fn bytes(&self, host: &str, path: &str) -> Result<Vec<u8>, RefreshError> {
        let url = self.url(host, path);
        let broken = |error: reqwest::Error| RefreshError::Web {
            url: url.clone(),
            source: Box::new(error.without_url()),
        };
        let response = self.client.get(&url).send().await.map_err(broken)?;
        let mut response = successful(&url, response)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > LONGEST {
                return Err(RefreshError::TooLong {
                    url,
                    bound: LONGEST,
                });
            }
        }
        Ok(bytes)
    }

    /// The size that a file is said to have.
    pub(super) async fn size(&self, host: &str, path: &str) -> Result<Option<u64>, RefreshError> {
        let url = self.url(host, path);
        let response = self.client.head(&url).send().await;
        let response = response.map_err(|error| RefreshError::Web {
            url: url.clone(),
            source: Box::new(error.without_url()),
        })?;
        let headers = successful(&url, response)?;
        let length = headers.headers().get(reqwest::header::CONTENT_LENGTH);
        Ok(length.and_then(|length| length.to_str().ok()?.parse().ok()))
    }
}

fn successful(url: &str, response: Response) -> Result<Response, RefreshError> {
    if response.status() != reqwest::StatusCode::OK {
        return Err(RefreshError::Status {
            url: url.to_owned(),
            status: response.status().as_u16(),
        });
    }
    Ok(response)
}
