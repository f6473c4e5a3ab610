//! Against a real, private sshd on the loopback, which each test starts and stops.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{
    HostKey, SshError, SshKeyPair, SshLinuxHost, SshTarget, ensure_key_pair, generate_host_key,
};
use crate::domain::error::{ErrorKind, ExecutorError};
use crate::domain::interpret::Change;
use crate::domain::topology::Topology;
use crate::domain::topology::linux_host::{HostCommand, HostFile, LinuxHost};
use crate::modules::linux::LinuxError;

const BOUND: Duration = Duration::from_secs(20);

/// Files and a port for servers of one test.
struct Lab {
    dir: tempfile::TempDir,
    port: u16,
    host_key: HostKey,
    login: SshKeyPair,
}

/// A running sshd; killed when dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().expect("our own child");
        self.0.wait().expect("our own child");
    }
}

impl Lab {
    fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("harmony-test-ssh-")
            .tempdir()
            .expect("temporary directory");
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = free.local_addr().expect("bound").port();
        let login = ensure_key_pair(dir.path(), "login").expect("a key");
        let lab = Self {
            dir,
            port,
            host_key: generate_host_key().expect("a key"),
            login,
        };
        lab.authorize();
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn authorize(&self) {
        fs::write(self.path("authorized_keys"), &self.login.public_key_line).expect("ours");
    }

    /// Starts sshd with `host_key`, and does not wait for it.
    fn serve(&self, host_key: &HostKey) -> Server {
        // The directory that Debian's sshd wants for its unprivileged half.
        match fs::DirBuilder::new().mode(0o755).create("/run/sshd") {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => panic!("{error}"),
            _ => {}
        }
        let key = self.path("host_key");
        fs::write(&key, host_key.private_openssh()).expect("ours");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("ours");
        let config = format!(
            "Port {}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\n\
             StrictModes no\nUsePAM no\nPidFile none\nLogLevel VERBOSE\n\
             PasswordAuthentication no\nPermitRootLogin prohibit-password\n",
            self.port,
            key.display(),
            self.path("authorized_keys").display()
        );
        fs::write(self.path("sshd_config"), config).expect("ours");
        let log = fs::File::create(self.path("log")).expect("ours");
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(self.path("sshd_config"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("sshd is installed (apt-get install openssh-server)");
        Server(child)
    }

    fn target(&self) -> SshTarget {
        SshTarget {
            address: Ipv4Addr::LOCALHOST.into(),
            port: self.port,
            user: "root".to_owned(),
            private_key: self.login.private_key_path.clone(),
            host_key: self.host_key.public().clone(),
            connect_timeout: Duration::from_secs(10),
            command_timeout: Duration::from_secs(30),
        }
    }

    fn host(&self) -> SshLinuxHost {
        SshLinuxHost::new(self.target()).expect("a usable key")
    }

    async fn reachable(&self) -> SshLinuxHost {
        let host = self.host();
        host.wait_reachable(BOUND).await.expect("reachable");
        host
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).expect("ours")
    }
}

fn ssh_error(error: &ExecutorError) -> &SshError {
    error.downcast_ref().expect("an SshError")
}

fn shell(script: &str) -> HostCommand {
    HostCommand::new("sh").args(["-c", script])
}

async fn alive(path: &Path) -> bool {
    let pid = fs::read_to_string(path).expect("a process id");
    Path::new("/proc").join(pid.trim()).exists()
}

#[tokio::test]
#[ignore = "needs sshd and root: logs in and runs commands"]
async fn commands_run_verbatim() {
    let lab = Lab::new();
    let _server = lab.serve(&lab.host_key);
    let host = lab.reachable().await;
    host.ensure_ready().await.expect("ready");
    assert_eq!(host.name(), format!("ssh(root@127.0.0.1:{})", lab.port));
    let nasty = [
        "", " ", "a b", "it's", "\"", "$HOME", "$(id)", "`id`", "\\", "\\\\n", "a\nb", "\t", "*",
        "!!", ";", "&", "|", ">x", "~", "#", "-n", "--", "é ☃", "'\\''", "%s",
    ];
    let echo = HostCommand::new("printf").arg("<%s>").args(nasty).as_root();
    let output = host.run(&echo, &[]).await.expect("ran");
    let expected: String = nasty.iter().map(|word| format!("<{word}>")).collect();
    assert_eq!((output.status, output.stdout), (0, expected));

    let table = [
        ("echo out; echo err >&2; exit 3", 3, "out\n", "err\n"),
        ("kill -TERM $$", 143, "", ""),
        ("cat", 0, "input", ""),
        ("true", 0, "", ""),
    ];
    for (script, status, stdout, stderr) in table {
        let output = host.run(&shell(script), b"input").await.expect(script);
        let got = (
            output.status,
            output.stdout.as_str(),
            output.stderr.as_str(),
        );
        assert_eq!(got, (status, stdout, stderr), "{script}");
    }
    let facts = host.facts().await.expect("facts");
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("Linux");
    assert_eq!(facts.machine, std::env::consts::ARCH);
    assert_eq!(facts.boot_id, boot_id.trim());
}

#[tokio::test]
#[ignore = "needs sshd and root: presents another host key"]
async fn a_server_with_another_key_is_told_nothing() {
    let lab = Lab::new();
    let other = generate_host_key().expect("a key");
    let server = lab.serve(&other);
    let host = lab.host();
    let bound = Duration::from_secs(2);
    let error = host.wait_reachable(bound).await.expect_err("another key");
    let SshError::NotReachable {
        attempts, source, ..
    } = error
    else {
        panic!("{error:?}");
    };
    assert!(attempts > 1, "a stale key of an image is tried again");
    let SshError::HostKeyMismatch {
        expected,
        presented,
        ..
    } = *source
    else {
        panic!("{source:?}");
    };
    assert_eq!(expected, lab.host_key.public().fingerprint());
    assert_eq!(presented, other.public().fingerprint());
    drop(server);
    let log = lab.log();
    assert!(log.contains("[preauth]"), "it was connected to: {log}");
    assert!(!log.contains("user"), "no user name was sent: {log}");

    let _server = lab.serve(&lab.host_key);
    host.wait_reachable(BOUND).await.expect("the right key");
}

#[tokio::test]
#[ignore = "needs sshd and root: logs in before the key is authorized"]
async fn a_refused_login_is_tried_again() {
    let lab = Lab::new();
    fs::remove_file(lab.path("authorized_keys")).expect("ours");
    let _server = lab.serve(&lab.host_key);
    let host = lab.host();
    let bound = Duration::from_secs(3);
    let error = host
        .wait_reachable(bound)
        .await
        .expect_err("not authorized");
    let SshError::NotReachable { source, .. } = &error else {
        panic!("{error:?}");
    };
    let refused =
        matches!(&**source, SshError::AuthenticationRefused { user, .. } if user == "root");
    assert!(refused, "{source:?}");
    let (waited, ()) = tokio::join!(host.wait_reachable(BOUND), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        lab.authorize();
    });
    assert!(waited.expect("authorized meanwhile") >= Duration::from_secs(1));
}

#[tokio::test]
#[ignore = "needs a free port: waits for a server that never comes"]
async fn waiting_is_bounded() {
    let lab = Lab::new();
    let start = Instant::now();
    let bound = Duration::from_millis(900);
    let error = lab
        .host()
        .wait_reachable(bound)
        .await
        .expect_err("nobody there");
    assert!(start.elapsed() < bound * 2, "{:?}", start.elapsed());
    let SshError::NotReachable {
        attempts, source, ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert!(*attempts >= 2, "{attempts}");
    assert!(matches!(**source, SshError::Connect { .. }), "{source:?}");
    assert_eq!(ExecutorError::from(error).kind(), ErrorKind::TimedOut);

    // Accepts and says nothing, as a forwarded port of a guest that boots does.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, lab.port)).expect("still free");
    let mut target = lab.target();
    target.connect_timeout = Duration::from_millis(300);
    let host = SshLinuxHost::new(target).expect("a usable key");
    let error = host.ensure_ready().await.expect_err("silent");
    assert!(
        matches!(ssh_error(&error), SshError::ConnectTimedOut { .. }),
        "{error:?}"
    );
    drop(silent);
}

#[tokio::test]
#[ignore = "needs sshd and root: commands that hang, flood or break the session"]
async fn what_goes_wrong_with_a_command_does_not_spoil_the_next() {
    let lab = Lab::new();
    let _server = lab.serve(&lab.host_key);
    lab.reachable().await.disconnect().await;
    let mut target = lab.target();
    target.command_timeout = Duration::from_secs(2);
    let host = SshLinuxHost::new(target).expect("a usable key");

    // The process that serves the session is the parent of the command's time keeper.
    let session = shell("cut -d' ' -f4 /proc/$PPID/stat");
    let before = host.run(&session, &[]).await.expect("a session").stdout;
    let pid = lab.path("pid");
    let hang = shell("echo $$ >\"$0\"; exec sleep 3600").arg(pid.to_string_lossy());
    let error = host.run(&hang, &[]).await.expect_err("hangs");
    assert!(
        matches!(ssh_error(&error), SshError::CommandTimedOut { .. }),
        "{error:?}"
    );
    let deadline = Instant::now() + Duration::from_secs(10);
    while alive(&pid).await {
        assert!(Instant::now() < deadline, "it was not ended");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let after = host.run(&session, &[]).await.expect("a session").stdout;
    assert_ne!(
        before, after,
        "a session that may be stuck is not used again"
    );

    let flood = HostCommand::new("head").args(["-c", "17M", "/dev/zero"]);
    let error = host.run(&flood, &[]).await.expect_err("too much");
    let limit = 16 << 20;
    assert!(
        matches!(ssh_error(&error), SshError::OutputTooLarge { limit_bytes, .. } if *limit_bytes == limit),
        "{error:?}"
    );

    let error = host
        .run(&shell("kill -9 $(cut -d' ' -f4 /proc/$PPID/stat)"), &[])
        .await
        .expect_err("broken");
    assert!(
        matches!(ssh_error(&error), SshError::SessionLost { .. }),
        "{error:?}"
    );
    let output = host.run(&HostCommand::new("true"), &[]).await;
    assert_eq!(output.expect("a new session").status, 0);

    let nul = HostCommand::new("echo").arg("a\0b");
    let error = host.run(&nul, &[]).await.expect_err("a NUL byte");
    assert!(
        matches!(ssh_error(&error), SshError::NulInArgument { index: 1, .. }),
        "{error:?}"
    );
}

#[tokio::test]
#[ignore = "needs sshd and root: writes files in a temporary directory"]
async fn files_are_written_once_and_whole() {
    let lab = Lab::new();
    let _server = lab.serve(&lab.host_key);
    let host = lab.reachable().await;
    // No period that a block size could hide: a counter, with every byte value.
    let content: Vec<u8> = (0_u32..2 << 20).flat_map(u32::to_le_bytes).collect();
    assert_eq!(content.len(), 8 << 20);
    let path = lab.path("made/by us/it's big");
    let mut file = HostFile {
        path: path.to_string_lossy().into_owned(),
        content,
        owner: "root:daemon".to_owned(),
        mode: 0o640,
    };
    let start = Instant::now();
    let ensure_all = async |files: &[HostFile]| host.ensure_files(files).await;
    let ensure = async |file: &HostFile| {
        let changes = ensure_all(std::slice::from_ref(file)).await;
        changes.expect("ensured")[0]
    };
    assert_eq!(ensure(&file).await, Change::Changed);
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(ensure(&file).await, Change::Unchanged);
    assert!(
        fs::read(&path).expect("written") == file.content,
        "every byte"
    );
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o7777;
    assert_eq!(mode(&path), 0o640);
    assert_eq!(mode(&lab.path("made/by us")), 0o755);

    // The hash of what went in, taken by the other side.
    let output = host
        .run(&HostCommand::new("sha256sum"), &file.content)
        .await;
    let local = Command::new("sha256sum")
        .arg("--")
        .arg(&path)
        .output()
        .expect("coreutils");
    let hash = |text: &str| text.split_whitespace().next().map(str::to_owned);
    let local = String::from_utf8(local.stdout).expect("hexadecimal");
    // A path with a quote in it is escaped by a backslash at the line's start.
    assert_eq!(
        hash(&output.expect("ran").stdout),
        hash(local.trim_start_matches('\\'))
    );

    file.mode = 0o600;
    assert_eq!(ensure(&file).await, Change::Changed);
    assert_eq!(mode(&path), 0o600);
    // A small one is compared and written by one script.
    file.content.truncate(5);
    assert_eq!(ensure(&file).await, Change::Changed);
    assert_eq!(ensure(&file).await, Change::Unchanged);
    file.mode = 0o644;
    assert_eq!(ensure(&file).await, Change::Changed);
    assert_eq!(mode(&path), 0o644);
    fs::remove_file(&path).expect("ours");
    std::os::unix::fs::symlink("/nowhere", &path).expect("ours");
    assert_eq!(ensure(&file).await, Change::Changed);
    assert!(fs::symlink_metadata(&path).expect("there").is_file());
    assert_eq!(
        fs::read_dir(lab.path("made/by us")).expect("there").count(),
        1
    );

    // Several go in one command, each with what is its own, whatever became of the one before.
    let named = |name: &str, content: &[u8]| HostFile {
        path: lab.path(name).to_string_lossy().into_owned(),
        content: content.to_vec(),
        ..file.clone()
    };
    let three = [
        named("made/a", b"one\n"),
        file.clone(),
        named("made/deep/b", b"\0two"),
    ];
    let changes = ensure_all(&three).await.expect("ensured");
    let [new, same] = [Change::Changed, Change::Unchanged];
    assert_eq!(changes, [new, same, new]);
    assert_eq!(ensure_all(&three).await.expect("ensured"), [same; 3]);
    for file in &three {
        assert_eq!(fs::read(&file.path).expect("there"), file.content);
    }
    fs::remove_file(&three[0].path).expect("ours");
    fs::remove_dir_all(lab.path("made/deep")).expect("ours");
    assert_eq!(ensure_all(&[]).await.expect("nothing to do"), []);

    file.path = lab.path("made").to_string_lossy().into_owned();
    let error = ensure_all(&[file.clone()]).await.expect_err("a directory");
    assert!(
        matches!(
            error.downcast_ref(),
            Some(LinuxError::NotARegularFile { .. })
        ),
        "{error:?}"
    );
    file.path = lab.path("made/other").to_string_lossy().into_owned();
    file.owner = "harmony-test-nobody:root".to_owned();
    let error = ensure_all(&[file]).await.expect_err("no such user");
    assert!(
        matches!(
            error.downcast_ref(),
            Some(LinuxError::CommandFailed { status: 1, .. })
        ),
        "{error:?}"
    );
    assert_eq!(fs::read_dir(lab.path("made")).expect("there").count(), 1);
}

#[tokio::test]
#[ignore = "needs sshd, root and dpkg: asks for packages and waits for a first boot"]
async fn what_is_there_already_is_left_alone() {
    let lab = Lab::new();
    let _server = lab.serve(&lab.host_key);
    let host = lab.reachable().await;
    let change = host.ensure_packages(&["dpkg", "coreutils"]).await;
    assert_eq!(change.expect("installed"), Change::Unchanged);
    let error = host.ensure_packages(&["-y"]).await.expect_err("an option");
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    host.wait_first_boot().await.expect("no cloud-init here");
}
