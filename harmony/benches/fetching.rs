//! A fetch with verification from loopback, against `curl | sha256sum` of the same file, in turns.
//!
//! `cargo bench -p harmony --bench fetching [-- ROUNDS [MIB]]`; 7 rounds of 600 MB by default. Wanted: at most
//! 1.1 times as long (medians), and memory that does not grow with the file. Each fetch is a process of its
//! own, which also makes the file durable; `curl | sha256sum` writes nothing. The figures go to standard output, as
//! JSON.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its figures")]

mod spread;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harmony::modules::image::fetch::Fetcher;
use harmony::modules::image::progress::Silent;
use harmony::modules::image::{ImageDigest, PinnedUrl, Sha256Digest};
use serde_json::json;

use crate::spread::Spread;

/// As this program calls itself for a single fetch.
const ONE_FETCH: &str = "--one-fetch";

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    match arguments.as_slice() {
        [first, pinned, dir] if first == ONE_FETCH => one_fetch(pinned, Path::new(dir)),
        given => {
            let number = |at: usize, default| {
                given
                    .get(at)
                    .map_or(default, |text: &String| text.parse().expect("a number"))
            };
            compare(number(0, 7), number(1, 572));
        }
    }
}

/// Fetches, and prints the largest resident set that this process had, in KiB.
fn one_fetch(pinned: &str, dir: &Path) {
    let pin: PinnedUrl = pinned.parse().expect("a pinned URL");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime
        .block_on(Fetcher::default().fetch(&[pin], dir, &Silent))
        .expect("fetched");
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|peak| peak.trim().strip_suffix(" kB"));
    println!("{}", peak.expect("a number of kB"));
}

fn compare(rounds: usize, mib: usize) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("disk.img");
    write_file(&file, mib);
    let digest = ImageDigest::Sha256(Sha256Digest::of_file(&file).expect("readable"));
    let url = serve(file);
    let pinned = format!("{url}#{digest}");
    eprintln!("{mib} MiB, {rounds} rounds; seconds, and the fetch's peak resident set in MiB");
    let (mut ours, mut theirs, mut peaks) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let baseline = curl(&url, &digest);
        let store = dir.path().join("store");
        let (taken, peak) = fetch(&pinned, &store);
        std::fs::remove_dir_all(&store).expect("removed");
        let (b, t) = (baseline.as_secs_f64(), taken.as_secs_f64());
        eprintln!("curl | sha256sum {b:.3}   fetch {t:.3}   peak {peak:.1}");
        theirs.push(b);
        ours.push(t);
        peaks.push(peak);
    }
    let [theirs, ours, peaks] = [theirs, ours, peaks].map(Spread::of);
    eprintln!("curl | sha256sum {theirs}\nfetch            {ours}\npeak             {peaks}");
    let ratio = ours.median / theirs.median;
    eprintln!("ratio of medians {ratio:.3} (wanted: at most 1.1)");
    let figures = json!({
        "mib": mib,
        "rounds": rounds,
        "curl_and_sha256sum_seconds": theirs.median,
        "fetch_seconds": ours.median,
        "ratio": ratio,
        "bound": 1.1,
        "fetch_peak_resident_mib": peaks.median,
    });
    println!("{figures:#}");
}

fn fetch(pinned: &str, store: &Path) -> (Duration, f64) {
    let started = Instant::now();
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args([ONE_FETCH, pinned])
        .arg(store)
        .stderr(Stdio::inherit())
        .output()
        .expect("this program");
    let taken = started.elapsed();
    assert!(output.status.success(), "{}", output.status);
    let peak = String::from_utf8_lossy(&output.stdout);
    let kib: f64 = peak.trim().parse().expect("a number");
    (taken, kib / 1024.0)
}

fn curl(url: &str, digest: &ImageDigest) -> Duration {
    let started = Instant::now();
    let output = Command::new("sh")
        .args(["-c", "curl --silent --fail \"$1\" | sha256sum", "sh", url])
        .output()
        .expect("sh, curl and sha256sum");
    let taken = started.elapsed();
    let sum = String::from_utf8_lossy(&output.stdout);
    let sum = sum.split(' ').next().unwrap_or_default();
    assert_eq!(format!("sha256={sum}"), digest.to_string());
    taken
}

/// Bytes that no file system stores as a hole.
fn write_file(path: &Path, mib: usize) {
    let mut file = io::BufWriter::new(File::create(path).expect("writable"));
    let mut state = 1_u64;
    for _ in 0..mib << 17 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all(&state.to_le_bytes()).expect("writable");
    }
    file.flush().expect("writable");
}

/// Serves the file until this program ends.
fn serve(file: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.expect("a client"), &file).expect("served");
        }
    });
    format!("http://{address}/disk.img")
}

fn answer(mut stream: TcpStream, file: &Path) -> io::Result<()> {
    for line in BufReader::new(stream.try_clone()?).lines() {
        if line?.is_empty() {
            break;
        }
    }
    let mut file = File::open(file)?;
    let length = file.metadata()?.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    )?;
    // The kernel copies from file to socket.
    io::copy(&mut file, &mut stream).map(drop)
}
