use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::{BackingName, Overlays, name_place, named_files};

/// The beginning of a qcow2 file, version 3, with the name of its backing file.
pub(crate) fn qcow2(backing: &str) -> Vec<u8> {
    let mut file = b"QFI\xfb\0\0\0\x03".to_vec();
    let offset: u64 = if backing.is_empty() { 0 } else { 104 };
    file.extend_from_slice(&offset.to_be_bytes());
    file.extend_from_slice(&(backing.len() as u32).to_be_bytes());
    file.resize(104, 0);
    file.extend_from_slice(backing.as_bytes());
    file
}

fn users(overlays: &Overlays, file: &Path) -> Vec<PathBuf> {
    let mut users: Vec<_> = overlays
        .users_of(file)
        .into_iter()
        .map(Path::to_owned)
        .collect();
    users.sort();
    users
}

#[test]
fn overlays_use_all_files_of_their_chain_by_whatever_name() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (pool, images) = (dir.path().join("pool"), dir.path().join("images"));
    fs::create_dir_all(&pool).expect("made");
    fs::create_dir_all(&images).expect("made");
    let write = |path: &Path, backing: &str| fs::write(path, qcow2(backing)).expect("writable");
    let base = images.join("base.img");
    let middle = images.join("middle.qcow2");
    write(&base, "");
    write(&middle, "base.img");
    symlink(&base, images.join("link.img")).expect("linked");
    fs::hard_link(&base, pool.join("harmony-base-1.img")).expect("linked");
    let vm = |name: &str| pool.join(format!("{name}.qcow2"));
    write(&vm("a"), &middle.display().to_string());
    write(&vm("b"), "../images/link.img");
    write(&vm("c"), "harmony-base-1.img");
    let json = format!(
        r#"json:{{"driver":"qcow2","file":{{"driver":"file","filename":"{}"}}}}"#,
        base.display()
    );
    write(&vm("d"), &json);
    write(&vm("alone"), "");
    write(&vm("lost"), "/no/such/file");
    write(&vm("loop"), "loop.qcow2");
    fs::write(pool.join("x-seed.img"), "no qcow2").expect("writable");

    let overlays = Overlays::in_dirs(&[pool.clone(), dir.path().join("none")]);
    assert!(overlays.unknown.is_empty(), "{overlays:?}");
    assert_eq!(
        users(&overlays, &base),
        [vm("a"), vm("b"), vm("c"), vm("d")]
    );
    assert_eq!(users(&overlays, &middle), [vm("a")]);
    assert_eq!(users(&overlays, &vm("alone")), [""; 0].map(PathBuf::from));
}

#[test]
fn what_cannot_be_read_is_said_and_not_passed_over() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let cut = dir.path().join("cut.qcow2");
    fs::write(&cut, &qcow2("base.img")[..12]).expect("writable");
    let far = dir.path().join("far.qcow2");
    let mut header = qcow2("base.img");
    header[16..20].copy_from_slice(&4096_u32.to_be_bytes());
    fs::write(&far, header).expect("writable");
    let mut unknown = Overlays::in_dirs(&[dir.path().to_owned(), cut.clone()]).unknown;
    unknown.sort();
    let paths: Vec<_> = unknown.into_iter().map(|(path, _)| path).collect();
    // The last: a directory that is none.
    assert_eq!(paths, [cut.clone(), cut, far]);
}

#[test]
fn headers_and_names_are_read_as_qemu_does() {
    assert_eq!(name_place(b"").expect("no qcow2"), None);
    assert_eq!(name_place(&qcow2("")).expect("alone"), None);
    assert_eq!(
        name_place(&qcow2("base")).expect("an overlay"),
        Some(BackingName {
            offset: 104,
            length: 4
        })
    );
    let table: [(&str, &[&str]); 5] = [
        ("/a/b.img", &["/a/b.img"]),
        ("file:b.img", &["b.img"]),
        (r#"json:{"file.filename":"/a"}"#, &["/a"]),
        (
            r#"json:{"driver":"quorum","children":[{"file":{"filename":"/a"}},{"filename":"/b"}]}"#,
            &["/a", "/b"],
        ),
        ("json:{", &[]),
    ];
    for (name, expected) in table {
        assert_eq!(named_files(name), expected, "{name}");
    }
}
