//! What makes a rebuilt VM the same machine.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::VirtualMachineSpec;

/// What a guest, its network and an inventory know a machine by. It can be stored, and given back to the
/// spec from which the machine is built anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineIdentity {
    /// The machine's UUID, which the guest reads from SMBIOS.
    pub uuid: Uuid,
    /// The machine's serial number, which the guest reads from SMBIOS.
    pub serial: String,
    /// The Ethernet address of each network card, in their order.
    pub macs: Vec<String>,
}

/// An identity that does not fit a spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the identity has {macs} Ethernet addresses, and the virtual machine has {cards} network cards"
)]
pub struct IdentityMismatch {
    /// Addresses in the identity.
    pub macs: usize,
    /// Cards in the spec.
    pub cards: usize,
}

impl VirtualMachineSpec {
    /// The spec of a machine with this identity.
    ///
    /// # Errors
    /// When the identity does not have one address for each card.
    pub fn with_identity(mut self, identity: &MachineIdentity) -> Result<Self, IdentityMismatch> {
        let MachineIdentity { uuid, serial, macs } = identity;
        if macs.len() != self.networks.len() {
            return Err(IdentityMismatch {
                macs: macs.len(),
                cards: self.networks.len(),
            });
        }
        self.uuid = Some(*uuid);
        self.serial = Some(serial.clone());
        for (card, mac) in self.networks.iter_mut().zip(macs) {
            card.mac = Some(mac.clone());
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::{IdentityMismatch, MachineIdentity};
    use crate::domain::topology::virtualization::VirtualMachineSpec;

    #[test]
    fn an_identity_fits_a_spec_with_as_many_cards() {
        let identity = MachineIdentity {
            uuid: Uuid::from_u128(7),
            serial: "10000000abcdef01".to_owned(),
            macs: vec!["52:54:00:00:00:07".to_owned()],
        };
        let spec = VirtualMachineSpec::new_aarch64("pi");
        let again = spec.clone().with_identity(&identity).expect("one card");
        assert_eq!(again.uuid, Some(identity.uuid));
        assert_eq!(again.serial.as_ref(), Some(&identity.serial));
        assert_eq!(again.networks[0].mac, Some(identity.macs[0].clone()));

        let unconnected = VirtualMachineSpec {
            networks: Vec::new(),
            ..spec
        };
        let error = unconnected.with_identity(&identity).expect_err("no card");
        assert_eq!(error, IdentityMismatch { macs: 1, cards: 0 });
    }
}
