//! From a valid recipe to the plan for one architecture and one profile.

use std::path::Path;

use super::check::{Layer, Profile};
use super::checked::CheckedRecipe;
use super::error::RecipeError;
use super::plan::{BuildPlan, PlannedFstab, PlannedKernel, PlannedServices};
use super::{inputs, keys, script};
use crate::domain::topology::virtualization::VmArchitecture;

impl CheckedRecipe {
    /// The names of the profiles that there are for `architecture`, sorted.
    pub fn profiles(&self, architecture: VmArchitecture) -> Vec<&str> {
        let profiles = self.0.profiles.iter();
        profiles
            .filter(|(_, parts)| parts.get(architecture).is_some())
            .map(|(name, _)| name.as_str())
            .collect()
    }

    /// The plan for one architecture, with what a profile adds. `root` is the directory that build inputs are
    /// relative to; only they are read.
    ///
    /// # Errors
    /// [`RecipeError::NoBase`], [`RecipeError::UnknownProfile`], [`RecipeError::Word`], and those of build inputs: a glob that matches
    /// nothing, or a file that leads out of `root` or cannot be read.
    pub fn plan(
        &self,
        architecture: VmArchitecture,
        profile: Option<&str>,
        root: &Path,
    ) -> Result<BuildPlan, RecipeError> {
        let recipe = &self.0;
        let base = recipe.bases.get(architecture).cloned();
        let base = base.ok_or(RecipeError::NoBase { architecture })?;
        let profile = match profile {
            Some(name) => Some(self.profile(name, architecture)?),
            None => None,
        };
        let mut layer = recipe.layer.clone();
        let (mut boot_arguments, mut inputs, mut description) = Default::default();
        if let Some(profile) = profile {
            layer.add(&profile.layer);
            boot_arguments = profile.boot_arguments.clone();
            inputs = inputs::read(&profile.build_inputs, root)?;
            description = profile.description.clone();
        }
        if description.is_empty() {
            description = recipe.description.clone();
        }
        let kernel = recipe
            .kernels
            .get(architecture)
            .map(|kernel| PlannedKernel {
                kernel: kernel.kernel.clone(),
                initrd: kernel.initrd.clone(),
                arguments: [kernel.arguments.as_slice(), &boot_arguments].concat(),
            });
        inputs.sort_by(|a: &super::BuildInput, b| a.path.cmp(&b.path));
        let setup_script = script::generate(&layer, &boot_arguments)?;
        Ok(BuildPlan {
            architecture,
            description,
            base,
            packages: layer.packages.into_iter().collect(),
            services: PlannedServices {
                enable: layer.enable.into_iter().collect(),
                disable: layer.disable.into_iter().collect(),
                mask: layer.mask.into_iter().collect(),
            },
            files: layer.files.into_values().collect(),
            fstab: PlannedFstab {
                remove_patterns: layer.fstab_remove.into_iter().collect(),
                nofail: layer.fstab_nofail.into_iter().collect(),
            },
            cleanup: layer.cleanup.into_iter().collect(),
            boot_arguments,
            kernel,
            inputs,
            setup_script,
        })
    }

    fn profile(&self, name: &str, architecture: VmArchitecture) -> Result<&Profile, RecipeError> {
        let parts = self.0.profiles.get(name);
        parts
            .and_then(|parts| parts.get(architecture))
            .ok_or_else(|| {
                let known = self.profiles(architecture);
                RecipeError::UnknownProfile {
                    profile: name.to_owned(),
                    architecture,
                    nearest: keys::nearest(name, known.iter().copied()).map(str::to_owned),
                    known: known.into_iter().map(str::to_owned).collect(),
                }
            })
    }
}

impl Layer {
    /// Adds a profile's part: what it says about a unit or a file takes the place of what was said before.
    fn add(&mut self, profile: &Self) {
        for said in [&profile.enable, &profile.disable, &profile.mask] {
            for unit in said {
                self.enable.remove(unit);
                self.disable.remove(unit);
                self.mask.remove(unit);
            }
        }
        self.enable.extend(profile.enable.iter().cloned());
        self.disable.extend(profile.disable.iter().cloned());
        self.mask.extend(profile.mask.iter().cloned());
        self.packages.extend(profile.packages.iter().cloned());
        for (path, file) in &profile.files {
            self.files.insert(path.clone(), file.clone());
        }
        self.fstab_remove
            .extend(profile.fstab_remove.iter().cloned());
        self.fstab_nofail
            .extend(profile.fstab_nofail.iter().cloned());
        self.cleanup.extend(profile.cleanup.iter().cloned());
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::domain::topology::virtualization::VmArchitecture::{Aarch64, X86_64};
    use crate::modules::image::recipe::{BootFile, Recipe};

    const LAYERS: &str = r#"
        description = "all"
        [base]
        catalog = "debian-12"
        [packages]
        a = ["jq", "podman"]
        [services]
        enable = ["a.service", "b.service"]
        disable = ["c.service"]
        mask = ["d.service"]
        [files."/etc/x"]
        content = "recipe"
        [files."/etc/y"]
        content = "recipe"
        [cleanup]
        remove_dirs = ["/opt/a"]
        [kernel.aarch64]
        kernel = { path = "/vmlinuz" }
        arguments = ["ro"]
        [profiles.p.aarch64]
        boot_arguments = ["quiet", "console=ttyAMA0"]
        packages = ["gdb", "jq"]
        [profiles.p.aarch64.services]
        enable = ["d.service"]
        mask = ["a.service", "c.service"]
        [profiles.p.aarch64.files."/etc/x"]
        content = "profile"
        mode = "0600"
        [profiles.p.aarch64.cleanup]
        remove_dirs = ["/opt/b"]
        [profiles.p.x86_64]
        description = "the other"
    "#;

    #[test]
    fn what_a_profile_says_counts_before_the_rest_and_the_rest_stays() {
        let recipe = Recipe::parse(LAYERS, Path::new("r.toml")).expect("valid");
        let plan = |architecture, profile| {
            let plan = recipe.plan(architecture, profile, Path::new("/nowhere"));
            plan.expect("planned")
        };
        let with = plan(Aarch64, Some("p"));
        assert_eq!(with.description, "all");
        assert_eq!(with.packages, ["gdb", "jq", "podman"]);
        assert_eq!(with.services.enable, ["b.service", "d.service"]);
        assert_eq!(with.services.disable, Vec::<String>::new());
        assert_eq!(with.services.mask, ["a.service", "c.service"]);
        let file = |index: usize| {
            let file = &with.files[index];
            (file.path.as_str(), file.content.as_slice(), file.mode)
        };
        assert_eq!(file(0), ("/etc/x", b"profile".as_slice(), 0o600));
        assert_eq!(file(1), ("/etc/y", b"recipe".as_slice(), 0o644));
        assert_eq!(with.cleanup, ["/opt/a", "/opt/b"]);
        assert_eq!(with.boot_arguments, ["quiet", "console=ttyAMA0"]);
        let kernel = with.kernel.expect("a kernel");
        assert_eq!(kernel.kernel, BootFile::InImage("/vmlinuz".to_owned()));
        assert_eq!(kernel.arguments, ["ro", "quiet", "console=ttyAMA0"]);

        let other = plan(X86_64, Some("p"));
        assert_eq!(other.description, "the other");
        assert_eq!(other.kernel, None);
        let plain = plan(X86_64, None);
        assert_eq!(other.setup_script, plain.setup_script);
        assert_eq!(plain.services.enable, ["a.service", "b.service"]);
    }

    #[test]
    fn a_plan_shows_no_content() {
        let text = "[base]\ncatalog = 'debian-12'\n[files.'/etc/key']\ncontent = 'top secret'\n";
        let recipe = Recipe::parse(text, Path::new("r.toml")).expect("valid");
        let plan = recipe.plan(Aarch64, None, Path::new("/nowhere"));
        assert!(!format!("{recipe:?} {plan:?}").contains("secret"));
        for wrong in [
            "'/etc/key' = 'top secret'",
            "'/etc/key'.content = ['top secret']",
        ] {
            let text = format!("[base]\ncatalog = 'debian-12'\n[files]\n{wrong}\n");
            let error = Recipe::parse(&text, Path::new("r.toml")).expect_err("refused");
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
    }
}
