//! What the agent's unit keeps it from, line by line. A bound for what `systemd-analyze security` makes of all of it lets
//! most single lines go.

/// The unit as harmony installs it.
const UNIT: &str = include_str!("../../../harmony/src/modules/iot/iot-agent.service");

/// What a service of systemd's may do that the agent does not.
const CONFINEMENT: [&str; 28] = [
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "UMask=0077",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "PrivateUsers=yes",
    "PrivateMounts=yes",
    "RemoveIPC=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources",
    "StateDirectoryMode=0700",
];

#[test]
fn each_line_that_confines_the_agent_is_in_its_unit() {
    let lines: Vec<_> = UNIT.lines().map(str::trim).collect();
    let missing: Vec<_> = CONFINEMENT
        .into_iter()
        .filter(|line| !lines.contains(line))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    // Nothing takes it back: each of these may be written again, and the last one counts.
    for line in CONFINEMENT {
        let (key, _) = line.split_once('=').unwrap();
        let named = CONFINEMENT
            .iter()
            .filter(|line| line.starts_with(&format!("{key}=")));
        let written = lines
            .iter()
            .filter(|line| line.starts_with(&format!("{key}=")));
        assert_eq!(written.count(), named.count(), "{key}");
    }
    for key in [
        "ReadWritePaths",
        "BindPaths",
        "DeviceAllow",
        "ExecStartPre",
        "PermissionsStartOnly",
    ] {
        assert!(!UNIT.contains(key), "{key}");
    }
}
