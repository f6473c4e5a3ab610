//! TLS of the server that a registry is of.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use iot_contracts::{NatsConfig, NatsTls, NatsUrl, NatsUrls};
use tokio::time::timeout;

use super::served::Looker;
use super::{ACCOUNTS, DEVICES, DeviceRegistry, PID, RegistryError, certificates};

/// How long a server may take from being told of a certificate until it shows it.
const RELOADS_WITHIN: Duration = Duration::from_secs(10);
/// How long a client may take for TLS, in seconds, in the configuration of a server. An emulated device takes longer than
/// the server's own 2 s.
const TLS_TIMEOUT: u32 = 10;

impl DeviceRegistry {
    /// The certificate of the authority that the server is believed by, for everybody to read.
    pub fn ca_file(&self) -> PathBuf {
        certificates::ca_file(&self.dir)
    }

    /// What the server's configuration has to have beside JetStream and where it listens: who it knows, where its process
    /// id goes, and TLS. The configuration has to be a file in the registry's directory: what it includes is looked for
    /// beside it.
    ///
    /// # Errors
    /// When the directory's absolute path cannot be told.
    pub fn server_config(&self) -> Result<String, RegistryError> {
        let dir = std::path::absolute(&self.dir);
        let dir = dir.map_err(|source| RegistryError::File {
            action: "find",
            path: self.dir.clone(),
            source,
        })?;
        let (pid, pair) = (dir.join(PID), certificates::server_file(&dir));
        Ok(format!(
            "include \"{ACCOUNTS}\"\npid_file: {pid:?}\n\
             tls {{ cert_file: {pair:?}, key_file: {pair:?}, timeout: {TLS_TIMEOUT} }}\n"
        ))
    }

    /// How the platform reaches the server at these URLs: with its own key and, with `tls://`, by the registry's authority.
    ///
    /// # Errors
    /// As [`platform_credentials`](Self::platform_credentials).
    pub fn platform_config(&self, urls: NatsUrls) -> Result<NatsConfig, RegistryError> {
        let tls = urls.are_tls().then(|| NatsTls {
            ca: Some(self.ca_file()),
            ..NatsTls::default()
        });
        Ok(NatsConfig {
            credentials: Some(self.platform_credentials()?),
            tls,
            ..NatsConfig::new(urls)
        })
    }

    /// Makes sure that there is a certificate for the server by all names that were ever asked for, those of its own
    /// machine and these, and returns whether a new one was made. It is made anew before it ends. The authority that
    /// issues it is made once.
    ///
    /// # Errors
    /// [`RegistryError`]; nothing is changed for a name that no certificate can have.
    pub fn ensure_certificate(&self, names: &[&str]) -> Result<bool, RegistryError> {
        let names = names.iter().map(|name| certificates::name(name));
        let names = names.collect::<Result<BTreeSet<_>, _>>()?;
        let _lock = self.lock()?;
        let mut known = self.read()?;
        if !names.is_subset(&known.server_names) {
            known.server_names.extend(names);
            self.write(DEVICES, super::json(&known))?;
        }
        certificates::ensure(&self.dir, &known.server_names, SystemTime::now())
    }

    /// Makes sure that the running server shows a certificate of the registry's authority for these names, each with a URL
    /// by which it is reached from here; it is told of a new one. Connections go on.
    ///
    /// # Errors
    /// [`RegistryError`], [`RegistryError::NotServed`] when it shows another one 10 s later.
    pub async fn certify(&self, servers: &[(&NatsUrl, &str)]) -> Result<(), RegistryError> {
        let names: Vec<&str> = servers.iter().map(|(_, name)| *name).collect();
        let mut is_told = self.ensure_certificate(&names)?;
        if is_told {
            self.tell_server()?;
        }
        let ca = self.ca_file();
        for (url, name) in servers {
            let not_served = |source| RegistryError::NotServed {
                url: (*url).clone(),
                ca: ca.clone(),
                name: (*name).to_owned(),
                bound: RELOADS_WITHIN,
                source,
            };
            let pair = certificates::server_file(&self.dir);
            let looker = Looker::new(&ca, &pair).map_err(not_served)?;
            let seen = timeout(RELOADS_WITHIN, looker.look(url, name)).await;
            if !is_told && !matches!(seen, Ok(Ok(()))) {
                // It may not have been told the last time.
                self.tell_server()?;
                is_told = true;
            }
            let shown = looker.wait(url, name, RELOADS_WITHIN).await;
            shown.map_err(not_served)?;
        }
        Ok(())
    }
}
