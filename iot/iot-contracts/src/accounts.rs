//! The accounts and users of a nats-server that keeps devices apart, as its configuration has them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::error::ContractError;
use crate::identity::{
    DEVICES_ACCOUNT, DevicePermissions, PLATFORM_ACCOUNT, SYSTEM_ACCOUNT, UserKey, device_services,
};
use crate::name::DeviceId;

/// The part of a server's configuration with the accounts: the buckets and the platform in one, the devices in another,
/// which reaches exactly what a device needs of the first one. A device that is added is one more user, and the server
/// takes it up when it reads its configuration again.
///
/// As JSON this is a file that a server's configuration can `include`. It has public keys only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerAccounts {
    accounts: Accounts,
    system_account: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Accounts {
    #[serde(rename = "IOT")]
    platform: PlatformAccount,
    #[serde(rename = "DEVICES")]
    devices: DevicesAccount,
    #[serde(rename = "SYS")]
    system: SystemAccount,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct PlatformAccount {
    jetstream: bool,
    users: Vec<User>,
    exports: Vec<Export>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct DevicesAccount {
    users: Vec<User>,
    imports: Vec<Import>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct SystemAccount {
    users: [User; 0],
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct User {
    nkey: UserKey,
    #[serde(skip_serializing_if = "Option::is_none")]
    permissions: Option<Permissions>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Permissions {
    publish: Allow,
    subscribe: Allow,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Allow {
    allow: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Export {
    service: String,
    response_type: &'static str,
    accounts: [&'static str; 1],
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Import {
    service: ImportedService,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct ImportedService {
    account: &'static str,
    subject: String,
}

impl ServerAccounts {
    /// For a platform with these keys and for these devices.
    ///
    /// # Errors
    ///
    /// [`ContractError::SharedKey`]: two of them have one key.
    pub fn new(
        platform: &[UserKey],
        devices: &BTreeMap<DeviceId, UserKey>,
    ) -> Result<Self, ContractError> {
        let mut seen = BTreeSet::new();
        if let Some(key) = platform
            .iter()
            .chain(devices.values())
            .find(|key| !seen.insert(*key))
        {
            return Err(ContractError::SharedKey { key: key.clone() });
        }
        let operators = platform.iter().map(|key| User {
            nkey: key.clone(),
            permissions: None,
        });
        let devices = devices.iter().map(|(device_id, key)| {
            let may = DevicePermissions::of(device_id, key);
            let (publish, subscribe) = (
                Allow { allow: may.publish },
                Allow {
                    allow: may.subscribe,
                },
            );
            User {
                nkey: key.clone(),
                permissions: Some(Permissions { publish, subscribe }),
            }
        });
        let services = device_services();
        let exports = services.iter().map(|service| Export {
            service: service.subject.clone(),
            response_type: if service.is_stream {
                "Stream"
            } else {
                "Singleton"
            },
            accounts: [DEVICES_ACCOUNT],
        });
        let imports = services.iter().map(|service| Import {
            service: ImportedService {
                account: PLATFORM_ACCOUNT,
                subject: service.subject.clone(),
            },
        });
        Ok(Self {
            accounts: Accounts {
                platform: PlatformAccount {
                    jetstream: true,
                    users: operators.collect(),
                    exports: exports.collect(),
                },
                devices: DevicesAccount {
                    users: devices.collect(),
                    imports: imports.collect(),
                },
                system: SystemAccount { users: [] },
            },
            system_account: SYSTEM_ACCOUNT,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::ServerAccounts;
    use crate::error::ContractError;
    use crate::identity::{DEVICES_ACCOUNT, PLATFORM_ACCOUNT, SYSTEM_ACCOUNT, UserKey};

    fn key(letter: char) -> UserKey {
        format!("U{}", letter.to_string().repeat(55))
            .parse()
            .unwrap()
    }

    #[test]
    fn golden() {
        let devices = BTreeMap::from([("pi-1".parse().unwrap(), key('A'))]);
        let accounts = ServerAccounts::new(&[key('P')], &devices).unwrap();
        let text = serde_json::to_string_pretty(&accounts).unwrap();
        assert_eq!(
            format!("{text}\n"),
            include_str!("../tests/golden/accounts.json")
        );
        for name in [PLATFORM_ACCOUNT, DEVICES_ACCOUNT, SYSTEM_ACCOUNT] {
            assert!(text.contains(&format!("\n    \"{name}\": {{")), "{name}");
        }
    }

    #[test]
    fn a_key_is_one_devices() {
        let of = |names: [(&str, char); 2]| {
            let devices = names.map(|(name, letter)| (name.parse().unwrap(), key(letter)));
            ServerAccounts::new(&[key('P')], &BTreeMap::from(devices)).map(drop)
        };
        assert_eq!(of([("pi-1", 'A'), ("pi-2", 'B')]), Ok(()));
        for shared in ['A', 'P'] {
            let error = of([("pi-1", 'A'), ("pi-2", shared)]);
            assert_eq!(error, Err(ContractError::SharedKey { key: key(shared) }));
        }
    }
}
