use std::path::Path;

use super::{BuilderKind, CheckedRecipe};
use crate::domain::topology::virtualization::VmArchitecture;

#[test]
fn the_default_recipe_is_valid_for_both_architectures() {
    let recipe = CheckedRecipe::edge_device().expect("valid");
    for architecture in VmArchitecture::ALL {
        let plan = recipe
            .plan(architecture, Some("slow-guest"), Path::new("/nowhere"))
            .expect("planned");
        assert!(plan.packages.iter().any(|name| name == "podman"));
        let name = plan.image_name(BuilderKind::InGuest, 1);
        assert!(
            name.starts_with(&format!("device-{architecture}-")),
            "{name}"
        );
    }
}
