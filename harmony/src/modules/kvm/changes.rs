//! What differs between two specs, field by field. Pure.

use std::fmt;

use serde_json::Value;

use crate::domain::topology::virtualization::VirtualMachineSpec;

/// A field in which two specs differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldChange {
    /// The field's path.
    pub field: String,
    /// The value that the domain was made with.
    pub recorded: String,
    /// The value that is asked for.
    pub requested: String,
}

impl fmt::Display for FieldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            field,
            recorded,
            requested,
        } = self;
        write!(f, "{field} is {recorded}, asked for {requested}")
    }
}

/// Each field of `requested` that differs from `recorded`.
pub(super) fn changes(
    recorded: &VirtualMachineSpec,
    requested: &VirtualMachineSpec,
) -> Vec<FieldChange> {
    let mut changes = Vec::new();
    collect(
        "",
        &serde_json::to_value(recorded).unwrap_or_default(),
        &serde_json::to_value(requested).unwrap_or_default(),
        &mut changes,
    );
    changes
}

fn collect(path: &str, recorded: &Value, requested: &Value, changes: &mut Vec<FieldChange>) {
    match (recorded, requested) {
        (Value::Object(old), Value::Object(new)) => {
            let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                let value = |map: &serde_json::Map<_, _>| map.get(key).cloned().unwrap_or_default();
                collect(&path, &value(old), &value(new), changes);
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            for place in 0..old.len().max(new.len()) {
                let value = |list: &[Value]| list.get(place).cloned().unwrap_or_default();
                let path = format!("{path}[{place}]");
                collect(&path, &value(old), &value(new), changes);
            }
        }
        (old, new) if old == new => {}
        (old, new) => changes.push(FieldChange {
            field: path.to_owned(),
            recorded: old.to_string(),
            requested: new.to_string(),
        }),
    }
}
