//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use harmony::domain::topology::virtualization::VmArchitecture;
use harmony::modules::image::ImageSource;
use harmony::modules::image::catalog::CatalogName;

/// The images of this host: fetched and verified once, listed with the VMs that use them, pruned; and the
/// pins of the catalog, renewed from the publishers' signed sums.
#[derive(Debug, Parser)]
#[command(name = "harmony-image", version, max_term_width = 100)]
pub(crate) struct Args {
    /// Say nothing but errors
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,

    /// Print the result as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Fetch an image into the store and print where it is
    Fetch(Fetch),
    /// List the store: sizes, where images come from, and the VMs that use them
    List(Dirs),
    /// Hash images of the store; a wrong one is set aside
    Verify(Verify),
    /// Remove what nobody uses; an image that some VM's disk backs onto stays
    Prune(Prune),
    /// Renew the catalog's pins from the publishers' signed sums, and print what changes
    Refresh(Refresh),
}

/// Where images and overlays are.
#[derive(Debug, clap::Args)]
pub(crate) struct Dirs {
    /// The store [default: images in harmony's data directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,

    /// A directory of disks that may back onto images, beside harmony's pools. May be repeated
    #[arg(long, value_name = "DIR")]
    pub(crate) overlays: Vec<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Fetch {
    /// auto, a name of the catalog, URL#sha256=DIGEST, or PATH#sha256=DIGEST
    pub(crate) image: ImageSource,

    /// Another URL of the same file, tried after those before it. May be repeated
    #[arg(long, value_name = "URL")]
    pub(crate) mirror: Vec<String>,

    /// The published file's size in bytes: another one is refused before it is read
    #[arg(long, value_name = "BYTES")]
    pub(crate) size: Option<u64>,

    /// Keep the file as it is published, also when it is compressed
    #[arg(long)]
    pub(crate) verbatim: bool,

    /// x86_64 or aarch64, for names of the catalog [default: this host's]
    #[arg(long, value_name = "ARCH")]
    pub(crate) arch: Option<VmArchitecture>,

    /// The store [default: images in harmony's data directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// Files of the store [default: all]
    pub(crate) files: Vec<PathBuf>,

    /// The store [default: images in harmony's data directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Prune {
    /// Only what has not been used for so long: a number and s, m, h, d or w
    #[arg(long, default_value = "30d", value_name = "AGE", value_parser = age)]
    pub(crate) older_than: Duration,

    /// Remove nothing, and print what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) dirs: Dirs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Refresh {
    /// Only these images [default: all]
    #[arg(value_name = "IMAGE")]
    pub(crate) images: Vec<CatalogName>,

    /// Write the pins to this file, as harmony/src/modules/image/catalog/pins.rs has them
    #[arg(long, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,

    /// Also renew images whose publisher signs no sums: only TLS vouches for those digests then
    #[arg(long)]
    pub(crate) accept_unsigned: bool,

    /// Ask this server in place of the publishers' (a mirror with the same paths)
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,

    /// Verify signatures by this OpenPGP key (armoured) in place of the publishers'; with --server
    #[arg(long, value_name = "FILE", requires = "server")]
    pub(crate) key: Option<PathBuf>,
}

fn age(text: &str) -> Result<Duration, String> {
    let invalid = || format!("invalid age '{text}' (expected a number and s, m, h, d or w)");
    let (number, seconds) = match text.chars().last() {
        Some('s') => (&text[..text.len() - 1], 1),
        Some('m') => (&text[..text.len() - 1], 60),
        Some('h') => (&text[..text.len() - 1], 3600),
        Some('d') => (&text[..text.len() - 1], 86_400),
        Some('w') => (&text[..text.len() - 1], 604_800),
        _ => return Err(invalid()),
    };
    let number: u64 = number.parse().map_err(|_| invalid())?;
    number
        .checked_mul(seconds)
        .map(Duration::from_secs)
        .ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::CommandFactory;

    use super::{Args, age};

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn ages_have_a_unit() {
        assert_eq!(age("0s"), Ok(Duration::ZERO));
        assert_eq!(age("30d"), Ok(Duration::from_secs(2_592_000)));
        assert_eq!(age("2w"), Ok(Duration::from_secs(1_209_600)));
        for wrong in ["", "30", "d", "-1d", "1.5h", "99999999999999999999w", "1€"] {
            assert!(age(wrong).is_err(), "{wrong}");
        }
    }
}
