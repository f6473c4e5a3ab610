//! The second version on the wire.

use crate::error::ContractError;
use crate::score::IotScore;
use crate::{
    Capability, Content, Device, FileMode, HealthCheck, MemoryMib, MountPath, MountedFile,
    PodmanService, PodmanServiceV1, PodmanV1, ProcessUser, PublishedPort, Restart, StopSeconds,
    VolumeMount,
};

const FULL: &str = concat!(
    r#"{"type":"PodmanV1","data":{"volumes":{"cache":{"on_removal":"remove"},"data":{"on_removal":"keep"}},"#,
    r#""services":[{"name":"front","image":"registry.example/web:1.2","#,
    r#""registry_login":{"username":"u","password":"hunter2"},"#,
    r#""command":["serve"],"env":{"LEVEL":"hunter3"},"#,
    r#""ports":["127.0.0.1:8080:80","[::1]:53:53/udp"],"#,
    r#""volumes":[{"name":"data","path":"/data"},{"name":"cache","path":"/cache","read_only":true}],"#,
    r#""files":[{"path":"/etc/front.conf","content":"hunter4","mode":"0640","uid":5,"gid":6}],"#,
    r#""secrets":[{"path":"/run/secrets/key","base64":"/wA="}],"#,
    r#""devices":["/dev/ttyUSB0:/dev/modem:rw"],"user":"1000:dialout","read_only":true,"#,
    r#""capabilities":{"add":["NET_RAW"],"drop":["ALL"]},"#,
    r#""memory_mib":64,"cpu_millis":500,"pids":100,"log_max_mib":5,"#,
    r#""restart":"on-failure","stop_timeout_seconds":30,"#,
    r#""health":{"command":["test","-e","/x"],"interval_seconds":5,"timeout_seconds":2,"retries":4,"#,
    r#""start_period_seconds":60}},"#,
    r#"{"name":"back","image":"registry.example/web:1.2"}]}}"#
);

fn v1(json: &str) -> PodmanV1 {
    match serde_json::from_str(json).unwrap() {
        IotScore::PodmanV1(score) => score,
        IotScore::PodmanV0(_) => panic!("{json}"),
    }
}

#[test]
fn golden() {
    let score = v1(FULL);
    let written = serde_json::to_string(&IotScore::PodmanV1(score.clone())).unwrap();
    assert_eq!(written, FULL);
    let shown = format!("{score:?}");
    for secret in ["hunter", "255"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    let front = &score.services()[0];
    assert_eq!(front.secrets[0].content.expose(), [0xff, 0]);
    assert_eq!(
        front.health.as_ref().unwrap().bound().as_secs(),
        60 + 4 * 7 + 30
    );
}

#[test]
fn a_builder_makes_what_the_wire_has() {
    let name = |name: &str| name.parse().unwrap();
    let image = "registry.example/web:1.2".parse().unwrap();
    let service = PodmanServiceV1 {
        volumes: vec![VolumeMount {
            name: "data".parse().unwrap(),
            path: "/data".parse().unwrap(),
            read_only: false,
        }],
        files: vec![MountedFile::new(
            "/etc/x".parse().unwrap(),
            Content::new("text").unwrap(),
        )],
        restart: Restart::Never,
        health: Some(HealthCheck::new(vec!["true".to_owned()]).unwrap()),
        memory_mib: Some(MemoryMib::try_from(64).unwrap()),
        ..PodmanServiceV1::new(name("front"), image)
    };
    let volumes = [("data".parse().unwrap(), Default::default())];
    let score = PodmanV1::new(volumes.into(), vec![service]).unwrap();
    let json = concat!(
        r#"{"volumes":{"data":{"on_removal":"keep"}},"services":[{"name":"front","#,
        r#""image":"registry.example/web:1.2","volumes":[{"name":"data","path":"/data"}],"#,
        r#""files":[{"path":"/etc/x","content":"text"}],"memory_mib":64,"restart":"never","#,
        r#""health":{"command":["true"]}}]}"#
    );
    assert_eq!(serde_json::to_string(&score).unwrap(), json);
}

#[test]
fn the_first_version_is_a_part_of_the_second() {
    let json = r#"{"name":"a","image":"x","command":["c"],"env":{"A":"b"},"ports":["80:81"]}"#;
    let old: PodmanService = serde_json::from_str(json).unwrap();
    let new: PodmanServiceV1 = serde_json::from_str(json).unwrap();
    assert_eq!(PodmanServiceV1::from(old), new);
    assert_eq!(serde_json::to_string(&new).unwrap(), json);
}

/// A service's field, in a deployment with the volume `data`.
fn refusal(field: &str) -> String {
    let json = format!(
        r#"{{"type":"PodmanV1","data":{{"volumes":{{"data":{{}}}},"services":[
            {{"name":"a","image":"s3cr3t","ports":["1:1"],{field}}}]}}}}"#
    );
    let error = serde_json::from_str::<IotScore>(&json).unwrap_err();
    let message = error.to_string();
    message.split(" at line").next().unwrap().to_owned()
}

#[test]
fn what_is_not_valid_is_refused() {
    let cases = [
        (r#""x":1"#, "unknown field `x`"),
        (
            r#""memory_mib":7"#,
            "memory_mib is 7 (expected 8 to 1048576)",
        ),
        (
            r#""cpu_millis":9"#,
            "cpu_millis is 9 (expected 10 to 1024000)",
        ),
        (r#""pids":-1"#, "pids is -1 (expected 4 to 4194304)"),
        (
            r#""log_max_mib":1025"#,
            "log_max_mib is 1025 (expected 1 to 1024)",
        ),
        (
            r#""stop_timeout_seconds":601"#,
            "stop_timeout_seconds is 601 (expected 0 to 600)",
        ),
        (r#""restart":"sometimes""#, "unknown variant `sometimes`"),
        (
            r#""volumes":[{"name":"other","path":"/x"}]"#,
            "service 'a' mounts volume 'other' (expected each volume that is mounted in 'volumes' of the deployment)",
        ),
        (
            r#""volumes":[{"name":"data","path":"/x"}],"secrets":[{"path":"/x","content":"c"}]"#,
            "/x is mounted more than once (expected each path once per service)",
        ),
        (
            r#""files":[{"path":"/x","content":"c","base64":""}]"#,
            "the content of a file is not valid (expected text in 'content' or base64 in 'base64')",
        ),
        (
            r#""files":[{"path":"/x"}]"#,
            "the content of a file is not valid (expected text in 'content' or base64 in 'base64')",
        ),
        (
            r#""files":[{"path":"/x","base64":"hunter2!"}]"#,
            "the content of a file is not valid (expected text in 'content' or base64 in 'base64')",
        ),
        (
            r#""files":[{"path":"/x","content":4711}]"#,
            "invalid type: a number, expected a string",
        ),
        (
            r#""files":[{"path":"/x","content":"c","mode":"4755"}]"#,
            r#"file mode '4755' is not valid (expected "0000" to "0777")"#,
        ),
        (
            r#""health":{"command":[]}"#,
            "the command of a health check is not valid (expected a program and its arguments)",
        ),
        (
            r#""health":{"command":["x"],"interval_seconds":0}"#,
            "a time of a health check is 0 (expected 1 to 3600)",
        ),
        (
            r#""health":{"command":["x"],"retries":0}"#,
            "retries is 0 (expected 1 to 100)",
        ),
        (
            r#""capabilities":{"add":["NET_RAW","FLY"]}"#,
            "capability 'FLY' is not known (expected one of capabilities(7), or ALL)",
        ),
    ];
    for (field, expected) in cases {
        let message = refusal(field);
        assert!(message.starts_with(expected), "{field}: {message}");
    }
}

#[test]
fn files_are_bounded_in_size_and_number() {
    let bytes = 128 * 1024;
    assert_eq!(
        Content::new(vec![b'x'; bytes]).unwrap().expose().len(),
        bytes
    );
    for size in [0, bytes + 1] {
        assert_eq!(
            Content::new(vec![b'x'; size]),
            Err(ContractError::FileSize {
                bytes: size,
                max_bytes: bytes
            })
        );
    }
    let service = |number: usize| {
        let file = |n: usize| {
            let path = format!("/f{n}").parse().unwrap();
            MountedFile::new(path, Content::new("c").unwrap())
        };
        let mut service = PodmanServiceV1::new("a".parse().unwrap(), "x".parse().unwrap());
        service.files = (1..number).map(file).collect();
        service.secrets = vec![file(0)];
        PodmanV1::new([].into(), vec![service])
    };
    service(64).unwrap();
    assert!(matches!(
        service(65),
        Err(ContractError::OutOfRange {
            value: 65,
            max: 64,
            ..
        })
    ));
}

#[test]
fn a_port_of_the_device_is_published_once() {
    let service = |name: &str, ports: &[&str]| {
        let mut service = PodmanServiceV1::new(name.parse().unwrap(), "x".parse().unwrap());
        service.ports = ports.iter().map(|port| port.parse().unwrap()).collect();
        service
    };
    let ok = [
        service(
            "a",
            &["127.0.0.1:53:53/udp", "127.0.0.1:53:53", "[::1]:53:53"],
        ),
        service("b", &["127.0.0.2:53:53", "54:53"]),
    ];
    PodmanV1::new([].into(), ok.to_vec()).unwrap();
    for second in ["127.0.0.1:53:1", "53:2", "0.0.0.0:53:1"] {
        let twice = vec![service("a", &["127.0.0.1:53:53"]), service("b", &[second])];
        assert_eq!(
            PodmanV1::new([].into(), twice),
            Err(ContractError::PortTwice {
                port: second.parse().unwrap()
            })
        );
    }
}

#[test]
fn ports_have_addresses_and_protocols() {
    for (text, written) in [
        ("1:2", "1:2"),
        ("1:2/tcp", "1:2"),
        ("0.0.0.0:1:2/udp", "0.0.0.0:1:2/udp"),
        ("[2001:db8::1]:1:2", "[2001:db8::1]:1:2"),
    ] {
        let port: PublishedPort = text.parse().unwrap();
        assert_eq!(port.to_string(), written);
        assert_eq!((port.host(), port.container()), (1, 2));
    }
    for value in [
        "",
        "1",
        "1:2/",
        "1:2/sctp",
        "1:2/udp/tcp",
        "::1:1:2",
        "[::1:1:2",
        "[1.2.3.4]:1:2",
        "localhost:1:2",
        ":1:2",
        "1.2.3:1:2",
        "0:1",
        "1:65536",
        "+1:2",
    ] {
        assert_eq!(
            value.parse::<PublishedPort>(),
            Err(ContractError::PublishedPort {
                value: value.to_owned()
            })
        );
    }
}

/// What a type makes of texts that are no value of it.
fn refuses<T: TryFrom<String>>(values: &[&str]) {
    for value in values {
        let made = T::try_from((*value).to_owned());
        assert!(made.is_err(), "{value}");
    }
}

fn takes<T: TryFrom<String> + Into<String>>(values: &[&str]) {
    for value in values {
        let made = T::try_from((*value).to_owned());
        assert_eq!(made.ok().map(Into::into).as_deref(), Some(*value));
    }
}

#[test]
fn paths_users_devices_and_modes() {
    takes::<MountPath>(&["/a", "/a/b c.d", "/..a/ä"]);
    let long = format!("/{}", "x".repeat(512));
    refuses::<MountPath>(&[
        "", "/", "a", "/a/", "//a", "/a/../b", "/./a", "/a:b", "/a,b", "/a\n", &long,
    ]);
    takes::<ProcessUser>(&["0", "1000:1000", "web", "_apt:root", "a.b-c"]);
    refuses::<ProcessUser>(&["", ":", "a:", ":a", "a:b:c", "-a", "a b", &"x".repeat(33)]);
    takes::<Device>(&[
        "/dev/ttyUSB0",
        "/dev/bus/usb/001/002:rwm",
        "/dev/a:/dev/b",
        "/dev/a:/dev/b:r",
    ]);
    refuses::<Device>(&[
        "",
        "/dev/",
        "/etc/passwd",
        "/dev/../etc/passwd",
        "/dev/a:/etc/b",
        "/dev/a:rr",
        "/dev/a:x",
        "/dev/a:/dev/b:",
        "/dev/a:/dev/b:r:w",
        "vendor.com/gpu=all",
    ]);
    takes::<FileMode>(&["0000", "0644", "0777"]);
    refuses::<FileMode>(&["", "4", "44", "1777", "0888", "00644", "+644", "-644"]);
    takes::<Capability>(&["ALL", "SYS_TIME"]);
    assert_eq!(
        Capability::try_from("CAP_NET_RAW".to_owned())
            .unwrap()
            .as_str(),
        "NET_RAW"
    );
    refuses::<Capability>(&["", "net_raw", "CAP_", "CAP_ALLES"]);
    let user = ProcessUser::try_from("1000:video".to_owned()).unwrap();
    assert_eq!((user.uid(), user.gid()), (Some(1000), None));
    assert_eq!(StopSeconds::default().get(), 10);
}
