use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::{Verdict, digest_of_name, list, verify};
use crate::modules::image::digest::{ImageDigest, Sha256Digest};
use crate::modules::image::error::ImageError;
use crate::modules::image::store::Overlays;
use crate::modules::image::store::record::ImageRecord;
use crate::modules::image::store::users::tests::qcow2;

#[test]
fn images_are_listed_with_their_users_and_verified_by_their_content() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let pool = dir.path().join("pool");
    fs::create_dir(&pool).expect("made");
    let content = qcow2("");
    let digest = ImageDigest::Sha256(Sha256Digest::of(&content));
    let path = dir.path().join(digest.file_name("img"));
    fs::write(&path, &content).expect("writable");
    fs::write(dir.path().join("notes.txt"), "not an image").expect("writable");
    let overlay = pool.join("edge-01.qcow2");
    fs::write(&overlay, qcow2(&path.display().to_string())).expect("writable");
    let listed = || {
        let overlays = Overlays::in_dirs(std::slice::from_ref(&pool));
        list(dir.path(), &overlays).expect("readable")
    };

    // From an older version, which kept no records.
    let images = listed();
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].users, std::slice::from_ref(&overlay));
    assert!(!images[0].verified && images[0].record.is_none());
    assert_eq!(verify(&path).expect("readable"), Verdict::Right);
    let images = listed();
    assert!(images[0].verified);
    assert_eq!(images[0].record.as_ref().map(|r| r.digest), Some(digest));

    // Bits that rotted: nothing that can be seen without reading has changed.
    let stamp = ImageRecord::load(&path).expect("a record").stamp;
    let modified = fs::metadata(&path)
        .and_then(|m| m.modified())
        .expect("known");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("ours");
    let file = fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("ours");
    std::os::unix::fs::FileExt::write_all_at(&file, b"rot", 50).expect("writable");
    file.set_modified(modified).expect("ours");
    fs::set_permissions(&path, Permissions::from_mode(0o444)).expect("ours");
    assert!(listed()[0].verified, "{stamp:?}");
    let Verdict::Wrong { actual, rejected } = verify(&path).expect("readable") else {
        panic!("it is wrong");
    };
    assert_ne!(actual, digest);
    assert!(rejected.exists() && !path.exists());
    assert!(listed().is_empty());
}

#[test]
fn only_content_addressed_names_are_of_the_store() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let other = dir.path().join("disk.img");
    fs::write(&other, "x").expect("writable");
    assert!(matches!(verify(&other), Err(ImageError::NotStored { path }) if path == other));
    assert!(
        list(&dir.path().join("none"), &Overlays::default())
            .expect("none")
            .is_empty()
    );
    let name = ImageDigest::Sha256(Sha256Digest::of(b"x")).file_name("img");
    let is = |name: &str| digest_of_name(name.as_ref()).is_some();
    assert!(is(&name));
    assert!(!is(&format!("{name}.json")) && !is(&format!("{name}.rejected")));
    assert!(!is(&format!(".{name}.part")) && !is("sha256-12.img"));
}
