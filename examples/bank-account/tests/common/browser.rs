//! A real Chromium, driven by a script beside `browser/kit.mjs`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the scripts are, and what they need; `None` where that is not, which is said. It fails if
/// `CI=true`.
pub fn scripts(left_out: &str) -> Option<PathBuf> {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser");
    let chromium = std::env::var("CHROMIUM").unwrap_or("/usr/bin/chromium".into());
    let node = Command::new("node")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    let missing = if !Path::new(&chromium).exists() {
        "Chromium"
    } else if !node.is_ok_and(|status| status.success()) {
        "Node"
    } else if !scripts.join("node_modules/playwright-core").exists() {
        "what `npm ci` installs"
    } else {
        return Some(scripts);
    };
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "there is no {missing}; run browser/install"
    );
    eprintln!("LEFT OUT: {left_out}, since there is no {missing}: run browser/install");
    None
}

/// Where pictures of the page go.
pub fn pictures() -> PathBuf {
    let pictures = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("page");
    std::fs::create_dir_all(&pictures).unwrap();
    pictures
}

/// Lets `script` drive a browser over the page at `url`, does `restart` when it says so, and returns how
/// many looks axe found no fault in.
pub fn drive(script: &Path, url: &str, mut restart: impl FnMut()) -> u32 {
    let mut drive = Command::new("node");
    drive.arg(script).arg(url).arg(pictures());
    let mut drive = drive
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut tell = drive.stdin.take().unwrap();
    let mut looks = 0;
    for line in BufReader::new(drive.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        println!("{line}");
        looks += u32::from(line.contains("axe finds 0 violations"));
        if line == "restart" {
            restart();
            writeln!(tell).unwrap();
        }
    }
    assert!(
        drive.wait().unwrap().success(),
        "the browser found something"
    );
    looks
}
