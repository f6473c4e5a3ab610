//! Links the agent so that it runs with the glibc of every device, whatever the one that it is built with.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The standard library uses these of glibc 2.39 where they are. The linker makes them a need of the program's all the
    // same, with which it does not start on Debian 12. So they are said not to be there.
    for function in ["pidfd_spawnp", "pidfd_getpid"] {
        println!("cargo::rustc-link-arg-bins=-Wl,--defsym={function}=0");
    }
}
