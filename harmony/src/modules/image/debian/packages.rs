//! The builder from packages.

use std::path::Path;

use async_trait::async_trait;

use super::suite::Suite;
use crate::modules::image::build::{
    BuildError, BuilderKind, BuiltImage, ImageBuilder, Products, build_once, copied_out,
    fetch_kernel,
};
use crate::modules::image::recipe::{BuildPlan, PlannedBase};

/// Makes the file system with `mmdebstrap` and runs the script in it: for bases of the catalog that are
/// Debian or Ubuntu, as root or with a user namespace. Packages come from the mirrors that this host uses.
#[derive(Debug, Clone, Copy, Default)]
pub struct FromPackages;

impl FromPackages {
    /// Whether it can build an image on this base.
    pub fn builds(plan: &BuildPlan) -> bool {
        suite(plan).is_ok()
    }
}

fn suite(plan: &BuildPlan) -> Result<Suite, BuildError> {
    let (base, suite) = match &plan.base {
        PlannedBase::Catalog(name) => (name.to_string(), Suite::of(*name)),
        PlannedBase::Url(pin) => (pin.to_string(), None),
    };
    suite.ok_or(BuildError::UnsupportedBase {
        base,
        builder: BuilderKind::FromPackages,
        expected: "a Debian or Ubuntu of the catalog",
    })
}

fn products(plan: &BuildPlan) -> Result<Products, BuildError> {
    let revision = super::revision(suite(plan)?, plan);
    Ok(Products::new(plan, BuilderKind::FromPackages, revision))
}

#[async_trait(?Send)]
impl ImageBuilder for FromPackages {
    fn kind(&self) -> BuilderKind {
        BuilderKind::FromPackages
    }

    fn planned(&self, plan: &BuildPlan, store_dir: &Path) -> Result<BuiltImage, BuildError> {
        Ok(products(plan)?.image(plan, store_dir, false))
    }

    async fn build(&self, plan: &BuildPlan, store_dir: &Path) -> Result<BuiltImage, BuildError> {
        let suite = suite(plan)?;
        let products = products(plan)?;
        if let Some(image) = self.built(plan, store_dir) {
            return Ok(image);
        }
        fetch_kernel(plan, store_dir).await?;
        let copied_out = copied_out(plan);
        let built_now = build_once(store_dir, &products.to_make(plan), async |dir| {
            super::build_plan(suite, plan, &copied_out, dir).await
        })
        .await?;
        Ok(products.image(plan, store_dir, built_now))
    }
}

#[cfg(test)]
#[path = "packages_tests.rs"]
mod tests;
