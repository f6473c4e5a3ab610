//! The pinned releases of each image, newest first. Written by `harmony-image refresh --write`.

use super::WrittenPin;

pub(super) const UBUNTU_24_04_AMD64: [WrittenPin; 2] = [
    WrittenPin {
        url: "https://cloud-images.ubuntu.com/releases/noble/release-20260826/ubuntu-24.04-server-cloudimg-amd64.img",
        digest: "d0fe84bb5f80853425fa6be28e2c106f30104c3cfe8611933f2e65c9b63f0e30",
        size: None,
    },
    WrittenPin {
        url: "https://cloud-images.ubuntu.com/releases/noble/release-20260705/ubuntu-24.04-server-cloudimg-amd64.img",
        digest: "ffe6203da54deeb6db5d2a98a83f9ec8e55f149d3f7ba622e1abe5fa966ee3d6",
        size: None,
    },
];

pub(super) const UBUNTU_24_04_ARM64: [WrittenPin; 2] = [
    WrittenPin {
        url: "https://cloud-images.ubuntu.com/releases/noble/release-20260826/ubuntu-24.04-server-cloudimg-arm64.img",
        digest: "afa139bac6f2629c1e1f2f8f34215f3a9ad9779801bcb945521ba1a45016743f",
        size: Some(619036160),
    },
    WrittenPin {
        url: "https://cloud-images.ubuntu.com/releases/noble/release-20260705/ubuntu-24.04-server-cloudimg-arm64.img",
        digest: "7df0201546f75b8bcc1044594c806c35749421ad3c9bc1be2a3ab806cfae39cc",
        size: None,
    },
];

pub(super) const UBUNTU_24_04_MINIMAL_AMD64: [WrittenPin; 0] = [];

pub(super) const UBUNTU_24_04_MINIMAL_ARM64: [WrittenPin; 0] = [];

pub(super) const DEBIAN_12_AMD64: [WrittenPin; 1] = [WrittenPin {
    url: "https://cloud.debian.org/images/cloud/bookworm/20260712-2537/debian-12-genericcloud-amd64-20260712-2537.qcow2",
    digest: "6c2607f1846ee86040830c87d0b723f0967da3e884ea4673d9db4aa8eee13a4b7c663524bfa42082c16fc6919f3aa1bf425c004d07ff06c53a319ad0c42647bb",
    size: None,
}];

pub(super) const DEBIAN_12_ARM64: [WrittenPin; 1] = [WrittenPin {
    url: "https://cloud.debian.org/images/cloud/bookworm/20260712-2537/debian-12-genericcloud-arm64-20260712-2537.qcow2",
    digest: "52eb678130e85a9bf9f3cf4f7181e060fa60a5db45373717474c5ff9305645c5e6cab8b05ca042bcfa7921d2ca29cf9fd2e815f75abe2d168557ad7207af127b",
    size: None,
}];

pub(super) const DEBIAN_13_AMD64: [WrittenPin; 1] = [WrittenPin {
    url: "https://cloud.debian.org/images/cloud/trixie/20260712-2537/debian-13-genericcloud-amd64-20260712-2537.qcow2",
    digest: "7ae53e9dbee282bfc16f289dec483dde3a8598769c38a267948310f7a2a52c662620198603bc52c142627efba379863d16079698a10b34102d55bcedd40e8d32",
    size: None,
}];

pub(super) const DEBIAN_13_ARM64: [WrittenPin; 1] = [WrittenPin {
    url: "https://cloud.debian.org/images/cloud/trixie/20260712-2537/debian-13-genericcloud-arm64-20260712-2537.qcow2",
    digest: "8543d795f2fde630eb66c492f245a8c1da19dedc636e0a8e7b3d0f95920e1a05aa911ef2d82d177d41cc53ced5fccbd2a3945d07fa5e15018914c4d864bb07ed",
    size: None,
}];
