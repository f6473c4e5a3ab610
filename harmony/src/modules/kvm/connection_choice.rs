//! Which connection is taken where the caller says none.

use super::connection::ConnectionUri;
use super::error::KvmError;
use super::files::SYSTEM_POOL;
use super::libvirt::Libvirt;

impl ConnectionUri {
    /// Chooses: what the caller says, else `LIBVIRT_DEFAULT_URI`, else the system daemon when it
    /// answers and this user can make files beside it, else the session.
    ///
    /// # Errors
    /// When `LIBVIRT_DEFAULT_URI` names a connection that is not supported.
    pub async fn choose(requested: Option<Self>) -> Result<Self, KvmError> {
        if let Some(uri) = requested {
            return Ok(uri.for_this_user());
        }
        if let Ok(uri) = std::env::var("LIBVIRT_DEFAULT_URI")
            && !uri.is_empty()
        {
            return Ok(uri.parse::<Self>()?.for_this_user());
        }
        let writable = rustix::fs::access(SYSTEM_POOL, rustix::fs::Access::WRITE_OK).is_ok();
        if writable && Libvirt::open(Self::System).await.is_ok() {
            return Ok(Self::System);
        }
        Ok(Self::Session.for_this_user())
    }
}
