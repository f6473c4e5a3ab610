//! Random recipes, and their text.

use std::collections::BTreeMap;
use std::fmt::Write;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::{Just, Strategy};

/// A recipe as one would write it.
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) description: String,
    pub(super) comment: String,
    pub(super) packages: Vec<String>,
    /// Over how many groups the packages are spread.
    pub(super) groups: usize,
    pub(super) group_name: String,
    pub(super) enable: Vec<String>,
    pub(super) disable: Vec<String>,
    pub(super) mask: Vec<String>,
    pub(super) files: BTreeMap<String, ModelFile>,
    pub(super) fstab_remove: Vec<String>,
    pub(super) nofail: Vec<String>,
    pub(super) cleanup: Vec<String>,
    pub(super) kernel: String,
    pub(super) kernel_argument: String,
    /// Where the initial file system is fetched from.
    pub(super) host: String,
    pub(super) initrd_digest: char,
    pub(super) profile: String,
    pub(super) profile_packages: Vec<String>,
    pub(super) boot_arguments: Vec<String>,
    /// Names and contents.
    pub(super) inputs: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
pub(super) struct ModelFile {
    pub(super) content: String,
    pub(super) mode: String,
    pub(super) owner: String,
}

impl Default for ModelFile {
    fn default() -> Self {
        Self {
            content: String::new(),
            mode: "0644".to_owned(),
            owner: "root:root".to_owned(),
        }
    }
}

impl Model {
    pub(super) fn example() -> Self {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Self {
            description: "a device".to_owned(),
            comment: String::new(),
            packages: words(&["jq", "podman"]),
            groups: 1,
            group_name: "group".to_owned(),
            enable: words(&["a.service"]),
            disable: words(&["b.service"]),
            mask: words(&["c.timer"]),
            files: BTreeMap::from([("/etc/a".to_owned(), ModelFile::default())]),
            fstab_remove: words(&["swap"]),
            nofail: words(&["/boot/efi"]),
            cleanup: words(&["/var/cache/x"]),
            kernel: "/boot/vmlinuz".to_owned(),
            kernel_argument: "ro".to_owned(),
            host: "host.example".to_owned(),
            initrd_digest: 'a',
            profile: "slow".to_owned(),
            profile_packages: words(&["gdb"]),
            boot_arguments: words(&["a=1", "b=2"]),
            inputs: vec![("i0".to_owned(), "one".to_owned())],
        }
    }

    pub(super) fn first_file(&mut self) -> &mut ModelFile {
        self.files.values_mut().next().expect("a file")
    }

    /// The recipe as text.
    pub(super) fn toml(&self) -> String {
        let comment = &self.comment;
        let mut text = format!(
            "{comment}description = {:?}\n[base]\ncatalog = 'debian-12'\n{comment}[packages]\n",
            self.description
        );
        let size = self.packages.len().div_ceil(self.groups).max(1);
        for (index, group) in self.packages.chunks(size).enumerate() {
            let _ = writeln!(text, "{}-{index} = {group:?} {comment}", self.group_name);
        }
        let digest = self.initrd_digest.to_string().repeat(64);
        let _ = writeln!(
            text,
            "[services]\nenable = {:?}\ndisable = {:?}\nmask = {:?}\n\
             [fstab]\nremove_patterns = {:?}\nnofail = {:?}\n{comment}\
             [cleanup]\nremove_dirs = {:?}\n\
             [kernel.aarch64]\nkernel = {{ path = {:?} }}\narguments = [{:?}]\n\
             initrd = {{ url = 'https://{}/initrd', digest = 'sha256={digest}' }}\n\
             [profiles.{profile}.x86_64]\n[profiles.{profile}.aarch64]\n\
             description = {:?}\npackages = {:?}\nboot_arguments = {:?}\nbuild_inputs = ['i*']",
            self.enable,
            self.disable,
            self.mask,
            self.fstab_remove,
            self.nofail,
            self.cleanup,
            self.kernel,
            self.kernel_argument,
            self.host,
            self.description,
            self.profile_packages,
            self.boot_arguments,
            profile = self.profile,
        );
        for (path, file) in &self.files {
            let _ = writeln!(
                text,
                "[files.{path:?}]\n{comment}content = {:?}\nmode = {:?}\nowner = {:?}",
                file.content, file.mode, file.owner
            );
        }
        text
    }
}

fn words(regex: &'static str) -> impl Strategy<Value = Vec<String>> {
    btree_set(regex, 0..6).prop_map(|set| set.into_iter().collect())
}

fn file() -> impl Strategy<Value = ModelFile> {
    let mode = proptest::sample::select(vec!["0644", "0600", "755", "02755"]);
    let owner = proptest::sample::select(vec!["root:root", "0:0", "root:adm"]);
    ("[ -~\n]{0,40}", mode, owner).prop_map(|(content, mode, owner)| ModelFile {
        content,
        mode: mode.to_owned(),
        owner: owner.to_owned(),
    })
}

/// Random recipes that have at least one of what a test changes.
pub(super) fn recipe() -> impl Strategy<Value = Model> {
    let units = (
        words("[a-e]{1,5}\\.service"),
        words("[f-m]{1,5}\\.timer"),
        vec("[n-z]{1,5}\\.socket", 1..4),
    );
    let files = btree_map("/etc/[a-z]{1,6}", file(), 1..4);
    let lists = (
        words("LABEL=[a-z]{1,5}"),
        words("/[a-y]{1,5}"),
        words("/var/cache/[a-y]{1,6}"),
    );
    let packages = (btree_set("[a-y][a-z0-9+.]{1,8}", 1..8), words("[a-y]{2,8}"));
    let boot = vec("[a-y]{1,5}=[0-9]", 0..3);
    (
        Just(Model::example()),
        units,
        files,
        lists,
        packages,
        boot,
        vec("[ -~]{0,20}", 1..3),
    )
        .prop_map(|(mut model, units, files, lists, packages, boot, inputs)| {
            (model.enable, model.disable, model.mask) = units;
            model.mask.sort_unstable();
            model.mask.dedup();
            model.files = files;
            (model.fstab_remove, model.nofail, model.cleanup) = lists;
            // What a change takes away is in no other list.
            let (packages, more) = packages;
            model.profile_packages = more
                .into_iter()
                .filter(|name| !packages.contains(name))
                .collect();
            model.packages = packages.into_iter().collect();
            // Two that differ come first: another order is another command line.
            model.boot_arguments = ["first", "second"].map(str::to_owned).into();
            model.boot_arguments.extend(boot);
            model.inputs = inputs
                .into_iter()
                .enumerate()
                .map(|(index, content)| (format!("i{index}"), content))
                .collect();
            model
        })
}
