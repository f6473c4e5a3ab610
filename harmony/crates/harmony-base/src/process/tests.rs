use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::time::Duration;

use super::{ProcessError, Program};

const BOUND: Duration = Duration::from_secs(10);

fn sh(script: &str) -> Program {
    Program::new("sh").args(["-c", script])
}

#[tokio::test]
async fn output_comes_back_and_failures_keep_the_end_of_their_messages() {
    let output = sh("read line || echo $LC_ALL")
        .env("LC_ALL", "C")
        .run()
        .await;
    assert_eq!(output.expect("standard input is empty"), "C\n");

    let script = "echo first >&2; for i in $(seq 100); do echo line $i >&2; done; exit 3";
    let mut watched = Vec::new();
    let failed = sh(script)
        .run_watched(&mut |line| watched.push(line.to_owned()))
        .await;
    match failed {
        Err(ProcessError::Failed {
            program: "sh",
            status,
            said,
        }) => {
            assert_eq!(status, "exit status 3");
            assert_eq!(said.first, "first");
            assert_eq!(said.tail.lines().count(), 15);
            assert!(said.tail.starts_with("line 86\n") && said.tail.ends_with("line 100"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(watched.len(), 101);
    let killed = sh("kill -9 $$").run().await.expect_err("killed");
    assert_eq!(killed.to_string(), "sh failed with signal 9: no message");
    let missing = Program::new("no-such-program-of-harmony").run().await;
    assert!(
        matches!(&missing, Err(ProcessError::Run { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound),
        "{missing:?}"
    );
}

#[tokio::test]
async fn a_program_that_may_fail_tells_its_status() {
    let ended = sh("echo out; echo err >&2; exit 33").ended().await;
    let ended = ended.expect("it has ended");
    assert_eq!(ended.status.code(), Some(33));
    assert_eq!(
        (ended.stdout.as_slice(), ended.said.or("")),
        (&b"out\n"[..], "err")
    );
    let at = Program::at("the shell", "/bin/sh".as_ref()).args(["-c", "exit 2"]);
    let failed = at.run().await.expect_err("failed").to_string();
    assert_eq!(failed, "the shell failed with exit status 2: no message");
}

#[tokio::test]
async fn one_that_takes_too_long_is_ended_with_what_it_has_said() {
    // It does not end by being asked, and neither does its child, which has the pipes open.
    let script = "trap '' TERM; echo started >&2; sleep 60";
    let bound = Duration::from_millis(300);
    let run = sh(script).ended_by_asking().within(bound).run();
    let ended = tokio::time::timeout(BOUND, run).await.expect("bounded");
    match ended {
        Err(ProcessError::TimedOut {
            bound: said_bound,
            said,
            ..
        }) => {
            assert_eq!((said_bound, said.tail.as_str()), (bound, "started"));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn one_that_writes_without_end_is_ended() {
    let run = tokio::time::timeout(BOUND, sh("cat /dev/zero").run());
    let ended = run.await.expect("bounded");
    assert!(
        matches!(
            &ended,
            Err(ProcessError::TooMuch {
                bound_bytes: 16_777_216,
                ..
            })
        ),
        "{:?}",
        ended.map(|text| text.len())
    );
}

/// Gives up on a script once a line of it has come through the pipe `$1`; the rest of what comes, until the last one who
/// could write is gone.
async fn given_up(program: impl FnOnce(Program) -> Program, script: &str) -> String {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let fifo = dir.path().join("alive");
    let made = Program::new("mkfifo").arg(&fifo).run().await;
    made.expect("a named pipe");
    let run = program(sh(script).arg("sh").arg(&fifo)).run();
    let begun = tokio::task::spawn_blocking(move || {
        let mut pipe = BufReader::new(File::open(fifo)?);
        pipe.read_line(&mut String::new())?;
        Ok::<_, io::Error>(pipe)
    });
    let mut pipe = tokio::select! {
        pipe = begun => pipe.expect("no panic").expect("a line"),
        ended = run => panic!("ended early: {ended:?}"),
    };
    // `run` was dropped.
    let end = tokio::task::spawn_blocking(move || {
        let mut rest = String::new();
        pipe.read_to_string(&mut rest).map(|_| rest)
    });
    let end = tokio::time::timeout(BOUND, end).await;
    end.expect("ended").expect("no panic").expect("read")
}

#[tokio::test]
async fn giving_up_ends_the_program_and_its_children() {
    // The child has the pipe as long as it lives, and does not end by being asked.
    let script = "trap '' TERM; (echo begun; sleep 15) >\"$1\" & wait";
    assert_eq!(given_up(|program| program, script).await, "");
}

#[tokio::test]
async fn one_that_is_asked_to_end_puts_its_things_in_order() {
    // Nobody listens to its messages any more then: what it says of the sleep would end it.
    let script = "exec 2>/dev/null 3>\"$1\"; trap 'echo done >&3; exit' TERM; echo begun >&3
while :; do sleep 0.1; done";
    let said = given_up(Program::ended_by_asking, script).await;
    assert_eq!(said, "done\n");
}
